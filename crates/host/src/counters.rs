//! The kernel's own counts of connections, failures and buckets, per network namespace.
//!
//! Rates and coverage are made from two of these by others.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files;

/// `/proc/net` would be the namespace of the process's first thread.
const NET: &str = "/proc/thread-self/net";

/// Counters of one network namespace since it was made, and gauges of now. None: this kernel has no such line.
///
/// Consistency: each counter is a sum over CPUs taken while they count on; one file at a time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Connections begun by connect(), failed ones too.
    pub active_opens: Option<u64>,
    /// Connections a listener took on.
    pub passive_opens: Option<u64>,
    /// Handshakes that failed, on either side.
    pub attempt_fails: Option<u64>,
    /// Connections that went from ESTABLISHED or CLOSE_WAIT straight to closed.
    pub estab_resets: Option<u64>,
    /// Gauge: connections now in ESTABLISHED or CLOSE_WAIT, both families.
    pub curr_estab: Option<u64>,
    /// Segments sent again.
    pub retrans_segs: Option<u64>,
    /// Resets sent.
    pub out_rsts: Option<u64>,

    /// TIME_WAIT buckets that ended with their time.
    pub time_waits_ended: Option<u64>,
    /// TIME_WAIT buckets taken over by connect().
    pub time_waits_recycled: Option<u64>,
    /// TIME_WAIT buckets ended early by a protocol event.
    pub time_waits_killed: Option<u64>,
    /// Closes that left no TIME_WAIT bucket because `tcp_max_tw_buckets` was reached.
    pub time_wait_overflow: Option<u64>,
    /// Connections lost to a full accept queue.
    pub listen_overflows: Option<u64>,
    /// Connections a listener dropped for any reason, the overflows among them.
    pub listen_drops: Option<u64>,
    /// SYNs dropped because the queue of half-open connections was full.
    pub req_queue_full_drops: Option<u64>,
    /// Connections aborted: closed with data unread.
    pub aborts_on_data: Option<u64>,
    /// Connections aborted: data came after the close.
    pub aborts_on_close: Option<u64>,
    /// Connections aborted: too many orphans or too little memory.
    pub aborts_on_memory: Option<u64>,
    /// Connections aborted: retransmissions or keepalives went unanswered.
    pub aborts_on_timeout: Option<u64>,
    /// Connections aborted: orphaned longer than SO_LINGER2 allowed.
    pub aborts_on_linger: Option<u64>,
    /// SYNs and SYN-ACKs sent again.
    pub syn_retransmits: Option<u64>,

    /// Gauge: sockets of every family, with or without a connection.
    pub sockets_used: Option<u64>,
    /// Gauge: TCP sockets over IPv4 that are hashed (not TIME_WAIT, not request sockets).
    pub tcp_in_use: Option<u64>,
    /// Gauge: TCP sockets over IPv6 that are hashed. None also without IPv6.
    pub tcp6_in_use: Option<u64>,
    /// Gauge: TCP sockets no process holds. **Of the whole machine**, not of the namespace.
    pub tcp_orphans_on_machine: Option<u64>,
    /// Gauge: TIME_WAIT buckets, both families.
    pub time_waits: Option<u64>,
    /// Gauge: TCP sockets that exist. **Of the whole machine.**
    pub tcp_allocated_on_machine: Option<u64>,
    /// Gauge: UDP sockets over IPv4 that have a port.
    pub udp_in_use: Option<u64>,
    /// Gauge: UDP sockets over IPv6 that have a port. None also without IPv6.
    pub udp6_in_use: Option<u64>,
}

type Place = fn(&mut Counters) -> &mut Option<u64>;

/// One row per counter: the file's line, the kernel's name in it, and where it goes.
const COUNTERS: &[(&str, &str, Place)] = &[
    ("Tcp", "ActiveOpens", |c| &mut c.active_opens),
    ("Tcp", "PassiveOpens", |c| &mut c.passive_opens),
    ("Tcp", "AttemptFails", |c| &mut c.attempt_fails),
    ("Tcp", "EstabResets", |c| &mut c.estab_resets),
    ("Tcp", "CurrEstab", |c| &mut c.curr_estab),
    ("Tcp", "RetransSegs", |c| &mut c.retrans_segs),
    ("Tcp", "OutRsts", |c| &mut c.out_rsts),
    ("TcpExt", "TW", |c| &mut c.time_waits_ended),
    ("TcpExt", "TWRecycled", |c| &mut c.time_waits_recycled),
    ("TcpExt", "TWKilled", |c| &mut c.time_waits_killed),
    ("TcpExt", "TCPTimeWaitOverflow", |c| &mut c.time_wait_overflow),
    ("TcpExt", "ListenOverflows", |c| &mut c.listen_overflows),
    ("TcpExt", "ListenDrops", |c| &mut c.listen_drops),
    ("TcpExt", "TCPReqQFullDrop", |c| &mut c.req_queue_full_drops),
    ("TcpExt", "TCPAbortOnData", |c| &mut c.aborts_on_data),
    ("TcpExt", "TCPAbortOnClose", |c| &mut c.aborts_on_close),
    ("TcpExt", "TCPAbortOnMemory", |c| &mut c.aborts_on_memory),
    ("TcpExt", "TCPAbortOnTimeout", |c| &mut c.aborts_on_timeout),
    ("TcpExt", "TCPAbortOnLinger", |c| &mut c.aborts_on_linger),
    ("TcpExt", "TCPSynRetrans", |c| &mut c.syn_retransmits),
    ("sockets", "used", |c| &mut c.sockets_used),
    ("TCP", "inuse", |c| &mut c.tcp_in_use),
    ("TCP6", "inuse", |c| &mut c.tcp6_in_use),
    ("TCP", "orphan", |c| &mut c.tcp_orphans_on_machine),
    ("TCP", "tw", |c| &mut c.time_waits),
    ("TCP", "alloc", |c| &mut c.tcp_allocated_on_machine),
    ("UDP", "inuse", |c| &mut c.udp_in_use),
    ("UDP6", "inuse", |c| &mut c.udp6_in_use),
];

