//! Heads against heads over seeds: paired differences, ranks, and the article's statements.
//!
//! Only runs under the same condition are compared.

use crate::families::{classifier, neighbors};
use crate::groups::Group;
use crate::measured::Measured;
use crate::registry::MetricId;
use crate::selection::Selection;
use crate::statements::{self, Judgement, RunMetrics};
use faceoff_analysis::statistics::{self, PairedDifference, RankTest};
use faceoff_runs::{AnalysisConfig, HeadConfig};
use ndarray::Array2;

/// All comparisons of a report.
#[derive(Debug, Default)]
pub struct Comparisons {
    /// Every two variants of a group, in every metric compared.
    pub pairs: Vec<Pair>,
    /// Of every group, in every metric compared.
    pub ranks: Vec<Ranks>,
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
    pub paired: PairedDifference,
    /// p value after Holm's correction over all pairs of the metric and condition.
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

/// Compares the variants of each group in these metrics and judges the statements where they apply.
pub(crate) fn compare(
    selection: &Selection,
    measured: &[Measured],
    groups: &[Group],
    metrics: &[MetricId],
    settings: &AnalysisConfig,
) -> Comparisons {
    let mut all = Comparisons::default();
    for group in groups {
        for &metric in metrics {
            if let Err(error) = all.compare_metric(metric, &group.condition, &group.variants, measured) {
                all.notes.push(format!("No comparison of {metric}: {error}."));
            }
        }
        if group.article_applies(selection)
            && let Err(error) = all.judge(selection, group, measured, settings)
        {
            all.notes.push(format!("The article\u{2019}s statements could not be judged: {error}."));
        }
    }
    all
}

/// (seed, value) of a variant, by seed.
fn values(measured: &[Measured], variant: usize, metric: MetricId) -> Vec<(u64, f64)> {
    let runs = measured.iter().filter(|run| run.variant == variant);
    runs.filter_map(|run| Some((run.seed, run.value(metric)?))).collect()
}

impl Comparisons {
    fn compare_metric(
        &mut self,
        metric: MetricId,
        condition: &str,
        variants: &[usize],
        measured: &[Measured],
    ) -> faceoff_analysis::Result<()> {
        let first = self.pairs.len();
        for (place, &a) in variants.iter().enumerate() {
            for &b in &variants[place + 1..] {
                let of_b = values(measured, b, metric);
                let (left, right): (Vec<f64>, Vec<f64>) = values(measured, a, metric)
                    .into_iter()
                    .filter_map(|(seed, value)| Some((value, of_b.iter().find(|other| other.0 == seed)?.1)))
                    .unzip();
                if left.is_empty() {
                    continue;
                }
                let paired = statistics::paired_difference(&left, &right)?;
                let sd = paired.difference.sd.unwrap_or(statistics::ASSUMED_SD);
                let seeds_needed = statistics::seeds_needed(paired.difference.mean, sd)?;
                self.pairs.push(Pair { metric, a, b, paired, p_holm: None, seeds_needed });
            }
        }
        let tested: Vec<usize> = (first..self.pairs.len()).filter(|&at| self.pairs[at].paired.p.is_some()).collect();
        let p_values: Vec<f64> = tested.iter().filter_map(|&at| self.pairs[at].paired.p).collect();
        for (at, p) in tested.into_iter().zip(statistics::holm(&p_values)) {
            self.pairs[at].p_holm = Some(p);
        }

        let with_values: Vec<usize> =
            variants.iter().copied().filter(|&v| !values(measured, v, metric).is_empty()).collect();
        if with_values.len() < 2 {
            return Ok(());
        }
        let columns: Vec<_> = with_values.iter().map(|&variant| values(measured, variant, metric)).collect();
        let seeds: Vec<u64> = columns[0]
            .iter()
            .map(|&(seed, _)| seed)
            .filter(|seed| columns.iter().all(|column| column.iter().any(|(other, _)| other == seed)))
            .collect();
        if seeds.is_empty() {
            return Ok(());
        }
        let value = |(row, column): (usize, usize)| {
            let found = columns[column].iter().find(|(seed, _)| *seed == seeds[row]);
            found.expect("every variant has every such seed").1
        };
        let table = Array2::from_shape_fn((seeds.len(), columns.len()), value);
        self.ranks.push(Ranks {
            metric,
            condition: condition.into(),
            variants: with_values,
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
        let metrics = |run: &Measured| {
            let variant = &selection.variants[run.variant];
            let mut sum = 0.0;
            let cumulative = run.found.shapes.variance_ratios.iter().map(|ratio| {
                sum += ratio;
                sum
            });
            Some(RunMetrics {
                variant: variant.name.clone(),
                head: variant.head.clone(),
                scale: variant.config.as_ref().and_then(HeadConfig::scale),
                seed: run.seed,
                dnn_accuracy: run.value(classifier::DNN_ACCURACY.id()),
                knn_accuracy: run.value(neighbors::headline(settings))?,
                explained_variance: cumulative.collect(),
            })
        };
        let runs: Vec<RunMetrics> =
            measured.iter().filter(|run| group.variants.contains(&run.variant)).filter_map(metrics).collect();
        let judgements = statements::judge(&runs, group.classes(selection).len())?;
        self.judgements.push(Judged { condition: group.condition.clone(), judgements });
        Ok(())
    }
}
