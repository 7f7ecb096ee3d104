//! What each descriptor of each process was open for when last seen.

use std::collections::BTreeMap;

use super::table::Holder;

/// What a descriptor was open for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    /// Nothing, or it was never looked at.
    Closed,
    /// A socket that is gone: the number may have been given out again.
    Vacated,
    /// Something that is no socket.
    Other,
    /// A socket, by its inode.
    Socket(u32),
}

/// The slots of all processes. Pages of them, so that a process with one descriptor of number 1,000,000 costs 400 bytes;
/// one with many costs five for each.
#[derive(Default, Debug)]
pub(super) struct Slots {
    /// Pages that are in use have something open.
    pages: Vec<Option<Box<Page>>>,
    free: Vec<u32>,
    /// Where the page of a process is that begins with this number.
    index: BTreeMap<(u32, u32), u32>,
}

/// Where an open descriptor of some process stands, as long as it is open: a page and a slot of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(u32);

const PAGE: u32 = 64;
/// As many as places can tell apart: for four thousand million descriptors.
const MOST_PAGES: u32 = u32::MAX / PAGE;

#[derive(Debug)]
struct Page {
    first: Holder,
    inodes: [u32; PAGE as usize],
    sockets: Bits,
    others: Bits,
    vacated: Bits,
    /// Sockets known to live.
    vouched: Bits,
    /// Those that were the same socket twice.
    steady: Bits,
}

/// One for each slot of a page.
type Bits = u64;

/// Descriptors closed one after the other, after which none is expected before the next one known: the kernel gives out
/// the lowest number that is free.
const GAP: u32 = 16;

impl Page {
    fn new(first: Holder) -> Page {
        let inodes = [0; PAGE as usize];
        Page { first, inodes, sockets: 0, others: 0, vacated: 0, vouched: 0, steady: 0 }
    }

    fn slot(&self, at: u32) -> Slot {
        let bit = 1 << at;
        if self.sockets & bit != 0 {
            Slot::Socket(self.inodes[at as usize])
        } else if self.others & bit != 0 {
            Slot::Other
        } else if self.vacated & bit != 0 {
            Slot::Vacated
        } else {
            Slot::Closed
        }
    }

    fn set(&mut self, at: u32, slot: Slot) -> Slot {
        let (before, bit) = (self.slot(at), 1 << at);
        if before == slot {
            self.steady |= self.sockets & bit;
            return before;
        }
        let all =
            [&mut self.sockets, &mut self.others, &mut self.vacated, &mut self.vouched, &mut self.steady];
        all.into_iter().for_each(|bits| *bits &= !bit);
        match slot {
            Slot::Closed => {}
            Slot::Vacated => self.vacated |= bit,
            Slot::Other => self.others |= bit,
            Slot::Socket(inode) => {
                self.sockets |= bit;
                self.inodes[at as usize] = inode;
            }
        }
        before
    }

    fn open(&self) -> Bits {
        self.sockets | self.others
    }

    /// Where something may have come.
    fn doubtful(&self) -> Bits {
        !self.vouched
    }

    /// Where a new socket is likely.
    fn likely(&self) -> Bits {
        !(self.others | self.vouched | self.steady)
    }
}

impl Slots {
    /// Sets a slot and tells what it was, and its place. What is new there nobody vouches for. None: it was closed, and stays
    /// so.
    pub(super) fn set(&mut self, holder: Holder, slot: Slot) -> Option<(Slot, Place)> {
        let key = (holder.pid, holder.descriptor / PAGE);
        let number = match self.index.get(&key) {
            Some(number) => *number,
            None if matches!(slot, Slot::Closed | Slot::Vacated) => return None,
            None => self.add(key)?,
        };
        let place = Place(number * PAGE + holder.descriptor % PAGE);
        Some((self.set_at(place, slot), place))
    }

    /// The socket there is gone.
    pub(super) fn vacate(&mut self, place: Place) {
        self.set_at(place, Slot::Vacated);
    }

    /// The socket there is known to live.
    pub(super) fn vouch(&mut self, place: Place) {
        if let Some((page, at)) = self.page_mut(place) {
            page.vouched |= page.sockets & 1 << at;
        }
    }

