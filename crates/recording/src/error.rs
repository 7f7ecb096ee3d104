//! What can go wrong with a recording, with the path it happened to.

use std::io;
use std::path::{Path, PathBuf};

/// Why a recording cannot be written or read.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum RecordingError {
    /// A system call failed; the error is the kernel's word.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried: `create`, `write`, …
        operation: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A Parquet file cannot be written or read; the error is the Parquet library's word.
    #[error("cannot {operation} {}", path.display())]
    Parquet {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the library answered.
        source: parquet::errors::ParquetError,
    },
    /// Another recorder writes there.
    #[error("{} is being recorded to by another sockeye: end that one, or choose another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The lock was deleted or replaced while it was held: another recorder may be at work.
    #[error("{} is gone: another sockeye may be recording there; what was recorded before is kept", path.display())]
    LostLock {
        /// The lock.
        path: PathBuf,
    },
    /// The directory holds something else.
    #[error("{} is no recording of sockeye: {why}", path.display())]
    NotARecording {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A later sockeye wrote it.
    #[error(
        "{} was written by a newer sockeye (format {format}; this one knows up to {}): update sockeye",
        path.display(),
        crate::layout::FORMAT
    )]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// Rows that no frame can hold.
    #[error("cannot encode the rows of a tick: {why}")]
    Encode {
        /// The codec's word.
        why: String,
    },
}

impl RecordingError {
    /// For `map_err` on what the standard library answers.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordingError {
        let path = path.to_owned();
        move |source| RecordingError::Io { operation, path, source }
    }

    /// For `map_err` on what the Parquet library answers. Errors of the disk come out as such.
    pub(crate) fn parquet(
        operation: &'static str,
        path: &Path,
    ) -> impl FnOnce(parquet::errors::ParquetError) -> RecordingError {
        let path = path.to_owned();
        move |source| match source {
            parquet::errors::ParquetError::External(inner) => match inner.downcast::<io::Error>() {
                Ok(source) => RecordingError::Io { operation, path, source: *source },
                Err(inner) => RecordingError::Parquet {
                    operation,
                    path,
                    source: parquet::errors::ParquetError::External(inner),
                },
            },
            source => RecordingError::Parquet { operation, path, source },
        }
    }

    /// Whether the disk, the quota or the file size limit is used up.
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, RecordingError::Io { source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }

    /// Whether a file is not there (any more).
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, RecordingError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
