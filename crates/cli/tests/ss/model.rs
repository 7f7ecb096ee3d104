//! What a command line selects: as its words mean, and as ss takes them where it is wrong.
//!
//! Plain code over what is known of each socket; nothing of sockeye or of the kernel's filters is used here. Where
//! ss differs from the meaning, the difference is a [`Flaw`] with its proof, and ss must list exactly what the model
//! with the flaws predicts: there is no tolerance. Which flaws an ss has is found out with one command line each.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sock_diag::{Family, Protocol};

use crate::world::{Animal, Program, World};

/// Sets of states by the kernel's numbers, bit n for state n.
pub(crate) type States = u16;
const LISTEN: States = 1 << 10;
const CLOSE: States = 1 << 7;
const BUCKET: States = 1 << 6 | 1 << 3;
/// Linux 6.8 asks for it as a state of its own; ss 6.1 has no word and no bit for it.
const BOUND_INACTIVE: States = 1 << 13;
const ALL: States = 0xffe | BOUND_INACTIVE;
const CONNECTED: States = 0xffe & !(LISTEN | CLOSE);
/// Without -a, -l or `state`: "open non-listening sockets that have established connection" (ss(8)).
const BY_DEFAULT: States = CONNECTED & !BUCKET;

/// The words of ss(8) for states.
pub(crate) const STATE_WORDS: &[(&str, States)] = &[
    ("established", 1 << 1),
    ("syn-sent", 1 << 2),
    ("syn-recv", 1 << 3),
    ("fin-wait-1", 1 << 4),
    ("fin-wait-2", 1 << 5),
    ("time-wait", 1 << 6),
    ("closed", CLOSE),
    ("unconnected", CLOSE),
    ("close-wait", 1 << 8),
    ("last-ack", 1 << 9),
    ("listening", LISTEN),
    ("closing", 1 << 11),
    ("all", ALL),
    ("connected", CONNECTED),
    ("synchronized", CONNECTED & !(1 << 2)),
    ("bucket", BUCKET),
    ("big", ALL & !BUCKET),
];

/// What ss gets wrong; version 6.1 has them all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    /// It cannot ask for bound sockets that neither listen nor are connected, so that `-a` does not show all. The
    /// sockets are there: this process holds their descriptors, and another bind() to their ports fails.
    NoBoundInactive,
    /// It reads `and` and `or` from left to right; ss(8): "in increasing order of precedence are or, and, not".
    LeftToRight,
    /// It tests the whole expression twice, in the kernel where `autobound` asks only whether bind() named a port, and
    /// itself, where it asks only for the ephemeral range. Both must hold. So `not autobound` lists only what is
    /// neither: a filter and its negation together do not list every socket.
    AutoboundInHalves,
    /// In that second test it compares addresses without looking at their family, and takes a prefix of length 0 for no
    /// condition: `0.0.0.0` equals `::`. Again a filter and its negation do not list every socket.
    BlindToFamily,
    /// It has no bytecode for `dev`: an expression with it is tested only once, by ss itself. That shows together with
    /// the two above.
    DeviceNotInKernel,
    /// `inet:` or `inet6:` anywhere narrows the whole listing: `A or B` lists less than `A` alone.
    FamilyForAll,
    /// It takes an empty set of states for none given, and lists the default ones: `exclude all` lists plenty.
    EmptyStatesIgnored,
}

impl Flaw {
    pub(crate) const ALL: &[Flaw] = &[
        Flaw::NoBoundInactive,
        Flaw::LeftToRight,
        Flaw::AutoboundInHalves,
        Flaw::BlindToFamily,
        Flaw::DeviceNotInKernel,
        Flaw::FamilyForAll,
        Flaw::EmptyStatesIgnored,
    ];

