//! A period of recorded history, folded as its rows come: what a report of it shows, in memory that does not grow with its
//! length.
//!
//! Time is cut into equal buckets. Destinations, owners and warnings beyond a number are added up in a rest, those with
//! the least to tell first: the sums stay whole.

mod bucket;
mod destinations;
mod owners;
mod remarks;

use std::ops::RangeInclusive;

use crate::compare::LifetimeSample;
use crate::destination::DestinationId;
use crate::lifetimes::{Group, LifetimeReport, Lifetimes};
use crate::moment::{Lifetime, Moment};
use crate::owner_id::OwnerId;
use crate::pool::PortRange;
use crate::{Closed, ClosedBy};

pub use bucket::Bucket;
pub use destinations::{DestinationHistory, DestinationRest};
pub use owners::{OwnerHistory, OwnerRest};
pub use remarks::RemarkHistory;

use destinations::Destinations;
use owners::Owners;
use remarks::Remarks;

/// Buckets a period is cut into unless asked otherwise.
const BUCKETS: usize = 240;
/// Buckets that are as long as this are whole multiples of it, and begin at multiples of it since 1970: sums made over such
/// stretches beforehand are each within one bucket.
const STEP_MS: u64 = 15_000;

/// What one tick of a watch told.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct TickSample {
    /// When it ended.
    pub at: Moment,
    /// How long it was, milliseconds.
    pub interval_ms: u64,
    /// Connections opened within it.
    pub opens: u64,
    /// Connections closed within it.
    pub closes: u64,
    /// Connections alive at its end.
    pub live: u64,
    /// Sockets in TIME_WAIT.
    pub time_wait: u64,
    /// The pool, where it was told.
    pub pool: Option<PoolSample>,
    /// The destination closest to running out of ports, and how full it was, 0–1.
    pub worst: Option<(DestinationId, f64)>,
    /// The least headroom towards any destination.
    pub headroom_min: Option<u32>,
    /// Connections seen of those the kernel counted, 0–1.
    pub coverage: Option<f64>,
    /// Destroy events lost within it.
    pub events_lost: u64,
}

/// The TCP pool at a tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolSample {
    /// `net.ipv4.ip_local_port_range`.
    pub range: PortRange,
    /// Ports of the range that are reserved.
    pub reserved: u32,
    /// Ports held by listeners and bound sockets.
    pub held: u32,
    /// What is left for each destination.
    pub usable: u32,
}

/// One destination at a tick. A row holds until the next one of the same destination: one that is gone wants a last row
/// with nothing in use.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DestinationSample {
    /// When.
    pub at: Moment,
    /// Which.
    pub id: DestinationId,
    /// Ports in use.
    pub in_use: u32,
    /// Sockets not in TIME_WAIT.
    pub live: u32,
    /// Sockets in TIME_WAIT.
    pub time_wait: u32,
    /// How full it was, 0–1.
    pub occupancy: f64,
    /// How many more connect() certainly succeed.
    pub headroom_min: u32,
    /// Opened since the row before.
    pub opens: u64,
    /// Closed since the row before.
    pub closes: u64,
}

/// One connection that has ended, as far as a report looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClosedSample {
    /// When it ended.
    pub at: Moment,
    /// Where it went, or which listener accepted it.
    pub group: Group,
    /// Its own port, for the picture of ports; None where it is not known, or was a listener's.
    pub local_port: Option<u16>,
    /// Whose it was.
    pub owner: OwnerId,
    /// How long it lived.
    pub lifetime: Lifetime,
    /// Who ended it.
    pub closed_by: ClosedBy,
    /// Bytes sent and received, where its end told them.
    pub bytes: Option<[u64; 2]>,
}

