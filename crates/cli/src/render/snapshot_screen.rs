//! The snapshot for people: what they look for first comes first, and fits the terminal.

use std::fmt::Write as _;

use sock_diag::{Protocol, SocketState};
use sockeye_core::{Destination, Report};

use crate::by::{self, By};
use crate::render::exhaustion::exhausted;
use crate::render::group_table;
use crate::render::paragraph::paragraph;
use crate::surroundings::Surroundings;
use crate::sweep::Note;
use crate::terminal::{Harmless, Palette};

/// Destinations shown unless asked otherwise.
pub(crate) const DEFAULT_TOP: usize = 10;
/// Columns where the output is no terminal.
pub(crate) const DEFAULT_WIDTH: usize = 120;
/// Narrower terminals get lines they wrap themselves.
pub(super) const LEAST_WIDTH: usize = 80;
/// More columns make rows harder to follow, not easier.
pub(super) const MOST_WIDTH: usize = 140;
const LABEL_WIDTH: usize = 8;
const BAR_CELLS: usize = 10;

/// The whole screen.
pub(crate) fn render(
    report: &Report,
    surroundings: &Surroundings,
    notes: &[Note],
    top: usize,
    groups: Option<(By, &[by::Row])>,
    width: usize,
    palette: Palette,
) -> String {
    let mut screen = Screen { text: String::new(), width: width.clamp(LEAST_WIDTH, MOST_WIDTH), palette };
    screen.title(report, surroundings);
    screen.pool(report);
    match groups {
        None => screen.destinations(report, top),
        Some((by, rows)) => screen.groups(by, rows, top),
    }
    screen.udp(report);
    screen.states(report);
    screen.closes(report);
    screen.notes(report, notes);
    screen.text
}

struct Screen {
    text: String,
    width: usize,
    palette: Palette,
}

/// Writing to a String cannot fail.
macro_rules! put {
    ($screen:expr, $($format:tt)*) => {{ let _ = write!($screen.text, $($format)*); }};
}

impl Screen {
    fn title(&mut self, report: &Report, surroundings: &Surroundings) {
        let Palette { heading, reset, .. } = self.palette;
        put!(self, "{heading}{}{reset}", Harmless(&surroundings.host_name));
        match (&surroundings.netns_name, surroundings.netns_inode) {
            (Some(name), _) => put!(self, "  netns {}", Harmless(name)),
            (None, Some(inode)) => put!(self, "  netns {inode}"),
            (None, None) => {}
        }
        let sockets = match report.sockets.total() {
            1 => "1 socket".to_owned(),
            more => format!("{} sockets", grouped(more)),
        };
        put!(
            self,
            "  Linux {}  {sockets} in {} ms\n\n",
            Harmless(&surroundings.kernel_release),
            three_digits(surroundings.sweep_duration_ms)
        );
    }

    fn pool(&mut self, report: &Report) {
        let Palette { heading, bad, reset, .. } = self.palette;
        let pool = &report.tcp;
        let range = pool.pool.range();
        let parts = [
            format!("{} in range", grouped(range.count())),
            format!("{} reserved", grouped(pool.reserved)),
            format!("{} held", grouped(pool.held)),
            format!("{} usable per destination", grouped(pool.usable)),
        ];
        put!(self, "{heading}EPHEMERAL PORTS{reset} {range}");
        let line = parts.join(" · ");
        let taken = "EPHEMERAL PORTS ".len() + range.to_string().chars().count();
        // A narrow terminal gets the numbers on a line of their own.
        put!(self, "{}", if taken + 3 + line.chars().count() <= self.width { "   " } else { "\n  " });
        match pool.usable {
            0 => put!(self, "{bad}{line}{reset}\n\n"),
            _ => put!(self, "{line}\n\n"),
        }
    }

    fn groups(&mut self, by: By, rows: &[by::Row], top: usize) {
        let table = group_table::table(rows, by, top, false, Some(self.width - 2), self.palette);
        for line in table.lines() {
            put!(self, "  {line}\n");
        }
        self.text.push('\n');
    }

    fn destinations(&mut self, report: &Report, top: usize) {
        let Palette { heading, dim, reset, .. } = self.palette;
        if report.destinations.is_empty() {
            put!(self, "  {dim}no outgoing connection uses an ephemeral port{reset}\n\n");
            return;
        }
        let shown = &report.destinations[..top.min(report.destinations.len())];
        let rows: Vec<Row> = shown.iter().map(Row::of).collect();
        if !rows.is_empty() {
            let layout = Layout::of(&rows, self.width);
            put!(self, "{heading}");
            self.row(&layout, "DESTINATION", ("", &format!("{:<1$}", "IN USE", layout.in_use())), &NUMBERS);
            put!(self, "{reset}\n");
            for (row, destination) in rows.iter().zip(shown) {
                let occupancy = destination.occupancy();
                let bar = if layout.bar { bar(occupancy) + " " } else { String::new() };
                let in_use = format!("{bar}{:>5.1}%", occupancy * 100.0);
                self.row(&layout, &row.name, (self.palette.of_share(occupancy), &in_use), &row.numbers);
                self.text.push('\n');
            }
        }
        let rest = report.rest(top);
        if rest.destinations > 0 {
            put!(
                self,
                "  {dim}… {} more, with {} live and {} in TIME-WAIT{reset}\n",
                grouped(rest.destinations as u64),
                grouped(rest.traffic.live),
                grouped(rest.traffic.time_wait)
            );
        }
        self.text.push('\n');
    }

