//! Sockets for people: the columns of ss, aligned by the first rows, written as they come.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use sock_diag::{SocketMemory, SocketRecord, SocketState, TcpInfo, TimerKind};

use crate::render::socket_fields::Socket;
use crate::render::socket_formats::SocketSink;
use crate::terminal::{Harmless, Palette};

/// What the table shows beside the addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TableOptions {
    pub(crate) header: bool,
    /// More than one protocol is listed: say which.
    pub(crate) protocol: bool,
    pub(crate) timers: bool,
    pub(crate) extended: bool,
    pub(crate) info: bool,
    pub(crate) memory: bool,
    pub(crate) oneline: bool,
}

const COLUMNS: usize = 6;
const HEADER: [&str; COLUMNS] =
    ["Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port"];
/// Queues are numbers: aligned to the right.
const RIGHT: [bool; COLUMNS] = [false, false, true, true, false, false];
/// Rows held back to find the columns' widths. Later rows that are wider push their own line apart, no other.
const MEASURED_ROWS: usize = 200;

/// A line: its columns, and what follows them.
#[derive(Default, Clone)]
struct Row {
    columns: [String; COLUMNS],
    tail: String,
    state: Option<SocketState>,
}

/// Writes the table of ss.
pub(crate) struct SocketTable<W: Write> {
    out: W,
    options: TableOptions,
    palette: Palette,
    widths: [usize; COLUMNS],
    /// Rows seen before the widths are settled; None afterwards.
    held: Option<Vec<Row>>,
    row: Row,
    line: String,
}

impl<W: Write> SocketTable<W> {
    pub(crate) fn new(out: W, options: TableOptions, palette: Palette) -> SocketTable<W> {
        let widths = HEADER.map(|title| if options.header { title.len() } else { 0 });
        let (row, line) = (Row::default(), String::new());
        SocketTable { out, options, palette, widths, held: Some(Vec::new()), row, line }
    }

    fn settle(&mut self) -> io::Result<()> {
        let Some(held) = self.held.take() else { return Ok(()) };
        for row in &held {
            for (width, column) in self.widths.iter_mut().zip(&row.columns) {
                *width = (*width).max(column.chars().count());
            }
        }
        if self.options.header {
            let header = Row { columns: HEADER.map(str::to_owned), ..Row::default() };
            let Palette { heading, reset, .. } = self.palette;
            self.write_row(&header, heading, reset)?;
        }
        held.iter().try_for_each(|row| self.write_socket(row))
    }

    fn write_socket(&mut self, row: &Row) -> io::Result<()> {
        let Palette { dim, good, warn, reset, .. } = self.palette;
        let style = match row.state {
            Some(SocketState::Established) => good,
            Some(SocketState::TimeWait) => dim,
            Some(SocketState::CloseWait | SocketState::SynSent | SocketState::LastAck) => warn,
            _ => return self.write_row(row, "", ""),
        };
        self.write_row(row, style, reset)
    }

    fn write_row(&mut self, row: &Row, style: &str, reset: &str) -> io::Result<()> {
        self.line.clear();
        self.line.push_str(style);
        let first = usize::from(!self.options.protocol);
        let columns = row.columns.iter().zip(self.widths).zip(RIGHT).enumerate().skip(first);
        for (i, ((text, width), right)) in columns {
            // No blanks at the end of a line.
            let last = i == COLUMNS - 1 && (row.tail.is_empty() || row.tail.starts_with('\n'));
            // Infallible: a String takes everything.
            let _ = match (right, last) {
                (true, _) => write!(self.line, "{text:>width$}"),
                (false, false) => write!(self.line, "{text:<width$}"),
                (false, true) => write!(self.line, "{text}"),
            };
            if !last {
                self.line.push_str("  ");
            }
        }
        self.line.push_str(&row.tail);
        self.line.truncate(self.line.trim_end().len());
        self.line.push_str(reset);
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())
    }

    fn describe(&self, socket: &Socket<'_>, row: &mut Row) {
        let record = &socket.record;
        row.columns.iter_mut().for_each(String::clear);
        row.tail.clear();
        row.state = Some(record.state);
        let index = || record.id.interface.map(|index| index.to_string().into());
        let interface: Option<Cow<'_, str>> = socket.interface.map(Cow::Borrowed).or_else(index);
        let [protocol, state, receive, send, local, remote] = &mut row.columns;
        protocol.push_str(record.protocol.name());
        state.push_str(record.state.ss_name());
        // Infallible: a String takes everything.
        let _ = write!(receive, "{}", record.rqueue_bytes);
        let _ = write!(send, "{}", record.wqueue_bytes);
        endpoint(local, record.id.local_address, record.id.local_port, interface.as_deref());
        endpoint(remote, record.id.remote_address, record.id.remote_port, None);
        if self.options.timers {
            timer(&mut row.tail, record);
        }
        if self.options.extended {
            extended(&mut row.tail, socket);
        }
        let separator = if self.options.oneline { " " } else { "\n\t" };
        let mut more = String::new();
        if self.options.memory
            && let Some(memory) = socket.diag.memory()
        {
            skmem(&mut more, &memory);
        }
        if self.options.info {
            if let Some(name) = socket.diag.upper_layer() {
                let _ = write!(more, " ulp:{}", Harmless(&String::from_utf8_lossy(name)));
            }
            let congestion = socket.diag.congestion().map(String::from_utf8_lossy);
            if let Some(info) = socket.diag.tcp_info() {
                tcp_info(&mut more, record, &info, congestion.as_deref());
            }
        }
        if !more.is_empty() {
            row.tail.push_str(separator);
            row.tail.push_str(more.trim_start());
        }
    }
}

