//! The portable encoder against torchvision's own ResNets, and its optimiser against PyTorch's AdamW, in f64.
//!
//! The goldens are made by `scripts/golden_encoder.py`; weights and images come from the same formulas there and here.

use crate::device;
use candle_core::{DType, Device, Tensor, Var};
use faceoff_kernels::resnet::{ARCHITECTURES, BlockKind, DEVIATION, MEAN, RESNET18, RESNET50, Role, TensorPlan};
use faceoff_kernels::{
    AdamW, AdamWStep, Architecture, Arithmetic, Encoder, ImageBatch, Inputs, PortableEncoder, State,
};
use serde_json::Value;

const CPU: Device = Device::Cpu;

fn wave(count: usize, phase: f64) -> Vec<f64> {
    (0..count).map(|index| (index as f64 * 0.7 + phase).sin()).collect()
}

pub(crate) fn is_deep(architecture: &Architecture) -> bool {
    architecture.block == BlockKind::Bottleneck
}

/// A wave that makes matrices of full rank, which in 50 layers decides whether rounding stays small.
fn chirp(count: usize, phase: f64) -> Vec<f64> {
    (0..count).map(|index| (((index % 509) * (index % 509)) as f64 * 0.7 + phase).sin()).collect()
}

/// The weights of the goldens; batch norms with fresh running statistics.
pub(crate) fn golden_state(architecture: &Architecture, dtype: DType) -> State {
    let (mut parameters, deep) = (0, is_deep(architecture));
    let tensor = |TensorPlan { name, shape, role }| {
        let full = |value: f64| Tensor::full(value, shape.clone(), &CPU).unwrap();
        let mut trained = |of_wave: &dyn Fn(f64) -> f64| {
            parameters += 1;
            let wave = if deep && role == Role::Kernels { chirp } else { wave };
            let waves = wave(shape.iter().product(), f64::from(parameters - 1));
            let values: Vec<f64> = waves.into_iter().map(of_wave).collect();
            Tensor::from_vec(values, shape.clone(), &CPU).unwrap()
        };
        let tensor = match role {
            Role::Kernels => trained(&|x| x * 2.0 / ((shape[0] * shape[2] * shape[3]) as f64).sqrt()),
            Role::NormWeight if name.ends_with("bn3.weight") => trained(&|x| 0.1 + 0.05 * x),
            Role::NormWeight => trained(&|x| 1.0 + 0.1 * x),
            Role::NormBias => trained(&|x| 0.1 * x),
            Role::RunningMean => full(0.0),
            Role::RunningVariance => full(1.0),
            Role::Batches => return (name, Tensor::new(0i64, &CPU).unwrap()),
        };
        (name, tensor.to_dtype(dtype).unwrap())
    };
    architecture.tensors().into_iter().map(tensor).collect()
}

pub(crate) fn golden_images(count: usize, size_px: usize) -> Inputs {
    let pixel = |index: usize| ((index * 7919 + index / 97 * 31) % 256) as u8;
    ImageBatch::new((0..count * size_px * size_px * 3).map(pixel).collect(), count, size_px).unwrap().into()
}

/// A ResNet-18 as the program makes it.
pub(crate) fn encoder(state: &State, arithmetic: &Arithmetic) -> faceoff_kernels::Result<Box<dyn Encoder>> {
    faceoff_kernels::encoder(&RESNET18, state, arithmetic)
}

pub(crate) fn step(step: u64) -> AdamWStep {
    let (learning_rate, beta1, beta2, epsilon, weight_decay) = (1e-3, 0.9, 0.999, 1e-8, 0.05);
    AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, step }
}

/// A gradient at the embeddings.
pub(crate) fn direction(architecture: &Architecture, count: usize) -> Tensor {
    let dim = architecture.dim();
    Tensor::from_vec(wave(count * dim, 0.1), (count, dim), &CPU).unwrap()
}

pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&CPU).unwrap().to_dtype(DType::F64).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// Two projections agree to `tolerance` of the tensor's norm.
fn assert_projections(what: &str, tensor: &Tensor, expected: &Value, tolerance: f64) {
    let expected = [expected[0].as_f64().unwrap(), expected[1].as_f64().unwrap()];
    let flat = numbers(tensor);
    let along: f64 = flat.iter().zip(wave(flat.len(), 0.3)).map(|(x, y)| x * y).sum();
    let norm = flat.iter().map(|x| x * x).sum::<f64>().sqrt();
    for (found, wanted) in [along, norm].into_iter().zip(expected) {
        let error = (found - wanted).abs() / expected[1].max(1e-9);
        assert!(error <= tolerance, "{what}: {found} instead of {wanted}, error {error:e}");
    }
}

