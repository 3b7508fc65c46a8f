//! The device: its kernels, its memory and its matrix products. All that is unsafe in this folder stands here.
//!
//! Everything runs in the order of one stream, so a buffer given back can be handed out again at once.

use crate::resnet::ConvBatchNorm;
use crate::{Error, Precision, Result};
use candle_core::cuda_backend::cudarc::cublas::{result::gemm_ex, sys as blas};
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg, sys,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::cuda_backend::{CudaDevice, CudaStorage, WrapErr};
use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Shape, Storage, Tensor};
use std::cell::RefCell;
use std::collections::HashMap;

/// A place in the device's memory; 0 is nowhere.
pub(super) type Address = u64;

/// Numbers on the device.
pub(super) struct Buffer {
    slice: CudaSlice<f32>,
    /// Where it begins.
    pub(super) address: Address,
}

impl Buffer {
    fn new(slice: CudaSlice<f32>) -> Self {
        let address = slice.device_ptr(slice.stream()).0;
        Self { slice, address }
    }

    /// The place of element `index`.
    pub(super) fn at(&self, index: usize) -> Address {
        self.address + (index * size_of::<f32>()) as Address
    }

    pub(super) fn len(&self) -> usize {
        self.slice.len()
    }
}

/// Bytes on the device: pixels, and the places of maxima.
pub(super) struct Bytes {
    _slice: CudaSlice<u8>,
    pub(super) address: Address,
}

impl Bytes {
    fn new(slice: CudaSlice<u8>) -> Self {
        let address = slice.device_ptr(slice.stream()).0;
        Self { _slice: slice, address }
    }
}

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
    /// The windows of `plan`'s convolution over maps of `height` by `width`.
    pub(super) fn of(plan: &ConvBatchNorm, height: usize, width: usize) -> Self {
        Self::new(plan.in_channels, plan.kernel, plan.stride, plan.padding, height, width)
    }

    /// The windows of the max-pooling, 3x3 with stride 2 and padding 1.
    pub(super) fn of_pooling(channels: usize, height: usize, width: usize) -> Self {
        Self::new(channels, 3, 2, 1, height, width)
    }

    fn new(
        channels: usize,
        kernel: usize,
        stride: usize,
        padding: usize,
        height: usize,
        width: usize,
    ) -> Self {
        let out = |length: usize| ((length + 2 * padding - kernel) / stride + 1) as i32;
        Self {
            height: height as i32,
            width: width as i32,
            channels: channels as i32,
            kernel: kernel as i32,
            stride: stride as i32,
            padding: padding as i32,
            out_height: out(height),
            out_width: out(width),
        }
    }
}

/// Declares the kernels of kernels.cu and how they are found.
macro_rules! kernels {
    ($($name:ident),*) => {
        /// The kernels, loaded.
        pub(super) struct Kernels { $(pub(super) $name: CudaFunction),* }

        impl Kernels {
            fn load(device: &CudaDevice) -> Result<Self> {
                let source = compile(device)?;
                let function = |name: &str| -> Result<CudaFunction> {
                    let found = device.get_or_load_custom_func(name, "faceoff", &source)?;
                    Ok(found.into_cuda_function())
                };
                Ok(Self { $($name: function(stringify!($name))?),* })
            }
        }
    };
}

kernels!(
    columns,
    stem_columns,
    columns_backward,
    statistics,
    batch_norm,
    running_norm,
    transform,
    norm_backward_sums,
    norm_gradients,
    norm_backward,
    max_pool,
    max_pool_backward,
    average_pool,
    average_pool_backward,
    adamw
);

/// kernels.cu as PTX for the device at hand.
fn compile(device: &CudaDevice) -> Result<String> {
    let (major, minor) = device.cuda_stream().context().compute_capability().w()?;
    let architecture = format!("--gpu-architecture=compute_{major}{minor}");
    let options = CompileOptions { options: vec![architecture], ..CompileOptions::default() };
    match compile_ptx_with_opts(include_str!("kernels.cu"), options) {
        Ok(ptx) => Ok(ptx.to_src()),
        Err(error) => {
            Err(Error::CudaKernels { capability: format!("{major}.{minor}"), problem: error.to_string() })
        }
    }
}

/// The device with all that the encoder needs of it.
pub(super) struct Gpu {
    pub(super) device: CudaDevice,
    kernels: Kernels,
    precision: Precision,
    /// What [`Gpu::tensor`] hangs its operator on.
    anchor: Tensor,
    /// Buffers to be handed out again, by length.
    free: RefCell<HashMap<usize, Vec<Buffer>>>,
}

