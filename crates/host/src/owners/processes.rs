//! The processes of a host, their sockets and their owners: what is known, and the steps by which it becomes more.
//!
//! Leaves to others: in which order, how far and when (`search`).

use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat_raw};
use rustix::io::Errno;

use super::numbered::Numbered;
use super::owner::{self, Identity, Owner};
use super::reading::{Depth, Reading, Step};
use super::roster::Roster;
use super::table::{Origin, Process, Table};
use super::users::Users;
use super::vantage::Vantages;

/// Start time of a process that may not be looked into: nobody's.
const UNKNOWN: u64 = u64::MAX;

/// Below one mount of procfs.
#[derive(Debug)]
pub(super) struct Processes {
    /// None: not mounted, and nobody is found.
    proc: Option<OwnedFd>,
    pub(super) users: Users,
    pub(super) table: Table,
    pub(super) roster: Roster,
    vantages: Vantages,
}

impl Processes {
    pub(super) fn below(proc: &Path, users: Users) -> Processes {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = openat(CWD, proc, flags, Mode::empty()).ok();
        Processes {
            proc,
            users,
            table: Table::default(),
            roster: Roster::default(),
            vantages: Vantages::default(),
        }
    }

    /// Whether `/proc` shows processes.
    pub(super) fn are_seen(&self) -> bool {
        let mut numbers = Vec::new();
        let Some(mut listing) = self.list() else { return false };
        while numbers.is_empty() && listing.list(&mut numbers).unwrap_or(false) {}
        !numbers.is_empty()
    }

    /// A listing of `/proc`; None when it is not mounted.
    pub(super) fn list(&self) -> Option<Numbered> {
        Numbered::open(self.proc.as_ref()?, c".").ok()
    }

    /// The number that was given out last, to a process or a thread: while it stays the same nobody new has come. None
    /// when `/proc` does not say, or shows another pid namespace than ours, of which that file tells.
    pub(super) fn latest_pid(&self) -> Option<u32> {
        let mut ourselves = [0; 16];
        let length = readlinkat_raw(self.proc.as_ref()?, c"self", &mut ourselves[..]).ok()?;
        if ourselves[..length] != *std::process::id().to_string().as_bytes() {
            return None;
        }
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = openat(self.proc.as_ref()?, c"loadavg", flags, Mode::empty()).ok()?;
        let text = std::io::read_to_string(std::fs::File::from(file)).ok()?;
        text.split_ascii_whitespace().nth(4)?.parse().ok()
    }

    /// Whether there is a process of this number and name.
    pub(super) fn is_named(&self, pid: u32, name: &[u8]) -> bool {
        let identity = self.proc.as_ref().and_then(|proc| Identity::read(proc, pid).ok());
        identity.is_some_and(|identity| identity.name.as_bytes() == name)
    }

    /// User of a process; None when it has ended.
    pub(super) fn uid(&self, pid: u32) -> Option<u32> {
        owner::folder_uid(self.proc.as_ref()?, pid).ok()
    }

    /// Begins to read the descriptors of a process, known or not. None when it has ended or may not be looked into.
    pub(super) fn begin(
        &mut self,
        pid: u32,
        depth: Depth,
        cgroup: Option<u64>,
        pass: u64,
    ) -> Option<Reading> {
        // The folder first: it stays that of this process, and where it is not for us the rest is not worth its cost.
        let proc = self.proc.as_ref()?;
        let opened = Numbered::open(proc, format!("{pid}/fd").as_str())
            .and_then(|folder| Ok((folder, Identity::read(proc, pid)?)));
        match opened {
            Ok((folder, identity)) => {
                self.meet(pid, &identity, cgroup, pass);
                Some(Reading::begin(folder, pid, identity, depth))
            }
            Err(error) => {
                self.failed(pid, error, cgroup, pass);
                None
            }
        }
    }

    /// Who has this number now.
    pub(super) fn look_at(&mut self, pid: u32) -> Option<NonZeroU32> {
        let proc = self.proc.as_ref()?;
        let identity = match Identity::read(proc, pid) {
            Ok(identity) => identity,
            Err(error) => {
                self.failed(pid, error, None, 0);
                return None;
            }
        };
        self.meet(pid, &identity, None, 0);
        self.own(pid, &identity)
    }

