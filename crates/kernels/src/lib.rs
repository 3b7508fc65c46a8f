//! The encoder's arithmetic: a ResNet forward and backward.
//!
//! Everything outside this crate sees the encoder through one seam, the trait [`Encoder`]. What is computed is a value, an
//! [`Architecture`]; what computes it is another, an [`Arithmetic`]; nothing is read from the environment. Three
//! implementations follow the description: [`PortableEncoder`] (Candle's operators and autograd; CPU, CUDA, Metal; the
//! oracle of the tests), one written by hand for CPUs (folder `fast/`), and one with own CUDA kernels (feature `cuda`,
//! folder `cuda/`). A fourth, [`ProjectionEncoder`], projects rows of numbers that stand for images. The head and the loss run
//! under Candle's autograd outside.
//!
//! # The plan of a fast step
//!
//! Maps are f32 in NHWC: all channels of a pixel lie together, so a vector register holds channels. `z` is what a
//! convolution gives, before its batch norm. A batch norm never makes a map of its own: forward it is `z * scale + shift`,
//! backward it is `k1 g + k2 z + k3`, a few numbers a channel, which the neighbouring operators apply while they read.
//! Only three kinds of maps are ever stored: `z` of every convolution, `out` of every block, and gradients `g` behind a
//! ReLU.
//!
//! ```text
//! forward   pixels -> normalised images with a border -> stem z -> max-pool -> out
//!           block:  out -> conv1 z1 -> conv2 z2 (-> projection zp) -> next out
//! backward  block:  g -> dW2, g1 -> dW1, g of the block before (-> dWp)
//!           stem:   g of the pooled map -> dW
//! ```
//!
//! | operator | does while it reads | does while it writes |
//! |---|---|---|
//! | normalised images | u8 to f32, mean and deviation | the border that the stem's padding needs |
//! | convolution, forward | batch norm and ReLU of the map before | sums of `z` and `z^2` for its own batch norm |
//! | max-pool | batch norm and ReLU of the stem | maximum, its place, and the `z` it comes from |
//! | end of a block | both batch norms, the shortcut | sum and ReLU |
//! | gradient of a convolution's input | backward of its own batch norm | the ReLU's mask, the shortcut's sum, and the two sums that the batch norm before needs |
//! | gradient of a convolution's weights | batch norm and ReLU of its input; backward of its own batch norm | - |
//! | gradient of the stem's weights | backward of its batch norm and of the max-pool | - |
//! | AdamW | - | weights and both moments in one pass |
//!
//! # Where what is
//!
//! | file of `fast/` | what |
//! |---|---|
//! | `network` | the step: which operator on which map |
//! | `shape` | the layout of weights |
//! | `algorithm`, `conv` | what an algorithm for convolutions computes; the choice of one |
//! | `winograd` | 3x3 with stride 1: F(4x4, 3x3) |
//! | `positions` | maps of a few pixels: a product for each pixel and tap |
//! | `gather` | everything else: patches of a strip (im2col) |
//! | `stem` | 7x7 over three channels, without patches |
//! | `gemm` | the one matrix micro-kernel under all of them |
//! | `read`, `write` | what happens while a convolution reads and writes |
//! | `norm`, `pool`, `blur`, `optimizer` | batch norm's statistics, pooling, BlurPool, AdamW |
//! | `simd` | instruction sets: AVX-512, AVX2 with FMA, NEON, and what the compiler makes of four lanes |
//! | `arena` | buffers that are kept between steps |
//! | `operators` | the operators one by one, for benches |
//!
//! `flat` holds what the encoders for CPUs and CUDA share: one buffer of all parameters and its way in and out.
//!
//! The algorithms are written once, over [`pulp`]'s vectors. Work is cut into pieces whose number depends on shapes alone
//! and reduced in a fixed order: the number of threads changes no bit of the result. (Another instruction set does: its
//! vectors are of another length.) `docs/performance.md` has the measurements.

mod adamw;
mod arithmetic;
mod bf16;
#[cfg(feature = "cuda")]
mod cuda;
mod error;
mod fast;
mod flat;
mod paced;
mod portable;
mod projection;
pub mod resnet;
mod seam;
mod state;

