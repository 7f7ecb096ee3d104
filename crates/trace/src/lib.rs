//! Who connects: every TCP connect() of the machine as it happens, also of connections and processes that are gone
//! before anybody could look. And whether connections were closed, or left to the end of their process.
//!
//! The kernel's tracepoint `sock:inet_sock_set_state` tells a connect() in the task that calls it, and when the
//! connection is there, both its ends. Leaves to others: who has a socket open, accepted connections.

mod book;
mod closings;
mod layout;
mod proc;
mod record;
mod rings;
mod tracefs;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use book::Book;
pub use layout::Layout;
pub use record::{Happening, What, decode};
use rings::{Rings, Waiter};

/// Listens to the connects of the whole machine, in every network namespace.
///
/// A thread of its own takes what the kernel tells; [`catch_up`](Self::catch_up) does so at once. Memory: 40 bytes a
/// connect until [`forget_old`](Self::forget_old) was called twice, 131,072 at most; 64 to 512 KiB of buffer a processor,
/// 16 MiB at most for all.
///
/// Cost: about a microsecond on the connecting side for each connect(), half of one here; as much for each process that
/// begins, changes its name, or ends.
///
/// # Privileges
/// CAP_PERFMON, or CAP_SYS_ADMIN; and CAP_SYS_ADMIN where tracefs is not mounted.
#[derive(Debug)]
pub struct Connects {
    shared: Arc<Mutex<Shared>>,
    waiter: Arc<Waiter>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    rings: Rings,
    book: Book,
}

/// A process that connected. Its number may be another's by now: this is that very one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Maker {
    /// Its number in our pid namespace.
    pub pid: u32,
    generation: u32,
}

/// What was heard of a process that connects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    /// It has ended, or may have: `/proc` tells nothing of it, or of another.
    pub has_ended: bool,
    /// The kernel's name for it, at most 15 bytes, where it took that while we listened; else `/proc` tells. Untrusted.
    pub name: Option<Vec<u8>>,
    /// Its cgroup when it connected last, as records of sockets tell it. None: it was not told (before Linux 5.7).
    pub cgroup_id: Option<u64>,
}

/// Connects that began in a cgroup.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Begun {
    /// Which; None: that was not told (before Linux 5.7).
    pub cgroup_id: Option<u64>,
    /// How many, in the namespace that was asked for.
    pub here: u64,
    /// How many more by tasks whose namespace is not known.
    pub perhaps: u64,
}