    fn row(
        &mut self,
        layout: &Layout,
        name: &str,
        (style, in_use): (&str, &str),
        numbers: &[impl AsRef<str>],
    ) {
        let (room, reset) = (layout.name, if style.is_empty() { "" } else { self.palette.reset });
        put!(self, "  {:<room$}  {style}{in_use}{reset}", shortened(name, room));
        for (number, width) in numbers.iter().zip(layout.numbers) {
            if width > 0 {
                put!(self, "  {:>width$}", number.as_ref());
            }
        }
    }

    fn label(&mut self, label: &str) {
        let Palette { heading, reset, .. } = self.palette;
        put!(self, "{heading}{label:<LABEL_WIDTH$}{reset}");
    }

    fn udp(&mut self, report: &Report) {
        let udp = &report.udp;
        self.label("UDP");
        let Palette { reset, .. } = self.palette;
        let mut line = format!(
            "{}{} of {} ports ({:.1}%){reset}",
            self.palette.of_share(udp.occupancy()),
            grouped(udp.in_use),
            grouped(udp.usable),
            udp.occupancy() * 100.0,
        );
        if let Some(worst) = udp.addresses.first() {
            line += &format!(" · most on {} ({})", worst.local_address, grouped(worst.in_use));
        }
        line += &format!(
            " · {} connected, {} not",
            grouped(report.sockets.in_state(Protocol::Udp, SocketState::Established)),
            grouped(report.sockets.in_state(Protocol::Udp, SocketState::Close))
        );
        self.wrapped(&line);
    }

    fn states(&mut self, report: &Report) {
        self.label("STATES");
        let states: Vec<String> = report
            .sockets
            .states(Protocol::Tcp)
            .map(|(state, count)| {
                let name = if state == SocketState::BoundInactive { "bound" } else { state.ss_name() };
                format!("{name} {}", grouped(count))
            })
            .collect();
        match states.is_empty() {
            true => put!(self, "no TCP sockets\n"),
            false => self.wrapped(&states.join(" · ")),
        }
    }

    fn closes(&mut self, report: &Report) {
        self.label("CLOSES");
        let closes = &report.closes;
        if closes.total() == 0 {
            put!(self, "none in the last 60 s that left a TIME_WAIT\n");
            return;
        }
        // Twelve columns of five seconds: single seconds are too jagged to read a trend from.
        let bins: Vec<u32> = closes.oldest_first().collect();
        let sums: Vec<u32> = bins.chunks(5).map(|five| five.iter().sum()).collect();
        let Palette { dim, reset, .. } = self.palette;
        self.wrapped(&format!(
            "last 60 s {} {}/s now, mean {}/s, peak {}/s {dim}(from TIME_WAIT timers){reset}",
            sparkline(&sums),
            three_digits(closes.now_per_second()),
            three_digits(closes.per_second()),
            grouped(closes.peak_per_second()),
        ));
    }

    fn notes(&mut self, report: &Report, notes: &[Note]) {
        let warnings = report.warnings.iter().map(ToString::to_string);
        let all: Vec<String> = warnings.chain(notes.iter().map(|note| note.message.clone())).collect();
        for (i, note) in all.iter().enumerate() {
            self.label(if i == 0 { "NOTES" } else { "" });
            self.wrapped(&Harmless(note).to_string());
        }
    }

    /// Text behind a label, broken at its single spaces.
    fn wrapped(&mut self, text: &str) {
        put!(self, "{}\n", paragraph(text, LABEL_WIDTH, self.width));
    }
}

/// Titles of the columns of numbers.
const NUMBERS: [&str; 5] = ["LIVE", "TIME-WAIT", "CLOSES/s", "HEADROOM", "EXHAUSTED"];
/// The column that gives way where names would be cut: the sum of it has a line of its own.
const CLOSES: usize = 2;
/// `100.0%`.
const PERCENT_WIDTH: usize = 6;

/// A destination's row as text.
struct Row {
    name: String,
    numbers: [String; NUMBERS.len()],
}

impl Row {
    fn of(destination: &Destination) -> Row {
        let headroom = &destination.headroom;
        let left = match headroom.is_exact() {
            true => grouped(headroom.max),
            false => format!("{}–{}", grouped(headroom.min), grouped(headroom.max)),
        };
        let traffic = &destination.traffic;
        let closes = format!("{:.1}", traffic.closes_per_second());
        Row {
            name: destination.id.to_string(),
            numbers: [
                grouped(traffic.live),
                grouped(traffic.time_wait),
                closes,
                left,
                exhausted(destination),
            ],
        }
    }
}

