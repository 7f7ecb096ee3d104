//! Watches of made-up hosts: sweeps, ticks and destroy events in the order a capture keeps them.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use serde_json::json;
use sock_diag::fake::record_bytes;
use sock_diag::{
    CaptureWriter, Cookie, DiagMsg, Event, Protocol, SocketId, SocketRecord, SocketState, Timer, TimerKind,
    attribute,
};
use tempfile::TempDir;

use super::{Host, Said, listener, replay, socket, time_wait, udp};

/// A capture over time that is being written. Times are milliseconds after its first look.
pub(crate) struct Watch {
    writer: CaptureWriter<BufWriter<File>>,
    path: PathBuf,
    /// The clock of the watch does not begin at 0.
    origin_ms: u64,
}

impl Watch {
    /// Begins with the two readings of `host` that make the first sweep, over after 2 ms.
    pub(crate) fn begin(directory: &Path, host: &Host) -> Watch {
        let path = directory.join("watch.sockeye");
        let writer = CaptureWriter::new(BufWriter::new(File::create(&path).unwrap())).unwrap();
        let mut watch = Watch { writer, path, origin_ms: 86_400_000 };
        watch.step("baseline", host, 0, 1);
        watch.step("baseline", host, 1, 2);
        watch
    }

    /// A tick with a sweep that found `host`.
    pub(crate) fn sweep(&mut self, host: &Host, began_ms: u64, ended_ms: u64) {
        self.step("sweep", host, began_ms, ended_ms);
    }

    /// A tick without a sweep.
    pub(crate) fn tick(&mut self, host: &Host, at_ms: u64) {
        self.end_step("tick", host, at_ms, at_ms);
    }

    /// A destroy event, with what its last `tcp_info` told.
    pub(crate) fn destroyed(&mut self, at_ms: u64, record: &SocketRecord, told: Option<LastInfo>) {
        let record = SocketRecord { state: SocketState::Close, inode: None, ..*record };
        let mut bytes = record_bytes(&record);
        let mut push = |kind: u16, payload: &[u8]| {
            bytes.extend_from_slice(&((payload.len() + 4) as u16).to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(payload);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        };
        push(attribute::PROTOCOL, &[record.protocol.raw() as u8]);
        if let Some(told) = told {
            push(attribute::INFO, &told.bytes());
        }
        let diag = DiagMsg::parse(&bytes, Protocol::Tcp).unwrap();
        self.writer.event(self.origin_ms + at_ms, &Event::Destroyed(diag)).unwrap();
    }

    /// Lost events.
    pub(crate) fn lost(&mut self, at_ms: u64, lost: Option<u32>) {
        self.writer.event(self.origin_ms + at_ms, &Event::Lost(lost)).unwrap();
    }

    /// Ends the capture.
    pub(crate) fn finish(self) -> PathBuf {
        self.writer.finish().unwrap();
        self.path
    }

    fn step(&mut self, kind: &str, host: &Host, began_ms: u64, ended_ms: u64) {
        host.dumps(&mut self.writer);
        self.end_step(kind, host, began_ms, ended_ms);
    }

    fn end_step(&mut self, kind: &str, host: &Host, began_ms: u64, ended_ms: u64) {
        let origin_ms = self.origin_ms;
        self.end_step_at(kind, host, [origin_ms + began_ms, origin_ms + ended_ms], ended_ms);
    }

    /// The same, with its times by the watch's own clock.
    fn end_step_at(&mut self, kind: &str, host: &Host, [began_ms, ended_ms]: [u64; 2], wall_ms: u64) {
        let mut context = host.surroundings.clone();
        let start: jiff::Timestamp = "2026-11-22T19:31:04.510Z".parse().unwrap();
        let ended = start + jiff::SignedDuration::from_millis(wall_ms as i64);
        context["taken_at"] = json!(ended.to_string());
        context["sweep_duration_ms"] = json!(ended_ms.saturating_sub(began_ms) as f64);
        let step = json!({ "kind": kind, "began_ms": began_ms, "ended_ms": ended_ms, "events": true });
        context["step"] = step;
        self.writer.end_sweep(context.to_string().as_bytes()).unwrap();
    }
}

/// What the last `tcp_info` of a connection tells, as far as anyone here reads it.
#[derive(Clone, Copy)]
pub(crate) struct LastInfo {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) retransmits: u32,
    /// Since data was last sent, milliseconds.
    pub(crate) age_ms: u32,
}

impl LastInfo {
    /// `struct tcp_info` of include/uapi/linux/tcp.h, 280 bytes as on Linux 6.18.
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; 280];
        if self.sent + self.received == 0 {
            // As a reset leaves it: tcp_disconnect() wipes out all that was counted.
            return bytes;
        }
        let mut put =
            |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0, &[SocketState::Close.raw()]);
        put(44, &self.age_ms.to_ne_bytes());
        put(52, &self.age_ms.to_ne_bytes());
        put(68, &250_u32.to_ne_bytes());
        put(100, &self.retransmits.to_ne_bytes());
        put(120, &self.sent.to_ne_bytes());
        put(128, &self.received.to_ne_bytes());
        // Segments out and in, data segments in and out.
        for offset in [136, 140, 152, 156] {
            put(offset, &4_u32.to_ne_bytes());
        }
        bytes
    }
}

/// The record with this cookie.
fn with_cookie(record: SocketRecord, cookie: u64) -> SocketRecord {
    SocketRecord { id: SocketId { cookie: Cookie(cookie), ..record.id }, ..record }
}

