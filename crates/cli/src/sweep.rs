//! One sweep for a report: which dumps it takes, how they are shared out to threads, what failed on the way.

use std::ops::ControlFlow;
use std::thread::Builder;

use sock_diag::filter::{Filter, NoNames};
use sock_diag::{
    Cookie, DiagMsg, DumpRequest, DumpSummary, Error, Kernel, Protocol, RecvBuffer, SocketRecord, StateSet,
    dump,
};
use sockeye_core::{PortRange, PortSet, Report, Settled, Sweep};

use crate::explain;
use crate::feed::{Feed, WITH_PORT_LOCK, bound_by_number, keep_some};
use crate::surroundings::Surroundings;

/// Something to tell beside core's warnings: what could not be read.
#[derive(Clone, Debug)]
pub(crate) struct Note {
    pub(crate) id: &'static str,
    pub(crate) message: String,
}

/// With fewer sockets than this a second thread costs more than it brings.
const WORTH_SHARING: u64 = 20_000;
/// The walk itself, about a sixth of a dump, is repeated by every thread: beyond this it is mostly that.
const MOST_SLICES: usize = 4;

/// What the walk of the bind hash costs, as a share of what filling the records of all connected sockets costs (measured
/// on Linux 6.18).
const BOUND_COST: f64 = 0.19;

/// One dump of a sweep.
struct Part {
    protocol: Protocol,
    states: StateSet,
    slice: Option<Filter>,
    /// It asks who bound by number: sockets that another part tells.
    tells_binders: bool,
}

impl Part {
    fn of(protocol: Protocol, states: StateSet, slice: Option<Filter>) -> Part {
        Part { protocol, states, slice, tells_binders: false }
    }
}

/// Reads every socket once. What cannot be read becomes a note; without TCP there is no report.
pub(crate) fn sweep(feed: &mut Feed) -> anyhow::Result<(Report, Vec<Note>)> {
    sweep_settled(feed, |_| Settled::default())
}

/// The same; `settle` is asked about the usable ports with sockets, of which records leave open whether connect() skips
/// them.
pub(crate) fn sweep_settled(
    feed: &mut Feed,
    settle: impl FnOnce(&PortSet) -> Settled,
) -> anyhow::Result<(Report, Vec<Note>)> {
    let mut notes: Vec<Note> = Vec::new();
    let mut sweep = Sweep::new(&feed.surroundings().core_settings());
    // Listeners first: they cost next to nothing, and core then spends no memory on their connections.
    let listeners = Part::of(Protocol::Tcp, StateSet::LISTEN, None);
    take(&mut sweep, &mut notes, &listeners, |request, each| feed.dump(request, each))?;

    let range = feed.surroundings().core_settings().range();
    match kernels(feed, range) {
        None => {
            let mut connected = 0;
            for part in parts(vec![None]) {
                let records = take(&mut sweep, &mut notes, &part, |request, each| feed.dump(request, each))?;
                connected += if part.protocol == Protocol::Tcp { records } else { 0 };
            }
            // It would walk past the sockets of all other namespaces.
            if connected > 0 {
                match feed.bound_by_number() {
                    Ok(bound) => bound.iter().for_each(|(_, port)| sweep.observe_bound(*port)),
                    Err(error) => notes.push(unread_binders(error)),
                }
            }
        }
        Some(kernels) => {
            let slices = kernels.len();
            let slices = (0..slices).map(|index| slice(range, index, slices).map(Some));
            let mut parts = parts(slices.collect::<anyhow::Result<_>>()?);
            // The first slice has the bound sockets besides; the last takes UDP, and who bound by number.
            let mut last = parts.split_off(kernels.len() - 1);
            let binders = bound_by_number(range);
            last.extend(binders.map(|filter| Part {
                tells_binders: true,
                ..Part::of(Protocol::Tcp, WITH_PORT_LOCK, Some(filter))
            }));
            let shares: Vec<Vec<Part>> = parts.into_iter().map(|part| vec![part]).chain([last]).collect();
            let (done, left) = shared_out(kernels, &shares, &sweep);
            for share in done {
                let Share { sweep: part, notes: more, binders } = share?;
                sweep.absorb(part);
                notes.extend(more);
                if !binders.is_empty() {
                    feed.keep_binders(binders);
                }
            }
            for part in left.into_iter().flatten() {
                take(&mut sweep, &mut notes, part, |request, each| feed.dump(request, each))?;
            }
        }
    }
    notes.extend(unread_settings(feed.surroundings()));
    Ok((sweep.finish_settled(&feed.surroundings().core_counters(), settle), notes))
}

