//! Every head against values in float64: loss, gradients, and where a head has them scores, logits and three steps of state.
//!
//! The files of the article's seven heads hold what Catalyst's own layers gave; the others what pytorch-metric-learning 2.9 or
//! the paper's formula gave. The two kinds of file differ in where some values stand, see [`Step`].
//!
//! Equal means, in f32: logits to 1e-4 relative with a floor of s / 100; gradients row by row, |dg| norm(row) <= 1e-4
//! max(|g| norm(row), 0.01 s / B), where norm(row) is that embedding's or weight's own norm and B the batch. (One row of
//! tiny norm has a gradient near 1e5, so a tolerance over elements or whole tensors is either impossible or blind.) In
//! f64: 1e-9 in the same form. s is 1 for heads without a scale.
//!
//! Beside its centre an image's cosine is 1 but for a few units of the last digit of f32, and no formula finds the angle in
//! them. So in f32 a value may also be off by three times what the formula, in f64, makes of a cosine that is off by the
//! f32 epsilon (see [`moved`]); PyTorch in f32 is off by as much.

use crate::{device, head, loss_and_gradients, values};
use candle_core::{DType, Tensor};
use faceoff_heads::{HEADS, Head, HeadInfo, resolve};
use faceoff_runs::{HeadConfig, ParameterValue};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn own_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn golden_files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    files.sort();
    files
}

#[test]
fn golden_values_of_every_head() {
    let folder = std::env::var_os("FACEOFF_GOLDEN_DIR").map_or_else(own_folder, PathBuf::from);
    let mut worst = [0f64; 2];
    let files = golden_files(&folder);
    for path in &files {
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy();
        let errors = [(DType::F32, false), (DType::F64, false), (DType::F64, true)]
            .map(|(dtype, moved)| check(&golden, dtype, moved, &name));
        let [f32, f64, blurred] = &errors;
        for (what, error) in f64 {
            assert!(*error <= 1e-9, "{name} in f64: {what} is off by {error:.1e}");
        }
        for (what, error) in f32 {
            let allowed = (3.0 * blurred[what]).max(1e-4);
            assert!(*error <= allowed, "{name} in f32: {what} is off by {error:.1e}; allowed is {allowed:.1e}");
        }
        let largest = [f32, f64].map(|errors| errors.values().copied().fold(0.0, f64::max));
        println!("{name}: worst error f32 {:.1e}, f64 {:.1e}", largest[0], largest[1]);
        worst = [worst[0].max(largest[0]), worst[1].max(largest[1])];
    }
    let ([f32, f64], count, folder) = (worst, files.len(), folder.display());
    println!("{count} golden files of {folder} read; worst error f32 {f32:.1e}, f64 {f64:.1e}");
    assert!(count > 0, "{folder} holds no golden file");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        other => vec![number(other)],
    }
}

/// What the parameters are that a file's `hyper` leaves out: the rule of Catalyst's layers, and cosines that are not held back.
const LEFT_OUT: [(&str, &str); 2] = [("beyond", "\"catalyst\""), ("eps", "0.0")];

/// The head of a golden file, whose `hyper` calls parameters by their letters.
fn config(golden: &Value) -> HeadConfig {
    let info = HeadInfo::find(golden["head"].as_str().unwrap()).unwrap();
    let mut hyper = golden["hyper"].as_object().unwrap().clone();
    let parameters = info.parameters.iter().map(|parameter| {
        let letter = parameter.symbol.to_lowercase();
        let left_out = || LEFT_OUT.iter().find(|(name, _)| *name == letter).map(|(_, text)| text.parse().unwrap());
        let value: Value = hyper.remove(&letter).or_else(left_out).unwrap_or_else(|| panic!("hyper has no {letter}"));
        (parameter.name, serde_json::from_value::<ParameterValue>(value).unwrap())
    });
    let config = parameters.fold(HeadConfig::new(info.name), |head, (name, value)| head.with(name, value));
    assert!(hyper.is_empty(), "{} has no {:?}", info.name, hyper.keys());
    config
}

