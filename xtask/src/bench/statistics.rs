//! How often the rules for the article's statements give each verdict on simulated runs whose true differences are known.

use anyhow::Result;
use clap::Args;
use faceoff::plain_table;
use faceoff_evaluation::statements::{Accuracy, RULES, RunMetrics, Setting, Verdict, judge_without_forecast};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use std::process::ExitCode;

/// True differences in percentage points.
const DIFFERENCES: [f64; 4] = [0.0, 1.0, 2.0, 5.0];
/// The heads of `quick`; those with a scale stand at the advised one too.
const HEADS: [(&str, bool); 7] = [
    ("Classification", false),
    ("ArcMarginProduct", false),
    ("AdaCos", false),
    ("CosFace", true),
    ("ArcFace", true),
    ("SubCenterArcFace", true),
    ("CurricularFace", true),
];

/// The options of `bench statistics`.
#[derive(Args)]
pub(crate) struct StatisticsArgs {
    /// Simulated experiments for each difference and number of seeds
    #[arg(long, default_value_t = 200)]
    repeats: u64,
    /// Validation images of each
    #[arg(long, default_value_t = 1000)]
    images: usize,
    /// Standard deviation over seeds of an accuracy, in percentage points
    #[arg(long, default_value_t = 1.0)]
    scatter: f64,
    /// Numbers of seeds
    #[arg(long, value_delimiter = ',', default_value = "3,4,5,7,10")]
    seeds: Vec<u64>,
}

