//! A snapshot of all namespaces for machines: one JSON object, schema `sockeye.snapshot_all/1`, with the snapshot of each.

use serde::Serialize;
use serde_json::value::RawValue;
use sockeye_core::Report;
use sockeye_host::FoundNamespace;

use crate::fleet::row::Counts;
use crate::fleet::snapshot::Survey;
use crate::render::group_json::{self, Groups};
use crate::render::netns_json::NetnsRow;
use crate::render::snapshot_json::{self, WarningRow, rounded};
use crate::surroundings::Surroundings;
use crate::sweep::Note;
use crate::terminal::write_json;

#[derive(Serialize)]
struct SnapshotAll<'a> {
    schema: &'static str,
    taken_at: String,
    host: Host<'a>,
    duration_ms: f64,
    namespace_count: usize,
    totals: Totals,
    /// Each as `sockeye snapshot --json` writes it, worst first.
    namespaces: Vec<Box<RawValue>>,
    /// Of all of them, as `--by` asks.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    groups: Option<Groups<'a>>,
    warnings: Vec<WarningRow>,
}

#[derive(Serialize)]
struct Host<'a> {
    name: &'a str,
    kernel: &'a str,
}

/// Sums over the namespaces.
#[derive(Serialize)]
struct Totals {
    sockets: u64,
    live: u64,
    time_wait: u64,
    closes_per_second: f64,
}

/// The snapshot of one namespace.
pub(crate) fn one(
    found: &FoundNamespace,
    report: &Report,
    surroundings: &Surroundings,
    notes: &[Note],
    top: usize,
) -> anyhow::Result<String> {
    snapshot_json::object(report, surroundings, NetnsRow::found(found), notes, top, None)
}

/// The object and a newline.
pub(crate) fn render(survey: &Survey) -> anyhow::Result<String> {
    let looks = survey.looks.iter();
    let namespaces = looks.clone().filter_map(|look| look.json.clone().map(RawValue::from_string));
    let sum = Counts::sum(looks.map(|look| look.row.counts));
    let all = SnapshotAll {
        schema: "sockeye.snapshot_all/1",
        taken_at: format!("{:.3}", survey.taken_at),
        host: Host { name: &survey.host.host_name, kernel: &survey.host.kernel_release },
        duration_ms: rounded(survey.duration_ms, 3),
        namespace_count: survey.looks.len(),
        totals: Totals {
            sockets: sum.sockets,
            live: sum.live,
            time_wait: sum.time_wait,
            closes_per_second: rounded(sum.closes_per_second, 2),
        },
        namespaces: namespaces.collect::<Result<_, _>>()?,
        groups: survey.groups.as_ref().map(|(by, rows)| group_json::groups(rows, *by, survey.top, false)),
        warnings: survey.notes.iter().map(WarningRow::of).collect(),
    };
    let mut text = Vec::new();
    write_json(&mut text, &all)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}
