//! How many connect() succeed: the kernel's rules that core computes with, and its predictions held to the last port.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod dial;
mod look;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dial::{LOCALHOST, PortBy, accept, bound, dial, dial_udp, dial_until_refused, ip, listener, port_of};
use look::headroom;
use nix::errno::Errno;
use sock_diag::{Protocol, SocketState};
use sockeye_tests::{Dice, Namespace, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

// Facts.

#[test]
fn a_port_with_an_explicit_binder_is_skipped_by_connect_for_every_destination() {
    // One port of two is held; the other is free for each (source, destination) alone.
    type Hold = fn() -> Vec<OwnedFd>;
    let holders: [(&str, Hold); 4] = [
        ("a listener on another address", || vec![listener(ip("127.0.0.9"), 40_000).into()]),
        ("a listener on every address", || vec![listener(ip("0.0.0.0"), 40_000).into()]),
        ("a socket that is bound and idle", || vec![bound(ip("127.0.0.9"), 40_000)]),
        ("a socket that bound before it connected", || {
            let door = listener(ip("127.0.0.8"), 20_000);
            let to = door.local_addr().unwrap();
            vec![dial(ip("127.0.0.9"), to, PortBy::Number(40_000)).unwrap(), door.into()]
        }),
    ];
    for (what, hold) in holders {
        Namespace::new().port_range("40000 40001").run(|| {
            let held = hold();
            let doors = [listener(ip("127.0.0.1"), 20_001), listener(ip("127.0.0.2"), 20_001)];
            let mut open = Vec::new();
            for source in [ip("127.0.0.1"), ip("127.0.0.3")] {
                for door in &doors {
                    let connections = dial_until_refused(source, door.local_addr().unwrap());
                    let ports: Vec<u16> = connections.iter().map(port_of).collect();
                    assert_eq!(ports, [40_001], "{what}: from {source} to {door:?}");
                    open.extend(connections);
                }
            }
            drop(open);
            drop(held);
        });
    }
}

#[test]
fn a_port_that_connect_chose_serves_every_destination() {
    Namespace::new().port_range("40000 40001").run(|| {
        let doors: Vec<TcpListener> =
            (1..=5).map(|n| listener(ip(&format!("127.0.0.{n}")), 20_000)).collect();
        let mut open = Vec::new();
        for door in &doors {
            open.extend(dial_until_refused(LOCALHOST, door.local_addr().unwrap()));
        }
        assert_eq!(open.len(), 10, "two ports, five destinations");
    });
}

#[test]
fn connect_prefers_the_parity_of_the_first_port_and_bind_the_other() {
    Namespace::new().port_range("40000 40099").run(|| {
        let door = listener(LOCALHOST, 20_000);
        let to = door.local_addr().unwrap();
        let ports = |by| -> Vec<(u16, OwnedFd)> {
            let open = (0..20).map(|_| dial(LOCALHOST, to, by).unwrap());
            open.map(|fd| (port_of(&fd), fd)).collect()
        };
        let (connected, bound) = (ports(PortBy::Connect), ports(PortBy::Bind));
        assert!(connected.iter().all(|(port, _)| port % 2 == 0));
        assert!(bound.iter().all(|(port, _)| port % 2 == 1));
    });
}

#[test]
fn bind_runs_out_per_local_address_with_eaddrinuse() {
    Namespace::new().port_range("40000 40009").run(|| {
        let doors = [listener(ip("127.0.0.1"), 20_000), listener(ip("127.0.0.2"), 20_000)];
        let mut open = Vec::new();
        let mut failed = Errno::UnknownErrno;
        for turn in 0..11 {
            match dial(LOCALHOST, doors[turn % 2].local_addr().unwrap(), PortBy::Bind) {
                Ok(fd) => open.push(fd),
                Err(errno) => failed = errno,
            }
        }
        assert_eq!((open.len(), failed), (10, Errno::EADDRINUSE));
        let report = look::report();
        // A dump does not tell that all ten were bound: those towards the other door may yet be free here.
        let to = doors[0].local_addr().unwrap();
        let told = headroom(&report, LOCALHOST, to);
        assert_eq!((told.min, told.max), (0, 5), "{told:?}");
        assert_eq!(dial_until_refused(LOCALHOST, to).len(), 0);
    });
}

/// A connection, closed by its client first: its TIME_WAIT stays at the client.
fn close_one(source: IpAddr, door: &TcpListener) {
    let client = dial(source, door.local_addr().unwrap(), PortBy::Connect).unwrap();
    let server = accept(door);
    drop(client);
    drop(server);
}

#[test]
fn time_wait_keeps_its_port_from_its_destination_alone() {
    Namespace::new().port_range("40000 40009").sysctl("net.ipv4.tcp_tw_reuse", "0").run(|| {
        let doors = [listener(ip("127.0.0.1"), 20_000), listener(ip("127.0.0.2"), 20_000)];
        for _ in 0..10 {
            close_one(LOCALHOST, &doors[0]);
        }
        let [exhausted, free] = doors.each_ref().map(|door| door.local_addr().unwrap());
        let report = look::report();
        assert_eq!(headroom(&report, LOCALHOST, exhausted).max, 0);
        assert_eq!(dial(LOCALHOST, exhausted, PortBy::Connect).err(), Some(Errno::EADDRNOTAVAIL));
        assert_eq!(dial_until_refused(LOCALHOST, free).len(), 10);
        assert_eq!(dial_until_refused(ip("127.0.0.3"), exhausted).len(), 10);
    });
}

// Predictions.

/// What a scenario is made of, beside the sockets that are opened in it.
#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    first: u16,
    ports: u16,
    reserved: Vec<u16>,
    tw_reuse: u64,
    /// Old TIME_WAIT sockets are past the delay before they may be reused, young ones far from it.
    old_time_wait: bool,
    sources: &'static [&'static str],
    servers: &'static [&'static str],
    /// Some are closed again, their own side first: a mini socket does not tell its options any more.
    closes: bool,
    /// Few sockets, of which some bind before they connect, which a dump does not tell.
    hidden_binds: bool,
}

