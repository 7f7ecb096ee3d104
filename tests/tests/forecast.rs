//! When connect() first fails, held against what was forecast: constant rates, a leak, ports that come back in time.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod dial;
mod look;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use dial::{PortBy, accept, dial, listener};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use sock_diag::{DumpRequest, Protocol, StateSet};
use sockeye_core::{
    Basis, Counters, Destination, DestinationId, Forecast, Moment, Monitor, Report, Settings, Sweep,
};
use sockeye_tests::Namespace;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PORT: u16 = 20_000;
/// From look to look.
const PAUSE: Duration = Duration::from_millis(50);
/// Later than this, an open came not at its rate.
const LATE: Duration = Duration::from_millis(60);
const ATTEMPTS: u8 = 5;
/// A forecast may be so far off, as a share of the time that is left.
const TOLERANCE: f64 = 0.10;

/// Connections towards one listener, at constant rates one after the other: so many a second, for so long.
#[derive(Clone, Copy, Debug)]
struct Load {
    phases: [(u32, Duration); 2],
    /// Each is closed at once, its own side first: that leaves a TIME_WAIT.
    closes: bool,
}

impl Load {
    fn of(per_second: u32, closes: bool) -> Load {
        Load { phases: [(per_second, Duration::from_secs(60)), (0, Duration::ZERO)], closes }
    }

    /// When the connections are due, after the beginning.
    fn due(&self) -> impl Iterator<Item = Duration> {
        let [(first, lasts), (second, then)] = self.phases;
        let times = |rate: u32, lasts: Duration| {
            let count = (lasts.as_secs_f64() * f64::from(rate)).round() as u32;
            (0..count).map(move |number| lasts * number / count)
        };
        times(first, lasts).chain(times(second, then).map(move |due| lasts + due))
    }

    /// Connects until it fails for want of a port, or all was done.
    fn run(&self, door: &TcpListener, begin: Instant) -> Outcome {
        let to = door.local_addr().unwrap();
        let mut kept = Vec::new();
        let mut outcome = Outcome { failed: None, opened: 0, late: Duration::ZERO };
        for due in self.due() {
            let due = begin + due;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let now = Instant::now();
            outcome.late = outcome.late.max(now - due);
            match dial(LOCALHOST, to, PortBy::Connect) {
                Err(Errno::EADDRNOTAVAIL) => {
                    outcome.failed = Some(now);
                    break;
                }
                client => {
                    let ends = (client.unwrap(), accept(door));
                    outcome.opened += 1;
                    if !self.closes {
                        kept.push(ends);
                    }
                }
            }
        }
        outcome
    }
}

/// What became of the connections.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    failed: Option<Instant>,
    opened: u32,
    /// The latest that one of them was.
    late: Duration,
}

/// What was known at one moment.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    /// Share of the ports that is used up.
    used: f64,
    /// From a sweep alone, and from counted opens.
    told: [Forecast; 2],
}

/// Looks until the load has ended; `begin` begins it.
fn watch(
    settings: &Settings,
    to: IpAddr,
    ended: &Receiver<Outcome>,
    begin: impl FnOnce(),
) -> (Vec<Look>, Outcome) {
    let clock = Instant::now();
    let now = || Moment(clock.elapsed().as_millis() as u64);
    let none = Counters::default();
    let mut monitor = Monitor::new(settings, &none, now(), false);
    let sweep = |monitor: &mut Monitor| -> (Instant, Report) {
        let at = Instant::now();
        monitor.begin_sweep(now());
        let mut alone = Sweep::new(settings);
        for states in [StateSet::LISTEN, StateSet::ALL.minus(StateSet::LISTEN)] {
            for record in look::records(&DumpRequest::all(Protocol::Tcp).states(states)) {
                monitor.observe(&record);
                alone.observe(&record);
            }
        }
        monitor.end_sweep(now(), &none);
        let mut alone = alone.finish(&none);
        alone.forecast(settings);
        (at, alone)
    };
    sweep(&mut monitor);
    begin();
    let mut looks = Vec::new();
    loop {
        if let Ok(outcome) = ended.recv_timeout(PAUSE) {
            return (looks, outcome);
        }
        let (at, alone) = sweep(&mut monitor);
        let lasted = at.elapsed().as_secs_f64();
        let told = [forecast(&alone, to), forecast(monitor.tick(now()), to)];
        let [Some((row, mut timers)), Some((_, counted))] = told else { continue };
        // To the same moment: the end of the sweep.
        timers.exhausted_in_s = timers.exhausted_in_s.map(|left| left - lasted);
        let used = 1.0 - f64::from(row.headroom.max) / f64::from(row.usable);
        looks.push(Look { at: Instant::now(), used, told: [timers, counted] });
    }
}

