//! Open-set recognition: are images of classes that training never saw known for what they are?
//!
//! The unseen images are the validation images of held-out classes, the seen ones those of the classes trained on. Of external embeddings
//! that are compared with others, the unseen ones are those whose class the others lack.

use super::{Family, Findings, Headline, Result, Subject, at, rows};
use crate::measured::Points;
use crate::registry::Metric;
use faceoff_analysis::open_set::{self, OpenSet};
use faceoff_analysis::{Error, accuracy, geometry, neighbors};
use ndarray::{ArrayView2, Axis};

rows! { METRICS in "Open set":
    AUROC_NEIGHBOR "open_set_auroc_nearest_neighbor" "AUROC, nearest neighbour" Number Higher
        "Chance that a validation image of an unseen class is less similar to its nearest training image than one of a seen class is to its own." "arXiv:2306.09301";
    FPR_NEIGHBOR "open_set_fpr95_nearest_neighbor" "FPR at 95 % TPR, nearest neighbour" Percent Lower
        "Share of the seen validation images that are taken for unseen ones at the threshold of similarity to the nearest training image that finds 95 % of the unseen ones." "arXiv:2306.09301";
    OSCR_NEIGHBOR "oscr_nearest_neighbor" "OSCR, nearest neighbour" Number Higher
        "Area under the share of seen validation images that are accepted and have the class of their nearest training image, over the share of unseen ones that are accepted." "arXiv:1811.04110";
    AUROC_MEAN "open_set_auroc_class_mean" "AUROC, class mean" Number Higher
        "The same chance for similarity to the nearest class mean of the training embeddings." "arXiv:2306.09301";
    FPR_MEAN "open_set_fpr95_class_mean" "FPR at 95 % TPR, class mean" Percent Lower
        "The same share for similarity to the nearest class mean of the training embeddings." "arXiv:2306.09301";
    OSCR_MEAN "oscr_class_mean" "OSCR, class mean" Number Higher
        "The same area for the nearest class mean of the training embeddings." "arXiv:1811.04110";
    AUROC_SCORE "open_set_auroc_max_score" "AUROC, maximum score" Number Higher
        "The same chance for the head's highest score (maximum logit); heads without scores have none." "arXiv:1911.11132";
    FPR_SCORE "open_set_fpr95_max_score" "FPR at 95 % TPR, maximum score" Percent Lower
        "The same share for the head's highest score." "arXiv:1911.11132";
    OSCR_SCORE "oscr_max_score" "OSCR, maximum score" Number Higher
        "The same area for the class of the head's highest score." "arXiv:1811.04110";
    THRESHOLD "open_set_threshold" "Recommended threshold" Number Neither
        "Cosine with the nearest training image from which on an image should be taken for one of a seen class: on a random half of the validation images as large a share of the unseen ones is accepted as of the seen ones refused." "ISO/IEC 19795-1";
    FALSE_ACCEPT "open_set_false_accept" "False accept at the threshold" Percent Lower
        "Share of the unseen validation images of the other half that reach the recommended threshold." "count";
    FALSE_REJECT "open_set_false_reject" "False reject at the threshold" Percent Lower
        "Share of the seen validation images of the other half that do not." "count";
}

/// Seen and unseen classes by three scores, and a threshold.
pub const FAMILY: Family = Family {
    name: "open-set recognition",
    version: 2,
    metrics: METRICS,
    headline: |_| {
        let metrics = [AUROC_NEIGHBOR.id(), OSCR_NEIGHBOR.id()];
        metrics.map(|metric| (metric, Headline::ResultIfUnseen)).to_vec()
    },
    measure,
};

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    if let Some(splits) = subject.held_out {
        let Some([train, val]) = &splits.seen else {
            let rule = "the run stored no embeddings of the classes that it was trained on";
            return Err(Error::undefined("what is unseen", rule, "train it again with `benchmark --force`"));
        };
        let similarities = measure_points(Points::of(train), Points::of(val), splits.val.unit(), found)?;
        // A loss of pairs has none.
        if let Some((seen, unseen)) = splits.scores(val).zip(splits.scores(&splits.val)) {
            measure_scores(seen, &val.labels, unseen, found)?;
        }
        return recommend(&similarities, subject.seed, found);
    }
    let Some(index) = subject.index else { return Ok(()) };
    let seen = subject.with_classmate();
    let unseen: Vec<usize> =
        (0..subject.queries.labels.len()).filter(|image| seen.binary_search(image).is_err()).collect();
    if seen.is_empty() || unseen.is_empty() {
        return Ok(());
    }
    let select = |images: &[usize]| subject.queries.unit.select(Axis(0), images);
    let (unit, labels) = (select(&seen), at(&seen, subject.queries.labels));
    let seen = Points { unit: unit.view(), labels: &labels };
    let similarities = measure_points(index, seen, select(&unseen).view(), found)?;
    recommend(&similarities, subject.seed, found)
}

