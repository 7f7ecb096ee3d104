//! Requests as the kernel reads them: one walk of a socket table, one lookup, one SOCK_DESTROY.
//!
//! Which requests a dump needs, and what to do when one is refused, is decided in [`dump`](crate::dump).

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use zerocopy::byteorder::native_endian as ne;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::filter::Bytecode;
use crate::record::{Family, Protocol, SocketId};
use crate::state::StateSet;
use crate::wire::{Attributes, NlHeader, SockId, leading};

/// The v1 request; with family 0 it walks both families at once. TCP only.
pub(crate) const TCPDIAG_GETSOCK: u16 = 18;
pub(crate) const SOCK_DIAG_BY_FAMILY: u16 = 20;
pub(crate) const SOCK_DESTROY: u16 = 21;

const REQ_BYTECODE: u16 = 1;
const REQ_PROTOCOL: u16 = 3;

/// Attributes that must be asked for. CGROUP_ID, SOCKOPT, SHUTDOWN and (with CAP_NET_ADMIN) MARK come unasked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extensions(u8);

impl Extensions {
    /// None: the cheapest records.
    pub const NONE: Extensions = Extensions(0);
    /// `struct tcp_info`, and the upper layer protocol with CAP_NET_ADMIN. Cost: a third more time, three times the bytes.
    pub const INFO: Extensions = Extensions(1 << 1);
    /// Name of the congestion control.
    pub const CONG: Extensions = Extensions(1 << 3);
    /// Type of service, traffic class, class id and priority.
    pub const TOS: Extensions = Extensions(1 << 4 | 1 << 5);
    /// Socket memory.
    pub const SKMEMINFO: Extensions = Extensions(1 << 6);
    /// Directions shut down.
    pub const SHUTDOWN: Extensions = Extensions(1 << 7);

    /// All of both.
    pub const fn union(self, other: Extensions) -> Extensions {
        Extensions(self.0 | other.0)
    }
}

/// `struct inet_diag_req`, the v1 request.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct InetDiagReq {
    family: u8,
    source_length: u8,
    destination_length: u8,
    extensions: u8,
    id: SockId,
    states: ne::U32,
    tables: ne::U32,
}

/// `struct inet_diag_req_v2`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct InetDiagReqV2 {
    family: u8,
    protocol: u8,
    extensions: u8,
    padding: u8,
    states: ne::U32,
    id: SockId,
}

/// One walk of one table: what a single request can say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Walk<'f> {
    pub(crate) protocol: Protocol,
    /// None: both families in one walk, by the v1 request.
    pub(crate) family: Option<Family>,
    pub(crate) states: StateSet,
    pub(crate) extensions: Extensions,
    pub(crate) bytecode: Option<&'f Bytecode>,
}

impl Walk<'_> {
    /// The request's bytes; sequence and port id are the source's to fill in.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let kind = match self.family {
            None => TCPDIAG_GETSOCK,
            Some(_) => SOCK_DIAG_BY_FAMILY,
        };
        let mut message = header(kind, NLM_F_REQUEST | NLM_F_DUMP);
        match self.family {
            None => message.extend_from_slice(
                InetDiagReq {
                    family: 0,
                    source_length: 0,
                    destination_length: 0,
                    extensions: self.extensions.0,
                    id: SockId::ANY,
                    states: self.states.bits().into(),
                    tables: 0.into(),
                }
                .as_bytes(),
            ),
            Some(family) => message.extend_from_slice(
                InetDiagReqV2 {
                    family: family.raw(),
                    protocol: narrow(self.protocol),
                    extensions: self.extensions.0,
                    padding: 0,
                    states: self.states.bits().into(),
                    id: SockId::ANY,
                }
                .as_bytes(),
            ),
        }
        push_wide_protocol(&mut message, self.protocol);
        if let Some(bytecode) = self.bytecode {
            push_attribute(&mut message, REQ_BYTECODE, bytecode.as_bytes());
        }
        finish(message)
    }
}

/// What a recorded request asked for: enough to tell whether its answers serve another walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) protocol: Protocol,
    pub(crate) family: Option<Family>,
    pub(crate) states: StateSet,
}

impl Asked {
    /// Reads a request that [`Walk::encode`] wrote; None for anything else, lookups among them.
    pub(crate) fn decode(request: &[u8]) -> Option<Asked> {
        let (header, payload) = NlHeader::ref_from_prefix(request).ok()?;
        if header.flags.get() & NLM_F_DUMP != NLM_F_DUMP {
            return None;
        }
        if header.kind.get() == TCPDIAG_GETSOCK {
            let (body, _) = InetDiagReq::ref_from_prefix(payload).ok()?;
            return Some(Asked {
                protocol: Protocol::Tcp,
                family: None,
                states: StateSet::from_bits(body.states.get()),
            });
        }
        let (body, attributes) = InetDiagReqV2::ref_from_prefix(payload).ok()?;
        let wide = Attributes::new(attributes).find(|a| a.kind == REQ_PROTOCOL);
        let protocol = match wide.and_then(|a| leading(a.payload)).map(u32::from_ne_bytes) {
            Some(wide) => u16::try_from(wide).ok()?,
            None => u16::from(body.protocol),
        };
        (header.kind.get() == SOCK_DIAG_BY_FAMILY).then(|| Asked {
            protocol: Protocol::from_raw(protocol),
            family: Some(Family::from_raw(body.family)),
            states: StateSet::from_bits(body.states.get()),
        })
    }
}