const PLACES: [(&[&str], &[&str]); 3] = [
    (&["127.0.0.1", "127.0.0.5"], &["127.0.0.1", "127.0.1.1", "127.0.1.2"]),
    (&["::1"], &["::1"]),
    // On lo, but no loopback addresses.
    (&["fd00::1", "fd00::2"], &["fd00::1", "fd00::3"]),
];

impl Scenario {
    fn new(seed: u64, hidden_binds: bool) -> Scenario {
        let mut dice = Dice(seed);
        let first = 30_000 + dice.roll(20_000) as u16;
        let ports = 2 * (if hidden_binds { 20 } else { 2 } + dice.roll(20) as u16);
        let reserved = (0..dice.roll(4)).map(|_| first + dice.roll(ports.into()) as u16).collect();
        let (sources, servers) = *dice.one_of(&PLACES);
        Scenario {
            seed,
            first,
            ports,
            reserved,
            tw_reuse: dice.roll(3),
            old_time_wait: dice.roll(2) == 1,
            sources,
            servers,
            closes: dice.roll(2) == 1,
            hidden_binds,
        }
    }

    fn namespace(&self) -> Namespace {
        let reserved: Vec<String> = self.reserved.iter().map(u16::to_string).collect();
        let namespace = Namespace::new()
            .port_range(&format!("{} {}", self.first, self.first + (self.ports - 1)))
            .sysctl("net.ipv4.ip_local_reserved_ports", &reserved.join(","))
            .sysctl("net.ipv4.tcp_tw_reuse", &self.tw_reuse.to_string());
        let own = self.sources.iter().chain(self.servers).filter(|text| text.starts_with("fd00"));
        let mut own: Vec<&str> = own.copied().collect();
        own.sort_unstable();
        own.dedup();
        own.into_iter().fold(namespace, |namespace, address| namespace.address(address.parse().unwrap()))
    }

