//! What must hold for any batch.

use crate::{all, defaults, device, head, loss_and_gradients, values};
use candle_core::{DType, Tensor, Var};
use faceoff_heads::{HEADS, Head, build, check_smoothing, resolve};
use faceoff_runs::{HeadConfig, HeadInit};
use proptest::prelude::*;

const CLASSES: usize = 5;

/// A batch of embeddings of width `dim` with labels below [`CLASSES`].
fn batches() -> impl Strategy<Value = (usize, Vec<f64>, Vec<u32>)> {
    (1usize..6, 2usize..9).prop_flat_map(|(batch, dim)| {
        let numbers = prop::collection::vec(-3.0..3.0f64, batch * dim);
        (Just(dim), numbers, prop::collection::vec(0..CLASSES as u32, batch))
    })
}

fn tensors(dim: usize, numbers: &[f64], labels: &[u32]) -> (Tensor, Tensor) {
    let embeddings = Tensor::from_slice(numbers, (labels.len(), dim), device()).unwrap();
    (embeddings, Tensor::new(labels, device()).unwrap())
}

fn logits(config: &HeadConfig, batch: &(Tensor, Tensor)) -> Vec<f64> {
    let head = head(config, batch.0.dims()[1], CLASSES, DType::F64);
    values(&head.labelled_logits(&batch.0, &batch.1).unwrap().unwrap())
}

fn cosface(scale: f64, margin_cosine: f64) -> HeadConfig {
    defaults("CosFace").with("scale", scale).with("margin_cosine", margin_cosine)
}

fn arcface(scale: f64, margin_radians: f64) -> HeadConfig {
    defaults("ArcFace").with("scale", scale).with("margin_radians", margin_radians)
}

fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance * a.abs().max(1.0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn one_sub_center_is_arcface((dim, numbers, labels) in batches(), margin_radians in 0.0..1.5f64) {
        let batch = tensors(dim, &numbers, &labels);
        let one = arcface(30.0, margin_radians);
        let several = defaults("SubCenterArcFace").with("scale", 30.0).with("margin_radians", margin_radians);
        prop_assert!(close(&logits(&several.with("sub_centers", 1), &batch), &logits(&one, &batch), 1e-12));
    }

    #[test]
    fn without_margin_all_are_scaled_cosines((dim, numbers, labels) in batches(), scale in 0.5..80.0f64) {
        let batch = tensors(dim, &numbers, &labels);
        let plain = logits(&defaults("ArcMarginProduct"), &batch);
        let expected: Vec<f64> = plain.iter().map(|c| scale * c).collect();
        let linear = arcface(scale, 0.0).with("epsilon", 0.0).with("beyond_pi", "linear");
        let normface = defaults("NormFace").with("scale", scale);
        for config in [cosface(scale, 0.0), arcface(scale, 0.0).with("epsilon", 0.0), linear, normface] {
            let found = logits(&config, &batch);
            prop_assert!(close(&found, &expected, 1e-6), "{config:?}: {found:?} {expected:?}");
        }
    }

    /// A margin lowers the labelled logit and, CurricularFace's hard negatives aside, no other.
    #[test]
    fn a_margin_handicaps_the_label_alone((dim, numbers, labels) in batches()) {
        let batch = tensors(dim, &numbers, &labels);
        let plain = logits(&cosface(10.0, 0.0), &batch);
        for config in [cosface(10.0, 0.2), arcface(10.0, 0.4), arcface(10.0, 0.4).with("beyond_pi", "linear")] {
            let found = logits(&config, &batch);
            for (index, (found, plain)) in found.iter().zip(&plain).enumerate() {
                let labelled = labels[index / CLASSES] as usize == index % CLASSES;
                let holds = if labelled { *found <= plain + 1e-4 } else { (found - plain).abs() < 1e-4 };
                prop_assert!(holds, "{config:?}: {found} {plain}");
            }
        }
    }

    #[test]
    fn cosines_know_no_length((dim, numbers, labels) in batches(), factor in 0.1..50.0f64) {
        let (embeddings, _) = tensors(dim, &numbers, &labels);
        // A vector near 0 has no direction that rounding leaves alone.
        prop_assume!(numbers.chunks(dim).all(|row| row.iter().map(|x| x * x).sum::<f64>() > 1e-3));
        for config in all().into_iter().skip(1) {
            let head = head(&config, dim, CLASSES, DType::F64);
            let Some(once) = head.scores(&embeddings).unwrap() else { continue };
            let once = values(&once);
            let longer = values(&head.scores(&(&embeddings * factor).unwrap()).unwrap().unwrap());
            prop_assert!(close(&once, &longer, 1e-9), "{config:?}");
            prop_assert!(once.iter().all(|c| c.abs() <= 1.0 + 1e-12));
        }
    }

    #[test]
    fn gradients_equal_finite_differences((dim, numbers, labels) in batches()) {
        let (embeddings, labels) = tensors(dim, &numbers, &labels);
        // Low scales, so that differences stay smooth over the step; kinks are measured by the goldens.
        let plain = ["Classification", "ArcMarginProduct"].map(defaults);
        let linear = arcface(4.0, 0.3).with("beyond_pi", "linear");
        for config in plain.into_iter().chain([cosface(4.0, 0.2), arcface(4.0, 0.3), linear]) {
            let (_, gradients) = loss_and_gradients(head(&config, dim, CLASSES, DType::F64).as_mut(), &embeddings, &labels);
            let gradient = values(&gradients[0].1);
            let h = 1e-6;
            let loss = |index: usize, by: f64| {
                let mut moved = numbers.clone();
                moved[index] += by;
                let moved = Tensor::from_vec(moved, embeddings.dims(), device()).unwrap();
                loss_and_gradients(head(&config, dim, CLASSES, DType::F64).as_mut(), &moved, &labels).0
            };
            for index in 0..numbers.len().min(4) {
                let difference = (loss(index, h) - loss(index, -h)) / (2.0 * h);
                let norm = numbers[index / dim * dim..(index / dim + 1) * dim].iter().map(|x| x * x).sum::<f64>().sqrt();
                prop_assume!(norm > 0.1);
                prop_assert!((difference - gradient[index]).abs() < 1e-4, "{config:?}: {difference} {}", gradient[index]);
            }
        }
    }
}

