//! Sockets that never were, as records and as the bytes the kernel would send: the same ones every time.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;

use sock_diag::{
    Cookie, DiagMsg, Family, NlMsgs, Protocol, SocketId, SocketOptions, SocketRecord, SocketState, Timer,
    TimerKind, fake,
};

/// `SOCK_DIAG_BY_FAMILY`, the type of every record in an answer.
const RECORD: u16 = 20;

/// Filters from short to long, as people type them.
pub const FILTERS: [&str; 4] = [
    "dport = :443",
    "state established dst 10.0.0.0/8",
    "( dport = :443 or dport = :8443 ) and not src 127.0.0.0/8",
    "state connected exclude time-wait ( sport 1024-4095 or dst 10.1.0.0/16:8080 or dst [fe80::]/10 ) and not \
     ( dev 3 or fwmark 1/0xff or cgroup id:5 )",
];

/// `count` outgoing TCP sockets towards as many as `destinations`, in hash order: destinations, ports and ages mixed,
/// a third of them in TIME_WAIT. They tell what the kernel tells root.
pub fn records(count: u32, destinations: u32) -> Vec<SocketRecord> {
    (0..count).map(|index| record(index, destinations)).collect()
}

/// The one with this index.
pub fn record(index: u32, destinations: u32) -> SocketRecord {
    let mixed = (u64::from(index) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let destination = (mixed >> 33) as u32 % destinations.max(1);
    let time_wait = index.is_multiple_of(3);
    SocketRecord {
        protocol: Protocol::Tcp,
        family: Family::Inet,
        state: if time_wait { SocketState::TimeWait } else { SocketState::Established },
        id: SocketId {
            local_address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
            local_port: 32_768 + ((mixed >> 12) % 28_232) as u16,
            remote_address: IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + destination)),
            remote_port: 8_080,
            interface: None,
            cookie: Cookie(u64::from(index) + 1),
        },
        timer: Timer {
            kind: if time_wait { TimerKind::TimeWait } else { TimerKind::Off },
            expires_ms: if time_wait { mixed as u32 % 60_000 } else { 0 },
            retransmits: 0,
        },
        rqueue_bytes: 0,
        wqueue_bytes: 0,
        uid: (!time_wait).then_some(1000),
        inode: if time_wait { None } else { NonZeroU32::new(index + 1) },
        mark: Some(0),
        cgroup_id: (!time_wait).then_some(1),
        options: (!time_wait).then_some(SocketOptions(1 << 8)),
        shutdown: (!time_wait).then_some(0),
    }
}

/// One long datagram of these records, each message as the kernel would send it.
pub fn answer(records: &[SocketRecord]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for record in records {
        let payload = fake::record_bytes(record);
        let length = 16 + payload.len() as u32;
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&RECORD.to_ne_bytes());
        bytes.extend_from_slice(&(libc::NLM_F_MULTI as u16).to_ne_bytes());
        // Sequence and port id, which whoever only decodes does not look at.
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// Decodes an answer as a dump does, and hands on every record.
#[inline]
pub fn decode(answer: &[u8], mut each: impl FnMut(SocketRecord)) {
    for message in NlMsgs::new(answer) {
        if let Some(diag) = message.ok().and_then(|message| DiagMsg::parse(message.payload, Protocol::Tcp)) {
            each(diag.to_record());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bytes_decode_to_their_records() {
        let records = records(1_000, 10);
        let mut decoded = Vec::new();
        decode(&answer(&records), |record| decoded.push(record));
        assert_eq!(decoded, records);
    }

    #[test]
    fn sizes_are_the_kernels() {
        let length = |index| answer(&[record(index, 1)]).len();
        assert_eq!((length(0), length(1)), (96, 124), "TIME_WAIT and established, as root sees them");
    }

    #[test]
    fn destinations_are_as_many_as_asked_for() {
        let remotes: HashSet<_> =
            records(10_000, 100).iter().map(|record| record.id.remote_address).collect();
        assert_eq!(remotes.len(), 100);
    }
}
