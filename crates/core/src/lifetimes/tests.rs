//! Laws of the estimates: bounds hold, and Kaplan–Meier is what the book says.

use proptest::prelude::*;

use super::*;

/// Kaplan–Meier by the book, in quadratic time: at each end, the share of those at risk that did not end.
fn naive_kaplan_meier(ended: &[u64], censored: &[u64], share: f64) -> Option<u64> {
    let mut times = ended.to_vec();
    times.sort_unstable();
    times.dedup();
    let mut surviving = 1.0;
    times.into_iter().find(|time| {
        let at_risk = ended.iter().chain(censored).filter(|t| *t >= time).count();
        let ends = ended.iter().filter(|t| *t == time).count();
        surviving *= 1.0 - ends as f64 / at_risk as f64;
        1.0 - surviving >= share - 1e-9
    })
}

/// The value that so many of the sorted ones do not exceed.
fn naive_quantile(sorted: &[u64], share: f64) -> u64 {
    sorted[((share * sorted.len() as f64).ceil() as usize).max(1) - 1]
}

fn exactly(ms: u64) -> Lifetime {
    Lifetime { min_ms: ms, max_ms: Some(ms) }
}

fn at_least(ms: u64) -> Lifetime {
    Lifetime { min_ms: ms, max_ms: None }
}

/// Lifetimes, each with its bounds as sweeps a second apart and destroy events at once tell them.
fn swept(births_and_lifetimes: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, Lifetime)> {
    const SWEEP_MS: u64 = 1_000;
    let seen = |(birth, lifetime): (u64, u64)| {
        let (before, death) = (birth / SWEEP_MS * SWEEP_MS, birth + lifetime);
        // Met by the next sweep, unless it ended before.
        let met = (before + SWEEP_MS).min(death);
        (lifetime, Lifetime { min_ms: death - met, max_ms: Some(death - before) })
    };
    births_and_lifetimes.map(seen).collect()
}

fn report_of(lifetimes: impl IntoIterator<Item = Lifetime>, open: &[u64]) -> GroupLifetimes {
    let mut recorded = Lifetimes::new();
    lifetimes.into_iter().for_each(|lifetime| recorded.record(Group::Other, lifetime));
    recorded.report(open.iter().map(|age| (Group::Other, *age))).total
}

/// Numbers that look random and are always the same, from 0 to 1.
fn noise(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    })
}

