//! Experiment files: what is trained on what, how often, and how it is evaluated.
//!
//! Every number stands in the TOML; there are no defaults here. Unknown keys are errors.

use crate::{Error, HeadInit, HeadVariant, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;
use std::path::Path;

/// A whole experiment: `experiments/<name>.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Equal to the file's name without `.toml`; the report folder is named after it.
    pub name: String,
    /// One sentence for people.
    pub description: String,
    /// The images.
    pub data: DataConfig,
    /// The recipe.
    pub training: TrainingConfig,
    /// The evaluation.
    pub analysis: AnalysisConfig,
    /// What tuning may spend and where it looks; absent where nothing is to be tuned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuning: Option<TuningConfig>,
    /// The heads, in the order of tables and pictures. A block with lists of numbers stands for every combination,
    /// under names like `ArcFace-s16-m0.5`. Their kinds and parameters are checked by the heads crate.
    #[serde(deserialize_with = "crate::head::variants")]
    pub heads: Vec<HeadVariant>,
    /// Every head is trained under each of these; absent means once, on the images as `[data]` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// How the heads' settings were found: written by `cargo xtask tune`, shown in the report, used for nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trials: Vec<Trial>,
}

/// `[tuning]`: the same budget for every head.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuningConfig {
    /// Trials of each head. The first is the experiment's own setting; the others are the same points for every head.
    pub trials: usize,
    /// Decides the held-back tenth of the training images and the points tried.
    pub seed: u64,
    /// Lowest and highest peak learning rate; points lie evenly in its logarithm.
    pub peak_learning_rate: [f64; 2],
    /// Lowest and highest scale; points lie evenly in its logarithm.
    pub scale: [f64; 2],
    /// Lowest and highest angular margin.
    pub margin_radians: [f64; 2],
    /// Lowest and highest margin of cosines.
    pub margin_cosine: [f64; 2],
}

/// `[[trials]]`: one setting that tuning tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The variant's name.
    pub head: String,
    /// Highest learning rate.
    pub peak_learning_rate: f64,
    /// Scale s, for heads that have one to set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
    /// Margin m in the head's own unit, for heads that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub margin: Option<f64>,
    /// KNN accuracy (k = 5) on the held-back tenth, which chooses; absent where the training diverged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn_accuracy: Option<f64>,
    /// DNN accuracy on the held-back tenth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dnn_accuracy: Option<f64>,
    /// Whether this is the setting of the experiment.
    pub chosen: bool,
}

/// `[[conditions]]`: what of `[data]` changes, under a name that is appended to the variants' names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// Instead of `data.label_noise_percent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_noise_percent: Option<u32>,
    /// Instead of `data.held_out_classes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_out_classes: Option<Vec<String>>,
}

/// The data sets that are known by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DatasetName {
    /// Imagewoof, shortest side 160 px.
    #[serde(rename = "imagewoof2-160")]
    Imagewoof160,
    /// Imagewoof, shortest side 320 px.
    #[serde(rename = "imagewoof2-320")]
    Imagewoof320,
    /// Ten confusable classes of textured images, made on the fly.
    #[serde(rename = "synthetic")]
    Synthetic,
    /// Any folder with `train/<class>/` and `val/<class>/`, given by `--data`.
    #[serde(rename = "folder")]
    Folder,
    /// CIFAR-10 through candle-datasets.
    #[serde(rename = "cifar10")]
    Cifar10,
    /// MNIST through candle-datasets.
    #[serde(rename = "mnist")]
    Mnist,
    /// Fashion-MNIST through candle-datasets.
    #[serde(rename = "fashion-mnist")]
    FashionMnist,
}

impl DatasetName {
    /// The name as written in experiment files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Imagewoof160 => "imagewoof2-160",
            Self::Imagewoof320 => "imagewoof2-320",
            Self::Synthetic => "synthetic",
            Self::Folder => "folder",
            Self::Cifar10 => "cifar10",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
        }
    }
}

