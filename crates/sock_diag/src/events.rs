//! Destroy events: the kernel's word that a socket is gone, with its last `tcp_info`, as it happens.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

use crate::error::{Error, Result};
use crate::namespace::Namespace;
use crate::record::Protocol;
use crate::request::SOCK_DIAG_BY_FAMILY;
use crate::source::{Kernel, RecvBuffer, receive_from_kernel};
use crate::wire::{DiagMsg, NlMsgs};

/// Which sockets' ends to hear of: groups SKNLGRP_INET_TCP_DESTROY to SKNLGRP_INET6_UDP_DESTROY. Since: Linux 4.2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventGroups {
    groups: &'static [u32],
}

impl EventGroups {
    /// TCP of both families.
    pub const TCP: EventGroups = EventGroups { groups: &[1, 3] };
    /// UDP of both families.
    pub const UDP: EventGroups = EventGroups { groups: &[2, 4] };
    /// Both.
    pub const ALL: EventGroups = EventGroups { groups: &[1, 2, 3, 4] };
}

/// What a read brought.
#[derive(Clone, Copy)]
pub enum Event<'b> {
    /// A socket is gone. Its state says 7, its inode 0. After a reset address and port may be 0: join by cookie.
    /// TIME_WAIT may still hold the port.
    Destroyed(DiagMsg<'b>),
    /// The buffer was full and the kernel dropped events: this many, or None where it does not count them (before
    /// Linux 4.12). Reading goes on; a dump tells what is still there.
    Lost(Option<u32>),
}

/// A subscription to destroy events of one network namespace.
///
/// Privileges: none to listen. With CAP_NET_ADMIN the receive buffer may exceed `net.core.rmem_max`.
#[derive(Debug)]
pub struct DestroyEvents {
    kernel: Kernel,
    drops_seen: u32,
}

/// Most datagrams taken in one [`DestroyEvents::read`], so that a storm cannot keep the caller from its other work.
const BATCH: usize = 4096;

/// `SK_MEMINFO_DROPS` in the array that SO_MEMINFO fills.
const SK_MEMINFO_DROPS: usize = 8;

impl DestroyEvents {
    /// Subscribes in the calling thread's namespace, with a receive buffer of `buffer_bytes` or what is allowed:
    /// see [`receive_buffer_bytes`](Self::receive_buffer_bytes). An event takes about 1,280 bytes of it.
    ///
    /// # Errors
    /// [`Error::System`], EINVAL where the kernel has no such group.
    pub fn open(groups: EventGroups, buffer_bytes: usize) -> Result<DestroyEvents> {
        DestroyEvents::subscribe(Kernel::open()?, groups, buffer_bytes)
    }

    /// Subscribes in `namespace`; the calling thread does not move.
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the namespace may not be entered.
    pub fn open_in(namespace: &Namespace, groups: EventGroups, buffer_bytes: usize) -> Result<DestroyEvents> {
        DestroyEvents::subscribe(Kernel::open_in(namespace)?, groups, buffer_bytes)
    }

    fn subscribe(mut kernel: Kernel, groups: EventGroups, buffer_bytes: usize) -> Result<DestroyEvents> {
        // Forced first: it is not bounded by rmem_max. The kernel doubles what it is given, and so reports.
        let half = buffer_bytes.div_ceil(2).min(i32::MAX as usize / 2);
        if setsockopt(&kernel, sockopt::RcvBufForce, &half).is_err() {
            let _ = setsockopt(&kernel, sockopt::RcvBuf, &half);
        }
        for group in groups.groups {
            kernel
                .socket_mut()
                .add_membership(*group)
                .map_err(|source| Error::System { operation: "subscribing to destroy events", source })?;
        }
        Ok(DestroyEvents { kernel, drops_seen: 0 })
    }

    /// Size of the receive buffer the kernel granted, bytes.
    pub fn receive_buffer_bytes(&self) -> usize {
        nix::sys::socket::getsockopt(&self.kernel, sockopt::RcvBuf).unwrap_or(0)
    }

    /// Events the kernel dropped since the subscription, all told; None where it does not count them.
    pub fn dropped(&self) -> Option<u32> {
        let mut memory = [0u32; 16];
        let mut length = size_of_val(&memory) as libc::socklen_t;
        // SAFETY: getsockopt writes at most `length` bytes into `memory`, which outlives the call.
        let status = unsafe {
            libc::getsockopt(
                self.kernel.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                memory.as_mut_ptr().cast(),
                &mut length,
            )
        };
        (status == 0 && length as usize > SK_MEMINFO_DROPS * 4).then_some(memory[SK_MEMINFO_DROPS])
    }

    /// Waits up to `timeout` (None: for ever) for something to read, then hands on what is there, up to a few thousand
    /// events, and returns how many. 0 after a timeout or a signal. `each` is called with [`Event::Lost`] as soon as a loss is known.
    ///
    /// # Errors
    /// [`Error::System`]. A full buffer is no error.
    pub fn read(
        &mut self,
        timeout: Option<Duration>,
        buffer: &mut RecvBuffer,
        mut each: impl FnMut(Event<'_>),
    ) -> Result<usize> {
        let operation = "reading destroy events";
        let mut events = 0;
        if !self.wait(timeout)? {
            self.tell_counted_loss(&mut each);
            return Ok(0);
        }
        for _ in 0..BATCH {
            let length = match receive_from_kernel(self.kernel.socket(), buffer, libc::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => break,
                    Some(libc::ENOBUFS) => {
                        self.tell_loss(&mut each);
                        continue;
                    }
                    _ => return Err(Error::System { operation, source: error }),
                },
            };
            let room = buffer.bytes().len();
            if length > room {
                return Err(Error::Truncated { operation, length, room });
            }
            for message in NlMsgs::new(&buffer.bytes()[..length]) {
                let message = message.map_err(|what| Error::Malformed { operation, what })?;
                if message.kind == SOCK_DIAG_BY_FAMILY
                    && let Some(diag) = DiagMsg::parse(message.payload, Protocol::Tcp)
                {
                    events += 1;
                    each(Event::Destroyed(diag));
                }
            }
        }
        self.tell_counted_loss(&mut each);
        Ok(events)
    }

    /// The kernel raises ENOBUFS once for a whole congestion, and before it counts: what it dropped after that only the
    /// counter tells.
    fn tell_counted_loss(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if self.dropped().is_some() {
            self.tell_loss(each);
        }
    }

    fn tell_loss(&mut self, each: &mut impl FnMut(Event<'_>)) {
        match self.dropped() {
            // ENOBUFS may come twice for drops already told.
            Some(dropped) if dropped == self.drops_seen => {}
            Some(dropped) => {
                each(Event::Lost(Some(dropped.wrapping_sub(self.drops_seen))));
                self.drops_seen = dropped;
            }
            None => each(Event::Lost(None)),
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let timeout = match timeout {
            None => PollTimeout::NONE,
            // Rounded up: a wait of 0.4 ms must not become a busy loop.
            Some(timeout) => {
                let ms = timeout.as_nanos().div_ceil(1_000_000);
                PollTimeout::try_from(u32::try_from(ms).unwrap_or(u32::MAX)).unwrap_or(PollTimeout::MAX)
            }
        };
        let mut watched = [PollFd::new(self.kernel.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(nix::errno::Errno::EINTR) => Ok(false),
            Err(errno) => {
                Err(Error::System { operation: "waiting for destroy events", source: errno.into() })
            }
        }
    }
}

impl AsFd for DestroyEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kernel.as_fd()
    }
}
