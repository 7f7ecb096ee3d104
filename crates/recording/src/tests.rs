//! Laws of recordings: what was appended is read back, once, whatever happens to the recorder or to its disk.

#![allow(clippy::print_stdout, reason = "a child tells the test that started it")]

mod browsing;
mod damage;
mod disk;
mod kills;
mod round_trip;
mod sums;

use std::path::Path;

use crate::rows::example::time;
use crate::{
    Connection, Destination, Limits, Reading, Recorder, Recording, Rows, Setting, Sink, Tick, Time, Warning,
};

/// Keeps all that is read, as it comes.
#[derive(Default)]
struct Everything(Rows);

impl Sink for Everything {
    fn settings(&mut self, rows: &[Setting]) {
        self.0.settings.extend_from_slice(rows);
    }
    fn ticks(&mut self, rows: &[Tick]) {
        self.0.ticks.extend_from_slice(rows);
    }
    fn destinations(&mut self, rows: &[Destination]) {
        self.0.destinations.extend_from_slice(rows);
    }
    fn warnings(&mut self, rows: &[Warning]) {
        self.0.warnings.extend_from_slice(rows);
    }
    fn connections(&mut self, rows: &[Connection]) {
        self.0.connections.extend_from_slice(rows);
    }
}

const ALL: [Time; 2] = [Time(0), Time(u64::MAX)];

fn read_period(root: &Path, period: [Time; 2]) -> (Rows, Reading) {
    let mut sink = Everything::default();
    let reading = Recording::open(root).unwrap().read(period, &mut sink, |_| {}).unwrap();
    (sink.0, reading)
}

/// All rows of a recording without damage.
fn read_all(root: &Path) -> Rows {
    let (rows, reading) = read_period(root, ALL);
    assert_eq!((reading.rows as usize, &reading.unread[..]), (rows.len(), &[][..]));
    rows
}

/// Segments of a few ticks.
fn small() -> Limits {
    Limits { segment_bytes: 4_096, ..Limits::default() }
}

fn open(root: &Path, limits: Limits) -> Recorder {
    Recorder::open(root, limits).unwrap().0
}

/// Appends example ticks.
fn record(recorder: &mut Recorder, ticks: std::ops::Range<u64>) {
    for number in ticks {
        recorder.append(time(number), &mut crate::rows::example::rows(number)).unwrap();
    }
}

/// The rows of these ticks, in their order.
fn expected(ticks: std::ops::Range<u64>) -> Rows {
    let mut all = Rows::default();
    for number in ticks {
        let rows = crate::rows::example::rows(number);
        all.ticks.extend(rows.ticks);
        all.connections.extend(rows.connections);
        all.destinations.extend(rows.destinations);
        all.settings.extend(rows.settings);
        all.warnings.extend(rows.warnings);
    }
    all
}
