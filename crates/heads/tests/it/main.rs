//! Tests of the heads.

mod errors;
mod golden;
mod properties;

use candle_core::{DType, Device, Tensor, Var};
use faceoff_heads::{HEADS, Head, HeadInfo, build};
use faceoff_runs::{HeadConfig, HeadInit};
use std::sync::OnceLock;

const CPU: Device = Device::Cpu;

/// The device of the heads: the CPU, or what `FACEOFF_TEST_DEVICE` names.
fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("FACEOFF_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => CPU,
        Ok("cuda") => Device::new_cuda(0).expect("this build has CUDA and a GPU answers"),
        Ok("metal") => Device::new_metal(0).expect("this build has Metal and a GPU answers"),
        Ok(other) => panic!("FACEOFF_TEST_DEVICE is `{other}`; it may be cpu, cuda or metal"),
    })
}

fn head(config: &HeadConfig, dim: usize, classes: usize, dtype: DType) -> Box<dyn Head> {
    build(config, dim, classes, HeadInit::Uniform, 0, device(), dtype).unwrap()
}

/// A head with the parameters of its reference.
fn defaults(kind: &str) -> HeadConfig {
    HeadInfo::find(kind).unwrap().defaults()
}

/// All of them.
fn all() -> Vec<HeadConfig> {
    HEADS.iter().map(HeadInfo::defaults).collect()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&CPU).unwrap().to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The loss of a step of training, and its gradients: at the embeddings, then at each variable.
fn loss_and_gradients(head: &mut dyn Head, embeddings: &Tensor, labels: &Tensor) -> (f64, Vec<(String, Tensor)>) {
    let embeddings = Var::from_tensor(embeddings).unwrap();
    let loss = head.loss(&embeddings, labels).unwrap().value;
    let store = loss.backward().unwrap();
    let mut gradients = vec![("embeddings".to_string(), store.get(&embeddings).unwrap().clone())];
    for (name, var) in head.variables() {
        gradients.push((name, store.get(&var).unwrap().clone()));
    }
    (values(&loss)[0], gradients)
}
