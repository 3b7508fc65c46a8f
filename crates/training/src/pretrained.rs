//! Weights that another program trained, for an encoder's start: safetensors under torchvision's names.

use crate::{Error, Result};
use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use faceoff_kernels::State;
use faceoff_kernels::resnet::{Architecture, Role, TensorPlan};
use faceoff_runs::TensorFile;
use std::collections::HashMap;
use std::path::Path;

/// Names in a message; the rest is counted.
const NAMED: usize = 5;

/// What a file of weights holds.
pub struct Pretrained {
    /// The encoder's tensors.
    pub state: State,
    /// Tensors of the classification layer, `fc.*`, which are left out.
    pub left_out: Vec<String>,
    /// BLAKE3 of the file that was read.
    pub blake3: String,
}

/// Reads the weights of `architecture` at `path`: f32, f16 or bf16. Without `num_batches_tracked`, which decides nothing, it is 0.
///
/// # Errors
/// [`Error::Pretrained`] for a file that cannot be read, has another BLAKE3 than the one expected, or whose tensors are not those of the
/// architecture: it names all kinds of difference.
pub fn read_pretrained(path: &Path, architecture: &Architecture, expected: Option<&str>) -> Result<Pretrained> {
    let wrong = |problem: String| Error::Pretrained { path: path.into(), encoder: architecture.name, problem };
    let file = TensorFile::read(path).map_err(|error| wrong(error.to_string()))?;
    let blake3 = file.record().blake3;
    if let Some(expected) = expected.filter(|&expected| expected != blake3) {
        return Err(wrong(format!("its BLAKE3 is {blake3}, not {expected} as training.encoder_init_blake3 says")));
    }
    let tensors = file.tensors().map_err(|error| wrong(error.to_string()))?;
    let mut found: HashMap<String, _> = tensors.tensors().into_iter().collect();
    let mut left_out: Vec<String> = found.keys().filter(|name| name.starts_with("fc.")).cloned().collect();
    left_out.sort();
    left_out.iter().for_each(|name| _ = found.remove(name));
    let (mut state, mut missing, mut shapes) = (State::new(), Vec::new(), Vec::new());
    for TensorPlan { name, shape, role } in architecture.tensors() {
        let dtype = if role == Role::Batches { DType::I64 } else { DType::F32 };
        match found.remove(&name) {
            None if role == Role::Batches => state.push((name, Tensor::new(0i64, &Device::Cpu)?)),
            None => missing.push(name),
            Some(view) if view.shape() != shape => {
                shapes.push(format!("{name} is {:?}, not {shape:?}", view.shape()));
            }
            Some(view) => {
                let tensor = view.load(&Device::Cpu).and_then(|tensor| tensor.to_dtype(dtype));
                let tensor = tensor.map_err(|error| wrong(format!("{name}: {error}")))?;
                if dtype == DType::F32 && !tensor.sum_all()?.to_scalar::<f32>()?.is_finite() {
                    return Err(wrong(format!("{name} holds NaN or infinity")));
                }
                state.push((name, tensor));
            }
        }
    }
    let mut unknown: Vec<String> = found.into_keys().collect();
    unknown.sort();
    let said = |what: &str, names: Vec<String>| {
        let more = names.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let named = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then(|| format!("{what} {named}{more}"))
    };
    let problems = [said("wrong shapes:", shapes), said("missing:", missing), said("unknown:", unknown)];
    let problems: Vec<String> = problems.into_iter().flatten().collect();
    if problems.is_empty() { Ok(Pretrained { state, left_out, blake3 }) } else { Err(wrong(problems.join("; "))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initial_encoder;
    use faceoff_kernels::resnet::{RESNET18, RESNET34};
    use faceoff_runs::FileRecord;

    fn saved(change: impl FnOnce(&mut HashMap<String, Tensor>)) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let mut tensors: HashMap<String, Tensor> = initial_encoder(&RESNET18, 7).unwrap().into_iter().collect();
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &path).unwrap();
        (folder, path)
    }

    #[test]
    fn weights_come_back_without_the_classification_layer_and_from_half_precision() {
        let (_folder, path) = saved(|tensors| {
            tensors.insert("fc.weight".into(), Tensor::zeros((1000, 512), DType::F32, &Device::Cpu).unwrap());
            tensors.insert("fc.bias".into(), Tensor::zeros(1000, DType::F32, &Device::Cpu).unwrap());
            tensors.remove("bn1.num_batches_tracked");
            let halved = tensors["bn1.weight"].to_dtype(DType::F16).unwrap();
            tensors.insert("bn1.weight".into(), halved);
        });
        let Pretrained { state, left_out, blake3 } = read_pretrained(&path, &RESNET18, None).unwrap();
        assert_eq!(left_out, ["fc.bias", "fc.weight"]);
        assert_eq!(blake3, FileRecord::of(&path).unwrap().blake3);
        assert!(read_pretrained(&path, &RESNET18, Some(&blake3)).is_ok());
        for ((name, tensor), (other, expected)) in state.iter().zip(initial_encoder(&RESNET18, 7).unwrap()) {
            assert_eq!(*name, other);
            if tensor.dtype() == DType::F32 {
                let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                assert!(values(tensor) == values(&expected), "{name}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (_folder, path) = saved(|tensors| {
            tensors.remove("layer1.0.conv1.weight");
            tensors.insert("bn1.bias".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
            tensors.insert("head.weight".into(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap());
        });
        let refused = |path: &Path, architecture, expected| match read_pretrained(path, architecture, expected) {
            Ok(_) => panic!("{} is taken", path.display()),
            Err(error) => error.to_string(),
        };
        let message = refused(&path, &RESNET18, None);
        for part in
            ["wrong shapes: bn1.bias is [3], not [64]", "missing: layer1.0.conv1.weight", "unknown: head.weight"]
        {
            assert!(message.contains(part), "{message} lacks {part}");
        }
        // Another file than the one that is meant is not looked into.
        let message = refused(&path, &RESNET18, Some("00"));
        assert!(message.contains("not 00 as training.encoder_init_blake3 says"), "{message}");
        let message = refused(&path, &RESNET34, None);
        assert!(message.contains("resnet34") && message.contains("and "), "{message}");
        let (_folder, path) = saved(|tensors| {
            tensors.insert("bn1.bias".into(), Tensor::full(f32::NAN, 64, &Device::Cpu).unwrap());
        });
        assert!(refused(&path, &RESNET18, None).contains("bn1.bias holds NaN"));
        assert!(
            refused(&path.with_file_name("none"), &RESNET18, None).contains("none cannot start the encoder resnet18")
        );
    }
}
