//! What the kernel writes into a perf ring, decoded: connects and closes, and what processes do meanwhile.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::layout::Layout;

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
const TCP_FIN_WAIT1: u32 = 4;
const TCP_CLOSE: u32 = 7;
const TCP_LAST_ACK: u32 = 9;
/// `common_flags` of a sample: taken while the kernel served an interrupt, whatever task that befell
/// (<linux/trace_events.h>).
const TRACE_FLAG_HARDIRQ: u8 = 0x08;
const TRACE_FLAG_SOFTIRQ: u8 = 0x10;

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
    /// It is not to be. It never began where it had no local port.
    Failed {
        socket: u64,
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// A task closes its end of a connection that was there.
    Closes {
        task: u32,
        local: SocketAddr,
        remote: SocketAddr,
    },
    /// A task begins to end; what it has open is closed after this and before it has ended.
    Exits {
        task: u32,
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

/// The same of a record as written for an event `sched:sched_process_exit`, opened without tasks, names and namespaces.
pub(crate) fn decode_exit(kind: u32, bytes: &[u8], layout: &Layout) -> Option<Happening> {
    match kind {
        PERF_RECORD_SAMPLE => {
            Some(Happening { at: u64_at(bytes, 8)?, what: What::Exits { task: u32_at(bytes, 4)? } })
        }
        PERF_RECORD_LOST => decode(kind, bytes, layout),
        _ => None,
    }
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
    let ends = || {
        let local = end(raw, layout.local_address, layout.local_port)?;
        Some((local, end(raw, layout.remote_address, layout.remote_port)?))
    };
    let what = match (old, new) {
        (_, TCP_SYN_SENT) => What::Tries { socket, pid, task, cgroup: u64_at(bytes, 20 + size).unwrap_or(0) },
        (TCP_SYN_SENT, TCP_ESTABLISHED) => {
            let (local, remote) = ends()?;
            What::Connected { socket, local, remote }
        }
        (TCP_SYN_SENT, _) => {
            let (local, remote) = ends()?;
            What::Failed { socket, local, remote }
        }
        // close() and shutdown() alone send a FIN. The other side's reset is told in whatever task it befalls.
        (_, TCP_FIN_WAIT1 | TCP_LAST_ACK | TCP_CLOSE) => {
            let interrupts = TRACE_FLAG_HARDIRQ | TRACE_FLAG_SOFTIRQ;
            if new == TCP_CLOSE && raw.get(layout.flags)? & interrupts != 0 {
                return None;
            }
            let (local, remote) = ends()?;
            What::Closes { task, local, remote }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::FORMAT;
    use proptest::prelude::*;

    fn layout() -> Layout {
        Layout::parse(FORMAT).unwrap()
    }

    fn bytes(parts: &[&[u8]]) -> Vec<u8> {
        parts.concat()
    }

    /// A sample as Linux writes it.
    fn state_change(old: u32, new: u32) -> Vec<u8> {
        let mapped =
            |last: u8| Ipv6Addr::from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, last]).octets();
        let raw = bytes(&[
            &[0; 8],
            &0xffff_8880_0123_4567_u64.to_ne_bytes(),
            &old.to_ne_bytes(),
            &new.to_ne_bytes(),
            &40_000u16.to_ne_bytes(),
            &443u16.to_ne_bytes(),
            &[0; 12],
            &mapped(1),
            &mapped(2),
            &[0; 4],
        ]);
        bytes(&[
            &812u32.to_ne_bytes(),
            &815u32.to_ne_bytes(),
            &99u64.to_ne_bytes(),
            &(raw.len() as u32).to_ne_bytes(),
            &raw,
            &4_711u64.to_ne_bytes(),
        ])
    }

    #[test]
    fn samples() {
        let socket = 0xffff_8880_0123_4567;
        let told = |old, new| decode(PERF_RECORD_SAMPLE, &state_change(old, new), &layout());
        let at = |what| Some(Happening { at: 99, what });
        assert_eq!(told(7, 2), at(What::Tries { socket, pid: 812, task: 815, cgroup: 4_711 }));
        let (local, remote) = ("10.0.0.1:40000".parse().unwrap(), "10.0.0.2:443".parse().unwrap());
        assert_eq!(told(2, 1), at(What::Connected { socket, local, remote }));
        assert_eq!(told(2, 7), at(What::Failed { socket, local, remote }));
        assert_eq!(told(1, 8), None);
        for (old, new) in [(1, 4), (8, 9), (1, 7), (8, 7)] {
            assert_eq!(told(old, new), at(What::Closes { task: 815, local, remote }), "{old} → {new}");
        }
        let mut befallen = state_change(1, 7);
        befallen[20 + layout().flags] = TRACE_FLAG_SOFTIRQ | 1;
        assert_eq!(decode(PERF_RECORD_SAMPLE, &befallen, &layout()), None, "the other side's reset");
        let exits = decode_exit(PERF_RECORD_SAMPLE, &state_change(1, 7), &layout());
        assert_eq!(exits, at(What::Exits { task: 815 }));
    }

    #[test]
    fn what_processes_do() {
        let told = |kind, body: &[&[u8]]| {
            let trailer: [&[u8]; 2] = [&[9; 8], &99u64.to_ne_bytes()];
            decode(kind, &bytes(&[&bytes(body), &bytes(&trailer)]), &layout()).map(|told| told.what)
        };
        let [one, two] = [1u32.to_ne_bytes(), 2u32.to_ne_bytes()];
        let time = [0; 8];
        assert_eq!(
            told(PERF_RECORD_FORK, &[&one, &one, &two, &one, &time]),
            Some(What::Forked { task: 2, parent: 1 })
        );
        assert_eq!(told(PERF_RECORD_EXIT, &[&one, &one, &two, &one, &time]), Some(What::Ended { task: 2 }));
        assert_eq!(told(PERF_RECORD_LOST, &[&[0; 8], &7u64.to_ne_bytes()]), Some(What::Lost(7)));
        let name = *b"a\x1b[31m\0\0";
        let mut padded = [0; 16];
        padded[..8].copy_from_slice(&name);
        assert_eq!(told(PERF_RECORD_COMM, &[&one, &one, &name]), Some(What::Named { pid: 1, name: padded }));
        assert_eq!(told(PERF_RECORD_COMM, &[&one, &two, &name]), None, "a thread's name");
        let count = 1u64.to_ne_bytes();
        let entered =
            told(PERF_RECORD_NAMESPACES, &[&one, &two, &count, &[0; 8], &4_026_531_840u64.to_ne_bytes()]);
        assert_eq!(entered, Some(What::Entered { task: 2, netns: 4_026_531_840 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_harmless(kind in 0u32..20, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(kind, &bytes, &layout());
        }

        #[test]
        fn what_is_cut_short_tells_nothing(length in 0usize..100) {
            let whole = state_change(2, 1);
            prop_assert_eq!(decode(PERF_RECORD_SAMPLE, &whole[..length.min(whole.len() - 16)], &layout()), None);
        }
    }
}
