//! Sockets that stay where none should stay: when they are told, with which bounds, and how many are remembered.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use proptest::prelude::*;
use sock_diag::fake::tcp_record;
use sock_diag::{Cookie, SocketRecord, SocketState};
use sockeye_core::{
    Age, Counters, Found, Holder, Holders, MOST_SAMPLED, Moment, Monitor, Settings, Stuck, StuckKind, When,
};

/// A socket that a process holds.
fn socket(cookie: u64, state: SocketState) -> SocketRecord {
    let end = |host, port| SocketAddr::new(Ipv4Addr::new(10, 0, 0, host).into(), port);
    let remote = if state == SocketState::Close { end(0, 0) } else { end(9, 80) };
    let mut record = tcp_record(state, end(7, 33_000 + (cookie % 20_000) as u16), remote);
    record.id.cookie = Cookie(cookie);
    record.inode = NonZeroU32::new(cookie as u32);
    record
}

fn orphan(cookie: u64, state: SocketState) -> SocketRecord {
    SocketRecord { inode: None, ..socket(cookie, state) }
}

fn monitor() -> Monitor {
    Monitor::new(&Settings::default(), &Counters::default(), Moment(0), false)
}

/// A sweep that takes 100 ms, and what is stuck at its end.
fn sweep(monitor: &mut Monitor, at: u64, records: &[SocketRecord]) -> Vec<Found> {
    monitor.begin_sweep(Moment(at));
    for record in records {
        monitor.observe(record);
    }
    monitor.end_sweep(Moment(at + 100), &Counters::default());
    monitor.stuck(Moment(at + 100))
}

#[test]
fn a_socket_is_told_when_it_has_stood_for_long_for_certain() {
    let mut monitor = monitor();
    let (alive, forgotten) = (socket(5, SocketState::Established), socket(5, SocketState::CloseWait));
    assert_eq!(sweep(&mut monitor, 1_000, &[alive]), []);
    assert_eq!(sweep(&mut monitor, 2_000, &[forgotten]), []);
    assert_eq!(sweep(&mut monitor, 62_000, &[forgotten]), [], "a minute, and not longer");
    let found = sweep(&mut monitor, 62_001, &[forgotten]);
    let [Found { stuck, records }] = &found[..] else { panic!("{found:?}") };
    assert_eq!((stuck.kind, stuck.sockets, stuck.examined, stuck.long), (StuckKind::CloseWait, 1, 1, 1));
    // Met between 2,000 and 2,100; it was elsewhere when the sweep before that began.
    assert_eq!(stuck.longest, Age { min_ms: 60_001, max_ms: Some(61_101) });
    assert_eq!(records[..], [forgotten]);
    // Between sweeps time goes on.
    assert_eq!(monitor.stuck(Moment(90_000))[0].stuck.longest.min_ms, 87_900);
    assert_eq!(sweep(&mut monitor, 63_000, &[socket(5, SocketState::Established)]), []);
}

#[test]
fn what_was_there_before_has_no_upper_bound_until_somebody_looks() {
    let mut monitor = monitor();
    let forgotten = [socket(5, SocketState::CloseWait), socket(6, SocketState::CloseWait)];
    assert_eq!(sweep(&mut monitor, 1_000, &forgotten), []);
    let told = Age { min_ms: 3_600_000, max_ms: Some(7_200_000) };
    monitor.learn_age(Cookie(6), told, When::at(Moment(1_100)));
    monitor.learn_age(Cookie(99), told, When::at(Moment(1_100)));
    let found = sweep(&mut monitor, 2_000, &forgotten);
    let stuck = &found[0].stuck;
    assert_eq!((stuck.examined, stuck.long), (2, 1));
    assert_eq!(stuck.longest, Age { min_ms: 3_601_000, max_ms: Some(7_201_000) });
    let found = sweep(&mut monitor, 100_000, &forgotten[..1]);
    assert_eq!(found[0].stuck.longest, Age { min_ms: 99_000, max_ms: None });
}

#[test]
fn another_state_is_another_wait() {
    let mut monitor = monitor();
    let states =
        [(SocketState::FinWait1, StuckKind::Orphan), (SocketState::FinWait2, StuckKind::OrphanFinWait2)];
    let all = |state| (1..=100).map(|cookie| orphan(cookie, state)).collect::<Vec<_>>();
    let mut now = 0;
    for (state, kind) in states {
        for _ in 0..8 {
            now += kind.long_ms() / 8;
            assert_eq!(sweep(&mut monitor, now, &all(state)), [], "{kind:?} at {now}");
        }
        let found = sweep(&mut monitor, now + kind.long_ms() / 4, &all(state));
        assert_eq!((found.len(), found[0].stuck.kind, found[0].stuck.long), (1, kind, 100));
        now += kind.long_ms() / 4;
    }
}

