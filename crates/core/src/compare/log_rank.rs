//! The log-rank test of two samples, with ties, with connections still open and with lifetimes known only to bounds.
//!
//! Where every lifetime is known to its bin this is Mantel's test with the hypergeometric variance. A lifetime between
//! bounds counts as it would on average, by the estimate for both samples together; what is not known of it is taken
//! off the variance (Louis's missing information), or the test would have to find a difference that nobody measured.

use crate::lifetimes::survival::{Span, Survival};

/// One of the two, in the bins of a scale both share.
pub(super) struct Side<'a> {
    pub(super) spans: &'a [Span],
    pub(super) censored: &'a [u64],
}

/// Sums over the bins.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct LogRank {
    /// Ends of the first sample less those that it would have had if both were one population.
    pub(super) excess: f64,
    /// The variance of that, if they are.
    pub(super) variance: f64,
}

impl LogRank {
    /// `pooled`: the estimate for both together.
    pub(super) fn of(pooled: &Survival, sides: [Side<'_>; 2]) -> LogRank {
        let ended = [0, 1].map(|side: usize| pooled.spread(sides[side].spans));
        let mut at_risk = [0, 1].map(|side: usize| {
            ended[side].iter().sum::<f64>()
                + sides[side].censored.iter().map(|count| *count as f64).sum::<f64>()
        });
        let mut test = LogRank { excess: 0.0, variance: 0.0 };
        let mut scores = [0, 1].map(|_| Scores::default());
        for (bin, mass) in pooled.masses().iter().enumerate() {
            let (all, ends) = (at_risk[0] + at_risk[1], ended[0][bin] + ended[1][bin]);
            let share = if all > 0.0 { (at_risk[0] / all).clamp(0.0, 1.0) } else { 0.0 };
            let hazard = if all > 0.0 { (ends / all).clamp(0.0, 1.0) } else { 0.0 };
            test.excess += ended[0][bin] - share * ends;
            if all > 1.0 {
                test.variance += share * (1.0 - share) * ends * ((all - ends) / (all - 1.0)).clamp(0.0, 1.0);
            }
            for (side, scores) in scores.iter_mut().enumerate() {
                let weight = if side == 0 { 1.0 - share } else { -share };
                scores.push(weight, hazard, *mass);
                at_risk[side] =
                    (at_risk[side] - ended[side][bin] - sides[side].censored[bin] as f64).max(0.0);
            }
        }
        for (side, scores) in sides.iter().zip(&scores) {
            test.variance -= side.spans.iter().map(|span| scores.unknown(span)).sum::<f64>();
        }
        test
    }

    /// Chi-squared with one degree of freedom; None where nothing ended while both were watched.
    pub(super) fn chi_squared(self) -> Option<f64> {
        (self.variance > 1e-9).then(|| self.excess * self.excess / self.variance)
    }
}

/// What one connection adds to the excess, by the bin it ends in; running sums, weighed by the share that ends there.
#[derive(Default)]
struct Scores {
    expected: f64,
    /// Sums of mass, mass × score, mass × score² up to each bin.
    sums: Vec<[f64; 3]>,
}

impl Scores {
    fn push(&mut self, weight: f64, hazard: f64, mass: f64) {
        self.expected += weight * hazard;
        let score = weight - self.expected;
        let last = self.sums.last().copied().unwrap_or_default();
        self.sums.push([last[0] + mass, last[1] + mass * score, last[2] + mass * score * score]);
    }

    /// The variance that comes from not knowing in which bin of their span these connections ended.
    fn unknown(&self, span: &Span) -> f64 {
        let (first, last) = (usize::from(span.first), usize::from(span.last));
        if first == last {
            return 0.0;
        }
        let before = first.checked_sub(1).map_or([0.0; 3], |bin| self.sums[bin]);
        let [mass, sum, squares] = [0, 1, 2].map(|i: usize| self.sums[last][i] - before[i]);
        if mass <= 1e-12 {
            return 0.0;
        }
        let mean = sum / mass;
        f64::from(span.count) * (squares / mass - mean * mean).max(0.0)
    }
}
