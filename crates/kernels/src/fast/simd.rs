//! Which vector instructions the encoder uses, and the few vector operations that its kernels are written in.
//!
//! Kernels are generic over [`pulp::Simd`]. A kernel runs inside [`pulp::Simd::vectorize`], so that everything
//! inlined into it is compiled for those instructions; plain loops over channels are then vectorised by the compiler.

use pulp::{Simd, WithSimd};

/// An instruction set that the fast encoder is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// x86-64-v4: 16 lanes, 32 registers.
    Avx512,
    /// x86-64-v3 (AVX2 and FMA): 8 lanes, 16 registers.
    Avx2,
    /// AArch64: 4 lanes, 32 registers.
    Neon,
    /// Whatever the target has without asking: 4 lanes.
    Portable,
}

impl InstructionSet {
    const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Neon, Self::Portable];

    /// The name, as [`crate::Arithmetic::resolve`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::Avx2 => "avx2",
            Self::Neon => "neon",
            Self::Portable => "portable",
        }
    }

    /// Those this machine can run, the fastest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|set| set.is_available()).collect()
    }

    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => pulp::x86::V4::try_new().is_some(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => pulp::x86::V3::try_new().is_some(),
            #[cfg(target_arch = "aarch64")]
            Self::Neon => pulp::aarch64::Neon::try_new().is_some(),
            _ => self == Self::Portable,
        }
    }
}

/// Why a token of instructions can be had.
pub(crate) const AVAILABLE: &str = "the machine has the instructions that were asked for";

/// Runs `$body` with `$simd` bound to the token of the instruction set `$set`.
macro_rules! with_instructions {
    ($set:expr, $simd:ident => $body:expr) => {
        match $set {
            #[cfg(target_arch = "x86_64")]
            $crate::fast::simd::InstructionSet::Avx512 => {
                let $simd = pulp::x86::V4::try_new().expect($crate::fast::simd::AVAILABLE);
                $body
            }
            #[cfg(target_arch = "x86_64")]
            $crate::fast::simd::InstructionSet::Avx2 => {
                let $simd = pulp::x86::V3::try_new().expect($crate::fast::simd::AVAILABLE);
                $body
            }
            #[cfg(target_arch = "aarch64")]
            $crate::fast::simd::InstructionSet::Neon => {
                let $simd = pulp::aarch64::Neon::try_new().expect($crate::fast::simd::AVAILABLE);
                $body
            }
            _ => {
                let $simd = pulp::Scalar128b;
                $body
            }
        }
    };
}
pub(crate) use with_instructions;

/// Runs `$body` compiled for the instructions of `$simd`. What is not inlined into it is compiled for the baseline
/// instructions, and a single such call between vectors costs more than the work around it: so the closure is marked, and
/// every function that it calls should be.
macro_rules! vectorized {
    ($simd:expr, $body:expr) => {
        $crate::fast::simd::vectorize(
            $simd,
            #[inline(always)]
            || $body,
        )
    };
}
pub(crate) use vectorized;

/// See [`vectorized`].
#[inline(always)]
pub(crate) fn vectorize<S: Simd, R>(simd: S, kernel: impl FnMut() -> R) -> R {
    /// `pulp` takes closures as `FnOnce`, whose shim around an `Fn` closure is not inlined.
    struct Kernel<F>(F);
    impl<R, F: FnMut() -> R> WithSimd for Kernel<F> {
        type Output = R;

        #[inline(always)]
        fn with_simd<S: Simd>(mut self, _: S) -> R {
            (self.0)()
        }
    }
    simd.vectorize(Kernel(kernel))
}

/// Loads one vector.
///
/// # Safety
/// `from` must be readable for `S::F32_LANES` numbers.
#[inline(always)]
#[allow(unsafe_code)] // the kernels walk several strided buffers at once
pub(crate) unsafe fn load<S: Simd>(_: S, from: *const f32) -> S::f32s {
    // SAFETY: the caller's contract; vectors are plain numbers of any alignment.
    unsafe { from.cast::<S::f32s>().read_unaligned() }
}

/// The vector of `values` from `at` on.
#[inline(always)]
pub(crate) fn vector<S: Simd>(simd: S, values: &[f32], at: usize) -> S::f32s {
    let values = &values[at..][..S::F32_LANES];
    #[allow(unsafe_code)] // loads one vector
    // SAFETY: the slice is one vector long.
    unsafe {
        load(simd, values.as_ptr())
    }
}

/// `to`, which is one vector long, becomes `value`.
#[inline(always)]
pub(crate) fn set_vector<S: Simd>(simd: S, to: &mut [f32], value: S::f32s) {
    let to = &mut to[..S::F32_LANES];
    #[allow(unsafe_code)] // stores one vector
    // SAFETY: the slice is one vector long.
    unsafe {
        store(simd, to.as_mut_ptr(), value);
    }
}

/// The numbers of a vector.
#[inline(always)]
pub(crate) fn lanes_of<S: Simd>(vector: &S::f32s) -> &[f32] {
    bytemuck::cast_slice(std::slice::from_ref(vector))
}

/// `max(x, 0)`, NaN for NaN as in PyTorch.
#[inline(always)]
pub(crate) fn relu_vector<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = simd.splat_f32s(0.0);
    if cfg!(target_arch = "x86_64") && S::F32_LANES > 4 {
        // x86's maximum is its second operand where one is NaN.
        simd.max_f32s(zero, x)
    } else {
        simd.select_f32s(simd.less_than_f32s(x, zero), zero, x)
    }
}

/// Stores one vector.
///
/// # Safety
/// `to` must be writable for `S::F32_LANES` numbers.
#[inline(always)]
#[allow(unsafe_code)] // the kernels walk several strided buffers at once
pub(crate) unsafe fn store<S: Simd>(_: S, to: *mut f32, value: S::f32s) {
    // SAFETY: the caller's contract; vectors are plain numbers of any alignment.
    unsafe { to.cast::<S::f32s>().write_unaligned(value) }
}

/// `a * b + c`, fused where the instructions have it (elsewhere a fused product is a call into the C library).
#[inline(always)]
pub(crate) fn multiply_add<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    if cfg!(target_arch = "aarch64") || S::F32_LANES > 4 {
        simd.mul_add_f32s(a, b, c)
    } else {
        simd.add_f32s(simd.mul_f32s(a, b), c)
    }
}
