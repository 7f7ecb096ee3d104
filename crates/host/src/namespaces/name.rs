//! What a network namespace is called. Names come from users and programs: a terminal must not see them as they are.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// What people call a namespace: in each case but the last, what `-N` takes (of a process, its id).
///
/// **Untrusted text.** It may hold control characters and what is no UTF-8; `Display` replaces only the latter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum NamespaceName {
    /// As `ip netns` has it: a file in `/run/netns`.
    Named(OsString),
    /// Where it is mounted.
    Mounted(PathBuf),
    /// By the process with the lowest id in it.
    Process {
        /// Its id.
        pid: u32,
        /// What it calls itself (`/proc/PID/comm`), up to 15 bytes of any kind; empty when it was gone too soon.
        comm: OsString,
    },
    /// There was nobody to name it after.
    Nameless,
}

impl NamespaceName {
    pub(super) fn of_process(proc: &Path, pid: u32) -> NamespaceName {
        use std::os::unix::ffi::OsStringExt;

        let mut comm = std::fs::read(proc.join(format!("{pid}/comm"))).unwrap_or_default();
        if comm.last() == Some(&b'\n') {
            comm.pop();
        }
        NamespaceName::Process { pid, comm: OsString::from_vec(comm) }
    }

    /// The name in `/run/netns`, if that is what it has.
    pub fn named(&self) -> Option<String> {
        match self {
            NamespaceName::Named(name) => Some(name.to_string_lossy().into_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for NamespaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamespaceName::Named(name) => f.pad(&name.to_string_lossy()),
            NamespaceName::Mounted(path) => f.pad(&path.to_string_lossy()),
            NamespaceName::Process { pid, comm } => match comm.to_string_lossy() {
                comm if comm.is_empty() => f.pad(&format!("pid {pid}")),
                comm => f.pad(&format!("pid {pid} {comm}")),
            },
            NamespaceName::Nameless => f.pad("?"),
        }
    }
}
