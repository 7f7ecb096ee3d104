//! Socket filters in the grammar of ss: parsed here, run by the kernel, or in user space where it cannot.
//!
//! ```text
//! FILTER     := [ { state | exclude } STATE[,STATE]... ]... [ EXPRESSION ]
//! EXPRESSION := predicates joined by `or` `|` `||`, `and` `&` `&&` (or nothing), `not` `!`, and ( )
//! predicates:   src dst        [= !=]           [inet:|inet6:]HOST[/BITS][:PORTS]
//!               sport dport    [= != < <= > >=] [:]PORTS
//!               dev            [= !=]           INTERFACE | INDEX | id:INDEX
//!               fwmark         [= !=]           VALUE[/MASK]
//!               cgroup         [= !=]           PATH[/*] | ID | id:ID
//!               user           [= !=]           NAME | UID
//!               pid            [= !=]           PID
//!               comm           [= !=]           NAME
//!               autobound
//!               state          STATE[,STATE]...
//! PORTS      := PORT | SERVICE | FIRST-LAST | *
//! ```
//!
//! `not` binds tighter than `and`, `and` tighter than `or`, as ss(8) says. (The program ss itself gives `and`
//! and `or` the same precedence and reads from left to right.) Beyond ss there are ranges of ports, `state`
//! inside expressions, users and processes, lists of states, `!=` for hosts, operators glued to their operands, and quotes.
//! Clauses of states next to each other are one predicate, the union ss makes of them; at the beginning, with
//! neither `and` nor `or` after them, they hold for the whole filter. `inet:` asks for the socket's own family
//! at that place alone, where ss narrows the whole listing. A value holding spaces or operators goes in quotes.
//!
//! `cgroup = /a` means that cgroup alone, `/a/*` also all that are below it when the text is read; the kernel tests both. What
//! has none any more (TIME_WAIT, a handshake) is in cgroup 0 to the kernel, and so to `cgroup = 0`.
//!
//! The kernel knows states apart from its programs, and neither users nor processes: `state` inside expressions, `user`,
//! `pid` and `comm` are tested on each record that comes back. `pid` and `comm` mean the sockets that those processes have
//! open when the text is read; what belongs to no process any more (TIME_WAIT) is none of them.

mod bytecode;
mod compile;
mod endpoint;
mod error;
mod expr;
mod names;
mod parse;
mod states;
mod token;
mod value;

use std::fmt;

pub use bytecode::Bytecode;
pub use compile::Compiled;
pub use error::{FilterError, Unanswerable};
pub use expr::Holder;
pub use names::{Names, NoNames, PortRangeOnly};

use crate::record::SocketRecord;
use crate::state::StateSet;
use expr::{Expr, Side, Test};

/// Kinds of terms that are about the ends of a socket.
const ENDPOINTS: [&str; 5] = ["family", "src", "sport", "dst", "dport"];

/// A parsed filter, its names resolved.
///
/// `Display` gives a canonical text, interfaces and cgroups by number, that parses to an equal filter (with
/// the same answer to [`Names::port_range`] where it says `autobound`).
///
/// ```
/// use sock_diag::filter::{Filter, NoNames};
/// let filter = Filter::parse("state established (dport=:80 or dport=8000-8999) dst 10/8", &NoNames)?;
/// assert_eq!(
///     filter.to_string(),
///     "state established and (dport = 80 or dport = 8000-8999) and dst = 10.0.0.0/8"
/// );
/// let compiled = filter.compile()?;
/// assert!(compiled.bytecode.is_some() && compiled.residual.is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// States every record must be in one of. None: any.
    states: Option<StateSet>,
    /// What else must hold; no operand of it, or of its outermost `and`, is about states alone.
    expr: Option<Expr>,
}

impl Filter {
    /// Reads a filter. An empty text matches every record.
    ///
    /// Cost: linear in the text, besides what `names` does; texts of any size are safe to give.
    /// # Errors
    /// The place and what is wrong there; [`FilterError::render`] shows both.
    pub fn parse(text: &str, names: &dyn Names) -> Result<Filter, FilterError> {
        let parsed = parse::parse(text, names)?;
        let conjuncts = parsed.expr.map_or_else(Vec::new, Expr::into_conjuncts);
        let (others, of_states): (Vec<Expr>, Vec<Expr>) =
            conjuncts.into_iter().partition(|conjunct| conjunct.mentions(|test| !test.is_state()));
        let states = parsed
            .states
            .into_iter()
            .chain(of_states.iter().map(|conjunct| conjunct.possible_states(true)))
            .reduce(StateSet::intersection);
        Ok(Filter { states, expr: if others.is_empty() { None } else { Some(Expr::all(others)) } })
    }

