//! Connections that no sweep saw alive. A destroy event and a TIME_WAIT may be the two traces of one of them: whose
//! cookie was never read gets a new one in each. Ends and time tell that they belong together.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use crate::moment::{Moment, When};

use super::ends::BothEnds;

/// How far the times of two traces of one connection may be apart: jiffies, and an event that was read late.
const SLACK_MS: u64 = 50;
/// The most traces of a kind that are kept for their counterpart.
const MOST: usize = 1 << 17;
/// TIME_WAITs wait for their event as long as a program keeps its closed socket; with more than this, for a limited time.
const MANY_WAITING: usize = 1 << 14;
const LONG_MS: u64 = 120_000;

/// Traces that have not met their counterpart.
pub(super) struct Briefs {
    hasher: RandomState,
    events: HashTable<Ended>,
    waiting: HashTable<Waiting>,
}

/// The hash of both ends. Two pairs of ends with the same 64 bits are taken for one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tuple(u64);

/// A destroy event that was counted.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ended {
    tuple: Tuple,
    death: When,
    heard: Option<When>,
    /// The sweep it came before or in.
    sweep: u64,
}

/// A TIME_WAIT that was counted.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Waiting {
    tuple: Tuple,
    since: When,
}

impl Briefs {
    pub(super) fn new() -> Briefs {
        Briefs { hasher: RandomState::default(), events: HashTable::new(), waiting: HashTable::new() }
    }

    pub(super) fn tuple(&self, ends: &BothEnds) -> Tuple {
        Tuple(self.hasher.hash_one(ends))
    }

    /// An event came of a connection nobody knew; `heard` is when its peer last acknowledged anything. Whether a TIME_WAIT
    /// of it was counted already; if not, the event is kept.
    pub(super) fn ended(&mut self, tuple: Tuple, death: When, heard: Option<When>, sweep: u64) -> bool {
        let ended = Ended { tuple, death, heard, sweep };
        let same = self.waiting.iter_hash(tuple.0).filter(|waiting| waiting.tuple == tuple);
        let belonging = same.filter_map(|waiting| Some((ended.apart(waiting.since)?, *waiting)));
        if let Some((_, nearest)) = belonging.min_by_key(|(apart, _)| *apart) {
            if let Ok(found) = self.waiting.find_entry(tuple.0, |waiting| *waiting == nearest) {
                found.remove();
            }
            return true;
        }
        if self.events.len() < MOST {
            self.events.insert_unique(tuple.0, ended, |ended| ended.tuple.0);
        }
        false
    }

    /// A TIME_WAIT was found of a connection nobody knew. Whether an event of it was counted already; if not, the
    /// TIME_WAIT is kept.
    pub(super) fn waits(&mut self, tuple: Tuple, since: When) -> bool {
        let same = self.events.iter_hash(tuple.0).filter(|ended| ended.tuple == tuple);
        let belonging = same.filter_map(|ended| Some((ended.apart(since)?, *ended)));
        if let Some((_, nearest)) = belonging.min_by_key(|(apart, _)| *apart) {
            if let Ok(found) = self.events.find_entry(tuple.0, |ended| *ended == nearest) {
                found.remove();
            }
            return true;
        }
        if self.waiting.len() < MOST {
            self.waiting.insert_unique(tuple.0, Waiting { tuple, since }, |waiting| waiting.tuple.0);
        }
        false
    }

    /// A sweep is over. Its number; events from before the last one have no TIME_WAIT.
    pub(super) fn end_sweep(&mut self, sweep: u64, at: Moment) {
        self.events.retain(|ended| ended.sweep.saturating_add(2) > sweep);
        if self.waiting.len() > MANY_WAITING {
            self.waiting.retain(|waiting| at.ms_since(waiting.since.latest) < LONG_MS);
        }
        // Room that a storm needed is given back.
        if self.events.capacity() > 1_024 && self.events.len() * 4 < self.events.capacity() {
            self.events.shrink_to(self.events.len() * 2, |ended| ended.tuple.0);
        }
        if self.waiting.capacity() > 1_024 && self.waiting.len() * 4 < self.waiting.capacity() {
            self.waiting.shrink_to(self.waiting.len() * 2, |waiting| waiting.tuple.0);
        }
    }
}

