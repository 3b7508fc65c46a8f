//! The tables of a report: CSV, and all values as Parquet. Same numbers, same bytes.

use crate::error::{Error, Result};
use crate::parquet::parquet;
use crate::pictures::{Map, grid_variants, noise_variants, pca_maps, tsne_maps};
use faceoff_evaluation::Evaluation;
use faceoff_evaluation::comparisons::Pair;
use faceoff_evaluation::effects::Effect;
use faceoff_evaluation::selection::{Origin, Variant};
use faceoff_evaluation::tables::{Columns, MetricSummary};
use faceoff_runs::EpochRecord;
use polars::prelude::{CsvWriter, DataFrame, PolarsResult, SerWriter};

/// The bytes of a file.
type Bytes = PolarsResult<Vec<u8>>;

/// Coordinates need no more digits; shorter files.
const COORDINATE_DECIMALS: usize = 5;

/// The tables with their names. External embeddings have no seeds, so there are no tables over them; of other tables those are
/// left out that would be empty.
pub(crate) fn all(evaluation: &Evaluation) -> Result<Vec<(String, Vec<u8>)>> {
    let mut tables = vec![
        ("metrics.csv".to_string(), values(evaluation)),
        ("metrics.parquet".into(), parquet(&evaluation.values)),
        ("explained_variance.csv".into(), explained_variance(evaluation)),
        ("bootstrap.csv".into(), bootstrap(evaluation)),
        ("pca.csv".into(), map(evaluation, &pca_maps(evaluation), &["pc1", "pc2", "pc3"])),
        ("tsne.csv".into(), map(evaluation, &tsne_maps(evaluation), &["x", "y"])),
    ];
    if let Origin::Runs(_) = evaluation.selection.origin {
        tables.extend([
            ("summary.csv".into(), summary(evaluation)),
            ("health.csv".into(), health(evaluation)),
            ("comparisons.csv".into(), comparisons(evaluation)),
            ("choice.csv".into(), choice(evaluation)),
            ("ranks.csv".into(), ranks(evaluation)),
            ("statements.csv".into(), statements(evaluation)),
            ("history.csv".into(), history(evaluation)),
            ("angles.csv".into(), angles(evaluation)),
        ]);
        tables.extend(conditions(evaluation).map(|bytes| ("conditions.csv".into(), bytes)));
        tables.extend(label_noise(evaluation).map(|bytes| ("label_noise.csv".into(), bytes)));
        tables.extend(scale_margin(evaluation).map(|bytes| ("scale_margin.csv".into(), bytes)));
        tables.extend((!evaluation.trials.is_empty()).then(|| ("trials.csv".into(), trials(evaluation))));
        tables.extend(sub_centers(evaluation));
        tables.extend(confusion(evaluation));
    }
    let made = |(table, bytes): (String, Bytes)| match bytes {
        Ok(bytes) => Ok((table, bytes)),
        Err(source) => Err(Error::Table { table, source }),
    };
    tables.into_iter().map(made).collect()
}

fn csv(mut frame: DataFrame, decimals: Option<usize>) -> Bytes {
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes).with_float_precision(decimals).n_threads(1).finish(&mut frame)?;
    Ok(bytes)
}

/// The first columns: variant, head.
fn of_variants<'a, R>(evaluation: &Evaluation, rows: &'a [R], variant: impl Fn(&R) -> usize) -> Columns<'a, R> {
    let of = |row: &R| &evaluation.selection.variants[variant(row)];
    Columns::of(rows).with("variant", |row| of(row).name.clone()).with("head", |row| of(row).head.clone())
}

/// metric, n, mean, sd.
fn over_seeds<'a, 'b>(columns: Columns<'a, &'b MetricSummary>) -> Columns<'a, &'b MetricSummary> {
    columns
        .with("metric", |row| row.metric.to_string())
        .with("n", |row| row.summary.n as u64)
        .with("mean", |row| row.summary.mean)
        .with("sd", |row| row.summary.sd)
}

/// variant, head, seed, metric, value; the Parquet file has the settings of each run too.
fn values(evaluation: &Evaluation) -> Bytes {
    csv(evaluation.values.select(["variant", "head", "seed", "metric", "value"])?, None)
}

/// variant, head, metric, n, mean, sd, ci95_low, ci95_high, health; sd and interval empty for one seed, health for a healthy head.
fn summary(evaluation: &Evaluation) -> Bytes {
    let rows: Vec<&MetricSummary> = evaluation.summaries.iter().collect();
    let columns = over_seeds(of_variants(evaluation, &rows, |row| row.variant))
        .with("ci95_low", |row| Some(row.summary.interval?.low))
        .with("ci95_high", |row| Some(row.summary.interval?.high))
        .with("health", |row| evaluation.health_of(row.variant));
    csv(columns.frame()?, None)
}

