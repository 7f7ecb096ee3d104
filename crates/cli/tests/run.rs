//! `sockeye run` over commands whose connections are known: the generator's own log and the kernel's counters agree.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod recorded;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs, mem, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use recorded::{Said, sockeye};
use serde_json::Value;
use sockeye_tests::{Namespace, wait_until, within};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
/// Where the generator listens.
const PORT: u16 = 8_080;
/// What the generator is to do.
const WHAT: &str = "SOCKEYE_TEST_GENERATE";

/// The words that run the generator below.
fn generator() -> [String; 5] {
    let program = env::current_exe().unwrap().into_os_string().into_string().unwrap();
    [program, "generate".to_owned(), "--exact".to_owned(), "--ignored".to_owned(), "--nocapture".to_owned()]
}

/// Not a test: the command that the tests run.
#[test]
#[ignore = "it is the command that the other tests run"]
fn generate() {
    let what = env::var(WHAT).unwrap();
    let (how, numbers) = what.split_once(' ').unwrap();
    let (number, idle_ms) = numbers.split_once(' ').unwrap_or((numbers, "0"));
    let number: u32 = number.parse().unwrap();
    let idle = Duration::from_millis(idle_ms.parse().unwrap());
    if how == "join" {
        TcpStream::connect(("127.0.0.1", PORT)).unwrap();
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", PORT)).unwrap();
    let server = thread::spawn(move || {
        for accepted in listener.incoming() {
            let mut accepted = accepted.unwrap();
            thread::spawn(move || {
                let mut request = [0; 7];
                while accepted.read_exact(&mut request).is_ok() {
                    accepted.write_all(b"answer").unwrap();
                }
            });
        }
    });
    let connect = || TcpStream::connect(("127.0.0.1", PORT)).unwrap();
    let ask = |mut to: &TcpStream| {
        to.write_all(b"request").unwrap();
        to.read_exact(&mut [0; 6]).unwrap();
    };
    match how {
        "keep" => {
            let kept = connect();
            (0..number).for_each(|_| ask(&kept));
        }
        "lose" => (0..number).for_each(|_| ask(&connect())),
        "leak" | "shut" => {
            let kept: Vec<_> = (0..number).map(|_| connect()).collect();
            kept.iter().for_each(&ask);
            // How long they stay open is what the test asks for.
            thread::sleep(idle);
            match how {
                "leak" => mem::forget(kept),
                _ => drop(kept),
            }
        }
        "half" => {
            // Accepted, and not closed though the client has.
            let own = TcpListener::bind(("127.0.0.1", PORT + 1)).unwrap();
            for _ in 0..number {
                drop(TcpStream::connect(("127.0.0.1", PORT + 1)).unwrap());
                mem::forget(own.accept().unwrap());
            }
            // As above.
            thread::sleep(idle);
        }
        "serve" => {
            // The server closes first, and has the TIME_WAIT.
            let own = TcpListener::bind(("127.0.0.1", PORT + 1)).unwrap();
            for _ in 0..number {
                let mut client = TcpStream::connect(("127.0.0.1", PORT + 1)).unwrap();
                drop(own.accept().unwrap());
                assert_eq!(client.read(&mut [0]).unwrap(), 0);
                // The pace that the test asks for.
                thread::sleep(idle);
            }
        }
        "any" => {
            // A server on a port of the range that no look sees.
            let own = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            for _ in 0..number {
                let client = TcpStream::connect(own.local_addr().unwrap()).unwrap();
                let mut accepted = own.accept().unwrap().0;
                drop(client);
                assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
            }
        }
        "bomb" => {
            for _ in 0..number / 10 {
                let [program, arguments @ ..] = generator();
                let mut all: Vec<_> = (0..10)
                    .map(|_| {
                        let mut one = Command::new(&program);
                        one.args(&arguments).env(WHAT, "join 0").stdout(Stdio::null()).spawn().unwrap()
                    })
                    .collect();
                all.iter_mut().for_each(|one| assert!(one.wait().unwrap().success()));
            }
        }
        "stay" => {
            let _kept: Vec<TcpStream> = (0..number).map(|_| connect()).collect();
            fs::write(env::var("READY").unwrap(), "").unwrap();
            server.join().unwrap();
        }
        _ => panic!("{how} is nothing to do"),
    }
    let counted = fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let tcp: Vec<&str> = counted.lines().filter(|line| line.starts_with("Tcp:")).collect();
    let at = tcp[0].split(' ').position(|name| name == "ActiveOpens").unwrap();
    writeln!(std::io::stdout(), "kernel {}", tcp[1].split(' ').nth(at).unwrap()).unwrap();
}

/// `sockeye run --isolate` with these options over the generator, wrapped in a shell's words or not; and its JSON.
fn run(what: &str, options: &str, shell: Option<&str>) -> (Said, Value) {
    let folder = TempDir::new().unwrap();
    let json = folder.path().join("run.json");
    let mut command = sockeye(&format!("run --isolate {options}"));
    command.arg("--export-json").arg(&json).arg("--");
    if let Some(script) = shell {
        command.args(["sh", "-c", script, "sh"]);
    }
    command.args(generator()).env(WHAT, what).env("READY", folder.path().join("ready"));
    let said: Said = command.stdin(Stdio::null()).output().unwrap().into();
    let told =
        serde_json::from_str(&fs::read_to_string(&json).unwrap_or_else(|_| panic!("{said:?}"))).unwrap();
    (said, told)
}

/// `sockeye run` over the generator while others in the same namespace connect, too: as we are, or as another user. How
/// many connections those others made meanwhile.
fn run_among_others(what: &str, options: &str, user: Option<u32>) -> (Said, Value, u64) {
    let folder = TempDir::new().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let json = folder.path().join("run.json");
    let mut command = sockeye(&format!("run {options}"));
    command.arg("--export-json").arg(&json).arg("--").args(generator()).env(WHAT, what);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let stop = AtomicBool::new(false);
    let others = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let (said, made) = thread::scope(|scope| {
        let others = scope.spawn(|| {
            let mut made = 0;
            while !stop.load(Ordering::Relaxed) {
                drop(TcpStream::connect(others.local_addr().unwrap()).unwrap());
                drop(others.accept().unwrap());
                made += 1;
                // A rate, not a wait: more would be a load of its own.
                thread::sleep(Duration::from_millis(2));
            }
            made
        });
        let said: Said = command.stdin(Stdio::null()).output().unwrap().into();
        stop.store(true, Ordering::Relaxed);
        (said, others.join().unwrap())
    });
    let told =
        serde_json::from_str(&fs::read_to_string(&json).unwrap_or_else(|_| panic!("{said:?}"))).unwrap();
    (said, told, made)
}

/// What the kernel counted, as the generator printed it.
fn counted(said: &Said) -> u64 {
    let line = said.stdout.lines().find_map(|line| line.split_once("kernel "));
    line.unwrap_or_else(|| panic!("{said:?}")).1.parse().unwrap()
}

#[track_caller]
fn assert_opens(said: &Said, told: &Value, opens: u64) {
    assert_eq!((&told["opens"], &told["opens_exact"]), (&opens.into(), &true.into()), "{told}");
    assert_eq!(told["accepts"], opens, "{told}");
    assert_eq!(told["destinations"][0]["remote_port"], PORT, "{told}");
    assert_eq!(told["destinations"][0]["opens"], opens, "{told}");
    assert_eq!(counted(said), opens, "{said:?}");
}

// The seven kinds of commands.

#[test]
fn a_kept_connection_is_one() {
    let (said, told) = run("keep 100", "--max-opens 1 --min-reuse 100 --max-leaked 0", None);
    assert_eq!(said.code, 0, "{said:?}");
    assert_opens(&said, &told, 1);
    assert_eq!(
        (&told["verdict"], &told["leaked"], &told["exit_code"]),
        (&"pass".into(), &0.into(), &0.into())
    );
    assert_eq!(told["exchanges_per_connection"], 100.0);
}

#[test]
fn a_lost_keep_alive_is_named() {
    let (said, told) = run("lose 100", "--max-opens 1 --min-reuse 2 --to 127.0.0.1:8080", None);
    assert_eq!(said.code, 1, "{said:?}");
    assert_opens(&said, &told, 100);
    let broken: Vec<_> = told["broken"].as_array().unwrap().iter().map(|rule| &rule["rule"]).collect();
    assert_eq!(broken, ["max_opens to 127.0.0.1:8080", "min_reuse to 127.0.0.1:8080"]);
    assert_eq!((&told["broken"][0]["value"], &told["broken"][0]["limit"]), (&100.0.into(), &1.0.into()));
    assert!(
        said.stderr
            .contains("BROKEN  max_opens to 127.0.0.1:8080: 100 connections opened, at most 1 allowed")
    );
    assert!(told["broken"][0]["evidence"][0].as_str().unwrap().starts_with("127.0.0.1:8080: 100 opened"));
    assert_eq!((&told["time_wait_left"], &told["closed_by"]["local"]), (&100.into(), &100.into()), "{told}");
}

#[test]
fn a_leak_is_found() {
    for idle_ms in [0, 50, 500] {
        let (said, told) = run(&format!("leak 7 {idle_ms}"), "--max-leaked 6", None);
        assert_eq!(said.code, 1, "{said:?}");
        assert_opens(&said, &told, 7);
        assert_eq!((&told["leaked"], &told["leaked_exact"]), (&7.into(), &true.into()), "{idle_ms}: {told}");
        let leak = &told["leaks"][0];
        assert_eq!((&leak["kind"], &leak["certain"]), (&"open".into(), &true.into()), "{told}");
        assert_eq!(leak["remote_port"], PORT);
    }
}

#[test]
fn what_is_closed_at_the_last_moment_is_no_leak() {
    for idle_ms in [0, 50, 500] {
        let (said, told) = run(&format!("shut 7 {idle_ms}"), "--max-leaked 0", None);
        assert_eq!(said.code, 0, "{said:?}");
        assert_opens(&said, &told, 7);
        assert_eq!((&told["leaked"], &told["leaked_exact"]), (&0.into(), &true.into()), "{idle_ms}: {told}");
    }
}

#[test]
fn what_the_other_side_has_closed_is_a_leak_on_this_one() {
    let (said, told) = run("half 4 400", "--max-leaked 3", None);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!((&told["leaked"], &told["leaks"][0]["kind"]), (&4.into(), &"close_wait".into()), "{told}");
}

#[test]
fn brief_connections_of_many_processes_are_all_counted() {
    let (said, told) = run("bomb 200", "--max-opens 199", None);
    assert_eq!(said.code, 1, "{said:?}");
    assert_opens(&said, &told, 200);
}

#[test]
fn a_command_that_ignores_signals_is_ended_when_its_time_is_up() {
    let script = "trap '' TERM INT; \"$@\"; while :; do sleep 1; done";
    let (said, told) = run("lose 20", "--timeout 3s --kill-after 200ms", Some(script));
    assert_eq!(said.code, 124, "{said:?}");
    assert_opens(&said, &told, 20);
    assert_eq!((&told["timed_out"], &told["exit_code"]), (&true.into(), &124.into()));
}

#[test]
fn what_goes_on_behind_a_command_is_told() {
    let script = "\"$@\" >/dev/null & until [ -e \"$READY\" ]; do sleep 0.05; done";
    let (said, told) = run("stay 5", "--kill-left --max-leaked 0", Some(script));
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!((&told["opens"], &told["opens_exact"]), (&5.into(), &true.into()), "{told}");
    assert_eq!(told["exit_code"], 0);
    assert!(told["leaked"].as_u64().unwrap() >= 5, "{told}");
}

#[test]
fn what_goes_on_behind_a_command_may_go_on() {
    let script = "\"$@\" >/dev/null 2>&1 & echo pid $!; until [ -e \"$READY\" ]; do sleep 0.05; done";
    let (said, told) = run("stay 5", "", Some(script));
    let pid = said.stdout.trim().strip_prefix("pid ").unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!((&told["opens"], &told["leaked"]), (&5.into(), &5.into()), "{told}");
    assert_eq!(told["leaks"][0]["kind"], "left_running");
    assert!(said.stderr.contains("1 process of the command is still running"), "{said:?}");
}

#[test]
fn a_command_that_fails_passes_its_code_through() {
    let (said, told) = run("lose 10", "--max-opens 10", Some("\"$@\"; exit 7"));
    assert_eq!((said.code, &told["exit_code"], &told["verdict"]), (7, &7.into(), &"pass".into()), "{said:?}");
    assert_opens(&said, &told, 10);
    let (said, told) = run("lose 10", "--max-opens 9", Some("\"$@\"; exit 7"));
    assert_eq!((said.code, &told["exit_code"], &told["verdict"]), (1, &7.into(), &"fail".into()), "{said:?}");
}

// Without a namespace of its own.

#[test]
fn in_a_cgroup_of_its_own_a_command_is_told_exactly_from_others() {
    Namespace::new().host_root().deadline(LIMIT).run(|| {
        for (what, opens, leaked) in
            [("lose 100", 100, 0), ("bomb 60", 60, 0), ("leak 7 50", 7, 7), ("shut 7 500", 7, 0)]
        {
            let (said, told, others) = run_among_others(what, "--max-opens 100 --max-leaked 7", None);
            assert_eq!((said.code, &told["scope"]), (0, &"cgroup".into()), "{said:?}");
            assert_eq!(
                (&told["opens"], &told["opens_exact"]),
                (&opens.into(), &true.into()),
                "{what}: {told}, and {others} of others"
            );
            assert_eq!((&told["leaked"], &told["leaked_exact"]), (&leaked.into(), &true.into()), "{told}");
            let destinations = told["destinations"].as_array().unwrap();
            assert_eq!(destinations.len(), 1, "{told}");
            assert_eq!(destinations[0]["remote_port"], PORT, "{told}");
            let accepts = |key| told[key].as_u64();
            assert!(accepts("accepts").unwrap() <= opens, "{told}");
            assert!(accepts("accepts_max").or(accepts("accepts")).unwrap() >= opens, "{told}");
            assert!(others > 0);
        }
        let folder = TempDir::new().unwrap();
        let baseline = folder.path().join("baseline.toml");
        let (said, _, _) = run_among_others("lose 50", &format!("--save {}", baseline.display()), None);
        assert_eq!(said.code, 0, "{said:?}");
        for (what, code) in [("lose 50", 0), ("lose 50", 0), ("lose 50", 0), ("lose 60", 1)] {
            let options = format!("--baseline {}", baseline.display());
            let (said, told, _) = run_among_others(what, &options, None);
            assert_eq!(said.code, code, "{said:?} {told}");
        }
    });
    let left: Vec<_> = fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .lines()
        .filter(|line| line.contains(" - cgroup2 "))
        .flat_map(|line| fs::read_dir(line.split(' ').nth(4).unwrap()).into_iter().flatten().flatten())
        .filter(|one| one.file_name().to_string_lossy().starts_with("sockeye-run-"))
        .filter(|one| fs::read_to_string(one.path().join("cgroup.procs")).is_ok_and(|all| all.is_empty()))
        .collect();
    // Of those that other tests have just made nobody is in yet.
    wait_until("no cgroup is left", LIMIT, || left.iter().all(|one| !one.path().exists()));
}

#[test]
fn an_ordinary_user_gets_bounds() {
    const NOBODY: u32 = 65_534;
    Namespace::new().host_root().deadline(LIMIT).run(|| {
        let (said, told, others) = run_among_others("lose 50", "--max-opens 50", Some(NOBODY));
        assert_eq!((said.code, &told["scope"]), (0, &"processes".into()), "{said:?}");
        let [min, max] = ["opens", "opens_max"].map(|key| told[key].as_u64());
        assert!(min.unwrap() <= 50 && max.or(min).unwrap() >= 50, "{told}, and {others} of others");
        let warnings = told["warnings"].to_string();
        assert!(warnings.contains("as root") && warnings.contains("--isolate"), "{told}");
        // Seen, as they stay.
        let (said, told, _) = run_among_others("leak 5 700", "--max-opens 4", Some(NOBODY));
        assert_eq!((said.code, &told["opens"]), (1, &5.into()), "{said:?}");
        assert_eq!(told["peak_live"], 10, "both ends: {told}");
        assert_eq!(told["destinations"][0]["remote_port"], PORT, "{told}");
    });
}

// Baselines.

#[test]
fn the_same_run_is_never_alarming_and_a_fifth_more_always() {
    let folder = TempDir::new().unwrap();
    let baseline = folder.path().join("baseline.toml");
    let (said, _) = run("lose 50", &format!("--save {}", baseline.display()), None);
    assert_eq!(said.code, 0, "{said:?}");
    let compare = |what: &str| run(what, &format!("--baseline {}", baseline.display()), None);
    for _ in 0..20 {
        let (said, told) = compare("lose 50");
        assert_eq!((said.code, &told["verdict"]), (0, &"pass".into()), "{said:?}");
    }
    for _ in 0..20 {
        let (said, told) = compare("lose 60");
        assert_eq!((said.code, &told["verdict"]), (1, &"fail".into()), "{said:?}");
        assert_eq!(told["broken"][2]["rule"], "baseline opens to 127.0.0.1:8080", "{told}");
    }
}

#[test]
fn ports_that_no_look_sees_alarm_nobody() {
    let folder = TempDir::new().unwrap();
    let baseline = folder.path().join("baseline.toml");
    // One at a time, some of which looks find.
    let (said, told) = run("serve 40 10", &format!("--save {}", baseline.display()), None);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!((&told["opens"], &told["peak_ports"]), (&40.into(), &1.into()), "{told}");
    assert!(told["peak_ports_max"].as_u64().unwrap() <= 40, "{told}");
    for what in ["serve 40 0", "serve 40 10", "serve 40 30"] {
        let (said, told) = run(what, &format!("--baseline {} --max-ports 40", baseline.display()), None);
        assert_eq!((said.code, &told["verdict"]), (0, &"pass".into()), "{said:?}");
        assert_eq!(told["rules"][0]["outcome"], "kept", "{told}");
    }
    // Where this side has the TIME_WAIT each is there at the end, whatever looks saw.
    let (_, told) = run("lose 40", "", None);
    assert_eq!((&told["peak_ports"], told.get("peak_ports_max")), (&40.into(), None), "{told}");
}

#[test]
fn a_server_on_any_port_is_one_destination() {
    let check = || {
        let folder = TempDir::new().unwrap();
        let [first, second] = ["first", "second"].map(|name| {
            let baseline = folder.path().join(name);
            let (said, told) = run("any 30", &format!("--save {}", baseline.display()), None);
            assert_eq!(said.code, 0, "{said:?}");
            let destinations = told["destinations"].as_array().unwrap();
            assert_eq!((destinations.len(), &destinations[0]["opens"]), (1, &30.into()), "{told}");
            let closed_by = &told["closed_by"];
            assert_eq!((&closed_by["reset"], &told["closes"]), (&0.into(), &60.into()), "{told}");
            fs::read_to_string(baseline).unwrap()
        });
        assert_eq!(first, second);
    };
    check();
    Namespace::new().without_privilege().deadline(LIMIT).run(check);
}

#[test]
fn lifetimes_of_two_runs_can_be_compared() {
    let folder = TempDir::new().unwrap();
    let saved = |name: &str, what: &str| {
        let (_, told) = run(what, "", None);
        let path = folder.path().join(name);
        fs::write(&path, told.to_string()).unwrap();
        path
    };
    let [long, brief] = [("a", "shut 60 600"), ("b", "shut 60 0")].map(|(name, what)| saved(name, what));
    for (before, after, code) in [(&long, &brief, 1), (&brief, &long, 0), (&long, &long, 0)] {
        let said: Said = sockeye("diff --fail-on lifetimes").args([before, after]).output().unwrap().into();
        assert_eq!(said.code, code, "{said:?}");
    }
}

#[test]
fn who_cannot_write_a_file_is_told_its_name_as_it_was_typed() {
    let said: Said =
        sockeye("run --isolate --export-json /proc/none/run.json -- true").output().unwrap().into();
    assert_eq!(said.code, 2, "{said:?}");
    assert!(
        said.stderr.ends_with("cannot write /proc/none/run.json: No such file or directory (os error 2)\n"),
        "{said:?}"
    );
}

// What a command gets, and what it gets to see.

#[test]
fn an_ordinary_user_needs_nothing_more() {
    let namespace = Namespace::new().without_privilege().deadline(LIMIT);
    namespace.run(|| {
        let (said, told) = run("lose 30", "--max-opens 30", Some("grep CapEff /proc/self/status; \"$@\""));
        assert_eq!(said.code, 0, "{said:?}");
        assert_opens(&said, &told, 30);
        assert!(said.stdout.starts_with("CapEff:\t0000000000000000\n"), "{said:?}");
        // Longer than a connection must be idle to count as forgotten, with room for a busy machine.
        let (said, told) = run("leak 7 400", "--max-leaked 6", None);
        assert_eq!(said.code, 0, "by timing: {said:?}");
        assert_eq!((&told["leaked_max"], &told["leaked_exact"]), (&7.into(), &false.into()), "{told}");
        assert_eq!(told["rules"][0]["outcome"], "doubtful");
        assert!(
            said.stderr.contains("DOUBTFUL  max_leaked: 0 to ") && said.stderr.contains("CAP_PERFMON"),
            "{said:?}"
        );
    });
}

#[test]
fn input_and_outputs_are_the_commands_own() {
    let mut command = sockeye("run --isolate -- sh -c");
    command.args(["cat; echo out; echo err >&2", "-o", "json", "--max-opens"]).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"in\n").unwrap();
    let said: Said = child.wait_with_output().unwrap().into();
    assert_eq!((said.code, said.stdout.as_str()), (0, "in\nout\n"));
    assert!(said.stderr.starts_with("err\n\nsockeye  exit code 0 in "), "{said:?}");
}

