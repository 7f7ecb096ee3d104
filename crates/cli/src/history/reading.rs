//! Rows of a recording as a period to report on.

use std::net::IpAddr;

use foldhash::HashMap;
use sock_diag::Protocol;
use sockeye_core::{
    ClosedBy, ClosedSample, DestinationId, DestinationSample, Group, Lifetime, Moment, OwnerId, Period,
    PoolSample, PortRange, TickSample, When,
};
use sockeye_recording::{
    Connection, Destination, Direction, Protocol as Word, Reading, Setting, Sink, Sum, SumKind, Tick, Time,
    Warning,
};

use super::owner::Owner;
use crate::by::{By, OwnerName};
use crate::render::report_view::{Origin, length};
use crate::sweep::Note;

/// Owners that are told apart; more share one row.
const MOST_OWNERS: usize = 1 << 20;
/// A tick that is so much later than its interval says has a gap before it.
pub(crate) const LATE_MS: u64 = 2_000;
/// More of anything within a tick, or of milliseconds, no host has. What a file claims beyond it counts as this, so that sums
/// of what is claimed do not come round to little.
pub(crate) const MOST: u64 = 1 << 40;
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
    /// Of the time from `begin` to `end`, in which ticks are so far apart, with owners told apart by this facet of them.
    pub(crate) fn new([begin, end]: [Time; 2], interval_ms: u64, by: By) -> Folding {
        Folding {
            period: Period::of_ticks(Moment(begin.0), Moment(end.0), interval_ms),
            origin: Origin::default(),
            owners: Owners::new(by),
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
            let mut message = format!("{} cannot be read to its end: {}", unread.file, unread.why.trim_end());
            if unread.file.starts_with("sums/") {
                message.push_str("; delete it, and connections are read in its place");
            }
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
            let owner = self.owners.number(row.into());
            self.period.closed(&closed_sample(row, owner));
        }
    }

    fn sums(&mut self, rows: &[Sum]) {
        for row in rows {
            let lifetime = lifetime(row.lifetime_min_ms, row.lifetime_max_ms);
            let connections = row.connections.min(u32::MAX.into());
            match row.kind {
                SumKind::Time => self.period.closed_at(Moment(row.earliest.0), lifetime, connections),
                SumKind::End => self.period.closed_in(End::from(row).group(), lifetime, connections),
                SumKind::Owner => {
                    let owner = self.owners.number(row.into());
                    let bytes = [row.sent_bytes, row.received_bytes].map(|sum| sum.unwrap_or(0));
                    let closed_by = closed_by(row.closed_by.unwrap_or_default());
                    self.period.closed_of(owner, closed_by, lifetime, connections, bytes);
                }
                SumKind::Port => {
                    if let Some(port) = row.local_port {
                        self.period.closed_from(port, connections);
                    }
                }
                SumKind::Unknown => {}
            }
        }
    }

    fn takes_sums(&self) -> bool {
        self.period.keeps_whole(Sum::STRETCH_MS)
    }
}

pub(crate) fn closed_sample(row: &Connection, owner: OwnerId) -> ClosedSample {
    ClosedSample {
        at: When::between(Moment(row.closed_earliest.0), Moment(row.closed_latest.0)).middle(),
        group: End::from(row).group(),
        local_port: row.local_port.filter(|_| row.direction == Direction::Outgoing),
        owner,
        lifetime: lifetime(row.lifetime_min_ms, row.lifetime_max_ms),
        closed_by: closed_by(row.closed_by),
        bytes: row
            .sent_bytes
            .zip(row.received_bytes)
            .map(|(sent, received)| [sent, received].map(|bytes| bytes.min(MOST_BYTES))),
    }
}

/// The ends of connections, as far as they tell which these belong together with.
struct End {
    protocol: Word,
    direction: Direction,
    local_address: Option<IpAddr>,
    local_port: Option<u16>,
    remote_address: Option<IpAddr>,
    remote_port: Option<u16>,
}

