//! Text that other people chose: names of processes, users, cgroups. Kept byte by byte, shown without harm.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// A name from outside: any bytes, also control characters, quotes, newlines and what is not UTF-8.
///
/// [`Display`](fmt::Display) is the way to show it on a terminal, in a log or between quotes: one line, without anything a
/// terminal obeys. What it escapes it writes as Rust does (`\n`, `\"`, `\u{1b}`; a byte that is not UTF-8 as `\xff`), and
/// it doubles backslashes, so that two names never look the same. Formats with an escaping of their own (JSON) take
/// [`text`](Name::text).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Name(Box<[u8]>);

impl Name {
    /// The bytes as they came.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As text with control characters and all; what is not UTF-8 becomes U+FFFD. Not for terminals.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&[u8]> for Name {
    fn from(bytes: &[u8]) -> Name {
        Name(bytes.into())
    }
}

impl From<Vec<u8>> for Name {
    fn from(bytes: Vec<u8>) -> Name {
        Name(bytes.into())
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name(text.as_bytes().into())
    }
}

impl fmt::Display for Name {
    /// Obeys width and alignment, counted in characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.iter().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\')) {
            true => f.pad(&self.text()),
            false => f.pad(&escaped(&self.0)),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", escaped(&self.0))
    }
}

fn escaped(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\'' | '\\' | '\n' | '\r' | '\t' => shown.extend(c.escape_default()),
                c if changes_the_line(c) => shown.extend(c.escape_unicode()),
                c => shown.push(c),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown
}

/// Whether a terminal could take it for a command, end the line there, or show what stands around it in another order
/// or not at all.
fn changes_the_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(bytes: &[u8]) -> String {
        Name::from(bytes).to_string()
    }

    #[test]
    fn hostile_names_become_one_harmless_line() {
        assert_eq!(shown(b"nginx: worker process"), "nginx: worker process");
        assert_eq!(shown(b"\x1b]0;owned\x07\x1b[2J"), "\\u{1b}]0;owned\\u{7}\\u{1b}[2J");
        assert_eq!(shown(b"a\nb\r\tc"), "a\\nb\\r\\tc");
        assert_eq!(shown(b"x\"),(\"y',\\"), "x\\\"),(\\\"y\\',\\\\");
        assert_eq!(shown(b"\xff\xc3(\xe2\x9c"), "\\xff\\xc3(\\xe2\\x9c");
        assert_eq!(
            shown("gr\u{fc}n \u{202e}txt.exe\u{2028}\u{9b}31m".as_bytes()),
            "gr\u{fc}n \\u{202e}txt.exe\\u{2028}\\u{9b}31m"
        );
        assert_eq!(shown(b"\0"), "\\u{0}");
    }

    #[test]
    fn a_column_keeps_its_width() {
        assert_eq!(format!("{:<7}|", Name::from("a\nb")), "a\\nb   |");
        assert_eq!(format!("{:>5}|", Name::from("web")), "  web|");
    }

    #[test]
    fn text_is_for_formats_that_escape_themselves() {
        assert_eq!(Name::from(&b"a\"\n\xff"[..]).text(), "a\"\n\u{fffd}");
    }

    /// The bytes behind what was shown.
    fn read_back(shown: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = shown.chars();
        let hex = |digits: String| u32::from_str_radix(&digits, 16).unwrap();
        while let Some(c) = rest.next() {
            let c = match c {
                '\\' => match rest.next().unwrap() {
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'x' => {
                        bytes.push(hex(rest.by_ref().take(2).collect()) as u8);
                        continue;
                    }
                    'u' => char::from_u32(hex(rest.by_ref().skip(1).take_while(|c| *c != '}').collect()))
                        .unwrap(),
                    quoted => quoted,
                },
                c => c,
            };
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        bytes
    }

    proptest! {
        #[test]
        fn any_bytes_are_shown_harmlessly_and_can_be_read_back(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::collection::vec(prop_oneof![Just(b'\\'), Just(b'"'), Just(b'x'), Just(b'u'), Just(0x1b), Just(0xff)], 0..12),
                "\\PC{0,20}".prop_map(String::into_bytes),
            ]
        ) {
            let shown = shown(&bytes);
            prop_assert!(!shown.chars().any(changes_the_line), "{shown:?}");
            // A quote that does not end a quoted string has a backslash of its own before it.
            let quoted = ends_a_quoted_string(&shown);
            prop_assert!(!quoted, "{shown:?}");
            prop_assert_eq!(read_back(&shown), bytes);
        }
    }

    /// Whether a reader who knows backslashes would see a quoted string end within.
    fn ends_a_quoted_string(shown: &str) -> bool {
        let mut escaped = false;
        for c in shown.chars() {
            match c {
                '\\' => escaped = !escaped,
                '"' | '\'' if !escaped => return true,
                _ => escaped = false,
            }
        }
        escaped
    }
}
