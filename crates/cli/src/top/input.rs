//! What a terminal sends: bytes into keys, mouse and pasted text, as xterm and its kin have it.

/// A key, or what a mouse did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    Char(char),
    /// With Ctrl, the letter in lower case.
    Control(char),
    Enter,
    Escape,
    Tab,
    BackTab,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    /// The left button went down: column and line, from 0.
    Click(u16, u16),
    WheelUp,
    WheelDown,
    Pasted(String),
}

/// More than any sequence; what is longer is none.
const LONGEST: usize = 32;
/// A longer text is no filter.
pub(super) const LONGEST_TEXT: usize = 4_096;
const PASTE_BEGINS: &[u8] = b"\x1b[200~";
const PASTE_ENDS: &[u8] = b"\x1b[201~";

/// Bytes that are no whole sequence yet.
#[derive(Default)]
pub(crate) struct Decoder {
    rest: Vec<u8>,
    /// A pasted text is too long, and has not ended yet.
    skips_paste: bool,
}

impl Decoder {
    /// Takes what was read, and hands on what is whole.
    pub(crate) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(Input)) {
        self.rest.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let rest = &self.rest[at..];
            if self.skips_paste || is_too_long(rest) {
                let end = find_end(rest);
                self.skips_paste = end.is_none();
                // Half of the mark may be there.
                at += end.unwrap_or(rest.len().saturating_sub(PASTE_ENDS.len() - 1));
                if self.skips_paste {
                    break;
                }
            } else if let Some((length, input)) = next(rest) {
                at += length;
                input.into_iter().for_each(&mut each);
            } else {
                break;
            }
        }
        self.rest.drain(..at);
    }

    /// Whether there is the beginning of something. What stays so for a moment was the key Escape itself.
    pub(crate) fn waits(&self) -> bool {
        !self.rest.is_empty() && !self.rest.starts_with(PASTE_BEGINS) && !self.skips_paste
    }

    /// Nothing followed: what there is means what it is.
    pub(crate) fn give_up(&mut self, mut each: impl FnMut(Input)) {
        let rest = std::mem::take(&mut self.rest);
        match rest.as_slice() {
            [0x1b] => each(Input::Escape),
            // Alt and a key, or half of a sequence: as if without Alt.
            [0x1b, more @ ..] if !matches!(more.first(), Some(b'[' | b'O')) => self.take(more, each),
            _ => {}
        }
    }
}

/// The first input of some bytes and how long it is; None while it is not whole. What is nothing is skipped.
fn next(bytes: &[u8]) -> Option<(usize, Option<Input>)> {
    let first = *bytes.first()?;
    match first {
        0x1b => escape(bytes),
        b'\r' | b'\n' => Some((1, Some(Input::Enter))),
        b'\t' => Some((1, Some(Input::Tab))),
        0x7f | 0x08 => Some((1, Some(Input::Backspace))),
        0 => Some((1, None)),
        1..=0x1a => Some((1, Some(Input::Control(char::from(first - 1 + b'a'))))),
        0x1c..=0x1f => Some((1, None)),
        0x20..=0x7e => Some((1, Some(Input::Char(char::from(first))))),
        _ => utf8(bytes),
    }
}

fn utf8(bytes: &[u8]) -> Option<(usize, Option<Input>)> {
    let length = match bytes[0] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Some((1, None)),
    };
    let Some(whole) = bytes.get(..length) else {
        let goes_on = bytes[1..].iter().all(|byte| (0x80..0xc0).contains(byte));
        return if goes_on { None } else { Some((1, None)) };
    };
    match std::str::from_utf8(whole).ok().and_then(|text| text.chars().next()) {
        Some(c) if !c.is_control() => Some((length, Some(Input::Char(c)))),
        Some(_) => Some((length, None)),
        None => Some((1, None)),
    }
}

fn escape(bytes: &[u8]) -> Option<(usize, Option<Input>)> {
    match bytes.get(1)? {
        b'[' if bytes.starts_with(PASTE_BEGINS) => pasted(bytes),
        b'[' => control_sequence(bytes),
        b'O' => Some((3, cursor_key(*bytes.get(2)?))),
        // The first was a key of its own.
        0x1b => Some((1, Some(Input::Escape))),
        // Alt and a key: the key.
        _ => next(&bytes[1..]).map(|(length, input)| (length + 1, input)),
    }
}

fn control_sequence(bytes: &[u8]) -> Option<(usize, Option<Input>)> {
    let Some(end) = bytes[2..].iter().position(|byte| (0x40..=0x7e).contains(byte)) else {
        return if bytes.len() > LONGEST { Some((bytes.len(), None)) } else { None };
    };
    let (parameters, last) = (&bytes[2..2 + end], bytes[2 + end]);
    let length = end + 3;
    if let Some(parameters) = parameters.strip_prefix(b"<") {
        return Some((length, mouse(parameters, last)));
    }
    let input = match (last, parameters.split(|byte| *byte == b';').next().unwrap_or_default()) {
        (b'Z', _) => Some(Input::BackTab),
        (b'~', b"1" | b"7") => Some(Input::Home),
        (b'~', b"4" | b"8") => Some(Input::End),
        (b'~', b"5") => Some(Input::PageUp),
        (b'~', b"6") => Some(Input::PageDown),
        (last, _) => cursor_key(last),
    };
    Some((length, input))
}

