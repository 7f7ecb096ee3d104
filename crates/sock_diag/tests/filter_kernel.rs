//! What a filter means, told four ways that must agree: a model in plain code, `Filter::matches`, and the
//! compiled filter, whose bytecode is audited and run here as the kernel does it (`inet_diag_bc_audit` and
//! `inet_diag_bc_run`), with its states and residual; the canonical text is the fourth.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use proptest::prelude::*;
use sock_diag::filter::{Filter, Names};
use sock_diag::{
    Cookie, Family, Protocol, SocketId, SocketOptions, SocketRecord, SocketState, StateSet, Timer, TimerKind,
};

const EPHEMERAL: (u16, u16) = (1000, 2000);

struct Range;

impl Names for Range {
    fn host(&self, name: &str) -> Vec<IpAddr> {
        if name == "both" {
            vec![ADDRESSES[1].parse().unwrap(), ADDRESSES[6].parse().unwrap()]
        } else {
            vec![]
        }
    }
    fn sockets_of_pid(&self, pid: u32) -> Option<Vec<u32>> {
        Some(vec![pid, 3, pid])
    }
    fn sockets_of_name(&self, name: &str) -> Option<Vec<u32>> {
        (name == "two").then(|| vec![2])
    }
    fn port_range(&self) -> Option<(u16, u16)> {
        Some(EPHEMERAL)
    }
}

// The kernel ---------------------------------------------------------------------------------------------

/// What the kernel knows of a socket when it runs a program.
struct Entry {
    record: SocketRecord,
    /// The socket was bound by hand: SOCK_BINDPORT_LOCK. Records do not tell.
    bound: bool,
}

struct OpView<'b> {
    code: u8,
    yes: usize,
    no: usize,
    data: &'b [u8],
}

fn op(code: &[u8], at: usize) -> OpView<'_> {
    let op = &code[at..];
    OpView { code: op[0], yes: op[1].into(), no: u16::from_ne_bytes([op[2], op[3]]).into(), data: &op[4..] }
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(data[at..at + 4].try_into().unwrap())
}

/// Whether the kernel takes the program.
fn audit(code: &[u8], net_admin: bool) -> Result<(), &'static str> {
    let mut steps = vec![];
    let mut at = 0;
    if code.len() < 4 {
        return Err("too short");
    }
    while at < code.len() {
        steps.push(at);
        let left = code.len() - at;
        if left < 4 {
            return Err("cut");
        }
        let op = op(code, at);
        let least = match op.code {
            0 | 1 | 6 => 4,
            2..=5 | 11 | 12 => 8,
            7 | 8 => {
                if op.data.len() < 8 {
                    return Err("host condition cut");
                }
                let address = match i32::from(op.data[0]) {
                    libc::AF_UNSPEC => 0,
                    libc::AF_INET => 4,
                    libc::AF_INET6 => 16,
                    _ => return Err("family"),
                };
                if usize::from(op.data[1]) > 8 * address {
                    return Err("prefix length");
                }
                12 + address
            }
            9 => 8,
            10 if !net_admin => return Err("EPERM"),
            10 | 13 => 12,
            _ => return Err("unknown operation"),
        };
        if left < least {
            return Err("data cut");
        }
        if op.code != 0 && (op.no < least || op.no > left + 4 || !op.no.is_multiple_of(4)) {
            return Err("no");
        }
        if op.yes < least || op.yes > left + 4 || !op.yes.is_multiple_of(4) {
            return Err("yes");
        }
        at += op.yes;
    }
    if at != code.len() {
        return Err("the yes steps miss the end");
    }
    for &at in &steps {
        let target = at + op(code, at).no;
        if target < code.len() && steps.binary_search(&target).is_err() {
            return Err("no leads between operations");
        }
    }
    Ok(())
}

