//! Which sockets are the command's: all of its namespace, those made in its cgroup, or those that its processes hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};

use sock_diag::{Cookie, Protocol, SocketRecord, SocketState};
use sockeye_core::{AccountRow, Closed, DestinationId, Direction, Group, OwnerId, Settings};
use sockeye_gate::{Count, Scope as Kind};
use sockeye_host::OwnCgroup;

use super::descent::census;
use crate::follow::{Follow, Onlooker, processor_ms};
use crate::whose::{Who, Whose};

/// Whose a socket is, as far as it can be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Belonging {
    Command,
    /// Nobody knows.
    Perhaps,
    Other,
}

/// How the command's sockets are known from others.
pub(crate) struct Scope {
    /// None: there are no others.
    members: Option<Arc<Mutex<Members>>>,
    cgroup: Option<OwnCgroup>,
    /// Connections that were there before the command.
    before: HashSet<Cookie>,
}

/// What a look found of the command's.
#[derive(Default)]
pub(crate) struct Look {
    pub(crate) outgoing: u64,
    pub(crate) incoming: u64,
    pub(crate) time_wait: u64,
    pub(crate) towards: BTreeMap<DestinationId, LookTowards>,
    /// Bound sockets without connection, and those in CLOSE_WAIT.
    pub(crate) bound: u32,
    pub(crate) half_closed: u32,
}

#[derive(Clone, Copy, Default)]
pub(crate) struct LookTowards {
    pub(crate) live: u64,
    pub(crate) time_wait: u64,
    pub(crate) ports: u64,
    pub(crate) occupancy: f64,
}

impl Scope {
    /// All of the namespace.
    pub(crate) fn namespace() -> Scope {
        Scope { members: None, cgroup: None, before: HashSet::new() }
    }

    /// What is made in a cgroup, or else what processes hold; of what is there now, nothing. `follow` sees the sockets.
    pub(crate) fn among_others(cgroup: Option<OwnCgroup>, follow: &mut Follow) -> Scope {
        let how = match &cgroup {
            Some(cgroup) => How::Cgroup {
                path: cgroup.path().to_owned(),
                ids: cgroup.ids().into_iter().collect(),
                others: cgroup.other_ids().into_iter().collect(),
            },
            None => How::Processes(Processes::default()),
        };
        let members = Arc::new(Mutex::new(Members { how, doors: HashMap::new(), bound: 0, half_closed: 0 }));
        follow.look_on(Box::new(Watch(Arc::clone(&members))));
        let before = follow.monitor().live_cookies().collect();
        let mut scope = Scope { members: Some(members), cgroup, before };
        scope.refresh(follow);
        scope
    }

    /// For who reads what came out.
    pub(crate) fn kind(&self) -> Kind {
        match (&self.members, &self.cgroup) {
            (None, _) => Kind::Namespace,
            (_, Some(_)) => Kind::Cgroup,
            (_, None) => Kind::Processes,
        }
    }

    /// Where the command is to be.
    pub(crate) fn cgroup(&self) -> Option<&OwnCgroup> {
        self.cgroup.as_ref()
    }

    /// The command is this process.
    pub(crate) fn begin(&mut self, pid: u32) {
        let Some(mut members) = self.members.as_deref().map(lock) else { return };
        if let How::Processes(processes) = &mut members.how {
            processes.begin(pid);
        }
    }

    /// Finds out what cgroups and processes there are now.
    pub(crate) fn refresh(&mut self, follow: &mut Follow) {
        let Some(mut members) = self.members.as_deref().map(lock) else { return };
        match &mut members.how {
            How::Cgroup { ids, .. } => ids.extend(self.cgroup.iter().flat_map(OwnCgroup::ids)),
            How::Processes(processes) => processes.refresh(follow),
        }
    }

    /// Whose a connection was that has ended.
    pub(crate) fn of_closed(&self, closed: &Closed, whose: &Whose) -> Belonging {
        if self.before.contains(&closed.cookie) {
            return Belonging::Other;
        }
        let door = closed.local.filter(|_| closed.direction == Direction::Incoming).map(|local| local.port());
        self.members
            .as_deref()
            .map_or(Belonging::Command, |members| lock(members).of(closed.owner, door, whose))
    }

