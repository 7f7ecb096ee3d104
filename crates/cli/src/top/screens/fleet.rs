//! All namespaces of the host: a row each, to see which one to look into.

use std::sync::Arc;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::{destinations, listing};
use crate::render::exhaustion::exhausted;
use crate::render::snapshot_screen::{grouped, three_digits};
use crate::terminal::Harmless;
use crate::top::frame::Scene;
use crate::top::grid::{Cell, Column, Drawn, Key, Rows};
use crate::top::keys::Shown;
use crate::top::look::{Look, NamespaceRow};
use crate::top::theme::Theme;
use crate::top::view::Table;

/// Fullest first.
pub(crate) const FIRST_ORDER: Table = Table::by(1, true);

pub(crate) const COLUMNS: [Column; 12] = [
    Column::name("NAMESPACE", "its name, or a program in it; Enter looks into it, Esc comes back"),
    Column::number(
        "USED",
        0,
        "share of the usable ports that its fullest destination has; ! past half, ‼ nearly all",
    ),
    Column::number("LIVE", 1, "connections that are not in TIME_WAIT"),
    Column::number("TIME-WAIT", 4, "sockets in TIME_WAIT"),
    Column::number("OPENS/s", 2, "connections opened per second, of the last interval"),
    Column::number("CLOSES/s", 5, "connections closed per second, of the last interval"),
    Column::number("SOCKETS", 7, "sockets of every kind"),
    Column::number("EXHAUSTED", 3, "when its fullest destination has no port left, if it goes on like this"),
    Column::text("FULLEST DESTINATION", 6, "where it has the most ports in use"),
    Column::number("NOTES", 8, "what is to be noted of it: look into it and press w"),
    Column::number("INODE", 10, "of the namespace, as lsns shows it"),
    Column::text("TREND", 9, "live connections, tick by tick, the newest on the right"),
];

struct Namespaces<'a> {
    rows: &'a [NamespaceRow],
    looks: &'a [Arc<Look>],
}

impl Rows for Namespaces<'_> {
    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }

    fn count(&self) -> usize {
        self.rows.len()
    }

    fn key(&self, row: usize, column: usize) -> Key {
        let row = &self.rows[row];
        let forecast = row.worst.and_then(|worst| worst.forecast).unwrap_or_default();
        Key::Number(match column {
            0 => return Key::Text(row.label.clone()),
            8 => return Key::Text(fullest(row)),
            // Those without a destination are behind those with an empty one, the busier first.
            1 => row.worst.map_or(-1.0 / (row.live as f64 + 1.0), |worst| worst.occupancy()),
            2 => row.live as f64,
            3 => row.time_wait as f64,
            4 => row.opens_per_second,
            5 => row.closes_per_second,
            6 => row.sockets as f64,
            7 if row.worst.is_some_and(|worst| worst.is_exhausted()) => 0.0,
            7 => forecast.earliest_in_s.unwrap_or(f64::INFINITY),
            9 => row.remarks as f64,
            10 => row.inode as f64,
            _ => row.live as f64,
        })
    }

    fn cell(&self, row: usize, column: usize, room: u16, theme: &Theme) -> Cell {
        let row = &self.rows[row];
        let none = || "—".to_owned();
        let text = match (column, &row.worst) {
            (0, _) => Harmless(&row.label).to_string(),
            (1, Some(worst)) => {
                let full = worst.occupancy();
                return Cell::new(destinations::used(full), theme.of_share(full));
            }
            (7, Some(worst)) if worst.is_exhausted() => return Cell::new(exhausted(worst), theme.bad),
            (7, Some(worst)) => exhausted(worst),
            (1 | 7, None) => none(),
            (2, _) => grouped(row.live),
            (3, _) => grouped(row.time_wait),
            (4, _) => three_digits(row.opens_per_second),
            (5, _) => three_digits(row.closes_per_second),
            (6, _) => grouped(row.sockets),
            (8, _) => fullest(row),
            (9, _) if row.remarks > 0 => return Cell::new(format!("! {}", row.remarks), theme.warn),
            (9, _) => none(),
            (10, _) => row.inode.to_string(),
            _ => {
                return listing::trend(self.looks, room, theme, |look| {
                    look.namespace(row.inode).map(|known| known.live as f64)
                });
            }
        };
        Cell::new(text, theme.text)
    }
}

fn fullest(row: &NamespaceRow) -> String {
    row.worst.map_or_else(|| "—".to_owned(), |worst| destinations::name(&worst.id))
}

/// Draws the table.
pub(crate) fn draw(
    scene: &Scene<'_>,
    look: &Look,
    area: Rect,
    buffer: &mut Buffer,
    shown: &mut Shown,
) -> Drawn {
    let rows = match &look.fleet {
        None => return listing::nothing("the namespaces are being read …", scene, area, buffer),
        Some(rows) if rows.is_empty() => {
            return listing::nothing("no namespace can be read", scene, area, buffer);
        }
        Some(rows) => rows,
    };
    let sum = |of: fn(&NamespaceRow) -> f64| rows.iter().map(of).sum::<f64>();
    let told = format!(
        "{} namespaces: {} sockets, {} live, {} opens/s, {} closes/s",
        grouped(rows.len() as u64),
        grouped(sum(|row| row.sockets as f64) as u64),
        grouped(sum(|row| row.live as f64) as u64),
        three_digits(sum(|row| row.opens_per_second)),
        three_digits(sum(|row| row.closes_per_second)),
    );
    let table = scene.view.table();
    let rows = Namespaces { rows, looks: scene.until_shown() };
    let drawn = listing::draw(&rows, table, Some(&told), scene, area, buffer);
    let cursor = table.cursor.min(drawn.order.len().saturating_sub(1));
    shown.namespace = drawn.order.get(cursor).and_then(|row| rows.rows.get(*row)).map(|row| row.way.clone());
    drawn
}
