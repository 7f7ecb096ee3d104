//! Time to count records in a sweep, and to finish it into a report.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sock_diag::SocketRecord;
use sockeye_benches::records;
use sockeye_core::{Counters, Settings, Sweep};

const RECORDS: u32 = 100_000;

fn observed(records: &[SocketRecord]) -> Sweep {
    let mut sweep = Sweep::new(&Settings::default());
    records.iter().for_each(|record| sweep.observe(record));
    sweep
}

fn benchmark(criterion: &mut Criterion) {
    for destinations in [100, 100_000] {
        let records = records(RECORDS, destinations);
        let mut group = criterion.benchmark_group(format!("fold_{destinations}_destinations"));
        group.throughput(Throughput::Elements(u64::from(RECORDS)));
        group.sample_size(20);
        group.bench_function("observe", |bencher| bencher.iter(|| black_box(observed(black_box(&records)))));
        group.bench_function("finish", |bencher| {
            bencher.iter_batched(
                || observed(&records),
                |sweep| black_box(sweep.finish(&Counters::default())),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
