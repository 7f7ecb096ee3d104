//! The kernel's own speed: the same requests as a dump's, answered into the same buffer, and nothing decoded.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use sock_diag::fake::{Answer, FakeKernel, Message};
use sock_diag::{DumpRequest, RecvBuffer, dump};

/// Longer than any walk takes; a walk whose end was overlooked must not wait for ever.
const LONGEST_WAIT_S: i64 = 20;
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
/// NLMSG_DONE as a dump ends with it: a header and an errno.
const DONE_LENGTH: usize = 20;

/// The walks of some dumps, one after the other.
pub struct RawWalk {
    socket: OwnedFd,
    requests: Vec<Vec<u8>>,
    buffer: RecvBuffer,
}

impl RawWalk {
    /// The walks that these dumps take, the very bytes they would send.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn of(dumps: &[DumpRequest<'_>]) -> Result<RawWalk> {
        let mut buffer = RecvBuffer::new();
        let mut requests = Vec::new();
        for request in dumps {
            // A kernel that ends every walk at once is asked for all of them.
            let done = || Answer::Datagram(vec![Message::done(0)]);
            let mut fake = FakeKernel::new([done(), done()]);
            dump(&mut fake, request, &mut buffer, |_| std::ops::ControlFlow::Continue(()))?;
            requests.append(&mut fake.requests);
        }
        Ok(RawWalk { socket: open().context("opening a netlink socket")?, requests, buffer })
    }

    /// Walks, and returns how many bytes were received.
    ///
    /// # Errors
    /// The kernel refused, or a system call failed.
    pub fn run(&mut self) -> Result<u64> {
        let mut bytes = 0;
        for request in &self.requests {
            send(&self.socket, request).context("sending a request")?;
            loop {
                let length = receive(&self.socket, self.buffer.bytes_mut()).context("receiving an answer")?;
                bytes += length as u64;
                let datagram = self.buffer.bytes().get(..length).context("an answer was cut")?;
                ensure!(kind(datagram) != Some(NLMSG_ERROR), "the kernel refused a walk");
                if ends(datagram) {
                    break;
                }
            }
        }
        Ok(bytes)
    }
}

/// The type of the message that begins here.
fn kind(message: &[u8]) -> Option<u16> {
    message.get(4..6)?.try_into().ok().map(u16::from_ne_bytes)
}

/// Whether a datagram's only or last message is the end of a dump.
fn ends(datagram: &[u8]) -> bool {
    let is_done = |message: &[u8]| {
        kind(message) == Some(NLMSG_DONE) && message.starts_with(&(message.len() as u32).to_ne_bytes())
    };
    is_done(datagram) || datagram.len() > DONE_LENGTH && is_done(&datagram[datagram.len() - DONE_LENGTH..])
}

fn open() -> Result<OwnedFd> {
    let wait = libc::timeval { tv_sec: LONGEST_WAIT_S, tv_usec: 0 };
    // SAFETY: the new descriptor becomes owned once; setsockopt reads `wait`, which lives through the call.
    unsafe {
        let socket =
            libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG);
        if socket < 0 {
            bail!(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(socket);
        let length = size_of::<libc::timeval>() as libc::socklen_t;
        let option = (&raw const wait).cast();
        if libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVTIMEO, option, length) != 0 {
            bail!(io::Error::last_os_error());
        }
        Ok(socket)
    }
}

fn send(socket: &OwnedFd, request: &[u8]) -> io::Result<()> {
    // SAFETY: send reads `request`, which lives through the call.
    let sent = unsafe { libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The true length of the next datagram, greater than the buffer's when it was cut.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        // SAFETY: recv writes at most the buffer's length into it.
        let length = unsafe {
            libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_TRUNC)
        };
        match usize::try_from(length) {
            Ok(length) => return Ok(length),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use sock_diag::{Family, Protocol};

    use super::*;

    #[test]
    fn a_dump_of_both_families_is_as_many_walks_as_it_takes() {
        let requests = |request| RawWalk::of(&[request]).unwrap().requests;
        let tcp = DumpRequest::all(Protocol::Tcp);
        assert_eq!(requests(tcp.clone()).len(), 1);
        assert_eq!(requests(DumpRequest::all(Protocol::Udp)).len(), 2);
        let inet = requests(tcp.clone().family(Family::Inet));
        let inet6 = requests(tcp.clone().family(Family::Inet6));
        assert_eq!(
            RawWalk::of(&[tcp.clone().family(Family::Inet), tcp.family(Family::Inet6)]).unwrap().requests,
            [inet, inet6].concat()
        );
    }

    #[test]
    fn the_end_is_found_alone_and_behind_records() {
        let mut done = [0_u8; DONE_LENGTH];
        done[..4].copy_from_slice(&20_u32.to_ne_bytes());
        done[4..6].copy_from_slice(&NLMSG_DONE.to_ne_bytes());
        let record = [7_u8; 88];
        assert!(ends(&done) && ends(&[record.as_slice(), &done].concat()));
        assert!(!ends(&record) && !ends(&done[..19]) && !ends(&[]));
    }

    #[test]
    fn the_running_kernel_ends_its_walks() {
        let bytes = RawWalk::of(&[DumpRequest::all(Protocol::Tcp)]).unwrap().run().unwrap();
        assert!(bytes >= DONE_LENGTH as u64);
    }
}