proptest! {
    /// Below 64 ms a bin is a millisecond: nothing is rounded.
    #[test]
    fn of_known_ends_it_is_kaplan_meier(
        ended in prop::collection::vec(0u64..64, 0..40),
        older in prop::collection::vec(0u64..64, 0..20),
        open in prop::collection::vec(0u64..64, 0..20),
    ) {
        let lifetimes = ended.iter().map(|ms| exactly(*ms)).chain(older.iter().map(|ms| at_least(*ms)));
        let told = report_of(lifetimes, &open);
        let censored: Vec<u64> = older.iter().chain(&open).copied().collect();
        let naive = Percentiles::SHARES.map(|share| naive_kaplan_meier(&ended, &censored, share));
        prop_assert_eq!(told.kaplan_meier_ms, naive);
        let counts = (told.completed, told.older, told.open);
        prop_assert_eq!(counts, (ended.len() as u64, older.len() as u64, open.len() as u64));
    }

    /// Whatever the truth within the bounds: its percentiles lie within those told.
    #[test]
    fn percentiles_of_the_truth_are_within_the_bounds(
        lifetimes in prop::collection::vec((0u64..200_000_000, 0u64..100_000, 0.0..=1.0), 1..200),
    ) {
        let bounded = lifetimes.iter().map(|(min, width, _)| Lifetime { min_ms: *min, max_ms: Some(min + width) });
        let told = report_of(bounded, &[]);
        let mut truth: Vec<u64> =
            lifetimes.iter().map(|(min, width, at)| min + (*width as f64 * at) as u64).collect();
        truth.sort_unstable();
        for (share, told) in Percentiles::SHARES.iter().zip(told.completed_ms.unwrap().each()) {
            let truth = naive_quantile(&truth, *share).min(scale::LONGEST_MS);
            prop_assert!(told.min_ms <= truth && truth <= told.max_ms, "{share}: {truth} and {told:?}");
            prop_assert!(told.min_ms <= told.ms && told.ms <= told.max_ms, "{told:?}");
        }
        let bars: u64 = told.bars.iter().map(|bar| bar.count).sum();
        prop_assert_eq!(bars, told.completed);
        prop_assert!(told.bars.windows(2).all(|pair| pair[0].to_ms == pair[1].from_ms), "no gap");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Neither the order of records nor that of groups matters; groups add up to the total.
    #[test]
    fn order_does_not_matter(
        records in prop::collection::vec((0u16..400, 0u64..50_000, prop::option::of(0u64..5_000)), 0..600),
        rotate in 0usize..600,
    ) {
        let record = |(port, min, width): &(u16, u64, Option<u64>)| {
            (Group::Listener(*port % 40), Lifetime { min_ms: *min, max_ms: width.map(|width| min + width) })
        };
        let (mut one, mut other) = (Lifetimes::new(), Lifetimes::new());
        records.iter().map(record).for_each(|(group, lifetime)| one.record(group, lifetime));
        let at = rotate.min(records.len());
        records[at..].iter().chain(&records[..at]).map(record).for_each(|(group, l)| other.record(group, l));
        let open = || records.iter().map(|(port, age, _)| (Group::Listener(*port % 50), *age));
        let report = one.report(open());
        prop_assert_eq!(&report, &other.report(open()));
        let sum = |of: fn(&GroupLifetimes) -> u64| report.groups.iter().map(of).sum::<u64>();
        prop_assert_eq!(sum(|g| g.completed), report.total.completed);
        prop_assert_eq!(sum(|g| g.older), report.total.older);
        prop_assert_eq!(sum(|g| g.open), report.total.open);
        prop_assert!(report.groups.is_sorted_by_key(|group| std::cmp::Reverse(group.connections())));
    }
}

#[test]
fn nothing_is_a_report_too() {
    let report = Lifetimes::new().report(std::iter::empty());
    assert_eq!((report.groups.len(), report.total.connections(), report.total.completed_ms), (0, 0, None));
    assert_eq!((report.total.kaplan_meier_ms, report.total.bars.len()), ([None; 4], 0));
}

/// Sweeps of a second see 100 ms as anything between nothing and 1.1 s; together they tell.
#[test]
fn sweeps_far_apart_still_tell_equal_lifetimes() {
    let births = noise(1).map(|share| (share * 60_000.0) as u64);
    let told =
        report_of(swept(births.take(2_000).map(|birth| (birth, 100))).into_iter().map(|(_, l)| l), &[]);
    let percentiles = told.completed_ms.unwrap();
    for percentile in percentiles.each() {
        assert!((80..=125).contains(&percentile.ms), "{percentiles:?}");
    }
    assert!(
        percentiles.p50.min_ms < 50 && percentiles.p50.max_ms > 500,
        "as certain as it is: {percentiles:?}"
    );
}

/// Where sweeps are wider apart than lifetimes, middles of bounds are far off and the estimate is not.
#[test]
fn estimates_are_better_than_middles() {
    for mean in [30.0, 300.0, 3_000.0] {
        let births = noise(2).map(|share| (share * 600_000.0) as u64);
        let lives = noise(3).map(|share| (-share.ln() * mean) as u64);
        let seen = swept(births.zip(lives).take(20_000));
        let mut truth: Vec<u64> = seen.iter().map(|(truth, _)| *truth).collect();
        let mut middles: Vec<u64> = seen.iter().map(|(_, l)| l.middle_ms().unwrap()).collect();
        truth.sort_unstable();
        middles.sort_unstable();
        let told = report_of(seen.iter().map(|(_, lifetime)| *lifetime), &[]);
        for (share, told) in Percentiles::SHARES.into_iter().zip(told.completed_ms.unwrap().each()).take(3) {
            let (truth, middle) = (naive_quantile(&truth, share), naive_quantile(&middles, share));
            let off = told.ms.abs_diff(truth);
            assert!(off * 10 <= truth, "mean {mean} ms, {share}: {truth} told as {told:?}");
            assert!(mean > 1_000.0 || off * 2 < middle.abs_diff(truth), "{middle} is not much worse");
        }
    }
}

/// One in ten lives 10 ms, the others 20 s on average, and the watch ends after 30 s: many are still open.
#[test]
fn connections_still_open_count() {
    const WATCH_MS: u64 = 30_000;
    let lives = noise(5).zip(noise(6)).map(|(kind, share)| match kind {
        kind if kind < 0.1 => 10,
        _ => (-share.ln() * 20_000.0) as u64,
    });
    let births = noise(4).map(|share| (share * WATCH_MS as f64) as u64);
    let (mut ended, mut open, mut truth) = (Vec::new(), Vec::new(), Vec::new());
    for (birth, life) in births.zip(lives).take(20_000) {
        truth.push(life);
        if birth + life <= WATCH_MS { ended.push(life) } else { open.push(WATCH_MS - birth) }
    }
    truth.sort_unstable();
    ended.sort_unstable();
    let told = report_of(ended.iter().map(|life| exactly(*life)), &open);
    let (median, naive) = (naive_quantile(&truth, 0.5), naive_quantile(&ended, 0.5));
    assert!(naive * 10 < median * 7, "the plain median {naive} is more than 30 % below {median}");
    let estimate = told.kaplan_meier_ms[0].unwrap();
    assert!(estimate.abs_diff(median) * 20 <= median, "{estimate} is within 5 % of {median}");
    assert_eq!(told.kaplan_meier_ms[3], None, "nobody knows how long the longest live");
}

#[test]
fn groups_beyond_the_limit_are_other_ones() {
    let mut lifetimes = Lifetimes::new();
    (0..1_000).for_each(|port| lifetimes.record(Group::Listener(port), exactly(5)));
    let report = lifetimes.report((1_000..1_200).map(|port| (Group::Listener(port), 7)));
    assert!(report.groups.len() <= MOST_GROUPS + 1, "{}", report.groups.len());
    let other = report.groups.iter().find(|group| group.group == Some(Group::Other)).unwrap();
    assert_eq!((other.completed, other.open), (1_000 - MOST_GROUPS as u64, 200));
    assert_eq!(report.groups[0].group, Some(Group::Other), "most connections first");
}

/// Memory is bounded: many different bounds make bins wider, not the table longer.
#[test]
fn very_many_different_bounds_are_told_with_wider_bins() {
    let lives = noise(7).map(|share| (-share.ln() * 20_000.0) as u64).zip(noise(8)).take(100_000);
    let bounded: Vec<Lifetime> = lives
        .map(|(life, doubt)| Lifetime {
            min_ms: life,
            max_ms: Some(life + (doubt * doubt * 20_000.0) as u64),
        })
        .collect();
    let told = report_of(bounded.iter().copied(), &[]);
    let mut least: Vec<u64> = bounded.iter().map(|lifetime| lifetime.min_ms).collect();
    least.sort_unstable();
    let p50 = told.completed_ms.unwrap().p50;
    let exact = naive_quantile(&least, 0.5);
    assert!(p50.min_ms <= exact && exact - p50.min_ms <= exact / 100, "{exact} {p50:?}");
}
