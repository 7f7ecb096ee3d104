//! Which warnings a report deserves.

use sock_diag::{Protocol, SocketState};

use crate::fold::nearly_full;
use crate::report::Report;
use crate::settings::{Counters, Settings, TwReuse};
use crate::stuck::Holders;
use crate::warning::Warning;

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
    judge_bound(report, warnings);
}

/// What explicit binds take, and what is left to them.
fn judge_bound(report: &Report, warnings: &mut Vec<Warning>) {
    let pool = &report.tcp;
    let most = pool.bindable.iter().max_by_key(|on| (on.explicit, std::cmp::Reverse(on.local_address)));
    if let Some(on) = most.filter(|_| pool.explicit >= MANY_SUSPECTS) {
        let (local_address, ports, all) = (on.local_address, on.explicit, pool.explicit);
        let holders = Holders::default();
        warnings.push(Warning::BoundPorts { local_address, ports, all, holders });
    }
    // Only where somebody does bind: connect() alone may use every port for each destination.
    let binds = pool.explicit > 0 || report.bound_sockets > 0;
    let ports = pool.pool.ports().count();
    let least = pool.bindable.iter().filter(|on| !on.local_address.is_unspecified()).min_by_key(|on| on.max);
    if let Some(on) = least.filter(|on| binds && on.max * 10 <= ports) {
        warnings.push(Warning::BindPool { local_address: on.local_address, headroom: on.max, ports });
    }
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
            holders: Holders::default(),
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
