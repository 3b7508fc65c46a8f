//! Bad input: each answer states the value and the rule.

use crate::{all, defaults, device, head};
use candle_core::{DType, Tensor};
use faceoff_heads::{HEADS, build, check, resolve, resolve_experiment};
use faceoff_runs::{Experiment, HeadConfig, HeadInit};
use std::path::Path;

#[test]
fn shapes_and_labels_are_checked_by_every_head() {
    let embeddings = Tensor::zeros((2, 6), DType::F32, device()).unwrap();
    let labels = Tensor::new(&[0u32, 1], device()).unwrap();
    for config in all() {
        let mut head = head(&config, 6, 5, DType::F32);
        let mut refusal = |embeddings: &Tensor, labels: &Tensor| match head.loss(embeddings, labels) {
            Ok(_) => panic!("{config:?}: it must be refused"),
            Err(error) => error.to_string(),
        };
        let message = refusal(&Tensor::zeros((2, 7), DType::F32, device()).unwrap(), &labels);
        assert!(message.contains("[2, 7]") && message.contains("(batch, 6)"), "{message}");
        refusal(&Tensor::zeros(6, DType::F32, device()).unwrap(), &labels);
        refusal(&Tensor::zeros((0, 6), DType::F32, device()).unwrap(), &labels);
        let message = refusal(&embeddings, &Tensor::new(&[0u32], device()).unwrap());
        assert!(message.contains("[1]") && message.contains("(2,)"), "{message}");
        let message = refusal(&embeddings, &Tensor::new(&[0u32, 5], device()).unwrap());
        assert_eq!(message, "label 5 of row 1: labels must be below 5, the number of classes");
        assert!(head.loss(&embeddings, &labels).is_ok());
    }
}

#[test]
fn classes_have_a_minimum() {
    let refusal = |kind: &str, classes: usize| {
        let head = build(&defaults(kind), 6, classes, HeadInit::Uniform, 0, device(), DType::F32);
        head.err().expect("it must be refused").to_string()
    };
    let message = refusal("AdaCos", 2);
    assert!(message.contains("AdaCos with 2 classes") && message.contains("at least 3"), "{message}");
    assert!(refusal("Classification", 1).contains("at least two classes"));
    let auto = defaults("CosFace").with("scale", "auto");
    let refused = build(&auto, 6, 2, HeadInit::Uniform, 0, device(), DType::F32).err().unwrap().to_string();
    assert!(refused.contains("CosFace with 2 classes") && refused.contains("state a scale"), "{refused}");
}

#[test]
fn a_look_says_what_making_would_and_which_heads_take_no_share_of_the_classes() {
    let look = |kind: &str, classes, share| check(&defaults(kind), 6, classes, HeadInit::Catalyst, share);
    for classes in 1..5 {
        for info in HEADS {
            let made = build(&defaults(info.name), 6, classes, HeadInit::Catalyst, 0, device(), DType::F32);
            let looked = look(info.name, classes, 1.0);
            assert_eq!(made.err().map(|e| e.to_string()), looked.err().map(|e| e.to_string()), "{}", info.name);
        }
    }
    let refused: Vec<&str> = HEADS.iter().map(|info| info.name).filter(|name| look(name, 9, 0.5).is_err()).collect();
    assert_eq!(refused, ["AdaCos", "SphereFace2"]);
    let message = look("SphereFace2", 9, 0.5).unwrap_err().to_string();
    assert!(message.contains("training.class_sampling is 0.5, but the loss of SphereFace2"), "{message}");
}

