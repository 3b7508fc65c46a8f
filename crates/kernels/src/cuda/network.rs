//! The network: forward and backward of a training step, and inference, as launches on the device.
//!
//! | operation | launches |
//! |---|---|
//! | convolution | columns, matrix product |
//! | batch norm | sums, statistics; then with ReLU and the residual addition in one pass |
//! | its gradient | sums, the weights' gradients; then with the ReLU's mask in one pass |
//! | convolution's gradients | columns (made again: they are nine times the map), two products, columns back |
//! | stem | normalisation of the pixels in its columns; batch norm and ReLU in the max-pooling |

use super::gpu::{Address, Buffer, Bytes, Color, Gpu, Grid, Product, Window, count, launch};
use crate::resnet::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, BasicBlock, ConvBatchNorm, DEVIATION, MEAN};
use crate::{Error, ImageBatch, Result};

/// A convolution and its batch norm; the places count numbers in the buffers of all parameters and of all statistics.
pub(super) struct Layer {
    pub(super) plan: ConvBatchNorm,
    /// Length of a row of columns and of weights: the window's values, filled to a multiple of four.
    pub(super) row: usize,
    pub(super) weights: usize,
    /// The batch norm's weight; its bias follows.
    pub(super) norm: usize,
    /// The running mean; the variance follows.
    pub(super) running: usize,
    pub(super) batches: i64,
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
pub(super) struct NetworkTape {
    pixels: Bytes,
    map: Map,
    stem: Trained,
    pooled: Buffer,
    places: Bytes,
    blocks: Vec<BlockTape>,
}

impl NetworkTape {
    /// Images of the batch.
    pub(super) fn count(&self) -> usize {
        self.map.images
    }
}

/// All layers in torchvision's order, and the values on the device.
pub(super) struct Network {
    pub(super) gpu: Gpu,
    pub(super) layers: Vec<Layer>,
    pub(super) blocks: Vec<BasicBlock>,
    /// Width of an embedding.
    pub(super) dim: usize,
    pub(super) parameters: Buffer,
    pub(super) running: Buffer,
}

/// A map's rows are summed in at most so many parts.
const MOST_PARTS: usize = 256;
/// Rows of a part: enough that a block is worth its launch.
const LEAST_ROWS: usize = 64;

/// Parts that `rows` rows are cut into, and the rows of one: a function of their number alone.
fn parts(rows: usize) -> (usize, usize) {
    let rows_per_part = rows.div_ceil(MOST_PARTS).max(LEAST_ROWS);
    (rows.div_ceil(rows_per_part), rows_per_part)
}

impl Network {
    /// The columns of a layer's input, and the extent of its output.
    fn columns(&self, layer: usize, input: Input<'_>, map: Map) -> Result<(Buffer, Map)> {
        let Layer { plan, row, .. } = &self.layers[layer];
        let window = Window::of(plan, map.height, map.width);
        let out =
            Map { images: map.images, height: window.out_height as usize, width: window.out_width as usize };
        let columns = self.gpu.take(out.rows() * row)?;
        match input {
            Input::Pixels(pixels) => {
                let total = count(columns.len())?;
                let color = Color { mean: MEAN, deviation: DEVIATION };
                let row = *row as u32;
                launch!(
                    self.gpu,
                    stem_columns,
                    Grid::each(total),
                    pixels.address,
                    columns.address,
                    window,
                    color,
                    row,
                    total
                )?;
            }
            Input::Values(values) => {
                let total = count(columns.len() / 4)?;
                launch!(
                    self.gpu,
                    columns,
                    Grid::each(total),
                    values.address,
                    columns.address,
                    window,
                    total
                )?;
            }
        }
        Ok((columns, out))
    }

