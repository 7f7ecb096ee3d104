//! A screen that is a table: what it shows of how many, the table below that, or why there is nothing.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use crate::render::snapshot_screen::grouped;
use crate::top::filter::Typed;
use crate::top::frame::Scene;
use crate::top::grid::{self, Cell, Drawn, Rows};
use crate::top::look::Look;
use crate::top::pen::{Pen, sparkline};
use crate::top::theme::Theme;
use crate::top::view::Table;

/// Shorter lines of ticks tell nothing.
const LEAST_TREND: u16 = 8;
/// Whatever is less than this is drawn as little.
const LEAST_GREATEST: f64 = 8.0;

/// Draws the rows below a line that is about all of them.
pub(super) fn draw(
    rows: &dyn Rows,
    table: &Table,
    told: Option<&str>,
    scene: &Scene<'_>,
    area: Rect,
    buffer: &mut Buffer,
) -> Drawn {
    let lines = told.map_or(0, |_| 1).min(area.height);
    if let Some(told) = told {
        Pen::at(buffer, area, 0).skip(1).put_cut(told, scene.theme.dim);
    }
    let inner = Rect {
        x: area.x + 1.min(area.width),
        y: area.y + lines,
        width: area.width.saturating_sub(2),
        height: area.height - lines,
    };
    grid::draw(rows, table, inner, scene.theme, buffer)
}

/// Says why there is no table.
pub(super) fn nothing(told: &str, scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) -> Drawn {
    Pen::at(buffer, area, 1).skip(2).put_cut(told, scene.theme.dim);
    Drawn::default()
}

/// `16:04:09–16:05:09`: when connections ended that a recording tells of.
pub(super) fn ended(look: &Look) -> String {
    match look.recorded.as_ref().and_then(|recorded| recorded.ended) {
        Some([from, to]) => format!("{}–{}", from.strftime("%H:%M:%S"), to.strftime("%H:%M:%S")),
        None => "before this tick".to_owned(),
    }
}

/// `filter: dport = 443 · 2 of 17`, when there is a filter.
pub(super) fn filtered(filter: &Typed, shown: usize, of: usize) -> Option<String> {
    let text = filter.text.trim();
    (!text.is_empty())
        .then(|| format!("filter: {text} · {} of {}", grouped(shown as u64), grouped(of as u64)))
}

/// A value look by look, as many of the last as there is room for; None where it was not known.
pub(super) fn trend<T>(looks: &[T], room: u16, theme: &Theme, value: impl Fn(&T) -> Option<f64>) -> Cell {
    let room = usize::from(room.max(LEAST_TREND));
    let from = looks.len().saturating_sub(room);
    let values: Vec<Option<f64>> = looks[from..].iter().map(value).collect();
    let greatest = values.iter().flatten().fold(LEAST_GREATEST, |most: f64, value| most.max(*value));
    Cell::new(sparkline(&values, greatest), theme.dim)
}
