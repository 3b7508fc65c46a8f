//! The loop: what it writes, what it repeats bit for bit, and how it stops.

use crate::run_of;
use candle_core::{DType, Tensor};
use faceoff_data::{Dataset, ImageSource};
use faceoff_kernels::resnet::RESNET18;
use faceoff_kernels::{Arithmetic, ImageBatch};
use faceoff_runs::{Averaging, Flip, RunFolder, RunSpec};
use faceoff_training::{Event, Model, TrainingEnd, initial_encoder, load_weights, save_weights, train};
use std::sync::atomic::{AtomicBool, Ordering};

fn cpu() -> Arithmetic {
    Arithmetic::on_cpu(None).unwrap()
}

/// A head's run with the images and the recipe of smoke, on 80 images, in a folder of its own.
fn begun(variant: &str) -> (tempfile::TempDir, RunSpec, Dataset, RunFolder) {
    let folder = tempfile::tempdir().unwrap();
    let spec = run_of(variant);
    let cache_dir = folder.path().to_path_buf();
    let source = ImageSource::cached(cache_dir);
    let images = Dataset::open(&spec.data, &source, &|_, _, _| {}).unwrap();
    let run_folder = RunFolder::new(folder.path(), &spec);
    (folder, spec, images, run_folder)
}

/// Trains until the end, or until `stop_after` steps are done in this call.
fn run(spec: &RunSpec, folder: &RunFolder, images: &Dataset, stop_after: usize) -> (TrainingEnd, Vec<f64>) {
    let stop = AtomicBool::new(false);
    let mut losses = Vec::new();
    let outcome = train(spec, folder, images, &cpu(), &stop, &mut |event| {
        if let Event::Step { loss, .. } = event {
            losses.push(loss);
            stop.store(losses.len() == stop_after, Ordering::Relaxed);
        }
    });
    (outcome.unwrap(), losses)
}

#[test]
fn a_stopped_training_goes_on_bit_for_bit() {
    // Heads with state in numbers and in weights, and a loss of pairs, which has neither.
    for head in ["AdaCos", "AdaFace", "SphereFace2", "SupCon"] {
        goes_on_bit_for_bit(head);
    }
}

/// Sides that change in the middle of an epoch, flips that remember the epoch, smoothed labels, averaged weights, smoothed maps: each and all.
#[test]
fn a_stopped_training_goes_on_bit_for_bit_under_every_recipe() {
    type Change = fn(&mut RunSpec);
    let changes: [Change; 5] = [
        |spec| spec.training.progressive_resizing = vec![(0.0, 16), (0.3, 24), (0.75, 32)],
        |spec| spec.data.augmentation.flip = Flip::Alternating,
        |spec| spec.training.label_smoothing = 0.1,
        |spec| spec.training.ema = Some(Averaging { decay: 0.9, every_steps: 3 }),
        |spec| spec.training.blur_pool = true,
    ];
    let mut weights: Vec<Vec<u8>> = Vec::new();
    for some in [&changes[..0], &changes[..1], &changes[1..2], &changes[2..3], &changes[3..4], &changes[4..], &changes]
    {
        let change = |spec: &mut RunSpec| some.iter().for_each(|change| change(spec));
        weights.push(goes_on_bit_for_bit_with("AdaCos", &change));
    }
    for (index, one) in weights.iter().enumerate() {
        assert!(!weights[..index].contains(one), "recipe {index} learns what another one does");
    }
}

fn goes_on_bit_for_bit(head: &str) {
    goes_on_bit_for_bit_with(head, &|_| {});
}

