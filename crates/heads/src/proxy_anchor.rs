//! ProxyAnchor: each class's weight, its proxy, draws its images in and pushes the others away, the hardest most.
//!
//! ```text
//! loss = mean over the classes in the batch of  ln(1 + sum over their images of exp(-alpha (cos(theta) - m)))
//!      + mean over all classes of               ln(1 + sum over the other images of exp(alpha (cos(theta) + m)))
//! ```
//!
//! | symbol | meaning | unit |
//! |---|---|---|
//! | theta | angle between an embedding and the proxy at hand | radians |
//! | alpha | scale, > 0 | 1 |
//! | m | margin, a difference of cosines, in \[0, 1\] | 1 |
//!
//! Kim et al., "Proxy Anchor Loss for Deep Metric Learning", arXiv:2003.13911, equation 4. The loss is of the batch as a whole, so
//! an image has no logits; scores are cosines.

use crate::cosine::{cosines, unit};
use crate::tensors::{check_embeddings, label_mask, restore, saved, take};
use crate::{Definition, Head, Initialiser, Loss, Result, State, parameters};
use candle_core::{Tensor, Var};

parameters!(Parameters { scale: Scale as "alpha" = 32.0, margin_cosine: CosineMargin = 0.1 });

pub(crate) struct ProxyAnchor {
    /// The proxies, `(classes, dim)`.
    weight: Var,
    parameters: Parameters,
}

/// For each class ln(1 + sum of exp) over the images where the mask is 1, `(classes,)`.
fn log_one_plus_sum(exponents: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let exponents = (exponents * mask)?;
    // Shifted by the largest, at least 0, so that nothing overflows; the shift cancels and needs no gradient.
    let shift = exponents.detach().max_keepdim(0)?.relu()?;
    let sum = (exponents.broadcast_sub(&shift)?.exp()? * mask)?.sum_keepdim(0)?;
    Ok(((sum + shift.neg()?.exp()?)?.log()? + shift)?.squeeze(0)?)
}

impl Definition for ProxyAnchor {
    const NAME: &'static str = "ProxyAnchor";
    const SUMMARY: &'static str =
        "Each class's proxy draws its images in and pushes the others away, the hardest most.";
    const FORMULA: &'static str = "no logits; loss mean ln(1 + sum exp(-alpha (cos(theta) - m))) over a proxy's images + mean ln(1 + sum exp(alpha (cos(theta) + m))) over the others";
    const PAPER: &'static str = "Kim et al., arXiv:2003.13911";
    const ANGLES: &'static str = "Draws a class's images to its proxy and pushes the others away, those most that are furthest on the wrong side.";
    const FAILS: &'static str = "The pull is of the batch as a whole: small batches have few images of a class. Proxies learn slowly; the paper gives them a hundred times the learning rate, which here is one for all.";
    const CHOOSE: &'static str = "Retrieval among many fine classes, with larger batches.";
    /// The loss is of the batch as a whole.
    const SOFTMAX: bool = false;
    type Parameters = Parameters;

    fn new(parameters: Parameters, start: &Initialiser) -> Result<Self> {
        Ok(Self { weight: start.weight()?, parameters })
    }
}

impl Head for ProxyAnchor {
    fn loss(&mut self, embeddings: &Tensor, labels: &Tensor) -> Result<Loss> {
        check_embeddings(embeddings, self.weight.dim(1)?)?;
        let cosines = cosines(embeddings, &self.weight)?;
        let mask = label_mask(labels, &cosines)?;
        let Parameters { scale, margin_cosine } = self.parameters;
        let (alpha, m) = (scale.get(), margin_cosine.get());
        let drawn = log_one_plus_sum(&((&cosines - m)? * -alpha)?, &mask)?;
        let pushed = log_one_plus_sum(&((&cosines + m)? * alpha)?, &(1.0 - &mask)?)?;
        // A class without images has a sum of 0 and so a cost of 0.
        let present = mask.max(0)?.sum_all()?;
        Ok((drawn.sum_all()?.div(&present)? + pushed.mean_all()?)?.into())
    }

    fn scores(&self, embeddings: &Tensor) -> Result<Option<Tensor>> {
        check_embeddings(embeddings, self.weight.dim(1)?)?;
        cosines(embeddings, &self.weight).map(Some)
    }

    fn effective_scale(&self) -> f64 {
        self.parameters.scale.get()
    }

    fn variables(&self) -> Vec<(String, Var)> {
        vec![("weight".into(), self.weight.clone())]
    }

    fn tensors(&self) -> Result<State> {
        Ok(vec![saved("weight", &self.weight)?])
    }

    fn load(&mut self, state: &State) -> Result<()> {
        let [weight] = take(state, ["weight"])?;
        restore("weight", &self.weight, weight)
    }

    fn class_vectors(&self) -> Result<Option<Tensor>> {
        Ok(Some(unit(&self.weight)?))
    }
}