/// Embeddings, at whose rows the logits of no head have a kink near by, and their labels.
fn smooth_batch() -> (Tensor, Tensor) {
    tensors(6, &(0..24).map(|x| 2.0 * (x as f64 * 1.3 + 0.2).sin()).collect::<Vec<_>>(), &[0, 3, 1, 4])
}

/// The value of a step of training with labels smoothed by `epsilon`, and its gradient at the embeddings.
fn smoothed(config: &HeadConfig, embeddings: &Tensor, labels: &Tensor, epsilon: f64) -> (f64, Vec<f64>) {
    let embeddings = Var::from_tensor(embeddings).unwrap();
    let mut head = head(config, 6, CLASSES, DType::F64);
    let loss = head.loss(&embeddings, labels).unwrap().smoothed(labels, epsilon).unwrap().value;
    let gradients = loss.backward().unwrap();
    (values(&loss)[0], values(gradients.get(&embeddings).unwrap()))
}

/// By the definition: what smoothing adds is the cross-entropy with targets 1 - e + e / C and e / C less that with the labels.
#[test]
fn smoothed_labels_are_the_cross_entropy_of_smoothed_targets() {
    let (embeddings, labels) = smooth_batch();
    let labelled: Vec<u32> = labels.to_vec1().unwrap();
    for info in HEADS.iter().filter(|info| info.softmax) {
        let (config, epsilon) = (info.defaults(), 0.1);
        let logits = values(&head(&config, 6, CLASSES, DType::F64).loss(&embeddings, &labels).unwrap().logits.unwrap());
        let cross_entropy = |epsilon: f64| -> f64 {
            let of_image = |(row, label): (&[f64], &u32)| {
                let highest = row.iter().copied().fold(f64::MIN, f64::max);
                let log_sum = highest + row.iter().map(|z| (z - highest).exp()).sum::<f64>().ln();
                let target =
                    |class| epsilon / CLASSES as f64 + if class == *label as usize { 1.0 - epsilon } else { 0.0 };
                row.iter().enumerate().map(|(class, z)| target(class) * (log_sum - z)).sum::<f64>()
            };
            logits.chunks(CLASSES).zip(&labelled).map(of_image).sum::<f64>() / labelled.len() as f64
        };
        let added = smoothed(&config, &embeddings, &labels, epsilon).0 - smoothed(&config, &embeddings, &labels, 0.0).0;
        let expected = cross_entropy(epsilon) - cross_entropy(0.0);
        assert!((added - expected).abs() < 1e-9 * expected.abs().max(1.0), "{}: {added} {expected}", info.name);
        assert_ne!(added, 0.0, "{}", info.name);
    }
}

