//! Small random worlds of sockets: few ports, few addresses, so that everything collides.

use std::net::SocketAddr;
use std::num::NonZeroU32;

use proptest::prelude::*;
use sock_diag::fake::tcp_record;
use sock_diag::{Cookie, Protocol, SocketOptions, SocketRecord, SocketState, Timer, TimerKind};
use sockeye_core::{Counters, PortRange, PortSet, Report, Settings, Sweep, TwReuse};

pub(crate) const LOCALS: [&str; 8] =
    ["10.0.0.7", "::ffff:10.0.0.7", "10.0.0.8", "127.0.0.1", "::1", "2001:db8::7", "0.0.0.0", "::"];
const REMOTES: [&str; 6] =
    ["10.0.9.1", "::ffff:10.0.9.1", "10.0.9.2", "127.0.0.1", "10.0.0.7", "2001:db8::9"];

/// A record with these ends; everything else unremarkable.
pub(crate) fn record(
    state: SocketState,
    local: &str,
    local_port: u16,
    remote: &str,
    remote_port: u16,
) -> SocketRecord {
    let at = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
    tcp_record(state, at(local, local_port), at(remote, remote_port))
}

/// A TIME_WAIT record with this long to go.
pub(crate) fn time_wait(
    local: &str,
    local_port: u16,
    remote: &str,
    remote_port: u16,
    expires_ms: u32,
) -> SocketRecord {
    let mut record = record(SocketState::TimeWait, local, local_port, remote, remote_port);
    record.timer = Timer { kind: TimerKind::TimeWait, expires_ms, retransmits: 0 };
    record
}

/// The same records, each with a cookie of its own.
pub(crate) fn numbered(mut records: Vec<SocketRecord>) -> Vec<SocketRecord> {
    for (index, record) in records.iter_mut().enumerate() {
        record.id.cookie = Cookie(index as u64 + 1);
    }
    records
}

pub(crate) fn settings(first: u16, last: u16) -> Settings {
    Settings {
        port_range: Some(PortRange { first, last }),
        reserved_ports: Some(PortSet::new()),
        tw_reuse: TwReuse::LoopbackOnly,
        tw_reuse_delay_ms: Some(1_000),
        timestamps: Some(true),
        max_tw_buckets: Some(262_144),
    }
}

pub(crate) fn report(settings: &Settings, records: &[SocketRecord]) -> Report {
    let mut sweep = Sweep::new(settings);
    records.iter().for_each(|record| sweep.observe(record));
    sweep.finish(&Counters::default())
}

prop_compose! {
    pub(crate) fn any_settings()(
        first in 1000u16..1004,
        len in 1u16..40,
        reserved in prop::collection::vec(995u16..1050, 0..6),
        tw_reuse in 0u32..4,
        tw_reuse_delay_ms in prop::option::of(prop_oneof![Just(1_000u32), 0u32..3_000]),
        timestamps in prop::option::of(any::<bool>()),
    ) -> Settings {
        Settings {
            port_range: Some(PortRange { first, last: first + len - 1 }),
            reserved_ports: Some(reserved.into_iter().collect()),
            tw_reuse: TwReuse::from_raw(tw_reuse),
            tw_reuse_delay_ms,
            timestamps,
            max_tw_buckets: None,
        }
    }
}

prop_compose! {
    fn any_record()(
        kind in 0u8..20,
        local in 0..LOCALS.len(),
        remote in 0..REMOTES.len(),
        local_port in prop_oneof![8 => 998u16..1045, 1 => Just(443u16), 1 => Just(0u16)],
        remote_port in prop_oneof![80u16..82, Just(1_010)],
        // Ages thick around the reuse delay and at both ends of the minute.
        expires_ms in prop_oneof![Just(0u32), 58_970u32..59_030, 57_000u32..60_010, 0u32..60_000],
        options in prop::option::of(prop_oneof![Just(0u16), Just(1 << 8)]),
        interface in 0u32..20,
        raw_state in any::<u8>(),
    ) -> SocketRecord {
        let state = match kind {
            0 => SocketState::Listen,
            1 => SocketState::Close,
            2 => SocketState::from_raw(raw_state),
            3..=9 => SocketState::TimeWait,
            10 | 11 => SocketState::FinWait2,
            12..=14 => SocketState::Close,
            _ => SocketState::Established,
        };
        let mut record = record(state, LOCALS[local], local_port, REMOTES[remote], remote_port);
        match kind {
            2 if state == SocketState::TimeWait => record.timer.expires_ms = expires_ms,
            3..=10 => record.timer = Timer { kind: TimerKind::TimeWait, expires_ms, retransmits: 0 },
            12..=13 => record.protocol = Protocol::Udp,
            14 => record.protocol = Protocol::from_raw(u16::from(raw_state)),
            15 => record.protocol = Protocol::Udp,
            _ => {}
        }
        record.options = options.map(SocketOptions);
        record.id.interface = NonZeroU32::new(if interface < 4 { interface } else { 0 });
        record
    }
}

/// Sockets with cookies of their own. Few listeners: one hides a whole port.
pub(crate) fn any_records() -> impl Strategy<Value = Vec<SocketRecord>> {
    prop::collection::vec(any_record(), 0..250).prop_map(numbered)
}

/// Many plain connections to few destinations, as a busy client has them: halves fill up.
pub(crate) fn busy_records() -> impl Strategy<Value = Vec<SocketRecord>> {
    let one = (1000u16..1040, 0..2usize, 0..3usize, any::<bool>(), 50_000u32..60_000, any::<bool>())
        .prop_map(|(port, local, remote, waits, expires_ms, marked)| {
            let (local, remote) =
                (["10.0.0.7", "127.0.0.1"][local], ["10.0.9.1", "10.0.9.2", "127.0.0.1"][remote]);
            let mut one = if waits {
                time_wait(local, port, remote, 80, expires_ms)
            } else {
                record(SocketState::Established, local, port, remote, 80)
            };
            one.options = Some(SocketOptions(if marked { 1 << 8 } else { 0 }));
            one
        });
    prop::collection::vec(one, 0..200).prop_map(numbered)
}
