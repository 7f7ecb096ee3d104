//! How the program behaves: exit codes, what goes to stdout and what to stderr, errors, hostile names, and that its
//! JSON keeps its promises.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod recorded;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::pty::openpty;
use recorded::{Host, Said, hosts, listener, replay, run, socket, sockeye};
use serde_json::{Value, json};
use sock_diag::{SocketRecord, attribute};
use sockeye_tests::Namespace;
use tempfile::TempDir;

/// Every output there is.
const OUTPUTS: [&str; 6] = [
    "snapshot",
    "snapshot --json",
    "sockets -aoeim",
    "sockets -aeim --json",
    "sockets -aeim -o jsonl",
    "sockets -aeim -o csv",
];

/// It failed: exit code 2, nothing on stdout, one line on stderr that holds all of this.
#[track_caller]
fn assert_refused(said: &Said, words: &[&str]) {
    assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{word:?} is not in {:?}", said.stderr);
    }
    assert!(said.stderr.starts_with("sockeye: ") || said.stderr.starts_with("error: "), "{said:?}");
    assert!(said.stderr.ends_with('\n') && !said.stderr.contains('\x1b'), "{said:?}");
}

/// A host with more sockets than pipes and buffers hold.
fn crowd() -> Host {
    let mut host = Host::new((32_768, 60_999));
    for port in 1_000..6_000 {
        host.add(socket("10.0.0.7:443", &format!("198.51.100.4:{port}")));
    }
    host
}

#[test]
fn a_closed_pipe_is_success() {
    let directory = TempDir::new().unwrap();
    let capture = crowd().capture(directory.path());
    for arguments in ["sockets", "sockets --json", "sockets -o jsonl", "sockets -o csv"] {
        let mut command = sockeye(arguments);
        command.arg("--replay").arg(&capture).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = String::new();
        // As `head -1` does: one line, and the pipe is closed. Dropping the reader closes it.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(!first.is_empty());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{arguments}");
    }
}

#[test]
fn a_pipe_closed_from_the_start_is_success() {
    let directory = TempDir::new().unwrap();
    let capture = hosts::idle().capture(directory.path());
    for arguments in OUTPUTS.into_iter().chain(["--help", "--version", "sockets --help"]) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = sockeye(arguments);
        if !arguments.contains("--help") && arguments != "--version" {
            command.arg("--replay").arg(&capture);
        }
        let output = command.stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]), "{arguments}");
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let directory = TempDir::new().unwrap();
    let (small, large) = (hosts::idle(), crowd());
    for (name, host) in [("small", small), ("large", large)] {
        let capture = host.capture(directory.path());
        for arguments in OUTPUTS {
            let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
            let mut command = sockeye(arguments);
            let said: Said = command.arg("--replay").arg(&capture).stdout(full).output().unwrap().into();
            assert_refused(&said, &["writing to standard output", "No space left on device"]);
            assert_eq!(said.stderr.lines().count(), 1, "{name} {arguments}");
        }
    }
    for arguments in ["--help", "--version", "sockets --help"] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let status = sockeye(arguments).stdout(full).status().unwrap();
        assert_eq!(status.code(), Some(2), "{arguments}");
    }
}

/// What the program prints to a terminal, its environment changed by `set`.
fn to_terminal(capture: &Path, arguments: &str, set: &[(&str, &str)]) -> String {
    let pty = openpty(None, None).unwrap();
    let mut command = sockeye(arguments);
    command.arg("--replay").arg(capture).envs(set.iter().copied()).stdout(pty.slave);
    let mut child = command.spawn().unwrap();
    drop(command);
    let (mut terminal, mut bytes, mut text) = (File::from(pty.master), [0; 4096], Vec::new());
    while let Ok(count) = terminal.read(&mut bytes) {
        text.extend_from_slice(&bytes[..count]);
    }
    assert!(child.wait().unwrap().success());
    String::from_utf8(text).unwrap()
}

