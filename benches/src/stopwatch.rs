//! Time of this thread: by the clock on the wall, and on a processor.
//!
//! On a busy machine only the second tells of the work: a sweep never sleeps, it waits for a processor at most.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::contest::Sample;

/// Runs `work` on this thread and tells how long it took.
///
/// # Errors
/// Those of `work`.
pub fn timed(work: impl FnOnce() -> Result<()>) -> Result<Sample> {
    let (wall, processor) = (Instant::now(), thread_time());
    work()?;
    Ok(Sample { processor: thread_time() - processor, wall: wall.elapsed(), cost: None })
}

fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime fills the timespec, which lives through the call; this clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_takes_no_processor() {
        let sample = timed(|| {
            std::thread::sleep(Duration::from_millis(50));
            Ok(())
        });
        let Sample { wall, processor, .. } = sample.unwrap();
        assert!(wall >= Duration::from_millis(50) && processor < Duration::from_millis(25), "{processor:?}");
    }

    #[test]
    fn work_takes_processor() {
        let start = Instant::now();
        let sample = timed(|| {
            // Work is done when this thread's own clock has moved on, however busy the machine is.
            let begun = thread_time();
            while thread_time() - begun < Duration::from_millis(5) {
                std::hint::spin_loop();
            }
            Ok(())
        });
        let Sample { wall, processor, .. } = sample.unwrap();
        assert!(processor >= Duration::from_millis(5) && wall <= start.elapsed());
    }
}
