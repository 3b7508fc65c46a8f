//! The kernels of kernels.cu, compiled for the device at hand, as functions that check the extents of what they are given.
//! Which is what makes launching them safe: the arguments' types stand here once for each.

use super::gpu::{Address, Buffer, Gpu, Number, View, count};
use crate::resnet::{BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Convolution, DEVIATION, MEAN, Map};
use crate::{Error, Result};
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, DeviceRepr, LaunchConfig, PushKernelArg};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDevice, WrapErr};

/// A convolution's or a pooling's windows, as the kernels read them.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) height: i32,
    pub(super) width: i32,
    pub(super) channels: i32,
    pub(super) kernel: i32,
    pub(super) stride: i32,
    pub(super) padding: i32,
    pub(super) out_height: i32,
    pub(super) out_width: i32,
}

/// Mean and deviation of the pixels' channels.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Color {
    pub(super) mean: [f32; 3],
    pub(super) deviation: [f32; 3],
}

/// The factors of an AdamW step.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) keep: f32,
    pub(super) beta1: f32,
    pub(super) one_minus_beta1: f32,
    pub(super) beta2: f32,
    pub(super) one_minus_beta2: f32,
    pub(super) rate: f32,
    pub(super) root_correction: f32,
    pub(super) epsilon: f32,
}

// SAFETY: plain numbers, laid out as the structs of the same names in kernels.cu.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Window {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Color {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl DeviceRepr for Step {}

impl Window {
    /// The windows of a convolution, or of a pooling, over `map`.
    pub(super) fn of(conv: &Convolution, map: Map) -> Self {
        let out = conv.output(map);
        Self {
            height: map.height as i32,
            width: map.width as i32,
            channels: conv.in_channels as i32,
            kernel: conv.kernel as i32,
            stride: conv.stride as i32,
            padding: conv.padding as i32,
            out_height: out.height as i32,
            out_width: out.width as i32,
        }
    }

    /// Panics unless maps of `input` and `output` numbers are the input and output of the same images, with `numbers` numbers
    /// for each pixel of the output.
    fn check(&self, input: usize, output: usize, numbers: usize) {
        let of_image = (self.height * self.width * self.channels) as usize;
        let images = input / of_image;
        let pixels = (self.out_height * self.out_width) as usize;
        assert!(input == images * of_image && output == images * pixels * numbers);
    }

    /// Numbers that a window covers.
    fn covered(&self) -> usize {
        (self.kernel * self.kernel * self.channels) as usize
    }
}

/// Declares the kernels of kernels.cu and how they are found.
macro_rules! kernels {
    ($($name:ident),*) => {
        /// The kernels, loaded.
        pub(super) struct Kernels { $(pub(super) $name: CudaFunction),* }

        impl Kernels {
            /// Those for maps of `N`.
            pub(super) fn load<N: Number>(device: &CudaDevice) -> Result<Self> {
                let source = compile(device, size_of::<N>())?;
                let function = |name: &str| -> Result<CudaFunction> {
                    let found = device.get_or_load_custom_func(name, N::MODULE, &source)?;
                    Ok(found.into_cuda_function())
                };
                Ok(Self { $($name: function(stringify!($name))?),* })
            }
        }
    };
}

kernels! {
    columns, stem_columns, columns_backward, statistics, batch_norm, running_norm, transform, norm_backward_sums,
    norm_gradients, norm_backward, max_pool, max_pool_backward, average_pool, average_pool_backward, round_weights, adamw
}

/// kernels.cu as PTX for the device at hand, for maps of numbers of so many bytes.
fn compile(device: &CudaDevice, number_bytes: usize) -> Result<String> {
    let (major, minor) = device.cuda_stream().context().compute_capability().w()?;
    let architecture = format!("--gpu-architecture=compute_{major}{minor}");
    let number = format!("--define-macro=NUMBER_BYTES={number_bytes}");
    let options = CompileOptions { options: vec![architecture, number], ..CompileOptions::default() };
    let ptx = compile_ptx_with_opts(include_str!("kernels.cu"), options)
        .map_err(|error| Error::CudaKernels { capability: format!("{major}.{minor}"), problem: error.to_string() })?;
    Ok(ptx.to_src())
}

