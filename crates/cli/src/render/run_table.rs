//! What a run came to, for people: a few lines, the destinations, and each rule that was not simply kept.

use std::fmt::Write as _;

use sockeye_gate::{Account, Count, DestinationAccount, Finding, Outcome, Span, Unit, Verdict};

use super::paragraph::paragraph;
use crate::run::child::Exit;
use crate::terminal::{Harmless, Palette};

/// Destinations and leaks that are told one by one.
const MOST_ROWS: usize = 10;

/// All of it.
/// Sentences are broken at `width` columns.
pub(crate) fn render(
    account: &Account,
    verdict: &Verdict,
    exit: Exit,
    palette: Palette,
    width: usize,
) -> String {
    let Palette { heading, dim, reset, .. } = palette;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "\n{heading}sockeye{reset}  {} in {:.2} s, {}\n",
        how(exit),
        account.duration_ms as f64 / 1e3,
        account.scope.text(),
    );
    let _ = writeln!(
        text,
        "  opened {} · accepted {} · most at once {} · not closed {}",
        count(account.opens),
        count(account.accepts),
        number(account.peak_live),
        count(account.leaked()),
    );
    let _ = writeln!(
        text,
        "  most ports {} ({}) · TIME-WAIT left {}",
        count(account.peak_ports),
        Unit::Share.show(account.peak_occupancy),
        number(account.time_wait_left),
    );
    if account.closes > 0 {
        let [local, remote, reset, unknown] = account.closed_by.map(number);
        let _ = writeln!(text, "  lifetimes {}", lifetimes(account));
        let _ = writeln!(
            text,
            "  closed first by this end {local}, the other {remote}, a reset {reset}, not known {unknown}"
        );
    }
    destinations(&mut text, &account.destinations, palette);
    for leak in account.leaks.iter().take(MOST_ROWS) {
        let place = leak.remote.map_or_else(String::new, |remote| format!(" to {remote}"));
        let owner =
            if leak.owner.is_empty() { String::new() } else { format!(" ({})", Harmless(&leak.owner)) };
        let doubt = if leak.is_certain { "" } else { ", as it seems" };
        let what = leak.kind.text();
        let told = format!("not closed: {}{place}{owner}: {what}{doubt}", number(leak.count));
        let _ = writeln!(text, "  {}", paragraph(&told, 14, width));
    }
    findings(&mut text, verdict, palette, width);
    for note in &account.notes {
        let note = paragraph(&Harmless(note).to_string(), 8, width);
        let _ = writeln!(text, "  {dim}note: {note}{reset}");
    }
    text
}

/// The command as a name for a report: what generates commands writes lines of thousands of characters.
pub(super) fn name(command: &[String]) -> String {
    const MOST_CHARACTERS: usize = 200;
    let line = command.join(" ");
    match line.char_indices().nth(MOST_CHARACTERS) {
        None => line,
        Some((end, _)) => format!("{}…", &line[..end]),
    }
}

/// How the command ended.
pub(super) fn how(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit code {code}"),
        Exit::Signal(signal) => format!("ended by signal {signal}"),
        Exit::TimedOut => "ended because its time was up".to_owned(),
    }
}

pub(super) fn number(number: u64) -> String {
    Unit::Count.show(number as f64)
}

/// A number, or its bounds.
pub(super) fn count(count: Count) -> String {
    match count.is_exact() {
        true => number(count.min),
        false => format!("{} to {}", number(count.min), number(count.max)),
    }
}

fn lifetimes(account: &Account) -> String {
    let lived = &account.lived;
    let percentiles = [("p50", lived.p50), ("p90", lived.p90), ("p99", lived.p99)];
    let told = percentiles.into_iter().filter_map(|(name, at)| Some(format!("{name} {}", span(at?))));
    let told: Vec<String> = told.collect();
    if told.is_empty() { "not known".to_owned() } else { told.join(" ") }
}

/// `410 ms`, or its bounds where they are apart.
pub(super) fn span(span: Span) -> String {
    let [min, max] = [span.min_ms, span.max_ms].map(|ms| Unit::Milliseconds.show(ms as f64));
    match span.max_ms - span.min_ms {
        // As far apart as the bins of a histogram are.
        apart if apart * 50 <= span.max_ms => max,
        _ => format!("{}–{max}", min.trim_end_matches(" ms").trim_end_matches(" s")),
    }
}

