//! The expression a filter text stands for: what it says of a record, and its canonical text.
//!
//! Reading text is the parser's business, talking to the kernel the compiler's.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

use super::error::Unanswerable;
use crate::record::{Family, SocketRecord};
use crate::state::{SocketState, StateSet};

/// A boolean expression over tests. [`Expr::all`], [`Expr::any`] and [`Expr::negate`] keep it flat: no `And`
/// inside `And`, no `Or` inside `Or`, no `Not` inside `Not`, at least two operands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Expr {
    Test(Test),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
}

/// One predicate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Test {
    State(StateSet),
    /// The socket's own family; `Inet` does not cover v4-mapped sockets, an IPv4 prefix does.
    Family(Family),
    /// One end of the socket.
    Endpoint {
        side: Side,
        prefix: Option<Prefix>,
        ports: Ports,
    },
    /// Bound to this interface; None: to none.
    Device(Option<NonZeroU32>),
    Mark {
        value: u32,
        mask: u32,
    },
    Cgroup(u64),
    /// The port was not chosen by an explicit bind(), and is in the ephemeral range given here.
    Autobound(Ports),
    User(u32),
    /// A process had it open when the text was read: the inodes of its sockets then, ascending.
    HeldBy {
        holder: Holder,
        inodes: Arc<[u32]>,
    },
}

/// The processes that `pid` or `comm` is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holder {
    /// The process of this number.
    Pid(u32),
    /// All of this name, as it was typed; the kernel keeps the first 15 bytes of a name.
    Named(Arc<str>),
}

/// Whether a socket is held by these processes, which had sockets of these inodes open when the text was read.
type Held<'a> = &'a dyn Fn(&Holder, &[u32]) -> bool;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Local,
    Remote,
}

/// An inclusive range of ports, never empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ports {
    pub(super) first: u16,
    pub(super) last: u16,
}

impl Ports {
    pub(super) const ALL: Ports = Ports { first: 0, last: u16::MAX };

    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// A network: an address whose bits after the first `bits` are zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Prefix {
    pub(super) address: IpAddr,
    pub(super) bits: u8,
}

