//! A kernel in miniature, and a Monitor that looks at it: few ports and addresses, so that ends are used again and again.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use sock_diag::fake::tcp_record;
use sock_diag::{Cookie, Protocol, SocketRecord, SocketState, Timer, TimerKind};
use sockeye_core::{
    Churn, Closed, Counters, Evidence, Lifetime, Moment, Monitor, OwnerId, PortRange, PortSet, Report,
    Settings, TcpEnd,
};

const START: u64 = 1_000_000;
const TIME_WAIT_MS: u64 = 60_000;
/// connect() takes over a TIME_WAIT that is older.
const REUSE_DELAY_MS: u64 = 1_000;
/// What happens in the first so many milliseconds is before the watch.
const BASELINE_MS: u64 = 10;
const INSTANT_MS: u64 = 300;
const LISTENING: u16 = 443;
/// The work queue of events is never further behind.
const LATEST_MS: u16 = 950;

/// What happens next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Open {
        incoming: bool,
        peer: u8,
        port: u8,
    },
    OpenUdp {
        port: u8,
    },
    /// Data, or the other side's FIN.
    Move {
        which: u8,
        half_closed: bool,
    },
    Close {
        which: u8,
        how: How,
    },
    /// A program closes the file of a socket that has ended before.
    LetGo {
        which: u8,
    },
    /// The peer of an orphan closes too.
    PeerCloses {
        which: u8,
    },
    Pass {
        ms: u16,
    },
    /// From now on the kernel's work queue sends events so late.
    Late {
        ms: u16,
    },
    /// Events that have come are told now, not with the next sweep.
    Deliver,
    /// The oldest event that was not told yet never is.
    Lose,
    Sweep {
        takes_ms: u8,
        misses: u8,
        repeats: u8,
        lookups: bool,
    },
    Tick,
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// From here: it leaves a TIME_WAIT.
    Here,
    /// From there.
    There,
    /// By a reset from here, after which its event has forgotten most.
    Reset,
    /// shutdown() here, and there: TIME_WAIT begins, but a program keeps the file.
    Shutdown,
    /// By a reset from there, while a program keeps the file.
    ResetThere,
    /// From here, the other side goes on: an orphan in FIN_WAIT2, a mini socket.
    Orphan,
}

struct Connection {
    udp: bool,
    incoming: bool,
    local: SocketAddr,
    remote: SocketAddr,
    born: u64,
    last_data: u64,
    state: SocketState,
    cookie: Option<u64>,
    /// When it left the hash of connections.
    died: Option<u64>,
    /// Dead, and its event has not been sent because a program keeps it.
    kept: bool,
    was_reset: bool,
    /// What tells of its end may come later than that.
    is_late: bool,
    /// A dump has missed it, so that bounds of its birth and death are only as good as dumps are.
    raced: bool,
    missed_last: bool,
    closes: u32,
}

struct TimeWait {
    of: usize,
    since: u64,
    cookie: Option<u64>,
    orphan: bool,
    missed_last: bool,
}

/// What was true.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Truth {
    pub(crate) opened: u64,
    pub(crate) closed: u64,
    pub(crate) live: u64,
}

pub(crate) struct World {
    now: u64,
    cookies: u64,
    connections: Vec<Connection>,
    time_waits: Vec<TimeWait>,
    events: Vec<(u64, SocketRecord, TcpEnd)>,
    late_ms: u64,
    most_late_ms: u64,
    of_cookie: HashMap<u64, usize>,
    sweeps: u32,
    followed: HashSet<Cookie>,
    hears: bool,
    pub(crate) lost: u32,
    pub(crate) monitor: Monitor,
    pub(crate) closed: Vec<Closed>,
    counters: Counters,
}

