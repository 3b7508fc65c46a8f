//! A trained model and a split to embeddings: the raw results of a run, from which every metric is made later.

use candle_core::{D, Device, Tensor};
use faceoff_data::Dataset;
use faceoff_kernels::ImageBatch;
use faceoff_runs::{Embeddings, SplitName};
use faceoff_training::{Error, Model, Result};
use std::sync::atomic::{AtomicBool, Ordering};

/// Embeds a split without augmentation, in the data set's order.
///
/// Embeddings are brought to unit length; their lengths before that are kept. `progress` gets the number of images
/// done. Returns `None` where `stop` was raised.
///
/// # Errors
/// [`Error::NotFinite`], and those of images, encoder and head.
pub(crate) fn embed(
    model: &Model,
    images: &Dataset,
    split: SplitName,
    batch_size: usize,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Embeddings>> {
    let items = images.items(split);
    let dim = model.encoder.dim();
    let mut embeddings = Embeddings {
        ids: items.iter().map(|item| item.id.clone()).collect(),
        labels: items.iter().map(|item| item.label).collect(),
        labels_trained: items.iter().map(|item| item.label_trained).collect(),
        dim,
        classes: images.classes(),
        unit: Vec::with_capacity(items.len() * dim),
        norms: Vec::with_capacity(items.len()),
        scores: Vec::with_capacity(items.len() * images.classes()),
        predictions_labels_given: Vec::with_capacity(items.len()),
        effective_scale: model.head.effective_scale() as f32,
        class_vectors: model.head.class_vectors()?.map(|vectors| vectors.flatten_all()?.to_vec1()).transpose()?,
    };
    let mut loader = images.eval_batches(split, batch_size)?;
    while let Some(batch) = loader.next().transpose()? {
        let done = embeddings.norms.len();
        let count = batch.labels.len();
        let labels = Tensor::from_slice(&embeddings.labels[done..done + count], count, &Device::Cpu)?;
        let features = model.encoder.forward(&ImageBatch::new(batch.pixels, count, images.size_px())?)?;
        let scores = model.head.scores(&features)?;
        // The labels of unseen classes are none of the head's: a margin has nothing to act on.
        let logits = match images.evaluates_unseen_classes() {
            true => scores.clone(),
            false => model.head.labelled_logits(&features, &labels)?,
        };
        let given = logits.argmax(D::Minus1)?;

        for (row, vector) in features.to_vec2::<f32>()?.into_iter().enumerate() {
            // In f64, so that unit length holds to the last bit of f32.
            let norm = vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
            if !norm.is_finite() {
                return Err(Error::NotFinite(items[done + row].id.clone()));
            }
            let divisor = norm.max(f64::MIN_POSITIVE);
            embeddings.unit.extend(vector.iter().map(|&x| (f64::from(x) / divisor) as f32));
            embeddings.norms.push(norm as f32);
        }
        embeddings.scores.extend(scores.flatten_all()?.to_vec1::<f32>()?);
        embeddings.predictions_labels_given.extend(given.to_vec1::<u32>()?);
        progress(done + count);
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
    }
    Ok(Some(embeddings))
}
