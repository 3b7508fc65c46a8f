//! Measures beyond the protocol: retrieval, verification, clustering, geometry, linear probe, calibration.

use super::{Measured, Splits, scores, unit};
use faceoff_analysis::probe::LinearProbe;
use faceoff_analysis::verification::FAR;
use faceoff_analysis::{Result, accuracy, calibration, clustering, geometry, retrieval, verification};
use faceoff_runs::Embeddings;
use std::collections::BTreeSet;

/// Training images are the index, validation images the queries.
pub(super) fn retrieval(measured: &mut Measured, Splits { train, val }: &Splits) -> Result<()> {
    let found = retrieval::retrieval(unit(train), &train.labels, unit(val), &val.labels)?;
    for (k, share) in retrieval::RECALL_AT.iter().zip(found.recall_at) {
        measured.add(format!("recall_at_{k}"), share);
    }
    measured.add("r_precision", found.r_precision);
    measured.add("map_at_r", found.map_at_r);
    measured.add("mean_reciprocal_rank", found.mean_reciprocal_rank);
    Ok(())
}

/// All pairs of validation images.
pub(super) fn verification(measured: &mut Measured, val: &Embeddings) -> Result<()> {
    let found = verification::verification(unit(val), &val.labels)?;
    measured.add("verification_auc", found.auc);
    measured.add("equal_error_rate", found.eer);
    for (far, tar) in FAR.iter().zip(found.tar_at_far) {
        if let Some(tar) = tar {
            measured.add(format!("tar_at_far_{far:e}"), tar);
        }
    }
    measured.add("intra_class_angle_degrees", found.intra_class.mean_degrees);
    measured.add("inter_class_angle_degrees", found.inter_class.mean_degrees);
    measured.shapes.verification = Some(found);
    Ok(())
}

/// As many clusters as the validation images have classes.
pub(super) fn clustering(measured: &mut Measured, val: &Embeddings, seed: u64) -> Result<()> {
    let classes = val.labels.iter().collect::<BTreeSet<_>>().len();
    let found = clustering::kmeans(unit(val), classes, seed)?;
    measured.add("kmeans_nmi", clustering::normalized_mutual_information(&val.labels, &found.assignments)?);
    measured.add("kmeans_ami", clustering::adjusted_mutual_information(&val.labels, &found.assignments)?);
    measured.add("silhouette", clustering::silhouette(unit(val), &val.labels)?.mean);
    Ok(())
}

pub(super) fn geometry(measured: &mut Measured, Splits { train, val }: &Splits) -> Result<()> {
    let nearest = geometry::nearest_center_predictions(unit(train), &train.labels, unit(val))?;
    measured.add("nearest_center_accuracy", accuracy::accuracy(&nearest, &val.labels)?);
    let centers = geometry::center_angles(unit(val), &val.labels)?;
    let smallest = centers.degrees.indexed_iter().filter(|((i, j), _)| i != j).map(|(_, &angle)| angle);
    measured.add("smallest_center_angle_degrees", smallest.fold(180.0, f64::min));
    measured.shapes.centers = Some(centers);
    measured.add("alignment", geometry::alignment(unit(val), &val.labels)?);
    measured.add("uniformity", geometry::uniformity(unit(val))?);
    let collapse = geometry::neural_collapse(unit(train), &train.labels)?;
    measured.add("nc1_within_over_between", collapse.within_over_between);
    measured.add("nc2_equinorm", collapse.equinorm);
    measured.add("nc2_equiangularity", collapse.equiangularity);
    measured.add("nc2_maximal_angle", collapse.maximal_angle);
    Ok(())
}

/// Fitted on the training images with their true labels, scored on the validation images.
pub(super) fn probe(measured: &mut Measured, Splits { train, val }: &Splits) -> Result<()> {
    let score = LinearProbe::fit(unit(train), &train.labels)?.evaluate(unit(val), &val.labels)?;
    measured.add("linear_probe_accuracy", score.accuracy);
    measured.add("linear_probe_log_loss", score.log_loss);
    Ok(())
}

/// Probabilities are the softmax of the scores times the head's effective scale.
pub(super) fn calibration(measured: &mut Measured, val: &Embeddings) -> Result<()> {
    let found = calibration::calibration(scores(val), &val.labels, f64::from(val.effective_scale))?;
    measured.add("calibration_error", found.ece);
    measured.add("negative_log_likelihood", found.nll);
    measured.add("brier_score", found.brier);
    measured.shapes.calibration = Some(found);
    Ok(())
}
