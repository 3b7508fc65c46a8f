//! Statistics: SciPy's values, and small samples.

use faceoff_analysis::Error;
use faceoff_analysis::statistics::*;
use ndarray::{Array2, array};

use crate::golden::{assert_all_near, assert_near, load, matrix, numbers, with_threads};

#[test]
fn agrees_with_scipy() {
    let golden = load();
    let expected = &golden.values["statistics"];
    let (a, b) = (numbers(&expected["a"]), numbers(&expected["b"]));
    let found = paired_difference(&a, &b).unwrap();
    let interval = found.difference.interval.unwrap();
    assert_near(found.difference.mean, &expected["mean"], "mean");
    assert_near(found.difference.sd.unwrap(), &expected["sd"], "sd");
    assert_all_near(&[interval.low, interval.high], &expected["interval"], "interval");
    assert_near(found.p.unwrap(), &expected["p"], "p");
    assert_near(found.cohens_d.unwrap(), &expected["cohens_d"], "d");
    assert_near(p_above(&found.difference, 0.005).unwrap(), &expected["p_above_0.005"], "one-sided p");
    assert_near(p_equivalent(&found.difference, 0.02).unwrap(), &expected["p_equivalent_0.02"], "TOST");
    assert_all_near(&holm(&numbers(&expected["p_values"])), &expected["holm"], "Holm");

    // Read as f32 and back, so that equal values stay equal.
    let table = matrix(&expected["table"]).mapv(f64::from);
    let ranks = rank_test(table.view()).unwrap();
    assert_all_near(&ranks.average_ranks, &expected["average_ranks"], "ranks");
    assert_near(ranks.chi_squared.unwrap(), &expected["friedman"], "Friedman");
    assert_near(ranks.p.unwrap(), &expected["friedman_p"], "Friedman p");
    assert_near(ranks.critical_difference.unwrap(), &expected["critical_difference"], "Nemenyi");

    for case in expected["seeds_needed"].as_array().unwrap() {
        let number = |name: &str| case[name].as_f64().unwrap();
        let found = seeds_needed(number("difference"), number("sd")).unwrap();
        assert_eq!(found, case["seeds"].as_u64(), "{case}");
    }
}

#[test]
fn t_intervals_have_all_digits() {
    let golden = load();
    for case in golden.values["statistics"]["t_quantiles"].as_array().unwrap() {
        let n = case["degrees"].as_u64().unwrap() as usize + 1;
        let values: Vec<f64> = (0..n).map(|i| i as f64).collect();
        let found = summary(&values).unwrap();
        let half_width = found.interval.unwrap().half_width();
        let quantile = half_width * (n as f64).sqrt() / found.sd.unwrap();
        assert!((quantile / case["value"].as_f64().unwrap() - 1.0).abs() < 1e-10, "{n}: {quantile}");
    }
}

#[test]
fn bootstrap_covers_what_the_binomial_says() {
    let golden = load();
    let expected = &golden.values["statistics"];
    let right: Vec<bool> = expected["right"].as_array().unwrap().iter().map(|v| v.as_bool().unwrap()).collect();
    let [one, three] = with_threads(|| bootstrap_accuracy(&right, 2000, 0).unwrap());
    assert_eq!(one, three);
    let limits = numbers(&expected["bootstrap"]);
    // 2,000 resamples know a 2.5 % quantile to about two images of 400.
    assert!((one.low - limits[0]).abs() <= 0.0051 && (one.high - limits[1]).abs() <= 0.0051, "{one:?}");
    assert_ne!(one, bootstrap_accuracy(&right, 2000, 1).unwrap());
    assert_eq!(bootstrap_accuracy(&[true], 2000, 0).unwrap(), Interval { low: 1.0, high: 1.0 });
    assert!(matches!(bootstrap_accuracy(&[], 2000, 0), Err(Error::OutOfRange { .. })));
    assert!(matches!(bootstrap_accuracy(&right, 0, 0), Err(Error::OutOfRange { .. })));
}

