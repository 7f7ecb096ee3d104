//! Whose the followed sockets are: what records tell at once (user and cgroup), and which process, found little by little.
//!
//! Joins the Monitor's cookies with the inodes of `sockeye_host::Owners`. A socket in TIME_WAIT keeps its owner by its cookie.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use sock_diag::{Cookie, Protocol, SocketRecord, SocketState};
use sockeye_core::{Closed, Monitor, OwnerId};
use sockeye_host::owners::{Name, Owner, Owners, Work};
use sockeye_trace::{Begun, Heard, Maker};

use crate::inodes::Inodes;
use crate::makers::{Makers, Newcomer};
use crate::programs::Programs;
use crate::sweep::Note;

/// What owners are told apart by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Facet {
    /// Processes; where none is known, cgroup and user.
    Process,
    Cgroup,
    User,
}

/// An owner, as far as the facet tells it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Known {
    process: Option<NonZeroU32>,
    /// Of a process that was gone before it could be looked at: what it was called, by its number in `programs`.
    program: Option<u32>,
    uid: Option<u32>,
    cgroup: Option<u64>,
}

/// What was found out about a process that connected.
#[derive(Clone, Copy)]
struct Asked {
    owner: Option<OwnerId>,
    /// By then it may have called exec().
    works: u64,
}

/// The owners of one or more namespaces' sockets.
pub(crate) struct Whose {
    facet: Facet,
    /// None for a capture: its processes, paths and names are of another time or host.
    owners: Option<Owners>,
    /// None for a single look: it is too late to listen.
    makers: Option<Makers>,
    programs: Programs,
    /// Listening sockets of the last sweep: ports and inodes.
    doors: Vec<(u16, u32)>,
    /// By the port they listen on, as far as they are known.
    doorkeepers: HashMap<u16, Vec<OwnerId>>,
    /// Processes that connected, as long as something is heard of them.
    by_maker: HashMap<Maker, Asked>,
    /// Calls of `work`.
    works: u64,
    numbers: HashMap<Known, OwnerId>,
    /// By number; number 0 is nobody's.
    known: Vec<Known>,
    free: Vec<OwnerId>,
    /// Of live sockets, to say which are gone.
    inodes: Inodes,
    work: Work,
    /// Sockets that nobody holds, who may be looked into.
    unfound: u64,
}

/// Who keeps account of the sockets whose owners are sought: one Monitor, or those of several namespaces. No two sockets of a
/// machine have one cookie.
pub(crate) trait Keepers {
    /// Whose a socket is; None when it is not followed.
    fn owner(&self, cookie: Cookie) -> Option<OwnerId>;
    /// Notes whose a socket is.
    fn own(&mut self, cookie: Cookie, owner: OwnerId);
    /// All that own something.
    fn owners(&self) -> HashSet<OwnerId>;
}

impl Keepers for Monitor {
    fn owner(&self, cookie: Cookie) -> Option<OwnerId> {
        Monitor::owner(self, cookie)
    }

    fn own(&mut self, cookie: Cookie, owner: OwnerId) {
        Monitor::own(self, cookie, owner);
    }

    fn owners(&self) -> HashSet<OwnerId> {
        self.accounts().iter().map(|row| row.owner).collect()
    }
}

impl Keepers for [&mut Monitor] {
    fn owner(&self, cookie: Cookie) -> Option<OwnerId> {
        self.iter().find_map(|monitor| monitor.owner(cookie))
    }

    fn own(&mut self, cookie: Cookie, owner: OwnerId) {
        // Who does not follow it passes it over.
        self.iter_mut().for_each(|monitor| monitor.own(cookie, owner));
    }

    fn owners(&self) -> HashSet<OwnerId> {
        self.iter().flat_map(|monitor| monitor.owners()).collect()
    }
}

/// Numbers of owners are taken back when there are so many, unless sockets have them.
const MANY: usize = 4_096;

