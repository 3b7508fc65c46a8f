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
//! Cosines are counted twice, so that memory is some 60 MiB whatever N is: all of them as products in f32 in 2^21 bins between the
//! least and the greatest that they can be (the whole of [-1, 1], or less where embeddings crowd around one direction), then those
//! near a threshold that matters as products in f64, in 2^18 bins of the little that rounding in f32 leaves open. A threshold is a
//! lower edge of a bin. So TAR at a FAR and EER are those of a full sort of the cosines in f64, but that pairs less than some
//! 2^-30 apart count as tied. The AUC comes from the first count: it lies at most half the share of (positive, negative) pairs in
//! one bin from the one without bins; the bound is computed and returned ([`Verification::auc_error_bound`]).

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use ndarray::ArrayView2;
use rayon::prelude::*;

use crate::centered::Centered;
use crate::error::{Error, Result};
use crate::products::{NORM_TOLERANCE, check_embeddings, contiguous};

/// The FAR of [`Verification::tar_at_far`].
pub const FAR: [f64; 4] = [1e-1, 1e-2, 1e-3, 1e-4];
/// Bins of one degree of [`Angles::histogram`].
const ANGLE_BINS: usize = 180;

/// Bins of all pairs.
const BINS: usize = 1 << 21;
/// Bins of those near a threshold.
const FINE_BINS: usize = 1 << 18;
/// What no product of two embeddings exceeds.
const LONGEST: f64 = (1.0 + NORM_TOLERANCE) * (1.0 + NORM_TOLERANCE);

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
    /// The lowest cosine of a negative pair that is accepted at each FAR of [`FAR`], by products in f32 and to the width of a bin of
    /// them: for measures of the same products. 1 where none is accepted.
    pub thresholds: [f64; 4],
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
    let (rows, dims) = (contiguous(embeddings), embeddings.ncols());
    let centered = Centered::new(&rows, dims);
    let kind = |i: usize, j: usize| usize::from(labels[i] != labels[j]);
    let (least, most, margin) = centered.range();
    let all = Histogram::new(BINS, least.max(-LONGEST), most.min(LONGEST));
    // Whole numbers add up to the same in any order.
    centered.for_pairs(|i, j, cosine| all.add(kind(i, j), cosine));
    let mut outcome = summarise(&all)?;

    // Near each threshold: pairs that rounding in f32 may have put on its wrong side.
    let reach = (2.0 * margin / all.width).ceil() as usize + 1;
    let near = outcome.decisive.map(|step| {
        let (start, end) = (step.bin.saturating_sub(reach), (step.bin + reach + 1).min(BINS));
        let above = [0, 1].map(|kind| step.before[kind] - all.sum(kind, step.bin + 1..end));
        let fine = Histogram::new(FINE_BINS, all.edge(start) - margin, all.edge(end) + margin);
        (start..end, above, fine)
    });
    let mut masks = vec![0_u8; BINS];
    for (at, (bins, ..)) in near.iter().enumerate() {
        masks[bins.clone()].iter_mut().for_each(|mask| *mask |= 1 << at);
    }
    (0..centered.blocks()).into_par_iter().for_each(|block| {
        let (mut last, mut wide) = (usize::MAX, vec![0.0; dims]);
        centered.visit_pairs(block, |i, j, cosine| {
            let mask = masks[all.bin(cosine)];
            if mask != 0 {
                if i != last {
                    wide.iter_mut().zip(&rows[i * dims..]).for_each(|(wide, &x)| *wide = f64::from(x));
                    last = i;
                }
                let exact = centered.exact(j, &wide);
                let within = near.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1);
                within.for_each(|(_, (.., fine))| fine.add(kind(i, j), exact));
            }
        });
    });
    for (threshold, (_, above, fine)) in THRESHOLDS.into_iter().zip(&near) {
        let step = fine.steps(*above).find(|step| threshold.is_passed(outcome.rates(step.after)));
        outcome.set(threshold, &step.expect("the count of all pairs passes it near there"));
    }
    Ok(outcome.measured)
}

/// A point of the ROC that is measured.
#[derive(Debug, Clone, Copy)]
enum Threshold {
    /// The last threshold whose FAR is at most that of [`FAR`] in this place.
    Far(usize),
    /// Where FAR = 1 - TAR.
    EqualError,
}

const THRESHOLDS: [Threshold; FAR.len() + 1] =
    [Threshold::Far(0), Threshold::Far(1), Threshold::Far(2), Threshold::Far(3), Threshold::EqualError];

impl Threshold {
    /// Whether it lies above thresholds with these rates, TAR and FAR.
    fn is_passed(self, [tar, far]: [f64; 2]) -> bool {
        match self {
            Self::Far(at) => far > FAR[at],
            // FAR + TAR - 1 rises from -1 to 1 along the ROC.
            Self::EqualError => far + tar - 1.0 >= 0.0,
        }
    }
}

/// Pairs of one class and of two by their cosine.
struct Histogram {
    start: f64,
    width: f64,
    /// Bins in a difference of 1.
    per_unit: f64,
    counts: [Vec<AtomicU64>; 2],
}

/// Pairs of one class and of two that are accepted at a bin's upper and at its lower edge.
#[derive(Debug, Clone, Copy)]
struct Step {
    bin: usize,
    before: [u64; 2],
    after: [u64; 2],
}

impl Histogram {
    fn new(bins: usize, least: f64, most: f64) -> Self {
        let counts = || (0..bins).map(|_| AtomicU64::new(0)).collect();
        // Equal points have no range.
        let width = (most - least).max(f64::EPSILON) / bins as f64;
        Self { start: least, width, per_unit: 1.0 / width, counts: [counts(), counts()] }
    }

