//! The repulsion of all pairs, summed over a tree of cells.
//!
//! Points stand in the order of a Hilbert curve, so that every run of neighbours in that order is a compact cell: leaves are runs
//! of 16 points, and four cells make one of the level above. A cell that looks small from a whole leaf acts as one point
//! at its center of mass; what acts on a leaf is gathered once, then evaluated for its 16 points side by side. Each point's sum
//! runs in the same order whatever the number of threads.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

/// Points of a leaf.
const LEAF: usize = 16;
/// Cells that make one cell of the level above.
const FAN: usize = 4;
/// Leaves of one parallel task.
const TASK: usize = 8;
/// Evaluations for which an order is kept at most; cells are measured anew each time.
const EVALUATIONS_PER_ORDER: usize = 8;
/// Growth of the number of sources at which an order fits no longer: early on points pass each other in a single step, and cells
/// that spread over the whole map would all be opened.
const GROWTH_PER_ORDER: f64 = 1.1;
/// Bits of a coordinate in the order of the curve.
const BITS: u32 = 16;

#[derive(Clone, Copy)]
struct Cell {
    center: [f32; 2],
    count: f32,
    /// Longer side of the box that holds its points, squared.
    squared_size: f32,
    low: [f32; 2],
    high: [f32; 2],
}

/// Forces on all points of a map, and the buffers that they need.
pub(super) struct Repulsion {
    /// Points in the order of the curve.
    order: Vec<u32>,
    /// Where each point stands in that order.
    ranks: Vec<u32>,
    /// Coordinates in that order, filled up to whole leaves with copies of the last point.
    xs: Vec<f32>,
    ys: Vec<f32>,
    /// Levels of cells, leaves first, a single cell last.
    levels: Vec<Vec<Cell>>,
    forces: Vec<[[f32; LEAF]; 2]>,
    normalizers: Vec<f64>,
    /// Sources of all leaves in each evaluation since the points were put in order.
    sources: Vec<usize>,
}

/// What acts on a leaf from outside: points, and cells taken as points.
#[derive(Default)]
struct Sources {
    /// Position and number of points.
    found: Vec<[f32; 3]>,
    /// Level and place of cells still to be looked at.
    pending: Vec<(u32, u32)>,
}

impl Repulsion {
    pub(super) fn new(count: usize) -> Self {
        let leaves = count.div_ceil(LEAF);
        let empty = merge(std::iter::empty());
        let mut levels = vec![vec![empty; leaves]];
        while levels[levels.len() - 1].len() > 1 {
            levels.push(vec![empty; levels[levels.len() - 1].len().div_ceil(FAN)]);
        }
        Self {
            order: (0..count as u32).collect(),
            ranks: (0..count as u32).collect(),
            xs: vec![0.0; leaves * LEAF],
            ys: vec![0.0; leaves * LEAF],
            levels,
            forces: vec![[[0.0; LEAF]; 2]; leaves],
            normalizers: vec![0.0; leaves],
            sources: Vec::new(),
        }
    }

    /// Orders the points along the curve if the order is old or fits no longer.
    pub(super) fn keep_sorted(&mut self, map: &[[f64; 2]]) {
        let fits = match self.sources[..] {
            [] => false,
            [first, .., last] => last as f64 <= GROWTH_PER_ORDER * first as f64,
            [_] => true,
        };
        if !fits || self.sources.len() == EVALUATIONS_PER_ORDER {
            self.sort(map);
        }
    }

    /// Orders the points along the curve. Forces are right in any order, and fast in one that fits.
    pub(super) fn sort(&mut self, map: &[[f64; 2]]) {
        type Pick = fn(f64, f64) -> f64;
        let bound = |axis: usize, pick: Pick| map.iter().map(|point| point[axis]).reduce(pick).unwrap_or(0.0);
        let low = [bound(0, f64::min), bound(1, f64::min)];
        let side = (bound(0, f64::max) - low[0]).max(bound(1, f64::max) - low[1]).max(f64::MIN_POSITIVE);
        let cells = f64::from((1_u32 << BITS) - 1);
        let mut keys: Vec<(u32, u32)> = map
            .par_iter()
            .enumerate()
            .map(|(i, point)| {
                let [x, y] = [0, 1].map(|axis| ((point[axis] - low[axis]) / side * cells) as u32);
                (along_hilbert_curve(x, y), i as u32)
            })
            .collect();
        keys.par_sort_unstable();
        for (rank, (_, point)) in keys.into_iter().enumerate() {
            self.order[rank] = point;
            self.ranks[point as usize] = rank as u32;
        }
        self.sources.clear();
    }