/// `[data]`: the images and how they are cropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Which data set.
    pub dataset: DatasetName,
    /// Side of the square images that the encoder sees.
    pub image_size_px: usize,
    /// At most so many images a split, taken evenly from the classes; absent means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images_per_split: Option<usize>,
    /// Share of wrong training labels in percent, from the data set's own columns: 0, 1, 5, 25 or 50.
    pub label_noise_percent: u32,
    /// Classes that training never sees and evaluation is about, by name; empty means training and evaluation on all.
    /// Embeddings are then those of the held-out classes in both splits, and there are no metrics of a classifier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out_classes: Vec<String>,
    /// Training images alone: a tenth of each class, chosen by this seed, stands in for the validation images, and the
    /// rest is trained on. For choosing settings without a look at the validation images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning_split_seed: Option<u64>,
    /// Whether the synthetic set takes over (under the name `<experiment>-synthetic`) where the data set cannot be had.
    pub synthetic_fallback: bool,
    /// How the synthetic set is made; needed for `dataset = "synthetic"` and for the fallback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<SyntheticConfig>,
    /// Augmentation of training images and the crop of evaluation.
    pub augmentation: AugmentationConfig,
}

/// `[data.synthetic]`: the set that is made on the fly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticConfig {
    /// Training images, all classes together.
    pub train_images: usize,
    /// Validation images, all classes together.
    pub val_images: usize,
    /// Side of the stored images.
    pub image_px: usize,
    /// Seed of the images.
    pub seed: u64,
}

/// `[data.augmentation]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AugmentationConfig {
    /// Smallest and largest area of the random crop, as shares of the image's area.
    pub crop_scale: [f64; 2],
    /// Smallest and largest ratio of the crop's width to its height; drawn evenly in its logarithm.
    pub crop_aspect: [f64; 2],
    /// Probability of a horizontal flip.
    pub flip_probability: f64,
    /// Evaluation resizes the shorter side to this factor times the image size, then crops the centre.
    pub eval_resize_factor: f64,
}

/// `[training]`: the recipe. AdamW (arXiv:1711.05101) under a one-cycle schedule (arXiv:1708.07120) with cosine slopes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// One run a variant and seed.
    pub seeds: Vec<u64>,
    /// Passes over the training split.
    pub epochs: usize,
    /// Images a step; the last incomplete batch of an epoch is dropped.
    pub batch_size: usize,
    /// Name of the encoder's architecture; [`Experiment::validate`] leaves it to the encoders to know theirs.
    pub encoder: String,
    /// Arithmetic of matrix products.
    pub precision: Precision,
    /// How the heads' weights start.
    pub head_init: HeadInit,
    /// Highest learning rate.
    pub peak_learning_rate: f64,
    /// Share of all steps after which the peak is reached.
    pub warmup_fraction: f64,
    /// The first learning rate is the peak divided by this.
    pub start_divisor: f64,
    /// The last learning rate is the first divided by this.
    pub end_divisor: f64,
    /// beta1 at the start and at the end.
    pub beta1_high: f64,
    /// beta1 at the peak.
    pub beta1_low: f64,
    /// beta2.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay on the encoder's tensors of more than one dimension.
    pub weight_decay: f64,
}

/// Arithmetic of the encoder's matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// Factors rounded to 10 bits of mantissa, sums in 32-bit floating point: NVIDIA's tensor cores. Other devices have none.
    Tf32,
}

impl Precision {
    /// The name as written in experiment files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = [Self::F32, Self::Tf32].into_iter().find(|precision| precision.as_str() == text);
        known.ok_or_else(|| Error::value("precision", text, "it must be `f32` or `tf32`"))
    }
}

/// Which code computes neighbours, PCA and t-SNE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Blocked matrix products, exact.
    Fast,
    /// linfa-nn, linfa-reduction, linfa-tsne.
    Linfa,
}

/// `[analysis]`: the evaluation. It is not part of a run: changing it needs no training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnalysisConfig {
    /// Which code computes.
    pub engine: Engine,
    /// Neighbourhood sizes of the KNN accuracy.
    pub knn_neighbors: Vec<usize>,
    /// Numbers of components of the explained-variance curves.
    pub pca_components: Vec<usize>,
    /// Effective number of neighbours of t-SNE.
    pub tsne_perplexity: f64,
    /// Gradient steps of t-SNE.
    pub tsne_iterations: usize,
    /// Seed of t-SNE.
    pub tsne_seed: u64,
    /// Neighbours of the KNN accuracy that stands in the headline, is compared and chooses settings.
    pub headline_neighbors: usize,
    /// Numbers of components of the two explained variances in the headline.
    pub headline_components: [usize; 2],
    /// A neighbour's weighted vote counts exp(cosine / temperature).
    pub vote_temperature: f64,
    /// Resamples of a bootstrap interval over images.
    pub bootstrap_resamples: usize,
    /// Bins of confidence of the calibration error.
    pub calibration_bins: usize,
    /// Seed of k-means.
    pub kmeans_seed: u64,
}

