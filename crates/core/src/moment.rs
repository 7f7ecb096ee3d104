//! Points in time as the caller's clock tells them, and times of which only bounds are known.

/// A point of the caller's clock, milliseconds after any fixed point. The clock must not go back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Milliseconds since `earlier`; 0 when that is later.
    pub const fn ms_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// So many milliseconds later.
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Moment {
        Moment(self.0.saturating_add(ms))
    }

    /// So many milliseconds earlier; the clock's zero at the earliest.
    #[must_use]
    pub const fn minus_ms(self, ms: u64) -> Moment {
        Moment(self.0.saturating_sub(ms))
    }
}

/// When something happened, between two moments, both possible.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct When {
    /// Not before.
    pub earliest: Moment,
    /// Not after.
    pub latest: Moment,
}

impl When {
    /// At this moment.
    pub const fn at(moment: Moment) -> When {
        When { earliest: moment, latest: moment }
    }

    /// Between two moments; the later bound gives way when they are the wrong way round.
    pub const fn between(earliest: Moment, latest: Moment) -> When {
        let latest = if latest.0 < earliest.0 { earliest } else { latest };
        When { earliest, latest }
    }

    /// Half way: as often too early as too late.
    pub const fn middle(self) -> Moment {
        Moment(self.earliest.0.midpoint(self.latest.0))
    }

    /// Width of the doubt, milliseconds.
    pub const fn doubt_ms(self) -> u64 {
        self.latest.ms_since(self.earliest)
    }
}

impl From<Moment> for When {
    fn from(moment: Moment) -> When {
        When::at(moment)
    }
}

/// How long a connection lived, milliseconds, as far as its birth and its death are known.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lifetime {
    /// At least so long.
    pub min_ms: u64,
    /// At most so long; None for a connection that is older than the watch and tells nothing of its age.
    pub max_ms: Option<u64>,
}

impl Lifetime {
    /// From birth to death.
    pub const fn between(birth: When, death: When) -> Lifetime {
        Lifetime {
            min_ms: death.earliest.ms_since(birth.latest),
            max_ms: Some(death.latest.ms_since(birth.earliest)),
        }
    }

    /// The middle of the bounds: the best single number. None when there is no upper bound.
    pub const fn middle_ms(self) -> Option<u64> {
        match self.max_ms {
            Some(max_ms) => Some(self.min_ms.midpoint(max_ms)),
            None => None,
        }
    }

    /// How far the middle may be off, milliseconds, rounded up; None when there is no upper bound.
    pub const fn uncertainty_ms(self) -> Option<u64> {
        match self.max_ms {
            Some(max_ms) => Some(max_ms.saturating_sub(self.min_ms).div_ceil(2)),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_the_bounds_of_its_ends() {
        let birth = When::between(Moment(100), Moment(300));
        let lifetime = Lifetime::between(birth, When::between(Moment(1_000), Moment(1_100)));
        assert_eq!(lifetime, Lifetime { min_ms: 700, max_ms: Some(1_000) });
        assert_eq!((lifetime.middle_ms(), lifetime.uncertainty_ms()), (Some(850), Some(150)));
        let brief = Lifetime::between(birth, When::at(Moment(200)));
        assert_eq!(brief, Lifetime { min_ms: 0, max_ms: Some(100) }, "a death within the doubt of the birth");
    }

    #[test]
    fn bounds_the_wrong_way_round_are_no_panic() {
        let when = When::between(Moment(5), Moment(3));
        assert_eq!((when, when.doubt_ms()), (When::at(Moment(5)), 0));
        assert_eq!(Moment(3).ms_since(Moment(5)), 0);
    }
}
