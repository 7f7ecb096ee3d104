//! Arbitrary bytes as a request: recorded and read back, and sent to a capture that was made of ordinary ones.

use std::io::Cursor;

use sock_diag::fake::{Answer, FakeKernel, Message};
use sock_diag::{CaptureWriter, DumpRequest, Family, Protocol, Recording, RecvBuffer, Replay, Source};

pub(super) fn run(bytes: &[u8]) {
    let mut writer = CaptureWriter::new(Vec::new()).expect("a Vec takes everything");
    let mut kernel = FakeKernel::new([]);
    let _ = Recording::new(&mut kernel, &mut writer).send(&mut bytes.to_vec());
    writer.end_sweep(b"").expect("a Vec takes everything");
    let mut kernel = FakeKernel::new((0..3).map(|_| Answer::Datagram(vec![Message::done(0)])));
    let mut recording = Recording::new(&mut kernel, &mut writer);
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let recorded = super::dump_all(&mut recording, &DumpRequest::all(protocol), |_| {});
        assert!(recorded.1.is_ok());
    }
    writer.end_sweep(b"").expect("a Vec takes everything");
    let file = writer.finish().expect("a Vec takes everything");

    // A request too short for a header cannot come from a dump: the capture may be refused, but not half read.
    let Ok(mut replay) = Replay::open(Cursor::new(file)) else {
        assert!(bytes.len() < 16);
        return;
    };
    assert_eq!(replay.sweeps(), 2);
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::UdpLite, Protocol::Mptcp] {
        for request in [DumpRequest::all(protocol), DumpRequest::all(protocol).family(Family::Inet)] {
            let (records, result) = super::dump_all(&mut replay, &request, |_| {});
            assert!(records.is_empty());
            assert!(result.is_err(), "nothing was answered in the first sweep");
        }
    }
    assert!(replay.next_sweep());
    let mut buffer = RecvBuffer::new();
    if replay.send(&mut bytes.to_vec()).is_ok() {
        assert!(replay.receive(&mut buffer).is_ok());
        assert!(replay.receive(&mut buffer).is_err(), "one datagram, then the end");
    }
}
