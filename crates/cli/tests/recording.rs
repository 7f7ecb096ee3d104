//! record and report as programs: what is kept is what the kernel and the generator tell, through signals and kills.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod recorded;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use recorded::{Said, run, sockeye};
use serde_json::Value;
use sockeye_recording::{
    ClosedBy, Connection, Destination, Direction, Evidence, Limits, Protocol, Recorder as Writer, Rows,
    Setting, Tick, Time, Warning,
};
use sockeye_tests::{Churn, Namespace, Phase, in_namespace, wait_until, within};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);

/// `record` at work in a directory, from the moment that it says so.
struct Recorder(Child);

impl Recorder {
    fn start(directory: &Path, arguments: &str) -> Recorder {
        let before = ticks(directory);
        let mut command = sockeye(&format!("record --interval 50ms {arguments}"));
        command.arg("--output").arg(directory);
        let child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A tick of its own is there.
        wait_until("a first tick", LIMIT, || ticks(directory) > before);
        Recorder(child)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    fn end(mut self, signal: Signal) -> Said {
        self.signal(signal);
        if within(LIMIT, || self.0.try_wait().unwrap()).is_none() {
            self.0.kill().unwrap();
            panic!("it does not end");
        }
        self.0.wait_with_output().unwrap().into()
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Ticks recorded so far.
fn ticks(directory: &Path) -> u64 {
    reported(directory, "").map_or(0, |report| report["totals"]["ticks"].as_u64().unwrap())
}

/// `report --json`, or what it says instead.
fn reported(directory: &Path, arguments: &str) -> Result<Value, String> {
    let mut command = sockeye(&format!("report --json {arguments}"));
    let said: Said = command.arg(directory).output().unwrap().into();
    match said.code {
        0 => Ok(serde_json::from_str(&said.stdout).unwrap()),
        _ => Err(said.stderr),
    }
}

fn churn(closes: u32) -> usize {
    let phase = Phase { per_second: closes, lasts: Duration::from_secs(1) };
    let churn = Churn::start(&[phase], 3).unwrap();
    churn.finish().unwrap().len()
}

#[test]
fn what_was_recorded_is_what_happened() {
    Namespace::new().sysctl("net.ipv4.tcp_tw_reuse", "0").run(|| {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("history");
        let recorder = Recorder::start(&path, "");
        let made = churn(300) as u64;
        // Both ends of each are in this namespace.
        wait_until("all ends", LIMIT, || {
            reported(&path, "").is_ok_and(|report| report["totals"]["ended"] == 2 * made)
        });
        let live = reported(&path, "").unwrap();
        let said = recorder.end(Signal::SIGTERM);
        assert_eq!((said.code, said.stdout.as_str()), (0, ""), "{said:?}");
        assert!(said.stderr.starts_with("sockeye: recording in "), "{said:?}");
        let report = reported(&path, "").unwrap();
        for count in ["opens", "closes", "ended"] {
            assert_eq!(report["totals"][count], 2 * made, "{count}");
            assert_eq!(live["totals"][count], 2 * made, "{count}, from the journal");
        }
        assert_eq!(report["totals"]["time_wait_max"], made);
        // Each destination had a third, and its ports are in use after the last.
        let destinations = report["destinations"].as_array().unwrap();
        let towards: Vec<u64> = destinations
            .iter()
            .filter(|row| row["remote_address"].as_str().unwrap().starts_with("127.0.3."))
            .map(|row| row["opens"].as_u64().unwrap())
            .collect();
        assert_eq!((towards.len(), towards.iter().sum::<u64>()), (3, made), "{towards:?}");
        assert_eq!(fs::read_dir(path.join("journal")).unwrap().count(), 0, "all of it is Parquet");
        assert_eq!(fs::read_dir(path.join("connections")).unwrap().count(), 1);

        // A later stretch alone, and none.
        let end = report["end"].as_str().unwrap();
        assert_eq!(
            reported(&path, &format!("--begin {end}"))
                .unwrap_err()
                .matches("nothing was recorded then")
                .count(),
            1
        );
        let none = reported(&path, "--begin 2020-01-01 --end 2020-01-02").unwrap_err();
        assert!(none.contains("what is recorded is from 20"), "{none}");
    });
}

#[test]
fn a_killed_recorder_goes_on_where_it_was() {
    Namespace::new().sysctl("net.ipv4.tcp_tw_reuse", "0").run(|| {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("history");
        let mut made = 0;
        for _ in 0..2 {
            let recorder = Recorder::start(&path, "");
            made += 2 * churn(50) as u64;
            wait_until("all ends", LIMIT, || reported(&path, "").unwrap()["totals"]["ended"] == made);
            recorder.kill();
            assert_eq!(reported(&path, "").unwrap()["totals"]["ended"], made);
        }
        let recorder = Recorder::start(&path, "");
        let second: Said = sockeye("record").arg("-o").arg(&path).output().unwrap().into();
        assert_eq!(second.code, 2);
        assert!(second.stderr.contains("is being recorded to by another sockeye"), "{second:?}");
        let said = recorder.end(Signal::SIGINT);
        assert!(said.stderr.contains("rows of an earlier recorder that was killed were kept"), "{said:?}");
        assert_eq!(reported(&path, "").unwrap()["totals"]["ended"], made);
    });
}

#[test]
fn an_ordinary_user_records_too() {
    Namespace::new().without_privilege().run(|| {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("history");
        let recorder = Recorder::start(&path, "--keep 1d --max-size 16M");
        assert_eq!(recorder.end(Signal::SIGTERM).code, 0);
        assert!(reported(&path, "").unwrap()["totals"]["ticks"].as_u64().unwrap() > 0);
    });
}

#[test]
fn the_report_is_a_screen_a_page_and_a_side_of_a_comparison() {
    in_namespace(|| {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("history");
        let recorder = Recorder::start(&path, "");
        churn(30);
        recorder.end(Signal::SIGTERM);
        let page = directory.path().join("page.html");
        let mut command = sockeye("report --color never");
        let said: Said = command.arg(&path).arg("--html").arg(&page).output().unwrap().into();
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "no bar in a pipe: {said:?}");
        assert!(said.stdout.contains("EPHEMERAL PORTS") && said.stdout.contains("LIFETIMES"), "{said:?}");
        let page = fs::read_to_string(&page).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.trim_end().ends_with("</html>"));
        assert!(
            !page.contains("<script") && !page.contains("http://") && !page.contains("https://"),
            "nothing is fetched, nothing runs"
        );
        let said: Said = sockeye("--replay").arg(&path).output().unwrap().into();
        assert_eq!(said.code, 2);
        assert!(said.stderr.contains("a recording: `sockeye report` reads it"), "{said:?}");
        for by in ["owner", "user", "cgroup"] {
            assert!(reported(&path, &format!("--by {by}")).is_ok(), "{by}");
        }
        let said: Said = Command::new(env!("CARGO_BIN_EXE_sockeye"))
            .arg("diff")
            .args([&path, &path])
            .args(["--fail-on", "opens_per_second"])
            .output()
            .unwrap()
            .into();
        assert_eq!(said.code, 0, "the same is no change: {said:?}");
    });
}

#[test]
fn what_is_no_recording_is_told() {
    let directory = TempDir::new().unwrap();
    let path = directory.path();
    let said: Said = sockeye("report").arg(path).output().unwrap().into();
    assert_eq!((said.code, said.stdout.as_str()), (2, ""));
    assert!(said.stderr.contains("it has no sockeye-recording.json"), "{said:?}");
    fs::write(path.join("thesis.tex"), "").unwrap();
    let said: Said = sockeye("record -o").arg(path).output().unwrap().into();
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("it holds other files; choose a directory"), "{said:?}");
    assert_eq!(fs::read_dir(path).unwrap().count(), 1);
    fs::write(path.join("sockeye-recording.json"), "{\"schema\":\"sockeye.recording/9\"}").unwrap();
    for mut command in [sockeye("report"), sockeye("record -o")] {
        let said: Said = command.arg(path).output().unwrap().into();
        assert_eq!(said.code, 2);
        assert!(said.stderr.contains("newer sockeye (format 9; this one knows up to 1)"), "{said:?}");
    }
    for (arguments, word) in [
        ("record --max-size 1M", "16M at least"),
        ("record --max-size many", "500M or 2G"),
        ("record --keep 0", "between 1ms and a year"),
        ("record --interval 1ms", "10ms at least"),
        ("report --begin yesterday", "write it like"),
        ("report --by port", "possible values"),
        ("report --json -o table", "cannot be used with"),
    ] {
        let said = run(arguments);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{arguments}: {said:?}");
        assert!(said.stderr.contains(word), "{arguments}: {said:?}");
    }
}

