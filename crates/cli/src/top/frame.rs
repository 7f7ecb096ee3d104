//! A whole frame: what stands around every screen, and the screen inside. A function of past, view, theme and area.

use std::sync::Arc;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;
use sockeye_core::Churn;

use super::filter::NamesAtHand;
use super::grid::Drawn;
use super::keys::{Hit, Shown};
use super::look::{Look, Recorded};
use super::past::State;
use super::pen::{Pen, columns, wrapped};
use super::screens::{
    destinations, detail, fleet, help, lifetimes, listeners, namespaces, owners, ports, sockets,
};
use super::theme::Theme;
use super::view::{Overlay, Screen, View};
use crate::render::exhaustion::span;
use crate::render::snapshot_screen::{grouped, three_digits};
use crate::terminal::Harmless;

/// Lines above the screen: who and when, tabs, the sums, the worst remark.
const ABOVE: u16 = 4;
/// Lines below it: our cost, keys.
const BELOW: u16 = 2;

/// What a frame is made of.
pub(crate) struct Scene<'a> {
    /// The oldest first.
    pub(crate) looks: &'a [Arc<Look>],
    pub(crate) state: &'a State,
    pub(crate) view: &'a View,
    pub(crate) theme: &'a Theme,
}

impl Scene<'_> {
    /// The look that is shown: the one the view stands at, or the nearest that there is.
    pub(crate) fn look(&self) -> Option<&Look> {
        self.until_shown().last().map(AsRef::as_ref)
    }

    /// It and those before it.
    pub(crate) fn until_shown(&self) -> &[Arc<Look>] {
        let Some(number) = self.view.stands_at else { return self.looks };
        let end = self.looks.partition_point(|look| look.number <= number);
        &self.looks[..end.max(1).min(self.looks.len())]
    }
}

/// Draws it, and says what stands where.
pub(crate) fn draw(scene: &Scene<'_>, buffer: &mut Buffer) -> Shown {
    let area = buffer.area;
    let mut shown = Shown::default();
    if let (Some(first), Some(last), Some(look)) = (scene.looks.first(), scene.looks.last(), scene.look()) {
        (shown.oldest, shown.newest, shown.number) = (first.number, last.number, look.number);
        shown.inode = look.place.inode;
        shown.is_replay = look.place.is_replay;
        shown.names = NamesAtHand { range: Some(look.pool.range), place: Arc::clone(&look.place) };
    }
    title(scene, area, buffer);
    tabs(scene, area, buffer, &mut shown);
    let below = BELOW.min(area.height);
    let body = Rect {
        y: area.y + ABOVE.min(area.height),
        height: area.height.saturating_sub(ABOVE + below),
        ..area
    };
    match scene.look() {
        Some(look) => {
            if look.fleet.is_none() {
                sums(look, scene.theme, area, buffer);
            }
            remark(look, scene.theme, area, buffer);
            screen(scene, look, body, buffer, &mut shown);
        }
        None => {
            let told = match scene.state {
                State::Failed(why) => format!("it failed: {}", Harmless(why)),
                _ if scene.view.is_recording => "reading the recording …".to_owned(),
                _ => "reading the sockets …".to_owned(),
            };
            Pen::at(buffer, body, 1).skip(2).put_cut(&told, scene.theme.dim);
        }
    }
    match &scene.view.overlay {
        None => {}
        Some(Overlay::Help { scrolled }) => shown.scrolled = help::draw(scene, *scrolled, body, buffer),
        Some(Overlay::Notes { scrolled }) => shown.scrolled = notes(scene, *scrolled, body, buffer),
        Some(Overlay::Namespaces { choices, chosen }) => {
            namespaces::draw(choices, *chosen, scene.theme, body, buffer);
        }
    }
    if area.height > ABOVE + below {
        cost(scene, Rect { y: area.bottom() - 2, height: 1, ..area }, buffer);
        keys(scene, Rect { y: area.bottom() - 1, height: 1, ..area }, buffer, &shown);
    }
    shown
}

