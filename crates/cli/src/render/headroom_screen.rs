//! The headroom of a destination for people: the number first, then a sum that leads to it, then what to do.

use std::fmt::Write as _;

use sockeye_core::{Basis, Destination};

use crate::account::Account;
use crate::command::headroom::{Answer, Answers};
use crate::render::exhaustion::span;
use crate::render::headroom_json::doubts;
use crate::render::paragraph::paragraph;
use crate::render::snapshot_screen::{grouped, three_digits};
use crate::terminal::{Harmless, Palette};

/// Columns where the output is no terminal.
pub(crate) const DEFAULT_WIDTH: usize = 100;
const LEAST_WIDTH: usize = 60;
const MOST_WIDTH: usize = 120;
const LABEL_WIDTH: usize = 10;
const NUMBER_WIDTH: usize = 9;

/// The whole text.
pub(crate) fn render(answers: &Answers<'_>, width: usize, palette: Palette) -> String {
    let mut screen = Screen { text: String::new(), width: width.clamp(LEAST_WIDTH, MOST_WIDTH), palette };
    for (index, answer) in answers.answers.iter().enumerate() {
        if index > 0 {
            screen.text.push('\n');
        }
        screen.answer(answer, answers.report.churn.is_some());
    }
    let mut notes: Vec<String> =
        doubts(answers.report, answers.notes).map(|(_, message)| Harmless(&message).to_string()).collect();
    let in_doubt = answers.answers.iter().any(|answer| answer.destination.headroom.suspected_ports > 0);
    if answers.may_probe && in_doubt {
        notes.push("--probe settles which ports were bound before connecting".to_owned());
    }
    screen.labelled("NOTES", &notes);
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
    /// `watched`: opens were counted.
    fn answer(&mut self, answer: &Answer, watched: bool) {
        let Palette { heading, reset, .. } = self.palette;
        let told = &answer.destination;
        let style = self.palette.of_share(told.occupancy());
        put!(self, "{heading}{}{reset}\n", told.id);
        put!(self, "{style}{}{reset}\n\n", verdict(told));
        self.account(&answer.account, told);
        self.text.push('\n');
        self.labelled("FORECAST", &[forecast(told, watched)]);
        let remedies: Vec<String> = answer
            .account
            .remedies
            .iter()
            .map(|remedy| {
                let ports = match remedy.ports {
                    1 => "1 port more".to_owned(),
                    more => format!("up to {} ports more", grouped(more)),
                };
                match &remedy.command {
                    Some(command) => format!("{command}  {ports}; {}", remedy.message),
                    None => format!("{}: {ports}", remedy.message),
                }
            })
            .collect();
        self.labelled("FOR MORE", &remedies);
    }

    fn account(&mut self, account: &Account, told: &Destination) {
        let Palette { dim, reset, .. } = self.palette;
        put!(self, "  {:>NUMBER_WIDTH$}  ports in the range\n", grouped(account.range));
        for reason in &account.certain {
            put!(self, "  {:>NUMBER_WIDTH$}  {}\n", format!("−{}", grouped(reason.ports)), reason.message);
        }
        let headroom = &told.headroom;
        let reusable = match headroom.reusable_time_wait {
            0 => String::new(),
            ports => format!(", {} of them in TIME_WAIT and taken over", grouped(ports)),
        };
        let (most, left) = (grouped(headroom.max), if headroom.is_exact() { "left" } else { "left at most" });
        put!(self, "{dim}= {most:>NUMBER_WIDTH$}  {left}{reusable}{reset}\n");
        for reason in &account.perhaps {
            put!(self, "  {:>NUMBER_WIDTH$}  {}\n", format!("−{}", grouped(reason.ports)), reason.message);
        }
        if !headroom.is_exact() {
            put!(self, "{dim}= {:>NUMBER_WIDTH$}  left at least{reset}\n", grouped(headroom.min));
        }
    }

    /// Lines of text behind a label, broken at their single spaces.
    fn labelled(&mut self, label: &str, lines: &[String]) {
        let Palette { heading, reset, .. } = self.palette;
        for (index, line) in lines.iter().enumerate() {
            put!(self, "{heading}{:<LABEL_WIDTH$}{reset}", if index == 0 { label } else { "" });
            put!(self, "{}\n", paragraph(line, LABEL_WIDTH, self.width));
        }
    }
}

fn verdict(told: &Destination) -> String {
    let headroom = &told.headroom;
    match (headroom.min, headroom.max) {
        (_, 0) => "no connect() succeeds now: EADDRNOTAVAIL".to_owned(),
        (1, 1) => "1 more connect() succeeds now".to_owned(),
        (min, max) if min == max => format!("{} more connect() succeed now", grouped(max)),
        (min, max) => format!("{} to {} more connect() succeed now", grouped(min), grouped(max)),
    }
}

fn forecast(destination: &Destination, watched: bool) -> String {
    let Some(told) = &destination.forecast else {
        let text = match (destination.is_exhausted(), watched) {
            (true, _) => "exhausted now",
            (false, true) => "no connection to it was opened or closed meanwhile",
            (false, false) => {
                "not known: none of its connections was closed here in the last minute; --for 10s counts opens"
            }
        };
        return text.to_owned();
    };
    let basis = match told.basis {
        Basis::Opens => "counted",
        Basis::TimeWaitTimers => "from TIME_WAIT timers",
    };
    let leak = match told.leak_rate {
        0.0 => String::new(),
        leak => format!(", {} of them never closed", three_digits(leak)),
    };
    let rate = format!("at {} opens/s ({basis}){leak}", three_digits(told.open_rate));
    let mut text = match (told.earliest_in_s, told.exhausted_in_s) {
        (_, Some(0.0)) => format!("exhausted now, {rate}"),
        (Some(earliest), Some(latest)) if span(earliest) != span(latest) => {
            format!("exhausted in {} to {} {rate}", span(earliest), span(latest))
        }
        (_, Some(latest)) => format!("exhausted in {} {rate}", span(latest)),
        (Some(earliest), None) => {
            format!("exhausted in {} at the earliest, and perhaps never, {rate}", span(earliest))
        }
        (None, None) => format!("never exhausted {rate}"),
    };
    if let Some(steady) = told.steady_use {
        text += &match told.exhausted_in_s {
            None => format!("; settles at {} ports in use", grouped(steady.round() as u64)),
            Some(_) => format!("; would take {} ports", grouped(steady.round() as u64)),
        };
    }
    if let Some(max_rate) = told.max_rate {
        text += &format!("; {} opens/s can go on for ever", three_digits(max_rate));
    }
    text
}
