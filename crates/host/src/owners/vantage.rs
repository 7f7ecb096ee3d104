//! A quick eye on the processes that open sockets now: their folders of descriptors stay open.
//!
//! A connection of a proxy may live for a millisecond. By the time a sweep is over it is gone, and its process with it; but
//! while the kernel tells of it, it is at the lowest number that was free.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use super::numbered::{Numbered, Target};
use super::table::{Holder, Origin, Process, Table};

/// The processes that were last found to hold a socket that was sought, or a new one, the latest first. Descriptors of ours: one for each.
#[derive(Default, Debug)]
pub(super) struct Vantages(VecDeque<Vantage>);

#[derive(Debug)]
struct Vantage {
    pid: u32,
    /// Tells it from another process that gets its number.
    start_time: u64,
    /// Opened at the first glance.
    folder: Option<Numbered>,
}

const MOST: usize = 16;
/// Numbers looked at in each process: the lowest that may be new.
const NUMBERS: usize = 4;

impl Vantages {
    /// The process was found to hold a socket that was sought, or one that is new.
    pub(super) fn favour(&mut self, pid: u32) {
        if self.0.front().is_some_and(|first| first.pid == pid) {
            return;
        }
        let known = self.0.iter().position(|vantage| vantage.pid == pid).and_then(|at| self.0.remove(at));
        self.0.truncate(MOST - 1);
        self.0.push_front(known.unwrap_or(Vantage { pid, start_time: 0, folder: None }));
    }

    /// Looks for a socket at the lowest numbers that may be new, of processes that hold others of its cgroup or user; what is
    /// there goes into the table. Cost: some microseconds for each process.
    pub(super) fn glance(&mut self, proc: &OwnedFd, table: &mut Table, inode: u32, origin: Origin) {
        self.0.retain_mut(|vantage| vantage.is_open(proc, table));
        let found = self.0.iter().position(|vantage| vantage.looks_at(table, inode, origin));
        if let Some(vantage) = found.and_then(|at| self.0.remove(at)) {
            self.0.push_front(vantage);
        }
    }
}

impl Vantage {
    /// Whether the process is still the one it was.
    fn is_open(&mut self, proc: impl AsFd, table: &Table) -> bool {
        let Some(process) = table.processes.get(&self.pid) else { return false };
        if self.folder.is_none() {
            self.start_time = process.start_time;
            self.folder = Numbered::open(proc, format!("{}/fd", self.pid).as_str()).ok();
        }
        self.folder.is_some() && self.start_time == process.start_time
    }

    fn looks_at(&self, table: &mut Table, inode: u32, origin: Origin) -> bool {
        let Some(folder) = &self.folder else { return false };
        let mut next = 0;
        for _ in 0..NUMBERS {
            let is_kin = |process: &Process| {
                process.uid == origin.uid || process.origins.iter().any(|one| one.is_akin(origin))
            };
            if !table.processes.get(&self.pid).is_some_and(is_kin) {
                return false;
            }
            let descriptor = table.slots.next_free(Holder { pid: self.pid, descriptor: next });
            let Ok(target) = folder.descriptor(descriptor) else { return false };
            table.set(Holder { pid: self.pid, descriptor }, target);
            if target == Target::Socket(inode) {
                return true;
            }
            next = descriptor.saturating_add(1);
        }
        false
    }
}
