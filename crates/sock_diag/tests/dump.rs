//! Dumps from a kernel that answers in bytes: every check on an answer, and every way of asking again.

mod sample;

use std::ops::ControlFlow;

use sample::{dump_all, listener, socket, socket6};
use sock_diag::fake::{Answer, FakeKernel, Message, record_bytes};
use sock_diag::{
    DumpRequest, Error, Exchange, Family, NlMsgs, Protocol, Recording, RecvBuffer, Result, SocketRecord,
    SocketState, Source, StateSet, dump,
};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const TCPDIAG_GETSOCK: u16 = 18;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;

fn records(range: std::ops::Range<u16>) -> Vec<SocketRecord> {
    range.map(socket).collect()
}

fn datagram(records: &[SocketRecord]) -> Answer {
    Answer::Datagram(records.iter().map(Message::record).collect())
}

fn done() -> Answer {
    Answer::Datagram(vec![Message::done(0)])
}

fn dump_tcp(kernel: &mut FakeKernel) -> (Vec<SocketRecord>, Result<sock_diag::DumpSummary>) {
    dump_all(kernel, &DumpRequest::all(Protocol::Tcp))
}

/// Type and family of a request.
fn asked(request: &[u8]) -> (u16, u8) {
    let message = NlMsgs::new(request).next().expect("a message").expect("well formed");
    (message.kind, message.payload[0])
}

#[test]
fn records_come_in_order_however_they_are_split() {
    let all = records(0..12);
    for size in [1, 2, 5, 12] {
        let answers = all.chunks(size).map(datagram).chain([done()]);
        let mut kernel = FakeKernel::new(answers);
        let (seen, summary) = dump_tcp(&mut kernel);
        let summary = summary.expect("a dump");
        assert_eq!(seen, all);
        assert_eq!((summary.records, summary.walks), (12, 1));
        assert_eq!(summary.datagrams, 12u64.div_ceil(size as u64) + 1);
        let record_length = 16 + record_bytes(&all[0]).len() as u64;
        assert_eq!(summary.bytes, 12 * record_length + 20);
        assert_eq!((summary.foreign, summary.malformed, summary.interrupted), (0, 0, false));
        assert_eq!(kernel.unread(), 0);
    }
}

#[test]
fn done_in_the_same_datagram_ends_it() {
    let mut messages: Vec<Message> = records(0..3).iter().map(Message::record).collect();
    messages.push(Message::done(0));
    let mut kernel = FakeKernel::new([Answer::Datagram(messages), datagram(&records(3..4))]);
    let (seen, summary) = dump_tcp(&mut kernel);
    assert_eq!((seen, summary.is_ok(), kernel.unread()), (records(0..3), true, 1));
}

#[test]
fn an_empty_done_is_success() {
    // Nothing behind the header, as some old kernels end a dump.
    let end = Answer::Datagram(vec![Message::new(3, Vec::new())]);
    let (seen, summary) = dump_tcp(&mut FakeKernel::new([datagram(&records(0..1)), end]));
    assert_eq!((seen.len(), summary.is_ok()), (1, true));
}

#[test]
fn messages_for_others_are_passed_over_and_counted() {
    let mut stale = Message::record(&socket(1));
    stale.sequence = Some(99);
    let mut foreign = Message::record(&socket(2));
    foreign.port_id = Some(99);
    let mut stale_end = Message::done(0);
    stale_end.sequence = Some(99);
    let mut kernel = FakeKernel::new([
        Answer::Datagram(vec![stale, Message::record(&socket(3)), foreign, stale_end]),
        datagram(&records(4..5)),
        done(),
    ]);
    let (seen, summary) = dump_tcp(&mut kernel);
    assert_eq!(seen, [socket(3), socket(4)]);
    assert_eq!(summary.expect("a dump").foreign, 3);
}

