//! What is captured is replayed byte for byte; what fails leaves nothing behind; what is large is not held in memory.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod recorded;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufWriter, Read};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use recorded::{Host, Said, hosts, replay, socket, sockeye};
use sock_diag::fake::{Answer, FakeKernel, Message};
use sock_diag::{
    CaptureWriter, Cookie, DumpRequest, Error, Exchange, Protocol, Recording, RecvBuffer, Result, Source,
};
use sockeye_tests::{Load, Namespace, Zoo, ZooSpec, in_namespace};
use tempfile::TempDir;

/// Every output, and with a filter.
const OUTPUTS: [&str; 13] = [
    "snapshot",
    "snapshot --json",
    "sockets -a",
    "sockets -taoeimO",
    "sockets -ta --json",
    "sockets -ua -o jsonl",
    "sockets -aei -o csv",
    "sockets -t state established dport > 1024",
    "sockets -ta --json not src 127.0.0.2",
    "sockets -l -o csv sport < 60000 or sport = :65535",
    "ports",
    "ports -u --json",
    "ports 1-65535",
];

fn captured(file: &Path, arguments: &str) -> Said {
    sockeye(arguments).arg("--capture").arg(file).output().unwrap().into()
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_was_captured_is_replayed_byte_for_byte() {
    in_namespace(|| {
        let _zoo = Zoo::open(&ZooSpec::default()).unwrap();
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("now.sockeye");
        for arguments in OUTPUTS {
            let live = captured(&file, arguments);
            assert_eq!((live.code, live.stderr.as_str()), (0, ""), "sockeye {arguments}");
            assert!(live.stdout.lines().count() > 1 || arguments.contains("--json"), "{}", live.stdout);
            let replayed = replay(&file, arguments);
            assert_eq!(replayed.stdout, live.stdout, "sockeye {arguments}");
            assert_eq!((replayed.code, replayed.stderr.as_str()), (0, ""));
            // A replay does not change what it reads, so neither does a second one.
            assert_eq!(replay(&file, arguments).stdout, replayed.stdout);
        }
        assert_eq!(files_in(directory.path()), [file], "one capture, and nothing beside it");
    });
}

#[test]
fn ports_of_tcp_are_listed_without_udp() {
    in_namespace(|| {
        let _zoo = Zoo::open(&ZooSpec::default()).unwrap();
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("tcp.sockeye");
        assert_eq!(captured(&file, "ports -t").code, 0);
        let both = replay(&file, "ports 1-65535 --json");
        assert_eq!((both.code, both.stderr.as_str()), (0, ""));
        let told: serde_json::Value = serde_json::from_str(&both.stdout).unwrap();
        assert_eq!(told["warnings"][0]["id"], "protocol_unreadable");
        assert!(!told["sockets"].as_array().unwrap().is_empty());
        let asked = replay(&file, "ports 1-65535 -u");
        assert_eq!((asked.code, asked.stdout.as_str()), (2, ""), "{}", asked.stderr);
    });
}

#[test]
fn a_capture_answers_other_filters_and_formats() {
    in_namespace(|| {
        let _zoo = Zoo::open(&ZooSpec::default()).unwrap();
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("all.sockeye");
        // The filter is not sent to the kernel while capturing: the capture holds what it would have left out.
        captured(&file, "sockets -a sport = :1");
        let everything = replay(&file, "sockets -a -o jsonl").stdout;
        assert!(everything.lines().count() > 50, "{everything}");
        let listeners = replay(&file, "sockets -a -o jsonl state listening").stdout;
        let filtered: Vec<&str> =
            everything.lines().filter(|line| line.contains("\"state\":\"listen\"")).collect();
        assert_eq!(listeners.lines().collect::<Vec<_>>(), filtered);
        assert!(!filtered.is_empty());
        // No state at all: no sockets, live and replayed.
        let nothing = "sockets -H state established exclude established";
        let live = Said::from(sockeye(nothing).output().unwrap());
        assert_eq!((live.code, live.stdout.as_str(), live.stderr.as_str()), (0, "", ""));
        let replayed = replay(&file, nothing);
        assert_eq!((replayed.code, replayed.stdout.as_str(), replayed.stderr.as_str()), (0, "", ""));
        // A snapshot reads the same sockets.
        let snapshot: serde_json::Value = serde_json::from_str(&replay(&file, "--json").stdout).unwrap();
        assert_eq!(snapshot["sweep"]["sockets"], everything.lines().count());
        assert_eq!(snapshot["states"]["listen"], filtered.len());
    });
}

#[test]
fn what_was_not_captured_is_an_error() {
    in_namespace(|| {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("tcp.sockeye");
        assert_eq!(captured(&file, "sockets -t").code, 0);
        for arguments in ["sockets -ta", "sockets -u", "sockets -l", "snapshot"] {
            let said = replay(&file, arguments);
            assert_eq!((said.code, said.stdout.lines().count() < 2), (2, true), "{arguments}: {said:?}");
            assert!(said.stderr.contains("the capture holds no"), "{said:?}");
            assert!(said.stderr.contains("capture again"), "{said:?}");
        }
        assert_eq!(replay(&file, "sockets -t").code, 0);
    });
}

#[test]
fn a_failed_capture_leaves_the_old_one() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("kept.sockeye");
    fs::write(&file, "old").unwrap();
    let is_untouched = || files_in(directory.path()) == [file.clone()] && fs::read(&file).unwrap() == b"old";
    // The filter is wrong: nothing is read.
    let said = captured(&file, "sockets bogus bogus");
    assert_eq!(said.code, 2);
    assert!(is_untouched());
    // The output cannot be written.
    for arguments in ["snapshot", "snapshot --json", "sockets -a", "sockets -a -o csv", "sockets -a --json"] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = sockeye(arguments).arg("--capture").arg(&file).stdout(full).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(is_untouched(), "{arguments}");
    }
    // What it asks the kernel for does not exist.
    let said = captured(&file, "-N no-such-namespace");
    assert_eq!(said.code, 2);
    assert!(is_untouched());
}

