//! Experiment files: what is trained on what, how often, and how it is evaluated.
//!
//! Every number that decides a result stands in the TOML; there are no defaults here. Unknown keys are errors.
//!
//! ```toml
//! extends = "quick"               # everything else as in quick.toml, which may extend another file itself
//! name = "mine"
//! tuning = false                  # `false` leaves out a key or table that quick.toml has
//! [training]
//! seeds = "0..5"                  # as [0, 1, 2, 3, 4]; "1..=50" and "0..3, 7" likewise, wherever whole numbers are listed
//! ```
//!
//! Tables are merged key by key; `[[heads]]`, `[[conditions]]` and every other list replace those of the extended file.

use crate::layers::Layers;
use crate::{Error, HeadInit, HeadVariant, Result, integers, list_folder};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::f64::consts::FRAC_PI_2;
use std::ops::RangeInclusive;
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
    /// How images of one's own are split that come without train/ and val/; absent where none may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_split: Option<OwnSplit>,
    /// What is trained in the encoder's place on embeddings of another model; absent where none may be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<ProjectionConfig>,
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
    /// How the heads' settings were found: written by the command `tune`, shown in the report, used for nothing else.
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

/// `[[conditions]]`: what of `[data]` and `[training]` changes, under a name that is appended to the variants' names.
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
    /// Factor of `training.epochs`, rounded to whole epochs, so that conditions whose steps cost less take the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs_factor: Option<f64>,
    /// Instead of `training.progressive_resizing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progressive_resizing: Option<Vec<(f64, usize)>>,
    /// Instead of `data.augmentation.flip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<Flip>,
    /// Instead of `training.label_smoothing`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_smoothing: Option<f64>,
    /// Instead of `training.ema`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<Averaging>,
    /// Instead of `training.blur_pool`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blur_pool: Option<bool>,
}

/// Name of the set that is made on the fly, as `[data.synthetic]` says.
pub const SYNTHETIC: &str = "synthetic";
/// Name of the set that is a folder which the user names.
pub const FOLDER: &str = "folder";
/// Name of the set that is embeddings of another model, which the user names.
pub const EMBEDDINGS: &str = "embeddings";

/// `[data]`: the images and how they are cropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// Name of the data set; which there are, the data sets' own crate knows.
    pub dataset: String,
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
    /// The user's own images, which take the place of the experiment's; written by [`Experiment::on_own_images`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own: Option<OwnData>,
}

/// `[data.own]`: images of the user's own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnData {
    /// Their name for people.
    pub name: String,
    /// How they are split where they come without train/ and val/.
    pub split: OwnSplit,
}

/// `[own_split]`: which images become validation images.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnSplit {
    /// Share of the images of each class.
    pub validation_share: f64,
    /// Decides which.
    pub seed: u64,
}

/// `[projection]`: what is trained in the encoder's place on the embeddings of another model, which stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectionConfig {
    /// Numbers of a row of the embeddings; written by [`Experiment::on_own_embeddings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<usize>,
    /// ReLU units of a hidden layer; 0 for none: a linear projection.
    pub hidden: usize,
    /// Numbers of the embeddings that come out.
    pub outputs: usize,
    /// Whether rows are brought to one length first, so that only their direction counts.
    pub normalize: bool,
}

impl ProjectionConfig {
    fn validate(&self, table: &str) -> Result<()> {
        let rule = "it must lie in 1 ..= 65536";
        require((1..=65_536).contains(&self.outputs), format!("{table}.outputs"), self.outputs, rule)?;
        let rule = "it must lie in 0 ..= 65536; 0 is a linear projection";
        require(self.hidden <= 65_536, format!("{table}.hidden"), self.hidden, rule)?;
        let (inputs, rule) = (self.inputs.unwrap_or(1), "it must lie in 1 ..= 65536");
        require((1..=65_536).contains(&inputs), format!("{table}.inputs"), inputs, rule)
    }
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
    /// How the flips of an image in several epochs hang together.
    #[serde(default, skip_serializing_if = "Flip::is_random")]
    pub flip: Flip,
    /// Evaluation resizes the shorter side to this factor times the image size, then crops the centre.
    pub eval_resize_factor: f64,
}

/// How the flips of an image in several epochs hang together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flip {
    /// Not at all: every view is mirrored with `flip_probability`.
    #[default]
    Random,
    /// Chance decides the first epoch; from then on every view is mirrored that was not in the epoch before (Jordan,
    /// arXiv:2404.00498), so that two epochs in a row show both sides of every image.
    Alternating,
}

