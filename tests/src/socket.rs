//! Socket calls that std does not have: every option and state the zoo needs, over plain descriptors.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{SockaddrLike, SockaddrStorage, getpeername, getsockname};
use sock_diag::{Cookie, Family, Protocol, SocketState};

/// Opens a socket.
pub(crate) fn open(protocol: Protocol, family: Family) -> io::Result<OwnedFd> {
    let kind = if protocol.is_datagram() { libc::SOCK_DGRAM } else { libc::SOCK_STREAM };
    // SAFETY: socket takes integers; the descriptor is new and becomes owned once.
    unsafe {
        let raw = libc::socket(
            family.raw().into(),
            kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            protocol.raw().into(),
        );
        if raw < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(raw)) }
    }
}

/// The family of the sockets that speak from `address`.
pub(crate) fn family_of(address: IpAddr) -> Family {
    if address.is_ipv4() { Family::Inet } else { Family::Inet6 }
}

/// bind().
pub(crate) fn bind(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    let bound = nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address));
    bound.map_err(|errno| named("bind()", errno.into()))
}

/// connect() without waiting: a handshake in progress is success.
pub(crate) fn connect(socket: &OwnedFd, address: SocketAddr) -> io::Result<()> {
    match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(nix::errno::Errno::EINPROGRESS) => Ok(()),
        Err(errno) => Err(named("connect()", errno.into())),
    }
}

/// listen().
pub(crate) fn listen(socket: &OwnedFd, backlog: i32) -> io::Result<()> {
    // SAFETY: listen takes integers.
    check("listen()", unsafe { libc::listen(socket.as_raw_fd(), backlog) })
}

/// accept() without waiting; None when nobody is there yet.
pub(crate) fn accept(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: accept4 may be told to store no address; the descriptor is new and becomes owned once.
    unsafe {
        match libc::accept4(socket.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), flags) {
            -1 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                error => Err(error),
            },
            raw => Ok(Some(OwnedFd::from_raw_fd(raw))),
        }
    }
}

/// shutdown(SHUT_WR).
pub(crate) fn shutdown_send(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: shutdown takes integers.
    check("shutdown()", unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) })
}

/// Sends `bytes` in one call.
pub(crate) fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: send reads `bytes` only.
    let sent =
        unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if sent == bytes.len() as isize { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option that is an int.
pub(crate) fn set(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_value(socket, level, name, &value)
}

/// Makes the socket deaf: it drops every segment that comes, while it still sends.
///
/// Some kernels (6.18 here) ask for CAP_NET_ADMIN over the namespace.
pub(crate) fn deafen(socket: &OwnedFd) -> io::Result<()> {
    // One instruction: accept 0 bytes of the packet.
    let mut reject = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &mut reject };
    set_value(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
        .map_err(|error| named("SO_ATTACH_FILTER", error))
}

fn set_value<T>(socket: &OwnedFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which are there.
    check("setsockopt()", unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, name, std::ptr::from_ref(value).cast(), length)
    })
}

/// Reads an option that is plain data; what the kernel leaves out stays as `value` had it.
fn option<T: Copy>(socket: &OwnedFd, level: i32, name: i32, mut value: T) -> io::Result<T> {
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes into `value`; callers ask for integers and byte arrays.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, std::ptr::from_mut(&mut value).cast(), &mut length)
    };
    check("getsockopt()", result)?;
    Ok(value)
}

/// The state as TCP_INFO tells it (its first byte).
pub(crate) fn tcp_state(socket: &OwnedFd) -> io::Result<SocketState> {
    Ok(SocketState::from_raw(option(socket, libc::IPPROTO_TCP, libc::TCP_INFO, [0_u8; 8])?[0]))
}

/// SO_COOKIE.
pub(crate) fn cookie(socket: &OwnedFd) -> io::Result<Cookie> {
    Ok(Cookie(option(socket, libc::SOL_SOCKET, libc::SO_COOKIE, 0_u64)?))
}

/// SO_MARK.
pub(crate) fn mark(socket: &OwnedFd) -> io::Result<u32> {
    option(socket, libc::SOL_SOCKET, libc::SO_MARK, 0_u32)
}

/// The interface the socket is bound to.
pub(crate) fn interface(socket: &OwnedFd) -> io::Result<Option<NonZeroU32>> {
    Ok(NonZeroU32::new(option(socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, 0_u32)?))
}

/// IP_BIND_ADDRESS_NO_PORT.
pub(crate) fn bind_address_no_port(socket: &OwnedFd) -> io::Result<bool> {
    Ok(option(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 0_i32)? != 0)
}

/// getsockname().
pub(crate) fn local(socket: &OwnedFd) -> io::Result<SocketAddr> {
    ip_address(&getsockname::<SockaddrStorage>(socket.as_raw_fd())?)
}

/// getpeername(); the unspecified address and port 0 when there is no peer.
pub(crate) fn remote(socket: &OwnedFd) -> io::Result<SocketAddr> {
    match getpeername::<SockaddrStorage>(socket.as_raw_fd()) {
        Ok(address) => ip_address(&address),
        Err(nix::errno::Errno::ENOTCONN) => Ok(match local(socket)? {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        }),
        Err(errno) => Err(errno.into()),
    }
}

/// Inode of the descriptor's file in sockfs.
pub(crate) fn inode(socket: &OwnedFd) -> io::Result<Option<NonZeroU32>> {
    Ok(NonZeroU32::new(inode_of(socket.as_raw_fd())? as u32))
}

fn inode_of(descriptor: RawFd) -> io::Result<u64> {
    // SAFETY: fstat fills the struct given, which is plain data.
    unsafe {
        let mut about: libc::stat64 = std::mem::zeroed();
        check("fstat()", libc::fstat64(descriptor, &mut about))?;
        Ok(about.st_ino)
    }
}

fn ip_address(address: &SockaddrStorage) -> io::Result<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Ok(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    if let Some(v6) = address.as_sockaddr_in6() {
        return Ok(SocketAddr::new(v6.ip().into(), v6.port()));
    }
    Err(io::Error::other(format!("address family {:?} instead of an IP one", address.family())))
}

fn check(call: &str, result: i32) -> io::Result<()> {
    if result < 0 { Err(named(call, io::Error::last_os_error())) } else { Ok(()) }
}

/// The error, with what failed in front of it.
pub(crate) fn named(what: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// SO_LINGER that makes close() reset the connection: no FIN, no TIME_WAIT.
pub(crate) const LINGER_RESET: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

/// Makes close() reset the connection; sockets accepted from a listener inherit it.
pub(crate) fn set_linger_reset(socket: &OwnedFd) -> io::Result<()> {
    set_value(socket, libc::SOL_SOCKET, libc::SO_LINGER, &LINGER_RESET)
}

/// O_NONBLOCK.
pub(crate) fn set_nonblocking(socket: &OwnedFd, nonblocking: bool) -> io::Result<()> {
    let value = i32::from(nonblocking);
    // SAFETY: FIONBIO reads one int.
    check("ioctl(FIONBIO)", unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIONBIO, &raw const value) })
}