fn assert_rows(what: &str, embeddings: &Tensor, expected: &Value, tolerance: f64) {
    for (row, expected) in expected.as_array().unwrap().iter().enumerate() {
        assert_projections(&format!("{what}, image {row}"), &embeddings.get(row).unwrap(), expected, tolerance);
    }
}

/// Runs every golden case of `architectures` through `encoder`, with every outcome to `tolerance`.
pub(crate) fn check_goldens(
    architectures: impl IntoIterator<Item = &'static Architecture>,
    encoder: impl Fn(&Architecture, &State) -> Box<dyn Encoder>,
    dtype: DType,
    tolerance: f64,
) {
    for architecture in architectures {
        let path = format!("{}/tests/golden/{}.json", env!("CARGO_MANIFEST_DIR"), architecture.name);
        let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for case in cases.as_array().unwrap() {
            let mut encoder = encoder(architecture, &golden_state(architecture, dtype));
            let (count, size_px) =
                (case["count"].as_u64().unwrap() as usize, case["size_px"].as_u64().unwrap() as usize);
            let images = golden_images(count, size_px);
            let direction = direction(architecture, count).to_dtype(dtype).unwrap();
            // In f32 a few of the two million units of 50 layers change sides at a ReLU: gradients are rougher, and steps of AdamW, which take
            // their signs, soon lead elsewhere.
            let rough = dtype == DType::F32 && is_deep(architecture);
            let steps = if rough { 1 } else { usize::MAX };
            for (index, golden) in case["steps"].as_array().unwrap().iter().take(steps).enumerate() {
                let (embeddings, tape) = encoder.forward_train(&images).unwrap();
                let direction = direction.to_device(embeddings.device()).unwrap();
                let gradients = encoder.backward(tape, &direction).unwrap();
                if index == 0 {
                    assert_rows("embeddings", &embeddings, &case["embeddings"], tolerance);
                    for (name, gradient) in encoder.named_gradients(&gradients).unwrap() {
                        let tolerance = if rough { 1e-2 } else { tolerance };
                        assert_projections(&name, &gradient, &case["gradients"][&name], tolerance);
                    }
                    let state = encoder.state().unwrap();
                    let buffers = case["buffers"].as_object().unwrap();
                    let trained = architecture.parameters().len();
                    assert_eq!((case["gradients"].as_object().unwrap().len(), buffers.len()), (trained, trained));
                    for (name, expected) in buffers {
                        let (_, tensor) = state.iter().find(|(other, _)| other == name).unwrap();
                        assert_projections(name, tensor, expected, tolerance);
                    }
                }
                let number = |name: &str| golden[name].as_f64().unwrap();
                let (learning_rate, beta1) = (number("learning_rate"), number("beta1"));
                let step = AdamWStep { learning_rate, beta1, ..step(index as u64 + 1) };
                encoder.apply(gradients, &step).unwrap();
                // AdamW's first steps are the gradient's signs: what is near 0 flips with the last bit, so errors grow.
                let after = encoder.forward(&images).unwrap();
                assert_rows(&format!("after step {}", index + 1), &after, &golden["embeddings"], tolerance * 1e3);
            }
        }
    }
}

#[test]
fn equals_torchvision_and_adamw_in_f64() {
    let encoder = |architecture: &Architecture, state: &State| -> Box<dyn Encoder> {
        Box::new(PortableEncoder::new(architecture, state, device(), DType::F64).unwrap())
    };
    check_goldens(ARCHITECTURES, encoder, DType::F64, 1e-9);
}

/// The derivative along a random direction of all parameters, against central differences.
#[test]
fn gradients_equal_finite_differences() {
    check_finite_differences(&RESNET18);
    check_finite_differences(&RESNET18.with_blur_pool(true));
}

