//! Why a filter was not understood, and where; why a record cannot answer one.

use std::fmt;
use std::ops::Range;

/// A term that the records at hand cannot answer; only the kernel can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{term} can only be answered by a live kernel: {why}")]
pub struct Unanswerable {
    /// The predicate's word.
    pub term: &'static str,
    /// Why records do not tell it, and what to do instead.
    pub why: &'static str,
}

/// A filter text that was not understood. `Display` gives the message alone; [`render`](Self::render) shows
/// the place too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterError {
    /// The bytes of the text that are at fault; empty where something is missing. Always on char boundaries.
    pub span: Range<usize>,
    /// What is wrong, in one line without control characters.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

/// Chars of the text shown on each side of the fault.
const CONTEXT_CHARS: usize = 60;
/// Carets drawn at most; a longer fault is known by its beginning.
const MAX_CARETS: usize = 60;

impl FilterError {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> FilterError {
        FilterError { span, message: message.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> FilterError {
        self.help = Some(help.into());
        self
    }

    /// The message, the part of `text` it is about with carets under the place, and the help: three or four
    /// lines, the last without a newline. `text` is what was given to the parser. Control, invisible and
    /// direction-changing characters are shown escaped, so the text cannot speak to the terminal.
    pub fn render(&self, text: &str) -> String {
        let start = floor_boundary(text, self.span.start);
        let end = floor_boundary(text, self.span.end).max(start);
        let before = &text[..start];
        let fault = &text[start..end];
        let from = before.char_indices().rev().nth(CONTEXT_CHARS - 1).map_or(0, |(at, _)| at);
        let until =
            text[start..].char_indices().nth(CONTEXT_CHARS + 1).map_or(text.len(), |(at, _)| start + at);

        let mut line = String::new();
        if from > 0 {
            line.push('…');
        }
        push_visible(&mut line, &before[from..]);
        let indent = columns(&line);
        push_visible(&mut line, &text[start..until]);
        if until < text.len() {
            line.push('…');
        }
        let mut shown = String::new();
        push_visible(&mut shown, &fault[..fault.len().min(until - start)]);
        let carets = columns(&shown).clamp(1, MAX_CARETS);

        let help = self.help.as_deref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
        format!("{}\n    {line}\n    {}{}{help}", self.message, " ".repeat(indent), "^".repeat(carets))
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FilterError {}

/// `text` as an error may quote it: escaped, and cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    const MAX_CHARS: usize = 40;
    let mut out = String::from("`");
    match text.char_indices().nth(MAX_CHARS) {
        Some((cut, _)) => {
            push_visible(&mut out, &text[..cut]);
            out.push('…');
        }
        None => push_visible(&mut out, text),
    }
    out.push('`');
    out
}

fn push_visible(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\'' | '\\' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
}

/// Terminal columns of text that went through [`push_visible`].
fn columns(visible: &str) -> usize {
    visible.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

/// Whether terminals give this character two columns: the East Asian wide blocks and the emoji.
fn is_wide(c: char) -> bool {
    matches!(c,
        '\u{1100}'..='\u{115f}' | '\u{2e80}'..='\u{303e}' | '\u{3041}'..='\u{a4cf}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}' | '\u{fe30}'..='\u{fe6f}' | '\u{ff00}'..='\u{ff60}' | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}' | '\u{1f680}'..='\u{1f6ff}' | '\u{1f900}'..='\u{1f9ff}'
        | '\u{20000}'..='\u{3fffd}')
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
