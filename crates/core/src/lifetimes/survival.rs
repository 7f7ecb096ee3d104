//! How long connections live, estimated from what is known of each: completed ones within bounds, others only "longer
//! than".
//!
//! Turnbull's self-consistent estimate: each completed connection is spread over the bins it may have ended in, as the
//! estimate so far has them; the Kaplan–Meier estimate of these ends is the next one. Where every end is known to the
//! bin this is Kaplan–Meier itself, and without censored connections the plain distribution. Where bounds are wide it
//! is better than their middles: of connections that all lived 100 ms, some ended 100 ms after a sweep and some 900 ms,
//! and only "100 ms" agrees with all of them.

use super::scale::Scale;

/// Connections that ended in one of the bins `first..=last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) count: u32,
}

/// An estimated distribution of lifetimes.
pub(crate) struct Survival {
    scale: Scale,
    /// Share of the connections that end in each bin; their sum is below 1 when some outlive all that was observed.
    masses: Vec<f64>,
}

/// Rounds at the most. More would not bring the estimate closer to the truth but to the noise of the sample.
const MOST_ROUNDS: usize = 200;

/// The estimate stands still when no point of the curve moves by more.
const STILL: f64 = 1e-6;

/// Far less than the share of one connection, far more than sums are rounded by.
const ROUNDING: f64 = 1e-9;

impl Survival {
    /// Of completed connections and of censored ones, by the bin they had reached.
    pub(crate) fn estimate(scale: Scale, completed: &[Span], censored: &[u64]) -> Survival {
        // Before anything is known every millisecond within the bounds is as likely as another: of one connection alone the
        // middle is told.
        let widths = (0..scale.len() as u16).map(|bin| (scale.start(bin + 1) - scale.start(bin)) as f64);
        let mut estimate = Survival { scale, masses: widths.collect() };
        for _ in 0..MOST_ROUNDS {
            let masses = kaplan_meier(&estimate.spread(completed), censored);
            let moved = std::mem::replace(&mut estimate.masses, masses);
            if furthest(&moved, &estimate.masses) < STILL {
                break;
            }
        }
        estimate
    }

    /// How many connections ended in each bin, if each is spread over its span as this estimate has it.
    pub(crate) fn spread(&self, completed: &[Span]) -> Vec<f64> {
        let mut before = Vec::with_capacity(self.masses.len() + 1);
        before.push(0.0);
        before.extend(self.masses.iter().scan(0.0, |sum, mass| {
            *sum += mass;
            Some(*sum)
        }));
        // What each unit of mass in a bin stands for, as its changes from bin to bin.
        let mut changes = vec![0.0; before.len()];
        let mut ended = vec![0.0; self.masses.len()];
        for span in completed {
            let (first, last) = (usize::from(span.first), usize::from(span.last));
            let mass = before[last + 1] - before[first];
            if first == last || mass <= 0.0 {
                ended[first] += f64::from(span.count);
            } else {
                changes[first] += f64::from(span.count) / mass;
                changes[last + 1] -= f64::from(span.count) / mass;
            }
        }
        let mut per_mass = 0.0;
        for (bin, ended) in ended.iter_mut().enumerate() {
            per_mass += changes[bin];
            *ended += (per_mass * self.masses[bin]).max(0.0);
        }
        ended
    }

    /// Share of the connections that end in each bin of its scale.
    pub(crate) fn masses(&self) -> &[f64] {
        &self.masses
    }

    /// Share of the connections that live less than `ms`; within a bin all milliseconds are alike.
    pub(crate) fn share_below(&self, ms: u64) -> f64 {
        let bin = self.scale.bin(ms);
        let (start, end) = (self.scale.start(bin), self.scale.start(bin + 1));
        let whole: f64 = self.masses[..usize::from(bin)].iter().sum();
        whole + self.masses[usize::from(bin)] * (ms.clamp(start, end) - start) as f64 / (end - start) as f64
    }

    /// The lifetime that this share (0–1) of the connections does not exceed, milliseconds; None when the curve does not
    /// come down to it.
    pub(crate) fn quantile(&self, share: f64) -> Option<u64> {
        let mut before = 0.0;
        for (bin, mass) in self.masses.iter().enumerate() {
            let after = before + mass;
            if *mass > 0.0 && after >= share - ROUNDING {
                let (start, end) = (self.scale.start(bin as u16), self.scale.start(bin as u16 + 1));
                let into = ((share - before) / mass).clamp(0.0, 1.0);
                return Some((start + (into * (end - start) as f64) as u64).min(end - 1));
            }
            before = after;
        }
        None
    }
}

/// The Kaplan–Meier estimate: the share that ends in each bin. What is censored in a bin was still at risk there.
fn kaplan_meier(ended: &[f64], censored: &[u64]) -> Vec<f64> {
    let mut at_risk = ended.iter().sum::<f64>() + censored.iter().map(|count| *count as f64).sum::<f64>();
    let mut surviving = 1.0;
    ended
        .iter()
        .zip(censored)
        .map(|(ended, censored)| {
            let share = if *ended > 0.0 { (ended / at_risk).min(1.0) } else { 0.0 };
            let mass = surviving * share;
            surviving -= mass;
            at_risk -= ended + *censored as f64;
            mass
        })
        .collect()
}

/// The largest distance between two curves.
fn furthest(from: &[f64], to: &[f64]) -> f64 {
    let mut sums = (0.0, 0.0);
    from.iter().zip(to).fold(0.0, |furthest: f64, (from, to)| {
        sums = (sums.0 + from, sums.1 + to);
        furthest.max((sums.0 - sums.1).abs())
    })
}
