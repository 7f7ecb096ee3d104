//! The perf rings of all processors: opened, waited for, drained.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use perf_event::events::Tracepoint;
use perf_event::{Builder, Clock, SampleFlag, Sampler};

use crate::layout::Layout;
use crate::record::{Happening, decode};

/// Connects and what becomes of them, of TCP alone: all else is not even written.
const FILTER: &std::ffi::CStr = c"protocol == 6 && (newstate == 2 || oldstate == 2)";
/// Room for what comes while a thread waits for a processor: a record takes about a hundred bytes.
const RING_BYTES: std::ops::RangeInclusive<usize> = 64 * 1024..=512 * 1024;
/// For all of them together, on machines with many processors.
const ALL_RINGS_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Rings {
    rings: Vec<Ring>,
    layout: Layout,
}

struct Ring(Sampler);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ring").field(&self.0.as_raw_fd()).finish()
    }
}

impl Rings {
    /// One for each processor that is there now.
    ///
    /// # Errors
    /// EACCES, EPERM: it is not permitted. EMFILE: one descriptor a processor is needed.
    pub(crate) fn open(layout: &Layout) -> io::Result<Rings> {
        let online = fs::read_to_string("/sys/devices/system/cpu/online")?;
        let processors = processors(&online).ok_or(io::ErrorKind::InvalidData)?;
        let most = ALL_RINGS_BYTES / processors.len().max(1);
        let size = (1 << most.max(1).ilog2()).clamp(*RING_BYTES.start(), *RING_BYTES.end());
        let mut rings = Vec::with_capacity(processors.len());
        for processor in processors {
            rings.push(Ring(open_ring(layout, processor, size)?));
        }
        for ring in &mut rings {
            ring.0.enable()?;
        }
        Ok(Rings { rings, layout: *layout })
    }

    /// Takes everything that was written.
    pub(crate) fn drain(&mut self, mut hear: impl FnMut(Happening)) {
        for Ring(ring) in &mut self.rings {
            while let Some(record) = ring.next_record() {
                let happening = match record.data() {
                    [bytes] => decode(record.ty(), bytes, &self.layout),
                    _ => decode(record.ty(), &record.to_contiguous(), &self.layout),
                };
                if let Some(happening) = happening {
                    hear(happening);
                }
            }
        }
    }

    /// Waits, in another thread, until a ring is a quarter full.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn waiter(&self, stop: &Arc<EventFd>) -> io::Result<Waiter> {
        let rings: io::Result<Vec<OwnedFd>> =
            self.rings.iter().map(|ring| duplicate(ring.0.as_raw_fd())).collect();
        Ok(Waiter { rings: rings?, stop: Arc::clone(stop) })
    }
}

/// Of a list like `0-3,5`.
fn processors(list: &str) -> Option<Vec<usize>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        // More than any kernel is built for.
        (last < 1 << 16).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = list.trim().split(',').map(range).collect();
    Some(ranges?.into_iter().flatten().collect())
}

/// Waits for rings to fill.
pub(crate) struct Waiter {
    rings: Vec<OwnedFd>,
    stop: Arc<EventFd>,
}

impl Waiter {
    /// Returns true when there is something to take, false when it is over.
    pub(crate) fn wait(&self) -> bool {
        let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut polled: Vec<PollFd<'_>> = self.rings.iter().map(|ring| wanted(ring.as_fd())).collect();
        polled.push(wanted(self.stop.as_fd()));
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => true,
            Err(_) => false,
            Ok(_) => {
                let is_asked = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
                !polled.last().is_some_and(is_asked)
            }
        }
    }
}

fn open_ring(layout: &Layout, processor: usize, size: usize) -> io::Result<Sampler> {
    let sampled = SampleFlag::TID | SampleFlag::TIME | SampleFlag::RAW;
    let cgroup = if tells_cgroups() { SampleFlag::CGROUP } else { SampleFlag::empty() };
    let counter = match builder(layout, processor, size).sample(sampled | cgroup).build() {
        // Before Linux 5.7.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            builder(layout, processor, size).sample(sampled).build()?
        }
        opened => opened?,
    };
    set_filter(&counter)?;
    counter.sampled(size)
}

/// Whether the cgroup that perf tells is that of sockets: of the unified hierarchy, not one of perf's own.
fn tells_cgroups() -> bool {
    let Ok(controllers) = fs::read_to_string("/proc/cgroups") else { return true };
    controllers.lines().any(|line| line.split_ascii_whitespace().take(2).eq(["perf_event", "0"]))
}

fn builder(layout: &Layout, processor: usize, size: usize) -> Builder<'static> {
    let mut builder = Builder::new(Tracepoint::with_id(layout.id));
    builder
        .any_pid()
        .one_cpu(processor)
        .include_kernel()
        .sample_period(1)
        .sample_id_all(true)
        .clockid(Clock::MONOTONIC)
        .comm(true)
        .task(true)
        .namespaces(true)
        .wakeup_watermark(size / 4);
    builder
}

fn set_filter(counter: &impl AsRawFd) -> io::Result<()> {
    // _IOW('$', 6, char *), the same on all architectures that are little-endian in this.
    const PERF_EVENT_IOC_SET_FILTER: libc::Ioctl = 0x4008_2406;
    // SAFETY: the descriptor is open for as long as `counter` is borrowed; the kernel copies the string, which ends with a
    // zero byte.
    let answer = unsafe { libc::ioctl(counter.as_raw_fd(), PERF_EVENT_IOC_SET_FILTER, FILTER.as_ptr()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// perf-event lends its descriptors as numbers only.
fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the ring that lends it is borrowed, and so the descriptor is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    borrowed.try_clone_to_owned()
}

/// The clock that records are dated by, nanoseconds.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    (now.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(now.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use super::processors;

    #[test]
    fn lists_of_processors() {
        assert_eq!(processors("0-3,5\n"), Some(vec![0, 1, 2, 3, 5]));
        assert_eq!(processors("0\n"), Some(vec![0]));
        for nonsense in ["", "-", "0-", "1,,2", "0-99999999"] {
            assert_eq!(processors(nonsense), None, "{nonsense:?}");
        }
    }
}
