//! What an operator should know about a report, and what the report doubts about itself.

use std::fmt;
use std::net::IpAddr;

use sock_diag::{Protocol, SocketState};

use crate::destination::DestinationId;
use crate::fold::nearly_full;
use crate::report::Report;
use crate::settings::{Counters, Settings, TwReuse};

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
            Warning::UdpPool { .. } => "udp_pool",
            Warning::CloseWait { .. } => "close_wait",
            Warning::TimeWaitOverflow { .. } => "time_wait_overflow",
            Warning::SweepRaced { .. } => "sweep_raced",
            Warning::Malformed { .. } => "malformed",
            Warning::SettingUnknown { .. } => "setting_unknown",
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let and = |others: u32| match others {
            0 => String::new(),
            1 => " (and 1 more destination)".to_owned(),
            more => format!(" (and {more} more destinations)"),
        };
        match self {
            Warning::NoUsablePorts { range, reserved, held } => write!(
                f,
                "no port of {range} is left to connect(): {reserved} are reserved, {held} held; widen \
                 net.ipv4.ip_local_port_range or shorten ip_local_reserved_ports"
            ),
            Warning::Exhausted { destination, in_use, time_wait, others } => write!(
                f,
                "{destination} is exhausted{}: {in_use} ports in use, {time_wait} in TIME_WAIT; connect() fails with \
                 EADDRNOTAVAIL; reuse connections, or add a local or remote address",
                and(*others)
            ),
            Warning::NearlyExhausted { destination, headroom, usable, others } => write!(
                f,
                "{destination} is nearly exhausted{}: {headroom} of {usable} ports left; reuse connections, widen \
                 net.ipv4.ip_local_port_range, or add a local or remote address",
                and(*others)
            ),
            Warning::ParityCliff { destination, in_use, usable, others } => write!(
                f,
                "{destination} is past 50 % of the pool{} ({in_use} of {usable} ports): connect() now searches both \
                 halves and slows down; widen net.ipv4.ip_local_port_range or reuse connections",
                and(*others)
            ),
            Warning::BindBeforeConnect { destination, suspected, in_use, ports } => write!(
                f,
                "a program seems to bind before it connects: {suspected} of {in_use} ports towards {destination} are \
                 ones that connect() would not choose; {ports} ports may be lost to every other destination; set \
                 IP_BIND_ADDRESS_NO_PORT"
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
            Warning::TimeWaitOverflow { time_wait, limit, dropped } => {
                write!(
                    f,
                    "TIME_WAIT is at its limit ({time_wait} of net.ipv4.tcp_max_tw_buckets = {limit}): closes are \
                     undercounted"
                )?;
                match dropped {
                    Some(dropped) => write!(f, "; {dropped} were dropped so far"),
                    None => Ok(()),
                }
            }
            Warning::SweepRaced { duplicates, interrupted } => write!(
                f,
                "sockets changed while they were read: {duplicates} were told twice and counted once, {interrupted} \
                 dumps were interrupted; as many may have been missed"
            ),
            Warning::Malformed { records } => {
                write!(f, "{records} messages could not be read as sockets and are not counted")
            }
            Warning::SettingUnknown { setting, assumed } => write!(f, "cannot read {setting}: {assumed}"),
        }
    }
}

/// What went wrong while sweeping.
pub(crate) struct SweepDoubts {
    pub(crate) duplicates: u64,
    pub(crate) interrupted: u32,
    pub(crate) malformed: u64,
}

/// Fewer suspected ports than this are some server's own business.
const MANY_SUSPECTS: u32 = 16;
const MANY_CLOSE_WAIT: u32 = 500;

/// The warnings a report deserves, worst first. Its destinations are sorted by ports in use.
pub(crate) fn judge(
    report: &Report,
    settings: &Settings,
    counters: &Counters,
    doubts: &SweepDoubts,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let pool = &report.tcp;
    if pool.usable == 0 {
        let range = pool.pool.range().count();
        warnings.push(Warning::NoUsablePorts { range, reserved: pool.reserved, held: pool.held });
    } else {
        judge_destinations(report, &mut warnings);
    }
    if report.udp.occupancy() >= 0.9
        && let Some(worst) = report.udp.addresses.first()
    {
        let (in_use, usable) = (report.udp.in_use, report.udp.usable);
        warnings.push(Warning::UdpPool { local_address: worst.local_address, in_use, usable });
    }
    let close_wait = report.sockets.in_state(Protocol::Tcp, SocketState::CloseWait);
    let live = report.outgoing.live + report.incoming.live + report.other.live;
    if close_wait >= MANY_CLOSE_WAIT && close_wait >= live / 10 {
        warnings.push(Warning::CloseWait { sockets: close_wait });
    }
    let time_wait = report.sockets.in_state(Protocol::Tcp, SocketState::TimeWait);
    if let Some(limit) = settings.max_tw_buckets
        && time_wait > 0
        && u64::from(time_wait) * 20 >= u64::from(limit) * 19
    {
        let dropped = counters.time_wait_overflow;
        warnings.push(Warning::TimeWaitOverflow { time_wait, limit, dropped });
    }
    if doubts.duplicates > 0 || doubts.interrupted > 0 {
        let SweepDoubts { duplicates, interrupted, .. } = *doubts;
        warnings.push(Warning::SweepRaced { duplicates, interrupted });
    }
    if doubts.malformed > 0 {
        warnings.push(Warning::Malformed { records: doubts.malformed });
    }
    judge_settings(settings, &mut warnings);
    warnings
}

