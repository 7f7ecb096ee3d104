//! Files that were cut or changed: whole rows are read, nothing is invented, nothing panics.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::Frames;
use crate::journal::HEADER_BYTES;
use crate::roll::roll;

fn journal(root: &Path) -> PathBuf {
    fs::read_dir(root.join("journal")).unwrap().next().unwrap().unwrap().path()
}

/// A journal of so many ticks, and where each of its frames ends.
fn recorded(root: &Path, ticks: u64) -> (Vec<u8>, Vec<u64>) {
    let mut recorder = open(root, Limits::default());
    let mut ends = Vec::new();
    for number in 0..ticks {
        record(&mut recorder, number..number + 1);
        ends.push(recorder.journal_bytes());
    }
    (fs::read(journal(root)).unwrap(), ends)
}

#[test]
fn a_journal_cut_at_any_byte_tells_its_whole_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, ends) = recorded(dir.path(), 220);
    assert!(bytes.len() > 1 << 16, "{} bytes", bytes.len());
    let path = journal(dir.path());
    let file = fs::File::options().write(true).open(&path).unwrap();
    let all = expected(0..220);
    let salt = u64::from_le_bytes(bytes[20..28].try_into().unwrap());
    for length in (bytes.len() - (1 << 16)..=bytes.len()).rev() {
        let whole = ends.iter().take_while(|end| **end <= length as u64).count();
        // From the last frame but one that is whole: those before it are read below.
        let from = whole.saturating_sub(2);
        let start = if from == 0 { HEADER_BYTES as u64 } else { ends[from - 1] };
        let mut frames = Frames::new(&bytes[start as usize..length], salt, start, length as u64);
        let read: Vec<_> =
            std::iter::from_fn(|| frames.next_rows().unwrap()).flat_map(|rows| rows.ticks).collect();
        assert_eq!(read, all.ticks[from..whole], "cut at {length}");
        assert_eq!(frames.torn().tail_bytes, length as u64 - ends[whole - 1], "cut at {length}");
        if length % 997 == 0 || length + (1 << 16) == bytes.len() {
            file.set_len(length as u64).unwrap();
            let (rows, reading) = read_period(dir.path(), ALL);
            assert_eq!(rows, expected(0..whole as u64), "cut at {length}");
            assert_eq!(reading.torn.tail_bytes, length as u64 - ends[whole - 1]);
        }
    }
    // And what is left is rolled, and recording goes on.
    let whole = ends.iter().take_while(|end| **end <= (bytes.len() - (1 << 16)) as u64).count() as u64;
    let (mut recorder, resumed) = Recorder::open(dir.path(), Limits::default()).unwrap();
    assert_eq!((resumed.journals, resumed.rows), (1, expected(0..whole).len() as u64));
    record(&mut recorder, whole..whole + 5);
    recorder.finish().unwrap();
    assert_eq!(read_all(dir.path()), expected(0..whole + 5));
}

#[test]
fn any_changed_byte_of_a_journal_leaves_only_rows_that_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, ends) = recorded(dir.path(), 12);
    let all = expected(0..12);
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(journal(dir.path()), &damaged).unwrap();
        let (rows, reading) = read_period(dir.path(), ALL);
        assert!(reading.torn != crate::Torn::default(), "byte {at} is noticed");
        let before = ends.iter().take_while(|end| **end as usize <= at).count();
        assert_eq!(rows.ticks[..before], all.ticks[..before], "byte {at}");
        assert!(rows.ticks.iter().all(|tick| all.ticks.contains(tick)), "byte {at}");
        assert!(rows.connections.iter().all(|row| all.connections.contains(row)), "byte {at}");
    }
}

#[test]
fn zeros_behind_the_last_frame_are_no_frames() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bytes, _) = recorded(dir.path(), 3);
    bytes.resize(bytes.len() + 8_192, 0);
    fs::write(journal(dir.path()), &bytes).unwrap();
    let (rows, reading) = read_period(dir.path(), ALL);
    assert_eq!((rows, reading.torn.tail_bytes), (expected(0..3), 8_192));
}

/// A frame that a process name carries at another place, or in another journal, is none: its header is damaged on purpose.
#[test]
fn a_frame_within_a_frame_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, ends) = recorded(dir.path(), 3);
    let mut moved = bytes[..ends[0] as usize].to_vec();
    // The header of the second is gone; the third stands a byte further on.
    moved.extend_from_slice(&[0xff; 13]);
    moved.extend_from_slice(&bytes[ends[1] as usize..]);
    fs::write(journal(dir.path()), &moved).unwrap();
    assert_eq!(read_period(dir.path(), ALL).0, expected(0..1));
}

