//! SIGINT and SIGTERM as a wish to end, which a wait notices at once. A second signal ends the process as ever.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

/// Whether someone wishes this process to end. Readable (as a descriptor) from then on.
pub(crate) struct Stop {
    wished: Arc<AtomicBool>,
    woken: UnixStream,
}

impl Stop {
    /// From here on the first signal is a wish.
    ///
    /// # Errors
    /// No descriptors left.
    pub(crate) fn listen() -> io::Result<Stop> {
        let wished = Arc::new(AtomicBool::new(false));
        let (woken, waker) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            // In this order: at the second signal the flag stands already, and the default ends the process, which may be
            // stuck in writing to a pipe that nobody reads.
            flag::register_conditional_default(signal, Arc::clone(&wished))?;
            flag::register(signal, Arc::clone(&wished))?;
            low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Stop { wished, woken })
    }

    /// Whether there was a signal.
    pub(crate) fn is_wished(&self) -> bool {
        self.wished.load(Ordering::SeqCst)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}
