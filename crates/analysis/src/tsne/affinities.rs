//! P: how likely each point is to pick each of its nearest points as a neighbour, made symmetric.

use ndarray::ArrayView2;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::{error::Result, neighbors};

/// Entries that are handled at once; rows are filled up with entries of weight 0.
const LANES: usize = 16;

/// Joint probabilities p_ij of pairs of points, as sparse rows; they sum to 1.
pub(super) struct Affinities {
    /// Where each row starts in `columns` and `weights`, and the end of the last; multiples of `LANES`.
    starts: Vec<usize>,
    columns: Vec<u32>,
    weights: Vec<f32>,
}

impl Affinities {
    /// Affinities of the rows of `data` (N, D) at a perplexity.
    pub(super) fn new(data: ArrayView2<'_, f32>, perplexity: f64) -> Result<Self> {
        let count = data.nrows();
        let k = ((3.0 * perplexity) as usize).min(count - 1);
        let (nearest, mut conditional) = neighbors::nearest_by_distance(data, k)?;
        let squared_distances = conditional.as_slice_mut().expect("standard layout");
        squared_distances.par_chunks_mut(k).for_each(|row| to_probabilities(row, perplexity));

        // Who picks j, in rising order.
        let mut pickers = vec![Vec::new(); count];
        for ((i, rank), &j) in nearest.indexed_iter() {
            pickers[j as usize].push((i as u32, conditional[[i, rank]]));
        }
        let rows: Vec<Vec<(u32, f64)>> = pickers
            .into_par_iter()
            .enumerate()
            .map(|(i, mut row)| {
                row.extend(nearest.row(i).iter().copied().zip(conditional.row(i).iter().copied()));
                row.sort_by_key(|&(j, _)| j);
                // Two points that pick each other are one pair.
                row.chunk_by(|a, b| a.0 == b.0)
                    .map(|same| (same[0].0, same.iter().fold(0.0, |sum, (_, p)| sum + p)))
                    .collect()
            })
            .collect();

        let mut affinities = Self { starts: vec![0], columns: Vec::new(), weights: Vec::new() };
        for (i, row) in rows.iter().enumerate() {
            for &(j, p) in row {
                affinities.columns.push(j);
                affinities.weights.push((p / (2.0 * count as f64)) as f32);
            }
            let end = affinities.columns.len().next_multiple_of(LANES);
            affinities.columns.resize(end, i as u32);
            affinities.weights.resize(end, 0.0);
            affinities.starts.push(end);
        }
        Ok(affinities)
    }

    /// The sums over j of p_ij (y_i - y_j) / (1 + |y_i - y_j|^2) for `count` points from `first` on.
    pub(super) fn attraction(&self, points: &[[f32; 2]], first: usize, count: usize) -> Vec<[f32; 2]> {
        let mut forces = vec![[0.0; 2]; count];
        pulp::Arch::new().dispatch(Attract { affinities: self, points, first, forces: &mut forces });
        forces
    }

    /// The sum over pairs of p ln(p / q), for q = (1 + |y_i - y_j|^2)^-1 / `normalizer`.
    pub(super) fn divergence(&self, map: &[[f64; 2]], normalizer: f64) -> f64 {
        let rows: Vec<f64> = (0..map.len())
            .into_par_iter()
            .map(|i| {
                let row = self.starts[i]..self.starts[i + 1];
                let pairs = self.columns[row.clone()].iter().zip(&self.weights[row]);
                pairs
                    .filter(|(_, weight)| **weight > 0.0)
                    .map(|(&j, &weight)| {
                        let [dx, dy] = [0, 1].map(|axis| map[i][axis] - map[j as usize][axis]);
                        let p = f64::from(weight);
                        p * (p * normalizer * (1.0 + dx * dx + dy * dy)).ln()
                    })
                    .sum()
            })
            .collect();
        rows.iter().sum()
    }
}

/// Forces on the points from `first` on.
struct Attract<'a> {
    affinities: &'a Affinities,
    points: &'a [[f32; 2]],
    first: usize,
    forces: &'a mut [[f32; 2]],
}

impl WithSimd for Attract<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (mut dxs, mut dys) = (Vec::new(), Vec::new());
        for (offset, force) in self.forces.iter_mut().enumerate() {
            let own = self.first + offset;
            let row = self.affinities.starts[own]..self.affinities.starts[own + 1];
            let columns = &self.affinities.columns[row.clone()];
            // Picked up first: arithmetic among scattered loads is not done side by side.
            dxs.resize(columns.len(), 0.0);
            dys.resize(columns.len(), 0.0);
            for ((dx, dy), &column) in dxs.iter_mut().zip(&mut dys).zip(columns) {
                let [x, y] = self.points[column as usize];
                *dx = self.points[own][0] - x;
                *dy = self.points[own][1] - y;
            }
            let pairs = dxs.as_chunks::<LANES>().0.iter().zip(dys.as_chunks::<LANES>().0);
            let mut sums = [[0.0_f32; LANES]; 2];
            for ((dx, dy), weights) in pairs.zip(self.affinities.weights[row].as_chunks::<LANES>().0) {
                for lane in 0..LANES {
                    let pull = weights[lane] / (1.0 + dx[lane] * dx[lane] + dy[lane] * dy[lane]);
                    sums[0][lane] += pull * dx[lane];
                    sums[1][lane] += pull * dy[lane];
                }
            }
            *force = sums.map(|lanes| lanes.iter().sum());
        }
    }
}