    /// Opens the sockets, looks once, and dials every pair until it is refused. Returns how many predictions were exact.
    fn play(&self) -> (u32, u32) {
        // Since 6.14 the delay can be set: short, so that old is soon; or long, so that young stays young.
        let delay_ms = if self.old_time_wait { 100 } else { 50_000 };
        let settable = fs::write("/proc/sys/net/ipv4/tcp_tw_reuse_delay", delay_ms.to_string()).is_ok();

        let mut dice = Dice(self.seed ^ 0xfeed);
        let sources: Vec<IpAddr> = self.sources.iter().map(|text| ip(text)).collect();
        let doors: Vec<TcpListener> = self.servers.iter().map(|text| listener(ip(text), 20_000)).collect();
        let mut open = Vec::new();
        let mut servers = Vec::new();
        let (mut closed, mut hidden) = (0, Vec::new());
        // Parity tells hidden binds from connect() as long as the preferred half has room.
        let most = if self.hidden_binds { self.ports / 4 } else { self.ports * 3 };
        for _ in 0..dice.roll(most.into()) {
            let source = *dice.one_of(&sources);
            let door = dice.one_of(&doors);
            let to = door.local_addr().unwrap();
            let port = self.first + dice.roll(self.ports.into()) as u16;
            // What finds no port is left out: the scenario then is a full one.
            match dice.roll(16) {
                0 => open.extend(try_listen(source, port)),
                1 => open.extend(try_bind(source, port)),
                2..=3 if self.hidden_binds => {
                    if let Ok(client) = dial(source, to, PortBy::Bind) {
                        servers.push(accept(door));
                        hidden.push(port_of(&client));
                        open.push(client);
                    }
                }
                4..=7 if self.closes => {
                    if let Ok(client) = dial(source, to, PortBy::Connect) {
                        let server = accept(door);
                        drop(client);
                        drop(server);
                        closed += 1;
                    }
                }
                8 if self.closes => {
                    if let Ok(client) = dial(source, to, PortBy::Connect) {
                        servers.push(accept(door));
                        drop(client);
                    }
                }
                _ => {
                    if let Ok(client) = dial(source, to, PortBy::Connect) {
                        servers.push(accept(door));
                        open.push(client);
                    }
                }
            }
        }
        let begin = Instant::now();
        let old_after = Duration::from_millis(if settable { 200 } else { 1_200 });
        wait_until("the TIME_WAIT sockets to be old", LIMIT, || {
            !self.old_time_wait || begin.elapsed() > old_after
        });
        wait_until("every close to be over", LIMIT, || {
            let report = look::report();
            let states = &report.sockets;
            let half_closed = [SocketState::FinWait1, SocketState::Closing, SocketState::LastAck];
            half_closed.iter().all(|state| states.in_state(Protocol::Tcp, *state) == 0)
        });

        let report = look::report();
        assert!(report.sockets.in_state(Protocol::Tcp, SocketState::TimeWait) <= closed);
        let mut exact = 0;
        let mut tried = 0;
        for source in &sources {
            for door in &doors {
                let to = door.local_addr().unwrap();
                let told = headroom(&report, *source, to);
                // Connections of this round hold no port from any other destination.
                let actual = dial_until_refused(*source, to);
                let count = actual.len() as u32;
                assert!(
                    told.min <= count && count <= told.max,
                    "{source} to {to}: {told:?}, but {count} connects; bound before connecting: {hidden:?}, suspected: \
                     {:?}; {self:?}; {report:?}",
                    report.tcp.suspects
                );
                if told.is_exact() {
                    assert_eq!(count, told.max);
                    exact += 1;
                }
                tried += 1;
            }
        }
        (exact, tried)
    }
}

fn try_listen(address: IpAddr, port: u16) -> Option<OwnedFd> {
    TcpListener::bind((address, port)).ok().map(OwnedFd::from)
}

fn try_bind(address: IpAddr, port: u16) -> Option<OwnedFd> {
    let taken = TcpListener::bind((address, port)).ok()?;
    drop(taken);
    Some(bound(address, port))
}

#[test]
fn headroom_of_one_look_is_how_many_connects_succeed() {
    for seed in 0..40 {
        let scenario = Scenario::new(seed, false);
        scenario.namespace().run(|| {
            let (exact, tried) = scenario.play();
            eprintln!("scenario {seed}: {exact} of {tried} predictions are one number");
            assert!(exact == tried || scenario.closes, "every socket tells its options: {scenario:?}");
        });
    }
}

#[test]
fn hidden_binds_stay_within_the_interval() {
    for seed in 1000..1020 {
        let scenario = Scenario::new(seed, true);
        scenario.namespace().run(|| {
            let (exact, tried) = scenario.play();
            eprintln!("scenario {seed}: {exact} of {tried} predictions are one number");
        });
    }
}