fn screen(scene: &Scene<'_>, look: &Look, body: Rect, buffer: &mut Buffer, shown: &mut Shown) {
    if let Some(id) = scene.view.focus {
        return detail::draw(scene, look, &id, body, buffer);
    }
    if look.fleet.is_some() != (scene.view.screen == Screen::Namespaces) {
        Pen::at(buffer, body, 1).skip(2).put_cut("reading the sockets …", scene.theme.dim);
        return;
    }
    let drawn = match scene.view.screen {
        Screen::Destinations => destinations::draw(scene, look, body, buffer, shown),
        Screen::Owners => owners::draw(scene, look, body, buffer),
        Screen::Ports => {
            ports::draw(scene, look, body, buffer);
            Drawn::default()
        }
        Screen::Lifetimes => lifetimes::draw(scene, look, body, buffer),
        Screen::Listeners => listeners::draw(scene, look, body, buffer),
        Screen::Sockets => sockets::draw(scene, look, body, buffer),
        Screen::Namespaces => fleet::draw(scene, look, body, buffer, shown),
    };
    (shown.rows, shown.page, shown.offset) = (drawn.order.len(), drawn.page, drawn.offset);
    shown.columns = drawn.titles.iter().map(|(_, column)| *column).collect();
    shown.hits.extend(drawn.titles.into_iter().map(|(place, column)| (place, Hit::Title(column))));
    shown.hits.extend(drawn.lines.into_iter().map(|(place, row)| (place, Hit::Row(row))));
}

/// `sockeye  web-7 · netns web · Linux 6.18.5        12:00:03 UTC  every 1 s  ● live`
fn title(scene: &Scene<'_>, area: Rect, buffer: &mut Buffer) {
    let theme = scene.theme;
    let mut pen = Pen::at(buffer, area, 0);
    pen.put(" sockeye", theme.heading);
    let Some(look) = scene.look() else { return };
    let view = scene.view;
    let pace = match (look.place.is_replay, view.speed) {
        _ if view.is_recording => "recorded".to_owned(),
        (false, _) => format!("every {}", interval(view.interval.as_millis() as u64)),
        (true, speed) if speed.is_infinite() => "replay, without waits".to_owned(),
        (true, speed) => format!("replay ×{speed}"),
    };
    let newest = scene.looks.last().map_or(look.number, |look| look.number);
    let (state, style) = match (view.stands_at, scene.state) {
        (Some(_), _) if newest > look.number => {
            let ago = scene.looks.last().map_or(0, |last| last.churn.at.ms_since(look.churn.at));
            (format!("‖ {} ago", interval(ago)), theme.warn)
        }
        (Some(_), _) => ("‖ paused".to_owned(), theme.warn),
        _ if view.is_recording && !view.plays => ("‖ stands".to_owned(), theme.warn),
        _ if view.is_recording && view.speed.is_infinite() => ("▶ plays".to_owned(), theme.good),
        _ if view.is_recording => (format!("▶ ×{}", view.speed), theme.good),
        (None, State::Over) => ("■ the end".to_owned(), theme.warn),
        (None, State::Failed(_)) => ("■ failed".to_owned(), theme.bad),
        (None, _) => ("● live".to_owned(), theme.good),
    };
    let format = if view.is_recording { "%Y-%m-%d %H:%M:%S UTC" } else { "%H:%M:%S UTC" };
    let clock = look.at.strftime(format).to_string();
    let right = columns(&clock) + columns(&pace) + columns(&state) + 7;
    let place = &look.place;
    let mut left = String::new();
    // A recording may tell nothing of one of them.
    for (what, name) in
        [("", &place.host_name), ("netns ", &place.namespace), ("Linux ", &place.kernel_release)]
    {
        if !name.is_empty() {
            left += &format!("{}{what}{}", if left.is_empty() { "  " } else { " · " }, Harmless(name));
        }
    }
    let room = usize::from(pen.room().saturating_sub(right));
    pen.put(&super::pen::cut(&left, room), theme.text);
    let from = pen.x().max(area.right().saturating_sub(right));
    let rest = Rect { x: from, width: area.right().saturating_sub(from), ..area };
    let mut pen = Pen::at(buffer, rest, 0);
    pen.skip(2).put(&clock, theme.dim).skip(2).put(&pace, theme.dim).skip(2).put(&state, style);
}

fn tabs(scene: &Scene<'_>, area: Rect, buffer: &mut Buffer, shown: &mut Shown) {
    let theme = scene.theme;
    // Names are shortened before any is left out.
    let screens = scene.view.screens();
    let all: u16 = screens.iter().map(|screen| columns(screen.name()) + 4).sum();
    for screen in screens.iter().copied() {
        let name = if all + 8 <= area.width { screen.name() } else { &screen.name()[..5] };
        let x = shown.hits.last().map_or(area.x, |(place, _)| place.right());
        let width = columns(name) + 4;
        let place = Rect { x, y: area.y + 1, width, height: 1 }.intersection(area);
        let style = if screen == scene.view.screen { theme.chosen } else { theme.text };
        let number = (screen.index() + 1).to_string();
        let key = if screen == scene.view.screen { theme.chosen } else { theme.key };
        Pen::at(buffer, place, 0)
            .put(" ", style)
            .put(&number, key)
            .put(" ", style)
            .put(name, style)
            .put(" ", style);
        shown.hits.push((place, Hit::Tab(screen)));
    }
    let x = shown.hits.last().map_or(area.x, |(place, _)| place.right());
    let rest = Rect { x, width: area.right().saturating_sub(x), ..area };
    Pen::at(buffer, rest, 1).put_right("? help ", theme.key);
}

