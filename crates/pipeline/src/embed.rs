//! A trained model and a split to embeddings: the raw results of a run, from which every metric is made later.

use candle_core::{D, Device, Tensor};
use faceoff_data::Dataset;
use faceoff_runs::{Embeddings, SplitName};
use faceoff_training::{Error, Model, Result, inputs};
use rayon::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering};

/// Images of a split times classes of which scores and logits are kept: a gigabyte each.
pub(crate) const MOST_SCORES: usize = 1 << 28;

/// Whether a run keeps the scores and logits of so many images and classes.
pub fn keeps_scores(images: usize, classes: usize) -> bool {
    images.saturating_mul(classes) <= MOST_SCORES
}

/// Embeds a split without augmentation, in the data set's order.
///
/// Embeddings are brought to unit length; their lengths before that are kept. A head that scores no classes gets the scores
/// of a classifier by nearest class mean: cosines with the means of `train`, the embeddings of the training images, or of
/// this split itself where there are none yet, by the labels trained on; where [`MOST_SCORES`] are fewer it gets none. `progress` gets the
/// number of images done. Returns `None` where `stop` was raised.
///
/// # Errors
/// [`Error::NotFinite`], and those of images, encoder and head.
pub(crate) fn embed(
    model: &Model,
    images: &Dataset,
    split: SplitName,
    train: Option<&Embeddings>,
    batch_size: usize,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Embeddings>> {
    let items = images.items(split);
    let dim = model.encoder.dim();
    let all_scores = items.len() * images.classes();
    let kept = keeps_scores(items.len(), images.classes());
    let mut scored = false;
    let mut embeddings = Embeddings {
        ids: items.iter().map(|item| item.id.clone()).collect(),
        labels: items.iter().map(|item| item.label).collect(),
        labels_trained: items.iter().map(|item| item.label_trained).collect(),
        dim,
        classes: images.classes(),
        unit: Vec::with_capacity(items.len() * dim),
        norms: Vec::with_capacity(items.len()),
        scores: Vec::with_capacity(if kept { all_scores } else { 0 }),
        logits: None,
        predictions_labels_given: Vec::with_capacity(items.len()),
        effective_scale: model.head.effective_scale() as f32,
        class_vectors: model.head.class_vectors()?.map(|vectors| vectors.flatten_all()?.to_vec1()).transpose()?,
    };
    let mut loader = images.eval_batches(split, batch_size)?;
    while let Some(batch) = loader.next().transpose()? {
        let done = embeddings.norms.len();
        let (batch, _) = inputs(batch)?;
        let count = batch.count();
        let labels = Tensor::from_slice(&embeddings.labels[done..done + count], count, &Device::Cpu)?;
        let features = model.encoder.forward(&batch)?;
        let scores = model.head.scores(&features)?;
        // The labels of unseen classes are none of the head's: a margin has nothing to act on.
        let logits = match images.evaluates_unseen_classes() {
            true => None,
            false => model.head.labelled_logits(&features, &labels)?,
        };

        for (row, vector) in features.to_vec2::<f32>()?.into_iter().enumerate() {
            let norm = extend_by_unit(&mut embeddings.unit, &vector);
            embeddings.norms.push(norm.ok_or_else(|| Error::NotFinite(items[done + row].id.clone()))?);
        }
        if let Some(scores) = scores {
            let given = logits.as_ref().unwrap_or(&scores).argmax(D::Minus1)?;
            embeddings.predictions_labels_given.extend(given.to_vec1::<u32>()?);
            let scores = scores.flatten_all()?.to_vec1::<f32>()?;
            if let Some(place) = scores.iter().position(|score| !score.is_finite()) {
                return Err(Error::NotFinite(items[done + place / embeddings.classes].id.clone()));
            }
            scored = true;
            if kept {
                embeddings.scores.extend(scores);
            }
            if let Some(logits) = logits.filter(|_| kept) {
                let all = embeddings.logits.get_or_insert_with(|| Vec::with_capacity(all_scores));
                all.extend(logits.flatten_all()?.to_vec1::<f32>()?);
            }
        }
        progress(done + count);
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
    }
    if !scored {
        // The means are of the split's classes, which need not be those that were trained on.
        if SplitName::ALL.contains(&split) {
            embeddings.classes = images.record().classes.len();
        }
        if kept {
            let means = class_means(train.unwrap_or(&embeddings), embeddings.classes);
            score_by_means(&mut embeddings, &means);
        }
    }
    Ok(Some(embeddings))
}

/// The mean of each class's unit embeddings by the labels trained on, brought to unit length: (classes, dim); 0 for a class
/// without images. In f64 and in the order of the images.
fn class_means(train: &Embeddings, classes: usize) -> Vec<f32> {
    let mut sums = vec![0.0; classes * train.dim];
    for (row, &label) in train.unit.chunks_exact(train.dim).zip(&train.labels_trained) {
        let sum = &mut sums[label as usize * train.dim..][..train.dim];
        sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    let unit = |sum: &[f64]| {
        let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        sum.iter().map(|x| (x / norm) as f32).collect::<Vec<_>>()
    };
    sums.chunks_exact(train.dim).flat_map(unit).collect()
}

/// Scores by cosine with the means; the first of equally near ones is the prediction, whatever the label.
fn score_by_means(embeddings: &mut Embeddings, means: &[f32]) {
    let Embeddings { dim, classes, unit, scores, predictions_labels_given, .. } = embeddings;
    *scores = vec![0.0; unit.len() / *dim * *classes];
    let rows = unit.par_chunks_exact(*dim).zip(scores.par_chunks_exact_mut(*classes));
    let nearest = rows.map(|(row, scores)| {
        let mut nearest = 0;
        for (class, mean) in means.chunks_exact(row.len()).enumerate() {
            scores[class] = mean.iter().zip(row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>() as f32;
            if scores[class] > scores[nearest] {
                nearest = class;
            }
        }
        nearest as u32
    });
    nearest.collect_into_vec(predictions_labels_given);
}

/// Appends a vector brought to unit length, and tells the length that it had; `None`, and nothing appended, where that is not finite.
pub fn extend_by_unit(unit: &mut Vec<f32>, vector: &[f32]) -> Option<f32> {
    // In f64, so that unit length holds to the last bit of f32.
    let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
    if !norm.is_finite() {
        return None;
    }
    let divisor = norm.max(f64::MIN_POSITIVE);
    unit.extend(vector.iter().map(|&x| (f64::from(x) / divisor) as f32));
    Some(norm as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_without_scores_is_scored_by_the_nearest_class_mean() {
        let angles = [0.0f32, 0.2, 1.5, 1.7];
        let mut embeddings = Embeddings {
            ids: angles.iter().map(ToString::to_string).collect(),
            labels: vec![0, 0, 1, 0],
            // The last image was trained on as of class 1.
            labels_trained: vec![0, 0, 1, 1],
            dim: 2,
            classes: 3,
            unit: angles.iter().flat_map(|angle| [angle.cos(), angle.sin()]).collect(),
            norms: vec![1.0; 4],
            scores: Vec::new(),
            logits: None,
            predictions_labels_given: Vec::new(),
            effective_scale: 1.0,
            class_vectors: None,
        };
        let means = class_means(&embeddings, 3);
        let expected = [0.1f32.cos(), 0.1f32.sin(), 1.6f32.cos(), 1.6f32.sin(), 0.0, 0.0];
        assert!(means.iter().zip(expected).all(|(mean, expected)| (mean - expected).abs() < 1e-6), "{means:?}");
        score_by_means(&mut embeddings, &means);
        assert_eq!(embeddings.predictions_labels_given, [0, 0, 1, 1]);
        assert!((embeddings.scores[4] - 1.4f32.cos()).abs() < 1e-6, "{:?}", embeddings.scores);
        assert_eq!((embeddings.scores.len(), embeddings.scores[2]), (12, 0.0));
        // Of equally near means the first, also where rows are many.
        (embeddings.unit, embeddings.classes) = ([0.6f32, 0.8].repeat(1000), 2);
        score_by_means(&mut embeddings, &[0.8, 0.6, 0.8, 0.6]);
        assert_eq!(embeddings.predictions_labels_given, [0; 1000]);
        assert_eq!(embeddings.scores, [(0.6f32 as f64 * 0.8f32 as f64 * 2.0) as f32; 2000]);
    }
}
