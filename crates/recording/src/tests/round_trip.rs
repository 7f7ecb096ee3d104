//! Rows in are rows out: from the journal, from Parquet, from both, and while one becomes the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::rows::example;
use crate::{ClosedBy, Direction, Evidence, Protocol, RecordingError, Span};

#[test]
fn journal_and_parquet_tell_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, 0..50);
    assert_eq!(read_all(dir.path()), expected(0..50), "from the journal");
    recorder.finish().unwrap();
    assert_eq!(read_all(dir.path()), expected(0..50), "from Parquet");
    let mut recorder = open(dir.path(), small());
    record(&mut recorder, 50..300);
    assert_eq!(read_all(dir.path()), expected(0..300), "from both");
    recorder.finish().unwrap();
    let segments = std::fs::read_dir(dir.path().join("ticks")).unwrap().count();
    assert!(segments > 10, "{segments} segments of 4 KiB");
    assert_eq!(read_all(dir.path()), expected(0..300));
    let span = Recording::open(dir.path()).unwrap().span().unwrap();
    let wanted = Span { first: Time(time(0).0 - 400), last: time(299), interval_ms: 1_000 };
    assert_eq!(span, Some(wanted));
}

#[test]
fn a_period_is_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), small());
    record(&mut recorder, 0..200);
    for _ in 0..2 {
        let (rows, _) = read_period(dir.path(), [time(50), time(60)]);
        let mut wanted = expected(50..60);
        assert_eq!((rows.ticks, rows.settings), (wanted.ticks, expected(0..60).settings));
        // The middle of the bounds of an end is before its tick.
        wanted.connections = expected(50..61).connections;
        wanted.connections.retain(|row| (time(50).0..time(60).0).contains(&(row.closed_latest.0 - 200)));
        assert_eq!(rows.connections, wanted.connections);
        record(&mut recorder, 200..201);
    }
    assert_eq!(read_period(dir.path(), [Time(0), Time(0)]).0, Rows::default());
    assert_eq!(read_period(dir.path(), [time(9), Time(3)]).0, Rows::default(), "the wrong way round");
}

/// A million connections in one tick come back, in as many frames as they need.
#[test]
fn a_tick_of_many_connections_is_cut_into_frames() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    let mut rows = Rows { ticks: vec![example::tick(5)], ..Rows::default() };
    rows.connections = (0..200_000).map(|number| example::connection(5, number)).collect();
    recorder.append(time(5), &mut rows).unwrap();
    recorder.finish().unwrap();
    let read = read_all(dir.path());
    assert_eq!((read.ticks.len(), read.connections.len()), (1, 200_000));
    assert!(read.connections.iter().zip(0..).all(|(row, number)| *row == example::connection(5, number)));
}

/// What is rolled under a reader's eyes is neither missed nor told twice.
#[test]
fn a_reader_beside_a_recorder_sees_each_row_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), small());
    record(&mut recorder, 0..1);
    let done = Arc::new(AtomicBool::new(false));
    let reader = {
        let (path, done) = (dir.path().to_owned(), done.clone());
        std::thread::spawn(move || {
            let mut readings = 0;
            while !done.load(Ordering::Relaxed) {
                let rows = read_all(&path);
                let ticks: Vec<_> = rows.ticks.iter().map(|tick| tick.opens).collect();
                assert!(ticks.iter().copied().eq(0..ticks.len() as u64), "{ticks:?}");
                assert_eq!(rows.connections.len(), 2 * ticks.len());
                readings += 1;
            }
            readings
        })
    };
    record(&mut recorder, 1..1_500);
    recorder.finish().unwrap();
    done.store(true, Ordering::Relaxed);
    assert!(reader.join().unwrap() > 2);
    assert_eq!(read_all(dir.path()).ticks.len(), 1_500);
}