fn forecast(report: &Report, to: IpAddr) -> Option<(Destination, Forecast)> {
    let id = DestinationId {
        protocol: Protocol::Tcp,
        local_address: LOCALHOST,
        remote_address: to,
        remote_port: PORT,
    };
    let row = report.destination(&id)?;
    // A destination without closes has none from a sweep alone.
    Some((*row, row.forecast.unwrap_or_default()))
}

/// Runs the load in a namespace with so many ports and judges it. Where something is wrong and the machine was too busy to
/// keep the rate, of which nothing was forecast, it runs again, towards another address: that has a pool of its own.
fn looks(load: Load, ports: u16, sysctls: &[(&str, &str)], judge: impl Fn(&[Look], Outcome) -> Verdict) {
    let namespace = Namespace::new()
        .port_range(&format!("40000 {}", 39_999 + ports))
        .sysctl("net.ipv4.tcp_tw_reuse", "0");
    let namespace = sysctls.iter().fold(namespace, |namespace, (name, value)| namespace.sysctl(name, value));
    namespace.deadline(Duration::from_secs(120)).run(|| {
        // Two descriptors a connection.
        let files = 2 * u64::from(ports) + 200;
        let _ = setrlimit(Resource::RLIMIT_NOFILE, files, files);
        let settings = look::settings();
        for attempt in 1..=ATTEMPTS {
            let to = IpAddr::V4(Ipv4Addr::new(127, 0, 1, attempt));
            let door = listener(to, PORT);
            let (tell, ended) = channel();
            let (looks, outcome) = watch(&settings, to, &ended, || {
                let begin = Instant::now();
                thread::spawn(move || tell.send(load.run(&door, begin)).unwrap());
            });
            eprintln!(
                "{load:?} on {ports} ports: {} opened, {:?} late at most",
                outcome.opened, outcome.late
            );
            match judge(&looks, outcome) {
                Ok(()) => return,
                Err(wrong) if outcome.late <= LATE || attempt == ATTEMPTS => panic!("{wrong}"),
                Err(wrong) => eprintln!("{wrong}; but the rate was not kept: once more"),
            }
        }
    });
}

/// What is wrong, if anything.
type Verdict = Result<(), String>;

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// The first look at which so much was used.
fn at(looks: &[Look], used: f64) -> Result<&Look, String> {
    looks.iter().find(|look| look.used >= used).ok_or_else(|| format!("never seen {used} used"))
}

/// The forecasts of a look hold.
fn foreseen(look: &Look, outcome: Outcome, bases: &[Basis]) -> Verdict {
    let failed = outcome.failed.ok_or("connect() never failed")?;
    let left = (failed - look.at).as_secs_f64();
    for basis in bases {
        let told = look.told.iter().find(|told| told.basis == *basis);
        let told = told.ok_or_else(|| format!("nothing from {basis:?} at {}", look.used))?;
        let foreseen = told.exhausted_in_s.ok_or_else(|| format!("never, at {}: {told:?}", look.used))?;
        let off = (foreseen - left) / left;
        let text = format!(
            "{:.0} % used: {foreseen:.3} s foreseen, {left:.3} s left: {:+.1} % ({})",
            look.used * 100.0,
            off * 100.0,
            told.basis.name()
        );
        eprintln!("  {text}");
        check(off.abs() <= TOLERANCE, || text)?;
    }
    Ok(())
}

/// Every forecast at a quarter, a half and three quarters holds.
fn always_foreseen(looks: &[Look], outcome: Outcome, bases: &[Basis]) -> Verdict {
    [0.25, 0.5, 0.75].into_iter().try_for_each(|used| foreseen(at(looks, used)?, outcome, bases))
}

/// No forecast of these looks sees an end.
fn never(looks: impl IntoIterator<Item = Look>) -> Verdict {
    let mut told = looks.into_iter().flat_map(|look| look.told);
    told.try_for_each(|told| check(told.exhausted_in_s.is_none(), || format!("an end: {told:?}")))
}

