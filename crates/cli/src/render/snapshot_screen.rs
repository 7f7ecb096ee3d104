//! The snapshot for people: what they look for first comes first, and fits the terminal.

use std::fmt::Write as _;

use sock_diag::{Protocol, SocketState};
use sockeye_core::{Destination, Report};

use crate::surroundings::Surroundings;
use crate::sweep::Note;
use crate::terminal::{Harmless, Palette};

/// Columns where the output is no terminal.
pub(crate) const DEFAULT_WIDTH: usize = 120;
/// Narrower terminals get lines they wrap themselves.
const LEAST_WIDTH: usize = 80;
/// More columns make rows harder to follow, not easier.
const MOST_WIDTH: usize = 140;
const LABEL_WIDTH: usize = 8;
const BAR_CELLS: usize = 10;

/// The whole screen.
pub(crate) fn render(
    report: &Report,
    surroundings: &Surroundings,
    notes: &[Note],
    top: usize,
    width: usize,
    palette: Palette,
) -> String {
    let mut screen = Screen { text: String::new(), width: width.clamp(LEAST_WIDTH, MOST_WIDTH), palette };
    screen.title(report, surroundings);
    screen.pool(report);
    screen.destinations(report, top);
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
        put!(
            self,
            "  Linux {}  {} sockets in {} ms\n\n",
            Harmless(&surroundings.kernel_release),
            grouped(report.sockets.total()),
            three_digits(surroundings.sweep_duration_ms)
        );
    }

    fn pool(&mut self, report: &Report) {
        let Palette { heading, bad, reset, .. } = self.palette;
        let range = report.tcp.pool.range();
        put!(self, "{heading}EPHEMERAL PORTS{reset} {range}   {} in range", grouped(range.count()));
        put!(self, " · {} reserved", grouped(report.tcp.reserved));
        put!(self, " · {} held", grouped(report.tcp.held));
        let style = if report.tcp.usable == 0 { bad } else { "" };
        put!(self, " · {style}{} usable per destination{reset}\n\n", grouped(report.tcp.usable));
    }

    fn destinations(&mut self, report: &Report, top: usize) {
        let Palette { heading, dim, reset, .. } = self.palette;
        if report.destinations.is_empty() {
            put!(self, "  {dim}no outgoing connection uses an ephemeral port{reset}\n\n");
            return;
        }
        let shown = &report.destinations[..top.min(report.destinations.len())];
        let names: Vec<String> = shown.iter().map(|d| d.id.to_string()).collect();
        // "  name  bar 100.0%  LIVE  TIME-WAIT  CLOSES/s  HEADROOM"
        let fixed = 2 + 2 + BAR_CELLS + 7 + 2 + 9 + 2 + 9 + 2 + 8 + 2 + 15;
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let room = longest.clamp("DESTINATION".len(), self.width.saturating_sub(fixed).max(24));
        if !shown.is_empty() {
            put!(
                self,
                "  {heading}{:<room$}  {:<bar$}  {:>9}  {:>9}  {:>8}  {:>15}{reset}\n",
                "DESTINATION",
                "IN USE",
                "LIVE",
                "TIME-WAIT",
                "CLOSES/s",
                "HEADROOM",
                bar = BAR_CELLS + 7
            );
        }
        for (destination, name) in shown.iter().zip(&names) {
            self.destination(destination, name, room);
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

    fn destination(&mut self, destination: &Destination, name: &str, room: usize) {
        let occupancy = destination.occupancy();
        let style = self.style_of(occupancy);
        let headroom = &destination.headroom;
        let left = match headroom.is_exact() {
            true => grouped(headroom.max),
            false => format!("{}–{}", grouped(headroom.min), grouped(headroom.max)),
        };
        put!(
            self,
            "  {:<room$}  {style}{} {:>5.1}%{}  {:>9}  {:>9}  {:>8.1}  {left:>15}\n",
            shortened(name, room),
            bar(occupancy),
            occupancy * 100.0,
            self.palette.reset,
            grouped(destination.traffic.live),
            grouped(destination.traffic.time_wait),
            destination.traffic.closes_per_second(),
        );
    }

    fn style_of(&self, occupancy: f64) -> &'static str {
        match occupancy {
            o if o >= 0.9 => self.palette.bad,
            o if o > 0.5 => self.palette.warn,
            _ => self.palette.good,
        }
    }

    fn label(&mut self, label: &str) {
        let Palette { heading, reset, .. } = self.palette;
        put!(self, "{heading}{label:<LABEL_WIDTH$}{reset}");
    }

    fn udp(&mut self, report: &Report) {
        let udp = &report.udp;
        self.label("UDP");
        let style = self.style_of(udp.occupancy());
        put!(
            self,
            "{style}{} of {} ports ({:.1}%){}",
            grouped(udp.in_use),
            grouped(udp.usable),
            udp.occupancy() * 100.0,
            self.palette.reset
        );
        if let Some(worst) = udp.addresses.first() {
            put!(self, " · most on {} ({})", worst.local_address, grouped(worst.in_use));
        }
        put!(
            self,
            " · {} connected, {} not\n",
            grouped(report.sockets.in_state(Protocol::Udp, SocketState::Established)),
            grouped(report.sockets.in_state(Protocol::Udp, SocketState::Close))
        );
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
        put!(
            self,
            "last 60 s {}  {}/s now, mean {}/s, peak {}/s   {}(from TIME_WAIT timers){}\n",
            sparkline(&sums),
            three_digits(closes.now_per_second()),
            three_digits(closes.per_second()),
            grouped(closes.peak_per_second()),
            self.palette.dim,
            self.palette.reset
        );
    }

    fn notes(&mut self, report: &Report, notes: &[Note]) {
        let warnings = report.warnings.iter().map(ToString::to_string);
        let all: Vec<String> = warnings.chain(notes.iter().map(|note| note.message.clone())).collect();
        for (i, note) in all.iter().enumerate() {
            self.label(if i == 0 { "NOTES" } else { "" });
            self.wrapped(&Harmless(note).to_string());
        }
    }

    /// Text behind a label, broken at spaces.
    fn wrapped(&mut self, text: &str) {
        let room = self.width - LABEL_WIDTH;
        let mut column = 0;
        for word in text.split(' ') {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > room {
                put!(self, "\n{:LABEL_WIDTH$}", "");
                column = 0;
            } else if column > 0 {
                self.text.push(' ');
                column += 1;
            }
            self.text.push_str(word);
            column += length;
        }
        self.text.push('\n');
    }
}

/// 28232 → `28,232`.
fn grouped(number: impl Into<u64>) -> String {
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
fn three_digits(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => grouped(v.round() as u64),
    }
}

/// `███████▊░░`: full, then one partial cell in eighths, then empty.
fn bar(ratio: f64) -> String {
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
fn sparkline(values: &[u32]) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let greatest = values.iter().copied().max().unwrap_or(0).max(1);
    let level = |value: u32| (u64::from(value) * 7).div_ceil(u64::from(greatest)) as usize;
    values.iter().map(|value| LEVELS[level(*value).min(7)]).collect()
}

/// The name, its middle left out when it is too long: both ends tell destinations apart.
fn shortened(name: &str, room: usize) -> String {
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
    fn long_names_lose_their_middle() {
        assert_eq!(shortened("tcp 10.0.0.7 → 10.0.9.12:8080", 15), "tcp 10.…12:8080");
        assert_eq!(shortened("short", 15), "short");
    }
}
