//! One namespace among others: the numbers by which they are compared, and their sum.

use std::cmp::{Ordering, Reverse};

use sock_diag::{Protocol, SocketState};
use sockeye_core::{Destination, Report};
use sockeye_host::FoundNamespace;

use crate::args::SortBy;

/// What is told of a namespace in one line.
pub(crate) struct NamespaceRow {
    pub(crate) found: FoundNamespace,
    pub(crate) counts: Counts,
    /// The first destination in the order that was asked for; None without outgoing connections.
    pub(crate) worst: Option<Destination>,
}

/// Numbers that add up.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(crate) struct Counts {
    /// Of every kind.
    pub(crate) sockets: u64,
    /// TCP connections that are not in TIME_WAIT.
    pub(crate) live: u64,
    pub(crate) time_wait: u64,
    /// Closes per second that this side began: the mean of the last 60 s.
    pub(crate) closes_per_second: f64,
}

impl NamespaceRow {
    /// Of a report whose destinations are in order.
    pub(crate) fn of(found: &FoundNamespace, report: &Report) -> NamespaceRow {
        let traffics = [report.outgoing, report.incoming, report.other];
        let counts = Counts {
            sockets: u64::from(report.sockets.total()),
            live: traffics.iter().map(|traffic| u64::from(traffic.live)).sum(),
            time_wait: u64::from(report.sockets.in_state(Protocol::Tcp, SocketState::TimeWait)),
            closes_per_second: report.closes.per_second(),
        };
        NamespaceRow { found: found.clone(), counts, worst: report.destinations.first().copied() }
    }

    /// Worst first; equals by their inode, so that the order is always the same.
    pub(crate) fn compare(&self, other: &NamespaceRow, by: SortBy) -> Ordering {
        let (a, b) = (self, other);
        let worse = match by {
            // Pools differ between namespaces: what is compared is how full they are.
            SortBy::Occupancy => a.full().total_cmp(&b.full()),
            SortBy::InUse => a.of_worst(|worst| worst.in_use).cmp(&b.of_worst(|worst| worst.in_use)),
            SortBy::Live => a.counts.live.cmp(&b.counts.live),
            SortBy::TimeWait => a.counts.time_wait.cmp(&b.counts.time_wait),
            SortBy::Closes => a.counts.closes_per_second.total_cmp(&b.counts.closes_per_second),
            SortBy::Headroom => {
                let least = |row: &NamespaceRow| row.of_worst(|worst| Reverse(worst.headroom.min));
                least(a).cmp(&least(b))
            }
        };
        let more = a.counts.sockets.cmp(&b.counts.sockets);
        worse.then(more).reverse().then_with(|| a.found.inode.cmp(&b.found.inode))
    }

    fn of_worst<T>(&self, number: impl Fn(&Destination) -> T) -> Option<T> {
        self.worst.as_ref().map(number)
    }

    fn full(&self) -> f64 {
        self.worst.map_or(-1.0, |worst| worst.occupancy())
    }
}

impl Counts {
    /// Of all of them together.
    pub(crate) fn sum(all: impl IntoIterator<Item = Counts>) -> Counts {
        all.into_iter().fold(Counts::default(), |sum, one| Counts {
            sockets: sum.sockets + one.sockets,
            live: sum.live + one.live,
            time_wait: sum.time_wait + one.time_wait,
            closes_per_second: sum.closes_per_second + one.closes_per_second,
        })
    }
}