impl Counters {
    /// Reads the counters of the calling thread's network namespace; adds to `unread` the files that could not
    /// be read. Needs no privilege. Cost: sums over all CPUs in the kernel, tens of microseconds.
    pub fn read(unread: &mut Vec<Error>) -> Counters {
        let mut counters = Counters::default();
        for (name, parse) in [
            ("snmp", Counters::parse_titled as fn(&mut Counters, &str)),
            ("netstat", Counters::parse_titled),
            ("sockstat", Counters::parse_paired),
            ("sockstat6", Counters::parse_paired),
        ] {
            let path: PathBuf = Path::new(NET).join(name);
            match files::read(&path) {
                Ok(text) => parse(&mut counters, &text),
                // A kernel without IPv6 has no sockstat6.
                Err(error) if error.is_missing() && name == "sockstat6" => {}
                Err(error) => unread.push(error),
            }
        }
        counters
    }

    /// Takes what it knows from the text of `snmp` or `netstat`: a line of names, then a line of values, both
    /// after the same title. Anything else is passed over; never fails.
    pub fn parse_titled(&mut self, text: &str) {
        let mut lines = text.lines().filter_map(|line| line.split_once(':')).peekable();
        while let Some((title, names)) = lines.next() {
            if let Some((_, values)) = lines.next_if(|(next, _)| *next == title) {
                for (name, value) in names.split_ascii_whitespace().zip(values.split_ascii_whitespace()) {
                    self.set(title, name, value);
                }
            }
        }
    }

    /// Takes what it knows from the text of `sockstat` or `sockstat6`: after a title, names and values in turn.
    /// Anything else is passed over; never fails.
    pub fn parse_paired(&mut self, text: &str) {
        for (title, pairs) in text.lines().filter_map(|line| line.split_once(':')) {
            let mut words = pairs.split_ascii_whitespace();
            while let (Some(name), Some(value)) = (words.next(), words.next()) {
                self.set(title, name, value);
            }
        }
    }

    fn set(&mut self, title: &str, name: &str, value: &str) {
        if let Some((.., place)) = COUNTERS.iter().find(|row| row.0 == title && row.1 == name) {
            *place(self) = value.parse().ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_and_values_are_paired_by_title() {
        let mut counters = Counters::default();
        counters.parse_titled(
            "Ip: Forwarding\nIp: 1\nTcp: MaxConn ActiveOpens New CurrEstab\nTcp: -1 56 7 46\n\
             TcpExt: TW\nIpExt: TW\nIpExt: 5\nTcpExt: ListenDrops TW\nTcpExt: 3\n",
        );
        let expected = Counters {
            active_opens: Some(56),
            curr_estab: Some(46),
            listen_drops: Some(3),
            ..Counters::default()
        };
        assert_eq!(counters, expected);
    }

    #[test]
    fn socket_counts_are_name_and_value_in_turn() {
        let mut counters = Counters::default();
        counters.parse_paired(
            "sockets: used 13\nTCP: inuse 1 orphan 2 tw 3 alloc 4 mem 0\nUDP: inuse 5 mem\nFRAG: inuse 6\nTCP6: inuse x\n",
        );
        let expected = Counters {
            sockets_used: Some(13),
            tcp_in_use: Some(1),
            tcp_orphans_on_machine: Some(2),
            time_waits: Some(3),
            tcp_allocated_on_machine: Some(4),
            udp_in_use: Some(5),
            ..Counters::default()
        };
        assert_eq!(counters, expected);
    }

    #[test]
    fn every_row_has_a_place_of_its_own() {
        let mut counters = Counters::default();
        for (number, (title, name, _)) in COUNTERS.iter().enumerate() {
            counters.set(title, name, &number.to_string());
        }
        for (number, (title, name, place)) in COUNTERS.iter().enumerate() {
            assert_eq!(*place(&mut counters), Some(number as u64), "{title} {name}");
        }
    }

    #[test]
    fn this_kernel_has_every_counter() {
        let mut unread = Vec::new();
        let mut counters = Counters::read(&mut unread);
        assert!(unread.is_empty(), "{unread:?}");
        for (title, name, place) in COUNTERS {
            let value = *place(&mut counters);
            if title.ends_with('6') && !Path::new("/proc/net/sockstat6").exists() {
                assert_eq!(value, None, "{title} {name}");
            } else {
                assert!(value.is_some(), "{title} {name} is not where it was expected");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_passed_over_or_taken(text in "\\PC{0,80}|((Tcp|TcpExt|TCP|:| |TW|inuse|-?[0-9]{1,30}|\\n){0,40})") {
            let mut counters = Counters::default();
            counters.parse_titled(&text);
            counters.parse_paired(&text);
        }
    }
}
