//! What the cosine heads share: unit vectors, cosines, the angular margin.
//!
//! Only operators whose gradients Candle gets right are used here; see each comment for what is avoided.

use crate::Result;
use crate::parameters::{BeyondPi, Epsilon, Radians, Scale};
use candle_core::Tensor;

/// Vectors shorter than this are divided by it instead of their length, as PyTorch's `F.normalize` does.
const SHORTEST: f64 = 1e-12;
/// Floor of 1 - c^2 before the root: its gradient is infinite at 0.
const SMALLEST_SINE_SQUARED: f64 = 1e-12;

/// Rows brought to unit length.
pub(crate) fn unit(rows: &Tensor) -> Result<Tensor> {
    let squares = rows.sqr()?.sum_keepdim(candle_core::D::Minus1)?;
    // Floored before the root, not after: the root's gradient at 0 is infinite, and 0 times infinity is NaN.
    let floor = (squares.ones_like()? * (SHORTEST * SHORTEST))?;
    Ok(rows.broadcast_div(&squares.maximum(&floor)?.sqrt()?)?)
}

/// Cosines between embeddings `(batch, dim)` and weights `(rows, dim)`: `(batch, rows)`.
pub(crate) fn cosines(embeddings: &Tensor, weight: &Tensor) -> Result<Tensor> {
    Ok(unit(embeddings)?.matmul(&unit(weight)?.t()?)?)
}

/// Cosines held inside [-bound, bound], with no gradient where they are held.
pub(crate) fn held(cosines: &Tensor, bound: f64) -> Result<Tensor> {
    clamped(cosines, -bound, bound)
}

/// Values held inside [low, high], with no gradient where they are held: Candle's own clamp halves the gradient at the bounds.
pub(crate) fn clamped(values: &Tensor, low: f64, high: f64) -> Result<Tensor> {
    let dtype = values.dtype();
    let (above, below) = (values.gt(high)?.to_dtype(dtype)?, values.lt(low)?.to_dtype(dtype)?);
    let inside = (1.0 - (&above + &below)?)?;
    Ok(((values * inside)? + ((above * high)? + (below * low)?)?)?)
}

/// sin(theta) from c = cos(theta): sqrt(1 - c^2).
pub(crate) fn sines(cosines: &Tensor) -> Result<Tensor> {
    let squared = (1.0 - cosines.sqr()?)?;
    let floor = (squared.ones_like()? * SMALLEST_SINE_SQUARED)?;
    Ok(squared.maximum(&floor)?.sqrt()?)
}

/// cos(theta + margin) from c = cos(theta) by the addition theorem: c cos m - sin(theta) sin m.
pub(crate) fn with_angular_margin(cosines: &Tensor, margin_radians: f64) -> Result<Tensor> {
    Ok(((cosines * margin_radians.cos())? - (sines(cosines)? * margin_radians.sin())?)?)
}

/// `labelled` where the mask is 1, `others` elsewhere. Candle's scatter has no right gradient, and its `where_cond` lets
/// NaN through.
pub(crate) fn blend(mask: &Tensor, labelled: &Tensor, others: &Tensor) -> Result<Tensor> {
    Ok((others + (mask * (labelled - others)?)?)?)
}

/// ArcFace's logits from cosines: s cos(theta_y + m) at the label as long as theta_y + m <= pi, beyond as `beyond_pi` says,
/// s c elsewhere.
pub(crate) fn arcface_logits(
    cosines: &Tensor,
    mask: &Tensor,
    scale: Scale,
    margin: Radians,
    beyond_pi: BeyondPi,
    epsilon: Epsilon,
) -> Result<Tensor> {
    let margin = margin.get();
    let cosines = held(cosines, 1.0 - epsilon.get())?;
    let within = cosines.ge(-margin.cos())?.to_dtype(cosines.dtype())?;
    let with_margin = with_angular_margin(&cosines, margin)?;
    let logits = match beyond_pi {
        BeyondPi::Catalyst => blend(&(mask * within)?, &with_margin, &cosines)?,
        BeyondPi::Linear => {
            let beyond = (&cosines - margin * margin.sin())?;
            blend(mask, &blend(&within, &with_margin, &beyond)?, &cosines)?
        }
    };
    Ok((logits * scale.get())?)
}
