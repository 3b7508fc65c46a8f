//! Criterion benches of the operators, with every instruction set of the machine:
//! `cargo bench -p faceoff-kernels -- avx2/layer1.0.conv1`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use faceoff_kernels::{InstructionSet, operators};
use std::time::Duration;

/// Side of the images in pixels, and images of a batch.
const SIZE_PX: usize = 64;
const BATCH: usize = 64;

fn all(criterion: &mut Criterion) {
    for set in InstructionSet::available() {
        let mut group = criterion.benchmark_group(set.name());
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_secs(1));
        for mut operator in operators(set, SIZE_PX, BATCH) {
            match operator.flop > 0.0 {
                true => group.throughput(Throughput::Elements(operator.flop as u64)),
                false => group.throughput(Throughput::Bytes(operator.bytes as u64)),
            };
            let name = format!("{} {}", operator.layer, operator.pass);
            group.bench_function(name, |bencher| bencher.iter(|| operator.run()));
        }
        group.finish();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
