//! What one sweep of one namespace told, as plain numbers sized by ports and destinations, and a bounded sample of sockets
//! that may be stuck.
//!
//! Formats (table, JSON, metrics) are the renderers' own.

use sock_diag::SocketRecord;

use crate::bindable::Bindable;
use crate::churn::Churn;
use crate::counts::SocketCounts;
use crate::curve::Curve;
use crate::destination::{Destination, DestinationId, SortKey};
use crate::headroom::Headroom;
use crate::listener::{Listener, Traffic};
use crate::pool::Pool;
use crate::port_set::PortSet;
use crate::stuck::{Age, Found, Stuck, StuckKind, StuckSamples};
use crate::udp::UdpPool;
use crate::warning::Warning;

/// The TCP pool of the namespace, before any destination is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TcpPool {
    /// Range − reserved.
    pub pool: Pool,
    /// Ports of the range that are reserved.
    pub reserved: u32,
    /// Ports of the pool with a listener or a bound-inactive socket, on whatever address.
    pub held: u32,
    /// What is left for each destination: range − reserved − held.
    pub usable: u32,
    /// The ports counted as held.
    pub held_ports: PortSet,
    /// The same ports by what holds them.
    pub held_by: HeldBy,
    /// Held ports that connected sockets (or their TIME_WAIT) are known to have bound explicitly: told by the kernel, by
    /// whoever followed them, or by a probe.
    pub explicit: u32,
    /// These ports.
    pub explicit_ports: PortSet,
    /// How many bind() with port 0 succeed, on the addresses that have a socket of the pool and on the unspecified ones.
    /// On any other address only sockets of the wildcards take ports.
    pub bindable: Vec<Bindable>,
    /// Usable ports that connected sockets may have bound explicitly; see [`Headroom`](crate::Headroom).
    pub suspects: PortSet,
}

/// Held ports of the pool by what holds them. A port counts once, for the first of several: the sum is `held`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeldBy {
    /// Ports with a listener.
    pub listeners: u32,
    /// Ports without one that connected sockets (or their TIME_WAIT) are known to have bound explicitly.
    pub bound_by_number: u32,
    /// The others: sockets on them are bound and not connected.
    pub bound: u32,
}

/// One namespace at one sweep.
///
/// Conservation: `records` − `duplicates` = `sockets.total()`, and its TCP part is the sum of `listener_sockets`,
/// `bound_sockets`, `unbound_sockets`, `outgoing`, `incoming` and `other`.
#[derive(Clone, PartialEq, Debug)]
pub struct Report {
    /// Records taken, repeats among them.
    pub records: u64,
    /// Records whose cookie had just been seen: repeats of a raced dump, counted nowhere else.
    pub duplicates: u64,
    /// Sockets by protocol, family and state.
    pub sockets: SocketCounts,
    /// TCP sockets in FIN_WAIT2 that no process has any more (mini sockets), part of that state's count.
    pub orphans: u32,
    /// Listening TCP sockets; several may share a port.
    pub listener_sockets: u32,
    /// TCP sockets that are bound and neither listen nor are connected.
    pub bound_sockets: u32,
    /// TCP sockets without port or connection.
    pub unbound_sockets: u32,
    /// The TCP pool.
    pub tcp: TcpPool,
    /// The UDP pool and its use.
    pub udp: UdpPool,
    /// Destinations of outgoing sockets: those on a port of the range that has no listener. A `Vec` that
    /// [`sort_by`](Report::sort_by) orders.
    pub destinations: Vec<Destination>,
    /// Listening ports, lowest first, with their incoming sockets.
    pub listeners: Vec<Listener>,
    /// Sum over the destinations.
    pub outgoing: Traffic,
    /// Sum over the listeners.
    pub incoming: Traffic,
    /// Connected sockets that are neither: on a port outside the range that has no listener (any more).
    pub other: Traffic,
    /// Opens and closes over time; None for a single sweep.
    pub churn: Option<Churn>,
    /// Closes of the last 60 s by anyone in this namespace.
    pub closes: Curve,
    /// Sockets in states that none should be in for long, to be looked at: see [`stuck`](Report::stuck).
    pub stuck: StuckSamples,
    /// What an operator should know, worst first.
    pub warnings: Vec<Warning>,
    /// Seconds since the close of each TIME_WAIT socket of each destination, one destination after another. A byte
    /// for each, where a curve for each destination would be 240.
    pub(crate) ages: Vec<u8>,
}