/// What the command line may change in an experiment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Variants by name, or all variants of a kind.
    pub heads: Option<Vec<String>>,
    /// Seeds.
    pub seeds: Option<Vec<u64>>,
    /// Epochs.
    pub epochs: Option<usize>,
    /// Image size in pixels.
    pub image_size_px: Option<usize>,
    /// Precision.
    pub precision: Option<Precision>,
}

impl Experiment {
    /// Reads and validates `<folder>/<name>.toml`.
    pub fn load(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(format!("{name}.toml"));
        if !is_plain_name(name) || !path.is_file() {
            let names = Self::names(folder)?;
            let known = if names.is_empty() { "none".into() } else { names.join(", ") };
            return Err(Error::UnknownExperiment { name: name.into(), path, known });
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let experiment = Self::parse(&text, &path)?;
        if experiment.name != name {
            let rule = format!("it must be `{name}` like its file");
            return Err(Error::value("name", &experiment.name, rule));
        }
        Ok(experiment)
    }

    /// Parses and validates an experiment; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let experiment: Self = toml::from_str(text)
            .map_err(|error| Error::Parse { path: path.to_path_buf(), message: error.to_string() })?;
        experiment.validate()?;
        Ok(experiment)
    }

    /// The names of the experiments in a folder, sorted.
    pub fn names(folder: &Path) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
            let path = entry.map_err(Error::io("list", folder))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            }
        }
        names.sort();
        Ok(names)
    }

    /// Applies what the command line changes, and validates again.
    pub fn with_overrides(mut self, overrides: &Overrides) -> Result<Self> {
        if let Some(wanted) = &overrides.heads {
            let matches = |variant: &HeadVariant, name: &String| {
                variant.name.eq_ignore_ascii_case(name) || variant.head.kind().eq_ignore_ascii_case(name)
            };
            if let Some(unknown) =
                wanted.iter().find(|name| !self.heads.iter().any(|head| matches(head, name)))
            {
                let known = self.heads.iter().map(|head| head.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(Error::UnknownHead { name: unknown.clone(), experiment: self.name, known });
            }
            self.heads.retain(|head| wanted.iter().any(|name| matches(head, name)));
        }
        if let Some(seeds) = &overrides.seeds {
            self.training.seeds.clone_from(seeds);
        }
        if let Some(epochs) = overrides.epochs {
            self.training.epochs = epochs;
        }
        if let Some(size) = overrides.image_size_px {
            self.data.image_size_px = size;
        }
        if let Some(precision) = overrides.precision {
            self.training.precision = precision;
        }
        self.validate()?;
        Ok(self)
    }

    /// The experiment on the synthetic set instead, under its own name, so that results never mix.
    pub fn on_synthetic(mut self) -> Self {
        self.name.push_str("-synthetic");
        self.data.dataset = DatasetName::Synthetic;
        self.data.synthetic_fallback = false;
        self
    }

    /// Checks every value against its range.
    pub fn validate(&self) -> Result<()> {
        if !is_plain_name(&self.name) {
            return Err(Error::value("name", &self.name, NAME_RULE));
        }
        self.data.validate()?;
        self.training.validate()?;
        self.analysis.validate()?;
        if let Some(tuning) = &self.tuning {
            tuning.validate()?;
        }
        if self.heads.is_empty() {
            return Err(Error::value("heads", "empty", "an experiment needs at least one [[heads]] block"));
        }
        for (index, variant) in self.heads.iter().enumerate() {
            if !is_plain_name(&variant.name) {
                return Err(Error::value("heads.name", &variant.name, NAME_RULE));
            }
            if self.heads[..index].iter().any(|other| other.name == variant.name) {
                return Err(Error::value(
                    "heads.name",
                    &variant.name,
                    "another head has the same name; give each [[heads]] block a `name` of its own",
                ));
            }
            if let Some(rate) = variant.peak_learning_rate
                && !(rate.is_finite() && rate > 0.0)
            {
                return Err(Error::value(
                    format!("{}: peak_learning_rate", variant.name),
                    rate,
                    "it must be a finite number above 0",
                ));
            }
        }
        for (index, condition) in self.conditions.iter().enumerate() {
            if !is_plain_name(&condition.name) {
                return Err(Error::value("conditions.name", &condition.name, NAME_RULE));
            }
            if self.conditions[..index].iter().any(|other| other.name == condition.name) {
                return Err(Error::value(
                    "conditions.name",
                    &condition.name,
                    "another condition has the same name",
                ));
            }
            self.data_under(Some(condition)).validate()?;
        }
        Ok(())
    }

    /// The conditions, or `None` alone where the experiment has none.
    pub(crate) fn each_condition(&self) -> impl Iterator<Item = Option<&Condition>> {
        let none = self.conditions.is_empty().then_some(None);
        none.into_iter().chain(self.conditions.iter().map(Some))
    }

    /// `[data]` as `condition` changes it.
    pub(crate) fn data_under(&self, condition: Option<&Condition>) -> DataConfig {
        let mut data = self.data.clone();
        if let Some(condition) = condition {
            if let Some(noise) = condition.label_noise_percent {
                data.label_noise_percent = noise;
            }
            if let Some(classes) = &condition.held_out_classes {
                data.held_out_classes.clone_from(classes);
            }
        }
        data
    }
}

