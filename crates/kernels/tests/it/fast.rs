//! The hand-written encoders, on the CPU with every instruction set of the machine, and with the feature `cuda` on the first
//! GPU: against torchvision's goldens, against the portable encoder in f64, bit for bit against themselves, and what they
//! refuse.

use crate::portable::{check_goldens, direction, encoder, golden_images, golden_state, is_deep, numbers, step};
use candle_core::{DType, Device, Tensor};
use faceoff_kernels::resnet::{ARCHITECTURES, RESNET18, RESNET50};
use faceoff_kernels::{Architecture, Arithmetic, Encoder, InstructionSet, PortableEncoder, State};

const CPU: Device = Device::Cpu;

/// Every hand-written encoder of this machine and build.
fn all() -> Vec<Arithmetic> {
    InstructionSet::available().into_iter().map(of_cpu).chain(on_gpu("f32")).collect()
}

fn of_cpu(set: InstructionSet) -> Arithmetic {
    Arithmetic::on_cpu(Some(set.name())).unwrap()
}

/// Whether those kernels have all of the architecture's operators: own CUDA kernels have neither bottleneck blocks nor blur.
pub(crate) fn computes(arithmetic: &Arithmetic, architecture: &Architecture) -> bool {
    arithmetic.kernels_name() != "cuda" || !is_deep(architecture) && !architecture.blur_pool
}

#[cfg(not(feature = "cuda"))]
pub(crate) fn on_gpu(_: &str) -> Option<Arithmetic> {
    None
}

#[cfg(feature = "cuda")]
pub(crate) fn on_gpu(precision: &str) -> Option<Arithmetic> {
    static DEVICE: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    let device = DEVICE.get_or_init(|| Device::new_cuda(0).expect("a CUDA GPU answers"));
    Some(Arithmetic::resolve(device, None, precision).unwrap())
}

/// Weights, statistics and moments.
pub(crate) fn all_numbers(encoder: &dyn Encoder) -> Vec<Vec<f64>> {
    let state = encoder.state().unwrap().into_iter().chain(encoder.optimizer_state().unwrap());
    state.map(|(_, tensor)| numbers(&tensor)).collect()
}

/// Norm of the difference over the norm of `expected`.
pub(crate) fn error(found: &Tensor, expected: &Tensor) -> f64 {
    let (found, expected) = (numbers(found), numbers(expected));
    let difference: f64 = found.iter().zip(&expected).map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = expected.iter().map(|x| x * x).sum();
    assert!(difference.is_finite());
    (difference / norm.max(1e-30)).sqrt()
}

fn assert_near(what: &str, found: &State, expected: &State, tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for ((name, found), (other, expected)) in found.iter().zip(expected) {
        assert_eq!((name, found.dims()), (other, expected.dims()));
        let error = error(found, expected);
        assert!(error <= tolerance, "{what}, {name}: relative error {error:e}");
    }
}

/// A step with the embeddings as their own gradient.
fn train(encoder: &mut dyn Encoder, number: u64) {
    let (embeddings, tape) = encoder.forward_train(&golden_images(5, 47)).unwrap();
    let gradients = encoder.backward(tape, &embeddings).unwrap();
    encoder.apply(gradients, &step(number)).unwrap();
}

#[test]
fn equals_torchvision() {
    for arithmetic in all() {
        let encoder = |architecture: &Architecture, state: &State| {
            faceoff_kernels::encoder(architecture, state, &arithmetic).unwrap()
        };
        let architectures = ARCHITECTURES.into_iter().filter(|architecture| computes(&arithmetic, architecture));
        check_goldens(architectures, encoder, DType::F32, 1e-4);
    }
}

/// Every outcome of a step against f64. The gradients' tolerance is that of f32 through 18 layers of batch norm: single
/// units near 0 change sides at a ReLU, which no rounding mode prevents. Over 34 layers rounding grows to six times as much
/// where a batch norm sees five values, so that there the smallest maps are left to the shallower encoder, and with BlurPool to
/// five times (Candle's f32 is at 4.4e-5 instead of 8.8e-6 there), so that more images see it; over 50 there are two million units.
#[test]
fn equals_the_portable_encoder_in_f64() {
    let cases: [&[_]; ARCHITECTURES.len()] = [&[(2, 33), (1, 70), (3, 47), (5, 16)], &[(2, 33), (1, 70)], &[(2, 97)]];
    let [blurred18, blurred50] = [RESNET18, RESNET50].map(|architecture| architecture.with_blur_pool(true));
    let blurred: [(_, &[_]); 2] = [(&blurred18, &[(2, 33), (1, 70), (3, 47), (33, 16)]), (&blurred50, cases[2])];
    let all_cases = ARCHITECTURES.into_iter().zip(cases).chain(blurred);
    for (architecture, cases) in all_cases {
        for &(count, size_px) in cases {
            let (images, grad) = (golden_images(count, size_px), direction(architecture, count));
            let state = golden_state(architecture, DType::F64);
            let mut oracle = PortableEncoder::new(architecture, &state, &CPU, DType::F64).unwrap();
            let (embeddings, tape) = oracle.forward_train(&images).unwrap();
            let gradients = oracle.backward(tape, &grad).unwrap();
            let gradients = oracle.named_gradients(&gradients).unwrap();
            oracle.forward_train(&images).unwrap();
            let inference = oracle.forward(&images).unwrap();
            let state = golden_state(architecture, DType::F32);
            for arithmetic in all().into_iter().filter(|arithmetic| computes(arithmetic, architecture)) {
                let (name, blur_pool) = (architecture.name, architecture.blur_pool);
                let what = format!("{name}, blur_pool {blur_pool}, {count} images of {size_px} px, {arithmetic}");
                let mut encoder = faceoff_kernels::encoder(architecture, &state, &arithmetic).unwrap();
                // Twice, so that buffers are handed out again with old numbers in them.
                for _ in 0..2 {
                    let (found, tape) = encoder.forward_train(&images).unwrap();
                    let error = error(&found, &embeddings);
                    assert!(error < 1e-4, "{what}: {error:e}");
                    let found = encoder.backward(tape, &grad).unwrap();
                    let tolerance = if is_deep(architecture) { 3e-2 } else { 1e-2 };
                    assert_near(&what, &encoder.named_gradients(&found).unwrap(), &gradients, tolerance);
                }
                assert_near(&what, &encoder.state().unwrap(), &oracle.state().unwrap(), 1e-5);
                assert!(error(&encoder.forward(&images).unwrap(), &inference) < 1e-4, "{what}");
            }
        }
    }
}

