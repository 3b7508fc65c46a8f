//! A sample of images where all of them would take too long: of each class its share, chosen by a seed.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::HashMap;

/// The places of `most` of the images with these labels, rising; all where there are no more. Of a class of n among N images these are
/// `most` n / N, rounded up or down.
pub(crate) fn stratified(labels: &[u32], most: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..labels.len()).collect();
    if labels.len() <= most {
        return order;
    }
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut sizes: HashMap<u32, usize> = HashMap::new();
    labels.iter().for_each(|&label| *sizes.entry(label).or_default() += 1);
    // The k-th image of a class of n stands at (k + 1/2) / n: what stands foremost is taken.
    let mut taken: HashMap<u32, usize> = HashMap::new();
    let mut standing: Vec<(f64, usize)> = Vec::with_capacity(order.len());
    for place in order {
        let label = labels[place];
        let before = taken.entry(label).or_default();
        standing.push(((*before as f64 + 0.5) / sizes[&label] as f64, place));
        *before += 1;
    }
    // Stable: the shuffled order decides between images that stand equally far in front.
    standing.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut chosen: Vec<usize> = standing[..most].iter().map(|&(_, place)| place).collect();
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
    fn of_more_classes_than_places_no_class_has_two() {
        let labels: Vec<u32> = (0..60).map(|place| place % 20).collect();
        let mut found: Vec<u32> = stratified(&labels, 15, 3).into_iter().map(|place| labels[place]).collect();
        found.sort_unstable();
        assert!(found.len() == 15 && found.is_sorted_by(|a, b| a < b), "{found:?}");
    }
}
