//! The health of the head: where the validation embeddings lie to the class weights, and what the margin does to the loss.
//!
//! Angles are to the weights in `head.safetensors`, of which a class may have several; logits are those of the loss, true labels
//! given. What a head does not have, or what its run did not store, is left out.

use super::{Family, Findings, Result, Splits, Subject, mean, rows};
use crate::measured::HealthShapes;
use faceoff_analysis::class_weights;
use faceoff_runs::{Embeddings, MARGIN_ACTS_FROM, Margin};
use ndarray::ArrayView2;
use std::f64::consts::PI;

rows! { METRICS in "Health of the head":
    OWN_ANGLE "own_angle_degrees" "Angle to the own class weight" Degrees Neither
        "Median angle between a validation embedding and the weight of its class, of several weights the nearest." "median";
    OTHER_ANGLE "other_angle_degrees" "Angle to the nearest other" Degrees Neither
        "Median angle between a validation embedding and the nearest weight of any other class." "median";
    BEYOND "beyond_pi_minus_m" "Beyond pi - m" Percent Neither
        "Share of the validation images whose angle to their own class weight is above pi - m, where an angle of m cannot be added; heads with a margin of radians." "count";
    MARGIN_ACTIVE "margin_active" "Margin active" Percent Higher
        "Share of the validation images whose margin changes the logit of their label; heads with a margin." "count";
    MARGIN_LOSS_SHARE "margin_loss_share" "Share of the loss that is margin" Percent Neither
        "Cross-entropy of the training logits less that of scale times scores, over the former, on the validation images, true labels given; heads with a margin." "ratio";
    LABEL_PROBABILITY "label_probability" "Probability of the label" Percent Neither
        "Mean softmax probability of the true class under the training logits of the validation images, true labels given." "mean";
    UNLEARNT_LOSS "unlearnt_loss_ratio" "Loss over that of equal cosines" Number Lower
        "Cross-entropy of the training logits over what scale and margin alone explain, the loss if an image had the same cosine with every class; on the training images, 1 where nothing was learnt." "ratio";
    MEAN_DIRECTION "mean_direction_length" "Length of the mean direction" Number Neither
        "Length of the mean of the unit validation embeddings: 1 where all point one way, 0 where they cancel out." "Mardia and Jupp 2000";
    WEIGHT_COSINE "mean_weight_cosine" "Mean embedding to mean weight" Number Neither
        "Cosine between the mean of the unit validation embeddings and the mean of the unit class weights." "cosine";
    EMBEDDING_NORM "embedding_norm" "Length of the embeddings" Number Neither
        "Mean length of the validation embeddings before they are brought to unit length." "mean";
    CLASS_WEIGHT_NORM "class_weight_norm" "Length of the class weights" Number Neither
        "Mean length of the class weights." "mean";
    NEVER_PREDICTED "classes_never_predicted" "Classes never predicted" Count Lower
        "Number of classes with validation images that are never the highest score of one." "count";
}

/// Angles, margins, losses and lengths.
pub const FAMILY: Family =
    Family { name: "health of the head", version: 2, metrics: METRICS, headline: |_| Vec::new(), measure };

