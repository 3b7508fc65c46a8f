//! Heads against heads over seeds, those under the same condition: paired differences, ranks, and the article's statements.
//! [`crate::effects`] has what conditions change.

use crate::choice::{Choice, choose};
use crate::effects::{Effect, effects};
use crate::families::{classifier, neighbors};
use crate::groups::Group;
use crate::measured::Measured;
use crate::registry::{Headline, MetricId};
use crate::selection::Selection;
use crate::statements::{self, Accuracy, Judgement, RunMetrics, Setting};
use faceoff_analysis::statistics::{self, PairedTest, RankTest, Summary};
use faceoff_runs::{AnalysisConfig, HeadConfig};
use ndarray::Array2;
use std::collections::BTreeMap;

/// All comparisons of a report.
#[derive(Debug, Default)]
pub struct Comparisons {
    /// Every two variants of a group, in every metric compared.
    pub pairs: Vec<Pair>,
    /// What conditions change, in every metric compared.
    pub effects: Vec<Effect>,
    /// Of every group, in every metric compared.
    pub ranks: Vec<Ranks>,
    /// For every group, in every accuracy compared of which is known which images are right.
    pub choices: Vec<Choice>,
    /// Of the groups that the article is about.
    pub judgements: Vec<Judged>,
    /// What could not be compared, and why.
    pub notes: Vec<String>,
}

/// The paired difference of two variants in one metric.
#[derive(Debug, Clone)]
pub struct Pair {
    /// What is compared.
    pub metric: MetricId,
    /// Index of the variant that is subtracted from.
    pub a: usize,
    /// Index of the variant that is subtracted.
    pub b: usize,
    /// Over the seeds that both have.
    pub test: PairedTest,
    /// p value of no difference, two-sided.
    pub p: Option<f64>,
    /// The same after Holm's correction over all pairs of the metric and condition.
    pub p_holm: Option<f64>,
    /// Seeds that would show a difference of this size.
    pub seeds_needed: Option<u64>,
}

/// Ranks of the variants under one condition in one metric, over the seeds that all of them have.
#[derive(Debug, Clone)]
pub struct Ranks {
    /// What is compared.
    pub metric: MetricId,
    /// The condition; empty without.
    pub condition: String,
    /// Indices of the variants.
    pub variants: Vec<usize>,
    /// Number of seeds.
    pub seeds: usize,
    /// Mean ranks and Friedman's test.
    pub test: RankTest,
}

/// The five statements under one condition.
#[derive(Debug, Clone)]
pub struct Judged {
    /// The condition; empty without.
    pub condition: String,
    /// In the order of the statements.
    pub judgements: Vec<Judgement>,
}

/// Compares the variants of each group in the metrics that are compared, and judges the statements where they apply.
pub(crate) fn compare(
    selection: &Selection,
    measured: &[Measured],
    groups: &[Group],
    headline: &[(MetricId, Headline)],
    settings: &AnalysisConfig,
) -> Comparisons {
    let mut all = Comparisons::default();
    let compared = || headline.iter().filter(|(_, rank)| *rank == Headline::Compared).map(|&(metric, _)| metric);
    for metric in compared() {
        match effects(metric, selection, groups, measured) {
            Ok(found) => all.effects.extend(found),
            Err(error) => all.notes.push(format!("No comparison of conditions in {metric}: {error}.")),
        }
    }
    for group in groups {
        for metric in compared() {
            if let Err(error) = all.compare_metric(metric, &group.condition, &group.variants, measured) {
                all.notes.push(format!("No comparison of {metric}: {error}."));
            }
            all.choices.extend(choose(metric, group, measured, settings.bootstrap_resamples));
        }
        if group.article_applies(selection)
            && let Err(error) = all.judge(selection, group, measured, settings)
        {
            all.notes.push(format!("The article\u{2019}s statements could not be judged: {error}."));
        }
    }
    all
}

/// Which images an accuracy of a variant's runs counts as right, by seed.
pub(crate) fn right_by_seed(measured: &[Measured], metric: MetricId, variant: usize) -> BTreeMap<u64, &[bool]> {
    let runs = measured.iter().filter(|run| run.variant == variant);
    runs.filter_map(|run| Some((run.seed, run.found.right(metric)?))).collect()
}

/// What runs of a variant have in a metric, by seed.
fn values_by_seed(measured: &[Measured], metric: MetricId, variant: usize) -> BTreeMap<u64, f64> {
    let runs = measured.iter().filter(|run| run.variant == variant);
    runs.filter_map(|run| Some((run.seed, run.value(metric)?))).collect()
}

