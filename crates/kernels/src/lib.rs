//! The encoder's arithmetic: ResNet-18 forward and backward.
//!
//! Everything outside this crate sees the encoder through one seam, the trait [`Encoder`]. Three implementations stand
//! behind it: [`PortableEncoder`] (Candle's operators and autograd; CPU, CUDA, Metal; the oracle of the tests),
//! [`FastEncoder`], written by hand for CPUs, and one with own CUDA kernels (feature `cuda`, folder `cuda/`), which
//! follows the same plan. The head and the loss run under Candle's autograd outside.
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
//! | `conv` | shapes, the layout of weights, the choice of a method |
//! | `winograd` | 3x3 with stride 1: F(4x4, 3x3) |
//! | `positions` | maps of a few pixels: a product for each pixel and tap |
//! | `gather` | everything else: patches of a strip (im2col) |
//! | `stem` | 7x7 over three channels, without patches |
//! | `gemm` | the one matrix micro-kernel under all of them |
//! | `read`, `write` | what happens while a convolution reads and writes |
//! | `norm`, `pool`, `optimizer` | batch norm's statistics, pooling, AdamW |
//! | `simd` | instruction sets: AVX-512, AVX2 with FMA, NEON, and what the compiler makes of four lanes |
//! | `arena` | buffers that are kept between steps |
//! | `operators` | the operators one by one, for benches |
//!
//! The algorithms are written once, over [`pulp`]'s vectors. Work is cut into pieces whose number depends on shapes alone
//! and reduced in a fixed order: the number of threads changes no bit of the result. (Another instruction set does: its
//! vectors are of another length.) `docs/performance.md` has the measurements.

mod adamw;
#[cfg(feature = "cuda")]
mod cuda;
mod error;
mod fast;
mod portable;
pub mod resnet;
mod seam;
mod state;

pub use adamw::{AdamW, AdamWStep};
use candle_core::{DType, Device};
#[cfg(feature = "cuda")]
pub use cuda::{CudaEncoder, Products, TF32_VARIABLE};
pub use error::Error;
pub use fast::{
    CpuKernels, FastEncoder, InstructionSet, KERNELS_VARIABLE, Operator, matrix_products, operators,
};
pub use portable::PortableEncoder;
pub use seam::{Encoder, Gradients, Images, State, Tape};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The encoder of `state` (torchvision's names and shapes) on `device`: on the CPU the hand-written one with the fastest
/// instructions the machine has, on CUDA the one with own kernels, elsewhere the portable one. [`KERNELS_VARIABLE`] asks
/// for others: `avx512`, `avx2`, `neon` and `portable` on the CPU, `candle` (the portable encoder) on every device.
pub fn encoder(state: &State, device: &Device) -> Result<Box<dyn Encoder>> {
    let kernels = CpuKernels::choose()?;
    #[cfg(feature = "cuda")]
    if let Device::Cuda(device) = device {
        cuda::keep_memory(device)?;
        if kernels != CpuKernels::Candle {
            return Ok(Box::new(CudaEncoder::new(state, device, Products::choose()?)?));
        }
    }
    match device {
        Device::Cpu => cpu_encoder(state, kernels),
        _ => Ok(Box::new(PortableEncoder::new(state, device, DType::F32)?)),
    }
}

/// The encoder of `state` on the CPU, computed by `kernels`.
pub fn cpu_encoder(state: &State, kernels: CpuKernels) -> Result<Box<dyn Encoder>> {
    Ok(match kernels {
        CpuKernels::Fast(instructions) => Box::new(FastEncoder::new(state, instructions)?),
        CpuKernels::Candle => Box::new(PortableEncoder::new(state, &Device::Cpu, DType::F32)?),
    })
}

/// Device and arithmetic that [`encoder`] chooses, e.g. `cpu (avx2)`.
pub fn describe(device: &Device) -> Result<String> {
    let kernels = CpuKernels::choose()?;
    Ok(match device {
        Device::Cpu => format!("cpu ({})", kernels.name()),
        #[cfg(feature = "cuda")]
        Device::Cuda(_) if kernels != CpuKernels::Candle => match Products::choose()? {
            Products::F32 => "cuda".into(),
            Products::Tf32 => "cuda (tf32)".into(),
        },
        Device::Cuda(_) => "cuda (candle)".into(),
        Device::Metal(_) => "metal".into(),
    })
}
