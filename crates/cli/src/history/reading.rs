//! Rows of a recording as a period to report on.

use std::net::{IpAddr, SocketAddr};

use foldhash::HashMap;
use sock_diag::Protocol;
use sockeye_core::{
    ClosedBy, ClosedSample, DestinationId, DestinationSample, Group, Lifetime, Moment, OwnerId, Period,
    PoolSample, PortRange, TickSample, When,
};
use sockeye_recording::{
    Connection, Destination, Direction, Protocol as Word, Reading, Setting, Sink, Tick, Time, Warning,
};

use super::owner::Owner;
use crate::by::{By, OwnerName};
use crate::render::report_view::{Origin, length};
use crate::sweep::Note;

/// Owners that are told apart; more share one row.
const MOST_OWNERS: usize = 1 << 20;
/// A tick that is so much later than its interval says has a gap before it.
const LATE_MS: u64 = 2_000;
/// More of anything within a tick, or of milliseconds, no host has. What a file claims beyond it counts as this, so that sums
/// of what is claimed do not come round to little.
const MOST: u64 = 1 << 40;
/// More bytes no connection carries.
const MOST_BYTES: u64 = 1 << 50;

/// Columns of connections that a period looks at.
pub(super) const COLUMNS: [&str; 16] = [
    "protocol",
    "direction",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "closed_by",
    "lifetime_min_ms",
    "lifetime_max_ms",
    "owner_pid",
    "owner_name",
    "owner_uid",
    "owner_user",
    "owner_cgroup",
    "sent_bytes",
    "received_bytes",
];

/// Folds rows into a period.
pub(crate) struct Folding {
    period: Period,
    origin: Origin,
    owners: Owners,
    namespaces: Vec<u64>,
    last_tick: Option<Time>,
    gaps: u64,
    gap_ms: u64,
}

impl Folding {
    /// Of the time from `begin` to `end`, with owners told apart by this facet of them.
    pub(crate) fn new(begin: Time, end: Time, by: By) -> Folding {
        Folding {
            period: Period::new(Moment(begin.0), Moment(end.0)),
            origin: Origin::default(),
            owners: Owners { by, names: vec![OwnerName::default()], known: HashMap::default() },
            namespaces: Vec::new(),
            last_tick: None,
            gaps: 0,
            gap_ms: 0,
        }
    }

    pub(crate) fn period(&self) -> &Period {
        &self.period
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn owner(&self, owner: OwnerId) -> OwnerName {
        self.owners.names.get(owner.0 as usize).cloned().unwrap_or_default()
    }

    /// What is to be said of the recording itself.
    pub(crate) fn notes(&self, reading: &Reading) -> Vec<Note> {
        let mut notes = Vec::new();
        if self.gaps > 0 {
            let times = if self.gaps == 1 { "once".to_owned() } else { format!("{} times", self.gaps) };
            let message = format!("nothing was recorded for {} ({times})", length(self.gap_ms));
            notes.push(Note { id: "recording_gap", message });
        }
        if reading.torn.frames > 0 {
            let message = format!("{} ticks of a journal are damaged and left out", reading.torn.frames);
            notes.push(Note { id: "recording_damaged", message });
        }
        for unread in &reading.unread {
            let message = format!("{} cannot be read to its end: {}", unread.file, unread.why);
            notes.push(Note { id: "recording_damaged", message });
        }
        if self.namespaces.len() > 1 {
            let message =
                format!("{} network namespaces were recorded: they are added up", self.namespaces.len());
            notes.push(Note { id: "recording_namespaces", message });
        }
        notes
    }
}

impl Sink for Folding {
    fn settings(&mut self, rows: &[Setting]) {
        for row in rows {
            self.origin.netns_inode = Some(row.netns).filter(|inode| *inode != 0);
            let place = match &*row.key {
                "host_name" => &mut self.origin.host_name,
                "kernel_release" => &mut self.origin.kernel_release,
                "netns_name" => &mut self.origin.netns_name,
                _ => continue,
            };
            *place = row.value.as_deref().map(str::to_owned);
        }
    }

    fn ticks(&mut self, rows: &[Tick]) {
        for row in rows {
            if !self.namespaces.contains(&row.netns) && self.namespaces.len() < 100 {
                self.namespaces.push(row.netns);
            }
            let since = self.last_tick.map_or(0, |last| row.time.0.saturating_sub(last.0));
            if since > row.interval_ms.saturating_add(LATE_MS) {
                self.gaps += 1;
                self.gap_ms = self.gap_ms.saturating_add(since - row.interval_ms);
            }
            self.last_tick = Some(row.time);
            let worst = row.worst_local_address.zip(row.worst_remote_address).zip(row.worst_remote_port);
            self.period.tick(&TickSample {
                at: Moment(row.time.0),
                interval_ms: row.interval_ms.min(MOST),
                opens: row.opens.min(MOST),
                closes: row.closes.min(MOST),
                live: row.live.min(MOST),
                time_wait: row.time_wait.into(),
                pool: Some(PoolSample {
                    range: PortRange { first: row.pool_first, last: row.pool_last },
                    reserved: row.pool_reserved,
                    held: row.pool_held,
                    usable: row.pool_usable,
                }),
                worst: worst.zip(share(row.worst_occupancy_ratio)).map(
                    |(((local, remote), port), occupancy)| {
                        (destination_id(Protocol::Tcp, local, remote, port), occupancy)
                    },
                ),
                headroom_min: row.headroom_min,
                coverage: share(row.coverage_ratio),
                events_lost: row.events_lost.min(MOST),
            });
        }
    }

