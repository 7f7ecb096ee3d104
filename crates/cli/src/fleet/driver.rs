//! The driver of a fleet: finds namespaces and follows them, tick by tick, under one budget.
//!
//! Between ticks one thread waits for destroy events of all members that have a descriptor for them. At a tick a few threads
//! go into the namespaces that are due. Once a second, however long the interval, it is looked which are gone: a descriptor of
//! ours keeps a namespace alive, and what is plugged into it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use sock_diag::RecvBuffer;
use sockeye_core::{Moment, Monitor, SortKey};
use sockeye_host::{FoundNamespace, Namespaces};

use super::crew::share_out;
use super::member::{Followed, Look, Member, State};
use super::muster::{home, notes_on};
use super::shared::SharedWhose;
use super::way::Barred;
use crate::by::{Books, By, Row, rows_of_all};
use crate::follow::{
    Budget, OWNERS_AT_START, OWNERS_PER_TICK, Pace, REST_MS, Tick, moment_after, next_due, processor_ms,
};
use crate::stop::Stop;
use crate::sweep::Note;

/// Most namespaces whose destroy events are heard, those with the most churn: each takes a descriptor. The others are known
/// by their sweeps.
const MOST_SUBSCRIBED: usize = 128;
/// Of the descriptors this process may have, as few as one in so many are taken for events.
const SHARE_OF_DESCRIPTORS: u64 = 4;
/// The first search is long enough for any host that is not in great trouble.
const FIRST_SEARCH: Duration = Duration::from_secs(3);
/// Later ones go on from where the last one ended.
const SEARCH: Duration = Duration::from_millis(5);
const SEARCH_EVERY_MS: u64 = 1_000;
/// At ticks it may be sooner: who has come is shown at the next.
const SEARCH_AT_TICKS_MS: u64 = 250;
/// Where the budget is spent.
const SEARCH_AT_LEAST_EVERY_MS: u64 = 10_000;
/// A descriptor goes to a namespace with so many times the churn of the one that has it.
const BUSIER: f64 = 2.0;
/// And at least so much more: a handful of connections is no churn.
const BUSIER_BY: f64 = 10.0;
/// A wake-up comes so late at most, unless the machine is very busy.
const WAKE_MS: u64 = 5;

/// All namespaces of the host, followed.
pub(crate) struct Fleet {
    namespaces: Namespaces,
    members: BTreeMap<u64, Member>,
    home: u64,
    most_subscribed: usize,
    by: Option<By>,
    /// Whose their sockets are, where that is asked for.
    whose: Option<SharedWhose>,
    stop: Stop,
    started: Instant,
    pace: Pace,
    budget: Option<Budget>,
    buffer: RecvBuffer,
    ticks: u64,
    /// Ticks are due at whole intervals from here.
    start: Moment,
    due: Moment,
    end: Option<Moment>,
    searched: Moment,
    /// Whoever writes to it wants a tick now.
    calls: Option<UnixStream>,
}

/// One tick of all.
pub(crate) struct FleetTick<'a> {
    /// When it was, by the wall clock.
    pub(crate) at: jiff::Timestamp,
    /// Those that are followed, worst first.
    pub(crate) members: Vec<MemberTick<'a>>,
    /// What is not told of any one of them.
    pub(crate) notes: Vec<Note>,
    /// Connections of all, grouped as was asked for.
    pub(crate) groups: Option<(By, Vec<Row>)>,
}

/// One namespace at a tick.
pub(crate) struct MemberTick<'a> {
    pub(crate) found: &'a FoundNamespace,
    pub(crate) tick: Tick<'a>,
}

