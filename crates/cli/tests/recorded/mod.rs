//! Captures of hosts that exist only in tests, and the program reading them: records in, printed bytes out.
//!
//! What the hosts are like is for hosts.rs, what the output should be for each test.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod hosts;
pub(crate) mod watches;

use std::fs::File;
use std::io::BufWriter;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use sock_diag::fake::{Answer, FakeKernel, Message, record_bytes, tcp_record};
use sock_diag::{
    CaptureWriter, Cookie, DumpRequest, Family, Protocol, Recording, RecvBuffer, SocketRecord, SocketState,
    Source, StateSet, Timer, TimerKind, dump,
};
use tempfile::TempDir;

/// One message of an answer.
#[derive(Clone)]
struct Told {
    protocol: Protocol,
    family: Family,
    /// It is about a listener or a bound-inactive socket.
    holds: bool,
    message: Message,
}

/// What a capture will hold: sockets, and what was known beside them.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) surroundings: Value,
    told: Vec<Told>,
    next_cookie: u64,
}

impl Host {
    /// A host without sockets, whose port range is given.
    pub(crate) fn new(range: (u16, u16)) -> Host {
        let surroundings = json!({
            "version": 1,
            "taken_at": "2026-11-22T19:31:04.512Z",
            "sweep_duration_ms": 38.1,
            "host_name": "web-7",
            "kernel_release": "6.18.0",
            "netns_inode": 4_026_531_840_u64,
            "netns_name": null,
            "net_admin": true,
            "settings": {
                "ip_local_port_range": { "start": range.0, "end": range.1 },
                "ip_local_reserved_ports": [],
                "tcp_tw_reuse": 2,
                "tcp_tw_reuse_delay_ms": 1000,
                "tcp_fin_timeout_s": 60,
                "tcp_max_tw_buckets": 262_144,
                "tcp_timestamps": true,
            },
            "counters": { "active_opens": 1_000_000, "passive_opens": 2_000_000, "time_wait_overflow": 0 },
            "interfaces": { "1": "lo", "2": "eth0" },
            "unread": [],
        });
        Host { surroundings, told: Vec::new(), next_cookie: 1 }
    }

    /// Adds a socket; without a cookie of its own it gets the next number.
    pub(crate) fn add(&mut self, record: SocketRecord) {
        self.add_with(record, &[]);
    }

    /// Adds a socket with further attributes.
    pub(crate) fn add_with(&mut self, mut record: SocketRecord, attributes: &[(u16, Vec<u8>)]) {
        if record.id.cookie == Cookie(0) {
            record.id.cookie = Cookie(self.next_cookie);
            self.next_cookie += 1;
        }
        let mut payload = record_bytes(&record);
        for (kind, bytes) in attributes {
            payload.extend_from_slice(&((bytes.len() + 4) as u16).to_ne_bytes());
            payload.extend_from_slice(&kind.to_ne_bytes());
            payload.extend_from_slice(bytes);
            payload.resize(payload.len().next_multiple_of(4), 0);
        }
        let message = Message { payload, ..Message::record(&record) };
        let holds = record.state == SocketState::Listen || record.is_bound_inactive();
        self.told.push(Told { protocol: record.protocol, family: record.family, holds, message });
    }

    /// Adds any message to the answer about TCP sockets.
    pub(crate) fn tell(&mut self, message: Message) {
        self.told.push(Told { protocol: Protocol::Tcp, family: Family::Inet, holds: false, message });
    }

    /// Writes the capture of one sweep over TCP and UDP.
    pub(crate) fn capture(&self, directory: &Path) -> PathBuf {
        let path = directory.join("host.sockeye");
        let mut writer = CaptureWriter::new(BufWriter::new(File::create(&path).unwrap())).unwrap();
        self.dumps(&mut writer);
        writer.end_sweep(self.surroundings.to_string().as_bytes()).unwrap();
        writer.finish().unwrap();
        path
    }