#[test]
fn colour_is_for_terminals_that_want_it() {
    let directory = TempDir::new().unwrap();
    let capture = hosts::zoo().capture(directory.path());
    let is_coloured = |text: &str| text.contains('\x1b');
    for command in ["snapshot", "sockets"] {
        let always = format!("{command} --color always");
        let never = format!("{command} --color never");
        assert!(!is_coloured(&replay(&capture, command).stdout), "a pipe");
        assert!(is_coloured(&replay(&capture, &always).stdout));
        assert!(is_coloured(&to_terminal(&capture, command, &[("TERM", "xterm")])));
        assert!(is_coloured(&to_terminal(&capture, command, &[])), "TERM is not needed for colour");
        assert!(is_coloured(&to_terminal(&capture, command, &[("NO_COLOR", "")])), "empty is not set");
        for set in [("NO_COLOR", "1"), ("NO_COLOR", "0"), ("TERM", "dumb")] {
            assert!(!is_coloured(&to_terminal(&capture, command, &[set])), "{set:?}");
            assert!(is_coloured(&to_terminal(&capture, &always, &[set])), "what was typed wins over {set:?}");
        }
        assert!(!is_coloured(&to_terminal(&capture, &never, &[("TERM", "xterm")])));
    }
    for arguments in ["--json", "sockets --json", "sockets -o csv", "sockets -o jsonl"] {
        let arguments = format!("{arguments} --color always");
        assert!(!is_coloured(&replay(&capture, &arguments).stdout), "{arguments}: for machines");
    }
}

#[test]
fn machines_read_the_same_whatever_the_terminal_is() {
    let directory = TempDir::new().unwrap();
    let capture = hosts::zoo().capture(directory.path());
    for arguments in ["snapshot --json", "sockets -aeim --json", "sockets -aeim -o csv"] {
        let plain = replay(&capture, arguments).stdout;
        let environment = [("TERM", "xterm"), ("COLUMNS", "40"), ("LC_ALL", "de_DE.UTF-8")];
        // The terminal's driver puts a carriage return before each newline.
        assert_eq!(to_terminal(&capture, arguments, &environment).replace("\r\n", "\n"), plain);
    }
}

#[test]
fn wrong_usage_is_told_on_stderr() {
    for (arguments, word) in [
        ("--bogus", "--bogus"),
        ("snapshot extra", "extra"),
        ("--top -1", "-1"),
        ("--top many", "many"),
        ("--sort age", "possible values"),
        ("-o csv", "possible values"),
        ("sockets -o xml", "cannot read the filter"),
        ("sockets --json -o csv", "cannot be used with"),
        ("--capture a --replay b", "cannot be used with"),
        ("--replay b -N web", "cannot be used with"),
        ("--replay", "--replay"),
    ] {
        assert_refused(&run(arguments), &[word]);
    }
}

#[test]
fn an_unknown_namespace_is_told_with_the_ways_to_name_one() {
    for arguments in ["-N no-such-namespace", "sockets -N no-such-namespace", "--netns no-such-namespace"] {
        let said = run(arguments);
        assert_refused(&said, &["no network namespace \"no-such-namespace\"", "path or process id"]);
        assert!(said.stderr.contains("known names: ") || said.stderr.contains("no named ones"), "{said:?}");
    }
    assert_refused(&run("-N /dev/null"), &["/dev/null is not a network namespace"]);
    assert_refused(&run("-N /no/such/file"), &["/no/such/file"]);
    assert_refused(&run("-N 4194399"), &["no network namespace \"4194399\""]);
    let hostile = sockeye("-N").arg("a\x1b[31m\nb").output().unwrap().into();
    assert_refused(&hostile, &["\\u{1b}[31m\\nb"]);
    assert_eq!(hostile.stderr.lines().count(), 1);
}

#[test]
fn a_filter_error_shows_the_place() {
    let said: Said = sockeye("sockets -t")
        .args(["state", "established", "dport", "=", ":https:"])
        .output()
        .unwrap()
        .into();
    assert_refused(&said, &["cannot read the filter", "state established dport = :https:"]);
    let lines: Vec<&str> = said.stderr.lines().collect();
    let text = lines.iter().position(|line| line.contains("state established")).unwrap();
    let place = lines[text].find("https:").unwrap();
    assert_eq!(lines[text + 1].find('^'), Some(place), "{}", said.stderr);
    // Control characters in the filter do not reach the terminal.
    let hostile: Said = sockeye("sockets").arg("state \x1b[31mred\n").output().unwrap().into();
    assert_refused(&hostile, &["cannot read the filter", "^"]);
}

#[test]
fn a_live_filter_that_a_capture_cannot_answer_is_an_error() {
    let directory = TempDir::new().unwrap();
    let capture = hosts::zoo().capture(directory.path());
    assert_refused(&replay(&capture, "sockets autobound"), &["autobound", "live kernel"]);
    assert_refused(&replay(&capture, "sockets -tM"), &["capture holds no", "mptcp"]);
    assert_refused(&replay(&capture, "sockets -U"), &["capture holds no", "udplite"]);
}

