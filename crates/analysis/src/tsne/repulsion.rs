//! The repulsion of all pairs, summed over a tree of cells.
//!
//! Points stand in the order of a Hilbert curve, so that every run of neighbours in that order is a compact cell: leaves are runs
//! of 16 points, and four cells make one of the level above. A cell that looks small from a whole leaf acts as one point
//! at its centre of mass; what acts on a leaf is gathered once, then evaluated for its 16 points side by side. Each point's sum
//! runs in the same order whatever the number of threads or the width of the registers.

use rayon::prelude::*;

/// Points of a leaf.
const LEAF: usize = 16;
/// Cells that make one cell of the level above.
const FAN: usize = 4;
/// Leaves of one parallel task.
const TASK: usize = 8;
/// Bits of a coordinate in the order of the curve.
const BITS: u32 = 16;

#[derive(Clone, Copy)]
struct Cell {
    centre: [f32; 2],
    count: f32,
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
}

/// What acts on a leaf: points and cells taken as points.
#[derive(Default)]
struct Sources {
    xs: Vec<f32>,
    ys: Vec<f32>,
    counts: Vec<f32>,
    pending: Vec<(usize, usize)>,
}

impl Repulsion {
    pub(super) fn new(count: usize) -> Self {
        let leaves = count.div_ceil(LEAF);
        let empty = Cell { centre: [0.0; 2], count: 0.0, low: [0.0; 2], high: [0.0; 2] };
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
        }
    }

    /// Orders the points along the curve. Forces are right in any order, and fast in one that fits.
    pub(super) fn sort(&mut self, map: &[[f64; 2]]) {
        let bound = |axis: usize, pick: fn(f64, f64) -> f64| {
            map.iter().map(|point| point[axis]).reduce(pick).unwrap_or(0.0)
        };
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
    }

    /// Evaluates the forces on `points`, opening cells larger than `opening` times their distance, and returns Z, the sum of
    /// (1 + |y_i - y_j|^2)^-1 over ordered pairs.
    pub(super) fn evaluate(&mut self, points: &[[f32; 2]], opening: f32) -> f64 {
        let count = points.len();
        for rank in 0..self.xs.len() {
            let point = points[self.order[rank.min(count - 1)] as usize];
            self.xs[rank] = point[0];
            self.ys[rank] = point[1];
        }
        self.measure_cells(count);
        let (xs, ys, levels) = (&self.xs, &self.ys, &self.levels);
        self.forces
            .par_chunks_mut(TASK)
            .zip(self.normalizers.par_chunks_mut(TASK))
            .enumerate()
            .for_each_init(Sources::default, |sources, (task, (forces, normalizers))| {
                for (offset, (forces, normalizer)) in forces.iter_mut().zip(normalizers).enumerate() {
                    let leaf = task * TASK + offset;
                    sources.gather(xs, ys, levels, leaf, opening, count);
                    let range = leaf * LEAF..(leaf + 1) * LEAF;
                    let targets = LEAF.min(count - leaf * LEAF);
                    let (sums, own) = pulp::Arch::new().dispatch(
                        #[inline(always)]
                        || act(&xs[range.clone()], &ys[range], sources),
                    );
                    *forces = sums;
                    *normalizer = own[..targets].iter().map(|&q| f64::from(q)).sum();
                }
            });
        // Every point met itself at distance 0.
        self.normalizers.iter().sum::<f64>() - count as f64
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
            *cell =
                merge(points.map(|(&x, &y)| Cell { centre: [x, y], count: 1.0, low: [x, y], high: [x, y] }));
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
    let start = Cell { centre: [0.0; 2], count: 0.0, low: [f32::INFINITY; 2], high: [f32::NEG_INFINITY; 2] };
    let mut whole = cells.fold(start, |mut whole, cell| {
        whole.count += cell.count;
        for axis in 0..2 {
            whole.centre[axis] += cell.centre[axis] * cell.count;
            whole.low[axis] = whole.low[axis].min(cell.low[axis]);
            whole.high[axis] = whole.high[axis].max(cell.high[axis]);
        }
        whole
    });
    whole.centre = whole.centre.map(|sum| sum / whole.count);
    whole
}

impl Sources {
    fn gather(
        &mut self,
        xs: &[f32],
        ys: &[f32],
        levels: &[Vec<Cell>],
        leaf: usize,
        opening: f32,
        count: usize,
    ) {
        self.xs.clear();
        self.ys.clear();
        self.counts.clear();
        let target = levels[0][leaf];
        self.pending.clear();
        self.pending.push((levels.len() - 1, 0));
        while let Some((level, at)) = self.pending.pop() {
            let cell = &levels[level][at];
            let mut squared_distance = 0.0;
            let mut size = 0.0_f32;
            for axis in 0..2 {
                let gap = (target.low[axis] - cell.centre[axis])
                    .max(cell.centre[axis] - target.high[axis])
                    .max(0.0);
                squared_distance += gap * gap;
                size = size.max(cell.high[axis] - cell.low[axis]);
            }
            if size * size < opening * opening * squared_distance {
                self.push(cell.centre[0], cell.centre[1], cell.count);
            } else if level > 0 {
                let end = ((at + 1) * FAN).min(levels[level - 1].len());
                self.pending.extend((at * FAN..end).map(|child| (level - 1, child)));
            } else {
                for point in at * LEAF..((at + 1) * LEAF).min(count) {
                    self.push(xs[point], ys[point], 1.0);
                }
            }
        }
    }

    fn push(&mut self, x: f32, y: f32, count: f32) {
        self.xs.push(x);
        self.ys.push(y);
        self.counts.push(count);
    }
}

/// Forces of all sources on the points of a leaf, and the sums of their affinities.
#[inline(always)]
fn act(xs: &[f32], ys: &[f32], sources: &Sources) -> ([[f32; LEAF]; 2], [f32; LEAF]) {
    let mut force_x = [0.0_f32; LEAF];
    let mut force_y = [0.0_f32; LEAF];
    let mut affinity = [0.0_f32; LEAF];
    let (xs, ys): (&[f32; LEAF], &[f32; LEAF]) =
        (xs.try_into().expect("a leaf"), ys.try_into().expect("a leaf"));
    for ((&x, &y), &count) in sources.xs.iter().zip(&sources.ys).zip(&sources.counts) {
        for lane in 0..LEAF {
            let dx = xs[lane] - x;
            let dy = ys[lane] - y;
            let q = 1.0 / (1.0 + dx * dx + dy * dy);
            let pull = count * q;
            affinity[lane] += pull;
            force_x[lane] += pull * q * dx;
            force_y[lane] += pull * q * dy;
        }
    }
    ([force_x, force_y], affinity)
}

/// The position of cell (x, y) along the Hilbert curve over 2^BITS by 2^BITS cells.
fn along_hilbert_curve(mut x: u32, mut y: u32) -> u32 {
    let mut position = 0;
    for bit in (0..BITS).rev() {
        let (right, top) = ((x >> bit) & 1, (y >> bit) & 1);
        position = (position << 2) | ((3 * right) ^ top);
        // Turns the quadrant so that the curve enters it where it left the one before.
        if top == 0 {
            if right == 1 {
                x = !x;
                y = !y;
            }
            std::mem::swap(&mut x, &mut y);
        }
    }
    position
}