impl Flip {
    fn is_random(&self) -> bool {
        *self == Self::Random
    }
}

impl AugmentationConfig {
    /// Pixels of the shorter side before the centre of so many pixels is cut out.
    pub fn eval_shorter_side_px(&self, size_px: usize) -> u32 {
        // Python's rounding: halves go to the even number.
        (size_px as f64 * self.eval_resize_factor).round_ties_even() as u32
    }
}

/// `[training]`: the recipe. AdamW (arXiv:1711.05101) under a one-cycle schedule (arXiv:1708.07120) with cosine slopes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// One run a variant and seed.
    #[serde(deserialize_with = "integers::deserialize")]
    pub seeds: Vec<u64>,
    /// Passes over the training split.
    pub epochs: usize,
    /// Images a step; the last incomplete batch of an epoch is dropped.
    pub batch_size: usize,
    /// Progressive resizing (Howard 2018; Tan and Le, arXiv:2104.00298): from which share of all steps on the training images have which side
    /// in pixels, `[[0.0, 32], [0.6, 64]]`. Empty means `data.image_size_px` throughout, which evaluation sees in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub progressive_resizing: Vec<(f64, usize)>,
    /// Batches of some classes with some images each, for losses of pairs; absent means all images shuffled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
    /// Share of the classes that a step sees of heads with class weights, those of its batch always among them (Partial FC, arXiv:2010.05222);
    /// absent means all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_sampling: Option<f64>,
    /// Share of each label's weight that all classes, the label's own among them, get alike in the cross-entropy (Szegedy et al.,
    /// arXiv:1512.00567, section 7).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_smoothing: f64,
    /// An exponential moving average of the weights, which embeds in the place of the last ones; absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<Averaging>,
    /// Name of the encoder's architecture; [`Experiment::validate`] leaves it to the encoders to know theirs.
    pub encoder: String,
    /// Whether the encoder smooths maps before the convolutions of its blocks that halve them (BlurPool; Zhang, arXiv:1904.11486).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blur_pool: bool,
    /// File that the encoder's weights start from: safetensors with torchvision's names; absent means fresh weights from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_init: Option<String>,
    /// Its BLAKE3, so that runs of other weights under the same path are never taken for these; filled in where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_init_blake3: Option<String>,
    /// Whether the encoder stays as it starts, batch norms in inference: heads alone are trained.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub encoder_frozen: bool,
    /// Factor of the encoder's learning rate beside that of the head; absent means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_learning_rate_scale: Option<f64>,
    /// Of the encoder `projection`, which maps embeddings of another model, its layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projection: Option<ProjectionConfig>,
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

impl TrainingConfig {
    /// Side of the training images in pixels at `step` of `steps`, which counts from 0; `full_px` is `data.image_size_px`.
    pub fn side_px(&self, step: usize, steps: usize, full_px: usize) -> usize {
        let begun = |(share, _): &&(f64, usize)| share * steps as f64 <= step as f64;
        self.progressive_resizing.iter().rev().find(begun).map_or(full_px, |&(_, side_px)| side_px)
    }

    /// The sides of the training images in pixels, each with the share of all steps that see it.
    pub fn sides_px(&self, full_px: usize) -> Vec<(usize, f64)> {
        let stages = &self.progressive_resizing;
        let ends = stages.iter().skip(1).map(|&(share, _)| share).chain([1.0]);
        let sides: Vec<_> = stages.iter().zip(ends).map(|(&(from, side_px), to)| (side_px, to - from)).collect();
        if sides.is_empty() { vec![(full_px, 1.0)] } else { sides }
    }

