//! What a run came to as Markdown, for the summary page of a CI server; and broken rules as annotations of GitHub.

use std::fmt::Write as _;

use sockeye_gate::{Account, Outcome, Verdict};

use super::run_table::{count, how, name, number, sentence, span};
use crate::run::child::Exit;
use crate::terminal::Harmless;

/// Destinations that are told one by one.
const MOST_ROWS: usize = 20;

/// The whole text.
pub(crate) fn render(account: &Account, verdict: &Verdict, command: &[String], exit: Exit) -> String {
    let mut text = String::new();
    let mark = match (verdict.passes(), exit) {
        (true, Exit::Code(0)) => "✅ passed",
        // What fails for itself is no success, however few its connections were.
        (true, _) => "⚠️ as allowed, of a command that failed",
        (false, _) => "❌ failed",
    };
    let _ = writeln!(text, "### Connections of {}: {mark}\n", escaped(&name(command)));
    let _ = writeln!(
        text,
        "{} in {:.2} s: {} connections opened, {} accepted, {} at once at most, {} left in TIME_WAIT, {} not closed.\n",
        how(exit),
        account.duration_ms as f64 / 1e3,
        count(account.opens),
        count(account.accepts),
        number(account.peak_live),
        number(account.time_wait_left),
        count(account.leaked()),
    );
    if !verdict.findings.is_empty() {
        text += "| | Rule | Value | Allowed | Baseline |\n|---|---|---:|---:|---:|\n";
    }
    for finding in &verdict.findings {
        let mark = match finding.outcome {
            Outcome::Broken => "❌",
            Outcome::Doubtful | Outcome::NotKnown => "❔",
            Outcome::Better => "⬇️",
            Outcome::Kept => "✅",
        };
        let value = finding.value.map_or_else(
            || "not known".to_owned(),
            |value| finding.unit.show(if finding.is_minimum { value.max } else { value.min }),
        );
        let sign = if finding.is_minimum { '≥' } else { '≤' };
        let allowed = finding.unit.show(finding.allowed);
        let baseline = finding.baseline.map_or_else(String::new, |baseline| finding.unit.show(baseline));
        let _ = writeln!(
            text,
            "| {mark} | {} | {value} | {sign} {allowed} | {baseline} |",
            escaped(&finding.rule)
        );
    }
    for finding in verdict.broken() {
        let _ = writeln!(text, "\n**{}**\n", escaped(&sentence(finding)));
        for line in &finding.evidence {
            let _ = writeln!(text, "- {}", escaped(line));
        }
    }
    if !account.destinations.is_empty() {
        text += "\n| Destination | Opened | At once | Ports | TIME_WAIT | Median lifetime |\n|---|---:|---:|---:|---:|---:|\n";
    }
    for one in account.destinations.iter().take(MOST_ROWS) {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            one.remote,
            count(one.opens),
            number(one.peak_live),
            count(one.peak_ports),
            number(one.time_wait_left),
            one.lived.p50.map_or_else(String::new, span),
        );
    }
    if account.destinations.len() > MOST_ROWS {
        let _ = writeln!(text, "\n… and {} more destinations.", account.destinations.len() - MOST_ROWS);
    }
    for note in &account.notes {
        let _ = writeln!(text, "\n> {}", escaped(note));
    }
    text
}

/// Broken and doubtful rules as workflow commands, a line each.
pub(crate) fn annotations(verdict: &Verdict) -> String {
    let mut text = String::new();
    for finding in &verdict.findings {
        let level = match finding.outcome {
            Outcome::Broken => "error",
            Outcome::Doubtful | Outcome::NotKnown => "warning",
            Outcome::Better => "notice",
            Outcome::Kept => continue,
        };
        let mut message = sentence(finding);
        finding.evidence.iter().for_each(|line| message += &format!("\n{line}"));
        let title =
            format!("sockeye: {}", finding.rule).replace('%', "%25").replace(':', "%3A").replace(',', "%2C");
        let message: Vec<String> =
            message.replace('%', "%25").split('\n').map(|line| Harmless(line).to_string()).collect();
        let _ = writeln!(text, "::{level} title={}::{}", Harmless(&title), message.join("%0A"));
    }
    text
}

/// Text from outside, which neither ends a cell nor becomes a tag, a link or emphasis.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in Harmless(text).to_string().chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '!' | '@' => {
                let _ = write!(safe, "&#{};", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}
