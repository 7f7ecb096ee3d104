//! Known examples, laws, and simulated pairs of samples of which the truth is known.

use proptest::prelude::*;

use super::*;
use crate::moment::Lifetime;

fn exactly(ms: u64) -> Lifetime {
    Lifetime { min_ms: ms, max_ms: Some(ms) }
}

fn sample(ended: impl IntoIterator<Item = u64>, open: impl IntoIterator<Item = u64>) -> LifetimeSample {
    let mut sample = LifetimeSample::new();
    ended.into_iter().for_each(|ms| sample.record(exactly(ms)));
    open.into_iter().for_each(|ms| sample.record_open(ms, 1));
    sample
}

/// SplitMix64: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 < x < 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Exponential,
    /// Long tails, as of real connections.
    LogNormal,
}

/// Connections of a median of `median_ms`; of `sweep_ms` > 0 births are known only to the sweeps around them. A quarter is
/// still open when the watch ends.
fn simulated(
    random: &mut Random,
    connections: usize,
    shape: Shape,
    median_ms: f64,
    sweep_ms: u64,
) -> LifetimeSample {
    let mut sample = LifetimeSample::new();
    for _ in 0..connections {
        let lived = match shape {
            Shape::Exponential => random.exponential(median_ms / std::f64::consts::LN_2),
            Shape::LogNormal => median_ms * (1.2 * random.normal()).exp(),
        };
        let watched = median_ms * 8.0 * random.unit();
        if lived > watched {
            sample.record_open(watched as u64, 1);
        } else if sweep_ms == 0 {
            sample.record(exactly(lived as u64));
        } else {
            let since_sweep = sweep_ms as f64 * random.unit();
            let before = (lived + since_sweep) as u64;
            sample.record(Lifetime { min_ms: before.saturating_sub(sweep_ms), max_ms: Some(before) });
        }
    }
    sample
}

/// Freireich's trial of 6-mercaptopurine (1963), weeks of remission: the worked example of the log-rank test in textbooks.
#[test]
fn the_leukaemia_example_of_the_textbooks() {
    let placebo = sample([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], []);
    let treated = sample([6, 6, 6, 7, 10, 13, 16, 22, 23], [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]);
    let told = compare_lifetimes(&placebo, &treated);
    let chi_squared = told.chi_squared.unwrap();
    assert!((chi_squared - 16.7929).abs() < 5e-5, "{chi_squared}");
    let p = told.p_value.unwrap();
    assert!((p / 4.168_8e-5 - 1.0).abs() < 1e-3, "{p}");
    assert_eq!((told.completed, told.censored), ([21, 9], [0, 12]));
    // The bin of 8 and that of 23, within which the curve passes one half.
    let [Some(before), Some(after)] = told.at_share_ms else { panic!("{told:?}") };
    assert!((8.0..9.0).contains(&before) && (23.0..24.0).contains(&after), "{told:?}");
    assert_eq!(told.verdict, Verdict::TooFew, "nine ended");
}

/// How often of `pairs` a p-value is below 5 %, and how often something is told to have changed.
fn alarms(
    seed: u64,
    pairs: u32,
    connections: [usize; 2],
    medians: [f64; 2],
    sweeps: [u64; 2],
    shape: Shape,
) -> (f64, f64) {
    let mut random = Random(seed);
    let (mut significant, mut told) = (0, 0);
    for _ in 0..pairs {
        let [before, after] = [0, 1]
            .map(|side: usize| simulated(&mut random, connections[side], shape, medians[side], sweeps[side]));
        let comparison = compare_lifetimes(&before, &after);
        significant += u32::from(comparison.p_value.unwrap() < 0.05);
        told += u32::from(matches!(comparison.verdict, Verdict::Changed(_)));
    }
    (f64::from(significant) / f64::from(pairs), f64::from(told) / f64::from(pairs))
}

