//! Many established connections, held by worker processes until they are no longer wanted.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use sock_diag::{Family, Protocol};

use crate::fork::{self, Report, Worker};
use crate::socket;

/// Descriptors a worker keeps free of connections.
const SPARE_DESCRIPTORS: usize = 64;
/// Most workers there can be: one source address each, in 127.1.n.1.
const MOST_WORKERS: usize = 255;

/// Established IPv4 connections on loopback, both ends of each in this namespace; gone, without TIME_WAIT, on drop.
///
/// Worker n speaks from 127.1.n.1, so ports do not run short, and every connection belongs to one of few
/// destinations. The kernel picks the ports (IP_BIND_ADDRESS_NO_PORT).
#[derive(Debug)]
pub struct Load {
    workers: Vec<Worker>,
    listeners: Vec<OwnedFd>,
    destinations: Vec<SocketAddr>,
    connections: usize,
}

impl Load {
    /// Opens `connections` connections (two sockets each), spread evenly over `destinations` listeners on 127.0.0.1,
    /// 127.0.0.2, …, and returns when all are there.
    ///
    /// Cost: about 25,000 connections a second and core.
    ///
    /// # Errors
    /// The first call that failed in a worker, with its place in the order.
    pub fn established(connections: usize, destinations: u8) -> io::Result<Load> {
        let listeners = (1..=destinations.max(1)).map(listener).collect::<io::Result<Vec<_>>>()?;
        let addresses = listeners.iter().map(socket::local).collect::<io::Result<Vec<_>>>()?;
        let mut load = Load { workers: Vec::new(), listeners, destinations: addresses, connections };

        let room = fork::descriptor_limit().saturating_sub(SPARE_DESCRIPTORS + load.listeners.len()) / 2;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // At least one worker a core, and none that holds more than it may.
        let workers = connections.div_ceil(room.max(1)).max(cores.min(connections));
        if workers > MOST_WORKERS {
            return Err(io::Error::other(format!(
                "{connections} connections need {workers} worker processes"
            )));
        }
        let mut first = 0;
        for worker in 0..workers {
            let next = connections * (worker + 1) / workers;
            load.start(Ipv4Addr::new(127, 1, worker as u8, 1), first, next - first)?;
            first = next;
        }
        for worker in &load.workers {
            let [errno, stage, at, _] = worker.report(Duration::from_secs(120))?;
            if errno != 0 {
                let cause = io::Error::from_raw_os_error(errno as i32);
                let call = STAGES.get(stage as usize).unwrap_or(&"a call");
                return Err(io::Error::new(cause.kind(), format!("{call} for connection {at}: {cause}")));
            }
        }
        Ok(load)
    }

    /// Where the connections go to.
    pub fn destinations(&self) -> &[SocketAddr] {
        &self.destinations
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// How many sockets there are: both ends of every connection, and the listeners.
    pub fn sockets(&self) -> usize {
        2 * self.connections + self.listeners.len()
    }

    fn start(&mut self, source: Ipv4Addr, first: usize, count: usize) -> io::Result<()> {
        let listeners: Vec<RawFd> = self.listeners.iter().map(AsRawFd::as_raw_fd).collect();
        let doors: Vec<libc::sockaddr_in> = self.destinations.iter().map(ipv4).collect();
        let source = ipv4(&SocketAddr::new(source.into(), 0));
        let hold = || hold(&listeners, &doors, &source, first, count);
        // SAFETY: `hold` makes system calls on memory prepared here, and nothing else.
        self.workers.push(unsafe { Worker::fork(&listeners, hold)? });
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // All of them at once; then each is waited for, so that no socket is left when this returns.
        self.workers.iter().for_each(Worker::kill);
    }
}

/// A listener whose connections are reset when closed, so that they leave no TIME_WAIT.
fn listener(host: u8) -> io::Result<OwnedFd> {
    let listener = socket::open(Protocol::Tcp, Family::Inet)?;
    socket::bind(&listener, (Ipv4Addr::new(127, 0, 0, host), 0).into())?;
    socket::set_linger_reset(&listener)?;
    socket::set_nonblocking(&listener, false)?;
    socket::listen(&listener, 4096)?;
    Ok(listener)
}

/// What a report's second number means.
const STAGES: [&str; 5] = ["nothing", "socket()", "bind()", "connect()", "accept()"];

/// Opens the connections and leaves them open. Runs in a worker: system calls only.
///
/// Every worker accepts as often as it connects, always after connecting, so there is a connection for each accept() to
/// take, though not always its own.
fn hold(
    listeners: &[RawFd],
    doors: &[libc::sockaddr_in],
    source: &libc::sockaddr_in,
    first: usize,
    count: usize,
) -> Report {
    for at in first..first + count {
        let place = at % listeners.len();
        if let Err(stage) = connect(source, &doors[place]) {
            return failed(stage, at);
        }
        // SAFETY: accept4 may be told to store no address.
        if unsafe { libc::accept4(listeners[place], std::ptr::null_mut(), std::ptr::null_mut(), 0) } < 0 {
            return failed(4, at);
        }
    }
    Report::default()
}

fn failed(stage: u64, at: usize) -> Report {
    let errno = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    [errno as u64, stage, at as u64, 0]
}

/// A connection from `source` to `door` that is reset when closed; the stage that failed otherwise. System calls
/// only.
pub(crate) fn connect(source: &libc::sockaddr_in, door: &libc::sockaddr_in) -> Result<RawFd, u64> {
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let one = 1_i32;
    // SAFETY: every pointer is to a value that lives through its call, with that value's length.
    unsafe {
        let client = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        if client < 0 {
            return Err(1);
        }
        libc::setsockopt(
            client,
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            std::ptr::from_ref(&one).cast(),
            size_of::<i32>() as libc::socklen_t,
        );
        libc::setsockopt(
            client,
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            std::ptr::from_ref(&socket::LINGER_RESET).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        );
        if libc::bind(client, std::ptr::from_ref(source).cast(), length) != 0 {
            return Err(2);
        }
        if libc::connect(client, std::ptr::from_ref(door).cast(), length) != 0 {
            return Err(3);
        }
        Ok(client)
    }
}

/// The kernel's form of an IPv4 address; all zero for an IPv6 one, which loads do not use.
pub(crate) fn ipv4(address: &SocketAddr) -> libc::sockaddr_in {
    let octets = match address {
        SocketAddr::V4(v4) => v4.ip().octets(),
        SocketAddr::V6(_) => [0; 4],
    };
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(octets) },
        sin_zero: [0; 8],
    }
}
