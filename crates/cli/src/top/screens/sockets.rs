//! Sockets: the first of those that a filter lets through, one by one.

use std::net::SocketAddr;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use sock_diag::{SocketRecord, SocketState, TimerKind};

use super::listing;
use crate::render::snapshot_screen::grouped;
use crate::terminal::Harmless;
use crate::top::frame::Scene;
use crate::top::grid::{Cell, Column, Drawn, Key, Rows};
use crate::top::look::{Look, SocketList};
use crate::top::theme::Theme;
use crate::top::view::Table;
use crate::top::wanted::SocketOrder;

/// Fullest receive queue first: who does not read what has come.
pub(crate) const FIRST_ORDER: Table = Table::by(2, true);

pub(crate) const COLUMNS: [Column; 11] = [
    Column::text("PROTO", 7, "its protocol"),
    Column::text("STATE", 0, "its state, as ss has it"),
    Column::number(
        "RECV-Q",
        1,
        "bytes that have come and were not read; of a listener, connections that wait",
    ),
    Column::number("SEND-Q", 1, "bytes sent and not acknowledged; of a listener, its backlog"),
    Column::text("LOCAL", 0, "its own end"),
    Column::text("PEER", 0, "the other end"),
    Column::text("TIMER", 2, "what it waits for, and for how long"),
    Column::number("RETRANS", 4, "how often it has sent the same again"),
    Column::number("UID", 5, "whose it is; TIME_WAIT is nobody's"),
    Column::number("INODE", 6, "the inode of its file, which /proc/PID/fd shows"),
    Column::text("OWNER", 3, "the process that holds it, or held it while it lived; sorted by user"),
];

/// What the sockets are asked for by, for a column.
pub(crate) const fn order_of(column: usize) -> SocketOrder {
    match column {
        2 => SocketOrder::ReceiveQueue,
        3 => SocketOrder::SendQueue,
        4 => SocketOrder::Local,
        5 => SocketOrder::Peer,
        6 => SocketOrder::Timer,
        7 => SocketOrder::Retransmits,
        // Owners are known of the sockets that are listed alone: it is users that all of them can be sorted by.
        8 | 10 => SocketOrder::User,
        9 => SocketOrder::Inode,
        _ => SocketOrder::State,
    }
}

struct Sockets<'a>(&'a SocketList);

impl Rows for Sockets<'_> {
    fn columns(&self) -> &'static [Column] {
        &COLUMNS
    }

    fn count(&self) -> usize {
        self.0.records.len()
    }

    fn is_sorted(&self) -> bool {
        true
    }

    fn key(&self, row: usize, _: usize) -> Key {
        Key::Number(row as f64)
    }

    fn cell(&self, row: usize, column: usize, _: u16, theme: &Theme) -> Cell {
        let record = &self.0.records[row];
        let id = &record.id;
        let queue = |bytes: u32| Cell::new(grouped(bytes), if bytes > 0 { theme.warn } else { theme.dim });
        let text = match column {
            0 => record.protocol.name().to_owned(),
            1 => state(record).to_owned(),
            2 => return queue(record.rqueue_bytes),
            3 => return queue(record.wqueue_bytes),
            4 => SocketAddr::new(id.local_address, id.local_port).to_string(),
            5 if id.remote_port == 0 && id.remote_address.is_unspecified() => "—".to_owned(),
            5 => SocketAddr::new(id.remote_address, id.remote_port).to_string(),
            6 => timer(record),
            7 => record.timer.retransmits.to_string(),
            8 => record.uid.map_or_else(|| "—".to_owned(), |uid| uid.to_string()),
            9 => record.inode.map_or_else(|| "—".to_owned(), |inode| inode.to_string()),
            _ => {
                let owner = self.0.owners.get(row).and_then(Option::as_deref);
                owner.map_or_else(|| "—".to_owned(), |owner| Harmless(owner).to_string())
            }
        };
        Cell::new(text, theme.text)
    }
}

fn state(record: &SocketRecord) -> &'static str {
    if record.is_bound_inactive() { SocketState::BoundInactive.ss_name() } else { record.state.ss_name() }
}

fn timer(record: &SocketRecord) -> String {
    match record.timer.kind {
        TimerKind::Off => "—".to_owned(),
        kind => format!("{} {:.1} s", kind.name(), f64::from(record.timer.expires_ms) / 1e3),
    }
}

/// Draws the table, below what it shows of how many.
pub(crate) fn draw(scene: &Scene<'_>, look: &Look, area: Rect, buffer: &mut Buffer) -> Drawn {
    if look.recorded.is_some() {
        let told = "a recording does not hold single sockets; a capture (--capture) does";
        return listing::nothing(told, scene, area, buffer);
    }
    let Some(list) = &look.list else {
        let told = match scene.view.stands_at {
            Some(_) => "sockets were not listed at that tick",
            None => "sockets are listed from the next sweep on …",
        };
        return listing::nothing(told, scene, area, buffer);
    };
    let text = scene.view.filter().text.trim();
    let shown = list.records.len() as u64;
    let mut told = match text {
        "" => format!("{} sockets", grouped(list.matching)),
        text => format!("filter: {text} · {} of {} sockets", grouped(list.matching), grouped(list.read)),
    };
    if shown < list.matching {
        told += &format!(" · the first {} by this order", grouped(shown));
    }
    if list.unanswerable > 0 {
        told += &format!(" · of {} the filter cannot be told", grouped(list.unanswerable));
    }
    listing::draw(&Sockets(list), scene.view.table(), Some(&told), scene, area, buffer)
}