#[test]
fn signals_are_passed_on() {
    for (signal, code) in [(Signal::SIGTERM, 3), (Signal::SIGUSR1, 4), (Signal::SIGINT, 5)] {
        let folder = TempDir::new().unwrap();
        let ready = folder.path().join("ready");
        let script = "trap 'exit 3' TERM; trap 'exit 4' USR1; trap 'exit 5' INT; : > \"$0\"; while :; do sleep 0.05; done";
        let mut command = sockeye("run --isolate -- sh -c");
        command.arg(script).arg(&ready).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        wait_until("the command runs", LIMIT, || ready.exists());
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let status = within(LIMIT, || child.try_wait().unwrap()).expect("it goes on");
        assert_eq!(status.code(), Some(code), "{signal}");
    }
    // Of a parent that ignores the ends of its children.
    let mut deaf = Command::new("sh");
    deaf.args(["-c", "trap '' CHLD; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_sockeye"), "run", "--isolate"]);
    let said: Said = deaf.args(["--", "sh", "-c", "exit 3"]).stdin(Stdio::null()).output().unwrap().into();
    assert_eq!(said.code, 3, "{said:?}");
    // Without a trap: a shell that sets one lets the signal through by itself.
    for (signal, code) in [("KILL", 128 + 9), ("TERM", 128 + 15), ("INT", 128 + 2), ("USR1", 128 + 10)] {
        let (said, _) = run("lose 1", "", Some(&format!("kill -{signal} $$")));
        assert_eq!(said.code, code, "{signal}: {said:?}");
    }
}

