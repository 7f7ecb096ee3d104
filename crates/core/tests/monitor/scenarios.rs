//! Single lives told one by one, where a law would not show what is meant.

use std::net::{Ipv4Addr, SocketAddr};

use sock_diag::fake::tcp_record;
use sock_diag::{Cookie, Protocol, SocketOptions, SocketRecord, SocketState, Timer, TimerKind};
use sockeye_core::{
    Churn, ClosedBy, Counters, Direction, Evidence, Lifetime, Moment, Monitor, OwnerId, PortOrigin,
    PortRange, Settings, TcpEnd, When,
};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 0, 9, 1);

fn monitor(events: bool) -> Monitor {
    let mut monitor = Monitor::new(&Settings::default(), &Counters::default(), Moment(0), events);
    monitor.keep_closed(true);
    sweep(&mut monitor, 0, &[]);
    monitor
}

/// A sweep that begins at `at` and takes 100 ms, and its tick.
fn sweep(monitor: &mut Monitor, at: u64, records: &[SocketRecord]) -> Churn {
    monitor.begin_sweep(Moment(at));
    records.iter().for_each(|record| {
        monitor.observe(record);
    });
    monitor.end_sweep(Moment(at + 100), &Counters::default());
    monitor.tick(Moment(at + 100)).churn.clone().unwrap()
}

fn socket(cookie: u64, state: SocketState, local_port: u16, remote_port: u16) -> SocketRecord {
    let mut record = tcp_record(
        state,
        SocketAddr::new(HERE.into(), local_port),
        SocketAddr::new(THERE.into(), remote_port),
    );
    record.id.cookie = Cookie(cookie);
    record
}

fn listener(cookie: u64, port: u16) -> SocketRecord {
    let mut record = socket(cookie, SocketState::Listen, port, 0);
    record.id.remote_address = Ipv4Addr::UNSPECIFIED.into();
    record
}

fn time_wait(cookie: u64, local_port: u16, age_ms: u32) -> SocketRecord {
    let mut record = socket(cookie, SocketState::TimeWait, local_port, 80);
    record.timer = Timer { kind: TimerKind::TimeWait, expires_ms: 60_000 - age_ms, retransmits: 0 };
    record
}

#[test]
fn an_event_that_waited_for_its_reader_meets_its_time_wait() {
    for (read, opened) in [(When::between(Moment(500), Moment(4_000)), 1), (When::at(Moment(4_000)), 2)] {
        let mut monitor = monitor(true);
        monitor.destroyed(&socket(5, SocketState::Close, 45_000, 80), end(3, true), read, OwnerId::UNKNOWN);
        // Closed at 600: what the event may tell of, or an earlier connection with the same ends.
        let churn = sweep(&mut monitor, 4_100, &[time_wait(6, 45_000, 3_500)]);
        assert_eq!((churn.tcp.opened, churn.tcp.closed), (opened, opened), "read {read:?}");
    }
}

#[test]
fn whoever_a_listener_accepted_keeps_its_port_when_it_is_gone() {
    let mut monitor = monitor(false);
    let accepted = socket(2, SocketState::Established, 40_000, 50_000);
    sweep(&mut monitor, 1_000, &[listener(1, 40_000), accepted]);
    for at in [2_000, 3_000] {
        monitor.begin_sweep(Moment(at));
        monitor.observe(&accepted);
        monitor.end_sweep(Moment(at + 100), &Counters::default());
        let report = monitor.tick(Moment(at + 100));
        let held: Vec<u16> = report.tcp.explicit_ports.iter().collect();
        assert_eq!((held, report.tcp.usable), (vec![40_000], 28_231), "at {at}");
    }
}

fn end(min_age_ms: u64, age_is_exact: bool) -> Option<TcpEnd> {
    Some(TcpEnd {
        established: Some(true),
        min_age_ms: Some(min_age_ms),
        age_is_exact,
        heard_ms: Some(0),
        ..TcpEnd::default()
    })
}

#[test]
fn a_brief_connection_of_a_young_listener_came_in() {
    let mut monitor = monitor(true);
    monitor.destroyed(
        &socket(5, SocketState::Close, 8_080, 40_000),
        end(3, true),
        Moment(500),
        OwnerId::UNKNOWN,
    );
    monitor.destroyed(
        &socket(6, SocketState::Close, 45_000, 40_000),
        end(3, true),
        Moment(500),
        OwnerId::UNKNOWN,
    );
    monitor.destroyed(
        &socket(7, SocketState::Close, 45_001, 80),
        end(3, true),
        Moment(500),
        OwnerId::UNKNOWN,
    );
    let churn = sweep(&mut monitor, 1_000, &[listener(8, 8_080), listener(9, 45_000)]);
    let counts = |flow: &sockeye_core::Flow| (flow.opened, flow.closed, flow.live());
    assert_eq!(counts(&churn.tcp), (3, 3, 0));
    assert_eq!(counts(&churn.incoming), (2, 2, 0));
    assert_eq!(counts(&churn.outgoing), (1, 1, 0));
}

