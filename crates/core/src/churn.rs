//! Opens and closes over time: counts since the start, rates over windows, and how much of it was seen.

use crate::lifetimes::Group;
use crate::moment::Moment;
use crate::owner_id::OwnerId;
use crate::port_origin::PortOrigin;

/// The windows rates are told over, seconds.
pub const RATE_WINDOWS_S: [u32; 3] = [1, 10, 60];

/// Opens and closes per second over the windows of [`RATE_WINDOWS_S`].
///
/// Counts come once per tick, so a window is made of whole ticks: the fewest that are as long as it together. While the
/// watch is younger than a window, it is all there is.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Rates {
    /// Opens per second, shortest window first.
    pub opens: [f32; 3],
    /// Closes per second, shortest window first.
    pub closes: [f32; 3],
}

impl Rates {
    /// Of both together.
    #[must_use]
    pub fn plus(mut self, other: Rates) -> Rates {
        (0..RATE_WINDOWS_S.len()).for_each(|window| {
            self.opens[window] += other.opens[window];
            self.closes[window] += other.closes[window];
        });
        self
    }

    pub(crate) fn at_least_zero(self) -> Rates {
        Rates { opens: self.opens.map(|rate| rate.max(0.0)), closes: self.closes.map(|rate| rate.max(0.0)) }
    }
}

/// Connections of one group that one owner has.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct AccountRow {
    /// Where they go, or which listener accepted them.
    pub group: Group,
    /// Whose they are.
    pub owner: OwnerId,
    /// Alive now.
    pub live: u64,
    /// In TIME_WAIT (or orphans in FIN_WAIT2) as of the last sweep.
    pub time_wait: u64,
    /// Opens and closes. A connection is opened by its owner when that becomes known.
    pub rates: Rates,
}

/// Connections whose local ports were got in one way.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct OriginRow {
    /// Which way.
    pub origin: PortOrigin,
    /// Alive now.
    pub live: u64,
    /// In TIME_WAIT (or orphans in FIN_WAIT2) as of the last sweep.
    pub time_wait: u64,
    /// Opens and closes. What becomes known of a connection later takes its opening along.
    pub rates: Rates,
}

/// Counts of one kind of socket since the start.
///
/// Conservation: `live` = `at_start` + `opened` − `closed`.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Flow {
    /// Alive when the watch began.
    pub at_start: u64,
    /// Opened since.
    pub opened: u64,
    /// Closed since.
    pub closed: u64,
    /// Opened during the last tick's interval.
    pub opened_last: u64,
    /// Closed during the last tick's interval.
    pub closed_last: u64,
    /// Rates over windows.
    pub rates: Rates,
}

impl Flow {
    /// Alive now.
    pub const fn live(&self) -> u64 {
        (self.at_start + self.opened).saturating_sub(self.closed)
    }
}

/// What following a namespace over time adds to a report.
///
/// A TCP connection opens with its SYN or its accept and closes when its socket is freed or has become a TIME_WAIT (or
/// an orphan in FIN_WAIT2). Handshakes not yet complete on the accepting side (SYN_RECV), listeners and sockets that never connected are
/// no connections.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Churn {
    /// When the watch began: the end of its first sweep.
    pub since: Moment,
    /// This tick.
    pub at: Moment,
    /// Length of the last tick's interval, milliseconds.
    pub interval_ms: u64,
    /// When the sweep began that the port numbers of the report come from.
    pub swept_at: Moment,
    /// TCP connections, all together.
    pub tcp: Flow,
    /// Of these, outgoing ones.
    pub outgoing: Flow,
    /// Of these, incoming ones.
    pub incoming: Flow,
    /// UDP sockets.
    pub udp: Flow,
    /// Connections seen of those the kernel counted.
    pub coverage: Coverage,
    /// Whether destroy events are heard.
    pub events: bool,
    /// Destroy events lost, all told.
    pub events_lost: u64,
    /// Sockets missing from the last sweep whose end is not confirmed yet: counted as alive.
    pub unconfirmed: u32,
}

/// How many of the connections that the kernel counted were seen, since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// TCP connections opened since the start that were seen.
    pub seen: u64,
    /// ActiveOpens + PassiveOpens since the start; None where the counters cannot be read.
    pub counted: Option<u64>,
}

impl Coverage {
    /// Share seen, 0–1; 1 when nothing was to be seen, None when the kernel's count is not known.
    pub fn ratio(&self) -> Option<f64> {
        match self.counted? {
            0 => Some(1.0),
            // A connection may be seen a moment before it is counted.
            counted => Some((self.seen as f64 / counted as f64).min(1.0)),
        }
    }
}
