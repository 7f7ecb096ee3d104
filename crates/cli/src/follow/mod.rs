//! The driver of every command that looks for longer than a moment: ticks, sweeps and destroy events into a Monitor.
//!
//! One thread. Between ticks it waits for destroy events; at a tick it sweeps, if its own cost allows, and has the sockets
//! that are missing looked up. A replay takes the same steps at full speed, at the times that were recorded. Where bytes come
//! from is feed.rs, what a sweep means is core's business.

mod budget;
mod live;
mod onlooker;
mod reading;
mod told;
mod watched;

use std::time::Duration;

use sock_diag::SocketRecord;
use sockeye_core::{Closed, Moment, Monitor, OwnerId, Report};

pub(crate) use self::budget::{Budget, processor_ms};
pub(crate) use self::live::{EVENT_BUFFER_BYTES, FEWER_THAN_A_BATCH, REST_MS, moment_after, next_due};
use self::live::{Live, Woken};
pub(crate) use self::onlooker::Onlooker;
pub(crate) use self::reading::Reading;
pub(crate) use self::told::Told;
pub(crate) use self::watched::Watched;
use crate::args::FeedArgs;
use crate::by::{Books, By, Row, rows};
use crate::feed::Feed;
use crate::stuck::{Ages, Search, about_binding, tell_watched};
use crate::surroundings::{Step, StepKind, Surroundings};
use crate::sweep::{Note, unread_settings};
use crate::whose::{Facet, Whose};

/// How often to look, how long, and at what cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From tick to tick.
    pub(crate) interval: Duration,
    /// So many ticks, then the end.
    pub(crate) count: Option<u64>,
    /// So long, with a last tick then.
    pub(crate) for_: Option<Duration>,
    /// Share of one processor, 0–1, that may be used: sweeps are left out to keep it. None: a sweep at every tick.
    pub(crate) cpu_budget: Option<f64>,
}

/// Owners of sockets are sought so long at every tick, and at the start.
pub(crate) const OWNERS_PER_TICK: Duration = Duration::from_millis(10);
pub(crate) const OWNERS_AT_START: Duration = Duration::from_millis(1_000);

/// One tick.
pub(crate) struct Tick<'a> {
    /// What is known now; its port numbers are those of the last sweep.
    pub(crate) report: &'a mut Report,
    /// What to tell beside the report's own warnings.
    pub(crate) notes: &'a [Note],
    /// When it was, by the wall clock.
    pub(crate) at: jiff::Timestamp,
    /// This tick's sweep; None when it was left out.
    pub(crate) sweep: Option<SweepCost>,
    /// Connections grouped as was asked for.
    pub(crate) groups: Option<(By, Vec<Row>)>,
}

/// What a sweep took.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SweepCost {
    /// From the first request to the last answer.
    pub(crate) duration_ms: f64,
    /// Sockets that were read.
    pub(crate) records: u64,
}

/// What has happened, for those who do not want to wait for the tick.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Events,
    Tick,
    End,
}

/// A namespace that is followed, or the capture of one that was.
pub(crate) struct Follow {
    feed: Feed,
    watched: Watched,
    /// None for a replay.
    live: Option<Live>,
    /// A replay has gone on to a step that is not taken yet.
    stands_ahead: bool,
    pace: Pace,
    ticks: u64,
    /// When the first sweep was done: ticks are due at whole intervals from here.
    start: Moment,
    clock: WallClock,
    notes: Vec<Note>,
    /// Sockets that this tick's sweep read; None when there was none.
    swept: Option<u64>,
    /// What has ended and was not asked for yet.
    closed: Vec<Closed>,
    /// Somebody is going to ask.
    tells_closed: bool,
}

impl Follow {
    /// Begins to follow: subscribes to destroy events, then reads everything twice, so that no race hides a socket.
    ///
    /// # Errors
    /// What opening the feed answers, and when TCP sockets cannot be read. Without destroy events it goes on, with a note.
    pub(crate) fn open(args: &FeedArgs, pace: &Pace) -> anyhow::Result<Follow> {
        Follow::open_with_owners(args, pace, None)
    }

