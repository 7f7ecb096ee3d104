//! `sockeye ports`: what holds the ports of the range, as a picture; `sockeye ports N`: who holds those, one by one.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::ops::{ControlFlow, RangeInclusive};

use anyhow::{Context as _, ensure};
use sock_diag::filter::{Filter, NoNames};
use sock_diag::{DumpRequest, Family, Protocol, SocketRecord, StateSet};
use sockeye_core::{DestinationId, PortHolder, PortMap, Report, Sweep};

use crate::args::{PortsArgs, ReportFormat};
use crate::explain;
use crate::feed::Feed;
use crate::render::{ports_json, ports_screen};
use crate::surroundings::Surroundings;
use crate::sweep::{Note, unread_binders, unread_protocol, unread_settings};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// The range as a picture.
pub(crate) struct Picture<'a> {
    pub(crate) protocol: Protocol,
    pub(crate) towards: Option<DestinationId>,
    pub(crate) map: &'a PortMap,
    /// Whether the sockets of both families were read: bind() with port 0 minds those of the other, too.
    pub(crate) whole: bool,
    pub(crate) report: &'a Report,
    pub(crate) notes: &'a [Note],
    pub(crate) surroundings: &'a Surroundings,
}

/// Ports one by one.
pub(crate) struct Listing<'a> {
    pub(crate) ports: RangeInclusive<u16>,
    /// For each protocol that was read.
    pub(crate) maps: Vec<(Protocol, PortMap)>,
    /// Their sockets, by port and protocol.
    pub(crate) sockets: Vec<SocketRecord>,
    /// Of these sockets alone: what it says of the reading is meant.
    pub(crate) report: &'a Report,
    pub(crate) notes: &'a [Note],
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

    /// The sockets on one port. Cost: a search in those of all ports, which may be very many.
    pub(crate) fn on(&self, protocol: Protocol, port: u16) -> &[SocketRecord] {
        let key = |record: &SocketRecord| (record.id.local_port, record.protocol);
        let first = self.sockets.partition_point(|record| key(record) < (port, protocol));
        let here = &self.sockets[first..];
        &here[..here.partition_point(|record| key(record) == (port, protocol))]
    }
}

/// Runs the command.
pub(crate) fn run(args: &PortsArgs) -> anyhow::Result<()> {
    let mut feed = Feed::open(&args.feed)?;
    let format = args.output.format();
    let width = || terminal::width().unwrap_or(ports_screen::DEFAULT_WIDTH);
    let palette = Palette::choose(args.color.when);
    let text = match &args.ports {
        None => {
            let protocol = if args.udp { Protocol::Udp } else { Protocol::Tcp };
            ensure!(!(args.tcp && args.udp), "a picture is of one protocol: leave out -t or -u");
            let towards = towards(args, protocol)?;
            let mut reading = Reading::new(&feed);
            let mut map = PortMap::new(&feed.surroundings().core_settings(), protocol, towards);
            let request = DumpRequest { family: family(args), ..DumpRequest::all(protocol) };
            reading.dump(&mut feed, &request, |record| map.observe(&record))?;
            reading.binders(&mut feed, &mut map, protocol);
            let (report, notes) = reading.finish(&mut feed)?;
            let picture = Picture {
                protocol,
                towards,
                map: &map,
                whole: request.family.is_none(),
                report: &report,
                notes: &notes,
                surroundings: feed.surroundings(),
            };
            match format {
                ReportFormat::Json => ports_json::picture(&picture)?,
                ReportFormat::Table => ports_screen::picture(&picture, width(), palette),
            }
        }
        Some(ports) => {
            let mut reading = Reading::new(&feed);
            let (maps, sockets) = list(&mut feed, &mut reading, args, ports)?;
            let (report, notes) = reading.finish(&mut feed)?;
            let listing = Listing {
                ports: ports.clone(),
                maps,
                sockets,
                report: &report,
                notes: &notes,
                surroundings: feed.surroundings(),
            };
            match format {
                ReportFormat::Json => ports_json::listing(&listing)?,
                ReportFormat::Table => ports_screen::listing(&listing, width(), palette),
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
    let is_one = !from.is_unspecified() && !from.is_multicast();
    ensure!(is_one, "--from must be one address, not {from}");
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
fn list(
    feed: &mut Feed,
    reading: &mut Reading,
    args: &PortsArgs,
    ports: &RangeInclusive<u16>,
) -> anyhow::Result<Listed> {
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
        let read = reading.dump(feed, &request, |record| {
            map.observe(&record);
            sockets.push(record);
        });
        match read {
            Ok(()) => {
                reading.binders(feed, &mut map, protocol);
                maps.push((protocol, map));
            }
            // Nobody asked for UDP by name: a host without it still has its TCP ports.
            Err(error) if protocol == Protocol::Udp && !args.udp => {
                reading.notes.push(unread_protocol(&error));
            }
            Err(error) => return Err(error),
        }
    }
    // A raced dump may tell a socket twice.
    sockets.sort_by_key(|record| {
        let id = &record.id;
        (id.local_port, record.protocol, id.remote_address, id.remote_port, id.cookie)
    });
    sockets.dedup_by_key(|record| (record.protocol, record.id.cookie, record.id.remote_port));
    Ok((maps, sockets))
}

/// What is read on the way beside the ports: the doubts about it.
struct Reading {
    sweep: Sweep,
    notes: Vec<Note>,
}

impl Reading {
    fn new(feed: &Feed) -> Reading {
        Reading { sweep: Sweep::new(&feed.surroundings().core_settings()), notes: Vec::new() }
    }

    fn dump(
        &mut self,
        feed: &mut Feed,
        request: &DumpRequest<'_>,
        mut each: impl FnMut(SocketRecord),
    ) -> anyhow::Result<()> {
        let request = DumpRequest { states: StateSet::ALL, ..*request };
        let dumped = feed.dump(&request, |diag| {
            let record = diag.to_record();
            self.sweep.observe(&record);
            each(record);
            ControlFlow::Continue(())
        });
        let summary = dumped.map_err(|error| explain::dump(request.protocol, error))?;
        if summary.interrupted {
            self.sweep.note_interrupted();
        }
        self.sweep.note_malformed(summary.malformed);
        Ok(())
    }

    /// Who bound by number, which no record tells.
    fn binders(&mut self, feed: &mut Feed, map: &mut PortMap, protocol: Protocol) {
        if protocol != Protocol::Tcp {
            return;
        }
        match feed.bound_by_number() {
            Ok(bound) => bound.iter().for_each(|(_, port)| {
                map.observe_bound(*port);
                self.sweep.observe_bound(*port);
            }),
            Err(error) => self.notes.push(unread_binders(error)),
        }
    }

    fn finish(mut self, feed: &mut Feed) -> anyhow::Result<(Report, Vec<Note>)> {
        feed.end_sweep()?;
        let surroundings = feed.surroundings();
        self.notes.extend(unread_settings(surroundings));
        Ok((self.sweep.finish(&surroundings.core_counters()), self.notes))
    }
}
