//! `sockeye lifetimes`: how long connections live, from a watch of some seconds.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use sockeye_core::{Closed, Group, GroupLifetimes, LifetimeReport, LifetimesBy};

use crate::args::{LifetimesArgs, ReportFormat};
use crate::by::{self, By};
use crate::follow::{Follow, Pace};
use crate::render::lifetimes_hlog::IntervalLog;
use crate::render::{lifetimes_json, lifetimes_table};
use crate::sweep::Note;
use crate::terminal::{self, Harmless, Palette, buffered_stdout, ignore_closed_pipe};

/// How long to look where nothing else is asked for.
const DEFAULT: Duration = Duration::from_secs(10);

/// From this share of connections without a known end on, percentiles of the completed ones mislead.
const MANY: f64 = 0.1;

/// Runs the command.
pub(crate) fn run(args: &LifetimesArgs) -> anyhow::Result<()> {
    let pace = args.pace.pace(args.interval, None);
    // A replay goes on to its end.
    let for_ = pace.for_.or(args.feed.replay.is_none().then_some(DEFAULT));
    let pace = Pace { for_, ..pace };
    // Before a signal is a wish to end: a FIFO keeps us here until somebody reads it.
    let log = args.hlog.as_deref().map(|path| open_log(path).map(|file| (path, file))).transpose()?;
    let by = args.by;
    let facet = by.and_then(By::facet);
    let mut follow = Follow::open_with_owners(&args.feed, &pace, facet)?;
    follow.monitor().keep_lifetimes(match by {
        Some(By::Owner | By::Cgroup | By::User) => LifetimesBy::Owner,
        Some(By::PortOrigin) => LifetimesBy::PortOrigin,
        Some(By::Destination | By::Listener | By::Netns) | None => LifetimesBy::Ends,
    });
    let mut log = log.map(|(path, file)| LogFile::begin(path, file, &follow)).transpose()?;
    if log.is_some() {
        follow.keep_closed();
    }
    if args.feed.replay.is_none() && io::stderr().is_terminal() {
        let seconds = pace.for_.unwrap_or(DEFAULT).as_secs_f64();
        let _ = writeln!(io::stderr(), "sockeye: watching for {seconds} s; Ctrl-C ends it early");
    }
    while let Some(tick) = follow.next()? {
        let at = tick.at;
        if let Some(log) = &mut log {
            log.interval(&follow.ended(), at)?;
        }
    }
    let rest = follow.ended();
    if let Some(log) = log.as_mut().filter(|_| !rest.is_empty()) {
        log.interval(&rest, follow.timestamp(follow.now()))?;
    }
    let text = render(args, &mut follow)?;
    let mut out = buffered_stdout();
    ignore_closed_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
        .context("writing to standard output")?;
    follow.finish()
}

fn render(args: &LifetimesArgs, follow: &mut Follow) -> anyhow::Result<String> {
    let now = follow.now();
    let churn = follow.monitor().tick(now).churn.clone().unwrap_or_default();
    let mut report = follow.monitor().lifetimes(now).context("lifetimes are not kept")?;
    match args.by {
        // There is one.
        Some(By::Netns) => report.groups = vec![report.total.clone()],
        Some(by) => report.groups.retain(|group| is_by(group, by)),
        None => {}
    }
    let mut notes: Vec<Note> =
        follow.notes().iter().map(|note| Note { id: note.id, message: note.message.clone() }).collect();
    notes.extend(censored(&report));
    let by = args.by.unwrap_or(By::Destination);
    let name = |group: Group| match by {
        By::Netns => follow.books().named(),
        _ => by::named(group, by, follow.whose()),
    };
    match args.output.format() {
        ReportFormat::Json => {
            let at = follow.timestamp(now);
            let top = args.top.unwrap_or(usize::MAX);
            lifetimes_json::render(&report, &churn, &notes, at, top, |group| name(group).0)
        }
        ReportFormat::Table => Ok(lifetimes_table::render(
            &report,
            &churn,
            &notes,
            args.top.unwrap_or(10),
            terminal::width(),
            Palette::choose(args.color.when),
            |group| name(group).1,
        )),
    }
}

fn is_by(group: &GroupLifetimes, by: By) -> bool {
    match group.group {
        Some(Group::Destination(_)) => by == By::Destination,
        Some(Group::Listener(_)) => by == By::Listener,
        Some(Group::Owner(_) | Group::PortOrigin(_)) => true,
        Some(Group::Other) | None => by.facet().is_some() || by == By::PortOrigin,
    }
}

/// Says so when many connections outlived what was watched.
fn censored(report: &LifetimeReport) -> Option<Note> {
    let total = &report.total;
    let share = (total.open + total.older) as f64 / total.connections().max(1) as f64;
    (share >= MANY).then(|| Note {
        id: "lifetimes_censored",
        message: format!(
            "{:.0} % of the connections are still open or began before the watch: those that completed are the brief \
             ones. Kaplan–Meier counts all; look longer (--for) to see more of them end.",
            share * 100.0
        ),
    })
}

/// Opens an interval log, and leaves what is in it until there is something to write.
fn open_log(path: &Path) -> anyhow::Result<File> {
    let mut how = File::options();
    how.write(true).create(true).truncate(false);
    how.open(path).with_context(|| format!("cannot create {}", named(path)))
}

/// An interval log that grows while it is written, under its own name from the start: whoever follows the file reads what
/// there is, and a watch that is killed leaves whole lines behind.
struct LogFile<'a> {
    file: File,
    path: &'a Path,
    log: IntervalLog,
}

impl<'a> LogFile<'a> {
    fn begin(path: &'a Path, file: File, follow: &Follow) -> anyhow::Result<LogFile<'a>> {
        // A device or a FIFO has no length to cut.
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            file.set_len(0).with_context(|| format!("cannot write {}", named(path)))?;
        }
        let log = IntervalLog::new(follow.timestamp(follow.now()));
        let mut log_file = LogFile { file, path, log };
        let header = log_file.log.header();
        log_file.write(header.as_bytes())?;
        Ok(log_file)
    }

    fn interval(&mut self, closed: &[Closed], to: jiff::Timestamp) -> anyhow::Result<()> {
        let lines = self.log.interval(closed, to)?;
        self.write(&lines)
    }

    /// All lines at once: none is ever half there.
    fn write(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(lines).with_context(|| format!("cannot write {}", named(self.path)))
    }
}

fn named(path: &Path) -> String {
    Harmless(&path.to_string_lossy()).to_string()
}
