//! What is different between two saved outputs, for people.

use super::paragraph::paragraph;
use super::snapshot_screen::{grouped, shortened, three_digits};
use crate::command::diff::{Diff, FigureRow};
use crate::terminal::{Harmless, Palette};

const DEFAULT_WIDTH: usize = 100;
const LEAST_WIDTH: usize = 80;
const MOST_WIDTH: usize = 140;
const LABEL_WIDTH: usize = 11;

/// The whole text.
pub(crate) fn render(diff: &Diff, top: usize, width: Option<usize>, palette: Palette) -> String {
    let width = width.unwrap_or(DEFAULT_WIDTH).clamp(LEAST_WIDTH, MOST_WIDTH);
    let Palette { heading, dim, good, bad, reset, .. } = palette;
    let mut text = String::new();
    let mut put = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    if !diff.figures.is_empty() {
        put(format!("{heading}{:<31}{:>12}{:>12}{:>11}{reset}", "", "BEFORE", "AFTER", "CHANGE"));
        for row in &diff.figures {
            let style = match (row.after == row.before, (row.after > row.before) == row.figure.more_is_worse)
            {
                (true, _) => "",
                (_, true) => bad,
                (_, false) => good,
            };
            let end = if style.is_empty() { "" } else { reset };
            put(format!(
                "{:<31}{:>12}{:>12}{style}{:>11}{end}",
                row.figure.label,
                number(row.before),
                number(row.after),
                change(row)
            ));
        }
    }
    let shown = &diff.destinations[..top.min(diff.destinations.len())];
    if !shown.is_empty() {
        put(String::new());
        let longest =
            shown.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max("DESTINATION".len());
        let room = longest.min(width.saturating_sub(2 * 23));
        let connections = diff.kind.connections().to_uppercase();
        put(format!("{heading}{:<room$}{:>23}{:>23}{reset}", "DESTINATION", "PORTS", connections));
        let both = |before: u64, after: u64| match before == after {
            true => grouped(after),
            false => format!("{} → {}", grouped(before), grouped(after)),
        };
        for row in shown {
            put(format!(
                "{:<room$}{:>23}{:>23}",
                shortened(&row.name, room),
                both(row.before.ports, row.after.ports),
                both(row.before.connections, row.after.connections)
            ));
        }
        let more = diff.destinations.len() - shown.len();
        if more > 0 {
            put(format!("{dim}… {} more that changed{reset}", grouped(more as u64)));
        }
    }
    let mut labelled = |label: &str, said: &str, style: &str| {
        let said = paragraph(&Harmless(said).to_string(), LABEL_WIDTH, width);
        let end = if style.is_empty() { "" } else { reset };
        put(format!("{heading}{label:<LABEL_WIDTH$}{reset}{style}{said}{end}"));
    };
    let nothing = diff.figures.is_empty() && shown.is_empty();
    if !nothing && (diff.opens.is_some() || diff.lifetimes.is_some() || !diff.failed.is_empty()) {
        labelled("", "", "");
    }
    if let Some(opens) = &diff.opens {
        labelled("OPENS", &rates(opens), "");
    }
    if let Some(lifetimes) = &diff.lifetimes {
        labelled("LIFETIMES", &lifetimes.to_string(), "");
    }
    for (i, failed) in diff.failed.iter().enumerate() {
        labelled(if i == 0 { "FAILED" } else { "" }, failed, bad);
    }
    text
}

fn rates(opens: &sockeye_core::RateComparison) -> String {
    use sockeye_core::{Change, Verdict};
    let [before, after] = opens.per_second.map(three_digits);
    let said = match opens.verdict {
        Verdict::Changed(Change::Lower) => "fewer",
        Verdict::Changed(Change::Higher) => "more",
        Verdict::Unchanged => "no difference that the data can show",
        Verdict::TooFew => "too short a time to compare",
    };
    let ratio = match opens.ratio {
        Some(ratio) => {
            let most = ratio.max.map_or(String::new(), |max| format!("–{max:.2}"));
            format!(", ratio {:.2} (95 % interval {:.2}{most})", ratio.value, ratio.min)
        }
        None => String::new(),
    };
    format!("{said}: {after}/s, before {before}/s{ratio}")
}

/// `+20.0%`, `new`.
fn change(row: &FigureRow) -> String {
    match row.change() {
        _ if row.after == row.before => "=".to_owned(),
        Some(change) => format!("{:+.1}%", change * 100.0),
        None => "new".to_owned(),
    }
}

/// Counts without decimals, rates with the digits that matter.
pub(crate) fn number(value: f64) -> String {
    match value.fract() == 0.0 && (0.0..1e18).contains(&value) {
        true => grouped(value as u64),
        false => three_digits(value),
    }
}