/// A request about one socket: a lookup, or with `destroy` its end.
pub(crate) fn one_socket(
    protocol: Protocol,
    family: Family,
    id: &SocketId,
    extensions: Extensions,
    destroy: bool,
) -> Vec<u8> {
    let mut message = match destroy {
        true => header(SOCK_DESTROY, NLM_F_REQUEST | NLM_F_ACK),
        false => header(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST),
    };
    message.extend_from_slice(
        InetDiagReqV2 {
            family: family.raw(),
            protocol: narrow(protocol),
            extensions: extensions.0,
            padding: 0,
            states: StateSet::ALL.bits().into(),
            id: SockId::of(id),
        }
        .as_bytes(),
    );
    push_wide_protocol(&mut message, protocol);
    finish(message)
}

/// The request's 8-bit field. A protocol that does not fit (MPTCP) is 0 there: cut to 8 bits 262 would be TCP, whose
/// sockets a kernel that does not read [`REQ_PROTOCOL`] (before Linux 5.7) would then answer with.
fn narrow(protocol: Protocol) -> u8 {
    u8::try_from(protocol.raw()).unwrap_or(0)
}

/// The whole number of a protocol that does not fit into 8 bits.
fn push_wide_protocol(message: &mut Vec<u8>, protocol: Protocol) {
    if protocol.raw() > 0xff {
        push_attribute(message, REQ_PROTOCOL, &u32::from(protocol.raw()).to_ne_bytes());
    }
}

/// Fills in what only the sender knows.
pub(crate) fn stamp(request: &mut [u8], sequence: u32, port_id: u32) {
    if let Ok((header, _)) = NlHeader::mut_from_prefix(request) {
        header.sequence = sequence.into();
        header.port_id = port_id.into();
    }
}

fn header(kind: u16, flags: u16) -> Vec<u8> {
    NlHeader {
        length: 0.into(),
        kind: kind.into(),
        flags: flags.into(),
        sequence: 0.into(),
        port_id: 0.into(),
    }
    .as_bytes()
    .to_vec()
}

fn push_attribute(message: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    message.extend_from_slice(&((payload.len() + 4) as u16).to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(payload);
    message.resize(message.len().next_multiple_of(4), 0);
}

fn finish(mut message: Vec<u8>) -> Vec<u8> {
    let length = message.len() as u32;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
    use netlink_packet_sock_diag::SockDiagMessage;
    use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId as OracleId, StateFlags};

    use super::*;

    /// The oracle's bytes for the same request.
    fn oracle(family: u8, states: StateSet) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let socket_id = if family == 2 { OracleId::new_v4() } else { OracleId::new_v6() };
        let mut packet = NetlinkMessage::new(
            header,
            NetlinkPayload::from(SockDiagMessage::InetRequest(InetRequest {
                family,
                protocol: 6,
                extensions: ExtensionFlags::INFO,
                states: StateFlags::from_bits_retain(states.bits()),
                socket_id,
            })),
        );
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn dump_requests_are_those_of_the_oracle() {
        for family in [Family::Inet, Family::Inet6] {
            let walk = Walk {
                protocol: Protocol::Tcp,
                family: Some(family),
                states: StateSet::ALL,
                extensions: Extensions::INFO,
                bytecode: None,
            };
            let mut ours = walk.encode();
            let oracle = oracle(family.raw(), StateSet::ALL);
            // The oracle asks with cookie 0, we with "any": a dump looks at neither.
            ours[64..72].copy_from_slice(&oracle[64..72]);
            assert_eq!(ours, oracle);
        }
    }

    #[test]
    fn a_request_can_be_read_back() {
        for (protocol, family) in [
            (Protocol::Tcp, None),
            (Protocol::Tcp, Some(Family::Inet6)),
            (Protocol::Udp, Some(Family::Inet)),
            (Protocol::Mptcp, Some(Family::Inet)),
        ] {
            let states = StateSet::LISTEN;
            let walk = Walk { protocol, family, states, extensions: Extensions::NONE, bytecode: None };
            assert_eq!(Asked::decode(&walk.encode()), Some(Asked { protocol, family, states }));
        }
        assert_eq!(Asked::decode(b"short"), None);
    }

    #[test]
    fn a_kernel_that_knows_no_wide_protocols_is_not_asked_for_others() {
        let walk = Walk {
            protocol: Protocol::Mptcp,
            family: Some(Family::Inet),
            states: StateSet::ALL,
            extensions: Extensions::NONE,
            bytecode: None,
        };
        let id = crate::fake::tcp_record(
            crate::state::SocketState::Listen,
            ([127, 0, 0, 1], 1).into(),
            ([0, 0, 0, 0], 0).into(),
        )
        .id;
        let lookup = one_socket(Protocol::Mptcp, Family::Inet, &id, Extensions::NONE, false);
        for request in [walk.encode(), lookup] {
            let protocol_byte = request[size_of::<NlHeader>() + 1];
            assert_eq!(protocol_byte, 0, "no protocol of its own, so ENOENT");
        }
    }
}
