//! What is printed of each socket: queues, timers, owner, memory and tcp_info, in the table and in JSON, against the
//! words of ss.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use sock_diag::SocketState;
use sockeye_tests::{drop_privilege, within};

use crate::Caller;
use crate::world::{Listed, Program, World};

/// What stands behind the addresses: `name:value`, `name value` for rates, words alone with an empty value.
type Details = BTreeMap<String, String>;

/// Retransmissions happen meanwhile: the listings are taken again until they are of one moment.
const PATIENCE: Duration = Duration::from_secs(15);
/// Timers and ages are told in jiffies, 10 ms at most.
const JIFFY_MS: f64 = 10.0;

/// Three listings taken one after the other, by the ends of the sockets, and how long that took.
struct Moment {
    ss: Vec<Listed>,
    table: Vec<Listed>,
    json: Vec<Value>,
    lasted_ms: f64,
}

impl Moment {
    fn take() -> Moment {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let began = Instant::now();
        let ss = Program::Ss.list(&words("-a -t -u -i -m"), None).unwrap();
        let table = Program::Sockeye.list(&words("-a -t -u -i -m"), None).unwrap();
        let json = Program::Sockeye.run(&words("-a -t -u -i -m -o jsonl"));
        assert!(json.status.success(), "{json:?}");
        let lasted_ms = began.elapsed().as_secs_f64() * 1000.0;
        let json = String::from_utf8(json.stdout).unwrap();
        let json = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Moment { ss, table, json, lasted_ms }
    }

    /// Compares all of it; `seen` collects the names of what was compared.
    fn compare(&self, seen: &mut BTreeSet<String>) -> Result<usize, String> {
        let by_cookie: BTreeMap<&str, &Value> =
            self.json.iter().filter_map(|object| Some((object["cookie"].as_str()?, object))).collect();
        let mut compared = 0;
        for theirs in &self.ss {
            let ours = self.table.iter().find(|ours| ours.ends == theirs.ends);
            let ours = ours.ok_or_else(|| format!("not in the table: {theirs:?}"))?;
            let object = by_cookie.get(theirs.cookie.to_string().as_str());
            let object = object.ok_or_else(|| format!("not in JSON: {theirs:?}"))?;
            let complain =
                |what: String| format!("{what}\n  ss      {theirs:?}\n  sockeye {ours:?}\n  {object}");
            compared += self.table_against(theirs, ours, seen).map_err(complain)?;
            compared += json_against(theirs, object, self.lasted_ms).map_err(complain)?;
        }
        Ok(compared)
    }

    fn table_against(
        &self,
        theirs: &Listed,
        ours: &Listed,
        seen: &mut BTreeSet<String>,
    ) -> Result<usize, String> {
        let plain = |listed: &Listed| {
            (listed.state, listed.receive_queue, listed.send_queue, listed.interface.clone())
        };
        if plain(theirs) != plain(ours) {
            return Err("columns differ".to_owned());
        }
        let (mut theirs, mut ours) = (details(theirs), details(ours));
        // The state of BBR itself is not read here.
        theirs.remove("bbr state");
        // 0 is "none" to the kernel; ss prints it. Of uids 0 is root, whom ss leaves out.
        if theirs.get("ino").is_some_and(|inode| inode == "0") {
            theirs.remove("ino");
        }
        if ours.get("uid").is_some_and(|uid| uid == "0") {
            ours.remove("uid");
        }
        // ss takes thresholds from 65,535 segments on for none; the kernel's "none" is 2,147,483,647.
        if ours.get("ssthresh").is_some_and(|segments| segments.parse::<u32>().is_ok_and(|s| s >= 0xffff)) {
            ours.remove("ssthresh");
        }
        let names = |details: &Details| details.keys().cloned().collect::<BTreeSet<String>>();
        let not_in_both: Vec<String> = names(&theirs).symmetric_difference(&names(&ours)).cloned().collect();
        if !not_in_both.is_empty() {
            return Err(format!("only one of them says {not_in_both:?}"));
        }
        for (name, value) in &theirs {
            if !self.agree(name, value, &ours[name]) {
                return Err(format!("{name} is {value} and {}", ours[name]));
            }
        }
        seen.extend(names(&theirs));
        Ok(theirs.len() + 4)
    }

