//! The thread that goes through a recording: it stands at a tick, moves as it is told, and plays.

use std::path::Path;
use std::time::{Duration, Instant as Clock};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sockeye_recording::{RecordingError, Time};

use super::ended::Ended;
use super::past::{Past, State};
use super::reel::{Reel, Spot};
use super::wanted::{Move, Next, Wanted, Wants};
use crate::instant::Instant;
use crate::render::report_view::minute;

/// How often it is looked for new ticks, while it plays at the end.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// While it plays, connections that ended are read for at most one part in so many of the time.
const PART: u32 = 4;
/// Whoever is so late is not hurried after.
const LATE: Duration = Duration::from_secs(1);

/// Goes through it until the end is wished; an error is left in the past.
pub(crate) fn play(directory: &Path, begin: Option<Instant>, wanted: &Wanted, past: &Past) {
    let played = open(directory, begin, past).and_then(|player| player.play(wanted, past));
    if let Err(error) = played {
        past.set_state(State::Failed(format!("{error:#}")));
    }
}

struct Player {
    reel: Reel,
    spot: Spot,
    /// Of which tick, and how long it took to read.
    ended: Option<(Spot, Ended)>,
    read: Option<(Clock, Duration)>,
}

fn open(directory: &Path, begin: Option<Instant>, past: &Past) -> anyhow::Result<Player> {
    let mut reel = Reel::open(directory)?;
    let Some(mut spot) = reel.first().context("reading the recording")? else {
        bail!("there is no tick in {} that can be read", directory.display());
    };
    if let Some(begin) = begin {
        spot = to(&mut reel, spot, begin.resolve(Timestamp::now()), past)?;
    }
    Ok(Player { reel, spot, ended: None, read: None })
}

/// The tick closest to a time; whether there was anything then is said.
fn to(reel: &mut Reel, spot: Spot, at: Timestamp, past: &Past) -> Result<Spot, RecordingError> {
    let at = Time(u64::try_from(at.as_millisecond()).unwrap_or(0));
    let bounds = [reel.first()?, reel.last()?];
    if let [Some(first), Some(last)] = bounds
        && let (Some((first, _)), Some((last, _))) = (reel.when(first)?, reel.when(last)?)
        && (at.0 + 1_000 < first.0 || at.0 > last.0 + 1_000)
    {
        let [first, last] = [first, last].map(|at| minute(sockeye_core::Moment(at.0)));
        past.answer(format!("nothing was recorded then: what is recorded is from {first} to {last} UTC"));
    }
    Ok(reel.nearest(at)?.unwrap_or(spot))
}

impl Player {
    fn play(mut self, wanted: &Wanted, past: &Past) -> anyhow::Result<()> {
        let mut wants = wanted.now();
        let mut due = None;
        while !wants.ends {
            self.show(&wants, past)?;
            if due.is_none() && !wants.paused {
                due = Some(Clock::now() + self.wait(&wants)?);
            }
            let mut next = self.read_ended(&wants, wanted, due, past)?;
            // What was typed faster than it is drawn is drawn once.
            while let Next::Move(to) = next {
                self.go(to, past)?;
                due = None;
                next = wanted.next(&wants, Some(Clock::now()));
                if next == Next::Due {
                    break;
                }
            }
            match next {
                Next::Wants => {
                    let now = wanted.now();
                    if (now.paused, now.speed) != (wants.paused, wants.speed) {
                        due = None;
                    }
                    wants = now;
                }
                Next::Due if !wants.paused && due.is_some_and(|due| due <= Clock::now()) => {
                    let was = due.unwrap_or_else(Clock::now);
                    self.go_on()?;
                    let wait = self.wait(&wants)?;
                    due = Some((was + wait).max(Clock::now().checked_sub(LATE).unwrap_or(was)));
                }
                Next::Due | Next::Move(_) => {}
            }
        }
        Ok(())
    }

    /// Shows the tick, with what is known of connections that ended.
    fn show(&mut self, wants: &Wants, past: &Past) -> Result<(), RecordingError> {
        let is_wanted = |(spot, _): &&(Spot, Ended)| *spot == self.spot || !wants.paused;
        let ended = self.ended.as_ref().filter(is_wanted).map(|(_, ended)| ended);
        let looks = self.reel.looks(self.spot, ended)?;
        past.show(looks, self.reel.count());
        Ok(())
    }