/// variant, verdict, found_in, runs, seeds, seen, meaning, remedy: one row a verdict on a variant, found in so many of its runs.
fn health(evaluation: &Evaluation) -> Bytes {
    let columns = Columns::of(&evaluation.health)
        .with("variant", |finding| finding.variant.clone())
        .with("verdict", |finding| finding.verdict.to_string())
        .with("found_in", |finding| finding.seeds.len() as u64)
        .with("runs", |finding| finding.of as u64)
        .with("seeds", |finding| finding.seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(" "))
        .with("seen", |finding| finding.seen.clone())
        .with("meaning", |finding| finding.verdict.meaning())
        .with("remedy", |finding| finding.verdict.remedy());
    csv(columns.frame()?, None)
}

/// variant, head, seed, metric, value, ci95_low, ci95_high; intervals over the images of one run.
fn bootstrap(evaluation: &Evaluation) -> Bytes {
    let mut rows = Vec::new();
    for run in &evaluation.measured {
        rows.extend(run.found.intervals.iter().map(|(metric, interval)| (run, *metric, interval)));
    }
    let columns = of_variants(evaluation, &rows, |(run, ..)| run.variant)
        .with("seed", |(run, ..)| run.seed)
        .with("metric", |(_, metric, _)| metric.to_string())
        .with("value", |(run, metric, _)| run.value(*metric).unwrap_or(f64::NAN))
        .with("ci95_low", |(.., interval)| interval.low)
        .with("ci95_high", |(.., interval)| interval.high);
    csv(columns.frame()?, None)
}

/// The summaries of the metrics that heads are compared by, of these variants.
fn compared<'a>(evaluation: &'a Evaluation, variants: &[usize]) -> Vec<&'a MetricSummary> {
    let compared = |row: &&MetricSummary| evaluation.compared().any(|metric| metric == row.metric);
    evaluation.summaries.iter().filter(|row| variants.contains(&row.variant)).filter(compared).collect()
}

/// variant, head, noise_percent, metric, n, mean, sd.
fn label_noise(evaluation: &Evaluation) -> Option<Bytes> {
    let rows = compared(evaluation, &noise_variants(evaluation));
    let noise = |row: &&MetricSummary| evaluation.selection.variants[row.variant].noise_percent;
    let columns = || over_seeds(of_variants(evaluation, &rows, |row| row.variant).with("noise_percent", noise));
    (!rows.is_empty()).then(|| csv(columns().frame()?, None))
}

/// variant, head, scale, margin, margin_unit, metric, n, mean, sd.
fn scale_margin(evaluation: &Evaluation) -> Option<Bytes> {
    let rows = compared(evaluation, &grid_variants(evaluation));
    let head = |row: &&MetricSummary| evaluation.selection.variants[row.variant].config.as_ref();
    let columns = of_variants(evaluation, &rows, |row| row.variant)
        .with("scale", |row| head(row)?.scale())
        .with("margin", |row| Some(head(row)?.margin()?.value()))
        .with("margin_unit", |row| Some(head(row)?.margin()?.unit()));
    (!rows.is_empty()).then(|| csv(over_seeds(columns).frame()?, None))
}

/// What tuning tried. No runs of this report, so no column of kinds.
fn trials(evaluation: &Evaluation) -> Bytes {
    let columns = Columns::of(&evaluation.trials)
        .with("variant", |trial| trial.head.clone())
        .with("peak_learning_rate", |trial| trial.peak_learning_rate)
        .with("scale", |trial| trial.scale)
        .with("margin", |trial| trial.margin)
        .with("knn_accuracy", |trial| trial.knn_accuracy)
        .with("dnn_accuracy", |trial| trial.dnn_accuracy)
        .with("chosen", |trial| trial.chosen);
    csv(columns.frame()?, None)
}

/// Of more classes than this a table of confusion leaves out what is 0: it would grow with their square.
const WHOLE_CONFUSION: usize = 50;

