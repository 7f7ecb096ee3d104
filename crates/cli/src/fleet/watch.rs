//! `sockeye watch --all-netns`: per interval the sum of all namespaces and a line for each.

use std::io::Write;

use anyhow::Context as _;

use super::driver::{Fleet, FleetTick};
use crate::args::{StreamFormat, WatchArgs};
use crate::follow::Told;
use crate::render::netns_json::NetnsRow;
use crate::render::{watch_csv, watch_fleet, watch_json};
use crate::terminal::{self, Palette, buffered_stdout, ignore_closed_pipe};

/// Runs the command.
pub(crate) fn run(args: &WatchArgs) -> anyhow::Result<()> {
    let mut fleet = Fleet::open(&args.pace.pace(args.interval, args.count), args.by)?;
    let mut lines = Lines::new(args);
    let mut told = Told::default();
    let mut out = buffered_stdout();
    while let Some(tick) = fleet.next()? {
        // In JSON they are part of the lines.
        if !matches!(lines, Lines::Json { .. }) {
            told.tell(&tick.notes);
            tick.members.iter().for_each(|member| told.tell_of(member.found, member.tick.notes));
        }
        let text = lines.render(&tick)?;
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            // Whoever read had enough.
            return ignore_closed_pipe(Err(error)).context("writing to standard output");
        }
    }
    Ok(())
}

/// What a tick becomes.
enum Lines {
    Table(watch_fleet::Table),
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
            StreamFormat::Table => Lines::Table(watch_fleet::Table::new(
                !args.output.no_header,
                args.top,
                terminal::width(),
                terminal::height(),
                Palette::choose(args.color.when),
            )),
            StreamFormat::Jsonl => Lines::Json { top: args.top },
            StreamFormat::Csv => Lines::Csv { header: !args.output.no_header },
        }
    }

    fn render(&mut self, tick: &FleetTick<'_>) -> anyhow::Result<String> {
        let mut text = String::new();
        match self {
            Lines::Table(table) => text = table.lines(tick),
            Lines::Groups { top, width, palette } => text = watch_fleet::groups(tick, *top, *width, *palette),
            Lines::Json { top } => {
                for member in &tick.members {
                    let netns = Some(NetnsRow::found(member.found));
                    text += &watch_json::line(&member.tick, netns, *top)?;
                }
                text += &watch_fleet::sum_line(tick, *top)?;
            }
            Lines::Csv { header } => {
                for member in &tick.members {
                    text += &watch_csv::line_in(member.found, &member.tick, std::mem::take(header));
                }
            }
        }
        Ok(text)
    }
}
