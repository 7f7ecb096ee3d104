//! A recording that is read: every row of a period once, while a recorder may be at work.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::error::RecordingError;
use crate::frame::Torn;
use crate::journal;
use crate::layout::{Layout, TABLES, open_file};
use crate::rows::{Connection, Destination, Rows, Setting, Sum, Tick, Time, Warning};
use crate::table::{Row, TableReader};

/// How often the directory is listed again because a segment began or was rolled meanwhile.
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
    /// Sums, in place of the connections of a segment that was within the period with all its connections and has any. Only
    /// for who [takes](Sink::takes_sums) them.
    fn sums(&mut self, rows: &[Sum]) {
        let _ = rows;
    }
    /// Whether sums are as good as connections.
    fn takes_sums(&self) -> bool {
        false
    }
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

/// The time a recording is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Its first row: a tick, or the first bound of a connection's end.
    pub first: Time,
    /// Its last row.
    pub last: Time,
    /// From tick to tick in the mean, milliseconds, of the segment in which that is longest; 0 where none has two.
    pub interval_ms: u64,
}

/// Rows of a segment, by their times.
#[derive(Default)]
struct Ends {
    ends: Option<[Time; 2]>,
    rows: u64,
}

impl Ends {
    fn extend(&mut self, ends: Option<[Time; 2]>, rows: u64) {
        let Some([first, last]) = ends else { return };
        self.ends = Some(self.ends.map_or([first, last], |[from, to]| [from.min(first), to.max(last)]));
        self.rows = self.rows.saturating_add(rows);
    }

    fn mean_interval_ms(&self) -> u64 {
        let length = self.ends.map_or(0, |[first, last]| last.0.saturating_sub(first.0));
        length.checked_div(self.rows.saturating_sub(1)).unwrap_or(0)
    }
}

/// A recording.
pub struct Recording {
    pub(crate) layout: Layout,
}

