//! The ticks of a recording as looks, any of them: what comes before one is read as far as a screen shows it, and no farther.
//!
//! Rows of destinations hold until the next ones of their segment, so they are folded from its beginning on. When to stand
//! where is `player`'s.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use sockeye_recording::{Browser, RecordingError, Stretch, Table, Tick, Time};

use super::chapter::{Chapter, changes, damaged, look_of};
use super::ended::{Ended, Ending, MOST_ENDED};
use super::fold::{Collected, Fold};
use super::look::{Look, Place, Remark};

/// Ticks behind the one that is looked at: as many as the widest trend has room for.
const LOOKS: usize = 240;
/// Ticks that are made ready at once when time goes on.
const CHUNK: usize = 60;
/// Looks take no more memory than that, but for the one that is looked at.
const MOST_BYTES: usize = 48 << 20;
/// Rows of destinations that are read at once, about.
const FEW_ROWS: usize = 200_000;
/// Ticks of all segments that are kept, beyond two.
const MANY_TICKS: usize = 1 << 16;
/// Destinations in all looks that are made at once, about.
const LOOKS_OF: usize = 400_000;
/// Characters of a warning: longer ones are none of ours.
const MOST_MESSAGE: usize = 4_096;
/// Ends of connections are looked at for so long before a tick.
const ENDED_MS: u64 = 60_000;

/// Which tick: its segment, and the place there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Spot {
    segment: u64,
    index: usize,
}

/// A recording whose ticks are looked at.
pub(crate) struct Reel {
    browser: Browser,
    /// Segments with their ticks, what was asked for last at the end.
    loaded: Vec<Chapter>,
    /// What holds at the last look that is made, and the tick behind it.
    fold: Fold,
    next: Spot,
    /// Looks one after another.
    made: VecDeque<(Spot, Arc<Look>)>,
    place: Arc<Place>,
}

impl Reel {
    /// Opens it. Cost: a footer for each segment, and the journal.
    ///
    /// # Errors
    /// No recording, or one of a later version.
    pub(crate) fn open(directory: &Path) -> Result<Reel, RecordingError> {
        Ok(Reel {
            browser: Browser::open(directory)?,
            loaded: Vec::new(),
            fold: Fold::default(),
            next: Spot { segment: 0, index: 0 },
            made: VecDeque::new(),
            place: Arc::default(),
        })
    }

    /// Looks what a recorder has written since, and what it has deleted.
    ///
    /// # Errors
    /// What listing directories and reading the journal answers.
    pub(crate) fn refresh(&mut self) -> Result<(), RecordingError> {
        let first = self.browser.stretches().first().map(|it| it.number);
        self.browser.refresh()?;
        let stretches = self.browser.stretches().to_vec();
        let of = |number: u64| stretches.iter().find(|it| it.number == number);
        self.loaded.retain(|loaded| of(loaded.number).is_some());
        for index in 0..self.loaded.len() {
            let loaded = &self.loaded[index];
            if of(loaded.number).is_some_and(|it| it.ticks > loaded.ticks.len() as u64) {
                self.loaded[index].read_on(&mut self.browser)?;
            }
        }
        // The numbers of all ticks are others.
        if first != stretches.first().map(|it| it.number) {
            self.made.clear();
        }
        Ok(())
    }

    /// How many ticks there are.
    pub(crate) fn count(&self) -> u64 {
        self.browser.stretches().iter().map(|it| self.ticks_of(it)).fold(0, u64::saturating_add)
    }

    /// The number of a tick, from 1.
    fn number(&self, spot: Spot) -> u64 {
        let before = self.browser.stretches().iter().take_while(|it| it.number < spot.segment);
        let before = before.map(|it| self.ticks_of(it)).fold(0, u64::saturating_add);
        before.saturating_add(spot.index as u64 + 1)
    }

    /// What was read counts for more than what a footer claims.
    fn ticks_of(&self, stretch: &Stretch) -> u64 {
        let loaded = self.loaded.iter().find(|it| it.number == stretch.number);
        loaded.map_or(stretch.ticks, |it| it.ticks.len() as u64)
    }

    /// The first tick; None where none can be read.
    pub(crate) fn first(&mut self) -> Result<Option<Spot>, RecordingError> {
        let numbers: Vec<u64> = self.browser.stretches().iter().map(|it| it.number).collect();
        for segment in numbers {
            if !self.ticks(segment)?.is_empty() {
                return Ok(Some(Spot { segment, index: 0 }));
            }
        }
        Ok(None)
    }

