//! The kit held to its own claims: what it says of a namespace, a zoo or a load, the kernel must say too.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sock_diag::{Protocol, SocketState};
use sockeye_tests::{
    Burst, Churn, ChurnPlan, Destroyed, How, Lives, Load, Namespace, Phase, Zoo, ZooSpec, drop_privilege,
    in_namespace, proc_net, wait_until, within,
};

const LIMIT: Duration = Duration::from_secs(20);

fn status(key: &str) -> String {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap().trim().to_string()
}

fn sysctl(name: &str) -> String {
    fs::read_to_string(format!("/proc/sys/{}", name.replace('.', "/"))).unwrap().trim().to_string()
}

/// Runs one of the ignored tests below in a process of its own: whether it passed, and what it printed.
fn run_ignored(test: &str) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args([test, "--exact", "--ignored"]).stdin(Stdio::null()).output().unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

// Namespaces.

#[test]
fn a_body_sees_only_its_own_sockets() {
    in_namespace(|| {
        assert_eq!(proc_net().unwrap(), []);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).expect("lo is up");
        UdpSocket::bind("[::1]:0").expect("::1 is there");
        assert_eq!(status("CapEff"), status("CapBnd"), "root of the namespace");
    });
}

#[test]
fn a_spawned_command_has_a_network_of_its_own() {
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let network = || {
        let mut command = Command::new("readlink");
        let child = Namespace::new().spawn(command.arg("/proc/self/ns/net").stdout(Stdio::piped()));
        let output = child.unwrap().wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    let child = network();
    assert!(child.starts_with("net:["), "{child}");
    assert_ne!(own.to_string_lossy(), child);
}

#[test]
fn settings_hold_inside_and_only_there() {
    let range = "net.ipv4.ip_local_port_range";
    Namespace::new()
        .sysctl(range, "40000 40001")
        .sysctl("net.ipv4.ip_local_reserved_ports", "40000")
        .address("fd00::7".parse().unwrap())
        .run(|| {
            assert_eq!(sysctl("net.ipv4.ip_local_port_range"), "40000\t40001");
            let bound = UdpSocket::bind("[fd00::7]:0").unwrap();
            assert_eq!(bound.local_addr().unwrap().port(), 40001);
        });
    assert_ne!(sysctl(range), "40000\t40001");
}

#[test]
fn a_setting_that_is_not_there_is_named() {
    let mut command = Command::new("true");
    let error = Namespace::new().sysctl("net.ipv4.no_such_thing", "1").spawn(&mut command).unwrap_err();
    assert!(error.to_string().contains("sysctl"), "{error}");
    let error = Namespace::new().spawn(&mut Command::new("/no/such/program")).unwrap_err();
    assert!(error.to_string().contains("executing"), "{error}");
}

#[test]
fn ipv6_can_be_taken_away() {
    Namespace::new().no_ipv6().run(|| {
        assert!(TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err());
        TcpListener::bind("127.0.0.1:0").unwrap();
    });
}

#[test]
fn the_host_s_root_stays_root() {
    // SAFETY: only reads the credentials of this process.
    if unsafe { libc::geteuid() } != 0 {
        let error = Namespace::new().host_root().spawn(&mut Command::new("true")).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        return;
    }
    Namespace::new().host_root().run(|| {
        assert_eq!(proc_net().unwrap(), []);
        let map = fs::read_to_string("/proc/self/uid_map").unwrap();
        let parent = fs::read_to_string(format!("/proc/{}/uid_map", std::os::unix::process::parent_id()));
        assert_eq!(map, parent.unwrap(), "the same user namespace");
    });
}

#[test]
fn privilege_is_really_gone() {
    Namespace::new().without_privilege().run(|| {
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(set), "0000000000000000", "{set}");
        }
        assert_eq!(status("NoNewPrivs"), "1");
        let raw = |protocol| {
            // SAFETY: socket takes integers; a descriptor it returned would end with this process.
            unsafe { libc::socket(libc::AF_INET, libc::SOCK_RAW, protocol) }
        };
        assert_eq!(raw(libc::IPPROTO_TCP), -1, "CAP_NET_RAW");
        let marked = nix::sys::socket::setsockopt(
            &UdpSocket::bind("127.0.0.1:0").unwrap(),
            nix::sys::socket::sockopt::Mark,
            &1,
        );
        assert!(marked.is_err(), "CAP_NET_ADMIN");
        TcpListener::bind("127.0.0.1:0").expect("an ordinary user may listen");
    });
}

