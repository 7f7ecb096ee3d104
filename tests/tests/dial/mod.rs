//! TCP and UDP sockets whose port is chosen in every way there is: by connect(), by bind(), by number.
#![allow(dead_code, reason = "every test program takes the part it needs")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname, listen,
    setsockopt, socket, sockopt,
};
use sockeye_tests::wait_for;

pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// An address as it is written.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Who gives a client its port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PortBy {
    /// connect(): only the address is bound, with IP_BIND_ADDRESS_NO_PORT.
    Connect,
    /// bind() with port 0, before the destination is known.
    Bind,
    /// The program, which binds this port.
    Number(u16),
}

fn open(kind: SockType, address: IpAddr) -> OwnedFd {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None).unwrap()
}

fn storage(address: SocketAddr) -> SockaddrStorage {
    SockaddrStorage::from(address)
}

/// A socket bound to a port, doing nothing with it.
pub(crate) fn bound(address: IpAddr, port: u16) -> OwnedFd {
    let fd = open(SockType::Stream, address);
    bind(fd.as_raw_fd(), &storage(SocketAddr::new(address, port))).unwrap();
    fd
}

/// A listener whose queue takes whatever a test connects.
pub(crate) fn listener(address: IpAddr, port: u16) -> TcpListener {
    let fd = bound(address, port);
    listen(&fd, Backlog::new(4096).unwrap()).unwrap();
    TcpListener::from(fd)
}

/// The next connection of a listener of ours, which does not wait by itself.
pub(crate) fn accept(listener: &TcpListener) -> TcpStream {
    wait_for("a connection to accept", Duration::from_secs(20), || listener.accept().ok()).0
}

/// A connection from `source`, complete on return as loopback connections are.
///
/// # Errors
/// EADDRNOTAVAIL when connect() finds no port, EADDRINUSE when bind() does.
pub(crate) fn dial(source: IpAddr, to: SocketAddr, port: PortBy) -> Result<OwnedFd, Errno> {
    let fd = open(SockType::Stream, source);
    let number = match port {
        PortBy::Connect => {
            setsockopt(&fd, sockopt::IpBindAddressNoPort, &true)?;
            0
        }
        PortBy::Bind => 0,
        PortBy::Number(number) => number,
    };
    bind(fd.as_raw_fd(), &storage(SocketAddr::new(source, number)))?;
    match connect(fd.as_raw_fd(), &storage(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

/// How a client comes by its port, in every way there is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    /// Bound; None: nothing is bound at all, as most programs do.
    pub(crate) source: Option<IpAddr>,
    /// Bound before connecting; 0: whichever is free.
    pub(crate) port: u16,
    /// IP_BIND_ADDRESS_NO_PORT: bind() with port 0 leaves the choice to connect().
    pub(crate) no_port: bool,
    /// SO_REUSEADDR.
    pub(crate) reuse: bool,
    /// IP_LOCAL_PORT_RANGE.
    pub(crate) port_range: Option<(u16, u16)>,
}

impl Client {
    /// connect() chooses port and address.
    pub(crate) fn unbound() -> Client {
        Client { source: None, port: 0, no_port: false, reuse: false, port_range: None }
    }

    /// connect() chooses the port.
    pub(crate) fn connecting(source: IpAddr) -> Client {
        Client { no_port: true, ..Client::binding(source) }
    }

    /// bind() chooses the port.
    pub(crate) fn binding(source: IpAddr) -> Client {
        Client { source: Some(source), ..Client::unbound() }
    }

    /// # Errors
    /// EADDRNOTAVAIL when connect() finds no port, EADDRINUSE when bind() does.
    pub(crate) fn dial(self, to: SocketAddr) -> Result<OwnedFd, Errno> {
        const IP_LOCAL_PORT_RANGE: libc::c_int = 51;
        let fd = open(SockType::Stream, to.ip());
        setsockopt(&fd, sockopt::ReuseAddr, &self.reuse)?;
        setsockopt(&fd, sockopt::IpBindAddressNoPort, &self.no_port)?;
        if let Some((first, last)) = self.port_range {
            let range = u32::from(last) << 16 | u32::from(first);
            // SAFETY: setsockopt reads the four bytes of `range`, which outlives the call.
            let status = unsafe {
                libc::setsockopt(
                    fd.as_raw_fd(),
                    libc::IPPROTO_IP,
                    IP_LOCAL_PORT_RANGE,
                    (&raw const range).cast(),
                    size_of_val(&range) as libc::socklen_t,
                )
            };
            Errno::result(status)?;
        }
        if let Some(source) = self.source {
            bind(fd.as_raw_fd(), &storage(SocketAddr::new(source, self.port)))?;
        }
        match connect(fd.as_raw_fd(), &storage(to)) {
            Ok(()) | Err(Errno::EINPROGRESS) => Ok(fd),
            Err(errno) => Err(errno),
        }
    }
}

/// A socket that is bound to this port, or to whichever bind() finds for 0.
///
/// # Errors
/// EADDRINUSE when there is none.
pub(crate) fn try_bind(address: IpAddr, port: u16) -> Result<OwnedFd, Errno> {
    let fd = open(SockType::Stream, address);
    bind(fd.as_raw_fd(), &storage(SocketAddr::new(address, port))).map(|()| fd)
}

/// A UDP socket connected to `to`, its port chosen on the way.
///
/// # Errors
/// EAGAIN when there is no port.
pub(crate) fn dial_udp(to: SocketAddr) -> Result<OwnedFd, Errno> {
    let fd = open(SockType::Datagram, to.ip());
    connect(fd.as_raw_fd(), &storage(to)).map(|()| fd)
}

/// The local port.
pub(crate) fn port_of(fd: &OwnedFd) -> u16 {
    let address: SockaddrStorage = getsockname(fd.as_raw_fd()).unwrap();
    match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
        (Some(v4), _) => v4.port(),
        (_, Some(v6)) => v6.port(),
        _ => panic!("no IP address: {address:?}"),
    }
}

/// A UDP socket that is bound to this port, or to whichever bind() finds for 0.
///
/// # Errors
/// EADDRINUSE when there is none.
pub(crate) fn try_bind_udp(address: IpAddr, port: u16) -> Result<OwnedFd, Errno> {
    let fd = open(SockType::Datagram, address);
    bind(fd.as_raw_fd(), &storage(SocketAddr::new(address, port))).map(|()| fd)
}

/// How many connect() from `source` to `to` succeed until there is no port left; they stay open.
pub(crate) fn dial_until_refused(source: IpAddr, to: SocketAddr) -> Vec<OwnedFd> {
    let mut open = Vec::new();
    loop {
        match dial(source, to, PortBy::Connect) {
            Ok(fd) => open.push(fd),
            Err(Errno::EADDRNOTAVAIL) => return open,
            Err(errno) => panic!("{source} to {to}: {errno}"),
        }
    }
}
