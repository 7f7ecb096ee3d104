//! `sockets -p` and filters by process and user, on this host's own sockets: who is named, and that no name does harm.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn sockeye(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_sockeye")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("output is UTF-8");
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// One socket and nothing else, as JSON.
fn only(filter: &[&str]) -> Value {
    let arguments = [&["sockets", "-tlp", "--json"], filter].concat();
    let (code, stdout, stderr) = sockeye(&arguments);
    assert_eq!(code, 0, "{stderr}");
    let sockets: Vec<Value> = serde_json::from_str(&stdout).unwrap();
    assert_eq!(sockets.len(), 1, "{stdout}");
    sockets.into_iter().next().unwrap()
}

/// A shell that has a socket as its standard output, waits, and is called by any bytes.
struct Named {
    child: Child,
    name: Vec<u8>,
}

impl Named {
    fn holding(socket: &TcpListener, name: &[u8]) -> Named {
        let octal: String = name.iter().map(|byte| format!("\\0{byte:03o}")).collect();
        let script = format!("printf '%b' '{octal}' > /proc/$$/comm; read rest");
        let socket = OwnedFd::from(socket.try_clone().unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::from(socket));
        let child = command.spawn().unwrap();
        let comm = format!("/proc/{}/comm", child.id());
        let deadline = Instant::now() + Duration::from_secs(60);
        let wanted = [name, b"\n"].concat();
        while fs::read(&comm).unwrap() != wanted {
            assert!(Instant::now() < deadline, "{:?}", fs::read(&comm));
        }
        Named { child, name: name.to_vec() }
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn listener() -> (TcpListener, String) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    (socket, port)
}

#[test]
fn a_socket_is_ours() {
    let (_socket, port) = listener();
    let found = only(&["sport", "=", &port]);
    let owner = &found["owner"];
    assert_eq!(owner["pid"], std::process::id());
    let comm = fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(owner["name"], comm.trim_end());
    assert_eq!(owner["uid"], found["uid"]);
    assert!(owner["descriptor"].as_u64().unwrap() > 2, "{owner}");
    assert!(owner["cgroup"].as_str().unwrap().starts_with('/'), "{owner}");

    let (_, table, _) = sockeye(&["sockets", "-Htlp", "sport", "=", &port]);
    // Without its end: while another test begins a child, that holds the socket, too.
    let users =
        format!("users:((\"{}\",pid={},fd={})", comm.trim_end(), std::process::id(), owner["descriptor"]);
    assert!(table.contains(&users), "{table:?} {users}");

    // Not asked for, nobody is looked into.
    let (_, json, _) = sockeye(&["sockets", "-tl", "--json", "sport", "=", &port]);
    assert!(!json.contains("owner"), "{json}");
}

#[test]
fn a_hostile_name_is_harmless_in_every_format() {
    let (socket, port) = listener();
    let named = Named::holding(&socket, b"\x1b[2J\"'\n(,)\xff\x9b\\");
    drop(socket);
    let filter = ["sport", "=", &port];
    let (code, table, _) = sockeye(&[&["sockets", "-Htlp", "--color", "always"], &filter[..]].concat());
    assert_eq!(code, 0);
    let users = format!("((\"\\u{{1b}}[2J\\\"\\'\\n(,)\\xff\\x9b\\\\\",pid={},fd=1))", named.child.id());
    assert_eq!(table.lines().count(), 1, "{table:?}");
    assert!(table.contains(&users), "{table:?} {users}");
    for format in ["json", "jsonl", "csv"] {
        let (code, stdout, _) = sockeye(&[&["sockets", "-tlp", "-o", format], &filter[..]].concat());
        assert_eq!(code, 0);
        assert!(!stdout.contains(|c: char| c.is_control() && c != '\n'), "{stdout:?}");
        if format == "csv" {
            assert_eq!(stdout.lines().count(), 2, "a header and a socket: {stdout:?}");
        }
    }
    let lossy = String::from_utf8_lossy(&named.name).into_owned();
    assert_eq!(only(&filter)["owner"]["name"], lossy);
}

#[test]
fn filters_by_process_and_user() {
    let (mine, port) = listener();
    let (theirs, their_port) = listener();
    let named = Named::holding(&theirs, b"sock eye (test)");
    drop(theirs);
    let both = format!("( sport = {port} or sport = {their_port} )");
    let uid = fs::metadata("/proc/self").unwrap().uid();
    let by = |filter: &str| only(&[&format!("{both} and {filter}")])["local_port"].to_string();
    assert_eq!(by(&format!("pid = {}", std::process::id())), port);
    assert_eq!(by(&format!("pid != {}", std::process::id())), their_port);
    assert_eq!(by(&format!("pid = {}", named.child.id())), their_port);
    assert_eq!(by("comm = 'sock eye (test)'"), their_port);
    assert_eq!(by("comm = 'sock eye (test) and what the kernel cuts off'"), their_port);
    assert_eq!(by("not comm 'sock eye (test)'"), port);
    assert_eq!(by(&format!("user = {uid} and sport = {port}")), port);
    let (code, none, _) = sockeye(&["sockets", "-Htl", &format!("{both} and user != {uid}")]);
    assert_eq!((code, none.as_str()), (0, ""));
    drop(mine);

    for (filter, said) in [
        ("pid = 4194305", "no process 4194305 is known here"),
        ("comm = nobodyhasthis", "no process is known as `nobodyhasthis`"),
        ("user = nobodyhasthis", "no user is known as `nobodyhasthis`"),
    ] {
        let (code, stdout, stderr) = sockeye(&["sockets", filter]);
        assert_eq!((code, stdout.as_str()), (2, ""));
        assert!(stderr.contains(said), "{stderr}");
    }
}

#[test]
fn a_capture_has_no_processes() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("host.sockeye");
    let capture = capture.to_str().unwrap();
    let (code, _, stderr) = sockeye(&["sockets", "-tl", "--capture", capture]);
    assert_eq!(code, 0, "{stderr}");
    let (code, _, stderr) = sockeye(&["sockets", "-tlp", "--replay", capture]);
    assert_eq!(code, 2);
    assert!(stderr.contains("-p: a capture keeps sockets, not the processes"), "{stderr}");
    let (code, _, stderr) = sockeye(&["sockets", "--replay", capture, "pid = 1"]);
    assert_eq!(code, 2);
    assert!(stderr.contains("no process 1 is known here"), "{stderr}");
}