#[test]
fn few_that_are_bound_or_end_by_themselves_are_nobody_s_concern() {
    for (kind, few) in [(StuckKind::BoundIdle, 15), (StuckKind::OrphanFinWait2, 63), (StuckKind::SynSent, 0)]
    {
        let some = |count: u64| -> Vec<SocketRecord> {
            let one = |cookie| match kind {
                StuckKind::BoundIdle => socket(cookie, SocketState::Close),
                StuckKind::SynSent => socket(cookie, SocketState::SynSent),
                _ => orphan(cookie, SocketState::FinWait2),
            };
            (1..=count).map(one).collect()
        };
        for (count, found) in [(few, 0), (few + 1, 1)] {
            let mut monitor = monitor();
            sweep(&mut monitor, 0, &some(count));
            let told = sweep(&mut monitor, 100_000, &some(count));
            assert_eq!(told.len(), found, "{count} of {kind:?}");
        }
    }
}

#[test]
fn a_leak_of_half_a_million_has_as_many_ages_as_one_of_a_thousand() {
    let mut monitor = monitor();
    let leak: Vec<SocketRecord> =
        (1..=500_000).map(|cookie| socket(cookie, SocketState::CloseWait)).collect();
    for (second, seen) in (0..80).step_by(8).zip((50_000..).step_by(50_000)) {
        let found = sweep(&mut monitor, second * 1_000, &leak[..seen]);
        if let [Found { stuck, records }] = &found[..] {
            assert_eq!((stuck.sockets as usize, stuck.examined as usize), (seen, MOST_SAMPLED));
            assert!(records.len() <= MOST_SAMPLED);
        }
    }
    let found = monitor.stuck(Moment(72_100));
    let stuck = &found[0].stuck;
    assert_eq!(stuck.sockets, 500_000);
    // A tenth of them is older than 72 s, another tenth older than 64: five standard deviations of the sample's share.
    assert!((60..=150).contains(&stuck.long), "{stuck:?}");
    assert_eq!(stuck.longest.min_ms, 72_000);
}

/// Where each socket is when, by a plan that repeats.
#[derive(Clone, Debug)]
struct Plan {
    /// Milliseconds in each of these.
    stays: Vec<(u64, Option<StuckKind>)>,
}

impl Plan {
    /// Where it is at `at`, and since when.
    fn at(&self, at: u64) -> (Option<StuckKind>, u64) {
        let mut since = 0;
        for (stay, kind) in &self.stays {
            if at < since + stay {
                return (*kind, since);
            }
            since += stay;
        }
        (None, since)
    }

    fn record(&self, cookie: u64, at: u64) -> SocketRecord {
        match self.at(at).0 {
            None => socket(cookie, SocketState::Established),
            Some(StuckKind::CloseWait) => socket(cookie, SocketState::CloseWait),
            Some(StuckKind::SynSent) => socket(cookie, SocketState::SynSent),
            Some(StuckKind::Orphan) => orphan(cookie, SocketState::LastAck),
            Some(StuckKind::OrphanFinWait2) => orphan(cookie, SocketState::FinWait2),
            Some(StuckKind::BoundIdle) => socket(cookie, SocketState::Close),
        }
    }
}

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let kind = proptest::option::weighted(0.8, proptest::sample::select(StuckKind::ALL.to_vec()));
    // Longer than a sweep is apart: what comes and goes between two sweeps is seen by none.
    let stay = (5_001_u64..120_000, kind);
    let plan = proptest::collection::vec(stay, 1..6).prop_map(|stays| {
        // The same twice in a row is one stay.
        let mut stays = stays;
        stays.dedup_by_key(|(_, kind)| *kind);
        Plan { stays }
    });
    proptest::collection::vec(plan, 1..120)
}

