//! The thread that follows the sockets: every tick becomes a look, and what the screen wants is gathered on the way.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sock_diag::SocketRecord;
use sockeye_core::{AccountRow, DestinationId, Group, LifetimeReport, LifetimesBy, OwnerId, Settings};
use sockeye_host::Identity;

use super::gathering::Gathering;
use super::look::{Cost, Detail, Look, OwnerRow, Place};
use super::past::{Past, State};
use super::wanted::Wanted;
use crate::account::Account;
use crate::args::{FeedArgs, TopArgs};
use crate::by::{By, GroupName, OwnerName, Row, named};
use crate::fleet::driver::Fleet;
use crate::follow::{Follow, Onlooker, Pace, SweepCost, processor_ms};
use crate::whose::Who;

/// A longer first interval is not waited for: an empty screen tells nothing.
const LONG: Duration = Duration::from_secs(2);
/// Estimating lifetimes takes at most one part in so many of the time, while they are looked at and while not.
const LOOKED_AT: u32 = 20;
const IN_REACH: u32 = 200;

/// Owners of one destination that are told.
const MOST_OWNERS: usize = 3;

/// Follows until the end that was asked for, a signal, or an error; which of them it was is left in the past.
pub(crate) fn follow(args: &TopArgs, wanted: &Arc<Wanted>, past: &Past) {
    let state = match follow_namespaces(args, wanted, past) {
        Ok(()) => State::Over,
        Err(error) => State::Failed(format!("{error:#}")),
    };
    wanted.call_by(None);
    past.set_state(state);
}

/// What is followed.
enum Followed {
    One(Box<Follow>),
    All(Box<Fleet>),
}

/// One namespace after another, as they are chosen, or all of them.
fn follow_namespaces(args: &TopArgs, wanted: &Arc<Wanted>, past: &Past) -> anyhow::Result<()> {
    let mut current = None;
    let mut followed = begin(args, &current)?;
    loop {
        let chosen = match followed {
            Followed::One(follow) => follow_one(*follow, &current, wanted, past)?,
            Followed::All(fleet) => follow_all(*fleet, wanted, past)?,
        };
        let Some(chosen) = chosen else { return Ok(()) };
        followed = match begin(args, &chosen) {
            Ok(followed) => {
                current = chosen;
                followed
            }
            Err(error) => {
                past.answer(format!("{error:#}"));
                // One of many may be gone at any time: all of them are still there.
                if args.fleet.all_netns {
                    current = None;
                }
                let mut wants = wanted.now();
                wants.namespace.clone_from(&current);
                wanted.set(wants, false);
                begin(args, &current)?
            }
        };
        past.clear();
    }
}

fn begin(args: &TopArgs, namespace: &Option<String>) -> anyhow::Result<Followed> {
    let pace = args.pace.pace(args.interval, None);
    Ok(match namespace {
        None if args.fleet.all_netns => Followed::All(Box::new(Fleet::open(&pace, None)?)),
        _ => Followed::One(Box::new(open(&feed_of(args, namespace), &pace)?)),
    })
}

/// Follows all namespaces. As [`follow_one`].
fn follow_all(mut fleet: Fleet, wanted: &Arc<Wanted>, past: &Past) -> anyhow::Result<Option<Option<String>>> {
    wanted.call_by(Some(fleet.caller()?));
    let mut interval = wanted.now().interval;
    fleet.set_interval(interval);
    let mut is_new = interval > LONG;
    let host = Identity::read();
    let place = Arc::new(Place {
        host_name: host.host_name,
        kernel_release: host.kernel_release,
        namespace: "all".to_owned(),
        ..Place::default()
    });
    let mut meter = Meter::new(false);
    let mut number = 0;
    loop {
        if std::mem::take(&mut is_new) {
            wanted.set(wanted.now(), true);
        }
        let Some(tick) = fleet.next()? else { return Ok(None) };
        number += 1;
        let mut look = Look::of_all(&tick, number, interval.as_millis() as u64);
        look.place = Arc::clone(&place);
        look.cost = meter.cost(look.cost.sweep, &look);
        past.push(look);
        let now = wanted.now();
        if now.ends {
            return Ok(None);
        }
        if now.namespace.is_some() {
            return Ok(Some(now.namespace));
        }
        if now.interval != interval {
            interval = now.interval;
            fleet.set_interval(interval);
        }
    }
}

/// With the owners of sockets.
fn open(feed: &FeedArgs, pace: &Pace) -> anyhow::Result<Follow> {
    Follow::open_with_owners(feed, pace, By::Owner.facet())
}

fn feed_of(args: &TopArgs, namespace: &Option<String>) -> FeedArgs {
    let mut feed = args.feed.clone();
    if let Some(name) = namespace {
        feed.netns = Some(name.clone());
    }
    feed
}