const NAME_RULE: &str = "it must be letters, digits, `.`, `_` and `-`, and start with a letter or digit";

/// Names become folders, so they must not climb or hide.
fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

impl DataConfig {
    fn validate(&self) -> Result<()> {
        let size = self.image_size_px;
        if !(16..=1024).contains(&size) {
            return Err(Error::value("data.image_size_px", size, "it must lie in 16 ..= 1024"));
        }
        if self.images_per_split == Some(0) {
            return Err(Error::value(
                "data.images_per_split",
                0,
                "it must be at least 1, or absent for all images",
            ));
        }
        if ![0, 1, 5, 25, 50].contains(&self.label_noise_percent) {
            return Err(Error::value(
                "data.label_noise_percent",
                self.label_noise_percent,
                "the data set has columns for 0, 1, 5, 25 and 50 only",
            ));
        }
        let held_out = &self.held_out_classes;
        if let Some((_, twice)) =
            held_out.iter().enumerate().find(|(index, name)| held_out[..*index].contains(name))
        {
            return Err(Error::value("data.held_out_classes", twice, "each class may stand only once"));
        }
        let needs_synthetic = self.dataset == DatasetName::Synthetic || self.synthetic_fallback;
        match &self.synthetic {
            None if needs_synthetic => {
                return Err(Error::value(
                    "data.synthetic",
                    "absent",
                    "the synthetic set needs a [data.synthetic] table",
                ));
            }
            Some(synthetic) => synthetic.validate()?,
            None => {}
        }
        let AugmentationConfig { crop_scale, crop_aspect, flip_probability, eval_resize_factor } =
            self.augmentation;
        let ordered = |[low, high]: [f64; 2]| low > 0.0 && low <= high && high.is_finite();
        if !ordered(crop_scale) || crop_scale[1] > 1.0 {
            return Err(Error::value(
                "data.augmentation.crop_scale",
                format!("{crop_scale:?}"),
                "it must be [low, high] with 0 < low <= high <= 1",
            ));
        }
        if !ordered(crop_aspect) {
            return Err(Error::value(
                "data.augmentation.crop_aspect",
                format!("{crop_aspect:?}"),
                "it must be [low, high] with 0 < low <= high",
            ));
        }
        if !(0.0..=1.0).contains(&flip_probability) {
            return Err(Error::value(
                "data.augmentation.flip_probability",
                flip_probability,
                "it must lie in [0, 1]",
            ));
        }
        if !(1.0..=4.0).contains(&eval_resize_factor) {
            return Err(Error::value(
                "data.augmentation.eval_resize_factor",
                eval_resize_factor,
                "it must lie in [1, 4]",
            ));
        }
        Ok(())
    }
}

impl SyntheticConfig {
    fn validate(&self) -> Result<()> {
        for (key, images) in [("train_images", self.train_images), ("val_images", self.val_images)] {
            if images < 10 {
                return Err(Error::value(
                    format!("data.synthetic.{key}"),
                    images,
                    "ten classes need at least 10 images",
                ));
            }
        }
        if !(16..=512).contains(&self.image_px) {
            return Err(Error::value("data.synthetic.image_px", self.image_px, "it must lie in 16 ..= 512"));
        }
        Ok(())
    }
}

