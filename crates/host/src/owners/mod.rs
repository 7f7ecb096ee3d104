//! Who owns a socket: the process that holds it, its cgroup, service or container, its user.
//!
//! A record tells a socket's inode, user and cgroup. [`Owners`] finds the process that has the inode open, by reading
//! `/proc/<pid>/fd`, and no more of that than needed: it looks where a socket of this cgroup and user is likely, within a
//! time that the caller gives, and goes on next time. Names are [`Name`]s: other people's bytes.
//!
//! Leaves to others: sockets and how long they live; who owned one that is gone.

mod cgroup_paths;
mod name;
mod numbered;
mod owner;
mod place;
mod processes;
mod reading;
mod roster;
mod search;
mod slots;
mod table;
mod users;
mod vantage;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use name::Name;
pub use owner::{Owner, ProcessTexts};
pub use place::{Container, Place, Runtime};
pub use users::Users;

use sock_diag::Cookie;

use crate::Cgroups;
use cgroup_paths::CgroupPaths;
use processes::Processes;
use reading::{Depth, Step};
use search::Search;
use table::Origin;

/// Where owners are read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnerFiles {
    /// The mount of procfs: processes of its pid namespace, and those below it, are seen.
    pub proc: PathBuf,
    /// The mount of the unified cgroup hierarchy. None: there is none, and cgroup ids have no paths.
    pub cgroups: Option<PathBuf>,
    /// Names of users.
    pub passwd: PathBuf,
}

impl OwnerFiles {
    /// Those of this host.
    pub fn of_this_host() -> OwnerFiles {
        let cgroups = Cgroups::find().ok().flatten();
        OwnerFiles {
            proc: "/proc".into(),
            cgroups: cgroups.map(|cgroups| cgroups.mount().to_path_buf()),
            passwd: "/etc/passwd".into(),
        }
    }
}

/// Finds the owners of sockets, a little at a time.
///
/// The inode of a socket is unique among living sockets of the machine, whatever their network namespace, so one `Owners`
/// serves all namespaces. It sees processes of the pid namespace that `/proc` shows. A process whose threads do not share
/// their descriptors is known by those of its first thread.
///
/// Memory: 11 to 17 bytes a socket of the processes that were read, and those processes' names.
///
/// # Privileges
/// CAP_SYS_PTRACE for the descriptors of other users' processes, and of programs that made themselves undumpable. Without it
/// they are counted in [`Work::denied`], and sockets of theirs have no owner.
#[derive(Debug)]
pub struct Owners {
    processes: Processes,
    cgroups: CgroupPaths,
    search: Search,
    /// Time spent on glances since the last work.
    glances: Duration,
}

const GLANCES: Duration = Duration::from_millis(2);

/// How far [`Owners::work`] has come.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Work {
    /// Sockets whose owner is still sought.
    pub left: usize,
    /// Processes that may not be looked into.
    pub denied: usize,
}

/// TASK_COMM_LEN without the zero at its end.
const LONGEST_NAME: usize = 15;

impl Owners {
    /// Of this host.
    pub fn of_this_host() -> Owners {
        Owners::within(&OwnerFiles::of_this_host())
    }

    /// Of the host whose files these are. What cannot be read there is nobody's. Reads the users; processes when asked.
    pub fn within(files: &OwnerFiles) -> Owners {
        Owners {
            processes: Processes::below(&files.proc, Users::read(&files.passwd)),
            cgroups: CgroupPaths::below(files.cgroups.clone()),
            search: Search::default(),
            glances: Duration::ZERO,
        }
    }

    /// Asks for the owner of a socket, as its record tells inode, user and cgroup. Nothing happens for one that is being
    /// sought, or was in vain. The answer comes from [`answers`](Owners::answers) by the cookie, at once where it is known.
    ///
    /// Memory: 20 to 40 bytes, until it is found.
    pub fn want(&mut self, cookie: Cookie, inode: u32, uid: u32, cgroup_id: Option<u64>) {
        if inode != 0 {
            self.search.want(cookie, inode, Origin { cgroup: cgroup_id, uid }, &mut self.processes);
        }
    }

    /// Looks for the owner of a socket at once, in some tens of microseconds: at the lowest free numbers of processes that
    /// opened sockets like it before. For sockets that may be gone in a moment, while the kernel tells of them; its owner
    /// is told if it is seen, else it is to be [wanted](Owners::want) like any other. Between two calls of
    /// [`work`](Owners::work) all glances take two milliseconds at most; further ones see nothing.
    pub fn glance(&mut self, inode: u32, uid: u32, cgroup_id: Option<u64>) -> Option<NonZeroU32> {
        let origin = Origin { cgroup: cgroup_id, uid };
        if self.of(inode).is_none() && inode != 0 && self.glances < GLANCES {
            let begin = Instant::now();
            self.processes.glance(inode, origin);
            self.glances += begin.elapsed();
        }
        let owner = self.of(inode)?;
        self.search.found(inode, origin, &mut self.processes);
        Some(owner)
    }

    /// Tells that a socket is gone, or has no inode any more: nobody seeks its owner, and its descriptors are the first
    /// that are looked at for new ones. Without this all is found just the same, but a process with many sockets has to be
    /// read again as a whole. Cost: a look into two hash tables.
    pub fn gone(&mut self, inode: u32) {
        self.search.gone(inode);
        self.processes.table.vacate(inode);
    }

    /// Whether processes are to be seen at all: `/proc` may not be mounted, or masked.
    pub fn sees_processes(&self) -> bool {
        self.processes.are_seen()
    }

    /// Takes back a [want](Owners::want): the owner is known otherwise.
    pub fn leave(&mut self, inode: u32) {
        self.search.gone(inode);
    }