/// Work is cut into fixed pieces, so the number of threads changes no bit of weights and moments.
#[test]
fn threads_change_nothing() {
    let sets = InstructionSet::available().into_iter().map(of_cpu);
    for (arithmetic, blur_pool) in sets.flat_map(|of| [(of.clone(), false), (of, true)]) {
        let trained = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (architecture, state) = (RESNET18.with_blur_pool(blur_pool), golden_state(&RESNET18, DType::F32));
                let mut encoder = faceoff_kernels::encoder(&architecture, &state, &arithmetic).unwrap();
                (1..=2).for_each(|number| train(encoder.as_mut(), number));
                all_numbers(encoder.as_ref())
            })
        };
        let one = trained(1);
        (2..=3).for_each(|threads| assert!(one == trained(threads), "{threads} threads, {arithmetic}"));
    }
}

/// Every sum is taken in a fixed order, and what is saved goes on as if never interrupted.
#[test]
fn a_state_and_moments_go_round_bit_for_bit() {
    let portable = Arithmetic::resolve(crate::device(), Some("candle"), "f32").unwrap();
    for arithmetic in all().into_iter().chain([portable]) {
        let mut through = encoder(&golden_state(&RESNET18, DType::F32), &arithmetic).unwrap();
        train(through.as_mut(), 1);
        let mut resumed = encoder(&through.state().unwrap(), &arithmetic).unwrap();
        resumed.load_optimizer_state(&through.optimizer_state().unwrap()).unwrap();
        train(through.as_mut(), 2);
        train(resumed.as_mut(), 2);
        assert!(all_numbers(through.as_ref()) == all_numbers(resumed.as_ref()), "{arithmetic}");
    }
}

#[test]
fn tapes_and_gradients_of_others_are_refused() {
    for arithmetic in all().into_iter().chain([Arithmetic::on_cpu(Some("candle")).unwrap()]) {
        let (images, state) = (golden_images(2, 33), golden_state(&RESNET18, DType::F32));
        let [mut one, mut two] = [(); 2].map(|()| encoder(&state, &arithmetic).unwrap());
        let (_, tape) = one.forward_train(&images).unwrap();
        let error = two.backward(tape, &direction(&RESNET18, 2)).err().expect("it is the other's").to_string();
        assert_eq!(error, "the tape or the gradients are of another encoder; give back what this encoder returned");
        let (embeddings, tape) = one.forward_train(&images).unwrap();
        let gradients = one.backward(tape, &embeddings).unwrap();
        assert!(two.named_gradients(&gradients).is_err());
        assert!(two.apply(gradients, &step(1)).is_err());
    }
}

#[test]
fn one_value_a_channel_has_no_variance() {
    for arithmetic in all().into_iter().chain([Arithmetic::on_cpu(Some("candle")).unwrap()]) {
        let mut encoder = encoder(&golden_state(&RESNET18, DType::F32), &arithmetic).unwrap();
        let error = encoder.forward_train(&golden_images(1, 32)).err().expect("one image of 32 px").to_string();
        assert!(error.contains("sees one value a channel"), "{error}");
        assert!(encoder.forward(&golden_images(1, 32)).is_ok());
    }
}

/// TF32 rounds to 10 bits of mantissa, and 20 layers add up.
#[test]
#[cfg(feature = "cuda")]
fn tf32_is_near_and_not_equal() {
    let embeddings = |precision| {
        let arithmetic = on_gpu(precision).unwrap();
        let mut encoder = encoder(&golden_state(&RESNET18, DType::F32), &arithmetic).unwrap();
        encoder.forward_train(&golden_images(3, 47)).unwrap().0
    };
    let error = error(&embeddings("tf32"), &embeddings("f32"));
    assert!(error > 1e-6 && error < 2e-2, "{error:e}");
}
