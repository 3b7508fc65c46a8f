//! What stands on disk, and nothing else: experiment files, run folders, manifests, histories, embeddings.
//!
//! This crate is the contract between training and reporting. It knows nothing of tensors libraries or plots:
//! everything here is plain data that is read, checked and written.
//!
//! ```text
//! experiments/<name>.toml                     Experiment
//! reports/<name>/runs/<variant>-seed<k>/      RunFolder, one per RunSpec (a variant with one seed)
//!     history.csv                             one row an epoch
//!     encoder.safetensors head.safetensors    weights and state
//!     images-<split>.csv                      image ids, true labels, labels trained on
//!     embeddings-<split>.safetensors          unit embeddings, norms, scores, predictions with labels given
//!     (splits: train, val; with held-out classes these are theirs, and seen-train, seen-val those of the classes trained on)
//!     manifest.json                           written last, by rename: the run is whole; checksums of the others and of itself
//! ```

mod adapt;
mod check;
mod embeddings;
mod error;
mod experiment;
mod files;
mod head;
mod history;
mod integers;
mod labelled;
mod layers;
mod manifest;
mod npy;
mod parquet;
mod run;
mod table;
mod tensors;

pub use adapt::Sizes;
pub use check::Contents;
pub use embeddings::{Embeddings, SplitName};
pub use error::{Error, did_you_mean, remedy};
pub use experiment::{
    AnalysisConfig, AugmentationConfig, Averaging, Condition, DataConfig, EMBEDDINGS, Engine, Experiment,
    ExperimentFile, FOLDER, Flip, Overrides, OwnData, OwnSplit, Precision, ProjectionConfig, SYNTHETIC, Sampler,
    SyntheticConfig, TrainingConfig, Trial, TuningConfig,
};
pub use files::{
    FolderLock, list_folder, unfinished_folder, warn_of_local_locks, write_atomically, write_file_atomically,
};
pub use head::{AUTO, HeadConfig, HeadInit, HeadVariant, Margin, ParameterValue};
pub use history::{EpochRecord, MARGIN_ACTS_FROM};
pub use integers::{parse_integers, thousands};
pub use labelled::LabelledRow;
pub use manifest::{DataRecord, Failure, FileRecord, Machine, Manifest, SCHEMA, Speed};
pub use npy::{BLOCK_BYTES, NpyMatrix, read_exact_at};
pub use parquet::read_column;
pub use run::{Compute, Difference, RunFolder, RunSpec, RunState, digest_of_ended, list_runs};
pub use table::{TableRow, read_table};
pub use tensors::{Dtype, StoredTensor, TensorFile, write_tensors};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;
