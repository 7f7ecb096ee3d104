//! Prints what a sweep of a million synthetic records costs: `cargo run --release --example fold_cost`.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "an example that measures and prints")]

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use sock_diag::fake::tcp_record;
use sock_diag::{Cookie, SocketOptions, SocketRecord, SocketState, Timer, TimerKind};
use sockeye_core::{Counters, Settings, Sweep};

const RECORDS: u32 = 1_000_000;

fn main() {
    println!("{:>12} {:>14} {:>14}", "destinations", "observe ns/rec", "finish ns/rec");
    for destinations in [10, 1_000, 100_000] {
        let records: Vec<_> = (0..RECORDS).map(|index| record(index, destinations)).collect();
        let mut rounds: Vec<(f64, f64)> = (0..7).map(|_| round(&records, destinations)).collect();
        let median = |values: &mut dyn Iterator<Item = f64>| {
            let mut values: Vec<f64> = values.collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        let observe = median(&mut rounds.iter().map(|round| round.0));
        let finish = median(&mut rounds.iter_mut().map(|round| round.1));
        println!("{destinations:>12} {observe:>14.1} {finish:>14.1}");
    }
}

/// Nanoseconds a record for observing and for finishing, in one sweep.
fn round(records: &[SocketRecord], destinations: u32) -> (f64, f64) {
    let start = Instant::now();
    let mut sweep = Sweep::new(&Settings::default());
    for record in records {
        sweep.observe(record);
    }
    let observed = start.elapsed();
    let report = black_box(sweep.finish(&Counters::default()));
    let finished = start.elapsed() - observed;
    assert_eq!(report.outgoing.sockets(), RECORDS);
    assert_eq!(report.destinations.len(), destinations as usize);
    let each = |elapsed: std::time::Duration| elapsed.as_nanos() as f64 / f64::from(RECORDS);
    (each(observed), each(finished))
}

/// Records in hash order: destinations, ports and ages mixed, a third of them in TIME_WAIT.
fn record(index: u32, destinations: u32) -> SocketRecord {
    let mixed = (u64::from(index) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let destination = (mixed >> 33) as u32 % destinations;
    let time_wait = index.is_multiple_of(3);
    let local = (Ipv4Addr::new(10, 0, 0, 7), 32_768 + (mixed >> 12) as u16 % 28_232).into();
    let remote = (Ipv4Addr::from_bits(0x0a01_0000 + destination), 8_080).into();
    let state = if time_wait { SocketState::TimeWait } else { SocketState::Established };
    let mut record = tcp_record(state, local, remote);
    record.id.cookie = Cookie(u64::from(index) + 1);
    if time_wait {
        record.timer = Timer { kind: TimerKind::TimeWait, expires_ms: mixed as u32 % 60_000, retransmits: 0 };
    } else {
        record.options = Some(SocketOptions(0));
    }
    record
}
