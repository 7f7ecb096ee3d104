//! Arbitrary datagrams as the answer to a dump and to a lookup.

use sock_diag::{Cookie, DumpRequest, Family, Protocol, RecvBuffer, lookup};

pub(super) fn run(bytes: &[u8]) {
    for request in [DumpRequest::all(Protocol::Tcp), DumpRequest::all(Protocol::Udp).family(Family::Inet6)] {
        let mut kernel = super::kernel_answering(bytes);
        let (records, result) = super::dump_all(&mut kernel, &request, |_| {});
        if let Ok(summary) = result {
            assert!(summary.walks == 1 || summary.walks == 2);
            assert!(summary.bytes <= bytes.len() as u64);
        }
        if let Some(record) = records.first() {
            let mut kernel = super::kernel_answering(bytes);
            let found =
                lookup(&mut kernel, record.protocol, record.family, &record.id, &mut RecvBuffer::new());
            if let Ok(Some(found)) = found {
                let asked = record.id.cookie;
                assert!(found.id.cookie == asked || asked == Cookie::ANY);
            }
        }
    }
}
