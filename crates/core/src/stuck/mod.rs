//! Sockets that stand where none should stand for long: in which states, how long is long, and how much of that one look
//! can tell.
//!
//! Which of a sweep's sockets are looked at is `sample`'s, what is found `found`'s. Since when a followed socket has
//! stood is the Monitor's.

mod age;
mod found;
mod sample;

use sock_diag::{Protocol, SocketRecord, SocketState, TimerKind};

pub use age::Age;
pub use found::{Found, Holder, Holders, Stuck, Towards};
pub(crate) use sample::Draw;
pub use sample::{MOST_SAMPLED, StuckSample, StuckSamples};

/// What a socket may be stuck in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StuckKind {
    /// The peer has closed, a program here has not.
    CloseWait,
    /// connect() is not answered.
    SynSent,
    /// Closed here, by a program that is done with it; what was left to send is not acknowledged. Its state is FIN_WAIT1,
    /// CLOSING or LAST_ACK.
    Orphan,
    /// Closed here, and the peer knows: it does not close. The kernel ends that by itself, after `tcp_fin_timeout`.
    OrphanFinWait2,
    /// Bound to a port, and neither listening nor connected.
    BoundIdle,
}

/// From the first connections on: `tcp_fin_timeout` where nobody has set it, and how long a TIME_WAIT lasts.
const MINUTE_MS: u64 = 60_000;

impl StuckKind {
    /// All of them, those that hurt most first.
    pub const ALL: [StuckKind; 5] = [
        StuckKind::CloseWait,
        StuckKind::Orphan,
        StuckKind::SynSent,
        StuckKind::BoundIdle,
        StuckKind::OrphanFinWait2,
    ];

    /// What this socket would be stuck in, if it stays as it is. None for all that may stay so for ever, and for what the
    /// kernel soon ends: an unaccepted connection of a listener has no process either, but waits for one.
    #[inline]
    pub fn of(record: &SocketRecord) -> Option<StuckKind> {
        let kind = match record.state {
            SocketState::CloseWait => StuckKind::CloseWait,
            SocketState::SynSent => StuckKind::SynSent,
            SocketState::FinWait1 | SocketState::Closing | SocketState::LastAck if record.inode.is_none() => {
                StuckKind::Orphan
            }
            SocketState::FinWait2 if record.inode.is_none() => StuckKind::OrphanFinWait2,
            SocketState::Close if record.is_bound_inactive() => StuckKind::BoundIdle,
            _ => return None,
        };
        (record.protocol == Protocol::Tcp).then_some(kind)
    }

    /// Its name in JSON and metrics.
    pub const fn id(self) -> &'static str {
        match self {
            StuckKind::CloseWait => "close_wait",
            StuckKind::SynSent => "syn_sent",
            StuckKind::Orphan => "orphaned",
            StuckKind::OrphanFinWait2 => "orphaned_fin_wait2",
            StuckKind::BoundIdle => "bound_idle",
        }
    }

    /// The state as JSON names it; of several, the one that most are in.
    pub fn state_name(self) -> &'static str {
        let state = match self {
            StuckKind::CloseWait => SocketState::CloseWait,
            StuckKind::SynSent => SocketState::SynSent,
            StuckKind::Orphan => SocketState::FinWait1,
            StuckKind::OrphanFinWait2 => SocketState::FinWait2,
            StuckKind::BoundIdle => SocketState::BoundInactive,
        };
        state.snake_name()
    }

    /// Longer than this is long, milliseconds.
    pub const fn long_ms(self) -> u64 {
        match self {
            // A peer that has closed keeps its FIN_WAIT2 for so long. From then on nothing that the program could still
            // send or read arrives: no well-behaved program has a use for the socket.
            StuckKind::CloseWait => MINUTE_MS,
            // A handshake takes a round trip. After 3 s three SYNs in a row, a second apart, had no answer.
            StuckKind::SynSent => 3_000,
            // Some ten timeouts of a usual connection. Nobody can be asked to hurry: its memory is the kernel's, which
            // gives up after one to several minutes (tcp_orphan_retries).
            StuckKind::Orphan => 10_000,
            // Half of the time that it can last: clients that take a moment to close are many.
            StuckKind::OrphanFinWait2 => MINUTE_MS / 2,
            // Between bind() and connect() or listen() lie microseconds in most programs, and seconds in the slowest.
            StuckKind::BoundIdle => MINUTE_MS,
        }
    }

    /// So many for long are worth a word.
    pub const fn least(self) -> u32 {
        match self {
            // Each is a connection that somebody has forgotten, waits for, or cannot get rid of.
            StuckKind::CloseWait | StuckKind::SynSent | StuckKind::Orphan => 1,
            // Each keeps a port from every connect(): some are a server's own business.
            StuckKind::BoundIdle => 16,
            // They end by themselves, and cost a port each meanwhile.
            StuckKind::OrphanFinWait2 => 64,
        }
    }

    /// Whether a lookup with `tcp_info` tells more of its age than the record does.
    pub const fn is_told_by_info(self) -> bool {
        matches!(self, StuckKind::CloseWait | StuckKind::SynSent | StuckKind::Orphan)
    }

    const fn index(self) -> usize {
        match self {
            StuckKind::CloseWait => 0,
            StuckKind::Orphan => 1,
            StuckKind::SynSent => 2,
            StuckKind::BoundIdle => 3,
            StuckKind::OrphanFinWait2 => 4,
        }
    }
}

/// Whether this orphan in FIN_WAIT2 is a mini socket already: then its timer is its end.
fn is_mini(record: &SocketRecord) -> bool {
    record.timer.kind == TimerKind::TimeWait
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_table() {
        assert!(StuckKind::ALL.iter().enumerate().all(|(index, kind)| kind.index() == index));
    }
}
