//! Pure functions on embeddings, scores and labels: `ndarray` views in, plain values out.
//!
//! Nothing here reads a file, knows a network or draws a random number that is not a function of a given seed. Results do not
//! depend on the number of threads. Embeddings are `(points, dimensions)` f32 matrices, one row a point.
//!
//! Every function fails on empty input, on inputs that must agree in a length or dimension and do not, on NaN and infinity, and on
//! a label that is not below the number of classes; functions of embeddings and classes also on a row that has not unit length. The
//! sections "Errors" name what comes beside that.
//!
//! | question | module |
//! |---|---|
//! | Which points are nearest, and what do they vote? | [`neighbors`], [`retrieval`] |
//! | How often is the classifier right, and how sure is it? | [`accuracy`], [`calibration`], [`probe`] |
//! | Do two points show the same class? Which pairs are the hardest? | [`verification`], [`pairs`] |
//! | Is a point of a class never seen, and does one threshold serve all classes? | [`open_set`] |
//! | How do classes lie in space? | [`geometry`], [`clustering`] |
//! | How do points lie to a head's weights, and what does its margin cost? | [`class_weights`] |
//! | How many dimensions are used, and what does it look like? | [`pca`], [`tsne`] |
//! | Is a difference more than chance? | [`statistics`] |
//!
//! ```
//! use faceoff_analysis::{accuracy::accuracy, neighbors};
//! use ndarray::array;
//!
//! // Two directions, one a class; rows of unit length.
//! let train = array![[1.0_f32, 0.0], [0.8, 0.6], [0.0, 1.0]];
//! let (train_labels, val, val_labels) = ([0, 0, 1], array![[0.6_f32, 0.8], [0.96, 0.28]], [1, 0]);
//! let found = neighbors::nearest(train.view(), val.view(), 1)?;
//! let predicted = neighbors::knn_predictions(&found, &train_labels, 1)?;
//! assert_eq!(predicted, [0, 0]);
//! assert_eq!(accuracy(&predicted, &val_labels)?, 0.5);
//! # Ok::<(), faceoff_analysis::Error>(())
//! ```

pub mod accuracy;
mod bounds;
pub mod calibration;
mod centered;
pub mod class_weights;
pub mod clustering;
mod error;
pub mod geometry;
pub mod neighbors;
pub mod open_set;
pub mod pairs;
pub mod pca;
pub mod probe;
mod products;
pub mod retrieval;
mod search;
pub mod statistics;
pub mod tsne;
pub mod verification;

pub use error::{Error, Result};