/// The extent of a launch.
pub(super) struct Grid(LaunchConfig);

impl Grid {
    /// A thread an element; the kernels stride over what is more than a grid holds.
    pub(super) fn each(elements: u32) -> Self {
        const THREADS: u32 = 256;
        Self(LaunchConfig {
            grid_dim: (elements.div_ceil(THREADS).clamp(1, 1 << 20), 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        })
    }

    /// 32 channels by 8 rows a block.
    pub(super) fn sums(channels: usize, parts: u32) -> Self {
        Self(LaunchConfig {
            grid_dim: (channels as u32 / 32, parts, 1),
            block_dim: (32, 8, 1),
            shared_mem_bytes: 0,
        })
    }
}

/// Launches a kernel with its arguments, whose types must be those of kernels.cu.
macro_rules! launch {
    ($gpu:expr, $name:ident, $grid:expr, $($argument:expr),* $(,)?) => {{
        let arguments: &[&dyn $crate::cuda::gpu::Argument] = &[$(&$argument),*];
        $gpu.launch(|kernels| &kernels.$name, $grid, arguments)
    }};
}
pub(super) use launch;

/// What a kernel takes.
pub(super) trait Argument {
    fn push<'a>(&'a self, builder: &mut candle_core::cuda_backend::cudarc::driver::LaunchArgs<'a>);
}

impl<T: DeviceRepr> Argument for T {
    fn push<'a>(&'a self, builder: &mut candle_core::cuda_backend::cudarc::driver::LaunchArgs<'a>) {
        builder.arg(self);
    }
}

impl Gpu {
    pub(super) fn new(device: &CudaDevice, precision: Precision) -> Result<Self> {
        let anchor = Tensor::zeros(1, DType::F32, &Device::Cuda(device.clone()))?;
        let kernels = Kernels::load(device)?;
        Ok(Self { device: device.clone(), kernels, precision, anchor, free: RefCell::default() })
    }

    #[allow(unsafe_code)]
    pub(super) fn launch(
        &self,
        kernel: impl Fn(&Kernels) -> &CudaFunction,
        grid: Grid,
        arguments: &[&dyn Argument],
    ) -> Result<()> {
        let stream = self.device.cuda_stream();
        let mut builder = stream.launch_builder(kernel(&self.kernels));
        for argument in arguments {
            argument.push(&mut builder);
        }
        // SAFETY: this folder passes every kernel the arguments that kernels.cu declares, with addresses of live
        // buffers of the lengths that the kernel walks over.
        unsafe { builder.launch(grid.0) }.w()?;
        Ok(())
    }

    /// A buffer of `len` numbers, which are whatever they are.
    #[allow(unsafe_code)]
    pub(super) fn take(&self, len: usize) -> Result<Buffer> {
        if let Some(buffer) = self.free.borrow_mut().get_mut(&len).and_then(Vec::pop) {
            return Ok(buffer);
        }
        // SAFETY: whoever takes a buffer writes all of it before anything reads it.
        let slice = unsafe { self.device.alloc(len) }?;
        Ok(Buffer::new(slice))
    }

    /// Takes buffers back, to hand them out again.
    pub(super) fn give(&self, buffers: impl IntoIterator<Item = Buffer>) {
        let mut free = self.free.borrow_mut();
        for buffer in buffers {
            free.entry(buffer.len()).or_default().push(buffer);
        }
    }

    /// Bytes, which are whatever they are.
    #[allow(unsafe_code)]
    pub(super) fn bytes(&self, len: usize) -> Result<Bytes> {
        // SAFETY: as in `take`.
        Ok(Bytes::new(unsafe { self.device.alloc(len) }?))
    }

    pub(super) fn upload_bytes(&self, bytes: &[u8]) -> Result<Bytes> {
        Ok(Bytes::new(self.device.clone_htod(bytes)?))
    }

    pub(super) fn upload(&self, values: &[f32]) -> Result<Buffer> {
        Ok(Buffer::new(self.device.clone_htod(values)?))
    }

    pub(super) fn overwrite(&self, buffer: &mut Buffer, values: &[f32]) -> Result<()> {
        Ok(self.device.memcpy_htod(values, &mut buffer.slice)?)
    }

    pub(super) fn zeros(&self, len: usize) -> Result<Buffer> {
        Ok(Buffer::new(self.device.alloc_zeros(len)?))
    }