/// Follows one namespace. Some: another one is wanted; None: it is over.
#[allow(clippy::type_complexity, reason = "whether there is another one, and whether that has a name")]
fn follow_one(
    mut follow: Follow,
    current: &Option<String>,
    wanted: &Arc<Wanted>,
    past: &Past,
) -> anyhow::Result<Option<Option<String>>> {
    let gathering = Arc::new(Mutex::new(Gathering::new(Arc::clone(wanted))));
    follow.look_on(Box::new(SharedGathering(Arc::clone(&gathering))));
    follow.monitor().keep_lifetimes(LifetimesBy::Ends);
    wanted.call_by(Some(follow.caller()?));
    let mut wants = wanted.now();
    follow.set_interval(wants.interval);
    if wants.interval > LONG {
        wanted.set(wants.clone(), true);
    }
    let place = Arc::new(place_of(&follow));
    let mut meter = Meter::new(follow.is_replay());
    let mut lifetimes = Lifetimes::default();
    let mut number = 0;
    let mut last_at: Option<jiff::Timestamp> = None;
    loop {
        let settings = follow.surroundings().core_settings();
        let Some(tick) = follow.next_by(Some(By::Owner))? else { break };
        number += 1;
        let at = tick.at;
        if follow_is_late(&mut last_at, at, meter.is_replay, wanted) {
            break;
        }
        let swept = tick.sweep;
        let mut look = Look::of(tick.report, tick.notes, number, at);
        let detail = wants.focus.and_then(|id| {
            let destination = *tick.report.destination(&id)?;
            let closes = tick.report.closes_of(&destination);
            let account = Account::of(tick.report, &destination, &settings);
            Some(Detail { id, account, closes, owners: Vec::new() })
        });
        look.owners = tick.groups.map(|(_, rows)| owner_rows(rows));
        look.origins = owner_rows(follow.rows(By::PortOrigin));
        if wants.users || detail.is_some() {
            let accounts = follow.monitor().accounts();
            look.users = users_of(&follow, &accounts, &look);
            let owners =
                |detail: Detail| Detail { owners: owners_of(&follow, &accounts, &detail.id), ..detail };
            look.detail = detail.map(|detail| Arc::new(owners(detail)));
        }
        look.place = Arc::clone(&place);
        locked(&gathering)
            .fill(&mut look, swept.is_some(), |records| owners_of_sockets(&mut follow, records));
        look.lifetimes = lifetimes.of(&mut follow, wants.lifetimes);
        look.cost = meter.cost(swept, &look);
        past.push(look);
        let now = wanted.now();
        if now.ends {
            break;
        }
        if now.namespace != *current {
            follow.finish()?;
            return Ok(Some(now.namespace));
        }
        if now.interval != wants.interval {
            follow.set_interval(now.interval);
        }
        wants = now;
    }
    follow.finish()?;
    Ok(None)
}

/// A replay waits until this tick's time has come. Whether it is to end instead.
fn follow_is_late(
    last: &mut Option<jiff::Timestamp>,
    at: jiff::Timestamp,
    is_replay: bool,
    wanted: &Wanted,
) -> bool {
    let before = last.replace(at);
    if let Some(before) = before.filter(|_| is_replay) {
        wanted.wait(Duration::try_from(at.duration_since(before)).unwrap_or_default());
    }
    wanted.now().ends
}

fn place_of(follow: &Follow) -> Place {
    let surroundings = follow.surroundings();
    let inode = surroundings.netns_inode.map(|inode| inode.to_string());
    Place {
        host_name: surroundings.host_name.clone(),
        kernel_release: surroundings.kernel_release.clone(),
        inode: surroundings.netns_inode,
        namespace: surroundings.netns_name.clone().or(inode).unwrap_or_default(),
        is_replay: follow.is_replay(),
        interfaces: surroundings.interfaces.clone(),
    }
}

/// Whose the sockets of a destination are, most first.
fn owners_of(follow: &Follow, accounts: &[AccountRow], id: &DestinationId) -> Vec<(String, u64)> {
    let of_it = |account: &&AccountRow| account.group == Group::Destination(*id);
    let mut accounts: Vec<&AccountRow> = accounts.iter().filter(of_it).collect();
    accounts.sort_by_key(|account| std::cmp::Reverse(account.live + account.time_wait));
    let name = |owner| match owner {
        OwnerId::UNKNOWN => "owners that nobody saw".to_owned(),
        owner => named(Group::Owner(owner), By::Owner, follow.whose()).1,
    };
    let first = accounts.iter().take(MOST_OWNERS);
    first.map(|account| (name(account.owner), account.live + account.time_wait)).collect()
}

