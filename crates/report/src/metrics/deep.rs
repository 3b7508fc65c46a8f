//! Measures beyond the protocol: retrieval, verification, clustering, geometry, linear probe, calibration.

use super::{Measured, Points};
use faceoff_analysis::probe::LinearProbe;
use faceoff_analysis::retrieval::{RECALL_AT, Retrieval};
use faceoff_analysis::verification::FAR;
use faceoff_analysis::{Result, accuracy, calibration, clustering, geometry, retrieval, verification};
use faceoff_runs::Embeddings;
use ndarray::ArrayView2;
use std::collections::BTreeSet;

/// Training images are the index, validation images the queries.
pub(super) fn retrieval(measured: &mut Measured, index: Points<'_>, queries: Points<'_>) -> Result<()> {
    let found = retrieval::retrieval(index.unit, index.labels, queries.unit, queries.labels)?;
    add_retrieval(measured, "", &found);
    Ok(())
}

/// Every validation image is a query, all others are the index.
pub(super) fn retrieval_leave_one_out(measured: &mut Measured, points: Points<'_>) -> Result<()> {
    let found = retrieval::retrieval_leave_one_out(points.unit, points.labels)?;
    add_retrieval(measured, "loo_", &found);
    Ok(())
}

fn add_retrieval(measured: &mut Measured, prefix: &str, found: &Retrieval) {
    measured.add(format!("{prefix}precision_at_1"), found.precision_at_1);
    for (k, share) in RECALL_AT.iter().zip(found.recall_at) {
        measured.add(format!("{prefix}recall_at_{k}"), share);
    }
    measured.add(format!("{prefix}r_precision"), found.r_precision);
    measured.add(format!("{prefix}map_at_r"), found.map_at_r);
    measured.add(format!("{prefix}mean_reciprocal_rank"), found.mean_reciprocal_rank);
}

/// All pairs of validation images.
pub(super) fn verification(measured: &mut Measured, val: Points<'_>) -> Result<()> {
    let found = verification::verification(val.unit, val.labels)?;
    measured.add("verification_auc", found.auc);
    measured.add("equal_error_rate", found.eer);
    for (far, tar) in FAR.iter().zip(found.tar_at_far) {
        if let Some(tar) = tar {
            measured.add(format!("tar_at_far_{far:e}"), tar);
        }
    }
    for (prefix, angles) in [("intra", &found.intra_class), ("inter", &found.inter_class)] {
        measured.add(format!("{prefix}_class_angle_degrees"), angles.mean_degrees);
        measured.add(format!("{prefix}_class_angle_sd_degrees"), angles.sd_degrees);
    }
    measured.shapes.verification = Some(found);
    Ok(())
}

/// As many clusters as the validation images have classes.
pub(super) fn clustering(measured: &mut Measured, val: Points<'_>, seed: u64) -> Result<()> {
    let classes = val.labels.iter().collect::<BTreeSet<_>>().len();
    let found = clustering::kmeans(val.unit, classes, seed)?;
    measured.add("kmeans_nmi", clustering::normalized_mutual_information(val.labels, &found.assignments)?);
    measured.add("kmeans_ami", clustering::adjusted_mutual_information(val.labels, &found.assignments)?);
    measured.add("silhouette", clustering::silhouette(val.unit, val.labels)?.mean);
    Ok(())
}

/// Neural collapse is that of the index, or of the evaluated points where there is none.
pub(super) fn geometry<'a>(
    measured: &mut Measured,
    index: Option<Points<'a>>,
    val: Points<'a>,
) -> Result<()> {
    if let Some(train) = index {
        let nearest = geometry::nearest_center_predictions(train.unit, train.labels, val.unit)?;
        measured.add("nearest_center_accuracy", accuracy::accuracy(&nearest, val.labels)?);
    }
    let centers = geometry::center_angles(val.unit, val.labels)?;
    let smallest = centers.degrees.indexed_iter().filter(|((i, j), _)| i != j).map(|(_, &angle)| angle);
    measured.add("smallest_center_angle_degrees", smallest.fold(180.0, f64::min));
    measured.shapes.centers = Some(centers);
    measured.add("alignment", geometry::alignment(val.unit, val.labels)?);
    measured.add("uniformity", geometry::uniformity(val.unit)?);
    let train = index.unwrap_or(val);
    let collapse = geometry::neural_collapse(train.unit, train.labels)?;
    measured.add("nc1_within_over_between", collapse.within_over_between);
    measured.add("nc2_equinorm", collapse.equinorm);
    measured.add("nc2_equiangularity", collapse.equiangularity);
    measured.add("nc2_maximal_angle", collapse.maximal_angle);
    Ok(())
}

/// Whether the classifier's vectors are the class means of the training images, and whether it says what the nearest of
/// these means says.
pub(super) fn classifier_collapse(measured: &mut Measured, train: &Embeddings) -> Result<()> {
    let Points { unit, labels } = Points::of(train);
    if let Some(vectors) = &train.class_vectors {
        let vectors = ArrayView2::from_shape((train.classes, train.dim), vectors).expect("C x D values");
        measured.add("nc3_self_duality", geometry::self_duality(vectors, unit, labels)?);
    }
    let scores = ArrayView2::from_shape((train.len(), train.classes), &train.scores).expect("N x C values");
    let predicted = accuracy::predictions(scores);
    measured
        .add("nc4_nearest_mean_disagreement", geometry::nearest_mean_disagreement(unit, labels, &predicted)?);
    Ok(())
}

/// Fitted on the training images with their true labels, scored on the validation images.
pub(super) fn probe(measured: &mut Measured, train: Points<'_>, val: Points<'_>) -> Result<()> {
    let score = LinearProbe::fit(train.unit, train.labels)?.evaluate(val.unit, val.labels)?;
    measured.add("linear_probe_accuracy", score.accuracy);
    measured.add("linear_probe_log_loss", score.log_loss);
    Ok(())
}

/// Probabilities are the softmax of the scores times the head's effective scale.
pub(super) fn calibration(measured: &mut Measured, val: &Embeddings) -> Result<()> {
    let scores = ArrayView2::from_shape((val.len(), val.classes), &val.scores).expect("N x C values");
    let found = calibration::calibration(scores, &val.labels, f64::from(val.effective_scale), 15)?;
    measured.add("calibration_error", found.ece);
    measured.add("negative_log_likelihood", found.nll);
    measured.add("brier_score", found.brier);
    measured.shapes.calibration = Some(found);
    Ok(())
}
