//! The ticks of one segment of a recording, and what is told of them in words: a chapter that is read at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use sockeye_core::{Churn, Flow, Moment, PortRange, Traffic};
use sockeye_recording::{
    Browser, Connection, Destination, Reading, RecordingError, Setting, Sink, Table, Tick, Time, Warning,
};

use super::look::{Cost, Look, Place, PoolNumbers, Recorded, Remark};
use crate::follow::SweepCost;
use crate::history::reading::{LATE_MS, MOST, share};
use crate::render::report_view::length;

/// Ticks of one segment: an hour of those of 10 ms.
const MOST_TICKS: usize = 1 << 19;
/// Settings and warnings of one segment.
const MOST_WORDS: usize = 1 << 14;
/// A warning that holds is written once a minute.
const TOLD_MS: u64 = 61_000;

/// The ticks of one segment, and what is told of them in words.
pub(super) struct Chapter {
    pub(super) number: u64,
    /// In the order of their times.
    pub(super) ticks: Vec<Tick>,
    settings: Vec<Setting>,
    warnings: Vec<Warning>,
    /// Files of it that cannot be read.
    pub(super) damage: Vec<Remark>,
}

impl Chapter {
    /// Nothing of it is read yet.
    pub(super) const fn new(number: u64) -> Chapter {
        Chapter { number, ticks: Vec::new(), settings: Vec::new(), warnings: Vec::new(), damage: Vec::new() }
    }

    /// Reads what comes behind the ticks that are known.
    ///
    /// # Errors
    /// What reading a journal answers.
    pub(super) fn read_on(&mut self, browser: &mut Browser) -> Result<(), RecordingError> {
        let begin = Time(self.ticks.last().map_or(0, |last| last.time.0 + 1));
        // They come again, all of them.
        self.settings.clear();
        let tables = [Table::Settings, Table::Ticks, Table::Warnings];
        let reading = browser.read(self.number, &tables, [begin, Time(u64::MAX)], self)?;
        self.note(&reading);
        // By their times, whatever the clock did.
        self.ticks.sort_by_key(|tick| tick.time);
        self.warnings.sort_by_key(|warning| warning.time);
        self.settings.sort_by_key(|setting| setting.time);
        Ok(())
    }

    /// What of its files cannot be read, each once.
    pub(super) fn note(&mut self, reading: &Reading) {
        for remark in reading.unread.iter().map(|it| damaged(&it.file, &it.why)) {
            if !self.damage.contains(&remark) {
                self.damage.push(remark);
            }
        }
    }

    /// Whether the segment had just begun then.
    pub(super) fn is_new_at(&self, index: usize) -> bool {
        let times = self.ticks.first().zip(self.ticks.get(index));
        times.is_some_and(|(first, tick)| tick.time.0 - first.time.0 < TOLD_MS)
    }

    /// The warnings that were told within the last minute, the last of each kind.
    pub(super) fn warned(&self, tick: &Tick) -> Vec<&Warning> {
        let end = self.warnings.partition_point(|it| it.time <= tick.time);
        let since = tick.time.0.saturating_sub(TOLD_MS.max(tick.interval_ms));
        let mut told: Vec<&Warning> = Vec::new();
        for warning in self.warnings[..end].iter().rev().take_while(|it| it.time.0 > since) {
            if warning.netns == tick.netns && told.iter().all(|known| known.id != warning.id) {
                told.push(warning);
            }
        }
        told.reverse();
        told
    }

    /// Where a tick was seen, as far as settings tell.
    pub(super) fn place(&self, tick: &Tick) -> Place {
        let known = |key: &str| {
            let until = self.settings.partition_point(|it| it.time <= tick.time);
            let its = self.settings[..until].iter().rev().filter(|it| it.netns == tick.netns);
            its.into_iter().find(|it| &*it.key == key).and_then(|it| it.value.as_deref()).map(str::to_owned)
        };
        Place {
            host_name: known("host_name").unwrap_or_default(),
            kernel_release: known("kernel_release").unwrap_or_default(),
            namespace: known("netns_name").unwrap_or_else(|| tick.netns.to_string()),
            inode: Some(tick.netns),
            is_replay: true,
            interfaces: BTreeMap::new(),
        }
    }
}