impl World {
    pub(crate) fn new(hears: bool) -> World {
        let settings = Settings {
            port_range: Some(PortRange { first: 32_768, last: 60_999 }),
            reserved_ports: Some(PortSet::new()),
            ..Settings::default()
        };
        let counters = Counters { active_opens: Some(7), passive_opens: Some(11), ..Counters::default() };
        let mut monitor = Monitor::new(&settings, &counters, Moment(START), hears);
        monitor.keep_closed(true);
        World {
            now: START,
            cookies: 100,
            connections: Vec::new(),
            time_waits: Vec::new(),
            events: Vec::new(),
            late_ms: 0,
            most_late_ms: 0,
            of_cookie: HashMap::new(),
            sweeps: 0,
            followed: HashSet::new(),
            hears,
            lost: 0,
            monitor,
            closed: Vec::new(),
            counters,
        }
    }

    pub(crate) fn step(&mut self, step: Step) {
        self.now += 1;
        match step {
            Step::Open { incoming, peer, port } => self.open(incoming, peer, port),
            Step::OpenUdp { port } => self.open_udp(port),
            Step::Move { which, half_closed } => {
                let now = self.now;
                if let Some(index) = self.pick(which, |one| one.died.is_none() && !one.udp) {
                    let one = &mut self.connections[index];
                    one.last_data = now;
                    if half_closed {
                        one.state = SocketState::CloseWait;
                    }
                }
            }
            Step::Close { which, how } => {
                if let Some(index) = self.pick(which, |one| one.died.is_none()) {
                    self.close(index, how);
                }
            }
            Step::LetGo { which } => {
                if let Some(index) = self.pick(which, |one| one.kept) {
                    self.connections[index].kept = false;
                    self.send_event(index, false);
                }
            }
            Step::PeerCloses { which } => {
                let now = self.now;
                let mut orphans: Vec<_> = self.time_waits.iter_mut().filter(|one| one.orphan).collect();
                let chosen = usize::from(which) % orphans.len().max(1);
                if let Some(orphan) = orphans.get_mut(chosen) {
                    (orphan.orphan, orphan.since) = (false, now);
                }
            }
            Step::Pass { ms } => self.now += u64::from(ms),
            Step::Late { ms } => {
                self.late_ms = u64::from(ms);
                self.most_late_ms = self.most_late_ms.max(self.late_ms);
            }
            Step::Deliver => self.deliver(),
            Step::Lose => {
                if self.hears && self.sweeps > 0 && !self.events.is_empty() {
                    self.events.remove(0);
                    self.lost += 1;
                    self.monitor.lost_events(Some(1));
                }
            }
            Step::Sweep { takes_ms, misses, repeats, lookups } => {
                self.sweep(u64::from(takes_ms), misses, repeats, lookups);
            }
            Step::Tick => {
                self.tick();
            }
        }
        let now = self.now;
        self.time_waits.retain(|one| one.since + TIME_WAIT_MS > now);
    }

    /// Programs close what they kept, and sweeps miss nothing.
    pub(crate) fn come_to_rest(&mut self) {
        while self.connections.iter().any(|one| one.kept) {
            self.step(Step::LetGo { which: 0 });
        }
        self.step(Step::Pass { ms: LATEST_MS });
        for _ in 0..3 {
            self.step(Step::Pass { ms: 100 });
            self.sweep(0, 0, 0, true);
        }
    }

    fn pick(&self, which: u8, fits: impl Fn(&Connection) -> bool) -> Option<usize> {
        let fitting: Vec<usize> =
            (0..self.connections.len()).filter(|index| fits(&self.connections[*index])).collect();
        (!fitting.is_empty()).then(|| fitting[usize::from(which) % fitting.len()])
    }

