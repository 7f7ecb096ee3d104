//! One process's descriptors being read, a few at a time.
//!
//! Leaves to others: whose to read, and when to stop (`search`).

use rustix::io::Errno;

use super::numbered::{Numbered, Target};
use super::owner::Identity;
use super::slots::Slots;
use super::table::{Holder, Table};

/// Which descriptors are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Depth {
    /// Those that are not known to be open for a living socket. Finds what a process has opened since it was read last, as
    /// the kernel gives out the lowest number that is free, at the cost of what has changed.
    Doubtful,
    /// All there are.
    Every,
}

/// How far a reading has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// There is more.
    Unfinished,
    /// To its end.
    Finished,
    /// The process may not be looked into.
    Denied,
    /// It has ended.
    Gone,
}

/// A reading that may be left and gone on with: the folder stays open, and only that one.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) pid: u32,
    pub(super) identity: Identity,
    pub(super) depth: Depth,
    /// Whether it has seen a socket that was not there before.
    pub(super) has_news: bool,
    folder: Numbered,
    /// Of [`Depth::Doubtful`]: the number to ask next, and how many before it were closed.
    next: u32,
    closed_in_a_row: u32,
    /// Of [`Depth::Every`]: the numbers listed, how many of them are read, whether the listing goes on.
    listed: Vec<u32>,
    at: usize,
    listing: Listing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listing {
    GoesOn,
    Ended,
    /// Those known before and not listed have been added: they are closed, most likely.
    Completed,
}

/// Descriptors of one slice: tens of microseconds.
const SLICE: usize = 16;

impl Reading {
    pub(super) fn begin(folder: Numbered, pid: u32, identity: Identity, depth: Depth) -> Reading {
        Reading {
            pid,
            identity,
            depth,
            has_news: false,
            folder,
            next: 0,
            closed_in_a_row: 0,
            listed: Vec::new(),
            at: 0,
            listing: Listing::GoesOn,
        }
    }

    /// Reads a slice into the table and appends the inodes of the sockets seen.
    pub(super) fn go_on(&mut self, table: &mut Table, found: &mut Vec<u32>) -> Step {
        for _ in 0..SLICE {
            if !table.processes.contains_key(&self.pid) {
                return Step::Gone;
            }
            let descriptor = match self.next_descriptor(&table.slots) {
                Ok(Some(descriptor)) => descriptor,
                Ok(None) => return Step::Finished,
                Err(error) => return Step::of(error),
            };
            let target = match self.folder.descriptor(descriptor) {
                Ok(target) => target,
                Err(error) => return Step::of(error),
            };
            self.has_news |= table.set(Holder { pid: self.pid, descriptor }, target);
            self.closed_in_a_row = if target == Target::Closed { self.closed_in_a_row + 1 } else { 0 };
            if let Target::Socket(inode) = target {
                found.push(inode);
            }
        }
        Step::Unfinished
    }

    fn next_descriptor(&mut self, slots: &Slots) -> Result<Option<u32>, Errno> {
        if self.depth == Depth::Doubtful {
            let descriptor =
                slots.next_doubtful(Holder { pid: self.pid, descriptor: self.next }, self.closed_in_a_row);
            if descriptor == u32::MAX {
                return Ok(None);
            }
            if descriptor > self.next {
                self.closed_in_a_row = 0;
            }
            self.next = descriptor + 1;
            return Ok(Some(descriptor));
        }
        while self.at == self.listed.len() {
            match self.listing {
                Listing::GoesOn => {
                    if !self.folder.list(&mut self.listed)? {
                        self.listing = Listing::Ended;
                    }
                }
                Listing::Ended => {
                    self.listed.sort_unstable();
                    let unlisted =
                        slots.open(self.pid).filter(|known| self.listed.binary_search(known).is_err());
                    let unlisted: Vec<u32> = unlisted.collect();
                    self.listed.extend(unlisted);
                    self.listing = Listing::Completed;
                }
                Listing::Completed => return Ok(None),
            }
        }
        self.at += 1;
        Ok(Some(self.listed[self.at - 1]))
    }
}

impl Step {
    fn of(error: Errno) -> Step {
        match error {
            Errno::ACCESS | Errno::PERM => Step::Denied,
            _ => Step::Gone,
        }
    }
}
