//! Retention: the oldest segments go when a recording gets too old or too large. Journals are never touched.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::RecordingError;
use crate::layout::{Layout, TABLES, open_file};
use crate::recorder::Limits;
use crate::rows::{Tick, Time};
use crate::table::{Row as _, TableReader};

/// Deletes what is beyond the limits; how many segments that were.
pub(crate) fn enforce(layout: &Layout, limits: &Limits, now: Time) -> Result<u64, RecordingError> {
    let mut segments = Vec::new();
    for table in TABLES {
        segments.extend(layout.parquet_segments(table)?);
    }
    segments.sort_unstable();
    segments.dedup();
    // Those of a journal that is still there do not count yet.
    let journals = layout.journal_segments()?;
    segments.retain(|segment| !journals.contains(segment));
    let mut total: u64 = 0;
    for sequence in &journals {
        total += size(&layout.journal(*sequence))?;
    }
    let mut sizes = Vec::with_capacity(segments.len());
    for sequence in &segments {
        let mut bytes = 0;
        for table in TABLES {
            bytes += size(&layout.parquet(table, *sequence))?;
        }
        total += bytes;
        sizes.push(bytes);
    }
    let mut deleted = 0;
    for (sequence, bytes) in segments.into_iter().zip(sizes) {
        let is_too_much = limits.max_bytes.is_some_and(|most| total > most);
        if !is_too_much && !is_too_old(layout, limits, sequence, now) {
            // One that does not tell its age keeps none behind it.
            continue;
        }
        for table in TABLES {
            let path = layout.parquet(table, sequence);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(RecordingError::io("remove", &path)(error));
                }
                _ => {}
            }
        }
        total -= bytes;
        deleted += 1;
    }
    Ok(deleted)
}

/// A file that is not there has no size.
fn size(path: &Path) -> Result<u64, RecordingError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(RecordingError::io("look at", path)(error)),
    }
}

/// By the last tick it has; a segment that does not tell stays until space is short.
fn is_too_old(layout: &Layout, limits: &Limits, sequence: u64, now: Time) -> bool {
    let Some(keep_ms) = limits.keep_ms else { return false };
    let last = || {
        let file = open_file(&layout.parquet(Tick::TABLE, sequence)).ok()?;
        Some(TableReader::open(file).ok()?.span::<Tick>()?[1])
    };
    last().is_some_and(|last| now.0.saturating_sub(last.0) > keep_ms)
}
