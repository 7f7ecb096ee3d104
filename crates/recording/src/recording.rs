//! A recording that is read: every row of a period once, while a recorder may be at work.

use std::fs::File;
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

/// A file of a segment, opened.
enum Source {
    Journal(u64, File),
    Parquet(&'static str, u64, File),
}

impl Source {
    fn sequence(&self) -> u64 {
        match self {
            Source::Journal(sequence, _) | Source::Parquet(_, sequence, _) => *sequence,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Source::Journal(_, file) | Source::Parquet(_, _, file) => {
                file.metadata().map_or(0, |it| it.len())
            }
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
        for source in self.sources(&[Tick::TABLE, Connection::TABLE])? {
            match source {
                Source::Parquet(table, _, file) => {
                    let ends = TableReader::open(file).ok().and_then(|reader| match table {
                        Tick::TABLE => reader.span::<Tick>(),
                        _ => reader.span::<Connection>(),
                    });
                    ends.into_iter().for_each(&mut extend);
                }
                Source::Journal(sequence, file) => {
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
        let sources = self.sources(&ORDER)?;
        let all = sources.iter().map(Source::bytes).sum();
        let mut done = 0;
        let mut reading = Reading::default();
        for source in sources {
            progress(Progress { done, all });
            done += source.bytes();
            match source {
                Source::Journal(sequence, file) => {
                    self.read_journal(sequence, file, period, sink, &mut reading)?;
                }
                Source::Parquet(table, sequence, file) => {
                    if let Err(error) = read_table(table, file, period, sink, &mut reading.rows) {
                        let path = self.layout.parquet(table, sequence);
                        let file = path.strip_prefix(self.layout.root()).unwrap_or(&path);
                        reading
                            .unread
                            .push(Unread { file: file.display().to_string(), why: error.to_string() });
                    }
                }
            }
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

    /// The files that make up the recording now, opened, in order: so that each segment is either a journal or Parquet,
    /// whatever is rolled or deleted from here on.
    fn sources(&self, tables: &[&'static str]) -> Result<Vec<Source>, RecordingError> {
        let mut listings = 0;
        let mut sources = loop {
            listings += 1;
            match self.open_journals() {
                // It was rolled between being listed and being opened.
                Err(error) if error.is_gone() && listings < MOST_LISTINGS => {}
                opened => break opened?,
            }
        };
        let journals: Vec<u64> = sources.iter().map(Source::sequence).collect();
        // After the journals: one that was rolled before they were listed has its Parquet files by now.
        for table in tables {
            for sequence in self.layout.parquet_segments(table)? {
                if journals.contains(&sequence) {
                    continue;
                }
                let path = self.layout.parquet(table, sequence);
                match open_file(&path) {
                    Ok(file) => sources.push(Source::Parquet(table, sequence, file)),
                    // Its time was over.
                    Err(error) if error.is_gone() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        // Stable: the tables of a segment stay in their order.
        sources.sort_by_key(Source::sequence);
        Ok(sources)
    }

    fn open_journals(&self) -> Result<Vec<Source>, RecordingError> {
        let open = |sequence| {
            let path = self.layout.journal(sequence);
            Ok(Source::Journal(sequence, open_file(&path)?))
        };
        self.layout.journal_segments()?.into_iter().map(open).collect()
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
