//! Filters on the real kernel: its answer to a program, ours without one, and a model of the zoo itself must agree.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod look;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::ControlFlow;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use sock_diag::filter::{Filter, NoNames, PortRangeOnly};
use sock_diag::{
    Cookie, DumpRequest, Error, Exchange, Kernel, Protocol, RecvBuffer, Result, SocketRecord, SocketState,
    Source, StateSet, dump,
};
use sockeye_tests::{Namespace, Specimen, Zoo, ZooSpec};

/// A source that runs no filter programs, as a capture does not.
struct WithoutPrograms(Kernel);

impl Source for WithoutPrograms {
    fn send(&mut self, request: &mut [u8]) -> Result<Exchange> {
        self.0.send(request)
    }

    fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize> {
        self.0.receive(buffer)
    }

    fn runs_filters(&self) -> bool {
        false
    }
}

/// A kernel that refuses every filter program with EINVAL, as one does that lacks an operation of it.
struct RefusingPrograms {
    kernel: Kernel,
    refusal: Option<Exchange>,
    refused: u32,
}

impl Source for RefusingPrograms {
    fn send(&mut self, request: &mut [u8]) -> Result<Exchange> {
        /// A request without attributes: struct inet_diag_req behind its header, the longer of the two kinds.
        const BARE: usize = 16 + 60;
        if request.len() <= BARE {
            return self.kernel.send(request);
        }
        self.refused += 1;
        let exchange = Exchange { sequence: 1_000_000 + self.refused, port_id: 7 };
        self.refusal = Some(exchange);
        Ok(exchange)
    }

    fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize> {
        let Some(exchange) = self.refusal.take() else { return self.kernel.receive(buffer) };
        const NLMSG_ERROR: u32 = 2;
        let words =
            [36, NLMSG_ERROR, exchange.sequence, exchange.port_id, (-libc::EINVAL) as u32, 0, 0, 0, 0];
        let message: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        buffer.bytes_mut()[..message.len()].copy_from_slice(&message);
        Ok(message.len())
    }

    fn runs_filters(&self) -> bool {
        true
    }
}

