//! A population of connection lifetimes, counted in bins: what two periods, hosts or runs are compared by.

use hashbrown::HashMap;

use crate::lifetimes::scale::{LONGEST_MS, Scale};
use crate::lifetimes::survival::{Span, Survival};
use crate::moment::Lifetime;
use crate::{Bounded, Percentiles};

/// Pairs of bounds that are told apart unless asked otherwise; with more, bins become twice as wide.
const MOST_PAIRS: usize = 3_584;

/// Closer bounds come from clocks and lie around the truth: their middle is taken, as in [`Lifetimes`](crate::Lifetimes).
const CLOCKS_MS: u64 = 50;

/// Lifetimes of many connections, completed ones within bounds and others known only to be longer.
///
/// The order in which they are recorded does not matter. Memory: 8 bytes a bin up to the longest (6 KiB for a day), 24 a
/// pair of wide bounds, 92 KiB at the most. Cost of a row: some nanoseconds, tens where bounds are wide.
#[derive(Clone, Debug)]
pub struct LifetimeSample {
    scale: Scale,
    most_pairs: usize,
    /// Bounds in different bins of `scale`, or in one when it was a finer one.
    pairs: HashMap<[u16; 2], u64>,
    /// Those with both bounds in one bin of the finest scale, by bin.
    known: Vec<u64>,
    /// By bin of the finest scale.
    censored: Vec<u64>,
}

impl Default for LifetimeSample {
    fn default() -> LifetimeSample {
        LifetimeSample::new()
    }
}

impl LifetimeSample {
    /// Nobody yet.
    pub fn new() -> LifetimeSample {
        LifetimeSample::of_pairs(MOST_PAIRS)
    }

    /// One that takes less memory for less precision.
    pub(crate) fn of_pairs(most_pairs: usize) -> LifetimeSample {
        LifetimeSample {
            scale: Scale::FINEST,
            most_pairs,
            pairs: HashMap::new(),
            known: Vec::new(),
            censored: Vec::new(),
        }
    }

    /// A connection that has ended. One without an upper bound counts as [open](LifetimeSample::record_open) at the age it
    /// had for certain.
    pub fn record(&mut self, lifetime: Lifetime) {
        self.record_many(lifetime, 1);
    }

    /// So many connections that ended within the same bounds: a bar of a histogram.
    pub fn record_many(&mut self, lifetime: Lifetime, connections: u64) {
        let lifetime = Scale::BOUNDS.around(lifetime);
        let Some(max_ms) = lifetime.max_ms else {
            self.record_open(lifetime.min_ms, connections);
            return;
        };
        if connections == 0 {
            return;
        }
        let [least, most] = match max_ms - lifetime.min_ms {
            0..=CLOCKS_MS => [lifetime.min_ms.midpoint(max_ms); 2],
            _ => [lifetime.min_ms, max_ms],
        };
        let first = Scale::FINEST.bin(least);
        if first == Scale::FINEST.bin(most) {
            add(&mut self.known, first, connections);
            return;
        }
        let pair = [least, most].map(|ms| self.scale.bin(ms));
        let count = self.pairs.entry(pair).or_insert(0);
        *count = count.saturating_add(connections);
        while self.pairs.len() > self.most_pairs {
            let Some(coarser) = self.scale.coarser() else { break };
            self.pairs = self.pairs_in(coarser);
            self.scale = coarser;
        }
    }

    /// So many connections of this age, milliseconds, that have not ended, or were no longer watched when they did.
    pub fn record_open(&mut self, age_ms: u64, connections: u64) {
        if connections > 0 {
            add(&mut self.censored, Scale::FINEST.bin(age_ms), connections);
        }
    }