#[test]
fn a_capture_that_is_killed_leaves_the_old_one() {
    in_namespace(|| {
        let _load = Load::established(2_000, 2).unwrap();
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("kept.sockeye");
        fs::write(&file, "old").unwrap();
        let mut command = sockeye("sockets -a --json");
        let mut child = command.arg("--capture").arg(&file).stdout(Stdio::piped()).spawn().unwrap();
        // It writes, so it has captured something; and it cannot end, for the pipe does not hold half of the output.
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 1]).unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert_eq!(files_in(directory.path()), std::slice::from_ref(&file));
        assert_eq!(fs::read(&file).unwrap(), b"old");
    });
}

#[test]
fn where_a_capture_cannot_be_written_the_path_is_told() {
    let directory = TempDir::new().unwrap();
    let refused = |path: &Path, word: &str| {
        for arguments in ["snapshot", "sockets"] {
            let said = captured(path, arguments);
            assert_eq!(said.code, 2, "{said:?}");
            for word in ["cannot write", &path.display().to_string(), word] {
                assert!(said.stderr.contains(word), "{word:?} is not in {said:?}");
            }
            assert_eq!(said.stderr.lines().count(), 1);
        }
    };
    refused(&directory.path().join("missing/now.sockeye"), "No such file");
    refused(Path::new("/proc/now.sockeye"), "");
    let taken = directory.path().join("folder");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("inside"), "").unwrap();
    refused(&taken, "no regular file");
    assert_eq!(files_in(directory.path()), [taken]);
}

