//! A recording that is read: every row of a period once, while a recorder may be at work.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::RecordingError;
use crate::frame::Torn;
use crate::journal;
use crate::layout::{Layout, TABLES, open_file};
use crate::rows::{Connection, Destination, Rows, Setting, Tick, Time, Warning};
use crate::table::{Row, TableReader};

/// How often the directory is listed again because a journal was rolled meanwhile.
const MOST_LISTINGS: usize = 100;

/// Who takes rows. Those of one segment come together, a table after the other, each in the order of its time; segments come
/// in order.
pub trait Sink {
    /// Settings: before all else of their segment.
    fn settings(&mut self, rows: &[Setting]);
    /// Ticks.
    fn ticks(&mut self, rows: &[Tick]);
    /// Destinations.
    fn destinations(&mut self, rows: &[Destination]);
    /// Warnings.
    fn warnings(&mut self, rows: &[Warning]);
    /// Connections.
    fn connections(&mut self, rows: &[Connection]);
    /// Columns of connections that are looked at, if not all: others come as null, 0 or `unknown`.
    fn connection_columns(&self) -> Option<&[&'static str]> {
        None
    }
}

/// How far reading has come: files of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// Bytes of the files done.
    pub done: u64,
    /// Bytes of all files.
    pub all: u64,
}

/// What came of reading.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reading {
    /// Rows handed on.
    pub rows: u64,
    /// What of journals could not be read. The rest of one that is being written is in it: a few bytes, now and then.
    pub torn: Torn,
    /// Files that could not be read to their end.
    pub unread: Vec<Unread>,
}

/// A file that could not be read to its end: rows before the damage were handed on.
#[derive(Clone, PartialEq, Debug)]
pub struct Unread {
    /// Within the recording.
    pub file: String,
    /// The library's or the kernel's word.
    pub why: String,
}

/// A recording.
pub struct Recording {
    layout: Layout,
}

