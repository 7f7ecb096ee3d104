//! Ticks and ends of connections as rows of a recording.
//!
//! Settings and destinations are written when they change, and once more at the start of each segment: what is deleted for
//! its age takes nothing along that still holds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use sock_diag::{Protocol, SocketState};
use sockeye_core::{Closed, ClosedBy, DestinationId, Direction, Evidence, Group, Monitor, OwnerId, Report};
use sockeye_recording::{Connection, Destination, Rows, Setting, Tick as TickRow, Time, Warning};

use super::owner::Owner;
use crate::by::{FormerOwner, OwnerName, former_owner};
use crate::follow::{Follow, Tick};
use crate::surroundings::Surroundings;
use crate::whose::Whose;

/// A warning that holds is told again so often.
const WARN_AGAIN_MS: u64 = 60_000;
/// Different names of owners that are kept.
const MOST_NAMES: usize = 1 << 16;

/// Writes rows.
#[derive(Default)]
pub(crate) struct Scribe {
    rows: Rows,
    towards: HashMap<DestinationId, Towards>,
    settings: BTreeMap<&'static str, Option<Arc<str>>>,
    warned: HashMap<Arc<str>, Time>,
    events_lost: u64,
    names: HashSet<Arc<str>>,
    netns: u64,
    /// Everything that holds is to be written.
    begins: bool,
}

/// A destination as it was written last.
#[derive(Clone, Default)]
struct Towards {
    written: Option<Destination>,
    /// Connections alive, as the watch counts them.
    live: u64,
    closes: u64,
}

/// Of one tick: the same few have most of the connections that end.
type Owners = HashMap<(OwnerId, Option<u16>), Option<(Owner, IsInferred)>>;
type IsInferred = bool;

impl Scribe {
    /// Of a watch that has taken its first sweep: what is there now was not opened since.
    pub(crate) fn new(follow: &mut Follow) -> Scribe {
        let mut scribe = Scribe::default();
        for (id, live) in live_towards(follow.monitor()) {
            scribe.towards.entry(id).or_default().live = live;
        }
        scribe
    }

    /// The next tick is the first of its segment.
    pub(crate) fn begin_segment(&mut self) {
        self.begins = true;
    }

    /// Writes the tick itself; when it was.
    pub(crate) fn tick(&mut self, tick: &Tick<'_>) -> Time {
        let at = time(tick.at);
        self.rows.clear();
        let lost = tick.report.churn.as_ref().map_or(0, |churn| churn.events_lost);
        let row = tick_row(tick, at, self.netns, lost.saturating_sub(self.events_lost));
        self.rows.ticks.push(row);
        self.events_lost = lost;
        for warning in &tick.report.warnings {
            self.warn(at, warning.id(), || warning.to_string());
        }
        for note in tick.notes {
            self.warn(at, note.id, || note.message.clone());
        }
        at
    }

    /// Writes what the tick brought beside itself: ends, destinations, settings. All rows of the tick.
    pub(crate) fn rest(&mut self, at: Time, follow: &mut Follow) -> &mut Rows {
        let netns = follow.surroundings().netns_inode.unwrap_or(0);
        if netns != self.netns {
            self.netns = netns;
            self.rows.ticks.iter_mut().for_each(|row| row.netns = netns);
            self.rows.warnings.iter_mut().for_each(|row| row.netns = netns);
        }
        let begins = std::mem::take(&mut self.begins);
        self.settings(at, follow.surroundings(), begins);
        let mut owners = Owners::new();
        for closed in follow.ended() {
            if let Group::Destination(id) = closed.group() {
                self.towards.entry(id).or_default().closes += 1;
            }
            let owner = follow.whose().and_then(|whose| self.owner(&closed, whose, &mut owners));
            let span = [closed.at.earliest, closed.at.latest].map(|moment| time(follow.timestamp(moment)));
            self.rows.connections.push(connection_row(&closed, span, owner, netns));
        }
        let live = live_towards(follow.monitor());
        self.destinations(at, follow.monitor().report_mut(), &live, begins);
        &mut self.rows
    }

    fn destinations(&mut self, at: Time, report: &Report, live: &HashMap<DestinationId, u64>, begins: bool) {
        let found: HashMap<DestinationId, &sockeye_core::Destination> =
            report.destinations.iter().map(|destination| (destination.id, destination)).collect();
        for id in found.keys().chain(live.keys()) {
            self.towards.entry(*id).or_default();
        }
        let (netns, usable) = (self.netns, report.tcp.usable);
        let written = &mut self.rows.destinations;
        self.towards.retain(|id, towards| {
            let now = live.get(id).copied().unwrap_or(0);
            let closes = std::mem::take(&mut towards.closes);
            let opens = (now + closes).saturating_sub(towards.live);
            towards.live = now;
            let found = found.get(id);
            let row = Destination {
                time: at,
                netns,
                protocol: protocol(id.protocol),
                local_address: id.local_address,
                remote_address: id.remote_address,
                remote_port: id.remote_port,
                in_use: found.map_or(0, |it| it.in_use),
                live: found.map_or(0, |it| it.traffic.live),
                time_wait: found.map_or(0, |it| it.traffic.time_wait),
                occupancy_ratio: found.map_or(0.0, |it| it.occupancy()),
                headroom_min: found.map_or(usable, |it| it.headroom.min),
                headroom_max: found.map_or(usable, |it| it.headroom.max),
                opens,
                closes,
            };
            let has_changed = towards.written.as_ref().is_none_or(|before| {
                let same = Destination { time: at, opens, closes, ..before.clone() };
                same != row || opens + closes > 0
            });
            if has_changed || begins {
                written.push(row.clone());
                towards.written = Some(row);
            }
            found.is_some() || now > 0
        });
        written.sort_unstable_by_key(|row| (row.remote_address, row.remote_port, row.local_address));
    }

