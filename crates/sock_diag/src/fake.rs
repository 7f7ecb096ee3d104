//! A kernel that answers in bytes, from a script: whole, split, cut, out of sequence, refusing, overrunning.
//!
//! For tests and synthetic benchmarks, here and in crates built on this one.

use std::collections::VecDeque;
use std::net::SocketAddr;

use netlink_packet_core::{NLM_F_MULTIPART, NLMSG_DONE, NLMSG_ERROR};
use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::record::{Protocol, SocketRecord};
use crate::request::{SOCK_DIAG_BY_FAMILY, stamp};
use crate::source::{Exchange, RecvBuffer, Source};
use crate::state::SocketState;
use crate::wire::{InetDiagMsg, NlHeader, attribute, bit_fields};

/// One message of a scripted datagram. Sequence and port id are those of the request unless set.
#[derive(Clone, Debug)]
pub struct Message {
    /// Message type.
    pub kind: u16,
    /// NLM_F_* flags.
    pub flags: u16,
    /// Another sequence than the right one.
    pub sequence: Option<u32>,
    /// Another port id than the right one.
    pub port_id: Option<u32>,
    /// Bytes after the header.
    pub payload: Vec<u8>,
}

impl Message {
    /// A message with this type and payload, as part of a dump.
    pub fn new(kind: u16, payload: Vec<u8>) -> Message {
        Message { kind, flags: NLM_F_MULTIPART, sequence: None, port_id: None, payload }
    }

    /// The record as the kernel would send it.
    pub fn record(record: &SocketRecord) -> Message {
        Message::new(SOCK_DIAG_BY_FAMILY, record_bytes(record))
    }

    /// The end of a dump: 0, or a negative errno.
    pub fn done(code: i32) -> Message {
        Message::new(NLMSG_DONE, code.to_ne_bytes().to_vec())
    }

    /// A refusal with this positive errno (0: an acknowledgement).
    pub fn error(errno: i32) -> Message {
        let mut payload = (-errno).to_ne_bytes().to_vec();
        payload.resize(20, 0);
        Message { flags: 0, ..Message::new(NLMSG_ERROR, payload) }
    }

    fn write(&self, exchange: Exchange, out: &mut Vec<u8>) {
        let header = NlHeader {
            length: ((size_of::<NlHeader>() + self.payload.len()) as u32).into(),
            kind: self.kind.into(),
            flags: self.flags.into(),
            sequence: self.sequence.unwrap_or(exchange.sequence).into(),
            port_id: self.port_id.unwrap_or(exchange.port_id).into(),
        };
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(&self.payload);
        out.resize(out.len().next_multiple_of(4), 0);
    }
}

/// A TCP record that says nothing but its state and addresses: everything else is zero or unknown.
pub fn tcp_record(state: SocketState, local: SocketAddr, remote: SocketAddr) -> SocketRecord {
    SocketRecord::bare(Protocol::Tcp, state, local, remote)
}

/// `struct inet_diag_msg` and the attributes that come unasked, as the kernel would send them for `record`.
pub fn record_bytes(record: &SocketRecord) -> Vec<u8> {
    let mut bytes = InetDiagMsg::of(record).as_bytes().to_vec();
    let mut push = |kind: u16, payload: &[u8]| {
        bytes.extend_from_slice(&((payload.len() + 4) as u16).to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    };
    if let Some(shutdown) = record.shutdown {
        push(attribute::SHUTDOWN, &[shutdown]);
    }
    if let Some(mark) = record.mark {
        push(attribute::MARK, &mark.to_ne_bytes());
    }
    if let Some(cgroup) = record.cgroup_id {
        push(attribute::CGROUP_ID, &cgroup.to_ne_bytes());
    }
    if let Some(options) = record.options {
        push(attribute::SOCKOPT, &options.0.to_le_bytes().map(bit_fields));
    }
    bytes
}

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A datagram of these messages.
    Datagram(Vec<Message>),
    /// A datagram of exactly these bytes.
    Raw(Vec<u8>),
    /// A datagram that claims this length and holds less: it was cut.
    Cut(Vec<u8>, usize),
    /// The receive buffer was overrun.
    Overrun,
}

/// A [`Source`] that plays its script, whatever it is asked.
#[derive(Debug, Default)]
pub struct FakeKernel {
    script: VecDeque<Answer>,
    exchange: Option<Exchange>,
    /// Every request it was sent, in order.
    pub requests: Vec<Vec<u8>>,
}

impl FakeKernel {
    /// A kernel that will answer with `script`, a step per receive.
    pub fn new(script: impl IntoIterator<Item = Answer>) -> FakeKernel {
        FakeKernel { script: script.into_iter().collect(), ..FakeKernel::default() }
    }

    /// Steps of the script that nobody has read.
    pub fn unread(&self) -> usize {
        self.script.len()
    }
}

impl Source for FakeKernel {
    fn send(&mut self, request: &mut [u8]) -> Result<Exchange> {
        let exchange = Exchange { sequence: 1 + self.requests.len() as u32, port_id: 4711 };
        stamp(request, exchange.sequence, exchange.port_id);
        self.requests.push(request.to_vec());
        self.exchange = Some(exchange);
        Ok(exchange)
    }

    fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize> {
        let operation = "reading a script";
        let (Some(step), Some(exchange)) = (self.script.pop_front(), self.exchange) else {
            return Err(Error::Ended { operation });
        };
        let (bytes, length) = match step {
            Answer::Overrun => return Err(Error::Overrun { operation }),
            Answer::Raw(bytes) => (bytes, None),
            Answer::Cut(bytes, length) => (bytes, Some(length)),
            Answer::Datagram(messages) => {
                let mut bytes = Vec::new();
                messages.iter().for_each(|message| message.write(exchange, &mut bytes));
                (bytes, None)
            }
        };
        let room = bytes.len().min(buffer.bytes().len());
        buffer.bytes_mut()[..room].copy_from_slice(&bytes[..room]);
        Ok(length.unwrap_or(bytes.len()))
    }

    fn runs_filters(&self) -> bool {
        true
    }
}
