//! How late destroy events are. The kernel sends them from a work queue, which falls behind on a busy machine, while the
//! `tcp_info` in them is as of the sending.

use crate::closed::{Direction, TcpEnd};
use crate::moment::When;

use super::JIFFY_MS;

/// What is allowed for where nothing tells.
const LEAST_MS: u64 = 25;
/// Who was silent for longer before the event was not waiting for the queue: its program kept the file.
const MOST_MS: u64 = 1_000;

/// The lateness that events told, in this tick and in the one before.
#[derive(Default)]
pub(super) struct Lateness {
    now_ms: u64,
    before_ms: u64,
}

impl Lateness {
    /// When the socket of this event had its end. Whoever's FIN was acknowledged ended no sooner than it last heard of its
    /// peer, which shows how late the event is; others are taken to be as late as those lately were.
    pub(super) fn death(&mut self, at: When, direction: Direction, end: Option<TcpEnd>) -> When {
        if let Some(ms) = told(direction, end) {
            self.now_ms = self.now_ms.max(ms);
        }
        When::between(at.earliest.minus_ms(self.most_ms(direction, end)), at.latest)
    }

    /// The most time from the end to the event.
    pub(super) fn most_ms(&self, direction: Direction, end: Option<TcpEnd>) -> u64 {
        match told(direction, end) {
            Some(ms) => ms + JIFFY_MS,
            None => self.now_ms.max(self.before_ms).max(LEAST_MS),
        }
    }

    pub(super) fn tick(&mut self) {
        self.before_ms = std::mem::take(&mut self.now_ms);
    }
}

fn told(direction: Direction, end: Option<TcpEnd>) -> Option<u64> {
    let end = end.filter(|end| end.is_orderly(direction) == Some(true))?;
    end.heard_ms.filter(|ms| *ms <= MOST_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;

    fn orderly(heard_ms: u64) -> Option<TcpEnd> {
        Some(TcpEnd { controls_acked: Some(2), heard_ms: Some(heard_ms), ..TcpEnd::default() })
    }

    #[test]
    fn those_that_cannot_tell_are_as_late_as_those_that_can() {
        let mut lateness = Lateness::default();
        let mut earliest = |end| lateness.death(When::at(Moment(5_000)), Direction::Outgoing, end).earliest;
        assert_eq!(earliest(None), Moment(5_000 - LEAST_MS));
        assert_eq!(earliest(orderly(3)), Moment(5_000 - 3 - JIFFY_MS));
        assert_eq!(earliest(orderly(400)), Moment(5_000 - 400 - JIFFY_MS));
        assert_eq!(earliest(None), Moment(5_000 - 400));
        assert_eq!(earliest(orderly(7_000)), Moment(5_000 - 400), "its file was kept");
        lateness.tick();
        assert_eq!(lateness.most_ms(Direction::Unknown, None), 400);
        lateness.tick();
        assert_eq!(lateness.most_ms(Direction::Unknown, None), LEAST_MS);
    }
}
