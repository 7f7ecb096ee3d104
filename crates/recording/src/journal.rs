//! The journal of a segment: its header, then frames, appended with one write each.

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::RecordingError;
use crate::frame::{Framer, Frames};
use crate::layout::{FORMAT, Layout, sync_directory};
use crate::rows::Rows;

/// `sockeyej`, version (u32), sequence (u64), crc of these (u32).
const HEADER_BYTES: usize = 24;
const MAGIC: &[u8; 8] = b"sockeyej";

/// A journal that is written.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    sequence: u64,
    /// Where the next frame goes; what stands behind it counts for nothing.
    end: u64,
    framer: Framer,
}

impl Journal {
    /// Begins a segment.
    pub(crate) fn create(layout: &Layout, sequence: u64) -> Result<Journal, RecordingError> {
        let path = layout.journal(sequence);
        let framer = Framer::new().map_err(|why| RecordingError::Encode { why })?;
        let create = || {
            let file = File::create_new(&path)?;
            file.write_all_at(&header(FORMAT, sequence), 0)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = create().map_err(RecordingError::io("create", &path))?;
        sync_directory(&layout.journals())?;
        Ok(Journal { path, file, sequence, end: HEADER_BYTES as u64, framer })
    }

    /// Appends a frame. When that fails, nothing of it stays.
    pub(crate) fn append(&mut self, rows: &Rows) -> Result<(), RecordingError> {
        let frame =
            self.framer.frame(rows, self.sequence, self.end).map_err(|why| RecordingError::Encode { why })?;
        if let Err(error) = self.file.write_all_at(frame, self.end) {
            // Half a frame would be cut when it is read; without it the next attempt has more space.
            let _ = self.file.set_len(self.end);
            return Err(RecordingError::io("write", &self.path)(error));
        }
        self.end += frame.len() as u64;
        Ok(())
    }

    /// Waits until all that was appended would outlast a power cut.
    pub(crate) fn sync(&self) -> Result<(), RecordingError> {
        self.file.sync_data().map_err(RecordingError::io("sync", &self.path))
    }

    pub(crate) const fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.end
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.end == HEADER_BYTES as u64
    }
}

fn header(format: u32, sequence: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&format.to_le_bytes());
    header[12..20].copy_from_slice(&sequence.to_le_bytes());
    let check = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&check.to_le_bytes());
    header
}

/// The frames of a journal's file. One without a whole header has none: its recorder was killed before the first.
pub(crate) fn read(
    path: &Path,
    file: File,
    sequence: u64,
) -> Result<Frames<BufReader<File>>, RecordingError> {
    let end = file.metadata().map_err(RecordingError::io("look at", path))?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    let mut start = Vec::new();
    file.by_ref()
        .take(HEADER_BYTES as u64)
        .read_to_end(&mut start)
        .map_err(RecordingError::io("read", path))?;
    let format = match start.get(8..12).and_then(|bytes| bytes.first_chunk::<4>()) {
        Some(bytes) => u32::from_le_bytes(*bytes),
        None => 0,
    };
    let is_whole = start == header(format, sequence);
    if is_whole && format > FORMAT {
        return Err(RecordingError::Newer { path: path.to_owned(), format });
    }
    // Without a whole header no frame is at its place, and all of it is told as unread.
    let offset = if is_whole { HEADER_BYTES as u64 } else { 0 };
    Ok(Frames::new(file, sequence, offset, end))
}
