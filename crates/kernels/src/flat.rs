//! What the encoders written for CPUs and for CUDA share: all trained tensors in one flat buffer, all running statistics in
//! another, and their way in and out under torchvision's names.

use crate::resnet::{Architecture, Block, ConvBatchNorm, Convolution, Map};
use crate::seam::{Owned, Owner, check_gradient};
use crate::state::{checked, checked_moments};
use crate::{AdamWStep, Encoder, Error, Gradients, ImageBatch, Inputs, Result, State, Tape};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::ops::Range;

/// Where numbers lie and who computes with them.
pub(crate) trait Machine: Sized + Send {
    /// Numbers in its memory.
    type Buffer: Send + 'static;
    /// What the backward pass needs of a batch.
    type Tape: Send + 'static;

    /// Length of a convolution's weights in its own layout.
    fn packed_len(&self, conv: &Convolution) -> usize;
    /// torchvision's `(out, in, kernel, kernel)` to its own layout.
    fn pack(&self, conv: &Convolution, weights: &[f32], packed: &mut [f32]);
    /// The way back.
    fn unpack(&self, conv: &Convolution, packed: &[f32]) -> Vec<f32>;
    /// Numbers to its memory.
    fn upload(&self, values: Vec<f32>) -> Result<Self::Buffer>;
    /// The way back.
    fn download(&self, buffer: &Self::Buffer) -> Result<Vec<f32>>;

    /// Embeddings with the batch's statistics, which move the running ones.
    fn forward_train(network: &mut Network<Self>, images: &ImageBatch) -> Result<(Tensor, Self::Tape)>;
    /// Embeddings with the running statistics.
    fn forward(network: &Network<Self>, images: &ImageBatch) -> Result<Tensor>;
    /// Gradients of all parameters, laid out as they are, from that of the embeddings.
    fn backward(network: &Network<Self>, tape: Self::Tape, grad: &Tensor) -> Result<Self::Buffer>;
    /// One step over all parameters and their moments.
    fn adamw(
        network: &mut Network<Self>,
        moments: [&mut Self::Buffer; 2],
        gradients: Self::Buffer,
        step: &AdamWStep,
    ) -> Result<()>;
}

/// A convolution and its batch norm, and where their tensors lie.
pub(crate) struct Layer {
    pub(crate) plan: ConvBatchNorm,
    /// The convolution's weights among the parameters.
    pub(crate) weights: Range<usize>,
    /// The batch norm's weight among the parameters, and its bias right behind.
    pub(crate) norm: [Range<usize>; 2],
    /// The running mean among the statistics, and the variance right behind.
    pub(crate) running: [Range<usize>; 2],
    pub(crate) batches: i64,
}

/// All layers in torchvision's order, and their tensors.
pub(crate) struct Network<M: Machine> {
    pub(crate) machine: M,
    pub(crate) layers: Vec<Layer>,
    pub(crate) blocks: Vec<Block>,
    /// Width of an embedding.
    pub(crate) dim: usize,
    /// The first so many parameters are convolutions' weights, which decay.
    pub(crate) decayed: usize,
    pub(crate) parameters: M::Buffer,
    pub(crate) running: M::Buffer,
}

impl<M: Machine> Network<M> {
    pub(crate) fn conv(&self, layer: usize) -> Convolution {
        self.layers[layer].plan.shape
    }

    /// The extents of the first block's input and of every block's output, for images of extent `map`.
    pub(crate) fn maps(&self, map: Map) -> Vec<Map> {
        let mut maps = vec![self.conv(0).output(map).pooled()];
        for block in &self.blocks {
            maps.push(self.maps_within(block, maps[maps.len() - 1])[block.layers().count()]);
        }
        maps
    }

    /// The extents of the input of a block's first layer, `map`, and of the output of each of its layers.
    pub(crate) fn maps_within(&self, block: &Block, map: Map) -> Vec<Map> {
        let mut maps = vec![map];
        block.layers().for_each(|layer| maps.push(self.conv(layer).output(maps[maps.len() - 1])));
        maps
    }

    /// Every batch norm needs at least two values a channel.
    fn check_batch(&self, map: Map) -> Result<()> {
        let stem = self.conv(0).output(map);
        let mut at = stem.pooled();
        let outputs = self.blocks.iter().flat_map(Block::layers).map(|layer| {
            at = self.conv(layer).output(at);
            (layer, at)
        });
        match std::iter::once((0, stem)).chain(outputs).find(|(_, map)| map.pixels() < 2) {
            Some((layer, _)) => Err(Error::NoVariance(self.layers[layer].plan.norm.clone())),
            None => Ok(()),
        }
    }
}

/// An encoder over flat buffers.
pub(crate) struct FlatEncoder<M: Machine> {
    network: Network<M>,
    architecture: Architecture,
    /// First and second moments, laid out as the parameters.
    moments: [M::Buffer; 2],
    owner: Owner,
}

/// Two ranges of `len` numbers, one right behind the other, from `end` on, which moves behind them.
fn pair(end: &mut usize, len: usize) -> [Range<usize>; 2] {
    *end += 2 * len;
    [*end - 2 * len..*end - len, *end - len..*end]
}

