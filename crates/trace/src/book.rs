//! What was heard, brought into its order: who tried, what came of it, and who they were.

use std::hash::BuildHasher;
use std::net::SocketAddr;

use foldhash::quality::RandomState;
use hashbrown::{HashMap, HashSet, HashTable};

use crate::closings::Closings;
use crate::record::{Happening, What};
use crate::{Begun, Heard, Maker};

/// The most connects that are remembered.
const MOST_MADE: usize = 1 << 18;
/// The most connects under way, and the most threads.
const MOST: usize = 1 << 16;

#[derive(Default, Debug)]
pub(crate) struct Book {
    /// Heard and not taken in yet.
    heard: Vec<Happening>,
    hasher: RandomState,
    /// Who tries, by socket.
    tries: HashMap<u64, Try>,
    made: HashTable<Made>,
    /// By their numbers, which are tids; that of a process's first thread is its pid.
    tasks: HashMap<u32, Task>,
    /// Those that connected, and whose number was given to another since, or may have been.
    former: HashMap<Maker, Task>,
    /// Connects that began, by where; None when they are not counted.
    begun: Option<HashMap<Place, i64>>,
    closings: Closings,
    /// Tasks that were met so far.
    met: u32,
    /// Calls of `forget_old`.
    age: u32,
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Try {
    maker: Maker,
    netns: Option<u64>,
    place: Place,
}

/// A network namespace and a cgroup; zeros are not known.
type Place = (u64, u64);

/// A connection that somebody made.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// Of the namespace and both its ends, or what a reset leaves of them. Two with the same 64 bits are taken for one.
    hash: u64,
    maker: Maker,
    age: u32,
}

/// A thread. What a process is called and where it belongs is told of its first one.
#[derive(Clone, Copy, Default, Debug)]
struct Task {
    /// Which one with its number it is.
    generation: u32,
    netns: Option<u64>,
    cgroup: u64,
    name: Option<[u8; 16]>,
    /// When it connected last, ended, or its number was given to another.
    age: u32,
    has_ended: bool,
    connects: bool,
}

/// What a living thread tells of itself when it is asked.
pub(crate) trait Alive {
    /// Inode of its network namespace.
    fn netns(&mut self, task: u32) -> Option<u64>;
    /// What it is called: ended by a zero.
    fn name(&mut self, task: u32) -> Option<[u8; 16]>;
}

impl Book {
    pub(crate) fn hear(&mut self, happening: Happening) {
        self.heard.push(happening);
    }

    /// Takes in, in its order, all that happened until this moment: of what came later, each processor may have told a
    /// part. `alive` tells what is not known of threads that live.
    pub(crate) fn turn_to(&mut self, until: u64, alive: &mut impl Alive) {
        let mut heard = std::mem::take(&mut self.heard);
        heard.sort_by_key(|happening| happening.at);
        let past = heard.partition_point(|happening| happening.at <= until);
        for happening in heard.drain(..past) {
            self.take_in(happening.what, alive);
        }
        // Room that a storm needed is given back.
        if heard.capacity() > 1 << 14 && heard.len() < 1 << 12 {
            heard.shrink_to(1 << 12);
        }
        self.heard = heard;
    }

