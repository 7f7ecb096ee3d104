//! Lifetimes: a histogram of how long connections lived, percentiles over time, and the groups.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use sockeye_core::{Bar, Group, GroupLifetimes, LifetimeReport};

use super::listing;
use crate::by::{By, named};
use crate::render::lifetimes_table::{duration, label};
use crate::render::snapshot_screen::grouped;
use crate::top::frame::Scene;
use crate::top::grid::{self, Cell, Column, Drawn, Key, Rows};
use crate::top::look::Look;
use crate::top::pen::{Pen, bar, columns, sparkline};
use crate::top::theme::Theme;

/// From so many columns on, histogram and percentiles stand beside each other.
const WIDE: u16 = 140;
/// `  20–50 ms `, before a bar, and the count behind it.
const BESIDE_BAR: u16 = 14 + 2 + 10;
/// Lines of the percentiles with their title.
const PERCENTILES: u16 = 5;

pub(crate) const COLUMNS: [Column; 7] = [
    Column::name("GROUP", "where connections go, or the listener they come to"),
    Column::number("COMPLETED", 1, "connections that began and ended while it was watched"),
    Column::number("OPEN", 2, "connections that are open now"),
    Column::number("p50", 0, "half of the completed ones lived no longer"),
    Column::number("p90", 3, "nine tenths of them lived no longer"),
    Column::number("p99", 1, "99 of 100 lived no longer"),
    Column::number(
        "p50 K–M",
        2,
        "half of all, those counted that are still open (Kaplan–Meier); —: more than half are",
    ),
];

fn name(group: &GroupLifetimes) -> String {
    named(group.group.unwrap_or(Group::Other), By::Destination, None).1
}

struct Groups<'a> {
    rows: Vec<&'a GroupLifetimes>,
    /// What was open is not known, nor what follows from it.
    is_recorded: bool,
}

impl Groups<'_> {
    fn percentile(&self, row: usize, column: usize) -> Option<u64> {
        let group = self.rows[row];
        match column {
            6 => group.kaplan_meier_ms[0],
            _ => group.completed_ms.map(|told| told.each()[column - 3].ms),
        }
    }
}

impl Rows for Groups<'_> {
    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }

    fn has(&self, column: usize) -> bool {
        !self.is_recorded || !matches!(column, 2 | 6)
    }

    fn count(&self) -> usize {
        self.rows.len()
    }

    fn key(&self, row: usize, column: usize) -> Key {
        match column {
            0 => Key::Text(name(self.rows[row])),
            1 => Key::Number(self.rows[row].completed as f64),
            2 => Key::Number(self.rows[row].open as f64),
            _ => Key::Number(self.percentile(row, column).map_or(f64::INFINITY, |ms| ms as f64)),
        }
    }

    fn cell(&self, row: usize, column: usize, _: u16, theme: &Theme) -> Cell {
        let group = self.rows[row];
        let text = match column {
            0 => name(group),
            1 => grouped(group.completed),
            2 => grouped(group.open),
            _ => self.percentile(row, column).map_or_else(|| "—".to_owned(), duration),
        };
        Cell::new(text, theme.text)
    }
}

/// Draws all of it; the groups are a table.
pub(crate) fn draw(scene: &Scene<'_>, look: &Look, area: Rect, buffer: &mut Buffer) -> Drawn {
    let theme = scene.theme;
    let is_recorded = look.recorded.is_some();
    let Some(report) = &look.lifetimes else {
        let told = if is_recorded { "reading what ended …" } else { "lifetimes are not known yet" };
        Pen::at(buffer, area, 1).skip(2).put_cut(told, theme.dim);
        return Drawn::default();
    };
    let total = &report.total;
    let mut pen = Pen::at(buffer, area, 0);
    if is_recorded {
        let told = format!(" connections ended {}", listing::ended(look));
        pen.skip(1).put(&grouped(total.connections()), theme.heading).put(&told, theme.text);
        let older = format!(", {} of them older than the recording", grouped(total.older));
        pen.put_cut(if total.older > 0 { &older } else { "" }, theme.text);
    } else {
        pen.skip(1).put(&grouped(total.completed), theme.heading).put(" completed · ", theme.text);
        pen.put(&grouped(total.open), theme.heading).put(" open · ", theme.text);
        pen.put(&grouped(total.older), theme.heading).put_cut(" older than the watch have ended", theme.text);
    }
    let left = area.height.saturating_sub(1);
    let below = Rect { y: area.y + area.height - left, height: left, ..area };
    let (upper, lower) = match area.width >= WIDE {
        true => {
            let height = below.height / 2;
            let half = below.width / 2;
            let right = Rect { x: below.x + half, width: below.width - half, height, ..below };
            percentiles(scene, report, right, buffer);
            let bars = Rect { width: half, height, ..below };
            (bars, Rect { y: below.y + height, height: below.height - height, ..below })
        }
        false => {
            let lines = PERCENTILES.min(below.height);
            percentiles(scene, report, Rect { height: lines, ..below }, buffer);
            let bars = (below.height - lines) / 2;
            let upper = Rect { y: below.y + lines, height: bars, ..below };
            (upper, Rect { y: upper.bottom(), height: below.height - lines - bars, ..below })
        }
    };
    histogram(total, theme, upper, buffer);
    let groups = Groups { rows: report.groups.iter().collect(), is_recorded };
    let inner = Rect { x: lower.x + 1.min(lower.width), width: lower.width.saturating_sub(2), ..lower };
    grid::draw(&groups, scene.view.table(), inner, theme, buffer)
}

