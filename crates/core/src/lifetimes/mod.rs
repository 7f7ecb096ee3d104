//! Lifetimes of connections by group: plain percentiles with their bounds, and the Kaplan–Meier estimate that counts
//! those still open.
//!
//! What is kept of one group is `tally`'s, how its distribution is estimated `survival`'s.

pub(crate) mod scale;
pub(crate) mod survival;
mod tally;

use std::collections::BTreeMap;

use hashbrown::HashMap;

use crate::destination::DestinationId;
use crate::moment::Lifetime;
use crate::owner_id::OwnerId;
use crate::port_origin::PortOrigin;

use scale::Scale;
use tally::{Counts, Tally};

/// What connections are grouped by: each belongs to one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Group {
    /// Outgoing, to this destination.
    Destination(DestinationId),
    /// Incoming, to the listener on this port.
    Listener(u16),
    /// Whose they are, where that is what was asked for.
    Owner(OwnerId),
    /// How their ports were got, where that is what was asked for.
    PortOrigin(PortOrigin),
    /// Neither, or one group too many.
    Other,
}

/// What lifetimes are grouped by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LifetimesBy {
    /// Destinations and listeners.
    #[default]
    Ends,
    /// Owners.
    Owner,
    /// How they came by their local ports.
    PortOrigin,
}

/// A value with the bounds between which the truth lies, milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounded {
    /// Best single number.
    pub ms: u64,
    /// At least.
    pub min_ms: u64,
    /// At most.
    pub max_ms: u64,
}

impl Bounded {
    /// How far the number may be off, milliseconds.
    pub fn uncertainty_ms(self) -> u64 {
        self.ms.abs_diff(self.min_ms).max(self.ms.abs_diff(self.max_ms))
    }
}

/// The percentiles told of every group: 50, 90, 99, 99.9.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "a percentile is its own explanation")]
pub struct Percentiles {
    pub p50: Bounded,
    pub p90: Bounded,
    pub p99: Bounded,
    pub p999: Bounded,
}

impl Percentiles {
    /// As shares of the connections, in the order of the fields.
    pub const SHARES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

    /// In the order of the fields.
    pub const fn each(&self) -> [Bounded; 4] {
        [self.p50, self.p90, self.p99, self.p999]
    }
}

/// One bar of a histogram: connections that lived from `from_ms` (inclusive) to `to_ms` (exclusive).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "told above")]
pub struct Bar {
    pub from_ms: u64,
    pub to_ms: u64,
    pub count: u64,
}

/// Lifetimes of one group.
#[derive(Clone, PartialEq, Debug)]
pub struct GroupLifetimes {
    /// Which; None for all together.
    pub group: Option<Group>,
    /// Connections whose birth and death are known, within bounds.
    pub completed: u64,
    /// Connections that ended and were older than the watch: only a lower bound is known.
    pub older: u64,
    /// Connections still open.
    pub open: u64,
    /// Percentiles of the completed ones; None when there are none. The bounds are certain: each connection's own bounds
    /// were true, and bins (0.8 % wide) are counted against them. More than 24 h is told as 24 h.
    pub completed_ms: Option<Percentiles>,
    /// Kaplan–Meier percentiles over completed, older and open ones, in the order of [`Percentiles`]; each None where the
    /// estimate does not come down to it.
    pub kaplan_meier_ms: [Option<u64>; 4],
    /// The completed ones, in bars of growing width, without a gap from the shortest to the longest. Where bounds are
    /// wider than a bar, counts are estimates; their sum is `completed`.
    pub bars: Vec<Bar>,
}

impl GroupLifetimes {
    /// All its connections.
    pub const fn connections(&self) -> u64 {
        self.completed + self.older + self.open
    }

    /// Share of its connections that are still open, 0–1; None without any.
    pub fn open_ratio(&self) -> Option<f64> {
        match self.connections() {
            0 => None,
            all => Some(self.open as f64 / all as f64),
        }
    }
}

/// Lifetimes of a namespace since the start, all and by group.
#[derive(Clone, PartialEq, Debug)]
pub struct LifetimeReport {
    /// All groups together.
    pub total: GroupLifetimes,
    /// One by one, most connections first.
    pub groups: Vec<GroupLifetimes>,
}

/// Groups that are told apart; connections of more are counted in [`Group::Other`].
const MOST_GROUPS: usize = 256;

/// Lifetimes of connections that ended, by group.
///
/// Memory: at most 100 KiB a group, a few KiB as long as lifetimes are short and alike; 256 groups. A record costs about
/// 200 ns.
pub struct Lifetimes {
    total: Tally,
    groups: HashMap<Group, Tally>,
}

impl Default for Lifetimes {
    fn default() -> Lifetimes {
        Lifetimes::new()
    }
}

impl Lifetimes {
    /// Nothing has ended yet.
    pub fn new() -> Lifetimes {
        Lifetimes { total: Tally::new(), groups: HashMap::new() }
    }

    /// A connection of this group has ended.
    pub fn record(&mut self, group: Group, lifetime: Lifetime) {
        self.record_many(group, lifetime, 1);
    }

    /// So many connections of this group, which lived between the same bounds, have ended.
    pub fn record_many(&mut self, group: Group, lifetime: Lifetime, connections: u64) {
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        self.total.record(lifetime, connections);
        let told_apart = self.groups.contains_key(&group) || self.groups.len() < MOST_GROUPS;
        let group = if told_apart { group } else { Group::Other };
        self.groups.entry(group).or_insert_with(Tally::new).record(lifetime, connections);
    }

    /// What is known so far; `open`: group and age, milliseconds, of every connection still open.
    ///
    /// Where an age is in doubt its middle is wanted. The least age would take connections away from those at risk
    /// before their time, but only such as have not ended: lifetimes would seem shorter than they are.
    ///
    /// Cost: two estimates for each group; some 4 ms a group where bounds are wide and of every kind.
    pub fn report(&self, open: impl Iterator<Item = (Group, u64)>) -> LifetimeReport {
        let none_open = || Counts::new(Scale::FINEST);
        let mut all = none_open();
        let mut by_group: BTreeMap<Group, Counts> = self.groups.keys().map(|g| (*g, none_open())).collect();
        for (group, age_ms) in open {
            all.add(age_ms, 1);
            let told_apart = by_group.contains_key(&group) || by_group.len() < MOST_GROUPS;
            let group = if told_apart { group } else { Group::Other };
            by_group.entry(group).or_insert_with(none_open).add(age_ms, 1);
        }
        let nothing_ended = Tally::new();
        let tally = |group| self.groups.get(group).unwrap_or(&nothing_ended);
        let mut groups: Vec<_> =
            by_group.iter().map(|(group, open)| tally(group).report(Some(*group), open)).collect();
        // Stable: equals stay in the order of their groups.
        groups.sort_by_key(|group| std::cmp::Reverse(group.connections()));
        LifetimeReport { total: self.total.report(None, &all), groups }
    }
}

#[cfg(test)]
mod tests;
