//! Recordings that are gone through: what is shown of rows that a recorder has written.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use insta::assert_snapshot;
use jiff::Timestamp;
use sockeye_recording::{
    ClosedBy, Connection, Destination, Direction, Evidence, Limits, Protocol, Recorder, Rows, Setting, Tick,
    Time, Warning,
};

use super::input::Input;
use super::keys::{Effect, apply};
use super::look::Look;
use super::past::{Past, State};
use super::player::play;
use super::reel::{Reel, Spot};
use super::tests::{SIZES, drawn_of, text};
use super::theme::Theme;
use super::view::{Overlay, OwnersBy, Screen, View};
use super::wanted::{Move, Wanted, Wants};
use crate::instant::Instant;

/// 2026-11-23 12:00:00 UTC.
const NOON: u64 = 1_795_435_200_000;
const NETNS: u64 = 4_026_531_840;

/// Segments of a minute.
fn minutes() -> Limits {
    Limits { segment_ms: 60_000, ..Limits::default() }
}

fn time(tick: u64) -> Time {
    Time(NOON + tick * 1_000)
}

fn tick(number: u64) -> Tick {
    Tick {
        time: time(number),
        netns: NETNS,
        interval_ms: 1_000,
        opens: 6 + number % 5,
        closes: 5,
        live: 100 + number,
        time_wait: 40,
        established: 90,
        syn_sent: 0,
        syn_recv: 0,
        fin_wait_1: 0,
        fin_wait_2: 0,
        close_wait: 0,
        last_ack: 0,
        closing: 0,
        listen: 2,
        pool_first: 32_768,
        pool_last: 60_999,
        pool_reserved: 12,
        pool_held: 31,
        pool_usable: 28_189,
        worst_local_address: None,
        worst_remote_address: None,
        worst_remote_port: None,
        worst_occupancy_ratio: None,
        headroom_min: Some(20_000),
        exhausted_in_seconds: (number >= 100).then_some(42.0),
        coverage_ratio: Some(0.998),
        events_lost: number / 120,
        sockets: Some(150),
        sweep_ms: Some(1.25),
    }
}

fn destination(number: u64, host: u8, in_use: u32) -> Destination {
    Destination {
        time: time(number),
        netns: NETNS,
        protocol: Protocol::Tcp,
        local_address: [10, 0, 0, 7].into(),
        remote_address: [10, 0, 9, host].into(),
        remote_port: 8_080,
        in_use,
        live: in_use / 3,
        time_wait: in_use - in_use / 3,
        occupancy_ratio: f64::from(in_use) / 28_189.0,
        headroom_min: 28_189 - in_use,
        headroom_max: 28_189 - in_use,
        opens: if in_use == 0 { 0 } else { 6 },
        closes: 5,
    }
}

fn connection(number: u64, which: u64) -> Connection {
    let at = time(number);
    Connection {
        closed_earliest: Time(at.0 - 400),
        closed_latest: Time(at.0 - 300),
        opened_earliest: Some(Time(at.0 - 900)),
        opened_latest: Time(at.0 - 800),
        lifetime_min_ms: 400,
        lifetime_max_ms: Some(600),
        netns: NETNS,
        protocol: Protocol::Tcp,
        direction: if which == 4 { Direction::Incoming } else { Direction::Outgoing },
        local_address: Some([10, 0, 0, 7].into()),
        local_port: Some(if which == 4 { 443 } else { 40_000 + which as u16 }),
        remote_address: Some([10, 0, 9, 12].into()),
        remote_port: Some(8_080),
        closed_by: ClosedBy::Local,
        evidence: Evidence::Event,
        owner_pid: Some(812),
        owner_name: Some(if which == 3 { "evil\u{1b}[31m\n".into() } else { "nginx".into() }),
        owner_uid: Some(33),
        owner_user: Some("www-data".into()),
        owner_cgroup: Some("/system.slice/nginx.service".into()),
        owner_inferred: false,
        sent_bytes: None,
        received_bytes: None,
        retransmits: None,
        data_segments_out: None,
        data_segments_in: None,
        cookie: number * 10 + which,
    }
}

fn setting(number: u64, key: &str, value: &str) -> Setting {
    Setting { time: time(number), netns: NETNS, key: key.into(), value: Some(value.into()) }
}

