//! The headroom of a destination as one JSON object, schema `sockeye.headroom/1`. Names stay; new ones may come.

use serde::Serialize;
use sockeye_core::{Forecast, Report, Warning};

use crate::account::{Reason, Remedy};
use crate::command::headroom::{Answer, Answers};
use crate::render::snapshot_json::{DestinationRow, WarningRow, destination, rounded};
use crate::sweep::Note;
use crate::terminal::write_json;

#[derive(Serialize)]
struct Object {
    schema: &'static str,
    taken_at: String,
    #[serde(flatten)]
    answer: AnswerRow,
    /// The same from other local addresses that are in use.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    other_local_addresses: Vec<AnswerRow>,
    warnings: Vec<WarningRow>,
}

#[derive(Serialize)]
struct AnswerRow {
    destination: DestinationRow,
    headroom: Range,
    range: u32,
    usable: u32,
    in_use: u32,
    held: u32,
    reserved: u32,
    reusable_time_wait: u32,
    because: Vec<ReasonRow>,
    remedies: Vec<RemedyRow>,
    /// Absent where no rate is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    forecast: Option<ForecastRow>,
}

#[derive(Serialize)]
struct Range {
    min: u32,
    max: u32,
}

#[derive(Serialize)]
struct ReasonRow {
    id: &'static str,
    ports: u32,
    /// Whether these are certainly not free: false is the doubt between min and max.
    certain: bool,
    message: String,
}

#[derive(Serialize)]
struct RemedyRow {
    id: &'static str,
    ports: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
    message: String,
}

#[derive(Serialize)]
struct ForecastRow {
    /// null when it never happens.
    exhausted_in_seconds: Option<f64>,
    /// The same for the least headroom, where that is in doubt.
    #[serde(skip_serializing_if = "Option::is_none")]
    earliest_in_seconds: Option<f64>,
    basis: &'static str,
    opens_per_second: f64,
    leaked_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    steady_use: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_rate_per_second: Option<f64>,
}

/// The object and a newline.
pub(crate) fn render(answers: &Answers<'_>) -> anyhow::Result<String> {
    let mut rows = answers.answers.iter().map(|answer| row(answer, answers));
    let first = rows.next().ok_or_else(|| anyhow::anyhow!("no local address to connect from"))?;
    let object = Object {
        schema: "sockeye.headroom/1",
        taken_at: format!("{:.3}", answers.surroundings.taken_at),
        answer: first,
        other_local_addresses: rows.collect(),
        warnings: doubts(answers.report, answers.notes)
            .map(|(id, message)| WarningRow { id, message })
            .collect(),
    };
    let mut text = Vec::new();
    write_json(&mut text, &object)?;
    text.push(b'\n');
    Ok(String::from_utf8(text)?)
}

fn row(answer: &Answer, answers: &Answers<'_>) -> AnswerRow {
    let (told, account, pool) = (&answer.destination, &answer.account, &answers.report.tcp);
    let reason = |reason: &Reason, certain| ReasonRow {
        id: reason.id,
        ports: reason.ports,
        certain,
        message: reason.message.clone(),
    };
    let remedy = |remedy: &Remedy| RemedyRow {
        id: remedy.id,
        ports: remedy.ports,
        command: remedy.command.clone(),
        message: remedy.message.clone(),
    };
    let certain = account.certain.iter().map(|one| reason(one, true));
    AnswerRow {
        destination: destination(told),
        headroom: Range { min: told.headroom.min, max: told.headroom.max },
        range: account.range,
        usable: told.usable,
        in_use: told.in_use,
        held: pool.held,
        reserved: pool.reserved,
        reusable_time_wait: told.headroom.reusable_time_wait,
        because: certain.chain(account.perhaps.iter().map(|one| reason(one, false))).collect(),
        remedies: account.remedies.iter().map(remedy).collect(),
        forecast: told.forecast.map(forecast),
    }
}

fn forecast(told: Forecast) -> ForecastRow {
    ForecastRow {
        exhausted_in_seconds: told.exhausted_in_s.map(|seconds| rounded(seconds, 1)),
        earliest_in_seconds: told
            .earliest_in_s
            .filter(|_| told.is_in_doubt())
            .map(|seconds| rounded(seconds, 1)),
        basis: told.basis.name(),
        opens_per_second: rounded(told.open_rate, 2),
        leaked_per_second: rounded(told.leak_rate, 2),
        steady_use: told.steady_use.map(|ports| rounded(ports, 1)),
        max_rate_per_second: told.max_rate.map(|rate| rounded(rate, 2)),
    }
}

/// What makes these numbers doubtful: the report's warnings about itself, and what could not be read.
pub(super) fn doubts(report: &Report, notes: &[Note]) -> impl Iterator<Item = (&'static str, String)> {
    let about_itself = |warning: &&Warning| {
        matches!(
            warning,
            Warning::NoUsablePorts { .. }
                | Warning::TimeWaitOverflow { .. }
                | Warning::SweepRaced { .. }
                | Warning::Malformed { .. }
                | Warning::SettingUnknown { .. }
        )
    };
    let warnings = report.warnings.iter().filter(about_itself);
    let notes = notes.iter().map(|note| (note.id, note.message.clone()));
    warnings.map(|warning| (warning.id(), warning.to_string())).chain(notes)
}
