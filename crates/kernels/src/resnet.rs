//! ResNets as torchvision lays them out: names, shapes and the plan of the blocks, without any arithmetic.
//!
//! He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385, table 1, in torchvision's form: a
//! convolution, batch norm and ReLU over the pixels, 3x3/2 max-pool with padding 1, stages of blocks, global average
//! pool. The classification layer `fc` is left out: the output is the embedding, as wide as the last stage.

use crate::{Error, ImageBatch, Result};
use std::ops::RangeInclusive;

/// ImageNet's mean, RGB, for pixels in `[0, 1]`.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation, RGB, for pixels in `[0, 1]`.
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
/// Added to a batch norm's variance before the root.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Weight of the new batch in the running statistics.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// An encoder described by its blocks: what every implementation computes, and every list of its tensors, follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Architecture {
    /// torchvision's name.
    pub name: &'static str,
    /// The convolution over the pixels.
    pub stem: Convolution,
    /// Of what its blocks are.
    pub block: BlockKind,
    /// The stages behind the max-pool, in the order of computation.
    pub stages: &'static [Stage],
    /// Whether maps are smoothed before the convolutions of the blocks that halve them: BlurPool (Zhang, "Making convolutional networks
    /// shift-invariant again", arXiv:1904.11486), as MosaicML Composer's `blur_first` has it. The filter of a channel is
    /// `[1, 2, 1]` by `[1, 2, 1]`, divided by 16, with stride 1 and a border of zeros; so it is its own adjoint. It has no parameters.
    pub blur_pool: bool,
}

/// The convolutions of a block, besides those of its shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockKind {
    /// Two of 3x3, of which the first carries the block's stride.
    Basic,
    /// 1x1 to a quarter of the block's channels, 3x3 that carries the stride, 1x1 to all of them. (torchvision's, called V1.5; in the paper
    /// the first carries the stride.)
    Bottleneck,
}

/// Blocks over maps of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stage {
    /// Number of blocks.
    pub blocks: usize,
    /// Output channels of each.
    pub channels: usize,
    /// Stride of the first.
    pub stride: usize,
}

/// Table 1, 18-layer.
pub static RESNET18: Architecture = Architecture {
    name: "resnet18",
    stem: STEM,
    block: BlockKind::Basic,
    stages: &stages([2, 2, 2, 2], 64),
    blur_pool: false,
};
/// Table 1, 34-layer.
pub static RESNET34: Architecture = Architecture { name: "resnet34", stages: &stages([3, 4, 6, 3], 64), ..RESNET18 };
/// Table 1, 50-layer.
pub static RESNET50: Architecture =
    Architecture { name: "resnet50", block: BlockKind::Bottleneck, stages: &stages([3, 4, 6, 3], 256), ..RESNET18 };
/// All architectures.
pub static ARCHITECTURES: [&Architecture; 3] = [&RESNET18, &RESNET34, &RESNET50];

const STEM: Convolution = Convolution::new([3, 64], 7, 2);

/// Each stage has twice the channels of the one before.
const fn stages([first, second, third, fourth]: [usize; 4], channels: usize) -> [Stage; 4] {
    [
        Stage { blocks: first, channels, stride: 1 },
        Stage { blocks: second, channels: 2 * channels, stride: 2 },
        Stage { blocks: third, channels: 4 * channels, stride: 2 },
        Stage { blocks: fourth, channels: 8 * channels, stride: 2 },
    ]
}

/// The architecture of a name, or an error with the known ones.
pub fn architecture(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.into_iter().find(|architecture| architecture.name == name).ok_or_else(|| Error::UnknownArchitecture {
        name: name.into(),
        known: ARCHITECTURES.map(|architecture| architecture.name).join(", "),
    })
}

/// Extent of a map, without its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Map {
    pub(crate) images: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
}

impl Map {
    pub(crate) fn of(images: &ImageBatch) -> Self {
        Self { images: images.count(), height: images.size_px(), width: images.size_px() }
    }

    pub(crate) fn pixels(&self) -> usize {
        self.images * self.height * self.width
    }

    /// That of the max-pooled map.
    pub(crate) fn pooled(self) -> Self {
        Self { height: self.height.div_ceil(2), width: self.width.div_ceil(2), ..self }
    }
}

/// A convolution's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Input channels.
    pub in_channels: usize,
    /// Output channels.
    pub out_channels: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zero padding on each side.
    pub padding: usize,
}

impl Convolution {
    /// Padded by half the kernel.
    pub(crate) const fn new([in_channels, out_channels]: [usize; 2], kernel: usize, stride: usize) -> Self {
        Self { in_channels, out_channels, kernel, stride, padding: kernel / 2 }
    }

    pub(crate) fn output(&self, input: Map) -> Map {
        let side = |len: usize| (len + 2 * self.padding - self.kernel) / self.stride + 1;
        Map { images: input.images, height: side(input.height), width: side(input.width) }
    }

    pub(crate) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }
}

/// A convolution without bias followed by a batch norm, as it stands in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvBatchNorm {
    /// Name of the convolution, e.g. `layer2.0.downsample.0`.
    pub conv: String,
    /// Name of the batch norm, e.g. `layer2.0.downsample.1`.
    pub norm: String,
    /// The convolution's shape.
    pub shape: Convolution,
}