    /// A layer's convolution, `(rows, out_channels)`.
    fn convolve(&self, layer: usize, input: Input<'_>, map: Map) -> Result<(Buffer, Map)> {
        let (columns, out) = self.columns(layer, input, map)?;
        let Layer { plan, row, weights, .. } = &self.layers[layer];
        let z = self.gpu.take(out.rows() * plan.out_channels)?;
        self.gpu.matmul(Product {
            a: self.parameters.at(*weights),
            transpose_a: true,
            b: columns.address,
            transpose_b: false,
            c: z.address,
            m: plan.out_channels,
            n: out.rows(),
            k: *row,
        })?;
        self.gpu.give([columns]);
        Ok((z, out))
    }

    /// Places of a layer's batch-norm weight and bias, running mean and variance.
    fn norm_places(&self, layer: usize) -> [Address; 4] {
        let Layer { plan, norm, running, .. } = &self.layers[layer];
        let channels = plan.out_channels;
        [
            self.parameters.at(*norm),
            self.parameters.at(norm + channels),
            self.running.at(*running),
            self.running.at(running + channels),
        ]
    }

    /// Convolution, and the statistics of its output, which move the running ones.
    fn train_layer(&mut self, layer: usize, input: Input<'_>, map: Map) -> Result<(Trained, Map)> {
        let (z, out) = self.convolve(layer, input, map)?;
        let rows = out.rows();
        let channels = self.layers[layer].plan.out_channels;
        if rows < 2 {
            return Err(Error::NoVariance(self.layers[layer].plan.norm.clone()));
        }
        let (part_count, rows_per_part) = parts(rows);
        let sums = self.gpu.take(2 * part_count * channels)?;
        let norm = self.gpu.take(4 * channels)?;
        let (rows, part_count, wide) = (count(rows)?, part_count as u32, channels as u32);
        let rows_per_part = rows_per_part as u32;
        let grid = Grid::sums(channels, part_count);
        launch!(self.gpu, statistics, grid, z.address, sums.address, rows, wide, rows_per_part)?;
        let [weight, bias, running_mean, running_var] = self.norm_places(layer);
        let (epsilon, momentum) = (BATCH_NORM_EPSILON as f32, BATCH_NORM_MOMENTUM as f32);
        let grid = Grid::sums(channels, 1);
        #[rustfmt::skip]
        launch!(
            self.gpu, batch_norm, grid, z.address, sums.address, part_count, weight, bias, running_mean, running_var,
            norm.address, rows, wide, epsilon, momentum,
        )?;
        self.gpu.give([sums]);
        self.layers[layer].batches += 1;
        Ok((Trained { z, norm }, out))
    }

    /// Convolution, and the running statistics as a normalisation.
    fn infer_layer(&self, layer: usize, input: Input<'_>, map: Map) -> Result<(Trained, Map)> {
        let (z, out) = self.convolve(layer, input, map)?;
        let channels = self.layers[layer].plan.out_channels;
        let norm = self.gpu.take(4 * channels)?;
        let [weight, bias, running_mean, running_var] = self.norm_places(layer);
        let (wide, epsilon) = (channels as u32, BATCH_NORM_EPSILON as f32);
        #[rustfmt::skip]
        launch!(
            self.gpu, running_norm, Grid::each(wide), weight, bias, running_mean, running_var, norm.address, wide, epsilon,
        )?;
        Ok((Trained { z, norm }, out))
    }

    /// Batch norm, the shortcut, ReLU; a shortcut with statistics is normalised by them.
    fn transform(
        &self,
        layer: usize,
        trained: &Trained,
        shortcut: Option<(&Buffer, Option<&Buffer>)>,
    ) -> Result<Buffer> {
        let out = self.gpu.take(trained.z.len())?;
        let channels = self.layers[layer].plan.out_channels as u32;
        let total = count(out.len() / 4)?;
        let (other, other_norm) = match shortcut {
            Some((values, norm)) => (values.address, norm.map_or(0, |norm| norm.address)),
            None => (0, 0),
        };
        #[rustfmt::skip]
        launch!(
            self.gpu, transform, Grid::each(total), trained.z.address, trained.norm.address, other, other_norm,
            out.address, channels, total,
        )?;
        Ok(out)
    }

