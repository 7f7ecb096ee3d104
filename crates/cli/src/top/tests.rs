//! Every screen at every size, as text; and what keys make of it.

use insta::assert_snapshot;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use std::sync::Arc;
use std::time::Duration;

use super::example;
use super::frame::{Scene, draw};
use super::input::Input;
use super::keys::{Effect, Shown, apply};
use super::look::Look;
use super::past::State;
use super::theme::Theme;
use super::view::{Choice, Overlay, Screen, View};

pub(super) const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (250, 70)];

pub(super) fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let line = |y| (0..area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..area.height).map(line).collect::<Vec<_>>().join("\n")
}

fn drawn(view: &View, size: (u16, u16), theme: &Theme) -> (Buffer, Shown) {
    drawn_of(&example::looks(), &State::Following, view, size, theme)
}

pub(super) fn drawn_of(
    looks: &[Arc<Look>],
    state: &State,
    view: &View,
    (width, height): (u16, u16),
    theme: &Theme,
) -> (Buffer, Shown) {
    let scene = Scene { looks, state, view, theme };
    let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
    let shown = draw(&scene, &mut buffer);
    (buffer, shown)
}

/// After these keys, each pressed on what the one before has made.
fn after(keys: &[Input]) -> (View, Shown, Option<Effect>) {
    let mut view = View::new(Duration::from_secs(1));
    let (_, mut shown) = drawn(&view, SIZES[1], &Theme::PLAIN);
    let mut effect = None;
    for key in keys {
        (view, effect) = apply(&view, key, &shown);
        (_, shown) = drawn(&view, SIZES[1], &Theme::PLAIN);
    }
    (view, shown, effect)
}

fn typed(text: &str) -> Vec<Input> {
    text.chars().map(Input::Char).collect()
}

fn choices(names: &[&str]) -> Vec<Choice> {
    let choice = |(index, name): (usize, &&str)| {
        let name = (*name).to_owned();
        Choice { label: name.clone(), namespace: (index > 0).then_some(name) }
    };
    names.iter().enumerate().map(choice).collect()
}

fn snapshots(name: &str, view: &View) {
    for size in SIZES {
        let (buffer, _) = drawn(view, size, &Theme::COLOUR);
        assert_snapshot!(format!("{name}_{}x{}", size.0, size.1), text(&buffer));
    }
}

#[test]
fn every_screen_at_every_size() {
    for screen in Screen::ALL[..Screen::OF_ONE].iter().copied() {
        let view = View { screen, ..View::new(Duration::from_secs(1)) };
        snapshots(&screen.name().to_lowercase(), &view);
    }
}

#[test]
fn one_destination_at_every_size() {
    let (view, ..) = after(&[Input::Enter]);
    assert!(view.focus.is_some());
    snapshots("detail", &view);
}

#[test]
fn what_is_in_front_at_every_size() {
    let view = View { overlay: Some(Overlay::Help { scrolled: 0 }), ..View::new(Duration::from_secs(1)) };
    snapshots("help", &view);
    let overlay =
        Overlay::Namespaces { choices: choices(&["(where it began)", "web", "bl\u{1b}ue"]), chosen: 1 };
    snapshots("namespaces", &View { overlay: Some(overlay), ..View::new(Duration::from_secs(1)) });
}

#[test]
fn no_size_is_too_small_for_any_screen() {
    let looks = example::looks();
    for screen in Screen::ALL[..Screen::OF_ONE].iter().copied() {
        for (width, height) in (0..40).step_by(3).flat_map(|w| (0..14).map(move |h| (w, h))) {
            for overlay in [None, Some(Overlay::Help { scrolled: 7 })] {
                for focus in [None, looks[0].destinations.first().map(|first| first.id)] {
                    let view =
                        View { screen, focus, overlay: overlay.clone(), ..View::new(Duration::from_secs(1)) };
                    let scene =
                        Scene { looks: &looks, state: &State::Over, view: &view, theme: &Theme::COLOUR };
                    draw(&scene, &mut Buffer::empty(Rect::new(0, 0, width, height)));
                }
            }
        }
    }
}

