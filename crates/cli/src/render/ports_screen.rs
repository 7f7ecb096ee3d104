//! Ports as a picture of the range, a cell for a few ports each, and as a list of who holds some of them.

use std::fmt::Write as _;

use sock_diag::{Protocol, SocketRecord, TimerKind};
use sockeye_core::{Bindable, PortHolder, PortMap, Report};

use crate::command::ports::{Chance, Listing, Picture};
use crate::render::headroom_json::doubts;
use crate::render::paragraph::paragraph;
use crate::render::snapshot_screen::{bar, grouped};
use crate::sweep::Note;
use crate::terminal::{Harmless, Palette};

/// Columns where the output is no terminal.
pub(crate) const DEFAULT_WIDTH: usize = 100;
const LEAST_WIDTH: usize = 40;
const MOST_WIDTH: usize = 200;
/// `32768 `, before each line of cells.
const PORT_WIDTH: usize = 6;
/// `HALVES   `, before each line of text.
const LABEL_WIDTH: usize = 9;
/// The picture is no taller, so that it and what stands around it fit an ordinary terminal.
const MOST_LINES: usize = 16;
/// Longest runs of free ports, and local addresses with the least left, that are told.
const TOLD: usize = 3;

/// How a share of a cell's ports is drawn: those in connections as bars, those in TIME_WAIT as shades.
const LIVE: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const TIME_WAIT: [char; 3] = ['░', '▒', '▓'];

/// The whole screen.
pub(crate) fn picture(picture: &Picture<'_>, width: usize, palette: Palette) -> String {
    let map = picture.map;
    let range = map.pool().range();
    let Palette { heading, dim, reset, .. } = palette;
    let mut text = String::new();
    let mut put = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    let protocol = picture.protocol.name().to_uppercase();
    let ports = match range.count() {
        1 => "1 port".to_owned(),
        ports => format!("{} ports", grouped(ports)),
    };
    put(format!("{heading}{protocol} PORTS {range}{reset}  {ports}"));
    if let Some(id) = picture.towards {
        put(format!("as connect() sees them for {id}"));
    }
    if range.count() == 0 {
        put("no port is in net.ipv4.ip_local_port_range".to_owned());
        put_notes(picture.report, picture.notes, width.max(LEAST_WIDTH), palette, &mut put);
        return text;
    }
    put(String::new());
    let width = width.clamp(LEAST_WIDTH, MOST_WIDTH);
    let cells = width - PORT_WIDTH;
    let per_cell = ports_per_cell(range.count() as usize, cells);
    let all: Vec<u16> = range.ports().collect();
    for line in all.chunks(per_cell * cells) {
        let cells = line.chunks(per_cell).map(|cell| draw(map, cell, palette));
        put(format!("{dim}{:>5}{reset} {}", line[0], styled(cells, reset)));
    }
    put(String::new());
    let each = match per_cell {
        1 => "a cell is a port".to_owned(),
        ports => format!("a cell is {ports} ports; the taller a bar or the denser a shade, the more of them"),
    };
    put(format!("{dim}{}{reset}", paragraph(&each, 0, width)));
    for holder in PortHolder::ALL {
        let count = map.count(holder);
        if count > 0 {
            let glyph = sample(holder);
            let style = style(holder, palette);
            put(format!(
                "  {style}{glyph}{reset} {:>7}  {}",
                grouped(count),
                meaning(holder, picture.protocol)
            ));
        }
    }
    put(String::new());
    // A UDP socket has no half it prefers.
    if picture.protocol == Protocol::Tcp {
        put_halves(map, palette, &mut put);
    }
    let mut free: Vec<_> = map
        .runs()
        .into_iter()
        .filter(|(_, holder)| *holder == PortHolder::Free)
        .map(|(run, _)| run)
        .collect();
    free.sort_by_key(|run| (std::cmp::Reverse(run.len()), *run.start()));
    let shown: Vec<String> = free.iter().take(TOLD).map(|run| span(*run.start(), *run.end())).collect();
    let told = match free.len() {
        0 => "no port is free".to_owned(),
        1 => format!("1 run: {}", shown.join("")),
        runs => format!("{} runs, the longest: {}", grouped(runs as u64), shown.join(" · ")),
    };
    put_labelled("FREE", &told, width, palette, &mut put);
    if let Some(rows) = bindable(picture) {
        let left = |on: &Bindable| match on.min == on.max {
            true => format!("{} on {}", grouped(on.max), on.local_address),
            false => format!("{}–{} on {}", grouped(on.min), grouped(on.max), on.local_address),
        };
        let mut told: Vec<String> = rows.iter().take(TOLD).map(left).collect();
        if rows.len() > TOLD {
            told.push(format!("as many or more on {} other", grouped((rows.len() - TOLD) as u64)));
        }
        put_labelled("BIND", &format!("bind(0) finds {}", told.join(" · ")), width, palette, &mut put);
    }
    put_notes(picture.report, picture.notes, width, palette, &mut put);
    text
}