/// A table of each variant that has a classifier: variant, head, true, predicted, count; all seeds together. Of many classes the counts
/// above 0.
fn confusion(evaluation: &Evaluation) -> impl Iterator<Item = (String, Bytes)> {
    let variants = evaluation.selection.variants.iter().enumerate();
    variants.filter_map(move |(index, Variant { name, classes, .. })| {
        let counts = evaluation.confusion(index)?;
        let whole = classes.len() <= WHOLE_CONFUSION;
        let rows: Vec<_> = counts.indexed_iter().filter(|(_, count)| whole || **count > 0).collect();
        let columns = of_variants(evaluation, &rows, |_| index)
            .with("true", |((truth, _), _)| classes[*truth].clone())
            .with("predicted", |((_, predicted), _)| classes[*predicted].clone())
            .with("count", |(_, count)| **count);
        Some((format!("confusion/{name}.csv"), columns.frame().and_then(|frame| csv(frame, None))))
    })
}

/// variant, head, seed, components_kept, component, ratio, cumulative; ratios of the total variance.
fn explained_variance(evaluation: &Evaluation) -> Bytes {
    let mut rows = Vec::new();
    for run in &evaluation.measured {
        for &kept in &evaluation.components {
            let mut cumulative = 0.0;
            for (index, &ratio) in run.found.shapes.variance_ratios.iter().take(kept).enumerate() {
                cumulative += ratio;
                rows.push((run, [kept, index + 1], [ratio, cumulative]));
            }
        }
    }
    let columns = of_variants(evaluation, &rows, |(run, ..)| run.variant)
        .with("seed", |(run, ..)| run.seed)
        .with("components_kept", |(_, [kept, _], _)| *kept as u64)
        .with("component", |(_, [_, component], _)| *component as u64)
        .with("ratio", |(.., [ratio, _])| *ratio)
        .with("cumulative", |(.., [_, cumulative])| *cumulative);
    csv(columns.frame()?, None)
}

/// variant, head, seed, degrees, images, label_probability: validation images by whole degrees of the angle to their own class
/// weight, and the mean probability of the label there, empty where a run has none.
fn angles(evaluation: &Evaluation) -> Bytes {
    let mut rows = Vec::new();
    for run in &evaluation.measured {
        let Some(shapes) = &run.found.shapes.health else { continue };
        for (degrees, &images) in shapes.own_angles.iter().enumerate().filter(|(_, images)| **images > 0) {
            let bin = shapes.probabilities.iter().find(|bin| bin.0 == degrees);
            rows.push((run, degrees as u64, images, bin.map(|bin| bin.2)));
        }
    }
    let columns = of_variants(evaluation, &rows, |(run, ..)| run.variant)
        .with("seed", |(run, ..)| run.seed)
        .with("degrees", |&(_, degrees, ..)| degrees)
        .with("images", |&(_, _, images, _)| images)
        .with("label_probability", |&(.., probability)| probability);
    csv(columns.frame()?, None)
}

/// Of heads with several weights a class, where there are such. Training images by class trained on and nearest weight: variant,
/// head, seed, class, sub_center, images. Those farthest from the dominant weight: variant, head, seed, id, trained, class, degrees.
fn sub_centers(evaluation: &Evaluation) -> Vec<(String, Bytes)> {
    let runs = || evaluation.measured.iter().filter_map(|run| Some((run, run.found.shapes.sub_centers.as_ref()?)));
    if runs().next().is_none() {
        return Vec::new();
    }
    let class = |variant: usize, label: usize| evaluation.selection.variants[variant].classes.get(label).cloned();
    let (mut counts, mut farthest) = (Vec::new(), Vec::new());
    for (run, shapes) in runs() {
        for (label, of_class) in shapes.counts.iter().enumerate() {
            counts.extend(of_class.iter().enumerate().map(|(center, &images)| (run, label, center as u64, images)));
        }
        farthest.extend(shapes.farthest.iter().map(|image| (run, image)));
    }
    let of_counts = of_variants(evaluation, &counts, |(run, ..)| run.variant)
        .with("seed", |(run, ..)| run.seed)
        .with("class", |&(run, label, ..)| class(run.variant, label))
        .with("sub_center", |&(_, _, center, _)| center)
        .with("images", |&(.., images)| images);
    let of_farthest = of_variants(evaluation, &farthest, |(run, _)| run.variant)
        .with("seed", |(run, _)| run.seed)
        .with("id", |(_, image)| image.id.clone())
        .with("trained", |(run, image)| class(run.variant, image.trained as usize))
        .with("class", |(run, image)| class(run.variant, image.label as usize))
        .with("degrees", |(_, image)| image.degrees);
    let table = |columns: PolarsResult<DataFrame>| columns.and_then(|frame| csv(frame, None));
    vec![("sub_centers.csv".into(), table(of_counts.frame())), ("outliers.csv".into(), table(of_farthest.frame()))]
}

/// A number of an epoch; `None` where the head has no such thing.
type OfEpoch = fn(&EpochRecord) -> Option<f64>;

