//! Small hosts with known answers, as an operator would meet them.

use sock_diag::{Cookie, Family, Protocol, SocketOptions, SocketRecord, SocketState, TimerKind};
use sockeye_core::{
    Counters, Doubt, HeldBy, PortRange, PortSet, Report, Settings, Settled, SortKey, Sweep, TwReuse, Warning,
};

use crate::world::{numbered, record, report, settings, time_wait};

const HERE: &str = "10.0.0.7";
const THERE: &str = "10.0.9.1";

fn established(port: u16, remote: &str) -> SocketRecord {
    record(SocketState::Established, HERE, port, remote, 80)
}

fn listener(port: u16) -> SocketRecord {
    record(SocketState::Listen, "0.0.0.0", port, "0.0.0.0", 0)
}

fn warning_ids(report: &Report) -> Vec<&'static str> {
    report.warnings.iter().map(Warning::id).collect()
}

/// Headroom of each destination by remote address.
fn headroom(report: &Report, remote: &str) -> (u32, u32) {
    let row = report.destinations.iter().find(|d| d.id.remote_address.to_string() == remote).unwrap();
    (row.headroom.min, row.headroom.max)
}

#[test]
fn the_sketched_snapshot() {
    let mut settings = settings(32_768, 60_999);
    settings.reserved_ports = Some((32_768..32_780).collect());
    let mut records: Vec<_> = (50_000..50_031).map(listener).collect();
    // connect() fills the preferred half first: 14,095 even ports, then odd ones.
    let even = (32_780..=60_999).step_by(2);
    let odd = (32_781..=60_999).step_by(2);
    let ports: Vec<u16> =
        even.chain(odd).filter(|port| !(50_000..50_031).contains(port)).take(22_005).collect();
    for (index, port) in ports.iter().enumerate() {
        records.push(match index % 22 {
            0 => established(*port, THERE),
            _ => time_wait(HERE, *port, THERE, 80, 1 + index as u32 * 2),
        });
    }
    let report = report(&settings, &numbered(records));
    let pool = &report.tcp;
    assert_eq!((pool.pool.range().count(), pool.reserved, pool.held, pool.usable), (28_232, 12, 31, 28_189));
    let worst = &report.destinations[0];
    assert_eq!(worst.id.to_string(), "tcp 10.0.0.7 → 10.0.9.1:80");
    assert_eq!((worst.in_use, headroom(&report, THERE)), (22_005, (6_184, 6_184)));
    assert!((worst.occupancy() - 0.781).abs() < 0.001);
    assert_eq!(worst.traffic.live + worst.traffic.time_wait, 22_005);
    assert_eq!(warning_ids(&report), ["parity_cliff"]);
    assert!(
        report.warnings[0].to_string().contains("past 50 % of the pool, with 22005 of 28189 ports in use")
    );
}

#[test]
fn a_server_with_many_clients_has_no_destinations() {
    let mut records: Vec<_> = (0..2_000)
        .map(|n| {
            record(SocketState::Established, HERE, 40_000, &format!("10.9.{}.{}", n / 250, n % 250), 5_000)
        })
        .collect();
    records.push(time_wait(HERE, 40_000, "10.8.0.1", 5_000, 30_000));
    records.push(record(SocketState::SynRecv, HERE, 40_000, "10.8.0.2", 5_000));
    records.push(listener(40_000)); // told last, and still known in the end
    records.push(listener(22));
    records.push(record(SocketState::Established, HERE, 443, "10.8.0.3", 5_000)); // its listener is gone
    let report = report(&settings(32_768, 60_999), &numbered(records));
    assert_eq!(report.destinations, []);
    let rows: Vec<_> =
        report.listeners.iter().map(|l| (l.port, l.traffic.live, l.traffic.time_wait)).collect();
    assert_eq!(rows, [(22, 0, 0), (40_000, 2_001, 1)]);
    assert_eq!(report.listeners[1].curve.ago(30), 1);
    assert_eq!((report.other.live, report.outgoing.sockets()), (1, 0));
    assert_eq!((report.tcp.held, report.listener_sockets), (1, 2), "port 22 is outside the pool");
}

