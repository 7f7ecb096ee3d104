//! Sockets for people: the columns of ss, aligned by the first rows, written as they come.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

use sock_diag::{SocketMemory, SocketRecord, SocketState, TcpInfo, TimerKind};

use crate::holders::Holder;
use crate::render::socket_fields::Socket;
use crate::render::socket_formats::SocketSink;
use crate::terminal::{Harmless, Palette};

/// What the table shows beside the addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TableOptions {
    pub(crate) header: bool,
    /// More than one network namespace is listed: say which.
    pub(crate) netns: bool,
    /// More than one protocol is listed: say which.
    pub(crate) protocol: bool,
    /// The processes that hold the socket.
    pub(crate) holders: bool,
    pub(crate) timers: bool,
    pub(crate) extended: bool,
    pub(crate) info: bool,
    pub(crate) memory: bool,
    pub(crate) oneline: bool,
    /// Columns of the terminal, to break long lines between words; None when the output is not one.
    pub(crate) width: Option<usize>,
}

const COLUMNS: usize = 7;
const HEADER: [&str; COLUMNS] =
    ["Netns", "Netid", "State", "Recv-Q", "Send-Q", "Local Address:Port", "Peer Address:Port"];
/// Queues are numbers: aligned to the right.
const RIGHT: [bool; COLUMNS] = [false, false, false, true, true, false, false];
/// Rows held back to find the columns' widths. Later rows that are wider push their own line apart, no other.
const MEASURED_ROWS: usize = 200;

/// A socket: its columns, what stands beside them, and what below.
#[derive(Default, Clone)]
struct Row {
    columns: [String; COLUMNS],
    beside: String,
    below: String,
    state: Option<SocketState>,
}

/// The column whose colour tells the state.
const STATE: usize = 2;
const NETNS: usize = 0;
const PROTOCOL: usize = 1;
/// Before lines below a socket: as wide as a tab.
const INDENT: &str = "\t";
const INDENT_WIDTH: usize = 8;

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
            self.write_row(&header, (heading, reset), ("", ""))?;
        }
        held.iter().try_for_each(|row| self.write_socket(row))
    }

    fn write_socket(&mut self, row: &Row) -> io::Result<()> {
        let Palette { dim, good, warn, reset, .. } = self.palette;
        match row.state {
            Some(SocketState::Established) => self.write_row(row, ("", ""), (good, reset)),
            Some(SocketState::CloseWait | SocketState::SynSent | SocketState::LastAck) => {
                self.write_row(row, ("", ""), (warn, reset))
            }
            Some(SocketState::TimeWait) => self.write_row(row, (dim, reset), ("", "")),
            _ => self.write_row(row, ("", ""), ("", "")),
        }
    }

    /// Styles are what switches them on and off: of the whole row, and of the state alone.
    fn write_row(&mut self, row: &Row, style: (&str, &str), state: (&str, &str)) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        line.push_str(style.0);
        let shown = |at: usize| match at {
            NETNS => self.options.netns,
            PROTOCOL => self.options.protocol,
            _ => true,
        };
        let columns = row.columns.iter().zip(self.widths).zip(RIGHT).enumerate();
        for (at, ((text, width), is_right)) in columns.filter(|(at, _)| shown(*at)) {
            let (on, off) = if at == STATE { state } else { ("", "") };
            // Infallible: a String takes everything.
            let _ = match is_right {
                true => write!(line, "{on}{text:>width$}{off}  "),
                false => write!(line, "{on}{text:<width$}{off}  "),
            };
        }
        let widths = row.columns.iter().zip(self.widths).enumerate().filter(|(at, _)| shown(*at));
        let columns_width =
            || widths.map(|(_, (text, width))| text.chars().count().max(width) + 2).sum::<usize>();
        match self.options.width {
            _ if self.options.oneline => {
                line.push_str(&row.beside);
                line.push_str(if row.beside.is_empty() { row.below.trim_start() } else { &row.below });
            }
            Some(terminal) if columns_width() + row.beside.chars().count() > terminal => {
                write_below(line, &row.beside, self.options.width);
                write_below(line, &row.below, self.options.width);
            }
            _ => {
                line.push_str(&row.beside);
                write_below(line, &row.below, self.options.width);
            }
        }
        line.truncate(line.trim_end().len());
        line.push_str(style.1);
        line.push('\n');
        self.out.write_all(line.as_bytes())
    }

    fn describe(&self, socket: &Socket<'_>, row: &mut Row) {
        let record = &socket.record;
        row.columns.iter_mut().for_each(String::clear);
        row.beside.clear();
        row.below.clear();
        row.state = Some(record.state);
        let index = || record.id.interface.map(|index| index.to_string().into());
        let interface: Option<Cow<'_, str>> = socket.interface.map(Cow::Borrowed).or_else(index);
        let [netns, protocol, state, receive, send, local, remote] = &mut row.columns;
        if let Some(found) = socket.netns {
            // Infallible: a String takes everything.
            let _ = write!(netns, "{}", Harmless(&found.name.to_string()));
        }
        protocol.push_str(record.protocol.name());
        state.push_str(record.state.ss_name());
        // Infallible: a String takes everything.
        let _ = write!(receive, "{}", record.rqueue_bytes);
        let _ = write!(send, "{}", record.wqueue_bytes);
        endpoint(local, record.id.local_address, record.id.local_port, interface.as_deref());
        endpoint(remote, record.id.remote_address, record.id.remote_port, None);
        if self.options.holders {
            holders(&mut row.beside, socket.holders);
        }
        if self.options.timers {
            timer(&mut row.beside, record);
        }
        if self.options.extended {
            extended(&mut row.beside, socket);
        }
        // Each word brings a space before it; the columns end in one.
        if row.beside.starts_with(' ') {
            row.beside.remove(0);
        }
        if self.options.memory
            && let Some(memory) = socket.diag.memory()
        {
            skmem(&mut row.below, &memory);
        }
        if self.options.info {
            if let Some(name) = socket.diag.upper_layer() {
                let _ = write!(row.below, " ulp:{}", Harmless(&String::from_utf8_lossy(name)));
            }
            let congestion = socket.diag.congestion().map(String::from_utf8_lossy);
            if let Some(info) = socket.diag.tcp_info() {
                tcp_info(&mut row.below, record, &info, congestion.as_deref());
            }
        }
    }
}