/// The same of a changed specification; the encoder's bytes.
fn goes_on_bit_for_bit_with(head: &str, change: &dyn Fn(&mut RunSpec)) -> Vec<u8> {
    let (folder, mut spec, _, _) = begun(head);
    change(&mut spec);
    let images = Dataset::open(&spec.data, &ImageSource::cached(folder.path().to_path_buf()), &|_, _, _| {}).unwrap();
    let whole = RunFolder::new(folder.path(), &spec);
    let resumed = RunFolder::new(&folder.path().join("resumed"), &spec);
    let (outcome, losses) = run(&spec, &whole, &images, usize::MAX);
    assert!(matches!(outcome, TrainingEnd::Done(..)));
    assert_eq!(losses.len(), 8);

    // In the middle of each epoch: what the first one learnt after its checkpoint is learnt again.
    let (outcome, first) = run(&spec, &resumed, &images, 2);
    assert!(matches!(outcome, TrainingEnd::Stopped) && first == losses[..2]);
    let (outcome, second) = run(&spec, &resumed, &images, 6);
    assert!(matches!(outcome, TrainingEnd::Stopped) && second == losses[..6]);
    let (outcome, third) = run(&spec, &resumed, &images, usize::MAX);
    assert!(matches!(outcome, TrainingEnd::Done(..)) && third == losses[4..]);
    for path in [RunFolder::encoder_path, RunFolder::head_path] {
        assert!(std::fs::read(path(&whole)).unwrap() == std::fs::read(path(&resumed)).unwrap());
    }
    let history = |run: &RunFolder| std::fs::read_to_string(run.path().join("history.csv")).unwrap();
    assert_eq!(history(&whole), history(&resumed));
    let scored = head != "SupCon";
    for row in history(&whole).lines().skip(1) {
        let fields: Vec<&str> = row.split(',').collect();
        assert_eq!(fields.len(), 18, "{row}");
        // Accuracy, angles, probability of the label, class weights, state.
        for column in [6, 9, 10, 13, 16, 17] {
            assert_eq!(fields[column].is_empty(), !scored, "{row}");
        }
        assert!(fields[14..16].iter().all(|length| length.parse::<f64>().unwrap() > 0.0), "{row}");
    }
    std::fs::read(whole.encoder_path()).unwrap()
}

