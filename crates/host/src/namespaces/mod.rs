//! The network namespaces of a host: found, named, and dropped when they are gone, a piece of work at a time.
//!
//! A namespace is found where the kernel shows one: in a process (`/proc/PID/ns/net`), under a mount (`ip netns`, container
//! runtimes) or behind a link in `/run/netns`. One that only an open descriptor keeps is not found. Entering them and
//! reading their sockets is for others.

mod mounts;
mod name;
mod processes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use name::NamespaceName;

use mounts::Mounted;
use processes::{Round, Seen};

/// Processes that are remembered of each namespace: one is enough to find the way in, the others outlive it.
const MOST_WITNESSES: usize = 4;
/// A name may change while its process starts; later it is looked at once in so many looks.
const FRESH_LOOKS: u32 = 4;
const LOOKS_PER_NAME: u32 = 32;

/// The namespaces known so far. Each [`look`](Self::look) brings that up to date, as far as its time allows.
///
/// Memory: a few hundred bytes a namespace; nothing is kept of processes.
#[derive(Debug)]
pub struct Namespaces {
    root: PathBuf,
    known: BTreeMap<u64, Entry>,
    /// The walk over all processes that goes on.
    round: Option<Round>,
    /// Number of that walk, or of the next.
    number: u64,
    last: Processes,
    rounds: u64,
}

/// A namespace of this host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundNamespace {
    /// Inode of its file, as `lsns` shows it. The kernel gives it to another namespace once this one is gone:
    /// `SO_NETNS_COOKIE` tells the two apart.
    pub inode: u64,
    /// What people call it.
    pub name: NamespaceName,
    /// Files that lead to it, the most lasting first: mounts, then processes. Any of them may be gone, or lead elsewhere,
    /// by the time it is opened.
    pub ways: Vec<PathBuf>,
}

impl FoundNamespace {
    /// Those mounted according to the text of `/proc/<pid>/mountinfo`, in its order; one mounted twice is told twice. Lines
    /// that make no sense are passed over.
    pub fn mounted_in(mountinfo: &[u8]) -> impl Iterator<Item = FoundNamespace> {
        mounts::parse(mountinfo).map(|mounted| FoundNamespace {
            inode: mounted.inode,
            name: mounted.name.unwrap_or_else(|| NamespaceName::Mounted(mounted.path.clone())),
            ways: vec![mounted.path],
        })
    }
}

/// Processes of one whole walk.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Processes {
    /// Whose namespace is known.
    pub seen: usize,
    /// Whose namespace may not be looked at: other users' processes, without CAP_SYS_PTRACE.
    pub hidden: usize,
}

#[derive(Debug)]
struct Entry {
    mounts: Vec<PathBuf>,
    /// Its name in `/run/netns`.
    named: Option<NamespaceName>,
    /// Processes in it, lowest first.
    witnesses: Vec<u32>,
    /// What its first witness is called.
    process: NamespaceName,
    /// Since this walk there has been no way in; None while there is one.
    lost: Option<u64>,
    looks: u32,
}

impl Namespaces {
    /// Those of this host; none are known yet.
    pub fn new() -> Namespaces {
        Namespaces::under(PathBuf::from("/"))
    }

    /// Those that the files below `root` tell of: `proc`, `run/netns`. For tests, and for a host seen from a container
    /// (`/host`). A way in is a path below `root` as well.
    pub fn under(root: impl Into<PathBuf>) -> Namespaces {
        Namespaces {
            root: root.into(),
            known: BTreeMap::new(),
            round: None,
            number: 1,
            last: Processes::default(),
            rounds: 0,
        }
    }

    /// Reads all mounts, makes sure that known namespaces are still there, and goes on with the walk over the processes
    /// until `limit` is over. Returns whether that walk has reached its end: then whatever was there when it began is known.
    ///
    /// A namespace without a mount is dropped when its processes are gone and a whole walk has met no other. Needs no
    /// privilege; see [`processes`](Self::processes) for what stays hidden without. Cost: about 3 µs a process, as much a
    /// namespace, and the text of `/proc/self/mountinfo`.
    pub fn look(&mut self, limit: Duration) -> bool {
        let started = Instant::now();
        self.read_mounts();
        self.ask_witnesses();
        let proc = self.proc();
        let mut round = self.round.take().unwrap_or_else(|| Round::begin(&proc));
        while started.elapsed() < limit || round.is_fresh() {
            let Some(seen) = round.next(&proc) else {
                self.end_round(round);
                return true;
            };
            if let Seen::In { pid, inode } = seen {
                self.meet(pid, inode);
            }
        }
        self.round = Some(round);
        false
    }

