//! Sockets that exist only in tests: one by number, or any at all.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use sock_diag::{
    Cookie, DumpRequest, DumpSummary, Family, Protocol, RecvBuffer, Result, SocketId, SocketOptions,
    SocketRecord, SocketState, Source, Timer, TimerKind, dump,
};

/// Failures are kept beside the test that found them, and tried first the next time.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    let beside = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(beside)), ..ProptestConfig::with_cases(cases) }
}

/// An established IPv4 TCP socket; `n` is its cookie and, in part, its port.
pub(crate) fn socket(n: u16) -> SocketRecord {
    SocketRecord {
        protocol: Protocol::Tcp,
        family: Family::Inet,
        state: SocketState::Established,
        id: SocketId {
            local_address: Ipv4Addr::new(10, 0, 0, 7).into(),
            local_port: 30_000 + n,
            remote_address: Ipv4Addr::new(10, 0, 9, 12).into(),
            remote_port: 8080,
            interface: None,
            cookie: Cookie(n.into()),
        },
        timer: Timer { kind: TimerKind::Keepalive, expires_ms: 7_000, retransmits: 0 },
        rqueue_bytes: 1,
        wqueue_bytes: 2,
        uid: Some(1000),
        inode: NonZeroU32::new(50_000 + u32::from(n)),
        mark: None,
        cgroup_id: Some(77),
        options: Some(SocketOptions(1 << 8)),
        shutdown: Some(0),
    }
}

/// The same over IPv6.
pub(crate) fn socket6(n: u16) -> SocketRecord {
    let mut record = socket(n);
    record.family = Family::Inet6;
    record.id.local_address = Ipv6Addr::LOCALHOST.into();
    record.id.remote_address = Ipv6Addr::LOCALHOST.into();
    record
}

/// A listener on the local port of `record`.
pub(crate) fn listener(record: &SocketRecord, cookie: u64) -> SocketRecord {
    let mut listener = *record;
    listener.state = SocketState::Listen;
    listener.id.remote_address = match record.family {
        Family::Inet => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    listener.id.remote_port = 0;
    listener.id.cookie = Cookie(cookie);
    listener
}

/// Every record a dump hands on, and what was told of it.
pub(crate) fn dump_all(
    source: &mut dyn Source,
    request: &DumpRequest<'_>,
) -> (Vec<SocketRecord>, Result<DumpSummary>) {
    let mut records = Vec::new();
    let result = dump(source, request, &mut RecvBuffer::new(), |diag| {
        records.push(diag.to_record());
        ControlFlow::Continue(())
    });
    (records, result)
}

fn address(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::Inet => any::<Ipv4Addr>().prop_map(IpAddr::V4).boxed(),
        // An unknown family's address is read as 16 bytes.
        _ => prop_oneof![any::<Ipv6Addr>(), any::<Ipv4Addr>().prop_map(|v4| v4.to_ipv6_mapped()),]
            .prop_map(IpAddr::V6)
            .boxed(),
    }
}

fn id() -> impl Strategy<Value = (Family, SocketId)> {
    let families = prop_oneof![
        4 => Just(Family::Inet),
        4 => Just(Family::Inet6),
        1 => any::<u8>().prop_map(Family::from_raw),
    ];
    families.prop_flat_map(|family| {
        (address(family), any::<u16>(), address(family), any::<u16>(), any::<u32>(), any::<u64>()).prop_map(
            move |(local_address, local_port, remote_address, remote_port, interface, cookie)| {
                let interface = NonZeroU32::new(interface);
                let cookie = Cookie(cookie);
                (
                    family,
                    SocketId { local_address, local_port, remote_address, remote_port, interface, cookie },
                )
            },
        )
    })
}

/// Any record the kernel could send: mini and request sockets have no owner, all others have one.
pub(crate) fn any_record() -> impl Strategy<Value = SocketRecord> {
    let state = prop_oneof![3 => 1u8..14, 1 => any::<u8>()].prop_map(SocketState::from_raw);
    let timer = (prop_oneof![3 => 0u8..5, 1 => any::<u8>()], any::<u32>(), any::<u8>()).prop_map(
        |(kind, expires_ms, retransmits)| Timer { kind: TimerKind::from_raw(kind), expires_ms, retransmits },
    );
    let owner = (any::<u32>(), prop_oneof![Just(0), any::<u32>()]);
    let attributes = (any::<Option<u32>>(), any::<Option<u64>>(), any::<Option<u16>>(), any::<Option<u8>>());
    (id(), state, timer, any::<[u32; 2]>(), owner, attributes).prop_map(
        |((family, id), state, timer, [rqueue_bytes, wqueue_bytes], (uid, inode), attributes)| {
            let (mark, cgroup_id, options, shutdown) = attributes;
            let inode = NonZeroU32::new(inode);
            let ownerless =
                timer.kind == TimerKind::TimeWait || state == SocketState::SynRecv && inode.is_none();
            SocketRecord {
                protocol: Protocol::Tcp,
                family,
                state,
                id,
                timer,
                rqueue_bytes,
                wqueue_bytes,
                uid: (!ownerless).then_some(uid),
                inode,
                mark,
                cgroup_id,
                options: options.map(SocketOptions),
                shutdown,
            }
        },
    )
}
