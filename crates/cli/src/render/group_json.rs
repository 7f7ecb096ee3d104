//! Rows of grouped connections as JSON: the same in every command that has `--by`.

use serde::Serialize;

use crate::by::{By, GroupName, Netns, Row};
use crate::render::netns_json::NetnsRow;
use crate::render::snapshot_json::rounded;

/// `by` and `groups` of an object.
#[derive(Serialize)]
pub(crate) struct Groups<'a> {
    by: &'static str,
    groups: Vec<GroupRow<'a>>,
    group_count: usize,
}

#[derive(Serialize)]
struct GroupRow<'a> {
    #[serde(flatten)]
    name: &'a GroupName,
    /// Where there are several, and this is in one of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<&'a NetnsRow>,
    /// Where it is in several.
    #[serde(skip_serializing_if = "Option::is_none")]
    netns_count: Option<usize>,
    live: u64,
    time_wait: u64,
    /// How many of these two are in this row only because nothing else is likely; absent where all were told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    inferred: Option<u64>,
    /// Absent for a single look.
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closes_per_second: Option<f64>,
}

/// The first `top` rows.
pub(crate) fn groups(rows: &[Row], by: By, top: usize, rates: bool) -> Groups<'_> {
    let rate = |rate: f32| rates.then(|| rounded(f64::from(rate), 2));
    Groups {
        by: by.name(),
        groups: rows
            .iter()
            .take(top)
            .map(|row| GroupRow {
                name: &row.group,
                netns: match &row.netns {
                    Some(Netns::One { name, .. }) => Some(name),
                    _ => None,
                },
                netns_count: match row.netns {
                    Some(Netns::Several(count)) => Some(count),
                    _ => None,
                },
                live: row.live,
                time_wait: row.time_wait,
                inferred: (row.inferred > 0).then_some(row.inferred),
                opens_per_second: rate(row.opens_per_second),
                closes_per_second: rate(row.closes_per_second),
            })
            .collect(),
        group_count: rows.len(),
    }
}