    fn settings(&mut self, at: Time, surroundings: &Surroundings, begins: bool) {
        for (key, value) in settings(surroundings) {
            let value: Option<Arc<str>> = value.map(Into::into);
            if begins || self.settings.get(key) != Some(&value) {
                self.settings.insert(key, value.clone());
                self.rows.settings.push(Setting { time: at, netns: self.netns, key: key.into(), value });
            }
        }
    }

    fn warn(&mut self, at: Time, id: &str, message: impl FnOnce() -> String) {
        let id = name(&mut self.names, id);
        let is_due = self.warned.get(&id).is_none_or(|last| at.0.abs_diff(last.0) >= WARN_AGAIN_MS);
        if is_due {
            self.warned.insert(id.clone(), at);
            self.rows.warnings.push(Warning { time: at, netns: self.netns, id, message: message().into() });
        }
    }

    fn owner(&mut self, closed: &Closed, whose: &Whose, known: &mut Owners) -> Option<(Owner, IsInferred)> {
        let is_incoming = closed.direction == Direction::Incoming;
        let port = closed.local.filter(|_| is_incoming).map(|local| local.port());
        let owner = known.entry((closed.owner, port)).or_insert_with(|| {
            let FormerOwner { name: owner, is_inferred, .. } = former_owner(closed, whose)?;
            let OwnerName { pid, name: process, uid, user, cgroup, .. } = owner;
            let [process, user, cgroup] =
                [process, user, cgroup].map(|text| text.map(|text| name(&mut self.names, &text)));
            Some((Owner { pid, name: process, uid, user, cgroup }, is_inferred))
        });
        owner.clone()
    }
}

/// The one text for all that are alike.
fn name(names: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    if let Some(known) = names.get(text) {
        return known.clone();
    }
    if names.len() >= MOST_NAMES {
        names.clear();
    }
    let new: Arc<str> = text.into();
    names.insert(new.clone());
    new
}

/// Connections alive towards each destination, by the same count that opens and closes are of.
fn live_towards(monitor: &Monitor) -> HashMap<DestinationId, u64> {
    let mut live = HashMap::new();
    for row in monitor.accounts() {
        if let Group::Destination(id) = row.group
            && row.live > 0
        {
            *live.entry(id).or_default() += row.live;
        }
    }
    live
}

fn tick_row(tick: &Tick<'_>, at: Time, netns: u64, events_lost: u64) -> TickRow {
    let report = &*tick.report;
    let churn = report.churn.clone().unwrap_or_default();
    let worst = report.destinations.iter().max_by(|a, b| {
        a.occupancy().total_cmp(&b.occupancy()).then(a.in_use.cmp(&b.in_use)).then(b.id.cmp(&a.id))
    });
    let in_state = |state| report.sockets.in_state(Protocol::Tcp, state);
    let range = report.tcp.pool.range();
    let soonest = report.destinations.iter().filter_map(|it| it.forecast?.exhausted_in_s);
    TickRow {
        time: at,
        netns,
        interval_ms: churn.interval_ms,
        opens: churn.tcp.opened_last,
        closes: churn.tcp.closed_last,
        live: churn.tcp.live(),
        time_wait: in_state(SocketState::TimeWait),
        established: in_state(SocketState::Established),
        syn_sent: in_state(SocketState::SynSent),
        syn_recv: in_state(SocketState::SynRecv) + in_state(SocketState::NewSynRecv),
        fin_wait_1: in_state(SocketState::FinWait1),
        fin_wait_2: in_state(SocketState::FinWait2),
        close_wait: in_state(SocketState::CloseWait),
        last_ack: in_state(SocketState::LastAck),
        closing: in_state(SocketState::Closing),
        listen: in_state(SocketState::Listen),
        pool_first: range.first,
        pool_last: range.last,
        pool_reserved: report.tcp.reserved,
        pool_held: report.tcp.held,
        pool_usable: report.tcp.usable,
        worst_local_address: worst.map(|it| it.id.local_address),
        worst_remote_address: worst.map(|it| it.id.remote_address),
        worst_remote_port: worst.map(|it| it.id.remote_port),
        worst_occupancy_ratio: worst.map(sockeye_core::Destination::occupancy),
        headroom_min: report.destinations.iter().map(|it| it.headroom.min).min(),
        exhausted_in_seconds: soonest.min_by(f64::total_cmp),
        coverage_ratio: churn.coverage.ratio(),
        events_lost,
        sockets: tick.sweep.map(|sweep| sweep.records),
        sweep_ms: tick.sweep.map(|sweep| sweep.duration_ms),
    }
}