#[test]
fn an_empty_past_is_told() {
    let view = View::new(Duration::from_secs(1));
    for (state, told) in
        [(State::Opening, "reading the sockets"), (State::Failed("no \x1b".into()), "no \\u{1b}")]
    {
        let scene = Scene { looks: &[], state: &state, view: &view, theme: &Theme::PLAIN };
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        draw(&scene, &mut buffer);
        assert!(text(&buffer).contains(told));
    }
}

/// Names that other people chose reach no terminal as they are, whichever screen shows them.
#[test]
fn hostile_names_are_harmless_on_every_screen() {
    const HOSTILE: &str = "\u{1b}[31m\u{9b}2J\"'\n\r\u{7}\u{202e}\u{fffd}\\";
    const SHOWN: &str = "\\u{1b}[31m";
    let mut look = example::look();
    let name = || HOSTILE.to_owned();
    let owner = super::look::OwnerRow { label: name(), user: name(), group: name(), ..Default::default() };
    look.owners = Some(vec![owner]);
    look.users = vec![Some(HOSTILE.into()); look.destinations.len()];
    look.remarks = vec![super::look::Remark { id: name().into(), text: name() }];
    let place = super::look::Place { host_name: name(), namespace: name(), ..Default::default() };
    look.place = Arc::new(place);
    let mut list = super::look::SocketList::clone(look.list.as_ref().unwrap());
    list.owners = vec![Some(HOSTILE.into()); list.records.len()];
    look.list = Some(Arc::new(list));
    let looks = [Arc::new(look)];
    let choice = Choice { label: name(), namespace: Some(name()) };
    let overlays = [
        None,
        Some(Overlay::Notes { scrolled: 0 }),
        Some(Overlay::Namespaces { choices: vec![choice], chosen: 0 }),
    ];
    for (screen, overlay) in
        Screen::ALL.into_iter().flat_map(|screen| overlays.clone().map(|one| (screen, one)))
    {
        let mut view = View { screen, overlay, ..View::new(Duration::from_secs(1)) };
        view.message = Some(name());
        let state = State::Failed(name());
        let scene = Scene { looks: &looks, state: &state, view: &view, theme: &Theme::COLOUR };
        let mut buffer = Buffer::empty(Rect::new(0, 0, 250, 70));
        draw(&scene, &mut buffer);
        let shown = text(&buffer).replace('\n', "");
        let harmful = |c: char| c.is_control() || c == '\u{202e}';
        assert!(shown.contains(SHOWN) && !shown.contains(harmful), "{screen:?}: {shown}");
    }
}

/// What is told by colour is told by a character, too.
#[test]
fn without_colour_the_same_is_told() {
    for screen in Screen::ALL[..Screen::OF_ONE].iter().copied() {
        let view = View { screen, ..View::new(Duration::from_secs(1)) };
        let [plain, colour] = [Theme::PLAIN, Theme::COLOUR].map(|theme| drawn(&view, SIZES[1], &theme).0);
        assert_eq!(text(&plain), text(&colour));
        let coloured = |buffer: &Buffer| {
            buffer.content().iter().any(|cell| cell.fg != ratatui_core::style::Color::Reset)
        };
        assert!(!coloured(&plain) && coloured(&colour));
    }
    let marks = text(&drawn(&View::new(Duration::from_secs(1)), SIZES[1], &Theme::PLAIN).0);
    assert!(marks.contains('!'), "{marks}");
}

#[test]
fn screens_by_number_tab_and_click() {
    assert_eq!(after(&typed("5")).0.screen, Screen::Listeners);
    assert_eq!(after(&[Input::Tab, Input::Tab]).0.screen, Screen::Ports);
    assert_eq!(after(&[Input::BackTab]).0.screen, Screen::Sockets);
    assert_eq!(after(&[Input::Click(20, 1)]).0.screen, Screen::Owners);
}

