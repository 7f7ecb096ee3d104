//! `--all-netns` on the real kernel: namespaces that come and go, whose names are what they like, that may not be entered.
//!
//! With `SOCKEYE_TESTS_FULL=1` there are five hundred of them for a thousand cycles.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

#[path = "../confined/mod.rs"]
mod confined;

mod cabins;
mod watching;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use cabins::{Cabin, own_names};
use serde_json::Value;
use sockeye_tests::{Namespace, drop_privilege, wait_until};
use watching::{Interval, LIMIT, Watching};

/// Threads beside the first, as many as there are processors and four at most; a thread that has ended is counted for a
/// moment.
const MOST_THREADS: u64 = 1 + 4 + 4;
/// Events of so many namespaces are heard, a descriptor each.
const MOST_SUBSCRIBED: usize = 128;
/// Standard streams, the signals' pipe, `/proc`; and a few for each thread while it works.
const OTHER_DESCRIPTORS: usize = 40;

fn is_full() -> bool {
    std::env::var_os("SOCKEYE_TESTS_FULL").is_some()
}

fn sockeye(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockeye"));
    command.args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A namespace of the tests', which may take their time: fifty namespaces more are made in it.
fn world() -> Namespace {
    Namespace::new().deadline(Duration::from_secs(180))
}

/// What it printed; it must have ended well.
#[track_caller]
fn said(arguments: &[&str]) -> String {
    let output = sockeye(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A process in a namespace of its own, which nobody named.
fn lodger() -> Child {
    let mut command = Command::new("sleep");
    command.arg("600");
    confined::elsewhere(&mut command);
    command.spawn().unwrap()
}

#[test]
fn one_look_sees_them_all() {
    world().run(|| {
        own_names();
        let names: Vec<String> = (0..50).map(|number| format!("box{number}")).collect();
        let cabins: Vec<Cabin> =
            names.iter().enumerate().map(|(number, name)| Cabin::new(name, number % 5)).collect();
        let mut lodger = lodger();

        let all: Value = serde_json::from_str(&said(&["--all-netns", "--json"])).unwrap();
        assert_eq!(all["schema"], "sockeye.snapshot_all/1");
        let rows = all["namespaces"].as_array().unwrap();
        let row = |inode: u64| rows.iter().find(|row| row["netns"]["inode"] == inode).unwrap();
        for (cabin, name) in cabins.iter().zip(&names) {
            let row = row(cabin.inode);
            assert_eq!(
                (&row["schema"], &row["netns"]["name"]),
                (&"sockeye.snapshot/1".into(), &name.as_str().into())
            );
            assert_eq!(row["states"]["established"], cabin.live(), "{row}");
            assert_eq!(
                (&row["states"]["listen"], &row["sweep"]["sockets"]),
                (&1.into(), &(cabin.live() + 1).into())
            );
        }
        let owner = |row: &Value| row["netns"]["owner"]["pid"].as_u64();
        assert!(rows.iter().any(|row| owner(row) == Some(lodger.id().into())), "{all}");
        let live: u64 = cabins.iter().map(Cabin::live).sum();
        assert_eq!((&all["totals"]["live"], &all["namespace_count"]), (&live.into(), &rows.len().into()));

        let groups = |by: &str| {
            let told: Value = serde_json::from_str(&said(&["--all-netns", "--by", by, "--json"])).unwrap();
            assert_eq!(told["by"], by);
            told["groups"].as_array().unwrap().clone()
        };
        let sum = |groups: &[Value]| groups.iter().map(|group| group["live"].as_u64().unwrap()).sum::<u64>();
        let netns = groups("netns");
        for cabin in cabins.iter().filter(|cabin| cabin.live() > 0) {
            let of = |group: &&Value| group["netns"]["inode"] == cabin.inode;
            assert_eq!(netns.iter().find(of).unwrap()["live"], cabin.live(), "{netns:?}");
        }
        // All of them are this process's, wherever they are; and the same ends elsewhere are another destination.
        let owners = groups("owner");
        let ours = |group: &&Value| group["owner"]["pid"] == std::process::id();
        assert_eq!(owners.iter().find(ours).unwrap()["live"], live, "{owners:?}");
        let destinations = groups("destination");
        let with_some = cabins.iter().filter(|cabin| cabin.live() > 0).count();
        assert_eq!(destinations.len(), with_some, "{destinations:?}");
        assert_eq!([sum(&netns), sum(&owners), sum(&groups("user"))], [live; 3]);
        // Worst first.
        let full = |row: &Value| row["destinations"][0]["occupancy_ratio"].as_f64().unwrap_or(-1.0);
        assert!(rows.is_sorted_by(|a, b| full(a) >= full(b)));

        // For people: a line each, as many as are asked for.
        let screen = said(&["snapshot", "--all-netns", "--top", "3"]);
        assert_eq!(screen.matches("\n  box").count(), 3, "{screen}");
        assert!(screen.contains(&format!("… {} more", rows.len() - 3)), "{screen}");

        // Each socket once, with the namespace it is in.
        let sockets: Value =
            serde_json::from_str(&said(&["sockets", "-ta", "--all-netns", "--json"])).unwrap();
        let sockets = sockets.as_array().unwrap();
        for (cabin, name) in cabins.iter().zip(&names) {
            let of = |socket: &&Value| socket["netns"]["inode"] == cabin.inode;
            let of: Vec<&Value> = sockets.iter().filter(of).collect();
            assert_eq!(of.len() as u64, cabin.live() + 1);
            assert!(of.iter().all(|socket| socket["netns"]["name"] == name.as_str()));
        }
        assert_eq!(sockets.len() as u64, live + 50);
        let table = said(&["sockets", "-tl", "--all-netns"]);
        assert!(table.starts_with("Netns ") && table.lines().count() == 51, "{table}");
        assert!(names.iter().all(|name| table.contains(&format!("\n{name} "))), "{table}");
        let of_one = said(&["sockets", "-tH", "--all-netns", "state", "established", "sport", "=", ":8080"]);
        assert_eq!(of_one.lines().count() as u64, live / 2);
        lodger.kill().unwrap();
        lodger.wait().unwrap();
    });
}

#[test]
fn namespaces_come_and_go() {
    come_and_go(&["200ms", "--top", "0"], |_| true);
}

#[test]
fn namespaces_come_and_go_with_what_is_known_of_owners() {
    come_and_go(&["200ms", "--top", "1", "--by", "owner"], |interval| {
        // Who has a socket may be found a tick after the socket.
        let group = &interval.sum["groups"][0];
        group["owner"]["pid"] == std::process::id() && group["live"] == interval.sum["live"]
    });
}

/// `is_whole`: what else is to be told of those that are there.
fn come_and_go(arguments: &'static [&'static str], is_whole: fn(&Interval) -> bool) {
    let (count, cycles, changed) = if is_full() { (500, 1_000, 10) } else { (50, 60, 5) };
    world().deadline(Duration::from_secs(if is_full() { 3_000 } else { 180 })).run(move || {
        own_names();
        let mut born = 0_usize..;
        let mut cabin = || {
            let number = born.next().unwrap();
            let name = format!("box{number}");
            (name.clone(), Cabin::new(&name, number % 4))
        };
        let mut there: VecDeque<(String, Cabin)> = (0..count).map(|_| cabin()).collect();
        let live = |there: &VecDeque<(String, Cabin)>| -> BTreeMap<String, u64> {
            there.iter().map(|(name, cabin)| (name.clone(), cabin.live())).collect()
        };
        let mut watching = Watching::start(arguments);
        let all = live(&there);
        watching.until("all are seen", |interval| interval.live() == all);
        let mut early = None;
        for cycle in 0..cycles {
            for _ in 0..changed {
                drop(there.pop_front());
                there.push_back(cabin());
            }
            if cycle % 20 == 0 {
                let all = live(&there);
                let is_told = |interval: &Interval| interval.live() == all && is_whole(interval);
                let interval = watching.until("those that are there", is_told);
                let sum: u64 = interval.lines.iter().map(|line| line["live"].as_u64().unwrap()).sum();
                assert_eq!(interval.sum["live"], sum);
                assert_eq!(interval.sum["namespaces"], interval.lines.len());
                let heard = interval.sum["with_events"].as_u64().unwrap() as usize;
                assert!(
                    heard <= MOST_SUBSCRIBED && heard >= interval.lines.len().min(MOST_SUBSCRIBED) / 2,
                    "{heard}"
                );
                // Nothing opens or closes but with its namespace.
                let opens = |line: &Value| line["opens"].as_u64().unwrap() + line["closes"].as_u64().unwrap();
                assert_eq!(interval.lines.iter().map(opens).sum::<u64>(), 0, "{}", interval.sum);
            } else {
                watching.interval();
            }
            if cycle == cycles / 4 {
                early = Some(watching.taken());
            }
        }
        let (late, taken) = (watching.taken(), watching.end());
        eprintln!("{count} namespaces, {cycles} cycles, {changed} changed in each: at most {taken:?}");
        eprintln!("after a quarter {early:?}, in the end {late:?}");
        assert!(taken.threads <= MOST_THREADS, "{taken:?}");
        assert!(taken.descriptors <= MOST_SUBSCRIBED.min(count + 1) + OTHER_DESCRIPTORS, "{taken:?}");
        // What is given back is used again: it does not grow with all that ever were.
        let early = early.unwrap().resident_kib;
        assert!(late.resident_kib <= early + early / 4 + 4_096, "{early} KiB, then {late:?}");
    });
}

/// Our descriptor would keep it alive, with whatever is plugged into it: an interval may be long.
#[test]
fn nothing_is_kept_of_a_namespace_that_nobody_is_in() {
    world().run(|| {
        own_names();
        let mut lodger = lodger();
        let _cabin = Cabin::new("box", 1);
        let mut watching = Watching::start(&["6s"]);
        let interval = watching.interval();
        assert_eq!(interval.sum["with_events"], 3, "the own one, the named one, the lodger's");
        let subscribed = |watching: &Watching| {
            let fds = fs::read_dir(format!("/proc/{}/fd", watching.id())).unwrap().flatten();
            let links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
            links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
        };
        let all = subscribed(&watching);
        lodger.kill().unwrap();
        lodger.wait().unwrap();
        // Before the next interval, which would look anyway.
        wait_until("it lets go", Duration::from_secs(5), || subscribed(&watching) == all - 1);
        watching.end();
    });
}

/// With descriptors for a few, those hear their events who have most of them.
#[test]
fn events_are_heard_where_there_are_most() {
    world().run(|| {
        own_names();
        let cabins: Vec<Cabin> = (0..12).map(|number| Cabin::new(format!("box{number}"), 0)).collect();
        let mut command = Watching::command(&["200ms"]);
        // A quarter of the 32 it has in all.
        confined::leave_descriptors(&mut command, 29);
        let mut watching = Watching::run(command);
        let heard = |interval: &Interval, name: &str| {
            let mut lines = interval.lines.iter();
            lines.find(|line| line["netns"]["name"] == name).is_some_and(|line| line["events"] == true)
        };
        let interval = watching.until("eight are heard", |interval| interval.lines.len() == 13);
        assert_eq!(interval.sum["with_events"], 8);
        // Whoever has no descriptor gets one for being busy, each in turn.
        let (mut made, mut opens, mut closes) = (0, 0, 0);
        for (number, cabin) in cabins.iter().enumerate() {
            let name = format!("box{number}");
            wait_until(&name, LIMIT, || {
                (0..20).for_each(|_| cabin.connect_once());
                made += 2 * 20;
                let interval = watching.interval();
                assert_eq!(interval.sum["with_events"], 8);
                opens += interval.sum["opens"].as_u64().unwrap();
                closes += interval.sum["closes"].as_u64().unwrap();
                heard(&interval, &name)
            });
        }
        // Some were not seen where events were not heard; none was seen twice where they began to be.
        assert!(opens <= made && closes <= made && opens >= made / 2, "{made}: {opens} and {closes}");
        let most = watching.end();
        assert!(most.descriptors <= 32, "{most:?}");
    });
}

/// One budget for all of them: what it does not pay for is looked at later, each in turn.
#[test]
fn a_budget_is_for_all_of_them() {
    const SHARE: f64 = 0.03;
    world().run(|| {
        own_names();
        let cabins: Vec<Cabin> = (0..60).map(|number| Cabin::new(format!("box{number}"), 1)).collect();
        let mut watching = Watching::start(&["500ms", "--cpu-budget", "3%"]);
        watching.until("all are seen", |interval| interval.lines.len() == 61);
        let (began, spent) = (Instant::now(), watching.processor_time());
        let mut swept = 0;
        while began.elapsed() < Duration::from_secs(10) {
            // All of them are worth a sweep at every tick.
            cabins.iter().for_each(Cabin::connect_once);
            swept += watching.interval().sum["swept"].as_u64().unwrap();
        }
        let spent = (watching.processor_time() - spent).as_secs_f64();
        let share = spent / began.elapsed().as_secs_f64();
        eprintln!("{swept} sweeps took {:.1} % of a processor", share * 100.0);
        // A tick more than what was saved up, and what writing the lines takes.
        assert!(share < SHARE * 1.5, "{share}");
        assert!(swept > 0 && swept < 20 * 61, "{swept}");
        watching.end();
    });
}

#[test]
fn names_are_harmless() {
    world().run(|| {
        own_names();
        let name = OsStr::from_bytes(b"evil\x1b]0;x\x07\n\"quoted\",\xff \xe2\x80\xae");
        let _cabin = Cabin::new(name, 1);
        let harmful = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
        for (arguments, word) in [
            (&["snapshot", "--all-netns"][..], "evil\\u{1b}"),
            (&["snapshot", "--all-netns", "--json"], "evil\\u001b"),
            (&["sockets", "-ta", "--all-netns"], "evil\\u{1b}"),
            (&["sockets", "-ta", "--all-netns", "--json"], "evil\\u001b"),
            (&["sockets", "-ta", "--all-netns", "-o", "csv"], "evil\\u{1b}"),
            (&["watch", "--all-netns", "100ms", "1"], "evil\\u{1b}"),
            (&["watch", "--all-netns", "100ms", "1", "--json"], "evil\\u001b"),
            (&["watch", "--all-netns", "100ms", "1", "-o", "csv"], "evil\\u{1b}"),
        ] {
            let text = said(arguments);
            assert!(!text.contains(harmful) && text.contains(word), "{arguments:?}: {text:?}");
            assert!(!text.contains("\n\"quoted"), "{arguments:?}: {text:?}");
        }
    });
}

#[test]
fn without_privilege_there_is_the_own_one_and_a_word_on_the_others() {
    world().run(|| {
        own_names();
        let cabins: Vec<Cabin> = (0..3).map(|number| Cabin::new(format!("box{number}"), 1)).collect();
        let _listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        drop_privilege().unwrap();
        let all: Value = serde_json::from_str(&said(&["--all-netns", "--json"])).unwrap();
        let rows = all["namespaces"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[0]["states"]["listen"]), (1, &1.into()), "{all}");
        let forbidden = |warnings: &Value| -> String {
            let warnings = warnings.as_array().unwrap().iter();
            let found = warnings.filter(|warning| warning["id"] == "netns_forbidden");
            found.map(|warning| warning["message"].as_str().unwrap().to_owned()).collect()
        };
        let message = forbidden(&all["warnings"]);
        assert!(message.contains("may not be entered") && message.contains("CAP_SYS_ADMIN"), "{all}");
        let screen = said(&["--all-netns"]);
        assert!(screen.contains("1 network namespace ") && screen.contains("CAP_SYS_ADMIN"), "{screen}");
        let sockets = sockeye(&["sockets", "-tlH", "--all-netns"]);
        assert_eq!(String::from_utf8(sockets.stdout).unwrap().lines().count(), 1);
        assert!(String::from_utf8(sockets.stderr).unwrap().contains("CAP_SYS_ADMIN"));
        let mut watching = Watching::start(&["100ms", "2"]);
        let interval = watching.interval();
        assert_eq!((interval.lines.len(), &interval.lines[0]["events"]), (1, &true.into()));
        assert!(forbidden(&interval.sum["warnings"]).contains("CAP_SYS_ADMIN"), "{}", interval.sum);
        watching.interval();
        watching.end();
        // Nobody may unmount them any more; they end with this process.
        std::mem::forget(cabins);
    });
}

/// Opens and closes are known in each, by its events.
#[test]
fn churn_is_told_where_it_is() {
    world().run(|| {
        own_names();
        let cabins = [Cabin::new("busy", 0), Cabin::new("quiet", 2)];
        let mut watching = Watching::start(&["200ms"]);
        watching.until("both are seen", |interval| interval.live().len() == 2);
        for _ in 0..100 {
            cabins[0].connect_once();
        }
        let (mut opens, mut closes) = (BTreeMap::new(), BTreeMap::new());
        let mut add = |interval: &Interval| {
            for line in &interval.lines {
                let name = line["netns"]["name"].as_str().unwrap_or_default().to_owned();
                *opens.entry(name.clone()).or_insert(0) += line["opens"].as_u64().unwrap();
                *closes.entry(name).or_insert(0) += line["closes"].as_u64().unwrap();
            }
            (opens.clone(), closes.clone())
        };
        let expected = BTreeMap::from([(String::new(), 0), ("busy".into(), 200), ("quiet".into(), 0)]);
        wait_until("both ends of a hundred connections", LIMIT, || {
            add(&watching.interval()) == (expected.clone(), expected.clone())
        });
        watching.end();
    });
}

#[test]
fn other_places_are_not_all() {
    for other in [["-N", "web"], ["--replay", "x"], ["--capture", "x"]] {
        for command in ["snapshot", "sockets", "watch"] {
            let output = sockeye(&[command, "--all-netns", other[0], other[1]]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{error}");
            assert!(error.contains("--all-netns") && error.contains("cannot be used with"), "{error}");
        }
    }
}