    /// A command line in which it shows, if those before it in [`ALL`](Self::ALL) are known.
    pub(crate) fn probe(self) -> Case {
        let host = |family, address: Option<IpAddr>, value: &str| {
            let prefix = address.map(|address| (address, if address.is_ipv4() { 32 } else { 128 }));
            let value = value.to_owned();
            Expr::Atom(Atom::Host { side: Side::Local, family, prefix, port: None, value, equals: "" })
        };
        let not = |expr| Expr::Not("not", Box::new(expr));
        let loopback = || host(None, Some(Ipv4Addr::LOCALHOST.into()), "127.0.0.1");
        let chosen = || Expr::Atom(Atom::Range { side: Side::Local, first: 1, last: 32_767 });
        let device = vec!["dev".to_owned(), "lo".to_owned()];
        let expr = match self {
            Flaw::NoBoundInactive | Flaw::EmptyStatesIgnored => None,
            Flaw::LeftToRight => Some(Expr::List(vec![
                (Join::And(""), loopback()),
                (Join::Or("or"), chosen()),
                (Join::And("and"), not(loopback())),
            ])),
            Flaw::AutoboundInHalves => Some(not(Expr::Atom(Atom::Autobound))),
            Flaw::BlindToFamily => Some(not(host(None, Some(Ipv6Addr::UNSPECIFIED.into()), "[::]"))),
            Flaw::DeviceNotInKernel => Some(Expr::List(vec![
                (Join::And(""), not(Expr::Atom(Atom::Autobound))),
                (Join::And("and"), not(Expr::Atom(Atom::Device { index: 1, equal: true, words: device }))),
            ])),
            Flaw::FamilyForAll => Some(Expr::List(vec![
                (Join::And(""), host(Some(Family::Inet6), None, "inet6:*")),
                (Join::Or("or"), chosen()),
            ])),
        };
        let clauses = match self {
            Flaw::EmptyStatesIgnored => {
                STATE_WORDS.iter().position(|row| row.0 == "all").map(|all| (false, all))
            }
            _ => None,
        };
        let options = vec!["-ta".to_owned()];
        Case {
            options,
            tcp: true,
            udp: false,
            family: None,
            shown: Shown::All,
            clauses: clauses.into_iter().collect(),
            expr,
        }
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Flaw::NoBoundInactive => "no bound-inactive",
            Flaw::LeftToRight => "precedence",
            Flaw::AutoboundInHalves => "autobound",
            Flaw::BlindToFamily => "family of addresses",
            Flaw::DeviceNotInKernel => "dev",
            Flaw::FamilyForAll => "inet: for all",
            Flaw::EmptyStatesIgnored => "empty states",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Local,
    Remote,
}

impl Side {
    fn of(self, animal: &Animal) -> (IpAddr, u16) {
        let end = match self {
            Side::Local => animal.local,
            Side::Remote => animal.remote,
        };
        (end.ip(), end.port())
    }

    fn host_word(self) -> &'static str {
        if self == Side::Local { "src" } else { "dst" }
    }

