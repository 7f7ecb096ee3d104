//! Dumps, lookups and sweeps held against a zoo: every socket that was opened, as it was opened, and no other.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod look;

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use look::records;
use sock_diag::{
    Cookie, DumpRequest, Family, Kernel, Protocol, RecvBuffer, SocketId, SocketRecord, SocketState, StateSet,
    lookup,
};
use sockeye_core::{PortRange, Report};
use sockeye_tests::{Namespace, ProcLine, Specimen, Zoo, ZooSpec, drop_privilege, proc_net, wait_until};

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::UdpLite];

fn zoo() -> Zoo {
    let zoo = Zoo::open(&ZooSpec::default()).unwrap();
    assert!(zoo.specimens.len() > 100, "{}", zoo.specimens.len());
    zoo
}

/// Everything there is, of every protocol the kernel has.
fn all_records(states: StateSet) -> Vec<SocketRecord> {
    PROTOCOLS.iter().flat_map(|protocol| records(&DumpRequest::all(*protocol).states(states))).collect()
}

fn ends(record: &SocketRecord) -> (SocketAddr, SocketAddr) {
    let id = &record.id;
    (SocketAddr::new(id.local_address, id.local_port), SocketAddr::new(id.remote_address, id.remote_port))
}

/// Whether this is the specimen's record, as far as its name and state go.
fn is_of(record: &SocketRecord, specimen: &Specimen) -> bool {
    (record.protocol, record.family, record.state) == (specimen.protocol, specimen.family, specimen.state)
        && ends(record) == (specimen.local, specimen.remote)
        && specimen.cookie.is_none_or(|cookie| cookie == record.id.cookie)
}

/// The one record of each specimen; panics unless the two sets are the same.
fn matched<'z>(zoo: &'z Zoo, records: &[SocketRecord]) -> Vec<(&'z Specimen, SocketRecord)> {
    let mut left: Vec<SocketRecord> = records.to_vec();
    let pairs = zoo.specimens.iter().map(|specimen| {
        let place = left.iter().position(|record| is_of(record, specimen));
        let place = place.unwrap_or_else(|| panic!("not dumped: {specimen:?}"));
        (specimen, left.swap_remove(place))
    });
    let pairs = pairs.collect();
    assert_eq!(left, [], "nobody opened these");
    pairs
}

/// The cookies of some records; every socket has one of its own.
fn cookies(records: &[SocketRecord]) -> HashSet<Cookie> {
    let cookies: HashSet<Cookie> = records.iter().map(|record| record.id.cookie).collect();
    assert_eq!(cookies.len(), records.len(), "a socket was told twice");
    cookies
}

#[test]
fn every_specimen_is_dumped_as_it_was_made() {
    Namespace::new().run(|| {
        let zoo = zoo();
        let all = all_records(StateSet::ALL);
        for (specimen, record) in matched(&zoo, &all) {
            assert_eq!(record.inode, specimen.inode, "{specimen:?}");
            assert_eq!(record.is_mini(), specimen.mini, "{specimen:?}");
            assert_eq!(record.id.interface, specimen.interface, "{specimen:?}");
            assert_eq!(record.mark, Some(specimen.mark), "{specimen:?}: root sees marks");
            let no_port = record.options.map(|options| options.bind_address_no_port());
            assert_eq!(no_port.unwrap_or(false), specimen.bind_address_no_port && no_port.is_some());
            // What a process holds tells everything.
            if specimen.descriptor().is_some() {
                assert_eq!(no_port, Some(specimen.bind_address_no_port), "{specimen:?}");
                assert_eq!(record.uid, Some(0), "{specimen:?}");
            }
            assert_eq!(record.is_bound_inactive(), specimen.is_bound_inactive(), "{specimen:?}");
            match specimen.what {
                "with 1000 bytes unread" if record.rqueue_bytes > 0 => assert_eq!(record.rqueue_bytes, 1000),
                "with 2000 bytes unacknowledged" if record.wqueue_bytes > 0 => {
                    assert_eq!(record.wqueue_bytes, 2000);
                }
                "closed first" => assert!((1..=60_000).contains(&record.timer.expires_ms)),
                _ => {}
            }
        }
        for (what, queue) in [
            ("with 1000 bytes unread", (|record| record.rqueue_bytes) as fn(&SocketRecord) -> u32),
            ("with 2000 bytes unacknowledged", |record| record.wqueue_bytes),
        ] {
            let pairs = matched(&zoo, &all);
            let full = pairs.iter().filter(|(specimen, record)| specimen.what == what && queue(record) > 0);
            let herds = pairs.iter().filter(|(specimen, _)| specimen.what == what).count() / 2;
            assert_eq!(full.count(), herds, "one end of each pair {what}");
        }
        eprintln!("{} specimens, each dumped once; missing here: {:?}", zoo.specimens.len(), zoo.missing);
    });
}

#[test]
fn an_ordinary_user_sees_the_same_but_marks() {
    Namespace::new().run(|| {
        let zoo = zoo();
        let before = all_records(StateSet::ALL);
        drop_privilege().unwrap();
        let after = all_records(StateSet::ALL);
        assert_eq!(cookies(&before), cookies(&after));
        matched(&zoo, &after);
        assert!(before.iter().all(|record| record.mark.is_some()));
        assert!(after.iter().all(|record| record.mark.is_none()));
    });
}

