//! Tests of every measure: goldens from other libraries, definitions written out, and corners.

mod calibration;
mod clustering;
mod geometry;
mod golden;
mod probe;
mod retrieval;
mod statistics;
mod verification;
