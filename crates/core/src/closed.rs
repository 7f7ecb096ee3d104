//! One connection that has ended, as a stream of closes tells it.

use std::net::SocketAddr;

use sock_diag::{Cookie, Protocol, TcpInfo};

use crate::destination::DestinationId;
use crate::lifetimes::Group;
use crate::moment::{Lifetime, When};
use crate::owner_id::OwnerId;

/// Who began a connection, seen from this host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// From here: its local port is one of the range and had no listener.
    Outgoing,
    /// From there: its local port had a listener.
    Incoming,
    /// Not known: a port outside the range that had no listener (any more), or no port told at all.
    Unknown,
}

impl Direction {
    /// The word of JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Outgoing => "outgoing",
            Direction::Incoming => "incoming",
            Direction::Unknown => "unknown",
        }
    }
}

/// Who ended a connection first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ClosedBy {
    /// This side: it was in FIN_WAIT or left a TIME_WAIT.
    Local,
    /// The other side: it was in CLOSE_WAIT or LAST_ACK.
    Remote,
    /// A reset, by either side, or an attempt that was refused.
    Reset,
    /// Nobody saw.
    Unknown,
}

impl ClosedBy {
    /// The word of JSON.
    pub const fn name(self) -> &'static str {
        match self {
            ClosedBy::Local => "local",
            ClosedBy::Remote => "remote",
            ClosedBy::Reset => "reset",
            ClosedBy::Unknown => "unknown",
        }
    }
}

/// By what a close became known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Evidence {
    /// A destroy event.
    Event,
    /// A TIME_WAIT (or orphaned FIN_WAIT2) socket took its place.
    TimeWait,
    /// The kernel denied it when asked.
    Lookup,
    /// Two sweeps did not find it.
    Sweeps,
}

impl Evidence {
    /// The word of JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Evidence::Event => "event",
            Evidence::TimeWait => "time_wait",
            Evidence::Lookup => "lookup",
            Evidence::Sweeps => "sweeps",
        }
    }
}

/// A connection (or UDP socket) that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closed {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its cookie.
    pub cookie: Cookie,
    /// Its own end; None when it was met only in an event that no longer told it.
    pub local: Option<SocketAddr>,
    /// The other end; None as above, and for UDP sockets without one.
    pub remote: Option<SocketAddr>,
    /// Whose it was; unknown where nobody has said.
    pub owner: OwnerId,
    /// Who began it.
    pub direction: Direction,
    /// Who ended it.
    pub closed_by: ClosedBy,
    /// When it ended.
    pub at: When,
    /// How long it lived.
    pub lifetime: Lifetime,
    /// How the end became known.
    pub evidence: Evidence,
    /// What its destroy event told; None without one.
    pub end: Option<TcpEnd>,
}

impl Closed {
    /// Whether both ends are on this host, as far as addresses tell: the remote one is a loopback address, or the same as
    /// the local one. Such a connection is two sockets, one outgoing and one incoming, and counts as two. None when the
    /// remote end is not known.
    pub fn is_local(&self) -> Option<bool> {
        let remote = self.remote?.ip();
        Some(remote.is_loopback() || self.local.is_some_and(|local| local.ip() == remote))
    }

    /// What it is grouped by.
    pub fn group(&self) -> Group {
        match (self.direction, self.local, self.remote) {
            (Direction::Outgoing, Some(local), Some(remote)) if remote.port() != 0 => {
                Group::Destination(DestinationId {
                    protocol: self.protocol,
                    local_address: local.ip(),
                    remote_address: remote.ip(),
                    remote_port: remote.port(),
                })
            }
            (Direction::Incoming, Some(local), _) => Group::Listener(local.port()),
            _ => Group::Other,
        }
    }
}

impl Closed {
    /// Whether this side's FIN was acknowledged, so that the end was no reset; None where that is not told.
    pub fn is_orderly(&self) -> Option<bool> {
        self.end?.is_orderly(self.direction)
    }

    /// Payload bytes received; where this side closed first, perhaps one more: whether the other side's FIN was there
    /// when the socket was freed is not told.
    pub fn received_bytes(&self) -> Option<u64> {
        let received = self.end?.received_bytes?;
        let with_fin = self.closed_by == ClosedBy::Remote && self.is_orderly() == Some(true);
        Some(received.saturating_sub(u64::from(with_fin)))
    }
}

