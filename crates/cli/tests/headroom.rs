//! `sockeye headroom`: what it prints of recorded hosts, and what it says of the running kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod recorded;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use insta::assert_snapshot;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrStorage};
use recorded::hosts::{self, connected};
use recorded::{Host, replay, run, time_wait, watches};
use serde_json::Value;
use sockeye_tests::{Churn, Namespace, Phase};
use tempfile::TempDir;

/// What the program prints of this host, and its exit code; it must say nothing beside.
fn print(host: &Host, arguments: &str) -> (String, i32) {
    let directory = TempDir::new().unwrap();
    let said = replay(&host.capture(directory.path()), arguments);
    assert_eq!(said.stderr, "", "sockeye {arguments}");
    (said.stdout, said.code)
}

/// Two local addresses, an odd range, ports that may be bound, TIME_WAIT that may be reused: nothing is certain.
fn doubtful() -> Host {
    let mut host = Host::new((40_000, 40_100));
    host.surroundings["settings"]["tcp_tw_reuse"] = serde_json::json!(1);
    host.surroundings["unread"] = serde_json::json!(["/proc/\u{1b}[31m: gone"]);
    for port in 0..20 {
        host.add(connected(&format!("10.0.0.7:{}", 40_000 + 2 * port), "10.0.9.12:80"));
        host.add(time_wait(&format!("10.0.0.7:{}", 40_040 + 2 * port), "10.0.9.12:80", 500 * port));
    }
    for port in 0..5 {
        host.add(recorded::socket(&format!("10.0.0.8:{}", 40_001 + 2 * port), "10.0.9.12:80"));
    }
    host
}

#[test]
fn headroom_screens() {
    let proxy = hosts::proxy();
    assert_snapshot!("headroom_screen", print(&proxy, "headroom 10.0.9.12:8080").0);
    assert_snapshot!("headroom_screen_idle", print(&proxy, "headroom 192.0.2.1:80 --from 10.0.0.7").0);
    assert_snapshot!("headroom_screen_doubtful", print(&doubtful(), "headroom 10.0.9.12:80").0);
    let (exhausted, code) = print(&hosts::troubled(), "headroom 10.0.9.12:80 --color always");
    assert_snapshot!("headroom_screen_exhausted_colour", exhausted.replace('\x1b', "␛"));
    assert_eq!(code, 1);
    assert_snapshot!("headroom_screen_portless", print(&hosts::portless(), "headroom [::1]:80 --from ::1").0);
}

#[test]
fn headroom_json() {
    assert_snapshot!("headroom_json", print(&hosts::proxy(), "headroom 10.0.9.12:8080 --json").0);
    assert_snapshot!("headroom_json_doubtful", print(&doubtful(), "headroom 10.0.9.12:80 -o json").0);
    assert_snapshot!(
        "headroom_json_idle",
        print(&hosts::idle(), "headroom --json [2001:db8::1]:80 --from 2001:db8::7").0
    );
}

#[test]
fn headroom_of_a_replayed_watch() {
    let print = |arguments: &str| {
        let said = watches::print(watches::proxy, arguments);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{arguments}");
        said.stdout
    };
    assert_snapshot!("headroom_screen_watched", print("headroom 10.0.9.12:8080 --for 1h"));
    assert_snapshot!("headroom_json_watched", print("headroom 10.0.9.12:8080 --for 1h --json"));
}

#[test]
fn the_code_says_whether_a_connect_succeeds() {
    let troubled = hosts::troubled();
    for (arguments, code) in [
        ("headroom 10.0.9.12:80", 1),
        ("headroom 10.0.9.12:80 --from 10.0.0.8", 0),
        ("headroom 10.0.9.13:80 --from 10.0.0.7", 0),
        ("headroom ::ffff:10.0.9.12:80", 2),
        ("headroom [::ffff:10.0.9.12]:80 --from ::ffff:10.0.0.7", 1),
    ] {
        let directory = TempDir::new().unwrap();
        let said = replay(&troubled.capture(directory.path()), arguments);
        assert_eq!(said.code, code, "{arguments}: {said:?}");
    }
    assert_eq!(print(&hosts::portless(), "headroom 10.0.9.12:80 --from 10.0.0.7").1, 1);
}

