//! What computes the encoder: device, kernels and precision, chosen once and passed as a value.

use crate::{Error, InstructionSet, Result};
use candle_core::Device;
use std::fmt;

/// Device, kernels and precision of an encoder: everything beside its weights that decides a bit of its result.
#[derive(Debug, Clone)]
pub struct Arithmetic {
    device: Device,
    pub(crate) kernels: Kernels,
    pub(crate) precision: Precision,
}

/// Who computes the encoder on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernels {
    /// The encoder written by hand for CPUs.
    Fast(InstructionSet),
    /// The one written for CUDA.
    Cuda,
    /// Candle's operators.
    Candle,
}

/// How matrix products round their factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout.
    F32,
    /// Factors rounded to TF32, 10 bits of mantissa, and summed in f32: PyTorch's default for convolutions.
    Tf32,
}

impl Kernels {
    /// Those of `device` on this machine and in this build, the fastest first.
    fn of(device: &Device) -> Vec<Self> {
        let own = match device {
            Device::Cpu => InstructionSet::available().into_iter().map(Self::Fast).collect(),
            Device::Cuda(_) if cfg!(feature = "cuda") => vec![Self::Cuda],
            Device::Cuda(_) | Device::Metal(_) => vec![],
        };
        own.into_iter().chain([Self::Candle]).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fast(set) => set.name(),
            Self::Cuda => "cuda",
            Self::Candle => "candle",
        }
    }
}

impl Arithmetic {
    /// On `device`, the kernels of that name, or the fastest that the machine has for it. Names are those of the
    /// instruction sets (`avx512`, `avx2`, `neon`, `portable`) on the CPU, `cuda` for the own kernels on CUDA, and
    /// `candle` (Candle's operators) everywhere. `precision` is `f32`, or `tf32` with own CUDA kernels.
    pub fn resolve(device: &Device, kernels: Option<&str>, precision: &str) -> Result<Self> {
        let known = Kernels::of(device);
        let mut arithmetic = Self { device: device.clone(), kernels: known[0], precision: Precision::F32 };
        if let Some(name) = kernels {
            arithmetic.kernels =
                *known.iter().find(|kernels| kernels.name() == name).ok_or_else(|| Error::UnknownKernels {
                    name: name.into(),
                    device: arithmetic.device_name(),
                    known: known.iter().map(|kernels| kernels.name()).collect::<Vec<_>>().join(", "),
                })?;
        }
        arithmetic.precision = match precision {
            "f32" => Precision::F32,
            "tf32" if arithmetic.kernels == Kernels::Cuda => Precision::Tf32,
            _ => {
                let (name, arithmetic) = (precision.into(), arithmetic.to_string());
                return Err(Error::Precision { name, arithmetic });
            }
        };
        Ok(arithmetic)
    }

    /// On the CPU in f32, see [`Arithmetic::resolve`].
    pub fn on_cpu(kernels: Option<&str>) -> Result<Self> {
        Self::resolve(&Device::Cpu, kernels, "f32")
    }

    /// The device, where the head computes too.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// `cpu`, `cuda` or `metal`.
    pub fn device_name(&self) -> &'static str {
        match self.device {
            Device::Cpu => "cpu",
            Device::Cuda(_) => "cuda",
            Device::Metal(_) => "metal",
        }
    }

    /// The kernels, as [`Arithmetic::resolve`] takes them.
    pub fn kernels_name(&self) -> &'static str {
        self.kernels.name()
    }

    /// The instruction set of the encoder written for CPUs, where that computes.
    pub fn instructions(&self) -> Option<InstructionSet> {
        match self.kernels {
            Kernels::Fast(set) => Some(set),
            Kernels::Cuda | Kernels::Candle => None,
        }
    }
}

/// E.g. `cpu (avx2)`, `cuda (tf32)`; the own kernels of a GPU go without saying.
impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.device_name())?;
        match (self.kernels, self.precision) {
            (_, Precision::Tf32) => f.write_str(" (tf32)"),
            (Kernels::Cuda, Precision::F32) => Ok(()),
            (Kernels::Candle, _) if matches!(self.device, Device::Metal(_)) => Ok(()),
            (kernels, Precision::F32) => write!(f, " ({})", kernels.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_resolved_and_wrong_ones_named() {
        let resolve = |kernels, precision| Arithmetic::resolve(&Device::Cpu, kernels, precision);
        for set in InstructionSet::available() {
            let found = resolve(Some(set.name()), "f32").unwrap();
            assert_eq!((found.instructions(), found.to_string()), (Some(set), format!("cpu ({})", set.name())));
        }
        assert_eq!(resolve(None, "f32").unwrap().instructions(), Some(InstructionSet::available()[0]));
        let candle = resolve(Some("candle"), "f32").unwrap();
        assert_eq!((candle.device_name(), candle.kernels_name(), candle.instructions()), ("cpu", "candle", None));
        let error = resolve(Some("mmx"), "f32").unwrap_err().to_string();
        assert!(error.starts_with("`mmx` names no kernels of this machine's cpu, which has "), "{error}");
        assert!(error.contains("portable, candle"), "{error}");
        for name in ["tf32", "bf16"] {
            let error = resolve(Some("portable"), name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("precision `{name}` with cpu (portable): ")), "{error}");
        }
    }
}
