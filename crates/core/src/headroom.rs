//! How many more connect() calls succeed, as a number or an interval, and what the doubt is.
//!
//! Counting the ports is the fold's work.

use std::fmt;

/// How many more connect() to a destination succeed now.
///
/// Exact when nothing is in doubt. Otherwise `max` counts every port that may be free, and each doubt takes its
/// ports away from `min`: `min` = `max` − `undecided_time_wait` − `suspected_ports` − (1 if `odd_range`).
/// `min` trusts parity: a port of the half that connect() prefers counts as its choice while bind() would have found others.
/// Only a probe, or having followed the sockets from their birth, tells a port of that half that was bound within
/// IP_LOCAL_PORT_RANGE, was bound by number and is in TIME_WAIT, or has outlived its listener; `max` always holds.
/// Consistency: per sweep. Bound devices and VRFs, which have ports of their own, are not told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Headroom {
    /// At least so many, as far as the evidence goes.
    pub min: u32,
    /// At most so many.
    pub max: u32,
    /// Ports in TIME_WAIT towards this destination that connect() certainly takes over: part of `min` and `max`.
    pub reusable_time_wait: u32,
    /// Ports in TIME_WAIT towards this destination that connect() may take over.
    pub undecided_time_wait: u32,
    /// Ports in use elsewhere (or in reusable TIME_WAIT) that may have been bound explicitly, and are then skipped.
    pub suspected_ports: u32,
    /// The range has an odd number of ports: by a hash of the destination, one of its ends may never be tried.
    pub odd_range: bool,
}

impl Headroom {
    /// Whether it is one number.
    pub const fn is_exact(&self) -> bool {
        self.min == self.max
    }

    /// Why it is not one number; empty when it is.
    pub fn doubts(&self) -> impl Iterator<Item = Doubt> {
        [
            (self.undecided_time_wait > 0).then_some(Doubt::TimeWait { ports: self.undecided_time_wait }),
            (self.suspected_ports > 0).then_some(Doubt::Binding { ports: self.suspected_ports }),
            self.odd_range.then_some(Doubt::OddRange),
        ]
        .into_iter()
        .flatten()
    }
}

impl fmt::Display for Headroom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_exact() { write!(f, "{}", self.max) } else { write!(f, "{}–{}", self.min, self.max) }
    }
}

/// One reason why a headroom is an interval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Doubt {
    /// Whether these TIME_WAIT sockets may be reused depends on what a dump does not tell.
    TimeWait {
        /// How many ports it concerns.
        ports: u32,
    },
    /// Whether the sockets on these ports bound explicitly is not told by a dump.
    Binding {
        /// How many ports it concerns.
        ports: u32,
    },
    /// The kernel tries an even number of ports.
    OddRange,
}

impl Doubt {
    /// Its name in JSON.
    pub const fn id(self) -> &'static str {
        match self {
            Doubt::TimeWait { .. } => "undecided_time_wait",
            Doubt::Binding { .. } => "suspected_ports",
            Doubt::OddRange => "odd_range",
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Doubt::TimeWait { ports } => {
                write!(
                    f,
                    "{ports} ports are in TIME_WAIT and may be reused: the peer's timestamps or our settings are unknown"
                )
            }
            Doubt::Binding { ports } => {
                write!(
                    f,
                    "{ports} ports in use elsewhere may have been bound before connecting, and are then skipped"
                )
            }
            Doubt::OddRange => {
                write!(
                    f,
                    "the port range has an odd number of ports, of which connect() may never try one end"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_its_doubts() {
        let exact = Headroom { min: 4, max: 4, ..Headroom::default() };
        assert_eq!((exact.to_string().as_str(), exact.doubts().count()), ("4", 0));
        let vague = Headroom { min: 1, max: 4, undecided_time_wait: 2, odd_range: true, ..exact };
        assert_eq!(vague.to_string(), "1–4");
        assert_eq!(vague.doubts().collect::<Vec<_>>(), [Doubt::TimeWait { ports: 2 }, Doubt::OddRange]);
    }
}