fn sums(look: &Look, theme: &Theme, area: Rect, buffer: &mut Buffer) {
    let mut pen = Pen::at(buffer, area, 2);
    let [opens, closes] = rates(&look.churn);
    let mut put = |label: &str, value: &str| {
        if pen.room() > columns(label) + columns(value) + 2 {
            pen.put(" ", theme.text)
                .put(label, theme.dim)
                .put(" ", theme.text)
                .put(value, theme.heading)
                .put(" ", theme.text);
        }
    };
    put("opens", &format!("{}/s", three_digits(opens)));
    put("closes", &format!("{}/s", three_digits(closes)));
    put("live", &grouped(look.churn.tcp.live()));
    put("time-wait", &grouped(look.time_wait));
    if let Some(Recorded { exhausted_in_s: Some(seconds), .. }) = look.recorded {
        put("first exhausted in", &span(seconds));
    }
    let pool = &look.pool;
    put("usable ports", &format!("{} of {}", grouped(pool.usable), grouped(pool.range.count())));
    put("out", &grouped(look.outgoing.sockets()));
    // What comes in, and UDP's ports, are not recorded.
    if look.recorded.is_none() {
        put("in", &grouped(look.incoming.sockets()));
        put("udp ports", &format!("{} of {}", grouped(pool.udp_in_use), grouped(pool.udp_usable)));
    }
}

/// Opens and closes per second of the last interval.
pub(crate) fn rates(churn: &Churn) -> [f64; 2] {
    let seconds = churn.interval_ms as f64 / 1e3;
    [churn.tcp.opened_last, churn.tcp.closed_last]
        .map(|count| if seconds > 0.0 { count as f64 / seconds } else { 0.0 })
}

fn remark(look: &Look, theme: &Theme, area: Rect, buffer: &mut Buffer) {
    let Some(worst) = look.remarks.first() else { return };
    let more = match look.remarks.len() - 1 {
        0 => String::new(),
        more => format!(" (+{more}: w)"),
    };
    let mut pen = Pen::at(buffer, area, 3);
    pen.put(" ! ", theme.warn);
    let room = usize::from(pen.room().saturating_sub(columns(&more) + 1));
    pen.put(&super::pen::cut(&Harmless(&worst.text).to_string(), room), theme.warn).put(&more, theme.key);
}

/// What this program costs and how much it sees.
fn cost(scene: &Scene<'_>, line: Rect, buffer: &mut Buffer) {
    let Some(look) = scene.look() else { return };
    let theme = scene.theme;
    let cost = &look.cost;
    let mut pen = Pen::at(buffer, line, 0);
    let mut put = |text: &str, style| {
        if pen.room() > columns(text) + 3 {
            let gap = if pen.x() == line.x { " " } else { " · " };
            pen.put(gap, theme.dim).put(text, style);
        }
    };
    if let State::Recorded { of } = scene.state {
        put(&format!("tick {} of {}", grouped(look.number), grouped(*of)), theme.heading);
    }
    if let Some(sweep) = cost.sweep {
        let mut told =
            format!("{} sockets in {} ms", grouped(sweep.records), three_digits(sweep.duration_ms));
        if cost.swept_ago_ms > 0 {
            told += &format!(", {} ago", interval(cost.swept_ago_ms));
        }
        put(&told, theme.dim);
    }
    if let Some(share) = cost.cpu_share {
        put(&format!("cpu {:.1}%", share * 100.0), if share > 0.2 { theme.warn } else { theme.dim });
    }
    if let Some(recorded) = &look.recorded {
        seen(recorded.coverage, theme, &mut put);
        if recorded.events_lost > 0 {
            put(&format!("! {} events lost", grouped(recorded.events_lost)), theme.warn);
        }
        return;
    }
    if look.fleet.is_none() {
        events(look, theme, &mut put);
    }
    if let Some(bytes) = cost.resident_bytes {
        put(&format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)), theme.dim);
    }
    put(&format!("{} ticks kept", scene.looks.len()), theme.dim);
}

