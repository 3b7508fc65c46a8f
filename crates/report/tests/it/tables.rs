//! CSV contents against numbers worked out by hand, and their repeatability.

use crate::{Reported, experiment, made_up};
use faceoff_runs::{Embeddings, Experiment, RunFolder, RunSpec, SplitName};
use std::path::Path;

/// The value of a metric in `metrics.csv`.
fn value(made: &Reported, variant: &str, seed: &str, metric: &str) -> f64 {
    let rows = made.rows("metrics.csv");
    let found: Vec<_> = rows.iter().filter(|row| row[0] == variant && row[2] == seed && row[3] == metric).collect();
    assert_eq!(found.len(), 1, "{variant} {seed} {metric}");
    found[0][4].parse().unwrap()
}

/// Points on the unit circle at the given degrees.
fn circle(split: &str, degrees: &[f32], labels: &[u32], scores: &[[f32; 2]], given: &[u32]) -> Embeddings {
    Embeddings {
        ids: (0..labels.len()).map(|image| format!("{split}/{image}.JPEG")).collect(),
        labels: labels.to_vec(),
        labels_trained: labels.to_vec(),
        dim: 2,
        classes: 2,
        unit: degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]).collect(),
        norms: vec![1.0; labels.len()],
        scores: scores.concat(),
        logits: None,
        predictions_labels_given: given.to_vec(),
        effective_scale: 1.0,
        class_vectors: Some(vec![1.0, 0.0, 0.0, 1.0]),
    }
}

/// Two classes on a circle, one seed a list of scores.
fn write_circle(folder: &Path, experiment: &Experiment) {
    let mut data = made_up().data("circle");
    data.classes = vec!["east".into(), "north".into()];
    (data.train_images, data.val_images) = (6, 4);
    for spec in RunSpec::of(experiment, &made_up::compute()) {
        made_up().write_run(folder, &spec, &data);
        let run = RunFolder::new(folder, &spec);
        let train = circle("train", &[0.0, 10.0, 20.0, 70.0, 80.0, 90.0], &[0, 0, 0, 1, 1, 1], &[[0.0; 2]; 6], &[0; 6]);
        // The third image lies among the other class. Seed 0 gets three of four right, seed 1 two, seed 2 one; Classification
        // always three.
        let lost = if spec.variant.name == "Classification" { 0 } else { spec.seed as usize };
        let right = 3 - lost;
        let labels = [0, 0, 0, 1];
        let scores: Vec<_> = (0..4)
            .map(|image| {
                let says = if image < right { labels[image] } else { 1 - labels[image] };
                [f32::from(says == 0), f32::from(says == 1)]
            })
            .collect();
        let val = circle("val", &[1.0, 12.0, 81.0, 88.0], &labels, &scores, &[1, 1, 1, 1]);
        run.write_embeddings(SplitName::Train, &train).unwrap();
        run.write_embeddings(SplitName::Val, &val).unwrap();
        run.finish(&run.manifest().unwrap()).unwrap();
    }
}

/// The report of two classes on a circle.
fn on_circle(seeds: &[u64]) -> Reported {
    let experiment = experiment(seeds);
    Reported::written(&experiment, |folder| write_circle(folder, &experiment))
}

