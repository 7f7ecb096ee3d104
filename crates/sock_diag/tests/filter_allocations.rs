//! Matching a record against a filter allocates nothing, whatever the answer.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::Ipv4Addr;

use sock_diag::SocketState;
use sock_diag::fake::tcp_record;
use sock_diag::filter::{Filter, NoNames};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator as it came; the counter is a plain cell of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises about `layout` are those the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn matching_does_not_allocate() -> Result<(), Box<dyn std::error::Error>> {
    let text = "(state established,listening or not sport = 1-9) and (dst 10/8 or dst [fe80::]/10:80 or fwmark 1) \
                and not (dev 3 or cgroup id:5)";
    let filter = Filter::parse(text, &NoNames)?;
    let remote = (Ipv4Addr::new(10, 0, 0, 1), 80).into();
    let mut record = tcp_record(SocketState::Established, (Ipv4Addr::LOCALHOST, 0).into(), remote);
    let (mut yes, mut no, mut unanswerable) = (0, 0, 0);
    let before = ALLOCATIONS.get();
    for port in 0..3000u16 {
        record.id.local_port = port;
        record.state = SocketState::from_raw((port % 11) as u8 + 1);
        record.cgroup_id = (port % 3 > 0).then_some(port.into());
        match filter.matches(&record) {
            Ok(true) => yes += 1,
            Ok(false) => no += 1,
            Err(_) => unanswerable += 1,
        }
    }
    let allocations = ALLOCATIONS.get() - before;
    assert!(yes > 0 && no > 0 && unanswerable > 0, "{yes} {no} {unanswerable}");
    assert_eq!(allocations, 0);
    assert!(ALLOCATIONS.get() > 0, "the counter does not count");
    Ok(())
}