/// Reasons are a sum: the range without what is certain is the upper bound, without the doubts the lower.
#[test]
fn reasons_add_up() {
    for (host, destination) in [
        (hosts::proxy(), "10.0.9.12:8080"),
        (hosts::proxy(), "10.0.9.13:9090"),
        (hosts::troubled(), "10.0.9.12:80"),
        (hosts::troubled(), "10.0.9.16:80"),
        (doubtful(), "10.0.9.12:80"),
        (hosts::zoo(), "203.0.113.9:443"),
    ] {
        let (text, _) = print(&host, &format!("headroom {destination} --json"));
        let told: Value = serde_json::from_str(&text).unwrap();
        let others = told["other_local_addresses"].as_array().cloned().unwrap_or_default();
        for told in [told].iter().chain(&others) {
            let sum = |certain: bool| -> u64 {
                let reasons = told["because"].as_array().unwrap().iter();
                reasons.filter(|r| r["certain"] == certain).map(|r| r["ports"].as_u64().unwrap()).sum()
            };
            let (min, max) = (&told["headroom"]["min"], &told["headroom"]["max"]);
            assert_eq!(told["range"].as_u64().unwrap() - sum(true), max.as_u64().unwrap(), "{destination}");
            assert_eq!(max.as_u64().unwrap() - sum(false), min.as_u64().unwrap(), "{destination}");
        }
    }
}

#[test]
fn wrong_usage_says_what_to_do() {
    for (arguments, hint) in [
        ("headroom", "<DEST>"),
        ("headroom 10.0.9.12", "10.0.9.12:443"),
        ("headroom ::1", "[::1]:443"),
        ("headroom example.org:80", "getent ahosts"),
        ("headroom 10.0.9.12:0", "port 0"),
        ("headroom 0.0.0.0:80", "one host"),
        ("headroom 224.0.0.1:80", "one host"),
        ("headroom [ff02::1]:80", "one host"),
        ("headroom 255.255.255.255:80", "one host"),
        ("headroom 10.0.9.12:80 --from ::1", "one is IPv4, the other IPv6"),
        ("headroom 10.0.9.12:80 --from 0.0.0.0", "--from must be one address"),
        ("headroom 10.0.9.12:80 --from 224.0.0.1", "--from must be one address"),
        ("headroom 10.0.9.12:80 --for 1ms", "10ms"),
        ("headroom 10.0.9.12:80 --for 1s --probe", "cannot be used with"),
    ] {
        let said = run(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments}");
        assert!(said.stderr.contains(hint), "{arguments}: {}", said.stderr);
    }
    let directory = TempDir::new().unwrap();
    let capture = hosts::idle().capture(directory.path());
    let said = replay(&capture, "headroom 10.0.9.12:80");
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("name it with --from"), "{}", said.stderr);
    let said = replay(&capture, "headroom 10.0.9.12:80 --for 1s");
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("single look"), "{}", said.stderr);
}

#[test]
fn help_of_headroom() {
    let said = run("headroom --help");
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert!(said.stdout.lines().all(|line| line.chars().count() <= 100));
    assert_snapshot!("help_headroom", said.stdout);
}

// The running kernel.

fn json(arguments: &str) -> (Value, i32) {
    let said = run(&format!("headroom --json {arguments}"));
    assert_eq!(said.stderr, "", "{arguments}");
    (serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")), said.code)
}

fn bounds(told: &Value) -> (u64, u64) {
    let bound = |name| told["headroom"][name].as_u64().unwrap();
    (bound("min"), bound("max"))
}

/// Connections until connect() fails.
fn connect_all(to: SocketAddr) -> Vec<TcpStream> {
    std::iter::from_fn(|| match TcpStream::connect(to) {
        Ok(stream) => Some(stream),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL));
            None
        }
    })
    .collect()
}

fn twenty_ports() -> Namespace {
    Namespace::new().port_range("40000 40019").sysctl("net.ipv4.tcp_tw_reuse", "0")
}

#[test]
fn the_number_is_how_many_connects_succeed() {
    for address in ["127.0.0.1:20000", "[::1]:20000"] {
        twenty_ports().run(|| {
            let door = TcpListener::bind(address).unwrap();
            let to = door.local_addr().unwrap();
            let (told, code) = json(&to.to_string());
            assert_eq!((bounds(&told), code), ((20, 20), 0), "without a socket: {told}");
            let some: Vec<TcpStream> = (0..7).map(|_| TcpStream::connect(to).unwrap()).collect();
            let (told, code) = json(&to.to_string());
            assert_eq!((bounds(&told), code), ((13, 13), 0), "{told}");
            assert_eq!(told["destination"]["local_address"], to.ip().to_string());
            assert_eq!(told["in_use"], 7);
            let rest = connect_all(to);
            assert_eq!(rest.len(), 13);
            let (told, code) = json(&to.to_string());
            assert_eq!((bounds(&told), code), ((0, 0), 1), "{told}");
            assert_eq!(told["destination"]["exhausted_in_seconds"], 0.0);
            let said = run(&format!("headroom {to}"));
            assert!(said.stdout.contains("no connect() succeeds now"), "{said:?}");
            // From another address each port is free.
            if to.is_ipv4() {
                let (told, code) = json(&format!("{to} --from 127.0.0.9"));
                assert_eq!((bounds(&told).1, code), (20, 0), "{told}");
            }
            drop((some, rest));
        });
    }
}