    /// Checks what conditions may change, for the images of `data`; `table` is where it stands.
    fn validate_recipe(&self, table: &str, data: &DataConfig) -> Result<()> {
        let (stages, key) = (&self.progressive_resizing, &format!("{table}.progressive_resizing"));
        let shown = || format!("{stages:?}").replace('(', "[").replace(')', "]");
        let rises = stages.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let lie_within = stages.iter().all(|&(share, _)| (0.0..1.0).contains(&share));
        let valid = stages.first().is_none_or(|&(share, _)| share == 0.0) && rises && lie_within;
        let rule = "it must list [share of the steps, side in pixels], the first share 0, each above the one before and below 1";
        require(valid, key, shown(), rule)?;
        let valid = stages.iter().all(|(_, side_px)| SIDES_PX.contains(side_px));
        require(valid, key, shown(), "each side must lie in 16 ..= 1024 pixels")?;
        let rule = "embeddings of another model have no size to change; leave it out";
        require(stages.is_empty() || !data.is_embeddings(), key, shown(), rule)?;
        let (smoothing, key) = (self.label_smoothing, format!("{table}.label_smoothing"));
        let rule = "it must lie in [0, 1): with 1 all classes would be alike; leave it out for none";
        require((0.0..1.0).contains(&smoothing), &key, smoothing, rule)?;
        let rule =
            "it shares weight among all classes, of which training.class_sampling hides some; leave one of the two out";
        require(smoothing == 0.0 || self.class_sampling.is_none_or(|share| share == 1.0), key, smoothing, rule)?;
        let rule = "embeddings of another model have no encoder whose maps could be smoothed; leave it out";
        let valid = !self.blur_pool || !data.is_embeddings();
        require(valid, format!("{table}.blur_pool"), self.blur_pool, rule)?;
        if let Some(ema) = self.ema {
            let valid = ema.decay > 0.0 && ema.decay < 1.0 && (1..=MOST_EPOCHS).contains(&ema.every_steps);
            let rule =
                format!("decay must lie in (0, 1) and every_steps in 1 ..= {MOST_EPOCHS}; leave it out for none");
            require(valid, format!("{table}.ema"), ema, &rule)?;
        }
        let rule = format!("it must lie in 1 ..= {MOST_EPOCHS}; more would take days or memory and change nothing");
        require((1..=MOST_EPOCHS).contains(&self.epochs), format!("{table}.epochs"), self.epochs, &rule)
    }
}

/// `sampler = { classes = 8, images = 8 }`: each batch holds 8 images of each of 8 classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampler {
    /// Classes of a batch.
    pub classes: usize,
    /// Images of each of them.
    pub images: usize,
}

/// `ema = { decay = 0.9, every_steps = 8 }`: after every 8th step the average keeps 0.9 of itself and takes 0.1 of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Averaging {
    /// What the average keeps of itself in an update; less in the first ones.
    pub decay: f64,
    /// Steps from one update to the next: an update copies all weights to the CPU.
    pub every_steps: usize,
}

impl std::fmt::Display for Averaging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{ decay = {}, every_steps = {} }}", self.decay, self.every_steps)
    }
}

impl std::fmt::Display for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{ classes = {}, images = {} }}", self.classes, self.images)
    }
}

/// Arithmetic of the encoder's matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floating point.
    F32,
    /// Factors rounded to 10 bits of mantissa, sums in 32-bit floating point: NVIDIA's tensor cores. Other devices have none.
    Tf32,
    /// Activations, their gradients and factors rounded to 8 bits of mantissa, sums in 32-bit floating point: own CUDA kernels, and CPUs, fast
    /// with AMX.
    Bf16,
}