#[test]
fn a_command_is_ended_by_the_first_signal_when_its_time_is_up() {
    for isolate in ["", "--isolate"] {
        let mut command = sockeye(&format!("run {isolate} --timeout 200ms --kill-after 1h -- sleep 3600"));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let status = within(LIMIT, || child.try_wait().unwrap()).expect("SIGTERM reaches the command");
        assert_eq!(status.code(), Some(124), "{isolate}");
    }
}

#[test]
fn a_misspelled_option_is_no_command() {
    let said = |words: &str| -> Said { sockeye(words).stdin(Stdio::null()).output().unwrap().into() };
    let wrong = said("run --max-open 5 -- true");
    assert_eq!(wrong.code, 2, "{wrong:?}");
    assert!(wrong.stderr.contains("unexpected argument '--max-open'"), "{wrong:?}");
    // What follows the command is its own, with -- and without.
    assert_eq!(said("run --isolate test -n --max-opens").code, 0);
    assert_eq!(said("run --isolate -- -nonesuch").code, 127);
}

#[test]
fn a_command_that_fails_and_opens_nothing_is_told_where_it_was() {
    let said = |script: &str| -> Said {
        sockeye("run --isolate -- sh -c").arg(script).stdin(Stdio::null()).output().unwrap().into()
    };
    assert!(said("exit 3").stderr.contains("only loopback is in that namespace"));
    assert!(!said("exit 0").stderr.contains("only loopback"));
}

