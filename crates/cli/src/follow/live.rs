//! The live side of a watch: its clock, the wait for events, signals and ticks, and whether a sweep is due.

use std::io::{self, Read as _, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sock_diag::{DestroyEvents, DiagMsg, Event, Protocol, RecvBuffer};
use sockeye_core::{Moment, When};
use sockeye_host::RunDelay;

use super::Pace;
use super::budget::{Budget, processor_ms};
use crate::feed::Feed;
use crate::stop::Stop;

/// Room for destroy events, where it is granted: some 50,000 of them. Others get what `net.core.rmem_max` allows.
pub(crate) const EVENT_BUFFER_BYTES: usize = 64 << 20;
/// While a dump goes on, events are read after so many records, a millisecond or less: their time is known that well,
/// and a small receive buffer does not run over.
const RECORDS_BETWEEN_EVENTS: u32 = 1024;
/// Settings may be changed while we look; reading them takes a tenth of a millisecond.
const SETTINGS_EVERY_MS: u64 = 1_000;
/// Moments are counted from a day before the start, so that there is room for what happened before.
const ORIGIN_MS: u64 = 86_400_000;

/// Where cost counts, events are left to gather for so long: a wake-up costs more than an event. Their time is known that
/// much less well.
pub(crate) const REST_MS: u64 = 10;
/// Unless so many came at once: the smallest receive buffer holds 166.
const MANY_EVENTS: usize = 32;
/// A read that brings this many events may have left some.
pub(crate) const FEWER_THAN_A_BATCH: usize = 4_000;

/// What ended a wait.
pub(super) enum Woken {
    /// A tick is due.
    Due,
    /// Events were read and are pending.
    Events,
    /// Someone wishes the end.
    Stopped,
}

/// What a watch of the live kernel has beside its feed.
pub(super) struct Live {
    started: Instant,
    events: Option<DestroyEvents>,
    buffer: RecvBuffer,
    pub(super) pending: Pending,
    records_until_events: u32,
    /// None where the kernel does not tell.
    run_delay: Option<RunDelay>,
    stop: Stop,
    /// Readable when someone wants a tick now.
    pub(super) calls: Option<UnixStream>,
    /// Someone has wished the end.
    pub(super) stopped: bool,
    pub(super) budget: Option<Budget>,
    pub(super) interval_ms: u64,
    /// Ticks are due at whole intervals from here.
    start: Moment,
    due: Moment,
    end: Option<Moment>,
    settings_read: Moment,
    /// Until then events gather.
    rests_until: Moment,
    /// Events that are read now came later than this: the queue was seen empty, or woke us.
    heard: Moment,
    /// There were events since the last step's end.
    pub(super) has_rest: bool,
}

impl Live {
    /// Subscribes to destroy events, which must come before the first dump.
    pub(super) fn open(feed: &Feed, pace: &Pace) -> anyhow::Result<Live> {
        let stop = Stop::listen().context("listening to SIGINT and SIGTERM")?;
        let events = match feed.destroy_events(EVENT_BUFFER_BYTES) {
            Some(Ok(events)) => Some(events),
            Some(Err(error)) => {
                // Why is for whoever can change it; that there are none is told with every tick.
                let _ = writeln!(io::stderr(), "sockeye: going on without destroy events: {error}");
                None
            }
            None => None,
        };
        Ok(Live {
            started: Instant::now(),
            events,
            buffer: RecvBuffer::new(),
            pending: Pending::default(),
            records_until_events: RECORDS_BETWEEN_EVENTS,
            run_delay: RunDelay::open().ok(),
            stop,
            calls: None,
            stopped: false,
            // What a sweep costs is known after the first.
            budget: None,
            interval_ms: (pace.interval.as_millis() as u64).max(1),
            start: Moment(ORIGIN_MS),
            due: Moment(ORIGIN_MS),
            end: None,
            settings_read: Moment(ORIGIN_MS),
            rests_until: Moment(ORIGIN_MS),
            heard: Moment(ORIGIN_MS),
            has_rest: false,
        })
    }

    /// The first sweep, of two readings, is done.
    pub(super) fn begin(&mut self, start: Moment, pace: &Pace) {
        self.start = start;
        self.end = pace.for_.map(|long| start.plus_ms(long.as_millis() as u64));
        self.budget = pace.cpu_budget.map(|share| {
            let spent = processor_ms();
            Budget::new(share, start, spent, spent / 2.0)
        });
        self.schedule(start);
    }

    pub(super) fn now(&self) -> Moment {
        moment_after(self.started)
    }

    pub(super) fn hears_events(&self) -> bool {
        self.events.is_some()
    }

    /// Waits for the next tick, events or a signal, whatever comes first.
    pub(super) fn wait(&mut self) -> anyhow::Result<Woken> {
        loop {
            if self.stop.is_wished() {
                return Ok(Woken::Stopped);
            }
            let now = self.now();
            let left = self.due.ms_since(now);
            if left == 0 {
                return Ok(Woken::Due);
            }
            let rest = self.rests_until.ms_since(now);
            // What gathered while we were busy is read first: only an empty queue wakes us in time.
            if rest == 0 && self.heard < now && self.read_events()? > 0 {
                return Ok(Woken::Events);
            }
            let mut watched = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
            if rest == 0 {
                let events = self.events.as_ref();
                watched.extend(events.map(|events| PollFd::new(events.as_fd(), PollFlags::POLLIN)));
            }
            watched.extend(self.calls.as_ref().map(|calls| PollFd::new(calls.as_fd(), PollFlags::POLLIN)));
            let delayed_before = self.run_delay_ms();
            let timeout = if rest == 0 { left } else { left.min(rest) };
            let timeout = u32::try_from(timeout).ok().and_then(|ms| PollTimeout::try_from(ms).ok());
            match poll(&mut watched, timeout.unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("waiting for destroy events"),
            }
            if self.calls.as_mut().is_some_and(was_called) {
                return Ok(Woken::Due);
            }
            if rest > 0 {
                continue;
            }
            // The queue was empty when the wait began, and woke us; on a busy machine some time before we ran.
            let delayed_ms = self.run_delay_ms().saturating_sub(delayed_before);
            self.heard = self.now().minus_ms(delayed_ms).max(now);
            let read = self.read_events()?;
            if self.budget.is_some() && read <= MANY_EVENTS {
                self.rests_until = self.now().plus_ms(REST_MS);
            }
            if read > 0 {
                return Ok(Woken::Events);
            }
        }
    }

    /// Time this thread has waited for a processor so far, milliseconds, rounded up.
    fn run_delay_ms(&self) -> u64 {
        let total = self.run_delay.as_ref().and_then(RunDelay::total);
        total.map_or(0, |total| total.as_nanos().div_ceil(1_000_000) as u64)
    }

    /// Reads what events are there, without waiting; they are pending then.
    pub(super) fn read_events(&mut self) -> anyhow::Result<usize> {
        let Some(events) = &mut self.events else { return Ok(0) };
        let (pending, started) = (&mut self.pending, self.started);
        let before = pending.len();
        let (asked, heard) = (moment_after(started), self.heard);
        let read = events.read(Some(Duration::ZERO), &mut self.buffer, |event| {
            pending.push(When::between(heard, moment_after(started)), &event);
        });
        if let Err(error) = read {
            // From here on there are none; whoever counts must know.
            let _ = writeln!(io::stderr(), "sockeye: going on without destroy events: {error}");
            pending.push(When::at(moment_after(started)), &Event::Lost(None));
            self.events = None;
        }
        let read = self.pending.len() - before;
        // A read that took what there was has seen the queue empty.
        if read < FEWER_THAN_A_BATCH {
            self.heard = self.heard.max(asked);
        }
        Ok(read)
    }

    /// Between two records of a dump: reads events now and then.
    #[inline]
    pub(super) fn between_records(&mut self) {
        self.records_until_events -= 1;
        if self.records_until_events == 0 {
            self.records_until_events = RECORDS_BETWEEN_EVENTS;
            if !self.pending.is_full() {
                // It always succeeds: a failure is a loss, and pending.
                let _ = self.read_events();
            }
        }
    }

    /// Whether our own cost allows a sweep at this tick.
    pub(super) fn may_sweep(&mut self, now: Moment) -> bool {
        self.budget.as_mut().is_none_or(|budget| budget.allows_sweep(now, processor_ms()))
    }

    /// Whether the settings should be read again; then it counts as done.
    pub(super) fn rereads_settings(&mut self, now: Moment) -> bool {
        let due = now.ms_since(self.settings_read) >= SETTINGS_EVERY_MS;
        if due {
            self.settings_read = now;
        }
        due
    }

    /// A tick is done: the next is due at the next whole interval; those that were missed are left out.
    pub(super) fn ticked(&mut self, swept: bool) {
        let now = self.now();
        if let Some(budget) = self.budget.as_mut().filter(|_| swept) {
            budget.swept(now, processor_ms());
        }
        self.schedule(now);
    }

    fn schedule(&mut self, now: Moment) {
        self.due = next_due(self.start, self.interval_ms, self.end, now);
    }
}

/// The next whole interval from `start` after `now`, or the end if that comes first.
pub(crate) fn next_due(start: Moment, interval_ms: u64, end: Option<Moment>, now: Moment) -> Moment {
    let gone = now.ms_since(start) / interval_ms;
    let due = start.plus_ms((gone + 1).saturating_mul(interval_ms));
    end.filter(|end| *end > now).map_or(due, |end| end.min(due))
}

/// Whether there was a call; all of them are one.
fn was_called(calls: &mut UnixStream) -> bool {
    matches!(calls.read(&mut [0; 64]), Ok(1..))
}

/// As a clock tells it that began then.
pub(crate) fn moment_after(started: Instant) -> Moment {
    Moment(ORIGIN_MS + started.elapsed().as_millis() as u64)
}

/// Events that were read while a dump went on, with their time.
#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    events: Vec<(When, Kept)>,
}