    fn open(&mut self, incoming: bool, peer: u8, port: u8) {
        let here = |port| SocketAddr::new(Ipv4Addr::new(10, 0, 0, 7).into(), port);
        let there = |port| SocketAddr::new(Ipv4Addr::new(10, 0, 9, peer).into(), port);
        let (local, remote) = match incoming {
            true => (here(LISTENING), there(40_000 + u16::from(port))),
            false => (here(33_000 + u16::from(port)), there(80)),
        };
        let same = |one: &Connection| !one.udp && (one.local, one.remote) == (local, remote);
        // After a reset a port can be had again at once. Two lives with the same ends that ended within an instant, or
        // within the lateness of events, could only be told apart by their number.
        let instant = INSTANT_MS + self.most_late_ms;
        let in_use = |one: &Connection| one.died.is_none_or(|died| died + instant > self.now);
        if self.connections.iter().any(|one| in_use(one) && same(one)) {
            return;
        }
        if let Some(at) = self.time_waits.iter().position(|one| same(&self.connections[one.of])) {
            let one = &self.time_waits[at];
            if one.orphan || one.since + REUSE_DELAY_MS > self.now {
                return;
            }
            self.time_waits.remove(at);
        }
        let count = if incoming { &mut self.counters.passive_opens } else { &mut self.counters.active_opens };
        *count.as_mut().unwrap() += 1;
        self.connections.push(Connection {
            udp: false,
            incoming,
            local,
            remote,
            born: self.now,
            last_data: self.now,
            state: SocketState::Established,
            cookie: None,
            died: None,
            kept: false,
            was_reset: false,
            is_late: false,
            raced: false,
            missed_last: false,
            closes: 0,
        });
    }

    fn open_udp(&mut self, port: u8) {
        let local = SocketAddr::new(Ipv4Addr::new(10, 0, 0, 7).into(), 50_000 + u16::from(port));
        self.open(false, 200, 0);
        let Some(mut one) = self.connections.pop() else { return };
        if one.remote.ip() != IpAddr::V4(Ipv4Addr::new(10, 0, 9, 200)) {
            self.connections.push(one);
            return;
        }
        *self.counters.active_opens.as_mut().unwrap() -= 1;
        (one.udp, one.local, one.state) = (true, local, SocketState::Close);
        one.remote = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        self.connections.push(one);
    }

    fn close(&mut self, index: usize, how: How) {
        let now = self.now;
        let one = &mut self.connections[index];
        one.died = Some(now);
        // What its event tells cannot show how late that is.
        one.is_late = self.late_ms > 0 && (one.udp || how == How::Reset);
        if one.udp {
            return self.send_event(index, false);
        }
        let waits = matches!(how, How::Here | How::Shutdown | How::Orphan);
        one.kept = matches!(how, How::Shutdown | How::ResetThere);
        one.was_reset = matches!(how, How::Reset | How::ResetThere);
        // The TIME_WAIT of an orphan begins when its peer closes.
        one.is_late |= one.kept || how == How::Orphan;
        if waits {
            let cookie = one.cookie;
            let orphan = how == How::Orphan;
            self.time_waits.push(TimeWait { of: index, since: now, cookie, orphan, missed_last: false });
        }
        if !self.connections[index].kept {
            self.send_event(index, how == How::Reset);
        }
    }

    /// The work queue sends it, with the ages as of then.
    fn send_event(&mut self, index: usize, reset: bool) {
        let sent = self.now + self.late_ms;
        let cookie = match self.connections[index].cookie {
            Some(cookie) => cookie,
            None => self.name(index),
        };
        let one = &mut self.connections[index];
        one.cookie = Some(cookie);
        let mut record = record_of(one);
        record.id.cookie = Cookie(cookie);
        record.state = SocketState::Close;
        let quiet = sent - one.last_data;
        let mut end = TcpEnd {
            segments_out: Some(3),
            established: Some(true),
            min_age_ms: Some(quiet),
            age_is_exact: one.last_data == one.born,
            heard_ms: one.died.map(|died| sent - died),
            controls_acked: Some(u8::from(!one.incoming) + u8::from(!one.was_reset)),
            ..TcpEnd::default()
        };
        if reset {
            record.id.local_address = Ipv4Addr::UNSPECIFIED.into();
            record.id.remote_port = 0;
            end.segments_out = Some(0);
            (end.age_is_exact, end.is_reset) = (false, true);
        }
        if self.hears {
            self.events.push((sent, record, end));
            self.events.sort_by_key(|(sent, ..)| *sent);
        }
    }

