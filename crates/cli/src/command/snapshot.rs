//! `sockeye snapshot`, and `sockeye` alone: one sweep, folded into one report.

use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sock_diag::SocketRecord;
use sockeye_core::{Moment, Monitor, Report, SortKey};

use crate::args::{ReportFormat, SnapshotArgs, SortBy};
use crate::by::{self, Books, By, Row};
use crate::feed::Feed;
use crate::fleet;
use crate::render::{snapshot_json, snapshot_screen};
use crate::stuck::{self, Ages};
use crate::sweep::{Note, Told, sweep, sweep_each};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};
use crate::whose::{Keepers, Whose};

/// Runs the command.
pub(crate) fn run(args: &SnapshotArgs) -> anyhow::Result<()> {
    if args.fleet.all_netns {
        return fleet::snapshot::run(args, sort_key(args.sort));
    }
    let mut feed = Feed::open(&args.feed)?;
    let (mut report, notes, groups) = match args.by {
        None => {
            let (mut report, notes) = sweep(&mut feed)?;
            let ages = Ages::ask(&mut feed, &report);
            feed.end_sweep()?;
            stuck::tell(&mut feed, &mut report, &ages);
            (report, notes, None)
        }
        Some(by) => {
            let (report, notes, rows) = look_by(&mut feed, by)?;
            (report, notes, Some((by, rows)))
        }
    };
    let groups = groups.as_ref().map(|(by, rows)| (*by, rows.as_slice()));
    report.forecast(&feed.surroundings().core_settings());
    report.sort_by(sort_key(args.sort));
    let text = match args.output.format() {
        ReportFormat::Json => {
            let top = args.top.unwrap_or(usize::MAX);
            snapshot_json::render(&report, feed.surroundings(), &notes, top, groups)?
        }
        ReportFormat::Table => {
            let palette = Palette::choose(args.color.when);
            let width = terminal::width().unwrap_or(snapshot_screen::DEFAULT_WIDTH);
            let top = args.top.unwrap_or(snapshot_screen::DEFAULT_TOP);
            snapshot_screen::render(&report, feed.surroundings(), &notes, top, groups, width, palette)
        }
    };
    let mut out = buffered_stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    ignore_closed_pipe(written).context("writing to standard output")?;
    feed.finish()
}

/// Owners are sought so long at most.
const SEARCH: Duration = Duration::from_secs(10);

/// One look at everything by a Monitor, which tells whose each connection is.
fn look_by(feed: &mut Feed, by: By) -> anyhow::Result<(Report, Vec<Note>, Vec<Row>)> {
    let is_live = feed.sweeps().is_none();
    let mut whose = by.facet().map(|facet| Whose::new(facet, is_live));
    let (mut monitor, mut notes) = observe(feed, |monitor, record, is_new| {
        if let Some(whose) = &mut whose {
            whose.see(monitor, record, is_new);
        }
    })?;
    let ages = Ages::ask(feed, monitor.report_mut());
    feed.end_sweep()?;
    if let Some(whose) = &mut whose {
        seek(whose, &mut monitor);
    }
    let mut report = told_once(&mut monitor);
    stuck::tell(feed, &mut report, &ages);
    notes.extend(whose.iter().flat_map(Whose::notes));
    let rows = by::rows(by, &Books::of(feed.surroundings(), &monitor), whose.as_ref());
    Ok((report, notes, rows))
}

/// One sweep, by a Monitor; `meet` is told of each record behind it, and whether it begins to be followed.
pub(crate) fn observe(
    feed: &mut Feed,
    mut meet: impl FnMut(&mut Monitor, &SocketRecord, bool),
) -> anyhow::Result<(Monitor, Vec<Note>)> {
    let (settings, counters) = (feed.surroundings().core_settings(), feed.surroundings().core_counters());
    let mut monitor = Monitor::new(&settings, &counters, Moment(0), false);
    monitor.begin_sweep(Moment(0));
    let notes = sweep_each(feed, |told| match told {
        Told::Record(record) => {
            let is_new = monitor.observe(record);
            meet(&mut monitor, record, is_new);
        }
        Told::BoundByNumber(cookie, port) => monitor.observe_bound(cookie, port),
    })?;
    // Whose they are takes longer, and changes no number of the report.
    monitor.end_sweep(Moment(0), &counters);
    Ok((monitor, notes))
}

/// Looks for all owners, as long as it may take.
pub(crate) fn seek(whose: &mut Whose, keepers: &mut (impl Keepers + ?Sized)) {
    let begin = Instant::now();
    while whose.work(keepers, STEP) && begin.elapsed() <= SEARCH {}
}

/// The report of a single look, which knows no rates.
pub(crate) fn told_once(monitor: &mut Monitor) -> Report {
    let mut report = monitor.tick(Moment(0)).clone();
    report.churn = None;
    report.destinations.iter_mut().for_each(|destination| destination.rates = None);
    report
}

/// From one look at the clock to the next.
const STEP: Duration = Duration::from_millis(100);

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
