//! Who holds which socket: the descriptors of each process as last seen, and the holders of each socket's inode.
//!
//! Leaves to others: reading descriptors (`numbered`, `reading`) and deciding whose to read (`search`).

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use hashbrown::HashMap;

use super::numbered::Target;

/// Where a socket was made, as its record tells: processes of the same cgroup and user are asked first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Origin {
    pub(super) cgroup: Option<u64>,
    pub(super) uid: u32,
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
    slots: Slots,
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
            slots: Slots::default(),
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

    /// Descriptors that were open when last seen, ascending.
    pub(super) fn open(&self) -> impl Iterator<Item = u32> {
        self.slots.open()
    }

    /// Its descriptors that are open for a socket, and the sockets' inodes.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (u32, u32)> {
        self.slots.sockets()
    }

    /// See [`Slots::next_doubtful`].
    pub(super) fn next_doubtful(&self, from: u32, closed_in_a_row: u32) -> u32 {
        self.slots.next_doubtful(from, closed_in_a_row)
    }
}

/// Descriptors closed one after the other, after which none is expected before the next one known: the kernel gives out
/// the lowest number that is free.
pub(super) const GAP: u32 = 16;

const PAGE: u32 = 256;

/// What each descriptor of a process was open for when last seen. Pages, so that a process with one descriptor of number
/// 1,000,000 costs a kilobyte.
#[derive(Default, Debug)]
struct Slots(BTreeMap<u32, Box<[u32; PAGE as usize]>>);

/// Not open when last seen, or never seen.
const CLOSED: u32 = 0;
/// The socket that was there is gone; the number may have been given out again.
const VACATED: u32 = u32::MAX - 1;
/// Open for something that is no socket.
const OTHER: u32 = u32::MAX;

/// The inode of a slot that is believed to be a socket.
fn believed(slot: u32) -> Option<u32> {
    (!matches!(slot, CLOSED | VACATED | OTHER)).then_some(slot)
}

impl Slots {
    /// Sets a slot and tells what it was.
    fn set(&mut self, descriptor: u32, slot: u32) -> u32 {
        let key = descriptor / PAGE;
        let at = (descriptor % PAGE) as usize;
        if slot == CLOSED {
            let Some(page) = self.0.get_mut(&key) else { return CLOSED };
            let before = std::mem::replace(&mut page[at], CLOSED);
            if before != CLOSED && page.iter().all(|slot| *slot == CLOSED) {
                self.0.remove(&key);
            }
            return before;
        }
        let page = self.0.entry(key).or_insert_with(|| Box::new([CLOSED; PAGE as usize]));
        std::mem::replace(&mut page[at], slot)
    }

    /// The first descriptor from `from` on that may have changed: that is not believed to be a socket. After a gap of
    /// closed ones, the first of these that was open when last seen; `u32::MAX` where there is none.
    fn next_doubtful(&self, from: u32, closed_in_a_row: u32) -> u32 {
        let mut at = from;
        if closed_in_a_row >= GAP {
            // On to the end of the gap: nothing before it is known to be open.
            match self.first_open(from) {
                Some(open) => at = open,
                None => return u32::MAX,
            }
        }
        while let Some(page) = self.0.get(&(at / PAGE)) {
            match (at % PAGE..PAGE).find(|slot| believed(page[*slot as usize]).is_none()) {
                Some(slot) => return at - at % PAGE + slot,
                None => at = (at - at % PAGE).saturating_add(PAGE),
            }
        }
        at
    }

    fn first_open(&self, from: u32) -> Option<u32> {
        self.0.range(from / PAGE..).find_map(|(key, page)| {
            let first = if *key == from / PAGE { from % PAGE } else { 0 };
            let open = (first..PAGE).find(|at| page[*at as usize] != CLOSED)?;
            Some(key * PAGE + open)
        })
    }

    fn open(&self) -> impl Iterator<Item = u32> {
        self.0.iter().flat_map(|(key, page)| {
            (0u32..).zip(page.iter()).filter(|(_, slot)| **slot != CLOSED).map(move |(at, _)| key * PAGE + at)
        })
    }

    fn sockets(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().flat_map(|(key, page)| {
            (0u32..).zip(page.iter()).filter_map(move |(at, slot)| Some((key * PAGE + at, believed(*slot)?)))
        })
    }
}