#[test]
fn a_capture_that_cannot_be_read_makes_no_recording() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("history");
    let said: Said = sockeye("record --replay nothere --output").arg(&path).output().unwrap().into();
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.stderr.contains("nothere") && !path.exists(), "{said:?}");
}

/// Rows that whoever can write the directory may have put there: the largest numbers, and texts that want to be obeyed.
fn hostile(at: Time) -> Rows {
    let text = "\u{1b}[31m\n\u{202e}<script>";
    let here = [127, 0, 0, 1].into();
    let end_of_time = Time(253_402_300_799_999);
    let connection = |closed_earliest, closed_latest| Connection {
        closed_earliest,
        closed_latest,
        opened_earliest: None,
        opened_latest: end_of_time,
        lifetime_min_ms: u64::MAX,
        lifetime_max_ms: Some(0),
        netns: 1,
        protocol: Protocol::Tcp,
        direction: Direction::Incoming,
        local_address: Some(here),
        local_port: Some(9),
        remote_address: None,
        remote_port: None,
        closed_by: ClosedBy::Local,
        evidence: Evidence::Event,
        owner_pid: None,
        owner_name: Some(text.into()),
        owner_uid: None,
        owner_user: Some(text.into()),
        owner_cgroup: Some(text.into()),
        owner_inferred: false,
        sent_bytes: Some(u64::MAX),
        received_bytes: Some(u64::MAX),
        retransmits: None,
        data_segments_out: None,
        data_segments_in: None,
        cookie: 0,
    };
    let tick = Tick {
        time: at,
        netns: 1,
        interval_ms: u64::MAX,
        opens: u64::MAX,
        closes: u64::MAX,
        live: u64::MAX,
        time_wait: u32::MAX,
        established: 0,
        syn_sent: 0,
        syn_recv: 0,
        fin_wait_1: 0,
        fin_wait_2: 0,
        close_wait: 0,
        last_ack: 0,
        closing: 0,
        listen: 0,
        pool_first: 60_999,
        pool_last: 1,
        pool_reserved: u32::MAX,
        pool_held: u32::MAX,
        pool_usable: u32::MAX,
        worst_local_address: Some(here),
        worst_remote_address: Some(here),
        worst_remote_port: Some(0),
        worst_occupancy_ratio: Some(f64::NAN),
        headroom_min: Some(u32::MAX),
        exhausted_in_seconds: Some(f64::NEG_INFINITY),
        coverage_ratio: Some(f64::NEG_INFINITY),
        events_lost: u64::MAX,
        sockets: Some(u64::MAX),
        sweep_ms: Some(-1.0),
    };
    let destination = Destination {
        time: at,
        netns: 1,
        protocol: Protocol::Unknown,
        local_address: here,
        remote_address: here,
        remote_port: 0,
        in_use: u32::MAX,
        live: u32::MAX,
        time_wait: u32::MAX,
        occupancy_ratio: f64::NAN,
        headroom_min: u32::MAX,
        headroom_max: 0,
        opens: u64::MAX,
        closes: u64::MAX,
    };
    Rows {
        ticks: vec![tick.clone(), tick],
        connections: vec![connection(at, at), connection(Time(0), end_of_time), connection(at, at)],
        destinations: vec![destination.clone(), destination],
        settings: vec![Setting { time: at, netns: 1, key: "host_name".into(), value: Some(text.into()) }],
        warnings: vec![Warning { time: at, netns: 1, id: text.into(), message: text.into() }],
    }
}

