//! Captures: what was answered is answered again, and damage of any kind is noticed before it is.

mod sample;

use std::io::Cursor;

use proptest::prelude::*;
use sample::{dump_all, listener, socket, socket6};
use sock_diag::fake::{Answer, FakeKernel, Message};
use sock_diag::{
    CaptureError, CaptureWriter, DumpRequest, Error, Family, Protocol, Recording, RecvBuffer, Replay,
    SocketRecord, SocketState, StateSet, lookup,
};

type Writer = CaptureWriter<Vec<u8>>;

fn writer() -> Writer {
    CaptureWriter::new(Vec::new()).expect("a Vec takes everything")
}

fn finish(writer: Writer) -> Vec<u8> {
    writer.finish().expect("a Vec takes everything")
}

fn open(file: Vec<u8>) -> Replay<Cursor<Vec<u8>>> {
    Replay::open(Cursor::new(file)).expect("a whole capture")
}

/// A dump of a scripted kernel, recorded.
fn record(writer: &mut Writer, script: Vec<Answer>, request: &DumpRequest<'_>) -> Vec<SocketRecord> {
    let mut kernel = FakeKernel::new(script);
    let (records, _) = dump_all(&mut Recording::new(&mut kernel, writer), request);
    assert_eq!(kernel.unread(), 0, "the script and the request fit each other");
    records
}

fn answer(records: &[SocketRecord]) -> Answer {
    Answer::Datagram(records.iter().map(Message::record).chain([Message::done(0)]).collect())
}

/// Two sweeps: TCP with three sockets, then UDP of both families.
fn small() -> Vec<u8> {
    let mut writer = writer();
    record(&mut writer, vec![answer(&[socket(1), socket6(2), socket(3)])], &DumpRequest::all(Protocol::Tcp));
    writer.end_sweep(b"first").expect("a Vec takes everything");
    record(&mut writer, vec![answer(&[socket(4)]), answer(&[socket6(5)])], &DumpRequest::all(Protocol::Udp));
    writer.end_sweep(b"second").expect("a Vec takes everything");
    finish(writer)
}

fn cookies(records: &[SocketRecord]) -> Vec<u64> {
    records.iter().map(|r| r.id.cookie.0).collect()
}

/// What a dump of the capture's current sweep holds, by cookie.
fn replayed(replay: &mut Replay<Cursor<Vec<u8>>>, request: &DumpRequest<'_>) -> Vec<u64> {
    let (records, result) = dump_all(replay, request);
    result.expect("a replay");
    cookies(&records)
}

proptest! {
    #![proptest_config(sample::config(64))]

    #[test]
    fn a_replay_equals_its_recording(
        sweeps in prop::collection::vec(
            (prop::collection::vec(prop::collection::vec(sample::any_record(), 0..8), 0..5), any::<Vec<u8>>()),
            1..4,
        )
    ) {
        let request = DumpRequest::all(Protocol::Tcp);
        let mut writer = writer();
        let mut recorded = Vec::new();
        for (datagrams, context) in &sweeps {
            let mut script: Vec<_> =
                datagrams.iter().map(|d| Answer::Datagram(d.iter().map(Message::record).collect())).collect();
            script.push(answer(&[]));
            recorded.push(record(&mut writer, script, &request));
            writer.end_sweep(context).expect("a Vec takes everything");
        }
        let mut replay = open(finish(writer));
        prop_assert_eq!(replay.sweeps(), sweeps.len());
        for (i, (_, context)) in sweeps.iter().enumerate() {
            prop_assert_eq!(replay.context().expect("a Cursor"), &context[..]);
            // Twice: a replay can be asked again.
            for _ in 0..2 {
                let (records, result) = dump_all(&mut replay, &request);
                prop_assert!(result.is_ok(), "{:?}", result);
                prop_assert_eq!(&records, &recorded[i]);
            }
            prop_assert_eq!(replay.next_sweep(), i + 1 < sweeps.len());
        }
    }
}