    /// Whether two values of one word mean the same; sockeye was asked later.
    fn agree(&self, name: &str, theirs: &str, ours: &str) -> bool {
        let grown = |later: f64, before: f64| {
            later - before >= -JIFFY_MS && later - before <= self.lasted_ms + JIFFY_MS
        };
        match name {
            "timer" => match (timer(theirs), timer(ours)) {
                (Some(theirs), Some(ours)) => {
                    // From ten seconds on whole seconds are told.
                    let (theirs_ms, ours_ms) = (theirs.1, ours.1);
                    let unit = if theirs_ms >= 9999.0 { 1000.0 } else { 0.0 };
                    (theirs.0, theirs.2) == (ours.0, ours.2)
                        && theirs_ms - ours_ms >= -JIFFY_MS - unit
                        && theirs_ms - ours_ms <= self.lasted_ms + JIFFY_MS + unit
                }
                _ => false,
            },
            "lastsnd" | "lastrcv" | "lastack" | "busy" => {
                let ms = |text: &str| text.trim_end_matches("ms").parse().ok();
                ms(theirs).zip(ms(ours)).is_some_and(|(theirs, ours)| grown(ours, theirs))
            }
            // Floating point in ss, six digits of it.
            "rto" | "rtt" | "ato" | "minrtt" | "rcv_rtt" | "send" | "pacing_rate" | "delivery_rate" => {
                let numbers = |text: &str| -> Vec<f64> {
                    let numbers = text.trim_end_matches("bps").split('/');
                    numbers.map(|number| number.parse().unwrap_or(f64::NAN)).collect()
                };
                let (theirs, ours) = (numbers(theirs), numbers(ours));
                theirs.len() == ours.len()
                    && theirs.iter().zip(&ours).all(|(a, b)| (a - b).abs() <= 1e-5 * a.abs().max(1e-3))
            }
            _ => theirs == ours,
        }
    }
}

fn details(listed: &Listed) -> Details {
    let mut details = Details::new();
    let mut words = listed.details.iter();
    while let Some(word) = words.next() {
        let (name, value) = match word.as_str() {
            "send" | "pacing_rate" | "delivery_rate" => {
                (word.as_str(), words.next().map_or("", String::as_str))
            }
            word => match word.split_once(':') {
                Some(("bbr", state)) => ("bbr state", state),
                Some(pair) => pair,
                None => (word, ""),
            },
        };
        details.insert(name.to_owned(), value.to_owned());
    }
    details
}

/// `(on,744ms,0)`: kind, milliseconds left, retransmissions. ss writes 3.2 seconds as `3.200ms`, sockeye as
/// `3.200sec`; from ten minutes on ss leaves the seconds out.
fn timer(text: &str) -> Option<(&str, f64, u32)> {
    let mut parts = text.trim_matches(['(', ')']).split(',');
    let (kind, left, retransmits) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
    let (minutes, left) = match left.split_once("min") {
        Some((minutes, left)) => (minutes.parse().ok()?, left),
        None => (0.0, left),
    };
    let ms = match left {
        "" => 0.0,
        _ if left.contains('.') => {
            left.trim_end_matches("ms").trim_end_matches("sec").parse::<f64>().ok()? * 1000.0
        }
        _ if left.ends_with("sec") => left.trim_end_matches("sec").parse::<f64>().ok()? * 1000.0,
        _ => left.trim_end_matches("ms").parse().ok()?,
    };
    Some((kind, minutes * 60_000.0 + ms, retransmits))
}