#[test]
fn numbers_are_those_worked_out_by_hand() {
    let made = on_circle(&[0, 1, 2]);
    let at = |seed: &str, metric: &str| value(&made, "cosface-s64", seed, metric);

    assert_eq!([at("0", "dnn_accuracy"), at("1", "dnn_accuracy"), at("2", "dnn_accuracy")], [0.75, 0.5, 0.25]);
    // Seed 0: three of three east, none of one north.
    assert_eq!(at("0", "dnn_macro_accuracy"), 0.5);
    assert_eq!(at("0", "dnn_accuracy_labels_given"), 0.25);
    for metric in ["knn_accuracy_k1", "knn_accuracy_k3", "knn_accuracy_k5"] {
        assert_eq!(at("0", metric), 0.75, "{metric}");
    }
    assert!((at("0", "knn_macro_accuracy_k5") - 5.0 / 6.0).abs() < 1e-12);
    // Two dimensions hold everything.
    assert!((at("0", "explained_variance_16") - 1.0).abs() < 1e-12);

    let row = &made.summary.rows[1];
    assert_eq!((row.variant.as_str(), row.seeds), ("cosface-s64", 3));
    let names: Vec<String> = made.summary.metrics.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["dnn_accuracy", "knn_accuracy_k5", "explained_variance_16", "explained_variance_128"]);
    assert_eq!(row.means[..2], [Some(0.5), Some(0.75)]);

    // Mean 0.5, standard deviation 0.25; t(0.975, 2) = 4.302652729911275.
    let summary = made.rows("summary.csv");
    assert_eq!(summary[0], ["variant", "head", "metric", "n", "mean", "sd", "ci95_low", "ci95_high", "health"]);
    let row = summary.iter().find(|row| row[0] == "cosface-s64" && row[2] == "dnn_accuracy").unwrap();
    assert_eq!(row[1..6], ["CosFace", "dnn_accuracy", "3", "0.5", "0.25"]);
    let half = 4.302652729911275 * 0.25 / 3_f64.sqrt();
    assert!((row[6].parse::<f64>().unwrap() - (0.5 - half)).abs() < 1e-9);
    assert!((row[7].parse::<f64>().unwrap() - (0.5 + half)).abs() < 1e-9);

    // All seeds together: 9 east images, of which 3 + 2 + 1 are called east; 3 north ones, none called north.
    let confusion = made.rows("confusion/cosface-s64.csv");
    let expected = [
        ["variant", "head", "true", "predicted", "count"],
        ["cosface-s64", "CosFace", "east", "east", "6"],
        ["cosface-s64", "CosFace", "east", "north", "3"],
        ["cosface-s64", "CosFace", "north", "east", "3"],
        ["cosface-s64", "CosFace", "north", "north", "0"],
    ];
    assert_eq!(confusion, expected);
}

#[test]
fn deep_measures_are_those_worked_out_by_hand() {
    let made = on_circle(&[0]);
    let at = |metric: &str| value(&made, "Classification", "0", metric);
    let close = |metric: &str, expected: f64| {
        assert!((at(metric) - expected).abs() < 1e-5, "{metric}: {} is not {expected}", at(metric));
    };
    // The image at 81 degrees has its first hit at rank 4, behind 80, 90 and 70.
    close("mean_reciprocal_rank", (1.0 + 1.0 + 0.25 + 1.0) / 4.0);
    close("recall_at_1", 0.75);
    close("recall_at_4", 1.0);
    close("r_precision", 0.75);
    close("map_at_r", 0.75);
    close("nearest_center_accuracy", 0.75);
    // Angles within the class: 11, 80, 69; to the other: 87, 76, 7. Five of nine comparisons are in the right order.
    close("verification_auc", 5.0 / 9.0);
    assert!((at("intra_class_angle_degrees") - 160.0 / 3.0).abs() < 0.1);
    assert!((at("inter_class_angle_degrees") - 170.0 / 3.0).abs() < 0.1);
    let variance = (11.0_f64.powi(2) + 80.0_f64.powi(2) + 69.0_f64.powi(2)) / 3.0 - (160.0_f64 / 3.0).powi(2);
    assert!((at("intra_class_angle_sd_degrees") - variance.sqrt()).abs() < 0.1);
    // Centred means are opposite along the falling diagonal: rows (1, -1) / 2 and (-1, 1) / 2 once scaled, beside (1, 0) / sqrt 2
    // and (0, 1) / sqrt 2.
    close("nc3_self_duality", (2.0 - 2.0_f64.sqrt()).sqrt());
    // Scores are 1 for the class said and 0 for the other, scale 1: confidence e / (e + 1) throughout.
    let confidence = std::f64::consts::E / (std::f64::consts::E + 1.0);
    close("negative_log_likelihood", -0.75 * confidence.ln() - 0.25 * (1.0 - confidence).ln());
    close("calibration_error", 0.75 - confidence);
}

#[test]
fn variants_are_compared_by_paired_seeds() {
    let made = on_circle(&[0, 1, 2]);
    // Differences 0, 0.25, 0.5.
    let table = made.rows("comparisons.csv");
    let row = &table[1];
    assert_eq!(row[..6], ["Classification", "Classification", "cosface-s64", "CosFace", "dnn_accuracy", "3"]);
    let numbers: Vec<f64> = row[6..].iter().map(|text| text.parse().unwrap()).collect();
    let half = 4.302652729911275 * 0.25 / 3_f64.sqrt();
    let (low, high) = (0.25 - half, 0.25 + half);
    // Of the four images one is right twice more often of three, one once: a variance of the mean of 11 / 432. With that of the
    // seeds, 1 / 48, t = 1.162 with 4.95 degrees of freedom, whose p is larger than that over seeds alone, 0.225; the interval
    // over seeds is the wider one.
    let p = 0.298235448;
    for (found, expected) in numbers.iter().zip([0.25, 0.25, low, high, low, high, p, p, 1.0]) {
        assert!((found - expected).abs() < 1e-9, "{numbers:?}");
    }

    // A tie, then two first ranks of three.
    let ranks = made.rows("ranks.csv");
    assert_eq!(ranks[1][..4], ["Classification", "Classification", "dnn_accuracy", "3"]);
    assert!((ranks[1][4].parse::<f64>().unwrap() - 3.5 / 3.0).abs() < 1e-12);
    assert!((ranks[2][4].parse::<f64>().unwrap() - 5.5 / 3.0).abs() < 1e-12);
    assert!(made.path("plots/ranks_dnn_accuracy.svg").exists());
}