    /// The stem's batch norm and ReLU, and the max-pooling.
    fn pool(&self, stem: &Trained, map: Map, places: Option<&Bytes>) -> Result<(Buffer, Map)> {
        let channels = self.layers[0].plan.out_channels;
        let window = Window::of_pooling(channels, map.height, map.width);
        let out =
            Map { images: map.images, height: window.out_height as usize, width: window.out_width as usize };
        let pooled = self.gpu.take(out.rows() * channels)?;
        let total = count(pooled.len())?;
        let places = places.map_or(0, |places| places.address);
        #[rustfmt::skip]
        launch!(
            self.gpu, max_pool, Grid::each(total), stem.z.address, stem.norm.address, pooled.address, places, window, total,
        )?;
        Ok((pooled, out))
    }

    fn average(&self, last: &Buffer, map: Map) -> Result<Buffer> {
        let embeddings = self.gpu.take(map.images * self.dim)?;
        let total = count(embeddings.len())?;
        let (pixels, channels) = ((map.height * map.width) as u32, self.dim as u32);
        #[rustfmt::skip]
        launch!(self.gpu, average_pool, Grid::each(total), last.address, embeddings.address, pixels, channels, total)?;
        Ok(embeddings)
    }

    fn upload(&self, images: &ImageBatch) -> Result<(Bytes, Map)> {
        let map = Map { images: images.count(), height: images.size_px(), width: images.size_px() };
        Ok((self.gpu.upload_bytes(images.pixels())?, map))
    }