    fn port_word(self) -> &'static str {
        if self == Side::Local { "sport" } else { "dport" }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One condition, with the words that spell it.
#[derive(Clone, Debug)]
pub(crate) enum Atom {
    Host {
        side: Side,
        family: Option<Family>,
        prefix: Option<(IpAddr, u8)>,
        port: Option<u16>,
        value: String,
        equals: &'static str,
    },
    Port {
        side: Side,
        comparison: Comparison,
        port: u16,
        operator: &'static str,
        colon: bool,
    },
    /// ss has no ranges: there it is two comparisons in parentheses.
    Range {
        side: Side,
        first: u16,
        last: u16,
    },
    Device {
        index: u32,
        equal: bool,
        words: Vec<String>,
    },
    Mark {
        value: u32,
        mask: u32,
        equal: bool,
        words: Vec<String>,
    },
    /// The cgroup of this process, and so of all sockets that have one.
    Cgroup {
        equal: bool,
        words: Vec<String>,
    },
    Autobound,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Join {
    /// The word; empty for juxtaposition.
    And(&'static str),
    Or(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Atom(Atom),
    Not(&'static str, Box<Expr>),
    /// Operands with what joins each to those before it; the first one's is meaningless.
    List(Vec<(Join, Expr)>),
}

/// Which states the options ask for: the last one counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shown {
    ByDefault,
    All,
    Listening,
}

/// One command line.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// As typed.
    pub(crate) options: Vec<String>,
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
    pub(crate) family: Option<Family>,
    pub(crate) shown: Shown,
    /// `state` (true) or `exclude`, and an index into [`STATE_WORDS`].
    pub(crate) clauses: Vec<(bool, usize)>,
    pub(crate) expr: Option<Expr>,
}

impl Case {
    /// The arguments for a program.
    pub(crate) fn arguments(&self, program: Program) -> Vec<String> {
        let mut words = self.options.clone();
        for (adds, word) in &self.clauses {
            words.push(if *adds { "state" } else { "exclude" }.to_owned());
            words.push(STATE_WORDS[*word].0.to_owned());
        }
        if let Some(expr) = &self.expr {
            expr.write(program, true, &mut words);
        }
        words
    }

    /// Cases with a little less in them.
    pub(crate) fn smaller(&self) -> Vec<Case> {
        let without_clause = (0..self.clauses.len()).map(|at| {
            let mut case = self.clone();
            case.clauses.remove(at);
            case
        });
        let exprs = self.expr.iter().flat_map(|expr| {
            expr.smaller().into_iter().map(|expr| Case { expr: Some(expr), ..self.clone() })
        });
        let without_expr = self.expr.as_ref().map(|_| Case { expr: None, ..self.clone() });
        without_expr.into_iter().chain(without_clause).chain(exprs).collect()
    }

    /// The protocol of every line, when the options name one.
    pub(crate) fn only(&self) -> Option<Protocol> {
        match (self.tcp, self.udp) {
            (true, false) => Some(Protocol::Tcp),
            (false, true) => Some(Protocol::Udp),
            _ => None,
        }
    }

    /// Indices of the sockets it lists when these flaws are at work, in order.
    pub(crate) fn selects(&self, world: &World, flaws: &[Flaw]) -> Vec<usize> {
        let has = |flaw| flaws.contains(&flaw);
        let states = self.states(has(Flaw::EmptyStatesIgnored));
        let family = if has(Flaw::FamilyForAll) { self.family_of_ss() } else { self.family };
        let in_program_alone =
            has(Flaw::DeviceNotInKernel) && self.expr.as_ref().is_some_and(Expr::mentions_device);
        let passes = |animal: &Animal, stage| {
            self.expr.as_ref().is_none_or(|expr| Judge { flaws, stage }.expr(expr, animal))
        };
        let listed = |animal: &Animal| {
            let state = if animal.is_bound_inactive() { BOUND_INACTIVE } else { 1 << animal.state.raw() };
            self.only().is_none_or(|only| only == animal.protocol)
                && family.is_none_or(|family| family == animal.family)
                && states & state != 0
                && !(has(Flaw::NoBoundInactive) && animal.is_bound_inactive())
                && (in_program_alone || passes(animal, Stage::Kernel))
                && passes(animal, Stage::Program)
        };
        (0..world.animals.len()).filter(|at| listed(&world.animals[*at])).collect()
    }

    fn states(&self, empty_is_default: bool) -> States {
        let named = self.clauses.iter().fold(None, |states: Option<States>, (adds, word)| {
            let word = STATE_WORDS[*word].1;
            Some(if *adds { states.unwrap_or(0) | word } else { states.unwrap_or(ALL) & !word })
        });
        match named {
            Some(states) if empty_is_default && states & !BOUND_INACTIVE == 0 => BY_DEFAULT,
            Some(states) => states,
            None => match self.shown {
                Shown::ByDefault => BY_DEFAULT,
                Shown::All => ALL,
                Shown::Listening => LISTEN | CLOSE,
            },
        }
    }

    /// The family ss lists: of the options, or of the last `inet:` or `inet6:` it came by.
    fn family_of_ss(&self) -> Option<Family> {
        let mut family = self.family;
        self.each_host(&mut |named, _| family = named.or(family));
        family
    }

    /// Whether ss does not take the text: once a family is named, by an option or before an address, every address
    /// after it must be of that family. (ss(8) wants "all the same family or … only inet and inet6".)
    pub(crate) fn ss_refuses(&self) -> bool {
        let (mut family, mut refuses) = (self.family, false);
        self.each_host(&mut |named, address| {
            family = named.or(family);
            refuses |= family.zip(address).is_some_and(|(family, of)| family != of);
        });
        refuses
    }

    /// Calls `each` with the named family and the address's, of every host in the text, in its order.
    fn each_host(&self, each: &mut dyn FnMut(Option<Family>, Option<Family>)) {
        fn walk(expr: &Expr, each: &mut dyn FnMut(Option<Family>, Option<Family>)) {
            match expr {
                Expr::Atom(Atom::Host { family, prefix, .. }) => {
                    each(*family, prefix.map(|(address, _)| family_of(address)));
                }
                Expr::Atom(_) => {}
                Expr::Not(_, inner) => walk(inner, each),
                Expr::List(operands) => operands.iter().for_each(|(_, operand)| walk(operand, each)),
            }
        }
        self.expr.iter().for_each(|expr| walk(expr, each));
    }
}

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Inet } else { Family::Inet6 }
}

impl Expr {
    fn smaller(&self) -> Vec<Expr> {
        match self {
            Expr::Atom(_) => vec![],
            Expr::Not(not, inner) => {
                let inside = inner.smaller().into_iter().map(|inner| Expr::Not(not, Box::new(inner)));
                [(**inner).clone()].into_iter().chain(inside).collect()
            }
            Expr::List(operands) => {
                let mut smaller: Vec<Expr> = operands.iter().map(|(_, operand)| operand.clone()).collect();
                for at in 0..operands.len() {
                    if operands.len() > 2 {
                        let mut fewer = operands.clone();
                        fewer.remove(at);
                        smaller.push(Expr::List(fewer));
                    }
                    smaller.extend(operands[at].1.smaller().into_iter().map(|inner| {
                        let mut changed = operands.clone();
                        changed[at].1 = inner;
                        Expr::List(changed)
                    }));
                }
                smaller
            }
        }
    }

