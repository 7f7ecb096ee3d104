//! What the program says of lifetimes: byte for byte of a recorded watch, and held to the log of who made the connections.

#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod recorded;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use insta::assert_snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use recorded::{replay, run, watches};
use serde_json::Value;
use sockeye_tests::{Churn, ChurnPlan, Connection, How, Lives, Namespace, Phase, wait_until};
use tempfile::TempDir;

const MS: Duration = Duration::from_millis(1);

/// What times may be off beside their own doubt: milliseconds are cut off on both sides, and a busy machine reads clocks
/// late.
const SLACK_MS: u64 = 5;

/// Root over the host: its buffer for destroy events is as large as it likes.
fn namespace() -> Namespace {
    Namespace::new().host_root().deadline(Duration::from_secs(150))
}

/// What it prints of a recorded watch; it must end well.
#[track_caller]
fn printed(arguments: &str) -> String {
    let said = watches::print(watches::proxy, arguments);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "sockeye {arguments}");
    said.stdout
}

#[test]
fn formats() {
    assert_snapshot!("table", printed("lifetimes"));
    assert_snapshot!("table_colour", printed("lifetimes --color always --top 1").replace('\x1b', "␛"));
    assert_snapshot!("table_by_listener", printed("lifetimes --by listener"));
    assert_snapshot!("json", printed("lifetimes --json"));
    assert_snapshot!("json_by_destination", printed("lifetimes -o json --by destination --top 1 --for 3s"));
    let help = run("lifetimes --help");
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 100));
    assert_snapshot!("help", help.stdout);
    assert_eq!(printed("lifetimes"), printed("lifetimes"), "a replay is the same every time");
}

#[test]
fn a_log_has_a_line_for_each_interval_and_group() {
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("lifetimes.hlog");
    let capture = watches::proxy(directory.path());
    let said = replay(&capture, &format!("lifetimes --hlog {}", log.display()));
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let text = std::fs::read_to_string(&log).unwrap();
    let without_histograms: String = text
        .lines()
        .map(|line| match line.split_once("HISTF") {
            Some((numbers, _)) => format!("{numbers}HISTF…\n"),
            None => format!("{line}\n"),
        })
        .collect();
    assert_snapshot!("hlog", without_histograms);
    let nowhere = directory.path().join("absent/x.hlog");
    let said = replay(&capture, &format!("lifetimes --hlog {}", nowhere.display()));
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.contains("cannot create") && said.stderr.contains("absent/x.hlog"), "{said:?}");
}

#[test]
fn a_log_that_nobody_reads_yet_keeps_no_signal_away() {
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("fifo");
    nix::unistd::mkfifo(&log, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sockeye"))
        .args(["lifetimes", "--for", "10ms", "--hlog"])
        .arg(&log)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It waits in openat() for whoever reads.
    let doing = || std::fs::read_to_string(format!("/proc/{}/syscall", child.id())).unwrap();
    let opening = format!("{} ", libc::SYS_openat);
    let mut before = doing();
    wait_until("it is opening the log", Duration::from_secs(20), || {
        let now = doing();
        now == std::mem::replace(&mut before, now.clone()) && now.starts_with(&opening)
    });
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    wait_until("its end", Duration::from_secs(20), || child.try_wait().unwrap().is_some());
}

/// What they may be off where the program has to wait for a processor: an event is read late, and nobody knows how late.
const STARVED_MS: u64 = 500;
/// From this share of its time on.
const STARVED: f64 = 0.3;

/// What a watch told, and how it fared.
struct Watched {
    told: Value,
    /// The longest interval, milliseconds: a busy machine makes them longer.
    longest_ms: u64,
    slack_ms: u64,
}

/// Watches while `act` goes on, and what follows it for two intervals; ends with Ctrl-C.
fn watched(interval: &str, act: impl FnOnce()) -> Watched {
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("lifetimes.hlog");
    let program = Command::new(env!("CARGO_BIN_EXE_sockeye"))
        .args(["lifetimes", "--json", "--for", "120s", "--interval", interval, "--hlog"])
        .arg(&log)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("the baseline and one interval", Duration::from_secs(20), || intervals(&log) >= 1);
    act();
    let before = intervals(&log);
    wait_until("two more intervals", Duration::from_secs(20), || intervals(&log) >= before + 2);
    let waiting = waiting_share(program.id());
    eprintln!("{:.0} % of its time spent waiting for a processor", 100.0 * waiting);
    let slack_ms = if waiting >= STARVED { STARVED_MS } else { SLACK_MS };
    kill(Pid::from_raw(program.id() as i32), Signal::SIGINT).unwrap();
    let output = program.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["events_lost"], 0, "{told}");
    let text = std::fs::read_to_string(&log).unwrap();
    let lengths = text.lines().filter(|line| is_interval(line)).map(|line| line.split(',').nth(1).unwrap());
    let longest = lengths.map(|seconds| seconds.parse::<f64>().unwrap()).fold(0.0, f64::max);
    Watched { told, longest_ms: (longest * 1_000.0) as u64, slack_ms }
}

/// Share of its processor time, used and wanted, that a process spent waiting for a processor.
fn waiting_share(process: u32) -> f64 {
    let schedstat = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap();
    let mut times = schedstat.split_whitespace().map(|ns| ns.parse::<f64>().unwrap());
    let (ran, waited) = (times.next().unwrap(), times.next().unwrap());
    waited / (ran + waited)
}

/// Whole intervals in a log that is being written.
fn intervals(log: &Path) -> usize {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().filter(|line| is_interval(line)).count()
}

/// Lines of groups begin with their tag.
fn is_interval(line: &str) -> bool {
    line.starts_with(|first: char| first.is_ascii_digit())
}

