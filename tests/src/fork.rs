//! Worker processes: forked, not executed, so that any program can have them; each reports over a pipe and ends when its
//! owner does.
//!
//! A process may open only so many descriptors, and one process is one core: loads need several. What they do there is
//! written with system calls alone, as the fork may have happened while another thread held a lock.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// What a worker tells its owner, once: numbers whose meaning the two agree on.
pub(crate) type Report = [u64; 4];

/// A forked process; killed and reaped on drop.
#[derive(Debug)]
pub(crate) struct Worker {
    process: libc::pid_t,
    /// Never written: its closing tells the worker to end.
    _control: OwnedFd,
    report: OwnedFd,
}

impl Worker {
    /// Forks a process that keeps only the descriptors `keep`, runs `body`, reports what it returns, and then stays
    /// until its owner drops it or ends.
    ///
    /// # Safety
    /// `body` must make system calls only: no allocation, no lock, no panic, no printing.
    pub(crate) unsafe fn fork(keep: &[RawFd], body: impl FnOnce() -> Report) -> io::Result<Worker> {
        let (control_read, control) = pipe()?;
        let (report, report_write) = pipe()?;
        let mut kept = keep.to_vec();
        kept.extend([control_read.as_raw_fd(), report_write.as_raw_fd()]);
        kept.sort_unstable();
        // SAFETY: the child goes on with system calls only, until _exit: the caller promises it for `body`.
        unsafe {
            match libc::fork() {
                -1 => Err(io::Error::last_os_error()),
                0 => {
                    close_all_but(&kept);
                    raise_descriptor_limit();
                    let told = body();
                    let length = size_of::<Report>();
                    libc::write(report_write.as_raw_fd(), told.as_ptr().cast(), length);
                    let mut byte = 0_u8;
                    libc::read(control_read.as_raw_fd(), (&raw mut byte).cast(), 1);
                    libc::_exit(0)
                }
                process => Ok(Worker { process, _control: control, report }),
            }
        }
    }

    /// The worker's report.
    ///
    /// # Errors
    /// `TimedOut` when it does not come within `limit`, `UnexpectedEof` when the worker died before.
    pub(crate) fn report(&self, limit: Duration) -> io::Result<Report> {
        let mut poll = libc::pollfd { fd: self.report.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut report = Report::default();
        // SAFETY: both calls get memory of the length they are told, and a descriptor we own.
        let length = unsafe {
            if libc::poll(&mut poll, 1, limit.as_millis() as i32) == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "a worker process did not report in time",
                ));
            }
            libc::read(self.report.as_raw_fd(), report.as_mut_ptr().cast(), size_of::<Report>())
        };
        match length {
            -1 => Err(io::Error::last_os_error()),
            length if length as usize == size_of::<Report>() => Ok(report),
            _ => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a worker process ended before its report"))
            }
        }
    }

    /// Tells the worker to end, without waiting for it. Dropping waits.
    pub(crate) fn kill(&self) {
        // SAFETY: kill takes integers; the worker is not reaped yet, so the id is still its own.
        unsafe { libc::kill(self.process, libc::SIGKILL) };
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        // SAFETY: waitpid may be told to store no status. It is our child and nobody else waits for it.
        while unsafe { libc::waitpid(self.process, std::ptr::null_mut(), 0) } == -1
            && io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
        {}
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    // SAFETY: pipe2 fills the two integers; both descriptors are new and become owned once.
    unsafe {
        match libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) {
            0 => Ok((OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Closes what the fork copied, standard streams too: a worker that outlives a test must not hold its pipes open.
fn close_all_but(kept: &[RawFd]) {
    let mut from: u32 = 0;
    let close = |from: u32, to: u32| {
        if from <= to {
            // SAFETY: closes descriptors of this worker that its code has no values for.
            unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        }
    };
    for descriptor in kept {
        let descriptor = *descriptor as u32;
        if descriptor > from {
            close(from, descriptor - 1);
        }
        from = descriptor + 1;
    }
    close(from, u32::MAX);
}

fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a pointer to an rlimit that lives through them.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// How many descriptors a worker may have.
pub(crate) fn descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit fills the rlimit given.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) };
    limit.rlim_max as usize
}

/// CLOCK_MONOTONIC, in nanoseconds, for workers: a system call alone.
pub(crate) fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime fills the timespec given.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
