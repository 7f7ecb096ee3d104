//! One destination alone: its ports over time, where they have gone, what comes and goes, what would help.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;
use sockeye_core::{Destination, DestinationId, Group, RATE_WINDOWS_S};

use super::destinations::{headroom, name, used};
use crate::render::exhaustion::exhausted;
use crate::render::lifetimes_table::duration;
use crate::render::snapshot_screen::{grouped, three_digits};
use crate::terminal::Harmless;
use crate::top::frame::Scene;
use crate::top::look::{Detail, Look};
use crate::top::pen::{Pen, bar, chart, columns, sparkline, wrapped};
use crate::top::theme::Theme;

const BAR_CELLS: usize = 20;
/// `headroom     `, before a value.
const LABEL: usize = 12;
/// From so many columns on, the ports' account stands beside the numbers.
const WIDE: u16 = 140;

/// Taller charts tell no more: three of them.
const MOST_CHART: u16 = 48;
/// Smaller ones, where there are three, tell nothing.
const LEAST_CHART: u16 = 7;

/// Lines of text, each a row of pieces.
type Lines = Vec<Vec<(String, Style)>>;

/// Draws it.
pub(crate) fn draw(scene: &Scene<'_>, look: &Look, id: &DestinationId, area: Rect, buffer: &mut Buffer) {
    let theme = scene.theme;
    let Some(destination) = look.destination(id) else {
        Pen::at(buffer, area, 0).skip(1).put_cut(&name(id), theme.heading);
        Pen::at(buffer, area, 1).skip(1).put_cut("it has no sockets at this tick", theme.dim);
        return;
    };
    let full = destination.occupancy();
    Pen::at(buffer, area, 0)
        .skip(1)
        .put_cut(&name(id), theme.heading)
        .skip(2)
        .put(&bar(full, BAR_CELLS), theme.of_share(full))
        .put(&format!(" {} used", used(full)), theme.of_share(full));
    let left = area.height.saturating_sub(1);
    let below = Rect { y: area.bottom() - left, height: left, ..area };
    let detail = look.detail.as_deref().filter(|detail| detail.id == *id);
    let numbers = numbers(look, destination, detail, theme);
    let half = if area.width >= WIDE { below.width / 2 } else { below.width };
    let account = match look.recorded {
        Some(_) => vec![vec![("a recording does not hold where its ports went".to_owned(), theme.dim)]],
        None => account(detail, usize::from(half.saturating_sub(4)), theme),
    };
    let beside = numbers.len().max(account.len()) as u16 + 1;
    let chart_lines = below.height.saturating_sub(beside + 1).clamp(3, MOST_CHART);
    let numbers_height = (numbers.len() as u16).min(below.height);
    let number_area = Rect { width: half, height: numbers_height, ..below };
    put(&numbers, number_area, buffer);
    if area.width >= WIDE {
        let right = Rect { x: below.x + half, width: below.width - half, ..below };
        put(&account, Rect { height: below.height.saturating_sub(chart_lines + 1), ..right }, buffer);
        let lines = (chart_lines + 1).min(below.height);
        draw_trends(scene, id, Rect { y: below.bottom() - lines, height: lines, ..below }, buffer);
    } else {
        let rest = Rect { y: number_area.bottom(), height: below.height - numbers_height, ..below };
        let lines = rest.height.saturating_sub(account.len() as u16).clamp(4, MOST_CHART).min(rest.height);
        draw_trends(scene, id, Rect { height: lines, ..rest }, buffer);
        put(&account, Rect { y: rest.y + lines, height: rest.height - lines, ..rest }, buffer);
    }
}

fn put(lines: &Lines, area: Rect, buffer: &mut Buffer) {
    for (down, line) in lines.iter().take(area.height.into()).enumerate() {
        let mut pen = Pen::at(buffer, area, down as u16);
        pen.skip(1);
        line.iter().for_each(|(text, style)| {
            pen.put_cut(text, *style);
        });
    }
}

