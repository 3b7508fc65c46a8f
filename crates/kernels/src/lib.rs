//! The encoder's arithmetic: ResNet-18 forward and backward.
//!
//! Everything outside this crate sees the encoder through one seam, the trait [`Encoder`]. Two
//! implementations stand behind it: [`PortableEncoder`] (Candle's operators and autograd; CPU, CUDA, Metal; the
//! oracle of the tests) and the hand-written CPU encoder. The head and the loss run under Candle's autograd outside.

mod adamw;
mod error;
mod fast;
mod portable;
pub mod resnet;
mod seam;
mod state;

pub use adamw::{AdamW, AdamWStep};
pub use error::Error;
pub use fast::{
    CpuKernels, FastEncoder, InstructionSet, KERNELS_VARIABLE, Operator, matrix_products, operators,
};
pub use portable::PortableEncoder;
pub use seam::{Encoder, Gradients, Images, State, Tape};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// The encoder of `state` (torchvision's names and shapes) on `device`: on the CPU the hand-written one with the fastest
/// instructions the machine has, or what [`KERNELS_VARIABLE`] asks for (`avx512`, `avx2`, `neon`, `portable`, `candle`).
pub fn encoder(state: &State, device: &candle_core::Device) -> Result<Box<dyn Encoder>> {
    match device {
        candle_core::Device::Cpu => cpu_encoder(state, CpuKernels::choose()?),
        _ => Ok(Box::new(PortableEncoder::new(state, device, candle_core::DType::F32)?)),
    }
}

/// The encoder of `state` on the CPU, computed by `kernels`.
pub fn cpu_encoder(state: &State, kernels: CpuKernels) -> Result<Box<dyn Encoder>> {
    Ok(match kernels {
        CpuKernels::Fast(instructions) => Box::new(FastEncoder::new(state, instructions)?),
        CpuKernels::Candle => {
            Box::new(PortableEncoder::new(state, &candle_core::Device::Cpu, candle_core::DType::F32)?)
        }
    })
}

/// Device and arithmetic that [`encoder`] chooses, e.g. `cpu (avx2)`.
pub fn describe(device: &candle_core::Device) -> Result<String> {
    Ok(match device {
        candle_core::Device::Cpu => format!("cpu ({})", CpuKernels::choose()?.name()),
        candle_core::Device::Cuda(_) => "cuda".into(),
        candle_core::Device::Metal(_) => "metal".into(),
    })
}
