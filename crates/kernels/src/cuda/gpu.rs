//! The device: its memory and its matrix products. All that is unsafe in this folder stands here and in `kernels.rs`.
//!
//! Everything runs in the order of one stream, so a buffer given back can be handed out again at once.

use super::kernels::Kernels;
use crate::{Error, Precision, Result};
use candle_core::cuda_backend::cudarc::cublas::{result::gemm_ex, sys as blas};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, ValidAsZeroBits, sys};
use candle_core::cuda_backend::{CudaDevice, CudaStorage, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{DType, Device, Shape, Storage, Tensor};
use half::bf16;
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::ops::Range;

/// A place in the device's memory; 0 is nowhere.
pub(super) type Address = u64;

/// What maps are made of: f32 or bf16. Vectors of numbers a channel, trained weights and their gradients are f32 always.
pub(super) trait Number: Copy + DeviceRepr + ValidAsZeroBits + Send + 'static {
    /// As cuBLAS names it.
    const TYPE: blas::cudaDataType_t;
    /// The module of the kernels that are compiled for it.
    const MODULE: &'static str;

    /// Numbers of a pack, 16 bytes, which a thread moves at once.
    const PACK: usize = 16 / size_of::<Self>();
    /// Channels that a thread sums, 4 bytes.
    const WIDE: usize = 4 / size_of::<Self>();

    /// The same numbers, where products need no others.
    fn as_they_are(values: View<'_>) -> Option<View<'_, Self>>;
}

impl Number for f32 {
    const TYPE: blas::cudaDataType_t = blas::cudaDataType_t::CUDA_R_32F;
    const MODULE: &'static str = "faceoff";

    fn as_they_are(values: View<'_>) -> Option<View<'_>> {
        Some(values)
    }
}

impl Number for bf16 {
    const TYPE: blas::cudaDataType_t = blas::cudaDataType_t::CUDA_R_16BF;
    const MODULE: &'static str = "faceoff_bf16";

    fn as_they_are(_: View<'_>) -> Option<View<'_, Self>> {
        None
    }
}

/// Numbers on the device.
pub(super) struct Buffer<T = f32> {
    pub(super) slice: CudaSlice<T>,
    /// Where it begins.
    address: Address,
}

/// Pixels, and the places of maxima.
pub(super) type Bytes = Buffer<u8>;

/// Numbers within a buffer, which lives at least as long.
#[derive(Clone, Copy)]
pub(super) struct View<'a, T = f32> {
    pub(super) address: Address,
    pub(super) len: usize,
    buffer: PhantomData<&'a T>,
}

impl<T> View<'_, T> {
    /// A part.
    pub(super) fn part(self, range: &Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len);
        let address = self.address + (range.start * size_of::<T>()) as Address;
        Self { address, len: range.len(), ..self }
    }
}

impl<T> Buffer<T> {
    pub(super) fn new(slice: CudaSlice<T>) -> Self {
        let address = slice.device_ptr(slice.stream()).0;
        Self { slice, address }
    }

    /// All of it.
    pub(super) fn view(&self) -> View<'_, T> {
        View { address: self.address, len: self.slice.len(), buffer: PhantomData }
    }

    /// A part.
    pub(super) fn part(&self, range: &Range<usize>) -> View<'_, T> {
        self.view().part(range)
    }

    pub(super) fn len(&self) -> usize {
        self.slice.len()
    }
}

/// Buffers to be handed out again, by length.
pub(super) struct Pool<T> {
    device: CudaDevice,
    free: RefCell<HashMap<usize, Vec<Buffer<T>>>>,
}

impl<T: DeviceRepr + ValidAsZeroBits> Pool<T> {
    fn new(device: &CudaDevice) -> Self {
        Self { device: device.clone(), free: RefCell::default() }
    }

    /// A buffer of `len` numbers: zeros, or whatever its last user left.
    pub(super) fn take(&self, len: usize) -> Result<Buffer<T>> {
        match self.free.borrow_mut().get_mut(&len).and_then(Vec::pop) {
            Some(buffer) => Ok(buffer),
            None => Ok(Buffer::new(self.device.alloc_zeros(len)?)),
        }
    }

    /// Takes buffers back, to hand them out again.
    pub(super) fn give(&self, buffers: impl IntoIterator<Item = Buffer<T>>) {
        let mut free = self.free.borrow_mut();
        for buffer in buffers {
            free.entry(buffer.len()).or_default().push(buffer);
        }
    }
}

