//! What a sweep needs to know about its namespace beside the sockets: sysctls and protocol counters, as values.
//!
//! Reading them is host's work. None always means "not known", never zero.

use sock_diag::SocketRecord;

use crate::curve::age_ms;
use crate::pool::{Pool, PortRange};
use crate::port_set::PortSet;
use crate::port_use::Claim;

/// `net.ipv4.tcp_tw_reuse`: whether connect() may take over a TIME_WAIT socket.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TwReuse {
    /// 0: never.
    Off,
    /// 1: when the peer uses TCP timestamps.
    On,
    /// 2, the kernel's default: the same, but only on loopback.
    LoopbackOnly,
    /// The sysctl could not be read, or has a value this version has no name for.
    #[default]
    Unknown,
}

impl TwReuse {
    /// The mode with this sysctl value; never fails.
    pub const fn from_raw(raw: u32) -> TwReuse {
        match raw {
            0 => TwReuse::Off,
            1 => TwReuse::On,
            2 => TwReuse::LoopbackOnly,
            _ => TwReuse::Unknown,
        }
    }
}

/// Port and TIME_WAIT settings of one network namespace. The default knows nothing and assumes the kernel's
/// defaults where a value is needed; the report then carries a warning.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// `net.ipv4.ip_local_port_range`. None: 32768–60999 is assumed.
    pub port_range: Option<PortRange>,
    /// `net.ipv4.ip_local_reserved_ports`. None: no reserved port is assumed.
    pub reserved_ports: Option<PortSet>,
    /// `net.ipv4.tcp_tw_reuse`.
    pub tw_reuse: TwReuse,
    /// `net.ipv4.tcp_tw_reuse_delay`, milliseconds. Since: Linux 6.14. None: older, where it is up to 1 s.
    pub tw_reuse_delay_ms: Option<u32>,
    /// Whether `net.ipv4.tcp_timestamps` lets connections carry timestamps, without which TIME_WAIT is not reused.
    pub timestamps: Option<bool>,
    /// `net.ipv4.tcp_max_tw_buckets`: TIME_WAIT sockets beyond it are dropped at once.
    pub max_tw_buckets: Option<u32>,
}

impl Settings {
    /// The pool these settings leave to automatic choice.
    pub fn pool(&self) -> Pool {
        let range = self.port_range.unwrap_or(PortRange::DEFAULT);
        Pool::new(range, self.reserved_ports.as_ref().unwrap_or(&PortSet::new()))
    }

    /// How firmly a TIME_WAIT socket keeps its port from the next connect() to its destination: the rules of
    /// `tcp_twsk_unique()`, as far as a record tells what they ask.
    pub(crate) fn claim_of_time_wait(&self, record: &SocketRecord) -> Claim {
        if self.timestamps == Some(false) || self.tw_reuse == TwReuse::Off {
            return Claim::Firm;
        }
        let id = &record.id;
        let (local, remote) = (id.local_address.to_canonical(), id.remote_address.to_canonical());
        let loopback = local.is_loopback()
            || remote.is_loopback()
            || id.interface.is_some_and(|index| index.get() == LOOPBACK_INDEX);
        if self.tw_reuse == TwReuse::LoopbackOnly && !loopback {
            return Claim::Firm;
        }
        match self.old_enough(age_ms(record.timer.expires_ms)) {
            Some(false) => return Claim::Firm,
            None => return Claim::Unclear,
            Some(true) => {}
        }
        // Only a peer that is this very host certainly uses timestamps when we do.
        let peer_is_us = loopback || local == remote;
        if self.tw_reuse != TwReuse::Unknown && self.timestamps == Some(true) && peer_is_us {
            Claim::Waived
        } else {
            Claim::Unclear
        }
    }

    /// Whether the reuse delay has passed; None too close to tell.
    fn old_enough(&self, age_ms: u32) -> Option<bool> {
        match self.tw_reuse_delay_ms {
            Some(delay) if age_ms > delay.saturating_add(TIMER_SLACK_MS) => Some(true),
            Some(delay) if age_ms.saturating_add(TIMER_SLACK_MS) < delay => Some(false),
            // Before 6.14 whole seconds since the last timestamp were compared: anything below one may do.
            None if age_ms > OLD_DELAY_MS + TIMER_SLACK_MS => Some(true),
            _ => None,
        }
    }
}

/// The namespace's loopback device is always its first interface.
const LOOPBACK_INDEX: u32 = 1;
/// `idiag_expires` comes from jiffies: 10 ms at the coarsest, on both ends of the difference.
const TIMER_SLACK_MS: u32 = 20;
const OLD_DELAY_MS: u32 = 1_000;

/// Protocol counters of one namespace that qualify a report. All count since the namespace was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Tcp ActiveOpens: connect() calls that sent a SYN.
    pub active_opens: Option<u64>,
    /// Tcp PassiveOpens: connections that came in.
    pub passive_opens: Option<u64>,
    /// TcpExt TCPTimeWaitOverflow: TIME_WAIT sockets dropped early for `tcp_max_tw_buckets`.
    pub time_wait_overflow: Option<u64>,
}
