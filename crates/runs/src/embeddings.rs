//! The raw outcome of a run on one split: what every metric and picture is made from.

use crate::{Error, Result, write_atomically};
use ndarray::ArrayView2;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
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
            for ((id, &label), &label_trained) in self.ids.iter().zip(&self.labels).zip(&self.labels_trained)
            {
                writer.serialize(ImageRow { id: id.clone(), label, label_trained })?;
            }
            writer.flush()
        })?;
        let n = self.len();
        let f32s = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        let predictions =
            self.predictions_labels_given.iter().flat_map(|value| value.to_le_bytes()).collect();
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
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)));
        let bytes = views
            .collect::<std::result::Result<Vec<_>, _>>()
            .and_then(|views| safetensors::serialize(views, None));
        let bytes = bytes.map_err(|error| {
            Error::damaged(&tensors_path(folder, split), format!("it could not be put together: {error}"))
        })?;
        write_atomically(&tensors_path(folder, split), |file| file.write_all(&bytes))
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
        let bytes = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| Error::damaged(&path, error))?;
        let read = |name: &str, dtype: Dtype| -> Result<(Vec<usize>, &[u8])> {
            let tensor = tensors.tensor(name).map_err(|error| Error::damaged(&path, error))?;
            if tensor.dtype() != dtype {
                return Err(Error::damaged(
                    &path,
                    format!("`{name}` is {:?}, not {dtype:?}", tensor.dtype()),
                ));
            }
            Ok((tensor.shape().to_vec(), tensor.data()))
        };
        let floats =
            |name| read(name, Dtype::F32).map(|(shape, data)| (shape, values(data, f32::from_le_bytes)));
        let (unit_shape, unit) = floats("embeddings")?;
        let (scores_shape, scores) = floats("scores")?;
        let (_, norms) = floats("norms")?;
        let (_, scale) = floats("effective_scale")?;
        let class_vectors = match tensors.names().contains(&"class_vectors") {
            true => Some(floats("class_vectors")?.1),
            false => None,
        };
        let (_, predictions) = read("predictions_labels_given", Dtype::U32)?;
        let (&[_, dim], &[_, classes], &[effective_scale]) = (&unit_shape[..], &scores_shape[..], &scale[..])
        else {
            return Err(Error::damaged(
                &path,
                "`embeddings` and `scores` must be matrices, `effective_scale` one number",
            ));
        };
        let embeddings = Self {
            ids,
            labels,
            labels_trained,
            dim,
            classes,
            unit,
            norms,
            scores,
            predictions_labels_given: values(predictions, u32::from_le_bytes),
            effective_scale,
            class_vectors,
        };
        for (name, length, expected) in embeddings.lengths() {
            if length != expected {
                return Err(Error::damaged(
                    &path,
                    format!("`{name}` has {length} values where {expected} belong"),
                ));
            }
        }
        Ok(embeddings)
    }
}

fn matrix(values: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), values)
        .expect("embeddings hold as many values as their sizes say")
}

fn images_path(folder: &Path, split: SplitName) -> std::path::PathBuf {
    folder.join(format!("images-{}.csv", split.as_str()))
}

fn tensors_path(folder: &Path, split: SplitName) -> std::path::PathBuf {
    folder.join(format!("embeddings-{}.safetensors", split.as_str()))
}

fn values<T>(bytes: &[u8], convert: fn([u8; 4]) -> T) -> Vec<T> {
    bytes.chunks_exact(4).map(|chunk| convert([chunk[0], chunk[1], chunk[2], chunk[3]])).collect()
}
