//! Closes of the last minute from one look, held against the log of what was really closed.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod look;

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use sock_diag::{Protocol, SocketState};
use sockeye_core::{Curve, DestinationId, Report, WINDOW_SECONDS};
use sockeye_tests::{Churn, Close, Namespace, Phase, wait_until};

const WINDOW: Duration = Duration::from_secs(WINDOW_SECONDS as u64);
/// The log is written after the close, by a thread that may have to wait for a core.
const LOGGED_LATE: Duration = Duration::from_millis(250);
/// Timers are told in jiffies, 10 ms at the coarsest.
const JIFFY: Duration = Duration::from_millis(10);

/// A report and the two instants it lies between.
struct Look {
    begun: Instant,
    ended: Instant,
    report: Report,
}

impl Look {
    fn take() -> Look {
        let begun = Instant::now();
        let report = look::report();
        Look { begun, ended: Instant::now(), report }
    }

    /// How many of `log` surely, and how many at most, were less than `seconds` old when they were told.
    fn bounds(&self, log: &[Close], seconds: u32) -> (usize, usize) {
        let age = Duration::from_secs(seconds.into());
        let youngest = |close: &Close| self.ended.saturating_duration_since(close.at) + LOGGED_LATE + JIFFY;
        let surely = log.iter().filter(|close| close.at <= self.begun && youngest(close) < age);
        let perhaps = log.iter().filter(|close| self.begun.saturating_duration_since(close.at) < age + JIFFY);
        (surely.count(), perhaps.filter(|close| close.at <= self.ended + LOGGED_LATE).count())
    }
}

/// Towards each destination and in all, every second of the curve holds what the log has there, as far as the look's own
/// length lets tell. Returns how far the number of closes in the minute is off, at worst: 0.02 is 2 %.
fn agree(look: &Look, log: &[Close], destinations: &[SocketAddr]) -> f64 {
    let of = |remote: &SocketAddr| -> Vec<Close> {
        log.iter().filter(|close| close.remote == *remote).copied().collect()
    };
    let mut worst = compare("in all", look, &look.report.closes, log);
    let mut sum = 0;
    for remote in destinations {
        let id = DestinationId {
            protocol: Protocol::Tcp,
            local_address: Ipv4Addr::LOCALHOST.into(),
            remote_address: remote.ip(),
            remote_port: remote.port(),
        };
        let destination = look.report.destination(&id).unwrap_or_else(|| panic!("no destination {id}"));
        let curve = look.report.closes_of(destination);
        assert_eq!(destination.traffic.closes, curve.total(), "{id}");
        assert_eq!(destination.traffic.closes_per_second(), f64::from(curve.total()) / 60.0, "{id}");
        worst = worst.max(compare(&id.to_string(), look, &curve, &of(remote)));
        sum += curve.total();
    }
    assert_eq!(sum, look.report.closes.total(), "nobody else closed anything");
    worst
}

fn compare(whose: &str, look: &Look, curve: &Curve, log: &[Close]) -> f64 {
    // What the generator made in the 60 s before the middle of the look.
    let middle = look.begun + (look.ended - look.begun) / 2;
    let made = log.iter().filter(|close| close.at <= middle && middle - close.at < WINDOW).count();
    let told = curve.total() as usize;
    let off = told.abs_diff(made) as f64 / made.max(1) as f64;
    eprintln!(
        "{whose}: {told} closes told ({:.2}/s), {made} made: {:.3} % off; the look took {:.1?}",
        curve.per_second(),
        100.0 * off,
        look.ended - look.begun
    );
    let mut so_far = 0;
    for second in 0..WINDOW_SECONDS {
        so_far += curve.ago(second) as usize;
        let (surely, perhaps) = look.bounds(log, second as u32 + 1);
        // A dump that races with churn may miss or repeat a few sockets: 2 % here as well.
        let slack = 2 + perhaps / 50;
        assert!(
            surely.saturating_sub(slack) <= so_far && so_far <= perhaps + slack,
            "{whose}: {so_far} closes in the last {} s, where the log has {surely} to {perhaps}: {curve:?}",
            second + 1
        );
    }
    off
}