/// What a host tells: one destination that changes all the time, one that stays, one that goes after 30 s; a warning a minute.
fn rows(number: u64, begins: bool) -> Rows {
    let mut rows = Rows { ticks: vec![tick(number)], ..Rows::default() };
    rows.destinations.push(destination(number, 12, 15_000 + number as u32));
    if begins {
        rows.destinations.push(destination(number, 13, 300));
        rows.settings = vec![setting(number, "host_name", "web-7"), setting(number, "netns_name", "proxy")];
    }
    if number == 0 || number == 30 {
        rows.destinations.push(destination(number, 14, if number == 0 { 77 } else { 0 }));
    }
    if number >= 50 && number.is_multiple_of(50) {
        let message = format!("half of the ports are used, told at {number}");
        let id = "parity_cliff".into();
        rows.warnings.push(Warning { time: time(number), netns: NETNS, id, message: message.into() });
    }
    rows.connections = (0..5).map(|which| connection(number, which)).collect();
    rows
}

fn record(recorder: &mut Recorder, ticks: std::ops::Range<u64>) {
    for number in ticks {
        let begins = recorder.begins_segment();
        recorder.append(time(number), &mut rows(number, begins)).unwrap();
    }
}

/// A recording of so many seconds, complete.
fn recording(directory: &Path, seconds: u64) {
    let (mut recorder, _) = Recorder::open(directory, minutes()).unwrap();
    record(&mut recorder, 0..seconds);
    recorder.finish().unwrap();
}

fn at(reel: &mut Reel, number: i64) -> Spot {
    let first = reel.first().unwrap().unwrap();
    reel.step(first, number).unwrap()
}

fn looks_at(reel: &mut Reel, number: i64) -> Vec<Arc<Look>> {
    let spot = at(reel, number);
    let ended = reel.ended(spot).unwrap();
    reel.looks(spot, ended.as_ref()).unwrap().into()
}

fn look_at(reel: &mut Reel, number: i64) -> Arc<Look> {
    looks_at(reel, number).pop().unwrap()
}

fn told(look: &Look) -> Vec<&str> {
    look.remarks.iter().map(|remark| &*remark.text).collect()
}

/// However a tick is reached, it is the same look.
#[test]
fn a_tick_is_what_was_recorded_however_it_is_reached() {
    let directory = tempfile::tempdir().unwrap();
    recording(directory.path(), 700);
    let mut reel = Reel::open(directory.path()).unwrap();
    assert_eq!(reel.count(), 700);
    let check = |reel: &mut Reel, number: i64| {
        let looks = looks_at(reel, number);
        let look = looks.last().unwrap();
        assert_eq!((look.number, look.at), (number as u64 + 1, timestamp(number as u64)));
        let ports: Vec<u32> = look.destinations.iter().map(|it| it.in_use).collect();
        let others = if number < 30 { &[300, 77][..] } else { &[300] };
        assert_eq!(ports, [&[15_000 + number as u32], others].concat(), "tick {number}");
        assert!(looks.len() > (number as usize).min(119), "{} before tick {number}", looks.len() - 1);
        assert!(looks.windows(2).all(|two| two[0].number + 1 == two[1].number));
        assert_eq!((&*look.place.host_name, &*look.place.namespace), ("web-7", "proxy"));
        let Some(recorded) = &look.recorded else { panic!("it is recorded") };
        let seconds = (number + 1).min(60);
        let ended =
            [timestamp(number as u64) - Duration::from_secs(seconds as u64), timestamp(number as u64)];
        assert_eq!(recorded.ended, Some(ended));
        assert_eq!(look.lifetimes.as_ref().unwrap().total.completed, 5 * seconds as u64);
        let nginx = look.owners.as_ref().unwrap().iter().find(|it| it.label == "nginx").unwrap();
        assert!((nginx.closes_per_second - 4.0).abs() < 1e-3, "{nginx:?}");
    };
    // Jumps, steps over the ends of segments, both ways.
    for number in [0, 1, 29, 30, 699, 0, 350, 349, 348, 200, 290, 420, 421, 59, 60, 61, 60, 59] {
        check(&mut reel, number);
    }
    for number in (100..140).chain((80..140).rev()) {
        check(&mut reel, number);
    }
    assert_eq!(at(&mut reel, 5_000), at(&mut reel, 699));
    let last = reel.last().unwrap().unwrap();
    assert_eq!(reel.step(last, -5_000).unwrap(), at(&mut reel, 0));
    for (ms, tick) in [(0, 0), (NOON + 60_400, 60), (NOON + 59_600, 60), (u64::MAX / 2, 699)] {
        assert_eq!(reel.nearest(Time(ms)).unwrap(), Some(at(&mut reel, tick)), "{ms}");
    }
}

