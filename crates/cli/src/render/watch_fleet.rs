//! A watch of all namespaces for people: per interval their sum, and a line for each of the worst; and the sum for machines.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde::Serialize;

use crate::fleet::driver::{FleetTick, MemberTick};
use crate::render::exhaustion::exhausted;
use crate::render::group_json::{self, Groups};
use crate::render::group_table;
use crate::render::snapshot_json::WarningRow;
use crate::render::snapshot_screen::shortened;
use crate::render::watch_table::{floored, time_wait};
use crate::terminal::{Harmless, Palette, write_json};

/// Columns of a namespace's name.
const NAME: usize = 22;
const HEADER: &str = "TIME          NAMESPACE                 OPENS/s   CLOSES/s      LIVE  TIME-WAIT   SEEN    USED   HEADROOM   EXHAUSTED  WORST DESTINATION";
/// Columns that all of them take, with an IPv4 destination.
const WIDE: usize = 130;
const NARROW_HEADER: &str = "NAMESPACE              OPENS/s CLOSES/s   LIVE     TW   USED HEADROOM WORST";

/// The lines, and how many of them stand under the last header.
pub(crate) struct Table {
    header: bool,
    /// Lines of the terminal; None when the output is not one, and has one header.
    height: Option<usize>,
    lines: usize,
    /// The terminal has no room for every column.
    narrow: bool,
    /// Most namespaces with a line of their own.
    top: usize,
    palette: Palette,
}

/// Counts of an interval that add up.
#[derive(Clone, Copy, Default)]
struct Flow {
    interval_ms: u64,
    opens: u64,
    closes: u64,
    /// Opens and closes per second: intervals differ, where a namespace is new.
    rates: [f64; 2],
    live: u64,
    time_wait: u64,
}

impl Table {
    /// Lines under a header, which is repeated where it would scroll away.
    pub(crate) fn new(
        header: bool,
        top: usize,
        width: Option<usize>,
        height: Option<usize>,
        palette: Palette,
    ) -> Table {
        let narrow = width.is_some_and(|width| width < WIDE);
        Table { header, height, lines: 0, narrow, top, palette }
    }

    /// The lines of a tick, below a header where one is due.
    pub(crate) fn lines(&mut self, tick: &FleetTick<'_>) -> String {
        let mut text = String::new();
        let Palette { heading, dim, reset, .. } = self.palette;
        let shown = tick.members.len().min(self.top);
        let needed = 1 + shown;
        let page = self.height.map_or(usize::MAX, |height| height.saturating_sub(1));
        if self.header && (self.lines == 0 || self.lines.saturating_add(needed) > page) {
            self.lines = 0;
            let header = if self.narrow { NARROW_HEADER } else { HEADER };
            let _ = writeln!(text, "{heading}{header}{reset}");
        }
        self.lines += needed;
        let time = tick.at.strftime("%H:%M:%S%.3f").to_string();
        let sum = sum(tick);
        let all = format!("all {}", tick.members.len());
        match self.narrow {
            true => {
                self.narrow_line(&mut text, &format!("{} {all}", tick.at.strftime("%H:%M:%S")), sum, None)
            }
            false => self.line(&mut text, &time, &all, sum, None),
        }
        for member in &tick.members[..shown] {
            let name = Harmless(&member.found.name.to_string()).to_string();
            match self.narrow {
                true => self.narrow_line(&mut text, &name, flow(member), Some(member)),
                false => {
                    self.line(&mut text, &format!("{dim}{time}{reset}"), &name, flow(member), Some(member))
                }
            }
        }
        text
    }

    /// `time` may be styled: it has one width.
    fn line(&self, text: &mut String, time: &str, name: &str, flow: Flow, member: Option<&MemberTick<'_>>) {
        let [opens, closes] = flow.rates;
        let name = shortened(name, NAME);
        // Infallible, here and below: a String takes everything.
        let _ = write!(
            text,
            "{time}  {name:<NAME$}  {opens:>9.1}  {closes:>9.1}  {:>8}  {:>9}",
            flow.live, flow.time_wait
        );
        let Some(member) = member else {
            text.push('\n');
            return;
        };
        let report = &*member.tick.report;
        let ratio = report.churn.as_ref().and_then(|churn| churn.coverage.ratio());
        let seen = ratio.map_or("?".to_owned(), |ratio| format!("{:.1}%", floored(ratio * 100.0)));
        let _ = match report.destinations.first() {
            None => writeln!(text, "  {seen:>6}  {:>6}  {:>9}  {:>10}  —", "—", "—", "—"),
            Some(worst) => {
                let headroom = match worst.headroom.is_exact() {
                    true => worst.headroom.max.to_string(),
                    false => format!("≥{}", worst.headroom.min),
                };
                let (colour, reset) = (self.palette.of_share(worst.occupancy()), self.palette.reset);
                let used = floored(worst.occupancy() * 100.0);
                let ended = exhausted(worst);
                writeln!(
                    text,
                    "  {seen:>6}  {colour}{used:>5.1}%{reset}  {headroom:>9}  {ended:>10}  {}",
                    worst.id
                )
            }
        };
    }

