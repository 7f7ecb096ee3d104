//! Cuts a filter text into tokens with their places. What a word means is the parser's business.

use std::ops::Range;

use super::error::FilterError;

/// How a predicate compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// The comparison a word spells, as in `sport gt 1024`.
    pub(super) fn from_word(word: &str) -> Option<Comparison> {
        use Comparison::*;
        Some(match word.to_ascii_lowercase().as_str() {
            "eq" => Equal,
            "ne" | "neq" => NotEqual,
            "lt" => Less,
            "le" | "leq" => LessOrEqual,
            "gt" => Greater,
            "ge" | "geq" => GreaterOrEqual,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TokenKind<'t> {
    /// A keyword or a value.
    Word(&'t str),
    /// A value between quotes, without them: never a keyword.
    Quoted(&'t str),
    Compare(Comparison),
    And,
    Or,
    Not,
    Open,
    Close,
    End,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Token<'t> {
    pub(super) kind: TokenKind<'t>,
    /// Bytes of the text; empty at its end.
    pub(super) span: Range<usize>,
}

/// The longest value there can be is a cgroup's path: PATH_MAX.
const MAX_WORD_BYTES: usize = 4096;

/// Hands out the tokens of a text one by one, in time linear in its length.
pub(super) struct Tokens<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Tokens<'t> {
    pub(super) fn new(text: &'t str) -> Tokens<'t> {
        Tokens { text, at: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Token<'t>, FilterError> {
        let rest = self.text[self.at..].trim_start();
        let start = self.text.len() - rest.len();
        let (kind, length) = match rest.as_bytes() {
            [] => (TokenKind::End, 0),
            [b'(', ..] => (TokenKind::Open, 1),
            [b')', ..] => (TokenKind::Close, 1),
            [b'&', b'&', ..] => (TokenKind::And, 2),
            [b'&', ..] => (TokenKind::And, 1),
            [b'|', b'|', ..] => (TokenKind::Or, 2),
            [b'|', ..] => (TokenKind::Or, 1),
            [b'=', b'=', ..] => (TokenKind::Compare(Comparison::Equal), 2),
            [b'=', ..] => (TokenKind::Compare(Comparison::Equal), 1),
            [b'!', b'=', ..] => (TokenKind::Compare(Comparison::NotEqual), 2),
            [b'!', ..] => (TokenKind::Not, 1),
            [b'<', b'=', ..] => (TokenKind::Compare(Comparison::LessOrEqual), 2),
            [b'<', ..] => (TokenKind::Compare(Comparison::Less), 1),
            [b'>', b'=', ..] => (TokenKind::Compare(Comparison::GreaterOrEqual), 2),
            [b'>', ..] => (TokenKind::Compare(Comparison::Greater), 1),
            [quote @ (b'"' | b'\''), ..] => quoted_value(rest, *quote as char)
                .ok_or_else(|| FilterError::new(start..start + 1, "this quote is never closed"))?,
            _ => word(rest),
        };
        if length > MAX_WORD_BYTES {
            let message = format!("this word is longer than {MAX_WORD_BYTES} bytes");
            return Err(FilterError::new(start..start + length, message));
        }
        self.at = start + length;
        Ok(Token { kind, span: start..self.at })
    }
}

fn quoted_value(rest: &str, quote: char) -> Option<(TokenKind<'_>, usize)> {
    let end = 1 + rest[1..].find(quote)?;
    Some((TokenKind::Quoted(&rest[1..end]), end + 1))
}

fn word(rest: &str) -> (TokenKind<'_>, usize) {
    let ends_word = |c: char| c.is_whitespace() || "()!=<>&|\"'".contains(c);
    let word = &rest[..rest.find(ends_word).unwrap_or(rest.len())];
    let kind = if word.eq_ignore_ascii_case("and") {
        TokenKind::And
    } else if word.eq_ignore_ascii_case("or") {
        TokenKind::Or
    } else if word.eq_ignore_ascii_case("not") {
        TokenKind::Not
    } else {
        TokenKind::Word(word)
    };
    (kind, word.len())
}
