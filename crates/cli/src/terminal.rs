//! What the output is written to: its width, whether it takes colour, and text that is safe to show on it.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, AsRawFd as _};

use crate::args::ColorChoice;

/// ANSI styles by meaning. All empty when colour is off, so that text is written one way only.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Palette {
    pub(crate) heading: &'static str,
    pub(crate) dim: &'static str,
    pub(crate) good: &'static str,
    pub(crate) warn: &'static str,
    pub(crate) bad: &'static str,
    pub(crate) reset: &'static str,
}

impl Palette {
    pub(crate) const PLAIN: Palette =
        Palette { heading: "", dim: "", good: "", warn: "", bad: "", reset: "" };
    /// The 16 basic colours: they follow the terminal's own theme, light or dark.
    pub(crate) const COLOUR: Palette = Palette {
        heading: "\x1b[1m",
        dim: "\x1b[2m",
        good: "\x1b[32m",
        warn: "\x1b[33m",
        bad: "\x1b[1;31m",
        reset: "\x1b[0m",
    };

    /// Of standard output.
    pub(crate) fn choose(choice: ColorChoice) -> Palette {
        Palette::choose_on(choice, &io::stdout())
    }

    pub(crate) fn choose_on(choice: ColorChoice, output: &impl IsTerminal) -> Palette {
        let wanted = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                output.is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
                    && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
            }
        };
        if wanted { Palette::COLOUR } else { Palette::PLAIN }
    }

    /// Of a share that is bad when it is high.
    pub(crate) fn of_share(&self, share: f64) -> &'static str {
        match share {
            full if full >= 0.9 => self.bad,
            full if full > 0.5 => self.warn,
            _ => self.good,
        }
    }
}

/// Columns of the terminal; None when the output is not one.
pub(crate) fn width() -> Option<usize> {
    width_on(&io::stdout())
}

/// Columns of the terminal that this output is; None when it is none.
pub(crate) fn width_on(output: &(impl IsTerminal + AsFd)) -> Option<usize> {
    size(output).map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Lines of the terminal; None when the output is not one.
pub(crate) fn height() -> Option<usize> {
    size(&io::stdout()).map(|size| usize::from(size.ws_row)).filter(|lines| *lines > 0)
}

fn size(output: &(impl IsTerminal + AsFd)) -> Option<libc::winsize> {
    if !output.is_terminal() {
        return None;
    }
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is borrowed, so it is open; TIOCGWINSZ writes one winsize into `size`, which outlives the call.
    let status = unsafe { libc::ioctl(output.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    (status == 0).then_some(size)
}

/// Text from outside (names of interfaces, modules, hosts) made harmless: control characters become escapes.
pub(crate) struct Harmless<'a>(pub(crate) &'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match is_harmful(c) {
            true => write!(f, "{}", c.escape_unicode()),
            false => f.write_char(c),
        })
    }
}

/// Whether a terminal could take the character for a command, or show what follows it in another order.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// JSON that is harmless on a terminal as well: the same strings, with more of their characters escaped than JSON asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HarmlessJson;

impl serde_json::ser::Formatter for HarmlessJson {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some(at) = rest.find(is_harmful) {
            let (plain, after) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut following = after.chars();
            if let Some(harmful) = following.next() {
                // None of them lies beyond U+FFFF: four digits do.
                write!(out, "\\u{:04x}", u32::from(harmful))?;
            }
            rest = following.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

/// Writes `value` as JSON.
///
/// # Errors
/// What writing answers.
pub(crate) fn write_json<T: serde::Serialize + ?Sized>(out: impl io::Write, value: &T) -> io::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(out, HarmlessJson))?;
    Ok(())
}

/// Standard output with a large buffer: a line per socket must not be a system call per socket.
pub(crate) fn buffered_stdout() -> io::BufWriter<io::StdoutLock<'static>> {
    io::BufWriter::with_capacity(64 * 1024, io::stdout().lock())
}

/// A closed pipe is success: whoever read had enough.
pub(crate) fn ignore_closed_pipe(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_pass() {
        assert_eq!(
            Harmless("a\x1b[31mb\n\u{202e}c\u{61c}").to_string(),
            "a\\u{1b}[31mb\\u{a}\\u{202e}c\\u{61c}"
        );
        assert_eq!(Harmless("eth0 ✓").to_string(), "eth0 ✓");
    }

    #[test]
    fn harmless_json_is_the_same_string() {
        let text = "a\x1b[31m\"\\\n\u{7f}\u{9b}b\u{202e}✓";
        let mut bytes = Vec::new();
        write_json(&mut bytes, text).unwrap();
        let json = String::from_utf8(bytes).unwrap();
        assert_eq!(json, r#""a\u001b[31m\"\\\n\u007f\u009bb\u202e✓""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
