//! When a destination runs out of ports, and what rate it could sustain for ever.
//!
//! From what one sweep told of its ports, and a rate. Where the rate is counted is churn's and the curve's work.

#[cfg(test)]
mod laws;

use crate::churn::{RATE_WINDOWS_S, Rates};
use crate::curve::{Curve, TIME_WAIT_MS, WINDOW_SECONDS};
use crate::destination::DestinationId;
use crate::headroom::Headroom;
use crate::report::Report;
use crate::reuse::{OLD_DELAY_MS, Reuse};
use crate::settings::Settings;

/// What becomes of a destination's ports if it goes on as it does now.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Forecast {
    /// Seconds until no connect() succeeds any more, counted from `headroom.max`: no later than this if the rate holds. 0
    /// when none does now; None when it never happens at this rate.
    pub exhausted_in_s: Option<f64>,
    /// The same, counted from `headroom.min`: no earlier than this. Equal where the headroom is one number and it is
    /// known how long a TIME_WAIT keeps its port.
    pub earliest_in_s: Option<f64>,
    /// Opens per second that the forecast counts with.
    pub open_rate: f64,
    /// Sockets opened and not closed again, per second; 0 unless that is more than chance.
    pub leak_rate: f64,
    /// Where the rate comes from.
    pub basis: Basis,
    /// Ports in use once opens and releases are in balance; None when they never are.
    pub steady_use: Option<f64>,
    /// The most opens per second that can go on for ever: ports / (time a port is kept). None when connections release
    /// their ports too seldom to tell.
    pub max_rate: Option<f64>,
}

/// Where a rate of opens comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Basis {
    /// The closes of the last minute, as TIME_WAIT timers tell them: the opens of connections that are short and that
    /// this side closes. One sweep is enough.
    #[default]
    TimeWaitTimers,
    /// Opens that were counted.
    Opens,
}

impl Basis {
    /// The word of JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Basis::TimeWaitTimers => "time_wait_timers",
            Basis::Opens => "opens",
        }
    }
}

/// How long a socket in TIME_WAIT keeps its port from the next connect() to its destination, seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Kept {
    /// At least.
    pub min_s: f64,
    /// At most.
    pub max_s: f64,
}

impl Kept {
    /// 60 s; the reuse delay where connect() takes TIME_WAIT sockets over; anything between where that is not known.
    pub fn of(settings: &Settings, id: &DestinationId) -> Kept {
        const WHOLE_S: f64 = TIME_WAIT_MS as f64 / 1000.0;
        let delay_ms = settings.tw_reuse_delay_ms.unwrap_or(OLD_DELAY_MS);
        let reused_s = (f64::from(delay_ms) / 1000.0).min(WHOLE_S);
        // A destination does not tell the device; loopback is nearly always told by its addresses.
        match Reuse::between(id.local_address, id.remote_address, false, settings) {
            Reuse::Never => Kept { min_s: WHOLE_S, max_s: WHOLE_S },
            Reuse::Certain => Kept { min_s: reused_s, max_s: reused_s },
            Reuse::IfPeerIsUs | Reuse::Unclear => Kept { min_s: reused_s, max_s: WHOLE_S },
        }
    }
}

/// What a forecast is made from.
#[derive(Clone, Copy, Debug)]
pub struct ForecastInput<'a> {
    /// Connects that succeed, at the sweep.
    pub headroom: Headroom,
    /// Sockets not in TIME_WAIT, at the sweep.
    pub live: u32,
    /// The ages of those in TIME_WAIT, at the sweep.
    pub time_wait: &'a Curve,
    /// How long these keep their ports.
    pub kept: Kept,
    /// Opens and closes, up to now; None: what the ages tell is all there is.
    pub rates: Option<&'a Rates>,
    /// How long the opens were counted, seconds: a window of the rates is no longer than this.
    pub watched_s: f64,
    /// How long ago the sweep was, seconds.
    pub swept_ago_s: f64,
}

/// So many opens tell a rate; fewer are taken together with those of a longer window.
const ENOUGH: f64 = 50.0;

impl Forecast {
    /// Whether the end may come earlier than `exhausted_in_s`, or come at all where that is None.
    pub fn is_in_doubt(&self) -> bool {
        self.earliest_in_s != self.exhausted_in_s
    }

