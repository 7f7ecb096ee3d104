//! Disks that are full, and segments whose time is over.

use std::fs;

use super::*;
use crate::rows::example;

const DIRECTORY: &str = "SOCKEYE_RECORDING_TEST_DISK";

/// Not a test of its own: what the test below runs where a disk of a MiB is mounted.
#[test]
fn fills_its_disk() {
    let Some(root) = std::env::var_os(DIRECTORY) else { return };
    let root = Path::new(&root);
    let ballast = root.join("ballast");
    let root = root.join("recording");
    fs::write(&ballast, vec![1; 400_000]).unwrap();
    let mut recorder = open(&root, Limits { segment_bytes: 100_000, ..Limits::default() });
    let mut appended = 0;
    let error = loop {
        match recorder.append(time(appended), &mut example::rows(appended)) {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
    };
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.is_full() && cause.contains("No space left on device"), "{error}: {cause}");
    assert!(appended > 100, "{appended}");
    // Rolling may be what met the full disk, after the tick was in the journal.
    let there = |upto: u64| {
        let rows = read_all(&root);
        assert!(rows == expected(0..upto) || rows == expected(0..upto + 1), "{} ticks", rows.ticks.len());
        rows.ticks.len() as u64
    };
    there(appended);
    // Again and again, until not a byte is left.
    for _ in 0..50 {
        let again = there(appended);
        assert!(recorder.append(time(again), &mut example::rows(again)).is_err() || there(again) > again);
        appended = there(again);
    }
    drop(recorder);
    let refused = Recorder::open(&root, small()).err().unwrap();
    assert!(refused.is_full(), "{refused}");
    there(appended);
    fs::remove_file(&ballast).unwrap();
    let mut recorder = open(&root, Limits::default());
    let next = there(appended);
    record(&mut recorder, next..next + 10);
    recorder.finish().unwrap();
    assert_eq!(read_all(&root), expected(0..next + 10));
    println!("filled with {next} ticks");
}

#[test]
fn a_full_disk_loses_nothing_that_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=1m tmpfs \"$SOCKEYE_RECORDING_TEST_DISK\" && exec \"$@\"";
    let ran = std::process::Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", mount, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "tests::disk::fills_its_disk", "--nocapture"])
        .env(DIRECTORY, dir.path())
        .output()
        .expect("util-linux's unshare makes the private disk");
    let told = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && told.contains("filled with"), "{told}");
}

/// Old segments go, the one that is written stays, and what is left is whole.
#[test]
fn retention_keeps_a_recording_within_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { max_bytes: Some(200_000), ..small() };
    let mut recorder = open(dir.path(), limits);
    for number in 0..1_000 {
        record(&mut recorder, number..number + 1);
        if number % 100 == 99 {
            let ticks: Vec<_> = read_all(dir.path()).ticks.iter().map(|tick| tick.opens).collect();
            let first = ticks[0];
            assert!(ticks.into_iter().eq(first..=number), "a stretch without holes up to the last");
        }
    }
    recorder.finish().unwrap();
    let left = read_all(dir.path());
    assert!(left.ticks[0].opens > 0, "something was deleted");
    assert_eq!(left, expected(left.ticks[0].opens..1_000));
    let bytes: u64 = crate::layout::TABLES
        .iter()
        .flat_map(|table| fs::read_dir(dir.path().join(table)).unwrap())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!((100_000..=200_000).contains(&bytes), "{bytes} bytes are left");
}

#[test]
fn retention_goes_by_the_time_that_was_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { keep_ms: Some(100_000), segment_ms: 10_000, ..Limits::default() };
    let mut recorder = open(dir.path(), limits);
    record(&mut recorder, 0..500);
    recorder.finish().unwrap();
    let first = read_all(dir.path()).ticks[0].opens;
    assert!((380..=399).contains(&first), "whole segments of ten ticks go: the first tick left is {first}");
    // A clock that goes back deletes nothing.
    let mut recorder = open(dir.path(), limits);
    recorder.append(Time(1), &mut Rows { ticks: vec![example::tick(0)], ..Rows::default() }).unwrap();
    recorder.finish().unwrap();
    assert!(read_all(dir.path()).ticks.iter().any(|tick| tick.opens == 499));
}

/// One whose age cannot be told, here a pipe that nobody writes to, is not waited for and keeps none behind it.
#[test]
fn a_segment_that_does_not_tell_its_age_keeps_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { keep_ms: Some(100_000), segment_ms: 10_000, ..Limits::default() };
    let mut recorder = open(dir.path(), limits);
    record(&mut recorder, 0..50);
    recorder.finish().unwrap();
    let oldest = dir.path().join("ticks/0000000000.parquet");
    fs::remove_file(&oldest).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &oldest, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let mut recorder = open(dir.path(), limits);
    record(&mut recorder, 50..500);
    recorder.finish().unwrap();
    fs::remove_file(&oldest).unwrap();
    let first = read_all(dir.path()).ticks[0].opens;
    assert!((380..=399).contains(&first), "{first}");
}

/// A clock that is wrong for some ticks and right again, forward or back, costs no history, and ends the segment.
#[test]
fn a_clock_that_is_wrong_for_a_moment_deletes_nothing() {
    let year = 365 * 86_400_000;
    let right = time(30).0;
    for wrong in [right + year, right - year] {
        let dir = tempfile::tempdir().unwrap();
        let limits = Limits { keep_ms: Some(100_000), segment_ms: 10_000, ..Limits::default() };
        let mut recorder = open(dir.path(), limits);
        record(&mut recorder, 0..30);
        let segment =
            || *crate::layout::Layout::open(dir.path()).unwrap().journal_segments().unwrap().last().unwrap();
        let before = segment();
        recorder.append(Time(wrong), &mut example::rows(30)).unwrap();
        assert!(segment() > before, "the segment ends");
        record(&mut recorder, 31..60);
        recorder.finish().unwrap();
        let ticks: Vec<u64> = read_all(dir.path()).ticks.iter().map(|tick| tick.opens).collect();
        assert!(ticks.iter().copied().eq(0..60), "{ticks:?}");
    }
}

/// A recorder that is killed again and again before its first segment ends keeps to its size, too.
#[test]
fn retention_outlasts_kills() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { max_bytes: Some(200_000), ..Limits::default() };
    for number in 0..40 {
        let mut recorder = open(dir.path(), limits);
        record(&mut recorder, number * 20..number * 20 + 20);
        // As a kill leaves it.
        drop(recorder);
    }
    drop(open(dir.path(), limits));
    let left = read_all(dir.path()).ticks;
    assert!(left[0].opens > 0 && left.len() > 20, "{} from {}", left.len(), left[0].opens);
    assert_eq!(left.last().unwrap().opens, 799);
}