fn phase(per_second: u32, seconds: u64) -> Phase {
    Phase { per_second, lasts: Duration::from_secs(seconds) }
}

/// With TIME_WAIT sockets that stay: neither reused nor dropped.
fn namespace() -> Namespace {
    Namespace::new().sysctl("net.ipv4.tcp_tw_reuse", "0").sysctl("net.ipv4.tcp_max_tw_buckets", "131072")
}

#[test]
fn the_closes_of_a_quarter_minute_are_all_there_in_their_seconds() {
    namespace().run(|| {
        let phases =
            [phase(200, 2), phase(1200, 3), phase(0, 2), phase(700, 3), phase(100, 3), phase(900, 3)];
        let churn = Churn::start(&phases, 3).unwrap();
        let begin = Instant::now();
        // Looks in the midst of it, where they race with churn: what is closed while they last may be told or not.
        for seconds in [4, 8, 12] {
            std::thread::sleep(Duration::from_secs(seconds).saturating_sub(begin.elapsed()));
            let look = Look::take();
            wait_until("the log of that time", LOGGED_LATE * 8, || look.ended.elapsed() > LOGGED_LATE);
            agree(&look, &churn.closes(), churn.destinations());
        }
        let destinations = churn.destinations().to_vec();
        let log = churn.finish().unwrap();
        let look = Look::take();
        assert_eq!(agree(&look, &log, &destinations), 0.0);
        // Nothing races now, and nothing is a minute old: exact.
        assert_eq!(look.report.closes.total() as usize, log.len());
        assert_eq!(look.report.duplicates, 0);
        for destination in &look.report.destinations {
            let remote = SocketAddr::new(destination.id.remote_address, destination.id.remote_port);
            let made = log.iter().filter(|close| close.remote == remote).count();
            assert_eq!(destination.traffic.closes as usize, made);
            assert_eq!(destination.traffic.time_wait as usize, made);
            assert_eq!(destination.in_use as usize, made, "each holds a port of its own");
        }
        let peak = look.report.closes.peak_per_second();
        assert!(peak >= 500, "the phase of 1200 a second: {peak}");
        assert!(look.report.closes.oldest_first().any(|closes| closes == 0), "the pause");
    });
}

#[test]
fn the_closes_of_the_last_minute_are_told_and_older_ones_are_not() {
    namespace().deadline(Duration::from_secs(120)).run(|| {
        // The first ten seconds are busy, and out of the window when the look is taken.
        let phases = [phase(900, 10), phase(300, 20), phase(800, 15), phase(50, 5), phase(600, 40)];
        let churn = Churn::start(&phases, 4).unwrap();
        let begin = Instant::now();
        std::thread::sleep(Duration::from_secs(71).saturating_sub(begin.elapsed()));
        let look = Look::take();
        wait_until("the log of that time", LOGGED_LATE * 8, || look.ended.elapsed() > LOGGED_LATE);
        let log = churn.closes();
        let off = agree(&look, &log, churn.destinations());
        assert!(off <= 0.02, "{:.2} % off", 100.0 * off);
        let told = look.report.closes.total() as usize;
        assert!(told < log.len() * 9 / 10, "{told} told, {} made in 71 s", log.len());
    });
}

/// A connection whose server side has been accepted.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn through(listener: &TcpListener, to: SocketAddr) -> Pair {
        let client = TcpStream::connect(to).unwrap();
        let (server, _) = listener.accept().unwrap();
        Pair { client, server }
    }
}

fn at(address: impl Into<IpAddr>, listener: &TcpListener) -> SocketAddr {
    SocketAddr::new(address.into(), listener.local_addr().unwrap().port())
}

