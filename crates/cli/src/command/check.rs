//! `sockeye check`: thresholds over one look or a short watch, as monitoring plugins answer: one line with performance data,
//! and 0, 1, 2 or 3.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use sock_diag::{Protocol, SocketState};
use sockeye_core::{Report, SortKey, Warning};

use crate::args::CheckArgs;
use crate::feed::Feed;
use crate::follow::{Follow, Pace};
use crate::stuck::{self, Ages};
use crate::sweep::sweep;
use crate::terminal::{Harmless, buffered_stdout};
use crate::threshold::Range;

/// What can be checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Metric {
    Occupancy,
    Headroom,
    Ports,
    TimeWait,
    CloseWait,
    Opens,
    Closes,
    Stuck,
}

impl Metric {
    /// As it is typed, as performance data calls it, its unit there, and what it is.
    const ALL: [(Metric, &str, &str, &str, &str); 8] = [
        (Metric::Occupancy, "occupancy", "worst_occupancy", "%", "occupancy of the fullest destination"),
        (Metric::Headroom, "headroom", "least_headroom", "", "connects left to the fullest destination"),
        (Metric::Ports, "ports", "ports_in_use", "", "ports in use towards one destination"),
        (Metric::TimeWait, "time_wait", "time_wait", "", "sockets in TIME_WAIT"),
        (Metric::CloseWait, "close_wait", "close_wait", "", "sockets in CLOSE_WAIT"),
        (Metric::Opens, "opens", "opens_per_second", "", "opens a second"),
        (Metric::Closes, "closes", "closes_per_second", "", "closes a second"),
        (Metric::Stuck, "stuck", "stuck", "", "sockets stuck for long"),
    ];

    fn row(self) -> &'static (Metric, &'static str, &'static str, &'static str, &'static str) {
        &Metric::ALL[self as usize]
    }

    /// `occupancy=50%` as metric and range.
    fn threshold(text: &str) -> anyhow::Result<(Metric, Range)> {
        let all = || Metric::ALL.map(|row| row.1).join(", ");
        let (name, range) = text.split_once('=').ok_or_else(|| {
            anyhow!("{text}: write METRIC=RANGE, like occupancy=80%; metrics are {}", all())
        })?;
        let name = name.replace('-', "_");
        let row = Metric::ALL.iter().find(|row| row.1 == name);
        let row = row.ok_or_else(|| anyhow!("{text}: no metric is called {name}; there are {}", all()))?;
        let range = Range::parse(range, row.3 == "%").map_err(|what| anyhow!("{text}: {what}"))?;
        Ok((row.0, range))
    }
}

/// What was found out of one metric.
struct Reading {
    metric: Metric,
    /// None: not known. As it is shown: what is said and what is judged is one number.
    value: Option<f64>,
    /// Which destination, or what else to say of it; why it is not known.
    detail: Option<String>,
    /// For performance data: the most it can be.
    max: Option<f64>,
}

/// Thresholds without any that were asked for: half the ports gone (connect() slows down from there), and four fifths; sockets
/// that are stuck.
const DEFAULT_WARNING: [&str; 2] = ["occupancy=50%", "stuck=0"];
const DEFAULT_CRITICAL: [&str; 1] = ["occupancy=80%"];

/// Settings that tell how many ports there are.
const POOL: [&str; 2] = ["net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"];

/// From sweep to sweep of a short watch.
const INTERVAL: Duration = Duration::from_secs(1);

/// Runs the command. Whatever goes wrong is UNKNOWN.
pub(crate) fn run(args: &CheckArgs) -> u8 {
    match check(args) {
        Ok(answer) => say(&answer.text, answer.state),
        Err(error) => unknown(&format!("{error:#}")),
    }
}

/// Says that nothing is known, and why, in the way of plugins: for wrong usage, too.
pub(crate) fn unknown(why: &str) -> u8 {
    let lines: Vec<&str> = why.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    say(&format!("SOCKEYE UNKNOWN - {}\n", plain(&lines.join(" "))), State::Unknown)
}

/// Text without what a plugin's reader takes for the start of performance data, or a terminal for a command.
fn plain(text: &str) -> String {
    Harmless(text).to_string().replace('|', "/")
}

fn say(text: &str, state: State) -> u8 {
    let mut out = buffered_stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => state as u8,
        // Whoever asks has closed the line, or it cannot be heard: that is no OK.
        Err(_) => State::Unknown as u8,
    }
}

/// A plugin's answer is its exit code.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
            State::Unknown => "UNKNOWN",
        }
    }
}

struct Answer {
    text: String,
    state: State,
}

fn check(args: &CheckArgs) -> anyhow::Result<Answer> {
    let thresholds = Thresholds::of(args)?;
    let (readings, long) = match args.for_ {
        None => look(args)?,
        Some(long) => watch(args, long)?,
    };
    judge(&thresholds, &readings, &long)
}

struct Thresholds {
    warning: Vec<(Metric, Range)>,
    critical: Vec<(Metric, Range)>,
}

