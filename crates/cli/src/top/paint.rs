//! What differs between two frames, as the escape sequences of ECMA-48. A buffer
//! takes no control characters, so that nothing but what is made here moves a terminal.

use std::io::Write as _;

use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::style::{Color, Modifier};

/// Appends what makes `next` of a terminal that shows `last`.
pub(crate) fn changes(last: &Buffer, next: &Buffer, out: &mut Vec<u8>) {
    let mut at = None;
    let mut style = None;
    for (x, y, cell) in last.diff(next) {
        if at != Some((x, y)) {
            let _ = write!(out, "\x1b[{};{}H", y + 1, x + 1);
        }
        let wanted = (cell.fg, cell.bg, cell.modifier);
        if style != Some(wanted) {
            put_style(cell, out);
            style = Some(wanted);
        }
        let symbol = cell.symbol();
        out.extend_from_slice(symbol.as_bytes());
        at = Some((x + super::pen::columns(symbol).max(1), y));
    }
    if style.is_some() {
        out.extend_from_slice(b"\x1b[0m");
    }
}

fn put_style(cell: &Cell, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\x1b[0");
    for (modifier, code) in [(Modifier::BOLD, 1), (Modifier::DIM, 2), (Modifier::REVERSED, 7)] {
        if cell.modifier.contains(modifier) {
            let _ = write!(out, ";{code}");
        }
    }
    if let Some(code) = foreground(cell.fg) {
        let _ = write!(out, ";{code}");
    }
    if let Some(code) = foreground(cell.bg) {
        let _ = write!(out, ";{}", code + 10);
    }
    out.push(b'm');
}

/// The 16 named colours; None for the terminal's own, and for any other.
const fn foreground(colour: Color) -> Option<u8> {
    Some(match colour {
        Color::Black => 30,
        Color::Red => 31,
        Color::Green => 32,
        Color::Yellow => 33,
        Color::Blue => 34,
        Color::Magenta => 35,
        Color::Cyan => 36,
        Color::Gray => 37,
        Color::DarkGray => 90,
        Color::LightRed => 91,
        Color::LightGreen => 92,
        Color::LightYellow => 93,
        Color::LightBlue => 94,
        Color::LightMagenta => 95,
        Color::LightCyan => 96,
        Color::White => 97,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ratatui_core::layout::Rect;
    use ratatui_core::style::Style;

    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let area = Rect::new(0, 0, 10, 2);
        let (last, mut next) = (Buffer::empty(area), Buffer::empty(area));
        let mut out = Vec::new();
        changes(&last, &next, &mut out);
        assert!(out.is_empty());
        next.set_string(2, 1, "ab", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        next.set_string(5, 1, "c", Style::new());
        changes(&last, &next, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[2;3H\x1b[0;1;31mab\x1b[2;6H\x1b[0mc\x1b[0m");
    }

    #[test]
    fn control_characters_do_not_get_through() {
        let area = Rect::new(0, 0, 4, 1);
        let mut next = Buffer::empty(area);
        next.set_string(0, 0, "\x1b]\u{9b}0\x07", Style::new());
        let mut out = Vec::new();
        changes(&Buffer::empty(area), &next, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\x1b[1;1H\x1b[0m]0\x1b[0m");
    }
}