/// The report, once this many sockets are in TIME_WAIT.
fn report_of(time_wait: u32) -> Report {
    let mut report = look::report();
    wait_until(&format!("{time_wait} sockets in TIME_WAIT"), Duration::from_secs(10), || {
        report = look::report();
        report.sockets.in_state(Protocol::Tcp, SocketState::TimeWait) == time_wait
    });
    report
}

#[test]
fn a_close_that_the_server_began_is_its_listener_s() {
    Namespace::new().run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = at(Ipv4Addr::LOCALHOST, &listener);
        for _ in 0..20 {
            let pair = Pair::through(&listener, to);
            drop(pair.server);
            let mut end = [0];
            assert_eq!((&pair.client).read(&mut end).unwrap(), 0, "the server has closed");
        }
        let report = report_of(20);
        assert_eq!(report.closes.total(), 20);
        assert_eq!((report.incoming.closes, report.outgoing.closes, report.other.closes), (20, 0, 0));
        let [own] = &report.listeners[..] else { panic!("{:?}", report.listeners) };
        assert_eq!((own.port, own.traffic.time_wait, own.traffic.live), (to.port(), 20, 0));
        assert_eq!(own.curve.total(), 20);
        assert_eq!(report.destinations.len(), 0, "no ephemeral port is held");
    });
}

#[test]
fn a_reset_leaves_no_close() {
    Namespace::new().run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = at(Ipv4Addr::LOCALHOST, &listener);
        let kept = Pair::through(&listener, to);
        for _ in 0..20 {
            let pair = Pair::through(&listener, to);
            setsockopt(&pair.client, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
            drop(pair.client);
            assert!((&pair.server).read(&mut [0]).is_err(), "reset");
        }
        let report = look::report();
        assert_eq!(report.closes.total(), 0);
        assert_eq!((report.outgoing.live, report.outgoing.time_wait), (1, 0));
        drop(kept.client);
        drop(kept.server);
        assert_eq!(report_of(1).closes.total(), 1, "a close in order does");
    });
}

#[test]
fn an_orphan_in_fin_wait2_is_live_until_its_peer_closes() {
    Namespace::new().run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = at(Ipv4Addr::LOCALHOST, &listener);
        let mut servers = Vec::new();
        for _ in 0..10 {
            let pair = Pair::through(&listener, to);
            drop(pair.client);
            servers.push(pair.server);
        }
        let mut report = look::report();
        wait_until("ten orphans", Duration::from_secs(10), || {
            report = look::report();
            report.orphans == 10
        });
        assert_eq!(report.closes.total(), 0);
        assert_eq!(report.sockets.in_state(Protocol::Tcp, SocketState::FinWait2), 10);
        let [destination] = &report.destinations[..] else { panic!("{:?}", report.destinations) };
        assert_eq!((destination.traffic.live, destination.traffic.closes, destination.in_use), (10, 0, 10));
        servers.clear();
        let report = report_of(10);
        assert_eq!((report.orphans, report.closes.total()), (0, 10));
    });
}

#[test]
fn ipv6_closes_count_and_mapped_ones_count_as_ipv4() {
    Namespace::new().run(|| {
        let listener = TcpListener::bind("[::]:0").unwrap();
        let close = |to: IpAddr, times: usize| {
            for _ in 0..times {
                let pair = Pair::through(&listener, at(to, &listener));
                drop(pair.client);
                drop(pair.server);
            }
        };
        close(Ipv6Addr::LOCALHOST.into(), 7);
        close(Ipv4Addr::LOCALHOST.into(), 3);
        close(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), 5);
        let report = report_of(15);
        assert_eq!(report.closes.total(), 15);
        let mut told: Vec<(IpAddr, u32)> = report
            .destinations
            .iter()
            .map(|destination| (destination.id.remote_address, destination.traffic.closes))
            .collect();
        told.sort_unstable();
        let expected: [(IpAddr, u32); 2] = [(Ipv4Addr::LOCALHOST.into(), 8), (Ipv6Addr::LOCALHOST.into(), 7)];
        assert_eq!(told, expected);
    });
}
