//! What keys there are, and what the columns of the screen mean.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;

use super::{destinations, fleet, lifetimes, listeners, owners, sockets};
use crate::top::frame::Scene;
use crate::top::grid::Column;
use crate::top::pen::{Pen, wrapped};
use crate::top::view::Screen;

const KEYS: [(&str, &str); 20] = [
    ("1 … 6, Tab", "the screens"),
    ("↑ ↓ PgUp PgDn Home End", "move the cursor; also j k g G and the wheel"),
    ("Enter", "look at the chosen destination alone; of all namespaces, into the chosen one"),
    ("Esc", "back: out of one destination, a filter, the past, one namespace among all"),
    ("7", "all namespaces again, after --all-netns"),
    ("mouse", "a click on a tab, a title, a row; once more on the chosen row as Enter; the wheel"),
    ("< >", "sort by the column to the left or to the right; a click on a title does, too"),
    (
        "b",
        "owners by process, by unit, container or cgroup, by user; connections by how they got their ports",
    ),
    ("r", "turn the order round"),
    (
        "/",
        "filter as one types, in the grammar of ss: sockets by all of it and by pid, comm, user, cgroup (comm = nginx and dport = \
         443), destinations by src, dst and dport, listeners by src and sport, owners by pid, comm and user",
    ),
    ("Space, p", "pause, and go on"),
    ("← →", "step back and forth through the ticks that are kept; { and } step by ten"),
    ("+ -", "longer or shorter intervals; of a replay, faster or slower"),
    ("R", "a tick now"),
    ("n", "another network namespace"),
    ("w", "all notes, in full"),
    ("^L", "draw everything anew"),
    ("^Z", "suspend; fg comes back"),
    ("q, ^C", "quit"),
    ("?", "this help"),
];

/// Of a recording.
const RECORDING: [(&str, &str); 7] = [
    ("Space, p", "play, and stand still"),
    ("← →, T t", "a tick back, a tick on; { and } ten of them"),
    ("M m, X x, O o", "a minute, ten minutes, an hour back and on: to the tick that is closest"),
    ("^ $", "the first tick, and the last; on from the last, new ones are looked for"),
    (
        "b, @",
        "go to a time: 16:05 (of this day), 2026-11-23 16:05, -2h; by owners b groups them, @ goes to a time",
    ),
    ("+ -", "faster or slower; gaps are not waited for"),
    (
        "what is told",
        "what a recording holds: of owners and lifetimes what ended in the minute before, whole ticks of it",
    ),
];

/// What the line above the keys tells.
const COST: [(&str, &str); 6] = [
    (
        "sockets in … ms",
        "how many the last sweep read and how long it took; when it was, if it was left out at this tick",
    ),
    ("cpu", "processor time of this program since the last tick, as a share of one processor"),
    (
        "events lost",
        "destroy events the kernel had no room for: what they told is found by sweeps, or missing",
    ),
    ("seen", "share of the connections opened since the start that were seen, of those the kernel counted"),
    ("MiB", "memory this program has resident"),
    ("ticks kept", "how far one can step back"),
];

/// What screens tell that are no tables.
const LIFETIMES: [(&str, &str); 2] = [
    ("COMPLETED", "percentiles of connections that began and ended while it was watched"),
    ("ALL (K–M)", "of all, those counted that are still open (Kaplan–Meier); —: more than that share are"),
];
const PORTS: [(&str, &str); 2] = [
    ("the picture", "each cell a port, or as many as the line below it says; the legend says whose they are"),
    ("even, odd", "connect() takes one half of the range first and slows down when that is full"),
];

/// Draws it over the screen.
pub(crate) fn draw(scene: &Scene<'_>, scrolled: usize, body: Rect, buffer: &mut Buffer) -> usize {
    let theme = scene.theme;
    let room = usize::from(body.width.saturating_sub(4));
    let mut lines = Vec::new();
    let mut put = |name: &str, width: usize, meaning: &str| {
        for (index, line) in wrapped(meaning, room.saturating_sub(width + 2)).into_iter().enumerate() {
            let name = if index == 0 { name } else { "" };
            lines.push((format!("{name:<width$}  {line}"), theme.text));
        }
    };
    if scene.view.is_recording {
        RECORDING.iter().for_each(|(key, meaning)| put(key, 22, meaning));
        put("", 22, "");
    }
    let of_time = |key: &str| matches!(key, "Space, p" | "← →" | "+ -" | "R" | "n" | "7" | "b");
    let keys = KEYS.iter().filter(|(key, _)| !scene.view.is_recording || !of_time(key));
    keys.for_each(|(key, meaning)| put(key, 22, meaning));
    let columns = columns(scene.view.screen);
    put("", 22, "");
    COST.iter().for_each(|(word, meaning)| put(word, 22, meaning));
    let told: &[(&str, &str)] = match scene.view.screen {
        Screen::Lifetimes => &LIFETIMES,
        Screen::Ports => &PORTS,
        _ => &[],
    };
    if !told.is_empty() {
        put("", 22, "");
        told.iter().for_each(|(word, meaning)| put(word, 22, meaning));
    }
    if !columns.is_empty() {
        put("", 22, "");
        columns.iter().for_each(|column| put(column.title, 22, column.meaning));
    }
    text(&lines, scrolled, body, buffer)
}

const fn columns(screen: Screen) -> &'static [Column] {
    match screen {
        Screen::Destinations => &destinations::COLUMNS,
        Screen::Owners => &owners::COLUMNS,
        Screen::Listeners => &listeners::COLUMNS,
        Screen::Sockets => &sockets::COLUMNS,
        Screen::Namespaces => &fleet::COLUMNS,
        Screen::Lifetimes => &lifetimes::COLUMNS,
        Screen::Ports => &[],
    }
}

/// Draws lines in place of the screen, from one of them on, or so that the last is seen. Returns the first that is shown.
pub(crate) fn text(lines: &[(String, Style)], scrolled: usize, body: Rect, buffer: &mut Buffer) -> usize {
    for y in body.top()..body.bottom() {
        for x in body.left()..body.right() {
            buffer[(x, y)].reset();
        }
    }
    let page = usize::from(body.height);
    let from = scrolled.min(lines.len().saturating_sub(page));
    for (down, (line, style)) in lines.iter().skip(from).take(page).enumerate() {
        Pen::at(buffer, body, down as u16).skip(2).put_cut(line, *style);
    }
    let left = lines.len().saturating_sub(from + page);
    if left > 0 {
        Pen::at(buffer, body, body.height.saturating_sub(1))
            .put_right(&format!("↓ {left} more "), Style::new());
    }
    from
}
