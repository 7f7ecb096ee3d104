//! A worker process: does what its share of the plan says, in order, and logs it. System calls only.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;

use super::log::{Log, Slot};
use super::plan::{Action, Drawn, How, Step};
use crate::fork::{Report, monotonic_ns};
use crate::socket;

/// What a report's second number means.
pub(super) const CALLS: [&str; 7] =
    ["nothing", "socket()", "connect()", "getsockname()", "accept()", "the payload", "close()"];

/// A destination as the kernel takes it.
pub(super) struct Room {
    /// The listener of `open`, blocking.
    pub(super) door: RawFd,
    pub(super) open: libc::sockaddr_in,
    pub(super) closed: libc::sockaddr_in,
    pub(super) full: libc::sockaddr_in,
}

/// Takes the actions one after the other, each at its time or, when that has passed, at once.
///
/// It is done when the plan is, `lasts_ns` after its begin.
pub(super) fn run(actions: &[Action], rooms: &[Room], log: &Log, lasts_ns: u64) -> Report {
    // SAFETY: getppid takes nothing.
    let owner = unsafe { libc::getppid() };
    for action in actions {
        if !sleep_until(log.began_ns() + action.at_ns, owner) {
            return Report::default();
        }
        let connection = action.connection as usize;
        let (drawn, slot) = (&log.drawn()[connection], &log.slots()[connection]);
        let done = match action.step {
            Step::Open => open(drawn, &rooms[usize::from(drawn.place)], slot),
            Step::CloseFirst => {
                close(slot, 0, usize::from(drawn.how.server_is_first()), drawn.how.is_reset())
            }
            Step::CloseSecond => close(slot, 1, usize::from(!drawn.how.server_is_first()), false),
        };
        if let Err(call) = done {
            let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
            return [errno as u64, call, connection as u64, 0];
        }
    }
    sleep_until(log.began_ns() + lasts_ns, owner);
    Report::default()
}

/// False when the owner is gone.
fn sleep_until(ns: u64, owner: libc::pid_t) -> bool {
    const SLICE_NS: u64 = 100_000_000;
    loop {
        let now = monotonic_ns();
        if now >= ns {
            return true;
        }
        let slice = (ns - now).min(SLICE_NS);
        let slice = libc::timespec { tv_sec: 0, tv_nsec: slice as libc::c_long };
        // SAFETY: nanosleep reads the timespec and may be told to store no rest; getppid takes nothing.
        unsafe {
            libc::nanosleep(&slice, std::ptr::null_mut());
            if libc::getppid() != owner {
                return false;
            }
        }
    }
}

fn open(drawn: &Drawn, room: &Room, slot: &Slot) -> Result<(), u64> {
    slot.opened[0].store(monotonic_ns(), Ordering::Relaxed);
    let (to, flags) = match drawn.how {
        How::Refused => (&room.closed, 0),
        How::Unanswered => (&room.full, libc::SOCK_NONBLOCK),
        _ => (&room.open, 0),
    };
    // SAFETY: the address lives through connect(), and is of the length told; accept4 may be told to store no address.
    let (client, server) = unsafe {
        let client = libc::socket(libc::AF_INET, libc::SOCK_STREAM | flags, 0);
        if client < 0 {
            return Err(1);
        }
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let connected = libc::connect(client, std::ptr::from_ref(to).cast(), length) == 0;
        let errno = if connected { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(0) };
        match drawn.how {
            How::Refused if errno == libc::ECONNREFUSED => {
                slot.opened[1].store(monotonic_ns(), Ordering::Release);
                slot.descriptors[0].store(client, Ordering::Relaxed);
                return close(slot, 0, 0, false);
            }
            How::Unanswered if errno == libc::EINPROGRESS => (client, -1),
            _ if connected && drawn.how.is_accepted() => {
                let server = libc::accept4(room.door, std::ptr::null_mut(), std::ptr::null_mut(), 0);
                if server < 0 {
                    return Err(4);
                }
                (client, server)
            }
            _ => return Err(2),
        }
    };
    slot.descriptors[0].store(client, Ordering::Relaxed);
    slot.descriptors[1].store(server, Ordering::Relaxed);
    slot.local.store(local(client).ok_or(3_u64)?, Ordering::Relaxed);
    slot.opened[1].store(monotonic_ns(), Ordering::Release);
    let sent =
        server < 0 || send(client, server, drawn.request_bytes) && send(server, client, drawn.reply_bytes);
    if sent { Ok(()) } else { Err(5) }
}

/// The `order`-th close of a connection, by the client (0) or the server (1).
fn close(slot: &Slot, order: usize, end: usize, reset: bool) -> Result<(), u64> {
    let descriptor = slot.descriptors[end].load(Ordering::Relaxed);
    slot.closed[order][0].store(monotonic_ns(), Ordering::Relaxed);
    // SAFETY: the option's value lives through the call; the descriptor is ours and closed once.
    let closed = unsafe {
        if reset {
            libc::setsockopt(
                descriptor,
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                std::ptr::from_ref(&socket::LINGER_RESET).cast(),
                size_of::<libc::linger>() as libc::socklen_t,
            );
        }
        libc::close(descriptor) == 0
    };
    slot.closed[order][1].store(monotonic_ns(), Ordering::Release);
    if closed { Ok(()) } else { Err(6) }
}

/// Address and port in one number.
fn local(socket: RawFd) -> Option<u64> {
    // SAFETY: an all-zero sockaddr_in is valid, and the kernel writes no more than its length.
    unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        let mut length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let told = libc::getsockname(socket, std::ptr::from_mut(&mut address).cast(), &mut length) == 0;
        let host = u64::from(u32::from_be(address.sin_addr.s_addr));
        told.then_some(host << 16 | u64::from(u16::from_be(address.sin_port)))
    }
}

/// Sends so many bytes and reads them at the other end, as unread ones would turn its close into a reset.
fn send(from: RawFd, to: RawFd, bytes: u16) -> bool {
    let mut rest = usize::from(bytes);
    let mut buffer = [0_u8; 4096];
    while rest > 0 {
        let part = rest.min(buffer.len());
        // SAFETY: both calls get memory of the length they are told.
        let (sent, read) = unsafe {
            let sent = libc::send(from, buffer.as_ptr().cast(), part, libc::MSG_NOSIGNAL);
            (sent, libc::recv(to, buffer.as_mut_ptr().cast(), part, libc::MSG_WAITALL))
        };
        if sent != part as isize || read != part as isize {
            return false;
        }
        rest -= part;
    }
    true
}
