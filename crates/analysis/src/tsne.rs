//! t-SNE: a map of the points into the plane that keeps neighbours together, for pictures.
//!
//! Minimises KL(P || Q) by gradient descent with momentum and gains. P: Gaussian affinities of the exact `3 * perplexity` nearest
//! points; Q: Student-t affinities of the map, `q_ij = (1 + |y_i - y_j|^2)^-1 / Z`. The repulsion is summed over a tree
//! (Barnes-Hut), the map starts as the first two principal components, and the schedule is openTSNE's: exaggeration 12 with
//! momentum 0.5 for the first quarter of the iterations (at most 250), then none with momentum 0.8, learning rate
//! N / exaggeration (at least 200), steps of length 5 at most. van der Maaten and Hinton (2008); van der Maaten (2014);
//! start and learning rate: Kobak and Berens, arXiv:1812.09025, Belkina et al. (2019).
//!
//! On one kind of processor, equal input and seed give equal output for any number of threads. Memory grows with N * perplexity.

mod affinities;
mod repulsion;

use linfa::traits::Transformer;
use linfa_tsne::TSneParams;
use ndarray::{Array2, ArrayView1, ArrayView2};
use rand::{Rng, SeedableRng};
use rand_08::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{
    error::{Error, Result, check_count, check_matrix},
    pca,
};
use affinities::Affinities;
use repulsion::Repulsion;

/// Standard deviation of the start along its first axis.
const START_DEVIATION: f64 = 1e-4;
/// Uniform noise upon the start: points on a line would never leave it.
const JITTER: f64 = 1e-6;
/// Factor on P in the first phase.
const EXAGGERATION: f64 = 12.0;
const EXAGGERATED_ITERATIONS: usize = 250;
const LEAST_LEARNING_RATE: f64 = 200.0;
const LEAST_GAIN: f64 = 0.01;
const LONGEST_STEP: f64 = 5.0;
/// Size of a cell over its distance up to which it counts as one point.
const OPENING: f32 = 0.5;
/// The same where the final divergence is measured.
const OPENING_OF_DIVERGENCE: f32 = 0.1;
/// Points of one parallel task.
const TASK: usize = 256;

/// What can be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TsneConfig {
    /// Effective number of neighbours of a point, from 1 to (N - 1) / 3; 30 is usual.
    pub perplexity: f64,
    /// Steps of gradient descent in all; 1,000 are usual.
    pub iterations: usize,
    /// Seed of the noise upon the start.
    pub seed: u64,
}

/// A map of points.
#[derive(Debug, Clone, PartialEq)]
pub struct Tsne {
    /// (N, 2) positions, centered.
    pub coordinates: Array2<f64>,
    /// KL(P || Q) of the map, in nats; comparable for equal data and perplexity only.
    pub kl_divergence: f64,
}

/// Embeds `data` (N, D) into the plane.
///
/// # Errors
/// All points equal, no iteration, or a perplexity outside 1 to (N - 1) / 3.
pub fn embed(data: ArrayView2<'_, f32>, config: &TsneConfig) -> Result<Tsne> {
    check(data, config)?;
    let mut map = start(data, config.seed)?;
    let affinities = Affinities::new(data, config.perplexity)?;
    let exaggerated = EXAGGERATED_ITERATIONS.min(config.iterations / 4);
    let mut descent = Descent::new(map.len());
    for iteration in 0..config.iterations {
        descent.repulsion.keep_sorted(&map);
        if iteration == exaggerated {
            // The second phase begins at rest.
            descent.updates.fill([0.0; 2]);
            descent.gains.fill([1.0; 2]);
        }
        let (exaggeration, momentum) = if iteration < exaggerated { (EXAGGERATION, 0.5) } else { (1.0, 0.8) };
        descent.step(&mut map, &affinities, exaggeration, momentum);
    }
    let coordinates = Array2::from_shape_fn((map.len(), 2), |(i, axis)| map[i][axis]);
    let kl_divergence = descent.divergence(&map, &affinities);
    Ok(Tsne { coordinates, kl_divergence })
}

/// Up to so many points linfa's map is computed without its tree: few points spread so far under its fixed learning rate that the tree's
/// recursion overflows the stack.
const EXACT_POINTS: usize = 1000;

/// As [`embed`], by linfa-tsne: Barnes-Hut at threshold 0.5, exact for up to 1,000 points, from a random start. It draws from a generator
/// that cannot be seeded, so that the map differs from call to call.
///
/// # Errors
/// As [`embed`]; or fewer than two dimensions.
pub fn embed_linfa(data: ArrayView2<'_, f32>, config: &TsneConfig) -> Result<Tsne> {
    check(data, config)?;
    check_count("the number of dimensions", data.ncols(), 2..=usize::MAX, "use the default engine instead of linfa's")?;
    // A constant input ends in NaN there.
    pca::fit(data, 1)?;
    let generator = rand_08::rngs::SmallRng::seed_from_u64(config.seed);
    let coordinates = TSneParams::embedding_size_with_rng(2, generator)
        .perplexity(config.perplexity)
        .approx_threshold(if data.nrows() <= EXACT_POINTS { 0.0 } else { 0.5 })
        .max_iter(config.iterations)
        .preliminary_iter(EXAGGERATED_ITERATIONS.min(config.iterations / 4))
        .transform(data.mapv(f64::from).as_standard_layout().into_owned())
        .map_err(|error| Error::Library("linfa-tsne", error.to_string()))?;
    if !coordinates.iter().all(|x| x.is_finite()) {
        let reason = "its map has coordinates that are not finite; use the default engine instead of linfa's";
        return Err(Error::Library("linfa-tsne", reason.into()));
    }
    let map: Vec<_> = coordinates.rows().into_iter().map(|row| [row[0], row[1]]).collect();
    let kl_divergence = Descent::new(map.len()).divergence(&map, &Affinities::new(data, config.perplexity)?);
    Ok(Tsne { coordinates, kl_divergence })
}

