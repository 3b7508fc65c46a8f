//! Encoder and head, one visible training loop, checkpoints.
//!
//! [`train`] is a function of a run's specification, its images and an arithmetic. It knows nothing of reports.

mod average;
mod checkpoint;
mod classes;
mod encoder;
mod error;
mod health;
mod initialise;
mod model;
mod pretrained;
mod schedule;
mod speed;
mod train;
mod weights;

pub use checkpoint::{PARTS as CHECKPOINT_PARTS, Progress, read as read_checkpoint};
pub use encoder::{EncoderPlan, inputs};
pub use error::Error;
pub use initialise::initial_encoder;
pub use model::Model;
pub use pretrained::{Pretrained, read_pretrained};
pub use schedule::Schedule;
pub use speed::{StepSeconds, made_up_batch, time_health, time_steps, time_training};
pub use train::{Event, Timing, TrainingEnd, train};
pub use weights::{load as load_weights, save as save_weights, state_of};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;
