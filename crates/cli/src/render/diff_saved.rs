//! What `sockeye diff` reads: the JSON that other commands print, of any version that has the same names. Only what is
//! compared is looked at.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use sockeye_core::{Lifetime, LifetimeSample};

use crate::terminal::Harmless;

/// Which command has written it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Snapshot,
    Report,
    Run,
    Lifetimes,
}

/// A number of the whole that is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Figure {
    /// Its name in JSON and in `--fail-on`.
    pub(crate) id: &'static str,
    pub(crate) label: &'static str,
    /// Where it is in the JSON of each kind: path, then key.
    places: [(Kind, &'static [&'static str]); 2],
    /// Else less is.
    pub(crate) more_is_worse: bool,
}

const fn figure(
    id: &'static str,
    label: &'static str,
    places: [(Kind, &'static [&'static str]); 2],
    more_is_worse: bool,
) -> Figure {
    Figure { id, label, places, more_is_worse }
}

/// No count of a file is taken for more: far beyond any host, and no sum over the largest file that is read overflows.
const MOST_COUNT: u64 = 1 << 36;

/// A count; None where there is none.
fn count(value: Option<&Value>) -> Option<u64> {
    Some(value?.as_u64()?.min(MOST_COUNT))
}

/// Not there.
const NOWHERE: (Kind, &[&str]) = (Kind::Lifetimes, &[]);

/// All that are compared. Figures in `destinations` are the worst of all destinations.
pub(crate) const FIGURES: [Figure; 15] = [
    figure("sockets", "sockets", [(Kind::Snapshot, &["sweep", "sockets"]), NOWHERE], true),
    figure("established", "established", [(Kind::Snapshot, &["states", "established"]), NOWHERE], true),
    figure("close_wait", "CLOSE-WAIT", [(Kind::Snapshot, &["states", "close_wait"]), NOWHERE], true),
    figure(
        "time_wait",
        "TIME-WAIT, the most",
        [(Kind::Snapshot, &["states", "time_wait"]), (Kind::Report, &["totals", "time_wait_max"])],
        true,
    ),
    figure(
        "live",
        "live, the most",
        [(Kind::Report, &["totals", "live_max"]), (Kind::Run, &["peak_live"])],
        true,
    ),
    figure("opens", "opened", [(Kind::Run, &["opens"]), NOWHERE], true),
    figure("accepts", "accepted", [(Kind::Run, &["accepts"]), NOWHERE], true),
    figure("opens_per_second", "opened/s", [(Kind::Report, &["totals", "opens_per_second"]), NOWHERE], true),
    figure(
        "closes_per_second",
        "closed/s",
        [(Kind::Snapshot, &["closes", "per_second"]), (Kind::Report, &["totals", "closes_per_second"])],
        true,
    ),
    figure(
        "held",
        "ports held",
        [(Kind::Snapshot, &["pool", "tcp", "held"]), (Kind::Report, &["pool", "held"])],
        true,
    ),
    figure(
        "usable",
        "usable ports",
        [(Kind::Snapshot, &["pool", "tcp", "usable"]), (Kind::Report, &["pool", "usable"])],
        false,
    ),
    figure("ports", "ports towards one destination", [(Kind::Run, &["peak_ports"]), NOWHERE], true),
    figure("headroom", "least headroom", [(Kind::Report, &["totals", "headroom_min"]), NOWHERE], false),
    figure("time_wait_left", "left in TIME-WAIT", [(Kind::Run, &["time_wait_left"]), NOWHERE], true),
    figure("leaked", "leaked", [(Kind::Run, &["leaked"]), NOWHERE], true),
];

/// Numbers of one destination.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Towards {
    /// Ports in use, or the most of them.
    pub(crate) ports: u64,
    /// Live connections of a snapshot, opened ones of a report or run.
    pub(crate) connections: u64,
}

/// One of the two files.
pub(crate) struct Saved {
    pub(crate) kind: Kind,
    /// In the order of [`FIGURES`]; None where it is not told.
    pub(crate) figures: Vec<Option<f64>>,
    /// By name, safe to show.
    pub(crate) destinations: BTreeMap<String, Towards>,
    /// What is known of lifetimes; None where nothing is.
    pub(crate) lifetimes: Option<LifetimeSample>,
    /// Opens of equal parts of the time, and how long these are, seconds.
    pub(crate) opens: Option<(Vec<u64>, f64)>,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Snapshot => "snapshot",
            Kind::Report => "report",
            Kind::Run => "run",
            Kind::Lifetimes => "lifetimes",
        }
    }

    /// What the connections of a destination are.
    pub(crate) const fn connections(self) -> &'static str {
        match self {
            Kind::Snapshot => "live",
            _ => "opened",
        }
    }
}

