//! Classification heads: embeddings and labels to logits. One file a head; [`build`] is the only registry.
//!
//! In every file c = cos(theta) is the cosine between an embedding and a class weight, both brought to unit length; y is
//! the label; m the margin; s the scale. Heads differ only in what happens to the cosine of the labelled class, so what
//! they share is written once, in `cosine.rs`. The reference is Catalyst 22.4; where a head departs from it, its file
//! says so.

mod adacos;
mod arc_margin_product;
mod arcface;
mod classification;
mod cosface;
mod cosine;
mod curricularface;
mod error;
mod initialise;
mod parameters;
mod sub_center_arcface;

use candle_core::{DType, Device, Tensor, Var};
pub use error::Error;
use faceoff_runs::{HeadConfig, HeadInit};
use initialise::Initialiser;

/// The result type of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Named tensors.
pub type State = Vec<(String, Tensor)>;

/// Embeddings and labels to logits. Shapes: embeddings `(batch, dim)`, labels `(batch,)` u32, logits `(batch, classes)`.
///
/// What is written here is right for a head of cosines with one vector a class and no state; other heads say otherwise.
pub trait Head: Send {
    /// The trained vectors of the classes, `(classes, dim)`; with a leading `sub_centers` for heads with several a class.
    fn weight(&self) -> &Var;

    /// Class scores without labels and without scale; the argmax is the prediction.
    fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
        parameters::check_embeddings(embeddings, self.weight().dim(1)?)?;
        cosine::cosines(embeddings, self.weight())
    }

    /// Logits for cross-entropy: margin and scale applied to the labelled class, with the state as it is.
    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor>;

    /// The same for a step of training: a head with state renews it first and uses it at once.
    fn train_logits(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        self.labelled_logits(embeddings, labels)
    }

    /// The factor of the scores in training: s, or 1 for a head without scale.
    fn effective_scale(&self) -> f64;

    /// The trained tensors, for the optimiser.
    fn variables(&self) -> Vec<(String, Var)> {
        vec![("weight".into(), self.weight().clone())]
    }

    /// Weights and state, on the CPU.
    fn tensors(&self) -> Result<State> {
        Ok(vec![parameters::saved("weight", self.weight())?])
    }

    /// Restores what [`Head::tensors`] returned.
    fn load(&mut self, state: &State) -> Result<()> {
        let [weight] = parameters::take(state, ["weight"])?;
        parameters::restore("weight", self.weight(), weight)
    }

    /// For each class the vector whose product with an embedding is its score, a bias aside, `(classes, dim)`; of unit
    /// length for a head of cosines. `None` for a head with several vectors a class.
    fn class_vectors(&self) -> Result<Option<Tensor>> {
        Ok(Some(cosine::unit(self.weight())?))
    }
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
    config.validate()?;
    if classes < 2 || dim == 0 {
        let rule = "a classifier needs at least two classes and one dimension; check the data set";
        return Err(Error::Classes { head: config.kind(), classes, rule });
    }
    let start = Initialiser { init, seed, dim, classes, device, dtype };
    Ok(match *config {
        HeadConfig::ArcFace { scale, margin_radians, epsilon } => {
            Box::new(arcface::ArcFace::new(start.weight()?, scale, margin_radians, epsilon)?)
        }
        HeadConfig::SubCenterArcFace { scale, margin_radians, epsilon, sub_centers } => {
            let weight = start.sub_center_weight(sub_centers)?;
            Box::new(sub_center_arcface::SubCenterArcFace::new(weight, scale, margin_radians, epsilon)?)
        }
        HeadConfig::CosFace { scale, margin_cosine } => {
            Box::new(cosface::CosFace::new(start.weight()?, scale, margin_cosine)?)
        }
        HeadConfig::AdaCos { epsilon } => Box::new(adacos::AdaCos::new(start.weight()?, epsilon)?),
        HeadConfig::CurricularFace { scale, margin_radians } => {
            Box::new(curricularface::CurricularFace::new(start.curricular_weight()?, scale, margin_radians)?)
        }
        HeadConfig::ArcMarginProduct => Box::new(arc_margin_product::ArcMarginProduct::new(start.weight()?)?),
        HeadConfig::Classification => {
            Box::new(classification::Classification::new(start.linear_weight()?, start.bias()?)?)
        }
    })
}

/// What a head is, for people.
#[derive(Debug, Clone, Copy)]
pub struct HeadInfo {
    /// Its kind, as in an experiment.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its logits.
    pub formula: &'static str,
    /// Its parameters in an experiment, with Catalyst's defaults.
    pub parameters: &'static str,
    /// Where it comes from.
    pub paper: &'static str,
}

/// All heads, in the order of [`HeadConfig::KINDS`].
pub fn catalogue() -> [HeadInfo; 7] {
    [
        classification::INFO,
        arc_margin_product::INFO,
        cosface::INFO,
        arcface::INFO,
        adacos::INFO,
        sub_center_arcface::INFO,
        curricularface::INFO,
    ]
}
