//! A destination: what connect() runs out of ports against, and its row in a report.

use std::cmp::{Ordering, Reverse};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use sock_diag::Protocol;

use crate::churn::Rates;
use crate::forecast::Forecast;
use crate::headroom::Headroom;
use crate::listener::Traffic;

/// Names a destination within one network namespace. v4-mapped IPv6 addresses are written as the IPv4 they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DestinationId {
    /// TCP: the protocol that runs out of ports per destination.
    pub protocol: Protocol,
    /// Where its sockets connect from.
    pub local_address: IpAddr,
    /// Where they connect to.
    pub remote_address: IpAddr,
    /// The port they connect to.
    pub remote_port: u16,
}

impl fmt::Display for DestinationId {
    /// `tcp 10.0.0.7 → 10.0.9.12:8080`, as in the snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = SocketAddr::new(self.remote_address, self.remote_port);
        f.pad(&format!("{} {} → {remote}", self.protocol, self.local_address))
    }
}

/// The sockets of one destination and what they leave of the pool. About 100 bytes.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Destination {
    /// Which one.
    pub id: DestinationId,
    /// Its sockets, wherever their local port lies in the range. An orphan in FIN_WAIT2 is live: its close has not
    /// ended.
    pub traffic: Traffic,
    /// Distinct usable ports (pool − held) with a socket of this destination, TIME_WAIT included.
    pub in_use: u32,
    /// Of these, ports in the half that connect() prefers; when that is full, it searches both.
    pub in_use_preferred: u32,
    /// Of these, ports that may have been bound explicitly: a dump does not tell, see [`Headroom`].
    pub suspects_in_use: u32,
    /// How many more connect() succeed now.
    pub headroom: Headroom,
    /// Usable ports of the namespace (pool − held), the same for all destinations.
    pub usable: u32,
    /// Opens and closes over time; None for a single sweep.
    pub rates: Option<Rates>,
    /// What becomes of its ports; None where no rate is known.
    pub forecast: Option<Forecast>,
    /// Where the ages of its TIME_WAIT sockets begin in the report's list.
    pub(crate) ages_start: u32,
}

impl Destination {
    /// One of which only these numbers are known, as a recording tells it. Headroom beyond what is usable is none.
    pub fn recorded(
        id: DestinationId,
        traffic: Traffic,
        in_use: u32,
        [min, max]: [u32; 2],
        usable: u32,
        rates: Rates,
    ) -> Destination {
        let max = max.min(usable);
        Destination {
            id,
            traffic,
            in_use,
            in_use_preferred: 0,
            suspects_in_use: 0,
            headroom: Headroom { min: min.min(max), max, ..Headroom::default() },
            usable,
            rates: Some(rates),
            forecast: None,
            ages_start: 0,
        }
    }

    /// How full it is, 0–1: 1 − headroom.max / usable, so at least so full. 1 when no port is usable at all.
    pub fn occupancy(&self) -> f64 {
        if self.usable == 0 { 1.0 } else { 1.0 - f64::from(self.headroom.max) / f64::from(self.usable) }
    }

    /// Whether no connect() to it succeeds now.
    pub const fn is_exhausted(&self) -> bool {
        self.headroom.max == 0
    }
}

/// What destinations are sorted by; the worst comes first, equals by their name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum SortKey {
    /// Most ports in use.
    #[default]
    InUse,
    /// Fullest.
    Occupancy,
    /// Most closes in the last 60 s.
    Closes,
    /// Most sockets not in TIME_WAIT.
    Live,
    /// Most sockets in TIME_WAIT.
    TimeWait,
    /// Least headroom, taking its lower bound.
    Headroom,
}

impl SortKey {
    /// Every key with the word it is asked for by.
    pub const ALL: [(SortKey, &str); 6] = [
        (SortKey::InUse, "in_use"),
        (SortKey::Occupancy, "occupancy"),
        (SortKey::Closes, "closes"),
        (SortKey::Live, "live"),
        (SortKey::TimeWait, "time_wait"),
        (SortKey::Headroom, "headroom"),
    ];

    pub(crate) fn compare(self, a: &Destination, b: &Destination) -> Ordering {
        let badness = |destination: &Destination| match self {
            SortKey::InUse => destination.in_use,
            SortKey::Occupancy => u32::MAX - destination.headroom.max,
            SortKey::Closes => destination.traffic.closes,
            SortKey::Live => destination.traffic.live,
            SortKey::TimeWait => destination.traffic.time_wait,
            SortKey::Headroom => u32::MAX - destination.headroom.min,
        };
        Reverse(badness(a)).cmp(&Reverse(badness(b))).then_with(|| a.id.cmp(&b.id))
    }
}