fn check(data: ArrayView2<'_, f32>, config: &TsneConfig) -> Result<()> {
    check_matrix("the data", data)?;
    let most = (data.nrows() - 1) as f64 / 3.0;
    if !(1.0..=most).contains(&config.perplexity) {
        let rule = format!("it must be from 1 to {most:.1}, a third of the other points of {}", data.nrows());
        let remedy = "lower the perplexity or pass more points (at least 4)";
        return Err(Error::out_of_range("the perplexity", config.perplexity, rule, remedy));
    }
    check_count("the number of iterations", config.iterations, 1..=usize::MAX, "1,000 are usual")
}

/// The first two principal components, scaled down, with a little noise.
fn start(data: ArrayView2<'_, f32>, seed: u64) -> Result<Vec<[f64; 2]>> {
    let axes = data.ncols().min(2);
    let basis = pca::fit(data, axes)?;
    let coordinates = basis.transform(data)?;
    let scale = START_DEVIATION / basis.explained_variance[0].sqrt();
    let mut noise = ChaCha8Rng::seed_from_u64(seed);
    let mut place = |row: ArrayView1<'_, f32>| {
        [0_usize, 1].map(|axis| {
            let position = row.get(axis).map_or(0.0, |&x| f64::from(x) * scale);
            position + noise.random_range(-JITTER..JITTER)
        })
    };
    Ok(coordinates.rows().into_iter().map(&mut place).collect())
}

/// Momentum, gains and buffers of the gradient descent.
struct Descent {
    repulsion: Repulsion,
    updates: Vec<[f64; 2]>,
    gains: Vec<[f64; 2]>,
    /// The map in f32: forces need no more, and twice as many fit a register.
    points: Vec<[f32; 2]>,
}

impl Descent {
    fn new(count: usize) -> Self {
        Self {
            repulsion: Repulsion::new(count),
            updates: vec![[0.0; 2]; count],
            gains: vec![[1.0; 2]; count],
            points: vec![[0.0; 2]; count],
        }
    }

    fn round(&mut self, map: &[[f64; 2]]) {
        self.points.iter_mut().zip(map).for_each(|(point, at)| *point = at.map(|x| x as f32));
    }

    fn step(&mut self, map: &mut [[f64; 2]], affinities: &Affinities, exaggeration: f64, momentum: f64) {
        self.round(map);
        let normalizer = self.repulsion.evaluate(&self.points, OPENING);
        let learning_rate = (map.len() as f64 / exaggeration).max(LEAST_LEARNING_RATE);
        let (points, repulsion) = (&self.points, &self.repulsion);
        map.par_chunks_mut(TASK)
            .zip(self.updates.par_chunks_mut(TASK))
            .zip(self.gains.par_chunks_mut(TASK))
            .enumerate()
            .for_each(|(task, ((map, updates), gains))| {
                let attraction = affinities.attraction(points, task * TASK, map.len());
                for i in 0..map.len() {
                    let push = repulsion.force(task * TASK + i);
                    for axis in 0..2 {
                        let pull = exaggeration * f64::from(attraction[i][axis]);
                        let gradient = pull - f64::from(push[axis]) / normalizer;
                        let (update, gain) = (&mut updates[i][axis], &mut gains[i][axis]);
                        let slow = (*update > 0.0) == (gradient > 0.0);
                        *gain = if slow { *gain * 0.8 + LEAST_GAIN } else { *gain + 0.2 };
                        *update = momentum * *update - learning_rate * *gain * gradient;
                    }
                    let length = (updates[i][0] * updates[i][0] + updates[i][1] * updates[i][1]).sqrt();
                    let shorten = if length > LONGEST_STEP { LONGEST_STEP / length } else { 1.0 };
                    for axis in 0..2 {
                        updates[i][axis] *= shorten;
                        map[i][axis] += updates[i][axis];
                    }
                }
            });
        let mean = [0, 1].map(|axis| map.iter().map(|point| point[axis]).sum::<f64>() / map.len() as f64);
        map.iter_mut().for_each(|point| *point = [point[0] - mean[0], point[1] - mean[1]]);
    }

    /// KL(P || Q), with Z summed to about six digits.
    fn divergence(&mut self, map: &[[f64; 2]], affinities: &Affinities) -> f64 {
        self.round(map);
        self.repulsion.sort(map);
        let normalizer = self.repulsion.evaluate(&self.points, OPENING_OF_DIVERGENCE);
        affinities.divergence(map, normalizer)
    }
}
