//! Lookups from a kernel that answers in bytes: found, gone, and what only looks like the socket.

mod sample;

use sample::{listener, socket};
use sock_diag::fake::{Answer, FakeKernel, Message};
use sock_diag::{
    Cookie, Error, Family, NlMsgs, Protocol, RecvBuffer, Result, SocketId, SocketRecord, SocketState,
    destroy, lookup,
};

fn one(message: Message) -> Answer {
    Answer::Datagram(vec![message])
}

fn look(kernel: &mut FakeKernel, protocol: Protocol, id: &SocketId) -> Result<Option<SocketRecord>> {
    lookup(kernel, protocol, Family::Inet, id, &mut RecvBuffer::new())
}

fn udp(n: u16) -> SocketRecord {
    let mut record = socket(n);
    record.protocol = Protocol::Udp;
    record
}

#[test]
fn the_socket_itself_is_found() {
    let record = socket(1);
    for id in [record.id, record.id.with_any_cookie()] {
        let mut kernel = FakeKernel::new([one(Message::record(&record))]);
        assert_eq!(look(&mut kernel, Protocol::Tcp, &id).expect("an answer"), Some(record));
        assert_eq!(kernel.requests.len(), 1);
    }
}

#[test]
fn a_connection_that_is_gone_is_none_by_one_request() {
    for errno in [libc::ENOENT, libc::ESTALE] {
        let mut kernel = FakeKernel::new([one(Message::error(errno))]);
        assert_eq!(look(&mut kernel, Protocol::Tcp, &socket(1).id).expect("an answer"), None);
        assert_eq!(kernel.requests.len(), 1);
    }
}

#[test]
fn a_listener_offered_for_a_gone_connection_is_not_it() {
    let record = socket(1);
    for id in [record.id, record.id.with_any_cookie()] {
        let mut kernel = FakeKernel::new([one(Message::record(&listener(&record, 9)))]);
        assert_eq!(look(&mut kernel, Protocol::Tcp, &id).expect("an answer"), None);
    }
}

#[test]
fn a_wildcard_listener_is_not_the_one_on_an_address() {
    let asked = listener(&socket(1), 9);
    let mut wildcard = asked;
    wildcard.id.local_address = std::net::Ipv4Addr::UNSPECIFIED.into();
    let mut kernel = FakeKernel::new([one(Message::record(&wildcard))]);
    assert_eq!(look(&mut kernel, Protocol::Tcp, &asked.id.with_any_cookie()).expect("an answer"), None);
}

#[test]
fn a_dump_decides_where_the_kernel_cannot_look_up() {
    let shared = listener(&socket(1), 9);
    let mut bound = listener(&socket(2), 10);
    bound.state = SocketState::Close;
    let udp = udp(3);
    for record in [shared, bound, udp] {
        let other = Message::record(&listener(&record, 99));
        let mut kernel = FakeKernel::new([
            one(Message::error(libc::ESTALE)),
            Answer::Datagram(vec![other.clone(), Message::record(&record), Message::done(0)]),
        ]);
        assert_eq!(look(&mut kernel, record.protocol, &record.id).expect("an answer"), Some(record));
        assert_eq!(kernel.requests.len(), 2);

        let mut kernel = FakeKernel::new([
            one(Message::error(libc::ENOENT)),
            Answer::Datagram(vec![other, Message::done(0)]),
        ]);
        assert_eq!(look(&mut kernel, record.protocol, &record.id).expect("an answer"), None);

        let mut kernel = FakeKernel::new([one(Message::error(libc::ENOENT))]);
        let any = record.id.with_any_cookie();
        assert_eq!(look(&mut kernel, record.protocol, &any).expect("an answer"), None, "any: no dump");
    }
}

/// The ports a request asks with.
fn ports(request: &[u8]) -> (u16, u16) {
    let message = NlMsgs::new(request).next().expect("a message").expect("well formed");
    let port = |at: usize| u16::from_be_bytes([message.payload[at], message.payload[at + 1]]);
    (port(8), port(10))
}

#[test]
fn udp_is_looked_up_as_a_packet_and_destroyed_as_a_socket() {
    let record = udp(1);
    let mut kernel = FakeKernel::new([one(Message::record(&record)), one(Message::error(0))]);
    assert_eq!(look(&mut kernel, Protocol::Udp, &record.id).expect("an answer"), Some(record));
    let gone = destroy(&mut kernel, Protocol::Udp, Family::Inet, &record.id, &mut RecvBuffer::new());
    assert!(gone.expect("an answer"));
    assert_eq!(ports(&kernel.requests[0]), (record.id.remote_port, record.id.local_port));
    assert_eq!(ports(&kernel.requests[1]), (record.id.local_port, record.id.remote_port));
}

#[test]
fn destroying_tells_what_happened() {
    let id = socket(1).id;
    let run = |errno| {
        let mut kernel = FakeKernel::new([one(Message::error(errno))]);
        destroy(&mut kernel, Protocol::Tcp, Family::Inet, &id, &mut RecvBuffer::new())
    };
    assert!(run(0).expect("an answer"));
    assert!(!run(libc::ENOENT).expect("an answer"));
    assert!(!run(libc::ESTALE).expect("an answer"));
    assert!(run(libc::EPERM).is_err_and(|e| e.refusal().is_some_and(|errno| errno.0 == libc::EPERM)));
}

#[test]
fn other_answers_are_errors_and_others_answers_no_answer() {
    let id = socket(1).id;
    let refused = look(&mut FakeKernel::new([one(Message::error(libc::EACCES))]), Protocol::Tcp, &id);
    assert!(refused.is_err_and(|e| e.refusal().is_some()));
    let short = look(&mut FakeKernel::new([one(Message::new(20, vec![0; 71]))]), Protocol::Tcp, &id);
    assert!(matches!(short, Err(Error::Malformed { .. })));
    let unknown = look(&mut FakeKernel::new([one(Message::new(99, vec![0; 72]))]), Protocol::Tcp, &id);
    assert!(matches!(unknown, Err(Error::Malformed { .. })));
    let cut = look(&mut FakeKernel::new([Answer::Cut(vec![0; 16], 40_000)]), Protocol::Tcp, &id);
    assert!(matches!(cut, Err(Error::Truncated { .. })));
    let overrun = look(&mut FakeKernel::new([Answer::Overrun]), Protocol::Tcp, &id);
    assert!(matches!(overrun, Err(Error::Overrun { .. })));

    let mut stale = Message::record(&socket(1));
    stale.sequence = Some(0);
    let mut kernel = FakeKernel::new([one(stale), one(Message::error(libc::ENOENT))]);
    assert_eq!(look(&mut kernel, Protocol::Tcp, &id).expect("an answer"), None);
    assert_eq!(id.cookie, Cookie(1));
}
