//! Sums over the connections of a segment: what a report of a long period reads in their place.
//!
//! Lifetimes are rounded outward to their eight highest bits. A reader that counts them in bins as narrow or wider comes to the
//! same with the sums as with the connections.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt as _};

use crate::rows::{Connection, Sum, Time};
use crate::words::{ClosedBy, Direction, Protocol, SumKind};

/// Memory that sums take while a segment is rolled, at the most: beyond it they are given up.
const MOST_BYTES: usize = 16 << 20;
/// Sums are for segments in which one stands for so many connections: others are read as fast without, and would grow.
const WORTH: usize = 4;
/// The bits of a lifetime that count.
const BITS: u32 = 8;
/// A lifetime without an upper bound.
const UNBOUND: u32 = u32::MAX;

impl Sum {
    /// How long a stretch of connections by time is, milliseconds. It begins at a multiple of this since 1970.
    pub const STRETCH_MS: u64 = 15_000;
}

/// Sums that grow with each connection.
pub(crate) struct Sums {
    stretches: Grouping<Stretch, u32>,
    ends: Grouping<End, u32>,
    owners: Grouping<Owner, OwnerSum>,
    ports: HashMap<Port, u32>,
    /// Bounds of lifetimes, by number.
    lifetimes: HashMap<Bounds, u32>,
    connections: usize,
    span: [Time; 2],
    are_too_many: bool,
}

/// Rounded; those beyond 49 days are told as 49 days.
type Bounds = [u32; 2];