    /// What becomes of these ports.
    ///
    /// Cost: at most 61 steps, twice.
    pub fn of(input: &ForecastInput<'_>) -> Forecast {
        let flow = Flow::of(input);
        let ahead = |headroom: u32, kept_s: f64| {
            let exhausted = flow.exhausts_in_s(headroom, input.time_wait, kept_s);
            exhausted.map(|from_sweep| (from_sweep - input.swept_ago_s).max(0.0))
        };
        let kept_s = input.kept.min_s;
        let latest = ahead(input.headroom.max, kept_s);
        // What the headroom's bounds and the ages say of the same sockets need not agree to the millisecond.
        let earliest =
            [ahead(input.headroom.min, input.kept.max_s), latest].into_iter().flatten().reduce(f64::min);
        let waiting = Waiting { ages: input.time_wait, kept_s };
        let capacity = f64::from(input.headroom.max) + f64::from(input.live) + waiting.left_after(0.0);
        let balanced = flow.leak == 0.0;
        let live = f64::from(input.live);
        // Little: the mean lifetime is live / opens.
        let port_time_s = live / flow.opens + flow.time_wait_share() * kept_s;
        Forecast {
            exhausted_in_s: latest,
            earliest_in_s: earliest,
            open_rate: flow.opens,
            leak_rate: flow.leak,
            basis: if input.rates.is_some() { Basis::Opens } else { Basis::TimeWaitTimers },
            steady_use: balanced.then_some(live + flow.time_waits * kept_s),
            max_rate: (balanced && flow.opens > 0.0 && port_time_s > 0.0).then(|| capacity / port_time_s),
        }
    }
}

/// What comes and goes, per second. Opens = leak + closes; some closes leave a TIME_WAIT.
#[derive(Clone, Copy, Debug)]
struct Flow {
    opens: f64,
    leak: f64,
    time_waits: f64,
}

impl Flow {
    fn of(input: &ForecastInput<'_>) -> Flow {
        match input.rates {
            Some(rates) => Flow::of_rates(rates, input),
            None => {
                // The second in which a rate began is not a whole one, and what was before has no part in it.
                let oldest = (0..WINDOW_SECONDS).rev().find(|second| input.time_wait.ago(*second) > 0);
                let since = oldest.unwrap_or(0).max(1);
                let counted = [1, 2, 5, 10, 20, WINDOW_SECONDS].map(|window| {
                    let span = window.min(since);
                    let opens = f64::from(closes_within(input.time_wait, span));
                    Counted { span_s: span as f64, opens }
                });
                let opens = counted[trusted(&counted)].rate();
                Flow { opens, leak: 0.0, time_waits: opens }
            }
        }
    }

    fn of_rates(rates: &Rates, input: &ForecastInput<'_>) -> Flow {
        let spans = RATE_WINDOWS_S.map(|window| f64::from(window).min(input.watched_s));
        let counted: [Counted; 3] = std::array::from_fn(|i| Counted {
            span_s: spans[i],
            opens: f64::from(rates.opens[i].max(0.0)) * spans[i],
        });
        let chosen = trusted(&counted);
        let (opens, closes) = (counted[chosen].rate(), f64::from(rates.closes[chosen].max(0.0)));
        let span_s = counted[chosen].span_s;
        // Opens − closes is the change of the number alive. That varies by chance: by no more than all of them are counted,
        // and by no more than twice those that are alive.
        let variance = ((opens + closes) * span_s).min(2.0 * f64::from(input.live));
        let surplus = (opens - closes) * span_s;
        let leak = if surplus > 3.0 * variance.sqrt() + 2.0 { opens - closes } else { 0.0 };
        // Older ones may have been taken over since.
        let seen = (span_s.min(input.kept.min_s) as usize).max(1);
        let per_second = f64::from(closes_within(input.time_wait, seen)) / seen as f64;
        let share = if closes > 0.0 { (per_second / closes).min(1.0) } else { 0.0 };
        Flow { opens, leak, time_waits: (opens - leak) * share }
    }

    fn time_wait_share(&self) -> f64 {
        if self.opens > 0.0 { self.time_waits / self.opens } else { 0.0 }
    }

