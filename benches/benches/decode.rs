//! Time to decode 10,000 records out of the bytes the kernel would send.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sockeye_benches::{answer, decode, records};

const RECORDS: u32 = 10_000;

fn benchmark(criterion: &mut Criterion) {
    let bytes = answer(&records(RECORDS, 100));
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(u64::from(RECORDS)));
    group.bench_function("to_record", |bencher| {
        bencher.iter(|| {
            decode(black_box(&bytes), |record| {
                black_box(record);
            });
        });
    });
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
