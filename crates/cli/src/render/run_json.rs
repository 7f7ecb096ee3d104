//! What a run came to as one JSON object, schema `sockeye.run/1`. Names stay; new ones may come.

use serde::Serialize;
use sockeye_gate::{Account, Count, DestinationAccount, Finding, Lived, Scope, Span, Unit, Verdict};

use crate::run::child::Exit;
use crate::terminal::write_json;

/// Absent means not known.
#[derive(Serialize)]
struct Object<'a> {
    schema: &'static str,
    command: &'a [String],
    /// As a shell would tell it: 128 and the number of a signal; 124 when its time was up.
    exit_code: u8,
    timed_out: bool,
    duration_ms: u64,
    isolated: bool,
    scope: &'static str,
    verdict: &'static str,
    broken: Vec<Row<'a>>,
    /// All rules, the broken ones among them.
    rules: Vec<Row<'a>>,
    opens: u64,
    opens_exact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_max: Option<u64>,
    accepts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    accepts_max: Option<u64>,
    closes: u64,
    closed_by: ClosedBy,
    peak_live: u64,
    peak_ports: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_ports_max: Option<u64>,
    peak_occupancy_ratio: f64,
    time_wait_left: u64,
    leaked: u64,
    leaked_exact: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    leaked_max: Option<u64>,
    leaks: Vec<LeakRow<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchanges_per_connection: Option<f64>,
    lifetimes: Lifetimes<'a>,
    destinations: Vec<Destination<'a>>,
    warnings: &'a [String],
}

#[derive(Serialize)]
struct ClosedBy {
    local: u64,
    remote: u64,
    reset: u64,
    unknown: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    rule: &'a str,
    outcome: &'static str,
    /// In the unit of `unit`; the least it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_max: Option<f64>,
    limit: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<f64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    evidence: &'a [String],
}

#[derive(Serialize)]
struct LeakRow<'a> {
    kind: &'static str,
    count: u64,
    certain: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_address: Option<std::net::IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_port: Option<u16>,
    #[serde(skip_serializing_if = "str::is_empty")]
    owner: &'a str,
}

#[derive(Serialize)]
struct Lifetimes<'a> {
    completed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    percentiles_ms: Option<Percentiles>,
    /// `[min, max, connections]`: as `sockeye diff` reads it.
    #[serde(skip_serializing_if = "<[(u64, Option<u64>, u64)]>::is_empty")]
    sample_ms: &'a [(u64, Option<u64>, u64)],
}

#[derive(Serialize)]
struct Percentiles {
    p50: Percentile,
    p90: Percentile,
    p99: Percentile,
}

#[derive(Serialize)]
struct Percentile {
    min: u64,
    max: u64,
}

#[derive(Serialize)]
struct Destination<'a> {
    protocol: &'static str,
    local_address: std::net::IpAddr,
    remote_address: std::net::IpAddr,
    remote_port: u16,
    opens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    opens_max: Option<u64>,
    closes: u64,
    peak_live: u64,
    peak_ports: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_ports_max: Option<u64>,
    peak_occupancy_ratio: f64,
    time_wait_left: u64,
    leaked: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchanges_per_connection: Option<f64>,
    lifetimes: Lifetimes<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owners: Vec<Owner<'a>>,
}

#[derive(Serialize)]
struct Owner<'a> {
    name: &'a str,
    opens: u64,
}

/// The object and a newline.
pub(crate) fn render(
    account: &Account,
    verdict: &Verdict,
    command: &[String],
    exit: Exit,
) -> anyhow::Result<String> {
    let [local, remote, reset, unknown] = account.closed_by;
    let object = Object {
        schema: "sockeye.run/1",
        command,
        exit_code: exit.code(),
        timed_out: exit == Exit::TimedOut,
        duration_ms: account.duration_ms,
        isolated: account.scope == Scope::Namespace,
        scope: account.scope.name(),
        verdict: if verdict.passes() { "pass" } else { "fail" },
        broken: verdict.broken().map(row).collect(),
        rules: verdict.findings.iter().map(row).collect(),
        opens: account.opens.min,
        opens_exact: account.opens.is_exact(),
        opens_max: doubt(account.opens),
        accepts: account.accepts.min,
        accepts_max: doubt(account.accepts),
        closes: account.closes,
        closed_by: ClosedBy { local, remote, reset, unknown },
        peak_live: account.peak_live,
        peak_ports: account.peak_ports.min,
        peak_ports_max: doubt(account.peak_ports),
        peak_occupancy_ratio: rounded(account.peak_occupancy),
        time_wait_left: account.time_wait_left,
        leaked: account.leaks_told(),
        leaked_exact: account.leaks_doubt.is_none(),
        leaked_max: doubt(account.leaked()),
        leaks: account
            .leaks
            .iter()
            .map(|leak| LeakRow {
                kind: leak.kind.name(),
                count: leak.count,
                certain: leak.is_certain,
                remote_address: leak.remote.map(|remote| remote.ip()),
                remote_port: leak.remote.map(|remote| remote.port()),
                owner: &leak.owner,
            })
            .collect(),
        exchanges_per_connection: account.exchanges.map(rounded),
        lifetimes: lifetimes(&account.lived, &account.lived_sample),
        destinations: account.destinations.iter().map(destination).collect(),
        warnings: &account.notes,
    };
    let mut text = Vec::new();
    write_json(&mut text, &object)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

fn doubt(count: Count) -> Option<u64> {
    (!count.is_exact()).then_some(count.max)
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn row(finding: &Finding) -> Row<'_> {
    Row {
        rule: &finding.rule,
        outcome: finding.outcome.name(),
        value: finding.value.map(|value| rounded(value.min)),
        value_max: finding.value.filter(|value| value.min != value.max).map(|value| rounded(value.max)),
        limit: rounded(finding.allowed),
        unit: match finding.unit {
            Unit::Count => "count",
            Unit::PerSecond => "per_second",
            Unit::Share => "ratio",
            Unit::Milliseconds => "ms",
            Unit::PerConnection => "per_connection",
        },
        baseline: finding.baseline.map(rounded),
        evidence: &finding.evidence,
    }
}

fn lifetimes<'a>(lived: &Lived, sample: &'a [(u64, Option<u64>, u64)]) -> Lifetimes<'a> {
    let at = |span: Span| Percentile { min: span.min_ms, max: span.max_ms };
    let percentiles = lived.p50.zip(lived.p90).zip(lived.p99);
    Lifetimes {
        completed: lived.completed,
        percentiles_ms: percentiles.map(|((p50, p90), p99)| Percentiles {
            p50: at(p50),
            p90: at(p90),
            p99: at(p99),
        }),
        sample_ms: sample,
    }
}

fn destination(one: &DestinationAccount) -> Destination<'_> {
    Destination {
        protocol: "tcp",
        local_address: one.local_address,
        remote_address: one.remote.ip(),
        remote_port: one.remote.port(),
        opens: one.opens.min,
        opens_max: doubt(one.opens),
        closes: one.closes,
        peak_live: one.peak_live,
        peak_ports: one.peak_ports.min,
        peak_ports_max: doubt(one.peak_ports),
        peak_occupancy_ratio: rounded(one.peak_occupancy),
        time_wait_left: one.time_wait_left,
        leaked: one.leaked.max,
        exchanges_per_connection: one.exchanges.map(rounded),
        lifetimes: lifetimes(&one.lived, &[]),
        owners: one.owners.iter().map(|(name, opens)| Owner { name, opens: *opens }).collect(),
    }
}
