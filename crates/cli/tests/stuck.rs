//! Sockets that stay where none should stay for long, and those bound before they were connected: told with their owners, by
//! a snapshot, a watch and a capture's replay.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

mod recorded;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, listen, setsockopt, socket,
    sockopt,
};
use serde_json::{Value, json};
use sock_diag::{SocketRecord, SocketState, Timer, TimerKind};
use sockeye_tests::{Namespace, wait_for};

use recorded::{Host, run, sockeye};

/// A host with something of everything, whose ages are known.
fn forgetful() -> Host {
    let mut host = Host::new((32_768, 60_999));
    let mut ages = Vec::new();
    let mut cookie = 0;
    let mut add = |record: SocketRecord, age: Option<(u64, Option<u64>)>| {
        cookie += 1;
        host.add(record);
        ages.extend(age.map(|(min_ms, max_ms)| json!([cookie, min_ms, max_ms])));
    };
    let in_state = |state, local: u16, remote: &str, held: bool| SocketRecord {
        state,
        inode: NonZeroU32::new(if held { 70_000 + u32::from(local) } else { 0 }),
        ..recorded::socket(&format!("10.0.0.7:{local}"), remote)
    };
    for port in 33_000..33_040 {
        let record = in_state(SocketState::CloseWait, port, "10.0.9.20:5432", true);
        let min_ms = u64::from(port - 33_000) * 9_000;
        add(record, Some((min_ms, Some(min_ms + 4_000))));
    }
    for (port, remote) in [(34_000, "10.9.9.9:80"), (34_002, "10.9.9.9:80"), (34_004, "10.9.9.8:80")] {
        add(in_state(SocketState::SynSent, port, remote, true), Some((7_200, Some(7_240))));
    }
    add(in_state(SocketState::LastAck, 34_100, "10.0.9.21:80", false), Some((31_000, None)));
    for port in (35_000..35_200).step_by(2) {
        let orphan = in_state(SocketState::FinWait2, port, "10.0.9.22:80", false);
        let timer =
            Timer { kind: TimerKind::TimeWait, expires_ms: u32::from(port - 35_000) * 200, retransmits: 0 };
        add(SocketRecord { timer, ..orphan }, None);
    }
    host.surroundings["stuck_ages"] = Value::Array(ages);
    host
}

#[test]
fn a_capture_tells_what_the_look_told() {
    let host = forgetful();
    assert_snapshot!("stuck_screen", host.print("snapshot"));
    let told: Value = serde_json::from_str(&host.print("--json")).unwrap();
    assert_snapshot!("stuck_json", serde_json::to_string_pretty(&told["warnings"]).unwrap());
}

/// The warning of this id; None when there is none.
fn warning(told: &Value, id: &str) -> Option<Value> {
    told["warnings"].as_array().unwrap().iter().find(|warning| warning["id"] == id).cloned()
}

fn look(arguments: &str) -> Value {
    let said = run(arguments);
    assert_eq!(said.code, 0, "{}", said.stderr);
    serde_json::from_str(said.stdout.lines().last().unwrap()).unwrap()
}

/// Looks again and again until it is as wanted: on a busy machine the time for a look's search may end too early.
fn look_until(arguments: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
    wait_for(arguments, Duration::from_secs(110), || Some(look(arguments)).filter(|told| is_wanted(told)))
}

/// Whether a warning of this id names this process.
fn names_us(told: &Value, id: &str) -> bool {
    warning(told, id).is_some_and(|warning| is_ours(&warning["owners"][0]))
}

/// A name that would redraw a terminal and end a line.
const HOSTILE: &[u8] = b"\x1b[2Jle\"ak\n";

fn call_us(name: &[u8]) {
    fs::write("/proc/self/comm", name).unwrap();
}

/// Our own process, as an owner in JSON.
fn is_ours(owner: &Value) -> bool {
    owner["owner"]["pid"] == std::process::id()
        && owner["owner"]["name"] == String::from_utf8_lossy(HOSTILE).as_ref()
}

/// A socket that is not waited for.
fn quiet() -> OwnedFd {
    socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)
        .unwrap()
}

