//! `sockeye ports`: what holds the ports of the range, as a picture; `sockeye ports N`: who holds those, one by one.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::{ControlFlow, RangeInclusive};

use anyhow::{Context as _, ensure};
use sock_diag::filter::{Filter, NoNames};
use sock_diag::{DumpRequest, Family, Protocol, SocketRecord, StateSet};
use sockeye_core::{DestinationId, PortHolder, PortMap};

use crate::args::{PortsArgs, SnapshotFormat};
use crate::explain;
use crate::feed::Feed;
use crate::render::{ports_json, ports_screen};
use crate::surroundings::Surroundings;
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// The range as a picture.
pub(crate) struct Picture<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) towards: Option<DestinationId>,
    pub(crate) map: &'a PortMap,
    pub(crate) surroundings: &'a Surroundings,
}

/// Ports one by one.
pub(crate) struct Listing<'a> {
    pub(crate) ports: RangeInclusive<u16>,
    /// For each protocol asked for.
    pub(crate) maps: Vec<(Protocol, PortMap)>,
    /// Their sockets, by protocol and port.
    pub(crate) sockets: Vec<SocketRecord>,
    pub(crate) surroundings: &'a Surroundings,
}

/// What becomes of a port when somebody asks for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Chance {
    /// Outside the range, or reserved: never chosen.
    Never,
    /// Kept from everyone who lets the kernel choose.
    Held,
    /// Kept from those who have it already: a connect() elsewhere may get it.
    Shared,
    /// Whoever comes.
    Free,
}

impl Listing<'_> {
    /// What connect() does about a port.
    pub(crate) fn chance(map: &PortMap, port: u16) -> Chance {
        if !map.pool().ports().contains(port) {
            return Chance::Never;
        }
        match map.holder(port) {
            PortHolder::Free => Chance::Free,
            PortHolder::Live | PortHolder::TimeWait => Chance::Shared,
            _ => Chance::Held,
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &PortsArgs) -> anyhow::Result<()> {
    let mut feed = Feed::open(&args.feed)?;
    let format = if args.json { SnapshotFormat::Json } else { args.output.unwrap_or(SnapshotFormat::Table) };
    let width = || terminal::width().unwrap_or(ports_screen::DEFAULT_WIDTH);
    let palette = Palette::choose(args.color);
    let text = match &args.ports {
        None => {
            let protocol = if args.udp { Protocol::Udp } else { Protocol::Tcp };
            let towards = towards(args, protocol)?;
            let settings = feed.surroundings().core_settings();
            let mut map = PortMap::new(&settings, protocol, towards);
            let request = DumpRequest { family: family(args), ..DumpRequest::all(protocol) };
            read(&mut feed, &request, |record| map.observe(&record))?;
            note_bound(&mut feed, &mut map, protocol)?;
            feed.end_sweep()?;
            let picture = Picture { protocol, towards, map: &map, surroundings: feed.surroundings() };
            match format {
                SnapshotFormat::Json => ports_json::picture(&picture)?,
                SnapshotFormat::Table => ports_screen::picture(&picture, width(), palette),
            }
        }
        Some(ports) => {
            let (maps, sockets) = list(&mut feed, args, ports)?;
            feed.end_sweep()?;
            let listing = Listing { ports: ports.clone(), maps, sockets, surroundings: feed.surroundings() };
            match format {
                SnapshotFormat::Json => ports_json::listing(&listing)?,
                SnapshotFormat::Table => ports_screen::listing(&listing, palette),
            }
        }
    };
    let mut out = buffered_stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ignore_closed_pipe(written).context("writing to standard output")?;
    feed.finish()
}

/// The connections that count, where those of one destination are asked for.
fn towards(args: &PortsArgs, protocol: Protocol) -> anyhow::Result<Option<DestinationId>> {
    let (Some(from), Some(to)) = (args.from, args.to) else { return Ok(None) };
    let (from, to): (IpAddr, SocketAddr) = (from.to_canonical(), to);
    ensure!(protocol == Protocol::Tcp, "of UDP a port is taken for every destination: leave out --to");
    ensure!(from.is_ipv4() == to.is_ipv4(), "{from} cannot connect to {to}: one is IPv4, the other IPv6");
    Ok(Some(DestinationId {
        protocol,
        local_address: from,
        remote_address: to.ip().to_canonical(),
        remote_port: to.port(),
    }))
}

fn family(args: &PortsArgs) -> Option<Family> {
    match (args.ipv4, args.ipv6) {
        (true, _) => Some(Family::Inet),
        (_, true) => Some(Family::Inet6),
        _ => None,
    }
}

type Listed = (Vec<(Protocol, PortMap)>, Vec<SocketRecord>);

/// The sockets on some ports, of the protocols that were asked for.
fn list(feed: &mut Feed, args: &PortsArgs, ports: &RangeInclusive<u16>) -> anyhow::Result<Listed> {
    let settings = feed.surroundings().core_settings();
    let text = format!("sport = {}-{}", ports.start(), ports.end());
    let filter = Filter::parse(&text, &NoNames).map_err(|error| anyhow::anyhow!(error.render(&text)))?;
    let mut maps = Vec::new();
    let mut sockets = Vec::new();
    let wanted = [(args.tcp || !args.udp, Protocol::Tcp), (args.udp || !args.tcp, Protocol::Udp)];
    for (_, protocol) in wanted.into_iter().filter(|(wanted, _)| *wanted) {
        let mut map = PortMap::new(&settings, protocol, None);
        let request =
            DumpRequest { family: family(args), filter: Some(&filter), ..DumpRequest::all(protocol) };
        read(feed, &request, |record| {
            map.observe(&record);
            sockets.push(record);
        })?;
        note_bound(feed, &mut map, protocol)?;
        maps.push((protocol, map));
    }
    // A raced dump may tell a socket twice.
    sockets.sort_by_key(|record| {
        (
            record.id.local_port,
            record.protocol,
            record.id.remote_address,
            record.id.remote_port,
            record.id.cookie,
        )
    });
    sockets.dedup_by_key(|record| (record.protocol, record.id.cookie, record.id.remote_port));
    Ok((maps, sockets))
}

fn read(
    feed: &mut Feed,
    request: &DumpRequest<'_>,
    mut each: impl FnMut(SocketRecord),
) -> anyhow::Result<()> {
    let request = DumpRequest { states: StateSet::ALL, ..*request };
    feed.dump(&request, |diag| {
        each(diag.to_record());
        ControlFlow::Continue(())
    })
    .map_err(|error| explain::dump(request.protocol, error))?;
    Ok(())
}

fn note_bound(feed: &mut Feed, map: &mut PortMap, protocol: Protocol) -> anyhow::Result<()> {
    if protocol == Protocol::Tcp {
        let bound = feed.bound_by_number().map_err(|error| explain::dump(protocol, error))?;
        bound.iter().for_each(|(_, port)| map.observe_bound(*port));
    }
    Ok(())
}
