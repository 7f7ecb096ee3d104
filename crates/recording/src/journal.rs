//! The journal of a segment: its header, then frames, appended with one write each.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::RecordingError;
use crate::frame::{Framer, Frames};
use crate::layout::{FORMAT, Layout, sync_directory};
use crate::rows::Rows;

/// `sockeyej`, version (u32), sequence (u64), a number by chance (u64), crc of these (u32).
pub(crate) const HEADER_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"sockeyej";

/// A journal that is written.
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    sequence: u64,
    salt: u64,
    /// Where the next frame goes; what stands behind it counts for nothing.
    end: u64,
    framer: Framer,
}

impl Journal {
    /// Begins a segment.
    pub(crate) fn create(layout: &Layout, sequence: u64) -> Result<Journal, RecordingError> {
        let path = layout.journal(sequence);
        let framer = Framer::new().map_err(|why| RecordingError::Encode { why })?;
        // Nobody can know it beforehand: what the standard library keeps its hash tables by.
        let salt = RandomState::new().build_hasher().finish();
        let create = || {
            let file = File::create_new(&path)?;
            file.write_all_at(&header(FORMAT, sequence, salt), 0)?;
            file.sync_all()?;
            Ok(file)
        };
        let file = create().map_err(RecordingError::io("create", &path))?;
        sync_directory(&layout.journals())?;
        Ok(Journal { path, file, sequence, salt, end: HEADER_BYTES as u64, framer })
    }

    /// Appends a frame. When that fails, nothing of it stays.
    pub(crate) fn append(&mut self, rows: &Rows) -> Result<(), RecordingError> {
        let frame =
            self.framer.frame(rows, self.salt, self.end).map_err(|why| RecordingError::Encode { why })?;
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

fn header(format: u32, sequence: u64, salt: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&format.to_le_bytes());
    header[12..20].copy_from_slice(&sequence.to_le_bytes());
    header[20..28].copy_from_slice(&salt.to_le_bytes());
    let check = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&check.to_le_bytes());
    header
}

/// The frames of a journal's file. One without a whole header has none: without its salt no frame is known as one.
pub(crate) fn read(
    path: &Path,
    file: File,
    sequence: u64,
) -> Result<Frames<BufReader<File>>, RecordingError> {
    let end = file.metadata().map_err(RecordingError::io("look at", path))?.len();
    let mut file = BufReader::with_capacity(1 << 16, file);
    Ok(match salt(path, &mut file, sequence)? {
        Some(salt) => Frames::new(file, salt, HEADER_BYTES as u64, end),
        // All of it is told as unread.
        None => Frames::none(file, end),
    })
}

/// What the frames of a journal are known by, as its header tells it; `from` stands at the first of them then. None of one
/// without a whole header.
pub(crate) fn salt(path: &Path, mut from: impl Read, sequence: u64) -> Result<Option<u64>, RecordingError> {
    let mut start = Vec::new();
    let header = from.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut start);
    header.map_err(RecordingError::io("read", path))?;
    match read_header(&start, sequence) {
        Some((format, _)) if format > FORMAT => Err(RecordingError::Newer { path: path.to_owned(), format }),
        header => Ok(header.map(|(_, salt)| salt)),
    }
}

/// Version and salt.
fn read_header(bytes: &[u8], sequence: u64) -> Option<(u32, u64)> {
    let format = u32::from_le_bytes(*bytes.get(8..12)?.first_chunk()?);
    let salt = u64::from_le_bytes(*bytes.get(20..28)?.first_chunk()?);
    (bytes == header(format, sequence, salt)).then_some((format, salt))
}