    fn take_in(&mut self, what: What, alive: &mut impl Alive) {
        match what {
            // Of another pid namespace, or none at all.
            What::Tries { pid: 0 | u32::MAX, .. } => {}
            What::Tries { socket, pid, task, cgroup } => {
                let netns = self.netns(task, alive);
                let age = self.age;
                let has_room = self.tries.len() < MOST || self.tries.contains_key(&socket);
                match self.task(pid) {
                    Some(first) if has_room => {
                        (first.cgroup, first.age, first.connects) = (cgroup, age, true);
                        let maker = Maker { pid, generation: first.generation };
                        let place = (netns.unwrap_or(0), cgroup);
                        self.tries.insert(socket, Try { maker, netns, place });
                        self.count(place, 1);
                    }
                    _ => self.lost += 1,
                }
            }
            What::Connected { socket, local, remote } => {
                if let Some(try_) = self.tries.remove(&socket) {
                    self.note(try_, local, remote);
                }
            }
            What::Failed { socket, local, remote } => {
                let Some(try_) = self.tries.remove(&socket) else { return };
                match local.port() {
                    // No port was left for it: the kernel does not count it as a connection either.
                    0 => self.count(try_.place, -1),
                    // There is nothing left to close.
                    _ => self.note_closing(try_.netns, local, remote, false),
                }
            }
            What::Forked { task, parent } => {
                // A child may be gone when it could be asked, and is called as its parent until it says otherwise.
                let known = self.task(parent).map_or_else(Task::default, |parent_| {
                    parent_.name = parent_.name.or_else(|| alive.name(parent));
                    parent_.netns = parent_.netns.or_else(|| alive.netns(parent));
                    *parent_
                });
                self.leave(task);
                self.closings.leave(task);
                if let Some(task) = self.task(task) {
                    let Task { netns, cgroup, name, .. } = known;
                    *task = Task { netns, cgroup, name, ..*task };
                }
            }
            What::Named { pid, name } => {
                if let Some(task) = self.task(pid) {
                    task.name = Some(name);
                }
            }
            What::Entered { task, netns } => {
                if let Some(task) = self.task(task) {
                    task.netns = Some(netns);
                }
            }
            What::Closes { task, local, remote } => {
                let exiting = self.closings.exiting(task);
                let at_exit = exiting.is_some();
                let netns = exiting.unwrap_or_else(|| self.netns(task, alive));
                self.note_closing(netns, local, remote, at_exit);
            }
            What::Exits { task } => {
                let netns = self.netns(task, alive);
                self.lost += self.closings.exits(task, netns, self.age) as u64;
            }
            What::Ended { task } => self.end(task),
            What::Lost(records) => {
                self.lost += records;
                // Who has ended may be among what was lost, and so may another with its number; a socket that was given up,
                // and another at its address.
                for number in self.tasks.keys().copied().collect::<Vec<_>>() {
                    self.leave(number);
                }
                self.tries.clear();
                self.closings.lose();
            }
        }
    }

    /// The task with this number, of which something is told; None when there are too many.
    fn task(&mut self, number: u32) -> Option<&mut Task> {
        let mut before = Task::default();
        if let Some(ended) = self.tasks.get(&number).filter(|task| task.has_ended) {
            // The first thread may end before the others do: the process lives on, and is asked again.
            before = Task { netns: ended.netns, name: ended.name, ..before };
            self.leave(number);
        }
        if self.tasks.len() >= MOST && !self.tasks.contains_key(&number) {
            return None;
        }
        let met = &mut self.met;
        Some(self.tasks.entry(number).or_insert_with(|| {
            *met = met.wrapping_add(1);
            Task { generation: *met, ..before }
        }))
    }

    fn note_closing(&mut self, netns: Option<u64>, local: SocketAddr, remote: SocketAddr, at_exit: bool) {
        // None: a task that began before we listened, and ended before it was asked.
        let Some(netns) = netns.filter(|_| self.begun.is_some()) else { return };
        for hash in self.hashes(netns, local, remote) {
            self.closings.note(hash, at_exit, self.age);
        }
    }

    fn count(&mut self, place: Place, more: i64) {
        let Some(begun) = &mut self.begun else { return };
        match begun.len() < MOST || begun.contains_key(&place) {
            true => *begun.entry(place).or_default() += more,
            false => self.lost += 1,
        }
    }

    /// Counts connects from now on.
    pub(crate) fn counting() -> Book {
        Book { begun: Some(HashMap::new()), ..Book::default() }
    }

    pub(crate) fn begun_in(&self, netns: u64) -> Option<Vec<Begun>> {
        let begun = self.begun.as_ref()?;
        let of = |place: Place| begun.get(&place).map_or(0, |count| u64::try_from(*count).unwrap_or(0));
        let cgroups: HashSet<u64> = begun.keys().map(|(_, cgroup)| *cgroup).collect();
        let told = cgroups.into_iter().map(|cgroup| Begun {
            cgroup_id: (cgroup != 0).then_some(cgroup),
            here: of((netns, cgroup)),
            perhaps: of((0, cgroup)),
        });
        Some(told.filter(|begun| begun.here + begun.perhaps > 0).collect())
    }