#[test]
fn gradients_of_smoothed_labels_equal_finite_differences() {
    let (embeddings, labels) = smooth_batch();
    let numbers = values(&embeddings);
    for info in HEADS.iter().filter(|info| info.softmax) {
        let mut config = info.defaults();
        if config.scale().is_some() {
            // Low scales, so that differences stay smooth over the step.
            config = config.with("scale", 4.0);
        }
        // What these take from the batch besides has no gradient by their definition: scale, t, quality, psi.
        if ["AdaCos", "CurricularFace", "AdaFace", "SphereFaceR"].contains(&info.name) {
            continue;
        }
        let (_, gradient) = smoothed(&config, &embeddings, &labels, 0.2);
        let (_, plain) = smoothed(&config, &embeddings, &labels, 0.0);
        assert!(!close(&gradient, &plain, 1e-9), "{} has the gradient of hard labels", info.name);
        let h = 1e-6;
        for index in 0..numbers.len() {
            let loss = |by: f64| {
                let mut moved = numbers.clone();
                moved[index] += by;
                let moved = Tensor::from_vec(moved, embeddings.dims(), device()).unwrap();
                smoothed(&config, &moved, &labels, 0.2).0
            };
            let difference = (loss(h) - loss(-h)) / (2.0 * h);
            let found = gradient[index];
            assert!((difference - found).abs() < 1e-5, "{}: {difference} {found}", info.name);
        }
    }
}

#[test]
fn labels_of_a_loss_without_softmax_are_not_smoothed() {
    let refused: Vec<&str> =
        HEADS.iter().map(|info| info.name).filter(|name| check_smoothing(&defaults(name), 0.1).is_err()).collect();
    assert_eq!(refused, ["SphereFace2", "ProxyAnchor", "SupCon", "Triplet"]);
    assert!(HEADS.iter().all(|info| check_smoothing(&info.defaults(), 0.0).is_ok()));
    let message = check_smoothing(&defaults("SupCon"), 0.1).unwrap_err().to_string();
    let expected = "training.label_smoothing is 0.1, but the loss of SupCon is no cross-entropy over classes";
    assert!(message.starts_with(expected) && message.ends_with("leave it out, or this head"), "{message}");
}

/// The specification keeps the word; the head has the number.
#[test]
fn a_scale_may_be_left_to_the_number_of_classes() {
    let auto = defaults("ArcFace").with("scale", "auto");
    assert_eq!(resolve(&auto).unwrap().get("scale"), Some(&"auto".into()));
    let expected = 2f64.sqrt() * 4f64.ln();
    assert_eq!(head(&auto, 6, CLASSES, DType::F64).effective_scale(), expected);
    let batch = tensors(2, &[0.6, 0.8, 1.0, -2.0], &[0, 3]);
    assert_eq!(logits(&auto, &batch), logits(&arcface(expected, 0.5), &batch));
}