    /// The last tick.
    pub(crate) fn last(&mut self) -> Result<Option<Spot>, RecordingError> {
        let numbers: Vec<u64> = self.browser.stretches().iter().rev().map(|it| it.number).collect();
        for segment in numbers {
            let ticks = self.ticks(segment)?.len();
            if ticks > 0 {
                return Ok(Some(Spot { segment, index: ticks - 1 }));
            }
        }
        Ok(None)
    }

    /// The tick closest to a time.
    pub(crate) fn nearest(&mut self, at: Time) -> Result<Option<Spot>, RecordingError> {
        let stretches = self.browser.stretches();
        let first = stretches.iter().position(|it| it.span[1] >= at).unwrap_or(stretches.len());
        // It may be the last one of the segment before.
        let around: Vec<u64> =
            stretches.iter().skip(first.saturating_sub(1)).take(2).map(|it| it.number).collect();
        let mut best: Option<(u64, Spot)> = None;
        for segment in around {
            let ticks = self.ticks(segment)?;
            let next = ticks.partition_point(|tick| tick.time < at);
            for index in [next.saturating_sub(1), next] {
                let Some(tick) = ticks.get(index) else { continue };
                let apart = tick.time.0.abs_diff(at.0);
                if best.is_none_or(|(least, _)| apart < least) {
                    best = Some((apart, Spot { segment, index }));
                }
            }
        }
        match best {
            Some((_, spot)) => Ok(Some(spot)),
            None => self.last(),
        }
    }

    /// So many ticks further, or the last one there is in that direction.
    pub(crate) fn step(&mut self, from: Spot, ticks: i64) -> Result<Spot, RecordingError> {
        let mut spot = from;
        let mut left = usize::try_from(ticks.unsigned_abs()).unwrap_or(usize::MAX);
        while left > 0 {
            let last = self.ticks(spot.segment)?.len().saturating_sub(1);
            let here = if ticks > 0 { last.saturating_sub(spot.index) } else { spot.index };
            let taken = here.min(left);
            left -= taken;
            spot.index = if ticks > 0 { spot.index + taken } else { spot.index - taken };
            if left == 0 {
                break;
            }
            let Some(segment) = self.beside(spot.segment, ticks > 0)? else { break };
            left -= 1;
            spot.segment = segment;
            spot.index = if ticks > 0 { 0 } else { self.ticks(segment)?.len().saturating_sub(1) };
        }
        Ok(spot)
    }

    /// The next segment with ticks that can be read, or the one before.
    fn beside(&mut self, segment: u64, is_after: bool) -> Result<Option<u64>, RecordingError> {
        let numbers = self.browser.stretches().iter().map(|it| it.number);
        let candidates: Vec<u64> = match is_after {
            true => numbers.filter(|number| *number > segment).collect(),
            false => numbers.filter(|number| *number < segment).rev().collect(),
        };
        for number in candidates {
            if !self.ticks(number)?.is_empty() {
                return Ok(Some(number));
            }
        }
        Ok(None)
    }

    /// When a tick was, and how long its interval.
    pub(crate) fn when(&mut self, spot: Spot) -> Result<Option<(Time, u64)>, RecordingError> {
        Ok(self.ticks(spot.segment)?.get(spot.index).map(|tick| (tick.time, tick.interval_ms)))
    }

    fn ticks(&mut self, segment: u64) -> Result<&[Tick], RecordingError> {
        Ok(&self.load(segment)?.ticks)
    }

    /// What is read of a segment at once: its ticks, settings and warnings.
    fn load(&mut self, segment: u64) -> Result<&Chapter, RecordingError> {
        match self.loaded.iter().position(|it| it.number == segment) {
            Some(at) => {
                let known = self.loaded.remove(at);
                self.loaded.push(known);
            }
            None => {
                self.loaded.push(Chapter::new(segment));
                let last = self.loaded.len() - 1;
                self.loaded[last].read_on(&mut self.browser)?;
                let mut ticks: usize = self.loaded.iter().map(|it| it.ticks.len()).sum();
                while self.loaded.len() > 2 && ticks > MANY_TICKS {
                    ticks -= self.loaded.remove(0).ticks.len();
                }
            }
        }
        let last = self.loaded.len() - 1;
        Ok(&self.loaded[last])
    }

