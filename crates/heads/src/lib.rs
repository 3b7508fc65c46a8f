//! Heads: embeddings and labels to a loss, and to class scores where a head has class weights. One file a head, with its
//! parameters, and one table of them all, [`HEADS`].
//!
//! In every file c = cos(theta) is the cosine between an embedding and a class weight, both brought to unit length; y is
//! the label; m the margin; s the scale. Most heads differ only in what happens to the cosine of the labelled class, so what
//! they share is written once, in `cosine.rs`. The reference of the article's seven heads is Catalyst 22.4, that of the others
//! their paper; where a head departs from it, its file says so.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use faceoff_heads::{Error, build};
//! use faceoff_runs::{HeadConfig, HeadInit};
//!
//! let cosface = HeadConfig::new("CosFace").with("scale", 64.0).with("margin_cosine", 0.35);
//! let head = build(&cosface, 2, 3, HeadInit::Uniform, 0, &Device::Cpu, DType::F64)?;
//!
//! // An embedding (batch, dim) and its label give the logits (batch, classes) of the loss: the label's cosine less m, all
//! // times s. A prediction takes the scores, which are plain cosines.
//! let embeddings = Tensor::new(&[[0.6, 0.8]], &Device::Cpu)?;
//! let labels = Tensor::new(&[2u32], &Device::Cpu)?;
//! let logits = head.labelled_logits(&embeddings, &labels)?.expect("CosFace has logits").to_vec2::<f64>()?;
//! let scores = head.scores(&embeddings)?.expect("CosFace scores classes").to_vec2::<f64>()?;
//! for (class, (logit, cosine)) in logits[0].iter().zip(&scores[0]).enumerate() {
//!     let margin = if class == 2 { 0.35 } else { 0.0 };
//!     assert!((logit - 64.0 * (cosine - margin)).abs() < 1e-9);
//! }
//!
//! // What an experiment gets wrong is answered with the value and the rule.
//! let refused = build(&cosface.with("scale", -1.0), 2, 3, HeadInit::Uniform, 0, &Device::Cpu, DType::F64);
//! assert_eq!(refused.err().unwrap().to_string(), "`CosFace: scale` is -1.0, but it must be a finite number above 0, or \"auto\": sqrt(2) ln(C - 1) for C classes");
//! # Ok::<(), Error>(())
//! ```

mod adacos;
mod adaface;
mod arc_margin_product;
mod arcface;
mod classification;
mod cosface;
mod cosine;
mod curricularface;
mod error;
mod initialise;
mod magface;
mod normface;
mod pairs;
mod parameters;
mod proxy_anchor;
mod soft_triple;
mod sphereface2;
mod sphereface_r;
mod sub_center_arcface;
mod sup_con;
mod tensors;
mod triplet;

use candle_core::{D, DType, Device, Tensor, Var};
pub use error::Error;
use faceoff_runs::{Experiment, HeadConfig, HeadInit};
use initialise::{Draw, Initialiser};
pub use parameters::ParameterInfo;
use parameters::{ParameterSet, parameters};
use std::f64::consts::SQRT_2;
use std::fmt;

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Named tensors.
pub type State = Vec<(String, Tensor)>;

/// The heads, in the order of tables and pictures. A new head is a file of its own and a row here.
pub static HEADS: &[HeadInfo] = &[
    HeadInfo::of::<classification::Classification>(),
    HeadInfo::of::<arc_margin_product::ArcMarginProduct>(),
    HeadInfo::of::<normface::NormFace>(),
    HeadInfo::of::<cosface::CosFace>(),
    HeadInfo::of::<arcface::ArcFace>(),
    HeadInfo::of::<adacos::AdaCos>(),
    HeadInfo::of::<sub_center_arcface::SubCenterArcFace>(),
    HeadInfo::of::<curricularface::CurricularFace>(),
    HeadInfo::of::<adaface::AdaFace>(),
    HeadInfo::of::<magface::MagFace>(),
    HeadInfo::of::<sphereface_r::SphereFaceR>(),
    HeadInfo::of::<sphereface2::SphereFace2>(),
    HeadInfo::of::<proxy_anchor::ProxyAnchor>(),
    HeadInfo::of::<soft_triple::SoftTriple>(),
    HeadInfo::of::<sup_con::SupCon>(),
    HeadInfo::of::<triplet::Triplet>(),
];

