//! For who shows a watch while it goes on: the records of its sweeps, and a hand on its pace.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use sock_diag::SocketRecord;
use sockeye_core::Settings;

use super::{Follow, processor_ms};
use crate::whose::Who;

/// Sees the records of a sweep as the monitor does, in the same order. It must be quick: it stands between two records.
pub(crate) trait Onlooker: Send {
    /// A sweep begins; one before it may not have come to its end.
    fn begin(&mut self, settings: &Settings);
    /// A record; repeats of a raced dump among them. `whose` says whose it is, as far as that is known.
    fn record<'a>(&mut self, record: &SocketRecord, whose: &(dyn Fn() -> Who<'a> + 'a));
    /// A connection bound this port by number.
    fn bound(&mut self, port: u16);
}

impl Follow {
    /// From the next sweep on, this one sees its records.
    pub(crate) fn look_on(&mut self, onlooker: Box<dyn Onlooker>) {
        self.watched.onlooker = Some(onlooker);
    }

    /// Whether this is the past, from a capture.
    pub(crate) fn is_replay(&self) -> bool {
        self.live.is_none()
    }

    /// From the next tick on, they are so far apart; of a replay, its own intervals stay.
    pub(crate) fn set_interval(&mut self, interval: Duration) {
        if let Some(live) = &mut self.live {
            live.interval_ms = (interval.as_millis() as u64).max(1);
            live.ticked(false);
        }
    }

    /// From the next tick on, each has a sweep, whatever it costs.
    pub(crate) fn lift_budget(&mut self) {
        if let Some(live) = &mut self.live {
            live.budget = None;
        }
    }

    /// As if nothing had been spent so far, and this much processor time been saved up.
    pub(crate) fn grant(&mut self, saved: Duration) {
        if let Some(live) = &mut self.live {
            let now = live.now();
            if let Some(budget) = &mut live.budget {
                budget.grant(now, processor_ms(), saved.as_secs_f64() * 1_000.0);
            }
        }
    }

    /// Whoever writes to it wants a tick now. A replay has no waits to end.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn caller(&mut self) -> io::Result<UnixStream> {
        let (calls, caller) = UnixStream::pair()?;
        calls.set_nonblocking(true)?;
        caller.set_nonblocking(true)?;
        if let Some(live) = &mut self.live {
            live.calls = Some(calls);
        }
        Ok(caller)
    }
}
