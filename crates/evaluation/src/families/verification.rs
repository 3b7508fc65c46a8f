//! Do two validation images show the same class, and does one threshold of similarity serve all classes? Over all pairs.

use super::{Family, Findings, Headline, Result, Subject, rows};
use crate::measured::PairCurves;
use faceoff_analysis::open_set;
use faceoff_analysis::verification::{self, FAR};

rows! { METRICS in "Verification":
    VERIFICATION_AUC "verification_auc" "ROC AUC" Number Higher
        "Chance that a pair of validation images of one class is more similar than a pair of two classes." "Hanley and McNeil 1982";
    EQUAL_ERROR_RATE "equal_error_rate" "Equal error rate" Percent Lower
        "Error at the threshold of similarity at which as many pairs of two classes are accepted as pairs of one class are refused." "ISO/IEC 19795-1";
    TAR_AT_FAR "tar_at_far_1e-#" "TAR at FAR 1e-#" Percent Higher
        "Share of the pairs of one class that are accepted at the threshold of similarity that accepts at most a share 1e-# of the pairs of two classes."
        "ISO/IEC 19795-1";
    INTRA_CLASS_ANGLE "intra_class_angle_degrees" "Angle within classes" Degrees Lower
        "Mean angle between the embeddings of two validation images of one class." "mean";
    INTRA_CLASS_ANGLE_SD "intra_class_angle_sd_degrees" "Angle within classes, sd" Degrees Neither
        "Standard deviation of the angle between the embeddings of two validation images of one class." "mean";
    INTER_CLASS_ANGLE "inter_class_angle_degrees" "Angle between classes" Degrees Higher
        "Mean angle between the embeddings of two validation images of two classes." "mean";
    INTER_CLASS_ANGLE_SD "inter_class_angle_sd_degrees" "Angle between classes, sd" Degrees Neither
        "Standard deviation of the angle between the embeddings of two validation images of two classes." "mean";
    OPIS "opis" "OPIS" Number Lower
        "Operating-point-inconsistency score: mean over classes and thresholds of the squared distance of a class's utility (harmonic mean of the share of its pairs accepted and of its pairs with other classes refused) from the mean over classes, for thresholds of similarity from FAR 1e-1 to 1e-2 over all pairs of validation images; 0 where one threshold serves all classes alike."
        "arXiv:2307.04047";
}

/// All pairs of validation images.
pub const FAMILY: Family = Family {
    name: "verification",
    version: 3,
    metrics: METRICS,
    headline: |_| vec![(VERIFICATION_AUC.id(), Headline::ResultIfUnseen)],
    measure,
};

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let measured = verification::verification(subject.queries.unit, subject.queries.labels)?;
    found.add(VERIFICATION_AUC.id(), measured.auc);
    found.add(EQUAL_ERROR_RATE.id(), measured.eer);
    for (far, tar) in FAR.iter().zip(measured.tar_at_far) {
        if let Some(tar) = tar {
            found.add(TAR_AT_FAR.with(-far.log10().round() as usize), tar);
        }
    }
    let (intra, inter) = (&measured.intra_class, &measured.inter_class);
    found.add(INTRA_CLASS_ANGLE.id(), intra.mean_degrees);
    found.add(INTRA_CLASS_ANGLE_SD.id(), intra.sd_degrees);
    found.add(INTER_CLASS_ANGLE.id(), inter.mean_degrees);
    found.add(INTER_CLASS_ANGLE_SD.id(), inter.sd_degrees);
    match open_set::threshold_inconsistency(subject.queries.unit, subject.queries.labels, &measured) {
        Ok(inconsistency) => found.add(OPIS.id(), inconsistency),
        Err(error) => found.notes.push(format!("no OPIS: {error}.")),
    }
    found.shapes.verification = Some(PairCurves {
        roc: measured.roc,
        intra_class: measured.intra_class.histogram,
        inter_class: measured.inter_class.histogram,
    });
    Ok(())
}
