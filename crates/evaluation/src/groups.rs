//! Which variants stand together in pictures and comparisons: those of one condition.
//!
//! Where a head has many variants under one condition, a grid of scales and margins, only its best one stands beside the
//! other heads; the grid has tables and heat maps of its own.

use crate::measured::Measured;
use crate::registry::MetricId;
use crate::selection::{Selection, Variant};

/// A head with more variants than this under one condition, that differ in scale and margin alone, is a grid.
const FEW: usize = 3;

/// The variants of one condition that are shown side by side.
#[derive(Debug, Clone)]
pub struct Group {
    /// The condition; empty without.
    pub condition: String,
    /// Indices of the variants, in their order.
    pub variants: Vec<usize>,
    /// How many more there are.
    pub hidden: usize,
}

impl Group {
    /// What a picture's file name ends with.
    pub fn suffix(&self) -> String {
        if self.condition.is_empty() { String::new() } else { format!("_{}", self.condition) }
    }

    /// The names of the evaluated classes, the same for the whole group.
    pub fn classes<'a>(&self, selection: &'a Selection) -> &'a [String] {
        self.variants.first().map_or(&[], |&variant| &selection.variants[variant].classes)
    }

    /// The article's statements are about true labels, classes that were trained on, and no choice among settings.
    pub fn article_applies(&self, selection: &Selection) -> bool {
        let plain = |&variant: &usize| {
            let Variant { noise_percent, unseen, config, .. } = &selection.variants[variant];
            *noise_percent == 0 && !unseen && config.is_some()
        };
        self.hidden == 0 && self.variants.iter().all(plain)
    }
}

/// The groups of a report, in the order of their conditions; of a grid, the variant with the highest mean of `chosen_by` is shown.
pub(crate) fn groups(selection: &Selection, measured: &[Measured], chosen_by: MetricId) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (index, variant) in selection.variants.iter().enumerate() {
        match groups.iter_mut().find(|group| group.condition == variant.condition) {
            Some(group) => group.variants.push(index),
            None => groups.push(Group { condition: variant.condition.clone(), variants: vec![index], hidden: 0 }),
        }
    }
    for group in &mut groups {
        let all = std::mem::take(&mut group.variants);
        let family = |variant: usize| selection.variants[variant].family();
        let is_shown = |&variant: &usize| {
            let twins: Vec<usize> = all.iter().copied().filter(|&twin| family(twin) == family(variant)).collect();
            twins.len() <= FEW || best(&twins, measured, chosen_by) == variant
        };
        group.variants = all.iter().copied().filter(is_shown).collect();
        group.hidden = all.len() - group.variants.len();
    }
    groups
}

/// The variant with the highest mean of a metric; the first of equals.
fn best(variants: &[usize], measured: &[Measured], metric: MetricId) -> usize {
    let mean = |variant: usize| {
        let runs = measured.iter().filter(|run| run.variant == variant);
        let values: Vec<f64> = runs.filter_map(|run| run.value(metric)).collect();
        if values.is_empty() { f64::NEG_INFINITY } else { values.iter().sum::<f64>() / values.len() as f64 }
    };
    // The last of equals, from behind.
    let best = variants.iter().copied().rev().max_by(|&a, &b| mean(a).total_cmp(&mean(b)));
    best.expect("a head has variants")
}
