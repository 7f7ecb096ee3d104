//! What a Linux host tells outside `sock_diag`, as plain values: port sysctls, protocol counters, capabilities, names.
//!
//! Leaves to others: sockets (`sock_diag`) and what any of these numbers means for ports (`sockeye_core`).
//!
//! **Which network namespace?** Always the one the *calling thread* is in. Sysctls follow the thread that opens
//! the file; counters are read through `/proc/thread-self`, because `/proc/net` is `/proc/self/net` and shows
//! the namespace of the process's first thread. To read another namespace, call these functions on a thread
//! that has entered it.
//!
//! Nothing here fails as a whole. What cannot be read is `None`, and an [`Error`] beside it says why, so that a
//! container with a masked `/proc/sys` still gets everything else.
mod capabilities;
mod cgroups;
mod counters;
mod error;
mod files;
mod identity;
mod interfaces;
mod isolation;
mod namespaces;
mod own_cgroup;
pub mod owners;
mod port_probe;
mod run_delay;
mod services;
mod settings;

pub use capabilities::{Capabilities, Capability};
pub use cgroups::Cgroups;
pub use counters::Counters;
pub use error::{Error, Result};
pub use identity::Identity;
pub use interfaces::{Interfaces, interface_index};
pub use isolation::{IsolationError, isolate};
pub use namespaces::{FoundNamespace, NamespaceName, Namespaces, Processes};
pub use own_cgroup::OwnCgroup;
pub use port_probe::{ProbedPorts, probe_ports};
pub use run_delay::RunDelay;
pub use services::Services;
pub use settings::{EstablishedHash, Settings, parse_port_list, parse_port_range};

/// All that one look at the calling thread's network namespace needs besides its sockets.
///
/// Consistency: none across its parts; each file is read at its own instant. Cost: about 20 small files of
/// procfs, well under a millisecond.
#[derive(Debug)]
pub struct Host {
    /// Kernel, host name and namespace.
    pub identity: Identity,
    /// The port and TCP sysctls.
    pub settings: Settings,
    /// The protocol counters.
    pub counters: Counters,
    /// What the calling thread may do. None when `/proc` does not say.
    pub capabilities: Option<Capabilities>,
    /// Why something above is None although this kernel should have told it. Worth a warning each.
    pub unread: Vec<Error>,
}

impl Host {
    /// Reads everything, from inside the calling thread's network namespace. Needs no privilege.
    pub fn read() -> Host {
        let mut unread = Vec::new();
        let settings = Settings::read(&mut unread);
        let counters = Counters::read(&mut unread);
        let capabilities = Capabilities::read().map_err(|error| unread.push(error)).ok();
        Host { identity: Identity::read(), settings, counters, capabilities, unread }
    }
}
