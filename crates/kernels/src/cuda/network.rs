//! The network: forward and backward of a training step, and inference, as launches on the device.
//!
//! | operation | launches |
//! |---|---|
//! | convolution | columns, matrix product |
//! | batch norm | sums, statistics; then with ReLU and the residual addition in one pass |
//! | its gradient | sums, the weights' gradients; then with the ReLU's mask in one pass |
//! | convolution's gradients | columns (made again: they are nine times the map), two products, columns back |
//! | stem | normalisation of the pixels in its columns; batch norm and ReLU in the max-pooling |

use super::gpu::{AS_IT_IS, Buffer, Bytes, Gpu, Number, TRANSPOSED, View};
use super::kernels::Window;
use crate::flat::{Layer, Network};
use crate::resnet::{Block, Convolution, Map};
use crate::{ImageBatch, Result};

/// Length of a row of columns and of weights: the window's values, filled to a multiple of 16 bytes, over which products run
/// faster.
pub(super) fn row<N: Number>(conv: &Convolution) -> usize {
    (conv.in_channels * conv.taps()).next_multiple_of(N::PACK)
}

/// The input of a layer.
#[derive(Clone, Copy)]
enum Input<'a, N> {
    Pixels(&'a Bytes),
    Values(&'a Buffer<N>),
}

/// A layer's outcome: the convolution's output and its normalisation.
struct Output<N> {
    z: Buffer<N>,
    norm: Buffer,
}

impl<N> Output<N> {
    fn views(&self) -> (View<'_, N>, View<'_>) {
        (self.z.view(), self.norm.view())
    }
}

/// A block's outcome; `inner` stands between its convolutions.
struct BlockTape<N> {
    first: Output<N>,
    inner: Buffer<N>,
    second: Output<N>,
    downsample: Option<Output<N>>,
    out: Buffer<N>,
}

/// What the backward pass needs.
pub(super) struct NetworkTape<N> {
    pixels: Bytes,
    map: Map,
    stem: Output<N>,
    pooled: Buffer<N>,
    places: Bytes,
    blocks: Vec<BlockTape<N>>,
}

impl<N: Number> Network<Gpu<N>> {
    fn windows(&self, layer: usize, map: Map) -> Window {
        Window::of(&self.conv(layer), map)
    }

    /// A layer's weights as products read them.
    fn weights(&self, layer: usize) -> Result<View<'_, N>> {
        let all = self.machine.weights(&self.parameters, self.decayed)?;
        Ok(all.part(&self.layers[layer].weights))
    }

    /// The columns of a layer's input.
    fn columns(&self, layer: usize, input: Input<'_, N>, map: Map) -> Result<Buffer<N>> {
        let (conv, w) = (self.conv(layer), self.windows(layer, map));
        let row = row::<N>(&conv);
        let columns = self.machine.maps.take(conv.output(map).pixels() * row)?;
        match input {
            Input::Pixels(pixels) => self.machine.stem_columns(pixels.view(), columns.view(), w, row)?,
            Input::Values(values) => self.machine.columns(values.view(), columns.view(), w)?,
        }
        Ok(columns)
    }

    /// A layer's convolution, `(rows, out_channels)`, and its normalisation: by the batch's statistics, which move the running
    /// ones, in training, by the running ones otherwise.
    fn layer(&self, layer: usize, input: Input<'_, N>, map: Map, training: bool) -> Result<Output<N>> {
        let (conv, columns) = (self.conv(layer), self.columns(layer, input, map)?);
        let rows = conv.output(map).pixels();
        let z = self.machine.maps.take(rows * conv.out_channels)?;
        let sides = [conv.out_channels, rows, row::<N>(&conv)];
        let weights = (self.weights(layer)?, TRANSPOSED);
        self.machine.matmul(weights, (columns.view(), AS_IT_IS), z.view(), sides)?;
        self.machine.maps.give([columns]);
        let norm = self.machine.vectors.take(4 * conv.out_channels)?;
        let Layer { norm: [weight, bias], running: [mean, variance], .. } = &self.layers[layer];
        let (parameters, running) = (&self.parameters, &self.running);
        let parts = [parameters.part(weight), parameters.part(bias), running.part(mean), running.part(variance)];
        if training {
            self.machine.batch_norm(z.view(), parts, norm.view())?;
        } else {
            self.machine.running_norm(parts, norm.view())?;
        }
        Ok(Output { z, norm })
    }

    /// Batch norm, the shortcut, ReLU; a shortcut with statistics is normalised by them.
    fn transform(&self, output: &Output<N>, shortcut: Option<(View<'_, N>, Option<View<'_>>)>) -> Result<Buffer<N>> {
        let out = self.machine.maps.take(output.z.len())?;
        self.machine.transform(output.views(), shortcut, out.view())?;
        Ok(out)
    }

    /// The windows of the max-pooling behind the stem's map.
    fn pooling(&self, map: Map) -> Window {
        Window::of(&Convolution::new([self.conv(0).out_channels; 2], 3, 2), map)
    }

    /// The stem with its batch norm and ReLU, and the max-pooling; in training with the places of the maxima.
    fn stem(&self, pixels: &Bytes, map: Map, training: bool) -> Result<(Output<N>, Buffer<N>, Option<Bytes>)> {
        let stem = self.layer(0, Input::Pixels(pixels), map, training)?;
        let wide = self.conv(0).output(map);
        let pooled = self.machine.maps.take(wide.pooled().pixels() * self.conv(0).out_channels)?;
        let places = training.then(|| self.machine.bytes.take(pooled.len())).transpose()?;
        let at = places.as_ref().map(Bytes::view);
        self.machine.max_pool(stem.views(), pooled.view(), at, self.pooling(wide))?;
        Ok((stem, pooled, places))
    }

    /// A block over `x` of extent `map`.
    fn block(&self, block: usize, map: Map, x: &Buffer<N>, training: bool) -> Result<BlockTape<N>> {
        let block = self.blocks[block];
        let first = self.layer(block.first, Input::Values(x), map, training)?;
        let inner = self.transform(&first, None)?;
        let behind = self.conv(block.first).output(map);
        let second = self.layer(block.last, Input::Values(&inner), behind, training)?;
        let projection = block.downsample.map(|layer| self.layer(layer, Input::Values(x), map, training));
        let downsample = projection.transpose()?;
        let shortcut = match &downsample {
            Some(projection) => (projection.z.view(), Some(projection.norm.view())),
            None => (x.view(), None),
        };
        let out = self.transform(&second, Some(shortcut))?;
        Ok(BlockTape { first, inner, second, downsample, out })
    }

    /// Gives back what a block left, but for its output.
    fn give_inside(&self, block: BlockTape<N>) -> Buffer<N> {
        let BlockTape { first, inner, second, downsample, out } = block;
        self.machine.maps.give([inner]);
        [Some(first), Some(second), downsample].into_iter().flatten().for_each(|output| self.give_output(output));
        out
    }

    fn give_output(&self, Output { z, norm }: Output<N>) {
        self.machine.maps.give([z]);
        self.machine.vectors.give([norm]);
    }

    fn average(&self, last: &Buffer<N>, images: usize) -> Result<Buffer> {
        let embeddings = self.machine.vectors.take(images * self.dim)?;
        self.machine.average_pool(last.view(), embeddings.view(), self.dim)?;
        Ok(embeddings)
    }

    fn upload(&self, images: &ImageBatch) -> Result<Bytes> {
        Ok(Bytes::new(self.machine.device.clone_htod(images.pixels())?))
    }

    /// Embeddings with the batch's statistics, which move the running ones.
    pub(super) fn forward_train(&self, images: &ImageBatch) -> Result<(Buffer, NetworkTape<N>)> {
        let (pixels, map) = (self.upload(images)?, Map::of(images));
        let maps = self.maps(map);
        let (stem, pooled, places) = self.stem(&pixels, map, true)?;
        let places = places.expect("training keeps them");
        let mut blocks: Vec<BlockTape<N>> = Vec::with_capacity(self.blocks.len());
        for index in 0..self.blocks.len() {
            let x = blocks.last().map_or(&pooled, |block| &block.out);
            blocks.push(self.block(index, maps[index], x, true)?);
        }
        let embeddings = self.average(&blocks.last().expect("an encoder has blocks").out, map.images)?;
        Ok((embeddings, NetworkTape { pixels, map, stem, pooled, places, blocks }))
    }

    /// Embeddings with the running statistics.
    pub(super) fn forward(&self, images: &ImageBatch) -> Result<Buffer> {
        let (pixels, map) = (self.upload(images)?, Map::of(images));
        let maps = self.maps(map);
        let (stem, mut x, _) = self.stem(&pixels, map, false)?;
        self.give_output(stem);
        for index in 0..self.blocks.len() {
            let out = self.give_inside(self.block(index, maps[index], &x, false)?);
            self.machine.maps.give([std::mem::replace(&mut x, out)]);
        }
        let embeddings = self.average(&x, map.images)?;
        self.machine.maps.give([x]);
        Ok(embeddings)
    }

    /// The gradient at a layer's convolution, from that at its output; the batch norm's go to `gradients`. Of `around`, the
    /// first is the ReLU's output behind the layer, and the second gets the gradient behind that ReLU.
    fn norm_backward(
        &self,
        layer: usize,
        output: &Output<N>,
        grad: &Buffer<N>,
        around: [Option<&Buffer<N>>; 2],
        gradients: &Buffer,
    ) -> Result<Buffer<N>> {
        let result = self.machine.maps.take(output.z.len())?;
        let own = self.layers[layer].norm.each_ref().map(|range| gradients.part(range));
        let around = around.map(|map| map.map(Buffer::view));
        self.machine.norm_backward(grad.view(), output.views(), around, own, result.view())?;
        Ok(result)
    }

    /// The gradient of a convolution's weights, into `gradients`; returns the columns of its input.
    fn weights_backward(
        &self,
        layer: usize,
        input: Input<'_, N>,
        map: Map,
        grad: &Buffer<N>,
        gradients: &Buffer,
    ) -> Result<Buffer<N>> {
        let (conv, columns) = (self.conv(layer), self.columns(layer, input, map)?);
        let sides = [row::<N>(&conv), conv.out_channels, conv.output(map).pixels()];
        let weights = gradients.part(&self.layers[layer].weights);
        self.machine.matmul((columns.view(), AS_IT_IS), (grad.view(), TRANSPOSED), weights, sides)?;
        Ok(columns)
    }

    /// The gradients of a convolution, that of the weights into `gradients`; returns that of its input, plus `base`.
    fn convolve_backward(
        &self,
        layer: usize,
        (input, map): (&Buffer<N>, Map),
        grad: &Buffer<N>,
        base: Option<&Buffer<N>>,
        gradients: &Buffer,
    ) -> Result<Buffer<N>> {
        // The columns have served their purpose, and their gradient takes their place.
        let columns = self.weights_backward(layer, Input::Values(input), map, grad, gradients)?;
        let (conv, row) = (self.conv(layer), row::<N>(&self.conv(layer)));
        let sides = [row, columns.len() / row, conv.out_channels];
        let weights = (self.weights(layer)?, AS_IT_IS);
        self.machine.matmul(weights, (grad.view(), AS_IT_IS), columns.view(), sides)?;
        let result = self.machine.maps.take(input.len())?;
        let (base, w) = (base.map(Buffer::view), self.windows(layer, map));
        self.machine.columns_backward(columns.view(), base, result.view(), w)?;
        self.machine.maps.give([columns]);
        Ok(result)
    }

    /// Gradients of all parameters, laid out as they are, given the gradient at the embeddings.
    pub(super) fn backward(&self, tape: NetworkTape<N>, at_embeddings: View<'_>) -> Result<Buffer> {
        let NetworkTape { pixels, map, stem, pooled, places, mut blocks } = tape;
        // Between the layers nothing is left to chance: places that no gradient reaches (the fill of the stem's rows)
        // are written by the product over columns of 0.
        let gradients = self.machine.vectors.take(self.parameters.len())?;
        let maps = self.maps(map);
        let last = &blocks.last().expect("an encoder has blocks").out;
        let mut grad = self.machine.maps.take(last.len())?;
        self.machine.average_pool_backward(at_embeddings, grad.view(), self.dim)?;

        while let Some(block) = blocks.pop() {
            let Block { first, last: second, downsample, .. } = self.blocks[blocks.len()];
            let (at, next) = (maps[blocks.len()], maps[blocks.len() + 1]);
            let x = blocks.last().map_or(&pooled, |block| &block.out);
            let masked = self.machine.maps.take(grad.len())?;
            let around = [Some(&block.out), Some(&masked)];
            let second_grad = self.norm_backward(second, &block.second, &grad, around, &gradients)?;
            let inner_grad = self.convolve_backward(second, (&block.inner, next), &second_grad, None, &gradients)?;
            let around = [Some(&block.inner), None];
            let first_grad = self.norm_backward(first, &block.first, &inner_grad, around, &gradients)?;
            let shortcut_grad = match (downsample, &block.downsample) {
                (Some(layer), Some(output)) => {
                    let projected = self.norm_backward(layer, output, &masked, [None; 2], &gradients)?;
                    let shortcut = self.convolve_backward(layer, (x, at), &projected, None, &gradients)?;
                    self.machine.maps.give([projected, masked]);
                    shortcut
                }
                _ => masked,
            };
            let below = self.convolve_backward(first, (x, at), &first_grad, Some(&shortcut_grad), &gradients)?;
            let out = self.give_inside(block);
            self.machine.maps.give([grad, second_grad, inner_grad, first_grad, shortcut_grad, out]);
            grad = below;
        }

        let stem_grad = self.machine.maps.take(stem.z.len())?;
        let w = self.pooling(self.conv(0).output(map));
        self.machine.max_pool_backward(grad.view(), places.view(), stem_grad.view(), w)?;
        let z_grad = self.norm_backward(0, &stem, &stem_grad, [None; 2], &gradients)?;
        let columns = self.weights_backward(0, Input::Pixels(&pixels), map, &z_grad, &gradients)?;
        self.machine.maps.give([grad, stem_grad, z_grad, columns, pooled]);
        self.machine.bytes.give([places]);
        self.give_output(stem);
        Ok(gradients)
    }
}
