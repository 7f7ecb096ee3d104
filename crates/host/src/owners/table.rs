//! Who holds which socket: the descriptors of each process as last seen, and the holders of each socket's inode.
//!
//! Leaves to others: reading descriptors (`numbered`, `reading`) and deciding whose to read (`search`).

use std::hash::BuildHasher;
use std::num::NonZeroU32;

use hashbrown::{HashMap, HashTable};

use super::numbered::Target;
use super::slots::{Place, Slot, Slots};

/// Where a socket was made, as its record tells: processes of the same cgroup and user are asked first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Origin {
    pub(super) cgroup: Option<u64>,
    pub(super) uid: u32,
}

impl Origin {
    /// Whether two sockets are of one cgroup, or of one user.
    pub(super) fn is_akin(self, other: Origin) -> bool {
        self.uid == other.uid || self.cgroup.is_some() && self.cgroup == other.cgroup
    }
}

/// A descriptor of a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Holder {
    pub(super) pid: u32,
    pub(super) descriptor: u32,
}

/// What is known of a process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) start_time: u64,
    /// Owner of its folder when last listed.
    pub(super) uid: u32,
    /// The cgroup it was found in, by id; None when it was found otherwise.
    pub(super) cgroup: Option<u64>,
    /// Made when its first socket is found.
    pub(super) owner: Option<NonZeroU32>,
    /// Origins of wanted sockets it turned out to hold, the latest last.
    pub(super) origins: Vec<Origin>,
    /// The pass that saw it first.
    pub(super) known_since: u64,
    /// The pass in which it last turned out to hold a wanted socket.
    pub(super) lucky: u64,
    /// The pass whose reading of every one of its descriptors is the latest that came to its end; None: no reading did.
    pub(super) read_in: Option<u64>,
    /// It may not be looked into.
    pub(super) denied: bool,
}

/// More origins of one process than any service has.
const ORIGINS: usize = 16;

impl Process {
    pub(super) fn new(start_time: u64, uid: u32, cgroup: Option<u64>, pass: u64) -> Process {
        Process {
            start_time,
            uid,
            cgroup,
            owner: None,
            origins: Vec::new(),
            known_since: pass,
            lucky: 0,
            read_in: None,
            denied: false,
        }
    }

    pub(super) fn had_luck(&mut self, origin: Origin, pass: u64) {
        self.lucky = pass;
        if self.origins.last() == Some(&origin) {
            return;
        }
        self.origins.retain(|known| *known != origin);
        if self.origins.len() == ORIGINS {
            self.origins.remove(0);
        }
        self.origins.push(origin);
    }
}

/// All processes that were looked at, and the sockets found.
#[derive(Default, Debug)]
pub(super) struct Table {
    pub(super) processes: HashMap<u32, Process>,
    pub(super) slots: Slots,
    /// A place of each socket, by its inode, which stands there.
    holders: HashTable<Place>,
    hasher: InodeHasher,
    /// Of sockets that several descriptors are open for: all places but the one in `holders`.
    shared: HashMap<u32, Vec<Place>>,
}

/// The kernel counts inodes up. Under one seed of twenty the faster hasher puts such numbers into crowds, in which every
/// removal leaves a mark that takes room: the tables grew to twice their size for nothing.
pub(super) type InodeHasher = foldhash::quality::RandomState;

/// Room for so many sockets is not worth giving back.
pub(super) const FEW: usize = 4096;

impl Table {
    /// Notes what a descriptor is open for; whether that is a socket which was not there before. The process must be known.
    pub(super) fn set(&mut self, holder: Holder, target: Target) -> bool {
        if !self.processes.contains_key(&holder.pid) {
            return false;
        }
        let slot = match target {
            Target::Socket(inode) => Slot::Socket(inode),
            Target::Other => Slot::Other,
            Target::Closed => Slot::Closed,
        };
        let Some((before, place)) = self.slots.set(holder, slot).filter(|(before, _)| *before != slot) else {
            return false;
        };
        if let Slot::Socket(inode) = before {
            self.let_go(inode, place);
        }
        if let Slot::Socket(inode) = slot {
            match self.first(inode) {
                None => self.insert(inode, place),
                Some(_) => self.shared.entry(inode).or_default().push(place),
            }
        }
        matches!(slot, Slot::Socket(_))
    }

    /// Makes room for so many more sockets, so that no reading has to.
    pub(super) fn expect(&mut self, sockets: usize) {
        let (hasher, slots) = (&self.hasher, &self.slots);
        self.holders.reserve(sockets, |place| hasher.hash_one(slots.socket(*place).unwrap_or_default()));
    }

    /// Gives back room for sockets that are gone, or have not come.
    pub(super) fn give_back(&mut self) {
        if self.holders.capacity() > FEW && self.holders.len() * 4 < self.holders.capacity() {
            let (hasher, slots) = (&self.hasher, &self.slots);
            let room = self.holders.len() * 2;
            self.holders.shrink_to(room, |place| hasher.hash_one(slots.socket(*place).unwrap_or_default()));
        }
    }

