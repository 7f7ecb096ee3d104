//! The program in every surroundings it may meet: without privilege, IPv6, ports, /proc, netlink or descriptors; in
//! other namespaces, among many destinations, under churn.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod confined;

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sockeye_tests::{Churn, Close, Load, Namespace, Phase, in_namespace, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

fn sockeye(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockeye"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command
}

/// What it printed; it must have ended well, with nothing to say on stderr.
#[track_caller]
fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{command:?}: {out}");
    out
}

/// What it complained of; it must have ended with exit code 2, without a result, and not by a panic.
#[track_caller]
fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out.as_str()), (Some(2), ""), "{command:?}: {err}");
    assert!(err.starts_with("sockeye: ") && err.lines().count() == 1 && !err.contains("panicked"), "{err}");
    err
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

/// A snapshot as JSON, whole: every name it promises is there and every number makes sense. The screen must work too.
#[track_caller]
fn snapshot(prepare: impl Fn(&mut Command)) -> Value {
    let run = |arguments: &str| {
        let mut command = sockeye(arguments);
        prepare(&mut command);
        said(command)
    };
    let screen = run("snapshot");
    assert!(screen.contains("EPHEMERAL PORTS") && !screen.contains("NaN"), "{screen}");
    let snapshot: Value = serde_json::from_str(&run("--json --top 100000")).unwrap();
    is_whole(&snapshot);
    snapshot
}

#[track_caller]
fn is_whole(snapshot: &Value) {
    assert_eq!(snapshot["schema"], "sockeye.snapshot/1");
    for number in [
        "/sweep/sockets",
        "/sweep/duration_ms",
        "/pool/tcp/first",
        "/pool/tcp/last",
        "/pool/tcp/range",
        "/pool/tcp/reserved",
        "/pool/tcp/held",
        "/pool/tcp/usable",
        "/pool/udp/range",
        "/pool/udp/usable",
        "/pool/udp/in_use",
        "/states/established",
        "/states/time_wait",
        "/closes/per_second",
    ] {
        let value = snapshot.pointer(number).unwrap_or(&Value::Null);
        assert!(value.as_f64().is_some_and(|value| value >= 0.0), "{number}: {value}");
    }
    assert!(snapshot["taken_at"].as_str().is_some_and(|at| at.ends_with('Z')), "{}", snapshot["taken_at"]);
    assert!(snapshot["netns"].as_object().is_some_and(|netns| netns.contains_key("name")));
    let bins = snapshot["closes"]["last_60s"].as_array().unwrap();
    assert!(bins.len() == 60 && bins.iter().all(Value::is_u64));
    let ratio = |value: &Value| value.as_f64().is_some_and(|ratio| (0.0..=1.0).contains(&ratio));
    assert!(ratio(&snapshot["pool"]["udp"]["occupancy_ratio"]), "{}", snapshot["pool"]);
    for destination in destinations(snapshot) {
        for text in ["protocol", "local_address", "remote_address"] {
            assert!(destination[text].is_string(), "{destination}");
        }
        for number in ["remote_port", "in_use", "live", "time_wait"] {
            assert!(destination[number].is_u64(), "{number}: {destination}");
        }
        assert!(ratio(&destination["occupancy_ratio"]), "{destination}");
        assert!(destination["closes_per_second"].is_f64());
        let headroom = ["min", "max"].map(|end| destination["headroom"][end].as_u64().unwrap());
        assert!(headroom[0] <= headroom[1], "{destination}");
    }
    for warning in snapshot["warnings"].as_array().unwrap() {
        assert!(warning["id"].is_string() && warning["message"].is_string(), "{warning}");
    }
}

fn destinations(snapshot: &Value) -> &[Value] {
    snapshot["destinations"].as_array().unwrap()
}

fn warnings(snapshot: &Value) -> Vec<&str> {
    let warnings = snapshot["warnings"].as_array().unwrap();
    warnings.iter().map(|warning| warning["id"].as_str().unwrap()).collect()
}

fn number(snapshot: &Value, pointer: &str) -> u64 {
    snapshot.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} of {snapshot}"))
}

/// A listener and connections to it, both ends of each.
fn connections(count: usize) -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:20000").unwrap();
    let open = (0..count).flat_map(|_| {
        let client = TcpStream::connect("127.0.0.1:20000").unwrap();
        [client, listener.accept().unwrap().0]
    });
    let open = open.collect();
    (listener, open)
}

