//! Whose descriptors to read next for the sockets that are wanted, and when to give up.
//!
//! Three searches take turns. The *familiar* one asks processes that have turned out to hold sockets of this origin (cgroup,
//! user) before. The *near* one takes over what that did not find: it asks others of the cgroup, new processes, and others
//! of the user. Both read of processes known only what may have changed. The *thorough* one reads every descriptor of
//! every process of the cgroup or user, then everybody's. The earlier search goes first, so a socket that nobody holds (its
//! process has ended, or may not be looked into) keeps no new one waiting.
//!
//! Leaves to others: how a process is read (`processes`, `reading`).

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::num::NonZeroU32;

use hashbrown::{HashMap, HashSet, HashTable};
use sock_diag::Cookie;

use super::cgroup_paths::CgroupPaths;
use super::numbered::Numbered;
use super::processes::Processes;
use super::reading::{Depth, Reading, Step};
use super::table::{FEW, InodeHasher, Origin, Process};

/// The state of all three.
#[derive(Default, Debug)]
pub(super) struct Search {
    /// By inode.
    wanted: HashTable<Want>,
    hasher: InodeHasher,
    /// Those of which nobody is left are free.
    cohorts: Vec<Cohort>,
    /// The cohorts that began in the pass that began last: others may still join them.
    open: HashMap<Origin, u32>,
    lanes: [Lane; 3],
    /// Passes begun so far, of all searches.
    passes: u64,
    /// The processes there were when they were last listed, and their users.
    listed: Vec<(u32, u32)>,
    listed_at: Option<u32>,
    /// Origins whose last thorough search ended without a find: the next one asks nobody of another cgroup and user.
    strangers: HashSet<Origin>,
    /// Sockets sought in vain.
    nobodys: HashSet<u32, InodeHasher>,
    answers: Vec<(Cookie, Option<NonZeroU32>)>,
}

/// A socket whose owner is sought. All else that is known of it, its cohort has.
#[derive(Clone, Copy, Debug)]
struct Want {
    cookie: Cookie,
    inode: u32,
    cohort: u32,
}

const _: () = assert!(size_of::<Want>() == 16);

/// Sockets of one origin that were first wanted at the same time: they go from search to search together.
#[derive(Clone, Copy, Debug)]
struct Cohort {
    origin: Origin,
    kind: Kind,
    /// Passes begun when they were first wanted, and when they came to this search.
    wanted_at: u64,
    here_since: u64,
    /// How many are still sought.
    left: usize,
}

/// Which of the searches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Familiar,
    Near,
    Thorough,
}

impl Kind {
    const ALL: [Kind; 3] = [Kind::Familiar, Kind::Near, Kind::Thorough];

    /// Who takes over what this one did not find.
    fn next(self) -> Option<Kind> {
        match self {
            Kind::Familiar => Some(Kind::Near),
            Kind::Near => Some(Kind::Thorough),
            Kind::Thorough => None,
        }
    }

    fn first_stage(self) -> Stage {
        match self {
            Kind::Familiar => Stage::Familiar,
            Kind::Near => Stage::Paths,
            Kind::Thorough => Stage::Kin,
        }
    }
}

/// One of the searches.
#[derive(Default, Debug)]
struct Lane {
    /// How many sockets are sought here.
    sought: usize,
    pass: Option<Pass>,
}

impl Lane {
    /// Without anything sought the pass is over, too.
    fn take(&mut self, sockets: usize) {
        self.sought -= sockets;
        if self.sought == 0 {
            self.pass = None;
        }
    }
}

/// One run through those who may hold what was sought when it began.
#[derive(Debug)]
struct Pass {
    number: u64,
    kind: Kind,
    /// The latest [`Cohort::wanted_at`] of what was sought when it began.
    wanted_by: u64,
    /// Of what was sought when it began, ascending.
    origins: Vec<Origin>,
    cgroups: VecDeque<u64>,
    stage: Stage,
    queue: VecDeque<Visit>,
    visited: HashSet<u32>,
    reading: Option<Reading>,
    listing: Option<(Numbered, Vec<u32>)>,
    /// What it did not find, when it is over, and nobody else seeks.
    unfound: Option<Vec<u32>>,
}

/// Where a pass is. Each stage fills the queue of visits, in one step or several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Those who held sockets of these origins before.
    Familiar,
    /// Near: finding the paths of the cgroups.
    Paths,
    /// Near: the processes in the cgroups.
    Members,
    /// Near: finding out who there is.
    Listing,
    /// The processes of these users; thorough: and of the cgroups.
    Kin,
    /// Thorough: all others.
    Everyone,
    /// Nobody is left to be added to the queue.
    Last,
    /// Nobody is left to ask: what was not found is handed on.
    End,
}

