//! Where answers come from: the live kernel, a capture, or a script. And the buffer they are read into.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_SOCK_DIAG};
use zerocopy::IntoBytes;

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::request::stamp;

/// Whose answers to expect: every message of an answer carries both numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exchange {
    /// `nlmsg_seq` of the request.
    pub sequence: u32,
    /// Port id of the asking socket.
    pub port_id: u32,
}

/// Something that answers requests in datagrams.
pub trait Source {
    /// Sends one request, whose sequence and port id the source fills in.
    ///
    /// # Errors
    /// [`Error::System`] when it cannot be sent; [`Error::NotCaptured`] when a recording does not hold the answer.
    fn send(&mut self, request: &mut [u8]) -> Result<Exchange>;

    /// Receives the next datagram and returns its true length, greater than the buffer's when it was cut.
    ///
    /// # Errors
    /// [`Error::Overrun`] when the kernel lost answers, [`Error::Ended`] when a recording has no more.
    fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize>;

    /// Whether a filter program sent along is run by the source. If not, the dump filters in user space.
    fn runs_filters(&self) -> bool;

    /// After an answer has ended: a further recorded answer to the same request, if there is one.
    ///
    /// # Errors
    /// [`Error::System`] when there is one and it cannot be read.
    fn next_answer(&mut self) -> Result<Option<Exchange>> {
        Ok(None)
    }
}

/// The reused buffer: 32 KiB, the most the kernel puts into one datagram of a dump, aligned to 8 bytes.
pub struct RecvBuffer {
    words: Box<[u64]>,
}

impl RecvBuffer {
    /// The largest datagram a dump is answered with (`netlink_dump`, 32 KiB less overhead).
    pub const DEFAULT_LENGTH: usize = 32 * 1024;

    /// A buffer of [`DEFAULT_LENGTH`](Self::DEFAULT_LENGTH).
    pub fn new() -> RecvBuffer {
        RecvBuffer::with_length(RecvBuffer::DEFAULT_LENGTH)
    }

    /// A buffer of at least `length` bytes.
    pub fn with_length(length: usize) -> RecvBuffer {
        RecvBuffer { words: vec![0; length.div_ceil(8)].into_boxed_slice() }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.words.as_bytes()
    }

    /// Its bytes, to be filled.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.words.as_mut_bytes()
    }
}

impl Default for RecvBuffer {
    fn default() -> Self {
        RecvBuffer::new()
    }
}

/// The live kernel: one NETLINK_SOCK_DIAG socket, bound to the network namespace it was opened in.
///
/// Owns its descriptor alone: netlink-sys' `Socket` may be cloned and then closes it twice, this type may not.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
    port_id: u32,
    sequence: u32,
}

impl Kernel {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`Error::System`]: no descriptors left, or a sandbox forbids netlink. Privileges: none.
    pub fn open() -> Result<Kernel> {
        let failed = |source| Error::System { operation: "opening a sock_diag socket", source };
        let mut socket = Socket::new(NETLINK_SOCK_DIAG).map_err(failed)?;
        let address = socket.bind_auto().map_err(failed)?;
        // The kernel's own words for a refusal; kernels before 4.12 have none to give.
        let _ = socket.set_ext_ack(true);
        Ok(Kernel { socket, port_id: address.port_number(), sequence: 0 })
    }

    /// Opens a socket in `namespace`; the calling thread does not move.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Error::System`] when the namespace may not be entered (CAP_SYS_ADMIN).
    pub fn open_in(namespace: &Namespace) -> Result<Kernel> {
        namespace.run(Kernel::open)?
    }

    /// The namespace's cookie (`SO_NETNS_COOKIE`): unlike the inode of its file it is never reused.
    /// None before Linux 5.14.
    pub fn namespace_cookie(&self) -> Option<u64> {
        let mut cookie: u64 = 0;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: getsockopt writes at most `length` bytes into `cookie`, which outlives the call.
        let status = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &mut length,
            )
        };
        (status == 0).then_some(cookie)
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(crate) fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// One datagram from the kernel into `buffer`; datagrams of other senders are passed over.
pub(crate) fn receive_from_kernel(
    socket: &Socket,
    buffer: &mut RecvBuffer,
    flags: libc::c_int,
) -> io::Result<usize> {
    loop {
        match socket.recv_from(&mut buffer.bytes_mut(), libc::MSG_TRUNC | flags) {
            Ok((length, sender)) if sender.port_number() == 0 => return Ok(length),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Source for Kernel {
    fn send(&mut self, request: &mut [u8]) -> Result<Exchange> {
        self.sequence = self.sequence.wrapping_add(1);
        stamp(request, self.sequence, self.port_id);
        loop {
            match self.socket.send_to(request, &SocketAddr::new(0, 0), 0) {
                Ok(_) => return Ok(Exchange { sequence: self.sequence, port_id: self.port_id }),
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::System { operation: "sending a sock_diag request", source });
                }
            }
        }
    }

    fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize> {
        let operation = "reading sock_diag answers";
        receive_from_kernel(&self.socket, buffer, 0).map_err(|source| match source.raw_os_error() {
            Some(libc::ENOBUFS) => Error::Overrun { operation },
            _ => Error::System { operation, source },
        })
    }

    fn runs_filters(&self) -> bool {
        true
    }
}
