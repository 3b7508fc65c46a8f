//! What is measured on one run.

use crate::look::Look;
use crate::registry::{Family, MetricId, Registry};
use crate::sample::stratified;
use crate::selection::Run;
use faceoff_analysis::calibration::ReliabilityBin;
pub use faceoff_analysis::geometry::CenterAngles;
use faceoff_analysis::statistics::{self, Interval};
use faceoff_analysis::tsne::{self, TsneConfig};
use faceoff_analysis::{Error, Result, accuracy, geometry, pca, retrieval};
use faceoff_runs::{AnalysisConfig, Embeddings, Engine, HeadConfig, Manifest, RunFolder, SplitName, thousands};
use ndarray::{Array2, Array3, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

/// What the families found on one run: numbers for tables, shapes for pictures.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// In the order of the tables.
    pub values: Vec<(MetricId, f64)>,
    /// 95 % bootstrap intervals over images.
    pub intervals: Vec<(MetricId, Interval)>,
    /// Which of the validation images an accuracy counts as right.
    pub right: Vec<(MetricId, Vec<bool>)>,
    /// Curves and matrices.
    pub shapes: Shapes,
    /// What could not be measured, and why.
    pub notes: Vec<String>,
}

/// What pictures show beyond numbers; absent where it was not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shapes {
    /// Number of images by true class and predicted class, by the head's highest score on the validation images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<u64>>,
    /// Share of the training embeddings' variance along each component, greatest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub variance_ratios: Vec<f64>,
    /// Of all pairs of validation images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<PairCurves>,
    /// Between class centres.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub centers: Option<CenterAngles>,
    /// The reliability curve: bins of the confidence that hold images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reliability: Vec<ReliabilityBin>,
    /// Where the validation embeddings lie to the class weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthShapes>,
    /// How the training images lie to several weights a class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sub_centers: Option<SubCenterShapes>,
}

/// How the training images lie to several weights a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubCenterShapes {
    /// Training images by class trained on and nearest weight of it.
    pub counts: Vec<Vec<u64>>,
    /// Those farthest from the dominant weight of their class, the farthest first.
    pub farthest: Vec<Outlier>,
}

/// A training image far from the dominant weight of its class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outlier {
    /// Relative path.
    pub id: String,
    /// The class trained on.
    pub trained: u32,
    /// The true class.
    pub label: u32,
    /// Angle to the dominant weight.
    pub degrees: f64,
}

/// Where the validation embeddings lie to the class weights, by whole degrees of the angle to their own.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthShapes {
    /// Images at each of 180 degrees; empty without class weights.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub own_angles: Vec<u64>,
    /// pi - m in degrees, for a margin of radians.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_degrees: Option<f64>,
    /// Degree, images, and mean probability of the label under the training logits, where there are images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub probabilities: Vec<(usize, u64, f64)>,
}

/// Verification over all pairs of validation images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairCurves {
    /// Points (false accept rate, true accept rate), rising.
    pub roc: Vec<(f64, f64)>,
    /// Pairs of one class by whole degrees of their angle.
    pub intra_class: Vec<u64>,
    /// Pairs of two classes by whole degrees of their angle.
    pub inter_class: Vec<u64>,
}

impl Findings {
    /// One more value.
    pub fn add(&mut self, metric: MetricId, value: f64) {
        self.values.push((metric, value));
    }

    /// Which images an accuracy counts as right, and its interval over them.
    ///
    /// # Errors
    /// No images.
    pub fn resample(
        &mut self,
        metric: MetricId,
        predicted: &[u32],
        labels: &[u32],
        subject: &Subject<'_>,
    ) -> Result<()> {
        let right: Vec<bool> = predicted.iter().zip(labels).map(|(a, b)| a == b).collect();
        let interval = statistics::bootstrap_accuracy(&right, subject.settings.bootstrap_resamples, subject.seed)?;
        self.intervals.push((metric, interval));
        self.right.push((metric, right));
        Ok(())
    }

    /// The value of a metric.
    pub fn value(&self, metric: MetricId) -> Option<f64> {
        self.values.iter().find(|(id, _)| *id == metric).map(|&(_, value)| value)
    }