impl Ended {
    /// How far a TIME_WAIT is from this event, milliseconds; None when it cannot be the same connection's.
    ///
    /// TIME_WAIT begins when the peer is last heard of. Only an orphan's, in FIN_WAIT2 since its end, begins later, when
    /// the peer closes too.
    fn apart(&self, since: When) -> Option<u64> {
        let began = self.heard.unwrap_or(self.death);
        let before = began.earliest.ms_since(since.latest);
        let after = since.earliest.ms_since(began.latest);
        let apart = before.max(after);
        // Where nothing is told, a program may have kept the file for any time.
        let fits = self.heard.is_none() || apart <= SLACK_MS || since.latest >= self.death.earliest;
        fits.then_some(apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TUPLE: Tuple = Tuple(7);

    fn at(ms: u64) -> When {
        When::at(Moment(ms))
    }

    #[test]
    fn either_trace_may_come_first() {
        let mut briefs = Briefs::new();
        assert!(!briefs.ended(TUPLE, at(1_000), Some(at(1_000)), 1));
        assert!(briefs.waits(TUPLE, at(1_010)));
        assert!(!briefs.waits(TUPLE, at(1_010)), "met already: this is another");
        assert!(briefs.ended(TUPLE, at(9_000), Some(at(1_000)), 2), "close() long after shutdown()");
        assert!(!briefs.ended(Tuple(8), at(1_000), None, 1));
        assert!(!briefs.waits(Tuple(9), at(1_000)));
    }

    #[test]
    fn ends_that_are_used_again_are_told_apart_by_time() {
        let mut briefs = Briefs::new();
        for ms in [1_000, 3_000, 5_000] {
            assert!(!briefs.ended(TUPLE, at(ms), Some(at(ms)), 1));
        }
        assert!(briefs.waits(TUPLE, at(5_000)), "the last of three");
        assert!(briefs.waits(TUPLE, at(3_000)), "and none of the others is lost");
        assert!(!briefs.ended(TUPLE, at(7_000), Some(at(7_000)), 1));
    }

    #[test]
    fn of_several_the_nearest_is_meant() {
        let mut briefs = Briefs::new();
        for ms in [1_000, 1_030] {
            assert!(!briefs.waits(TUPLE, at(ms)));
        }
        assert!(briefs.ended(TUPLE, at(9_000), Some(at(1_033)), 1));
        assert!(briefs.ended(TUPLE, at(9_000), Some(at(960)), 1), "which the other is too far from");
    }

    #[test]
    fn an_orphan_becomes_a_time_wait_when_its_peer_closes() {
        let mut briefs = Briefs::new();
        assert!(!briefs.ended(TUPLE, at(1_000), Some(at(900)), 1));
        assert!(briefs.waits(TUPLE, at(20_000)));
    }

    #[test]
    fn an_orphan_s_event_may_come_after_its_peer_s_close() {
        let late = When::between(Moment(980), Moment(1_300));
        let mut briefs = Briefs::new();
        assert!(!briefs.waits(TUPLE, at(1_100)));
        assert!(briefs.ended(TUPLE, late, Some(at(1_000)), 1));
        assert!(!briefs.ended(TUPLE, late, Some(at(1_000)), 1));
        assert!(briefs.waits(TUPLE, at(1_100)), "the event was read first");
        assert!(!briefs.waits(TUPLE, at(9_000)));
        assert!(!briefs.ended(TUPLE, at(9_500), Some(at(9_400)), 1), "a later connection's");
    }

    #[test]
    fn traces_are_not_kept_for_ever() {
        let mut briefs = Briefs::new();
        assert!(!briefs.ended(TUPLE, at(1_000), None, 5));
        briefs.end_sweep(5, Moment(2_000));
        briefs.end_sweep(6, Moment(3_000));
        assert_eq!(briefs.events.len(), 1);
        briefs.end_sweep(7, Moment(4_000));
        assert_eq!(briefs.events.len(), 0);
        for tuple in 0..2 * MOST as u64 {
            briefs.waits(Tuple(tuple), at(4_000));
        }
        assert_eq!(briefs.waiting.len(), MOST);
        briefs.end_sweep(8, Moment(4_000 + LONG_MS));
        assert_eq!((briefs.waiting.len(), briefs.waiting.capacity()), (0, 0));
    }
}
