//! Views over the kernel's bytes: netlink messages, `inet_diag_msg`, attributes.
//!
//! Nothing here copies, allocates or fails on content: a length is checked once, after that accessors are total.
//! What the numbers mean is told by [`record`](crate::record), [`state`](crate::state) and [`tcp_info`](crate::tcp_info).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use zerocopy::byteorder::{native_endian as ne, network_endian as be};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::record::{Cookie, Family, Protocol, SocketId, SocketOptions, SocketRecord, Timer, TimerKind};
use crate::state::SocketState;
use crate::tcp_info::TcpInfo;

/// `struct nlmsghdr`, include/uapi/linux/netlink.h.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct NlHeader {
    pub(crate) length: ne::U32,
    pub(crate) kind: ne::U16,
    pub(crate) flags: ne::U16,
    pub(crate) sequence: ne::U32,
    pub(crate) port_id: ne::U32,
}

/// `struct inet_diag_sockid`, include/uapi/linux/inet_diag.h.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SockId {
    local_port: be::U16,
    remote_port: be::U16,
    local: [u8; 16],
    remote: [u8; 16],
    interface: ne::U32,
    cookie: [ne::U32; 2],
}

impl SockId {
    /// Names nothing: a dump's identity.
    pub(crate) const ANY: SockId = SockId {
        local_port: be::U16::ZERO,
        remote_port: be::U16::ZERO,
        local: [0; 16],
        remote: [0; 16],
        interface: ne::U32::ZERO,
        cookie: [ne::U32::MAX_VALUE; 2],
    };

    pub(crate) fn of(id: &SocketId) -> SockId {
        SockId {
            local_port: id.local_port.into(),
            remote_port: id.remote_port.into(),
            local: address_bytes(id.local_address),
            remote: address_bytes(id.remote_address),
            interface: id.interface.map_or(0, NonZeroU32::get).into(),
            cookie: [(id.cookie.0 as u32).into(), ((id.cookie.0 >> 32) as u32).into()],
        }
    }
}

/// `struct inet_diag_msg`, include/uapi/linux/inet_diag.h: 72 bytes.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct InetDiagMsg {
    pub(crate) family: u8,
    pub(crate) state: u8,
    pub(crate) timer: u8,
    pub(crate) retransmits: u8,
    pub(crate) id: SockId,
    pub(crate) expires: ne::U32,
    pub(crate) rqueue: ne::U32,
    pub(crate) wqueue: ne::U32,
    pub(crate) uid: ne::U32,
    pub(crate) inode: ne::U32,
}

/// Attribute numbers of a record, the `INET_DIAG_*` enum of include/uapi/linux/inet_diag.h.
pub mod attribute {
    #![allow(missing_docs, reason = "the kernel's names, one to one")]
    pub const MEMINFO: u16 = 1;
    pub const INFO: u16 = 2;
    pub const VEGASINFO: u16 = 3;
    pub const CONG: u16 = 4;
    pub const TOS: u16 = 5;
    pub const TCLASS: u16 = 6;
    pub const SKMEMINFO: u16 = 7;
    pub const SHUTDOWN: u16 = 8;
    pub const DCTCPINFO: u16 = 9;
    pub const PROTOCOL: u16 = 10;
    pub const SKV6ONLY: u16 = 11;
    pub const LOCALS: u16 = 12;
    pub const PEERS: u16 = 13;
    pub const MARK: u16 = 15;
    pub const BBRINFO: u16 = 16;
    pub const CLASS_ID: u16 = 17;
    pub const MD5SIG: u16 = 18;
    pub const ULP_INFO: u16 = 19;
    pub const SK_BPF_STORAGES: u16 = 20;
    pub const CGROUP_ID: u16 = 21;
    pub const SOCKOPT: u16 = 22;

    pub(super) const ULP_NAME: u16 = 1;
}

/// One netlink message inside a datagram.
#[derive(Clone, Copy, Debug)]
pub struct NlMsg<'b> {
    /// NLMSG_* below 16, else the subsystem's.
    pub kind: u16,
    /// NLM_F_*.
    pub flags: u16,
    /// The request's, in every answer to it.
    pub sequence: u32,
    /// The socket the message is for (`nlmsg_pid`).
    #[doc(alias = "nlmsg_pid")]
    pub port_id: u32,
    /// Bytes after the header.
    pub payload: &'b [u8],
}

