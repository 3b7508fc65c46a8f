//! Statistics of accuracies and other measures over seeds and over images.
//!
//! Seeds are paired: with one seed every head sees the same start of the encoder and the same order of images, so heads are
//! compared by their differences within a seed. All tests are two-sided unless their name says otherwise.
//!
//! ```
//! use faceoff_analysis::statistics::paired_difference;
//!
//! // Accuracies of two heads with the same three seeds.
//! let found = paired_difference(&[0.72, 0.75, 0.73], &[0.70, 0.72, 0.72])?;
//! assert!((found.difference.mean - 0.02).abs() < 1e-12);
//! assert!(found.p.unwrap() > 0.05, "three seeds do not settle two points");
//! # Ok::<(), faceoff_analysis::Error>(())
//! ```

use ndarray::ArrayView2;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use statrs::distribution::{ChiSquared, ContinuousCDF, Normal, StudentsT};
use statrs::function::gamma::ln_gamma;

use crate::error::{Error, Result, check_count, check_finite, check_lengths, check_values};

/// The level of all tests: 5 %.
pub const ALPHA: f64 = 0.05;
/// The power that [`seeds_needed`] asks for: 80 %.
pub const POWER: f64 = 0.8;
/// What one paired difference of accuracies is taken to scatter where a single seed shows no scatter: 1 percentage point.
/// An accuracy near 0.75 on 3,929 images has a binomial standard deviation of 0.7 points; the difference of two heads on
/// the same images has about as much again from the seeds of training, less what both share.
pub const ASSUMED_SD: f64 = 0.01;

/// Relative to its mean, equal differences of accuracies scatter by up to this much through rounding; a change of one image
/// is far above.
const ROUNDING: f64 = 1e-11;

/// An interval that holds both ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Half the distance of its ends.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// A sample's mean and scatter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// Size of the sample.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation with n - 1; `None` for one value.
    pub sd: Option<f64>,
    /// 95 % interval of the mean, mean +- t(0.975, n - 1) sd / sqrt(n); `None` for one value.
    pub interval: Option<Interval>,
}

/// Mean, standard deviation and 95 % t interval.
pub fn summary(values: &[f64]) -> Result<Summary> {
    check_values("values", values)?;
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let sd = (n > 1).then(|| (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt());
    let interval = sd.map(|sd| {
        let half_width = t_quantile(1.0 - ALPHA / 2.0, (n - 1) as f64) * sd / (n as f64).sqrt();
        Interval { low: mean - half_width, high: mean + half_width }
    });
    Ok(Summary { n, mean, sd, interval })
}

/// Mean and interval of each of several samples whose scatter is taken to be the same: `sd` is pooled over them (root of the sum of
/// squares about the own means over the degrees of freedom, the sizes less one each), and so are the degrees of freedom of t.
///
/// # Errors
/// A sample is empty or has a value that is not finite; together they leave no degree of freedom.
pub fn pooled_summaries(samples: &[Vec<f64>]) -> Result<Vec<Summary>> {
    let own = samples.iter().map(|sample| summary(sample)).collect::<Result<Vec<_>>>()?;
    let degrees = own.iter().map(|own| own.n - 1).sum::<usize>();
    check_count("the degrees of freedom of all samples", degrees, 1..=usize::MAX, "one value has no scatter")?;
    let squares: f64 = own.iter().filter_map(|own| Some(own.sd?.powi(2) * (own.n - 1) as f64)).sum();
    let sd = (squares / degrees as f64).sqrt();
    let quantile = t_quantile(1.0 - ALPHA / 2.0, degrees as f64);
    Ok(own
        .into_iter()
        .map(|Summary { n, mean, .. }| {
            let half_width = quantile * sd / (n as f64).sqrt();
            let interval = Interval { low: mean - half_width, high: mean + half_width };
            Summary { n, mean, sd: Some(sd), interval: Some(interval) }
        })
        .collect())
}

fn t_distribution(degrees: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, degrees).expect("more than no degree of freedom")
}

