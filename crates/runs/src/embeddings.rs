//! The raw outcome of a run on one split: what every metric and picture is made from.

use crate::{DataRecord, Error, Manifest, Result, RunFolder, TensorFile, write_atomically, write_tensors};
use ndarray::{Array3, ArrayView2};
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The images that are embedded: both splits of the evaluated classes, and where these were held out from training also of the classes
/// that were trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitName {
    /// The training images, seen without augmentation.
    Train,
    /// The validation images.
    Val,
    /// The training images of the classes trained on, where others are evaluated.
    SeenTrain,
    /// The validation images of the classes trained on, where others are evaluated.
    SeenVal,
}

impl SplitName {
    /// Both of the evaluated classes, in order.
    pub const ALL: [Self; 2] = [Self::Train, Self::Val];
    /// Both of the classes trained on, where others are evaluated.
    pub const SEEN: [Self; 2] = [Self::SeenTrain, Self::SeenVal];

    /// `train`, `val`, `seen-train` or `seen-val`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
            Self::SeenTrain => "seen-train",
            Self::SeenVal => "seen-val",
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
    /// The head's scores without labels, unscaled, (N, C); empty where they were too many to be kept.
    pub scores: Vec<f32>,
    /// The training logits, true labels given, margin and scale applied, (N, C); `None` for a head without, for classes that
    /// were never trained on, and in runs older than they.
    pub logits: Option<Vec<f32>>,
    /// Argmax of the training logits, true labels given, N; empty where it would be that of scores that were not kept and that no head
    /// gave.
    pub predictions_labels_given: Vec<u32>,
    /// Factor of the scores in training.
    pub effective_scale: f32,
    /// The head's vector of each class, (C, D); `None` for a head with none or several a class.
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

    /// The head's scores without labels, unscaled, (N, C). Panics where `scores` does not hold N x C values, as where they were not kept.
    pub fn scores(&self) -> ArrayView2<'_, f32> {
        matrix(&self.scores, self.len(), self.classes)
    }

    /// The training logits, true labels given, (N, C), if they are there. Panics where they do not hold N x C values.
    pub fn logits(&self) -> Option<ArrayView2<'_, f32>> {
        self.logits.as_ref().map(|logits| matrix(logits, self.len(), self.classes))
    }

    /// The head's vector of each class, (C, D), if it has one a class. Panics where it does not hold C x D values.
    pub fn class_vectors(&self) -> Option<ArrayView2<'_, f32>> {
        self.class_vectors.as_ref().map(|vectors| matrix(vectors, self.classes, self.dim))
    }

    /// Ok if every array holds as many values as the images, dimensions and classes ask for; otherwise its name, and how many
    /// it holds and should.
    fn check(&self) -> std::result::Result<(), (&'static str, usize, usize)> {
        let (n, vectors) = (self.len(), self.classes * self.dim);
        let unscored = self.scores.is_empty() && self.predictions_labels_given.is_empty();
        let lengths = [
            ("labels", self.labels.len(), n),
            ("labels_trained", self.labels_trained.len(), n),
            ("embeddings", self.unit.len(), n * self.dim),
            ("norms", self.norms.len(), n),
            ("scores", self.scores.len(), if self.scores.is_empty() { 0 } else { n * self.classes }),
            ("logits", self.logits.as_ref().map_or(n * self.classes, Vec::len), n * self.classes),
            ("predictions_labels_given", self.predictions_labels_given.len(), if unscored { 0 } else { n }),
            ("class_vectors", self.class_vectors.as_ref().map_or(vectors, Vec::len), vectors),
        ];
        lengths.into_iter().find(|(_, length, expected)| length != expected).map_or(Ok(()), Err)
    }
}