/// What the last `tcp_info` of a connection tells of its life.
///
/// A reset by this side (close() with SO_LINGER 0, disconnecting) and a refused connect() clear most of it before the
/// event is sent: counts of bytes and segments are 0 then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpEnd {
    /// Payload bytes the peer acknowledged. Before Linux 4.19, SYN and FIN count one each.
    pub sent_bytes: Option<u64>,
    /// How many of SYN and FIN the peer acknowledged: whoever connects sends both, whoever accepts a FIN alone (its SYN is
    /// not counted). None before Linux 4.19, and where payload is left that was not acknowledged.
    pub controls_acked: Option<u8>,
    /// Bytes received in order; the peer's FIN counts one.
    pub received_bytes: Option<u64>,
    /// Segments retransmitted.
    pub retransmits: Option<u32>,
    /// Segments sent, SYN among them.
    pub segments_out: Option<u32>,
    /// Segments with payload sent; an answer to each is at least one received. Since Linux 4.6.
    pub data_segments_out: Option<u32>,
    /// Segments with payload received. Since Linux 4.6.
    pub data_segments_in: Option<u32>,
    /// Whether the end was a reset by this side, an attempt that was refused, or one given up: it left no round trip time.
    pub is_reset: bool,
    /// Whether there was a round trip, so that the handshake was completed.
    pub established: Option<bool>,
    /// At least so old, milliseconds: the time since data was last sent or received, or since the handshake if it
    /// never was. None for one that was never established.
    pub min_age_ms: Option<u64>,
    /// Whether `min_age_ms` is the age: data went in one direction at most.
    pub age_is_exact: bool,
    /// Milliseconds since the peer last acknowledged anything; when TIME_WAIT takes a socket's place, that is since
    /// then. None for one that was never established.
    pub heard_ms: Option<u64>,
}

impl TcpEnd {
    /// Whether this side's FIN was acknowledged; None where that is not told.
    pub fn is_orderly(&self, direction: Direction) -> Option<bool> {
        match (self.controls_acked?, direction) {
            (2, _) | (1, Direction::Incoming) => Some(true),
            (0, _) | (1, Direction::Outgoing) => Some(false),
            _ => None,
        }
    }

    /// Reads what matters.
    pub fn of(info: &TcpInfo<'_>) -> TcpEnd {
        let sent = info.last_data_sent_ms().map(u64::from);
        let received = info.last_data_received_ms().map(u64::from);
        let has_rtt = info.rtt_us().map(|rtt| rtt > 0);
        // A reset clears the mean of the round trips, but not the least of them.
        let established = info.min_rtt_us().map(|_| true).or(has_rtt);
        let is_reset = has_rtt == Some(false);
        let quiet = |segments: Option<u32>| segments == Some(0);
        let if_established = |age: Option<u64>| age.filter(|_| established == Some(true));
        let payload =
            info.sent_bytes().zip(info.retransmitted_bytes()).map(|(all, again)| all.saturating_sub(again));
        let controls = info.acked_bytes().zip(payload).and_then(|(acked, sent)| acked.checked_sub(sent));
        TcpEnd {
            sent_bytes: match (info.acked_bytes(), payload) {
                (Some(acked), Some(sent)) => Some(acked.min(sent)),
                (acked, _) => acked,
            },
            controls_acked: controls.and_then(|count| u8::try_from(count).ok()).filter(|count| *count <= 2),
            received_bytes: info.received_bytes(),
            retransmits: info.total_retransmits(),
            segments_out: info.segments_out(),
            data_segments_out: info.data_segments_out(),
            data_segments_in: info.data_segments_in(),
            is_reset,
            established,
            // A reset clears the time of the last receipt, which then seems to be the machine's start.
            min_age_ms: if_established(if is_reset { sent } else { sent.max(received) }),
            age_is_exact: !is_reset && (quiet(info.data_segments_out()) || quiet(info.data_segments_in())),
            heard_ms: if_established(info.last_ack_received_ms().map(u64::from)),
        }
    }
}
