//! What each descriptor of one process was open for when last seen.

use std::collections::BTreeMap;

/// By number. Pages, so that a process with one descriptor of number 1,000,000 costs a kilobyte.
#[derive(Default, Debug)]
pub(super) struct Slots(BTreeMap<u32, Box<Page>>);

const PAGE: u32 = 256;

#[derive(Debug)]
struct Page {
    slots: [u32; PAGE as usize],
    /// A bit for each that is a socket known to live.
    vouched: Bits,
    /// A bit for each that was the same socket twice.
    steady: Bits,
}

type Bits = [u64; PAGE as usize / 64];

fn has(bits: &Bits, at: u32) -> bool {
    bits[at as usize / 64] & 1 << (at % 64) != 0
}

/// Not open when last seen, or never seen.
pub(super) const CLOSED: u32 = 0;
/// The socket that was there is gone; the number may have been given out again.
pub(super) const VACATED: u32 = u32::MAX - 1;
/// Open for something that is no socket.
pub(super) const OTHER: u32 = u32::MAX;

/// Descriptors closed one after the other, after which none is expected before the next one known: the kernel gives out
/// the lowest number that is free.
const GAP: u32 = 16;

/// The inode of a slot that is a socket.
pub(super) fn socket(slot: u32) -> Option<u32> {
    (!matches!(slot, CLOSED | VACATED | OTHER)).then_some(slot)
}

impl Page {
    const EMPTY: Page = Page {
        slots: [CLOSED; PAGE as usize],
        vouched: [0; PAGE as usize / 64],
        steady: [0; PAGE as usize / 64],
    };

    /// Whether something may have come there.
    fn is_doubtful(&self, at: u32) -> bool {
        !has(&self.vouched, at)
    }

    /// Whether a new socket is likely there.
    fn is_free(&self, at: u32) -> bool {
        self.slots[at as usize] != OTHER && !has(&self.vouched, at) && !has(&self.steady, at)
    }
}

impl Slots {
    /// Sets a slot and tells what it was. What is new there nobody vouches for.
    pub(super) fn set(&mut self, descriptor: u32, slot: u32) -> u32 {
        let (key, at) = (descriptor / PAGE, descriptor % PAGE);
        if slot == CLOSED && !self.0.contains_key(&key) {
            return CLOSED;
        }
        let page = self.0.entry(key).or_insert_with(|| Box::new(Page::EMPTY));
        let before = std::mem::replace(&mut page.slots[at as usize], slot);
        let (word, bit) = (at as usize / 64, 1 << (at % 64));
        if before != slot {
            page.vouched[word] &= !bit;
            page.steady[word] &= !bit;
        } else if socket(slot).is_some() {
            page.steady[word] |= bit;
        }
        if slot == CLOSED && before != CLOSED && page.slots.iter().all(|slot| *slot == CLOSED) {
            self.0.remove(&key);
        }
        before
    }

    /// The socket there is known to live.
    pub(super) fn vouch(&mut self, descriptor: u32) {
        let (key, at) = (descriptor / PAGE, descriptor % PAGE);
        if let Some(page) = self.0.get_mut(&key).filter(|page| socket(page.slots[at as usize]).is_some()) {
            page.vouched[at as usize / 64] |= 1 << (at % 64);
        }
    }

    /// The first descriptor from `from` on that may have changed: that is not a socket known to live. After a gap of closed
    /// ones, the first of these that was open when last seen; `u32::MAX` where there is none.
    pub(super) fn next_doubtful(&self, from: u32, closed_in_a_row: u32) -> u32 {
        if closed_in_a_row >= GAP {
            // On to the end of the gap: nothing before it is known to be open.
            return self.first_open(from).map_or(u32::MAX, |open| self.next(open, Page::is_doubtful));
        }
        self.next(from, Page::is_doubtful)
    }

    /// The first descriptor from `from` on that a new socket has been given, most likely: one that was not open for anything
    /// that stays.
    pub(super) fn next_free(&self, from: u32) -> u32 {
        self.next(from, Page::is_free)
    }

    /// The first descriptor from `from` on that is `wanted`, as all closed ones are.
    fn next(&self, from: u32, wanted: fn(&Page, u32) -> bool) -> u32 {
        let mut at = from;
        while let Some(page) = self.0.get(&(at / PAGE)) {
            match (at % PAGE..PAGE).find(|slot| wanted(page, *slot)) {
                Some(slot) => return at - at % PAGE + slot,
                None => at = (at - at % PAGE).saturating_add(PAGE),
            }
        }
        at
    }

