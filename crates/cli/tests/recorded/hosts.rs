//! The hosts: an idle one, a proxy that runs out of ports, one where everything is worth a remark, a zoo of sockets.

use std::num::NonZeroU32;

use serde_json::json;
use sock_diag::fake::Message;
use sock_diag::{Protocol, SocketOptions, SocketRecord, SocketState, Timer, TimerKind, attribute};

use super::{Host, listener, socket, time_wait, udp};

/// Nothing but two servers and one connection to each other.
pub(crate) fn idle() -> Host {
    let mut host = Host::new((32_768, 60_999));
    host.add(listener("0.0.0.0:22"));
    host.add(listener("[::]:22"));
    host.add(socket("192.0.2.7:22", "198.51.100.4:52114"));
    host.add(udp("127.0.0.53:53"));
    host
}

/// A client's socket that bound its address only: its port was connect()'s choice.
pub(crate) fn connected(local: &str, remote: &str) -> SocketRecord {
    SocketRecord { options: Some(SocketOptions(1 << 8)), ..socket(local, remote) }
}

/// Takes `live` + `waiting` even ports from `first` on towards one destination.
fn client(host: &mut Host, first: u16, live: u16, waiting: u16, to: &str) {
    for i in 0..live + waiting {
        let local = format!("10.0.0.7:{}", first + 2 * (i % 14_116) + i / 14_116);
        host.add(match i < live {
            true => connected(&local, to),
            // Closes grow denser towards now.
            false => {
                time_wait(&local, to, (u32::from(i) * 7919 % 245 * (u32::from(i) * 104_729 % 245)) % 60_000)
            }
        });
    }
}

/// A proxy with one destination past three quarters of the pool, and many small ones.
pub(crate) fn proxy() -> Host {
    let mut host = Host::new((32_768, 60_999));
    host.surroundings["netns_name"] = json!("edge");
    host.surroundings["settings"]["ip_local_reserved_ports"] = json!([{ "start": 60_988, "end": 60_999 }]);
    for port in 0..31 {
        host.add(listener(&format!("10.0.0.7:{}", 60_950 + port)));
    }
    client(&mut host, 32_768, 1_204, 20_801, "10.0.9.12:8080");
    client(&mut host, 32_768, 1_011, 1_240, "10.0.9.13:8080");
    for i in 0..41 {
        client(&mut host, 32_768 + 2 * i, 3, i % 4, &format!("10.0.10.{}:443", i + 1));
    }
    client(&mut host, 40_000, 2, 1, "10.0.9.13:9090");
    for i in 0..213 {
        let record = socket(&format!("192.0.2.7:{}", 443), &format!("198.51.100.9:{}", 20_000 + i));
        host.add(SocketRecord { state: SocketState::CloseWait, ..record });
    }
    host
}

/// A UDP pool of 100 ports with 95 taken.
pub(crate) fn busy_udp() -> Host {
    let mut host = Host::new((40_000, 40_099));
    for port in 40_000..40_060 {
        host.add(udp(&format!("0.0.0.0:{port}")));
    }
    for port in 40_060..40_095 {
        let record = socket(&format!("10.0.0.7:{port}"), "10.0.0.53:53");
        host.add(SocketRecord { protocol: Protocol::Udp, ..record });
    }
    host
}

