//! The accumulator of one sweep: takes records one by one, and decides at the end what only the end can tell.
//!
//! Which port has a listener may be learnt after its connections, so records are sorted into small piles here and
//! classified in [`Sweep::finish`]. Arithmetic over the piles is in the modules of what they become.

use hashbrown::{HashMap, HashSet};
use sock_diag::{Protocol, SocketRecord, SocketState, TimerKind};

use crate::address::Address;
use crate::bindable::bindable;
use crate::counts::SocketCounts;
use crate::curve::{Curve, age_seconds};
use crate::fold::{Endpoints, Ground, fold};
use crate::judge::{SweepDoubts, judge};
use crate::listener::{PortTallies, Traffic};
use crate::pool::Pool;
use crate::port_origin::PortOrigin;
use crate::port_set::PortSet;
use crate::port_use::PortUse;
use crate::recent::RecentCookies;
use crate::report::{HeldBy, Report, TcpPool};
use crate::settings::{Counters, Settings};
use crate::stuck::Draw;
use crate::udp::UdpPorts;

/// What somebody has found out about ports of which records leave open whether connect() skips them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settled {
    /// Every connect() skips them: an explicit binder has the port.
    pub skipped: PortSet,
    /// connect() shares them among destinations.
    pub shared: PortSet,
}

/// In the place of an index: this number has not come yet.
const UNNUMBERED: u32 = u32::MAX;

/// All records of one sweep of one network namespace.
///
/// The order of the records does not change the report; feeding listeners and bound-inactive sockets first, from
/// their cheap dumps, spares memory on servers. The dumps must not overlap in what they ask for, else their sockets
/// count twice: a repeat is only noticed within 32 records.
///
/// Memory: 8 bytes an outgoing or UDP socket, at most about 200 a destination while finishing (never more of them than
/// sockets) and 100 in the report, 256 a local port with incoming sockets, and a megabyte.
pub struct Sweep {
    settings: Settings,
    pool: Pool,
    records: u64,
    duplicates: u64,
    interrupted: u32,
    malformed: u64,
    recent: RecentCookies,
    counts: SocketCounts,
    orphans: u32,
    unbound: u32,
    listener_sockets: u32,
    bound_sockets: u32,
    listening: PortSet,
    bound: PortSet,
    /// Ports that connected sockets bound explicitly, or that outlive their listener: told, not guessed.
    explicit: PortSet,
    /// Where listeners and bound-inactive sockets of the pool are bound.
    /// And connected ones of a listener's port.
    holders: HashSet<(Address, u16)>,
    /// Addresses that listeners are on.
    here: HashSet<Address>,
    closes: Curve,
    /// Connected sockets on ports that have a listener or lie outside the range.
    tallies: PortTallies,
    /// Connected sockets on ports of the range, whose listener is not known (yet).
    uses: Vec<PortUse>,
    endpoints: HashMap<Endpoints, u32>,
    /// Indices of destinations by the caller's numbers.
    numbered: Vec<u32>,
    udp: UdpPorts,
    /// Sockets that may be stuck.
    stuck: Draw,
}

impl Sweep {
    /// An empty sweep of a namespace with these settings.
    pub fn new(settings: &Settings) -> Sweep {
        Sweep::with_capacity(settings, 0)
    }

    /// An empty sweep with room for so many outgoing sockets; the last sweep's count is a good guess.
    pub fn with_capacity(settings: &Settings, sockets: usize) -> Sweep {
        Sweep {
            pool: settings.pool(),
            settings: settings.clone(),
            records: 0,
            duplicates: 0,
            interrupted: 0,
            malformed: 0,
            recent: RecentCookies::new(),
            counts: SocketCounts::default(),
            orphans: 0,
            unbound: 0,
            listener_sockets: 0,
            bound_sockets: 0,
            listening: PortSet::new(),
            bound: PortSet::new(),
            explicit: PortSet::new(),
            holders: HashSet::new(),
            here: HashSet::new(),
            closes: Curve::EMPTY,
            tallies: PortTallies::new(),
            uses: Vec::with_capacity(sockets),
            endpoints: HashMap::new(),
            numbered: Vec::new(),
            udp: UdpPorts::new(),
            stuck: Draw::default(),
        }
    }