proptest! {
    #[test]
    fn bounds_hold_and_nobody_is_told_too_early(
        plans in plans(),
        pauses in proptest::collection::vec(200_u64..5_000, 1..60),
    ) {
        let mut monitor = monitor();
        let mut now = 0;
        for pause in pauses {
            now += pause;
            let records: Vec<_> = plans.iter().zip(1..).map(|(plan, cookie)| plan.record(cookie, now)).collect();
            let told = sweep(&mut monitor, now, &records);
            // What was read at `now` is told of the sweep's end.
            let ages = |kind| plans.iter().filter_map(move |plan| {
                let (in_this, since) = plan.at(now);
                (in_this == Some(kind)).then_some(now + 100 - since)
            });
            for kind in StuckKind::ALL {
                let truly_long = ages(kind).filter(|age| *age > kind.long_ms()).count();
                let found = told.iter().find(|found| found.stuck.kind == kind);
                let Some(Found { stuck, records }) = found else {
                    // Nobody is missed but who came between two sweeps, and who was there at the first.
                    let surely = ages(kind).filter(|age| *age > kind.long_ms() + 5_100 && *age < now);
                    prop_assert!(surely.count() < kind.least() as usize, "{kind:?} at {now}");
                    continue;
                };
                prop_assert!(stuck.long as usize <= truly_long, "{stuck:?} at {now}");
                prop_assert_eq!(records.len(), stuck.long as usize);
                prop_assert_eq!(stuck.sockets as usize, ages(kind).count());
                let longest = ages(kind).max().unwrap();
                prop_assert!(stuck.longest.min_ms <= longest);
                let [age] = ages(kind).collect::<Vec<_>>()[..] else { continue };
                prop_assert!(stuck.longest.max_ms.is_none_or(|max_ms| age <= max_ms), "{stuck:?} {age} at {now}");
            }
        }
    }

    #[test]
    fn a_healthy_host_is_told_nothing(
        cookies in 1_u64..200,
        seconds in proptest::collection::vec(0_u64..3, 1..40),
    ) {
        // Connections of two seconds that go through every state, and idle ones that stay.
        let mut monitor = monitor();
        let states = [SocketState::SynSent, SocketState::Established, SocketState::CloseWait, SocketState::LastAck];
        let mut now = 0;
        for second in seconds {
            now += second * 1_000 + 500;
            let brief = (0..cookies).map(|one| {
                let (life, step) = ((now / 2_000) * 1_000, now % 2_000 / 500);
                let state = states[step as usize];
                let record = socket(1_000_000 + life + one, state);
                if state == SocketState::LastAck { orphan(record.id.cookie.0, state) } else { record }
            });
            let idle = (1..=cookies).map(|cookie| socket(cookie, SocketState::Established));
            let records: Vec<_> = brief.chain(idle).collect();
            prop_assert_eq!(sweep(&mut monitor, now, &records), []);
        }
    }
}

fn told(kind: StuckKind, [sockets, examined, long]: [u32; 3], longest: Age, holders: Holders) -> String {
    Stuck { kind, sockets, examined, long, longest, towards: None, holders }.to_string()
}

fn holder(label: &str, sockets: u32) -> Holder {
    Holder { label: label.into(), pid: None, name: None, uid: None, user: None, sockets }
}

#[test]
fn sentences() {
    let exactly = |ms| Age { min_ms: ms, max_ms: Some(ms) };
    let found = vec![holder("nginx (812)", 198), holder("curl (99)", 2)];
    let holders = Holders { found, asked: 200, nobodys: 0 };
    assert_eq!(
        told(StuckKind::CloseWait, [213, 213, 200], Age { min_ms: 300_000, max_ms: None }, holders.clone()),
        "213 sockets are in CLOSE-WAIT, 200 of them for more than 60 s, the longest for 5 min at least: the peer has closed \
         and a program here has not; nginx (812) has 198, curl (99) 2; nothing but the program's close() ends that"
    );
    assert_eq!(
        told(StuckKind::SynSent, [1, 1, 1], exactly(4_000), Holders::default()),
        "1 socket is in SYN-SENT, for 4 s: nobody answers connect(); look at routes and firewalls, or give the program a \
         shorter timeout"
    );
    let many = Holders { found: (1..=5).rev().map(|n| holder("x", n)).collect(), asked: 256, nobodys: 0 };
    assert_eq!(many.of(256).to_string(), "x has 5, x 4, x 3, 2 others 3, of 256 looked for");
    let sampled = Age { min_ms: 11_000_000, max_ms: Some(12_000_000) };
    let text = told(StuckKind::CloseWait, [500_000, 512, 490], sampled, Holders::default());
    assert!(
        text.contains("of 512 looked at 490 for more than 60 s, the longest for 3 h 3 min to 3 h 20 min"),
        "{text}"
    );
    let text = told(
        StuckKind::Orphan,
        [3, 3, 3],
        exactly(20_000),
        Holders { asked: 3, nobodys: 3, ..Holders::default() },
    );
    assert!(text.contains("; no process holds them; "), "{text}");
    let text = told(StuckKind::Orphan, [3, 3, 3], exactly(20_000), Holders { nobodys: 1, ..holders });
    assert!(text.contains("; nginx (812) had 198, curl (99) 2; "), "{text}");
}