    /// The owner that this process is, whether it has sockets or not; None when there is no such process. Needs no
    /// privilege. Cost: one small file; four for a process that is new.
    pub fn process(&mut self, pid: u32) -> Option<NonZeroU32> {
        self.processes.look_at(pid)
    }

    /// Seeks what is wanted, for as long as `budget`, and at least a step. A step takes some tens of microseconds; listing a
    /// hundred processes, or a folder of cgroups, up to a millisecond.
    pub fn work(&mut self, budget: Duration) -> Work {
        let begin = Instant::now();
        self.glances = Duration::ZERO;
        while self.search.step(&mut self.processes, &mut self.cgroups) && begin.elapsed() < budget {}
        self.progress()
    }

    /// Reads every descriptor of every process, however long that takes: 1 to 3 µs each. For a single look at many sockets.
    pub fn read_everyone(&mut self) -> Work {
        let mut pids = Vec::new();
        if let Some(mut listing) = self.processes.list() {
            while listing.list(&mut pids).unwrap_or(false) {}
        }
        for pid in pids {
            self.read_process(pid);
        }
        self.progress()
    }

    /// Reads every descriptor of the processes of this name, of which the kernel keeps the first 15 bytes. The sockets they
    /// have open; None when nobody is called so, or none of them may be looked into. Cost: a file for each process, and 1 to
    /// 3 µs for each of their descriptors.
    pub fn read_named(&mut self, name: &[u8]) -> Option<Vec<u32>> {
        let mut pids = Vec::new();
        let mut listing = self.processes.list()?;
        while listing.list(&mut pids).unwrap_or(false) {}
        let kept = &name[..name.len().min(LONGEST_NAME)];
        let mut sockets = None;
        for pid in pids {
            if self.processes.is_named(pid, kept) && self.read_process(pid) {
                sockets.get_or_insert_with(Vec::new).extend(self.sockets_of(pid));
            }
        }
        sockets
    }

    /// The sockets that a process has open, as far as it was read; by descriptor.
    pub fn sockets_of(&self, pid: u32) -> Vec<u32> {
        self.processes.table.slots.sockets(pid).map(|(_, inode)| inode).collect()
    }

    /// Reads every descriptor of one process: what of its sockets is [wanted](Owners::want) is answered. False when there is
    /// none, or it may not be looked into. Cost: 1 to 3 µs a descriptor.
    pub fn read_process(&mut self, pid: u32) -> bool {
        let Some(mut reading) = self.processes.begin(pid, Depth::Every, None, 0) else { return false };
        let mut found = Vec::new();
        loop {
            let step = self.processes.go_on(&mut reading, &mut found, 0);
            for inode in found.drain(..) {
                self.search.met(inode, &mut self.processes);
            }
            if step != Step::Unfinished {
                return step == Step::Finished;
            }
        }
    }

    /// Looks for the paths of these cgroups, for as long as `budget`. False when there is more to look through. Cost: 20 µs for
    /// each cgroup of the host; none where the paths are known, or have been sought in vain.
    pub fn seek_cgroups(&mut self, ids: &[u64], budget: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < budget {
            if !self.cgroups.seek(ids.iter().copied()) {
                return true;
            }
        }
        false
    }

    fn progress(&self) -> Work {
        let denied = self.processes.table.processes.values().filter(|process| process.denied).count();
        Work { left: self.search.left(), denied }
    }

    /// What was found since the last call, of what was [wanted](Owners::want): sockets and their owners. None: everybody
    /// who may be looked into was, and nobody holds it.
    pub fn answers(&mut self) -> Vec<(Cookie, Option<NonZeroU32>)> {
        if self.search.left() == 0 {
            self.processes.table.give_back();
        }
        self.search.answers()
    }

    /// Owner of a socket as far as it is known, by number. Where several processes hold it, the one that began first: it
    /// opened the socket and then forked, as a server before its workers. Only a service manager (pid 1, or what runs in a
    /// cgroup `init.scope`) comes after all others: it opens sockets for the services it starts. When a holder that ranks
    /// before the others is found later, the answer changes.
    pub fn of(&self, inode: u32) -> Option<NonZeroU32> {
        self.processes.owner_of(inode)
    }

    /// Everybody known to hold a socket, and by which descriptor; by pid, as `ss -p` lists them.
    pub fn holders(&self, inode: u32) -> Vec<(NonZeroU32, u32)> {
        let mut holders: Vec<_> = self.processes.table.holders(inode).collect();
        holders.sort_unstable();
        let owner = |pid: u32| self.processes.table.processes.get(&pid)?.owner;
        holders.into_iter().filter_map(|holder| Some((owner(holder.pid)?, holder.descriptor))).collect()
    }

    /// An owner by its number, also one that has ended; None when it was [forgotten](Owners::forget).
    pub fn owner(&self, id: NonZeroU32) -> Option<&Owner> {
        self.processes.roster.of(id)
    }

    /// Forgets owners whose process has ended and that are not to be kept. Their numbers may be given out again. Cost: a look
    /// at each process that is known.
    pub fn forget(&mut self, keep: impl Fn(NonZeroU32) -> bool) {
        self.processes.bury();
        self.processes.roster.forget(keep);
    }

    /// Users and their names.
    pub fn users(&self) -> &Users {
        &self.processes.users
    }

    /// Path of a cgroup; None when it has none here, or was not looked for yet: [`work`](Owners::work) looks for the
    /// cgroups of what is wanted.
    pub fn cgroup(&self, id: u64) -> Option<&Name> {
        self.cgroups.path(id)
    }

    /// Sockets whose holder is known, wanted or not.
    pub fn known_sockets(&self) -> usize {
        self.processes.table.sockets()
    }
}
