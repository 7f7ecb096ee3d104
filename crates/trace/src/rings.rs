//! The perf rings of all processors: opened, waited for, drained.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use perf_event::events::Tracepoint;
use perf_event::{Builder, Clock, SampleFlag, Sampler};

use crate::layout::Layout;
use crate::record::{Happening, decode, decode_exit};

/// Connects and what becomes of them, of TCP alone: all else is not even written.
const FILTER: &std::ffi::CStr = c"protocol == 6 && (newstate == 2 || oldstate == 2)";
/// And what is closed.
const FILTER_WITH_CLOSES: &std::ffi::CStr = c"protocol == 6 && (newstate == 2 || oldstate == 2 || newstate == 4 || newstate == 9 || (newstate == 7 && (oldstate == 1 || oldstate == 8)))";
/// Room for what comes while a thread waits for a processor: a record takes about a hundred bytes.
const RING_BYTES: std::ops::RangeInclusive<usize> = 64 * 1024..=512 * 1024;
/// For all of them together, on machines with many processors.
const ALL_RINGS_BYTES: usize = 16 << 20;

#[derive(Debug)]
pub(crate) struct Rings {
    rings: Vec<Ring>,
    layout: Layout,
}

struct Ring {
    sampler: Sampler,
    tells_exits: bool,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Ring").field(&self.sampler.as_raw_fd()).finish()
    }
}

impl Rings {
    /// One for each processor that is there now, and with `exits`, the number of that tracepoint, another that tells who
    /// ends; closes are told then, too.
    ///
    /// # Errors
    /// EACCES, EPERM: it is not permitted. EMFILE: one descriptor a processor is needed.
    pub(crate) fn open(layout: &Layout, exits: Option<u64>) -> io::Result<Rings> {
        let online = fs::read_to_string("/sys/devices/system/cpu/online")?;
        let processors = processors(&online).ok_or(io::ErrorKind::InvalidData)?;
        let most = ALL_RINGS_BYTES / processors.len().max(1);
        let size = (1 << most.max(1).ilog2()).clamp(*RING_BYTES.start(), *RING_BYTES.end());
        let mut rings = Vec::with_capacity(processors.len());
        for processor in processors {
            let filter = if exits.is_some() { FILTER_WITH_CLOSES } else { FILTER };
            let sampler = open_ring(layout, processor, size, filter)?;
            rings.push(Ring { sampler, tells_exits: false });
            if let Some(id) = exits {
                rings.push(Ring { sampler: open_exits(id, processor)?, tells_exits: true });
            }
        }
        for ring in &mut rings {
            ring.sampler.enable()?;
        }
        Ok(Rings { rings, layout: *layout })
    }

    /// Takes everything that was written until this moment, and of each ring at most one thing that came later: whoever is
    /// waiting for it does not wait for a storm to end.
    pub(crate) fn drain(&mut self, until: u64, mut hear: impl FnMut(Happening)) {
        for Ring { sampler, tells_exits } in &mut self.rings {
            let decode = if *tells_exits { decode_exit } else { decode };
            while let Some(record) = sampler.next_record() {
                let happening = match record.data() {
                    [bytes] => decode(record.ty(), bytes, &self.layout),
                    _ => decode(record.ty(), &record.to_contiguous(), &self.layout),
                };
                if let Some(happening) = happening {
                    let is_later = happening.at > until;
                    hear(happening);
                    if is_later {
                        break;
                    }
                }
            }
        }
    }

    /// What waits, in another thread, until a ring is a quarter full.
    ///
    /// # Errors
    /// EMFILE.
    pub(crate) fn waiter(&self) -> io::Result<Waiter> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stop = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        for ring in &self.rings {
            // SAFETY: perf-event lends its descriptors as numbers; the ring is borrowed, so this one is open. Closing it
            // takes it out of the epoll.
            let fd = unsafe { BorrowedFd::borrow_raw(ring.sampler.as_raw_fd()) };
            // Edges: a ring whose processor was taken away is told once, not for ever.
            epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, RING))?;
        }
        Ok(Waiter { epoll, stop })
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

const RING: u64 = 0;
const STOP: u64 = 1;

/// Waits for rings to fill.
#[derive(Debug)]
pub(crate) struct Waiter {
    epoll: Epoll,
    stop: EventFd,
}

impl Waiter {
    /// Returns true when there may be something to take, false when it is over.
    pub(crate) fn wait(&self) -> bool {
        let mut woken = [EpollEvent::empty(); 8];
        match self.epoll.wait(&mut woken, EpollTimeout::NONE) {
            Err(Errno::EINTR) => true,
            Err(_) => false,
            Ok(many) => !woken.iter().take(many).any(|event| event.data() == STOP),
        }
    }

    /// It is over.
    pub(crate) fn stop(&self) {
        // Only a full counter could fail, and that wakes as well.
        let _ = self.stop.write(1);
    }
}

fn open_ring(layout: &Layout, processor: usize, size: usize, filter: &std::ffi::CStr) -> io::Result<Sampler> {
    let sampled = SampleFlag::TID | SampleFlag::TIME | SampleFlag::RAW;
    let cgroup = if tells_cgroups() { SampleFlag::CGROUP } else { SampleFlag::empty() };
    let open = |sampled| {
        let mut builder = builder(layout.id, processor, size);
        builder.comm(true).task(true).namespaces(true).sample(sampled).build()
    };
    let counter = match open(sampled | cgroup) {
        // Before Linux 5.7.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(sampled)?,
        opened => opened?,
    };
    set_filter(&counter, filter)?;
    counter.sampled(size)
}

fn open_exits(id: u64, processor: usize) -> io::Result<Sampler> {
    let size = *RING_BYTES.start();
    builder(id, processor, size).sample(SampleFlag::TID | SampleFlag::TIME).build()?.sampled(size)
}

/// Whether the cgroup that perf tells is that of sockets: of the unified hierarchy, not one of perf's own.
fn tells_cgroups() -> bool {
    let Ok(controllers) = fs::read_to_string("/proc/cgroups") else { return true };
    controllers.lines().any(|line| line.split_ascii_whitespace().take(2).eq(["perf_event", "0"]))
}

/// Every sample of a tracepoint on one processor.
fn builder(id: u64, processor: usize, size: usize) -> Builder<'static> {
    let mut builder = Builder::new(Tracepoint::with_id(id));
    builder
        .any_pid()
        .one_cpu(processor)
        .include_kernel()
        .sample_period(1)
        .sample_id_all(true)
        .clockid(Clock::MONOTONIC)
        .wakeup_watermark(size / 4);
    builder
}

fn set_filter(counter: &impl AsRawFd, filter: &std::ffi::CStr) -> io::Result<()> {
    // Its number depends on the architecture: on the size of a pointer, and on powerpc.
    const PERF_EVENT_IOC_SET_FILTER: libc::Ioctl = libc::_IOW::<*mut libc::c_char>(b'$' as u32, 6);
    // SAFETY: the descriptor is open for as long as `counter` is borrowed; the kernel copies the string, which ends with a
    // zero byte.
    let answer = unsafe { libc::ioctl(counter.as_raw_fd(), PERF_EVENT_IOC_SET_FILTER, filter.as_ptr()) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