impl Whose {
    pub(crate) fn new(facet: Facet, is_live: bool) -> Whose {
        Whose {
            facet,
            owners: is_live.then(Owners::of_this_host),
            makers: None,
            programs: Programs::default(),
            doors: Vec::new(),
            doorkeepers: HashMap::new(),
            by_maker: HashMap::new(),
            works: 0,
            numbers: HashMap::new(),
            known: vec![Known::default()],
            free: Vec::new(),
            inodes: Inodes::default(),
            work: Work::default(),
            unfound: 0,
        }
    }

    /// The same for a namespace, by its inode, that is going to be followed: it listens to who connects there.
    pub(crate) fn following(facet: Facet, is_live: bool, netns: Option<u64>) -> Whose {
        Whose { makers: is_live.then(|| Makers::listen(netns, false)), ..Whose::new(facet, is_live) }
    }

    /// The same, which hears who closes connections as well.
    pub(crate) fn accounting(facet: Facet, netns: Option<u64>) -> Whose {
        Whose { makers: Some(Makers::listen(netns, true)), ..Whose::new(facet, true) }
    }

    /// Whether a connection was closed because its process ended, not by the process; None where nobody heard.
    pub(crate) fn closed_at_exit(&self, closed: &Closed) -> Option<bool> {
        let at_exit = self.makers.as_ref()?.closed_at_exit(closed.local?, closed.remote?)?;
        // A process whose end was not heard may have begun to end.
        (at_exit || self.hears_all()).then_some(at_exit)
    }

    /// Connects that began, by cgroup, as of the last look; None where not each was heard.
    pub(crate) fn begun(&self) -> Option<Vec<Begun>> {
        self.makers.as_ref()?.begun().filter(|_| self.hears_all())
    }

    /// Whether every connect() and every close is heard so far.
    pub(crate) fn hears_all(&self) -> bool {
        self.makers.as_ref().is_some_and(|makers| makers.why_not().is_none() && makers.lost() == 0)
    }

    /// Reads who connected meanwhile: before events are told, so that they find the owners of what has ended.
    pub(crate) fn catch_up(&mut self, keepers: &mut (impl Keepers + ?Sized)) {
        let late = self.makers.as_mut().map(Makers::catch_up).unwrap_or_default();
        for (cookie, maker) in late {
            let Some(owner) = self.owner_by_maker(maker) else { continue };
            keepers.own(cookie, owner);
            if let (Some(inode), Some(owners)) = (self.inodes.of(cookie), &mut self.owners) {
                owners.leave(inode);
            }
        }
    }

    /// A sweep begins.
    pub(crate) fn begin_sweep(&mut self, monitor: &mut Monitor) {
        self.catch_up(monitor);
        self.doors.clear();
    }

    /// It is over, and its events were told.
    pub(crate) fn end_sweep(&mut self) {
        if let Some(makers) = &self.makers {
            makers.forget_old();
            self.by_maker.retain(|maker, _| makers.heard_of(*maker).is_some());
        }
    }

    /// A record of a sweep, after the monitor has seen it. `is_new`: it begins to be followed.
    #[inline]
    pub(crate) fn see(&mut self, monitor: &mut Monitor, record: &SocketRecord, is_new: bool) {
        if is_new {
            self.meet(monitor, record);
        } else if record.state == SocketState::Listen {
            self.meet_door(record);
        }
    }

    /// Whoever listens has what comes in.
    fn meet_door(&mut self, record: &SocketRecord) {
        let (Facet::Process, Some(owners), Some(inode)) = (self.facet, &mut self.owners, record.inode) else {
            return;
        };
        self.doors.push((record.id.local_port, inode.get()));
        if owners.of(inode.get()).is_none() {
            owners.want(record.id.cookie, inode.get(), record.uid.unwrap_or(0), record.cgroup_id);
        }
    }