/// Words of ss whose value stands in JSON as it is, and where. Absent is 0 to ss.
const NUMBERS: &[(&str, &str)] = &[
    ("uid", "/uid"),
    ("ino", "/inode"),
    ("backoff", "/tcp_info/backoff"),
    ("mss", "/tcp_info/send_mss_bytes"),
    ("pmtu", "/tcp_info/path_mtu_bytes"),
    ("rcvmss", "/tcp_info/receive_mss_bytes"),
    ("advmss", "/tcp_info/advertised_mss_bytes"),
    ("cwnd", "/tcp_info/congestion_window"),
    ("bytes_sent", "/tcp_info/sent_bytes"),
    ("bytes_retrans", "/tcp_info/retransmitted_bytes"),
    ("bytes_acked", "/tcp_info/acked_bytes"),
    ("bytes_received", "/tcp_info/received_bytes"),
    ("segs_out", "/tcp_info/segments_out"),
    ("segs_in", "/tcp_info/segments_in"),
    ("data_segs_out", "/tcp_info/data_segments_out"),
    ("data_segs_in", "/tcp_info/data_segments_in"),
    ("delivered", "/tcp_info/delivered"),
    ("unacked", "/tcp_info/unacked"),
    ("lost", "/tcp_info/lost"),
    ("rcv_space", "/tcp_info/receive_space_bytes"),
    ("rcv_ssthresh", "/tcp_info/receive_ssthresh_bytes"),
    ("notsent", "/tcp_info/unsent_bytes"),
    ("snd_wnd", "/tcp_info/send_window_bytes"),
];

/// The order of `skmem:(r0,rb1,…)`.
const MEMORY: &[(&str, &str)] = &[
    ("r", "receive_bytes"),
    ("rb", "receive_limit_bytes"),
    ("t", "send_bytes"),
    ("tb", "send_limit_bytes"),
    ("f", "forward_bytes"),
    ("w", "send_queued_bytes"),
    ("o", "option_bytes"),
    ("bl", "backlog_bytes"),
    ("d", "drops"),
];

fn json_against(theirs: &Listed, object: &Value, lasted_ms: f64) -> Result<usize, String> {
    let words = details(theirs);
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
    let mut compared = 0;
    let mut expect = |what: &str, holds: bool| {
        compared += 1;
        if holds { Ok(()) } else { Err(format!("{what} differs in JSON")) }
    };
    for (word, pointer) in NUMBERS {
        let value = words.get(*word).map_or(Some(0), |value| value.parse().ok());
        expect(word, value == Some(number(pointer).unwrap_or(0)))?;
    }
    let is_listener = object["state"] == "listen";
    let queues = if is_listener { ["/accept_queue", "/backlog"] } else { ["/rqueue_bytes", "/wqueue_bytes"] };
    expect("Recv-Q", number(queues[0]) == Some(theirs.receive_queue))?;
    expect("Send-Q", number(queues[1]) == Some(theirs.send_queue))?;
    let state = object["state"].as_str().and_then(SocketState::from_name);
    expect("State", state.is_some() && state == theirs.state)?;
    let end = |side: &str| {
        let address = object.pointer(&format!("/{side}_address")).and_then(Value::as_str)?.parse().ok()?;
        Some(std::net::SocketAddr::new(address, number(&format!("/{side}_port"))? as u16))
    };
    let has_peer = theirs.ends.2.port() != 0 || !theirs.ends.2.ip().is_unspecified();
    expect("local address", end("local") == Some(theirs.ends.1))?;
    expect("remote address", end("remote") == has_peer.then_some(theirs.ends.2))?;
    expect("protocol", object["protocol"] == theirs.ends.0.name())?;
    expect("interface", object["interface"].as_str() == theirs.interface.as_deref())?;
    let mark =
        words.get("fwmark").and_then(|mark| u32::from_str_radix(mark.trim_start_matches("0x"), 16).ok());
    expect("fwmark", number("/mark").unwrap_or(0) == u64::from(mark.unwrap_or(0)))?;
    let v6_only = object["v6_only"].as_bool().map(|set| u8::from(set).to_string());
    expect("v6only", v6_only.as_ref() == words.get("v6only"))?;
    let memory = words.get("skmem").map(|memory| memory.trim_matches(['(', ')']).to_owned());
    let in_json = object.get("memory").map(|memory| {
        let one = |(word, name): &(&str, &str)| format!("{word}{}", memory[name]);
        MEMORY.iter().map(one).collect::<Vec<String>>().join(",")
    });
    expect("skmem", memory == in_json)?;
    let kinds =
        [("on", "retransmit"), ("keepalive", "keepalive"), ("timewait", "time_wait"), ("persist", "probe")];
    match words.get("timer").map(|text| timer(text)) {
        None => expect("no timer", object.get("timer").is_none())?,
        Some(timer) => {
            let (kind, ms, retransmits) = timer.unwrap_or(("", 0.0, 0));
            let kind = kinds.iter().find(|pair| pair.0 == kind).map(|pair| pair.1);
            let now = number("/timer/expires_ms").map_or(f64::NAN, |ms| ms as f64);
            let unit = if ms >= 9999.0 { 1000.0 } else { 0.0 };
            let gone = ms - now;
            expect("timer's kind", object["timer"]["kind"].as_str() == kind)?;
            expect("timer's retransmits", number("/timer/retransmits") == Some(retransmits.into()))?;
            expect("timer", gone >= -JIFFY_MS - unit && gone <= lasted_ms + JIFFY_MS)?;
        }
    }
    let times =
        [("rtt", ["rtt_us", "rtt_variance_us"]), ("rto", ["rto_us", ""]), ("minrtt", ["min_rtt_us", ""])];
    for (word, names) in times {
        let Some(value) = words.get(word) else { continue };
        for (text, name) in value.split('/').zip(names) {
            let us = number(&format!("/tcp_info/{name}")).map_or(f64::NAN, |us| us as f64);
            let ms: f64 = text.parse().unwrap_or(f64::NAN);
            expect(word, (us / 1000.0 - ms).abs() <= 1e-5 * ms.max(1e-3))?;
        }
    }
    Ok(compared)
}

