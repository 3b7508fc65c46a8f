//! The health of a head: what the batches of an epoch say of angles, margin, probabilities and lengths.
//!
//! The figures come from tensors that a step of training has anyway, and change nothing that it learns. What depends on the
//! batch is put together on the device and fetched when the next step waits for the device in any case.

use crate::Result;
use candle_core::{D, DType, Tensor};
use faceoff_heads::Head;
use faceoff_runs::{EpochRecord, HeadConfig, MARGIN_ACTS_FROM, Margin};
use std::f64::consts::PI;

/// The figures of an epoch, so far.
pub(crate) struct Epoch {
    /// pi - m in degrees, for a margin of radians.
    limit: Option<f64>,
    has_margin: bool,
    pending: Option<Step>,
    own: Vec<f32>,
    other: Vec<f32>,
    active: Mean,
    probability: Mean,
    gradient: Mean,
    embedding: Mean,
    weight: Mean,
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// `None` without values, and where one was not finite.
    fn value(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64).filter(|mean| mean.is_finite())
    }
}

/// A step whose numbers still lie on the device.
struct Step {
    /// Behind each other: squared lengths of embeddings and of gradients, (batch) each; scores and logits, (batch, classes) each;
    /// squared lengths of class weights, (rows), and products of embeddings with them, (batch, rows).
    numbers: Tensor,
    labels: Vec<u32>,
    classes: Option<usize>,
    has_logits: bool,
    /// Class weights: `classes` of each sub-centre in turn.
    rows: usize,
    scale: f64,
}

impl Epoch {
    pub(crate) fn new(head: &HeadConfig) -> Self {
        let limit = match head.margin() {
            Some(Margin::Radians(m)) => Some((PI - m).to_degrees()),
            _ => None,
        };
        let (pending, own, other) = Default::default();
        let (active, probability, gradient, embedding, weight) = Default::default();
        let has_margin = head.has_margin();
        Self { limit, has_margin, pending, own, other, active, probability, gradient, embedding, weight }
    }

    /// Takes down a step before its weights change. `labels` lie on the CPU; `gradient` is that of the batch's mean loss.
    pub(crate) fn note(
        &mut self,
        head: &dyn Head,
        embeddings: &Tensor,
        scores: Option<Tensor>,
        logits: Option<Tensor>,
        gradient: &Tensor,
        labels: &Tensor,
    ) -> Result<()> {
        let embeddings = embeddings.detach();
        let squares = |rows: &Tensor| rows.sqr()?.sum(D::Minus1)?.flatten_all();
        let mut parts = vec![squares(&embeddings)?, squares(gradient)?];
        let classes = scores.as_ref().map(|scores| scores.dim(1)).transpose()?;
        // Logits say something of a margin only beside scores.
        let logits = logits.filter(|_| classes.is_some());
        let has_logits = logits.is_some();
        for tensor in scores.iter().chain(&logits) {
            parts.push(tensor.flatten_all()?);
        }
        let weight = head.variables().into_iter().find(|(name, _)| name == "weight").filter(|_| classes.is_some());
        let mut rows = 0;
        if let Some((_, weight)) = weight {
            let weight = weight.as_detached_tensor();
            let dim = weight.dim(D::Minus1)?;
            let weight = weight.reshape(((), dim))?;
            rows = weight.dim(0)?;
            parts.extend([squares(&weight)?, embeddings.matmul(&weight.t()?)?.flatten_all()?]);
        }
        let (numbers, labels, scale) = (Tensor::cat(&parts, 0)?, labels.to_vec1()?, head.effective_scale());
        self.pending = Some(Step { numbers, labels, classes, has_logits, rows, scale });
        Ok(())
    }

