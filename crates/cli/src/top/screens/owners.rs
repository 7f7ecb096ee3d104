//! Owners: whose sockets these are, how many, and what comes and goes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use crate::render::snapshot_screen::{grouped, three_digits};
use crate::terminal::Harmless;
use crate::top::frame::Scene;
use crate::top::grid::{self, Cell, Column, Drawn, Key, Rows};
use crate::top::look::{Look, OwnerRow};
use crate::top::pen::Pen;
use crate::top::theme::Theme;
use crate::top::view::{OwnersBy, Table};

/// Most sockets first.
pub(crate) const FIRST_ORDER: Table = Table::by(4, true);

pub(crate) const COLUMNS: [Column; 9] = [
    Column::name("OWNER", "the process that holds the sockets, or held them while they lived"),
    Column::number("PID", 1, "its process id"),
    Column::text("USER", 4, "who runs it"),
    Column::text("UNIT", 5, "its systemd unit, container or cgroup"),
    Column::number("LIVE", 0, "its connections"),
    Column::number("TIME-WAIT", 2, "sockets in TIME_WAIT that were its connections"),
    Column::number("OPENS/s", 1, "connections it opens or accepts per second"),
    Column::number("CLOSES/s", 3, "connections that end per second"),
    Column::number(
        "INFERRED",
        6,
        "of LIVE and TIME-WAIT, those that nobody saw alive: they go where only this owner's go",
    ),
];

struct Owners<'a>(&'a [OwnerRow]);

impl Rows for Owners<'_> {
    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn key(&self, row: usize, column: usize) -> Key {
        let row = &self.0[row];
        match column {
            0 => Key::Text(row.label.clone()),
            1 => Key::Number(row.pid.unwrap_or(0).into()),
            2 => Key::Text(row.user.clone()),
            3 => Key::Text(row.group.clone()),
            4 => Key::Number(row.live as f64),
            5 => Key::Number(row.time_wait as f64),
            6 => Key::Number(row.opens_per_second.into()),
            7 => Key::Number(row.closes_per_second.into()),
            _ => Key::Number(row.inferred as f64),
        }
    }

    fn cell(&self, row: usize, column: usize, _: u16, theme: &Theme) -> Cell {
        let row = &self.0[row];
        let none = || "—".to_owned();
        let text = match column {
            0 => Harmless(&row.label).to_string(),
            1 => row.pid.map_or_else(none, |pid| pid.to_string()),
            2 => Harmless(&row.user).to_string(),
            3 => Harmless(&row.group).to_string(),
            4 => grouped(row.live),
            5 => grouped(row.time_wait),
            6 => three_digits(row.opens_per_second.into()),
            7 => three_digits(row.closes_per_second.into()),
            _ => grouped(row.inferred),
        };
        Cell::new(text, theme.text)
    }
}

/// Rows of the same unit or user as one.
fn gathered(rows: &[OwnerRow], by: OwnersBy) -> Vec<OwnerRow> {
    let mut together: BTreeMap<&str, OwnerRow> = BTreeMap::new();
    for row in rows {
        let name = if by == OwnersBy::User { &row.user } else { &row.group };
        let sum = together.entry(name).or_insert_with(|| OwnerRow {
            label: if name.is_empty() { "not known".to_owned() } else { name.clone() },
            ..OwnerRow::default()
        });
        sum.live += row.live;
        sum.time_wait += row.time_wait;
        sum.inferred += row.inferred;
        sum.opens_per_second += row.opens_per_second;
        sum.closes_per_second += row.closes_per_second;
    }
    together.into_values().collect()
}

/// Draws the table.
pub(crate) fn draw(scene: &Scene<'_>, look: &Look, area: Rect, buffer: &mut Buffer) -> Drawn {
    let rows = match &look.owners {
        None => {
            Pen::at(buffer, area, 1).skip(2).put_cut("owners are not resolved here", scene.theme.dim);
            return Drawn::default();
        }
        Some(rows) if rows.is_empty() => {
            Pen::at(buffer, area, 1).skip(2).put_cut("no socket has an owner that is known", scene.theme.dim);
            return Drawn::default();
        }
        Some(rows) => rows,
    };
    let by = scene.view.owners_by;
    let told = match by {
        OwnersBy::Process => "by process",
        OwnersBy::Group => "by unit, container or cgroup",
        OwnersBy::User => "by user",
    };
    Pen::at(buffer, area, 0).skip(1).put_cut(told, scene.theme.dim);
    let rows = match by {
        OwnersBy::Process => Cow::Borrowed(rows.as_slice()),
        by => Cow::Owned(gathered(rows, by)),
    };
    let inner = Rect {
        x: area.x + 1.min(area.width),
        y: area.y + 1.min(area.height),
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(1),
    };
    grid::draw(&Owners(&rows), scene.view.table(), inner, scene.theme, buffer)
}
