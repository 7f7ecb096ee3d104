//! How a socket came by its local port, as far as somebody who follows it over time knows.

/// How a socket came by its local port: what decides whether other connect() calls may share it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PortOrigin {
    /// Not known: the evidence of the sweep decides.
    #[default]
    Unknown,
    /// connect() chose it: other destinations share it.
    Chosen,
    /// Bound explicitly: every connect() skips it, its TIME_WAIT included.
    Bound,
    /// Accepted on a listener's port: the same.
    Accepted,
}
