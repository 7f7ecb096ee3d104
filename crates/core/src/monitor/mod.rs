//! One network namespace followed over time: every socket by its cookie, from birth to the end of its TIME_WAIT.
//!
//! What a record or an event means is decided here and in `deaths`; where it is kept is the table's and the ledger's.

mod brief;
mod deaths;
mod departed;
mod ends;
mod lateness;
mod ledger;
mod origins;
mod paged;
mod stuck;
mod table;

use hashbrown::{HashMap, HashSet};
use sock_diag::{Cookie, Family, Protocol, SocketId, SocketRecord, SocketState};

use crate::churn::{AccountRow, Churn, Coverage};
use crate::closed::{Closed, Direction, Evidence};
use crate::curve::age_ms;
use crate::lifetimes::{Group, LifetimeReport, Lifetimes, LifetimesBy};
use crate::moment::{Moment, When};
use crate::owner_id::OwnerId;
use crate::port_origin::PortOrigin;
use crate::port_set::PortSet;
use crate::report::Report;
use crate::settings::{Counters, Settings};
use crate::stuck::{Age, Found};
use crate::sweep::Sweep;

use brief::Briefs;
use departed::Departed;
use ends::Addresses;
use lateness::Lateness;
use ledger::{Account, Happening, INCOMING, Ledger, OUTGOING, Source, TCP, UDP, origin_account};
use stuck::Standing;
use table::{Flag, Slot, Socket, Stage, Table};

/// `idiag_expires` and the ages of a `tcp_info` come from jiffies, 10 ms at the coarsest; on a busy virtual machine they
/// fall behind by as much again and catch up at once.
const JIFFY_MS: u64 = 20;

/// Follows the sockets of one network namespace; several namespaces are several monitors.
///
/// A tick with a sweep: [`begin_sweep`](Self::begin_sweep), [`observe`](Self::observe) each record of the dumps,
/// [`destroyed`](Self::destroyed) for what events came meanwhile, [`missing`](Self::missing) and
/// [`settle`](Self::settle) where sockets can be looked up, [`end_sweep`](Self::end_sweep), [`tick`](Self::tick). A tick
/// without a sweep: the events alone, then `tick`.
///
/// Memory: about 50 bytes a followed socket, TIME_WAIT ones among them, and 200 a destination or listener; while a sweep
/// lasts, what a [`Sweep`] takes besides.
pub struct Monitor {
    settings: Settings,
    table: Table,
    ends: Addresses,
    ledger: Ledger,
    briefs: Briefs,
    departed: Departed,
    lateness: Lateness,
    standing: Standing,
    /// The sweep that is going on.
    sweep: Option<Sweep>,
    /// Its sockets that are not followed, by cookie: listeners, bound ones.
    others: HashSet<u64>,
    listening: PortSet,
    listening_now: PortSet,
    duplicates: u64,
    sweeps: u64,
    /// When the last three sweeps began, the newest first.
    began: [Moment; 3],
    /// When they ended; the newest one's end is its beginning while it goes on.
    ended: [Moment; 3],
    since: Moment,
    events: bool,
    events_lost: u64,
    counted_at_start: Option<u64>,
    counted: Option<u64>,
    unconfirmed: u32,
    /// Followed sockets that this sweep has seen.
    seen: usize,
    /// Sockets first seen in this sweep.
    born: Vec<Slot>,
    /// Mini sockets of this sweep whose full socket was not known to be gone, with the time since, if told.
    turned: Vec<(Slot, Option<u64>)>,
    /// Brief connections since the last sweep by local port, those taken for outgoing and those of unknown direction.
    unplaced: HashMap<u16, [u64; 2]>,
    closed: Option<Vec<Closed>>,
    lifetimes: Option<(LifetimesBy, Lifetimes)>,
    report: Report,
}

/// A socket that was missing from a sweep, as a lookup needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the parts of a lookup")]
pub struct Missing {
    pub protocol: Protocol,
    pub family: Family,
    pub id: SocketId,
}