#[test]
fn what_a_hostile_recording_claims_is_shown_and_harms_nobody() {
    let now = 1_795_375_800_000;
    for times in [[now, now + 1_000], [now + 1_000, now], [0, now], [now, 253_402_300_799_999]] {
        for is_rolled in [false, true] {
            let directory = TempDir::new().unwrap();
            let path = directory.path().join("history");
            let (mut writer, _) = Writer::open(&path, Limits::default()).unwrap();
            for time in times.map(Time) {
                writer.append(time, &mut hostile(time)).unwrap();
            }
            if is_rolled {
                writer.finish().unwrap();
            }
            let page = directory.path().join("page.html");
            for arguments in ["report --color never", "report --json", "report --by cgroup --color never"] {
                let said: Said =
                    sockeye(arguments).arg(&path).arg("--html").arg(&page).output().unwrap().into();
                assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{arguments} of {times:?}");
                let page = fs::read_to_string(&page).unwrap();
                let text = &said.stdout;
                assert!(!text.contains(['\u{1b}', '\u{202e}']), "{arguments}: {text}");
                assert!(!page.contains("<script"), "{arguments}");
                assert!(!page.contains(['\u{1b}', '\u{202e}']), "{arguments}");
                assert!(!text.contains("NaN") && !text.contains("inf"), "{arguments}: {text}");
            }
        }
    }
}

