//! Observing records of known destinations allocates nothing: counted by the allocator itself.

use sock_diag::{Cookie, SocketRecord, SocketState};
use sockeye_core::{Counters, Settings, Sweep};
use sockeye_tests::{Counting, allocations_of};

use crate::world::{record, time_wait};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Records of every kind, without names: outgoing, TIME_WAIT, incoming on two listeners, odd ports, UDP.
fn mixture() -> Vec<SocketRecord> {
    let mut records = Vec::new();
    for port in 33_000..34_000 {
        records.push(record(SocketState::Established, "10.0.0.7", port, "10.0.9.1", port % 100));
        records.push(time_wait("::ffff:10.0.0.7", port, "10.0.9.2", 80, u32::from(port)));
        records.push(record(SocketState::CloseWait, "10.0.0.7", 443, "10.1.0.1", port));
        records.push(record(SocketState::Established, "2001:db8::7", 40_000, "2001:db8::9", port));
        records.push(time_wait("10.0.0.7", 22, "10.1.0.2", port, 30_000));
    }
    records
}

#[test]
fn observing_allocates_nothing() {
    let mut sweep = Sweep::with_capacity(&Settings::default(), 300_000);
    for port in [443, 40_000] {
        sweep.observe(&record(SocketState::Listen, "0.0.0.0", port, "0.0.0.0", 0));
    }
    let mut mixture = mixture();
    mixture.iter().for_each(|record| sweep.observe(record));
    let mut cookie = 0;
    let allocations = allocations_of(|| {
        for _ in 0..100_000 / mixture.len() {
            for record in &mut mixture {
                cookie += 1;
                record.id.cookie = Cookie(cookie);
                sweep.observe(record);
            }
        }
    });
    assert_eq!(cookie, 100_000);
    assert_eq!(allocations, 0);
    assert_eq!(sweep.finish(&Counters::default()).records, 105_002);
}

#[test]
fn growth_is_amortised() {
    assert!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))) == 1, "the counter counts");
    let mut sweep = Sweep::new(&Settings::default());
    let mut record = record(SocketState::Established, "10.0.0.7", 33_000, "10.0.9.1", 80);
    let allocations = allocations_of(|| {
        for cookie in 1..=100_000 {
            record.id.cookie = Cookie(cookie);
            sweep.observe(&record);
        }
    });
    assert!((1..=32).contains(&allocations), "{allocations} allocations for 100,000 records without a hint");
}