// Privilege and namespaces.

#[test]
fn an_ordinary_user_needs_nothing_more() {
    Namespace::new().without_privilege().run(|| {
        let _open = connections(3);
        let _udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let snapshot = snapshot(|_| {});
        assert_eq!(number(&snapshot, "/states/established"), 6);
        assert_eq!(number(&snapshot, "/states/listen"), 1);
        assert_eq!(number(&snapshot, "/sweep/sockets"), 8);
        let [destination] = destinations(&snapshot) else { panic!("{snapshot}") };
        assert_eq!(number(destination, "/in_use"), 3);
        assert_eq!(warnings(&snapshot), [""; 0], "nothing is missing");
        let sockets: Value = serde_json::from_str(&said(sockeye("sockets -taueim --json"))).unwrap();
        assert_eq!(sockets.as_array().unwrap().len(), 8);
    });
}

#[test]
fn a_fresh_namespace_is_empty_and_that_is_shown() {
    Namespace::new().run(|| {
        let snapshot = snapshot(|_| {});
        assert_eq!(number(&snapshot, "/sweep/sockets"), 0);
        assert_eq!((destinations(&snapshot).len(), warnings(&snapshot).len()), (0, 0));
        assert_eq!(number(&snapshot, "/pool/tcp/usable"), number(&snapshot, "/pool/tcp/range"));
        assert_eq!(said(sockeye("sockets -tau --json")).trim(), "[]");
        assert_eq!(said(sockeye("sockets -tau -o jsonl")), "");
    });
}

#[test]
fn other_namespaces_by_name_path_and_process() {
    Namespace::new().run(|| {
        let _open = connections(4);
        let here = fs::read_link("/proc/self/ns/net").unwrap();
        let inode: u64 = here.to_str().unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
        let process = std::process::id();
        let own_path = format!("/proc/{process}/ns/net");
        let source = CString::new(own_path.clone()).unwrap();
        for (text, name) in [
            ("web".to_string(), Value::from("web")),
            (own_path.clone(), Value::Null),
            (process.to_string(), Value::Null),
        ] {
            let mut command = sockeye(&format!("--json -N {text}"));
            // It looks from a namespace of its own.
            confined::name_web(&mut command, &source);
            confined::elsewhere(&mut command);
            let snapshot: Value = serde_json::from_str(&said(command)).unwrap();
            is_whole(&snapshot);
            assert_eq!(number(&snapshot, "/states/established"), 8, "-N {text}");
            assert_eq!((number(&snapshot, "/netns/inode"), &snapshot["netns"]["name"]), (inode, &name));
        }
        // Without -N that place is empty.
        let mut command = sockeye("--json");
        confined::elsewhere(&mut command);
        let snapshot: Value = serde_json::from_str(&said(command)).unwrap();
        assert_eq!(number(&snapshot, "/sweep/sockets"), 0);
    });
}

#[test]
fn entering_a_namespace_without_privilege_is_refused_with_the_reason() {
    Namespace::new().without_privilege().run(|| {
        let error = refused(sockeye("--json -N /proc/self/ns/net"));
        assert!(error.contains("CAP_SYS_ADMIN"), "{error}");
    });
}

// IPv6 and ports.

#[test]
fn without_ipv6_there_is_ipv4() {
    Namespace::new().no_ipv6().run(|| {
        assert!(TcpListener::bind("[::1]:0").is_err());
        let _open = connections(2);
        let snapshot = snapshot(|_| {});
        assert_eq!(number(&snapshot, "/states/established"), 4);
        assert_eq!(warnings(&snapshot), [""; 0]);
        assert_eq!(said(sockeye("sockets -6 -tau --json")).trim(), "[]");
        let four: Value = serde_json::from_str(&said(sockeye("sockets -4 -tau --json"))).unwrap();
        assert_eq!(four.as_array().unwrap().len(), 5);
    });
}

#[test]
fn a_range_of_two_ports_fills_up() {
    Namespace::new().port_range("40000 40001").run(|| {
        let _one = connections(1);
        let half = snapshot(|_| {});
        assert_eq!(half["pool"]["tcp"]["range"], 2);
        assert_eq!(
            (number(&half, "/destinations/0/in_use"), number(&half, "/destinations/0/headroom/max")),
            (1, 1)
        );
        let _two = TcpStream::connect("127.0.0.1:20000").unwrap();
        let full = snapshot(|_| {});
        assert_eq!(number(&full, "/destinations/0/headroom/max"), 0);
        assert_eq!(full["destinations"][0]["occupancy_ratio"], 1.0);
        assert!(warnings(&full).contains(&"exhausted"), "{:?}", warnings(&full));
        let error = TcpStream::connect("127.0.0.1:20000").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "the kernel agrees");
    });
}

