//! What is written is read by rten, another implementation of ONNX, and gives the embeddings of our own encoders.

mod index;

use candle_core::{Device, Tensor};
use faceoff_export::{Error, Exported, INPUT_IMAGES, OUTPUT, SCORES, Scores, onnx};
use faceoff_kernels::resnet::{RESNET18, RESNET50};
use faceoff_kernels::{
    Architecture, Arithmetic, Encoder, ImageBatch, Inputs, Projection, ProjectionEncoder, RowBatch, State, encoder,
};
use faceoff_runs::TensorFile;
use faceoff_training::{initial_encoder, save_weights};
use rten::{Model, Value};
use rten_tensor::prelude::*;

const SIZE: usize = 48;
/// Largest difference of a number from our own encoder's, of embeddings of unit length.
const TOLERANCE: f32 = 1e-4;

fn file(state: &State) -> TensorFile {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("encoder.safetensors");
    save_weights(&path, state, None).unwrap();
    TensorFile::read(&path).unwrap()
}

/// Made-up images: bytes (count, SIZE, SIZE, 3).
fn images(count: usize, seed: usize) -> ImageBatch {
    let pixel = |index: usize| ((index * 7919 + seed * 104_729 + index / 131 * 31) % 256) as u8;
    ImageBatch::new((0..count * SIZE * SIZE * 3).map(pixel).collect(), count, SIZE).unwrap()
}

/// An encoder whose running statistics are those of images, and whose batch norms differ from channel to channel.
fn trained(architecture: &Architecture) -> (Box<dyn Encoder>, State) {
    let arithmetic = Arithmetic::on_cpu(None).unwrap();
    let mut state = initial_encoder(architecture, 3).unwrap();
    for (name, tensor) in &mut state {
        if name.contains("bn") && (name.ends_with("weight") || name.ends_with("bias")) {
            let numbers = tensor.to_vec1::<f32>().unwrap();
            let numbers: Vec<f32> = (0..numbers.len()).map(|at| numbers[at] + 0.3 * (at as f32 * 1.7).sin()).collect();
            *tensor = Tensor::new(numbers, &Device::Cpu).unwrap();
        }
    }
    let mut encoder = encoder(architecture, &state, &arithmetic).unwrap();
    for step in 0..5 {
        encoder.forward_train(&images(4, step).into()).unwrap();
    }
    let state = encoder.state().unwrap();
    (encoder, state)
}

/// Rows of `features`, and the same brought to unit length.
fn features(encoder: &dyn Encoder, inputs: Inputs) -> [Vec<Vec<f32>>; 2] {
    let features = encoder.forward(&inputs).unwrap().to_vec2::<f32>().unwrap();
    let unit = |row: &Vec<f32>| {
        let length = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.iter().map(|x| x / length).collect()
    };
    let embeddings = features.iter().map(unit).collect();
    [features, embeddings]
}

fn run(model: &Model, shape: &[usize], numbers: Vec<f32>, output: &str) -> Vec<f32> {
    let input = rten_tensor::Tensor::from_data(shape, numbers);
    let id = model.input_ids()[0];
    let found = model.run(vec![(id, input.into())], &[model.node_id(output).unwrap()], None).unwrap();
    let Value::FloatTensor(found) = &found[0] else { panic!("{output} is not of floats") };
    assert_eq!(found.shape()[0], shape[0]);
    found.to_vec()
}

/// The pixels as the file takes them: channels first, in [0, 1].
fn pixels(images: &ImageBatch) -> Vec<f32> {
    let area = SIZE * SIZE;
    let of = |image: &[u8]| {
        let at = |at: usize| f32::from(image[at % area * 3 + at / area]) / 255.0;
        (0..3 * area).map(at).collect::<Vec<_>>()
    };
    images.pixels().chunks_exact(3 * area).flat_map(of).collect()
}

