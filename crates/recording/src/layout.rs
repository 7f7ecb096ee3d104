//! Where what is in a recording's directory: names of files, and which version wrote them.
//!
//! A segment is a stretch of time with a sequence number N. While it is written, or was not rolled yet, it is
//! `journal/N.journal`; then it is `TABLE/N.parquet` in each table that has rows of it. While the journal is there, Parquet
//! files of its number do not count.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use crate::error::RecordingError;
use crate::rows::{Connection, Destination, Setting, Sum, Tick, Warning};
use crate::table::Row;

/// Version of layout, tables and frames. A sockeye reads what is of its version or an earlier one.
pub(crate) const FORMAT: u32 = 1;

const MARKER: &str = "sockeye-recording.json";
const SCHEMA: &str = "sockeye.recording/";
const JOURNAL: &str = "journal";
/// What a marker has at the most: no more of what stands in its place is read.
const MOST_MARKER_BYTES: u64 = 4_096;

/// Directories of Parquet files. Ticks are last: a segment is deleted in this order, and whoever sees its ticks sees all.
pub(crate) const TABLES: [&str; 6] =
    [Sum::TABLE, Connection::TABLE, Destination::TABLE, Setting::TABLE, Warning::TABLE, Tick::TABLE];

/// What the marker says.
#[derive(Serialize, Deserialize)]
struct Marker {
    schema: String,
}

/// The directory of a recording.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Of an existing recording.
    pub(crate) fn open(root: &Path) -> Result<Layout, RecordingError> {
        let layout = Layout { root: root.to_owned() };
        layout.check_marker()?;
        Ok(layout)
    }

    /// Makes what is missing of it. To be called by who holds the lock.
    pub(crate) fn create(root: &Path) -> Result<Layout, RecordingError> {
        let layout = Layout { root: root.to_owned() };
        for directory in TABLES.iter().copied().chain([JOURNAL]) {
            make_directory(&root.join(directory))?;
        }
        let marker = root.join(MARKER);
        if !fs::exists(&marker).map_err(RecordingError::io("look for", &marker))? {
            let text = serde_json::to_string(&Marker { schema: format!("{SCHEMA}{FORMAT}") });
            let text = text.map_err(|error| RecordingError::Encode { why: error.to_string() })? + "\n";
            let temporary = root.join(format!(".{MARKER}"));
            let write = || {
                let mut file = create_file(&temporary)?;
                file.write_all(text.as_bytes())?;
                file.sync_all()?;
                fs::rename(&temporary, &marker)
            };
            write().map_err(RecordingError::io("write", &marker))?;
        }
        sync_directory(root)?;
        layout.check_marker()?;
        Ok(layout)
    }

    fn check_marker(&self) -> Result<(), RecordingError> {
        let path = self.root.join(MARKER);
        let not = |why| RecordingError::NotARecording { path: self.root.clone(), why };
        let file = match open_file(&path) {
            Ok(file) => file,
            Err(error) if error.is_gone() && !self.root.exists() => return Err(not("it does not exist")),
            Err(error) if error.is_gone() => return Err(not("it has no sockeye-recording.json")),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(MOST_MARKER_BYTES).read_to_string(&mut text).map_err(RecordingError::io("read", &path))?;
        let marker: Option<Marker> = serde_json::from_str(&text).ok();
        let format = marker.and_then(|marker| marker.schema.strip_prefix(SCHEMA)?.parse::<u32>().ok());
        match format {
            None | Some(0) => Err(not("its sockeye-recording.json does not tell a version")),
            Some(format) if format > FORMAT => Err(RecordingError::Newer { path, format }),
            Some(_) => Ok(()),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn journals(&self) -> PathBuf {
        self.root.join(JOURNAL)
    }

    pub(crate) fn journal(&self, sequence: u64) -> PathBuf {
        self.root.join(format!("{JOURNAL}/{sequence:010}.journal"))
    }

    pub(crate) fn table(&self, table: &str) -> PathBuf {
        self.root.join(table)
    }

    pub(crate) fn parquet(&self, table: &str, sequence: u64) -> PathBuf {
        self.root.join(format!("{table}/{sequence:010}.parquet"))
    }

    /// What becomes that file; nobody's pattern takes it for one.
    pub(crate) fn temporary(&self, table: &str, sequence: u64) -> PathBuf {
        self.root.join(format!("{table}/.{sequence:010}.temporary"))
    }

    /// Segments that are journals, in order.
    pub(crate) fn journal_segments(&self) -> Result<Vec<u64>, RecordingError> {
        segments(&self.journals(), "journal")
    }

    /// Segments that have rows in a table, in order.
    pub(crate) fn parquet_segments(&self, table: &str) -> Result<Vec<u64>, RecordingError> {
        segments(&self.table(table), "parquet")
    }

    /// Removes what a killed recorder left half written.
    pub(crate) fn remove_temporaries(&self) -> Result<(), RecordingError> {
        for table in TABLES {
            let directory = self.table(table);
            for name in names(&directory)? {
                if name.starts_with('.') && name.ends_with(".temporary") {
                    let path = directory.join(name);
                    fs::remove_file(&path).map_err(RecordingError::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }
}

fn segments(directory: &Path, extension: &str) -> Result<Vec<u64>, RecordingError> {
    let number = |name: &String| -> Option<u64> {
        let (stem, found) = name.split_once('.')?;
        let number = stem.parse().ok().filter(|_| found == extension)?;
        // Under any other name it would not be found again.
        (format!("{number:010}") == stem).then_some(number)
    };
    let mut segments: Vec<u64> = names(directory)?.iter().filter_map(number).collect();
    segments.sort_unstable();
    Ok(segments)
}

fn names(directory: &Path) -> Result<Vec<String>, RecordingError> {
    let list = || -> io::Result<Vec<String>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    match list() {
        // A table that an earlier version does not have.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(RecordingError::io("list", directory)),
    }
}

/// Makes the directory of a recording, with those above it: not for everybody, as it tells what everybody's processes did.
pub(crate) fn make_root(path: &Path) -> Result<(), RecordingError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o750).create(path).map_err(RecordingError::io("create", path))
}

/// Makes a directory within a recording. A link in its place is refused: others may have put it there.
fn make_directory(path: &Path) -> Result<(), RecordingError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is no directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::create_dir(path),
        Err(error) => Err(error),
    }
    .map_err(RecordingError::io("create", path))
}

/// Opens a file of a recording for reading. What stands there in its place, such as a pipe that nobody writes to, is an error.
pub(crate) fn open_file(path: &Path) -> Result<File, RecordingError> {
    let open = || {
        let flags = OFlags::NONBLOCK.bits() as i32;
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")),
        }
    };
    open().map_err(RecordingError::io("open", path))
}

/// Makes a file anew. What stands there is taken away and never followed: root may record in a directory where others can
/// put a link that leads elsewhere.
pub(crate) fn create_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}

/// Makes names that were given or taken away last through a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), RecordingError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(RecordingError::io("sync", path))
}