/// `text`, if there is any, on indented lines, broken between words where the terminal ends.
fn write_below(out: &mut String, text: &str, terminal: Option<usize>) {
    out.truncate(out.trim_end().len());
    let room = terminal.map_or(usize::MAX, |width| width.saturating_sub(INDENT_WIDTH));
    let mut used = None;
    for word in text.split_ascii_whitespace() {
        let length = word.chars().count();
        match used {
            Some(before) if before + 1 + length <= room => {
                out.push(' ');
                used = Some(before + 1 + length);
            }
            _ => {
                out.push('\n');
                out.push_str(INDENT);
                used = Some(length);
            }
        }
        out.push_str(word);
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

/// `users:(("nginx",pid=812,fd=6),("nginx",pid=813,fd=6))`.
fn holders(out: &mut String, holders: &[Holder<'_>]) {
    for (i, Holder { owner, descriptor }) in holders.iter().enumerate() {
        // Infallible: a String takes everything.
        let _ = write!(
            out,
            "{}(\"{}\",pid={},fd={descriptor})",
            if i == 0 { " users:(" } else { "," },
            owner.name,
            owner.pid
        );
    }
    if !holders.is_empty() {
        out.push(')');
    }
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
    if let Some(mark) = record.mark.filter(|mark| *mark != 0) {
        let _ = write!(out, " fwmark:{mark:#x}");
    }
    let _ = match (socket.cgroup, record.cgroup_id) {
        (Some(path), _) => write!(out, " cgroup:{}", Harmless(path)),
        (None, Some(id)) => write!(out, " cgroup:id:{id}"),
        (None, None) => Ok(()),
    };
    if let Some(v6_only) = socket.diag.v6_only() {
        let _ = write!(out, " v6only:{}", u8::from(v6_only));
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
    if let Some(rto) = info.rto_us().filter(|rto| *rto != 0 && *rto != 3_000_000) {
        let _ = write!(out, " rto:{}", ms(rto));
    }
    number(out, "backoff", info.backoff());
    if let (Some(rtt), Some(variance)) = (info.rtt_us().filter(|rtt| *rtt != 0), info.rtt_variance_us()) {
        let _ = write!(out, " rtt:{}/{}", ms(rtt), ms(variance));
    }
    if let Some(ato) = info.ato_us().filter(|ato| *ato != 0) {
        let _ = write!(out, " ato:{}", ms(ato));
    }
    number(out, "mss", info.send_mss_bytes());
    number(out, "pmtu", info.path_mtu_bytes());
    number(out, "rcvmss", info.receive_mss_bytes());
    number(out, "advmss", info.advertised_mss_bytes());
    number(out, "cwnd", info.congestion_window());
    number(out, "ssthresh", info.send_ssthresh());
    number(out, "bytes_sent", info.sent_bytes());
    number(out, "bytes_retrans", info.retransmitted_bytes());
    number(out, "bytes_acked", info.acked_bytes());
    number(out, "bytes_received", info.received_bytes());
    number(out, "segs_out", info.segments_out());
    number(out, "segs_in", info.segments_in());
    number(out, "data_segs_out", info.data_segments_out());
    number(out, "data_segs_in", info.data_segments_in());
    rates_and_pauses(out, info);
    number(out, "unacked", info.unacked());
    match (info.retransmitting().unwrap_or(0), info.total_retransmits().unwrap_or(0)) {
        (0, 0) => {}
        (now, in_all) => {
            let _ = write!(out, " retrans:{now}/{in_all}");
        }
    }
    number(out, "lost", info.lost());
    // Of a listener it is the backlog, which has a column.
    number(out, "sacked", info.sacked().filter(|_| record.state != SocketState::Listen));
    number(out, "dsack_dups", info.dsack_dups());
    number(out, "reordering", info.reordering().filter(|segments| *segments != 3));
    number(out, "reord_seen", info.reorderings());
    if let Some(rtt) = info.receive_rtt_us().filter(|rtt| *rtt != 0) {
        let _ = write!(out, " rcv_rtt:{}", ms(rtt));
    }
    number(out, "rcv_space", info.receive_space_bytes());
    number(out, "rcv_ssthresh", info.receive_ssthresh_bytes());
    number(out, "notsent", info.unsent_bytes());
    if let Some(least) = info.min_rtt_us().filter(|rtt| *rtt != 0) {
        let _ = write!(out, " minrtt:{}", ms(least));
    }
    number(out, "rcv_ooopack", info.out_of_order_in());
    number(out, "snd_wnd", info.send_window_bytes());
}

/// How fast data goes out, how long ago, and what held it up.
fn rates_and_pauses(out: &mut String, info: &TcpInfo<'_>) {
    let rate = |out: &mut String, name: &str, bytes_per_second: u128| {
        if bytes_per_second != 0 {
            // Infallible, here and below: a String takes everything.
            let _ = write!(out, " {name} {}bps", bytes_per_second * 8);
        }
    };
    let known = |rate: Option<u64>| u128::from(rate.unwrap_or(0));
    // A window of segments each round trip.
    if let (Some(window), Some(mss), Some(rtt)) =
        (info.congestion_window(), info.send_mss_bytes(), info.rtt_us().filter(|rtt| *rtt != 0))
    {
        rate(out, "send", u128::from(window) * u128::from(mss) * 1_000_000 / u128::from(rtt));
    }
    number(out, "lastsnd", info.last_data_sent_ms());
    number(out, "lastrcv", info.last_data_received_ms());
    number(out, "lastack", info.last_ack_received_ms());
    rate(out, "pacing_rate", known(info.pacing_bytes_per_second()));
    rate(out, "delivery_rate", known(info.delivery_bytes_per_second()));
    number(out, "delivered", info.delivered());
    number(out, "delivered_ce", info.delivered_ce());
    if info.delivery_limited_by_application() == Some(true) {
        out.push_str(" app_limited");
    }
    let Some(busy) = info.busy_us().filter(|busy| *busy != 0) else { return };
    let _ = write!(out, " busy:{}ms", busy / 1000);
    let limits = [
        ("rwnd_limited", info.receive_window_limited_us()),
        ("sndbuf_limited", info.send_buffer_limited_us()),
    ];
    for (name, limited) in limits {
        if let Some(limited) = limited.filter(|limited| *limited != 0) {
            let share = 100.0 * limited as f64 / busy as f64;
            let _ = write!(out, " {name}:{}ms({share:.1}%)", limited / 1000);
        }
    }
}

fn number<N: Into<u64>>(out: &mut String, name: &str, value: Option<N>) {
    if let Some(value) = value.map(Into::into).filter(|value| *value != 0) {
        // Infallible: a String takes everything.
        let _ = write!(out, " {name}:{value}");
    }
}

/// Microseconds as milliseconds: up to three digits behind the point, no trailing zeros.
fn ms(us: u32) -> String {
    let text = format!("{}.{:03}", us / 1000, us % 1000);
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
    fn long_lines_break_between_words() {
        let show = |terminal| {
            let mut out = String::from("ESTAB");
            write_below(&mut out, "one two:3 four", terminal);
            out
        };
        assert_eq!(show(None), "ESTAB\n\tone two:3 four");
        assert_eq!(show(Some(80)), show(None));
        assert_eq!(show(Some(17)), "ESTAB\n\tone two:3\n\tfour");
        assert_eq!(show(Some(3)), "ESTAB\n\tone\n\ttwo:3\n\tfour", "too narrow for anything");
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