fn timestamp(tick: u64) -> Timestamp {
    Timestamp::from_millisecond(time(tick).0 as i64).unwrap()
}

#[test]
fn rates_warnings_and_sums_are_those_of_the_tick() {
    let directory = tempfile::tempdir().unwrap();
    recording(directory.path(), 200);
    let mut reel = Reel::open(directory.path()).unwrap();
    let look = look_at(&mut reel, 119);
    let rates = look.destinations[0].rates.unwrap();
    // The one that stays tells nothing since its segment began, where it is told anew.
    assert_eq!((rates.opens, rates.closes), ([6.0; 3], [5.0; 3]));
    assert_eq!(look.destinations[1].rates.unwrap().opens[..2], [0.0; 2]);
    assert_eq!((look.churn.tcp.live(), look.churn.tcp.opened_last, look.time_wait), (219, 10, 40));
    assert_eq!(look.outgoing.sockets(), 15_119 + 300);
    assert_eq!(look.recorded.as_ref().unwrap().exhausted_in_s, Some(42.0));
    // Told a minute ago at the most, in this segment or the one before.
    for (tick, warned) in [
        (49, None),
        (50, Some("half of the ports are used, told at 50")),
        (75, Some("half of the ports are used, told at 50")),
        (100, Some("half of the ports are used, told at 100")),
        (199, Some("half of the ports are used, told at 150")),
    ] {
        assert_eq!(told(&look_at(&mut reel, tick)), warned.as_slice(), "tick {tick}");
    }
}

#[test]
fn gaps_and_other_namespaces_are_noted() {
    let directory = tempfile::tempdir().unwrap();
    recording(directory.path(), 10);
    let (mut recorder, _) = Recorder::open(directory.path(), minutes()).unwrap();
    let mut other = rows(300, false);
    other.ticks[0].netns = 7;
    other.destinations[0].netns = 7;
    recorder.append(time(300), &mut other).unwrap();
    recorder.finish().unwrap();
    let mut reel = Reel::open(directory.path()).unwrap();
    assert!(told(&look_at(&mut reel, 9)).is_empty());
    let look = look_at(&mut reel, 10);
    let notes = told(&look);
    assert_eq!(notes[0], "nothing was recorded for 4 min 50 s before this tick");
    assert_eq!(
        notes[1],
        "from here on it is network namespace 7 that was recorded, before it was 4026531840"
    );
    assert_eq!((look.place.namespace.as_str(), look.destinations.len()), ("7", 1), "it has its own");
    assert_eq!(reel.nearest(Time(NOON + 150_000)).unwrap(), Some(at(&mut reel, 9)), "within a gap");
}

#[test]
fn what_is_damaged_is_noted_and_the_rest_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    recording(directory.path(), 200);
    let damage = |file: &str| fs::write(directory.path().join(file), b"PAR1 it is none PAR1").unwrap();
    damage("ticks/0000000000.parquet");
    damage("destinations/0000000001.parquet");
    damage("connections/0000000001.parquet");
    let mut reel = Reel::open(directory.path()).unwrap();
    let look = look_at(&mut reel, 5);
    assert!(look.destinations.is_empty() && look.churn.tcp.live() > 100);
    for file in ["ticks/0000000000.parquet", "destinations/0000000001.parquet"] {
        let noted = told(&look).iter().filter(|note| note.starts_with(file)).count();
        assert_eq!(noted, 1, "{file} among {:?}", told(&look));
    }
    assert_eq!(look.lifetimes.as_ref().unwrap().total.completed, 0);
    let last = look_at(&mut reel, 5_000);
    assert_eq!((last.destinations.len(), last.at), (2, timestamp(199)));
}

