//! The hand-written encoder with every instruction set of the machine: against torchvision's goldens, against the
//! portable encoder in f64, and what it refuses.

use crate::portable::{check_goldens, golden_images, golden_state};
use candle_core::{DType, Device, Tensor};
use faceoff_kernels::resnet::{ARCHITECTURES, RESNET18};
use faceoff_kernels::{AdamWStep, Encoder, FastEncoder, Gradients, InstructionSet, PortableEncoder, State};

const CPU: Device = Device::Cpu;

fn fast(instructions: InstructionSet) -> FastEncoder {
    FastEncoder::new(&RESNET18, &golden_state(&RESNET18, DType::F32), instructions).unwrap()
}

pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&CPU).unwrap().to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Norm of the difference over the norm of `expected`.
pub(crate) fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (numbers(found), numbers(expected));
    let difference: f64 = found.iter().zip(&expected).map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = expected.iter().map(|x| x * x).sum();
    assert!(difference.is_finite());
    (difference / norm.max(1e-30)).sqrt()
}

pub(crate) fn assert_near(what: &str, found: &State, expected: &State, tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for ((name, found), (other, expected)) in found.iter().zip(expected) {
        assert_eq!((name, found.dims()), (other, expected.dims()));
        let error = error(found, expected);
        assert!(error <= tolerance, "{what}, {name}: relative error {error:e}");
    }
}

pub(crate) fn direction(count: usize) -> Tensor {
    let values: Vec<f64> = (0..count * 512).map(|index| (index as f64 * 0.37).sin()).collect();
    Tensor::from_vec(values, (count, 512), &CPU).unwrap()
}

pub(crate) fn step(number: u64) -> AdamWStep {
    AdamWStep {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.05,
        step: number,
    }
}

#[test]
fn equals_torchvision() {
    for set in InstructionSet::available() {
        check_goldens(
            |architecture, state| Box::new(FastEncoder::new(architecture, state, set).unwrap()),
            DType::F32,
            1e-4,
        );
    }
}

/// Every outcome of a step against f64. The gradients' tolerance is that of f32 through 18 layers of batch norm: single
/// units near 0 change sides at a ReLU, which no rounding mode prevents.
#[test]
fn equals_the_portable_encoder_in_f64() {
    for architecture in ARCHITECTURES {
        for (count, size_px) in [(2, 33), (3, 47), (5, 16), (1, 70)] {
            let images = golden_images(count, size_px);
            let grad = direction(count);
            let state = golden_state(architecture, DType::F64);
            let mut oracle = PortableEncoder::new(architecture, &state, &CPU, DType::F64).unwrap();
            let (embeddings, tape) = oracle.forward_train(&images).unwrap();
            let gradients = oracle.backward(tape, &grad).unwrap();
            let gradients = oracle.named_gradients(&gradients).unwrap();
            let inference = oracle.forward(&images).unwrap();
            let state = golden_state(architecture, DType::F32);
            for set in InstructionSet::available() {
                let name = architecture.name;
                let what = format!("{name}, {count} images of {size_px} px with {}", set.name());
                let mut encoder = FastEncoder::new(architecture, &state, set).unwrap();
                let (found, tape) = encoder.forward_train(&images).unwrap();
                let found_gradients = encoder.backward(tape, &grad).unwrap();
                let found_gradients = encoder.named_gradients(&found_gradients).unwrap();
                assert!(error(&found, &embeddings) < 1e-4, "{what}");
                assert_near(&what, &found_gradients, &gradients, 1e-2);
                assert_near(&what, &encoder.state().unwrap(), &oracle.state().unwrap(), 1e-5);
                assert!(error(&encoder.forward(&images).unwrap(), &inference) < 1e-4, "{what}");
            }
        }
    }
}

/// Work is cut into fixed pieces, so the number of threads changes no bit of weights and moments.
#[test]
fn threads_change_nothing() {
    let images = golden_images(5, 47);
    for set in InstructionSet::available() {
        let trained = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut encoder = fast(set);
                for number in 1..=2 {
                    let (embeddings, tape) = encoder.forward_train(&images).unwrap();
                    let gradients = encoder.backward(tape, &embeddings).unwrap();
                    encoder.apply(gradients, &step(number)).unwrap();
                }
                let state = encoder.state().unwrap().into_iter().chain(encoder.optimizer_state().unwrap());
                state.map(|(_, tensor)| numbers(&tensor)).collect::<Vec<_>>()
            })
        };
        let one = trained(1);
        assert!(one == trained(2), "2 threads with {}", set.name());
        assert!(one == trained(3), "3 threads with {}", set.name());
    }
}

#[test]
fn tapes_and_gradients_of_others_are_refused() {
    let set = InstructionSet::available()[0];
    let images = golden_images(2, 33);
    let (mut one, mut two) = (fast(set), fast(set));
    let (_, tape) = one.forward_train(&images).unwrap();
    assert!(two.backward(tape, &direction(2)).is_err());
    let (embeddings, tape) = one.forward_train(&images).unwrap();
    let gradients: Gradients = one.backward(tape, &embeddings).unwrap();
    assert!(two.named_gradients(&gradients).is_err());
    assert!(two.apply(gradients, &step(1)).is_err());
}
