//! What is kept of the lifetimes of one group, and what is told of it.

use hashbrown::HashMap;

use crate::moment::Lifetime;

use super::scale::{LONGEST_MS, Scale};
use super::survival::{Span, Survival};
use super::{Bar, Bounded, Group, GroupLifetimes, Percentiles};

/// Different pairs of bounds that are kept; with more, bins become twice as wide.
const MOST_PAIRS: usize = 3_584;

/// Bounds as close as this come from clocks that are read a little late, and lie around the truth wherever it is: their
/// middle is right on average. Wider ones come from sweeps, which do not move with the truth: what the others say of it
/// is worth more.
const CLOCKS_MS: u64 = 50;

/// Where bars begin, milliseconds: round numbers for people.
const BARS: [u64; 25] = [
    0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 60_000, 120_000, 300_000,
    600_000, 1_800_000, 3_600_000, 7_200_000, 21_600_000, 43_200_000, LONGEST_MS,
];

/// Ended connections of one group.
pub(super) struct Tally {
    /// Lower bounds alone and upper bounds alone: their percentiles enclose those of the truth.
    least: Counts,
    most: Counts,
    /// Both bounds of each connection, or their middle where they are close, as bins of `scale`.
    pairs: HashMap<[u16; 2], u32>,
    scale: Scale,
    /// Lower bounds of those that have no other.
    older: Counts,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            least: Counts::new(Scale::BOUNDS),
            most: Counts::new(Scale::BOUNDS),
            pairs: HashMap::new(),
            scale: Scale::FINEST,
            older: Counts::new(Scale::FINEST),
        }
    }

    pub(super) fn record(&mut self, lifetime: Lifetime, connections: u32) {
        let lifetime = Scale::BOUNDS.around(lifetime);
        let Some(max_ms) = lifetime.max_ms else {
            self.older.add(lifetime.min_ms, connections);
            return;
        };
        self.least.add(lifetime.min_ms, connections);
        self.most.add(max_ms, connections);
        let pair = match max_ms - lifetime.min_ms {
            0..=CLOCKS_MS => [lifetime.min_ms.midpoint(max_ms); 2],
            _ => [lifetime.min_ms, max_ms],
        };
        let pair = pair.map(|ms| self.scale.bin(ms));
        let count = self.pairs.entry(pair).or_insert(0);
        *count = count.saturating_add(connections);
        while self.pairs.len() > MOST_PAIRS {
            let Some(coarser) = self.scale.coarser() else { break };
            self.widen(coarser);
        }
    }

    fn widen(&mut self, coarser: Scale) {
        let mut pairs: HashMap<[u16; 2], u32> = HashMap::with_capacity(self.pairs.len() / 2);
        for (pair, count) in self.pairs.drain() {
            let sum = pairs.entry(pair.map(|bin| coarser.bin(self.scale.start(bin)))).or_insert(0);
            *sum = sum.saturating_add(count);
        }
        (self.pairs, self.scale) = (pairs, coarser);
    }

    /// What is told of the group, with its open connections by age.
    pub(super) fn report(&self, group: Option<Group>, open: &Counts) -> GroupLifetimes {
        let mut spans: Vec<Span> = self
            .pairs
            .iter()
            .map(|([first, last], count)| Span { first: *first, last: *last, count: *count })
            .collect();
        // Sums of fractions depend on the order.
        spans.sort_unstable_by_key(|span| (span.first, span.last));
        let nothing = vec![0; self.scale.len()];
        let mut censored = nothing.clone();
        self.older.pour_into(&mut censored, self.scale);
        open.pour_into(&mut censored, self.scale);
        let completed = self.least.total();
        let plain = (completed > 0).then(|| Survival::estimate(self.scale, &spans, &nothing));
        let all = Survival::estimate(self.scale, &spans, &censored);
        GroupLifetimes {
            group,
            completed,
            older: self.older.total(),
            open: open.total(),
            completed_ms: plain.as_ref().map(|plain| self.percentiles(plain)),
            kaplan_meier_ms: Percentiles::SHARES.map(|share| all.quantile(share)),
            bars: plain.map(|plain| bars(&plain, completed)).unwrap_or_default(),
        }
    }

    fn percentiles(&self, plain: &Survival) -> Percentiles {
        let [p50, p90, p99, p999] = Percentiles::SHARES.map(|share| {
            let (min_ms, max_ms) = (self.least.quantile(share).0, self.most.quantile(share).1);
            let ms = plain.quantile(share).unwrap_or(max_ms).clamp(min_ms, max_ms);
            Bounded { ms, min_ms, max_ms }
        });
        Percentiles { p50, p90, p99, p999 }
    }
}

/// How many values fell into each bin of a scale; as long as the largest needs.
pub(super) struct Counts {
    scale: Scale,
    bins: Vec<u32>,
}

impl Counts {
    pub(super) fn new(scale: Scale) -> Counts {
        Counts { scale, bins: Vec::new() }
    }

    pub(super) fn add(&mut self, ms: u64, connections: u32) {
        let bin = usize::from(self.scale.bin(ms));
        if bin >= self.bins.len() {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] = self.bins[bin].saturating_add(connections);
    }

    fn total(&self) -> u64 {
        self.bins.iter().map(|count| u64::from(*count)).sum()
    }

    /// Adds the counts to those of a scale as fine or coarser.
    fn pour_into(&self, counts: &mut [u64], scale: Scale) {
        for (bin, count) in self.bins.iter().enumerate() {
            counts[usize::from(scale.bin(self.scale.start(bin as u16)))] += u64::from(*count);
        }
    }

    /// The smallest and the largest value of the bin below or in which this share (0–1) of the values is; 0 without any.
    fn quantile(&self, share: f64) -> (u64, u64) {
        let rank = ((share * self.total() as f64).ceil() as u64).max(1);
        let mut sum = 0;
        let bin = self.bins.iter().position(|count| {
            sum += u64::from(*count);
            sum >= rank
        });
        let value = |bin: usize| self.scale.start(bin as u16);
        bin.map_or((0, 0), |bin| (value(bin), (value(bin + 1) - 1).min(LONGEST_MS)))
    }
}

/// The connections as a distribution has them, bar by bar: from the first that holds any to the last.
fn bars(plain: &Survival, completed: u64) -> Vec<Bar> {
    let mut before = 0;
    let mut bars: Vec<Bar> = BARS
        .iter()
        .enumerate()
        .map(|(index, from_ms)| {
            let next = BARS.get(index + 1);
            // Rounding sums instead of counts keeps their sum.
            let upto =
                next.map_or(completed, |to_ms| (plain.share_below(*to_ms) * completed as f64).round() as u64);
            let count = upto.saturating_sub(before);
            before = before.max(upto);
            Bar { from_ms: *from_ms, to_ms: next.copied().unwrap_or(u64::MAX), count }
        })
        .collect();
    while bars.last().is_some_and(|bar| bar.count == 0) {
        bars.pop();
    }
    let empty = bars.iter().take_while(|bar| bar.count == 0).count();
    bars.drain(..empty);
    bars
}
