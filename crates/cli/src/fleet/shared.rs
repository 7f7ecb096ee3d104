//! Whose the sockets of all namespaces are: found once for all, as processes are the host's and have sockets in any of them.

use std::sync::{Arc, Mutex, MutexGuard};

use sock_diag::SocketRecord;
use sockeye_core::Monitor;

use crate::whose::{Facet, Whose};

/// So many sockets are met at a time: whoever reads another namespace meanwhile does not wait for each.
const BATCH: usize = 64;

/// The owners of all namespaces' sockets, for whoever reads one of these.
#[derive(Clone)]
pub(crate) struct SharedWhose {
    whose: Arc<Mutex<Whose>>,
}

impl SharedWhose {
    /// Nobody is known yet. Who connects is not heard: each namespace would have to be listened to.
    pub(crate) fn new(facet: Facet) -> SharedWhose {
        SharedWhose { whose: Arc::new(Mutex::new(Whose::new(facet, true))) }
    }

    /// For one who asks or tells, and no one else meanwhile.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Whose> {
        self.whose.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Sockets that began to be followed and have not been told yet.
pub(crate) struct Arrivals {
    shared: SharedWhose,
    met: Vec<SocketRecord>,
}

impl Arrivals {
    pub(crate) fn new(shared: SharedWhose) -> Arrivals {
        Arrivals { shared, met: Vec::new() }
    }

    /// A socket that this monitor begins to follow.
    pub(crate) fn meet(&mut self, monitor: &mut Monitor, record: &SocketRecord) {
        self.met.push(*record);
        if self.met.len() >= BATCH {
            self.tell(monitor);
        }
    }

    /// Those of the last sweep are all met.
    pub(crate) fn end(&mut self, monitor: &mut Monitor) {
        self.tell(monitor);
        // There are a thousand of us, and most rest.
        self.met = Vec::new();
    }

    fn tell(&mut self, monitor: &mut Monitor) {
        if !self.met.is_empty() {
            let mut whose = self.shared.lock();
            self.met.drain(..).for_each(|record| whose.meet(monitor, &record));
        }
    }

    /// What has ended belongs to nobody any more.
    pub(crate) fn forget_closed(&self, monitor: &mut Monitor) {
        let closed = monitor.take_closed();
        if !closed.is_empty() {
            self.shared.lock().gone(closed.iter().map(|closed| closed.cookie));
        }
    }

    /// Nothing of this monitor's is followed any more.
    pub(crate) fn forget_all(&self, monitor: &Monitor) {
        self.shared.lock().gone(monitor.live_cookies());
    }
}
