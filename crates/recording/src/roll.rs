//! Rolling: a journal becomes Parquet files.
//!
//! Each step can be the last one: files get their names when they are whole and on the disk, and the journal goes when all
//! have theirs. As long as it is there they do not count, so that rolling again does not double a row.

use std::fs;
use std::path::PathBuf;

use crate::error::RecordingError;
use crate::frame::Torn;
use crate::journal;
use crate::layout::{Layout, TABLES, create_file, open_file, sync_directory};
use crate::rows::{Connection, Destination, Rows, Setting, Sum, Tick, Warning};
use crate::sums::Sums;
use crate::table::{Row, TableWriter};

/// What a journal held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Rolled {
    pub(crate) rows: u64,
    pub(crate) torn: Torn,
}

/// Rolls the journal of a segment and removes it.
pub(crate) fn roll(layout: &Layout, sequence: u64) -> Result<Rolled, RecordingError> {
    let rolled = write(layout, sequence)?;
    let path = layout.journal(sequence);
    // Without its header nothing of it can be read: that is for people to decide.
    match rolled.rows == 0 && rolled.torn.tail_bytes > journal::HEADER_BYTES as u64 {
        true => fs::rename(&path, path.with_extension("damaged")),
        false => fs::remove_file(&path),
    }
    .map_err(RecordingError::io("remove", &path))?;
    sync_directory(&layout.journals())?;
    Ok(rolled)
}

/// Everything but the last step.
fn write(layout: &Layout, sequence: u64) -> Result<Rolled, RecordingError> {
    let path = layout.journal(sequence);
    let file = open_file(&path)?;
    let mut frames = journal::read(&path, file, sequence)?;
    let mut tables = Tables::new(layout, sequence);
    let mut rolled = Rolled::default();
    while let Some(rows) = frames.next_rows().map_err(RecordingError::io("read", &path))? {
        rolled.rows += rows.len() as u64;
        tables.push(&rows)?;
    }
    rolled.torn = frames.torn();
    tables.finish()?;
    for table in TABLES {
        sync_directory(&layout.table(table))?;
    }
    Ok(rolled)
}

/// The Parquet files of a segment, as far as there are rows for them.
struct Tables {
    ticks: Pending<Tick>,
    connections: Pending<Connection>,
    destinations: Pending<Destination>,
    settings: Pending<Setting>,
    warnings: Pending<Warning>,
    sums: Pending<Sum>,
    summing: Sums,
}

impl Tables {
    fn new(layout: &Layout, sequence: u64) -> Tables {
        Tables {
            ticks: Pending::new(layout, sequence),
            connections: Pending::new(layout, sequence),
            destinations: Pending::new(layout, sequence),
            settings: Pending::new(layout, sequence),
            warnings: Pending::new(layout, sequence),
            sums: Pending::new(layout, sequence),
            summing: Sums::new(),
        }
    }

    fn push(&mut self, rows: &Rows) -> Result<(), RecordingError> {
        rows.connections.iter().for_each(|row| self.summing.add(row));
        self.ticks.push(&rows.ticks)?;
        self.connections.push(&rows.connections)?;
        self.destinations.push(&rows.destinations)?;
        self.settings.push(&rows.settings)?;
        self.warnings.push(&rows.warnings)
    }

    fn finish(mut self) -> Result<(), RecordingError> {
        // Sums last: what the others hold in memory is free by then.
        self.connections.finish()?;
        self.destinations.finish()?;
        self.settings.finish()?;
        self.warnings.finish()?;
        self.ticks.finish()?;
        self.summing.each(|sum| self.sums.push(&[sum]))?;
        self.sums.finish()
    }
}

/// One of them; the file is made with the first row.
struct Pending<R: Row> {
    temporary: PathBuf,
    path: PathBuf,
    writer: Option<TableWriter<R>>,
}

impl<R: Row> Pending<R> {
    fn new(layout: &Layout, sequence: u64) -> Pending<R> {
        Pending {
            temporary: layout.temporary(R::TABLE, sequence),
            path: layout.parquet(R::TABLE, sequence),
            writer: None,
        }
    }

    fn push(&mut self, rows: &[R]) -> Result<(), RecordingError> {
        for row in rows {
            let writer = match &mut self.writer {
                Some(writer) => writer,
                none => {
                    let file = create_file(&self.temporary)
                        .map_err(RecordingError::io("create", &self.temporary))?;
                    none.insert(
                        TableWriter::new(file).map_err(RecordingError::parquet("begin", &self.temporary))?,
                    )
                }
            };
            writer.push(row).map_err(RecordingError::parquet("write", &self.temporary))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), RecordingError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let file = writer.finish().map_err(RecordingError::parquet("complete", &self.temporary))?;
        file.sync_all().map_err(RecordingError::io("sync", &self.temporary))?;
        fs::rename(&self.temporary, &self.path).map_err(RecordingError::io("name", &self.path))
    }
}
