//! The model card of a trained run, in the shape of Hugging Face's: what it is, what it was trained on and how, how good it is, how it is used.

use crate::search::recommended;
use crate::trained::Trained;
use anyhow::{Context, Result};
use askama::Template;
use faceoff_analysis::statistics::summary;
use faceoff_evaluation::health::{RunHealth, judge};
use faceoff_evaluation::measured::Findings;
use faceoff_evaluation::{MetricId, Registry, Unit, recorded};
use faceoff_heads::HeadInfo;
use faceoff_runs::{EpochRecord, RunFolder, list_runs};
use faceoff_training::EncoderPlan;

/// What stands in the table of results, as far as it was measured.
const METRICS: [&str; 12] = [
    "dnn_accuracy",
    "dnn_macro_accuracy",
    "knn_accuracy_k5",
    "knn_macro_accuracy_k5",
    "nearest_center_accuracy",
    "map_at_r",
    "verification_auc",
    "equal_error_rate",
    "tar_at_far_1e-2",
    "calibration_error",
    "open_set_auroc_nearest_neighbor",
    "oscr_nearest_neighbor",
];
/// Classes that are named one by one.
const NAMED: usize = 100;

/// A row of the results.
struct Row {
    title: String,
    value: String,
    images: String,
    seeds: String,
    meaning: String,
}

/// A metric in the front matter.
struct Indexed {
    id: String,
    name: String,
    value: f64,
}