/// Whatever bytes are changed, there is a look or an error, and it comes to an end.
#[test]
fn changed_bytes_are_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    recording(directory.path(), 30);
    for table in ["ticks", "destinations", "connections", "settings", "warnings"] {
        let path = directory.path().join(format!("{table}/0000000000.parquet"));
        let Ok(whole) = fs::read(&path) else { continue };
        for at in (0..whole.len()).step_by(whole.len() / 60 + 1) {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&path, &damaged).unwrap();
            let mut reel = Reel::open(directory.path()).unwrap();
            if let Some(spot) = reel.last().unwrap() {
                let ended = reel.ended(spot).unwrap();
                assert!(reel.looks(spot, ended.as_ref()).unwrap().len() <= 30, "{table}, byte {at}");
            }
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn a_recorder_that_goes_on_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let (mut recorder, _) = Recorder::open(directory.path(), minutes()).unwrap();
    record(&mut recorder, 0..1);
    let mut reel = Reel::open(directory.path()).unwrap();
    let mut spot = reel.first().unwrap().unwrap();
    assert_eq!(look_at(&mut reel, 0).number, 1, "a single tick");
    for number in 1..200 {
        record(&mut recorder, number..number + 1);
        assert_eq!(reel.step(spot, 1).unwrap(), spot);
        reel.refresh().unwrap();
        spot = reel.step(spot, 1).unwrap();
        let looks = reel.looks(spot, None).unwrap();
        let look = looks.back().unwrap();
        assert_eq!((look.number, reel.count(), look.at), (number + 1, number + 1, timestamp(number)));
        assert_eq!(look.destinations[0].in_use, 15_000 + number as u32);
    }
    // The first minutes are deleted.
    for table in ["ticks", "destinations", "connections", "settings", "warnings"] {
        let _ = fs::remove_file(directory.path().join(format!("{table}/0000000000.parquet")));
    }
    reel.refresh().unwrap();
    let look = reel.looks(spot, None).unwrap().pop_back().unwrap();
    assert!(look.number == reel.count() && look.number < 150, "{}", look.number);
}

/// Numbers that no host has, and times out of order: nothing panics, whatever is drawn.
#[test]
fn absurd_rows_are_no_panic_on_any_screen() {
    let directory = tempfile::tempdir().unwrap();
    let (mut recorder, _) = Recorder::open(directory.path(), Limits::default()).unwrap();
    for (number, most) in [(5, u64::MAX), (3, 0), (3, u64::MAX), (400_000_000, u64::MAX), (9, u64::MAX / 3)] {
        let small = most.min(u32::MAX.into()) as u32;
        let mut rows = rows(5, true);
        rows.ticks[0].time = time(number);
        rows.destinations.iter_mut().for_each(|row| row.time = time(number));
        let tick = &mut rows.ticks[0];
        (tick.interval_ms, tick.opens, tick.closes, tick.live) = (most, most, most, most);
        (tick.time_wait, tick.pool_usable, tick.pool_first, tick.pool_last) = (small, small, u16::MAX, 0);
        (tick.events_lost, tick.sockets, tick.sweep_ms) = (most, Some(most), Some(f64::NAN));
        (tick.exhausted_in_seconds, tick.coverage_ratio) = (Some(f64::INFINITY), Some(-1e300));
        for row in &mut rows.destinations {
            (row.in_use, row.live, row.time_wait) = (small, small, u32::MAX);
            (row.headroom_min, row.headroom_max, row.opens, row.closes) = (u32::MAX, small, most, most);
        }
        for row in &mut rows.connections {
            (row.lifetime_min_ms, row.lifetime_max_ms) = (most, Some(0));
            (row.closed_earliest, row.closed_latest) = (time(number), Time(0));
        }
        recorder.append(time(number), &mut rows).unwrap();
    }
    recorder.finish().unwrap();
    let mut reel = Reel::open(directory.path()).unwrap();
    for number in 0..5 {
        let looks = looks_at(&mut reel, number);
        for screen in Screen::ALL[..Screen::OF_ONE].iter().copied() {
            for focus in [None, looks[0].destinations.first().map(|first| first.id)] {
                let view = View { focus, ..view(screen) };
                drawn_of(&looks, &State::Recorded { of: u64::MAX }, &view, (120, 40), &Theme::COLOUR);
            }
        }
    }
}

fn view(screen: Screen) -> View {
    let mut view = View { screen, ..View::new(Duration::from_secs(1)) };
    view.begin_with_recording();
    view
}