#[test]
fn mapped_sockets_share_the_ports_of_ipv4() {
    let records = numbered(vec![
        established(1000, THERE),
        record(SocketState::Established, "::ffff:10.0.0.7", 1002, "::ffff:10.0.9.1", 80),
    ]);
    let report = report(&settings(1000, 1009), &records);
    assert_eq!(report.destinations.len(), 1);
    assert_eq!((report.destinations[0].in_use, headroom(&report, THERE)), (2, (8, 8)));
    assert_eq!(report.sockets.of_family(Protocol::Tcp, Family::Inet6), 1);
}

#[test]
fn time_wait_blocks_unless_it_is_certainly_reusable() {
    let on_loopback = |expires_ms| time_wait("127.0.0.1", 1000, "127.0.0.1", 80, expires_ms);
    let far = |expires_ms| time_wait(HERE, 1000, THERE, 80, expires_ms);
    let orphan = {
        let mut orphan = on_loopback(10_000);
        orphan.state = SocketState::FinWait2;
        orphan
    };
    let with = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(1000, 1009);
        change(&mut settings);
        settings
    };
    let default = with(&|_| {});
    let on = with(&|s| s.tw_reuse = TwReuse::On);
    let off = with(&|s| s.tw_reuse = TwReuse::Off);
    let unknown = with(&|s| s.tw_reuse = TwReuse::Unknown);
    let no_stamps = with(&|s| s.timestamps = Some(false));
    let old_kernel = with(&|s| s.tw_reuse_delay_ms = None);
    let cases: [(&str, &Settings, SocketRecord, (u32, u32)); 14] = [
        ("loopback, old", &default, on_loopback(10_000), (10, 10)),
        ("loopback, before the delay", &default, on_loopback(59_500), (9, 9)),
        ("loopback, at the delay", &default, on_loopback(59_000), (9, 10)),
        ("loopback, just after the delay", &default, on_loopback(58_985), (9, 10)),
        ("loopback, just before the delay", &default, on_loopback(59_015), (9, 10)),
        ("not loopback", &default, far(10_000), (9, 9)),
        ("not loopback, any peer", &on, far(10_000), (9, 10)),
        ("not loopback, this host", &on, time_wait(HERE, 1000, HERE, 80, 10_000), (10, 10)),
        ("off", &off, on_loopback(10_000), (9, 9)),
        ("mode unknown", &unknown, on_loopback(10_000), (9, 10)),
        ("no timestamps", &no_stamps, on_loopback(10_000), (9, 9)),
        ("orphan in FIN_WAIT2", &default, orphan, (9, 9)),
        ("old kernel, old enough", &old_kernel, on_loopback(58_000), (10, 10)),
        ("old kernel, within a second", &old_kernel, on_loopback(59_500), (9, 10)),
    ];
    for (what, settings, record, expected) in cases {
        let report = report(settings, &numbered(vec![record]));
        let headroom = report.destinations[0].headroom;
        assert_eq!((headroom.min, headroom.max), expected, "{what}");
        let doubts: Vec<_> = headroom.doubts().collect();
        let expected_doubts =
            if expected.0 < expected.1 { vec![Doubt::TimeWait { ports: 1 }] } else { vec![] };
        assert_eq!(doubts, expected_doubts, "{what}");
    }
}

#[test]
fn held_ports_are_lost_to_every_destination() {
    let records = numbered(vec![
        listener(1000),
        record(SocketState::Close, "10.0.0.99", 1002, "0.0.0.0", 0),
        record(SocketState::Close, "10.0.0.99", 80, "0.0.0.0", 0),
        established(1004, THERE),
    ]);
    let report = report(&settings(1000, 1009), &records);
    assert_eq!(report.tcp.held_ports.iter().collect::<Vec<_>>(), [1000, 1002]);
    assert_eq!((report.bound_sockets, headroom(&report, THERE)), (2, (7, 7)));
    assert_eq!(report.sockets.in_state(Protocol::Tcp, SocketState::BoundInactive), 2);
    assert_eq!(report.sockets.in_state(Protocol::Tcp, SocketState::Close), 0);
}