    fn netns(&mut self, number: u32, alive: &mut impl Alive) -> Option<u64> {
        let task = self.task(number)?;
        task.netns = task.netns.or_else(|| alive.netns(number));
        task.netns
    }

    /// The number is another's from now on.
    fn leave(&mut self, number: u32) {
        if let Some(task) = self.tasks.remove(&number)
            && task.connects
            && self.former.len() < MOST
        {
            let maker = Maker { pid: number, generation: task.generation };
            self.former.insert(maker, Task { has_ended: true, age: self.age, ..task });
        }
    }

    fn note(&mut self, Try { maker, netns, .. }: Try, local: SocketAddr, remote: SocketAddr) {
        // It began before we listened, and ended before it was asked.
        let Some(netns) = netns else { return };
        for hash in self.hashes(netns, local, remote) {
            let made = Made { hash, maker, age: self.age };
            let has_room = self.made.len() < MOST_MADE;
            match self.made.find_mut(hash, |one| one.hash == hash) {
                Some(before) => *before = made,
                None if has_room => {
                    self.made.insert_unique(hash, made, |one| one.hash);
                }
                None => self.lost += 1,
            }
        }
    }

    /// What it did is remembered a while longer.
    fn end(&mut self, task: u32) {
        let age = self.age;
        match self.tasks.get_mut(&task) {
            Some(task) if task.connects => (task.has_ended, task.age) = (true, age),
            _ => {
                self.tasks.remove(&task);
            }
        }
    }

    /// Of both its ends, and of what a reset leaves of them.
    fn hashes(&self, netns: u64, local: SocketAddr, remote: SocketAddr) -> [u64; 2] {
        [remote.port(), 0].map(|port| self.hash(netns, local, SocketAddr::new(remote.ip(), port)))
    }

    pub(crate) fn closed_at_exit(&self, netns: u64, local: SocketAddr, remote: SocketAddr) -> Option<bool> {
        self.closings.at_exit(self.hash(netns, local, remote))
    }

    pub(crate) fn connector(&self, netns: u64, local: SocketAddr, remote: SocketAddr) -> Option<Maker> {
        let hash = self.hash(netns, local, remote);
        Some(self.made.find(hash, |one| one.hash == hash)?.maker)
    }

    pub(crate) fn heard_of(&self, maker: Maker) -> Option<Heard> {
        let living = self.tasks.get(&maker.pid).filter(|task| task.generation == maker.generation);
        let task = living.or_else(|| self.former.get(&maker))?;
        Some(Heard {
            has_ended: task.has_ended,
            name: task.name.map(|name| until_zero(&name).to_vec()),
            cgroup_id: (task.cgroup != 0).then_some(task.cgroup),
        })
    }

    /// Whoever resets a connection forgets its own address and the other's port first (tcp_disconnect): without the latter
    /// the former does not count.
    fn hash(&self, netns: u64, local: SocketAddr, remote: SocketAddr) -> u64 {
        let address = (remote.port() != 0).then_some(local.ip().to_canonical());
        self.hasher.hash_one((netns, address, local.port(), remote.ip().to_canonical(), remote.port()))
    }

