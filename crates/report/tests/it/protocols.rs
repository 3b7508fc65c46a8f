//! Reports of the protocols: label noise, unseen classes, scale against margin, tuned settings.

use crate::pages::assert_legible;
use crate::{Reported, experiment_with, made_up, report};
use faceoff_runs::Experiment;

#[test]
fn accuracy_is_drawn_against_label_noise() {
    let conditions =
        [0, 25, 50].map(|noise| format!("[[conditions]]\nname = \"noise-{noise}\"\nlabel_noise_percent = {noise}\n"));
    let made = Reported::of(&experiment_with(&[0, 1], &conditions.concat()));
    let table = made.rows("label_noise.csv");
    assert_eq!(table[0], ["variant", "head", "noise_percent", "metric", "n", "mean", "sd"]);
    assert_eq!(table.len(), 1 + 2 * 3 * 2);
    let mean = |variant: &str| -> f64 {
        let row = table.iter().find(|row| row[0] == variant && row[3] == "knn_accuracy_k5").unwrap();
        row[5].parse().unwrap()
    };
    assert!(mean("Classification-noise-50") < mean("Classification-noise-0"));
    // What noise changes against the first condition: both heads and their mean, in two accuracies; two seeds test nothing.
    let effects = made.rows("conditions.csv");
    assert_eq!(effects.len(), 1 + 2 * 2 * 3);
    let change = |base: &str| -> f64 {
        let row = ["noise-50", "noise-0", base, "knn_accuracy_k5", "2"];
        effects.iter().find(|found| found[..5] == row).unwrap()[5].parse().unwrap()
    };
    let of = |base: &str| mean(&format!("{base}-noise-50")) - mean(&format!("{base}-noise-0"));
    let heads = ["Classification", "cosface-s64"].map(|base| {
        assert!((change(base) - of(base)).abs() < 1e-12, "{base}");
        of(base)
    });
    let together = (heads[0] + heads[1]) / 2.0;
    assert!((change("mean of 2 heads") - together).abs() < 1e-12);
    let said = "Against noise-0, on the mean of 2 heads, with the same seeds and images: DNN accuracy: ";
    let page = made.text("index.html");
    assert!(page.contains("What conditions change in KNN accuracy") && page.matches(said).count() == 2);
    assert!(page.contains(&format!("{:+.1} points (too few seeds for a test", 100.0 * together)));
    // One line a head: two in all, in each of the two pictures.
    for picture in ["noise_dnn_accuracy", "noise_knn_accuracy_k5"] {
        let svg = made.text(&format!("plots/{picture}.svg"));
        assert!(svg.contains(">cosface-s64</text>") && !svg.contains("cosface-s64-noise"), "{picture}");
    }
    // Pictures of one condition hold that condition alone, and only true labels are judged.
    let sheet = made.text("plots/tsne_all_noise-25.svg");
    assert!(sheet.contains("cosface-s64-noise-25") && !sheet.contains("noise-50"));
    let judged = made.rows("statements.csv");
    assert!(judged.len() > 1 && judged[1..].iter().all(|row| row[0].ends_with("-noise-0")));
    assert_legible(made.pictures(), &made_up().classes);
}

