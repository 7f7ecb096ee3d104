//! One namespace of a fleet, followed: its Monitor, its destroy events, and what a sweep of it takes.
//!
//! It is swept on a thread that is in it. No descriptor is kept but that of the destroy events, and that one only for so
//! many members as the driver says.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use sock_diag::{DestroyEvents, Event, EventGroups, Kernel, RecvBuffer};
use sockeye_core::{Moment, Monitor, Report, When};
use sockeye_host::{Counters, FoundNamespace};

use super::crew::{Desk, Job};
use super::shared::{Arrivals, SharedWhose};
use super::way::Barred;
use crate::explain;
use crate::feed::Feed;
use crate::follow::{EVENT_BUFFER_BYTES, FEWER_THAN_A_BATCH, Reading, SweepCost, Watched, moment_after};
use crate::surroundings::Surroundings;
use crate::sweep::{Note, unread_settings};

/// Settings may be changed while we look; in a fleet that shows after so long, and with a sweep. The more namespaces there
/// are, the longer it takes the kernel to find a sysctl: all are under one name in its cache.
const SETTINGS_EVERY_MS: u64 = 5_000;
/// A namespace whose counters stand still is read all the same after so long: states change without being counted.
const LONGEST_REST_MS: u64 = 10_000;

/// What is left of a tick's churn at the next.
const CHURN_LASTS: f64 = 0.9;
/// So often it is read again then: one namespace's storm must not keep us from the others.
const MOST_BATCHES: usize = 16;

/// A namespace that is known, and how it is looked at.
pub(super) struct Member {
    pub(super) found: FoundNamespace,
    pub(super) state: State,
}

pub(super) enum State {
    /// It was found and has not been read yet.
    New,
    /// It cannot be read.
    Barred(Barred),
    Followed(Box<Followed>),
}

/// What is known of a namespace that is followed.
pub(super) struct Followed {
    /// Tells it from the one that gets its inode when it is gone; None before Linux 5.14.
    cookie: Option<u64>,
    surroundings: Surroundings,
    watched: Watched,
    events: Option<DestroyEvents>,
    /// Events that are read now came later than this.
    heard: Moment,
    settings_read: Moment,
    /// As they stood before the last sweep.
    counters: Counters,
    /// When that sweep began.
    pub(super) swept: Moment,
    /// When it was looked at last, swept or not.
    pub(super) looked: Moment,
    /// Processor time of that look, milliseconds.
    pub(super) cost_ms: f64,
    /// The sweep of this tick.
    pub(super) sweep: Option<SweepCost>,
    pub(super) notes: Vec<Note>,
    /// Sockets whose end the last sweep left open.
    unconfirmed: u32,
    /// Opens and closes of the last ticks, the latest counting most.
    pub(super) churn: f64,
}

/// A look at a member, on a thread that is in its namespace.
pub(super) struct Look<'a> {
    pub(super) member: &'a mut Member,
    /// The clock of the fleet.
    pub(super) started: Instant,
    /// Whether it may keep a descriptor for destroy events, if it has none yet.
    pub(super) subscribes: bool,
    /// Who tells owners, where they are asked for.
    pub(super) whose: Option<SharedWhose>,
}

impl Job for Look<'_> {
    fn namespace(&self) -> &FoundNamespace {
        &self.member.found
    }

    fn work(self, entered: Result<(), Barred>, desk: &mut Desk) {
        let Look { member, started, subscribes, whose } = self;
        let spent = thread_ms();
        let done =
            entered.and_then(|()| member.look(started, subscribes, whose, desk).map_err(Barred::Failed));
        match (done, &mut member.state) {
            (Ok(()), State::Followed(followed)) => followed.cost_ms = thread_ms() - spent,
            // Whether it is gone, the search will tell: a way may be missed by a hair.
            (Ok(()) | Err(Barred::Gone), _) => {}
            // What was begun and not ended is no truth to go on from.
            (Err(barred), state) => *state = State::Barred(barred),
        }
    }
}

impl Member {
    pub(super) fn new(found: FoundNamespace) -> Member {
        Member { found, state: State::New }
    }

    fn look(
        &mut self,
        started: Instant,
        subscribes: bool,
        whose: Option<SharedWhose>,
        desk: &mut Desk,
    ) -> anyhow::Result<()> {
        let kernel = Kernel::open().map_err(explain::open)?;
        let cookie = kernel.namespace_cookie();
        match &mut self.state {
            State::Followed(followed) if followed.cookie == cookie => {
                if subscribes && followed.events.is_none() {
                    followed.hear(started);
                }
                followed.look(kernel, started, desk)
            }
            // Nobody was followed, or another namespace that had the same inode.
            _ => {
                let begun = Followed::begin(kernel, cookie, started, subscribes, whose, desk)?;
                self.state = State::Followed(Box::new(begun));
                Ok(())
            }
        }
    }
}

