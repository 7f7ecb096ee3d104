//! `sockeye watch --all-netns` as it runs: its intervals, and what it takes of the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde_json::Value;
use sockeye_tests::{wait_until, within};

/// Nothing here takes so long.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A watch, line by line.
pub(crate) struct Watching {
    child: Child,
    out: BufReader<ChildStdout>,
    ended: Arc<AtomicBool>,
    /// Looks all the time: what is taken at a tick is given back by its end.
    looks: JoinHandle<Taken>,
}

/// One interval.
pub(crate) struct Interval {
    pub(crate) lines: Vec<Value>,
    pub(crate) sum: Value,
}

/// What the process takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) threads: u64,
    pub(crate) descriptors: usize,
    pub(crate) resident_kib: u64,
}

impl Watching {
    pub(crate) fn start(arguments: &[&str]) -> Watching {
        Watching::run(Watching::command(arguments))
    }

    pub(crate) fn command(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockeye"));
        command.args(["watch", "--all-netns", "--json"]).args(arguments);
        command
    }

    pub(crate) fn run(mut command: Command) -> Watching {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let (id, ended) = (child.id(), Arc::new(AtomicBool::new(false)));
        let is_over = Arc::clone(&ended);
        let looks = thread::spawn(move || {
            // Until then it has the test's own descriptors: the kernel closes them a moment after spawn() is through.
            wait_until("it is itself", LIMIT, || {
                fs::read_to_string(format!("/proc/{id}/comm")).is_ok_and(|comm| comm == "sockeye\n")
            });
            let mut most = Taken { threads: 0, descriptors: 0, resident_kib: 0 };
            while !is_over.load(Ordering::Relaxed) {
                most = Taken::by(id).map_or(most, |now| most.or_more(now));
                thread::sleep(Duration::from_millis(2));
            }
            most
        });
        Watching { child, out, ended, looks }
    }

    /// The next interval, whole.
    pub(crate) fn interval(&mut self) -> Interval {
        let mut lines = Vec::new();
        loop {
            let mut text = String::new();
            self.out.read_line(&mut text).unwrap();
            let line: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
            match line["schema"].as_str().unwrap() {
                "sockeye.watch_all/1" => return Interval { lines, sum: line },
                "sockeye.watch/1" => lines.push(line),
                other => panic!("{other}"),
            }
        }
    }

    /// Intervals until one is as it should be, which must come soon.
    pub(crate) fn until(&mut self, what: &str, is_right: impl Fn(&Interval) -> bool) -> Interval {
        let began = Instant::now();
        loop {
            let interval = self.interval();
            if is_right(&interval) {
                return interval;
            }
            assert!(began.elapsed() < LIMIT, "never {what}; last: {:?} {}", interval.live(), interval.sum);
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Of now.
    pub(crate) fn taken(&self) -> Taken {
        Taken::by(self.id()).unwrap()
    }

    /// What it has used so far, of all processors together.
    pub(crate) fn processor_time(&self) -> Duration {
        let ticks = sysconf(SysconfVar::CLK_TCK).unwrap().unwrap();
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // utime and stime are the 14th and 15th field; the second may hold spaces, and ends with the last parenthesis.
        let fields = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().skip(11);
        let used: i64 = fields.take(2).map(|field| field.parse::<i64>().unwrap()).sum();
        Duration::from_secs_f64(used as f64 / ticks as f64)
    }

    /// Ends it as Ctrl-C does; it must end well. The most it ever took.
    pub(crate) fn end(mut self) -> Taken {
        // What it still writes must not stand in its way.
        drop(self.out);
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT);
        let status = within(LIMIT, || self.child.try_wait().unwrap());
        assert_eq!(status.and_then(|status| status.code()), Some(0));
        self.ended.store(true, Ordering::Relaxed);
        self.looks.join().unwrap()
    }
}

impl Interval {
    /// Live connections of the namespaces that have names.
    pub(crate) fn live(&self) -> BTreeMap<String, u64> {
        let named = self.lines.iter().filter_map(|line| Some((line["netns"]["name"].as_str()?, line)));
        named.map(|(name, line)| (name.to_owned(), line["live"].as_u64().unwrap())).collect()
    }
}

impl Taken {
    /// By a process, now; None when it has ended.
    fn by(id: u32) -> Option<Taken> {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_ascii_whitespace().nth(1)?.parse().ok()
        };
        Some(Taken {
            threads: number("Threads:")?,
            descriptors: fs::read_dir(format!("/proc/{id}/fd")).ok()?.count(),
            resident_kib: number("VmRSS:")?,
        })
    }

    fn or_more(self, other: Taken) -> Taken {
        Taken {
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
            resident_kib: self.resident_kib.max(other.resident_kib),
        }
    }
}