    /// The interval of a metric over images.
    pub fn interval(&self, metric: MetricId) -> Option<Interval> {
        self.intervals.iter().find(|(id, _)| *id == metric).map(|&(_, interval)| interval)
    }

    /// Which images an accuracy counts as right.
    pub fn right(&self, metric: MetricId) -> Option<&[bool]> {
        self.right.iter().find(|(id, _)| *id == metric).map(|(_, right)| &right[..])
    }

    /// What another family found, behind this.
    pub(crate) fn append(&mut self, other: Self) {
        let Shapes { confusion, variance_ratios, verification, centers, reliability, health, sub_centers } =
            other.shapes;
        self.values.extend(other.values);
        self.intervals.extend(other.intervals);
        self.right.extend(other.right);
        self.notes.extend(other.notes);
        let shapes = &mut self.shapes;
        shapes.confusion.extend(confusion);
        shapes.variance_ratios.extend(variance_ratios);
        shapes.verification = shapes.verification.take().or(verification);
        shapes.centers = shapes.centers.take().or(centers);
        shapes.reliability.extend(reliability);
        shapes.health = shapes.health.take().or(health);
        shapes.sub_centers = shapes.sub_centers.take().or(sub_centers);
    }

    /// Measures one thing, or notes why it is not defined.
    fn part(&mut self, what: &str, measure: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = measure(self) {
            self.notes.push(format!("no {what}: {error}."));
        }
    }
}

/// Everything measured on one run.
#[derive(Debug, Clone)]
pub struct Measured {
    /// The run's folder name.
    pub run: String,
    /// Index of the variant in the selection.
    pub variant: usize,
    /// The run's seed.
    pub seed: u64,
    /// What the families found.
    pub found: Findings,
    /// Maps of the validation images, of the first seed of variants with pictures of their own.
    pub maps: Option<Maps>,
    /// What can be looked at image by image, of the same runs as far as their embeddings are there.
    pub look: Option<Look>,
}

impl Measured {
    /// The value of a metric.
    pub fn value(&self, metric: MetricId) -> Option<f64> {
        self.found.value(metric)
    }

    /// What could not be measured.
    pub fn notes(&self) -> impl Iterator<Item = &str> {
        let maps = self.maps.iter().flat_map(|maps| &maps.notes);
        let look = self.look.iter().flat_map(|look| &look.notes);
        self.found.notes.iter().chain(maps).chain(look).map(String::as_str)
    }
}

/// Coordinates of the validation images.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Maps {
    /// The images.
    pub images: ValImages,
    /// Each image along the first three components of the validation embeddings; 0 along components that do not exist.
    pub pca: Option<Vec<[f64; 3]>>,
    /// Share of the validation embeddings' variance along them.
    pub pca_ratios: Vec<f64>,
    /// Each image's place in the plane; `None` for those outside of the sample where there are more than t-SNE takes.
    pub tsne: Option<Vec<Option<[f64; 2]>>>,
    /// What could not be laid out as asked, and why.
    pub notes: Vec<String>,
}

/// Ids and labels of the validation images: the same for every run of a variant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ValImages {
    /// Relative paths.
    pub ids: Vec<String>,
    /// Classes, counted from 0.
    pub labels: Vec<u32>,
}

impl ValImages {
    pub(crate) fn of(split: &Embeddings) -> Self {
        Self { ids: split.ids.clone(), labels: split.labels.clone() }
    }
}

/// Both splits of one run.
pub struct Splits {
    pub(crate) train: Embeddings,
    pub(crate) val: Embeddings,
    pub(crate) head: HeadConfig,
    /// The class weights of the head, (K, C, D), K of each class; `None` where it has none.
    pub(crate) weights: Option<Array3<f32>>,
    /// Whether the head scores no classes: a loss of pairs, whose stored scores are cosines with class means.
    pub(crate) scored_by_means: bool,
    /// Whether the classes of `train` and `val` were held out from training.
    pub(crate) held_out: bool,
    /// If so, both splits of the classes trained on, if they are there.
    pub(crate) seen: Option<[Embeddings; 2]>,
}

