//! `sockeye record`: keeps the history of a namespace on disk.

use std::io::{self, Write as _};
use std::path::Path;

use anyhow::Context as _;
use sockeye_recording::{Limits, Recorder, RecordingError, Resumed};

use crate::args::RecordArgs;
use crate::follow::{Follow, Told};
use crate::history::default_directory;
use crate::history::writing::Scribe;
use crate::terminal::Harmless;
use crate::whose::Facet;

/// A journal is a fraction of what is kept, so that deleting whole segments does not delete most of it.
const SEGMENTS_KEPT: u64 = 16;

/// Runs the command.
pub(crate) fn run(args: &RecordArgs) -> anyhow::Result<()> {
    let directory = args.output.clone().unwrap_or_else(default_directory);
    let whole = Limits::default();
    let limits = Limits {
        keep_ms: Some(args.keep.as_millis() as u64),
        max_bytes: Some(args.max_size),
        segment_bytes: whole.segment_bytes.min(args.max_size / SEGMENTS_KEPT),
        segment_ms: whole.segment_ms.min(args.keep.as_millis() as u64 / SEGMENTS_KEPT).max(1),
    };
    let pace = args.pace.pace(args.interval, None);
    let open = || Follow::open_with_owners(&args.feed, &pace, Some(Facet::Process));
    // A capture that cannot be read makes no recording; and of the kernel nothing is asked for one that cannot be written.
    let replayed = args.feed.replay.is_some().then(open).transpose()?;
    let (mut recorder, resumed) = Recorder::open(&directory, limits)?;
    let mut follow = replayed.map_or_else(open, Ok)?;
    follow.keep_closed();
    tell_beginning(&directory, &resumed);
    let mut told = Told::default();
    let mut scribe = Scribe::new(&mut follow);
    while let Some(tick) = follow.next()? {
        told.tell(tick.notes);
        if recorder.begins_segment() {
            scribe.begin_segment();
        }
        let at = scribe.tick(&tick);
        let rows = scribe.rest(at, &mut follow);
        recorder.append(at, rows).map_err(|error| explained(error, &directory))?;
    }
    recorder.finish().map_err(|error| explained(error, &directory))?;
    follow.finish()
}

fn tell_beginning(directory: &Path, resumed: &Resumed) {
    let directory = directory.to_string_lossy();
    let directory = Harmless(&directory);
    let mut text = format!("sockeye: recording in {directory}; `sockeye report {directory}` reads it\n");
    if resumed.rows > 0 || resumed.torn != sockeye_recording::Torn::default() {
        text += &format!("sockeye: {} rows of an earlier recorder that was killed were kept", resumed.rows);
        if resumed.torn.tail_bytes > 0 {
            text += &format!("; {} bytes at the end of its journal were not whole", resumed.torn.tail_bytes);
        }
        if resumed.torn.frames > 0 {
            text += &format!("; {} ticks were damaged", resumed.torn.frames);
        }
        text.push('\n');
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

fn explained(error: RecordingError, directory: &Path) -> anyhow::Error {
    let is_full = error.is_full();
    let error = anyhow::Error::new(error);
    match is_full {
        true => Err::<(), _>(error)
            .with_context(|| {
                format!(
                    "the disk of {} is full: recording ends; what was recorded stays. Make space, or give it less with \
                     --max-size",
                    directory.display()
                )
            })
            .err()
            .unwrap_or_else(|| anyhow::anyhow!("the disk is full")),
        false => error,
    }
}
