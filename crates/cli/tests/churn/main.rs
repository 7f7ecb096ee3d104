//! What the program says of opens, closes and lifetimes, held to the log of who made them.
//!
//! The lengths are those of a test in everyday use; with `SOCKEYE_TESTS_FULL=1` they are those of the claims.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

#[path = "../confined/mod.rs"]
mod confined;
mod ledger;
mod program;

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;
use sockeye_tests::{Churn, ChurnPlan, How, Lives, Load, Namespace, Phase, wait_until};

use ledger::Ledger;
use program::{Program, number};

/// Whether the whole length is asked for.
fn is_full() -> bool {
    std::env::var_os("SOCKEYE_TESTS_FULL").is_some()
}

/// Root over the host: its buffer for destroy events is as large as it likes.
fn namespace() -> Namespace {
    Namespace::new().host_root().deadline(Duration::from_secs(if is_full() { 900 } else { 120 }))
}

const MS: Duration = Duration::from_millis(1);

/// Opens and closes of every kind, at random.
fn mixed(seed: u64) -> ChurnPlan {
    let (seconds, longest) = if is_full() { (60, 20) } else { (8, 5) };
    ChurnPlan {
        seed,
        // Before anything comes, a sweep has seen the listeners.
        phases: vec![
            Phase { per_second: 0, lasts: Duration::from_secs(2) },
            Phase { per_second: 300, lasts: Duration::from_secs(seconds) },
        ],
        random_arrivals: true,
        lives: Lives::LogUniform(MS, Duration::from_secs(longest)),
        late: Lives::LogUniform(MS, Duration::from_secs(2)),
        late_share: 0.2,
        mix: vec![
            (How::ClientFirst, 5),
            (How::ServerFirst, 4),
            (How::ClientResets, 3),
            (How::ServerResets, 2),
            (How::Refused, 1),
            (How::Unanswered, 1),
        ],
        payload: 3000,
        destinations: 4,
    }
}

/// Brief connections that leave no TIME_WAIT, very many of them.
fn resets(seed: u64, per_second: u32, seconds: u64) -> ChurnPlan {
    ChurnPlan {
        seed,
        phases: vec![Phase { per_second, lasts: Duration::from_secs(seconds) }],
        random_arrivals: true,
        lives: Lives::Exponential(100 * MS),
        mix: vec![(How::ClientResets, 1), (How::ServerResets, 1)],
        destinations: 8,
        ..ChurnPlan::default()
    }
}

/// Follows a whole churn with `sockeye watch`, begun already; returns its lines and the churn.
fn watched(watch: Program, plan: &ChurnPlan) -> (Vec<Value>, Churn) {
    // The first line comes after the baseline: from here on everything is to be seen.
    let mut lines = vec![watch.line()];
    let churn = Churn::follow(plan).unwrap();
    churn.wait().unwrap();
    // What came meanwhile, the interval of the last close, and two sweeps that agree on what is gone.
    lines.extend(watch.lines_so_far());
    (0..3).for_each(|_| lines.push(watch.line()));
    lines.extend(watch.end("going on without destroy events"));
    (lines, churn)
}

fn sum(lines: &[Value], key: &str) -> u64 {
    lines.iter().map(|line| number(line, key)).sum()
}

fn opens_and_closes_are_the_log_s(interval: &str) {
    let watch = Program::start(&format!("watch {interval} -o jsonl"));
    let (lines, churn) = watched(watch, &mixed(3));
    let ledger = Ledger::of(&churn);
    let standing = 2 * churn.standing() as u64;
    let (opens, closes) = (sum(&lines, "opens"), sum(&lines, "closes"));
    let last = lines.last().unwrap();
    eprintln!(
        "every {interval}: {opens} opens and {closes} closes told, {} made; coverage {}, {} events lost",
        ledger.sockets(),
        last["coverage_ratio"],
        last["events_lost"]
    );
    assert_eq!(number(last, "events_lost"), 0);
    assert_eq!((opens, closes), (ledger.sockets() + standing, ledger.sockets()));
    assert_eq!(last["coverage_ratio"], 1.0);
    assert_eq!(number(last, "live"), standing);
}

#[test]
fn opens_and_closes_are_the_log_s_with_a_sweep_a_second() {
    namespace().run(|| opens_and_closes_are_the_log_s("1s"));
}

