//! Which variant to choose: the chance that each is the best, and what choosing it is expected to cost.
//!
//! Seeds and images are drawn with replacement together, the same for all variants, so that what they share cancels. With one
//! seed images alone are drawn, and the numbers say nothing of other seeds; with few seeds they say too little.

use crate::comparisons::right_by_seed;
use crate::groups::Group;
use crate::measured::Measured;
use crate::registry::MetricId;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What a chooser needs to know of a variant, by one accuracy.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// The accuracy.
    pub metric: MetricId,
    /// Index of the variant.
    pub variant: usize,
    /// Number of seeds, those that all variants of the group have.
    pub seeds: usize,
    /// Mean accuracy over these seeds.
    pub mean: f64,
    /// Share of the draws in which it is the best; equal best ones share a draw.
    pub probability_best: f64,
    /// Mean over the draws of how far it is behind the best of the draw, a fraction.
    pub expected_regret: f64,
}

/// The variants of a group by one accuracy; nothing where fewer than two variants say which images are right.
pub(crate) fn choose(metric: MetricId, group: &Group, measured: &[Measured], draws: usize) -> Vec<Choice> {
    let by_seed = |&variant: &usize| (variant, right_by_seed(measured, metric, variant));
    let variants: Vec<_> = group.variants.iter().map(by_seed).filter(|(_, right)| !right.is_empty()).collect();
    let [(_, first), _, ..] = &variants[..] else { return Vec::new() };
    let in_all = |seed: &&u64| variants.iter().all(|(_, right)| right.contains_key(seed));
    let seeds: Vec<u64> = first.keys().filter(in_all).copied().collect();
    let lengths: BTreeSet<usize> = variants.iter().flat_map(|(_, right)| right.values().map(|r| r.len())).collect();
    let images = lengths.first().copied().unwrap_or(0);
    if seeds.is_empty() || lengths.len() != 1 || images == 0 {
        return Vec::new();
    }
    let count = variants.len();
    let share = 1.0 / (seeds.len() * images) as f64;
    let of_draw = |draw: usize| {
        // A stream each: the outcome is a function of the draw alone.
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        rng.set_stream(draw as u64);
        let drawn: Vec<u64> = seeds.iter().map(|_| seeds[rng.random_range(0..seeds.len())]).collect();
        let mut weights = vec![0_u32; images];
        (0..images).for_each(|_| weights[rng.random_range(0..images as u32) as usize] += 1);
        let hits = |right: &[bool]| weights.iter().zip(right).map(|(w, &right)| w * u32::from(right)).sum::<u32>();
        let total = |(_, right): &(usize, BTreeMap<u64, &[bool]>)| {
            drawn.iter().map(|seed| u64::from(hits(right[seed]))).sum::<u64>()
        };
        let totals: Vec<u64> = variants.iter().map(total).collect();
        let best = *totals.iter().max().expect("there are two variants or more");
        let ties = totals.iter().filter(|&&total| total == best).count() as f64;
        let of_variant = |total: &u64| (if *total == best { 1.0 / ties } else { 0.0 }, (best - total) as f64 * share);
        totals.iter().map(of_variant).collect::<Vec<(f64, f64)>>()
    };
    let outcomes: Vec<Vec<(f64, f64)>> = (0..draws).into_par_iter().map(of_draw).collect();
    let choice = |at: usize| {
        let (variant, right) = &variants[at];
        let mean = |of: &dyn Fn(&(f64, f64)) -> f64| outcomes.iter().map(|o| of(&o[at])).sum::<f64>() / draws as f64;
        let hits = seeds.iter().map(|seed| right[seed].iter().filter(|&&right| right).count()).sum::<usize>();
        Choice {
            metric,
            variant: *variant,
            seeds: seeds.len(),
            mean: hits as f64 * share,
            probability_best: mean(&|&(best, _)| best),
            expected_regret: mean(&|&(_, regret)| regret),
        }
    };
    (0..count).map(choice).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::classifier::DNN_ACCURACY;
    use crate::measured::Findings;

    fn run(variant: usize, seed: u64, right: Vec<bool>) -> Measured {
        let found = Findings { right: vec![(DNN_ACCURACY.id(), right)], ..Findings::default() };
        Measured { run: format!("{variant}-{seed}"), variant, seed, found, maps: None, look: None }
    }

    fn chosen(runs: &[Measured]) -> Vec<Choice> {
        let group = Group { condition: String::new(), variants: vec![0, 1, 2], hidden: 0 };
        choose(DNN_ACCURACY.id(), &group, runs, 2000)
    }

    #[test]
    fn a_clear_lead_is_certain_and_equals_share() {
        // Variant 0 has the images that variants 1 and 2 have, and 100 more.
        let right = |count: usize| (0..1000).map(|image| image < count).collect::<Vec<bool>>();
        let runs: Vec<Measured> = (0..3)
            .flat_map(|seed| [run(0, seed, right(700)), run(1, seed, right(600)), run(2, seed, right(600))])
            .collect();
        let found = chosen(&runs);
        assert_eq!(found.iter().map(|c| c.probability_best).collect::<Vec<_>>(), [1.0, 0.0, 0.0]);
        assert_eq!((found[0].seeds, found[0].mean, found[0].expected_regret), (3, 0.7, 0.0));
        assert!((found[1].expected_regret - 0.1).abs() < 0.002, "{found:?}");
        let equal: Vec<Measured> = (0..3).map(|variant| run(variant, 0, right(600))).collect();
        assert!(
            chosen(&equal).iter().all(|c| (c.probability_best - 1.0 / 3.0).abs() < 1e-9 && c.expected_regret == 0.0)
        );
        assert!(chosen(&runs[..1]).is_empty());
    }
}
