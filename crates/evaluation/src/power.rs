//! How many seeds would settle an undecided statement: simulations of its very rule.
//!
//! Simulated runs scatter as the observed ones do, all variants of a seed together: a seed's values are the true ones plus
//! `sum_j g_j d_j / sqrt(n - 1)`, where `d_j` are what the values of the j-th observed seed differ from the mean and the `g_j`
//! are standard normal, which is a draw from the normal distribution with the observed covariance. The true values are not
//! taken to be the observed means but drawn around them, once a repeat, with `1 / sqrt(n)` of that scatter. With one seed
//! every value is taken to scatter by [`ASSUMED_SD`] over sqrt(2), a difference hence by [`ASSUMED_SD`]. The scatter over
//! images stays the observed one.

use crate::statements::{Group, Part, Statement, Values, Verdict, decide, overall};
use faceoff_analysis::Result;
use faceoff_analysis::statistics::{ASSUMED_SD, POWER};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// The most seeds that are tried.
pub const MOST_SEEDS: u64 = 50;
/// The numbers of seeds that are tried.
const TRIED: [u64; 11] = [3, 4, 5, 6, 8, 10, 12, 15, 20, 30, MOST_SEEDS];
/// Repeats for each.
const REPEATS: u64 = 200;

/// The smallest number of seeds in all, above those that there are, with which at least 80 % of the repeats settle the
/// statement; `None` where none does, or where the variants share no seed.
pub(crate) fn seeds_needed(statement: &Statement, group: &Group, values: &Values) -> Result<Option<u64>> {
    let Some(scatter) = Scatter::of(values, group.seeds()) else { return Ok(None) };
    let margin = statement.margins().first().copied().unwrap_or(0.0);
    let enough = |seeds: u64| -> Result<bool> {
        let settled = |repeat: u64| {
            let mut rng = ChaCha8Rng::seed_from_u64(repeat);
            let parts = decide(statement.number, margin, group, &scatter.draw(seeds as usize, &mut rng))?;
            Ok(u64::from(matches!(overall(&parts), Verdict::Supported | Verdict::Contradicted)))
        };
        let settled: u64 = (0..REPEATS).into_par_iter().map(settled).collect::<Result<Vec<u64>>>()?.into_iter().sum();
        Ok(settled as f64 >= POWER * REPEATS as f64)
    };
    let tried: Vec<u64> = TRIED.into_iter().filter(|&seeds| seeds > group.seeds() as u64).collect();
    // More seeds never settle less, so the most are tried first, and then halves.
    let Some(&most) = tried.last() else { return Ok(None) };
    if !enough(most)? {
        return Ok(None);
    }
    let (mut too_few, mut suffices) = (0, tried.len());
    while too_few + 1 < suffices {
        let middle = (too_few + suffices) / 2;
        if enough(tried[middle - 1])? { suffices = middle } else { too_few = middle }
    }
    Ok(Some(tried[suffices - 1]))
}

/// What is said of an undecided statement; nothing where something is missing.
pub(crate) fn sentence(seeds: Option<u64>, group: &Group, parts: &[Part]) -> Option<String> {
    if parts.iter().any(|part| part.missing.is_some()) {
        return None;
    }
    let assumed = match group.seeds() {
        1 => "if differences scatter by 1 point around those of this seed",
        _ => "if the true differences lie around those observed as far as their scatter lets them",
    };
    Some(match seeds {
        Some(seeds) => format!("{seeds} seeds in all settle it in 80 % of simulations of this rule, {assumed}."),
        None => {
            format!("No number of seeds up to {MOST_SEEDS} settles it in 80 % of simulations of this rule, {assumed}.")
        }
    })
}

/// Means of all values, and what those of each observed seed differ from them.
struct Scatter {
    means: Values,
    deviations: Vec<Vec<f64>>,
}

