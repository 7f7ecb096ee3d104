//! Every socket of a churn by its ends, to compare what the program tells of it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use sockeye_tests::{Churn, Connection, End, How, Span};

use crate::program::number;

/// What times may be off beside their own doubt: milliseconds are cut off, and the clocks of both sides are read a little after
/// another.
const SLACK_MS: f64 = 3.0;
/// What they may be off on a machine so busy that the program waits for its turn, and how many closes may be told late
/// for that: on an idle one there are none.
const STARVED_MS: f64 = 500.0;
const MOST_STARVED: f64 = 0.5;

/// Longest delay of an acknowledgement (TCP_DELACK_MAX), and a busy machine's.
const MOST_DELAYED: Duration = Duration::from_millis(250);

/// All sockets a churn made: both ends of every connection, one of every attempt.
pub(crate) struct Ledger {
    by_ends: HashMap<(SocketAddr, SocketAddr), Vec<Socket>>,
    refused: u64,
    sockets: u64,
    began: (Instant, SystemTime),
}

struct Socket {
    connection: Connection,
    end: End,
    told: bool,
}

impl Ledger {
    /// Of a churn that is over.
    pub(crate) fn of(churn: &Churn) -> Ledger {
        let began = (Instant::now(), SystemTime::now());
        let mut ledger = Ledger { by_ends: HashMap::new(), refused: 0, sockets: 0, began };
        for connection in churn.connections() {
            ledger.sockets += connection.ends().len() as u64;
            if connection.how == How::Refused {
                ledger.refused += 1;
                continue;
            }
            for end in connection.ends() {
                let ends = match end {
                    End::Client => (connection.local, connection.remote),
                    End::Server => (connection.remote, connection.local),
                };
                let socket = Socket { connection, end: *end, told: false };
                ledger.by_ends.entry(ends).or_default().push(socket);
            }
        }
        ledger
    }

