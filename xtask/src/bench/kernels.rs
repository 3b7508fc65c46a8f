//! `cargo xtask bench kernels`: how fast the encoder trains and embeds on this machine's CPU, and where the time goes.

use super::{median, peak_memory_mib, write_json};
use anyhow::Result;
use clap::Args;
use faceoff::{COMMIT, KERNELS_VARIABLE, Program, plain_table, use_threads};
use faceoff_data::{Dataset, ImageSource};
use faceoff_kernels::resnet::RESNET18;
use faceoff_kernels::{Arithmetic, Operator, encoder, operators};
use faceoff_pipeline::describe_machine;
use faceoff_runs::Precision;
use faceoff_training::{StepSeconds, initial_encoder, made_up_batch, time_health, time_steps};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// The experiment whose augmentation is timed, on its synthetic images.
const EXPERIMENT: &str = "quick";
/// The experiment whose heads are watched.
const ALL_HEADS: &str = "heads-all";

/// What to time.
#[derive(Args)]
pub(crate) struct KernelsArgs {
    /// Side of the images in pixels.
    #[arg(long, value_name = "PX", default_value_t = 64, value_parser = clap::value_parser!(u16).range(16..=1024))]
    image_size: u16,
    /// Images a step.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Precision: f32 or bf16.
    #[arg(long, value_name = "NAME", default_value = "f32")]
    precision: Precision,
    /// Kernels: avx512, avx2, neon, portable or candle, in bf16 amx, avx512bf16 or emulated; the fastest of the machine unless stated.
    #[arg(long, alias = "path", env = KERNELS_VARIABLE, hide_env_values = true, value_name = "NAME")]
    kernels: Option<String>,
    /// How often each is timed; the median counts.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeats: u16,
    /// With BlurPool (`blur_pool = true`).
    #[arg(long)]
    blur_pool: bool,
    /// The step and the embedding alone, without operators and data.
    #[arg(long)]
    step_only: bool,
    /// Threads for everything; all processors unless stated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Also write the numbers to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Times the step, the embedding, the operators and the images' way, prints tables.
pub(crate) fn run(program: &Program, args: &KernelsArgs) -> Result<ExitCode> {
    use_threads(args.threads)?;
    let arithmetic = Arithmetic::on_cpu_in(args.kernels.as_deref(), args.precision.as_str())?;
    let (size_px, count, repeats) = (args.image_size.into(), usize::from(args.batch), args.repeats.into());
    let batch = made_up_batch(count, size_px)?;
    let architecture = RESNET18.with_blur_pool(args.blur_pool);
    let mut encoder = encoder(&architecture, &initial_encoder(&RESNET18, 0)?, &arithmetic)?;
    let steps = time_steps(encoder.as_mut(), &batch, repeats)?;
    drop(encoder);
    // Before anything else takes memory.
    let peak_rss_mib = peak_memory_mib();
    let part = |of: fn(&StepSeconds) -> f64| median(&steps.iter().map(of).collect::<Vec<_>>());
    let (step, forward, backward) = (part(StepSeconds::step), part(|s| s.forward), part(|s| s.backward));
    let (optimizer, embed) = (part(|s| s.optimizer), part(|s| s.embed));

    let (kernels, threads) = (arithmetic.kernels_name(), rayon::current_num_threads());
    println!(
        "{size_px} px, batch {count}, {}, {kernels} on {threads} threads, median of {repeats}",
        args.precision.as_str()
    );
    let mut table = plain_table(&["", "ms", "images/s"]);
    let parts = [("  forward", forward), ("  backward", backward), ("  optimizer", optimizer)];
    for (name, seconds) in [("step", step)].into_iter().chain(parts).chain([("embedding", embed)]) {
        table.add_row([name.into(), format!("{:.1}", seconds * 1e3), format!("{:.0}", count as f64 / seconds)]);
    }
    println!("{table}");
    if let Some(memory) = peak_rss_mib {
        println!("peak memory {memory:.0} MiB");
    }

    let (mut data_seconds, mut peak, mut timed) = (None, None, Vec::new());
    if !args.step_only {
        let seconds = data_seconds_of(program, size_px, count)?;
        let (head, watched) = dearest_health(program, count, repeats)?;
        let share = 100.0 * watched / step;
        println!("the health of a head takes {:.2} ms of a step at most ({head}), {share:.2} % of it", watched * 1e3);
        println!("a batch of augmented images takes {:.1} ms when nothing else runs", seconds * 1e3);
        data_seconds = Some(seconds);
        if let Some((operators, mut floor)) = operators(&architecture, &arithmetic, size_px, count) {
            let gflops = floor.flop / seconds_of(&mut floor, repeats) * 1e-9;
            for mut operator in operators {
                let seconds = seconds_of(&mut operator, repeats);
                timed.push((operator, seconds));
            }
            println!("{}", operator_table(&timed, gflops));
            let how = "convolutions count as direct ones";
            println!("matrix products from the first-level cache: {gflops:.0} GFLOP/s; {how}");
            peak = Some(gflops);
        }
    }
    if let Some(path) = &args.json {
        let numbers = json!({
            "machine": describe_machine(),
            "commit": COMMIT,
            "path": kernels,
            "precision": args.precision.as_str(),
            "image_size_px": size_px,
            "batch": count,
            "blur_pool": args.blur_pool,
            "step": {
                "images_per_second": count as f64 / step,
                "seconds": step,
                "forward_seconds": forward,
                "backward_seconds": backward,
                "optimizer_seconds": optimizer,
                "data_seconds": data_seconds,
                "peak_rss_mib": peak_rss_mib,
            },
            "embed": { "images_per_second": count as f64 / embed, "seconds": embed },
            "gemm_peak_gflops": peak,
            "operators": timed.iter().map(operator_json).collect::<Vec<_>>(),
        });
        write_json(path, &numbers)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The head of all whose health takes longest to watch, and the seconds that a step spends on it.
fn dearest_health(program: &Program, batch: usize, repeats: usize) -> Result<(String, f64)> {
    const CLASSES: usize = 10;
    let mut dearest = (String::new(), 0.0);
    for variant in program.experiment(ALL_HEADS)?.heads {
        let seconds = median(&time_health(&variant.head, [batch, RESNET18.dim(), CLASSES], repeats)?);
        if seconds > dearest.1 {
            dearest = (variant.name, seconds);
        }
    }
    Ok(dearest)
}

/// Seconds that a batch of augmented training images takes, decoded ones being at hand, when nothing else runs.
fn data_seconds_of(program: &Program, size_px: usize, batch: usize) -> Result<f64> {
    let mut config = program.experiment(EXPERIMENT)?.on_synthetic().data;
    config.image_size_px = size_px;
    let source = ImageSource::cached(program.path("data"));
    let images = Dataset::open(&config, &source, &|_, _, _| {})?;
    let (started, mut batches) = (Instant::now(), 0);
    for made in images.train_epoch(0, 0, batch, None)? {
        made?;
        batches += 1;
    }
    Ok(started.elapsed().as_secs_f64() / f64::from(batches.max(1)))
}

/// The median of `repeats` runs, after one for warming up.
fn seconds_of(operator: &mut Operator, repeats: usize) -> f64 {
    operator.run();
    let seconds = (0..repeats).map(|_| {
        let started = Instant::now();
        operator.run();
        started.elapsed().as_secs_f64()
    });
    median(&seconds.collect::<Vec<_>>())
}

fn operator_table(operators: &[(Operator, f64)], peak: f64) -> String {
    let mut table = plain_table(&["operator", "shape", "pass", "x", "ms", "GFLOP/s", "of peak", "GB/s"]);
    for (Operator { layer, shape, layers, pass, flop, bytes, .. }, seconds) in operators {
        let rate = flop / seconds * 1e-9;
        let (rate, share) = match *flop > 0.0 {
            true => (format!("{rate:.0}"), format!("{:.0} %", 100.0 * rate / peak)),
            false => (String::new(), String::new()),
        };
        table.add_row([
            layer.clone(),
            shape.clone(),
            pass.clone(),
            layers.to_string(),
            format!("{:.2}", seconds * 1e3),
            rate,
            share,
            format!("{:.1}", bytes / seconds * 1e-9),
        ]);
    }
    table.to_string()
}

fn operator_json((operator, seconds): &(Operator, f64)) -> serde_json::Value {
    let Operator { layer, shape, layers, pass, flop, bytes, .. } = operator;
    json!({
        "layer": layer, "shape": shape, "layers": layers, "pass": pass,
        "seconds": seconds, "flop": flop, "bytes": bytes,
    })
}