    /// Fetches the last step's numbers, if there are any: best where the device has just been waited for.
    pub(crate) fn settle(&mut self) -> Result<()> {
        let Some(Step { numbers, labels, classes, has_logits, rows, scale }) = self.pending.take() else {
            return Ok(());
        };
        let numbers = numbers.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let batch = labels.len();
        let mut rest = &numbers[..];
        let mut take = |count: usize| rest.split_off(..count).expect("as many numbers as were put together");
        let lengths = |squares: &[f32]| squares.iter().map(|&x| f64::from(x).sqrt()).collect::<Vec<_>>();
        let embeddings = lengths(take(batch));
        embeddings.iter().for_each(|&length| self.embedding.add(length));
        lengths(take(batch)).iter().for_each(|&length| self.gradient.add(length * batch as f64));
        let Some(classes) = classes else { return Ok(()) };
        let scores = take(batch * classes).chunks_exact(classes);
        let labels = || labels.iter().map(|&label| label as usize);
        if has_logits {
            let logits = take(batch * classes).chunks_exact(classes);
            for ((scores, logits), label) in scores.zip(logits).zip(labels()) {
                self.probability.add(probability(logits, label));
                let moved = f64::from(logits[label]) - scale * f64::from(scores[label]);
                if self.has_margin {
                    self.active.add(f64::from(moved.abs() > MARGIN_ACTS_FROM * scale));
                }
            }
        }
        if rows > 0 {
            let weights = lengths(take(rows));
            weights.iter().for_each(|&length| self.weight.add(length));
            let products = take(batch * rows).chunks_exact(rows);
            for ((products, label), embedding) in products.zip(labels()).zip(&embeddings) {
                let (mut own, mut other) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
                for (row, (&product, weight)) in products.iter().zip(&weights).enumerate() {
                    let nearest = if row % classes == label { &mut own } else { &mut other };
                    *nearest = nearest.max(f64::from(product) / (embedding * weight).max(f64::MIN_POSITIVE));
                }
                let degrees = |cosine: f64| cosine.clamp(-1.0, 1.0).acos().to_degrees() as f32;
                self.own.push(degrees(own));
                self.other.push(degrees(other));
            }
        }
        Ok(())
    }

    /// The figures of the whole epoch, in a record without anything else.
    pub(crate) fn record(mut self, head: &dyn Head) -> Result<EpochRecord> {
        self.settle()?;
        let beyond = |limit: f64| {
            let beyond = self.own.iter().filter(|&&degrees| f64::from(degrees) > limit).count();
            (!self.own.is_empty()).then(|| beyond as f64 / self.own.len() as f64)
        };
        let beyond_pi_minus_m = self.limit.and_then(beyond);
        let mut head_state = Vec::new();
        for (name, tensor) in head.tensors()? {
            if tensor.elem_count() == 1 {
                let value = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?[0];
                head_state.push((name, value));
            }
        }
        Ok(EpochRecord {
            own_angle_degrees: median(&mut self.own),
            other_angle_degrees: median(&mut self.other),
            beyond_pi_minus_m,
            margin_active: self.active.value(),
            label_probability: self.probability.value(),
            gradient_norm: self.gradient.value(),
            embedding_norm: self.embedding.value(),
            class_weight_norm: self.weight.value(),
            head_state,
            ..EpochRecord::default()
        })
    }
}

/// The softmax probability of a class.
fn probability(logits: &[f32], class: usize) -> f64 {
    let highest = logits.iter().fold(f64::NEG_INFINITY, |highest, &logit| highest.max(f64::from(logit)));
    let weight = |logit: f32| (f64::from(logit) - highest).exp();
    weight(logits[class]) / logits.iter().map(|&logit| weight(logit)).sum::<f64>()
}

