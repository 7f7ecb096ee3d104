//! Ports as one JSON object, schema `sockeye.ports/1`: runs of ports, never cells of a picture. Names stay; new ones
//! may come.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::Serialize;
use sock_diag::{Protocol, SocketRecord, TimerKind};
use sockeye_core::{PortHolder, PortMap, Report};

use crate::command::ports::{Chance, Listing, Picture};
use crate::render::headroom_json::doubts;
use crate::render::ports_screen::bindable;
use crate::render::snapshot_json::{BindRow, WarningRow, bind};
use crate::sweep::Note;
use crate::terminal::write_json;

#[derive(Serialize)]
struct PictureObject {
    schema: &'static str,
    taken_at: String,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    towards: Option<Towards>,
    range: Range,
    counts: BTreeMap<&'static str, u32>,
    /// The half that connect() takes first, then the other.
    halves: [Half; 2],
    runs: Vec<Run>,
    /// What bind() with port 0 finds on each local address, least first. Absent for UDP, for one destination or for one
    /// family.
    #[serde(skip_serializing_if = "Option::is_none")]
    bind: Option<Vec<BindRow>>,
    warnings: Vec<WarningRow>,
}

#[derive(Serialize)]
struct Towards {
    local_address: String,
    remote_address: String,
    remote_port: u16,
}

#[derive(Serialize)]
struct Range {
    first: u16,
    last: u16,
    ports: u32,
}

#[derive(Serialize)]
struct Half {
    preferred: bool,
    usable: u32,
    free: u32,
}

#[derive(Serialize)]
struct Run {
    first: u16,
    last: u16,
    holder: &'static str,
}

/// The object and a newline.
pub(crate) fn picture(picture: &Picture<'_>) -> anyhow::Result<String> {
    let map = picture.map;
    let half = |preferred| {
        let (usable, free) = map.half(preferred);
        Half { preferred, usable, free }
    };
    finish(&PictureObject {
        schema: "sockeye.ports/1",
        taken_at: format!("{:.3}", picture.surroundings.taken_at),
        protocol: picture.protocol.name(),
        towards: picture.towards.map(|id| Towards {
            local_address: id.local_address.to_string(),
            remote_address: id.remote_address.to_string(),
            remote_port: id.remote_port,
        }),
        range: range(map),
        counts: PortHolder::ALL.iter().map(|holder| (holder.name(), map.count(*holder))).collect(),
        halves: [half(true), half(false)],
        runs: map
            .runs()
            .iter()
            .map(|(run, holder)| Run { first: *run.start(), last: *run.end(), holder: holder.name() })
            .collect(),
        bind: bindable(picture).map(|rows| rows.iter().map(bind).collect()),
        warnings: warnings(picture.report, picture.notes),
    })
}

#[derive(Serialize)]
struct ListingObject {
    schema: &'static str,
    taken_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<Range>,
    ports: Vec<Port>,
    sockets: Vec<Socket>,
    warnings: Vec<WarningRow>,
}

#[derive(Serialize)]
struct Port {
    protocol: &'static str,
    port: u16,
    in_range: bool,
    reserved: bool,
    holder: &'static str,
    /// What becomes of it when the kernel chooses a port: never, held, shared, free.
    chance: &'static str,
}

#[derive(Serialize)]
struct Socket {
    protocol: &'static str,
    state: &'static str,
    local_address: String,
    local_port: u16,
    remote_address: String,
    remote_port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u32>,
    cookie: String,
    /// Until TIME_WAIT ends, or a FIN_WAIT2 without a process.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u32>,
}

/// The object and a newline.
pub(crate) fn listing(listing: &Listing<'_>) -> anyhow::Result<String> {
    let ports = listing
        .ports
        .clone()
        .flat_map(|port| listing.maps.iter().map(move |(protocol, map)| row(*protocol, map, port)));
    finish(&ListingObject {
        schema: "sockeye.ports/1",
        taken_at: format!("{:.3}", listing.surroundings.taken_at),
        range: listing.maps.first().map(|(_, map)| range(map)),
        ports: ports.collect(),
        sockets: listing.sockets.iter().map(socket).collect(),
        warnings: warnings(listing.report, listing.notes),
    })
}

fn row(protocol: Protocol, map: &PortMap, port: u16) -> Port {
    let in_range = map.pool().range().contains(port);
    Port {
        protocol: protocol.name(),
        port,
        in_range,
        reserved: in_range && !map.pool().ports().contains(port),
        holder: map.taken_by(port).name(),
        chance: match Listing::chance(map, port) {
            Chance::Never => "never",
            Chance::Held => "held",
            // A UDP socket gets its port before it knows where to.
            Chance::Shared if protocol == Protocol::Udp => "held",
            Chance::Shared => "shared",
            Chance::Free => "free",
        },
    }
}

fn socket(record: &SocketRecord) -> Socket {
    let id = &record.id;
    Socket {
        protocol: record.protocol.name(),
        state: record.state.snake_name(),
        local_address: id.local_address.to_string(),
        local_port: id.local_port,
        remote_address: id.remote_address.to_string(),
        remote_port: id.remote_port,
        uid: record.uid,
        inode: record.inode.map(NonZeroU32::get),
        cookie: id.cookie.to_string(),
        expires_ms: (record.timer.kind == TimerKind::TimeWait).then_some(record.timer.expires_ms),
    }
}

fn warnings(report: &Report, notes: &[Note]) -> Vec<WarningRow> {
    doubts(report, notes).map(|(id, message)| WarningRow { id, message }).collect()
}

fn range(map: &PortMap) -> Range {
    let range = map.pool().range();
    Range { first: range.first, last: range.last, ports: range.count() }
}

fn finish(object: &impl Serialize) -> anyhow::Result<String> {
    let mut text = Vec::new();
    write_json(&mut text, object)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}
