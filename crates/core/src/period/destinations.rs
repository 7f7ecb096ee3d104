//! The destinations of a period: how full each was over time, and the sum of those too many.

use std::cmp::Reverse;

use hashbrown::HashMap;

use crate::destination::DestinationId;
use crate::moment::Moment;

use super::DestinationSample;

/// Destinations that are told apart in the end; twice as many while rows come.
const MOST: usize = 1_024;

/// One destination over a period.
#[derive(Clone, PartialEq, Debug)]
pub struct DestinationHistory {
    /// Which.
    pub id: DestinationId,
    /// Most ports in use, and when it first came to that.
    pub in_use_max: u32,
    /// When.
    pub in_use_max_at: Moment,
    /// The fullest it was, 0–1.
    pub occupancy_max: f64,
    /// Least headroom.
    pub headroom_min: u32,
    /// Most sockets not in TIME_WAIT.
    pub live_max: u32,
    /// Most sockets in TIME_WAIT.
    pub time_wait_max: u32,
    /// Connections opened.
    pub opens: u64,
    /// Connections closed.
    pub closes: u64,
    /// Most ports in use in each bucket; None before the first row, and where nothing was recorded after the last.
    pub in_use: Vec<Option<u32>>,
}

/// What was not told apart.
///
/// A destination that was left out and came again is told with what happened since, and counts here as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DestinationRest {
    /// Destinations left out, at most.
    pub destinations: u64,
    /// Connections opened.
    pub opens: u64,
    /// Connections closed.
    pub closes: u64,
}

pub(super) struct Destinations {
    buckets: usize,
    known: HashMap<DestinationId, Known>,
    rest: DestinationRest,
    /// The last bucket with a tick or a row.
    last: usize,
}

struct Known {
    history: DestinationHistory,
    /// What the last row told, and the bucket it was in.
    holds: u32,
    since: usize,
}

impl Known {
    /// The last row holds up to this bucket.
    fn hold(&mut self, upto: usize) {
        for place in self.since + 1..=upto {
            self.history.in_use[place] = Some(self.holds);
        }
        self.since = self.since.max(upto);
    }
}

impl Destinations {
    pub(super) fn new(buckets: usize) -> Destinations {
        Destinations { buckets, known: HashMap::new(), rest: DestinationRest::default(), last: 0 }
    }

    /// Something was recorded in this bucket.
    pub(super) fn until(&mut self, place: usize) {
        self.last = self.last.max(place);
    }

    pub(super) fn add(&mut self, place: usize, row: &DestinationSample) {
        self.until(place);
        let buckets = self.buckets;
        let known = self.known.entry(row.id).or_insert_with(|| Known {
            history: DestinationHistory {
                id: row.id,
                in_use_max: 0,
                in_use_max_at: row.at,
                occupancy_max: 0.0,
                headroom_min: u32::MAX,
                live_max: 0,
                time_wait_max: 0,
                opens: 0,
                closes: 0,
                in_use: vec![None; buckets],
            },
            holds: 0,
            since: place,
        });
        known.hold(place);
        known.holds = row.in_use;
        let history = &mut known.history;
        if row.in_use > history.in_use_max {
            (history.in_use_max, history.in_use_max_at) = (row.in_use, row.at);
        }
        history.occupancy_max = history.occupancy_max.max(row.occupancy);
        history.headroom_min = history.headroom_min.min(row.headroom_min);
        history.live_max = history.live_max.max(row.live);
        history.time_wait_max = history.time_wait_max.max(row.time_wait);
        history.opens += row.opens;
        history.closes += row.closes;
        let here = &mut history.in_use[place];
        *here = (*here).max(Some(row.in_use));
        if self.known.len() > 2 * MOST {
            self.leave_out();
        }
    }

    fn leave_out(&mut self) {
        let mut order: Vec<_> = self.known.values().map(|known| worst_first(&known.history)).collect();
        order.sort_unstable();
        for (.., id) in order.drain(MOST..) {
            if let Some(known) = self.known.remove(&id) {
                self.rest.add(&known.history);
            }
        }
    }

    pub(super) fn told(&self) -> (Vec<DestinationHistory>, DestinationRest) {
        let mut rest = self.rest;
        let mut told: Vec<DestinationHistory> = self
            .known
            .values()
            .map(|known| {
                let mut known = Known { history: known.history.clone(), ..*known };
                known.hold(self.last);
                known.history
            })
            .collect();
        told.sort_unstable_by_key(worst_first);
        told.iter().skip(MOST).for_each(|history| rest.add(history));
        told.truncate(MOST);
        (told, rest)
    }
}

impl DestinationRest {
    fn add(&mut self, history: &DestinationHistory) {
        self.destinations += 1;
        self.opens += history.opens;
        self.closes += history.closes;
    }
}

fn worst_first(history: &DestinationHistory) -> (Reverse<u32>, Reverse<u64>, Reverse<u64>, DestinationId) {
    (Reverse(history.in_use_max), Reverse(history.opens), Reverse(history.closes), history.id)
}