    /// Takes one record.
    ///
    /// Cost: about 25 ns, 60 ns with 100,000 destinations that outgrow the cache. Allocates only to grow.
    #[inline]
    pub fn observe(&mut self, record: &SocketRecord) {
        if self.recent.is_repeat(record.id.cookie) {
            return self.note_duplicates(1);
        }
        self.take(record, PortOrigin::Unknown, None);
    }

    /// Notes that a connected socket bound this port by number. No record tells; the kernel does when it is asked for
    /// those sockets alone (`not autobound`, SOCK_BINDPORT_LOCK), after the others.
    pub fn observe_bound(&mut self, port: u16) {
        self.explicit.insert(port);
    }

    /// Takes one record that is known to be no repeat. `number`: its destination's in the caller's books, which
    /// spares looking for it; in one sweep a number stands for one destination.
    #[inline]
    pub(crate) fn take(&mut self, record: &SocketRecord, origin: PortOrigin, number: Option<u32>) {
        self.records += 1;
        self.counts.add(record);
        match record.protocol {
            Protocol::Tcp => self.take_tcp(record, origin, number),
            Protocol::Udp if self.pool.ports().contains(record.id.local_port) => self.udp.add(record),
            // An MPTCP socket's subflows are TCP sockets of their own; UDP-Lite has ports of its own.
            _ => {}
        }
    }

    #[inline]
    fn take_tcp(&mut self, record: &SocketRecord, origin: PortOrigin, number: Option<u32>) {
        self.stuck.take(record);
        let port = record.id.local_port;
        let mut closed_seconds_ago = None;
        match record.state {
            SocketState::Listen => {
                self.listener_sockets += 1;
                self.here.insert(Address::of(record.id.local_address));
                self.hold(record);
                return self.listening.insert(port);
            }
            SocketState::Close if record.is_bound_inactive() => {
                self.bound_sockets += 1;
                self.hold(record);
                return self.bound.insert(port);
            }
            SocketState::Close => return self.unbound += 1,
            SocketState::TimeWait => {
                let seconds = age_seconds(record.timer.expires_ms);
                self.closes.add(seconds);
                closed_seconds_ago = Some(seconds);
            }
            SocketState::FinWait2 if record.timer.kind == TimerKind::TimeWait => self.orphans += 1,
            _ => {}
        }
        if !self.pool.range().contains(port) {
            return self.tallies.add(port, closed_seconds_ago);
        }
        if self.listening.contains(port) {
            self.hold(record);
            return self.tallies.add(port, closed_seconds_ago);
        }
        match origin {
            PortOrigin::Accepted => {
                self.explicit.insert(port);
                self.hold(record);
                return self.tallies.add(port, closed_seconds_ago);
            }
            PortOrigin::Bound => self.explicit.insert(port),
            PortOrigin::Unknown | PortOrigin::Chosen | PortOrigin::Preferred | PortOrigin::OtherHalf => {}
        }
        let destination = self.destination(record, number);
        self.uses.push(PortUse::new(destination, record, &self.settings));
    }

    /// The index of a record's destination in this sweep.
    #[inline]
    fn destination(&mut self, record: &SocketRecord, number: Option<u32>) -> u32 {
        if let Some(index) = number.and_then(|number| self.numbered.get(number as usize))
            && *index != UNNUMBERED
        {
            return *index;
        }
        let index = self.find_destination(record);
        if let Some(number) = number {
            let at = number as usize;
            if self.numbered.len() <= at {
                self.numbered.resize(at + 1, UNNUMBERED);
            }
            self.numbered[at] = index;
        }
        index
    }

