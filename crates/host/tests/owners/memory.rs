//! What a socket costs while its owner is sought, when it is found, and when it is gone: counted by the allocator itself.

use std::collections::VecDeque;
use std::time::Duration;

use sock_diag::Cookie;
use sockeye_host::owners::Owners;
use sockeye_tests::{Counting, held_bytes, peak_bytes_of};

use crate::fake_host::FakeHost;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SOCKETS: u32 = 20_000;
const PIDS: [u32; 4] = [10, 11, 12, 13];
/// Closed and opened between two looks.
const CHURN: u32 = 4_000;
const TICK: Duration = Duration::from_millis(5);

/// Works as a watch does; all that are wanted must be found.
fn find(owners: &mut Owners, wanted: u32) {
    let mut found = 0;
    loop {
        let left = owners.work(TICK).left;
        found += owners.answers().iter().filter(|(_, owner)| owner.is_some()).count();
        if left == 0 {
            assert_eq!(found, wanted as usize);
            return;
        }
    }
}

fn each(bytes: i64) -> i64 {
    bytes / i64::from(SOCKETS)
}

#[test]
fn a_socket_costs_a_few_bytes_and_none_when_it_is_gone() {
    let host = FakeHost::new();
    let mut cgroup = 0;
    for pid in PIDS {
        cgroup = host.process(pid, "proxy", 1, "/proxy.service");
    }
    // The descriptor and the inode of each; an inode tells its process.
    let mut living = VecDeque::new();
    let mut open = |descriptor: u32, inode: u32| {
        host.socket(PIDS[inode as usize % PIDS.len()], descriptor, inode);
        living.push_back((descriptor, inode));
    };
    (0..SOCKETS).for_each(|number| open(number / 4, 1_000 + number));
    let before = held_bytes();
    let mut owners = host.owners();
    let want = |owners: &mut Owners, inode: u32| {
        owners.want(Cookie(u64::from(inode)), inode, host.uid(), Some(cgroup));
    };

    let peak = peak_bytes_of(|| {
        (0..SOCKETS).for_each(|number| want(&mut owners, 1_000 + number));
        assert!(each(held_bytes() - before) <= 40, "{} bytes wanted", each(held_bytes() - before));
        find(&mut owners, SOCKETS);
    });
    assert!(each(peak - before) <= 60, "{} bytes at most", each(peak - before));
    // Seven of them are room for the next wishes, which is kept.
    let found = held_bytes() - before;
    assert!(each(found) <= 24, "{} bytes found", each(found));

    // As many again, and again, in place of others, and five times as many as there were.
    for _ in 0..5 * SOCKETS / CHURN {
        for _ in 0..CHURN {
            let (descriptor, inode) = living.pop_front().unwrap();
            owners.gone(inode);
            host.socket(PIDS[inode as usize % PIDS.len()], descriptor, inode + SOCKETS);
            living.push_back((descriptor, inode + SOCKETS));
            want(&mut owners, inode + SOCKETS);
        }
        find(&mut owners, CHURN);
    }
    assert!(held_bytes() - before <= found * 3 / 2, "{} bytes, then {}", found, held_bytes() - before);

    for (_, inode) in living.drain(..) {
        owners.gone(inode);
    }
    let left = held_bytes() - before;
    assert!(left <= 200_000, "{left} bytes for nothing");
    assert_eq!(owners.known_sockets(), 0);
}

#[test]
fn sockets_of_nobody_leave_nothing() {
    let host = FakeHost::new();
    let before = held_bytes();
    let mut owners = host.owners();
    for inode in 1..=SOCKETS {
        owners.want(Cookie(u64::from(inode)), inode, 0, None);
    }
    find(&mut owners, 0);
    (1..=SOCKETS).for_each(|inode| owners.gone(inode));
    assert!(owners.answers().is_empty());
    let left = held_bytes() - before;
    assert!(left <= 200_000, "{left} bytes for nothing");
}
