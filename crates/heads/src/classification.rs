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
//! The softmax classifier that every head is compared with; PyTorch's `nn.Linear`, as in Catalyst's examples.

use crate::parameters::{check_embeddings, one_hot, restore, saved, take};
use crate::{Head, HeadInfo, Result, State};
use candle_core::{Tensor, Var};

pub(crate) const INFO: HeadInfo = HeadInfo {
    name: "Classification",
    summary: "A linear layer with bias: the plain softmax classifier.",
    formula: "w_j . x + b_j",
    parameters: "none",
    paper: "textbook",
};

pub(crate) struct Classification {
    /// `(classes, dim)`
    weight: Var,
    /// `(classes,)`
    bias: Var,
}

impl Classification {
    pub(crate) fn new(weight: Tensor, bias: Tensor) -> Result<Self> {
        Ok(Self { weight: Var::from_tensor(&weight)?, bias: Var::from_tensor(&bias)? })
    }
}

impl Head for Classification {
    fn weight(&self) -> &Var {
        &self.weight
    }

    fn scores(&self, embeddings: &Tensor) -> Result<Tensor> {
        check_embeddings(embeddings, self.weight.dim(1)?)?;
        Ok(embeddings.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?)
    }

    fn labelled_logits(&self, embeddings: &Tensor, labels: &Tensor) -> Result<Tensor> {
        // The labels change nothing here, but wrong ones are an error in every head.
        one_hot(labels, embeddings, self.weight.dim(0)?)?;
        self.scores(embeddings)
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

    fn effective_scale(&self) -> f64 {
        1.0
    }

    fn class_vectors(&self) -> Result<Option<Tensor>> {
        Ok(Some(self.weight.as_detached_tensor()))
    }
}