#[test]
fn the_test_keeps_its_promise_of_false_alarms() {
    for (seed, shape) in [(1, Shape::Exponential), (2, Shape::LogNormal)] {
        let (significant, told) = alarms(seed, 2_000, [200, 300], [400.0; 2], [0; 2], shape);
        eprintln!("exact: p < 0.05 of {significant}, told {told}");
        // Two thousand pairs: 5 % give or take three standard errors.
        assert!((0.035..=0.065).contains(&significant), "{significant}");
        assert!(told <= 0.015, "{told}");
    }
}

#[test]
fn the_same_where_births_are_known_to_sweeps_only() {
    // Where one side's bounds are wide and the other's are not, p-values are too small; what is told must hold all the same.
    for (seed, sweeps, most) in [(3, [1_000, 1_000], 0.08), (4, [1_000, 0], 0.12), (5, [250, 2_000], 0.25)] {
        let (significant, told) = alarms(seed, 200, [300, 300], [400.0; 2], sweeps, Shape::LogNormal);
        eprintln!("sweeps of {sweeps:?} ms: p < 0.05 of {significant}, told {told}");
        assert!(significant <= most, "{sweeps:?}: {significant}");
        assert!(told <= 0.03, "{sweeps:?}: {told}");
    }
}

#[test]
fn a_change_of_a_fifth_is_found() {
    let (_, told) = alarms(6, 200, [2_000; 2], [500.0, 400.0], [0; 2], Shape::Exponential);
    eprintln!("exact: found {told}");
    assert!(told >= 0.85, "{told}");
    let (_, told) = alarms(7, 40, [2_000; 2], [500.0, 250.0], [1_000; 2], Shape::LogNormal);
    eprintln!("half, sweeps of 1 s: found {told}");
    assert!(told >= 0.85, "{told}");
}

#[test]
fn intervals_of_the_ratio_hold_the_truth() {
    for (seed, sweep_ms, pairs, least) in [(8, 0, 600, 0.93), (9, 500, 150, 0.90)] {
        let mut random = Random(seed);
        let (mut held, mut width) = (0, 0.0);
        for _ in 0..pairs {
            let before = simulated(&mut random, 400, Shape::LogNormal, 500.0, sweep_ms);
            let after = simulated(&mut random, 400, Shape::LogNormal, 350.0, sweep_ms);
            let ratio = compare_lifetimes(&before, &after).ratio.unwrap();
            let max = ratio.max.unwrap();
            held += u32::from(ratio.min <= 0.7 && 0.7 <= max);
            width += (max / ratio.min).ln() / f64::from(pairs);
        }
        let share = f64::from(held) / f64::from(pairs);
        eprintln!("sweeps of {sweep_ms} ms: {share} of the intervals hold the truth, mean width {width}");
        assert!(share >= least, "{share}");
    }
}

#[test]
fn of_a_million_connections_a_hundredth_is_no_change() {
    let bars = |shift: u64| {
        let mut sample = LifetimeSample::new();
        for ms in 900u64..1_100 {
            sample.record_many(exactly(ms + shift), 5_000);
        }
        sample
    };
    let told = compare_lifetimes(&bars(0), &bars(40));
    assert!(told.p_value.unwrap() < 1e-9, "it is significant");
    assert_eq!(told.verdict, Verdict::Unchanged, "{told}");
    assert_eq!(compare_lifetimes(&bars(0), &bars(200)).verdict, Verdict::Changed(Change::Higher));
}

#[test]
fn where_most_are_open_a_lower_quantile_is_compared() {
    let of = |ended: u64| sample((0..100).map(|i| ended + i), (0..200).map(|_| 100_000));
    let told = compare_lifetimes(&of(100), &of(1_000));
    assert_eq!((told.share, told.verdict), (0.25, Verdict::Changed(Change::Higher)), "{told}");
    assert!(told.to_string().contains("p25"), "{told}");
    let nothing = compare_lifetimes(&LifetimeSample::new(), &of(100));
    assert_eq!((nothing.verdict, nothing.p_value), (Verdict::TooFew, None));
    assert!(nothing.to_string().starts_with("too few"), "{nothing}");
}

