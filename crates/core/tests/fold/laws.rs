//! Laws of the fold over random worlds, and its agreement with an obvious model.

use proptest::prelude::*;
use sock_diag::{Protocol, SocketRecord, SocketState};
use sockeye_core::{Counters, Destination, PortSet, Report, Settings, SortKey, Sweep};

use crate::model::{self, Model, Row};
use crate::world::{any_records, any_settings, busy_records, report};

fn records() -> impl Strategy<Value = Vec<SocketRecord>> {
    prop_oneof![any_records(), busy_records()]
}

/// Everything that must be conserved, in one place.
fn assert_conserved(report: &Report) -> Result<(), TestCaseError> {
    prop_assert_eq!(report.records - report.duplicates, u64::from(report.sockets.total()));
    let tcp = report.listener_sockets
        + report.bound_sockets
        + report.unbound_sockets
        + report.outgoing.sockets()
        + report.incoming.sockets()
        + report.other.sockets();
    prop_assert_eq!(tcp, report.sockets.of(Protocol::Tcp));
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::UdpLite, Protocol::Mptcp, Protocol::Unknown(1)] {
        let by_state: u32 = report.sockets.states(protocol).map(|(_, count)| count).sum();
        prop_assert_eq!(by_state, report.sockets.of(protocol));
    }
    let time_wait = report.outgoing.time_wait + report.incoming.time_wait + report.other.time_wait;
    prop_assert_eq!(time_wait, report.sockets.in_state(Protocol::Tcp, SocketState::TimeWait));
    let closes = report.outgoing.closes + report.incoming.closes + report.other.closes;
    prop_assert_eq!(closes, report.closes.total());
    prop_assert_eq!(report.closes.oldest_first().sum::<u32>(), closes);
    let rest = report.rest(0);
    prop_assert_eq!(rest.traffic, report.outgoing);
    prop_assert_eq!(
        report.tcp.pool.range().count(),
        report.tcp.reserved + report.tcp.held + report.tcp.usable
    );
    let held = report.tcp.held_by;
    prop_assert_eq!(held.listeners + held.bound_by_number + held.bound, report.tcp.held);
    let listening: PortSet = report.listeners.iter().map(|listener| listener.port).collect();
    prop_assert_eq!(held.listeners, report.tcp.held_ports.intersection(&listening).count());
    prop_assert_eq!(held.bound_by_number, report.tcp.explicit_ports.minus(&listening).count());
    prop_assert!(report.tcp.suspects.minus(report.tcp.pool.ports()).is_empty());
    prop_assert!(report.tcp.suspects.intersection(&report.tcp.held_ports).is_empty());
    for listener in &report.listeners {
        prop_assert_eq!(listener.curve.total(), listener.traffic.closes);
    }
    for destination in &report.destinations {
        assert_sound(report, destination)?;
    }
    Ok(())
}

fn assert_sound(report: &Report, destination: &Destination) -> Result<(), TestCaseError> {
    let headroom = destination.headroom;
    prop_assert!(destination.traffic.sockets() > 0);
    prop_assert!(destination.in_use <= report.tcp.usable);
    prop_assert!(destination.in_use_preferred <= destination.in_use);
    prop_assert!(destination.suspects_in_use <= destination.in_use);
    prop_assert!(headroom.min <= headroom.max && headroom.max <= report.tcp.usable);
    prop_assert!(headroom.max >= report.tcp.usable - destination.in_use);
    let doubt = headroom.undecided_time_wait + headroom.suspected_ports + u32::from(headroom.odd_range);
    prop_assert_eq!(headroom.max - headroom.min, doubt);
    prop_assert_eq!(headroom.is_exact(), headroom.doubts().count() == 0);
    prop_assert!((0.0..=1.0).contains(&destination.occupancy()));
    prop_assert_eq!(report.closes_of(destination).total(), destination.traffic.closes);
    prop_assert_eq!(report.destination(&destination.id), Some(destination));
    Ok(())
}

