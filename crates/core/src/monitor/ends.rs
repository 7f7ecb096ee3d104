//! The two ends of followed sockets in sixteen bytes: addresses by number, IPv4 remote ones as they are.

use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;
use sock_diag::{Cookie, SocketId, SocketRecord};

use crate::address::Address;
use crate::closed::Direction;
use crate::destination::DestinationId;

use super::paged::Paged;
use super::table::{Flag, Socket};

/// Addresses that followed sockets use, each with a number while any does.
#[derive(Default)]
pub(crate) struct Addresses {
    numbers: HashMap<Address, u32>,
    entries: Vec<(Address, u32)>,
    free: Vec<u32>,
    /// IPv6 addresses of incoming connections: hardly two of them are the same, and a table would cost more than it spares.
    alone: Paged<Address>,
    free_alone: Vec<u32>,
}

/// Both ends of a connection, as they are compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BothEnds {
    local: Address,
    remote: Address,
    local_port: u16,
    remote_port: u16,
}

impl Addresses {
    /// Writes a record's ends into a socket, whose flags say how; its direction is known.
    pub(crate) fn pack(&mut self, record: &SocketRecord, socket: &mut Socket) {
        let id = &record.id;
        socket.local = self.hold(Address::of(id.local_address));
        socket.set(Flag::Inet6, id.local_address.is_ipv6());
        socket.set(Flag::OnInterface, id.interface.is_some());
        let remote = Address::of(id.remote_address);
        let inline = match id.remote_address.to_canonical() {
            IpAddr::V4(v4) => Some(v4.to_bits()),
            IpAddr::V6(_) => None,
        };
        let is_alone = inline.is_none() && socket.direction() == Direction::Incoming;
        socket.set(Flag::RemoteInline, inline.is_some());
        socket.set(Flag::RemoteAlone, is_alone);
        socket.remote = match inline {
            Some(bits) => bits,
            None if is_alone => self.keep_alone(remote),
            None => self.hold(remote),
        };
        socket.local_port = id.local_port;
        socket.remote_port = id.remote_port;
    }

    /// A socket is forgotten, or gets other ends.
    pub(crate) fn release(&mut self, socket: &Socket) {
        self.drop_one(socket.local);
        if socket.is(Flag::RemoteAlone) {
            self.free_alone.push(socket.remote);
        } else if !socket.is(Flag::RemoteInline) {
            self.drop_one(socket.remote);
        }
    }

    /// Whether a record has the ends a socket has.
    #[inline]
    pub(crate) fn are_of(&self, socket: &Socket, record: &SocketRecord) -> bool {
        let id = &record.id;
        socket.local_port == id.local_port
            && socket.remote_port == id.remote_port
            && self.remote(socket) == Address::of(id.remote_address)
            && self.local(socket) == Address::of(id.local_address)
    }

    pub(crate) fn local(&self, socket: &Socket) -> Address {
        self.address(socket.local)
    }

    pub(crate) fn remote(&self, socket: &Socket) -> Address {
        match socket.is(Flag::RemoteInline) {
            true => Address::of(IpAddr::V4(socket.remote.into())),
            false if socket.is(Flag::RemoteAlone) => self.alone[socket.remote],
            false => self.address(socket.remote),
        }
    }

    pub(crate) fn both(&self, socket: &Socket) -> BothEnds {
        BothEnds {
            local: self.local(socket),
            remote: self.remote(socket),
            local_port: socket.local_port,
            remote_port: socket.remote_port,
        }
    }

    /// The local end; None when it was never told.
    pub(crate) fn local_end(&self, socket: &Socket) -> Option<SocketAddr> {
        (socket.local_port != 0).then(|| SocketAddr::new(self.local(socket).ip(), socket.local_port))
    }

    /// The remote end; None when there is none, or it was never told.
    pub(crate) fn remote_end(&self, socket: &Socket) -> Option<SocketAddr> {
        let address = self.remote(socket).ip();
        (socket.remote_port != 0 || !address.is_unspecified())
            .then(|| SocketAddr::new(address, socket.remote_port))
    }

    /// As a lookup needs it: in the address form of its family.
    pub(crate) fn id(&self, socket: &Socket, cookie: Cookie) -> SocketId {
        let form = |address: Address| match (socket.is(Flag::Inet6), address.ip()) {
            (true, IpAddr::V4(v4)) => IpAddr::V6(v4.to_ipv6_mapped()),
            (_, ip) => ip,
        };
        SocketId {
            local_address: form(self.local(socket)),
            local_port: socket.local_port,
            remote_address: form(self.remote(socket)),
            remote_port: socket.remote_port,
            interface: None,
            cookie,
        }
    }

    pub(crate) fn destination(&self, socket: &Socket) -> DestinationId {
        DestinationId {
            protocol: sock_diag::Protocol::Tcp,
            local_address: self.local(socket).ip(),
            remote_address: self.remote(socket).ip(),
            remote_port: socket.remote_port,
        }
    }

    fn keep_alone(&mut self, address: Address) -> u32 {
        match self.free_alone.pop() {
            Some(number) => {
                self.alone[number] = address;
                number
            }
            None => self.alone.push(address),
        }
    }

    fn hold(&mut self, address: Address) -> u32 {
        let Addresses { numbers, entries, free, .. } = self;
        let number = *numbers.entry(address).or_insert_with(|| match free.pop() {
            Some(number) => {
                entries[number as usize] = (address, 0);
                number
            }
            None => {
                entries.push((address, 0));
                (entries.len() - 1) as u32
            }
        });
        entries[number as usize].1 += 1;
        number
    }

    fn drop_one(&mut self, number: u32) {
        let (address, holders) = &mut self.entries[number as usize];
        *holders -= 1;
        if *holders == 0 {
            self.numbers.remove(address);
            self.free.push(number);
        }
    }

    fn address(&self, number: u32) -> Address {
        self.entries[number as usize].0
    }
}