    fn name(&mut self, index: usize) -> u64 {
        self.cookies += 1;
        self.of_cookie.insert(self.cookies, index);
        self.cookies
    }

    /// What has come is told, and its time is that of its coming.
    pub(crate) fn deliver(&mut self) {
        let come = self.events.partition_point(|(sent, ..)| *sent <= self.now);
        for (at, record, end) in self.events.drain(..come).collect::<Vec<_>>() {
            let end = (record.protocol == Protocol::Tcp).then_some(end);
            // Now and then somebody has seen who it was.
            let owner = OwnerId(record.id.cookie.0 as u32 % 4);
            self.monitor.destroyed(&record, end, Moment(at), owner);
        }
    }

    /// One dump after another. A bit of `misses` decides for each socket; none is missed twice in a row.
    pub(crate) fn sweep(&mut self, takes_ms: u64, misses: u8, repeats: u8, lookups: bool) {
        self.sweeps += 1;
        let is_first = self.sweeps == 1;
        self.monitor.begin_sweep(Moment(self.now));
        let readings = if is_first { 2 } else { 1 };
        for _ in 0..readings {
            self.monitor.observe(&listener());
            let records = self.dump(if is_first { 0 } else { misses });
            for (place, record) in records.iter().enumerate() {
                let is_new = self.monitor.observe(record);
                assert!(!is_new || self.followed.insert(record.id.cookie), "known already: {record:?}");
                // Some owners are known at once, some later, some never.
                let cookie = record.id.cookie;
                if is_new && cookie.0 % 3 == 0
                    || cookie.0 % 3 == 1 && cookie.0 % 5 == u64::from(self.sweeps) % 5
                {
                    self.monitor.own(cookie, OwnerId(1 + cookie.0 as u32 % 4));
                }
                if repeats >> (place % 8) & 1 == 1 {
                    self.monitor.observe(record);
                }
            }
        }
        self.now += takes_ms;
        self.deliver();
        if lookups {
            for missing in self.monitor.missing(usize::MAX) {
                let found = self.look_up(missing.id.cookie);
                self.monitor.settle(missing.id.cookie, found.as_ref(), Moment(self.now));
            }
        }
        self.monitor.end_sweep(Moment(self.now), &self.counters);
        self.tick();
    }

    fn dump(&mut self, misses: u8) -> Vec<SocketRecord> {
        let mut records = Vec::new();
        for index in 0..self.connections.len() {
            let one = &mut self.connections[index];
            if one.died.is_some_and(|died| died + 1 == self.now) && one.cookie.is_some() {
                // It dies while the dump looks at it: its port is gone before its state.
                let mut torn = record_of(one);
                torn.id.local_port = 0;
                records.push(torn);
            }
            if one.died.is_some() {
                continue;
            }
            let misses_this = misses >> (index % 8) & 1 == 1 && !one.missed_last;
            one.missed_last = misses_this;
            one.raced |= misses_this;
            if misses_this {
                continue;
            }
            if one.cookie.is_none() {
                let cookie = self.name(index);
                self.connections[index].cookie = Some(cookie);
            }
            records.push(record_of(&self.connections[index]));
        }
        for place in 0..self.time_waits.len() {
            let one = &mut self.time_waits[place];
            let misses_this = misses >> (one.of % 8) & 1 == 1 && !one.missed_last;
            one.missed_last = misses_this;
            let of = one.of;
            self.connections[of].raced |= misses_this;
            if misses_this {
                continue;
            }
            if self.time_waits[place].cookie.is_none() {
                self.time_waits[place].cookie = Some(self.name(of));
            }
            records.push(self.time_wait_record(place));
        }
        records
    }