/// A destination is exhausted, or nearly, or past half: the worst word holds.
fn judge_destinations(report: &Report, warnings: &mut Vec<Warning>) {
    let usable = report.tcp.usable;
    let nearly = |headroom: u32| u64::from(headroom) * 10 <= u64::from(usable);
    let (mut exhausted, mut scarce, mut past_half) = (Group::default(), Group::default(), Group::default());
    for (index, destination) in report.destinations.iter().enumerate() {
        if destination.is_exhausted() {
            exhausted.add(index, destination.in_use);
        } else if nearly(destination.headroom.max) {
            scarce.add(index, usable - destination.headroom.max);
        } else if destination.in_use > usable / 2 {
            past_half.add(index, destination.in_use);
        }
    }
    if let Some((index, others)) = exhausted.worst() {
        let worst = &report.destinations[index];
        let (in_use, time_wait) = (worst.in_use, worst.traffic.time_wait);
        warnings.push(Warning::Exhausted { destination: worst.id, in_use, time_wait, others });
    }
    if let Some((index, others)) = scarce.worst() {
        let worst = &report.destinations[index];
        let headroom = worst.headroom.max;
        warnings.push(Warning::NearlyExhausted { destination: worst.id, headroom, usable, others });
    }
    if let Some((index, others)) = past_half.worst() {
        let worst = &report.destinations[index];
        warnings.push(Warning::ParityCliff { destination: worst.id, in_use: worst.in_use, usable, others });
    }
    judge_binding(report, warnings);
}

/// Someone binds before connecting where many ports are taken in the half that connect() leaves for last, and the
/// preferred half has room. When both are full, parity says nothing.
fn judge_binding(report: &Report, warnings: &mut Vec<Warning>) {
    let pool = &report.tcp;
    let preferred =
        pool.pool.count_preferred(pool.pool.ports()) - pool.pool.count_preferred(&pool.held_ports);
    let mut binding = Group::default();
    let mut suspected = 0;
    for (index, destination) in report.destinations.iter().enumerate() {
        let odd = destination.suspects_in_use.min(destination.in_use - destination.in_use_preferred);
        if odd > 0 && !nearly_full(destination.in_use_preferred, preferred) {
            binding.add(index, odd);
            suspected += odd;
        }
    }
    if let Some((worst, index)) = binding.worst.filter(|_| suspected >= MANY_SUSPECTS) {
        let destination = &report.destinations[index];
        warnings.push(Warning::BindBeforeConnect {
            destination: destination.id,
            suspected: worst,
            in_use: destination.in_use,
            ports: pool.suspects.count(),
        });
    }
}

/// The worst of some destinations, the first of equals, and how many there are.
#[derive(Default)]
struct Group {
    worst: Option<(u32, usize)>,
    count: u32,
}

impl Group {
    fn add(&mut self, index: usize, badness: u32) {
        self.count += 1;
        if self.worst.is_none_or(|(worst, _)| badness > worst) {
            self.worst = Some((badness, index));
        }
    }

    fn worst(&self) -> Option<(usize, u32)> {
        self.worst.map(|(_, index)| (index, self.count - 1))
    }
}

fn judge_settings(settings: &Settings, warnings: &mut Vec<Warning>) {
    let mut unknown = |is_unknown: bool, setting, assumed| {
        if is_unknown {
            warnings.push(Warning::SettingUnknown { setting, assumed });
        }
    };
    unknown(
        settings.port_range.is_none(),
        "net.ipv4.ip_local_port_range",
        "the kernel's default 32768–60999 is assumed",
    );
    unknown(
        settings.reserved_ports.is_none(),
        "net.ipv4.ip_local_reserved_ports",
        "no port is assumed to be reserved",
    );
    unknown(
        settings.tw_reuse == TwReuse::Unknown,
        "net.ipv4.tcp_tw_reuse",
        "whether TIME_WAIT ports may be reused is left open",
    );
    unknown(
        settings.timestamps.is_none(),
        "net.ipv4.tcp_timestamps",
        "whether TIME_WAIT ports may be reused is left open",
    );
}
