//! What an operator should know about a report, and what the report doubts about itself.
//!
//! When each is due is decided in [`judge`](crate::judge).

use std::fmt;
use std::net::IpAddr;

use crate::destination::DestinationId;
use crate::stuck::{Holders, Stuck};

/// One remark, with its numbers. Where many destinations are concerned it names the worst and counts the others.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Warning {
    /// No port of the range is left to automatic choice.
    NoUsablePorts {
        /// Ports in the range.
        range: u32,
        /// Of these, reserved.
        reserved: u32,
        /// Of these, held by listeners and bound sockets.
        held: u32,
    },
    /// connect() to a destination fails now.
    Exhausted {
        /// The one with the most ports in use.
        destination: DestinationId,
        /// Its ports in use.
        in_use: u32,
        /// Of these, in TIME_WAIT.
        time_wait: u32,
        /// How many more are exhausted.
        others: u32,
    },
    /// A tenth of the ports or less is left towards a destination.
    NearlyExhausted {
        /// The one with the least headroom.
        destination: DestinationId,
        /// At most so many more connect() succeed.
        headroom: u32,
        /// Out of so many.
        usable: u32,
        /// How many more have so little left.
        others: u32,
    },
    /// A destination uses more than half of the ports: connect() finds its preferred half full.
    ParityCliff {
        /// The one that uses the most.
        destination: DestinationId,
        /// Its ports in use.
        in_use: u32,
        /// Out of so many.
        usable: u32,
        /// How many more are past half.
        others: u32,
    },
    /// Sockets sit on ports that connect() would not have chosen: someone binds before connecting.
    BindBeforeConnect {
        /// Towards whom most of them go.
        destination: DestinationId,
        /// So many of its ports in use …
        suspected: u32,
        /// … out of these.
        in_use: u32,
        /// Ports that are suspected in all: each is lost to every destination.
        ports: u32,
        /// Who has those sockets. The caller's to find out.
        holders: Holders,
    },
    /// Programs bind ports before they connect, as the kernel says: every other connect() skips these.
    BoundPorts {
        /// The local address with the most of them …
        local_address: IpAddr,
        /// … and how many it has.
        ports: u32,
        /// How many there are in all.
        all: u32,
        /// Who has such sockets. The caller's to find out.
        holders: Holders,
    },
    /// bind() with port 0 on a local address has a tenth of the ports left, or less.
    BindPool {
        /// The address with the least.
        local_address: IpAddr,
        /// At most so many bind() succeed.
        headroom: u32,
        /// Out of so many.
        ports: u32,
    },
    /// The UDP pool is nine tenths full or more.
    UdpPool {
        /// The fullest address.
        local_address: IpAddr,
        /// Ports taken on any address.
        in_use: u32,
        /// Out of so many.
        usable: u32,
    },
    /// Many connections that the peer has closed and the application here has not.
    CloseWait {
        /// How many.
        sockets: u32,
    },
    /// Sockets have been for long in a state that none should be in for long.
    Stuck(Stuck),
    /// TIME_WAIT sockets are dropped early: closes are undercounted.
    TimeWaitOverflow {
        /// TIME_WAIT sockets now.
        time_wait: u32,
        /// `tcp_max_tw_buckets`.
        limit: u32,
        /// Dropped since the namespace was made, where known.
        dropped: Option<u64>,
    },
    /// The dump raced with changes: sockets were told twice, others may have been missed.
    SweepRaced {
        /// Records told twice; they are counted once.
        duplicates: u64,
        /// Dumps the kernel called interrupted.
        interrupted: u32,
    },
    /// Messages that could not be read as records.
    Malformed {
        /// How many.
        records: u64,
    },
    /// A setting could not be read.
    SettingUnknown {
        /// Its sysctl.
        setting: &'static str,
        /// What is done without it.
        assumed: &'static str,
    },
}

impl Warning {
    /// Its name in JSON and metrics.
    pub const fn id(&self) -> &'static str {
        match self {
            Warning::NoUsablePorts { .. } => "no_usable_ports",
            Warning::Exhausted { .. } => "exhausted",
            Warning::NearlyExhausted { .. } => "nearly_exhausted",
            Warning::ParityCliff { .. } => "parity_cliff",
            Warning::BindBeforeConnect { .. } => "bind_before_connect",
            Warning::BoundPorts { .. } => "bound_ports",
            Warning::BindPool { .. } => "bind_pool",
            Warning::UdpPool { .. } => "udp_pool",
            Warning::CloseWait { .. } => "close_wait",
            Warning::Stuck(stuck) => stuck.kind.id(),
            Warning::TimeWaitOverflow { .. } => "time_wait_overflow",
            Warning::SweepRaced { .. } => "sweep_raced",
            Warning::Malformed { .. } => "malformed",
            Warning::SettingUnknown { .. } => "setting_unknown",
        }
    }
}

impl Warning {
    /// Whether it is the report's doubt about itself, and says nothing of the host's ports and sockets.
    pub const fn is_doubt(&self) -> bool {
        matches!(
            self,
            Warning::TimeWaitOverflow { .. }
                | Warning::SweepRaced { .. }
                | Warning::Malformed { .. }
                | Warning::SettingUnknown { .. }
        )
    }

