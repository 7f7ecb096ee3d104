//! What this kernel's sock_diag can do: each answer is yes, no, or cannot tell, found by trying.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::ControlFlow;

use crate::dump::{DumpRequest, DumpSummary, answer, dump};
use crate::error::{Errno, Error};
use crate::events::{DestroyEvents, EventGroups};
use crate::lookup::destroy;
use crate::record::{Cookie, Family, Protocol, SocketId};
use crate::request::{Extensions, Walk};
use crate::source::{Kernel, RecvBuffer, Source};
use crate::state::{SocketState, StateSet};

/// Whether the kernel can do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Support {
    /// It did it.
    Yes,
    /// It refused, and the answer means "never".
    No,
    /// The trial was inconclusive: what stood in the way.
    CannotTell(String),
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Support::Yes => f.write_str("yes"),
            Support::No => f.write_str("no"),
            Support::CannotTell(why) => write!(f, "cannot tell: {why}"),
        }
    }
}

/// A feature, how to try it, and since when Linux has it.
pub struct Feature {
    /// Short name, stable.
    pub name: &'static str,
    /// First Linux release with it.
    pub since: &'static str,
    probe: fn() -> Support,
}

impl Feature {
    /// Tries it, in the calling thread's network namespace. Cost: well under a millisecond each, except for a large
    /// bind hash. Side effect: `bound_inactive` binds one port on loopback for a moment.
    pub fn probe(&self) -> Support {
        (self.probe)()
    }
}

/// Every feature that this crate can make use of.
pub const FEATURES: &[Feature] = &[
    Feature { name: "tcp_diag", since: "2.6.14", probe: || dumps(Protocol::Tcp, Some(Family::Inet)) },
    Feature { name: "udp_diag", since: "3.3", probe: || dumps(Protocol::Udp, Some(Family::Inet)) },
    Feature { name: "udplite_diag", since: "3.3", probe: || dumps(Protocol::UdpLite, Some(Family::Inet)) },
    Feature { name: "mptcp_diag", since: "5.9", probe: || dumps(Protocol::Mptcp, Some(Family::Inet)) },
    Feature { name: "one_walk", since: "2.6.14", probe: || dumps(Protocol::Tcp, None) },
    Feature { name: "bound_inactive", since: "6.8", probe: bound_inactive },
    Feature { name: "destroy_events", since: "4.2", probe: destroy_events },
    Feature { name: "sock_destroy", since: "4.5", probe: sock_destroy },
];

fn verdict_of(error: Error) -> Support {
    match error.refusal() {
        Some(Errno(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL)) => Support::No,
        _ => Support::CannotTell(error.to_string()),
    }
}

/// A walk that asks for no state visits nothing and still tells whether the table can be walked.
fn dumps(protocol: Protocol, family: Option<Family>) -> Support {
    let walk =
        Walk { protocol, family, states: StateSet::EMPTY, extensions: Extensions::NONE, bytecode: None };
    let mut kernel = match Kernel::open() {
        Ok(kernel) => kernel,
        Err(error) => return Support::CannotTell(error.to_string()),
    };
    let mut buffer = RecvBuffer::new();
    let answer = kernel.send(&mut walk.encode()).and_then(|exchange| {
        answer(&mut kernel, "probing", exchange, &mut buffer, &mut DumpSummary::default(), |_, _| {
            ControlFlow::Continue(())
        })
    });
    match answer {
        Ok(()) => Support::Yes,
        Err(error) => verdict_of(error),
    }
}

/// A socket of ours that is bound and idle must show up.
fn bound_inactive() -> Support {
    let bound = match BoundSocket::new() {
        Ok(bound) => bound,
        Err(error) => return Support::CannotTell(format!("no socket to try it on: {error}")),
    };
    let mut seen = false;
    let request = DumpRequest::all(Protocol::Tcp)
        .family(Family::Inet)
        .states(StateSet::of(&[SocketState::BoundInactive]));
    let dumped = Kernel::open().and_then(|mut kernel| {
        dump(&mut kernel, &request, &mut RecvBuffer::new(), |diag| {
            seen |= diag.to_record().id.local_port == bound.port;
            ControlFlow::Continue(())
        })
    });
    match dumped {
        Ok(_) if seen => Support::Yes,
        Ok(_) => Support::No,
        Err(error) => Support::CannotTell(error.to_string()),
    }
}

/// A TCP socket that is bound and does nothing else.
struct BoundSocket {
    port: u16,
    _socket: std::os::fd::OwnedFd,
}

impl BoundSocket {
    fn new() -> std::io::Result<BoundSocket> {
        use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn};
        use std::os::fd::AsRawFd;
        let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        socket::bind(
            socket.as_raw_fd(),
            &SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)),
        )?;
        let address: SockaddrIn = socket::getsockname(socket.as_raw_fd())?;
        Ok(BoundSocket { port: address.port(), _socket: socket })
    }
}

fn destroy_events() -> Support {
    match DestroyEvents::open(EventGroups::ALL, 4096) {
        Ok(_) => Support::Yes,
        Err(Error::System { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => Support::No,
        Err(error) => Support::CannotTell(error.to_string()),
    }
}

/// Asking for the end of a socket that cannot exist (port 0) is refused with ENOENT where the kernel knows the request.
fn sock_destroy() -> Support {
    let nobody = SocketId {
        local_address: Ipv4Addr::UNSPECIFIED.into(),
        local_port: 0,
        remote_address: Ipv4Addr::UNSPECIFIED.into(),
        remote_port: 0,
        interface: None,
        cookie: Cookie(u64::MAX - 1),
    };
    let asked = Kernel::open()
        .and_then(|mut k| destroy(&mut k, Protocol::Tcp, Family::Inet, &nobody, &mut RecvBuffer::new()));
    match asked {
        Ok(_) => Support::Yes,
        Err(error) => verdict_of(error),
    }
}