    /// A socket that begins to be followed.
    pub(crate) fn meet(&mut self, monitor: &mut Monitor, record: &SocketRecord) {
        if record.protocol != Protocol::Tcp {
            return;
        }
        if self.facet != Facet::Process && record.uid.is_some() {
            return self.seek(monitor, record);
        }
        if let Some(owner) = self.maker(record) {
            return monitor.own(record.id.cookie, owner);
        }
        let many_wait = match (&mut self.makers, Newcomer::of(record)) {
            (Some(makers), Some(newcomer)) => makers.ask_again(newcomer),
            _ => false,
        };
        self.seek(monitor, record);
        if many_wait {
            self.catch_up(monitor);
        }
    }

    /// Tells what the record does of its owner, and sets out to find the process.
    fn seek(&mut self, monitor: &mut Monitor, record: &SocketRecord) {
        // A mini socket tells nothing of the kind.
        let (Some(uid), Some(inode)) = (record.uid, record.inode) else { return };
        let (cookie, inode) = (record.id.cookie, inode.get());
        let mut known = match self.facet {
            Facet::Process => Known { uid: Some(uid), cgroup: record.cgroup_id, ..Known::default() },
            Facet::Cgroup => Known { cgroup: record.cgroup_id, ..Known::default() },
            Facet::User => Known { uid: Some(uid), ..Known::default() },
        };
        if let (Facet::Process, Some(owners)) = (self.facet, &mut self.owners) {
            self.inodes.insert(cookie, inode);
            // A short connection is gone when the sweep is over.
            known.process = owners.glance(inode, uid, record.cgroup_id);
            if known.process.is_none() {
                owners.want(cookie, inode, uid, record.cgroup_id);
            }
        }
        monitor.own(cookie, self.number(known));
    }

    /// Who made this connection, told by its record or by its destroy event.
    pub(crate) fn maker(&mut self, record: &SocketRecord) -> Option<OwnerId> {
        let maker = self.makers.as_ref()?.of(&Newcomer::of(record)?)?;
        self.owner_by_maker(maker)
    }

    fn owner_by_maker(&mut self, maker: Maker) -> Option<OwnerId> {
        let before = self.by_maker.get(&maker).copied();
        if let Some(asked) = before.filter(|asked| asked.works == self.works) {
            return asked.owner;
        }
        let heard = self.makers.as_ref()?.heard_of(maker)?;
        let owner = match before.and_then(|asked| asked.owner) {
            // Known while it lived.
            Some(owner) if heard.has_ended => Some(owner),
            _ => self.known_by_maker(maker, heard).map(|known| self.number(known)),
        };
        self.by_maker.insert(maker, Asked { owner, works: self.works });
        owner
    }

    fn known_by_maker(&mut self, maker: Maker, heard: Heard) -> Option<Known> {
        let owners = self.owners.as_mut()?;
        if self.facet == Facet::Cgroup {
            return Some(Known { cgroup: Some(heard.cgroup_id?), ..Known::default() });
        }
        // Once it has ended, its number may be another's.
        let process = if heard.has_ended { None } else { owners.process(maker.pid) };
        match (self.facet, process) {
            (Facet::User, process) => {
                Some(Known { uid: Some(owners.owner(process?)?.uid), ..Known::default() })
            }
            (_, Some(_)) => Some(Known { process, ..Known::default() }),
            (_, None) => {
                let program = self.programs.number(Name::from(heard.name?))?;
                Some(Known { program: Some(program), cgroup: heard.cgroup_id, ..Known::default() })
            }
        }
    }

    /// These sockets have ended.
    pub(crate) fn gone(&mut self, cookies: impl Iterator<Item = Cookie>) {
        for cookie in cookies {
            if let (Some(inode), Some(owners)) = (self.inodes.remove(cookie), &mut self.owners) {
                owners.gone(inode);
            }
        }
    }

