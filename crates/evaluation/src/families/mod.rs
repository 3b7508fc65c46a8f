//! The families of metrics, one file each: rows, measuring function, version.

pub mod calibration;
pub mod classifier;
pub mod clustering;
pub mod geometry;
pub mod health;
pub mod neighbors;
pub mod open_set;
pub mod probe;
pub mod retrieval;
pub mod sub_centers;
pub mod variance;
pub mod verification;

// What the families have in common.
use crate::measured::{Findings, Splits, Subject, at};
use crate::registry::{Family, Headline, MetricId};
use faceoff_analysis::Result;
use faceoff_runs::{AnalysisConfig, thousands};

/// Every family, in the order of the tables.
pub(crate) const STANDARD: [Family; 14] = [
    classifier::FAMILY,
    neighbors::FAMILY,
    variance::FAMILY,
    retrieval::FAMILY,
    retrieval::LEAVE_ONE_OUT,
    verification::FAMILY,
    open_set::FAMILY,
    clustering::FAMILY,
    geometry::FAMILY,
    probe::FAMILY,
    geometry::CLASSIFIER_COLLAPSE,
    calibration::FAMILY,
    health::FAMILY,
    sub_centers::FAMILY,
];

/// Of more classes than this no matrix of classes by classes is kept: with 11,000 it would take a gigabyte a run.
const MOST_CLASSES_OF_MATRICES: usize = 2_000;

/// Whether a matrix of classes by classes is kept; where not, a note says so.
fn matrices_are_kept(classes: usize, what: &str, found: &mut Findings) -> bool {
    let kept = classes <= MOST_CLASSES_OF_MATRICES;
    if !kept {
        found.notes.push(format!(
            "no matrix of {what}: {} classes would have {} cells, and it is kept of {} at most.",
            thousands(classes),
            thousands(classes * classes),
            thousands(MOST_CLASSES_OF_MATRICES)
        ));
    }
    kept
}

/// Rows of a family: statics, and `METRICS` with all of them.
///
/// ```text
/// rows! { METRICS in "Classifier":
///     DNN_ACCURACY "dnn_accuracy" "DNN accuracy" Percent Higher "Share of ..." "Catalyst team 2021";
/// }
/// ```
macro_rules! rows {
    ($list:ident in $group:literal: $($name:ident $id:literal $title:literal $unit:ident $direction:ident $sentence:literal $source:literal;)*) => {
        $(
            #[doc = $sentence]
            pub static $name: $crate::registry::Metric = $crate::registry::Metric {
                id: $id,
                title: $title,
                group: $group,
                unit: $crate::registry::Unit::$unit,
                direction: $crate::registry::Direction::$direction,
                sentence: $sentence,
                source: $source,
            };
        )*
        const $list: &[&$crate::registry::Metric] = &[$(&$name),*];
    };
}
pub(crate) use rows;

/// The mean of values, of which there is one at least.
pub(crate) fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// Sizes in rising order, each once.
fn rising(mut sizes: Vec<usize>) -> Vec<usize> {
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

/// Those of `quick`.
#[cfg(test)]
pub(crate) fn settings_of_quick() -> AnalysisConfig {
    let experiments = concat!(env!("CARGO_MANIFEST_DIR"), "/../../experiments");
    faceoff_runs::Experiment::load(std::path::Path::new(experiments), "quick").unwrap().analysis
}
