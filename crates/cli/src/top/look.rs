//! What one tick told, owned and bounded: all that is drawn of it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use sock_diag::{Protocol, SocketRecord, SocketState};
use sockeye_core::{
    Churn, Curve, Destination, DestinationId, LifetimeReport, Moment, PortMap, PortRange, Rates, Report,
    Traffic,
};

use crate::account::Account;
use crate::fleet::driver::{FleetTick, MemberTick};
use crate::follow::SweepCost;
use crate::sweep::Note;

/// More destinations than anybody scrolls through; the rest is told as a sum.
pub(crate) const MOST_DESTINATIONS: usize = 4_096;

/// Where all of it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) host_name: String,
    pub(crate) kernel_release: String,
    /// As it is shown: its name, or else its inode.
    pub(crate) namespace: String,
    pub(crate) inode: Option<u64>,
    /// A capture or a recording is looked at.
    pub(crate) is_replay: bool,
    /// Names of interfaces by index.
    pub(crate) interfaces: BTreeMap<u32, String>,
}

/// The TCP pool in numbers, and UDP's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct PoolNumbers {
    pub(crate) range: PortRange,
    pub(crate) reserved: u32,
    pub(crate) held: u32,
    pub(crate) explicit: u32,
    pub(crate) usable: u32,
    pub(crate) udp_in_use: u32,
    pub(crate) udp_usable: u32,
}

/// Of several namespaces there is no one pool.
const NO_POOL: PoolNumbers = PoolNumbers {
    range: PortRange { first: 0, last: 0 },
    reserved: 0,
    held: 0,
    explicit: 0,
    usable: 0,
    udp_in_use: 0,
    udp_usable: 0,
};

/// What this program costs, and how much it sees for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cost {
    /// The last sweep.
    pub(crate) sweep: Option<SweepCost>,
    /// How long ago that was, milliseconds; 0 when this tick had it.
    pub(crate) swept_ago_ms: u64,
    /// Processor time since the last tick, as a share of one processor; None for a replay and at the first tick.
    pub(crate) cpu_share: Option<f64>,
    /// Resident memory, bytes.
    pub(crate) resident_bytes: Option<u64>,
}

/// A listening port, with the queues of all its sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ListenerRow {
    pub(crate) port: u16,
    /// Where it listens; None when several addresses share the port.
    pub(crate) address: Option<IpAddr>,
    /// Sockets that listen on it.
    pub(crate) sockets: u32,
    /// Connections waiting for accept(), all sockets together.
    pub(crate) queue: u32,
    /// How many may wait, all sockets together.
    pub(crate) backlog: u32,
    /// The fullest of its sockets, 0–1.
    pub(crate) fullness: f64,
    pub(crate) live: u32,
    pub(crate) time_wait: u32,
    pub(crate) rates: Rates,
}

/// Somebody who owns sockets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OwnerRow {
    /// Made harmless by whoever shows it.
    pub(crate) label: String,
    pub(crate) pid: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) user: String,
    /// Unit, container or cgroup.
    pub(crate) group: String,
    pub(crate) live: u64,
    pub(crate) time_wait: u64,
    /// Of these two, the ones whose owner nobody saw: they go where only this owner's go.
    pub(crate) inferred: u64,
    pub(crate) opens_per_second: f32,
    pub(crate) closes_per_second: f32,
}

impl NamespaceRow {
    /// None when no way leads into it.
    fn of(member: &MemberTick<'_>) -> Option<NamespaceRow> {
        let (found, tick) = (member.found, &member.tick);
        let way = found.ways.first()?.to_str()?.to_owned();
        let churn = tick.report.churn.clone().unwrap_or_default();
        let seconds = churn.interval_ms as f64 / 1e3;
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        let waiting = tick.report.sockets.in_state(Protocol::Tcp, SocketState::TimeWait);
        Some(NamespaceRow {
            label: found.name.to_string(),
            inode: found.inode,
            way,
            sockets: tick.report.sockets.total().into(),
            live: churn.tcp.live(),
            time_wait: waiting.into(),
            opens_per_second: rate(churn.tcp.opened_last),
            closes_per_second: rate(churn.tcp.closed_last),
            worst: tick.report.destinations.first().copied(),
            remarks: tick.report.warnings.len(),
        })
    }
}

impl OwnerRow {
    /// What tells it from others, and orders them.
    pub(crate) fn place(&self) -> (&str, Option<u32>, &str, &str) {
        (&self.label, self.pid, &self.group, &self.user)
    }
}

