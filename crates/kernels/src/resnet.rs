//! ResNet-18 as torchvision lays it out: names, shapes and the plan of its blocks, without any arithmetic.
//!
//! He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385, table 1 (18-layer), in torchvision's
//! form: 7x7/2 convolution, batch norm, ReLU, 3x3/2 max-pool with padding 1, four stages of two basic blocks with
//! 64, 128, 256, 512 channels, global average pool. The classification layer `fc` is left out: the output is the
//! 512-d embedding.

/// Width of the embedding.
pub const EMBEDDING_DIM: usize = 512;
/// ImageNet's mean, RGB, for pixels in `[0, 1]`.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation, RGB, for pixels in `[0, 1]`.
pub const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];
/// Added to a batch norm's variance before the root.
pub const BATCH_NORM_EPSILON: f64 = 1e-5;
/// Weight of the new batch in the running statistics.
pub const BATCH_NORM_MOMENTUM: f64 = 0.1;
/// Channels of the four stages.
pub const STAGE_CHANNELS: [usize; 4] = [64, 128, 256, 512];
/// Basic blocks a stage.
pub const BLOCKS_PER_STAGE: usize = 2;

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

/// A basic block: two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicBlock {
    /// The first convolution; it carries the block's stride.
    pub first: ConvBatchNorm,
    /// The second convolution.
    pub second: ConvBatchNorm,
    /// The projection of the shortcut, absent for an identity.
    pub downsample: Option<ConvBatchNorm>,
}

/// The convolution in front of the stages.
pub fn stem() -> ConvBatchNorm {
    ConvBatchNorm {
        conv: "conv1".into(),
        norm: "bn1".into(),
        in_channels: 3,
        out_channels: STAGE_CHANNELS[0],
        kernel: 7,
        stride: 2,
        padding: 3,
    }
}

/// The eight basic blocks in the order of computation.
pub fn blocks() -> Vec<BasicBlock> {
    let mut blocks = Vec::new();
    let mut in_channels = STAGE_CHANNELS[0];
    for (stage, &out_channels) in STAGE_CHANNELS.iter().enumerate() {
        for index in 0..BLOCKS_PER_STAGE {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            let name = format!("layer{}.{index}", stage + 1);
            let conv3x3 = |number: usize, in_channels, stride| ConvBatchNorm {
                conv: format!("{name}.conv{number}"),
                norm: format!("{name}.bn{number}"),
                in_channels,
                out_channels,
                kernel: 3,
                stride,
                padding: 1,
            };
            let downsample = (stride != 1 || in_channels != out_channels).then(|| ConvBatchNorm {
                conv: format!("{name}.downsample.0"),
                norm: format!("{name}.downsample.1"),
                in_channels,
                out_channels,
                kernel: 1,
                stride,
                padding: 0,
            });
            blocks.push(BasicBlock {
                first: conv3x3(1, in_channels, stride),
                second: conv3x3(2, out_channels, 1),
                downsample,
            });
            in_channels = out_channels;
        }
    }
    blocks
}

/// All convolution and batch-norm pairs in torchvision's order of registration.
pub fn layers() -> Vec<ConvBatchNorm> {
    let mut layers = vec![stem()];
    for block in blocks() {
        layers.push(block.first);
        layers.push(block.second);
        layers.extend(block.downsample);
    }
    layers
}

/// Names and shapes of the trained tensors, in torchvision's order: convolution weights `(out, in, k, k)`, batch-norm
/// weights and biases `(channels,)`.
pub fn parameters() -> Vec<(String, Vec<usize>)> {
    let mut parameters = Vec::new();
    for layer in layers() {
        let ConvBatchNorm { conv, norm, in_channels, out_channels, kernel, .. } = layer;
        parameters.push((format!("{conv}.weight"), vec![out_channels, in_channels, kernel, kernel]));
        parameters.push((format!("{norm}.weight"), vec![out_channels]));
        parameters.push((format!("{norm}.bias"), vec![out_channels]));
    }
    parameters
}