impl Precision {
    /// The name as written in experiment files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = [Self::F32, Self::Tf32, Self::Bf16].into_iter().find(|precision| precision.as_str() == text);
        known.ok_or_else(|| Error::value("precision", text, "it must be `f32`, `tf32` or `bf16`"))
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
    #[serde(deserialize_with = "integers::deserialize")]
    pub knn_neighbors: Vec<usize>,
    /// Numbers of components of the explained-variance curves.
    #[serde(deserialize_with = "integers::deserialize")]
    pub pca_components: Vec<usize>,
    /// Effective number of neighbours of t-SNE.
    pub tsne_perplexity: f64,
    /// Gradient steps of t-SNE.
    pub tsne_iterations: usize,
    /// Seed of t-SNE, and of its sample.
    pub tsne_seed: u64,
    /// Of more images than this t-SNE maps a sample, a share of each class; absent means all. Everything else is measured on all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tsne_most_points: Option<usize>,
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
        Ok(ExperimentFile::load(folder, name, &[])?.experiment)
    }

    /// Parses and validates the text of an experiment file; the files that it extends are looked for beside `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        Ok(ExperimentFile::parse(text, path, &[])?.experiment)
    }

    /// The experiment as the text of an experiment file, with nothing left to resolve.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("an experiment is plain data, which TOML can hold")
    }

    /// The names of the experiments in a folder, sorted.
    pub fn names(folder: &Path) -> Result<Vec<String>> {
        let files = list_folder(folder)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "toml"));
        let mut names: Vec<_> =
            files.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
        names.sort();
        Ok(names)
    }

    /// Applies what the command line changes, and validates again.
    pub fn with_overrides(mut self, overrides: &Overrides) -> Result<Self> {
        if let Some(wanted) = &overrides.heads {
            let matches = |variant: &HeadVariant, name: &String| {
                variant.name.eq_ignore_ascii_case(name) || variant.head.kind().eq_ignore_ascii_case(name)
            };
            if let Some(unknown) = wanted.iter().find(|name| !self.heads.iter().any(|head| matches(head, name))) {
                let known = self.heads.iter().map(|head| head.name.as_str()).collect::<Vec<_>>().join(", ");
                return Err(Error::UnknownHead { name: unknown.clone(), experiment: self.name, known });
            }
            self.heads.retain(|head| wanted.iter().any(|name| matches(head, name)));
        }
        let Self { training, data, .. } = &mut self;
        training.seeds = overrides.seeds.clone().unwrap_or(std::mem::take(&mut training.seeds));
        training.epochs = overrides.epochs.unwrap_or(training.epochs);
        training.precision = overrides.precision.unwrap_or(training.precision);
        data.image_size_px = overrides.image_size_px.unwrap_or(data.image_size_px);
        self.validate()?;
        Ok(self)
    }

    /// The experiment on the synthetic set instead, under its own name, so that results never mix.
    pub fn on_synthetic(mut self) -> Self {
        self.name.push_str("-synthetic");
        self.data.dataset = SYNTHETIC.into();
        self.data.synthetic_fallback = false;
        self
    }

    /// The experiment on images of the user's own instead, known to people as `title`. Its name is `<name>-<its own>`, so that results
    /// never mix.
    ///
    /// # Errors
    /// An experiment without `[own_split]`; names that are not valid.
    pub fn on_own_images(self, title: &str, name: &str) -> Result<Self> {
        let description = format!("The heads of the experiment {} on images of one\u{2019}s own, {title}.", self.name);
        let own = self.on_own(title, name, description, FOLDER)?;
        own.validate()?;
        Ok(own)
    }

    /// The same on embeddings of another model, rows of `inputs` numbers: a projection of them takes the encoder's place.
    ///
    /// # Errors
    /// An experiment without `[own_split]` or `[projection]`; names that are not valid.
    pub fn on_own_embeddings(self, title: &str, name: &str, inputs: usize) -> Result<Self> {
        let rule = "embeddings of another model need a table [projection] with `outputs`, `hidden` and `normalize`; add it, or extend `quick`, which has one";
        let projection = self.projection.ok_or_else(|| Error::value("projection", "absent", rule))?;
        let what = if projection.hidden == 0 { "a linear projection" } else { "a projection with a hidden layer" };
        let description =
            format!("The heads of the experiment {} on {what} of the frozen embeddings {title}.", self.name);
        let mut own = self.on_own(title, name, description, EMBEDDINGS)?;
        own.training.encoder = PROJECTION.into();
        own.training.projection = Some(ProjectionConfig { inputs: Some(inputs), ..projection });
        own.validate()?;
        Ok(own)
    }

    fn on_own(mut self, title: &str, name: &str, description: String, dataset: &str) -> Result<Self> {
        let rule = "images of one's own need a table [own_split] with `validation_share` and `seed`; add it, or extend `quick`, which has one";
        let split = self.own_split.ok_or_else(|| Error::value("own_split", "absent", rule))?;
        self.description = description;
        self.name = format!("{name}-{}", self.name);
        self.data.dataset = dataset.into();
        self.data.own = Some(OwnData { name: title.into(), split });
        (self.data.synthetic_fallback, self.data.synthetic) = (false, None);
        Ok(self)
    }

    /// Checks every value against its range.
    pub fn validate(&self) -> Result<()> {
        let Self { training, analysis, own_split, projection, tuning, heads, conditions, .. } = self;
        require(is_plain_name(&self.name), "name", &self.name, NAME_RULE)?;
        self.data.validate()?;
        require(!training.seeds.is_empty(), "training.seeds", "empty", "at least one seed is needed")?;
        require_distinct(&training.seeds, "training.seeds", "each seed may stand only once")?;
        require(
            training.batch_size >= 2,
            "training.batch_size",
            training.batch_size,
            "batch norm needs at least 2 images",
        )?;
        require(is_plain_name(&training.encoder), "training.encoder", &training.encoder, NAME_RULE)?;
        let rule = "a frozen encoder needs weights from elsewhere: set training.encoder_init to a file, or leave encoder_frozen out";
        let valid = !training.encoder_frozen || training.encoder_init.is_some();
        require(valid, "training.encoder_frozen", true, rule)?;
        let scale = training.encoder_learning_rate_scale.unwrap_or(1.0);
        require(is_positive(scale), "training.encoder_learning_rate_scale", scale, POSITIVE)?;
        let rule = "a frozen encoder has no learning rate; leave one of the two out";
        let valid = !training.encoder_frozen || training.encoder_learning_rate_scale.is_none();
        require(valid, "training.encoder_learning_rate_scale", scale, rule)?;
        let file = training.encoder_init.as_deref().unwrap_or_default();
        let rule = "frozen embeddings have no encoder to start; leave it out";
        require(training.encoder_init.is_none() || training.projection.is_none(), "training.encoder_init", file, rule)?;
        let share = training.class_sampling.unwrap_or(1.0);
        let rule = "it must lie in (0, 1]: a share of the classes; leave it out for all of them";
        require(share > 0.0 && share <= 1.0, "training.class_sampling", share, rule)?;
        training.validate_recipe("training", &self.data)?;
        // Far above what helps; beyond lies what takes days or fills the memory by a slip of the finger.
        for (key, value, most) in [
            ("training.batch_size", training.batch_size, 65_536),
            ("tuning.trials", tuning.as_ref().map_or(1, |tuning| tuning.trials), 10_000),
            ("analysis.headline_neighbors", analysis.headline_neighbors, 100_000),
            ("analysis.bootstrap_resamples", analysis.bootstrap_resamples, 1_000_000),
            ("analysis.calibration_bins", analysis.calibration_bins, 100_000),
            ("analysis.tsne_iterations", analysis.tsne_iterations, 100_000),
        ] {
            let rule = format!("it must lie in 1 ..= {most}; more would take days or memory and change nothing");
            require((1..=most).contains(&value), key, value, &rule)?;
        }
        let runs = heads.len().saturating_mul(conditions.len().max(1)).saturating_mul(training.seeds.len());
        let rule = format!(
            "heads x conditions x seeds must be at most {MOST_RUNS}: each is trained, drawn and listed; split the experiment"
        );
        require(runs <= MOST_RUNS, "number of runs", runs, &rule)?;
        let rule = format!(
            "an experiment has at most {MOST_HEADS} heads, combinations counted: each gets pictures of its own; split it"
        );
        require(heads.len() <= MOST_HEADS, "number of heads", heads.len(), &rule)?;
        for (key, value) in [
            ("training.peak_learning_rate", training.peak_learning_rate),
            ("training.start_divisor", training.start_divisor),
            ("training.end_divisor", training.end_divisor),
            ("training.epsilon", training.epsilon),
            ("training.warmup_fraction", training.warmup_fraction),
            ("analysis.vote_temperature", analysis.vote_temperature),
        ] {
            require(is_positive(value), key, value, POSITIVE)?;
        }
        for (key, value) in [
            ("training.warmup_fraction", training.warmup_fraction),
            ("training.beta1_high", training.beta1_high),
            ("training.beta1_low", training.beta1_low),
            ("training.beta2", training.beta2),
            ("training.weight_decay", training.weight_decay),
        ] {
            require((0.0..1.0).contains(&value), key, value, "it must lie in [0, 1)")?;
        }
        for (key, values) in [
            ("analysis.knn_neighbors", &analysis.knn_neighbors[..]),
            ("analysis.pca_components", &analysis.pca_components),
            ("analysis.headline_components", &analysis.headline_components),
        ] {
            let valid = !values.is_empty() && !values.contains(&0);
            require(valid, key, format!("{values:?}"), "it must list numbers of at least 1")?;
        }
        let most = analysis.tsne_most_points.unwrap_or(usize::MAX);
        let rule = "fewer than 10 points make no map; absent means all";
        require(most >= 10, "analysis.tsne_most_points", most, rule)?;
        let perplexity = analysis.tsne_perplexity;
        require(
            (1.0..=10_000.0).contains(&perplexity),
            "analysis.tsne_perplexity",
            perplexity,
            "it must lie in [1, 10000]",
        )?;
        if let Some(split) = own_split {
            split.validate("own_split")?;
        }
        if let Some(projection) = projection {
            projection.validate("projection")?;
            let rule = "the file of embeddings tells how many numbers its rows have; leave it out";
            let inputs = projection.inputs.unwrap_or_default();
            require(projection.inputs.is_none(), "projection.inputs", inputs, rule)?;
        }
        let projects = training.encoder == PROJECTION;
        let rule = "`projection` is the encoder of `data.dataset = \"embeddings\"`, which `benchmark --embeddings` makes, and of no other";
        require(projects == self.data.is_embeddings(), "training.encoder", &training.encoder, rule)?;
        let whole = training.projection.is_some_and(|projection| projection.inputs.is_some());
        let rule = "the encoder `projection` has a table with `inputs`, `outputs`, `hidden` and `normalize`, and no other encoder has one";
        let there = if training.projection.is_some() { "there" } else { "absent" };
        require(whole == projects && training.projection.is_some() == projects, "training.projection", there, rule)?;
        if let Some(projection) = &training.projection {
            projection.validate("training.projection")?;
        }
        if let Some(tuning) = tuning {
            require_range(tuning.peak_learning_rate, "tuning.peak_learning_rate", None, "0 < low <= high")?;
            require_range(tuning.scale, "tuning.scale", None, "0 < low <= high")?;
            let most = (0.0, FRAC_PI_2);
            require_range(tuning.margin_radians, "tuning.margin_radians", Some(most), "0 <= low <= high <= pi/2")?;
            require_range(tuning.margin_cosine, "tuning.margin_cosine", Some((0.0, 1.0)), "0 <= low <= high <= 1")?;
        }
        require(!heads.is_empty(), "heads", "empty", "an experiment needs at least one [[heads]] block")?;
        let names: Vec<_> = heads.iter().map(|variant| &variant.name).collect();
        let rule = "another head has the same name; give each [[heads]] block a `name` of its own";
        require_distinct(&names, "heads.name", rule)?;
        for HeadVariant { name, peak_learning_rate, sampler, .. } in heads {
            require(is_plain_name(name), "heads.name", name, NAME_RULE)?;
            if let Some(sampler) = sampler.or(training.sampler) {
                let Sampler { classes, images } = sampler;
                let valid = classes >= 2 && images >= 2 && classes.checked_mul(images) == Some(training.batch_size);
                let rule = "both must be at least 2 and their product training.batch_size";
                require(valid, format!("{name}: sampler"), sampler, rule)?;
            }
            let rate = peak_learning_rate.unwrap_or(1.0);
            require(is_positive(rate), format!("{name}: peak_learning_rate"), rate, POSITIVE)?;
        }
        let names: Vec<_> = conditions.iter().map(|condition| &condition.name).collect();
        require_distinct(&names, "conditions.name", "another condition has the same name")?;
        for condition in conditions {
            require(is_plain_name(&condition.name), "conditions.name", &condition.name, NAME_RULE)?;
            let factor = condition.epochs_factor.unwrap_or(1.0);
            require(is_positive(factor), "conditions.epochs_factor", factor, POSITIVE)?;
            let data = self.data_under(Some(condition));
            data.validate()?;
            self.training_under(Some(condition)).validate_recipe("conditions", &data)?;
        }
        let mut files = BTreeMap::new();
        for (condition, HeadVariant { name, .. }) in
            self.each_condition().flat_map(|c| heads.iter().map(move |h| (c, h)))
        {
            let variant = variant_name(name, condition);
            let lower = variant.to_ascii_lowercase();
            let rule = "pictures of all heads together are called so; give the head another `name`";
            require(lower != "all" && !lower.starts_with("all_"), "heads.name", name, rule)?;
            // Some file systems take upper and lower case for one.
            if let Some(other) = files.insert(lower, variant.clone()) {
                let rule = format!(
                    "runs of another head would have the same folder, `{other}` (some file systems take capital letters for small \
                     ones); give one of them another `name`"
                );
                return Err(Error::value("heads.name", name, rule));
            }
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
        if let Some(Condition { label_noise_percent, held_out_classes, flip, .. }) = condition {
            data.label_noise_percent = label_noise_percent.unwrap_or(data.label_noise_percent);
            data.held_out_classes = held_out_classes.clone().unwrap_or(data.held_out_classes);
            data.augmentation.flip = flip.unwrap_or(data.augmentation.flip);
        }
        data
    }

    /// `[training]` as `condition` changes it.
    pub(crate) fn training_under(&self, condition: Option<&Condition>) -> TrainingConfig {
        let mut training = self.training.clone();
        if let Some(Condition { epochs_factor, progressive_resizing, label_smoothing, ema, blur_pool, .. }) = condition
        {
            // A cast holds what is too large at the largest, which is refused.
            training.epochs = (training.epochs as f64 * epochs_factor.unwrap_or(1.0)).round() as usize;
            training.progressive_resizing = progressive_resizing.clone().unwrap_or(training.progressive_resizing);
            training.ema = ema.or(training.ema);
            training.blur_pool = blur_pool.unwrap_or(training.blur_pool);
            training.label_smoothing = label_smoothing.unwrap_or(training.label_smoothing);
        }
        training
    }
}

