//! The tables of a report: CSV, and all values as Parquet. Same numbers, same bytes.

use crate::error::{Error, Result};
use crate::parquet::parquet;
use crate::pictures::{grid_variants, noise_variants, pca_maps, tsne_maps};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::comparisons::Pair;
use faceoff_evaluation::selection::{Origin, Selection, Variant};
use faceoff_evaluation::tables::{Columns, MetricSummary};
use polars::prelude::{CsvWriter, DataFrame, PolarsResult, SerWriter};

/// Coordinates need no more digits; shorter files.
const COORDINATE_DECIMALS: usize = 5;

/// The tables with their names. External embeddings have no seeds, so there are no tables over them.
pub(crate) fn all(evaluation: &Evaluation) -> Result<Vec<(String, Vec<u8>)>> {
    let mut tables = Tables { selection: &evaluation.selection, files: Vec::new() };
    tables.values(evaluation)?;
    tables.explained_variance(evaluation)?;
    tables.bootstrap(evaluation)?;
    tables.maps(evaluation)?;
    if let Origin::External { .. } = evaluation.selection.origin {
        return Ok(tables.files);
    }
    tables.summary(evaluation)?;
    tables.comparisons(evaluation)?;
    tables.ranks(evaluation)?;
    tables.statements(evaluation)?;
    tables.history()?;
    tables.settings(evaluation)?;
    tables.trials(evaluation)?;
    tables.confusion(evaluation)?;
    Ok(tables.files)
}

/// The files made so far.
struct Tables<'a> {
    selection: &'a Selection,
    files: Vec<(String, Vec<u8>)>,
}

