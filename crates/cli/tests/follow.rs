//! watch and closes as programs: usage, pace, signals, closed pipes, captures over time, surroundings, and what they cost.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod confined;
mod recorded;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use recorded::{Said, hosts, replay, run, sockeye};
use serde_json::Value;
use sockeye_tests::{Churn, Load, Namespace, Phase, in_namespace, within};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(30);

/// A program that goes on until it is stopped, and its output.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Running { child, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "it ended: {line:?}");
        line
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the end, which must come soon; what was not read yet, exit code, stderr. It prints less than a pipe holds.
    fn end(mut self) -> Said {
        if within(LIMIT, || self.child.try_wait().unwrap()).is_none() {
            self.child.kill().unwrap();
            panic!("it does not end");
        }
        let mut stdout = String::new();
        self.out.read_to_string(&mut stdout).unwrap();
        let output = self.child.wait_with_output().unwrap();
        let code = output.status.code().unwrap_or_else(|| panic!("{:?}", output.status));
        Said { code, stdout, stderr: String::from_utf8(output.stderr).unwrap() }
    }
}

#[track_caller]
fn printed(command: &mut Command) -> String {
    let said: Said = command.stdin(Stdio::null()).output().unwrap().into();
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{command:?}: {said:?}");
    said.stdout
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn at(line: &Value) -> jiff::Timestamp {
    line["at"].as_str().unwrap().parse().unwrap()
}

// Usage.

#[test]
fn wrong_usage_is_told_on_stderr() {
    for (arguments, word) in [
        ("watch 0", "between 1ms and a year"),
        ("watch 5ms", "10ms at least"),
        ("watch soon", "500ms, 10s, 5m"),
        ("watch 1 0", "0"),
        ("watch 1 2 3", "unexpected"),
        ("watch -o xml", "possible values"),
        ("watch --json -o csv", "cannot be used with"),
        ("watch --cpu-budget 0%", "more than 0%"),
        ("watch --cpu-budget 200%", "at most 100%"),
        ("watch --for 0", "between 1ms and a year"),
        ("watch --capture a --replay b", "cannot be used with"),
        ("closes --count 0", "0"),
        ("closes dport = :x:", "cannot read the filter"),
        ("closes state established", "cannot filter closes by state"),
        ("closes not state time-wait or dport = 443", "cannot filter closes by state"),
        ("closes sport = 1 and fwmark 1", "cannot filter closes by fwmark"),
        ("closes dport = 1 or not autobound", "cannot filter closes by autobound"),
        ("closes cgroup id:1", "cannot filter closes by cgroup"),
        ("closes dev id:1", "cannot filter closes by dev"),
        ("watch -N no-such-namespace", "no network namespace"),
    ] {
        let said = run(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments}: {said:?}");
        assert!(said.stderr.contains(word), "{arguments}: {said:?}");
    }
}

#[test]
fn a_single_look_is_nothing_to_follow() {
    let directory = TempDir::new().unwrap();
    let capture = hosts::idle().capture(directory.path());
    for arguments in ["watch", "closes"] {
        let said = replay(&capture, arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{said:?}");
        assert!(said.stderr.contains("a single look") && said.stderr.contains("sockeye watch"), "{said:?}");
    }
}

#[test]
fn a_watch_can_be_looked_at_as_a_snapshot() {
    let directory = TempDir::new().unwrap();
    let capture = recorded::watches::proxy(directory.path());
    let snapshot: Value = serde_json::from_str(&replay(&capture, "--json").stdout).unwrap();
    assert_eq!((&snapshot["sweep"]["sockets"], &snapshot["states"]["established"]), (&7.into(), &5.into()));
    assert_eq!(replay(&capture, "sockets -ta -o jsonl").stdout.lines().count(), 6);
}

#[test]
fn single_looks_put_together_can_be_followed() {
    // As captures of several sweeps were written before watches were: without the watch's own clock.
    let directory = TempDir::new().unwrap();
    let capture = recorded::watches::looks(directory.path());
    let lines = json_lines(&replay(&capture, "watch --json").stdout);
    assert_eq!(lines.len(), 2);
    assert!(at(&lines[1]) > at(&lines[0]));
}

// Pace and end.

#[test]
fn count_and_time_end_it() {
    Namespace::new().without_privilege().run(|| {
        let start = Instant::now();
        let lines = json_lines(&printed(&mut sockeye("watch 100ms 4 --json")));
        assert_eq!(lines.len(), 4);
        assert!(start.elapsed() >= Duration::from_millis(400), "four intervals of 100 ms");
        assert!(lines.windows(2).all(|pair| at(&pair[0]) < at(&pair[1])), "time goes on");
        let first = at(&lines[0]);
        let last = at(&lines[3]).duration_since(first).as_millis();
        // The first may be late on a busy machine; the others keep to the schedule.
        assert!(last >= 150, "they keep their distance: {last} ms");

        let start = Instant::now();
        let lines = printed(&mut sockeye("watch 10s --for 300ms -H"));
        assert_eq!(lines.lines().count(), 1, "a last tick at the end: {lines}");
        assert!((Duration::from_millis(300)..Duration::from_secs(9)).contains(&start.elapsed()));
        assert_eq!(printed(&mut sockeye("closes --for 50ms -o jsonl")), "");
    });
}

#[test]
fn signals_end_it_with_whole_lines() {
    in_namespace(|| {
        let directory = TempDir::new().unwrap();
        for (signal, arguments) in [
            (Signal::SIGINT, "watch 50ms --json"),
            (Signal::SIGTERM, "watch 50ms --json"),
            (Signal::SIGINT, "watch 50ms -o csv"),
        ] {
            let capture = directory.path().join("kept.sockeye");
            let mut command = sockeye(arguments);
            command.arg("--capture").arg(&capture);
            let mut running = Running::start(command);
            let mut text = running.line() + &running.line();
            running.signal(signal);
            let said = running.end();
            assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{signal} {arguments}");
            text += &said.stdout;
            assert!(text.ends_with('\n'), "{text:?}");
            // The capture is whole, and holds what was shown.
            assert_eq!(replay(&capture, arguments).stdout, text, "{signal} {arguments}");
            fs::remove_file(&capture).unwrap();
        }
        // One that waits for closes, of which there are none.
        let mut running = Running::start(sockeye("closes --interval 60s"));
        assert!(running.line().starts_with("TIME"), "the header does not wait");
        running.signal(Signal::SIGTERM);
        let said = running.end();
        assert_eq!((said.code, said.stdout.as_str(), said.stderr.as_str()), (0, "", ""));
    });
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    in_namespace(|| {
        for arguments in ["watch 20ms", "watch 20ms --json", "watch 20ms -o csv"] {
            let mut running = Running::start(sockeye(arguments));
            running.line();
            let Running { mut child, out } = running;
            drop(out);
            assert!(within(LIMIT, || child.try_wait().unwrap()).is_some(), "it does not end");
            let output = child.wait_with_output().unwrap();
            assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{arguments}");
        }
    });
}

#[test]
fn a_full_disk_is_an_error() {
    let directory = TempDir::new().unwrap();
    let capture = recorded::watches::proxy(directory.path());
    for arguments in ["watch", "watch --json", "watch -o csv", "closes", "closes -o csv"] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut command = sockeye(arguments);
        let said: Said = command.arg("--replay").arg(&capture).stdout(full).output().unwrap().into();
        assert_eq!(said.code, 2, "{arguments}: {said:?}");
        assert!(said.stderr.contains("writing to standard output: No space left on device"), "{said:?}");
    }
}

// Captures.

#[test]
fn a_capture_that_tells_impossible_times_is_no_panic() {
    let directory = TempDir::new().unwrap();
    let times = [0, 1, 86_400_000, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    for (began, ended) in times.iter().flat_map(|began| times.map(|ended| (*began, ended))) {
        let capture = recorded::watches::at_times(directory.path(), began, ended);
        for arguments in
            ["watch", "watch --json", "watch -o csv", "closes", "closes --json", "watch --for 1s"]
        {
            let said = replay(&capture, arguments);
            assert_eq!(said.code, 0, "{began} {ended} {arguments}: {said:?}");
        }
    }
}

#[test]
fn a_watch_of_the_beginning_alone_has_no_line() {
    let directory = TempDir::new().unwrap();
    let capture = recorded::watches::Watch::begin(directory.path(), &hosts::idle()).finish();
    assert_eq!(replay(&capture, "watch --json").stdout, "");
    assert_eq!(replay(&capture, "closes -H").stdout, "");
}

/// Connections that come and go for so long.
fn churn(lasts: Duration) -> Churn {
    Churn::start(&[Phase { per_second: 200, lasts }], 3).unwrap()
}

#[test]
fn what_was_watched_is_replayed_byte_for_byte() {
    in_namespace(|| {
        let directory = TempDir::new().unwrap();
        for arguments in [
            "watch 200ms 4 --json",
            "watch 150ms 3",
            "watch 200ms 3 -o csv",
            "closes --for 700ms --interval 200ms --json",
            "closes --for 700ms --interval 200ms",
            "closes --for 700ms --interval 200ms -o csv dst 127.0.3.0/24",
            "watch 50ms --for 700ms --json --cpu-budget 1%",
        ] {
            let _churn = churn(Duration::from_secs(60));
            let capture = directory.path().join("watch.sockeye");
            let mut command = sockeye(arguments);
            let live: Said = command.arg("--capture").arg(&capture).output().unwrap().into();
            assert_eq!((live.code, live.stderr.as_str()), (0, ""), "{arguments}");
            let replayed = replay(&capture, arguments);
            for (number, (replayed, live)) in replayed.stdout.lines().zip(live.stdout.lines()).enumerate() {
                assert_eq!(replayed, live, "line {number} of sockeye {arguments}");
            }
            assert_eq!(replayed.stdout.len(), live.stdout.len(), "sockeye {arguments}: {}", replayed.stderr);
            assert_eq!((replayed.code, replayed.stderr.as_str()), (0, ""), "{arguments}");
            assert!(replay(&capture, arguments).stdout == replayed.stdout, "and again: {arguments}");
        }
    });
}

#[test]
fn without_events_closes_are_asked_for_and_that_is_captured() {
    in_namespace(|| {
        let directory = TempDir::new().unwrap();
        let capture = directory.path().join("watch.sockeye");
        let listener = TcpListener::bind("127.0.0.1:20000").unwrap();
        let open: Vec<_> = (0..20)
            .map(|_| (TcpStream::connect("127.0.0.1:20000").unwrap(), listener.accept().unwrap()))
            .collect();
        let arguments = "closes --interval 50ms --count 40 --json";
        let mut command = sockeye(arguments);
        confined::forbid_memberships(&mut command, libc::EPERM);
        command.arg("--capture").arg(&capture);
        let mut running = Running::start(command);
        // It says so before its first look; the closes must come after that.
        let mut said = String::new();
        let mut stderr = BufReader::new(running.child.stderr.take().unwrap());
        stderr.read_line(&mut said).unwrap();
        assert!(said.contains("going on without destroy events"), "{said}");
        stderr.read_line(&mut said).unwrap();
        assert!(said.contains("destroy events are not heard"), "a tick has been: {said}");
        // The client's ends leave a TIME_WAIT each, the server's leave nothing.
        drop(open);
        let mut text = String::new();
        (0..40).for_each(|_| text.push_str(&running.line()));
        assert_eq!(running.end().code, 0);
        let evidence =
            |wanted: &str| json_lines(&text).iter().filter(|line| line["evidence"] == wanted).count();
        assert_eq!((evidence("time_wait"), evidence("lookup")), (20, 20), "{text}");
        let replayed = replay(&capture, arguments);
        assert_eq!((replayed.code, replayed.stdout), (0, text), "lookups are part of the capture");
    });
}

// Surroundings.

#[test]
fn without_destroy_events_it_goes_on_and_says_so() {
    in_namespace(|| {
        let mut command = sockeye("watch 50ms 2 --json");
        confined::forbid_memberships(&mut command, libc::EPERM);
        let said: Said = command.output().unwrap().into();
        assert_eq!(said.code, 0, "{said:?}");
        assert!(said.stderr.contains("going on without destroy events: subscribing"), "{said:?}");
        for line in json_lines(&said.stdout) {
            assert!(line["warnings"].to_string().contains("no_events"), "{line}");
        }
    });
}

#[test]
fn another_namespace_is_watched_with_its_own_settings() {
    Namespace::new().port_range("40000 40099").run(|| {
        let listener = TcpListener::bind("127.0.0.1:20000").unwrap();
        let _open = (TcpStream::connect("127.0.0.1:20000").unwrap(), listener.accept().unwrap());
        let mut command = sockeye(&format!("watch 100ms --json -N {}", std::process::id()));
        confined::elsewhere(&mut command);
        let mut running = Running::start(command);
        let line: Value = serde_json::from_str(&running.line()).unwrap();
        assert_eq!((&line["worst"]["in_use"], &line["pool"]["range"]), (&1.into(), &100.into()), "{line}");
        // Changed while it looks: honoured a second later.
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40199").unwrap();
        let deadline = Instant::now() + LIMIT;
        loop {
            let line: Value = serde_json::from_str(&running.line()).unwrap();
            if line["pool"]["range"] == 200 {
                break;
            }
            assert!(Instant::now() < deadline, "{line}");
        }
        running.signal(Signal::SIGINT);
        assert_eq!(running.end().code, 0);
    });
}

#[test]
fn counters_are_those_of_the_namespace_that_is_watched() {
    in_namespace(|| {
        let listener = TcpListener::bind("127.0.0.1:20000").unwrap();
        let _open: Vec<_> = (0..7)
            .map(|_| (TcpStream::connect("127.0.0.1:20000").unwrap(), listener.accept().unwrap()))
            .collect();
        let directory = TempDir::new().unwrap();
        let capture = directory.path().join("watch.sockeye");
        let mut command = sockeye(&format!("watch 50ms 1 --json -N {}", std::process::id()));
        confined::elsewhere(&mut command);
        printed(command.arg("--capture").arg(&capture));
        let mut replay = sock_diag::Replay::open(fs::File::open(&capture).unwrap()).unwrap();
        assert_eq!(replay.sweeps(), 3, "two readings of the beginning and a tick");
        loop {
            let context: Value = serde_json::from_slice(&replay.context().unwrap()).unwrap();
            assert_eq!(context["counters"]["active_opens"], 7, "{context}");
            assert_eq!(context["counters"]["passive_opens"], 7, "{context}");
            if !replay.next_sweep() {
                break;
            }
        }
    });
}

#[test]
fn bound_sockets_hold_their_ports_in_sweeps_that_do_not_read_them() {
    Namespace::new().deadline(Duration::from_secs(120)).run(|| {
        // More sockets than the bind hash is walked for at every sweep.
        let _load = Load::established(11_000, 4).unwrap();
        let bound = nix_bound(40_000);
        let before = json_lines(&printed(&mut sockeye("watch 10ms 14 --json --top 0")));
        let held = |line: &Value| line["pool"]["held"].as_u64().unwrap();
        assert!(before.iter().all(|line| held(line) == held(&before[0]) && held(line) >= 1), "{before:?}");
        drop(bound);
        let after = json_lines(&printed(&mut sockeye("watch 10ms 1 --json --top 0")));
        assert_eq!(held(&after[0]) + 1, held(&before[0]));
    });
}

/// A socket that is bound to this port and nothing more.
fn nix_bound(port: u16) -> std::os::fd::OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    socket
}

// Cost.

/// Processor time of the children that have ended.
fn children_ms() -> i64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds()
}