    /// When the ports are used up, counted from the sweep.
    ///
    /// Between two whole seconds' worth of TIME_WAIT ends the headroom is a straight line. Once none of the sockets
    /// seen in TIME_WAIT is left, and the first of the new ones ends as well, only what leaks is missing.
    fn exhausts_in_s(&self, headroom: u32, ages: &Curve, kept_s: f64) -> Option<f64> {
        if headroom == 0 {
            return Some(0.0);
        }
        let waiting = Waiting { ages, kept_s };
        let released_later = waiting.left_after(0.0);
        // A close without TIME_WAIT makes up for an open.
        let taken = self.leak + self.time_waits;
        let at = |t: f64| f64::from(headroom) - taken * t + released_later - waiting.left_after(t);
        // Releases only help: without any there would be enough for so long.
        let is_enough = taken * kept_s <= f64::from(headroom);
        let (mut from, mut left) = if is_enough { (kept_s, at(kept_s)) } else { (0.0, f64::from(headroom)) };
        while from < kept_s {
            let to = waiting.next_corner(from);
            let then = at(to);
            // Less than a millionth of a port is the error of the arithmetic.
            if then < -1e-6 {
                return Some(from + (to - from) * left / (left - then));
            }
            (from, left) = (to, then.max(0.0));
        }
        (self.leak > 0.0).then(|| kept_s + left / self.leak)
    }
}

/// The sockets in TIME_WAIT at the sweep, and how long each keeps its port. Closes of one second are spread evenly over it.
struct Waiting<'a> {
    ages: &'a Curve,
    kept_s: f64,
}

impl Waiting<'_> {
    /// How many still keep their port then.
    fn left_after(&self, t: f64) -> f64 {
        let oldest = self.kept_s - t;
        let of_second = |second: usize| {
            let share = (oldest - second as f64).clamp(0.0, 1.0);
            f64::from(self.ages.ago(second)) * share
        };
        (0..WINDOW_SECONDS).map(of_second).sum()
    }

    /// The next time after `t` at which all closes of one more second have ended, and at the latest when all have.
    fn next_corner(&self, t: f64) -> f64 {
        let seconds_left = (self.kept_s - t).ceil() - 1.0;
        let corner = self.kept_s - seconds_left;
        if corner > t { corner } else { corner + 1.0 }.min(self.kept_s)
    }
}

/// Opens of the last so many seconds.
#[derive(Clone, Copy, Debug)]
struct Counted {
    span_s: f64,
    opens: f64,
}

impl Counted {
    fn rate(self) -> f64 {
        if self.span_s > 0.0 { self.opens / self.span_s } else { 0.0 }
    }
}

/// Which of these windows, shortest first, tells the rate now: the longest that the shorter ones do not contradict by
/// more than chance. So the idle time before a rate began is left out, and a steady rate is counted as long as it can be.
fn trusted(windows: &[Counted]) -> usize {
    let mut chosen = 0;
    for longer in 1..windows.len() {
        let window = windows[chosen];
        let expected = windows[longer].rate() * window.span_s;
        let deviations = if window.opens >= ENOUGH { 1.0 } else { 3.0 };
        if (window.opens - expected).abs() > deviations * expected.sqrt() + 1.0 {
            break;
        }
        chosen = longer;
    }
    chosen
}

fn closes_within(curve: &Curve, seconds: usize) -> u32 {
    (0..seconds).map(|second| curve.ago(second)).sum()
}

impl Report {
    /// Works out the forecast of every destination: from its rates where it has some, else from the ages of its TIME_WAIT
    /// sockets. One without either gets one only when it is exhausted now.
    ///
    /// Cost: below a microsecond for each destination, and a nanosecond for each TIME_WAIT socket.
    pub fn forecast(&mut self, settings: &Settings) {
        let (watched_s, swept_ago_s) = self.churn.as_ref().map_or((0.0, 0.0), |churn| {
            let seconds = |since| churn.at.ms_since(since) as f64 / 1000.0;
            (seconds(churn.since), seconds(churn.swept_at))
        });
        let forecasts: Vec<Option<Forecast>> = self
            .destinations
            .iter()
            .map(|destination| {
                let known = destination.rates.is_some() || destination.traffic.closes > 0;
                (known || destination.is_exhausted()).then(|| {
                    Forecast::of(&ForecastInput {
                        headroom: destination.headroom,
                        live: destination.traffic.live,
                        time_wait: &self.closes_of(destination),
                        kept: Kept::of(settings, &destination.id),
                        rates: destination.rates.as_ref(),
                        watched_s,
                        swept_ago_s,
                    })
                })
            })
            .collect();
        for (destination, forecast) in self.destinations.iter_mut().zip(forecasts) {
            destination.forecast = forecast;
        }
    }
}
