//! What was heard, brought into its order: who tried, what came of it, and who they were.

use std::hash::BuildHasher;
use std::net::SocketAddr;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};

use crate::owners::Name;

use super::Connector;
use super::record::{Happening, What};

/// The most connects that are remembered.
const MOST_MADE: usize = 1 << 18;
/// The most connects under way, and the most threads.
const MOST: usize = 1 << 16;

#[derive(Default, Debug)]
pub(super) struct Book {
    /// Heard and not taken in yet.
    heard: Vec<Happening>,
    hasher: DefaultHashBuilder,
    /// Who tries, by socket.
    tries: HashMap<u64, Try>,
    made: HashTable<Made>,
    /// By their numbers, which are tids; that of a process's first thread is its pid.
    tasks: HashMap<u32, Task>,
    /// Calls of `forget_old`.
    age: u32,
    lost: u64,
}

#[derive(Clone, Copy, Debug)]
struct Try {
    pid: u32,
    netns: Option<u64>,
}

/// A connection that somebody made.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// Of both its ends and the namespace. Two with the same 64 bits are taken for one.
    hash: u64,
    pid: u32,
    age: u32,
}

/// A thread. What a process is called and where it belongs is told of its first one.
#[derive(Clone, Copy, Default, Debug)]
struct Task {
    netns: Option<u64>,
    cgroup: u64,
    name: Option<[u8; 16]>,
    /// When it connected last, or ended.
    age: u32,
    has_ended: bool,
    connects: bool,
}

impl Book {
    pub(super) fn hear(&mut self, happening: Happening) {
        self.heard.push(happening);
    }

    /// Takes in, in its order, all that happened until this moment: of what came later, each processor may have told a
    /// part. `netns_of` tells a living thread's network namespace.
    pub(super) fn turn_to(&mut self, until: u64, mut netns_of: impl FnMut(u32) -> Option<u64>) {
        let mut heard = std::mem::take(&mut self.heard);
        heard.sort_by_key(|happening| happening.at);
        let past = heard.partition_point(|happening| happening.at <= until);
        for happening in heard.drain(..past) {
            self.take_in(happening.what, &mut netns_of);
        }
        // Room that a storm needed is given back.
        if heard.capacity() > 1 << 14 && heard.len() < 1 << 12 {
            heard.shrink_to(1 << 12);
        }
        self.heard = heard;
    }

    fn take_in(&mut self, what: What, netns_of: &mut impl FnMut(u32) -> Option<u64>) {
        match what {
            // Of another pid namespace, or none at all.
            What::Tries { pid: 0 | u32::MAX, .. } => self.lost += 1,
            What::Tries { socket, pid, task, cgroup } => {
                let netns = self.task(task).and_then(|task_| {
                    task_.netns = task_.netns.or_else(|| netns_of(task));
                    task_.netns
                });
                let age = self.age;
                if let Some(first) = self.task(pid) {
                    (first.cgroup, first.age, first.connects) = (cgroup, age, true);
                }
                if self.tries.len() < MOST || self.tries.contains_key(&socket) {
                    self.tries.insert(socket, Try { pid, netns });
                } else {
                    self.lost += 1;
                }
            }
            What::Connected { socket, local, remote } => {
                if let Some(try_) = self.tries.remove(&socket) {
                    self.note(try_, local, remote);
                }
            }
            What::Failed { socket } => {
                self.tries.remove(&socket);
            }
            What::Forked { task, parent } => {
                let known = self.tasks.get(&parent).copied().unwrap_or_default();
                self.tasks.remove(&task);
                if let Some(task) = self.task(task) {
                    *task = Task { connects: false, has_ended: false, ..known };
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
            What::Ended { task } => self.end(task),
            What::Lost(records) => {
                self.lost += records;
                // Who has ended, or moved, may be among what was lost.
                self.tasks.clear();
            }
        }
    }

    /// The task with this number; None when there are too many.
    fn task(&mut self, number: u32) -> Option<&mut Task> {
        if self.tasks.len() >= MOST && !self.tasks.contains_key(&number) {
            return None;
        }
        Some(self.tasks.entry(number).or_default())
    }

    fn note(&mut self, Try { pid, netns }: Try, local: SocketAddr, remote: SocketAddr) {
        let Some(netns) = netns else {
            self.lost += 1;
            return;
        };
        let hash = self.hash(netns, local, remote);
        let made = Made { hash, pid, age: self.age };
        let has_room = self.made.len() < MOST_MADE;
        match self.made.find_mut(hash, |one| one.hash == hash) {
            Some(before) => *before = made,
            None if has_room => {
                self.made.insert_unique(hash, made, |one| one.hash);
            }
            None => self.lost += 1,
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

    pub(super) fn connector(&self, netns: u64, local: SocketAddr, remote: SocketAddr) -> Option<Connector> {
        let hash = self.hash(netns, local, remote);
        let pid = self.made.find(hash, |one| one.hash == hash)?.pid;
        let task = self.tasks.get(&pid).copied().unwrap_or_default();
        Some(Connector {
            pid,
            name: task.name.map(|name| Name::from(until_zero(&name))),
            cgroup_id: (task.cgroup != 0).then_some(task.cgroup),
        })
    }

    fn hash(&self, netns: u64, local: SocketAddr, remote: SocketAddr) -> u64 {
        let end = |end: SocketAddr| (end.ip().to_canonical(), end.port());
        self.hasher.hash_one((netns, end(local), end(remote)))
    }

    pub(super) fn forget_old(&mut self) {
        self.age += 1;
        let age = self.age;
        self.made.retain(|made| made.age + 1 >= age);
        self.tasks.retain(|_, task| !task.has_ended || task.age + 2 >= age);
        if self.made.capacity() > 1 << 12 && self.made.len() * 4 < self.made.capacity() {
            self.made.shrink_to(self.made.len() * 2, |one| one.hash);
        }
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

fn until_zero(name: &[u8]) -> &[u8] {
    name.split(|byte| *byte == 0).next().unwrap_or_default()
}
