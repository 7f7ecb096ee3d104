//! The recorder: who appends to a recording, rolls its journals and keeps it within its limits.

use std::fs::{File, Metadata};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::error::RecordingError;
use crate::frame::Torn;
use crate::journal::Journal;
use crate::layout::{Layout, TABLES, make_root};
use crate::retention::enforce;
use crate::roll::{Rolled, roll};
use crate::rows::{Rows, Time};

/// Whoever holds its lock records.
const LOCK: &str = "lock";
/// What a power cut may cost at the most.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// Rows of a frame at the most: what takes more is cut into several.
const FRAME_ROWS: usize = 1 << 16;
/// No recorder gets so far, one segment after another.
const MOST_SEQUENCE: u64 = 1 << 50;

/// How much is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Segments whose last tick is older are deleted; None: none for their age. Milliseconds.
    pub keep_ms: Option<u64>,
    /// The oldest segments are deleted beyond so many bytes, journals included; None: no limit.
    pub max_bytes: Option<u64>,
    /// A journal is rolled when it has so many bytes: an eighth of `max_bytes` is plenty.
    pub segment_bytes: u64,
    /// … or so many milliseconds are between its first tick and its last.
    pub segment_ms: u64,
}

impl Default for Limits {
    /// Everything is kept, in segments of an hour or 64 MiB.
    fn default() -> Limits {
        Limits { keep_ms: None, max_bytes: None, segment_bytes: 64 << 20, segment_ms: 3_600_000 }
    }
}

/// What an earlier recorder had left in its journals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Resumed {
    /// Journals that it had not rolled.
    pub journals: u64,
    /// Rows in them.
    pub rows: u64,
    /// What could not be read.
    pub torn: Torn,
}

/// Appends to a recording. There is one at a time: it holds a lock as long as it lives.
pub struct Recorder {
    layout: Layout,
    limits: Limits,
    journal: Journal,
    /// Of the first rows in the journal.
    began: Option<Time>,
    /// Of the last rows, as far as it is believed: by it segments are too old.
    last: Time,
    synced: Instant,
    rolling: Option<JoinHandle<Result<Rolled, RecordingError>>>,
    spare: Rows,
    lock: File,
}

impl Recorder {
    /// Begins to record in a directory, which is made if it is not there, or goes on in one. What a killed recorder left
    /// there is rolled first: a second or two for a full journal.
    ///
    /// # Errors
    /// [`InUse`](RecordingError::InUse) when another recorder is there, [`NotARecording`](RecordingError::NotARecording)
    /// when the directory holds something else, [`Newer`](RecordingError::Newer), and what system calls answer.
    pub fn open(root: &Path, limits: Limits) -> Result<(Recorder, Resumed), RecordingError> {
        make_root(root)?;
        refuse_others(root)?;
        let lock = lock(root)?;
        let layout = Layout::create(root)?;
        layout.remove_temporaries()?;
        let mut resumed = Resumed::default();
        let mut next = 0;
        for table in TABLES {
            next = next.max(layout.parquet_segments(table)?.last().map_or(0, |last| last.saturating_add(1)));
        }
        for sequence in layout.journal_segments()? {
            let rolled = roll(&layout, sequence)?;
            resumed.journals += 1;
            resumed.rows += rolled.rows;
            resumed.torn.frames += rolled.torn.frames;
            resumed.torn.tail_bytes += rolled.torn.tail_bytes;
            next = next.max(sequence.saturating_add(1));
        }
        if next > MOST_SEQUENCE {
            let why = "the number of a file in it is larger than that of any segment";
            return Err(RecordingError::NotARecording { path: root.to_owned(), why });
        }
        // Whoever is killed before each first segment ends gets no other occasion. How late it is, is not known yet.
        enforce(&layout, &limits, Time(0))?;
        let journal = Journal::create(&layout, next)?;
        let recorder = Recorder {
            layout,
            limits,
            journal,
            began: None,
            last: Time(0),
            synced: Instant::now(),
            rolling: None,
            spare: Rows::default(),
            lock,
        };
        Ok((recorder, resumed))
    }

    /// Appends what a tick brought, at this time: one write, in which there is no file system call but that. When it is
    /// time, the journal is handed to a thread that rolls it. Every five seconds it waits for the disk.
    ///
    /// # Errors
    /// What writing answers, and what rolling had answered meanwhile. All rows that were appended before stay readable; after
    /// any error, parts of a large tick may be in the journal already: appending it again would double them.
    pub fn append(&mut self, at: Time, rows: &mut Rows) -> Result<(), RecordingError> {
        if self.rolling.as_ref().is_some_and(JoinHandle::is_finished) {
            self.end_rolling()?;
        }
        self.append_parts(rows)?;
        if !rows.is_empty() {
            self.journal.append(rows)?;
        }
        let began = *self.began.get_or_insert(at);
        // A clock that is set forward for a moment must not make all that is kept too old.
        self.last = at.min(Time(began.0.saturating_add(self.limits.segment_ms)));
        if self.synced.elapsed() >= SYNC_INTERVAL {
            self.journal.sync()?;
            self.synced = Instant::now();
        }
        let is_long = at.0.abs_diff(began.0) >= self.limits.segment_ms;
        if !self.journal.is_empty() && (is_long || self.journal.bytes() >= self.limits.segment_bytes) {
            self.roll_journal()?;
        }
        Ok(())
    }

