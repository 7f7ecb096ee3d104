//! The kernel as oracle: random namespaces, a prediction for each destination, then connect() until it fails.
//!
//! `SOCKEYE_SCENARIOS` sets how many of each kind are played (60). What the kernel's rules are is port_facts.rs.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod dial;
mod look;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use dial::{Client, accept, dial_udp, dial_until_refused, listener, port_of, try_bind, try_bind_udp};
use look::headroom;
use nix::errno::Errno;
use sock_diag::{Protocol, SocketState};
use sockeye_core::{Bindable, Headroom};
use sockeye_tests::{Dice, Namespace, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// Sources, servers.
const PLACES: [(&[&str], &[&str]); 3] = [
    (&["127.0.0.1", "127.0.0.5"], &["127.0.0.1", "127.0.1.1", "127.0.1.2"]),
    (&["::1"], &["::1"]),
    // On lo, but no loopback addresses: whether their peers use timestamps is not known to a dump.
    (&["fd00::1", "fd00::2"], &["fd00::1", "fd00::3"]),
];

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    first: u16,
    ports: u16,
    reserved: Vec<u16>,
    tw_reuse: u64,
    tw_reuse_delay_ms: u64,
    sources: &'static [&'static str],
    servers: &'static [&'static str],
    /// Percent of the connections that this side closes again, and of those that the other does.
    closes: u64,
    /// How many sockets, as a percentage of the ports.
    crowd: u64,
    /// Half of those that connect bind nothing at all, so that no option tells who chose their port.
    plain: bool,
    /// The sockets come in two waves, and the reuse delay ends for the first before the second begins.
    waves: bool,
    /// Some bind before they connect.
    hidden_binds: bool,
    /// So many of them, of 17.
    binders: u64,
}

/// How the predictions of some scenarios came out.
#[derive(Clone, Copy, Default)]
struct Score {
    predictions: u32,
    exact: u32,
    /// Intervals that contained the truth, those of one for an odd range included.
    interval: u32,
    /// Intervals that did not, for want of any evidence.
    missed: u32,
    probed_exact: u32,
    /// Intervals of one for an odd range.
    probed_odd: u32,
    probed_interval: u32,
    /// Not tried before more of the TIME_WAIT came of age.
    late: u32,
}

impl Score {
    fn counts(&mut self) -> [&mut u32; 8] {
        [
            &mut self.predictions,
            &mut self.exact,
            &mut self.interval,
            &mut self.missed,
            &mut self.probed_exact,
            &mut self.probed_odd,
            &mut self.probed_interval,
            &mut self.late,
        ]
    }
}

/// What a scenario has opened.
#[derive(Default)]
struct Opened {
    held: Vec<OwnedFd>,
    /// Ports that were bound explicitly and of which no evidence may be left, neither the kernel's word nor parity.
    untold: BTreeSet<u16>,
}

impl Scenario {
    fn new(seed: u64, hidden_binds: bool) -> Scenario {
        let mut dice = Dice(seed);
        let odd = u16::from(dice.chance(20));
        let first = 30_000 + dice.roll(20_000) as u16;
        let ports = 2 * (3 + dice.roll(30) as u16) + odd;
        let reserved = (0..dice.roll(4)).map(|_| first + dice.roll(ports.into()) as u16).collect();
        let (sources, servers) = *dice.one_of(&PLACES);
        let waves = dice.chance(15);
        Scenario {
            seed,
            first,
            ports,
            reserved,
            tw_reuse: dice.roll(3),
            tw_reuse_delay_ms: if waves { 1_000 } else { *dice.one_of(&[50, 300, 1_000, 50_000]) },
            sources,
            servers,
            closes: *dice.one_of(&[0, 20, 60]),
            crowd: *dice.one_of(&[30, 100, 250]),
            plain: dice.chance(40),
            waves,
            hidden_binds,
            binders: if hidden_binds { *dice.one_of(&[4, 4, 15]) } else { 0 },
        }
    }