/// Whether the kernel lets the socket through.
fn run(code: &[u8], entry: &Entry) -> bool {
    let record = &entry.record;
    let id = &record.id;
    let mut at = 0;
    while at < code.len() {
        let op = op(code, at);
        let port = || u16::from_ne_bytes([op.data[2], op.data[3]]);
        let yes = match op.code {
            0 => true,
            1 => false,
            2 => id.local_port >= port(),
            3 => id.local_port <= port(),
            4 => id.remote_port >= port(),
            5 => id.remote_port <= port(),
            6 => record.is_mini() || !entry.bound,
            7 => host(&op, record.family, id.local_address, id.local_port),
            8 => host(&op, record.family, id.remote_address, id.remote_port),
            9 => id.interface.map_or(0, NonZeroU32::get) == u32_at(op.data, 0),
            10 => record.mark.unwrap() & u32_at(op.data, 4) == u32_at(op.data, 0),
            11 => id.local_port == port(),
            12 => id.remote_port == port(),
            13 => record.cgroup_id.unwrap_or(0) == u64::from_ne_bytes(op.data[..8].try_into().unwrap()),
            _ => unreachable!("audited"),
        };
        at += if yes { op.yes } else { op.no };
    }
    at == code.len()
}

fn host(op: &OpView<'_>, family: Family, address: IpAddr, port: u16) -> bool {
    let (wanted_family, bits) = (op.data[0], usize::from(op.data[1]));
    let wanted_port = u32_at(op.data, 4) as i32;
    if wanted_port != -1 && wanted_port != i32::from(port) {
        return false;
    }
    let octets = match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let same = |octets: &[u8]| {
        (0..bits).all(|bit| (octets[bit / 8] ^ op.data[8 + bit / 8]) & (0x80 >> (bit % 8)) == 0)
    };
    if i32::from(wanted_family) != libc::AF_UNSPEC && wanted_family != family.raw() {
        return family == Family::Inet6
            && i32::from(wanted_family) == libc::AF_INET
            && octets[..10] == [0; 10]
            && octets[10..12] == [0xff; 2]
            && same(&octets[12..]);
    }
    same(&octets)
}

