//! AdamW over one flat buffer of all parameters, in one pass.

use super::simd::vectorized;
use crate::AdamWStep;
use pulp::Simd;
use rayon::prelude::*;

/// Numbers in a piece of work.
const PIECE: usize = 1 << 15;

/// One step over all parameters, of which the first `decayed` decay, with their moments and gradients.
pub(crate) fn adamw<S: Simd>(
    simd: S,
    step: &AdamWStep,
    decayed: usize,
    parameters: &mut [f32],
    [m, v]: [&mut Vec<f32>; 2],
    gradients: &[f32],
) {
    for (range, keep) in [(0..decayed, step.factors().keep), (decayed..gradients.len(), 1.0)] {
        let (weights, gradient) = (&mut parameters[range.clone()], &gradients[range.clone()]);
        let (m, v) = (&mut m[range.clone()], &mut v[range]);
        adamw_part(simd, step, keep, weights, m, v, gradient);
    }
}

/// One step over a part: `weights`, which are first multiplied by `keep`, its moments and its gradient.
///
/// The order of operations is that of [`crate::AdamW`].
fn adamw_part<S: Simd>(
    simd: S,
    step: &AdamWStep,
    keep: f64,
    weights: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    gradient: &[f32],
) {
    let factors = step.factors();
    let keep = keep as f32;
    let (rate, inverse_root) = (factors.rate as f32, (1.0 / factors.root_correction) as f32);
    let (beta1, beta2) = (step.beta1 as f32, step.beta2 as f32);
    let (new1, new2) = ((1.0 - step.beta1) as f32, (1.0 - step.beta2) as f32);
    let epsilon = step.epsilon as f32;
    let pieces = weights.par_chunks_mut(PIECE).zip(m.par_chunks_mut(PIECE)).zip(v.par_chunks_mut(PIECE));
    pieces.zip(gradient.par_chunks(PIECE)).for_each(|(((weights, m), v), gradient)| {
        vectorized!(simd, {
            let len = weights.len();
            let (m, v, gradient) = (&mut m[..len], &mut v[..len], &gradient[..len]);
            for i in 0..len {
                let g = gradient[i];
                m[i] = m[i] * beta1 + g * new1;
                v[i] = v[i] * beta2 + g * g * new2;
                let denominator = v[i].sqrt() * inverse_root + epsilon;
                weights[i] = weights[i] * keep - m[i] / denominator * rate;
            }
        });
    });
}