/// The lower of two middle values.
fn median(values: &mut [f32]) -> Option<f64> {
    let middle = values.len().checked_sub(1)? / 2;
    let median = f64::from(*values.select_nth_unstable_by(middle, f32::total_cmp).1);
    Some(median).filter(|median| median.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use faceoff_runs::HeadInit;

    /// One step of a head of three classes and two dimensions, whose class weights lie at the given degrees.
    fn after_a_step(config: &HeadConfig, weights: &[f64], embeddings: &[(f64, f64)], labels: &[u32]) -> EpochRecord {
        let device = &Device::Cpu;
        let mut head = faceoff_heads::build(config, 2, 3, HeadInit::Uniform, 0, device, DType::F32).unwrap();
        let points = |of: &[(f64, f64)]| {
            let at = |&(length, degrees): &(f64, f64)| {
                let (sine, cosine) = degrees.to_radians().sin_cos();
                [(length * cosine) as f32, (length * sine) as f32]
            };
            Tensor::from_vec(of.iter().flat_map(at).collect::<Vec<f32>>(), (of.len(), 2), device).unwrap()
        };
        let weights: Vec<(f64, f64)> = weights.iter().map(|&degrees| (0.5, degrees)).collect();
        let (_, weight) = head.variables().into_iter().find(|(name, _)| name == "weight").unwrap();
        weight.set(&points(&weights).reshape(weight.dims()).unwrap()).unwrap();
        let (embeddings, labels) = (points(embeddings), Tensor::new(labels, device).unwrap());
        let loss = head.loss(&embeddings, &labels).unwrap();
        let scores = head.scores(&embeddings).unwrap();
        let mut epoch = Epoch::new(config);
        // Lengths 0.1 and 0.2 in a batch of two.
        let gradient = Tensor::new(&[[0.06f32, 0.08], [0.2, 0.0]], device).unwrap();
        epoch.note(head.as_ref(), &embeddings, scores, loss.logits, &gradient, &labels).unwrap();
        epoch.record(head.as_ref()).unwrap()
    }

    fn assert_close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-3), "{found:?} is not {expected}");
    }

    fn arcface(beyond_pi: &str) -> HeadConfig {
        let head = HeadConfig::new("ArcFace").with("scale", 4.0).with("margin_radians", 0.5);
        head.with("beyond_pi", beyond_pi).with("epsilon", 1e-6)
    }

    #[test]
    fn figures_are_those_worked_out_by_hand() {
        // The first image lies beyond pi - 0.5 rad = 151.4 degrees, where Catalyst's rule has no margin.
        let embeddings = [(2.0, 170.0), (4.0, 100.0)];
        let found = after_a_step(&arcface("catalyst"), &[0.0, 90.0, 270.0], &embeddings, &[0, 1]);
        assert_close(found.own_angle_degrees, 10.0);
        assert_close(found.other_angle_degrees, 80.0);
        assert_close(found.beyond_pi_minus_m, 0.5);
        assert_close(found.margin_active, 0.5);
        assert_close(found.embedding_norm, 3.0);
        assert_close(found.class_weight_norm, 0.5);
        assert_close(found.gradient_norm, 0.3);
        let cosine = |degrees: f64| (4.0 * degrees.to_radians().cos()).exp();
        let first = cosine(170.0) / (cosine(170.0) + cosine(80.0) + cosine(100.0));
        let with_margin = cosine(10.0 + 0.5f64.to_degrees());
        let second = with_margin / (with_margin + cosine(100.0) + cosine(170.0));
        assert_close(found.label_probability, (first + second) / 2.0);
        assert!(found.head_state.is_empty());

        let linear = after_a_step(&arcface("linear"), &[0.0, 90.0, 270.0], &embeddings, &[0, 1]);
        assert_close(linear.beyond_pi_minus_m, 0.5);
        assert_close(linear.margin_active, 1.0);
    }

    #[test]
    fn of_several_centers_the_nearest_counts() {
        let mut head = HeadConfig::new("SubCenterArcFace").with("sub_centers", 2);
        for (name, value) in arcface("catalyst").parameters() {
            head = head.with(name, value.clone());
        }
        let weights = [0.0, 90.0, 270.0, 60.0, 91.0, 180.0];
        let found = after_a_step(&head, &weights, &[(1.0, 40.0), (1.0, 100.0)], &[0, 1]);
        assert_close(found.own_angle_degrees, 9.0);
        assert_close(found.other_angle_degrees, 40.0);
    }

    #[test]
    fn what_a_head_does_not_have_is_empty() {
        let embeddings = [(2.0, 0.0), (4.0, 90.0)];
        let plain = after_a_step(&HeadConfig::new("Classification"), &[0.0, 90.0, 270.0], &embeddings, &[0, 1]);
        assert_eq!((plain.beyond_pi_minus_m, plain.margin_active), (None, None));
        assert_close(plain.own_angle_degrees, 0.0);
        let scaled =
            after_a_step(&HeadConfig::new("AdaCos").with("epsilon", 1e-6), &[0.0, 90.0, 270.0], &embeddings, &[0, 1]);
        assert_eq!((scaled.margin_active, scaled.head_state[0].0.as_str()), (None, "scale"));
        assert!(scaled.head_state[0].1.is_finite());
    }
}