fn destinations(text: &mut String, all: &[DestinationAccount], palette: Palette) {
    if all.is_empty() {
        return;
    }
    let Palette { heading, reset, dim, .. } = palette;
    let rows: Vec<[String; 8]> = all.iter().take(MOST_ROWS).map(row).collect();
    let titles = ["DESTINATION", "OPENED", "AT ONCE", "PORTS", "TIME-WAIT", "EXCHANGES", "P50", "OPENED BY"];
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([titles[at].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    text.push('\n');
    let mut line = |cells: &[String; 8], style: &str, end: &str| {
        let mut row = format!("  {style}{:<w$}", cells[0], w = widths[0]);
        for at in 1..cells.len() - 1 {
            let _ = write!(row, "  {:>w$}", cells[at], w = widths[at]);
        }
        let _ = writeln!(text, "{row}  {}{end}", cells[7]);
    };
    line(&titles.map(str::to_owned), heading, reset);
    rows.iter().for_each(|row| line(row, "", ""));
    if all.len() > MOST_ROWS {
        let _ = writeln!(text, "  {dim}… {} more{reset}", all.len() - MOST_ROWS);
    }
}

fn row(one: &DestinationAccount) -> [String; 8] {
    let owners: Vec<String> = one
        .owners
        .iter()
        .take(2)
        .map(|(owner, opens)| format!("{} {}", Harmless(owner), number(*opens)))
        .collect();
    [
        format!("{} → {}", one.local_address, one.remote),
        count(one.opens),
        number(one.peak_live),
        count(one.peak_ports),
        number(one.time_wait_left),
        one.exchanges.map_or_else(|| "—".to_owned(), |exchanges| format!("{exchanges:.1}")),
        one.lived.p50.map_or_else(|| "—".to_owned(), span),
        owners.join(", "),
    ]
}

fn findings(text: &mut String, verdict: &Verdict, palette: Palette, width: usize) {
    let Palette { good, warn, bad, reset, .. } = palette;
    if !verdict.findings.is_empty() {
        text.push('\n');
    }
    for finding in verdict.findings.iter().filter(|finding| finding.outcome != Outcome::Kept) {
        let (style, word) = match finding.outcome {
            Outcome::Broken => (bad, "BROKEN"),
            Outcome::Doubtful => (warn, "DOUBTFUL"),
            Outcome::NotKnown => (warn, "NOT KNOWN"),
            Outcome::Better | Outcome::Kept => (good, "BETTER"),
        };
        let said = paragraph(&sentence(finding), 2 + word.len() + 2, width);
        let _ = writeln!(text, "  {style}{word}{reset}  {said}");
        for line in &finding.evidence {
            let _ = writeln!(text, "          {}", paragraph(&Harmless(line).to_string(), 12, width));
        }
    }
    let kept = verdict.findings.iter().filter(|finding| finding.outcome == Outcome::Kept).count();
    if kept > 0 {
        let _ = writeln!(text, "  {good}kept{reset}  {kept} {}", if kept == 1 { "rule" } else { "rules" });
    }
}

/// A finding as a sentence: the rule, the value and the limit.
pub(super) fn sentence(finding: &Finding) -> String {
    let show = |value: f64| finding.unit.show(value);
    let value = match finding.value {
        None => "nothing tells".to_owned(),
        Some(value) if value.min == value.max => show(value.max),
        Some(value) if finding.is_minimum => format!("{} at most", show(value.max)),
        Some(value) => format!("{} to {}", show(value.min), show(value.max)),
    };
    let limit = if finding.is_minimum { "at least" } else { "at most" };
    let baseline =
        finding.baseline.map_or_else(String::new, |before| format!(" (the baseline has {})", show(before)));
    let advice = match finding.outcome {
        Outcome::Better => ": save the baseline again",
        _ => "",
    };
    format!(
        "{}: {value} {}, {limit} {} allowed{baseline}{advice}",
        Harmless(&finding.rule),
        finding.text,
        show(finding.allowed)
    )
}