/// A proxy for three seconds. Its listener is joined by a client, its connections to a backend come and go: closed here,
/// there, by a reset, between two sweeps, with and without an event; one tick has no sweep.
pub(crate) fn proxy(directory: &Path) -> PathBuf {
    let client =
        |port: u16, cookie| with_cookie(socket("192.0.2.7:443", &format!("198.51.100.4:{port}")), cookie);
    let backend =
        |port: u16, cookie| with_cookie(socket(&format!("10.0.0.7:{port}"), "10.0.9.12:8080"), cookie);
    let wide = "[2001:db8::7]:40100";
    let ipv6 = with_cookie(socket(wide, "[2001:db8:9::12]:8080"), 30);
    let holders = |opens: (u64, u64)| {
        let mut host = Host::new((40_000, 40_199));
        host.surroundings["counters"]["active_opens"] = json!(1_000_000 + opens.0);
        host.surroundings["counters"]["passive_opens"] = json!(2_000_000 + opens.1);
        host.add(with_cookie(listener("0.0.0.0:443"), 1));
        host.add(with_cookie(udp("127.0.0.53:53"), 2));
        host
    };
    let mut host = holders((0, 0));
    for (port, cookie) in [(40_000, 10), (40_002, 11), (40_004, 12)] {
        host.add(backend(port, cookie));
    }
    host.add(client(50_000, 20));
    host.add(ipv6);
    let mut watch = Watch::begin(directory, &host);

    // Older than the watch, closed by the peer.
    let last = SocketRecord { state: SocketState::LastAck, ..backend(40_000, 10) };
    watch.destroyed(
        400,
        &last,
        Some(LastInfo { sent: 1_201, received: 65_536, retransmits: 2, age_ms: 5_000 }),
    );
    let mut host = holders((2, 1));
    host.add(backend(40_004, 12));
    host.add(backend(40_006, 13));
    host.add(backend(40_008, 14));
    // Closed here: its TIME_WAIT keeps the cookie.
    host.add(with_cookie(time_wait("10.0.0.7:40002", "10.0.9.12:8080", 300), 11));
    host.add(client(50_000, 20));
    host.add(client(50_001, 21));
    host.add(ipv6);
    watch.sweep(&host, 1_002, 1_005);

    // Within one interval: never seen but in its event. And a reset, which tells no address any more.
    let brief = SocketRecord { state: SocketState::LastAck, ..backend(40_010, 15) };
    watch.destroyed(1_300, &brief, Some(LastInfo { sent: 10, received: 20, retransmits: 0, age_ms: 40 }));
    let reset = with_cookie(socket("0.0.0.0:0", "10.0.9.12:0"), 13);
    watch.destroyed(1_500, &reset, Some(LastInfo { sent: 0, received: 0, retransmits: 0, age_ms: 0 }));
    watch.lost(1_600, Some(3));
    watch.tick(&host, 2_002);

    let mut host = holders((4, 1));
    host.add(backend(40_004, 12));
    host.add(backend(40_012, 16));
    host.add(with_cookie(time_wait("10.0.0.7:40002", "10.0.9.12:8080", 2_300), 11));
    host.add(SocketRecord {
        state: SocketState::FinWait2,
        timer: Timer { kind: TimerKind::TimeWait, expires_ms: 59_000, retransmits: 0 },
        uid: None,
        inode: None,
        ..backend(40_008, 14)
    });
    host.add(client(50_000, 20));
    // Its event was among the lost: one sweep is no proof yet.
    host.add(ipv6);
    watch.sweep(&host, 3_002, 3_004);
    watch.sweep(&host, 4_002, 4_003);
    watch.destroyed(4_100, &ipv6, Some(LastInfo { sent: 7, received: 7, retransmits: 0, age_ms: 9_000 }));
    watch.tick(&host, 5_002);
    watch.finish()
}

/// What the program prints of a watch.
pub(crate) fn print(watch: fn(&Path) -> PathBuf, arguments: &str) -> Said {
    let directory = TempDir::new().unwrap();
    replay(&watch(directory.path()), arguments)
}

/// Three looks, a second apart, that know nothing of a watch.
pub(crate) fn looks(directory: &Path) -> PathBuf {
    let path = directory.join("looks.sockeye");
    let mut writer = CaptureWriter::new(BufWriter::new(File::create(&path).unwrap())).unwrap();
    for second in 4..7 {
        let mut host = super::hosts::idle();
        host.surroundings["taken_at"] = json!(format!("2026-11-22T19:31:0{second}.512Z"));
        host.dumps(&mut writer);
        writer.end_sweep(host.surroundings.to_string().as_bytes()).unwrap();
    }
    writer.finish().unwrap();
    path
}

/// A watch whose second sweep, and an event before it, claim these times.
pub(crate) fn at_times(directory: &Path, began_ms: u64, ended_ms: u64) -> PathBuf {
    let mut host = super::hosts::idle();
    host.add(socket("10.0.0.7:40000", "10.0.9.12:8080"));
    let mut watch = Watch::begin(directory, &host);
    let gone = with_cookie(socket("192.0.2.7:22", "198.51.100.4:52114"), 3);
    watch.destroyed(began_ms.wrapping_sub(watch.origin_ms) % (1 << 62), &gone, None);
    let other = super::hosts::idle();
    other.dumps(&mut watch.writer);
    watch.end_step_at("sweep", &other, [began_ms, ended_ms], 1_000);
    watch.end_step_at("tick", &other, [ended_ms, began_ms], 500);
    watch.finish()
}
