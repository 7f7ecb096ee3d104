//! Reading the kernel's text files as the kernel wants them read.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Room for most sysctls. The kernel sets aside, and clears, as much as a read() asks for.
const LITTLE_ROOM: usize = 4 * 1024;
const LONGEST_NUMBER: usize = 24;
/// Room for any sysctl: the longest, a reserved list naming every second port, has 191,053 bytes.
const SYSCTL_ROOM: usize = 256 * 1024;

/// The text of a file that may be read piece by piece: everything of `/proc` but sysctls.
pub(crate) fn read(path: &Path) -> Result<String> {
    let bytes =
        std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_path_buf(), source })?;
    Ok(text(bytes))
}

/// The text of a sysctl, taken with one read().
///
/// A sysctl answers the first read() and then says it is at its end, so one read with a small buffer cuts the
/// value without a sign. `std::fs::read_to_string` begins with 32 bytes.
pub(crate) fn read_sysctl(path: &Path) -> Result<String> {
    let unreadable = |source| Error::Unreadable { path: path.to_path_buf(), source };
    for room in [LITTLE_ROOM, SYSCTL_ROOM] {
        let mut bytes = vec![0; room];
        let length = File::open(path).and_then(|mut file| file.read(&mut bytes)).map_err(unreadable)?;
        // A number that has no room any more may leave some.
        if length + LONGEST_NUMBER < room {
            bytes.truncate(length);
            return Ok(text(bytes));
        }
    }
    Err(unreadable(io::Error::other("longer than any sysctl")))
}

/// These files are ASCII but for names that people chose; a byte that is not UTF-8 spoils nothing else.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
