//! A watch for machines: one JSON object per interval, schema `sockeye.watch/1`. Names stay; new ones may come.

use serde::Serialize;
use sockeye_core::{Churn, Destination, Flow, RATE_WINDOWS_S, Rates};

use crate::follow::Tick;
use crate::render::group_json::{Groups, groups};
use crate::render::netns_json::NetnsRow;
use crate::render::remark_json::{RemarkRow, remarks};
use crate::render::snapshot_json::{self, rounded};
use crate::render::watch_table::time_wait;
use crate::terminal::write_json;

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    /// Where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<NetnsRow>,
    at: String,
    interval_ms: u64,
    /// During the interval.
    opens: u64,
    closes: u64,
    live: u64,
    time_wait: u32,
    outgoing: FlowRow,
    incoming: FlowRow,
    udp: FlowRow,
    rates: RateRow,
    pool: Pool,
    worst: Option<DestinationRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage_ratio: Option<f64>,
    /// Whether they are heard at all; without them some connections are not seen.
    events: bool,
    events_lost: u64,
    /// Sockets whose end is not certain yet: counted as live.
    unconfirmed: u32,
    /// Of this tick's sweep; null when there was none.
    swept_ms: Option<f64>,
    swept_sockets: Option<u64>,
    /// How long ago the sweep began that the port numbers come from.
    swept_age_ms: u64,
    destinations: Vec<DestinationRow>,
    destination_count: usize,
    listeners: Vec<ListenerRow>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    groups: Option<Groups<'a>>,
    warnings: Vec<RemarkRow>,
}

/// TCP ports of the range, as of the last sweep.
#[derive(Serialize)]
struct Pool {
    range: u32,
    held: u32,
    usable: u32,
}

/// Opens and closes of one kind of socket, in the interval.
#[derive(Serialize)]
struct FlowRow {
    opens: u64,
    closes: u64,
    live: u64,
    rates: RateRow,
}

/// Means over the last seconds: `1s`, `10s`, `60s`.
#[derive(Serialize)]
struct RateRow {
    opens_per_second: Windows,
    closes_per_second: Windows,
}

struct Windows([f32; 3]);

impl Serialize for Windows {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rates = RATE_WINDOWS_S.iter().zip(self.0);
        serializer
            .collect_map(rates.map(|(seconds, rate)| (format!("{seconds}s"), rounded(f64::from(rate), 2))))
    }
}

#[derive(Serialize)]
struct DestinationRow {
    #[serde(flatten)]
    destination: snapshot_json::DestinationRow,
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<RateRow>,
}

#[derive(Serialize)]
struct ListenerRow {
    port: u16,
    live: u32,
    time_wait: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    rates: Option<RateRow>,
}

/// The object and a newline, of the namespace `netns` if there are several. Destinations and listeners: `top` of each.
pub(crate) fn line(tick: &Tick<'_>, netns: Option<NetnsRow>, top: usize) -> anyhow::Result<String> {
    let none = Churn::default();
    let report = &*tick.report;
    let churn = report.churn.as_ref().unwrap_or(&none);
    let mut listeners: Vec<_> = report.listeners.iter().collect();
    listeners.sort_by_key(|listener| (std::cmp::Reverse(listener.traffic.sockets()), listener.port));
    let line = Line {
        schema: "sockeye.watch/1",
        netns,
        at: format!("{:.3}", tick.at),
        interval_ms: churn.interval_ms,
        opens: churn.tcp.opened_last,
        closes: churn.tcp.closed_last,
        live: churn.tcp.live(),
        time_wait: time_wait(tick),
        outgoing: flow(&churn.outgoing),
        incoming: flow(&churn.incoming),
        udp: flow(&churn.udp),
        rates: rates(&churn.tcp.rates),
        pool: Pool {
            range: report.tcp.pool.range().count(),
            held: report.tcp.held,
            usable: report.tcp.usable,
        },
        worst: report.destinations.first().map(destination),
        coverage_ratio: churn.coverage.ratio().map(|ratio| rounded(ratio, 4)),
        events: churn.events,
        events_lost: churn.events_lost,
        unconfirmed: churn.unconfirmed,
        swept_ms: tick.sweep.map(|sweep| rounded(sweep.duration_ms, 3)),
        swept_sockets: tick.sweep.map(|sweep| sweep.records),
        swept_age_ms: churn.at.ms_since(churn.swept_at),
        destinations: report.destinations.iter().take(top).map(destination).collect(),
        destination_count: report.destinations.len(),
        listeners: listeners
            .into_iter()
            .take(top)
            .map(|listener| ListenerRow {
                port: listener.port,
                live: listener.traffic.live,
                time_wait: listener.traffic.time_wait,
                rates: listener.rates.as_ref().map(rates),
            })
            .collect(),
        groups: tick.groups.as_ref().map(|(by, rows)| groups(rows, *by, top, true)),
        warnings: remarks(&report.warnings, tick.notes),
    };
    let mut text = Vec::new();
    write_json(&mut text, &line)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

fn flow(flow: &Flow) -> FlowRow {
    FlowRow {
        opens: flow.opened_last,
        closes: flow.closed_last,
        live: flow.live(),
        rates: rates(&flow.rates),
    }
}

fn rates(rates: &Rates) -> RateRow {
    RateRow { opens_per_second: Windows(rates.opens), closes_per_second: Windows(rates.closes) }
}

fn destination(destination: &Destination) -> DestinationRow {
    DestinationRow {
        destination: snapshot_json::destination(destination),
        rates: destination.rates.as_ref().map(rates),
    }
}
