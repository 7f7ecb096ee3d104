//! Whether connect() takes over TIME_WAIT sockets of a destination once they are old enough: the rules of
//! `tcp_twsk_unique()`, as far as settings and addresses tell what they ask. How old they are is the caller's matter.

use std::net::IpAddr;

use crate::settings::{Settings, TwReuse};

/// The reuse delay before Linux 6.14, where it was at most this, milliseconds.
pub(crate) const OLD_DELAY_MS: u32 = 1_000;

/// Whether connect() takes over TIME_WAIT sockets between two addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reuse {
    /// It never does.
    Never,
    /// It does if the peer uses timestamps, as it certainly does if it is this very host.
    IfPeerIsUs,
    /// It may; settings do not tell.
    Unclear,
    /// It does.
    Certain,
}

impl Reuse {
    /// Between these addresses, v4-mapped ones as IPv4. `on_loopback`: the socket is bound to the loopback device.
    pub(crate) fn between(local: IpAddr, remote: IpAddr, on_loopback: bool, settings: &Settings) -> Reuse {
        let loopback = on_loopback || local.is_loopback() || remote.is_loopback();
        match (settings.timestamps, settings.tw_reuse) {
            (Some(false), _) | (_, TwReuse::Off) => Reuse::Never,
            (_, TwReuse::LoopbackOnly) if !loopback => Reuse::Never,
            (None, _) | (_, TwReuse::Unknown) => Reuse::Unclear,
            // Only a peer that is this very host certainly uses timestamps when we do.
            _ if loopback || local == remote => Reuse::Certain,
            _ => Reuse::IfPeerIsUs,
        }
    }
}