#[test]
fn a_journal_without_a_whole_header_is_empty() {
    for length in [0, 1, HEADER_BYTES - 1] {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, _) = recorded(dir.path(), 2);
        fs::write(journal(dir.path()), &bytes[..length]).unwrap();
        assert_eq!(read_period(dir.path(), ALL).1.torn.tail_bytes, length as u64);
        let mut recorder = open(dir.path(), Limits::default());
        record(&mut recorder, 0..1);
        recorder.finish().unwrap();
        assert_eq!(read_all(dir.path()), expected(0..1));
    }
}

/// A journal that is not known as one is not deleted by who records next.
#[test]
fn a_journal_whose_header_is_damaged_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (mut bytes, _) = recorded(dir.path(), 5);
    bytes[3] ^= 1;
    fs::write(journal(dir.path()), &bytes).unwrap();
    let (mut recorder, resumed) = Recorder::open(dir.path(), Limits::default()).unwrap();
    assert_eq!((resumed.rows, resumed.torn.tail_bytes), (0, bytes.len() as u64));
    record(&mut recorder, 5..7);
    recorder.finish().unwrap();
    assert_eq!(read_all(dir.path()), expected(5..7));
    let aside = dir.path().join("journal/0000000000.damaged");
    assert_eq!(fs::read(&aside).unwrap(), bytes);
    // Whoever mends it has it back.
    bytes[3] ^= 1;
    fs::write(dir.path().join("journal/0000000000.journal"), &bytes).unwrap();
    assert_eq!(read_all(dir.path()), expected(0..7));
}

/// Every state that a roll can be left in: each reads the same, and the next recorder ends at the same.
#[test]
fn a_roll_may_end_after_any_step() {
    let rolled = tempfile::tempdir().unwrap();
    let (bytes, _) = recorded(rolled.path(), 20);
    roll(&crate::layout::Layout::open(rolled.path()).unwrap(), 0).unwrap();
    let names: Vec<_> =
        crate::layout::TABLES.iter().map(|table| format!("{table}/0000000000.parquet")).collect();
    let temporaries: Vec<_> =
        crate::layout::TABLES.iter().map(|table| format!("{table}/.0000000000.temporary")).collect();
    for named in 0..=names.len() {
        for half in [0, 100, 5_000] {
            let dir = tempfile::tempdir().unwrap();
            drop(open(dir.path(), Limits::default()));
            fs::write(journal(dir.path()), &bytes).unwrap();
            for name in &names[..named] {
                fs::copy(rolled.path().join(name), dir.path().join(name)).unwrap();
            }
            for (name, temporary) in names.iter().zip(&temporaries).skip(named) {
                let whole = fs::read(rolled.path().join(name)).unwrap();
                fs::write(dir.path().join(temporary), &whole[..half.min(whole.len())]).unwrap();
            }
            assert_eq!(read_all(dir.path()), expected(0..20), "{named} files are named");
            let mut recorder = open(dir.path(), Limits::default());
            record(&mut recorder, 20..25);
            assert_eq!(read_all(dir.path()), expected(0..25), "{named} files were named");
            recorder.finish().unwrap();
            assert_eq!(read_all(dir.path()), expected(0..25));
            let left = temporaries.iter().filter(|name| dir.path().join(name).exists()).count();
            assert_eq!(left, 0, "temporaries are removed");
        }
    }
}

/// What stands in the place of a file is told, and is not waited for.
#[test]
fn a_pipe_in_the_place_of_a_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, 0..3);
    recorder.finish().unwrap();
    for file in ["ticks/0000000007.parquet", "journal/0000000008.journal"] {
        let path = dir.path().join(file);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(Recording::open(dir.path()).unwrap().span().unwrap().is_some());
        let (rows, reading) = read_period(dir.path(), ALL);
        assert_eq!(rows, expected(0..3), "the others are read");
        let told = &reading.unread[0];
        assert_eq!((reading.unread.len(), told.file.as_str()), (1, file));
        assert!(told.why.contains("it is no regular file"), "{told:?}");
        fs::remove_file(path).unwrap();
    }
}

