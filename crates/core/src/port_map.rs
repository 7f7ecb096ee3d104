//! What holds each port of the range: a byte for each of the 65,536, whatever the number of sockets.

use std::ops::RangeInclusive;

use sock_diag::{Protocol, SocketRecord, SocketState};

use crate::destination::DestinationId;
use crate::pool::Pool;
use crate::settings::Settings;

/// What holds a port; of several, the one that keeps it from most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PortHolder {
    /// Nobody.
    Free,
    /// Connections in TIME_WAIT alone.
    TimeWait,
    /// A connection, or a connected UDP socket.
    Live,
    /// A connection that bound it by number: every connect() skips the port.
    Explicit,
    /// A socket that is bound and neither listens nor is connected; of UDP, one without a destination.
    Bound,
    /// A listener.
    Listener,
    /// `net.ipv4.ip_local_reserved_ports`: left out of automatic choice, whoever has it.
    Reserved,
}

impl PortHolder {
    /// All, in their order.
    pub const ALL: [PortHolder; 7] = [
        PortHolder::Free,
        PortHolder::TimeWait,
        PortHolder::Live,
        PortHolder::Explicit,
        PortHolder::Bound,
        PortHolder::Listener,
        PortHolder::Reserved,
    ];

    /// The word of JSON.
    pub const fn name(self) -> &'static str {
        match self {
            PortHolder::Free => "free",
            PortHolder::TimeWait => "time_wait",
            PortHolder::Live => "live",
            PortHolder::Explicit => "bound_by_number",
            PortHolder::Bound => "bound",
            PortHolder::Listener => "listener",
            PortHolder::Reserved => "reserved",
        }
    }
}

/// The ports of one protocol by what holds them.
#[derive(Clone)]
pub struct PortMap {
    pool: Pool,
    protocol: Protocol,
    towards: Option<DestinationId>,
    holders: Box<[PortHolder]>,
}

impl PortMap {
    /// Nobody holds a port yet. With `towards`, only the connections of that destination count, as they do for a
    /// connect() to it; whatever else is bound counts anyway.
    pub fn new(settings: &Settings, protocol: Protocol, towards: Option<DestinationId>) -> PortMap {
        PortMap {
            pool: settings.pool(),
            protocol,
            towards,
            holders: vec![PortHolder::Free; 1 << 16].into_boxed_slice(),
        }
    }

    /// Takes one record; repeats change nothing. Cost: a few nanoseconds.
    pub fn observe(&mut self, record: &SocketRecord) {
        if record.protocol != self.protocol || record.id.local_port == 0 {
            return;
        }
        let holder = match record.state {
            SocketState::Listen => PortHolder::Listener,
            SocketState::Close => PortHolder::Bound,
            _ if !self.counts(record) => return,
            SocketState::TimeWait => PortHolder::TimeWait,
            _ => PortHolder::Live,
        };
        self.hold(record.id.local_port, holder);
    }

    /// Notes that a connection bound this port by number: see [`Sweep::observe_bound`](crate::Sweep::observe_bound).
    pub fn observe_bound(&mut self, port: u16) {
        self.hold(port, PortHolder::Explicit);
    }

    fn counts(&self, record: &SocketRecord) -> bool {
        self.towards.is_none_or(|id| {
            record.id.local_address.to_canonical() == id.local_address
                && record.id.remote_address.to_canonical() == id.remote_address
                && record.id.remote_port == id.remote_port
        })
    }

    fn hold(&mut self, port: u16, holder: PortHolder) {
        let known = &mut self.holders[usize::from(port)];
        *known = (*known).max(holder);
    }

    /// What the range is cut into.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// What holds this port; reserved ports are said to be.
    pub fn holder(&self, port: u16) -> PortHolder {
        let reserved = self.pool.range().contains(port) && !self.pool.ports().contains(port);
        if reserved { PortHolder::Reserved } else { self.holders[usize::from(port)] }
    }

    /// How many ports of the range have this holder.
    pub fn count(&self, holder: PortHolder) -> u32 {
        self.ports().filter(|port| self.holder(*port) == holder).count() as u32
    }