#[test]
fn wrong_parameters_are_explained() {
    let arcface = || HeadConfig::new("ArcFace").with("scale", 64.0).with("margin_radians", 0.5);
    let sub_centers = |k: f64| defaults("SubCenterArcFace").with("sub_centers", k);
    for (config, expected) in [
        (HeadConfig::new("AdaCoz"), "unknown head kind `AdaCoz`; did you mean `AdaCos`? There are: Classif"),
        (
            arcface().with("beyond_pi", "linear"),
            "`ArcFace: epsilon` is missing; add it to the block, for example `epsilon = 1e-6`",
        ),
        (
            arcface().with("epsilon", 1e-6),
            "`ArcFace: beyond_pi` is missing; add it to the block, for example `beyond_pi = \"catalyst\"`",
        ),
        (
            defaults("ArcFace").with("beyond_pi", "none"),
            "`ArcFace: beyond_pi` is \"none\", but it must be \"catalyst\", cos(theta_y) without a margin, or \"linear\"",
        ),
        (
            defaults("Classification").with("scale", 2.0),
            "`Classification: scale` is no parameter of this head; remove it. Its parameters: none",
        ),
        (
            defaults("CosFace").with("margin", 0.1),
            "is no parameter of this head; remove it. Its parameters: scale, margin_cosine",
        ),
        (defaults("CosFace").with("scale", -1.0), "`CosFace: scale` is -1.0, but it must be a finite number above 0"),
        (defaults("CosFace").with("scale", "big"), "`CosFace: scale` is \"big\", but it must be a finite number"),
        (defaults("CosFace").with("scale", f64::NAN), "is NaN, but it must be a finite"),
        (defaults("ArcFace").with("margin_radians", 1.6), "is 1.6, but it must be a number in [0, pi/2], in radians"),
        (defaults("ArcFace").with("margin_radians", -0.1), "[0, pi/2]"),
        (defaults("ArcFace").with("margin_radians", f64::NAN), "[0, pi/2]"),
        (defaults("AdaCos").with("epsilon", 0.1), "[0, 0.1)"),
        (sub_centers(3.0), "`SubCenterArcFace: sub_centers` is 3.0, but it must be a whole number from 1 to 64"),
    ] {
        let message = resolve(&config).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    let kind = |kind: &str| resolve(&HeadConfig::new(kind)).unwrap_err().to_string();
    assert!(kind("arcface").contains("mean `ArcFace`") && kind("Softmax").contains("CurricularFace"));
}

/// The committed experiments name heads that exist, every head among them; a wrong one is named with its place.
#[test]
fn the_heads_of_experiments_are_resolved() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    for name in Experiment::names(&folder).unwrap() {
        resolve_experiment(Experiment::load(&folder, &name).unwrap()).unwrap();
    }
    let every = Experiment::load(&folder, "heads-all").unwrap();
    for config in all() {
        assert!(every.heads.iter().any(|variant| variant.head.kind() == config.kind()), "{config:?}");
    }
    let text = Experiment::load(&folder, "smoke").unwrap().to_toml();
    let parsed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in smoke.toml");
        resolve_experiment(Experiment::parse(&text.replace(from, to), Path::new("smoke.toml")).unwrap())
    };
    let smoke = parsed("", "").unwrap();
    // However a scale is written, it is one scale and one training.
    assert_eq!(parsed("scale = 64.0", "scale = 64").unwrap(), smoke);
    let written = smoke.to_toml();
    assert!(written.contains("margin_radians = 0.5\nscale = 64.0\nsub_centers = 3\n"), "{written}");
    let message = parsed("sub_centers = 3", "sub_centers = 0").unwrap_err().to_string();
    let expected = "`SubCenterArcFace: sub_centers` is 0, but";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn a_state_of_another_head_is_refused() {
    let classification = head(&defaults("Classification"), 6, 5, DType::F32);
    let mut adacos = head(&defaults("AdaCos"), 6, 5, DType::F32);
    let message = adacos.load(&classification.tensors().unwrap()).unwrap_err().to_string();
    assert!(message.contains("`bias` of the head: it is unknown"), "{message}");
    let wider = head(&defaults("AdaCos"), 7, 5, DType::F32);
    let message = adacos.load(&wider.tensors().unwrap()).unwrap_err().to_string();
    assert!(message.contains("[5, 7], not [5, 6]"), "{message}");
    let mut state = adacos.tensors().unwrap();
    state.retain(|(name, _)| name != "scale");
    assert!(adacos.load(&state).unwrap_err().to_string().contains("`scale` of the head: it is missing"));
}