/// A thread an element; the kernels stride over what is more than a grid holds.
fn each(elements: u32) -> LaunchConfig {
    const THREADS: u32 = 256;
    let blocks = elements.div_ceil(THREADS).clamp(1, 1 << 20);
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes: 0 }
}

/// 32 threads over channels, each over `wide` of them, by 8 rows a block.
fn summing(channels: u32, wide: usize, parts: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (channels / 32 / wide as u32, parts, 1), block_dim: (32, 8, 1), shared_mem_bytes: 0 }
}

/// Launches a kernel with its arguments, which must be those of kernels.cu in type and number, over extents that the
/// function around it has checked.
macro_rules! launch {
    ($gpu:expr, $name:ident, $grid:expr; $($argument:expr),*) => {{
        let stream = $gpu.device.cuda_stream();
        #[allow(unsafe_code)]
        // SAFETY: views are of live buffers, and what was checked holds all numbers that the kernel walks over.
        let launched = unsafe { stream.launch_builder(&$gpu.kernels.$name)$(.arg(&$argument))*.launch($grid) };
        launched.w().map(|_| ()).map_err(Error::from)
    }};
}

/// Where a view begins; nowhere without one.
fn place<T>(view: Option<View<'_, T>>) -> Address {
    view.map_or(0, |view| view.address)
}

/// Sums of a map's channels, in parts.
struct Sums {
    buffer: Buffer,
    rows: u32,
    parts: u32,
    rows_per_part: u32,
}

/// A map's rows are summed in at most so many parts.
const MOST_PARTS: usize = 256;
/// Rows of a part: enough that a block is worth its launch.
const LEAST_ROWS: usize = 64;

// Calls of `launch` stand in braces, which rustfmt leaves alone: otherwise each argument would take a line.
impl<N: Number> Gpu<N> {
    /// The columns of a convolution: a row for each pixel of the output, the values of its window.
    pub(super) fn columns(&self, x: View<'_, N>, result: View<'_, N>, w: Window) -> Result<()> {
        w.check(x.len, result.len, w.covered());
        assert!((w.channels as usize).is_multiple_of(N::PACK));
        let total = count(result.len / N::PACK)?;
        launch! { self, columns, each(total); x.address, result.address, w, total }
    }

    /// The same of normalised pixels, rows filled with 0 to `row` numbers.
    pub(super) fn stem_columns(&self, pixels: View<'_, u8>, result: View<'_, N>, w: Window, row: usize) -> Result<()> {
        w.check(pixels.len, result.len, row);
        assert!(w.channels == 3 && row >= w.covered() && row.is_multiple_of(N::PACK));
        let color = Color { mean: MEAN, deviation: DEVIATION };
        let (total, row) = (count(result.len / N::PACK)?, row as u32);
        launch! { self, stem_columns, each(total); pixels.address, result.address, w, color, row, total }
    }

    /// The gradient at a convolution's input, from that at its columns; `base` is added.
    pub(super) fn columns_backward(
        &self,
        grad: View<'_, N>,
        base: Option<View<'_, N>>,
        result: View<'_, N>,
        w: Window,
    ) -> Result<()> {
        w.check(result.len, grad.len, w.covered());
        assert!((w.channels as usize).is_multiple_of(N::PACK) && (w.stride == 1 || w.stride == 2));
        assert!(base.is_none_or(|base| base.len == result.len));
        let total = count(result.len / N::PACK)?;
        launch! { self, columns_backward, each(total); grad.address, place(base), result.address, w, total }
    }

    /// A buffer for the sums of a map of `len` numbers, cut into parts as a function of their number alone.
    fn sums(&self, len: usize, channels: u32) -> Result<Sums> {
        let channels = channels as usize;
        assert!(len.is_multiple_of(channels));
        let rows = count(len)? as usize / channels;
        let rows_per_part = rows.div_ceil(MOST_PARTS).max(LEAST_ROWS);
        let parts = rows.div_ceil(rows_per_part);
        let buffer = self.vectors.take(2 * parts * channels)?;
        Ok(Sums { buffer, rows: rows as u32, parts: parts as u32, rows_per_part: rows_per_part as u32 })
    }