/// The least and the most that each end of the connections may have lived, milliseconds: in order.
fn lives(connections: &[Connection]) -> [Vec<u64>; 2] {
    let (mut least, mut most) = (Vec::new(), Vec::new());
    for connection in connections {
        for end in connection.ends() {
            let own = connection.closed(*end).unwrap();
            // The first to close stays until the other side has closed too, which follows at once.
            let gone =
                [connection.first_close, connection.second_close].into_iter().flatten().map(|span| span.to);
            let gone = gone.max().unwrap();
            // A reset takes both ends.
            let from = connection.first_close.map_or(own.from, |first| first.from.min(own.from));
            least.push(from.saturating_duration_since(connection.opened.to).as_millis() as u64);
            most.push((gone - connection.opened.from).as_millis() as u64 + 1);
        }
    }
    least.sort_unstable();
    most.sort_unstable();
    [least, most]
}

fn quantile(sorted: &[u64], share: f64) -> u64 {
    sorted[((share * sorted.len() as f64).ceil() as usize).max(1) - 1]
}

/// Of any length from a millisecond to seconds, ended in every way, some with payload both ways.
#[test]
fn percentiles_are_within_their_uncertainty() {
    namespace().run(|| {
        let plan = ChurnPlan {
            seed: 11,
            // Before anything comes, a sweep has seen the listeners.
            phases: vec![
                Phase { per_second: 0, lasts: Duration::from_secs(2) },
                Phase { per_second: 250, lasts: Duration::from_secs(8) },
            ],
            random_arrivals: true,
            lives: Lives::LogUniform(MS, 4_000 * MS),
            mix: vec![
                (How::ClientFirst, 4),
                (How::ServerFirst, 3),
                (How::ClientResets, 2),
                (How::ServerResets, 1),
            ],
            payload: 3_000,
            destinations: 3,
            ..ChurnPlan::default()
        };
        let mut made = Vec::new();
        let Watched { told, longest_ms, slack_ms } = watched("1s", || {
            let churn = Churn::follow(&plan).unwrap();
            churn.wait().unwrap();
            made = churn.connections();
        });
        assert_eq!(told["coverage_ratio"], 1.0, "{told}");
        let [least, most] = lives(&made);
        assert_eq!(
            (told["completed"].as_u64(), &told["open"]),
            (Some(least.len() as u64), &Value::from(0)),
            "{told}"
        );
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let truth = (quantile(&least, share), quantile(&most, share));
            let number = |key: &str| told[key][name].as_u64().unwrap();
            let (ms, doubt) = (number("percentiles_ms"), number("uncertainty_ms"));
            eprintln!(
                "{name}: {ms} ms ±{doubt} told, {}–{} ms in truth, of {}",
                truth.0,
                truth.1,
                least.len()
            );
            let most = doubt + slack_ms;
            assert!(truth.1 + most >= ms && truth.0 <= ms + most, "{name} within {most} ms: {told}");
            // A birth and a death, each known to an interval at the worst.
            assert!(doubt <= 2 * longest_ms + 100, "as sure as intervals of {longest_ms} ms make it: {told}");
        }
        let groups = told["groups"].as_array().unwrap();
        let completed = |kind: &str| -> u64 {
            let of_kind = groups.iter().filter(|group| group["kind"] == kind);
            of_kind.map(|group| group["completed"].as_u64().unwrap()).sum()
        };
        // What a reset ended between two sweeps no longer tells its ends.
        let with_ends = made.iter().filter(|connection| !connection.how.is_reset()).count() as u64;
        for kind in ["listener", "destination"] {
            assert!((with_ends..=made.len() as u64).contains(&completed(kind)), "{kind}: {told}");
        }
        let all = ["listener", "destination", "other"].map(completed);
        assert_eq!(all.iter().sum::<u64>(), least.len() as u64, "{all:?}");
    });
}

/// Connections go on being opened until the watch ends, and many of the long ones have not ended by then.
#[test]
fn kaplan_meier_knows_of_those_still_open() {
    namespace().run(|| {
        let plan = ChurnPlan {
            seed: 12,
            phases: vec![Phase { per_second: 350, lasts: Duration::from_secs(9) }],
            random_arrivals: true,
            lives: Lives::LogUniform(200 * MS, 12_000 * MS),
            destinations: 4,
            ..ChurnPlan::default()
        };
        let mut churn = None;
        let Watched { told, .. } = watched("500ms", || {
            let begun = churn.insert(Churn::follow(&plan).unwrap());
            let phase = plan.phases[0].lasts;
            wait_until("the last open", Duration::from_secs(60), || begun.began().elapsed() >= phase - 1_000 * MS);
        });
        let churn = churn.unwrap();
        churn.wait().unwrap();
        // Both ends alike: the order of percentiles is that of connections.
        let [least, _] = lives(&churn.connections());
        let truth = quantile(&least, 0.5);
        let number = |key: &str| told[key]["p50"].as_u64().unwrap();
        let (plain, estimate) = (number("percentiles_ms"), number("kaplan_meier_ms"));
        eprintln!(
            "median of {} lifetimes, {} still open: {truth} ms in truth, {estimate} by Kaplan–Meier, {plain} of those completed",
            least.len(),
            told["open"]
        );
        assert!(told["open"].as_u64().unwrap() > least.len() as u64 / 5, "many are open: {told}");
        assert!(plain * 10 < truth * 7, "the plain median is more than 30 % off");
        assert!(estimate.abs_diff(truth) * 20 <= truth, "Kaplan–Meier is within 5 %");
        assert_eq!(told["warnings"][0]["id"], "lifetimes_censored");
    });
}