    /// The inode of the socket there.
    pub(super) fn socket(&self, place: Place) -> Option<u32> {
        match self.page(place.0 / PAGE)?.slot(place.0 % PAGE) {
            Slot::Socket(inode) => Some(inode),
            _ => None,
        }
    }

    /// Whose place it is.
    pub(super) fn holder(&self, place: Place) -> Option<Holder> {
        let first = self.page(place.0 / PAGE)?.first;
        Some(Holder { descriptor: first.descriptor + place.0 % PAGE, ..first })
    }

    /// The first descriptor from `from` on that may have changed: that is not a socket known to live. After a gap of closed
    /// ones, the first of these that was open when last seen; `u32::MAX` where there is none.
    pub(super) fn next_doubtful(&self, from: Holder, closed_in_a_row: u32) -> u32 {
        if closed_in_a_row < GAP {
            return self.next(from, Page::doubtful);
        }
        // On to the end of the gap: nothing before it is known to be open.
        match self.numbers(from, |page| page.open() | page.vacated).next() {
            Some(descriptor) => self.next(Holder { descriptor, ..from }, Page::doubtful),
            None => u32::MAX,
        }
    }

    /// The first descriptor from `from` on that a new socket has been given, most likely: one that was not open for anything
    /// that stays.
    pub(super) fn next_free(&self, from: Holder) -> u32 {
        self.next(from, Page::likely)
    }

    /// Those of a process that were open when last seen, ascending.
    pub(super) fn open(&self, pid: u32) -> impl Iterator<Item = u32> {
        self.numbers(Holder { pid, descriptor: 0 }, Page::open)
    }

    /// Those of a process that are sockets, and their inodes.
    pub(super) fn sockets(&self, pid: u32) -> impl Iterator<Item = (Place, u32)> {
        self.pages_of(Holder { pid, descriptor: 0 }).flat_map(|(number, page)| {
            let sockets = (0..PAGE).filter(|at| page.sockets & 1 << at != 0);
            sockets.map(move |at| (Place(number * PAGE + at), page.inodes[at as usize]))
        })
    }

    /// The process has ended.
    pub(super) fn remove(&mut self, pid: u32) {
        let numbers: Vec<u32> =
            self.pages_of(Holder { pid, descriptor: 0 }).map(|(number, _)| number).collect();
        numbers.into_iter().for_each(|number| self.give_back(number));
    }

    fn page(&self, number: u32) -> Option<&Page> {
        self.pages.get(number as usize)?.as_deref()
    }

    fn page_mut(&mut self, place: Place) -> Option<(&mut Page, u32)> {
        let page = self.pages.get_mut((place.0 / PAGE) as usize)?.as_deref_mut()?;
        Some((page, place.0 % PAGE))
    }

    /// None when there are too many pages.
    fn add(&mut self, key: (u32, u32)) -> Option<u32> {
        let page = Box::new(Page::new(Holder { pid: key.0, descriptor: key.1 * PAGE }));
        let number = match self.free.pop() {
            Some(number) => {
                self.pages[number as usize] = Some(page);
                number
            }
            None => {
                let number = u32::try_from(self.pages.len()).ok().filter(|number| *number < MOST_PAGES)?;
                self.pages.push(Some(page));
                number
            }
        };
        self.index.insert(key, number);
        Some(number)
    }

    fn set_at(&mut self, place: Place, slot: Slot) -> Slot {
        let Some((page, at)) = self.page_mut(place) else { return Slot::Closed };
        let before = page.set(at, slot);
        if page.open() == 0 {
            // What was vacated is found without it: the lowest numbers are given out first, and closed ones are asked.
            self.give_back(place.0 / PAGE);
        }
        before
    }

    fn give_back(&mut self, number: u32) {
        if let Some(page) = self.pages[number as usize].take() {
            self.index.remove(&(page.first.pid, page.first.descriptor / PAGE));
            self.free.push(number);
        }
    }

    /// The pages of a process from that of a descriptor on.
    fn pages_of(&self, from: Holder) -> impl Iterator<Item = (u32, &Page)> {
        let range = (from.pid, from.descriptor / PAGE)..=(from.pid, u32::MAX);
        self.index.range(range).filter_map(|(_, number)| Some((*number, self.page(*number)?)))
    }