/// What a segment is made of. Journals are few and open, so that none is rolled away; a year of Parquet files would be more
/// than a process may have open.
enum Segment {
    Journal(File),
    /// In these tables, with the bytes of each.
    Rolled(Vec<(&'static str, u64)>),
}

impl Segment {
    fn bytes(&self) -> u64 {
        match self {
            Segment::Journal(file) => file.metadata().map_or(0, |it| it.len()),
            Segment::Rolled(tables) => tables.iter().map(|(_, bytes)| bytes).sum(),
        }
    }
}

impl Recording {
    /// Opens it for reading.
    ///
    /// # Errors
    /// [`NotARecording`](RecordingError::NotARecording), [`Newer`](RecordingError::Newer), and what system calls answer.
    pub fn open(root: &Path) -> Result<Recording, RecordingError> {
        Ok(Recording { layout: Layout::open(root)? })
    }

    /// When its first row was and when its last: ticks, and ends of connections at their bounds. None of an empty recording.
    /// Cost: the footers of these tables' files, and the journal.
    ///
    /// # Errors
    /// What system calls answer. Damaged files are left out.
    pub fn span(&self) -> Result<Option<[Time; 2]>, RecordingError> {
        let mut span: Option<[Time; 2]> = None;
        let mut extend = |[first, last]: [Time; 2]| {
            span = Some(span.map_or([first, last], |[from, to]| [from.min(first), to.max(last)]));
        };
        for (sequence, segment) in self.segments(&[Tick::TABLE, Connection::TABLE])? {
            match segment {
                Segment::Rolled(tables) => {
                    for (table, _, file) in self.open_tables(sequence, &tables)? {
                        let ends = TableReader::open(file).ok().and_then(|reader| match table {
                            Tick::TABLE => reader.span::<Tick>(),
                            _ => reader.span::<Connection>(),
                        });
                        ends.into_iter().for_each(&mut extend);
                    }
                }
                Segment::Journal(file) => {
                    let path = self.layout.journal(sequence);
                    let mut frames = journal::read(&path, file, sequence)?;
                    while let Some(rows) = frames.next_rows().map_err(RecordingError::io("read", &path))? {
                        rows.ticks.iter().map(Row::span).for_each(&mut extend);
                        rows.connections.iter().map(Row::span).for_each(&mut extend);
                    }
                }
            }
        }
        Ok(span)
    }

    /// Hands on all rows from `begin` to `end` (exclusive), and all settings of before that: they may hold. A connection is
    /// where the middle of its end's bounds is.
    ///
    /// # Errors
    /// What system calls answer, and [`Newer`](RecordingError::Newer). Damaged files are told in the [`Reading`].
    pub fn read(
        &self,
        period: [Time; 2],
        sink: &mut impl Sink,
        mut progress: impl FnMut(Progress),
    ) -> Result<Reading, RecordingError> {
        let segments = self.segments(&ORDER)?;
        let all = segments.values().map(Segment::bytes).sum();
        let mut done = 0;
        let mut reading = Reading::default();
        for (sequence, segment) in segments {
            progress(Progress { done, all });
            let after = done + segment.bytes();
            match segment {
                Segment::Journal(file) => self.read_journal(sequence, file, period, sink, &mut reading)?,
                Segment::Rolled(tables) => {
                    for (table, bytes, file) in self.open_tables(sequence, &tables)? {
                        if let Err(error) = read_table(table, file, period, sink, &mut reading.rows) {
                            let path = self.layout.parquet(table, sequence);
                            let file = path.strip_prefix(self.layout.root()).unwrap_or(&path);
                            let (file, why) = (file.display().to_string(), error.to_string());
                            reading.unread.push(Unread { file, why });
                        }
                        done += bytes;
                        progress(Progress { done, all });
                    }
                }
            }
            done = after;
        }
        progress(Progress { done, all });
        Ok(reading)
    }

    fn read_journal(
        &self,
        sequence: u64,
        file: File,
        period: [Time; 2],
        sink: &mut impl Sink,
        reading: &mut Reading,
    ) -> Result<(), RecordingError> {
        let path = self.layout.journal(sequence);
        let mut frames = journal::read(&path, file, sequence)?;
        while let Some(mut rows) = frames.next_rows().map_err(RecordingError::io("read", &path))? {
            cut(&mut rows, period);
            reading.rows += rows.len() as u64;
            sink.settings(&rows.settings);
            sink.ticks(&rows.ticks);
            sink.destinations(&rows.destinations);
            sink.warnings(&rows.warnings);
            sink.connections(&rows.connections);
        }
        reading.torn.frames += frames.torn().frames;
        reading.torn.tail_bytes += frames.torn().tail_bytes;
        Ok(())
    }

    /// The segments that make up the recording now, in order: each is either a journal or Parquet, whatever is rolled from
    /// here on.
    fn segments(&self, tables: &[&'static str]) -> Result<BTreeMap<u64, Segment>, RecordingError> {
        let mut listings = 0;
        let mut segments = loop {
            listings += 1;
            match self.open_journals() {
                // It was rolled between being listed and being opened.
                Err(error) if error.is_gone() && listings < MOST_LISTINGS => {}
                opened => break opened?,
            }
        };
        // After the journals: one that was rolled before they were listed has its Parquet files by now.
        for table in tables {
            for sequence in self.layout.parquet_segments(table)? {
                let path = self.layout.parquet(table, sequence);
                let metadata = match fs::metadata(&path) {
                    Ok(metadata) => metadata,
                    // Its time was over.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(RecordingError::io("look at", &path)(error)),
                };
                if let Segment::Rolled(tables) =
                    segments.entry(sequence).or_insert_with(|| Segment::Rolled(Vec::new()))
                {
                    tables.push((table, metadata.len()));
                }
            }
        }
        Ok(segments)
    }

    fn open_journals(&self) -> Result<BTreeMap<u64, Segment>, RecordingError> {
        let open = |sequence| {
            let path = self.layout.journal(sequence);
            Ok((sequence, Segment::Journal(open_file(&path)?)))
        };
        self.layout.journal_segments()?.into_iter().map(open).collect()
    }

    /// Opens these tables of a segment; none when one is gone, as its time is over then.
    fn open_tables(
        &self,
        sequence: u64,
        tables: &[(&'static str, u64)],
    ) -> Result<Vec<(&'static str, u64, File)>, RecordingError> {
        let open = |(table, bytes): &(&'static str, u64)| {
            Ok((*table, *bytes, open_file(&self.layout.parquet(table, sequence))?))
        };
        match tables.iter().map(open).collect() {
            Err(error) if RecordingError::is_gone(&error) => Ok(Vec::new()),
            opened => opened,
        }
    }
}

/// The tables of a segment in the order they are handed on.
const ORDER: [&str; TABLES.len()] =
    [Setting::TABLE, Tick::TABLE, Destination::TABLE, Warning::TABLE, Connection::TABLE];

fn read_table(
    table: &str,
    file: File,
    period: [Time; 2],
    sink: &mut impl Sink,
    rows: &mut u64,
) -> parquet::errors::Result<()> {
    let reader = TableReader::open(file)?;
    match table {
        Setting::TABLE => reader.read([Time(0), period[1]], None, rows, |batch| sink.settings(batch)),
        Tick::TABLE => reader.read(period, None, rows, |batch| sink.ticks(batch)),
        Destination::TABLE => reader.read(period, None, rows, |batch| sink.destinations(batch)),
        Warning::TABLE => reader.read(period, None, rows, |batch| sink.warnings(batch)),
        _ => {
            let wanted = sink.connection_columns().map(<[_]>::to_vec);
            reader.read(period, wanted.as_deref(), rows, |batch| sink.connections(batch))
        }
    }
}

fn cut(rows: &mut Rows, [begin, end]: [Time; 2]) {
    fn within<R: Row>(rows: &mut Vec<R>, begin: Time, end: Time) {
        rows.retain(|row| (begin..end).contains(&row.at()));
    }
    within(&mut rows.ticks, begin, end);
    within(&mut rows.connections, begin, end);
    within(&mut rows.destinations, begin, end);
    within(&mut rows.settings, Time(0), end);
    within(&mut rows.warnings, begin, end);
}