#[test]
fn one_seed_decides_no_statement() {
    let made = Reported::of(&experiment(&[0]));
    let statements = made.rows("statements.csv");
    let verdict = statements[0].iter().position(|name| name == "statement_verdict").unwrap();
    assert!(statements.len() > 4);
    assert!(statements[1..].iter().all(|row| row[verdict] == "undecided"));
    let page = std::fs::read_to_string(&made.summary.page).unwrap();
    assert_eq!(page.matches("<span class=\"verdict undecided\">").count(), 5);
    assert!(!made.path("plots/ranks_dnn_accuracy.svg").exists());
}

#[test]
fn explained_variance_is_of_the_total() {
    let made = on_circle(&[0]);
    let table = made.rows("explained_variance.csv");
    assert_eq!(table[0], ["variant", "head", "seed", "components_kept", "component", "ratio", "cumulative"]);

    // The points lie symmetrically about 45 degrees: the first component runs across, the second along that direction.
    let degrees = [0.0_f64, 10.0, 20.0, 70.0, 80.0, 90.0].map(|d| (d - 45.0).to_radians());
    let across: f64 = degrees.iter().map(|d| d.sin().powi(2)).sum();
    let mean = degrees.iter().map(|d| d.cos()).sum::<f64>() / 6.0;
    let along: f64 = degrees.iter().map(|d| (d.cos() - mean).powi(2)).sum();
    let of_first: Vec<f64> = table
        .iter()
        .filter(|row| row[0] == "Classification" && row[3] == "16")
        .map(|row| row[5].parse().unwrap())
        .collect();
    assert_eq!(of_first.len(), 2);
    assert!((of_first[0] - across / (across + along)).abs() < 1e-6, "{of_first:?}");
    assert!((of_first[1] - along / (across + along)).abs() < 1e-6, "{of_first:?}");
    // Once for 16 and once for 128 components, for each of the two variants.
    assert_eq!(table.len(), 1 + 2 * 2 * 2);
}

#[test]
fn one_seed_has_no_interval() {
    let made = Reported::of(&experiment(&[4]));
    let summary = made.rows("summary.csv");
    assert!(summary.len() > 10);
    for row in &summary[1..] {
        assert_eq!((row[3].as_str(), &row[5..8]), ("1", &["".to_string(), "".into(), "".into()][..]), "{row:?}");
    }
}

#[test]
fn histories_and_maps_have_a_row_an_epoch_and_an_image() {
    let made = Reported::of(&experiment(&[0, 1, 2]));
    let history = made.rows("history.csv");
    assert_eq!(history.len(), 1 + 2 * 3 * 3);
    assert_eq!(history[1][..5], ["Classification", "Classification", "0", "1", "10"]);
    for (file, columns) in [("tsne.csv", "seed,id,label,class,x,y"), ("pca.csv", "seed,id,label,class,pc1,pc2,pc3")] {
        let text = made.text(file);
        assert_eq!(text.lines().next().unwrap(), format!("variant,head,{columns}"));
        // First seeds only.
        assert_eq!(text.lines().count(), 1 + 2 * 80, "{file}");
        assert!(text.contains("\"a <breed> & \"\"its\"\" kin 3\""), "{file}");
        assert!(!text.contains("NaN") && !text.contains("inf"), "{file}");
    }
}

#[test]
fn unseen_classes_have_no_classifier() {
    let mut experiment = experiment(&[0]);
    experiment.data.held_out_classes = vec![made_up().classes[0].clone(), made_up().classes[1].clone()];
    let made = Reported::of(&experiment);
    assert_eq!(made.summary.metrics[0].to_string(), "knn_accuracy_k5");
    assert!(made.summary.rows.iter().all(|row| row.means[0].is_some()));
    assert!(!made.text("metrics.csv").contains("dnn_"));
    assert!(!made.path("confusion").exists());
}