enum Kept {
    /// Its bytes end here, and begin where the last one's end.
    Destroyed(usize),
    Lost(Option<u32>),
}

impl Pending {
    /// Beyond so many bytes the receive buffer has to hold them.
    const MOST_BYTES: usize = 16 << 20;

    fn push(&mut self, at: When, event: &Event<'_>) {
        let kept = match event {
            Event::Destroyed(diag) => {
                diag.parts().iter().for_each(|part| self.bytes.extend_from_slice(part));
                Kept::Destroyed(self.bytes.len())
            }
            Event::Lost(lost) => Kept::Lost(*lost),
        };
        self.events.push((at, kept));
    }

    fn len(&self) -> usize {
        self.events.len()
    }

    fn is_full(&self) -> bool {
        self.bytes.len() >= Self::MOST_BYTES
    }

    /// Hands all of them on, in the order they came, and forgets them. Returns how many.
    pub(super) fn drain(&mut self, mut each: impl FnMut(When, Event<'_>)) -> usize {
        let count = self.events.len();
        let mut start = 0;
        for (at, kept) in self.events.drain(..) {
            match kept {
                Kept::Lost(lost) => each(at, Event::Lost(lost)),
                Kept::Destroyed(end) => {
                    // Events carry their protocol as an attribute.
                    let diag = self.bytes.get(start..end).and_then(|b| DiagMsg::parse(b, Protocol::Tcp));
                    start = end;
                    if let Some(diag) = diag {
                        each(at, Event::Destroyed(diag));
                    }
                }
            }
        }
        self.bytes.clear();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_to_their_schedule() {
        let next = |end: Option<u64>, now| next_due(Moment(7), 100, end.map(Moment), Moment(now)).0;
        assert_eq!(next(None, 7), 107);
        assert_eq!(next(None, 106), 107, "a tick is never early, but should the clock say so it comes again");
        assert_eq!(next(None, 107), 207);
        assert_eq!(next(None, 131), 207, "late, and no drift");
        assert_eq!(next(None, 431), 507, "those that were missed are left out");
        assert_eq!((next(Some(250), 107), next(Some(250), 207)), (207, 250), "the last tick is at the end");
        assert_eq!(next(Some(207), 107), 207);
    }

    #[test]
    fn pending_events_come_in_order_and_once() {
        let mut pending = Pending::default();
        let mut record = sock_diag::fake::tcp_record(
            sock_diag::SocketState::Close,
            ([127, 0, 0, 1], 1).into(),
            ([127, 0, 0, 1], 2).into(),
        );
        for number in 0..5 {
            record.id.cookie = sock_diag::Cookie(number);
            let bytes = sock_diag::fake::record_bytes(&record);
            let diag = DiagMsg::parse(&bytes, Protocol::Tcp).unwrap();
            pending.push(When::at(Moment(number)), &Event::Destroyed(diag));
            pending.push(When::at(Moment(number)), &Event::Lost(Some(number as u32)));
        }
        let mut told = Vec::new();
        let count = pending.drain(|at, event| {
            told.push(match event {
                Event::Destroyed(diag) => (at.latest.0, diag.to_record().id.cookie.0),
                Event::Lost(lost) => (at.latest.0, u64::from(lost.unwrap())),
            });
        });
        assert_eq!(told, (0..5).flat_map(|number| [(number, number); 2]).collect::<Vec<_>>());
        assert_eq!((count, pending.drain(|_, _| panic!("told twice"))), (10, 0));
    }
}