/// By nearest neighbour and class mean of `train`; the similarities of seen and of unseen images to the nearest neighbour.
fn measure_points(
    train: Points<'_>,
    seen: Points<'_>,
    unseen: ArrayView2<'_, f32>,
    found: &mut Findings,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let nearest = |queries: ArrayView2<'_, f32>| {
        let near = neighbors::nearest(train.unit, queries, 1)?;
        let class = near.indices.iter().map(|&image| train.labels[image as usize]);
        Ok(class.zip(near.similarities.iter().map(|&cosine| f64::from(cosine))).collect::<Vec<_>>())
    };
    let (of_seen, of_unseen) = (nearest(seen.unit)?, nearest(unseen)?);
    let metrics = [&AUROC_NEIGHBOR, &FPR_NEIGHBOR, &OSCR_NEIGHBOR];
    let similarities = add(metrics, of_seen, seen.labels, of_unseen, found)?;
    let center = |queries: ArrayView2<'_, f32>| geometry::nearest_centers(train.unit, train.labels, queries);
    let metrics = [&AUROC_MEAN, &FPR_MEAN, &OSCR_MEAN];
    add(metrics, center(seen.unit)?, seen.labels, center(unseen)?, found)?;
    Ok(similarities)
}

/// The threshold of similarity; too few images have none, so that it comes last.
fn recommend((seen, unseen): &(Vec<f64>, Vec<f64>), seed: u64, found: &mut Findings) -> Result<()> {
    let recommended = open_set::recommended_threshold(seen, unseen, seed)?;
    found.add(THRESHOLD.id(), recommended.threshold);
    found.add(FALSE_ACCEPT.id(), recommended.false_accept);
    found.add(FALSE_REJECT.id(), recommended.false_reject);
    Ok(())
}

/// By the head's highest score.
fn measure_scores(
    seen: ArrayView2<'_, f32>,
    labels: &[u32],
    unseen: ArrayView2<'_, f32>,
    found: &mut Findings,
) -> Result<()> {
    let highest = |scores: ArrayView2<'_, f32>| {
        let classes = accuracy::predictions(scores).into_iter();
        classes.zip(scores.rows()).map(|(class, row)| (class, f64::from(row[class as usize]))).collect()
    };
    let metrics = [&AUROC_SCORE, &FPR_SCORE, &OSCR_SCORE];
    add(metrics, highest(seen), labels, highest(unseen), found)?;
    Ok(())
}

