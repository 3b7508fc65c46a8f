//! The encoder's start: a function of the seed and of each tensor's name alone, so the same for every head.

use crate::Result;
use candle_core::{DType, Device, Tensor};
use faceoff_kernels::resnet::{Architecture, Role, TensorPlan};
use faceoff_kernels::{Projection, State};
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

/// A fresh projection.
///
/// Weights are normal with mean 0: of variance `2 / inputs` before a ReLU (He et al., arXiv:1502.01852), `1 / inputs` where nothing
/// follows, so that numbers keep their mean square. Biases are 0.
pub(crate) fn initial_projection(projection: &Projection, seed: u64) -> Result<State> {
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let tensor = match &shape[..] {
            [_, inputs] => {
                let gain = if name.starts_with("hidden") { 2.0 } else { 1.0 };
                normal(seed, &name, &shape, (gain / *inputs as f32).sqrt())?
            }
            _ => Tensor::zeros(shape, DType::F32, &Device::Cpu)?,
        };
        Ok((name, tensor))
    };
    projection.tensors().into_iter().map(tensor).collect()
}

fn kernels(seed: u64, name: &str, shape: &[usize]) -> Result<Tensor> {
    normal(seed, name, shape, (2.0 / (shape[0] * shape[2] * shape[3]) as f32).sqrt())
}

fn normal(seed: u64, name: &str, shape: &[usize], deviation: f32) -> Result<Tensor> {
    let mut random = ChaCha8Rng::from_seed(Sha256::digest(format!("encoder {seed} {name}")).into());
    let mut normal = || -> f32 { StandardNormal.sample(&mut random) };
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| deviation * normal()).collect();
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}
