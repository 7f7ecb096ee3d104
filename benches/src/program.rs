//! A program run to its end, and what the kernel charged for it.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::contest::Sample;

/// What one run of a program used, all its threads and children it waited for together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cost {
    /// Time on a processor, in the program itself.
    pub user: Duration,
    /// Time on a processor, in the kernel.
    pub system: Duration,
    /// Largest resident set, bytes. Never less than [`own_peak_bytes`] was at the start: the kernel counts the copy of
    /// us that the new process is before it becomes the program.
    pub peak_bytes: u64,
}

/// A command line whose output nobody reads.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<String>,
}

impl Program {
    /// The program at `path` (or of that name in PATH), with arguments separated by spaces.
    pub fn new(path: impl Into<PathBuf>, arguments: &str) -> Program {
        Program { path: path.into(), arguments: arguments.split_whitespace().map(str::to_owned).collect() }
    }

    /// Runs it with its output going to /dev/null.
    ///
    /// # Errors
    /// It could not be started, or did not succeed.
    pub fn run(&self) -> Result<Sample> {
        let start = Instant::now();
        let child = Command::new(&self.path)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", self.path.display()))?;
        let (status, usage) = wait(child.id() as libc::pid_t).context("waiting for a program")?;
        let wall = start.elapsed();
        let what = || format!("{} {}", self.path.display(), self.arguments.join(" "));
        ensure!(status == 0, "{}: wait status {status:#x}", what());
        let cost = Cost {
            user: duration(usage.ru_utime),
            system: duration(usage.ru_stime),
            // In KiB, getrusage(2).
            peak_bytes: usage.ru_maxrss as u64 * 1024,
        };
        Ok(Sample { wall, processor: cost.user + cost.system, cost: Some(cost) })
    }
}

/// Reaps a child of ours: its wait status and what it used.
fn wait(process: libc::pid_t) -> io::Result<(i32, libc::rusage)> {
    let mut status = 0;
    // SAFETY: a rusage is plain data; zero is a valid value of it.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: wait4 fills the two values, which live through the call.
        match unsafe { libc::wait4(process, &mut status, 0, &mut usage) } {
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            _ => return Ok((status, usage)),
        }
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
}

/// The largest resident set this process has had so far, bytes (VmHWM).
///
/// # Errors
/// /proc is not mounted.
pub fn own_peak_bytes() -> Result<u64> {
    own_status("VmHWM:")
}

/// What is resident of this process now, bytes.
///
/// # Errors
/// /proc could not be read.
pub fn own_resident_bytes() -> Result<u64> {
    own_status("VmRSS:")
}

fn own_status(field: &'static str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {field} in /proc/self/status"))? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_has_costs() {
        // A shell doubling a string to 16 MiB needs memory and time of its own.
        let doubling = "x=0123456789abcdef;n=0;while [ $n -lt 20 ];do x=$x$x;n=$((n+1));done";
        let program = Program { path: "sh".into(), arguments: vec!["-c".to_owned(), doubling.to_owned()] };
        let sample = program.run().unwrap();
        let cost = sample.cost.unwrap();
        assert!(cost.peak_bytes > 16 << 20, "{cost:?}");
        assert!(sample.processor == cost.user + cost.system && sample.processor > Duration::ZERO);
    }

    #[test]
    fn what_does_not_run_is_an_error() {
        let error = Program::new("no-such-program-here", "").run().unwrap_err();
        assert_eq!(error.to_string(), "cannot run no-such-program-here");
        assert!(Program::new("false", "").run().unwrap_err().to_string().contains("0x100"));
    }

    #[test]
    fn our_own_peak_is_plausible() {
        let before = own_peak_bytes().unwrap();
        let block = std::hint::black_box(vec![1_u8; 32 << 20]);
        assert!(own_peak_bytes().unwrap() >= before.max(block.len() as u64));
    }
}