#[test]
fn a_capture_takes_the_place_of_files_alone() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    let refused = |path: &Path, word: &str| {
        let said = captured(path, "snapshot");
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "nothing is read: {said:?}");
        assert!(said.stderr.contains(word), "{said:?}");
    };
    // What stands for a device: root would have replaced /dev/null.
    mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
    symlink(at("fifo"), at("to-fifo")).unwrap();
    symlink(at("missing"), at("to-nothing")).unwrap();
    refused(&at("fifo"), "no regular file");
    refused(&at("to-fifo"), "no regular file");
    refused(&at("to-nothing"), "No such file");
    assert!(fs::metadata(at("to-fifo")).unwrap().file_type().is_fifo());
    assert!(at("to-nothing").is_symlink());
    // Behind a link to a file it is that file which becomes the capture.
    fs::create_dir(at("elsewhere")).unwrap();
    fs::write(at("elsewhere/real"), "old").unwrap();
    symlink("elsewhere/real", at("to-real")).unwrap();
    let said = captured(&at("to-real"), "snapshot --json");
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    assert!(at("to-real").is_symlink());
    assert_eq!(replay(&at("elsewhere/real"), "snapshot --json").stdout, said.stdout);
    assert_eq!(files_in(directory.path()).len(), 5, "nothing else is left behind");
}

#[test]
fn a_read_only_folder_takes_no_capture() {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o555)).unwrap();
    let file = directory.path().join("now.sockeye");
    // Root may write anywhere: inside, the program is an ordinary user without capabilities, who still owns the folder.
    let mut command = sockeye("snapshot");
    command.arg("--capture").arg(&file).stdout(Stdio::piped()).stderr(Stdio::piped());
    match Namespace::new().without_privilege().spawn(&mut command) {
        Ok(child) => {
            let said: Said = child.wait_with_output().unwrap().into();
            assert_eq!(said.code, 2, "{said:?}");
            assert!(
                said.stderr.contains("cannot write") && said.stderr.contains("ermission denied"),
                "{said:?}"
            );
            assert_eq!(files_in(directory.path()), [] as [PathBuf; 0]);
        }
        Err(error) if std::env::var_os("CI").is_some() => panic!("no namespace can be made: {error}"),
        Err(error) => eprintln!("skipped: no namespace can be made: {error}"),
    }
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
}

/// A kernel that answers with one datagram again and again, and then with the end.
struct Repeating {
    datagram: Vec<u8>,
    end: Vec<u8>,
    left: usize,
}

/// What [`Repeating`] and the fake kernel that prepares its datagrams both answer to.
const EXCHANGE: Exchange = Exchange { sequence: 1, port_id: 4711 };

impl Source for Repeating {
    fn send(&mut self, request: &mut [u8]) -> Result<Exchange> {
        // The request is recorded with the numbers that its answers carry.
        FakeKernel::default().send(request)
    }

    fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize> {
        let bytes = match self.left {
            0 => return Err(Error::Ended { operation: "repeating" }),
            1 => &self.end,
            _ => &self.datagram,
        };
        self.left -= 1;
        buffer.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn runs_filters(&self) -> bool {
        true
    }
}

/// The bytes of one datagram with these messages.
fn datagram(messages: Vec<Message>) -> Vec<u8> {
    let mut kernel = FakeKernel::new([Answer::Datagram(messages)]);
    let mut buffer = RecvBuffer::new();
    assert_eq!(kernel.send(&mut request()).unwrap(), EXCHANGE);
    let length = kernel.receive(&mut buffer).unwrap();
    buffer.bytes()[..length].to_vec()
}

/// What a dump of all TCP sockets sends.
fn request() -> Vec<u8> {
    let mut kernel = FakeKernel::new([Answer::Datagram(vec![Message::done(0)])]);
    let everything = DumpRequest::all(Protocol::Tcp);
    sock_diag::dump(&mut kernel, &everything, &mut RecvBuffer::new(), |_| unreachable!()).unwrap();
    kernel.requests.remove(0)
}

const SOCKETS_A_DATAGRAM: usize = 200;

/// A capture of so many sockets, written without reading one of them.
fn crowd(directory: &Path, sockets: usize) -> PathBuf {
    let path = directory.join(format!("{sockets}.sockeye"));
    let mut writer = CaptureWriter::new(BufWriter::new(File::create(&path).unwrap())).unwrap();
    let record = |i: usize| {
        let mut record = socket("10.0.0.7:443", &format!("198.51.100.{}:{}", i % 250, 20_000 + i));
        record.id.cookie = Cookie(i as u64 + 1);
        Message::record(&record)
    };
    let mut kernel = Repeating {
        datagram: datagram((0..SOCKETS_A_DATAGRAM).map(record).collect()),
        end: datagram(vec![Message::done(0)]),
        left: sockets / SOCKETS_A_DATAGRAM + 1,
    };
    let (mut recording, mut buffer) = (Recording::new(&mut kernel, &mut writer), RecvBuffer::new());
    recording.send(&mut request()).unwrap();
    while recording.receive(&mut buffer).is_ok() {}
    let surroundings = Host::new((32_768, 60_999)).surroundings.to_string();
    writer.end_sweep(surroundings.as_bytes()).unwrap();
    writer.finish().unwrap();
    path
}

/// The memory a process has of its own at this moment, as far as it still runs. VmHWM and ru_maxrss count the pages of
/// its executable too, and how many of those are mapped depends on what the page cache holds by then.
fn own_kib(child: &Child) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// Lines printed of a capture, the most memory of its own seen while they came, and how long that took.
fn streamed(capture: &Path, arguments: &str) -> (usize, u64, Duration) {
    let started = Instant::now();
    let mut command = sockeye(arguments);
    command.arg("--replay").arg(capture).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut out = child.stdout.take().unwrap();
    let (mut bytes, mut lines, mut most) = (vec![0; 64 * 1024], 0, 0);
    loop {
        let count = out.read(&mut bytes).unwrap();
        if count == 0 {
            break;
        }
        lines += bytes[..count].iter().filter(|byte| **byte == b'\n').count();
        // The pipe holds as much as one read takes: what is not seen are the last rows.
        most = own_kib(&child).unwrap_or(0).max(most);
    }
    assert!(child.wait().unwrap().success());
    (lines, most, started.elapsed())
}

#[test]
fn half_a_million_sockets_are_not_held_in_memory() {
    const FEW: usize = 50_000;
    const MANY: usize = 500_000;
    const LIMIT_KIB: u64 = 8 * 1024;
    let directory = TempDir::new().unwrap();
    let (few, many) = (crowd(directory.path(), FEW), crowd(directory.path(), MANY));
    // Lines beside those of the sockets: the header; both brackets.
    for (arguments, beside) in [("sockets -t", 1), ("sockets -t --json", 2), ("sockets -t -o csv", 1)] {
        let (lines, little, _) = streamed(&few, arguments);
        assert_eq!(lines, FEW + beside);
        let (lines, much, took) = streamed(&many, arguments);
        assert_eq!(lines, MANY + beside);
        eprintln!("{arguments}: {little} KiB for {FEW}, {much} KiB for {MANY} in {took:?}");
        assert!(little > 0 && much > 0, "the memory was never seen");
        assert!(much < LIMIT_KIB, "{arguments}: {much} KiB");
        // The kernel's count is some pages off on each processor; 450,000 sockets of 8 bytes would be 3,500 KiB.
        assert!(much < little + 1024, "{arguments}: {little} KiB for {FEW}, {much} KiB for {MANY}");
    }
}

#[test]
fn a_capture_keeps_what_the_output_needs_of_its_host() {
    // Of a host that is not this one, at a time that is not now.
    let host = hosts::proxy();
    assert!(host.print("").starts_with("web-7  netns edge  Linux 6.18.0  "));
    let json: serde_json::Value = serde_json::from_str(&host.print("--json")).unwrap();
    assert_eq!(json["taken_at"], "2026-11-22T19:31:04.512Z");
    assert_eq!(json["sweep"]["duration_ms"], 38.1);
    assert_eq!(json["pool"]["tcp"]["reserved"], 12);
    // Names of interfaces in filters are those of the captured host.
    let zoo = hosts::zoo();
    assert_eq!(zoo.print("sockets -tH dev eth0").lines().count(), 1);
}
