//! Images: fetch, verify, decode, augment, batch. This crate knows nothing of models.
//!
//! ```text
//! --data | --archive | cache folder | download      source, download, archive, synthetic
//!    -> train/<class>/..., val/<class>/...           folder: names, labels, the data set's own list (profile)
//!       or another layout, or a table of images      own, table: images of the user's own
//! --embeddings: rows of another model's numbers      rows: checked once, read again for each batch; the rest is skipped
//!    -> decoded once, upright, into one file         cache, decode
//!    -> cropped, resized, flipped on threads         augment, loader
//!    -> Batch: (n, size, size, 3) u8, or (n, numbers) f32
//! ```

mod any;
mod archive;
mod augment;
mod cache;
mod dataset;
mod decode;
mod download;
mod error;
#[cfg(feature = "extra-datasets")]
mod extra;
mod folder;
mod loader;
mod own;
mod profile;
mod rows;
mod source;
mod sync;
mod synthetic;
mod table;

pub use any::{AnyImages, eval_views};
pub use archive::{extract, md5_of};
pub use dataset::{Dataset, ImageCounts, Item, broken_images, count_images};
pub use decode::Rgb;
pub use download::{Download, Patience};
pub use error::Error;
pub use loader::{Batch, Loader};
pub use own::{Preview, broken_own_images, file_name_of, preview, unseen_classes};
pub use profile::{Origin, PROFILES, Profile, profile};
pub use rows::EmbeddingFiles;
pub use source::{ImageSource, expected_images, fetch, is_at_hand, is_published};

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Called during a long job with what it does, how much of it is done, and how much there is (0 where unknown).
pub type ProgressFn<'a> = &'a (dyn Fn(&str, u64, u64) + Sync);
