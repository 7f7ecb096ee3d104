//! How long a thread had to wait for a processor although it could have run.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};

/// Room for three numbers of 20 digits.
const ROOM: usize = 64;

/// The calling thread's time in run queues, from `/proc/thread-self/schedstat`. Whoever waited for something takes what
/// this grew by for the time between its coming and being told.
///
/// A virtual machine's own waiting for a processor is not in it.
#[derive(Debug)]
pub struct RunDelay {
    file: File,
}

impl RunDelay {
    /// Opens the file of the thread that calls; it stays that thread's.
    ///
    /// # Errors
    /// The file is not there (a kernel without `CONFIG_SCHED_INFO`, no `/proc`).
    pub fn open() -> Result<RunDelay> {
        let path = PathBuf::from("/proc/thread-self/schedstat");
        match File::open(&path) {
            Ok(file) => Ok(RunDelay { file }),
            Err(source) => Err(Error::Unreadable { path, source }),
        }
    }

    /// Since the thread began; None where the kernel does not count it. Cost: one small read, a microsecond or two.
    pub fn total(&self) -> Option<Duration> {
        let mut bytes = [0; ROOM];
        let length = self.file.read_at(&mut bytes, 0).ok()?;
        parse(std::str::from_utf8(bytes.get(..length)?).ok()?)
    }
}

/// Of "time on a processor, time in run queues, times": nanoseconds.
fn parse(text: &str) -> Option<Duration> {
    text.split_ascii_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_number_is_the_time_in_run_queues() {
        assert_eq!(parse("1047912 5584360 5\n"), Some(Duration::from_nanos(5_584_360)));
        assert_eq!(parse("1047912"), None);
        assert_eq!(parse("1 -2 3"), None);
    }

    #[test]
    fn it_grows_while_others_have_the_processor() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let delay = RunDelay::open().unwrap();
        let before = delay.total().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // More that want to run than any machine of ours has processors.
            for _ in 0..2 * std::thread::available_parallelism().unwrap().get() {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let deadline = std::time::Instant::now() + Duration::from_secs(30);
            while delay.total().unwrap() - before < Duration::from_millis(5) {
                assert!(std::time::Instant::now() < deadline, "no delay in 30 s of a busy machine");
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