    /// Goes on looking for as long as this. Whether somebody is still sought.
    pub(crate) fn work(&mut self, keepers: &mut (impl Keepers + ?Sized), budget: Duration) -> bool {
        self.catch_up(keepers);
        self.works += 1;
        let Some(owners) = &mut self.owners else { return false };
        let mut is_done = true;
        if self.facet == Facet::Cgroup {
            let ids: Vec<u64> = self.numbers.keys().filter_map(|known| known.cgroup).collect();
            is_done = owners.seek_cgroups(&ids, budget);
        }
        self.work = owners.work(budget);
        self.hand_out(keepers);
        self.find_doorkeepers();
        self.take_back(keepers);
        !is_done || self.work.left > 0
    }

    /// Looks through these processes first: what they hold is known afterwards. Cost: 1 to 3 µs a descriptor.
    pub(crate) fn look_into(
        &mut self,
        keepers: &mut (impl Keepers + ?Sized),
        pids: impl IntoIterator<Item = u32>,
    ) {
        let Some(owners) = &mut self.owners else { return };
        for pid in pids {
            owners.read_process(pid);
        }
        self.hand_out(keepers);
        self.find_doorkeepers();
    }

    /// Tells the keepers what was found.
    fn hand_out(&mut self, keepers: &mut (impl Keepers + ?Sized)) {
        let Some(owners) = &mut self.owners else { return };
        for (cookie, process) in owners.answers() {
            self.unfound += u64::from(process.is_none());
            // A listener is not followed: it is a door.
            if let (Some(owner), Some(_)) = (keepers.owner(cookie), process) {
                let origin = self.known.get(owner.0 as usize).copied().unwrap_or_default();
                let number = self.number(Known { process, ..origin });
                keepers.own(cookie, number);
            }
        }
    }

    /// Who holds this socket, of those that are in no account: listeners, and sockets of UDP once they were asked for. Who
    /// is not known is sought from now on.
    pub(crate) fn holder(&mut self, record: &SocketRecord) -> Option<OwnerId> {
        let (Facet::Process, Some(owners), Some(inode)) = (self.facet, &mut self.owners, record.inode) else {
            return None;
        };
        let process = owners.of(inode.get());
        if process.is_none() {
            owners.want(record.id.cookie, inode.get(), record.uid.unwrap_or(0), record.cgroup_id);
            return None;
        }
        Some(self.number(Known { process, ..Known::default() }))
    }

    fn find_doorkeepers(&mut self) {
        self.doorkeepers.clear();
        let doors = std::mem::take(&mut self.doors);
        for (port, inode) in &doors {
            let process = self.owners.as_ref().and_then(|owners| owners.of(*inode));
            if process.is_some() {
                let keeper = self.number(Known { process, ..Known::default() });
                let keepers = self.doorkeepers.entry(*port).or_default();
                keepers.extend((!keepers.contains(&keeper)).then_some(keeper));
            }
        }
        self.doors = doors;
    }

    /// Who listens on this port: one for each socket that does, though more may have it.
    pub(crate) fn doorkeepers(&self, port: u16) -> &[OwnerId] {
        self.doorkeepers.get(&port).map_or(&[], Vec::as_slice)
    }

