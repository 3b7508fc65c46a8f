//! A sample of images where all of them would take too long: of each class its share, chosen by a seed.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The places of `most` of the images with these labels, rising; all where there are no more. Of a class of n among N images these are
/// `most` n / N, rounded up or down.
pub(crate) fn stratified(labels: &[u32], most: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    if labels.len() <= most {
        return order;
    }
    let mut chance = ChaCha8Rng::seed_from_u64(seed);
    order.shuffle(&mut chance);
    let (all, offset) = (order.len(), chance.random_range(0..order.len()));
    // Systematic sampling: class by class, every (N / most)-th image. Stable: within a class the shuffled order stays.
    order.sort_by_key(|&place| labels[place]);
    let mut chosen: Vec<usize> = (0..most).map(|k| order[(k * all + offset) / most]).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_share_and_the_seed_decides_which() {
        let labels: Vec<u32> =
            (0..1000).map(|place| u32::from(place % 10 == 0) + u32::from(place % 100 == 0)).collect();
        let chosen = stratified(&labels, 100, 0);
        let count = |label: u32| chosen.iter().filter(|&&place| labels[place] == label).count();
        assert_eq!([count(0), count(1), count(2)], [90, 9, 1]);
        assert!(chosen.is_sorted_by(|a, b| a < b));
        assert_eq!(stratified(&labels, 100, 0), chosen);
        assert_ne!(stratified(&labels, 100, 1), chosen);
        assert_eq!(stratified(&labels, 1000, 0), Vec::from_iter(0..1000));
    }

    #[test]
    fn a_large_class_beside_many_small_ones_has_its_share_and_no_more() {
        // 900 classes of one image, and one of a hundred.
        let labels: Vec<u32> = (0..1000_u32).map(|place| place.min(900)).collect();
        for seed in 0..20 {
            let chosen = stratified(&labels, 100, seed);
            assert_eq!(chosen.iter().filter(|&&place| labels[place] == 900).count(), 10, "seed {seed}");
        }
    }

    #[test]
    fn of_more_classes_than_places_no_class_has_two() {
        let labels: Vec<u32> = (0..60).map(|place| place % 20).collect();
        let mut found: Vec<u32> = stratified(&labels, 15, 3).into_iter().map(|place| labels[place]).collect();
        found.sort_unstable();
        assert!(found.len() == 15 && found.is_sorted_by(|a, b| a < b), "{found:?}");
    }
}
