//! Who made an outgoing connection: the kernel's word on each connect(), joined with sockets by both their ends.
//!
//! It knows connections that no look at processes could see, and what is left of them in TIME_WAIT. Without privilege it
//! knows nothing, and says so.

use std::net::SocketAddr;

use sock_diag::{Cookie, Protocol, SocketRecord};
use sockeye_trace::{Connects, ConnectsError, Heard};

/// So many newcomers wait at most: a first sweep meets all there are.
const MOST_PENDING: usize = 1 << 12;

/// Listens to the connects of one network namespace.
pub(crate) struct Makers {
    connects: Result<Connects, ConnectsError>,
    /// Inode of the namespace.
    netns: u64,
    /// Sockets that were met before the kernel's word of them was read.
    pending: Vec<Newcomer>,
}

/// A socket by its cookie, and its ends.
#[derive(Clone, Copy)]
pub(crate) struct Newcomer {
    pub(crate) cookie: Cookie,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Newcomer {
    /// None for what has no two ends.
    pub(crate) fn of(record: &SocketRecord) -> Option<Newcomer> {
        let id = &record.id;
        // A reset leaves no remote port, but its address.
        let is_connected = record.protocol == Protocol::Tcp && !id.remote_address.is_unspecified();
        is_connected.then(|| Newcomer {
            cookie: id.cookie,
            local: SocketAddr::new(id.local_address, id.local_port),
            remote: SocketAddr::new(id.remote_address, id.remote_port),
        })
    }
}

impl Makers {
    /// Begins to listen, if that is permitted.
    pub(crate) fn listen(netns: u64) -> Makers {
        Makers { connects: Connects::listen(), netns, pending: Vec::new() }
    }

    /// The process that made this connection, as far as it is known by now. It may have ended.
    pub(crate) fn of(&self, newcomer: &Newcomer) -> Option<u32> {
        self.connects.as_ref().ok()?.connector(self.netns, newcomer.local, newcomer.remote)
    }

    /// What the kernel has told of such a process.
    pub(crate) fn heard_of(&self, pid: u32) -> Option<Heard> {
        self.connects.as_ref().ok()?.heard_of(pid)
    }

    /// Is going to be asked for when we [catch up](Self::catch_up); whether it is time to, as many are.
    pub(crate) fn ask_again(&mut self, newcomer: Newcomer) -> bool {
        if self.connects.is_ok() {
            self.pending.push(newcomer);
        }
        self.pending.len() >= MOST_PENDING
    }

    /// Reads all that the kernel has told so far: of who was to be asked for again, the processes that made them.
    pub(crate) fn catch_up(&mut self) -> Vec<(Cookie, u32)> {
        let Ok(connects) = &self.connects else { return Vec::new() };
        connects.catch_up();
        // Whoever was met has connected by now: who is not known now never will be.
        let pending = std::mem::take(&mut self.pending);
        pending.iter().filter_map(|newcomer| Some((newcomer.cookie, self.of(newcomer)?))).collect()
    }

    /// A sweep and its events have been asked for: what was made before the sweep before it is forgotten.
    pub(crate) fn forget_old(&self) {
        if let Ok(connects) = &self.connects {
            connects.forget_old();
        }
    }

    /// Why it knows nothing.
    pub(crate) fn why_not(&self) -> Option<&ConnectsError> {
        self.connects.as_ref().err()
    }

    /// Connects that were not told.
    pub(crate) fn lost(&self) -> u64 {
        self.connects.as_ref().map_or(0, Connects::lost)
    }
}