/// An experiment file, read: its experiment, and where each of its values comes from.
pub struct ExperimentFile {
    /// What it says.
    pub experiment: Experiment,
    layers: Layers,
}

impl ExperimentFile {
    /// Reads and validates `<folder>/<name>.toml`. What it extends is looked for beside it, then among `built_in`, names and
    /// texts of experiment files.
    pub fn load(folder: &Path, name: &str, built_in: &[(&str, &str)]) -> Result<Self> {
        let path = folder.join(format!("{name}.toml"));
        if !is_plain_name(name) || !path.is_file() {
            let known = Experiment::names(folder)?.join(", ");
            return Err(Error::UnknownExperiment { name: name.into(), path, known });
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let file = Self::parse(&text, &path, built_in)?;
        let found = &file.experiment.name;
        require(found == name, "name", found, &format!("it must be `{name}` like its file"))
            .map_err(|error| file.layers.located(error))?;
        Ok(file)
    }

    /// The same for a text that is already there; `path` says where it belongs.
    pub fn parse(text: &str, path: &Path, built_in: &[(&str, &str)]) -> Result<Self> {
        let layers = Layers::read(text, path, built_in)?;
        let experiment: Experiment = layers.deserialize()?;
        experiment.validate().map_err(|error| layers.located(error))?;
        Ok(Self { experiment, layers })
    }

    /// The experiment as TOML with nothing left to resolve. Where a value, or a list of tables as a whole, comes from a file
    /// that this one extends, that file's name stands behind it.
    pub fn show(&self) -> String {
        let mut shown = String::new();
        // The table at hand with a dot behind it; none within a list of tables.
        let mut table = Some(String::new());
        for line in self.experiment.to_toml().lines() {
            let title = line.trim_matches(['[', ']']).to_string();
            let key = if line.starts_with("[[") {
                table = None;
                Some(title)
            } else if line.starts_with('[') {
                table = Some(title + ".");
                None
            } else {
                line.split_once(" = ").and_then(|(key, _)| Some(table.clone()? + key))
            };
            shown += line;
            if let Some(file) = key.and_then(|key| self.layers.lower_file_of(&key)?.file_name()) {
                shown += &format!("  # {}", file.display());
            }
            shown.push('\n');
        }
        shown
    }
}

/// Name of the encoder of [`EMBEDDINGS`].
const PROJECTION: &str = "projection";
const NAME_RULE: &str = "it must be letters, digits, `.`, `_` and `-`, and start with a letter or digit";
const POSITIVE: &str = "it must be a finite number above 0";
/// Runs and variants of one experiment.
const MOST_RUNS: usize = 10_000;
const MOST_HEADS: usize = 500;
/// Far above what helps.
const MOST_EPOCHS: usize = 100_000;
/// Sides of images.
const SIDES_PX: RangeInclusive<usize> = 16..=1024;

/// What a head is called under a condition: its runs and pictures have this name.
pub(crate) fn variant_name(head: &str, condition: Option<&Condition>) -> String {
    condition.map_or_else(|| head.into(), |condition| format!("{head}-{}", condition.name))
}

/// Names become folders, so they must not climb or hide.
fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

/// Whether a number that is left out where it is 0 is so.
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn is_positive(value: f64) -> bool {
    value.is_finite() && value > 0.0
}

/// Ok if the value of a key is valid, otherwise an error with the rule that it breaks.
fn require(valid: bool, key: impl Into<String>, value: impl ToString, rule: &str) -> Result<()> {
    if valid { Ok(()) } else { Err(Error::value(key, value, rule)) }
}

/// Ok if `range` is [low, high] within `ends`, or above 0 where none are given; `rule` says the same for people.
fn require_range(range: [f64; 2], key: &str, ends: Option<(f64, f64)>, rule: &str) -> Result<()> {
    let ([low, high], (least, most)) = (range, ends.unwrap_or((f64::MIN_POSITIVE, f64::MAX)));
    let valid = least <= low && low <= high && high <= most;
    require(valid, key, format!("{range:?}"), &format!("it must be [low, high] with {rule}"))
}

/// Ok if no value of a key stands twice.
fn require_distinct(values: &[impl PartialEq + ToString], key: &str, rule: &str) -> Result<()> {
    let twice = values.iter().enumerate().find(|(index, value)| values[..*index].contains(value));
    twice.map_or(Ok(()), |(_, value)| Err(Error::value(key, value.to_string(), rule)))
}

impl OwnSplit {
    fn validate(&self, table: &str) -> Result<()> {
        let (share, rule) = (self.validation_share, "it must lie in [0.01, 0.9]: both sides need images");
        require((0.01..=0.9).contains(&share), format!("{table}.validation_share"), share, rule)
    }
}

impl DataConfig {
    /// Whether the images are those that `[data.synthetic]` describes.
    pub fn is_synthetic(&self) -> bool {
        self.dataset == SYNTHETIC
    }

