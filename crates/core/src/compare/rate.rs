//! Whether something happens more often than before: opens per second, say, in one period and in another.
//!
//! Two totals alone cannot tell. To take them for Poisson counts would call every ordinary minute a change: connections come
//! in bursts, and one burst follows another. So each period is cut into equal slices, whose counts show how much the rate
//! varies by itself; slices next to each other are added up to a few long ones first, since what is left of a burst's
//! influence on its successor is then small; and the means of these are compared by Welch's test. A rhythm longer than
//! the period (day and night) stays unseen: compare like with like.

use super::distribution::{p_of_t, t_95};
use super::{Change, Ratio, Verdict};

/// Longer slices that a period is made of.
const SLICES: usize = 12;
/// Fewer tell too little of how a rate varies.
const FEWEST: usize = 8;

/// Two rates, and what is to be thought of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RateComparison {
    /// Per second, before and after.
    pub per_second: [f64; 2],
    /// After / before; None where nothing happened before, or there are too few slices to say how sure it is.
    pub ratio: Option<Ratio>,
    /// How likely a difference like this is if nothing has changed; None where there is too little to tell by.
    pub p_value: Option<f64>,
    /// [`Change::Lower`] is a lower rate.
    pub verdict: Verdict,
}

/// Compares counts per slice of equal length, that of each period in seconds.
pub fn compare_rates(before: (&[u64], f64), after: (&[u64], f64)) -> RateComparison {
    let sides = [before, after].map(|(counts, slice_s)| Side::of(counts, slice_s));
    let per_second = [before, after].map(|(counts, slice_s)| {
        let seconds = counts.len() as f64 * slice_s;
        if seconds > 0.0 { sum(counts) / seconds } else { 0.0 }
    });
    let [Some(before), Some(after)] = sides else {
        return RateComparison { per_second, ratio: None, p_value: None, verdict: Verdict::TooFew };
    };
    let variance = before.of_mean() + after.of_mean();
    let difference = after.mean - before.mean;
    let freedom = match variance {
        0.0 => f64::INFINITY,
        _ => variance * variance / (before.of_freedom() + after.of_freedom()),
    };
    let p_value = match (variance > 0.0, difference != 0.0) {
        (true, _) => p_of_t(difference / variance.sqrt(), freedom),
        (false, differs) => f64::from(u8::from(!differs)),
    };
    let ratio = (before.mean > 0.0).then(|| {
        // Of a quotient, by how much either part may be off in proportion.
        let value = after.mean / before.mean;
        let relative =
            |side: &Side| if side.mean > 0.0 { side.of_mean() / (side.mean * side.mean) } else { 0.0 };
        let error = (relative(&before) + relative(&after)).sqrt();
        let reach = if error > 0.0 { (t_95(freedom) * error).exp() } else { 1.0 };
        Ratio { value, min: value / reach, max: Some(value * reach) }
    });
    let change = match ratio {
        Some(ratio) => ratio.change(),
        // From nothing to something.
        None => (difference > 0.0).then_some(Change::Higher),
    };
    RateComparison { per_second, ratio, p_value: Some(p_value), verdict: Verdict::of(Some(p_value), change) }
}

/// Exact below 2^53, and no overflow beyond.
fn sum(counts: &[u64]) -> f64 {
    counts.iter().map(|count| *count as f64).sum()
}

/// The rates of one period's longer slices.
struct Side {
    slices: f64,
    mean: f64,
    variance: f64,
}

impl Side {
    /// None for too few slices. The last few that fill no longer slice are left out of the test.
    fn of(counts: &[u64], slice_s: f64) -> Option<Side> {
        let each = (counts.len() / SLICES).max(1);
        let long: Vec<f64> =
            counts.chunks_exact(each).map(|chunk| sum(chunk) / (each as f64 * slice_s)).collect();
        if long.len() < FEWEST || slice_s.is_nan() || slice_s <= 0.0 {
            return None;
        }
        let slices = long.len() as f64;
        let mean = long.iter().sum::<f64>() / slices;
        let variance = long.iter().map(|rate| (rate - mean) * (rate - mean)).sum::<f64>() / (slices - 1.0);
        Some(Side { slices, mean, variance })
    }

    fn of_mean(&self) -> f64 {
        self.variance / self.slices
    }

    fn of_freedom(&self) -> f64 {
        self.of_mean() * self.of_mean() / (self.slices - 1.0)
    }
}