#[test]
fn marks_need_a_privilege() {
    let mut command = sockeye("sockets -t fwmark 0x2a");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = match Namespace::new().without_privilege().spawn(&mut command) {
        Ok(child) => child,
        Err(error) if std::env::var_os("CI").is_some() => panic!("no namespace can be made: {error}"),
        Err(error) => return eprintln!("skipped: no namespace can be made: {error}"),
    };
    let said: Said = child.wait_with_output().unwrap().into();
    assert_refused(&said, &["cannot read TCP sockets", "not permitted", "CAP_NET_ADMIN"]);
}

/// Names from outside that try to reach the terminal, to end a field, or to be no text at all.
const HOSTILE: &str = "a\x1b]0;owned\x07\x1b[31m\"b',;\n=c\r\u{202e}\u{9b}d";

fn hostile() -> Host {
    let mut host = Host::new((32_768, 60_999));
    host.surroundings["host_name"] = json!(HOSTILE);
    host.surroundings["kernel_release"] = json!(HOSTILE);
    host.surroundings["netns_name"] = json!(HOSTILE);
    host.surroundings["interfaces"] = json!({ "2": HOSTILE });
    host.surroundings["cgroups"] = json!({ "1": HOSTILE });
    host.surroundings["unread"] = json!([HOSTILE]);
    let mut record = SocketRecord { cgroup_id: Some(1), ..socket("10.0.0.7:40000", "10.0.9.12:443") };
    record.id.interface = std::num::NonZeroU32::new(2);
    let mut congestion = HOSTILE.as_bytes().to_vec();
    congestion.extend_from_slice(b"\xff\xfe\0");
    let attributes = [
        (attribute::CONG, congestion),
        (attribute::ULP_INFO, hosts::upper_layer(b"t\x1b[5m\xff\0")),
        (attribute::INFO, vec![0; 280]),
    ];
    host.add_with(record, &attributes);
    host.add(listener("0.0.0.0:80"));
    host
}

#[test]
fn hostile_names_are_harmless() {
    let host = hostile();
    for arguments in OUTPUTS {
        let output = host.print(arguments);
        for line in output.split_inclusive('\n') {
            let text = line.trim_end_matches('\n').trim_start_matches('\t');
            let is_harmful = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!text.contains(is_harmful), "sockeye {arguments}: {text:?}");
        }
    }
}

#[test]
fn hostile_names_stay_whole_where_machines_read() {
    let host = hostile();
    let sockets: Value = serde_json::from_str(&host.print("sockets -tie --json")).unwrap();
    assert_eq!(sockets[0]["interface"], HOSTILE);
    assert_eq!(sockets[0]["cgroup"], HOSTILE);
    assert_eq!(sockets[0]["congestion"], format!("{HOSTILE}\u{fffd}\u{fffd}"));
    let snapshot: Value = serde_json::from_str(&host.print("--json")).unwrap();
    assert_eq!(snapshot["host"]["name"], HOSTILE);
    assert_eq!(snapshot["netns"]["name"], HOSTILE);
    // One row, whatever is in it.
    let text = host.print("sockets -ti -o csv");
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let columns = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 1);
    let interface = columns.iter().position(|name| name == "interface").unwrap();
    assert!(rows[0][interface].contains("\"b',;"), "{:?}", &rows[0][interface]);
    assert_eq!(rows[0].len(), columns.len());
}

#[test]
fn a_capture_that_is_none_is_refused_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("x");
    let good = fs::read(hosts::idle().capture(directory.path())).unwrap();
    let refused = |bytes: &[u8], words: &[&str]| {
        fs::write(&path, bytes).unwrap();
        for command in ["snapshot", "sockets"] {
            let path = path.display().to_string();
            assert_refused(&replay(Path::new(&path), command), &[&["cannot replay", &path], words].concat());
        }
    };
    refused(b"", &["not a sockeye capture"]);
    refused(b"PK\x03\x04 something else entirely", &["not a sockeye capture"]);
    let mut newer = good.clone();
    newer[8] = 3;
    refused(&newer, &["format version 3", "use a newer one"]);
    let mut swapped = good.clone();
    swapped.swap(10, 11);
    refused(&swapped, &["another byte order"]);
    refused(&good[..good.len() - 1], &["was cut at byte"]);
    let mut damaged = good.clone();
    damaged[good.len() / 2] ^= 1;
    refused(&damaged, &["damaged at byte"]);
    let mut strange = hosts::idle();
    strange.surroundings["version"] = json!(99);
    refused(&fs::read(strange.capture(directory.path())).unwrap(), &["version 99"]);
    strange.surroundings = json!({ "version": 1 });
    refused(&fs::read(strange.capture(directory.path())).unwrap(), &["says of its host cannot be read"]);
    strange.surroundings = json!("nothing");
    refused(&fs::read(strange.capture(directory.path())).unwrap(), &["says of its host cannot be read"]);
}