#[derive(Clone, Copy, Debug)]
struct Visit {
    pid: u32,
    depth: Depth,
    cgroup: Option<u64>,
}

/// Sockets without owner that are remembered, so that they are not sought again.
const MOST_NOBODYS: usize = 262_144;

impl Search {
    /// Sockets still sought.
    pub(super) fn left(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn answers(&mut self) -> Vec<(Cookie, Option<NonZeroU32>)> {
        // The first look at a host wants more than any later one. At once: what lies between would leave holes.
        if self.wanted.capacity() > 4 * FEW && self.wanted.len() < FEW {
            let hasher = &self.hasher;
            self.wanted.shrink_to(FEW, |want| hasher.hash_one(want.inode));
        }
        if self.nobodys.capacity() > FEW && self.nobodys.len() * 4 < self.nobodys.capacity() {
            self.nobodys.shrink_to(self.nobodys.len() * 2);
        }
        std::mem::take(&mut self.answers)
    }

    pub(super) fn want(&mut self, cookie: Cookie, inode: u32, origin: Origin, processes: &mut Processes) {
        if self.nobodys.contains(&inode) {
            return;
        }
        let hash = self.hasher.hash_one(inode);
        if let Some(want) = self.wanted.find_mut(hash, |want| want.inode == inode) {
            want.cookie = cookie;
            return;
        }
        if let Some(owner) = processes.owner_of(inode) {
            processes.had_luck(inode, origin, self.passes);
            self.answers.push((cookie, Some(owner)));
            return;
        }
        let want = Want { cookie, inode, cohort: self.join(origin) };
        let hasher = &self.hasher;
        self.wanted.insert_unique(hash, want, |want| hasher.hash_one(want.inode));
        processes.table.expect(self.wanted.len());
    }

    /// One more socket of this origin is wanted. The cohort that it is of.
    fn join(&mut self, origin: Origin) -> u32 {
        let cohorts = &mut self.cohorts;
        let number = *self.open.entry(origin).or_insert_with(|| {
            let free = cohorts.iter().position(|cohort| cohort.left == 0).unwrap_or(cohorts.len());
            let now = self.passes;
            let new = Cohort { origin, kind: Kind::Familiar, wanted_at: now, here_since: now, left: 0 };
            match cohorts.get_mut(free) {
                Some(cohort) => *cohort = new,
                None => cohorts.push(new),
            }
            free as u32
        });
        cohorts[number as usize].left += 1;
        self.lane(Kind::Familiar).sought += 1;
        number
    }

    pub(super) fn gone(&mut self, inode: u32) {
        self.nobodys.remove(&inode);
        self.drop_want(inode);
    }

    /// One step of the search that is first in line: a few dozen descriptors, or one folder or file. False: there is
    /// nothing to do.
    pub(super) fn step(&mut self, processes: &mut Processes, cgroups: &mut CgroupPaths) -> bool {
        let busy = |kind: &Kind| self.lanes[*kind as usize].sought > 0;
        let Some(kind) = Kind::ALL.into_iter().find(busy) else { return false };
        // The pass is taken out for the step: finding the last socket sought ends it.
        let mut pass = match self.lane(kind).pass.take() {
            Some(pass) => pass,
            None => self.begin(kind),
        };
        let goes_on = match pass.stage {
            Stage::End => self.hand_on(&mut pass),
            _ => {
                self.step_of(&mut pass, processes, cgroups);
                true
            }
        };
        if goes_on && self.lane(kind).sought > 0 {
            self.lane(kind).pass = Some(pass);
        }
        true
    }

    fn lane(&mut self, kind: Kind) -> &mut Lane {
        &mut self.lanes[kind as usize]
    }

    fn begin(&mut self, kind: Kind) -> Pass {
        self.passes += 1;
        self.open.clear();
        let number = self.passes;
        let sought = self.cohorts.iter().filter(|cohort| cohort.left > 0 && cohort.kind == kind);
        let wanted_by = sought.clone().map(|cohort| cohort.wanted_at).max();
        let mut origins: Vec<Origin> = sought.map(|cohort| cohort.origin).collect();
        origins.sort_unstable();
        origins.dedup();
        let mut cgroups: VecDeque<u64> = origins.iter().filter_map(|origin| origin.cgroup).collect();
        cgroups.make_contiguous().sort_unstable();
        let mut last = None;
        cgroups.retain(|id| last.replace(*id) != Some(*id));
        Pass {
            number,
            kind,
            wanted_by: wanted_by.unwrap_or_default(),
            origins,
            cgroups,
            stage: kind.first_stage(),
            queue: VecDeque::new(),
            visited: HashSet::new(),
            reading: None,
            listing: None,
            unfound: None,
        }
    }

    fn step_of(&mut self, pass: &mut Pass, processes: &mut Processes, cgroups: &mut CgroupPaths) {
        if let Some(reading) = &mut pass.reading {
            let mut found = Vec::new();
            let step = processes.go_on(reading, &mut found, pass.number);
            for inode in found {
                self.seen(inode, pass.number, processes);
            }
            if step != Step::Unfinished {
                pass.reading = None;
            }
        } else if let Some(visit) = pass.queue.pop_front() {
            if pass.visited.insert(visit.pid) && !pass.is_vain(visit, processes) {
                pass.reading = processes.begin(visit.pid, visit.depth, visit.cgroup, pass.number);
            }
        } else {
            self.fill(pass, processes, cgroups);
        }
    }

    /// A socket of this origin was found without a search.
    pub(super) fn found(&mut self, inode: u32, origin: Origin, processes: &mut Processes) {
        processes.had_luck(inode, origin, self.passes);
        self.strangers.remove(&origin);
        self.seen(inode, self.passes, processes);
    }

    /// A socket was seen in the hands of a process that was read without a search.
    pub(super) fn met(&mut self, inode: u32, processes: &mut Processes) {
        self.seen(inode, self.passes, processes);
    }

    /// A socket was seen; it may be one that is sought.
    fn seen(&mut self, inode: u32, pass: u64, processes: &mut Processes) {
        let Some((cookie, origin)) = self.drop_want(inode) else { return };
        processes.had_luck(inode, origin, pass);
        self.strangers.remove(&origin);
        self.answers.push((cookie, processes.owner_of(inode)));
    }

    fn drop_want(&mut self, inode: u32) -> Option<(Cookie, Origin)> {
        let found = self.wanted.find_entry(self.hasher.hash_one(inode), |want| want.inode == inode);
        let (want, _) = found.ok()?.remove();
        let cohort = &mut self.cohorts[want.cohort as usize];
        cohort.left -= 1;
        let Cohort { origin, kind, left, .. } = *cohort;
        if left == 0 && self.open.get(&origin) == Some(&want.cohort) {
            self.open.remove(&origin);
        }
        self.lane(kind).take(1);
        Some((want.cookie, origin))
    }

    /// What the stage has to say of whom to visit; then the next stage.
    fn fill(&mut self, pass: &mut Pass, processes: &mut Processes, cgroups: &mut CgroupPaths) {
        pass.stage = match pass.stage {
            Stage::Familiar => {
                pass.visit_known(processes, |origins, process| {
                    process.origins.iter().any(|origin| origins.binary_search(origin).is_ok())
                });
                Stage::Last
            }
            Stage::Paths => match cgroups.seek(pass.cgroups.iter().copied()) {
                true => Stage::Paths,
                false => Stage::Members,
            },
            Stage::Members => match pass.cgroups.pop_front() {
                Some(id) => {
                    for pid in cgroups.members(id).into_iter().flatten() {
                        pass.visit(pid, Some(id), processes);
                    }
                    Stage::Members
                }
                None => Stage::Listing,
            },
            Stage::Listing => match self.list(pass, processes) {
                true => Stage::Listing,
                false => Stage::Kin,
            },
            Stage::Kin if pass.kind == Kind::Near => {
                let kin = self.listed.iter().filter(|(_, uid)| pass.origins.iter().any(|o| o.uid == *uid));
                // Those never read hold what the others do not, most likely.
                let (known, new): (Vec<u32>, Vec<u32>) =
                    kin.map(|(pid, _)| *pid).partition(|pid| processes.table.processes.contains_key(pid));
                for pid in new.into_iter().chain(known) {
                    pass.visit(pid, None, processes);
                }
                Stage::Last
            }
            Stage::Kin => {
                pass.visit_known(processes, |origins, process| {
                    let same_cgroup = |o: &Origin| o.cgroup.is_some() && o.cgroup == process.cgroup;
                    origins.iter().any(|o| o.uid == process.uid || same_cgroup(o))
                });
                Stage::Everyone
            }
            Stage::Everyone => {
                if pass.origins.iter().any(|origin| !self.strangers.contains(origin)) {
                    for (pid, _) in &self.listed {
                        pass.queue.push_back(Visit { pid: *pid, depth: Depth::Every, cgroup: None });
                    }
                }
                Stage::Last
            }
            Stage::Last | Stage::End => Stage::End,
        };
    }

    /// Lists some more of `/proc`; false at its end. Processes that are not there have ended.
    fn list(&mut self, pass: &mut Pass, processes: &mut Processes) -> bool {
        let Some((listing, pids)) = &mut pass.listing else {
            let latest = processes.latest_pid();
            if latest.is_some() && latest == self.listed_at {
                return false;
            }
            self.listed_at = latest;
            pass.listing = processes.list().map(|listing| (listing, Vec::new()));
            self.listed.clear();
            return pass.listing.is_some();
        };
        let goes_on = listing.list(pids).unwrap_or(false);
        let with_user = |pid: u32| processes.uid(pid).map(|uid| (pid, uid));
        self.listed.extend(pids.drain(..).filter_map(with_user));
        if !goes_on {
            let there: HashSet<u32> = self.listed.iter().map(|(pid, _)| *pid).collect();
            let known = processes.table.processes.iter();
            let ended =
                known.filter(|(pid, process)| process.known_since < pass.number && !there.contains(*pid));
            let ended: Vec<u32> = ended.map(|(pid, _)| *pid).collect();
            ended.into_iter().for_each(|pid| processes.end(pid));
            pass.listing = None;
        }
        goes_on
    }

    /// Everybody was asked: what was sought from the beginning of the pass goes on to the next search, or has no owner: of
    /// those a few at a time. False when that is done.
    fn hand_on(&mut self, pass: &mut Pass) -> bool {
        let covered = |cohort: &Cohort| cohort.kind == pass.kind && cohort.here_since < pass.number;
        if let Some(next) = pass.kind.next() {
            for cohort in self.cohorts.iter_mut().filter(|cohort| covered(cohort)) {
                (cohort.kind, cohort.here_since) = (next, self.passes);
                self.lanes[pass.kind as usize].take(cohort.left);
                self.lanes[next as usize].sought += cohort.left;
            }
            return false;
        }
        let unfound = pass.unfound.get_or_insert_with(|| {
            let is_covered = |want: &&Want| covered(&self.cohorts[want.cohort as usize]);
            self.wanted.iter().filter(is_covered).map(|want| want.inode).collect()
        });
        if self.nobodys.len() > MOST_NOBODYS {
            self.nobodys.clear();
        }
        for inode in unfound.drain(unfound.len().saturating_sub(FEW)..) {
            let Some((cookie, origin)) = self.drop_want(inode) else { continue };
            self.strangers.insert(origin);
            self.nobodys.insert(inode);
            self.answers.push((cookie, None));
        }
        !unfound.is_empty()
    }
}

impl Pass {
    /// Whether a reading of every descriptor that ended began after all that is sought was wanted: another would find
    /// nothing more.
    fn is_vain(&self, visit: Visit, processes: &Processes) -> bool {
        let read_in = processes.table.processes.get(&visit.pid).and_then(|process| process.read_in);
        visit.depth == Depth::Every && read_in.is_some_and(|read_in| read_in > self.wanted_by)
    }

    /// Visits a process: of one that was read before, only a thorough search reads more than what may have changed.
    fn visit(&mut self, pid: u32, cgroup: Option<u64>, processes: &Processes) {
        let known = processes.table.processes.get(&pid);
        let depth = match known.and_then(|process| process.read_in) {
            Some(_) if self.kind != Kind::Thorough => Depth::Doubtful,
            _ => Depth::Every,
        };
        self.queue.push_back(Visit { pid, depth, cgroup });
    }

    /// Visits the known processes that `may` hold what is sought, the lucky ones first, then the older.
    fn visit_known(&mut self, processes: &Processes, may: fn(&[Origin], &Process) -> bool) {
        let all = processes.table.processes.iter();
        let candidates = all.filter(|(_, process)| may(&self.origins, process));
        let mut candidates: Vec<(u64, u64, u32)> =
            candidates.map(|(pid, process)| (u64::MAX - process.lucky, process.start_time, *pid)).collect();
        candidates.sort_unstable();
        for (_, _, pid) in candidates {
            self.visit(pid, None, processes);
        }
    }
}
