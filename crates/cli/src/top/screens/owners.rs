//! Owners: whose sockets these are, how many, and what comes and goes.

use std::borrow::Cow;
use std::collections::BTreeMap;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::listing;
use crate::render::snapshot_screen::{grouped, three_digits};
use crate::terminal::Harmless;
use crate::top::filter::Typed;
use crate::top::frame::Scene;
use crate::top::grid::{Cell, Column, Drawn, Key, Rows};
use crate::top::look::{Look, OwnerRow};
use crate::top::theme::Theme;
use crate::top::view::{OwnersBy, Table};

/// Most sockets first.
pub(crate) const FIRST_ORDER: Table = Table::by(4, true);

/// Of a recording: whose connections ended most often.
pub(crate) const ORDER_RECORDED: Table = Table::by(7, true);

pub(crate) const COLUMNS: [Column; 10] = [
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
    Column::text("TREND", 7, "LIVE and TIME-WAIT together, tick by tick, the newest on the right"),
];

/// Rows of older looks that are gathered for a trend: where there are many owners, it is shorter.
const MOST_GATHERED: usize = 20_000;

struct Owners<'a> {
    rows: &'a [OwnerRow],
    by: OwnersBy,
    /// Only what ended is known.
    is_recorded: bool,
    /// As they were, look by look, the newest last; in the order of their places.
    before: Vec<Cow<'a, [OwnerRow]>>,
}

impl Rows for Owners<'_> {
    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }

    fn has(&self, column: usize) -> bool {
        // Of several processes there is no number to tell.
        (self.by == OwnersBy::Process || !matches!(column, 1..=3))
            && (!self.is_recorded || matches!(column, 0..=3 | 7))
    }

    fn count(&self) -> usize {
        self.rows.len()
    }

    fn key(&self, row: usize, column: usize) -> Key {
        let row = &self.rows[row];
        match column {
            0 => Key::Text(row.label.clone()),
            1 => Key::Number(row.pid.unwrap_or(0).into()),
            2 => Key::Text(row.user.clone()),
            3 => Key::Text(row.group.clone()),
            4 => Key::Number(row.live as f64),
            5 => Key::Number(row.time_wait as f64),
            6 => Key::Number(row.opens_per_second.into()),
            7 => Key::Number(row.closes_per_second.into()),
            8 => Key::Number(row.inferred as f64),
            _ => Key::Number((row.live + row.time_wait) as f64),
        }
    }

    fn cell(&self, row: usize, column: usize, room: u16, theme: &Theme) -> Cell {
        let row = &self.rows[row];
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
            8 => grouped(row.inferred),
            _ => return listing::trend(&self.before, room, theme, |rows| sockets_of(rows, row)),
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
    let mut rows: Vec<OwnerRow> = together.into_values().collect();
    rows.sort_by(|a, b| a.place().cmp(&b.place()));
    rows
}

fn sockets_of(rows: &[OwnerRow], row: &OwnerRow) -> Option<f64> {
    let found = rows.binary_search_by(|other| other.place().cmp(&row.place())).ok()?;
    rows.get(found).map(|row| (row.live + row.time_wait) as f64)
}

/// Those that the filter lets through, together as they are told apart.
fn shown<'a>(look: &'a Look, filter: &Typed, by: OwnersBy) -> Cow<'a, [OwnerRow]> {
    if by == OwnersBy::PortOrigin {
        // They are everybody's.
        return Cow::Borrowed(&look.origins);
    }
    let rows = look.owners.as_deref().unwrap_or_default();
    let rows = match &filter.good {
        None => Cow::Borrowed(rows),
        Some(_) => Cow::Owned(rows.iter().filter(|row| filter.lets_owner(row)).cloned().collect()),
    };
    match by {
        OwnersBy::Process => rows,
        by => Cow::Owned(gathered(&rows, by)),
    }
}

/// Draws the table.
pub(crate) fn draw(scene: &Scene<'_>, look: &Look, area: Rect, buffer: &mut Buffer) -> Drawn {
    let all = match &look.owners {
        None if look.recorded.is_some() => {
            return listing::nothing("reading whose connections ended …", scene, area, buffer);
        }
        None => return listing::nothing("owners are not resolved here", scene, area, buffer),
        Some(_) if look.recorded.is_some() && scene.view.owners_by == OwnersBy::PortOrigin => {
            let told = "a recording does not hold how connections got their ports; b groups by who had them";
            return listing::nothing(told, scene, area, buffer);
        }
        Some(rows) if rows.is_empty() && look.recorded.is_some() => {
            let told = format!("no connection ended {}", listing::ended(look));
            return listing::nothing(&told, scene, area, buffer);
        }
        Some(rows) if rows.is_empty() => {
            return listing::nothing("no socket has an owner that is known", scene, area, buffer);
        }
        Some(rows) => rows,
    };
    let (by, filter) = (scene.view.owners_by, scene.view.filter());
    let by_what = match by {
        OwnersBy::Process => "by process",
        OwnersBy::Group => "by unit, container or cgroup",
        OwnersBy::User => "by user",
        OwnersBy::PortOrigin => "by how they got their ports, whoever has them",
    };
    let rows = shown(look, filter, by);
    let told = match listing::filtered(filter, rows.len(), shown(look, &Typed::default(), by).len()) {
        Some(told) if by != OwnersBy::PortOrigin => format!("{by_what} · {told}"),
        _ => by_what.to_owned(),
    };
    let told = match &look.recorded {
        Some(_) => format!("connections that ended {}, {told}", listing::ended(look)),
        None => told,
    };
    let is_recorded = look.recorded.is_some();
    let looks = scene.until_shown();
    let most = (MOST_GATHERED / all.len().max(1)).max(1);
    let looks = &looks[looks.len().saturating_sub(most.min(area.width.into()))..];
    let before = looks.iter().map(|look| shown(look, filter, by)).collect();
    listing::draw(
        &Owners { rows: &rows, by, is_recorded, before },
        scene.view.table(),
        Some(&told),
        scene,
        area,
        buffer,
    )
}
