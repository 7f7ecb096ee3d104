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
use std::num::NonZeroU32;

use hashbrown::{HashMap, HashSet};

use super::cgroup_paths::CgroupPaths;
use super::numbered::Numbered;
use super::processes::Processes;
use super::reading::{Depth, Reading, Step};
use super::table::{Origin, Process};

/// The state of all three.
#[derive(Default, Debug)]
pub(super) struct Search {
    wanted: HashMap<u32, Want>,
    lanes: [Lane; 3],
    /// Passes begun so far, of all searches.
    passes: u64,
    /// The processes there were when they were last listed, and their users.
    listed: Vec<(u32, u32)>,
    listed_at: Option<u32>,
    /// Origins whose last thorough search ended without a find: the next one asks nobody of another cgroup and user.
    strangers: HashSet<Origin>,
    /// Sockets sought in vain.
    nobodys: HashSet<u32>,
    answers: Vec<(u32, Option<NonZeroU32>)>,
}

/// A socket whose owner is sought.
#[derive(Clone, Copy, Debug)]
struct Want {
    origin: Origin,
    kind: Kind,
    /// Passes begun when it was first wanted, and when it came to this search.
    wanted_at: u64,
    here_since: u64,
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
    /// How many sockets of each origin are sought here.
    sought: HashMap<Origin, usize>,
    pass: Option<Pass>,
}

impl Lane {
    fn add(&mut self, origin: Origin) {
        *self.sought.entry(origin).or_default() += 1;
    }

    /// Without anything sought the pass is over, too.
    fn take(&mut self, origin: Origin) {
        if let Some(count) = self.sought.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.sought.remove(&origin);
            }
        }
        if self.sought.is_empty() {
            self.pass = None;
        }
    }
}

/// One run through those who may hold what was sought when it began.
#[derive(Debug)]
struct Pass {
    number: u64,
    kind: Kind,
    /// The latest [`Want::wanted_at`] of what was sought when it began.
    wanted_by: u64,
    /// Of what was sought when it began, ascending.
    origins: Vec<Origin>,
    cgroups: VecDeque<u64>,
    stage: Stage,
    queue: VecDeque<Visit>,
    visited: HashSet<u32>,
    reading: Option<Reading>,
    listing: Option<(Numbered, Vec<u32>)>,
    /// What it did not find, when it is over.
    left: Option<Vec<u32>>,
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

/// Wishes that are handled at once, a few hundred microseconds; and whose memory is not worth giving back.
const FEW: usize = 4096;

/// Sockets without owner that are remembered, so that they are not sought again.
const MOST_NOBODYS: usize = 262_144;

impl Search {
    /// Sockets still sought.
    pub(super) fn left(&self) -> usize {
        self.wanted.len()
    }

    pub(super) fn answers(&mut self) -> Vec<(u32, Option<NonZeroU32>)> {
        if self.wanted.is_empty() {
            // The first look at a host wants more than any later one.
            self.wanted.shrink_to(FEW);
        }
        std::mem::take(&mut self.answers)
    }

    pub(super) fn want(&mut self, inode: u32, origin: Origin, processes: &mut Processes) {
        if self.wanted.contains_key(&inode) || self.nobodys.contains(&inode) {
            return;
        }
        if let Some(owner) = processes.owner_of(inode) {
            processes.had_luck(inode, origin, self.passes);
            self.answers.push((inode, Some(owner)));
            return;
        }
        let now = self.passes;
        self.wanted.insert(inode, Want { origin, kind: Kind::Familiar, wanted_at: now, here_since: now });
        self.lane(Kind::Familiar).add(origin);
        processes.table.expect(self.wanted.len());
    }

    pub(super) fn gone(&mut self, inode: u32) {
        self.nobodys.remove(&inode);
        self.drop_want(inode);
    }

    /// One step of the search that is first in line: a few dozen descriptors, or one folder or file. False: there is
    /// nothing to do.
    pub(super) fn step(&mut self, processes: &mut Processes, cgroups: &mut CgroupPaths) -> bool {
        let busy = |kind: &Kind| !self.lanes[*kind as usize].sought.is_empty();
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
        if goes_on && !self.lane(kind).sought.is_empty() {
            self.lane(kind).pass = Some(pass);
        }
        true
    }

    fn lane(&mut self, kind: Kind) -> &mut Lane {
        &mut self.lanes[kind as usize]
    }

    fn begin(&mut self, kind: Kind) -> Pass {
        self.passes += 1;
        let number = self.passes;
        let wanted_by =
            self.wanted.values().filter(|want| want.kind == kind).map(|want| want.wanted_at).max();
        let mut origins: Vec<Origin> = self.lane(kind).sought.keys().copied().collect();
        origins.sort_unstable();
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
            left: None,
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

    /// A socket was seen; it may be one that is sought.
    fn seen(&mut self, inode: u32, pass: u64, processes: &mut Processes) {
        let Some(want) = self.drop_want(inode) else { return };
        processes.had_luck(inode, want.origin, pass);
        self.strangers.remove(&want.origin);
        self.answers.push((inode, processes.owner_of(inode)));
    }

    fn drop_want(&mut self, inode: u32) -> Option<Want> {
        let want = self.wanted.remove(&inode)?;
        self.lane(want.kind).take(want.origin);
        Some(want)
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

    /// Everybody was asked: what was sought from the beginning of the pass goes on to the next search, or has no owner. A
    /// few at a time; false when that is done.
    fn hand_on(&mut self, pass: &mut Pass) -> bool {
        let left = pass.left.get_or_insert_with(|| {
            let covered = |want: &Want| want.kind == pass.kind && want.here_since < pass.number;
            self.wanted.iter().filter(|(_, want)| covered(want)).map(|(inode, _)| *inode).collect()
        });
        if self.nobodys.len() > MOST_NOBODYS {
            self.nobodys.clear();
        }
        for inode in left.drain(left.len().saturating_sub(FEW)..) {
            let Some(want) = self.drop_want(inode) else { continue };
            if let Some(kind) = pass.kind.next() {
                self.lane(kind).add(want.origin);
                self.wanted.insert(inode, Want { kind, here_since: self.passes, ..want });
            } else {
                self.strangers.insert(want.origin);
                self.nobodys.insert(inode);
                self.answers.push((inode, None));
            }
        }
        !left.is_empty()
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
