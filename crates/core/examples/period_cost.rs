//! What it costs to fold a period: nanoseconds a closed connection, and milliseconds for what a report asks of it at the end.
//!
//! `cargo run --release -p sockeye-core --example period_cost`

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program that measures")]

use std::net::Ipv4Addr;
use std::time::Instant;

use sock_diag::Protocol;
use sockeye_core::{ClosedBy, ClosedSample, DestinationId, Group, Lifetime, Moment, OwnerId, Period};

const ROWS: u64 = 5_000_000;

fn main() {
    for (name, doubt_ms) in [("events", 1), ("sweeps of 1 s", 1_000)] {
        let mut period = Period::new(Moment(0), Moment(86_400_000));
        let started = Instant::now();
        let mut mixed = 1u64;
        for row in 0..ROWS {
            mixed = mixed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = mixed >> 33;
            let min_ms = (random % 1_000) * (random % 97) / 97;
            period.closed(&ClosedSample {
                at: Moment(row * 86_400_000 / ROWS),
                group: Group::Destination(DestinationId {
                    protocol: Protocol::Tcp,
                    local_address: Ipv4Addr::new(10, 0, 0, 7).into(),
                    remote_address: Ipv4Addr::new(10, 0, 9, (random % 50) as u8).into(),
                    remote_port: 8080,
                }),
                local_port: Some(32_768 + (random % 28_232) as u16),
                owner: OwnerId((random % 7) as u32),
                lifetime: Lifetime { min_ms, max_ms: Some(min_ms + doubt_ms) },
                closed_by: ClosedBy::Local,
                bytes: Some([1, 2]),
            });
        }
        let folded = started.elapsed();
        let asked = Instant::now();
        let groups = period.lifetimes().groups.len();
        let told = period.buckets().iter().filter_map(sockeye_core::Bucket::percentiles).count();
        println!(
            "{name}: {:.0} ns a connection; {groups} groups and {told} buckets estimated in {:.0} ms",
            folded.as_nanos() as f64 / ROWS as f64,
            asked.elapsed().as_secs_f64() * 1000.0
        );
    }
}
