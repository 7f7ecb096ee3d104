//! What we may cost: processor time saved up while nothing is read, and spent on sweeps.

use nix::time::{ClockId, clock_gettime};
use sockeye_core::Moment;

/// Credit never grows beyond what this long a rest earns: after a quiet hour there must not follow a busy one.
const MOST_SAVED_MS: f64 = 60_000.0;

/// Keeps the processor time of the whole process at a share of one processor, on average.
#[derive(Debug)]
pub(crate) struct Budget {
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
    ///
    /// Processor time is given here and below as [`processor_ms`] tells it.
    pub(crate) fn new(share: f64, at: Moment, spent_ms: f64, sweep_ms: f64) -> Budget {
        Budget { share, credit_ms: 0.0, sweep_ms, at, spent_ms }
    }

    /// As if nothing had been spent so far but so much been saved, milliseconds.
    pub(crate) fn grant(&mut self, now: Moment, spent_ms: f64, saved_ms: f64) {
        (self.at, self.spent_ms, self.credit_ms) = (now, spent_ms, saved_ms);
    }

    /// Whether a sweep can be afforded now.
    pub(crate) fn allows_sweep(&mut self, now: Moment, spent_ms: f64) -> bool {
        self.settle(now, spent_ms);
        self.credit_ms >= self.sweep_ms
    }

    /// A sweep that [`allows_sweep`](Self::allows_sweep) allowed has just been taken.
    pub(crate) fn swept(&mut self, now: Moment, spent: f64) {
        // Costs grow at once and shrink slowly: an estimate too high only delays a sweep.
        self.sweep_ms = (spent - self.spent_ms).max(self.sweep_ms * 0.9);
        self.settle(now, spent);
    }

    /// What can be spent now, milliseconds of processor time; below zero when more was spent than earned.
    pub(crate) fn credit_ms(&mut self, now: Moment, spent_ms: f64) -> f64 {
        self.settle(now, spent_ms);
        self.credit_ms
    }

    fn settle(&mut self, now: Moment, spent_ms: f64) {
        let earned = self.share * now.ms_since(self.at) as f64;
        let most = (self.share * MOST_SAVED_MS).max(self.sweep_ms);
        self.credit_ms = (self.credit_ms + earned - (spent_ms - self.spent_ms)).min(most);
        (self.at, self.spent_ms) = (now, spent_ms);
    }
}

/// Processor time of this process so far, user and kernel.
pub(crate) fn processor_ms() -> f64 {
    match clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID) {
        Ok(time) => time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6,
        // Every Linux has this clock; without it nothing would be spent.
        Err(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a process spends in `ticks` ticks of 100 ms, where a sweep costs `sweep_ms` and a tick 0.2, and how many sweeps
    /// it takes.
    fn spend(share: f64, ticks: u64, sweep_ms: impl Fn(u64) -> f64) -> (f64, u64) {
        let (mut spent, mut sweeps) = (50.0, 0);
        let mut budget = Budget::new(share, Moment(0), spent, sweep_ms(0));
        for tick in 1..=ticks {
            spent += 0.2;
            if budget.allows_sweep(Moment(tick * 100), spent) {
                spent += sweep_ms(tick);
                sweeps += 1;
                budget.swept(Moment(tick * 100), spent);
            }
        }
        (spent - 50.0, sweeps)
    }

    #[test]
    fn a_grant_makes_up_for_the_past() {
        let mut budget = Budget::new(0.1, Moment(0), 0.0, 30.0);
        assert!(!budget.allows_sweep(Moment(100), 500.0), "far beyond what was earned");
        budget.grant(Moment(100), 500.0, 65.0);
        for tick in 1..=2 {
            assert!(budget.allows_sweep(Moment(100 + tick), 500.0 + 30.0 * (tick - 1) as f64));
            budget.swept(Moment(100 + tick), 500.0 + 30.0 * tick as f64);
        }
        assert!(!budget.allows_sweep(Moment(103), 560.0), "it is spent");
    }

    #[test]
    fn sweeps_are_as_many_as_the_share_buys() {
        // 1,000 s of 2 % are 20,000 ms, less 2,000 for the ticks.
        let (spent, sweeps) = spend(0.02, 10_000, |_| 40.0);
        assert!(spent <= 20_000.0 && (440..=450).contains(&sweeps), "{spent} ms, {sweeps} sweeps");
    }

    #[test]
    fn with_enough_for_every_tick_each_has_a_sweep() {
        assert_eq!(spend(0.5, 1_000, |_| 10.0).1, 1_000);
    }

    #[test]
    fn a_sweep_that_grows_dearer_is_paid_back() {
        let (spent, sweeps) = spend(0.02, 10_000, |tick| if tick < 5_000 { 5.0 } else { 400.0 });
        assert!(spent <= 20_000.0 + 400.0, "one sweep at most was dearer than expected: {spent} ms");
        assert!(sweeps > 1_000, "{sweeps}");
    }

    #[test]
    fn what_ticks_alone_exceed_is_not_overdrawn_by_sweeps() {
        assert_eq!(spend(0.001, 10_000, |_| 10.0).1, 0);
    }

    #[test]
    fn a_rest_is_not_saved_for_ever() {
        let mut budget = Budget::new(0.1, Moment(0), 0.0, 1_000.0);
        assert!(budget.allows_sweep(Moment(3_600_000), 0.0), "an hour earned six minutes");
        let mut spent = 0.0;
        let mut sweeps = 0;
        while budget.allows_sweep(Moment(3_600_000 + sweeps), spent) {
            spent += 1_000.0;
            sweeps += 1;
            budget.swept(Moment(3_600_000 + sweeps), spent);
        }
        assert_eq!(sweeps, 6, "a minute's worth was kept");
    }
}
