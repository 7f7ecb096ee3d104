//! The picture of the ports: what holds each, of several the firmest.

use sock_diag::{Protocol, SocketRecord, SocketState};
use sockeye_core::{DestinationId, PortHolder, PortMap, PortRange, Settings};

use crate::world;

fn record(state: SocketState, port: u16, remote: &'static str, remote_port: u16) -> SocketRecord {
    world::record(state, "10.0.0.7", port, remote, remote_port)
}

#[test]
fn the_firmest_holder_is_told() {
    let settings = Settings {
        port_range: Some(PortRange { first: 1000, last: 1009 }),
        reserved_ports: Some([1001].into_iter().collect()),
        ..Settings::default()
    };
    let mut map = PortMap::new(&settings, Protocol::Tcp, None);
    map.observe(&record(SocketState::TimeWait, 1000, "10.0.9.1", 80));
    map.observe(&record(SocketState::TimeWait, 1002, "10.0.9.1", 80));
    map.observe(&record(SocketState::Established, 1002, "10.0.9.2", 80));
    map.observe(&record(SocketState::Established, 1003, "10.0.9.2", 80));
    map.observe_bound(1003);
    map.observe(&record(SocketState::Close, 1004, "0.0.0.0", 0));
    map.observe(&record(SocketState::Listen, 1004, "0.0.0.0", 0));
    map.observe(&record(SocketState::Established, 1001, "10.0.9.2", 80));
    map.observe(&record(SocketState::Established, 80, "10.0.9.2", 8000));
    let runs: Vec<_> = map.runs().into_iter().map(|(run, holder)| (run, holder.name())).collect();
    let expected = [
        (1000..=1000, "time_wait"),
        (1001..=1001, "reserved"),
        (1002..=1002, "live"),
        (1003..=1003, "bound_by_number"),
        (1004..=1004, "listener"),
        (1005..=1009, "free"),
    ];
    assert_eq!(runs, expected);
    assert_eq!((map.half(true), map.half(false)), ((5, 2), (4, 3)));
    assert_eq!(PortHolder::ALL.iter().map(|holder| map.count(*holder)).sum::<u32>(), 10);
    assert_eq!(map.holder(80), PortHolder::Live);
    assert_eq!(map.taken_by(1001), PortHolder::Live, "who has a reserved port is not forgotten");
}

#[test]
fn towards_one_destination_others_do_not_count() {
    let id = DestinationId {
        protocol: Protocol::Tcp,
        local_address: [10, 0, 0, 7].into(),
        remote_address: [10, 0, 9, 1].into(),
        remote_port: 80,
    };
    let mut map = PortMap::new(&Settings::default(), Protocol::Tcp, Some(id));
    map.observe(&record(SocketState::Established, 40_000, "10.0.9.1", 80));
    map.observe(&record(SocketState::Established, 40_001, "10.0.9.2", 80));
    map.observe(&record(SocketState::Listen, 40_002, "0.0.0.0", 0));
    let holders = [40_000, 40_001, 40_002].map(|port| map.holder(port));
    assert_eq!(holders, [PortHolder::Live, PortHolder::Free, PortHolder::Listener]);
}

#[test]
fn an_empty_range_has_no_runs() {
    let settings = Settings { port_range: Some(PortRange { first: 9, last: 3 }), ..Settings::default() };
    let map = PortMap::new(&settings, Protocol::Tcp, None);
    assert_eq!((map.runs(), map.half(true), map.count(PortHolder::Free)), (vec![], (0, 0), 0));
}