#[test]
fn a_range_of_one_port_is_a_pool() {
    Namespace::new().port_range("40000 40000").run(|| {
        let empty = snapshot(|_| {});
        assert_eq!((number(&empty, "/pool/tcp/range"), number(&empty, "/pool/tcp/usable")), (1, 1));
        let _open = connections(1);
        let full = snapshot(|_| {});
        assert_eq!(
            (number(&full, "/destinations/0/headroom/min"), number(&full, "/destinations/0/headroom/max")),
            (0, 0)
        );
    });
}

#[test]
fn where_all_ports_are_reserved_none_is_usable_and_a_note_says_so() {
    Namespace::new().sysctl("net.ipv4.ip_local_reserved_ports", "1-65535").run(|| {
        let _listener = TcpListener::bind("127.0.0.1:20000").unwrap();
        let error = TcpStream::connect("127.0.0.1:20000").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL), "the kernel agrees");
        let snapshot = snapshot(|_| {});
        assert_eq!(number(&snapshot, "/pool/tcp/usable"), 0);
        assert_eq!(number(&snapshot, "/pool/tcp/reserved"), number(&snapshot, "/pool/tcp/range"));
        assert_eq!(warnings(&snapshot)[0], "no_usable_ports");
        let screen = said(sockeye("snapshot"));
        assert!(screen.contains("none of the 28232 ports is left"), "{screen}");
    });
}

