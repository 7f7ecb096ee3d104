//! One socket as one dump told it: the small `Copy` value everything after decoding works on.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;

use crate::state::{SocketState, StateSet};

/// Transport protocol of a socket, by its IANA number (MPTCP by the kernel's 262).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "protocols are their own explanation")]
pub enum Protocol {
    Tcp,
    Udp,
    UdpLite,
    Mptcp,
    Unknown(u16),
}

impl Protocol {
    /// The protocol with this number; never fails.
    pub const fn from_raw(raw: u16) -> Protocol {
        match raw {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            136 => Protocol::UdpLite,
            262 => Protocol::Mptcp,
            other => Protocol::Unknown(other),
        }
    }

    /// `IPPROTO_*`.
    pub const fn raw(self) -> u16 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::UdpLite => 136,
            Protocol::Mptcp => 262,
            Protocol::Unknown(other) => other,
        }
    }

    /// `tcp`, `udp`, `udplite`, `mptcp`, or `unknown`.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::UdpLite => "udplite",
            Protocol::Mptcp => "mptcp",
            Protocol::Unknown(_) => "unknown",
        }
    }

    /// Whether its sockets have no handshake: `ESTAB` means connected, `UNCONN` means not.
    pub const fn is_datagram(self) -> bool {
        matches!(self, Protocol::Udp | Protocol::UdpLite)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Address family of a socket. An IPv6 socket may carry v4-mapped addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "families are their own explanation")]
pub enum Family {
    Inet,
    Inet6,
    /// Another `AF_*`; its addresses are read as 16 bytes.
    Unknown(u8),
}

impl Family {
    /// The family with this `AF_*` number; never fails.
    #[inline]
    pub const fn from_raw(raw: u8) -> Family {
        match raw as i32 {
            libc::AF_INET => Family::Inet,
            libc::AF_INET6 => Family::Inet6,
            _ => Family::Unknown(raw),
        }
    }

    /// `AF_*`.
    pub const fn raw(self) -> u8 {
        match self {
            Family::Inet => libc::AF_INET as u8,
            Family::Inet6 => libc::AF_INET6 as u8,
            Family::Unknown(other) => other,
        }
    }

    /// `inet`, `inet6` or `unknown`.
    pub const fn name(self) -> &'static str {
        match self {
            Family::Inet => "inet",
            Family::Inet6 => "inet6",
            Family::Unknown(_) => "unknown",
        }
    }
}

/// The kernel's name for one socket: unique while the machine is up, kept from ESTABLISHED into TIME_WAIT.
///
/// Source: `inet_diag_sockid.idiag_cookie`. A request socket's cookie passes to the accepted child.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[doc(alias = "idiag_cookie")]
pub struct Cookie(pub u64);

impl Cookie {
    /// In a request: any cookie will do (`INET_DIAG_NOCOOKIE`).
    pub const ANY: Cookie = Cookie(u64::MAX);
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What names a socket in the kernel: addresses, ports, interface, cookie.
///
/// Source: `struct inet_diag_sockid`, `include/uapi/linux/inet_diag.h`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[doc(alias = "inet_diag_sockid")]
pub struct SocketId {
    /// Local address; unspecified for a wildcard bind, and after a reset in a destroy event.
    #[doc(alias = "idiag_src")]
    pub local_address: IpAddr,
    /// Local port; 0 when unbound.
    #[doc(alias = "idiag_sport")]
    pub local_port: u16,
    /// Remote address; unspecified when not connected.
    #[doc(alias = "idiag_dst")]
    pub remote_address: IpAddr,
    /// Remote port; 0 when not connected.
    #[doc(alias = "idiag_dport")]
    pub remote_port: u16,
    /// Index of the interface the socket is bound to (SO_BINDTODEVICE); None when it is not.
    #[doc(alias = "idiag_if")]
    pub interface: Option<NonZeroU32>,
    /// The socket's cookie.
    pub cookie: Cookie,
}

impl SocketId {
    /// This identity with any cookie: whichever socket has the 4-tuple now.
    pub fn with_any_cookie(self) -> SocketId {
        SocketId { cookie: Cookie::ANY, ..self }
    }
}

/// What a socket's timer waits for. Source: `inet_diag_msg.idiag_timer`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TimerKind {
    /// No timer runs.
    Off,
    /// Retransmission (also of a SYN), early retransmit, loss probe.
    Retransmit,
    /// Keepalive, or the kernel's own wait for an orphan in FIN_WAIT2.
    Keepalive,
    /// The 60 s of TIME_WAIT, or an orphan's FIN_WAIT2 that was made a mini socket.
    TimeWait,
    /// Zero window probe.
    Probe,
    /// A number this version has no name for.
    Unknown(u8),
}

impl TimerKind {
    /// The timer with this number; never fails.
    #[inline]
    pub const fn from_raw(raw: u8) -> TimerKind {
        match raw {
            0 => TimerKind::Off,
            1 => TimerKind::Retransmit,
            2 => TimerKind::Keepalive,
            3 => TimerKind::TimeWait,
            4 => TimerKind::Probe,
            other => TimerKind::Unknown(other),
        }
    }

