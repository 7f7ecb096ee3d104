//! `sockeye snapshot --all-netns`: one look at every namespace.

use std::io::Write;
use std::time::Instant;

use anyhow::Context as _;
use sockeye_core::SortKey;
use sockeye_host::{FoundNamespace, Identity};

use super::muster::Muster;
use super::row::NamespaceRow;
use crate::args::{FeedArgs, ReportFormat, SnapshotArgs};
use crate::feed::Feed;
use crate::render::{namespaces_json, namespaces_screen, snapshot_screen};
use crate::stuck::{self, Ages};
use crate::sweep::{Note, sweep};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// All namespaces at one time, worst first.
pub(crate) struct Survey {
    pub(crate) host: Identity,
    pub(crate) taken_at: jiff::Timestamp,
    pub(crate) duration_ms: f64,
    pub(crate) looks: Vec<Look>,
    /// What is not told of any one of them.
    pub(crate) notes: Vec<Note>,
}

/// One of them: what is shown of it, for whole reports of a thousand would not fit.
pub(crate) struct Look {
    pub(crate) row: NamespaceRow,
    /// What an operator should know, worst first.
    pub(crate) warnings: Vec<String>,
    /// Its snapshot, if the output is JSON.
    pub(crate) json: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &SnapshotArgs, key: SortKey) -> anyhow::Result<()> {
    let started = Instant::now();
    let muster = Muster::call()?;
    let visited = muster.visit(|found| look(found, args, key))?;
    let notes = muster.notes(&visited);
    let mut looks: Vec<Look> = visited.into_iter().flatten().collect();
    looks.sort_by(|a, b| a.row.compare(&b.row, args.sort));
    let survey = Survey {
        host: Identity::read(),
        taken_at: jiff::Timestamp::now(),
        duration_ms: started.elapsed().as_secs_f64() * 1000.0,
        looks,
        notes,
    };
    let text = match args.output.format() {
        ReportFormat::Json => namespaces_json::render(&survey)?,
        ReportFormat::Table => {
            let width = terminal::width().unwrap_or(snapshot_screen::DEFAULT_WIDTH);
            let top = args.top.unwrap_or(namespaces_screen::DEFAULT_TOP);
            namespaces_screen::render(&survey, top, width, Palette::choose(args.color.when))
        }
    };
    let mut out = buffered_stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ignore_closed_pipe(written).context("writing to standard output")
}

/// On a thread that is there.
fn look(found: &FoundNamespace, args: &SnapshotArgs, key: SortKey) -> anyhow::Result<Look> {
    let mut feed = Feed::open(&FeedArgs::default())?;
    let (mut report, notes) = sweep(&mut feed)?;
    let ages = Ages::ask(&mut feed, &report);
    feed.end_sweep()?;
    stuck::tell(&mut feed, &mut report, &ages);
    report.forecast(&feed.surroundings().core_settings());
    report.sort_by(key);
    let json = match args.output.format() {
        ReportFormat::Table => None,
        ReportFormat::Json => {
            let top = args.top.unwrap_or(usize::MAX);
            Some(namespaces_json::one(found, &report, feed.surroundings(), &notes, top)?)
        }
    };
    let warnings = report.warnings.iter().map(ToString::to_string);
    let warnings = warnings.chain(notes.into_iter().map(|note| note.message)).collect();
    Ok(Look { row: NamespaceRow::of(found, &report), warnings, json })
}
