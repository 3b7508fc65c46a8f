//! Products of squares of bf16 numbers, summed in f32: what every convolution consists of, by whatever the machine has for them.
//!
//! The order of the sums is that of AMX's `tdpbf16ps` (Intel's manual, volume 2): for each number of the result the products of even
//! columns with even rows are summed by fused multiply-adds from 0 on, those of odd ones likewise, and the sum of both is added to what is
//! there; every outcome is rounded to the nearest, and numbers below the smallest normal one count and become 0. [`Engine::Emulated`] does
//! just that with ordinary instructions. AVX-512's `vdpbf16ps` adds pair by pair: its results differ in the last bits.

use super::number::{LANES, Row, Square, Sums, widened};
use crate::fast::simd::vectorized;
use pulp::Simd;

/// Two squares whose product is wanted.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Product<'a> {
    /// As it is.
    pub(crate) first: &'a Square,
    /// In pairs of rows, see [`super::number::pair_rows`].
    pub(crate) second: &'a Square,
}

/// What multiplies squares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    /// The tiles of Intel's AMX (Sapphire Rapids and later), under Linux.
    Amx,
    /// `vdpbf16ps` (Cooper Lake, Zen 4, and later).
    Avx512,
    /// Ordinary instructions, bit for bit as AMX; slow.
    Emulated,
}

impl Engine {
    const ALL: [Self; 3] = [Self::Amx, Self::Avx512, Self::Emulated];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amx => "amx",
            Self::Avx512 => "avx512bf16",
            Self::Emulated => "emulated",
        }
    }

    /// Those this machine can run, the fastest first.
    pub(crate) fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|engine| engine.is_available()).collect()
    }

    fn is_available(self) -> bool {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => amx::is_available(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::is_available(),
            _ => self == Self::Emulated,
        }
    }

    /// Adds the products' sum to `sums`, or sets `sums` to it.
    #[inline(always)]
    pub(crate) fn multiply<S: Simd>(self, simd: S, products: &[Product<'_>], sums: &mut Sums, set: bool) {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Self::Amx => amx::multiply(products, sums, set),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::multiply(products, sums, set),
            _ => emulate(simd, products, sums, set),
        }
    }
}

/// Numbers below the smallest normal one become 0.
#[inline(always)]
fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0_f32.copysign(x) } else { x }
}

