//! What a sweep needs to know about its namespace beside the sockets: sysctls and protocol counters, as values.
//!
//! Reading them is host's work. None always means "not known", never zero.

use crate::pool::{Pool, PortRange};
use crate::port_set::PortSet;

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
    /// The range of ephemeral ports.
    pub fn range(&self) -> PortRange {
        self.port_range.unwrap_or(PortRange::DEFAULT)
    }

    /// The pool these settings leave to automatic choice.
    pub fn pool(&self) -> Pool {
        Pool::new(self.range(), self.reserved_ports.as_ref().unwrap_or(&PortSet::new()))
    }
}

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
