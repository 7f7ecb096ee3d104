//! Reads a filter text: the grammar of ss(8), precedence as its manual says, and where the text is wrong.
//!
//! What the values mean is read in `endpoint`, `states` and `value`.

use std::ops::Range;

use super::endpoint;
use super::error::{FilterError, quoted};
use super::expr::{Expr, Side, Test};
use super::names::Names;
use super::states;
use super::token::{Comparison, Token, TokenKind, Tokens};
use super::value::{self, Value};
use crate::state::StateSet;

/// Parentheses inside parentheses: bounds every recursion over expressions.
const MAX_DEPTH: usize = 200;
/// Predicates in one filter; an address list of a host name counts one each, and so do cgroups below a path.
const MAX_TERMS: usize = 4096;

/// What ss calls them, for help.
const PREDICATES: &[&str] = &[
    "src",
    "dst",
    "sport",
    "dport",
    "dev",
    "fwmark",
    "cgroup",
    "user",
    "pid",
    "comm",
    "autobound",
    "state",
    "exclude",
];

/// The states that leading clauses ask of the whole filter, and the expression after them.
pub(super) struct Parsed {
    pub(super) states: Option<StateSet>,
    pub(super) expr: Option<Expr>,
}

pub(super) fn parse(text: &str, names: &dyn Names) -> Result<Parsed, FilterError> {
    let mut tokens = Tokens::new(text);
    let next = tokens.next()?;
    let mut parser = Parser { tokens, next, names, depth: 0, terms: 0 };
    let parsed = parser.filter()?;
    match parser.next.kind {
        TokenKind::End => Ok(parsed),
        TokenKind::Close => Err(FilterError::new(parser.next.span, "this `)` closes nothing")),
        _ => Err(parser.unexpected("a predicate, `and` or `or`")),
    }
}

struct Parser<'t, 'n> {
    tokens: Tokens<'t>,
    /// The token not yet taken.
    next: Token<'t>,
    names: &'n dyn Names,
    depth: usize,
    terms: usize,
}

type Parse<T> = Result<T, FilterError>;

