//! The last looks, shared between who makes them and who draws them. Neither holds the lock for longer than it takes to
//! count references: a terminal that does not take what is written delays nobody.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::look::Look;

/// Ticks that are kept: five minutes of seconds.
const MOST_LOOKS: usize = 300;
/// Or fewer, where there are many destinations.
const MOST_BYTES: usize = 48 << 20;

/// How the follower is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// The first sweep is not done.
    #[default]
    Opening,
    Following,
    /// It was asked for so long, or the capture is at its end.
    Over,
    /// It stands at a tick of a recording that has so many.
    Recorded {
        of: u64,
    },
    /// It ended by an error.
    Failed(String),
}

#[derive(Default)]
struct Kept {
    looks: VecDeque<Arc<Look>>,
    bytes: usize,
    state: State,
    /// What a wish came to, where it failed.
    answer: Option<String>,
}

/// What the follower leaves and the screen takes.
pub(crate) struct Past {
    kept: Mutex<Kept>,
    /// Wakes the screen; it never blocks, for one byte that waits is enough.
    waker: UnixStream,
}

impl Past {
    /// The past, empty, and what becomes readable when there is something new.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn new() -> std::io::Result<(Past, UnixStream)> {
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        Ok((Past { kept: Mutex::default(), waker }, woken))
    }

    /// One more look; the oldest give way.
    pub(crate) fn push(&self, look: Look) {
        let bytes = look.bytes();
        let look = Arc::new(look);
        // Given back behind the lock: that takes a while, where there are many destinations.
        let mut oldest = Vec::new();
        let mut kept = self.lock();
        kept.bytes += bytes;
        kept.looks.push_back(look);
        while kept.looks.len() > MOST_LOOKS || kept.bytes > MOST_BYTES && kept.looks.len() > 1 {
            let Some(look) = kept.looks.pop_front() else { break };
            kept.bytes -= look.bytes();
            oldest.push(look);
        }
        kept.state = State::Following;
        drop(kept);
        self.wake();
    }

    /// These instead of all looks before: the last one is the tick of a recording that is looked at.
    pub(crate) fn show(&self, looks: VecDeque<Arc<Look>>, of: u64) {
        let mut kept = self.lock();
        let before = std::mem::replace(&mut kept.looks, looks);
        kept.state = State::Recorded { of };
        drop(kept);
        drop(before);
        self.wake();
    }

    /// Another namespace is followed from now on.
    pub(crate) fn clear(&self) {
        let before = std::mem::take(&mut *self.lock());
        drop(before);
        self.wake();
    }

    pub(crate) fn set_state(&self, state: State) {
        self.lock().state = state;
        self.wake();
    }

    /// Says why a wish was not fulfilled.
    pub(crate) fn answer(&self, text: String) {
        self.lock().answer = Some(text);
        self.wake();
    }

    /// All looks, the oldest first, and how the follower is.
    pub(crate) fn looks(&self) -> (Vec<Arc<Look>>, State) {
        let kept = self.lock();
        (kept.looks.iter().cloned().collect(), kept.state.clone())
    }

    pub(crate) fn take_answer(&self) -> Option<String> {
        self.lock().answer.take()
    }

    fn wake(&self) {
        let _ = (&self.waker).write(&[1]);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let (past, woken) = Past::new().unwrap();
        for number in 1..=MOST_LOOKS as u64 + 7 {
            past.push(Look { number, ports: None, list: None, ..example::look() });
        }
        let (looks, state) = past.looks();
        assert_eq!((looks.len(), looks[0].number, state), (MOST_LOOKS, 8, State::Following));
        assert_eq!(past.lock().bytes, looks.iter().map(|look| look.bytes()).sum::<usize>());
        assert!(std::io::Read::read(&mut &woken, &mut [0; 1]).is_ok(), "it is woken");
        past.clear();
        assert_eq!((past.looks().0.len(), past.lock().bytes), (0, 0));
    }

    #[test]
    fn memory_is_bounded_whatever_a_look_takes() {
        let (past, _woken) = Past::new().unwrap();
        let mut large = example::look();
        large.destinations = vec![large.destinations[0]; 40_000];
        let bytes = large.bytes();
        for number in 1..=20 {
            past.push(Look { number, ..large.clone() });
        }
        let (looks, _) = past.looks();
        assert!(looks.len() == MOST_BYTES / bytes && looks.len() > 1, "{} of {bytes}", looks.len());
        assert_eq!(looks.last().unwrap().number, 20);
    }
}