/// Every connect() succeeded.
fn all_opened(outcome: Outcome, connections: u32) -> Verdict {
    let all = outcome.failed.is_none() && outcome.opened == connections;
    check(all, || format!("{outcome:?} of {connections}"))
}

const BOTH: [Basis; 2] = [Basis::TimeWaitTimers, Basis::Opens];

#[test]
fn a_slow_rate_on_few_ports() {
    looks(Load::of(40, true), 300, &[], |looks, outcome| always_foreseen(looks, outcome, &BOTH));
}

#[test]
fn a_rate_on_a_thousand_ports() {
    looks(Load::of(150, true), 1_000, &[], |looks, outcome| always_foreseen(looks, outcome, &BOTH));
}

#[test]
fn a_fast_rate_on_thousands_of_ports() {
    looks(Load::of(500, true), 3_000, &[], |looks, outcome| always_foreseen(looks, outcome, &BOTH));
}

/// Nothing is closed: only counted opens tell.
#[test]
fn a_leak() {
    looks(Load::of(60, false), 360, &[], |looks, outcome| {
        always_foreseen(looks, outcome, &[Basis::Opens])?;
        let leak = at(looks, 0.75)?.told[1];
        check(leak.leak_rate == leak.open_rate && leak.steady_use.is_none(), || format!("{leak:?}"))
    });
}

/// 30/s hold 1,800 ports at any time, once the first TIME_WAIT ends: that these are enough is arithmetic, and not waited for.
#[test]
fn a_rate_that_ports_are_enough_for() {
    let load = Load { phases: [(30, Duration::from_secs(4)), (0, Duration::ZERO)], closes: true };
    looks(load, 2_400, &[], |looks, outcome| {
        all_opened(outcome, 120)?;
        never(looks.iter().copied().filter(|look| look.used > 0.02))?;
        for told in at(looks, 0.04)?.told {
            let (steady, most) = (told.steady_use.unwrap_or(0.0), told.max_rate.unwrap_or(0.0));
            let sound = (1_500.0..2_100.0).contains(&steady) && (36.0..46.0).contains(&most);
            check(sound, || format!("{told:?}"))?;
        }
        Ok(())
    });
}

/// Whether the delay before a TIME_WAIT is reused can be set (Linux 6.14): the same model with seconds instead of a minute.
fn can_delay_reuse() -> bool {
    let can = fs::exists("/proc/sys/net/ipv4/tcp_tw_reuse_delay").unwrap();
    assert!(can || std::env::var("CI").as_deref() != Ok("true"), "no tcp_tw_reuse_delay on this kernel");
    if !can {
        eprintln!("SKIPPED: no tcp_tw_reuse_delay on this kernel (since 6.14)");
    }
    can
}

#[test]
fn ports_that_come_back_in_time_are_enough_for_ever() {
    if !can_delay_reuse() {
        return;
    }
    // 100/s hold 200 of 280 ports.
    let sysctls = [("net.ipv4.tcp_tw_reuse", "2"), ("net.ipv4.tcp_tw_reuse_delay", "2000")];
    let load = Load { phases: [(100, Duration::from_secs(6)), (0, Duration::ZERO)], closes: true };
    looks(load, 280, &sysctls, |looks, outcome| {
        // More than twice the ports there are.
        all_opened(outcome, 600)?;
        let settled: Vec<Look> = looks.iter().copied().filter(|look| look.used > 0.5).collect();
        check(settled.len() > 10, || format!("{} looks", settled.len()))?;
        never(settled)
    });
}

#[test]
fn ports_that_come_back_too_slowly_put_it_off() {
    if !can_delay_reuse() {
        return;
    }
    // 60/s hold 240 of 480 ports; then 150/s take them while the first 60/s come back, for 4 s.
    let sysctls = [("net.ipv4.tcp_tw_reuse", "2"), ("net.ipv4.tcp_tw_reuse_delay", "4000")];
    let load = Load { phases: [(60, Duration::from_secs(4)), (150, Duration::from_secs(20))], closes: true };
    looks(load, 480, &sysctls, |looks, outcome| {
        never([*at(looks, 0.25)?])?;
        foreseen(at(looks, 0.75)?, outcome, &BOTH)
    });
}