    /// How many usable ports of a half there are, and how many of these are free: the half that connect() prefers, or the
    /// other.
    pub fn half(&self, preferred: bool) -> (u32, u32) {
        let half = self.ports().filter(|port| {
            self.pool.prefers(*port) == preferred && self.holder(*port) != PortHolder::Reserved
        });
        half.fold((0, 0), |(all, free), port| {
            (all + 1, free + u32::from(self.holder(port) == PortHolder::Free))
        })
    }

    /// The range as runs of neighbouring ports with the same holder, lowest first.
    pub fn runs(&self) -> Vec<(RangeInclusive<u16>, PortHolder)> {
        let mut runs: Vec<(RangeInclusive<u16>, PortHolder)> = Vec::new();
        for port in self.ports() {
            let holder = self.holder(port);
            match runs.last_mut() {
                Some((run, same)) if *same == holder => *run = *run.start()..=port,
                _ => runs.push((port..=port, holder)),
            }
        }
        runs
    }

    fn ports(&self) -> RangeInclusive<u16> {
        self.pool.range().ports()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::pool::PortRange;

    fn record(state: SocketState, port: u16, remote: &str) -> SocketRecord {
        let remote: SocketAddr = remote.parse().unwrap();
        SocketRecord { state, ..sock_diag_record(port, remote) }
    }

    fn sock_diag_record(port: u16, remote: SocketAddr) -> SocketRecord {
        sock_diag::fake::tcp_record(SocketState::Established, ([10, 0, 0, 7], port).into(), remote)
    }

    #[test]
    fn the_firmest_holder_is_told() {
        let settings = Settings {
            port_range: Some(PortRange { first: 1000, last: 1009 }),
            reserved_ports: Some([1001].into_iter().collect()),
            ..Settings::default()
        };
        let mut map = PortMap::new(&settings, Protocol::Tcp, None);
        map.observe(&record(SocketState::TimeWait, 1000, "10.0.9.1:80"));
        map.observe(&record(SocketState::TimeWait, 1002, "10.0.9.1:80"));
        map.observe(&record(SocketState::Established, 1002, "10.0.9.2:80"));
        map.observe(&record(SocketState::Established, 1003, "10.0.9.2:80"));
        map.observe_bound(1003);
        map.observe(&record(SocketState::Close, 1004, "0.0.0.0:0"));
        map.observe(&record(SocketState::Listen, 1004, "0.0.0.0:0"));
        map.observe(&record(SocketState::Established, 1001, "10.0.9.2:80"));
        map.observe(&record(SocketState::Established, 80, "10.0.9.2:8000"));
        let runs: Vec<_> = map.runs().into_iter().map(|(run, holder)| (run, holder.name())).collect();
        let expected = [
            (1000..=1000, "time_wait"),
            (1001..=1001, "reserved"),
            (1002..=1002, "live"),
            (1003..=1003, "bound_by_number"),
            (1004..=1004, "listener"),
            (1005..=1009, "free"),
        ];
        assert_eq!(runs, expected);
        assert_eq!((map.half(true), map.half(false)), ((5, 2), (4, 3)));
        assert_eq!(PortHolder::ALL.iter().map(|holder| map.count(*holder)).sum::<u32>(), 10);
        assert_eq!(map.holder(80), PortHolder::Live);
    }

    #[test]
    fn towards_one_destination_others_do_not_count() {
        let id = DestinationId {
            protocol: Protocol::Tcp,
            local_address: [10, 0, 0, 7].into(),
            remote_address: [10, 0, 9, 1].into(),
            remote_port: 80,
        };
        let mut map = PortMap::new(&Settings::default(), Protocol::Tcp, Some(id));
        map.observe(&record(SocketState::Established, 40_000, "10.0.9.1:80"));
        map.observe(&record(SocketState::Established, 40_001, "10.0.9.2:80"));
        map.observe(&record(SocketState::Listen, 40_002, "0.0.0.0:0"));
        let holders = [40_000, 40_001, 40_002].map(|port| map.holder(port));
        assert_eq!(holders, [PortHolder::Live, PortHolder::Free, PortHolder::Listener]);
    }

    #[test]
    fn an_empty_range_has_no_runs() {
        let settings = Settings { port_range: Some(PortRange { first: 9, last: 3 }), ..Settings::default() };
        let map = PortMap::new(&settings, Protocol::Tcp, None);
        assert_eq!((map.runs(), map.half(true), map.count(PortHolder::Free)), (vec![], (0, 0), 0));
    }
}
