//! How a socket came by its local port, as far as somebody who follows it over time knows.

/// How a TCP connection came by its local port: what decides whether other connect() calls may share it, and whose program
/// might save ports.
///
/// That somebody bound by number the kernel tells when it is asked (the filter op AUTO); between connect() and bind() with port
/// 0 it tells apart only where IP_BIND_ADDRESS_NO_PORT is set. For the others the half of the range is what there is to
/// go by: connect() begins with the ports of the parity of the range's first one, bind() with the others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u16)]
pub enum PortOrigin {
    /// Not known: it was never seen alive, its port is not of the range, or what tells the others apart was not the case.
    Unknown,
    /// Bound by number: every connect() skips the port, the TIME_WAIT included.
    Bound,
    /// Accepted on a listener's port: the same, also when the listener is gone.
    Accepted,
    /// connect() chose it: the program asked bind() not to (IP_BIND_ADDRESS_NO_PORT).
    Chosen,
    /// Probably connect() chose it: it is of the half that connect() takes first.
    Preferred,
    /// Probably bind() with port 0 did: it is of the other half, while connect() had ports left in its own.
    OtherHalf,
}

impl PortOrigin {
    /// In the order of their declaration.
    pub const ALL: [PortOrigin; 6] = [
        PortOrigin::Unknown,
        PortOrigin::Bound,
        PortOrigin::Accepted,
        PortOrigin::Chosen,
        PortOrigin::Preferred,
        PortOrigin::OtherHalf,
    ];
}