impl Monitor {
    /// Begins to follow a namespace with these settings. `events`: destroy events were subscribed to before the first
    /// sweep.
    pub fn new(settings: &Settings, counters: &Counters, start: Moment, events: bool) -> Monitor {
        Monitor {
            settings: settings.clone(),
            table: Table::new(),
            ends: Addresses::default(),
            ledger: Ledger::new(start),
            briefs: Briefs::new(),
            departed: Departed::default(),
            lateness: Lateness::default(),
            standing: Standing::default(),
            sweep: None,
            others: HashSet::new(),
            listening: PortSet::new(),
            listening_now: PortSet::new(),
            duplicates: 0,
            sweeps: 0,
            began: [start; 3],
            ended: [start; 3],
            since: start,
            events,
            events_lost: 0,
            counted_at_start: None,
            counted: None,
            unconfirmed: 0,
            seen: 0,
            born: Vec::new(),
            turned: Vec::new(),
            unplaced: HashMap::new(),
            closed: None,
            lifetimes: None,
            report: Sweep::new(settings).finish(counters),
        }
    }

    /// From the next sweep on, other settings hold.
    pub fn set_settings(&mut self, settings: &Settings) {
        if self.settings != *settings {
            self.settings = settings.clone();
        }
    }

    /// From the next sweep on destroy events are heard, or are no more: said before that sweep begins.
    pub fn hear_events(&mut self, heard: bool) {
        self.events = heard;
    }

    /// Whether [`take_closed`](Self::take_closed) is going to be asked; without it closes are counted and forgotten.
    pub fn keep_closed(&mut self, keep: bool) {
        self.closed = keep.then(Vec::new);
    }

    /// From now on lifetimes of TCP connections are kept, for [`lifetimes`](Self::lifetimes).
    pub fn keep_lifetimes(&mut self, by: LifetimesBy) {
        self.lifetimes.get_or_insert_with(|| (by, Lifetimes::new()));
    }

