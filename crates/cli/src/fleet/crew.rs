//! The few threads that go into network namespaces: one job after another, each in the namespace it is for.
//!
//! They end with the work, so that none of them keeps a namespace alive, and none has to find its way back.

use std::num::NonZero;
use std::sync::Mutex;
use std::thread::{self, Builder};

use anyhow::Context as _;
use sock_diag::RecvBuffer;
use sockeye_host::FoundNamespace;

use super::way::{self, Barred};

/// Most threads at a time, beside the calling one: dumps contend for the kernel's hash table.
const MOST_THREADS: usize = 4;

/// What a thread has for all its jobs.
pub(super) struct Desk {
    /// For dumps and lookups.
    pub(super) answers: RecvBuffer,
    /// For what comes meanwhile.
    pub(super) events: RecvBuffer,
}

/// Work to be done in a namespace.
pub(super) trait Job: Send {
    /// Where.
    fn namespace(&self) -> &FoundNamespace;
    /// Does it, on a thread that is there; or takes note of why it cannot be.
    fn work(self, entered: Result<(), Barred>, desk: &mut Desk);
}

/// Has every job done. The one in `home`, the namespace that the calling thread is in, is done by that thread itself: it
/// never moves, and whoever may enter no namespace is in that one.
///
/// # Errors
/// No thread can be started.
pub(super) fn share_out<J: Job>(jobs: Vec<J>, home: u64) -> anyhow::Result<()> {
    let (at_home, away): (Vec<J>, Vec<J>) = jobs.into_iter().partition(|job| job.namespace().inode == home);
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST_THREADS).min(away.len());
    let away = Mutex::new(away.into_iter());
    let next = || away.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
    let away = || {
        let mut desk = Desk::new();
        while let Some(job) = next() {
            let entered = way::enter(job.namespace());
            job.work(entered, &mut desk);
        }
    };
    thread::scope(|scope| {
        let started = (0..threads).map(|_| Builder::new().name("netns".to_owned()).spawn_scoped(scope, away));
        let started: Vec<_> = started.collect();
        let mut desk = Desk::new();
        for job in at_home {
            job.work(Ok(()), &mut desk);
        }
        // One thread does it all if need be; the first error tells as well as the last.
        match started.iter().any(Result::is_ok) {
            false if threads > 0 => match started.into_iter().find_map(Result::err) {
                Some(error) => Err(error).context("starting a thread to enter network namespaces"),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    })
}

impl Desk {
    pub(super) fn new() -> Desk {
        Desk { answers: RecvBuffer::new(), events: RecvBuffer::new() }
    }
}