    /// The owner that a known process is.
    fn own(&mut self, pid: u32, identity: &Identity) -> Option<NonZeroU32> {
        let process = self.table.processes.get_mut(&pid)?;
        if process.owner.is_none()
            && let Some(proc) = &self.proc
        {
            let owner = Owner::read(proc, pid, identity.clone(), &self.users);
            process.owner = self.roster.add(owner);
        }
        process.owner
    }

    /// Reads a slice and appends the inodes of the sockets seen.
    pub(super) fn go_on(&mut self, reading: &mut Reading, found: &mut Vec<u32>, pass: u64) -> Step {
        let step = reading.go_on(&mut self.table, found);
        if !found.is_empty() {
            self.own(reading.pid, &reading.identity);
        }
        let Some(process) = self.table.processes.get_mut(&reading.pid) else { return step };
        match step {
            Step::Unfinished => {}
            Step::Finished => {
                process.denied = false;
                match reading.depth {
                    Depth::Every => process.read_in = Some(pass),
                    Depth::Doubtful if reading.has_news => self.vantages.favour(reading.pid),
                    Depth::Doubtful => {}
                }
            }
            Step::Denied => process.denied = true,
            Step::Gone => self.end(reading.pid),
        }
        step
    }

    /// Whoever has this number now is known afterwards; another who had it has ended.
    fn meet(&mut self, pid: u32, identity: &Identity, cgroup: Option<u64>, pass: u64) {
        if self.table.processes.get(&pid).is_some_and(|known| known.start_time != identity.start_time) {
            self.end(pid);
        }
        let process = self
            .table
            .processes
            .entry(pid)
            .or_insert_with(|| Process::new(identity.start_time, identity.folder_uid, cgroup, pass));
        process.uid = identity.folder_uid;
        process.cgroup = cgroup.or(process.cgroup);
        if let Some(owner) = process.owner.and_then(|id| self.roster.of_mut(id))
            && owner.name != identity.name
            && let Some(proc) = &self.proc
        {
            owner.rename(proc, identity.name.clone());
        }
    }

    fn failed(&mut self, pid: u32, error: Errno, cgroup: Option<u64>, pass: u64) {
        let uid = self.uid(pid);
        match (error, uid) {
            (Errno::ACCESS | Errno::PERM, Some(uid)) => {
                let stranger = || Process::new(UNKNOWN, uid, cgroup, pass);
                self.table.processes.entry(pid).or_insert_with(stranger).denied = true;
            }
            _ => self.end(pid),
        }
    }

    /// Looks for a socket where one is that was opened just now: see [`Vantages`].
    pub(super) fn glance(&mut self, inode: u32, origin: Origin) {
        if let Some(proc) = &self.proc {
            self.vantages.glance(proc, &mut self.table, inode, origin);
        }
    }

    /// Finds out who has ended.
    pub(super) fn bury(&mut self) {
        let gone: Vec<u32> =
            self.table.processes.keys().copied().filter(|pid| self.uid(*pid).is_none()).collect();
        gone.into_iter().for_each(|pid| self.end(pid));
    }

    /// The process has ended: nothing of it is left but its owner.
    pub(super) fn end(&mut self, pid: u32) {
        if let Some(id) = self.table.remove(pid).and_then(|process| process.owner) {
            self.roster.end(id);
        }
    }

    /// Owner of a socket: of several holders the process that began first, for that is who opened it and then forked. Only
    /// a service manager, which opens sockets for services it starts on demand, comes after all others.
    pub(super) fn owner_of(&self, inode: u32) -> Option<NonZeroU32> {
        let rank = |id: &NonZeroU32| {
            let owner = self.roster.of(*id);
            let manager = owner.is_some_and(|o| o.pid == 1 || o.place.is_service_manager());
            (manager, owner.map(|o| (o.start_time, o.pid)))
        };
        let owners =
            self.table.holders(inode).filter_map(|holder| self.table.processes.get(&holder.pid)?.owner);
        owners.min_by_key(rank)
    }

    /// Notes that each holder of the socket turned out to hold one of this origin, and that the socket lives.
    pub(super) fn had_luck(&mut self, inode: u32, origin: Origin, pass: u64) {
        self.table.vouch(inode);
        let pids: Vec<u32> = self.table.holders(inode).map(|holder| holder.pid).collect();
        for pid in pids {
            if let Some(process) = self.table.processes.get_mut(&pid) {
                process.had_luck(origin, pass);
                self.vantages.favour(pid);
            }
        }
    }
}