/// … nor are pipes and links where the marker and the lock should be.
#[test]
fn what_stands_in_the_place_of_the_marker_or_the_lock_is_refused() {
    for name in ["sockeye-recording.json", "lock"] {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path(), Limits::default()));
        let path = dir.path().join(name);
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = Recorder::open(dir.path(), Limits::default()).err().unwrap();
        assert_eq!(error.to_string(), format!("cannot open {}", path.display()));
    }
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), Limits::default()));
    let marker = dir.path().join("sockeye-recording.json");
    fs::File::create(&marker).unwrap().set_len(1 << 40).unwrap();
    let error = Recording::open(dir.path()).err().unwrap();
    assert!(error.to_string().ends_with("does not tell a version"), "{error}");
}

/// Whoever owns the directory that root records in does not choose what root writes to.
#[test]
fn links_are_not_followed_to_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = dir.path().join("elsewhere");
    let root = dir.path().join("recording");
    fs::create_dir(&root).unwrap();
    fs::write(&elsewhere, "precious").unwrap();
    let link = |name: &str| std::os::unix::fs::symlink(&elsewhere, root.join(name)).unwrap();
    link(".sockeye-recording.json");
    let mut recorder = open(&root, Limits::default());
    record(&mut recorder, 0..3);
    crate::layout::TABLES.iter().for_each(|table| link(&format!("{table}/.0000000000.temporary")));
    recorder.finish().unwrap();
    assert_eq!(read_all(&root), expected(0..3));
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
    fs::remove_file(root.join("lock")).unwrap();
    fs::remove_file(&elsewhere).unwrap();
    link("lock");
    assert!(Recorder::open(&root, Limits::default()).is_err());
    assert!(!elsewhere.exists());
}

/// Nor do links in the place of directories.
#[test]
fn links_in_the_place_of_directories_are_refused() {
    for name in ["journal", "ticks"] {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.path().join(name)).unwrap();
        let error = Recorder::open(dir.path(), Limits::default()).err().unwrap();
        assert_eq!(error.to_string(), format!("cannot create {}", dir.path().join(name).display()));
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    }
}

/// Numbers that no recorder gave: other names are nobody's, and the last number there is does not come round to 0.
#[test]
fn names_that_no_recorder_gave_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, 0..3);
    recorder.finish().unwrap();
    for name in
        ["journal/000000000000007.journal", "ticks/00000000000000000007.parquet", "ticks/+000000007.parquet"]
    {
        fs::write(dir.path().join(name), "").unwrap();
    }
    assert_eq!(read_all(dir.path()), expected(0..3));
    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, 3..5);
    recorder.finish().unwrap();
    assert_eq!(read_all(dir.path()), expected(0..5));
    fs::write(dir.path().join(format!("ticks/{}.parquet", u64::MAX)), "").unwrap();
    let error = Recorder::open(dir.path(), Limits::default()).err().unwrap();
    assert!(error.to_string().contains("larger than that of any segment"), "{error}");
}

/// In a recording of a newer sockeye nothing is made.
#[test]
fn what_is_newer_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("sockeye-recording.json"), "{\"schema\":\"sockeye.recording/2\"}").unwrap();
    let error = Recorder::open(dir.path(), Limits::default()).err().unwrap();
    assert!(matches!(error, crate::RecordingError::Newer { format: 2, .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// The rows of another table are no ticks with nothing in them.
#[test]
fn a_file_of_another_table_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, 0..3);
    recorder.finish().unwrap();
    let at = |table: &str| dir.path().join(table).join("0000000000.parquet");
    fs::copy(at("settings"), at("ticks")).unwrap();
    let (rows, reading) = read_period(dir.path(), ALL);
    assert_eq!((rows.ticks.len(), rows.connections.len()), (0, 6));
    assert!(reading.unread[0].why.contains("there is no column"), "{reading:?}");
}

/// Damaged Parquet files are told and the others are read.
#[test]
fn a_damaged_parquet_file_costs_its_own_rows() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, 0..20);
    recorder.finish().unwrap();
    let mut recorder = open(dir.path(), Limits::default());
    record(&mut recorder, 20..30);
    recorder.finish().unwrap();
    let path = dir.path().join("connections/0000000000.parquet");
    let whole = fs::read(&path).unwrap();
    for length in [0, 3, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let (rows, reading) = read_period(dir.path(), ALL);
        assert_eq!(rows.ticks, expected(0..30).ticks);
        assert_eq!(rows.connections, expected(20..30).connections);
        assert_eq!(reading.unread.len(), 1);
        assert_eq!(reading.unread[0].file, "connections/0000000000.parquet");
    }
    // Any byte: no panic, and never more rows than there were.
    for at in (0..whole.len()).step_by(13) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        fs::write(&path, &damaged).unwrap();
        let (rows, _) = read_period(dir.path(), ALL);
        assert!(rows.connections.len() <= 60, "byte {at}");
    }
}