impl TrainingConfig {
    fn validate(&self) -> Result<()> {
        if self.seeds.is_empty() {
            return Err(Error::value("training.seeds", "empty", "at least one seed is needed"));
        }
        if let Some(twice) = self.seeds.iter().enumerate().find(|(i, seed)| self.seeds[..*i].contains(seed)) {
            return Err(Error::value("training.seeds", twice.1, "each seed may stand only once"));
        }
        if self.epochs == 0 {
            return Err(Error::value("training.epochs", 0, "it must be at least 1"));
        }
        if self.batch_size < 2 {
            return Err(Error::value(
                "training.batch_size",
                self.batch_size,
                "batch norm needs at least 2 images",
            ));
        }
        let positive = |key: &str, value: f64| {
            let valid = value.is_finite() && value > 0.0;
            if valid {
                Ok(())
            } else {
                Err(Error::value(format!("training.{key}"), value, "it must be a finite number above 0"))
            }
        };
        if !is_plain_name(&self.encoder) {
            return Err(Error::value("training.encoder", &self.encoder, NAME_RULE));
        }
        positive("peak_learning_rate", self.peak_learning_rate)?;
        positive("start_divisor", self.start_divisor)?;
        positive("end_divisor", self.end_divisor)?;
        positive("epsilon", self.epsilon)?;
        let below_one = |key: &str, value: f64| {
            if (0.0..1.0).contains(&value) {
                Ok(())
            } else {
                Err(Error::value(format!("training.{key}"), value, "it must lie in [0, 1)"))
            }
        };
        below_one("warmup_fraction", self.warmup_fraction)?;
        positive("warmup_fraction", self.warmup_fraction)?;
        below_one("beta1_high", self.beta1_high)?;
        below_one("beta1_low", self.beta1_low)?;
        below_one("beta2", self.beta2)?;
        below_one("weight_decay", self.weight_decay)
    }
}

impl TuningConfig {
    fn validate(&self) -> Result<()> {
        if self.trials == 0 {
            return Err(Error::value("tuning.trials", 0, "it must be at least 1"));
        }
        let ordered = |key: &str, [low, high]: [f64; 2], least: f64, most: f64, rule: &str| {
            let valid = low >= least && low <= high && high <= most && high.is_finite();
            let value = format!("[{low}, {high}]");
            if valid { Ok(()) } else { Err(Error::value(format!("tuning.{key}"), value, rule)) }
        };
        let above_zero = "it must be [low, high] with 0 < low <= high";
        let least = f64::MIN_POSITIVE;
        ordered("peak_learning_rate", self.peak_learning_rate, least, f64::MAX, above_zero)?;
        ordered("scale", self.scale, least, f64::MAX, above_zero)?;
        let radians = "it must be [low, high] with 0 <= low <= high <= pi/2";
        ordered("margin_radians", self.margin_radians, 0.0, FRAC_PI_2, radians)?;
        let cosine = "it must be [low, high] with 0 <= low <= high <= 1";
        ordered("margin_cosine", self.margin_cosine, 0.0, 1.0, cosine)
    }
}

impl AnalysisConfig {
    fn validate(&self) -> Result<()> {
        let each_positive = |key: &str, values: &[usize]| {
            if values.is_empty() || values.contains(&0) {
                Err(Error::value(
                    format!("analysis.{key}"),
                    format!("{values:?}"),
                    "it must list numbers of at least 1",
                ))
            } else {
                Ok(())
            }
        };
        each_positive("knn_neighbors", &self.knn_neighbors)?;
        each_positive("pca_components", &self.pca_components)?;
        each_positive("headline_components", &self.headline_components)?;
        for (key, value) in [
            ("headline_neighbors", self.headline_neighbors),
            ("bootstrap_resamples", self.bootstrap_resamples),
            ("calibration_bins", self.calibration_bins),
        ] {
            each_positive(key, &[value])?;
        }
        if !(self.vote_temperature.is_finite() && self.vote_temperature > 0.0) {
            let rule = "it must be a finite number above 0";
            return Err(Error::value("analysis.vote_temperature", self.vote_temperature, rule));
        }
        if !(self.tsne_perplexity.is_finite() && self.tsne_perplexity >= 1.0) {
            return Err(Error::value(
                "analysis.tsne_perplexity",
                self.tsne_perplexity,
                "it must be at least 1",
            ));
        }
        if self.tsne_iterations == 0 {
            return Err(Error::value("analysis.tsne_iterations", 0, "it must be at least 1"));
        }
        Ok(())
    }
}
