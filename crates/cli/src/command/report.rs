//! `sockeye report`: a period of a recording, on the screen, as JSON, as a page.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use sockeye_recording::{Progress, Recording, Time};

use crate::args::{ReportArgs, ReportFormat};
use crate::history::default_directory;
use crate::history::reading::Folding;
use crate::instant::Instant;
use crate::render::report_view::{ReportView, minute};
use crate::render::{report_html, report_json, report_screen};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// Width of a report that is not for a terminal.
const PLAIN_WIDTH: usize = 100;

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let directory = args.recording.clone().unwrap_or_else(default_directory);
    let recording = Recording::open(&directory).with_context(|| match args.recording {
        Some(_) => "nothing to report".to_owned(),
        None => "nothing was recorded here yet: `sockeye record` does, or name a directory".to_owned(),
    })?;
    let Some([first, last]) = recording.span()? else {
        bail!("{} holds no tick yet", directory.display());
    };
    let now = Timestamp::now();
    let typed = |instant: Option<Instant>| {
        instant.map(|instant| Time(u64::try_from(instant.resolve(now).as_millisecond()).unwrap_or(0)))
    };
    let begin = typed(args.begin).unwrap_or(first);
    let end = typed(args.end).unwrap_or(Time(last.0 + 1));
    let recorded = || {
        let [first, last] = [first, last].map(|at| minute(sockeye_core::Moment(at.0)));
        format!("what was recorded is from {first} to {last} UTC")
    };
    if begin >= end {
        bail!("--begin is not before --end; {}", recorded());
    }
    if begin > last || end <= first {
        bail!("nothing was recorded then: {}", recorded());
    }
    let mut folding = Folding::new(begin, end, args.by.by());
    let bar = bar();
    let reading = recording.read([begin, end], &mut folding, |Progress { done, all }| {
        bar.set_length(all);
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let notes = folding.notes(&reading);
    let view =
        ReportView::new(folding.period(), folding.origin(), &notes, args.top, |owner| folding.owner(owner));
    if let Some(path) = &args.html {
        fs::write(path, report_html::render(&view))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let text = match args.format() {
        ReportFormat::Json => report_json::render(&view)?,
        ReportFormat::Table => {
            let width = terminal::width().unwrap_or(PLAIN_WIDTH);
            report_screen::render(&view, width, Palette::choose(args.color.when))
        }
    };
    let mut out = buffered_stdout();
    ignore_closed_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
        .context("writing to standard output")
}

/// On a terminal only.
fn bar() -> ProgressBar {
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    match ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