    fn first_open(&self, from: u32) -> Option<u32> {
        self.0.range(from / PAGE..).find_map(|(key, page)| {
            let first = if *key == from / PAGE { from % PAGE } else { 0 };
            let open = (first..PAGE).find(|at| page.slots[*at as usize] != CLOSED)?;
            Some(key * PAGE + open)
        })
    }

    /// Those that were open when last seen, ascending.
    pub(super) fn open(&self) -> impl Iterator<Item = u32> {
        self.numbered().filter(|(_, slot)| *slot != CLOSED).map(|(at, _)| at)
    }

    /// Those that are sockets, and their inodes.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (u32, u32)> {
        self.numbered().filter_map(|(at, slot)| Some((at, socket(slot)?)))
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().flat_map(|(key, page)| {
            (0u32..).zip(page.slots.iter()).map(move |(at, slot)| (key * PAGE + at, *slot))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Those that a reading of what may have changed asks, when only `open` are open.
    fn asked(slots: &Slots, open: &[u32]) -> Vec<u32> {
        let mut asked = Vec::new();
        let (mut at, mut closed) = (0, 0);
        loop {
            let next = slots.next_doubtful(at, closed);
            if next == u32::MAX {
                return asked;
            }
            closed = if next > at { 0 } else { closed };
            asked.push(next);
            closed = if open.contains(&next) { 0 } else { closed + 1 };
            at = next + 1;
        }
    }

    #[test]
    fn what_may_have_changed_is_asked_and_no_more() {
        let mut slots = Slots::default();
        for (descriptor, slot) in
            [(0, OTHER), (1, 10), (2, 11), (3, VACATED), (4, 12), (5, 14), (600, 13), (601, OTHER)]
        {
            slots.set(descriptor, slot);
        }
        for descriptor in [0, 1, 2, 3, 4, 600, 601, 7_000] {
            slots.vouch(descriptor);
        }
        let expected: Vec<u32> = [0, 3, 5].into_iter().chain(6..22).chain([601]).chain(602..618).collect();
        assert_eq!(asked(&slots, &[0, 5, 601]), expected);
        let free: Vec<u32> =
            std::iter::successors(Some(slots.next_free(0)), |at| Some(slots.next_free(at + 1)))
                .take(4)
                .collect();
        assert_eq!(free, [3, 5, 6, 7]);
        // Seen twice, it is one that stays.
        slots.set(5, 14);
        assert_eq!((slots.next_free(4), slots.next_doubtful(4, 0)), (6, 5));
        // Another socket in its place is one that nobody vouches for.
        slots.set(1, 99);
        assert_eq!(slots.next_doubtful(1, 0), 1);
    }

    #[test]
    fn a_page_that_is_empty_again_is_given_back() {
        let mut slots = Slots::default();
        assert_eq!(slots.set(1_000_000, 7), CLOSED);
        assert_eq!((slots.0.len(), slots.first_open(0)), (1, Some(1_000_000)));
        assert_eq!(slots.set(1_000_000, CLOSED), 7);
        assert_eq!((slots.0.len(), slots.first_open(0)), (0, None));
        assert_eq!(slots.next_free(u32::MAX), u32::MAX);
    }

    proptest! {
        /// Against a plain map.
        #[test]
        fn slots_are_what_was_set(steps in proptest::collection::vec((0u32..700, 0u32..5, any::<bool>()), 0..80)) {
            let mut slots = Slots::default();
            let mut model: BTreeMap<u32, (u32, bool, bool)> = BTreeMap::new();
            for (descriptor, slot, vouched) in steps {
                let slot = if slot == 4 { OTHER } else { slot };
                let before = model.get(&descriptor).copied().unwrap_or((CLOSED, false, false));
                prop_assert_eq!(slots.set(descriptor, slot), before.0);
                if vouched {
                    slots.vouch(descriptor);
                }
                let is_same = socket(slot).is_some() && before.0 == slot;
                let is_vouched = socket(slot).is_some() && vouched || is_same && before.1;
                model.insert(descriptor, (slot, is_vouched, is_same));
            }
            let open: Vec<u32> = model.iter().filter(|(_, (slot, ..))| *slot != CLOSED).map(|(at, _)| *at).collect();
            prop_assert_eq!(slots.open().collect::<Vec<_>>(), open);
            for from in [0, 255, 256, 400, 699] {
                let doubtful = |at: &u32| model.get(at).is_none_or(|(_, vouched, _)| !vouched);
                prop_assert_eq!(Some(slots.next_doubtful(from, 0)), (from..).find(doubtful));
                let is_free = |(slot, vouched, steady): &(u32, bool, bool)| *slot != OTHER && !vouched && !steady;
                let free = |at: &u32| model.get(at).is_none_or(is_free);
                prop_assert_eq!(Some(slots.next_free(from)), (from..).find(free));
            }
        }
    }
}
