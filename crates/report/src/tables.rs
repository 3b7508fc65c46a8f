//! The CSV files of a report. Same numbers, same bytes.

use crate::error::{Error, Result};
use crate::pictures::{grid_variants, noise_variants, pca_maps, tsne_maps};
use faceoff_analysis::statistics;
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::comparisons::{Judged, Pair, Ranks};
use faceoff_evaluation::measured::{Measured, ValImages};
use faceoff_evaluation::selection::{Origin, Selection};
use faceoff_evaluation::statements::{Evidence, Judgement, Part};
use faceoff_evaluation::summaries::MetricSummary;
use faceoff_runs::Trial;
use ndarray::Array2;
use polars::prelude::{Column, CsvWriter, DataFrame, NamedFrom, SerWriter, Series};

/// The tables with their names. External embeddings have no seeds, so there are no tables over them.
pub(crate) fn all(evaluation: &Evaluation) -> Result<Vec<(String, Vec<u8>)>> {
    let Evaluation { selection, measured, summaries, comparisons: compared, .. } = evaluation;
    let file = |name: &str, bytes: Result<Vec<u8>>| bytes.map(|bytes| (name.to_string(), bytes));
    let mut files = vec![
        file("metrics.csv", metrics(selection, measured))?,
        file("explained_variance.csv", explained_variance(selection, measured, &evaluation.components))?,
        file("bootstrap.csv", bootstrap(selection, measured))?,
        file("pca.csv", map(selection, "pca.csv", &["pc1", "pc2", "pc3"], &pca_maps(evaluation)))?,
        file("tsne.csv", map(selection, "tsne.csv", &["x", "y"], &tsne_maps(evaluation)))?,
    ];
    if let Origin::External { .. } = selection.origin {
        return Ok(files);
    }
    files.extend([
        file("summary.csv", summary(selection, summaries))?,
        file("comparisons.csv", comparisons(selection, &compared.pairs))?,
        file("ranks.csv", ranks(selection, &compared.ranks))?,
        file("statements.csv", statements(selection, &compared.judgements))?,
        file("history.csv", history(selection))?,
    ]);
    let noisy = noise_variants(evaluation);
    if !noisy.is_empty() {
        files.push(file("label_noise.csv", label_noise(evaluation, &noisy))?);
    }
    let grid = grid_variants(evaluation);
    if !grid.is_empty() {
        files.push(file("scale_margin.csv", scale_margin(evaluation, &grid))?);
    }
    if !evaluation.trials.is_empty() {
        files.push(file("trials.csv", trials(&evaluation.trials))?);
    }
    for (index, variant) in selection.variants.iter().enumerate() {
        if let Some(counts) = evaluation.confusion(index) {
            let name = format!("confusion/{}.csv", variant.name);
            let bytes = confusion(selection, &name, index, &counts)?;
            files.push((name, bytes));
        }
    }
    Ok(files)
}

/// A table that grows row by row; every one starts with the columns `variant` and `head`.
struct Table<'a> {
    file: &'a str,
    selection: &'a Selection,
    variant: Vec<String>,
    head: Vec<String>,
}

impl<'a> Table<'a> {
    fn new(file: &'a str, selection: &'a Selection) -> Self {
        Self { file, selection, variant: Vec::new(), head: Vec::new() }
    }

    fn row(&mut self, variant: usize) {
        let variant = &self.selection.variants[variant];
        self.variant.push(variant.name.clone());
        self.head.push(variant.head.clone());
    }

    /// The bytes of the file, with `columns` after the first two. `decimals` rounds fractions; all digits without.
    fn csv(self, columns: Vec<Column>, decimals: Option<usize>) -> Result<Vec<u8>> {
        let mut all = vec![column("variant", self.variant), column("head", self.head)];
        all.extend(columns);
        csv(self.file, all, decimals)
    }
}