    fn number(&mut self, known: Known) -> OwnerId {
        // A process is one owner, whatever user its sockets have.
        let key = match known.process {
            Some(_) => Known { uid: None, cgroup: None, ..known },
            None => known,
        };
        if let Some(number) = self.numbers.get(&key) {
            return *number;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.known.push(Known::default());
            OwnerId(self.known.len() as u32 - 1)
        });
        self.known[number.0 as usize] = known;
        self.numbers.insert(key, number);
        number
    }

    /// Gives up numbers that no socket has any more.
    fn take_back(&mut self, keepers: &(impl Keepers + ?Sized)) {
        if self.numbers.len() < MANY {
            return;
        }
        let mut used = keepers.owners();
        used.extend(self.doorkeepers.values().flatten());
        used.extend(self.by_maker.values().filter_map(|asked| asked.owner));
        let free = &mut self.free;
        self.numbers.retain(|_, number| {
            let keeps = used.contains(number);
            if !keeps {
                free.push(*number);
            }
            keeps
        });
        self.programs.keep(&self.numbers.keys().filter_map(|known| known.program).collect());
        let processes: HashSet<NonZeroU32> = self.numbers.keys().filter_map(|known| known.process).collect();
        if let Some(owners) = &mut self.owners {
            owners.forget(|process| processes.contains(&process));
        }
    }

    /// Whether one owner, of whom only user and cgroup are known, may be a process that is known.
    pub(crate) fn may_be(&self, one: OwnerId, process: OwnerId) -> bool {
        let known = |owner: OwnerId| self.known.get(owner.0 as usize).copied().unwrap_or_default();
        let (one, process) = (known(one), known(process));
        let same_origin = (one.uid, one.cgroup) == (process.uid, process.cgroup);
        one.process.is_none() && process.process.is_some() && same_origin
    }

    /// Whether two processes are of one program: the same name, user and cgroup, as the workers of a server are.
    pub(crate) fn is_same_program(&self, one: OwnerId, other: OwnerId) -> bool {
        match (self.who(one).process, self.who(other).process) {
            (Some(one), Some(other)) => {
                (&one.name, one.uid, &one.cgroup) == (&other.name, other.uid, &other.cgroup)
            }
            _ => false,
        }
    }

    /// Whether it is known which process that is.
    pub(crate) fn is_process(&self, owner: OwnerId) -> bool {
        self.known.get(owner.0 as usize).is_some_and(|known| known.process.is_some())
    }

    /// Whether two processes are called the same and run in the same place, as a master and its workers do.
    pub(crate) fn are_akin(&self, one: OwnerId, other: OwnerId) -> bool {
        let (one, other) = (self.who(one), self.who(other));
        one.process.is_some() && (one.name(), one.cgroup) == (other.name(), other.cgroup)
    }

    /// What they are told apart by.
    pub(crate) fn facet(&self) -> Facet {
        self.facet
    }

    /// Who that is.
    pub(crate) fn who(&self, owner: OwnerId) -> Who<'_> {
        let known = self.known.get(owner.0 as usize).copied().unwrap_or_default();
        let mut who = Who { uid: known.uid, cgroup_id: known.cgroup, ..Who::default() };
        let Some(owners) = &self.owners else { return who };
        who.program = known.program.and_then(|program| self.programs.name(program));
        who.process = known.process.and_then(|process| owners.owner(process));
        who.uid = who.process.map(|process| process.uid).or(who.uid);
        who.user = who.uid.and_then(|uid| owners.users().name(uid));
        let path_of_process = who.process.and_then(|process| process.cgroup.as_ref());
        who.cgroup = path_of_process.or_else(|| known.cgroup.and_then(|id| owners.cgroup(id)));
        who
    }

    /// What to tell of those who were not found.
    pub(crate) fn notes(&self) -> Vec<Note> {
        let mut notes = Vec::new();
        let mut note = |id, message| notes.push(Note { id, message });
        if self.facet == Facet::Process && self.owners.is_none() {
            let message = "a capture does not hold processes: its sockets are told by user and cgroup";
            note("owners_unknown", message.to_owned());
        }
        if self.unfound > 0 && self.owners.as_ref().is_some_and(|owners| !owners.sees_processes()) {
            let message = "no process is to be seen: /proc is masked or not mounted; sockets are told by user and cgroup";
            note("owners_unknown", message.to_owned());
        }
        if self.work.denied > 0 && self.unfound > 0 {
            note(
                "owners_unknown",
                format!(
                    "sockets whose process was not found: {}; processes that may not be looked into (CAP_SYS_PTRACE): {}; \
                     such sockets are told by user and cgroup",
                    self.unfound, self.work.denied
                ),
            );
        }
        if let Some(why) = self.makers.as_ref().and_then(Makers::why_not) {
            note(
                "connects_not_heard",
                format!(
                    "who connects is not heard: {why}; connections shorter than the interval are told by who else goes there"
                ),
            );
        }
        if let Some(lost @ 1..) = self.makers.as_ref().map(Makers::lost) {
            let message = format!(
                "connects that the kernel had no room to tell of: {lost}; brief ones among them are told by who else goes there"
            );
            note("connects_lost", message);
        }
        notes
    }
}