    pub(super) fn download(&self, buffer: &Buffer) -> Result<Vec<f32>> {
        Ok(self.device.clone_dtoh(&buffer.slice)?)
    }

    /// A tensor that owns `buffer`.
    pub(super) fn tensor(&self, buffer: Buffer, shape: impl Into<Shape>) -> Result<Tensor> {
        let wrapped =
            Wrap { buffer: RefCell::new(Some(buffer)), shape: shape.into(), device: self.device.clone() };
        Ok(self.anchor.apply_op1_no_bwd(&wrapped)?)
    }

    /// Runs `work` with the place of a tensor's numbers, as contiguous f32 on the device.
    pub(super) fn with_tensor<T>(
        &self,
        tensor: &Tensor,
        work: impl FnOnce(Address) -> Result<T>,
    ) -> Result<T> {
        let tensor = tensor.to_dtype(DType::F32)?.to_device(self.anchor.device())?.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            unreachable!("it was moved to the device");
        };
        let slice = storage.as_cuda_slice::<f32>()?;
        let start = (layout.start_offset() * size_of::<f32>()) as Address;
        work(slice.device_ptr(slice.stream()).0 + start)
    }

    /// `c = op(a) op(b)` for matrices that lie column by column: `c` is `m` by `n`, `k` is summed over. A row-major
    /// matrix is its own transpose in this reading.
    #[allow(unsafe_code)]
    pub(super) fn matmul(&self, product: Product) -> Result<()> {
        let Product { a, transpose_a, b, transpose_b, c, m, n, k } = product;
        let operation = |transpose| match transpose {
            true => blas::cublasOperation_t::CUBLAS_OP_T,
            false => blas::cublasOperation_t::CUBLAS_OP_N,
        };
        let (lda, ldb) = (if transpose_a { k } else { m }, if transpose_b { n } else { k });
        let (one, zero) = (1f32, 0f32);
        let compute = match self.precision {
            Precision::F32 => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Precision::Tf32 => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        };
        let f32_type = blas::cudaDataType_t::CUDA_R_32F;
        // SAFETY: the addresses are those of live buffers that hold `m * k`, `k * n` and `m * n` numbers.
        unsafe {
            gemm_ex(
                *self.device.cublas_handle().handle(),
                operation(transpose_a),
                operation(transpose_b),
                m as i32,
                n as i32,
                k as i32,
                (&raw const one).cast(),
                a as *const _,
                f32_type,
                lda as i32,
                b as *const _,
                f32_type,
                ldb as i32,
                (&raw const zero).cast(),
                c as *mut _,
                f32_type,
                m as i32,
                compute,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()?;
        Ok(())
    }
}

/// A matrix product, see [`Gpu::matmul`].
pub(super) struct Product {
    pub(super) a: Address,
    pub(super) transpose_a: bool,
    pub(super) b: Address,
    pub(super) transpose_b: bool,
    pub(super) c: Address,
    pub(super) m: usize,
    pub(super) n: usize,
    pub(super) k: usize,
}

/// Number of elements as the kernels count them.
pub(super) fn count(elements: usize) -> Result<u32> {
    u32::try_from(elements).map_err(|_| Error::MapTooLarge(elements))
}

/// What Candle does by default costs more than the kernels themselves, with one stream for nothing: two events for every
/// allocation, and memory handed back to the driver at every synchronisation.
#[allow(unsafe_code)]
pub(crate) fn keep_memory(device: &CudaDevice) -> Result<()> {
    // SAFETY: the process has one stream a device, so no other stream has to be waited for.
    unsafe { device.disable_event_tracking() };
    let stream = device.cuda_stream();
    if !stream.context().has_async_alloc() {
        return Ok(());
    }
    let mut threshold = u64::MAX;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the device exists, `pool` is written before it is read, and the attribute is a u64.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&raw mut pool, stream.context().cu_device()).result().w()?;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()).result().w()?;
    }
    Ok(())
}

/// The way of a buffer into a tensor: Candle makes tensors of storage in custom operators only.
struct Wrap {
    buffer: RefCell<Option<Buffer>>,
    shape: Shape,
    device: CudaDevice,
}

impl CustomOp1 for Wrap {
    fn name(&self) -> &'static str {
        "wrap"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
        candle_core::bail!("a buffer of a GPU is no tensor of the CPU")
    }

    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> candle_core::Result<(CudaStorage, Shape)> {
        let buffer = self.buffer.take().expect("the operator runs once");
        Ok((CudaStorage::wrap_cuda_slice(buffer.slice, self.device.clone()), self.shape.clone()))
    }
}