    fn find_destination(&mut self, record: &SocketRecord) -> u32 {
        let next = self.endpoints.len() as u32;
        let endpoints = Endpoints {
            local: Address::of(record.id.local_address),
            remote: Address::of(record.id.remote_address),
            remote_port: record.id.remote_port,
        };
        *self.endpoints.entry(endpoints).or_insert(next)
    }

    fn hold(&mut self, record: &SocketRecord) {
        if self.pool.ports().contains(record.id.local_port) {
            self.holders.insert((Address::of(record.id.local_address), record.id.local_port));
        }
    }

    /// An empty sweep of the same namespace that knows the listeners this one has seen: for a part of the sockets
    /// that is read by another thread, and [`absorb`](Self::absorb)ed when it is done.
    pub fn part(&self) -> Sweep {
        Sweep { listening: self.listening.clone(), ..Sweep::new(&self.settings) }
    }

    /// Adds what another sweep of the same namespace has taken, as if its records had been taken here. The parts must
    /// be disjoint: a repeat is noticed within a part only.
    ///
    /// Cost: a copy of 8 bytes per outgoing socket, a hash per destination.
    pub fn absorb(&mut self, part: Sweep) {
        self.records += part.records;
        self.duplicates += part.duplicates;
        self.interrupted += part.interrupted;
        self.malformed += part.malformed;
        self.counts.add_all(&part.counts);
        self.orphans += part.orphans;
        self.unbound += part.unbound;
        self.listener_sockets += part.listener_sockets;
        self.bound_sockets += part.bound_sockets;
        self.listening = self.listening.union(&part.listening);
        self.bound = self.bound.union(&part.bound);
        self.explicit = self.explicit.union(&part.explicit);
        self.holders.extend(part.holders);
        self.here.extend(part.here);
        self.closes.add_all(&part.closes);
        self.tallies.absorb(part.tallies);
        self.udp.absorb(part.udp);
        self.stuck.absorb(part.stuck);
        let mut index_here = vec![0; part.endpoints.len()];
        for (endpoints, index) in part.endpoints {
            let next = self.endpoints.len() as u32;
            index_here[index as usize] = *self.endpoints.entry(endpoints).or_insert(next);
        }
        self.uses.extend(part.uses.iter().map(|one| one.with_destination(index_here[one.destination()])));
    }

    /// Notes that the kernel said a dump was interrupted (NLM_F_DUMP_INTR): it may repeat or miss sockets.
    pub fn note_interrupted(&mut self) {
        self.interrupted += 1;
    }

    /// Notes repeats that were left out before they came here.
    pub fn note_duplicates(&mut self, records: u64) {
        self.duplicates += records;
        self.records += records;
    }

    /// Notes messages that were no records.
    pub fn note_malformed(&mut self, records: u64) {
        self.malformed += records;
    }

    /// Folds everything into a report, its destinations sorted by [`SortKey::InUse`](crate::SortKey::InUse).
    ///
    /// Cost: sorts the outgoing sockets, about 40 ns each, 75 ns with 100,000 destinations.
    pub fn finish(self, counters: &Counters) -> Report {
        self.finish_settled(counters, |_| Settled::default())
    }