/// The mean over `pairs` of variants of "first minus second", over the seeds that all of them have; `None` where there is none.
pub(crate) fn paired_test(
    measured: &[Measured],
    metric: MetricId,
    pairs: &[(usize, usize)],
) -> faceoff_analysis::Result<Option<PairedTest>> {
    let of = |&variant: &usize| values_by_seed(measured, metric, variant);
    let columns: Vec<_> = pairs.iter().map(|(a, b)| (of(a), of(b))).collect();
    let Some((first, _)) = columns.first() else { return Ok(None) };
    let in_all = |seed: &&u64| columns.iter().all(|(a, b)| a.contains_key(seed) && b.contains_key(seed));
    let seeds: Vec<u64> = first.keys().filter(in_all).copied().collect();
    if seeds.is_empty() {
        return Ok(None);
    }
    let mean = |seed: &u64| {
        let sums = columns.iter().fold((0.0, 0.0), |(a, b), of| (a + of.0[seed], b + of.1[seed]));
        (sums.0 / columns.len() as f64, sums.1 / columns.len() as f64)
    };
    let (left, right): (Vec<f64>, Vec<f64>) = seeds.iter().map(mean).unzip();
    let paired = statistics::paired_difference(&left, &right)?;
    let mut images = Vec::new();
    for &(a, b) in pairs {
        let of_b = right_by_seed(measured, metric, b);
        let both = right_by_seed(measured, metric, a).into_iter().filter(|(seed, _)| seeds.contains(seed));
        images.extend(both.filter_map(|(seed, a)| Some((a, *of_b.get(&seed)?))));
    }
    let images = (!images.is_empty()).then(|| statistics::image_scatter(&images)).transpose()?;
    Ok(Some(PairedTest { paired, images }))
}

/// Seeds that would show a difference of the size found.
pub(crate) fn seeds_for(test: &PairedTest) -> faceoff_analysis::Result<Option<u64>> {
    let Summary { mean, sd, .. } = test.paired.difference;
    statistics::seeds_needed(mean, sd.unwrap_or(statistics::ASSUMED_SD))
}

/// The p values after Holm's correction over those that there are.
pub(crate) fn holm(tested: &[Option<f64>]) -> Vec<Option<f64>> {
    let known: Vec<f64> = tested.iter().flatten().copied().collect();
    let mut corrected = statistics::holm(&known).into_iter();
    tested.iter().map(|p| p.and_then(|_| corrected.next())).collect()
}

/// Where a head's fixed scale comes from; `None` for a head without one.
fn setting(head: &HeadConfig, classes: usize) -> Option<Setting> {
    // Text is `auto`, the article's scale of the data at hand.
    head.get("scale").map(|scale| scale.number().map_or(Setting::Advice, |scale| Setting::of(scale, classes)))
}

/// What twins agree in.
fn parameters_but_scale(head: &HeadConfig) -> String {
    let others = head.parameters().filter(|(name, _)| *name != "scale");
    others.map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
}

impl Comparisons {
    fn compare_metric(
        &mut self,
        metric: MetricId,
        condition: &str,
        variants: &[usize],
        measured: &[Measured],
    ) -> faceoff_analysis::Result<()> {
        // The variants with values, each with these by seed.
        let columns = variants.iter().map(|&variant| (variant, values_by_seed(measured, metric, variant)));
        let columns: Vec<_> = columns.filter(|(_, values)| !values.is_empty()).collect();
        let first = self.pairs.len();
        for (place, &(a, _)) in columns.iter().enumerate() {
            for &(b, _) in &columns[place + 1..] {
                let Some(test) = paired_test(measured, metric, &[(a, b)])? else { continue };
                let seeds_needed = seeds_for(&test)?;
                self.pairs.push(Pair { metric, a, b, test, p: test.p(), p_holm: None, seeds_needed });
            }
        }
        let tested: Vec<Option<f64>> = self.pairs[first..].iter().map(|pair| pair.p).collect();
        for (pair, p_holm) in self.pairs[first..].iter_mut().zip(holm(&tested)) {
            pair.p_holm = p_holm;
        }

        let [(_, of_first), _, ..] = &columns[..] else { return Ok(()) };
        let in_all = |seed: &&u64| columns.iter().all(|(_, values)| values.contains_key(seed));
        let seeds: Vec<u64> = of_first.keys().filter(in_all).copied().collect();
        if seeds.is_empty() {
            return Ok(());
        }
        let table = Array2::from_shape_fn((seeds.len(), columns.len()), |(row, at)| columns[at].1[&seeds[row]]);
        self.ranks.push(Ranks {
            metric,
            condition: condition.into(),
            variants: columns.into_iter().map(|(variant, _)| variant).collect(),
            seeds: seeds.len(),
            test: statistics::rank_test(table.view())?,
        });
        Ok(())
    }

    fn judge(
        &mut self,
        selection: &Selection,
        group: &Group,
        measured: &[Measured],
        settings: &AnalysisConfig,
    ) -> faceoff_analysis::Result<()> {
        let classes = group.classes(selection).len();
        let metrics = |run: &Measured| {
            let accuracy = |metric| {
                let (value, right) = (run.value(metric)?, run.found.right(metric).map(<[bool]>::to_vec));
                Some(Accuracy { value, right })
            };
            let variant = &selection.variants[run.variant];
            let add = |sum: &mut f64, ratio: &f64| {
                *sum += ratio;
                Some(*sum)
            };
            Some(RunMetrics {
                variant: variant.name.clone(),
                head: variant.head.clone(),
                others: variant.config.as_ref().map_or(String::new(), parameters_but_scale),
                setting: variant.config.as_ref().and_then(|head| setting(head, classes)),
                seed: run.seed,
                dnn_accuracy: accuracy(classifier::DNN_ACCURACY.id()),
                knn_accuracy: accuracy(neighbors::headline(settings))?,
                explained_variance: run.found.shapes.variance_ratios.iter().scan(0.0, add).collect(),
            })
        };
        let of_group = measured.iter().filter(|run| group.variants.contains(&run.variant));
        let runs: Vec<RunMetrics> = of_group.filter_map(metrics).collect();
        let judgements = statements::judge(&runs, classes)?;
        self.judgements.push(Judged { condition: group.condition.clone(), judgements });
        Ok(())
    }
}