    pub(crate) fn forget_old(&mut self) {
        self.age += 1;
        let age = self.age;
        self.made.retain(|made| made.age + 1 >= age);
        self.closings.forget_old(age);
        let is_recent = |task: &Task| task.age + 2 >= age;
        self.tasks.retain(|_, task| !task.has_ended || is_recent(task));
        self.former.retain(|_, task| is_recent(task));
        if self.made.capacity() > 1 << 12 && self.made.len() * 4 < self.made.capacity() {
            self.made.shrink_to(self.made.len() * 2, |one| one.hash);
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }
}

fn until_zero(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ends(port: u16) -> (SocketAddr, SocketAddr) {
        (SocketAddr::from(([10, 0, 0, 1], port)), SocketAddr::from(([10, 0, 0, 2], 80)))
    }

    fn tries(socket: u64, task: u32) -> What {
        What::Tries { socket, pid: task, task, cgroup: 0 }
    }

    fn failed(socket: u64, port: u16) -> What {
        let (local, remote) = ends(port);
        What::Failed { socket, local, remote }
    }

    fn connected(socket: u64, port: u16) -> What {
        let (local, remote) = ends(port);
        What::Connected { socket, local, remote }
    }

    fn pid(book: &Book, port: u16) -> Option<u32> {
        let (local, remote) = ends(port);
        book.connector(7, local, remote).map(|maker| maker.pid)
    }

    /// All are in this namespace, and called this.
    struct All(Option<u64>, Option<[u8; 16]>);

    impl Alive for All {
        fn netns(&mut self, _: u32) -> Option<u64> {
            self.0
        }

        fn name(&mut self, _: u32) -> Option<[u8; 16]> {
            self.1
        }
    }

    /// A book that heard all this, a nanosecond apart.
    fn heard(what: impl IntoIterator<Item = What>) -> Book {
        let mut book = Book::counting();
        what.into_iter().zip(0..).for_each(|(what, at)| book.hear(Happening { at, what }));
        book.turn_to(u64::MAX, &mut All(Some(7), None));
        book
    }

    #[test]
    fn a_socket_may_be_used_again() {
        let book = heard([
            tries(1, 100),
            connected(1, 5_000),
            tries(1, 200),
            failed(1, 1),
            connected(1, 5_001),
            tries(1, 300),
            connected(1, 5_002),
        ]);
        assert_eq!([5_000, 5_001, 5_002].map(|port| pid(&book, port)), [Some(100), None, Some(300)]);
    }

    #[test]
    fn connects_are_counted_where_they_begin() {
        let tries = |socket, cgroup| What::Tries { socket, pid: 100, task: 100, cgroup };
        let count = |what: &[What], netns| {
            let mut book = Book::counting();
            what.iter().zip(0..).for_each(|(what, at)| book.hear(Happening { at, what: *what }));
            book.turn_to(u64::MAX, &mut All(netns, None));
            let mut begun = book.begun_in(7).unwrap();
            begun.sort_unstable();
            begun.iter().map(|begun| (begun.cgroup_id, begun.here, begun.perhaps)).collect::<Vec<_>>()
        };
        let mut heard = vec![
            tries(1, 5),
            tries(2, 6),
            failed(1, 1),
            tries(1, 5),
            failed(1, 0),
            What::Entered { task: 100, netns: 9 },
            tries(3, 5),
        ];
        assert_eq!(count(&heard, Some(7)), [(Some(5), 1, 0), (Some(6), 1, 0)]);
        assert_eq!(count(&heard[..4], None), [(Some(5), 0, 2), (Some(6), 0, 1)]);
        heard.extend([What::Entered { task: 100, netns: 7 }, tries(4, 0)]);
        assert_eq!(count(&heard, Some(7)), [(None, 1, 0), (Some(5), 1, 0), (Some(6), 1, 0)]);
    }

    #[test]
    fn what_is_closed_while_its_task_ends_was_left_open() {
        let closes = |task, port| {
            let (local, remote) = ends(port);
            What::Closes { task, local, remote }
        };
        let book = heard([
            What::Forked { task: 100, parent: 1 },
            What::Forked { task: 101, parent: 1 },
            closes(100, 5_000),
            What::Exits { task: 100 },
            What::Ended { task: 100 },
            closes(100, 5_001),
            // Another that goes on meanwhile.
            closes(101, 5_002),
            What::Forked { task: 100, parent: 1 },
            closes(100, 5_003),
        ]);
        let told = |port| {
            let (local, remote) = ends(port);
            book.closed_at_exit(7, local, remote)
        };
        assert_eq!(
            [5_000, 5_001, 5_002, 5_003, 5_004].map(told),
            [Some(false), Some(true), Some(false), Some(false), None]
        );
        let left = (SocketAddr::from(([0; 4], 5_001)), SocketAddr::from(([10, 0, 0, 2], 0)));
        assert_eq!(book.closed_at_exit(7, left.0, left.1), Some(true), "with unread data: a reset");
        assert_eq!(book.closed_at_exit(8, left.0, left.1), None);
    }

    #[test]
    fn a_reset_connection_is_known_by_what_is_left_of_its_ends() {
        let book = heard([tries(1, 100), connected(1, 5_000)]);
        let left = |port| (SocketAddr::from(([0; 4], port)), SocketAddr::from(([10, 0, 0, 2], 0)));
        let pid = |(local, remote)| book.connector(7, local, remote).map(|maker: Maker| maker.pid);
        assert_eq!([5_000, 5_001].map(|port| pid(left(port))), [Some(100), None]);
    }

    #[test]
    fn namespaces_are_those_of_the_moment() {
        let book = heard([
            What::Forked { task: 100, parent: 1 },
            What::Entered { task: 100, netns: 8 },
            tries(1, 100),
            connected(1, 5_000),
            What::Entered { task: 100, netns: 7 },
            tries(1, 100),
            connected(1, 5_001),
        ]);
        assert_eq!([5_000, 5_001].map(|port| pid(&book, port)), [None, Some(100)]);
        let (local, remote) = ends(5_000);
        assert_eq!(book.connector(8, local, remote).unwrap().pid, 100);
    }

    #[test]
    fn a_number_given_out_again_is_another_process() {
        let named = |name: &[u8; 16]| What::Named { pid: 100, name: *name };
        let forked = What::Forked { task: 100, parent: 1 };
        let mut book = heard([
            forked,
            named(b"curl\0\0\0\0\0\0\0\0\0\0\0\0"),
            tries(1, 100),
            connected(1, 5_000),
            What::Ended { task: 100 },
            forked,
            named(b"wget\0\0\0\0\0\0\0\0\0\0\0\0"),
            tries(1, 100),
            connected(1, 5_001),
        ]);
        let who = |book: &Book, port| {
            let (local, remote) = ends(port);
            let heard = book.heard_of(book.connector(7, local, remote).unwrap()).unwrap();
            (heard.has_ended, String::from_utf8(heard.name.unwrap()).unwrap())
        };
        assert_eq!(who(&book, 5_000), (true, "curl".to_owned()));
        assert_eq!(who(&book, 5_001), (false, "wget".to_owned()));
        (0..4).for_each(|_| book.forget_old());
        assert!(book.former.is_empty());
    }

    #[test]
    fn after_a_loss_every_number_may_be_another_s() {
        let mut book = heard([
            What::Forked { task: 100, parent: 1 },
            What::Named { pid: 100, name: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0" },
            What::Forked { task: 200, parent: 1 },
            tries(1, 100),
            connected(1, 5_000),
            tries(2, 200),
            What::Lost(1),
            connected(2, 5_001),
            tries(1, 100),
            connected(1, 5_002),
        ]);
        let maker = |book: &Book, port| {
            let (local, remote) = ends(port);
            book.connector(7, local, remote)
        };
        let [before, after] = [5_000, 5_002].map(|port| maker(&book, port).unwrap());
        let name = Some(b"curl".to_vec());
        assert_eq!(book.heard_of(before), Some(Heard { has_ended: true, name, cgroup_id: None }));
        assert_eq!(book.heard_of(after), Some(Heard { has_ended: false, name: None, cgroup_id: None }));
        assert!(before != after && before.pid == after.pid);
        assert_eq!(
            (maker(&book, 5_001), book.tries.len()),
            (None, 0),
            "another may have its socket's address"
        );
        (0..4).for_each(|_| book.forget_old());
        assert_eq!(
            (book.heard_of(before), book.heard_of(after).is_some(), book.tasks.len()),
            (None, true, 1)
        );
    }

    #[test]
    fn a_process_outlives_its_first_thread() {
        let book = heard([
            What::Forked { task: 100, parent: 1 },
            What::Named { pid: 100, name: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0" },
            What::Forked { task: 101, parent: 100 },
            tries(1, 100),
            connected(1, 5_000),
            What::Ended { task: 100 },
            What::Tries { socket: 2, pid: 100, task: 101, cgroup: 0 },
            connected(2, 5_001),
        ]);
        let heard = |port| {
            let (local, remote) = ends(port);
            let maker = book.connector(7, local, remote).unwrap();
            (maker.pid, book.heard_of(maker).unwrap())
        };
        let name = Some(b"curl".to_vec());
        for (port, has_ended) in [(5_000, true), (5_001, false)] {
            assert_eq!(heard(port), (100, Heard { has_ended, name: name.clone(), cgroup_id: None }));
        }
    }

    #[test]
    fn a_child_is_called_as_its_parent_that_began_before_we_listened() {
        let mut book = Book::default();
        let happenings = [
            What::Forked { task: 100, parent: 1 },
            tries(1, 100),
            connected(1, 5_000),
            What::Ended { task: 100 },
            What::Forked { task: 101, parent: 1 },
            What::Named { pid: 101, name: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0" },
            tries(2, 101),
            connected(2, 5_001),
        ];
        happenings.into_iter().for_each(|what| book.hear(Happening { at: 0, what }));
        book.turn_to(0, &mut All(Some(7), Some(*b"bash\0\0\0\0\0\0\0\0\0\0\0\0")));
        let name = |port| {
            let (local, remote) = ends(port);
            book.heard_of(book.connector(7, local, remote)?)?.name
        };
        assert_eq!([5_000, 5_001].map(name), [Some(b"bash".to_vec()), Some(b"curl".to_vec())]);
    }

    #[test]
    fn what_is_not_known_is_nobodys() {
        let mut book = heard([What::Lost(3), tries(1, 0), connected(1, 5_001), tries(2, u32::MAX)]);
        assert_eq!((book.lost(), pid(&book, 5_001)), (3, None));
        book.hear(Happening { at: 0, what: tries(1, 100) });
        book.hear(Happening { at: 1, what: connected(1, 5_000) });
        book.turn_to(u64::MAX, &mut All(None, None));
        assert_eq!((book.lost(), pid(&book, 5_000)), (3, None));
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = (0..2 * MOST as u64).map(|socket| tries(socket, socket as u32 + 1));
        let book = heard(attempts);
        assert_eq!((book.tries.len(), book.tasks.len(), book.lost()), (MOST, MOST, MOST as u64));
        let mut book = Book::default();
        for round in 0..5 {
            for port in 0..60_000 {
                let what = [tries(1, 100), connected(1, port)];
                what.into_iter().for_each(|what| book.hear(Happening { at: 0, what }));
            }
            book.turn_to(u64::MAX, &mut All(Some(round), None));
            book.tasks.clear();
        }
        assert_eq!((book.made.len(), book.lost()), (MOST_MADE, 2 * 5 * 60_000 - MOST_MADE as u64));
        for _ in 0..4 {
            book.forget_old();
        }
        assert_eq!((book.made.len(), book.made.capacity() < 1 << 14), (0, true));
        assert!(book.heard.capacity() <= 1 << 14);
    }

    proptest! {
        /// Rings are read one after the other, and happenings are told in any order: what is known is the same, once the
        /// moment has passed in all of them.
        #[test]
        fn rings_may_be_read_in_any_order(
            happenings in prop::collection::vec((0u64..6, 1u32..4, 5_000u16..5_004, 0u8..4), 0..60),
            rings in prop::collection::vec(0usize..3, 60),
            cut in 0u64..60,
        ) {
            let all: Vec<Happening> = happenings
                .iter()
                .zip(0u64..)
                .map(|((socket, task, port, kind), at)| {
                    let what = match kind {
                        0 | 1 => tries(*socket, *task),
                        2 => connected(*socket, *port),
                        _ => failed(*socket, 1),
                    };
                    Happening { at, what }
                })
                .collect();
            let mut straight = Book::default();
            all.iter().for_each(|one| straight.hear(*one));
            straight.turn_to(u64::MAX, &mut All(Some(7), None));

            let mut torn = Book::default();
            // The first reading finds only a part of what came after it began.
            let of_ring = |ring: usize, late: bool| {
                let rings = rings.clone();
                all.iter().filter(move |one| rings[one.at as usize] == ring && (one.at > cut + ring as u64) == late)
            };
            (0..3).for_each(|ring| of_ring(ring, false).for_each(|one| torn.hear(*one)));
            torn.turn_to(cut, &mut All(Some(7), None));
            (0..3).for_each(|ring| of_ring(ring, true).for_each(|one| torn.hear(*one)));
            torn.turn_to(u64::MAX, &mut All(Some(7), None));
            for port in 5_000..5_004 {
                prop_assert_eq!(pid(&torn, port), pid(&straight, port));
            }
        }
    }
}
