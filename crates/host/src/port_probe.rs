//! Asks the kernel which ports every connect() skips, by trying: the one thing about ports that no record tells.
//!
//! A port whose bind bucket has an explicit binder is skipped whatever the destination, so a destination on loopback
//! that nobody can listen on tells as well as any: no packet leaves the host, and no program sees it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket};

/// What became known of some ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ProbedPorts {
    /// connect() skips them for every destination.
    pub skipped: Vec<u16>,
    /// connect() takes them, for a destination that does not have them yet.
    pub shared: Vec<u16>,
    /// There was no time left to ask.
    pub unasked: usize,
}

/// Tries a connect() from each of these ports of the calling thread's network namespace, for as long as `limit`.
///
/// Ports that are reserved are skipped as well: the caller knows them. A try takes the port for some microseconds, and
/// moves Tcp ActiveOpens and AttemptFails. Privileges: none. Cost: about 15 µs a port.
///
/// # Errors
/// ENOPROTOOPT before Linux 6.3, which has no IP_LOCAL_PORT_RANGE; ENETUNREACH where loopback is down.
pub fn probe_ports(ports: impl IntoIterator<Item = u16>, limit: Duration) -> io::Result<ProbedPorts> {
    let started = Instant::now();
    let mut probed = ProbedPorts::default();
    for port in ports {
        if started.elapsed() > limit {
            probed.unasked += 1;
        } else if is_skipped(port)? {
            probed.skipped.push(port);
        } else {
            probed.shared.push(port);
        }
    }
    Ok(probed)
}

/// Whether connect() that may have this port alone finds none.
fn is_skipped(port: u16) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    // Whatever it becomes, it goes at once.
    setsockopt(&socket, Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
    limit_to(&socket, port)?;
    // Port 0 of the remote end: no listener can have it, and no connection of anybody else goes there.
    match connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, 0)) {
        Err(Errno::EADDRNOTAVAIL) => Ok(true),
        Ok(()) | Err(Errno::EINPROGRESS | Errno::ECONNREFUSED) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// `IP_LOCAL_PORT_RANGE`, include/uapi/linux/in.h: the highest port in the upper half, the lowest in the lower.
const IP_LOCAL_PORT_RANGE: libc::c_int = 51;

fn limit_to(socket: &OwnedFd, port: u16) -> io::Result<()> {
    let range = u32::from(port) << 16 | u32::from(port);
    // SAFETY: setsockopt reads the four bytes of `range`, which outlives the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            IP_LOCAL_PORT_RANGE,
            (&raw const range).cast(),
            size_of_val(&range) as libc::socklen_t,
        )
    };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