#[test]
fn columns_are_sorted_by_keys_and_clicks() {
    let (view, shown, _) = after(&typed(">"));
    assert_eq!((view.table().sort, view.table().descending), (shown.columns[2], true));
    let (view, ..) = after(&typed(">>r"));
    assert!(!view.table().descending);
    let (view, shown, _) = after(&typed("<"));
    assert_eq!((view.table().sort, view.table().descending), (0, false), "names begin at A");
    let title = shown.hits.iter().find(|(_, hit)| *hit == super::keys::Hit::Title(4)).unwrap().0;
    let click = Input::Click(title.x, title.y);
    let (view, ..) = after(&[Input::Char('<'), click.clone()]);
    assert_eq!((view.table().sort, view.table().descending), (4, true));
    let (view, ..) = after(&[Input::Char('<'), click.clone(), click]);
    assert_eq!((view.table().sort, view.table().descending), (4, false), "once more, the other way round");
}

#[test]
fn rows_are_chosen_by_keys_and_clicks() {
    let (view, shown, _) = after(&[Input::Down, Input::Down, Input::Up]);
    assert_eq!(view.table().cursor, 1);
    let second = shown.chosen.unwrap();
    assert_eq!(after(&[Input::Down, Input::Enter]).0.focus, Some(second));
    let row = shown.hits.iter().find(|(_, hit)| *hit == super::keys::Hit::Row(1)).unwrap().0;
    let click = Input::Click(row.x + 3, row.y);
    assert_eq!(after(std::slice::from_ref(&click)).0.focus, None, "the first click chooses");
    assert_eq!(after(&[click.clone(), click]).0.focus, Some(second), "the second looks at it");
    assert_eq!(after(&[Input::End, Input::Down, Input::WheelDown]).0.table().cursor, 3);
    assert_eq!(after(&[Input::Enter, Input::Escape]).0.focus, None);
}

#[test]
fn a_chosen_destination_stays_chosen_when_rows_move() {
    // By name, from the end: another order for the same rows.
    let (view, shown, _) = after(&[Input::Char('<'), Input::Down]);
    let chosen = shown.chosen;
    let (view, _) = apply(&view, &Input::Char('w'), &shown);
    let (mut moved, _) = apply(&view, &Input::Escape, &shown);
    assert_eq!(moved.pinned, chosen);
    moved.table_mut().descending ^= true;
    let (_, shown) = drawn(&moved, SIZES[1], &Theme::PLAIN);
    assert_eq!((shown.chosen, shown.cursor), (chosen, 2));
    let (view, _) = apply(&moved, &Input::Down, &shown);
    assert_eq!((view.pinned, view.table().cursor), (None, 3), "from where it stood");
}

#[test]
fn filters_work_as_they_are_typed() {
    let (view, shown, _) = after(&typed("/dport = 8080"));
    assert!(view.typing.is_some());
    assert_eq!(shown.rows, 2);
    let (view, shown, _) = after(&[typed("/dport = 8080"), vec![Input::Enter]].concat());
    assert!(view.typing.is_none() && shown.rows == 2, "it stays");
    let (_, shown, _) = after(&[typed("/dport = 8080"), vec![Input::Enter, Input::Escape]].concat());
    assert_eq!(shown.rows, 4, "and goes");
    let (view, shown, _) = after(&[typed("/dport = 8080"), vec![Input::Escape]].concat());
    assert_eq!((view.filter().text.as_str(), shown.rows), ("", 4), "what was before is back");
    let (view, ..) = after(&[typed("/dst a b"), vec![Input::Control('w'), Input::Backspace]].concat());
    assert_eq!(view.filter().text, "dst a");
    let (view, _, effect) = after(&typed("/q"));
    assert_eq!((view.filter().text.as_str(), effect), ("q", None), "a letter, not a command");
    let wanted = after(&typed("6/state time-wait")).0.wants();
    assert!(wanted.sockets.unwrap().filter.is_some(), "the follower filters sockets");
}

