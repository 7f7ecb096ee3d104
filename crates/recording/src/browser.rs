//! A recording that is gone through at will: which segments there are, and one of them read by itself, from any point on.
//!
//! What is kept of a segment is its bounds; of a journal where each frame stands, and of what time its rows are. So a stretch of an
//! hour among a year costs what that stretch costs.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use crate::error::RecordingError;
use crate::frame::Frames;
use crate::journal;
use crate::layout::open_file;
use crate::recording::{Reading, Recording, Segment, Sink, Unread, cut, read_table, told};
use crate::rows::{Connection, Destination, Rows, Setting, Tick, Time, Warning};
use crate::table::{Row, TableReader};

/// A table of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is described where its rows are")]
pub enum Table {
    Settings,
    Ticks,
    Destinations,
    Warnings,
    Connections,
}

impl Table {
    const fn name(self) -> &'static str {
        match self {
            Table::Settings => Setting::TABLE,
            Table::Ticks => Tick::TABLE,
            Table::Destinations => Destination::TABLE,
            Table::Warnings => Warning::TABLE,
            Table::Connections => Connection::TABLE,
        }
    }
}

/// A segment with ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// The number of the segment.
    pub number: u64,
    /// Its first tick and its last, by their times.
    pub span: [Time; 2],
    /// How many ticks it has. A damaged file may claim more than can be read.
    pub ticks: u64,
}

/// Goes through a recording, while a recorder may be at work.
pub struct Browser {
    recording: Recording,
    /// Rolled segments; None of one without a tick that can be read.
    rolled: BTreeMap<u64, Option<Stretch>>,
    journals: BTreeMap<u64, Index>,
    unread: Vec<Unread>,
    stretches: Vec<Stretch>,
}

/// Where the frames of a journal stand.
struct Index {
    frames: Vec<Place>,
    salt: u64,
    /// Where the frames known so far end.
    end: u64,
    span: Option<[Time; 2]>,
    ticks: u64,
    /// Frames that are damaged.
    damaged: u64,
}

/// A frame, with what is damaged before it, and the bounds of its rows' times.
struct Place {
    offset: u64,
    end: u64,
    span: [Time; 2],
}

impl Index {
    const fn new(salt: u64) -> Index {
        let end = journal::HEADER_BYTES as u64;
        Index { frames: Vec::new(), salt, end, span: None, ticks: 0, damaged: 0 }
    }

    /// What was appended since.
    fn read_on(&mut self, file: &File) -> io::Result<()> {
        let mut frames = frames_from(file, self.salt, self.end, file.metadata()?.len())?;
        let mut damaged = 0;
        while let Some(rows) = frames.next_rows()? {
            // What is damaged at the end may be half written: only what whole frames follow is told.
            self.damaged += frames.torn().frames - damaged;
            damaged = frames.torn().frames;
            let offset = std::mem::replace(&mut self.end, frames.offset());
            if let Some(span) = span_of(&rows) {
                self.frames.push(Place { offset, end: self.end, span });
            }
            for tick in &rows.ticks {
                self.ticks += 1;
                let [from, to] = self.span.unwrap_or([tick.time; 2]);
                self.span = Some([from.min(tick.time), to.max(tick.time)]);
            }
        }
        Ok(())
    }
}

impl Browser {
    /// Opens it, and looks which segments there are.
    ///
    /// # Errors
    /// [`NotARecording`](RecordingError::NotARecording), [`Newer`](RecordingError::Newer), and what system calls answer.
    pub fn open(root: &Path) -> Result<Browser, RecordingError> {
        let mut browser = Browser {
            recording: Recording::open(root)?,
            rolled: BTreeMap::new(),
            journals: BTreeMap::new(),
            unread: Vec::new(),
            stretches: Vec::new(),
        };
        browser.refresh()?;
        Ok(browser)
    }

    /// Looks again: a recorder may have gone on. Cost: a listing; the footer of each file of ticks that is new; what journals have
    /// grown by.
    ///
    /// # Errors
    /// What listing directories and reading journals answers.
    pub fn refresh(&mut self) -> Result<(), RecordingError> {
        let segments = self.recording.segments(&[Tick::TABLE])?;
        self.rolled.retain(|number, _| matches!(segments.get(number), Some(Segment::Rolled(_))));
        self.journals.retain(|number, _| matches!(segments.get(number), Some(Segment::Journal(_))));
        self.stretches.clear();
        for (number, segment) in segments {
            let stretch = match segment {
                Segment::Rolled(_) => match self.rolled.get(&number) {
                    Some(known) => *known,
                    None => {
                        let found = self.stretch(number);
                        *self.rolled.entry(number).or_insert(found)
                    }
                },
                Segment::Journal(file) => self.index(number, file)?,
            };
            self.stretches.extend(stretch);
        }
        Ok(())
    }

    /// The segments that have ticks, in order.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }

    /// Files whose ticks cannot be read, and how many frames of journals are damaged.
    pub fn unread(&self) -> (&[Unread], u64) {
        (&self.unread, self.journals.values().map(|index| index.damaged).sum())
    }