    /// The batch's normalisation, from sums of `x` and of its square, shifted by the channel's first value; moves the running
    /// statistics. `layer` is weight, bias, running mean and variance.
    pub(super) fn batch_norm(&self, x: View<'_, N>, layer: [View<'_>; 4], norm: View<'_>) -> Result<()> {
        let channels = channels_of(&layer, norm);
        let Sums { buffer, rows, parts, rows_per_part } = self.sums(x.len, channels)?;
        let ([weight, bias, mean, variance], sums) = (layer.map(|view| view.address), buffer.view().address);
        let (epsilon, momentum) = (BATCH_NORM_EPSILON as f32, BATCH_NORM_MOMENTUM as f32);
        launch! { self, statistics, summing(channels, N::WIDE, parts); x.address, sums, rows, channels, rows_per_part }?;
        launch! {
            self, batch_norm, summing(channels, 1, 1);
            x.address, sums, parts, weight, bias, mean, variance, norm.address, rows, channels, epsilon, momentum
        }?;
        self.vectors.give([buffer]);
        Ok(())
    }

    /// The normalisation of inference, from the running statistics; `layer` as in [`Gpu::batch_norm`].
    pub(super) fn running_norm(&self, layer: [View<'_>; 4], norm: View<'_>) -> Result<()> {
        let (channels, epsilon) = (channels_of(&layer, norm), BATCH_NORM_EPSILON as f32);
        let [weight, bias, mean, variance] = layer.map(|view| view.address);
        launch! {
            self, running_norm, each(channels); weight, bias, mean, variance, norm.address, channels, epsilon
        }
    }

    /// Batch norm, the shortcut, ReLU; a shortcut with a norm of its own is normalised by it.
    pub(super) fn transform(
        &self,
        (x, norm): (View<'_, N>, View<'_>),
        shortcut: Option<(View<'_, N>, Option<View<'_>>)>,
        result: View<'_, N>,
    ) -> Result<()> {
        let channels = channels_of(&[], norm);
        let (other, other_norm) = (shortcut.map(|(view, _)| view), shortcut.and_then(|(_, norm)| norm));
        assert!(x.len == result.len && x.len.is_multiple_of(channels as usize));
        assert!(other.is_none_or(|view| view.len == x.len));
        assert!(other_norm.is_none_or(|view| view.len == norm.len));
        let total = count(x.len / N::PACK)?;
        launch! {
            self, transform, each(total);
            x.address, norm.address, place(other), place(other_norm), result.address, channels, total
        }
    }

    /// The gradient at a batch norm's input, into `result`, from that behind it; those of its weight and bias. `out` is the
    /// output of the ReLU behind, `masked` gets the gradient behind that ReLU.
    pub(super) fn norm_backward(
        &self,
        grad: View<'_, N>,
        (x, norm): (View<'_, N>, View<'_>),
        [out, masked]: [Option<View<'_, N>>; 2],
        [weight, bias]: [View<'_>; 2],
        result: View<'_, N>,
    ) -> Result<()> {
        let channels = channels_of(&[weight, bias], norm);
        assert!((grad.len, result.len) == (x.len, x.len));
        assert!([out, masked].into_iter().flatten().all(|view| view.len == x.len));
        let Sums { buffer, rows, parts, rows_per_part } = self.sums(x.len, channels)?;
        let (total, one_over_rows, sums) = (count(x.len / N::PACK)?, 1.0 / rows as f32, buffer.view().address);
        let (out, masked) = (place(out), place(masked));
        launch! {
            self, norm_backward_sums, summing(channels, N::WIDE, parts);
            grad.address, out, x.address, norm.address, sums, rows, channels, rows_per_part
        }?;
        launch! { self, norm_gradients, summing(channels, 1, 1); sums, parts, weight.address, bias.address, channels }?;
        launch! {
            self, norm_backward, each(total);
            grad.address, out, x.address, norm.address, weight.address, bias.address, masked, result.address,
            one_over_rows, channels, total
        }?;
        self.vectors.give([buffer]);
        Ok(())
    }

    /// Batch norm, ReLU and max-pooling; `places` keeps where in its window a maximum stands, the first of equal ones, for the gradient.
    pub(super) fn max_pool(
        &self,
        (x, norm): (View<'_, N>, View<'_>),
        result: View<'_, N>,
        places: Option<View<'_, u8>>,
        w: Window,
    ) -> Result<()> {
        let channels = channels_of(&[], norm);
        w.check(x.len, result.len, channels as usize);
        assert!(w.channels as u32 == channels && places.is_none_or(|places| places.len == result.len));
        let total = count(result.len / N::PACK)?;
        launch! { self, max_pool, each(total); x.address, norm.address, result.address, place(places), w, total }
    }

    /// The gradient behind the ReLU in front of a max-pooling.
    pub(super) fn max_pool_backward(
        &self,
        grad: View<'_, N>,
        places: View<'_, u8>,
        result: View<'_, N>,
        w: Window,
    ) -> Result<()> {
        w.check(result.len, grad.len, w.channels as usize);
        assert!(
            (w.channels as usize).is_multiple_of(N::PACK) && (w.stride == 1 || w.stride == 2) && places.len == grad.len
        );
        let total = count(result.len / N::PACK)?;
        launch! { self, max_pool_backward, each(total); grad.address, places.address, result.address, w, total }
    }

    /// The mean over the pixels of each image.
    pub(super) fn average_pool(&self, x: View<'_, N>, result: View<'_>, channels: usize) -> Result<()> {
        let (pixels, channels, total) = (pixels_of(x, result, channels), channels as u32, count(result.len)?);
        launch! { self, average_pool, each(total); x.address, result.address, pixels, channels, total }
    }

    /// The gradient at its input.
    pub(super) fn average_pool_backward(&self, grad: View<'_>, result: View<'_, N>, channels: usize) -> Result<()> {
        let (pixels, channels, total) = (pixels_of(result, grad, channels), channels as u32, count(result.len)?);
        launch! { self, average_pool_backward, each(total); grad.address, result.address, pixels, channels, total }
    }

    /// The convolutions' weights as products read them, of which `trained` are the trained ones.
    pub(super) fn weights<'a>(&'a self, trained: &'a Buffer, decayed: usize) -> Result<View<'a, N>> {
        let trained = trained.part(&(0..decayed));
        if let Some(weights) = N::as_they_are(trained) {
            return Ok(weights);
        }
        if self.rounded.get().is_none() {
            let (rounded, total) = (self.maps.take(decayed)?, count(decayed)?);
            launch! { self, round_weights, each(total); trained.address, rounded.view().address, total }?;
            self.rounded.get_or_init(|| rounded);
        }
        Ok(self.rounded.get().expect("it was made").view())
    }

    /// AdamW over all parameters, of which the first `decayed` decay; those go to the rounded ones too.
    pub(super) fn adamw(
        &self,
        parameters: View<'_>,
        [first, second]: [View<'_>; 2],
        grad: View<'_>,
        step: Step,
        decayed: usize,
    ) -> Result<()> {
        assert!([first, second, grad].iter().all(|view| view.len == parameters.len));
        let rounded = self.rounded.get().map(Buffer::view);
        assert!(rounded.is_none_or(|rounded| rounded.len == decayed) && decayed <= parameters.len);
        let (decayed, total) = (count(decayed)?, count(parameters.len)?);
        launch! {
            self, adamw, each(total);
            parameters.address, first.address, second.address, grad.address, place(rounded), step, decayed, total
        }
    }
}

/// The channels of a batch norm whose parts are `vectors`; `norm` holds four vectors.
fn channels_of(vectors: &[View<'_>], norm: View<'_>) -> u32 {
    let channels = norm.len / 4;
    assert!(channels.is_multiple_of(64) && norm.len == 4 * channels);
    assert!(vectors.iter().all(|view| view.len == channels));
    channels as u32
}

/// Pixels of an image, whose map was averaged to `means`.
fn pixels_of<N>(map: View<'_, N>, means: View<'_>, channels: usize) -> u32 {
    let pixels = map.len / means.len;
    assert!(map.len == pixels * means.len && means.len.is_multiple_of(channels));
    pixels as u32
}
