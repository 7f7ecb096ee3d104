//! A watch for people: a line per interval under a header, in columns of fixed width, as vmstat has them.

use std::fmt::Write as _;
use std::net::SocketAddr;

use sockeye_core::{Churn, Destination};

use crate::follow::Tick;
use crate::render::exhaustion::exhausted;
use crate::render::group_table;
use crate::terminal::Palette;

/// The lines, and how many of them stand under the last header.
pub(crate) struct Table {
    header: bool,
    /// Lines of the terminal; None when the output is not one, and has one header.
    height: Option<usize>,
    lines: usize,
    /// The terminal has no room for every column.
    narrow: bool,
    palette: Palette,
}

const HEADER: &str = "TIME          OPENS/s   CLOSES/s      LIVE  TIME-WAIT   SEEN   LOST   \
                      USED     HEADROOM   EXHAUSTED  WORST DESTINATION";

/// As far as a terminal of 80 columns goes: events lost and coverage are told as notes where they matter.
const NARROW_HEADER: &str = "TIME     OPENS/s CLOSES/s   LIVE     TW   USED HEADROOM    ENDED WORST";
/// Columns that all of them take, with an IPv4 destination.
const WIDE: usize = 120;

impl Table {
    /// Lines under a header, which is repeated where it would scroll away.
    pub(crate) fn new(header: bool, width: Option<usize>, height: Option<usize>, palette: Palette) -> Table {
        let narrow = width.is_some_and(|width| width < WIDE);
        Table { header, height, lines: 0, narrow, palette }
    }

    /// The line of a tick, below a header where one is due.
    pub(crate) fn line(&mut self, tick: &Tick<'_>) -> String {
        let mut text = String::new();
        let Palette { heading, dim, reset, .. } = self.palette;
        let page = self.height.map_or(usize::MAX, |height| height.saturating_sub(1).max(2));
        if self.header && (self.lines == 0 || self.lines + 1 >= page) {
            self.lines = 0;
            let header = if self.narrow { NARROW_HEADER } else { HEADER };
            let _ = writeln!(text, "{heading}{header}{reset}");
        }
        self.lines += 1;
        let none = Churn::default();
        let churn = tick.report.churn.as_ref().unwrap_or(&none);
        let seconds = churn.interval_ms as f64 / 1000.0;
        let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
        if self.narrow {
            let rates = [rate(churn.tcp.opened_last), rate(churn.tcp.closed_last)];
            self.narrow_line(&mut text, tick, rates, churn.tcp.live());
            return text;
        }
        let seen = match churn.coverage.ratio() {
            Some(ratio) => format!("{:.1}%", floored(ratio * 100.0)),
            None => "?".to_owned(),
        };
        let _ = write!(
            text,
            "{dim}{}{reset}  {:>9.1}  {:>9.1}  {:>8}  {:>9}  {:>5}  {:>5}",
            tick.at.strftime("%H:%M:%S%.3f"),
            rate(churn.tcp.opened_last),
            rate(churn.tcp.closed_last),
            churn.tcp.live(),
            time_wait(tick),
            seen,
            churn.events_lost,
        );
        match tick.report.destinations.first() {
            Some(worst) => self.worst(&mut text, worst),
            None => {
                let _ = write!(text, "{:>8}  {:>11}  {:>10}  —", "—", "—", "—");
            }
        }
        text.push('\n');
        text
    }

    fn narrow_line(&self, text: &mut String, tick: &Tick<'_>, rates: [f64; 2], live: u64) {
        let Palette { dim, reset, .. } = self.palette;
        let [opens, closes] = rates;
        let _ = write!(
            text,
            "{dim}{}{reset} {opens:>7.0} {closes:>8.0} {live:>6} {:>6}",
            tick.at.strftime("%H:%M:%S"),
            time_wait(tick),
        );
        let _ = match tick.report.destinations.first() {
            None => writeln!(text, " {:>6} {:>8} {:>8} —", "—", "—", "—"),
            Some(worst) => {
                let headroom = match worst.headroom.is_exact() {
                    true => worst.headroom.max.to_string(),
                    false => format!("≥{}", worst.headroom.min),
                };
                let to = SocketAddr::new(worst.id.remote_address, worst.id.remote_port);
                let (colour, used) =
                    (self.palette.of_share(worst.occupancy()), floored(worst.occupancy() * 100.0));
                writeln!(text, " {colour}{used:>5.1}%{reset} {headroom:>8} {:>8} {to}", exhausted(worst))
            }
        };
    }

    fn worst(&self, text: &mut String, worst: &Destination) {
        let reset = self.palette.reset;
        let (occupancy, colour) = (worst.occupancy(), self.palette.of_share(worst.occupancy()));
        let headroom = match (worst.headroom.min, worst.headroom.max) {
            (min, max) if min == max => min.to_string(),
            (min, max) => format!("{min}–{max}"),
        };
        let exhausted = exhausted(worst);
        let _ = write!(
            text,
            "  {colour}{:>5.1}%{reset}  {headroom:>11}  {exhausted:>10}  {}",
            floored(occupancy * 100.0),
            worst.id
        );
    }
}

/// An interval as a table of its groups, below its time.
pub(crate) fn groups(tick: &Tick<'_>, top: usize, width: Option<usize>, palette: Palette) -> String {
    let Palette { dim, reset, .. } = palette;
    let Some((by, rows)) = &tick.groups else { return String::new() };
    let table = group_table::table(rows, *by, top, true, width, palette);
    format!("{dim}{}{reset}\n{table}\n", tick.at.strftime("%H:%M:%S%.3f"))
}

/// TIME_WAIT sockets of TCP, as of the last sweep.
pub(crate) fn time_wait(tick: &Tick<'_>) -> u32 {
    tick.report.sockets.in_state(sock_diag::Protocol::Tcp, sock_diag::SocketState::TimeWait)
}

/// To one decimal, downwards: 100.0 is said of nothing less.
pub(super) fn floored(percent: f64) -> f64 {
    (percent * 10.0).floor() / 10.0
}
