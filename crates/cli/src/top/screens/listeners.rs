//! Listeners: who waits to be accepted, how many may, and what comes in.

use std::net::SocketAddr;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use crate::render::snapshot_screen::{grouped, three_digits};
use crate::top::frame::Scene;
use crate::top::grid::{self, Cell, Column, Drawn, Key, Rows};
use crate::top::look::{ListenerRow, Look};
use crate::top::pen::{Pen, bar};
use crate::top::theme::{Theme, mark_of_share};
use crate::top::view::Table;

/// Most connections first.
pub(crate) const FIRST_ORDER: Table = Table::by(5, true);

const BAR_CELLS: usize = 10;

pub(crate) const COLUMNS: [Column; 10] = [
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
    Column::number("OPENS/s 60 s", 7, "the same, of the last minute"),
];

struct Listeners<'a>(&'a [ListenerRow]);

impl Rows for Listeners<'_> {
    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    fn key(&self, row: usize, column: usize) -> Key {
        let row = &self.0[row];
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
            _ => row.rates.opens[2].into(),
        })
    }

    fn cell(&self, row: usize, column: usize, _: u16, theme: &Theme) -> Cell {
        let row = &self.0[row];
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
            _ => three_digits(row.rates.opens[2].into()),
        };
        Cell::new(text, theme.text)
    }
}

/// Draws the table.
pub(crate) fn draw(scene: &Scene<'_>, look: &Look, area: Rect, buffer: &mut Buffer) -> Drawn {
    if look.listeners.is_empty() {
        Pen::at(buffer, area, 1).skip(2).put_cut("nobody listens", scene.theme.dim);
        return Drawn::default();
    }
    let inner = Rect { x: area.x + 1.min(area.width), width: area.width.saturating_sub(2), ..area };
    grid::draw(&Listeners(&look.listeners), scene.view.table(), inner, scene.theme, buffer)
}