    /// Evaluates the forces on `points`, opening cells larger than `opening` times their distance, and returns Z, the sum of
    /// (1 + |y_i - y_j|^2)^-1 over ordered pairs.
    pub(super) fn evaluate(&mut self, points: &[[f32; 2]], opening: f32) -> f64 {
        let count = points.len();
        for rank in 0..self.xs.len() {
            [self.xs[rank], self.ys[rank]] = points[self.order[rank.min(count - 1)] as usize];
        }
        self.measure_cells(count);
        let (xs, ys, levels) = (&self.xs, &self.ys, &self.levels);
        let sources = self
            .forces
            .par_chunks_mut(TASK)
            .zip(self.normalizers.par_chunks_mut(TASK))
            .enumerate()
            .map_init(Sources::default, |sources, (task, (forces, normalizers))| {
                let mut all = 0;
                for (offset, (forces, normalizer)) in forces.iter_mut().zip(normalizers).enumerate() {
                    let leaf = task * TASK + offset;
                    sources.gather(xs, ys, levels, leaf, opening, count);
                    all += sources.found.len();
                    let (xs, ys) = (&xs.as_chunks::<LEAF>().0[leaf], &ys.as_chunks::<LEAF>().0[leaf]);
                    let targets = LEAF.min(count - leaf * LEAF);
                    let sums = pulp::Arch::new().dispatch(Act { xs, ys, count: targets, sources: &sources.found });
                    *forces = sums.forces;
                    *normalizer = sums.affinities[..targets].iter().map(|&q| f64::from(q)).sum();
                }
                all
            })
            .sum();
        self.sources.push(sources);
        self.normalizers.iter().sum()
    }

    /// The sum over j of (y_i - y_j) (1 + |y_i - y_j|^2)^-2 as last evaluated.
    pub(super) fn force(&self, point: usize) -> [f32; 2] {
        let rank = self.ranks[point] as usize;
        self.forces[rank / LEAF].map(|axis| axis[rank % LEAF])
    }

    fn measure_cells(&mut self, count: usize) {
        for (leaf, cell) in self.levels[0].iter_mut().enumerate() {
            let range = leaf * LEAF..((leaf + 1) * LEAF).min(count);
            let points = self.xs[range.clone()].iter().zip(&self.ys[range]);
            let at = |point| Cell { center: point, count: 1.0, squared_size: 0.0, low: point, high: point };
            *cell = merge(points.map(|(&x, &y)| at([x, y])));
        }
        for level in 1..self.levels.len() {
            let (below, above) = self.levels.split_at_mut(level);
            for (cell, children) in above[0].iter_mut().zip(below[level - 1].chunks(FAN)) {
                *cell = merge(children.iter().copied());
            }
        }
    }
}

fn merge(cells: impl Iterator<Item = Cell>) -> Cell {
    let start =
        Cell { center: [0.0; 2], count: 0.0, squared_size: 0.0, low: [f32::INFINITY; 2], high: [f32::NEG_INFINITY; 2] };
    let mut whole = cells.fold(start, |mut whole, cell| {
        whole.count += cell.count;
        for axis in 0..2 {
            whole.center[axis] += cell.center[axis] * cell.count;
            whole.low[axis] = whole.low[axis].min(cell.low[axis]);
            whole.high[axis] = whole.high[axis].max(cell.high[axis]);
        }
        whole
    });
    whole.center = whole.center.map(|sum| sum / whole.count);
    let side = (whole.high[0] - whole.low[0]).max(whole.high[1] - whole.low[1]);
    whole.squared_size = side * side;
    whole
}