#[test]
fn one_test_may_run_several_bodies() {
    for range in ["41000 41009", "42000 42009"] {
        Namespace::new().sysctl("net.ipv4.ip_local_port_range", range).run(|| {
            assert_eq!(sysctl("net.ipv4.ip_local_port_range"), range.replace(' ', "\t"));
        });
    }
    Namespace::new().run(|| assert_ne!(sysctl("net.ipv4.ip_local_port_range"), "42000\t42009"));
}

#[test]
fn a_failure_in_a_child_fails_its_test() {
    for (test, words) in [
        ("victim_panics", "the sky is falling"),
        ("victim_in_the_second_body", "the second sky"),
        ("victim_hangs", "still running after 300ms"),
        ("victim_exits", "never reached its body"),
        ("victim_nests", "inside its own body"),
    ] {
        let (passed, printed) = run_ignored(test);
        assert!(!passed, "{test} passed:\n{printed}");
        assert!(printed.contains(words), "{test} does not say {words:?}:\n{printed}");
    }
}

#[test]
#[ignore = "fails on purpose, for a_failure_in_a_child_fails_its_test"]
fn victim_panics() {
    in_namespace(|| panic!("the sky is falling"));
}

#[test]
#[ignore = "fails on purpose, for a_failure_in_a_child_fails_its_test"]
fn victim_in_the_second_body() {
    in_namespace(|| ());
    in_namespace(|| panic!("the second sky is falling"));
}

#[test]
#[ignore = "fails on purpose, for a_failure_in_a_child_fails_its_test"]
fn victim_hangs() {
    Namespace::new().deadline(Duration::from_millis(300)).run(|| {
        // A grandchild that holds the output open must not keep the parent waiting either.
        let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
        sleeper.wait().unwrap();
    });
}

#[test]
#[ignore = "fails on purpose, for a_failure_in_a_child_fails_its_test"]
fn victim_exits() {
    if fs::read_to_string("/proc/self/net/dev").unwrap().lines().count() == 3 {
        // Inside the namespace, where lo is the only device.
        std::process::exit(0);
    }
    in_namespace(|| ());
}

#[test]
#[ignore = "fails on purpose, for a_failure_in_a_child_fails_its_test"]
fn victim_nests() {
    in_namespace(|| in_namespace(|| ()));
}

// Deadlines.

#[test]
fn a_deadline_passes() {
    let mut asked = 0;
    assert_eq!(within(Duration::ZERO, || (asked == 0).then(|| asked += 1)), Some(()), "asked at least once");
    assert_eq!(within(Duration::from_millis(5), || None::<()>), None);
    let message = std::panic::catch_unwind(|| wait_until("the moon", Duration::from_millis(1), || false));
    assert!(message.unwrap_err().downcast_ref::<String>().unwrap().contains("the moon"));
}

// The zoo.

/// Every line of /proc/net is one specimen, and every specimen that /proc/net lists at all is one line.
fn assert_shown_exactly(zoo: &Zoo) {
    let lines = proc_net().unwrap();
    let mut matched = HashSet::new();
    for specimen in zoo.specimens.iter().filter(|specimen| !specimen.is_bound_inactive()) {
        let line = lines.iter().position(|line| specimen.is_shown_by(line));
        let line = line.unwrap_or_else(|| panic!("/proc/net does not show {specimen:?}"));
        assert!(matched.insert(line), "two specimens are the same line: {specimen:?}");
    }
    for (at, line) in lines.iter().enumerate() {
        assert!(matched.contains(&at), "not in the zoo: {line:?}");
    }
}