#[test]
fn a_cut_at_any_byte_is_noticed() {
    let file = small();
    for length in 0..file.len() {
        let error = Replay::open(Cursor::new(&file[..length])).expect_err("a cut capture");
        match error {
            CaptureError::NotACapture => assert!(length < 16),
            CaptureError::Cut { offset } => assert!(length >= 16 && offset as usize <= length),
            other => panic!("cut at {length}: {other}"),
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let file = small();
    for bit in 0..file.len() * 8 {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(Replay::open(Cursor::new(flipped)).is_err(), "bit {bit} of {}", file.len() * 8);
    }
}

#[test]
fn bytes_after_the_end_are_noticed() {
    let file = small();
    for tail in [&[0u8][..], &file] {
        let longer = [&file[..], tail].concat();
        assert!(matches!(Replay::open(Cursor::new(longer)), Err(CaptureError::Damaged { .. })));
    }
}

#[test]
fn lost_and_doubled_frames_are_noticed() {
    let file = small();
    // Frame boundaries, from the lengths in the frames' headers.
    let mut bounds = vec![16];
    while let Some(&start) = bounds.last().filter(|start| **start < file.len()) {
        let length = u32::from_le_bytes(file[start + 4..start + 8].try_into().expect("4 bytes"));
        bounds.push(start + 12 + length as usize);
    }
    assert_eq!(bounds.len(), 10, "9 frames: 3 requests, 3 datagrams, 2 ends of sweeps, the end");
    for frame in bounds.windows(2) {
        let without = [&file[..frame[0]], &file[frame[1]..]].concat();
        assert!(Replay::open(Cursor::new(without)).is_err());
        let doubled = [&file[..frame[1]], &file[frame[0]..]].concat();
        assert!(Replay::open(Cursor::new(doubled)).is_err());
    }
}

#[test]
fn other_files_are_told_apart() {
    let file = small();
    let opened = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = file.clone();
        change(&mut file);
        Replay::open(Cursor::new(file)).map(|_| ()).expect_err("another file")
    };
    assert!(matches!(opened(&|f| f[0] = b'X'), CaptureError::NotACapture));
    assert!(matches!(opened(&|f| f[8] = 2), CaptureError::Version(2)));
    assert!(matches!(opened(&|f| f[10..12].reverse()), CaptureError::ByteOrder));
    assert!(matches!(opened(&|f| f[12] = 1), CaptureError::Damaged { offset: 12, .. }));
    assert!(matches!(opened(&|f| f.truncate(0)), CaptureError::NotACapture));
    assert!(opened(&|f| f[8] = 2).to_string().contains("version 2"));
}

#[test]
fn a_sweep_without_end_is_noticed() {
    let mut writer = writer();
    record(&mut writer, vec![answer(&[])], &DumpRequest::all(Protocol::Tcp));
    let opened = Replay::open(Cursor::new(finish(writer)));
    assert!(matches!(opened, Err(CaptureError::Damaged { what: "a sweep has no end", .. })));
}

#[test]
fn an_empty_capture_answers_nothing() {
    let mut replay = open(finish(writer()));
    assert_eq!((replay.sweeps(), replay.next_sweep()), (0, false));
    assert!(replay.context().expect("a Cursor").is_empty());
    let (_, result) = dump_all(&mut replay, &DumpRequest::all(Protocol::Tcp));
    assert!(matches!(result, Err(Error::NotCaptured { .. })));
}

#[test]
fn what_it_does_not_hold_is_an_error_that_names_it() {
    let mut writer = writer();
    let request = DumpRequest::all(Protocol::Tcp).family(Family::Inet).states(StateSet::LISTEN);
    record(&mut writer, vec![answer(&[listener(&socket(1), 1)])], &request);
    writer.end_sweep(b"").expect("a Vec takes everything");
    let mut replay = open(finish(writer));
    assert_eq!(replayed(&mut replay, &request), [1]);
    for (asked, words) in [
        (DumpRequest::all(Protocol::Udp), "udp sockets"),
        (request.clone().family(Family::Inet6), "inet6"),
        (DumpRequest::all(Protocol::Tcp).states(StateSet::LISTEN), "inet6"),
        (request.clone().states(StateSet::ALL), "inet tcp sockets in established, syn_sent"),
    ] {
        let (records, result) = dump_all(&mut replay, &asked);
        assert!(records.is_empty());
        match result {
            Err(Error::NotCaptured { what }) => assert!(what.contains(words), "{what}"),
            other => panic!("{asked:?}: {other:?}"),
        }
    }
    // Of no state there is nothing to hold: as from the kernel, no records.
    assert!(replayed(&mut replay, &request.states(StateSet::EMPTY)).is_empty());
    let found = lookup(&mut replay, Protocol::Tcp, Family::Inet, &socket(1).id, &mut RecvBuffer::new());
    assert!(matches!(found, Err(Error::NotCaptured { .. })));
}

#[test]
fn a_part_of_what_it_holds_can_be_asked_for() {
    let mut replay = open(small());
    let tcp = DumpRequest::all(Protocol::Tcp);
    assert_eq!(replayed(&mut replay, &tcp), [1, 2, 3]);
    assert_eq!(replayed(&mut replay, &tcp.clone().family(Family::Inet)), [1, 3]);
    assert_eq!(replayed(&mut replay, &tcp.clone().family(Family::Inet6)), [2]);
    assert!(replayed(&mut replay, &tcp.clone().states(StateSet::LISTEN)).is_empty());
    assert_eq!(replay.context().expect("a Cursor"), b"first");
    assert!(replay.next_sweep());
    assert_eq!(replayed(&mut replay, &DumpRequest::all(Protocol::Udp)), [4, 5]);
    assert!(!replay.next_sweep());
    assert_eq!(replay.context().expect("a Cursor"), b"second", "the last sweep stays");
}

#[test]
fn states_recorded_apart_are_put_together() {
    let tcp = DumpRequest::all(Protocol::Tcp);
    let rest = StateSet::ALL.minus(StateSet::LISTEN);
    let mut writer = writer();
    let first = listener(&socket(1), 1);
    record(&mut writer, vec![answer(&[first])], &tcp.clone().states(StateSet::LISTEN));
    record(&mut writer, vec![answer(&[socket(2), socket6(3)])], &tcp.clone().states(rest));
    writer.end_sweep(b"").expect("a Vec takes everything");
    let mut replay = open(finish(writer));
    assert_eq!(replayed(&mut replay, &tcp), [1, 2, 3], "in the order they were recorded");
    assert_eq!(replayed(&mut replay, &tcp.clone().states(StateSet::of(&[SocketState::Established]))), [2, 3]);
}

#[test]
fn a_repeated_dump_stands_for_the_one_before_it() {
    let tcp = DumpRequest::all(Protocol::Tcp);
    let mut writer = writer();
    record(&mut writer, vec![Answer::Datagram(vec![Message::record(&socket(1))]), Answer::Overrun], &tcp);
    record(&mut writer, vec![answer(&[socket(1), socket(2)])], &tcp);
    writer.end_sweep(b"").expect("a Vec takes everything");
    assert_eq!(replayed(&mut open(finish(writer)), &tcp), [1, 2]);
}

#[test]
fn a_refused_walk_of_both_families_replays_as_the_two() {
    let tcp = DumpRequest::all(Protocol::Tcp);
    let refused = Answer::Datagram(vec![Message::error(libc::EINVAL)]);
    let mut writer = writer();
    let recorded = record(&mut writer, vec![refused, answer(&[socket(1)]), answer(&[socket6(2)])], &tcp);
    assert_eq!(cookies(&recorded), [1, 2]);
    writer.end_sweep(b"").expect("a Vec takes everything");
    assert_eq!(replayed(&mut open(finish(writer)), &tcp), [1, 2]);
}

#[test]
fn a_missing_module_is_still_missing_in_the_replay() {
    let missing = || Answer::Datagram(vec![Message::error(libc::ENOENT)]);
    for (protocol, refusals) in [(Protocol::Tcp, 2), (Protocol::Udp, 1)] {
        let request = DumpRequest::all(protocol);
        let mut writer = writer();
        record(&mut writer, (0..refusals).map(|_| missing()).collect(), &request);
        writer.end_sweep(b"").expect("a Vec takes everything");
        let (_, result) = dump_all(&mut open(finish(writer)), &request);
        assert_eq!(result.expect_err("refused").refusal().map(|e| e.0), Some(libc::ENOENT), "{protocol}");
    }
}

#[test]
fn a_recorded_lookup_does_not_answer_dumps() {
    let tcp = DumpRequest::all(Protocol::Tcp);
    let mut writer = writer();
    record(&mut writer, vec![answer(&[socket(1)])], &tcp);
    let mut kernel = FakeKernel::new([Answer::Datagram(vec![Message::record(&socket(2))])]);
    let id = socket(2).id;
    let mut recording = Recording::new(&mut kernel, &mut writer);
    let found = lookup(&mut recording, Protocol::Tcp, Family::Inet, &id, &mut RecvBuffer::new());
    assert_eq!(found.expect("an answer"), Some(socket(2)));
    writer.end_sweep(b"").expect("a Vec takes everything");
    assert_eq!(replayed(&mut open(finish(writer)), &tcp), [1]);
}

#[test]
fn a_buffer_too_small_for_a_recorded_datagram_is_told() {
    let many: Vec<_> = (0..40).map(socket).collect();
    let mut writer = writer();
    record(&mut writer, vec![answer(&many)], &DumpRequest::all(Protocol::Tcp));
    writer.end_sweep(b"").expect("a Vec takes everything");
    let mut replay = open(finish(writer));
    let mut small = RecvBuffer::with_length(1024);
    let request = DumpRequest::all(Protocol::Tcp);
    let result = sock_diag::dump(&mut replay, &request, &mut small, |_| std::ops::ControlFlow::Continue(()));
    assert!(matches!(result, Err(Error::Truncated { room: 1024, .. })), "{result:?}");
}

#[test]
fn a_reader_that_fails_is_an_error_of_reading() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no disk"))
        }
    }
    impl std::io::Seek for Failing {
        fn seek(&mut self, _: std::io::SeekFrom) -> std::io::Result<u64> {
            Ok(0)
        }
    }
    assert!(matches!(Replay::open(Failing), Err(CaptureError::Read(_))));
}

#[test]
fn a_context_of_any_size_but_an_absurd_one_is_kept() {
    let mut writer = writer();
    writer.end_sweep(&vec![7; 16 << 20]).expect("16 MiB");
    assert!(writer.end_sweep(&vec![7; (16 << 20) + 1]).is_err());
    let mut replay = open(finish(writer));
    assert_eq!((replay.sweeps(), replay.context().expect("a Cursor").len()), (1, 16 << 20));
}