    fn mentions_device(&self) -> bool {
        match self {
            Expr::Atom(atom) => matches!(atom, Atom::Device { .. }),
            Expr::Not(_, inner) => inner.mentions_device(),
            Expr::List(operands) => operands.iter().any(|(_, operand)| operand.mentions_device()),
        }
    }

    fn write(&self, program: Program, outermost: bool, words: &mut Vec<String>) {
        match self {
            Expr::Atom(atom) => atom.write(program, words),
            Expr::Not(not, inner) => {
                words.push((*not).to_owned());
                inner.write(program, false, words);
            }
            Expr::List(operands) => {
                words.extend((!outermost).then(|| "(".to_owned()));
                for (at, (join, operand)) in operands.iter().enumerate() {
                    let (Join::And(word) | Join::Or(word)) = join;
                    words.extend((at > 0 && !word.is_empty()).then(|| (*word).to_owned()));
                    operand.write(program, false, words);
                }
                words.extend((!outermost).then(|| ")".to_owned()));
            }
        }
    }
}

impl Atom {
    fn write(&self, program: Program, words: &mut Vec<String>) {
        let mut push = |word: &str| words.extend((!word.is_empty()).then(|| word.to_owned()));
        match self {
            Atom::Host { side, value, equals, .. } => {
                push(side.host_word());
                push(equals);
                push(value);
            }
            Atom::Port { side, operator, port, colon, .. } => {
                push(side.port_word());
                push(operator);
                push(&format!("{}{port}", if *colon { ":" } else { "" }));
            }
            Atom::Range { side, first, last } => {
                let word = side.port_word();
                match program {
                    Program::Sockeye => push(&format!("{word} = {first}-{last}")),
                    Program::Ss => push(&format!("( {word} >= :{first} and {word} <= :{last} )")),
                }
            }
            Atom::Device { words, .. } | Atom::Mark { words, .. } | Atom::Cgroup { words, .. } => {
                words.iter().for_each(|word| push(word));
            }
            Atom::Autobound => push("autobound"),
        }
    }
}

/// Where ss tests an expression. Without flaws both tests are the same.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Kernel,
    Program,
}