/// One namespace among all.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamespaceRow {
    /// What people call it; made harmless by whoever shows it.
    pub(crate) label: String,
    pub(crate) inode: u64,
    /// As `-N` takes it.
    pub(crate) way: String,
    pub(crate) sockets: u64,
    pub(crate) live: u64,
    pub(crate) time_wait: u64,
    /// Of the last interval.
    pub(crate) opens_per_second: f64,
    pub(crate) closes_per_second: f64,
    /// The destination that is fullest; None without outgoing connections.
    pub(crate) worst: Option<Destination>,
    /// What is to be noted of it.
    pub(crate) remarks: usize,
}

/// Something an operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remark {
    /// Made harmless by whoever shows it: a recording's are what a file says.
    pub(crate) id: Cow<'static, str>,
    pub(crate) text: String,
}

impl Remark {
    fn of(note: &Note) -> Remark {
        Remark { id: note.id.into(), text: note.message.clone() }
    }
}

/// The sockets that a filter lets through, as many as are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SocketList {
    /// The first ones by the order that was asked for; at most [`gathering::MOST_SOCKETS`](super::gathering::MOST_SOCKETS).
    pub(crate) records: Vec<SocketRecord>,
    /// Whose they are, each; None where that is not known.
    pub(crate) owners: Vec<Option<Arc<str>>>,
    /// How many matched.
    pub(crate) matching: u64,
    /// How many were asked.
    pub(crate) read: u64,
    /// Of how many the filter could not tell.
    pub(crate) unanswerable: u64,
}

/// More of one destination.
#[derive(Debug)]
pub(crate) struct Detail {
    pub(crate) id: DestinationId,
    pub(crate) account: Account,
    /// Its closes of the last minute, as TIME_WAIT timers tell them.
    pub(crate) closes: Curve,
    /// Whose its sockets are, as far as that is known: who it is, and how many, most first.
    pub(crate) owners: Vec<(String, u64)>,
}

/// One tick.
#[derive(Clone)]
pub(crate) struct Look {
    /// Ticks since the start, from 1.
    pub(crate) number: u64,
    pub(crate) place: Arc<Place>,
    pub(crate) at: jiff::Timestamp,
    pub(crate) churn: Churn,
    pub(crate) pool: PoolNumbers,
    /// TCP sockets in TIME_WAIT.
    pub(crate) time_wait: u32,
    pub(crate) outgoing: Traffic,
    pub(crate) incoming: Traffic,
    /// In the order of their ids.
    pub(crate) destinations: Vec<Destination>,
    /// Who has most of each one's sockets, and how many others have some; empty where nobody looked.
    pub(crate) users: Vec<Option<Arc<str>>>,
    /// Destinations beyond those, with their sockets.
    pub(crate) left_out: (usize, Traffic),
    /// In the order of their ports.
    pub(crate) listeners: Vec<ListenerRow>,
    pub(crate) remarks: Vec<Remark>,
    pub(crate) cost: Cost,
    /// None while nobody resolves them. In the order of their places.
    pub(crate) owners: Option<Vec<OwnerRow>>,
    /// Connections by how they got their ports, in the order of their places as well.
    pub(crate) origins: Vec<OwnerRow>,
    /// Of all namespaces at once, by their inodes; nothing else is told then. None where one is followed.
    pub(crate) fleet: Option<Vec<NamespaceRow>>,
    pub(crate) lifetimes: Option<Arc<LifetimeReport>>,
    pub(crate) ports: Option<Arc<PortMap>>,
    pub(crate) list: Option<Arc<SocketList>>,
    pub(crate) detail: Option<Arc<Detail>>,
    /// Only of a tick of a recording, which holds less than what is seen live.
    pub(crate) recorded: Option<Recorded>,
}

/// What a recording tells of a tick beside what is told live, too.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    /// When the first destination runs out if nothing changes, seconds.
    pub(crate) exhausted_in_s: Option<f64>,
    /// Connections seen of those the kernel counted since the recorder began, 0–1.
    pub(crate) coverage: Option<f64>,
    /// Destroy events lost within the tick.
    pub(crate) events_lost: u64,
    /// Connections that ended between these are what owners and lifetimes are of; None: they were not looked at.
    pub(crate) ended: Option<[jiff::Timestamp; 2]>,
}

