//! How a socket came by its local port, as far as somebody who follows it over time knows.

/// How a socket came by its local port: what decides whether other connect() calls may share it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PortOrigin {
    /// Not known: the evidence of the sweep decides.
    Unknown,
    /// Bound by number: every connect() skips it, its TIME_WAIT included.
    Bound,
    /// Accepted on a listener's port: the same, also when the listener is gone.
    Accepted,
}