    /// The cookies of the sockets that are followed and alive.
    pub fn live_cookies(&self) -> impl Iterator<Item = Cookie> + '_ {
        let live = self.table.slots().filter(|slot| self.table.socket(*slot).is_live());
        live.map(|slot| self.table.cookie(slot))
    }

    /// Sockets followed now, those in TIME_WAIT and the just departed among them.
    pub fn followed(&self) -> usize {
        self.table.len()
    }

    /// A sweep begins. The first one is the baseline: what it finds was there before. Reading it twice (the same dumps
    /// again before [`end_sweep`](Self::end_sweep)) makes sure that no race hid a socket from it.
    pub fn begin_sweep(&mut self, at: Moment) {
        self.sweeps += 1;
        self.began = [at, self.began[0], self.began[1]];
        self.ended = [at, self.ended[0], self.ended[1]];
        self.sweep = Some(Sweep::with_capacity(&self.settings, self.report.sockets_in_use()));
        self.others.clear();
        self.listening_now = PortSet::new();
        self.duplicates = 0;
        self.seen = 0;
        self.ledger.begin_sweep();
        self.table.begin();
    }

    /// Takes one record of the sweep; repeats are known by their cookie. Whether it begins to be followed with it.
    #[inline]
    pub fn observe(&mut self, record: &SocketRecord) -> bool {
        if !is_followed(record) {
            self.observe_other(record);
            return false;
        }
        match self.table.follow(record.id.cookie) {
            Some(slot) => self.see_again(slot, record),
            None => {
                self.meet(record);
                return true;
            }
        }
        false
    }

    /// Notes whose a followed TCP socket is, from now on and as long as it is followed, its TIME_WAIT included.
    pub fn own(&mut self, cookie: Cookie, owner: OwnerId) {
        let Some(slot) = self.table.find(cookie) else { return };
        let socket = *self.table.socket(slot);
        if !socket.is(Flag::Udp) && self.ledger.owner(socket.group) != owner {
            let opened = socket.birth().is_some() && socket.is_live();
            let account = self.ledger.hand_over(socket.group, owner, socket.is_live(), opened);
            self.table.socket_mut(slot).group = account;
        }
    }

    /// Whose a followed TCP socket is; None when it is not followed.
    pub fn owner(&self, cookie: Cookie) -> Option<OwnerId> {
        let socket = self.table.socket(self.table.find(cookie)?);
        Some(self.ledger.owner(socket.group))
    }

    /// Connections by group and owner: every pair that has some, or had some within the longest window of rates.
    ///
    /// Cost: a walk over all sockets, and over these pairs.
    pub fn accounts(&self) -> Vec<AccountRow> {
        let generation = self.sweeps as u8;
        let mut waiting = vec![0; self.ledger.accounts()];
        for slot in self.table.slots() {
            let socket = self.table.socket(slot);
            // Who is gone without a trace is followed for two sweeps more.
            if !socket.is_live() && socket.seen == generation && !socket.is(Flag::Udp) {
                waiting[socket.group as usize] += 1;
            }
        }
        self.ledger.rows(&waiting)
    }

    fn observe_other(&mut self, record: &SocketRecord) {
        if !self.others.insert(record.id.cookie.0) && record.id.cookie.0 != 0 {
            self.duplicates += 1;
            return;
        }
        if record.protocol == Protocol::Tcp && record.state == SocketState::Listen {
            self.listening_now.insert(record.id.local_port);
        }
        self.fold(record, PortOrigin::Unknown, None);
    }

    #[inline]
    fn see_again(&mut self, slot: Slot, record: &SocketRecord) {
        let generation = self.sweeps as u8;
        let socket = self.table.socket_mut(slot);
        if socket.seen == generation {
            self.duplicates += 1;
            return;
        }
        socket.seen = generation;
        socket.missed = 0;
        let known = *socket;
        self.seen += 1;
        let stage = Stage::of(record.state, record.timer.kind);
        if stage != known.stage() || !self.ends.are_of(&known, record) {
            self.see_change(slot, record, stage);
            let origin = self.table.socket(slot).port_origin();
            self.fold(record, origin, None);
        } else {
            // Those without a remote port share an account, and are no one destination.
            let is_destination = known.direction() == Direction::Outgoing && known.remote_port != 0;
            self.fold(record, known.port_origin(), is_destination.then_some(known.group));
        }
    }

    #[inline]
    fn fold(&mut self, record: &SocketRecord, origin: PortOrigin, destination: Option<Account>) {
        if let Some(sweep) = &mut self.sweep {
            sweep.take(record, origin, destination);
        }
    }

    /// A known socket is in another stage, or has other ends.
    fn see_change(&mut self, slot: Slot, record: &SocketRecord, stage: Stage) {
        let known = *self.table.socket(slot);
        let same_ends = self.ends.are_of(&known, record);
        if known.is(Flag::Udp) {
            // connect() and disconnection of a UDP socket: it stays the same.
            if !same_ends {
                self.move_ends(slot, record);
            }
            return;
        }
        match (known.is_live(), stage) {
            (true, _) if !same_ends => {
                // connect() again on the same socket: the connection it was has ended.
                let at = When::between(self.began[1], self.began[0]);
                self.close(slot, at, Evidence::Sweeps, None);
                self.reopen(slot, record);
            }
            (true, Stage::Gone) => {
                // Counted when the sweep ends: by then its event may have come, and tells more.
                self.table.socket_mut(slot).set_stage(Stage::ClosingHere);
                self.turned.push((slot, age_of_mini(record)));
            }
            (true, stage) => self.table.socket_mut(slot).set_stage(stage),
            (false, Stage::Gone) => {}
            (false, _) => self.reopen(slot, record),
        }
    }

    /// A record whose cookie is not known.
    fn meet(&mut self, record: &SocketRecord) {
        let is_baseline = self.sweeps == 1;
        let earliest = (!is_baseline).then_some(self.began[1]);
        let slot = self.add(record, earliest, self.began[0]);
        if self.table.socket(slot).is_live() {
            self.open(slot, is_baseline);
            if !is_baseline {
                self.table.socket_mut(slot).set(Flag::New, true);
                self.born.push(slot);
            }
        } else if is_baseline {
            // Over before the watch began: its event, if one is still to come, is nothing to us.
            self.table.socket_mut(slot).set(Flag::Told, true);
        } else {
            self.turned.push((slot, age_of_mini(record)));
            self.table.socket_mut(slot).set(Flag::New, true);
        }
        let origin = self.table.socket(slot).port_origin();
        self.fold(record, origin, None);
    }

    /// Counts the closes that mini sockets of this sweep tell, unless their events have told them.
    fn end_the_turned(&mut self, at: Moment) {
        for (slot, age) in std::mem::take(&mut self.turned) {
            let now = When::between(self.began[0], at);
            let socket = *self.table.socket(slot);
            let death = match age {
                Some(age) => {
                    let earliest = now.earliest.minus_ms(age + JIFFY_MS);
                    When::between(earliest, now.latest.minus_ms(age.saturating_sub(JIFFY_MS)))
                }
                None => When::between(self.began[1], now.latest),
            };
            if !socket.is(Flag::New) {
                if socket.is_live() {
                    let death = When::between(death.earliest.max(self.began[1]), death.latest);
                    self.close(slot, death, Evidence::TimeWait, None);
                }
            } else {
                self.table.socket_mut(slot).set(Flag::New, false);
                self.count_remains(slot, death);
            }
        }
    }

    /// A TIME_WAIT (or an orphan) of a connection that was never seen alive: born and dead since the last sweep.
    fn count_remains(&mut self, slot: Slot, death: When) {
        // The cookie is the TIME_WAIT's: no event is going to name it.
        self.table.socket_mut(slot).set(Flag::Told, true);
        if death.latest < self.since {
            return;
        }
        let tuple = self.briefs.tuple(&self.ends.both(self.table.socket(slot)));
        if self.events && self.briefs.waits(tuple, death) {
            return;
        }
        self.open(slot, false);
        self.close(slot, death, Evidence::TimeWait, None);
    }

    /// Begins to follow a socket.
    fn add(&mut self, record: &SocketRecord, earliest: Option<Moment>, latest: Moment) -> Slot {
        let mut socket = Socket::NOBODY;
        self.seen += 1;
        socket.seen = self.sweeps as u8;
        socket.set_birth(earliest, latest);
        self.describe(&mut socket, record, OwnerId::UNKNOWN);
        self.table.insert(record.id.cookie, socket)
    }

    /// Fills in what a record says.
    fn describe(&mut self, socket: &mut Socket, record: &SocketRecord, owner: OwnerId) {
        socket.set_stage(Stage::of(record.state, record.timer.kind));
        socket.set(Flag::Udp, record.protocol != Protocol::Tcp);
        let direction = self.direction(record);
        socket.set_direction(direction);
        socket.set_port_origin(self.origin(record, direction));
        self.ends.pack(record, socket);
        if socket.is(Flag::Udp) {
            socket.group = self.ledger.join_udp();
            return;
        }
        let group = match direction {
            // A refused attempt's event has forgotten where it went.
            Direction::Outgoing if record.id.remote_port == 0 => Group::Other,
            Direction::Outgoing => Group::Destination(self.ends.destination(socket)),
            Direction::Incoming => Group::Listener(record.id.local_port),
            Direction::Unknown => Group::Other,
        };
        socket.group = self.ledger.join(group, owner);
    }

    /// Who began a connection, as far as listeners are known.
    fn direction(&self, record: &SocketRecord) -> Direction {
        let port = record.id.local_port;
        if record.protocol != Protocol::Tcp {
            Direction::Unknown
        } else if self.listening_now.contains(port) || self.listening.contains(port) {
            Direction::Incoming
        } else if !record.id.remote_address.is_unspecified() && self.settings.range().contains(port) {
            Direction::Outgoing
        } else {
            Direction::Unknown
        }
    }

    fn move_ends(&mut self, slot: Slot, record: &SocketRecord) {
        let mut socket = *self.table.socket(slot);
        self.ends.release(&socket);
        self.ends.pack(record, &mut socket);
        *self.table.socket_mut(slot) = socket;
    }

    fn open(&mut self, slot: Slot, at_start: bool) {
        let accounts = accounts_of(self.table.socket(slot));
        match at_start {
            true => self.ledger.note_at_start(accounts),
            false => self.ledger.note(accounts, Happening::Opened, Source::Sweep),
        }
    }

    /// A socket of the table begins another connection.
    fn reopen(&mut self, slot: Slot, record: &SocketRecord) {
        let mut socket = *self.table.socket(slot);
        let owner = self.ledger.owner(socket.group);
        self.ends.release(&socket);
        self.ledger.leave(socket.group);
        socket.set_birth(Some(self.began[1]), self.began[0]);
        socket.set(Flag::Told, false);
        self.describe(&mut socket, record, owner);
        *self.table.socket_mut(slot) = socket;
        self.open(slot, false);
    }

    /// Destroy events were lost; None where the kernel does not say how many.
    pub fn lost_events(&mut self, lost: Option<u32>) {
        self.events_lost += u64::from(lost.unwrap_or(1));
    }

    /// Sockets the sweep did not find, to be looked up: at most `limit`, the rest waits for the next sweep.
    ///
    /// Sockets bound to an interface are not among them: a lookup would have to come from there.
    pub fn missing(&mut self, limit: usize) -> Vec<Missing> {
        if self.seen == self.table.len() {
            return Vec::new();
        }
        let generation = self.sweeps as u8;
        let missing = self.table.slots().filter_map(|slot| {
            let socket = self.table.socket(slot);
            let wanted = socket.seen != generation && socket.is_live() && !socket.is(Flag::OnInterface);
            wanted.then(|| Missing {
                protocol: if socket.is(Flag::Udp) { Protocol::Udp } else { Protocol::Tcp },
                family: if socket.is(Flag::Inet6) { Family::Inet6 } else { Family::Inet },
                id: self.ends.id(socket, self.table.cookie(slot)),
            })
        });
        missing.take(limit).collect()
    }

    /// What a lookup of a missing socket found: None when the kernel says it is gone.
    pub fn settle(&mut self, cookie: Cookie, found: Option<&SocketRecord>, at: Moment) {
        let Some(slot) = self.table.find(cookie) else { return };
        match found {
            Some(record) => self.see_again(slot, record),
            None if self.table.socket(slot).is_live() => {
                let last_seen = self.last_seen(slot);
                self.close(slot, When::between(last_seen, at), Evidence::Lookup, None);
            }
            None => {}
        }
    }

    /// A socket that this sweep has not found was there when this one before it began.
    fn last_seen(&self, slot: Slot) -> Moment {
        let sweeps_ago = 1 + usize::from(self.table.socket(slot).missed);
        self.began[sweeps_ago.min(2)].max(self.table.socket(slot).born_by().min(self.began[1]))
    }

    /// The sweep is over.
    pub fn end_sweep(&mut self, at: Moment, counters: &Counters) {
        let Some(mut sweep) = self.sweep.take() else { return };
        self.ended[0] = at;
        self.end_the_turned(at);
        self.end_the_missing();
        self.briefs.end_sweep(self.sweeps, at);
        for slot in std::mem::take(&mut self.born) {
            let socket = self.table.socket_mut(slot);
            if socket.is(Flag::New) {
                socket.set(Flag::New, false);
                socket.set_birth(Some(self.began[1]), at);
            }
        }
        self.table.shrink();
        self.place_briefs();
        self.listening = std::mem::take(&mut self.listening_now);
        sweep.note_duplicates(self.duplicates);
        let churn = self.report.churn.take();
        self.report = sweep.finish(counters);
        self.report.churn = churn;
        self.doubt_origins();
        self.standing.end_sweep(&self.report.stuck, self.began[1], at);
        self.counted = counters.active_opens.zip(counters.passive_opens).map(|(out, inc)| out + inc);
        if self.sweeps == 1 {
            self.since = at;
            self.counted_at_start = self.counted;
            self.ledger.start(at);
        } else {
            self.ledger.end_sweep(at);
        }
    }

    /// Brief connections whose listener was not known yet, because it is younger than the last sweep, came in.
    fn place_briefs(&mut self) {
        for (port, [outgoing, unknown]) in self.unplaced.drain() {
            if self.listening_now.contains(port) {
                self.ledger.place_as_incoming(outgoing, unknown);
            }
        }
    }

    /// Decides about everything the sweep has not seen.
    fn end_the_missing(&mut self) {
        self.unconfirmed = 0;
        if self.seen == self.table.len() {
            return;
        }
        let generation = self.sweeps as u8;
        let unseen: Vec<Slot> =
            self.table.slots().filter(|slot| self.table.socket(*slot).seen != generation).collect();
        for slot in unseen {
            let last_seen = self.last_seen(slot);
            let socket = self.table.socket_mut(slot);
            socket.missed = socket.missed.saturating_add(1);
            match (socket.is_live(), socket.missed) {
                (true, 1) => self.unconfirmed += 1,
                (true, _) => {
                    self.close(slot, When::between(last_seen, self.ended[1]), Evidence::Sweeps, None)
                }
                (false, 1) => {}
                (false, _) => self.forget(slot),
            }
        }
    }

    fn forget(&mut self, slot: Slot) {
        let socket = *self.table.socket(slot);
        if self.events && !socket.is(Flag::Told) {
            self.departed.add(self.table.cookie(slot));
        }
        self.ends.release(&socket);
        self.ledger.leave(socket.group);
        self.table.remove(slot);
    }

    /// The report as of now: port truth of the last sweep, churn up to this moment.
    pub fn tick(&mut self, at: Moment) -> &mut Report {
        self.lateness.tick();
        let interval_ms = self.ledger.tick(at);
        for destination in &mut self.report.destinations {
            destination.rates = self.ledger.rates_of(Group::Destination(destination.id));
        }
        for listener in &mut self.report.listeners {
            listener.rates = self.ledger.rates_of(Group::Listener(listener.port));
        }
        let tcp = self.ledger.flow(TCP);
        self.report.churn = Some(Churn {
            since: self.since,
            at,
            interval_ms,
            swept_at: self.began[0],
            coverage: Coverage {
                seen: tcp.opened,
                counted: self.counted.zip(self.counted_at_start).map(|(now, then)| now.saturating_sub(then)),
            },
            tcp,
            outgoing: self.ledger.flow(OUTGOING),
            incoming: self.ledger.flow(INCOMING),
            udp: self.ledger.flow(UDP),
            events: self.events,
            events_lost: self.events_lost,
            unconfirmed: self.unconfirmed,
        });
        self.report.forecast(&self.settings);
        &mut self.report
    }

    /// The report as of the last [`tick`](Self::tick).
    pub fn report_mut(&mut self) -> &mut Report {
        &mut self.report
    }

    /// What one look told of a [sampled](Report::stuck) socket: how long it had been in its state at some moment of `at`.
    pub fn learn_age(&mut self, cookie: Cookie, age: Age, at: When) {
        self.standing.learn(cookie, age, at);
    }

    /// Sockets that have been for long in states that none should be in for long, those that hurt most first. Since when
    /// is known from the sweeps, from what [`learn_age`](Self::learn_age) was told, and that it goes on from the last sweep.
    pub fn stuck(&self, at: Moment) -> Vec<Found> {
        self.report.stuck_by(|_, record| self.standing.age(record, at))
    }

    /// Connections that have ended since the last call, in the order they became known.
    pub fn take_closed(&mut self) -> Vec<Closed> {
        self.closed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Lifetimes of TCP connections that ended since [`keep_lifetimes`](Self::keep_lifetimes) was called, and of those
    /// still open; None when it was not.
    ///
    /// Cost: a walk over all sockets, and what [`Lifetimes::report`] takes.
    pub fn lifetimes(&self, at: Moment) -> Option<LifetimeReport> {
        let (by, lifetimes) = self.lifetimes.as_ref()?;
        let open = self.table.slots().map(|slot| self.table.socket(slot));
        let open = open.filter(|socket| socket.is_live() && !socket.is(Flag::Udp));
        let ages = open.map(|socket| {
            let birth = socket.birth().unwrap_or(When::at(socket.born_by()));
            (group_by(&self.ledger, socket, *by), at.ms_since(birth.middle()))
        });
        Some(lifetimes.report(ages))
    }
}

