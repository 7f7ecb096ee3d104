//! Comparing two populations of connections: whether lifetimes or rates have changed, how much, and how sure that is.
//!
//! A change is told only when it is both there (a test says that chance rarely does this) and of a size that matters
//! (the confidence interval of the ratio lies beyond ±5 % entirely): of a million connections any nothing is significant,
//! and of thirty any percentage is accidental. Nothing here is random: the same data always give the same answer.

mod distribution;
mod log_rank;
mod quantile;
mod rate;
mod sample;

use std::fmt;

use crate::lifetimes::survival::{Span, Survival};

use distribution::{Z_95, Z_99, p_of_chi_squared};
use log_rank::{LogRank, Side};
use quantile::{Curve, Quantile};

pub use rate::{RateComparison, compare_rates};
pub use sample::LifetimeSample;

/// Chance alone may call unchanged populations different this often, and less often still as the size counts as well.
const ALPHA: f64 = 0.01;
/// What is less of a change is none.
const LEAST_CHANGE: f64 = 0.05;
/// Fewer completed connections on either side are not compared.
const FEWEST: u64 = 20;
/// Quantiles at which lifetimes are compared: the first that both samples come to.
const SHARES: [f64; 3] = [0.5, 0.25, 0.1];

/// Which way something has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Less than before.
    Lower,
    /// More than before.
    Higher,
}

/// What is to be thought of a comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is different, by more than 5 %.
    Changed(Change),
    /// No difference that the data can show.
    Unchanged,
    /// Too few connections, or too short a time, to tell anything.
    TooFew,
}

impl Verdict {
    fn of(p_value: Option<f64>, change: Option<Change>) -> Verdict {
        match (p_value, change) {
            (Some(p), Some(change)) if p < ALPHA => Verdict::Changed(change),
            _ => Verdict::Unchanged,
        }
    }

    /// The word of JSON for lifetimes: `shorter`, `longer`, `no_difference`, `too_few`.
    pub const fn of_lifetimes(self) -> &'static str {
        match self {
            Verdict::Changed(Change::Lower) => "shorter",
            Verdict::Changed(Change::Higher) => "longer",
            Verdict::Unchanged => "no_difference",
            Verdict::TooFew => "too_few",
        }
    }

    /// The word of JSON for rates and counts: `less`, `more`, `no_difference`, `too_few`.
    pub const fn of_rates(self) -> &'static str {
        match self {
            Verdict::Changed(Change::Lower) => "less",
            Verdict::Changed(Change::Higher) => "more",
            Verdict::Unchanged => "no_difference",
            Verdict::TooFew => "too_few",
        }
    }
}

/// After / before, with its 95 % confidence interval.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ratio {
    /// Best single number.
    pub value: f64,
    /// At least.
    pub min: f64,
    /// At most; None where the data tell no limit.
    pub max: Option<f64>,
}

impl Ratio {
    /// By independent intervals of both parts, on the logarithmic scale (Zou and Donner's way).
    fn of(before: Quantile, after: Quantile) -> Ratio {
        // A median of less than a tenth of a millisecond is nothing that was measured.
        let log = |ms: f64| ms.max(0.1).ln();
        let value = log(after.ms) - log(before.ms);
        let below = |part: Quantile| log(part.ms) - log(part.min_ms);
        let above = |part: Quantile| part.max_ms.map(|max_ms| log(max_ms) - log(part.ms));
        let min = above(before).map_or(f64::NEG_INFINITY, |above| value - below(after).hypot(above));
        let max = above(after).map(|above| value + below(before).hypot(above));
        Ratio { value: value.exp(), min: min.exp(), max: max.map(f64::exp) }
    }

    /// The same with its 99 % confidence interval.
    fn surer(self) -> Ratio {
        let stretched = |end: f64| self.value * (end / self.value).powf(Z_99 / Z_95);
        Ratio { value: self.value, min: stretched(self.min), max: self.max.map(stretched) }
    }

    /// Which way, where the whole interval lies beyond 5 %.
    pub fn change(self) -> Option<Change> {
        match self {
            Ratio { max: Some(max), .. } if max < 1.0 - LEAST_CHANGE => Some(Change::Lower),
            // The same step back as the other one is forth: it must not matter which is called "before".
            Ratio { min, .. } if min > 1.0 / (1.0 - LEAST_CHANGE) => Some(Change::Higher),
            _ => None,
        }
    }
}

/// Two samples of lifetimes, and what is to be thought of them.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LifetimeComparison {
    /// Connections whose lifetime is known within bounds, before and after.
    pub completed: [u64; 2],
    /// Connections of which only "longer than" is known.
    pub censored: [u64; 2],
    /// The share (0–1) of the connections that live no longer than the lifetimes compared: 0.5, the median, or less where
    /// most have not ended yet.
    pub share: f64,
    /// The lifetimes that this share does not exceed, milliseconds, by the Kaplan–Meier estimate; None where fewer ended.
    pub at_share_ms: [Option<f64>; 2],
    /// After / before of these.
    pub ratio: Option<Ratio>,
    /// Of the log-rank test, one degree of freedom; None where there is nothing to test.
    pub chi_squared: Option<f64>,
    /// How likely a difference like this is if both are one population. Where bounds are wide, and not alike in both, it is
    /// too small (of unchanged pairs of 300 swept every 250 ms and every 2 s a fifth had less than 0.05); the verdict asks
    /// for more.
    pub p_value: Option<f64>,
    /// [`Change::Lower`] is shorter.
    pub verdict: Verdict,
}