/// What is saved is the average that the formula gives from the weights after each step, which themselves stay what they are without it.
#[test]
fn averaged_weights_are_those_of_the_formula_and_change_nothing_that_is_learnt() {
    let (folder, mut spec, images, _) = begun("Classification");
    spec.training.epochs = 1;
    let state_of = |model: &Model| {
        let values =
            |tensor: Tensor| tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let all = model.encoder.state().unwrap().into_iter().chain(model.head.tensors().unwrap());
        all.map(|(name, tensor)| (name, values(tensor))).collect::<Vec<_>>()
    };
    let trained = |ema: Option<Averaging>| {
        let mut spec = spec.clone();
        spec.training.ema = ema;
        let run_folder = RunFolder::new(&folder.path().join(format!("{ema:?}")), &spec);
        let (TrainingEnd::Done(model, _), losses) = run(&spec, &run_folder, &images, usize::MAX) else {
            panic!("it ends")
        };
        (state_of(&model), losses)
    };
    let (last, losses) = trained(None);
    assert_eq!(losses.len(), 4);
    let start = state_of(&Model::new(&spec, images.classes(), &cpu()).unwrap());
    // One update, after the last of four steps: (1 + 1) / (10 + 1) of the start is kept, or the decay where it is less.
    for (decay, keep) in [(0.9, 2.0 / 11.0), (0.1, 0.1)] {
        let (averaged, same_losses) = trained(Some(Averaging { decay, every_steps: 4 }));
        assert_eq!(same_losses, losses);
        for (((name, averaged), (_, last)), (_, start)) in averaged.iter().zip(&last).zip(&start) {
            for ((averaged, last), start) in averaged.iter().zip(last).zip(start) {
                let counts = name.ends_with("num_batches_tracked");
                let expected = if counts { *last } else { keep * start + (1.0 - keep) * last };
                assert!((averaged - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{name}: {averaged} {expected}");
            }
        }
    }
    // Beyond the last step there is no update, and the start would embed.
    spec.training.ema = Some(Averaging { decay: 0.9, every_steps: 5 });
    let run_folder = RunFolder::new(&folder.path().join("none"), &spec);
    let message = train(&spec, &run_folder, &images, &cpu(), &AtomicBool::new(false), &mut |_| {}).err().unwrap();
    assert!(message.to_string().contains("after every 5th step, but the training has 4"), "{message}");
}

#[test]
fn labels_of_a_loss_of_pairs_are_not_smoothed() {
    let (_folder, mut spec, images, run_folder) = begun("SupCon");
    spec.training.label_smoothing = 0.1;
    let message = train(&spec, &run_folder, &images, &cpu(), &AtomicBool::new(false), &mut |_| {}).err().unwrap();
    assert!(message.to_string().contains("training.label_smoothing is 0.1, but the loss of SupCon"), "{message}");
}

/// Of all classes nothing changes, to the bit; of some it goes on bit for bit too. Heads whose loss is no softmax are refused.
#[test]
fn class_sampling_of_all_classes_changes_nothing_and_of_some_only_theirs() {
    for head in ["Classification", "AdaCos", "SubCenterArcFace", "SphereFace2", "SoftTriple", "SupCon"] {
        let (folder, spec, images, plain) = begun(head);
        run(&spec, &plain, &images, usize::MAX);
        let mut all = spec.clone();
        all.training.class_sampling = Some(1.0);
        let sampled = RunFolder::new(&folder.path().join("all"), &all);
        run(&all, &sampled, &images, usize::MAX);
        for path in [RunFolder::encoder_path, RunFolder::head_path] {
            assert!(std::fs::read(path(&plain)).unwrap() == std::fs::read(path(&sampled)).unwrap(), "{head}");
        }
    }

    for head in ["AdaCos", "SphereFace2"] {
        let (_folder, mut spec, images, run_folder) = begun(head);
        spec.training.class_sampling = Some(0.1);
        let message = train(&spec, &run_folder, &images, &cpu(), &AtomicBool::new(false), &mut |_| {}).err().unwrap();
        assert!(message.to_string().contains("training.class_sampling is 0.1, but the loss of"), "{message}");
    }

    let (folder, mut spec, images, whole) = begun("CurricularFace");
    (spec.training.class_sampling, spec.training.batch_size) = (Some(0.1), 4);
    let (outcome, losses) = run(&spec, &whole, &images, usize::MAX);
    assert!(matches!(outcome, TrainingEnd::Done(..)) && losses.iter().all(|loss| loss.is_finite()));
    let resumed = RunFolder::new(&folder.path().join("resumed"), &spec);
    run(&spec, &resumed, &images, 21);
    run(&spec, &resumed, &images, usize::MAX);
    assert!(std::fs::read(whole.head_path()).unwrap() == std::fs::read(resumed.head_path()).unwrap());
}

#[test]
fn a_step_of_sampled_classes_moves_their_weights_alone() {
    let (_folder, mut spec, images, run_folder) = begun("ArcFace");
    (spec.training.class_sampling, spec.training.batch_size, spec.training.epochs) = (Some(0.1), 3, 1);
    let weights = |model: &Model| -> Vec<Vec<f32>> { model.head.variables()[0].1.to_vec2().unwrap() };
    let before = weights(&Model::new(&spec, images.classes(), &cpu()).unwrap());
    // One batch of three images: at most three of ten classes are seen.
    let mut few = spec.data.clone();
    few.images_per_split = Some(3);
    let cache = run_folder.path().parent().unwrap().parent().unwrap().to_path_buf();
    let few = Dataset::open(&few, &ImageSource::cached(cache), &|_, _, _| {}).unwrap();
    let (TrainingEnd::Done(model, _), _) = run(&spec, &run_folder, &few, usize::MAX) else { panic!("it ends") };
    let moved = weights(&model).iter().zip(&before).filter(|(after, before)| after != before).count();
    assert_eq!(moved, 3);
}

#[test]
fn an_encoder_starts_from_a_file_stays_where_it_is_frozen_and_learns_at_its_own_pace() {
    let (folder, spec, images, run_folder) = begun("AdaCos");
    let path = folder.path().join("weights.safetensors");
    let weights = initial_encoder(&RESNET18, 5).unwrap();
    save_weights(&path, &weights, None).unwrap();
    let mut frozen = spec.clone();
    frozen.training.encoder_init = Some(path.to_string_lossy().into_owned());
    frozen.training.encoder_frozen = true;
    let (TrainingEnd::Done(model, _), losses) = run(&frozen, &run_folder, &images, usize::MAX) else {
        panic!("it ends")
    };
    assert!(losses[0] != losses[7], "the head learns");
    let values =
        |tensor: &Tensor| tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    for ((name, after), (_, before)) in model.encoder.state().unwrap().iter().zip(&weights) {
        assert!(values(after) == values(before), "{name}");
    }
    // Another file under the same path is not taken for it.
    frozen.training.encoder_init_blake3 = Some("0".repeat(64));
    let other = RunFolder::new(&folder.path().join("other"), &frozen);
    let stop = AtomicBool::new(false);
    let message = train(&frozen, &other, &images, &cpu(), &stop, &mut |_| {}).err().unwrap().to_string();
    assert!(message.contains("as training.encoder_init_blake3 says"), "{message}");

    let bytes = |factor: Option<f64>| {
        let mut spec = spec.clone();
        (spec.training.encoder_learning_rate_scale, spec.training.epochs) = (factor, 1);
        let folder = RunFolder::new(&folder.path().join(format!("{factor:?}")), &spec);
        run(&spec, &folder, &images, usize::MAX);
        std::fs::read(folder.encoder_path()).unwrap()
    };
    assert!(bytes(None) == bytes(Some(1.0)));
    assert!(bytes(None) != bytes(Some(0.1)));
}

#[test]
fn a_whole_run_comes_back_from_its_files() {
    let (_folder, spec, images, run_folder) = begun("AdaCos");
    let (TrainingEnd::Done(model, timing), _) = run(&spec, &run_folder, &images, usize::MAX) else { panic!("it ends") };
    assert_eq!(timing.images, 128);
    let read = Model::of_run(&run_folder, &spec, images.classes(), &cpu()).unwrap();
    assert_eq!(read.head.effective_scale(), model.head.effective_scale());
    let batch = ImageBatch::new(vec![90; 2 * 32 * 32 * 3], 2, 32).unwrap().into();
    let embeddings =
        |model: &Model| model.encoder.forward(&batch).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(embeddings(&read), embeddings(&model));
}

/// A loss that is not finite ends the run, keeps the last checkpoint, and is noted with head, epoch, step and rate.
#[test]
fn a_diverging_training_is_noted() {
    let (_folder, mut spec, images, run_folder) = begun("Classification");
    spec.training.peak_learning_rate = 1e36;
    let (TrainingEnd::Diverged(failure), losses) = run(&spec, &run_folder, &images, usize::MAX) else {
        panic!("it ends")
    };
    assert_eq!((failure.head.as_str(), failure.epoch, failure.step), ("Classification", 1, losses.len() + 1));
    assert!(failure.learning_rate > 1e30 && failure.message.contains("lower the learning rate"), "{failure:?}");
    assert_eq!(run_folder.failure().unwrap(), Some(failure));
    assert!(losses.iter().all(|loss| loss.is_finite()));
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let (_folder, spec, images, run_folder) = begun("AdaCos");
    run(&spec, &run_folder, &images, 5);
    let mut other = spec.clone();
    other.training.epochs = 3;
    let stop = AtomicBool::new(false);
    let refused = |spec: &RunSpec| match train(spec, &run_folder, &images, &cpu(), &stop, &mut |_| {}) {
        Ok(_) => panic!("it must be refused"),
        Err(error) => error.to_string(),
    };
    assert!(refused(&other).contains("another configuration"));
    let path = run_folder.checkpoint_path();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    std::fs::write(&path, &bytes[..middle]).unwrap();
    let message = refused(&spec);
    assert!(message.contains("checkpoint.safetensors") && message.contains("benchmark --force"), "{message}");
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let message = refused(&spec);
    assert!(message.contains("checkpoint.safetensors is damaged or was changed: expected content"), "{message}");
}

#[test]
fn fewer_images_than_a_batch_are_an_error() {
    let (_folder, mut spec, images, run_folder) = begun("AdaCos");
    spec.training.batch_size = 100;
    let stop = AtomicBool::new(false);
    let error = train(&spec, &run_folder, &images, &cpu(), &stop, &mut |_| {}).err().unwrap().to_string();
    assert!(error.contains("64 training images make no batch of 100"), "{error}");
    assert!(!run_folder.path().exists());
}

/// Kaiming-normal with fan-out, the same for every head, another one for each seed and tensor.
#[test]
fn the_encoder_starts_as_a_function_of_the_seed() {
    let state = initial_encoder(&RESNET18, 0).unwrap();
    let values =
        |tensor: &Tensor| tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1::<f64>().unwrap();
    let find =
        |state: &faceoff_kernels::State, name: &str| values(&state.iter().find(|(other, _)| other == name).unwrap().1);
    let weights = find(&state, "layer2.0.conv1.weight");
    let deviation = (weights.iter().map(|x| x * x).sum::<f64>() / weights.len() as f64).sqrt();
    let expected = (2.0f64 / (128.0 * 9.0)).sqrt();
    assert!((deviation / expected - 1.0).abs() < 0.01, "{deviation}");
    assert_eq!(weights, find(&initial_encoder(&RESNET18, 0).unwrap(), "layer2.0.conv1.weight"));
    assert_ne!(weights, find(&initial_encoder(&RESNET18, 1).unwrap(), "layer2.0.conv1.weight"));
    assert_ne!(find(&state, "layer4.1.conv1.weight"), find(&state, "layer4.1.conv2.weight"));
    assert!(find(&state, "bn1.weight").iter().all(|&x| x == 1.0));
}

#[test]
fn weights_are_files_that_others_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let state = initial_encoder(&RESNET18, 3).unwrap();
    faceoff_training::save_weights(&path, &state, None).unwrap();
    let (read, metadata) = load_weights(&path).unwrap();
    assert_eq!((read.len(), metadata), (state.len(), None));
    let bytes = std::fs::read(&path).unwrap();
    faceoff_training::save_weights(&path, &state, None).unwrap();
    assert!(std::fs::read(&path).unwrap() == bytes);
}
