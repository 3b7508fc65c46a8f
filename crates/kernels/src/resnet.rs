//! ResNets of basic blocks as torchvision lays them out: names, shapes and the plan of the blocks, without any arithmetic.
//!
//! He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385, table 1, in torchvision's form: a
//! convolution, batch norm and ReLU over the pixels, 3x3/2 max-pool with padding 1, stages of basic blocks, global average
//! pool. The classification layer `fc` is left out: the output is the embedding, as wide as the last stage.

use crate::{Error, Result};

/// ImageNet's mean, RGB, for pixels in `[0, 1]`.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation, RGB, for pixels in `[0, 1]`.
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
/// Added to a batch norm's variance before the root.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Weight of the new batch in the running statistics.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;

/// An encoder described by its blocks: what every implementation computes, and every list of its tensors, follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// torchvision's name.
    pub name: &'static str,
    /// The convolution over the pixels.
    pub stem: Stem,
    /// The stages behind the max-pool, in the order of computation.
    pub stages: &'static [Stage],
}

/// The convolution over the pixels; its padding is half its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stem {
    /// Output channels.
    pub channels: usize,
    /// Side of the square kernel.
    pub kernel: usize,
    /// Stride in both directions.
    pub stride: usize,
}

/// Basic blocks over maps of one size.
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
pub static RESNET18: Architecture = Architecture { name: "resnet18", stem: STEM, stages: &stages([2, 2, 2, 2]) };
/// Table 1, 34-layer.
pub static RESNET34: Architecture = Architecture { name: "resnet34", stem: STEM, stages: &stages([3, 4, 6, 3]) };
/// All architectures.
pub static ARCHITECTURES: [&Architecture; 2] = [&RESNET18, &RESNET34];

const STEM: Stem = Stem { channels: 64, kernel: 7, stride: 2 };

const fn stages([first, second, third, fourth]: [usize; 4]) -> [Stage; 4] {
    [
        Stage { blocks: first, channels: 64, stride: 1 },
        Stage { blocks: second, channels: 128, stride: 2 },
        Stage { blocks: third, channels: 256, stride: 2 },
        Stage { blocks: fourth, channels: 512, stride: 2 },
    ]
}

/// The architecture of a name, or an error with the known ones.
pub fn architecture(name: &str) -> Result<&'static Architecture> {
    ARCHITECTURES.into_iter().find(|architecture| architecture.name == name).ok_or_else(|| Error::UnknownArchitecture {
        name: name.into(),
        known: ARCHITECTURES.map(|architecture| architecture.name).join(", "),
    })
}

/// A convolution without bias followed by a batch norm, as it stands in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvBatchNorm {
    /// Name of the convolution, e.g. `layer2.0.downsample.0`.
    pub conv: String,
    /// Name of the batch norm, e.g. `layer2.0.downsample.1`.
    pub norm: String,
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

impl ConvBatchNorm {
    /// Padded by half the kernel; `names` are those of the convolution and of the batch norm.
    fn new([conv, norm]: [String; 2], channels: [usize; 2], kernel: usize, stride: usize) -> Self {
        let [in_channels, out_channels] = channels;
        Self { conv, norm, in_channels, out_channels, kernel, stride, padding: kernel / 2 }
    }
}

/// A basic block: two 3x3 convolutions, of which the first carries the block's stride, and a shortcut, which is a 1x1
/// convolution where the shape changes. Layers are places in [`Plan::layers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BasicBlock {
    /// The first convolution.
    pub first: usize,
    /// The second convolution.
    pub second: usize,
    /// The projection of the shortcut, absent for an identity.
    pub downsample: Option<usize>,
}

/// Layers and blocks of an architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// All convolutions with their batch norms, in torchvision's order of registration; the stem is the first.
    pub layers: Vec<ConvBatchNorm>,
    /// The blocks in the order of computation.
    pub blocks: Vec<BasicBlock>,
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

impl Role {
    /// Whether training changes it along a gradient.
    pub fn is_trained(self) -> bool {
        matches!(self, Self::Kernels | Self::NormWeight | Self::NormBias)
    }
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
    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.stages.last().map_or(self.stem.channels, |stage| stage.channels)
    }

    /// Its layers and blocks.
    pub fn plan(&self) -> Plan {
        let Stem { channels, kernel, stride } = self.stem;
        let mut layers = vec![ConvBatchNorm::new(["conv1".into(), "bn1".into()], [3, channels], kernel, stride)];
        let mut blocks = Vec::new();
        let mut ins = channels;
        for (stage, &Stage { blocks: count, channels, stride }) in self.stages.iter().enumerate() {
            for index in 0..count {
                let stride = if index == 0 { stride } else { 1 };
                let mut layer = |names: [&str; 2], ins, kernel, stride| {
                    let names = names.map(|name| format!("layer{}.{index}.{name}", stage + 1));
                    layers.push(ConvBatchNorm::new(names, [ins, channels], kernel, stride));
                    layers.len() - 1
                };
                blocks.push(BasicBlock {
                    first: layer(["conv1", "bn1"], ins, 3, stride),
                    second: layer(["conv2", "bn2"], channels, 3, 1),
                    downsample: (stride != 1 || ins != channels)
                        .then(|| layer(["downsample.0", "downsample.1"], ins, 1, stride)),
                });
                ins = channels;
            }
        }
        Plan { layers, blocks }
    }

    /// Every tensor of a state, in torchvision's order.
    pub fn tensors(&self) -> Vec<TensorPlan> {
        let of_layer = |layer: ConvBatchNorm| {
            let ConvBatchNorm { conv, norm, in_channels, out_channels, kernel, .. } = layer;
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
        let trained = self.tensors().into_iter().filter(|tensor| tensor.role.is_trained());
        trained.map(|TensorPlan { name, shape, .. }| (name, shape)).collect()
    }
}