    /// As [`finish`](Self::finish), but where records leave open which ports are skipped by connect(), `settle` is asked:
    /// it is given every usable port that has a socket, and says of which it found out.
    pub fn finish_settled(mut self, counters: &Counters, settle: impl FnOnce(&PortSet) -> Settled) -> Report {
        self.move_incoming();
        let endpoints = self.sort_uses();
        let mut here = std::mem::take(&mut self.here);
        // Not all endpoints: those of incoming sockets are there or not by the order of the records.
        let of_destinations = self.uses.chunk_by(|a, b| a.destination() == b.destination());
        here.extend(of_destinations.map(|uses| endpoints[uses[0].destination()].local));
        let in_use: PortSet = self.uses.iter().map(|one| one.port()).collect();
        let known = self.listening.union(&self.bound).union(&self.explicit);
        let settled = settle(&in_use.intersection(self.pool.ports()).minus(&known));
        let explicit = self.explicit.union(&settled.skipped).intersection(self.pool.ports());
        let held = known.union(&settled.skipped).intersection(self.pool.ports());
        let usable = self.pool.ports().minus(&held);
        let listened = held.intersection(&self.listening).count();
        let by_number = explicit.minus(&self.listening).count();
        let held_by = HeldBy {
            listeners: listened,
            bound_by_number: by_number,
            bound: held.count() - listened - by_number,
        };
        let ground = Ground { pool: &self.pool, usable: &usable, shared: &settled.shared, here: &here };
        let folded = fold(&self.uses, &endpoints, &ground);
        let bindable = bindable(
            &self.pool,
            std::mem::take(&mut self.holders).into_iter().collect(),
            &self.uses,
            &endpoints,
            &explicit,
        );
        let (listeners, other) = self.tallies.divide(&self.listening);
        let mut outgoing = Traffic::default();
        folded.destinations.iter().for_each(|destination| outgoing.add(destination.traffic));
        let mut incoming = Traffic::default();
        listeners.iter().for_each(|listener| incoming.add(listener.traffic));
        let mut report = Report {
            records: self.records,
            duplicates: self.duplicates,
            sockets: self.counts,
            orphans: self.orphans,
            listener_sockets: self.listener_sockets,
            bound_sockets: self.bound_sockets,
            unbound_sockets: self.unbound,
            tcp: TcpPool {
                reserved: self.pool.reserved(),
                held: held.count(),
                usable: usable.count(),
                held_ports: held,
                held_by,
                explicit: explicit.count(),
                explicit_ports: explicit,
                bindable,
                suspects: folded.suspects,
                pool: self.pool.clone(),
            },
            udp: self.udp.finish(&self.pool),
            destinations: folded.destinations,
            ages: folded.ages,
            listeners,
            outgoing,
            incoming,
            other,
            churn: None,
            closes: self.closes,
            stuck: self.stuck.finish(),
            warnings: Vec::new(),
        };
        report.sort_by(crate::SortKey::default());
        let doubts = SweepDoubts {
            duplicates: self.duplicates,
            interrupted: self.interrupted,
            malformed: self.malformed,
        };
        report.warnings = judge(&report, &self.settings, counters, &doubts);
        report
    }

    /// Moves sockets whose port turned out to have a listener from the outgoing to the incoming ones.
    fn move_incoming(&mut self) {
        let Sweep { listening, tallies, holders, pool, .. } = self;
        if !self.uses.iter().any(|one| listening.contains(one.port())) {
            return;
        }
        let mut met: Vec<(u32, Address)> =
            self.endpoints.iter().map(|(endpoints, index)| (*index, endpoints.local)).collect();
        met.sort_unstable_by_key(|(index, _)| *index);
        self.uses.retain(|one| {
            let incoming = listening.contains(one.port());
            if incoming {
                tallies.add(one.port(), one.closed_seconds_ago());
                let found = met.binary_search_by_key(&(one.destination() as u32), |(index, _)| *index);
                if let Some((_, local)) =
                    found.ok().filter(|_| pool.ports().contains(one.port())).map(|at| met[at])
                {
                    holders.insert((local, one.port()));
                }
            }
            !incoming
        });
    }

    /// Gives destinations their rank by name instead of the order they were met in, and sorts their sockets by it.
    fn sort_uses(&mut self) -> Vec<Endpoints> {
        let mut met: Vec<(Endpoints, u32)> = std::mem::take(&mut self.endpoints).into_iter().collect();
        met.sort_unstable_by_key(|(endpoints, _)| *endpoints);
        let mut rank_of = vec![0; met.len()];
        for (rank, (_, index)) in met.iter().enumerate() {
            rank_of[*index as usize] = rank as u32;
        }
        for one in &mut self.uses {
            *one = one.with_destination(rank_of[one.destination()]);
        }
        PortUse::sort(&mut self.uses, met.len());
        met.into_iter().map(|(endpoints, _)| endpoints).collect()
    }
}
