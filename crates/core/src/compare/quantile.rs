//! A quantile of one sample's lifetimes with its confidence interval, without any assumption about their distribution.
//!
//! The interval is Brookmeyer and Crowley's: the times at which the curve, give or take what Greenwood's formula says of
//! it, passes the quantile. Where lifetimes are known only to bounds the variance is divided by the share of what could
//! be known that is known.

use crate::lifetimes::scale::Scale;
use crate::lifetimes::survival::{Span, Survival};

use super::distribution::Z_95;

/// A time in milliseconds, and between which times it lies with 95 % confidence.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Quantile {
    pub(super) ms: f64,
    pub(super) min_ms: f64,
    /// None where the data tell no upper limit.
    pub(super) max_ms: Option<f64>,
}

/// The estimated curve of one sample.
pub(super) struct Curve {
    /// At the end of each bin: its time, the share that has ended, and the standard error of that.
    points: Vec<(f64, f64, f64)>,
}

impl Curve {
    pub(super) fn of(scale: Scale, spans: &[Span], censored: &[u64]) -> Curve {
        let estimate = Survival::estimate(scale, spans, censored);
        let ended = estimate.spread(spans);
        let missing = missing(estimate.masses(), spans);
        let mut at_risk = ended.iter().sum::<f64>() + censored.iter().map(|count| *count as f64).sum::<f64>();
        let connections = at_risk;
        let (mut done, mut greenwood) = (0.0, 0.0);
        let points = ended.iter().enumerate().map(|(bin, ended)| {
            done += estimate.masses()[bin];
            let left = at_risk - ended;
            if *ended > 0.0 && left > 1e-9 {
                greenwood += ended / (at_risk * left);
            }
            at_risk = (left - censored[bin] as f64).max(0.0);
            let open: f64 = (1.0 - done).max(0.0);
            let complete = done * open * connections;
            let known = if complete > 0.0 { (1.0 - missing[bin] / complete).clamp(0.02, 1.0) } else { 1.0 };
            let end_ms = scale.start(bin as u16 + 1) as f64;
            (end_ms, done, open * (greenwood / known.powf(1.5)).sqrt())
        });
        Curve { points: points.collect() }
    }

    /// None when the curve does not come to this share (0–1).
    pub(super) fn quantile(&self, share: f64) -> Option<Quantile> {
        let ms = self.first(share, |done, _| done)?;
        let min_ms = self.first(share, |done, error| done + Z_95 * error)?;
        let max_ms = self.first(share, |done, error| done - Z_95 * error);
        Some(Quantile { ms, min_ms: min_ms.min(ms), max_ms: max_ms.map(|max_ms| max_ms.max(ms)) })
    }

    /// When a curve of share and error first reaches this height; straight within a bin.
    fn first(&self, height: f64, curve: impl Fn(f64, f64) -> f64) -> Option<f64> {
        let mut before = (0.0, 0.0);
        for (end_ms, done, error) in &self.points {
            let here = curve(*done, *error);
            if here >= height - 1e-9 && here > before.1 {
                let into = ((height - before.1) / (here - before.1)).clamp(0.0, 1.0);
                return Some(before.0 + into * (end_ms - before.0));
            }
            before = (*end_ms, here);
        }
        None
    }
}

/// For each bin, the variance of the number of connections that ended up to it, for not knowing when those that ended
/// around it did.
fn missing(masses: &[f64], spans: &[Span]) -> Vec<f64> {
    let mut sums = Vec::with_capacity(masses.len() + 1);
    sums.push(0.0);
    for mass in masses {
        sums.push(sums[sums.len() - 1] + mass);
    }
    let mut missing = vec![0.0; masses.len()];
    for span in spans.iter().filter(|span| span.last > span.first) {
        let (first, last) = (usize::from(span.first), usize::from(span.last));
        let mass = sums[last + 1] - sums[first];
        if mass > 1e-12 {
            for bin in first..last {
                let ended = ((sums[bin + 1] - sums[first]) / mass).clamp(0.0, 1.0);
                missing[bin] += f64::from(span.count) * ended * (1.0 - ended);
            }
        }
    }
    missing
}