#[test]
fn a_port_that_connect_shared_on_one_address_may_be_bound_on_another() {
    Namespace::new().port_range("40000 40001").run(|| {
        let doors = [listener(ip("127.0.1.1"), 20_000), listener(ip("127.0.1.2"), 20_000)];
        let to = doors.each_ref().map(|door| door.local_addr().unwrap());
        let mut open: Vec<OwnedFd> = to.iter().flat_map(|to| dial_until_refused(LOCALHOST, *to)).collect();
        assert_eq!(open.len(), 4, "both ports serve both");
        let hidden = dial(ip("127.0.0.5"), to[0], PortBy::Bind).unwrap();
        assert_eq!(port_of(&hidden), 40_001);
        open.push(hidden);
        let told = headroom(&look::report(), ip("127.0.0.7"), to[0]);
        assert_eq!((told.min, told.max), (1, 2), "{told:?}");
        assert_eq!(dial_until_refused(ip("127.0.0.7"), to[0]).len(), 1);
    });
}

#[test]
fn an_odd_range_is_an_interval_of_one() {
    Namespace::new().port_range("40000 40098").run(|| {
        let doors: Vec<TcpListener> =
            (1..=12).map(|n| listener(ip(&format!("127.0.1.{n}")), 20_000)).collect();
        let to: Vec<SocketAddr> = doors.iter().map(|door| door.local_addr().unwrap()).collect();
        let _open: Vec<OwnedFd> =
            to.iter().map(|to| dial(LOCALHOST, *to, PortBy::Connect).unwrap()).collect();
        let report = look::report();
        let mut counts = Vec::new();
        for to in &to {
            let told = headroom(&report, LOCALHOST, *to);
            assert_eq!((told.max, told.odd_range), (98, true), "{told:?}");
            let count = dial_until_refused(LOCALHOST, *to).len() as u32;
            assert!(told.min <= count && count <= told.max, "{to}: {count} of {told:?}");
            counts.push(count);
        }
        eprintln!("98 or 97 of 99 ports, one in use: {counts:?}");
    });
}

#[test]
fn a_range_of_one_port_is_exact() {
    Namespace::new().port_range("40000 40000").run(|| {
        let door = listener(LOCALHOST, 20_000);
        let to = door.local_addr().unwrap();
        assert_eq!(look::report().tcp.usable, 1);
        let open = dial_until_refused(LOCALHOST, to);
        assert_eq!(open.len(), 1);
        let told = headroom(&look::report(), LOCALHOST, to);
        assert!(told.is_exact() && told.max == 0, "{told:?}");
    });
}

#[test]
fn the_udp_pool_is_one_for_all_destinations() {
    for seed in 0..10 {
        let mut dice = Dice(seed);
        let first = 30_000 + dice.roll(20_000) as u16;
        let ports = 10 + dice.roll(60) as u16;
        let reserved = first + dice.roll(ports.into()) as u16;
        Namespace::new()
            .port_range(&format!("{first} {}", first + (ports - 1)))
            .sysctl("net.ipv4.ip_local_reserved_ports", &reserved.to_string())
            .run(|| {
                let mut open = Vec::new();
                let to = |dice: &mut Dice| -> SocketAddr {
                    let server = *dice.one_of(&["127.0.0.1", "127.0.0.2", "127.3.0.1", "::1"]);
                    SocketAddr::new(ip(server), 20_000 + dice.roll(3) as u16)
                };
                for _ in 0..dice.roll(8) {
                    // Bound by number, in the pool: the same port on another address takes no further one.
                    let port = first + dice.roll(ports.into()) as u16;
                    for address in ["127.0.0.1", "127.0.0.7"] {
                        open.extend(std::net::UdpSocket::bind((ip(address), port)).ok().map(OwnedFd::from));
                    }
                }
                for _ in 0..dice.roll(10) {
                    open.extend(dial_udp(to(&mut dice)));
                }
                let udp = look::report().udp;
                assert_eq!((udp.range, udp.reserved), (u32::from(ports), 1));
                let mut count = 0;
                let refused = loop {
                    match dial_udp(to(&mut dice)) {
                        Ok(fd) => open.push(fd),
                        Err(errno) => break errno,
                    }
                    count += 1;
                };
                assert_eq!((count, refused), (udp.usable - udp.in_use, Errno::EAGAIN), "{udp:?}");
            });
    }
}