const fn cursor_key(last: u8) -> Option<Input> {
    match last {
        b'A' => Some(Input::Up),
        b'B' => Some(Input::Down),
        b'C' => Some(Input::Right),
        b'D' => Some(Input::Left),
        b'H' => Some(Input::Home),
        b'F' => Some(Input::End),
        b'M' => Some(Input::Enter),
        _ => None,
    }
}

/// `button;column;line`, with `M` for down and `m` for up.
fn mouse(parameters: &[u8], last: u8) -> Option<Input> {
    let mut numbers =
        std::str::from_utf8(parameters).ok()?.split(';').map(|number| number.parse::<u16>().ok());
    let (button, column, line) = (numbers.next()??, numbers.next()??, numbers.next()??);
    match (button, last) {
        (0, b'M') => Some(Input::Click(column.saturating_sub(1), line.saturating_sub(1))),
        (64, b'M') => Some(Input::WheelUp),
        (65, b'M') => Some(Input::WheelDown),
        _ => None,
    }
}

fn pasted(bytes: &[u8]) -> Option<(usize, Option<Input>)> {
    let end = find_end(bytes)?;
    let text = &bytes[PASTE_BEGINS.len()..end - PASTE_ENDS.len()];
    let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
    Some((end, Some(Input::Pasted(text))))
}

/// Whether they begin with a pasted text that no filter is as long as, ended or not.
fn is_too_long(bytes: &[u8]) -> bool {
    let longest = PASTE_BEGINS.len() + LONGEST_TEXT + PASTE_ENDS.len();
    bytes.starts_with(PASTE_BEGINS) && bytes.len() > longest && find_end(&bytes[..longest]).is_none()
}

/// Where a pasted text's mark of its end is over.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(PASTE_ENDS.len()).position(|window| window == PASTE_ENDS)?;
    Some(at + PASTE_ENDS.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(bytes: &[u8]) -> Vec<Input> {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        decoder.take(bytes, |input| all.push(input));
        all
    }

    #[test]
    fn keys_of_xterm_and_its_kin() {
        use Input::{Char, Click, Control, Pasted};
        assert_eq!(decoded(b"q\x03\r"), [Char('q'), Control('c'), Input::Enter]);
        assert_eq!(
            decoded(b"\x1b[A\x1bOB\x1b[1;5C\x1b[5~\x1b[Z"),
            [Input::Up, Input::Down, Input::Right, Input::PageUp, Input::BackTab]
        );
        assert_eq!(decoded("ä漢".as_bytes()), [Char('ä'), Char('漢')]);
        assert_eq!(decoded(b"\x1b[<0;12;3M\x1b[<0;12;3m\x1b[<64;1;1M"), [Click(11, 2), Input::WheelUp]);
        assert_eq!(decoded(b"\x1b[200~q\ndst\x1b[31m\x1b[201~x"), [Pasted("qdst[31m".into()), Char('x')]);
        assert_eq!(decoded(b"\x1bq\x1b\x1b[A"), [Char('q'), Input::Escape, Input::Up]);
    }

    #[test]
    fn a_pasted_text_without_measure_is_none_and_no_keys() {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        decoder.take(PASTE_BEGINS, |input| all.push(input));
        for _ in 0..100 {
            decoder.take(&[b'q'; 1_000], |input| all.push(input));
            assert!(!decoder.waits() && decoder.rest.len() < 2 * LONGEST_TEXT);
        }
        decoder.take(b"\x1b[20", |input| all.push(input));
        assert!(!decoder.waits());
        decoder.take(b"1~x", |input| all.push(input));
        assert_eq!(all, [Input::Char('x')]);
    }

    #[test]
    fn a_lone_escape_is_one_after_a_moment() {
        let (mut decoder, mut all) = (Decoder::default(), Vec::new());
        decoder.take(b"\x1b", |input| all.push(input));
        assert!(all.is_empty() && decoder.waits());
        decoder.give_up(|input| all.push(input));
        assert!(all == [Input::Escape] && !decoder.waits());
    }

    proptest! {
        /// However the bytes are cut into reads, they mean the same.
        #[test]
        fn reads_may_end_anywhere(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just(b"\x1b[A".to_vec()), Just(b"\x1b[<0;10;20M".to_vec()), Just("é".as_bytes().to_vec()),
                    Just(b"\x1b[200~a b\x1b[201~".to_vec()), Just(b"x".to_vec()), Just(b"\x1b[200~".to_vec()),
                    (LONGEST_TEXT - 2..LONGEST_TEXT + 3)
                        .prop_map(|length| [PASTE_BEGINS, &vec![b'a'; length], PASTE_ENDS].concat()),
                    proptest::collection::vec(any::<u8>(), 0..8),
                ],
                0..12,
            ),
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = parts.concat();
            let whole = decoded(&bytes);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let (mut decoder, mut all) = (Decoder::default(), Vec::new());
            for pair in cuts.windows(2) {
                decoder.take(&bytes[pair[0]..pair[1]], |input| all.push(input));
            }
            prop_assert_eq!(all, whole);
        }
    }
}
