//! What the screen wants of the follower: nothing is gathered that nobody looks at.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sock_diag::filter::Filter;
use sockeye_core::DestinationId;

use crate::instant;

/// What sockets are listed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum SocketOrder {
    State,
    #[default]
    ReceiveQueue,
    SendQueue,
    Local,
    Peer,
    Timer,
    Retransmits,
    User,
    Inode,
}

/// The sockets that are wanted.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct SocketsWanted {
    pub(crate) filter: Option<Arc<Filter>>,
    pub(crate) order: SocketOrder,
    pub(crate) descending: bool,
}

/// All that is wanted.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Wants {
    pub(crate) interval: Duration,
    /// How much faster than its own time a replay goes; infinite: without waits.
    pub(crate) speed: f64,
    /// A replay stands still.
    pub(crate) paused: bool,
    /// Whose the connections were that ended, of a recording.
    pub(crate) owners: bool,
    pub(crate) ports: bool,
    pub(crate) lifetimes: bool,
    /// Who has the sockets of each destination.
    pub(crate) users: bool,
    pub(crate) sockets: Option<SocketsWanted>,
    pub(crate) focus: Option<DestinationId>,
    /// The namespace to follow, as `-N` takes it; None: the one that the command began with.
    pub(crate) namespace: Option<String>,
    /// The end.
    pub(crate) ends: bool,
}

/// To another tick of a recording.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Move {
    /// So many ticks on, or back.
    Ticks(i64),
    /// So many seconds on, or back.
    Seconds(i64),
    First,
    Last,
    To(instant::Instant),
}

/// More moves than anybody means to wait for.
const MOST_MOVES: usize = 1_000;

/// What whoever goes through a recording has to do next.
#[derive(PartialEq, Debug)]
pub(crate) enum Next {
    Move(Move),
    /// Other things are wanted.
    Wants,
    /// It is time.
    Due,
}

struct Shared {
    wants: Wants,
    moves: VecDeque<Move>,
    /// Wakes a follower out of the wait for its next tick.
    caller: Option<UnixStream>,
}

/// Wants, shared between the screen and the follower.
pub(crate) struct Wanted {
    shared: Mutex<Shared>,
    changed: Condvar,
}

impl Wanted {
    pub(crate) fn new(interval: Duration) -> Wanted {
        let wants = Wants {
            interval,
            speed: 1.0,
            paused: false,
            owners: false,
            ports: false,
            lifetimes: false,
            users: false,
            sockets: None,
            focus: None,
            namespace: None,
            ends: false,
        };
        Wanted {
            shared: Mutex::new(Shared { wants, moves: VecDeque::new(), caller: None }),
            changed: Condvar::new(),
        }
    }

    /// What is wanted now.
    pub(crate) fn now(&self) -> Wants {
        self.lock().wants.clone()
    }

    /// From now on these; `at_once` when the next tick should not be waited for.
    pub(crate) fn set(&self, wants: Wants, at_once: bool) {
        let mut shared = self.lock();
        shared.wants = wants;
        if at_once && let Some(caller) = &mut shared.caller {
            let _ = caller.write(&[1]);
        }
        drop(shared);
        self.changed.notify_all();
    }

    /// Who is to be called for a tick at once.
    pub(crate) fn call_by(&self, caller: Option<UnixStream>) {
        self.lock().caller = caller;
    }

    /// To another tick, behind those moves that were not made yet.
    pub(crate) fn go(&self, to: Move) {
        let mut shared = self.lock();
        if shared.moves.len() < MOST_MOVES {
            shared.moves.push_back(to);
        }
        drop(shared);
        self.changed.notify_all();
    }

    /// Waits until there is a move to make, until other things are wanted than these, or until it is time.
    pub(crate) fn next(&self, than: &Wants, due: Option<Instant>) -> Next {
        let mut shared = self.lock();
        loop {
            if shared.wants != *than {
                return Next::Wants;
            }
            if let Some(next) = shared.moves.pop_front() {
                return Next::Move(next);
            }
            let left = due.map(|due| due.saturating_duration_since(Instant::now()));
            shared = match left {
                Some(Duration::ZERO) => return Next::Due,
                Some(left) => match self.changed.wait_timeout(shared, left) {
                    Ok((shared, _)) => shared,
                    Err(poisoned) => poisoned.into_inner().0,
                },
                None => self.changed.wait(shared).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits so long in a replay's own time, faster or slower as is wanted, and while it is to stand still.
    pub(crate) fn wait(&self, own: Duration) {
        const STEP: Duration = Duration::from_millis(50);
        let mut left = own;
        let mut shared = self.lock();
        loop {
            let wants = &shared.wants;
            if wants.ends || !wants.paused && (left.is_zero() || wants.speed.is_infinite()) {
                return;
            }
            let (paused, speed) = (wants.paused, wants.speed);
            let real = if paused { STEP } else { left.div_f64(speed.max(0.001)).min(STEP) };
            let waited = Instant::now();
            shared = match self.changed.wait_timeout(shared, real) {
                Ok((shared, _)) => shared,
                Err(poisoned) => poisoned.into_inner().0,
            };
            if !paused {
                left = left.saturating_sub(waited.elapsed().mul_f64(speed));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn wanted(change: impl FnOnce(&mut Wants)) -> Arc<Wanted> {
        let wanted = Arc::new(Wanted::new(Duration::from_secs(1)));
        let mut wants = wanted.now();
        change(&mut wants);
        wanted.set(wants, false);
        wanted
    }

    #[test]
    fn a_replay_waits_in_its_own_time() {
        let began = Instant::now();
        wanted(|wants| wants.speed = f64::INFINITY).wait(LONG);
        wanted(|wants| wants.ends = true).wait(LONG);
        // Twenty hours in less than a second.
        wanted(|wants| wants.speed = 1e6).wait(LONG * 20);
        assert!(began.elapsed() < Duration::from_secs(60), "none of them waits");
        wanted(|_| {}).wait(Duration::from_millis(30));
        assert!(began.elapsed() >= Duration::from_millis(30), "its own pace is kept");
    }

    #[test]
    fn a_replay_stands_still_until_it_goes_on() {
        let wanted = wanted(|wants| (wants.paused, wants.speed) = (true, f64::INFINITY));
        let waiting = {
            let wanted = Arc::clone(&wanted);
            thread::spawn(move || wanted.wait(Duration::ZERO))
        };
        thread::sleep(Duration::from_millis(20));
        assert!(!waiting.is_finished());
        wanted.set(Wants { paused: false, ..wanted.now() }, false);
        waiting.join().unwrap();
    }

    #[test]
    fn whoever_follows_is_called_when_it_cannot_wait() {
        let (mut called, caller) = UnixStream::pair().unwrap();
        called.set_nonblocking(true).unwrap();
        let wanted = wanted(|_| {});
        wanted.call_by(Some(caller));
        wanted.set(wanted.now(), false);
        assert!(called.read(&mut [0; 8]).is_err(), "it can wait");
        wanted.set(wanted.now(), true);
        assert_eq!(called.read(&mut [0; 8]).unwrap(), 1);
    }
}