impl Splits {
    /// Reads them.
    ///
    /// # Errors
    /// Files that are missing or damaged.
    pub fn read(run: &RunFolder, manifest: &Manifest) -> faceoff_runs::Result<Self> {
        let [train, val] = [run.embeddings(manifest, SplitName::Train)?, run.embeddings(manifest, SplitName::Val)?];
        let (head, weights) = (manifest.spec.variant.head.clone(), run.class_weights(manifest)?);
        // Made-up runs have no file of the head.
        let scored_by_means = weights.is_none() && manifest.files.contains_key("head.safetensors");
        let (held_out, seen) = (!manifest.spec.data.held_out_classes.is_empty(), run.seen_embeddings(manifest)?);
        Ok(Self { train, val, head, weights, scored_by_means, held_out, seen })
    }

    /// Changes whenever a validation image, its label or their order does.
    pub(crate) fn images_digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let images = self.val.ids.iter().zip(&self.val.labels);
        images.for_each(|(id, label)| _ = hasher.update(format!("{id}\n{label}\n").as_bytes()));
        hasher.finalize().to_hex().to_string()
    }

    /// The scores that the head gives the images of a split; `None` for a loss of pairs, which scores no classes, and where they were too
    /// many to be kept.
    pub(crate) fn scores<'a>(&self, split: &'a Embeddings) -> Option<ArrayView2<'a, f32>> {
        let kept = !split.scores.is_empty() || split.is_empty();
        (kept && !self.scored_by_means).then(|| split.scores())
    }

    /// The class that the head gives each image of a split, labels withheld. A loss of pairs has none: it is that of the nearest class
    /// mean of the training embeddings, by the labels trained on.
    ///
    /// # Errors
    /// A class whose embeddings cancel out; scores that were not kept.
    pub(crate) fn predictions(&self, split: &Embeddings) -> Result<Vec<u32>> {
        match self.scores(split) {
            Some(scores) => Ok(accuracy::predictions(scores)),
            None if !self.scored_by_means => {
                let rule = "the scores of these images were too many to be kept";
                Err(Error::undefined("the class of the highest score", rule, "evaluate on fewer images or classes"))
            }
            None => geometry::nearest_center_predictions(self.train.unit(), &self.train.labels_trained, split.unit()),
        }
    }

    /// Maps of the validation images.
    pub(crate) fn lay_out(&self, settings: &AnalysisConfig) -> Maps {
        lay_out(self.val.unit(), ValImages::of(&self.val), settings)
    }

    /// What families measure of a run.
    pub(crate) fn subject_of<'a>(&'a self, run: &Run, settings: &'a AnalysisConfig) -> Subject<'a> {
        let classes = run.manifest.data.classes.len();
        // The scores say nothing of classes that training never saw.
        let classifies = self.val.classes == classes && run.manifest.spec.data.held_out_classes.is_empty();
        self.subject(classes, classifies, run.seed(), settings)
    }

    /// What families measure. `classifies` says whether the scores are about the evaluated classes.
    pub fn subject<'a>(
        &'a self,
        classes: usize,
        classifies: bool,
        seed: u64,
        settings: &'a AnalysisConfig,
    ) -> Subject<'a> {
        Subject {
            index: Some(Points::of(&self.train)),
            queries: Points::of(&self.val),
            classifier: classifies.then_some(self),
            held_out: self.held_out.then_some(self),
            classes,
            seed,
            settings,
        }
    }
}

/// What a family measures: the embeddings of one run with all that is known of them.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The training images; `None` where there is one set of embeddings, each to be compared with all others.
    pub index: Option<Points<'a>>,
    /// The evaluated images.
    pub queries: Points<'a>,
    /// Both splits with their scores; `None` where the scores say nothing of the evaluated classes.
    pub classifier: Option<&'a Splits>,
    /// The run where the evaluated classes were held out from training.
    pub held_out: Option<&'a Splits>,
    /// Number of evaluated classes.
    pub classes: usize,
    /// The run's seed, for resampling.
    pub seed: u64,
    /// The numbers that decide the results.
    pub settings: &'a AnalysisConfig,
}

