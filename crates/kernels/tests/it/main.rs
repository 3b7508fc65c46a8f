//! Tests of the encoder's arithmetic.

mod bf16;
mod fast;
mod portable;
mod projection;

use candle_core::Device;
use std::sync::OnceLock;

/// The device of the portable encoder: the CPU, or what `FACEOFF_TEST_DEVICE` names.
fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("FACEOFF_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => Device::new_cuda(0).expect("this build has CUDA and a GPU answers"),
        Ok("metal") => Device::new_metal(0).expect("this build has Metal and a GPU answers"),
        Ok(other) => panic!("FACEOFF_TEST_DEVICE is `{other}`; it may be cpu, cuda or metal"),
    })
}