impl<W: Write> SocketSink for SocketTable<W> {
    fn socket(&mut self, socket: &Socket<'_>) -> io::Result<()> {
        let mut row = std::mem::take(&mut self.row);
        self.describe(socket, &mut row);
        match &mut self.held {
            Some(held) => {
                held.push(row.clone());
                if held.len() == MEASURED_ROWS {
                    self.settle()?;
                }
            }
            None => self.write_socket(&row)?,
        }
        self.row = row;
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.settle()?;
        self.out.flush()
    }
}

/// `10.0.0.7:443`, `[::1]%lo:443`, `0.0.0.0:*`.
fn endpoint(out: &mut String, address: std::net::IpAddr, port: u16, interface: Option<&str>) {
    // Infallible: a String takes everything.
    let _ = match address {
        std::net::IpAddr::V4(v4) => write!(out, "{v4}"),
        std::net::IpAddr::V6(v6) => write!(out, "[{v6}]"),
    };
    if let Some(interface) = interface {
        let _ = write!(out, "%{}", Harmless(interface));
    }
    let _ = match port {
        0 => write!(out, ":*"),
        port => write!(out, ":{port}"),
    };
}

fn timer(out: &mut String, record: &SocketRecord) {
    let word = match record.timer.kind {
        TimerKind::Off => return,
        TimerKind::Retransmit => "on",
        TimerKind::Keepalive => "keepalive",
        TimerKind::TimeWait => "timewait",
        TimerKind::Probe => "persist",
        TimerKind::Unknown(_) => "unknown",
    };
    // Infallible: a String takes everything.
    let _ = write!(
        out,
        " timer:({word},{},{})",
        short_duration(record.timer.expires_ms),
        record.timer.retransmits
    );
}

/// As ss writes it: `1min54sec`, `12sec`, `3.200sec`, `204ms`.
fn short_duration(ms: u32) -> String {
    let (minutes, seconds, rest) = (ms / 60_000, ms / 1000 % 60, ms % 1000);
    match (minutes, seconds, rest) {
        (0, 0, ms) => format!("{ms}ms"),
        (0, 1..=9, 1..) => format!("{seconds}.{rest:03}sec"),
        (0, seconds, _) => format!("{seconds}sec"),
        (minutes, 0, _) => format!("{minutes}min"),
        (minutes, seconds, _) => format!("{minutes}min{seconds}sec"),
    }
}

fn extended(out: &mut String, socket: &Socket<'_>) {
    let record = &socket.record;
    // Infallible: a String takes everything.
    if let Some(uid) = record.uid {
        let _ = write!(out, " uid:{uid}");
    }
    if let Some(inode) = record.inode {
        let _ = write!(out, " ino:{inode}");
    }
    let _ = write!(out, " sk:{:x}", record.id.cookie.0);
    let _ = match (socket.cgroup, record.cgroup_id) {
        (Some(path), _) => write!(out, " cgroup:{}", Harmless(path)),
        (None, Some(id)) => write!(out, " cgroup:id:{id}"),
        (None, None) => Ok(()),
    };
    if let Some(mark) = record.mark.filter(|mark| *mark != 0) {
        let _ = write!(out, " fwmark:{mark:#x}");
    }
    if let Some(shutdown) = record.shutdown {
        let (receive, send) = (shutdown & 1 == 0, shutdown & 2 == 0);
        let _ = write!(out, " {}-{}", if receive { "<" } else { "-" }, if send { ">" } else { "-" });
    }
}

fn skmem(out: &mut String, memory: &SocketMemory) {
    out.push_str(" skmem:(");
    let fields = SocketMemory::FIELDS.iter().filter_map(|f| (f.read)(memory).map(|value| (f.ss_name, value)));
    for (i, (name, value)) in fields.enumerate() {
        // Infallible: a String takes everything.
        let _ = write!(out, "{}{name}{value}", if i > 0 { "," } else { "" });
    }
    out.push(')');
}

