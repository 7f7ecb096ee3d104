//! The snapshot as one JSON object, schema `sockeye.snapshot/1`. Names stay; new ones may come.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use sock_diag::{Protocol, SocketState};
use sockeye_core::{Bindable, Destination, Report, SocketCounts};

use crate::by::{self, By};
use crate::render::group_json::{self, Groups};
use crate::render::netns_json::NetnsRow;
use crate::render::remark_json::{RemarkRow, remarks};
use crate::surroundings::Surroundings;
use crate::sweep::Note;
use crate::terminal::write_json;

#[derive(Serialize)]
struct Snapshot<'a> {
    schema: &'static str,
    taken_at: String,
    host: Host<'a>,
    netns: NetnsRow,
    sweep: Sweep,
    pool: Pools,
    states: BTreeMap<&'static str, u32>,
    udp_states: BTreeMap<&'static str, u32>,
    destinations: Vec<DestinationRow>,
    /// All of them, shown or not.
    destination_count: usize,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    groups: Option<Groups<'a>>,
    listeners: Vec<ListenerRow>,
    closes: Closes,
    warnings: Vec<RemarkRow>,
}

#[derive(Serialize)]
struct Host<'a> {
    name: &'a str,
    kernel: &'a str,
}

#[derive(Serialize)]
struct Sweep {
    sockets: u32,
    duration_ms: f64,
    duplicates: u64,
}

#[derive(Serialize)]
struct Pools {
    tcp: TcpPool,
    udp: UdpPool,
}

#[derive(Serialize)]
struct TcpPool {
    first: u16,
    last: u16,
    range: u32,
    reserved: u32,
    held: u32,
    /// Of these, held by connections that bound them before connecting.
    held_bound_by_number: u32,
    usable: u32,
    /// What bind() with port 0 finds on each local address, least first; as many as `--top` says.
    bind: Vec<BindRow>,
}

/// What bind() with port 0 finds on a local address.
#[derive(Serialize)]
pub(super) struct BindRow {
    local_address: IpAddr,
    headroom: BindHeadroom,
    bound_before_connecting: u32,
}

#[derive(Serialize)]
struct BindHeadroom {
    min: u32,
    max: u32,
}

#[derive(Serialize)]
struct UdpPool {
    first: u16,
    last: u16,
    range: u32,
    reserved: u32,
    usable: u32,
    in_use: u32,
    occupancy_ratio: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    worst: Option<UdpAddress>,
}

#[derive(Serialize)]
struct UdpAddress {
    local_address: IpAddr,
    in_use: u32,
}

/// A destination, here and wherever else JSON names one.
#[derive(Serialize)]
pub(super) struct DestinationRow {
    protocol: &'static str,
    local_address: IpAddr,
    remote_address: IpAddr,
    remote_port: u16,
    in_use: u32,
    live: u32,
    time_wait: u32,
    occupancy_ratio: f64,
    closes_per_second: f64,
    headroom: HeadroomRow,
    reusable_time_wait: u32,
    /// null when it never happens, absent where no rate is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    exhausted_in_seconds: Option<Option<f64>>,
    /// The same for the least headroom, where that is in doubt and then comes sooner.
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest_exhausted_in_seconds: Option<f64>,
}

#[derive(Serialize)]
struct HeadroomRow {
    min: u32,
    max: u32,
    /// Why it is an interval; empty when it is a number.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    because: Vec<WarningRow>,
}

#[derive(Serialize)]
struct ListenerRow {
    port: u16,
    live: u32,
    time_wait: u32,
    closes_per_second: f64,
}

#[derive(Serialize)]
struct Closes {
    per_second: f64,
    now_per_second: f64,
    peak_per_second: u32,
    last_60s: Vec<u32>,
}

#[derive(Serialize)]
pub(super) struct WarningRow {
    pub(super) id: &'static str,
    pub(super) message: String,
}

impl WarningRow {
    pub(super) fn of(note: &Note) -> WarningRow {
        WarningRow { id: note.id, message: note.message.clone() }
    }
}

/// The object and a newline.
pub(crate) fn render(
    report: &Report,
    surroundings: &Surroundings,
    notes: &[Note],
    top: usize,
    groups: Option<(By, &[by::Row])>,
) -> anyhow::Result<String> {
    let mut text = object(report, surroundings, NetnsRow::of(surroundings), notes, top, groups)?;
    text.push('\n');
    Ok(text)
}