    /// What there is now.
    pub(crate) fn look(&self, follow: &mut Follow) -> Look {
        let Some(members) = self.members.as_deref() else { return all(follow) };
        let rows = follow.monitor().accounts();
        let Some(whose) = follow.whose() else { return Look::default() };
        let members = lock(members);
        let mut look = Look { bound: members.bound, half_closed: members.half_closed, ..Look::default() };
        for row in rows.iter().filter(|row| members.of_row(row, whose) == Belonging::Command) {
            look.time_wait += row.time_wait;
            match row.group {
                Group::Destination(id) => {
                    look.outgoing += row.live;
                    let towards = look.towards.entry(id).or_default();
                    towards.live += row.live;
                    towards.time_wait += row.time_wait;
                    towards.ports += row.live + row.time_wait;
                }
                _ => look.incoming += row.live,
            }
        }
        drop(members);
        for one in &follow.monitor().report_mut().destinations {
            if let Some(towards) = look.towards.get_mut(&one.id) {
                // Its part of what all together take.
                let part = towards.ports as f64 / f64::from(one.in_use.max(1));
                towards.occupancy = one.occupancy() * part.min(1.0);
            }
        }
        look
    }

    /// Live connections that came since the beginning and may be the command's, or not.
    pub(crate) fn perhaps(&self, follow: &mut Follow) -> u64 {
        let Some(members) = self.members.as_deref() else { return 0 };
        let came: Vec<Cookie> =
            follow.monitor().live_cookies().filter(|cookie| !self.before.contains(cookie)).collect();
        let owners: Vec<OwnerId> =
            came.into_iter().filter_map(|cookie| follow.monitor().owner(cookie)).collect();
        let Some(whose) = follow.whose() else { return owners.len() as u64 };
        let members = lock(members);
        let is_open = |owner: &&OwnerId| members.of(**owner, None, whose) == Belonging::Perhaps;
        owners.iter().filter(is_open).count() as u64
    }

    /// Whether each outgoing connection of the command is known to be its own.
    pub(crate) fn knows_connects(&self, whose: &Whose) -> bool {
        self.kind() == Kind::Cgroup && whose.hears_all()
    }

    /// Connects of the command, where the kernel tells each.
    pub(crate) fn begun(&self, follow: &Follow) -> Option<Count> {
        let members = lock(self.members.as_deref()?);
        let How::Cgroup { ids, others, .. } = &members.how else { return None };
        let others_now: HashSet<u64> = self.cgroup.iter().flat_map(OwnCgroup::other_ids).collect();
        let mut count = Count::default();
        for begun in follow.whose()?.begun()? {
            let is_in = |ids: &HashSet<u64>| begun.cgroup_id.is_some_and(|cgroup| ids.contains(&cgroup));
            match (is_in(ids), is_in(others) || is_in(&others_now)) {
                (true, _) => {
                    count.min += begun.here;
                    count.max += begun.here + begun.perhaps;
                }
                (false, true) => {}
                // One that was made and removed meanwhile may have been in ours.
                (false, false) => count.max += begun.here + begun.perhaps,
            }
        }
        Some(count)
    }
}

/// Of a namespace without others.
fn all(follow: &mut Follow) -> Look {
    let report = follow.monitor().report_mut();
    let churn = report.churn.as_ref();
    let live = churn.map_or(0, |churn| churn.tcp.live());
    let outgoing = churn.map_or(0, |churn| churn.outgoing.live());
    Look {
        outgoing,
        incoming: live.saturating_sub(outgoing),
        time_wait: report.sockets.in_state(Protocol::Tcp, SocketState::TimeWait).into(),
        towards: report
            .destinations
            .iter()
            .map(|one| {
                let towards = LookTowards {
                    live: one.traffic.live.into(),
                    time_wait: one.traffic.time_wait.into(),
                    ports: one.in_use.into(),
                    occupancy: one.occupancy(),
                };
                (one.id, towards)
            })
            .collect(),
        bound: report.bound_sockets,
        half_closed: report.sockets.in_state(Protocol::Tcp, SocketState::CloseWait),
    }
}

