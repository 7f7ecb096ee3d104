//! Time to read a filter, to compile it, and to hold a record against it.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sock_diag::filter::{Filter, NoNames};
use sockeye_benches::{FILTERS, records};

fn benchmark(criterion: &mut Criterion) {
    let records = records(1_000, 1_000);
    let mut group = criterion.benchmark_group("filter");
    for (number, text) in FILTERS.iter().enumerate() {
        let parse = || Filter::parse(black_box(text), &NoNames);
        group
            .bench_function(BenchmarkId::new("parse", number), |bencher| bencher.iter(|| black_box(parse())));
        let Ok(filter) = parse() else { continue };
        group.bench_function(BenchmarkId::new("compile", number), |bencher| {
            bencher.iter(|| black_box(filter.compile()));
        });
        group.bench_function(BenchmarkId::new("matches_1000_records", number), |bencher| {
            bencher
                .iter(|| records.iter().filter(|record| matches!(filter.matches(record), Ok(true))).count());
        });
    }
    group.finish();
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