#[test]
fn opens_and_closes_are_the_log_s_with_a_sweep_every_five_seconds() {
    namespace().run(|| opens_and_closes_are_the_log_s("5s"));
}

#[test]
fn without_events_the_coverage_is_told_as_it_is() {
    namespace().run(|| {
        for interval in ["1s", "5s"] {
            let watch =
                Program::start_confined(&format!("watch {interval} -o jsonl"), |command| confined::forbid_memberships(command, libc::EPERM));
            let (lines, churn) = watched(watch, &mixed(6));
            let made = Ledger::of(&churn).sockets() + 2 * churn.standing() as u64;
            let (opens, closes) = (sum(&lines, "opens"), sum(&lines, "closes"));
            let last = lines.last().unwrap();
            let told = last["coverage_ratio"].as_f64().unwrap();
            let truth = opens as f64 / made as f64;
            eprintln!(
                "every {interval}, without events: {opens} opens and {closes} closes told, {made} made; coverage {told}, {truth:.4} in truth"
            );
            assert_eq!(last["events"], false);
            assert!(opens < made, "some live shorter than an interval");
            assert!((told - truth).abs() <= 0.01);
            assert_eq!(opens - closes, number(last, "live"));
            assert_eq!(number(last, "live"), 2 * churn.standing() as u64);
        }
    });
}

#[test]
fn long_chains_and_raced_dumps_close_nothing_that_lives() {
    // The next namespace has a hash of its own, with 16 buckets: every dump walks chains that change under it.
    namespace().sysctl("net.ipv4.tcp_child_ehash_entries", "16").run(|| {
        // This thread's, and that of what it starts.
        Namespace::new().host_root().enter().unwrap();
        let buckets = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_ehash_entries").unwrap();
        assert_eq!(buckets.trim(), "16");
        let load = Load::established(1_000, 2).unwrap();
        let stable = 2 * load.connections() as u64;
        let closes = Program::start("closes -o jsonl --interval 200ms");
        let watch = Program::start("watch 200ms -o jsonl");
        let (lines, churn) = watched(watch, &ChurnPlan { lives: Lives::Exponential(500 * MS), ..resets(7, 1_500, 8) });
        let told = closes.end("");
        let (opens, closes) = (sum(&lines, "opens"), sum(&lines, "closes"));
        let ledger = Ledger::of(&churn);
        let made = ledger.sockets();
        let most = lines.iter().map(|line| number(line, "unconfirmed")).max().unwrap();
        eprintln!("chains in 16 buckets: {opens} opens and {closes} closes told, {made} made; {most} unconfirmed at most");
        assert_eq!((opens, closes), (made, made), "nobody made {:#?}", ledger.strangers(&told));
        assert_eq!(number(lines.last().unwrap(), "live"), stable);
    });
}

#[test]
fn every_close_is_told_as_it_was() {
    namespace().run(|| {
        let closes = Program::start("closes -o jsonl --interval 1s");
        // Whatever opens after its baseline is told: connections of ours until it tells of one.
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut lines = Vec::new();
        wait_until("a first close", Duration::from_secs(30), || {
            TcpStream::connect(door.local_addr().unwrap())
                .map(|client| (client, door.accept().unwrap()))
                .unwrap();
            lines.extend(closes.lines_so_far());
            !lines.is_empty()
        });
        let watch = Program::start("watch 1 -o jsonl");
        watch.line();
        let churn = Churn::follow(&mixed(4)).unwrap();
        churn.wait().unwrap();
        (0..3).for_each(|_| drop(watch.line()));
        watch.end("");
        lines.extend(closes.end(""));
        let port = u64::from(door.local_addr().unwrap().port());
        lines.retain(|line| line["local_port"] != port && line["remote_port"] != port);
        Ledger::of(&churn).check(&lines);
    });
}