    /// The known namespaces that can be reached, by their inode.
    pub fn iter(&self) -> impl Iterator<Item = FoundNamespace> {
        let reachable = self.known.iter().filter(|(_, entry)| entry.lost.is_none());
        reachable.map(|(inode, entry)| FoundNamespace {
            inode: *inode,
            name: entry.name(),
            ways: entry.ways(&self.root),
        })
    }

    /// Whether a namespace is known: also one that cannot be reached, as long as it is not certain that it is gone.
    pub fn knows(&self, inode: u64) -> bool {
        self.known.contains_key(&inode)
    }

    /// The processes of the last walk that reached its end.
    pub fn processes(&self) -> Processes {
        self.last
    }

    /// Walks over all processes that have reached their end.
    pub fn rounds(&self) -> u64 {
        self.rounds
    }

    fn proc(&self) -> PathBuf {
        self.root.join("proc")
    }

    fn read_mounts(&mut self) {
        for entry in self.known.values_mut() {
            entry.mounts.clear();
            entry.named = None;
        }
        for Mounted { inode, path, name } in mounts::read(&self.root) {
            let entry = self.known.entry(inode).or_insert_with(Entry::new);
            entry.named = entry.named.take().or(name);
            entry.mounts.push(path);
            entry.lost = None;
        }
    }

    /// Whether those that were in a namespace are still there.
    fn ask_witnesses(&mut self) {
        let proc = self.root.join("proc");
        for (inode, entry) in &mut self.known {
            while let Some(first) = entry.witnesses.first() {
                if processes::namespace_of(&proc, *first) == Ok(*inode) {
                    break;
                }
                entry.witnesses.remove(0);
                entry.looks = 0;
            }
            entry.look_at_name(&proc, *inode);
            let is_lost = entry.witnesses.is_empty() && entry.mounts.is_empty();
            entry.lost = is_lost.then(|| entry.lost.unwrap_or(self.number));
        }
    }

    fn meet(&mut self, pid: u32, inode: u64) {
        let proc = self.root.join("proc");
        let entry = self.known.entry(inode).or_insert_with(Entry::new);
        entry.lost = None;
        if entry.witnesses.len() < MOST_WITNESSES && !entry.witnesses.contains(&pid) {
            entry.witnesses.push(pid);
            entry.witnesses.sort_unstable();
            if entry.witnesses.first() == Some(&pid) {
                entry.looks = 0;
                entry.look_at_name(&proc, inode);
            }
        }
    }

    fn end_round(&mut self, round: Round) {
        let number = self.number;
        // Lost in the course of this walk: it may have passed a process that has moved in since.
        self.known.retain(|_, entry| entry.lost.is_none_or(|since| since >= number));
        self.last = round.processes();
        self.rounds += 1;
        self.number += 1;
    }
}

impl Default for Namespaces {
    fn default() -> Namespaces {
        Namespaces::new()
    }
}

impl Entry {
    fn new() -> Entry {
        Entry {
            mounts: Vec::new(),
            named: None,
            witnesses: Vec::new(),
            process: NamespaceName::Nameless,
            lost: None,
            looks: 0,
        }
    }

    /// A name of `ip netns` is what people typed; a mount lasts; else it is the process that was there first.
    fn name(&self) -> NamespaceName {
        match (&self.named, self.mounts.first()) {
            (Some(name), _) => name.clone(),
            (None, Some(path)) if self.witnesses.is_empty() => NamespaceName::Mounted(path.clone()),
            (None, _) => self.process.clone(),
        }
    }

    fn ways(&self, root: &Path) -> Vec<PathBuf> {
        let processes = self.witnesses.iter().map(|pid| root.join(format!("proc/{pid}/ns/net")));
        self.mounts.iter().map(|path| mounts::below(root, path)).chain(processes).collect()
    }

    fn look_at_name(&mut self, proc: &Path, inode: u64) {
        let in_turn = self.looks % LOOKS_PER_NAME == inode as u32 % LOOKS_PER_NAME;
        if self.looks < FRESH_LOOKS || in_turn {
            self.process = match self.witnesses.first() {
                Some(pid) => NamespaceName::of_process(proc, *pid),
                None => NamespaceName::Nameless,
            };
        }
        self.looks = self.looks.wrapping_add(1).max(1);
    }
}

#[cfg(test)]
mod tests;
