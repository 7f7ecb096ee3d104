//! Records: what the kernel writes is what is read, whatever surrounds it; and the same as an oracle reads.

mod sample;

use netlink_packet_core::Parseable;
use netlink_packet_sock_diag::inet::{InetResponse, nlas::Nla};
use proptest::prelude::*;
use sock_diag::fake::record_bytes;
use sock_diag::{DiagMsg, Protocol, SocketRecord, attribute};

fn attribute_bytes(kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = ((payload.len() + 4) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn decode(bytes: &[u8]) -> SocketRecord {
    DiagMsg::parse(bytes, Protocol::Tcp).expect("72 bytes").to_record()
}

proptest! {
    #![proptest_config(sample::config(256))]

    #[test]
    fn a_record_survives_the_wire(record in sample::any_record()) {
        prop_assert_eq!(decode(&record_bytes(&record)), record);
    }

    #[test]
    fn unknown_attributes_are_kept_and_change_nothing(
        record in sample::any_record(),
        kind in 23u16..0x3fff,
        payload in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let known = record_bytes(&record);
        let unknown = attribute_bytes(kind, &payload);
        // Before the known ones and behind them.
        let before = [&known[..72], &unknown, &known[72..]].concat();
        let behind = [&known[..], &unknown].concat();
        for bytes in [before, behind] {
            prop_assert_eq!(decode(&bytes), record);
            let diag = DiagMsg::parse(&bytes, Protocol::Tcp).expect("72 bytes");
            prop_assert_eq!(diag.attribute(kind), Some(&payload[..]));
        }
    }

    #[test]
    fn a_malformed_tail_costs_only_itself(
        record in sample::any_record(),
        length in prop_oneof![0u16..4, 100u16..],
        tail in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut bytes = record_bytes(&record);
        bytes.extend(length.to_ne_bytes());
        bytes.extend(attribute::MARK.to_ne_bytes());
        bytes.extend(&tail);
        prop_assert_eq!(decode(&bytes), record);
    }

    #[test]
    fn every_prefix_is_read_or_refused(record in sample::any_record()) {
        let bytes = record_bytes(&record);
        for length in 0..bytes.len() {
            match DiagMsg::parse(&bytes[..length], Protocol::Tcp) {
                None => prop_assert!(length < 72),
                Some(diag) => {
                    let cut = diag.to_record();
                    prop_assert_eq!((cut.id, cut.uid, cut.inode), (record.id, record.uid, record.inode));
                }
            }
        }
    }

    #[test]
    fn the_oracle_reads_the_same(record in sample::any_record()) {
        let bytes = record_bytes(&record);
        let Ok(theirs) = InetResponse::parse(&bytes) else {
            prop_assert!(matches!(record.family, sock_diag::Family::Unknown(_)), "the oracle refused a record");
            return Ok(());
        };
        let header = &theirs.header;
        prop_assert_eq!(header.state, record.state.raw());
        prop_assert_eq!(header.socket_id.source_address, record.id.local_address);
        prop_assert_eq!(header.socket_id.destination_address, record.id.remote_address);
        prop_assert_eq!(header.socket_id.source_port, record.id.local_port);
        prop_assert_eq!(header.socket_id.destination_port, record.id.remote_port);
        prop_assert_eq!(u64::from_ne_bytes(header.socket_id.cookie), record.id.cookie.0);
        prop_assert_eq!(header.recv_queue, record.rqueue_bytes);
        prop_assert_eq!(header.send_queue, record.wqueue_bytes);
        prop_assert_eq!(header.uid, record.uid.unwrap_or(0));
        prop_assert_eq!(header.inode, record.inode.map_or(0, |i| i.get()));
        let mark = theirs.nlas.iter().find_map(|nla| match nla { Nla::Mark(mark) => Some(*mark), _ => None });
        prop_assert_eq!(mark, record.mark);
        let shutdown = theirs.nlas.iter().find_map(|n| match n { Nla::Shutdown(how) => Some(*how), _ => None });
        prop_assert_eq!(shutdown, record.shutdown);
    }
}

#[test]
fn the_attribute_names_the_protocol_but_for_mptcp() {
    let mut bytes = record_bytes(&sample::socket(1));
    bytes.extend(attribute_bytes(attribute::PROTOCOL, &[17]));
    assert_eq!(decode(&bytes).protocol, Protocol::Udp);
    let mptcp = DiagMsg::parse(&bytes, Protocol::Mptcp).expect("72 bytes");
    assert_eq!(mptcp.to_record().protocol, Protocol::Mptcp);
}

#[test]
fn short_and_long_memory_and_flagged_attribute_numbers_are_read() {
    let words: Vec<u8> = (1u32..=10).flat_map(u32::to_ne_bytes).collect();
    for (length, drops) in [(7, None), (8, None), (9, Some(9)), (10, Some(9))] {
        let mut bytes = record_bytes(&sample::socket(1));
        // NLA_F_NESTED and NLA_F_NET_BYTEORDER are no part of the number.
        bytes.extend(attribute_bytes(attribute::SKMEMINFO | 0xc000, &words[..length * 4]));
        let memory = DiagMsg::parse(&bytes, Protocol::Tcp).and_then(|d| d.memory()).expect("memory");
        assert_eq!((memory.receive_bytes, memory.option_bytes, memory.drops), (1, 7, drops));
        assert_eq!(memory.backlog_bytes, if length > 7 { 8 } else { 0 });
    }
    let mut bytes = record_bytes(&sample::socket(1));
    bytes.extend(attribute_bytes(attribute::SKMEMINFO, &words[..24]));
    assert_eq!(DiagMsg::parse(&bytes, Protocol::Tcp).and_then(|d| d.memory()), None);
}

#[test]
fn names_end_at_their_nul() {
    let mut bytes = record_bytes(&sample::socket(1));
    bytes.extend(attribute_bytes(attribute::CONG, b"cubic\0\0\0"));
    bytes.extend(attribute_bytes(attribute::ULP_INFO, &attribute_bytes(1, b"tls\0")));
    bytes.extend(attribute_bytes(attribute::SKV6ONLY, &[1]));
    let diag = DiagMsg::parse(&bytes, Protocol::Tcp).expect("72 bytes");
    assert_eq!(diag.congestion(), Some(&b"cubic"[..]));
    assert_eq!(diag.upper_layer(), Some(&b"tls"[..]));
    assert_eq!(diag.v6_only(), Some(true));
}
