//! What computes the encoder: device, kernels and precision, chosen once and passed as a value.

use crate::bf16::Engine;
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
    /// The one for CPUs in bf16.
    Bf16(Engine),
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
    /// Activations and their gradients stored in bf16, 8 bits of mantissa, factors likewise, sums in f32.
    Bf16,
}

impl Kernels {
    /// Those of `device` on this machine and in this build that compute in `precision`, the fastest first.
    fn of(device: &Device, precision: Precision) -> Vec<Self> {
        let own = match device {
            Device::Cpu if precision == Precision::Bf16 => {
                return Engine::available().into_iter().map(Self::Bf16).collect();
            }
            Device::Cpu => InstructionSet::available().into_iter().map(Self::Fast).collect(),
            Device::Cuda(_) if cfg!(feature = "cuda") => vec![Self::Cuda],
            Device::Cuda(_) | Device::Metal(_) => vec![],
        };
        own.into_iter().chain([Self::Candle]).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fast(set) => set.name(),
            Self::Bf16(engine) => engine.name(),
            Self::Cuda => "cuda",
            Self::Candle => "candle",
        }
    }
}

impl Arithmetic {
    /// On `device`, the kernels of that name, or the fastest that the machine has for it. Names are those of the
    /// instruction sets (`avx512`, `avx2`, `neon`, `portable`) on the CPU, `cuda` for the own kernels on CUDA, and
    /// `candle` (Candle's operators) everywhere. `precision` is `f32`, or `tf32` or `bf16` with own CUDA kernels, or `bf16` on the CPU, by
    /// kernels of their own: `amx`, `avx512bf16`, or `emulated`, which every machine has.
    pub fn resolve(device: &Device, kernels: Option<&str>, precision: &str) -> Result<Self> {
        let wanted = match (precision, device) {
            ("bf16", Device::Cpu) => Precision::Bf16,
            _ => Precision::F32,
        };
        let known = Kernels::of(device, wanted);
        let mut arithmetic = Self { device: device.clone(), kernels: known[0], precision: wanted };
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
            "bf16" if matches!(arithmetic.kernels, Kernels::Bf16(_) | Kernels::Cuda) => Precision::Bf16,
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
        Self::on_cpu_in(kernels, "f32")
    }

    /// On the CPU, see [`Arithmetic::resolve`].
    pub fn on_cpu_in(kernels: Option<&str>, precision: &str) -> Result<Self> {
        Self::resolve(&Device::Cpu, kernels, precision)
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

    /// Whether ordinary instructions do what the processor has none for, and take many times as long.
    pub fn is_emulated(&self) -> bool {
        self.kernels == Kernels::Bf16(Engine::Emulated)
    }
}

/// E.g. `cpu (avx2)`, `cuda (tf32)`; the own kernels of a GPU go without saying.
impl fmt::Display for Arithmetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.device_name())?;
        match (self.kernels, self.precision) {
            (_, Precision::Tf32) => f.write_str(" (tf32)"),
            (Kernels::Cuda, Precision::Bf16) => f.write_str(" (bf16)"),
            (kernels, Precision::Bf16) => write!(f, " ({}, bf16)", kernels.name()),
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
            assert_eq!((found.kernels, found.to_string()), (Kernels::Fast(set), format!("cpu ({})", set.name())));
        }
        assert_eq!(resolve(None, "f32").unwrap().kernels, Kernels::Fast(InstructionSet::available()[0]));
        let candle = resolve(Some("candle"), "f32").unwrap();
        assert_eq!((candle.device_name(), candle.kernels_name()), ("cpu", "candle"));
        let error = resolve(Some("mmx"), "f32").unwrap_err().to_string();
        assert!(error.starts_with("`mmx` names no kernels of this machine's cpu, which has "), "{error}");
        assert!(error.contains("portable, candle"), "{error}");
        let error = resolve(Some("portable"), "tf32").unwrap_err().to_string();
        assert!(error.starts_with("precision `tf32` with cpu (portable): "), "{error}");
        let bf16 = resolve(Some("emulated"), "bf16").unwrap();
        assert_eq!((bf16.to_string(), bf16.is_emulated()), ("cpu (emulated, bf16)".into(), true));
        assert_eq!(resolve(None, "bf16").unwrap().kernels, Kernels::Bf16(Engine::available()[0]));
        let error = resolve(Some("portable"), "bf16").unwrap_err().to_string();
        assert!(error.contains("emulated") && !error.contains("candle"), "{error}");
    }
}
