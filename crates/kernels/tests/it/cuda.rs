//! The encoder with own CUDA kernels, on the first GPU: against torchvision's goldens, against the portable encoder in f64
//! on the CPU, bit for bit against itself, and what it refuses.

use crate::fast::{assert_near, direction, error, numbers, step};
use crate::portable::{check_goldens, golden_images, golden_state};
use candle_core::{CudaDevice, DType, Device, backend::BackendDevice};
use faceoff_kernels::resnet::{ARCHITECTURES, RESNET18};
use faceoff_kernels::{Architecture, CudaEncoder, Encoder, PortableEncoder, Precision, State};
use std::sync::OnceLock;

fn cuda(state: &State) -> CudaEncoder {
    with(&RESNET18, state, Precision::F32)
}

fn with(architecture: &Architecture, state: &State, precision: Precision) -> CudaEncoder {
    static DEVICE: OnceLock<CudaDevice> = OnceLock::new();
    let device = DEVICE.get_or_init(|| CudaDevice::new(0).expect("a CUDA GPU answers"));
    CudaEncoder::new(architecture, state, device, precision).unwrap()
}

#[test]
fn equals_torchvision() {
    check_goldens(
        |architecture, state| Box::new(with(architecture, state, Precision::F32)),
        DType::F32,
        1e-4,
    );
}

/// As for the CPU's: the gradients' tolerance is that of f32 through 18 layers of batch norm.
#[test]
fn equals_the_portable_encoder_in_f64() {
    for architecture in ARCHITECTURES {
        for (count, size_px) in [(2, 33), (3, 47), (5, 16), (1, 70)] {
            let what = format!("{}, {count} images of {size_px} px", architecture.name);
            let images = golden_images(count, size_px);
            let grad = direction(count);
            let mut oracle = PortableEncoder::new(
                architecture,
                &golden_state(architecture, DType::F64),
                &Device::Cpu,
                DType::F64,
            )
            .unwrap();
            let (embeddings, tape) = oracle.forward_train(&images).unwrap();
            let gradients = oracle.backward(tape, &grad).unwrap();
            let mut encoder = with(architecture, &golden_state(architecture, DType::F32), Precision::F32);
            // Twice, so that buffers are handed out again with old numbers in them.
            for _ in 0..2 {
                let (found, tape) = encoder.forward_train(&images).unwrap();
                assert!(error(&found, &embeddings) < 1e-4, "{what}");
                let found = encoder.backward(tape, &grad).unwrap();
                let (found, expected) =
                    (encoder.named_gradients(&found).unwrap(), oracle.named_gradients(&gradients).unwrap());
                assert_near(&what, &found, &expected, 1e-2);
            }
            oracle.forward_train(&images).unwrap();
            assert_near(&what, &encoder.state().unwrap(), &oracle.state().unwrap(), 1e-5);
            let inference = oracle.forward(&images).unwrap();
            assert!(error(&encoder.forward(&images).unwrap(), &inference) < 1e-4, "{what}");
        }
    }
}

/// Every sum is taken in a fixed order, and what is saved goes on as if never interrupted.
#[test]
fn the_same_start_gives_the_same_bits() {
    let images = golden_images(5, 47);
    let train = |encoder: &mut CudaEncoder, number: u64| {
        let (embeddings, tape) = encoder.forward_train(&images).unwrap();
        let gradients = encoder.backward(tape, &embeddings).unwrap();
        encoder.apply(gradients, &step(number)).unwrap();
    };
    let bits = |encoder: &CudaEncoder| {
        let state = encoder.state().unwrap().into_iter().chain(encoder.optimizer_state().unwrap());
        state.map(|(_, tensor)| numbers(&tensor)).collect::<Vec<_>>()
    };
    let mut one = cuda(&golden_state(&RESNET18, DType::F32));
    train(&mut one, 1);
    let mut resumed = cuda(&one.state().unwrap());
    resumed.load_optimizer_state(&one.optimizer_state().unwrap()).unwrap();
    train(&mut one, 2);
    train(&mut resumed, 2);
    assert!(bits(&one) == bits(&resumed));
}

/// TF32 rounds to 10 bits of mantissa, and 20 layers add up.
#[test]
fn tf32_is_near_and_not_equal() {
    let images = golden_images(3, 47);
    let (exact, _) = cuda(&golden_state(&RESNET18, DType::F32)).forward_train(&images).unwrap();
    let (rounded, _) = with(&RESNET18, &golden_state(&RESNET18, DType::F32), Precision::Tf32)
        .forward_train(&images)
        .unwrap();
    let error = error(&rounded, &exact);
    assert!(error > 1e-6 && error < 2e-2, "{error:e}");
}

#[test]
fn tapes_and_gradients_of_others_are_refused() {
    let images = golden_images(2, 33);
    let (mut one, mut two) =
        (cuda(&golden_state(&RESNET18, DType::F32)), cuda(&golden_state(&RESNET18, DType::F32)));
    let (_, tape) = one.forward_train(&images).unwrap();
    assert!(two.backward(tape, &direction(2)).is_err());
    let (_, tape) = one.forward_train(&images).unwrap();
    assert!(one.backward(tape, &direction(3)).is_err());
    let (embeddings, tape) = one.forward_train(&images).unwrap();
    let gradients = one.backward(tape, &embeddings).unwrap();
    assert!(two.named_gradients(&gradients).is_err());
    assert!(two.apply(gradients, &step(1)).is_err());
    let error = one.forward_train(&golden_images(1, 32)).err().expect("one image of 32 px").to_string();
    assert!(error.contains("sees one value a channel"), "{error}");
}