    fn narrow_line(&self, text: &mut String, name: &str, flow: Flow, member: Option<&MemberTick<'_>>) {
        let [opens, closes] = flow.rates;
        let name = shortened(name, NAME);
        let _ =
            write!(text, "{name:<NAME$} {opens:>7.0} {closes:>8.0} {:>6} {:>6}", flow.live, flow.time_wait);
        let _ = match member.map(|member| member.tick.report.destinations.first()) {
            None => writeln!(text),
            Some(None) => writeln!(text, " {:>6} {:>8} —", "—", "—"),
            Some(Some(worst)) => {
                let headroom = match worst.headroom.is_exact() {
                    true => worst.headroom.max.to_string(),
                    false => format!("≥{}", worst.headroom.min),
                };
                let to = SocketAddr::new(worst.id.remote_address, worst.id.remote_port);
                let (colour, used) =
                    (self.palette.of_share(worst.occupancy()), floored(worst.occupancy() * 100.0));
                writeln!(text, " {colour}{used:>5.1}%{} {headroom:>8} {to}", self.palette.reset)
            }
        };
    }
}

fn flow(member: &MemberTick<'_>) -> Flow {
    let Some(churn) = &member.tick.report.churn else { return Flow::default() };
    let seconds = churn.interval_ms as f64 / 1000.0;
    let rate = |count: u64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    Flow {
        interval_ms: churn.interval_ms,
        rates: [churn.tcp.opened_last, churn.tcp.closed_last].map(rate),
        opens: churn.tcp.opened_last,
        closes: churn.tcp.closed_last,
        live: churn.tcp.live(),
        time_wait: u64::from(time_wait(&member.tick)),
    }
}

/// The interval is the longest: members that have come since the last tick have a shorter one.
fn sum(tick: &FleetTick<'_>) -> Flow {
    tick.members.iter().map(flow).fold(Flow::default(), |sum, one| Flow {
        interval_ms: sum.interval_ms.max(one.interval_ms),
        opens: sum.opens + one.opens,
        closes: sum.closes + one.closes,
        rates: [sum.rates[0] + one.rates[0], sum.rates[1] + one.rates[1]],
        live: sum.live + one.live,
        time_wait: sum.time_wait + one.time_wait,
    })
}

/// What stands behind the lines of an interval: the namespaces' sum, and that the interval is whole.
#[derive(Serialize)]
struct SumLine<'a> {
    schema: &'static str,
    at: String,
    interval_ms: u64,
    namespaces: usize,
    /// Of these, with a sweep at this tick: the others' counters stood still, or the budget was spent.
    swept: usize,
    /// Of these, with destroy events: the others' closes are known by their sweeps.
    with_events: usize,
    opens: u64,
    closes: u64,
    live: u64,
    time_wait: u64,
    /// Of all of them, as `--by` asks.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    groups: Option<Groups<'a>>,
    warnings: Vec<WarningRow>,
}

/// An interval as a table of its groups, below its time and the number of namespaces.
pub(crate) fn groups(tick: &FleetTick<'_>, top: usize, width: Option<usize>, palette: Palette) -> String {
    let Palette { dim, reset, .. } = palette;
    let Some((by, rows)) = &tick.groups else { return String::new() };
    let table = group_table::table(rows, *by, top, true, width, palette);
    let all = tick.members.len();
    let plural = if all == 1 { "" } else { "s" };
    let time = tick.at.strftime("%H:%M:%S%.3f");
    format!("{dim}{time}  {all} network namespace{plural}{reset}\n{table}\n")
}