impl From<&Closed> for ClosedSample {
    fn from(closed: &Closed) -> ClosedSample {
        let group = closed.group();
        let outgoing = matches!(group, Group::Destination(_));
        ClosedSample {
            at: closed.at.middle(),
            group,
            local_port: closed.local.filter(|_| outgoing).map(|local| local.port()),
            owner: closed.owner,
            lifetime: closed.lifetime,
            closed_by: closed.closed_by,
            bytes: None,
        }
    }
}

/// Connections by who ended them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "as the variants of ClosedBy")]
pub struct EndedBy {
    pub local: u64,
    pub remote: u64,
    pub reset: u64,
    pub unknown: u64,
}

/// Sums over the whole period.
///
/// Conservation: `opens` and `closes` are the sums over the buckets, and `ended` the sum over the buckets' lifetimes, over
/// owners with their rest, and over `ended_by`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Totals {
    /// Ticks taken.
    pub ticks: u64,
    /// Connections opened.
    pub opens: u64,
    /// Connections closed, as the ticks count them.
    pub closes: u64,
    /// Rows of closed connections; fewer than `closes` where some were not told one by one.
    pub ended: u64,
    /// The same by who ended them.
    pub ended_by: EndedBy,
    /// Most connections alive at a tick.
    pub live_max: u64,
    /// Most sockets in TIME_WAIT at a tick.
    pub time_wait_max: u64,
    /// Destroy events lost.
    pub events_lost: u64,
    /// Least coverage of a tick, 0–1; None where none was told.
    pub coverage_min: Option<f64>,
    /// Time covered by ticks, milliseconds: less than the period where nothing was recorded.
    pub covered_ms: u64,
    /// The fullest that any destination was: which, how full (0–1), and when.
    pub worst: Option<(DestinationId, f64, Moment)>,
    /// Least headroom towards any destination.
    pub headroom_min: Option<u32>,
    /// Rows outside the period: left out everywhere.
    pub outside: u64,
}

/// How often each port was used by outgoing connections that ended.
#[derive(Clone)]
pub struct PortUses {
    counts: Box<[u32]>,
}

impl PortUses {
    fn new() -> PortUses {
        PortUses { counts: vec![0; 1 << 16].into_boxed_slice() }
    }

    /// By how many connections this port was used.
    pub fn of(&self, port: u16) -> u32 {
        self.counts[usize::from(port)]
    }

    /// By how many connections these ports were used, and how many of the ports were used at all.
    pub fn within(&self, ports: RangeInclusive<u16>) -> (u64, u32) {
        ports.fold((0, 0), |(uses, used), port| {
            (uses + u64::from(self.of(port)), used + u32::from(self.of(port) > 0))
        })
    }
}

/// A period of one network namespace. Rows of one kind come in the order of their time; kinds may come one after another.
///
/// Memory: a few MiB at the most (240 buckets of at most 26 KiB, 2,048 destinations of a KiB, and [`Lifetimes`]).
/// Cost: a few hundred nanoseconds a row.
pub struct Period {
    begin: Moment,
    end: Moment,
    bucket_ms: u64,
    /// At least one. The first begins with the period or a little before it.
    buckets: Vec<Bucket>,
    totals: Totals,
    pool: Option<PoolSample>,
    pools_seen: u32,
    lifetimes: Lifetimes,
    sample: LifetimeSample,
    destinations: Destinations,
    owners: Owners,
    ports: PortUses,
    remarks: Remarks,
}

impl Period {
    /// Nothing is known yet of the time from `begin` to `end` (exclusive).
    pub fn new(begin: Moment, end: Moment) -> Period {
        Period::cut(begin, end, BUCKETS)
    }

    /// The same where ticks are so far apart: a bucket has two at least, so that none in between seems to have no tick.
    pub fn of_ticks(begin: Moment, end: Moment, interval_ms: u64) -> Period {
        let ticks = end.ms_since(begin) / interval_ms.max(1);
        Period::cut(begin, end, usize::try_from(ticks / 2).unwrap_or(BUCKETS).clamp(1, BUCKETS))
    }