    /// Connections whose lifetime is known within bounds.
    pub fn completed(&self) -> u64 {
        self.pairs.values().chain(&self.known).fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Connections of which only "longer than" is known.
    pub fn censored(&self) -> u64 {
        self.censored.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What was recorded, as bins tell it, shortest first: recorded anew with [`record_many`](LifetimeSample::record_many) it
    /// is the same sample, for a file.
    pub fn rows(&self) -> Vec<(Lifetime, u64)> {
        let mut rows: Vec<(Lifetime, u64)> = self
            .pairs
            .iter()
            .map(|([first, last], count)| {
                let max_ms = self.scale.start(last + 1) - 1;
                (Lifetime { min_ms: self.scale.start(*first), max_ms: Some(max_ms) }, *count)
            })
            .collect();
        let known = self.known.iter().enumerate().filter(|(_, count)| **count > 0);
        rows.extend(known.map(|(bin, count)| {
            let bin = bin as u16;
            let max_ms = Scale::FINEST.start(bin + 1) - 1;
            (Lifetime { min_ms: Scale::FINEST.start(bin), max_ms: Some(max_ms) }, *count)
        }));
        let open = self.censored.iter().enumerate().filter(|(_, count)| **count > 0);
        rows.extend(open.map(|(bin, count)| {
            (Lifetime { min_ms: Scale::FINEST.start(bin as u16), max_ms: None }, *count)
        }));
        rows.sort_unstable_by_key(|(lifetime, _)| (lifetime.min_ms, lifetime.max_ms));
        rows
    }

    /// Percentiles of the completed ones with their bounds; None without any. Bins are 3.2 % wide, or as wide as memory
    /// makes them; bounds are those of the bins.
    ///
    /// Cost: one estimate, below a millisecond but for thousands of different wide bounds.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let completed = self.completed();
        if completed == 0 {
            return None;
        }
        let spans = self.spans(self.scale);
        let plain = Survival::estimate(self.scale, &spans, &vec![0; self.scale.len()]);
        let [mut least, mut most] = [0, 1].map(|_| vec![0u64; self.scale.len()]);
        for ([first, last], count) in &self.all_in(self.scale) {
            for count_of in [&mut least[usize::from(*first)], &mut most[usize::from(*last)]] {
                *count_of = count_of.saturating_add(*count);
            }
        }
        let [p50, p90, p99, p999] = Percentiles::SHARES.map(|share| {
            let rank = ((share * completed as f64).ceil() as u64).max(1);
            let min_ms = self.scale.start(bin_of_rank(&least, rank));
            let max_ms = (self.scale.start(bin_of_rank(&most, rank) + 1) - 1).min(LONGEST_MS);
            let ms = plain.quantile(share).unwrap_or(max_ms).clamp(min_ms, max_ms.max(min_ms));
            Bounded { ms, min_ms, max_ms }
        });
        Some(Percentiles { p50, p90, p99, p999 })
    }

    pub(super) fn scale(&self) -> Scale {
        self.scale
    }

    /// The completed ones, in the bins of a scale as coarse as its own or coarser, in order.
    pub(super) fn spans(&self, scale: Scale) -> Vec<Span> {
        let mut spans: Vec<Span> = self
            .all_in(scale)
            .into_iter()
            .map(|([first, last], count)| Span {
                first,
                last,
                count: u32::try_from(count).unwrap_or(u32::MAX),
            })
            .collect();
        // Sums of fractions depend on the order.
        spans.sort_unstable_by_key(|span| (span.first, span.last));
        spans
    }

    /// The others, by bin.
    pub(super) fn censored_in(&self, scale: Scale) -> Vec<u64> {
        let mut counts = vec![0_u64; scale.len()];
        for (bin, count) in self.censored.iter().enumerate() {
            let sum = &mut counts[usize::from(scale.bin(Scale::FINEST.start(bin as u16)))];
            *sum = sum.saturating_add(*count);
        }
        counts
    }

    /// All completed ones.
    fn all_in(&self, scale: Scale) -> HashMap<[u16; 2], u64> {
        let mut all = self.pairs_in(scale);
        for (bin, count) in self.known.iter().enumerate().filter(|(_, count)| **count > 0) {
            let sum = all.entry([scale.bin(Scale::FINEST.start(bin as u16)); 2]).or_insert(0);
            *sum = sum.saturating_add(*count);
        }
        all
    }

    fn pairs_in(&self, scale: Scale) -> HashMap<[u16; 2], u64> {
        let mut pairs: HashMap<[u16; 2], u64> = HashMap::with_capacity(self.pairs.len());
        for (pair, count) in &self.pairs {
            let sum = pairs.entry(pair.map(|bin| scale.bin(self.scale.start(bin)))).or_insert(0);
            *sum = sum.saturating_add(*count);
        }
        pairs
    }
}

fn add(counts: &mut Vec<u64>, bin: u16, connections: u64) {
    let bin = usize::from(bin);
    if bin >= counts.len() {
        counts.resize(bin + 1, 0);
    }
    counts[bin] = counts[bin].saturating_add(connections);
}

/// The bin in which the connection of this rank, counted from 1, is.
fn bin_of_rank(counts: &[u64], rank: u64) -> u16 {
    let mut sum = 0;
    let reached = counts.iter().position(|count| {
        sum = u64::saturating_add(sum, *count);
        sum >= rank
    });
    reached.unwrap_or(counts.len() - 1) as u16
}