/// The words of ss, in its order, zeros and unknowns left out as there.
fn tcp_info(out: &mut String, record: &SocketRecord, info: &TcpInfo<'_>, congestion: Option<&str>) {
    const OPTIONS: &[(u8, &str)] =
        &[(1, " ts"), (2, " sack"), (8, " ecn"), (16, " ecnseen"), (32, " fastopen")];
    let options = info.options().unwrap_or(0);
    OPTIONS.iter().filter(|(bit, _)| options & bit != 0).for_each(|(_, word)| out.push_str(word));
    if let Some(name) = congestion {
        // Infallible, here and below: a String takes everything.
        let _ = write!(out, " {}", Harmless(name));
    }
    if let Some((send, receive)) = info.window_scales() {
        let _ = write!(out, " wscale:{send},{receive}");
    }
    let ms = |us: u32| f64::from(us) / 1000.0;
    if let Some(rto) = info.rto_us().filter(|rto| *rto != 0 && *rto != 3_000_000) {
        let _ = write!(out, " rto:{}", trimmed(ms(rto)));
    }
    if let (Some(rtt), Some(variance)) = (info.rtt_us().filter(|rtt| *rtt != 0), info.rtt_variance_us()) {
        let _ = write!(out, " rtt:{}/{}", trimmed(ms(rtt)), trimmed(ms(variance)));
    }
    if let Some(ato) = info.ato_us().filter(|ato| *ato != 0) {
        let _ = write!(out, " ato:{}", trimmed(ms(ato)));
    }
    let is_listener = record.state == SocketState::Listen;
    let mut number = |name: &str, value: Option<u64>| {
        if let Some(value) = value.filter(|v| *v != 0) {
            let _ = write!(out, " {name}:{value}");
        }
    };
    number("backoff", info.backoff().map(u64::from));
    number("mss", info.send_mss_bytes().map(u64::from));
    number("pmtu", info.path_mtu_bytes().map(u64::from));
    number("rcvmss", info.receive_mss_bytes().map(u64::from));
    number("advmss", info.advertised_mss_bytes().map(u64::from));
    number("cwnd", info.congestion_window().map(u64::from));
    number("ssthresh", info.send_ssthresh().map(u64::from));
    number("bytes_sent", info.sent_bytes());
    number("bytes_retrans", info.retransmitted_bytes());
    number("bytes_acked", info.acked_bytes());
    number("bytes_received", info.received_bytes());
    number("segs_out", info.segments_out().map(u64::from));
    number("segs_in", info.segments_in().map(u64::from));
    number("data_segs_out", info.data_segments_out().map(u64::from));
    number("data_segs_in", info.data_segments_in().map(u64::from));
    number("lastsnd", info.last_data_sent_ms().map(u64::from));
    number("lastrcv", info.last_data_received_ms().map(u64::from));
    number("lastack", info.last_ack_received_ms().map(u64::from));
    let bits = |bytes: u64| bytes.saturating_mul(8);
    number("pacing_rate_bps", info.pacing_bytes_per_second().map(bits));
    number("delivery_rate_bps", info.delivery_bytes_per_second().map(bits));
    number("delivered", info.delivered().map(u64::from));
    number("busy_us", info.busy_us());
    number("rwnd_limited_us", info.receive_window_limited_us());
    number("sndbuf_limited_us", info.send_buffer_limited_us());
    if !is_listener {
        number("unacked", info.unacked().map(u64::from));
        number("sacked", info.sacked().map(u64::from));
    }
    number("lost", info.lost().map(u64::from));
    number("retrans", info.total_retransmits().map(u64::from));
    number("dsack_dups", info.dsack_dups().map(u64::from));
    number("reord_seen", info.reorderings().map(u64::from));
    number("rcv_ooopack", info.out_of_order_in().map(u64::from));
    number("rcv_space", info.receive_space_bytes().map(u64::from));
    number("rcv_ssthresh", info.receive_ssthresh_bytes().map(u64::from));
    number("notsent", info.unsent_bytes().map(u64::from));
    if let Some(least) = info.min_rtt_us().filter(|rtt| *rtt != 0) {
        let _ = write!(out, " minrtt:{}", trimmed(ms(least)));
    }
}

/// Up to three digits behind the point, no trailing zeros.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_ss() {
        for (ms, text) in [
            (0, "0ms"),
            (204, "204ms"),
            (3200, "3.200sec"),
            (9000, "9sec"),
            (59_860, "59sec"),
            (114_000, "1min54sec"),
            (7_200_000, "120min"),
        ] {
            assert_eq!(short_duration(ms), text);
        }
    }

    #[test]
    fn endpoints_read_as_in_ss() {
        let show = |address: &str, port, interface| {
            let mut text = String::new();
            endpoint(&mut text, address.parse().unwrap(), port, interface);
            text
        };
        assert_eq!(show("10.0.0.7", 443, None), "10.0.0.7:443");
        assert_eq!(show("::1", 443, Some("lo")), "[::1]%lo:443");
        assert_eq!(show("0.0.0.0", 0, None), "0.0.0.0:*");
        assert_eq!(show("::ffff:10.0.0.7", 80, None), "[::ffff:10.0.0.7]:80");
        assert_eq!(show("10.0.0.7", 1, Some("e\x1b[0m")), "10.0.0.7%e\\u{1b}[0m:1");
    }
}