    /// The bounds of a rolled segment, as its footer tells them.
    fn stretch(&mut self, number: u64) -> Option<Stretch> {
        let path = self.recording.layout.parquet(Tick::TABLE, number);
        let opened = match open_file(&path) {
            Err(error) if error.is_gone() => return None,
            Err(error) => Err(told(&error)),
            Ok(file) => TableReader::open(file).map_err(|error| error.to_string()),
        };
        let found = opened.and_then(|reader| {
            let span = reader.span::<Tick>().ok_or("its footer does not tell of what time it is")?;
            Ok(Stretch { number, span, ticks: reader.rows() })
        });
        match found {
            Ok(stretch) => Some(stretch).filter(|stretch| stretch.ticks > 0),
            Err(why) => {
                self.unread.push(self.recording.unread(&path, why));
                None
            }
        }
    }

    /// Reads on in a journal, and tells its bounds.
    fn index(
        &mut self,
        number: u64,
        file: Result<File, RecordingError>,
    ) -> Result<Option<Stretch>, RecordingError> {
        let path = self.recording.layout.journal(number);
        // What could not be opened is tried again at the next look.
        let Ok(file) = file else { return Ok(None) };
        let index = match self.journals.entry(number) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => match journal::salt(&path, &file, number)? {
                Some(salt) => place.insert(Index::new(salt)),
                None => return Ok(None),
            },
        };
        index.read_on(&file).map_err(RecordingError::io("read", &path))?;
        Ok(index.span.map(|span| Stretch { number, span, ticks: index.ticks }))
    }

    /// Hands on the rows of a segment from `begin` to `end` (exclusive) in these tables, and its settings of before that, too.
    /// Those of one table come in their order.
    ///
    /// # Errors
    /// What listing directories and reading journals answers. Files that are damaged are told in the [`Reading`].
    pub fn read(
        &mut self,
        number: u64,
        tables: &[Table],
        period: [Time; 2],
        sink: &mut impl Sink,
    ) -> Result<Reading, RecordingError> {
        if self.journals.contains_key(&number) {
            match open_file(&self.recording.layout.journal(number)) {
                Ok(file) => return self.read_journal(number, &file, tables, period, sink),
                // Rolled since.
                Err(error) if error.is_gone() => self.refresh()?,
                Err(error) => return Err(error),
            }
        }
        let mut reading = Reading::default();
        for table in tables {
            let path = self.recording.layout.parquet(table.name(), number);
            let read = match open_file(&path) {
                // It has no such rows, or its time is over.
                Err(error) if error.is_gone() => continue,
                Err(error) => Err(told(&error)),
                Ok(file) => read_table(table.name(), file, period, sink, &mut reading.rows)
                    .map_err(|error| error.to_string()),
            };
            if let Err(why) = read {
                reading.unread.push(self.recording.unread(&path, why));
            }
        }
        Ok(reading)
    }

    fn read_journal(
        &self,
        number: u64,
        file: &File,
        tables: &[Table],
        period @ [begin, end]: [Time; 2],
        sink: &mut impl Sink,
    ) -> Result<Reading, RecordingError> {
        let path = self.recording.layout.journal(number);
        let mut reading = Reading::default();
        let Some(index) = self.journals.get(&number) else { return Ok(reading) };
        // Settings of before the period may hold.
        let begins = if tables.contains(&Table::Settings) { Time(0) } else { begin };
        for place in &index.frames {
            if place.span[1] < begins || place.span[0] >= end {
                continue;
            }
            let rows = frames_from(file, index.salt, place.offset, place.end)
                .and_then(|mut frames| frames.next_rows())
                .map_err(RecordingError::io("read", &path))?;
            let Some(mut rows) = rows else { continue };
            cut(&mut rows, period);
            for table in tables {
                reading.rows += match table {
                    Table::Settings => handed(&rows.settings, |rows| sink.settings(rows)),
                    Table::Ticks => handed(&rows.ticks, |rows| sink.ticks(rows)),
                    Table::Destinations => handed(&rows.destinations, |rows| sink.destinations(rows)),
                    Table::Warnings => handed(&rows.warnings, |rows| sink.warnings(rows)),
                    Table::Connections => handed(&rows.connections, |rows| sink.connections(rows)),
                };
            }
        }
        Ok(reading)
    }
}

/// The frames from this one on, up to `end`.
fn frames_from(mut file: &File, salt: u64, offset: u64, end: u64) -> io::Result<Frames<BufReader<&File>>> {
    file.seek(SeekFrom::Start(offset))?;
    Ok(Frames::new(BufReader::with_capacity(1 << 16, file), salt, offset, end))
}

/// How many rows were handed on.
fn handed<R>(rows: &[R], mut take: impl FnMut(&[R])) -> u64 {
    take(rows);
    rows.len() as u64
}

fn span_of(rows: &Rows) -> Option<[Time; 2]> {
    fn of<R: Row>(rows: &[R]) -> impl Iterator<Item = Time> + '_ {
        rows.iter().map(Row::at)
    }
    let all = of(&rows.ticks)
        .chain(of(&rows.connections))
        .chain(of(&rows.destinations))
        .chain(of(&rows.settings))
        .chain(of(&rows.warnings));
    all.map(|at| [at, at]).reduce(|[from, to], [first, last]| [from.min(first), to.max(last)])
}