#[test]
fn a_comparison_is_told_in_words() {
    let mut random = Random(10);
    let before = simulated(&mut random, 2_000, Shape::Exponential, 500.0, 0);
    let after = simulated(&mut random, 2_000, Shape::Exponential, 250.0, 0);
    let told = compare_lifetimes(&before, &after).to_string();
    assert!(told.starts_with("connections live shorter: median 2"), "{told}");
    assert!(told.contains("log-rank p < 0.0001"), "{told}");
    let same = compare_lifetimes(&before, &before).to_string();
    assert!(same.starts_with("no difference in lifetimes that the data can show"), "{same}");
}

fn lives() -> impl Strategy<Value = Vec<(u64, u64, bool)>> {
    proptest::collection::vec((0u64..5_000, prop_oneof![Just(0u64), 0u64..3_000], any::<bool>()), 0..120)
}

fn of(lives: &[(u64, u64, bool)]) -> LifetimeSample {
    let mut sample = LifetimeSample::new();
    for (min_ms, doubt_ms, has_ended) in lives {
        let max_ms = has_ended.then_some(min_ms + doubt_ms);
        sample.record(Lifetime { min_ms: *min_ms, max_ms });
    }
    sample
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_differs_from_itself(all in lives()) {
        let told = compare_lifetimes(&of(&all), &of(&all));
        prop_assert!(!matches!(told.verdict, Verdict::Changed(_)), "{told}");
        prop_assert!(told.p_value.is_none_or(|p| p > 0.999), "{told:?}");
        prop_assert!(told.ratio.is_none_or(|ratio| (ratio.value - 1.0).abs() < 1e-9), "{told:?}");
    }

    #[test]
    fn it_does_not_matter_which_is_called_before(a in lives(), b in lives()) {
        let (there, back) = (compare_lifetimes(&of(&a), &of(&b)), compare_lifetimes(&of(&b), &of(&a)));
        let close = |x: f64, y: f64| (x - y).abs() <= 1e-6 * (1.0 + x.abs());
        prop_assert_eq!(there.p_value.is_some(), back.p_value.is_some());
        if let (Some(there), Some(back)) = (there.p_value, back.p_value) {
            prop_assert!(close(there, back), "{} {}", there, back);
            prop_assert!((0.0..=1.0).contains(&there), "{}", there);
        }
        if let (Some(there), Some(back)) = (there.ratio, back.ratio) {
            prop_assert!(close(there.value * back.value, 1.0));
            prop_assert!(there.max.is_none_or(|max| close(max * back.min, 1.0)), "{:?} {:?}", there, back);
            prop_assert!(there.min <= there.value && there.max.is_none_or(|max| there.value <= max));
        }
        let turned = match back.verdict {
            Verdict::Changed(Change::Lower) => Verdict::Changed(Change::Higher),
            Verdict::Changed(Change::Higher) => Verdict::Changed(Change::Lower),
            same => same,
        };
        prop_assert_eq!(there.verdict, turned);
    }

    #[test]
    fn the_order_of_recording_does_not_matter(all in lives(), most_pairs in 1usize..40) {
        let record = |lives: &mut dyn Iterator<Item = &(u64, u64, bool)>| {
            let mut sample = LifetimeSample::of_pairs(most_pairs);
            lives.for_each(|(min_ms, doubt_ms, has_ended)| {
                sample.record(Lifetime { min_ms: *min_ms, max_ms: has_ended.then_some(min_ms + doubt_ms) });
            });
            sample
        };
        let (forth, back) = (record(&mut all.iter()), record(&mut all.iter().rev()));
        prop_assert_eq!(forth.percentiles(), back.percentiles());
        prop_assert_eq!((forth.completed(), forth.censored()), (back.completed(), back.censored()));
        prop_assert_eq!(forth.completed() + forth.censored(), all.len() as u64);
    }
}

proptest! {
    #[test]
    fn rows_are_the_sample(all in lives()) {
        let mut again = LifetimeSample::new();
        of(&all).rows().into_iter().for_each(|(lifetime, count)| again.record_many(lifetime, count));
        prop_assert_eq!(again.rows(), of(&all).rows());
    }
}

