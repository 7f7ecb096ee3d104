//! Divides a filter between the request's states, the kernel's bytecode and user space.

use super::Filter;
use super::bytecode::{Assembler, Bytecode, Label, MAX_BYTES, Op};
use super::error::Unanswerable;
use super::expr::{Expr, Ports, Side, Test};
use crate::record::Family;
use crate::state::StateSet;

/// A filter made ready for a request: a record is wanted when its state is in `states`, the kernel lets it
/// through `bytecode`, and `residual` matches it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiled {
    /// The states to ask for. None: the text says nothing of states, the caller chooses.
    pub states: Option<StateSet>,
    /// What the kernel tests. None: nothing, every socket of those states comes back.
    pub bytecode: Option<Bytecode>,
    /// What is left to test on each record that comes back. None: nothing.
    pub residual: Option<Filter>,
}

pub(super) fn compile(filter: &Filter) -> Result<Compiled, Unanswerable> {
    let mut program = Assembler::default();
    let reject = program.label();
    let mut residual = Vec::new();
    for conjunct in filter.expr.clone().map_or_else(Vec::new, Expr::into_conjuncts) {
        let needs_records = conjunct.mentions(Test::needs_record);
        let needs_kernel = conjunct.mentions(Test::is_autobound);
        if needs_records && needs_kernel {
            let why = "joined by `or` or `not` to a `state`, `user`, `pid` or `comm` it would have to be told by \
                       records, which do not know it; ask for these in filters of their own";
            return Err(Unanswerable { term: "autobound", why });
        }
        let node = lower(&conjunct, true);
        let fits = program.len() + node.length() <= MAX_BYTES;
        if fits {
            emit(&node, reject, &mut program);
        } else if needs_kernel {
            let why = "the expression it stands in is too long for the kernel, and records do not know it";
            return Err(Unanswerable { term: "autobound", why });
        }
        if needs_records || !fits {
            residual.push(conjunct);
        }
    }
    let residual = if residual.is_empty() {
        None
    } else {
        Some(Filter { states: None, expr: Some(Expr::all(residual)) })
    };
    Ok(Compiled { states: filter.states(), bytecode: program.finish(), residual })
}

/// An expression in the kernel's conditions, negation pushed down to them.
enum Node {
    Always,
    Never,
    Is(Op),
    IsNot(Op),
    All(Vec<Node>),
    Any(Vec<Node>),
}

impl Node {
    /// Bytes of the program this becomes, or a few more.
    fn length(&self) -> usize {
        const JUMP: usize = 4;
        match self {
            Node::Always => 0,
            Node::Never => JUMP,
            Node::Is(op) | Node::IsNot(op) => JUMP + op_length(op),
            Node::All(nodes) | Node::Any(nodes) => nodes.iter().map(Node::length).sum(),
        }
    }

    fn all(nodes: Vec<Node>) -> Node {
        let mut kept = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Node::Always => {}
                Node::Never => return Node::Never,
                other => kept.push(other),
            }
        }
        if kept.is_empty() { Node::Always } else { Node::All(kept) }
    }

    fn any(nodes: Vec<Node>) -> Node {
        let mut kept = Vec::with_capacity(nodes.len());
        for node in nodes {
            match node {
                Node::Never => {}
                Node::Always => return Node::Always,
                other => kept.push(other),
            }
        }
        if kept.is_empty() { Node::Never } else { Node::Any(kept) }
    }
}

fn op_length(op: &Op) -> usize {
    match op {
        Op::Auto => 4,
        Op::PortEqual(..) | Op::PortAtLeast(..) | Op::PortAtMost(..) | Op::Device(_) => 8,
        Op::Mark { .. } | Op::Cgroup(_) => 12,
        Op::Host(_, prefix, _) if prefix.address.is_ipv4() => 16,
        Op::Host(..) | Op::Inet6 => 28,
    }
}