impl Fleet {
    /// Finds all namespaces and reads each. `by`: how connections are to be grouped.
    ///
    /// # Errors
    /// `/proc` is not mounted; no thread can be started.
    pub(crate) fn open(pace: &Pace, by: Option<By>) -> anyhow::Result<Fleet> {
        let home = home()?;
        let stop = Stop::listen().context("listening to SIGINT and SIGTERM")?;
        let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let most = usize::try_from(descriptors / SHARE_OF_DESCRIPTORS).unwrap_or(usize::MAX);
        let started = Instant::now();
        let begin = moment_after(started);
        let mut fleet = Fleet {
            namespaces: Namespaces::new(),
            members: BTreeMap::new(),
            home,
            most_subscribed: most.min(MOST_SUBSCRIBED),
            by,
            whose: by.and_then(By::facet).map(SharedWhose::new),
            stop,
            started,
            pace: *pace,
            // What looks cost is known after the first.
            budget: None,
            buffer: RecvBuffer::new(),
            ticks: 0,
            start: begin,
            due: begin,
            end: None,
            searched: begin,
            calls: None,
        };
        fleet.search(FIRST_SEARCH);
        fleet.look()?;
        fleet.find_owners(OWNERS_AT_START);
        let start = fleet.now();
        fleet.start = start;
        fleet.end = pace.for_.map(|long| start.plus_ms(long.as_millis() as u64));
        let spent = processor_ms();
        fleet.budget = pace.cpu_budget.map(|share| Budget::new(share, start, spent, spent));
        fleet.schedule();
        Ok(fleet)
    }