/// Who has most of the sockets of each destination, in a word.
fn users_of(follow: &Follow, accounts: &[AccountRow], look: &Look) -> Vec<Option<Arc<str>>> {
    // The first of each destination, and how many others there are.
    let mut most: HashMap<DestinationId, (u64, OwnerId, u32)> = HashMap::new();
    for account in accounts.iter().filter(|account| account.owner != OwnerId::UNKNOWN) {
        let Group::Destination(id) = account.group else { continue };
        let sockets = account.live + account.time_wait;
        if sockets == 0 {
            continue;
        }
        let (first, owner, count) = most.entry(id).or_insert((0, account.owner, 0));
        *count += 1;
        if sockets > *first {
            (*first, *owner) = (sockets, account.owner);
        }
    }
    let mut names: HashMap<(OwnerId, u32), Arc<str>> = HashMap::new();
    let name = |owner, count| match (named(Group::Owner(owner), By::Owner, follow.whose()), count) {
        ((GroupName::Owner { owner: OwnerName { name: Some(name), pid: Some(pid), .. } }, _), 1) => {
            format!("{name} ({pid})").into()
        }
        ((GroupName::Owner { owner: OwnerName { name: Some(name), pid: Some(pid), .. } }, _), more) => {
            format!("{name} ({pid}) and {} more", more - 1).into()
        }
        ((_, label), _) => label.into(),
    };
    let mut user = |id: &DestinationId| {
        let (_, owner, count) = *most.get(id)?;
        let known = names.entry((owner, count)).or_insert_with(|| name(owner, count));
        Some(Arc::clone(known))
    };
    look.destinations.iter().map(|destination| user(&destination.id)).collect()
}

/// Whose each of these sockets is.
fn owners_of_sockets(follow: &mut Follow, records: &[SocketRecord]) -> Vec<Option<Arc<str>>> {
    let mut names: HashMap<OwnerId, Arc<str>> = HashMap::new();
    let owners: Vec<Option<OwnerId>> = records.iter().map(|record| follow.owner(record)).collect();
    let name = |owner: Option<OwnerId>| {
        let owner = owner?;
        let named = || named(Group::Owner(owner), By::Owner, follow.whose()).1.into();
        Some(Arc::clone(names.entry(owner).or_insert_with(named)))
    };
    owners.into_iter().map(name).collect()
}

fn owner_rows(rows: Vec<Row>) -> Vec<OwnerRow> {
    let mut rows: Vec<OwnerRow> = rows.into_iter().map(owner_row).collect();
    rows.sort_by(|a, b| a.place().cmp(&b.place()));
    rows
}

/// A row of connections by owner, its parts apart.
fn owner_row(row: Row) -> OwnerRow {
    let owner = match row.group {
        GroupName::Owner { owner } => owner,
        _ => OwnerName::default(),
    };
    OwnerRow {
        label: owner.name.unwrap_or(row.label),
        pid: owner.pid,
        uid: owner.uid,
        user: owner.user.or(owner.uid.map(|uid| uid.to_string())).unwrap_or_default(),
        group: owner.unit.or(owner.container).or(owner.cgroup).unwrap_or_default(),
        live: row.live,
        time_wait: row.time_wait,
        inferred: row.inferred,
        opens_per_second: row.opens_per_second,
        closes_per_second: row.closes_per_second,
    }
}

/// The gathering is the follower's own as well: both are of one thread, and never at the same time.
struct SharedGathering(Arc<Mutex<Gathering>>);

fn locked(gathering: &Mutex<Gathering>) -> MutexGuard<'_, Gathering> {
    gathering.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Onlooker for SharedGathering {
    fn begin(&mut self, settings: &Settings) {
        locked(&self.0).begin(settings);
    }

    fn record<'a>(&mut self, record: &SocketRecord, whose: &(dyn Fn() -> Who<'a> + 'a)) {
        locked(&self.0).record(record, whose);
    }

    fn bound(&mut self, port: u16) {
        locked(&self.0).bound(port);
    }
}

/// Lifetimes, estimated as often as their cost allows.
#[derive(Default)]
struct Lifetimes {
    last: Option<Arc<LifetimeReport>>,
    /// When that was, and how long it took.
    made: Option<(Instant, Duration)>,
}

impl Lifetimes {
    fn of(&mut self, follow: &mut Follow, looked_at: bool) -> Option<Arc<LifetimeReport>> {
        let part = if looked_at { LOOKED_AT } else { IN_REACH };
        if self.made.is_none_or(|(at, took)| at.elapsed() >= took * part) {
            let began = Instant::now();
            let now = follow.now();
            self.last = follow.monitor().lifetimes(now).map(Arc::new);
            self.made = Some((Instant::now(), began.elapsed()));
        }
        self.last.clone()
    }
}

/// Measures ourselves.
struct Meter {
    is_replay: bool,
    /// When it was last measured, and the processor time until then.
    last: Option<(Instant, f64)>,
    sweep: Option<SweepCost>,
}

impl Meter {
    fn new(is_replay: bool) -> Meter {
        Meter { is_replay, last: None, sweep: None }
    }

    fn cost(&mut self, swept: Option<SweepCost>, look: &Look) -> Cost {
        self.sweep = swept.or(self.sweep);
        let (now, spent) = (Instant::now(), processor_ms());
        let before = self.last.replace((now, spent));
        let cpu_share = before.filter(|_| !self.is_replay).and_then(|(then, spent_then)| {
            let wall_ms = now.duration_since(then).as_secs_f64() * 1e3;
            (wall_ms > 0.0).then(|| (spent - spent_then) / wall_ms)
        });
        Cost {
            sweep: self.sweep,
            swept_ago_ms: if swept.is_some() { 0 } else { look.churn.at.ms_since(look.churn.swept_at) },
            cpu_share,
            resident_bytes: resident_bytes(),
        }
    }
}

/// Resident memory of this process.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}