#[test]
fn the_kernel_of_another_namespace_chooses_the_address() {
    twenty_ports().run(|| {
        let own = format!("-N {}", std::process::id());
        let (told, code) = json(&format!("{own} 127.0.0.5:80"));
        assert_eq!((bounds(&told), code), ((20, 20), 0));
        // For its own addresses the kernel takes the same one.
        assert_eq!(told["destination"]["local_address"], "127.0.0.1");
        for place in ["", &own] {
            let said = run(&format!("headroom 192.0.2.1:80 {place}"));
            assert_eq!((said.code, said.stdout.as_str()), (2, ""));
            assert!(said.stderr.contains("name it with --from"), "{}", said.stderr);
            let (told, code) = json(&format!("192.0.2.1:80 --from 192.0.2.7 {place}"));
            assert_eq!((bounds(&told), code), ((20, 20), 0));
        }
    });
}

#[test]
fn an_address_is_chosen_where_no_port_is_left_to_ask_with() {
    Namespace::new().sysctl("net.ipv4.ip_local_reserved_ports", "1-65535").run(|| {
        for (to, from) in [("127.0.0.1:80", "127.0.0.1"), ("[::1]:80", "::1")] {
            let (told, code) = json(to);
            assert_eq!((bounds(&told), code), ((0, 0), 1), "{told}");
            assert_eq!(told["destination"]["local_address"], from);
            let remedies = told["remedies"].as_array().unwrap();
            assert!(
                remedies.iter().all(|remedy| remedy["id"] != "port_range"),
                "all of it is reserved: {told}"
            );
        }
    });
}

/// A connection of a program that binds before it connects.
fn bind_and_connect(to: SocketAddr) -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC;
    let client = socket::socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    socket::bind(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)).unwrap();
    socket::connect(client.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    client
}

#[test]
fn a_probe_settles_what_records_leave_open() {
    twenty_ports().run(|| {
        let [one, other] = ["127.0.1.1:20000", "127.0.1.2:20000"].map(|at| TcpListener::bind(at).unwrap());
        let (from, to) = (one.local_addr().unwrap(), other.local_addr().unwrap());
        let hidden: Vec<OwnedFd> = (0..4).map(|_| bind_and_connect(from)).collect();
        let (told, _) = json(&format!("{to} --from 127.0.0.1"));
        assert_eq!(bounds(&told), (16, 20), "{told}");
        let said = run(&format!("headroom {to} --from 127.0.0.1"));
        assert!(said.stdout.contains("--probe settles"), "{said:?}");
        for place in [String::new(), format!("-N {}", std::process::id())] {
            let (told, code) = json(&format!("{to} --from 127.0.0.1 --probe {place}"));
            assert_eq!((bounds(&told), code), ((16, 16), 0), "{told}");
            assert_eq!(told["because"][0]["id"], "bound_by_number", "{told}");
        }
        assert_eq!(connect_all(to).len(), 16);
        drop(hidden);
    });
}

#[test]
fn opens_are_counted_while_it_watches() {
    let namespace = Namespace::new().port_range("40000 40999").sysctl("net.ipv4.tcp_tw_reuse", "0");
    namespace.run(|| {
        let phase = Phase { per_second: 60, lasts: Duration::from_secs(60) };
        let churn = Churn::start(&[phase], 1).unwrap();
        let to = churn.destinations()[0];
        let (told, code) = json(&format!("{to} --from 127.0.0.1 --for 2s"));
        assert_eq!(code, 0);
        let forecast = &told["forecast"];
        assert_eq!(forecast["basis"], "opens");
        let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{told}"));
        let rate = number(&forecast["opens_per_second"]);
        assert!((40.0..80.0).contains(&rate), "{told}");
        let left = bounds(&told).0 as f64 / rate;
        let foreseen = number(&forecast["exhausted_in_seconds"]);
        assert!((foreseen - left).abs() < 0.15 * left, "{foreseen} is not {left}: {told}");
        // From one look too, by TIME_WAIT timers.
        let (told, _) = json(&format!("{to} --from 127.0.0.1"));
        assert_eq!(told["forecast"]["basis"], "time_wait_timers");
        assert!((40.0..80.0).contains(&number(&told["forecast"]["opens_per_second"])), "{told}");
        drop(churn);
    });
}
