//! `benchmark`: check everything, then train every run, embed, and write the report.

use crate::options::{Seeds, ShardOption, TrainingArgs, shard};
use crate::report::ShownArgs;
use crate::session::{Completed, Session, adapted, counted, lock_report, note_own_images, threads};
use crate::{Program, jobs, report, use_threads, with_causes};
use anyhow::{Result, bail};
use clap::Args;
use faceoff_data::{Preview, expected_images, preview, profile};
use faceoff_evaluation::Registry;
use faceoff_evaluation::measured::{Points, Subject, ValImages, lay_out, measure};
use faceoff_pipeline::{EMBEDDING_WORK, Error, keeps_scores};
use faceoff_runs::{AnalysisConfig, Compute, Experiment, RunFolder, RunSpec, digest_of_ended, write_atomically};
use faceoff_training::{EncoderPlan, StepSeconds, made_up_batch, time_steps, time_training};
use ndarray::Array2;
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::time::Instant;

/// Classes of the data sets that are known by name.
const KNOWN_CLASSES: usize = 10;
/// Weights and two moments in the checkpoint of the run at hand, and in its successor while that is written.
const WEIGHTS_IN_CHECKPOINTS: u64 = 6;
/// The average of the weights in both, where there is one.
const AVERAGES_IN_CHECKPOINTS: u64 = 2;

/// In the report's folder: which runs a benchmark's report is of, so that processes that worked on them together make it once.
const REPORTED: &str = ".faceoff-reported";

/// What to compare, and how.
#[derive(Args)]
pub struct BenchmarkArgs {
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    shown: ShownArgs,
    /// Seeds instead of the experiment's: numbers and ranges like 0-4, 0..5 (without its end) or 0..=4, separated by commas.
    #[arg(long, value_name = "SEED,...")]
    seeds: Option<Seeds>,
    /// Train again, and replace, what was made with another configuration or other images, is damaged or has failed.
    #[arg(long)]
    force: bool,
    /// Only every N-th run from the I-th on, counted from 0: one part of several, each on a machine of its own. The report is made by
    /// whoever finds all runs there [default: that of a Slurm array, from SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT]
    #[arg(long, value_name = "I/N")]
    shard: Option<ShardOption>,
    /// Processes that share the runs on this machine, each with its part of the threads: faster than one with all of them, and each takes
    /// the memory of a run.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64), conflicts_with = "dry_run")]
    jobs: u16,
    /// Started by --jobs: makes no report, and ends with its standard input.
    #[arg(long, hide = true)]
    worker: bool,
    /// Only fetch, check and decode the images, so that no training has to wait for them. The other options may be those of the runs.
    #[arg(long, conflicts_with_all = ["dry_run", "shard", "open", "report"])]
    prepare: bool,
    /// Only make the report of what is there, with the other options as the runs had them.
    #[arg(long, conflicts_with_all = ["dry_run", "shard"])]
    report: bool,
    /// Only say what would be done: runs, estimated hours, disk.
    #[arg(long, conflicts_with = "shard")]
    dry_run: bool,
}

impl BenchmarkArgs {
    /// The experiment with what the command line says instead.
    pub(crate) fn experiment(&self, program: &Program) -> Result<Experiment> {
        self.training.experiment(program, self.seeds.clone().map(|seeds| seeds.0))
    }
}

