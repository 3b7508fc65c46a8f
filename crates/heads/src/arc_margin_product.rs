//! ArcMarginProduct: plain cosines.
//!
//! ```text
//! logit_j = cos(theta_j)
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta_j | angle between embedding and weight of class j | radians |
//!
//! Follows Catalyst's `ArcMarginProduct`, which in spite of its name has neither scale nor margin: cosines between -1 and 1
//! leave the cross-entropy of C classes a floor of ln(1 + (C - 1) e^-2) at best. The normalised product comes from
//! Wang et al., "NormFace", arXiv:1704.06369, who show that a scale is needed.

use crate::{ClassHead, Definition, Initialiser, Result};
use candle_core::Var;

pub(crate) struct ArcMarginProduct {
    /// `(classes, dim)`
    weight: Var,
}

impl Definition for ArcMarginProduct {
    const NAME: &'static str = "ArcMarginProduct";
    const SUMMARY: &'static str = "Plain cosines, with neither scale nor margin.";
    const FORMULA: &'static str = "cos(theta_j)";
    const PAPER: &'static str = "Catalyst 22.4; Wang et al. (NormFace), arXiv:1704.06369";
    const ANGLES: &'static str = "As NormFace with s = 1.";
    const FAILS: &'static str = "The softmax never becomes sure: with ten classes the loss stays above 0.79, all images pull alike to the end, and the embeddings collapse onto few directions.";
    const CHOOSE: &'static str = "To see what a scale is for; otherwise NormFace.";
    type Parameters = ();

    fn new((): (), start: &Initialiser) -> Result<Self> {
        Ok(Self { weight: start.weight()? })
    }
}

impl ClassHead for ArcMarginProduct {
    fn weight(&self) -> &Var {
        &self.weight
    }
}
