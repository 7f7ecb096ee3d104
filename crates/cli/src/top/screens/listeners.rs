//! Listeners: who waits to be accepted, how many may, and what comes in.

use std::net::SocketAddr;
use std::sync::Arc;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::listing;
use crate::render::snapshot_screen::{grouped, three_digits};
use crate::top::frame::Scene;
use crate::top::grid::{Cell, Column, Drawn, Key, Rows};
use crate::top::look::{ListenerRow, Look};
use crate::top::pen::bar;
use crate::top::theme::{Theme, mark_of_share};
use crate::top::view::Table;

/// Most connections first.
pub(crate) const FIRST_ORDER: Table = Table::by(5, true);

const BAR_CELLS: usize = 10;

pub(crate) const COLUMNS: [Column; 12] = [
    Column::name("LISTENER", "the port, and the address if it is one"),
    Column::number("SOCKETS", 6, "sockets that listen on it (SO_REUSEPORT, or several addresses)"),
    Column::number(
        "WAITING",
        0,
        "connections that wait for accept(); ! more than half of what may, ‼ nearly all",
    ),
    Column::number("BACKLOG", 2, "how many may wait, all sockets together; more are refused or dropped"),
    Column::text("QUEUE", 5, "the fullest socket's queue as a bar"),
    Column::number("LIVE", 1, "connections that were accepted, and handshakes"),
    Column::number("TIME-WAIT", 4, "sockets in TIME_WAIT: this side closed first"),
    Column::number("OPENS/s", 1, "connections that come in per second, of the last 10 s"),
    Column::number("CLOSES/s", 3, "connections that end per second, of the last 10 s"),
    Column::number("OPENS/s 60 s", 8, "what comes in per second, of the last minute"),
    Column::number("CLOSES/s 60 s", 9, "what ends per second, of the last minute"),
    Column::text("TREND", 7, "live connections, tick by tick, the newest on the right"),
];

struct Listeners<'a> {
    rows: Vec<&'a ListenerRow>,
    looks: &'a [Arc<Look>],
}

impl Rows for Listeners<'_> {
    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }

    fn count(&self) -> usize {
        self.rows.len()
    }

    fn key(&self, row: usize, column: usize) -> Key {
        let row = self.rows[row];
        Key::Number(match column {
            0 => row.port.into(),
            1 => row.sockets.into(),
            2 => row.queue.into(),
            3 => row.backlog.into(),
            4 => row.fullness,
            5 => row.live.into(),
            6 => row.time_wait.into(),
            7 => row.rates.opens[1].into(),
            8 => row.rates.closes[1].into(),
            9 => row.rates.opens[2].into(),
            10 => row.rates.closes[2].into(),
            _ => row.live.into(),
        })
    }

    fn cell(&self, row: usize, column: usize, room: u16, theme: &Theme) -> Cell {
        let row = self.rows[row];
        let style = theme.of_share(row.fullness);
        let text = match column {
            0 => match row.address {
                Some(address) => SocketAddr::new(address, row.port).to_string(),
                None => format!("*:{}", row.port),
            },
            1 => grouped(row.sockets),
            2 => return Cell::new(format!("{}{}", grouped(row.queue), mark_of_share(row.fullness)), style),
            3 => grouped(row.backlog),
            4 => return Cell::new(bar(row.fullness, BAR_CELLS), style),
            5 => grouped(row.live),
            6 => grouped(row.time_wait),
            7 => three_digits(row.rates.opens[1].into()),
            8 => three_digits(row.rates.closes[1].into()),
            9 => three_digits(row.rates.opens[2].into()),
            10 => three_digits(row.rates.closes[2].into()),
            _ => {
                return listing::trend(self.looks, room, theme, |look| {
                    look.listener(row.port).map(|known| f64::from(known.live))
                });
            }
        };
        Cell::new(text, theme.text)
    }
}

/// Draws the table.
pub(crate) fn draw(scene: &Scene<'_>, look: &Look, area: Rect, buffer: &mut Buffer) -> Drawn {
    if look.recorded.is_some() {
        let told = "a recording does not hold listeners; 4 tells what came to them and ended";
        return listing::nothing(told, scene, area, buffer);
    }
    if look.listeners.is_empty() {
        return listing::nothing("nobody listens", scene, area, buffer);
    }
    let filter = scene.view.filter();
    let rows: Vec<&ListenerRow> = look.listeners.iter().filter(|row| filter.lets_listener(row)).collect();
    let told = listing::filtered(filter, rows.len(), look.listeners.len());
    let table = Listeners { rows, looks: scene.until_shown() };
    listing::draw(&table, scene.view.table(), told.as_deref(), scene, area, buffer)
}