/// What there is to say about bind() with port 0. Nothing where sockets are left out of sight: those of other destinations,
/// or of the other family.
pub(super) fn bindable<'a>(picture: &Picture<'a>) -> Option<&'a [Bindable]> {
    let all = picture.protocol == Protocol::Tcp && picture.towards.is_none() && picture.whole;
    all.then_some(&picture.report.tcp.bindable)
}

fn put_notes(report: &Report, notes: &[Note], width: usize, palette: Palette, put: &mut impl FnMut(String)) {
    for (index, (_, message)) in doubts(report, notes).enumerate() {
        let label = if index == 0 { "NOTES" } else { "" };
        put_labelled(label, &Harmless(&message).to_string(), width, palette, put);
    }
}

fn put_labelled(label: &str, text: &str, width: usize, palette: Palette, put: &mut impl FnMut(String)) {
    let Palette { heading, reset, .. } = palette;
    put(format!("{heading}{label:<LABEL_WIDTH$}{reset}{}", paragraph(text, LABEL_WIDTH, width)));
}

/// connect() takes the one half first and slows down when it is full; bind() with port 0 does the opposite.
fn put_halves(map: &PortMap, palette: Palette, put: &mut impl FnMut(String)) {
    let Palette { heading, reset, .. } = palette;
    let halves = [true, false].map(|preferred| (preferred, map.half(preferred)));
    for (index, (preferred, (usable, free))) in
        halves.into_iter().filter(|(_, (usable, _))| *usable > 0).enumerate()
    {
        let taken = usable - free;
        let ratio = f64::from(taken) / f64::from(usable);
        let style = palette.of_share(ratio);
        let parity = if (map.pool().range().first & 1 == 0) == preferred { "even" } else { "odd" };
        let who = if preferred { "connect() first" } else { "bind(0) first" };
        put(format!(
            "{heading}{:<8}{reset} {style}{}{reset} {:>5.1}%  {} of {} taken, {parity} ports: {who}",
            if index == 0 { "HALVES" } else { "" },
            bar(ratio),
            ratio * 100.0,
            grouped(taken),
            grouped(usable),
        ));
    }
}

fn ports_per_cell(ports: usize, cells: usize) -> usize {
    let mut per_cell = 1;
    while ports > per_cell * cells * MOST_LINES {
        per_cell *= 2;
    }
    per_cell
}

fn draw(map: &PortMap, cell: &[u16], palette: Palette) -> (&'static str, char) {
    let (holder, glyph) = shown(map, cell);
    (style(holder, palette), glyph)
}

/// What a cell of some ports shows. Whatever is held shows as its letter, else connections by how many, then TIME_WAIT by
/// how many.
pub(crate) fn shown(map: &PortMap, cell: &[u16]) -> (PortHolder, char) {
    let count = |wanted: PortHolder| cell.iter().filter(|port| map.holder(**port) == wanted).count();
    let held =
        [PortHolder::Listener, PortHolder::Bound, PortHolder::Explicit].into_iter().find(|h| count(*h) > 0);
    let reserved = count(PortHolder::Reserved);
    let (live, time_wait) = (count(PortHolder::Live), count(PortHolder::TimeWait));
    let share = |glyphs: &[char], part: usize| glyphs[(part * glyphs.len()).div_ceil(cell.len()).max(1) - 1];
    match held {
        Some(holder) => (holder, sample(holder)),
        None if reserved * 2 >= cell.len() => (PortHolder::Reserved, sample(PortHolder::Reserved)),
        None if live > 0 && live >= time_wait => (PortHolder::Live, share(&LIVE, live)),
        None if time_wait > 0 => (PortHolder::TimeWait, share(&TIME_WAIT, time_wait)),
        None if reserved > 0 => (PortHolder::Reserved, sample(PortHolder::Reserved)),
        None => (PortHolder::Free, sample(PortHolder::Free)),
    }
}

/// Glyphs with their styles; neighbours of the same style share it.
fn styled(glyphs: impl Iterator<Item = (&'static str, char)>, reset: &str) -> String {
    let mut text = String::new();
    let mut last = "";
    for (style, glyph) in glyphs {
        if style != last {
            text.push_str(if last.is_empty() { "" } else { reset });
            text.push_str(style);
            last = style;
        }
        text.push(glyph);
    }
    text + if last.is_empty() { "" } else { reset }
}

pub(crate) fn sample(holder: PortHolder) -> char {
    match holder {
        PortHolder::Free => '·',
        PortHolder::TimeWait => '▓',
        PortHolder::Live => '█',
        PortHolder::Explicit => 'N',
        PortHolder::Bound => 'B',
        PortHolder::Listener => 'L',
        PortHolder::Reserved => 'x',
    }
}

fn style(holder: PortHolder, palette: Palette) -> &'static str {
    match holder {
        PortHolder::Free | PortHolder::Reserved => palette.dim,
        PortHolder::TimeWait => palette.warn,
        PortHolder::Live => palette.good,
        PortHolder::Explicit | PortHolder::Bound => palette.bad,
        PortHolder::Listener => palette.heading,
    }
}