    /// What a look has to go by.
    fn kind(&self) -> &'static str {
        match (self.hidden_binds, self.plain || self.closes > 0) {
            (false, false) => "every socket tells its options",
            (false, true) => "TIME_WAIT and plain connect()",
            (true, _) => "hidden binds",
        }
    }

    fn namespace(&self) -> Namespace {
        let reserved: Vec<String> = self.reserved.iter().map(u16::to_string).collect();
        let range = format!("{} {}", self.first, self.first + (self.ports - 1));
        let namespace = Namespace::new()
            .port_range(&range)
            .sysctl("net.ipv4.ip_local_reserved_ports", &reserved.join(","))
            .sysctl("net.ipv4.tcp_tw_reuse", &self.tw_reuse.to_string());
        let mut own: Vec<&str> =
            self.sources.iter().chain(self.servers).copied().filter(|a| a.starts_with("fd00")).collect();
        own.sort_unstable();
        own.dedup();
        own.into_iter().fold(namespace, |namespace, address| namespace.address(address.parse().unwrap()))
    }

    /// A client that connects without binding a port.
    fn connects(&self, source: IpAddr, dice: &mut Dice) -> Client {
        if self.plain && dice.chance(50) {
            return Client::unbound();
        }
        let mut client = Client::connecting(source);
        if self.hidden_binds && dice.chance(10) {
            let low = self.first + dice.roll(u64::from(self.ports) / 2) as u16;
            client.port_range = Some((low, low + dice.roll(u64::from(self.first + self.ports - low)) as u16));
        }
        client
    }

    /// A client that binds before it connects. Whether the kernel tells so, or parity does.
    fn binds(&self, source: IpAddr, dice: &mut Dice) -> Client {
        let port = self.first + dice.roll(self.ports.into()) as u16;
        match dice.roll(8) {
            0 => Client { port, ..Client::binding(source) },
            1 => Client { port, no_port: true, ..Client::binding(source) },
            2 => Client { port, reuse: true, ..Client::binding(source) },
            3 => Client { port_range: Some((port, port)), ..Client::binding(source) },
            4 => Client { reuse: true, ..Client::binding(source) },
            _ => Client::binding(source),
        }
    }

    fn open(&self, dice: &mut Dice, doors: &[TcpListener], opened: &mut Opened) {
        let sources: Vec<IpAddr> = self.sources.iter().map(|text| text.parse().unwrap()).collect();
        for _ in 0..u64::from(self.ports) * self.crowd / 100 {
            let source = *dice.one_of(&sources);
            let door = dice.one_of(doors);
            let to = door.local_addr().unwrap();
            let port = self.first + dice.roll(self.ports.into()) as u16;
            let prefers = |port: u16| (port ^ self.first) & 1 == 0;
            match dice.roll(20) {
                0 => opened.held.extend(try_listen(source, port).map(OwnedFd::from)),
                1 => opened.held.extend(try_bind(source, port).ok()),
                2 if self.hidden_binds => {
                    // A listener that is gone, and whoever it accepted.
                    if let Some(passing) = try_listen(source, port)
                        && let Ok(client) = Client::connecting(source).dial(passing.local_addr().unwrap())
                    {
                        if prefers(port) {
                            opened.untold.insert(port);
                        }
                        opened.held.extend([accept(&passing).into(), client]);
                    }
                }
                kind => {
                    let binds = (3..3 + self.binders).contains(&kind);
                    let client = if binds { self.binds(source, dice) } else { self.connects(source, dice) };
                    // What finds no port is left out: the scenario then is a full one.
                    let Ok(fd) = client.dial(to) else { continue };
                    let server = accept(door);
                    let has = port_of(&fd);
                    let closes = dice.chance(self.closes);
                    let chosen = client.source.is_none() || client.no_port && client.port == 0;
                    // A TIME_WAIT has forgotten that its port was bound by number, and two of those on a port look like
                    // connect()'s. A range of the socket's own has its own parity. And who kept bind() with port 0
                    // from the others may be gone.
                    let told = match (client.port, client.port_range) {
                        _ if chosen => true,
                        (0, None) => !prefers(has) || self.closes == 0,
                        (0, Some(_)) => !prefers(has),
                        (_, _) => !closes,
                    };
                    if !told {
                        opened.untold.insert(has);
                    }
                    if closes {
                        drop(fd);
                        drop(server);
                    } else if dice.chance(self.closes / 2) {
                        drop(server);
                        drop(fd);
                    } else {
                        opened.held.extend([fd, server.into()]);
                    }
                }
            }
        }
    }

    fn doors(&self) -> Vec<TcpListener> {
        self.servers.iter().map(|text| listener(text.parse().unwrap(), 20_000)).collect()
    }

    fn play(&self) -> Score {
        let delay = self.tw_reuse_delay_ms.to_string();
        let settable = fs::write("/proc/sys/net/ipv4/tcp_tw_reuse_delay", delay).is_ok();
        let doors = self.doors();
        let mut dice = Dice(self.seed ^ 0xfeed);
        let mut opened = Opened::default();
        self.open(&mut dice, &doors, &mut opened);
        // TIME_WAIT on both sides of the delay, but none that comes of age between prediction and trial.
        let ripe_ms = if settable { self.tw_reuse_delay_ms } else { 1_000 } + 100;
        let ripe = Duration::from_millis(ripe_ms);
        let begin = Instant::now();
        let ages = self.tw_reuse != 0 && ripe < Duration::from_secs(2);
        wait_until("TIME_WAIT to come of age", LIMIT, || !ages || begin.elapsed() > ripe);
        let second_wave = Instant::now();
        if self.waves {
            self.open(&mut dice, &doors, &mut opened);
        }
        let late = || self.waves && ages && second_wave.elapsed() > ripe - Duration::from_millis(200);
        wait_until("every close to be over", LIMIT, closes_are_over);

        let (passive, probed) = (look::report(), look::probed_report());
        let mut untold = opened.untold;
        untold
            .retain(|port| !passive.tcp.held_ports.contains(*port) && !passive.tcp.suspects.contains(*port));
        let mut score = Score::default();
        for source in self.sources {
            let source: IpAddr = source.parse().unwrap();
            for door in &doors {
                let to = door.local_addr().unwrap();
                let (told, asked) = (headroom(&passive, source, to), headroom(&probed, source, to));
                // Connections of this round hold no port from any other destination.
                let count = dial_until_refused(source, to).len() as u32;
                score.predictions += 1;
                if late() {
                    score.late += 1;
                    continue;
                }
                let holds = |headroom: &Headroom| headroom.min <= count && count <= headroom.max;
                let odd = |headroom: &Headroom| headroom.odd_range && headroom.max - headroom.min == 1;
                let context =
                    || format!("{source} to {to}: {count}, not {told:?}, {asked:?}; {untold:?}; {self:?}");
                assert!(holds(&asked), "with a probe: {}; {probed:?}", context());
                // Without one, only what left no evidence may be missing, and never is there more than was told.
                let missing = untold.len() as u32;
                assert!(told.min <= count + missing && count <= told.max, "{}; {passive:?}", context());
                if !self.hidden_binds && !self.plain && self.closes == 0 {
                    assert!(told.is_exact() || odd(&told), "nothing is in doubt: {}", context());
                }
                match holds(&told) {
                    true if told.is_exact() => score.exact += 1,
                    true => score.interval += 1,
                    false => score.missed += 1,
                }
                match asked.is_exact() {
                    true => score.probed_exact += 1,
                    false if odd(&asked) => score.probed_odd += 1,
                    false => score.probed_interval += 1,
                }
            }
        }
        score
    }

    /// bind() with port 0 until it fails, on one address.
    fn bind_all(&self) {
        let doors = self.doors();
        let mut opened = Opened::default();
        self.open(&mut Dice(self.seed ^ 0xfeed), &doors, &mut opened);
        wait_until("every close to be over", LIMIT, closes_are_over);
        let report = look::report();
        // Of this family: bind() on `::` takes IPv4 as well.
        let own = |row: &&Bindable| row.local_address.is_ipv6() == self.sources[0].contains(':');
        let rows: Vec<&Bindable> = report.tcp.bindable.iter().filter(own).collect();
        let told = *Dice(self.seed ^ 0xb1d).one_of(&rows);
        let address = told.local_address;
        let mut count = 0;
        let refused = loop {
            match try_bind(address, 0) {
                Ok(fd) => opened.held.push(fd),
                Err(errno) => break errno,
            }
            count += 1u32;
        };
        assert_eq!(refused, Errno::EADDRINUSE);
        assert!(
            told.min <= count && count <= told.max,
            "{count} bind() on {address}, not {told:?}: {self:?}; {report:?}"
        );
    }
}

