//! Criterion benches of the operators, with every instruction set of the machine:
//! `cargo bench -p faceoff-kernels -- avx2/layer1.0.conv1`.

#![allow(unsafe_code)] // calls the gemm crate

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use faceoff_kernels::resnet::RESNET18;
use faceoff_kernels::{InstructionSet, matrix_products, operators};
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
        for mut operator in operators(&RESNET18, set, SIZE_PX, BATCH) {
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

/// The micro-kernel beside the `gemm` crate on the products of Winograd's method: 48 tiles, 64 channels, one panel.
fn products(criterion: &mut Criterion) {
    const CALLS: usize = 2_000;
    let (m, k, n) = (48, 64, 32);
    let mut group = criterion.benchmark_group("product 48x64x32");
    group.sample_size(10).throughput(Throughput::Elements((2 * m * k * n * CALLS) as u64));
    let (a, b) = (vec![0.5f32; m * k], vec![0.5f32; k * n]);
    let mut c = vec![0f32; m * n];
    group.bench_function("gemm crate", |bencher| {
        bencher.iter(|| {
            for _ in 0..CALLS {
                // SAFETY: the three vectors hold row-major matrices of these extents.
                unsafe {
                    gemm::gemm(
                        m,
                        n,
                        k,
                        c.as_mut_ptr(),
                        1,
                        n as isize,
                        false,
                        a.as_ptr(),
                        1,
                        k as isize,
                        b.as_ptr(),
                        1,
                        n as isize,
                        0.0,
                        1.0,
                        false,
                        false,
                        false,
                        gemm::Parallelism::None,
                    );
                }
            }
        });
    });
    for set in InstructionSet::available() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be started");
        let mut product = pool.install(|| matrix_products(set));
        // Its width is a panel of the instruction set: compare rates, not times.
        group.throughput(Throughput::Elements(product.flop as u64));
        group.bench_function(set.name(), |bencher| pool.install(|| bencher.iter(|| product.run())));
    }
    group.finish();
}

criterion_group!(benches, all, products);
criterion_main!(benches);
