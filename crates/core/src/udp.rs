//! UDP ports: one pool for all destinations, because a UDP socket gets its port before it knows where to.

use std::net::IpAddr;

use hashbrown::HashMap;
use sock_diag::SocketRecord;

use crate::address::{ANY4, ANY6, Address, covers};
use crate::pool::Pool;
use crate::port_set::PortSet;

/// Use of the UDP pool.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UdpPool {
    /// Ports of the range, reserved ones included.
    pub range: u32,
    /// Reserved ports of the range.
    pub reserved: u32,
    /// Ports automatic choice may use: range − reserved.
    pub usable: u32,
    /// Distinct usable ports some socket has, on any address. The next connect() or sendto() of a socket without a
    /// port fails when this reaches `usable`: it asks for a port that is free on every address.
    pub in_use: u32,
    /// The addresses that sockets with usable ports are bound to, fullest first.
    pub addresses: Vec<UdpAddress>,
}

impl UdpPool {
    /// How full the pool is, 0–1; 1 when no port is usable.
    pub fn occupancy(&self) -> f64 {
        if self.usable == 0 { 1.0 } else { f64::from(self.in_use) / f64::from(self.usable) }
    }
}

/// Use of the UDP pool on one local address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UdpAddress {
    /// The address; unspecified for sockets bound to all.
    pub local_address: IpAddr,
    /// Usable ports that bind() with port 0 on this address cannot have: those of sockets on it and on the wildcards
    /// that cover it, or, on a wildcard, those of every socket it covers. `::` is taken to cover IPv4, which
    /// IPV6_V6ONLY would deny: a record does not tell it. SO_REUSEPORT and bound devices are not looked at.
    pub in_use: u32,
}

/// Collects (address, port) pairs of UDP sockets.
pub(crate) struct UdpPorts {
    addresses: HashMap<Address, u32>,
    /// Address index above, port in the low 16 bits.
    uses: Vec<u64>,
}

impl UdpPorts {
    pub(crate) fn new() -> UdpPorts {
        UdpPorts { addresses: HashMap::new(), uses: Vec::new() }
    }

    /// Counts a socket whose port lies in the pool.
    #[inline]
    pub(crate) fn add(&mut self, record: &SocketRecord) {
        let next = self.addresses.len() as u32;
        let index = *self.addresses.entry(Address::of(record.id.local_address)).or_insert(next);
        self.uses.push(u64::from(index) << 16 | u64::from(record.id.local_port));
    }

    pub(crate) fn absorb(&mut self, other: UdpPorts) {
        let mut index_here = vec![0; other.addresses.len()];
        for (address, index) in other.addresses {
            let next = self.addresses.len() as u32;
            index_here[index as usize] = *self.addresses.entry(address).or_insert(next);
        }
        let moved =
            other.uses.iter().map(|one| u64::from(index_here[(one >> 16) as usize]) << 16 | one & 0xffff);
        self.uses.extend(moved);
    }

    pub(crate) fn finish(mut self, pool: &Pool) -> UdpPool {
        self.uses.sort_unstable();
        self.uses.dedup();
        let ip_of: HashMap<u64, IpAddr> =
            self.addresses.iter().map(|(address, index)| (u64::from(*index), address.ip())).collect();
        let on: Vec<(IpAddr, &[u64])> = self
            .uses
            .chunk_by(|a, b| a >> 16 == b >> 16)
            .filter_map(|uses| Some((*ip_of.get(&(uses[0] >> 16))?, uses)))
            .collect();
        let ports_where = |wanted: &dyn Fn(IpAddr) -> bool| -> PortSet {
            let of_those = on.iter().filter(|(ip, _)| wanted(*ip));
            of_those.flat_map(|(_, uses)| uses.iter().map(|entry| *entry as u16)).collect()
        };
        let all = ports_where(&|_| true);
        let all4 = ports_where(&|ip| covers(ANY4, ip) || covers(ip, ANY4));
        let wild6 = ports_where(&|ip| covers(ip, ANY6));
        let wild4 = ports_where(&|ip| covers(ip, ANY4));
        let mut addresses: Vec<UdpAddress> = on
            .iter()
            .map(|(ip, uses)| {
                let beside = |wild: &PortSet| {
                    let own = uses.iter().filter(|entry| !wild.contains(**entry as u16)).count() as u32;
                    own + wild.count()
                };
                let in_use = match ip {
                    ip if *ip == ANY4 => all4.count(),
                    ip if *ip == ANY6 => all.count(),
                    IpAddr::V4(_) => beside(&wild4),
                    IpAddr::V6(_) => beside(&wild6),
                };
                UdpAddress { local_address: *ip, in_use }
            })
            .collect();
        addresses.sort_unstable_by(|a, b| {
            b.in_use.cmp(&a.in_use).then_with(|| a.local_address.cmp(&b.local_address))
        });
        UdpPool {
            range: pool.range().count(),
            reserved: pool.reserved(),
            usable: pool.ports().count(),
            in_use: all.count(),
            addresses,
        }
    }
}
