//! What a day of a busy proxy takes on disk, and what it costs to keep it: 50 destinations, 2,000 closes a second in the
//! mean with a peak in the evening, 50,000 connections alive, at the speed of this machine instead of the clock's.
//!
//! `cargo run --release -p sockeye-recording --example proxy_day -- DIR [HOURS]`

#![allow(clippy::print_stdout, reason = "an example tells its figures")]

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use sockeye_recording::{
    ClosedBy, Connection, Destination, Direction, Evidence, Limits, Protocol, Recorder, Rows, Setting, Tick,
    Time,
};

const BEGIN_MS: u64 = 1_795_305_600_000;
const CLOSES_PER_SECOND: f64 = 2_000.0;
const LIVE: u64 = 50_000;
const DESTINATIONS: u64 = 50;
const WORKERS: u64 = 8;

/// The same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1u32 << 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.roll() * end as f64) as u64
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("name a directory")?);
    let hours: f64 = arguments.next().and_then(|text| text.to_str()?.parse().ok()).unwrap_or(24.0);
    let (mut recorder, _) = Recorder::open(&directory, Limits::default())?;
    let began = Instant::now();
    let mut day = Day::new();
    let mut connections = 0;
    let mut appending = 0.0;
    let mut rows = Rows::default();
    for second in 0..(hours * 3_600.0) as u64 {
        let at = day.tick(second, recorder.begins_segment(), &mut rows);
        connections += rows.connections.len() as u64;
        let appended = Instant::now();
        recorder.append(at, &mut rows)?;
        appending += appended.elapsed().as_secs_f64();
    }
    recorder.finish()?;
    let (seconds, all) = (hours * 3_600.0, began.elapsed().as_secs_f64());
    println!("{connections} connections in {hours} h, made and recorded in {all:.1} s");
    println!("append: {:.2} ms a tick in the mean", appending * 1_000.0 / seconds);
    Ok(())
}

struct Day {
    dice: Dice,
    names: Vec<Arc<str>>,
    cookie: u64,
    live: [u64; DESTINATIONS as usize],
}

impl Day {
    fn new() -> Day {
        let names = ["haproxy", "www-data", "/system.slice/haproxy.service"].map(Arc::from).to_vec();
        Day { dice: Dice(7), names, cookie: 1, live: [LIVE / DESTINATIONS; DESTINATIONS as usize] }
    }

    fn tick(&mut self, second: u64, begins_segment: bool, rows: &mut Rows) -> Time {
        let at = Time(BEGIN_MS + second * 1_000 + 3);
        rows.clear();
        if begins_segment {
            rows.settings.push(Setting {
                time: at,
                netns: 4_026_531_840,
                key: "host_name".into(),
                value: Some("proxy-1".into()),
            });
        }
        // From a quarter of the mean at night to the double in the evening.
        let hour = (second % 86_400) as f64 / 3_600.0;
        let wave = 1.0 + 0.9 * ((hour - 19.0) / 24.0 * std::f64::consts::TAU).cos();
        let closes = (CLOSES_PER_SECOND * wave * (0.9 + 0.2 * self.dice.roll())) as u64;
        let mut by_destination = [0; DESTINATIONS as usize];
        for _ in 0..closes {
            // Some destinations have most of them.
            let to = (self.dice.roll().powi(2) * DESTINATIONS as f64) as u64;
            by_destination[to as usize] += 1;
            rows.connections.push(self.connection(at, to));
        }
        let mut fullest = (0, 0.0);
        for (to, closed) in by_destination.into_iter().enumerate() {
            // Whatever ends is replaced, now or a little later.
            let missing = (LIVE / DESTINATIONS + closed).saturating_sub(self.live[to]);
            let opened = (missing as f64 * (0.5 + 0.7 * self.dice.roll())) as u64;
            self.live[to] = (self.live[to] + opened).saturating_sub(closed);
            let time_wait = closed * 12;
            let occupancy = (self.live[to] + time_wait).min(28_000) as f64 / 28_189.0;
            if occupancy > fullest.1 {
                fullest = (to as u64, occupancy);
            }
            rows.destinations.push(Destination {
                time: at,
                netns: 4_026_531_840,
                protocol: Protocol::Tcp,
                local_address: local(),
                remote_address: remote(to as u64),
                remote_port: 8_080,
                in_use: (28_189.0 * occupancy) as u32,
                live: self.live[to] as u32,
                time_wait: time_wait as u32,
                occupancy_ratio: occupancy,
                headroom_min: 28_189 - (28_189.0 * occupancy) as u32,
                headroom_max: 28_189 - (28_189.0 * occupancy) as u32,
                opens: opened,
                closes: closed,
            });
        }
        rows.ticks.push(self.summary(at, closes, fullest));
        at
    }