/// Embeddings that are a class's weight, its opposite, or 0: cosines of 1, -1 and undefined.
#[test]
fn gradients_stay_finite_at_the_corners() {
    for dtype in [DType::F32, DType::F64] {
        for config in all() {
            let mut head = head(&config, 6, CLASSES, dtype);
            let weight = head.tensors().unwrap().into_iter().find(|(name, _)| name == "weight");
            let first = match weight {
                Some((_, weight)) => {
                    let weight = weight.to_device(device()).unwrap();
                    weight.flatten_to(weight.rank() - 2).unwrap().narrow(0, 0, 1).unwrap()
                }
                None => Tensor::ones((1, 6), dtype, device()).unwrap(),
            };
            for row in [first.clone(), first.neg().unwrap(), first.zeros_like().unwrap(), (&first * 1e-6).unwrap()] {
                for label in [0u32, 1] {
                    let labels = Tensor::new(&[label], device()).unwrap();
                    let (loss, gradients) = loss_and_gradients(head.as_mut(), &row, &labels);
                    assert!(loss.is_finite(), "{config:?} {dtype:?}");
                    for (name, gradient) in gradients {
                        assert!(values(&gradient).iter().all(|g| g.is_finite()), "{config:?} {dtype:?} {name}");
                    }
                }
            }
        }
    }
}

#[test]
fn state_changes_in_training_alone_and_is_restored() {
    let embeddings = Tensor::from_vec((0..24).map(|x| (x as f64).sin()).collect::<Vec<_>>(), (4, 6), device()).unwrap();
    let labels = Tensor::new(&[0u32, 1, 2, 3], device()).unwrap();
    let state = |head: &dyn Head| {
        head.tensors().unwrap().iter().map(|(name, tensor)| (name.clone(), values(tensor))).collect::<Vec<_>>()
    };
    for config in all() {
        let mut trained = head(&config, 6, CLASSES, DType::F64);
        let start = state(trained.as_ref());
        let of_classes = |head: &dyn Head| {
            let tensors = [head.scores(&embeddings).unwrap(), head.labelled_logits(&embeddings, &labels).unwrap()];
            tensors.map(|tensor| tensor.map(|tensor| values(&tensor)))
        };
        of_classes(trained.as_ref());
        assert_eq!(state(trained.as_ref()), start);
        trained.loss(&embeddings, &labels).unwrap();
        let has_state = ["AdaCos", "CurricularFace", "AdaFace", "SphereFaceR", "SphereFace2"].contains(&config.kind());
        assert_eq!(state(trained.as_ref()) != start, has_state, "{config:?}");

        let mut other = build(&config, 6, CLASSES, HeadInit::Uniform, 7, device(), DType::F64).unwrap();
        let [scores, _] = of_classes(trained.as_ref());
        assert!(scores.is_none() || of_classes(other.as_ref())[0] != scores, "{config:?}");
        other.load(&trained.tensors().unwrap()).unwrap();
        assert_eq!(state(other.as_ref()), state(trained.as_ref()));
        assert_eq!(of_classes(other.as_ref()), of_classes(trained.as_ref()));
    }
}

#[test]
fn heads_start_equal_under_one_rule_and_differ_under_catalysts() {
    let weight = |config: &HeadConfig, init, seed| {
        let head = build(config, 6, CLASSES, init, seed, device(), DType::F32).unwrap();
        values(&head.variables()[0].1)
    };
    let first = weight(&defaults("Classification"), HeadInit::Uniform, 0);
    assert!(first.iter().all(|x| x.abs() <= (6f64 / 11.0).sqrt()));
    assert!(first.iter().any(|x| x.abs() > 0.5));
    let with_weights = |config: &HeadConfig| !head(config, 6, CLASSES, DType::F32).variables().is_empty();
    for config in all().into_iter().filter(with_weights) {
        assert_eq!(weight(&config, HeadInit::Uniform, 0)[..30], first[..], "{config:?}");
        assert_ne!(weight(&config, HeadInit::Uniform, 1)[..30], first[..], "{config:?}");
    }
    let curricular = weight(&defaults("CurricularFace"), HeadInit::Catalyst, 0);
    assert!(curricular.iter().all(|x| x.abs() < 0.06), "{curricular:?}");
    let linear = weight(&defaults("Classification"), HeadInit::Catalyst, 0);
    assert!(linear.iter().all(|x| x.abs() <= 1.0 / 6f64.sqrt()) && linear != first);
}