fn csv(file: &str, columns: Vec<Column>, decimals: Option<usize>) -> Result<Vec<u8>> {
    let failed = |source| Error::Table { table: file.to_string(), source };
    let mut frame = DataFrame::new_infer_height(columns).map_err(failed)?;
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes)
        .with_float_precision(decimals)
        .n_threads(1)
        .finish(&mut frame)
        .map_err(failed)?;
    Ok(bytes)
}

fn column<T, Kind: ?Sized>(name: &str, values: T) -> Column
where
    Series: NamedFrom<T, Kind>,
{
    <Series as NamedFrom<T, Kind>>::new(name.into(), values).into()
}

/// Coordinates need no more digits; shorter files.
const COORDINATE_DECIMALS: usize = 5;

/// `metrics.csv`: variant, head, seed, metric, value.
fn metrics(selection: &Selection, measured: &[Measured]) -> Result<Vec<u8>> {
    let mut table = Table::new("metrics.csv", selection);
    let (mut seeds, mut names, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for run in measured {
        for (metric, value) in &run.found.values {
            table.row(run.variant);
            seeds.push(run.seed);
            names.push(metric.to_string());
            values.push(*value);
        }
    }
    table.csv(vec![column("seed", seeds), column("metric", names), column("value", values)], None)
}

/// `summary.csv`: variant, head, metric, n, mean, sd, ci95_low, ci95_high; the last three empty for one seed.
fn summary(selection: &Selection, summaries: &[MetricSummary]) -> Result<Vec<u8>> {
    let mut table = Table::new("summary.csv", selection);
    summaries.iter().for_each(|row| table.row(row.variant));
    let interval = |end: fn(&statistics::Interval) -> f64| -> Vec<Option<f64>> {
        summaries.iter().map(|row| row.summary.interval.as_ref().map(end)).collect()
    };
    let columns = vec![
        column("metric", summaries.iter().map(|row| row.metric.to_string()).collect::<Vec<_>>()),
        column("n", summaries.iter().map(|row| row.summary.n as u64).collect::<Vec<_>>()),
        column("mean", summaries.iter().map(|row| row.summary.mean).collect::<Vec<_>>()),
        column("sd", summaries.iter().map(|row| row.summary.sd).collect::<Vec<_>>()),
        column("ci95_low", interval(|interval| interval.low)),
        column("ci95_high", interval(|interval| interval.high)),
    ];
    table.csv(columns, None)
}

/// `bootstrap.csv`: variant, head, seed, metric, value, ci95_low, ci95_high; intervals over the images of one run.
fn bootstrap(selection: &Selection, measured: &[Measured]) -> Result<Vec<u8>> {
    let mut table = Table::new("bootstrap.csv", selection);
    let (mut seeds, mut names) = (Vec::new(), Vec::new());
    let mut numbers: [Vec<f64>; 3] = Default::default();
    for run in measured {
        for &(metric, interval) in &run.found.intervals {
            table.row(run.variant);
            seeds.push(run.seed);
            names.push(metric.to_string());
            let row = [run.value(metric).unwrap_or(f64::NAN), interval.low, interval.high];
            numbers.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
    }
    let [values, low, high] = numbers;
    let columns = vec![
        column("seed", seeds),
        column("metric", names),
        column("value", values),
        column("ci95_low", low),
        column("ci95_high", high),
    ];
    table.csv(columns, None)
}

/// `label_noise.csv` and `scale_margin.csv`: `settings` of each variant beside the summary of its accuracies.
fn accuracies_by_setting(
    evaluation: &Evaluation,
    file: &str,
    variants: &[usize],
    settings: impl FnOnce(&[usize]) -> Vec<Column>,
) -> Result<Vec<u8>> {
    let mut table = Table::new(file, &evaluation.selection);
    let compared = |row: &&MetricSummary| evaluation.compared().any(|metric| metric == row.metric);
    let rows: Vec<&MetricSummary> =
        evaluation.summaries.iter().filter(|row| variants.contains(&row.variant)).filter(compared).collect();
    rows.iter().for_each(|row| table.row(row.variant));
    let of_rows: Vec<usize> = rows.iter().map(|row| row.variant).collect();
    let mut columns = settings(&of_rows);
    columns.extend([
        column("metric", rows.iter().map(|row| row.metric.to_string()).collect::<Vec<_>>()),
        column("n", rows.iter().map(|row| row.summary.n as u64).collect::<Vec<_>>()),
        column("mean", rows.iter().map(|row| row.summary.mean).collect::<Vec<_>>()),
        column("sd", rows.iter().map(|row| row.summary.sd).collect::<Vec<_>>()),
    ]);
    table.csv(columns, None)
}

/// `label_noise.csv`: the share of wrong labels and the accuracies of every variant.
fn label_noise(evaluation: &Evaluation, variants: &[usize]) -> Result<Vec<u8>> {
    accuracies_by_setting(evaluation, "label_noise.csv", variants, |rows| {
        let noise = |&variant: &usize| u64::from(evaluation.selection.variants[variant].noise_percent);
        vec![column("noise_percent", rows.iter().map(noise).collect::<Vec<_>>())]
    })
}

/// `scale_margin.csv`: scale, margin and accuracies of every variant that has both.
fn scale_margin(evaluation: &Evaluation, variants: &[usize]) -> Result<Vec<u8>> {
    accuracies_by_setting(evaluation, "scale_margin.csv", variants, |rows| {
        let config = |variant: usize| evaluation.selection.variants[variant].config.as_ref();
        let margin = |variant: usize| config(variant).and_then(|head| head.margin());
        vec![
            column(
                "scale",
                rows.iter().map(|&v| config(v).and_then(|head| head.scale())).collect::<Vec<_>>(),
            ),
            column("margin", rows.iter().map(|&v| Some(margin(v)?.value())).collect::<Vec<_>>()),
            column("margin_unit", rows.iter().map(|&v| Some(margin(v)?.unit())).collect::<Vec<_>>()),
        ]
    })
}

/// `trials.csv`: what tuning tried. No runs of this report, so no column of kinds.
fn trials(trials: &[Trial]) -> Result<Vec<u8>> {
    let numbers = |value: fn(&Trial) -> Option<f64>| trials.iter().map(value).collect::<Vec<_>>();
    let columns = vec![
        column("variant", trials.iter().map(|trial| trial.head.clone()).collect::<Vec<_>>()),
        column("peak_learning_rate", numbers(|trial| Some(trial.peak_learning_rate))),
        column("scale", numbers(|trial| trial.scale)),
        column("margin", numbers(|trial| trial.margin)),
        column("knn_accuracy", numbers(|trial| trial.knn_accuracy)),
        column("dnn_accuracy", numbers(|trial| trial.dnn_accuracy)),
        column("chosen", trials.iter().map(|trial| trial.chosen).collect::<Vec<_>>()),
    ];
    csv("trials.csv", columns, None)
}

/// `confusion/<variant>.csv`: variant, head, true, predicted, count; all seeds together.
fn confusion(selection: &Selection, file: &str, variant: usize, counts: &Array2<u64>) -> Result<Vec<u8>> {
    let classes = &selection.variants[variant].classes;
    let mut table = Table::new(file, selection);
    let (mut truths, mut predictions, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for ((truth, predicted), &count) in counts.indexed_iter() {
        table.row(variant);
        truths.push(classes[truth].clone());
        predictions.push(classes[predicted].clone());
        values.push(count);
    }
    table.csv(vec![column("true", truths), column("predicted", predictions), column("count", values)], None)
}

/// `explained_variance.csv`: variant, head, seed, components_kept, component, ratio, cumulative; ratios of the total variance.
fn explained_variance(selection: &Selection, measured: &[Measured], kept: &[usize]) -> Result<Vec<u8>> {
    let mut table = Table::new("explained_variance.csv", selection);
    let (mut seeds, mut counts, mut components) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ratios, mut sums) = (Vec::new(), Vec::new());
    for run in measured {
        for &count in kept {
            let mut sum = 0.0;
            for (index, &ratio) in run.found.shapes.variance_ratios.iter().take(count).enumerate() {
                sum += ratio;
                table.row(run.variant);
                seeds.push(run.seed);
                counts.push(count as u64);
                components.push(index as u64 + 1);
                ratios.push(ratio);
                sums.push(sum);
            }
        }
    }
    let columns = vec![
        column("seed", seeds),
        column("components_kept", counts),
        column("component", components),
        column("ratio", ratios),
        column("cumulative", sums),
    ];
    table.csv(columns, None)
}

/// `history.csv`: the histories of all runs below each other.
fn history(selection: &Selection) -> Result<Vec<u8>> {
    let mut table = Table::new("history.csv", selection);
    let (mut seeds, mut epochs, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    let mut numbers: [Vec<f64>; 4] = Default::default();
    for run in &selection.runs {
        for record in &run.history {
            table.row(run.variant);
            seeds.push(run.seed());
            epochs.push(record.epoch as u64);
            steps.push(record.step as u64);
            let row =
                [record.train_loss, record.train_accuracy, record.learning_rate, record.effective_scale];
            numbers.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
    }
    let [losses, accuracies, rates, scales] = numbers;
    let columns = vec![
        column("seed", seeds),
        column("epoch", epochs),
        column("step", steps),
        column("train_loss", losses),
        column("train_accuracy", accuracies),
        column("learning_rate", rates),
        column("effective_scale", scales),
    ];
    table.csv(columns, None)
}

/// `tsne.csv` (x, y) and `pca.csv` (pc1, pc2, pc3): one row a validation image of each variant's first seed.
fn map(
    selection: &Selection,
    file: &str,
    axes: &[&str],
    maps: &[(&Measured, &ValImages, Vec<[f64; 3]>)],
) -> Result<Vec<u8>> {
    let mut table = Table::new(file, selection);
    let (mut seeds, mut ids, mut labels, mut names) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut coordinates = vec![Vec::new(); axes.len()];
    for (run, images, points) in maps {
        for ((id, &label), point) in images.ids.iter().zip(&images.labels).zip(points) {
            table.row(run.variant);
            seeds.push(run.seed);
            ids.push(id.clone());
            labels.push(label);
            names.push(selection.variants[run.variant].classes[label as usize].clone());
            coordinates.iter_mut().zip(point).for_each(|(axis, &value)| axis.push(value));
        }
    }
    let mut columns =
        vec![column("seed", seeds), column("id", ids), column("label", labels), column("class", names)];
    columns.extend(axes.iter().zip(coordinates).map(|(axis, values)| column(axis, values)));
    table.csv(columns, Some(COORDINATE_DECIMALS))
}

/// `comparisons.csv`: paired differences over seeds, variant minus other.
fn comparisons(selection: &Selection, pairs: &[Pair]) -> Result<Vec<u8>> {
    let mut table = Table::new("comparisons.csv", selection);
    pairs.iter().for_each(|pair| table.row(pair.a));
    let other = |pair: &Pair| &selection.variants[pair.b];
    let numbers = |value: fn(&Pair) -> Option<f64>| pairs.iter().map(value).collect::<Vec<_>>();
    let columns = vec![
        column("other_variant", pairs.iter().map(|pair| other(pair).name.clone()).collect::<Vec<_>>()),
        column("other_head", pairs.iter().map(|pair| other(pair).head.clone()).collect::<Vec<_>>()),
        column("metric", pairs.iter().map(|pair| pair.metric.to_string()).collect::<Vec<_>>()),
        column("n", pairs.iter().map(|pair| pair.paired.difference.n as u64).collect::<Vec<_>>()),
        column("mean_difference", numbers(|pair| Some(pair.paired.difference.mean))),
        column("sd", numbers(|pair| pair.paired.difference.sd)),
        column("ci95_low", numbers(|pair| Some(pair.paired.difference.interval?.low))),
        column("ci95_high", numbers(|pair| Some(pair.paired.difference.interval?.high))),
        column("p", numbers(|pair| pair.paired.p)),
        column("p_holm", numbers(|pair| pair.p_holm)),
        column("cohens_d", numbers(|pair| pair.paired.cohens_d)),
        column("seeds_needed", pairs.iter().map(|pair| pair.seeds_needed).collect::<Vec<_>>()),
    ];
    table.csv(columns, None)
}

/// `ranks.csv`: mean ranks over the seeds that all variants have.
fn ranks(selection: &Selection, all: &[Ranks]) -> Result<Vec<u8>> {
    let mut table = Table::new("ranks.csv", selection);
    let (mut metrics, mut seeds, mut ranks, mut critical) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for one in all {
        for (&variant, &rank) in one.variants.iter().zip(&one.test.average_ranks) {
            table.row(variant);
            metrics.push(one.metric.to_string());
            seeds.push(one.seeds as u64);
            ranks.push(rank);
            critical.push(one.test.critical_difference);
        }
    }
    let columns = vec![
        column("metric", metrics),
        column("seeds", seeds),
        column("average_rank", ranks),
        column("critical_difference", critical),
    ];
    table.csv(columns, None)
}

/// `statements.csv`: every comparison behind the verdicts on the article's statements, variant minus other.
fn statements(selection: &Selection, all: &[Judged]) -> Result<Vec<u8>> {
    let mut table = Table::new("statements.csv", selection);
    let mut rows: Vec<(&Judged, &Judgement, &Part, &Evidence)> = Vec::new();
    for judged in all {
        for judgement in &judged.judgements {
            for part in &judgement.parts {
                rows.extend(part.evidence.iter().map(|evidence| (judged, judgement, part, evidence)));
            }
        }
    }
    let index = |name: &str| selection.variants.iter().position(|variant| variant.name == name);
    for (.., evidence) in &rows {
        table.row(index(&evidence.a).expect("evidence names variants of the report"));
    }
    let texts = |text: fn(&(&Judged, &Judgement, &Part, &Evidence)) -> String| {
        rows.iter().map(text).collect::<Vec<_>>()
    };
    let numbers =
        |value: fn(&Evidence) -> Option<f64>| rows.iter().map(|row| value(row.3)).collect::<Vec<_>>();
    let columns = vec![
        column("other_variant", texts(|row| row.3.b.clone())),
        column("statement", rows.iter().map(|row| row.1.statement.number as u64).collect::<Vec<_>>()),
        column("statement_verdict", texts(|row| row.1.verdict.to_string())),
        column("condition", texts(|row| row.0.condition.clone())),
        column("scale", rows.iter().map(|row| row.2.scale).collect::<Vec<_>>()),
        column("scale_verdict", texts(|row| row.2.verdict.to_string())),
        column("measure", texts(|row| row.3.measure.clone())),
        column("n", rows.iter().map(|row| row.3.paired.difference.n as u64).collect::<Vec<_>>()),
        column("mean_difference", numbers(|row| Some(row.paired.difference.mean))),
        column("ci95_low", numbers(|row| Some(row.paired.difference.interval?.low))),
        column("ci95_high", numbers(|row| Some(row.paired.difference.interval?.high))),
        column("p_holds", numbers(|row| row.p_holds)),
        column("p_contradicts", numbers(|row| row.p_contradicts)),
        column("verdict", texts(|row| row.3.verdict.to_string())),
        column("seeds_needed", rows.iter().map(|row| row.3.seeds_needed).collect::<Vec<_>>()),
    ];
    table.csv(columns, None)
}
