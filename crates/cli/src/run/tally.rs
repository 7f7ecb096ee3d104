//! What a command's sockets did, added up while it runs: ends as they are told, peaks as each look finds them.
//!
//! Leaves to others: whether that is too much (`sockeye_gate`).

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use sockeye_core::{
    Bounded, Closed, ClosedBy, DestinationId, Direction, Group, GroupLifetimes, LifetimeReport,
    LifetimeSample, Lifetimes, OwnerId, Percentiles,
};
use sockeye_gate::{Account, Count, DestinationAccount, Leak, LeakKind, Lived, Scope, Span};

use super::descent::is_ending;
use super::scope::Look;
use crate::by::FormerOwner;

/// A connection that nothing was sent on for so long before its process ended was open for no reason.
const IDLE_MS: u64 = 100;
/// What would make leaks certain.
const LEAKS_DOUBTED: &str = "some may have been closed just before their process ended, or just not: as root (CAP_PERFMON) the kernel tells which";
/// Owners that are told apart for each destination.
const MOST_OWNERS: usize = 64;

/// What is known so far.
#[derive(Default)]
pub(crate) struct Tally {
    towards: BTreeMap<DestinationId, Towards>,
    closes: u64,
    closed_by: [u64; 4],
    exchanges: Exchanges,
    /// Of those that ended, by direction. Then those that may be the command's or not.
    ended: Sides,
    /// Either; only accepted.
    perhaps: [u64; 2],
    lifetimes: Lifetimes,
    sample: LifetimeSample,
    peak_live: u64,
    /// By kind, place, owner, and whether it is certain.
    leaks: BTreeMap<(LeakKind, Option<SocketAddr>, String, bool), u64>,
    /// Bound sockets without connection, and those in CLOSE_WAIT, at the last two looks before the end.
    bound: [u32; 2],
    half_closed: [u32; 2],
    /// Connections begun here that ended when nobody could tell that their process went on, and are not told as leaks.
    missed: u64,
    /// Accepted connections whose client had closed, and that were left to the end of their process.
    abandoned: u64,
    /// Accepted connections of which nobody heard who closed them.
    unheard: u64,
    /// What outlives the command has been told.
    has_left: bool,
}

/// Of one destination.
#[derive(Default)]
struct Towards {
    closes: u64,
    peak_live: u64,
    peak_ports: u64,
    /// As there may have been between two looks.
    most_ports: u64,
    /// As of the last look.
    before: Before,
    peak_occupancy: f64,
    exchanges: Exchanges,
    leaked: u64,
    /// Of these, told by timing.
    leaked_perhaps: u64,
    missed: u64,
    owners: HashMap<String, u64>,
}

#[derive(Clone, Copy, Default)]
struct Before {
    live: u64,
    ports: u64,
    closes: u64,
    /// Opened between this look and the one before it.
    opened: u64,
}

/// Segments with data, to and fro: a request and its answer take one of each at least.
#[derive(Clone, Copy, Default)]
struct Exchanges {
    connections: u64,
    at_most: u64,
}

/// Connections by who began them.
#[derive(Clone, Copy, Default)]
struct Sides {
    outgoing: u64,
    incoming: u64,
    unknown: u64,
}

impl Sides {
    fn add(&mut self, direction: Direction) {
        match direction {
            Direction::Outgoing => self.outgoing += 1,
            Direction::Incoming => self.incoming += 1,
            Direction::Unknown => self.unknown += 1,
        }
    }
}

impl Exchanges {
    fn add(&mut self, closed: &Closed) {
        // A reset clears the counts.
        let Some(end) = closed.end.filter(|end| !end.is_reset && closed.direction == Direction::Outgoing)
        else {
            return;
        };
        if let (Some(out), Some(in_)) = (end.data_segments_out, end.data_segments_in) {
            self.connections += 1;
            self.at_most += u64::from(out.min(in_));
        }
    }

    fn per_connection(self) -> Option<f64> {
        (self.connections > 0).then(|| self.at_most as f64 / self.connections as f64)
    }
}

/// What was true when it was over.
pub(crate) struct Finish {
    pub(crate) scope: Scope,
    pub(crate) look: Look,
    pub(crate) opens: Count,
    pub(crate) accepts: Count,
    pub(crate) duration_ms: u64,
    pub(crate) notes: Vec<String>,
}