impl Sources {
    fn gather(&mut self, xs: &[f32], ys: &[f32], levels: &[Vec<Cell>], leaf: usize, opening: f32, count: usize) {
        let target = levels[0][leaf];
        let gap = |cell: &Cell, axis: usize| {
            let (below, above) = (target.low[axis] - cell.center[axis], cell.center[axis] - target.high[axis]);
            let gap = if below > above { below } else { above };
            if gap > 0.0 { gap } else { 0.0 }
        };
        self.found.clear();
        self.pending.clear();
        self.pending.push((levels.len() as u32 - 1, 0));
        while let Some((level, at)) = self.pending.pop() {
            let cell = &levels[level as usize][at as usize];
            let (dx, dy) = (gap(cell, 0), gap(cell, 1));
            if cell.squared_size < opening * opening * (dx * dx + dy * dy) {
                self.found.push([cell.center[0], cell.center[1], cell.count]);
            } else if level > 0 {
                let end = ((at + 1) * FAN as u32).min(levels[level as usize - 1].len() as u32);
                self.pending.extend((at * FAN as u32..end).map(|child| (level - 1, child)));
            } else if at as usize != leaf {
                let points = at as usize * LEAF..((at as usize + 1) * LEAF).min(count);
                self.found.extend(xs[points.clone()].iter().zip(&ys[points]).map(|(&x, &y)| [x, y, 1.0]));
            }
        }
    }
}

/// What is summed for a leaf.
struct Act<'a> {
    xs: &'a [f32; LEAF],
    ys: &'a [f32; LEAF],
    /// How many of them are points and not filling.
    count: usize,
    sources: &'a [[f32; 3]],
}

impl WithSimd for Act<'_> {
    type Output = Sums;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Sums {
        let mut sums = Sums { forces: [[0.0; LEAF]; 2], affinities: [0.0; LEAF] };
        for point in 0..self.count {
            // Nothing acts on itself.
            let mut weights = [1.0; LEAF];
            weights[point] = 0.0;
            sums.add(self.xs, self.ys, self.xs[point], self.ys[point], weights);
        }
        for &[x, y, weight] in self.sources {
            sums.add(self.xs, self.ys, x, y, [weight; LEAF]);
        }
        sums
    }
}

/// Forces on the points of a leaf, x and y apart, and the sums of their affinities.
#[derive(Clone, Copy)]
struct Sums {
    forces: [[f32; LEAF]; 2],
    affinities: [f32; LEAF],
}

impl Sums {
    #[inline(always)]
    fn add(&mut self, xs: &[f32; LEAF], ys: &[f32; LEAF], x: f32, y: f32, weights: [f32; LEAF]) {
        for lane in 0..LEAF {
            let dx = xs[lane] - x;
            let dy = ys[lane] - y;
            let q = 1.0 / (1.0 + dx * dx + dy * dy);
            let pull = weights[lane] * q;
            self.affinities[lane] += pull;
            self.forces[0][lane] += pull * q * dx;
            self.forces[1][lane] += pull * q * dy;
        }
    }
}