/// The quantile above 0.5 of Student's t.
fn t_quantile(probability: f64, degrees: f64) -> f64 {
    let distribution = t_distribution(degrees);
    // The library's inverse is good to some 1e-8; bisection about it to all digits.
    let guess = distribution.inverse_cdf(probability);
    let (mut low, mut high) = (0.9 * guess, 1.1 * guess);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if distribution.cdf(middle) < probability { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// 95 % percentile bootstrap interval of an accuracy over images (Efron, Annals of Statistics 1979): `resamples` times
/// (2,000 are usual) as many images are drawn with replacement as there are, and the 2.5 % and 97.5 % quantiles (linear
/// between order statistics) of the accuracies are taken. It covers the choice of images, not that of the seed of training.
/// One image, or all right or all wrong, gives an interval of no width.
///
/// # Errors
/// No resamples.
pub fn bootstrap_accuracy(right: &[bool], resamples: usize, seed: u64) -> Result<Interval> {
    check_count("the number of resamples", resamples, 1..=usize::MAX, "2,000 are usual")?;
    check_count("the number of images", right.len(), 1..=u32::MAX as usize, "resample a part of them")?;
    let images = right.len() as u32;
    let mut accuracies: Vec<f64> = (0..resamples)
        .into_par_iter()
        .map(|resample| {
            // A stream each: the result is a function of seed and resample alone.
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(resample as u64);
            let hits = (0..images).filter(|_| right[rng.random_range(0..images) as usize]).count();
            hits as f64 / f64::from(images)
        })
        .collect();
    accuracies.sort_unstable_by(f64::total_cmp);
    Ok(Interval { low: quantile(&accuracies, ALPHA / 2.0), high: quantile(&accuracies, 1.0 - ALPHA / 2.0) })
}

/// Linear between order statistics (type 7 of Hyndman and Fan, NumPy's default).
fn quantile(sorted: &[f64], probability: f64) -> f64 {
    let position = probability * (sorted.len() - 1) as f64;
    let low = position as usize;
    let high = (low + 1).min(sorted.len() - 1);
    sorted[low] + (position - low as f64) * (sorted[high] - sorted[low])
}

/// Paired differences a - b over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedDifference {
    /// Mean, standard deviation and 95 % interval of the differences.
    pub difference: Summary,
    /// Two-sided p value of the paired t-test of a mean difference of 0; `None` for one pair.
    pub p: Option<f64>,
    /// Cohen's d for paired data, mean / standard deviation of the differences (d_z; Lakens 2013); `None` for one pair or
    /// differences without scatter.
    pub cohens_d: Option<f64>,
}

/// Compares two heads by their values with the same seeds, `a[i]` and `b[i]` from one seed.
///
/// Differences without any scatter: p is 1 if they are 0, else 0.
pub fn paired_difference(a: &[f64], b: &[f64]) -> Result<PairedDifference> {
    check_lengths("a", a.len(), "b", b.len())?;
    check_values("a", a)?;
    check_values("b", b)?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let difference = summary(&differences)?;
    Ok(PairedDifference {
        difference,
        p: p_above(&difference, 0.0).map(|above| (2.0 * above.min(1.0 - above)).min(1.0)),
        cohens_d: difference.sd.filter(|&sd| sd > ROUNDING * difference.mean.abs()).map(|sd| difference.mean / sd),
    })
}

/// One-sided p value of the t-test of "the mean is at most `bound`" against "it is above"; 1 minus it tests the opposite.
/// `None` for one value. Without any scatter: 0 above the bound, 1 below, 0.5 at it.
pub fn p_above(sample: &Summary, bound: f64) -> Option<f64> {
    let sd = sample.sd?;
    let excess = sample.mean - bound;
    let rounding = ROUNDING * sample.mean.abs().max(bound.abs());
    if sd <= rounding {
        let equal = excess.abs() <= rounding;
        return Some(if equal { 0.5 } else { f64::from(u8::from(excess < 0.0)) });
    }
    Some(t_distribution((sample.n - 1) as f64).sf(excess * (sample.n as f64).sqrt() / sd))
}

/// The fewest seeds from which anything is decided. With two, equal differences occur by chance, since accuracies are
/// multiples of one image, and a test without scatter decides everything.
pub const MIN_SEEDS: usize = 3;

/// How the choice of images scatters the mean difference of two accuracies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageScatter {
    /// Number of images.
    pub images: usize,
    /// Variance of the mean difference from drawing other images of the same kind.
    pub variance: f64,
}

