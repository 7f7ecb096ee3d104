//! How many more bind() with port 0 succeed on a local address.
//!
//! Unlike connect(), bind() does not know a destination: any socket on the address, or on one that covers it, keeps its
//! port from it.

use std::net::IpAddr;

use crate::address::{ANY4, ANY6, Address, covers};
use crate::fold::Endpoints;
use crate::pool::Pool;
use crate::port_set::PortSet;
use crate::port_use::PortUse;

/// What bind() with port 0 finds on one local address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bindable {
    /// The address; unspecified for every one.
    pub local_address: IpAddr,
    /// So many bind() with port 0 on it succeed now at most, without SO_REUSEADDR or SO_REUSEPORT.
    ///
    /// `::` is taken to cover IPv4, which IPV6_V6ONLY would deny: a record does not tell it.
    pub max: u32,
    /// At least so many: of a range with an odd number of ports, bind() tries one end or the other by chance.
    pub min: u32,
    /// Ports that connections from this address are known to have bound before they connected; every connect() skips them.
    /// 0 for the unspecified addresses.
    pub explicit: u32,
}

/// The addresses that sockets of the pool have, and the unspecified ones, least headroom first. `uses` are sorted by
/// `endpoints`, these by local address.
///
/// Cost: a few nanoseconds a socket.
pub(crate) fn bindable(
    pool: &Pool,
    mut holders: Vec<(Address, u16)>,
    uses: &[PortUse],
    endpoints: &[Endpoints],
    explicit: &PortSet,
) -> Vec<Bindable> {
    holders.sort_unstable();
    let on = |wanted: &dyn Fn(IpAddr) -> bool| -> PortSet {
        let chunks = holders.chunk_by(|a, b| a.0 == b.0).filter(|of| wanted(of[0].0.ip()));
        chunks.flatten().map(|(_, port)| *port).collect()
    };
    let wild6 = on(&|ip| covers(ip, ANY6));
    let wild4 = on(&|ip| covers(ip, ANY4));
    let mut taken4 = on(&|ip| covers(ANY4, ip) || covers(ip, ANY4));
    let mut taken = on(&|_| true);

    let usable = pool.ports().count();
    let ends: PortSet = pool.uncertain_ends().into_iter().flatten().collect();
    let ends = ends.intersection(pool.ports());
    let row_of = |local_address, taken: u32, explicit: u32, free_ends: &PortSet| {
        let max = usable - taken;
        Bindable { local_address, max, min: max - u32::from(!free_ends.is_empty()), explicit }
    };
    let mut addresses = Vec::new();
    // The last address that was counted for each port, by its running number from 1.
    let mut counted_for = vec![0u32; 1 << 16];
    let mut row = |address: Address, uses: &mut dyn Iterator<Item = u16>| {
        let ip = address.ip();
        let wild = if ip.is_ipv4() { &wild4 } else { &wild6 };
        let start = holders.partition_point(|held| held.0 < address);
        let own = holders[start..].iter().take_while(|held| held.0 == address).map(|held| held.1);
        let number = addresses.len() as u32 + 1;
        let mut count = wild.count();
        let mut bound = 0;
        let mut free_ends = ends.minus(wild);
        for port in own.chain(uses).filter(|port| !wild.contains(*port)) {
            let last = &mut counted_for[usize::from(port)];
            count += u32::from(*last != number);
            bound += u32::from(*last != number && explicit.contains(port));
            *last = number;
            free_ends.remove(port);
        }
        addresses.push(row_of(ip, count, bound, &free_ends));
    };
    let local = |one: &PortUse| endpoints[one.destination()].local;
    let chunks = uses.chunk_by(|a, b| local(a) == local(b));
    for of_address in chunks.clone() {
        let address = local(&of_address[0]);
        let ports = of_address.iter().map(|one| one.port()).filter(|port| pool.ports().contains(*port));
        if covers(ANY4, address.ip()) {
            taken4.extend(ports.clone());
        }
        taken.extend(ports.clone());
        row(address, &mut ports.clone());
    }
    let mut in_use = chunks.map(|of| local(&of[0])).peekable();
    for of_address in holders.chunk_by(|a, b| a.0 == b.0) {
        let address = of_address[0].0;
        while in_use.next_if(|used| *used < address).is_some() {}
        if in_use.peek() != Some(&address) && !address.ip().is_unspecified() {
            row(address, &mut std::iter::empty());
        }
    }
    addresses.push(row_of(ANY4, taken4.count(), 0, &ends.minus(&taken4)));
    addresses.push(row_of(ANY6, taken.count(), 0, &ends.minus(&taken)));
    addresses.sort_unstable_by_key(|address| (address.max, address.local_address));
    addresses
}
