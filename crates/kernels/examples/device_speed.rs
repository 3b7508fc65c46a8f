//! Speed of the encoder on a device: images per second of whole steps (forward, backward, AdamW) and of inference, and
//! where a step's time goes. `scripts/peer_training.py speed` is the same in PyTorch.
//!
//! usage: `cargo run --release -p faceoff-kernels --features cuda --example device_speed -- cuda 64 64 tf32`
//! (device, side of the images in pixels, images a batch; then `f32` unless stated, and the fastest kernels unless named)

use candle_core::{DType, Device, Tensor};
use faceoff_kernels::resnet::{RESNET18, Role, TensorPlan};
use faceoff_kernels::{AdamWStep, Arithmetic, Encoder, ImageBatch, State, encoder};
use std::time::Instant;

const REPEATS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
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
    let images = ImageBatch::new((0..bytes).map(|i| (i * 31 % 251) as u8).collect(), batch, size_px)?;

    let mut parts = [Vec::new(), Vec::new(), Vec::new()];
    let mut step = 0;
    let mut rates = (Vec::new(), Vec::new());
    for repeat in 0..=REPEATS {
        // The whole, as training runs it: nothing waits for the device but the end.
        let started = Instant::now();
        for _ in 0..steps {
            step += 1;
            train(encoder.as_mut(), &images, step, |_| Ok(()))?;
        }
        device.synchronize()?;
        let seconds = started.elapsed().as_secs_f64();
        let embed_started = Instant::now();
        for _ in 0..steps {
            encoder.forward(&images)?;
        }
        device.synchronize()?;
        let embed_seconds = embed_started.elapsed().as_secs_f64();
        // The first round warms up.
        if repeat > 0 {
            rates.0.push((steps * batch) as f64 / seconds);
            rates.1.push((steps * batch) as f64 / embed_seconds);
            // The parts, waiting for the device after each.
            let mut at = Instant::now();
            step += 1;
            train(encoder.as_mut(), &images, step, |part| {
                device.synchronize()?;
                parts[part].push(at.elapsed().as_secs_f64() * 1e3);
                at = Instant::now();
                Ok(())
            })?;
        }
    }
    println!(
        "{arithmetic}, {batch} images of {size_px} px: step {:.0} images/s, embed {:.0} images/s; \
         one step waited for: forward {:.2} ms, backward {:.2} ms, optimiser {:.2} ms",
        median(&mut rates.0),
        median(&mut rates.1),
        median(&mut parts[0]),
        median(&mut parts[1]),
        median(&mut parts[2]),
    );
    Ok(())
}

/// One step with the embeddings as their own gradient; `done` hears of each part.
fn train(
    encoder: &mut dyn Encoder,
    images: &ImageBatch,
    step: u64,
    mut done: impl FnMut(usize) -> candle_core::Result<()>,
) -> Result<(), Box<dyn std::error::Error>> {
    let (embeddings, tape) = encoder.forward_train(images)?;
    done(0)?;
    let gradients = encoder.backward(tape, &embeddings)?;
    done(1)?;
    let (learning_rate, beta1, beta2, epsilon, weight_decay) = (1e-4, 0.9, 0.999, 1e-8, 0.05);
    encoder.apply(gradients, &AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, step })?;
    done(2)?;
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Weights that are as good as any for timing.
fn start() -> candle_core::Result<State> {
    let tensor = |TensorPlan { name, shape, role }| {
        let tensor = match role {
            Role::Kernels => {
                let deviation = (2.0 / (shape[0] * shape[2] * shape[3]) as f32).sqrt();
                Tensor::randn(0.0, deviation, shape, &Device::Cpu)?
            }
            Role::NormWeight | Role::RunningVariance => Tensor::ones(shape, DType::F32, &Device::Cpu)?,
            Role::NormBias | Role::RunningMean => Tensor::zeros(shape, DType::F32, &Device::Cpu)?,
            Role::Batches => Tensor::new(0i64, &Device::Cpu)?,
        };
        Ok((name, tensor))
    };
    RESNET18.tensors().into_iter().map(tensor).collect()
}