#[test]
fn an_exact_age_is_all_the_lifetime_there_is() {
    let mut monitor = monitor(true);
    monitor.destroyed(
        &socket(5, SocketState::Close, 45_000, 80),
        end(250, true),
        Moment(900),
        OwnerId::UNKNOWN,
    );
    let [closed] = monitor.take_closed()[..] else { panic!("one close") };
    let Lifetime { min_ms, max_ms: Some(max_ms) } = closed.lifetime else { panic!("{closed:?}") };
    assert!((200..=250).contains(&min_ms) && (250..=300).contains(&max_ms), "{closed:?}");
    assert_eq!((closed.direction, closed.evidence), (Direction::Outgoing, Evidence::Event));
}

#[test]
fn an_age_that_cannot_be_is_ignored() {
    let mut monitor = monitor(true);
    sweep(&mut monitor, 1_000, &[socket(5, SocketState::Established, 45_000, 80)]);
    monitor.destroyed(
        &socket(5, SocketState::Close, 45_000, 80),
        end(4_000_000, true),
        Moment(1_500),
        OwnerId::UNKNOWN,
    );
    let [closed] = monitor.take_closed()[..] else { panic!("one close") };
    assert!(closed.lifetime.max_ms.is_some_and(|max_ms| max_ms <= 1_500), "{closed:?}");
}

#[test]
fn what_ended_before_the_watch_is_not_counted() {
    let mut monitor = monitor(true);
    // Its file was kept: the event comes late, and tells of a time before the start.
    monitor.destroyed(
        &socket(5, SocketState::Close, 45_000, 80),
        end(30_000, false),
        Moment(900),
        OwnerId::UNKNOWN,
    );
    let churn = sweep(&mut monitor, 1_000, &[time_wait(6, 45_001, 20_000)]);
    assert_eq!((churn.tcp.opened, churn.tcp.closed), (0, 0));
}

#[test]
fn listeners_bound_and_plain_sockets_are_no_connections() {
    let mut monitor = monitor(true);
    let mut bound = socket(6, SocketState::Close, 45_000, 0);
    bound.id.remote_address = Ipv4Addr::UNSPECIFIED.into();
    for record in [listener(5, 443), bound, SocketRecord { id: listener(7, 0).id, ..bound }] {
        monitor.destroyed(
            &record,
            Some(TcpEnd { established: Some(false), ..TcpEnd::default() }),
            Moment(500),
            OwnerId::UNKNOWN,
        );
    }
    let mut half_open = socket(9, SocketState::SynRecv, 443, 40_000);
    let churn = sweep(&mut monitor, 1_000, &[listener(8, 443), half_open]);
    assert_eq!((churn.tcp.opened, churn.tcp.closed), (0, 0));
    half_open.state = SocketState::Established;
    let churn = sweep(&mut monitor, 2_000, &[listener(8, 443), half_open]);
    assert_eq!((churn.tcp.opened, churn.incoming.opened, churn.tcp.live()), (1, 1, 1), "it is one now");
}

#[test]
fn a_socket_that_has_lost_its_port_is_on_its_way_out() {
    let mut monitor = monitor(true);
    let whole =
        [socket(5, SocketState::Established, 45_000, 80), socket(6, SocketState::Established, 443, 40_000)];
    sweep(&mut monitor, 1_000, &whole);
    let torn = whole.map(|mut record| {
        record.id.local_port = 0;
        record
    });
    let stranger = socket(7, SocketState::Established, 0, 80);
    monitor.begin_sweep(Moment(2_000));
    torn.iter().chain([&stranger]).for_each(|record| assert!(!monitor.observe(record)));
    let missing: Vec<u16> = monitor.missing(9).iter().map(|missing| missing.id.local_port).collect();
    assert_eq!(missing, [45_000, 443], "looked up by the ends they had");
    whole.iter().for_each(|record| monitor.settle(record.id.cookie, None, Moment(2_000)));
    monitor.end_sweep(Moment(2_000), &Counters::default());
    let churn = monitor.tick(Moment(2_000)).churn.clone().unwrap();
    assert_eq!((churn.tcp.opened, churn.tcp.closed, churn.tcp.live()), (2, 2, 0));
}

