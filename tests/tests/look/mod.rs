//! One look at the calling process's namespace through the library, taken as the snapshot takes it.
#![allow(dead_code, reason = "every test program takes the part it needs")]

use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Duration;

use sock_diag::filter::{Filter, PortRangeOnly};
use sock_diag::{
    DumpRequest, DumpSummary, Kernel, Protocol, RecvBuffer, SocketRecord, SocketState, Source, StateSet, dump,
};
use sockeye_core::{
    Counters, DestinationId, Headroom, PortRange, PortSet, Report, Settings, Settled, Sweep, TwReuse,
};
use sockeye_host::{Host, probe_ports};

/// The records a dump hands on, and its summary.
pub(crate) fn dumped(source: &mut dyn Source, request: &DumpRequest<'_>) -> (Vec<SocketRecord>, DumpSummary) {
    let mut records = Vec::new();
    let summary = dump(source, request, &mut RecvBuffer::new(), |diag| {
        records.push(diag.to_record());
        ControlFlow::Continue(())
    });
    (records, summary.unwrap_or_else(|error| panic!("{request:?}: {error}")))
}

/// What the kernel answers to a request.
pub(crate) fn records(request: &DumpRequest<'_>) -> Vec<SocketRecord> {
    dumped(&mut Kernel::open().unwrap(), request).0
}

/// The namespace's settings as core takes them.
pub(crate) fn settings() -> Settings {
    let host = Host::read();
    assert!(host.unread.is_empty(), "{:?}", host.unread);
    let settings = host.settings;
    let range = settings.ip_local_port_range.unwrap();
    Settings {
        port_range: Some(PortRange { first: *range.start(), last: *range.end() }),
        reserved_ports: settings.ip_local_reserved_ports.map(PortSet::from_ranges),
        tw_reuse: settings.tcp_tw_reuse.map_or(TwReuse::Unknown, TwReuse::from_raw),
        tw_reuse_delay_ms: settings.tcp_tw_reuse_delay_ms,
        timestamps: settings.tcp_timestamps,
        max_tw_buckets: settings.tcp_max_tw_buckets,
    }
}

/// A sweep of TCP and UDP, folded.
pub(crate) fn report() -> Report {
    sweep().finish(&Counters::default())
}

/// The same, and the kernel was asked which of the ports in use every connect() skips.
pub(crate) fn probed_report() -> Report {
    sweep().finish_settled(&Counters::default(), |ports| {
        let probed = probe_ports(ports.iter(), Duration::from_secs(10)).unwrap();
        assert_eq!(probed.unasked, 0);
        let set = |ports: Vec<u16>| ports.into_iter().collect();
        Settled { skipped: set(probed.skipped), shared: set(probed.shared) }
    })
}

/// A sweep of TCP and UDP, with all that the kernel tells when it is asked.
fn sweep() -> Sweep {
    let holders = StateSet::LISTEN.union(StateSet::BOUND_INACTIVE);
    let rest = StateSet::ALL.minus(holders);
    let connected = rest.minus(StateSet::of(&[SocketState::Close]));
    let mut kernel = Kernel::open().unwrap();
    let settings = settings();
    let range = settings.range();
    let mut sweep = Sweep::new(&settings);
    for (protocol, states) in [(Protocol::Tcp, holders), (Protocol::Tcp, connected), (Protocol::Udp, rest)] {
        let request = DumpRequest::all(protocol).states(states);
        let summary = dump(&mut kernel, &request, &mut RecvBuffer::new(), |diag| {
            sweep.observe(&diag.to_record());
            ControlFlow::Continue(())
        });
        let summary = summary.unwrap();
        assert_eq!((summary.foreign, summary.malformed, summary.interrupted), (0, 0, false));
    }
    let text = format!("sport = {}-{} and not autobound", range.first, range.last);
    let names = PortRangeOnly { first: range.first, last: range.last };
    let bound_by_number = Filter::parse(&text, &names).unwrap();
    let request = DumpRequest {
        filter: Some(&bound_by_number),
        ..DumpRequest::all(Protocol::Tcp).states(connected.minus(StateSet::of(&[SocketState::TimeWait])))
    };
    for record in records(&request) {
        sweep.observe_bound(record.id.local_port);
    }
    sweep
}

/// What a report says of connect() from `source` to `to`.
pub(crate) fn headroom(report: &Report, source: IpAddr, to: SocketAddr) -> Headroom {
    let id = DestinationId {
        protocol: Protocol::Tcp,
        local_address: source.to_canonical(),
        remote_address: to.ip().to_canonical(),
        remote_port: to.port(),
    };
    report.towards(&id).headroom
}
