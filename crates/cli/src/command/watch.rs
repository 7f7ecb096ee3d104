//! `sockeye watch`: a line per interval.

use std::io::Write;

use anyhow::{Context as _, ensure};
use sockeye_core::SortKey;

use crate::args::{StreamFormat, WatchArgs};
use crate::by::By;
use crate::fleet;
use crate::follow::{Follow, Tick, Told};
use crate::render::{watch_csv, watch_json, watch_table};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// Runs the command.
pub(crate) fn run(args: &WatchArgs) -> anyhow::Result<()> {
    let by = args.by;
    ensure!(
        by.is_none() || args.output.format() != StreamFormat::Csv,
        "groups have no columns of their own in CSV: use --by with -o jsonl"
    );
    if args.fleet.all_netns {
        return fleet::watch::run(args);
    }
    let pace = args.pace.pace(args.interval, args.count);
    let mut follow = Follow::open_with_owners(&args.feed, &pace, by.and_then(By::facet))?;
    let mut lines = Lines::new(args);
    let mut told = Told::default();
    let mut out = buffered_stdout();
    while let Some(tick) = follow.next_by(by)? {
        tick.report.sort_by(SortKey::Occupancy);
        // In JSON they are part of the line.
        if !matches!(lines, Lines::Json { .. }) {
            told.tell(tick.notes);
            told.tell_stuck(&tick.report.warnings);
        }
        let line = lines.render(&tick)?;
        if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
            ignore_closed_pipe(Err(error)).context("writing to standard output")?;
            // Whoever read had enough.
            break;
        }
    }
    follow.finish()
}

/// What a tick becomes.
enum Lines {
    Table(watch_table::Table),
    Groups { top: usize, width: Option<usize>, palette: Palette },
    Json { top: usize },
    Csv { header: bool },
}

impl Lines {
    fn new(args: &WatchArgs) -> Lines {
        match args.output.format() {
            StreamFormat::Table if args.by.is_some() => Lines::Groups {
                top: args.top,
                width: terminal::width(),
                palette: Palette::choose(args.color.when),
            },
            StreamFormat::Table => Lines::Table(watch_table::Table::new(
                !args.output.no_header,
                terminal::width(),
                terminal::height(),
                Palette::choose(args.color.when),
            )),
            StreamFormat::Jsonl => Lines::Json { top: args.top },
            StreamFormat::Csv => Lines::Csv { header: !args.output.no_header },
        }
    }

    fn render(&mut self, tick: &Tick<'_>) -> anyhow::Result<String> {
        Ok(match self {
            Lines::Table(table) => table.line(tick),
            Lines::Groups { top, width, palette } => watch_table::groups(tick, *top, *width, *palette),
            Lines::Json { top } => watch_json::line(tick, None, *top)?,
            Lines::Csv { header } => watch_csv::line(tick, std::mem::take(header)),
        })
    }
}
