//! The seam between encoder and head: the trait, and the plain types that cross it.

use crate::{AdamWStep, Error, Result};
use candle_core::Tensor;

/// A batch of RGB images, `(count, size, size, 3)` u8, channels last, as the data pipeline delivers them.
///
/// Normalisation (ImageNet mean and deviation) and memory layout are the encoder's own affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    pixels: Vec<u8>,
    count: usize,
    size_px: usize,
}

impl Images {
    /// Wraps `pixels`, which must hold exactly `count * size_px * size_px * 3` bytes and at least one image.
    pub fn new(pixels: Vec<u8>, count: usize, size_px: usize) -> Result<Self> {
        if count == 0 || size_px == 0 || pixels.len() != count * size_px * size_px * 3 {
            return Err(Error::ImageBytes { bytes: pixels.len(), count, size_px });
        }
        Ok(Self { pixels, count, size_px })
    }

    /// The bytes, `(count, size, size, 3)`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Gives the bytes back, so that the caller can reuse the allocation.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// Number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Side of an image in pixels.
    pub fn size_px(&self) -> usize {
        self.size_px
    }
}

/// Named tensors on the CPU: torchvision's names and layouts for an encoder's weights.
pub type State = Vec<(String, Tensor)>;

/// What `backward` needs from `forward_train`; opaque outside this crate.
pub struct Tape(pub(crate) TapeKind);

pub(crate) enum TapeKind {
    /// The embeddings with their autograd graph.
    Portable(Tensor),
    /// Activations and statistics of the hand-written encoder.
    Fast(Box<crate::fast::FastTape>),
    /// The same on a CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(Box<crate::cuda::CudaTape>),
}

/// Gradients of all parameters, in the encoder's own order; opaque outside this crate, see
/// [`Encoder::named_gradients`].
pub struct Gradients(pub(crate) GradientsKind);

pub(crate) enum GradientsKind {
    /// One tensor a parameter, in the order of [`crate::resnet::parameters`].
    Portable(Vec<Tensor>),
    /// One flat buffer.
    Fast(crate::fast::FastGradients),
    /// One flat buffer on a CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(crate::cuda::CudaGradients),
}

/// The encoder: images in, embeddings out, the same for every implementation.
///
/// A step of training is `forward_train`, the head and the loss outside, `backward`, `apply`.
pub trait Encoder: Send {
    /// Batch-norm statistics of the batch, running statistics updated. Returns embeddings `(batch, dim)` f32 on
    /// the encoder's device, detached from any graph, and the tape for [`Encoder::backward`].
    fn forward_train(&mut self, images: &Images) -> Result<(Tensor, Tape)>;

    /// Gradients of all parameters, given the loss's gradient with respect to the embeddings `(batch, dim)`.
    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients>;

    /// One AdamW step over all parameters. The moments are the encoder's, see [`Encoder::optimizer_state`].
    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()>;

    /// Inference with running statistics: embeddings `(batch, dim)`, not normalised.
    fn forward(&self, images: &Images) -> Result<Tensor>;

    /// Width of an embedding.
    fn dim(&self) -> usize;

    /// Parameters and buffers with torchvision's names (f32, and i64 for `num_batches_tracked`), on the CPU.
    fn state(&self) -> Result<State>;

    /// The moments of the optimiser, `<parameter>.m` and `<parameter>.v`, on the CPU, in torchvision's layouts.
    fn optimizer_state(&self) -> Result<State>;

    /// Restores what [`Encoder::optimizer_state`] returned.
    fn load_optimizer_state(&mut self, state: &State) -> Result<()>;

    /// The gradients by name, on the CPU, in torchvision's layouts (for tests and for looking inside).
    fn named_gradients(&self, gradients: &Gradients) -> Result<State>;
}