    fn insert(&mut self, inode: u32, place: Place) {
        let (hasher, slots) = (&self.hasher, &self.slots);
        self.holders.insert_unique(hasher.hash_one(inode), place, |place| {
            hasher.hash_one(slots.socket(*place).unwrap_or_default())
        });
    }

    fn first(&self, inode: u32) -> Option<Place> {
        let is_its = |place: &Place| self.slots.socket(*place) == Some(inode);
        self.holders.find(self.hasher.hash_one(inode), is_its).copied()
    }

    /// The socket is not there any more; what is there instead may stand in the slot.
    fn let_go(&mut self, inode: u32, place: Place) {
        let mut others = self.shared.remove(&inode).unwrap_or_default();
        if let Some(at) = others.iter().position(|other| *other == place) {
            others.swap_remove(at);
        } else if let Ok(mut first) =
            self.holders.find_entry(self.hasher.hash_one(inode), |first| *first == place)
        {
            match others.pop() {
                Some(next) => *first.get_mut() = next,
                None => drop(first.remove()),
            }
        }
        if !others.is_empty() {
            self.shared.insert(inode, others);
        }
    }

    /// The socket is known to live until somebody says that it is gone: its descriptors need not be looked at meanwhile.
    pub(super) fn vouch(&mut self, inode: u32) {
        let Some(first) = self.first(inode) else { return };
        self.slots.vouch(first);
        for other in self.shared.get(&inode).into_iter().flatten() {
            self.slots.vouch(*other);
        }
    }

    /// The socket is gone: its descriptors may be given out again.
    pub(super) fn vacate(&mut self, inode: u32) {
        let is_its = |place: &Place| self.slots.socket(*place) == Some(inode);
        let Ok(first) = self.holders.find_entry(self.hasher.hash_one(inode), is_its) else { return };
        let (first, _) = first.remove();
        self.slots.vacate(first);
        for other in self.shared.remove(&inode).unwrap_or_default() {
            self.slots.vacate(other);
        }
        self.give_back();
    }

    /// Every descriptor that is open for the socket.
    pub(super) fn holders(&self, inode: u32) -> impl Iterator<Item = Holder> {
        let others = self.shared.get(&inode).map_or(&[][..], Vec::as_slice);
        self.first(inode)
            .into_iter()
            .chain(others.iter().copied())
            .filter_map(|place| self.slots.holder(place))
    }

    /// The process has ended.
    pub(super) fn remove(&mut self, pid: u32) -> Option<Process> {
        let process = self.processes.remove(&pid)?;
        let held: Vec<(Place, u32)> = self.slots.sockets(pid).collect();
        for (place, inode) in held {
            self.let_go(inode, place);
        }
        self.slots.remove(pid);
        self.give_back();
        Some(process)
    }

    /// Sockets whose holder is known.
    pub(super) fn sockets(&self) -> usize {
        self.holders.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u32, Target),
        Vacate(u32),
        End(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        let target = prop_oneof![
            4 => (1u32..6).prop_map(Target::Socket),
            1 => Just(Target::Other),
            1 => Just(Target::Closed),
            1 => Just(Target::Socket(u32::MAX)),
        ];
        prop_oneof![
            8 => (1u32..4, 0u32..600, target).prop_map(|(pid, fd, target)| Step::Set(pid, fd % 5 * 128, target)),
            1 => (1u32..6).prop_map(Step::Vacate),
            1 => (1u32..4).prop_map(Step::End),
        ]
    }

    proptest! {
        /// Against a plain map of descriptors.
        #[test]
        fn holders_are_the_descriptors_that_are_open(steps in proptest::collection::vec(step(), 0..60)) {
            let mut table = Table::default();
            let mut model: BTreeMap<(u32, u32), u32> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Set(pid, descriptor, target) => {
                        table.processes.entry(pid).or_insert_with(|| Process::new(0, 0, None, 0));
                        table.set(Holder { pid, descriptor }, target);
                        match target {
                            Target::Socket(inode) => model.insert((pid, descriptor), inode),
                            _ => model.remove(&(pid, descriptor)),
                        };
                    }
                    Step::Vacate(inode) => {
                        table.vacate(inode);
                        model.retain(|_, held| *held != inode);
                    }
                    Step::End(pid) => {
                        table.remove(pid);
                        model.retain(|(holder, _), _| *holder != pid);
                    }
                }
                for inode in (1..6).chain([u32::MAX]) {
                    let told: Vec<Holder> = table.holders(inode).collect();
                    let told_once: BTreeSet<Holder> = told.iter().copied().collect();
                    let expected: BTreeSet<Holder> = model
                        .iter()
                        .filter(|(_, held)| **held == inode)
                        .map(|((pid, descriptor), _)| Holder { pid: *pid, descriptor: *descriptor })
                        .collect();
                    prop_assert_eq!(told.len(), told_once.len());
                    prop_assert_eq!(told_once, expected);
                }
                let sockets: BTreeSet<u32> = model.values().copied().collect();
                prop_assert_eq!(table.sockets(), sockets.len());
                prop_assert!(table.shared.values().all(|others| !others.is_empty()));
            }
        }
    }
}