    /// The look of a tick, last, and those before it. `ended` goes with it.
    ///
    /// # Errors
    /// What reading a journal answers; damaged files are noted.
    pub(crate) fn looks(
        &mut self,
        spot: Spot,
        ended: Option<&Ended>,
    ) -> Result<VecDeque<Arc<Look>>, RecordingError> {
        self.make(spot)?;
        let until = self.made.iter().take_while(|(at, _)| *at <= spot);
        let mut looks: VecDeque<Arc<Look>> = until.map(|(_, look)| Arc::clone(look)).collect();
        if let (Some(ended), Some(look)) = (ended, looks.back_mut()) {
            ended.tell(Arc::make_mut(look));
        }
        Ok(looks)
    }

    /// Sees to it that this look is made, with some before it.
    fn make(&mut self, spot: Spot) -> Result<(), RecordingError> {
        let front = self.made.front().map(|(at, _)| *at);
        let back = self.made.back().map(|(at, _)| *at);
        let is_ahead = back.is_some_and(|back| {
            spot > back && self.number(spot).saturating_sub(self.number(back)) <= LOOKS as u64 / 2
        });
        let place = self.made.partition_point(|(at, _)| *at < spot);
        let is_made = self.made.get(place).is_some_and(|(at, _)| *at == spot);
        // Where half of what was made is behind it, or there is no more.
        let is_behind_enough = place >= (self.made.len() / 2).min(LOOKS / 2)
            || match front {
                Some(Spot { segment, index: 0 }) => self.beside(segment, false)?.is_none(),
                _ => false,
            };
        if !(is_ahead || is_made && is_behind_enough) {
            let from = self.step(spot, -(LOOKS as i64))?;
            self.made.clear();
            (self.fold, self.next) = (Fold::default(), Spot { index: 0, ..from });
            self.wind_on(from)?;
            // Where there are very many destinations, fewer looks are made of them.
            let near = (LOOKS_OF / self.fold.len().max(1)).max(CHUNK);
            if near < LOOKS {
                let from = self.step(spot, -(near as i64))?;
                self.wind_on(from)?;
            }
        }
        while self.made.back().is_none_or(|(at, _)| *at < spot) {
            if !self.go_on(spot)? {
                break;
            }
        }
        Ok(())
    }

    /// What holds before this tick, without looks of those in between.
    fn wind_on(&mut self, spot: Spot) -> Result<(), RecordingError> {
        if self.next.segment != spot.segment {
            (self.fold, self.next) = (Fold::default(), Spot { index: 0, ..spot });
        }
        if let (Some((from, _)), Some((until, _))) = (self.when(self.next)?, self.when(spot)?) {
            // What is damaged is told with the looks that come then.
            self.browser.read(spot.segment, &[Table::Destinations], [from, until], &mut self.fold)?;
        }
        self.next = spot;
        Ok(())
    }

    /// Makes the next looks, until this one and some more. Whether there were any.
    fn go_on(&mut self, until: Spot) -> Result<bool, RecordingError> {
        let next = self.next;
        let count = self.ticks(next.segment)?.len();
        if next.index >= count {
            let Some(segment) = self.beside(next.segment, true)? else { return Ok(false) };
            (self.fold, self.next) = (Fold::default(), Spot { segment, index: 0 });
            return Ok(true);
        }
        let wanted =
            if until.segment == next.segment { until.index.saturating_sub(next.index) } else { count };
        let fit = (FEW_ROWS / self.fold.len().max(200)).max(1);
        let end = next.index + wanted.saturating_add(CHUNK).min(fit).min(count - next.index);
        let ticks = self.ticks(next.segment)?;
        let after = match next.index {
            0 => Time(0),
            index => Time(ticks[index - 1].time.0 + 1),
        };
        let period = [after, Time(ticks[end - 1].time.0 + 1)];
        let mut rows = Collected::default();
        let reading = self.browser.read(next.segment, &[Table::Destinations], period, &mut rows)?;
        rows.0.sort_by_key(|row| row.time);
        let loaded = self.loaded.iter_mut().find(|it| it.number == next.segment);
        if let Some(loaded) = loaded {
            loaded.note(&reading);
        }
        let mut rows = rows.0.iter().peekable();
        for index in next.index..end {
            let spot = Spot { index, ..next };
            let Some((at, _)) = self.when(spot)? else { break };
            while let Some(row) = rows.next_if(|row| row.time <= at) {
                self.fold.take(row);
            }
            self.next.index = index + 1;
            let look = self.look(spot)?;
            self.made.extend(look.map(|look| (spot, Arc::new(look))));
        }
        self.forget(until);
        Ok(true)
    }