/// Compares the lifetimes of two samples: the log-rank test says whether they differ, the ratio of their medians how much.
///
/// Cost: three estimates; some milliseconds where bounds are wide and of every kind.
pub fn compare_lifetimes(before: &LifetimeSample, after: &LifetimeSample) -> LifetimeComparison {
    let scale = match before.scale().len() < after.scale().len() {
        true => before.scale(),
        false => after.scale(),
    };
    let [(spans_before, censored_before), (spans_after, censored_after)] =
        [before, after].map(|sample| (sample.spans(scale), sample.censored_in(scale)));
    let together = joined(&spans_before, &spans_after);
    let censored: Vec<u64> =
        censored_before.iter().zip(&censored_after).map(|(a, b)| a.saturating_add(*b)).collect();
    let pooled = Survival::estimate(scale, &together, &censored);
    let test = LogRank::of(
        &pooled,
        [
            Side { spans: &spans_before, censored: &censored_before },
            Side { spans: &spans_after, censored: &censored_after },
        ],
    );
    let chi_squared = test.chi_squared();
    let p_value = chi_squared.map(p_of_chi_squared);

    let curves = [(&spans_before, &censored_before), (&spans_after, &censored_after)]
        .map(|(spans, censored)| Curve::of(scale, spans, censored));
    let quantiles = |share: f64| [0, 1].map(|side: usize| curves[side].quantile(share));
    let reached = |share: &f64| quantiles(*share).iter().all(Option::is_some);
    let share = SHARES.into_iter().find(reached).unwrap_or(SHARES[0]);
    let quantiles = quantiles(share);
    let ratio = match quantiles {
        [Some(before), Some(after)] => Some(Ratio::of(before, after)),
        _ => None,
    };
    let completed = [before.completed(), after.completed()];
    let verdict = match completed.iter().all(|completed| *completed >= FEWEST) {
        false => Verdict::TooFew,
        // The log-rank test sees little of curves that cross. Then the interval alone may be sure enough, but not where
        // bounds are wide: what they leave open is more than an interval tells.
        true => match ratio.filter(|_| is_known(&together)).and_then(|ratio| ratio.surer().change()) {
            Some(change) => Verdict::Changed(change),
            None => Verdict::of(p_value, ratio.and_then(Ratio::change)),
        },
    };
    LifetimeComparison {
        completed,
        censored: [before.censored(), after.censored()],
        share,
        at_share_ms: quantiles.map(|quantile| quantile.map(|quantile| quantile.ms)),
        ratio,
        chi_squared,
        p_value,
        verdict,
    }
}

/// Whether nearly all ended in a bin that is known.
fn is_known(spans: &[Span]) -> bool {
    let sum = |spans: &mut dyn Iterator<Item = &Span>| spans.map(|span| u64::from(span.count)).sum::<u64>();
    let wide = sum(&mut spans.iter().filter(|span| span.first < span.last));
    wide * 10 <= sum(&mut spans.iter())
}

/// Spans of both in order, the same ones added up: which sample came first must not change the last digit.
fn joined(before: &[Span], after: &[Span]) -> Vec<Span> {
    let mut all: Vec<Span> = before.iter().chain(after).copied().collect();
    all.sort_by_key(|span| (span.first, span.last));
    all.dedup_by(|next, kept| {
        let same = (next.first, next.last) == (kept.first, kept.last);
        if same {
            kept.count = kept.count.saturating_add(next.count);
        }
        same
    });
    all
}

impl fmt::Display for LifetimeComparison {
    /// `shorter: median 80 ms instead of 100 ms, ratio 0.80 (95 % interval 0.74–0.87; p < 0.0001; 2,000 and 2,000 …)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, after] = self.completed;
        match self.verdict {
            Verdict::TooFew => {
                return write!(
                    f,
                    "too few connections have ended to compare lifetimes: {before} and {after}, of {FEWEST} at least"
                );
            }
            Verdict::Unchanged => write!(f, "no difference in lifetimes that the data can show")?,
            Verdict::Changed(Change::Lower) => write!(f, "connections live shorter")?,
            Verdict::Changed(Change::Higher) => write!(f, "connections live longer")?,
        }
        if let ([Some(before), Some(after)], Some(ratio)) = (self.at_share_ms, self.ratio) {
            let name =
                if self.share == 0.5 { "median".to_owned() } else { format!("p{:.0}", self.share * 100.0) };
            write!(
                f,
                ": {name} {after:.0} ms, before {before:.0} ms, ratio {:.2} (95 % interval ",
                ratio.value
            )?;
            match ratio.max {
                Some(max) => write!(f, "{:.2}–{max:.2}", ratio.min)?,
                None => write!(f, "{:.2} or more", ratio.min)?,
            }
            match self.p_value {
                Some(p) if p < 0.0001 => write!(f, "; log-rank p < 0.0001)")?,
                Some(p) => write!(f, "; log-rank p = {p:.4})")?,
                None => write!(f, ")")?,
            }
        }
        write!(f, "; {before} and {after} ended")
    }
}

#[cfg(test)]
mod tests;
