//! Heads with several weights a class: how the training images spread over them, and whether those far from the dominant one have
//! wrong labels.
//!
//! The rule is that of Deng et al., "Sub-center ArcFace", ECCV 2020, section 3.4: of each class, by the labels trained on, the
//! sub-centre that is nearest to most of its images is dominant, and an image more than 75 degrees away from it is taken for an
//! outlier. Where the wrong labels are known, precision and recall say how good the rule is, and the precision among as many of the
//! farthest images as there are wrong labels says it without the 75 degrees.

use super::{Family, Findings, Result, Splits, Subject, mean, rows};
use crate::measured::{Outlier, SubCenterShapes};
use faceoff_analysis::class_weights;
use ndarray::{Array3, Axis};

rows! { METRICS in "Sub-centres":
    DOMINANT_SHARE "dominant_center_share" "At the dominant sub-centre" Percent Neither
        "Share of the training images of a class whose nearest weight of the class is that of most of them, averaged over the classes; heads with several weights a class." "ECCV 2020";
    CENTERS_IN_USE "sub_centers_in_use" "Sub-centres in use" Count Neither
        "Exponential of the entropy of the shares of a class's training images at its weights, averaged over the classes: about how many are in use." "entropy";
    OUTLIERS "outlier_share" "Outliers" Percent Neither
        "Share of the training images more than 75 degrees from the dominant weight of the class that they were trained as." "ECCV 2020";
    OUTLIER_PRECISION "outlier_precision" "Outliers, precision" Percent Higher
        "Share of the outliers that had a wrong label in training; experiments with known label noise." "count";
    OUTLIER_RECALL "outlier_recall" "Outliers, recall" Percent Higher
        "Share of the images with a wrong label that are outliers; experiments with known label noise." "count";
    FARTHEST_PRECISION "farthest_precision" "Farthest images, precision" Percent Higher
        "Share of wrong labels among the images farthest from their dominant weight, as many as there are wrong labels; what chance gives is the share of wrong labels." "count";
}

/// Spread over sub-centres, and outliers; nothing for a head with one weight a class.
pub const FAMILY: Family =
    Family { name: "sub-centres", version: 2, metrics: METRICS, headline: |_| Vec::new(), measure };

