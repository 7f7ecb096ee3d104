//! `--by port-origin` and `--by netns` of one namespace, against sockets that got their ports in every way there is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed step of a test is a failed test")]

mod recorded;

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};
use serde_json::Value;
use sockeye_tests::Namespace;

use recorded::{run, sockeye};

/// A connection of a client that binds first: a port, or 0.
fn bind_and_connect(port: u16, late: bool, to: SocketAddr) -> OwnedFd {
    let client = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&client, sockopt::IpBindAddressNoPort, &late).unwrap();
    bind(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)).unwrap();
    connect(client.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, to.port())).unwrap();
    client
}

fn json(arguments: &str) -> Value {
    let said = run(arguments);
    assert_eq!(said.code, 0, "{arguments}: {}", said.stderr);
    serde_json::from_str(said.stdout.lines().last().unwrap()).unwrap()
}

/// Way, live, in TIME_WAIT, inferred.
fn ways(told: &Value) -> Vec<(&str, u64, u64, u64)> {
    let way = |row: &'_ Value| {
        let number = |key| row[key].as_u64().unwrap_or(0);
        (number("live"), number("time_wait"), number("inferred"))
    };
    let groups = told["groups"].as_array().unwrap();
    let mut ways: Vec<_> = groups
        .iter()
        .map(|row| {
            let (live, time_wait, inferred) = way(row);
            (row["port_origin"].as_str().unwrap(), live, time_wait, inferred)
        })
        .collect();
    ways.sort_unstable();
    ways
}

#[test]
fn every_way_to_get_a_port_has_its_row() {
    Namespace::new().port_range("40000 40999").run(|| {
        let door = TcpListener::bind("127.0.0.1:8080").unwrap();
        let to = door.local_addr().unwrap();
        let plain: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(to).unwrap()).collect();
        let any: Vec<OwnedFd> = (0..4).map(|_| bind_and_connect(0, false, to)).collect();
        // Of either half: the kernel says that it was bound.
        let by_number: Vec<OwnedFd> =
            [40_200, 40_201, 40_203].map(|port| bind_and_connect(port, false, to)).into();
        let late: Vec<OwnedFd> = (0..2).map(|_| bind_and_connect(0, true, to)).collect();
        let accepted: Vec<TcpStream> = (0..14).map(|_| door.accept().unwrap().0).collect();

        let live =
            [("accepted", 14, 0, 0), ("bind_any", 4, 0, 4), ("bind_number", 3, 0, 0), ("connect", 7, 0, 5)];
        let told = json("snapshot --by port-origin --json");
        assert_eq!((ways(&told), &told["by"]), (live.to_vec(), &"port_origin".into()), "{told}");
        let text = run("snapshot --by port-origin").stdout;
        for line in ["PORT ORIGIN", "chosen by connect()  (5 inferred)", "3          0   bound by number"] {
            assert!(text.contains(line), "{text}");
        }
        let lived = json("lifetimes --by port-origin --for 300ms --interval 100ms --json");
        let open: u64 =
            lived["groups"].as_array().unwrap().iter().map(|row| row["open"].as_u64().unwrap()).sum();
        assert_eq!(open, 28, "{lived}");

        // What was seen alive keeps it in TIME_WAIT; the clients close first.
        let mut watch =
            sockeye("watch 300ms 4 --by port-origin -o jsonl").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        drop((plain, any, by_number, late, accepted));
        let last = lines.map(Result::unwrap).last().unwrap();
        assert!(watch.wait().unwrap().success());
        let told: Value = serde_json::from_str(&last).unwrap();
        let left =
            [("accepted", 0, 0, 0), ("bind_any", 0, 4, 4), ("bind_number", 0, 3, 0), ("connect", 0, 7, 5)];
        assert_eq!(ways(&told), left, "{told}");
        let rate = |row: &Value| {
            row["opens_per_second"].as_f64().unwrap() + row["closes_per_second"].as_f64().unwrap()
        };
        assert!(told["groups"].as_array().unwrap().iter().all(|row| rate(row) >= 0.0), "{told}");

        // A single look never saw them alive.
        assert_eq!(ways(&json("snapshot --by port-origin --json")), [("unknown", 0, 14, 0)]);
    });
}

#[test]
fn one_namespace_is_one_row() {
    Namespace::new().run(|| {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = door.local_addr().unwrap();
        let pairs: Vec<_> =
            (0..6).map(|_| (TcpStream::connect(at).unwrap(), door.accept().unwrap())).collect();
        let told = json("snapshot --by netns --json");
        let [row] = &told["groups"].as_array().unwrap()[..] else { panic!("{told}") };
        assert_eq!((&row["kind"], &row["live"]), (&"netns".into(), &12.into()));
        assert_eq!(row["netns"]["inode"], told["netns"]["inode"]);
        assert!(run("watch 100ms 1 --by netns").stdout.contains("netns "));
        let lived = json("lifetimes --by netns --for 300ms --interval 100ms --json");
        let [row] = &lived["groups"].as_array().unwrap()[..] else { panic!("{lived}") };
        assert_eq!((&row["kind"], &row["open"]), (&"netns".into(), &12.into()));
        drop(pairs);
    });
}
