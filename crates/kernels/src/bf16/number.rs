//! Numbers in bf16: the upper half of an f32, 8 bits of mantissa, as rows of [`LANES`].

use pulp::Simd;

/// Images side by side in a row.
pub(crate) const LANES: usize = 32;
/// Numbers of a square of [`LANES`] rows.
pub(crate) const AREA: usize = LANES * LANES;

/// One channel of one pixel of [`LANES`] images, or a row of a matrix: a line of the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Row(pub(crate) [u16; LANES]);

/// A matrix of `(LANES, LANES)`.
pub(crate) type Square = [Row; LANES];

/// A matrix of `(LANES, LANES)` in f32.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(crate) struct Sums(pub(crate) [[f32; LANES]; LANES]);

impl Sums {
    pub(crate) const ZERO: Self = Self([[0.0; LANES]; LANES]);
}

/// A value a lane, by a plain loop, which becomes vector instructions: `array::map` and `array::from_fn` are calls into code for the baseline's.
#[inline(always)]
pub(crate) fn lanes<T: Copy + Default>(value: impl Fn(usize) -> T) -> [T; LANES] {
    let mut all = [T::default(); LANES];
    for (lane, to) in all.iter_mut().enumerate() {
        *to = value(lane);
    }
    all
}

/// The nearest bf16, the even one of two; NaN stays NaN.
#[inline(always)]
pub(crate) fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let quiet = bits | 0x0040_0000;
    ((if x.is_nan() { quiet } else { nearest }) >> 16) as u16
}