/// Sums over the connections of each key that lived between the same bounds.
struct Grouping<K, S> {
    /// In the order in which they came.
    keys: Vec<K>,
    numbers: HashMap<K, u32>,
    /// By number of the key, then by number of the bounds. Frequent ones come early: there are few holes.
    sums: Vec<Vec<S>>,
    bytes: usize,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Stretch {
    netns: u64,
    number: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct End {
    netns: u64,
    protocol: Protocol,
    direction: Direction,
    local_address: Option<IpAddr>,
    listener_port: Option<u16>,
    /// Of outgoing ones.
    remote_address: Option<IpAddr>,
    remote_port: Option<u16>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Owner {
    netns: u64,
    closed_by: ClosedBy,
    pid: Option<u32>,
    name: Option<Arc<str>>,
    uid: Option<u32>,
    user: Option<Arc<str>>,
    cgroup: Option<Arc<str>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Port {
    netns: u64,
    local_port: u16,
}

#[derive(Clone, PartialEq, Eq, Default)]
struct OwnerSum {
    connections: u32,
    bytes: Option<[u64; 2]>,
}

impl<K: Clone + Eq + Hash, S: Clone + PartialEq + Default> Grouping<K, S> {
    fn new() -> Grouping<K, S> {
        Grouping { keys: Vec::new(), numbers: HashMap::new(), sums: Vec::new(), bytes: 0 }
    }

    fn sum(&mut self, key: K, bounds: usize) -> &mut S {
        let number = match self.numbers.get(&key) {
            Some(number) => *number as usize,
            None => {
                let number = self.keys.len();
                self.bytes += 3 * size_of::<K>();
                self.keys.push(key.clone());
                self.numbers.insert(key, number as u32);
                self.sums.push(Vec::new());
                number
            }
        };
        let sums = &mut self.sums[number];
        if bounds >= sums.len() {
            self.bytes += (bounds + 1 - sums.len()) * size_of::<S>();
            sums.resize(bounds + 1, S::default());
        }
        &mut sums[bounds]
    }

    fn len(&self) -> usize {
        self.sums.iter().flatten().filter(|sum| **sum != S::default()).count()
    }

    fn each<E>(
        &self,
        lifetimes: &[(Bounds, u32)],
        mut take: impl FnMut(&K, Bounds, &S) -> Result<(), E>,
    ) -> Result<(), E> {
        for (key, sums) in self.keys.iter().zip(&self.sums) {
            for (bounds, number) in lifetimes {
                if let Some(sum) = sums.get(*number as usize).filter(|sum| **sum != S::default()) {
                    take(key, *bounds, sum)?;
                }
            }
        }
        Ok(())
    }
}

impl Sums {
    pub(crate) fn new() -> Sums {
        Sums {
            stretches: Grouping::new(),
            ends: Grouping::new(),
            owners: Grouping::new(),
            ports: HashMap::new(),
            lifetimes: HashMap::new(),
            connections: 0,
            span: [Time(u64::MAX), Time(0)],
            are_too_many: false,
        }
    }

    pub(crate) fn add(&mut self, row: &Connection) {
        if self.are_too_many {
            return;
        }
        self.connections += 1;
        self.span = [self.span[0].min(row.closed_earliest), self.span[1].max(row.closed_latest)];
        let most_ms = row.lifetime_max_ms.map_or(u64::MAX, |ms| ms.max(row.lifetime_min_ms));
        let bounds = [rounded(row.lifetime_min_ms)[0], rounded(most_ms)[1]];
        let next = self.lifetimes.len() as u32;
        let bounds = *self.lifetimes.entry(bounds).or_insert(next) as usize;
        let netns = row.netns;
        let at = row.closed_earliest.0.midpoint(row.closed_latest.0);
        *self.stretches.sum(Stretch { netns, number: at / Sum::STRETCH_MS }, bounds) += 1;
        let is_outgoing = row.direction == Direction::Outgoing;
        let end = End {
            netns,
            protocol: row.protocol,
            direction: row.direction,
            local_address: row.local_address,
            listener_port: row.local_port.filter(|_| !is_outgoing),
            remote_address: row.remote_address.filter(|_| is_outgoing),
            remote_port: row.remote_port.filter(|_| is_outgoing),
        };
        *self.ends.sum(end, bounds) += 1;
        let owner = Owner {
            netns,
            closed_by: row.closed_by,
            pid: row.owner_pid,
            name: row.owner_name.clone(),
            uid: row.owner_uid,
            user: row.owner_user.clone(),
            cgroup: row.owner_cgroup.clone(),
        };
        let owner = self.owners.sum(owner, bounds);
        owner.connections += 1;
        if let Some((sent, received)) = row.sent_bytes.zip(row.received_bytes) {
            let bytes = owner.bytes.get_or_insert_default();
            *bytes = [bytes[0].saturating_add(sent), bytes[1].saturating_add(received)];
        }
        if let Some(local_port) = row.local_port.filter(|_| is_outgoing) {
            *self.ports.entry(Port { netns, local_port }).or_insert(0) += 1;
        }
        let bytes = self.stretches.bytes + self.ends.bytes + self.owners.bytes;
        let bytes = bytes + self.ports.len() * 2 * size_of::<(Port, u32)>();
        if bytes + self.lifetimes.len() * 2 * size_of::<(Bounds, u32)>() > MOST_BYTES {
            *self = Sums { are_too_many: true, ..Sums::new() };
        }
    }

    /// Hands on the rows, if they are worth it.
    pub(crate) fn each<E>(&self, mut take: impl FnMut(Sum) -> Result<(), E>) -> Result<(), E> {
        let sums = self.stretches.len() + self.ends.len() + self.owners.len() + self.ports.len();
        if self.are_too_many || sums * WORTH > self.connections {
            return Ok(());
        }
        let mut lifetimes: Vec<_> =
            self.lifetimes.iter().map(|(bounds, number)| (*bounds, *number)).collect();
        lifetimes.sort_unstable();
        self.stretches.each(&lifetimes, |key, bounds, connections| {
            let begin = key.number * Sum::STRETCH_MS;
            let span = [begin, begin + (Sum::STRETCH_MS - 1)].map(Time);
            take(alike(SumKind::Time, key.netns, span, bounds, *connections))
        })?;
        self.ends.each(&lifetimes, |key, bounds, connections| {
            take(Sum {
                protocol: Some(key.protocol),
                direction: Some(key.direction),
                local_address: key.local_address,
                local_port: key.listener_port,
                remote_address: key.remote_address,
                remote_port: key.remote_port,
                ..alike(SumKind::End, key.netns, self.span, bounds, *connections)
            })
        })?;
        self.owners.each(&lifetimes, |key, bounds, sum| {
            take(Sum {
                closed_by: Some(key.closed_by),
                owner_pid: key.pid,
                owner_name: key.name.clone(),
                owner_uid: key.uid,
                owner_user: key.user.clone(),
                owner_cgroup: key.cgroup.clone(),
                sent_bytes: sum.bytes.map(|[sent, _]| sent),
                received_bytes: sum.bytes.map(|[_, received]| received),
                ..alike(SumKind::Owner, key.netns, self.span, bounds, sum.connections)
            })
        })?;
        let mut ports: Vec<_> = self.ports.iter().collect();
        ports.sort_unstable();
        for (port, connections) in ports {
            let alike = alike(SumKind::Port, port.netns, self.span, [0, UNBOUND], *connections);
            take(Sum { local_port: Some(port.local_port), ..alike })?;
        }
        Ok(())
    }
}

fn alike(kind: SumKind, netns: u64, span: [Time; 2], bounds: Bounds, connections: u32) -> Sum {
    Sum {
        earliest: span[0],
        latest: span[1],
        kind,
        netns,
        protocol: None,
        direction: None,
        local_address: None,
        local_port: None,
        remote_address: None,
        remote_port: None,
        closed_by: None,
        owner_pid: None,
        owner_name: None,
        owner_uid: None,
        owner_user: None,
        owner_cgroup: None,
        lifetime_min_ms: bounds[0].into(),
        lifetime_max_ms: (bounds[1] != UNBOUND).then_some(bounds[1].into()),
        connections: connections.into(),
        sent_bytes: None,
        received_bytes: None,
    }
}

/// The bounds between which a duration of as many milliseconds is when its highest bits alone are told.
fn rounded(ms: u64) -> Bounds {
    let Ok(ms) = u32::try_from(ms) else { return [UNBOUND - 1, UNBOUND] };
    let unknown = (u32::BITS - ms.leading_zeros()).saturating_sub(BITS);
    let least = ms >> unknown << unknown;
    [least, (least + ((1 << unknown) - 1)).min(UNBOUND - 1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::example;

    #[test]
    fn bounds_are_rounded_outward_and_stay_so() {
        for ms in (0..70_000).chain([86_399_999, 86_400_000, u64::from(u32::MAX) - 1]) {
            let [least, most] = rounded(ms).map(u64::from);
            assert!(least <= ms && ms <= most && most - least <= ms / 128, "{least} ≤ {ms} ≤ {most}");
            assert_eq!((rounded(least)[0], rounded(most)[1]), (least as u32, most as u32));
        }
        assert_eq!(rounded(u64::MAX), [UNBOUND - 1, UNBOUND]);
    }

    #[test]
    fn sums_beyond_measure_are_given_up() {
        let mut sums = Sums::new();
        // Each of another owner and another lifetime: as many sums as the square of their number.
        for number in 0..5_000 {
            let other = number * 100;
            let row = example::connection(1, 1);
            sums.add(&Connection {
                owner_pid: Some(number as u32),
                lifetime_min_ms: other,
                lifetime_max_ms: None,
                ..row
            });
        }
        assert!(sums.are_too_many);
        assert_eq!(sums.owners.sums.capacity() + sums.lifetimes.capacity(), 0);
        sums.each(|sum| Err(sum.connections)).unwrap();
    }
}