/// Of scipy: `ttest_ind(before, after, equal_var=False)`.
#[test]
fn rates_are_compared_as_welch_does() {
    let (before, after): (Vec<u64>, Vec<u64>) = (WELCH.0.to_vec(), WELCH.1.to_vec());
    let told = compare_rates((&before, 1.0), (&after, 1.0));
    assert!((told.p_value.unwrap() / WELCH.2 - 1.0).abs() < 1e-6, "{told:?}");
    assert_eq!(told.verdict, Verdict::Changed(Change::Higher));
    assert_eq!(compare_rates((&before, 1.0), (&before, 1.0)).verdict, Verdict::Unchanged);
    assert_eq!(compare_rates((&before[..4], 1.0), (&after, 1.0)).verdict, Verdict::TooFew);
    // The same number of connections in half of the time.
    let half = compare_rates((&before, 1.0), (&before, 0.5));
    assert_eq!((half.ratio.unwrap().value, half.verdict), (2.0, Verdict::Changed(Change::Higher)));
}

/// Bursts that last for several slices: the counts of slices are alike, and far from Poisson's.
#[test]
fn bursts_are_no_change_of_rate() {
    let mut random = Random(11);
    let (mut alarms, mut poisson_alarms, pairs) = (0, 0, 1_000);
    for _ in 0..pairs {
        let mut period = || -> Vec<u64> {
            let mut level: f64 = 0.0;
            let mut next = || {
                level = 0.7 * level + 0.5 * random.normal();
                (100.0 * level.exp()) as u64
            };
            (0..600).map(|_| next()).collect()
        };
        let (before, after) = (period(), period());
        let told = compare_rates((&before, 1.0), (&after, 1.0));
        alarms += u32::from(told.p_value.unwrap() < 0.05);
        let [a, b] = [&before, &after].map(|counts| counts.iter().sum::<u64>() as f64);
        poisson_alarms += u32::from((a - b).abs() / (a + b).sqrt() > 1.96);
    }
    eprintln!("of {pairs}: {alarms} with p < 0.05; as Poisson counts {poisson_alarms}");
    assert!(alarms <= 75, "{alarms}");
    assert!(poisson_alarms > 700, "{poisson_alarms}");
}

#[test]
fn steady_rates_without_any_noise_are_compared_too() {
    let told = compare_rates((&[100; 20], 1.0), (&[130; 20], 1.0));
    assert_eq!((told.verdict, told.p_value), (Verdict::Changed(Change::Higher), Some(0.0)));
    assert_eq!(compare_rates((&[100; 20], 1.0), (&[104; 20], 1.0)).verdict, Verdict::Unchanged);
    let from_nothing = compare_rates((&[0; 20], 1.0), (&[4; 20], 1.0));
    assert_eq!((from_nothing.verdict, from_nothing.ratio), (Verdict::Changed(Change::Higher), None));
    assert_eq!(compare_rates((&[4; 20], 1.0), (&[0; 20], 1.0)).verdict, Verdict::Changed(Change::Lower));
    assert_eq!(compare_rates((&[], 1.0), (&[1; 9], 0.0)).per_second, [0.0, 0.0]);
}

const WELCH: ([u64; 12], [u64; 10], f64) = (
    [96, 104, 99, 110, 87, 101, 95, 108, 92, 103, 99, 97],
    [121, 118, 140, 99, 133, 127, 115, 124, 138, 111],
    0.00015311021965107034,
);

/// What is compared may come from a file that somebody wrote by hand.
#[test]
fn counts_that_no_host_has_overflow_nothing() {
    let mut huge = LifetimeSample::new();
    for (min_ms, max_ms) in
        [(5, Some(5)), (7, Some(7)), (100, Some(900)), (200, Some(5_000)), (5, None), (90, None)]
    {
        huge.record_many(Lifetime { min_ms, max_ms }, u64::MAX);
    }
    assert_eq!([huge.completed(), huge.censored()], [u64::MAX; 2]);
    assert!(huge.percentiles().is_some());
    assert!(compare_lifetimes(&huge, &huge).p_value.is_none_or(|p| p.is_finite()));
    let rates = compare_rates((&[u64::MAX; 40], 1.0), (&[1; 40], 1.0));
    assert!(rates.per_second[0].is_finite());
}