    /// Reads the connections that ended, where somebody looks at them and nothing else is to be done, and waits for that.
    fn read_ended(
        &mut self,
        wants: &Wants,
        wanted: &Wanted,
        due: Option<Clock>,
        past: &Past,
    ) -> Result<Next, RecordingError> {
        let is_read = self.ended.as_ref().is_some_and(|(spot, _)| *spot == self.spot);
        let is_time =
            self.read.is_none_or(|(at, took)| wants.paused || at.elapsed() >= took.saturating_mul(PART));
        if (wants.lifetimes || wants.owners) && !is_read && is_time {
            match wanted.next(wants, Some(Clock::now())) {
                Next::Due => {}
                other => return Ok(other),
            }
            let began = Clock::now();
            self.ended = self.reel.ended(self.spot)?.map(|ended| (self.spot, ended));
            self.read = Some((Clock::now(), began.elapsed()));
            self.show(wants, past)?;
        }
        Ok(wanted.next(wants, due))
    }

    /// Until the next tick, as it plays.
    fn wait(&mut self, wants: &Wants) -> Result<Duration, RecordingError> {
        let next = self.reel.step(self.spot, 1)?;
        if next == self.spot {
            return Ok(LOOK_AGAIN);
        }
        let (Some((from, _)), Some((to, interval_ms))) = (self.reel.when(self.spot)?, self.reel.when(next)?)
        else {
            return Ok(LOOK_AGAIN);
        };
        // Nobody wants to look at a gap.
        let ms = to.0.saturating_sub(from.0).min(interval_ms.saturating_add(1_000));
        let seconds = ms as f64 / 1e3 / wants.speed.max(0.001);
        Ok(Duration::try_from_secs_f64(seconds).unwrap_or(LOOK_AGAIN))
    }

    fn is_last(&mut self, spot: Spot) -> Result<bool, RecordingError> {
        Ok(self.reel.step(spot, 1)? == spot)
    }

    fn go_on(&mut self) -> Result<(), RecordingError> {
        if self.is_last(self.spot)? {
            self.look_again()?;
        }
        self.spot = self.reel.step(self.spot, 1)?;
        Ok(())
    }

    /// What was recorded meanwhile. A segment that is gone is followed by the first there is.
    fn look_again(&mut self) -> Result<(), RecordingError> {
        self.reel.refresh()?;
        if self.reel.when(self.spot)?.is_none() {
            self.spot = self.reel.first()?.unwrap_or(self.spot);
        }
        Ok(())
    }

    fn go(&mut self, to_where: Move, past: &Past) -> Result<(), RecordingError> {
        if self.reel.when(self.spot)?.is_none() {
            // Its time was over.
            self.look_again()?;
        }
        let Some((now, _)) = self.reel.when(self.spot)? else { return Ok(()) };
        self.spot = match to_where {
            Move::Ticks(ticks) => {
                let spot = self.reel.step(self.spot, ticks)?;
                if ticks > 0 && self.is_last(spot)? {
                    self.look_again()?;
                }
                self.reel.step(self.spot, ticks)?
            }
            Move::Seconds(seconds) => {
                let at = Time(now.0.saturating_add_signed(seconds.saturating_mul(1_000)));
                if let Some(spot) = self.reel.nearest(at)?
                    && self.is_last(spot)?
                {
                    self.look_again()?;
                }
                match self.reel.nearest(at)? {
                    // The next tick is farther than that.
                    Some(spot) if spot == self.spot => self.reel.step(self.spot, seconds.signum())?,
                    spot => spot.unwrap_or(self.spot),
                }
            }
            Move::First => self.reel.first()?.unwrap_or(self.spot),
            Move::Last => {
                self.look_again()?;
                self.reel.last()?.unwrap_or(self.spot)
            }
            Move::To(instant) => {
                self.look_again()?;
                let at = match instant {
                    // Of the day that is looked at.
                    Instant::TimeOfDay(time) => on_the_day_of(now, time),
                    instant => Some(instant.resolve(Timestamp::now())),
                };
                to(&mut self.reel, self.spot, at.unwrap_or_default(), past)?
            }
        };
        Ok(())
    }
}

fn on_the_day_of(day: Time, time: jiff::civil::Time) -> Option<Timestamp> {
    let day = Timestamp::from_millisecond(i64::try_from(day.0).ok()?).ok()?;
    let date = TimeZone::UTC.to_datetime(day).date();
    TimeZone::UTC.to_timestamp(date.to_datetime(time)).ok()
}