#[test]
fn an_attempt_that_was_refused_has_opened_and_closed() {
    let mut monitor = monitor(true);
    let mut refused = socket(5, SocketState::Close, 45_000, 0);
    refused.id.local_address = Ipv4Addr::UNSPECIFIED.into();
    let end = TcpEnd { established: Some(false), is_reset: true, ..TcpEnd::default() };
    monitor.destroyed(&refused, Some(end), Moment(500), OwnerId::UNKNOWN);
    let [closed] = monitor.take_closed()[..] else { panic!("one close") };
    assert_eq!((closed.closed_by, closed.direction), (ClosedBy::Reset, Direction::Outgoing));
}

#[test]
fn a_socket_that_connects_again_is_another_connection() {
    let mut monitor = monitor(false);
    sweep(&mut monitor, 1_000, &[socket(5, SocketState::Established, 45_000, 80)]);
    let churn = sweep(&mut monitor, 2_000, &[socket(5, SocketState::Established, 45_000, 81)]);
    assert_eq!((churn.tcp.opened, churn.tcp.closed, churn.tcp.live()), (2, 1, 1));
    let [closed] = monitor.take_closed()[..] else { panic!("one close") };
    assert_eq!(closed.remote.unwrap().port(), 80);
}

#[test]
fn who_closed_first_is_known_by_the_last_state() {
    let mut monitor = monitor(true);
    let states = [SocketState::FinWait1, SocketState::LastAck, SocketState::Established];
    let sockets: Vec<_> =
        (5..).zip(states).map(|(cookie, state)| socket(cookie, state, 45_000 + cookie as u16, 80)).collect();
    sweep(&mut monitor, 1_000, &sockets);
    for record in &sockets {
        monitor.destroyed(
            &SocketRecord { state: SocketState::Close, ..*record },
            end(100, false),
            Moment(1_500),
            OwnerId::UNKNOWN,
        );
    }
    let by: Vec<_> = monitor.take_closed().iter().map(|closed| closed.closed_by).collect();
    assert_eq!(by, [ClosedBy::Local, ClosedBy::Remote, ClosedBy::Unknown]);
}

#[test]
fn a_socket_that_one_sweep_has_missed_was_never_closed() {
    let mut monitor = monitor(false);
    let record = socket(5, SocketState::Established, 45_000, 80);
    sweep(&mut monitor, 1_000, &[record]);
    let churn = sweep(&mut monitor, 2_000, &[]);
    assert_eq!((churn.tcp.live(), churn.unconfirmed), (1, 1));
    let churn = sweep(&mut monitor, 3_000, &[record]);
    assert_eq!((churn.tcp.live(), churn.unconfirmed, churn.tcp.opened), (1, 0, 1));
    sweep(&mut monitor, 4_000, &[]);
    let churn = sweep(&mut monitor, 5_000, &[]);
    assert_eq!((churn.tcp.live(), churn.tcp.closed), (0, 1));
    let [closed] = monitor.take_closed()[..] else { panic!("one close") };
    assert_eq!(closed.evidence, Evidence::Sweeps);
    assert_eq!((closed.at.earliest, closed.at.latest), (Moment(3_000), Moment(4_100)));
}

#[test]
fn a_udp_socket_goes_on_when_it_connects() {
    let mut monitor = monitor(true);
    let udp = |state, remote_port| {
        let mut record = socket(5, state, 50_000, remote_port);
        record.protocol = Protocol::Udp;
        record
    };
    sweep(&mut monitor, 1_000, &[udp(SocketState::Close, 0)]);
    let churn = sweep(&mut monitor, 2_000, &[udp(SocketState::Established, 53)]);
    assert_eq!((churn.udp.opened, churn.udp.closed, churn.tcp.opened), (1, 0, 0));
    monitor.destroyed(&udp(SocketState::Close, 53), None, Moment(2_500), OwnerId::UNKNOWN);
    let mut never_bound = udp(SocketState::Close, 0);
    (never_bound.id.cookie, never_bound.id.local_port) = (Cookie(6), 0);
    monitor.destroyed(&never_bound, None, Moment(2_500), OwnerId::UNKNOWN);
    let churn = sweep(&mut monitor, 3_000, &[]);
    assert_eq!((churn.udp.opened, churn.udp.closed), (1, 1));
}

#[test]
fn namespaces_side_by_side_do_not_know_each_other() {
    let (mut one, mut other) = (monitor(true), monitor(true));
    sweep(&mut one, 1_000, &[socket(5, SocketState::Established, 45_000, 80)]);
    let churn = sweep(&mut other, 1_000, &[]);
    assert_eq!((churn.tcp.opened, churn.tcp.live()), (0, 0));
}

#[test]
fn what_is_known_of_a_brief_connection_is_whose_it_was() {
    let mut monitor = monitor(true);
    let who = OwnerId(9);
    monitor.destroyed(&socket(5, SocketState::Close, 45_000, 80), end(3, true), Moment(500), who);
    let closed = monitor.take_closed();
    assert_eq!((closed.len(), closed[0].owner), (1, who));
    monitor.tick(Moment(1_100));
    let rows = monitor.accounts();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((row.owner, row.live, row.rates.closes[0]), (who, 0, 1.0));
}