/// UDP sockets bound and connected on several addresses; then bind() with port 0 on one of them until it fails.
fn bind_all_udp(dice: &mut Dice, ports: u16) {
    let v6 = dice.chance(40);
    let [any, own, other, peer] = match v6 {
        true => ["::", "::1", "fd00::1", "::1"],
        false => ["0.0.0.0", "127.0.0.1", "127.0.0.5", "127.0.1.1"],
    }
    .map(|text| text.parse::<IpAddr>().unwrap());
    let mut open = Vec::new();
    for _ in 0..dice.roll(u64::from(ports) * 3 / 2) {
        let address = *dice.one_of(&[any, own, own, other, other]);
        let number = FIRST_UDP + dice.roll(ports.into()) as u16;
        match dice.roll(4) {
            0 => open.extend(try_bind_udp(address, number).ok()),
            1 => open.extend(dial_udp(SocketAddr::new(peer, 20_000)).ok()),
            _ => open.extend(try_bind_udp(address, 0).ok()),
        }
    }
    let udp = look::report().udp;
    let rows: Vec<_> = udp.addresses.iter().filter(|row| row.local_address.is_ipv6() == v6).collect();
    if rows.is_empty() {
        assert!(open.is_empty());
        return;
    }
    let told = *dice.one_of(&rows);
    let mut count = 0;
    let refused = loop {
        match try_bind_udp(told.local_address, 0) {
            Ok(fd) => open.push(fd),
            Err(errno) => break errno,
        }
        count += 1;
    };
    assert_eq!((count, refused), (udp.usable - told.in_use, Errno::EADDRINUSE), "{told:?}; {udp:?}");
}