#[test]
fn what_is_no_file_cannot_be_replayed() {
    let directory = TempDir::new().unwrap();
    assert_refused(&replay(directory.path(), ""), &["cannot replay", "must be a regular file"]);
    let missing = directory.path().join("missing");
    assert_refused(&replay(&missing, "sockets"), &["cannot replay", "No such file"]);
    // A FIFO without a writer: opening it must not wait for one.
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut command = sockeye("");
    command.arg("--replay").arg(&fifo).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let ended = sockeye_tests::within(Duration::from_secs(20), || child.try_wait().unwrap());
    if ended.is_none() {
        child.kill().unwrap();
    }
    let said = child.wait_with_output().unwrap();
    assert!(ended.is_some(), "it waits for someone to write to the FIFO");
    assert_refused(&said.into(), &["cannot replay", "must be a regular file"]);
}

#[test]
fn paths_in_errors_are_harmless() {
    let directory = TempDir::new().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"a\x1b[31m\n\xff");
    let said = replay(&directory.path().join(name), "");
    assert_refused(&said, &["cannot replay"]);
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    let said: Said =
        sockeye("--capture").arg(directory.path().join("none").join(name)).output().unwrap().into();
    assert_refused(&said, &["cannot write"]);
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
}

/// A key, and whether its value is as it should be.
type Shape = (&'static str, fn(&Value) -> bool);

#[track_caller]
fn assert_shape(value: &Value, shape: &[Shape]) {
    for (key, is_right) in shape {
        let pointer = format!("/{}", key.replace('.', "/"));
        match value.pointer(&pointer) {
            Some(found) => assert!(is_right(found), "{key}: {found}"),
            None => panic!("{key} is missing in {value}"),
        }
    }
}

/// Every value inside, keys before it.
fn walk(value: &Value, path: &str, each: &mut impl FnMut(&str, &Value)) {
    each(path, value);
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| walk(value, &format!("{path}.{key}"), each)),
        Value::Array(values) => values.iter().for_each(|value| walk(value, &format!("{path}[]"), each)),
        _ => {}
    }
}

#[test]
fn the_snapshot_keeps_its_names_and_types() {
    let is_count: fn(&Value) -> bool = Value::is_u64;
    let is_number: fn(&Value) -> bool = |value| value.is_number() && !value.is_string();
    let is_ratio: fn(&Value) -> bool =
        |value| value.as_f64().is_some_and(|ratio| (0.0..=1.0).contains(&ratio));
    let is_address: fn(&Value) -> bool =
        |value| value.as_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok());
    for host in [hosts::idle(), hosts::proxy(), hosts::busy_udp(), hosts::troubled(), hosts::portless()] {
        let text = host.print("--json");
        assert!(text.starts_with("{\"schema\":\"sockeye.snapshot/1\","), "the schema comes first");
        assert_eq!(text.lines().count(), 1);
        let snapshot: Value = serde_json::from_str(&text).unwrap();
        assert_shape(
            &snapshot,
            &[
                ("taken_at", |at| *at == "2026-11-22T19:31:04.512Z"),
                ("netns.inode", is_count),
                ("netns.name", |name| name.is_null() || name.is_string()),
                ("sweep.sockets", is_count),
                ("sweep.duration_ms", is_number),
                ("pool.tcp.first", is_count),
                ("pool.tcp.last", is_count),
                ("pool.tcp.range", is_count),
                ("pool.tcp.reserved", is_count),
                ("pool.tcp.held", is_count),
                ("pool.tcp.usable", is_count),
                ("pool.udp.first", is_count),
                ("pool.udp.occupancy_ratio", is_ratio),
                ("states.established", is_count),
                ("states.time_wait", is_count),
                ("destinations", Value::is_array),
                ("closes.per_second", is_number),
                ("closes.last_60s", |bins| bins.as_array().is_some_and(|bins| bins.len() == 60)),
                ("warnings", Value::is_array),
            ],
        );
        for destination in snapshot["destinations"].as_array().unwrap() {
            assert_shape(
                destination,
                &[
                    ("protocol", |protocol| *protocol == "tcp"),
                    ("local_address", is_address),
                    ("remote_address", is_address),
                    ("remote_port", is_count),
                    ("in_use", is_count),
                    ("live", is_count),
                    ("time_wait", is_count),
                    ("occupancy_ratio", is_ratio),
                    ("closes_per_second", is_number),
                    ("headroom.min", is_count),
                    ("headroom.max", is_count),
                ],
            );
        }
        for warning in snapshot["warnings"].as_array().unwrap() {
            assert_shape(warning, &[("id", Value::is_string), ("message", Value::is_string)]);
        }
        walk(&snapshot, "", &mut |path, value| {
            // No name, and never: both are known.
            let known = [".netns.name", ".destinations[].exhausted_in_seconds"];
            assert!(!value.is_null() || known.contains(&path), "{path} is null: absent is said by absence");
        });
    }
}