    /// The oldest looks give way.
    fn forget(&mut self, until: Spot) {
        let mut bytes: usize = self.made.iter().map(|(_, look)| look.bytes()).sum();
        while self.made.len() > LOOKS + CHUNK || bytes > MOST_BYTES {
            match self.made.front() {
                Some((at, look)) if *at < until => bytes -= look.bytes(),
                _ => break,
            }
            self.made.pop_front();
        }
    }

    fn look(&mut self, spot: Spot) -> Result<Option<Look>, RecordingError> {
        let number = self.number(spot);
        let before = match spot.index {
            0 => self.beside(spot.segment, false)?,
            _ => Some(spot.segment),
        };
        let is_new = self.load(spot.segment)?.is_new_at(spot.index);
        // What was told shortly before a segment began holds in it, too.
        let told_before = if is_new { self.beside(spot.segment, false)? } else { None };
        let known = |segment: Option<u64>| self.loaded.iter().find(|it| Some(it.number) == segment);
        let Some(loaded) = known(Some(spot.segment)) else { return Ok(None) };
        let Some(tick) = loaded.ticks.get(spot.index) else { return Ok(None) };
        let mut look = look_of(tick, number);
        let mut warned = loaded.warned(tick);
        for warning in known(told_before).map(|it| it.warned(tick)).unwrap_or_default() {
            if warned.iter().all(|known| known.id != warning.id) {
                warned.push(warning);
            }
        }
        let warned = warned.into_iter().map(|it| Remark {
            id: it.id.to_string().into(),
            text: it.message.chars().take(MOST_MESSAGE).collect(),
        });
        look.remarks = warned.collect();
        let before = known(before).and_then(|it| match spot.index {
            0 => it.ticks.last(),
            index => it.ticks.get(index - 1),
        });
        look.remarks.extend(before.into_iter().flat_map(|before| changes(before, tick)));
        look.remarks.extend(loaded.damage.iter().cloned());
        look.remarks.extend(self.damage());
        self.fold.tell(&loaded.ticks[..=spot.index], &mut look);
        let place = loaded.place(tick);
        if place != *self.place {
            self.place = Arc::new(place);
        }
        look.place = Arc::clone(&self.place);
        Ok(Some(look))
    }

    /// Of the recording as a whole.
    fn damage(&self) -> Vec<Remark> {
        let (unread, frames) = self.browser.unread();
        let mut remarks: Vec<Remark> = unread.iter().map(|it| damaged(&it.file, &it.why)).collect();
        if frames > 0 {
            let text = format!("{frames} ticks of a journal are damaged and left out");
            remarks.push(Remark { id: "recording_damaged".into(), text });
        }
        remarks
    }

    /// The connections that ended in the minute before a tick, or within as much of it as had so many.
    ///
    /// # Errors
    /// What reading a journal answers.
    pub(crate) fn ended(&mut self, spot: Spot) -> Result<Option<Ended>, RecordingError> {
        let Some((end, _)) = self.when(spot)? else { return Ok(None) };
        let netns = self.ticks(spot.segment)?.get(spot.index).map_or(0, |tick| tick.netns);
        let (mut begin, mut at, mut closes) = (end, spot, 0_u64);
        let mut segments = BTreeSet::new();
        // Ticks tell how many there are.
        while let Some(tick) = self.ticks(at.segment)?.get(at.index) {
            let from = Time(tick.time.0.saturating_sub(tick.interval_ms)).min(begin);
            closes = closes.saturating_add(tick.closes);
            // Ticks are a little late, now and then: a minute of them is a minute.
            let is_long = end.0.abs_diff(from.0) > ENDED_MS + tick.interval_ms.min(ENDED_MS) / 2;
            let is_too_much = is_long || closes > MOST_ENDED;
            if at != spot && (is_too_much || tick.netns != netns) {
                break;
            }
            begin = from;
            segments.insert(at.segment);
            let before = self.step(at, -1)?;
            if before == at {
                break;
            }
            at = before;
        }
        let mut ending = Ending::of(netns);
        for segment in segments {
            // Both bounds are ticks: what ended at the first one was of the tick before.
            let period = [Time(begin.0 + 1), Time(end.0 + 1)];
            self.browser.read(segment, &[Table::Connections], period, &mut ending)?;
        }
        Ok(Some(ending.of_period([begin, end])))
    }
}
