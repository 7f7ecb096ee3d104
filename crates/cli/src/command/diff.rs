//! `sockeye diff A B`: what is different between two saved outputs, and whether that is too much.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use sockeye_core::{Change, LifetimeComparison, RateComparison, Verdict, compare_lifetimes, compare_rates};

use crate::args::{DiffArgs, ReportFormat};
use crate::history::past::{Asked, Past};
use crate::render::diff_saved::{FIGURES, Figure, Kind, Saved, Towards};
use crate::render::{diff_json, diff_table, report_json};
use crate::terminal::{self, Harmless, Palette, buffered_stdout, ignore_closed_pipe};

/// Destinations shown unless asked otherwise.
const DEFAULT_TOP: usize = 10;

/// Larger files are not read.
const MOST_BYTES: u64 = 256 << 20;

/// A change that is too much, as typed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum FailOn {
    /// Lifetimes are shorter, as far as the data can show.
    ShorterLifetimes,
    /// This number got worse by more than this share (0.1 is a tenth).
    Worse(Figure, f64),
}

impl FailOn {
    /// Reads `lifetimes`, `opens` (any rise), `opens=10%`.
    pub(crate) fn parse(text: &str) -> Result<FailOn, String> {
        let (id, share) = text.split_once('=').unwrap_or((text, "0%"));
        if text == "lifetimes" {
            return Ok(FailOn::ShorterLifetimes);
        }
        let figure = FIGURES.iter().find(|figure| figure.id == id).ok_or_else(|| {
            let known: Vec<&str> = FIGURES.iter().map(|figure| figure.id).collect();
            format!(
                "it must be lifetimes, or one of {}, with or without a share: opens=10%",
                known.join(", ")
            )
        })?;
        let share = share.strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok());
        match share.filter(|percent| (0.0..=1e6).contains(percent)) {
            Some(percent) => Ok(FailOn::Worse(*figure, percent / 100.0)),
            None => Err("write the share like 10%".to_owned()),
        }
    }
}

/// One number of both.
pub(crate) struct FigureRow {
    pub(crate) figure: Figure,
    pub(crate) before: f64,
    pub(crate) after: f64,
}

impl FigureRow {
    /// By which share it is more (less than 0: less); None where it was nothing.
    pub(crate) fn change(&self) -> Option<f64> {
        (self.before != 0.0).then(|| self.after / self.before - 1.0)
    }

    /// Whether it got worse by more than this share of what it was.
    fn is_worse_by(&self, share: f64) -> bool {
        let more =
            if self.figure.more_is_worse { self.after - self.before } else { self.before - self.after };
        // Shares of a tenth are no binary fractions: what is typed as equal must not count as more.
        more > self.before * share + 1e-9 * self.before.abs()
    }
}

/// One destination of both; what is not there has nothing.
pub(crate) struct DestinationRow {
    pub(crate) name: String,
    pub(crate) before: Towards,
    pub(crate) after: Towards,
}

/// Everything that is told.
pub(crate) struct Diff {
    pub(crate) kind: Kind,
    pub(crate) figures: Vec<FigureRow>,
    /// Those that changed, the most ports first.
    pub(crate) destinations: Vec<DestinationRow>,
    pub(crate) lifetimes: Option<LifetimeComparison>,
    pub(crate) opens: Option<RateComparison>,
    /// What `--fail-on` asked for and is so, in words.
    pub(crate) failed: Vec<String>,
}

