//! The seam between encoder and head: the trait, and the plain types that cross it.

use crate::{AdamWStep, Error, Result};
use candle_core::Tensor;
use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};

/// A batch of RGB images, `(count, size, size, 3)` u8, channels last, as the data pipeline delivers them.
///
/// Normalisation (ImageNet mean and deviation) and memory layout are the encoder's own affair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageBatch {
    pixels: Vec<u8>,
    count: usize,
    size_px: usize,
}

impl ImageBatch {
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

    /// Number of images.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Side of an image in pixels.
    pub fn size_px(&self) -> usize {
        self.size_px
    }
}

/// A batch of what an encoder takes: images, or rows of numbers that stand for images.
#[derive(Debug, Clone, PartialEq)]
pub enum Inputs {
    /// RGB images.
    Images(ImageBatch),
    /// Embeddings that another encoder made of images.
    Rows(RowBatch),
}

/// Rows of numbers, `(count, width)` f32; their length is the encoder's own affair.
#[derive(Debug, Clone, PartialEq)]
pub struct RowBatch {
    values: Vec<f32>,
    count: usize,
}

impl RowBatch {
    /// Wraps `values`, the rows one behind the other: at least one row of at least one number.
    pub fn new(values: Vec<f32>, count: usize) -> Result<Self> {
        if count == 0 || values.is_empty() || !values.len().is_multiple_of(count) {
            return Err(Error::RowNumbers { numbers: values.len(), count });
        }
        Ok(Self { values, count })
    }

    /// The numbers, `(count, width)`.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.values.len() / self.count
    }
}

impl Inputs {
    /// Number of images or rows.
    pub fn count(&self) -> usize {
        match self {
            Self::Images(images) => images.count,
            Self::Rows(rows) => rows.count,
        }
    }

    pub(crate) fn images(&self) -> Result<&ImageBatch> {
        match self {
            Self::Images(images) => Ok(images),
            Self::Rows(_) => Err(Error::Inputs { expected: "images", found: "rows of numbers" }),
        }
    }

    pub(crate) fn rows(&self) -> Result<&RowBatch> {
        match self {
            Self::Rows(rows) => Ok(rows),
            Self::Images(_) => Err(Error::Inputs { expected: "rows of numbers", found: "images" }),
        }
    }
}

impl From<ImageBatch> for Inputs {
    fn from(images: ImageBatch) -> Self {
        Self::Images(images)
    }
}

impl From<RowBatch> for Inputs {
    fn from(rows: RowBatch) -> Self {
        Self::Rows(rows)
    }
}

/// Named tensors on the CPU: torchvision's names and layouts for a ResNet's weights.
pub type State = Vec<(String, Tensor)>;

/// Tells an encoder's tapes and gradients from those of every other encoder of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner(u64);

impl Owner {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// What belongs to one encoder and is known to it alone.
pub(crate) struct Owned {
    owner: Owner,
    content: Box<dyn Any + Send>,
}

impl Owned {
    pub(crate) fn new(owner: Owner, content: impl Any + Send) -> Self {
        Self { owner, content: Box::new(content) }
    }

    /// The content, where it is `owner`'s.
    pub(crate) fn view<T: Any>(&self, owner: Owner) -> Result<&T> {
        self.content.downcast_ref().filter(|_| self.owner == owner).ok_or(Error::Foreign)
    }

    /// As [`Owned::view`], given away.
    pub(crate) fn open<T: Any>(self, owner: Owner) -> Result<T> {
        match self.content.downcast() {
            Ok(content) if self.owner == owner => Ok(*content),
            _ => Err(Error::Foreign),
        }
    }
}

/// What `backward` needs from `forward_train`.
pub struct Tape(pub(crate) Owned);

/// Gradients of all parameters, in the encoder's own layout; see [`Encoder::named_gradients`].
pub struct Gradients(pub(crate) Owned);

/// That the loss's gradient has the shape of the embeddings, `(batch, dim)`.
pub(crate) fn check_gradient(gradient: &Tensor, expected: [usize; 2]) -> Result<()> {
    let found = gradient.dims().to_vec();
    if found == expected { Ok(()) } else { Err(Error::GradientShape { found, expected: expected.to_vec() }) }
}

/// The encoder: images, or rows that stand for images, in; embeddings out, the same for every implementation.
///
/// A step of training is `forward_train`, the head and the loss outside, `backward`, `apply`.
pub trait Encoder: Send {
    /// Batch-norm statistics of the batch, running statistics updated, where there are batch norms. Returns embeddings `(batch, dim)` f32 on
    /// the encoder's device, detached from any graph, and the tape for [`Encoder::backward`].
    fn forward_train(&mut self, inputs: &Inputs) -> Result<(Tensor, Tape)>;

    /// Gradients of all parameters, given the loss's gradient with respect to the embeddings `(batch, dim)`.
    fn backward(&mut self, tape: Tape, grad: &Tensor) -> Result<Gradients>;

    /// One AdamW step over all parameters. The moments are the encoder's, see [`Encoder::optimizer_state`].
    fn apply(&mut self, gradients: Gradients, step: &AdamWStep) -> Result<()>;

    /// Inference with running statistics: embeddings `(batch, dim)`, not normalised.
    fn forward(&self, inputs: &Inputs) -> Result<Tensor>;

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
