//! The network: forward and backward of a training step, and inference, as launches on the device.
//!
//! | operation | launches |
//! |---|---|
//! | convolution | columns, matrix product |
//! | batch norm | sums, statistics; then with ReLU and the residual addition in one pass |
//! | its gradient | sums, the weights' gradients; then with the ReLU's mask in one pass |
//! | convolution's gradients | columns (made again: they are nine times the map), two products, columns back |
//! | stem | normalisation of the pixels in its columns; batch norm and ReLU in the max-pooling |

use super::gpu::{Buffer, Bytes, Gpu, View};
use super::kernels::Window;
use crate::flat::{Layer, Network};
use crate::resnet::{BasicBlock, ConvBatchNorm};
use crate::{Error, ImageBatch, Result};

/// Length of a row of columns and of weights: the window's values, filled to a multiple of four, over which products run
/// faster.
pub(super) fn row(plan: &ConvBatchNorm) -> usize {
    (plan.in_channels * plan.kernel * plan.kernel).next_multiple_of(4)
}

/// Extent of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Map {
    images: usize,
    height: usize,
    width: usize,
}

impl Map {
    fn rows(self) -> usize {
        self.images * self.height * self.width
    }

    /// That of the windows' outputs.
    fn behind(self, w: Window) -> Self {
        Self { images: self.images, height: w.out_height as usize, width: w.out_width as usize }
    }
}

