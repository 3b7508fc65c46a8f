//! Verification: do two points show the same class? Over all N (N - 1) / 2 pairs, by their cosine.
//!
//! A pair of one class is positive, any other negative; it is accepted if its cosine reaches a threshold. With P positive and M
//! negative pairs:
//!
//! | measure | definition |
//! |---|---|
//! | TAR (true accept rate) | accepted positive pairs / P |
//! | FAR (false accept rate) | accepted negative pairs / M |
//! | ROC | TAR against FAR over all thresholds |
//! | AUC | area under the ROC = share of (positive, negative) pairs of pairs in the right order, ties counting half |
//! | EER | the rate at which FAR = 1 - TAR, on the ROC with straight lines between its points |
//! | TAR at FAR f | the highest TAR of any threshold whose FAR is at most f (ISO/IEC 19795-1; no interpolation) |
//!
//! Cosines are counted in 2^21 bins of width 2^-20, so memory is 32 MiB whatever N is. A threshold is a lower edge of a
//! bin: every FAR and TAR is exact for its threshold, and only pairs in one bin count as tied. That moves the AUC by at
//! most half the share of (positive, negative) pairs that fall into one bin; the bound is computed and returned
//! ([`Verification::auc_error_bound`]). The f32 product of two unit vectors has itself an error of some 2^-23.

use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::products::{LEFT_BLOCK, Panels, check_embeddings, contiguous, visit_pairs};

/// The FAR of [`Verification::tar_at_far`].
pub const FAR: [f64; 4] = [1e-1, 1e-2, 1e-3, 1e-4];
/// Bins of one degree of [`Angles::histogram`].
const ANGLE_BINS: usize = 180;

const BINS: usize = 1 << 21;
const BIN_WIDTH: f64 = 2.0 / BINS as f64;

/// The outcome over all pairs.
#[derive(Debug, Clone, PartialEq)]
pub struct Verification {
    /// Area under the ROC, in [0, 1].
    pub auc: f64,
    /// How far `auc` can lie from the area without bins.
    pub auc_error_bound: f64,
    /// Equal error rate, in [0, 1].
    pub eer: f64,
    /// TAR at each FAR of [`FAR`]; `None` where the FAR allows less than one negative pair, so that the pairs cannot tell.
    pub tar_at_far: [Option<f64>; 4],
    /// Points (FAR, TAR) for a picture, rising, from (0, ..) to (1, 1): one for each FAR of a grid that is fine on a linear
    /// and on a logarithmic axis (down to 1e-6, as far as there is at least one negative pair).
    pub roc: Vec<(f64, f64)>,
    /// Angles between points of one class.
    pub intra_class: Angles,
    /// Angles between points of two classes.
    pub inter_class: Angles,
}

/// A distribution of angles between embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct Angles {
    /// Pairs with an angle of [i, i + 1) degrees; 180 degrees stand in the last bin. All pairs of the kind are in it.
    pub histogram: Vec<u64>,
    /// Mean angle in degrees (to 0.1 degree at worst, near 0 and 180, where a bin of cosines is that wide).
    pub mean_degrees: f64,
    /// Standard deviation in degrees.
    pub sd_degrees: f64,
}

/// All pairs of `embeddings` (N, D), rows of unit length.
///
/// If all embeddings are equal, every pair ties: AUC and EER are 0.5, and TAR is 0 at every FAR below 1.
///
/// # Errors
/// No pair of one class, or no pair of two.
pub fn verification(embeddings: ArrayView2<'_, f32>, labels: &[u32]) -> Result<Verification> {
    check_embeddings(embeddings, labels)?;
    let rows = contiguous(embeddings);
    let panels = Panels::new(&rows, embeddings.ncols());
    let bins = || (0..BINS).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
    let (positive, negative) = (bins(), bins());
    // Whole numbers add up to the same in any order.
    (0..labels.len().div_ceil(LEFT_BLOCK)).into_par_iter().for_each(|block| {
        visit_pairs(&rows, &panels, block, |i, j, cosine| {
            let counts = if labels[i] == labels[j] { &positive } else { &negative };
            counts[bin(cosine)].fetch_add(1, Ordering::Relaxed);
        });
    });
    let plain = |counts: Vec<AtomicU64>| counts.into_iter().map(AtomicU64::into_inner).collect::<Vec<_>>();
    summarise(&plain(positive), &plain(negative))
}