#[derive(Template)]
#[template(path = "MODEL_CARD.md", escape = "none")]
struct Card {
    title: String,
    name_json: String,
    dataset_json: String,
    dataset_title_json: String,
    head_json: String,
    encoder_json: String,
    indexed: Vec<Indexed>,
    run: String,
    experiment: String,
    version: String,
    commit: String,
    head: String,
    head_summary: String,
    head_formula: String,
    head_paper: String,
    encoder: String,
    dim: usize,
    takes_images: bool,
    size: usize,
    shorter: u32,
    dataset: String,
    synthetic: bool,
    train_images: usize,
    val_images: usize,
    classes: usize,
    named: String,
    held_out: bool,
    fingerprint: String,
    archive_md5: Option<String>,
    notes: Vec<String>,
    recipe: Vec<(&'static str, String)>,
    rows: Vec<Row>,
    seeds: usize,
    unmeasured: Option<String>,
    verdicts: Vec<String>,
    threshold: Option<(String, String, String)>,
    onnx: Option<String>,
    scores: bool,
    weights: String,
    finished: Option<String>,
    machine: String,
}

/// Text for people that stands in Markdown: nothing in it is markup.
fn plain(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' | '~' | '$' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Text in quotes, which YAML reads as JSON does.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A run with what was measured of it.
struct Measured {
    found: Result<Findings, String>,
    history: Vec<EpochRecord>,
    seed: u64,
}

fn measured(folder: &RunFolder, registry: &Registry) -> Result<Measured> {
    let (run, found) = recorded(folder, registry)?;
    Ok(Measured { seed: run.seed(), history: run.history, found })
}

/// The whole runs beside this one that differ from it by their seed alone, itself among them.
fn of_all_seeds(trained: &Trained, registry: &Registry) -> Result<Vec<Measured>> {
    let path = trained.folder.path().canonicalize().context("the run's folder cannot be found")?;
    let beside = path.parent().and_then(|runs| runs.parent()).map(list_runs).transpose()?.unwrap_or_default();
    let mut spec = trained.manifest.spec.clone();
    let mut all = Vec::new();
    for run in beside.iter().filter(|run| run.is_whole()) {
        // A run that is damaged is not this one, which was read, and says nothing of it.
        let Ok(manifest) = run.manifest() else { continue };
        (spec.seed, spec.training.seeds) = (manifest.spec.seed, manifest.spec.training.seeds.clone());
        let same = spec.differences(&manifest.spec).iter().all(|difference| difference.is_compute());
        if same && manifest.data.fingerprint == trained.manifest.data.fingerprint {
            all.extend(measured(run, registry));
        }
    }
    Ok(all)
}

/// The card of a run; `onnx` is the name of the file that it lies beside, and whether that has scores.
///
/// # Errors
/// A run that is damaged.
pub(crate) fn card(trained: &Trained, onnx: Option<(&str, bool)>) -> Result<String> {
    let registry = Registry::standard();
    let manifest = &trained.manifest;
    let (spec, data, recipe) = (&manifest.spec, &manifest.data, &manifest.spec.training);
    let own = measured(&trained.folder, &registry)?;
    let all = of_all_seeds(trained, &registry)?;
    let head = &spec.variant.head;
    let info = HeadInfo::find(head.kind())?;
    let plan = EncoderPlan::of(recipe)?;
    let parameters = head.parameters().map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ");

    let (mut rows, mut indexed) = (Vec::new(), Vec::new());
    if let Ok(found) = &own.found {
        for name in METRICS {
            let metric = registry.parse(name)?;
            let Some(value) = found.value(metric) else { continue };
            rows.push(row(metric, value, found, &all));
            indexed.push(Indexed { id: quoted(name), name: quoted(&metric.title()), value });
        }
    }
    let health = all.iter().filter_map(|run| {
        let found = run.found.as_ref().ok()?;
        Some(RunHealth::of(&spec.variant.name, run.seed, found, &run.history, &data.classes))
    });
    let mut health: Vec<RunHealth> = health.collect();
    if let (true, Ok(found)) = (health.is_empty(), &own.found) {
        health.push(RunHealth::of(&spec.variant.name, own.seed, found, &own.history, &data.classes));
    }
    let verdicts = judge(&health).into_iter().map(|finding| {
        let (verdict, seen) = (finding.short(), plain(&finding.seen));
        format!("**{verdict}**: {seen} {} {}", finding.verdict.meaning(), plain(finding.verdict.remedy()))
    });
    let threshold = own.found.as_ref().ok().map(recommended).transpose()?.flatten();
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let more = data.classes.len().saturating_sub(NAMED);
    let names = data.classes.iter().take(NAMED).map(|name| plain(name)).collect::<Vec<_>>().join(", ");
    let takes_images = matches!(plan, EncoderPlan::ResNet(_));
    let card = Card {
        title: plain(&trained.name()),
        name_json: quoted(&trained.name()),
        dataset_json: quoted(&data.name),
        dataset_title_json: quoted(&data.title),
        head_json: quoted(&head.kind().to_lowercase()),
        encoder_json: quoted(if takes_images { &recipe.encoder } else { "projection" }),
        indexed,
        run: plain(&trained.name()),
        experiment: plain(&manifest.experiment),
        version: manifest.version.clone(),
        commit: manifest.commit.clone(),
        head: head.kind().into(),
        head_summary: plain(info.summary.trim_end_matches('.')),
        head_formula: info.formula.into(),
        head_paper: plain(info.paper),
        encoder: if takes_images {
            recipe.encoder.clone()
        } else {
            "a projection of another model's embeddings".into()
        },
        dim: plan.dim(),
        takes_images,
        size: spec.data.image_size_px,
        shorter: trained.shorter_side_px(),
        dataset: plain(&data.title),
        synthetic: data.synthetic,
        train_images: data.train_images,
        val_images: data.val_images,
        classes: data.classes.len(),
        named: if more > 0 { format!("{names} and {more} more") } else { names },
        held_out: trained.classes().is_none(),
        fingerprint: data.fingerprint.clone(),
        archive_md5: data.archive_md5.clone(),
        notes: data.notes.iter().map(|note| plain(note)).collect(),
        recipe: vec![
            (
                "encoder",
                match (takes_images, recipe.blur_pool) {
                    (true, true) => format!("{}, maps smoothed before they are halved (BlurPool)", recipe.encoder),
                    (true, false) => recipe.encoder.clone(),
                    (false, _) => "projection".into(),
                },
            ),
            ("starts from", plain(recipe.encoder_init.as_deref().unwrap_or("random weights"))),
            (
                "head",
                if parameters.is_empty() {
                    head.kind().into()
                } else {
                    format!("{}: {}", head.kind(), plain(&parameters))
                },
            ),
            ("image size", if takes_images { format!("{0} x {0} px", spec.data.image_size_px) } else { "-".into() }),
            ("epochs", recipe.epochs.to_string()),
            ("batch", format!("{} images", recipe.batch_size)),
            (
                "optimiser",
                format!(
                    "AdamW, one cycle, peak learning rate {}, weight decay {}",
                    recipe.peak_learning_rate, recipe.weight_decay
                ),
            ),
            ("label noise", format!("{} %", spec.data.label_noise_percent)),
            ("seed", spec.seed.to_string()),
            ("computed by", spec.compute.to_string()),
        ],
        rows,
        seeds: all.iter().filter(|run| run.found.is_ok()).count(),
        unmeasured: own.found.as_ref().err().map(|why| plain(why)),
        verdicts: verdicts.collect(),
        threshold: threshold.map(|(value, [accept, reject])| (format!("{value:.4}"), percent(accept), percent(reject))),
        onnx: onnx.map(|(name, _)| quoted(name)),
        scores: onnx.is_some_and(|(_, scores)| scores),
        weights: trained.checksum.clone(),
        finished: manifest.finished.clone(),
        machine: plain(&format!("{}, {}", manifest.machine.cpu, manifest.machine.system)),
    };
    Ok(card.render().context("the model card cannot be written")? + "\n")
}

fn row(metric: MetricId, value: f64, found: &Findings, all: &[Measured]) -> Row {
    let unit = if metric.metric().unit == Unit::Percent { " %" } else { "" };
    let span = |low: f64, high: f64| format!("{} to {}{unit}", metric.format(low), metric.format(high));
    let values: Vec<f64> = all.iter().filter_map(|run| run.found.as_ref().ok()?.value(metric)).collect();
    let over = (values.len() > 1).then(|| summary(&values).ok()).flatten();
    // Every one of these metrics lies between 0 and 1, and so do the report's intervals.
    let over = over.and_then(|over| Some((over.mean, over.interval?)));
    Row {
        title: metric.title(),
        value: format!("{}{unit}", metric.format(value)),
        images: found.interval(metric).map_or("-".into(), |of| span(of.low, of.high)),
        seeds: over.map_or("-".into(), |(mean, of)| {
            format!("{}{unit} ({})", metric.format(mean), span(of.low.max(0.0), of.high.min(1.0)))
        }),
        meaning: plain(&metric.sentence()),
    }
}