/// What a sweep tells.
pub(crate) enum Told<'a> {
    Record(&'a SocketRecord),
    /// A connected socket has bound this port by its number.
    BoundByNumber(Cookie, u16),
}

/// Reads every socket once, on this thread, for somebody who wants to see each of them. What cannot be read becomes a note.
pub(crate) fn sweep_each(feed: &mut Feed, mut each: impl FnMut(Told<'_>)) -> anyhow::Result<Vec<Note>> {
    let mut notes = Vec::new();
    let listeners = Part::of(Protocol::Tcp, StateSet::LISTEN, None);
    for part in [listeners].into_iter().chain(parts(vec![None])) {
        let request = DumpRequest::all(part.protocol).states(part.states);
        let dumped = feed.dump(&request, |diag| {
            each(Told::Record(&diag.to_record()));
            ControlFlow::Continue(())
        });
        match dumped {
            Ok(_) => {}
            Err(error) if part.protocol == Protocol::Tcp => return Err(explain::dump(part.protocol, error)),
            Err(error) => notes.push(unread_protocol(&explain::dump(part.protocol, error))),
        }
    }
    match feed.bound_by_number() {
        Ok(bound) => {
            bound.iter().for_each(|(cookie, port)| each(Told::BoundByNumber(Cookie(*cookie), *port)))
        }
        Err(error) => notes.push(unread_binders(error)),
    }
    notes.extend(unread_settings(feed.surroundings()));
    Ok(notes)
}

/// All parts behind the listeners: TCP in so many slices, then UDP.
///
/// Bound-idle sockets come with the first slice. In a dump of their own they would cost twice as much: the kernel walks
/// the established hash for it as well.
fn parts(slices: Vec<Option<Filter>>) -> Vec<Part> {
    let connected = StateSet::ALL.minus(StateSet::LISTEN).minus(StateSet::BOUND_INACTIVE);
    let mut parts: Vec<Part> =
        slices.into_iter().map(|slice| Part::of(Protocol::Tcp, connected, slice)).collect();
    if let Some(first) = parts.first_mut() {
        first.states = first.states.union(StateSet::BOUND_INACTIVE);
    }
    parts.push(Part::of(Protocol::Udp, StateSet::ALL, None));
    parts
}

/// A slice of the TCP sockets by the port that varies: the local one where it is ephemeral, else the remote one. Ports
/// never change in a connection's life, so each is in exactly one slice. The first has those without a remote port besides:
/// bound and idle, which only it asks for, and those who connect to port 0.
fn slice(range: PortRange, index: usize, slices: usize) -> anyhow::Result<Filter> {
    // The first slice is narrower by what the bound sockets cost.
    let others = 1.0 / slices as f64 + BOUND_COST / slices as f64;
    let border = |index: usize| match index {
        0 => 0,
        index if index == slices => 1 << 16,
        index => {
            let below = 1.0 - others * (slices - index) as f64;
            u32::from(range.first) + (f64::from(range.count()) * below).max(index as f64) as u32
        }
    };
    let (first, low, high) = (range.first, border(index), border(index + 1) - 1);
    let rest = if index == 0 { "or dport = 0" } else { "and dport != 0" };
    let text = format!(
        "((sport >= {first} and sport = {low}-{high}) or (sport < {first} and dport = {low}-{high})) {rest}"
    );
    Filter::parse(&text, &NoNames).map_err(|error| anyhow::anyhow!(error.render(&text)))
}

/// A kernel socket for each slice and its thread; None where one thread does it all.
fn kernels(feed: &Feed, range: PortRange) -> Option<Vec<Kernel>> {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let slices = threads.min(MOST_SLICES).min(range.count() as usize);
    let worth = feed.surroundings().counters.tcp_sockets.is_some_and(|sockets| sockets >= WORTH_SHARING);
    if slices < 2 || !worth {
        return None;
    }
    (0..slices).map(|_| feed.another_kernel()).collect()
}

/// What one thread has read.
struct Share {
    sweep: Sweep,
    notes: Vec<Note>,
    /// Some of those who bound by number.
    binders: Vec<SocketRecord>,
}

/// Has every share read by a thread of its own, and hands back the shares for which there was none to be had: where
/// processes or memory are limited.
fn shared_out<'s>(
    kernels: Vec<Kernel>,
    shares: &'s [Vec<Part>],
    base: &Sweep,
) -> (Vec<anyhow::Result<Share>>, Vec<&'s Vec<Part>>) {
    std::thread::scope(|scope| {
        let mut workers = Vec::new();
        let mut left = Vec::new();
        for (kernel, parts) in kernels.into_iter().zip(shares) {
            match Builder::new().spawn_scoped(scope, move || work(kernel, parts, base.part())) {
                Ok(worker) => workers.push(worker),
                Err(_) => left.push(parts),
            }
        }
        let joined = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        (joined.collect(), left)
    })
}