    fn connection(&mut self, at: Time, to: u64) -> Connection {
        let dice = &mut self.dice;
        // Most live for a few dozen ms, some for minutes; an event tells the end to the millisecond.
        let brief = dice.roll() < 0.9;
        let lifetime = if brief { 20 + dice.below(200) } else { 1_000 + dice.below(300_000) };
        let closed = Time(at.0 - dice.below(1_000));
        let doubt = if brief { 1 } else { 1_000.min(lifetime) };
        let requests = 1 + dice.below(20);
        self.cookie += 1 + dice.below(3);
        Connection {
            closed_earliest: Time(closed.0 - 1),
            closed_latest: closed,
            opened_earliest: Some(Time(closed.0 - lifetime)),
            opened_latest: Time(closed.0 - 1 - (lifetime - doubt)),
            lifetime_min_ms: lifetime - doubt,
            lifetime_max_ms: Some(lifetime),
            netns: 4_026_531_840,
            protocol: Protocol::Tcp,
            direction: Direction::Outgoing,
            local_address: Some(local()),
            local_port: Some(32_768 + 2 * dice.below(14_116) as u16),
            remote_address: Some(remote(to)),
            remote_port: Some(8_080),
            closed_by: if dice.roll() < 0.8 { ClosedBy::Local } else { ClosedBy::Remote },
            evidence: Evidence::Event,
            owner_pid: Some(800 + dice.below(WORKERS) as u32),
            owner_name: Some(self.names[0].clone()),
            owner_uid: Some(33),
            owner_user: Some(self.names[1].clone()),
            owner_cgroup: Some(self.names[2].clone()),
            owner_inferred: false,
            sent_bytes: Some(requests * (300 + dice.below(600))),
            received_bytes: Some(requests * dice.below(20_000)),
            retransmits: Some(u32::from(dice.roll() < 0.01)),
            data_segments_out: Some(requests as u32),
            data_segments_in: Some(requests as u32 * 3),
            cookie: self.cookie,
        }
    }

    fn summary(&self, at: Time, closes: u64, (fullest, occupancy): (u64, f64)) -> Tick {
        let live = self.live.iter().sum::<u64>();
        Tick {
            time: at,
            netns: 4_026_531_840,
            interval_ms: 1_000,
            opens: closes,
            closes,
            live,
            time_wait: closes as u32 * 12,
            established: live as u32,
            syn_sent: 3,
            syn_recv: 0,
            fin_wait_1: 2,
            fin_wait_2: 9,
            close_wait: 1,
            last_ack: 0,
            closing: 0,
            listen: 18,
            pool_first: 32_768,
            pool_last: 60_999,
            pool_reserved: 12,
            pool_held: 31,
            pool_usable: 28_189,
            worst_local_address: Some(local()),
            worst_remote_address: Some(remote(fullest)),
            worst_remote_port: Some(8_080),
            worst_occupancy_ratio: Some(occupancy),
            headroom_min: Some(28_189 - (28_189.0 * occupancy) as u32),
            exhausted_in_seconds: None,
            coverage_ratio: Some(0.999),
            events_lost: 0,
            sockets: Some(live + closes * 12),
            sweep_ms: Some(31.5),
        }
    }
}

fn local() -> IpAddr {
    [10, 0, 0, 7].into()
}

fn remote(number: u64) -> IpAddr {
    [10, 0, 9, 10 + number as u8].into()
}
