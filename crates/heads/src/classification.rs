//! Classification: a linear layer with bias.
//!
//! ```text
//! logit_j = w_j . x + b_j
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | x | embedding, not normalised | 1 |
//! | w_j, b_j | weight and bias of class j | 1 |
//!
//! The softmax classifier that every head is compared with; PyTorch's `nn.Linear`, as in Catalyst's examples. PyTorch draws
//! weights and biases from U(-b, b), b = 1 / sqrt(dim).

use crate::tensors::{check_embeddings, restore, saved, take};
use crate::{ClassHead, Definition, Draw, Initialiser, Result, State};
use candle_core::{Tensor, Var};

pub(crate) struct Classification {
    /// `(classes, dim)`
    weight: Var,
    /// `(classes,)`
    bias: Var,
}

impl Definition for Classification {
    const NAME: &'static str = "Classification";
    const SUMMARY: &'static str = "A linear layer with bias: the plain softmax classifier.";
    const FORMULA: &'static str = "w_j . x + b_j";
    const PAPER: &'static str = "textbook";
    const ANGLES: &'static str = "Draws the labelled class's vector nearer and pushes the others away, by lengths as well as by angles: a long embedding is a sure one.";
    const FAILS: &'static str = "Classes end as rays that are only as far apart as the scores need, so embeddings compared by their angle may mix classes that the scores tell apart.";
    const CHOOSE: &'static str =
        "The classes stay what they are and the scores are the answer; and as the base line of every comparison.";
    type Parameters = ();

    fn new((): (), start: &Initialiser) -> Result<Self> {
        let catalyst = Draw::Uniform(1.0 / (start.dim as f64).sqrt());
        let weight = start.weight_as(&[start.classes, start.dim], catalyst)?;
        Ok(Self { weight, bias: start.bias(catalyst)? })
    }
}

impl ClassHead for Classification {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
        check_embeddings(embeddings, self.weight.dim(1)?)?;
        Ok(embeddings.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?)
    }

    fn variables(&self) -> Vec<(String, Var)> {
        vec![("weight".into(), self.weight.clone()), ("bias".into(), self.bias.clone())]
    }

    fn tensors(&self) -> Result<State> {
        Ok(vec![saved("weight", &self.weight)?, saved("bias", &self.bias)?])
    }

    fn load(&mut self, state: &State) -> Result<()> {
        let [weight, bias] = take(state, ["weight", "bias"])?;
        restore("weight", &self.weight, weight)?;
        restore("bias", &self.bias, bias)
    }

    fn class_vectors(&self) -> Result<Option<Tensor>> {
        Ok(Some(self.weight.as_detached_tensor()))
    }
}
