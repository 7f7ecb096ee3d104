//! Rows of grouped connections as a table: numbers first, names last, so that long ones spoil no column.

use std::fmt::Write as _;

use crate::by::{By, Netns, Row};
use crate::render::snapshot_screen::grouped;
use crate::terminal::Palette;

/// The columns that stand before the name.
const NUMBERS: usize = 44;
const NUMBERS_WITHOUT_RATES: usize = 24;
/// Columns of a namespace's name at most.
const NETNS: usize = 22;

/// A header and a line for each of the first `top` rows, and one for the rest. `rates`: they were watched long enough.
pub(crate) fn table(
    rows: &[Row],
    by: By,
    top: usize,
    rates: bool,
    width: Option<usize>,
    palette: Palette,
) -> String {
    let Palette { heading, dim, reset, .. } = palette;
    let mut text = String::new();
    let places = Places::of(rows.iter().take(top));
    let before = if rates { NUMBERS } else { NUMBERS_WITHOUT_RATES } + places.width();
    let room = width.map(|width| width.saturating_sub(before).max(16));
    let head = places.head() + &by.name().to_uppercase().replace('_', " ");
    // Writing to a String cannot fail.
    let _ = match rates {
        true => writeln!(
            text,
            "{heading}{:>9} {:>9} {:>10} {:>10}   {head}{reset}",
            "OPENS/s", "CLOSES/s", "LIVE", "TIME-WAIT"
        ),
        false => writeln!(text, "{heading}{:>10} {:>10}   {head}{reset}", "LIVE", "TIME-WAIT"),
    };
    for row in rows.iter().take(top) {
        line(&mut text, row, &(places.of_row(row) + &shortened(&named(row), room)), rates);
    }
    let rest = rows.iter().skip(top);
    let others = rest.clone().count();
    if others > 0 {
        let sum = |value: fn(&Row) -> u64| grouped(rest.clone().map(value).sum::<u64>());
        let (live, time_wait) = (sum(|row| row.live), sum(|row| row.time_wait));
        let _ = writeln!(
            text,
            "{dim}… {} more, with {live} live and {time_wait} in TIME-WAIT{reset}",
            grouped(others as u64)
        );
    }
    if rows.is_empty() {
        let _ = writeln!(text, "{dim}no connections{reset}");
    }
    text
}

/// The column of namespaces, where there are several.
struct Places(Option<usize>);

impl Places {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>) -> Places {
        let longest = rows.filter_map(|row| Some(place(row.netns.as_ref()?).chars().count())).max();
        Places(longest.map(|longest| longest.clamp("NETNS".len(), NETNS)))
    }

    /// With what stands before the next column.
    fn width(&self) -> usize {
        self.0.map_or(0, |width| width + 2)
    }

    fn head(&self) -> String {
        self.0.map_or_else(String::new, |width| format!("{:<width$}  ", "NETNS"))
    }

    fn of_row(&self, row: &Row) -> String {
        let Some(width) = self.0 else { return String::new() };
        let place = row.netns.as_ref().map(place).unwrap_or_default();
        format!("{:<width$}  ", shortened(&place, Some(width)))
    }
}

fn place(netns: &Netns) -> String {
    match netns {
        Netns::One { label, .. } => label.clone(),
        Netns::Several(count) => format!("{} of them", grouped(*count as u64)),
    }
}

fn line(text: &mut String, row: &Row, name: &str, rates: bool) {
    if rates {
        let _ = write!(text, "{:>9.1} {:>9.1} ", row.opens_per_second, row.closes_per_second);
    }
    let _ = writeln!(text, "{:>10} {:>10}   {name}", grouped(row.live), grouped(row.time_wait));
}

fn named(row: &Row) -> String {
    match row.inferred {
        0 => row.label.clone(),
        inferred => format!("{}  ({} inferred)", row.label, grouped(inferred)),
    }
}

/// At most so many characters, the last one an ellipsis where there were more.
fn shortened(name: &str, room: Option<usize>) -> String {
    match room {
        Some(room) if name.chars().count() > room => name.chars().take(room - 1).chain(['…']).collect(),
        _ => name.to_owned(),
    }
}