/// The numbers of an epoch by name, as `history.csv` has them behind epoch and step.
pub(crate) const NUMBERS: [(&str, OfEpoch); 12] = [
    ("train_loss", |record| Some(record.train_loss)),
    ("train_accuracy", |record| record.train_accuracy),
    ("learning_rate", |record| Some(record.learning_rate)),
    ("effective_scale", |record| Some(record.effective_scale)),
    ("own_angle_degrees", |record| record.own_angle_degrees),
    ("other_angle_degrees", |record| record.other_angle_degrees),
    ("beyond_pi_minus_m", |record| record.beyond_pi_minus_m),
    ("margin_active", |record| record.margin_active),
    ("label_probability", |record| record.label_probability),
    ("gradient_norm", |record| record.gradient_norm),
    ("embedding_norm", |record| record.embedding_norm),
    ("class_weight_norm", |record| record.class_weight_norm),
];

/// The histories of all runs below each other.
fn history(evaluation: &Evaluation) -> Bytes {
    let runs = evaluation.selection.runs.iter();
    let rows: Vec<_> = runs.flat_map(|run| run.history.iter().map(move |record| (run, record))).collect();
    let columns = of_variants(evaluation, &rows, |(run, _)| run.variant)
        .with("seed", |(run, _)| run.seed())
        .with("epoch", |(_, record)| record.epoch as u64)
        .with("step", |(_, record)| record.step as u64);
    let columns = NUMBERS.iter().fold(columns, |columns, (name, of)| columns.with(name, |(_, record)| of(record)));
    csv(columns.with("head_state", |(_, record)| record.head_state_text()).frame()?, None)
}

