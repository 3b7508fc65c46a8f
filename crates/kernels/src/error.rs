//! The errors of this crate: each carries the value, the rule and the remedy.

/// What can go wrong in the encoder's arithmetic.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The pixel buffer does not fit the stated batch.
    #[error(
        "{bytes} bytes of pixels for {count} images of {size_px} px: expected count * size * size * 3 bytes and at least one image; check the batch"
    )]
    ImageBytes {
        /// Bytes given.
        bytes: usize,
        /// Images stated.
        count: usize,
        /// Side stated, in pixels.
        size_px: usize,
    },
    /// A tensor of a state has the wrong name, shape or type, or is missing.
    #[error("tensor `{name}`: {problem}; the file must hold a ResNet-18 with torchvision's names and shapes")]
    State {
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A gradient of the wrong shape, or a tape or gradients of another encoder.
    #[error("{0}")]
    Misuse(String),
    /// A failure inside Candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
