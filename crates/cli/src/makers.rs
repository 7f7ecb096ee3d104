//! Who made an outgoing connection: the kernel's word on each connect(), joined with sockets by both their ends.
//!
//! It knows connections that no look at processes could see, and what is left of them in TIME_WAIT. Without privilege it
//! knows nothing, and says so.

use std::net::SocketAddr;

use sock_diag::{Cookie, Protocol, SocketRecord};
use sockeye_trace::{Begun, Connects, Heard, Maker};

/// So many newcomers wait at most: a first sweep meets all there are.
const MOST_PENDING: usize = 1 << 12;

/// Listens to the connects of one network namespace.
pub(crate) struct Makers {
    /// Or why it knows nothing.
    connects: Result<Connects, String>,
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
    /// Begins to listen, if that is permitted, and to who closes as well, if asked to; None is a namespace that is not known.
    pub(crate) fn listen(netns: Option<u64>, closes_too: bool) -> Makers {
        let connects = match netns {
            Some(_) if closes_too => Connects::listen_to_closes().map_err(|error| error.to_string()),
            Some(_) => Connects::listen().map_err(|error| error.to_string()),
            None => Err("/proc does not say which network namespace this is".to_owned()),
        };
        Makers { connects, netns: netns.unwrap_or(0), pending: Vec::new() }
    }

    /// The process that made this connection, as far as it is known by now. It may have ended.
    pub(crate) fn of(&self, newcomer: &Newcomer) -> Option<Maker> {
        self.connects.as_ref().ok()?.connector(self.netns, newcomer.local, newcomer.remote)
    }

    /// Whether a connection was closed by its process's end, not by the process; None where nobody heard.
    pub(crate) fn closed_at_exit(&self, local: SocketAddr, remote: SocketAddr) -> Option<bool> {
        self.connects.as_ref().ok()?.closed_at_exit(self.netns, local, remote)
    }

    /// Connects that began here, by cgroup; None where nobody counts.
    pub(crate) fn begun(&self) -> Option<Vec<Begun>> {
        self.connects.as_ref().ok()?.begun_in(self.netns)
    }

    /// What the kernel has told of such a process.
    pub(crate) fn heard_of(&self, maker: Maker) -> Option<Heard> {
        self.connects.as_ref().ok()?.heard_of(maker)
    }

    /// Is going to be asked for when we [catch up](Self::catch_up); whether it is time to, as many are.
    pub(crate) fn ask_again(&mut self, newcomer: Newcomer) -> bool {
        if self.connects.is_ok() {
            self.pending.push(newcomer);
        }
        self.pending.len() >= MOST_PENDING
    }

    /// Reads all that the kernel has told so far: of who was to be asked for again, the processes that made them.
    pub(crate) fn catch_up(&mut self) -> Vec<(Cookie, Maker)> {
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
    pub(crate) fn why_not(&self) -> Option<&str> {
        self.connects.as_ref().err().map(String::as_str)
    }

    /// Connects that were not told.
    pub(crate) fn lost(&self) -> u64 {
        self.connects.as_ref().map_or(0, Connects::lost)
    }
}
