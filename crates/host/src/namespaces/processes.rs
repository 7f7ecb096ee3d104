//! A walk over all processes, one at a time, and in which network namespace each is.

use std::fs::{self, ReadDir};
use std::io;
use std::path::Path;

use super::Processes;

/// Processes that are looked at however little time there is: a walk must come to its end.
pub(super) const LEAST: usize = 32;

/// One walk.
#[derive(Debug)]
pub(super) struct Round {
    /// None when `/proc` cannot be listed.
    entries: Option<ReadDir>,
    processes: Processes,
    /// Processes since the walk was taken up.
    taken: usize,
}

/// What was met.
pub(super) enum Seen {
    /// A process in a namespace.
    In { pid: u32, inode: u64 },
    /// One that may not be looked at, is just ending, or no process at all.
    Nothing,
}

/// Why the namespace of a process is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unknown {
    /// It may not be looked at.
    Hidden,
    /// It is gone, or on its way.
    Gone,
}

impl Round {
    pub(super) fn begin(proc: &Path) -> Round {
        Round { entries: fs::read_dir(proc).ok(), processes: Processes::default(), taken: 0 }
    }

    /// Whether so little was done since this was asked last that it would be no progress to stop.
    pub(super) fn is_fresh(&mut self) -> bool {
        let is_fresh = self.taken < LEAST;
        if !is_fresh {
            self.taken = 0;
        }
        is_fresh
    }

    /// None at the end of the walk.
    pub(super) fn next(&mut self, proc: &Path) -> Option<Seen> {
        // An error ends the walk as its end does: what it has not met is met by the next one.
        let entry = self.entries.as_mut()?.next()?.ok()?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            return Some(Seen::Nothing);
        };
        self.taken += 1;
        Some(match namespace_of(proc, pid) {
            Ok(inode) => {
                self.processes.seen += 1;
                Seen::In { pid, inode }
            }
            Err(Unknown::Hidden) => {
                self.processes.hidden += 1;
                Seen::Nothing
            }
            Err(Unknown::Gone) => Seen::Nothing,
        })
    }

    pub(super) fn processes(&self) -> Processes {
        self.processes
    }
}

/// The namespace a process is in.
pub(super) fn namespace_of(proc: &Path, pid: u32) -> Result<u64, Unknown> {
    // The link's text is the answer: following it would open the namespace.
    match fs::read_link(proc.join(format!("{pid}/ns/net"))) {
        Ok(link) => inode_of(&link).ok_or(Unknown::Gone),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(Unknown::Hidden),
        Err(_) => Err(Unknown::Gone),
    }
}

/// The number in `net:[4026531840]`.
pub(super) fn inode_of(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}
