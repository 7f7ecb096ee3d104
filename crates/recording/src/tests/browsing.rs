//! A recording that is gone through segment by segment tells what reading all of it tells.

use std::fs;

use super::*;
use crate::{Browser, Table};

const TABLES: [Table; 5] =
    [Table::Settings, Table::Ticks, Table::Destinations, Table::Warnings, Table::Connections];

/// All rows, a segment after the other.
fn browsed(browser: &mut Browser) -> Rows {
    let mut sink = Everything::default();
    for stretch in browser.stretches().to_vec() {
        let before = sink.0.ticks.len();
        let reading = browser.read(stretch.number, &TABLES, ALL, &mut sink).unwrap();
        assert_eq!(reading.unread, []);
        let ticks = &sink.0.ticks[before..];
        let bounds = [ticks[0].time, ticks[ticks.len() - 1].time];
        assert_eq!((stretch.ticks, stretch.span), (ticks.len() as u64, bounds));
    }
    sink.0
}

#[test]
fn segments_together_are_the_recording() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), small());
    record(&mut recorder, 0..100);
    let mut browser = Browser::open(dir.path()).unwrap();
    assert!(browser.stretches().len() > 3);
    assert_eq!(browsed(&mut browser), expected(0..100), "from Parquet and a journal");
    // What is appended, and rolled, since it was opened.
    for number in 100..300 {
        record(&mut recorder, number..number + 1);
        browser.refresh().unwrap();
        let ticks: u64 = browser.stretches().iter().map(|it| it.ticks).sum();
        assert_eq!(ticks, number + 1);
    }
    assert_eq!(browsed(&mut browser), expected(0..300));
    // Rolled behind its back.
    let last = *browser.stretches().last().unwrap();
    recorder.finish().unwrap();
    let mut sink = Everything::default();
    browser.read(last.number, &TABLES, ALL, &mut sink).unwrap();
    assert_eq!(sink.0.ticks.len() as u64, last.ticks);
    browser.refresh().unwrap();
    assert_eq!(browsed(&mut browser), expected(0..300));
    // Its time is over.
    fs::remove_dir_all(dir.path().join("ticks")).unwrap();
    browser.refresh().unwrap();
    assert_eq!(browser.stretches(), []);
}

#[test]
fn a_period_of_some_tables_is_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, 0..40);
    let mut browser = Browser::open(dir.path()).unwrap();
    let read = |browser: &mut Browser| {
        let mut sink = Everything::default();
        let period = [time(10), time(20)];
        let reading = browser.read(0, &[Table::Destinations, Table::Settings], period, &mut sink).unwrap();
        assert_eq!(reading.rows as usize, sink.0.len());
        sink.0
    };
    let wanted = Rows {
        destinations: expected(10..20).destinations,
        settings: expected(0..20).settings,
        ..Rows::default()
    };
    assert_eq!(read(&mut browser), wanted, "of a journal");
    recorder.finish().unwrap();
    browser.refresh().unwrap();
    assert_eq!(read(&mut browser), wanted, "of Parquet");
}

#[test]
fn damage_is_told_once_and_the_rest_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    let mut ends = Vec::new();
    for number in 0..9 {
        record(&mut recorder, number..number + 1);
        ends.push(recorder.journal_bytes() as usize);
    }
    let path = dir.path().join("journal/0000000000.journal");
    let mut bytes = fs::read(&path).unwrap();
    bytes[ends[3] + 20] ^= 1;
    fs::write(&path, &bytes[..ends[7] + 5]).unwrap();
    let mut browser = Browser::open(dir.path()).unwrap();
    for _ in 0..2 {
        assert_eq!(browser.unread(), (&[][..], 1), "the end may be half written");
        let mut sink = Everything::default();
        browser.read(0, &[Table::Ticks], ALL, &mut sink).unwrap();
        let read: Vec<u64> = sink.0.ticks.iter().map(|tick| tick.opens).collect();
        assert_eq!(read, [0, 1, 2, 3, 5, 6, 7]);
        browser.refresh().unwrap();
    }
    // A file of ticks that is none, and another of a table beside it.
    drop(recorder);
    open(dir.path(), Limits::default()).finish().unwrap();
    fs::write(dir.path().join("ticks/0000000007.parquet"), b"PAR1 is not all of it PAR1").unwrap();
    fs::write(dir.path().join("destinations/0000000000.parquet"), b"").unwrap();
    let mut browser = Browser::open(dir.path()).unwrap();
    browser.refresh().unwrap();
    assert_eq!((browser.unread().0.len(), browser.stretches().len()), (1, 1));
    assert_eq!(browser.unread().0[0].file, "ticks/0000000007.parquet");
    let reading =
        browser.read(0, &[Table::Destinations, Table::Ticks], ALL, &mut Everything::default()).unwrap();
    assert_eq!((reading.rows, &*reading.unread[0].file), (7, "destinations/0000000000.parquet"));
}
