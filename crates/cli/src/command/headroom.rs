//! `sockeye headroom`: how many more connections to one destination succeed, from each local address in question.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use sock_diag::{Namespace, Protocol};
use sockeye_core::{Destination, DestinationId, PortSet, Report, Settled};
use sockeye_host::probe_ports;

use crate::account::Account;
use crate::args::{FeedArgs, HeadroomArgs, ReportFormat};
use crate::explain;
use crate::feed::Feed;
use crate::follow::{Follow, Pace};
use crate::render::{headroom_json, headroom_screen};
use crate::surroundings::Surroundings;
use crate::sweep::{Note, sweep_settled};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// From tick to tick where opens are counted.
const INTERVAL: Duration = Duration::from_secs(1);

/// Probing stops then; the ports that are left stay in doubt.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

/// What there is to say about connecting from one local address.
pub(crate) struct Answer {
    pub(crate) destination: Destination,
    pub(crate) account: Account,
}

/// All answers and what they come from.
pub(crate) struct Answers<'a> {
    /// At least one; the first is the local address that was asked for, or that the kernel would choose.
    pub(crate) answers: Vec<Answer>,
    pub(crate) report: &'a Report,
    pub(crate) surroundings: &'a Surroundings,
    pub(crate) notes: &'a [Note],
    /// `--probe` could tell more than this.
    pub(crate) may_probe: bool,
}

/// Runs the command; false when no connect() succeeds.
pub(crate) fn run(args: &HeadroomArgs) -> anyhow::Result<bool> {
    let to = args.destination;
    let from = args.from.map(|from| from.to_canonical());
    if let Some(from) = from {
        let is_one = !(from.is_unspecified() || from.is_multicast());
        ensure!(is_one, "--from must be one address, not {from}");
        ensure!(from.is_ipv4() == to.is_ipv4(), "{from} cannot connect to {to}: one is IPv4, the other IPv6");
    }
    // Asked before the sweep: it takes a UDP port for a moment, which is no business of the report.
    let chosen = match from {
        Some(_) => Ok(None),
        None => chosen_by_kernel(&args.feed, to),
    };
    match args.for_ {
        None => {
            let mut feed = Feed::open(&args.feed)?;
            let mut unsettled = None;
            let (mut report, mut notes) = sweep_settled(&mut feed, |ports| match args.probe {
                false => Settled::default(),
                true => probe(&args.feed, ports, &mut unsettled),
            })?;
            notes.extend(unsettled);
            feed.end_sweep()?;
            report.forecast(&feed.surroundings().core_settings());
            let passed = tell(args, from, chosen, &report, feed.surroundings(), &notes)?;
            feed.finish()?;
            Ok(passed)
        }
        Some(long) => {
            let interval = INTERVAL.min(long);
            let pace = Pace { interval, count: None, for_: Some(long), cpu_budget: None };
            let mut follow = Follow::open(&args.feed, &pace)?;
            let mut last = None;
            while let Some(tick) = follow.next()? {
                last = Some(tick.report.clone());
            }
            let report = last.ok_or_else(|| anyhow!("interrupted before anything was counted"))?;
            let passed = tell(args, from, chosen, &report, follow.surroundings(), follow.notes())?;
            follow.finish()?;
            Ok(passed)
        }
    }
}

fn tell(
    args: &HeadroomArgs,
    from: Option<IpAddr>,
    chosen: anyhow::Result<Option<IpAddr>>,
    report: &Report,
    surroundings: &Surroundings,
    notes: &[Note],
) -> anyhow::Result<bool> {
    let settings = surroundings.core_settings();
    let sources = match from {
        Some(from) => vec![from],
        None => sources(report, args.destination, chosen)?,
    };
    let answer = |from: IpAddr| {
        let destination = report.towards(&id(from, args.destination));
        Answer { account: Account::of(report, &destination, &settings), destination }
    };
    let answers: Vec<Answer> = sources.into_iter().map(answer).collect();
    let passed = !answers.iter().any(|answer| answer.destination.is_exhausted());
    let may_probe = !args.probe && args.for_.is_none() && args.feed.replay.is_none();
    let answers = Answers { answers, report, surroundings, notes, may_probe };
    let text = match args.output.format() {
        ReportFormat::Json => headroom_json::render(&answers)?,
        ReportFormat::Table => {
            let width = terminal::width().unwrap_or(headroom_screen::DEFAULT_WIDTH);
            headroom_screen::render(&answers, width, Palette::choose(args.color.when))
        }
    };
    let mut out = buffered_stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ignore_closed_pipe(written).context("writing to standard output")?;
    Ok(passed)
}

