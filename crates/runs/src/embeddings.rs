//! The raw outcome of a run on one split: what every metric and picture is made from.

use crate::{Error, Result, TensorFile, write_atomically, write_tensors};
use ndarray::ArrayView2;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The two splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitName {
    /// The training images, seen without augmentation.
    Train,
    /// The validation images.
    Val,
}

impl SplitName {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::Train, Self::Val];

    /// `train` or `val`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

/// Embeddings of one split with everything known about each image. N images, D dimensions, C classes; row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// Relative paths of the images, N.
    pub ids: Vec<String>,
    /// True labels, N.
    pub labels: Vec<u32>,
    /// Labels trained on, N; equal to the true ones unless the experiment adds noise.
    pub labels_trained: Vec<u32>,
    /// Width D of an embedding.
    pub dim: usize,
    /// Classes C of the head.
    pub classes: usize,
    /// Unit-length embeddings, (N, D).
    pub unit: Vec<f32>,
    /// Lengths before normalisation, N.
    pub norms: Vec<f32>,
    /// The head's scores without labels, unscaled, (N, C).
    pub scores: Vec<f32>,
    /// Argmax of the training logits, true labels given, N.
    pub predictions_labels_given: Vec<u32>,
    /// Factor of the scores in training.
    pub effective_scale: f32,
    /// The head's vector of each class, (C, D); `None` for a head with several a class.
    pub class_vectors: Option<Vec<f32>>,
}

#[derive(Serialize, Deserialize)]
struct ImageRow {
    id: String,
    label: u32,
    label_trained: u32,
}

impl Embeddings {
    /// Number of images N.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Unit-length embeddings, (N, D). Panics where `unit` does not hold N x D values; what was read always does.
    pub fn unit(&self) -> ArrayView2<'_, f32> {
        matrix(&self.unit, self.len(), self.dim)
    }

    /// The head's scores without labels, unscaled, (N, C). Panics where `scores` does not hold N x C values.
    pub fn scores(&self) -> ArrayView2<'_, f32> {
        matrix(&self.scores, self.len(), self.classes)
    }

    /// The head's vector of each class, (C, D), if it has one a class. Panics where it does not hold C x D values.
    pub fn class_vectors(&self) -> Option<ArrayView2<'_, f32>> {
        self.class_vectors.as_ref().map(|vectors| matrix(vectors, self.classes, self.dim))
    }

    fn lengths(&self) -> [(&'static str, usize, usize); 8] {
        let n = self.len();
        let vectors = self.classes * self.dim;
        [
            ("labels", self.labels.len(), n),
            ("labels_trained", self.labels_trained.len(), n),
            ("embeddings", self.unit.len(), n * self.dim),
            ("norms", self.norms.len(), n),
            ("scores", self.scores.len(), n * self.classes),
            ("predictions_labels_given", self.predictions_labels_given.len(), n),
            ("effective_scale", 1, 1),
            ("class_vectors", self.class_vectors.as_ref().map_or(vectors, Vec::len), vectors),
        ]
    }

    /// Writes `images-<split>.csv` and `embeddings-<split>.safetensors` (f32 and u32, readable by NumPy).
    pub(crate) fn write(&self, folder: &Path, split: SplitName) -> Result<()> {
        for (name, length, expected) in self.lengths() {
            if length != expected {
                return Err(Error::value(
                    name,
                    length,
                    format!("{expected} values were expected for {} images", self.len()),
                ));
            }
        }
        write_atomically(&images_path(folder, split), |file| {
            let mut writer = csv::Writer::from_writer(file);
            for ((id, &label), &label_trained) in self.ids.iter().zip(&self.labels).zip(&self.labels_trained) {
                writer.serialize(ImageRow { id: id.clone(), label, label_trained })?;
            }
            writer.flush()
        })?;
        let n = self.len();
        let f32s = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let predictions = self.predictions_labels_given.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut tensors = vec![
            ("effective_scale", Dtype::F32, vec![1], f32s(&[self.effective_scale])),
            ("embeddings", Dtype::F32, vec![n, self.dim], f32s(&self.unit)),
            ("norms", Dtype::F32, vec![n], f32s(&self.norms)),
            ("predictions_labels_given", Dtype::U32, vec![n], predictions),
            ("scores", Dtype::F32, vec![n, self.classes], f32s(&self.scores)),
        ];
        if let Some(vectors) = &self.class_vectors {
            tensors.push(("class_vectors", Dtype::F32, vec![self.classes, self.dim], f32s(vectors)));
        }
        write_tensors(&tensors_path(folder, split), &tensors, None)
    }

    /// Reads what `write` wrote, and checks that everything fits together.
    pub(crate) fn read(folder: &Path, split: SplitName) -> Result<Self> {
        let path = images_path(folder, split);
        let (mut ids, mut labels, mut labels_trained) = (Vec::new(), Vec::new(), Vec::new());
        let mut reader = csv::Reader::from_path(&path).map_err(|error| Error::damaged(&path, error))?;
        for row in reader.deserialize::<ImageRow>() {
            let row = row.map_err(|error| Error::damaged(&path, error))?;
            ids.push(row.id);
            labels.push(row.label);
            labels_trained.push(row.label_trained);
        }

        let path = tensors_path(folder, split);
        let damaged = |problem: String| Error::damaged(&path, problem);
        let file = TensorFile::read(&path)?;
        let tensors = file.tensors()?;
        let read = |name: &str, dtype: Dtype| {
            let tensor = tensors.tensor(name).map_err(|error| damaged(error.to_string()))?;
            let found = tensor.dtype();
            if found == dtype { Ok(tensor) } else { Err(damaged(format!("`{name}` is {found:?}, not {dtype:?}"))) }
        };
        let floats = |name: &str| read(name, Dtype::F32).map(|tensor| values(&tensor, f32::from_le_bytes));
        let columns = |name: &str| match *read(name, Dtype::F32)?.shape() {
            [_, columns] => Ok(columns),
            _ => Err(damaged(format!("`{name}` is no matrix"))),
        };
        let class_vectors = tensors.names().contains(&"class_vectors");
        let embeddings = Self {
            ids,
            labels,
            labels_trained,
            dim: columns("embeddings")?,
            classes: columns("scores")?,
            unit: floats("embeddings")?,
            norms: floats("norms")?,
            scores: floats("scores")?,
            predictions_labels_given: values(&read("predictions_labels_given", Dtype::U32)?, u32::from_le_bytes),
            effective_scale: match floats("effective_scale")?[..] {
                [scale] => scale,
                _ => return Err(damaged("`effective_scale` is not one number".into())),
            },
            class_vectors: class_vectors.then(|| floats("class_vectors")).transpose()?,
        };
        for (name, length, expected) in embeddings.lengths() {
            if length != expected {
                return Err(damaged(format!("`{name}` has {length} values where {expected} belong")));
            }
        }
        Ok(embeddings)
    }
}

fn matrix(values: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), values).expect("embeddings hold as many values as their sizes say")
}

fn images_path(folder: &Path, split: SplitName) -> std::path::PathBuf {
    folder.join(format!("images-{}.csv", split.as_str()))
}

fn tensors_path(folder: &Path, split: SplitName) -> std::path::PathBuf {
    folder.join(format!("embeddings-{}.safetensors", split.as_str()))
}

fn values<T>(tensor: &TensorView<'_>, convert: fn([u8; 4]) -> T) -> Vec<T> {
    tensor.data().as_chunks().0.iter().map(|&chunk| convert(chunk)).collect()
}