/// An owner with its names; all of them are untrusted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Who<'a> {
    pub(crate) process: Option<&'a Owner>,
    /// What a process was called that was gone before it could be looked at.
    pub(crate) program: Option<&'a Name>,
    pub(crate) uid: Option<u32>,
    pub(crate) user: Option<&'a Name>,
    pub(crate) cgroup: Option<&'a Name>,
    pub(crate) cgroup_id: Option<u64>,
}

impl Who<'_> {
    /// What the process is called, or was.
    pub(crate) fn name(&self) -> Option<&Name> {
        self.process.map(|process| &process.name).or(self.program)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::num::NonZeroU32;

    use sock_diag::fake::tcp_record;
    use sock_diag::{Timer, TimerKind};
    use sockeye_core::{Counters, Moment, Settings};
    use sockeye_host::owners::OwnerFiles;

    use super::*;

    const SOCKETS: u64 = 10_000;

    /// Of a host without processes.
    fn whose() -> Whose {
        let files = OwnerFiles { proc: "/nonexistent".into(), cgroups: None, passwd: "/nonexistent".into() };
        Whose { owners: Some(Owners::within(&files)), ..Whose::new(Facet::Process, false) }
    }

    fn connection(cookie: u64) -> SocketRecord {
        let local = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 7).into(), 33_000 + (cookie % 20_000) as u16);
        let remote = SocketAddr::new(Ipv4Addr::new(10, 1, 0, 1).into(), 443);
        let mut record = tcp_record(SocketState::Established, local, remote);
        record.id.cookie = Cookie(cookie);
        record.uid = Some(33);
        record.inode = NonZeroU32::new(cookie as u32);
        record
    }

    /// What is left of it: one half waits, the other is gone.
    fn remains(cookie: u64) -> Option<SocketRecord> {
        let waits = SocketRecord {
            state: SocketState::TimeWait,
            timer: Timer { kind: TimerKind::TimeWait, expires_ms: 30_000, retransmits: 0 },
            uid: None,
            inode: None,
            ..connection(cookie)
        };
        cookie.is_multiple_of(2).then_some(waits)
    }

    #[test]
    fn nothing_is_kept_of_sockets_that_came_and_went() {
        let mut whose = whose();
        let mut monitor = Monitor::new(&Settings::default(), &Counters::default(), Moment(0), false);
        monitor.keep_closed(true);
        let mut sweep = |number: u64, records: &mut dyn Iterator<Item = SocketRecord>| {
            monitor.begin_sweep(Moment(number * 1_000));
            whose.begin_sweep(&mut monitor);
            for record in records {
                let is_new = monitor.observe(&record);
                whose.see(&mut monitor, &record, is_new);
            }
            monitor.end_sweep(Moment(number * 1_000), &Counters::default());
            while whose.work(&mut monitor, Duration::from_secs(1)) {}
            whose.gone(monitor.take_closed().into_iter().map(|closed| closed.cookie));
            whose.inodes.len()
        };
        for round in 0..10 {
            let first = 1 + round * SOCKETS;
            let before = first.saturating_sub(SOCKETS).max(1)..first;
            let known =
                sweep(round, &mut (first..first + SOCKETS).map(connection).chain(before.filter_map(remains)));
            // Who is not seen once may have been missed.
            assert!(known <= 2 * SOCKETS as usize, "{known}");
        }
        let known = [10, 11, 12].map(|number| sweep(number, &mut std::iter::empty()));
        assert_eq!(known[2], 0);
        assert_eq!((whose.unfound, whose.work.left), (10 * SOCKETS, 0));
        assert!(whose.numbers.len() < 3, "{:?}", whose.numbers);
    }
}