fn work(mut kernel: Kernel, parts: &[Part], mut sweep: Sweep) -> anyhow::Result<Share> {
    let (mut notes, mut binders) = (Vec::new(), Vec::new());
    let mut buffer = RecvBuffer::new();
    for part in parts {
        take(&mut sweep, &mut notes, part, |request, each| {
            dump(&mut kernel, request, &mut buffer, |diag| {
                if part.tells_binders {
                    keep_some(&mut binders, &diag.to_record());
                }
                each(diag)
            })
        })?;
    }
    Ok(Share { sweep, notes, binders })
}

/// Feeds one part to the sweep. Returns how many sockets it had.
fn take(
    sweep: &mut Sweep,
    notes: &mut Vec<Note>,
    part: &Part,
    dump: impl FnOnce(
        &DumpRequest<'_>,
        &mut dyn FnMut(&DiagMsg<'_>) -> ControlFlow<()>,
    ) -> Result<DumpSummary, Error>,
) -> anyhow::Result<u64> {
    let request =
        DumpRequest { filter: part.slice.as_ref(), ..DumpRequest::all(part.protocol).states(part.states) };
    let dumped = dump(&request, &mut |diag| {
        let record = diag.to_record();
        match part.tells_binders {
            true => sweep.observe_bound(record.id.local_port),
            false => sweep.observe(&record),
        }
        ControlFlow::Continue(())
    });
    match dumped {
        Ok(summary) => {
            if summary.interrupted {
                sweep.note_interrupted();
            }
            sweep.note_malformed(summary.malformed);
            return Ok(summary.records);
        }
        Err(error) if part.tells_binders => notes.push(unread_binders(error)),
        Err(error) if part.protocol == Protocol::Tcp => return Err(explain::dump(part.protocol, error)),
        Err(error) => notes.push(unread_protocol(&explain::dump(part.protocol, error))),
    }
    Ok(0)
}

/// What of the host's settings and counters could not be read.
pub(crate) fn unread_settings(surroundings: &Surroundings) -> impl Iterator<Item = Note> {
    surroundings.unread.iter().map(|why| Note { id: "unreadable", message: why.clone() })
}

/// The other protocols are told without it.
pub(crate) fn unread_protocol(error: &anyhow::Error) -> Note {
    Note { id: "protocol_unreadable", message: format!("{error:#}") }
}

/// Without it there is more doubt, not less truth.
pub(crate) fn unread_binders(error: Error) -> Note {
    let message = format!("which sockets bound their port by number is not known: {error}");
    Note { id: "binders_unreadable", message }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use sock_diag::fake::tcp_record;
    use sock_diag::{SocketRecord, SocketState};

    use super::*;

    fn record(local_port: u16, remote_port: u16) -> SocketRecord {
        let local = (Ipv4Addr::LOCALHOST, local_port).into();
        tcp_record(SocketState::Established, local, (Ipv4Addr::LOCALHOST, remote_port).into())
    }

    #[test]
    fn every_socket_is_in_exactly_one_slice() {
        let ranges = [
            (32_768, 60_999),
            (1, 65_535),
            (2, 3),
            (2, 4),
            (2, 5),
            (2, 9),
            (65_534, 65_535),
            (40_000, 40_000),
        ];
        for (first, last) in ranges {
            let range = PortRange { first, last };
            for slices in 1..=MOST_SLICES.min(range.count() as usize) {
                let filters: Vec<Filter> =
                    (0..slices).map(|index| slice(range, index, slices).unwrap()).collect();
                let ports = [0, 1, first - 1, first, first + (last - first) / 2, last, 60_999, 65_535];
                for (local, remote) in ports.iter().flat_map(|l| ports.iter().map(move |r| (*l, *r))) {
                    let record = record(local, remote);
                    let matches = |filter: &Filter| filter.matches(&record).unwrap();
                    let context = format!("{first}-{last} in {slices}: {local} {remote}");
                    assert_eq!(filters.iter().filter(|f| matches(f)).count(), 1, "{context}");
                    assert!(remote != 0 || matches(&filters[0]), "bound: {context}");
                }
            }
        }
    }

    #[test]
    fn slices_run_in_the_kernel() {
        for index in 0..MOST_SLICES {
            let compiled = slice(PortRange::DEFAULT, index, MOST_SLICES).unwrap().compile().unwrap();
            assert!(compiled.bytecode.is_some() && compiled.residual.is_none());
        }
    }
}