#[test]
fn how_a_port_was_got_is_remembered_into_time_wait() {
    let origins = |monitor: &Monitor| {
        let rows = monitor.origins();
        rows.iter().map(|row| (row.origin, row.live, row.time_wait)).collect::<Vec<_>>()
    };
    let mut monitor = monitor(false);
    let established = |cookie, port| socket(cookie, SocketState::Established, port, 80);
    let mut incoming = established(6, 8_080);
    incoming.id.remote_port = 50_000;
    let mut chosen = established(5, 40_005);
    // IP_BIND_ADDRESS_NO_PORT.
    chosen.options = Some(SocketOptions(1 << 8));
    let records = [
        listener(1, 8_080),
        established(2, 40_000),
        established(3, 40_001),
        established(4, 40_002),
        chosen,
        incoming,
        time_wait(7, 40_006, 2_000),
    ];
    monitor.begin_sweep(Moment(1_000));
    records.iter().for_each(|record| {
        monitor.observe(record);
    });
    monitor.observe_bound(Cookie(4), 40_002);
    // Whoever came in is on the listener's port, however that was got.
    monitor.observe_bound(Cookie(6), 8_080);
    monitor.end_sweep(Moment(1_100), &Counters::default());
    monitor.tick(Moment(1_100));
    let seen = [
        (PortOrigin::Unknown, 0, 1),
        (PortOrigin::Bound, 1, 0),
        (PortOrigin::Accepted, 1, 0),
        (PortOrigin::Chosen, 1, 0),
        (PortOrigin::Preferred, 1, 0),
        (PortOrigin::OtherHalf, 1, 0),
    ];
    assert_eq!(origins(&monitor), seen);
    // Six opened in that sweep, one of which was over; the bound one as what it turned out to be.
    let rates = |monitor: &Monitor, origin| {
        monitor.origins().iter().find(|row| row.origin == origin).map(|row| row.rates)
    };
    let of_bound = rates(&monitor, PortOrigin::Bound).unwrap();
    assert!(of_bound.opens[2] > 0.0 && of_bound.closes[2] == 0.0, "{of_bound:?}");
    assert_eq!(rates(&monitor, PortOrigin::Preferred).unwrap().opens, of_bound.opens);

    let left = [
        listener(1, 8_080),
        established(2, 40_000),
        time_wait(3, 40_001, 500),
        time_wait(4, 40_002, 500),
        time_wait(5, 40_005, 500),
    ];
    sweep(&mut monitor, 2_000, &left);
    sweep(&mut monitor, 3_000, &left);
    let left = [
        (PortOrigin::Bound, 0, 1),
        (PortOrigin::Chosen, 0, 1),
        (PortOrigin::Preferred, 1, 0),
        (PortOrigin::OtherHalf, 0, 1),
    ];
    let now = origins(&monitor);
    assert_eq!(now.iter().filter(|row| row.1 + row.2 > 0).copied().collect::<Vec<_>>(), left);
}

/// Where connect() finds its own half taken it goes on to the other one, and nobody can tell who took what there.
#[test]
fn a_port_of_the_other_half_tells_nothing_when_the_first_is_full() {
    let settings =
        Settings { port_range: Some(PortRange { first: 40_000, last: 40_099 }), ..Settings::default() };
    let mut monitor = Monitor::new(&settings, &Counters::default(), Moment(0), false);
    let to = |remote_port, ports: &mut dyn Iterator<Item = u16>| {
        let sockets = ports.map(|port| {
            let cookie = u64::from(remote_port) << 16 | u64::from(port);
            socket(cookie, SocketState::Established, port, remote_port)
        });
        sockets.collect::<Vec<_>>()
    };
    let mut records = to(80, &mut (40_000..40_060).step_by(2).chain([40_001, 40_003]));
    sweep(&mut monitor, 0, &records);
    let count = |monitor: &Monitor, origin| {
        monitor.origins().iter().find(|row| row.origin == origin).map_or(0, |row| row.live)
    };
    assert_eq!(count(&monitor, PortOrigin::OtherHalf), 2);
    records.extend(to(80, &mut (40_060..40_100).step_by(2)));
    records.extend(to(443, &mut [40_005].into_iter()));
    sweep(&mut monitor, 1_000, &records);
    assert_eq!(count(&monitor, PortOrigin::Preferred), 50);
    assert_eq!(count(&monitor, PortOrigin::Unknown), 2, "of the crowded destination");
    assert_eq!(count(&monitor, PortOrigin::OtherHalf), 1, "of the other one");
}