/// All numbers of the seed at `seed`, in one order; `None` where one is missing that other seeds have.
fn numbers(values: &Values, seed: usize) -> Vec<Option<f64>> {
    let accuracies = values.accuracies.iter().flatten().map(|by_seed| by_seed[seed]);
    let width = values.curves.iter().flatten().flatten().map(Vec::len).next().unwrap_or(0);
    let curves = values.curves.iter().flat_map(|by_seed| match &by_seed[seed] {
        Some(curve) => curve.iter().copied().map(Some).collect(),
        None => vec![None; width],
    });
    accuracies.chain(curves).collect()
}

impl Scatter {
    /// Of the seeds that have all values which any seed has; `None` without one.
    fn of(values: &Values, seeds: usize) -> Option<Self> {
        let all: Vec<Vec<Option<f64>>> = (0..seeds).map(|seed| numbers(values, seed)).collect();
        let known = |at: usize| all.iter().any(|seed| seed[at].is_some());
        let whole = |seed: &&Vec<Option<f64>>| seed.iter().enumerate().all(|(at, value)| value.is_some() || !known(at));
        let whole: Vec<&Vec<Option<f64>>> = all.iter().filter(whole).collect();
        let count = whole.len();
        if count == 0 {
            return None;
        }
        let mean = |at: usize| whole.iter().filter_map(|seed| seed[at]).sum::<f64>() / count as f64;
        let means: Vec<f64> = (0..all[0].len()).map(mean).collect();
        let deviation = |seed: &&Vec<Option<f64>>| {
            seed.iter().zip(&means).map(|(value, mean)| value.map_or(0.0, |value| value - mean)).collect()
        };
        let deviations = if count > 1 { whole.iter().map(deviation).collect() } else { Vec::new() };
        let mut sample = values.clone();
        fill(&mut sample, 1, |at, _| known(at).then(|| means[at]));
        Some(Self { means: sample, deviations })
    }

    /// Values of `seeds` simulated seeds.
    fn draw(&self, seeds: usize, rng: &mut ChaCha8Rng) -> Values {
        let len = numbers(&self.means, 0).len();
        let mut normal = || -> f64 { StandardNormal.sample(rng) };
        let observed = self.deviations.len();
        let mut noise = || -> Vec<f64> {
            let mut noise = vec![0.0; len];
            if observed == 0 {
                noise.iter_mut().for_each(|noise| *noise = ASSUMED_SD / 2.0_f64.sqrt() * normal());
            }
            for deviation in &self.deviations {
                let g = normal() / ((observed - 1) as f64).sqrt();
                noise.iter_mut().zip(deviation).for_each(|(noise, deviation)| *noise += g * deviation);
            }
            noise
        };
        let error = noise();
        let of_seeds: Vec<Vec<f64>> = (0..seeds).map(|_| noise()).collect();
        let means = numbers(&self.means, 0);
        let of_error = 1.0 / (observed.max(1) as f64).sqrt();
        let mut values = self.means.clone();
        fill(&mut values, seeds, |at, seed| means[at].map(|mean| mean + of_error * error[at] + of_seeds[seed][at]));
        values
    }
}

/// Puts `value(at, seed)` into every place, `at` in the order of [`numbers`], for `seeds` seeds.
fn fill(values: &mut Values, seeds: usize, value: impl Fn(usize, usize) -> Option<f64>) {
    let width = values.curves.iter().flatten().flatten().map(Vec::len).next().unwrap_or(0);
    let mut at = 0;
    for by_seed in values.accuracies.iter_mut().flatten() {
        *by_seed = (0..seeds).map(|seed| value(at, seed)).collect();
        at += 1;
    }
    for by_seed in &mut values.curves {
        *by_seed = (0..seeds).map(|seed| (at..at + width).map(|at| value(at, seed)).collect()).collect();
        by_seed.iter_mut().for_each(|curve| *curve = curve.take().filter(|curve: &Vec<f64>| !curve.is_empty()));
        at += width;
    }
}
