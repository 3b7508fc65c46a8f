//! Which encoder a recipe trains: a ResNet on images, or a projection of embeddings of another model.

use crate::initialise::{initial_encoder, initial_projection};
use crate::{Error, Result, read_pretrained};
use faceoff_data::Batch;
use faceoff_kernels::{
    Architecture, Arithmetic, Encoder, ImageBatch, Inputs, Projection, ProjectionEncoder, RowBatch, State, architecture,
};
use faceoff_runs::TrainingConfig;
use std::path::Path;

/// The encoder of a recipe, without weights.
#[derive(Debug, Clone, Copy)]
pub enum EncoderPlan {
    /// A ResNet on images.
    ResNet(Architecture),
    /// A projection of rows.
    Projection(Projection),
}

impl EncoderPlan {
    /// That of `recipe`.
    ///
    /// # Errors
    /// A name that no encoder has.
    pub fn of(recipe: &TrainingConfig) -> Result<Self> {
        Ok(match recipe.projection {
            Some(projection) => Self::Projection(Projection {
                inputs: projection.inputs.unwrap_or_default(),
                hidden: projection.hidden,
                outputs: projection.outputs,
                normalize: projection.normalize,
            }),
            None => Self::ResNet(architecture(&recipe.encoder)?.with_blur_pool(recipe.blur_pool)),
        })
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        match self {
            Self::ResNet(architecture) => architecture.dim(),
            Self::Projection(projection) => projection.outputs,
        }
    }

    /// Bytes of its weights and running statistics.
    pub fn bytes(&self) -> u64 {
        let tensors: Vec<Vec<usize>> = match self {
            Self::ResNet(architecture) => architecture.tensors().into_iter().map(|tensor| tensor.shape).collect(),
            Self::Projection(projection) => projection.tensors().into_iter().map(|(_, shape)| shape).collect(),
        };
        tensors.iter().map(|shape| (shape.iter().product::<usize>() * size_of::<f32>()) as u64).sum()
    }

    /// Its weights at the start: those of `recipe.encoder_init`, or else a function of the seed and of each tensor's name alone.
    ///
    /// # Errors
    /// A file that does not fit, or is not the one that the recipe means.
    pub fn initial(&self, recipe: &TrainingConfig, seed: u64) -> Result<State> {
        match (self, &recipe.encoder_init) {
            (Self::ResNet(architecture), Some(path)) => {
                Ok(read_pretrained(Path::new(path), architecture, recipe.encoder_init_blake3.as_deref())?.state)
            }
            (Self::ResNet(architecture), None) => initial_encoder(architecture, seed),
            (Self::Projection(projection), _) => initial_projection(projection, seed),
        }
    }

    /// The encoder with the weights of `state`.
    ///
    /// # Errors
    /// Weights of another encoder.
    pub fn build(&self, state: &State, arithmetic: &Arithmetic) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            Self::ResNet(architecture) => faceoff_kernels::encoder(architecture, state, arithmetic)?,
            Self::Projection(projection) => Box::new(ProjectionEncoder::new(*projection, state, arithmetic.device())?),
        })
    }
}

/// What an encoder takes of a batch, and its labels.
///
/// # Errors
/// [`Error::Kernels`] for a batch that is none.
pub fn inputs(batch: Batch) -> Result<(Inputs, Vec<u32>)> {
    let Batch { pixels, side_px, rows, labels } = batch;
    let count = labels.len();
    let inputs = match rows.is_empty() {
        true => ImageBatch::new(pixels, count, side_px).map_err(Error::from)?.into(),
        false => RowBatch::new(rows, count)?.into(),
    };
    Ok((inputs, labels))
}
