//! P: how likely each point is to pick each of its nearest points as a neighbour, made symmetric.

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::{error::Result, neighbors};

/// Entries that are handled at once; rows are filled up with entries of weight 0.
const LANES: usize = 8;

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
        let (nearest, squared_distances) = neighbors::nearest_by_distance(data, k)?;
        let mut conditional = squared_distances;
        conditional
            .as_slice_mut()
            .expect("standard layout")
            .par_chunks_mut(k)
            .for_each(|row| to_probabilities(row, perplexity));

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
                row.dedup_by(|later, kept| {
                    let same = later.0 == kept.0;
                    if same {
                        kept.1 += later.1;
                    }
                    same
                });
                row
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
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for (offset, force) in forces.iter_mut().enumerate() {
                    let row = self.starts[first + offset]..self.starts[first + offset + 1];
                    *force = row_attraction(
                        points,
                        first + offset,
                        &self.columns[row.clone()],
                        &self.weights[row],
                    );
                }
            },
        );
        forces
    }

    /// The sum over pairs of p ln(p / q), for q = (1 + |y_i - y_j|^2)^-1 / `normalizer`.
    pub(super) fn divergence(&self, map: &[[f64; 2]], normalizer: f64) -> f64 {
        let rows: Vec<f64> = (0..map.len())
            .into_par_iter()
            .map(|i| {
                let row = self.starts[i]..self.starts[i + 1];
                let pairs = self.columns[row.clone()]
                    .iter()
                    .zip(&self.weights[row])
                    .filter(|(_, weight)| **weight > 0.0);
                pairs
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

#[inline(always)]
fn row_attraction(points: &[[f32; 2]], own: usize, columns: &[u32], weights: &[f32]) -> [f32; 2] {
    let [x, y] = points[own];
    let mut sum_x = [0.0_f32; LANES];
    let mut sum_y = [0.0_f32; LANES];
    for (columns, weights) in columns.chunks_exact(LANES).zip(weights.chunks_exact(LANES)) {
        let mut dx = [0.0_f32; LANES];
        let mut dy = [0.0_f32; LANES];
        for lane in 0..LANES {
            let other = points[columns[lane] as usize];
            dx[lane] = x - other[0];
            dy[lane] = y - other[1];
        }
        for lane in 0..LANES {
            let force = weights[lane] / (1.0 + dx[lane] * dx[lane] + dy[lane] * dy[lane]);
            sum_x[lane] += force * dx[lane];
            sum_y[lane] += force * dy[lane];
        }
    }
    [sum_x.iter().sum(), sum_y.iter().sum()]
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
        squared_distances.iter_mut().for_each(|p| *p /= sum);
        let excess = f64::ln(sum) + beta * weighted / sum - perplexity.ln();
        if excess.abs() < 1e-8 {
            break;
        }
        if excess > 0.0 {
            low = beta;
            beta = if high.is_finite() { (low + high) / 2.0 } else { beta * 2.0 };
        } else {
            high = beta;
            beta = (low + high) / 2.0;
        }
    }
}
