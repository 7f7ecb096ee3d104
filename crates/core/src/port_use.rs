//! One outgoing socket as the fold needs it: eight bytes.

use sock_diag::{SocketRecord, SocketState};

use crate::curve::age_seconds;
use crate::settings::Settings;

/// How firmly a socket keeps its port from the next connect() to its own destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Claim {
    /// A TIME_WAIT that connect() takes over.
    Waived,
    /// A TIME_WAIT that connect() may take over; the record does not tell.
    Unclear,
    /// Nobody else gets the port.
    Firm,
}

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
            bits |= (settings.claim_of_time_wait(record) as u64) << CLAIM_SHIFT;
        } else {
            bits |= (Claim::Firm as u64) << CLAIM_SHIFT;
        }
        if record.options.is_some_and(|options| options.bind_address_no_port()) {
            bits |= NO_PORT_BIND;
        }
        PortUse(bits)
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
            1 => Claim::Unclear,
            _ => Claim::Firm,
        }
    }

    /// Whole seconds since the close, 0–60; None unless the socket is in TIME_WAIT.
    pub(crate) fn closed_seconds_ago(self) -> Option<u8> {
        (self.0 & TIME_WAIT != 0).then_some(self.0 as u8)
    }

    /// Whether the socket asked not to be given a port by bind().
    pub(crate) fn bound_without_port(self) -> bool {
        self.0 & NO_PORT_BIND != 0
    }
}