/// What tells the command's sockets from others.
struct Members {
    how: How,
    /// Who was seen to listen on a port.
    doors: HashMap<u16, Keepers>,
    /// Of the command's, as of the sweep that goes on or has ended.
    bound: u32,
    half_closed: u32,
}

enum How {
    Cgroup {
        path: String,
        ids: HashSet<u64>,
        /// Those that were there before.
        others: HashSet<u64>,
    },
    Processes(Processes),
}

#[derive(Clone, Copy, Default)]
struct Keepers {
    command: bool,
    others: bool,
}

impl Members {
    fn of_row(&self, row: &AccountRow, whose: &Whose) -> Belonging {
        let door = match row.group {
            Group::Listener(port) => Some(port),
            _ => None,
        };
        self.of(row.owner, door, whose)
    }

    /// `door`: the port of the listener that accepted it.
    fn of(&self, owner: OwnerId, door: Option<u16>, whose: &Whose) -> Belonging {
        match (self.of_who(&whose.who(owner)), door) {
            (Belonging::Perhaps, Some(port)) => self.of_door(port, whose),
            (known, _) => known,
        }
    }

    fn of_who(&self, who: &Who<'_>) -> Belonging {
        match &self.how {
            How::Cgroup { path, ids, .. } => {
                let of_process = who.process.and_then(|process| process.cgroup.as_ref());
                match (of_process, who.cgroup_id) {
                    (Some(cgroup), _) => belongs(is_below(cgroup.as_bytes(), path.as_bytes())),
                    (None, Some(id)) => belongs(ids.contains(&id)),
                    (None, None) => Belonging::Perhaps,
                }
            }
            How::Processes(processes) => processes.of(who),
        }
    }

    /// What comes in is of those who listen there.
    fn of_door(&self, port: u16, whose: &Whose) -> Belonging {
        match self.doors.get(&port) {
            Some(Keepers { command: true, others: false }) => return Belonging::Command,
            Some(Keepers { command: false, others: true }) => return Belonging::Other,
            Some(_) => return Belonging::Perhaps,
            None => {}
        }
        let mut keepers = whose.doorkeepers(port).iter().map(|keeper| self.of_who(&whose.who(*keeper)));
        match keepers.next() {
            Some(first) if keepers.all(|other| other == first) => first,
            _ => Belonging::Perhaps,
        }
    }

    fn see<'a>(&mut self, record: &SocketRecord, who: &dyn Fn() -> Who<'a>) {
        let is_bound = record.is_bound_inactive();
        let is_half_closed = record.state == SocketState::CloseWait;
        let is_door = record.state == SocketState::Listen;
        if record.protocol != Protocol::Tcp || !(is_bound || is_half_closed || is_door) {
            return;
        }
        let belonging = match (&self.how, record.cgroup_id) {
            (How::Cgroup { ids, .. }, Some(id)) => belongs(ids.contains(&id)),
            _ => self.of_who(&who()),
        };
        if is_door {
            let keepers = self.doors.entry(record.id.local_port);
            match belonging {
                Belonging::Command => keepers.or_default().command = true,
                Belonging::Other => keepers.or_default().others = true,
                Belonging::Perhaps => {}
            }
        } else if belonging == Belonging::Command {
            self.bound += u32::from(is_bound);
            self.half_closed += u32::from(is_half_closed);
        }
    }
}

fn belongs(is_ours: bool) -> Belonging {
    if is_ours { Belonging::Command } else { Belonging::Other }
}