impl From<&Connection> for End {
    fn from(row: &Connection) -> End {
        End {
            protocol: row.protocol,
            direction: row.direction,
            local_address: row.local_address,
            local_port: row.local_port,
            remote_address: row.remote_address,
            remote_port: row.remote_port,
        }
    }
}

impl From<&Sum> for End {
    fn from(row: &Sum) -> End {
        End {
            protocol: row.protocol.unwrap_or_default(),
            direction: row.direction.unwrap_or_default(),
            local_address: row.local_address,
            local_port: row.local_port,
            remote_address: row.remote_address,
            remote_port: row.remote_port,
        }
    }
}

impl End {
    fn group(&self) -> Group {
        match (self.direction, self.local_address, self.remote_address, self.remote_port, self.local_port) {
            (Direction::Outgoing, Some(local), Some(remote), Some(port), _) if port != 0 => {
                Group::Destination(destination_id(protocol(self.protocol), local, remote, port))
            }
            (Direction::Incoming, _, _, _, Some(port)) => Group::Listener(port),
            _ => Group::Other,
        }
    }
}

fn lifetime(min_ms: u64, max_ms: Option<u64>) -> Lifetime {
    Lifetime { min_ms: min_ms.min(MOST), max_ms: max_ms.map(|ms| ms.min(MOST)) }
}

fn closed_by(word: sockeye_recording::ClosedBy) -> ClosedBy {
    match word {
        sockeye_recording::ClosedBy::Local => ClosedBy::Local,
        sockeye_recording::ClosedBy::Remote => ClosedBy::Remote,
        sockeye_recording::ClosedBy::Reset => ClosedBy::Reset,
        sockeye_recording::ClosedBy::Unknown => ClosedBy::Unknown,
    }
}

/// Between 0 and 1: anything else in a file is no share.
pub(crate) fn share(ratio: Option<f64>) -> Option<f64> {
    ratio.filter(|ratio| (0.0..=1.0).contains(ratio))
}

pub(crate) fn destination_id(protocol: Protocol, local: IpAddr, remote: IpAddr, port: u16) -> DestinationId {
    DestinationId { protocol, local_address: local, remote_address: remote, remote_port: port }
}

pub(crate) fn protocol(word: Word) -> Protocol {
    match word {
        Word::Tcp => Protocol::Tcp,
        Word::Udp => Protocol::Udp,
        Word::Unknown => Protocol::Unknown(0),
    }
}

/// Owners by their numbers; 0 is who is not known.
pub(crate) struct Owners {
    by: By,
    pub(crate) names: Vec<OwnerName>,
    known: HashMap<Owner, OwnerId>,
}

impl Owners {
    pub(crate) fn new(by: By) -> Owners {
        Owners { by, names: vec![OwnerName::default()], known: HashMap::default() }
    }

    pub(crate) fn number(&mut self, all: Owner) -> OwnerId {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_that_no_host_has_overflow_nothing() {
        for netns in [0, u64::MAX] {
            let mut folding = Folding::new([Time(0), Time(86_400_000)], 1_000, By::Owner);
            let kinds = [SumKind::Time, SumKind::End, SumKind::Owner, SumKind::Port, SumKind::Unknown];
            for kind in kinds.into_iter().flat_map(|kind| [kind; 100]) {
                let sum = Sum {
                    earliest: Time(5),
                    latest: Time(0),
                    kind,
                    netns,
                    protocol: None,
                    direction: None,
                    local_address: None,
                    local_port: Some(0),
                    remote_address: None,
                    remote_port: Some(0),
                    closed_by: None,
                    owner_pid: None,
                    owner_name: None,
                    owner_uid: None,
                    owner_user: None,
                    owner_cgroup: None,
                    lifetime_min_ms: u64::MAX,
                    lifetime_max_ms: Some(0),
                    connections: u64::MAX,
                    sent_bytes: Some(u64::MAX),
                    received_bytes: None,
                };
                folding.sums(&[sum]);
            }
            let period = folding.period();
            assert_eq!(period.totals().ended, 100 * u64::from(u32::MAX));
            assert_eq!(period.ports().of(0), u32::MAX);
            assert!(period.lifetimes().total.completed_ms.is_some());
        }
    }
}