impl Tally {
    /// A look at the sockets.
    pub(crate) fn looked(&mut self, look: &Look, is_running: bool) {
        self.peak_live = self.peak_live.max(look.outgoing + look.incoming);
        if is_running {
            self.bound = [look.bound, self.bound[0]];
            self.half_closed = [look.half_closed, self.half_closed[0]];
        }
        for (id, there) in &look.towards {
            let towards = self.towards.entry(*id).or_default();
            towards.peak_live = towards.peak_live.max(there.live);
            towards.peak_ports = towards.peak_ports.max(there.ports);
            towards.peak_occupancy = towards.peak_occupancy.max(there.occupancy);
        }
        for (id, towards) in &mut self.towards {
            let there = look.towards.get(id).copied().unwrap_or_default();
            let before = towards.before;
            let opened = (towards.closes - before.closes + there.live).saturating_sub(before.live);
            // All that was opened since then may have been there at once; and some ends are told a look late.
            towards.most_ports = towards.most_ports.max(before.ports + before.opened + opened);
            towards.before = Before { live: there.live, ports: there.ports, closes: towards.closes, opened };
        }
    }

    /// A connection has ended that may be the command's, or not; `incoming`: if it is, then the command has accepted it.
    pub(crate) fn ended_perhaps(&mut self, at_exit: Option<bool>, incoming: bool) {
        self.perhaps[usize::from(incoming)] += 1;
        self.missed += u64::from(!incoming && at_exit != Some(false));
    }

    /// A connection has ended; `at_exit`: because its process did, if that is known. To be told while its process still can
    /// be asked whether it is ending.
    pub(crate) fn ended(&mut self, closed: &Closed, owner: Option<&FormerOwner>, at_exit: Option<bool>) {
        self.closes += 1;
        self.ended.add(closed.direction);
        self.lifetimes.record(closed.group(), closed.lifetime);
        self.sample.record(closed.lifetime);
        let by = match closed.closed_by {
            ClosedBy::Local => 0,
            ClosedBy::Remote => 1,
            ClosedBy::Reset => 2,
            ClosedBy::Unknown => 3,
        };
        self.closed_by[by] += 1;
        self.exchanges.add(closed);
        // What is left running has been told.
        let pid = owner.and_then(|owner| owner.name.pid);
        let (is_leaked, is_certain) = match (self.has_left, at_exit) {
            (true, _) => (false, true),
            // Refused, or given up: there was nothing to close.
            _ if closed.end.is_some_and(|end| end.established == Some(false)) => (false, true),
            // Whoever accepts may be about to close when it ends, as its client just has.
            (false, Some(at_exit)) => (at_exit && closed.direction == Direction::Outgoing, true),
            (false, None) => {
                let is_leaked = was_idle(closed) && pid.is_some_and(is_ending);
                // Busy to the last, or of a process that nobody had met: a leak all the same, for all that is known.
                let may_be = closed.direction != Direction::Incoming && pid.is_none_or(is_ending);
                (is_leaked, !may_be)
            }
        };
        // Whose listener a sweep has just missed is of neither direction.
        let is_abandoned = closed.direction != Direction::Outgoing && closed.closed_by == ClosedBy::Remote;
        self.abandoned += u64::from(is_abandoned && at_exit == Some(true));
        self.unheard += u64::from(closed.direction != Direction::Outgoing && at_exit.is_none());
        let is_missed = !is_leaked && !is_certain;
        self.missed += u64::from(is_missed);
        let label = owner.map(|owner| owner.label.clone()).unwrap_or_default();
        if is_leaked {
            let kind = match closed.closed_by {
                // Else the other side has but just ended, too.
                ClosedBy::Remote if self.long_half_closed() > 0 || !is_certain => LeakKind::CloseWait,
                _ => LeakKind::Open,
            };
            *self.leaks.entry((kind, closed.remote, label.clone(), is_certain)).or_default() += 1;
        }
        if let Group::Destination(id) = closed.group() {
            let towards = self.towards.entry(id).or_default();
            towards.closes += 1;
            towards.exchanges.add(closed);
            towards.leaked += u64::from(is_leaked);
            towards.leaked_perhaps += u64::from(is_leaked && !is_certain);
            towards.missed += u64::from(is_missed);
            if !label.is_empty()
                && (towards.owners.len() < MOST_OWNERS || towards.owners.contains_key(&label))
            {
                *towards.owners.entry(label).or_default() += 1;
            }
        }
    }

