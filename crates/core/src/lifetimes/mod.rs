//! Lifetimes of connections by group: plain percentiles with their bounds, and the Kaplan–Meier estimate that counts
//! those still open.

use crate::destination::DestinationId;

/// What connections are grouped by: each belongs to one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Group {
    /// Outgoing, to this destination.
    Destination(DestinationId),
    /// Incoming, to the listener on this port.
    Listener(u16),
    /// Neither, or one group too many.
    Other,
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

/// The percentiles told of every group: 50, 90, 99, 99.9.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "a percentile is its own explanation")]
pub struct Percentiles {
    pub p50: Bounded,
    pub p90: Bounded,
    pub p99: Bounded,
    pub p999: Bounded,
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
    /// Percentiles of the completed ones; None when there are none.
    pub completed_ms: Option<Percentiles>,
    /// Kaplan–Meier percentiles over completed, older and open ones; each None where the estimate does not come down to it.
    pub kaplan_meier_ms: [Option<u64>; 4],
    /// The completed ones, in bars of growing width.
    pub bars: Vec<Bar>,
}

/// Lifetimes of a namespace since the start, all and by group.
#[derive(Clone, PartialEq, Debug)]
pub struct LifetimeReport {
    /// All groups together.
    pub total: GroupLifetimes,
    /// One by one, most connections first.
    pub groups: Vec<GroupLifetimes>,
}
