//! `sockeye snapshot`, and `sockeye` alone: one sweep, folded into one report.

use std::io::Write;
use std::ops::ControlFlow;

use anyhow::Context as _;
use sock_diag::{DumpRequest, DumpSummary, Protocol, SocketState, StateSet};
use sockeye_core::{Report, SortKey, Sweep};

use crate::args::{SnapshotArgs, SnapshotFormat, SortBy};
use crate::explain;
use crate::feed::Feed;
use crate::render::{snapshot_json, snapshot_screen};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// Runs the command.
pub(crate) fn run(args: &SnapshotArgs) -> anyhow::Result<()> {
    let mut feed = Feed::open(&args.feed)?;
    let (mut report, notes) = sweep(&mut feed)?;
    feed.end_sweep()?;
    report.sort_by(sort_key(args.sort));
    let format = if args.json { SnapshotFormat::Json } else { args.output.unwrap_or(SnapshotFormat::Table) };
    let text = match format {
        SnapshotFormat::Json => snapshot_json::render(&report, feed.surroundings(), &notes, args.top)?,
        SnapshotFormat::Table => {
            let palette = Palette::choose(args.color);
            let width = terminal::width().unwrap_or(snapshot_screen::DEFAULT_WIDTH);
            snapshot_screen::render(&report, feed.surroundings(), &notes, args.top, width, palette)
        }
    };
    let mut out = buffered_stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ignore_closed_pipe(written).context("writing to standard output")?;
    feed.finish()
}

/// Reads everything once. What one protocol's failure leaves out becomes a note; without TCP there is no report.
fn sweep(feed: &mut Feed) -> anyhow::Result<(Report, Vec<Note>)> {
    // What holds a port comes first, in dumps that never visit the established hash; core then spends no memory
    // on the connections of listeners. Bound-idle sockets are a walk of the bind hash.
    let holders = StateSet::LISTEN.union(StateSet::BOUND_INACTIVE);
    let closed = StateSet::of(&[SocketState::Close]);
    let parts = [
        (Protocol::Tcp, holders),
        (Protocol::Tcp, StateSet::ALL.minus(holders).minus(closed)),
        (Protocol::Udp, StateSet::ALL.minus(holders)),
    ];
    let mut sweep = Sweep::new(&feed.surroundings().core_settings());
    let mut notes = Vec::new();
    for (protocol, states) in parts {
        let request = DumpRequest::all(protocol).states(states);
        let dumped = feed.dump(&request, |diag| {
            sweep.observe(&diag.to_record());
            ControlFlow::Continue(())
        });
        match dumped {
            Ok(summary) => note_doubts(&mut sweep, &summary),
            Err(error) if protocol == Protocol::Tcp => return Err(explain::dump(protocol, error)),
            Err(error) => notes.push(Note {
                id: "protocol_unreadable",
                message: format!("{:#}", explain::dump(protocol, error)),
            }),
        }
    }
    notes
        .extend(feed.surroundings().unread.iter().map(|why| Note { id: "unreadable", message: why.clone() }));
    Ok((sweep.finish(&feed.surroundings().core_counters()), notes))
}

/// Something to tell beside core's warnings: what could not be read.
pub(crate) struct Note {
    pub(crate) id: &'static str,
    pub(crate) message: String,
}

fn note_doubts(sweep: &mut Sweep, summary: &DumpSummary) {
    if summary.interrupted {
        sweep.note_interrupted();
    }
    sweep.note_malformed(summary.malformed);
}

fn sort_key(sort: SortBy) -> SortKey {
    match sort {
        SortBy::Occupancy => SortKey::Occupancy,
        SortBy::InUse => SortKey::InUse,
        SortBy::Live => SortKey::Live,
        SortBy::TimeWait => SortKey::TimeWait,
        SortBy::Closes => SortKey::Closes,
        SortBy::Headroom => SortKey::Headroom,
    }
}