    /// All of it.
    pub(crate) fn account(mut self, finish: Finish) -> Account {
        if !self.has_left {
            // Their processes have ended, and the kernel still tries to tell the other side.
            self.unheard += finish.look.incoming;
            self.missed += finish.look.outgoing;
            for (id, there) in &finish.look.towards {
                self.towards.entry(*id).or_default().missed += there.live;
            }
        }
        self.tell_forgotten();
        let lifetimes = self.lifetimes.report(std::iter::empty());
        let lived_there: HashMap<DestinationId, &GroupLifetimes> =
            destinations(&lifetimes).into_iter().collect();
        let seen_there = |id: &DestinationId, towards: &Towards| {
            towards.closes + finish.look.towards.get(id).map_or(0, |there| there.live)
        };
        let told: u64 = self.towards.iter().map(|(id, towards)| seen_there(id, towards)).sum();
        let unseen = finish.opens.max.saturating_sub(told);
        let met = self.towards.iter().filter(|(id, towards)| seen_there(id, towards) > 0);
        let mut destinations: Vec<DestinationAccount> = met
            .map(|(id, towards)| {
                let mut owners: Vec<(String, u64)> =
                    towards.owners.iter().map(|(owner, closes)| (owner.clone(), *closes)).collect();
                owners.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                let seen = seen_there(id, towards);
                DestinationAccount {
                    local_address: id.local_address,
                    remote: SocketAddr::new(id.remote_address, id.remote_port),
                    opens: Count::between(seen, seen + unseen),
                    closes: towards.closes,
                    // Each was there at some time, whatever looks saw.
                    peak_live: towards.peak_live.max(1),
                    peak_ports: {
                        let peak = towards.peak_ports.max(1);
                        Count::between(peak, towards.most_ports.min(seen) + unseen)
                    },
                    peak_occupancy: towards.peak_occupancy,
                    time_wait_left: finish.look.towards.get(id).map_or(0, |there| there.time_wait),
                    exchanges: towards.exchanges.per_connection(),
                    lived: lived_there.get(id).map(|group| lived(group)).unwrap_or_default(),
                    leaked: Count::between(
                        towards.leaked - towards.leaked_perhaps,
                        towards.leaked + towards.missed,
                    ),
                    owners,
                }
            })
            .collect();
        destinations.sort_by_key(|one| (std::cmp::Reverse(one.opens.min), one.remote, one.local_address));
        let mut leaks: Vec<Leak> = self
            .leaks
            .into_iter()
            .map(|((kind, remote, owner, is_certain), count)| Leak { kind, remote, owner, count, is_certain })
            .collect();
        leaks.sort_by_key(|leak| std::cmp::Reverse(leak.count));
        let is_doubted = self.missed > 0 || leaks.iter().any(|leak| !leak.is_certain);
        let most_ports =
            |of: fn(Count) -> u64| destinations.iter().map(|one| of(one.peak_ports)).max().unwrap_or(0);
        Account {
            scope: finish.scope,
            duration_ms: finish.duration_ms,
            opens: finish.opens,
            accepts: finish.accepts,
            closes: self.closes,
            peak_live: self.peak_live.max(u64::from(self.closes > 0)),
            peak_ports: Count::between(most_ports(|ports| ports.min), most_ports(|ports| ports.max)),
            peak_occupancy: destinations.iter().map(|one| one.peak_occupancy).fold(0.0, f64::max),
            time_wait_left: finish.look.time_wait,
            exchanges: self.exchanges.per_connection(),
            closed_by: self.closed_by,
            lived: lived(&lifetimes.total),
            lived_sample: self
                .sample
                .rows()
                .iter()
                .map(|(lived, n)| (lived.min_ms, lived.max_ms, *n))
                .collect(),
            leaks_doubt: is_doubted.then(|| LEAKS_DOUBTED.to_owned()),
            leaks,
            leaks_missed: self.missed,
            destinations,
            notes: finish.notes,
        }
    }

