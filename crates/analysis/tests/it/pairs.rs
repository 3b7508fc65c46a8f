//! The hardest pairs.

use faceoff_analysis::pairs::{Pair, hardest};
use ndarray::Array2;

#[test]
fn the_hardest_pairs_are_the_nearest_of_two_classes_and_the_farthest_of_one() {
    let degrees = [0.0_f32, 10.0, 50.0, 58.0, 90.0];
    let unit: Vec<f32> = degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]).collect();
    let unit = Array2::from_shape_vec((5, 2), unit).unwrap();
    let told = |pairs: &[Pair]| pairs.iter().map(|pair| (pair.a, pair.b, pair.degrees.round())).collect::<Vec<_>>();
    let [near, far] = hardest(unit.view(), &[0, 0, 0, 1, 1], 2).unwrap();
    // 50 and 58 degrees; the other points' nearest of another class are taken by then.
    assert_eq!(told(&near), [(2, 3, 8.0)]);
    assert_eq!(told(&far), [(0, 2, 50.0), (3, 4, 32.0)]);
    let [near, far] = hardest(unit.view(), &[0, 0, 0, 1, 1], 1).unwrap();
    assert_eq!((told(&near).len(), told(&far)), (1, vec![(0, 2, 50.0)]));
}