// The model ----------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Model {
    State(Vec<(&'static str, SocketState)>),
    Host {
        local: bool,
        family: Option<Family>,
        address: Option<(IpAddr, u8)>,
        ports: Option<(u16, u16)>,
        ne: bool,
    },
    Both {
        local: bool,
    },
    Port {
        local: bool,
        compare: usize,
        port: u16,
    },
    Device(u32, bool),
    Mark(u32, Option<u32>, bool),
    Cgroup(u64, bool),
    Autobound,
    User(u32, bool),
    Pid(u32, bool),
    Named(bool),
    Not(Box<Model>),
    And(Box<Model>, Box<Model>),
    Or(Box<Model>, Box<Model>),
}

/// Word, and what it means of two ports.
type Compare = (&'static str, fn(&u16, &u16) -> bool);
const COMPARES: &[Compare] = &[
    (" = ", u16::eq),
    ("!=", u16::ne),
    (" lt ", u16::lt),
    ("<=", u16::le),
    (" gt :", u16::gt),
    (">= ", u16::ge),
];

impl Model {
    /// The text, with parentheses only where precedence wants them when `sparse`.
    fn text(&self, level: u8, sparse: bool) -> String {
        let side = |local: &bool| if *local { "src" } else { "dst" };
        let ne = |ne: &bool| if *ne { "!=" } else { "=" };
        let own = match self {
            Model::Or(..) => 0,
            Model::And(..) => 1,
            Model::Not(_) => 2,
            _ => 3,
        };
        let text = match self {
            Model::State(states) => {
                format!("state {}", states.iter().map(|state| state.0).collect::<Vec<_>>().join(","))
            }
            Model::Host { local, family, address, ports, ne: negated } => {
                let family = family.map_or(String::new(), |family| format!("{}:", family.name()));
                let address = match address {
                    Some((IpAddr::V4(v4), bits)) => format!("{v4}/{bits}"),
                    Some((IpAddr::V6(v6), bits)) => format!("[{v6}/{bits}]"),
                    None => "*".to_owned(),
                };
                let ports = match ports {
                    Some((first, last)) if first == last => format!(":{first}"),
                    Some((first, last)) => format!(":{first}-{last}"),
                    None => String::new(),
                };
                format!("{} {} {family}{address}{ports}", side(local), ne(negated))
            }
            Model::Both { local } => format!("{} both", side(local)),
            Model::Port { local, compare, port } => {
                format!("{}port{}{port}", if *local { 's' } else { 'd' }, COMPARES[*compare].0)
            }
            Model::Device(index, negated) => format!("dev {} {index}", ne(negated)),
            Model::Mark(value, None, negated) => format!("fwmark{}{value}", ne(negated)),
            Model::Mark(value, Some(mask), negated) => format!("fwmark{}{value:#x}/{mask}", ne(negated)),
            Model::Cgroup(id, negated) => format!("cgroup {} id:{id}", ne(negated)),
            Model::Autobound => "autobound".to_owned(),
            Model::User(uid, negated) => format!("user {} {uid}", ne(negated)),
            Model::Pid(pid, negated) => format!("pid{}{pid}", ne(negated)),
            Model::Named(negated) => format!("comm {} 'two'", ne(negated)),
            Model::Not(inner) => format!("!{}", inner.text(2, sparse)),
            Model::And(a, b) if sparse => format!("{} {}", a.text(1, sparse), b.text(2, sparse)),
            Model::And(a, b) => format!("{} and {}", a.text(1, sparse), b.text(2, sparse)),
            Model::Or(a, b) => format!("{} || {}", a.text(0, sparse), b.text(1, sparse)),
        };
        let needed = own < level || matches!(self, Model::State(_)) && sparse;
        if needed || !sparse { format!("({text})") } else { text }
    }

    fn eval(&self, entry: &Entry) -> bool {
        let record = &entry.record;
        let id = &record.id;
        let end = |local: &bool| {
            if *local { (id.local_address, id.local_port) } else { (id.remote_address, id.remote_port) }
        };
        match self {
            Model::State(states) => states.iter().any(|(_, state)| record.is_in(StateSet::of(&[*state]))),
            Model::Host { local, family, address, ports, ne } => {
                let (own, port) = end(local);
                let matches = family.is_none_or(|family| family == record.family)
                    && address.is_none_or(|(wanted, bits)| within(own, wanted, bits))
                    && ports.is_none_or(|(first, last)| (first..=last).contains(&port));
                matches != *ne
            }
            Model::Both { local } => {
                let own = end(local).0;
                [ADDRESSES[1], ADDRESSES[6]].iter().any(|one| within(own, one.parse().unwrap(), 128))
            }
            Model::Port { local, compare, port } => COMPARES[*compare].1(&end(local).1, port),
            Model::Device(index, ne) => (id.interface.map_or(0, NonZeroU32::get) == *index) != *ne,
            Model::Mark(value, mask, ne) => {
                (record.mark.unwrap() & mask.unwrap_or(u32::MAX) == *value) != *ne
            }
            Model::Cgroup(cgroup, ne) => (record.cgroup_id.unwrap_or(0) == *cgroup) != *ne,
            Model::Autobound => {
                (EPHEMERAL.0..=EPHEMERAL.1).contains(&id.local_port) && (record.is_mini() || !entry.bound)
            }
            Model::User(uid, ne) => (record.uid == Some(*uid)) != *ne,
            Model::Pid(pid, ne) => record.inode.is_some_and(|i| i.get() == *pid || i.get() == 3) != *ne,
            Model::Named(ne) => record.inode.is_some_and(|inode| inode.get() == 2) != *ne,
            Model::Not(inner) => !inner.eval(entry),
            Model::And(a, b) => a.eval(entry) && b.eval(entry),
            Model::Or(a, b) => a.eval(entry) || b.eval(entry),
        }
    }

    fn mentions(&self, wanted: fn(&Model) -> bool) -> bool {
        match self {
            Model::Not(inner) => inner.mentions(wanted),
            Model::And(a, b) | Model::Or(a, b) => a.mentions(wanted) || b.mentions(wanted),
            leaf => wanted(leaf),
        }
    }

    fn needs_record(&self) -> bool {
        matches!(self, Model::State(_) | Model::User(..) | Model::Pid(..) | Model::Named(_))
    }
}

/// Whether an address is in a network; IPv4 ones hold v4-mapped addresses.
fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let bits_of = |address: Ipv6Addr| address.to_bits();
    match (network, address) {
        (IpAddr::V4(network), address) => {
            let mapped = match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let bits = u32::from(bits).min(32) + 96;
            (bits_of(mapped) ^ bits_of(network.to_ipv6_mapped())).leading_zeros() >= bits
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (bits_of(address) ^ bits_of(network)).leading_zeros() >= bits.into()
        }
        (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

// Strategies: small worlds, so that conditions hold often ------------------------------------------------

const ADDRESSES: &[&str] = &[
    "0.0.0.0",
    "127.0.0.1",
    "127.0.0.2",
    "10.1.2.3",
    "10.1.128.3",
    "::",
    "::1",
    "::2",
    "fe80::1",
    "2001:db8::a00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.1.2.3",
    "::ffff:0.0.0.0",
    "ffff::",
];
const PORTS: &[u16] = &[0, 1, 22, 80, 999, 1000, 1500, 2000, 2001, 65534, 65535];
const STATES: &[(&str, SocketState)] = &[
    ("established", SocketState::Established),
    ("syn-sent", SocketState::SynSent),
    ("SYN-RECV", SocketState::SynRecv),
    ("FIN_WAIT2", SocketState::FinWait2),
    ("time-wait", SocketState::TimeWait),
    ("closed", SocketState::Close),
    ("listening", SocketState::Listen),
    ("bound-inactive", SocketState::BoundInactive),
];

fn address() -> impl Strategy<Value = IpAddr> {
    prop::sample::select(ADDRESSES).prop_map(|address| address.parse().unwrap())
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(PORTS)
}

fn leaf() -> impl Strategy<Value = Model> {
    let prefix = (address(), 0u8..=128).prop_map(|(address, bits)| {
        let most = if address.is_ipv4() { 32 } else { 128 };
        (address, if bits > 100 { most } else { bits.min(most) })
    });
    let family = prop::option::weighted(0.3, prop::sample::select(vec![Family::Inet, Family::Inet6]));
    let ports = prop::option::of((port(), port()).prop_map(|(a, b)| (a.min(b), a.max(b))));
    prop_oneof![
        2 => prop::collection::vec(prop::sample::select(STATES), 1..3).prop_map(Model::State),
        6 => (any::<bool>(), family, prop::option::weighted(0.8, prefix), ports, any::<bool>()).prop_map(
            |(local, family, address, ports, ne)| {
                let fits = |(address, _): &(IpAddr, u8)| family.is_none_or(|f| (f == Family::Inet) == address.is_ipv4());
                Model::Host { local, family, address: address.filter(fits), ports, ne }
            }
        ),
        1 => any::<bool>().prop_map(|local| Model::Both { local }),
        5 => (any::<bool>(), 0..COMPARES.len(), port())
            .prop_map(|(local, compare, port)| Model::Port { local, compare, port }),
        1 => (0u32..3, any::<bool>()).prop_map(|(index, ne)| Model::Device(index, ne)),
        1 => (0u32..4, prop::option::of(0u32..4), any::<bool>()).prop_map(|(v, m, ne)| Model::Mark(v, m, ne)),
        1 => (0u64..3, any::<bool>()).prop_map(|(id, ne)| Model::Cgroup(id, ne)),
        1 => Just(Model::Autobound),
        1 => (0u32..3, any::<bool>()).prop_map(|(uid, ne)| Model::User(uid, ne)),
        1 => (1u32..4, any::<bool>()).prop_map(|(pid, ne)| Model::Pid(pid, ne)),
        1 => any::<bool>().prop_map(Model::Named),
    ]
}

fn model() -> impl Strategy<Value = Model> {
    leaf().prop_recursive(6, 40, 2, |inner| {
        prop_oneof![
            inner.clone().prop_map(|inner| Model::Not(Box::new(inner))),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Model::And(Box::new(a), Box::new(b))),
            (inner.clone(), inner).prop_map(|(a, b)| Model::Or(Box::new(a), Box::new(b))),
        ]
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let ends = prop_oneof![
        (0usize..5, 0usize..5).prop_map(|ends| (Family::Inet, ends)),
        (5usize..ADDRESSES.len(), 5usize..ADDRESSES.len()).prop_map(|ends| (Family::Inet6, ends)),
    ];
    (
        ends,
        port(),
        port(),
        1u8..=11,
        0u32..3,
        (0u32..4, 0u64..3, 0u32..3, 0u32..4),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(
                (family, (local, remote)),
                local_port,
                remote_port,
                state,
                interface,
                (mark, cgroup, uid, inode),
                mini,
                bound,
            )| {
                let state = SocketState::from_raw(state);
                let mini = mini && matches!(state, SocketState::FinWait2) || state == SocketState::TimeWait;
                let kind = if mini { TimerKind::TimeWait } else { TimerKind::Off };
                let request = state == SocketState::SynRecv;
                let record = SocketRecord {
                    protocol: Protocol::Tcp,
                    family,
                    state,
                    id: SocketId {
                        local_address: ADDRESSES[local].parse().unwrap(),
                        local_port,
                        remote_address: ADDRESSES[remote].parse().unwrap(),
                        remote_port,
                        interface: NonZeroU32::new(interface),
                        cookie: Cookie(1),
                    },
                    timer: Timer { kind, expires_ms: 0, retransmits: 0 },
                    rqueue_bytes: 0,
                    wqueue_bytes: 0,
                    uid: (!mini).then_some(uid),
                    inode: NonZeroU32::new(inode).filter(|_| !mini),
                    mark: Some(mark),
                    cgroup_id: (!mini && !request).then_some(cgroup),
                    options: Some(SocketOptions(0)),
                    shutdown: None,
                };
                Entry { record, bound }
            },
        )
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "bound {}, {:?}", self.bound, self.record)
    }
}

/// What a reader that keeps to the compiled filter returns of one socket; None: it cannot be compiled.
fn compiled_answer(filter: &Filter, entry: &Entry) -> Option<bool> {
    let compiled = filter.compile().ok()?;
    if let Some(bytecode) = &compiled.bytecode {
        audit(bytecode.as_bytes(), true).unwrap_or_else(|why| panic!("{why} in {filter}: {bytecode:?}"));
        assert_eq!(
            audit(bytecode.as_bytes(), false),
            if bytecode.needs_net_admin() { Err("EPERM") } else { Ok(()) }
        );
        assert!(bytecode.as_bytes().len() <= 31 * 1024);
    }
    let record = &entry.record;
    Some(
        compiled.states.is_none_or(|states| record.is_in(states))
            && compiled.bytecode.is_none_or(|bytecode| run(bytecode.as_bytes(), entry))
            && compiled.residual.is_none_or(|residual| residual.matches(record).unwrap()),
    )
}

fn parse(text: &str) -> Filter {
    Filter::parse(text, &Range).unwrap_or_else(|error| panic!("{}", error.render(text)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn all_ways_agree(model in model(), entries in prop::collection::vec(entry(), 8)) {
        let filter = parse(&model.text(0, true));
        prop_assert_eq!(&parse(&model.text(0, false)), &filter);
        prop_assert_eq!(&parse(&filter.to_string()), &filter);
        prop_assert_eq!(filter.states().is_some(), model.mentions(|leaf| matches!(leaf, Model::State(_))));
        for entry in &entries {
            let truth = model.eval(entry);
            if let Ok(answer) = filter.matches(&entry.record) {
                prop_assert_eq!(answer, truth, "matches: {} on {:?}", filter, entry);
            } else {
                prop_assert!(filter.to_string().contains("autobound"));
            }
            match compiled_answer(&filter, entry) {
                Some(answer) => prop_assert_eq!(answer, truth, "compiled: {} on {:?}", filter, entry),
                None => prop_assert!(model.mentions(Model::needs_record) && filter.to_string().contains("autobound")),
            }
            if truth && let Some(states) = filter.states() {
                prop_assert!(entry.record.is_in(states));
            }
        }
    }
}

fn socket(local: &str, state: SocketState) -> Entry {
    let local: std::net::SocketAddr = local.parse().unwrap();
    let (family, none) = match local.ip() {
        IpAddr::V4(_) => (Family::Inet, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => (Family::Inet6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let record = SocketRecord {
        protocol: Protocol::Tcp,
        family,
        state,
        id: SocketId {
            local_address: local.ip(),
            local_port: local.port(),
            remote_address: none,
            remote_port: 0,
            interface: None,
            cookie: Cookie(1),
        },
        timer: Timer { kind: TimerKind::Off, expires_ms: 0, retransmits: 0 },
        rqueue_bytes: 0,
        wqueue_bytes: 0,
        uid: Some(0),
        inode: None,
        mark: None,
        cgroup_id: None,
        options: None,
        shutdown: None,
    };
    Entry { record, bound: false }
}

#[test]
fn addresses_match_as_in_the_kernel() {
    let v4 = socket("127.0.0.1:22", SocketState::Established);
    let v6 = socket("[2001:db8::1]:22", SocketState::Established);
    let mapped = socket("[::ffff:127.0.0.1]:22", SocketState::Established);
    for (text, expected) in [
        ("src 127.0.0.1", [true, false, true]),
        ("src 0/0", [true, false, true]),
        ("src ::/0", [false, true, true]),
        ("src *", [true, true, true]),
        ("src [::ffff:127.0.0.1]", [false, false, true]),
        ("src 127.0.0.0/9", [true, false, true]),
        ("src inet:", [true, false, false]),
        ("src inet6:", [false, true, true]),
        ("src inet:127.0.0.1", [true, false, false]),
        ("not src inet:127.0.0.1", [false, true, true]),
        ("src [2001:db8::]/33", [false, true, false]),
        ("src 127.0.0.1:23", [false, false, false]),
    ] {
        let filter = parse(text);
        let answers = [&v4, &v6, &mapped].map(|entry| {
            let answer = filter.matches(&entry.record).unwrap();
            assert_eq!(compiled_answer(&filter, entry), Some(answer), "{text}");
            answer
        });
        assert_eq!(answers, expected, "{text}");
    }
}

#[test]
fn the_kernel_gets_all_it_can_take() {
    for (text, states, length, residual) in [
        ("", None, 0, None),
        ("src *", None, 0, None),
        ("state listening", Some(StateSet::LISTEN), 0, None),
        ("state listening or state listening", Some(StateSet::LISTEN), 0, None),
        ("sport = 22", None, 8, None),
        ("not sport = 22", None, 8 + 4, None),
        ("not sport > 22", None, 8, None),
        ("sport = 22-23", None, 16, None),
        ("src 10/8", None, 16, None),
        ("src 10/8:80", None, 16, None),
        ("src [::1]", None, 28, None),
        ("sport = 1 or sport = 2", None, 8 + 4 + 8, None),
        ("autobound", None, 4 + 16, None),
        ("sport > 65535", None, 4, None),
        ("state listening sport = 22", Some(StateSet::LISTEN), 8, None),
        ("state listening or sport = 22", Some(StateSet::ALL), 0, Some("state listening or sport = 22")),
        (
            "sport = 22 and (state listening and dport = 5 or dport = 7) autobound",
            Some(StateSet::ALL),
            8 + (8 + 4 + 8) + 20,
            Some("state listening and dport = 5 or dport = 7"),
        ),
        (
            "state listening or state established and sport = 22",
            Some(StateSet::LISTEN.union(StateSet::of(&[SocketState::Established]))),
            0,
            Some("state listening or state established and sport = 22"),
        ),
    ] {
        let compiled = parse(text).compile().unwrap();
        assert_eq!(compiled.states, states, "{text}");
        assert_eq!(compiled.bytecode.map_or(0, |bytecode| bytecode.as_bytes().len()), length, "{text}");
        assert_eq!(compiled.residual.map(|residual| residual.to_string()).as_deref(), residual, "{text}");
    }
}

#[test]
fn what_is_too_long_for_the_kernel_is_left_to_user_space() {
    let hosts: Vec<String> = (0..4000).map(|i| format!("dst 10.0.{}.{}:80", i / 250, i % 250)).collect();
    let filter = parse(&format!("sport >= 0 and dport = 80 and ({})", hosts.join(" or ")));
    let compiled = filter.compile().unwrap();
    assert_eq!(compiled.bytecode.map(|bytecode| bytecode.as_bytes().len()), Some(8));
    let residual = compiled.residual.unwrap();
    let mut entry = socket("127.0.0.1:5", SocketState::Established);
    (entry.record.id.remote_address, entry.record.id.remote_port) = ("10.0.15.249".parse().unwrap(), 80);
    assert_eq!(residual.matches(&entry.record), Ok(true));
    entry.record.id.remote_address = "10.0.15.250".parse().unwrap();
    assert_eq!(residual.matches(&entry.record), Ok(false));
    // As long as can be, and at the limit of what fits.
    for terms in [1586, 1587, 1588] {
        let filter = parse(&format!("({})", hosts[..terms].join(" or ")));
        let compiled = filter.compile().unwrap();
        assert_eq!(compiled.bytecode.is_some(), terms * 20 <= 31 * 1024);
        assert_eq!(compiled.residual.is_none(), compiled.bytecode.is_some());
        assert_eq!(compiled_answer(&filter, &entry), Some(false));
    }
}

#[test]
fn records_say_what_they_cannot_tell() {
    let entry = socket("127.0.0.1:1500", SocketState::Established);
    let record = &entry.record;
    for (text, answer) in [
        ("autobound", Err("autobound")),
        ("not autobound", Err("autobound")),
        ("fwmark = 1", Err("fwmark")),
        ("cgroup = id:1", Err("cgroup")),
        // What decides without them is answered, on either side.
        ("autobound and sport = 1", Ok(false)),
        ("sport = 1 and autobound", Ok(false)),
        ("autobound or sport = 1500", Ok(true)),
        ("not (autobound and sport = 1)", Ok(true)),
        ("state listening and fwmark = 1", Ok(false)),
        ("autobound and sport = 1500", Err("autobound")),
    ] {
        assert_eq!(parse(text).matches(record).map_err(|unanswerable| unanswerable.term), answer, "{text}");
    }
    let outside = socket("127.0.0.1:22", SocketState::Established);
    assert_eq!(parse("autobound").matches(&outside.record), Ok(false));
    let mut mini = socket("127.0.0.1:1500", SocketState::TimeWait);
    mini.record.timer.kind = TimerKind::TimeWait;
    assert_eq!(parse("autobound").matches(&mini.record), Ok(true));
    assert_eq!(parse("cgroup = id:1").matches(&mini.record), Ok(false));

    let error = parse("state listening or autobound").compile().unwrap_err();
    assert_eq!(error.term, "autobound");
    assert!(error.to_string().contains("ask for these in filters of their own"), "{error}");
    assert!(parse("state listening and autobound").compile().is_ok());
}

#[test]
fn the_audit_here_refuses_bad_programs() {
    let op = |code: u8, yes: u8, no: u16| [[code, yes].as_slice(), &no.to_ne_bytes()].concat();
    for (program, why) in [
        (vec![], "too short"),
        (vec![op(99, 4, 8)], "unknown operation"),
        (vec![op(1, 4, 12)], "no"),
        (vec![op(1, 4, 6)], "no"),
        (vec![op(1, 8, 4)], "the yes steps miss the end"),
        (vec![op(2, 8, 8)], "data cut"),
        (vec![op(2, 4, 12), op(0, 0, 22)], "yes"),
        (vec![op(1, 4, 8), op(2, 8, 12), op(0, 0, 22)], "no leads between operations"),
        (vec![op(7, 12, 16), vec![libc::AF_INET as u8, 33, 0, 0], vec![0; 8]], "prefix length"),
    ] {
        assert_eq!(audit(&program.concat(), true), Err(why), "{program:?}");
    }
}