#[test]
fn messages_of_no_use_are_counted() {
    let mut kernel = FakeKernel::new([
        Answer::Datagram(vec![
            Message::new(1, Vec::new()),
            Message::new(77, vec![0; 100]),
            Message::new(SOCK_DIAG_BY_FAMILY, record_bytes(&socket(1))[..71].to_vec()),
            Message::new(TCPDIAG_GETSOCK, record_bytes(&socket(2))),
        ]),
        done(),
    ]);
    let (seen, summary) = dump_tcp(&mut kernel);
    assert_eq!(seen, [socket(2)]);
    // NLMSG_NOOP is no malformed message.
    assert_eq!(summary.expect("a dump").malformed, 2);
}

#[test]
fn an_interrupted_dump_says_so() {
    let mut message = Message::record(&socket(1));
    message.flags |= NLM_F_DUMP_INTR;
    let (_, summary) = dump_tcp(&mut FakeKernel::new([Answer::Datagram(vec![message]), done()]));
    assert!(summary.expect("a dump").interrupted);
    let mut end = Message::done(0);
    end.flags |= NLM_F_DUMP_INTR;
    let (_, summary) = dump_tcp(&mut FakeKernel::new([Answer::Datagram(vec![end])]));
    assert!(summary.expect("a dump").interrupted);
}

#[test]
fn a_cut_datagram_is_an_error() {
    let bytes = record_bytes(&socket(1));
    let (seen, result) = dump_tcp(&mut FakeKernel::new([Answer::Cut(bytes, 40_000)]));
    assert!(matches!(result, Err(Error::Truncated { length: 40_000, room: 32_768, .. })), "{result:?}");
    assert!(seen.is_empty());
}

#[test]
fn an_overrun_is_an_error_with_records_or_without() {
    for first in [Vec::new(), vec![datagram(&records(0..2))]] {
        let overruns = [Answer::Overrun, Answer::Datagram(vec![Message::new(4, Vec::new())])];
        for overrun in overruns {
            let mut kernel = FakeKernel::new(first.iter().cloned().chain([overrun, done(), done()]));
            let (_, result) = dump_tcp(&mut kernel);
            assert!(matches!(result, Err(Error::Overrun { .. })), "{result:?}");
            assert_eq!(kernel.requests.len(), 1);
        }
    }
}

#[test]
fn answers_that_end_early_are_an_error() {
    let (seen, result) = dump_tcp(&mut FakeKernel::new([datagram(&records(0..2))]));
    assert!(matches!(result, Err(Error::Ended { .. })), "{result:?}");
    assert_eq!(seen.len(), 2);
}

#[test]
fn bytes_that_are_no_messages_are_an_error() {
    let message = {
        let mut bytes = 16u32.to_ne_bytes().to_vec();
        bytes.resize(16, 0);
        bytes
    };
    let too_long = [&100u32.to_ne_bytes()[..], &[0; 12]].concat();
    let too_short = [&15u32.to_ne_bytes()[..], &[0; 12]].concat();
    for bytes in [vec![1, 2, 3], too_long, too_short, [&message[..], &[0; 15]].concat()] {
        let (_, result) = dump_tcp(&mut FakeKernel::new([Answer::Raw(bytes)]));
        assert!(matches!(result, Err(Error::Malformed { .. })), "{result:?}");
    }
}