#[test]
fn odd_ports_tell_who_binds_before_connecting() {
    let bound: Vec<_> = (0..20).map(|n| established(1031 + n * 2, "10.0.9.2")).collect();
    let mut records = bound.clone();
    records.push(established(1000, THERE));
    let range = settings(1000, 1099);
    let suspicious = report(&range, &numbered(records.clone()));
    assert_eq!(headroom(&suspicious, THERE), (79, 99), "up to 20 ports may be lost");
    assert_eq!(headroom(&suspicious, "10.0.9.2"), (80, 80), "its own ports are taken either way");
    assert_eq!(warning_ids(&suspicious), ["bind_before_connect"]);
    let text = suspicious.warnings[0].to_string();
    assert!(text.contains("20 of 20 ports towards tcp 10.0.0.7 → 10.0.9.2:80"), "{text}");

    // IP_BIND_ADDRESS_NO_PORT: connect() chose them after all.
    records.iter_mut().for_each(|record| record.options = Some(SocketOptions(1 << 8)));
    let cleared = report(&range, &numbered(records.clone()));
    assert_eq!((headroom(&cleared, THERE), warning_ids(&cleared)), ((99, 99), vec![]));

    // Ports shared with another destination of the same address: connect() chose them too.
    records.iter_mut().for_each(|record| record.options = None);
    records.extend(bound.iter().map(|one| established(one.id.local_port, "10.0.9.3")));
    let shared = report(&range, &numbered(records));
    assert_eq!(headroom(&shared, THERE), (99, 99));
}

#[test]
fn a_port_that_a_listener_left_to_its_connections_is_in_doubt() {
    // Two clients, whose own ports connect() chose; beside them two services share another port.
    let records = vec![
        record(SocketState::Established, HERE, 1041, "10.0.9.8", 51_000),
        record(SocketState::Established, HERE, 1041, "10.0.9.9", 52_000),
        record(SocketState::Established, HERE, 1043, "10.0.9.8", 80),
        record(SocketState::Established, HERE, 1043, "10.0.9.9", 80),
        record(SocketState::Established, HERE, 1000, THERE, 80),
    ];
    assert_eq!(headroom(&report(&settings(1000, 1099), &numbered(records)), THERE), (98, 99));
}

#[test]
fn binders_that_may_reuse_addresses_fill_the_lower_half_first() {
    // Before bind() with port 0 and SO_REUSEADDR tries one odd port above 1049, it takes the even ones below.
    let odd = (1001..1050).step_by(2);
    let even = [1000, 1002, 1004];
    let mut records: Vec<_> = odd.chain(even).map(|port| established(port, "10.0.9.2")).collect();
    records.push(established(1006, THERE));
    assert_eq!(headroom(&report(&settings(1000, 1099), &numbered(records)), THERE), (71, 99));
}

#[test]
fn a_full_preferred_half_leaves_odd_ports_in_doubt_until_someone_asks() {
    let full: Vec<_> = (1000..1060).chain(1061..1100).filter(|p| p % 2 == 0 || *p < 1020).collect();
    let mut records: Vec<_> = full.iter().map(|port| established(*port, "10.0.9.2")).collect();
    records.push(established(1000, THERE));
    let records = numbered(records);
    let settled = |settled: Settled| {
        let mut sweep = Sweep::new(&settings(1000, 1099));
        records.iter().for_each(|record| sweep.observe(record));
        sweep.finish_settled(&Counters::default(), |doubtful| {
            assert!(full.iter().all(|port| doubtful.contains(*port)));
            settled
        })
    };
    // connect() that found no other port, or bind() with port 0: both leave these sockets.
    let report = settled(Settled::default());
    assert_eq!(headroom(&report, THERE), (89, 99));
    assert_eq!(warning_ids(&report), ["parity_cliff"]);
    let odd: PortSet = (1001..1020).step_by(2).collect();
    let connected = settled(Settled { shared: odd.clone(), skipped: PortSet::new() });
    assert_eq!((headroom(&connected, THERE), connected.tcp.explicit), ((99, 99), 0));
    let bound = settled(Settled { skipped: odd, shared: PortSet::new() });
    assert_eq!((headroom(&bound, THERE), bound.tcp.explicit, bound.tcp.usable), ((89, 89), 10, 90));
}

