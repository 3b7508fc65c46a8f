//! Pure functions on embeddings, scores and labels: `ndarray` views in, plain values out.
//!
//! Nothing here reads a file, knows a network or draws a random number that is not a function of a given seed. Results do not
//! depend on the number of threads. Embeddings are `(points, dimensions)` f32 matrices, one row a point.

pub mod accuracy;
mod bounds;
pub mod calibration;
pub mod clustering;
mod error;
pub mod geometry;
pub mod neighbors;
pub mod pca;
pub mod probe;
mod products;
pub mod retrieval;
mod search;
pub mod statements;
pub mod statistics;
pub mod tsne;
pub mod verification;
mod wide;

pub use error::{Error, Result};