/// The scatter over images of the mean over seeds of "a is right" minus "b is right". `pairs` has for each seed which of
/// the images, the same for all, a and b have right.
///
/// # Errors
/// No seed, fewer than two images, different numbers of images.
pub fn image_scatter(pairs: &[(&[bool], &[bool])]) -> Result<ImageScatter> {
    let images = pairs.first().map_or(0, |(a, _)| a.len());
    check_count("the number of images", images, 2..=usize::MAX, "one image has no scatter")?;
    for (a, b) in pairs {
        check_lengths("the first images", images, "images of a", a.len())?;
        check_lengths("the first images", images, "images of b", b.len())?;
    }
    let difference = |image: usize| {
        let of_seed = |(a, b): &(&[bool], &[bool])| i64::from(a[image]) - i64::from(b[image]);
        pairs.iter().map(of_seed).sum::<i64>() as f64 / pairs.len() as f64
    };
    let mean = (0..images).map(difference).sum::<f64>() / images as f64;
    let squares: f64 = (0..images).map(|image| (difference(image) - mean).powi(2)).sum();
    let count = images as f64;
    Ok(ImageScatter { images, variance: squares / (count * (count - 1.0)) })
}

/// A paired difference that is judged for other seeds and, where the scatter over images is known, for other images too.
///
/// The error of the mean is then that of seeds and images together, s^2 / n + v (both are random and crossed; the part that
/// belongs to neither alone is counted twice, which errs to the safe side, Owen 2007), with Satterthwaite's degrees of
/// freedom; of this test and the t-test over seeds alone the one with the larger p counts, and the wider interval. With
/// fewer than [`MIN_SEEDS`] seeds there is no p value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairedTest {
    /// Over seeds alone.
    pub paired: PairedDifference,
    /// Over images.
    pub images: Option<ImageScatter>,
}

impl PairedTest {
    /// p value of "the mean is at most `bound`" against "it is above".
    pub fn p_above(&self, bound: f64) -> Option<f64> {
        self.p_one_sided(bound, 1.0)
    }

    /// p value of "the mean is at least `bound`" against "it is below".
    pub fn p_below(&self, bound: f64) -> Option<f64> {
        self.p_one_sided(bound, -1.0)
    }

    /// Two-sided p value of a mean difference of 0.
    pub fn p(&self) -> Option<f64> {
        Some((2.0 * self.p_above(0.0)?.min(self.p_below(0.0)?)).min(1.0))
    }

    /// The wider of the 95 % intervals over seeds and over seeds and images; `None` for one seed.
    pub fn interval(&self) -> Option<Interval> {
        let Summary { mean, interval, .. } = self.paired.difference;
        let over_seeds = interval?;
        let Some((error, degrees)) = self.error() else { return Some(over_seeds) };
        let half_width = t_quantile(1.0 - ALPHA / 2.0, degrees) * error;
        Some(Interval { low: over_seeds.low.min(mean - half_width), high: over_seeds.high.max(mean + half_width) })
    }

    /// `side` is 1 for above, -1 for below.
    fn p_one_sided(&self, bound: f64, side: f64) -> Option<f64> {
        let sample = &self.paired.difference;
        if sample.n < MIN_SEEDS {
            return None;
        }
        let over_seeds = p_above(sample, bound).map(|above| if side > 0.0 { above } else { 1.0 - above })?;
        let of_both = self.error().map(|(error, degrees)| {
            let t = side * (sample.mean - bound) / error;
            if t.is_nan() { 0.5 } else { t_distribution(degrees).sf(t) }
        });
        Some(of_both.map_or(over_seeds, |of_both| over_seeds.max(of_both)))
    }

    /// Standard error over seeds and images, and its degrees of freedom.
    fn error(&self) -> Option<(f64, f64)> {
        let (images, sample) = (self.images?, &self.paired.difference);
        let of_seeds = sample.sd?.powi(2) / sample.n as f64;
        let total = of_seeds + images.variance;
        let squares = of_seeds.powi(2) / (sample.n - 1) as f64 + images.variance.powi(2) / (images.images - 1) as f64;
        let degrees = if squares > 0.0 { total.powi(2) / squares } else { (sample.n - 1) as f64 };
        Some((total.sqrt(), degrees))
    }
}