/// Connections of a few kinds that come again and again, so that there are sums of them, over two and a half hours.
fn alike(number: u64) -> Connection {
    let closed = 1_795_375_807_123 + number * 150;
    let pick = |prime: u64, of: u64| (number * prime / 7 + number) % of;
    let (lifetime, doubt) = [(0, 0), (7, 1), (255, 2), (700, 49), (701, 51), (9_999, 2), (86_400_000, 1_000)]
        [pick(11, 7) as usize];
    let [local, remote] = [[10, 0, 0, 7], [10, 0, 9, pick(13, 3) as u8]].map(|octets| Some(octets.into()));
    Connection {
        closed_earliest: Time(closed - pick(5, 2) * 60),
        closed_latest: Time(closed),
        opened_earliest: None,
        opened_latest: Time(closed - 1),
        lifetime_min_ms: lifetime,
        lifetime_max_ms: (pick(17, 9) > 0).then_some(lifetime + doubt),
        protocol: if pick(23, 50) > 0 { Protocol::Tcp } else { Protocol::Udp },
        direction: [Direction::Outgoing, Direction::Outgoing, Direction::Incoming, Direction::Unknown]
            [pick(29, 4) as usize],
        local_address: local.filter(|_| pick(31, 500) > 0),
        local_port: Some(40_000 + pick(37, 3) as u16).filter(|_| pick(41, 500) > 0),
        remote_address: remote,
        remote_port: Some(8_080 * pick(43, 2) as u16),
        closed_by: [ClosedBy::Local, ClosedBy::Remote, ClosedBy::Reset][pick(47, 3) as usize],
        owner_pid: Some(800 + pick(53, 2) as u32),
        owner_name: (pick(59, 3) > 0).then(|| "haproxy".into()),
        owner_user: None,
        owner_cgroup: None,
        sent_bytes: (pick(61, 3) > 0).then_some(pick(67, 5_000)),
        received_bytes: Some(pick(71, 100)),
        ..hostile(Time(closed)).connections.swap_remove(0)
    }
}

#[test]
fn a_long_period_is_told_the_same_from_sums_as_from_connections() {
    let directory = TempDir::new().unwrap();
    let limits = Limits { segment_ms: 1_800_000, ..Limits::default() };
    let (mut writer, _) = Writer::open(directory.path(), limits).unwrap();
    for second in 0..9_000 {
        let mut rows = Rows {
            connections: (second * 20 / 3..(second + 1) * 20 / 3).map(alike).collect(),
            ..Rows::default()
        };
        writer.append(Time(1_795_375_807_123 + second * 1_000), &mut rows).unwrap();
    }
    writer.finish().unwrap();
    let sums = directory.path().join("sums");
    assert!(fs::read_dir(&sums).unwrap().count() >= 4);
    let asked = [
        "",
        "--begin 2026-11-22T19:00:07Z",
        "--by user --top 2",
        "--begin 2026-11-22T19:30Z --end 2026-11-22T19:40Z",
    ];
    let told = || asked.map(|arguments| reported(directory.path(), arguments).unwrap());
    let with = told();
    assert_eq!(with[0]["totals"]["ended"], 60_000);
    fs::remove_dir_all(sums).unwrap();
    for ((with, without), arguments) in with.into_iter().zip(told()).zip(asked) {
        assert_eq!(with, without, "{arguments}");
    }
}

/// A time that no clock shows is damage.
#[test]
fn times_after_the_year_9999_are_left_out() {
    for is_rolled in [false, true] {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("history");
        let (mut writer, _) = Writer::open(&path, Limits::default()).unwrap();
        writer.append(Time(1_000), &mut hostile(Time(1_000))).unwrap();
        writer.append(Time(1_000), &mut hostile(Time(253_402_300_800_000))).unwrap();
        if is_rolled {
            writer.finish().unwrap();
        }
        let report = reported(&path, "").unwrap();
        assert_eq!(report["totals"]["ticks"], 2);
        assert!(is_rolled || report.to_string().contains("1 ticks of a journal are damaged"), "{report}");
    }
}