    /// The descriptors of a process from `from` on that are `wanted` in their pages.
    fn numbers(&self, from: Holder, wanted: fn(&Page) -> Bits) -> impl Iterator<Item = u32> {
        self.pages_of(from).flat_map(move |(_, page)| {
            let first = page.first.descriptor;
            let bits = wanted(page);
            (0..PAGE)
                .filter(move |at| bits & 1 << at != 0 && first + at >= from.descriptor)
                .map(move |at| first + at)
        })
    }

    /// The first descriptor from `from` on that is `wanted`, as all without a page are.
    fn next(&self, from: Holder, wanted: fn(&Page) -> Bits) -> u32 {
        let mut descriptor = from.descriptor;
        for (_, page) in self.pages_of(from) {
            let at = descriptor % PAGE;
            if page.first.descriptor != descriptor - at {
                break;
            }
            match (wanted(page) >> at).trailing_zeros() {
                Bits::BITS => descriptor = (descriptor - at).saturating_add(PAGE),
                more => return descriptor + more,
            }
        }
        descriptor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A descriptor of the process that tests are about.
    fn at(descriptor: u32) -> Holder {
        Holder { pid: 7, descriptor }
    }

    fn vouch(slots: &mut Slots, descriptor: u32) {
        let place = slots
            .sockets(7)
            .map(|(place, _)| place)
            .find(|place| slots.holder(*place) == Some(at(descriptor)));
        if let Some(place) = place {
            slots.vouch(place);
        }
    }

    /// Those that a reading of what may have changed asks, when only `open` are open.
    fn asked(slots: &Slots, open: &[u32]) -> Vec<u32> {
        let mut asked = Vec::new();
        let (mut number, mut closed) = (0, 0);
        loop {
            let next = slots.next_doubtful(at(number), closed);
            if next == u32::MAX {
                return asked;
            }
            closed = if next > number { 0 } else { closed };
            asked.push(next);
            closed = if open.contains(&next) { 0 } else { closed + 1 };
            number = next + 1;
        }
    }

    #[test]
    fn what_may_have_changed_is_asked_and_no_more() {
        let mut slots = Slots::default();
        // Pages of others stand between.
        for pid in [6, 8] {
            slots.set(Holder { pid, descriptor: 70 }, Slot::Other);
        }
        for (descriptor, slot) in [
            (0, Slot::Other),
            (1, Slot::Socket(10)),
            (2, Slot::Socket(11)),
            (3, Slot::Vacated),
            (4, Slot::Socket(12)),
            (5, Slot::Socket(14)),
            (600, Slot::Socket(13)),
            (601, Slot::Other),
        ] {
            slots.set(at(descriptor), slot);
        }
        for descriptor in [0, 1, 2, 3, 4, 600, 601, 7_000] {
            vouch(&mut slots, descriptor);
        }
        let expected: Vec<u32> = [0, 3, 5].into_iter().chain(6..22).chain([601]).chain(602..618).collect();
        assert_eq!(asked(&slots, &[0, 5, 601]), expected);
        let free: Vec<u32> =
            std::iter::successors(Some(slots.next_free(at(0))), |next| Some(slots.next_free(at(next + 1))))
                .take(4)
                .collect();
        assert_eq!(free, [3, 5, 6, 7]);
        // Seen twice, it is one that stays.
        slots.set(at(5), Slot::Socket(14));
        assert_eq!((slots.next_free(at(4)), slots.next_doubtful(at(4), 0)), (6, 5));
        // Another socket in its place is one that nobody vouches for.
        slots.set(at(1), Slot::Socket(99));
        assert_eq!(slots.next_doubtful(at(1), 0), 1);
    }

    #[test]
    fn a_page_with_nothing_open_is_given_back() {
        let mut slots = Slots::default();
        let used = |slots: &Slots| (slots.index.len(), slots.pages.iter().flatten().count());
        for last in [Slot::Closed, Slot::Vacated] {
            let (before, place) = slots.set(at(1_000_000), Slot::Socket(7)).unwrap();
            assert_eq!((before, slots.socket(place)), (Slot::Closed, Some(7)));
            assert_eq!((used(&slots), slots.open(7).next()), ((1, 1), Some(1_000_000)));
            assert_eq!(slots.set(at(1_000_000), last), Some((Slot::Socket(7), place)));
            assert_eq!((used(&slots), slots.open(7).next()), ((0, 0), None));
            assert_eq!((slots.socket(place), slots.holder(place)), (None, None));
        }
        assert_eq!(slots.pages.len(), 1, "used again");
        assert_eq!(slots.set(at(5), Slot::Vacated), None);
        assert_eq!(slots.next_free(at(u32::MAX)), u32::MAX);
        slots.set(at(u32::MAX), Slot::Other);
        assert_eq!(slots.next_free(at(u32::MAX - 3)), u32::MAX - 3);
        assert_eq!(slots.next_free(at(u32::MAX)), u32::MAX);
    }

    proptest! {
        /// Against a plain map.
        #[test]
        fn slots_are_what_was_set(
            steps in proptest::collection::vec((6u32..9, 0u32..300, 0u32..5, any::<bool>()), 0..80),
            ended in 6u32..9,
        ) {
            let mut slots = Slots::default();
            let mut model: BTreeMap<(u32, u32), (Slot, bool, bool)> = BTreeMap::new();
            let new = (Slot::Closed, false, false);
            for (pid, descriptor, slot, vouched) in steps {
                let slot = match slot {
                    0 => Slot::Closed,
                    4 => Slot::Other,
                    inode => Slot::Socket(inode),
                };
                let before = model.get(&(pid, descriptor)).copied().unwrap_or(new);
                let set = slots.set(Holder { pid, descriptor }, slot);
                prop_assert_eq!(set.map_or(Slot::Closed, |(before, _)| before), before.0);
                let is_socket = matches!(slot, Slot::Socket(_));
                if let (true, Some((_, place))) = (vouched, set) {
                    slots.vouch(place);
                }
                if let (true, Some((_, place))) = (is_socket, set) {
                    prop_assert_eq!(slots.holder(place), Some(Holder { pid, descriptor }));
                    prop_assert_eq!(slots.socket(place).map(Slot::Socket), Some(slot));
                }
                let is_same = is_socket && before.0 == slot;
                let is_vouched = is_socket && (vouched || is_same && before.1);
                model.insert((pid, descriptor), (slot, is_vouched, is_same));
            }
            slots.remove(ended);
            model.retain(|(pid, _), _| *pid != ended);
            for pid in 6..9 {
                let of_it = |from: u32| model.range((pid, from)..=(pid, u32::MAX)).map(|((_, at), known)| (*at, *known));
                let open: Vec<u32> = of_it(0).filter(|(_, (slot, ..))| *slot != Slot::Closed).map(|(at, _)| at).collect();
                prop_assert_eq!(slots.open(pid).collect::<Vec<_>>(), open);
                let inodes: Vec<u32> = of_it(0).filter_map(|(_, (slot, ..))| match slot {
                    Slot::Socket(inode) => Some(inode),
                    _ => None,
                }).collect();
                prop_assert_eq!(slots.sockets(pid).map(|(_, inode)| inode).collect::<Vec<_>>(), inodes);
                for descriptor in [0, 63, 64, 100, 299] {
                    let from = Holder { pid, descriptor };
                    let known = |at: &u32| model.get(&(pid, *at)).copied().unwrap_or(new);
                    prop_assert_eq!(Some(slots.next_doubtful(from, 0)), (descriptor..).find(|at| !known(at).1));
                    let is_free = |at: &u32| {
                        let (slot, vouched, steady) = known(at);
                        slot != Slot::Other && !vouched && !steady
                    };
                    prop_assert_eq!(Some(slots.next_free(from)), (descriptor..).find(is_free));
                    let end_of_gap = of_it(descriptor).find(|(_, (slot, ..))| *slot != Slot::Closed);
                    let after = end_of_gap.map_or(Some(u32::MAX), |(at, _)| (at..).find(|at| !known(at).1));
                    prop_assert_eq!(Some(slots.next_doubtful(from, GAP)), after);
                }
            }
        }
    }
}