#[test]
fn the_past_is_stepped_through() {
    let (view, shown, _) = after(&typed(" "));
    assert_eq!((view.stands_at, shown.number), (Some(20), 20));
    let (view, shown, _) = after(&[Input::Char(' '), Input::Left, Input::Left]);
    assert_eq!((view.stands_at, shown.number), (Some(18), 18));
    let many = vec![Input::Left; 50];
    assert_eq!(after(&many).1.number, 1, "the oldest there is");
    assert_eq!(after(&[Input::Left, Input::Right]).0.stands_at, Some(20));
    assert_eq!(after(&[Input::Left, Input::Right, Input::Right]).0.stands_at, None, "the present again");
    assert_eq!(after(&[Input::Left, Input::Escape]).0.stands_at, None);
    let (buffer, _) = drawn(&after(&[Input::Left, Input::Left]).0, SIZES[0], &Theme::PLAIN);
    assert!(text(&buffer).contains("‖ 2 s ago"));
}

#[test]
fn the_pace_is_changed() {
    assert_eq!(after(&typed("+")).0.interval, Duration::from_secs(2));
    assert_eq!(after(&typed("--")).0.interval, Duration::from_millis(200));
    assert_eq!(after(&typed("----------")).0.interval, Duration::from_millis(100));
    let (view, shown, _) = after(&[]);
    let replayed = Shown { is_replay: true, ..shown };
    assert_eq!(apply(&view, &Input::Char('+'), &replayed).0.speed, 2.0);
    assert_eq!(apply(&view, &Input::Char('-'), &replayed).0.speed, 0.5);
}

#[test]
fn some_keys_ask_for_more_than_another_view() {
    for (key, asked) in [
        (Input::Char('q'), Effect::Quit),
        (Input::Control('c'), Effect::Quit),
        (Input::Control('z'), Effect::Suspend),
        (Input::Control('l'), Effect::Repaint),
        (Input::Char('R'), Effect::Tick),
        (Input::Char('n'), Effect::ListNamespaces),
    ] {
        assert_eq!(after(&[key]).2, Some(asked));
    }
    assert_eq!(after(&[typed("/"), vec![Input::Control('c')]].concat()).2, Some(Effect::Quit));
    assert_eq!(after(&typed("?q")).2, None, "it closes the help");
}

#[test]
fn owners_are_gathered_by_unit_and_user() {
    let names = |keys: &str| {
        let (view, ..) = after(&typed(keys));
        text(&drawn(&view, SIZES[1], &Theme::PLAIN).0)
    };
    let by_unit = names("2b");
    assert!(by_unit.contains("user@1000.service") && !by_unit.contains("4711"), "{by_unit}");
    assert!(names("2bb").contains("www-data") && names("2bbbb").contains("4711"));
    let by_origin = names("2bbb");
    assert!(by_origin.contains("chosen by connect()") && !by_origin.contains("www-data"), "{by_origin}");
    let first = |by| {
        let mut view = View::new(Duration::from_secs(1));
        view.begin_by(by);
        (view.screen, view.owners_by)
    };
    assert_eq!(first(crate::by::By::User), (Screen::Owners, super::view::OwnersBy::User));
    assert_eq!(first(crate::by::By::Listener).0, Screen::Listeners);
}

#[test]
fn help_scrolls_to_its_end_and_no_further() {
    let (mut view, ..) = after(&typed("?"));
    let mut last = Shown::default();
    for _ in 0..20 {
        (_, last) = drawn(&view, SIZES[0], &Theme::PLAIN);
        (view, _) = apply(&view, &Input::PageDown, &last);
    }
    let (buffer, _) = drawn(&view, SIZES[0], &Theme::PLAIN);
    assert!(last.scrolled > 0 && !text(&buffer).contains('↓'), "the end");
    let (view, _) = apply(&view, &Input::Up, &last);
    assert_eq!(
        view.overlay,
        Some(Overlay::Help { scrolled: last.scrolled - 1 }),
        "one line up is one line up"
    );
}