#[test]
fn samples_share_their_scatter() {
    // Variances 1 and 3, two degrees of freedom each, and a sample that adds none; t(0.975, 4) is SciPy's.
    let samples = [vec![1.0, 2.0, 3.0], vec![10.0, 10.0, 13.0], vec![5.0]];
    let found = pooled_summaries(&samples).unwrap();
    let quantile = 2.7764451051977987;
    for (found, (n, mean)) in found.iter().zip([(3, 2.0), (3, 11.0), (1, 5.0)]) {
        let half_width = quantile * (2.0 / n as f64).sqrt();
        let interval = found.interval.unwrap();
        assert_eq!((found.n, found.mean), (n, mean));
        assert!((found.sd.unwrap() - 2.0_f64.sqrt()).abs() < 1e-12);
        assert!(
            (interval.low - (mean - half_width)).abs() < 1e-10 && (interval.high - (mean + half_width)).abs() < 1e-10
        );
    }
    assert!(matches!(pooled_summaries(&[vec![1.0], vec![2.0]]), Err(Error::OutOfRange { .. })));
    assert!(matches!(pooled_summaries(&[vec![1.0, 2.0], vec![]]), Err(Error::Empty(_))));
}

#[test]
fn one_seed_has_no_scatter() {
    let one = summary(&[0.8]).unwrap();
    assert_eq!((one.n, one.mean, one.sd, one.interval), (1, 0.8, None, None));
    let pair = paired_difference(&[0.8], &[0.7]).unwrap();
    assert_eq!((pair.p, pair.cohens_d), (None, None));
    assert_eq!(p_above(&pair.difference, 0.0), None);
    assert_eq!(p_equivalent(&pair.difference, 1.0), None);
    let ranks = rank_test(array![[0.8, 0.7]].view()).unwrap();
    assert_eq!(ranks.average_ranks, [1.0, 2.0]);
    assert_eq!((ranks.chi_squared, ranks.p, ranks.critical_difference), (None, None, None));
}

#[test]
fn differences_without_scatter_have_defined_p_values() {
    let same = paired_difference(&[0.5, 0.6], &[0.5, 0.6]).unwrap();
    assert_eq!((same.p, same.cohens_d), (Some(1.0), None));
    let shifted = paired_difference(&[0.75, 0.5], &[0.5, 0.25]).unwrap();
    assert_eq!(shifted.p, Some(0.0));
    // Equal but for rounding.
    let rounded = paired_difference(&[0.8, 0.9, 0.3], &[0.7, 0.8, 0.2]).unwrap();
    assert!(rounded.difference.sd.unwrap() > 0.0);
    assert_eq!((rounded.p, rounded.cohens_d), (Some(0.0), None));
    assert_eq!(p_above(&shifted.difference, 0.25), Some(0.5));
    assert_eq!(p_above(&shifted.difference, 0.3), Some(1.0));
    assert_eq!(p_equivalent(&same.difference, 0.01), Some(0.0));
    let tied = rank_test(Array2::from_elem((4, 3), 0.5).view()).unwrap();
    assert_eq!((tied.average_ranks, tied.chi_squared), (vec![2.0; 3], None));
}

#[test]
fn seeds_needed_at_the_edges() {
    assert_eq!(seeds_needed(0.0, 0.01).unwrap(), None);
    assert_eq!(seeds_needed(0.01, 0.0).unwrap(), Some(2));
    assert_eq!(seeds_needed(1e-9, 0.01).unwrap(), None);
    assert!(seeds_needed(f64::NAN, 0.01).is_err() && seeds_needed(0.1, -1.0).is_err());
}

#[test]
fn groups_are_the_bars_of_a_critical_difference_picture() {
    let ranks = [3.0, 1.0, 1.5, 4.5, 3.9];
    assert_eq!(indistinguishable_groups(&ranks, 1.6), [vec![1, 2], vec![2, 0], vec![0, 4, 3]]);
    assert_eq!(indistinguishable_groups(&ranks, 0.1), Vec::<Vec<usize>>::new());
    assert_eq!(indistinguishable_groups(&ranks, 9.0), [vec![1, 2, 0, 4, 3]]);
}

#[test]
fn refuses_bad_input() {
    assert!(matches!(summary(&[]), Err(Error::Empty(_))));
    assert!(matches!(summary(&[1.0, f64::NAN]), Err(Error::NotFinite(_, 1, ..))));
    assert!(matches!(paired_difference(&[1.0], &[1.0, 2.0]), Err(Error::LengthMismatch(..))));
    assert!(matches!(rank_test(Array2::zeros((3, 1)).view()), Err(Error::OutOfRange { .. })));
    assert!(matches!(rank_test(Array2::zeros((3, 51)).view()), Err(Error::OutOfRange { .. })));
    assert!(matches!(rank_test(Array2::zeros((0, 3)).view()), Err(Error::Empty(_))));
    assert_eq!(holm(&[]), Vec::<f64>::new());
}
