//! What 6.18 does with the ports of those who bind before they connect, and what it tells of them. Core's fold and the
//! probe stand on these facts; the trials of whole predictions are headroom_oracle.rs.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod dial;
mod look;

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dial::{Client, LOCALHOST, PortBy, accept, dial, dial_until_refused, ip, listener, port_of, try_bind};
use look::headroom;
use nix::errno::Errno;
use sock_diag::filter::{Filter, PortRangeOnly};
use sock_diag::{DumpRequest, Protocol, SocketState, StateSet};
use sockeye_host::{Host, probe_ports};
use sockeye_tests::{Namespace, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

fn doors<const N: usize>() -> [TcpListener; N] {
    std::array::from_fn(|n| listener(Ipv4Addr::new(127, 0, 1, n as u8 + 1).into(), 20_000))
}

fn place(door: &TcpListener) -> SocketAddr {
    door.local_addr().unwrap()
}

/// The ports of the range with a socket that the kernel says bound its number.
fn told_bound_by_number(first: u16, last: u16) -> BTreeSet<u16> {
    let text = format!("sport = {first}-{last} and not autobound");
    let filter = Filter::parse(&text, &PortRangeOnly { first, last }).unwrap();
    let connected = StateSet::ALL.minus(StateSet::LISTEN).minus(StateSet::BOUND_INACTIVE);
    let request = DumpRequest::all(Protocol::Tcp).states(connected).filter(&filter);
    look::records(&request).iter().map(|record| record.id.local_port).collect()
}

fn time_waits() -> u32 {
    look::report().sockets.in_state(Protocol::Tcp, SocketState::TimeWait)
}

#[test]
fn the_kernel_tells_who_bound_a_number_and_nobody_else() {
    Namespace::new().port_range("40000 40099").run(|| {
        let [door] = doors();
        let to = place(&door);
        let binding = Client::binding(LOCALHOST);
        let by_number = [
            Client { port: 40_010, ..binding },
            Client { port: 40_012, no_port: true, ..binding },
            Client { port: 40_014, reuse: true, ..binding },
        ];
        // Numbers first: later they may be taken.
        let _told: Vec<OwnedFd> = by_number.iter().map(|client| client.dial(to).unwrap()).collect();
        let inner = listener(LOCALHOST, 40_050);
        let forgetting = Client { port: 40_016, ..binding }.dial(to).unwrap();
        let not_told = [
            Client::unbound(),
            Client::connecting(LOCALHOST),
            binding,
            Client { reuse: true, ..binding },
            Client { port_range: Some((40_020, 40_030)), ..binding },
        ];
        let _not_told: Vec<OwnedFd> = not_told.iter().map(|client| client.dial(to).unwrap()).collect();
        // Who was accepted on a port that was bound by number did not bind it.
        let _client = Client::unbound().dial(place(&inner)).unwrap();
        let _child = accept(&inner);
        // A TIME_WAIT has forgotten.
        drop(forgetting);
        (0..4 + not_told.len()).for_each(|_| drop(accept(&door)));
        wait_until("the TIME_WAIT", LIMIT, || time_waits() == 1);
        assert_eq!(told_bound_by_number(40_000, 40_099), BTreeSet::from([40_010, 40_012, 40_014]));
    });
}

#[test]
fn the_port_of_a_hidden_bind_is_skipped_and_only_a_probe_tells() {
    type Hide = fn(&TcpListener) -> Vec<OwnedFd>;
    // Each leaves a socket on one port of two, of which no record says that it was bound.
    let hidden: [(&str, Hide); 5] = [
        ("bind() with port 0", |door| vec![dial(LOCALHOST, place(door), PortBy::Bind).unwrap()]),
        ("bind() with port 0 within a range", |door| {
            let client = Client { port_range: Some((40_000, 40_000)), ..Client::binding(LOCALHOST) };
            vec![client.dial(place(door)).unwrap()]
        }),
        ("a TIME_WAIT that bound port 0", |door| {
            let client = dial(LOCALHOST, place(door), PortBy::Bind).unwrap();
            let server = accept(door);
            drop((client, server));
            Vec::new()
        }),
        ("a TIME_WAIT that bound a number", |door| {
            let client = dial(LOCALHOST, place(door), PortBy::Number(40_000)).unwrap();
            let server = accept(door);
            drop((client, server));
            Vec::new()
        }),
        ("a child whose listener is gone", |_| {
            let passing = listener(LOCALHOST, 40_000);
            let client = dial(LOCALHOST, place(&passing), PortBy::Number(20_001)).unwrap();
            vec![accept(&passing).into(), client]
        }),
    ];
    for (what, hide) in hidden {
        // The reuse of TIME_WAIT, ripe at once, does not help: the bucket is explicit.
        Namespace::new().port_range("40000 40001").sysctl("net.ipv4.tcp_tw_reuse", "1").run(|| {
            fs::write("/proc/sys/net/ipv4/tcp_tw_reuse_delay", "1").unwrap();
            let doors: [TcpListener; 3] = doors();
            let _held = hide(&doors[0]);
            wait_until("closes to be over", LIMIT, || {
                let states = look::report().sockets;
                let closing = [SocketState::FinWait1, SocketState::FinWait2, SocketState::LastAck];
                closing.iter().all(|state| states.in_state(Protocol::Tcp, *state) == 0)
            });
            assert!(told_bound_by_number(40_000, 40_001).is_empty(), "{what}");
            let (passive, probed) = (look::report(), look::probed_report());
            assert_eq!((passive.tcp.explicit, probed.tcp.explicit), (0, 1), "{what}");
            for source in [ip("127.0.0.1"), ip("127.0.0.3")] {
                for door in &doors[1..] {
                    let told = headroom(&probed, source, place(door));
                    assert_eq!((told.min, told.max), (1, 1), "{what}: {told:?}");
                    assert_eq!(dial_until_refused(source, place(door)).len(), 1, "{what}");
                }
            }
        });
    }
}

#[test]
fn two_histories_leave_the_same_sockets_and_a_different_headroom() {
    let mut seen = Vec::new();
    for (bound, truth) in [(0, 100), (10, 90)] {
        Namespace::new().port_range("40000 40099").run(|| {
            let [door, other] = doors();
            let mut open: Vec<OwnedFd> =
                (0..60 - bound).map(|_| Client::unbound().dial(place(&door)).unwrap()).collect();
            open.extend((0..bound).map(|_| dial(LOCALHOST, place(&door), PortBy::Bind).unwrap()));
            let ports: Vec<u16> = open.iter().map(port_of).collect();
            assert_eq!(ports.iter().filter(|port| **port % 2 == 0).count(), 50);
            let options: BTreeSet<_> = look::records(
                &DumpRequest::all(Protocol::Tcp).states(StateSet::of(&[SocketState::Established])),
            )
            .iter()
            .filter(|record| record.id.remote_port == 20_000)
            .map(|record| (record.uid, record.options.unwrap().0, record.timer.expires_ms))
            .collect();
            assert_eq!(options.len(), 1, "nothing tells them apart: {options:?}");
            let (passive, probed) = (look::report(), look::probed_report());
            let told = headroom(&passive, LOCALHOST, place(&other));
            assert_eq!((told.min, told.max), (90, 100), "with parity: ten odd ports are in doubt");
            let told = headroom(&probed, LOCALHOST, place(&other));
            assert_eq!((told.min, told.max), (truth, truth));
            assert_eq!(dial_until_refused(LOCALHOST, place(&other)).len() as u32, truth);
        });
        seen.push(truth);
    }
    assert_eq!(seen, [100, 90]);
}

#[test]
fn bind_with_so_reuseaddr_looks_in_the_lower_half_of_the_range_first() {
    Namespace::new().port_range("40000 40099").run(|| {
        let [door] = doors();
        let reusing = Client { reuse: true, ..Client::binding(LOCALHOST) };
        let open: Vec<OwnedFd> = (0..100).map(|_| reusing.dial(place(&door)).unwrap()).collect();
        let ports: Vec<u16> = open.iter().map(port_of).collect();
        let all = |ports: &[u16], wanted: &dyn Fn(u16) -> bool| ports.iter().all(|port| wanted(*port));
        assert!(all(&ports[..25], &|port| port < 40_050 && port % 2 == 1), "{ports:?}");
        assert!(all(&ports[25..50], &|port| port < 40_050 && port % 2 == 0), "{ports:?}");
        assert!(all(&ports[50..75], &|port| port >= 40_050 && port % 2 == 1), "{ports:?}");
        assert_eq!(reusing.dial(place(&door)).unwrap_err(), Errno::EADDRINUSE);
        drop(open);
    });
    // So a bind() may have taken ports that connect() prefers while most of the others are free.
    let reserved: Vec<String> = (40_001..40_040).step_by(2).map(|port: u16| port.to_string()).collect();
    Namespace::new()
        .port_range("40000 40099")
        .sysctl("net.ipv4.ip_local_reserved_ports", &reserved.join(","))
        .run(|| {
            let [door, other] = doors();
            let reusing = Client { reuse: true, ..Client::binding(LOCALHOST) };
            let open: Vec<OwnedFd> = (0..10).map(|_| reusing.dial(place(&door)).unwrap()).collect();
            assert_eq!(open.iter().filter(|fd| port_of(fd).is_multiple_of(2)).count(), 5);
            let told = headroom(&look::report(), LOCALHOST, place(&other));
            assert_eq!((told.min, told.max), (70, 80), "{told:?}");
            assert_eq!(dial_until_refused(LOCALHOST, place(&other)).len(), 70);
        });
}

#[test]
fn parity_within_a_range_of_the_socket() {
    Namespace::new().port_range("40000 40099").run(|| {
        let [door] = doors();
        let even = |client: Client| {
            let open: Vec<OwnedFd> = (0..20).map(|_| client.dial(place(&door)).unwrap()).collect();
            open.iter().filter(|fd| port_of(fd).is_multiple_of(2)).count()
        };
        // bind() takes the other parity than the first port of the socket's range has, whatever the namespace's.
        let bound = |first| Client { port_range: Some((first, 40_098)), ..Client::binding(LOCALHOST) };
        assert_eq!((even(bound(40_000)), even(bound(40_001))), (0, 20));
        // connect() takes them in a row, from somewhere on.
        let connected = Client { port_range: Some((40_000, 40_099)), ..Client::connecting(LOCALHOST) };
        let even = even(connected);
        assert!((1..20).contains(&even), "{even} of 20 are even");
    });
}

#[test]
fn a_probe_leaves_nothing_behind() {
    Namespace::new().port_range("40000 40009").run(|| {
        let [door] = doors();
        let client = Client::unbound().dial(place(&door)).unwrap();
        let _server = accept(&door);
        let _bound = try_bind(LOCALHOST, 40_001).unwrap();
        let before = look::report().sockets;
        let counters = Host::read().counters;
        let probed = probe_ports(40_000..=40_009, LIMIT).unwrap();
        assert_eq!((probed.skipped, probed.shared.len(), probed.unasked), (vec![40_001], 9, 0));
        assert!(probed.shared.contains(&port_of(&client)), "towards this destination alone it is taken");
        assert_eq!(look::report().sockets, before);
        let moved = Host::read().counters;
        assert_eq!(moved.active_opens.unwrap() - counters.active_opens.unwrap(), 9);
        // No time, no answers.
        let late = probe_ports(40_000..=40_009, Duration::ZERO).unwrap();
        assert_eq!(late.skipped.len() + late.shared.len() + late.unasked, 10);
        assert!(late.unasked > 0);
    });
}

/// Of TIME_WAIT sockets around the reuse delay, core says which connect() takes over, and leaves open no more than
/// those within 20 ms of it.
#[test]
fn the_reuse_delay_is_told_to_20_ms() {
    const DELAY_MS: u64 = 400;
    const EACH: Duration = Duration::from_millis(5);
    Namespace::new().port_range("40000 40119").sysctl("net.ipv4.tcp_tw_reuse", "1").run(|| {
        fs::write("/proc/sys/net/ipv4/tcp_tw_reuse_delay", DELAY_MS.to_string()).unwrap();
        let [door] = doors();
        let begin = Instant::now();
        let mut closed = Vec::new();
        for turn in 0..60 {
            // Each a little later than the one before: the ages span 300 ms.
            wait_until("the next turn", LIMIT, || begin.elapsed() >= EACH * turn);
            let client = dial(LOCALHOST, place(&door), PortBy::Connect).unwrap();
            let server = accept(&door);
            drop(client);
            drop(server);
            closed.push(Instant::now());
        }
        // The middle one comes of age.
        let middle = EACH * 30 + Duration::from_millis(DELAY_MS);
        wait_until("the middle of the delay", LIMIT, || begin.elapsed() >= middle);
        let looked = Instant::now();
        let told = headroom(&look::report(), LOCALHOST, place(&door));
        let told_after = looked.elapsed();
        let count = dial_until_refused(LOCALHOST, place(&door)).len() as u32;
        // How many had these ages, in milliseconds, at some time of the test's looking and dialling.
        let aged = |from: u64, to: u64, took: Duration| {
            let of = |closed: &&Instant| {
                let age = looked - **closed;
                age + took >= Duration::from_millis(from) && age <= Duration::from_millis(to)
            };
            closed.iter().filter(of).count() as u32
        };
        // What came of age while the test was at it may count beside.
        let ripened = aged(DELAY_MS - 20, DELAY_MS + 20, looked.elapsed());
        assert!(told.min <= count && count <= told.max + ripened, "{count}, not {told:?}");
        // 20 ms on both sides, and a jiffy or two of its own; parity tells that none was bound.
        assert_eq!(told.max - told.min, told.undecided_time_wait);
        let doubtful = aged(DELAY_MS - 40, DELAY_MS + 40, told_after);
        assert!(told.undecided_time_wait <= doubtful, "{doubtful}, not {told:?}");
        assert!(told.reusable_time_wait > 0 && told.max < 120, "{told:?}: both sides of the delay");
    });
}
