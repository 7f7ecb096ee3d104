//! Matching a record against a filter allocates nothing, whatever the answer.

use std::net::Ipv4Addr;

use sock_diag::SocketState;
use sock_diag::fake::tcp_record;
use sock_diag::filter::{Filter, NoNames};
use sockeye_tests::{Counting, allocations_of};

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
    let allocations = allocations_of(|| {
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
    });
    assert!(yes > 0 && no > 0 && unanswerable > 0, "{yes} {no} {unanswerable}");
    assert_eq!(allocations, 0);
    assert!(allocations_of(|| drop(Filter::parse(text, &NoNames))) > 0, "the counter does not count");
    Ok(())
}
