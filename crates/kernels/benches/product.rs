//! The micro-kernel beside the `gemm` crate on the products of Winograd's method, 48 tiles, 64 channels, one panel, on one
//! thread: `cargo bench -p faceoff-kernels`. A panel is as wide as the instruction set makes it: compare rates.
//! `cargo xtask bench kernels` times the operators.

#![allow(unsafe_code)] // calls the gemm crate

use faceoff_kernels::{InstructionSet, matrix_products};
use std::time::Instant;

const REPEATS: usize = 25;
const CALLS: usize = 2_000;

fn main() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread can be started");
    for set in InstructionSet::available() {
        let mut product = pool.install(|| matrix_products(set));
        report(set.name(), product.flop, || pool.install(|| product.run()));
    }
    let (m, k, n) = (48, 64, 32);
    let (a, b, mut c) = (vec![0.5f32; m * k], vec![0.5f32; k * n], vec![0f32; m * n]);
    let (to, none) = (c.as_mut_ptr(), gemm::Parallelism::None);
    report("gemm crate", (2 * m * k * n * CALLS) as f64, || {
        for _ in 0..CALLS {
            let (columns, depth) = (n as isize, k as isize);
            // SAFETY: the three vectors hold row-major matrices of these extents.
            unsafe {
                #[rustfmt::skip]
                gemm::gemm(
                    m, n, k, to, 1, columns, false, a.as_ptr(), 1, depth, b.as_ptr(), 1, columns, 0.0, 1.0, false, false,
                    false, none,
                );
            }
        }
    });
}

/// Prints the median rate of `run`, which makes `flop` floating-point operations.
fn report(name: &str, flop: f64, mut run: impl FnMut()) {
    run();
    let seconds = |_| {
        let started = Instant::now();
        run();
        started.elapsed().as_secs_f64()
    };
    let mut seconds: Vec<f64> = (0..REPEATS).map(seconds).collect();
    seconds.sort_by(f64::total_cmp);
    println!("{name:<12} {:6.1} GFLOP/s", flop / seconds[REPEATS / 2] * 1e-9);
}