/// The netlink messages of one datagram, in order. Ends after the first malformed one, which it yields as an error.
#[derive(Clone, Debug)]
pub struct NlMsgs<'b> {
    rest: &'b [u8],
}

impl<'b> NlMsgs<'b> {
    /// Over `datagram`.
    pub fn new(datagram: &'b [u8]) -> NlMsgs<'b> {
        NlMsgs { rest: datagram }
    }
}

impl<'b> Iterator for NlMsgs<'b> {
    type Item = Result<NlMsg<'b>, &'static str>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let Ok((header, rest)) = NlHeader::ref_from_prefix(self.rest) else {
            self.rest = &[];
            return Some(Err("a message header is cut"));
        };
        // A length that does not even cover the header wraps around and so is too long as well.
        let length = (header.length.get() as usize).wrapping_sub(size_of::<NlHeader>());
        let Some((payload, _)) = rest.split_at_checked(length) else {
            self.rest = &[];
            return Some(Err("a message's length does not fit its datagram"));
        };
        let message = NlMsg {
            kind: header.kind.get(),
            flags: header.flags.get(),
            sequence: header.sequence.get(),
            port_id: header.port_id.get(),
            payload,
        };
        self.rest = rest.get(((length + 3) & !3)..).unwrap_or_default();
        Some(Ok(message))
    }
}

/// One attribute: its number without the flag bits, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'b> {
    /// See [`attribute`]; unknown numbers are passed on.
    pub kind: u16,
    /// Bytes after the attribute's header.
    pub payload: &'b [u8],
}

/// The attributes behind a record; a malformed tail ends them.
#[derive(Clone, Debug)]
pub struct Attributes<'b> {
    rest: &'b [u8],
}

impl<'b> Attributes<'b> {
    pub(crate) fn new(bytes: &'b [u8]) -> Attributes<'b> {
        Attributes { rest: bytes }
    }
}

impl<'b> Iterator for Attributes<'b> {
    type Item = Attribute<'b>;

    #[inline]
    fn next(&mut self) -> Option<Attribute<'b>> {
        let (&[l0, l1, k0, k1], rest) = self.rest.split_first_chunk()?;
        let kind = u16::from_ne_bytes([k0, k1]) & netlink_packet_core::NLA_TYPE_MASK;
        // A length that does not even cover the header wraps around and so is too long as well.
        let length = usize::from(u16::from_ne_bytes([l0, l1])).wrapping_sub(4);
        let Some((payload, _)) = rest.split_at_checked(length) else {
            self.rest = &[];
            return None;
        };
        self.rest = rest.get(((length + 3) & !3)..).unwrap_or_default();
        Some(Attribute { kind, payload })
    }
}

/// A view of one socket in the receive buffer: 72 checked bytes and the attributes behind them.
///
/// Lives as long as the callback it is handed to; [`to_record`](Self::to_record) is the copy that outlives it.
#[derive(Clone, Copy)]
#[doc(alias = "inet_diag_msg")]
pub struct DiagMsg<'b> {
    fixed: &'b InetDiagMsg,
    attributes: &'b [u8],
    protocol: Protocol,
}

impl<'b> DiagMsg<'b> {
    /// Over a message's payload, None when it is shorter than `struct inet_diag_msg`. `protocol` is the request's;
    /// an INET_DIAG_PROTOCOL attribute overrules it in [`to_record`](Self::to_record).
    #[inline]
    pub fn parse(payload: &'b [u8], protocol: Protocol) -> Option<DiagMsg<'b>> {
        let (fixed, attributes) = InetDiagMsg::ref_from_prefix(payload).ok()?;
        Some(DiagMsg { fixed, attributes, protocol })
    }

    /// The bytes it was parsed from: the fixed part, then the attributes. One behind the other they can be
    /// [parsed](Self::parse) again.
    pub fn parts(&self) -> [&'b [u8]; 2] {
        [self.fixed.as_bytes(), self.attributes]
    }

    /// The attributes, in the kernel's order, unknown ones included.
    #[inline]
    pub fn attributes(&self) -> Attributes<'b> {
        Attributes::new(self.attributes)
    }