/// Everything there is to remark, except that no port is usable at all, which hides other remarks.
pub(crate) fn troubled() -> Host {
    let mut host = Host::new((40_000, 40_999));
    host.surroundings["settings"]["tcp_max_tw_buckets"] = json!(1_000);
    host.surroundings["settings"]["tcp_tw_reuse"] = json!(0);
    host.surroundings["counters"]["time_wait_overflow"] = json!(77);
    host.surroundings["unread"] =
        json!(["/proc/sys/net/ipv4/tcp_tw_reuse_delay: Permission denied (EACCES)"]);
    for port in 40_000..41_000 {
        host.add(time_wait(&format!("10.0.0.7:{port}"), "10.0.9.12:80", (port - 40_000) * 59));
    }
    let close_wait = |record| SocketRecord { state: SocketState::CloseWait, ..record };
    for port in 40_000..40_950 {
        host.add(close_wait(connected(&format!("10.0.0.7:{port}"), "10.0.9.13:80")));
    }
    for port in 40_000..40_600 {
        host.add(connected(&format!("10.0.0.7:{port}"), "10.0.9.14:80"));
        host.add(connected(&format!("10.0.0.7:{port}"), "10.0.9.15:80"));
    }
    // Ports of the half that connect() leaves for last, which no two destinations of one address share.
    for port in (40_951..41_000).step_by(2) {
        host.add(socket(&format!("10.0.0.8:{port}"), "10.0.9.16:80"));
    }
    for port in 40_000..40_950 {
        host.add(udp(&format!("0.0.0.0:{port}")));
    }
    // A repeat and a message too short for a socket: the sweep doubts itself.
    let repeated = SocketRecord {
        id: sock_diag::SocketId { cookie: sock_diag::Cookie(1 << 40), ..listener("0.0.0.0:80").id },
        ..listener("0.0.0.0:80")
    };
    host.add(repeated);
    host.add(repeated);
    let cut = Message { payload: vec![2; 8], ..Message::record(&repeated) };
    host.tell(cut);
    host
}

/// No port left to automatic choice, and settings that could not be read.
pub(crate) fn portless() -> Host {
    let mut host = Host::new((40_000, 40_001));
    let settings = &mut host.surroundings["settings"];
    settings["ip_local_reserved_ports"] = json!([{ "start": 40_000, "end": 40_000 }]);
    settings["tcp_tw_reuse"] = json!(null);
    settings["tcp_timestamps"] = json!(null);
    host.add(listener("0.0.0.0:40001"));
    host
}

/// A range of one port, which a listener has.
pub(crate) fn one_port() -> Host {
    let mut host = Host::new((40_001, 40_001));
    host.add(listener("0.0.0.0:40001"));
    host
}

/// The widest range there is, with a little of everything at both ends.
pub(crate) fn whole_space() -> Host {
    let mut host = Host::new((1, 65_535));
    host.surroundings["settings"]["ip_local_reserved_ports"] = json!([{ "start": 1, "end": 1_023 }]);
    host.surroundings["bound_by_number"] = json!([[1, 2_000]]);
    host.add(socket("10.0.0.7:2000", "10.0.9.12:80"));
    host.add(listener("0.0.0.0:80"));
    host.add(listener("0.0.0.0:65535"));
    for port in 30_000..31_000 {
        host.add(connected(&format!("10.0.0.7:{port}"), "10.0.9.12:80"));
    }
    for port in (50_001..52_001).step_by(4) {
        host.add(time_wait(&format!("10.0.0.7:{port}"), "10.0.9.12:80", 1_000));
    }
    host
}

/// A host whose range and reserved ports could not be read, for a reason that is hostile to terminals.
pub(crate) fn unreadable() -> Host {
    let mut host = Host::new((0, 0));
    let settings = &mut host.surroundings["settings"];
    settings["ip_local_port_range"] = json!(null);
    settings["ip_local_reserved_ports"] = json!(null);
    host.surroundings["unread"] =
        json!(["/proc/sys/net/ipv4/ip_local_port_range: not two ports: \u{1b}[31m70000 -1\u{202e}"]);
    host.add(connected("10.0.0.7:40000", "10.0.9.12:80"));
    host
}