    /// The states a matching record can be in. None: the text says nothing of states anywhere, and the caller
    /// applies its default.
    pub fn states(&self) -> Option<StateSet> {
        let expr = self.expr.as_ref().filter(|expr| expr.mentions(Test::is_state));
        let possible = expr.map(|expr| expr.possible_states(true));
        self.states.into_iter().chain(possible).reduce(StateSet::intersection)
    }

    /// The first kind of term that is not about addresses or ports, if there is one: `state`, `dev`, `fwmark`, `cgroup`, `user`,
    /// `pid`, `comm` or `autobound`. Of sockets that are gone nothing else is known than their ends.
    pub fn beyond_endpoints(&self) -> Option<&'static str> {
        self.terms().into_iter().find(|term| !ENDPOINTS.contains(term))
    }

    /// The kinds of terms in it, each once: `state`, `dev`, `fwmark`, `cgroup`, `user`, `pid`, `comm`, `autobound`, `family` (a
    /// host without an address, such as `inet6:*`), and of each end that is named `src`, `sport`, `dst`, `dport`.
    pub fn terms(&self) -> Vec<&'static str> {
        type Kind = (&'static str, fn(&Test) -> bool);
        const KINDS: [Kind; 13] = [
            ("state", Test::is_state),
            ("dev", |test| matches!(test, Test::Device(_))),
            ("fwmark", |test| matches!(test, Test::Mark { .. })),
            ("cgroup", |test| matches!(test, Test::Cgroup(_))),
            ("user", |test| matches!(test, Test::User(_))),
            ("pid", |test| matches!(test, Test::HeldBy { holder: Holder::Pid(_), .. })),
            ("comm", |test| matches!(test, Test::HeldBy { holder: Holder::Named(_), .. })),
            ("autobound", |test| matches!(test, Test::Autobound(_))),
            ("family", |test| matches!(test, Test::Family(_))),
            ("src", |test| test.names_address(Side::Local)),
            ("sport", |test| test.names_ports(Side::Local)),
            ("dst", |test| test.names_address(Side::Remote)),
            ("dport", |test| test.names_ports(Side::Remote)),
        ];
        let is_in = |(name, is_one): &Kind| match (&self.expr, self.states) {
            (_, Some(_)) if *name == "state" => true,
            (Some(expr), _) => expr.mentions(*is_one),
            (None, _) => false,
        };
        KINDS.iter().filter(|kind| is_in(kind)).map(|(name, _)| *name).collect()
    }

    /// Whether the filter matches a record: the answer the kernel gives to the compiled filter.
    ///
    /// Cost: nanoseconds per predicate, no allocation.
    /// # Errors
    /// The record does not tell what the answer depends on: `autobound` always, `fwmark` without
    /// CAP_NET_ADMIN, `cgroup` before Linux 5.9. What other predicates decide alone is answered.
    pub fn matches(&self, record: &SocketRecord) -> Result<bool, Unanswerable> {
        let held = |_: &Holder, inodes: &[u32]| {
            record.inode.is_some_and(|inode| inodes.binary_search(&inode.get()).is_ok())
        };
        self.decides(record, &held)
    }

    /// The same, with `pid` and `comm` answered by who knows whose the socket is now, instead of by the sockets those
    /// processes had open when the text was read.
    /// # Errors
    /// As [`matches`](Self::matches).
    pub fn matches_held(
        &self,
        record: &SocketRecord,
        is_held_by: &dyn Fn(&Holder) -> bool,
    ) -> Result<bool, Unanswerable> {
        self.decides(record, &|holder, _| is_held_by(holder))
    }

    fn decides(
        &self,
        record: &SocketRecord,
        held: &dyn Fn(&Holder, &[u32]) -> bool,
    ) -> Result<bool, Unanswerable> {
        if self.states.is_some_and(|states| !record.is_in(states)) {
            return Ok(false);
        }
        self.expr.as_ref().map_or(Ok(true), |expr| expr.matches(record, held))
    }

    /// Divides the filter between the kernel and user space. The operands of the outermost `and` go to the
    /// kernel where it can test them; of those with a `state` inside `or` or `not`, the kernel tests what it
    /// can and the residual decides.
    /// # Errors
    /// Such an operand also says `autobound`, or one with `autobound` is longer than the kernel takes.
    pub fn compile(&self) -> Result<Compiled, Unanswerable> {
        compile::compile(self)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(states) = self.states {
            Test::State(states).fmt(f)?;
        }
        match &self.expr {
            None => Ok(()),
            Some(expr) if self.states.is_none() => expr.fmt(f),
            Some(expr @ Expr::Or(_)) => write!(f, " and ({expr})"),
            Some(expr) => write!(f, " and {expr}"),
        }
    }
}
