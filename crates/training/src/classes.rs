//! Class sampling: of many classes a step sees those of its batch and a random share of the others.
//!
//! An et al., "Partial FC: Training 10 Million Identities on a Single Machine", arXiv:2010.05222 (and arXiv:2203.15565): the softmax over
//! all positive and a share of the negative class centres stands for that over all. Weights, gradients and moments of the classes that a
//! step does not see stay as they are, so that it costs in proportion to the classes that it sees.
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
    /// That of `whole`, the head of all `classes`, where the recipe asks for a share of them and the head has weights of classes; its
    /// state is that of `whole`.
    ///
    /// # Errors
    /// Those of the head.
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
        Ok(Some(Self { head, optimizer, classes, count, seed, rows }))
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
