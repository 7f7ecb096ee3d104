//! What we may cost: processor time saved up while nothing is read, and spent on sweeps.

use nix::time::{ClockId, clock_gettime};
use sockeye_core::Moment;

/// Credit never grows beyond what this long a rest earns: after a quiet hour there must not follow a busy one.
const MOST_SAVED_MS: f64 = 60_000.0;

/// Keeps the processor time of the whole process at a share of one processor, on average.
#[derive(Debug)]
pub(super) struct Budget {
    share: f64,
    /// Unspent processor time, milliseconds; below zero when more was spent than earned.
    credit_ms: f64,
    /// What a sweep is expected to cost: the dearest of late.
    sweep_ms: f64,
    at: Moment,
    spent_ms: f64,
}

impl Budget {
    /// From now on, with nothing saved; a sweep is known to have cost `sweep_ms`.
    pub(super) fn new(share: f64, at: Moment, sweep_ms: f64) -> Budget {
        Budget { share, credit_ms: 0.0, sweep_ms, at, spent_ms: processor_ms() }
    }

    /// Whether a sweep can be afforded now.
    pub(super) fn allows_sweep(&mut self, now: Moment) -> bool {
        self.settle(now, processor_ms());
        self.credit_ms >= self.sweep_ms
    }

    /// A sweep has just been taken.
    pub(super) fn swept(&mut self, now: Moment) {
        let spent = processor_ms();
        // Costs grow at once and shrink slowly: an estimate too high only delays a sweep.
        self.sweep_ms = (spent - self.spent_ms).max(self.sweep_ms * 0.9);
        self.settle(now, spent);
    }

    fn settle(&mut self, now: Moment, spent_ms: f64) {
        let earned = self.share * now.ms_since(self.at) as f64;
        let most = (self.share * MOST_SAVED_MS).max(self.sweep_ms);
        self.credit_ms = (self.credit_ms + earned - (spent_ms - self.spent_ms)).min(most);
        (self.at, self.spent_ms) = (now, spent_ms);
    }
}

/// Processor time of this process so far, user and kernel.
pub(super) fn processor_ms() -> f64 {
    match clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID) {
        Ok(time) => time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6,
        // Every Linux has this clock; without it nothing would be spent.
        Err(_) => 0.0,
    }
}
