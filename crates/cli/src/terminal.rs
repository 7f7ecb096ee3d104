//! What the output is written to: its width, whether it takes colour, and text that is safe to show on it.

use std::fmt;
use std::io::{self, IsTerminal};

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

    pub(crate) fn choose(choice: ColorChoice) -> Palette {
        let wanted = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => {
                io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
                    && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
            }
        };
        if wanted { Palette::COLOUR } else { Palette::PLAIN }
    }
}

/// Columns of the terminal; None when the output is not one.
pub(crate) fn width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize into `size`, which outlives the call.
    let status = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    (status == 0 && size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Text from outside (names of interfaces, modules, hosts) made harmless: control characters become escapes.
pub(crate) struct Harmless<'a>(pub(crate) &'a str);

impl fmt::Display for Harmless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            // Direction marks reorder what follows them on the screen.
            let reorders =
                matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
            match c.is_control() || reorders {
                true => write!(f, "{}", c.escape_unicode())?,
                false => f.write_str(c.encode_utf8(&mut [0; 4]))?,
            }
        }
        Ok(())
    }
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
        assert_eq!(Harmless("a\x1b[31mb\n\u{202e}c").to_string(), "a\\u{1b}[31mb\\u{a}\\u{202e}c");
        assert_eq!(Harmless("eth0 ✓").to_string(), "eth0 ✓");
    }
}