fn emulate<S: Simd>(simd: S, products: &[Product<'_>], sums: &mut Sums, set: bool) {
    if set {
        *sums = Sums::ZERO;
    }
    // Even and odd rows of the second matrix.
    let mut rows = [[[0.0; LANES]; 2]; LANES / 2];
    for Product { first, second } in products {
        vectorized!(simd, {
            for (rows, pairs) in rows.iter_mut().zip(second.as_chunks::<2>().0) {
                for lane in 0..LANES {
                    let at = 2 * lane;
                    let pair = &pairs[at / LANES].0[at % LANES..];
                    rows[0][lane] = flushed(widened(pair[0]));
                    rows[1][lane] = flushed(widened(pair[1]));
                }
            }
            for (sums, Row(first)) in sums.0.iter_mut().zip(*first) {
                let [mut even, mut odd] = [[0.0; LANES]; 2];
                for (pair, rows) in first.as_chunks::<2>().0.iter().zip(&rows) {
                    let [a, b] = [flushed(widened(pair[0])), flushed(widened(pair[1]))];
                    for lane in 0..LANES {
                        even[lane] = flushed(a.mul_add(rows[0][lane], even[lane]));
                        odd[lane] = flushed(b.mul_add(rows[1][lane], odd[lane]));
                    }
                }
                for lane in 0..LANES {
                    sums[lane] = flushed(flushed(sums[lane]) + flushed(even[lane] + odd[lane]));
                }
            }
        });
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod amx {
    use super::{Product, Sums};
    use std::arch::asm;
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::cell::Cell;
    use std::sync::OnceLock;

    /// The shapes of the eight tiles.
    #[repr(C, align(64))]
    struct Shapes {
        palette: u8,
        start_row: u8,
        reserved: [u8; 14],
        bytes_of_row: [u16; 16],
        rows: [u8; 16],
    }

    /// All of 16 rows of 64 bytes.
    static SHAPES: Shapes = Shapes {
        palette: 1,
        start_row: 0,
        reserved: [0; 14],
        bytes_of_row: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
        rows: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
    };

    /// Whether the processor has tiles of bf16, and Linux lets this process use them.
    pub(super) fn is_available() -> bool {
        static AVAILABLE: OnceLock<bool> = OnceLock::new();
        *AVAILABLE.get_or_init(|| has_tiles() && is_permitted())
    }

    /// Leaf 7: tiles (bit 24 of EDX) and their products of bf16 (bit 22).
    #[allow(unused_unsafe)] // safe in newer releases of Rust
    #[allow(unsafe_code)] // asks the processor what it is
    fn has_tiles() -> bool {
        // SAFETY: every x86-64 processor has `cpuid`.
        unsafe { __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & (1 << 22 | 1 << 24) == 1 << 22 | 1 << 24 }
    }

    /// Asks Linux for the state of the tiles, which it saves for processes that ask for it: `arch_prctl(ARCH_REQ_XCOMP_PERM, 18)`. Older
    /// kernels refuse.
    #[allow(unsafe_code)] // a call into the kernel
    fn is_permitted() -> bool {
        const ARCH_PRCTL: i64 = 158;
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        const XFEATURE_XTILEDATA: u64 = 18;
        let result: i64;
        // SAFETY: the call takes two numbers, reads and writes no memory of this process, and changes rax, rcx and r11 alone.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") ARCH_PRCTL => result,
                in("rdi") ARCH_REQ_XCOMP_PERM,
                in("rsi") XFEATURE_XTILEDATA,
                lateout("rcx") _,
                lateout("r11") _,
                options(nostack),
            );
        }
        result == 0
    }

    /// Gives this thread's tiles their shapes, once.
    #[inline(always)]
    fn shape_tiles() {
        thread_local! {
            static SHAPED: Cell<bool> = const { Cell::new(false) };
        }
        SHAPED.with(|shaped| {
            if !shaped.replace(true) {
                load_shapes();
            }
        });
    }

    #[allow(unsafe_code)] // an instruction that Rust has no name for yet
    fn load_shapes() {
        // SAFETY: only called where tiles are available, and reads 64 bytes that are there for ever.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &SHAPES, options(nostack, readonly)) }
    }

    /// See [`super::Engine::multiply`]. Tiles 0 to 3 hold the sums, 4 and 5 halves of the first square, 6 and 7 of the second.
    #[inline(always)]
    #[allow(unsafe_code)] // instructions that Rust has no names for yet
    pub(super) fn multiply(products: &[Product<'_>], sums: &mut Sums, set: bool) {
        shape_tiles();
        // SAFETY: tiles are available, or no `Engine::Amx` is had, and have their shapes. Products are pairs of references, in this order, to
        // squares of 2 KiB, which are read; the sums are 4 KiB, read and written. Only registers named here change.
        unsafe {
            asm!(
                "test {set:e}, {set:e}",
                "jz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{sums} + {two}]",
                "tileloadd tmm1, [{sums} + {two} + 64]",
                "tileloadd tmm2, [{sums} + {two} + 2048]",
                "tileloadd tmm3, [{sums} + {two} + 2112]",
                "3:",
                "test {count}, {count}",
                "jz 5f",
                "4:",
                "mov {first}, [{products}]",
                "mov {second}, [{products} + 8]",
                "tileloadd tmm4, [{first} + {one}]",
                "tileloadd tmm6, [{second} + {two}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tileloadd tmm7, [{second} + {two} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                "tileloadd tmm5, [{first} + {one} + 1024]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {products}, 16",
                "dec {count}",
                "jnz 4b",
                "5:",
                "tilestored [{sums} + {two}], tmm0",
                "tilestored [{sums} + {two} + 64], tmm1",
                "tilestored [{sums} + {two} + 2048], tmm2",
                "tilestored [{sums} + {two} + 2112], tmm3",
                products = inout(reg) products.as_ptr() => _,
                count = inout(reg) products.len() => _,
                first = out(reg) _,
                second = out(reg) _,
                sums = in(reg) sums.0.as_mut_ptr(),
                set = in(reg) u32::from(set),
                // Bytes from row to row: of squares and of pairs of rows, or sums.
                one = in(reg) 64_usize,
                two = in(reg) 128_usize,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::super::number::{LANES, Row};
    use super::{Product, Sums};
    use std::arch::x86_64::*;

    /// Rows of the result whose sums stay in registers.
    const ROWS: usize = 8;

    pub(super) fn is_available() -> bool {
        is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f")
    }

    /// See [`super::Engine::multiply`].
    #[inline(always)]
    #[allow(unsafe_code)] // calls what is compiled for other instructions
    pub(super) fn multiply(products: &[Product<'_>], sums: &mut Sums, set: bool) {
        // SAFETY: the instructions are available, or no `Engine::Avx512` is had.
        unsafe { multiply_pairs(products, sums, set) }
    }

    #[target_feature(enable = "avx512bf16,avx512f")]
    fn multiply_pairs(products: &[Product<'_>], sums: &mut Sums, set: bool) {
        for (block, sums) in sums.0.as_chunks_mut::<ROWS>().0.iter_mut().enumerate() {
            let mut wide = [[_mm512_setzero_ps(); 2]; ROWS];
            if !set {
                for (wide, sums) in wide.iter_mut().zip(&*sums) {
                    let [low, high] = halves(sums);
                    *wide = [pack(low), pack(high)];
                }
            }
            for Product { first, second } in products {
                for pair in 0..LANES / 2 {
                    let second = [numbers(&second[2 * pair]), numbers(&second[2 * pair + 1])];
                    for (wide, Row(first)) in wide.iter_mut().zip(&first[block * ROWS..]) {
                        let both = u32::from(first[2 * pair]) | u32::from(first[2 * pair + 1]) << 16;
                        let both = as_pairs(_mm512_set1_epi32(both as i32));
                        for (wide, second) in wide.iter_mut().zip(second) {
                            *wide = _mm512_dpbf16_ps(*wide, both, second);
                        }
                    }
                }
            }
            for (wide, sums) in wide.iter().zip(sums) {
                for (half, wide) in sums.as_chunks_mut::<16>().0.iter_mut().zip(wide) {
                    *half = bytemuck::cast(*wide);
                }
            }
        }
    }

    #[inline(always)]
    fn halves(row: &[f32; LANES]) -> [[f32; 16]; 2] {
        let (halves, []) = row.as_chunks::<16>() else { unreachable!("32 numbers are two times 16") };
        [halves[0], halves[1]]
    }

    #[inline(always)]
    fn pack(numbers: [f32; 16]) -> __m512 {
        bytemuck::cast(numbers)
    }

    #[inline(always)]
    #[allow(unsafe_code)] // two types of the same 64 bytes
    fn numbers(row: &Row) -> __m512bh {
        // SAFETY: both are 64 bytes of plain numbers.
        unsafe { std::mem::transmute::<[u16; LANES], __m512bh>(row.0) }
    }

    #[inline(always)]
    #[allow(unsafe_code)] // two types of the same 64 bytes
    fn as_pairs(pairs: __m512i) -> __m512bh {
        // SAFETY: both are 64 bytes of plain numbers.
        unsafe { std::mem::transmute::<__m512i, __m512bh>(pairs) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::number::{pair_rows, rounded};
    use super::*;

    fn square(phase: f64, scale: f32) -> Square {
        std::array::from_fn(|row| {
            Row(std::array::from_fn(|column| {
                rounded(scale * ((row * LANES + column) as f64 * 0.73 + phase).sin() as f32)
            }))
        })
    }

    fn paired(square: &Square) -> Square {
        let mut pairs = [Row::default(); LANES];
        pair_rows(square, &mut pairs);
        pairs
    }

    /// All engines on `squares`, each a first and a second one, and what the plain formula gives with its size.
    fn check(squares: &[[Square; 2]], start: f32) {
        let second: Vec<Square> = squares.iter().map(|[_, second]| paired(second)).collect();
        let products: Vec<Product<'_>> =
            squares.iter().zip(&second).map(|([first, _], second)| Product { first, second }).collect();
        let mut emulated = Sums([[start; LANES]; LANES]);
        emulate(pulp::Scalar, &products, &mut emulated, false);
        for engine in Engine::available() {
            crate::fast::simd::with_instructions!(crate::InstructionSet::available()[0], simd => {
                let mut sums = Sums([[start; LANES]; LANES]);
                engine.multiply(simd, &products, &mut sums, false);
                let mut anew = Sums([[f32::NAN; LANES]; LANES]);
                engine.multiply(simd, &products, &mut anew, true);
                for row in 0..LANES {
                    for column in 0..LANES {
                        let (found, expected) = (sums.0[row][column], emulated.0[row][column]);
                        let terms = squares.iter().flat_map(|[first, second]| {
                            (0..LANES).map(|k| f64::from(widened(first[row].0[k])) * f64::from(widened(second[k].0[column])))
                        });
                        let (value, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                        let whole = value + f64::from(start);
                        // So many roundings of f32, and products that count as 0.
                        let allowed = (32 * squares.len()) as f64 * (2.0_f64.powi(-24) * (size + f64::from(start.abs())) + 2.0_f64.powi(-125));
                        let what = format!("{} at {row}, {column}: {found}, {whole}", engine.name());
                        assert!((f64::from(found) - whole).abs() <= allowed, "{what}");
                        assert!((f64::from(anew.0[row][column]) - value).abs() <= allowed, "{what}, anew");
                        if engine != Engine::Avx512 {
                            assert_eq!(found.to_bits(), expected.to_bits(), "{what}");
                        }
                    }
                }
            });
        }
    }

    #[test]
    fn every_engine_equals_the_definition() {
        check(&[[square(0.1, 1.0), square(0.2, 1.0)]], 0.5);
        check(&[[square(0.3, 3.0), square(0.4, 0.1)], [square(0.5, 2.0), square(0.6, 5.0)]], -1.0);
        check(&[], 2.0);
    }

    /// Sums of even and of odd terms, and numbers that are too small: where the order and the flushing show.
    #[test]
    fn sums_run_in_the_order_of_tiles_and_tiny_numbers_are_zero() {
        let mut first = [Row::default(); LANES];
        let mut second = [Row::default(); LANES];
        // 1 + 2^-24 - 1 in the order of the even terms is 0, and 2^-24 stays where it is an odd one.
        for (k, [a, b]) in
            [[1.0, 1.0], [0.0, 0.0], [1.0, 2.0_f32.powi(-24)], [0.0, 0.0], [-1.0, 1.0]].into_iter().enumerate()
        {
            (first[0].0[k], second[k].0[0]) = (rounded(a), rounded(b));
        }
        first[1].0 = first[0].0;
        (first[1].0[2], first[1].0[3]) = (0, rounded(1.0));
        second[3].0[0] = rounded(2.0_f32.powi(-24));
        // A number that is not normal counts as 0, and so does a product.
        first[2].0[0] = 0x0001;
        first[3].0[0] = rounded(2.0_f32.powi(-100));
        second[0].0[1] = rounded(2.0_f32.powi(-40));
        check(&[[first, second]], 0.0);
        let second = paired(&second);
        let mut sums = Sums::ZERO;
        emulate(pulp::Scalar, &[Product { first: &first, second: &second }], &mut sums, true);
        assert_eq!([sums.0[0][0], sums.0[1][0]], [0.0, 2.0_f32.powi(-24)]);
        assert_eq!([sums.0[2][0], sums.0[3][1]], [0.0, 0.0]);
    }
}