    fn time_wait_record(&self, place: usize) -> SocketRecord {
        let one = &self.time_waits[place];
        let mut record = record_of(&self.connections[one.of]);
        record.id.cookie = Cookie(one.cookie.unwrap_or(0));
        record.state = if one.orphan { SocketState::FinWait2 } else { SocketState::TimeWait };
        let left = (one.since + TIME_WAIT_MS).saturating_sub(self.now) as u32;
        record.timer = Timer { kind: TimerKind::TimeWait, expires_ms: left, retransmits: 0 };
        record
    }

    fn look_up(&self, cookie: Cookie) -> Option<SocketRecord> {
        let live = self.connections.iter().find(|one| one.died.is_none() && one.cookie == Some(cookie.0));
        let waiting = || self.time_waits.iter().position(|one| one.cookie == Some(cookie.0));
        live.map(record_of).or_else(|| waiting().map(|place| self.time_wait_record(place)))
    }

    pub(crate) fn tick(&mut self) -> (Report, Churn) {
        let report = self.monitor.tick(Moment(self.now)).clone();
        for closed in self.monitor.take_closed() {
            self.check(&closed);
            self.closed.push(closed);
        }
        let churn = report.churn.clone().unwrap();
        let truth = self.truth();
        let flow = churn.tcp;
        assert_eq!(flow.at_start + flow.opened - flow.closed, flow.live());
        if self.sweeps > 0 {
            assert!(flow.opened <= truth.opened, "no false open: {churn:?} {truth:?}");
            assert!(flow.at_start + flow.opened <= truth.opened + flow.at_start);
            assert!(flow.closed <= truth.closed, "no false close: {churn:?} {truth:?}");
        }
        let live: u64 = self.monitor.accounts().iter().map(|row| row.live).sum();
        assert_eq!(live, flow.live(), "every connection is in one account");
        let live: u64 = self.monitor.origins().iter().map(|row| row.live).sum();
        assert_eq!(live, flow.live(), "every connection came by its port in one way");
        let sum =
            (churn.outgoing.opened + churn.incoming.opened, churn.outgoing.closed + churn.incoming.closed);
        assert_eq!(sum, (flow.opened, flow.closed), "every connection has a direction here");
        (report, churn)
    }

    /// A close is told once, of a connection that has closed, with bounds that hold.
    fn check(&mut self, closed: &Closed) {
        let index = self.of_cookie[&closed.cookie.0];
        let one = &mut self.connections[index];
        one.closes += 1;
        // A socket is told once. Only where another one with the same ends was kept or an orphan, whose event may come late,
        // do traces fit either way: then as many are told as have died.
        let (udp, ends) = (one.udp, (one.local, one.remote));
        let same = |one: &&Connection| one.udp == udp && (one.local, one.remote) == ends;
        let twins: Vec<&Connection> = self.connections.iter().filter(same).collect();
        let told: u32 = twins.iter().map(|one| one.closes).sum();
        let dead = twins.iter().filter(|one| one.died.is_some()).count() as u32;
        let is_sure = !twins.iter().any(|one| one.is_late) || twins.len() == 1;
        let closes = self.connections[index].closes;
        assert!(told <= dead && (closes == 1 || !is_sure), "told twice: {closed:?}");
        let one = &self.connections[index];
        let died = one.died.unwrap_or_else(|| panic!("alive: {closed:?}"));
        // Times are only as good as dumps are; and who kept its file delayed its event.
        let lifetime = died - one.born;
        if !one.raced {
            assert!(died <= closed.at.latest.0, "dead at {died}: {closed:?}");
            let delayed = one.is_late && matches!(closed.evidence, Evidence::Event | Evidence::TimeWait);
            assert!(delayed || closed.at.earliest.0 <= died, "dead at {died}: {closed:?}");
            let Lifetime { min_ms, max_ms } = closed.lifetime;
            assert!(delayed || min_ms <= lifetime, "lived {lifetime} from {}: {closed:?}", one.born);
            assert!(
                delayed || max_ms.is_none_or(|max_ms| lifetime <= max_ms),
                "lived {lifetime} from {}: {closed:?}",
                one.born
            );
        }
        if let Some(local) = closed.local.filter(|local| !local.ip().is_unspecified()) {
            assert_eq!(local, one.local);
        }
        if let Some(remote) = closed.remote.filter(|remote| remote.port() != 0) {
            assert_eq!(remote, one.remote);
        }
    }