/// Turns squared distances into probabilities proportional to exp(-beta d^2), beta such that their entropy is ln(perplexity):
/// exactly where the distances allow it, else as near as 64 halvings come.
fn to_probabilities(squared_distances: &mut [f64], perplexity: f64) {
    let nearest = squared_distances.iter().copied().fold(f64::INFINITY, f64::min);
    let scale = squared_distances.iter().map(|d| d - nearest).sum::<f64>() / squared_distances.len() as f64;
    if scale <= 0.0 {
        squared_distances.fill(1.0 / squared_distances.len() as f64);
        return;
    }
    let distances: Vec<f64> = squared_distances.iter().map(|d| (d - nearest) / scale).collect();
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut beta = 1.0;
    for _ in 0..64 {
        let (mut sum, mut weighted) = (0.0, 0.0);
        for (p, &distance) in squared_distances.iter_mut().zip(&distances) {
            *p = (-beta * distance).exp();
            sum += *p;
            weighted += *p * distance;
        }
        let excess = f64::ln(sum) + beta * weighted / sum - perplexity.ln();
        if excess.abs() < 1e-8 {
            break;
        }
        *(if excess > 0.0 { &mut low } else { &mut high }) = beta;
        beta = if high.is_finite() { (low + high) / 2.0 } else { beta * 2.0 };
    }
    let sum: f64 = squared_distances.iter().sum();
    squared_distances.iter_mut().for_each(|p| *p /= sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    fn points() -> Array2<f32> {
        Array2::from_shape_fn((120, 6), |(i, d)| (((i * 37 + d * 11) % 101) as f32 * 0.37).sin() + (i % 4) as f32)
    }

    fn dense(affinities: &Affinities, count: usize) -> Array2<f64> {
        let mut joint = Array2::zeros((count, count));
        for i in 0..count {
            for at in affinities.starts[i]..affinities.starts[i + 1] {
                joint[[i, affinities.columns[at] as usize]] += f64::from(affinities.weights[at]);
            }
        }
        joint
    }

    #[test]
    fn they_are_symmetric_and_sum_to_one() {
        let joint = dense(&Affinities::new(points().view(), 7.0).unwrap(), 120);
        assert!((joint.sum() - 1.0).abs() < 1e-6);
        assert_eq!(joint, joint.t());
        assert_eq!(joint.diag().sum(), 0.0);
    }

    #[test]
    fn a_row_reaches_its_perplexity() {
        for perplexity in [1.5, 5.0, 29.0] {
            let mut row: Vec<f64> = (0..90).map(|i| 3.0 + (i as f64).powf(1.3)).collect();
            to_probabilities(&mut row, perplexity);
            let entropy: f64 = row.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
            assert!((entropy.exp() - perplexity).abs() < 1e-6, "{} instead of {perplexity}", entropy.exp());
            assert!(row.windows(2).all(|pair| pair[0] >= pair[1]));
        }
    }

    #[test]
    fn equal_distances_are_equally_likely() {
        let mut row = vec![2.5; 10];
        to_probabilities(&mut row, 3.0);
        assert_eq!(row, [0.1; 10]);
        // Five at no distance, more than the perplexity: they share everything.
        let mut row: Vec<f64> = (0..10).map(|i| if i < 5 { 0.0 } else { 1.0 }).collect();
        to_probabilities(&mut row, 3.0);
        assert!(row[..5].iter().all(|p| (p - 0.2).abs() < 1e-9) && row[5..].iter().all(|p| *p < 1e-9), "{row:?}");
    }

    #[test]
    fn attraction_is_the_sum_over_the_row() {
        let affinities = Affinities::new(points().view(), 7.0).unwrap();
        let map: Vec<[f32; 2]> = (0..120).map(|i| [(i as f32).sin() * 5.0, (i as f32 * 1.7).cos() * 3.0]).collect();
        let joint = dense(&affinities, 120);
        let found = affinities.attraction(&map, 30, 50);
        for (offset, force) in found.iter().enumerate() {
            let own = map[30 + offset];
            let mut expected = [0.0; 2];
            for (j, other) in map.iter().enumerate() {
                let [dx, dy] = [0, 1].map(|axis| f64::from(own[axis]) - f64::from(other[axis]));
                let pull = joint[[30 + offset, j]] / (1.0 + dx * dx + dy * dy);
                expected = [expected[0] + pull * dx, expected[1] + pull * dy];
            }
            for axis in 0..2 {
                assert!((f64::from(force[axis]) - expected[axis]).abs() < 1e-7, "{force:?} instead of {expected:?}");
            }
        }
    }
}