#[test]
fn lifetimes_are_those_that_were_lived() {
    namespace().run(|| {
        let lifetimes = Program::start("lifetimes --json --interval 1s --for 10m");
        let watch = Program::start("watch 1 -o jsonl");
        (0..2).for_each(|_| drop(watch.line()));
        // Without resets: their brief sockets forget where they belong.
        let plan = ChurnPlan { mix: vec![(How::ClientFirst, 1), (How::ServerFirst, 1)], ..mixed(8) };
        let churn = Churn::follow(&plan).unwrap();
        churn.wait().unwrap();
        drop(watch.lines_so_far());
        (0..3).for_each(|_| drop(watch.line()));
        watch.end("");
        let told = lifetimes.end("");
        let [report] = &told[..] else { panic!("{told:?}") };
        assert_eq!(
            (number(report, "older"), number(report, "open"), number(report, "events_lost")),
            (0, 0, 0)
        );
        let ledger = Ledger::of(&churn);
        assert_eq!(number(report, "completed"), ledger.sockets());
        ledger.check_percentiles(report);

        let groups = report["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 2 * churn.destinations().len());
        for door in churn.destinations() {
            let to_it =
                churn.connections().iter().filter(|connection| connection.remote == *door).count() as u64;
            let is_destination = |group: &&Value| group["remote_port"] == door.port();
            let is_listener =
                |group: &&Value| group["kind"] == "listener" && group["local_port"] == door.port();
            let completed = |group: Option<&Value>| number(group.unwrap(), "completed");
            assert_eq!(completed(groups.iter().find(is_destination)), to_it);
            assert_eq!(completed(groups.iter().find(is_listener)), to_it);
        }
    });
}

#[test]
fn stable_sockets_never_close() {
    let seconds = if is_full() { 600 } else { 10 };
    namespace().run(move || {
        let load = Load::established(10_000, 2).unwrap();
        let stable = 2 * load.connections() as u64;
        let watch = Program::start("watch 1 -o jsonl");
        assert_eq!(number(&watch.line(), "live"), stable);
        let plan = resets(5, 2_500, seconds);
        let churn = Churn::follow(&plan).unwrap();
        let (mut opens, mut closes, mut lines) = (0, 0, 0);
        wait_until("the end of the churn", Duration::from_secs(seconds + 100), || {
            let line = watch.line();
            opens += number(&line, "opens");
            closes += number(&line, "closes");
            lines += 1;
            number(&line, "live") == stable && churn.began().elapsed() > churn.lasts() + Duration::from_secs(2)
        });
        churn.wait().unwrap();
        let cpu = watch.cpu_seconds();
        let rest = watch.end("");
        let made = Ledger::of(&churn).sockets();
        let of = |key| sum(&rest, key);
        eprintln!(
            "{stable} stable sockets, {lines} s: {opens} opens and {closes} closes told, {made} made; {:.1} % of a core",
            100.0 * cpu / churn.began().elapsed().as_secs_f64()
        );
        assert_eq!((opens + of("opens"), closes + of("closes")), (made, made));
    });
}

#[test]
#[ignore = "half a million sockets: gigabytes of kernel memory, and a figure that only a release build on an idle machine gives"]
fn steady_watching_of_half_a_million_sockets_costs_two_percent() {
    const WATCHED_S: u64 = 120;
    Namespace::new().host_root().deadline(Duration::from_secs(600)).run(|| {
        let load = Load::established(250_000, 4).unwrap();
        let watch = Program::start("watch 1 -o jsonl --cpu-budget 2%");
        let stable = number(&watch.line(), "live");
        assert_eq!(stable, 2 * load.connections() as u64);
        let churn = Churn::follow(&resets(9, 500, WATCHED_S)).unwrap();
        let (begin, before) = (Instant::now(), watch.cpu_seconds());
        churn.wait().unwrap();
        let share = (watch.cpu_seconds() - before) / begin.elapsed().as_secs_f64();
        let resident = watch.resident_bytes();
        let lines = watch.end("");
        let sweeps = lines.iter().filter(|line| line["swept_ms"].is_number()).count();
        let (opens, closes) = (sum(&lines, "opens"), sum(&lines, "closes"));
        eprintln!(
            "{stable} sockets, {:.0} closes a second: {:.2} % of a core, {sweeps} sweeps in {} ticks, {} MiB resident; {opens} opens and {closes} closes told, {} made",
            2.0 * churn.connections().len() as f64 / begin.elapsed().as_secs_f64(),
            100.0 * share,
            lines.len(),
            resident >> 20,
            Ledger::of(&churn).sockets(),
        );
        assert!(share <= 0.025, "{share}");
    });
}
