//! Encoder and head together: built from a seed, from a checkpoint, or from a whole run.

use crate::weights::{load, save};
use crate::{EncoderPlan, Result};
use candle_core::DType;
use faceoff_heads::Head;
use faceoff_kernels::{AdamW, Arithmetic, Encoder, PacedEncoder, State};
use faceoff_runs::{RunFolder, RunSpec};

/// An encoder with its head, and the head's optimiser.
pub struct Model {
    /// Images, or rows that stand for them, to embeddings.
    pub encoder: Box<dyn Encoder>,
    /// Embeddings and labels to a loss.
    pub head: Box<dyn Head>,
    pub(crate) head_optimizer: AdamW,
    /// Share of each label's weight that all classes get alike.
    pub(crate) label_smoothing: f64,
}

impl Model {
    /// A fresh model: a function of the seed alone, and of the file that the encoder starts from where there is one.
    pub fn new(spec: &RunSpec, classes: usize, arithmetic: &Arithmetic) -> Result<Self> {
        let encoder = EncoderPlan::of(&spec.training)?.initial(&spec.training, spec.seed)?;
        Self::with_encoder(&encoder, spec, classes, arithmetic)
    }

    /// The model of a whole run.
    pub fn of_run(folder: &RunFolder, spec: &RunSpec, classes: usize, arithmetic: &Arithmetic) -> Result<Self> {
        let (encoder, _) = load(&folder.encoder_path())?;
        let mut model = Self::with_encoder(&encoder, spec, classes, arithmetic)?;
        model.head.load(&load(&folder.head_path())?.0)?;
        Ok(model)
    }

    pub(crate) fn with_encoder(
        encoder: &State,
        spec: &RunSpec,
        classes: usize,
        arithmetic: &Arithmetic,
    ) -> Result<Self> {
        let recipe = &spec.training;
        let encoder = EncoderPlan::of(recipe)?.build(encoder, arithmetic)?;
        let encoder: Box<dyn Encoder> = match (recipe.encoder_frozen, recipe.encoder_learning_rate_scale) {
            (true, _) => Box::new(PacedEncoder::new(encoder, 0.0)),
            (false, Some(factor)) => Box::new(PacedEncoder::new(encoder, factor)),
            (false, None) => encoder,
        };
        let head = faceoff_heads::build(
            &spec.variant.head,
            encoder.dim(),
            classes,
            spec.training.head_init,
            spec.seed,
            arithmetic.device(),
            DType::F32,
        )?;
        let head_optimizer = AdamW::new(head.variables())?;
        let label_smoothing = recipe.label_smoothing;
        faceoff_heads::check_smoothing(&spec.variant.head, label_smoothing)?;
        Ok(Self { encoder, head, head_optimizer, label_smoothing })
    }

    /// The head's weights and state, by name.
    pub(crate) fn head_state(&self) -> Result<State> {
        Ok(self.head.tensors()?)
    }

    /// Writes `encoder.safetensors` and `head.safetensors`.
    pub fn save(&self, folder: &RunFolder) -> Result<()> {
        save(&folder.encoder_path(), &self.encoder.state()?, None)?;
        save(&folder.head_path(), &self.head_state()?, None)
    }
}