    /// What has happened to TCP connections since the baseline.
    pub(crate) fn truth(&self) -> Truth {
        self.count(|one| !one.udp)
    }

    /// Of these, the incoming ones.
    pub(crate) fn incoming_truth(&self) -> Truth {
        self.count(|one| one.incoming)
    }

    /// The same of UDP sockets.
    pub(crate) fn udp_truth(&self) -> Truth {
        self.count(|one| one.udp)
    }

    fn count(&self, counts: impl Fn(&Connection) -> bool) -> Truth {
        let since = START + BASELINE_MS;
        let mut truth = Truth::default();
        for one in self.connections.iter().filter(|one| counts(one)) {
            truth.opened += u64::from(one.born > since);
            truth.closed += u64::from(one.died.is_some_and(|died| died > since));
            truth.live += u64::from(one.died.is_none());
        }
        truth
    }

    /// The baseline, at a fixed time.
    pub(crate) fn baseline(&mut self) {
        self.now = START + 1;
        self.sweep(0, 0, 0, false);
        self.now = START + BASELINE_MS;
        assert!(self.events.is_empty());
    }
}

fn listener() -> SocketRecord {
    let nobody = |port| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
    let mut record = tcp_record(SocketState::Listen, nobody(LISTENING), nobody(0));
    record.id.cookie = Cookie(1);
    record
}

fn record_of(one: &Connection) -> SocketRecord {
    let mut record = tcp_record(one.state, one.local, one.remote);
    record.id.cookie = Cookie(one.cookie.unwrap_or(0));
    if one.udp {
        record.protocol = Protocol::Udp;
    }
    record
}

fn any_how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => Just(How::Here),
        2 => Just(How::There),
        2 => Just(How::Reset),
        1 => Just(How::Shutdown),
        1 => Just(How::ResetThere),
        1 => Just(How::Orphan),
    ]
}

/// Steps of a life; `loses`: events may be lost.
pub(crate) fn any_step(loses: bool) -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (any::<bool>(), 0u8..2, 0u8..3).prop_map(|(incoming, peer, port)| Step::Open { incoming, peer, port }),
        1 => (0u8..3).prop_map(|port| Step::OpenUdp { port }),
        2 => (any::<u8>(), any::<bool>()).prop_map(|(which, half_closed)| Step::Move { which, half_closed }),
        7 => (any::<u8>(), any_how()).prop_map(|(which, how)| Step::Close { which, how }),
        1 => any::<u8>().prop_map(|which| Step::LetGo { which }),
        1 => any::<u8>().prop_map(|which| Step::PeerCloses { which }),
        3 => prop_oneof![1u16..20, 900u16..1_500, 1_000u16..30_000].prop_map(|ms| Step::Pass { ms }),
        1 => (0..LATEST_MS).prop_map(|ms| Step::Late { ms }),
        2 => Just(Step::Deliver),
        1 => Just(if loses { Step::Lose } else { Step::Tick }),
        4 => (0u8..200, any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(takes_ms, misses, repeats, lookups)| {
            Step::Sweep { takes_ms, misses: if misses > 128 { misses } else { 0 }, repeats, lookups }
        }),
        2 => Just(Step::Tick),
    ]
}