/// p value of equivalence by two one-sided t-tests (TOST, Schuirmann 1987): small if the mean lies within (-`margin`, `margin`).
/// `None` for one value.
pub fn p_equivalent(sample: &Summary, margin: f64) -> Option<f64> {
    Some(p_above(sample, -margin)?.max(1.0 - p_above(sample, margin)?))
}

/// p values corrected for being a family, in their order (Holm 1979): the i-th smallest of m, counted from 0, times m - i,
/// kept rising, at most 1.
pub fn holm(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut corrected = vec![0.0; p_values.len()];
    let mut highest = 0.0_f64;
    for (rank, &at) in order.iter().enumerate() {
        highest = highest.max(p_values[at] * (p_values.len() - rank) as f64).min(1.0);
        corrected[at] = highest;
    }
    corrected
}

/// Friedman's test over seeds, with Nemenyi's critical difference.
#[derive(Debug, Clone, PartialEq)]
pub struct RankTest {
    /// Mean rank of each head over seeds: 1 is best, ties share the mean of their ranks.
    pub average_ranks: Vec<f64>,
    /// Friedman's chi-squared, corrected for ties; `None` with one seed or where all values tie within every seed.
    pub chi_squared: Option<f64>,
    /// Its p value from the chi-squared distribution with (heads - 1) degrees of freedom; rough below some ten seeds.
    pub p: Option<f64>,
    /// Nemenyi's critical difference of average ranks at 5 %, q sqrt(k (k + 1) / (6 n)); `None` with one seed.
    pub critical_difference: Option<f64>,
}

/// Ranks heads within each seed (Demšar, JMLR 7, 2006, section 3.2). `values` (seeds, heads), higher is better.
///
/// # Errors
/// Less than 2 heads or more than 50 (where the table of q ends).
pub fn rank_test(values: ArrayView2<'_, f64>) -> Result<RankTest> {
    let (seeds, heads) = values.dim();
    check_finite("values", values)?;
    check_count("the number of heads", heads, 2..=NEMENYI_Q.len() + 1, "compare fewer variants at once")?;
    let mut rank_sums = vec![0.0; heads];
    let mut tie_term = 0.0;
    for seed_values in values.rows() {
        for (head, value) in seed_values.iter().enumerate() {
            let better = seed_values.iter().filter(|other| *other > value).count() as f64;
            let equal = seed_values.iter().filter(|other| *other == value).count() as f64;
            rank_sums[head] += better + 0.5 * (equal + 1.0);
            // Summed over the members of a tie of t this is t (t^2 - 1).
            tie_term += equal * equal - 1.0;
        }
    }
    let (n, k) = (seeds as f64, heads as f64);
    let correction = 1.0 - tie_term / (n * k * (k * k - 1.0));
    let chi_squared = (seeds > 1 && correction > 1e-12).then(|| {
        let squares: f64 = rank_sums.iter().map(|sum| sum * sum).sum();
        (12.0 / (n * k * (k + 1.0)) * squares - 3.0 * n * (k + 1.0)) / correction
    });
    let p = chi_squared.map(|chi| ChiSquared::new(k - 1.0).expect("at least two heads").sf(chi.max(0.0)));
    Ok(RankTest {
        average_ranks: rank_sums.iter().map(|sum| sum / n).collect(),
        chi_squared,
        p,
        critical_difference: (seeds > 1).then(|| NEMENYI_Q[heads - 2] * (k * (k + 1.0) / (6.0 * n)).sqrt()),
    })
}

/// The bars of a critical-difference picture: all largest groups of heads, as places in `average_ranks` from best to worst,
/// whose ranks differ by less than the critical difference. Groups of one are left out.
pub fn indistinguishable_groups(average_ranks: &[f64], critical_difference: f64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..average_ranks.len()).collect();
    order.sort_by(|&a, &b| average_ranks[a].total_cmp(&average_ranks[b]));
    let mut groups = Vec::new();
    let mut covered = 0;
    for start in 0..order.len() {
        let within = |&&head: &&usize| average_ranks[head] - average_ranks[order[start]] < critical_difference;
        let end = start + order[start..].iter().take_while(within).count();
        if end > covered && end - start > 1 {
            groups.push(order[start..end].to_vec());
        }
        covered = covered.max(end);
    }
    groups
}