    /// The closes told of ends between which no connection was made; those that lost their ends are left out.
    pub(crate) fn strangers<'l>(&self, lines: &'l [Value]) -> Vec<&'l Value> {
        let end = |line: &Value, side: &str| {
            let address: IpAddr = line[format!("{side}_address")].as_str()?.parse().ok()?;
            Some(SocketAddr::new(address, line[format!("{side}_port")].as_u64()? as u16))
        };
        let ends = |line: &Value| Some((end(line, "local")?, end(line, "remote")?));
        lines.iter().filter(|line| ends(line).is_some_and(|ends| !self.by_ends.contains_key(&ends))).collect()
    }

    /// How many there were: as many opens, as many closes.
    pub(crate) fn sockets(&self) -> u64 {
        self.sockets
    }

    fn wall_ms(&self, instant: Instant) -> f64 {
        let now = self.began.1.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        (now - self.began.0.duration_since(instant)).as_secs_f64() * 1e3
    }

    /// Holds the lines of `sockeye closes` to what was done: each socket is told once, and rightly.
    pub(crate) fn check(mut self, lines: &[Value]) {
        let mut tally = Tally::default();
        let mut without_ends = 0;
        for line in lines {
            let (Some(local), Some(remote)) = (ends(line, "local"), ends(line, "remote")) else {
                without_ends += 1;
                continue;
            };
            if remote.port() == 0 {
                without_ends += 1;
                continue;
            }
            let at_ms = millisecond(&line["at"]);
            let sockets =
                self.by_ends.get(&(local, remote)).map(|found| (0..found.len()).collect::<Vec<_>>());
            let fitting = sockets.unwrap_or_default().into_iter().find(|number| {
                let socket = &self.by_ends[&(local, remote)][*number];
                !socket.told && self.off_by(line, at_ms, socket) <= STARVED_MS
            });
            let Some(number) = fitting else {
                tally.note("no such close at that time", format!("{line}{}", self.ends_of(local, remote)));
                continue;
            };
            let socket = &self.by_ends[&(local, remote)][number];
            tally.starved += u64::from(self.off_by(line, at_ms, socket) > SLACK_MS);
            judge(line, socket, &mut tally);
            self.by_ends.get_mut(&(local, remote)).unwrap()[number].told = true;
        }
        let untold = |forgets| {
            let sockets = self.by_ends.values().flatten();
            sockets
                .filter(move |socket| !socket.told && forgets_its_ends(socket) == forgets)
                .collect::<Vec<_>>()
        };
        let (missing, forgetful) = (untold(false), untold(true));
        eprintln!(
            "{} closes told of {} made; {without_ends} without ends, {} of them refused; by {:?}, told by {:?}; {} late; widest doubt {:?}",
            lines.len(),
            self.sockets,
            self.refused,
            tally.closed_by,
            tally.evidence,
            tally.starved,
            tally.widest,
        );
        for (what, found) in &tally.wrong {
            eprintln!("{what}: {}, as {}", found.len(), found[0]);
        }
        for socket in missing.iter().take(3) {
            eprintln!("untold: {:?} of {:?}", socket.end, socket.connection);
        }
        assert_eq!(lines.len() as u64, self.sockets);
        assert_eq!((tally.wrong.len(), missing.len()), (0, 0), "kinds of wrong closes, untold ones");
        assert!(tally.starved as f64 <= MOST_STARVED * self.sockets as f64, "{} late", tally.starved);
        assert_eq!(without_ends, self.refused + forgetful.len() as u64);
    }

    /// Holds the percentiles of `sockeye lifetimes` to what was lived: within their own bounds.
    pub(crate) fn check_percentiles(&self, report: &Value) {
        let mut lived: Vec<_> = self.by_ends.values().flatten().map(lived_ms).collect();
        lived.sort_by(f64::total_cmp);
        for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
            let truth = lived[(share * lived.len() as f64).ceil() as usize - 1];
            let bounds = &report["bounds_ms"][name];
            let (least, most) = (number(bounds, "min") as f64, number(bounds, "max") as f64);
            eprintln!("{name}: {truth:.1} ms lived, {} told, {least}–{most}", report["percentiles_ms"][name]);
            // Histograms keep two digits.
            let slack = SLACK_MS + truth / 50.0;
            assert!(least - slack <= truth && truth <= most + slack, "{name}");
        }
    }

    fn ends_of(&self, local: SocketAddr, remote: SocketAddr) -> String {
        let sockets = self.by_ends.get(&(local, remote)).map(Vec::as_slice).unwrap_or_default();
        sockets
            .iter()
            .map(|socket| {
                let closed = closed(socket);
                format!(
                    "\n  {:?} {:?} closed {:.3}–{:.3}, told {}",
                    socket.end,
                    socket.connection.how,
                    self.wall_ms(closed.from),
                    self.wall_ms(closed.to),
                    socket.told
                )
            })
            .collect()
    }

    /// How far the socket's end is from when the line says it was, milliseconds.
    fn off_by(&self, line: &Value, at_ms: f64, socket: &Socket) -> f64 {
        let closed = closed(socket);
        let earliest = at_ms - number(line, "at_uncertainty_ms") as f64;
        (earliest - self.wall_ms(closed.to)).max(self.wall_ms(closed.from) - at_ms)
    }
}

/// When the socket ended.
fn closed(socket: &Socket) -> Span {
    let connection = &socket.connection;
    let own = connection.closed(socket.end).expect("the churn is over");
    let (Some(first), Some(second)) = (connection.first_close, connection.second_close) else { return own };
    let is_first = own == first;
    match (connection.how.is_reset(), is_first) {
        // Gone when the reset comes, freed by its own close().
        (true, false) => Span { from: first.from, to: own.to },
        // Its full socket waits for the other side's word that the FIN has come, which may be delayed.
        (false, true) => Span { from: own.from, to: second.to.min(own.to + MOST_DELAYED) },
        _ => own,
    }
}

