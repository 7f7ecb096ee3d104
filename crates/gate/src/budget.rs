//! Rules that a run is held to, from options and from a file.

use std::fmt;

use toml::{Table, Value};

use crate::limit::Limit;
use crate::place::Place;

/// One rule.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// What is limited.
    pub limit: Limit,
    /// What is allowed, in the limit's unit: at most, or for a minimum at least.
    pub allowed: f64,
    /// Only towards there; None: of the whole run.
    pub place: Option<Place>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.limit)?;
        self.place.iter().try_for_each(|place| write!(f, " to {place}"))
    }
}

/// All rules of a run.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Budget {
    /// In the order in which they were given.
    pub rules: Vec<Rule>,
}

/// A budget's text that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}{message}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
pub struct BudgetError {
    /// Which line, from 1; None where it is the whole.
    pub line: Option<usize>,
    /// What is wrong, and what is right.
    pub message: String,
}

impl Budget {
    /// Reads a file's text: limits for the whole run, and tables `[[destination]]` with `to` and limits.
    ///
    /// # Errors
    /// What is wrong, with its line.
    pub fn parse(text: &str) -> Result<Budget, BudgetError> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| BudgetError {
            line: error.span().map(|span| line_of(text, span.start)),
            message: error.message().to_owned(),
        })?;
        let mut budget = Budget::default();
        let mut destinations = Vec::new();
        for (key, value) in table {
            match (key.as_str(), value) {
                ("destination", Value::Array(tables)) => destinations = tables,
                ("destination", _) => {
                    return Err(error_at(text, 0, "[", "write [[destination]], with two brackets"));
                }
                (_, value) => budget.rules.push(rule(text, 0, &key, &value, None)?),
            }
        }
        let mut from = 0;
        for table in destinations {
            // The tables come in the order of the text.
            from = text.get(from..).and_then(|rest| rest.find("[[")).map_or(from, |at| from + at);
            let Value::Table(table) = table else {
                return Err(error_at(text, from, "destination", "write [[destination]] and limits below it"));
            };
            let place = match table.get("to") {
                Some(Value::String(to)) => {
                    to.parse::<Place>().map_err(|error| error_at(text, from, "to", &error.to_string()))?
                }
                _ => return Err(error_at(text, from, "[[", "a destination needs to = \"10.0.9.12:443\"")),
            };
            for (key, value) in table.iter().filter(|(key, _)| *key != "to") {
                budget.rules.push(rule(text, from, key, value, Some(place))?);
            }
            from += 2;
        }
        Ok(budget)
    }
}

fn rule(
    text: &str,
    from: usize,
    key: &str,
    value: &Value,
    place: Option<Place>,
) -> Result<Rule, BudgetError> {
    let Some(limit) = Limit::ALL.into_iter().find(|limit| limit.key() == key) else {
        let known: Vec<&str> = Limit::ALL.iter().map(|limit| limit.key()).collect();
        let message = format!("{key:?} is no limit; there are {}", known.join(", "));
        return Err(error_at(text, from, key, &message));
    };
    let typed = match value {
        Value::String(typed) => typed.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        _ => {
            return Err(error_at(
                text,
                from,
                key,
                &format!("{key}: write a number, or a string like \"80%\""),
            ));
        }
    };
    let allowed =
        limit.parse(&typed).map_err(|how| error_at(text, from, key, &format!("{key} = {typed}: {how}")))?;
    Ok(Rule { limit, allowed, place })
}

/// At the first line from there on that begins with the key.
fn error_at(text: &str, from: usize, key: &str, message: &str) -> BudgetError {
    let first = line_of(text, from);
    let line = text
        .lines()
        .enumerate()
        .skip(first - 1)
        .find(|(_, line)| line.trim_start().trim_start_matches(['"', '\'']).starts_with(key));
    BudgetError { line: line.map(|(at, _)| at + 1), message: message.to_owned() }
}

/// Which line a byte is in, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_has_rules_for_all_and_for_destinations() {
        let text = "max_opens = 100\nmax_occupancy = \"80%\"\nlifetime_p50_min = '5s'\n\n\
                    [[destination]]\nto = \"*:5432\"\nmax_opens = 10\nmin_reuse = 2.5\n\n\
                    [[destination]]\nto = \"10.0.0.0/8:443\"\nmax_leaked = 0\n";
        let rules: Vec<(String, f64)> =
            Budget::parse(text).unwrap().rules.iter().map(|rule| (rule.to_string(), rule.allowed)).collect();
        let expected = [
            ("lifetime_p50_min", 5_000.0),
            ("max_occupancy", 0.8),
            ("max_opens", 100.0),
            ("max_opens to *:5432", 10.0),
            ("min_reuse to *:5432", 2.5),
            ("max_leaked to 10.0.0.0/8:443", 0.0),
        ];
        assert_eq!(rules, expected.map(|(rule, allowed)| (rule.to_owned(), allowed)));
        assert_eq!(Budget::parse("").unwrap(), Budget::default());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, line, said) in [
            ("max_opens = ", 1, ""),
            ("\nmax_open = 3\n", 2, "there are max_opens"),
            ("max_opens = 1.5", 1, "whole number"),
            ("max_opens = true", 1, "write a number"),
            ("max_occupancy = 80", 1, "80% or 0.8"),
            ("max_opens = 1\n[destination]\nto = 'x:1'", 2, "two brackets"),
            ("[[destination]]\nmax_opens = 1", 1, "needs to"),
            ("[[destination]]\nto = '10.0.0.1'\n", 2, "write it like"),
            (
                "[[destination]]\nto = '*:1'\nmax_opens = 1\n[[destination]]\nto = '*:2'\nmax_opens = -1",
                6,
                "whole number",
            ),
        ] {
            let error = Budget::parse(text).unwrap_err();
            assert_eq!(error.line, Some(line), "{text:?}: {error}");
            assert!(error.to_string().contains(said), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "([a-z_]{0,9}( = [0-9\"%.]{0,5})?\n|\\[\\[destination\\]\\]\n|to = '.{0,9}'\n|.{0,9}\n){0,8}") {
            let _ = Budget::parse(&text);
        }
    }
}