/// Why connects are not told.
#[derive(Debug, thiserror::Error)]
pub enum ConnectsError {
    /// Not permitted: CAP_PERFMON is needed, and where tracefs is not mounted, CAP_SYS_ADMIN.
    #[error("not permitted ({0}): CAP_PERFMON is needed, and CAP_SYS_ADMIN where tracefs is not mounted")]
    Denied(#[source] io::Error),
    /// This kernel has no tracepoints, or not this one (before Linux 4.16).
    #[error("this kernel has no tracepoint sock:inet_sock_set_state ({0})")]
    Missing(#[source] io::Error),
    /// The kernel tells processes by their numbers in our pid namespace, and `/proc` is another's, or not there.
    #[error("/proc is not that of our pid namespace: mount one (unshare --mount-proc, nsenter --pid)")]
    OtherProc,
    /// It could not be opened for another reason.
    #[error("perf_event_open: {0}")]
    Failed(#[source] io::Error),
}

impl Connects {
    /// Begins to listen.
    ///
    /// # Errors
    /// See [`ConnectsError`].
    pub fn listen() -> Result<Connects, ConnectsError> {
        Connects::open(false)
    }

    /// The same, and to who closes connections, for [`closed_at_exit`](Self::closed_at_exit). Cost: about a microsecond more
    /// for each close, and for each thread that ends; 64 KiB more a processor, and 16 MiB at most for what was closed.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn listen_to_closes() -> Result<Connects, ConnectsError> {
        Connects::open(true)
    }

    fn open(tells_closes: bool) -> Result<Connects, ConnectsError> {
        if !proc::is_ours() {
            return Err(ConnectsError::OtherProc);
        }
        let layout = tracefs::layout().map_err(ConnectsError::from)?;
        let exits = tells_closes.then(tracefs::exit).transpose().map_err(ConnectsError::from)?;
        let rings = Rings::open(&layout, exits).map_err(ConnectsError::from)?;
        let waiter = Arc::new(rings.waiter().map_err(ConnectsError::Failed)?);
        let shared = Arc::new(Mutex::new(Shared {
            rings,
            book: if tells_closes { Book::counting() } else { Book::default() },
        }));
        let (taken, waits) = (Arc::clone(&shared), Arc::clone(&waiter));
        let thread = std::thread::Builder::new()
            .name("connects".into())
            .spawn(move || {
                while waits.wait() {
                    lock(&taken).catch_up()
                }
            })
            .map_err(ConnectsError::Failed)?;
        Ok(Connects { shared, waiter, thread: Some(thread) })
    }

    /// Takes all that was told so far: afterwards every connection that was there before this call is known, unless it was
    /// [lost](Self::lost).
    pub fn catch_up(&self) {
        lock(&self.shared).catch_up();
    }

    /// The process that connected from `local` to `remote` in the network namespace with this inode, the last time that was
    /// done; it may have ended. Without the remote port, as a reset leaves it, the latest from this local port to that
    /// address. None when nobody did while we listened, or it is long ago. Cost: a look into a hash table.
    pub fn connector(&self, netns: u64, local: SocketAddr, remote: SocketAddr) -> Option<Maker> {
        lock(&self.shared).book.connector(netns, local, remote)
    }

    /// Whether the kernel closed this end of a connection because its process ended, not the process itself: as far as
    /// that was heard in the last minutes. What shutdown() has closed is closed, and what another side's reset has is not told.
    pub fn closed_at_exit(&self, netns: u64, local: SocketAddr, remote: SocketAddr) -> Option<bool> {
        lock(&self.shared).book.closed_at_exit(netns, local, remote)
    }

    /// TCP connects that began in a network namespace since we listen to closes, by cgroup: as many as the kernel counts there
    /// (ActiveOpens), failed ones too. None where they are not counted.
    pub fn begun_in(&self, netns: u64) -> Option<Vec<Begun>> {
        lock(&self.shared).book.begun_in(netns)
    }

    /// What was heard of a process, also of one that has just ended. None when too many connect, or it is long ago.
    pub fn heard_of(&self, maker: Maker) -> Option<Heard> {
        lock(&self.shared).book.heard_of(maker)
    }

    /// To be called when everything known so far was asked for: what was known at the last such call is forgotten.
    pub fn forget_old(&self) {
        lock(&self.shared).book.forget_old();
    }

    /// Connects, and what processes did, that were not told for want of room.
    pub fn lost(&self) -> u64 {
        lock(&self.shared).book.lost()
    }
}

impl Drop for Connects {
    fn drop(&mut self) {
        self.waiter.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn catch_up(&mut self) {
        let until = rings::now();
        let book = &mut self.book;
        self.rings.drain(until, |happening| book.hear(happening));
        self.book.turn_to(until, &mut proc::Proc);
    }
}

/// A book is right after every step: a panic elsewhere leaves it as it was.
fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<io::Error> for ConnectsError {
    fn from(error: io::Error) -> ConnectsError {
        match error.kind() {
            io::ErrorKind::PermissionDenied => ConnectsError::Denied(error),
            io::ErrorKind::NotFound => ConnectsError::Missing(error),
            _ if error.raw_os_error() == Some(libc::ENODEV) => ConnectsError::Missing(error),
            _ => ConnectsError::Failed(error),
        }
    }
}
