//! What a Monitor's memory is per followed socket: after its sweeps, and at most while it grows. Every case runs in a
//! process of its own, as the allocator remembers.

use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use sock_diag::{Family, SocketRecord, SocketState};
use sockeye_benches::{own_peak_bytes, own_resident_bytes, record};
use sockeye_core::{Counters, Moment, Monitor, Settings};

const COUNTS: [u32; 2] = [100_000, 400_000];
/// Enough for what one sweep leaves to the next.
const SWEEPS: u64 = 4;

/// Makes the socket of this number out of the one that is usual.
type Kind = fn(u32, SocketRecord) -> SocketRecord;

const KINDS: [(&str, Kind); 3] = [
    ("outgoing", |_, record| record),
    ("incoming", |number, mut record| {
        (record.id.local_port, record.id.remote_port) = (443, number as u16);
        record
    }),
    ("incoming6", |number, mut record| {
        record.family = Family::Inet6;
        record.id.local_port = 443;
        record.id.local_address = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7));
        record.id.remote_address = IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db9 << 96 | u128::from(number)));
        record
    }),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [] => {
            say("kind         sockets   resident   at most   (bytes per socket)");
            for (kind, _) in KINDS {
                for count in COUNTS {
                    let status =
                        Command::new(std::env::current_exe()?).args([kind, &count.to_string()]).status()?;
                    ensure!(status.success(), "{kind} {count}: {status}");
                }
            }
            Ok(())
        }
        [kind, count] => {
            let (_, make) = KINDS.iter().find(|(name, _)| name == kind).context("which kind?")?;
            measure(kind, *make, count.parse().context("how many?")?)
        }
        _ => bail!("resident [KIND SOCKETS]"),
    }
}

fn measure(kind: &str, make: Kind, count: u32) -> Result<()> {
    let settings = Settings::default();
    let mut monitor = Monitor::new(&settings, &Counters::default(), Moment(0), false);
    let mut listener = record(1, 1);
    listener.state = SocketState::Listen;
    (listener.id.local_port, listener.id.remote_port) = (443, 0);
    listener.id.cookie.0 = u64::from(u32::MAX);
    // What a Monitor of an idle host has.
    for now in [0, 1_000].map(Moment) {
        monitor.begin_sweep(now);
        monitor.end_sweep(now, &Counters::default());
        monitor.tick(now);
    }
    let before = own_resident_bytes()?;
    for sweep in 0..SWEEPS {
        let now = Moment(2_000 + 1_000 * sweep);
        monitor.begin_sweep(now);
        monitor.observe(&listener);
        // Half as many at first: then it grows.
        let shown = if sweep == 0 { count / 2 } else { count };
        (0..shown).for_each(|number| {
            monitor.observe(&make(number, record(number, 1_000)));
        });
        monitor.end_sweep(now, &Counters::default());
        monitor.tick(now);
    }
    ensure!(monitor.followed() == count as usize, "{} of {count} followed", monitor.followed());
    let per_socket = |bytes: u64| bytes.saturating_sub(before) as f64 / f64::from(count);
    let (resident, peak) = (per_socket(own_resident_bytes()?), per_socket(own_peak_bytes()?));
    say(&format!("{kind:<10} {count:>9} {resident:>10.1} {peak:>9.1}"));
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the numbers are this program's result")]
fn say(line: &str) {
    println!("{line}");
}