/// How wide the columns are, 0 for one that is left out. Where the names would have to be cut, the bars give way first,
/// then the closes.
struct Layout {
    name: usize,
    bar: bool,
    numbers: [usize; NUMBERS.len()],
}

impl Layout {
    /// For at least one row.
    fn of(rows: &[Row], width: usize) -> Layout {
        let widest =
            |texts: &mut dyn Iterator<Item = &str>| texts.map(|t| t.chars().count()).max().unwrap_or(0);
        let mut numbers = NUMBERS.map(str::len);
        for (i, column) in numbers.iter_mut().enumerate() {
            *column = (*column).max(widest(&mut rows.iter().map(|row| row.numbers[i].as_str())));
        }
        let longest = widest(&mut rows.iter().map(|row| row.name.as_str())).max("DESTINATION".len());
        let mut fixed = 2 + 2 + PERCENT_WIDTH + numbers.iter().map(|column| 2 + column).sum::<usize>();
        let bar = fixed + BAR_CELLS + 1 + longest <= width;
        if fixed + longest > width {
            fixed -= 2 + numbers[CLOSES];
            numbers[CLOSES] = 0;
        }
        let room = width.saturating_sub(fixed + if bar { BAR_CELLS + 1 } else { 0 });
        Layout { name: longest.min(room), bar, numbers }
    }

    fn in_use(&self) -> usize {
        PERCENT_WIDTH + if self.bar { BAR_CELLS + 1 } else { 0 }
    }
}

/// Columns that text takes: styles take none.
pub(super) fn columns(text: &str) -> usize {
    let mut in_style = false;
    let is_shown = |c: &char| {
        let was_in_style = in_style;
        in_style = *c == '\x1b' || in_style && *c != 'm';
        !in_style && !was_in_style
    };
    text.chars().filter(is_shown).count()
}

/// 28232 → `28,232`.
pub(crate) fn grouped(number: impl Into<u64>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits that matter: `0.42`, `3.81`, `38.1`, `381`, `12,345`.
pub(crate) fn three_digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => grouped(v.round() as u64),
    }
}

/// `███████▊░░`: full, then one partial cell in eighths, then empty.
pub(super) fn bar(ratio: f64) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (ratio.clamp(0.0, 1.0) * (BAR_CELLS * 8) as f64).round() as usize;
    // Something in use never looks like nothing.
    let eighths = if ratio > 0.0 { eighths.max(1) } else { eighths };
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(EIGHTHS[eighths % 8]);
    }
    let filled = eighths.div_ceil(8);
    text + &"░".repeat(BAR_CELLS - filled)
}

/// `▁▁▂▃▅▇█`, the greatest value a full cell.
pub(super) fn sparkline(values: &[u32]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let greatest = values.iter().copied().max().unwrap_or(0).max(1);
    let level = |value: u32| (u64::from(value) * 7).div_ceil(u64::from(greatest)) as usize;
    values.iter().map(|value| LEVELS[level(*value).min(7)]).collect()
}

/// The name, its middle left out when it is too long: both ends tell destinations apart.
pub(crate) fn shortened(name: &str, room: usize) -> String {
    let length = name.chars().count();
    if length <= room {
        return name.to_owned();
    }
    let keep = room.saturating_sub(1);
    let (head, tail) = (keep / 2, keep - keep / 2);
    let front: String = name.chars().take(head).collect();
    let back: String = name.chars().skip(length - tail).collect();
    format!("{front}…{back}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_rounded() {
        for (number, text) in [(0u64, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        for (value, text) in
            [(0.0, "0.00"), (9.996, "10.0"), (38.14, "38.1"), (99.96, "100"), (12_345.0, "12,345")]
        {
            assert_eq!(three_digits(value), text);
        }
    }

    #[test]
    fn bars_have_ten_cells_and_show_the_least_use() {
        for (ratio, text) in
            [(0.0, "░░░░░░░░░░"), (0.0001, "▏░░░░░░░░░"), (0.781, "███████▊░░"), (1.0, "██████████")]
        {
            assert_eq!(bar(ratio), text);
        }
        for percent in 0..=100 {
            assert_eq!(bar(f64::from(percent) / 100.0).chars().count(), BAR_CELLS);
        }
    }

    #[test]
    fn sparklines_reach_from_floor_to_ceiling() {
        assert_eq!(sparkline(&[0, 1, 50, 100]), "▁▂▅█");
        assert_eq!(sparkline(&[0, 0]), "▁▁");
    }

    #[test]
    fn styles_take_no_columns() {
        assert_eq!(columns("\x1b[1;31m95.0 %\x1b[0m of 1,000"), 15);
        assert_eq!(columns("▁▂▅█"), 4);
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("tcp 10.0.0.7 → 10.0.9.12:8080", 15), "tcp 10.…12:8080");
        assert_eq!(shortened("short", 15), "short");
    }
}