/// One socket of every kind, with every attribute.
pub(crate) fn zoo() -> Host {
    let mut host = Host::new((32_768, 60_999));
    let timer = |kind, expires_ms, retransmits| Timer { kind, expires_ms, retransmits };
    host.add(SocketRecord { rqueue_bytes: 3, cgroup_id: Some(5_012), ..listener("0.0.0.0:443") });
    host.add(listener("[::1]:631"));
    host.add_with(
        SocketRecord {
            timer: timer(TimerKind::Keepalive, 114_000, 0),
            rqueue_bytes: 17,
            wqueue_bytes: 123_456,
            mark: Some(0x2a),
            cgroup_id: Some(5_012),
            options: Some(SocketOptions(1 << 8)),
            shutdown: Some(0),
            ..socket("10.0.0.7:443", "198.51.100.4:52114")
        },
        &[
            (attribute::SKMEMINFO, words(&[0, 131_072, 0, 87_040, 4_096, 123_456, 0, 0, 2])),
            (attribute::CONG, b"cubic\0".to_vec()),
            (attribute::ULP_INFO, upper_layer(b"tls\0")),
            (attribute::INFO, info()),
        ],
    );
    host.add(SocketRecord {
        state: SocketState::SynSent,
        timer: timer(TimerKind::Retransmit, 3_200, 2),
        wqueue_bytes: 1,
        ..socket("10.0.0.7:40000", "203.0.113.9:443")
    });
    host.add(SocketRecord {
        state: SocketState::CloseWait,
        shutdown: Some(1),
        ..socket("[2001:db8::7]:40002", "[2001:db8::9:12]:8080")
    });
    host.add(SocketRecord {
        state: SocketState::FinWait1,
        timer: timer(TimerKind::Probe, 204, 1),
        uid: Some(0),
        inode: None,
        shutdown: Some(3),
        ..socket("10.0.0.7:40004", "203.0.113.9:443")
    });
    host.add(time_wait("10.0.0.7:40006", "203.0.113.9:443", 140));
    let orphan = time_wait("10.0.0.7:40008", "203.0.113.9:443", 5_000);
    host.add(SocketRecord { state: SocketState::FinWait2, ..orphan });
    host.add(socket("[::ffff:10.0.0.7]:8080", "[::ffff:10.0.0.9]:50000"));
    let mut link_local = socket("[fe80::1]:40010", "[fe80::2]:179");
    link_local.id.interface = NonZeroU32::new(2);
    host.add(link_local);
    let mut nameless = socket("[fe80::1]:40012", "[fe80::2]:179");
    nameless.id.interface = NonZeroU32::new(77);
    host.add(nameless);
    let mut bound = listener("10.0.0.7:40014");
    (bound.state, bound.wqueue_bytes) = (SocketState::Close, 0);
    host.add(bound);
    host.add(udp("127.0.0.53:53"));
    host.add(udp("[::]:5353"));
    host.add(SocketRecord {
        protocol: Protocol::Udp,
        timer: timer(TimerKind::Unknown(9), 1, 0),
        state: SocketState::Established,
        ..socket("10.0.0.7:40016", "10.0.0.53:53")
    });
    host
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The payload of ULP_INFO: an attribute with the name inside.
pub(crate) fn upper_layer(name: &[u8]) -> Vec<u8> {
    let mut bytes = ((name.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&1_u16.to_ne_bytes());
    bytes.extend_from_slice(name);
    bytes
}

/// `struct tcp_info` of Linux 6.18 for a connection that has seen something.
fn info() -> Vec<u8> {
    let mut bytes = vec![0; 280];
    bytes[..7].copy_from_slice(&[1, 0, 0, 0, 1, 7, 0x87]);
    let narrow: &[(usize, u32)] = &[
        (8, 204_000),
        (12, 40_000),
        (16, 1_448),
        (20, 536),
        (24, 4),
        (32, 1),
        (44, 12),
        (52, 3_400),
        (56, 9),
        (60, 1_500),
        (64, 64_088),
        (68, 1_234),
        (72, 567),
        (76, 20),
        (80, 10),
        (84, 1_448),
        (88, 3),
        (96, 14_480),
        (100, 5),
        (136, 1_000),
        (140, 900),
        (144, 77),
        (148, 987),
        (152, 800),
        (156, 950),
        (192, 940),
        (216, 2),
        (220, 1),
        (224, 6),
        (228, 65_535),
        (232, 65_536),
    ];
    for (offset, value) in narrow {
        bytes[*offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }
    let wide: &[(usize, u64)] = &[
        (104, 23_470_000),
        (112, u64::MAX),
        (120, 1_380_000),
        (128, 420_000),
        (160, 11_700_000),
        (168, 5_000_000),
        (176, 1_000),
        (184, 2_000),
        (200, 1_400_000),
        (208, 7_240),
    ];
    for (offset, value) in wide {
        bytes[*offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
    }
    bytes
}