fn apart(found: &[f32], expected: &[Vec<f32>]) -> f32 {
    let expected = expected.concat();
    assert_eq!(found.len(), expected.len());
    found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn another_reader_gives_the_same_embeddings_for_batches_of_any_size() {
    let [blurred18, blurred50] = [RESNET18, RESNET50].map(|architecture| architecture.with_blur_pool(true));
    for (architecture, of_unit) in
        [(&RESNET18, true), (&RESNET18, false), (&RESNET50, true), (&blurred18, true), (&blurred50, true)]
    {
        let (encoder, state) = trained(architecture);
        let classes: Vec<f32> = (0..3 * architecture.dim()).map(|at| (at as f32 * 0.37).cos()).collect();
        let scores = Scores { vectors: classes.clone(), bias: vec![0.5, 0.0, -1.0], of_unit };
        let metadata = [("faceoff.run", "it's <this> one".to_string())];
        let weights = file(&state);
        let exported = Exported::ResNet(architecture, SIZE);
        let bytes = onnx(exported, &weights, Some(&scores), "a test", &metadata).unwrap();
        assert_eq!(bytes, onnx(exported, &weights, Some(&scores), "a test", &metadata).unwrap());
        let model = Model::load(bytes).unwrap();
        let name = model.node_info(model.input_ids()[0]).unwrap().name().unwrap().to_string();
        assert_eq!(name, INPUT_IMAGES);
        for count in [1, 3, 17] {
            let images = images(count, 100 + count);
            let [raw, unit] = features(encoder.as_ref(), images.clone().into());
            let shape = [count, 3, SIZE, SIZE];
            let found = run(&model, &shape, pixels(&images), OUTPUT);
            let apart_by = apart(&found, &unit);
            assert!(apart_by <= TOLERANCE, "{count} images: {apart_by}");
            // What is compared is not all the same.
            assert!(count == 1 || apart(&unit[0], &[unit[1].clone()]) > 100.0 * TOLERANCE);
            let scored = |row: &Vec<f32>| {
                let of_class =
                    |(vector, bias): (&[f32], &f32)| vector.iter().zip(row).map(|(a, b)| a * b).sum::<f32>() + bias;
                classes.chunks_exact(architecture.dim()).zip(&scores.bias).map(of_class).collect::<Vec<f32>>()
            };
            let expected: Vec<_> = if of_unit { &unit } else { &raw }.iter().map(scored).collect();
            let largest = expected.concat().iter().fold(1.0_f32, |most, score| most.max(score.abs()));
            let apart_by = apart(&run(&model, &shape, pixels(&images), SCORES), &expected);
            assert!(apart_by <= TOLERANCE * largest, "scores of {count} images: {apart_by}");
        }
    }
}

#[test]
fn projections_of_rows_are_exported_too() {
    for (hidden, normalize) in [(0, false), (0, true), (24, true)] {
        let projection = Projection { inputs: 20, hidden, outputs: 8, normalize };
        let tensor = |(name, sizes): (String, Vec<usize>)| {
            let numbers: Vec<f32> =
                (0..sizes.iter().product()).map(|at| (at as f32 * 0.61 + name.len() as f32).sin()).collect();
            (name, Tensor::from_vec(numbers, sizes, &Device::Cpu).unwrap())
        };
        let state: State = projection.tensors().into_iter().map(tensor).collect();
        let encoder = ProjectionEncoder::new(projection, &state, &Device::Cpu).unwrap();
        let bytes = onnx(Exported::Projection(&projection), &file(&state), None, "", &[]).unwrap();
        let model = Model::load(bytes).unwrap();
        for count in [1, 5] {
            let rows: Vec<f32> = (0..count * 20).map(|at| (at as f32 * 0.83).cos() * 9.0).collect();
            let [_, unit] = features(&encoder, RowBatch::new(rows.clone(), count).unwrap().into());
            let apart_by = apart(&run(&model, &[count, 20], rows, OUTPUT), &unit);
            assert!(apart_by <= TOLERANCE, "hidden {hidden}: {apart_by}");
        }
    }
}

#[test]
fn weights_that_are_not_those_of_the_encoder_are_refused() {
    let refused = |change: &dyn Fn(&mut State)| {
        let mut state = initial_encoder(&RESNET18, 0).unwrap();
        change(&mut state);
        let error: Error = onnx(Exported::ResNet(&RESNET18, SIZE), &file(&state), None, "", &[]).unwrap_err();
        error.to_string()
    };
    let place = |state: &State, name: &str| state.iter().position(|(other, _)| other == name).unwrap();
    let missing = refused(&|state| drop(state.remove(place(state, "layer3.1.conv2.weight"))));
    assert!(missing.starts_with("the encoder's `layer3.1.conv2.weight` is missing, but it must be F32"), "{missing}");
    let replaced = |values: &'static [f32]| {
        refused(&move |state| {
            let place = place(state, "bn1.running_mean");
            state[place].1 = Tensor::new(values, &Device::Cpu).unwrap();
        })
    };
    let other = replaced(&[0.0; 3]);
    assert!(other.contains("F32 of sizes [3], but it must be F32 of sizes [64]"), "{other}");
    static BROKEN: [f32; 64] = [f32::NAN; 64];
    let broken = replaced(&BROKEN);
    assert!(broken.contains("`bn1.running_mean` is not finite: it holds NaN"), "{broken}");
}
