//! One outgoing socket as the fold needs it: eight bytes.

use sock_diag::{SocketRecord, SocketState};

use crate::curve::{age_ms, age_seconds};
use crate::reuse::{OLD_DELAY_MS, Reuse};
use crate::settings::Settings;

/// How firmly a socket keeps its port from the next connect() to its own destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Claim {
    /// A TIME_WAIT that connect() takes over.
    Waived,
    /// A TIME_WAIT that connect() takes over if the peer uses timestamps: if it is this very host.
    IfPeerIsUs,
    /// A TIME_WAIT that connect() may take over; the record does not tell.
    Unclear,
    /// Nobody else gets the port.
    Firm,
}

impl Claim {
    /// How firmly a TIME_WAIT socket keeps its port from the next connect() to its destination.
    fn of_time_wait(record: &SocketRecord, settings: &Settings) -> Claim {
        let id = &record.id;
        let (local, remote) = (id.local_address.to_canonical(), id.remote_address.to_canonical());
        let on_loopback = id.interface.is_some_and(|index| index.get() == LOOPBACK_INDEX);
        let reuse = Reuse::between(local, remote, on_loopback, settings);
        if reuse == Reuse::Never {
            return Claim::Firm;
        }
        match (old_enough(settings.tw_reuse_delay_ms, age_ms(record.timer.expires_ms)), reuse) {
            (Some(false), _) => Claim::Firm,
            (Some(true), Reuse::Certain) => Claim::Waived,
            (Some(true), Reuse::IfPeerIsUs) => Claim::IfPeerIsUs,
            _ => Claim::Unclear,
        }
    }
}

/// Whether the reuse delay has passed; None too close to tell.
fn old_enough(delay_ms: Option<u32>, age_ms: u32) -> Option<bool> {
    match delay_ms {
        Some(delay) if age_ms > delay.saturating_add(TIMER_SLACK_MS) => Some(true),
        Some(delay) if age_ms.saturating_add(TIMER_SLACK_MS) < delay => Some(false),
        // Before 6.14 whole seconds since the last timestamp were compared: anything below one may do.
        None if age_ms > OLD_DELAY_MS + TIMER_SLACK_MS => Some(true),
        _ => None,
    }
}

/// The namespace's loopback device is always its first interface.
const LOOPBACK_INDEX: u32 = 1;
/// `idiag_expires` comes from jiffies: 10 ms at the coarsest, on both ends of the difference.
const TIMER_SLACK_MS: u32 = 20;

const NO_PORT_BIND: u64 = 1 << 8;
const TIME_WAIT: u64 = 1 << 9;
const CLAIM_SHIFT: u32 = 10;

/// An outgoing socket: destination index (32 bits), local port (16), claim (2), TIME_WAIT (1), bind-no-port (1),
/// age in seconds (8). The order of the bits makes sorting group by destination, then by port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PortUse(u64);

impl PortUse {
    #[inline]
    pub(crate) fn new(destination: u32, record: &SocketRecord, settings: &Settings) -> PortUse {
        let mut bits = u64::from(destination) << 32 | u64::from(record.id.local_port) << 16;
        if record.state == SocketState::TimeWait {
            bits |= TIME_WAIT | u64::from(age_seconds(record.timer.expires_ms));
            bits |= (Claim::of_time_wait(record, settings) as u64) << CLAIM_SHIFT;
        } else {
            bits |= (Claim::Firm as u64) << CLAIM_SHIFT;
        }
        if record.options.is_some_and(|options| options.bind_address_no_port()) {
            bits |= NO_PORT_BIND;
        }
        PortUse(bits)
    }

    /// Sorts by destination, of which there are so many, then by port.
    ///
    /// Cost: two passes of counting and placing, a third of what comparing takes, and a copy in memory.
    pub(crate) fn sort(uses: &mut [PortUse], destinations: usize) {
        if uses.len() < WORTH_COUNTING {
            return uses.sort_unstable();
        }
        let mut other = vec![PortUse(0); uses.len()];
        place(uses, &mut other, 1 << 16, |one| usize::from(one.port()));
        place(&other, uses, destinations, PortUse::destination);
        // Few ports have several sockets of one destination, and these come in any order.
        for same in uses.chunk_by_mut(|a, b| a.0 >> 16 == b.0 >> 16).filter(|same| same.len() > 1) {
            same.sort_unstable();
        }
    }

    pub(crate) fn destination(self) -> usize {
        (self.0 >> 32) as usize
    }

    pub(crate) fn with_destination(self, destination: u32) -> PortUse {
        PortUse(u64::from(destination) << 32 | self.0 & 0xffff_ffff)
    }

    pub(crate) fn port(self) -> u16 {
        (self.0 >> 16) as u16
    }

    pub(crate) fn claim(self) -> Claim {
        match self.0 >> CLAIM_SHIFT & 3 {
            0 => Claim::Waived,
            1 => Claim::IfPeerIsUs,
            2 => Claim::Unclear,
            _ => Claim::Firm,
        }
    }

    /// Whole seconds since the close, 0–60; None unless the socket is in TIME_WAIT.
    pub(crate) fn closed_seconds_ago(self) -> Option<u8> {
        (self.0 & TIME_WAIT != 0).then_some(self.0 as u8)
    }

    /// Whether connect() chose the port: bind() was asked not to. (A socket that bound a number all the same is told by the
    /// kernel.)
    pub(crate) fn is_chosen(self) -> bool {
        self.0 & NO_PORT_BIND != 0
    }
}

/// With fewer sockets the counters cost more than they spare.
const WORTH_COUNTING: usize = 1 << 13;

/// Writes `uses` to `sorted` in the order of a key below `keys`; equals stay in their order.
fn place(uses: &[PortUse], sorted: &mut [PortUse], keys: usize, key: impl Fn(PortUse) -> usize) {
    let mut starts = vec![0u32; keys + 1];
    for one in uses {
        starts[key(*one) + 1] += 1;
    }
    let mut sum = 0;
    for start in &mut starts {
        sum += *start;
        *start = sum;
    }
    for one in uses {
        let start = &mut starts[key(*one)];
        sorted[*start as usize] = *one;
        *start += 1;
    }
}