    /// The bytes of the first attribute of this kind.
    pub fn attribute(&self, kind: u16) -> Option<&'b [u8]> {
        self.attributes().find(|a| a.kind == kind).map(|a| a.payload)
    }

    /// Family of the socket, without decoding the rest.
    #[inline]
    pub fn family(&self) -> Family {
        Family::from_raw(self.fixed.family)
    }

    /// The record: one pass over the attributes that come unasked, no allocation.
    #[inline]
    pub fn to_record(&self) -> SocketRecord {
        let fixed = self.fixed;
        let family = self.family();
        let timer = Timer {
            kind: TimerKind::from_raw(fixed.timer),
            expires_ms: fixed.expires.get(),
            retransmits: fixed.retransmits,
        };
        let state = SocketState::from_raw(fixed.state);
        // Mini and request sockets have no file: the kernel fills uid and inode with 0, which is nobody's.
        let inode = NonZeroU32::new(fixed.inode.get());
        let has_owner =
            timer.kind != TimerKind::TimeWait && !(state == SocketState::SynRecv && inode.is_none());
        let mut record = SocketRecord {
            protocol: self.protocol,
            family,
            state,
            id: SocketId {
                local_address: address(family, &fixed.id.local),
                local_port: fixed.id.local_port.get(),
                remote_address: address(family, &fixed.id.remote),
                remote_port: fixed.id.remote_port.get(),
                interface: NonZeroU32::new(fixed.id.interface.get()),
                cookie: Cookie(
                    u64::from(fixed.id.cookie[0].get()) | u64::from(fixed.id.cookie[1].get()) << 32,
                ),
            },
            timer,
            rqueue_bytes: fixed.rqueue.get(),
            wqueue_bytes: fixed.wqueue.get(),
            uid: has_owner.then_some(fixed.uid.get()),
            inode,
            mark: None,
            cgroup_id: None,
            options: None,
            shutdown: None,
        };
        for Attribute { kind, payload } in self.attributes() {
            match kind {
                attribute::SHUTDOWN => record.shutdown = payload.first().copied(),
                attribute::MARK => record.mark = leading(payload).map(u32::from_ne_bytes),
                attribute::CGROUP_ID => record.cgroup_id = leading(payload).map(u64::from_ne_bytes),
                attribute::SOCKOPT => {
                    record.options = leading(payload)
                        .map(|b: [u8; 2]| SocketOptions(u16::from_le_bytes(b.map(bit_fields))));
                }
                attribute::PROTOCOL => {
                    // One byte, so MPTCP's 262 arrives as 6; the request knows better then.
                    if let (Some(raw), false) = (payload.first(), self.protocol == Protocol::Mptcp) {
                        record.protocol = Protocol::from_raw(u16::from(*raw));
                    }
                }
                _ => {}
            }
        }
        record
    }

    /// `struct tcp_info` as far as this kernel has it. Needs [`Extensions::INFO`](crate::Extensions::INFO); always in
    /// destroy events. None for mini sockets and datagram protocols.
    pub fn tcp_info(&self) -> Option<TcpInfo<'b>> {
        (self.protocol != Protocol::Mptcp)
            .then(|| self.attribute(attribute::INFO))
            .flatten()
            .map(TcpInfo::new)
    }

    /// Socket memory, `SK_MEMINFO_*` of include/uapi/linux/sock_diag.h. Needs
    /// [`Extensions::SKMEMINFO`](crate::Extensions::SKMEMINFO).
    pub fn memory(&self) -> Option<SocketMemory> {
        let payload = self.attribute(attribute::SKMEMINFO)?;
        let field = |i: usize| payload.get(i * 4..).and_then(leading).map(u32::from_ne_bytes);
        Some(SocketMemory {
            receive_bytes: field(0)?,
            receive_limit_bytes: field(1)?,
            send_bytes: field(2)?,
            send_limit_bytes: field(3)?,
            forward_bytes: field(4)?,
            send_queued_bytes: field(5)?,
            option_bytes: field(6)?,
            backlog_bytes: field(7).unwrap_or(0),
            drops: field(8),
        })
    }

    /// Name of the congestion control, as bytes: names are modules' own words. Needs
    /// [`Extensions::CONG`](crate::Extensions::CONG).
    pub fn congestion(&self) -> Option<&'b [u8]> {
        self.attribute(attribute::CONG).map(until_nul)
    }

    /// Name of the upper layer protocol (`tls`, `mptcp`). Needs [`Extensions::INFO`](crate::Extensions::INFO) and
    /// CAP_NET_ADMIN.
    pub fn upper_layer(&self) -> Option<&'b [u8]> {
        let nested = self.attribute(attribute::ULP_INFO)?;
        Attributes::new(nested).find(|a| a.kind == attribute::ULP_NAME).map(|a| until_nul(a.payload))
    }

    /// Whether IPV6_V6ONLY is set. None for IPv4 and when not told (only listeners and unconnected sockets say it).
    pub fn v6_only(&self) -> Option<bool> {
        self.attribute(attribute::SKV6ONLY)?.first().map(|b| *b != 0)
    }
}

