//! Connections opened and closed at a given rate, with an exact log of every close.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A stretch of time with one rate.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Connections opened and closed per second, over all destinations together. 0 pauses.
    pub per_second: u32,
    /// How long.
    pub lasts: Duration,
}

/// One connection that was closed by its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Close {
    /// When both ends were closed and TIME_WAIT had begun; monotonic, some microseconds late at most.
    pub at: Instant,
    /// The client's address and port: its TIME_WAIT holds that port.
    pub local: SocketAddr,
    /// The destination.
    pub remote: SocketAddr,
}

/// A thread that opens loopback connections and closes them at once, client first, so that each leaves one TIME_WAIT on
/// the client's ephemeral port.
///
/// With `net.ipv4.tcp_tw_reuse` at its default a TIME_WAIT on loopback may be reused (and vanish) after a second, once
/// ports repeat; set it to 0 when more than some thousand closes per destination are to stay visible.
#[derive(Debug)]
pub struct Churn {
    log: Arc<Mutex<Vec<Close>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
    destinations: Vec<SocketAddr>,
}

impl Churn {
    /// Starts the phases one after the other, towards listeners on `destinations` addresses 127.0.3.1, 127.0.3.2, … in
    /// turn. A machine too slow for a rate falls behind it; the log says what really happened.
    ///
    /// # Errors
    /// A listener that could not be opened.
    pub fn start(phases: &[Phase], destinations: u8) -> io::Result<Churn> {
        let listeners = (1..=destinations.max(1))
            .map(|host| TcpListener::bind((Ipv4Addr::new(127, 0, 3, host), 0)))
            .collect::<io::Result<Vec<_>>>()?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let log = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let generator =
            Generator { phases: phases.to_vec(), listeners, log: Arc::clone(&log), stop: Arc::clone(&stop) };
        let thread = Some(thread::spawn(move || generator.run()));
        Ok(Churn { log, stop, thread, destinations: addresses })
    }

    /// Where the connections go to.
    pub fn destinations(&self) -> &[SocketAddr] {
        &self.destinations
    }

    /// Every close so far, oldest first.
    pub fn closes(&self) -> Vec<Close> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many closes happened from `from` on and before `to`.
    pub fn closes_between(&self, from: Instant, to: Instant) -> usize {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.iter().filter(|close| from <= close.at && close.at < to).count()
    }

    /// Waits for the last phase to end and returns every close, oldest first.
    ///
    /// # Errors
    /// The connect(), accept() or close that failed.
    pub fn finish(mut self) -> io::Result<Vec<Close>> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result?,
            _ => return Err(io::Error::other("the churn thread panicked")),
        }
        Ok(self.closes())
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its failure is nobody's business any more: finish() is the way to ask.
            let _ = thread.join();
        }
    }
}

struct Generator {
    phases: Vec<Phase>,
    listeners: Vec<TcpListener>,
    log: Arc<Mutex<Vec<Close>>>,
    stop: Arc<AtomicBool>,
}

impl Generator {
    fn run(self) -> io::Result<()> {
        let mut begin = Instant::now();
        let mut turn = self.listeners.iter().cycle();
        for phase in &self.phases {
            let total = (phase.lasts.as_secs_f64() * f64::from(phase.per_second)).round() as u64;
            for number in 0..total {
                if !self.sleep_until(begin + phase.lasts.mul_f64(number as f64 / total as f64)) {
                    return Ok(());
                }
                let Some(listener) = turn.next() else { return Ok(()) };
                let close = open_and_close(listener)?;
                self.log.lock().unwrap_or_else(PoisonError::into_inner).push(close);
            }
            begin += phase.lasts;
            if !self.sleep_until(begin) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// False when it was told to stop.
    fn sleep_until(&self, when: Instant) -> bool {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return false;
            }
            let rest = when.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return true;
            }
            thread::sleep(rest.min(Duration::from_millis(50)));
        }
    }
}

fn open_and_close(listener: &TcpListener) -> io::Result<Close> {
    let remote = listener.local_addr()?;
    let client = TcpStream::connect(remote)?;
    let local = client.local_addr()?;
    let (server, _) = listener.accept()?;
    drop(client);
    // On loopback the client's FIN has arrived when close() returns, so the server is the one that closes last.
    drop(server);
    Ok(Close { at: Instant::now(), local, remote })
}
