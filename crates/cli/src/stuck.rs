//! Who has the sockets that a warning is about: those stuck for long, and those that were bound before they were connected.
//!
//! Only of few: the sampled ones of each warning are looked for, for some milliseconds. Which sockets are stuck is core's
//! business, their ages are the feed's to ask for.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use sock_diag::{Cookie, SocketRecord};
use sockeye_core::{
    Age, Found, Holder, Holders, Moment, Monitor, OwnerId, PortSet, Report, StuckKind, Warning, When,
};
use sockeye_host::owners::{Name, Owners};

use crate::feed::Feed;
use crate::follow::processor_ms;
use crate::surroundings::Surroundings;
use crate::whose::{Facet, Who, Whose};

/// Sockets of one warning whose owner is looked for.
const MOST_ASKED: usize = 256;
/// Looking for all of them takes so much processor time, for a single look and at every tick of a watch. A descriptor takes
/// some microseconds: of a process that leaks 100,000 sockets this finds a few of those asked for, and so the process.
const FOR_A_LOOK: Duration = Duration::from_millis(15);
const FOR_A_TICK: Duration = Duration::from_millis(10);
/// Where others have the processors, it may take so much longer.
const LONGEST_WAIT: u32 = 5;

/// From one look at the clocks to the next.
const STEP: Duration = Duration::from_millis(1);

/// Ages of sampled sockets, as one look told them.
pub(crate) struct Ages {
    told: HashMap<Cookie, Age>,
    fin_timeout_ms: Option<u64>,
}

impl Ages {
    /// Asks for them: before a sweep ends, if a capture is to keep them.
    pub(crate) fn ask(feed: &mut Feed, report: &Report) -> Ages {
        feed.ask_stuck_ages(&report.stuck);
        Ages::kept(feed)
    }

    /// Those that were asked for last, or kept in a capture's current sweep.
    pub(crate) fn kept(feed: &Feed) -> Ages {
        let Surroundings { stuck_ages, settings, .. } = feed.surroundings();
        let told = stuck_ages
            .iter()
            .map(|(cookie, min_ms, max_ms)| (Cookie(*cookie), Age { min_ms: *min_ms, max_ms: *max_ms }));
        let fin_timeout_ms = settings.tcp_fin_timeout_s.map(|seconds| u64::from(seconds) * 1_000);
        Ages { told: told.collect(), fin_timeout_ms }
    }

    /// Tells somebody who goes on from here.
    pub(crate) fn teach(&self, monitor: &mut Monitor, at: Moment) {
        for kind in StuckKind::ALL {
            let sampled = monitor.report_mut().stuck.of(kind).sampled.iter();
            let ages = sampled.filter_map(|record| Some((record.id.cookie, self.of(kind, record)?)));
            for (cookie, age) in ages.collect::<Vec<_>>() {
                monitor.learn_age(cookie, age, When::at(at));
            }
        }
    }

    /// Age of a socket; None where the look told nothing.
    pub(crate) fn of(&self, kind: StuckKind, record: &SocketRecord) -> Option<Age> {
        let told = self.told.get(&record.id.cookie).copied();
        told.or_else(|| Age::of(kind, record, None, self.fin_timeout_ms))
    }
}

/// Completes the warnings of a single look: what is stuck, and who has it.
pub(crate) fn tell(feed: &mut Feed, report: &mut Report, ages: &Ages) {
    let mut search = Search::new(!feed.is_replay());
    let mut found = report.stuck_by(|kind, record| ages.of(kind, record));
    let bound = about_binding(feed, report);
    let asked = found.iter().map(|found| found.records.as_slice()).chain(bound.iter().map(Vec::as_slice));
    search.look_for(asked, FOR_A_LOOK);
    for Found { stuck, records } in &mut found {
        stuck.holders = search.holders(records);
    }
    for (warning, records) in binding(report).zip(&bound) {
        fill(warning, search.holders(records));
    }
    report.tell_stuck(found.into_iter().map(|found| found.stuck));
}

/// Completes the warnings of a watch at a tick. Owners are those that are followed, where they are.
pub(crate) fn tell_watched(
    search: &mut Search,
    monitor: &mut Monitor,
    whose: Option<&Whose>,
    bound: &[Vec<SocketRecord>],
    now: Moment,
) {
    let mut found = monitor.stuck(now);
    if found.is_empty() && bound.is_empty() {
        return monitor.report_mut().tell_stuck([]);
    }
    let followed = whose.filter(|whose| whose.facet() == Facet::Process);
    let holders_of = |search: &mut Search, monitor: &Monitor, records: &[SocketRecord]| match followed {
        Some(whose) => holders_followed(whose, monitor, records),
        None => search.holders(records),
    };
    if followed.is_none() {
        let asked = found.iter().map(|found| found.records.as_slice());
        search.look_for(asked.chain(bound.iter().map(Vec::as_slice)), FOR_A_TICK);
    }
    for Found { stuck, records } in &mut found {
        stuck.holders = holders_of(search, monitor, records);
    }
    let bound: Vec<Holders> = bound.iter().map(|records| holders_of(search, monitor, records)).collect();
    for (warning, holders) in binding(monitor.report_mut()).zip(bound) {
        fill(warning, holders);
    }
    monitor.report_mut().tell_stuck(found.into_iter().map(|found| found.stuck));
}

/// The warnings about binding before connecting.
fn binding(report: &mut Report) -> impl Iterator<Item = &mut Warning> {
    let is_about = |warning: &&mut Warning| {
        matches!(warning, Warning::BindBeforeConnect { .. } | Warning::BoundPorts { .. })
    };
    report.warnings.iter_mut().filter(is_about)
}