impl Embeddings {
    /// Whether the images are as many as the manifest says, each once, with labels of its classes; if not, what is wrong.
    fn check_images(&self, manifest: &Manifest, split: SplitName) -> std::result::Result<(), String> {
        let DataRecord { classes, train_images, val_images, .. } = &manifest.data;
        let expected = match split {
            SplitName::Val => Some(*val_images),
            // Held-out classes are not those that were trained on.
            SplitName::Train => manifest.spec.data.held_out_classes.is_empty().then_some(*train_images),
            SplitName::SeenTrain => Some(*train_images),
            SplitName::SeenVal => None,
        };
        // The manifest names the evaluated classes.
        let classes = if SplitName::SEEN.contains(&split) { self.classes } else { classes.len() };
        if let Some(expected) = expected.filter(|&expected| expected != self.len()) {
            return Err(format!("it has {} images, but the manifest says {expected}", self.len()));
        }
        let mut ids = HashSet::new();
        for (index, id) in self.ids.iter().enumerate() {
            let (row, label) = (index + 1, self.labels[index].max(self.labels_trained[index]));
            if label as usize >= classes {
                return Err(format!("row {row} has label {label}, but there are {classes} classes"));
            }
            if !ids.insert(id) {
                return Err(format!("row {row} is `{id}`, which stands there before"));
            }
        }
        Ok(())
    }

    /// Whether all numbers are finite and all predictions classes of the head; if not, what is wrong.
    fn check_numbers(&self) -> std::result::Result<(), String> {
        for (name, values) in [
            ("embeddings", &self.unit[..]),
            ("norms", &self.norms),
            ("scores", &self.scores),
            ("effective_scale", &[self.effective_scale]),
            ("logits", self.logits.as_deref().unwrap_or_default()),
            ("class_vectors", self.class_vectors.as_deref().unwrap_or_default()),
        ] {
            if let Some(place) = values.iter().position(|value| !value.is_finite()) {
                return Err(format!("value {place} of `{name}` is {}", values[place]));
            }
        }
        match self.predictions_labels_given.iter().find(|&&class| class as usize >= self.classes) {
            Some(class) => Err(format!("`predictions_labels_given` has class {class} of {}", self.classes)),
            None => Ok(()),
        }
    }
}

impl RunFolder {
    /// Writes `images-<split>.csv` and `embeddings-<split>.safetensors` (f32 and u32, readable by NumPy).
    pub fn write_embeddings(&self, split: SplitName, embeddings: &Embeddings) -> Result<()> {
        let n = embeddings.len();
        embeddings.check().map_err(|(name, length, expected)| {
            Error::value(name, length, format!("{expected} values were expected for {n} images"))
        })?;
        let [images, path] = self.paths(split);
        write_atomically(&images, |file| {
            let mut writer = csv::Writer::from_writer(file);
            for ((id, &label), &label_trained) in
                embeddings.ids.iter().zip(&embeddings.labels).zip(&embeddings.labels_trained)
            {
                writer.serialize(ImageRow { id: id.clone(), label, label_trained })?;
            }
            writer.flush()
        })?;
        let f32s = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let predictions = embeddings.predictions_labels_given.iter().flat_map(|value| value.to_le_bytes()).collect();
        let mut tensors = vec![
            ("effective_scale", Dtype::F32, vec![1], f32s(&[embeddings.effective_scale])),
            ("embeddings", Dtype::F32, vec![n, embeddings.dim], f32s(&embeddings.unit)),
            ("norms", Dtype::F32, vec![n], f32s(&embeddings.norms)),
            ("predictions_labels_given", Dtype::U32, vec![embeddings.predictions_labels_given.len()], predictions),
            (
                "scores",
                Dtype::F32,
                vec![if embeddings.scores.is_empty() { 0 } else { n }, embeddings.classes],
                f32s(&embeddings.scores),
            ),
        ];
        if let Some(logits) = &embeddings.logits {
            tensors.push(("logits", Dtype::F32, vec![n, embeddings.classes], f32s(logits)));
        }
        if let Some(vectors) = &embeddings.class_vectors {
            tensors.push(("class_vectors", Dtype::F32, vec![embeddings.classes, embeddings.dim], f32s(vectors)));
        }
        write_tensors(&path, &tensors, None)
    }