fn assert_as_modelled(
    report: &Report,
    settings: &Settings,
    records: &[SocketRecord],
) -> Result<(), TestCaseError> {
    let model = Model::new(settings, records);
    prop_assert_eq!(
        report.tcp.held_ports.iter().collect::<Vec<_>>(),
        model.held.iter().copied().collect::<Vec<_>>()
    );
    prop_assert_eq!(report.tcp.usable as usize, model.usable.len());
    let rows = model.rows();
    prop_assert_eq!(report.destinations.len(), rows.len());
    for destination in &report.destinations {
        let row = Row {
            id: destination.id,
            live: destination.traffic.live,
            time_wait: destination.traffic.time_wait,
            closes: destination.traffic.closes,
            in_use: destination.in_use,
            min: destination.headroom.min,
            max: destination.headroom.max,
        };
        prop_assert_eq!(Some(&row), rows.get(&destination.id));
    }
    let listening: Vec<u16> = report.listeners.iter().map(|listener| listener.port).collect();
    prop_assert_eq!(&listening, &model.listening.iter().copied().collect::<Vec<_>>());
    for listener in &report.listeners {
        let incoming = records.iter().filter(|r| {
            r.protocol == Protocol::Tcp
                && r.id.local_port == listener.port
                && !matches!(r.state, SocketState::Listen | SocketState::Close)
        });
        prop_assert_eq!(listener.traffic.sockets() as usize, incoming.count());
    }
    let orphans = records.iter().filter(|r| r.protocol == Protocol::Tcp && model::is_orphan(r)).count();
    prop_assert_eq!(report.orphans as usize, orphans);
    for address in &report.udp.addresses {
        prop_assert_eq!(address.in_use, model.udp_in_use(address.local_address));
    }
    prop_assert_eq!(report.udp.in_use, model.udp_in_use("::".parse().unwrap()));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// However records are dealt out to parts, the whole tells the same.
    #[test]
    fn parts_add_up(settings in any_settings(), records in records(), deal in prop::collection::vec(0..3usize, 1..50)) {
        let cookies: std::collections::HashSet<_> = records.iter().map(|r| r.id.cookie).collect();
        prop_assume!(cookies.len() == records.len());
        let mut whole = Sweep::new(&settings);
        let (first, rest) = records.split_at(records.len() / 4);
        first.iter().for_each(|record| whole.observe(record));
        let mut parts = [whole.part(), whole.part(), whole.part()];
        for (record, part) in rest.iter().zip(deal.iter().cycle()) {
            parts[*part].observe(record);
        }
        parts.into_iter().for_each(|part| whole.absorb(part));
        prop_assert_eq!(whole.finish(&Counters::default()), report(&settings, &records));
    }

    #[test]
    fn conserves_and_agrees_with_the_model(settings in any_settings(), records in records()) {
        let report = report(&settings, &records);
        assert_conserved(&report)?;
        assert_as_modelled(&report, &settings, &records)?;
    }

    #[test]
    fn order_does_not_matter(
        settings in any_settings(),
        (records, shuffled) in records().prop_flat_map(|r| (Just(r.clone()), Just(r).prop_shuffle())),
    ) {
        prop_assert_eq!(report(&settings, &records), report(&settings, &shuffled));
    }

    #[test]
    fn repeats_change_only_their_own_count(
        settings in any_settings(),
        records in records(),
        repeats in prop::collection::vec((any::<prop::sample::Index>(), 0usize..16), 1..20),
    ) {
        prop_assume!(!records.is_empty());
        let once = report(&settings, &records);
        // A raced dump tells a socket again a few records later. The window is of distinct cookies.
        let mut told: Vec<Vec<SocketRecord>> = vec![Vec::new(); records.len()];
        for (index, later) in &repeats {
            let at = index.index(records.len());
            told[(at + later).min(records.len() - 1)].push(records[at]);
        }
        let raced: Vec<_> =
            records.iter().zip(told).flat_map(|(record, again)| std::iter::once(*record).chain(again)).collect();
        let mut twice = report(&settings, &raced);
        prop_assert_eq!(twice.duplicates as usize, repeats.len());
        prop_assert_eq!(twice.warnings.iter().filter(|w| w.id() == "sweep_raced").count(), 1);
        twice.warnings.retain(|warning| warning.id() != "sweep_raced");
        twice.duplicates = 0;
        twice.records -= repeats.len() as u64;
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn sorting_is_total_and_worst_first(settings in any_settings(), records in records()) {
        let mut report = report(&settings, &records);
        let before = report.rest(0);
        for (key, _) in SortKey::ALL {
            report.destinations.reverse();
            report.sort_by(key);
            let sorted = report.destinations.clone();
            report.destinations.rotate_left(sorted.len() / 2);
            report.sort_by(key);
            prop_assert_eq!(&sorted, &report.destinations);
            for pair in sorted.windows(2) {
                let fine = match key {
                    SortKey::InUse => pair[0].in_use >= pair[1].in_use,
                    SortKey::Occupancy => pair[0].occupancy() >= pair[1].occupancy(),
                    SortKey::Closes => pair[0].traffic.closes >= pair[1].traffic.closes,
                    SortKey::Live => pair[0].traffic.live >= pair[1].traffic.live,
                    SortKey::TimeWait => pair[0].traffic.time_wait >= pair[1].traffic.time_wait,
                    SortKey::Headroom => pair[0].headroom.min <= pair[1].headroom.min,
                };
                prop_assert!(fine, "{key:?}: {:?} before {:?}", pair[0], pair[1]);
            }
        }
        prop_assert_eq!(before, report.rest(0));
    }
}
