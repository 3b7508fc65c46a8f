//! Bad input: each answer states the value and the rule.

use crate::{all, device, head};
use candle_core::{DType, Tensor};
use faceoff_heads::build;
use faceoff_runs::{HeadConfig, HeadInit};

fn refusal(config: &HeadConfig, dim: usize, classes: usize) -> String {
    build(config, dim, classes, HeadInit::Uniform, 0, device(), DType::F32)
        .err()
        .expect("it must be refused")
        .to_string()
}

#[test]
fn shapes_and_labels_are_checked_by_every_head() {
    let embeddings = Tensor::zeros((2, 6), DType::F32, device()).unwrap();
    let labels = Tensor::new(&[0u32, 1], device()).unwrap();
    for config in all() {
        let mut head = head(&config, 6, 5, DType::F32);
        let wide = Tensor::zeros((2, 7), DType::F32, device()).unwrap();
        let message = head.scores(&wide).unwrap_err().to_string();
        assert!(message.contains("[2, 7]") && message.contains("(batch, 6)"), "{message}");
        let flat = Tensor::zeros(6, DType::F32, device()).unwrap();
        assert!(head.scores(&flat).is_err());
        assert!(head.scores(&Tensor::zeros((0, 6), DType::F32, device()).unwrap()).is_err());
        let message =
            head.train_logits(&embeddings, &Tensor::new(&[0u32], device()).unwrap()).unwrap_err().to_string();
        assert!(message.contains("[1]") && message.contains("(2,)"), "{message}");
        let message =
            head.labelled_logits(&embeddings, &Tensor::new(&[0u32, 5], device()).unwrap()).unwrap_err();
        assert_eq!(message.to_string(), "label 5 of row 1: labels must be below 5, the number of classes");
        assert!(head.train_logits(&embeddings, &labels).is_ok());
    }
}

#[test]
fn classes_and_parameters_have_ranges() {
    let message = refusal(&HeadConfig::AdaCos { epsilon: 1e-6 }, 6, 2);
    assert!(message.contains("AdaCos with 2 classes") && message.contains("at least 3"), "{message}");
    assert!(refusal(&HeadConfig::Classification, 6, 1).contains("at least two classes"));
    let message = refusal(&HeadConfig::CosFace { scale: -1.0, margin_cosine: 0.35 }, 6, 5);
    assert!(message.contains("scale") && message.contains("-1"), "{message}");
    for margin_radians in [-0.1, 1.6, f64::NAN] {
        let message = refusal(&HeadConfig::ArcFace { scale: 64.0, margin_radians, epsilon: 1e-6 }, 6, 5);
        assert!(message.contains("margin_radians") && message.contains("[0, pi/2]"), "{message}");
    }
}

#[test]
fn a_state_of_another_head_is_refused() {
    let classification = head(&HeadConfig::Classification, 6, 5, DType::F32);
    let mut adacos = head(&HeadConfig::AdaCos { epsilon: 1e-6 }, 6, 5, DType::F32);
    let message = adacos.load(&classification.tensors().unwrap()).unwrap_err().to_string();
    assert!(message.contains("`bias` of the head: it is unknown"), "{message}");
    let wider = head(&HeadConfig::AdaCos { epsilon: 1e-6 }, 7, 5, DType::F32);
    let message = adacos.load(&wider.tensors().unwrap()).unwrap_err().to_string();
    assert!(message.contains("[5, 7], not [5, 6]"), "{message}");
    let mut state = adacos.tensors().unwrap();
    state.retain(|(name, _)| name != "scale");
    assert!(adacos.load(&state).unwrap_err().to_string().contains("`scale` of the head: it is missing"));
}
