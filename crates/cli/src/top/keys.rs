//! What a key makes of the view: a function of the view, the key and what is on the screen.

use std::time::Duration;

use ratatui_core::layout::{Position, Rect};
use sockeye_core::DestinationId;

use super::filter::NamesAtHand;
use super::input::{Input, LONGEST_TEXT};
use super::view::{Overlay, OwnersBy, Screen, View};
use super::wanted::Move;
use crate::instant::Instant;

/// Intervals that + and - step through.
const INTERVALS_MS: [u64; 9] = [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];
/// How fast a replay can go, times its own pace.
const SPEEDS: [f64; 7] = [0.25, 0.5, 1.0, 2.0, 10.0, 60.0, f64::INFINITY];

/// Longer texts are no time.
const LONGEST_TIME: usize = 64;

/// Something on the screen that a click means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Hit {
    Tab(Screen),
    /// The title of a column.
    Title(usize),
    /// A row, by its place in the order.
    Row(usize),
}

/// What the last frame showed: what keys and clicks are about.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shown {
    /// Rows of the table, all of them.
    pub(crate) rows: usize,
    /// Rows there is room for.
    pub(crate) page: usize,
    /// The first row that is shown.
    pub(crate) offset: usize,
    /// The columns that are shown, by their number.
    pub(crate) columns: Vec<usize>,
    /// Where the destination stands that is chosen.
    pub(crate) cursor: usize,
    /// The destination of the chosen row.
    pub(crate) chosen: Option<DestinationId>,
    /// The way to the namespace of the chosen row.
    pub(crate) namespace: Option<String>,
    pub(crate) hits: Vec<(Rect, Hit)>,
    /// The numbers of the oldest and the newest look there is, and of the one that is shown.
    pub(crate) oldest: u64,
    pub(crate) newest: u64,
    pub(crate) number: u64,
    pub(crate) is_replay: bool,
    /// Of the namespace that is followed.
    pub(crate) inode: Option<u64>,
    /// The first line that is shown of a text in front of the screen.
    pub(crate) scrolled: usize,
    /// What filters may name.
    pub(crate) names: NamesAtHand,
}

/// What a key asks for beyond another view.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Effect {
    Quit,
    Suspend,
    /// Everything is to be drawn anew: something else wrote to the terminal.
    Repaint,
    /// A tick now.
    Tick,
    /// Which namespaces there are.
    ListNamespaces,
    /// Another tick of a recording.
    Go(Move),
}

/// The view after a key.
pub(crate) fn apply(view: &View, input: &Input, shown: &Shown) -> (View, Option<Effect>) {
    let mut view = View { message: None, ..view.clone() };
    view.table_mut().offset = shown.offset;
    if view.screen == Screen::Destinations && view.focus.is_none() {
        view.table_mut().cursor = shown.cursor;
        view.pinned = shown.chosen;
    }
    let before = *view.table();
    let effect = match input {
        Input::Control('c') => Some(Effect::Quit),
        Input::Control('z') => Some(Effect::Suspend),
        Input::Control('l') => Some(Effect::Repaint),
        _ if view.typing.is_some() => {
            type_filter(&mut view, input, shown);
            None
        }
        _ if view.time.is_some() => type_time(&mut view, input),
        _ if view.overlay.is_some() => {
            look_over(&mut view, input, shown);
            None
        }
        _ if view.is_recording => go_through(&mut view, input).or_else(|| choose(&mut view, input, shown)),
        _ => choose(&mut view, input, shown),
    };
    if *view.table() != before {
        view.pinned = None;
    }
    (view, effect)
}

/// A key that is about the time of a recording.
fn go_through(view: &mut View, input: &Input) -> Option<Effect> {
    let to = match input {
        Input::Left | Input::Char('[' | 'T') => Move::Ticks(-1),
        Input::Right | Input::Char(']' | 't') => Move::Ticks(1),
        Input::Char('{') => Move::Ticks(-10),
        Input::Char('}') => Move::Ticks(10),
        Input::Char('M') => Move::Seconds(-60),
        Input::Char('m') => Move::Seconds(60),
        Input::Char('X') => Move::Seconds(-600),
        Input::Char('x') => Move::Seconds(600),
        Input::Char('O') => Move::Seconds(-3_600),
        Input::Char('o') => Move::Seconds(3_600),
        Input::Char('^') => Move::First,
        Input::Char('$') => Move::Last,
        _ => return None,
    };
    // Whoever steps wants to look at it.
    view.plays &= !matches!(to, Move::Ticks(_));
    Some(Effect::Go(to))
}

/// A key while a time is typed.
fn type_time(view: &mut View, input: &Input) -> Option<Effect> {
    let mut text = view.time.take()?;
    match input {
        Input::Escape => return None,
        Input::Enter if text.trim().is_empty() => return None,
        Input::Enter => match Instant::parse(&text) {
            Ok(instant) => return Some(Effect::Go(Move::To(instant))),
            // It stays, to be mended.
            Err(why) => view.message = Some(why),
        },
        Input::Char(c) => text.push(*c),
        Input::Pasted(pasted) => text.push_str(pasted),
        Input::Backspace => {
            text.pop();
        }
        Input::Control('u') => text.clear(),
        _ => {}
    }
    view.time = Some(text.chars().take(LONGEST_TIME).collect());
    None
}

