//! Class sampling: of many classes a step sees those of its batch and a random share of the others.
//!
//! An et al., "Partial FC: Training 10 Million Identities on a Single Machine", arXiv:2010.05222 (and arXiv:2203.15565): the softmax over
//! all positive and a share of the negative class centres stands for that over all; heads whose sums over classes are no softmax are refused
//! ([`faceoff_heads::HeadInfo::sampled`]). Weights, gradients and moments of the classes that a step does not see stay as they are, so that
//! it costs in proportion to the classes that it sees; moments are corrected for the steps that a class itself is expected to have seen.
//!
//! The head of a step is a smaller one of the same kind, into which the rows of these classes are copied before the step and from
//! which they are copied back after it. What is no row of a class, a scale or a bias of all, is the smaller head's own and is given back at
//! the end of an epoch.

use crate::Result;
use candle_core::{DType, Device, Tensor};
use faceoff_heads::Head;
use faceoff_kernels::AdamW;
use faceoff_runs::RunSpec;
use rand::SeedableRng;
use rand::seq::index;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The head of a step, over the classes that it sees.
pub(crate) struct SampledClasses {
    pub(crate) head: Box<dyn Head>,
    pub(crate) optimizer: AdamW,
    classes: usize,
    /// Classes that a step sees.
    count: usize,
    seed: u64,
    rows: Tensor,
}

impl SampledClasses {
    /// That of `whole`, the head of all `classes`, where the recipe asks for fewer of them and the head has weights of classes.
    ///
    /// # Errors
    /// Those of the head; one that takes no share of the classes.
    pub(crate) fn of(
        spec: &RunSpec,
        whole: &dyn Head,
        dim: usize,
        classes: usize,
        device: &Device,
    ) -> Result<Option<Self>> {
        let Some(share) = spec.training.class_sampling.filter(|_| !whole.variables().is_empty()) else {
            return Ok(None);
        };
        // A batch's own classes are always seen; two classes at least make a head.
        let least = spec.training.batch_size.max(3).min(classes);
        let count = ((share * classes as f64).ceil() as usize).clamp(least, classes);
        faceoff_heads::check(&spec.variant.head, dim, classes, spec.training.head_init, share)?;
        (count < classes).then(|| Self::new(spec, whole, dim, [count, classes], device)).transpose()
    }

    /// Of `count` of `classes` classes; its state is that of `whole`.
    fn new(
        spec: &RunSpec,
        whole: &dyn Head,
        dim: usize,
        [count, classes]: [usize; 2],
        device: &Device,
    ) -> Result<Self> {
        let mut config = spec.variant.head.clone();
        // It depends on the number of all classes.
        if config.scale_is_auto() {
            config = config.with("scale", whole.effective_scale());
        }
        let init = spec.training.head_init;
        let mut head = faceoff_heads::build(&config, dim, count, init, spec.seed, device, DType::F32)?;
        give_numbers(whole, head.as_mut())?;
        let (optimizer, seed) = (AdamW::new(head.variables())?, spec.seed);
        let rows = Tensor::arange(0u32, count as u32, device)?;
        Ok(Self { head, optimizer, classes, count, seed, rows })
    }

    /// Takes the classes of `labels` and others that `step` decides from the whole head: the places of the labels among them.
    pub(crate) fn take(&mut self, whole: &AdamW, labels: &[u32], step: u64) -> Result<Vec<u32>> {
        let chosen = chosen(labels, self.classes, self.count, self.seed, step);
        let place = |label: &u32| chosen.binary_search(label).expect("the batch's classes are chosen") as u32;
        let labels = labels.iter().map(place).collect();
        self.rows = Tensor::from_vec(chosen, self.count, self.rows.device())?;
        self.optimizer.take_rows(whole, &self.rows)?;
        Ok(labels)
    }

    /// Gives them back after the step.
    pub(crate) fn give(&self, whole: &mut AdamW) -> Result<()> {
        Ok(self.optimizer.give_rows(whole, &self.rows)?)
    }

    /// Gives back what is no row of a class.
    pub(crate) fn finish(&self, whole: &mut dyn Head) -> Result<()> {
        give_numbers(self.head.as_ref(), whole)
    }
}

/// Copies the state that is no variable from one head to another of its kind.
fn give_numbers(from: &dyn Head, to: &mut dyn Head) -> Result<()> {
    let variables = from.variables();
    let is_number = |name: &str| variables.iter().all(|(variable, _)| variable != name);
    let numbers = from.tensors()?;
    let mut state = to.tensors()?;
    for (name, tensor) in &mut state {
        if let Some((_, number)) = numbers.iter().find(|(other, _)| other == name && is_number(other)) {
            *tensor = number.clone();
        }
    }
    Ok(to.load(&state)?)
}

