//! Open-set recognition: is a point of a class that training never saw? And if it is of a known one, of which?
//!
//! Each point has a score that says how sure one is that it is known: the greater, the surer. N known points, of each of which is said
//! whether its class is named rightly, and M unknown ones.
//!
//! | measure | definition |
//! |---|---|
//! | AUROC | chance that an unknown point scores lower than a known one, ties counting half |
//! | FPR at 95 % TPR | the least share of known points rejected by any threshold that rejects 95 % of the unknown ones |
//! | CCR (correct classification rate) | known points that are named rightly and score at least a threshold / N |
//! | OSCR | area under CCR against the share of unknown points that score at least the threshold, straight lines between thresholds |
//!
//! AUROC and FPR are those of OpenOOD (Yang et al., arXiv:2210.07242; Zhang et al., arXiv:2306.09301), with unknown points as
//! positives. OSCR: Dhamija, Günther and Boult, "Reducing Network Agnostophobia", arXiv:1811.04110; with sums over known points named
//! rightly and unknown ones, OSCR = (pairs in which the known one scores higher + half of the ties) / (N M), and it is at most the
//! accuracy on known points.

use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::ArrayView2;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::centered::Centered;
use crate::error::{Error, Result, check_lengths, check_values};
use crate::products::{check_embeddings, classes_of, contiguous};
use crate::verification::{FAR, Verification};

/// The share of unknown points that are to be rejected, of [`OpenSet::fpr_at_95_tpr`].
pub const TPR: f64 = 0.95;

/// How well scores tell known points from unknown ones; all in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpenSet {
    /// Area under the ROC.
    pub auroc: f64,
    /// Share of known points that are rejected with [`TPR`] of the unknown ones.
    pub fpr_at_95_tpr: f64,
    /// Area under CCR against false positive rate.
    pub oscr: f64,
}

/// Scores of `known` points, whether each is named `right`, and scores of `unknown` ones.
pub fn open_set(known: &[f64], right: &[bool], unknown: &[f64]) -> Result<OpenSet> {
    check_lengths("scores of known points", known.len(), "their predictions", right.len())?;
    check_values("scores of known points", known)?;
    check_values("scores of unknown points", unknown)?;
    let (n, m) = (known.len() as f64, unknown.len() as f64);
    // The lowest scores first: what a rising threshold rejects.
    let kinds = known.iter().zip(right).map(|(&score, &right)| (score, [1, u64::from(right), 0]));
    let mut all = Vec::from_iter(kinds.chain(unknown.iter().map(|&score| (score, [0, 0, 1]))));
    all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let [mut rejected_known, mut rejected_unknown] = [0, 0];
    let (mut area, mut oscr, mut fpr) = (0.0, 0.0, None);
    for tied in all.chunk_by(|a, b| a.0 == b.0) {
        let [known, right, unknown] =
            tied.iter().fold([0, 0, 0], |sum, (_, kind)| [0, 1, 2].map(|at| sum[at] + kind[at]));
        let below = rejected_unknown as f64 + 0.5 * unknown as f64;
        area += known as f64 * below;
        oscr += right as f64 * below;
        rejected_known += known;
        rejected_unknown += unknown;
        if rejected_unknown as f64 / m >= TPR {
            fpr.get_or_insert(rejected_known as f64 / n);
        }
    }
    Ok(OpenSet { auroc: area / (n * m), fpr_at_95_tpr: fpr.unwrap_or(1.0), oscr: oscr / (n * m) })
}

/// A threshold from which on points are taken for known ones, and its errors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recommended {
    /// Points that score at least this are taken for known ones.
    pub threshold: f64,
    /// Share of the unknown points that are taken for known ones.
    pub false_accept: f64,
    /// Share of the known points that are not.
    pub false_reject: f64,
}

impl Recommended {
    /// The errors of a threshold.
    fn test(threshold: f64, known: &[f64], unknown: &[f64]) -> Self {
        let reach = |scores: &[f64]| scores.iter().filter(|&&score| score >= threshold).count();
        let rejected = (known.len() - reach(known)) as f64;
        let false_accept = reach(unknown) as f64 / unknown.len() as f64;
        Self { threshold, false_accept, false_reject: rejected / known.len() as f64 }
    }
}

/// The score at which, as a threshold, as large a share of the unknown points is accepted as of the known ones is rejected: the one
/// where the two shares differ least, the lowest of equally good ones. Its errors are those on the same points.
pub fn equal_error_threshold(known: &[f64], unknown: &[f64]) -> Result<Recommended> {
    check_values("scores of known points", known)?;
    check_values("scores of unknown points", unknown)?;
    let sorted = |scores: &[f64]| {
        let mut scores = scores.to_vec();
        scores.sort_unstable_by(f64::total_cmp);
        scores
    };
    let (of_known, of_unknown) = (sorted(known), sorted(unknown));
    // Of whole numbers, so that equal differences are equal.
    let difference = |threshold: &f64| {
        let below = |sorted: &[f64]| sorted.partition_point(|score| score < threshold);
        let accepted = unknown.len() - below(&of_unknown);
        (accepted * known.len()).abs_diff(below(&of_known) * unknown.len())
    };
    let candidates = sorted(&[known, unknown].concat());
    let threshold = candidates.into_iter().min_by_key(difference).expect("there are scores");
    Ok(Recommended::test(threshold, known, unknown))
}