/// A key while nothing is in front of the screen.
fn choose(view: &mut View, input: &Input, shown: &Shown) -> Option<Effect> {
    match input {
        Input::Char('q') => return Some(Effect::Quit),
        Input::Char('R') => return Some(Effect::Tick),
        Input::Char('n') => return Some(Effect::ListNamespaces),
        Input::Char('?' | 'h') => view.overlay = Some(Overlay::Help { scrolled: 0 }),
        Input::Char('w') => view.overlay = Some(Overlay::Notes { scrolled: 0 }),
        Input::Char(digit @ '1'..='7') => {
            go_to(view, Screen::ALL[(*digit as usize).saturating_sub('1' as usize)]);
        }
        Input::Tab => go_to(view, beside(view, 1)),
        Input::BackTab => go_to(view, beside(view, view.screens().len() - 1)),
        Input::Char('/') if view.has_filter() => {
            // Of all of them, not of the one that is looked at.
            view.focus = None;
            view.typing = Some(view.filter().clone());
        }
        Input::Char('/') => {
            let told = match view.is_recording {
                true => "destinations (1) and owners (2) can be filtered",
                false => "destinations (1), owners (2), listeners (5) and sockets (6) can be filtered",
            };
            view.message = Some(told.to_owned());
        }
        Input::Escape | Input::Backspace => go_back(view),
        Input::Enter if view.screen == Screen::Namespaces => enter(view, shown),
        Input::Enter => view.focus = view.focus.or(shown.chosen),
        Input::Char('<' | ',') => sort_beside(view, shown, false),
        Input::Char('>' | '.') => sort_beside(view, shown, true),
        Input::Char('b') if view.screen == Screen::Owners => {
            view.owners_by = view.owners_by.next();
            if view.is_recording && view.owners_by == OwnersBy::PortOrigin {
                view.owners_by = view.owners_by.next();
            }
        }
        Input::Char('b' | '@') if view.is_recording => view.time = Some(String::new()),
        Input::Char('r') => view.table_mut().descending ^= true,
        Input::Char(' ' | 'p') if view.is_recording => view.plays ^= true,
        Input::Char(' ' | 'p') => {
            view.stands_at = if view.stands_at.is_some() { None } else { Some(shown.number) };
        }
        Input::Left | Input::Char('[') => step(view, shown, |at| at.saturating_sub(1)),
        Input::Right | Input::Char(']') => step(view, shown, |at| at + 1),
        Input::Char('{') => step(view, shown, |at| at.saturating_sub(10)),
        Input::Char('}') => step(view, shown, |at| at + 10),
        Input::Char('+' | '=') => pace(view, shown, true),
        Input::Char('-') => pace(view, shown, false),
        Input::Click(x, y) => click(view, shown, Position::new(*x, *y)),
        _ => move_cursor(view, input, shown),
    }
    None
}

fn go_to(view: &mut View, screen: Screen) {
    if screen == Screen::Namespaces {
        if view.is_fleet && view.screen != screen {
            view.follow(None);
        }
    } else if view.screens().contains(&screen) {
        view.screen = screen;
        view.focus = None;
    } else {
        view.message = Some("that is of one namespace: Enter looks at the chosen one".to_owned());
    }
}

/// So many screens further.
fn beside(view: &View, steps: usize) -> Screen {
    let screens = view.screens();
    let at = screens.iter().position(|screen| *screen == view.screen).unwrap_or(0);
    screens[(at + steps) % screens.len()]
}

/// Into the chosen namespace.
fn enter(view: &mut View, shown: &Shown) {
    match &shown.namespace {
        Some(way) => view.follow(Some(way.clone())),
        None => view.message = Some("there is no namespace to look at".to_owned()),
    }
}

/// Out of what is in front: one destination, then a filter, then the past, then the one namespace among all.
fn go_back(view: &mut View) {
    if view.focus.is_some() {
        view.focus = None;
    } else if !view.filter().text.is_empty() {
        *view.filter_mut() = Default::default();
    } else if view.stands_at.is_some() {
        view.stands_at = None;
    } else if view.is_fleet && view.namespace.is_some() {
        view.follow(None);
    }
}

fn sort_beside(view: &mut View, shown: &Shown, to_the_right: bool) {
    let at = shown.columns.iter().position(|column| *column == view.table().sort);
    let count = shown.columns.len();
    let next = match (at, to_the_right) {
        (None, _) => shown.columns.first(),
        (Some(at), true) => shown.columns.get((at + 1) % count),
        (Some(at), false) => shown.columns.get((at + count - 1) % count),
    };
    if let Some(column) = next {
        sort_by(view, *column);
    }
}

/// By this column; once more, the other way round.
fn sort_by(view: &mut View, column: usize) {
    let table = view.table_mut();
    // Names begin at A, numbers with the greatest.
    table.descending = if table.sort == column { !table.descending } else { column > 0 };
    (table.sort, table.cursor, table.offset) = (column, 0, 0);
}

