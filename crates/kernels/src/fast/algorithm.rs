//! What every algorithm for convolutions computes.

use super::arena::Arena;
use super::norm::ChannelSums;
use super::read::Source;
use super::shape::{Convolution, Map};
use super::write::Target;
use pulp::Simd;

/// A convolution over maps of one extent, the instructions that compute it, and memory.
#[derive(Clone, Copy)]
pub(crate) struct Problem<'a, S> {
    pub(crate) simd: S,
    pub(crate) conv: Convolution,
    /// In panels.
    pub(crate) weights: &'a [f32],
    /// Extent of the input.
    pub(crate) input: Map,
    pub(crate) arena: &'a Arena,
}

impl<S> Problem<'_, S> {
    /// Extent of the output.
    pub(crate) fn output(&self) -> Map {
        self.conv.output(self.input)
    }
}

/// A way to compute a convolution and its gradients. Sources must have the extents of the problem's input and output.
pub(crate) trait Algorithm<S: Simd> {
    /// A word for it in tables.
    fn name(&self) -> &'static str;

    /// The convolution of `x` into `target`, and the target's sums.
    fn forward(&self, problem: &Problem<'_, S>, x: Source<'_>, target: &Target<'_>) -> ChannelSums;

    /// The gradient of the input from the output's gradient `dy`, into `target`, and the target's sums.
    fn input_gradient(&self, problem: &Problem<'_, S>, dy: Source<'_>, target: &Target<'_>) -> ChannelSums;

    /// The gradient of the weights, in panels, from the output's gradient `dy`.
    fn weight_gradient(&self, problem: &Problem<'_, S>, x: Source<'_>, dy: Source<'_>, gradient: &mut [f32]);
}
