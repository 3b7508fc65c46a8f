//! Tests of every measure: goldens from other libraries, definitions written out, and corners.

mod accuracy;
mod calibration;
mod class_weights;
mod clustering;
mod degenerate;
mod geometry;
mod golden;
mod neighbors;
mod open_set;
mod pairs;
mod pca;
mod probe;
mod retrieval;
mod statistics;
mod ties;
mod tsne;
mod verification;