/// The [`equal_error_threshold`] of one half of the points, with its errors on the other half. Halves are drawn by `seed`.
///
/// # Errors
/// Fewer than two known points, or than two unknown ones.
pub fn recommended_threshold(known: &[f64], unknown: &[f64], seed: u64) -> Result<Recommended> {
    if known.len() < 2 || unknown.len() < 2 {
        let rule = "one half chooses it and the other tests it, so two known and two unknown points are needed";
        return Err(Error::undefined("a recommended threshold", rule, "pass more points"));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut halves = |scores: &[f64]| {
        let mut scores = scores.to_vec();
        scores.shuffle(&mut rng);
        let test = scores.split_off(scores.len() / 2);
        (scores, test)
    };
    let ((known, known_test), (unknown, unknown_test)) = (halves(known), halves(unknown));
    let chosen = equal_error_threshold(&known, &unknown)?;
    Ok(Recommended::test(chosen.threshold, &known_test, &unknown_test))
}

/// Places in [`FAR`] between which [`threshold_inconsistency`] looks at thresholds: the loosest threshold, and the strictest.
const OPIS_FAR: [usize; 2] = [0, 1];
/// Thresholds in that range, both ends among them.
const OPIS_THRESHOLDS: usize = 101;

/// OPIS, the operating-point-inconsistency score: how much one threshold of similarity serves classes differently (Zhang et al.,
/// "Threshold-Consistent Margin Loss", arXiv:2307.04047); 0 where it serves all alike.
///
/// A pair of points is accepted at a threshold t if its cosine reaches it. Of class c, U_c(t) is the harmonic mean of sensitivity (the
/// share of its pairs that are accepted) and specificity (the share of the pairs of one of its points with one of another class that
/// are not); 0 where both are 0. OPIS is the mean of (U_c(t) - mean over classes of U(t))^2 over classes and over 101 thresholds, evenly
/// from the one that accepts at most a tenth to the one that accepts at most a hundredth of all pairs of two classes. The paper's
/// thresholds are distances of unit vectors, of which cosines are a function: the grid is even in distance, as the paper's is.
///
/// `embeddings` (N, D), rows of unit length, of which `verification` knows the thresholds. Classes of one point have no pairs and are
/// left out.
///
/// # Errors
/// Fewer than two classes with two points; fewer than a hundred pairs of two classes.
pub fn threshold_inconsistency(
    embeddings: ArrayView2<'_, f32>,
    labels: &[u32],
    verification: &Verification,
) -> Result<f64> {
    check_embeddings(embeddings, labels)?;
    let (classes, places) = classes_of(labels);
    let mut sizes = vec![0_u64; classes.len()];
    places.iter().for_each(|&place| sizes[place] += 1);
    let measured = Vec::from_iter((0..classes.len()).filter(|&class| sizes[class] > 1));
    let points = labels.len() as u64;
    let rejected = (points * points - sizes.iter().map(|size| size * size).sum::<u64>()) / 2;
    if measured.len() < 2 || (rejected as f64) * FAR[OPIS_FAR[1]] < 1.0 {
        let rule = "two classes of two points and a hundred pairs of two classes are needed";
        return Err(Error::undefined("the inconsistency of thresholds", rule, "pass more points"));
    }
    let rows = contiguous(embeddings);
    let centered = Centered::new(&rows, embeddings.ncols());
    let [farthest, nearest] = OPIS_FAR.map(|far| (2.0 - 2.0 * verification.thresholds[far]).max(0.0).sqrt());
    // Cosines of the thresholds, the loosest first.
    let threshold = |at: usize| {
        let part = at as f64 / (OPIS_THRESHOLDS - 1) as f64;
        1.0 - (farthest + part * (nearest - farthest)).powi(2) / 2.0
    };
    let thresholds: [f64; OPIS_THRESHOLDS] = std::array::from_fn(threshold);
    // Pairs of one class and of two, by class and by the strictest threshold that accepts them.
    let counts = Vec::from_iter((0..2 * classes.len() * OPIS_THRESHOLDS).map(|_| AtomicU64::new(0)));
    centered.for_pairs(|i, j, cosine| {
        // Most pairs.
        if cosine < thresholds[0] {
            return;
        }
        if let Some(strictest) = thresholds.partition_point(|&threshold| cosine >= threshold).checked_sub(1) {
            let add = |kind: usize, class: usize| {
                counts[(2 * class + kind) * OPIS_THRESHOLDS + strictest].fetch_add(1, Ordering::Relaxed);
            };
            match places[i] == places[j] {
                true => add(0, places[i]),
                false => [i, j].into_iter().for_each(|point| add(1, places[point])),
            }
        }
    });
    // Utilities of a class, the strictest threshold first.
    let utilities = |class: usize| {
        let size = sizes[class];
        let pairs = [size * (size - 1) / 2, size * (points - size)];
        let mut accepted = [0, 0];
        let utility = |at: usize| {
            for kind in [0, 1] {
                accepted[kind] += counts[(2 * class + kind) * OPIS_THRESHOLDS + at].load(Ordering::Relaxed);
            }
            let [sensitivity, false_accept] = [0, 1].map(|kind| accepted[kind] as f64 / pairs[kind] as f64);
            let specificity = 1.0 - false_accept;
            2.0 * sensitivity * specificity / (sensitivity + specificity).max(f64::MIN_POSITIVE)
        };
        (0..OPIS_THRESHOLDS).rev().map(utility).collect::<Vec<f64>>()
    };
    let utilities = Vec::from_iter(measured.into_iter().map(utilities));
    let of_threshold = |at: usize| {
        let count = utilities.len() as f64;
        let mean = utilities.iter().map(|of_class| of_class[at]).sum::<f64>() / count;
        utilities.iter().map(|of_class| (of_class[at] - mean).powi(2)).sum::<f64>() / count
    };
    Ok((0..OPIS_THRESHOLDS).map(of_threshold).sum::<f64>() / OPIS_THRESHOLDS as f64)
}