/// Rounding of a f32 product may lead out of [-1, 1]; such a cosine belongs to the outermost bin.
fn bin(cosine: f32) -> usize {
    (((f64::from(cosine) + 1.0) / BIN_WIDTH).max(0.0) as usize).min(BINS - 1)
}

fn summarise(positive: &[u64], negative: &[u64]) -> Result<Verification> {
    let (positive_pairs, negative_pairs) = (positive.iter().sum::<u64>(), negative.iter().sum::<u64>());
    for (pairs, kind) in [(positive_pairs, "of one class"), (negative_pairs, "of two classes")] {
        if pairs == 0 {
            let remedy = "pass two classes or more, one of them with two members";
            return Err(Error::undefined("verification", format!("at least one pair {kind} is needed"), remedy));
        }
    }
    let (p, m) = (positive_pairs as f64, negative_pairs as f64);

    let within = |negatives: u64, far: f64| negatives as f64 / m <= far;
    let roc_far = far_grid(m);
    let (mut accepted_positive, mut accepted_negative) = (0_u64, 0_u64);
    let (mut area, mut tied) = (0.0_f64, 0.0_f64);
    let mut eer = None;
    let mut tar_at_far = [0_u64; FAR.len()];
    let mut roc: Vec<(f64, f64)> = Vec::with_capacity(roc_far.len());
    for bin in (0..BINS).rev() {
        if positive[bin] == 0 && negative[bin] == 0 {
            continue;
        }
        let (before_positive, before_negative) = (accepted_positive, accepted_negative);
        accepted_positive += positive[bin];
        accepted_negative += negative[bin];
        area += negative[bin] as f64 * (before_positive as f64 + 0.5 * positive[bin] as f64);
        tied += negative[bin] as f64 * positive[bin] as f64;

        for (tar, far) in tar_at_far.iter_mut().zip(FAR) {
            if within(accepted_negative, far) {
                *tar = accepted_positive;
            }
        }
        while roc.len() < roc_far.len() && !within(accepted_negative, roc_far[roc.len()]) {
            roc.push((roc_far[roc.len()], before_positive as f64 / p));
        }
        // FAR + TAR - 1 rises from -1 to 1 along the ROC.
        let excess = |positives: u64, negatives: u64| negatives as f64 / m + positives as f64 / p - 1.0;
        let (low, high) = (excess(before_positive, before_negative), excess(accepted_positive, accepted_negative));
        if eer.is_none() && high >= 0.0 {
            let share = -low / (high - low);
            eer = Some((before_negative as f64 + share * negative[bin] as f64) / m);
        }
    }
    roc.extend(roc_far[roc.len()..].iter().map(|&far| (far, 1.0)));
    Ok(Verification {
        auc: area / (p * m),
        auc_error_bound: 0.5 * tied / (p * m),
        eer: eer.unwrap_or(1.0),
        tar_at_far: std::array::from_fn(|i| within(1, FAR[i]).then_some(tar_at_far[i] as f64 / p)),
        roc,
        intra_class: angles(positive),
        inter_class: angles(negative),
    })
}

/// The FARs of [`Verification::roc`], rising from 0: those that so many negative pairs can tell apart.
fn far_grid(negative_pairs: f64) -> Vec<f64> {
    let logarithmic = (0..=240).map(|i| 10_f64.powf(f64::from(i - 240) / 40.0));
    let linear = (1..100).map(|i| f64::from(i) / 100.0);
    let mut grid: Vec<f64> = logarithmic.chain(linear).filter(|&far| 1.0 / negative_pairs <= far).collect();
    grid.push(0.0);
    grid.sort_unstable_by(f64::total_cmp);
    grid
}

fn angles(counts: &[u64]) -> Angles {
    let mut histogram = vec![0; ANGLE_BINS];
    let (mut sum, mut squares, mut total) = (0.0, 0.0, 0_u64);
    for (bin, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let cosine = -1.0 + (bin as f64 + 0.5) * BIN_WIDTH;
        let degrees = cosine.acos().to_degrees();
        histogram[(degrees as usize).min(ANGLE_BINS - 1)] += count;
        sum += count as f64 * degrees;
        squares += count as f64 * degrees * degrees;
        total += count;
    }
    let mean_degrees = sum / total as f64;
    let variance = squares / total as f64 - mean_degrees * mean_degrees;
    Angles { histogram, mean_degrees, sd_degrees: variance.max(0.0).sqrt() }
}