    /// The same, and finds out whose the sockets are.
    ///
    /// # Errors
    /// As [`open`](Self::open). What cannot be told of owners is a note.
    pub(crate) fn open_with_owners(
        args: &FeedArgs,
        pace: &Pace,
        facet: Option<Facet>,
    ) -> anyhow::Result<Follow> {
        Follow::begin(Feed::open(args)?, pace, |netns, is_live| {
            Some(Whose::following(facet?, is_live, netns))
        })
    }

    /// Begins to follow the namespace of this process, with owners and whether they closed what they had.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn open_accounting(pace: &Pace) -> anyhow::Result<Follow> {
        let feed = Feed::open(&FeedArgs::default())?;
        Follow::begin(feed, pace, |netns, _| Some(Whose::accounting(Facet::Process, netns)))
    }

    fn begin(
        feed: Feed,
        pace: &Pace,
        whose: impl FnOnce(Option<u64>, bool) -> Option<Whose>,
    ) -> anyhow::Result<Follow> {
        let live = match feed.sweeps() {
            None => Some(Live::open(&feed, pace)?),
            Some(2..) => None,
            Some(_) => anyhow::bail!(
                "the capture holds a single look, and nothing to follow: capture again with `sockeye watch`"
            ),
        };
        let (start, heard) = match &live {
            Some(live) => (live.now(), live.hears_events()),
            None => (feed.surroundings().moments().0, feed.surroundings().hears_events()),
        };
        let (settings, counters) = (feed.surroundings().core_settings(), feed.surroundings().core_counters());
        let whose = whose(feed.surroundings().netns_inode, live.is_some());
        let has_owners = whose.is_some();
        let mut follow = Follow {
            watched: Watched::new(Monitor::new(&settings, &counters, start, heard), whose),
            clock: WallClock { moment: start, timestamp: feed.surroundings().taken_at },
            feed,
            live,
            stands_ahead: false,
            pace: *pace,
            ticks: 0,
            start,
            notes: Vec::new(),
            swept: None,
            closed: Vec::new(),
            tells_closed: false,
        };
        follow.watched.search = Search::new(follow.live.is_some());
        // Who is gone is told to those who look for owners.
        follow.watched.monitor.keep_closed(has_owners);
        follow.baseline(start)?;
        follow.clock = follow.wall_clock();
        follow.start = follow.watched.now;
        if let Some(live) = &mut follow.live {
            live.begin(follow.start, pace);
        }
        Ok(follow)
    }

    /// From now on connections that end are kept for [`next_closed`](Self::next_closed) or [`ended`](Self::ended); without this they are counted and
    /// forgotten.
    pub(crate) fn keep_closed(&mut self) {
        self.watched.monitor.keep_closed(true);
        self.tells_closed = true;
    }

    /// Waits for the next tick. None when it is over: after so many ticks or so long as was asked, a signal, or the end
    /// of a replay. Then [`finish`](Self::finish).
    ///
    /// # Errors
    /// When TCP sockets cannot be read any more, and what reading or writing a capture answers.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Tick<'_>>> {
        self.next_by(None)
    }

    /// The same, with connections grouped.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(crate) fn next_by(&mut self, by: Option<By>) -> anyhow::Result<Option<Tick<'_>>> {
        loop {
            match self.advance()? {
                Progress::Events => {}
                Progress::Tick => break,
                Progress::End => return Ok(None),
            }
        }
        self.write_notes();
        let at = self.feed.surroundings().taken_at;
        let duration_ms = self.feed.surroundings().sweep_duration_ms;
        let sweep = self.swept.map(|records| SweepCost { duration_ms, records });
        self.watched.monitor.tick(self.watched.now);
        self.tell_stuck();
        let groups = by.map(|by| (by, self.rows(by)));
        let report = self.watched.monitor.report_mut();
        Ok(Some(Tick { report, notes: &self.notes, at, sweep, groups }))
    }

    /// Waits for connections that have ended: those that events told of come at once, others at the tick. None as
    /// [`next`](Self::next), whose ticks this takes itself.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(crate) fn next_closed(&mut self) -> anyhow::Result<Option<Vec<Closed>>> {
        match self.advance()? {
            Progress::End => return Ok(None),
            Progress::Events => {}
            Progress::Tick => {
                self.write_notes();
                self.watched.monitor.tick(self.watched.now);
            }
        }
        Ok(Some(std::mem::take(&mut self.closed)))
    }

    /// Connections that have ended since the last call, for who takes ticks and wants both; [`keep_closed`](Self::keep_closed)
    /// must have been asked for.
    pub(crate) fn ended(&mut self) -> Vec<Closed> {
        std::mem::take(&mut self.closed)
    }

    /// The state, to be asked for more than a report.
    pub(crate) fn monitor(&mut self) -> &mut Monitor {
        &mut self.watched.monitor
    }

    /// Connections grouped in this way, as of the last tick.
    pub(crate) fn rows(&self, by: By) -> Vec<Row> {
        rows(by, &self.books(), self.watched.whose.as_ref())
    }

    /// What can be grouped.
    pub(crate) fn books(&self) -> Books<'_> {
        Books::of(self.feed.surroundings(), &self.watched.monitor)
    }

    /// Whose the sockets are, where that was asked for.
    pub(crate) fn whose(&self) -> Option<&Whose> {
        self.watched.whose.as_ref()
    }

    /// Looks through these processes for the sockets that they hold, however long that takes.
    pub(crate) fn look_into(&mut self, pids: impl IntoIterator<Item = u32>) {
        let Watched { monitor, whose, .. } = &mut self.watched;
        if let Some(whose) = whose {
            whose.look_into(monitor, pids);
        }
    }

    /// Whose a socket of the last sweep is, as far as that is known: of all that are shown, also those that are in no account.
    pub(crate) fn owner(&mut self, record: &SocketRecord) -> Option<OwnerId> {
        let Watched { monitor, whose, .. } = &mut self.watched;
        let known = monitor.owner(record.id.cookie).filter(|owner| *owner != OwnerId::UNKNOWN);
        known.or_else(|| whose.as_mut()?.holder(record))
    }

    /// Ticks so far.
    pub(crate) fn ticks(&self) -> u64 {
        self.ticks
    }

    /// The last moment that the monitor knows of.
    pub(crate) fn now(&self) -> Moment {
        self.watched.now
    }

    /// The wall clock's time of a moment.
    pub(crate) fn timestamp(&self, moment: Moment) -> jiff::Timestamp {
        self.clock.at(moment)
    }

    /// What to tell beside a report's own warnings, as of the last tick.
    pub(crate) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// What is known of the host beside its sockets, as of the last tick.
    pub(crate) fn surroundings(&self) -> &Surroundings {
        self.feed.surroundings()
    }

    /// Ends it: completes a capture and gives it its name.
    ///
    /// # Errors
    /// What writing the capture answers.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        if self.live.as_ref().is_some_and(|live| live.has_rest) {
            self.end_step(StepKind::Rest, self.watched.now, self.watched.now)?;
        }
        self.feed.finish()
    }

    /// One thing that happens: events, or a tick with all that belongs to it.
    fn advance(&mut self) -> anyhow::Result<Progress> {
        // Before anything new is told: what the last step brought is dated by the clock of before, live and replayed.
        let clock = self.wall_clock();
        self.clock.follow(clock);
        if self.is_over() {
            return Ok(Progress::End);
        }
        let progress = match &mut self.live {
            None => self.replay_step()?,
            Some(live) => match live.wait()? {
                Woken::Stopped => {
                    live.stopped = true;
                    let events = self.take_events()?;
                    self.take_closed()?;
                    if events == 0 { Progress::End } else { Progress::Events }
                }
                Woken::Events => {
                    self.deliver()?;
                    self.take_closed()?;
                    Progress::Events
                }
                Woken::Due => self.live_tick()?,
            },
        };
        self.ticks += u64::from(progress == Progress::Tick);
        Ok(progress)
    }

    fn is_over(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.stopped)
            || self.pace.count.is_some_and(|count| self.ticks >= count)
            || self.pace.for_.is_some_and(|long| self.now() >= self.start.plus_ms(long.as_millis() as u64))
    }

    fn live_tick(&mut self) -> anyhow::Result<Progress> {
        self.take_events()?;
        self.take_closed()?;
        let Some(live) = &mut self.live else { return Ok(Progress::End) };
        let began = live.now();
        let sweeps = live.may_sweep(began);
        let settings_too = live.rereads_settings(began);
        self.feed.reread(settings_too)?;
        if settings_too {
            self.watched.monitor.set_settings(&self.feed.surroundings().core_settings());
        }
        let kind = match sweeps {
            true => {
                self.take_sweep(began, None)?;
                self.take_closed()?;
                StepKind::Sweep
            }
            false => {
                self.swept = None;
                self.watched.find_owners(OWNERS_PER_TICK);
                self.watched.now = began;
                StepKind::Tick
            }
        };
        self.end_step(kind, began, self.watched.now)?;
        if let Some(live) = &mut self.live {
            live.ticked(sweeps);
        }
        Ok(Progress::Tick)
    }

    fn replay_step(&mut self) -> anyhow::Result<Progress> {
        if !std::mem::take(&mut self.stands_ahead) && !self.feed.next_sweep()? {
            return Ok(Progress::End);
        }
        let watched = &mut self.watched;
        self.feed.kept_events(false, |at, event| watched.event(at, &event))?;
        self.take_closed()?;
        self.watched.monitor.set_settings(&self.feed.surroundings().core_settings());
        let (began, ended) = self.feed.surroundings().moments();
        Ok(match self.feed.surroundings().step.map_or(StepKind::Sweep, |step| step.kind) {
            StepKind::Baseline | StepKind::Sweep => {
                self.take_sweep(began, Some(ended))?;
                self.take_closed()?;
                Progress::Tick
            }
            StepKind::Tick => {
                self.swept = None;
                self.watched.now = ended;
                Progress::Tick
            }
            StepKind::Rest => {
                self.watched.now = ended;
                Progress::Events
            }
        })
    }

    /// The first sweep, read twice; a replay reads what was read then.
    fn baseline(&mut self, began: Moment) -> anyhow::Result<()> {
        self.watched.begin_sweep(began);
        if self.live.is_some() {
            self.reading().read_all()?;
            self.take_events()?;
            let first = self.live.as_ref().map_or(began, Live::now);
            self.end_step(StepKind::Baseline, began, first)?;
            self.reading().read_all()?;
            self.take_events()?;
            // After the dumps: whatever is counted from here on was not there yet.
            self.feed.reread(false)?;
            self.watched.find_owners(OWNERS_AT_START);
            let ended = self.live.as_ref().map_or(first, Live::now);
            self.watched.end_sweep(ended, &self.feed.surroundings().core_counters());
            self.ask_ages(ended);
            return self.end_step(StepKind::Baseline, first, ended);
        }
        loop {
            let watched = &mut self.watched;
            self.feed.kept_events(false, |at, event| watched.event(at, &event))?;
            self.reading().read_all()?;
            let watched = &mut self.watched;
            self.feed.kept_events(true, |at, event| watched.event(at, &event))?;
            let (ended, counters) =
                (self.feed.surroundings().moments().1, self.feed.surroundings().core_counters());
            let ages = Ages::kept(&self.feed);
            self.stands_ahead = false;
            self.clock = self.wall_clock();
            self.stands_ahead = self.feed.next_sweep()?;
            let goes_on = self.feed.surroundings().step.is_some_and(|step| step.kind == StepKind::Baseline);
            if !(self.stands_ahead && goes_on) {
                self.watched.end_sweep(ended, &counters);
                ages.teach(&mut self.watched.monitor, ended);
                return Ok(());
            }
        }
    }

    /// A sweep, and whatever makes its answer certain. `recorded_end`: when it was over, in a replay.
    fn take_sweep(&mut self, began: Moment, recorded_end: Option<Moment>) -> anyhow::Result<()> {
        self.watched.begin_sweep(began);
        let records = self.reading().read_all()?;
        match recorded_end {
            None => {
                self.take_events()?;
            }
            Some(_) => {
                let watched = &mut self.watched;
                self.feed.kept_events(true, |at, event| watched.event(at, &event))?;
            }
        }
        let settled = self.reading().look_up_missing()?;
        let ended = recorded_end.or(self.live.as_ref().map(Live::now)).unwrap_or(began);
        for (cookie, found) in settled {
            self.watched.monitor.settle(cookie, found.as_ref(), ended);
        }
        self.watched.find_owners(OWNERS_PER_TICK);
        self.watched.end_sweep(ended, &self.feed.surroundings().core_counters());
        self.swept = Some(records);
        Ok(())
    }

    /// Reads the events that are there and tells the monitor. Returns how many.
    fn take_events(&mut self) -> anyhow::Result<usize> {
        if let Some(live) = &mut self.live {
            live.read_events()?;
        }
        self.deliver()
    }

    /// Tells the monitor, and the capture, of the events that were read.
    fn deliver(&mut self) -> anyhow::Result<usize> {
        let Some(live) = &mut self.live else { return Ok(0) };
        let (watched, feed) = (&mut self.watched, &mut self.feed);
        watched.expect_events();
        let mut kept = Ok(());
        let events = live.pending.drain(|at, event| {
            watched.event(at, &event);
            if kept.is_ok() {
                kept = feed.keep_event(at, &event);
            }
        });
        live.has_rest |= events > 0;
        kept?;
        Ok(events)
    }

    fn end_step(&mut self, kind: StepKind, began: Moment, ended: Moment) -> anyhow::Result<()> {
        let Some(live) = &mut self.live else { return Ok(()) };
        live.has_rest = false;
        self.feed.end_step(Step { kind, began_ms: began.0, ended_ms: ended.0, events: live.hears_events() })
    }

    /// Completes the report's warnings about sockets by what only the surroundings tell.
    fn tell_stuck(&mut self) {
        let Watched { monitor, whose, search, now, .. } = &mut self.watched;
        let bound = match self.swept {
            Some(_) => about_binding(&mut self.feed, monitor.report_mut()),
            None => Vec::new(),
        };
        tell_watched(search, monitor, whose.as_ref(), &bound, *now);
    }

    /// The first sweep is over: how long what it found has been there, one look at each has to tell.
    fn ask_ages(&mut self, at: Moment) {
        let ages = Ages::ask(&mut self.feed, self.watched.monitor.report_mut());
        ages.teach(&mut self.watched.monitor, at);
    }

    fn write_notes(&mut self) {
        self.notes.clear();
        let heard = match &self.live {
            Some(live) => live.hears_events(),
            None => self.feed.surroundings().hears_events(),
        };
        self.watched.write_notes(heard, &mut self.notes);
        self.notes.extend(unread_settings(self.feed.surroundings()));
    }

    /// By the step that has just been taken.
    fn wall_clock(&self) -> WallClock {
        let surroundings = self.feed.surroundings();
        match self.stands_ahead {
            true => self.clock,
            false => WallClock { moment: surroundings.moments().1, timestamp: surroundings.taken_at },
        }
    }
}

/// The wall clock's time of any moment: as it went when the watch began, and anew when it was set or the machine slept.
#[derive(Clone, Copy)]
struct WallClock {
    moment: Moment,
    timestamp: jiff::Timestamp,
}

impl WallClock {
    /// Differences below this are drift, and would only make one close seem older than the next.
    const SET_MS: i64 = 1_000;

    fn at(&self, moment: Moment) -> jiff::Timestamp {
        let ms = (moment.0 as i64).saturating_sub(self.moment.0 as i64);
        self.timestamp.checked_add(jiff::SignedDuration::from_millis(ms)).unwrap_or(self.timestamp)
    }

    fn follow(&mut self, now: WallClock) {
        let drift = now.timestamp.duration_since(self.at(now.moment));
        if drift.as_millis().unsigned_abs() > Self::SET_MS.unsigned_abs().into() {
            *self = now;
        }
    }
}
