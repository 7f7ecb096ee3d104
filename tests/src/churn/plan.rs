//! What a churn is to do, and when: drawn from a seed, before anything happens.

use std::io;
use std::time::Duration;

use crate::dice::Dice;

/// A stretch of time with one rate.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Connections opened per second, over all destinations together. 0 pauses.
    pub per_second: u32,
    /// How long.
    pub lasts: Duration,
}

/// How a connection ends, or why it never begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum How {
    /// The client closes first and keeps the TIME_WAIT.
    ClientFirst,
    /// The server closes first and keeps the TIME_WAIT, on its listener's port.
    ServerFirst,
    /// The client resets it (SO_LINGER 0).
    ClientResets,
    /// The server does.
    ServerResets,
    /// Nobody listens there: an attempt that fails at once.
    Refused,
    /// Nobody answers: an attempt given up after its lifetime.
    Unanswered,
}

impl How {
    /// Whether there is a server's end.
    pub fn is_accepted(self) -> bool {
        !matches!(self, How::Refused | How::Unanswered)
    }

    /// Whether it ends with a reset, so that no TIME_WAIT is left.
    pub fn is_reset(self) -> bool {
        matches!(self, How::ClientResets | How::ServerResets)
    }

    pub(super) fn server_is_first(self) -> bool {
        matches!(self, How::ServerFirst | How::ServerResets)
    }
}

/// A distribution of durations.
#[derive(Clone, Copy, Debug)]
pub enum Lives {
    /// All the same.
    Fixed(Duration),
    /// Between two, each order of magnitude as likely as the other.
    LogUniform(Duration, Duration),
    /// Exponential with this mean, cut at ten times it.
    Exponential(Duration),
}

/// Connections to be made.
#[derive(Clone, Debug)]
pub struct ChurnPlan {
    /// The same seed draws the same plan.
    pub seed: u64,
    /// Rates of opens, one after the other.
    pub phases: Vec<Phase>,
    /// Whether opens come at random times (a Poisson process) instead of evenly.
    pub random_arrivals: bool,
    /// From the open to the first close.
    pub lives: Lives,
    /// From the first close to the second, for [`late_share`](Self::late_share) of the connections; the others' second
    /// end closes at once.
    pub late: Lives,
    /// 0–1.
    pub late_share: f64,
    /// How connections end, with weights.
    pub mix: Vec<(How, u32)>,
    /// Most bytes of payload each way, sent right after the open; none when 0.
    pub payload: u16,
    /// Listeners, in turn.
    pub destinations: u8,
}

impl Default for ChurnPlan {
    /// Nothing happens; connections would close at once, client first.
    fn default() -> ChurnPlan {
        ChurnPlan {
            seed: 0,
            phases: Vec::new(),
            random_arrivals: false,
            lives: Lives::Fixed(Duration::ZERO),
            late: Lives::Fixed(Duration::ZERO),
            late_share: 0.0,
            mix: vec![(How::ClientFirst, 1)],
            payload: 0,
            destinations: 1,
        }
    }
}

/// One thing to do with one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Action {
    /// Nanoseconds after the plan's begin.
    pub(super) at_ns: u64,
    pub(super) connection: u32,
    pub(super) step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Step {
    Open,
    CloseFirst,
    CloseSecond,
}

/// A connection as it was drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drawn {
    pub(super) how: How,
    pub(super) place: u8,
    pub(super) opens_ns: u64,
    pub(super) lives_ns: u64,
    pub(super) late_ns: u64,
    pub(super) request_bytes: u16,
    pub(super) reply_bytes: u16,
}

/// A whole plan as it was drawn.
pub(super) struct Draw {
    pub(super) connections: Vec<Drawn>,
    pub(super) lasts: Duration,
}

impl ChurnPlan {
    pub(super) fn draw(&self) -> Draw {
        let mut dice = Dice(self.seed);
        let mut connections = Vec::new();
        let mut begin_ns = 0;
        for phase in &self.phases {
            let lasts_ns = phase.lasts.as_nanos() as u64;
            for opens_ns in self.opens(phase, lasts_ns, &mut dice) {
                let place = (connections.len() % usize::from(self.destinations.max(1))) as u8;
                connections.push(self.connection(begin_ns + opens_ns, place, &mut dice));
            }
            begin_ns += lasts_ns;
        }
        let end_of = |drawn: &Drawn| drawn.opens_ns + drawn.lives_ns + drawn.late_ns;
        let end_ns = connections.iter().map(end_of).max().unwrap_or(0).max(begin_ns);
        Draw { connections, lasts: Duration::from_nanos(end_ns) }
    }