/// `count` classes of `classes`, rising: those of the batch and others, a function of seed and step.
fn chosen(labels: &[u32], classes: usize, count: usize, seed: u64, step: u64) -> Vec<u32> {
    let mut random = ChaCha8Rng::from_seed(Sha256::digest(format!("classes {seed} {step}")).into());
    let mut seen = vec![false; classes];
    let mut chosen = Vec::with_capacity(count);
    let drawn = index::sample(&mut random, classes, count).into_iter().map(|class| class as u32);
    for class in labels.iter().copied().chain(drawn) {
        if chosen.len() < count && !std::mem::replace(&mut seen[class as usize], true) {
            chosen.push(class);
        }
    }
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::step_of;
    use crate::{Model, health};
    use faceoff_kernels::{AdamWStep, Arithmetic, RowBatch};
    use faceoff_runs::{Compute, Experiment, ProjectionConfig};
    use std::path::Path;

    const CLASSES: usize = 7;

    /// What three steps of a head on rows of made-up numbers leave, bit for bit; by a part of `count` classes where given.
    fn learnt(name: &str, count: Option<usize>) -> Vec<(String, Vec<u32>)> {
        let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        let mut experiment = Experiment::load(&experiments, "heads-all").unwrap();
        experiment.heads.retain(|variant| variant.name == name);
        let projection = ProjectionConfig { inputs: Some(5), hidden: 0, outputs: 4, normalize: true };
        experiment.training.projection = Some(projection);
        let compute = Compute { device: "cpu".into(), kernels: "any".into() };
        let spec = RunSpec::of(&experiment, &compute).remove(0);
        let mut model = Model::new(&spec, CLASSES, &Arithmetic::on_cpu(None).unwrap()).unwrap();
        let mut part = count
            .map(|count| SampledClasses::new(&spec, model.head.as_ref(), 4, [count, CLASSES], &Device::Cpu).unwrap());
        let mut figures = health::Epoch::new(&spec.variant.head);
        for step in 1..=3 {
            let rows = (0..60).map(|index| (index as f32 * 0.7 + step as f32).sin()).collect();
            let inputs = RowBatch::new(rows, 12).unwrap().into();
            let labels: Vec<u32> = (0..12).map(|image| image % CLASSES as u32).collect();
            let (learning_rate, beta1, beta2, epsilon, weight_decay) = (1e-2, 0.9, 0.99, 1e-8, 0.1);
            let step = AdamWStep { learning_rate, beta1, beta2, epsilon, weight_decay, step };
            let (loss, _) = step_of(&mut model, part.as_mut(), &inputs, &labels, &step, &mut figures).unwrap();
            assert!(loss.is_finite(), "{name}");
        }
        if let Some(part) = &part {
            part.finish(model.head.as_mut()).unwrap();
        }
        let parts = [model.encoder.state(), Ok(model.head.tensors().unwrap()), model.head_optimizer.state()];
        let bits = |tensor: Tensor| {
            let numbers = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            numbers.into_iter().map(f32::to_bits).collect()
        };
        parts.into_iter().flat_map(|part| part.unwrap()).map(|(name, tensor)| (name, bits(tensor))).collect()
    }

    #[test]
    fn a_part_of_all_classes_learns_what_the_whole_does_bit_for_bit() {
        for head in ["Classification", "AdaCos", "SubCenterArcFace", "CurricularFace", "SphereFace2", "SoftTriple"] {
            assert!(learnt(head, Some(CLASSES)) == learnt(head, None), "{head}");
        }
    }

    #[test]
    fn the_batchs_classes_are_chosen_and_others_by_step() {
        let first = chosen(&[7, 3, 7, 99], 100, 10, 0, 0);
        assert!(first.len() == 10 && first.is_sorted_by(|a, b| a < b), "{first:?}");
        assert!([3, 7, 99].iter().all(|class| first.contains(class)));
        assert_eq!(chosen(&[7, 3, 7, 99], 100, 10, 0, 0), first);
        assert_ne!(chosen(&[7, 3, 7, 99], 100, 10, 0, 1), first);
        assert_eq!(chosen(&[1, 1], 5, 5, 0, 0), [0, 1, 2, 3, 4]);
        assert_eq!(chosen(&[4, 2, 0], 5, 3, 0, 0), [0, 2, 4]);
    }
}