fn id(from: IpAddr, to: SocketAddr) -> DestinationId {
    DestinationId {
        protocol: Protocol::Tcp,
        local_address: from,
        remote_address: to.ip(),
        remote_port: to.port(),
    }
}

/// The local address the kernel would choose, then those in use, least headroom first.
fn sources(
    report: &Report,
    to: SocketAddr,
    chosen: anyhow::Result<Option<IpAddr>>,
) -> anyhow::Result<Vec<IpAddr>> {
    let mut in_use: Vec<&Destination> = report
        .destinations
        .iter()
        .filter(|known| known.id.remote_address == to.ip() && known.id.remote_port == to.port())
        .collect();
    in_use.sort_by_key(|known| (known.headroom.min, known.id));
    let mut sources: Vec<IpAddr> = in_use.iter().map(|known| known.id.local_address).collect();
    match chosen {
        Ok(Some(chosen)) => {
            sources.retain(|source| *source != chosen);
            sources.insert(0, chosen);
        }
        Ok(None) if sources.is_empty() => {
            bail!(
                "the capture holds no connection to {to} that would tell the local address: name it with --from"
            )
        }
        Err(error) if sources.is_empty() => return Err(error),
        _ => {}
    }
    Ok(sources)
}

/// The local address that the kernel's routing gives to a connection to `to`; None for a capture, which holds no routes.
///
/// connect() of a UDP socket sends nothing.
fn chosen_by_kernel(feed: &FeedArgs, to: SocketAddr) -> anyhow::Result<Option<IpAddr>> {
    // A UDP socket needs a port of its own first. Where the range has none to give, and the answer matters most, one
    // outside of it does as well.
    fn with_any_port(any: IpAddr) -> io::Result<UdpSocket> {
        UdpSocket::bind((any, 0)).or_else(|error| {
            (1024..=u16::MAX).rev().find_map(|port| UdpSocket::bind((any, port)).ok()).ok_or(error)
        })
    }
    fn ask(to: SocketAddr) -> io::Result<IpAddr> {
        let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = with_any_port(any)?;
        socket.connect(to)?;
        Ok(socket.local_addr()?.ip().to_canonical())
    }
    if feed.replay.is_some() {
        return Ok(None);
    }
    let asked = match &feed.netns {
        None => ask(to),
        Some(text) => {
            let namespace = Namespace::find(text).map_err(explain::namespace)?;
            namespace.run(|| ask(to)).map_err(explain::enter)?
        }
    };
    let chosen = asked.with_context(|| {
        format!("cannot tell which local address the kernel would choose for {to}; name it with --from")
    })?;
    Ok(Some(chosen))
}

/// Tries these ports in the namespace of the feed; what stands in the way becomes a note, and they stay in doubt.
fn probe(feed: &FeedArgs, ports: &PortSet, unsettled: &mut Option<Note>) -> Settled {
    let all = || probe_ports(ports.iter(), PROBE_LIMIT);
    let probed = match &feed.netns {
        None => all().map_err(anyhow::Error::from),
        Some(text) => Namespace::find(text)
            .map_err(explain::namespace)
            .and_then(|namespace| namespace.run(all).map_err(explain::enter))
            .and_then(|probed| Ok(probed?)),
    };
    let note = |message| Some(Note { id: "not_probed", message });
    match probed {
        Ok(probed) => {
            if probed.unasked > 0 {
                *unsettled =
                    note(format!("ports that were not probed within {PROBE_LIMIT:?}: {}", probed.unasked));
            }
            let set = |ports: Vec<u16>| ports.into_iter().collect();
            Settled { skipped: set(probed.skipped), shared: set(probed.shared) }
        }
        Err(error) => {
            *unsettled =
                note(format!("cannot probe ports ({error:#}): it takes Linux 6.3 and a loopback that is up"));
            Settled::default()
        }
    }
}