    /// Reads the embeddings of a split of a whole run, and checks that everything fits together.
    ///
    /// # Errors
    /// [`Error::Changed`]; arrays of other sizes, labels that are no class, numbers that are not finite, images that stand twice.
    pub fn embeddings(&self, manifest: &Manifest, split: SplitName) -> Result<Embeddings> {
        let [images, path] = self.paths(split);
        let listed = |path: &Path| {
            let name = path.file_name().expect("it is a file of the run").to_string_lossy();
            self.read_listed(manifest, &name)
        };
        let bytes = listed(&images)?;
        let (mut ids, mut labels, mut labels_trained) = (Vec::new(), Vec::new(), Vec::new());
        for row in csv::Reader::from_reader(&bytes[..]).into_deserialize() {
            let row: ImageRow = row.map_err(|error| Error::damaged(&images, error))?;
            ids.push(row.id);
            labels.push(row.label);
            labels_trained.push(row.label_trained);
        }

        let damaged = |problem: String| Error::damaged(&path, problem);
        let file = TensorFile::of_bytes(&path, listed(&path)?);
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
        let optional = |name: &str| tensors.names().contains(&name).then(|| floats(name)).transpose();
        let embeddings = Embeddings {
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
            logits: optional("logits")?,
            class_vectors: optional("class_vectors")?,
        };
        embeddings.check().map_err(|(name, length, expected)| {
            damaged(format!("`{name}` has {length} values where {expected} belong"))
        })?;
        embeddings.check_images(manifest, split).map_err(|problem| Error::damaged(&images, problem))?;
        embeddings.check_numbers().map_err(damaged)?;
        Ok(embeddings)
    }

    /// The encoder's weights of a whole run, under torchvision's names.
    ///
    /// # Errors
    /// [`Error::Changed`].
    pub fn encoder_weights(&self, manifest: &Manifest) -> Result<TensorFile> {
        let path = self.encoder_path();
        let name = path.file_name().expect("it is a file of the run").to_string_lossy();
        Ok(TensorFile::of_bytes(&path, self.read_listed(manifest, &name)?))
    }

    /// The vectors of the classes in `head.safetensors` of a whole run, (K, C, D), K of each class; `None` where the run has no such
    /// file or the head none.
    ///
    /// # Errors
    /// [`Error::Changed`]; an array of other sizes.
    pub fn class_weights(&self, manifest: &Manifest) -> Result<Option<Array3<f32>>> {
        let path = self.head_path();
        let name = path.file_name().expect("it is a file of the run").to_string_lossy();
        if !manifest.files.contains_key(name.as_ref()) {
            return Ok(None);
        }
        let file = TensorFile::of_bytes(&path, self.read_listed(manifest, &name)?);
        let tensors = file.tensors()?;
        let Ok(weight) = tensors.tensor("weight") else { return Ok(None) };
        let shape = match (weight.shape(), weight.dtype()) {
            (&[classes, dim], Dtype::F32) => (1, classes, dim),
            (&[centers, classes, dim], Dtype::F32) => (centers, classes, dim),
            (sizes, found) => {
                let problem = format!("`weight` is {found:?} of sizes {sizes:?}, not F32 of two or three");
                return Err(Error::damaged(&path, problem));
            }
        };
        let weight = Array3::from_shape_vec(shape, values(&weight, f32::from_le_bytes));
        weight.map(Some).map_err(|error| Error::damaged(&path, error))
    }

    /// Both splits of the classes trained on; `None` where these are the evaluated ones, and in runs older than such files.
    ///
    /// # Errors
    /// As [`RunFolder::embeddings`].
    pub fn seen_embeddings(&self, manifest: &Manifest) -> Result<Option<[Embeddings; 2]>> {
        let [train, val] = SplitName::SEEN;
        if !manifest.files.contains_key("embeddings-seen-val.safetensors") {
            return Ok(None);
        }
        Ok(Some([self.embeddings(manifest, train)?, self.embeddings(manifest, val)?]))
    }

    /// The files of a split: images, then embeddings.
    fn paths(&self, split: SplitName) -> [PathBuf; 2] {
        ["images-#.csv", "embeddings-#.safetensors"].map(|name| self.file(&name.replace('#', split.as_str())))
    }
}

fn matrix(values: &[f32], rows: usize, columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((rows, columns), values).expect("embeddings hold as many values as their sizes say")
}

fn values<T>(tensor: &TensorView<'_>, convert: fn([u8; 4]) -> T) -> Vec<T> {
    tensor.data().as_chunks().0.iter().map(|&chunk| convert(chunk)).collect()
}