/// All processes that were looked at, and the sockets found.
#[derive(Default, Debug)]
pub(super) struct Table {
    pub(super) processes: HashMap<u32, Process>,
    holders: HashMap<u32, Holder>,
    /// Of sockets that several descriptors are open for: all but the one in `holders`.
    shared: HashMap<u32, Vec<Holder>>,
}

impl Table {
    /// Notes what a descriptor is open for. The process must be known.
    pub(super) fn set(&mut self, holder: Holder, target: Target) {
        let Some(process) = self.processes.get_mut(&holder.pid) else { return };
        let slot = match target {
            Target::Socket(inode) if believed(inode).is_some() => inode,
            Target::Socket(_) | Target::Other => OTHER,
            Target::Closed => CLOSED,
        };
        let before = process.slots.set(holder.descriptor, slot);
        if before == slot {
            return;
        }
        if let Some(inode) = believed(before) {
            self.let_go(inode, holder);
        }
        if let Some(inode) = believed(slot) {
            match self.holders.get(&inode) {
                None => {
                    self.holders.insert(inode, holder);
                }
                Some(_) => self.shared.entry(inode).or_default().push(holder),
            }
        }
    }

    /// Makes room for so many more sockets, so that no reading has to.
    pub(super) fn expect(&mut self, sockets: usize) {
        self.holders.reserve(sockets);
    }

    fn let_go(&mut self, inode: u32, holder: Holder) {
        if let Some(others) = self.shared.get_mut(&inode) {
            match others.iter().position(|other| *other == holder) {
                Some(at) => {
                    others.swap_remove(at);
                }
                None => {
                    if let Some(next) = others.pop() {
                        self.holders.insert(inode, next);
                    }
                }
            }
            if others.is_empty() {
                self.shared.remove(&inode);
            }
        } else {
            self.holders.remove(&inode);
        }
    }

    /// The socket is gone: its descriptors may be given out again.
    pub(super) fn vacate(&mut self, inode: u32) {
        let holders: Vec<Holder> = self.holders(inode).collect();
        for holder in holders {
            if let Some(process) = self.processes.get_mut(&holder.pid) {
                process.slots.set(holder.descriptor, VACATED);
            }
        }
        self.holders.remove(&inode);
        self.shared.remove(&inode);
    }

    /// Every descriptor that is open for the socket.
    pub(super) fn holders(&self, inode: u32) -> impl Iterator<Item = Holder> {
        let others = self.shared.get(&inode).map_or(&[][..], Vec::as_slice);
        self.holders.get(&inode).into_iter().chain(others).copied()
    }

    /// The process has ended.
    pub(super) fn remove(&mut self, pid: u32) -> Option<Process> {
        let process = self.processes.remove(&pid)?;
        for (descriptor, inode) in process.sockets() {
            self.let_go(inode, Holder { pid, descriptor });
        }
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
    use std::collections::BTreeSet;

    #[test]
    fn what_may_have_changed_is_asked_and_no_more() {
        let mut slots = Slots::default();
        for (descriptor, slot) in
            [(0, OTHER), (1, 10), (2, 11), (3, VACATED), (4, 12), (600, 13), (601, OTHER)]
        {
            slots.set(descriptor, slot);
        }
        let mut asked = Vec::new();
        let (mut at, mut closed) = (0, 0);
        loop {
            at = slots.next_doubtful(at, closed);
            if at == u32::MAX {
                break;
            }
            asked.push(at);
            closed = if matches!(at, 0 | 601) { 0 } else { closed + 1 };
            at += 1;
        }
        let expected: Vec<u32> = [0, 3].into_iter().chain(5..20).chain([601]).chain(602..618).collect();
        assert_eq!(asked, expected);
    }

    #[test]
    fn a_page_that_is_empty_again_is_given_back() {
        let mut slots = Slots::default();
        assert_eq!(slots.set(1_000_000, 7), CLOSED);
        assert_eq!((slots.0.len(), slots.first_open(0)), (1, Some(1_000_000)));
        assert_eq!(slots.set(1_000_000, CLOSED), 7);
        assert_eq!((slots.0.len(), slots.first_open(0)), (0, None));
    }

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
            1 => Just(Target::Socket(OTHER)),
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
                            Target::Socket(inode) if inode != OTHER => model.insert((pid, descriptor), inode),
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
                for inode in 1..6 {
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