/// What a segment is made of. Journals are few and open, so that none is rolled away; a year of Parquet files would be more
/// than a process may have open.
pub(crate) enum Segment {
    Journal(Result<File, RecordingError>),
    /// In these tables, with the bytes of each.
    Rolled(Vec<(&'static str, u64)>),
}

impl Segment {
    fn bytes(&self) -> u64 {
        match self {
            Segment::Journal(Ok(file)) => file.metadata().map_or(0, |it| it.len()),
            Segment::Journal(Err(_)) => 0,
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

    /// What time it is of. None of an empty recording. Cost: the footers of ticks' and connections' files, and the journal.
    ///
    /// # Errors
    /// What system calls answer. Damaged files are left out.
    pub fn span(&self) -> Result<Option<Span>, RecordingError> {
        let mut all: Option<[Time; 2]> = None;
        let mut interval_ms = 0;
        for (sequence, segment) in self.segments(&[Tick::TABLE, Connection::TABLE])? {
            let (mut ticks, mut connections) = (Ends::default(), Ends::default());
            match segment {
                Segment::Rolled(tables) => {
                    for (table, _, file) in self.open_tables(sequence, &tables) {
                        let Some(reader) = file.ok().and_then(|file| TableReader::open(file).ok()) else {
                            continue;
                        };
                        match table {
                            Tick::TABLE => ticks.extend(reader.span::<Tick>(), reader.rows()),
                            _ => connections.extend(reader.span::<Connection>(), reader.rows()),
                        }
                    }
                }
                Segment::Journal(Err(_)) => {}
                Segment::Journal(Ok(file)) => {
                    let path = self.layout.journal(sequence);
                    let mut frames = journal::read(&path, file, sequence)?;
                    while let Some(rows) = frames.next_rows().map_err(RecordingError::io("read", &path))? {
                        rows.ticks.iter().for_each(|tick| ticks.extend(Some(tick.span()), 1));
                        rows.connections.iter().for_each(|row| connections.extend(Some(row.span()), 1));
                    }
                }
            }
            interval_ms = interval_ms.max(ticks.mean_interval_ms());
            for [first, last] in ticks.ends.into_iter().chain(connections.ends) {
                all = Some(all.map_or([first, last], |[from, to]| [from.min(first), to.max(last)]));
            }
        }
        Ok(all.map(|[first, last]| Span { first, last, interval_ms }))
    }

    /// Hands on all rows from `begin` to `end` (exclusive), and all settings of before that: they may hold. A connection is
    /// where the middle of its end's bounds is.
    ///
    /// # Errors
    /// What listing directories and reading journals answers, and [`Newer`](RecordingError::Newer). Files that are damaged, or
    /// cannot be opened, are told in the [`Reading`].
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
                Segment::Journal(Ok(file)) => {
                    self.read_journal(sequence, file, period, sink, &mut reading)?;
                }
                Segment::Journal(Err(error)) => {
                    reading.unread.push(self.unread(&self.layout.journal(sequence), told(&error)));
                }
                Segment::Rolled(tables) => {
                    let tables = self.open_tables(sequence, &tables);
                    let left_out = match sink.takes_sums() && have_sums(&tables, period) {
                        true => Connection::TABLE,
                        false => Sum::TABLE,
                    };
                    for (table, bytes, file) in tables {
                        let read = match file {
                            _ if table == left_out => Ok(()),
                            Err(error) => Err(told(&error)),
                            Ok(file) => read_table(table, file, period, sink, &mut reading.rows)
                                .map_err(|error| error.to_string()),
                        };
                        if let Err(why) = read {
                            reading.unread.push(self.unread(&self.layout.parquet(table, sequence), why));
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
    pub(crate) fn segments(&self, tables: &[&'static str]) -> Result<BTreeMap<u64, Segment>, RecordingError> {
        let mut listings = 0;
        loop {
            listings += 1;
            let segments = self.list(tables);
            // Journals come and go as segments begin and are rolled: a listing they did not change in is of one moment.
            let is_of_one_moment = match &segments {
                Ok(segments) => {
                    let journals = segments.iter().filter(|(_, it)| matches!(it, Segment::Journal(_)));
                    journals.map(|(sequence, _)| *sequence).eq(self.layout.journal_segments()?)
                }
                // Rolled between being listed and being opened.
                Err(error) => !error.is_gone(),
            };
            if is_of_one_moment || listings >= MOST_LISTINGS {
                return segments;
            }
        }
    }

    fn list(&self, tables: &[&'static str]) -> Result<BTreeMap<u64, Segment>, RecordingError> {
        let mut segments = self.open_journals()?;
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

    pub(crate) fn unread(&self, path: &Path, why: String) -> Unread {
        let file = path.strip_prefix(self.layout.root()).unwrap_or(path);
        Unread { file: file.display().to_string(), why }
    }

    fn open_journals(&self) -> Result<BTreeMap<u64, Segment>, RecordingError> {
        let open = |sequence| match open_file(&self.layout.journal(sequence)) {
            Err(error) if error.is_gone() => Err(error),
            opened => Ok((sequence, Segment::Journal(opened))),
        };
        self.layout.journal_segments()?.into_iter().map(open).collect()
    }

    /// Opens these tables of a segment; none when one is gone, as its time is over then.
    fn open_tables(&self, sequence: u64, tables: &[(&'static str, u64)]) -> Vec<OpenTable> {
        let open =
            |(table, bytes): &(&'static str, u64)| match open_file(&self.layout.parquet(table, sequence)) {
                Err(error) if error.is_gone() => None,
                opened => Some((*table, *bytes, opened)),
            };
        tables.iter().map(open).collect::<Option<_>>().unwrap_or_default()
    }
}

/// Its name, its bytes, and its file.
type OpenTable = (&'static str, u64, Result<File, RecordingError>);

/// With its cause.
pub(crate) fn told(error: &RecordingError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Whether there are sums of just the connections of a segment, and all of these are within the period.
fn have_sums(tables: &[OpenTable], [begin, end]: [Time; 2]) -> bool {
    let open = |table: &str| {
        let (_, _, file) = tables.iter().find(|(name, ..)| *name == table)?;
        TableReader::open(file.as_ref().ok()?.try_clone().ok()?).ok()
    };
    let connections = open(Connection::TABLE).and_then(|reader| reader.span::<Connection>());
    let sums = open(Sum::TABLE).and_then(|reader| reader.span::<Sum>());
    let (Some([first, last]), Some([from, to])) = (connections, sums) else { return false };
    // Those of another segment, which somebody has put there, are of another time.
    let reaches = |one: Time, other: Time| other.0.checked_sub(one.0).is_some_and(|by| by < Sum::STRETCH_MS);
    begin <= first && last < end && reaches(from, first) && reaches(last, to)
}

/// The tables of a segment in the order they are handed on.
const ORDER: [&str; TABLES.len()] =
    [Setting::TABLE, Tick::TABLE, Destination::TABLE, Warning::TABLE, Sum::TABLE, Connection::TABLE];

pub(crate) fn read_table(
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
        Sum::TABLE => reader.read([Time(0), Time(u64::MAX)], None, rows, |batch| sink.sums(batch)),
        _ => {
            let wanted = sink.connection_columns().map(<[_]>::to_vec);
            reader.read(period, wanted.as_deref(), rows, |batch| sink.connections(batch))
        }
    }
}

pub(crate) fn cut(rows: &mut Rows, [begin, end]: [Time; 2]) {
    fn within<R: Row>(rows: &mut Vec<R>, begin: Time, end: Time) {
        rows.retain(|row| (begin..end).contains(&row.at()));
    }
    within(&mut rows.ticks, begin, end);
    within(&mut rows.connections, begin, end);
    within(&mut rows.destinations, begin, end);
    within(&mut rows.settings, Time(0), end);
    within(&mut rows.warnings, begin, end);
}
