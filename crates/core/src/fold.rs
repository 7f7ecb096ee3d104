//! From outgoing sockets, sorted, to destinations with their headroom.
//!
//! The hard question is which ports were bound explicitly, because every automatic connect() skips those, for every
//! destination. A dump does not tell; the evidence is weighed once per port, so the cost stays
//! O(sockets + destinations) however many destinations share the pool.

use std::ops::Range;

use hashbrown::HashSet;
use sock_diag::Protocol;

use crate::address::Address;
use crate::destination::{Destination, DestinationId};
use crate::headroom::Headroom;
use crate::listener::Traffic;
use crate::pool::Pool;
use crate::port_set::PortSet;
use crate::port_use::{Claim, PortUse};

/// What the sockets of one destination have in common. Sorts by local address first, so that the destinations of one
/// local address are neighbours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Endpoints {
    pub(crate) local: Address,
    pub(crate) remote: Address,
    pub(crate) remote_port: u16,
}

/// The ports the fold works on.
pub(crate) struct Ground<'a> {
    pub(crate) pool: &'a Pool,
    /// pool − held.
    pub(crate) usable: &'a PortSet,
    /// Ports that are known to be shared among destinations.
    pub(crate) shared: &'a PortSet,
    /// Addresses of this host that are known from its sockets.
    pub(crate) here: &'a HashSet<Address>,
}

/// Destinations in the order of their names, and the ages of their TIME_WAIT sockets one after another.
pub(crate) struct Folded {
    pub(crate) destinations: Vec<Destination>,
    pub(crate) ages: Vec<u8>,
    /// Usable ports that may have been bound explicitly.
    pub(crate) suspects: PortSet,
}

/// Folds `uses`, sorted, whose destination is an index into `endpoints`, sorted too.
pub(crate) fn fold(uses: &[PortUse], endpoints: &[Endpoints], ground: &Ground) -> Folded {
    let suspects = suspected_ports(uses, endpoints, ground);
    let mut ends = PortSet::new();
    ends.extend(ground.pool.uncertain_ends().into_iter().flatten());
    let ends = ends.intersection(ground.usable).minus(&suspects);
    let counts =
        Counts { usable: ground.usable.count(), suspects: suspects.count(), free_ends: ends.count(), ends };
    let mut ages = Vec::new();
    let destinations = uses
        .chunk_by(|a, b| a.destination() == b.destination())
        .map(|uses| {
            destination(uses, &endpoints[uses[0].destination()], ground, &suspects, &counts, &mut ages)
        })
        .collect();
    Folded { destinations, ages, suspects }
}

/// What all destinations need of the ground.
struct Counts {
    usable: u32,
    suspects: u32,
    /// Ends of an odd range that are usable and not suspected: only these can be lost to the hash, the others are
    /// taken away already.
    ends: PortSet,
    free_ends: u32,
}

fn destination(
    uses: &[PortUse],
    endpoints: &Endpoints,
    ground: &Ground,
    suspects: &PortSet,
    counts: &Counts,
    ages: &mut Vec<u8>,
) -> Destination {
    let ages_start = ages.len() as u32;
    let mut traffic = Traffic::default();
    let (mut in_use, mut in_use_preferred) = (0, 0);
    let (mut blocked, mut undecided, mut waived, mut suspects_in_use) = (0, 0, 0, 0);
    let mut suspects_waived = 0;
    let mut free_ends = counts.free_ends;
    let peer_is_us = ground.here.contains(&endpoints.remote);
    for uses in uses.chunk_by(|a, b| a.port() == b.port()) {
        let port = uses[0].port();
        let mut claim = Claim::Waived;
        for one in uses {
            let age = one.closed_seconds_ago();
            traffic.count(age);
            ages.extend(age);
            claim = claim.max(match one.claim() {
                Claim::IfPeerIsUs if peer_is_us => Claim::Waived,
                claim => claim,
            });
        }
        if !ground.usable.contains(port) {
            continue;
        }
        let suspect = suspects.contains(port);
        in_use += 1;
        in_use_preferred += u32::from(ground.pool.prefers(port));
        suspects_in_use += u32::from(suspect);
        match claim {
            Claim::Firm => blocked += 1,
            Claim::IfPeerIsUs | Claim::Unclear => undecided += 1,
            Claim::Waived if suspect => suspects_waived += 1,
            Claim::Waived => waived += 1,
        }
        if claim != Claim::Waived && counts.ends.contains(port) {
            free_ends -= 1;
        }
    }
    let max = counts.usable - blocked;
    let suspected = counts.suspects - suspects_in_use + suspects_waived;
    let odd_range = free_ends > 0;
    Destination {
        id: DestinationId {
            protocol: Protocol::Tcp,
            local_address: endpoints.local.ip(),
            remote_address: endpoints.remote.ip(),
            remote_port: endpoints.remote_port,
        },
        traffic,
        in_use,
        in_use_preferred,
        suspects_in_use,
        headroom: Headroom {
            min: max - undecided - suspected - u32::from(odd_range),
            max,
            reusable_time_wait: waived,
            undecided_time_wait: undecided,
            suspected_ports: suspected,
            odd_range,
        },
        usable: counts.usable,
        rates: None,
        forecast: None,
        ages_start,
    }
}