/// Bins of the angle: whole degrees.
const DEGREES: usize = 180;

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let Some(splits) = subject.classifier else { return Ok(()) };
    let Splits { train, val, head, weights, .. } = splits;
    let mut shapes = HealthShapes::default();
    let mean_direction = class_weights::mean_direction(val.unit())?;
    let length = |mean: &ndarray::Array1<f64>| mean.dot(mean).sqrt();
    let angles =
        weights.as_ref().map(|weights| class_weights::angles(val.unit(), &val.labels, weights.view())).transpose()?;
    if let (Some(angles), Some(weights)) = (&angles, weights) {
        found.add(OWN_ANGLE.id(), class_weights::median(&angles.own));
        found.add(OTHER_ANGLE.id(), class_weights::median(&angles.other));
        if let Some(Margin::Radians(m)) = head.margin() {
            let limit = (PI - m).to_degrees();
            found.add(BEYOND.id(), share(angles.own.iter().map(|&angle| angle > limit)));
            shapes.limit_degrees = Some(limit);
        }
        shapes.own_angles = vec![0; DEGREES];
        angles.own.iter().for_each(|&angle| shapes.own_angles[(angle as usize).min(DEGREES - 1)] += 1);
        let (centers, classes, dim) = weights.dim();
        let rows = weights.to_shape((centers * classes, dim)).expect("the same number of values");
        let mean_weight = class_weights::mean_direction(rows.view())?;
        let lengths = length(&mean_direction) * length(&mean_weight);
        found.add(WEIGHT_COSINE.id(), mean_direction.dot(&mean_weight) / lengths.max(f64::MIN_POSITIVE));
        let norm = |row: ndarray::ArrayView1<'_, f32>| row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        found.add(CLASS_WEIGHT_NORM.id(), mean(rows.rows().into_iter().map(norm)));
    }
    found.add(MEAN_DIRECTION.id(), length(&mean_direction));
    found.add(EMBEDDING_NORM.id(), mean(val.norms.iter().map(|&norm| f64::from(norm))));
    let predicted = splits.predictions(val)?;
    let never = (0..subject.classes as u32).filter(|class| val.labels.contains(class) && !predicted.contains(class));
    found.add(NEVER_PREDICTED.id(), never.count() as f64);

    match val.logits() {
        Some(of_val) => {
            let costs = class_weights::cross_entropies(of_val, &val.labels, 1.0)?;
            let probabilities: Vec<f64> = costs.iter().map(|cost| (-cost).exp()).collect();
            found.add(LABEL_PROBABILITY.id(), mean(probabilities.iter().copied()));
            if head.has_margin() {
                let scale = f64::from(val.effective_scale);
                let shifts = class_weights::margin_shifts(of_val, val.scores(), &val.labels, scale)?;
                found.add(MARGIN_ACTIVE.id(), share(shifts.iter().map(|shift| shift.abs() > MARGIN_ACTS_FROM * scale)));
                let without = mean(class_weights::cross_entropies(val.scores(), &val.labels, scale)?.into_iter());
                let with = mean(costs.iter().copied());
                found.add(MARGIN_LOSS_SHARE.id(), if with > 0.0 { (with - without) / with } else { 0.0 });
            }
            // Of very many training images and classes they are not kept.
            if let Some(of_train) = train.logits() {
                found.add(UNLEARNT_LOSS.id(), unlearnt(train, of_train)?);
            }
            if let Some(angles) = &angles {
                shapes.probabilities = by_degree(&angles.own, &probabilities);
            }
        }
        _ if head.has_margin() => {
            let why = "it holds no logits of its loss; losses of proxies and pairs have none, and a run of an earlier version has to be trained again for them";
            found.notes.push(format!("no figures of the margin: {why}."));
        }
        _ => {}
    }
    found.shapes.health = Some(shapes);
    Ok(())
}

/// The loss of the training images over that of equal cosines.
fn unlearnt(train: &Embeddings, logits: ArrayView2<'_, f32>) -> Result<f64> {
    let loss = mean(class_weights::cross_entropies(logits, &train.labels, 1.0)?.into_iter());
    let scale = f64::from(train.effective_scale);
    let shifts = class_weights::margin_shifts(logits, train.scores(), &train.labels, scale)?;
    Ok(loss / class_weights::loss_of_equal_cosines(&shifts, logits.ncols()))
}