/// Memory of a socket in bytes. Source: attribute INET_DIAG_SKMEMINFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMemory {
    /// Received data and its overhead (`SK_MEMINFO_RMEM_ALLOC`).
    pub receive_bytes: u32,
    /// SO_RCVBUF (`SK_MEMINFO_RCVBUF`).
    pub receive_limit_bytes: u32,
    /// Data handed to the network layer (`SK_MEMINFO_WMEM_ALLOC`).
    pub send_bytes: u32,
    /// SO_SNDBUF (`SK_MEMINFO_SNDBUF`).
    pub send_limit_bytes: u32,
    /// Reserved ahead (`SK_MEMINFO_FWD_ALLOC`).
    pub forward_bytes: u32,
    /// Queued for sending (`SK_MEMINFO_WMEM_QUEUED`).
    pub send_queued_bytes: u32,
    /// Options and control messages (`SK_MEMINFO_OPTMEM`).
    pub option_bytes: u32,
    /// Waiting behind the socket lock (`SK_MEMINFO_BACKLOG`).
    pub backlog_bytes: u32,
    /// Packets dropped (`SK_MEMINFO_DROPS`, Linux 4.12); None before.
    pub drops: Option<u32>,
}

/// One field of [`SocketMemory`], for code that treats them all alike.
pub struct SocketMemoryField {
    /// The name of the field, unit included.
    pub name: &'static str,
    /// What ss calls it.
    pub ss_name: &'static str,
    /// Its value.
    pub read: fn(&SocketMemory) -> Option<u32>,
}

impl SocketMemory {
    /// Every field by its name, in the kernel's order: what renderers loop over.
    pub const FIELDS: &'static [SocketMemoryField] = &[
        SocketMemoryField { name: "receive_bytes", ss_name: "r", read: |m| Some(m.receive_bytes) },
        SocketMemoryField {
            name: "receive_limit_bytes",
            ss_name: "rb",
            read: |m| Some(m.receive_limit_bytes),
        },
        SocketMemoryField { name: "send_bytes", ss_name: "t", read: |m| Some(m.send_bytes) },
        SocketMemoryField { name: "send_limit_bytes", ss_name: "tb", read: |m| Some(m.send_limit_bytes) },
        SocketMemoryField { name: "forward_bytes", ss_name: "f", read: |m| Some(m.forward_bytes) },
        SocketMemoryField { name: "send_queued_bytes", ss_name: "w", read: |m| Some(m.send_queued_bytes) },
        SocketMemoryField { name: "option_bytes", ss_name: "o", read: |m| Some(m.option_bytes) },
        SocketMemoryField { name: "backlog_bytes", ss_name: "bl", read: |m| Some(m.backlog_bytes) },
        SocketMemoryField { name: "drops", ss_name: "d", read: |m| m.drops },
    ];
}

#[inline]
fn address(family: Family, bytes: &[u8; 16]) -> IpAddr {
    match family {
        Family::Inet => IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3])),
        _ => IpAddr::V6(Ipv6Addr::from(*bytes)),
    }
}

pub(crate) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The first N bytes, if there are as many: attributes may grow at the end.
#[inline]
pub(crate) fn leading<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.first_chunk().copied()
}

/// A byte of C bit fields, the first of them in bit 0: compilers begin at the other end on big endian machines.
pub(crate) const fn bit_fields(byte: u8) -> u8 {
    if cfg!(target_endian = "big") { byte.reverse_bits() } else { byte }
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|b| *b == 0).next().unwrap_or_default()
}

impl InetDiagMsg {
    /// The bytes the kernel would send for `record`: what the fake kernel and synthetic benchmarks speak.
    pub(crate) fn of(record: &SocketRecord) -> InetDiagMsg {
        InetDiagMsg {
            family: record.family.raw(),
            state: record.state.raw(),
            timer: record.timer.kind.raw(),
            retransmits: record.timer.retransmits,
            id: SockId::of(&record.id),
            expires: record.timer.expires_ms.into(),
            rqueue: record.rqueue_bytes.into(),
            wqueue: record.wqueue_bytes.into(),
            uid: record.uid.unwrap_or(0).into(),
            inode: record.inode.map_or(0, NonZeroU32::get).into(),
        }
    }
}