impl Saved {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// What is not JSON, is of no command whose output is compared, or of a later version.
    pub(crate) fn parse(text: &[u8]) -> anyhow::Result<Saved> {
        let value: Value = serde_json::from_slice(text)
            .context("it is no JSON object: diff reads what `sockeye snapshot --json`, `report --json`, `lifetimes --json` and `run --export-json` write")?;
        let schema = value.get("schema").and_then(Value::as_str).unwrap_or_default();
        let (name, version) = schema.split_once('/').unwrap_or((schema, ""));
        let kind = match name {
            "sockeye.snapshot" => Kind::Snapshot,
            "sockeye.report" => Kind::Report,
            "sockeye.run" => Kind::Run,
            "sockeye.lifetimes" => Kind::Lifetimes,
            "" => bail!("it has no \"schema\": diff reads JSON that sockeye has written"),
            other => bail!("diff cannot compare a {}", Harmless(other)),
        };
        let later = version.parse().is_ok_and(|version: u32| version > 1);
        ensure!(!later, "its schema is {}, of a later sockeye: use that one", Harmless(schema));
        ensure!(version == "1", "its schema is {}, which no sockeye writes", Harmless(schema));
        let figures = FIGURES
            .iter()
            .map(|figure| {
                let place = figure.places.iter().find(|(of, path)| *of == kind && !path.is_empty())?;
                let told = place.1.iter().try_fold(&value, |value, key| value.get(key))?.as_f64()?;
                // Nothing here is less than nothing, or more than any host has.
                (0.0..=MOST_COUNT as f64).contains(&told).then_some(told)
            })
            .collect();
        Ok(Saved {
            kind,
            figures,
            destinations: destinations(kind, &value),
            lifetimes: lifetimes(kind, &value),
            opens: opens(&value),
        })
    }
}

fn destinations(kind: Kind, value: &Value) -> BTreeMap<String, Towards> {
    let (ports, connections) = match kind {
        Kind::Snapshot => ("in_use", "live"),
        Kind::Report => ("in_use_max", "opens"),
        Kind::Run => ("peak_ports", "opens"),
        Kind::Lifetimes => return BTreeMap::new(),
    };
    let mut known: BTreeMap<String, Towards> = BTreeMap::new();
    for row in value.get("destinations").and_then(Value::as_array).into_iter().flatten() {
        let address = |key| row.get(key).and_then(Value::as_str)?.parse::<IpAddr>().ok();
        let port = row.get("remote_port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let (Some(local), Some(remote), Some(port)) =
            (address("local_address"), address("remote_address"), port)
        else {
            continue;
        };
        let number = |key| count(row.get(key)).unwrap_or(0);
        let protocol = match row.get("protocol").and_then(Value::as_str) {
            Some("udp") => " (UDP)",
            _ => "",
        };
        let name = format!("{local} → {}{protocol}", SocketAddr::new(remote, port));
        let towards = known.entry(name).or_default();
        towards.ports += number(ports);
        towards.connections += number(connections);
    }
    known
}

fn lifetimes(kind: Kind, value: &Value) -> Option<LifetimeSample> {
    let told = if kind == Kind::Lifetimes { value } else { value.get("lifetimes")? };
    let mut sample = LifetimeSample::new();
    if let Some(rows) = told.get("sample_ms").and_then(Value::as_array) {
        for row in rows {
            let (Some(min_ms), Some(count)) = (row.get(0).and_then(Value::as_u64), count(row.get(2))) else {
                continue;
            };
            sample.record_many(Lifetime { min_ms, max_ms: row.get(1).and_then(Value::as_u64) }, count);
        }
        return Some(sample);
    }
    // Bars are wide: the comparison knows what they leave open.
    for bar in told.get("bars")?.as_array()? {
        let (Some(min_ms), Some(count)) =
            (bar.get("from_ms").and_then(Value::as_u64), count(bar.get("count")))
        else {
            continue;
        };
        let to_ms = bar.get("to_ms").and_then(Value::as_u64);
        sample.record_many(Lifetime { min_ms, max_ms: to_ms.map(|to_ms| to_ms.saturating_sub(1)) }, count);
    }
    Some(sample)
}

/// Parts of a report's time that were recorded from end to end, nearly.
fn opens(value: &Value) -> Option<(Vec<u64>, f64)> {
    let bucket_ms = value.get("bucket_ms")?.as_u64().filter(|ms| *ms > 0)?;
    let counts = value.get("buckets")?.as_array()?.iter().filter_map(|bucket| {
        let recorded_ms = bucket.get("recorded_ms")?.as_u64()?;
        (recorded_ms.saturating_mul(10) >= bucket_ms.saturating_mul(9)).then(|| count(bucket.get("opens")))?
    });
    Some((counts.collect(), bucket_ms as f64 / 1000.0))
}