/// The smallest number of seeds with which a paired t-test at 5 %, two-sided, finds a mean difference of `difference` with
/// a power of 80 %, if the differences scatter by `sd`: by the noncentral t distribution. `None` if the difference is 0,
/// which no number of seeds would show, or so small that it takes more than a million.
///
/// # Errors
/// A negative `sd`.
pub fn seeds_needed(difference: f64, sd: f64) -> Result<Option<u64>> {
    check_values("difference", &[difference])?;
    if !(sd >= 0.0 && sd.is_finite()) {
        let remedy = "pass the standard deviation of the paired differences";
        return Err(Error::out_of_range("sd", sd, "it must be finite and at least 0", remedy));
    }
    if difference == 0.0 {
        return Ok(None);
    }
    let enough = |n: u64| power(difference.abs(), sd, n as usize) >= POWER;
    let Some(mut high) = (1..=20).map(|doublings| 1_u64 << doublings).find(|&n| enough(n)) else { return Ok(None) };
    let mut low = high / 2;
    while high - low > 1 {
        let middle = (low + high) / 2;
        if enough(middle) { high = middle } else { low = middle }
    }
    Ok(Some(high))
}

/// Power of the paired two-sided t-test at 5 % with `n` >= 2 pairs: the chance to reject if the true mean difference is
/// `difference` > 0.
///
/// P(|T| > t) with T = (Z + delta) / sqrt(V / nu), V chi-squared with nu = n - 1: the mean over V of the normal tails beyond
/// t sqrt(V / nu), delta = sqrt(n) difference / sd.
fn power(difference: f64, sd: f64, n: usize) -> f64 {
    if sd == 0.0 {
        return 1.0;
    }
    let degrees = (n - 1) as f64;
    let delta = (n as f64).sqrt() * difference / sd;
    let threshold = t_quantile(1.0 - ALPHA / 2.0, degrees);
    let normal = Normal::standard();
    // In u = sqrt(V / nu) the density is smooth and has no pole: 2 (nu/2)^(nu/2) / Gamma(nu/2) u^(nu-1) exp(-nu u^2 / 2).
    let constant = 2.0_f64.ln() + 0.5 * degrees * (0.5 * degrees).ln() - ln_gamma(0.5 * degrees);
    let spread = 10.0 / (2.0 * degrees).sqrt();
    let (low, high) = ((1.0 - spread).max(0.0), 1.0 + spread);
    const STEPS: usize = 2000;
    let step = (high - low) / STEPS as f64;
    let integral: f64 = (0..=STEPS)
        .map(|i| {
            let u = low + i as f64 * step;
            let weight = match i {
                0 | STEPS => 1.0,
                _ => [2.0, 4.0][i % 2],
            };
            let log_power = if degrees == 1.0 { 0.0 } else { (degrees - 1.0) * u.ln() };
            let density = (constant + log_power - 0.5 * degrees * u * u).exp();
            let tails = normal.sf(threshold * u - delta) + normal.cdf(-threshold * u - delta);
            weight * density * tails
        })
        .sum();
    integral * step / 3.0
}

/// q at 5 % for 2, 3, .. 50 heads: the studentised range quantile with infinite degrees of freedom over sqrt(2), from SciPy's
/// `studentized_range.ppf(0.95, k, inf) / sqrt(2)` (Demšar 2006, table 5a, which ends at 10).
#[rustfmt::skip]
const NEMENYI_Q: [f64; 49] = [
    1.959963985, 2.343700586, 2.569031773, 2.727774371, 2.849705420, 2.948320018, 3.030878450,
    3.101730341, 3.163683577, 3.218653607, 3.268003924, 3.312738593, 3.353617752, 3.391230284,
    3.426041379, 3.458424707, 3.488684799, 3.517073009, 3.543799132, 3.569040030, 3.592946137,
    3.615646437, 3.637252332, 3.657860673, 3.677556176, 3.696413349, 3.714498061, 3.731868817,
    3.748577807, 3.764671779, 3.780192766, 3.795178690, 3.809663883, 3.823679519, 3.837253989,
    3.850413220, 3.863180949, 3.875578964, 3.887627307, 3.899344454, 3.910747477, 3.921852178,
    3.932673211, 3.943224193, 3.953517795, 3.963565829, 3.973379325, 3.982968593, 3.992343290,
];