    /// Rounding may lead out of the range; such a cosine belongs to the outermost bin.
    fn bin(&self, cosine: f64) -> usize {
        (((cosine - self.start) * self.per_unit).max(0.0) as usize).min(self.counts[0].len() - 1)
    }

    fn add(&self, kind: usize, cosine: f64) {
        self.counts[kind][self.bin(cosine)].fetch_add(1, Ordering::Relaxed);
    }

    /// The lower edge of a bin.
    fn edge(&self, bin: usize) -> f64 {
        self.start + bin as f64 * self.width
    }

    fn sum(&self, kind: usize, bins: Range<usize>) -> u64 {
        self.counts[kind][bins].iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Bins that hold pairs, the highest first, where `accepted` lie above all of them.
    fn steps(&self, accepted: [u64; 2]) -> impl Iterator<Item = Step> {
        let counts = (0..self.counts[0].len()).rev().map(|bin| (bin, [0, 1].map(|kind| self.sum(kind, bin..bin + 1))));
        let held = counts.filter(|(_, counts)| *counts != [0, 0]);
        held.scan(accepted, |accepted, (bin, [positive, negative])| {
            let before = *accepted;
            *accepted = [before[0] + positive, before[1] + negative];
            Some(Step { bin, before, after: *accepted })
        })
    }
}

/// What the count of all pairs tells.
struct Outcome {
    measured: Verification,
    /// Pairs of one class and of two.
    pairs: [f64; 2],
    /// The bin of each of [`THRESHOLDS`].
    decisive: [Step; THRESHOLDS.len()],
}

impl Outcome {
    fn rates(&self, accepted: [u64; 2]) -> [f64; 2] {
        [0, 1].map(|kind| accepted[kind] as f64 / self.pairs[kind])
    }

    /// The rate at a threshold that lies within a step.
    fn set(&mut self, threshold: Threshold, step: &Step) {
        let (before, after) = (self.rates(step.before), self.rates(step.after));
        match threshold {
            // Fewer pairs cannot tell.
            Threshold::Far(at) => self.measured.tar_at_far[at] = (1.0 / self.pairs[1] <= FAR[at]).then_some(before[0]),
            Threshold::EqualError => {
                let [low, high] = [before, after].map(|[tar, far]| far + tar - 1.0);
                self.measured.eer = before[1] - low / (high - low) * (after[1] - before[1]);
            }
        }
    }
}

/// AUC, curve and angles, and where the thresholds lie.
fn summarise(all: &Histogram) -> Result<Outcome> {
    let pairs = [0, 1].map(|kind| all.sum(kind, 0..BINS));
    for (pairs, kind) in pairs.into_iter().zip(["of one class", "of two classes"]) {
        if pairs == 0 {
            let remedy = "pass two classes or more, one of them with two members";
            return Err(Error::undefined("verification", format!("at least one pair {kind} is needed"), remedy));
        }
    }
    let [p, m] = pairs.map(|pairs| pairs as f64);
    let roc_far = far_grid(m);
    let (mut area, mut tied) = (0.0_f64, 0.0_f64);
    let mut decisive = [None; THRESHOLDS.len()];
    let (mut thresholds, mut lowest) = ([1.0; FAR.len()], 1.0);
    let mut roc: Vec<(f64, f64)> = Vec::with_capacity(roc_far.len());
    for step in all.steps([0, 0]) {
        let [positive, negative] = [0, 1].map(|kind| (step.after[kind] - step.before[kind]) as f64);
        area += negative * (step.before[0] as f64 + 0.5 * positive);
        tied += negative * positive;
        let [tar, far] = [step.after[0] as f64 / p, step.after[1] as f64 / m];
        for (found, threshold) in decisive.iter_mut().zip(THRESHOLDS) {
            if found.is_none() && threshold.is_passed([tar, far]) {
                *found = Some(step);
                if let Threshold::Far(at) = threshold {
                    thresholds[at] = lowest;
                }
            }
        }
        if negative > 0.0 {
            lowest = all.edge(step.bin);
        }
        while roc.len() < roc_far.len() && far > roc_far[roc.len()] {
            roc.push((roc_far[roc.len()], step.before[0] as f64 / p));
        }
    }
    roc.extend(roc_far[roc.len()..].iter().map(|&far| (far, 1.0)));
    let [intra_class, inter_class] = [0, 1].map(|kind| angles(all, kind));
    let (auc, auc_error_bound) = (area / (p * m), 0.5 * tied / (p * m));
    let (eer, tar_at_far) = (1.0, [None; 4]);
    let measured = Verification { auc, auc_error_bound, eer, tar_at_far, thresholds, roc, intra_class, inter_class };
    let decisive = decisive.map(|step| step.expect("with all pairs accepted both rates are 1"));
    Ok(Outcome { measured, pairs: [p, m], decisive })
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

fn angles(all: &Histogram, kind: usize) -> Angles {
    let mut histogram = vec![0; ANGLE_BINS];
    let (mut sum, mut squares, mut total) = (0.0, 0.0, 0_u64);
    for bin in 0..BINS {
        let count = all.sum(kind, bin..bin + 1);
        if count > 0 {
            let cosine = (all.edge(bin) + 0.5 * all.width).clamp(-1.0, 1.0);
            let degrees = cosine.acos().to_degrees();
            histogram[(degrees as usize).min(ANGLE_BINS - 1)] += count;
            sum += count as f64 * degrees;
            squares += count as f64 * degrees * degrees;
            total += count;
        }
    }
    let mean_degrees = sum / total as f64;
    let variance = squares / total as f64 - mean_degrees * mean_degrees;
    Angles { histogram, mean_degrees, sd_degrees: variance.max(0.0).sqrt() }
}