/// Whether its end makes the kernel forget its addresses (`tcp_disconnect`): they are known only if a sweep saw it.
fn forgets_its_ends(socket: &Socket) -> bool {
    let connection = &socket.connection;
    let resets = connection.how.is_reset() && connection.closed(socket.end) == connection.first_close;
    resets || connection.how == How::Unanswered
}

fn lived_ms(socket: &Socket) -> f64 {
    ms(closed(socket).to - socket.connection.opened.from)
}

#[derive(Default)]
struct Tally {
    wrong: HashMap<String, Vec<String>>,
    closed_by: HashMap<String, u64>,
    evidence: HashMap<String, u64>,
    widest: (u64, String),
    /// Closes that were told late.
    starved: u64,
}

impl Tally {
    fn note(&mut self, what: &str, details: String) {
        self.wrong.entry(what.to_string()).or_default().push(details);
    }
}

/// Compares a line with its socket.
fn judge(line: &Value, socket: &Socket, tally: &mut Tally) {
    let connection = &socket.connection;
    let word = |key: &str| line[key].as_str().unwrap_or_default().to_string();
    let mut hold = |what: &str, holds: bool| {
        if !holds {
            tally.note(what, format!("{line}\n  {:?} of {connection:?}", socket.end));
        }
    };
    let opened = connection.opened;
    let closed = closed(socket);
    let most_ms = ms(closed.to - opened.from);
    let least_ms = ms(closed.from.saturating_duration_since(opened.to));
    let told_least = number(line, "lifetime_min_ms") as f64;
    let told_most = line["lifetime_max_ms"].as_u64();
    // An end that is told late shifts both.
    hold("it lived longer", told_least <= most_ms + STARVED_MS);
    hold("an upper bound is missing", told_most.is_some());
    hold("it lived shorter", told_most.is_none_or(|most| most as f64 >= least_ms - STARVED_MS));

    let direction = match socket.end {
        End::Client => "outgoing",
        End::Server => "incoming",
    };
    hold("direction", word("direction") == direction);
    let right = match (connection.how, socket.end) {
        (How::ClientFirst, End::Client) | (How::ServerFirst, End::Server) => &["local", "unknown"][..],
        (How::ClientFirst, End::Server) | (How::ServerFirst, End::Client) => &["remote", "unknown"],
        (How::ClientResets | How::ServerResets, _) => &["reset", "unknown"],
        (How::Refused | How::Unanswered, _) => &["local", "reset", "unknown"],
    };
    hold("closed by", right.contains(&word("closed_by").as_str()));
    let (sent, received) = match socket.end {
        End::Client => (connection.request_bytes, connection.reply_bytes),
        End::Server => (connection.reply_bytes, connection.request_bytes),
    };
    if connection.how.is_accepted() {
        let (sent, received) = (u64::from(sent), u64::from(received));
        hold("sent", line["sent_bytes"].as_u64().is_none_or(|told| told == sent));
        hold(
            "received",
            line["received_bytes"].as_u64().is_none_or(|told| (received..=received + 1).contains(&told)),
        );
    }
    *tally.closed_by.entry(word("closed_by")).or_default() += 1;
    *tally.evidence.entry(word("evidence")).or_default() += 1;
    let doubt_ms = told_most.unwrap_or(0).saturating_sub(number(line, "lifetime_min_ms"));
    if doubt_ms > tally.widest.0 {
        tally.widest = (doubt_ms, format!("{:?} {:?}", connection.how, socket.end));
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn ends(line: &Value, side: &str) -> Option<SocketAddr> {
    let address: IpAddr = line[format!("{side}_address")].as_str()?.parse().ok()?;
    Some(SocketAddr::new(address, line[format!("{side}_port")].as_u64()? as u16))
}

/// Milliseconds since 1970.
fn millisecond(text: &Value) -> f64 {
    let at: jiff::Timestamp = text.as_str().unwrap().parse().unwrap();
    at.as_millisecond() as f64
}