impl Look {
    /// What a report tells; the rest is filled in by who has it.
    pub(crate) fn of(report: &mut Report, notes: &[Note], number: u64, at: jiff::Timestamp) -> Look {
        report.sort_by(sockeye_core::SortKey::InUse);
        let shown = report.destinations.len().min(MOST_DESTINATIONS);
        let rest = report.rest(shown);
        let mut destinations = report.destinations[..shown].to_vec();
        destinations.sort_unstable_by_key(|destination| destination.id);
        let listeners = report.listeners.iter().map(|listener| ListenerRow {
            port: listener.port,
            live: listener.traffic.live,
            time_wait: listener.traffic.time_wait,
            rates: listener.rates.unwrap_or_default(),
            ..ListenerRow::default()
        });
        let mut listeners: Vec<ListenerRow> = listeners.collect();
        listeners.sort_unstable_by_key(|listener| listener.port);
        let notes = notes.iter().map(Remark::of);
        let warnings = report
            .warnings
            .iter()
            .map(|warning| Remark { id: warning.id().into(), text: warning.to_string() });
        Look {
            number,
            place: Arc::default(),
            at,
            churn: report.churn.clone().unwrap_or_default(),
            pool: PoolNumbers {
                range: report.tcp.pool.range(),
                reserved: report.tcp.reserved,
                held: report.tcp.held,
                explicit: report.tcp.explicit,
                usable: report.tcp.usable,
                udp_in_use: report.udp.in_use,
                udp_usable: report.udp.usable,
            },
            time_wait: report.sockets.in_state(Protocol::Tcp, SocketState::TimeWait),
            outgoing: report.outgoing,
            incoming: report.incoming,
            destinations,
            users: Vec::new(),
            left_out: (rest.destinations, rest.traffic),
            listeners,
            remarks: warnings.chain(notes).collect(),
            cost: Cost::default(),
            owners: None,
            origins: Vec::new(),
            fleet: None,
            lifetimes: None,
            ports: None,
            list: None,
            detail: None,
            recorded: None,
        }
    }

    /// What a tick of all namespaces tells.
    pub(crate) fn of_all(tick: &FleetTick<'_>, number: u64, interval_ms: u64) -> Look {
        let mut rows: Vec<NamespaceRow> = tick.members.iter().filter_map(NamespaceRow::of).collect();
        rows.sort_unstable_by_key(|row| row.inode);
        let at = Moment(u64::try_from(tick.at.as_millisecond()).unwrap_or_default());
        let sweeps = tick.members.iter().filter_map(|member| member.tick.sweep);
        let sweep = sweeps.reduce(|sum, one| SweepCost {
            duration_ms: sum.duration_ms + one.duration_ms,
            records: sum.records + one.records,
        });
        Look {
            number,
            place: Arc::default(),
            at: tick.at,
            churn: Churn { at, swept_at: at, interval_ms, ..Churn::default() },
            pool: NO_POOL,
            time_wait: 0,
            outgoing: Traffic::default(),
            incoming: Traffic::default(),
            destinations: Vec::new(),
            users: Vec::new(),
            left_out: (0, Traffic::default()),
            listeners: Vec::new(),
            remarks: tick.notes.iter().map(Remark::of).collect(),
            cost: Cost { sweep, ..Cost::default() },
            owners: None,
            origins: Vec::new(),
            fleet: Some(rows),
            lifetimes: None,
            ports: None,
            list: None,
            detail: None,
            recorded: None,
        }
    }

    /// One of the namespaces.
    pub(crate) fn namespace(&self, inode: u64) -> Option<&NamespaceRow> {
        let rows = self.fleet.as_ref()?;
        rows.get(rows.binary_search_by_key(&inode, |row| row.inode).ok()?)
    }

    /// One of the destinations that are kept.
    pub(crate) fn destination(&self, id: &DestinationId) -> Option<&Destination> {
        self.destinations.get(self.place_of(id)?)
    }

    /// Who has most of a destination's sockets.
    pub(crate) fn user_of(&self, id: &DestinationId) -> Option<&str> {
        self.users.get(self.place_of(id)?)?.as_deref()
    }

    fn place_of(&self, id: &DestinationId) -> Option<usize> {
        self.destinations.binary_search_by_key(id, |destination| destination.id).ok()
    }

    /// Who listens on a port.
    pub(crate) fn listener(&self, port: u16) -> Option<&ListenerRow> {
        let found = self.listeners.binary_search_by_key(&port, |listener| listener.port);
        found.ok().and_then(|index| self.listeners.get(index))
    }

    /// Memory it takes, about: what it shares with other looks is not counted.
    pub(crate) fn bytes(&self) -> usize {
        let owners = self.owners.as_ref().map_or(0, |owners| owners.len() * 200);
        let list = self.list.as_ref().map_or(0, |list| {
            list.records.len() * (size_of::<SocketRecord>() + size_of::<Option<Arc<str>>>())
        });
        size_of::<Look>()
            + self.destinations.len() * size_of::<Destination>()
            + self.users.len() * size_of::<Option<Arc<str>>>()
            + self.listeners.len() * size_of::<ListenerRow>()
            + self.remarks.iter().map(|remark| 32 + remark.text.len()).sum::<usize>()
            + self.ports.as_ref().map_or(0, |_| 1 << 16)
            + self.detail.as_ref().map_or(0, |_| 4096)
            + self.lifetimes.as_ref().map_or(0, |report| report.groups.len() * 1024)
            + self.fleet.as_ref().map_or(0, |rows| rows.len() * (size_of::<NamespaceRow>() + 64))
            + owners
            + list
    }
}
