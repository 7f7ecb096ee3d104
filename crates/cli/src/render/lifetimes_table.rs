//! Lifetimes for people: a histogram drawn with blocks, percentiles and how sure they are, groups.

use std::fmt::Write as _;

use sockeye_core::{Bar, Bounded, Churn, Group, GroupLifetimes, LifetimeReport};

use super::closes_table::unit;
use super::paragraph::paragraph;
use super::snapshot_screen::{grouped, shortened};
use crate::sweep::Note;
use crate::terminal::{Harmless, Palette};

/// Columns where the output is no terminal, and the least and the most that are used.
const COLUMNS: usize = 80;
const FEWEST: usize = 60;
const MOST: usize = 120;

/// Columns of a bar's label, its count and its cumulated share, with the gaps between.
const BESIDE_BAR: usize = 2 + 14 + 2 + 2 + 9 + 2 + 6;

/// `NOTE  `, before a note.
const NOTE_WIDTH: usize = 6;

/// Columns of a group's numbers.
const BESIDE_NAME: usize = 2 + 11 + 9 + 11 + 11 + 11;

/// The whole text; `width` None for what is no terminal.
pub(crate) fn render(
    report: &LifetimeReport,
    churn: &Churn,
    notes: &[Note],
    top: usize,
    width: Option<usize>,
    palette: Palette,
    name: impl Fn(Group) -> String,
) -> String {
    let mut screen =
        Screen { text: String::new(), width: width.unwrap_or(COLUMNS).clamp(FEWEST, MOST), palette };
    screen.title(&report.total, churn);
    screen.histogram(&report.total);
    screen.percentiles(&report.total);
    screen.groups(&report.groups, top, name);
    screen.certainty(churn, notes);
    screen.text
}

struct Screen {
    text: String,
    width: usize,
    palette: Palette,
}

impl Screen {
    fn title(&mut self, total: &GroupLifetimes, churn: &Churn) {
        let Palette { heading, reset, .. } = self.palette;
        let _ = write!(
            self.text,
            "{heading}LIFETIMES{reset}  {} completed · {} older · {} open",
            grouped(total.completed),
            grouped(total.older),
            grouped(total.open),
        );
        if let Some(ratio) = total.open_ratio() {
            let _ = write!(self.text, " ({:.1}%)", ratio * 100.0);
        }
        let _ = writeln!(self.text, " · watched {}", duration(churn.at.ms_since(churn.since)));
    }

    fn histogram(&mut self, total: &GroupLifetimes) {
        let Palette { good, dim, reset, .. } = self.palette;
        let most = total.bars.iter().map(|bar| bar.count).max().unwrap_or(0);
        if most == 0 {
            let _ = writeln!(self.text, "\n  No connection began and ended while it was watched.");
            return;
        }
        let cells = self.width.saturating_sub(BESIDE_BAR);
        let _ = writeln!(self.text);
        let mut upto = 0;
        for bar in &total.bars {
            upto += bar.count;
            let drawn = blocks(bar.count as f64 / most as f64, cells);
            let padding = " ".repeat(cells - drawn.chars().count());
            let share = upto as f64 / total.completed as f64 * 100.0;
            let _ = writeln!(
                self.text,
                "  {:>14}  {good}{drawn}{reset}{padding}  {:>9}  {dim}{share:>5.1}%{reset}",
                label(bar),
                grouped(bar.count)
            );
        }
    }

    fn percentiles(&mut self, total: &GroupLifetimes) {
        if total.connections() == 0 {
            return;
        }
        let Palette { heading, dim, reset, .. } = self.palette;
        let _ = writeln!(
            self.text,
            "\n{heading}{:<14}{:>15}{:>15}{:>15}{:>15}{reset}",
            "PERCENTILES", "p50", "p90", "p99", "p99.9"
        );
        let mut row = |style: &str, name: &str, values: [String; 4]| {
            let _ = write!(self.text, "{style}  {name:<12}");
            values.iter().for_each(|value| {
                let _ = write!(self.text, "{value:>15}");
            });
            let _ = writeln!(self.text, "{}", if style.is_empty() { "" } else { reset });
        };
        if let Some(completed) = total.completed_ms {
            row("", "completed", completed.each().map(|bounded| duration(bounded.ms)));
            row(dim, "between", completed.each().map(between));
        }
        row("", "Kaplan–Meier", total.kaplan_meier_ms.map(known));
    }

