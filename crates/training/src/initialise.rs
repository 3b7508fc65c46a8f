//! The encoder's start: a function of the seed and of each tensor's name alone, so the same for every head.

use crate::Result;
use candle_core::{DType, Device, Tensor};
use faceoff_kernels::State;
use faceoff_kernels::resnet::{Architecture, Role, TensorPlan};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use sha2::{Digest, Sha256};

/// A fresh encoder with torchvision's names.
///
/// Convolutions: Kaiming-normal with fan-out (He et al., arXiv:1502.01852), standard deviation
/// `sqrt(2 / (out_channels * kernel * kernel))`. Batch norms: weight 1, bias 0, mean 0, variance 1.
pub fn initial_encoder(architecture: &Architecture, seed: u64) -> Result<State> {
    let tensor = |TensorPlan { name, shape, role }| {
        let tensor = match role {
            Role::Kernels => kernels(seed, &name, &shape)?,
            Role::NormWeight | Role::RunningVariance => Tensor::ones(shape, DType::F32, &Device::Cpu)?,
            Role::NormBias | Role::RunningMean => Tensor::zeros(shape, DType::F32, &Device::Cpu)?,
            Role::Batches => Tensor::new(0i64, &Device::Cpu)?,
        };
        Ok((name, tensor))
    };
    architecture.tensors().into_iter().map(tensor).collect()
}

fn kernels(seed: u64, name: &str, shape: &[usize]) -> Result<Tensor> {
    let deviation = (2.0 / (shape[0] * shape[2] * shape[3]) as f32).sqrt();
    let mut random = ChaCha8Rng::from_seed(Sha256::digest(format!("encoder {seed} {name}")).into());
    let mut normal = || -> f32 { StandardNormal.sample(&mut random) };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| deviation * normal()).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