/// Adds AUROC, FPR and OSCR of classes with their scores, of seen and of unseen images; the scores.
fn add(
    [auroc, fpr, oscr]: [&'static Metric; 3],
    seen: Vec<(u32, f64)>,
    labels: &[u32],
    unseen: Vec<(u32, f64)>,
    found: &mut Findings,
) -> Result<(Vec<f64>, Vec<f64>)> {
    let right = Vec::from_iter(seen.iter().zip(labels).map(|((class, _), label)| class == label));
    let scores = |images: Vec<(u32, f64)>| images.into_iter().map(|(_, score)| score).collect::<Vec<f64>>();
    let (seen, unseen) = (scores(seen), scores(unseen));
    let OpenSet { auroc: area, fpr_at_95_tpr, oscr: correct } = open_set::open_set(&seen, &right, &unseen)?;
    found.add(auroc.id(), area);
    found.add(fpr.id(), fpr_at_95_tpr);
    found.add(oscr.id(), correct);
    Ok((seen, unseen))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::settings_of_quick;
    use crate::measured::Splits;
    use faceoff_runs::{Embeddings, HeadConfig};

    /// Images of two classes at these angles, with scores for each.
    fn split(points: &[(f32, u32)], scores: &[[f32; 2]]) -> Embeddings {
        let labels = Vec::from_iter(points.iter().map(|&(_, label)| label));
        Embeddings {
            ids: points.iter().map(|(angle, _)| angle.to_string()).collect(),
            labels_trained: labels.clone(),
            labels,
            dim: 2,
            classes: 2,
            unit: points.iter().flat_map(|(angle, _)| [angle.cos(), angle.sin()]).collect(),
            norms: vec![1.0; points.len()],
            scores: scores.concat(),
            logits: None,
            predictions_labels_given: vec![0; points.len()],
            effective_scale: 1.0,
            class_vectors: None,
        }
    }

    fn splits(seen: bool, scored_by_means: bool) -> Splits {
        let train = split(&[(0.0, 0), (1.0, 1)], &[[1.0, 0.0]; 2]);
        // Distances to the nearest training image: 0.1, 0.3, 0.4; the last is nearer to the other class. By the scores two are right.
        let val = split(&[(0.1, 0), (0.7, 1), (0.6, 0)], &[[0.9, 0.0], [0.0, 0.5], [0.8, 0.0]]);
        // Distances 0.2 and 2.
        let unseen = split(&[(1.2, 0), (3.0, 1)], &[[0.7, 0.1], [0.0, 0.1]]);
        let head = HeadConfig::new("CosFace");
        let seen = seen.then_some([train.clone(), val]);
        Splits { train: unseen.clone(), val: unseen, head, weights: None, scored_by_means, held_out: true, seen }
    }

    fn found(splits: &Splits) -> Result<Findings> {
        let settings = settings_of_quick();
        let mut found = Findings::default();
        measure(&splits.subject(2, false, 0, &settings), &mut found)?;
        Ok(found)
    }

    #[test]
    fn seen_and_unseen_images_are_told_apart_by_three_scores() {
        let of_cosines = found(&splits(true, false)).unwrap();
        let is = |metric: &'static Metric, expected: f64| {
            let value = of_cosines.value(metric.id()).unwrap();
            assert!((value - expected).abs() < 1e-12, "{}: {value} is not {expected}", metric.id);
        };
        // Of six pairs, the unseen image at 0.2 scores above the seen ones at 0.3 and 0.4.
        is(&AUROC_NEIGHBOR, 4.0 / 6.0);
        // To find both unseen images, those two seen ones are refused too.
        is(&FPR_NEIGHBOR, 2.0 / 3.0);
        // Right are the images at 0.1 and 0.3: they score above two unseen images and one.
        is(&OSCR_NEIGHBOR, 3.0 / 6.0);
        // Class means are the training images themselves.
        is(&AUROC_MEAN, 4.0 / 6.0);
        is(&OSCR_MEAN, 3.0 / 6.0);
        // Scores 0.9, 0.5 and 0.8, all right, against 0.7 and 0.1.
        is(&AUROC_SCORE, 5.0 / 6.0);
        is(&FPR_SCORE, 1.0 / 3.0);
        is(&OSCR_SCORE, 5.0 / 6.0);
        assert!(of_cosines.value(THRESHOLD.id()).unwrap() < 1.0);
        let of_pairs = found(&splits(true, true)).unwrap();
        assert!(of_pairs.value(AUROC_NEIGHBOR.id()).is_some() && of_pairs.value(AUROC_SCORE.id()).is_none());
    }

    #[test]
    fn one_unseen_image_has_all_but_a_threshold() {
        let mut few = splits(true, false);
        few.val = split(&[(3.0, 1)], &[[0.0, 0.1]]);
        let (settings, mut found) = (settings_of_quick(), Findings::default());
        assert!(measure(&few.subject(2, false, 0, &settings), &mut found).is_err());
        assert_eq!((found.value(AUROC_NEIGHBOR.id()), found.value(AUROC_SCORE.id())), (Some(1.0), Some(1.0)));
        assert_eq!(found.value(THRESHOLD.id()), None);
    }

    #[test]
    fn a_run_without_embeddings_of_what_it_trained_on_says_so() {
        let error = found(&splits(false, false)).unwrap_err().to_string();
        assert!(error.contains("stored no embeddings of the classes that it was trained on"), "{error}");
    }

    #[test]
    fn external_embeddings_are_unseen_where_their_class_is() {
        let (index, queries) =
            (split(&[(0.0, 0), (1.0, 1)], &[[0.0; 2]; 2]), [(0.1_f32, 0), (0.9, 1), (2.5, 2), (3.0, 2)]);
        let queries = split(&queries, &[[0.0; 2]; 4]);
        let settings = settings_of_quick();
        let [index, points] = [&index, &queries].map(Points::of);
        let subject = |queries| Subject {
            index: Some(index),
            queries,
            classifier: None,
            held_out: None,
            classes: 3,
            seed: 0,
            settings: &settings,
        };
        let mut found = Findings::default();
        measure(&subject(points), &mut found).unwrap();
        assert_eq!((found.value(AUROC_NEIGHBOR.id()), found.value(OSCR_NEIGHBOR.id())), (Some(1.0), Some(1.0)));
        assert_eq!((found.value(FALSE_ACCEPT.id()), found.value(AUROC_SCORE.id())), (Some(0.0), None));
        // Nothing is unseen.
        let mut found = Findings::default();
        measure(&subject(index), &mut found).unwrap();
        assert!(found.values.is_empty());
    }
}