impl Thresholds {
    fn of(args: &CheckArgs) -> anyhow::Result<Thresholds> {
        let read = |texts: &mut dyn Iterator<Item = &str>| {
            texts.map(Metric::threshold).collect::<anyhow::Result<Vec<_>>>()
        };
        if args.warning.is_empty() && args.critical.is_empty() {
            let (warning, critical) =
                (read(&mut DEFAULT_WARNING.into_iter())?, read(&mut DEFAULT_CRITICAL.into_iter())?);
            return Ok(Thresholds { warning, critical });
        }
        let each = |texts: &[String]| {
            let words = texts.iter().flat_map(|text| text.split(',')).map(|word| word.trim().to_owned());
            // A comma behind the last.
            let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
            ensure!(texts.is_empty() || !words.is_empty(), "write METRIC=RANGE, like occupancy=80%");
            read(&mut words.iter().map(String::as_str))
        };
        let thresholds = Thresholds { warning: each(&args.warning)?, critical: each(&args.critical)? };
        for (metric, _) in thresholds.warning.iter().chain(&thresholds.critical) {
            ensure!(
                *metric != Metric::Opens || args.for_.is_some(),
                "one look cannot count opens: add --for 5s"
            );
        }
        Ok(thresholds)
    }

    fn range(of: &[(Metric, Range)], metric: Metric) -> Option<Range> {
        of.iter().rev().find(|(known, _)| *known == metric).map(|(_, range)| *range)
    }
}

/// Readings of one look, and lines of long text.
fn look(args: &CheckArgs) -> anyhow::Result<(Vec<Reading>, Vec<String>)> {
    let mut feed = Feed::open(&args.feed)?;
    let (mut report, notes) = sweep(&mut feed)?;
    let ages = Ages::ask(&mut feed, &report);
    feed.end_sweep()?;
    stuck::tell(&mut feed, &mut report, &ages);
    report.sort_by(SortKey::Occupancy);
    let closes = report.closes.per_second();
    let long = notes
        .into_iter()
        .map(|note| note.message)
        .chain(report.warnings.iter().map(Warning::to_string))
        .collect();
    let readings = readings(&report, None, closes);
    feed.finish()?;
    Ok((readings, long))
}

/// The same, of a short watch.
fn watch(args: &CheckArgs, long: Duration) -> anyhow::Result<(Vec<Reading>, Vec<String>)> {
    let pace = Pace { interval: INTERVAL.min(long), count: None, for_: Some(long), cpu_budget: None };
    let mut follow = Follow::open(&args.feed, &pace)?;
    let mut last = None;
    while let Some(tick) = follow.next()? {
        last = Some(tick.report.clone());
    }
    let mut report = last.ok_or_else(|| anyhow!("interrupted before anything was counted"))?;
    report.sort_by(SortKey::Occupancy);
    let churn = report.churn.as_ref().context("a watch counts opens and closes")?;
    let seconds = churn.at.ms_since(churn.since) as f64 / 1000.0;
    if seconds <= 0.0 {
        bail!("the watch took no time: nothing a second is known");
    }
    let (opens, closes) = (churn.tcp.opened as f64 / seconds, churn.tcp.closed as f64 / seconds);
    let notes = follow.notes().iter().map(|note| note.message.clone());
    let long = notes.chain(report.warnings.iter().map(Warning::to_string)).collect();
    let readings = readings(&report, Some(opens), closes);
    follow.finish()?;
    Ok((readings, long))
}

fn readings(report: &Report, opens: Option<f64>, closes: f64) -> Vec<Reading> {
    let to = |destination: &sockeye_core::Destination| destination.id.to_string().replace(" → ", " to ");
    let fullest = report.destinations.first();
    let least = report.destinations.iter().min_by_key(|one| one.headroom.min);
    let busiest = report.destinations.iter().max_by_key(|one| one.in_use);
    let usable = f64::from(report.tcp.usable);
    let in_state = |state| f64::from(report.sockets.in_state(Protocol::Tcp, state));
    let stuck: Vec<_> = report
        .warnings
        .iter()
        .filter_map(|warning| match warning {
            Warning::Stuck(stuck) => Some(stuck),
            _ => None,
        })
        .collect();
    let reading = |metric, value, detail, max| Reading { metric, value, detail, max };
    // What is counted against the pool is not known where the pool is assumed.
    let assumed = report.warnings.iter().find_map(|warning| match warning {
        Warning::SettingUnknown { setting, .. } if POOL.contains(setting) => {
            Some(format!("cannot read {setting}"))
        }
        _ => None,
    });
    let of_pool = |metric, value, detail, max| match &assumed {
        Some(why) => reading(metric, None, Some(why.clone()), None),
        None => reading(metric, Some(value), detail, Some(max)),
    };
    vec![
        of_pool(
            Metric::Occupancy,
            // Not rounded up: 80.0% is said of nothing less.
            fullest.map_or(0.0, |one| (one.occupancy() * 1000.0).floor() / 10.0),
            fullest.map(to),
            100.0,
        ),
        of_pool(
            Metric::Headroom,
            least.map_or(usable, |one| f64::from(one.headroom.min)),
            least.map(to),
            usable,
        ),
        of_pool(Metric::Ports, busiest.map_or(0.0, |one| f64::from(one.in_use)), busiest.map(to), usable),
        reading(Metric::TimeWait, Some(in_state(SocketState::TimeWait)), None, None),
        reading(Metric::CloseWait, Some(in_state(SocketState::CloseWait)), None, None),
        reading(Metric::Opens, opens.map(rounded), None, None),
        reading(Metric::Closes, Some(rounded(closes)), None, None),
        reading(
            Metric::Stuck,
            Some(stuck.iter().map(|stuck| u64::from(stuck.long)).sum::<u64>() as f64),
            stuck.first().map(|stuck| format!("in {}", stuck.kind.state_name())),
            None,
        ),
    ]
}

