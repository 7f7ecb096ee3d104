//! Closes for machines: one JSON object each, schema `sockeye.closes/1`. Names stay; new ones may come.

use std::net::IpAddr;

use serde::Serialize;
use sockeye_core::Closed;

use crate::by::{FormerOwner, OwnerName};
use crate::terminal::write_json;

/// Absent means not known.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    /// Not later than.
    at: String,
    /// How much earlier it may have been.
    at_uncertainty_ms: u64,
    protocol: &'static str,
    cookie: String,
    #[serde(flatten)]
    local: Option<Local>,
    #[serde(flatten)]
    remote: Option<Remote>,
    direction: &'static str,
    /// Whether both ends are on this host: its other socket has a line of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_local: Option<bool>,
    closed_by: &'static str,
    evidence: &'static str,
    #[serde(flatten)]
    lifetime: Lifetime,
    #[serde(skip_serializing_if = "Option::is_none")]
    sent_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retransmits: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a OwnerName>,
    /// True: nobody saw it in that owner's hands.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    owner_inferred: bool,
}

#[derive(Serialize)]
struct Local {
    local_address: IpAddr,
    local_port: u16,
}

#[derive(Serialize)]
struct Remote {
    remote_address: IpAddr,
    remote_port: u16,
}

/// The middle and how far it may be off; of connections older than the watch a lower bound alone.
#[derive(Serialize)]
struct Lifetime {
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime_uncertainty_ms: Option<u64>,
    lifetime_min_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    lifetime_max_ms: Option<u64>,
}

/// The object and a newline.
pub(crate) fn line(
    closed: &Closed,
    owner: Option<&FormerOwner>,
    at: jiff::Timestamp,
) -> anyhow::Result<String> {
    let told = closed.end.unwrap_or_default();
    let line = Line {
        schema: "sockeye.closes/1",
        at: format!("{at:.3}"),
        at_uncertainty_ms: closed.at.doubt_ms(),
        protocol: closed.protocol.name(),
        cookie: closed.cookie.to_string(),
        local: closed.local.map(|end| Local { local_address: end.ip(), local_port: end.port() }),
        remote: closed.remote.map(|end| Remote { remote_address: end.ip(), remote_port: end.port() }),
        direction: closed.direction.name(),
        is_local: closed.is_local(),
        closed_by: closed.closed_by.name(),
        evidence: closed.evidence.name(),
        lifetime: Lifetime {
            lifetime_ms: closed.lifetime.middle_ms(),
            lifetime_uncertainty_ms: closed.lifetime.uncertainty_ms(),
            lifetime_min_ms: closed.lifetime.min_ms,
            lifetime_max_ms: closed.lifetime.max_ms,
        },
        sent_bytes: told.sent_bytes,
        received_bytes: closed.received_bytes(),
        retransmits: told.retransmits,
        owner: owner.map(|owner| &owner.name),
        owner_inferred: owner.is_some_and(|owner| owner.is_inferred),
    };
    let mut text = Vec::new();
    write_json(&mut text, &line)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}