#[test]
fn unseen_classes_are_named_under_their_condition() {
    let held =
        |name: &str, classes: &[String]| format!("[[conditions]]\nname = \"{name}\"\nheld_out_classes = {classes:?}\n");
    let classes = made_up().classes;
    let more = held("first", &classes[..5]) + &held("last", &classes[5..]);
    let made = Reported::of(&experiment_with(&[0, 1], &more));
    for (condition, own) in [("first", &classes[..5]), ("last", &classes[5..])] {
        let of_condition = |(name, _): &(String, Vec<u8>)| {
            ["tsne", "pca", "centers"].iter().any(|start| name.starts_with(&format!("plots/{start}")))
                && name.contains(condition)
        };
        let of_condition: Vec<_> = made.pictures().into_iter().filter(of_condition).collect();
        assert!(of_condition.len() >= 8, "{condition}: {}", of_condition.len());
        assert_legible(of_condition, own);
    }
    assert!(made.text("plots/unseen_loo_map_at_r.svg").contains(">first</text>"));
    for metric in [
        "open_set_auroc_nearest_neighbor",
        "open_set_fpr95_nearest_neighbor",
        "oscr_nearest_neighbor",
        "oscr_max_score",
    ] {
        assert!(made.text(&format!("plots/unseen_{metric}.svg")).contains(">last</text>"), "{metric}");
    }
    // Trained and evaluated classes lie around centres of their own, so that images of the former lie nearer to theirs.
    let rows = made.rows("metrics.csv");
    let values = |metric: &str| -> Vec<f64> {
        rows.iter().filter(|row| row[3] == metric).map(|row| row[4].parse().unwrap()).collect()
    };
    let auroc = values("open_set_auroc_nearest_neighbor");
    assert!(auroc.len() == values("opis").len() && auroc.iter().all(|&area| area > 0.5 && area <= 1.0), "{auroc:?}");
    let errors = values("open_set_false_accept").into_iter().zip(values("open_set_false_reject"));
    assert!(errors.into_iter().all(|(accept, reject)| accept + reject < 1.0));
    assert_eq!(made.rows("statements.csv").len(), 1);
    // Other classes are other images: nothing to compare.
    assert!(!made.path("conditions.csv").exists());
    let page = made.text("index.html");
    assert!(page.contains("Not judged here") && !page.contains("DNN accuracy, labels given"));
    assert!(page.contains("are never trained on, and they alone are evaluated"));
}

#[test]
fn grids_have_maps_and_stand_elsewhere_with_their_best() {
    let more = "[[heads]]\nkind = \"ArcFace\"\nscale = [4, 64]\nmargin_radians = [0.0, 0.5]\nepsilon = 1e-6\n";
    let made = Reported::of(&experiment_with(&[0], more));
    let table = made.rows("scale_margin.csv");
    let settings: Vec<_> = table[1..].iter().map(|row| row[2..5].join(" ")).collect();
    assert_eq!(table.len(), 1 + 4 * 2);
    assert!(settings.contains(&"4.0 0.5 radians".to_string()), "{settings:?}");
    let names: Vec<String> = made.pictures().into_iter().map(|(name, _)| name).collect();
    assert!(names.iter().any(|name| name == "plots/scale_margin_ArcFace.svg"));
    let shown: Vec<_> = names.iter().filter(|name| name.starts_with("plots/tsne_ArcFace")).collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    let best = made
        .rows("summary.csv")
        .into_iter()
        .filter(|row| row[1] == "ArcFace" && row[2] == "knn_accuracy_k5")
        .max_by(|a, b| a[4].parse::<f64>().unwrap().total_cmp(&b[4].parse().unwrap()))
        .unwrap();
    assert_eq!(*shown[0], format!("plots/tsne_{}.svg", best[0]));
    // Settings chosen on the validation images are compared, but the article is not judged by them.
    assert_eq!(made.rows("statements.csv").len(), 1);
    assert!(made.text("index.html").contains("exploratory"));
    assert_legible(made.pictures(), &made_up().classes);
}

#[test]
fn trials_of_tuning_are_shown_and_go_with_them() {
    let trial = |head: &str, rate: &str, knn: &str, chosen: bool| {
        format!("[[trials]]\nhead = \"{head}\"\npeak_learning_rate = {rate}\n{knn}\nchosen = {chosen}\n")
    };
    let more = trial("Classification", "1e-3", "knn_accuracy = 0.4", true)
        + &trial("Classification", "1e-2", "", false)
        + &trial("cosface-s64", "3e-3", "knn_accuracy = 0.3", true);
    let experiment = experiment_with(&[0], &more);
    let made = Reported::of(&experiment);
    let table = made.rows("trials.csv");
    assert_eq!(table[2][..2], ["Classification", "0.01"]);
    assert_eq!(table[2][4], "");
    assert!(made.text("plots/tuning.svg").contains(">cosface-s64</text>"));
    report(made.folder.path(), &Experiment { trials: Vec::new(), ..experiment }).unwrap();
    assert!(!made.path("trials.csv").exists() && !made.path("plots/tuning.svg").exists());
}
