//! A host to draw: what tests of the screens look at. Its looks come from a real monitor, fed with records made here.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sock_diag::{Cookie, SocketRecord, SocketState, TimerKind};
use sockeye_core::{Counters, Moment, Monitor, PortRange, Settings};

use super::gathering::Gathering;
use super::look::{Cost, Detail, Look, NamespaceRow, OwnerRow, Place};
use super::wanted::{SocketsWanted, Wanted};
use crate::account::Account;
use crate::follow::{Onlooker as _, SweepCost};

/// Where a busy proxy connects to, and how many connections it has after so many ticks: live, in TIME_WAIT.
const TOWARDS: [(&str, [u32; 2]); 4] = [
    ("10.0.9.12:8080", [12, 220]),
    ("10.0.9.13:8080", [3, 60]),
    ("[2001:db8::9]:443", [1, 2]),
    ("10.0.9.14:443", [4, 0]),
];
const TICKS: u32 = 20;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn settings() -> Settings {
    Settings {
        port_range: Some(PortRange { first: 32_768, last: 40_959 }),
        reserved_ports: Some(sockeye_core::PortSet::new()),
        tw_reuse: sockeye_core::TwReuse::Off,
        timestamps: Some(true),
        ..Settings::default()
    }
}

/// All sockets at a tick.
fn world(tick: u32) -> Vec<SocketRecord> {
    let mut records = Vec::new();
    for (port, queue, backlog) in [(443, 0, 511), (9_999, 6, 8)] {
        let local = SocketAddr::new([0, 0, 0, 0].into(), port);
        let mut listener = sock_diag::fake::tcp_record(SocketState::Listen, local, address("0.0.0.0:0"));
        (listener.rqueue_bytes, listener.wqueue_bytes) = (queue, backlog);
        listener.id.cookie = Cookie(u64::from(port));
        records.push(listener);
        // Each stays for four ticks.
        for client in tick.saturating_sub(4) * 2..tick * 2 {
            let peer = SocketAddr::new([192, 0, 2, 1].into(), 20_000 + client as u16);
            let mut accepted = sock_diag::fake::tcp_record(
                SocketState::Established,
                SocketAddr::new([10, 0, 0, 7].into(), port),
                peer,
            );
            accepted.id.cookie = Cookie(u64::from(port) << 32 | u64::from(client));
            records.push(accepted);
        }
    }
    for (number, (to, [live, time_wait])) in TOWARDS.into_iter().enumerate() {
        let to = address(to);
        let local = if to.is_ipv4() { address("10.0.0.7:0") } else { address("[2001:db8::7]:0") };
        let (open, waiting) = (live * tick, time_wait * tick);
        for index in 0..open + waiting {
            // As connect() takes them: the even half first.
            let port = 32_768 + (index % 4_096 * 2 + index / 4_096) as u16;
            let state = if index < open { SocketState::Established } else { SocketState::TimeWait };
            let mut record = sock_diag::fake::tcp_record(state, SocketAddr::new(local.ip(), port), to);
            record.id.cookie =
                Cookie((number as u64 + 1) << 40 | u64::from(state.raw()) << 32 | u64::from(index));
            if state == SocketState::TimeWait {
                record.timer.kind = TimerKind::TimeWait;
                record.timer.expires_ms = 60_000 - (index / time_wait.max(1) * 1_000).min(59_000);
            } else {
                record.wqueue_bytes = index % 7 * 100;
                record.uid = Some(33);
            }
            records.push(record);
        }
    }
    records
}

/// The looks of twenty seconds, the oldest first.
pub(super) fn looks() -> Vec<Arc<Look>> {
    static LOOKS: OnceLock<Vec<Arc<Look>>> = OnceLock::new();
    LOOKS.get_or_init(make).clone()
}