fn step(view: &mut View, shown: &Shown, to: impl Fn(u64) -> u64) {
    let at = to(shown.number).clamp(shown.oldest, shown.newest.max(shown.oldest));
    // Beyond the newest is the present, which goes on.
    let beyond = to(shown.number) > shown.newest && view.stands_at.is_some();
    view.stands_at = if beyond { None } else { Some(at) };
}

fn pace(view: &mut View, shown: &Shown, more: bool) {
    if shown.is_replay {
        let at = SPEEDS.iter().position(|speed| *speed >= view.speed).unwrap_or(SPEEDS.len() - 1);
        let at = if more { (at + 1).min(SPEEDS.len() - 1) } else { at.saturating_sub(1) };
        view.speed = SPEEDS[at];
        return;
    }
    let now = view.interval.as_millis() as u64;
    let next = match more {
        true => INTERVALS_MS.iter().find(|ms| **ms > now),
        false => INTERVALS_MS.iter().rev().find(|ms| **ms < now),
    };
    view.interval = Duration::from_millis(*next.unwrap_or(&now));
}

fn click(view: &mut View, shown: &Shown, at: Position) {
    match shown.hits.iter().find(|(place, _)| place.contains(at)).map(|(_, hit)| *hit) {
        Some(Hit::Tab(screen)) => go_to(view, screen),
        Some(Hit::Title(column)) => sort_by(view, column),
        // The chosen row once more: look at it.
        Some(Hit::Row(row)) if view.table().cursor == row => match view.screen {
            Screen::Namespaces => enter(view, shown),
            _ => view.focus = view.focus.or(shown.chosen),
        },
        Some(Hit::Row(row)) => view.table_mut().cursor = row,
        None => {}
    }
}

fn move_cursor(view: &mut View, input: &Input, shown: &Shown) {
    let last = shown.rows.saturating_sub(1);
    let page = shown.page.max(2) - 1;
    let table = view.table_mut();
    let cursor = table.cursor.min(last);
    table.cursor = match input {
        Input::Up | Input::Char('k') => cursor.saturating_sub(1),
        Input::Down | Input::Char('j') => cursor + 1,
        Input::WheelUp => cursor.saturating_sub(3),
        Input::WheelDown => cursor + 3,
        Input::PageUp => cursor.saturating_sub(page),
        Input::PageDown => cursor + page,
        Input::Home | Input::Char('g') => 0,
        Input::End | Input::Char('G') => last,
        _ => cursor,
    }
    .min(last);
}

/// A key while a filter is typed: every one of them filters at once.
fn type_filter(view: &mut View, input: &Input, shown: &Shown) {
    let mut text = view.filter().text.clone();
    match input {
        Input::Enter => {
            view.typing = None;
            return;
        }
        Input::Escape => {
            if let Some(before) = view.typing.take() {
                *view.filter_mut() = before;
            }
            return;
        }
        Input::Char(c) => text.push(*c),
        Input::Pasted(pasted) => text.push_str(pasted),
        Input::Backspace => {
            text.pop();
        }
        Input::Control('u') => text.clear(),
        Input::Control('w') => {
            let kept = text.trim_end();
            text.truncate(kept.rfind(' ').map_or(0, |space| space + 1));
        }
        _ => return move_cursor(view, input, shown),
    }
    if text.len() > LONGEST_TEXT {
        return;
    }
    let screen = view.screen;
    view.filter_mut().set(text, &shown.names, screen);
    let table = view.table_mut();
    (table.cursor, table.offset) = (0, 0);
}

/// A key while something is in front of the screen.
fn look_over(view: &mut View, input: &Input, shown: &Shown) {
    let Some(overlay) = view.overlay.take() else { return };
    view.overlay = match (overlay, input) {
        (_, Input::Escape | Input::Char('q' | '?' | 'h' | 'w' | 'n')) => None,
        (Overlay::Namespaces { choices, chosen }, Input::Enter) => {
            view.follow(choices.get(chosen).and_then(|choice| choice.namespace.clone()));
            None
        }
        (Overlay::Namespaces { choices, chosen }, input) => {
            let chosen = moved(chosen, input).min(choices.len().saturating_sub(1));
            Some(Overlay::Namespaces { choices, chosen })
        }
        // From what was shown: the text may have ended before.
        (Overlay::Help { .. }, input) => Some(Overlay::Help { scrolled: moved(shown.scrolled, input) }),
        (Overlay::Notes { .. }, input) => Some(Overlay::Notes { scrolled: moved(shown.scrolled, input) }),
    };
}

fn moved(at: usize, input: &Input) -> usize {
    match input {
        Input::Up | Input::WheelUp | Input::Char('k') => at.saturating_sub(1),
        Input::Down | Input::WheelDown | Input::Char('j') => at + 1,
        Input::PageUp => at.saturating_sub(10),
        Input::PageDown | Input::Char(' ') => at + 10,
        Input::Home => 0,
        _ => at,
    }
}
