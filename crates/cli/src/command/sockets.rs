//! `sockeye sockets`: every matching socket, written as the kernel tells it.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::ControlFlow;

use anyhow::Context as _;
use sock_diag::filter::{Filter, Names};
use sock_diag::{DumpRequest, Extensions, Protocol, SocketState, StateSet};
use sockeye_host::{Cgroups, FoundNamespace};

use crate::args::{SocketsArgs, SocketsFormat};
use crate::explain;
use crate::feed::Feed;
use crate::fleet;
use crate::holders::Holders;
use crate::names::HostNames;
use crate::render::socket_fields::{Extra, Socket};
use crate::render::socket_formats::{Csv, Json, SocketSink};
use crate::render::socket_table::{SocketTable, TableOptions};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// What the options mean together.
pub(crate) struct Settings {
    pub(crate) protocols: Vec<Protocol>,
    /// The protocols were not named: one the kernel does not have is left out, not an error.
    protocols_by_default: bool,
    family: Option<sock_diag::Family>,
    states: StateSet,
    extensions: Extensions,
}

impl Settings {
    pub(crate) fn of(args: &SocketsArgs, filter: Option<&Filter>) -> Settings {
        let mut protocols: Vec<Protocol> = [
            (args.tcp, Protocol::Tcp),
            (args.udp, Protocol::Udp),
            (args.udplite, Protocol::UdpLite),
            (args.mptcp, Protocol::Mptcp),
        ]
        .into_iter()
        .filter_map(|(wanted, protocol)| wanted.then_some(protocol))
        .collect();
        let protocols_by_default = protocols.is_empty();
        if protocols_by_default {
            protocols = vec![Protocol::Tcp, Protocol::Udp];
        }
        // As in ss: states named in the filter replace those of the options.
        let by_options = if args.all {
            StateSet::ALL
        } else if args.listening {
            StateSet::of(&[SocketState::Listen, SocketState::Close])
        } else if args.bound_inactive {
            StateSet::BOUND_INACTIVE
        } else {
            StateSet::CONNECTED_DEFAULT
        };
        let wanted = [
            (args.info, Extensions::INFO.union(Extensions::CONG)),
            (args.memory, Extensions::SKMEMINFO),
            (args.extended, Extensions::SHUTDOWN),
        ];
        Settings {
            protocols,
            protocols_by_default,
            family: match (args.ipv4, args.ipv6) {
                (true, _) => Some(sock_diag::Family::Inet),
                (_, true) => Some(sock_diag::Family::Inet6),
                _ => None,
            },
            states: filter.and_then(Filter::states).unwrap_or(by_options),
            extensions: wanted
                .into_iter()
                .filter(|(wanted, _)| *wanted)
                .fold(Extensions::NONE, |all, (_, extension)| all.union(extension)),
        }
    }
}

/// Which sockets to list, and what to call things by.
pub(crate) struct Listing<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) filter: Option<&'a Filter>,
    /// Paths by id; empty where none are shown.
    pub(crate) cgroups: &'a HashMap<u64, String>,
    /// Where they are; None where there is one namespace only.
    pub(crate) netns: Option<&'a FoundNamespace>,
}

/// Runs the command.
pub(crate) fn run(args: &SocketsArgs) -> anyhow::Result<()> {
    if args.fleet.all_netns {
        return fleet::sockets::run(args);
    }
    let mut feed = Feed::open(&args.feed)?;
    if args.processes && feed.is_replay() {
        anyhow::bail!("-p: a capture keeps sockets, not the processes that held them; leave -p out");
    }
    let filter = parse_filter(args, &names(&feed))?;
    let settings = Settings::of(args, filter.as_ref());
    let cgroups = if args.extended { cgroups(&feed) } else { HashMap::new() };
    let listing = Listing { settings: &settings, filter: filter.as_ref(), cgroups: &cgroups, netns: None };
    let mut holders = args.processes.then(Holders::read);
    let mut sink = sink(args, &settings)?;
    let Some(mut refused) = list(&mut feed, &listing, holders.as_mut(), sink.as_mut())? else {
        if args.feed.capture.is_some() {
            let _ =
                writeln!(io::stderr(), "sockeye: the output was closed before the end: no capture is kept");
        }
        return Ok(());
    };
    ignore_closed_pipe(sink.finish()).context("writing to standard output")?;
    feed.end_sweep()?;
    // What was left out is said after the result, and is an error only when nothing is left.
    if refused.len() == settings.protocols.len()
        && let Some(error) = refused.pop()
    {
        return Err(error);
    }
    for error in refused {
        let _ = writeln!(io::stderr(), "sockeye: {error:#}");
    }
    if let Some(note) = holders.and_then(|holders| holders.note()) {
        let _ = writeln!(io::stderr(), "sockeye: {note}");
    }
    feed.finish()
}