/// Whether a record is of a kind that has a birth and a death of its own to be followed.
#[inline]
fn is_followed(record: &SocketRecord) -> bool {
    let kind = match record.protocol {
        Protocol::Tcp => !matches!(
            record.state,
            SocketState::Listen | SocketState::Close | SocketState::SynRecv | SocketState::NewSynRecv
        ),
        Protocol::Udp => true,
        _ => false,
    };
    // A socket that ends loses its port before its state, and a dump may look at it in between (6.18): it is as good as
    // closed, and must not be taken for one with other ends.
    kind && record.id.cookie.0 != 0 && record.id.local_port != 0
}

/// Time since a mini socket took its full socket's place, milliseconds: told by TIME_WAIT alone.
fn age_of_mini(record: &SocketRecord) -> Option<u64> {
    (record.state == SocketState::TimeWait).then(|| u64::from(age_ms(record.timer.expires_ms)))
}

/// The accounts in which a socket's opening and closing are noted.
fn accounts_of(socket: &Socket) -> impl Iterator<Item = Account> + use<> {
    let origin = origin_account(socket.port_origin());
    let accounts = match (socket.is(Flag::Udp), socket.direction()) {
        (true, _) => [Some(UDP), None, None, None],
        (_, Direction::Outgoing) => [Some(TCP), Some(OUTGOING), Some(socket.group), Some(origin)],
        (_, Direction::Incoming) => [Some(TCP), Some(INCOMING), Some(socket.group), Some(origin)],
        (_, Direction::Unknown) => [Some(TCP), Some(socket.group), Some(origin), None],
    };
    accounts.into_iter().flatten()
}

/// What a connection's lifetime is counted under.
fn group_by(ledger: &Ledger, socket: &Socket, by: LifetimesBy) -> Group {
    match by {
        LifetimesBy::Ends => ledger.group(socket.group),
        LifetimesBy::Owner => Group::Owner(ledger.owner(socket.group)),
        LifetimesBy::PortOrigin => Group::PortOrigin(socket.port_origin()),
    }
}
