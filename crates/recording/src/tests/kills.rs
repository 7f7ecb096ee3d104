//! A recorder that is killed at random moments, again and again, in the same directory.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::rows::example;

const DIRECTORY: &str = "SOCKEYE_RECORDING_TEST_DIRECTORY";
const FIRST: &str = "SOCKEYE_RECORDING_TEST_FIRST";
const KILLS: u64 = 200;

/// Not a test of its own: what the test below starts and kills. It records as fast as it can and tells what was appended.
#[test]
fn records_until_killed() {
    let Some(root) = std::env::var_os(DIRECTORY) else { return };
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let (mut recorder, resumed) = Recorder::open(root.as_ref(), small()).unwrap();
    println!("resumed {}", resumed.rows);
    for number in first.. {
        recorder.append(time(number), &mut example::rows(number)).unwrap();
        println!("appended {number}");
    }
}

#[test]
fn a_killed_recorder_loses_nothing_it_had_appended() {
    let dir = tempfile::tempdir().unwrap();
    let mut next = 0;
    let mut random = 7u64;
    let mut kills_in_a_roll = 0;
    for kill in 0..KILLS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::kills::records_until_killed", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, dir.path())
            .env(FIRST, next.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        // The first tenths at its start, while it rolls what the one before has left; the others later.
        if kill % 10 != 0 {
            assert!(told.by_ref().any(|line| line.contains("resumed")), "it records");
        }
        // Not a wait for anything: the moment of the kill is to be anywhere.
        std::thread::sleep(Duration::from_micros((random >> 33) % 15_000));
        child.kill().unwrap();
        let appended = told.filter_map(|line| line.strip_prefix("appended ")?.parse::<u64>().ok()).last();
        child.wait().unwrap();
        kills_in_a_roll +=
            u64::from(std::fs::read_dir(dir.path().join("journal")).map_or(0, |it| it.count()) > 1);

        if next == 0 && Recording::open(dir.path()).is_err() {
            assert_eq!(appended, None, "there is no recording yet");
            continue;
        }
        let (rows, _) = read_period(dir.path(), [Time(time(next).0 - 300), Time(u64::MAX)]);
        // The last one may have been appended and not told.
        let there = rows.ticks.last().map_or(next, |tick| tick.opens + 1);
        let told = appended.map_or(next, |appended| appended + 1);
        assert!(
            there == told || there == told + 1,
            "kill {kill}: up to {told} were told, up to {there} are there"
        );
        let wanted = Rows { settings: expected(0..there).settings, ..expected(next..there) };
        assert!(rows == wanted, "kill {kill}");
        next = there;
    }
    let started = Instant::now();
    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, next..next + 3);
    recorder.finish().unwrap();
    assert_eq!(read_all(dir.path()), expected(0..next + 3), "all of it, once, after {KILLS} kills");
    eprintln!(
        "{} ticks, {kills_in_a_roll} kills with two journals, read in {:?}",
        next + 3,
        started.elapsed()
    );
    assert!(next > KILLS, "{next} ticks");
}