    /// The same cut into so many buckets at the most.
    pub fn cut(begin: Moment, end: Moment, buckets: usize) -> Period {
        let length = end.ms_since(begin).max(1);
        let end = begin.plus_ms(length);
        let most = buckets.max(1) as u64;
        let mut bucket_ms = length.div_ceil(most);
        let mut first = begin;
        if bucket_ms >= STEP_MS {
            first = Moment(begin.0 / STEP_MS * STEP_MS);
            bucket_ms = end.ms_since(first).div_ceil(most).next_multiple_of(STEP_MS);
        }
        let count = end.ms_since(first).div_ceil(bucket_ms);
        let buckets: Vec<Bucket> = (0..count).map(|i| Bucket::new(first.plus_ms(i * bucket_ms))).collect();
        let destinations = Destinations::new(buckets.len());
        Period {
            begin,
            end,
            bucket_ms,
            buckets,
            totals: Totals::default(),
            pool: None,
            pools_seen: 0,
            lifetimes: Lifetimes::new(),
            sample: LifetimeSample::new(),
            destinations,
            owners: Owners::new(),
            ports: PortUses::new(),
            remarks: Remarks::new(),
        }
    }

    /// Takes a tick.
    pub fn tick(&mut self, tick: &TickSample) {
        let Some(place) = self.place(tick.at) else { return };
        self.buckets[place].tick(tick);
        self.destinations.until(place);
        let totals = &mut self.totals;
        totals.ticks += 1;
        totals.opens += tick.opens;
        totals.closes += tick.closes;
        totals.live_max = totals.live_max.max(tick.live);
        totals.time_wait_max = totals.time_wait_max.max(tick.time_wait);
        totals.events_lost += tick.events_lost;
        totals.coverage_min = least(totals.coverage_min, tick.coverage);
        totals.covered_ms += tick.interval_ms;
        totals.headroom_min = least(totals.headroom_min, tick.headroom_min);
        if let Some((id, occupancy)) = tick.worst
            && totals.worst.is_none_or(|(_, most, _)| occupancy > most)
        {
            totals.worst = Some((id, occupancy, tick.at));
        }
        if let Some(pool) = tick.pool
            && self.pool != Some(pool)
        {
            let is_same =
                self.pool.is_some_and(|known| known.range == pool.range && known.reserved == pool.reserved);
            self.pools_seen += u32::from(!is_same);
            self.pool = Some(pool);
        }
    }

    /// Takes a row of a destination.
    pub fn destination(&mut self, row: &DestinationSample) {
        if let Some(place) = self.place(row.at) {
            self.destinations.add(place, row);
        }
    }

    /// Takes a connection that has ended.
    pub fn closed(&mut self, closed: &ClosedSample) {
        if self.place(closed.at).is_none() {
            return;
        }
        self.closed_at(closed.at, closed.lifetime, 1);
        self.closed_in(closed.group, closed.lifetime, 1);
        self.closed_of(closed.owner, closed.closed_by, closed.lifetime, 1, closed.bytes.unwrap_or_default());
        if let Some(port) = closed.local_port {
            self.closed_from(port, 1);
        }
    }

    /// Takes the first of four sums over the same connections that have ended, which together are as good as each of them
    /// one by one: so many of this lifetime ended within the period and within the stretch that begins here, which is
    /// [within one bucket](Period::keeps_whole). All four are wanted of each connection.
    pub fn closed_at(&mut self, begin: Moment, lifetime: Lifetime, connections: u64) {
        let Some(place) = self.place(begin.max(self.begin)) else { return };
        self.buckets[place].closed(lifetime, connections);
        self.sample.record_many(lifetime, connections);
    }

    /// The second: so many in this group.
    pub fn closed_in(&mut self, group: Group, lifetime: Lifetime, connections: u64) {
        self.lifetimes.record_many(group, lifetime, connections);
    }

