//! No heap allocation per record between a datagram and the record: counted by the allocator itself.

mod sample;

use std::hint::black_box;
use std::ops::ControlFlow;

use sock_diag::fake::{Answer, FakeKernel, Message};
use sock_diag::{DumpRequest, Exchange, Protocol, RecvBuffer, Result, Source, dump};
use sockeye_tests::{Counting, allocations_of};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers with the same datagram again and again, then with the end; allocates nothing.
struct Repeating {
    datagram: Vec<u8>,
    end: Vec<u8>,
    left: u32,
}

const RECORDS_PER_DATAGRAM: u16 = 100;

impl Repeating {
    fn new(times: u32) -> Repeating {
        let mut records: Vec<Message> =
            (0..RECORDS_PER_DATAGRAM).map(|n| Message::record(&sample::socket(n))).collect();
        for record in &mut records {
            record.payload.extend([8, 0, 99, 0, 1, 2, 3, 4]);
        }
        let mut kernel =
            FakeKernel::new([Answer::Datagram(records), Answer::Datagram(vec![Message::done(0)])]);
        kernel.send(&mut [0; 16]).expect("a request");
        let mut buffer = RecvBuffer::new();
        let mut next = || {
            let length = kernel.receive(&mut buffer).expect("a datagram");
            buffer.bytes()[..length].to_vec()
        };
        Repeating { datagram: next(), end: next(), left: times }
    }
}

impl Source for Repeating {
    fn send(&mut self, _: &mut [u8]) -> Result<Exchange> {
        Ok(Exchange { sequence: 1, port_id: 4711 })
    }

    fn receive(&mut self, buffer: &mut RecvBuffer) -> Result<usize> {
        let bytes = if self.left == 0 { &self.end } else { &self.datagram };
        self.left = self.left.saturating_sub(1);
        buffer.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn runs_filters(&self) -> bool {
        true
    }
}

/// Allocations of a dump of this many datagrams, every record decoded.
fn allocations(datagrams: u32) -> u64 {
    let mut source = Repeating::new(datagrams);
    let mut buffer = RecvBuffer::new();
    let mut checksum = 0;
    let mut records = 0;
    let allocations = allocations_of(|| {
        let dumped = dump(&mut source, &DumpRequest::all(Protocol::Tcp), &mut buffer, |diag| {
            let record = black_box(diag.to_record());
            checksum += u64::from(record.id.local_port) + diag.attributes().count() as u64;
            ControlFlow::Continue(())
        });
        records = dumped.expect("a dump").records;
    });
    assert_eq!(records, u64::from(datagrams) * u64::from(RECORDS_PER_DATAGRAM));
    assert!(checksum >= records);
    allocations
}

#[test]
fn records_cost_no_allocation() {
    let empty = allocations(0);
    let full = allocations(1_000);
    assert!(empty > 0, "the request is built on the heap: the counter counts");
    assert_eq!(full, empty, "allocations with 100,000 records, and with none");
}