#[test]
fn one_walk_and_one_per_family_give_the_same() {
    Namespace::new().run(|| {
        let _zoo = zoo();
        let mut kernel = Kernel::open().unwrap();
        for protocol in PROTOCOLS {
            let request = DumpRequest::all(protocol);
            let (both, summary) = look::dumped(&mut kernel, &request);
            assert_eq!(summary.walks, if protocol == Protocol::Tcp { 1 } else { 2 }, "{protocol}");
            assert_eq!(summary.records as usize, both.len());
            let by_family = |family| look::dumped(&mut kernel, &request.clone().family(family)).0;
            let [four, six] = [Family::Inet, Family::Inet6].map(by_family);
            assert!(four.iter().all(|record| record.family == Family::Inet));
            assert!(six.iter().all(|record| record.family == Family::Inet6));
            let apart: Vec<SocketRecord> = four.into_iter().chain(six).collect();
            assert_eq!(cookies(&both), cookies(&apart), "{protocol}");
            // The same of each socket but for what goes on by itself.
            let of = |records: &[SocketRecord]| -> HashMap<Cookie, _> {
                records
                    .iter()
                    .map(|r| (r.id.cookie, (r.id, r.state, r.family, r.inode, r.uid, r.mark)))
                    .collect()
            };
            assert_eq!(of(&both), of(&apart), "{protocol}");
        }
    });
}

#[test]
fn a_mask_of_states_asks_for_exactly_those() {
    Namespace::new().run(|| {
        let zoo = zoo();
        let all = matched(&zoo, &all_records(StateSet::ALL));
        // Each state, each pair of states, and each state left out.
        let single: Vec<StateSet> = SocketState::all().map(|state| StateSet::of(&[state])).collect();
        let mut sets = single.clone();
        sets.extend(single.iter().flat_map(|a| single.iter().map(|b| a.union(*b))));
        sets.extend(single.iter().map(|one| StateSet::ALL.minus(*one)));
        sets.extend([StateSet::EMPTY, StateSet::ALL, StateSet::CONNECTED_DEFAULT]);
        for set in sets {
            let told = cookies(&all_records(set));
            for (specimen, record) in &all {
                assert_eq!(told.contains(&record.id.cookie), record.is_in(set), "{set:?}: {specimen:?}");
            }
            assert!(told.len() <= all.len());
        }
        let in_state = |state| all_records(StateSet::of(&[state])).len();
        for state in [
            SocketState::Established,
            SocketState::SynSent,
            SocketState::SynRecv,
            SocketState::FinWait1,
            SocketState::FinWait2,
            SocketState::TimeWait,
            SocketState::CloseWait,
            SocketState::LastAck,
            SocketState::Listen,
            SocketState::Closing,
        ] {
            assert!(in_state(state) > 0, "the zoo has {state}");
            assert_eq!(in_state(state), zoo.in_state(state).count(), "{state}");
        }
    });
}

#[test]
fn bound_and_idle_sockets_come_when_asked_for_and_only_then() {
    Namespace::new().run(|| {
        let zoo = zoo();
        let idle: HashSet<Option<Cookie>> = zoo
            .specimens
            .iter()
            .filter(|specimen| specimen.is_bound_inactive())
            .map(|specimen| specimen.cookie)
            .collect();
        assert!(idle.len() >= 3);
        let asked = records(&DumpRequest::all(Protocol::Tcp).states(StateSet::BOUND_INACTIVE));
        assert!(asked.iter().all(SocketRecord::is_bound_inactive));
        assert_eq!(asked.iter().map(|record| Some(record.id.cookie)).collect::<HashSet<_>>(), idle);
        let others = StateSet::ALL.minus(StateSet::BOUND_INACTIVE);
        let told = records(&DumpRequest::all(Protocol::Tcp).states(others));
        assert!(told.iter().all(|record| !idle.contains(&Some(record.id.cookie))));
    });
}

fn look_up(protocol: Protocol, family: Family, id: &SocketId) -> Option<SocketRecord> {
    lookup(&mut Kernel::open().unwrap(), protocol, family, id, &mut RecvBuffer::new()).unwrap()
}

