//! From measurements to the pictures of a report.

use crate::error::Result;
use crate::metrics::{COMPONENTS, KNN, Measured, ValImages, knn_metric};
use crate::plots::accuracy::{Bar, BarRow};
use crate::plots::curves::{Curve, Frame, Panel};
use crate::plots::matrix::{Matrix, Sides};
use crate::plots::scatter::{Classes, Cloud};
use crate::plots::{Axes, Picture, accuracy, curves, matrix, percent_tick, plain_tick, scatter};
use crate::runs::Selection;
use crate::tables::MetricSummary;
use ndarray::Array2;
use std::fmt::Display;

/// A heading with the pictures below it, in the order of the page.
pub(crate) struct Section {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// What to see and what not to conclude.
    pub(crate) text: String,
    pub(crate) pictures: Vec<Picture>,
}

/// All that pictures are made of.
pub(crate) struct Outcome<'a> {
    pub(crate) selection: &'a Selection,
    pub(crate) measured: &'a [Measured],
    pub(crate) summaries: &'a [MetricSummary],
    /// Validation images of each variant.
    pub(crate) val_images: &'a [ValImages],
    pub(crate) classes: &'a [String],
}
