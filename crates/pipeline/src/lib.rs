//! Runs on their way from a specification to a whole folder: images opened, training, the embeddings of both splits, the manifest.
//!
//! ```text
//! ImageSets::open       the images of every run
//! Job::complete         train -> embed train and val -> manifest.json, for every run that is not whole yet
//! Search                the same for the trials of a search: settings tried, the best of each head chosen
//! ```
//!
//! This crate prints nothing and knows no command line: whoever starts a job hears [`Event`]s and decides what is shown.

mod embed;
mod error;
mod event;
mod images;
mod job;
mod machine;
mod search;

pub use embed::{extend_by_unit, keeps_scores};
pub use error::Error;
pub use event::{EMBEDDING_WORK, Event, EventFn, image_work, run_work};
pub use images::ImageSets;
pub use job::{Job, Shard};
pub use machine::describe_machine;
pub use search::{Score, Search};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;
