//! The terminal as a full screen: taken over, given back whatever happens, written to without ever waiting for it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::paint;
use crate::terminal;

/// Another screen, no cursor, reports of clicks and the wheel, pasted text marked as such.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?1006h\x1b[?2004h\x1b[0m\x1b[2J";
/// After a stop that nobody was told of: what a shell may have changed meanwhile. The other screen is still there.
const ENTER_AGAIN: &[u8] = b"\x1b[?25l\x1b[?1000h\x1b[?1006h\x1b[?2004h\x1b[0m\x1b[2J";
/// The reverse. CAN ends a sequence of which only half was written.
const LEAVE: &[u8] = b"\x18\x1b[0m\x1b[?2004l\x1b[?1006l\x1b[?1000l\x1b[?25h\x1b[?1049l";
/// Terminals that say they are larger err: each cell takes memory.
const MOST_COLUMNS: u16 = 1_000;
const MOST_LINES: u16 = 500;
/// How long a terminal that takes nothing is waited for at the end, milliseconds.
const PATIENCE_MS: u16 = 200;

/// What the terminal was before, while it is ours: for a panic, which knows no `Tty`.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The terminal while it is ours.
pub(crate) struct Tty {
    /// A file description of our own, where it can be had: that it does not wait is then nobody else's business.
    terminal: File,
    /// Writes may wait, for there is none of our own.
    waits: bool,
    /// What is still to be written.
    pending: Vec<u8>,
    last: Buffer,
}

impl Tty {
    /// Takes the terminal of standard output over.
    ///
    /// # Errors
    /// It is none, or cannot be read.
    pub(crate) fn enter() -> io::Result<Tty> {
        let own = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open("/proc/self/fd/1");
        let (terminal, waits) = match own {
            Ok(own) => (own, false),
            Err(_) => (File::from(io::stdout().as_fd().try_clone_to_owned()?), true),
        };
        let mut tty = Tty { terminal, waits, pending: Vec::new(), last: Buffer::empty(Rect::ZERO) };
        tty.take_over()?;
        Ok(tty)
    }

    /// Takes it over again after [`leave`](Self::leave); the next frame is drawn whole.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn take_over(&mut self) -> io::Result<()> {
        let before = tcgetattr(&self.terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&self.terminal, SetArg::TCSANOW, &raw)?;
        *lock() = Some(before);
        self.pending.clear();
        self.pending.extend_from_slice(ENTER);
        self.last = Buffer::empty(Rect::ZERO);
        Ok(())
    }

    /// Makes sure of it after a stop that came without warning (SIGSTOP), without giving it back in between.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn make_sure(&mut self) -> io::Result<()> {
        let mut raw = tcgetattr(&self.terminal)?;
        cfmakeraw(&mut raw);
        tcsetattr(&self.terminal, SetArg::TCSANOW, &raw)?;
        // Behind what waits: that may be the taking over itself.
        self.pending.extend_from_slice(ENTER_AGAIN);
        self.last = Buffer::empty(Rect::ZERO);
        self.write()
    }

    /// Gives it back.
    pub(crate) fn leave(&mut self) {
        self.pending.clear();
        give_back(&mut self.terminal);
    }

    /// Whether the last frame has been written: then the next may be drawn.
    pub(crate) fn is_ready(&self) -> bool {
        self.pending.is_empty() || self.pending.as_slice() == ENTER
    }

    /// Whether something waits for the terminal to take it.
    pub(crate) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Draws what has changed since the last frame; all of it, where that had another size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn draw(&mut self, frame: Buffer) -> io::Result<()> {
        if lock().is_none() {
            return Err(io::Error::other("the terminal was given back by a panic"));
        }
        if self.last.area != frame.area {
            self.pending.extend_from_slice(b"\x1b[0m\x1b[2J");
            self.last = Buffer::empty(frame.area);
        }
        paint::changes(&self.last, &frame, &mut self.pending);
        self.last = frame;
        self.write()
    }

    /// The next frame is drawn whole.
    pub(crate) fn forget(&mut self) {
        self.last = Buffer::empty(Rect::ZERO);
    }

    /// Writes as much as the terminal takes now.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.waits {
            self.terminal.write_all(&self.pending)?;
            self.pending.clear();
        }
        while !self.pending.is_empty() {
            match self.terminal.write(&self.pending) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what was typed. Only to be called when there is something.
    ///
    /// # Errors
    /// The terminal is gone.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.terminal.read(bytes) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(0)
            }
            other => other,
        }
    }

    /// All of the screen, or as much of it as anybody can see.
    pub(crate) fn area() -> Rect {
        area_of(terminal::width(), terminal::height())
    }
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.terminal.as_fd()
    }
}

impl Drop for Tty {
    fn drop(&mut self) {
        self.leave();
    }
}

fn area_of(width: Option<usize>, height: Option<usize>) -> Rect {
    let cells = |count: Option<usize>, otherwise, most: u16| {
        count.map_or(otherwise, |count| u16::try_from(count).unwrap_or(most).min(most))
    };
    Rect::new(0, 0, cells(width, 80, MOST_COLUMNS), cells(height, 24, MOST_LINES))
}

/// Before a panic of any thread is told, the terminal is given back: else its words would be lost with the screen. One that is
/// awaited, over a damaged file of a recording, is not told.
pub(crate) fn give_back_on_panic() {
    let told = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if sockeye_recording::expects_panic() {
            return;
        }
        if let Ok(mut terminal) =
            OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open("/proc/self/fd/1")
        {
            give_back(&mut terminal);
        }
        told(panic);
    }));
}

/// Once for each time it was taken.
fn give_back(terminal: &mut File) {
    let Some(before) = lock().take() else { return };
    let mut rest = LEAVE;
    while !rest.is_empty() {
        match terminal.write(rest) {
            Ok(written @ 1..) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut writable = [nix::poll::PollFd::new(terminal.as_fd(), nix::poll::PollFlags::POLLOUT)];
                if !matches!(nix::poll::poll(&mut writable, PATIENCE_MS), Ok(1..)) {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => break,
        }
    }
    // Not what is drained first: a terminal that takes nothing would be waited for.
    let _ = tcsetattr(&*terminal, SetArg::TCSANOW, &before);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_never_larger_than_anybody_can_see() {
        let size = |width, height| {
            let area = area_of(width, height);
            (area.width, area.height)
        };
        assert_eq!(size(None, None), (80, 24));
        assert_eq!(size(Some(120), Some(40)), (120, 40));
        assert_eq!(size(Some(usize::MAX), Some(1)), (MOST_COLUMNS, 1));
        assert_eq!(size(Some(1), Some(65_535)), (1, MOST_LINES));
    }
}