/// variant, head, seed, id, label, class and the coordinates of `axes`: one row a validation image of each variant's first seed.
fn map(evaluation: &Evaluation, maps: &[Map<'_>], axes: &[&str]) -> Bytes {
    let mut rows = Vec::new();
    for (run, images, points) in maps {
        let images = images.ids.iter().zip(&images.labels).zip(points);
        rows.extend(images.map(|((id, &label), point)| (*run, id, label, point)));
    }
    let classes = |variant: usize| &evaluation.selection.variants[variant].classes;
    if let Some((run, _, label, _)) =
        rows.iter().find(|(run, _, label, _)| *label as usize >= classes(run.variant).len())
    {
        let count = classes(run.variant).len();
        let rule = "counted from 0; remove the run and make it again";
        let problem = format!("an image of {} has the label {label}, but there are {count} classes, {rule}", run.run);
        return Err(polars::error::PolarsError::OutOfBounds(problem.into()));
    }
    let columns = of_variants(evaluation, &rows, |(run, ..)| run.variant)
        .with("seed", |(run, ..)| run.seed)
        .with("id", |(_, id, ..)| id.to_string())
        .with("label", |(_, _, label, _)| *label)
        .with("class", |(run, _, label, _)| classes(run.variant)[*label as usize].clone());
    let axes = axes.iter().enumerate();
    let columns = axes.fold(columns, |columns, (axis, name)| columns.with(name, |(.., point)| point[axis]));
    csv(columns.frame()?, Some(COORDINATE_DECIMALS))
}

/// Paired differences over seeds, variant minus other.
fn comparisons(evaluation: &Evaluation) -> Bytes {
    let other = |pair: &Pair| &evaluation.selection.variants[pair.b];
    let columns = of_variants(evaluation, &evaluation.comparisons.pairs, |pair| pair.a)
        .with("other_variant", |pair| other(pair).name.clone())
        .with("other_head", |pair| other(pair).head.clone())
        .with("metric", |pair| pair.metric.to_string())
        .with("n", |pair| pair.test.paired.difference.n as u64)
        .with("mean_difference", |pair| pair.test.paired.difference.mean)
        .with("sd", |pair| pair.test.paired.difference.sd)
        .with("ci95_seeds_low", |pair| Some(pair.test.paired.difference.interval?.low))
        .with("ci95_seeds_high", |pair| Some(pair.test.paired.difference.interval?.high))
        .with("ci95_low", |pair| Some(pair.test.interval()?.low))
        .with("ci95_high", |pair| Some(pair.test.interval()?.high))
        .with("p", |pair| pair.p)
        .with("p_holm", |pair| pair.p_holm)
        .with("cohens_d", |pair| pair.test.paired.cohens_d)
        .with("seeds_needed", |pair| pair.seeds_needed);
    csv(columns.frame()?, None)
}

/// Paired differences over seeds, condition minus reference: of each variant by its name without the
/// condition, and of the mean over several.
fn conditions(evaluation: &Evaluation) -> Option<Bytes> {
    let effects = &evaluation.comparisons.effects;
    let columns = || {
        Columns::of(effects)
            .with("condition", |effect| effect.condition.clone())
            .with("reference", |effect| effect.reference.clone())
            .with("base", |effect| effect_of(evaluation, effect))
            .with("metric", |effect| effect.metric.to_string())
            .with("n", |effect| effect.test.paired.difference.n as u64)
            .with("mean_difference", |effect| effect.test.paired.difference.mean)
            .with("sd", |effect| effect.test.paired.difference.sd)
            .with("ci95_low", |effect| Some(effect.test.interval()?.low))
            .with("ci95_high", |effect| Some(effect.test.interval()?.high))
            .with("p", |effect| effect.p)
            .with("p_holm", |effect| effect.p_holm)
            .with("seeds_needed", |effect| effect.seeds_needed)
    };
    (!effects.is_empty()).then(|| csv(columns().frame()?, None))
}

/// What an effect is of: a head without its condition, or the mean of several.
pub(crate) fn effect_of(evaluation: &Evaluation, effect: &Effect) -> String {
    match effect.pairs[..] {
        [(variant, _)] => evaluation.selection.variants[variant].base.clone(),
        _ => format!("mean of {} heads", effect.pairs.len()),
    }
}

/// The chance that each variant is the best of its condition, and what choosing it costs.
fn choice(evaluation: &Evaluation) -> Bytes {
    let columns = of_variants(evaluation, &evaluation.comparisons.choices, |choice| choice.variant)
        .with("metric", |choice| choice.metric.to_string())
        .with("n", |choice| choice.seeds as u64)
        .with("mean", |choice| choice.mean)
        .with("probability_best", |choice| choice.probability_best)
        .with("expected_regret", |choice| choice.expected_regret);
    csv(columns.frame()?, None)
}

/// Mean ranks over the seeds that all variants have.
fn ranks(evaluation: &Evaluation) -> Bytes {
    let mut rows = Vec::new();
    for ranks in &evaluation.comparisons.ranks {
        let of = ranks.variants.iter().zip(&ranks.test.average_ranks);
        rows.extend(of.map(|(&variant, &rank)| (ranks, variant, rank)));
    }
    let columns = of_variants(evaluation, &rows, |&(_, variant, _)| variant)
        .with("metric", |(ranks, ..)| ranks.metric.to_string())
        .with("seeds", |(ranks, ..)| ranks.seeds as u64)
        .with("average_rank", |&(.., rank)| rank)
        .with("critical_difference", |(ranks, ..)| ranks.test.critical_difference);
    csv(columns.frame()?, None)
}

/// Every comparison behind the verdicts on the article's statements, variant minus other.
fn statements(evaluation: &Evaluation) -> Bytes {
    let mut rows = Vec::new();
    for judged in &evaluation.comparisons.judgements {
        for judgement in &judged.judgements {
            for part in &judgement.parts {
                rows.extend(part.evidence.iter().map(|evidence| (judged, judgement, part, evidence)));
            }
        }
    }
    let index = |name: &str| evaluation.selection.variants.iter().position(|variant| variant.name == name);
    let index = |name: &str| index(name).expect("evidence names variants of the report");
    let columns = of_variants(evaluation, &rows, |(.., evidence)| index(&evidence.a))
        .with("other_variant", |(.., evidence)| evidence.b.clone())
        .with("statement", |(_, judgement, ..)| judgement.statement.number as u64)
        .with("statement_verdict", |(_, judgement, ..)| judgement.verdict.to_string())
        .with("condition", |(judged, ..)| judged.condition.clone())
        .with("setting", |(_, _, part, _)| part.setting.map(|setting| setting.to_string()))
        .with("setting_verdict", |(_, _, part, _)| part.verdict.to_string())
        .with("measure", |(.., evidence)| evidence.measure)
        .with("n", |(.., evidence)| evidence.test.paired.difference.n as u64)
        .with("mean_difference", |(.., evidence)| evidence.test.paired.difference.mean)
        .with("ci95_low", |(.., evidence)| Some(evidence.test.interval()?.low))
        .with("ci95_high", |(.., evidence)| Some(evidence.test.interval()?.high))
        .with("p_holds", |(.., evidence)| evidence.p_holds)
        .with("p_contradicts", |(.., evidence)| evidence.p_contradicts)
        .with("verdict", |(.., evidence)| evidence.verdict.to_string());
    csv(columns.frame()?, None)
}