impl Sink for Chapter {
    fn settings(&mut self, rows: &[Setting]) {
        let room = MOST_WORDS.saturating_sub(self.settings.len());
        self.settings.extend(rows.iter().take(room).cloned());
    }

    fn ticks(&mut self, rows: &[Tick]) {
        let room = MOST_TICKS.saturating_sub(self.ticks.len());
        self.ticks.extend(rows.iter().take(room).cloned());
    }

    fn destinations(&mut self, _: &[Destination]) {}

    fn warnings(&mut self, rows: &[Warning]) {
        let room = MOST_WORDS.saturating_sub(self.warnings.len());
        self.warnings.extend(rows.iter().take(room).cloned());
    }

    fn connections(&mut self, _: &[Connection]) {}
}

/// What a tick itself tells.
pub(super) fn look_of(tick: &Tick, number: u64) -> Look {
    let at = Moment(tick.time.0);
    let tcp = Flow {
        at_start: tick.live.min(MOST),
        opened_last: tick.opens.min(MOST),
        closed_last: tick.closes.min(MOST),
        ..Flow::default()
    };
    let interval_ms = tick.interval_ms.min(MOST);
    let sweep = tick.sockets.zip(tick.sweep_ms.filter(|ms| ms.is_finite()));
    let sweep = sweep.map(|(records, duration_ms)| SweepCost { duration_ms, records });
    Look {
        number,
        place: Arc::default(),
        at: timestamp(tick.time),
        churn: Churn { since: at, at, interval_ms, swept_at: at, tcp, ..Churn::default() },
        pool: PoolNumbers {
            range: PortRange { first: tick.pool_first, last: tick.pool_last },
            reserved: tick.pool_reserved,
            held: tick.pool_held,
            explicit: 0,
            usable: tick.pool_usable,
            udp_in_use: 0,
            udp_usable: 0,
        },
        time_wait: tick.time_wait,
        outgoing: Traffic::default(),
        incoming: Traffic::default(),
        destinations: Vec::new(),
        users: Vec::new(),
        left_out: (0, Traffic::default()),
        listeners: Vec::new(),
        remarks: Vec::new(),
        cost: Cost { sweep, ..Cost::default() },
        owners: None,
        origins: Vec::new(),
        fleet: None,
        lifetimes: None,
        ports: None,
        list: None,
        detail: None,
        recorded: Some(Recorded {
            exhausted_in_s: tick.exhausted_in_seconds.filter(|seconds| *seconds >= 0.0),
            coverage: share(tick.coverage_ratio),
            events_lost: tick.events_lost.min(MOST),
            ended: None,
        }),
    }
}

/// What is to be noted between two ticks.
pub(super) fn changes(before: &Tick, tick: &Tick) -> Vec<Remark> {
    let mut remarks = Vec::new();
    let since = tick.time.0.saturating_sub(before.time.0);
    if since > tick.interval_ms.saturating_add(LATE_MS) {
        let text = format!("nothing was recorded for {} before this tick", length(since - tick.interval_ms));
        remarks.push(Remark { id: "recording_gap".into(), text });
    }
    if before.netns != tick.netns {
        let text = format!(
            "from here on it is network namespace {} that was recorded, before it was {}",
            tick.netns, before.netns
        );
        remarks.push(Remark { id: "recording_namespaces".into(), text });
    }
    remarks
}

/// A file that is damaged.
pub(super) fn damaged(file: &str, why: &str) -> Remark {
    Remark { id: "recording_damaged".into(), text: format!("{file} cannot be read to its end: {why}") }
}

/// As it is shown.
pub(super) fn timestamp(at: Time) -> Timestamp {
    i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}