fn names(feed: &Feed) -> HostNames<'_> {
    let names = HostNames::new(feed.surroundings());
    if feed.is_replay() { names.without_processes() } else { names }
}

/// The filter that was typed; None without one.
pub(crate) fn parse_filter(args: &SocketsArgs, names: &dyn Names) -> anyhow::Result<Option<Filter>> {
    let text = args.filter.join(" ");
    match text.trim() {
        "" => Ok(None),
        text => match Filter::parse(text, names) {
            Ok(filter) => Ok(Some(filter)),
            Err(error) => Err(anyhow::anyhow!("cannot read the filter\n{}", error.render(text))),
        },
    }
}

/// Writes the sockets of one namespace. Hands back why protocols were left out that nobody named; None when whoever reads the
/// output had enough.
pub(crate) fn list(
    feed: &mut Feed,
    listing: &Listing<'_>,
    mut holders: Option<&mut Holders>,
    sink: &mut dyn SocketSink,
) -> anyhow::Result<Option<Vec<anyhow::Error>>> {
    let Listing { settings, filter, cgroups, netns } = *listing;
    let interfaces = feed.surroundings().interfaces.clone();
    let mut shown_cgroups = BTreeMap::new();
    let mut refused = Vec::new();
    for protocol in &settings.protocols {
        let request = DumpRequest {
            protocol: *protocol,
            family: settings.family,
            states: settings.states,
            extensions: settings.extensions,
            filter,
        };
        let mut written = Ok(());
        let dumped = feed.dump(&request, |diag| {
            let record = diag.to_record();
            let interface = record.id.interface.and_then(|index| interfaces.get(&index.get()));
            let cgroup = record.cgroup_id.and_then(|id| cgroups.get_key_value(&id));
            if let Some((id, path)) = cgroup {
                shown_cgroups.entry(*id).or_insert_with(|| path.clone());
            }
            let holders = holders.as_mut().map(|holders| holders.of(&record)).unwrap_or_default();
            written = sink.socket(&Socket {
                record,
                diag,
                netns,
                interface: interface.map(String::as_str),
                cgroup: cgroup.map(|(_, path)| path.as_str()),
                holders: &holders,
            });
            if written.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if written.is_err() {
            ignore_closed_pipe(written).context("writing to standard output")?;
            return Ok(None);
        }
        match dumped {
            Ok(_) => {}
            Err(error) if settings.protocols_by_default && explain::is_missing(&error) => {
                refused.push(explain::dump(*protocol, error));
            }
            Err(error) => return Err(explain::dump(*protocol, error)),
        }
    }
    feed.keep_cgroups(shown_cgroups);
    Ok(Some(refused))
}

/// Paths of cgroups by their id: this host's, or those a capture has kept.
pub(crate) fn cgroups(feed: &Feed) -> HashMap<u64, String> {
    match feed.is_replay() {
        true => feed.surroundings().cgroups.clone().into_iter().collect(),
        false => Cgroups::find().ok().flatten().map(|cgroups| cgroups.paths_by_id()).unwrap_or_default(),
    }
}

pub(crate) fn sink(args: &SocketsArgs, settings: &Settings) -> anyhow::Result<Box<dyn SocketSink>> {
    let out = buffered_stdout();
    let extra =
        Extra { netns: args.fleet.all_netns, owner: args.processes, info: args.info, memory: args.memory };
    let format = if args.json { SocketsFormat::Json } else { args.output.unwrap_or(SocketsFormat::Table) };
    Ok(match format {
        SocketsFormat::Json => Box::new(Json::new(out, extra, false)),
        SocketsFormat::Jsonl => Box::new(Json::new(out, extra, true)),
        SocketsFormat::Csv => {
            Box::new(Csv::new(out, extra, !args.no_header).context("writing to standard output")?)
        }
        SocketsFormat::Table => Box::new(SocketTable::new(
            out,
            TableOptions {
                header: !args.no_header,
                netns: args.fleet.all_netns,
                protocol: settings.protocols.len() > 1,
                holders: args.processes,
                // As in ss: -e shows timers too.
                timers: args.timers || args.extended,
                extended: args.extended,
                info: args.info,
                memory: args.memory,
                oneline: args.oneline,
                width: terminal::width(),
            },
            Palette::choose(args.color.when),
        )),
    })
}
