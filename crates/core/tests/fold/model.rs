//! What a report should say, in obvious code: sets of ports, and every port asked for every destination.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sock_diag::{Protocol, SocketRecord, SocketState, TimerKind};
use sockeye_core::{DestinationId, Settings, TwReuse};

/// What the model says about one destination.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: DestinationId,
    pub(crate) live: u32,
    pub(crate) time_wait: u32,
    pub(crate) closes: u32,
    pub(crate) in_use: u32,
    pub(crate) min: u32,
    pub(crate) max: u32,
}

/// Whether connect() gets a port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Yes,
    Perhaps,
    No,
}

pub(crate) struct Model<'a> {
    settings: &'a Settings,
    records: &'a [SocketRecord],
    pub(crate) listening: BTreeSet<u16>,
    pub(crate) held: BTreeSet<u16>,
    pub(crate) usable: BTreeSet<u16>,
    range: BTreeSet<u16>,
}

impl<'a> Model<'a> {
    pub(crate) fn new(settings: &'a Settings, records: &'a [SocketRecord]) -> Model<'a> {
        let span = settings.port_range.unwrap();
        let range: BTreeSet<u16> = (span.first..=span.last).collect();
        let reserved = settings.reserved_ports.clone().unwrap();
        let pool: BTreeSet<u16> = range.iter().copied().filter(|port| !reserved.contains(*port)).collect();
        let tcp = || records.iter().filter(|record| record.protocol == Protocol::Tcp);
        let listening: BTreeSet<u16> =
            tcp().filter(|r| r.state == SocketState::Listen).map(|r| r.id.local_port).collect();
        let bound: BTreeSet<u16> = tcp()
            .filter(|r| r.state == SocketState::Close && r.id.local_port != 0)
            .map(|r| r.id.local_port)
            .collect();
        let held: BTreeSet<u16> =
            listening.union(&bound).copied().filter(|port| pool.contains(port)).collect();
        let usable = pool.difference(&held).copied().collect();
        Model { settings, records, listening, held, usable, range }
    }

    fn outgoing(&self) -> impl Iterator<Item = &'a SocketRecord> {
        self.records.iter().filter(|r| {
            r.protocol == Protocol::Tcp
                && !matches!(r.state, SocketState::Listen | SocketState::Close)
                && self.range.contains(&r.id.local_port)
                && !self.listening.contains(&r.id.local_port)
        })
    }

    pub(crate) fn rows(&self) -> BTreeMap<DestinationId, Row> {
        let mut of: BTreeMap<DestinationId, Vec<&SocketRecord>> = BTreeMap::new();
        for record in self.outgoing() {
            of.entry(destination(record)).or_default().push(record);
        }
        let suspects = self.suspects(&of);
        of.iter().map(|(id, sockets)| (*id, self.row(*id, sockets, &suspects))).collect()
    }

    fn row(&self, id: DestinationId, sockets: &[&SocketRecord], suspects: &BTreeSet<u16>) -> Row {
        let time_wait = sockets.iter().filter(|r| r.state == SocketState::TimeWait);
        let answers: BTreeMap<u16, Answer> = self
            .usable
            .iter()
            .map(|port| {
                let here: Vec<_> = sockets.iter().filter(|r| r.id.local_port == *port).collect();
                let worst = if here.iter().any(|r| self.reuse(r) == Answer::No) {
                    Answer::No
                } else if suspects.contains(port) || here.iter().any(|r| self.reuse(r) == Answer::Perhaps) {
                    Answer::Perhaps
                } else {
                    Answer::Yes
                };
                (*port, worst)
            })
            .collect();
        let count = |wanted: Answer| answers.values().filter(|answer| **answer == wanted).count() as u32;
        let ends = [self.range.first(), self.range.last()];
        let odd = self.range.len() > 1 && self.range.len() % 2 == 1;
        let may_lose = odd && ends.iter().flatten().any(|end| answers.get(end) == Some(&Answer::Yes));
        let in_use: BTreeSet<u16> =
            sockets.iter().map(|r| r.id.local_port).filter(|port| self.usable.contains(port)).collect();
        Row {
            id,
            live: sockets.iter().filter(|r| r.state != SocketState::TimeWait).count() as u32,
            time_wait: time_wait.clone().count() as u32,
            closes: time_wait.filter(|r| r.timer.expires_ms > 0).count() as u32,
            in_use: in_use.len() as u32,
            min: count(Answer::Yes) - u32::from(may_lose),
            max: count(Answer::Yes) + count(Answer::Perhaps),
        }
    }

    /// Whether connect() takes over this socket's port.
    fn reuse(&self, record: &SocketRecord) -> Answer {
        if record.state != SocketState::TimeWait || self.settings.timestamps == Some(false) {
            return Answer::No;
        }
        let (local, remote) =
            (record.id.local_address.to_canonical(), record.id.remote_address.to_canonical());
        let loopback = local.is_loopback()
            || remote.is_loopback()
            || record.id.interface.is_some_and(|interface| interface.get() == 1);
        let known = match self.settings.tw_reuse {
            TwReuse::Off => return Answer::No,
            TwReuse::LoopbackOnly if !loopback => return Answer::No,
            TwReuse::Unknown => Answer::Perhaps,
            _ => Answer::Yes,
        };
        let age = i64::from(60_000 - record.timer.expires_ms.min(60_000));
        let delay = i64::from(self.settings.tw_reuse_delay_ms.unwrap_or(1_000));
        if self.settings.tw_reuse_delay_ms.is_some() && age < delay - 20 {
            return Answer::No;
        }
        let old = age > delay + 20;
        let stamps =
            self.settings.timestamps == Some(true) && (loopback || local == remote || self.is_here(remote));
        if old && stamps { known } else { Answer::Perhaps }
    }

    /// Whether a socket tells that this is an address of the host.
    fn is_here(&self, address: IpAddr) -> bool {
        let listens = |r: &&SocketRecord| r.protocol == Protocol::Tcp && r.state == SocketState::Listen;
        let listeners = self.records.iter().filter(listens);
        listeners.chain(self.outgoing()).any(|r| r.id.local_address.to_canonical() == address)
    }

    fn suspects(&self, of: &BTreeMap<DestinationId, Vec<&SocketRecord>>) -> BTreeSet<u16> {
        let first = *self.range.first().unwrap();
        let preferred = |port: &u16| port % 2 == first % 2;
        // What bind() with port 0 tries first, SO_REUSEADDR or not: the other parity, in the lower half.
        let lower = if self.range.len() < 4 { self.range.len() } else { self.range.len() / 4 * 2 };
        let lower: BTreeSet<u16> = self.range.iter().copied().take(lower).collect();
        let tried_first =
            |ports: &BTreeSet<u16>| ports.intersection(&lower).filter(|p| !preferred(p)).count();
        let ports_of = |sockets: &[&SocketRecord]| -> BTreeSet<u16> {
            sockets.iter().map(|r| r.id.local_port).filter(|port| self.usable.contains(port)).collect()
        };
        let on_address = |address: IpAddr| -> BTreeSet<u16> {
            of.iter().filter(|(id, _)| id.local_address == address).flat_map(|(_, s)| ports_of(s)).collect()
        };
        let mut suspects = BTreeSet::new();
        for (id, sockets) in of {
            let bind_spills =
                tried_first(&on_address(id.local_address)) as f64 >= 0.5 * tried_first(&self.usable) as f64;
            for record in sockets {
                let port = record.id.local_port;
                let by_connect = preferred(&port) && !bind_spills;
                let without_port = record.options.is_some_and(|options| options.bind_address_no_port());
                let sharers = of
                    .iter()
                    .filter(|(other, s)| {
                        other.local_address == id.local_address
                            && other.remote_port < first
                            && s.iter().any(|r| r.id.local_port == port)
                    })
                    .count();
                if !by_connect && !without_port && sharers < 2 {
                    suspects.insert(port);
                }
            }
        }
        suspects.intersection(&self.usable).copied().collect()
    }

    /// Ports of the pool that UDP cannot have on this address.
    pub(crate) fn udp_in_use(&self, address: IpAddr) -> u32 {
        let covers = |a: IpAddr, b: IpAddr| {
            a == b || (a.is_unspecified() && (a.is_ipv6() || a.is_ipv4() == b.is_ipv4()))
        };
        let reserved = self.settings.reserved_ports.as_ref().unwrap();
        let ports: BTreeSet<u16> = self
            .records
            .iter()
            .filter(|r| r.protocol == Protocol::Udp)
            .filter(|r| {
                let other = r.id.local_address.to_canonical();
                covers(other, address) || covers(address, other)
            })
            .map(|r| r.id.local_port)
            .filter(|port| self.range.contains(port) && !reserved.contains(*port))
            .collect();
        ports.len() as u32
    }
}

pub(crate) fn destination(record: &SocketRecord) -> DestinationId {
    DestinationId {
        protocol: Protocol::Tcp,
        local_address: record.id.local_address.to_canonical(),
        remote_address: record.id.remote_address.to_canonical(),
        remote_port: record.id.remote_port,
    }
}

pub(crate) fn is_orphan(record: &SocketRecord) -> bool {
    record.state == SocketState::FinWait2 && record.timer.kind == TimerKind::TimeWait
}