fn numbers(look: &Look, destination: &Destination, detail: Option<&Detail>, theme: &Theme) -> Lines {
    let line = |label: &str, value: String, style: Style| {
        vec![(format!("{label:<LABEL$}"), theme.dim), (value, style)]
    };
    let rates = destination.rates.unwrap_or_default();
    let windows = |rates: [f32; 3]| {
        let each = rates.iter().zip(RATE_WINDOWS_S);
        each.map(|(rate, s)| format!("{}/s ({s} s)", three_digits((*rate).into())))
            .collect::<Vec<_>>()
            .join("  ")
    };
    let traffic = &destination.traffic;
    let usable = grouped(destination.usable);
    let mut lines = vec![
        line(
            "ports",
            format!(
                "{} in use of {usable}; {} sockets live, {} in TIME_WAIT",
                grouped(destination.in_use),
                grouped(traffic.live),
                grouped(traffic.time_wait)
            ),
            theme.text,
        ),
        line("headroom", format!("{} more connect() succeed now", headroom(destination)), theme.text),
        match look.recorded {
            // A recording does not tell when.
            Some(_) if !destination.is_exhausted() => Vec::new(),
            _ => line(
                "exhausted",
                exhausted(destination),
                if destination.is_exhausted() { theme.bad } else { theme.text },
            ),
        },
        line("opens", windows(rates.opens), theme.text),
        line("closes", windows(rates.closes), theme.text),
    ];
    lines.retain(|line| !line.is_empty());
    if let Some(forecast) = &destination.forecast {
        let rate = |rate: Option<f64>| {
            rate.map_or_else(|| "—".to_owned(), |rate| format!("{}/s", three_digits(rate)))
        };
        let steady =
            forecast.steady_use.map_or_else(|| "—".to_owned(), |ports| grouped(ports.round() as u64));
        let told = format!("{} opens for ever; at this rate {steady} ports in use", rate(forecast.max_rate));
        lines.push(line("sustains", told, theme.text));
        if forecast.leak_rate > 0.0 {
            let told = format!("! {} more opened than closed", rate(Some(forecast.leak_rate)));
            lines.push(line("leak", told, theme.warn));
        }
    }
    let group = look.lifetimes.as_ref().and_then(|report| {
        report.groups.iter().find(|group| group.group == Some(Group::Destination(destination.id)))
    });
    if let Some(told) = group.and_then(|group| group.completed_ms) {
        let [p50, p90, p99, _] = told.each().map(|bounded| duration(bounded.ms));
        let when = match &look.recorded {
            Some(_) => format!(" · ended {}", super::listing::ended(look)),
            None => String::new(),
        };
        lines.push(line("lifetimes", format!("p50 {p50} · p90 {p90} · p99 {p99}{when}"), theme.text));
    }
    for (index, (owner, sockets)) in detail.iter().flat_map(|detail| &detail.owners).enumerate() {
        let told = format!("{} sockets of {}", grouped(*sockets), Harmless(owner));
        lines.push(line(if index == 0 { "owners" } else { "" }, told, theme.text));
    }
    if let Some(detail) = detail.filter(|detail| detail.closes.total() > 0) {
        let fives: Vec<f64> = detail
            .closes
            .oldest_first()
            .map(f64::from)
            .collect::<Vec<_>>()
            .chunks(2)
            .map(|pair| pair.iter().sum())
            .collect();
        let greatest = fives.iter().fold(0.0, |most: f64, value| most.max(*value));
        let values: Vec<Option<f64>> = fives.into_iter().map(Some).collect();
        let told = format!("{} last 60 s, from TIME_WAIT timers", sparkline(&values, greatest));
        lines.push(line("closed here", told, theme.dim));
    }
    lines
}

/// Where the ports have gone, and what would give more.
fn account(detail: Option<&Detail>, room: usize, theme: &Theme) -> Lines {
    let Some(detail) = detail else {
        return vec![vec![("where its ports went is told from the next tick on …".to_owned(), theme.dim)]];
    };
    let account = &detail.account;
    let mut lines: Lines = vec![vec![
        (format!("{:>8}", grouped(account.range)), theme.heading),
        ("  ports in range".to_owned(), theme.heading),
    ]];
    let mut reason = |sign: &str, ports: u32, message: &str, style: Style| {
        for (index, line) in wrapped(message, room.saturating_sub(11)).into_iter().enumerate() {
            let number = if index == 0 { format!("{sign}{}", grouped(ports)) } else { String::new() };
            lines.push(vec![(format!("{number:>8}  "), style), (line, theme.text)]);
        }
    };
    account.certain.iter().for_each(|why| reason("−", why.ports, &why.message, theme.text));
    account.perhaps.iter().for_each(|why| reason("?", why.ports, &why.message, theme.warn));
    account.remedies.iter().for_each(|remedy| {
        let told = remedy.command.as_ref().map_or_else(String::new, |command| format!("{command}: "));
        reason("+≤", remedy.ports, &(told + &remedy.message), theme.good);
    });
    lines
}

/// Over the ticks that are kept: ports in use and, where there is room, opens and closes.
fn draw_trends(scene: &Scene<'_>, id: &DestinationId, area: Rect, buffer: &mut Buffer) {
    let looks = scene.until_shown();
    let room = usize::from(area.width.saturating_sub(12));
    let looks = &looks[looks.len().saturating_sub(room)..];
    let of = |value: fn(&Destination) -> f64| -> Vec<Option<f64>> {
        looks.iter().map(|look| look.destination(id).map(value)).collect()
    };
    let charts = [
        ("PORTS IN USE, TICK BY TICK", of(|one| f64::from(one.in_use))),
        ("OPENS/s", of(|one| one.rates.unwrap_or_default().opens[0].into())),
        ("CLOSES/s", of(|one| one.rates.unwrap_or_default().closes[0].into())),
    ];
    let count = if area.height >= 3 * LEAST_CHART { 3 } else { 1 };
    let each = area.height / count;
    let mut y = area.y;
    for (index, (title, values)) in charts.into_iter().take(count.into()).enumerate() {
        // What is left over is the first one's.
        let height = if index == 0 { area.height - each * (count - 1) } else { each };
        draw_chart(title, &values, Rect { y, height, ..area }, scene.theme, buffer);
        y += height;
    }
}

fn draw_chart(title: &str, values: &[Option<f64>], area: Rect, theme: &Theme, buffer: &mut Buffer) {
    if area.height < 2 {
        return;
    }
    let greatest = values.iter().flatten().fold(1.0, |most: f64, value| most.max(*value));
    let lines = area.height - 1;
    Pen::at(buffer, area, 0).skip(1).put_cut(title, theme.heading);
    for (down, line) in chart(values, greatest, lines.into()).into_iter().enumerate() {
        let label = match down {
            0 => grouped(greatest.ceil() as u64),
            down if down + 1 == usize::from(lines) => "0".to_owned(),
            _ => String::new(),
        };
        let indent = 9u16.saturating_sub(columns(&label));
        Pen::at(buffer, area, down as u16 + 1)
            .skip(indent)
            .put(&label, theme.dim)
            .put(" ", theme.text)
            .put(&line, theme.good);
    }
}
