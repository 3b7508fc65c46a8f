//! Times every measure on points of the sizes of one run: `cargo run --release -p faceoff-analysis --example metrics_time`.
//!
//! With four paths it reads real embeddings instead: train and val as raw little-endian f32, their labels as u32.

use std::time::Instant;

use faceoff_analysis::*;
use ndarray::{Array2, ArrayView2};
use rand::{Rng, SeedableRng};

const DIMS: usize = 512;
const CLASSES: u32 = 10;

fn main() {
    let paths: Vec<String> = std::env::args().skip(1).collect();
    let ((train, train_labels), (val, val_labels)) = match &paths[..] {
        [train, train_labels, val, val_labels] => (read(train, train_labels), read(val, val_labels)),
        _ => (made_up(9_025, 1), made_up(3_929, 2)),
    };
    let (train, val) = (train.view(), val.view());
    let scores = scores(train, &train_labels, val);
    let began = Instant::now();

    let neighbors = timed("50 neighbours", || neighbors::nearest(train, val, 50).unwrap());
    timed("KNN accuracy, k 1 to 50, both votes", || {
        let softmax = retrieval::Vote::Softmax { temperature: 0.07 };
        let curve =
            |vote| retrieval::knn_accuracy_curve(&neighbors, &train_labels, &val_labels, vote).unwrap();
        let (majority, softmax) = (curve(retrieval::Vote::Majority), curve(softmax));
        println!("  k = 5: {:.4}, weighted {:.4}", majority[4], softmax[4]);
    });
    show("retrieval, val from train", || {
        retrieval::retrieval(train, &train_labels, val, &val_labels).unwrap()
    });
    show("retrieval, val leave-one-out", || retrieval::retrieval_leave_one_out(val, &val_labels).unwrap());
    timed("verification, val", || {
        let found = verification::verification(val, &val_labels).unwrap();
        println!(
            "  AUC {:.8} +- {:.1e}, EER {:.6}, TAR {:?}, angles {:.3} {:.3}",
            found.auc,
            found.auc_error_bound,
            found.eer,
            found.tar_at_far,
            found.intra_class.mean_degrees,
            found.inter_class.mean_degrees
        );
    });
    timed("k-means, NMI, AMI, val", || {
        let clusters = clustering::kmeans(val, CLASSES as usize, 0).unwrap();
        let nmi = clustering::normalized_mutual_information(&val_labels, &clusters.assignments).unwrap();
        let ami = clustering::adjusted_mutual_information(&val_labels, &clusters.assignments).unwrap();
        println!("  inertia {:.4}, NMI {nmi:.6}, AMI {ami:.6}", clusters.inertia);
    });
    timed("silhouette, val", || {
        println!("  {:.6}", clustering::silhouette(val, &val_labels).unwrap().mean);
    });
    timed("centre angles, alignment, val", || {
        geometry::center_angles(val, &val_labels).unwrap();
        println!("  alignment {:.6}", geometry::alignment(val, &val_labels).unwrap());
    });
    show("uniformity, val", || geometry::uniformity(val).unwrap());
    show("neural collapse, train", || geometry::neural_collapse(train, &train_labels).unwrap());
    timed("nearest centres", || {
        let predictions = geometry::nearest_center_predictions(train, &train_labels, val).unwrap();
        println!("  accuracy {:.4}", accuracy::accuracy(&predictions, &val_labels).unwrap());
    });
    timed("calibration", || {
        println!("  ECE {:.6}", calibration::calibration(scores.view(), &val_labels, 16.0).unwrap().ece);
    });
    timed("linear probe", || {
        let probe = probe::LinearProbe::fit(train, &train_labels).unwrap();
        let score = probe.evaluate(val, &val_labels).unwrap();
        println!(
            "  {} steps, val accuracy {:.6}, loss {:.8}",
            probe.iterations, score.accuracy, score.log_loss
        );
    });
    timed("bootstrap", || {
        let predictions = neighbors::knn_predictions(&neighbors, &train_labels, 5).unwrap();
        let right: Vec<bool> = predictions.iter().zip(&val_labels).map(|(a, b)| a == b).collect();
        println!("  {:?}", statistics::bootstrap_accuracy(&right, 0).unwrap());
    });
    println!("{:7.3} s in all", began.elapsed().as_secs_f64());
}

fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = run();
    println!("{:7.3} s {what}", began.elapsed().as_secs_f64());
    result
}

fn show<T: std::fmt::Debug>(what: &str, run: impl FnOnce() -> T) {
    println!("  {:?}", timed(what, run));
}

/// Cosines to the mean directions of the classes, as a head without margin scores.
fn scores(train: ArrayView2<f32>, labels: &[u32], val: ArrayView2<f32>) -> Array2<f32> {
    let mut centers = Array2::<f32>::zeros((CLASSES as usize, train.ncols()));
    for (row, &label) in train.rows().into_iter().zip(labels) {
        let mut center = centers.row_mut(label as usize);
        center += &row;
    }
    for mut center in centers.rows_mut() {
        let norm = center.dot(&center).sqrt();
        center /= norm;
    }
    val.dot(&centers.t())
}

fn read(embeddings: &str, labels: &str) -> (Array2<f32>, Vec<u32>) {
    let words = |path: &str| -> Vec<[u8; 4]> {
        std::fs::read(path).expect("the file").chunks_exact(4).map(|b| [b[0], b[1], b[2], b[3]]).collect()
    };
    let values: Vec<f32> = words(embeddings).into_iter().map(f32::from_le_bytes).collect();
    let labels: Vec<u32> = words(labels).into_iter().map(u32::from_le_bytes).collect();
    let embeddings = Array2::from_shape_vec((labels.len(), values.len() / labels.len()), values);
    (embeddings.expect("a row for each label"), labels)
}

/// Classes that overlap about as much as those of a short training, around a direction that all share.
fn made_up(points: usize, stream: u64) -> (Array2<f32>, Vec<u32>) {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
    let centers = Array2::from_shape_simple_fn((CLASSES as usize, DIMS), || rng.random_range(0.0_f32..1.0));
    rng.set_stream(stream);
    let labels: Vec<u32> = (0..points).map(|_| rng.random_range(0..CLASSES)).collect();
    let mut embeddings = Array2::from_shape_fn((points, DIMS), |(i, j)| {
        centers[[labels[i] as usize, j]] * 0.3 + rng.random_range(0.0_f32..1.0)
    });
    for mut row in embeddings.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    (embeddings, labels)
}
