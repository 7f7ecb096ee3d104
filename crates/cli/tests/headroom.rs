//! `sockeye headroom`: what it prints of recorded hosts, and what it says of the running kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod recorded;

use insta::assert_snapshot;
use recorded::hosts::{self, connected};
use recorded::{Host, replay, run, socket, time_wait};
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
        host.add(socket(&format!("10.0.0.8:{}", 40_001 + 2 * port), "10.0.9.12:80"));
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
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
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
        ("headroom 10.0.9.12:80 --from ::1", "one is IPv4, the other IPv6"),
        ("headroom 10.0.9.12:80 --from 0.0.0.0", "--from must be one address"),
        ("headroom 10.0.9.12:80 --for 1ms", "10ms"),
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