#[test]
fn a_namespace_is_chosen() {
    let (mut view, shown, _) = after(&[]);
    view.overlay = Some(Overlay::Namespaces { choices: choices(&["here", "web"]), chosen: 0 });
    let (down, _) = apply(&view, &Input::Down, &shown);
    assert_eq!(apply(&down, &Input::Enter, &shown).0.namespace.as_deref(), Some("web"));
    assert_eq!(apply(&view, &Input::Enter, &shown).0.namespace, None);
    assert_eq!(apply(&down, &Input::Escape, &shown).0.namespace, None);
}

/// All namespaces, after these keys.
fn among_all(keys: &[Input]) -> (View, Shown) {
    let mut view = View::new(Duration::from_secs(1));
    view.begin_with_all();
    let looks = example::looks_at_all();
    let drawn = |view: &View| {
        let state = State::Following;
        let scene = Scene { looks: &looks, state: &state, view, theme: &Theme::PLAIN };
        let mut buffer = Buffer::empty(Rect::new(0, 0, 120, 40));
        draw(&scene, &mut buffer)
    };
    let mut shown = drawn(&view);
    for key in keys {
        (view, _) = apply(&view, key, &shown);
        shown = drawn(&view);
    }
    (view, shown)
}

#[test]
fn all_namespaces_at_every_size() {
    let mut view = View::new(Duration::from_secs(1));
    view.begin_with_all();
    let looks = example::looks_at_all();
    let scene = Scene { looks: &looks, state: &State::Following, view: &view, theme: &Theme::COLOUR };
    for (width, height) in SIZES {
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        draw(&scene, &mut buffer);
        assert_snapshot!(format!("all_namespaces_{width}x{height}"), text(&buffer));
        assert!(!text(&buffer).contains('\u{1b}'));
    }
    for (width, height) in (0..40).step_by(3).flat_map(|w| (0..14).map(move |h| (w, h))) {
        draw(&scene, &mut Buffer::empty(Rect::new(0, 0, width, height)));
    }
}

#[test]
fn a_namespace_is_looked_into_and_come_back_from() {
    let (view, shown) = among_all(&[]);
    assert_eq!(
        (view.screen, shown.rows, shown.namespace.as_deref()),
        (Screen::Namespaces, 3, Some("/run/netns/web"))
    );
    let (second, _) = among_all(&[Input::Down, Input::Enter]);
    assert_eq!((second.screen, second.namespace.as_deref()), (Screen::Destinations, Some("/proc/9/ns/net")));
    assert_eq!(second.wants().namespace, second.namespace);
    for back in [Input::Escape, Input::Char('7')] {
        let (back, _) = apply(&second, &back, &Shown::default());
        assert_eq!((back.screen, back.namespace), (Screen::Namespaces, None));
    }
    let (sorted, shown) = among_all(&typed(">"));
    assert_eq!((sorted.table().sort, shown.namespace.as_deref()), (2, Some("/proc/9/ns/net")));
    let (held, _) = among_all(&typed("6"));
    assert!(held.screen == Screen::Namespaces && held.message.is_some(), "sockets are of one namespace");
    assert_eq!(after(&typed("7")).0.screen, Screen::Destinations, "there is one namespace only");
    // The order of Tab goes through all of them, and from the last back to all namespaces.
    let mut view = second;
    let mut seen = Vec::new();
    while view.namespace.is_some() {
        seen.push(view.screen);
        (view, _) = apply(&view, &Input::Tab, &Shown::default());
    }
    assert_eq!(seen, Screen::ALL[..Screen::OF_ONE]);
}
