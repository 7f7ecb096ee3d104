//! Sockets destroyed as fast as asked, or as fast as it goes, with an exact count: one destroy event each.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use sock_diag::{Family, Protocol};

use crate::fork::{Report, Worker, monotonic_ns};
use crate::load::{connect, ipv4};
use crate::socket;

/// What a burst destroys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Destroyed {
    /// UDP sockets that were bound, one after the other.
    UdpSockets,
    /// TCP connections, reset: two sockets each, no TIME_WAIT.
    TcpConnections,
}

/// A burst going on in worker processes. Dropping it ends it early.
#[derive(Debug)]
pub struct Burst {
    workers: Vec<Worker>,
    lasts: Duration,
}

/// What a burst did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BurstCount {
    /// Sockets destroyed, exactly. Listeners of the burst itself, one a worker, are not among them.
    pub destroyed: u64,
    /// How long the slowest worker took.
    pub elapsed: Duration,
}

impl BurstCount {
    /// Sockets destroyed per second.
    pub fn per_second(&self) -> f64 {
        self.destroyed as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

impl Burst {
    /// Starts destroying for `lasts`, with `per_second` sockets per second in all, or as many as it can when None;
    /// `workers` processes share the work.
    ///
    /// # Errors
    /// A socket or process that could not be made.
    pub fn start(
        what: Destroyed,
        per_second: Option<u32>,
        lasts: Duration,
        workers: u8,
    ) -> io::Result<Burst> {
        let share = per_second.map(|rate| u64::from(rate) / u64::from(workers.max(1)));
        let mut burst = Burst { workers: Vec::new(), lasts };
        for number in 0..workers.max(1) {
            let source = ipv4(&SocketAddr::new(Ipv4Addr::new(127, 2, number, 1).into(), 0));
            let pace = Pace { per_second: share, lasts };
            let worker = match what {
                // SAFETY: the body makes system calls on memory of its own, and nothing else.
                Destroyed::UdpSockets => unsafe { Worker::fork(&[], || pace.run(1, || udp(&source)))? },
                Destroyed::TcpConnections => {
                    let listener = listener(number)?;
                    let door = ipv4(&socket::local(&listener)?);
                    let raw = listener.as_raw_fd();
                    // SAFETY: as above.
                    unsafe { Worker::fork(&[raw], || pace.run(2, || tcp(raw, &source, &door)))? }
                }
            };
            burst.workers.push(worker);
        }
        Ok(burst)
    }

    /// Waits for the end and counts.
    ///
    /// # Errors
    /// The call that failed in a worker: then the count would not be exact.
    pub fn finish(self) -> io::Result<BurstCount> {
        let mut count = BurstCount { destroyed: 0, elapsed: Duration::ZERO };
        for worker in &self.workers {
            let [errno, destroyed, nanoseconds, _] = worker.report(self.lasts + Duration::from_secs(30))?;
            if errno != 0 {
                return Err(io::Error::from_raw_os_error(errno as i32));
            }
            count.destroyed += destroyed;
            count.elapsed = count.elapsed.max(Duration::from_nanos(nanoseconds));
        }
        Ok(count)
    }
}

fn listener(number: u8) -> io::Result<std::os::fd::OwnedFd> {
    let listener = socket::open(Protocol::Tcp, Family::Inet)?;
    socket::bind(&listener, (Ipv4Addr::new(127, 0, 4, 1 + number), 0).into())?;
    socket::set_linger_reset(&listener)?;
    socket::set_nonblocking(&listener, false)?;
    socket::listen(&listener, 128)?;
    Ok(listener)
}

/// How fast a worker goes, and for how long.
#[derive(Clone, Copy)]
struct Pace {
    per_second: Option<u64>,
    lasts: Duration,
}

impl Pace {
    /// Repeats `step`, which destroys `each` sockets, and reports errno, sockets destroyed and nanoseconds. System calls
    /// only.
    fn run(self, each: u64, step: impl Fn() -> bool) -> Report {
        let begin = monotonic_ns();
        let end = self.lasts.as_nanos() as u64;
        let mut destroyed = 0;
        loop {
            let elapsed = monotonic_ns() - begin;
            if elapsed >= end {
                return [0, destroyed, elapsed, 0];
            }
            // By now so many should be gone; ahead of that it rests a millisecond, which keeps bursts small.
            let due = self.per_second.map_or(u64::MAX, |rate| rate.saturating_mul(elapsed) / 1_000_000_000);
            if destroyed >= due {
                rest();
                continue;
            }
            if !step() {
                let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
                return [errno as u64, destroyed, elapsed, 0];
            }
            destroyed += each;
        }
    }
}

/// Opens, binds and closes a UDP socket; false when a call failed.
fn udp(source: &libc::sockaddr_in) -> bool {
    // SAFETY: bind reads the address, which lives through the call; the descriptor is ours and closed once.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        socket >= 0
            && libc::bind(socket, std::ptr::from_ref(source).cast(), length) == 0
            && libc::close(socket) == 0
    }
}

/// Opens a connection and resets it; false when a call failed.
fn tcp(listener: RawFd, source: &libc::sockaddr_in, door: &libc::sockaddr_in) -> bool {
    let Ok(client) = connect(source, door) else { return false };
    // SAFETY: accept4 may be told to store no address; both descriptors are ours and closed once.
    unsafe {
        let server = libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), 0);
        server >= 0 && libc::close(client) == 0 && libc::close(server) == 0
    }
}

fn rest() {
    let millisecond = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    // SAFETY: nanosleep reads the timespec and may be told to store no rest.
    unsafe { libc::nanosleep(&millisecond, std::ptr::null_mut()) };
}
