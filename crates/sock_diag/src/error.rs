//! What can go wrong between a request and its last answer, and whose word it is.

use std::fmt;
use std::io;

/// An error number as the kernel wrote it into a reply, always positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// The symbol where it is one that sock_diag is known to answer with.
    pub fn symbol(self) -> Option<&'static str> {
        Some(match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::EINTR => "EINTR",
            libc::EAGAIN => "EAGAIN",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EBUSY => "EBUSY",
            libc::EINVAL => "EINVAL",
            libc::ENOBUFS => "ENOBUFS",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            libc::EPROTONOSUPPORT => "EPROTONOSUPPORT",
            libc::EAFNOSUPPORT => "EAFNOSUPPORT",
            libc::ESTALE => "ESTALE",
            libc::EMFILE => "EMFILE",
            libc::ENFILE => "ENFILE",
            _ => return None,
        })
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.symbol() {
            Some(symbol) => f.write_str(symbol),
            None => write!(f, "error {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({})", self.0)
    }
}

/// Why an exchange with a [`Source`](crate::Source) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call of ours failed: no file descriptors left, no such namespace, no netlink in this sandbox.
    #[error("{operation}: {source}")]
    System {
        /// What was tried.
        operation: &'static str,
        /// What the system call answered.
        source: io::Error,
    },
    /// The kernel understood the request and refused it. `ENOENT`: the protocol's diag module is missing;
    /// `EPERM`: a privilege is; `EINVAL`: this kernel does not know what was asked.
    #[error("{operation}: the kernel answered {errno}{}", message.as_deref().map(|m| format!(" ({m})")).unwrap_or_default())]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// The kernel's answer, from NLMSG_ERROR or from inside NLMSG_DONE.
        errno: Errno,
        /// The kernel's own words (extended ack), where it gave any.
        message: Option<String>,
    },
    /// The kernel could not keep its answer in the socket's buffer (ENOBUFS or NLMSG_OVERRUN): records are lost.
    /// Repeat the dump.
    #[error("{operation}: the kernel overran the receive buffer; some records are lost")]
    Overrun {
        /// What was being read.
        operation: &'static str,
    },
    /// A datagram did not fit the buffer and was cut. Use a larger [`RecvBuffer`](crate::RecvBuffer).
    #[error("{operation}: a datagram of {length} bytes was cut to the buffer's {room}")]
    Truncated {
        /// What was being read.
        operation: &'static str,
        /// The datagram's true length.
        length: usize,
        /// The buffer's length.
        room: usize,
    },
    /// The bytes are not netlink messages. From the kernel this never happens; from a capture it means damage.
    #[error("{operation}: the answer is not well formed: {what}")]
    Malformed {
        /// What was being read.
        operation: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The stream of answers ended without NLMSG_DONE (a scripted or recorded source ran out).
    #[error("{operation}: the answers end before the last one")]
    Ended {
        /// What was being read.
        operation: &'static str,
    },
    /// The capture does not hold what is asked of it.
    #[error("the capture holds no {what}")]
    NotCaptured {
        /// What is missing.
        what: String,
    },
    /// A filter term cannot be answered from what this source has (for example `autobound` on a capture).
    #[error("{0}")]
    Unanswerable(#[from] crate::filter::Unanswerable),
}

impl Error {
    /// The kernel's refusal, if this is one.
    pub fn refusal(&self) -> Option<Errno> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