/// Sockets of which each of these warnings speaks, some of them.
pub(crate) fn about_binding(feed: &mut Feed, report: &mut Report) -> Vec<Vec<SocketRecord>> {
    // Of the half that connect() takes first, others have most.
    let preferred = report.tcp.pool.range().first % 2;
    let suspects: PortSet = report.tcp.suspects.iter().filter(|port| port % 2 != preferred).collect();
    let of = |warning: &mut Warning| match warning {
        Warning::BindBeforeConnect { destination, .. } => feed.on_ports(destination, &suspects, MOST_ASKED),
        _ => feed.some_bound_by_number().to_vec(),
    };
    binding(report).map(of).collect()
}

fn fill(warning: &mut Warning, holders: Holders) {
    if let Some(of_warning) = warning.holders_mut() {
        *of_warning = holders;
    }
}

/// Looks for the owners of few sockets.
pub(crate) struct Search {
    /// None for a capture: its processes are of another time or host. Made when somebody is looked for.
    owners: Option<Owners>,
    is_live: bool,
    /// There was not enough time: who was not found may still be.
    is_unfinished: bool,
}

impl Search {
    pub(crate) fn new(is_live: bool) -> Search {
        Search { owners: None, is_live, is_unfinished: false }
    }

    fn look_for<'r>(&mut self, asked: impl Iterator<Item = &'r [SocketRecord]>, budget: Duration) {
        for record in asked.flat_map(|records| records.iter().take(MOST_ASKED)).filter(|_| self.is_live) {
            let owners = self.owners.get_or_insert_with(Owners::of_this_host);
            if let (Some(inode), Some(uid)) = (record.inode, record.uid)
                && owners.of(inode.get()).is_none()
            {
                owners.want(record.id.cookie, inode.get(), uid, record.cgroup_id);
            }
        }
        if let Some(owners) = &mut self.owners {
            let (begin, before) = (Instant::now(), processor_ms());
            let has_time = || {
                let spent = Duration::from_secs_f64((processor_ms() - before).max(0.0) / 1e3);
                spent < budget && begin.elapsed() < budget * LONGEST_WAIT
            };
            loop {
                self.is_unfinished = owners.work(STEP).left > 0;
                if !self.is_unfinished || !has_time() {
                    break;
                }
            }
            drop(owners.answers());
        }
    }

    fn holders(&self, records: &[SocketRecord]) -> Holders {
        let Some(owners) = &self.owners else { return Holders::default() };
        let mut count = Count::default();
        for record in records.iter().take(MOST_ASKED) {
            let process = record.inode.and_then(|inode| owners.of(inode.get()));
            match (process, record.inode, record.uid) {
                (Some(process), _, _) => count.add(Key::Process(process)),
                (None, None, _) => count.nobodys += 1,
                (None, Some(_), Some(uid)) if !self.is_unfinished => count.add(Key::User(uid)),
                (None, Some(_), _) => count.unknown += 1,
            }
        }
        count.holders(|key| match key {
            Key::Process(process) => {
                let process = owners.owner(process);
                let user = process.and_then(|process| process.user.as_ref());
                Who { process, uid: process.map(|process| process.uid), user, ..Who::default() }
            }
            Key::User(uid) => Who { uid: Some(uid), user: owners.users().name(uid), ..Who::default() },
        })
    }
}

/// Whose these sockets are, or were when they had an owner.
fn holders_followed(whose: &Whose, monitor: &Monitor, records: &[SocketRecord]) -> Holders {
    let mut count = Count::default();
    for record in records.iter().take(MOST_ASKED) {
        match monitor.owner(record.id.cookie).filter(|owner| *owner != OwnerId::UNKNOWN) {
            Some(owner) => count.add(owner),
            None if record.inode.is_none() => count.nobodys += 1,
            None => count.unknown += 1,
        }
    }
    count.holders(|owner| whose.who(owner))
}

/// Who is told apart where owners are looked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Process(NonZeroU32),
    /// A process of this user, which may not be looked into.
    User(u32),
}

struct Count<K> {
    sockets: HashMap<K, u32>,
    nobodys: u32,
    unknown: u32,
}

impl<K> Default for Count<K> {
    fn default() -> Count<K> {
        Count { sockets: HashMap::new(), nobodys: 0, unknown: 0 }
    }
}

impl<K: Copy + Eq + std::hash::Hash> Count<K> {
    fn add(&mut self, key: K) {
        *self.sockets.entry(key).or_default() += 1;
    }

    fn holders<'a>(self, who: impl Fn(K) -> Who<'a>) -> Holders {
        let asked = self.sockets.values().sum::<u32>() + self.nobodys + self.unknown;
        let found = self.sockets.into_iter().filter_map(|(key, sockets)| holder(&who(key), sockets));
        let mut found: Vec<Holder> = found.collect();
        found.sort_by(|a, b| b.sockets.cmp(&a.sockets).then_with(|| a.label.cmp(&b.label)));
        Holders { found, asked, nobodys: self.nobodys }
    }
}

/// None for somebody of whom nothing is known.
fn holder(who: &Who<'_>, sockets: u32) -> Option<Holder> {
    let text = |name: &Name| name.text().into_owned();
    let label = match (who.process, who.name(), who.user, who.uid) {
        (Some(process), ..) => format!("{} ({})", process.name, process.pid),
        (None, Some(program), ..) => program.to_string(),
        (None, None, Some(user), _) => format!("a process of {user}"),
        (None, None, None, Some(uid)) => format!("a process of uid {uid}"),
        (None, None, None, None) => return None,
    };
    Some(Holder {
        label,
        pid: who.process.map(|process| process.pid),
        name: who.name().map(text),
        uid: who.uid,
        user: who.user.map(text),
        sockets,
    })
}