impl Tables<'_> {
    /// One more CSV file: `variant`, `head` and the columns that `rest` adds. `decimals` rounds fractions; all digits without.
    fn add<R>(
        &mut self,
        file: &str,
        rows: &[R],
        variant: impl Fn(&R) -> usize,
        decimals: Option<usize>,
        rest: impl FnOnce(Columns<'_, R>) -> Columns<'_, R>,
    ) -> Result<()> {
        let of = |row: &R| -> &Variant { &self.selection.variants[variant(row)] };
        let columns =
            Columns::of(rows).with("variant", |row| of(row).name.clone()).with("head", |row| of(row).head.clone());
        let bytes = rest(columns).frame().and_then(|mut frame| csv(&mut frame, decimals));
        self.file(file, bytes)
    }

    fn file(&mut self, file: &str, bytes: PolarsResult<Vec<u8>>) -> Result<()> {
        let bytes = bytes.map_err(|source| Error::Table { table: file.into(), source })?;
        self.files.push((file.into(), bytes));
        Ok(())
    }

    /// `metrics.csv`: variant, head, seed, metric, value; `metrics.parquet` has the settings of each run too.
    fn values(&mut self, evaluation: &Evaluation) -> Result<()> {
        let columns = ["variant", "head", "seed", "metric", "value"];
        let bytes = evaluation.values.select(columns).and_then(|mut frame| csv(&mut frame, None));
        self.file("metrics.csv", bytes)?;
        self.file("metrics.parquet", parquet(&evaluation.values))
    }

    /// `summary.csv`: variant, head, metric, n, mean, sd, ci95_low, ci95_high; the last three empty for one seed.
    fn summary(&mut self, evaluation: &Evaluation) -> Result<()> {
        self.add(
            "summary.csv",
            &evaluation.summaries,
            |row| row.variant,
            None,
            |columns| {
                over_seeds(columns, |row| row)
                    .with("ci95_low", |row| Some(row.summary.interval?.low))
                    .with("ci95_high", |row| Some(row.summary.interval?.high))
            },
        )
    }

    /// `bootstrap.csv`: variant, head, seed, metric, value, ci95_low, ci95_high; intervals over the images of one run.
    fn bootstrap(&mut self, evaluation: &Evaluation) -> Result<()> {
        let mut rows = Vec::new();
        for run in &evaluation.measured {
            rows.extend(run.found.intervals.iter().map(|interval| (run, interval)));
        }
        self.add(
            "bootstrap.csv",
            &rows,
            |(run, _)| run.variant,
            None,
            |columns| {
                columns
                    .with("seed", |(run, _)| run.seed)
                    .with("metric", |(_, (metric, _))| metric.to_string())
                    .with("value", |(run, (metric, _))| run.value(*metric).unwrap_or(f64::NAN))
                    .with("ci95_low", |(_, (_, interval))| interval.low)
                    .with("ci95_high", |(_, (_, interval))| interval.high)
            },
        )
    }

    /// `label_noise.csv` and `scale_margin.csv`, where there are such variants: their settings beside the summary of the metrics
    /// that heads are compared by.
    fn settings(&mut self, evaluation: &Evaluation) -> Result<()> {
        let variants = &evaluation.selection.variants;
        let rows = |variants: &[usize]| -> Vec<&MetricSummary> {
            let compared = |row: &&MetricSummary| evaluation.compared().any(|metric| metric == row.metric);
            let summaries = evaluation.summaries.iter();
            summaries.filter(|row| variants.contains(&row.variant)).filter(compared).collect()
        };
        let noisy = rows(&noise_variants(evaluation));
        if !noisy.is_empty() {
            self.add(
                "label_noise.csv",
                &noisy,
                |row| row.variant,
                None,
                |columns| {
                    let noise = |row: &&MetricSummary| variants[row.variant].noise_percent;
                    over_seeds(columns.with("noise_percent", noise), |row| row)
                },
            )?;
        }
        let grid = rows(&grid_variants(evaluation));
        if !grid.is_empty() {
            self.add(
                "scale_margin.csv",
                &grid,
                |row| row.variant,
                None,
                |columns| {
                    let head = |row: &&MetricSummary| variants[row.variant].config.as_ref();
                    let columns = columns
                        .with("scale", |row| head(row)?.scale())
                        .with("margin", |row| Some(head(row)?.margin()?.value()))
                        .with("margin_unit", |row| Some(head(row)?.margin()?.unit()));
                    over_seeds(columns, |row| row)
                },
            )?;
        }
        Ok(())
    }

    /// `trials.csv`: what tuning tried. No runs of this report, so no column of kinds.
    fn trials(&mut self, evaluation: &Evaluation) -> Result<()> {
        if evaluation.trials.is_empty() {
            return Ok(());
        }
        let frame = Columns::of(&evaluation.trials)
            .with("variant", |trial| trial.head.clone())
            .with("peak_learning_rate", |trial| trial.peak_learning_rate)
            .with("scale", |trial| trial.scale)
            .with("margin", |trial| trial.margin)
            .with("knn_accuracy", |trial| trial.knn_accuracy)
            .with("dnn_accuracy", |trial| trial.dnn_accuracy)
            .with("chosen", |trial| trial.chosen)
            .frame();
        self.file("trials.csv", frame.and_then(|mut frame| csv(&mut frame, None)))
    }

    /// `confusion/<variant>.csv`: variant, head, true, predicted, count; all seeds together.
    fn confusion(&mut self, evaluation: &Evaluation) -> Result<()> {
        for (index, Variant { name, classes, .. }) in evaluation.selection.variants.iter().enumerate() {
            let Some(counts) = evaluation.confusion(index) else { continue };
            let rows: Vec<_> = counts.indexed_iter().collect();
            self.add(
                &format!("confusion/{name}.csv"),
                &rows,
                |_| index,
                None,
                |columns| {
                    columns
                        .with("true", |((truth, _), _)| classes[*truth].clone())
                        .with("predicted", |((_, predicted), _)| classes[*predicted].clone())
                        .with("count", |(_, count)| **count)
                },
            )?;
        }
        Ok(())
    }

    /// `explained_variance.csv`: variant, head, seed, components_kept, component, ratio, cumulative; ratios of the total variance.
    fn explained_variance(&mut self, evaluation: &Evaluation) -> Result<()> {
        struct Row {
            variant: usize,
            seed: u64,
            kept: usize,
            component: usize,
            ratio: f64,
            cumulative: f64,
        }
        let mut rows = Vec::new();
        for run in &evaluation.measured {
            for &kept in &evaluation.components {
                let mut cumulative = 0.0;
                for (index, &ratio) in run.found.shapes.variance_ratios.iter().take(kept).enumerate() {
                    cumulative += ratio;
                    let (variant, seed, component) = (run.variant, run.seed, index + 1);
                    rows.push(Row { variant, seed, kept, component, ratio, cumulative });
                }
            }
        }
        self.add(
            "explained_variance.csv",
            &rows,
            |row| row.variant,
            None,
            |columns| {
                columns
                    .with("seed", |row| row.seed)
                    .with("components_kept", |row| row.kept as u64)
                    .with("component", |row| row.component as u64)
                    .with("ratio", |row| row.ratio)
                    .with("cumulative", |row| row.cumulative)
            },
        )
    }

    /// `history.csv`: the histories of all runs below each other.
    fn history(&mut self) -> Result<()> {
        let mut rows = Vec::new();
        for run in &self.selection.runs {
            rows.extend(run.history.iter().map(|record| (run, record)));
        }
        self.add(
            "history.csv",
            &rows,
            |(run, _)| run.variant,
            None,
            |columns| {
                columns
                    .with("seed", |(run, _)| run.seed())
                    .with("epoch", |(_, record)| record.epoch as u64)
                    .with("step", |(_, record)| record.step as u64)
                    .with("train_loss", |(_, record)| record.train_loss)
                    .with("train_accuracy", |(_, record)| record.train_accuracy)
                    .with("learning_rate", |(_, record)| record.learning_rate)
                    .with("effective_scale", |(_, record)| record.effective_scale)
            },
        )
    }

    /// `pca.csv` (pc1, pc2, pc3) and `tsne.csv` (x, y): one row a validation image of each variant's first seed.
    fn maps(&mut self, evaluation: &Evaluation) -> Result<()> {
        let maps = [
            ("pca.csv", &["pc1", "pc2", "pc3"][..], pca_maps(evaluation)),
            ("tsne.csv", &["x", "y"], tsne_maps(evaluation)),
        ];
        for (file, axes, maps) in &maps {
            let mut rows = Vec::new();
            for (run, images, points) in maps {
                let images = images.ids.iter().zip(&images.labels).zip(points);
                rows.extend(images.map(|((id, label), point)| (run, id, label, point)));
            }
            let variants = &evaluation.selection.variants;
            self.add(
                file,
                &rows,
                |(run, ..)| run.variant,
                Some(COORDINATE_DECIMALS),
                |columns| {
                    let columns = columns
                        .with("seed", |(run, ..)| run.seed)
                        .with("id", |(_, id, ..)| id.to_string())
                        .with("label", |(_, _, label, _)| **label)
                        .with("class", |(run, _, label, _)| variants[run.variant].classes[**label as usize].clone());
                    let axes = axes.iter().enumerate();
                    axes.fold(columns, |columns, (axis, name)| columns.with(name, |(.., point)| point[axis]))
                },
            )?;
        }
        Ok(())
    }

    /// `comparisons.csv`: paired differences over seeds, variant minus other.
    fn comparisons(&mut self, evaluation: &Evaluation) -> Result<()> {
        let other = |pair: &Pair| &evaluation.selection.variants[pair.b];
        self.add(
            "comparisons.csv",
            &evaluation.comparisons.pairs,
            |pair| pair.a,
            None,
            |columns| {
                columns
                    .with("other_variant", |pair| other(pair).name.clone())
                    .with("other_head", |pair| other(pair).head.clone())
                    .with("metric", |pair| pair.metric.to_string())
                    .with("n", |pair| pair.paired.difference.n as u64)
                    .with("mean_difference", |pair| pair.paired.difference.mean)
                    .with("sd", |pair| pair.paired.difference.sd)
                    .with("ci95_low", |pair| Some(pair.paired.difference.interval?.low))
                    .with("ci95_high", |pair| Some(pair.paired.difference.interval?.high))
                    .with("p", |pair| pair.paired.p)
                    .with("p_holm", |pair| pair.p_holm)
                    .with("cohens_d", |pair| pair.paired.cohens_d)
                    .with("seeds_needed", |pair| pair.seeds_needed)
            },
        )
    }

    /// `ranks.csv`: mean ranks over the seeds that all variants have.
    fn ranks(&mut self, evaluation: &Evaluation) -> Result<()> {
        let mut rows = Vec::new();
        for ranks in &evaluation.comparisons.ranks {
            let of = ranks.variants.iter().zip(&ranks.test.average_ranks);
            rows.extend(of.map(|(&variant, &rank)| (ranks, variant, rank)));
        }
        self.add(
            "ranks.csv",
            &rows,
            |&(_, variant, _)| variant,
            None,
            |columns| {
                columns
                    .with("metric", |(ranks, ..)| ranks.metric.to_string())
                    .with("seeds", |(ranks, ..)| ranks.seeds as u64)
                    .with("average_rank", |&(.., rank)| rank)
                    .with("critical_difference", |(ranks, ..)| ranks.test.critical_difference)
            },
        )
    }

    /// `statements.csv`: every comparison behind the verdicts on the article's statements, variant minus other.
    fn statements(&mut self, evaluation: &Evaluation) -> Result<()> {
        let mut rows = Vec::new();
        for judged in &evaluation.comparisons.judgements {
            for judgement in &judged.judgements {
                for part in &judgement.parts {
                    rows.extend(part.evidence.iter().map(|evidence| (judged, judgement, part, evidence)));
                }
            }
        }
        let variants = &evaluation.selection.variants;
        let index = |name: &str| variants.iter().position(|variant| variant.name == name);
        let index = |name: &str| index(name).expect("evidence names variants of the report");
        self.add(
            "statements.csv",
            &rows,
            |(.., evidence)| index(&evidence.a),
            None,
            |columns| {
                columns
                    .with("other_variant", |(.., evidence)| evidence.b.clone())
                    .with("statement", |(_, judgement, ..)| judgement.statement.number as u64)
                    .with("statement_verdict", |(_, judgement, ..)| judgement.verdict.to_string())
                    .with("condition", |(judged, ..)| judged.condition.clone())
                    .with("scale", |(_, _, part, _)| part.scale)
                    .with("scale_verdict", |(_, _, part, _)| part.verdict.to_string())
                    .with("measure", |(.., evidence)| evidence.measure.clone())
                    .with("n", |(.., evidence)| evidence.paired.difference.n as u64)
                    .with("mean_difference", |(.., evidence)| evidence.paired.difference.mean)
                    .with("ci95_low", |(.., evidence)| Some(evidence.paired.difference.interval?.low))
                    .with("ci95_high", |(.., evidence)| Some(evidence.paired.difference.interval?.high))
                    .with("p_holds", |(.., evidence)| evidence.p_holds)
                    .with("p_contradicts", |(.., evidence)| evidence.p_contradicts)
                    .with("verdict", |(.., evidence)| evidence.verdict.to_string())
                    .with("seeds_needed", |(.., evidence)| evidence.seeds_needed)
            },
        )
    }
}

/// metric, n, mean, sd.
fn over_seeds<'a, R>(columns: Columns<'a, R>, of: impl Fn(&R) -> &MetricSummary) -> Columns<'a, R> {
    columns
        .with("metric", |row| of(row).metric.to_string())
        .with("n", |row| of(row).summary.n as u64)
        .with("mean", |row| of(row).summary.mean)
        .with("sd", |row| of(row).summary.sd)
}

fn csv(frame: &mut DataFrame, decimals: Option<usize>) -> PolarsResult<Vec<u8>> {
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes).with_float_precision(decimals).n_threads(1).finish(frame)?;
    Ok(bytes)
}
