//! Lifetimes for machines: one JSON object, schema `sockeye.lifetimes/1`. Names stay; new ones may come.

use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use sockeye_core::{Bounded, Churn, Group, GroupLifetimes, LifetimeReport};

use crate::by::GroupName;
use crate::sweep::Note;
use crate::terminal::write_json;

/// Absent means not known.
#[derive(Serialize)]
struct Lifetimes<'a> {
    schema: &'static str,
    at: String,
    /// How long was looked.
    duration_ms: u64,
    #[serde(flatten)]
    total: Told<'a>,
    groups: Vec<GroupRow<'a>>,
    group_count: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage_ratio: Option<f64>,
    /// Whether they are heard at all; without them some connections are not seen.
    events: bool,
    events_lost: u64,
    warnings: Vec<Warning<'a>>,
}

#[derive(Serialize)]
struct GroupRow<'a> {
    #[serde(flatten)]
    name: GroupName,
    #[serde(flatten)]
    told: Told<'a>,
}

#[derive(Serialize)]
pub(super) struct Told<'a> {
    completed: u64,
    /// Ended, but begun before the watch.
    older: u64,
    open: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_ratio: Option<f64>,
    /// Of the completed ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    percentiles_ms: Option<Named<u64>>,
    /// How far these may be off.
    #[serde(skip_serializing_if = "Option::is_none")]
    uncertainty_ms: Option<Named<u64>>,
    /// Between which the truth lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    bounds_ms: Option<Named<Bounds>>,
    /// Of all, those still open among them.
    kaplan_meier_ms: Named<u64>,
    /// The completed ones; from inclusive to exclusive.
    bars: Bars<'a>,
}

/// The percentiles that are known, by name.
pub(super) struct Named<T>([Option<T>; 4]);

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = ["p50", "p90", "p99", "p999"].iter().zip(&self.0);
        serializer.collect_map(named.filter_map(|(name, value)| value.as_ref().map(|value| (name, value))))
    }
}

#[derive(Serialize)]
struct Bounds {
    min: u64,
    max: u64,
}

struct Bars<'a>(&'a GroupLifetimes);

impl Serialize for Bars<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.bars.iter().map(BarRow))
    }
}

struct BarRow<'a>(&'a sockeye_core::Bar);

impl Serialize for BarRow<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("from_ms", &self.0.from_ms)?;
        // The last one has no end.
        if self.0.to_ms < u64::MAX {
            map.serialize_entry("to_ms", &self.0.to_ms)?;
        }
        map.serialize_entry("count", &self.0.count)?;
        map.end()
    }
}

#[derive(Serialize)]
struct Warning<'a> {
    id: &'a str,
    message: &'a str,
}

/// The object and a newline; `top` bounds the groups.
pub(crate) fn render(
    report: &LifetimeReport,
    churn: &Churn,
    notes: &[Note],
    at: jiff::Timestamp,
    top: usize,
    name: impl Fn(Group) -> GroupName,
) -> anyhow::Result<String> {
    let lifetimes = Lifetimes {
        schema: "sockeye.lifetimes/1",
        at: format!("{at:.3}"),
        duration_ms: churn.at.ms_since(churn.since),
        total: told(&report.total),
        groups: report
            .groups
            .iter()
            .take(top)
            .map(|row| GroupRow { name: name(row.group.unwrap_or(Group::Other)), told: told(row) })
            .collect(),
        group_count: report.groups.len(),
        coverage_ratio: churn.coverage.ratio().map(|ratio| (ratio * 10_000.0).round() / 10_000.0),
        events: churn.events,
        events_lost: churn.events_lost,
        warnings: notes.iter().map(|note| Warning { id: note.id, message: &note.message }).collect(),
    };
    let mut text = Vec::new();
    write_json(&mut text, &lifetimes)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

pub(super) fn told(row: &GroupLifetimes) -> Told<'_> {
    let percentiles = row.completed_ms.map(|percentiles| percentiles.each());
    fn named<T>(of: [Bounded; 4], value: impl Fn(Bounded) -> T) -> Named<T> {
        Named(of.map(|bounded| Some(value(bounded))))
    }
    Told {
        completed: row.completed,
        older: row.older,
        open: row.open,
        open_ratio: row.open_ratio().map(|ratio| (ratio * 10_000.0).round() / 10_000.0),
        percentiles_ms: percentiles.map(|p| named(p, |bounded| bounded.ms)),
        uncertainty_ms: percentiles.map(|p| named(p, Bounded::uncertainty_ms)),
        bounds_ms: percentiles
            .map(|p| named(p, |Bounded { min_ms: min, max_ms: max, .. }| Bounds { min, max })),
        kaplan_meier_ms: Named(row.kaplan_meier_ms),
        bars: Bars(row),
    }
}
