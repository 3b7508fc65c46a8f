//! What conditions change: every head under each further condition against the same head under the first one.
//!
//! A recipe against none, or wrong labels against true ones: with one seed both see the same start of the encoder, and they are
//! evaluated on the same images. Conditions that hold out classes of their own are evaluated on others, and nothing is compared.

use crate::comparisons::{holm, paired_test, seeds_for};
use crate::groups::Group;
use crate::measured::Measured;
use crate::registry::MetricId;
use crate::selection::Selection;
use faceoff_analysis::statistics::{ALPHA, PairedTest};

/// The paired difference of a condition from the first, in one metric, for one head or on the mean over all.
#[derive(Debug, Clone)]
pub struct Effect {
    /// What is compared.
    pub metric: MetricId,
    /// The condition.
    pub condition: String,
    /// The first condition, which is subtracted.
    pub reference: String,
    /// Of each head the variants under the condition and under the reference: one pair, or those of all heads for their mean.
    pub pairs: Vec<(usize, usize)>,
    /// Over the seeds that all of these have.
    pub test: PairedTest,
    /// p value of no difference, two-sided.
    pub p: Option<f64>,
    /// The same after Holm's correction, over the means of all conditions in the metric, or over their single heads.
    pub p_holm: Option<f64>,
    /// Seeds that would show a difference of this size.
    pub seeds_needed: Option<u64>,
}

impl Effect {
    /// Whether this is the mean over several heads.
    pub fn is_mean(&self) -> bool {
        self.pairs.len() > 1
    }

    /// Whether the condition differs at the level of all tests; `None` where nothing can be tested.
    pub fn differs(&self) -> Option<bool> {
        self.p_holm.map(|p| p < ALPHA)
    }
}

/// What the conditions change in a metric: of each the mean over heads where there are several, then the heads.
pub(crate) fn effects(
    metric: MetricId,
    selection: &Selection,
    groups: &[Group],
    measured: &[Measured],
) -> faceoff_analysis::Result<Vec<Effect>> {
    let [first, others @ ..] = groups else { return Ok(Vec::new()) };
    let mut found: Vec<Effect> = Vec::new();
    for group in others {
        let base = |variant: usize| &selection.variants[variant].base;
        let twin = |&a: &usize| {
            let b = first.variants.iter().copied().find(|&b| base(b) == base(a))?;
            (selection.variants[a].classes == selection.variants[b].classes).then_some((a, b))
        };
        let heads: Vec<(usize, usize)> = group.variants.iter().filter_map(twin).collect();
        let all = (heads.len() > 1).then(|| heads.clone());
        for pairs in all.into_iter().chain(heads.into_iter().map(|pair| vec![pair])) {
            let Some(test) = paired_test(measured, metric, &pairs)? else { continue };
            found.push(Effect {
                metric,
                condition: group.condition.clone(),
                reference: first.condition.clone(),
                pairs,
                test,
                p: test.p(),
                p_holm: None,
                seeds_needed: seeds_for(&test)?,
            });
        }
    }
    for means in [true, false] {
        let mut family: Vec<&mut Effect> = found.iter_mut().filter(|effect| effect.is_mean() == means).collect();
        let tested: Vec<Option<f64>> = family.iter().map(|effect| effect.p).collect();
        for (effect, p_holm) in family.iter_mut().zip(holm(&tested)) {
            effect.p_holm = p_holm;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::classifier::DNN_ACCURACY;
    use crate::measured::Findings;
    use crate::selection::{Origin, Variant};

    const IMAGES: usize = 1000;

    /// Two heads under two conditions; the second has `gains` more images right of each head.
    fn effects_of(gains: [usize; 2], seeds: u64, classes: [&str; 2]) -> Vec<Effect> {
        let mut variants = Vec::new();
        let mut measured = Vec::new();
        for (place, condition) in ["plain", "longer"].into_iter().enumerate() {
            for (head, base) in ["A", "B"].into_iter().enumerate() {
                let variant = variants.len();
                for seed in 0..seeds {
                    // What a seed gives is shared by both conditions, but for an image.
                    let count = 500 + 40 * seed as usize + place * (gains[head] + usize::from(seed == 0));
                    let right = (0..IMAGES).map(|image| image < count).collect::<Vec<bool>>();
                    let values = vec![(DNN_ACCURACY.id(), count as f64 / IMAGES as f64)];
                    let found = Findings { values, right: vec![(DNN_ACCURACY.id(), right)], ..Findings::default() };
                    let run = format!("{base}-{condition}-seed{seed}");
                    measured.push(Measured { run, variant, seed, found, maps: None, look: None });
                }
                variants.push(Variant {
                    name: format!("{base}-{condition}"),
                    base: base.into(),
                    condition: condition.into(),
                    classes: vec![classes[place].into()],
                    ..Variant::default()
                });
            }
        }
        let selection = Selection {
            origin: Origin::External { queries: (0, 0), index: None },
            variants,
            runs: Vec::new(),
            failed: Vec::new(),
            notes: Vec::new(),
        };
        let group = |condition: &str, variants: Vec<usize>| Group { condition: condition.into(), variants, hidden: 0 };
        let groups = [group("plain", vec![0, 1]), group("longer", vec![2, 3])];
        effects(DNN_ACCURACY.id(), &selection, &groups, &measured).unwrap()
    }

    #[test]
    fn the_mean_over_heads_is_tested_beside_each_head() {
        let found = effects_of([60, 0], 4, ["same", "same"]);
        let mean = |effect: &Effect| (effect.test.paired.difference.mean * 1e5).round() as i64;
        let seen: Vec<(usize, i64, Option<bool>)> =
            found.iter().map(|effect| (effect.pairs.len(), mean(effect), effect.differs())).collect();
        // One more image of seed 0 alone is a quarter of 0.1 points, and shows nothing by itself.
        assert_eq!(seen, [(2, 3025, Some(true)), (1, 6025, Some(true)), (1, 25, Some(false))]);
        assert_eq!(found[0].pairs, [(2, 0), (3, 1)]);
        assert_eq!((found[0].condition.as_str(), found[0].reference.as_str()), ("longer", "plain"));
        // The one test of the mean stands alone; those of the heads are corrected.
        assert_eq!(found[0].p, found[0].p_holm);
        assert!(found[1].p_holm.unwrap() > found[1].p.unwrap());
    }

    #[test]
    fn nothing_is_tested_with_two_seeds_nor_compared_on_other_images() {
        assert!(effects_of([60, 0], 2, ["same", "same"]).iter().all(|effect| effect.differs().is_none()));
        assert!(effects_of([60, 0], 4, ["seen", "unseen"]).is_empty());
    }
}