/// Compares what both print of every socket; to be called inside a namespace.
pub(crate) fn compare(name: &str, caller: Caller) {
    let world = World::open(true);
    if caller == Caller::OrdinaryUser {
        drop_privilege().unwrap();
    }
    let mut outcome = Err("never asked".to_owned());
    let mut seen = BTreeSet::new();
    let mut asked = 0;
    let _ = within(PATIENCE, || {
        asked += 1;
        let moment = Moment::take();
        let complete = moment.table.len() == world.animals.len() && moment.json.len() == world.animals.len();
        assert!(complete, "sockeye shows all there is");
        outcome = moment.compare(&mut seen).map(|values| (moment.ss.len(), values));
        outcome.is_ok().then_some(())
    });
    match outcome {
        Ok((sockets, values)) => {
            let words: Vec<&str> = seen.iter().map(String::as_str).collect();
            eprintln!(
                "{name}: {sockets} sockets, {values} values agree, asked {asked} times; words: {}",
                words.join(" ")
            );
        }
        Err(what) => panic!("asked {asked} times: {what}"),
    }
    // Else the comparison says little.
    for word in
        ["timer", "skmem", "rtt", "cwnd", "mss", "bytes_acked", "bytes_received", "unacked", "lastsnd", "ino"]
    {
        assert!(seen.contains(word), "no socket has {word}");
    }
}

#[test]
fn timers_are_read_as_both_write_them() {
    assert_eq!(timer("(on,744ms,0)"), Some(("on", 744.0, 0)));
    assert_eq!(timer("(timewait,59sec,0)"), Some(("timewait", 59_000.0, 0)));
    assert_eq!(timer("(on,3.200ms,2)"), Some(("on", 3200.0, 2)));
    assert_eq!(timer("(on,3.200sec,2)"), Some(("on", 3200.0, 2)));
    assert_eq!(timer("(keepalive,119min,0)"), Some(("keepalive", 7_140_000.0, 0)));
    assert_eq!(timer("(keepalive,1min54sec,0)"), Some(("keepalive", 114_000.0, 0)));
}
