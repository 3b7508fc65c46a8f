//! The encoder's arithmetic: ResNet-18 forward and backward.
//!
//! Everything outside this crate sees the encoder through one seam, the trait [`Encoder`]. Two
//! implementations stand behind it: [`PortableEncoder`] (Candle's operators and autograd; CPU, CUDA, Metal; the
//! oracle of the tests) and the hand-written CPU encoder. The head and the loss run under Candle's autograd outside.

mod adamw;
mod error;
mod portable;
pub mod resnet;
mod seam;

pub use adamw::{AdamW, AdamWStep};
pub use error::Error;
pub use portable::PortableEncoder;
pub use seam::{Encoder, Gradients, Images, State, Tape};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;