    /// Waits for the next tick. None when it is over: after so many ticks or so long as was asked, or at a signal.
    ///
    /// # Errors
    /// No thread can be started.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<FleetTick<'_>>> {
        let is_over = self.pace.count.is_some_and(|count| self.ticks >= count)
            || self.end.is_some_and(|end| self.now() >= end);
        if is_over || !self.wait()? {
            return Ok(None);
        }
        if self.may_search(SEARCH_AT_TICKS_MS) {
            self.search(SEARCH);
        }
        self.look()?;
        self.find_owners(OWNERS_PER_TICK);
        self.ticks += 1;
        self.schedule();
        Ok(Some(self.tick()))
    }

    /// Whoever writes to it wants a tick now.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn caller(&mut self) -> io::Result<UnixStream> {
        let (calls, caller) = UnixStream::pair()?;
        calls.set_nonblocking(true)?;
        caller.set_nonblocking(true)?;
        self.calls = Some(calls);
        Ok(caller)
    }

    /// From the next tick on, they are so far apart.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        self.pace.interval = interval;
        self.schedule();
    }

    fn now(&self) -> Moment {
        moment_after(self.started)
    }

    fn schedule(&mut self) {
        let interval_ms = (self.pace.interval.as_millis() as u64).max(1);
        self.due = next_due(self.start, interval_ms, self.end, self.now());
    }

    /// Reads events until a tick is due; false when someone wishes the end.
    fn wait(&mut self) -> anyhow::Result<bool> {
        let mut rests_until = self.now();
        loop {
            if self.stop.is_wished() {
                return Ok(false);
            }
            let now = self.now();
            let is_called =
                self.calls.as_mut().is_some_and(|calls| matches!(calls.read(&mut [0; 64]), Ok(1..)));
            if now >= self.due || is_called {
                return Ok(true);
            }
            if self.may_search(SEARCH_EVERY_MS) {
                self.search(SEARCH);
            }
            let rests = rests_until > now;
            let until = if rests { rests_until } else { now.plus_ms(SEARCH_EVERY_MS) };
            let ready = self.poll_until(until.min(self.due), !rests)?;
            if rests {
                continue;
            }
            // Empty queues woke us, if we slept at all; what was there before that came while we rested.
            let woken = self.now();
            let slept = woken.ms_since(now) > 1;
            for followed in self.members.values_mut().filter_map(Member::followed_mut) {
                let is_ready = followed.events().is_some_and(|events| ready.contains(&raw_of(events)));
                if !is_ready {
                    followed.was_quiet(now);
                    continue;
                }
                if slept {
                    followed.was_quiet(woken.minus_ms(WAKE_MS).max(now));
                }
                followed.take_events(self.started, &mut self.buffer);
            }
            if !ready.is_empty() {
                rests_until = self.now().plus_ms(REST_MS);
            }
        }
    }

    /// Waits for a signal, and with `events` for these; tells which descriptors have some.
    fn poll_until(&self, until: Moment, events: bool) -> anyhow::Result<Vec<i32>> {
        let followed = self.members.values().filter_map(Member::followed);
        let subscribed = followed.filter_map(Followed::events).filter(|_| events);
        let calls = self.calls.as_ref().map(AsFd::as_fd);
        let mut watched: Vec<PollFd<'_>> = std::iter::once(self.stop.as_fd())
            .chain(calls)
            .chain(subscribed)
            .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN))
            .collect();
        let left = u32::try_from(until.ms_since(self.now())).ok();
        let timeout = left.and_then(|ms| PollTimeout::try_from(ms).ok()).unwrap_or(PollTimeout::MAX);
        match poll(&mut watched, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("waiting for destroy events"),
        }
        let ready =
            watched.iter().skip(1 + usize::from(calls.is_some())).filter(|one| one.any().unwrap_or(false));
        Ok(ready.map(|one| raw_of(one.as_fd())).collect())
    }

    /// Whether it is time to look for namespaces again, this long after the last time.
    fn may_search(&mut self, every_ms: u64) -> bool {
        let now = self.now();
        let since_ms = now.ms_since(self.searched);
        let can_pay = self.budget.as_mut().is_none_or(|budget| budget.credit_ms(now, processor_ms()) > 0.0);
        since_ms >= every_ms && can_pay || since_ms >= SEARCH_AT_LEAST_EVERY_MS
    }

    /// Brings up to date which namespaces there are. Of one that cannot be reached nothing is kept that keeps it alive; one
    /// that is gone is forgotten.
    fn search(&mut self, limit: Duration) {
        self.namespaces.look(limit);
        self.searched = self.now();
        let mut before = std::mem::take(&mut self.members);
        for found in self.namespaces.iter() {
            let member = match before.remove(&found.inode) {
                // Under another name it may be another one, which has its inode now.
                Some(Member { found: was, state: State::Barred(_) }) if was.name != found.name => {
                    Member::new(found)
                }
                Some(member) => Member { found, state: member.state },
                None => Member::new(found),
            };
            self.members.insert(member.found.inode, member);
        }
        for (inode, mut member) in before {
            if self.namespaces.knows(inode) {
                member.found.ways.clear();
                if let Some(followed) = member.followed_mut() {
                    followed.let_go(self.started, &mut self.buffer);
                }
                self.members.insert(inode, member);
            }
        }
    }

    /// Has all members looked at that are due: new ones, then those that were not for longest, as far as the budget goes.
    fn look(&mut self) -> anyhow::Result<()> {
        let now = self.now();
        let mut credit = match &mut self.budget {
            None => f64::INFINITY,
            Some(budget) => budget.credit_ms(now, processor_ms()),
        };
        let subscribers = self.share_out_descriptors();
        let mut due: Vec<&mut Member> = self.members.values_mut().filter(|one| one.can_be_read()).collect();
        due.sort_by_key(|member| member.followed().map(|followed| followed.looked));
        let mut looks = Vec::with_capacity(due.len());
        for member in due {
            let expected_ms = match member.followed_mut() {
                Some(followed) => {
                    followed.sweep = None;
                    followed.cost_ms
                }
                None => 0.0,
            };
            if credit <= 0.0 {
                continue;
            }
            credit -= expected_ms;
            let subscribes = subscribers.contains(&member.found.inode);
            let whose = self.whose.clone();
            looks.push(Look { member, started: self.started, subscribes, whose });
        }
        // The dearest first: the others fill what is left of the time.
        let cost = |look: &Look<'_>| look.member.followed().map_or(f64::INFINITY, |one| one.cost_ms);
        looks.sort_by(|a, b| cost(b).total_cmp(&cost(a)));
        share_out(looks, self.home)
    }

    /// Who is to have a descriptor for events that has none: as many as are free, and those with much more churn than others
    /// who have one and lose it.
    fn share_out_descriptors(&mut self) -> BTreeSet<u64> {
        let (mut hearing, mut deaf) = (Vec::new(), Vec::new());
        for (inode, member) in self.members.iter().filter(|(_, member)| member.can_be_read()) {
            match member.followed() {
                Some(followed) if followed.hears_events() => hearing.push((followed.churn, *inode)),
                Some(followed) => deaf.push((followed.churn, *inode)),
                None => deaf.push((0.0, *inode)),
            }
        }
        hearing.sort_by(|a, b| a.0.total_cmp(&b.0));
        deaf.sort_by(|a, b| b.0.total_cmp(&a.0));
        let free = self.most_subscribed.saturating_sub(hearing.len()).min(deaf.len());
        let (first, rest) = deaf.split_at(free);
        let mut chosen: BTreeSet<u64> = first.iter().map(|(_, inode)| *inode).collect();
        for ((quiet, loser), (busy, winner)) in hearing.into_iter().zip(rest) {
            if *busy < quiet * BUSIER + BUSIER_BY {
                break;
            }
            if let Some(followed) = self.members.get_mut(&loser).and_then(Member::followed_mut) {
                followed.let_go(self.started, &mut self.buffer);
            }
            chosen.insert(*winner);
        }
        chosen
    }

    /// Goes on looking for the owners of sockets, for as long as this.
    fn find_owners(&mut self, budget: Duration) {
        if let Some(whose) = &self.whose {
            let followed = self.members.values_mut().filter_map(Member::followed_mut);
            let mut monitors: Vec<&mut Monitor> = followed.map(Followed::monitor_mut).collect();
            whose.lock().work(monitors.as_mut_slice(), budget);
        }
    }

    fn groups(&self) -> Option<(By, Vec<Row>)> {
        let by = self.by?;
        let shown = self.members.values().filter(|member| !member.found.ways.is_empty());
        let books =
            shown.filter_map(|member| Some(Books::of_found(&member.found, member.followed()?.monitor())));
        let whose = self.whose.as_ref().map(SharedWhose::lock);
        Some((by, rows_of_all(by, &books.collect::<Vec<_>>(), whose.as_deref())))
    }

    fn tick(&mut self) -> FleetTick<'_> {
        let (now, at) = (self.now(), jiff::Timestamp::now());
        let all = self.members.len();
        let barred = self.members.values().filter_map(|member| match &member.state {
            State::Barred(barred) => Some((&member.found, barred)),
            _ => None,
        });
        let mut notes = notes_on(barred, all, self.namespaces.processes());
        for member in self.members.values_mut().filter(|member| !member.found.ways.is_empty()) {
            if let Some(followed) = member.followed_mut() {
                followed.tick(now);
            }
        }
        let groups = self.groups();
        if let Some(whose) = &self.whose {
            notes.extend(whose.lock().notes());
        }
        let mut members: Vec<MemberTick<'_>> = Vec::with_capacity(all);
        for Member { found, state } in self.members.values_mut() {
            let State::Followed(followed) = state else { continue };
            // Nobody is in it, as far as is known.
            if found.ways.is_empty() {
                continue;
            }
            let sweep = followed.sweep;
            let (report, notes) = followed.told();
            report.sort_by(SortKey::Occupancy);
            members.push(MemberTick { found, tick: Tick { report, notes, at, sweep, groups: None } });
        }
        if let Some(note) = no_events(&members) {
            notes.push(note);
        }
        members.sort_by(|a, b| b.badness().total_cmp(&a.badness()).then(a.found.inode.cmp(&b.found.inode)));
        FleetTick { at, members, notes, groups }
    }
}

