//! A network namespace of this process's own: loopback is up, and nothing else is in it.
//!
//! Leaves to others: what runs in it and what its sockets tell.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// What connections depend on and a new namespace does not inherit; carried over where this host tells it.
const CARRIED_OVER: [&str; 6] = [
    "ip_local_port_range",
    "ip_local_reserved_ports",
    "ip_unprivileged_port_start",
    "tcp_fin_timeout",
    "tcp_max_tw_buckets",
    "tcp_tw_reuse",
];

/// Why there is no namespace of our own.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The kernel, or what confines this process, forbids new namespaces.
    #[error(
        "no network namespace of its own is to be had (unshare: {0}): root may make one, and others where user \
         namespaces are allowed (sysctl user.max_user_namespaces and kernel.unprivileged_userns_clone or \
         kernel.apparmor_restrict_unprivileged_userns)"
    )]
    Refused(io::Error),
    /// The namespace is there, and could not be set up.
    #[error("cannot set up a network namespace: {step}: {source}")]
    SetUp {
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Moves this process into a new network namespace, with loopback up and with the port settings of the one it was in.
///
/// Root keeps its privilege. Anyone else gets a user namespace around it, in which user and group are who they were, so
/// that files stay theirs; this process then has every capability over that namespace, and programs it executes have none.
/// To be called while the process has one thread. Cost: some milliseconds.
///
/// # Errors
/// Where namespaces are not allowed, and what setting one up answers; the process may then be half way and had better end.
pub fn isolate() -> Result<(), IsolationError> {
    let (user, group) = (geteuid(), getegid());
    let settings = CARRIED_OVER.map(|name| fs::read(path(name)).ok());
    if unshare(CloneFlags::CLONE_NEWNET).is_err() {
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
            .map_err(|errno| IsolationError::Refused(errno.into()))?;
        // Without privilege gid_map is writable only after setgroups is denied.
        for (file, text) in [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/gid_map", format!("{group} {group} 1")),
            ("/proc/self/uid_map", format!("{user} {user} 1")),
        ] {
            fs::write(file, text).map_err(|source| IsolationError::SetUp { step: file, source })?;
        }
    }
    for (name, value) in CARRIED_OVER.iter().zip(settings) {
        // What this kernel does not let a namespace have, or a user namespace write, stays as new namespaces have it.
        let _ = value.map(|value| fs::write(path(name), value));
    }
    bring_loopback_up().map_err(|source| IsolationError::SetUp { step: "bringing lo up", source })
}

fn path(setting: &str) -> String {
    format!("/proc/sys/net/ipv4/{setting}")
}

fn bring_loopback_up() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: an ifreq is plain data; zero is a valid value of it.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the descriptor is open, and the request is an ifreq as SIOCSIFFLAGS reads it, which lives through the call.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
