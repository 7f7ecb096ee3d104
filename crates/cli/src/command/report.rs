//! `sockeye report`: a period of a recording, on the screen, as JSON, as a page.

use std::fs;
use std::io::Write as _;

use anyhow::Context as _;

use crate::args::{ReportArgs, ReportFormat};
use crate::history::default_directory;
use crate::history::past::{Asked, Past};
use crate::render::{report_html, report_json, report_screen};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// Width of a report that is not for a terminal.
const PLAIN_WIDTH: usize = 100;

/// Runs the command.
pub(crate) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let directory = args.recording.clone().unwrap_or_else(default_directory);
    let asked = Asked { begin: args.begin, end: args.end, by: args.by.by() };
    let past =
        Past::read(&directory, &asked).context("nothing to report (`sockeye record` keeps history)")?;
    let view = past.view(args.top);
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
