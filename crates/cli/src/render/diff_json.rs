//! What is different between two saved outputs as one JSON object, schema `sockeye.diff/1`. Names stay; new ones may come.

use serde::Serialize;
use sockeye_core::{LifetimeComparison, RateComparison, Ratio};

use super::snapshot_json::rounded;
use crate::command::diff::Diff;
use crate::terminal::write_json;

/// Absent means not known.
#[derive(Serialize)]
struct Object<'a> {
    schema: &'static str,
    /// What both are.
    of: &'static str,
    verdict: &'static str,
    /// Rules of --fail-on that are broken, in words.
    failed: &'a [String],
    figures: Vec<Figure>,
    destinations: Vec<Destination<'a>>,
    /// Those that changed, shown or not.
    destination_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_per_second: Option<Rates>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetimes: Option<Lifetimes>,
    warnings: [(); 0],
}

#[derive(Serialize)]
struct Figure {
    id: &'static str,
    before: f64,
    after: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    change_ratio: Option<f64>,
}

#[derive(Serialize)]
struct Destination<'a> {
    destination: &'a str,
    ports: Both,
    connections: Both,
}

#[derive(Serialize)]
struct Both {
    before: u64,
    after: u64,
}

#[derive(Serialize)]
struct Rates {
    verdict: &'static str,
    before: f64,
    after: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<RatioRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p_value: Option<f64>,
}

#[derive(Serialize)]
struct Lifetimes {
    verdict: &'static str,
    message: String,
    completed: [u64; 2],
    censored: [u64; 2],
    /// The lifetimes compared are those that this share does not exceed.
    share: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    before_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<RatioRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chi_squared: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p_value: Option<f64>,
}

/// After / before, and its 95 % confidence interval.
#[derive(Serialize)]
struct RatioRow {
    value: f64,
    min: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
}

/// The object and a newline; `top` bounds the destinations.
pub(crate) fn render(diff: &Diff, top: usize) -> anyhow::Result<String> {
    let object = Object {
        schema: "sockeye.diff/1",
        of: diff.kind.name(),
        verdict: if diff.failed.is_empty() { "pass" } else { "fail" },
        failed: &diff.failed,
        figures: diff
            .figures
            .iter()
            .map(|row| Figure {
                id: row.figure.id,
                before: row.before,
                after: row.after,
                change_ratio: row.change().map(|change| rounded(change, 4)),
            })
            .collect(),
        destinations: diff
            .destinations
            .iter()
            .take(top)
            .map(|row| Destination {
                destination: &row.name,
                ports: Both { before: row.before.ports, after: row.after.ports },
                connections: Both { before: row.before.connections, after: row.after.connections },
            })
            .collect(),
        destination_count: diff.destinations.len(),
        opens_per_second: diff.opens.map(rates),
        lifetimes: diff.lifetimes.map(lifetimes),
        warnings: [],
    };
    let mut text = Vec::new();
    write_json(&mut text, &object)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

fn rates(told: RateComparison) -> Rates {
    let [before, after] = told.per_second.map(|rate| rounded(rate, 3));
    Rates {
        verdict: told.verdict.of_rates(),
        before,
        after,
        ratio: told.ratio.map(ratio),
        p_value: told.p_value,
    }
}

fn lifetimes(told: LifetimeComparison) -> Lifetimes {
    let [before_ms, after_ms] = told.at_share_ms.map(|ms| ms.map(|ms| rounded(ms, 1)));
    Lifetimes {
        verdict: told.verdict.of_lifetimes(),
        message: told.to_string(),
        completed: told.completed,
        censored: told.censored,
        share: told.share,
        before_ms,
        after_ms,
        ratio: told.ratio.map(ratio),
        chi_squared: told.chi_squared.map(|value| rounded(value, 4)),
        p_value: told.p_value,
    }
}

fn ratio(ratio: Ratio) -> RatioRow {
    RatioRow {
        value: rounded(ratio.value, 4),
        min: rounded(ratio.min, 4),
        max: ratio.max.map(|max| rounded(max, 4)),
    }
}