    fn destinations(&mut self, rows: &[Destination]) {
        for row in rows {
            self.period.destination(&DestinationSample {
                at: Moment(row.time.0),
                id: destination_id(
                    protocol(row.protocol),
                    row.local_address,
                    row.remote_address,
                    row.remote_port,
                ),
                in_use: row.in_use,
                live: row.live,
                time_wait: row.time_wait,
                occupancy: share(Some(row.occupancy_ratio)).unwrap_or(0.0),
                headroom_min: row.headroom_min,
                opens: row.opens.min(MOST),
                closes: row.closes.min(MOST),
            });
        }
    }

    fn warnings(&mut self, rows: &[Warning]) {
        for row in rows {
            self.period.remark(Moment(row.time.0), &row.id, &row.message);
        }
    }

    fn connections(&mut self, rows: &[Connection]) {
        for row in rows {
            let owner = self.owners.number(row);
            self.period.closed(&closed_sample(row, owner));
        }
    }
}

fn closed_sample(row: &Connection, owner: OwnerId) -> ClosedSample {
    let local = row.local_address.zip(row.local_port).map(|(address, port)| SocketAddr::new(address, port));
    let remote =
        row.remote_address.zip(row.remote_port).map(|(address, port)| SocketAddr::new(address, port));
    let group = match (row.direction, local, remote) {
        (Direction::Outgoing, Some(local), Some(remote)) if remote.port() != 0 => {
            Group::Destination(destination_id(protocol(row.protocol), local.ip(), remote.ip(), remote.port()))
        }
        (Direction::Incoming, Some(local), _) => Group::Listener(local.port()),
        _ => Group::Other,
    };
    ClosedSample {
        at: When::between(Moment(row.closed_earliest.0), Moment(row.closed_latest.0)).middle(),
        group,
        local_port: row.local_port.filter(|_| matches!(group, Group::Destination(_))),
        owner,
        lifetime: Lifetime {
            min_ms: row.lifetime_min_ms.min(MOST),
            max_ms: row.lifetime_max_ms.map(|ms| ms.min(MOST)),
        },
        closed_by: match row.closed_by {
            sockeye_recording::ClosedBy::Local => ClosedBy::Local,
            sockeye_recording::ClosedBy::Remote => ClosedBy::Remote,
            sockeye_recording::ClosedBy::Reset => ClosedBy::Reset,
            sockeye_recording::ClosedBy::Unknown => ClosedBy::Unknown,
        },
        bytes: row
            .sent_bytes
            .zip(row.received_bytes)
            .map(|(sent, received)| [sent, received].map(|bytes| bytes.min(MOST_BYTES))),
    }
}

/// Between 0 and 1: anything else in a file is no share.
fn share(ratio: Option<f64>) -> Option<f64> {
    ratio.filter(|ratio| (0.0..=1.0).contains(ratio))
}

fn destination_id(protocol: Protocol, local: IpAddr, remote: IpAddr, port: u16) -> DestinationId {
    DestinationId { protocol, local_address: local, remote_address: remote, remote_port: port }
}

fn protocol(word: Word) -> Protocol {
    match word {
        Word::Tcp => Protocol::Tcp,
        Word::Udp => Protocol::Udp,
        Word::Unknown => Protocol::Unknown(0),
    }
}

/// Owners by their numbers; 0 is who is not known.
struct Owners {
    by: By,
    names: Vec<OwnerName>,
    known: HashMap<Owner, OwnerId>,
}

impl Owners {
    fn number(&mut self, row: &Connection) -> OwnerId {
        let all = Owner::of(row);
        let owner = match self.by {
            By::User => Owner { uid: all.uid, user: all.user, ..Owner::default() },
            By::Cgroup => Owner { cgroup: all.cgroup, ..Owner::default() },
            _ => all,
        };
        if let Some(known) = self.known.get(&owner) {
            return *known;
        }
        let number = match () {
            () if owner == Owner::default() || self.names.len() >= MOST_OWNERS => OwnerId::UNKNOWN,
            () => {
                self.names.push(owner.told());
                OwnerId(self.names.len() as u32 - 1)
            }
        };
        if self.known.len() < MOST_OWNERS {
            self.known.insert(owner, number);
        }
        number
    }
}
