//! Since when followed sockets have been in a state that none should be in for long.
//!
//! Only of those that the sweep has sampled, [`MOST_SAMPLED`](crate::MOST_SAMPLED) of each kind: a leak of a million has as many
//! ages as one of a thousand. The sample is the same from sweep to sweep, so that these grow.

use hashbrown::HashMap;
use sock_diag::{Cookie, SocketRecord};

use crate::moment::{Moment, When};
use crate::stuck::{Age, StuckKind, StuckSamples};

#[derive(Default)]
pub(super) struct Standing {
    since: HashMap<u64, Since>,
    /// Kinds of which the last sweep saw every socket: whoever is new in them was in another state then.
    whole: Vec<StuckKind>,
}

/// What was known when.
#[derive(Clone, Copy)]
struct Since {
    kind: StuckKind,
    at: Moment,
    age: Age,
}

impl Since {
    fn age(&self, at: Moment) -> Age {
        let more = at.ms_since(self.at);
        Age { min_ms: self.age.min_ms + more, max_ms: self.age.max_ms.map(|max_ms| max_ms + more) }
    }
}

impl Standing {
    /// A sweep is over at `now`; the one before it began at `before`.
    pub(super) fn end_sweep(&mut self, samples: &StuckSamples, before: Moment, now: Moment) {
        let known = std::mem::take(&mut self.since);
        for kind in StuckKind::ALL {
            let max_ms = self.whole.contains(&kind).then(|| now.ms_since(before));
            let new = Since { kind, at: now, age: Age { min_ms: 0, max_ms } };
            for record in &samples.of(kind).sampled {
                let cookie = record.id.cookie.0;
                let since = known.get(&cookie).filter(|since| since.kind == kind).unwrap_or(&new);
                self.since.insert(cookie, *since);
            }
        }
        self.whole = StuckKind::ALL.into_iter().filter(|kind| samples.of(*kind).is_whole()).collect();
    }

    /// One look has told the age of a socket, between two moments.
    pub(super) fn learn(&mut self, cookie: Cookie, told: Age, at: When) {
        let Some(since) = self.since.get_mut(&cookie.0) else { return };
        let known = since.age(at.latest);
        let max_ms = told.max_ms.map(|max_ms| max_ms + at.doubt_ms());
        let max_ms = match (known.max_ms, max_ms) {
            (Some(known), Some(told)) => Some(known.min(told)),
            (known, told) => known.or(told),
        };
        *since =
            Since { at: at.latest, age: Age { min_ms: known.min_ms.max(told.min_ms), max_ms }, ..*since };
    }

    /// How long a socket has been in its state.
    pub(super) fn age(&self, record: &SocketRecord, at: Moment) -> Option<Age> {
        Some(self.since.get(&record.id.cookie.0)?.age(at))
    }
}
