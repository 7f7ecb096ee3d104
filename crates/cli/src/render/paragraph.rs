//! Text behind a label, broken at its spaces to fit the terminal.

use crate::render::snapshot_screen::columns;

/// The text with a line break wherever the next word would reach beyond `width`; lines after the first are indented, and
/// so far in is the first taken to begin.
pub(super) fn paragraph(text: &str, indent: usize, width: usize) -> String {
    let room = width.saturating_sub(indent);
    let mut broken = String::with_capacity(text.len());
    let mut column = 0;
    for word in text.split(' ') {
        let length = columns(word);
        if column > 0 && column + 1 + length > room {
            broken.push('\n');
            broken.extend(std::iter::repeat_n(' ', indent));
            column = 0;
        } else if column > 0 {
            broken.push(' ');
            column += 1;
        }
        broken.push_str(word);
        column += length;
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_before_the_width() {
        assert_eq!(paragraph("one two three", 4, 11), "one two\n    three");
        assert_eq!(paragraph("\x1b[1mone\x1b[0m two", 0, 7), "\x1b[1mone\x1b[0m two", "styles take no room");
        assert_eq!(paragraph("longer than that", 2, 3), "longer\n  than\n  that");
        assert_eq!(paragraph("", 4, 2), "");
    }
}