/// The input of a layer.
#[derive(Clone, Copy)]
enum Input<'a> {
    Pixels(&'a Bytes),
    Values(&'a Buffer),
}

/// A layer's outcome in training: the convolution's output and the batch's normalisation.
struct Trained {
    z: Buffer,
    norm: Buffer,
}

struct BlockTape {
    first: Trained,
    inner: Buffer,
    second: Trained,
    downsample: Option<Trained>,
    out: Buffer,
}

/// What the backward pass needs.
pub(crate) struct NetworkTape {
    pixels: Bytes,
    map: Map,
    stem: Trained,
    pooled: Buffer,
    places: Bytes,
    blocks: Vec<BlockTape>,
}

impl Network<Gpu> {
    fn windows(&self, layer: usize, map: Map) -> Window {
        Window::of(&self.layers[layer].plan, map.height, map.width)
    }

    /// The columns of a layer's input, and the extent of its output.
    fn columns(&self, layer: usize, input: Input<'_>, map: Map) -> Result<(Buffer, Map)> {
        let (w, row) = (self.windows(layer, map), row(&self.layers[layer].plan));
        let out = map.behind(w);
        let columns = self.machine.take(out.rows() * row)?;
        match input {
            Input::Pixels(pixels) => self.machine.stem_columns(pixels, columns.view(), w, row)?,
            Input::Values(values) => self.machine.columns(values.view(), columns.view(), w)?,
        }
        Ok((columns, out))
    }

    /// A layer's convolution, `(rows, out_channels)`.
    fn convolve(&self, layer: usize, input: Input<'_>, map: Map) -> Result<(Buffer, Map)> {
        let (columns, out) = self.columns(layer, input, map)?;
        let Layer { plan, weights, .. } = &self.layers[layer];
        let z = self.machine.take(out.rows() * plan.out_channels)?;
        let sides = [plan.out_channels, out.rows(), row(plan)];
        let weights = self.parameters.part(weights).transposed();
        self.machine.matmul(weights, columns.view().factor(), z.view(), sides)?;
        self.machine.give([columns]);
        Ok((z, out))
    }

    /// A layer's batch-norm weight and bias, running mean and variance.
    fn norm_views(&self, layer: usize) -> [View<'_>; 4] {
        let Layer { norm: [weight, bias], running: [mean, variance], .. } = &self.layers[layer];
        let (parameters, running) = (&self.parameters, &self.running);
        [parameters.part(weight), parameters.part(bias), running.part(mean), running.part(variance)]
    }

    /// Convolution, and the batch's statistics, which move the running ones.
    fn train_layer(&mut self, layer: usize, input: Input<'_>, map: Map) -> Result<(Trained, Map)> {
        let (z, out) = self.convolve(layer, input, map)?;
        let channels = self.layers[layer].plan.out_channels;
        if out.rows() < 2 {
            return Err(Error::NoVariance(self.layers[layer].plan.norm.clone()));
        }
        let norm = self.machine.take(4 * channels)?;
        let sums = self.machine.statistics(z.view(), channels)?;
        self.machine.batch_norm(z.view(), &sums, self.norm_views(layer), norm.view())?;
        self.machine.give([sums.buffer]);
        self.layers[layer].batches += 1;
        Ok((Trained { z, norm }, out))
    }

    /// Convolution, and the running statistics as a normalisation.
    fn infer_layer(&self, layer: usize, input: Input<'_>, map: Map) -> Result<(Trained, Map)> {
        let (z, out) = self.convolve(layer, input, map)?;
        let norm = self.machine.take(4 * self.layers[layer].plan.out_channels)?;
        self.machine.running_norm(self.norm_views(layer), norm.view())?;
        Ok((Trained { z, norm }, out))
    }

    /// Batch norm, the shortcut, ReLU; a shortcut with statistics is normalised by them.
    fn transform(&self, trained: &Trained, shortcut: Option<(&Buffer, Option<&Buffer>)>) -> Result<Buffer> {
        let out = self.machine.take(trained.z.len())?;
        let shortcut = shortcut.map(|(values, norm)| (values.view(), norm.map(Buffer::view)));
        self.machine.transform(trained.z.view(), trained.norm.view(), shortcut, out.view())?;
        Ok(out)
    }

    /// The windows of the max-pooling behind the stem's map.
    fn pooling(&self, map: Map) -> Window {
        Window::of_pooling(self.layers[0].plan.out_channels, map.height, map.width)
    }

    /// The stem's batch norm and ReLU, and the max-pooling.
    fn pool(&self, stem: &Trained, map: Map, places: Option<&Bytes>) -> Result<(Buffer, Map)> {
        let w = self.pooling(map);
        let out = map.behind(w);
        let pooled = self.machine.take(out.rows() * self.layers[0].plan.out_channels)?;
        self.machine.max_pool((stem.z.view(), stem.norm.view()), pooled.view(), places, w)?;
        Ok((pooled, out))
    }

    fn average(&self, last: &Buffer, map: Map) -> Result<Buffer> {
        let embeddings = self.machine.take(map.images * self.dim)?;
        self.machine.average_pool(last.view(), embeddings.view(), self.dim)?;
        Ok(embeddings)
    }

    fn upload(&self, images: &ImageBatch) -> Result<(Bytes, Map)> {
        let map = Map { images: images.count(), height: images.size_px(), width: images.size_px() };
        Ok((self.machine.upload_bytes(images.pixels())?, map))
    }

    /// Embeddings with the batch's statistics, which move the running ones.
    pub(super) fn forward_train(&mut self, images: &ImageBatch) -> Result<(Buffer, NetworkTape)> {
        let (pixels, map) = self.upload(images)?;
        let (stem, wide) = self.train_layer(0, Input::Pixels(&pixels), map)?;
        let pooled_len = wide.behind(self.pooling(wide)).rows() * self.layers[0].plan.out_channels;
        let places = self.machine.bytes(pooled_len)?;
        let (pooled, mut at) = self.pool(&stem, wide, Some(&places))?;
        let mut blocks: Vec<BlockTape> = Vec::with_capacity(self.blocks.len());
        for index in 0..self.blocks.len() {
            let BasicBlock { first, second, downsample } = self.blocks[index];
            let x = blocks.last().map_or(&pooled, |block| &block.out);
            let (one, next) = self.train_layer(first, Input::Values(x), at)?;
            let inner = self.transform(&one, None)?;
            let (two, _) = self.train_layer(second, Input::Values(&inner), next)?;
            let projection = match downsample {
                Some(layer) => Some(self.train_layer(layer, Input::Values(x), at)?.0),
                None => None,
            };
            let shortcut = match &projection {
                Some(trained) => (&trained.z, Some(&trained.norm)),
                None => (x, None),
            };
            let out = self.transform(&two, Some(shortcut))?;
            blocks.push(BlockTape { first: one, inner, second: two, downsample: projection, out });
            at = next;
        }
        let embeddings = self.average(&blocks.last().expect("an encoder has blocks").out, at)?;
        Ok((embeddings, NetworkTape { pixels, map, stem, pooled, places, blocks }))
    }

    /// Embeddings with the running statistics.
    pub(super) fn forward(&self, images: &ImageBatch) -> Result<Buffer> {
        let (pixels, map) = self.upload(images)?;
        let (stem, wide) = self.infer_layer(0, Input::Pixels(&pixels), map)?;
        let (mut x, mut at) = self.pool(&stem, wide, None)?;
        self.machine.give([stem.z, stem.norm]);
        for BasicBlock { first, second, downsample } in &self.blocks {
            let (one, next) = self.infer_layer(*first, Input::Values(&x), at)?;
            let inner = self.transform(&one, None)?;
            let (two, _) = self.infer_layer(*second, Input::Values(&inner), next)?;
            let out = match downsample {
                Some(layer) => {
                    let (other, _) = self.infer_layer(*layer, Input::Values(&x), at)?;
                    let out = self.transform(&two, Some((&other.z, Some(&other.norm))))?;
                    self.machine.give([other.z, other.norm]);
                    out
                }
                None => self.transform(&two, Some((&x, None)))?,
            };
            self.machine.give([one.z, one.norm, two.z, two.norm, inner, x]);
            (x, at) = (out, next);
        }
        let embeddings = self.average(&x, at)?;
        self.machine.give([x]);
        Ok(embeddings)
    }

    /// The gradient at a layer's convolution, from that at its output; the batch norm's go to `gradients`. Of `around`, the
    /// first is the ReLU's output behind the layer, and the second gets the gradient behind that ReLU.
    fn norm_backward(
        &self,
        layer: usize,
        trained: &Trained,
        grad: &Buffer,
        around: [Option<&Buffer>; 2],
        gradients: &Buffer,
    ) -> Result<Buffer> {
        let result = self.machine.take(trained.z.len())?;
        let own = self.layers[layer].norm.each_ref().map(|range| gradients.part(range));
        let (around, trained) = (around.map(|map| map.map(Buffer::view)), (trained.z.view(), trained.norm.view()));
        self.machine.norm_backward(grad.view(), trained, around, own, result.view())?;
        Ok(result)
    }

    /// The gradient of a convolution's weights, into `gradients`; returns the columns of its input.
    fn weights_backward(
        &self,
        layer: usize,
        input: Input<'_>,
        map: Map,
        grad: &Buffer,
        gradients: &Buffer,
    ) -> Result<Buffer> {
        let (columns, out) = self.columns(layer, input, map)?;
        let Layer { plan, weights, .. } = &self.layers[layer];
        let sides = [row(plan), plan.out_channels, out.rows()];
        let grad = grad.view().transposed();
        self.machine.matmul(columns.view().factor(), grad, gradients.part(weights), sides)?;
        Ok(columns)
    }

    /// The gradients of a convolution, that of the weights into `gradients`; returns that of its input, plus `base`.
    fn convolve_backward(
        &self,
        layer: usize,
        (input, map): (&Buffer, Map),
        grad: &Buffer,
        base: Option<&Buffer>,
        gradients: &Buffer,
    ) -> Result<Buffer> {
        // The columns have served their purpose, and their gradient takes their place.
        let columns = self.weights_backward(layer, Input::Values(input), map, grad, gradients)?;
        let Layer { plan, weights, .. } = &self.layers[layer];
        let sides = [row(plan), columns.len() / row(plan), plan.out_channels];
        let weights = self.parameters.part(weights).factor();
        self.machine.matmul(weights, grad.view().factor(), columns.view(), sides)?;
        let result = self.machine.take(input.len())?;
        let (base, w) = (base.map(Buffer::view), self.windows(layer, map));
        self.machine.columns_backward(columns.view(), base, result.view(), w)?;
        self.machine.give([columns]);
        Ok(result)
    }

    /// Gradients of all parameters, laid out as they are, given the gradient at the embeddings.
    pub(super) fn backward(&self, tape: NetworkTape, at_embeddings: View<'_>) -> Result<Buffer> {
        let NetworkTape { pixels, map, stem, pooled, places, blocks } = tape;
        // Between the layers nothing is left to chance: places that no gradient reaches (the fill of the stem's rows)
        // are written by the product over columns of 0.
        let gradients = self.machine.take(self.parameters.len())?;
        let wide = map.behind(self.windows(0, map));
        let mut inputs = vec![wide.behind(self.pooling(wide))];
        for block in &self.blocks {
            let at = *inputs.last().expect("it begins with one");
            inputs.push(at.behind(self.windows(block.first, at)));
        }

        let last = &blocks.last().expect("an encoder has blocks").out;
        let mut grad = self.machine.take(last.len())?;
        self.machine.average_pool_backward(at_embeddings, grad.view(), self.dim)?;

        let mut blocks = blocks;
        while let Some(block) = blocks.pop() {
            let BasicBlock { first, second, downsample } = self.blocks[blocks.len()];
            let (at, next) = (inputs[blocks.len()], inputs[blocks.len() + 1]);
            let x = blocks.last().map_or(&pooled, |block| &block.out);
            let masked = self.machine.take(grad.len())?;
            let around = [Some(&block.out), Some(&masked)];
            let second_grad = self.norm_backward(second, &block.second, &grad, around, &gradients)?;
            let inner = (&block.inner, next);
            let inner_grad = self.convolve_backward(second, inner, &second_grad, None, &gradients)?;
            let around = [Some(&block.inner), None];
            let first_grad = self.norm_backward(first, &block.first, &inner_grad, around, &gradients)?;
            let shortcut_grad = match (downsample, &block.downsample) {
                (Some(layer), Some(trained)) => {
                    let projected = self.norm_backward(layer, trained, &masked, [None; 2], &gradients)?;
                    let shortcut = self.convolve_backward(layer, (x, at), &projected, None, &gradients)?;
                    self.machine.give([projected, masked]);
                    shortcut
                }
                _ => masked,
            };
            let base = Some(&shortcut_grad);
            let below = self.convolve_backward(first, (x, at), &first_grad, base, &gradients)?;
            self.machine.give([grad, second_grad, inner_grad, first_grad, shortcut_grad]);
            let BlockTape { first, inner, second, downsample, out } = block;
            self.machine.give([first.z, first.norm, inner, second.z, second.norm, out]);
            self.machine.give(downsample.into_iter().flat_map(|trained| [trained.z, trained.norm]));
            grad = below;
        }

        let stem_grad = self.machine.take(stem.z.len())?;
        let w = self.pooling(wide);
        self.machine.max_pool_backward(grad.view(), pooled.view(), &places, stem_grad.view(), w)?;
        let z_grad = self.norm_backward(0, &stem, &stem_grad, [None; 2], &gradients)?;
        let columns = self.weights_backward(0, Input::Pixels(&pixels), map, &z_grad, &gradients)?;
        self.machine.give([grad, stem_grad, z_grad, columns, stem.z, stem.norm, pooled]);
        Ok(gradients)
    }
}
