//! Where the ports of a range have gone for one destination, and what would give it more.
//!
//! Core's numbers as reasons that add up; how they are shown is for the renderers.

use sockeye_core::{Destination, Doubt, PortRange, Report, Settings, TwReuse};

/// The ports of the range, taken away reason by reason: what is left after `certain` is the headroom's upper bound, after
/// `perhaps` the lower.
#[derive(Debug)]
pub(crate) struct Account {
    /// Ports of the range.
    pub(crate) range: u32,
    pub(crate) certain: Vec<Reason>,
    pub(crate) perhaps: Vec<Reason>,
    /// What would give more ports, most first. Empty while half of them are free.
    pub(crate) remedies: Vec<Remedy>,
}

/// Why some ports are not free.
#[derive(Debug)]
pub(crate) struct Reason {
    pub(crate) id: &'static str,
    pub(crate) ports: u32,
    pub(crate) message: String,
}

/// Something to do.
#[derive(Debug)]
pub(crate) struct Remedy {
    pub(crate) id: &'static str,
    /// At most so many ports more.
    pub(crate) ports: u32,
    /// What to type; None where a program has to be changed.
    pub(crate) command: Option<String>,
    pub(crate) message: String,
}

impl Account {
    pub(crate) fn of(report: &Report, destination: &Destination, settings: &Settings) -> Account {
        let (pool, headroom) = (&report.tcp, &destination.headroom);
        // Ports that no other connect() to it gets, in TIME_WAIT as far as there are such sockets.
        let taken = pool.usable - headroom.max;
        let reusable = headroom.reusable_time_wait + headroom.undecided_time_wait;
        let waiting = taken.min(destination.traffic.time_wait.saturating_sub(reusable));
        let certain = [
            ("reserved", pool.reserved, "reserved (net.ipv4.ip_local_reserved_ports)"),
            ("listeners", pool.held_by.listeners, "held by listeners"),
            (
                "bound_by_number",
                pool.held_by.bound_by_number,
                "held by connected sockets that bound their port",
            ),
            ("bound", pool.held_by.bound, "held by sockets that are bound and not connected"),
            ("live", taken - waiting, "in use by connections to this destination"),
            ("time_wait", waiting, "in TIME_WAIT towards this destination, each for up to 60 s"),
        ];
        let certain = certain.into_iter().filter(|(_, ports, _)| *ports > 0);
        let mut account = Account {
            range: pool.pool.range().count(),
            certain: certain
                .map(|(id, ports, text)| Reason { id, ports, message: text.to_owned() })
                .collect(),
            perhaps: headroom.doubts().map(perhaps).collect(),
            remedies: Vec::new(),
        };
        if headroom.min <= pool.usable / 2 {
            account.remedies = remedies(report, destination, settings, waiting);
        }
        account
    }
}

fn perhaps(doubt: Doubt) -> Reason {
    let (ports, message) = match doubt {
        Doubt::TimeWait { ports } => (
            ports,
            "in TIME_WAIT and perhaps reusable: whether the peer uses timestamps, or our settings, are unknown",
        ),
        Doubt::Binding { ports } => {
            (ports, "in use elsewhere, perhaps bound before connecting, and then skipped")
        }
        Doubt::OddRange => (1, "perhaps never tried: the range has an odd number of ports"),
    };
    Reason { id: doubt.id(), ports, message: message.to_owned() }
}

fn remedies(report: &Report, destination: &Destination, settings: &Settings, waiting: u32) -> Vec<Remedy> {
    let (pool, headroom) = (&report.tcp, &destination.headroom);
    let mut remedies = Vec::new();
    let range = pool.pool.range();
    // Below are the ports of servers.
    let wide = PortRange { first: range.first.min(1024), last: u16::MAX };
    let wider = Settings { port_range: Some(wide), ..settings.clone() };
    let more = wider.pool().ports().count().saturating_sub(pool.pool.ports().count());
    if more > 0 {
        remedies.push(Remedy {
            id: "port_range",
            ports: more,
            command: Some(format!("sysctl -w net.ipv4.ip_local_port_range='{} {}'", wide.first, wide.last)),
            message: "reserve the ports of your own servers with net.ipv4.ip_local_reserved_ports".to_owned(),
        });
    }
    let reuse_is_off = matches!(settings.tw_reuse, TwReuse::Off | TwReuse::LoopbackOnly);
    if waiting > 0 && reuse_is_off && settings.timestamps != Some(false) && !is_reused(destination, settings)
    {
        remedies.push(Remedy {
            id: "tw_reuse",
            ports: waiting,
            command: Some("sysctl -w net.ipv4.tcp_tw_reuse=1".to_owned()),
            message:
                "connect() then takes over a TIME_WAIT about 1 s after its close, if the peer uses timestamps"
                    .to_owned(),
        });
    }
    if pool.reserved > 0 {
        remedies.push(Remedy {
            id: "reserved_ports",
            ports: pool.reserved,
            command: None,
            message: "reserve fewer ports in net.ipv4.ip_local_reserved_ports".to_owned(),
        });
    }
    if headroom.suspected_ports > 0 {
        remedies.push(Remedy {
            id: "bind_address_no_port",
            ports: headroom.suspected_ports,
            command: None,
            message: "set IP_BIND_ADDRESS_NO_PORT in programs that bind an address before they connect"
                .to_owned(),
        });
    }
    let live = (pool.usable - headroom.max).saturating_sub(waiting);
    if live > 0 {
        remedies.push(Remedy {
            id: "local_address",
            ports: pool.usable,
            command: None,
            message:
                "connect from one more local address, or to one more remote one: each has a pool of its own"
                    .to_owned(),
        });
    }
    remedies.sort_by_key(|remedy| std::cmp::Reverse(remedy.ports));
    remedies
}

/// Whether connect() takes over TIME_WAIT sockets towards this destination already, once they are old enough.
fn is_reused(destination: &Destination, settings: &Settings) -> bool {
    sockeye_core::Kept::of(settings, &destination.id).min_s < 60.0
}