    /// What two looks have found ended with its process, whoever was to close it: bound sockets tell nobody of their end, and
    /// of those that were accepted nothing else tells whether the client had closed long ago.
    fn tell_forgotten(&mut self) {
        let told: u64 =
            self.leaks.iter().filter(|(leak, _)| leak.0 == LeakKind::CloseWait).map(|(_, n)| n).sum();
        let half_closed = self.long_half_closed().saturating_sub(told);
        // Of those some may have been closed since; these were not.
        let abandoned = half_closed.min(self.abandoned);
        let bound = u64::from(self.bound[0].min(self.bound[1]));
        for (kind, count, is_certain) in [
            (LeakKind::BoundIdle, bound, false),
            (LeakKind::CloseWait, abandoned, true),
            (LeakKind::CloseWait, (half_closed - abandoned).min(self.unheard), false),
        ] {
            if !self.has_left && count > 0 {
                *self.leaks.entry((kind, None, String::new(), is_certain)).or_default() += count;
            }
        }
    }

    /// Sockets whose other side had closed in both of the last looks.
    fn long_half_closed(&self) -> u64 {
        self.half_closed[0].min(self.half_closed[1]).into()
    }

    /// The command has ended and others go on that it started: what they hold is left, whatever becomes of it.
    pub(crate) fn left(&mut self, look: &Look) {
        self.has_left = true;
        for (id, there) in look.towards.iter().filter(|(_, there)| there.live > 0) {
            let remote = SocketAddr::new(id.remote_address, id.remote_port);
            *self.leaks.entry((LeakKind::LeftRunning, Some(remote), String::new(), true)).or_default() +=
                there.live;
            self.towards.entry(*id).or_default().leaked += there.live;
        }
        if look.bound > 0 {
            self.leaks.insert((LeakKind::BoundIdle, None, String::new(), true), look.bound.into());
        }
    }

    /// Connections of the command that were seen, outgoing and incoming ones; and how many more ended that may be its own.
    pub(crate) fn seen(&self, look: &Look) -> [Count; 2] {
        let [either, accepted] = self.perhaps;
        let count = |seen: u64, perhaps: u64| Count::between(seen, seen + perhaps + self.ended.unknown);
        [
            count(self.ended.outgoing + look.outgoing, either),
            count(self.ended.incoming + look.incoming, either + accepted),
        ]
    }
}

/// A connection with its direction as the run can tell it. The Monitor takes what has a port of the range for outgoing until
/// it meets the listener, and of a test's server there may never be a sight. `hears_connects`: who connects is known then.
pub(crate) fn placed(closed: &Closed, hears_connects: bool) -> Closed {
    // No sweep has seen it, and nobody is known to have made it.
    let Some(end) = closed.end.filter(|_| closed.owner == OwnerId::UNKNOWN) else { return *closed };
    let is_there = end.established == Some(true) && !end.is_reset;
    let direction = match end.controls_acked {
        Some(2) => Direction::Outgoing,
        _ if hears_connects && is_there => Direction::Incoming,
        // Whoever connects has a SYN and a FIN acknowledged, unless the other side resets.
        Some(0 | 1) if is_there => Direction::Incoming,
        _ => closed.direction,
    };
    let closed_by = match closed.closed_by {
        // It seemed to have left a FIN without answer.
        ClosedBy::Reset if direction != closed.direction => ClosedBy::Unknown,
        known => known,
    };
    Closed { direction, closed_by, ..*closed }
}

/// Whether nothing was sent or received for long before a connection that was opened here ended: if its process was ending,
/// too, nobody had closed it. One that was accepted stays open as long as its client likes.
fn was_idle(closed: &Closed) -> bool {
    let Some(end) = closed.end.filter(|_| closed.direction == Direction::Outgoing) else { return false };
    // Ages are as of the event, which may come late: by as much as an acknowledged FIN is old.
    let late = match closed.is_orderly() {
        Some(true) => end.heard_ms.unwrap_or(0),
        _ => 0,
    };
    end.min_age_ms.is_some_and(|age| age.saturating_sub(late) >= IDLE_MS)
}

fn destinations(lifetimes: &LifetimeReport) -> Vec<(DestinationId, &GroupLifetimes)> {
    let groups = lifetimes.groups.iter();
    groups
        .filter_map(|group| match group.group {
            Some(Group::Destination(id)) => Some((id, group)),
            _ => None,
        })
        .collect()
}

fn lived(group: &GroupLifetimes) -> Lived {
    let at = |which: fn(&Percentiles) -> Bounded| {
        group.completed_ms.as_ref().map(|all| Span { min_ms: which(all).min_ms, max_ms: which(all).max_ms })
    };
    Lived {
        completed: group.completed,
        p50: at(|all| all.p50),
        p90: at(|all| all.p90),
        p99: at(|all| all.p99),
    }
}