    /// Appends destinations and connections until so few are left that they fit with the rest.
    fn append_parts(&mut self, rows: &mut Rows) -> Result<(), RecordingError> {
        while rows.destinations.len() > FRAME_ROWS {
            self.spare.clear();
            self.spare.destinations.extend(rows.destinations.drain(..FRAME_ROWS));
            self.journal.append(&self.spare)?;
        }
        while rows.connections.len() > FRAME_ROWS {
            self.spare.clear();
            self.spare.connections.extend(rows.connections.drain(..FRAME_ROWS));
            self.journal.append(&self.spare)?;
        }
        Ok(())
    }

    fn roll_journal(&mut self) -> Result<(), RecordingError> {
        // One at a time: whoever records faster than it can be rolled waits.
        self.end_rolling()?;
        self.check_lock()?;
        let sequence = self.journal.sequence();
        self.journal.sync()?;
        self.journal = Journal::create(&self.layout, sequence + 1)?;
        self.began = None;
        let (layout, limits, now) = (self.layout.clone(), self.limits, self.last);
        let rolling = std::thread::Builder::new().name("roll".to_owned()).spawn(move || {
            let rolled = roll(&layout, sequence)?;
            enforce(&layout, &limits, now)?;
            Ok(rolled)
        });
        self.rolling = Some(rolling.map_err(RecordingError::io("start a thread for", self.layout.root()))?);
        Ok(())
    }

    /// Whoever deletes the lock lets a second recorder in: it has the recording from then on.
    fn check_lock(&self) -> Result<(), RecordingError> {
        let path = self.layout.root().join(LOCK);
        let id = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let ours = self.lock.metadata().map(id).map_err(RecordingError::io("look at", &path))?;
        match std::fs::symlink_metadata(&path).map(id) {
            Ok(there) if there == ours => Ok(()),
            _ => Err(RecordingError::LostLock { path }),
        }
    }

    fn end_rolling(&mut self) -> Result<(), RecordingError> {
        match self.rolling.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(_))) => Ok(()),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(_)) => Err(RecordingError::Encode { why: "the thread that rolls ended".to_owned() }),
        }
    }

    /// Whether the next rows are the first of a segment: what holds for long had better be told again then, as segments are
    /// deleted one by one.
    pub const fn begins_segment(&self) -> bool {
        self.journal.is_empty()
    }

    /// Bytes of the journal that is written.
    pub const fn journal_bytes(&self) -> u64 {
        self.journal.bytes()
    }

    /// Ends: rolls what there is, and waits until it is done. Without this nothing is lost, but the last stretch stays a
    /// journal until somebody records there again.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn finish(mut self) -> Result<(), RecordingError> {
        self.end_rolling()?;
        self.check_lock()?;
        self.journal.sync()?;
        roll(&self.layout, self.journal.sequence())?;
        enforce(&self.layout, &self.limits, self.last)?;
        Ok(())
    }
}

/// A directory that has files but no marker is somebody else's, or was being made when its recorder was killed.
fn refuse_others(root: &Path) -> Result<(), RecordingError> {
    let entries = std::fs::read_dir(root).map_err(RecordingError::io("list", root))?;
    let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let ours = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name == LOCK
            || name == "journal"
            || name.ends_with("sockeye-recording.json")
            || TABLES.contains(&&*name)
    };
    let has_marker = names.iter().any(|name| name == "sockeye-recording.json");
    match has_marker || names.iter().all(ours) {
        // In one of a newer sockeye, nothing is made.
        true if has_marker => Layout::open(root).map(drop),
        true => Ok(()),
        false => Err(RecordingError::NotARecording {
            path: root.to_owned(),
            why: "it holds other files; choose a directory that is empty or not there yet",
        }),
    }
}

fn lock(root: &Path) -> Result<File, RecordingError> {
    let path = root.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        // Others may have put a link here that leads elsewhere, or a pipe.
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
        .open(&path)
        .map_err(RecordingError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(RecordingError::InUse { path: root.to_owned() }),
        Err(error) => Err(RecordingError::io("lock", &path)(error.into())),
    }
}
