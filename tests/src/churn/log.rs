//! What became of each connection: memory that workers write and their owner reads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::plan::{Drawn, How};
use crate::fork::monotonic_ns;

/// When something happened: a system call did it, between these two instants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Before the call.
    pub from: Instant,
    /// After it.
    pub to: Instant,
}

/// One end of a connection: its own socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The one that connected.
    Client,
    /// The one that was accepted.
    Server,
}

/// One connection, or attempt at one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// How it was to end.
    pub how: How,
    /// The client's address; port 0 for an attempt that failed at once.
    pub local: SocketAddr,
    /// Where it went.
    pub remote: SocketAddr,
    /// connect() and, where there is one, the accept that followed.
    pub opened: Span,
    /// close() of the end that closes first; None while it is open.
    pub first_close: Option<Span>,
    /// close() of the other end; None while it is open or if there is none.
    pub second_close: Option<Span>,
    /// Payload from the client to the server.
    pub request_bytes: u16,
    /// And back.
    pub reply_bytes: u16,
}

impl Connection {
    /// When this end was closed; None while it is open.
    pub fn closed(&self, end: End) -> Option<Span> {
        let is_first = match end {
            End::Client => !self.how.server_is_first(),
            End::Server => self.how.server_is_first(),
        };
        if is_first { self.first_close } else { self.second_close }
    }

    /// The ends there are.
    pub fn ends(&self) -> &'static [End] {
        if self.how.is_accepted() { &[End::Client, End::Server] } else { &[End::Client] }
    }
}

/// One connection both ends of which are closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// When both ends were closed and TIME_WAIT, if any, had begun; monotonic, some microseconds late at most.
    pub at: Instant,
    /// The client's address and port: its TIME_WAIT, if it closed first, holds that port.
    pub local: SocketAddr,
    /// The destination.
    pub remote: SocketAddr,
}

/// What workers tell of one connection: nanoseconds of CLOCK_MONOTONIC, 0 for what has not happened yet.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) opened: [AtomicU64; 2],
    /// First and second.
    pub(super) closed: [[AtomicU64; 2]; 2],
    /// Of the client; both in one, so that they are read as one.
    pub(super) local: AtomicU64,
    /// The worker's own: client and server.
    pub(super) descriptors: [AtomicI32; 2],
}

/// One slot a connection, in memory that is shared with workers.
pub(super) struct Log {
    drawn: Vec<Drawn>,
    /// Ports of each place: accepting, refusing, silent.
    places: Vec<[SocketAddr; 3]>,
    slots: NonNull<Slot>,
    /// The same moment by both clocks.
    began: (Instant, u64),
}

// SAFETY: slots are atomics, and the rest does not change.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl std::fmt::Debug for Log {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Log of {} connections", self.drawn.len())
    }
}

impl Log {
    pub(super) fn new(drawn: Vec<Drawn>, places: impl Iterator<Item = [SocketAddr; 3]>) -> io::Result<Log> {
        // SAFETY: a new anonymous mapping, whose zeros are valid slots; pages are aligned for them.
        let slots = unsafe {
            let length = length_of(&drawn);
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0)
        };
        if slots == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let slots = NonNull::new(slots.cast()).ok_or_else(|| io::Error::other("mmap at 0"))?;
        Ok(Log { drawn, places: places.collect(), slots, began: (Instant::now(), monotonic_ns()) })
    }

    pub(super) fn began(&self) -> Instant {
        self.began.0
    }

    pub(super) fn began_ns(&self) -> u64 {
        self.began.1
    }

    pub(super) fn drawn(&self) -> &[Drawn] {
        &self.drawn
    }

    pub(super) fn slots(&self) -> &[Slot] {
        // SAFETY: the mapping holds as many slots, lives as long as self, and is only reached through atomics.
        unsafe { std::slice::from_raw_parts(self.slots.as_ptr(), self.drawn.len()) }
    }

    pub(super) fn connections(&self) -> Vec<Connection> {
        self.drawn.iter().zip(self.slots()).filter_map(|(drawn, slot)| self.connection(drawn, slot)).collect()
    }

    pub(super) fn closes(&self) -> Vec<Close> {
        let mut closes: Vec<_> = self.connections().iter().filter_map(close_of).collect();
        closes.sort_by_key(|close| close.at);
        closes
    }

    fn connection(&self, drawn: &Drawn, slot: &Slot) -> Option<Connection> {
        let opened = self.span(&slot.opened)?;
        let local = slot.local.load(Ordering::Relaxed);
        let host = Ipv4Addr::from((local >> 16) as u32);
        let [open, closed, full] = *self.places.get(usize::from(drawn.place))?;
        Some(Connection {
            how: drawn.how,
            local: SocketAddr::new(IpAddr::V4(host), local as u16),
            remote: match drawn.how {
                How::Refused => closed,
                How::Unanswered => full,
                _ => open,
            },
            opened,
            first_close: self.span(&slot.closed[0]),
            second_close: self.span(&slot.closed[1]),
            request_bytes: drawn.request_bytes,
            reply_bytes: drawn.reply_bytes,
        })
    }

    /// None while it has not happened. Workers write the later end last.
    fn span(&self, [from, to]: &[AtomicU64; 2]) -> Option<Span> {
        let to = to.load(Ordering::Acquire);
        let from = from.load(Ordering::Relaxed);
        (to > 0).then(|| Span { from: self.instant(from), to: self.instant(to) })
    }

    fn instant(&self, ns: u64) -> Instant {
        self.began.0 + Duration::from_nanos(ns.saturating_sub(self.began.1))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever borrowed from it is gone.
        unsafe { libc::munmap(self.slots.as_ptr().cast(), length_of(&self.drawn)) };
    }
}

fn close_of(connection: &Connection) -> Option<Close> {
    let at = connection.second_close?.to;
    Some(Close { at, local: connection.local, remote: connection.remote })
}

/// Bytes of the mapping; never none, which mmap refuses.
fn length_of(drawn: &[Drawn]) -> usize {
    (drawn.len() * size_of::<Slot>()).max(1)
}