/// The sum of destinations that are not shown one by one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rest {
    /// How many destinations.
    pub destinations: usize,
    /// Sum of their ports in use; a port counts once for each.
    pub in_use: u64,
    /// Their sockets.
    pub traffic: Traffic,
}

impl Report {
    /// Orders the destinations, worst first; equals by name, so that the order is always the same.
    pub fn sort_by(&mut self, key: SortKey) {
        self.destinations.sort_unstable_by(|a, b| key.compare(a, b));
    }

    /// What is stuck for long, by the ages that the caller has found out about the [sampled](Report::stuck) sockets: those
    /// that hurt most first.
    pub fn stuck_by(&self, age: impl Fn(StuckKind, &SocketRecord) -> Option<Age>) -> Vec<Found> {
        let found = StuckKind::ALL.into_iter();
        found.filter_map(|kind| Found::in_sample(kind, self.stuck.of(kind), |one| age(kind, one))).collect()
    }

    /// Puts these among the warnings, in the place of those that were told before.
    pub fn tell_stuck(&mut self, stuck: impl IntoIterator<Item = Stuck>) {
        self.warnings.retain(|warning| !matches!(warning, Warning::Stuck(_)));
        let all: Vec<Warning> = stuck.into_iter().map(Warning::Stuck).collect();
        // It says the same with less.
        if all.iter().any(|warning| warning.id() == StuckKind::CloseWait.id()) {
            self.warnings.retain(|warning| !matches!(warning, Warning::CloseWait { .. }));
        }
        let at = self.warnings.iter().position(Warning::is_doubt).unwrap_or(self.warnings.len());
        self.warnings.splice(at..at, all);
    }

    /// Sockets on ports of the range: what the next sweep is going to hold.
    pub(crate) fn sockets_in_use(&self) -> usize {
        self.outgoing.sockets() as usize
    }

    /// What is left when only the first `shown` destinations are.
    pub fn rest(&self, shown: usize) -> Rest {
        let mut rest = Rest::default();
        for destination in self.destinations.iter().skip(shown) {
            rest.destinations += 1;
            rest.in_use += u64::from(destination.in_use);
            rest.traffic.add(destination.traffic);
        }
        rest
    }

    /// The closes of the last 60 s towards a destination of this report.
    ///
    /// Cost: its number of TIME_WAIT sockets.
    pub fn closes_of(&self, destination: &Destination) -> Curve {
        let start = destination.ages_start as usize;
        let ages = self.ages.get(start..start + destination.traffic.time_wait as usize);
        let mut curve = Curve::EMPTY;
        ages.unwrap_or_default().iter().for_each(|seconds| curve.add(*seconds));
        curve
    }

    /// The row of a destination; of one without sockets, what follows from the pool alone. Cost: a walk over all.
    pub fn towards(&self, id: &DestinationId) -> Destination {
        if let Some(known) = self.destination(id) {
            return *known;
        }
        let pool = &self.tcp;
        let mut ends = PortSet::new();
        ends.extend(pool.pool.uncertain_ends().into_iter().flatten());
        let odd_range =
            !ends.minus(&pool.held_ports).minus(&pool.suspects).intersection(pool.pool.ports()).is_empty();
        let suspected_ports = pool.suspects.count();
        let max = pool.usable;
        let min = max - suspected_ports - u32::from(odd_range);
        Destination {
            id: *id,
            traffic: Traffic::default(),
            in_use: 0,
            in_use_preferred: 0,
            suspects_in_use: 0,
            headroom: Headroom { min, max, suspected_ports, odd_range, ..Headroom::default() },
            usable: pool.usable,
            rates: None,
            forecast: None,
            ages_start: 0,
        }
    }

    /// The row of one destination, if it has any socket. Cost: a walk over all.
    pub fn destination(&self, id: &DestinationId) -> Option<&Destination> {
        self.destinations.iter().find(|destination| destination.id == *id)
    }
}