    /// Whether embeddings of another model stand for the images.
    pub fn is_embeddings(&self) -> bool {
        self.dataset == EMBEDDINGS
    }

    fn validate(&self) -> Result<()> {
        let (size, noise) = (self.image_size_px, self.label_noise_percent);
        require(is_plain_name(&self.dataset), "data.dataset", &self.dataset, NAME_RULE)?;
        require(SIDES_PX.contains(&size), "data.image_size_px", size, "it must lie in 16 ..= 1024")?;
        let rule = "it must be at least 1, or absent for all images";
        require(self.images_per_split != Some(0), "data.images_per_split", 0, rule)?;
        let rule = "the data set has columns for 0, 1, 5, 25 and 50 only";
        require([0, 1, 5, 25, 50].contains(&noise), "data.label_noise_percent", noise, rule)?;
        require_distinct(&self.held_out_classes, "data.held_out_classes", "each class may stand only once")?;
        let needed = self.is_synthetic() || self.synthetic_fallback;
        let rule = "the synthetic set needs a [data.synthetic] table";
        require(self.synthetic.is_some() || !needed, "data.synthetic", "absent", rule)?;
        if let Some(SyntheticConfig { train_images, val_images, image_px, .. }) = self.synthetic {
            let rule = "ten classes need at least 10 images";
            require(train_images >= 10, "data.synthetic.train_images", train_images, rule)?;
            require(val_images >= 10, "data.synthetic.val_images", val_images, rule)?;
            require((16..=512).contains(&image_px), "data.synthetic.image_px", image_px, "it must lie in 16 ..= 512")?;
        }
        if let Some(OwnData { name, split }) = &self.own {
            let rule = "[data.own] goes with data.dataset = \"folder\" or \"embeddings\"";
            let valid = self.dataset == FOLDER || self.is_embeddings();
            require(valid, "data.dataset", &self.dataset, rule)?;
            let valid = !name.trim().is_empty() && name.chars().count() <= 100 && !name.contains(char::is_control);
            require(valid, "data.own.name", name.escape_debug(), "it must be a name of 1 to 100 characters")?;
            split.validate("data.own.split")?;
            let rule = "images of one's own have no noisy labels; set it to 0, or take another experiment";
            require(noise == 0, "data.label_noise_percent", noise, rule)?;
        }
        let rule =
            "embeddings need a table [data.own], which `benchmark --embeddings` writes; pass that option instead";
        require(self.own.is_some() || !self.is_embeddings(), "data.dataset", &self.dataset, rule)?;
        let AugmentationConfig { crop_scale, crop_aspect, flip_probability, flip, eval_resize_factor } =
            self.augmentation;
        let rule =
            "0.001 <= low <= high <= 1: shares of the image's area, of which less than a thousandth shows nothing";
        require_range(crop_scale, "data.augmentation.crop_scale", Some((0.001, 1.0)), rule)?;
        require_range(crop_aspect, "data.augmentation.crop_aspect", None, "0 < low <= high")?;
        let (valid, key) = ((0.0..=1.0).contains(&flip_probability), "data.augmentation.flip_probability");
        require(valid, key, flip_probability, "it must lie in [0, 1]")?;
        let rule = "with flip = \"alternating\" every view is mirrored in every second epoch: set it to 0.5";
        require(flip.is_random() || flip_probability == 0.5, key, flip_probability, rule)?;
        let rule = "embeddings of another model are not mirrored; leave it out";
        let valid = flip.is_random() || !self.is_embeddings();
        require(valid, "data.augmentation.flip", "alternating", rule)?;
        let (valid, key) = ((1.0..=4.0).contains(&eval_resize_factor), "data.augmentation.eval_resize_factor");
        require(valid, key, eval_resize_factor, "it must lie in [1, 4]")
    }
}
