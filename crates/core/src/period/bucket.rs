//! One of the equal parts of a period.

use crate::Percentiles;
use crate::compare::LifetimeSample;
use crate::moment::{Lifetime, Moment};

use super::{TickSample, least};

/// Different bounds of lifetimes that a bucket tells apart: single bins of 3 % are kept as long as most bounds are close.
const MOST_PAIRS: usize = 1_024;

/// What happened within a part of a period. Numbers are None where no tick was recorded.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// When it begins.
    pub begin: Moment,
    /// Ticks within it: none where nothing was recorded.
    pub ticks: u64,
    /// Time its ticks covered, milliseconds.
    pub covered_ms: u64,
    /// Connections opened.
    pub opens: u64,
    /// Connections closed.
    pub closes: u64,
    /// Most connections alive at a tick.
    pub live_max: Option<u64>,
    /// Most sockets in TIME_WAIT at a tick.
    pub time_wait_max: Option<u64>,
    /// The fullest that a destination was at a tick, 0–1.
    pub occupancy_max: Option<f64>,
    /// Least headroom towards any destination at a tick.
    pub headroom_min: Option<u32>,
    /// Least coverage of a tick, 0–1.
    pub coverage_min: Option<f64>,
    /// Destroy events lost.
    pub events_lost: u64,
    lifetimes: LifetimeSample,
}

impl Bucket {
    pub(super) fn new(begin: Moment) -> Bucket {
        Bucket {
            begin,
            ticks: 0,
            covered_ms: 0,
            opens: 0,
            closes: 0,
            live_max: None,
            time_wait_max: None,
            occupancy_max: None,
            headroom_min: None,
            coverage_min: None,
            events_lost: 0,
            lifetimes: LifetimeSample::of_pairs(MOST_PAIRS),
        }
    }

    pub(super) fn tick(&mut self, tick: &TickSample) {
        self.ticks += 1;
        self.covered_ms += tick.interval_ms;
        self.opens += tick.opens;
        self.closes += tick.closes;
        self.live_max = self.live_max.max(Some(tick.live));
        self.time_wait_max = self.time_wait_max.max(Some(tick.time_wait));
        // Without any destination nothing is in use.
        let occupancy = tick.worst.map_or(0.0, |(_, occupancy)| occupancy);
        self.occupancy_max = Some(self.occupancy_max.map_or(occupancy, |most| most.max(occupancy)));
        self.headroom_min = least(self.headroom_min, tick.headroom_min);
        self.coverage_min = least(self.coverage_min, tick.coverage);
        self.events_lost += tick.events_lost;
    }

    pub(super) fn closed(&mut self, lifetime: Lifetime, connections: u64) {
        self.lifetimes.record_many(lifetime, connections);
    }

    /// Per second of the time that ticks covered; None without any.
    pub fn opens_per_second(&self) -> Option<f64> {
        (self.covered_ms > 0).then(|| self.opens as f64 * 1000.0 / self.covered_ms as f64)
    }

    /// The same of closes.
    pub fn closes_per_second(&self) -> Option<f64> {
        (self.covered_ms > 0).then(|| self.closes as f64 * 1000.0 / self.covered_ms as f64)
    }

    /// Lifetimes of the connections that ended within it.
    pub const fn lifetimes(&self) -> &LifetimeSample {
        &self.lifetimes
    }

    /// Their percentiles; None where none is known to both ends. Cost: an estimate.
    pub fn percentiles(&self) -> Option<Percentiles> {
        self.lifetimes.percentiles()
    }
}
