//! `sockeye snapshot --all-netns`: one look at every namespace.

use std::io::Write;
use std::time::Instant;

use anyhow::Context as _;
use sockeye_core::{Monitor, SortKey};
use sockeye_host::{FoundNamespace, Identity};

use super::muster::Muster;
use super::row::NamespaceRow;
use super::shared::{Arrivals, SharedWhose};
use crate::args::{FeedArgs, ReportFormat, SnapshotArgs};
use crate::by::{Books, By, Row, rows_of_all};
use crate::command::snapshot::{observe, seek, told_once};
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
    /// Connections of all, grouped as was asked for; and how many groups are shown.
    pub(crate) groups: Option<(By, Vec<Row>)>,
    pub(crate) top: usize,
}

/// One of them: what is shown of it, for whole reports of a thousand would not fit.
pub(crate) struct Look {
    pub(crate) row: NamespaceRow,
    /// What an operator should know, worst first.
    pub(crate) warnings: Vec<String>,
    /// Its snapshot, if the output is JSON.
    pub(crate) json: Option<String>,
    /// What is grouped, where that is asked for.
    pub(crate) monitor: Option<Monitor>,
}

/// Runs the command.
pub(crate) fn run(args: &SnapshotArgs, key: SortKey) -> anyhow::Result<()> {
    let started = Instant::now();
    let muster = Muster::call()?;
    let whose = args.by.and_then(By::facet).map(SharedWhose::new);
    let visited = muster.visit(|found| look(found, args, key, whose.as_ref()))?;
    let mut notes = muster.notes(&visited);
    let mut looks: Vec<Look> = visited.into_iter().flatten().collect();
    looks.sort_by(|a, b| a.row.compare(&b.row, args.sort));
    let groups = args.by.map(|by| (by, grouped(by, &mut looks, whose.as_ref())));
    notes.extend(whose.iter().flat_map(|whose| whose.lock().notes()));
    let survey = Survey {
        host: Identity::read(),
        taken_at: jiff::Timestamp::now(),
        duration_ms: started.elapsed().as_secs_f64() * 1000.0,
        looks,
        notes,
        groups,
        top: args.top.unwrap_or(match args.output.format() {
            ReportFormat::Json => usize::MAX,
            ReportFormat::Table => namespaces_screen::DEFAULT_TOP,
        }),
    };
    let text = match args.output.format() {
        ReportFormat::Json => namespaces_json::render(&survey)?,
        ReportFormat::Table => {
            let width = terminal::width().unwrap_or(snapshot_screen::DEFAULT_WIDTH);
            namespaces_screen::render(&survey, width, Palette::choose(args.color.when))
        }
    };
    let mut out = buffered_stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ignore_closed_pipe(written).context("writing to standard output")
}

/// The rows of all, once their owners are found.
fn grouped(by: By, looks: &mut [Look], whose: Option<&SharedWhose>) -> Vec<Row> {
    let mut whose = whose.map(SharedWhose::lock);
    if let Some(whose) = &mut whose {
        let mut monitors: Vec<&mut Monitor> =
            looks.iter_mut().filter_map(|look| look.monitor.as_mut()).collect();
        seek(whose, monitors.as_mut_slice());
    }
    let books =
        looks.iter().filter_map(|look| Some(Books::of_found(&look.row.found, look.monitor.as_ref()?)));
    rows_of_all(by, &books.collect::<Vec<_>>(), whose.as_deref())
}

/// On a thread that is there.
fn look(
    found: &FoundNamespace,
    args: &SnapshotArgs,
    key: SortKey,
    whose: Option<&SharedWhose>,
) -> anyhow::Result<Look> {
    let mut feed = Feed::open(&FeedArgs::default())?;
    let (mut report, notes, monitor) = match args.by {
        None => {
            let (report, notes) = sweep(&mut feed)?;
            (report, notes, None)
        }
        Some(_) => {
            let mut arrivals = whose.cloned().map(Arrivals::new);
            let (mut monitor, notes) = observe(&mut feed, |monitor, record, is_new| {
                if let (true, Some(arrivals)) = (is_new, &mut arrivals) {
                    arrivals.meet(monitor, record);
                }
            })?;
            if let Some(arrivals) = &mut arrivals {
                arrivals.end(&mut monitor);
            }
            (told_once(&mut monitor), notes, Some(monitor))
        }
    };
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
    Ok(Look { row: NamespaceRow::of(found, &report), warnings, json, monitor })
}
