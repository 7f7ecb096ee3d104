//! Why a file of the host gave no value.

use std::io;
use std::path::PathBuf;

/// A file that could not be read, or whose text is not what the kernel writes there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system call failed. In containers: `/proc` or `/proc/sys` is masked or not mounted.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system call answered.
        source: io::Error,
    },
    /// The file was read and makes no sense; a sandbox that imitates `/proc` may do this.
    #[error("cannot understand {}: expected {expected}, found {found:?}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
        /// The beginning of what was there.
        found: String,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Not `expected` but `text`, of which only the beginning is kept.
    pub(crate) fn malformed(path: impl Into<PathBuf>, expected: &'static str, text: &str) -> Error {
        Error::Malformed { path: path.into(), expected, found: text.trim_end().chars().take(60).collect() }
    }

    /// Whether the file is not there, which for a sysctl or counter means that this kernel has none.
    pub fn is_missing(&self) -> bool {
        matches!(self, Error::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
