//! Captures: what was answered is answered again, and damage of any kind is noticed before it is.

mod sample;

use std::io::Cursor;

use proptest::prelude::*;
use sample::{dump_all, listener, socket, socket6};
use sock_diag::fake::{Answer, FakeKernel, Message, record_bytes};
use sock_diag::{
    CaptureError, CaptureWriter, Cookie, DiagMsg, DumpRequest, Error, Event, Family, Protocol, Recording,
    RecvBuffer, Replay, SocketRecord, SocketState, StateSet, lookup,
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
    let bounds = frame_bounds(&file);
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
    for version in [0, 3, 200] {
        assert!(matches!(opened(&|f| f[8] = version), CaptureError::Version(v) if v == u16::from(version)));
    }
    assert!(matches!(opened(&|f| f[10..12].reverse()), CaptureError::ByteOrder));
    assert!(matches!(opened(&|f| f[12] = 1), CaptureError::Damaged { offset: 12, .. }));
    assert!(matches!(opened(&|f| f.truncate(0)), CaptureError::NotACapture));
    assert!(opened(&|f| f[8] = 3).to_string().contains("version 3"));
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

// Over time: destroy events, and lookups.

/// An event as it was kept: its time, and the socket's cookie, or how many were lost.
type Kept = (u64, Result<u64, Option<u32>>);

fn write_event(writer: &mut Writer, kept: &Kept) {
    let (at, event) = kept;
    match event {
        Ok(cookie) => {
            let mut record = socket(1);
            record.id.cookie = Cookie(*cookie);
            let bytes = record_bytes(&record);
            let diag = DiagMsg::parse(&bytes, Protocol::Tcp).expect("a whole record");
            writer.event(*at, &Event::Destroyed(diag)).expect("a Vec takes everything");
        }
        Err(lost) => writer.event(*at, &Event::Lost(*lost)).expect("a Vec takes everything"),
    }
}

fn collect<'k>(kept: &'k mut Vec<Kept>) -> impl FnMut(u64, Event<'_>) + 'k {
    |at, event| {
        kept.push(match event {
            Event::Destroyed(diag) => (at, Ok(diag.to_record().id.cookie.0)),
            Event::Lost(lost) => (at, Err(lost)),
        });
    }
}

fn any_events() -> impl Strategy<Value = Vec<Kept>> {
    // All ones is how an uncounted loss is written.
    let event = prop_oneof![
        4 => any::<u64>().prop_map(Ok),
        1 => prop::option::of(0..u32::MAX).prop_map(Err),
    ];
    prop::collection::vec((any::<u64>(), event), 0..6)
}

proptest! {
    #![proptest_config(sample::config(64))]

    #[test]
    fn events_stay_in_their_sweep_before_or_after_its_dumps(
        sweeps in prop::collection::vec((any_events(), prop::option::of(any_events())), 1..5)
    ) {
        let tcp = DumpRequest::all(Protocol::Tcp);
        let mut writer = writer();
        for (before, after) in &sweeps {
            before.iter().for_each(|event| write_event(&mut writer, event));
            // Without dumps a sweep holds events alone.
            if let Some(after) = after {
                record(&mut writer, vec![answer(&[socket(1), socket(2)])], &tcp);
                after.iter().for_each(|event| write_event(&mut writer, event));
            }
            writer.end_sweep(b"context").expect("a Vec takes everything");
        }
        let mut replay = open(finish(writer));
        prop_assert_eq!(replay.sweeps(), sweeps.len());
        for (index, (before, after)) in sweeps.iter().enumerate() {
            // In any order, and as often as one likes.
            for _ in 0..2 {
                let (mut first, mut second) = (Vec::new(), Vec::new());
                replay.events_after_dumps(collect(&mut second)).expect("a Cursor");
                if after.is_some() {
                    prop_assert_eq!(replayed(&mut replay, &tcp), vec![1, 2]);
                }
                replay.events_before_dumps(collect(&mut first)).expect("a Cursor");
                prop_assert_eq!(&first, before);
                prop_assert_eq!(second, after.clone().unwrap_or_default());
            }
            prop_assert_eq!(replay.next_sweep(), index + 1 < sweeps.len());
        }
    }
}

#[test]
fn lookups_are_answered_as_they_were() {
    let mut writer = writer();
    let tcp = DumpRequest::all(Protocol::Tcp);
    record(&mut writer, vec![answer(&[socket(1)])], &tcp);
    let there = || Answer::Datagram(vec![Message::record(&socket(2))]);
    let gone = || Answer::Datagram(vec![Message::error(libc::ENOENT)]);
    let mut ask = |id: u64, script: Answer| {
        let mut kernel = FakeKernel::new([script]);
        let mut recording = Recording::new(&mut kernel, &mut writer);
        let id = socket(id as u16).id;
        lookup(&mut recording, Protocol::Tcp, Family::Inet, &id, &mut RecvBuffer::new()).expect("a script")
    };
    assert_eq!((ask(2, there()), ask(3, gone()), ask(4, gone())), (Some(socket(2)), None, None));
    writer.end_sweep(b"").expect("a Vec takes everything");
    record(&mut writer, vec![answer(&[])], &tcp);
    writer.end_sweep(b"").expect("a Vec takes everything");

    let mut replay = open(finish(writer));
    let ask = |replay: &mut Replay<_>, id: u16| {
        lookup(replay, Protocol::Tcp, Family::Inet, &socket(id).id, &mut RecvBuffer::new())
    };
    for order in [[2, 3, 4], [4, 3, 2], [3, 3, 2]] {
        for id in order {
            let found = ask(&mut replay, id).expect("it was asked");
            assert_eq!(found.map(|record| record.id), (id == 2).then(|| socket(2).id), "{id} of {order:?}");
        }
        assert_eq!(replayed(&mut replay, &tcp), [1], "a dump in between does no harm");
    }
    assert!(matches!(ask(&mut replay, 5), Err(Error::NotCaptured { .. })), "this one was not asked");
    assert!(replay.next_sweep());
    assert!(matches!(ask(&mut replay, 2), Err(Error::NotCaptured { .. })), "in this sweep none was");
}

#[test]
fn a_capture_of_the_first_version_is_read() {
    // Kinds 1 to 4 alone, which have not changed.
    let mut file = small();
    file[8] = 1;
    assert_eq!(replayed(&mut open(file), &DumpRequest::all(Protocol::Tcp)), [1, 2, 3]);
}

/// Where the frames of a capture begin, and where the last one ends.
fn frame_bounds(file: &[u8]) -> Vec<usize> {
    let mut bounds = vec![16];
    while let Some(&start) = bounds.last().filter(|start| **start < file.len()) {
        let length = u32::from_le_bytes(file[start + 4..start + 8].try_into().expect("4 bytes"));
        bounds.push(start + 12 + length as usize);
    }
    bounds
}

/// A frame with right sums.
fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind, 0, 0, 0];
    frame.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let sum = crc32fast::hash(&[&frame[..], payload].concat());
    frame.extend_from_slice(&sum.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

#[test]
fn events_that_are_cut_or_in_the_way_are_damage() {
    let damage = |file: Vec<u8>| match Replay::open(Cursor::new(file)) {
        Err(CaptureError::Damaged { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let mut open_end = writer();
    write_event(&mut open_end, &(1, Ok(1)));
    assert_eq!(damage(finish(open_end)), "a sweep has no end");

    let mut writer = writer();
    record(&mut writer, vec![answer(&[socket(1)])], &DumpRequest::all(Protocol::Tcp));
    write_event(&mut writer, &(1, Ok(1)));
    writer.end_sweep(b"").expect("a Vec takes everything");
    let file = finish(writer);
    let bounds = frame_bounds(&file);
    let [_, datagram, event, end, ..] = bounds[..] else { panic!("{bounds:?}") };
    let swapped = [&file[..datagram], &file[event..end], &file[datagram..event], &file[end..]].concat();
    assert_eq!(damage(swapped), "a datagram before any request");

    let with_event = |event: Vec<u8>| [&file[..bounds[2]], &event, &file[end..]].concat();
    assert!(Replay::open(Cursor::new(with_event(frame(5, &[0; 8 + 72])))).is_ok(), "the least an event has");
    assert_eq!(damage(with_event(frame(5, &[0; 8 + 71]))), "an event that is cut");
    assert_eq!(damage(with_event(frame(6, &[0; 11]))), "a loss of another length");
    assert_eq!(damage(with_event(frame(7, &[]))), "a frame of an unknown kind");
}