/// A block: two or more convolutions, one behind the other, and a shortcut, which is a 1x1 convolution where the shape changes.
/// Layers are places in [`Plan::layers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The first convolution; the next ones follow it.
    pub first: usize,
    /// The last convolution, behind which the shortcut is added.
    pub last: usize,
    /// The projection of the shortcut, absent for an identity.
    pub downsample: Option<usize>,
    /// The convolution with a stride whose input is smoothed first, as is that of the shortcut's then; absent without BlurPool.
    pub blurred: Option<usize>,
}

impl Block {
    /// Its convolutions without the shortcut's, in the order of computation.
    pub fn layers(&self) -> RangeInclusive<usize> {
        self.first..=self.last
    }
}

/// Layers and blocks of an architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// All convolutions with their batch norms, in torchvision's order of registration; the stem is the first.
    pub layers: Vec<ConvBatchNorm>,
    /// The blocks in the order of computation.
    pub blocks: Vec<Block>,
}

/// What a tensor of a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A convolution's weights, `(out, in, kernel, kernel)`; trained.
    Kernels,
    /// A batch norm's weight, `(channels,)`; trained.
    NormWeight,
    /// A batch norm's bias, `(channels,)`; trained.
    NormBias,
    /// A batch norm's running mean, `(channels,)`.
    RunningMean,
    /// A batch norm's running variance, `(channels,)`.
    RunningVariance,
    /// The number of batches that a batch norm has seen: an i64 of no dimensions.
    Batches,
}

/// A tensor of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorPlan {
    /// torchvision's name.
    pub name: String,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// What it is.
    pub role: Role,
}

impl Architecture {
    /// The same with BlurPool, or without.
    pub fn with_blur_pool(self, blur_pool: bool) -> Self {
        Self { blur_pool, ..self }
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.stages.last().map_or(self.stem.out_channels, |stage| stage.channels)
    }

    /// Its layers and blocks.
    pub fn plan(&self) -> Plan {
        let mut layers = vec![ConvBatchNorm { conv: "conv1".into(), norm: "bn1".into(), shape: self.stem }];
        let mut blocks = Vec::new();
        let mut ins = self.stem.out_channels;
        for (stage, &Stage { blocks: count, channels, stride }) in self.stages.iter().enumerate() {
            for index in 0..count {
                let stride = if index == 0 { stride } else { 1 };
                let mut layer = |names: [&str; 2], channels: [usize; 2], kernel, stride| {
                    let [conv, norm] = names.map(|name| format!("layer{}.{index}.{name}", stage + 1));
                    layers.push(ConvBatchNorm { conv, norm, shape: Convolution::new(channels, kernel, stride) });
                    layers.len() - 1
                };
                let inner = channels / 4;
                let [first, last] = match self.block {
                    BlockKind::Basic => [
                        layer(["conv1", "bn1"], [ins, channels], 3, stride),
                        layer(["conv2", "bn2"], [channels, channels], 3, 1),
                    ],
                    BlockKind::Bottleneck => {
                        let first = layer(["conv1", "bn1"], [ins, inner], 1, 1);
                        layer(["conv2", "bn2"], [inner, inner], 3, stride);
                        [first, layer(["conv3", "bn3"], [inner, channels], 1, 1)]
                    }
                };
                let downsample = (stride != 1 || ins != channels)
                    .then(|| layer(["downsample.0", "downsample.1"], [ins, channels], 1, stride));
                let mut strided = (first..=last).filter(|&layer| layers[layer].shape.stride != 1);
                let blurred = strided.next().filter(|_| self.blur_pool);
                blocks.push(Block { first, last, downsample, blurred });
                ins = channels;
            }
        }
        Plan { layers, blocks }
    }

    /// Every tensor of a state, in torchvision's order.
    pub fn tensors(&self) -> Vec<TensorPlan> {
        let of_layer = |ConvBatchNorm { conv, norm, shape }: ConvBatchNorm| {
            let Convolution { in_channels, out_channels, kernel, .. } = shape;
            let of_norm = |part: &str, role| {
                let shape = if role == Role::Batches { vec![] } else { vec![out_channels] };
                TensorPlan { name: format!("{norm}.{part}"), shape, role }
            };
            let shape = vec![out_channels, in_channels, kernel, kernel];
            [
                TensorPlan { name: format!("{conv}.weight"), shape, role: Role::Kernels },
                of_norm("weight", Role::NormWeight),
                of_norm("bias", Role::NormBias),
                of_norm("running_mean", Role::RunningMean),
                of_norm("running_var", Role::RunningVariance),
                of_norm("num_batches_tracked", Role::Batches),
            ]
        };
        self.plan().layers.into_iter().flat_map(of_layer).collect()
    }

    /// Names and shapes of the trained tensors, in torchvision's order.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let is_trained = |plan: &TensorPlan| matches!(plan.role, Role::Kernels | Role::NormWeight | Role::NormBias);
        self.tensors().into_iter().filter(is_trained).map(|plan| (plan.name, plan.shape)).collect()
    }
}