#[test]
fn every_screen_says_what_a_recording_holds() {
    let directory = tempfile::tempdir().unwrap();
    recording(directory.path(), 200);
    let mut reel = Reel::open(directory.path()).unwrap();
    let looks = looks_at(&mut reel, 179);
    let state = State::Recorded { of: 200 };
    let mut views: Vec<(String, View)> = Screen::ALL[..Screen::OF_ONE]
        .iter()
        .map(|screen| (screen.name().to_lowercase(), view(*screen)))
        .collect();
    let focus = looks[0].destinations.first().map(|first| first.id);
    views.push(("detail".to_owned(), View { focus, ..view(Screen::Destinations) }));
    let overlay = Some(Overlay::Help { scrolled: 0 });
    views.push(("help".to_owned(), View { overlay, plays: true, ..view(Screen::Destinations) }));
    views.push(("prompt".to_owned(), View { time: Some("12:0".to_owned()), ..view(Screen::Owners) }));
    for (name, view) in &views {
        for size in &SIZES[..2] {
            let (buffer, _) = drawn_of(&looks, &state, view, *size, &Theme::COLOUR);
            let shown = text(&buffer);
            assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{name}: {shown}");
            assert_snapshot!(format!("recorded_{name}_{}x{}", size.0, size.1), shown);
        }
    }
}

/// After these keys: the view, and what they ask for.
fn after(screen: Screen, keys: &[Input]) -> (View, Vec<Effect>) {
    let mut view = view(screen);
    let mut effects = Vec::new();
    for key in keys {
        let (next, effect) = apply(&view, key, &Default::default());
        view = next;
        effects.extend(effect);
    }
    (view, effects)
}

fn typed(text: &str) -> Vec<Input> {
    text.chars().map(Input::Char).collect()
}

#[test]
fn keys_go_through_time() {
    let moves = [
        ("t", Move::Ticks(1)),
        ("T", Move::Ticks(-1)),
        ("]", Move::Ticks(1)),
        ("{", Move::Ticks(-10)),
        ("m", Move::Seconds(60)),
        ("X", Move::Seconds(-600)),
        ("o", Move::Seconds(3_600)),
        ("^", Move::First),
        ("$", Move::Last),
    ];
    for (key, to) in moves {
        assert_eq!(after(Screen::Ports, &typed(key)).1, [Effect::Go(to)], "{key}");
    }
    assert_eq!(after(Screen::Ports, &[Input::Left]).1, [Effect::Go(Move::Ticks(-1))]);
    let wants = |keys: &str| after(Screen::Owners, &typed(keys)).0.wants();
    assert!(wants("").paused && !wants(" ").paused && wants("  ").paused);
    assert!(!wants(" m").paused && wants(" t").paused, "whoever steps looks at it");
    let escaped = after(Screen::Owners, &[Input::Char(' '), Input::Escape]).0;
    assert!(escaped.plays && escaped.stands_at.is_none());
    assert!(wants("").owners && !after(Screen::Ports, &[]).0.wants().owners);
    let by = |keys: &str| after(Screen::Owners, &typed(keys)).0.owners_by;
    assert_eq!((by("bb"), by("bbb")), (OwnersBy::User, OwnersBy::Process), "ports are not recorded");
    assert!(after(Screen::Sockets, &typed("/")).0.message.is_some(), "there is nothing to filter");
}

#[test]
fn a_time_is_typed() {
    let to = |text: &str| Effect::Go(Move::To(Instant::parse(text).unwrap()));
    for (screen, keys) in [(Screen::Destinations, "b12:03"), (Screen::Owners, "@12:03")] {
        let (view, effects) = after(screen, &[typed(keys), vec![Input::Enter]].concat());
        assert_eq!((view.time, effects), (None, vec![to("12:03")]));
    }
    let (view, effects) = after(Screen::Ports, &[typed("b25:00q"), vec![Input::Enter]].concat());
    assert_eq!((view.time.as_deref(), effects.len()), (Some("25:00q"), 0), "it can be mended");
    assert!(view.message.unwrap().contains("write it like"));
    let (view, _) = after(Screen::Ports, &[typed("b12"), vec![Input::Escape]].concat());
    assert_eq!(view.time, None);
    let long = after(Screen::Ports, &typed(&format!("b{}", "ä".repeat(500)))).0.time.unwrap();
    assert!(long.chars().count() < 100);
}

/// A player on a recording, as the screen's thread sees it.
struct Played {
    wanted: Arc<Wanted>,
    past: Arc<Past>,
    woken: std::os::unix::net::UnixStream,
    player: std::thread::JoinHandle<()>,
}