#[test]
fn a_reserved_list_of_every_second_port_is_read_whole() {
    Namespace::new().port_range("1024 65535").run(|| {
        // A write to this file takes a page at most, and further writes add to the list.
        let mut file = File::create("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap();
        let ports: Vec<String> = (1025..=65_535).step_by(2).map(|port| port.to_string()).collect();
        for some in ports.chunks(500) {
            file.write_all(some.join(",").as_bytes()).unwrap();
        }
        drop(file);
        // A sysctl answers one read().
        let mut list = vec![0; 1 << 20];
        let length =
            File::open("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap().read(&mut list).unwrap();
        assert!(length > 100_000, "{length} bytes");
        let snapshot = snapshot(|_| {});
        assert_eq!(number(&snapshot, "/pool/tcp/range"), 64_512);
        assert_eq!(number(&snapshot, "/pool/tcp/reserved"), 32_256);
        assert_eq!(number(&snapshot, "/pool/tcp/usable"), 32_256);
        assert_eq!(warnings(&snapshot), [""; 0]);
    });
}

// What is taken away from the process itself.

#[test]
fn a_masked_proc_leaves_what_the_kernel_tells_by_netlink() {
    for place in [c"/proc/sys", c"/proc/sys/net", c"/proc"] {
        Namespace::new().run(|| {
            let _open = connections(2);
            let snapshot = snapshot(|command| confined::mask(command, place));
            assert_eq!(number(&snapshot, "/states/established"), 4);
            // The kernel's default range is assumed, and that is said.
            assert_eq!(number(&snapshot, "/pool/tcp/first"), 32_768);
            let warnings = snapshot["warnings"].to_string();
            assert!(warnings.contains("ip_local_port_range"), "{place:?}: {warnings}");
            assert!(warnings.contains("setting_unknown"), "{place:?}: {warnings}");
            let mut sockets = sockeye("sockets -ta --json");
            confined::mask(&mut sockets, place);
            let sockets: Value = serde_json::from_str(&said(sockets)).unwrap();
            assert_eq!(sockets.as_array().unwrap().len(), 5);
        });
    }
}

#[test]
fn owners_that_cannot_be_told_have_a_reason() {
    Namespace::new().run(|| {
        let _open = connections(2);
        let mut command = sockeye("snapshot --by owner --json");
        confined::mask(&mut command, c"/proc");
        let masked = said(command);
        assert!(masked.contains("no process is to be seen"), "{masked}");
        // The processes of another pid namespace than ours are seen, and told by their numbers there.
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", env!("CARGO_BIN_EXE_sockeye")]);
        command.args(["watch", "200ms", "2", "--by", "owner", "-o", "jsonl"]).stdin(Stdio::null());
        let elsewhere = said(command);
        assert!(elsewhere.contains("/proc is not that of our pid namespace"), "{elsewhere}");
        assert!(!elsewhere.contains("no process is to be seen"), "{elsewhere}");
        assert!(elsewhere.contains(&format!("\"pid\":{}", std::process::id())), "{elsewhere}");
    });
}

#[test]
fn without_netlink_there_is_an_error_that_says_so() {
    for (errno, words) in [
        (libc::EAFNOSUPPORT, "no netlink sock_diag"),
        (libc::EPERM, "sandbox"),
        (libc::EMFILE, "Too many open files"),
    ] {
        for arguments in ["snapshot", "--json", "sockets -ta"] {
            let mut command = sockeye(arguments);
            confined::forbid_netlink(&mut command, errno);
            let error = refused(command);
            assert!(error.contains(words), "errno {errno}: {error}");
            assert_eq!(error.matches("os error").count(), 1, "{error}");
        }
    }
}

#[test]
fn with_too_few_descriptors_there_are_notes_and_with_fewer_an_error() {
    Namespace::new().run(|| {
        let _open = connections(2);
        // One for its namespace, one for netlink, none for files.
        let snapshot = snapshot(|command| confined::leave_descriptors(command, 2));
        assert_eq!(number(&snapshot, "/states/established"), 4);
        let warnings = snapshot["warnings"].to_string();
        assert!(warnings.contains("Too many open files"), "{warnings}");
        // With none at all the dynamic loader would fail before the program.
        let mut command = sockeye("--json");
        confined::leave_descriptors(&mut command, 1);
        let error = refused(command);
        assert_eq!(error.matches("Too many open files").count(), 1, "{error}");
        assert!(error.contains("ulimit -n 1024"), "{error}");
    });
}

// Load.

#[test]
fn without_threads_one_reads_it_all() {
    in_namespace(|| {
        // So many that they are shared out to threads.
        let load = Load::established(10_500, 2).unwrap();
        for stack in ["", "1152921504606846976"] {
            // No thread can be made: there is no memory for such a stack.
            let snapshot = snapshot(|command| {
                command.env("RUST_MIN_STACK", stack);
            });
            assert_eq!(number(&snapshot, "/sweep/sockets"), load.sockets() as u64);
            assert_eq!(number(&snapshot, "/states/established"), 2 * load.connections() as u64);
            assert_eq!(number(&snapshot, "/states/listen"), 2);
            assert_eq!(warnings(&snapshot), [] as [&str; 0]);
        }
    });
}

#[test]
fn twenty_thousand_destinations() {
    const COUNT: u32 = 20_000;
    let namespace = Namespace::new().sysctl("net.ipv4.tcp_max_tw_buckets", "131072");
    namespace.deadline(Duration::from_secs(120)).run(|| {
        let listener = TcpListener::bind("0.0.0.0:20000").unwrap();
        for number in 0..COUNT {
            let address = Ipv4Addr::from_bits(Ipv4Addr::new(127, 8, 0, 1).to_bits() + 3 * number);
            let client = TcpStream::connect((address, 20_000)).unwrap();
            let (server, _) = listener.accept().unwrap();
            drop(client);
            drop(server);
        }
        let snapshot = snapshot(|_| {});
        assert_eq!(number(&snapshot, "/destination_count"), u64::from(COUNT));
        assert_eq!(destinations(&snapshot).len(), COUNT as usize);
        assert!(destinations(&snapshot).iter().all(|destination| destination["in_use"] == 1));
        assert_eq!(number(&snapshot, "/states/time_wait"), u64::from(COUNT));
        let few: Value = serde_json::from_str(&said(sockeye("--json --top 3"))).unwrap();
        assert_eq!((destinations(&few).len(), number(&few, "/destination_count")), (3, u64::from(COUNT)));
        assert!(said(sockeye("snapshot")).contains("19,990 more"), "{}", said(sockeye("snapshot")));
        eprintln!("{COUNT} destinations in {} ms", snapshot["sweep"]["duration_ms"]);
    });
}

fn phase(per_second: u32, seconds: u64) -> Phase {
    Phase { per_second, lasts: Duration::from_secs(seconds) }
}

#[test]
fn ten_at_once_under_churn_all_succeed() {
    Namespace::new().run(|| {
        let churn = Churn::start(&[phase(3000, 60)], 5).unwrap();
        wait_until("some churn", LIMIT, || churn.closes().len() > 500);
        for _ in 0..3 {
            let start = |number: usize| {
                let arguments =
                    ["--json", "snapshot", "sockets -tau --json", "sockets -tae", "sockets -ta -o csv"];
                let mut command = sockeye(arguments[number % arguments.len()]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            };
            let running: Vec<_> = (0..10).map(start).collect();
            for (number, child) in running.into_iter().enumerate() {
                let output = child.wait_with_output().unwrap();
                let (out, err) = texts(&output);
                assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "number {number}");
                if matches!(number % 5, 0 | 2) {
                    serde_json::from_str::<Value>(&out).unwrap();
                }
                assert!(!out.is_empty());
            }
        }
        assert!(churn.closes().len() > 1000, "it went on meanwhile");
    });
}

/// A snapshot as JSON between two instants.
struct Look {
    begun: Instant,
    ended: Instant,
    snapshot: Value,
}

impl Look {
    fn take() -> Look {
        let begun = Instant::now();
        let snapshot = serde_json::from_str(&said(sockeye("--json --top 100"))).unwrap();
        Look { begun, ended: Instant::now(), snapshot }
    }

    /// Closes in all, and towards one destination.
    fn closes(&self) -> u64 {
        let bins = self.snapshot["closes"]["last_60s"].as_array().unwrap();
        bins.iter().map(|bin| bin.as_u64().unwrap()).sum()
    }

    fn closes_towards(&self, remote: SocketAddr) -> f64 {
        let is_it = |destination: &&Value| {
            let address: IpAddr = destination["remote_address"].as_str().unwrap().parse().unwrap();
            SocketAddr::new(address, destination["remote_port"].as_u64().unwrap() as u16) == remote
        };
        let destination = destinations(&self.snapshot).iter().find(is_it).unwrap();
        60.0 * destination["closes_per_second"].as_f64().unwrap()
    }

    /// Closes of the 60 s before the middle of the look, and how far from it a true answer may be: 2 %, and what was
    /// closed while it looked.
    fn made(&self, log: &[Close]) -> (u64, u64) {
        let during =
            log.iter().filter(|close| self.begun <= close.at && close.at <= self.ended).count() as u64;
        let middle = self.begun + (self.ended - self.begun) / 2;
        let in_window = |close: &&Close| close.at <= middle && middle - close.at < Duration::from_secs(60);
        let made = log.iter().filter(in_window).count() as u64;
        (made, made / 50 + during)
    }
}

#[test]
fn closes_per_second_are_those_that_were_made() {
    let namespace = Namespace::new().sysctl("net.ipv4.tcp_tw_reuse", "0");
    namespace.run(|| {
        let churn = Churn::start(&[phase(300, 5), phase(1000, 5), phase(100, 2), phase(700, 5)], 3).unwrap();
        // All of the first three phases, and two seconds of the last.
        const AMID: usize = 300 * 5 + 1000 * 5 + 100 * 2 + 700 * 2;
        wait_until("a look amid churn", Duration::from_secs(60), || churn.closes().len() >= AMID);
        let amid = Look::take();
        let doors = churn.destinations().to_vec();
        let log = churn.finish().unwrap();
        let after = Look::take();
        for (look, when) in [(&amid, "amid churn"), (&after, "after it")] {
            let (told, (made, tolerance)) = (look.closes(), look.made(&log));
            eprintln!("{when}: {told} closes told, {made} made");
            assert!(told.abs_diff(made) <= tolerance, "{when}: {told} closes told, {made} made");
            let per_second = look.snapshot["closes"]["per_second"].as_f64().unwrap();
            assert!((per_second * 60.0 - told as f64).abs() < 1.0, "{per_second}");
            for door in &doors {
                let log: Vec<Close> = log.iter().filter(|close| close.remote == *door).copied().collect();
                let (told, (made, tolerance)) = (look.closes_towards(*door), look.made(&log));
                let off = (told - made as f64).abs();
                assert!(off <= tolerance as f64 + 1.0, "{when}: {told} told, {made} made");
            }
        }
        assert_eq!(after.closes(), log.len() as u64, "when nothing races, exactly");
    });
}