/// Tests sockets, with some flaws.
struct Judge<'f> {
    flaws: &'f [Flaw],
    stage: Stage,
}

impl Judge<'_> {
    fn has(&self, flaw: Flaw) -> bool {
        self.flaws.contains(&flaw)
    }

    fn expr(&self, expr: &Expr, animal: &Animal) -> bool {
        match expr {
            Expr::Atom(atom) => self.atom(atom, animal),
            Expr::Not(_, inner) => !self.expr(inner, animal),
            Expr::List(operands) if self.has(Flaw::LeftToRight) => {
                operands.iter().skip(1).fold(self.expr(&operands[0].1, animal), |so_far, (join, operand)| {
                    match join {
                        Join::And(_) => so_far && self.expr(operand, animal),
                        Join::Or(_) => so_far || self.expr(operand, animal),
                    }
                })
            }
            Expr::List(operands) => operands
                .chunk_by(|_, (join, _)| matches!(join, Join::And(_)))
                .any(|all| all.iter().all(|(_, operand)| self.expr(operand, animal))),
        }
    }

    fn atom(&self, atom: &Atom, animal: &Animal) -> bool {
        match atom {
            Atom::Host { side, family, prefix, port, .. } => {
                let (address, at) = side.of(animal);
                let family = family.filter(|_| !self.has(Flaw::FamilyForAll));
                family.is_none_or(|family| family == animal.family)
                    && port.is_none_or(|port| port == at)
                    && prefix.is_none_or(|(network, bits)| self.is_within(address, network, bits))
            }
            Atom::Port { side, comparison, port, .. } => {
                let at = side.of(animal).1;
                match comparison {
                    Comparison::Equal => at == *port,
                    Comparison::NotEqual => at != *port,
                    Comparison::Less => at < *port,
                    Comparison::LessOrEqual => at <= *port,
                    Comparison::Greater => at > *port,
                    Comparison::GreaterOrEqual => at >= *port,
                }
            }
            Atom::Range { side, first, last } => (*first..=*last).contains(&side.of(animal).1),
            Atom::Device { index, equal, .. } => (animal.interface == *index) == *equal,
            Atom::Mark { value, mask, equal, .. } => (animal.mark & mask == *value) == *equal,
            Atom::Cgroup { equal, .. } => animal.mini != *equal,
            Atom::Autobound => {
                let ephemeral = (32_768..=60_999).contains(&animal.local.port());
                match self.stage {
                    Stage::Kernel if self.has(Flaw::AutoboundInHalves) => !animal.bound_by_hand,
                    Stage::Program if self.has(Flaw::AutoboundInHalves) => ephemeral,
                    _ => !animal.bound_by_hand && ephemeral,
                }
            }
        }
    }

    /// An IPv4 network holds the v4-mapped sockets of its addresses too; an IPv6 network holds no IPv4 socket.
    fn is_within(&self, address: IpAddr, network: IpAddr, bits: u8) -> bool {
        let begins_alike = |a: &[u8], b: &[u8]| {
            (0..usize::from(bits)).all(|bit| (a[bit / 8] ^ b[bit / 8]) & (0x80 >> (bit % 8)) == 0)
        };
        if self.stage == Stage::Program && self.has(Flaw::BlindToFamily) {
            let padded = |address: IpAddr| match address {
                IpAddr::V4(v4) => [&v4.octets()[..], &[0; 12]].concat(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            if bits == 0 || begins_alike(&padded(address), &padded(network)) {
                return true;
            }
        }
        match (address, network) {
            (IpAddr::V4(a), IpAddr::V4(b)) => begins_alike(&a.octets(), &b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => begins_alike(&a.octets(), &b.octets()),
            (IpAddr::V6(a), IpAddr::V4(b)) => {
                a.to_ipv4_mapped().is_some_and(|a| begins_alike(&a.octets(), &b.octets()))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
    }
}