#[test]
fn sockets_keep_their_names_and_types() {
    let text = hosts::zoo().print("sockets -aim --json");
    let sockets: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(sockets.len(), 15);
    for socket in &sockets {
        assert_shape(
            socket,
            &[
                ("protocol", |protocol| *protocol == "tcp" || *protocol == "udp"),
                ("family", |family| *family == "inet" || *family == "inet6"),
                ("state", Value::is_string),
                ("local_address", Value::is_string),
                ("local_port", Value::is_u64),
                ("cookie", |cookie| cookie.as_str().is_some_and(|text| text.parse::<u64>().is_ok())),
            ],
        );
        walk(socket, "", &mut |path, value| assert!(!value.is_null(), "{path} is null"));
    }
    let in_state = |state: &str| sockets.iter().find(|socket| socket["state"] == state).unwrap();
    let listener = in_state("listen");
    for absent in ["remote_address", "remote_port", "rqueue_bytes", "timer", "mark"] {
        assert_eq!(listener.get(absent), None, "a listener has no {absent}");
    }
    let waiting = in_state("time_wait");
    assert_eq!(waiting["timer"], json!({ "kind": "time_wait", "expires_ms": 59_860, "retransmits": 0 }));
    for absent in ["uid", "inode", "cgroup_id"] {
        assert_eq!(waiting.get(absent), None, "nobody owns a TIME_WAIT: {absent}");
    }
    let connected = in_state("established");
    assert_eq!(connected["uid"], 33);
    assert_eq!(connected["cgroup_id"], 5_012);
    assert_eq!(connected["bind_address_no_port"], true);
    assert_eq!(connected["tcp_info"]["rtt_us"], 1_234);
    assert_eq!(connected["memory"]["drops"], 2);
}

#[test]
fn every_line_of_jsonl_is_the_element_of_the_array() {
    let zoo = hosts::zoo();
    let array: Vec<Value> = serde_json::from_str(&zoo.print("sockets -aeim --json")).unwrap();
    let lines = zoo.print("sockets -aeim -o jsonl");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, array);
}

#[test]
fn csv_says_what_json_says() {
    let zoo = hosts::zoo();
    let array: Vec<Value> = serde_json::from_str(&zoo.print("sockets -aeim --json")).unwrap();
    let text = zoo.print("sockets -aeim -o csv");
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let columns = table.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = table.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), array.len());
    for (row, socket) in rows.iter().zip(&array) {
        let mut told = Vec::new();
        walk(socket, "", &mut |path, value| {
            let name = path.trim_start_matches('.').replace('.', "_");
            match value {
                Value::Object(_) => {}
                Value::String(text) => told.push((name, text.clone())),
                other => told.push((name, other.to_string())),
            }
        });
        let mut filled: Vec<(String, String)> = columns
            .iter()
            .zip(row)
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        filled.sort();
        told.sort();
        assert_eq!(filled, told);
    }
}

#[test]
fn the_result_is_on_stdout_before_the_talk_on_stderr_can_fail() {
    // stderr that cannot be written to changes nothing.
    let directory = TempDir::new().unwrap();
    let capture = hosts::idle().capture(directory.path());
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = sockeye("sockets").arg("--replay").arg(&capture).stderr(full).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(!output.stdout.is_empty());
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = sockeye("--bogus").stderr(full).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]));
}