    fn groups(&mut self, groups: &[GroupLifetimes], top: usize, name: impl Fn(Group) -> String) {
        let shown = &groups[..top.min(groups.len())];
        if shown.is_empty() {
            return;
        }
        let Palette { heading, dim, reset, .. } = self.palette;
        let names: Vec<String> = shown.iter().map(|row| name(row.group.unwrap_or(Group::Other))).collect();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("GROUP".len());
        let room = longest.min(self.width.saturating_sub(BESIDE_NAME));
        let _ = writeln!(
            self.text,
            "\n{heading}  {:<room$}{:>11}{:>9}{:>11}{:>11}{:>11}{reset}",
            "GROUP", "COMPLETED", "OPEN", "p50", "p99", "p50 K–M"
        );
        for (group, name) in shown.iter().zip(&names) {
            let percentile = |of: fn(&sockeye_core::Percentiles) -> Bounded| {
                known(group.completed_ms.as_ref().map(|percentiles| of(percentiles).ms))
            };
            let _ = writeln!(
                self.text,
                "  {:<room$}{:>11}{:>9}{:>11}{:>11}{:>11}",
                shortened(name, room),
                grouped(group.completed),
                grouped(group.open),
                percentile(|percentiles| percentiles.p50),
                percentile(|percentiles| percentiles.p99),
                known(group.kaplan_meier_ms[0]),
            );
        }
        if groups.len() > shown.len() {
            let _ =
                writeln!(self.text, "  {dim}… {} more{reset}", grouped((groups.len() - shown.len()) as u64));
        }
    }

    fn certainty(&mut self, churn: &Churn, notes: &[Note]) {
        let Palette { heading, dim, warn, reset, .. } = self.palette;
        let seen = match churn.coverage.ratio() {
            // Downwards: 100.0 is said of nothing less.
            Some(ratio) => format!("{:.1}%", (ratio * 1_000.0).floor() / 10.0),
            None => "?".to_owned(),
        };
        let lost = match churn.events_lost {
            0 => format!("{dim}0 events lost{reset}"),
            lost => format!("{warn}{} events lost{reset}", grouped(lost)),
        };
        let _ = writeln!(
            self.text,
            "\n{heading}SEEN{reset}  {seen} {dim}of the connections the kernel counted{reset} · {lost}"
        );
        for note in notes {
            let message = paragraph(&Harmless(&note.message).to_string(), NOTE_WIDTH, self.width);
            let _ = writeln!(self.text, "{warn}NOTE{reset}  {message}");
        }
    }
}

/// `1.20 s`, in the unit that suits.
pub(crate) fn duration(ms: u64) -> String {
    let (scale, unit, decimals) = unit(ms);
    format!("{:.decimals$} {unit}", ms as f64 / scale)
}

fn known(ms: Option<u64>) -> String {
    ms.map_or_else(|| "—".to_owned(), duration)
}

/// `0.70–1.70 s`, in the unit of the greater.
pub(crate) fn between(bounded: Bounded) -> String {
    let (scale, unit, decimals) = unit(bounded.max_ms);
    let [min, max] = [bounded.min_ms, bounded.max_ms].map(|ms| format!("{:.decimals$}", ms as f64 / scale));
    if min == max { format!("{max} {unit}") } else { format!("{min}–{max} {unit}") }
}

/// `20–50 ms`, `10–20 s`, `30–60 min`: the edges of bars are round.
pub(crate) fn label(bar: &Bar) -> String {
    let round = |ms: u64| match ms {
        0..1_000 => (ms, "ms"),
        1_000..60_000 => (ms / 1_000, "s"),
        60_000..3_600_000 => (ms / 60_000, "min"),
        _ => (ms / 3_600_000, "h"),
    };
    let (from, from_unit) = round(bar.from_ms);
    match bar.to_ms {
        u64::MAX => format!("{from} {from_unit} –"),
        to_ms => match round(to_ms) {
            (to, unit) if unit == from_unit => format!("{from}–{to} {unit}"),
            (to, unit) => format!("{from} {from_unit}–{to} {unit}"),
        },
    }
}

/// A bar in eighths of a cell; something never looks like nothing.
pub(crate) fn blocks(ratio: f64, cells: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (ratio.clamp(0.0, 1.0) * (cells * 8) as f64).round() as usize;
    let eighths = if ratio > 0.0 { eighths.max(1) } else { 0 };
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(EIGHTHS[eighths % 8]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_bars_are_round() {
        for (from_ms, to_ms, text) in [
            (0, 1, "0–1 ms"),
            (500, 1_000, "500 ms–1 s"),
            (20_000, 60_000, "20 s–1 min"),
            (1_800_000, 3_600_000, "30 min–1 h"),
            (86_400_000, u64::MAX, "24 h –"),
        ] {
            assert_eq!(label(&Bar { from_ms, to_ms, count: 1 }), text);
        }
    }

    #[test]
    fn bounds_share_their_unit() {
        let shown = |min_ms, max_ms| between(Bounded { ms: min_ms, min_ms, max_ms });
        assert_eq!((shown(700, 1_700), shown(40, 50)), ("0.70–1.70 s".to_owned(), "40–50 ms".to_owned()));
        assert_eq!(shown(2_000, 2_003), "2.00 s");
    }

    #[test]
    fn blocks_fill_the_cells_they_have() {
        assert_eq!(
            (blocks(0.0, 4), blocks(0.0001, 4), blocks(1.0, 4)),
            (String::new(), "▏".into(), "████".into())
        );
        assert_eq!(blocks(0.5, 3), "█▌");
    }
}