impl Prefix {
    /// The network of `address`; `bits` is at most the address's length.
    pub(super) fn new(address: IpAddr, bits: u8) -> Prefix {
        let address = match address {
            IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & mask_v4(bits)).into(),
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & mask_v6(bits)).into(),
        };
        Prefix { address, bits }
    }

    pub(super) fn host(address: IpAddr) -> Prefix {
        Prefix { address, bits: longest_prefix(address) }
    }

    /// As the kernel compares: an IPv4 network also holds v4-mapped addresses, an IPv6 network no IPv4 ones,
    /// not even when it is `::/0`.
    fn contains(self, address: IpAddr) -> bool {
        let v4 = |network: Ipv4Addr, v4: Ipv4Addr| v4.to_bits() & mask_v4(self.bits) == network.to_bits();
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => v4(network, address),
            (IpAddr::V4(network), IpAddr::V6(address)) => {
                address.to_ipv4_mapped().is_some_and(|address| v4(network, address))
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                address.to_bits() & mask_v6(self.bits) == network.to_bits()
            }
            (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Bits of an address of this one's family: 32 or 128.
pub(super) fn longest_prefix(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn mask_v4(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

fn mask_v6(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl Expr {
    /// True when all of `operands` are; there is at least one.
    pub(super) fn all(operands: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(operands.len());
        for operand in operands {
            match operand {
                Expr::And(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Expr::And(flat) }
    }

    /// True when one of `operands` is; there is at least one.
    pub(super) fn any(operands: Vec<Expr>) -> Expr {
        let mut flat = Vec::with_capacity(operands.len());
        for operand in operands {
            match operand {
                Expr::Or(inner) => flat.extend(inner),
                other => flat.push(other),
            }
        }
        if flat.len() == 1 { flat.remove(0) } else { Expr::Or(flat) }
    }

    pub(super) fn negate(self) -> Expr {
        match self {
            Expr::Not(inner) => *inner,
            other => Expr::Not(Box::new(other)),
        }
    }

    /// The operands whose conjunction this is.
    pub(super) fn into_conjuncts(self) -> Vec<Expr> {
        match self {
            Expr::And(operands) => operands,
            other => vec![other],
        }
    }

    /// Whether the record satisfies this. A test that cannot be answered spoils only what it decides.
    pub(super) fn matches(&self, record: &SocketRecord, held: Held<'_>) -> Result<bool, Unanswerable> {
        match self {
            Expr::Test(test) => test.matches(record, held),
            Expr::Not(inner) => inner.matches(record, held).map(|yes| !yes),
            Expr::And(operands) => decide(operands, record, held, false),
            Expr::Or(operands) => decide(operands, record, held, true),
        }
    }

    /// Whether some test in here satisfies `wanted`.
    pub(super) fn mentions(&self, wanted: fn(&Test) -> bool) -> bool {
        match self {
            Expr::Test(test) => wanted(test),
            Expr::Not(inner) => inner.mentions(wanted),
            Expr::And(operands) | Expr::Or(operands) => {
                operands.iter().any(|operand| operand.mentions(wanted))
            }
        }
    }

    /// The states in which this can be `truth`: exact where only states are tested, else perhaps too many.
    pub(super) fn possible_states(&self, truth: bool) -> StateSet {
        let fold = |operands: &[Expr], meet: bool| {
            let sets = operands.iter().map(|operand| operand.possible_states(truth));
            if meet {
                sets.fold(StateSet::ALL, StateSet::intersection)
            } else {
                sets.fold(StateSet::EMPTY, StateSet::union)
            }
        };
        match self {
            Expr::Test(Test::State(set)) if truth => *set,
            Expr::Test(Test::State(set)) => StateSet::ALL.minus(*set),
            Expr::Test(_) => StateSet::ALL,
            Expr::Not(inner) => inner.possible_states(!truth),
            Expr::And(operands) => fold(operands, truth),
            Expr::Or(operands) => fold(operands, !truth),
        }
    }
}

/// One operand that is `deciding` decides; failing that, one without an answer leaves the whole without.
fn decide(
    operands: &[Expr],
    record: &SocketRecord,
    held: Held<'_>,
    deciding: bool,
) -> Result<bool, Unanswerable> {
    let mut doubt = None;
    for operand in operands {
        match operand.matches(record, held) {
            Ok(answer) if answer == deciding => return Ok(deciding),
            Ok(_) => {}
            Err(unanswerable) => doubt = doubt.or(Some(unanswerable)),
        }
    }
    doubt.map_or(Ok(!deciding), Err)
}

impl Test {
    pub(super) fn is_state(&self) -> bool {
        matches!(self, Test::State(_))
    }

    pub(super) fn is_autobound(&self) -> bool {
        matches!(self, Test::Autobound(_))
    }

    /// Whether only a record can tell: the kernel's programs know nothing of it.
    pub(super) fn needs_record(&self) -> bool {
        matches!(self, Test::State(_) | Test::User(_) | Test::HeldBy { .. })
    }

    /// Whether it names an address of this end.
    pub(super) fn names_address(&self, of: Side) -> bool {
        matches!(self, Test::Endpoint { side, prefix: Some(_), .. } if *side == of)
    }

    /// Whether it names ports of this end.
    pub(super) fn names_ports(&self, of: Side) -> bool {
        matches!(self, Test::Endpoint { side, ports, .. } if *side == of && *ports != Ports::ALL)
    }

    fn matches(&self, record: &SocketRecord, held: Held<'_>) -> Result<bool, Unanswerable> {
        let id = &record.id;
        Ok(match *self {
            // What has no user and no inode (TIME_WAIT, orphans) is nobody's.
            Test::User(uid) => record.uid == Some(uid),
            Test::HeldBy { ref holder, ref inodes } => held(holder, inodes),
            Test::State(set) => record.is_in(set),
            Test::Family(Family::Inet6) => record.family == Family::Inet6,
            Test::Family(_) => record.family != Family::Inet6,
            Test::Endpoint { side, prefix, ports } => {
                let (address, port) = match side {
                    Side::Local => (id.local_address, id.local_port),
                    Side::Remote => (id.remote_address, id.remote_port),
                };
                ports.contains(port) && prefix.is_none_or(|prefix| prefix.contains(address))
            }
            Test::Device(interface) => id.interface == interface,
            Test::Mark { value, mask } => match record.mark {
                Some(mark) => mark & mask == value,
                None => {
                    let why = "records tell a socket's mark only with CAP_NET_ADMIN";
                    return Err(Unanswerable { term: "fwmark", why });
                }
            },
            Test::Cgroup(cgroup) => match record.cgroup_id {
                Some(own) => own == cgroup,
                // To the kernel, what is not a full socket is in cgroup 0.
                None if record.is_mini() || record.state == SocketState::SynRecv => cgroup == 0,
                None => {
                    let why = "these records carry no cgroup (Linux 5.9 and later tell it)";
                    return Err(Unanswerable { term: "cgroup", why });
                }
            },
            Test::Autobound(range) if !range.contains(id.local_port) => false,
            // To the kernel, what is not a full socket was never bound by hand.
            Test::Autobound(_) if record.is_mini() => true,
            Test::Autobound(_) => {
                let why = "records do not tell whether a port was bound by hand";
                return Err(Unanswerable { term: "autobound", why });
            }
        })
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::Test(test) => test.fmt(f),
            Expr::Not(inner) => match &**inner {
                Expr::Test(test) => write!(f, "not {test}"),
                _ => write!(f, "not ({inner})"),
            },
            Expr::And(operands) => {
                for (i, operand) in operands.iter().enumerate() {
                    f.write_str(if i > 0 { " and " } else { "" })?;
                    match operand {
                        Expr::Or(_) => write!(f, "({operand})")?,
                        _ => operand.fmt(f)?,
                    }
                }
                Ok(())
            }
            Expr::Or(operands) => {
                for (i, operand) in operands.iter().enumerate() {
                    f.write_str(if i > 0 { " or " } else { "" })?;
                    operand.fmt(f)?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Test::State(set) => write_states(f, set),
            Test::Family(Family::Inet6) => f.write_str("src = inet6:*"),
            Test::Family(_) => f.write_str("src = inet:*"),
            Test::Endpoint { side, prefix: None, ports } => {
                let field = if side == Side::Local { "sport" } else { "dport" };
                match ports {
                    Ports::ALL => write!(f, "{field} = *"),
                    Ports { first, last: u16::MAX } => write!(f, "{field} >= {first}"),
                    Ports { first: 0, last } => write!(f, "{field} <= {last}"),
                    ports => write!(f, "{field} = {ports}"),
                }
            }
            Test::Endpoint { side, prefix: Some(prefix), ports } => {
                let field = if side == Side::Local { "src" } else { "dst" };
                write!(f, "{field} = {prefix}")?;
                if ports == Ports::ALL { Ok(()) } else { write!(f, ":{ports}") }
            }
            Test::Device(interface) => write!(f, "dev = id:{}", interface.map_or(0, NonZeroU32::get)),
            Test::Mark { value, mask: u32::MAX } => write!(f, "fwmark = {value:#x}"),
            Test::Mark { value, mask } => write!(f, "fwmark = {value:#x}/{mask:#x}"),
            Test::Cgroup(cgroup) => write!(f, "cgroup = id:{cgroup}"),
            Test::Autobound(_) => f.write_str("autobound"),
            Test::User(uid) => write!(f, "user = {uid}"),
            Test::HeldBy { holder: Holder::Pid(pid), .. } => write!(f, "pid = {pid}"),
            Test::HeldBy { holder: Holder::Named(ref name), .. } => {
                let quote = if name.contains('"') { '\'' } else { '"' };
                write!(f, "comm = {quote}{name}{quote}")
            }
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            IpAddr::V4(v4) => v4.fmt(f)?,
            IpAddr::V6(v6) => write!(f, "[{v6}]")?,
        }
        if self.bits == longest_prefix(self.address) { Ok(()) } else { write!(f, "/{}", self.bits) }
    }
}

fn write_states(f: &mut fmt::Formatter<'_>, set: StateSet) -> fmt::Result {
    match set {
        StateSet::ALL => return f.write_str("state all"),
        StateSet::EMPTY => return f.write_str("exclude all"),
        _ => f.write_str("state ")?,
    }
    // A set has NEW_SYN_RECV exactly when it has SYN_RECV: see the parser.
    let named = SocketState::all().filter(|state| set.contains(*state) && *state != SocketState::NewSynRecv);
    for (i, state) in named.enumerate() {
        f.write_str(if i > 0 { "," } else { "" })?;
        f.write_str(match state {
            SocketState::Established => "established",
            SocketState::SynSent => "syn-sent",
            SocketState::SynRecv => "syn-recv",
            SocketState::FinWait1 => "fin-wait-1",
            SocketState::FinWait2 => "fin-wait-2",
            SocketState::TimeWait => "time-wait",
            SocketState::Close => "unconnected",
            SocketState::CloseWait => "close-wait",
            SocketState::LastAck => "last-ack",
            SocketState::Listen => "listening",
            SocketState::BoundInactive => "bound-inactive",
            other => other.snake_name(),
        })?;
    }
    Ok(())
}
