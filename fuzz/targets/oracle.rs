//! Differential: where netlink-packet-sock-diag decodes a record, ours says the same.

use netlink_packet_core::Parseable;
use netlink_packet_sock_diag::inet::{InetResponse, Timer as OracleTimer, nlas::Nla};
use sock_diag::{DiagMsg, Protocol, TimerKind, attribute};

pub(super) fn run(bytes: &[u8]) {
    let Ok(theirs) = InetResponse::parse(bytes) else { return };
    let diag = DiagMsg::parse(bytes, Protocol::Tcp).expect("the oracle found 72 bytes");
    let ours = diag.to_record();
    let header = &theirs.header;

    assert_eq!(ours.family.raw(), header.family);
    assert_eq!(ours.state.raw(), header.state);
    assert_eq!(ours.id.local_address, header.socket_id.source_address);
    assert_eq!(ours.id.remote_address, header.socket_id.destination_address);
    assert_eq!(ours.id.local_port, header.socket_id.source_port);
    assert_eq!(ours.id.remote_port, header.socket_id.destination_port);
    assert_eq!(ours.id.interface.map_or(0, |i| i.get()), header.socket_id.interface_id);
    let (low, high) = (ours.id.cookie.0 as u32, (ours.id.cookie.0 >> 32) as u32);
    assert_eq!([low.to_ne_bytes(), high.to_ne_bytes()].concat(), header.socket_id.cookie);
    assert_eq!(ours.rqueue_bytes, header.recv_queue);
    assert_eq!(ours.wqueue_bytes, header.send_queue);
    assert_eq!(ours.inode.map_or(0, |i| i.get()), header.inode);
    // Ours says None where nobody owns the socket; theirs passes the kernel's 0 on.
    assert!(ours.uid.is_none_or(|uid| uid == header.uid));
    match header.timer {
        None => assert!(matches!(ours.timer.kind, TimerKind::Off | TimerKind::Unknown(_))),
        Some(OracleTimer::Retransmit(left, retransmits)) => {
            assert_eq!((ours.timer.kind, ours.timer.retransmits), (TimerKind::Retransmit, retransmits));
            assert_eq!(u128::from(ours.timer.expires_ms), left.as_millis());
        }
        Some(OracleTimer::KeepAlive(left)) => {
            assert_eq!(ours.timer.kind, TimerKind::Keepalive);
            assert_eq!(u128::from(ours.timer.expires_ms), left.as_millis());
        }
        Some(OracleTimer::TimeWait) => assert!(ours.is_mini()),
        Some(OracleTimer::Probe(left)) => {
            assert_eq!(ours.timer.kind, TimerKind::Probe);
            assert_eq!(u128::from(ours.timer.expires_ms), left.as_millis());
        }
    }

    assert_eq!(diag.attributes().count(), theirs.nlas.len());
    // Of repeated attributes the record holds the last, a direct question answers with the first.
    for nla in theirs.nlas.iter().rev() {
        match nla {
            Nla::TcpInfo(info) => assert!(diag.attributes().any(|a| a.payload == info)),
            Nla::MemInfo(theirs) if count(&diag, attribute::SKMEMINFO) == 1 => {
                let ours = diag.memory().expect("the oracle read it");
                assert_eq!(
                    [ours.receive_bytes, ours.receive_limit_bytes, ours.send_bytes, ours.send_limit_bytes],
                    [
                        theirs.receive_queue,
                        theirs.receive_queue_max,
                        theirs.bottom_send_queues,
                        theirs.send_queue_max
                    ]
                );
                assert_eq!(
                    [ours.forward_bytes, ours.send_queued_bytes, ours.option_bytes, ours.backlog_bytes],
                    [theirs.cache, theirs.send_queue, theirs.options, theirs.backlog_queue_length]
                );
                assert_eq!(ours.drops, Some(theirs.drops));
            }
            Nla::Congestion(name) if count(&diag, attribute::CONG) == 1 && !name.contains('\0') => {
                assert_eq!(diag.congestion(), Some(name.as_bytes()));
            }
            Nla::Shutdown(how) if count(&diag, attribute::SHUTDOWN) == 1 => {
                assert_eq!(ours.shutdown, Some(*how));
            }
            Nla::Protocol(protocol) if count(&diag, attribute::PROTOCOL) == 1 => {
                assert_eq!(ours.protocol.raw(), u16::from(*protocol));
            }
            Nla::SkV6Only(only) if count(&diag, attribute::SKV6ONLY) == 1 => {
                assert_eq!(diag.v6_only(), Some(*only));
            }
            Nla::Mark(mark) if count(&diag, attribute::MARK) == 1 => assert_eq!(ours.mark, Some(*mark)),
            _ => {}
        }
    }
}

fn count(diag: &DiagMsg<'_>, kind: u16) -> usize {
    diag.attributes().filter(|a| a.kind == kind).count()
}
