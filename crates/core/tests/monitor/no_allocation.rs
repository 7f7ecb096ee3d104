//! A sweep of sockets that are known allocates nothing per record: counted by the allocator itself.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use sock_diag::fake::tcp_record;
use sock_diag::{Cookie, Family, Protocol, SocketRecord, SocketState, Timer, TimerKind};
use sockeye_core::{Counters, Moment, Monitor, Settings};
use sockeye_tests::{Counting, allocations_of};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Outgoing, incoming over both families, TIME_WAIT and UDP sockets, two listeners.
fn mixture(sockets: u16) -> Vec<SocketRecord> {
    let here = |port| SocketAddr::new(Ipv4Addr::new(10, 0, 0, 7).into(), port);
    let here6 = |port| SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port);
    let there =
        |host: u16, port| SocketAddr::new(Ipv4Addr::new(10, 1, (host >> 8) as u8, host as u8).into(), port);
    let mut records = vec![
        tcp_record(SocketState::Listen, here(443), there(0, 0)),
        tcp_record(SocketState::Listen, here6(444), here6(0)),
    ];
    for number in 0..sockets {
        records.push(match number % 5 {
            0 => tcp_record(SocketState::Established, here(33_000 + number), there(number % 100, 80)),
            1 => tcp_record(SocketState::CloseWait, here(443), there(number, 40_000)),
            2 => {
                let mut record = tcp_record(SocketState::Established, here6(444), here6(number));
                record.family = Family::Inet6;
                record
            }
            3 => {
                let mut record =
                    tcp_record(SocketState::TimeWait, here(33_000 + number), there(number % 100, 81));
                record.timer = Timer { kind: TimerKind::TimeWait, expires_ms: 30_000, retransmits: 0 };
                record
            }
            _ => {
                let mut record = tcp_record(SocketState::Close, here(33_000 + number), there(0, 0));
                record.protocol = Protocol::Udp;
                record
            }
        });
    }
    for (record, cookie) in records.iter_mut().zip(1..) {
        record.id.cookie = Cookie(cookie);
    }
    records
}

/// Allocations while the records of a sweep are observed, once everything is known.
fn allocations(sockets: u16) -> u64 {
    let records = mixture(sockets);
    let counters = Counters::default();
    let mut monitor = Monitor::new(&Settings::default(), &counters, Moment(0), true);
    let mut allocated = 0;
    for now in (0..4).map(|sweep| Moment(sweep * 1_000)) {
        monitor.begin_sweep(now);
        allocated = allocations_of(|| {
            for record in &records {
                monitor.observe(record);
            }
        });
        assert_eq!(monitor.missing(10), []);
        monitor.end_sweep(now, &counters);
        let churn = monitor.tick(now).churn.clone().unwrap();
        assert_eq!(churn.tcp.live(), u64::from(sockets) * 3 / 5);
    }
    allocated
}

#[test]
fn what_is_known_allocates_nothing_per_record() {
    // A constant number may be needed to set the sweep up; growth is amortised.
    let (few, many) = (allocations(1_000), allocations(20_000));
    eprintln!("{few} allocations for 1,000 sockets, {many} for 20,000");
    assert!(few > 0, "the counter counts");
    assert!(many < few + 40, "{few} allocations for 1,000 sockets, {many} for 20,000");
}