fn connection_row(
    closed: &Closed,
    [closed_earliest, closed_latest]: [Time; 2],
    owner: Option<(Owner, IsInferred)>,
    netns: u64,
) -> Connection {
    let lifetime = closed.lifetime;
    let end = closed.end.unwrap_or_default();
    let (owner, owner_inferred) = owner.unwrap_or_default();
    Connection {
        closed_earliest,
        closed_latest,
        // The bounds of a lifetime are those of its ends, each way the farther.
        opened_earliest: lifetime.max_ms.map(|ms| Time(closed_latest.0.saturating_sub(ms))),
        opened_latest: Time(closed_earliest.0.saturating_sub(lifetime.min_ms)),
        lifetime_min_ms: lifetime.min_ms,
        lifetime_max_ms: lifetime.max_ms,
        netns,
        protocol: protocol(closed.protocol),
        direction: match closed.direction {
            Direction::Outgoing => sockeye_recording::Direction::Outgoing,
            Direction::Incoming => sockeye_recording::Direction::Incoming,
            Direction::Unknown => sockeye_recording::Direction::Unknown,
        },
        local_address: closed.local.map(|end| end.ip()),
        local_port: closed.local.map(|end| end.port()),
        remote_address: closed.remote.map(|end| end.ip()),
        remote_port: closed.remote.map(|end| end.port()),
        closed_by: match closed.closed_by {
            ClosedBy::Local => sockeye_recording::ClosedBy::Local,
            ClosedBy::Remote => sockeye_recording::ClosedBy::Remote,
            ClosedBy::Reset => sockeye_recording::ClosedBy::Reset,
            ClosedBy::Unknown => sockeye_recording::ClosedBy::Unknown,
        },
        evidence: match closed.evidence {
            Evidence::Event => sockeye_recording::Evidence::Event,
            Evidence::TimeWait => sockeye_recording::Evidence::TimeWait,
            Evidence::Lookup => sockeye_recording::Evidence::Lookup,
            Evidence::Sweeps => sockeye_recording::Evidence::Sweeps,
        },
        owner_pid: owner.pid,
        owner_name: owner.name,
        owner_uid: owner.uid,
        owner_user: owner.user,
        owner_cgroup: owner.cgroup,
        owner_inferred,
        sent_bytes: end.sent_bytes,
        received_bytes: closed.received_bytes(),
        retransmits: end.retransmits,
        data_segments_out: end.data_segments_out,
        data_segments_in: end.data_segments_in,
        cookie: closed.cookie.0,
    }
}

fn protocol(protocol: Protocol) -> sockeye_recording::Protocol {
    match protocol {
        Protocol::Tcp => sockeye_recording::Protocol::Tcp,
        Protocol::Udp => sockeye_recording::Protocol::Udp,
        _ => sockeye_recording::Protocol::Unknown,
    }
}

/// As the kernel writes them; None where they cannot be read.
fn settings(surroundings: &Surroundings) -> Vec<(&'static str, Option<String>)> {
    let it = &surroundings.settings;
    let range = |range: &std::ops::RangeInclusive<u16>| match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    };
    vec![
        ("host_name", Some(surroundings.host_name.clone())),
        ("kernel_release", Some(surroundings.kernel_release.clone())),
        ("netns_name", surroundings.netns_name.clone()),
        ("sockeye_version", Some(env!("CARGO_PKG_VERSION").to_owned())),
        (
            "net.ipv4.ip_local_port_range",
            it.ip_local_port_range.as_ref().map(|range| format!("{}\t{}", range.start(), range.end())),
        ),
        (
            "net.ipv4.ip_local_reserved_ports",
            it.ip_local_reserved_ports
                .as_ref()
                .map(|ranges| ranges.iter().map(range).collect::<Vec<_>>().join(",")),
        ),
        ("net.ipv4.tcp_tw_reuse", it.tcp_tw_reuse.map(|value| value.to_string())),
        ("net.ipv4.tcp_tw_reuse_delay", it.tcp_tw_reuse_delay_ms.map(|value| value.to_string())),
        ("net.ipv4.tcp_fin_timeout", it.tcp_fin_timeout_s.map(|value| value.to_string())),
        ("net.ipv4.tcp_max_tw_buckets", it.tcp_max_tw_buckets.map(|value| value.to_string())),
        ("net.ipv4.tcp_timestamps", it.tcp_timestamps.map(|value| u8::from(value).to_string())),
    ]
}

fn time(at: jiff::Timestamp) -> Time {
    Time(u64::try_from(at.as_millisecond()).unwrap_or(0))
}
