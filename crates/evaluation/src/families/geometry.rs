//! How classes lie on the sphere. Neural collapse is that of the index, or of the evaluated points where there is none.

use super::{Family, Findings, Result, Subject, at, matrices_are_kept, rows};
use crate::measured::Points;
use faceoff_analysis::{accuracy, geometry};

rows! { METRICS in "Geometry":
    NEAREST_CENTER_ACCURACY "nearest_center_accuracy" "Nearest-centre accuracy" Percent Higher
        "Share of the validation images with a classmate in training whose nearest class centre (mean direction) of the training embeddings is that of their class." "count";
    SMALLEST_CENTER_ANGLE "smallest_center_angle_degrees" "Smallest angle between centres" Degrees Higher
        "Angle between the two nearest class centres of the validation embeddings." "minimum";
    ALIGNMENT "alignment" "Alignment" Number Lower
        "Mean squared distance between validation embeddings of one class, 0 to 4, lower is tighter." "arXiv:2005.10242";
    UNIFORMITY "uniformity" "Uniformity" Number Lower
        "Logarithm of the mean of exp(-2 squared distance) over all pairs of validation embeddings, lower is more evenly spread." "arXiv:2005.10242";
    NC1 "nc1_within_over_between" "NC1" Number Neither
        "Neural collapse of the training embeddings: variability within classes over that between class means, 0 at full collapse." "arXiv:2008.08186";
    NC2_EQUINORM "nc2_equinorm" "NC2, equal norms" Number Neither
        "Relative scatter of the lengths of the centred class means, 0 at full collapse." "arXiv:2008.08186";
    NC2_EQUIANGULARITY "nc2_equiangularity" "NC2, equal angles" Number Neither
        "Scatter of the cosines between the centred class means, 0 at full collapse." "arXiv:2008.08186";
    NC2_MAXIMAL_ANGLE "nc2_maximal_angle" "NC2, largest angles" Number Neither
        "Mean distance of those cosines from -1 / (C - 1), that of a regular simplex, 0 at full collapse." "arXiv:2008.08186";
}

rows! { COLLAPSE_METRICS in "Geometry":
    NC3_SELF_DUALITY "nc3_self_duality" "NC3, self-duality" Number Neither
        "Distance between the head's class vectors and the centred class means of the training embeddings, each set scaled to Frobenius norm 1: 0 at full collapse, at most 2; not defined for a head with none or several vectors a class."
        "arXiv:2008.08186";
    NC4_DISAGREEMENT "nc4_nearest_mean_disagreement" "NC4, disagreement" Percent Neither
        "Share of the training images whose highest score names another class than the nearest class mean of their embeddings does, 0 at full collapse."
        "arXiv:2008.08186";
}

/// Centres, alignment, uniformity and neural collapse.
pub const FAMILY: Family = Family { name: "geometry", version: 2, metrics: METRICS, headline: |_| Vec::new(), measure };

/// Whether the classifier's vectors are the class means of the training images, and whether it says what the nearest of
/// these means says.
pub const CLASSIFIER_COLLAPSE: Family = Family {
    name: "neural collapse of the classifier",
    version: 2,
    metrics: COLLAPSE_METRICS,
    headline: |_| Vec::new(),
    measure: measure_collapse,
};

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let val = subject.queries;
    if let Some(train) = subject.index {
        let nearest = geometry::nearest_center_predictions(train.unit, train.labels, val.unit)?;
        let counted = subject.with_classmate();
        if !counted.is_empty() {
            let (nearest, labels) = (at(&counted, &nearest), at(&counted, val.labels));
            found.add(NEAREST_CENTER_ACCURACY.id(), accuracy::accuracy(&nearest, &labels)?);
        }
    }
    found.add(SMALLEST_CENTER_ANGLE.id(), geometry::smallest_center_angle(val.unit, val.labels)?);
    if matrices_are_kept(subject.classes, "angles between class centres", found) {
        found.shapes.centers = Some(geometry::center_angles(val.unit, val.labels)?);
    }
    found.add(ALIGNMENT.id(), geometry::alignment(val.unit, val.labels)?);
    found.add(UNIFORMITY.id(), geometry::uniformity(val.unit)?);
    let train = subject.index.unwrap_or(val);
    let collapse = geometry::neural_collapse(train.unit, train.labels)?;
    found.add(NC1.id(), collapse.within_over_between);
    found.add(NC2_EQUINORM.id(), collapse.equinorm);
    found.add(NC2_EQUIANGULARITY.id(), collapse.equiangularity);
    found.add(NC2_MAXIMAL_ANGLE.id(), collapse.maximal_angle);
    Ok(())
}

fn measure_collapse(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let Some(splits) = subject.classifier else { return Ok(()) };
    let train = &splits.train;
    let Points { unit, labels } = Points::of(train);
    if let Some(vectors) = train.class_vectors() {
        found.add(NC3_SELF_DUALITY.id(), geometry::self_duality(vectors, unit, labels)?);
    }
    // A loss of pairs needs none.
    if !splits.scored_by_means && train.scores.is_empty() {
        found.notes.push(
            "no disagreement with the nearest mean (NC4): the scores of the training images were too many to be kept."
                .into(),
        );
        return Ok(());
    }
    let predicted = splits.predictions(train)?;
    found.add(NC4_DISAGREEMENT.id(), geometry::nearest_mean_disagreement(unit, labels, &predicted)?);
    Ok(())
}