    /// Writes the dumps of one sweep.
    fn dumps(&self, writer: &mut CaptureWriter<BufWriter<File>>) {
        // As `snapshot` asks: what holds ports first, then the rest; UDP takes a walk for each family.
        let holders = StateSet::LISTEN.union(StateSet::BOUND_INACTIVE);
        let walks = [
            (Protocol::Tcp, None, holders),
            (Protocol::Tcp, None, StateSet::ALL.minus(holders)),
            (Protocol::Udp, Some(Family::Inet), StateSet::ALL),
            (Protocol::Udp, Some(Family::Inet6), StateSet::ALL),
        ];
        for (protocol, family, states) in walks {
            let told_by_this_walk = |told: &&Told| {
                told.protocol == protocol
                    && family.is_none_or(|family| family == told.family)
                    && (protocol == Protocol::Udp || told.holds == (states == holders))
            };
            let messages: Vec<Message> =
                self.told.iter().filter(told_by_this_walk).map(|told| told.message.clone()).collect();
            // The largest of these messages has about 500 bytes: 48 of them fit a datagram.
            let datagrams = messages.chunks(48).map(|some| Answer::Datagram(some.to_vec()));
            let end = Answer::Datagram(vec![Message::done(0)]);
            let mut kernel = FakeKernel::new(datagrams.chain([end]));
            let request = DumpRequest { family, ..DumpRequest::all(protocol).states(states) };
            record(&mut kernel, writer, &request);
        }
    }

    /// What the program prints of this host; it must succeed and say nothing beside.
    pub(crate) fn print(&self, arguments: &str) -> String {
        let directory = TempDir::new().unwrap();
        let said = replay(&self.capture(directory.path()), arguments);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "sockeye {arguments}");
        said.stdout
    }
}

fn record(kernel: &mut dyn Source, writer: &mut CaptureWriter<BufWriter<File>>, request: &DumpRequest<'_>) {
    let mut recording = Recording::new(kernel, writer);
    dump(&mut recording, request, &mut RecvBuffer::new(), |_| ControlFlow::Continue(())).unwrap();
}

/// An established TCP socket between two addresses, without a cookie of its own.
pub(crate) fn socket(local: &str, remote: &str) -> SocketRecord {
    let record = tcp_record(SocketState::Established, local.parse().unwrap(), remote.parse().unwrap());
    SocketRecord { uid: Some(33), inode: NonZeroU32::new(50_000), ..record }
}

/// The same in TIME_WAIT, closed so long ago.
pub(crate) fn time_wait(local: &str, remote: &str, closed_ms_ago: u32) -> SocketRecord {
    SocketRecord {
        state: SocketState::TimeWait,
        timer: Timer { kind: TimerKind::TimeWait, expires_ms: 60_000 - closed_ms_ago, retransmits: 0 },
        uid: None,
        inode: None,
        ..socket(local, remote)
    }
}

/// A TCP listener.
pub(crate) fn listener(local: &str) -> SocketRecord {
    let record = socket(local, &unspecified(local));
    SocketRecord { state: SocketState::Listen, wqueue_bytes: 4096, ..record }
}

/// A UDP socket that is not connected.
pub(crate) fn udp(local: &str) -> SocketRecord {
    let record = socket(local, &unspecified(local));
    SocketRecord { protocol: Protocol::Udp, state: SocketState::Close, ..record }
}

fn unspecified(like: &str) -> String {
    match like.parse::<SocketAddr>().unwrap().ip() {
        IpAddr::V4(_) => "0.0.0.0:0".to_owned(),
        IpAddr::V6(_) => "[::]:0".to_owned(),
    }
}

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        Said {
            code: output.status.code().expect("the program was killed"),
            stdout: String::from_utf8(output.stdout).expect("stdout is UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("stderr is UTF-8"),
        }
    }
}

/// The program with these arguments, in an environment without opinions on colour.
pub(crate) fn sockeye(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockeye"));
    command.args(arguments.split_whitespace());
    for variable in ["NO_COLOR", "TERM", "COLUMNS", "CLICOLOR", "CLICOLOR_FORCE"] {
        command.env_remove(variable);
    }
    command
}

/// Runs it.
pub(crate) fn run(arguments: &str) -> Said {
    sockeye(arguments).output().unwrap().into()
}

/// Runs it over a capture.
pub(crate) fn replay(capture: &Path, arguments: &str) -> Said {
    sockeye(arguments).arg("--replay").arg(capture).output().unwrap().into()
}