/// What the kernel shall test for `expr` to be `truth`. It knows no states, users and processes, so a test of them lets
/// everything through, whichever way it is asked: with negation only at the leaves that can only let too much through.
fn lower(expr: &Expr, truth: bool) -> Node {
    let each = |operands: &[Expr]| operands.iter().map(|operand| lower(operand, truth)).collect();
    match expr {
        Expr::Test(test) => lower_test(test, truth),
        Expr::Not(inner) => lower(inner, !truth),
        Expr::And(operands) if truth => Node::all(each(operands)),
        Expr::Or(operands) if !truth => Node::all(each(operands)),
        Expr::And(operands) | Expr::Or(operands) => Node::any(each(operands)),
    }
}

fn lower_test(test: &Test, truth: bool) -> Node {
    let leaf = |op| if truth { Node::Is(op) } else { Node::IsNot(op) };
    let junction = |nodes| if truth { Node::all(nodes) } else { Node::any(nodes) };
    match *test {
        Test::State(_) | Test::User(_) | Test::HeldBy { .. } => Node::Always,
        Test::Family(Family::Inet6) => leaf(Op::Inet6),
        Test::Family(_) if truth => Node::IsNot(Op::Inet6),
        Test::Family(_) => Node::Is(Op::Inet6),
        Test::Endpoint { side, prefix: Some(prefix), ports } if ports.first == ports.last => {
            leaf(Op::Host(side, prefix, Some(ports.first)))
        }
        Test::Endpoint { side, prefix: Some(prefix), ports } => {
            junction(vec![leaf(Op::Host(side, prefix, None)), lower_ports(side, ports, truth)])
        }
        Test::Endpoint { side, prefix: None, ports } => lower_ports(side, ports, truth),
        Test::Device(interface) => leaf(Op::Device(interface.map_or(0, |index| index.get()))),
        Test::Mark { value, mask } => leaf(Op::Mark { value, mask }),
        Test::Cgroup(id) => leaf(Op::Cgroup(id)),
        Test::Autobound(range) => junction(vec![leaf(Op::Auto), lower_ports(Side::Local, range, truth)]),
    }
}

/// The port is within `ports`, or is not.
fn lower_ports(side: Side, ports: Ports, truth: bool) -> Node {
    let Ports { first, last } = ports;
    if first == last {
        let op = Op::PortEqual(side, first);
        return if truth { Node::Is(op) } else { Node::IsNot(op) };
    }
    let at_least = |port| Node::Is(Op::PortAtLeast(side, port));
    let at_most = |port| Node::Is(Op::PortAtMost(side, port));
    if truth {
        Node::all(vec![
            if first == 0 { Node::Always } else { at_least(first) },
            if last == u16::MAX { Node::Always } else { at_most(last) },
        ])
    } else {
        Node::any(vec![
            first.checked_sub(1).map_or(Node::Never, at_most),
            last.checked_add(1).map_or(Node::Never, at_least),
        ])
    }
}

/// Goes on when `node` holds, to `otherwise` when not.
fn emit(node: &Node, otherwise: Label, program: &mut Assembler) {
    match node {
        Node::Always => {}
        Node::Never => program.jump(otherwise),
        Node::Is(op) => program.test(*op, otherwise),
        Node::IsNot(op) => {
            let on = program.label();
            program.test(*op, on);
            program.jump(otherwise);
            program.bind(on);
        }
        Node::All(nodes) => nodes.iter().for_each(|node| emit(node, otherwise, program)),
        Node::Any(nodes) => {
            let Some((last, others)) = nodes.split_last() else { return program.jump(otherwise) };
            let on = program.label();
            others.iter().for_each(|node| emit_inverse(node, on, program));
            emit(last, otherwise, program);
            program.bind(on);
        }
    }
}

/// Goes to `target` when `node` holds, on when not.
fn emit_inverse(node: &Node, target: Label, program: &mut Assembler) {
    match node {
        Node::Always => program.jump(target),
        Node::Never => {}
        Node::IsNot(op) => program.test(*op, target),
        Node::Is(op) => {
            let on = program.label();
            program.test(*op, on);
            program.jump(target);
            program.bind(on);
        }
        Node::Any(nodes) => nodes.iter().for_each(|node| emit_inverse(node, target, program)),
        Node::All(nodes) => {
            let Some((last, others)) = nodes.split_last() else { return program.jump(target) };
            let on = program.label();
            others.iter().for_each(|node| emit(node, on, program));
            emit_inverse(last, target, program);
            program.bind(on);
        }
    }
}