/// The position of cell (x, y) along the Hilbert curve over 2^BITS by 2^BITS cells.
fn along_hilbert_curve(mut x: u32, mut y: u32) -> u32 {
    let mut position = 0;
    for bit in (0..BITS).rev() {
        let (right, top) = ((x >> bit) & 1, (y >> bit) & 1);
        position = (position << 2) | ((3 * right) ^ top);
        // Turns the quadrant so that the curve enters it where it left the one before.
        if top == 0 {
            (x, y) = if right == 1 { (!y, !x) } else { (y, x) };
        }
    }
    position
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three clouds of different spread, one point twice.
    fn cloud(count: usize) -> Vec<[f64; 2]> {
        let point = |i: usize| {
            let (radius, angle) = ((i as f64 / count as f64).sqrt() * [1.0, 8.0, 30.0][i % 3], i as f64 * 2.4);
            [radius * angle.cos() + 40.0 * (i % 3) as f64, radius * angle.sin()]
        };
        (0..count).map(|i| if (2..4).contains(&i) { [1.0, 2.0] } else { point(i) }).collect()
    }

    fn rounded(map: &[[f64; 2]]) -> Vec<[f32; 2]> {
        map.iter().map(|point| point.map(|x| x as f32)).collect()
    }

    fn exact(map: &[[f64; 2]]) -> (Vec<[f64; 2]>, f64) {
        let mut normalizer = 0.0;
        let forces = (0..map.len())
            .map(|i| {
                let mut force = [0.0; 2];
                for j in (0..map.len()).filter(|&j| j != i) {
                    let [dx, dy] = [0, 1].map(|axis| map[i][axis] - map[j][axis]);
                    let q = 1.0 / (1.0 + dx * dx + dy * dy);
                    normalizer += q;
                    force = [force[0] + q * q * dx, force[1] + q * q * dy];
                }
                force
            })
            .collect();
        (forces, normalizer)
    }

    /// Relative error of Z, and the root mean square error of the forces relative to their own.
    fn errors(map: &[[f64; 2]], opening: f32, sorted: bool) -> (f64, f64) {
        let mut repulsion = Repulsion::new(map.len());
        if sorted {
            repulsion.sort(map);
        }
        let normalizer = repulsion.evaluate(&rounded(map), opening);
        let (forces, expected) = exact(map);
        let (mut wrong, mut all) = (0.0, 0.0);
        for (i, force) in forces.iter().enumerate() {
            let found = repulsion.force(i);
            for axis in 0..2 {
                wrong += (f64::from(found[axis]) - force[axis]).powi(2);
                all += force[axis].powi(2);
            }
        }
        ((normalizer / expected - 1.0).abs(), (wrong / all).sqrt())
    }

    #[test]
    fn with_every_cell_open_it_is_the_sum_over_all_pairs() {
        for count in [1, 2, 15, 16, 17, 64, 65, 333] {
            for sorted in [false, true] {
                let map = cloud(count);
                let (normalizer, forces) = errors(&map, 0.0, sorted);
                if count > 1 {
                    assert!(normalizer < 1e-6 && forces < 1e-5, "{count} points: {normalizer}, {forces}");
                }
            }
        }
    }

    #[test]
    fn approximate_sums_are_near_the_exact_ones() {
        let map = cloud(3_000);
        for sorted in [false, true] {
            let (normalizer, forces) = errors(&map, super::super::OPENING, sorted);
            assert!(normalizer < 2e-3 && forces < 1e-2, "sorted {sorted}: {normalizer}, {forces}");
        }
        let (normalizer, forces) = errors(&map, super::super::OPENING_OF_DIVERGENCE, true);
        assert!(normalizer < 1e-5 && forces < 1e-5, "{normalizer}, {forces}");
    }

    #[test]
    fn an_order_that_fits_no_longer_is_given_up() {
        let map = cloud(3_000);
        let mut repulsion = Repulsion::new(map.len());
        let mut step = |map: &[[f64; 2]]| {
            repulsion.keep_sorted(map);
            repulsion.evaluate(&rounded(map), super::super::OPENING);
            (repulsion.sources.len(), repulsion.sources[repulsion.sources.len() - 1])
        };
        let (age, sources) = step(&map);
        assert_eq!((age, step(&map)), (1, (2, sources)));
        // Every point moves to where another one was.
        let moved = Vec::from_iter((0..map.len()).map(|i| map[i * 997 % map.len()]));
        let (age, more) = step(&moved);
        assert!(age == 3 && more > 2 * sources, "{age} {more} {sources}");
        assert_eq!(step(&moved), (1, sources));
    }

    #[test]
    fn the_curve_visits_every_cell_and_takes_steps_of_one() {
        // The lowest corner of the grid holds the beginning of the curve.
        let side = 1 << 5;
        let cells = (0..side).flat_map(|x| (0..side).map(move |y| (along_hilbert_curve(x, y), x, y)));
        let mut visited: Vec<(u32, u32, u32)> = cells.collect();
        visited.sort_unstable();
        for (expected, (position, ..)) in visited.iter().enumerate() {
            assert_eq!(*position as usize, expected);
        }
        for pair in visited.windows(2) {
            let ((_, x, y), (_, next_x, next_y)) = (pair[0], pair[1]);
            assert_eq!(x.abs_diff(next_x) + y.abs_diff(next_y), 1);
        }
    }
}