/// Mean probability at each whole degree that holds images: (degree, images, mean).
fn by_degree(degrees: &[f64], probabilities: &[f64]) -> Vec<(usize, u64, f64)> {
    let mut sums = vec![(0, 0.0); DEGREES];
    for (&angle, probability) in degrees.iter().zip(probabilities) {
        let (count, sum) = &mut sums[(angle as usize).min(DEGREES - 1)];
        *count += 1;
        *sum += probability;
    }
    let bins = sums.into_iter().enumerate().filter(|(_, (count, _))| *count > 0);
    bins.map(|(degree, (count, sum))| (degree, count, sum / count as f64)).collect()
}

fn share(hits: impl ExactSizeIterator<Item = bool>) -> f64 {
    mean(hits.map(f64::from))
}

#[cfg(test)]
mod tests {
    use super::super::settings_of_quick;
    use super::*;
    use crate::health::{RunHealth, Verdict, judge};
    use faceoff_runs::HeadConfig;
    use ndarray::Array3;

    const CLASSES: usize = 3;
    const SCALE: f32 = 8.0;
    const M: f32 = 0.5;

    /// Embeddings of three classes at these degrees; class weights of length 2 at 0, 120 and 240. `logit` is the training logit of a
    /// label from its angle in radians.
    fn split(points: &[(f32, u32)], logit: fn(f32) -> f32) -> Embeddings {
        let angle = |degrees: f32, class: usize| {
            let apart = (degrees - 120.0 * class as f32).rem_euclid(360.0);
            apart.min(360.0 - apart).to_radians()
        };
        let each = || points.iter().flat_map(|&point| (0..CLASSES).map(move |class| (point, class)));
        let score = |((degrees, _), class): ((f32, u32), usize)| angle(degrees, class).cos();
        let logit = |((degrees, label), class): ((f32, u32), usize)| match class == label as usize {
            true => logit(angle(degrees, class)),
            false => SCALE * angle(degrees, class).cos(),
        };
        Embeddings {
            ids: (0..points.len()).map(|image| image.to_string()).collect(),
            labels: points.iter().map(|point| point.1).collect(),
            labels_trained: points.iter().map(|point| point.1).collect(),
            dim: 2,
            classes: CLASSES,
            unit: points.iter().flat_map(|(d, _)| [d.to_radians().cos(), d.to_radians().sin()]).collect(),
            norms: vec![3.0; points.len()],
            scores: each().map(score).collect(),
            logits: Some(each().map(logit).collect()),
            predictions_labels_given: vec![0; points.len()],
            effective_scale: SCALE,
            class_vectors: None,
        }
    }

    fn found(head: &HeadConfig, points: &[(f32, u32)], logit: fn(f32) -> f32) -> (Findings, Vec<Verdict>) {
        let weights = [0.0_f32, 120.0, 240.0].map(|d| [2.0 * d.to_radians().cos(), 2.0 * d.to_radians().sin()]);
        let weights = Array3::from_shape_vec((1, CLASSES, 2), weights.concat()).unwrap();
        let (train, val) = (split(points, logit), split(points, logit));
        let splits = Splits {
            train,
            val,
            head: head.clone(),
            weights: Some(weights),
            scored_by_means: false,
            held_out: false,
            seen: None,
        };
        let settings = settings_of_quick();
        let mut found = Findings::default();
        measure(&splits.subject(CLASSES, true, 0, &settings), &mut found).unwrap();
        let health = RunHealth::of("made up", 0, &found, &[], &[]);
        let verdicts = judge(&[health]).iter().map(|finding| finding.verdict).collect();
        (found, verdicts)
    }

    fn arcface(beyond_pi: &str) -> HeadConfig {
        HeadConfig::new("ArcFace").with("margin_radians", f64::from(M)).with("beyond_pi", beyond_pi)
    }

    fn catalyst(angle: f32) -> f32 {
        SCALE * if angle + M <= std::f32::consts::PI { (angle + M).cos() } else { angle.cos() }
    }

    fn linear(angle: f32) -> f32 {
        SCALE * if angle + M <= std::f32::consts::PI { (angle + M).cos() } else { angle.cos() - M * M.sin() }
    }

