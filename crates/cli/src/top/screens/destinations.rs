//! Destinations: how full each is, what comes and goes, how much is left and for how long.

use std::net::SocketAddr;
use std::sync::Arc;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use sockeye_core::{Destination, DestinationId};

use super::listing;
use crate::render::exhaustion::exhausted;
use crate::render::snapshot_screen::{grouped, three_digits};
use crate::terminal::Harmless;
use crate::top::frame::Scene;
use crate::top::grid::{self, Cell, Column, Drawn, Key, Rows};
use crate::top::keys::Shown;
use crate::top::look::Look;
use crate::top::pen::bar;
use crate::top::theme::{Theme, mark_of_share};
use crate::top::view::Table;

/// Fullest first.
pub(crate) const FIRST_ORDER: Table = Table::by(1, true);

const BAR_CELLS: usize = 10;

pub(crate) const COLUMNS: [Column; 12] = [
    Column::name("DESTINATION", "from which address to which address and port"),
    Column::number(
        "USED",
        0,
        "share of the usable ports that connect() cannot have; ! past half, ‼ nearly all",
    ),
    Column::text("PRESSURE", 9, "the same as a bar"),
    Column::number("PORTS", 10, "distinct ports in use, TIME_WAIT included"),
    Column::number("LIVE", 4, "sockets that are not in TIME_WAIT"),
    Column::number("TIME-WAIT", 5, "sockets in TIME_WAIT: this side closed first, less than a minute ago"),
    Column::number("OPENS/s", 3, "connections opened per second, of the last 10 s"),
    Column::number("CLOSES/s", 6, "connections closed per second, of the last 10 s"),
    Column::number("HEADROOM", 1, "how many more connect() succeed now"),
    Column::number("EXHAUSTED", 2, "when none does any more, if it goes on like this; ≥: not before"),
    Column::text("OWNER", 8, "the process that has most of its sockets, and how many others have some"),
    Column::text("TREND", 7, "ports in use, tick by tick, the newest on the right"),
];

struct Destinations<'a> {
    rows: Vec<&'a Destination>,
    look: &'a Look,
    looks: &'a [Arc<Look>],
}

impl Destinations<'_> {
    fn user_of(&self, row: &Destination) -> &str {
        self.look.user_of(&row.id).unwrap_or("—")
    }
}

/// `10.0.0.7 → 10.0.9.12:8080`: of TCP, as all destinations are.
pub(crate) fn name(id: &DestinationId) -> String {
    format!("{} → {}", id.local_address, SocketAddr::new(id.remote_address, id.remote_port))
}

impl Rows for Destinations<'_> {
    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }

    /// A recording tells neither forecasts nor owners of sockets.
    fn has(&self, column: usize) -> bool {
        self.look.recorded.is_none() || !matches!(column, 9 | 10)
    }

    fn count(&self) -> usize {
        self.rows.len()
    }

    fn key(&self, row: usize, column: usize) -> Key {
        let row = self.rows[row];
        let rates = row.rates.unwrap_or_default();
        let forecast = row.forecast.unwrap_or_default();
        Key::Number(match column {
            0 => return Key::Text(name(&row.id)),
            1 | 2 => row.occupancy(),
            4 => f64::from(row.traffic.live),
            5 => f64::from(row.traffic.time_wait),
            6 => f64::from(rates.opens[1]),
            7 => f64::from(rates.closes[1]),
            8 => f64::from(row.headroom.min),
            // Never is later than any time.
            9 if row.is_exhausted() => 0.0,
            9 => forecast.earliest_in_s.unwrap_or(f64::INFINITY),
            10 => return Key::Text(self.user_of(row).to_owned()),
            _ => f64::from(row.in_use),
        })
    }

    fn cell(&self, row: usize, column: usize, room: u16, theme: &Theme) -> Cell {
        let row = self.rows[row];
        let full = row.occupancy();
        let rates = row.rates.unwrap_or_default();
        let plain = |text: String| Cell::new(text, theme.text);
        match column {
            0 => plain(name(&row.id)),
            1 => Cell::new(used(full), theme.of_share(full)),
            2 => Cell::new(bar(full, BAR_CELLS), theme.of_share(full)),
            3 => plain(grouped(row.in_use)),
            4 => plain(grouped(row.traffic.live)),
            5 => plain(grouped(row.traffic.time_wait)),
            6 => plain(three_digits(rates.opens[1].into())),
            7 => plain(three_digits(rates.closes[1].into())),
            8 => plain(headroom(row)),
            9 => Cell::new(exhausted(row), if row.is_exhausted() { theme.bad } else { theme.text }),
            10 => plain(Harmless(self.user_of(row)).to_string()),
            _ => listing::trend(self.looks, room, theme, |look| {
                look.destination(&row.id).map(|known| f64::from(known.in_use))
            }),
        }
    }
}

/// `78.1%!`: 100.0 is said of nothing less.
pub(crate) fn used(full: f64) -> String {
    format!("{:.1}%{}", (full * 1_000.0).floor() / 10.0, mark_of_share(full))
}

/// One number, or what it is between.
pub(crate) fn headroom(destination: &Destination) -> String {
    let left = &destination.headroom;
    match left.is_exact() {
        true => grouped(left.max),
        false => format!("{}–{}", grouped(left.min), grouped(left.max)),
    }
}

/// Draws the table.
pub(crate) fn draw(
    scene: &Scene<'_>,
    look: &Look,
    area: Rect,
    buffer: &mut Buffer,
    shown: &mut Shown,
) -> Drawn {
    let filter = scene.view.filter();
    let rows: Vec<&Destination> = look.destinations.iter().filter(|row| filter.lets(&row.id)).collect();
    let (beyond, _) = look.left_out;
    let known = look.destinations.len();
    if known == 0 {
        return listing::nothing("no outgoing connection uses an ephemeral port", scene, area, buffer);
    }
    let told = listing::filtered(filter, rows.len(), known).or_else(|| {
        (beyond > 0).then(|| {
            format!("{known} destinations with the most ports in use; {} more", grouped(beyond as u64))
        })
    });
    let table = Destinations { rows, look, looks: scene.until_shown() };
    let mut chosen = *scene.view.table();
    // The first row is the worst, whoever that is; any other that was chosen stays so wherever it goes.
    if let Some(pinned) = scene.view.pinned.filter(|_| chosen.cursor > 0) {
        let order = grid::order(&table, &chosen);
        let place = order.iter().position(|row| table.rows[*row].id == pinned);
        chosen.cursor = place.unwrap_or(chosen.cursor);
    }
    let drawn = listing::draw(&table, &chosen, told.as_deref(), scene, area, buffer);
    shown.cursor = chosen.cursor.min(drawn.order.len().saturating_sub(1));
    shown.chosen = drawn.order.get(shown.cursor).and_then(|row| table.rows.get(*row)).map(|row| row.id);
    drawn
}