#[test]
fn one_records_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let recorder = open(dir.path(), Limits::default());
    let refused = Recorder::open(dir.path(), Limits::default()).err().unwrap();
    assert!(matches!(refused, RecordingError::InUse { .. }), "{refused}");
    drop(recorder);
    open(dir.path(), Limits::default());
}

/// Whoever deletes the lock lets a second one in: the first leaves the recording to it.
#[test]
fn a_recorder_without_its_lock_ends() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path(), Limits::default());
    record(&mut first, 0..3);
    std::fs::remove_file(dir.path().join("lock")).unwrap();
    let mut second = open(dir.path(), Limits::default());
    record(&mut second, 3..5);
    let error = first.finish().unwrap_err();
    assert!(matches!(error, RecordingError::LostLock { .. }), "{error}");
    second.finish().unwrap();
    assert_eq!(read_all(dir.path()), expected(0..5));
}

#[test]
fn only_its_group_may_look_into_a_recording() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("recording");
    open(&root, Limits::default());
    let mode = std::fs::metadata(&root).unwrap().permissions().mode();
    assert_eq!(mode & 0o027, 0, "{mode:o}");
}

#[test]
fn other_directories_and_newer_recordings_are_told_politely() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Recording::open(dir.path()).err().unwrap().to_string();
    assert!(missing.ends_with("is no recording of sockeye: it has no sockeye-recording.json"), "{missing}");
    std::fs::write(dir.path().join("thesis.tex"), "").unwrap();
    let refused = Recorder::open(dir.path(), Limits::default()).err().unwrap();
    assert!(matches!(refused, RecordingError::NotARecording { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing was made there");
    std::fs::remove_file(dir.path().join("thesis.tex")).unwrap();

    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, 0..3);
    drop(recorder);
    let marker = dir.path().join("sockeye-recording.json");
    for (text, told) in [
        (
            "{\"schema\":\"sockeye.recording/2\"}",
            "newer sockeye (format 2; this one knows up to 1): update sockeye",
        ),
        ("{\"schema\":\"sockeye.recording/0\"}", "does not tell a version"),
        ("{\"schema\":\"other\"}", "does not tell a version"),
        ("", "does not tell a version"),
    ] {
        std::fs::write(&marker, text).unwrap();
        let read = Recording::open(dir.path()).err().unwrap().to_string();
        let written = Recorder::open(dir.path(), Limits::default()).err().unwrap().to_string();
        assert!(read.contains(told) && written.contains(told), "{read}\n{written}");
    }
    std::fs::write(&marker, "{\"schema\":\"sockeye.recording/1\",\"later\":true}").unwrap();
    assert_eq!(read_all(dir.path()), expected(0..3));
}

fn address() -> impl Strategy<Value = std::net::IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(Into::into), any::<[u8; 16]>().prop_map(Into::into)]
}

fn text() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just(String::new()), ".{0,20}".prop_map(|text| text), Just("\0\u{1b}[2J\n".to_owned())]
        .prop_map(Into::into)
}

/// Up to the end of the year 9999: no file holds a later one.
fn moment() -> impl Strategy<Value = Time> {
    (0..=253_402_300_799_999_u64).prop_map(Time)
}

