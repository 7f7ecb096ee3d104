//! `sockeye snapshot`, and `sockeye` alone: one sweep, folded into one report.

use std::io::Write;

use anyhow::Context as _;
use sockeye_core::SortKey;

use crate::args::{ReportFormat, SnapshotArgs, SortBy};
use crate::feed::Feed;
use crate::render::{snapshot_json, snapshot_screen};
use crate::sweep::sweep;
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// Runs the command.
pub(crate) fn run(args: &SnapshotArgs) -> anyhow::Result<()> {
    let mut feed = Feed::open(&args.feed)?;
    let (mut report, notes) = sweep(&mut feed)?;
    feed.end_sweep()?;
    report.forecast(&feed.surroundings().core_settings());
    report.sort_by(sort_key(args.sort));
    let text = match args.output.format() {
        ReportFormat::Json => {
            let top = args.top.unwrap_or(usize::MAX);
            snapshot_json::render(&report, feed.surroundings(), &notes, top)?
        }
        ReportFormat::Table => {
            let palette = Palette::choose(args.color.when);
            let width = terminal::width().unwrap_or(snapshot_screen::DEFAULT_WIDTH);
            let top = args.top.unwrap_or(snapshot_screen::DEFAULT_TOP);
            snapshot_screen::render(&report, feed.surroundings(), &notes, top, width, palette)
        }
    };
    let mut out = buffered_stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ignore_closed_pipe(written).context("writing to standard output")?;
    feed.finish()
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