pub use adamw::{AdamW, AdamWStep};
use arithmetic::Kernels;
pub use arithmetic::{Arithmetic, Precision};
use candle_core::DType;
pub use error::Error;
pub use fast::{InstructionSet, Operator, matrix_products};
use flat::FlatEncoder;
pub use paced::PacedEncoder;
pub use portable::PortableEncoder;
pub use projection::{Projection, ProjectionEncoder};
pub use resnet::{Architecture, architecture};
pub use seam::{Encoder, Gradients, ImageBatch, Inputs, RowBatch, State, Tape};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The encoder of `state` (torchvision's names and shapes), as `arithmetic` computes it.
pub fn encoder(architecture: &Architecture, state: &State, arithmetic: &Arithmetic) -> Result<Box<dyn Encoder>> {
    #[cfg(feature = "cuda")]
    if let candle_core::Device::Cuda(device) = arithmetic.device() {
        cuda::keep_memory(device)?;
        if arithmetic.kernels == Kernels::Cuda {
            check_for_cuda(architecture)?;
            return cuda::encoder(architecture, state, device, arithmetic.precision);
        }
    }
    Ok(match arithmetic.kernels {
        Kernels::Fast(set) => Box::new(FlatEncoder::new(architecture, state, fast::Cpu::new(set))?),
        Kernels::Bf16(engine) => {
            let instructions = InstructionSet::available()[0];
            Box::new(FlatEncoder::new(architecture, state, bf16::Cpu::new(engine, instructions))?)
        }
        Kernels::Cuda | Kernels::Candle => {
            Box::new(PortableEncoder::new(architecture, state, arithmetic.device(), DType::F32)?)
        }
    })
}

/// That the own CUDA kernels compute all of an encoder.
#[cfg(any(feature = "cuda", test))]
fn check_for_cuda(architecture: &Architecture) -> Result<()> {
    let refused = |missing, remedy| Err(Error::NotByCuda { name: architecture.name, missing, remedy });
    match (architecture.block, architecture.blur_pool) {
        (resnet::BlockKind::Bottleneck, _) => refused("bottleneck blocks", "take the kernels `candle`"),
        (resnet::BlockKind::Basic, true) => {
            refused("blur (blur_pool is true)", "take the kernels `candle`, or leave blur_pool out")
        }
        (resnet::BlockKind::Basic, false) => Ok(()),
    }
}

/// The operators of a step on `batch` images of `size_px`, one by one, on made-up numbers in the network's own shapes, and the floor of all
/// of them: products on operands that stay in the first-level cache, on all threads of the current pool at once. `None` where Candle or a GPU
/// computes.
pub fn operators(
    architecture: &Architecture,
    arithmetic: &Arithmetic,
    size_px: usize,
    batch: usize,
) -> Option<(Vec<Operator>, Operator)> {
    match arithmetic.kernels {
        Kernels::Fast(set) => Some((fast::operators(architecture, set, size_px, batch), matrix_products(set))),
        Kernels::Bf16(engine) => Some((bf16::operators(architecture, engine, size_px, batch), bf16::squares(engine))),
        Kernels::Cuda | Kernels::Candle => None,
    }
}

#[cfg(test)]
mod tests {
    use super::resnet::{RESNET18, RESNET50};
    use super::*;

    #[test]
    fn what_own_cuda_kernels_lack_is_refused_with_the_remedy() {
        assert!(check_for_cuda(&RESNET18).is_ok());
        for (architecture, expected) in [
            (
                RESNET50,
                "resnet50 is not computed by the kernels `cuda`, which have no bottleneck blocks; take the kernels `candle`",
            ),
            (
                RESNET18.with_blur_pool(true),
                "resnet18 is not computed by the kernels `cuda`, which have no blur (blur_pool is true); take the kernels `candle`, or \
                 leave blur_pool out",
            ),
        ] {
            assert_eq!(check_for_cuda(&architecture).unwrap_err().to_string(), expected);
        }
    }
}