/// Whether destroy events are heard, and how much is seen.
fn events(look: &Look, theme: &Theme, put: &mut impl FnMut(&str, Style)) {
    match (look.churn.events, look.churn.events_lost) {
        (false, _) => put("no events", theme.warn),
        (true, 0) => put("0 events lost", theme.dim),
        (true, lost) => put(&format!("! {} events lost", grouped(lost)), theme.warn),
    }
    seen(look.churn.coverage.ratio(), theme, put);
}

/// How much was seen of what the kernel counted.
fn seen(ratio: Option<f64>, theme: &Theme, put: &mut impl FnMut(&str, Style)) {
    match ratio {
        // Downwards: 100.0 is said of nothing less.
        Some(ratio) => {
            let style = if ratio < 0.99 { theme.warn } else { theme.dim };
            put(&format!("{:.1}% seen", (ratio * 1_000.0).floor() / 10.0), style);
        }
        None => put("? seen", theme.dim),
    }
}

/// The prompt of a filter, something to say, or which keys there are.
fn keys(scene: &Scene<'_>, line: Rect, buffer: &mut Buffer, shown: &Shown) {
    let (theme, view) = (scene.theme, scene.view);
    let mut pen = Pen::at(buffer, line, 0);
    if view.typing.is_some() {
        let typed = view.filter();
        pen.put(" / ", theme.key).put(&typed.text, theme.heading).put(" ", theme.chosen);
        match &typed.error {
            Some(error) if !typed.text.trim().is_empty() => {
                pen.put("  ", theme.text).put_cut(error, theme.warn)
            }
            _ => pen.put("  Enter keeps it, Esc does not", theme.dim),
        };
        return;
    }
    if let (Some(text), None) = (&view.time, &view.message) {
        pen.put(" go to ", theme.key)
            .put_cut(&Harmless(text).to_string(), theme.heading)
            .put(" ", theme.chosen);
        pen.put_cut("  16:05 of this day, 2026-11-23 16:05 or -2h, UTC; Esc does not", theme.dim);
        return;
    }
    if let Some(message) = &view.message {
        pen.put(" ", theme.text).put_cut(&Harmless(message).to_string(), theme.warn);
        return;
    }
    let mut put = |key: &str, text: &str| {
        if pen.room() > columns(key) + columns(text) + 2 {
            pen.put(" ", theme.text)
                .put(key, theme.key)
                .put(" ", theme.text)
                .put(text, theme.dim)
                .put(" ", theme.text);
        }
    };
    let is_table = view.focus.is_none() && shown.columns.len() > 1;
    match (view.focus.is_some(), view.screen) {
        (true, _) => put("Esc", "all destinations"),
        (false, Screen::Destinations) => put("Enter", "one alone"),
        (false, Screen::Namespaces) => put("Enter", "look into it"),
        (false, Screen::Owners) => put("b", "group by"),
        _ => {}
    }
    if view.has_filter() && view.focus.is_none() {
        put("/", "filter");
    }
    if is_table {
        put("< > r", "sort");
    }
    match view.stands_at {
        _ if view.is_recording => {
            put("Space", if view.plays { "stop" } else { "play" });
            put("← →", "step");
            put("m x o", "minutes, hour");
            put("@", "time");
        }
        None => put("Space", "pause"),
        Some(_) => {
            put("Space", "go on");
            put("← →", "step");
        }
    }
    put("q", "quit");
    put("+ -", if shown.is_replay { "speed" } else { "interval" });
    put("w", "notes");
    if !view.is_recording {
        put("n", "namespace");
    }
}

/// All remarks, in full.
fn notes(scene: &Scene<'_>, scrolled: usize, body: Rect, buffer: &mut Buffer) -> usize {
    let room = usize::from(body.width.saturating_sub(6));
    let mut lines = Vec::new();
    for remark in scene.look().map(|look| look.remarks.as_slice()).unwrap_or_default() {
        lines.push((Harmless(&remark.id.replace('_', " ")).to_string(), scene.theme.heading));
        let text = Harmless(&remark.text).to_string();
        lines.extend(wrapped(&text, room).into_iter().map(|line| (format!("  {line}"), scene.theme.text)));
    }
    if lines.is_empty() {
        lines.push(("nothing to note".to_owned(), scene.theme.dim));
    }
    help::text(&lines, scrolled, body, buffer)
}

/// `500 ms`, `1 s`, `1 min 5 s`.
pub(crate) fn interval(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 if ms.is_multiple_of(1_000) => format!("{} s", ms / 1_000),
        1_000..60_000 => format!("{:.1} s", ms as f64 / 1e3),
        _ if (ms / 1_000).is_multiple_of(60) => format!("{} min", ms / 60_000),
        _ => format!("{} min {} s", ms / 60_000, ms / 1_000 % 60),
    }
}