prop_compose! {
    fn connection()(
        times in [moment(), moment(), moment()],
        opened_earliest in proptest::option::of(moment()),
        lifetime_min_ms in any::<u64>(),
        lifetime_max_ms in any::<Option<u64>>(),
        ends in (proptest::option::of(address()), any::<Option<u16>>(), proptest::option::of(address()), any::<Option<u16>>()),
        words in (0..3usize, 0..3usize, 0..4usize, 0..5usize),
        owner in (any::<Option<u32>>(), proptest::option::of(text()), any::<Option<u32>>(), proptest::option::of(text()), proptest::option::of(text())),
        owner_inferred in any::<bool>(),
        counts in (any::<Option<u64>>(), any::<Option<u64>>(), any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u32>>()),
        cookie in any::<u64>(),
    ) -> Connection {
        let (protocol, direction, closed_by, evidence) = words;
        Connection {
            closed_earliest: times[0],
            closed_latest: times[1],
            opened_earliest,
            opened_latest: times[2],
            lifetime_min_ms,
            lifetime_max_ms,
            netns: cookie >> 3,
            protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Unknown][protocol],
            direction: [Direction::Outgoing, Direction::Incoming, Direction::Unknown][direction],
            local_address: ends.0,
            local_port: ends.1,
            remote_address: ends.2,
            remote_port: ends.3,
            closed_by: [ClosedBy::Local, ClosedBy::Remote, ClosedBy::Reset, ClosedBy::Unknown][closed_by],
            evidence: [Evidence::Event, Evidence::TimeWait, Evidence::Lookup, Evidence::Sweeps, Evidence::Unknown][evidence],
            owner_pid: owner.0,
            owner_name: owner.1,
            owner_uid: owner.2,
            owner_user: owner.3,
            owner_cgroup: owner.4,
            owner_inferred,
            sent_bytes: counts.0,
            received_bytes: counts.1,
            retransmits: counts.2,
            data_segments_out: counts.3,
            data_segments_in: counts.4,
            cookie,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_in_are_rows_out(connections in proptest::collection::vec(connection(), 0..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut recorder = open(dir.path(), small());
        for part in connections.chunks(7) {
            recorder.append(time(0), &mut Rows { connections: part.to_vec(), ..Rows::default() }).unwrap();
        }
        prop_assert_eq!(&read_all(dir.path()).connections, &connections);
        recorder.finish().unwrap();
        prop_assert_eq!(&read_all(dir.path()).connections, &connections);
    }
}

/// As many destinations as may be: frames stay within what a reader takes.
#[test]
fn many_rows_of_a_tick_are_several_frames() {
    struct Largest(usize, usize);
    impl Sink for Largest {
        fn settings(&mut self, _: &[Setting]) {}
        fn ticks(&mut self, _: &[Tick]) {}
        fn destinations(&mut self, rows: &[Destination]) {
            *self = Largest(self.0.max(rows.len()), self.1 + rows.len());
        }
        fn warnings(&mut self, _: &[Warning]) {}
        fn connections(&mut self, rows: &[Connection]) {
            *self = Largest(self.0.max(rows.len()), self.1 + rows.len());
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    let mut rows = example::rows(1);
    rows.destinations = vec![example::destination(1, 1); 140_000];
    rows.connections = vec![example::connection(1, 1); 70_000];
    recorder.append(time(1), &mut rows).unwrap();
    let mut largest = Largest(0, 0);
    Recording::open(dir.path()).unwrap().read(ALL, &mut largest, |_| {}).unwrap();
    assert_eq!((largest.0, largest.1), (1 << 16, 210_000));
}

/// A year has more files than a process may have open.
#[test]
fn few_files_are_open_at_once() {
    struct Counting(std::path::PathBuf, usize);
    impl Sink for Counting {
        fn settings(&mut self, _: &[Setting]) {}
        fn ticks(&mut self, _: &[Tick]) {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let open = open.filter_map(|entry| std::fs::read_link(entry.path()).ok());
            self.1 = self.1.max(open.filter(|path| path.starts_with(&self.0)).count());
        }
        fn destinations(&mut self, _: &[Destination]) {}
        fn warnings(&mut self, _: &[Warning]) {}
        fn connections(&mut self, _: &[Connection]) {}
    }
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits { segment_ms: 1_000, ..Limits::default() });
    record(&mut recorder, 0..30);
    recorder.finish().unwrap();
    assert!(std::fs::read_dir(dir.path().join("ticks")).unwrap().count() >= 15);
    let mut counting = Counting(dir.path().canonicalize().unwrap(), 0);
    Recording::open(dir.path()).unwrap().read(ALL, &mut counting, |_| {}).unwrap();
    assert!((1..=crate::layout::TABLES.len()).contains(&counting.1), "{} are open", counting.1);
}