pub(crate) fn run(program: &Program, args: &BenchmarkArgs) -> Result<ExitCode> {
    use_threads(args.training.threads)?;
    let mut experiment = args.experiment(program)?;
    let (session, shard) = match args.prepare || args.report {
        true => (Session::without_device(program, &args.training, &experiment)?, None),
        false => (Session::new(program, &args.training, &experiment)?, shard(args.shard)?),
    };
    if args.dry_run {
        return dry_run(program, experiment, args, &session);
    }
    session.hear_ctrl_c(args.worker)?;
    let mut images = match session.open_images(&experiment) {
        Err(Error::Data(error)) if experiment.data.synthetic_fallback && error.is_unavailable() => {
            eprintln!("warning: {}", with_causes(&error.into()));
            experiment = experiment.on_synthetic();
            let name = &experiment.name;
            eprintln!(
                "warning: going on with SYNTHETIC images as experiment `{name}`: its numbers say nothing about real images"
            );
            session.open_images(&experiment)?
        }
        other => other?,
    };
    experiment = session.adapted(experiment, &mut images)?;
    let folder = args.training.out.report_folder(program, &experiment.name);
    // What a killed report left is cleared away, and a folder that cannot be written is known before hours are spent.
    drop(lock_report(&folder)?);
    if args.prepare {
        note_own_images(&experiment, &images, &folder)?;
        println!("the images of `{}` are ready", experiment.name);
        return Ok(ExitCode::SUCCESS);
    }
    let write_report = || report::write(program, &folder, &experiment, &args.shown, args.training.source(program));
    if args.report {
        let _lock = lock_report(&folder)?;
        write_report()?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut failed_jobs = 0;
    if args.jobs > 1 {
        failed_jobs = jobs::run(args.jobs.into(), &session)?;
        if let Some(status) = session.stopped() {
            return Ok(status);
        }
    }
    // What they leave, by a kill or otherwise, is done here; `force` was theirs.
    let force = args.force && args.jobs == 1;
    let completed = session.complete(&experiment, &images, &folder, force, shard, true);
    // Runs of other images or another experiment, which are refused, keep what says so beside them.
    if !completed.as_ref().is_err_and(|error| matches!(error.downcast_ref(), Some(Error::OtherRuns(_)))) {
        note_own_images(&experiment, &images, &folder)?;
    }
    let (failed, shared) = match completed {
        Ok(Completed::Ended { failed, shared, worked }) => (failed, shared || shard.is_some() && worked),
        Ok(Completed::Stopped(status)) => return Ok(status),
        Err(error) => {
            // What ended one run takes nothing from the report of the others.
            let of_run = error.downcast_ref().is_some_and(|error| matches!(error, Error::Run(..)));
            if of_run && shard.is_none() && !args.worker {
                let _lock = lock_report(&folder)?;
                if let Err(error) = write_report() {
                    eprintln!("warning: there is no report of the other runs: {}", with_causes(&error));
                }
            }
            return Err(error);
        }
    };
    if args.worker {
        return Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    let specs = RunSpec::of(&experiment, &Compute::unknown());
    let ended = digest_of_ended(specs.iter().map(|spec| RunFolder::new(&folder, spec)));
    let name = &experiment.name;
    if shard.is_some() && ended.is_none() {
        let runs = specs.len();
        eprintln!(
            "{name}: this shard is done; who finds all {runs} runs ended makes the report, and the command `report` one of what is there"
        );
    } else {
        let _lock = lock_report(&folder)?;
        let reported = folder.join(REPORTED);
        let page = folder.join("index.html");
        let by_another = || page.exists() && std::fs::read_to_string(&reported).is_ok_and(|runs| Some(runs) == ended);
        if shared && !args.shown.asks_for_more() && by_another() {
            println!("the report of all runs was written by another process\nopen {}", page.display());
        } else {
            write_report()?;
            if let Some(ended) = &ended {
                write_atomically(&reported, |file| file.write_all(ended.as_bytes()))?;
            }
        }
    }
    if failed > 0 {
        eprintln!("{failed} runs are damaged or failed; the report names them");
        return Ok(ExitCode::FAILURE);
    }
    Ok(if failed_jobs > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Says what would be done. The speed comes from a few real steps on made-up pixels.
fn dry_run(program: &Program, experiment: Experiment, args: &BenchmarkArgs, session: &Session) -> Result<ExitCode> {
    let profile = profile(&experiment.data.dataset)?;
    let source = args.training.source(program);
    let own = experiment.data.own.is_some().then(|| preview(&experiment.data, &source)).transpose()?;
    let (experiment, [train_images, val_images]) = match &own {
        Some(Preview { sizes, remarks, .. }) => {
            remarks.iter().for_each(|remark| eprintln!("warning: {remark}"));
            (adapted(experiment, sizes)?.0, [sizes.train_images, sizes.val_images])
        }
        None => {
            let limit = experiment.data.images_per_split.unwrap_or(usize::MAX);
            let images = expected_images(&experiment.data, &source)?.map(|images| images.min(limit));
            (experiment, images)
        }
    };
    let experiment = &experiment;
    if experiment.training.batch_size > train_images {
        let batch = experiment.training.batch_size;
        bail!(
            "training.batch_size is {batch}, but there are {train_images} training images; a smaller batch is needed for a step"
        );
    }
    let specs = RunSpec::of(experiment, &Compute::unknown());
    let plan = EncoderPlan::of(&experiment.training)?;
    // What embedding costs, in training images.
    let embedded = EMBEDDING_WORK * (train_images + val_images) as f64;
    let images = |spec: &RunSpec| [(spec.training.epochs * train_images) as f64, embedded];
    // Images and seconds of each run: of an encoder that sees images its head takes next to nothing, beside a projection it does.
    let runs: Vec<(f64, f64)> = match plan {
        EncoderPlan::ResNet(_) => {
            let full_px = experiment.data.image_size_px;
            let weights = plan.initial(&experiment.training, 0)?;
            // Seconds of an image, by whether the encoder smooths maps, and by the image's side.
            let mut seconds: BTreeMap<(bool, usize), f64> = BTreeMap::new();
            for RunSpec { training, .. } in &specs {
                let sides = training.sides_px(full_px).into_iter().map(|(side_px, _)| side_px).chain([full_px]);
                let new: BTreeSet<usize> =
                    sides.filter(|&side_px| !seconds.contains_key(&(training.blur_pool, side_px))).collect();
                if new.is_empty() {
                    continue;
                }
                let mut encoder = EncoderPlan::of(training)?.build(&weights, &session.arithmetic)?;
                for side_px in new {
                    let batch = made_up_batch(training.batch_size, side_px)?;
                    let times = time_steps(encoder.as_mut(), &batch, 2)?;
                    let image = fastest(times.iter().map(StepSeconds::step)) / batch.count() as f64;
                    seconds.insert((training.blur_pool, side_px), image);
                }
            }
            let run = |spec: &RunSpec| {
                let [trained, embedded] = images(spec);
                let of_side = |side_px: usize| seconds[&(spec.training.blur_pool, side_px)];
                let sides = spec.training.sides_px(full_px);
                let image: f64 = sides.iter().map(|&(side_px, share)| share * of_side(side_px)).sum();
                (trained + embedded, trained * image + embedded * of_side(full_px))
            };
            specs.iter().map(run).collect()
        }
        EncoderPlan::Projection(_) => {
            let classes = own.as_ref().map_or(2, |own| own.sizes.classes);
            let mut of_variant: BTreeMap<&str, f64> = BTreeMap::new();
            for spec in specs.iter().filter(|spec| spec.seed == specs[0].seed) {
                match time_training(spec, classes, &session.arithmetic, 5) {
                    Ok(times) => {
                        of_variant.insert(&spec.variant.name, fastest(times) / spec.training.batch_size as f64);
                    }
                    // As in a benchmark: such runs are named and left out, the others go on.
                    Err(error) => eprintln!("warning: {} cannot be trained: {error}", spec.variant.name),
                }
            }
            let run = |spec: &RunSpec| {
                let all: f64 = images(spec).iter().sum();
                Some((all, all * of_variant.get(spec.variant.name.as_str())?))
            };
            specs.iter().filter_map(run).collect()
        }
    };
    if runs.is_empty() {
        bail!("no head of `{}` can be trained on these data; see above, and name others with --heads", experiment.name);
    }
    let (all, training) = runs.iter().fold((0.0, 0.0), |sum, run| (sum.0 + run.0, sum.1 + run.1));
    let per_second = all / training;
    let classes = own.as_ref().map_or(KNOWN_CLASSES, |own| own.sizes.classes);
    let [measuring, mapping] = report_seconds([train_images, val_images], classes, plan.dim(), &experiment.analysis);
    // Maps are of the first seed of each.
    let mapped = runs.len().div_ceil(experiment.training.seeds.len().max(1));
    let report = runs.len() as f64 * measuring + mapped as f64 * mapping;
    let hours = (training + report) / 3600.0;

    println!("experiment  {}: {}", experiment.name, experiment.description);
    if let (Some(Preview { sizes, .. }), Some(data)) = (&own, &experiment.data.own) {
        let rows = experiment.training.projection.and_then(|projection| projection.inputs);
        let what = if rows.is_some() { "rows      " } else { "images    " };
        let wide = rows.map_or(String::new(), |inputs| format!(" of {inputs} numbers"));
        println!(
            "{what}  {}{wide}: {train_images} to train and {val_images} to validate, {} classes, the smallest of {} training images",
            data.name, sizes.classes, sizes.smallest_class
        );
        println!("batch       {} images", experiment.training.batch_size);
    }
    println!("device      {}, {}", session.arithmetic, threads());
    let (heads, conditions) = (experiment.heads.len(), experiment.conditions.len().max(1));
    let seeds = experiment.training.seeds.len();
    let factors = [counted(heads, "head"), counted(conditions, "condition"), counted(seeds, "seed")];
    println!("runs        {} ({})", specs.len(), factors.join(" x "));
    let folder = args.training.out.report_folder(program, &experiment.name);
    for spec in &specs {
        println!("            {}", RunFolder::new(&folder, spec).path().display());
    }
    let minutes = (60.0 * hours).round().max(1.0);
    let time = if hours < 1.0 { counted(minutes as usize, "minute") } else { format!("{hours:.1} hours") };
    println!(
        "time        about {time}: {:.1} minutes of training at {per_second:.0} images/s, {:.1} of the report",
        training / 60.0,
        report / 60.0
    );
    let sizes = own.as_ref().map(|own| own.sizes);
    let [compared, classes] = sizes.map_or([train_images, KNOWN_CLASSES], |sizes| [sizes.compared, sizes.classes]);
    // An embedding for each image, scores and logits where they are kept.
    let scored = val_images + if keeps_scores(compared, classes) { compared } else { 0 };
    let numbers = (compared + val_images) * plan.dim() + scored * 2 * classes;
    let of_run = plan.bytes() + (numbers * size_of::<f32>()) as u64;
    let averages = specs.iter().any(|spec| spec.training.ema.is_some());
    let in_checkpoints = WEIGHTS_IN_CHECKPOINTS + if averages { AVERAGES_IN_CHECKPOINTS } else { 0 };
    let results = (runs.len() as u64 * of_run + in_checkpoints * plan.bytes()) >> 20;
    let images = match (&own, profile.disk_mib) {
        (Some(_), _) if experiment.data.is_embeddings() => String::new(),
        (Some(Preview { decoded_bytes: Some(bytes), .. }), _) => {
            format!(", {} MiB of decoded images in data/", (bytes >> 20) + 1)
        }
        (Some(_), _) => {
            ", none of decoded images: they are too many to be kept, and decoded anew in every epoch".into()
        }
        (None, 0) => String::new(),
        (None, mib) => format!(", {mib} MiB of images in data/"),
    };
    println!("disk        about {results} MiB of results{images}");
    println!("nothing was done");
    Ok(ExitCode::SUCCESS)
}

fn fastest(seconds: impl IntoIterator<Item = f64>) -> f64 {
    seconds.into_iter().fold(f64::MAX, f64::min)
}

/// About how long a run takes in the report to be measured, and to be mapped, from some made-up embeddings. What it takes to measure is
/// part of it in proportion to images, part to pairs of them: two sizes tell how much.
fn report_seconds([train, val]: [usize; 2], classes: usize, dim: usize, settings: &AnalysisConfig) -> [f64; 2] {
    const SAMPLE: [usize; 2] = [600, 300];
    // Some images of each: of more classes the time of those that fit is said, which is too short for the probe and k-means.
    let classes = classes.clamp(2, SAMPLE[1] / 3);
    let made_up = |count: usize| {
        let labels: Vec<u32> = (0..count).map(|index| (index % classes) as u32).collect();
        let mut points = Array2::from_shape_fn((count, dim), |(row, column)| {
            let (class, noise) = (row % classes, (row * 7919 + column * 104_729) % 1009);
            noise as f32 / 1009.0 + if column % classes == class { 1.0 } else { 0.0 }
        });
        points.rows_mut().into_iter().for_each(|mut row| {
            let norm = row.dot(&row).sqrt();
            row /= norm;
        });
        (points, labels)
    };
    let measured = |[train, val]: [usize; 2]| {
        let [(index_points, index_labels), (query_points, query_labels)] = [train, val].map(made_up);
        let subject = Subject {
            index: Some(Points { unit: index_points.view(), labels: &index_labels }),
            queries: Points { unit: query_points.view(), labels: &query_labels },
            classifier: None,
            held_out: None,
            classes,
            seed: 0,
            settings,
        };
        let started = Instant::now();
        measure(&subject, &Registry::standard());
        started.elapsed().as_secs_f64()
    };
    let [once, twice] = [1, 2].map(|times| measured(SAMPLE.map(|images| times * images)));
    // once = linear + quadratic, twice = 2 linear + 4 quadratic.
    let quadratic = (0.5 * twice - once).clamp(0.0, once);
    let linear = once - quadratic;
    let images = (train + val) as f64 / SAMPLE.iter().sum::<usize>() as f64;
    let pairs = (val * (train + val)) as f64 / (SAMPLE[1] * SAMPLE.iter().sum::<usize>()) as f64;

    let mapped = val.min(settings.tsne_most_points.unwrap_or(usize::MAX));
    let (points, labels) = made_up(mapped.min(SAMPLE[1]));
    let ids = (0..labels.len()).map(|index| index.to_string()).collect();
    let started = Instant::now();
    lay_out(points.view(), ValImages { ids, labels }, settings);
    let map = started.elapsed().as_secs_f64() * mapped as f64 / points.nrows().max(1) as f64;
    [linear * images + quadratic * pairs, map]
}