const FIRST_UDP: u16 = 40_000;

fn try_listen(address: IpAddr, port: u16) -> Option<TcpListener> {
    TcpListener::bind((address, port)).ok()
}

/// Whether no socket is on its way from one state to the next.
fn closes_are_over() -> bool {
    let states = &look::report().sockets;
    let passing = [SocketState::FinWait1, SocketState::Closing, SocketState::LastAck];
    passing.iter().all(|state| states.in_state(Protocol::Tcp, *state) == 0)
}

fn scenarios() -> u64 {
    std::env::var("SOCKEYE_SCENARIOS").map_or(60, |text| text.parse().unwrap())
}

/// Plays scenarios, each in its own namespace, and adds up by kind how they came out; prints that as a table.
fn play(seeds: std::ops::Range<u64>, hidden_binds: bool) -> BTreeMap<&'static str, Score> {
    // A body runs in a process of its own, which has nothing but files to tell more than whether it failed.
    let scores = |process: u32| std::env::temp_dir().join(format!("sockeye-scores-{process}-{hidden_binds}"));
    let ours = scores(std::process::id());
    let mut kinds = Vec::new();
    for seed in seeds {
        let scenario = Scenario::new(seed, hidden_binds);
        kinds.push(scenario.kind());
        scenario.namespace().run(|| {
            let line = scenario.play().counts().map(|count| count.to_string()).join(" ");
            let path = scores(std::os::unix::process::parent_id());
            let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
            writeln!(file, "{line}").unwrap();
        });
    }
    let mut sums: BTreeMap<&str, Score> = BTreeMap::new();
    let Ok(told) = fs::read_to_string(&ours) else {
        // No namespaces: every run has said SKIPPED, and where that is a failure, it was one.
        return sums;
    };
    assert_eq!(told.lines().count(), kinds.len(), "every scenario has its score");
    for (line, kind) in told.lines().zip(kinds) {
        let sum = sums.entry(kind).or_default();
        for (count, text) in sum.counts().into_iter().zip(line.split(' ')) {
            *count += text.parse::<u32>().unwrap();
        }
    }
    fs::remove_file(&ours).unwrap();
    eprintln!("{:32}tried   exact interval  missed   probed: exact  odd interval   late", "");
    for (kind, sum) in &mut sums {
        let [tried, exact, interval, missed, probed, odd, probed_interval, late] = sum.counts();
        eprintln!(
            "{kind:32}{tried:5}{exact:8}{interval:9}{missed:8}{probed:16}{odd:5}{probed_interval:9}{late:7}"
        );
        assert!(*late * 10 <= *tried, "too slow a machine to judge");
    }
    sums
}

#[test]
fn without_hidden_binds_the_prediction_is_what_happens() {
    for (kind, score) in play(0..scenarios(), false) {
        assert_eq!((score.missed, score.probed_interval), (0, 0), "{kind}");
    }
}

#[test]
fn hidden_binds_stay_within_the_interval() {
    for (kind, score) in play(10_000..10_000 + scenarios(), true) {
        // A range with an odd number of ports may lose one more, by a hash of the destination.
        let judged = score.probed_exact + score.probed_interval;
        assert!(score.probed_exact * 10 >= judged * 9, "{kind}");
    }
}

#[test]
fn bind_with_port_zero_finds_what_is_told() {
    for seed in 20_000..20_000 + scenarios() / 2 {
        let scenario = Scenario::new(seed, seed % 2 == 0);
        scenario.namespace().run(|| scenario.bind_all());
    }
}

#[test]
fn udp_bind_with_port_zero_finds_what_is_told() {
    for seed in 30_000..30_000 + scenarios() / 2 {
        let mut dice = Dice(seed);
        let ports = 6 + dice.roll(60) as u16;
        let reserved = FIRST_UDP + dice.roll(ports.into()) as u16;
        Namespace::new()
            .port_range(&format!("{FIRST_UDP} {}", FIRST_UDP + (ports - 1)))
            .sysctl("net.ipv4.ip_local_reserved_ports", &reserved.to_string())
            .address("fd00::1".parse().unwrap())
            .run(|| bind_all_udp(&mut dice, ports));
    }
}