#[test]
fn every_head_is_described_and_has_golden_files() {
    let files = golden_files(&own_folder());
    for head in HEADS {
        let described = [head.summary, head.formula, head.paper, head.angles, head.fails, head.choose];
        assert!(described.iter().all(|text| !text.is_empty()), "{}", head.name);
        for parameter in head.parameters {
            let described = [parameter.symbol, parameter.meaning, parameter.rule];
            assert!(described.iter().all(|text| !text.is_empty()), "{}: {}", head.name, parameter.name);
            assert!(head.to_string().contains(parameter.meaning));
        }
        assert_eq!(resolve(&head.defaults()).unwrap(), head.defaults());
        let of_head = |file: &&PathBuf| {
            let name = file.file_name().unwrap().to_string_lossy();
            name.strip_prefix(head.name).is_some_and(|rest| rest.starts_with('_'))
        };
        assert!(files.iter().filter(of_head).count() >= 2, "{} has no golden files", head.name);
    }
}

/// The largest relative error of each thing that a file has.
struct Errors<'a> {
    file: &'a str,
    step: usize,
    found: BTreeMap<String, f64>,
}

impl Errors<'_> {
    fn add(&mut self, what: &str, error: f64, unit: f64) {
        assert!(error.is_finite(), "{}: {what} is {error}", self.file);
        let worst = self.found.entry(format!("step {}, {what}", self.step)).or_default();
        *worst = worst.max(error / unit);
    }

    /// Element by element, relative with a floor.
    fn near(&mut self, what: &str, found: &[f64], expected: &[f64], floor: f64) {
        assert_eq!(found.len(), expected.len(), "{}: {what}", self.file);
        for (found, expected) in found.iter().zip(expected) {
            self.add(what, (found - expected).abs(), expected.abs().max(floor));
        }
    }

    /// What the file has of the head's state at a moment: names and values.
    fn state(&mut self, head: &dyn Head, expected: &[(String, f64)], moment: &str) {
        let state = head.tensors().unwrap();
        for (name, expected) in expected {
            let found = state.iter().find(|(other, _)| other == name);
            let (_, found) = found.unwrap_or_else(|| panic!("{}: the head's state has no {name}", self.file));
            self.near(&format!("{name} {moment}"), &values(found), &[*expected], 1.0);
        }
    }
}

/// A step of a golden file of either kind.
struct Step<'a>(&'a Value);

impl Step<'_> {
    /// Scores without labels: `inference_logits` beside Catalyst's layers, which return them in place of logits.
    fn scores(&self) -> Option<Vec<f64>> {
        self.0.get("inference_scores").or(self.0.get("inference_logits")).map(flat)
    }

    /// State `before` or `after` the step: an object of numbers, or Catalyst's letters with the moment behind them.
    fn state(&self, moment: &str) -> Vec<(String, f64)> {
        let object = self.0.get(format!("state_{moment}")).and_then(Value::as_object);
        let named = object.into_iter().flatten().map(|(name, value)| (name.clone(), number(value)));
        let lettered = [("scale", "s"), ("curriculum", "t")].into_iter().filter_map(|(name, letter)| {
            self.0.get(format!("{letter}_{moment}")).map(|value| (name.to_string(), number(value)))
        });
        named.chain(lettered).collect()
    }
}

/// `[a][b][width]` as `[b][a][width]`.
fn swapped(values: &[f64], a: usize, b: usize, width: usize) -> Vec<f64> {
    let row = |i: usize, j: usize| &values[(i * b + j) * width..][..width];
    (0..b).flat_map(|j| (0..a).flat_map(move |i| row(i, j))).copied().collect()
}

/// Embeddings turned away from their class's nearest centre, or towards it from the far side, until the cosine has changed by
/// the f32 epsilon. `weight` is `(K, classes, dim)`.
fn moved(embeddings: &[f64], labels: &[u32], weight: &[f64], classes: usize, dim: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let times = |a: &[f64], factor: f64| a.iter().map(|x| x * factor).collect::<Vec<_>>();
    let of_row = |(row, &label): (&[f64], &u32)| {
        let length = dot(row, row).sqrt().max(f64::MIN_POSITIVE);
        let centers = weight.chunks(dim).skip(label as usize).step_by(classes);
        let centers = centers.map(|center| times(center, 1.0 / dot(center, center).sqrt()));
        let center = centers.max_by(|a, b| dot(a, row).total_cmp(&dot(b, row))).unwrap();
        let cosine = dot(&center, row) / length;
        let aside: Vec<f64> = row.iter().zip(&center).map(|(x, c)| x / length - cosine * c).collect();
        let aside = times(&aside, 1.0 / dot(&aside, &aside).sqrt().max(f64::MIN_POSITIVE));
        let turned = cosine - f64::from(f32::EPSILON).copysign(cosine);
        let (along, across) = (length * turned, length * (1.0 - turned * turned).sqrt());
        center.iter().zip(&aside).map(|(c, a)| along * c + across * a).collect::<Vec<_>>()
    };
    embeddings.chunks(dim).zip(labels).flat_map(of_row).collect()
}