fn check_finite_differences(architecture: &Architecture) {
    let images = golden_images(2, 33);
    let direction = direction(&RESNET18, 2).to_device(device()).unwrap();
    let state = golden_state(&RESNET18, DType::F64);
    let loss = |state: &State| {
        let mut encoder = PortableEncoder::new(architecture, state, device(), DType::F64).unwrap();
        let (embeddings, _) = encoder.forward_train(&images).unwrap();
        (embeddings * &direction).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap()
    };
    let mut encoder = PortableEncoder::new(architecture, &state, device(), DType::F64).unwrap();
    let (_, tape) = encoder.forward_train(&images).unwrap();
    let gradients = encoder.backward(tape, &direction).unwrap();
    let gradients = encoder.named_gradients(&gradients).unwrap();

    for name in
        ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight", "layer4.1.bn2.bias"]
    {
        let (_, gradient) = gradients.iter().find(|(other, _)| other == name).unwrap();
        let along = Tensor::from_vec(wave(gradient.elem_count(), 0.9), gradient.shape(), &CPU).unwrap();
        let expected = (gradient * &along).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        let moved = |h: f64| -> State {
            let shift = |(other, tensor): &(String, Tensor)| {
                let tensor = if other == name { (tensor + (&along * h).unwrap()).unwrap() } else { tensor.clone() };
                (other.clone(), tensor)
            };
            state.iter().map(shift).collect()
        };
        let h = 1e-7;
        let difference = (loss(&moved(h)) - loss(&moved(-h))) / (2.0 * h);
        let error = (difference - expected).abs() / expected.abs().max(1e-3);
        assert!(error < 1e-4, "{name}: {difference} instead of {expected}");
    }
}

/// With BlurPool the embeddings are those of the network written down once more, block by block as Composer's `blur_first` changes them, from
/// convolutions of each channel by itself; at an odd size, so that the border counts. Without, they are others.
#[test]
fn blur_pool_smooths_before_every_convolution_of_a_block_with_a_stride() {
    for (architecture, size_px) in [(RESNET18, 70), (RESNET50, 97)] {
        let (images, state) = (golden_images(2, size_px), golden_state(&architecture, DType::F64));
        let Inputs::Images(batch) = &images else { unreachable!("they are images") };
        let tensor = |name: String| &state.iter().find(|(other, _)| *other == name).unwrap().1;
        let layer = |conv: &str, norm: &str, x: &Tensor, stride: usize| {
            let weight = tensor(format!("{conv}.weight"));
            let z = x.conv2d(weight, weight.dim(2).unwrap() / 2, stride, 1, 1).unwrap();
            let centered = z.broadcast_sub(&z.mean_keepdim((0, 2, 3)).unwrap()).unwrap();
            let variance = centered.sqr().unwrap().mean_keepdim((0, 2, 3)).unwrap();
            let normalized = centered.broadcast_div(&(variance + 1e-5).unwrap().sqrt().unwrap()).unwrap();
            let of_channel = |part: &str| tensor(format!("{norm}.{part}")).reshape((1, (), 1, 1)).unwrap();
            normalized.broadcast_mul(&of_channel("weight")).unwrap().broadcast_add(&of_channel("bias")).unwrap()
        };
        let blur = |x: &Tensor| {
            let filter = [1.0, 2.0, 1.0, 2.0, 4.0, 2.0, 1.0, 2.0, 1.0].map(|weight: f64| weight / 16.0);
            let channels = x.dim(1).unwrap();
            let filters = Tensor::from_vec(filter.repeat(channels), (channels, 1, 3, 3), &CPU).unwrap();
            x.conv2d(&filters, 1, 1, 1, channels).unwrap()
        };
        let mut x = Tensor::from_slice(batch.pixels(), (2, size_px, size_px, 3), &CPU).unwrap();
        x = (x.to_dtype(DType::F64).unwrap().permute((0, 3, 1, 2)).unwrap().contiguous().unwrap() / 255.0).unwrap();
        let of_pixels =
            |values: [f32; 3]| Tensor::new(&values.map(f64::from), &CPU).unwrap().reshape((1, 3, 1, 1)).unwrap();
        x = x.broadcast_sub(&of_pixels(MEAN)).unwrap();
        x = x.broadcast_div(&of_pixels(DEVIATION)).unwrap();
        x = layer("conv1", "bn1", &x, 2).relu().unwrap();
        // Behind a ReLU a border of zeros changes no maximum.
        x = x.pad_with_zeros(2, 1, 1).unwrap().pad_with_zeros(3, 1, 1).unwrap().max_pool2d_with_stride(3, 2).unwrap();
        for (stage, blocks) in architecture.stages.iter().enumerate() {
            for block in 0..blocks.blocks {
                let name = |part: &str| format!("layer{}.{block}.{part}", stage + 1);
                let stride = if block == 0 { blocks.stride } else { 1 };
                let smooth = |x: &Tensor| if stride == 2 { blur(x) } else { x.clone() };
                let of = |number: usize, x: &Tensor, stride: usize| {
                    layer(&name(&format!("conv{number}")), &name(&format!("bn{number}")), x, stride)
                };
                let branch = if is_deep(&architecture) {
                    let inner = smooth(&of(1, &x, 1).relu().unwrap());
                    of(3, &of(2, &inner, stride).relu().unwrap(), 1)
                } else {
                    of(2, &of(1, &smooth(&x), stride).relu().unwrap(), 1)
                };
                let changes = stride == 2 || x.dim(1).unwrap() != blocks.channels;
                let shortcut = match changes {
                    true => layer(&name("downsample.0"), &name("downsample.1"), &smooth(&x), stride),
                    false => x,
                };
                x = (branch + shortcut).unwrap().relu().unwrap();
            }
        }
        let expected = numbers(&x.mean((2, 3)).unwrap());
        let largest = |blur_pool: bool| {
            let architecture = architecture.with_blur_pool(blur_pool);
            let mut encoder = PortableEncoder::new(&architecture, &state, &CPU, DType::F64).unwrap();
            let found = numbers(&encoder.forward_train(&images).unwrap().0);
            assert_eq!(found.len(), expected.len());
            found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
        };
        let (with, without) = (largest(true), largest(false));
        assert!(with < 1e-10 && without > 1e-3, "{}: {with:e} with, {without:e} without", architecture.name);
    }
}