/// An image farther than this from the dominant weight of its class is an outlier.
const OUTLIER_DEGREES: f64 = 75.0;
/// So many of the farthest images are listed.
const LISTED: usize = 50;

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let Some(Splits { train, weights: Some(weights), .. }) = subject.classifier else { return Ok(()) };
    let (centers, classes, dim) = weights.dim();
    if centers < 2 {
        return Ok(());
    }
    let trained = &train.labels_trained;
    let nearest = class_weights::angles(train.unit(), trained, weights.view())?;
    let mut counts = vec![vec![0_u64; centers]; classes];
    nearest.center.iter().zip(trained).for_each(|(&center, &label)| counts[label as usize][center] += 1);

    let used = counts.iter().filter(|of_class| of_class.iter().any(|&images| images > 0));
    let (mut shares, mut in_use) = (Vec::new(), Vec::new());
    for of_class in used {
        let total = of_class.iter().sum::<u64>() as f64;
        let each = || of_class.iter().filter(|&&images| images > 0).map(|&images| images as f64 / total);
        shares.push(each().fold(0.0, f64::max));
        in_use.push((-each().map(|share| share * share.ln()).sum::<f64>()).exp());
    }
    found.add(DOMINANT_SHARE.id(), mean(shares.into_iter()));
    found.add(CENTERS_IN_USE.id(), mean(in_use.into_iter()));

    let mut dominant = Array3::<f32>::zeros((1, classes, dim));
    for (class, of_class) in counts.iter().enumerate() {
        // The first of equals, from behind.
        let most = (0..centers).rev().max_by_key(|&center| of_class[center]).expect("there are centres");
        dominant.index_axis_mut(Axis(0), 0).row_mut(class).assign(&weights.index_axis(Axis(0), most).row(class));
    }
    let angles = class_weights::angles(train.unit(), trained, dominant.view())?.own;
    let wrong: Vec<bool> = trained.iter().zip(&train.labels).map(|(trained, label)| trained != label).collect();
    let outlier = |image: &usize| angles[*image] > OUTLIER_DEGREES;
    let images = || 0..angles.len();
    let outliers = images().filter(outlier).count();
    found.add(OUTLIERS.id(), outliers as f64 / angles.len() as f64);
    if 2 * outliers > angles.len() {
        let share = 100.0 * outliers as f64 / angles.len() as f64;
        found.notes.push(format!(
            "{share:.0} % of its training images are more than {OUTLIER_DEGREES} degrees from their dominant weight, so the rule for \
             outliers tells nothing apart; the order of the farthest images still does."
        ));
    }
    let mut farthest: Vec<usize> = images().collect();
    farthest.sort_by(|&a, &b| angles[b].total_cmp(&angles[a]));
    let noise = wrong.iter().filter(|&&wrong| wrong).count();
    if noise > 0 {
        let hits = images().filter(outlier).filter(|&image| wrong[image]).count() as f64;
        if outliers > 0 {
            found.add(OUTLIER_PRECISION.id(), hits / outliers as f64);
        }
        found.add(OUTLIER_RECALL.id(), hits / noise as f64);
        let hits = farthest[..noise].iter().filter(|&&image| wrong[image]).count();
        found.add(FARTHEST_PRECISION.id(), hits as f64 / noise as f64);
    }
    let listed = farthest.into_iter().take(LISTED).map(|image| Outlier {
        id: train.ids[image].clone(),
        trained: trained[image],
        label: train.labels[image],
        degrees: angles[image],
    });
    found.shapes.sub_centers = Some(SubCenterShapes { counts, farthest: listed.collect() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::settings_of_quick;
    use super::*;
    use faceoff_runs::{Embeddings, HeadConfig};

    fn at(degrees: &[f32]) -> Vec<f32> {
        degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]).collect()
    }

    /// Images at these degrees with their true labels and those trained on; two classes with two weights each, at 0 and 60, and at
    /// 180 and 240 degrees.
    fn found(images: &[(f32, u32, u32)]) -> Findings {
        let split = Embeddings {
            ids: images.iter().map(|image| format!("{} degrees", image.0)).collect(),
            labels: images.iter().map(|image| image.1).collect(),
            labels_trained: images.iter().map(|image| image.2).collect(),
            dim: 2,
            classes: 2,
            unit: at(&images.iter().map(|image| image.0).collect::<Vec<_>>()),
            norms: vec![1.0; images.len()],
            scores: vec![0.0; 2 * images.len()],
            logits: None,
            predictions_labels_given: vec![0; images.len()],
            effective_scale: 1.0,
            class_vectors: None,
        };
        let weights = Array3::from_shape_vec((2, 2, 2), at(&[0.0, 180.0, 60.0, 240.0])).unwrap();
        let head = HeadConfig::new("SubCenterArcFace");
        let splits = Splits {
            train: split.clone(),
            val: split,
            head,
            weights: Some(weights),
            scored_by_means: false,
            held_out: false,
            seen: None,
        };
        let mut found = Findings::default();
        measure(&splits.subject(2, true, 0, &settings_of_quick()), &mut found).unwrap();
        found
    }

    #[test]
    fn outliers_lie_far_from_the_dominant_center_of_the_class_trained_on() {
        // Class 0: three images near 0 and one near 60 degrees, and one of class 1 by mistake. Class 1: all near 180.
        let images = [
            (1.0, 0, 0),
            (2.0, 0, 0),
            (3.0, 0, 0),
            (70.0, 0, 0),
            (190.0, 1, 0),
            (181.0, 1, 1),
            (182.0, 1, 1),
            (100.0, 1, 1),
        ];
        let found = found(&images);
        let close = |metric: &'static crate::Metric, expected: f64| {
            let value = found.value(metric.id()).unwrap();
            assert!((value - expected).abs() < 1e-9, "{}: {value} is not {expected}", metric.id);
        };
        // 190 degrees is nearer to 60 (130 away) than to 0 (170 away).
        let shapes = found.shapes.sub_centers.as_ref().unwrap();
        assert_eq!(shapes.counts, [vec![3, 2], vec![3, 0]]);
        close(&DOMINANT_SHARE, (0.6 + 1.0) / 2.0);
        let entropy = -0.6 * 0.6_f64.ln() - 0.4 * 0.4_f64.ln();
        close(&CENTERS_IN_USE, (entropy.exp() + 1.0) / 2.0);
        // At 170 and 80 degrees; the first is the mistake, and the farthest of all.
        close(&OUTLIERS, 2.0 / 8.0);
        close(&OUTLIER_PRECISION, 0.5);
        close(&OUTLIER_RECALL, 1.0);
        close(&FARTHEST_PRECISION, 1.0);
        let Outlier { id, trained, label, degrees } = &shapes.farthest[0];
        assert_eq!((id.as_str(), *trained, *label), ("190 degrees", 0, 1));
        assert!((degrees - 170.0).abs() < 1e-3);
    }

    #[test]
    fn where_most_images_are_outliers_the_rule_is_said_to_tell_nothing() {
        let found = found(&[(150.0, 0, 0), (330.0, 1, 1)]);
        assert_eq!(found.value(OUTLIERS.id()), Some(1.0));
        assert!(found.notes[0].starts_with("100 % of its training images"), "{:?}", found.notes);
    }

    #[test]
    fn without_wrong_labels_nothing_is_said_of_precision() {
        let found = found(&[(1.0, 0, 0), (181.0, 1, 1)]);
        assert_eq!(found.value(OUTLIERS.id()), Some(0.0));
        assert!(found.notes.is_empty());
        assert!(found.value(OUTLIER_PRECISION.id()).is_none() && found.value(FARTHEST_PRECISION.id()).is_none());
    }
}
