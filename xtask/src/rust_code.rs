//! Rust source with its comments and literals blanked, so that a search for a word finds only code.

/// `source` with every comment, string and character literal replaced by spaces; line breaks stay, so line
/// numbers do. Total: text that is not Rust gives some text of the same number of lines.
pub(crate) fn blank_all_but_code(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    let mut last = ' ';
    while let Some(first) = rest.chars().next() {
        let blanked = comment_or_literal(rest, last);
        let length = if blanked == 0 { first.len_utf8() } else { blanked };
        let (piece, after) = rest.split_at(length);
        match blanked {
            0 => code.push(first),
            _ => code.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
        }
        last = first;
        rest = after;
    }
    code
}

/// Length of the comment or literal that `text` begins with, 0 for code. `last` is the character before it: a
/// prefix such as `r` begins a literal only where no word is going on.
fn comment_or_literal(text: &str, last: char) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return block_comment(text);
    }
    if text.starts_with('\'') {
        return character(text);
    }
    if text.starts_with('"') {
        return quoted(text, 0);
    }
    if last.is_alphanumeric() || last == '_' {
        return 0;
    }
    let prefix = text.len() - text.trim_start_matches(['b', 'c', 'r']).len();
    let after = &text[prefix..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    match prefix {
        1 | 2 if text[..prefix].ends_with('r') && after[hashes..].starts_with('"') => {
            raw(text, prefix + hashes + 1, hashes)
        }
        1 if after.starts_with('"') => quoted(text, prefix),
        1 if after.starts_with('\'') => match character(after) {
            0 => 0,
            length => prefix + length,
        },
        _ => 0,
    }
}

/// Block comments nest.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// A string whose opening quote is at `start`, escapes and all.
fn quoted(text: &str, start: usize) -> usize {
    let mut characters = text.char_indices().skip_while(|(at, _)| *at <= start);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A raw string whose text begins at `start` and ends at a quote and as many `#` as it began with.
fn raw(text: &str, start: usize, hashes: usize) -> usize {
    let end = format!("\"{}", "#".repeat(hashes));
    text[start..].find(&end).map_or(text.len(), |at| start + at + end.len())
}

/// A character literal; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            characters.next();
            characters.find(|(_, c)| *c == '\'').map_or(text.len(), |(at, _)| at + 1)
        }
        Some((_, c)) if c != '\'' => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        _ => 0,
    }
}

/// Whether `word` stands in `code` with no letter, digit or underscore beside it.
pub(crate) fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word)
        .any(|(at, _)| !code[..at].ends_with(is_part) && !code[at + word.len()..].starts_with(is_part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_code_stays() {
        for (source, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"a "b \" c" d"#, "a          d"),
            (r##"r#"a " b"# c"##, "           c"),
            (r#"b"a" c"x" br"\" e"#, "                e"),
            ("'a' b", "    b"),
            (r"'\'' b", "     b"),
            (r"'\u{1F600}' b", "            b"),
            ("&'a str", "&'a str"),
            ("b'x' y", "     y"),
            ("for\"x\"", "for   "),
            ("r#type = 1", "r#type = 1"),
            ("'static", "'static"),
            ("\"open", "     "),
        ] {
            assert_eq!(blank_all_but_code(source), code, "{source}");
        }
    }

    #[test]
    fn words_are_whole() {
        assert!(has_word("x unsafe{ }", "unsafe"));
        assert!(!has_word("deny(unsafe_op)", "unsafe"));
        assert!(!has_word("my_unsafe", "unsafe"));
    }

    proptest! {
        #[test]
        fn any_text_keeps_its_lines(text in "\\PC{0,60}|(([a-z\"'/*#\\\\\\n ]|br#|ü){0,60})") {
            let code = blank_all_but_code(&text);
            prop_assert_eq!(code.chars().count(), text.chars().count());
            prop_assert_eq!(code.lines().count(), text.lines().count());
        }
    }
}