/// The object of the namespace `netns`.
pub(super) fn object(
    report: &Report,
    surroundings: &Surroundings,
    netns: NetnsRow,
    notes: &[Note],
    top: usize,
    groups: Option<(By, &[by::Row])>,
) -> anyhow::Result<String> {
    let range = report.tcp.pool.range();
    let snapshot = Snapshot {
        schema: "sockeye.snapshot/1",
        taken_at: format!("{:.3}", surroundings.taken_at),
        host: Host { name: &surroundings.host_name, kernel: &surroundings.kernel_release },
        netns,
        sweep: Sweep {
            sockets: report.sockets.total(),
            duration_ms: rounded(surroundings.sweep_duration_ms, 3),
            duplicates: report.duplicates,
        },
        pool: Pools {
            tcp: TcpPool {
                first: range.first,
                last: range.last,
                range: range.count(),
                reserved: report.tcp.reserved,
                held: report.tcp.held,
                held_bound_by_number: report.tcp.explicit,
                usable: report.tcp.usable,
                bind: report.tcp.bindable.iter().take(top).map(bind).collect(),
            },
            udp: UdpPool {
                first: range.first,
                last: range.last,
                range: report.udp.range,
                reserved: report.udp.reserved,
                usable: report.udp.usable,
                in_use: report.udp.in_use,
                occupancy_ratio: rounded(report.udp.occupancy(), 4),
                worst: report
                    .udp
                    .addresses
                    .first()
                    .map(|worst| UdpAddress { local_address: worst.local_address, in_use: worst.in_use }),
            },
        },
        states: states(&report.sockets, Protocol::Tcp),
        udp_states: states(&report.sockets, Protocol::Udp),
        destinations: report.destinations.iter().take(top).map(destination).collect(),
        destination_count: report.destinations.len(),
        groups: groups.map(|(by, rows)| group_json::groups(rows, by, top, false)),
        listeners: report
            .listeners
            .iter()
            .map(|listener| ListenerRow {
                port: listener.port,
                live: listener.traffic.live,
                time_wait: listener.traffic.time_wait,
                closes_per_second: rounded(listener.traffic.closes_per_second(), 2),
            })
            .collect(),
        closes: Closes {
            per_second: rounded(report.closes.per_second(), 2),
            now_per_second: rounded(report.closes.now_per_second(), 2),
            peak_per_second: report.closes.peak_per_second(),
            last_60s: report.closes.oldest_first().collect(),
        },
        warnings: remarks(&report.warnings, notes),
    };
    let mut text = Vec::new();
    write_json(&mut text, &snapshot)?;
    Ok(String::from_utf8(text)?)
}

/// Every state by name, zeros too: a state without sockets is known to have none.
fn states(counts: &SocketCounts, protocol: Protocol) -> BTreeMap<&'static str, u32> {
    let shown = |state: &SocketState| match (protocol.is_datagram(), state) {
        (_, SocketState::NewSynRecv) => false,
        (true, state) => matches!(state, SocketState::Established | SocketState::Close),
        (false, _) => true,
    };
    let mut states: BTreeMap<_, _> = SocketState::all()
        .filter(shown)
        .map(|state| (state.snake_name(), counts.in_state(protocol, state)))
        .collect();
    for (state, count) in counts.states(protocol) {
        states.insert(state.snake_name(), count);
    }
    states
}

pub(super) fn bind(on: &Bindable) -> BindRow {
    BindRow {
        local_address: on.local_address,
        headroom: BindHeadroom { min: on.min, max: on.max },
        bound_before_connecting: on.explicit,
    }
}

pub(super) fn destination(destination: &Destination) -> DestinationRow {
    let headroom = &destination.headroom;
    DestinationRow {
        protocol: destination.id.protocol.name(),
        local_address: destination.id.local_address,
        remote_address: destination.id.remote_address,
        remote_port: destination.id.remote_port,
        in_use: destination.in_use,
        live: destination.traffic.live,
        time_wait: destination.traffic.time_wait,
        occupancy_ratio: rounded(destination.occupancy(), 4),
        closes_per_second: rounded(destination.traffic.closes_per_second(), 2),
        headroom: HeadroomRow {
            min: headroom.min,
            max: headroom.max,
            because: headroom
                .doubts()
                .map(|doubt| WarningRow { id: doubt.id(), message: doubt.to_string() })
                .collect(),
        },
        reusable_time_wait: headroom.reusable_time_wait,
        exhausted_in_seconds: destination
            .forecast
            .map(|forecast| forecast.exhausted_in_s.map(|seconds| rounded(seconds, 1))),
        earliest_exhausted_in_seconds: destination
            .forecast
            .and_then(|forecast| forecast.earliest_in_s.filter(|_| forecast.is_in_doubt()))
            .map(|seconds| rounded(seconds, 1)),
    }
}

/// To so many decimals: digits beyond what was measured are noise in a diff.
pub(super) fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    let scaled = (value * scale).round();
    // A capture may hold any number, and JSON has none for infinity.
    if scaled.is_finite() { scaled / scale } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_keeps_numbers_finite() {
        assert_eq!((rounded(0.12345, 3), rounded(-7.0, 2)), (0.123, -7.0));
        assert_eq!((rounded(f64::MAX, 3), rounded(f64::MIN, 3)), (f64::MAX, f64::MIN));
    }
}