fn words(text: &str) -> Vec<u8> {
    let mut bytes = ((text.len() + 5) as u16).to_ne_bytes().to_vec();
    bytes.extend(1u16.to_ne_bytes());
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn refusal(message: Message) -> (i32, Option<String>) {
    let request = DumpRequest::all(Protocol::Udp);
    let (_, result) = dump_all(&mut FakeKernel::new([Answer::Datagram(vec![message])]), &request);
    match result {
        Err(Error::Refused { errno, message, .. }) => (errno.0, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refusals_are_read_from_error_and_done_with_the_kernels_words() {
    let why = Some("no such module".to_owned());
    assert_eq!(refusal(Message::done(-libc::ENOENT)), (libc::ENOENT, None));
    assert_eq!(refusal(Message::error(libc::EPERM)), (libc::EPERM, None));

    let mut in_done = Message::done(-libc::EINVAL);
    in_done.payload.extend(words("no such module"));
    assert_eq!(refusal(in_done.clone()), (libc::EINVAL, None), "without the flag they are not words");
    in_done.flags |= NLM_F_ACK_TLVS;
    assert_eq!(refusal(in_done), (libc::EINVAL, why.clone()));

    let mut capped = Message::error(libc::EINVAL);
    capped.payload[4..8].copy_from_slice(&72u32.to_ne_bytes());
    capped.payload.extend(words("no such module"));
    capped.flags = NLM_F_ACK_TLVS | NLM_F_CAPPED;
    assert_eq!(refusal(capped), (libc::EINVAL, why.clone()));

    // Not capped: the whole request stands between, here of 21 bytes, padded to 24.
    let mut whole = Message::error(libc::EINVAL);
    whole.payload[4..8].copy_from_slice(&21u32.to_ne_bytes());
    whole.payload.extend([0; 8]);
    whole.payload.extend(words("no such module"));
    whole.flags = NLM_F_ACK_TLVS;
    assert_eq!(refusal(whole), (libc::EINVAL, why));

    // A request longer than the message: no words, and no panic.
    let mut absurd = Message::error(libc::EINVAL);
    absurd.payload[4..8].copy_from_slice(&u32::MAX.to_ne_bytes());
    absurd.flags = NLM_F_ACK_TLVS;
    assert_eq!(refusal(absurd), (libc::EINVAL, None));
}

#[test]
fn control_messages_without_sense_are_malformed() {
    let cut = Message::new(2, vec![1, 2]);
    let positive = Message::done(5);
    for message in [cut, positive] {
        let (_, result) = dump_tcp(&mut FakeKernel::new([Answer::Datagram(vec![message])]));
        assert!(matches!(result, Err(Error::Malformed { .. })), "{result:?}");
    }
}

#[test]
fn a_longer_record_of_a_later_kernel_is_read() {
    let mut longer = record_bytes(&socket(1));
    longer.extend(8u16.to_ne_bytes());
    longer.extend(900u16.to_ne_bytes());
    longer.extend([1, 2, 3, 4]);
    let answer = Answer::Datagram(vec![Message::new(SOCK_DIAG_BY_FAMILY, longer)]);
    let (seen, summary) = dump_tcp(&mut FakeKernel::new([answer, done()]));
    assert_eq!((seen, summary.expect("a dump").malformed), (vec![socket(1)], 0));
}

#[test]
fn tcp_takes_one_walk_and_the_others_one_per_family() {
    let mut kernel = FakeKernel::new([done()]);
    assert_eq!(dump_tcp(&mut kernel).1.expect("a dump").walks, 1);
    assert_eq!(asked(&kernel.requests[0]), (TCPDIAG_GETSOCK, 0));

    for protocol in [Protocol::Udp, Protocol::UdpLite, Protocol::Mptcp] {
        let mut kernel = FakeKernel::new([datagram(&[socket(1)]), done(), datagram(&[socket6(2)]), done()]);
        let (seen, summary) = dump_all(&mut kernel, &DumpRequest::all(protocol));
        assert_eq!(summary.expect("a dump").walks, 2);
        let families: Vec<_> = kernel.requests.iter().map(|r| asked(r)).collect();
        assert_eq!(families, [(SOCK_DIAG_BY_FAMILY, 2), (SOCK_DIAG_BY_FAMILY, 10)]);
        assert_eq!(
            seen.iter().map(|r| (r.protocol, r.id.cookie.0)).collect::<Vec<_>>(),
            [(protocol, 1), (protocol, 2)]
        );
    }

    let mut kernel = FakeKernel::new([done()]);
    let request = DumpRequest::all(Protocol::Tcp).family(Family::Inet6);
    assert_eq!(dump_all(&mut kernel, &request).1.expect("a dump").walks, 1);
    assert_eq!(asked(&kernel.requests[0]), (SOCK_DIAG_BY_FAMILY, 10));
}

#[test]
fn a_refused_walk_of_both_families_becomes_two() {
    let refusals = [Message::error(libc::EINVAL), Message::done(-libc::EOPNOTSUPP)];
    for refused in refusals {
        let mut kernel = FakeKernel::new([
            Answer::Datagram(vec![refused]),
            datagram(&[socket(1)]),
            done(),
            datagram(&[socket6(2)]),
            done(),
        ]);
        let (seen, summary) = dump_tcp(&mut kernel);
        assert_eq!(seen, [socket(1), socket6(2)]);
        assert_eq!(summary.expect("a dump").walks, 2);
        assert_eq!(kernel.requests.len(), 3);
    }
}

#[test]
fn a_refusal_after_records_is_an_error() {
    let mut kernel = FakeKernel::new([
        datagram(&[socket(1)]),
        Answer::Datagram(vec![Message::done(-libc::EINVAL)]),
        done(),
        done(),
    ]);
    let (seen, result) = dump_tcp(&mut kernel);
    assert_eq!(seen, [socket(1)]);
    assert!(result.is_err_and(|e| e.refusal().is_some()));
    assert_eq!(kernel.requests.len(), 1, "no second walk that repeats records");
}

#[test]
fn a_refused_second_family_is_an_error() {
    let mut kernel = FakeKernel::new([
        datagram(&[socket(1)]),
        done(),
        Answer::Datagram(vec![Message::error(libc::ENOENT)]),
    ]);
    let (seen, result) = dump_all(&mut kernel, &DumpRequest::all(Protocol::Udp));
    assert_eq!(seen.len(), 1);
    assert!(result.is_err_and(|e| e.refusal().is_some_and(|errno| errno.0 == libc::ENOENT)));
}

#[test]
fn break_stops_the_callback_and_drains_the_answer() {
    let mut kernel = FakeKernel::new([
        datagram(&records(0..4)),
        datagram(&records(4..8)),
        done(),
        datagram(&records(8..9)),
    ]);
    let mut seen = 0;
    let request = DumpRequest::all(Protocol::Udp);
    let summary = dump(&mut kernel, &request, &mut RecvBuffer::new(), |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let summary = summary.expect("a dump");
    assert_eq!((seen, summary.records), (2, 2));
    assert_eq!((summary.datagrams, kernel.unread()), (3, 1), "the answer is read to its end");
    assert_eq!(kernel.requests.len(), 1, "no walk of the second family");
}

#[test]
fn a_source_that_holds_more_than_was_asked_for_is_narrowed() {
    /// Answers everything with the same records, as a capture may.
    struct Everything(FakeKernel);
    impl Source for Everything {
        fn send(&mut self, request: &mut [u8]) -> Result<Exchange> {
            self.0.send(request)
        }
        fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize> {
            self.0.receive(buffer)
        }
        fn runs_filters(&self) -> bool {
            false
        }
    }
    let bound = {
        let mut bound = listener(&socket(5), 5);
        bound.state = SocketState::Close;
        bound
    };
    let all = [socket(1), socket6(2), listener(&socket(3), 3), listener(&socket6(4), 4), bound];
    for (request, expected) in [
        (DumpRequest::all(Protocol::Tcp), vec![1, 2, 3, 4, 5]),
        (DumpRequest::all(Protocol::Tcp).family(Family::Inet6), vec![2, 4]),
        (DumpRequest::all(Protocol::Tcp).states(StateSet::LISTEN), vec![3, 4]),
        (DumpRequest::all(Protocol::Tcp).states(StateSet::BOUND_INACTIVE), vec![5]),
        (DumpRequest::all(Protocol::Tcp).states(StateSet::of(&[SocketState::Close])), vec![]),
        (DumpRequest::all(Protocol::Tcp).family(Family::Inet).states(StateSet::LISTEN), vec![3]),
    ] {
        let mut source = Everything(FakeKernel::new([datagram(&all), done()]));
        let (seen, summary) = dump_all(&mut source, &request);
        let cookies: Vec<u64> = seen.iter().map(|r| r.id.cookie.0).collect();
        assert_eq!(cookies, expected, "{request:?}");
        assert_eq!(summary.expect("a dump").records, expected.len() as u64);
    }
}

#[test]
fn a_recording_passes_everything_on() {
    let mut kernel = FakeKernel::new([datagram(&records(0..3)), done()]);
    let mut writer = sock_diag::CaptureWriter::new(Vec::new()).expect("a Vec takes everything");
    let (seen, _) = dump_all(&mut Recording::new(&mut kernel, &mut writer), &DumpRequest::all(Protocol::Tcp));
    assert_eq!(seen, records(0..3));
}