fn make() -> Vec<Arc<Look>> {
    let (settings, counters) = (settings(), Counters::default());
    let start = Moment(86_400_000);
    let mut monitor = Monitor::new(&settings, &counters, start, true);
    monitor.keep_lifetimes(sockeye_core::LifetimesBy::Ends);
    let wanted = Arc::new(Wanted::new(Duration::from_secs(1)));
    let mut wants = wanted.now();
    (wants.ports, wants.sockets) =
        (true, Some(SocketsWanted { descending: true, ..SocketsWanted::default() }));
    wanted.set(wants, false);
    let gathering = Rc::new(std::cell::RefCell::new(Gathering::new(wanted)));
    let place = Arc::new(Place {
        host_name: "web-7".to_owned(),
        kernel_release: "6.18.5".to_owned(),
        inode: Some(4_026_532_177),
        namespace: "proxy".to_owned(),
        is_replay: false,
        interfaces: [(1, "lo".to_owned())].into(),
    });
    let mut looks = Vec::new();
    let mut lifetimes = None;
    for tick in 0..=TICKS {
        let now = start.plus_ms(u64::from(tick) * 1_000);
        let mut gathered = gathering.borrow_mut();
        gathered.begin(&settings);
        monitor.begin_sweep(now);
        let records = world(tick);
        for record in &records {
            monitor.observe(record);
            gathered.record(record, &crate::whose::Who::default);
        }
        monitor.end_sweep(now.plus_ms(4), &counters);
        let report = monitor.tick(now.plus_ms(4));
        let at = jiff::Timestamp::from_second(1_795_435_200 + i64::from(tick)).unwrap();
        let mut look = Look::of(report, &[], u64::from(tick), at);
        let worst = report.destinations.first().copied();
        look.detail = worst.map(|worst| {
            let account = Account::of(report, &worst, &settings);
            Arc::new(Detail {
                id: worst.id,
                account,
                closes: report.closes_of(&worst),
                owners: vec![("nginx (812) www-data  nginx.service".to_owned(), 4_640)],
            })
        });
        look.place = Arc::clone(&place);
        let users =
            ["nginx (812)", "nginx (812) and 2 more", "evil\u{1b}[31m (4711)"].map(|user| Some(user.into()));
        look.users = users.into_iter().chain([None]).collect();
        gathered.fill(&mut look, true, |records| {
            let nginx: Arc<str> = "nginx (812) www-data".into();
            records.iter().map(|record| record.uid.map(|_| Arc::clone(&nginx))).collect()
        });
        if tick % 5 == 0 {
            lifetimes = monitor.lifetimes(now.plus_ms(4)).map(Arc::new);
        }
        look.lifetimes.clone_from(&lifetimes);
        look.owners = Some(owners(tick));
        look.origins = ["accepted", "chosen by connect()"].map(origin).into();
        look.cost = Cost {
            sweep: Some(SweepCost { duration_ms: 3.81, records: records.len() as u64 }),
            swept_ago_ms: 0,
            cpu_share: Some(0.021),
            resident_bytes: Some(12_345_678),
        };
        if tick > 0 {
            looks.push(Arc::new(look));
        }
    }
    looks
}

fn origin(label: &str) -> OwnerRow {
    OwnerRow { label: label.to_owned(), live: 7, time_wait: 9, ..OwnerRow::default() }
}

fn owners(tick: u32) -> Vec<OwnerRow> {
    let row = |label: &str, pid, user: &str, group: &str, live| OwnerRow {
        label: label.to_owned(),
        pid,
        uid: Some(33),
        user: user.to_owned(),
        group: group.to_owned(),
        live,
        time_wait: live * 3,
        opens_per_second: live as f32 / 10.0,
        closes_per_second: live as f32 / 20.0,
        inferred: live / 7,
    };
    let mut rows = vec![
        row("nginx", Some(812), "www-data", "nginx.service", u64::from(tick) * 15),
        row("evil\x1b[31m\nname", Some(4_711), "nobody", "user@1000.service", 7),
        row("(nobody)", None, "", "", 2),
    ];
    rows.sort_by(|a, b| a.place().cmp(&b.place()));
    rows
}

/// The last of them.
pub(super) fn look() -> Look {
    Look::clone(looks().last().unwrap())
}

/// The same twenty seconds of three namespaces together.
pub(super) fn looks_at_all() -> Vec<Arc<Look>> {
    let all = |look: &Arc<Look>| {
        let row = |label: &str, inode, way: &str, live, worst| NamespaceRow {
            label: label.to_owned(),
            inode,
            way: way.to_owned(),
            sockets: live * 2,
            live,
            time_wait: live / 2,
            opens_per_second: live as f64 / 10.0,
            closes_per_second: live as f64 / 11.0,
            worst,
            remarks: usize::from(live > 100),
        };
        let worst = look.destinations.iter().max_by_key(|destination| destination.in_use).copied();
        let number = look.number;
        let fleet = vec![
            row("web", 4_026_531_840, "/run/netns/web", number * 7, worst),
            row("nginx\u{1b}[2J (9)", 4_026_532_177, "/proc/9/ns/net", number * 50, None),
            row("idle", 4_026_532_300, "/run/netns/idle", 0, None),
        ];
        Arc::new(Look { fleet: Some(fleet), remarks: Vec::new(), ..Look::clone(look) })
    };
    looks().iter().map(all).collect()
}
