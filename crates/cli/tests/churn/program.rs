//! The built program, following this namespace: started, read line by line, told to end.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

/// A command of sockeye that writes a JSON object per line.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<Value>,
    reader: JoinHandle<()>,
    errors: JoinHandle<String>,
}

impl Program {
    /// Starts it with these arguments, separated by spaces.
    pub(crate) fn start(arguments: &str) -> Program {
        Program::start_confined(arguments, |_| {})
    }

    /// Starts it after something was taken from it.
    pub(crate) fn start_confined(arguments: &str, confine: impl FnOnce(&mut Command)) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sockeye"));
        command.args(arguments.split_whitespace()).stdin(Stdio::null());
        confine(&mut command);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        let reader = thread::spawn(move || read_lines(out, &sender));
        Program { child, lines, reader, errors: thread::spawn(move || read_all(err)) }
    }

    /// Waits for the next line.
    pub(crate) fn line(&self) -> Value {
        self.lines.recv_timeout(Duration::from_secs(30)).expect("a line within 30 s")
    }

    /// The lines that have come and nobody has read.
    pub(crate) fn lines_so_far(&self) -> Vec<Value> {
        self.lines.try_iter().collect()
    }

    /// Its processor time until now.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields 14 and 15, counted from after the name in parentheses: clock ticks, 100 a second.
        let after = stat.rsplit_once(')').unwrap().1;
        let ticks = |at: usize| after.split_whitespace().nth(at).unwrap().parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / 100.0
    }

    /// Resident memory, bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.child.id())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// Tells it to end, as Ctrl-C does, and returns the lines that nobody has read yet. It must have had nothing to
    /// complain of but `complaint`.
    pub(crate) fn end(mut self, complaint: &str) -> Vec<Value> {
        let process = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
        let status = self.child.wait().unwrap();
        self.reader.join().unwrap();
        let errors = self.errors.join().unwrap();
        assert_eq!(status.code(), Some(0));
        let is_expected = !complaint.is_empty() && errors.lines().count() == 1 && errors.contains(complaint);
        assert!(errors.is_empty() || is_expected, "{errors}");
        self.lines.try_iter().collect()
    }
}

fn read_lines(out: ChildStdout, lines: &mpsc::Sender<Value>) {
    for line in BufReader::new(out).lines() {
        let line = line.unwrap();
        let value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if lines.send(value).is_err() {
            return;
        }
    }
}

fn read_all(mut err: ChildStderr) -> String {
    let mut text = String::new();
    err.read_to_string(&mut text).unwrap();
    text
}

/// A number of a line.
#[track_caller]
pub(crate) fn number(line: &Value, key: &str) -> u64 {
    line[key].as_u64().unwrap_or_else(|| panic!("{key} of {line}"))
}