#[test]
fn a_budget_is_kept_among_many_sockets() {
    Namespace::new().deadline(Duration::from_secs(180)).run(|| {
        let _load = Load::established(20_000, 4).unwrap();
        let cost = |arguments: &str| {
            let before = children_ms();
            let lines = json_lines(&printed(&mut sockeye(arguments)));
            (children_ms() - before, lines)
        };
        let (beginning, _) = cost("watch 10ms 1 --json --top 0");
        let (all, lines) = cost("watch 100ms --for 10s --cpu-budget 5% --json --top 0");
        let sweeps = lines.iter().filter(|line| !line["swept_ms"].is_null()).count();
        eprintln!(
            "beginning {beginning} ms, 10 s with a budget of 5 %: {all} ms, {} ticks, {sweeps} sweeps",
            lines.len()
        );
        // 500 ms and the beginning, of which one sweep is taken off twice at most.
        assert!(all <= 500 + beginning + beginning / 2, "{all} ms");
        assert!(lines.len() > 50, "ticks go on without sweeps: {}", lines.len());
        assert!(sweeps >= 1 && sweeps < lines.len(), "{sweeps} sweeps");
        assert!(lines.iter().all(|line| line["worst"]["in_use"].as_u64() > Some(1_000)), "port truth stays");
    });
}