#[test]
fn lookup_finds_each_by_its_cookie_and_connections_by_their_ends() {
    Namespace::new().run(|| {
        let zoo = zoo();
        let all = matched(&zoo, &all_records(StateSet::ALL));
        for (specimen, record) in &all {
            let found = look_up(record.protocol, record.family, &record.id);
            let found = found.unwrap_or_else(|| panic!("not found by its cookie: {specimen:?}"));
            assert_eq!((found.id, found.state), (record.id, record.state), "{specimen:?}");
            assert_eq!((found.inode, found.mark, found.uid), (record.inode, record.mark, record.uid));
            let stale = SocketId { cookie: Cookie(record.id.cookie.0 + (1 << 40)), ..record.id };
            assert_eq!(look_up(record.protocol, record.family, &stale), None, "{specimen:?}");

            let by_ends = look_up(record.protocol, record.family, &record.id.with_any_cookie());
            let is_connection = record.id.remote_port != 0;
            if is_connection || record.state == SocketState::Listen {
                assert_eq!(by_ends.map(|found| found.id), Some(record.id), "by its ends: {specimen:?}");
            }
        }
        let gone: Vec<SocketRecord> = all.into_iter().map(|(_, record)| record).collect();
        drop(zoo);
        // Those that processes held are no more at once; what the kernel keeps after close() goes on for a while.
        let held = gone.iter().filter(|record| record.inode.is_some());
        let is_over = |record: &SocketRecord| match look_up(record.protocol, record.family, &record.id) {
            None => true,
            Some(left) => left.inode.is_none() && left.state != SocketState::Listen,
        };
        for record in held {
            wait_until(&format!("the end of {record:?}"), Duration::from_secs(10), || is_over(record));
            if record.protocol.is_datagram()
                || matches!(record.state, SocketState::Listen | SocketState::Close)
            {
                assert_eq!(look_up(record.protocol, record.family, &record.id), None, "{record:?}");
            }
        }
    });
}

#[test]
fn a_sweep_counts_what_proc_net_lists() {
    const RANGE: PortRange = PortRange { first: 30_000, last: 49_999 };
    const RESERVED: (u16, u16) = (30_100, 30_199);
    Namespace::new().port_range("30000 49999").sysctl("net.ipv4.ip_local_reserved_ports", "30100-30199").run(
        || {
            let zoo = zoo();
            // Held, though not in the pool: below the range, and reserved.
            let _outside = std::net::TcpListener::bind(("127.0.0.1", 20_000)).unwrap();
            let _reserved = std::net::TcpListener::bind(("127.0.0.1", RESERVED.0)).unwrap();
            let report = look::report();
            let lines = proc_net().unwrap();
            let idle = zoo.specimens.iter().filter(|specimen| specimen.is_bound_inactive()).count();

            for protocol in [Protocol::Tcp, Protocol::Udp] {
                for family in [Family::Inet, Family::Inet6] {
                    for state in SocketState::all().filter(|state| *state != SocketState::BoundInactive) {
                        let is_it = |line: &&ProcLine| {
                            (line.protocol, line.family, line.state) == (protocol, family, state)
                        };
                        let listed = lines.iter().filter(is_it).count();
                        let counted = report.sockets.count(protocol, family, state) as usize;
                        assert_eq!(counted, listed, "{protocol} {} {state}", family.name());
                    }
                }
            }
            assert_eq!(report.sockets.in_state(Protocol::Tcp, SocketState::BoundInactive) as usize, idle);
            assert_eq!(report.bound_sockets as usize, idle);
            let is_tcp_or_udp = |line: &&ProcLine| matches!(line.protocol, Protocol::Tcp | Protocol::Udp);
            assert_eq!(report.sockets.total() as usize, lines.iter().filter(is_tcp_or_udp).count() + idle);
            let orphans = zoo.specimens.iter().filter(|s| s.mini && s.state == SocketState::FinWait2).count();
            assert_eq!(report.orphans as usize, orphans);
            let time_wait = zoo.in_state(SocketState::TimeWait).count();
            assert_eq!(report.closes.total() as usize, time_wait);

            let in_pool = |port: u16| RANGE.contains(port) && !(RESERVED.0..=RESERVED.1).contains(&port);
            let holders = zoo.specimens.iter().filter(|specimen| {
                specimen.protocol == Protocol::Tcp
                    && (specimen.state == SocketState::Listen || specimen.is_bound_inactive())
            });
            let mut held: Vec<u16> =
                holders.map(|holder| holder.local.port()).filter(|p| in_pool(*p)).collect();
            held.sort_unstable();
            held.dedup();
            assert!(held.len() > 10);
            assert_eq!(report.tcp.held_ports.iter().collect::<Vec<_>>(), held);
            assert_eq!((report.tcp.held as usize, report.tcp.reserved), (held.len(), 100));
            assert_eq!(report.tcp.usable, RANGE.count() - 100 - report.tcp.held);
            sums_agree(&report);
        },
    );
}

/// Conservation: every socket is in one place.
fn sums_agree(report: &Report) {
    assert_eq!(report.duplicates, 0);
    assert_eq!(report.records, u64::from(report.sockets.total()));
    let connected = report.outgoing.sockets() + report.incoming.sockets() + report.other.sockets();
    let idle = report.listener_sockets + report.bound_sockets + report.unbound_sockets;
    assert_eq!(report.sockets.of(Protocol::Tcp), connected + idle);
    let destinations: u32 = report.destinations.iter().map(|d| d.traffic.sockets()).sum();
    assert_eq!(destinations, report.outgoing.sockets());
    let listeners: u32 = report.listeners.iter().map(|listener| listener.traffic.sockets()).sum();
    assert_eq!(listeners, report.incoming.sockets());
    let closes = report.outgoing.closes + report.incoming.closes + report.other.closes;
    assert_eq!(closes, report.closes.total());
}