#[test]
fn ports_that_are_known_to_be_bound_are_held() {
    let mut sweep = Sweep::new(&settings(1000, 1009));
    let records = numbered(vec![
        established(1000, THERE),
        established(1002, THERE),
        time_wait(HERE, 1004, THERE, 80, 30_000),
        time_wait(HERE, 1005, THERE, 80, 30_000),
        time_wait(HERE, 1007, THERE, 80, 30_000),
    ]);
    records.iter().for_each(|record| sweep.observe(record));
    [1000, 1002, 1004].into_iter().for_each(|port| sweep.observe_bound(port));
    let report = sweep.finish(&Counters::default());
    assert_eq!(report.tcp.explicit_ports.iter().collect::<Vec<_>>(), [1000, 1002, 1004]);
    assert_eq!((report.tcp.held, report.tcp.usable), (3, 7));
    assert_eq!(report.tcp.held_by, HeldBy { bound_by_number: 3, ..HeldBy::default() });
    assert_eq!(report.tcp.suspects.iter().collect::<Vec<_>>(), [1005, 1007]);
    // Without tw_reuse here, TIME_WAIT keeps both.
    assert_eq!(headroom(&report, THERE), (5, 5));
}

#[test]
fn bind_runs_out_on_an_address_whatever_the_destination() {
    let records = numbered(vec![
        record(SocketState::Listen, "0.0.0.0", 1000, "0.0.0.0", 0),
        record(SocketState::Close, "10.0.0.8", 1001, "0.0.0.0", 0),
        record(SocketState::Listen, "2001:db8::7", 1002, "::", 0),
        established(1003, THERE),
        established(1003, "10.0.9.2"),
        established(1004, THERE),
        established(999, THERE),
    ]);
    let report = report(&settings(1000, 1009), &records);
    let rows: Vec<_> = report.tcp.bindable.iter().map(|on| (on.local_address.to_string(), on.max)).collect();
    let expected = [("::", 5), ("0.0.0.0", 6), ("10.0.0.7", 7), ("10.0.0.8", 8), ("2001:db8::7", 9)];
    assert_eq!(rows, expected.map(|(address, left)| (address.to_owned(), left)));
}

#[test]
fn odd_ranges_may_lose_one_end() {
    let range = settings(1001, 1005);
    let head = |records| headroom(&report(&range, &numbered(records)), THERE);
    assert_eq!(head(vec![established(1003, THERE)]), (3, 4));
    assert_eq!(head(vec![established(1001, THERE)]), (3, 4), "the other end");
    assert_eq!(head(vec![established(1001, THERE), established(1005, THERE)]), (3, 3), "both ends are taken");
    let one = report(&settings(1001, 1001), &numbered(vec![established(1001, THERE)]));
    assert_eq!(headroom(&one, THERE), (0, 0));
}

#[test]
fn exhaustion_is_said_once_with_the_worst() {
    let to = |remote: &'static str, ports: u16| (0..ports).map(move |n| established(1000 + n, remote));
    let mut records: Vec<_> =
        to("10.0.9.1", 20).chain(to("10.0.9.2", 20)).chain(to("10.0.9.3", 19)).collect();
    records.extend(to("10.0.9.4", 12));
    let report = report(&settings(1000, 1019), &numbered(records));
    assert_eq!(warning_ids(&report), ["exhausted", "nearly_exhausted", "parity_cliff"]);
    let text = report.warnings[0].to_string();
    assert!(
        text.starts_with("tcp 10.0.0.7 → 10.0.9.1:80 (and 1 more destination) is exhausted, with 20 ports"),
        "{text}"
    );
    let full = report.destinations.iter().filter(|destination| destination.is_exhausted()).count();
    assert_eq!((full, report.rest(1).destinations, report.rest(1).in_use), (2, 3, 51));
}

#[test]
fn a_range_that_is_all_reserved() {
    let mut settings = settings(1000, 1009);
    settings.reserved_ports = Some((1000..=1009).collect());
    let report = report(&settings, &numbered(vec![established(1000, THERE)]));
    assert_eq!((report.tcp.reserved, report.tcp.usable), (10, 0));
    let only = &report.destinations[0];
    assert_eq!((only.traffic.live, only.in_use, only.occupancy()), (1, 0, 1.0));
    assert_eq!(warning_ids(&report), ["no_usable_ports"]);
}

