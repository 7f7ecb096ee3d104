//! Connections opened and closed as a plan says, with an exact log of what became of each.
//!
//! What is to happen is churn/plan.rs, who does it churn/worker.rs.

mod log;
mod plan;
mod worker;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use sock_diag::{Family, Protocol};

pub use self::log::{Close, Connection, End, Span};
pub use self::plan::{ChurnPlan, How, Lives, Phase};

use self::log::Log;
use self::plan::Action;
use crate::fork::{self, Worker};
use crate::load::ipv4;
use crate::socket;

/// Descriptors a worker keeps free of connections.
const SPARE_DESCRIPTORS: usize = 64;
/// How long after the last planned action a busy machine may still be at work.
const PATIENCE: Duration = Duration::from_secs(120);

/// Worker processes that open loopback connections and close them again; gone on drop.
///
/// Both ends of a connection are in this namespace. A machine too slow for the plan falls behind it; the log says what
/// really happened.
///
/// With `net.ipv4.tcp_tw_reuse` at its default a TIME_WAIT on loopback may be reused (and vanish) after a second, once
/// ports repeat; set it to 0 when more than some thousand closes per destination are to stay visible.
#[derive(Debug)]
pub struct Churn {
    workers: Vec<Worker>,
    log: Log,
    lasts: Duration,
    destinations: Vec<SocketAddr>,
    _doors: Vec<OwnedFd>,
    crowd: Vec<TcpStream>,
}

impl Churn {
    /// Connections that are closed at once, client first, so that each leaves one TIME_WAIT on the client's ephemeral
    /// port: the phases one after the other, towards listeners on `destinations` addresses in turn.
    ///
    /// # Errors
    /// As [`follow`](Self::follow).
    pub fn start(phases: &[Phase], destinations: u8) -> io::Result<Churn> {
        Churn::follow(&ChurnPlan { phases: phases.to_vec(), destinations, ..ChurnPlan::default() })
    }

    /// Starts what the plan says, towards listeners on 127.0.3.1, 127.0.3.2, …; attempts that are to fail go to ports of
    /// their own on the same addresses.
    ///
    /// # Errors
    /// A socket or process that could not be made; fewer destinations than worker processes, of which there are as many
    /// as the limit of descriptors asks for.
    pub fn follow(plan: &ChurnPlan) -> io::Result<Churn> {
        let mut doors = Vec::new();
        let mut crowd = Vec::new();
        let mut places = Vec::new();
        for number in 0..plan.destinations.max(1) {
            let host = Ipv4Addr::new(127, 0, 3, 1 + number);
            let open = door(host, 4096)?;
            let closed = door(host, 0)?;
            let full = door(host, 0)?;
            let [open_at, closed_at, full_at] = [&open, &closed, &full].map(socket::local);
            let full_at = full_at?;
            if plan.mix.iter().any(|(how, _)| *how == How::Unanswered) {
                // A listener with one connection in a queue for none drops every further SYN.
                crowd.push(TcpStream::connect(full_at)?);
            }
            places.push(Place { door: open.as_raw_fd(), open: open_at?, closed: closed_at?, full: full_at });
            doors.extend([open, full]);
        }
        let drawn = plan.draw();
        let room = fork::descriptor_limit().saturating_sub(SPARE_DESCRIPTORS) / 2;
        let shares = plan::divide(&drawn.connections, places.len(), room)?;
        let log =
            Log::new(drawn.connections, places.iter().map(|place| [place.open, place.closed, place.full]))?;
        let mut churn = Churn {
            workers: Vec::new(),
            lasts: drawn.lasts,
            destinations: places.iter().map(|place| place.open).collect(),
            log,
            _doors: doors,
            crowd,
        };
        churn.work(&places, &shares)?;
        Ok(churn)
    }

    fn work(&mut self, places: &[Place], shares: &[Vec<Action>]) -> io::Result<()> {
        let listeners: Vec<_> = places.iter().map(|place| place.door).collect();
        let rooms: Vec<worker::Room> = places.iter().map(Place::room).collect();
        let lasts_ns = self.lasts.as_nanos() as u64;
        for actions in shares {
            let log = &self.log;
            // SAFETY: the worker's loop makes system calls on memory prepared here, and nothing else.
            let forked = unsafe { Worker::fork(&listeners, || worker::run(actions, &rooms, log, lasts_ns)) };
            self.workers.push(forked?);
        }
        Ok(())
    }

    /// Where the connections go to that are accepted.
    pub fn destinations(&self) -> &[SocketAddr] {
        &self.destinations
    }

    /// Connections beside the plan's that stay as long as this value does: one fills the queue of each listener that
    /// answers nobody.
    pub fn standing(&self) -> usize {
        self.crowd.len()
    }

    /// When the plan's time began.
    pub fn began(&self) -> Instant {
        self.log.began()
    }

    /// How long the plan takes, from the first open to the last close.
    pub fn lasts(&self) -> Duration {
        self.lasts
    }

    /// Every connection that has been begun so far, in the order of the plan.
    pub fn connections(&self) -> Vec<Connection> {
        self.log.connections()
    }

    /// Every connection both ends of which are closed by now, oldest close first.
    pub fn closes(&self) -> Vec<Close> {
        self.log.closes()
    }

    /// How many of them closed from `from` on and before `to`.
    pub fn closes_between(&self, from: Instant, to: Instant) -> usize {
        self.log.closes().iter().filter(|close| from <= close.at && close.at < to).count()
    }

    /// Waits for the plan to end.
    ///
    /// # Errors
    /// The call that failed in a worker: then less was done than planned.
    pub fn wait(&self) -> io::Result<()> {
        for worker in &self.workers {
            let rest = (self.began() + self.lasts + PATIENCE).saturating_duration_since(Instant::now());
            let [errno, call, connection, _] = worker.report(rest)?;
            if errno != 0 {
                let cause = io::Error::from_raw_os_error(errno as i32);
                let call = worker::CALLS.get(call as usize).unwrap_or(&"a call");
                return Err(io::Error::new(
                    cause.kind(),
                    format!("{call} for connection {connection}: {cause}"),
                ));
            }
        }
        Ok(())
    }

    /// Waits for the plan to end and returns every close, oldest first.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn finish(self) -> io::Result<Vec<Close>> {
        self.wait()?;
        Ok(self.closes())
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        // All of them at once; then each is waited for, before the log they write to goes.
        self.workers.iter().for_each(Worker::kill);
        self.workers.clear();
    }
}

/// One address with its three ports.
struct Place {
    door: std::os::fd::RawFd,
    open: SocketAddr,
    /// Nobody listens: attempts are refused.
    closed: SocketAddr,
    /// Nobody answers.
    full: SocketAddr,
}

impl Place {
    fn room(&self) -> worker::Room {
        worker::Room {
            door: self.door,
            open: ipv4(&self.open),
            closed: ipv4(&self.closed),
            full: ipv4(&self.full),
        }
    }
}

fn door(host: Ipv4Addr, backlog: i32) -> io::Result<OwnedFd> {
    let door = socket::open(Protocol::Tcp, Family::Inet)?;
    socket::bind(&door, (host, 0).into())?;
    socket::set_nonblocking(&door, false)?;
    socket::listen(&door, backlog)?;
    Ok(door)
}
