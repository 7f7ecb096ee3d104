//! SPDX licence expressions, as far as crates use them: is one satisfied by a list of licences?

use anyhow::bail;

/// Whether someone who accepts exactly the licences in `allowed` may use what `expression` licenses.
///
/// `AND` binds more tightly than `OR`, `WITH` more than both; `/` is the old spelling of `OR`. A licence with an
/// exception is a licence of its own, `Apache-2.0 WITH LLVM-exception`; `X+` is satisfied by `X`.
///
/// # Errors
/// The expression is not one.
pub(crate) fn is_satisfied(expression: &str, allowed: &[&str]) -> anyhow::Result<bool> {
    let mut words = Words { rest: expression, allowed };
    let satisfied = words.any_of()?;
    match words.next() {
        None => Ok(satisfied),
        Some(word) => bail!("unexpected {word:?} in licence {expression:?}"),
    }
}

/// What is left of an expression, read by recursive descent. Both sides of an operator are always read, so that
/// nonsense after a satisfied part is still found.
struct Words<'a> {
    rest: &'a str,
    allowed: &'a [&'a str],
}

impl<'a> Words<'a> {
    fn any_of(&mut self) -> anyhow::Result<bool> {
        let mut satisfied = self.all_of()?;
        while self.accept("OR") || self.accept("/") {
            satisfied |= self.all_of()?;
        }
        Ok(satisfied)
    }

    fn all_of(&mut self) -> anyhow::Result<bool> {
        let mut satisfied = self.one()?;
        while self.accept("AND") {
            satisfied &= self.one()?;
        }
        Ok(satisfied)
    }

    fn one(&mut self) -> anyhow::Result<bool> {
        if self.accept("(") {
            let satisfied = self.any_of()?;
            if !self.accept(")") {
                bail!("a parenthesis is not closed");
            }
            return Ok(satisfied);
        }
        let licence = self.name()?;
        if self.accept("WITH") {
            let with_exception = format!("{licence} WITH {}", self.name()?);
            return Ok(self.allowed.contains(&with_exception.as_str()));
        }
        Ok(self.allowed.contains(&licence.strip_suffix('+').unwrap_or(licence)))
    }

    fn name(&mut self) -> anyhow::Result<&'a str> {
        match self.next() {
            Some(name) if !matches!(name, "(" | ")" | "/" | "AND" | "OR" | "WITH") => Ok(name),
            Some(other) => bail!("expected a licence, found {other:?}"),
            None => bail!("expected a licence, found the end"),
        }
    }

    fn accept(&mut self, word: &str) -> bool {
        let before = self.rest;
        let accepted = self.next() == Some(word);
        if !accepted {
            self.rest = before;
        }
        accepted
    }

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let first = rest.chars().next()?;
        let length = match first {
            '(' | ')' | '/' => 1,
            _ => rest.find(|c: char| c.is_whitespace() || "()/".contains(c)).unwrap_or(rest.len()),
        };
        let (word, rest) = rest.split_at(length);
        self.rest = rest;
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALLOWED: &[&str] = &["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"];

    #[test]
    fn expressions_seen_in_the_wild() {
        for (expression, satisfied) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR Apache-2.0", true),
            ("MIT/Apache-2.0", true),
            ("GPL-2.0/MIT", true),
            ("GPL-2.0/LGPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("(MIT OR Apache-2.0) AND OpenSSL", false),
            ("MIT AND GPL-2.0 OR Apache-2.0", true),
            ("MIT OR Apache-2.0 AND GPL-2.0", true),
            ("GPL-2.0 OR Apache-2.0 AND OpenSSL", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", true),
            ("GPL-2.0 WITH Classpath-exception-2.0", false),
            ("MIT WITH LLVM-exception", false),
            ("((MIT))", true),
            ("Apache-2.0+", true),
            ("mit", false),
        ] {
            assert_eq!(is_satisfied(expression, ALLOWED).unwrap(), satisfied, "{expression}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for expression in
            ["", "  ", "MIT OR", "OR MIT", "MIT Apache-2.0", "(MIT", "MIT)", "MIT WITH", "MIT AND OR MIT"]
        {
            assert!(is_satisfied(expression, ALLOWED).is_err(), "{expression:?}");
        }
    }

    /// An expression beside its value by the definition of its operators.
    fn expression() -> impl Strategy<Value = (String, bool)> {
        let leaf = prop_oneof![Just(("MIT".to_owned(), true)), Just(("GPL-3.0-only".to_owned(), false))];
        leaf.prop_recursive(5, 32, 2, |inner| {
            (inner.clone(), inner, any::<bool>()).prop_map(|((a, x), (b, y), and)| match and {
                true => (format!("({a}) AND ({b})"), x && y),
                false => (format!("({a} OR {b})"), x || y),
            })
        })
    }

    proptest! {
        #[test]
        fn any_expression_has_the_value_of_its_operators((text, value) in expression()) {
            prop_assert_eq!(is_satisfied(&text, &["MIT"]).unwrap(), value, "{}", text);
        }

        #[test]
        fn any_text_is_judged_or_refused(text in "\\PC{0,30}|((MIT|OR|AND|WITH|/|\\(|\\)| ){0,12})") {
            let _ = is_satisfied(&text, ALLOWED);
        }
    }
}
