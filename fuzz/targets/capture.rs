//! Arbitrary bytes as a capture; and a capture of arbitrary datagrams and events, whole, cut, and with one bit wrong.

use std::io::Cursor;

use sock_diag::{CaptureWriter, DiagMsg, DumpRequest, Event, Protocol, Recording, Replay};

pub(super) fn run(bytes: &[u8]) {
    if let Ok(mut replay) = Replay::open(Cursor::new(bytes)) {
        loop {
            for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Mptcp] {
                let _ = super::dump_all(&mut replay, &DumpRequest::all(protocol), |_| {});
            }
            let _ = replay.events_before_dumps(|_, event| see(&event));
            let _ = replay.events_after_dumps(|_, event| see(&event));
            let _ = super::look_up_any(&mut replay);
            if !replay.next_sweep() {
                break;
            }
        }
    }
    if let Some((place, rest)) = bytes.split_first_chunk() {
        round_trip(usize::from(u16::from_le_bytes(*place)), rest);
    }
}

fn see(event: &Event<'_>) {
    if let Event::Destroyed(diag) = event {
        let _ = diag.to_record();
    }
}

fn round_trip(place: usize, bytes: &[u8]) {
    // More than fits a frame's sums is no better tested with a long one.
    let bytes = &bytes[..bytes.len().min(16 * 1024)];
    let request = DumpRequest::all(Protocol::Udp);
    let mut writer = CaptureWriter::new(Vec::new()).expect("a Vec takes everything");
    let mut kernel = super::kernel_answering(bytes);
    let recorded = super::dump_all(&mut Recording::new(&mut kernel, &mut writer), &request, |_| {});
    let destroyed = DiagMsg::parse(bytes, Protocol::Tcp);
    if let Some(diag) = destroyed {
        writer.event(place as u64, &Event::Destroyed(diag)).expect("a Vec takes everything");
    }
    writer.event(7, &Event::Lost(None)).expect("a Vec takes everything");
    writer.end_sweep(&bytes[..bytes.len().min(64)]).expect("a Vec takes everything");
    let mut file = writer.finish().expect("a Vec takes everything");

    let mut replay = Replay::open(Cursor::new(&file)).expect("what was written can be read");
    assert_eq!(replay.context().expect("a Cursor"), &bytes[..bytes.len().min(64)]);
    if recorded.1.is_ok() {
        let replayed = super::dump_all(&mut replay, &request, |_| {});
        assert!(replayed.1.is_ok(), "{:?}", replayed.1);
        assert_eq!(replayed.0, recorded.0);
    }

    let mut told = Vec::new();
    let read = replay.events_after_dumps(|at, event| {
        told.push(match event {
            Event::Destroyed(diag) => (at, Some(diag.to_record())),
            Event::Lost(_) => (at, None),
        });
    });
    read.expect("a Cursor");
    let expected = destroyed.map(|diag| (place as u64, Some(diag.to_record())));
    assert_eq!(told, expected.into_iter().chain([(7, None)]).collect::<Vec<_>>());

    let place = place % file.len();
    assert!(Replay::open(Cursor::new(&file[..place])).is_err(), "a cut at byte {place} must be noticed");
    file[place] ^= 1 << (bytes.len() % 8);
    assert!(Replay::open(Cursor::new(&file)).is_err(), "a flipped bit in byte {place} must be noticed");
}