    /// The kernel's number.
    pub const fn raw(self) -> u8 {
        match self {
            TimerKind::Off => 0,
            TimerKind::Retransmit => 1,
            TimerKind::Keepalive => 2,
            TimerKind::TimeWait => 3,
            TimerKind::Probe => 4,
            TimerKind::Unknown(other) => other,
        }
    }

    /// The word of JSON: `off`, `retransmit`, `keepalive`, `time_wait`, `probe`, `unknown`.
    pub const fn name(self) -> &'static str {
        match self {
            TimerKind::Off => "off",
            TimerKind::Retransmit => "retransmit",
            TimerKind::Keepalive => "keepalive",
            TimerKind::TimeWait => "time_wait",
            TimerKind::Probe => "probe",
            TimerKind::Unknown(_) => "unknown",
        }
    }
}

/// A socket's running timer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Timer {
    /// What it waits for.
    pub kind: TimerKind,
    /// Milliseconds until it fires; 0 when it is off or due. 60,000 minus this is the age of a TIME_WAIT.
    #[doc(alias = "idiag_expires")]
    pub expires_ms: u32,
    /// Retransmissions or probes so far, 0–255.
    #[doc(alias = "idiag_retrans")]
    pub retransmits: u8,
}

/// Options a record tells about its socket. Source: attribute INET_DIAG_SOCKOPT. Since: Linux 5.10.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[doc(alias = "inet_diag_sockopt")]
pub struct SocketOptions(pub u16);

impl SocketOptions {
    /// IP_BIND_ADDRESS_NO_PORT was set: a bind() with port 0 took no port.
    #[inline]
    pub const fn bind_address_no_port(self) -> bool {
        self.0 & (1 << 8) != 0
    }
}

/// One socket as one dump told it, at one time. The only copy made between the kernel's bytes and core.
///
/// Source: `struct inet_diag_msg` and the attributes that come unasked. Consistency: per record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[doc(alias = "inet_diag_msg")]
pub struct SocketRecord {
    /// From the request, or from attribute INET_DIAG_PROTOCOL in an event.
    pub protocol: Protocol,
    /// Of the socket: an IPv6 socket with v4-mapped addresses says `Inet6`.
    pub family: Family,
    /// `Close` for a bound-inactive TCP socket; ask [`SocketRecord::is_in`] rather than comparing masks.
    pub state: SocketState,
    /// Who it is.
    pub id: SocketId,
    /// Its timer.
    pub timer: Timer,
    /// Bytes received and not yet read; for a listener, connections waiting for accept().
    #[doc(alias = "idiag_rqueue")]
    pub rqueue_bytes: u32,
    /// Bytes sent and not yet acknowledged; for a listener, its backlog limit.
    #[doc(alias = "idiag_wqueue")]
    pub wqueue_bytes: u32,
    /// Owner; None where the kernel keeps none (TIME_WAIT and request sockets).
    #[doc(alias = "idiag_uid")]
    pub uid: Option<u32>,
    /// Inode of the socket file; None when no process holds it (TIME_WAIT, orphans, not yet accepted).
    #[doc(alias = "idiag_inode")]
    pub inode: Option<NonZeroU32>,
    /// SO_MARK. None without CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// cgroup v2 id (the inode of its directory). None for mini sockets and before Linux 5.9.
    pub cgroup_id: Option<u64>,
    /// Socket options. None before Linux 5.10 and for mini sockets.
    pub options: Option<SocketOptions>,
    /// Directions shut down: bit 0 receive, bit 1 send. None when not told.
    pub shutdown: Option<u8>,
}

impl SocketRecord {
    /// A record that says nothing but this: everything else is zero or unknown, the cookie too.
    pub fn bare(
        protocol: Protocol,
        state: SocketState,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> SocketRecord {
        SocketRecord {
            protocol,
            family: if local.is_ipv4() { Family::Inet } else { Family::Inet6 },
            state,
            id: SocketId {
                local_address: local.ip(),
                local_port: local.port(),
                remote_address: remote.ip(),
                remote_port: remote.port(),
                interface: None,
                cookie: Cookie(0),
            },
            timer: Timer { kind: TimerKind::Off, expires_ms: 0, retransmits: 0 },
            rqueue_bytes: 0,
            wqueue_bytes: 0,
            uid: None,
            inode: None,
            mark: None,
            cgroup_id: None,
            options: None,
            shutdown: None,
        }
    }

    /// Whether this is a TIME_WAIT bucket: a mini socket without file, owner or buffers, told by its timer.
    /// Its state may be FIN_WAIT2 (an orphan) as well as TIME_WAIT.
    #[inline]
    pub fn is_mini(&self) -> bool {
        self.timer.kind == TimerKind::TimeWait
    }

    /// Whether this is a bound TCP socket that neither listens nor is connected.
    #[inline]
    pub fn is_bound_inactive(&self) -> bool {
        self.state == SocketState::Close && !self.protocol.is_datagram() && self.id.local_port != 0
    }

    /// Whether the kernel would have returned this record for a request with `states`.
    #[inline]
    pub fn is_in(&self, states: StateSet) -> bool {
        match self.state {
            SocketState::Close if self.is_bound_inactive() => states.contains(SocketState::BoundInactive),
            // A request socket answers to both of its numbers.
            SocketState::SynRecv => {
                states.contains(SocketState::SynRecv) || states.contains(SocketState::NewSynRecv)
            }
            state => states.contains(state),
        }
    }
}