    /// Two of three images beyond pi - m, 151.4 degrees from their class weight.
    const OPPOSITE: [(f32, u32); 3] = [(170.0, 0), (280.0, 1), (310.0, 2)];

    #[test]
    fn a_margin_is_inactive_beyond_pi_minus_m_under_catalysts_rule_alone() {
        let (of_catalyst, verdicts) = found(&arcface("catalyst"), &OPPOSITE, catalyst);
        let close = |found: &Findings, metric: &'static crate::Metric, expected: f64| {
            let value = found.value(metric.id()).unwrap();
            assert!((value - expected).abs() < 1e-4, "{}: {value} is not {expected}", metric.id);
        };
        assert_eq!(verdicts, [Verdict::MarginInactive]);
        close(&of_catalyst, &BEYOND, 2.0 / 3.0);
        close(&of_catalyst, &MARGIN_ACTIVE, 1.0 / 3.0);
        close(&of_catalyst, &OWN_ANGLE, 160.0);
        close(&of_catalyst, &CLASS_WEIGHT_NORM, 2.0);
        close(&of_catalyst, &EMBEDDING_NORM, 3.0);
        // Predicted are the classes at 120, 240 and 0 degrees: each once, and wrongly.
        close(&of_catalyst, &NEVER_PREDICTED, 0.0);
        let shapes = of_catalyst.shapes.health.as_ref().unwrap();
        assert_eq!((shapes.own_angles.iter().sum::<u64>(), shapes.probabilities.len()), (3, 3));
        assert!((shapes.limit_degrees.unwrap() - 151.352).abs() < 1e-3);

        let (of_linear, verdicts) = found(&arcface("linear"), &OPPOSITE, linear);
        assert_eq!(verdicts, []);
        close(&of_linear, &BEYOND, 2.0 / 3.0);
        close(&of_linear, &MARGIN_ACTIVE, 1.0);
        let share = |found: &Findings| found.value(MARGIN_LOSS_SHARE.id()).unwrap();
        assert!(share(&of_catalyst) > 0.0 && share(&of_linear) > share(&of_catalyst));

        // Nearer than pi - m, Catalyst's margin acts.
        let (near, verdicts) = found(&arcface("catalyst"), &[(10.0, 0), (130.0, 1), (300.0, 2)], catalyst);
        assert_eq!(verdicts, []);
        close(&near, &MARGIN_ACTIVE, 1.0);
    }

    #[test]
    fn embeddings_of_one_direction_are_a_cone() {
        let plain = |angle: f32| SCALE * angle.cos();
        let (cone, verdicts) = found(&HeadConfig::new("NormFace"), &[(58.0, 0), (60.0, 1), (62.0, 2)], plain);
        assert_eq!(verdicts, [Verdict::Collapsed]);
        assert!(cone.value(MARGIN_ACTIVE.id()).is_none() && cone.value(BEYOND.id()).is_none());
        let (_, verdicts) = found(&HeadConfig::new("NormFace"), &[(0.0, 0), (120.0, 1), (240.0, 2)], plain);
        assert_eq!(verdicts, []);
    }

    #[test]
    fn equal_cosines_leave_the_loss_that_scale_and_margin_explain() {
        let cosface = HeadConfig::new("CosFace").with("margin_cosine", 0.35);
        let with_margin = |angle: f32| SCALE * (angle.cos() - 0.35);
        // 60 degrees lies between the first two weights, 180 degrees from the third.
        let (even, _) = found(&cosface, &[(60.0, 0), (60.0, 1)], with_margin);
        let (apart, _) = found(&cosface, &[(0.0, 0), (120.0, 1)], with_margin);
        let ratio = |found: &Findings| found.value(UNLEARNT_LOSS.id()).unwrap();
        assert!(ratio(&even) > 0.8 && ratio(&even) < 1.0 && ratio(&apart) < 0.2, "{} {}", ratio(&even), ratio(&apart));
    }
}
