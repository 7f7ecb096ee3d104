//! Which processes hold a socket, for outputs that name them in a single look.
//!
//! Leaves to others: finding them (`sockeye_host::owners`), and owners over time.

use std::time::{Duration, Instant};

use sock_diag::SocketRecord;
use sockeye_host::owners::{Owner, Owners};

/// A process that has a socket open.
#[derive(Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) owner: &'a Owner,
    /// Its number for the socket.
    pub(crate) descriptor: u32,
}

/// The processes of the host and their sockets, read once.
pub(crate) struct Holders {
    owners: Owners,
    /// Time left for sockets that are younger than the reading.
    spare: Duration,
    denied: usize,
    nobodys: u64,
}

/// For all such sockets together: enough for a few, and not felt.
const SPARE: Duration = Duration::from_millis(100);

impl Holders {
    /// Reads every descriptor of every process, as ss does: 1 to 3 µs each.
    pub(crate) fn read() -> Holders {
        let mut owners = Owners::of_this_host();
        let denied = owners.read_everyone().denied;
        Holders { owners, spare: SPARE, denied, nobodys: 0 }
    }

    /// Holders of the socket, its owner first, the others by pid. None of a socket that belongs to no process (any more), or
    /// to one that may not be looked into.
    pub(crate) fn of(&mut self, record: &SocketRecord) -> Vec<Holder<'_>> {
        let Some(inode) = record.inode.map(|inode| inode.get()) else { return Vec::new() };
        if self.owners.of(inode).is_none() && !self.spare.is_zero() {
            let begin = Instant::now();
            self.owners.want(record.id.cookie, inode, record.uid.unwrap_or(0), record.cgroup_id);
            self.owners.work(self.spare);
            if self.owners.of(inode).is_none() {
                // No further time for it.
                self.owners.gone(inode);
            }
            self.spare = self.spare.saturating_sub(begin.elapsed());
        }
        let owner = self.owners.of(inode);
        self.nobodys += u64::from(owner.is_none());
        let mut holders = self.owners.holders(inode);
        holders.sort_by_key(|(id, _)| Some(*id) != owner);
        let named = |(id, descriptor)| Some(Holder { owner: self.owners.owner(id)?, descriptor });
        holders.into_iter().filter_map(named).collect()
    }

    /// What is to be said of sockets whose holder could not be seen. None: there were none, or it was no matter of privilege.
    pub(crate) fn note(&self) -> Option<String> {
        (self.nobodys > 0 && self.denied > 0).then(|| {
            format!(
                "sockets without an owner here: {}; processes that may not be looked into: {}. As root (CAP_SYS_PTRACE) \
                 all owners are seen",
                self.nobodys, self.denied
            )
        })
    }
}