fn local(port: u16) -> SockaddrIn {
    SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

/// connect() that nobody answers: a listener with a full queue drops what comes.
fn unanswered(count: usize) -> (OwnedFd, Vec<OwnedFd>, u16) {
    let door = quiet();
    bind(door.as_raw_fd(), &local(0)).unwrap();
    listen(&door, Backlog::new(0).unwrap()).unwrap();
    let port = nix::sys::socket::getsockname::<SockaddrIn>(door.as_raw_fd()).unwrap().port();
    // A queue of 0 has room for one; whoever is let in is not counted.
    let all = (0..count + 1).map(|_| {
        let client = quiet();
        assert_eq!(connect(client.as_raw_fd(), &local(port)), Err(Errno::EINPROGRESS));
        client
    });
    (door, all.collect(), port)
}

/// Closed with more to send than the peer, who does not read, has room for.
fn untaken() -> (TcpListener, TcpStream) {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    setsockopt(&door, sockopt::RcvBuf, &4_096).unwrap();
    let mut client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
    let (server, _) = door.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    loop {
        match client.write(&[0; 65_536]) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return (door, server),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Connections that the peer has closed, and we have not.
fn forgotten(count: usize) -> Vec<TcpStream> {
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let clients = (0..count).map(|_| {
        let client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        drop(door.accept().unwrap());
        client
    });
    clients.collect()
}

#[test]
fn what_is_stuck_is_named_with_its_owner() {
    Namespace::new().run(|| {
        call_us(HOSTILE);
        let clients = forgotten(7);
        let begun = Instant::now();
        let (door, knockers, port) = unanswered(3);
        let queue = untaken();
        let told = look("--json");
        assert_eq!(told["states"]["close_wait"], 7, "{told}");
        assert_eq!(told["warnings"], json!([]), "nothing has stood for long");

        let told =
            look_until("--json", |told| names_us(told, "syn_sent") && warning(told, "orphaned").is_some());
        let waited = begun.elapsed().as_millis() as u64;
        let syn_sent = warning(&told, "syn_sent").unwrap();
        assert_eq!(
            (&syn_sent["state"], &syn_sent["count"]),
            (&json!("syn_sent"), &told["states"]["syn_sent"])
        );
        let count = syn_sent["count"].as_u64().unwrap();
        assert!((3..=4).contains(&count), "{syn_sent}");
        assert_eq!((&syn_sent["long"], &syn_sent["examined"]), (&json!(count), &json!(count)), "{syn_sent}");
        assert_eq!(syn_sent["towards"]["remote_port"], port);
        let [owner] = &syn_sent["owners"].as_array().unwrap()[..] else { panic!("{syn_sent}") };
        assert!(is_ours(owner) && owner["count"] == count, "{owner}");
        let longest = syn_sent["longest_ms"].as_u64().unwrap();
        assert!(longest > 3_000 && longest <= waited, "{syn_sent} after {waited} ms");

        let orphaned = warning(&told, "orphaned").unwrap();
        assert_eq!((&orphaned["count"], &orphaned["unowned"]), (&json!(1), &json!(1)), "{orphaned}");
        assert!(orphaned["message"].as_str().unwrap().contains("no process holds it"), "{orphaned}");
        assert!(orphaned["longest_ms"].as_u64().unwrap() <= waited, "{orphaned} after {waited} ms");

        // The same for people: nothing of the name obeys.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut screen = run("snapshot").stdout;
        while !screen.contains("ak\\n") && Instant::now() < deadline {
            screen = run("snapshot").stdout;
        }
        assert!(screen.contains("\\u{1b}[2Jle\\\"ak\\n"), "{screen}");
        assert!(!screen.contains('\x1b'), "{screen:?}");

        // A watch knows from its first look on, and who follows owners knows more.
        let watch = look("watch 200ms 5 -o jsonl");
        assert!(warning(&watch, "syn_sent").is_some() && warning(&watch, "orphaned").is_some(), "{watch}");
        look_until("watch 200ms 3 --by owner -o jsonl", |told| names_us(told, "syn_sent"));
        let lines = run("watch 200ms 2");
        assert_eq!(lines.stderr.matches("in SYN-SENT").count(), 1, "once: {}", lines.stderr);
        assert!(!lines.stderr.contains('\x1b'), "{:?}", lines.stderr);
        let by = look("--by owner --json");
        assert!(warning(&by, "syn_sent").is_some(), "{by}");
        drop((clients, door, knockers, queue));
    });
}

#[test]
fn who_closes_without_being_rid_of_it_is_remembered_by_a_watch() {
    Namespace::new().run(|| {
        call_us(HOSTILE);
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        setsockopt(&door, sockopt::RcvBuf, &4_096).unwrap();
        let mut client = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        let server = door.accept().unwrap();
        let mut watch = sockeye("watch 250ms --by owner -o jsonl").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        client.set_nonblocking(true).unwrap();
        while client.write(&[0; 65_536]).is_ok() {}
        drop(client);
        let orphaned = lines
            .map(Result::unwrap)
            .take(400)
            .find_map(|line| warning(&serde_json::from_str(&line).unwrap(), "orphaned"));
        watch.kill().unwrap();
        watch.wait().unwrap();
        let orphaned = orphaned.expect("told within 100 s");
        assert_eq!((&orphaned["long"], &orphaned["unowned"]), (&json!(1), &json!(0)), "{orphaned}");
        assert!(is_ours(&orphaned["owners"][0]), "{orphaned}");
        let message = orphaned["message"].as_str().unwrap();
        assert!(message.contains(&format!("({}) had 1", std::process::id())), "{message}");
        // Met by a sweep, not by its timers: there is an upper bound.
        let (least, most) = (&orphaned["longest_ms"], &orphaned["longest_at_most_ms"]);
        assert!(least.as_u64().unwrap() > 10_000 && most.as_u64().unwrap() < 30_000, "{orphaned}");
        drop(server);
    });
}

#[test]
fn a_leak_is_told_after_a_minute_and_so_are_ports_that_are_held_for_nothing() {
    Namespace::new().deadline(Duration::from_secs(170)).run(|| {
        call_us(HOSTILE);
        let mut watch = sockeye("watch 2s -o jsonl").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        let before = Instant::now();
        let clients = forgotten(30);
        let idle: Vec<OwnedFd> = (0..20)
            .map(|_| {
                let socket = quiet();
                bind(socket.as_raw_fd(), &local(0)).unwrap();
                socket
            })
            .collect();
        let begun = Instant::now();
        let told = lines.map(Result::unwrap).find_map(|line| {
            let told: Value = serde_json::from_str(&line).unwrap();
            assert!(before.elapsed() < Duration::from_secs(150), "{told}");
            let all = [warning(&told, "close_wait"), warning(&told, "bound_idle")];
            let least = begun.elapsed() > Duration::from_secs(60);
            assert!(least || all.iter().all(Option::is_none), "too early: {told}");
            // Owners may take it some ticks more.
            all.iter().all(|one| one.as_ref().is_some_and(|one| is_ours(&one["owners"][0]))).then_some(told)
        });
        watch.kill().unwrap();
        watch.wait().unwrap();
        let told = told.unwrap();
        for (id, count) in [("close_wait", 30), ("bound_idle", 20)] {
            let stuck = warning(&told, id).unwrap();
            assert_eq!((&stuck["count"], &stuck["long"]), (&json!(count), &json!(count)), "{stuck}");
            assert!(is_ours(&stuck["owners"][0]), "{stuck}");
            let most = stuck["longest_at_most_ms"].as_u64().unwrap();
            assert!(u128::from(most) + 1_000 > begun.elapsed().as_millis().min(60_000), "{stuck}");
        }
        // A look alone tells as much of the leak, and of bound sockets nothing.
        let told = look_until("--json", |told| names_us(told, "close_wait"));
        let leak = warning(&told, "close_wait").unwrap();
        assert_eq!(leak["long"], 30, "{leak}");
        let longest = u128::from(leak["longest_ms"].as_u64().unwrap());
        assert!(longest > 60_000 && longest <= before.elapsed().as_millis(), "{leak}");
        assert_eq!(warning(&told, "bound_idle"), None);
        drop((clients, idle));
    });
}

/// So many connections of this process to `door`, each bound before by `port`.
fn bound(door: SocketAddr, count: u16, port: impl Fn(u16) -> u16) -> Vec<OwnedFd> {
    let one = |number| {
        let client = quiet();
        setsockopt(&client, sockopt::ReuseAddr, &true).unwrap();
        bind(client.as_raw_fd(), &local(port(number))).unwrap();
        assert_eq!(connect(client.as_raw_fd(), &local(door.port())), Err(Errno::EINPROGRESS));
        client
    };
    (0..count).map(one).collect()
}

#[test]
fn who_binds_before_connecting_is_named() {
    Namespace::new().port_range("40000 41999").run(|| {
        call_us(HOSTILE);
        let door = TcpListener::bind("127.0.0.1:30000").unwrap();
        let place = door.local_addr().unwrap();
        let (by_number, any) = (|number: u16| 40_000 + 2 * number, |_: u16| 0);
        let numbered = bound(place, 40, by_number);
        for arguments in
            ["--json", "--by owner --json", "watch 200ms 3 -o jsonl", "watch 200ms 3 --by owner -o jsonl"]
        {
            let told = look_until(arguments, |told| names_us(told, "bound_ports"));
            assert_eq!(warning(&told, "bound_ports").unwrap()["owners_asked"], 40, "{told}");
            assert_eq!(warning(&told, "bind_before_connect"), None);
        }
        drop(numbered);
        let odd = bound(place, 50, any);
        for arguments in ["--json", "watch 200ms 3 -o jsonl"] {
            let told = look_until(arguments, |told| names_us(told, "bind_before_connect"));
            let suspected = warning(&told, "bind_before_connect").unwrap();
            // Some of the 50 may be where connect() would be as well.
            assert!(suspected["owners_asked"].as_u64().unwrap() >= 45, "{suspected}");
        }
        drop(odd);
    });
}