impl Followed {
    /// Begins to follow the calling thread's namespace: subscribes to destroy events first, then reads everything twice, so
    /// that no race hides a socket.
    fn begin(
        kernel: Kernel,
        cookie: Option<u64>,
        started: Instant,
        subscribes: bool,
        whose: Option<SharedWhose>,
        desk: &mut Desk,
    ) -> anyhow::Result<Followed> {
        let began = moment_after(started);
        let events = subscribes.then(subscribe).flatten();
        let mut surroundings = Surroundings::read(None);
        let counters = surroundings.reread(false);
        let (settings, counted) = (surroundings.core_settings(), surroundings.core_counters());
        let mut followed = Followed {
            cookie,
            watched: Watched::new(Monitor::new(&settings, &counted, began, events.is_some()), None),
            surroundings,
            events,
            heard: began,
            settings_read: began,
            counters,
            swept: began,
            looked: began,
            cost_ms: 0.0,
            sweep: None,
            notes: Vec::new(),
            unconfirmed: 0,
            churn: 0.0,
        };
        // Who is gone is told to those who know owners.
        followed.watched.monitor.keep_closed(whose.is_some());
        followed.watched.arrivals = whose.map(Arrivals::new);
        followed.watched.begin_sweep(began);
        let records = followed.read(kernel, desk, |followed, feed, desk| {
            let records = Reading::of(feed, &mut followed.watched).read_all()?;
            followed.take_events(started, &mut desk.events);
            // Where there is nothing, nothing was hidden.
            if records == 0 && in_use(&counters) == Some(0) {
                return Ok(0);
            }
            Reading::of(feed, &mut followed.watched).read_all()
        })?;
        followed.take_events(started, &mut desk.events);
        // After the dumps: whatever is counted from here on was not there yet.
        followed.counters = followed.surroundings.reread(false);
        let ended = moment_after(started);
        followed.watched.end_sweep(ended, &followed.surroundings.core_counters());
        followed.sweep = Some(SweepCost { duration_ms: ended.ms_since(began) as f64, records });
        Ok(followed)
    }

    /// A look at a tick: a sweep, unless nothing has moved.
    fn look(&mut self, kernel: Kernel, started: Instant, desk: &mut Desk) -> anyhow::Result<()> {
        let began = moment_after(started);
        self.looked = began;
        self.take_events(started, &mut desk.events);
        let counters = self.surroundings.reread(false);
        if self.rests(&counters, began) {
            return Ok(());
        }
        if began.ms_since(self.settings_read) >= SETTINGS_EVERY_MS {
            self.settings_read = began;
            self.surroundings.reread(true);
            self.watched.monitor.set_settings(&self.surroundings.core_settings());
        }
        let clock = Instant::now();
        self.watched.begin_sweep(began);
        let (records, settled) = self.read(kernel, desk, |followed, feed, desk| {
            let records = Reading::of(feed, &mut followed.watched).read_all()?;
            followed.take_events(started, &mut desk.events);
            Ok((records, Reading::of(feed, &mut followed.watched).look_up_missing()?))
        })?;
        let ended = moment_after(started);
        for (cookie, found) in settled {
            self.watched.monitor.settle(cookie, found.as_ref(), ended);
        }
        self.watched.end_sweep(ended, &self.surroundings.core_counters());
        (self.swept, self.counters) = (began, counters);
        self.sweep = Some(SweepCost { duration_ms: clock.elapsed().as_secs_f64() * 1000.0, records });
        Ok(())
    }

    /// Whether a sweep can be left out: no connection has begun or ended since the last one, for no counter has moved.
    /// A walk through the host's hash table costs milliseconds, whoever it is for; most namespaces of a host rest.
    fn rests(&self, counters: &Counters, now: Moment) -> bool {
        let moving = |c: &Counters| {
            [
                c.active_opens,
                c.passive_opens,
                c.attempt_fails,
                c.estab_resets,
                c.curr_estab,
                c.tcp_in_use,
                c.tcp6_in_use,
                c.time_waits,
                c.udp_in_use,
                c.udp6_in_use,
            ]
        };
        let is_known = counters.tcp_in_use.is_some() && counters.time_waits.is_some();
        is_known
            && moving(counters) == moving(&self.counters)
            && now.ms_since(self.swept) < LONGEST_REST_MS
            && self.unconfirmed == 0
    }