impl Played {
    fn start(directory: &Path, begin: Option<Instant>) -> Played {
        let (past, woken) = Past::new().unwrap();
        woken.set_nonblocking(false).unwrap();
        woken.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let (past, wanted) = (Arc::new(past), Arc::new(Wanted::new(Duration::from_secs(1))));
        wanted.set(view(Screen::Destinations).wants(), false);
        let player = {
            let (directory, wanted, past) = (directory.to_owned(), wanted.clone(), past.clone());
            std::thread::spawn(move || play(&directory, begin, &wanted, &past))
        };
        Played { wanted, past, woken, player }
    }

    /// Waits until what is shown is so.
    fn shows(&mut self, what: &str, is_so: impl Fn(&Look, u64) -> bool) {
        loop {
            let (looks, state) = self.past.looks();
            match (looks.last(), state) {
                (Some(look), State::Recorded { of }) if is_so(look, of) => return,
                (_, State::Failed(why)) => panic!("{what}: {why}"),
                _ => {}
            }
            let woken = std::io::Read::read(&mut self.woken, &mut [0; 1]);
            assert!(woken.is_ok(), "waited for {what} in vain");
        }
    }

    fn goes(&mut self, to: Move, tick: u64) {
        self.wanted.go(to);
        self.shows(&format!("{to:?}"), |look, _| look.at == timestamp(tick));
    }

    fn wants(&self, change: impl FnOnce(&mut Wants)) {
        let mut wants = self.wanted.now();
        change(&mut wants);
        self.wanted.set(wants, false);
    }

    fn ends(self) {
        self.wants(|wants| wants.ends = true);
        self.player.join().unwrap();
    }
}

#[test]
fn a_player_stands_moves_and_plays() {
    let directory = tempfile::tempdir().unwrap();
    let (mut recorder, _) = Recorder::open(directory.path(), minutes()).unwrap();
    record(&mut recorder, 0..4_000);
    let begin = Instant::parse("2026-11-23T12:00:05Z").unwrap();
    let mut played = Played::start(directory.path(), Some(begin));
    played.shows("where it begins", |look, of| (look.number, of) == (6, 4_000));
    let to = |text: &str| Move::To(Instant::parse(text).unwrap());
    for (next, tick) in [
        (Move::Ticks(1), 6),
        (Move::Ticks(-10), 0),
        (Move::Seconds(60), 60),
        (Move::Seconds(600), 660),
        (Move::Seconds(-3_600), 0),
        (Move::Seconds(3_600), 3_600),
        (to("12:10:00"), 600),
        (to("2026-11-23 12:20:00.4"), 1_200),
        (Move::First, 0),
        (Move::Last, 3_999),
        (to("11:00"), 0),
    ] {
        played.goes(next, tick);
    }
    assert!(played.past.take_answer().is_some_and(|told| told.contains("nothing was recorded then")));
    assert_eq!(played.past.take_answer(), None, "of the others there was");
    // What comes while it stands at the end.
    played.goes(Move::Last, 3_999);
    record(&mut recorder, 4_000..4_003);
    played.goes(Move::Ticks(1), 4_000);
    played.shows("how many there are", |_, of| of == 4_003);
    // And while it plays there.
    played.goes(Move::Seconds(-30), 3_970);
    played.wants(|wants| (wants.paused, wants.speed) = (false, f64::INFINITY));
    played.shows("the end", |look, _| look.at == timestamp(4_002));
    record(&mut recorder, 4_003..4_005);
    played.shows("what came", |look, _| look.at == timestamp(4_004));
    played.wants(|wants| (wants.paused, wants.lifetimes) = (true, true));
    played.shows("lifetimes", |look, _| look.lifetimes.is_some());
    played.ends();
}

#[test]
fn what_holds_no_tick_is_told() {
    let empty = tempfile::tempdir().unwrap();
    let none = tempfile::tempdir().unwrap();
    Recorder::open(empty.path(), minutes()).unwrap().0.finish().unwrap();
    for (directory, told) in [(&empty, "there is no tick in"), (&none, "is no recording of sockeye")] {
        let (past, _woken) = Past::new().unwrap();
        play(directory.path(), None, &Wanted::new(Duration::from_secs(1)), &past);
        let (looks, State::Failed(why)) = past.looks() else { panic!("it fails") };
        assert!(looks.is_empty() && why.contains(told), "{why}");
    }
}