impl Member {
    pub(super) fn followed(&self) -> Option<&Followed> {
        match &self.state {
            State::Followed(followed) => Some(followed),
            _ => None,
        }
    }

    pub(super) fn followed_mut(&mut self) -> Option<&mut Followed> {
        match &mut self.state {
            State::Followed(followed) => Some(followed),
            _ => None,
        }
    }

    fn can_be_read(&self) -> bool {
        // What failed may do so no more; what is forbidden stays forbidden.
        !matches!(self.state, State::Barred(Barred::Forbidden)) && !self.found.ways.is_empty()
    }
}

impl MemberTick<'_> {
    /// How full its fullest destination is; of those with none, how much goes on.
    fn badness(&self) -> f64 {
        let report = &*self.tick.report;
        let full = report.destinations.first().map_or(0.0, |worst| 1.0 + worst.occupancy());
        let busy = report
            .churn
            .as_ref()
            .map_or(0, |churn| churn.tcp.opened_last + churn.tcp.closed_last + churn.tcp.live());
        // Less than any share of a port makes: 1 / 65,536.
        full + busy as f64 / (busy as f64 + 1.0) * 1e-5
    }
}

/// What to tell where not all are heard.
fn no_events(members: &[MemberTick<'_>]) -> Option<Note> {
    let hears =
        |member: &&MemberTick<'_>| member.tick.report.churn.as_ref().is_some_and(|churn| churn.events);
    let (all, heard) = (members.len(), members.iter().filter(hears).count());
    let message = format!(
        "destroy events are heard in {heard} of {all} network namespaces, those with the most churn: in the others connections \
         shorter than the interval may be missed, and closes are found by sweeps"
    );
    (heard < all).then_some(Note { id: "no_events", message })
}

fn raw_of(descriptor: std::os::fd::BorrowedFd<'_>) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(&descriptor)
}