pub(crate) fn run(args: &StatisticsArgs) -> Result<ExitCode> {
    println!(
        "{} simulated experiments a row, {} images, scatter over seeds {} points; supported / contradicted / mixed, %\n",
        args.repeats, args.images, args.scatter
    );
    let titles = RULES.map(|rule| format!("statement {}", rule.number));
    let mut header = vec!["true difference, points", "seeds"];
    header.extend(titles.iter().map(String::as_str));
    let mut table = plain_table(&header);
    let mut worst = [0.0_f64; 5];
    for difference in DIFFERENCES {
        for &seeds in &args.seeds {
            let verdicts = (0..args.repeats).into_par_iter().map(|repeat| simulate(args, difference, seeds, repeat));
            let verdicts = verdicts.collect::<Result<Vec<[Verdict; 5]>>>()?;
            let share = |statement: usize, verdict: Verdict| {
                let count = verdicts.iter().filter(|found| found[statement] == verdict).count();
                100.0 * count as f64 / args.repeats as f64
            };
            let mut row = vec![difference.to_string(), seeds.to_string()];
            for statement in 0..5 {
                let [supported, contradicted, mixed] = [Verdict::Supported, Verdict::Contradicted, Verdict::Mixed]
                    .map(|verdict| share(statement, verdict));
                let falsely = match truth(statement, difference) {
                    Truth::Holds => contradicted + mixed,
                    Truth::Fails => supported + mixed,
                    Truth::Neither => supported + contradicted + mixed,
                };
                worst[statement] = worst[statement].max(falsely);
                row.push(format!("{supported:.1} / {contradicted:.1} / {mixed:.1}"));
            }
            table.add_row(row);
        }
    }
    println!("{table}\n");
    for (rule, worst) in RULES.iter().zip(worst) {
        println!("statement {}: false verdicts in at most {worst:.1} % of a row", rule.number);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is true of a statement.
enum Truth {
    Holds,
    Fails,
    /// Neither the claim nor its opposite: no difference, or exactly the margin.
    Neither,
}

/// Statements 1 and 2 claim a lead, which is the difference; in the others it is what the claim wants small, and at the
/// margin itself a claim of less fails.
fn truth(statement: usize, difference: f64) -> Truth {
    let margin = 100.0 * RULES[statement].margins().first().copied().unwrap_or(0.0);
    match statement {
        0 | 1 if difference > 0.0 => Truth::Holds,
        0 | 1 => Truth::Neither,
        _ if difference < margin => Truth::Holds,
        _ if difference > margin => Truth::Fails,
        _ => Truth::Neither,
    }
}

/// The verdicts on one simulated experiment.
///
/// Statements have an experiment each, so that a difference which one asks for is none to another. An image is right where a
/// normal number is below the quantile of the accuracy: a part of it belongs to the image, a part to image and variant, a
/// part to image, variant and seed; half of the variance each of the first and of the others together, as errors of trained
/// heads agree.
fn simulate(args: &StatisticsArgs, difference: f64, seeds: u64, repeat: u64) -> Result<[Verdict; 5]> {
    let points = difference / 100.0;
    let mut verdicts = [Verdict::Undecided; 5];
    for (statement, verdict) in verdicts.iter_mut().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(repeat);
        rng.set_stream((statement as u64) << 32 | (seeds << 16) | difference as u64);
        let image: Vec<f64> = (0..args.images).map(|_| StandardNormal.sample(&mut rng)).collect();
        let mut runs = Vec::new();
        for (head, scaled) in HEADS {
            let settings: &[Option<Setting>] =
                if scaled { &[Some(Setting::Default), Some(Setting::Advice)] } else { &[None] };
            for &setting in settings {
                let (mut dnn, mut knn, mut first) = (0.75, 0.75, 0.30);
                match (statement, head, setting) {
                    (0, "Classification", _) => dnn += points,
                    (1, "CosFace", _) => (dnn, knn) = (dnn - points, knn + points),
                    (2, "Classification", _) => first += points,
                    (3, "ArcMarginProduct", _) => (dnn, knn) = (dnn - points, knn - points),
                    (4, _, Some(Setting::Advice)) => (dnn, knn) = (dnn - points, knn - points),
                    _ => {}
                }
                let mut own = || -> Vec<f64> { (0..args.images).map(|_| StandardNormal.sample(&mut rng)).collect() };
                let of_variant = [own(), own()];
                for seed in 0..seeds {
                    let mut accuracy = |mean: f64, of_variant: &[f64]| {
                        let shift: f64 = StandardNormal.sample(&mut rng);
                        let wanted = (mean + args.scatter / 100.0 * shift).clamp(0.0, 1.0);
                        let below = quantile(wanted);
                        let right = image.iter().zip(of_variant).map(|(image, own)| {
                            let noise: f64 = StandardNormal.sample(&mut rng);
                            0.5_f64.sqrt() * image + 0.5 * own + 0.5 * noise < below
                        });
                        let right: Vec<bool> = right.collect();
                        let value = right.iter().filter(|&&right| right).count() as f64 / args.images as f64;
                        Accuracy { value, right: Some(right) }
                    };
                    let (dnn_accuracy, knn_accuracy) = (accuracy(dnn, &of_variant[0]), accuracy(knn, &of_variant[1]));
                    // A curve that lies higher by the difference everywhere, and scatters a little by itself.
                    let shift: f64 = StandardNormal.sample(&mut rng);
                    let lift = first - 0.30 + args.scatter / 100.0 * shift;
                    runs.push(RunMetrics {
                        variant: format!("{head}{}", setting.map_or(String::new(), |setting| format!(", {setting}"))),
                        head: head.into(),
                        others: String::new(),
                        setting,
                        seed,
                        dnn_accuracy: Some(dnn_accuracy),
                        knn_accuracy,
                        explained_variance: (0..128).map(|k| 0.30 + 0.5 * f64::from(k) / 128.0 + lift).collect(),
                    });
                }
            }
        }
        *verdict = judge_without_forecast(&runs)?[statement].verdict;
    }
    Ok(verdicts)
}

/// The quantile of the standard normal distribution.
fn quantile(probability: f64) -> f64 {
    use statrs::distribution::{ContinuousCDF, Normal};
    Normal::standard().inverse_cdf(probability.clamp(1e-9, 1.0 - 1e-9))
}