    /// Embeddings with the batch's statistics, which move the running ones.
    pub(super) fn forward_train(&mut self, images: &ImageBatch) -> Result<(Buffer, NetworkTape)> {
        let (pixels, map) = self.upload(images)?;
        let (stem, wide) = self.train_layer(0, Input::Pixels(&pixels), map)?;
        let places = self.gpu.bytes(
            wide.images * wide.height.div_ceil(2) * wide.width.div_ceil(2) * self.layers[0].plan.out_channels,
        )?;
        let (pooled, mut at) = self.pool(&stem, wide, Some(&places))?;
        let mut blocks: Vec<BlockTape> = Vec::with_capacity(self.blocks.len());
        for index in 0..self.blocks.len() {
            let BasicBlock { first, second, downsample } = self.blocks[index];
            let x = blocks.last().map_or(&pooled, |block| &block.out);
            let (one, next) = self.train_layer(first, Input::Values(x), at)?;
            let inner = self.transform(first, &one, None)?;
            let (two, _) = self.train_layer(second, Input::Values(&inner), next)?;
            let projection = match downsample {
                Some(layer) => Some(self.train_layer(layer, Input::Values(x), at)?.0),
                None => None,
            };
            let shortcut = match &projection {
                Some(trained) => (&trained.z, Some(&trained.norm)),
                None => (x, None),
            };
            let out = self.transform(second, &two, Some(shortcut))?;
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
        self.gpu.give([stem.z, stem.norm]);
        for BasicBlock { first, second, downsample } in &self.blocks {
            let (one, next) = self.infer_layer(*first, Input::Values(&x), at)?;
            let inner = self.transform(*first, &one, None)?;
            let (two, _) = self.infer_layer(*second, Input::Values(&inner), next)?;
            let out = match downsample {
                Some(layer) => {
                    let (other, _) = self.infer_layer(*layer, Input::Values(&x), at)?;
                    let out = self.transform(*second, &two, Some((&other.z, Some(&other.norm))))?;
                    self.gpu.give([other.z, other.norm]);
                    out
                }
                None => self.transform(*second, &two, Some((&x, None)))?,
            };
            self.gpu.give([one.z, one.norm, two.z, two.norm, inner, x]);
            (x, at) = (out, next);
        }
        let embeddings = self.average(&x, at)?;
        self.gpu.give([x]);
        Ok(embeddings)
    }

    /// The gradient at a layer's convolution, from that at its output; the batch norm's go to `gradients`. `out` is the
    /// ReLU's output behind the layer, `masked` gets the gradient behind that ReLU.
    fn norm_backward(
        &self,
        layer: usize,
        trained: &Trained,
        grad: &Buffer,
        out: Option<&Buffer>,
        masked: Option<&Buffer>,
        gradients: &Buffer,
    ) -> Result<Buffer> {
        let Layer { plan, norm, .. } = &self.layers[layer];
        let channels = plan.out_channels;
        let rows = trained.z.len() / channels;
        let (part_count, rows_per_part) = parts(rows);
        let sums = self.gpu.take(2 * part_count * channels)?;
        let out = out.map_or(0, |out| out.address);
        let masked = masked.map_or(0, |masked| masked.address);
        let (wide, part_count) = (channels as u32, part_count as u32);
        let (rows_u32, rows_per_part) = (count(rows)?, rows_per_part as u32);
        #[rustfmt::skip]
        launch!(
            self.gpu, norm_backward_sums, Grid::sums(channels, part_count), grad.address, out, trained.z.address,
            trained.norm.address, sums.address, rows_u32, wide, rows_per_part,
        )?;
        let (weight, bias) = (gradients.at(*norm), gradients.at(norm + channels));
        #[rustfmt::skip]
        launch!(
            self.gpu, norm_gradients, Grid::sums(channels, 1), sums.address, part_count, weight, bias, wide,
        )?;
        let result = self.gpu.take(trained.z.len())?;
        let total = count(result.len() / 4)?;
        let one_over_rows = 1.0 / rows as f32;
        #[rustfmt::skip]
        launch!(
            self.gpu, norm_backward, Grid::each(total), grad.address, out, trained.z.address, trained.norm.address, weight,
            bias, masked, result.address, one_over_rows, wide, total,
        )?;
        self.gpu.give([sums]);
        Ok(result)
    }

    /// The gradient of a convolution's weights, into `gradients`.
    fn weights_backward(
        &self,
        layer: usize,
        input: Input<'_>,
        map: Map,
        grad: &Buffer,
        gradients: &Buffer,
    ) -> Result<Buffer> {
        let (columns, out) = self.columns(layer, input, map)?;
        let Layer { plan, row, weights, .. } = &self.layers[layer];
        self.gpu.matmul(Product {
            a: columns.address,
            transpose_a: false,
            b: grad.address,
            transpose_b: true,
            c: gradients.at(*weights),
            m: *row,
            n: plan.out_channels,
            k: out.rows(),
        })?;
        Ok(columns)
    }

    /// The gradients of a convolution, that of the weights into `gradients`; returns that of its input, plus `base`.
    fn convolve_backward(
        &self,
        layer: usize,
        input: &Buffer,
        map: Map,
        grad: &Buffer,
        base: Option<&Buffer>,
        gradients: &Buffer,
    ) -> Result<Buffer> {
        // The columns have served their purpose, and their gradient takes their place.
        let columns = self.weights_backward(layer, Input::Values(input), map, grad, gradients)?;
        let Layer { plan, row, weights, .. } = &self.layers[layer];
        self.gpu.matmul(Product {
            a: self.parameters.at(*weights),
            transpose_a: false,
            b: grad.address,
            transpose_b: false,
            c: columns.address,
            m: *row,
            n: columns.len() / row,
            k: plan.out_channels,
        })?;
        let result = self.gpu.take(input.len())?;
        let total = count(result.len() / 4)?;
        let window = Window::of(plan, map.height, map.width);
        let base = base.map_or(0, |base| base.address);
        #[rustfmt::skip]
        launch!(
            self.gpu, columns_backward, Grid::each(total), columns.address, base, result.address, window, total,
        )?;
        self.gpu.give([columns]);
        Ok(result)
    }

    /// Gradients of all parameters, laid out as they are, given the gradient at the embeddings.
    pub(super) fn backward(&self, tape: NetworkTape, at_embeddings: Address) -> Result<Buffer> {
        let NetworkTape { pixels, map, stem, pooled, places, blocks } = tape;
        // Between the layers nothing is left to chance: places that no gradient reaches (the fill of the stem's rows)
        // are written by the product over columns of 0.
        let gradients = self.gpu.take(self.parameters.len())?;
        let wide = Window::of(&self.layers[0].plan, map.height, map.width);
        let wide =
            Map { images: map.images, height: wide.out_height as usize, width: wide.out_width as usize };
        let halved = |map: Map| Map { height: map.height.div_ceil(2), width: map.width.div_ceil(2), ..map };
        let mut inputs = vec![halved(wide)];
        for block in &self.blocks {
            let at = *inputs.last().expect("it begins with one");
            inputs.push(if self.layers[block.first].plan.stride == 2 { halved(at) } else { at });
        }

        let last = &blocks.last().expect("an encoder has blocks").out;
        let mut grad = self.gpu.take(last.len())?;
        let at = inputs[self.blocks.len()];
        let (spread, total) = ((at.height * at.width) as u32, count(grad.len())?);
        let channels = self.dim as u32;
        #[rustfmt::skip]
        launch!(
            self.gpu, average_pool_backward, Grid::each(total), at_embeddings, grad.address, spread, channels, total,
        )?;

        let mut blocks = blocks;
        while let Some(block) = blocks.pop() {
            let BasicBlock { first, second, downsample } = self.blocks[blocks.len()];
            let (at, next) = (inputs[blocks.len()], inputs[blocks.len() + 1]);
            let x = blocks.last().map_or(&pooled, |block| &block.out);
            let masked = self.gpu.take(grad.len())?;
            let second_grad = self.norm_backward(
                second,
                &block.second,
                &grad,
                Some(&block.out),
                Some(&masked),
                &gradients,
            )?;
            let inner_grad =
                self.convolve_backward(second, &block.inner, next, &second_grad, None, &gradients)?;
            let first_grad =
                self.norm_backward(first, &block.first, &inner_grad, Some(&block.inner), None, &gradients)?;
            let shortcut_grad = match (downsample, &block.downsample) {
                (Some(layer), Some(trained)) => {
                    let projected = self.norm_backward(layer, trained, &masked, None, None, &gradients)?;
                    let shortcut = self.convolve_backward(layer, x, at, &projected, None, &gradients)?;
                    self.gpu.give([projected, masked]);
                    shortcut
                }
                _ => masked,
            };
            let below =
                self.convolve_backward(first, x, at, &first_grad, Some(&shortcut_grad), &gradients)?;
            self.gpu.give([grad, second_grad, inner_grad, first_grad, shortcut_grad]);
            let BlockTape { first, inner, second, downsample, out } = block;
            self.gpu.give([first.z, first.norm, inner, second.z, second.norm, out]);
            self.gpu.give(downsample.into_iter().flat_map(|trained| [trained.z, trained.norm]));
            grad = below;
        }

        let window = Window::of_pooling(self.layers[0].plan.out_channels, wide.height, wide.width);
        let stem_grad = self.gpu.take(stem.z.len())?;
        let total = count(stem_grad.len())?;
        #[rustfmt::skip]
        launch!(
            self.gpu, max_pool_backward, Grid::each(total), grad.address, pooled.address, places.address,
            stem_grad.address, window, total,
        )?;
        let z_grad = self.norm_backward(0, &stem, &stem_grad, None, None, &gradients)?;
        let columns = self.weights_backward(0, Input::Pixels(&pixels), map, &z_grad, &gradients)?;
        self.gpu.give([grad, stem_grad, z_grad, columns, stem.z, stem.norm, pooled]);
        Ok(gradients)
    }
}
