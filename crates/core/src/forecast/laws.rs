//! Laws of the forecast, and its agreement with a simulation in small steps.

use proptest::prelude::*;

use super::*;
use crate::settings::TwReuse;

const STEP_S: f64 = 0.05;
const HOUR_S: f64 = 3_600.0;

/// When the ports are used up within the hour, by moving sockets about step by step.
fn simulated(headroom: f64, flow: Flow, ages: &[u8], kept_s: f64) -> Option<f64> {
    let steps = (HOUR_S / STEP_S) as usize;
    let mut released = vec![0.0; steps + (61.0 / STEP_S) as usize + 2];
    for second in 0..60_u8 {
        let sockets = ages.iter().filter(|age| **age == second).count();
        for number in 0..sockets {
            let age = f64::from(second) + (number as f64 + 0.5) / sockets as f64;
            if age < kept_s {
                released[((kept_s - age) / STEP_S) as usize] += 1.0;
            }
        }
    }
    let mut left = headroom;
    for step in 0..steps {
        let t = step as f64 * STEP_S;
        if left <= 0.0 {
            return Some(t);
        }
        let closed = (flow.opens - flow.leak) * STEP_S;
        let waiting = flow.time_waits * STEP_S;
        released[((t + kept_s) / STEP_S).round() as usize] += waiting;
        left += released[step] + (closed - waiting) - flow.opens * STEP_S;
    }
    None
}

fn curve(ages: &[u8]) -> Curve {
    let mut curve = Curve::EMPTY;
    ages.iter().for_each(|age| curve.add(*age));
    curve
}

fn flows() -> impl Strategy<Value = Flow> {
    let leak_share = prop_oneof![3 => Just(0.0), 1 => 0.01..1.0_f64, 1 => Just(1.0)];
    (prop_oneof![Just(0.0), 0.1..500.0_f64], leak_share, prop_oneof![Just(0.0), Just(1.0), 0.0..1.0_f64])
        .prop_map(|(opens, leak_share, share)| {
            let leak = opens * leak_share;
            Flow { opens, leak, time_waits: (opens - leak) * share }
        })
}

/// TIME_WAIT sockets: none, some of every age, a burst, or as many a second as at a steady rate.
fn ages() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(0..61_u8, 0..2_000),
        (0..60_u8, 0..2_000_usize).prop_map(|(age, sockets)| vec![age; sockets]),
        (1..50_usize, 1..60_u8)
            .prop_map(|(rate, oldest)| (0..oldest).flat_map(|age| vec![age; rate]).collect()),
    ]
}

fn kept() -> impl Strategy<Value = f64> {
    prop_oneof![3 => Just(60.0), 1 => Just(1.0), 1 => 0.0..60.0_f64]
}

/// Never is later than any time.
fn or_never(seconds: Option<f64>) -> f64 {
    seconds.unwrap_or(f64::INFINITY)
}