#[test]
fn what_cannot_be_run_is_told_as_shells_do() {
    let code = |word: &str| {
        let said: Said = sockeye("run --isolate --").arg(word).output().unwrap().into();
        assert!(said.stderr.starts_with("sockeye: cannot run "), "{said:?}");
        said.code
    };
    assert_eq!((code("/nowhere/at/all"), code("no-such-command-\u{1b}[31m")), (127, 127));
    assert_eq!((code("/"), code(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))), (126, 126));
}

// Files.

#[test]
fn a_budget_file_is_held_to_and_its_mistakes_are_told_with_their_line() {
    let folder = TempDir::new().unwrap();
    let budget = folder.path().join("budget.toml");
    fs::write(&budget, "max_leaked = 0\n[[destination]]\nto = \"127.0.0.0/8:8080\"\nmax_opens = 5\n")
        .unwrap();
    let options = format!("--budget {}", budget.display());
    let (said, told) = run("lose 6", &options, None);
    assert_eq!(
        (said.code, &told["broken"][0]["rule"]),
        (1, &"max_opens to 127.0.0.0/8:8080".into()),
        "{said:?}"
    );
    fs::write(&budget, "max_leaked = 0\nmax_open = 3\n").unwrap();
    let said: Said = sockeye(&format!("run --isolate {options} -- true")).output().unwrap().into();
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("line 2: \"max_open\" is no limit; there are max_opens"), "{said:?}");
    fs::write(&budget, "format = 9\n").unwrap();
    let said: Said =
        sockeye(&format!("run --isolate --baseline {} -- true", budget.display())).output().unwrap().into();
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("use a newer sockeye, or save it again"), "{said:?}");
}