#[test]
fn udp_has_one_pool() {
    let udp = |state, local, port| {
        let mut one = record(state, local, port, THERE, 53);
        one.protocol = Protocol::Udp;
        one
    };
    let records = numbered(vec![
        udp(SocketState::Close, "0.0.0.0", 1000),
        udp(SocketState::Close, "::", 1001),
        udp(SocketState::Established, HERE, 1002),
        udp(SocketState::Established, HERE, 1003),
        udp(SocketState::Established, HERE, 1003), // SO_REUSEPORT
        udp(SocketState::Established, "2001:db8::7", 1004),
        udp(SocketState::Close, HERE, 53),
    ]);
    let report = report(&settings(1000, 1004), &records);
    let rows: Vec<_> = report.udp.addresses.iter().map(|a| (a.local_address.to_string(), a.in_use)).collect();
    let expected =
        [("::", 5), ("0.0.0.0", 4), ("10.0.0.7", 4), ("2001:db8::7", 2)].map(|(a, n)| (a.to_owned(), n));
    assert_eq!(rows, expected);
    assert_eq!((report.udp.in_use, report.udp.usable), (5, 5));
    assert_eq!(warning_ids(&report), ["udp_pool"]);
    assert_eq!(report.sockets.in_state(Protocol::Udp, SocketState::Established), 4);
    assert_eq!(report.sockets.in_state(Protocol::Udp, SocketState::Close), 3);
}

#[test]
fn the_curve_of_closes() {
    // 10 closes a second for the whole minute, each to its own port.
    let records =
        (0..600).map(|n| time_wait(HERE, 1000 + n, THERE, 80, 60_000 - u32::from(n) * 100)).collect();
    let report = report(&settings(1000, 2999), &numbered(records));
    assert!(report.closes.oldest_first().all(|closes| closes == 10), "{:?}", report.closes);
    assert_eq!((report.closes.per_second(), report.closes.now_per_second()), (10.0, 10.0));
    assert_eq!(report.closes_of(&report.destinations[0]), report.closes);
    assert_eq!(report.destinations[0].traffic.closes_per_second(), 10.0);
}

#[test]
fn doubts_of_the_sweep_are_warnings() {
    let mut sweep = Sweep::new(&Settings { max_tw_buckets: Some(2), ..Settings::default() });
    let mut one = established(40_000, THERE);
    one.id.cookie = Cookie(5);
    sweep.observe(&one);
    sweep.observe(&one);
    for port in [40_002, 40_004] {
        sweep.observe(&time_wait(HERE, port, THERE, 80, 1_000)); // cookie 0: nobody's repeat
    }
    sweep.note_interrupted();
    sweep.note_malformed(3);
    let report = sweep.finish(&Counters { time_wait_overflow: Some(9), ..Counters::default() });
    assert_eq!((report.records, report.duplicates, report.outgoing.sockets()), (4, 1, 3));
    let ids = warning_ids(&report);
    assert_eq!(ids[..3], ["time_wait_overflow", "sweep_raced", "malformed"]);
    assert_eq!(ids[3..], ["setting_unknown"; 4]);
    assert!(report.warnings[0].to_string().ends_with("dropped so far: 9"));
    assert_eq!(report.tcp.pool.range(), PortRange::DEFAULT);
}

#[test]
fn close_wait_pile_up() {
    let records = (0..600).map(|n| record(SocketState::CloseWait, HERE, 1000 + n * 2, THERE, 80)).collect();
    let report = report(&settings(1000, 60_999), &numbered(records));
    assert_eq!(warning_ids(&report), ["close_wait"]);
}

#[test]
fn orphans_are_live() {
    let mut orphan = record(SocketState::FinWait2, HERE, 1000, THERE, 80);
    orphan.timer.kind = TimerKind::TimeWait;
    orphan.timer.expires_ms = 30_000;
    let report = report(&settings(1000, 1009), &numbered(vec![orphan]));
    assert_eq!((report.orphans, report.outgoing.live, report.closes.total()), (1, 1, 0));
    assert_eq!(report.sockets.in_state(Protocol::Tcp, SocketState::FinWait2), 1);
}

#[test]
fn every_sort_key_has_a_word() {
    let mut words: Vec<_> = SortKey::ALL.iter().map(|(_, word)| *word).collect();
    words.dedup();
    assert_eq!(words, ["in_use", "occupancy", "closes", "live", "time_wait", "headroom"]);
}