/// Whether a cgroup is this one or in it.
fn is_below(cgroup: &[u8], top: &[u8]) -> bool {
    cgroup.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Processes of the command and others, as they were met. A number that both had tells nothing.
#[derive(Default)]
struct Processes {
    command: HashSet<u32>,
    others: HashSet<u32>,
    /// Of the command, as of the last census.
    living: HashSet<u32>,
    /// Users that the command's processes were seen to run as.
    users: HashSet<u32>,
    census: Pause,
    reading: Pause,
}

impl Processes {
    /// The command is this process.
    fn begin(&mut self, pid: u32) {
        self.command.insert(pid);
        self.living.insert(pid);
        self.users.extend(user(pid).ok());
    }

    fn refresh(&mut self, follow: &mut Follow) {
        if let Some(began) = self.census.ended() {
            let (command, others) = census();
            for pid in &command {
                if self.command.insert(*pid) {
                    self.users.extend(user(*pid).ok());
                }
            }
            self.living = command;
            self.others.extend(others);
            self.users.insert(nix::unistd::getuid().as_raw());
            self.census.begin(began);
        }
        // Whoever seeks the holders of all sockets comes to these too, but late where there are many others.
        if let Some(began) = self.reading.ended() {
            follow.look_into(self.living.iter().copied());
            self.reading.begin(began);
        }
    }

    fn of(&self, who: &Who<'_>) -> Belonging {
        let known = who.process.map(|process| process.pid);
        match known.map(|pid| (self.command.contains(&pid), self.others.contains(&pid))) {
            Some((true, false)) => Belonging::Command,
            Some((false, true)) => Belonging::Other,
            _ if who.uid.is_some_and(|uid| !self.users.contains(&uid)) => Belonging::Other,
            _ => Belonging::Perhaps,
        }
    }
}

/// A pause after work, so long that the work takes a fortieth of the time at most. Of processor time: on a busy host work lasts
/// longer, and who waits for his turn has earned no pause.
#[derive(Default)]
struct Pause(Option<Instant>);

impl Pause {
    const TIMES: u32 = 40;

    /// Processor time by which the work begins, milliseconds; None before the pause is over.
    fn ended(&self) -> Option<f64> {
        self.0.is_none_or(|end| Instant::now() >= end).then(processor_ms)
    }

    fn begin(&mut self, began_ms: f64) {
        let cost = Duration::from_secs_f64((processor_ms() - began_ms).clamp(0.05, 1_000.0) / 1_000.0);
        self.0 = Some(Instant::now() + cost * Pause::TIMES);
    }
}

fn user(pid: u32) -> io::Result<u32> {
    Ok(fs::metadata(format!("/proc/{pid}"))?.uid())
}

/// Sees the records of sweeps.
struct Watch(Arc<Mutex<Members>>);

impl Onlooker for Watch {
    fn begin(&mut self, _: &Settings) {
        let mut members = lock(&self.0);
        (members.bound, members.half_closed) = (0, 0);
    }

    fn record<'a>(&mut self, record: &SocketRecord, whose: &(dyn Fn() -> Who<'a> + 'a)) {
        if !matches!(record.state, SocketState::Established | SocketState::TimeWait) {
            lock(&self.0).see(record, whose);
        }
    }

    fn bound(&mut self, _: u16) {}
}

/// Sets are right after every step.
fn lock(members: &Mutex<Members>) -> MutexGuard<'_, Members> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_holds_what_is_in_it() {
        let is_ours = |cgroup: &str| is_below(cgroup.as_bytes(), b"/a/run-1");
        assert!(is_ours("/a/run-1") && is_ours("/a/run-1/sub"));
        assert!(!is_ours("/a/run-12") && !is_ours("/a") && !is_ours("/b/a/run-1"));
    }

    #[test]
    fn a_number_that_both_had_tells_nothing() {
        let processes = Processes {
            command: [1, 3].into(),
            others: [2, 3].into(),
            users: [1_000].into(),
            ..Processes::default()
        };
        let of_user = |uid| processes.of(&Who { uid: Some(uid), ..Who::default() });
        assert_eq!([of_user(1_000), of_user(33)], [Belonging::Perhaps, Belonging::Other]);
        assert_eq!(processes.of(&Who::default()), Belonging::Perhaps);
    }
}