impl<M: Machine> FlatEncoder<M> {
    /// The encoder of `state`, computed by `machine`.
    pub(crate) fn new(architecture: &Architecture, state: &State, machine: M) -> Result<Self> {
        let tensors = checked(architecture, state)?;
        let plan = architecture.plan();
        let decayed = plan.layers.iter().map(|plan| machine.packed_len(&plan.shape)).sum();
        let (mut weights, mut norm, mut running) = (0, decayed, 0);
        let mut layers = Vec::new();
        for plan in plan.layers {
            let (start, channels) = (weights, plan.shape.out_channels);
            weights += machine.packed_len(&plan.shape);
            layers.push(Layer {
                weights: start..weights,
                norm: pair(&mut norm, channels),
                running: pair(&mut running, channels),
                batches: tensors[&format!("{}.num_batches_tracked", plan.norm)].to_scalar()?,
                plan,
            });
        }
        let parameters = machine.upload(packed(&machine, &layers, &tensors, "")?)?;
        let zeros = || machine.upload(vec![0.0; norm]);
        let moments = [zeros()?, zeros()?];
        let mut statistics = Vec::with_capacity(running);
        for Layer { plan, .. } in &layers {
            for part in ["running_mean", "running_var"] {
                statistics.extend(numbers(&tensors[&format!("{}.{part}", plan.norm)])?);
            }
        }
        let running = machine.upload(statistics)?;
        let (blocks, dim) = (plan.blocks, architecture.dim());
        let network = Network { machine, layers, blocks, dim, decayed, parameters, running };
        Ok(Self { network, architecture: *architecture, moments, owner: Owner::new() })
    }

    /// The tensors of `values`, laid out as the parameters, under torchvision's names with `suffix`, three a layer.
    fn named(&self, values: &M::Buffer, suffix: &str) -> Result<State> {
        let values = self.network.machine.download(values)?;
        let mut named = State::new();
        for Layer { plan, weights, norm, .. } in &self.network.layers {
            let unpacked = self.network.machine.unpack(&plan.shape, &values[weights.clone()]);
            let Convolution { in_channels, out_channels, kernel, .. } = plan.shape;
            let weights = Tensor::from_vec(unpacked, (out_channels, in_channels, kernel, kernel), &Device::Cpu)?;
            named.push((format!("{}.weight{suffix}", plan.conv), weights));
            for (part, range) in ["weight", "bias"].into_iter().zip(norm) {
                let values = Tensor::new(&values[range.clone()], &Device::Cpu)?;
                named.push((format!("{}.{part}{suffix}", plan.norm), values));
            }
        }
        Ok(named)
    }
}

/// Tensors under torchvision's names with `suffix`, laid out as the parameters.
fn packed<M: Machine>(
    machine: &M,
    layers: &[Layer],
    tensors: &HashMap<String, Tensor>,
    suffix: &str,
) -> Result<Vec<f32>> {
    let tensor = |name: &str, part: &str| numbers(&tensors[&format!("{name}.{part}{suffix}")]);
    let mut values = vec![0.0; layers.last().map_or(0, |layer| layer.norm[1].end)];
    for Layer { plan, weights, norm, .. } in layers {
        machine.pack(&plan.shape, &tensor(&plan.conv, "weight")?, &mut values[weights.clone()]);
        for (part, range) in ["weight", "bias"].into_iter().zip(norm) {
            values[range.clone()].copy_from_slice(&tensor(&plan.norm, part)?);
        }
    }
    Ok(values)
}

/// A tensor's numbers in f32.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

impl<M: Machine> Encoder for FlatEncoder<M> {
    fn forward_train(&mut self, inputs: &Inputs) -> Result<(Tensor, Tape)> {
        let images = inputs.images()?;
        self.network.check_batch(Map::of(images))?;
        let (embeddings, tape) = M::forward_train(&mut self.network, images)?;
        self.network.layers.iter_mut().for_each(|layer| layer.batches += 1);
        Ok((embeddings, Tape(Owned::new(self.owner, (images.count(), tape)))))
    }

    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients> {
        let (images, tape): (usize, M::Tape) = tape.0.open(self.owner)?;
        check_gradient(grad, [images, self.network.dim])?;
        Ok(Gradients(Owned::new(self.owner, M::backward(&self.network, tape, grad)?)))
    }

    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()> {
        let gradients: M::Buffer = gradients.0.open(self.owner)?;
        M::adamw(&mut self.network, self.moments.each_mut(), gradients, step)
    }

    fn forward(&self, inputs: &Inputs) -> Result<Tensor> {
        M::forward(&self.network, inputs.images()?)
    }

    fn dim(&self) -> usize {
        self.network.dim
    }

    fn state(&self) -> Result<State> {
        let running = self.network.machine.download(&self.network.running)?;
        let mut trained = self.named(&self.network.parameters, "")?.into_iter();
        let mut state = State::new();
        for Layer { plan, running: places, batches, .. } in &self.network.layers {
            state.extend(trained.by_ref().take(3));
            for (part, range) in ["running_mean", "running_var"].into_iter().zip(places) {
                let values = Tensor::new(&running[range.clone()], &Device::Cpu)?;
                state.push((format!("{}.{part}", plan.norm), values));
            }
            let batches = Tensor::new(*batches, &Device::Cpu)?;
            state.push((format!("{}.num_batches_tracked", plan.norm), batches));
        }
        Ok(state)
    }

    fn optimizer_state(&self) -> Result<State> {
        let [m, v] = &self.moments;
        let pairs = self.named(m, ".m")?.into_iter().zip(self.named(v, ".v")?);
        Ok(pairs.flat_map(|(m, v)| [m, v]).collect())
    }

    fn load_optimizer_state(&mut self, state: &State) -> Result<()> {
        let tensors = checked_moments(state, &self.architecture.parameters())?;
        let Network { machine, layers, .. } = &self.network;
        for (moment, suffix) in self.moments.iter_mut().zip([".m", ".v"]) {
            *moment = machine.upload(packed(machine, layers, &tensors, suffix)?)?;
        }
        Ok(())
    }

    fn named_gradients(&self, gradients: &Gradients) -> Result<State> {
        self.named(gradients.0.view::<M::Buffer>(self.owner)?, "")
    }
}