fn judge(thresholds: &Thresholds, readings: &[Reading], long: &[String]) -> anyhow::Result<Answer> {
    let mut state = State::Ok;
    let mut alerts: Vec<(State, String)> = Vec::new();
    let mut performance = Vec::new();
    for reading in readings {
        let (_, _, label, unit, about) = reading.metric.row();
        let ranges =
            [&thresholds.critical, &thresholds.warning].map(|of| Thresholds::range(of, reading.metric));
        let [critical, warning] = ranges;
        let Some(value) = reading.value else {
            let why = reading.detail.as_deref().unwrap_or("one look does not tell");
            ensure!(critical.is_none() && warning.is_none(), "{about}: not known ({why})");
            continue;
        };
        let range = |range: Option<Range>| range.map(|range| range.to_string()).unwrap_or_default();
        let max = reading.max.map(shown).unwrap_or_default();
        performance.push(format!(
            "'{label}'={}{unit};{};{};0;{max}",
            shown(value),
            range(warning),
            range(critical)
        ));
        let alert = [(State::Critical, critical), (State::Warning, warning)]
            .into_iter()
            .find_map(|(state, range)| range.filter(|range| range.alerts(value)).map(|range| (state, range)));
        if let Some((found, range)) = alert {
            let detail = reading.detail.as_ref().map(|detail| format!(", {detail}")).unwrap_or_default();
            let text = format!(
                "{about} {}{unit}{detail} ({} at {range})",
                shown(value),
                found.name().to_lowercase()
            );
            alerts.push((found, text));
            state = state.max(found);
        }
    }
    alerts.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
    let said = match alerts.is_empty() {
        true => calm(thresholds, readings),
        false => alerts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("; "),
    };
    let mut text = format!("SOCKEYE {} - {} | {}\n", state.name(), plain(&said), performance.join(" "));
    for line in long {
        text.push_str(&plain(line));
        text.push('\n');
    }
    Ok(Answer { text, state })
}

/// What was looked at, where nothing is wrong with it.
fn calm(thresholds: &Thresholds, readings: &[Reading]) -> String {
    let asked = |reading: &&Reading| {
        [&thresholds.critical, &thresholds.warning]
            .iter()
            .any(|of| Thresholds::range(of, reading.metric).is_some())
    };
    let say = |reading: &Reading| {
        let (_, _, _, unit, about) = reading.metric.row();
        reading.value.map(|value| format!("{about} {}{unit}", shown(value)))
    };
    readings.iter().filter(asked).filter_map(say).collect::<Vec<_>>().join(", ")
}

fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// With one decimal where it has any.
fn shown(value: f64) -> String {
    let rounded = rounded(value);
    if rounded.fract() == 0.0 { format!("{rounded:.0}") } else { format!("{rounded:.1}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_metrics() {
        for (at, row) in Metric::ALL.iter().enumerate() {
            assert_eq!(row.0 as usize, at);
        }
    }

    #[test]
    fn a_reading_is_shown_with_a_decimal_at_most() {
        assert_eq!([78.1, 80.0, 0.04, 1234.56].map(shown), ["78.1", "80", "0", "1234.6"]);
    }

    #[test]
    fn what_is_not_known_is_no_ok() {
        let thresholds = Thresholds {
            warning: vec![(Metric::Opens, Range::parse("5", false).unwrap())],
            critical: Vec::new(),
        };
        let reading = Reading { metric: Metric::Opens, value: None, detail: None, max: None };
        assert!(judge(&thresholds, &[reading], &[]).is_err());
    }

    #[test]
    fn no_text_begins_performance_data() {
        let thresholds = Thresholds { warning: Vec::new(), critical: Vec::new() };
        let answer = judge(&thresholds, &[], &["a | b\nc\x1b[31m".to_owned()]).unwrap();
        assert_eq!(answer.text.matches('|').count(), 1);
        assert_eq!(answer.text.lines().count(), 2);
        assert!(!answer.text.contains('\x1b'));
    }
}