#[test]
fn every_format_tells_what_is_broken() {
    let folder = TempDir::new().unwrap();
    let [junit, markdown] = ["run.xml", "run.md"].map(|name| folder.path().join(name));
    let mut command = sockeye("run --isolate --max-opens 5 --max-leaked 0");
    command.arg("--export-junit").arg(&junit).arg("--export-markdown").arg(&markdown).arg("--");
    command.args(generator()).env(WHAT, "lose 6").env("GITHUB_ACTIONS", "true");
    let said: Said = command.stdin(Stdio::null()).output().unwrap().into();
    assert_eq!(said.code, 1, "{said:?}");
    let junit = fs::read_to_string(junit).unwrap();
    assert!(junit.contains("tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"0\""), "{junit}");
    assert!(
        junit.contains(
            "<failure message=\"max_opens: 6 connections opened, at most 5 allowed\">127.0.0.1:8080"
        )
    );
    let markdown = fs::read_to_string(markdown).unwrap();
    assert!(markdown.contains("| ❌ | max&#95;opens | 6 | ≤ 5 |  |\n"), "{markdown}");
    assert!(markdown.contains("| 127.0.0.1:8080 | 6 | "), "{markdown}");
    let annotation =
        "\n::error title=sockeye%3A max_opens::max_opens: 6 connections opened, at most 5 allowed%0A";
    assert!(said.stderr.contains(annotation), "{said:?}");
}

#[test]
fn files_without_an_end_are_refused() {
    for option in ["--budget", "--baseline"] {
        let said: Said =
            sockeye("run --isolate").args([option, "/dev/zero", "--", "true"]).output().unwrap().into();
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{said:?}");
        assert!(said.stderr.contains("/dev/zero") && said.stderr.contains("more than 4 MiB"), "{said:?}");
    }
}
