//! What the kernel writes into a perf ring, decoded: connects, and what processes do meanwhile.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::layout::Layout;

// <linux/perf_event.h>
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_COMM: u32 = 3;
const PERF_RECORD_EXIT: u32 = 4;
const PERF_RECORD_FORK: u32 = 7;
const PERF_RECORD_SAMPLE: u32 = 9;
const PERF_RECORD_NAMESPACES: u32 = 16;
const NET_NS_INDEX: usize = 0;
// <net/tcp_states.h>
const TCP_ESTABLISHED: u32 = 1;
const TCP_SYN_SENT: u32 = 2;

/// Something that happened on the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Happening {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub at: u64,
    /// What it was.
    pub what: What,
}

/// What can happen. A task is a thread, by its tid; that of a process's first thread is its pid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "names say it")]
pub enum What {
    /// A process calls connect(). `socket` is only good for comparison.
    Tries {
        socket: u64,
        pid: u32,
        task: u32,
        cgroup: u64,
    },
    /// The connection is there.
    Connected {
        socket: u64,
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// It is not to be.
    Failed {
        socket: u64,
    },
    Forked {
        task: u32,
        parent: u32,
    },
    /// exec(), or a name it gave itself: ended by a zero.
    Named {
        pid: u32,
        name: [u8; 16],
    },
    /// It has this network namespace now, by its inode.
    Entered {
        task: u32,
        netns: u64,
    },
    Ended {
        task: u32,
    },
    /// So many records had no room.
    Lost(u64),
}

/// Decodes a record by its `type` and what follows its header, as written for an event opened with PERF_SAMPLE_TID, TIME,
/// RAW and CGROUP, and sample_id_all. None for all other records, and those that are too short.
pub fn decode(kind: u32, bytes: &[u8], layout: &Layout) -> Option<Happening> {
    if kind == PERF_RECORD_SAMPLE {
        return sample(bytes, layout);
    }
    // Each ends with pid, tid and time.
    let (body, trailer) = bytes.split_at_checked(bytes.len().checked_sub(16)?)?;
    let at = u64_at(trailer, 8)?;
    let what = match kind {
        PERF_RECORD_LOST => What::Lost(u64_at(body, 8)?),
        PERF_RECORD_COMM => What::Named { pid: first(body)?, name: name(body.get(8..)?) },
        PERF_RECORD_FORK => What::Forked { task: u32_at(body, 8)?, parent: u32_at(body, 12)? },
        PERF_RECORD_EXIT => What::Ended { task: u32_at(body, 8)? },
        PERF_RECORD_NAMESPACES => {
            What::Entered { task: u32_at(body, 4)?, netns: u64_at(body, 16 + 16 * NET_NS_INDEX + 8)? }
        }
        _ => return None,
    };
    Some(Happening { at, what })
}

/// A process, by its first thread; the names of others are their own.
fn first(body: &[u8]) -> Option<u32> {
    let pid = u32_at(body, 0)?;
    (pid == u32_at(body, 4)?).then_some(pid)
}

fn name(bytes: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    name.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    name
}

/// pid, tid; time; size of raw data, that data; cgroup.
fn sample(bytes: &[u8], layout: &Layout) -> Option<Happening> {
    let (pid, task, at) = (u32_at(bytes, 0)?, u32_at(bytes, 4)?, u64_at(bytes, 8)?);
    let size = u32_at(bytes, 16)? as usize;
    let raw = bytes.get(20..20usize.checked_add(size)?)?;
    let socket = u64_at(raw, layout.socket)?;
    let (old, new) = (u32_at(raw, layout.old_state)?, u32_at(raw, layout.new_state)?);
    let what = match (old, new) {
        (_, TCP_SYN_SENT) => What::Tries { socket, pid, task, cgroup: u64_at(bytes, 20 + size).unwrap_or(0) },
        (TCP_SYN_SENT, TCP_ESTABLISHED) => What::Connected {
            socket,
            local: end(raw, layout.local_address, layout.local_port)?,
            remote: end(raw, layout.remote_address, layout.remote_port)?,
        },
        (TCP_SYN_SENT, _) => What::Failed { socket },
        _ => return None,
    };
    Some(Happening { at, what })
}

fn end(raw: &[u8], address: usize, port: usize) -> Option<SocketAddr> {
    let octets: [u8; 16] = raw.get(address..address.checked_add(16)?)?.try_into().ok()?;
    let port = u16::from_ne_bytes(raw.get(port..port.checked_add(2)?)?.try_into().ok()?);
    Some(SocketAddr::new(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical(), port))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