/// The errors of a file's head in `dtype`, with its embeddings as they are or [`moved`].
fn check(golden: &Value, dtype: DType, with_moved: bool, file: &str) -> BTreeMap<String, f64> {
    let mut errors = Errors { file, step: 0, found: BTreeMap::new() };
    let size = |key: &str| number(&golden[key]) as usize;
    let (batch, dim, classes) = (size("batch"), size("features"), size("classes"));
    let tensor =
        |values: Vec<f64>, shape: &[usize]| Tensor::from_vec(values, shape, device()).unwrap().to_dtype(dtype).unwrap();
    // Several centres a class: the heads hold them as (K, classes, dim).
    let as_held = |values: Vec<f64>| match golden["weight_layout"].as_str() {
        Some("C x K x F") => swapped(&values, classes, values.len() / classes / dim, dim),
        _ => values,
    };
    let weight = golden.get("weight").filter(|weight| !weight.is_null()).map(|weight| as_held(flat(weight)));
    let mut head = head(&config(golden), dim, classes, dtype);
    let mut state = head.tensors().unwrap();
    for (name, old) in &mut state {
        match (name.as_str(), &weight, golden.get("bias")) {
            ("weight", Some(weight), _) => *old = tensor(weight.clone(), old.dims()),
            ("bias", _, Some(bias)) => *old = tensor(flat(bias), old.dims()),
            _ => {}
        }
    }
    head.load(&state).unwrap();

    for step in golden["steps"].as_array().unwrap() {
        errors.step += 1;
        let mut embeddings = flat(&step["embeddings"]);
        let labels: Vec<u32> = serde_json::from_value(step["targets"].clone()).unwrap();
        if let (true, Some(weight)) = (with_moved, &weight) {
            embeddings = moved(&embeddings, &labels, weight, classes, dim);
        }
        let embeddings = tensor(embeddings, &[batch, dim]);
        let labels = Tensor::new(labels, device()).unwrap();
        errors.state(head.as_ref(), &Step(step).state("before"), "before");
        let scores = head.scores(&embeddings).unwrap().map(|scores| values(&scores));
        assert_eq!(scores.is_some(), Step(step).scores().is_some(), "{}: scores", errors.file);
        if let (Some(found), Some(expected)) = (scores, Step(step).scores()) {
            errors.near("score", &found, &expected, 0.01);
        }
        let (loss, gradients) = loss_and_gradients(head.as_mut(), &embeddings, &labels);
        let scale = head.effective_scale();
        // After the training step the state is the new one, so the logits with labels given are those of training.
        let logits = head.labelled_logits(&embeddings, &labels).unwrap().map(|logits| values(&logits));
        if let Some(expected) = step.get("logits") {
            let logits = logits.unwrap_or_else(|| panic!("{}: the head has no logits", errors.file));
            errors.near("logit", &logits, &flat(expected), scale / 100.0);
        }
        errors.near("loss", &[loss], &flat(&step["loss"]), scale / 100.0);
        errors.state(head.as_ref(), &Step(step).state("after"), "after");
        for (what, gradient) in gradients {
            let (found, mut expected) = (values(&gradient), flat(&step[format!("grad_{what}")]));
            if what == "weight" {
                expected = as_held(expected);
            }
            assert_eq!(found.len(), expected.len());
            // A bias has no rows; it is one, of norm 1.
            let (owner, width) = match what.as_str() {
                "embeddings" => (flat(&step["embeddings"]), dim),
                "weight" => (weight.clone().unwrap(), dim),
                _ => (Vec::new(), expected.len()),
            };
            let length = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
            for (row, (found, expected)) in found.chunks(width).zip(expected.chunks(width)).enumerate() {
                let norm = owner.chunks(width).nth(row).map_or(1.0, length);
                let difference: Vec<f64> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
                let unit = (length(expected) * norm).max(0.01 * scale / batch as f64);
                errors.add(&format!("gradient of {what}, row {row}"), length(&difference) * norm, unit);
            }
        }
    }
    errors.found
}
