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
        if reserved { PortHolder::Reserved } else { self.taken_by(port) }
    }

    /// What its sockets make of this port, reserved or not.
    pub fn taken_by(&self, port: u16) -> PortHolder {
        self.holders[usize::from(port)]
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
