//! The encoder's start: a function of the seed and of each tensor's name alone, so the same for every head.

use crate::Result;
use candle_core::{Device, Tensor};
use faceoff_kernels::{State, resnet};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

/// A fresh ResNet-18 with torchvision's names.
///
/// Convolutions: Kaiming-normal with fan-out (He et al., arXiv:1502.01852), standard deviation
/// `sqrt(2 / (out_channels * kernel * kernel))`. Batch norms: weight 1, bias 0, mean 0, variance 1.
pub fn initial_encoder(seed: u64) -> Result<State> {
    let cpu = Device::Cpu;
    let mut state = State::new();
    for layer in resnet::layers() {
        let name = format!("{}.weight", layer.conv);
        let (out_channels, in_channels, kernel) = (layer.out_channels, layer.in_channels, layer.kernel);
        let deviation = (2.0 / (out_channels * kernel * kernel) as f32).sqrt();
        let mut random = ChaCha8Rng::from_seed(Sha256::digest(format!("encoder {seed} {name}")).into());
        let values: Vec<f32> = (0..out_channels * in_channels * kernel * kernel)
            .map(|_| {
                let normal: f32 = StandardNormal.sample(&mut random);
                deviation * normal
            })
            .collect();
        state.push((name, Tensor::from_vec(values, (out_channels, in_channels, kernel, kernel), &cpu)?));
        for (suffix, value) in [("weight", 1f32), ("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)]
        {
            state.push((format!("{}.{suffix}", layer.norm), Tensor::full(value, out_channels, &cpu)?));
        }
        state.push((format!("{}.num_batches_tracked", layer.norm), Tensor::new(0i64, &cpu)?));
    }
    Ok(state)
}
