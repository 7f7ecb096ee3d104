//! Who closed which end of a connection: its process, or the kernel because its process ended. Ends are told by the book's
//! hashes.

use std::hash::Hash;

use hashbrown::HashMap;

/// The most ends, and the most tasks that end, that are remembered.
const MOST_CLOSED: usize = 1 << 18;
const MOST_EXITING: usize = 1 << 16;
/// A closed end is asked for when its socket is freed: mostly at once, but the other side may keep it waiting, and a busy
/// machine whoever tells.
const CLOSED_AGES: u32 = 512;
/// A task that ends closes what it has behind giving back its memory, which may be much.
const EXITING_AGES: u32 = 512;

#[derive(Default, Debug)]
pub(crate) struct Closings {
    /// Tasks that have begun to end. Since Linux 6.16 perf tells their end before what they have open is closed.
    exiting: HashMap<u32, Exiting>,
    closed: HashMap<u64, Closed>,
}

#[derive(Clone, Copy, Debug)]
struct Exiting {
    netns: Option<u64>,
    age: u32,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    at_exit: bool,
    age: u32,
}

impl Closings {
    /// A task in this network namespace begins to end. Returns how many others had to be given up: they count as going on.
    pub(crate) fn exits(&mut self, task: u32, netns: Option<u64>, age: u32) -> usize {
        let given_up = make_room(&mut self.exiting, MOST_EXITING, age, |exiting| exiting.age);
        self.exiting.insert(task, Exiting { netns, age });
        given_up
    }

    /// The namespace of a task that has begun to end, as far as it is known; None of one that has not.
    pub(crate) fn exiting(&self, task: u32) -> Option<Option<u64>> {
        Some(self.exiting.get(&task)?.netns)
    }

    /// The number is another task's from now on.
    pub(crate) fn leave(&mut self, task: u32) {
        self.exiting.remove(&task);
    }

    /// It is not known any more who has begun to end.
    pub(crate) fn lose(&mut self) {
        self.exiting.clear();
    }

    /// An end was closed.
    pub(crate) fn note(&mut self, end: u64, at_exit: bool, age: u32) {
        make_room(&mut self.closed, MOST_CLOSED, age, |closed| closed.age);
        self.closed.insert(end, Closed { at_exit, age });
    }

    /// Whether it was by its process's end; None when it was not heard, or is long ago.
    pub(crate) fn at_exit(&self, end: u64) -> Option<bool> {
        Some(self.closed.get(&end)?.at_exit)
    }

    pub(crate) fn forget_old(&mut self, age: u32) {
        self.exiting.retain(|_, exiting| exiting.age + EXITING_AGES >= age);
        self.closed.retain(|_, closed| closed.age + CLOSED_AGES >= age);
    }
}

/// Where all places are taken, the older ones are given up, or all of them where none is. Returns how many.
fn make_room<K: Eq + Hash, V>(
    map: &mut HashMap<K, V>,
    most: usize,
    now: u32,
    age: impl Fn(&V) -> u32,
) -> usize {
    let before = map.len();
    if before < most {
        return 0;
    }
    let oldest = map.values().map(&age).min().unwrap_or(now);
    let middle = oldest.midpoint(now);
    map.retain(|_, one| age(one) > middle);
    before - map.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_ones_give_way() {
        let mut closings = Closings::default();
        for end in 0..3 * MOST_CLOSED as u64 {
            closings.note(end, true, (end >> 16) as u32);
        }
        assert!(closings.closed.len() <= MOST_CLOSED);
        assert_eq!((closings.at_exit(0), closings.at_exit(3 * MOST_CLOSED as u64 - 1)), (None, Some(true)));
        let mut given_up = 0;
        for task in 0..2 * MOST_EXITING as u32 {
            given_up += closings.exits(task, None, 7);
        }
        assert_eq!((given_up, closings.exiting.len()), (MOST_EXITING, MOST_EXITING));
        closings.forget_old(12 + CLOSED_AGES);
        assert_eq!((closings.closed.len(), closings.exiting.len()), (0, 0));
    }
}