/// Candle's gradients hold the graph that they were computed by; moments that held it would hold that of every step.
#[test]
fn moments_hold_no_graph() {
    let weights = Var::from_tensor(&Tensor::new(&[1f32, -2.0, 3.0], device()).unwrap()).unwrap();
    let gradients = weights.sqr().unwrap().sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&weights).unwrap().track_op());
    let mut optimizer = AdamW::new(vec![("weights".into(), weights)]).unwrap();
    optimizer.step(&gradients, &step(1)).unwrap();
    assert!(optimizer.state().unwrap().iter().all(|(_, moment)| !moment.track_op()));
}

#[test]
fn wrong_states_are_named() {
    let message = |change: &dyn Fn(&mut State)| {
        let mut state = golden_state(&RESNET18, DType::F32);
        change(&mut state);
        encoder(&state, &Arithmetic::on_cpu(None).unwrap()).err().expect("the state is wrong").to_string()
    };
    let missing = message(&|state| state.retain(|(name, _)| name != "layer3.1.bn2.bias"));
    assert!(missing.starts_with("tensor `layer3.1.bn2.bias`: it is missing;"), "{missing}");
    assert!(missing.ends_with("; the file must hold a resnet18 with torchvision's names and shapes"), "{missing}");
    let unknown = message(&|state| state.push(("fc.weight".into(), Tensor::new(0f32, &CPU).unwrap())));
    assert!(unknown.starts_with("tensor `fc.weight`: it is unknown;"), "{unknown}");
    let shape = message(&|state| state[0].1 = Tensor::zeros((64, 3, 3, 3), DType::F32, &CPU).unwrap());
    assert!(shape.contains("its shape is [64, 3, 3, 3], not [64, 3, 7, 7]"), "{shape}");
    let dtype = message(&|state| state[0].1 = Tensor::zeros((64, 3, 7, 7), DType::I64, &CPU).unwrap());
    assert!(dtype.contains("its type is I64"), "{dtype}");
}

#[test]
fn wrong_batches_and_gradients_are_errors() {
    let error = ImageBatch::new(vec![0; 10], 1, 2).unwrap_err().to_string();
    assert!(error.contains("10 bytes of pixels for 1 images of 2 px"), "{error}");
    assert!(ImageBatch::new(Vec::new(), 0, 32).is_err());
    let mut encoder = encoder(&golden_state(&RESNET18, DType::F32), &Arithmetic::on_cpu(None).unwrap()).unwrap();
    let (_, tape) = encoder.forward_train(&golden_images(2, 33)).unwrap();
    let grad = Tensor::zeros((3, 512), DType::F32, &CPU).unwrap();
    let error = encoder.backward(tape, &grad).err().expect("the batch has two images").to_string();
    assert!(error.contains("[3, 512]") && error.contains("[2, 512]"), "{error}");
}

#[test]
fn architectures_are_found_by_name() {
    for architecture in ARCHITECTURES {
        assert_eq!(faceoff_kernels::architecture(architecture.name).unwrap(), architecture);
    }
    let error = faceoff_kernels::architecture("resnet19").unwrap_err().to_string();
    assert_eq!(error, "`resnet19` names no encoder; choose one of resnet18, resnet34, resnet50");
}