/// Usable ports whose sockets may have been bound explicitly, by three kinds of evidence:
///
/// - A socket with IP_BIND_ADDRESS_NO_PORT did not bind a port.
/// - A port that two destinations of one local address share was chosen by connect() there: an explicit bind on that
///   address would have kept the second out. On another address it may have been bound since. Only remote ports below the
///   range count, as services have: a listener that is gone leaves its port to all it accepted, from ports that their
///   own connect() chose.
/// - Parity. bind() with port 0 takes one of those that connect() prefers only when all others are taken on that local
///   address; with SO_REUSEADDR, when all others of the range's lower half are. Half of these in use is enough for doubt,
///   since some may have gone. A port of the other parity is always in doubt: connect() takes it when the preferred ones are
///   taken for that destination, and two histories, one with bind() and one without, leave the very same sockets.
///
/// No evidence is left, so nothing is suspected, where a port that connect() prefers was bound within IP_LOCAL_PORT_RANGE
/// (whose own first port sets the parity), was bound by number and is in TIME_WAIT, or outlives its listener.
fn suspected_ports(uses: &[PortUse], endpoints: &[Endpoints], ground: &Ground) -> PortSet {
    let lower_half = ground.pool.lower_half().intersection(ground.usable);
    let bind_first = lower_half.count() - ground.pool.count_preferred(&lower_half);
    let mut suspects = PortSet::new();
    // The last local address that was seen on a port, with a service, and with several, by its running number from 1.
    let mut seen_on = vec![0u32; 1 << 16];
    let mut served_on = vec![0u32; 1 << 16];
    let mut shared_on = vec![0u32; 1 << 16];
    let mut address_number = 0;
    for of_address in
        uses.chunk_by(|a, b| endpoints[a.destination()].local == endpoints[b.destination()].local)
    {
        address_number += 1;
        let mut bind_first_in_use = 0;
        for of_destination in of_address.chunk_by(|a, b| a.destination() == b.destination()) {
            let remote_port = endpoints[of_destination[0].destination()].remote_port;
            let is_service = remote_port < ground.pool.range().first;
            for (port, _) in ports(of_destination).filter(|(port, _)| ground.usable.contains(*port)) {
                let index = usize::from(port);
                if seen_on[index] != address_number {
                    seen_on[index] = address_number;
                    bind_first_in_use += u32::from(!ground.pool.prefers(port) && lower_half.contains(port));
                }
                if is_service && served_on[index] == address_number {
                    shared_on[index] = address_number;
                } else if is_service {
                    served_on[index] = address_number;
                }
            }
        }
        let bind_may_prefer = bind_first_in_use * 2 >= bind_first;
        for of_destination in of_address.chunk_by(|a, b| a.destination() == b.destination()) {
            for (port, range) in ports(of_destination) {
                let connect_alone = ground.pool.prefers(port) && !bind_may_prefer;
                let some_may_have_bound = || of_destination[range].iter().any(|one| !one.is_chosen());
                let shared = shared_on[usize::from(port)] == address_number;
                if !connect_alone && !shared && some_may_have_bound() {
                    suspects.insert(port);
                }
            }
        }
    }
    suspects.intersection(ground.usable).minus(ground.shared)
}

/// The ports of sorted uses, each with where its uses are; a port comes once per destination.
fn ports(uses: &[PortUse]) -> impl Iterator<Item = (u16, Range<usize>)> + '_ {
    let mut start = 0;
    uses.chunk_by(|a, b| a.destination() == b.destination() && a.port() == b.port()).map(move |same| {
        let range = start..start + same.len();
        start = range.end;
        (same[0].port(), range)
    })
}

/// Whether a half counts as full, given that sockets that were there when a port was chosen have gone since: 7/8.
/// A half without usable ports is full.
pub(crate) fn nearly_full(in_use: u32, usable: u32) -> bool {
    u64::from(in_use) * 8 >= u64::from(usable) * 7
}