fn histogram(total: &GroupLifetimes, theme: &Theme, area: Rect, buffer: &mut Buffer) {
    let bars = merged(&total.bars, area.height.saturating_sub(1).into());
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    if most == 0 {
        let told = "no connection began and ended while it was watched";
        Pen::at(buffer, area, 0).skip(1).put_cut(told, theme.dim);
        return;
    }
    let cells = usize::from(area.width.saturating_sub(BESIDE_BAR));
    for (down, one) in bars.iter().enumerate() {
        let drawn = bar(one.count as f64 / most as f64, cells).replace('░', " ");
        Pen::at(buffer, area, down as u16)
            .put(&format!("{:>14}  ", label(one)), theme.text)
            .put(&drawn, theme.good)
            .put(&format!(" {:>8}", grouped(one.count)), theme.text);
    }
}

/// As many bars as there are lines: neighbours become one.
fn merged(bars: &[Bar], lines: usize) -> Vec<Bar> {
    let each = bars.len().div_ceil(lines.max(1)).max(1);
    let together = |bars: &[Bar]| {
        let (first, last) = (bars.first()?, bars.last()?);
        Some(Bar { from_ms: first.from_ms, to_ms: last.to_ms, count: bars.iter().map(|bar| bar.count).sum() })
    };
    bars.chunks(each).filter_map(together).take(lines).collect()
}

/// The percentiles of all connections, and how they have come to be what they are.
fn percentiles(scene: &Scene<'_>, report: &LifetimeReport, area: Rect, buffer: &mut Buffer) {
    let theme = scene.theme;
    let names = ["p50", "p90", "p99", "p99.9"];
    // Of a recording, what was open is not known, and only one tick's ends are read.
    let is_recorded = scene.look().is_some_and(|look| look.recorded.is_some());
    let room = if is_recorded { 0 } else { usize::from(area.width.saturating_sub(46)) };
    Pen::at(buffer, area, 0).put(
        &format!(
            "{:>8}{:>12}{:>12}   {}",
            "",
            "COMPLETED",
            if is_recorded { "" } else { "ALL (K–M)" },
            if room > 14 { "OVER TIME" } else { "" }
        ),
        theme.heading,
    );
    let looks = scene.until_shown();
    let looks = &looks[looks.len().saturating_sub(room.min(60))..];
    for (index, name) in names.into_iter().enumerate() {
        let known = |ms: Option<u64>| ms.map_or_else(|| "—".to_owned(), duration);
        let of = |report: &LifetimeReport| report.total.completed_ms.map(|told| told.each()[index].ms);
        let values: Vec<Option<f64>> =
            looks.iter().map(|look| look.lifetimes.as_deref().and_then(of).map(|ms| ms as f64)).collect();
        let greatest = values.iter().flatten().fold(0.0, |most: f64, value| most.max(*value));
        let line = sparkline(&values, greatest);
        let most = if greatest > 0.0 && room > 14 {
            format!(" ≤ {}", duration(greatest as u64))
        } else {
            String::new()
        };
        Pen::at(buffer, area, index as u16 + 1)
            .put(&format!("{name:>8}"), theme.heading)
            .put(
                &format!(
                    "{:>12}{:>12}   ",
                    known(of(report)),
                    if is_recorded { String::new() } else { known(report.total.kaplan_meier_ms[index]) }
                ),
                theme.text,
            )
            .put(if room > 14 { &line } else { "" }, theme.dim)
            .put(if columns(&line) > 0 { &most } else { "" }, theme.dim);
    }
}