    /// The third: so many of this owner, with the bytes they sent and received.
    pub fn closed_of(
        &mut self,
        owner: OwnerId,
        closed_by: ClosedBy,
        lifetime: Lifetime,
        connections: u64,
        bytes: [u64; 2],
    ) {
        self.owners.add(owner, lifetime, connections, bytes);
        self.totals.ended += connections;
        let by = &mut self.totals.ended_by;
        *match closed_by {
            ClosedBy::Local => &mut by.local,
            ClosedBy::Remote => &mut by.remote,
            ClosedBy::Reset => &mut by.reset,
            ClosedBy::Unknown => &mut by.unknown,
        } += connections;
    }

    /// The fourth: so many outgoing ones had this port.
    pub fn closed_from(&mut self, local_port: u16, connections: u64) {
        let count = &mut self.ports.counts[usize::from(local_port)];
        *count = count.saturating_add(u32::try_from(connections).unwrap_or(u32::MAX));
    }

    /// Whether each stretch of so many milliseconds that begins at a multiple of its length is within one bucket.
    pub fn keeps_whole(&self, ms: u64) -> bool {
        let [first, ..] = &self.buckets[..] else { return false };
        ms > 0 && self.bucket_ms.is_multiple_of(ms) && first.begin.0.is_multiple_of(ms)
    }

    /// Takes a warning of a tick: its name, and what it said.
    pub fn remark(&mut self, at: Moment, id: &str, message: &str) {
        if self.place(at).is_some() {
            self.remarks.add(at, id, message);
        }
    }

    /// When it begins.
    pub const fn begin(&self) -> Moment {
        self.begin
    }

    /// When it ends: not a part of it any more.
    pub const fn end(&self) -> Moment {
        self.end
    }

    /// How long a bucket is, milliseconds. The first one may begin before the period, the last one reach beyond it.
    pub const fn bucket_ms(&self) -> u64 {
        self.bucket_ms
    }

    /// From the first to the last.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Sums over the whole.
    pub const fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The pool as it was last told, and whether range or reserved ports changed within the period.
    pub fn pool(&self) -> Option<(PoolSample, bool)> {
        self.pool.map(|pool| (pool, self.pools_seen > 1))
    }

    /// Lifetimes of the connections that ended, all and by destination and listener. Cost: see [`Lifetimes::report`].
    pub fn lifetimes(&self) -> LifetimeReport {
        self.lifetimes.report(std::iter::empty())
    }

    /// The same of all, for a comparison with another period.
    pub const fn sample(&self) -> &LifetimeSample {
        &self.sample
    }

    /// Destinations, most ports in use first, equals by opens, closes and name; and what was not told apart.
    pub fn destinations(&self) -> (Vec<DestinationHistory>, DestinationRest) {
        self.destinations.told()
    }

    /// Owners of the connections that ended, most of these first; and what was not told apart.
    pub fn owners(&self) -> (Vec<OwnerHistory<'_>>, OwnerRest) {
        self.owners.told()
    }

    /// How often each port was used.
    pub const fn ports(&self) -> &PortUses {
        &self.ports
    }

    /// Warnings, those that were told most often first.
    pub fn remarks(&self) -> Vec<&RemarkHistory> {
        self.remarks.told()
    }

    fn place(&mut self, at: Moment) -> Option<usize> {
        if at < self.begin || at >= self.end {
            self.totals.outside += 1;
            return None;
        }
        let first = self.buckets.first()?.begin;
        Some(((at.ms_since(first) / self.bucket_ms) as usize).min(self.buckets.len() - 1))
    }
}

/// The lesser of what is known.
fn least<T: PartialOrd>(known: Option<T>, new: Option<T>) -> Option<T> {
    match (known, new) {
        (Some(known), Some(new)) => Some(if new < known { new } else { known }),
        (known, new) => known.or(new),
    }
}

#[cfg(test)]
mod tests;