/// Runs the command; false when it fails.
pub(crate) fn run(args: &DiffArgs) -> anyhow::Result<bool> {
    let [before, after] = [read(&args.before)?, read(&args.after)?];
    ensure!(
        before.kind == after.kind,
        "{} is a {}, and {} a {}: compare two of one kind",
        harmless(&args.before),
        before.kind.name(),
        harmless(&args.after),
        after.kind.name()
    );
    let diff = Diff::of(&before, &after, &args.fail_on)?;
    let text = match args.output.format() {
        ReportFormat::Json => diff_json::render(&diff, args.top.unwrap_or(usize::MAX))?,
        ReportFormat::Table => diff_table::render(
            &diff,
            args.top.unwrap_or(DEFAULT_TOP),
            terminal::width(),
            Palette::choose(args.color.when),
        ),
    };
    let mut out = buffered_stdout();
    ignore_closed_pipe(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
        .context("writing to standard output")?;
    Ok(diff.failed.is_empty())
}

/// A path as it can be shown: a file may be called anything.
fn harmless(path: &Path) -> String {
    Harmless(&path.to_string_lossy()).to_string()
}

fn read(path: &Path) -> anyhow::Result<Saved> {
    let shown = harmless(path);
    if path.is_dir() {
        let text = recorded(path).with_context(|| format!("cannot compare {shown}"))?;
        return Saved::parse(text.as_bytes()).with_context(|| format!("cannot compare {shown}"));
    }
    let cannot = || format!("cannot read {shown}");
    let mut text = Vec::new();
    File::open(path)
        .with_context(cannot)?
        .take(MOST_BYTES + 1)
        .read_to_end(&mut text)
        .with_context(cannot)?;
    // A device or a pipe need not end.
    ensure!(
        text.len() as u64 <= MOST_BYTES,
        "{}: more than {} MiB, which no output of sockeye is",
        cannot(),
        MOST_BYTES >> 20
    );
    Saved::parse(&text).with_context(|| format!("cannot compare {shown}"))
}

/// A recording is compared by the report of all of it.
fn recorded(directory: &Path) -> anyhow::Result<String> {
    let past = Past::read(directory, &Asked::ALL)?;
    report_json::render(&past.view(DEFAULT_TOP))
}

impl Diff {
    /// # Errors
    /// A number of `--fail-on` that the files do not tell: a gate that never closes is worse than none.
    fn of(before: &Saved, after: &Saved, fail_on: &[FailOn]) -> anyhow::Result<Diff> {
        let both = FIGURES.iter().zip(before.figures.iter().zip(&after.figures));
        let figures: Vec<FigureRow> = both
            .filter_map(|(figure, (before, after))| {
                Some(FigureRow { figure: *figure, before: (*before)?, after: (*after)? })
            })
            .collect();
        let lifetimes = match (&before.lifetimes, &after.lifetimes) {
            (Some(before), Some(after)) => Some(compare_lifetimes(before, after)),
            _ => None,
        };
        let opens = match (&before.opens, &after.opens) {
            (Some((before, before_s)), Some((after, after_s))) => {
                Some(compare_rates((before, *before_s), (after, *after_s)))
            }
            _ => None,
        };
        let mut failed = Vec::new();
        for rule in fail_on {
            match rule {
                FailOn::ShorterLifetimes => {
                    let told = lifetimes.as_ref().context(
                        "--fail-on lifetimes: the files tell no lifetimes; a report or `sockeye lifetimes --json` does",
                    )?;
                    match told.verdict {
                        Verdict::Changed(Change::Lower) => failed.push(told.to_string()),
                        // Nothing was compared: that is no pass.
                        Verdict::TooFew => bail!("--fail-on lifetimes: {told}"),
                        _ => {}
                    }
                }
                FailOn::Worse(figure, share) => {
                    let row = figures.iter().find(|row| row.figure.id == figure.id).with_context(|| {
                        format!("--fail-on {}: a {} does not tell it", figure.id, before.kind.name())
                    })?;
                    if row.is_worse_by(*share) {
                        failed.push(format!(
                            "{}: {} instead of {}, more than {}% worse",
                            figure.label,
                            diff_table::number(row.after),
                            diff_table::number(row.before),
                            // A share of a percentage is no binary fraction.
                            (share * 1e8).round() / 1e6
                        ));
                    }
                }
            }
        }
        Ok(Diff {
            kind: before.kind,
            figures,
            destinations: destinations(before, after),
            lifetimes,
            opens,
            failed,
        })
    }
}

fn destinations(before: &Saved, after: &Saved) -> Vec<DestinationRow> {
    let names: std::collections::BTreeSet<&String> =
        before.destinations.keys().chain(after.destinations.keys()).collect();
    let of = |saved: &Saved, name: &str| saved.destinations.get(name).copied().unwrap_or_default();
    let rows = names.into_iter().map(|name| DestinationRow {
        name: name.clone(),
        before: of(before, name),
        after: of(after, name),
    });
    let mut rows: Vec<DestinationRow> = rows.filter(|row| row.before != row.after).collect();
    // Stable: equals stay in the order of their names.
    rows.sort_by_key(|row| {
        let ports = row.before.ports.abs_diff(row.after.ports);
        std::cmp::Reverse((ports, row.before.connections.abs_diff(row.after.connections)))
    });
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(text: &str) -> Saved {
        Saved::parse(text.as_bytes()).unwrap()
    }

    fn run_of(opens: u64, ports: u64) -> Saved {
        saved(&format!(
            r#"{{"schema":"sockeye.run/1","opens":{opens},"peak_ports":{ports},"leaked":0,"destinations":[
                {{"protocol":"tcp","local_address":"10.0.0.7","remote_address":"10.0.9.12","remote_port":80,"opens":{opens},"peak_ports":{ports}}}]}}"#
        ))
    }

    fn lives(shift: u64) -> Saved {
        let rows: Vec<String> = (0..200u64).map(|i| format!("[{0},{0},10]", shift + i)).collect();
        saved(&format!(r#"{{"schema":"sockeye.report/1","lifetimes":{{"sample_ms":[{}]}}}}"#, rows.join(",")))
    }

    #[test]
    fn a_rise_beyond_its_share_fails() {
        let rule = |text| FailOn::parse(text).unwrap();
        let failed = |before, after, text| {
            !Diff::of(&run_of(before, 5), &run_of(after, 5), &[rule(text)]).unwrap().failed.is_empty()
        };
        assert!(!failed(100, 110, "opens=10%") && failed(100, 111, "opens=10%"));
        assert!(failed(100, 101, "opens") && !failed(100, 100, "opens") && !failed(100, 50, "opens"));
        assert!(failed(0, 1, "opens=900%"), "from nothing to something is more than any share");
        let parts = Diff::of(&run_of(1_000, 5), &run_of(1_010, 5), &[rule("opens=0.7%")]).unwrap();
        assert!(parts.failed[0].ends_with("more than 0.7% worse"), "{:?}", parts.failed);
        let unknown = Diff::of(&run_of(1, 1), &run_of(1, 1), &[rule("headroom")]);
        assert!(unknown.is_err_and(|error| error.to_string().contains("does not tell it")));
    }

    #[test]
    fn shorter_lifetimes_fail_and_longer_ones_do_not() {
        let failed = |before, after| {
            Diff::of(&lives(before), &lives(after), &[FailOn::ShorterLifetimes]).unwrap().failed.len()
        };
        assert_eq!((failed(500, 300), failed(300, 500), failed(300, 300)), (1, 0, 0));
        assert!(Diff::of(&run_of(1, 1), &run_of(1, 1), &[FailOn::ShorterLifetimes]).is_err());
    }

    #[test]
    fn too_few_connections_are_no_pass() {
        let few = saved(r#"{"schema":"sockeye.report/1","lifetimes":{"sample_ms":[[5,5,1]]}}"#);
        let error = Diff::of(&few, &lives(300), &[FailOn::ShorterLifetimes]).err().unwrap().to_string();
        assert!(error.contains("too few"), "{error}");
        assert!(Diff::of(&few, &lives(300), &[]).unwrap().failed.is_empty());
    }

    #[test]
    fn protocols_are_told_apart() {
        let towards = |protocol: &str, live: u64| {
            format!(
                r#"{{"protocol":"{protocol}","local_address":"10.0.0.7","remote_address":"10.0.9.12","remote_port":53,"live":{live},"in_use":{live}}}"#
            )
        };
        let snapshot = |tcp, udp| {
            saved(&format!(
                r#"{{"schema":"sockeye.snapshot/1","destinations":[{},{}]}}"#,
                towards("tcp", tcp),
                towards("udp", udp)
            ))
        };
        let diff = Diff::of(&snapshot(1, 2), &snapshot(1, 5), &[]).unwrap();
        let rows: Vec<_> = diff.destinations.iter().map(|row| (&*row.name, row.after.ports)).collect();
        assert_eq!(rows, [("10.0.0.7 → 10.0.9.12:53 (UDP)", 5)]);
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        for text in ["", "opens=", "opens=ten", "opens=-1%", "open", "lifetimes=5%", "opens=nan%"] {
            assert!(FailOn::parse(text).is_err(), "{text}");
        }
        assert_eq!(FailOn::parse("lifetimes"), Ok(FailOn::ShorterLifetimes));
    }

    #[test]
    fn files_that_cannot_be_compared_say_why() {
        let why = |text: &str| Saved::parse(text.as_bytes()).err().unwrap().to_string();
        assert!(why("nonsense").contains("no JSON"));
        assert!(why("{}").contains("no \"schema\""));
        assert!(why(r#"{"schema":"sockeye.watch/1"}"#).contains("cannot compare a sockeye.watch"));
        assert!(why(r#"{"schema":"sockeye.run/2"}"#).contains("later"));
        for text in [r#"{"schema":"sockeye.run"}"#, r#"{"schema":"sockeye.run/0"}"#] {
            assert!(why(text).contains("no sockeye writes"), "{text}");
        }
        let odd = saved(r#"{"schema":"sockeye.run/1","opens":-5,"leaked":1e308,"peak_live":2}"#);
        assert_eq!(odd.figures.iter().flatten().collect::<Vec<_>>(), [&2.0]);
        // Whatever is in them is no panic.
        for text in [
            r#"{"schema":"sockeye.run/1","opens":"x","destinations":[1,{},{"local_address":7}],"lifetimes":[]}"#,
            r#"{"schema":"sockeye.report/1","lifetimes":{"sample_ms":[[],[1,2],[-1,null,5]]},"bucket_ms":0,"buckets":3}"#,
            r#"{"schema":"sockeye.run/1","destinations":[
                {"local_address":"::1","remote_address":"::1","remote_port":1,"opens":18446744073709551615,"peak_ports":18446744073709551615},
                {"local_address":"::1","remote_address":"::1","remote_port":1,"opens":18446744073709551615,"peak_ports":18446744073709551615}]}"#,
            r#"{"schema":"sockeye.report/1","lifetimes":{"sample_ms":[
                [0,0,18446744073709551615],[900,900,18446744073709551615],[1,null,18446744073709551615],[9,null,18446744073709551615]]},
                "bucket_ms":1000,"buckets":[{"recorded_ms":1000,"opens":18446744073709551615},{"recorded_ms":1000,"opens":18446744073709551615}]}"#,
            r#"{"schema":"sockeye.lifetimes/1","bars":[{"from_ms":0,"to_ms":0,"count":18446744073709551615},{}]}"#,
        ] {
            let saved = saved(text);
            let _ = Diff::of(&saved, &saved, &[]).unwrap();
        }
    }

    #[test]
    fn the_table_and_the_object_tell_what_changed() {
        let diff =
            Diff::of(&run_of(1_000, 40), &run_of(1_500, 90), &[FailOn::parse("opens=20%").unwrap()]).unwrap();
        insta::assert_snapshot!("diff_table", diff_table::render(&diff, 10, Some(100), Palette::PLAIN));
        insta::assert_snapshot!("diff_json", diff_json::render(&diff, 10).unwrap());
        let lives = Diff::of(&lives(500), &lives(300), &[]).unwrap();
        let table = diff_table::render(&lives, 10, Some(80), Palette::PLAIN);
        assert!(table.contains("connections live shorter"), "{table}");
        assert!(diff_json::render(&lives, 10).unwrap().contains(r#""verdict":"shorter""#));
    }
}
