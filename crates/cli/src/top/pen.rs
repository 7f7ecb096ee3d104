//! Text into a buffer: what stands where, never beyond its area.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;
use unicode_width::UnicodeWidthStr;

/// Columns that text takes on a terminal.
pub(crate) fn columns(text: &str) -> u16 {
    u16::try_from(text.width()).unwrap_or(u16::MAX)
}

/// A line of a buffer, written from the left.
pub(crate) struct Pen<'b> {
    buffer: &'b mut Buffer,
    x: u16,
    y: u16,
    right: u16,
}

impl<'b> Pen<'b> {
    /// The line `down` lines below the upper edge of an area. Nothing is written when it has none there.
    pub(crate) fn at(buffer: &'b mut Buffer, area: Rect, down: u16) -> Pen<'b> {
        let area = area.intersection(buffer.area);
        let right = if down < area.height { area.right() } else { area.x };
        Pen { buffer, x: area.x, y: area.y.saturating_add(down), right }
    }

    pub(crate) const fn x(&self) -> u16 {
        self.x
    }

    /// Columns that are left.
    pub(crate) const fn room(&self) -> u16 {
        self.right.saturating_sub(self.x)
    }

    /// Writes as much as there is room for.
    pub(crate) fn put(&mut self, text: &str, style: Style) -> &mut Self {
        if self.x < self.right {
            let room = usize::from(self.right - self.x);
            (self.x, _) = self.buffer.set_stringn(self.x, self.y, text, room, style);
        }
        self
    }

    /// Writes text that is cut with an ellipsis where there is no room for it.
    pub(crate) fn put_cut(&mut self, text: &str, style: Style) -> &mut Self {
        let room = usize::from(self.room());
        self.put(&cut(text, room), style)
    }

    /// Goes on so many columns behind the left edge of the line.
    pub(crate) fn skip(&mut self, columns: u16) -> &mut Self {
        self.x = self.x.saturating_add(columns).min(self.right);
        self
    }

    /// Writes at the right edge, if there is room for all of it and a gap.
    pub(crate) fn put_right(&mut self, text: &str, style: Style) -> &mut Self {
        let width = columns(text);
        if self.room() > width {
            self.x = self.right - width;
            self.put(text, style);
        }
        self
    }
}

/// The first columns of a text, with an ellipsis if there are more.
pub(crate) fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut taken = 0;
    for c in text.chars() {
        let width = unicode_width::UnicodeWidthChar::width(c).unwrap_or(0);
        if taken + width + 1 > room {
            break;
        }
        taken += width;
        kept.push(c);
    }
    if room > 0 {
        kept.push('…');
    }
    kept
}

/// Text broken at spaces into lines of at most so many columns.
pub(crate) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let fits = lines.last().is_none_or(|line| line.is_empty() || line.width() + 1 + word.width() <= room);
        match lines.last_mut().filter(|_| fits) {
            Some(line) => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `███▊░░`: a share in eighths of a cell; something never looks like nothing.
pub(crate) fn bar(share: f64, cells: usize) -> String {
    const EIGHTHS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let eighths = (share.clamp(0.0, 1.0) * (cells * 8) as f64).round() as usize;
    let eighths = if share > 0.0 { eighths.max(1) } else { 0 };
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(EIGHTHS[eighths % 8]);
    }
    let filled = eighths.div_ceil(8);
    text + &"░".repeat(cells.saturating_sub(filled))
}

/// `▁▂▅█`: values against the greatest; a blank where there is none.
pub(crate) fn sparkline(values: &[Option<f64>], greatest: f64) -> String {
    const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let level = |value: f64| match greatest > 0.0 {
        true => ((value / greatest * 7.0).ceil() as usize).min(7),
        false => 0,
    };
    values.iter().map(|value| value.map_or(' ', |value| LEVELS[level(value)])).collect()
}

/// Values as columns of so many lines, the uppermost line first.
pub(crate) fn chart(values: &[Option<f64>], greatest: f64, lines: usize) -> Vec<String> {
    const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let eighths = |value: f64| match greatest > 0.0 {
        true => (value / greatest * (lines * 8) as f64).ceil() as usize,
        false => 0,
    };
    let glyph = |value: &Option<f64>, above: usize| {
        value.map_or(' ', |value| LEVELS[eighths(value).saturating_sub(above * 8).min(8)])
    };
    (0..lines).rev().map(|above| values.iter().map(|value| glyph(value, above)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_beyond_the_area() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 8, 2));
        let area = Rect::new(2, 0, 4, 1);
        Pen::at(&mut buffer, area, 0).put("abcdefgh", Style::new());
        Pen::at(&mut buffer, area, 1).put("no", Style::new()).put_right("n", Style::new());
        Pen::at(&mut buffer, Rect::new(50, 50, 4, 4), 0).put("no", Style::new());
        assert_eq!(buffer, Buffer::with_lines(["  abcd  ", "        "]));
    }

    #[test]
    fn text_is_cut_by_columns() {
        assert_eq!((cut("abc", 3), cut("abcd", 3), cut("a", 0)), ("abc".into(), "ab…".into(), String::new()));
        assert_eq!(cut("漢字だ", 4), "漢…", "a wide character needs its two columns");
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("longword a", 3), ["longword", "a"]);
    }

    #[test]
    fn bars_and_sparklines_fill_their_cells() {
        assert_eq!((bar(0.0, 3), bar(0.0001, 3), bar(0.5, 3)), ("░░░".into(), "▏░░".into(), "█▌░".into()));
        assert_eq!(sparkline(&[None, Some(0.0), Some(1.0), Some(100.0)], 100.0), " ▁▂█");
        assert_eq!(sparkline(&[Some(0.0)], 0.0), "▁");
        assert_eq!(chart(&[Some(16.0), None, Some(9.0), Some(4.0)], 16.0, 2), ["█ ▁ ", "█ █▄"]);
    }
}