    /// Reads with what the thread has at hand.
    fn read<T>(
        &mut self,
        kernel: Kernel,
        desk: &mut Desk,
        read: impl FnOnce(&mut Followed, &mut Feed, &mut Desk) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let surroundings = std::mem::take(&mut self.surroundings);
        let mut feed = Feed::of_thread(kernel, surroundings, std::mem::take(&mut desk.answers));
        let result = read(self, &mut feed, desk);
        (self.surroundings, desk.answers) = feed.take_apart();
        result
    }

    /// What a wait for events is to wait for; None when it does not hear any.
    pub(super) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn hears_events(&self) -> bool {
        self.events.is_some()
    }

    /// Its queue was seen empty then, or woke us.
    pub(super) fn was_quiet(&mut self, at: Moment) {
        self.heard = self.heard.max(at);
    }

    /// Begins to hear its events, before a sweep of it.
    fn hear(&mut self, started: Instant) {
        self.heard = moment_after(started);
        self.events = subscribe();
        self.watched.monitor.hear_events(self.events.is_some());
    }

    /// Closes the descriptor, which would keep a namespace alive that has nobody in it any more; what has come is read.
    pub(super) fn let_go(&mut self, started: Instant, buffer: &mut RecvBuffer) {
        self.take_events(started, buffer);
        self.events = None;
        self.watched.monitor.hear_events(false);
    }

    /// Reads what events are there, without waiting.
    pub(super) fn take_events(&mut self, started: Instant, buffer: &mut RecvBuffer) {
        let Some(events) = &mut self.events else { return };
        let (watched, heard) = (&mut self.watched, self.heard);
        let asked = moment_after(started);
        for _ in 0..MOST_BATCHES {
            watched.forget_closed();
            let read = events.read(Some(Duration::ZERO), buffer, |event| {
                watched.event(When::between(heard, moment_after(started)), &event);
            });
            match read {
                // It has seen the queue empty.
                Ok(read) if read < FEWER_THAN_A_BATCH => {
                    self.heard = asked;
                    watched.forget_closed();
                    return;
                }
                Ok(_) => {}
                Err(_) => {
                    watched.event(When::at(moment_after(started)), &Event::Lost(None));
                    watched.monitor.hear_events(false);
                    self.events = None;
                    return;
                }
            }
        }
    }

    /// A tick, for [`told`](Self::told).
    pub(super) fn tick(&mut self, now: Moment) {
        self.watched.forget_closed();
        self.notes.clear();
        self.watched.write_notes(self.events.is_some(), &mut self.notes);
        self.notes.extend(unread_settings(&self.surroundings));
        let now = now.max(self.watched.now);
        self.watched.monitor.tick(now);
        // Whose they are is not looked for: that would be a search for each namespace.
        let stuck = self.watched.monitor.stuck(now).into_iter().map(|found| found.stuck);
        let report = self.watched.monitor.report_mut();
        report.tell_stuck(stuck);
        if let Some(churn) = &mut report.churn {
            self.unconfirmed = churn.unconfirmed;
            self.churn = self.churn * CHURN_LASTS + (churn.tcp.opened_last + churn.tcp.closed_last) as f64;
        }
    }

    /// The report as of the last tick, with notes beside it.
    pub(super) fn told(&mut self) -> (&mut Report, &[Note]) {
        (self.watched.monitor.report_mut(), &self.notes)
    }

    pub(super) fn monitor(&self) -> &Monitor {
        &self.watched.monitor
    }

    pub(super) fn monitor_mut(&mut self) -> &mut Monitor {
        &mut self.watched.monitor
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if let Some(arrivals) = &self.watched.arrivals {
            arrivals.forget_all(&self.watched.monitor);
        }
    }
}

/// Sockets that are counted; None where TCP sockets are not.
fn in_use(counters: &Counters) -> Option<u64> {
    let others = [counters.tcp6_in_use, counters.udp_in_use, counters.udp6_in_use];
    let others: u64 = others.into_iter().flatten().sum();
    Some(counters.tcp_in_use? + counters.time_waits? + others)
}

/// Of the calling thread's namespace. None where that fails: its closes are found by sweeps then, and that is told.
fn subscribe() -> Option<DestroyEvents> {
    DestroyEvents::open(EventGroups::ALL, EVENT_BUFFER_BYTES).ok()
}

/// Processor time of the calling thread so far, milliseconds; 0 without such a clock, which every Linux has.
fn thread_ms() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    time.map_or(0.0, |time| time.tv_sec() as f64 * 1e3 + time.tv_nsec() as f64 / 1e6)
}
