//! Numbers in bf16: the upper half of an f32, 8 bits of mantissa, as rows of [`LANES`].

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

/// The nearest bf16, the even one of two; NaN stays NaN.
#[inline(always)]
pub(crate) fn rounded(x: f32) -> u16 {
    let bits = x.to_bits();
    let nearest = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    (if x.is_nan() { quiet } else { nearest }) as u16
}

/// The number itself.
#[inline(always)]
pub(crate) fn widened(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

impl Row {
    #[inline(always)]
    pub(crate) fn rounded(values: &[f32; LANES]) -> Self {
        Self(values.map(rounded))
    }

    #[inline(always)]
    pub(crate) fn widened(&self) -> [f32; LANES] {
        self.0.map(widened)
    }
}

/// Writes rows `2 i` and `2 i + 1` of `from` number by number in turns to rows `2 i` and `2 i + 1` of `to`: pairs of rows, as the second
/// matrix of a product has them.
#[inline(always)]
pub(crate) fn pair_rows(from: &Square, to: &mut Square) {
    for ([even, odd], to) in from.as_chunks::<2>().0.iter().zip(to.as_chunks_mut::<2>().0) {
        for at in 0..2 * LANES {
            let lane = at / 2;
            to[at / LANES].0[at % LANES] = if at % 2 == 0 { even.0[lane] } else { odd.0[lane] };
        }
    }
}

/// The transpose of `from` in pairs of rows: pairs of columns of `from`.
#[inline(always)]
pub(crate) fn pair_columns(from: &Square, to: &mut Square) {
    for pair in 0..LANES / 2 {
        for (column, from) in from.iter().enumerate() {
            let at = 2 * column;
            let row = &mut to[2 * pair + at / LANES].0;
            [row[at % LANES], row[at % LANES + 1]] = [from.0[2 * pair], from.0[2 * pair + 1]];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn squares_are_paired() {
        let square: Square = std::array::from_fn(|row| Row(std::array::from_fn(|column| (row * 100 + column) as u16)));
        let (mut rows, mut columns) = ([Row::default(); LANES], [Row::default(); LANES]);
        pair_rows(&square, &mut rows);
        pair_columns(&square, &mut columns);
        for row in 0..LANES {
            for column in 0..LANES {
                let at =
                    |first: usize, second: usize| [first / 2 * 2 + 2 * second / LANES, 2 * second % LANES + first % 2];
                let ([i, j], [k, l]) = (at(row, column), at(column, row));
                assert_eq!((rows[i].0[j], columns[k].0[l]), (square[row].0[column], square[row].0[column]));
            }
        }
    }
}