/// The number itself.
#[inline(always)]
pub(crate) fn widened(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

impl Row {
    #[inline(always)]
    pub(crate) fn rounded(values: &[f32; LANES]) -> Self {
        Self(lanes(|lane| rounded(values[lane])))
    }

    #[inline(always)]
    pub(crate) fn widened(&self) -> [f32; LANES] {
        lanes(|lane| widened(self.0[lane]))
    }
}

/// Sets the lanes of all rows from `used` on to 0.
#[inline(always)]
pub(crate) fn clear_lanes(square: &mut Square, used: usize) {
    if used < LANES {
        for Row(row) in square {
            for (lane, number) in row.iter_mut().enumerate() {
                *number = if lane < used { *number } else { 0 };
            }
        }
    }
}

/// Writes rows `2 i` and `2 i + 1` of `from` number by number in turns to rows `2 i` and `2 i + 1` of `to`: pairs of rows, as the second
/// matrix of a product has them.
#[inline(always)]
pub(crate) fn pair_rows(from: &Square, to: &mut Square) {
    for ([Row(even), Row(odd)], to) in from.as_chunks::<2>().0.iter().zip(to.as_chunks_mut::<2>().0) {
        let pairs = lanes(|lane| u32::from(even[lane]) | u32::from(odd[lane]) << 16);
        for (Row(to), pairs) in to.iter_mut().zip(pairs.as_chunks::<{ LANES / 2 }>().0) {
            for (at, pair) in pairs.iter().enumerate() {
                [to[2 * at], to[2 * at + 1]] = [*pair as u16, (pair >> 16) as u16];
            }
        }
    }
}

/// Whether `S` has AVX-512.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
fn has_avx512<S: Simd>() -> bool {
    std::any::TypeId::of::<S>() == std::any::TypeId::of::<pulp::x86::V4>()
}

/// The transpose of `from` in pairs of rows: pairs of columns of `from`.
#[inline(always)]
pub(crate) fn pair_columns<S: Simd>(_simd: S, from: &Square, to: &mut Square) {
    #[cfg(target_arch = "x86_64")]
    if has_avx512::<S>() {
        return avx512::turn(_simd, from, to, false);
    }
    for pair in 0..LANES / 2 {
        for (column, from) in from.iter().enumerate() {
            let at = 2 * column;
            let row = &mut to[2 * pair + at / LANES].0;
            [row[at % LANES], row[at % LANES + 1]] = [from.0[2 * pair], from.0[2 * pair + 1]];
        }
    }
}

/// The transpose of `from`.
#[inline(always)]
pub(crate) fn transpose<S: Simd>(_simd: S, from: &Square, to: &mut Square) {
    #[cfg(target_arch = "x86_64")]
    if has_avx512::<S>() {
        let mut pairs = [Row::default(); LANES];
        pair_rows(from, &mut pairs);
        return avx512::turn(_simd, &pairs, to, true);
    }
    for (column, Row(from)) in from.iter().enumerate() {
        for (Row(to), number) in to.iter_mut().zip(from) {
            to[column] = *number;
        }
    }
}

/// Transposition by shuffles, 16 by 16 pairs of numbers in registers: without it the compiler moves them one by one.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Square, has_avx512};
    use pulp::Simd;
    use std::arch::x86_64::*;

    /// Rows of pairs of numbers.
    type Pairs = [__m512i; 16];

    /// Pairs of columns of `from`, as pairs of rows have them; or the way back, where `from` is `paired`.
    #[inline(always)]
    #[allow(unsafe_code)] // calls what is compiled for AVX-512
    pub(super) fn turn<S: Simd>(_: S, from: &Square, to: &mut Square, paired: bool) {
        assert!(has_avx512::<S>());
        // SAFETY: a token of AVX-512 is only had where the processor has it.
        unsafe { turn_halves(from, to, paired) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn turn_halves(from: &Square, to: &mut Square, paired: bool) {
        // Halves lie one below the other in a square, and side by side where rows are paired.
        let row = |paired, half, at| if paired { 2 * at + half } else { 16 * half + at };
        for half in 0..2 {
            let mut pairs = [_mm512_setzero_si512(); 16];
            for (at, pairs) in pairs.iter_mut().enumerate() {
                *pairs = bytemuck::cast(from[row(paired, half, at)].0);
            }
            for (at, pairs) in transposed(pairs).into_iter().enumerate() {
                to[row(!paired, half, at)].0 = bytemuck::cast(pairs);
            }
        }
    }

    /// In four steps: neighbours in turns by 4 and by 8 bytes, then quarters by 16 and by 32.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transposed(mut rows: Pairs) -> Pairs {
        let mut next = rows;
        for at in 0..8 {
            next[2 * at] = _mm512_unpacklo_epi32(rows[2 * at], rows[2 * at + 1]);
            next[2 * at + 1] = _mm512_unpackhi_epi32(rows[2 * at], rows[2 * at + 1]);
        }
        for at in 0..4 {
            for low in 0..2 {
                let [a, b] = [next[4 * at + low], next[4 * at + 2 + low]];
                rows[4 * at + 2 * low] = _mm512_unpacklo_epi64(a, b);
                rows[4 * at + 2 * low + 1] = _mm512_unpackhi_epi64(a, b);
            }
        }
        // Now row `4 i + j` holds, in each quarter `q`, column `4 q + j` of rows `4 i` to `4 i + 3`.
        for at in 0..4 {
            for upper in 0..2 {
                let [a, b] = [rows[8 * upper + at], rows[8 * upper + 4 + at]];
                next[8 * upper + at] = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
                next[8 * upper + 4 + at] = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
            }
        }
        for at in 0..8 {
            let [a, b] = [next[at], next[8 + at]];
            rows[at] = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
            rows[8 + at] = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InstructionSet;
    use crate::fast::simd::{vectorized, with_instructions};

    #[test]
    fn the_nearest_number_is_taken() {
        for (x, expected) in [
            (0.0, 0x0000),
            (-0.0, 0x8000),
            (1.0, 0x3f80),
            (1.0 + 1.0 / 256.0, 0x3f80), // halfway, the even one is below
            (1.0 + 3.0 / 256.0, 0x3f82), // halfway, the even one is above
            (1.0 + 1.1 / 256.0, 0x3f81),
            (f32::MAX, 0x7f80), // beyond the largest
            (f32::NEG_INFINITY, 0xff80),
            (f32::from_bits(1), 0x0000),
            (f32::from_bits(0x0001_8000), 0x0002),
        ] {
            assert_eq!(rounded(x), expected, "{x}");
        }
        assert!(widened(rounded(f32::NAN)).is_nan() && widened(rounded(f32::from_bits(0x7f80_0001))).is_nan());
        for bits in 0..=u16::MAX {
            let x = widened(bits);
            assert!(x.is_nan() || rounded(x) == bits, "{bits:x}");
        }
    }

    #[test]
    fn squares_are_paired_and_transposed() {
        let square: Square = lanes(|row| Row(lanes(|column| (row * 100 + column) as u16)));
        let at = |first: usize, second: usize| [first / 2 * 2 + 2 * second / LANES, 2 * second % LANES + first % 2];
        for set in InstructionSet::available() {
            with_instructions!(set, simd => {
                let [mut rows, mut columns, mut turned] = [[Row::default(); LANES]; 3];
                vectorized!(simd, {
                    pair_rows(&square, &mut rows);
                    pair_columns(simd, &square, &mut columns);
                    transpose(simd, &square, &mut turned);
                });
                for row in 0..LANES {
                    for column in 0..LANES {
                        let ([i, j], [k, l]) = (at(row, column), at(column, row));
                        let found = [rows[i].0[j], columns[k].0[l], turned[column].0[row]];
                        assert_eq!(found, [square[row].0[column]; 3], "{row}, {column} by {}", set.name());
                    }
                }
            });
        }
    }

    #[test]
    fn lanes_without_images_are_cleared() {
        for used in [1, 7, LANES] {
            let mut square = [Row([5; LANES]); LANES];
            clear_lanes(&mut square, used);
            assert!(square.iter().all(|row| *row == Row(lanes(|lane| if lane < used { 5 } else { 0 }))), "{used}");
        }
    }
}