    /// Who has the sockets it is about, as far as the caller has found out. None where nobody would be asked.
    pub fn holders(&self) -> Option<&Holders> {
        match self {
            Warning::BindBeforeConnect { holders, .. } | Warning::BoundPorts { holders, .. } => Some(holders),
            Warning::Stuck(stuck) => Some(&stuck.holders),
            _ => None,
        }
    }

    /// The same, to be filled in.
    pub fn holders_mut(&mut self) -> Option<&mut Holders> {
        match self {
            Warning::BindBeforeConnect { holders, .. } | Warning::BoundPorts { holders, .. } => Some(holders),
            Warning::Stuck(stuck) => Some(&mut stuck.holders),
            _ => None,
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::NoUsablePorts { range, reserved, held } => write!(
                f,
                "none of the {range} ports is left to connect() (reserved {reserved}, held {held}); widen \
                 net.ipv4.ip_local_port_range or shorten ip_local_reserved_ports"
            ),
            Warning::Exhausted { destination, in_use, time_wait, others } => write!(
                f,
                "{} exhausted, with {in_use} ports in use, {time_wait} of them in TIME_WAIT: connect() fails with \
                 EADDRNOTAVAIL; reuse connections, or add a local or remote address",
                are(destination, *others)
            ),
            Warning::NearlyExhausted { destination, headroom, usable, others } => write!(
                f,
                "{} nearly exhausted, with {headroom} of {usable} ports left; reuse connections, widen \
                 net.ipv4.ip_local_port_range, or add a local or remote address",
                are(destination, *others)
            ),
            Warning::ParityCliff { destination, in_use, usable, others } => write!(
                f,
                "{} past 50 % of the pool, with {in_use} of {usable} ports in use: connect() now searches both \
                 halves and slows down; widen net.ipv4.ip_local_port_range or reuse connections",
                are(destination, *others)
            ),
            Warning::BindBeforeConnect { destination, suspected, in_use, ports, holders } => write!(
                f,
                "a program seems to bind before it connects: {suspected} of {in_use} ports towards {destination} are \
                 ones that connect() would not choose{}; {ports} ports may be lost to every other destination; set \
                 IP_BIND_ADDRESS_NO_PORT",
                Clause(holders, *suspected)
            ),
            Warning::BoundPorts { local_address, ports, all, holders } => write!(
                f,
                "{all} ports are held by connections that bound them before connecting, {ports} of them on {local_address}: \
                 every other connect() skips these{}; leave the port to connect() (IP_BIND_ADDRESS_NO_PORT, port 0)",
                Clause(holders, *all)
            ),
            Warning::BindPool { local_address, headroom, ports } => write!(
                f,
                "bind() with port 0 on {local_address} finds {headroom} of {ports} ports, whatever it connects to then, and \
                 fails with EADDRINUSE at 0; leave the port to connect() (IP_BIND_ADDRESS_NO_PORT)"
            ),
            Warning::UdpPool { local_address, in_use, usable } => write!(
                f,
                "UDP has {in_use} of {usable} ports in use, most on {local_address}; sockets without a port of their \
                 own soon get EAGAIN; reuse sockets or widen net.ipv4.ip_local_port_range"
            ),
            Warning::CloseWait { sockets } => write!(
                f,
                "{sockets} sockets are in CLOSE-WAIT: the peer has closed and a program here has not; look for \
                 connections it leaks"
            ),
            Warning::Stuck(stuck) => stuck.fmt(f),
            Warning::TimeWaitOverflow { time_wait, limit, dropped } => {
                write!(
                    f,
                    "TIME_WAIT is at its limit ({time_wait} of net.ipv4.tcp_max_tw_buckets = {limit}): closes are \
                     undercounted"
                )?;
                match dropped {
                    Some(dropped) => write!(f, "; dropped so far: {dropped}"),
                    None => Ok(()),
                }
            }
            Warning::SweepRaced { duplicates, interrupted } => write!(
                f,
                "sockets changed while they were read (told twice and counted once: {duplicates}, dumps interrupted: \
                 {interrupted}); as many may have been missed"
            ),
            Warning::Malformed { records } => {
                write!(f, "messages that could not be read as sockets, and are not counted: {records}")
            }
            Warning::SettingUnknown { setting, assumed } => write!(f, "cannot read {setting}: {assumed}"),
        }
    }
}

/// Holders of so many sockets behind a semicolon, where there are any.
struct Clause<'a>(&'a Holders, u32);

impl fmt::Display for Clause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.found.is_empty() {
            true => Ok(()),
            false => write!(f, "; {}", self.0.of(self.1)),
        }
    }
}

/// `tcp 10.0.0.7 → 10.0.9.12:8080 is`, or with others `… (and 2 more destinations) is`: the numbers that follow are the
/// first one's.
fn are(destination: &DestinationId, others: u32) -> String {
    match others {
        0 => format!("{destination} is"),
        1 => format!("{destination} (and 1 more destination) is"),
        more => format!("{destination} (and {more} more destinations) is"),
    }
}