/// What a filter means, said of a specimen. Its `Display` is the filter's text.
#[derive(Clone, Debug)]
enum Model {
    State(Vec<SocketState>),
    Host { local: bool, equal: bool, address: IpAddr, bits: u8, port: Option<u16> },
    AnyHost { local: bool, port: u16 },
    Port { local: bool, operator: &'static str, port: u16 },
    Ports { local: bool, first: u16, last: u16 },
    Interface { equal: bool, index: u32 },
    Mark { value: u32, mask: Option<u32> },
    Cgroup { equal: bool, id: u64 },
    Not(Box<Model>),
    And(Vec<Model>),
    Or(Vec<Model>),
}

impl Model {
    fn holds(&self, specimen: &Specimen, record: &SocketRecord) -> bool {
        let end = |local: bool| if local { specimen.local } else { specimen.remote };
        match self {
            Model::State(states) => states.iter().any(|state| match state {
                SocketState::BoundInactive => specimen.is_bound_inactive(),
                state => specimen.state == *state && !specimen.is_bound_inactive(),
            }),
            Model::Host { local, equal, address, bits, port } => {
                let end = end(*local);
                let is_it =
                    is_within(end.ip(), *address, *bits) && port.is_none_or(|port| port == end.port());
                is_it == *equal
            }
            Model::AnyHost { local, port } => end(*local).port() == *port,
            Model::Port { local, operator, port } => {
                let own = end(*local).port();
                match *operator {
                    "=" => own == *port,
                    "!=" => own != *port,
                    "<" => own < *port,
                    "<=" => own <= *port,
                    ">" => own > *port,
                    _ => own >= *port,
                }
            }
            Model::Ports { local, first, last } => (*first..=*last).contains(&end(*local).port()),
            Model::Interface { equal, index } => {
                (specimen.interface.map_or(0, |own| own.get()) == *index) == *equal
            }
            Model::Mark { value, mask } => specimen.mark & mask.unwrap_or(u32::MAX) == *value,
            // The kit has no other way to know a socket's cgroup than its record.
            Model::Cgroup { equal, id } => (record.cgroup_id.unwrap_or(0) == *id) == *equal,
            Model::Not(inner) => !inner.holds(specimen, record),
            Model::And(all) => all.iter().all(|one| one.holds(specimen, record)),
            Model::Or(any) => any.iter().any(|one| one.holds(specimen, record)),
        }
    }
}

/// An IPv4 network also holds v4-mapped addresses, an IPv6 network only IPv6 ones.
fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same =
        |a: u128, b: u128, width: u32| a >> (width - u32::from(bits)) == b >> (width - u32::from(bits));
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => same(a.to_bits().into(), n.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V4(n)) => {
            a.to_ipv4_mapped().is_some_and(|a| same(a.to_bits().into(), n.to_bits().into(), 32))
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => same(a.to_bits(), n.to_bits(), 128),
        (IpAddr::V4(_), IpAddr::V6(_)) => false,
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = |equal: bool| if equal { "=" } else { "!=" };
        let host = |local: bool| if local { "src" } else { "dst" };
        let sport = |local: bool| if local { "sport" } else { "dport" };
        let joined = |all: &[Model], word: &str| {
            let all: Vec<String> = all.iter().map(|one| format!("( {one} )")).collect();
            all.join(word)
        };
        match self {
            Model::State(states) => {
                let words: Vec<&str> = states.iter().map(|state| state.snake_name()).collect();
                write!(f, "state {}", words.join(","))
            }
            Model::Host { local, equal, address, bits, port } => {
                let whole = if address.is_ipv4() { 32 } else { 128 };
                write!(f, "{} {} ", host(*local), operator(*equal))?;
                match address {
                    IpAddr::V6(v6) => write!(f, "[{v6}]")?,
                    IpAddr::V4(v4) => write!(f, "{v4}")?,
                }
                if *bits < whole {
                    write!(f, "/{bits}")?;
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
            Model::AnyHost { local, port } => write!(f, "{} *:{port}", host(*local)),
            Model::Port { local, operator, port } => write!(f, "{} {operator} :{port}", sport(*local)),
            Model::Ports { local, first, last } => write!(f, "{} = {first}-{last}", sport(*local)),
            Model::Interface { equal, index } => write!(f, "dev {} id:{index}", operator(*equal)),
            Model::Mark { value, mask: None } => write!(f, "fwmark = {value}"),
            Model::Mark { value, mask: Some(mask) } => write!(f, "fwmark = {value:#x}/{mask:#x}"),
            Model::Cgroup { equal, id } => write!(f, "cgroup {} id:{id}", operator(*equal)),
            Model::Not(inner) => write!(f, "not ( {inner} )"),
            Model::And(all) => f.write_str(&joined(all, " and ")),
            Model::Or(any) => f.write_str(&joined(any, " or ")),
        }
    }
}

/// Filters about what the zoo holds, and about what is next to it.
fn models(ends: Vec<SocketAddr>, cgroups: Vec<u64>) -> impl Strategy<Value = Model> {
    let states: Vec<SocketState> =
        SocketState::all().filter(|state| *state != SocketState::NewSynRecv).collect();
    let end = || prop::sample::select(ends.clone());
    let port =
        || (end(), -1..=1_i32).prop_map(|(end, off)| (i32::from(end.port()) + off).clamp(0, 65_535) as u16);
    let leaf = prop_oneof![
        3 => prop::sample::subsequence(states, 1..4).prop_map(Model::State),
        4 => (any::<bool>(), any::<bool>(), end(), 1..=128_u8, prop::option::weighted(0.3, end())).prop_map(
            |(local, equal, end, bits, port)| Model::Host {
                local,
                equal,
                address: end.ip(),
                // Half of them whole addresses.
                bits: match end.ip() {
                    IpAddr::V4(_) if bits > 64 => 32,
                    IpAddr::V4(_) => bits.div_ceil(2),
                    IpAddr::V6(_) if bits % 2 == 0 => 128,
                    IpAddr::V6(_) => bits,
                },
                port: port.map(|end: SocketAddr| end.port()),
            }
        ),
        1 => (any::<bool>(), port()).prop_map(|(local, port)| Model::AnyHost { local, port }),
        4 => (any::<bool>(), prop::sample::select(vec!["=", "!=", "<", "<=", ">", ">="]), port())
            .prop_map(|(local, operator, port)| Model::Port { local, operator, port }),
        2 => (any::<bool>(), port(), port())
            .prop_map(|(local, a, b)| Model::Ports { local, first: a.min(b), last: a.max(b) }),
        1 => (any::<bool>(), 1..=2_u32).prop_map(|(equal, index)| Model::Interface { equal, index }),
        1 => (
            prop::sample::select(vec![0, 1, 0x5eed, 0x8000_0000_u32]),
            prop::option::of(prop::sample::select(vec![0xffff, 0x8000_0000, 1_u32]))
        )
            .prop_map(|(value, mask)| Model::Mark { value: value & mask.unwrap_or(u32::MAX), mask }),
        1 => (any::<bool>(), prop::sample::select(cgroups)).prop_map(|(equal, id)| Model::Cgroup { equal, id }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let several = prop::collection::vec(inner.clone(), 2..4);
        prop_oneof![
            inner.prop_map(|inner| Model::Not(Box::new(inner))),
            several.clone().prop_map(Model::And),
            several.prop_map(Model::Or),
        ]
    })
}

const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];

/// Whom a source tells of through a filter, over both protocols. Nobody may come twice.
fn told(source: &mut dyn Source, filter: &Filter) -> BTreeSet<Cookie> {
    let mut cookies = BTreeSet::new();
    for protocol in PROTOCOLS {
        let states = filter.states().unwrap_or(StateSet::ALL);
        let request = DumpRequest::all(protocol).states(states).filter(filter);
        for record in look::dumped(source, &request).0 {
            assert!(cookies.insert(record.id.cookie), "{filter}: told twice: {record:?}");
        }
    }
    cookies
}

/// Each specimen with its record.
fn pairs(zoo: &Zoo) -> Vec<(&Specimen, SocketRecord)> {
    let all: Vec<SocketRecord> =
        PROTOCOLS.iter().flat_map(|protocol| look::records(&DumpRequest::all(*protocol))).collect();
    let own = |specimen: &Specimen| {
        let is_it = |record: &&SocketRecord| {
            let ends = (
                record.id.local_address,
                record.id.local_port,
                record.id.remote_address,
                record.id.remote_port,
            );
            (record.protocol, record.state, record.family)
                == (specimen.protocol, specimen.state, specimen.family)
                && ends
                    == (
                        specimen.local.ip(),
                        specimen.local.port(),
                        specimen.remote.ip(),
                        specimen.remote.port(),
                    )
        };
        *all.iter().find(is_it).unwrap_or_else(|| panic!("not dumped: {specimen:?}"))
    };
    let of_ours = zoo.specimens.iter().filter(|specimen| PROTOCOLS.contains(&specimen.protocol));
    let pairs: Vec<_> = of_ours.map(|specimen| (specimen, own(specimen))).collect();
    assert_eq!(pairs.len(), all.len());
    pairs
}

#[test]
fn kernel_user_space_and_model_select_the_same() {
    Namespace::new().run(|| {
        let zoo = Zoo::open(&ZooSpec::default()).unwrap();
        let pairs = pairs(&zoo);
        let mut ends: Vec<SocketAddr> =
            pairs.iter().flat_map(|(specimen, _)| [specimen.local, specimen.remote]).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut cgroups: Vec<u64> = pairs.iter().filter_map(|(_, record)| record.cgroup_id).collect();
        cgroups.push(u64::MAX - 1);
        cgroups.sort_unstable();
        cgroups.dedup();

        let mut kernel = Kernel::open().unwrap();
        let mut without = WithoutPrograms(Kernel::open().unwrap());
        let mut refusing = RefusingPrograms { kernel: Kernel::open().unwrap(), refusal: None, refused: 0 };
        let (mut some, mut filters) = (0, 0);
        let mut compare = |model: Model| -> TestCaseResult {
            let text = model.to_string();
            let filter = Filter::parse(&text, &NoNames)
                .map_err(|error| TestCaseError::fail(format!("{text}\n{}", error.render(&text))))?;
            let expected: BTreeSet<Cookie> = pairs
                .iter()
                .filter(|(specimen, record)| model.holds(specimen, record))
                .map(|(_, record)| record.id.cookie)
                .collect();
            prop_assert_eq!(&told(&mut kernel, &filter), &expected, "the kernel: {}", text);
            prop_assert_eq!(&told(&mut without, &filter), &expected, "user space: {}", text);
            prop_assert_eq!(&told(&mut refusing, &filter), &expected, "after EINVAL: {}", text);
            filters += 1;
            some += u32::from(!expected.is_empty() && expected.len() < pairs.len());
            Ok(())
        };
        let config = Config { cases: 400, failure_persistence: None, ..Config::default() };
        // A runner takes Fn; each case is run alone.
        let compare = std::cell::RefCell::new(&mut compare);
        let result = TestRunner::new(config).run(&models(ends, cgroups), |model| (compare.borrow_mut())(model));
        if let Err(error) = result {
            panic!("{error}");
        }
        eprintln!(
            "{filters} filters over {} sockets, three ways; {some} select some but not all; {} programs refused",
            pairs.len(),
            refusing.refused
        );
        assert!(some > filters / 3, "most filters must tell sockets apart: {some} of {filters}");
        assert!(refusing.refused > 400, "{}", refusing.refused);
    });
}

#[test]
fn a_refused_program_is_said_in_the_summary() {
    Namespace::new().run(|| {
        let _zoo = Zoo::open(&ZooSpec { herds: 1, ipv6: true }).unwrap();
        let filter = Filter::parse("sport > 1", &NoNames).unwrap();
        let request = DumpRequest::all(Protocol::Tcp).filter(&filter);
        let (by_kernel, summary) = look::dumped(&mut Kernel::open().unwrap(), &request);
        assert!(!summary.filtered_in_user_space);
        let mut refusing = RefusingPrograms { kernel: Kernel::open().unwrap(), refusal: None, refused: 0 };
        let (by_us, summary) = look::dumped(&mut refusing, &request);
        assert!(summary.filtered_in_user_space && refusing.refused > 0);
        assert_eq!(by_kernel.len(), by_us.len());
    });
}

#[test]
fn only_the_kernel_can_say_autobound() {
    Namespace::new().port_range("40000 40999").run(|| {
        let chosen_by_kernel = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let by_number = TcpListener::bind(("127.0.0.1", chosen_by_kernel)).unwrap();
        let by_kernel = TcpListener::bind("127.0.0.2:0").unwrap();
        let filter = Filter::parse("autobound", &PortRangeOnly { first: 40_000, last: 40_999 }).unwrap();
        let request = DumpRequest::all(Protocol::Tcp).filter(&filter);
        let told: Vec<IpAddr> =
            look::records(&request).iter().map(|record| record.id.local_address).collect();
        assert_eq!(
            told,
            [by_kernel.local_addr().unwrap().ip()],
            "not {by_number:?}, whose port was asked for"
        );
        let mut without = WithoutPrograms(Kernel::open().unwrap());
        let here = dump(&mut without, &request, &mut RecvBuffer::new(), |_| ControlFlow::Continue(()));
        assert!(matches!(here, Err(Error::Unanswerable(_))), "{here:?}");
    });
}