/// The device with all that the encoder needs of it; maps are made of `N`.
pub(super) struct Gpu<N: Number> {
    pub(super) device: CudaDevice,
    pub(super) kernels: Kernels,
    precision: Precision,
    pub(super) maps: Pool<N>,
    pub(super) vectors: Pool<f32>,
    pub(super) bytes: Pool<u8>,
    /// All convolutions' weights as products read them, made when they are first needed, where those are not the trained ones.
    pub(super) rounded: OnceCell<Buffer<N>>,
}

impl<N: Number> Gpu<N> {
    pub(super) fn new(device: &CudaDevice, precision: Precision) -> Result<Self> {
        if precision == Precision::Bf16 {
            sums_in_f32(device)?;
        }
        Ok(Self {
            device: device.clone(),
            kernels: Kernels::load::<N>(device)?,
            precision,
            maps: Pool::new(device),
            vectors: Pool::new(device),
            bytes: Pool::new(device),
            rounded: OnceCell::new(),
        })
    }

    /// A tensor that owns `buffer`.
    pub(super) fn tensor(&self, buffer: Buffer, shape: impl Into<Shape>) -> Tensor {
        let storage = CudaStorage::wrap_cuda_slice(buffer.slice, self.device.clone());
        Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
    }

    /// Runs `work` with a tensor's numbers, as contiguous f32 on the device.
    pub(super) fn with_tensor<T>(&self, tensor: &Tensor, work: impl FnOnce(View<'_>) -> Result<T>) -> Result<T> {
        let tensor = tensor.to_dtype(DType::F32)?.to_device(&Device::Cuda(self.device.clone()))?.contiguous()?;
        let (storage, layout) = tensor.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            unreachable!("it was moved to the device");
        };
        let slice = storage.as_cuda_slice::<f32>()?;
        let start = (layout.start_offset() * size_of::<f32>()) as Address;
        let address = slice.device_ptr(slice.stream()).0 + start;
        work(View { address, len: tensor.elem_count(), buffer: PhantomData })
    }

    /// `c = op(a) op(b)` for matrices that lie column by column, where `op` transposes or leaves as it is: `c` is `m` by
    /// `n`, `k` is summed over. A row-major matrix is its own transpose in this reading.
    ///
    /// # Panics
    /// Where a matrix is not that large.
    #[allow(unsafe_code)]
    pub(super) fn matmul<O: Number>(
        &self,
        (a, op_a): (View<'_, N>, Operation),
        (b, op_b): (View<'_, N>, Operation),
        c: View<'_, O>,
        [m, n, k]: [usize; 3],
    ) -> Result<()> {
        assert!((a.len, b.len, c.len) == (m * k, k * n, m * n));
        assert!([m, n, k].iter().all(|&side| i32::try_from(side).is_ok()));
        let lda = if op_a == TRANSPOSED { k } else { m };
        let ldb = if op_b == TRANSPOSED { n } else { k };
        let (one, zero) = (1f32, 0f32);
        let compute = match self.precision {
            Precision::F32 | Precision::Bf16 => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            Precision::Tf32 => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        };
        // SAFETY: the views are of live buffers and hold `m * k`, `k * n` and `m * n` numbers, as was checked, of the types
        // that stand beside their addresses.
        unsafe {
            gemm_ex(
                *self.device.cublas_handle().handle(),
                op_a,
                op_b,
                m as i32,
                n as i32,
                k as i32,
                (&raw const one).cast(),
                a.address as *const _,
                N::TYPE,
                lda as i32,
                b.address as *const _,
                N::TYPE,
                ldb as i32,
                (&raw const zero).cast(),
                c.address as *mut _,
                O::TYPE,
                m as i32,
                compute,
                blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()?;
        Ok(())
    }
}

type Operation = blas::cublasOperation_t;
pub(super) const AS_IT_IS: Operation = Operation::CUBLAS_OP_N;
pub(super) const TRANSPOSED: Operation = Operation::CUBLAS_OP_T;

/// Number of elements as the kernels count them.
pub(super) fn count(elements: usize) -> Result<u32> {
    u32::try_from(elements).map_err(|_| Error::MapTooLarge(elements))
}

/// Has cuBLAS take sums of products of bf16 in f32 to their end; by default it may add parts of them in bf16. For GPUs that multiply bf16.
#[allow(unsafe_code)]
fn sums_in_f32(device: &CudaDevice) -> Result<()> {
    let (major, minor) = device.cuda_stream().context().compute_capability().w()?;
    if major < 8 {
        return Err(Error::CudaBf16(format!("{major}.{minor}")));
    }
    let mode = blas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    // SAFETY: the handle is the device's own, which lives, and the mode is one that cuBLAS knows since CUDA 11.
    unsafe { blas::cublasSetMathMode(*device.cublas_handle().handle(), mode) }.result().w()?;
    Ok(())
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
