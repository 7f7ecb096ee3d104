//! Destroy events under load: with room none is lost, without it each is either read or counted as lost.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;
use std::time::{Duration, Instant};

use sock_diag::{DestroyEvents, Event, EventGroups, RecvBuffer};
use sockeye_tests::{Burst, Destroyed, Namespace, wait_until};

/// What a subscriber was told.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Told {
    events: u64,
    lost: u64,
}

/// A subscription, and all it has told so far.
struct Subscriber {
    events: DestroyEvents,
    buffer: RecvBuffer,
    told: Told,
}

impl Subscriber {
    fn new(groups: EventGroups, buffer_bytes: usize) -> Subscriber {
        let events = DestroyEvents::open(groups, buffer_bytes).unwrap();
        Subscriber { events, buffer: RecvBuffer::new(), told: Told::default() }
    }

    fn read(&mut self, timeout: Duration) {
        let told = &mut self.told;
        let read = self.events.read(Some(timeout), &mut self.buffer, |event| match event {
            Event::Destroyed(_) => told.events += 1,
            Event::Lost(Some(lost)) => told.lost += u64::from(lost),
            Event::Lost(None) => panic!("this kernel counts its losses"),
        });
        read.unwrap();
    }

    /// Reads on until so many events were told, as read or as lost; then there are no more.
    fn read_until(&mut self, all: u64) {
        wait_until(&format!("{all} events"), Duration::from_secs(30), || {
            self.read(Duration::from_millis(10));
            self.told.events + self.told.lost >= all
        });
        self.read(Duration::from_millis(200));
        assert_eq!(self.told.events + self.told.lost, all, "{:?}", self.told);
    }
}

/// Destroyed sockets of a burst by `workers` processes, whose TCP listeners end with it and are told as well.
fn events_of(what: Destroyed, destroyed: u64, workers: u8) -> u64 {
    match what {
        Destroyed::UdpSockets => destroyed,
        Destroyed::TcpConnections => destroyed + u64::from(workers),
    }
}

fn none_is_lost(what: Destroyed, groups: EventGroups) {
    const RATE: u32 = 33_000;
    const WORKERS: u8 = 2;
    let mut subscriber = Subscriber::new(groups, 64 << 20);
    assert_eq!(subscriber.events.receive_buffer_bytes(), 64 << 20, "SO_RCVBUFFORCE is root's");
    let lasts = Duration::from_secs(10);
    let burst = Burst::start(what, Some(RATE), lasts, WORKERS).unwrap();
    let begin = Instant::now();
    while begin.elapsed() < lasts {
        subscriber.read(Duration::from_millis(100));
    }
    let count = burst.finish().unwrap();
    subscriber.read_until(events_of(what, count.destroyed, WORKERS));
    eprintln!(
        "{what:?}: {} destroyed at {:.0} a second, {:?}",
        count.destroyed,
        count.per_second(),
        subscriber.told
    );
    assert_eq!(subscriber.told.lost, 0);
    assert_eq!(subscriber.events.dropped(), Some(0));
    if count.per_second() < 0.98 * f64::from(RATE) {
        eprintln!("{what:?}: this machine is too busy for {RATE} a second; nothing was lost at what it made");
    }
    assert!(count.destroyed > 10_000, "too few to tell anything");
}

#[test]
fn root_loses_no_udp_event_at_33_000_a_second() {
    Namespace::new().host_root().run(|| none_is_lost(Destroyed::UdpSockets, EventGroups::UDP));
}

#[test]
fn root_loses_no_tcp_event_at_33_000_a_second() {
    Namespace::new().host_root().run(|| none_is_lost(Destroyed::TcpConnections, EventGroups::TCP));
}

/// What a socket gets that asks for nothing.
fn default_buffer() -> usize {
    fs::read_to_string("/proc/sys/net/core/rmem_default").map_or(212_992, |text| text.trim().parse().unwrap())
}

#[test]
fn an_ordinary_user_is_told_every_loss_and_reads_on() {
    Namespace::new().without_privilege().run(|| {
        for (what, groups) in
            [(Destroyed::UdpSockets, EventGroups::UDP), (Destroyed::TcpConnections, EventGroups::TCP)]
        {
            let mut subscriber = Subscriber::new(groups, default_buffer());
            let lasts = Duration::from_secs(2);
            let burst = Burst::start(what, None, lasts, 2).unwrap();
            let begin = Instant::now();
            // A slow reader: it looks five times a second.
            while begin.elapsed() < lasts {
                std::thread::sleep(Duration::from_millis(200));
                subscriber.read(Duration::ZERO);
            }
            let count = burst.finish().unwrap();
            let all = events_of(what, count.destroyed, 2);
            subscriber.read_until(all);
            eprintln!("{what:?}: {all} destroyed: {:?}", subscriber.told);
            assert!(subscriber.told.lost > 0, "the reader is too quick to be told of losses");
            assert!(subscriber.told.events > 0);
            assert_eq!(subscriber.events.dropped().map(u64::from), Some(subscriber.told.lost));

            // Reading goes on: a burst that fits the buffer is read to its last event, and no loss is told twice.
            let lost = subscriber.told.lost;
            let few = Burst::start(what, Some(100), Duration::from_millis(500), 1).unwrap();
            let few = events_of(what, few.finish().unwrap().destroyed, 1);
            assert!(few > 0);
            subscriber.read_until(all + few);
            assert_eq!(subscriber.told.lost, lost);
        }
    });
}

#[test]
fn the_buffer_an_ordinary_user_gets_is_reported() {
    Namespace::new().without_privilege().run(|| {
        let modest = DestroyEvents::open(EventGroups::ALL, 100_000).unwrap();
        assert_eq!(modest.receive_buffer_bytes(), 100_000);
        let greedy = DestroyEvents::open(EventGroups::ALL, 1 << 30).unwrap();
        let granted = greedy.receive_buffer_bytes();
        assert!(granted < 1 << 30, "{granted} without SO_RCVBUFFORCE");
        // rmem_max bounds what may be asked for; the kernel doubles it for its own use.
        if let Ok(limit) = fs::read_to_string("/proc/sys/net/core/rmem_max") {
            assert_eq!(granted, 2 * limit.trim().parse::<usize>().unwrap());
        }
    });
}