#[test]
fn the_zoo_is_what_the_kernel_shows() {
    in_namespace(|| {
        let zoo = Zoo::open(&ZooSpec::default()).unwrap();
        assert_shown_exactly(&zoo);
        // Each state, in each family, on each kind of address.
        let tcp = || zoo.specimens.iter().filter(|specimen| specimen.protocol == Protocol::Tcp);
        for state in SocketState::all() {
            if matches!(state, SocketState::NewSynRecv | SocketState::BoundInactive) {
                continue; // Records never say these.
            }
            let places: HashSet<(bool, bool)> = tcp()
                .filter(|specimen| specimen.state == state)
                .map(|specimen| {
                    let mapped = matches!(specimen.local.ip(), std::net::IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
                    (specimen.local.is_ipv4(), mapped)
                })
                .collect();
            let wanted = if state == SocketState::Listen { 2 } else { 3 };
            assert_eq!(places.len(), wanted, "{state}: {places:?}");
        }
        let minis: Vec<_> = tcp().filter(|specimen| specimen.mini).map(|specimen| specimen.state).collect();
        assert_eq!(minis.len(), zoo.in_state(SocketState::TimeWait).count() + 5, "FIN_WAIT2 minis");
        assert!(tcp().any(|specimen| specimen.mark == 0x5eed));
        assert!(tcp().any(|specimen| specimen.interface.is_some()));
        assert!(tcp().any(|specimen| specimen.bind_address_no_port));
        // Cookies name sockets.
        let cookies: Vec<_> = zoo.specimens.iter().filter_map(|specimen| specimen.cookie).collect();
        assert_eq!(cookies.iter().collect::<HashSet<_>>().len(), cookies.len());
        eprintln!("{} specimens; missing: {:?}", zoo.specimens.len(), zoo.missing);
    });
}

#[test]
fn a_zoo_outlives_privilege() {
    in_namespace(|| {
        let zoo = Zoo::open(&ZooSpec::default()).unwrap();
        drop_privilege().unwrap();
        assert_eq!(status("CapEff"), "0000000000000000");
        assert_shown_exactly(&zoo);
        let error = Zoo::open(&ZooSpec::default()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().starts_with("the herd from 127.0.0.11"), "{error}");
        // What an ordinary user starts gains nothing by its user id 0 either.
        let child = Command::new("cat").arg("/proc/self/status").output().unwrap();
        assert!(String::from_utf8_lossy(&child.stdout).contains("CapEff:\t0000000000000000"));
    });
}

#[test]
fn there_is_a_zoo_without_ipv6() {
    Namespace::new().no_ipv6().run(|| {
        let zoo = Zoo::open(&ZooSpec { ipv6: false, herds: 1 }).unwrap();
        assert!(zoo.specimens.iter().all(|specimen| specimen.local.is_ipv4()));
        assert_shown_exactly(&zoo);
    });
}

// Loads.

#[test]
fn a_load_comes_and_goes_whole() {
    in_namespace(|| {
        let begin = Instant::now();
        let load = Load::established(12_000, 3).unwrap();
        eprintln!("12,000 connections in {:?}", begin.elapsed());
        let lines = proc_net().unwrap();
        assert_eq!(lines.len(), load.sockets());
        for destination in load.destinations() {
            let towards = lines.iter().filter(|line| line.remote == *destination);
            assert!(
                towards.clone().all(|line| line.state == SocketState::Established && line.inode.is_some())
            );
            assert_eq!(towards.count(), 4_000);
        }
        drop(load);
        wait_until("an empty namespace", LIMIT, || proc_net().unwrap().is_empty());
    });
}

#[test]
#[ignore = "takes both cores for seconds: the size that benches use"]
fn a_load_of_a_hundred_thousand_sockets() {
    in_namespace(|| {
        let begin = Instant::now();
        let load = Load::established(60_000, 4).unwrap();
        let up = begin.elapsed();
        assert_eq!(proc_net().unwrap().len(), load.sockets());
        let begin = Instant::now();
        drop(load);
        let down = begin.elapsed();
        assert_eq!(proc_net().unwrap(), []);
        eprintln!("120,004 sockets up in {up:?}, down in {down:?}");
    });
}

#[test]
fn churn_leaves_what_it_logs() {
    in_namespace(|| {
        let begin = Instant::now();
        let phases = [(200, 400), (0, 100), (1000, 300)]
            .map(|(per_second, ms)| Phase { per_second, lasts: Duration::from_millis(ms) });
        let churn = Churn::start(&phases, 3).unwrap();
        let destinations: HashSet<_> = churn.destinations().iter().copied().collect();
        let closes = churn.finish().unwrap();
        assert_eq!(closes.len(), 80 + 300);
        assert!(closes.is_sorted_by_key(|close| close.at));
        assert!(begin.elapsed() >= Duration::from_millis(800));
        let logged: HashSet<_> = closes.iter().map(|close| (close.local, close.remote)).collect();
        assert_eq!(logged.len(), closes.len());
        assert_eq!(closes.iter().map(|close| close.remote).collect::<HashSet<_>>(), destinations);
        let left = proc_net().unwrap();
        assert!(left.iter().all(|line| line.state == SocketState::TimeWait && line.timer == 3));
        assert_eq!(left.iter().map(|line| (line.local, line.remote)).collect::<HashSet<_>>(), logged);
    });
}

#[test]
fn a_dropped_churn_stops() {
    in_namespace(|| {
        let hour = Phase { per_second: 1, lasts: Duration::from_secs(3600) };
        let churn = Churn::start(&[hour], 1).unwrap();
        wait_until("the first close", LIMIT, || !churn.closes().is_empty());
        let first = churn.closes()[0].at;
        assert_eq!(churn.closes_between(first, first + Duration::from_nanos(1)), 1);
        assert_eq!(churn.closes_between(first - Duration::from_secs(1), first), 0);
    });
}

/// Connections of every kind and length, in random order.
fn mixed(seed: u64) -> ChurnPlan {
    ChurnPlan {
        seed,
        phases: vec![Phase { per_second: 400, lasts: Duration::from_millis(1500) }],
        random_arrivals: true,
        lives: Lives::LogUniform(Duration::from_millis(1), Duration::from_millis(800)),
        late: Lives::Exponential(Duration::from_millis(20)),
        late_share: 0.2,
        mix: vec![
            (How::ClientFirst, 4),
            (How::ServerFirst, 3),
            (How::ClientResets, 2),
            (How::ServerResets, 2),
            (How::Refused, 1),
            (How::Unanswered, 1),
        ],
        payload: 3000,
        destinations: 3,
    }
}

/// A counter of `/proc/net/snmp`.
fn counter(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/self/net/snmp").unwrap();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut both = names.split(' ').zip(values.split(' '));
    both.find(|(this, _)| *this == name).unwrap().1.parse().unwrap()
}

#[test]
fn a_churn_s_log_is_what_the_kernel_counts() {
    in_namespace(|| {
        let churn = Churn::follow(&mixed(1)).unwrap();
        churn.wait().unwrap();
        let log = churn.connections();
        let of = |how: How| log.iter().filter(|connection| connection.how == how).count();
        for how in [How::ClientFirst, How::ServerFirst, How::ClientResets, How::ServerResets] {
            assert!(of(how) > 20, "{how:?}: {}", of(how));
        }
        let accepted = log.iter().filter(|connection| connection.how.is_accepted()).count();
        let crowd = churn.standing();
        assert_eq!(crowd, churn.destinations().len());
        assert_eq!(counter("ActiveOpens") as usize, log.len() + crowd);
        assert_eq!(counter("PassiveOpens") as usize, accepted + crowd);
        assert_eq!(counter("AttemptFails") as usize, of(How::Refused));
        let left = proc_net().unwrap();
        let holders = left.iter().filter(|line| line.timer == 3).map(|line| line.local).collect::<Vec<_>>();
        assert_eq!(holders.len(), of(How::ClientFirst) + of(How::ServerFirst));
        for connection in &log {
            let first = connection.first_close.unwrap();
            assert!(connection.opened.to <= first.from && first.from <= first.to);
            assert_eq!(connection.second_close.is_some(), connection.how.is_accepted());
            assert!(connection.second_close.is_none_or(|second| first.to <= second.from));
            match connection.how {
                How::ClientFirst => assert!(holders.contains(&connection.local), "{connection:?}"),
                How::ServerFirst => assert!(holders.contains(&connection.remote), "{connection:?}"),
                _ => {}
            }
        }
        assert_eq!(churn.closes().len(), accepted);
    });
}

#[test]
fn the_same_seed_draws_the_same_churn() {
    let drawn = |seed: u64| {
        let churn = Churn::follow(&mixed(seed)).unwrap();
        churn.wait().unwrap();
        churn.connections().iter().map(|one| (one.how, one.request_bytes)).collect::<Vec<_>>()
    };
    in_namespace(|| {
        let first = drawn(7);
        assert_eq!(first, drawn(7));
        assert_ne!(first, drawn(8));
    });
}

#[test]
fn a_churn_too_large_for_one_process_is_shared_out() {
    const CONNECTIONS: u32 = 3_000;
    in_namespace(|| {
        // Room for 4,000 descriptors: two processes.
        let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
        nix::sys::resource::setrlimit(limit, 4_000, 4_000).unwrap();
        let plan = ChurnPlan {
            phases: vec![Phase { per_second: CONNECTIONS, lasts: Duration::from_secs(1) }],
            lives: Lives::Fixed(Duration::from_secs(2)),
            destinations: 2,
            ..ChurnPlan::default()
        };
        let alone = ChurnPlan { destinations: 1, ..plan.clone() };
        assert!(Churn::follow(&alone).unwrap_err().to_string().contains("too few"));
        let churn = Churn::follow(&plan).unwrap();
        assert_eq!(churn.finish().unwrap().len(), CONNECTIONS as usize);
    });
}

#[test]
fn a_burst_counts_and_leaves_nothing() {
    in_namespace(|| {
        for what in [Destroyed::UdpSockets, Destroyed::TcpConnections] {
            let count = Burst::start(what, None, Duration::from_millis(500), 2).unwrap().finish().unwrap();
            eprintln!("{what:?}: {:.0} a second", count.per_second());
            assert!(count.destroyed > 1000, "{count:?}");
            wait_until("an empty namespace", LIMIT, || proc_net().unwrap().is_empty());

            let paced = Burst::start(what, Some(2000), Duration::from_millis(500), 2).unwrap();
            let paced = paced.finish().unwrap();
            // Never above the rate; how far below is up to the machine.
            assert!((100..=1010).contains(&paced.destroyed), "{paced:?}");
        }
    });
}

/// A listener for destroy events of IPv4 TCP and UDP. Its default buffer holds some 160 of them.
fn destroy_events() -> OwnedFd {
    const TCP_AND_UDP: u32 = 0b11; // SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET_UDP_DESTROY, as a mask.
    // SAFETY: an all-zero sockaddr_nl is valid; bind reads it while it lives, and the descriptor is new and becomes owned once.
    unsafe {
        let raw =
            libc::socket(libc::AF_NETLINK, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, libc::NETLINK_SOCK_DIAG);
        let events = OwnedFd::from_raw_fd(raw);
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = TCP_AND_UDP;
        let length = size_of::<libc::sockaddr_nl>() as u32;
        assert_eq!(libc::bind(raw, (&raw const address).cast(), length), 0);
        events
    }
}

/// How many events wait there; each is a datagram of its own.
fn count_events(events: &OwnedFd) -> u64 {
    let mut buffer = [0_u8; 4096];
    let mut count = 0;
    loop {
        // SAFETY: recv writes at most the buffer's length into it.
        let length = unsafe { libc::recv(events.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        if length < 0 {
            assert_eq!(std::io::Error::last_os_error().kind(), std::io::ErrorKind::WouldBlock);
            return count;
        }
        count += 1;
    }
}

#[test]
fn the_kernel_tells_of_as_many_destroyed_sockets_as_a_burst_counts() {
    in_namespace(|| {
        for what in [Destroyed::UdpSockets, Destroyed::TcpConnections] {
            let events = destroy_events();
            // Few enough for the buffer, however late they are read.
            let burst = Burst::start(what, Some(200), Duration::from_millis(500), 2).unwrap();
            let destroyed = burst.finish().unwrap().destroyed;
            assert!(destroyed >= 10, "{destroyed}");
            let mut told = 0;
            wait_until(&format!("{destroyed} events of {what:?}"), LIMIT, || {
                told += count_events(&events);
                told >= destroyed
            });
            // The burst's listeners end with it: one event each, for TCP.
            assert!(told - destroyed <= 2, "{told} events for {destroyed} {what:?}");
        }
    });
}