impl Subject<'_> {
    /// The queries with another image of their class among those that they are compared with, training images or the other queries;
    /// see [`retrieval::with_classmate`].
    pub(crate) fn with_classmate(&self) -> Vec<usize> {
        retrieval::with_classmate(self.index.map(|index| index.labels), self.queries.labels)
    }
}

/// The values in these places.
pub(crate) fn at<T: Copy>(places: &[usize], values: &[T]) -> Vec<T> {
    places.iter().map(|&place| values[place]).collect()
}

/// Embeddings with their labels, whatever they come from.
#[derive(Clone, Copy)]
pub struct Points<'a> {
    /// (N, D), unit length.
    pub unit: ArrayView2<'a, f32>,
    /// Classes, counted from 0.
    pub labels: &'a [u32],
}

impl<'a> Points<'a> {
    pub(crate) fn of(split: &'a Embeddings) -> Self {
        Self { unit: split.unit(), labels: &split.labels }
    }
}

/// Measures every family of the registry.
///
/// What is not defined is left out, and the notes say why; the rest does not suffer.
pub fn measure(subject: &Subject<'_>, registry: &Registry) -> Findings {
    let mut all = Findings::default();
    registry.families().iter().for_each(|family| all.append(measure_family(subject, family)));
    all
}

/// Measures one family.
pub(crate) fn measure_family(subject: &Subject<'_>, family: &Family) -> Findings {
    let mut found = Findings::default();
    found.part(family.name, |found| (family.measure)(subject, found));
    found
}

/// PCA and t-SNE coordinates of the images.
pub fn lay_out(data: ArrayView2<'_, f32>, images: ValImages, settings: &AnalysisConfig) -> Maps {
    let mut maps = Maps { images, ..Maps::default() };
    let mut found = Findings::default();
    let (points, dim) = data.dim();
    found.part("PCA map", |_| {
        let components = 3.min(points).min(dim);
        let fitted = match settings.engine {
            Engine::Fast => pca::fit(data, components)?,
            Engine::Linfa => pca::fit_linfa(data, components)?,
        };
        let places = fitted.transform(data)?;
        let place = |row: ArrayView1<'_, f32>| [0, 1, 2].map(|at| row.get(at).map_or(0.0, |&x| f64::from(x)));
        maps.pca = Some(places.rows().into_iter().map(place).collect());
        maps.pca_ratios = fitted.explained_variance_ratio;
        Ok(())
    });
    let mut sample = Vec::new();
    let mut sampled = None;
    if let Some(most) = settings.tsne_most_points.filter(|&most| points > most) {
        let seed = settings.tsne_seed;
        found.notes.push(format!(
            "t-SNE maps {} of {} images, a share of each class chosen by seed {seed}; everything else is measured on all.",
            thousands(most),
            thousands(points)
        ));
        sample = stratified(&maps.images.labels, most, seed);
        sampled = Some(data.select(Axis(0), &sample));
    }
    let mapped = sampled.as_ref().map_or(data.view(), Array2::view);
    let points = mapped.nrows();
    let wanted = settings.tsne_perplexity;
    let perplexity = wanted.min(points.saturating_sub(1) as f64 / 3.0);
    if perplexity < wanted {
        let why = format!("{points} images allow no more");
        found.notes.push(format!("t-SNE took perplexity {perplexity:.1} instead of {wanted}: {why}."));
    }
    let tsne_settings = TsneConfig { perplexity, iterations: settings.tsne_iterations, seed: settings.tsne_seed };
    found.part("t-SNE map", |_| {
        let embedded = match settings.engine {
            Engine::Fast => tsne::embed(mapped, &tsne_settings)?,
            Engine::Linfa => tsne::embed_linfa(mapped, &tsne_settings)?,
        };
        let found = embedded.coordinates.rows().into_iter().map(|row| Some([row[0], row[1]]));
        maps.tsne = Some(match sampled.is_some() {
            false => found.collect(),
            true => {
                let mut places = vec![None; data.nrows()];
                sample.iter().zip(found).for_each(|(&image, place)| places[image] = place);
                places
            }
        });
        Ok(())
    });
    maps.notes = found.notes;
    maps
}
