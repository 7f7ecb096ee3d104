//! Laws of the fold.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use sock_diag::Protocol;

use super::*;
use crate::lifetimes::scale::Scale;

fn towards(host: u8) -> DestinationId {
    DestinationId {
        protocol: Protocol::Tcp,
        local_address: Ipv4Addr::new(10, 0, 0, 7).into(),
        remote_address: Ipv4Addr::new(10, 0, 9, host).into(),
        remote_port: 8080,
    }
}

fn destination(at: u64, host: u8, in_use: u32, opens: u64) -> DestinationSample {
    DestinationSample {
        at: Moment(at),
        id: towards(host),
        in_use,
        live: in_use,
        time_wait: 0,
        occupancy: f64::from(in_use) / 1_000.0,
        headroom_min: 1_000 - in_use.min(1_000),
        opens,
        closes: opens / 2,
    }
}

fn closed(at: u64, owner: u32, min_ms: u64, doubt_ms: Option<u64>) -> ClosedSample {
    ClosedSample {
        at: Moment(at),
        group: Group::Destination(towards((owner % 5) as u8)),
        local_port: Some(32_768 + (min_ms % 1_000) as u16),
        owner: OwnerId(owner),
        lifetime: Lifetime { min_ms, max_ms: doubt_ms.map(|doubt| min_ms + doubt) },
        closed_by: [ClosedBy::Local, ClosedBy::Remote, ClosedBy::Reset, ClosedBy::Unknown]
            [owner as usize % 4],
        bytes: Some([10, 20]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_over_buckets_are_the_totals(
        begin in 0u64..1_000,
        length in 0u64..10_000,
        buckets in 0usize..50,
        ticks in proptest::collection::vec((0u64..12_000, 0u64..100, 0u64..100), 0..80),
        ends in proptest::collection::vec((0u64..12_000, 0u32..9, 0u64..5_000, proptest::option::of(0u64..500)), 0..80),
    ) {
        let mut period = Period::cut(Moment(begin), Moment(begin + length), buckets);
        prop_assert!(period.buckets().len() <= buckets.max(1));
        for (at, opens, closes) in &ticks {
            period.tick(&TickSample { at: Moment(*at), interval_ms: 10, opens: *opens, closes: *closes, ..TickSample::default() });
        }
        for (at, owner, min_ms, doubt) in &ends {
            period.closed(&closed(*at, *owner, *min_ms, *doubt));
        }
        let totals = *period.totals();
        let sum = |value: &dyn Fn(&Bucket) -> u64| period.buckets().iter().map(value).sum::<u64>();
        prop_assert_eq!(sum(&|b| b.opens), totals.opens);
        prop_assert_eq!(sum(&|b| b.closes), totals.closes);
        prop_assert_eq!(sum(&|b| b.ticks), totals.ticks);
        prop_assert_eq!(sum(&|b| b.covered_ms), totals.covered_ms);
        prop_assert_eq!(sum(&|b| b.lifetimes().completed() + b.lifetimes().censored()), totals.ended);
        let by = totals.ended_by;
        prop_assert_eq!(by.local + by.remote + by.reset + by.unknown, totals.ended);
        let (owners, rest) = period.owners();
        prop_assert_eq!(owners.iter().map(|row| row.ended).sum::<u64>() + rest.ended, totals.ended);
        let lifetimes = period.lifetimes().total;
        prop_assert_eq!(lifetimes.completed + lifetimes.older, totals.ended);
        prop_assert_eq!(period.ports().within(0..=u16::MAX).0, totals.ended);
        let inside = |at: &u64| *at >= begin && *at < begin + length.max(1);
        let (ticks_in, ends_in) = (ticks.iter().filter(|t| inside(&t.0)), ends.iter().filter(|e| inside(&e.0)));
        prop_assert_eq!(totals.opens, ticks_in.map(|t| t.1).sum::<u64>());
        prop_assert_eq!(totals.ended, ends_in.count() as u64);
        prop_assert_eq!(totals.outside + totals.ticks + totals.ended, (ticks.len() + ends.len()) as u64);
    }

    #[test]
    fn the_order_of_closed_connections_does_not_matter(
        ends in proptest::collection::vec((0u64..1_000, 0u32..9, 0u64..5_000, proptest::option::of(0u64..500)), 0..60),
    ) {
        let fold = |ends: &mut dyn Iterator<Item = &(u64, u32, u64, Option<u64>)>| {
            let mut period = Period::cut(Moment(0), Moment(1_000), 10);
            ends.for_each(|(at, owner, min_ms, doubt)| period.closed(&closed(*at, *owner, *min_ms, *doubt)));
            period
        };
        let (forth, back) = (fold(&mut ends.iter()), fold(&mut ends.iter().rev()));
        prop_assert_eq!(forth.totals(), back.totals());
        prop_assert_eq!(forth.lifetimes().total, back.lifetimes().total);
        for (one, other) in forth.buckets().iter().zip(back.buckets()) {
            prop_assert_eq!(one.percentiles(), other.percentiles());
        }
        let owners = |period: &Period| -> Vec<_> {
            period.owners().0.iter().map(|row| (row.owner, row.ended, row.bytes, row.percentiles())).collect()
        };
        prop_assert_eq!(owners(&forth), owners(&back));
    }

    #[test]
    fn destinations_and_their_rest_are_all(
        rows in proptest::collection::vec((0u64..100, 0u8..20, 0u32..1_000, 0u64..50), 0..200),
    ) {
        let mut rows = rows;
        rows.sort_unstable();
        let mut period = Period::cut(Moment(0), Moment(100), 10);
        for (at, host, in_use, opens) in &rows {
            period.destination(&destination(*at, *host, *in_use, *opens));
        }
        let (told, rest) = period.destinations();
        prop_assert_eq!(told.iter().map(|d| d.opens).sum::<u64>() + rest.opens, rows.iter().map(|r| r.3).sum::<u64>());
        for history in &told {
            prop_assert_eq!(history.in_use.iter().flatten().max().copied(), Some(history.in_use_max));
        }
        prop_assert!(told.windows(2).all(|two| two[0].in_use_max >= two[1].in_use_max));
    }
}

#[test]
fn a_row_holds_until_the_next() {
    let mut period = Period::cut(Moment(0), Moment(100), 10);
    period.destination(&destination(15, 1, 40, 3));
    period.destination(&destination(52, 1, 90, 3));
    period.destination(&destination(58, 1, 0, 0));
    period.tick(&TickSample { at: Moment(75), ..TickSample::default() });
    let (told, _) = period.destinations();
    let expected = [None, Some(40), Some(40), Some(40), Some(40), Some(90), Some(0), Some(0), None, None];
    assert_eq!(told[0].in_use, expected, "the row in force when a bucket begins counts for it, too");
    assert_eq!((told[0].in_use_max_at, told[0].headroom_min), (Moment(52), 910));
}

#[test]
fn of_too_many_destinations_the_worst_are_told() {
    let mut period = Period::cut(Moment(0), Moment(10), 2);
    for host in 0..5_000u32 {
        let mut row = destination(1, 1, host, 1);
        row.id.remote_address = Ipv4Addr::from_bits(host).into();
        period.destination(&row);
    }
    let (told, rest) = period.destinations();
    assert_eq!((told.len(), told[0].in_use_max, told[1_023].in_use_max), (1_024, 4_999, 3_976));
    assert_eq!((rest.destinations, rest.opens), (3_976, 3_976));
    for owner in 0..3_000 {
        period.closed(&closed(1, owner, 5, Some(0)));
    }
    let (owners, rest) = period.owners();
    assert_eq!((owners.len(), rest.ended), (512, 2_488));
}

#[test]
fn a_tick_is_told_in_its_bucket() {
    let mut period = Period::cut(Moment(1_000), Moment(3_000), 2);
    let pool = PoolSample { range: PortRange::DEFAULT, reserved: 0, held: 2, usable: 28_230 };
    let tick = |at, occupancy, headroom| TickSample {
        at: Moment(at),
        interval_ms: 500,
        opens: 10,
        live: 7,
        pool: Some(pool),
        worst: Some((towards(1), occupancy)),
        headroom_min: Some(headroom),
        coverage: Some(0.5 + occupancy / 4.0),
        ..TickSample::default()
    };
    period.tick(&tick(1_000, 0.25, 90));
    period.tick(&tick(1_500, 0.75, 30));
    period.remark(Moment(1_500), "exhausted", "one");
    period.remark(Moment(1_800), "exhausted", "two");
    period.remark(Moment(9_000), "exhausted", "outside");
    let [first, second] = period.buckets() else { panic!("two buckets") };
    assert_eq!((first.ticks, first.opens_per_second(), first.occupancy_max), (2, Some(20.0), Some(0.75)));
    assert_eq!((first.headroom_min, first.coverage_min, first.live_max), (Some(30), Some(0.5625), Some(7)));
    assert_eq!((second.ticks, second.live_max, second.opens_per_second()), (0, None, None));
    assert_eq!(period.totals().worst, Some((towards(1), 0.75, Moment(1_500))));
    assert_eq!(period.pool(), Some((pool, false)));
    let remark = period.remarks()[0].clone();
    assert_eq!((remark.count, remark.message.as_str(), remark.first), (2, "two", Moment(1_500)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sums_are_as_good_as_connections(
        begin in 0u64..1_000_000,
        ends in proptest::collection::vec(
            (0u64..9_000_000, 0u32..9, 0u64..90_000_000, proptest::option::of(0u64..2_000)), 0..200),
    ) {
        let cut = || Period::new(Moment(begin), Moment(begin + 9_000_000));
        let (mut one_by_one, mut summed) = (cut(), cut());
        prop_assert!(summed.keeps_whole(STEP_MS));
        for (at, owner, min_ms, doubt_ms) in ends {
            let one = closed(begin + at, owner, min_ms, doubt_ms);
            one_by_one.closed(&one);
            // As much as a stretch and a bin are told of it.
            let lifetime = Scale::BOUNDS.around(one.lifetime);
            let stretch = Moment(one.at.0 / STEP_MS * STEP_MS);
            summed.closed_at(stretch, lifetime, 1);
            summed.closed_in(one.group, lifetime, 1);
            summed.closed_of(one.owner, one.closed_by, lifetime, 1, one.bytes.unwrap());
            summed.closed_from(one.local_port.unwrap(), 1);
        }
        prop_assert_eq!(one_by_one.totals(), summed.totals());
        prop_assert_eq!(one_by_one.lifetimes(), summed.lifetimes());
        prop_assert_eq!(one_by_one.sample().rows(), summed.sample().rows());
        for (one, other) in one_by_one.buckets().iter().zip(summed.buckets()) {
            prop_assert_eq!(one.lifetimes().rows(), other.lifetimes().rows());
        }
        let owners = |period: &Period| -> Vec<_> {
            period.owners().0.iter().map(|it| (it.owner, it.ended, it.bytes, it.percentiles())).collect()
        };
        prop_assert_eq!(owners(&one_by_one), owners(&summed));
        prop_assert_eq!(&one_by_one.ports().counts, &summed.ports().counts);
    }

    #[test]
    fn long_buckets_keep_stretches_whole(begin in 0u64..10_000_000, length in 0u64..1_000_000_000, buckets in 1usize..300) {
        let period = Period::cut(Moment(begin), Moment(begin + length), buckets);
        prop_assert!(period.buckets().len() <= buckets);
        let (first, last) = (period.buckets()[0].begin, period.buckets().last().unwrap().begin);
        prop_assert!(first <= period.begin() && period.begin() < first.plus_ms(period.bucket_ms()));
        prop_assert!(last < period.end() && period.end() <= last.plus_ms(period.bucket_ms()));
        prop_assert_eq!(period.keeps_whole(STEP_MS), period.bucket_ms() >= STEP_MS);
    }
}

#[test]
fn a_short_period_has_no_bucket_between_its_ticks() {
    for (ticks, interval_ms) in
        [(1, 1_000), (2, 1_000), (28, 1_000), (500, 1_000), (90_000, 1_000), (30, 60_000)]
    {
        let begin = 1_795_375_807_123;
        let at = |tick: u64| Moment(begin + (tick + 1) * interval_ms + [0, 3, 9][tick as usize % 3]);
        let mut period = Period::of_ticks(Moment(begin), at(ticks - 1).plus_ms(1), interval_ms);
        (0..ticks)
            .for_each(|tick| period.tick(&TickSample { at: at(tick), interval_ms, ..TickSample::default() }));
        assert!(period.buckets().iter().all(|bucket| bucket.ticks > 0), "{ticks} ticks");
    }
}