    fn opens(&self, phase: &Phase, lasts_ns: u64, dice: &mut Dice) -> Vec<u64> {
        if self.random_arrivals {
            let mean_ns = 1e9 / f64::from(phase.per_second);
            let mut at = 0.0;
            let next = || {
                at -= mean_ns * (1.0 - dice.unit()).ln();
                (at < lasts_ns as f64).then_some(at as u64)
            };
            return std::iter::from_fn(next).collect();
        }
        let total = (phase.lasts.as_secs_f64() * f64::from(phase.per_second)).round() as u64;
        (0..total)
            .map(|number| (u128::from(lasts_ns) * u128::from(number) / u128::from(total)) as u64)
            .collect()
    }

    fn connection(&self, opens_ns: u64, place: u8, dice: &mut Dice) -> Drawn {
        let how = self.how(dice);
        let lives_ns = self.lives.draw(dice);
        let is_late = dice.unit() < self.late_share;
        let late_ns = if is_late && how.is_accepted() { self.late.draw(dice) } else { 0 };
        let mut bytes = || (dice.unit() * (f64::from(self.payload) + 1.0)) as u16;
        let (request_bytes, reply_bytes) = (bytes(), bytes());
        let lives_ns = if how == How::Refused { 0 } else { lives_ns };
        Drawn { how, place, opens_ns, lives_ns, late_ns, request_bytes, reply_bytes }
    }

    fn how(&self, dice: &mut Dice) -> How {
        let all: u32 = self.mix.iter().map(|(_, weight)| weight).sum();
        let mut rest = (dice.unit() * f64::from(all)) as u32;
        for (how, weight) in &self.mix {
            if rest < *weight {
                return *how;
            }
            rest -= weight;
        }
        How::ClientFirst
    }
}

impl Lives {
    fn draw(self, dice: &mut Dice) -> u64 {
        let unit = dice.unit();
        match self {
            Lives::Fixed(long) => long.as_nanos() as u64,
            Lives::LogUniform(least, most) => {
                let (least, most) = (least.as_nanos() as f64, most.as_nanos() as f64);
                (least * (most / least).powf(unit)) as u64
            }
            Lives::Exponential(mean) => (mean.as_nanos() as f64 * (-(1.0 - unit).ln()).min(10.0)) as u64,
        }
    }
}

/// The actions of each worker, in the order of their times: all of a destination belong to one, and none has more than
/// `room` connections open at once.
pub(super) fn divide(drawn: &[Drawn], places: usize, room: usize) -> io::Result<Vec<Vec<Action>>> {
    let mut workers = 1;
    while workers <= places {
        let shares: Vec<_> = (0..workers).map(|worker| share(drawn, worker, workers)).collect();
        if shares.iter().all(|actions| most_open(actions, drawn) <= room) {
            return Ok(shares);
        }
        workers += 1;
    }
    let what = format!("{places} destinations are too few: no more than {room} connections fit a process");
    Err(io::Error::other(what))
}

fn share(all: &[Drawn], worker: usize, workers: usize) -> Vec<Action> {
    let mut actions = Vec::new();
    for (connection, drawn) in (0..).zip(all) {
        if usize::from(drawn.place) % workers != worker {
            continue;
        }
        let first_ns = drawn.opens_ns + drawn.lives_ns;
        let mut add = |at_ns, step| actions.push(Action { at_ns, connection, step });
        add(drawn.opens_ns, Step::Open);
        if drawn.how != How::Refused {
            add(first_ns, Step::CloseFirst);
        }
        if drawn.how.is_accepted() {
            add(first_ns + drawn.late_ns, Step::CloseSecond);
        }
    }
    actions.sort_unstable_by_key(|action| (action.at_ns, action.connection, action.step));
    actions
}

/// Most connections open at once when these actions are taken in time.
fn most_open(actions: &[Action], all: &[Drawn]) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for action in actions {
        let how = all[action.connection as usize].how;
        match action.step {
            Step::Open if how != How::Refused => open += 1,
            Step::CloseSecond => open -= 1,
            Step::CloseFirst if !how.is_accepted() => open -= 1,
            Step::Open | Step::CloseFirst => {}
        }
        most = most.max(open);
    }
    most
}