impl<'t> Parser<'t, '_> {
    /// Clauses at the very beginning speak for the whole filter, unless `and` or `or` makes them an operand.
    fn filter(&mut self) -> Parse<Parsed> {
        if self.next.kind == TokenKind::End {
            return Ok(Parsed { states: None, expr: None });
        }
        if !self.at_state_clause() {
            return Ok(Parsed { states: None, expr: Some(self.disjunction(None)?) });
        }
        let states = self.state_clauses()?;
        match self.next.kind {
            TokenKind::End => Ok(Parsed { states: Some(states), expr: None }),
            TokenKind::And | TokenKind::Or => {
                let first = Expr::Test(Test::State(states));
                Ok(Parsed { states: None, expr: Some(self.disjunction(Some(first))?) })
            }
            _ => Ok(Parsed { states: Some(states), expr: Some(self.disjunction(None)?) }),
        }
    }

    /// `a or b or c`; `first` is a first operand already read.
    fn disjunction(&mut self, first: Option<Expr>) -> Parse<Expr> {
        let mut operands = vec![self.conjunction(first)?];
        while self.next.kind == TokenKind::Or {
            self.advance()?;
            operands.push(self.conjunction(None)?);
        }
        Ok(Expr::any(operands))
    }

    /// `a and b c`: no word between two predicates means `and`.
    fn conjunction(&mut self, first: Option<Expr>) -> Parse<Expr> {
        let first = match first {
            Some(first) => first,
            None => self.negation()?,
        };
        let mut operands = vec![first];
        loop {
            match self.next.kind {
                TokenKind::And => {
                    self.advance()?;
                }
                TokenKind::Not | TokenKind::Open | TokenKind::Word(_) | TokenKind::Quoted(_) => {}
                _ => return Ok(Expr::all(operands)),
            }
            operands.push(self.negation()?);
        }
    }

    fn negation(&mut self) -> Parse<Expr> {
        let mut negated = false;
        while self.next.kind == TokenKind::Not {
            self.advance()?;
            negated = !negated;
        }
        let expr = self.primary()?;
        Ok(if negated { expr.negate() } else { expr })
    }

    fn primary(&mut self) -> Parse<Expr> {
        if self.at_state_clause() {
            return Ok(Expr::Test(Test::State(self.state_clauses()?)));
        }
        let word = match self.next.kind {
            TokenKind::Open => return self.parenthesised(),
            TokenKind::Word(word) => word,
            _ => return Err(self.unexpected("a predicate")),
        };
        let token = self.advance()?;
        self.count_terms(1, &token.span)?;
        match word.to_ascii_lowercase().as_str() {
            "src" => self.host(word, Side::Local),
            "dst" => self.host(word, Side::Remote),
            "sport" => self.port(word, Side::Local),
            "dport" => self.port(word, Side::Remote),
            "dev" => self.named(word, "an interface", value::device),
            "fwmark" => self.named(word, "a mark", value::mark),
            "cgroup" => self.cgroup(word),
            "user" => self.named(word, "a user", value::user),
            "pid" => self.named(word, "a process's number", value::pid),
            "comm" => self.named(word, "a process's name", value::comm),
            "autobound" => match self.names.port_range() {
                Some((first, last)) => Ok(Expr::Test(value::autobound(first, last))),
                None => Err(FilterError::new(token.span, "the ephemeral port range is not known here")
                    .help("`autobound` needs net.ipv4.ip_local_port_range")),
            },
            _ => Err(unknown_predicate(word, token.span)),
        }
    }

    fn parenthesised(&mut self) -> Parse<Expr> {
        let open = self.advance()?.span;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(FilterError::new(
                open,
                format!("more than {MAX_DEPTH} parentheses inside each other"),
            ));
        }
        let expr = self.disjunction(None)?;
        match self.next.kind {
            TokenKind::Close => self.advance()?,
            TokenKind::End => return Err(FilterError::new(open, "this `(` is never closed")),
            _ => return Err(self.unexpected("`and`, `or` or `)`")),
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn at_state_clause(&self) -> bool {
        matches!(self.next.kind, TokenKind::Word(word) if state_clause(word).is_some())
    }

    /// A run of `state S` and `exclude S`, in order: the first adds to nothing or takes from all, as in ss.
    fn state_clauses(&mut self) -> Parse<StateSet> {
        let mut states = None;
        while let TokenKind::Word(word) = self.next.kind
            && let Some(adds) = state_clause(word)
        {
            let clause = self.advance()?;
            self.count_terms(1, &clause.span)?;
            let named = states::read(self.value(&format!("a state after `{word}`"))?)?;
            states = Some(if adds {
                states.unwrap_or(StateSet::EMPTY).union(named)
            } else {
                states.unwrap_or(StateSet::ALL).minus(named)
            });
        }
        Ok(states.unwrap_or(StateSet::ALL))
    }

    fn host(&mut self, word: &str, side: Side) -> Parse<Expr> {
        let negated = self.equality(word)?;
        let value = self.value(&format!("an address after `{word}`"))?;
        let span = value.span.clone();
        let (expr, addresses) = endpoint::host(value, side, self.names)?;
        self.count_terms(addresses.saturating_sub(1), &span)?;
        Ok(if negated { expr.negate() } else { expr })
    }

    fn port(&mut self, word: &str, side: Side) -> Parse<Expr> {
        let comparison = self.comparison()?.map_or(Comparison::Equal, |(comparison, _)| comparison);
        endpoint::port(self.value(&format!("a port after `{word}`"))?, side, comparison, self.names)
    }

    fn cgroup(&mut self, word: &str) -> Parse<Expr> {
        let negated = self.equality(word)?;
        let value = self.value(&format!("a cgroup path after `{word}`"))?;
        let span = value.span.clone();
        let (expr, cgroups) = value::cgroup(value, self.names)?;
        self.count_terms(cgroups.saturating_sub(1), &span)?;
        Ok(if negated { expr.negate() } else { expr })
    }

    fn named(
        &mut self,
        word: &str,
        what: &str,
        read: fn(Value<'_>, &dyn Names) -> Result<Test, FilterError>,
    ) -> Parse<Expr> {
        let negated = self.equality(word)?;
        let test = Expr::Test(read(self.value(&format!("{what} after `{word}`"))?, self.names)?);
        Ok(if negated { test.negate() } else { test })
    }

    /// An optional `=` or `!=`; whether it was the latter.
    fn equality(&mut self, word: &str) -> Parse<bool> {
        match self.comparison()? {
            None | Some((Comparison::Equal, _)) => Ok(false),
            Some((Comparison::NotEqual, _)) => Ok(true),
            Some((_, span)) => {
                let error =
                    FilterError::new(span, format!("`{word}` can only be compared with `=` and `!=`"));
                Err(match word {
                    "src" => error.help("for ports write `sport > 1024`"),
                    "dst" => error.help("for ports write `dport > 1024`"),
                    _ => error,
                })
            }
        }
    }

    fn comparison(&mut self) -> Parse<Option<(Comparison, Range<usize>)>> {
        let comparison = match self.next.kind {
            TokenKind::Compare(comparison) => Some(comparison),
            TokenKind::Word(word) => Comparison::from_word(word),
            _ => None,
        };
        comparison.map(|comparison| Ok((comparison, self.advance()?.span))).transpose()
    }

    fn value(&mut self, expected: &str) -> Parse<Value<'t>> {
        match self.next.kind {
            TokenKind::Word(text) | TokenKind::Quoted(text) => {
                let quoted = matches!(self.next.kind, TokenKind::Quoted(_));
                let span = self.advance()?.span;
                let span = if quoted { span.start + 1..span.end - 1 } else { span };
                Ok(Value { text, span })
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn count_terms(&mut self, more: usize, span: &Range<usize>) -> Parse<()> {
        self.terms = self.terms.saturating_add(more);
        if self.terms > MAX_TERMS {
            return Err(FilterError::new(span.clone(), format!("more than {MAX_TERMS} predicates")));
        }
        Ok(())
    }

    fn advance(&mut self) -> Parse<Token<'t>> {
        let next = self.tokens.next()?;
        Ok(std::mem::replace(&mut self.next, next))
    }

    fn unexpected(&self, expected: &str) -> FilterError {
        let found = match self.next.kind {
            TokenKind::End => {
                return FilterError::new(self.next.span.clone(), format!("expected {expected}"));
            }
            TokenKind::Word(text) | TokenKind::Quoted(text) => quoted(text),
            TokenKind::Compare(_) => "a comparison".to_owned(),
            TokenKind::And => "`and`".to_owned(),
            TokenKind::Or => "`or`".to_owned(),
            TokenKind::Not => "`not`".to_owned(),
            TokenKind::Open => "`(`".to_owned(),
            TokenKind::Close => "`)`".to_owned(),
        };
        FilterError::new(self.next.span.clone(), format!("expected {expected}, found {found}"))
    }
}

/// Whether a word begins a clause that adds states (true) or takes them away (false).
fn state_clause(word: &str) -> Option<bool> {
    match word.to_ascii_lowercase().as_str() {
        "state" => Some(true),
        "exclude" | "excl" => Some(false),
        _ => None,
    }
}

fn unknown_predicate(word: &str, span: Range<usize>) -> FilterError {
    let error = FilterError::new(span, format!("{} is not a predicate", quoted(word)));
    let starts_value = word.starts_with(|c: char| c.is_ascii_digit() || "[*:".contains(c));
    match value::closest(word, PREDICATES) {
        _ if states::set_of(word).is_some() => error.help(format!("write `state {word}`")),
        _ if starts_value => error.help("say what it is compared with: `src`, `dst`, `sport` or `dport`"),
        Some(predicate) => error.help(format!("did you mean `{predicate}`?")),
        None => error.help(format!("there are {}", PREDICATES.join(", "))),
    }
}