fn rates() -> impl Strategy<Value = Rates> {
    let any_rate = || prop_oneof![Just(0.0_f32), 0.0..1_000.0_f32];
    prop_oneof![
        prop::array::uniform3((any_rate(), any_rate()))
            .prop_map(|of| Rates { opens: of.map(|(opens, _)| opens), closes: of.map(|(_, closes)| closes) }),
        any_rate().prop_map(|rate| Rates { opens: [rate; 3], closes: [rate; 3] }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// A port more or less in the simulation is what its steps and the spread of a second's closes can amount to.
    #[test]
    fn agrees_with_a_simulation_of_an_hour(
        headroom in 1..3_000_u32,
        flow in flows(),
        ages in ages(),
        kept_s in kept(),
    ) {
        let told = flow.exhausts_in_s(headroom, &curve(&ages), kept_s).filter(|told| *told < HOUR_S);
        let slack = 2.0 + flow.opens * STEP_S * 2.0;
        let with = |ports: f64| simulated(ports, flow, &ages, kept_s);
        let (sooner, later) = (with(f64::from(headroom) - slack), with(f64::from(headroom) + slack));
        prop_assert!(or_never(sooner) <= or_never(told) + 1.0, "{:?} before {:?}", told, sooner);
        match (told, later) {
            (Some(told), Some(later)) => prop_assert!(told <= later + 1.0, "{told} after {later}"),
            (None, Some(later)) => prop_assert!(later > HOUR_S - 1.0, "never, but {later}"),
            // It hangs on less than the slack.
            (Some(_), None) | (None, None) => {}
        }
        let exact = with(f64::from(headroom));
        if sooner.is_some() == later.is_some() {
            prop_assert_eq!(told.is_some_and(|told| told < HOUR_S - 1.0), exact.is_some_and(|at| at < HOUR_S - 1.0));
        }
    }

    #[test]
    fn more_ports_last_longer_and_a_faster_rate_less_long(
        headroom in 0..3_000_u32,
        more in 0..100_u32,
        flow in flows(),
        faster in 1.0..3.0_f64,
        ages in ages(),
        kept_s in kept(),
    ) {
        let ages = curve(&ages);
        let told = or_never(flow.exhausts_in_s(headroom, &ages, kept_s));
        prop_assert!(told >= 0.0);
        prop_assert!(or_never(flow.exhausts_in_s(headroom + more, &ages, kept_s)) >= told);
        let hurried =
            Flow { opens: flow.opens * faster, leak: flow.leak * faster, time_waits: flow.time_waits * faster };
        prop_assert!(or_never(hurried.exhausts_in_s(headroom, &ages, kept_s)) <= told + 1e-6);
    }

    #[test]
    fn whatever_comes_in_comes_out_sound(
        (min, doubt) in (0..3_000_u32, 0..100_u32),
        live in 0..3_000_u32,
        ages in ages(),
        (kept_s, longer) in (kept(), prop_oneof![Just(0.0), Just(59.0)]),
        rates in prop::option::of(rates()),
        watched_s in prop_oneof![Just(0.0), 0.0..100.0_f64],
        swept_ago_s in prop_oneof![Just(0.0), 0.0..10.0_f64],
    ) {
        let time_wait = curve(&ages);
        let headroom = Headroom { min, max: min + doubt, ..Headroom::default() };
        let kept = Kept { min_s: kept_s, max_s: (kept_s + longer).min(60.0) };
        let input =
            ForecastInput { headroom, live, time_wait: &time_wait, kept, rates: rates.as_ref(), watched_s, swept_ago_s };
        let told = Forecast::of(&input);
        for number in [told.exhausted_in_s, told.earliest_in_s, told.steady_use, told.max_rate] {
            prop_assert!(number.is_none_or(|number| number.is_finite() && number >= 0.0), "{told:?}");
        }
        prop_assert!(told.open_rate >= 0.0 && (0.0..=told.open_rate).contains(&told.leak_rate));
        prop_assert!(or_never(told.earliest_in_s) <= or_never(told.exhausted_in_s), "{told:?}");
        prop_assert!(min > 0 || told.earliest_in_s == Some(0.0));
        prop_assert!(headroom.max > 0 || told.exhausted_in_s == Some(0.0));
        // A rate that can go on for ever never exhausts for good, and the other way round.
        if let (Some(steady), Some(max_rate)) = (told.steady_use, told.max_rate) {
            let left = time_wait_left(&time_wait, kept.min_s);
            let capacity = f64::from(headroom.max) + f64::from(live) + left;
            prop_assert_eq!(told.open_rate <= max_rate * (1.0 + 1e-9), steady <= capacity * (1.0 + 1e-9) + 1e-9);
            if steady > capacity + 1e-3 {
                prop_assert!(told.exhausted_in_s.is_some(), "{told:?}");
            }
        }
    }
}

fn time_wait_left(ages: &Curve, kept_s: f64) -> f64 {
    Waiting { ages, kept_s }.left_after(0.0)
}

fn input<'a>(headroom: u32, live: u32, time_wait: &'a Curve, rates: Option<&'a Rates>) -> ForecastInput<'a> {
    ForecastInput {
        headroom: Headroom { min: headroom, max: headroom, ..Headroom::default() },
        live,
        time_wait,
        kept: Kept { min_s: 60.0, max_s: 60.0 },
        rates,
        watched_s: 120.0,
        swept_ago_s: 0.0,
    }
}

/// TIME_WAIT sockets of a rate that began so long ago.
fn steady(per_second: usize, since_s: u8) -> Curve {
    curve(&(0..since_s).flat_map(|age| vec![age; per_second]).collect::<Vec<_>>())
}

#[test]
fn short_connections_are_forecast_from_one_sweep() {
    // 100/s for 10 s: 1,000 of 4,000 ports are in use, the others last 30 s; the first TIME_WAIT ends after 50.
    let told = Forecast::of(&input(3_000, 0, &steady(100, 10), None));
    assert_eq!((told.open_rate, told.basis), (100.0, Basis::TimeWaitTimers));
    assert_eq!(told.exhausted_in_s, Some(30.0));
    assert_eq!(told.earliest_in_s, told.exhausted_in_s);
    assert_eq!((told.steady_use, told.max_rate), (Some(6_000.0), Some(4_000.0 / 60.0)));
    // Of 7,000 ports at most 6,000 are ever in use.
    let told = Forecast::of(&input(6_000, 0, &steady(100, 10), None));
    assert_eq!((told.exhausted_in_s, told.steady_use), (None, Some(6_000.0)));
    assert!(told.max_rate.unwrap() > 100.0);
}

#[test]
fn ports_that_come_back_count() {
    // A burst 55 s ago gives 1,000 ports back within 5 s, and then nothing stands in the way.
    let mut ages = vec![55; 1_000];
    ages.extend((0..2).flat_map(|age| vec![age; 10]));
    let told = Forecast::of(&input(100, 0, &curve(&ages), None));
    assert_eq!((told.open_rate, told.exhausted_in_s), (10.0, None));
    // At 30/s they come too late.
    let mut ages = vec![55; 1_000];
    ages.extend((0..2).flat_map(|age| vec![age; 30]));
    let told = Forecast::of(&input(100, 0, &curve(&ages), None));
    assert_eq!(told.exhausted_in_s, Some(100.0 / 30.0));
}

#[test]
fn a_rate_is_not_diluted_by_the_idle_time_before_it() {
    for since_s in [1, 2, 5, 7, 15, 33, 60] {
        let told = Forecast::of(&input(10_000, 0, &steady(60, since_s), None));
        assert!((told.open_rate - 60.0).abs() < 6.0, "since {since_s} s: {told:?}");
    }
    // Counted opens, begun 12 s ago.
    let rates = Rates { opens: [60.0, 60.0, 12.0], closes: [60.0, 60.0, 12.0] };
    assert_eq!(Forecast::of(&input(10_000, 0, &steady(60, 12), Some(&rates))).open_rate, 60.0);
    // Two opens within a second are no rate of 2/s.
    let rates = Rates { opens: [2.0, 0.5, 0.4], closes: [2.0, 0.5, 0.4] };
    let told = Forecast::of(&input(10_000, 0, &Curve::EMPTY, Some(&rates)));
    assert!((told.open_rate - 0.4).abs() < 1e-6);
}

#[test]
fn a_leak_is_forecast_and_chance_is_none() {
    let leak = Rates { opens: [100.0; 3], closes: [0.0; 3] };
    let told = Forecast::of(&input(500, 500, &Curve::EMPTY, Some(&leak)));
    assert_eq!((told.exhausted_in_s, told.leak_rate, told.basis), (Some(5.0), 100.0, Basis::Opens));
    assert_eq!((told.steady_use, told.max_rate), (None, None));
    // One in a hundred is not closed, the others leave no TIME_WAIT.
    let slow = Rates { opens: [100.0; 3], closes: [99.0; 3] };
    let told = Forecast::of(&input(500, 60, &Curve::EMPTY, Some(&slow)));
    assert_eq!(told.exhausted_in_s, Some(500.0));
    // Of 5,000 that live for long, 60 more or less are chance.
    let told = Forecast::of(&input(500, 5_000, &Curve::EMPTY, Some(&slow)));
    assert_eq!((told.exhausted_in_s, told.leak_rate, told.steady_use), (None, 0.0, Some(5_000.0)));
}

#[test]
fn closes_without_time_wait_give_their_port_back_at_once() {
    let rates = Rates { opens: [100.0; 3], closes: [100.0; 3] };
    let told = Forecast::of(&input(10, 20, &Curve::EMPTY, Some(&rates)));
    assert_eq!((told.exhausted_in_s, told.steady_use), (None, Some(20.0)));
    assert_eq!(told.max_rate, Some(150.0), "30 ports, each taken for 0.2 s");
    // A quarter of them leaves one.
    let told = Forecast::of(&input(1_000, 20, &steady(25, 60), Some(&rates)));
    assert_eq!((told.exhausted_in_s, told.steady_use), (None, Some(1_520.0)));
}

#[test]
fn the_time_since_the_sweep_has_passed_already() {
    let leak = Rates { opens: [100.0; 3], closes: [0.0; 3] };
    let fresh = input(500, 500, &Curve::EMPTY, Some(&leak));
    let told = |swept_ago_s| Forecast::of(&ForecastInput { swept_ago_s, ..fresh }).exhausted_in_s;
    assert_eq!((told(2.0), told(7.0)), (Some(3.0), Some(0.0)));
}

#[test]
fn nothing_left_is_now_and_nothing_opened_is_never() {
    let told = Forecast::of(&input(0, 0, &Curve::EMPTY, None));
    assert_eq!((told.exhausted_in_s, told.open_rate, told.max_rate), (Some(0.0), 0.0, None));
    let told = Forecast::of(&input(1, 7, &Curve::EMPTY, None));
    assert_eq!((told.exhausted_in_s, told.steady_use), (None, Some(7.0)));
}

#[test]
fn doubt_about_reuse_is_an_interval() {
    let settings = |tw_reuse| Settings {
        tw_reuse,
        timestamps: Some(true),
        tw_reuse_delay_ms: Some(1_000),
        ..Settings::default()
    };
    let id = |remote: &str| DestinationId {
        protocol: sock_diag::Protocol::Tcp,
        local_address: "10.0.0.7".parse().unwrap(),
        remote_address: remote.parse().unwrap(),
        remote_port: 80,
    };
    let kept = |tw_reuse, remote| {
        let Kept { min_s, max_s } = Kept::of(&settings(tw_reuse), &id(remote));
        (min_s, max_s)
    };
    assert_eq!(kept(TwReuse::Off, "127.0.0.1"), (60.0, 60.0));
    assert_eq!(kept(TwReuse::LoopbackOnly, "10.0.0.9"), (60.0, 60.0));
    assert_eq!(kept(TwReuse::LoopbackOnly, "127.0.0.1"), (1.0, 1.0));
    assert_eq!(kept(TwReuse::LoopbackOnly, "10.0.0.7"), (60.0, 60.0), "this host, and not loopback");
    assert_eq!(kept(TwReuse::On, "10.0.0.7"), (1.0, 1.0));
    assert_eq!(kept(TwReuse::On, "10.0.0.9"), (1.0, 60.0));
    assert_eq!(kept(TwReuse::Unknown, "127.0.0.1"), (1.0, 60.0));
}