/// The object and a newline, schema `sockeye.watch_all/1`; with `top` groups.
pub(crate) fn sum_line(tick: &FleetTick<'_>, top: usize) -> anyhow::Result<String> {
    let Flow { interval_ms, opens, closes, live, time_wait, .. } = sum(tick);
    let hears =
        |member: &&MemberTick<'_>| member.tick.report.churn.as_ref().is_some_and(|churn| churn.events);
    let line = SumLine {
        schema: "sockeye.watch_all/1",
        at: format!("{:.3}", tick.at),
        interval_ms,
        namespaces: tick.members.len(),
        swept: tick.members.iter().filter(|member| member.tick.sweep.is_some()).count(),
        with_events: tick.members.iter().filter(hears).count(),
        opens,
        closes,
        live,
        time_wait,
        groups: tick.groups.as_ref().map(|(by, rows)| group_json::groups(rows, *by, top, true)),
        warnings: tick.notes.iter().map(WarningRow::of).collect(),
    };
    let mut text = Vec::new();
    write_json(&mut text, &line)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

#[cfg(test)]
mod tests {
    use sock_diag::SocketState;
    use sock_diag::fake::tcp_record;
    use sockeye_core::{Counters, Moment, Monitor, Report, Settings};
    use sockeye_host::{FoundNamespace, NamespaceName};

    use super::*;
    use crate::follow::Tick;

    /// After a second in which so many connections were opened.
    fn report(connections: u16) -> Report {
        let mut monitor = Monitor::new(&Settings::default(), &Counters::default(), Moment(10_000), false);
        for (began, count) in [(10_000, 0), (11_000, connections)] {
            monitor.begin_sweep(Moment(began));
            for number in 0..count {
                let local = ([10, 0, 0, 7], 40_000 + number).into();
                let remote = SocketAddr::new("2001:db8:9::12".parse().unwrap(), 8080);
                let mut record = tcp_record(SocketState::Established, local, remote);
                record.id.cookie = sock_diag::Cookie(u64::from(number) + 1);
                monitor.observe(&record);
            }
            monitor.end_sweep(Moment(began), &Counters::default());
            if began == 10_000 {
                monitor.tick(Moment(began));
            }
        }
        monitor.tick(Moment(11_000)).clone()
    }

    /// The lines of a tick with three namespaces, twice.
    fn lines(width: Option<usize>, height: Option<usize>, top: usize, palette: Palette) -> String {
        let names = [
            NamespaceName::Process { pid: 1_048_576, comm: "kube-\x1b[31mproxy".into() },
            NamespaceName::Named("web".into()),
            NamespaceName::Nameless,
        ];
        let found = names.map(|name| FoundNamespace { inode: 1, name, ways: Vec::new() });
        let mut reports = [report(20_000), report(3), report(0)];
        let at = jiff::Timestamp::UNIX_EPOCH;
        let members = found.iter().zip(&mut reports).map(|(found, report)| MemberTick {
            found,
            tick: Tick { report, notes: &[], at, sweep: None, groups: None },
        });
        let tick = FleetTick { at, members: members.collect(), notes: Vec::new(), groups: None };
        let mut table = Table::new(true, top, width, height, palette);
        table.lines(&tick) + &table.lines(&tick)
    }

    #[test]
    fn a_line_for_each_below_the_sum() {
        insta::assert_snapshot!("watch_fleet", lines(None, None, 9, Palette::PLAIN));
        insta::assert_snapshot!("watch_fleet_top_1", lines(Some(140), None, 1, Palette::PLAIN));
    }

    #[test]
    fn eighty_columns_are_enough() {
        let text = lines(Some(80), None, 9, Palette::PLAIN);
        // But for the end of a long address.
        let longest =
            text.lines().map(|line| line.trim_end_matches("[2001:db8:9::12]:8080").chars().count()).max();
        assert!(longest.is_some_and(|longest| longest <= 80), "{text}");
        insta::assert_snapshot!("watch_fleet_80", text);
    }

    #[test]
    fn a_header_stands_on_every_screenful() {
        let headers = |height| lines(Some(140), Some(height), 9, Palette::PLAIN).matches("NAMESPACE").count();
        assert_eq!((headers(24), headers(8), headers(3)), (1, 2, 2));
    }

    #[test]
    fn colour_takes_no_columns() {
        let styled = lines(Some(140), None, 9, Palette::COLOUR);
        let plain = styled.split('\x1b').map(|part| {
            part.split_once('m').filter(|_| part.starts_with('[')).map_or(part, |(_, rest)| rest)
        });
        assert_eq!(plain.collect::<String>(), lines(Some(140), None, 9, Palette::PLAIN));
    }
}