pub(crate) fn meaning(holder: PortHolder, protocol: Protocol) -> &'static str {
    match (holder, protocol) {
        (PortHolder::Free, _) => "free",
        (PortHolder::TimeWait, _) => "in TIME_WAIT",
        (PortHolder::Live, Protocol::Udp) => "connected sockets",
        (PortHolder::Live, _) => "connections",
        (PortHolder::Explicit, _) => "connections that bound the port by number: connect() skips it",
        (PortHolder::Bound, Protocol::Udp) => "sockets without a destination",
        (PortHolder::Bound, _) => "bound and idle: connect() skips it",
        (PortHolder::Listener, _) => "listeners: connect() skips it",
        (PortHolder::Reserved, _) => "reserved: left out of automatic choice",
    }
}

fn span(first: u16, last: u16) -> String {
    match u32::from(last) - u32::from(first) + 1 {
        1 => first.to_string(),
        ports => format!("{first}–{last} ({})", grouped(ports)),
    }
}

/// Who holds some ports, one by one.
pub(crate) fn listing(listing: &Listing<'_>, width: usize, palette: Palette) -> String {
    let Palette { heading, dim, reset, .. } = palette;
    let mut text = String::new();
    let several = listing.ports.len() > 1;
    let mut nobody = vec![0u32; listing.maps.len()];
    for port in listing.ports.clone() {
        for ((protocol, map), nobody) in listing.maps.iter().zip(&mut nobody) {
            let sockets = listing.on(*protocol, port);
            // Of a whole range, only ports with something to say.
            if several && sockets.is_empty() && map.taken_by(port) == PortHolder::Free {
                *nobody += 1;
                continue;
            }
            let style = style(map.taken_by(port), palette);
            let _ = writeln!(
                text,
                "{heading}{protocol} {port}{reset}  {style}{}{reset}{dim}{}{reset}",
                verdict(*protocol, map, port),
                chance(*protocol, map, port)
            );
            for record in sockets {
                let _ = writeln!(text, "  {}", line(record));
            }
        }
    }
    if several {
        let counts = listing.maps.iter().zip(nobody);
        let counts: Vec<String> =
            counts.map(|((protocol, _), ports)| format!("{} {protocol}", grouped(ports))).collect();
        let _ = writeln!(text, "{dim}ports that nobody holds: {}{reset}", counts.join(", "));
    }
    put_notes(listing.report, listing.notes, width.max(LEAST_WIDTH), palette, &mut |line| {
        text.push_str(&line);
        text.push('\n');
    });
    text
}

fn verdict(protocol: Protocol, map: &PortMap, port: u16) -> &'static str {
    match (map.taken_by(port), protocol) {
        (PortHolder::Free, _) => "nobody holds it",
        (PortHolder::TimeWait, _) => "connections in TIME_WAIT",
        (PortHolder::Live, Protocol::Udp) => "connected",
        (PortHolder::Live, _) => "connections",
        (PortHolder::Explicit, _) => "bound by number before connecting",
        (PortHolder::Bound, Protocol::Udp) => "bound, without a destination",
        (PortHolder::Bound, _) => "bound and idle",
        (PortHolder::Listener, _) => "listening",
        (PortHolder::Reserved, _) => "reserved",
    }
}

fn chance(protocol: Protocol, map: &PortMap, port: u16) -> &'static str {
    match (Listing::chance(map, port), protocol) {
        (Chance::Never, _) if map.pool().range().contains(port) => "; never chosen: reserved",
        (Chance::Never, _) => "; never chosen: outside the range",
        (Chance::Held, Protocol::Udp) | (Chance::Shared, Protocol::Udp) => "; not chosen while that lasts",
        (Chance::Held, _) => "; every connect() skips it",
        (Chance::Shared, _) => "; connect() may choose it for another destination",
        (Chance::Free, _) => "; the kernel may choose it",
    }
}

fn line(record: &SocketRecord) -> String {
    let id = &record.id;
    let end = |address, port| std::net::SocketAddr::new(address, port).to_string();
    let mut text = format!("{:<11} {}", record.state.ss_name(), end(id.local_address, id.local_port));
    if id.remote_port != 0 || !id.remote_address.is_unspecified() {
        let _ = write!(text, " → {}", end(id.remote_address, id.remote_port));
    }
    // Not told by the state: a FIN_WAIT2 without a process has its time, too.
    if record.timer.kind == TimerKind::TimeWait {
        let _ = write!(text, "  {:.1} s left", f64::from(record.timer.expires_ms) / 1000.0);
    }
    if let Some(uid) = record.uid {
        let _ = write!(text, "  uid {uid}");
    }
    text
}