/// A head owns its loss. Shapes: embeddings `(batch, dim)`, labels `(batch,)` u32 on the CPU, scores and logits `(batch, classes)`.
///
/// What is written here is right for a loss of pairs, which has neither weights nor state; for a head with class weights see
/// `ClassHead`.
pub trait Head: Send {
    /// The loss of a batch in a step of training: a head with state renews it first and uses it at once.
    fn loss(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Loss>;

    /// Class scores without labels and without scale; the argmax is the prediction. `None` for a loss of pairs.
    fn scores(&self, _embeddings: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// The logits of the loss: margin and scale applied to the labelled class, with the state as it is. `None` for a head
    /// whose loss is not made of one logit a class.
    fn labelled_logits(&self, _embeddings: &Tensor, _labels: &Tensor) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// The factor of cosines in training: s, or 1 for a head without scale.
    fn effective_scale(&self) -> f64 {
        1.0
    }

    /// The trained tensors, for the optimiser. `weight` holds the vectors of the classes, `(classes, dim)`, or
    /// `(sub_centers, classes, dim)`.
    fn variables(&self) -> Vec<(String, Var)> {
        Vec::new()
    }

    /// Weights and state, on the CPU.
    fn tensors(&self) -> Result<State> {
        Ok(State::new())
    }

    /// Restores what [`Head::tensors`] returned.
    fn load(&mut self, state: &State) -> Result<()> {
        tensors::take(state, []).map(|[]| ())
    }

    /// For each class the vector whose product with an embedding is its score, a bias aside, `(classes, dim)`; of unit
    /// length for a head of cosines. `None` for a head with none or several vectors a class.
    fn class_vectors(&self) -> Result<Option<Tensor>> {
        Ok(None)
    }
}

/// What a head wants small.
pub struct Loss {
    /// The whole loss, a scalar: its gradient trains head and encoder.
    pub value: Tensor,
    /// What it is the sum of, by name, each a scalar; empty where it is one thing.
    pub parts: Vec<(&'static str, Tensor)>,
    /// The logits that it was made from, `(batch, classes)`; `None` where there are none.
    pub logits: Option<Tensor>,
}

impl Loss {
    /// A loss made from logits.
    pub(crate) fn new(value: Tensor, logits: &Tensor) -> Self {
        Self { logits: Some(logits.clone()), ..value.into() }
    }

    /// The same with smoothed labels (Szegedy et al., "Rethinking the Inception Architecture", arXiv:1512.00567, section 7): the targets of
    /// the cross-entropy are `1 - epsilon + epsilon / C` at the label and `epsilon / C` at each other of C classes. An image's cross-entropy is
    /// `ln sum exp z - target . z`, so that adds `epsilon (z_y - mean of z)`, y the label, in the batch's mean. The logits z are those of the loss, scale and margin applied; a margin stays on the label alone. What else is in the loss stays.
    ///
    /// # Errors
    /// Labels that are none. The head must have a softmax: see [`check_smoothing`].
    pub fn smoothed(mut self, labels: &Tensor, epsilon: f64) -> Result<Self> {
        if let Some(logits) = self.logits.as_ref().filter(|_| epsilon > 0.0) {
            let mask = tensors::label_mask(labels, logits)?;
            let labelled = (logits * mask)?.sum(D::Minus1)?;
            let added = ((labelled - logits.mean(D::Minus1)?)?.mean_all()? * epsilon)?;
            self.value = (&self.value + &added)?;
            if !self.parts.is_empty() {
                self.parts.push(("label_smoothing", added));
            }
        }
        Ok(self)
    }
}

impl From<Tensor> for Loss {
    fn from(value: Tensor) -> Self {
        Self { value, parts: Vec::new(), logits: None }
    }
}

/// A head with class weights.
///
/// What is written here is right for cross-entropy over plain cosines with one vector a class and no state; other heads say
/// otherwise.
pub(crate) trait ClassHead: Send {
    /// The trained vectors of the classes, `(classes, dim)`; with a leading `sub_centers` for heads with several a class.
    fn weight(&self) -> &Var;

    fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
        tensors::check_embeddings(embeddings, self.weight().dim(1)?)?;
        cosine::cosines(embeddings, self.weight())
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        Ok(tensors::scores_and_labels(self, embeddings, labels)?.0)
    }

    /// The logits for a step of training: a head with state renews it first and uses it at once.
    fn train_logits(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.labelled_logits(embeddings, labels)
    }

    /// Mean cross-entropy of the logits.
    fn loss(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Loss> {
        let logits = self.train_logits(embeddings, labels)?;
        Ok(Loss::new(tensors::cross_entropy(&logits, labels)?, &logits))
    }

    fn effective_scale(&self) -> f64 {
        1.0
    }

    fn variables(&self) -> Vec<(String, Var)> {
        vec![("weight".into(), self.weight().clone())]
    }

    fn tensors(&self) -> Result<State> {
        Ok(vec![tensors::saved("weight", self.weight())?])
    }

    fn load(&mut self, state: &State) -> Result<()> {
        let [weight] = tensors::take(state, ["weight"])?;
        tensors::restore("weight", self.weight(), weight)
    }

    fn class_vectors(&self) -> Result<Option<Tensor>> {
        Ok(Some(cosine::unit(self.weight())?))
    }
}

impl<H: ClassHead> Head for H {
    fn loss(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Loss> {
        ClassHead::loss(self, embeddings, labels)
    }

    fn scores(&self, embeddings: &Tensor) -> Result<Option<Tensor>> {
        ClassHead::scores(self, embeddings).map(Some)
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Option<Tensor>> {
        ClassHead::labelled_logits(self, embeddings, labels).map(Some)
    }

    fn effective_scale(&self) -> f64 {
        ClassHead::effective_scale(self)
    }

    fn variables(&self) -> Vec<(String, Var)> {
        ClassHead::variables(self)
    }

    fn tensors(&self) -> Result<State> {
        ClassHead::tensors(self)
    }

    fn load(&mut self, state: &State) -> Result<()> {
        ClassHead::load(self, state)
    }

    fn class_vectors(&self) -> Result<Option<Tensor>> {
        ClassHead::class_vectors(self)
    }
}

/// What the table holds of a head: each head's file states it.
pub(crate) trait Definition: Head + Sized + 'static {
    const NAME: &'static str;
    const SUMMARY: &'static str;
    const FORMULA: &'static str;
    const PAPER: &'static str;
    /// What it does to the angles between embeddings and classes.
    const ANGLES: &'static str;
    /// Where it fails.
    const FAILS: &'static str;
    /// When to choose it.
    const CHOOSE: &'static str;
    /// Whether a random share of the negative classes stands for all of them: not where sums over classes are no softmax.
    const SAMPLED: bool = true;
    /// Whether its loss is a cross-entropy over classes, whose labels can be smoothed.
    const SOFTMAX: bool = true;
    /// What an experiment has to state.
    type Parameters: ParameterSet;

    /// The head with fresh weights, for at least two classes and one dimension.
    fn new(parameters: Self::Parameters, start: &Initialiser) -> Result<Self>;
}

/// A row of [`HEADS`].
#[derive(Clone, Copy)]
pub struct HeadInfo {
    /// Its kind, as in an experiment.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its logits.
    pub formula: &'static str,
    /// What an experiment has to state.
    pub parameters: &'static [ParameterInfo],
    /// Where it comes from.
    pub paper: &'static str,
    /// What it does to the angles between embeddings and classes, in a sentence.
    pub angles: &'static str,
    /// Where it fails.
    pub fails: &'static str,
    /// When to choose it.
    pub choose: &'static str,
    /// Whether a step may see a share of the classes (`training.class_sampling`).
    pub sampled: bool,
    /// Whether labels can be smoothed (`training.label_smoothing`): its loss is a cross-entropy over classes.
    pub softmax: bool,
    build: fn(&HeadConfig, &Initialiser) -> Result<Box<dyn Head>>,
}

impl HeadInfo {
    const fn of<H: Definition>() -> Self {
        Self {
            name: H::NAME,
            summary: H::SUMMARY,
            formula: H::FORMULA,
            parameters: H::Parameters::INFO,
            paper: H::PAPER,
            angles: H::ANGLES,
            fails: H::FAILS,
            choose: H::CHOOSE,
            sampled: H::SAMPLED,
            softmax: H::SOFTMAX,
            build: |head, start| Ok(Box::new(H::new(H::Parameters::of(head), start)?)),
        }
    }

    /// The row of a kind.
    pub fn find(kind: &str) -> Result<&'static Self> {
        HEADS.iter().find(|head| head.name == kind).ok_or_else(|| {
            let names = || HEADS.iter().map(|head| head.name);
            let likeness = |name: &&str| (1e6 * strsim::jaro_winkler(name, kind)) as u32;
            Error::Kind {
                kind: kind.into(),
                nearest: names().max_by_key(likeness).unwrap_or_default(),
                known: names().collect::<Vec<_>>().join(", "),
            }
        })
    }

    /// The head with the parameters of its reference.
    pub fn defaults(&self) -> HeadConfig {
        let head = HeadConfig::new(self.name);
        self.parameters.iter().fold(head, |head, parameter| head.with(parameter.name, (parameter.default)()))
    }
}

/// Several lines: name, summary, logits, parameters, what it does, where it fails, when to choose it, paper.
impl fmt::Display for HeadInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n  {}\n  logits      {}", self.name, self.summary, self.formula)?;
        if self.parameters.is_empty() {
            writeln!(f, "  parameters  none")?;
        }
        for (index, ParameterInfo { name, symbol, meaning, rule, default, .. }) in self.parameters.iter().enumerate() {
            let title = if index == 0 { "parameters" } else { "" };
            let setting = format!("{name} = {}", default());
            writeln!(f, "  {title:<10}  {setting:<20}  {symbol:<3}  {meaning}; {rule}")?;
        }
        writeln!(f, "  angles      {}\n  fails       {}\n  choose      {}", self.angles, self.fails, self.choose)?;
        write!(f, "  paper       {}", self.paper)
    }
}

/// Checks a head against its kind, and brings it into the one form that specifications have: a scale of 64 is 64.0.
pub fn resolve(head: &HeadConfig) -> Result<HeadConfig> {
    parameters::checked(head, HeadInfo::find(head.kind())?.parameters)
}

/// The experiment with every head resolved; whoever loads an experiment does this next.
pub fn resolve_experiment(mut experiment: Experiment) -> Result<Experiment> {
    for variant in &mut experiment.heads {
        variant.head = resolve(&variant.head)?;
    }
    Ok(experiment)
}

/// sqrt(2) ln(C - 1), at which a softmax over C classes that lie evenly is neither flat nor saturated (arXiv:1905.00292,
/// equation 12).
fn advised_scale(head: &'static str, classes: usize) -> Result<f64> {
    if classes < 3 {
        let rule = "it needs at least 3, since its scale is sqrt(2) ln(classes - 1) at the start; take another head or state a scale";
        return Err(Error::Classes { head, classes, rule });
    }
    Ok(SQRT_2 * ((classes - 1) as f64).ln())
}

/// Whether a head can work on `classes` classes, of which a step sees `share`. Draws no weights.
///
/// # Errors
/// [`Error::Sampling`], and those of [`build`].
pub fn check(config: &HeadConfig, dim: usize, classes: usize, init: HeadInit, share: f64) -> Result<()> {
    let info = HeadInfo::find(config.kind())?;
    if share < 1.0 && !info.sampled {
        return Err(Error::Sampling { head: info.name, share });
    }
    made(config, dim, classes, init, None, &Device::Cpu, DType::F32).map(drop)
}

/// Whether the labels of a head can be smoothed by `epsilon`.
///
/// # Errors
/// [`Error::Smoothing`] for more than 0 where the loss is no cross-entropy over classes; an unknown kind.
pub fn check_smoothing(config: &HeadConfig, epsilon: f64) -> Result<()> {
    let info = HeadInfo::find(config.kind())?;
    if epsilon > 0.0 && !info.softmax {
        return Err(Error::Smoothing { head: info.name, epsilon });
    }
    Ok(())
}

/// The head of `config` for embeddings of width `dim`, with fresh weights that depend on `seed` and their shape alone.
pub fn build(
    config: &HeadConfig,
    dim: usize,
    classes: usize,
    init: HeadInit,
    seed: u64,
    device: &Device,
    dtype: DType,
) -> Result<Box<dyn Head>> {
    made(config, dim, classes, init, Some(seed), device, dtype)
}

fn made(
    config: &HeadConfig,
    dim: usize,
    classes: usize,
    init: HeadInit,
    seed: Option<u64>,
    device: &Device,
    dtype: DType,
) -> Result<Box<dyn Head>> {
    let info = HeadInfo::find(config.kind())?;
    if classes < 2 || dim == 0 {
        let rule = "a classifier needs at least two classes and one dimension; check the data set";
        return Err(Error::Classes { head: info.name, classes, rule });
    }
    let mut config = resolve(config)?;
    if config.scale_is_auto() {
        config = config.with("scale", advised_scale(info.name, classes)?);
    }
    (info.build)(&config, &Initialiser { init, seed, dim, classes, device, dtype })
}
