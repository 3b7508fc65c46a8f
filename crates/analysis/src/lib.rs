//! Pure functions on embeddings, scores and labels: `ndarray` views in, plain values out.
//!
//! Nothing here reads a file, knows a network or draws a random number that is not a function of a given seed. Results do not
//! depend on the number of threads. Embeddings are `(points, dimensions)` f32 matrices, one row a point.

pub mod accuracy;
mod error;
pub mod neighbors;
mod products;
pub mod verification;
pub mod statistics;
pub mod retrieval;
pub mod calibration;
pub mod pca;
pub mod tsne;

pub use error::{Error, Result};
