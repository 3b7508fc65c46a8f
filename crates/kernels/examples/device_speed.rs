//! Speed of the encoder on a device: images per second of whole steps (forward, backward, AdamW) and of inference.
//! `scripts/peer_training.py speed` is the same in PyTorch.
//!
//! usage: `cargo run --release -p faceoff-kernels --features cuda --example device_speed -- cuda 64 64 tf32`
//! (device, side of the images in pixels, images a batch; then `f32` unless stated, and the fastest kernels unless named)

use candle_core::{Device, Tensor};
use faceoff_kernels::resnet::{RESNET18, Role, TensorPlan};
use faceoff_kernels::{AdamWStep, Arithmetic, ImageBatch, State, encoder};
use std::error::Error;
use std::time::Instant;

const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, size_px, batch, how @ ..] = &arguments[..] else {
        return Err("give device (cpu, cuda or metal), side of the images and images a batch".into());
    };
    let (size_px, batch): (usize, usize) = (size_px.parse()?, batch.parse()?);
    let device = match device.as_str() {
        "cuda" => Device::new_cuda(0)?,
        "metal" => Device::new_metal(0)?,
        "cpu" => Device::Cpu,
        other => return Err(format!("`{other}` is no device; give cpu, cuda or metal").into()),
    };
    let steps = if device.is_cpu() { 2 } else { 100 };
    let precision = how.first().map_or("f32", String::as_str);
    let arithmetic = Arithmetic::resolve(&device, how.get(1).map(String::as_str), precision)?;
    let mut encoder = encoder(&RESNET18, &start()?, &arithmetic)?;
    let bytes = batch * size_px * size_px * 3;
    let images = ImageBatch::new((0..bytes).map(|i| (i * 31 % 251) as u8).collect(), batch, size_px)?.into();

    // The median of the rounds after the first. As in training, nothing waits for the device but a round's end.
    let rate = |run: &mut dyn FnMut() -> faceoff_kernels::Result<()>| -> Result<f64, Box<dyn Error>> {
        let mut rates = Vec::new();
        for round in 0..=ROUNDS {
            let started = Instant::now();
            (0..steps).try_for_each(|_| run())?;
            device.synchronize()?;
            if round > 0 {
                rates.push((steps * batch) as f64 / started.elapsed().as_secs_f64());
            }
        }
        rates.sort_by(f64::total_cmp);
        Ok(rates[ROUNDS / 2])
    };
    let (learning_rate, beta1, beta2, epsilon, weight_decay, mut step) = (1e-4, 0.9, 0.999, 1e-8, 0.05, 0);
    let trained = rate(&mut || {
        step += 1;
        // The embeddings serve as their own gradient.
        let (embeddings, tape) = encoder.forward_train(&images)?;
        let gradients = encoder.backward(tape, &embeddings)?;
        encoder.apply(gradients, &AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, step })
    })?;
    let embedded = rate(&mut || encoder.forward(&images).map(drop))?;
    println!("{arithmetic}, {batch} images of {size_px} px: step {trained:.0} images/s, embed {embedded:.0} images/s");
    Ok(())
}

/// Weights that are as good as any for timing.
fn start() -> candle_core::Result<State> {
    let tensor = |TensorPlan { name, shape, role }| {
        let tensor = match role {
            Role::Batches => Tensor::new(0i64, &Device::Cpu)?,
            _ => Tensor::rand(0f32, 0.1, shape, &Device::Cpu)?,
        };
        Ok((name, tensor))
    };
    RESNET18.tensors().into_iter().map(tensor).collect()
}
