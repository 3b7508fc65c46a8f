//! Reads `tests/golden/metrics.json`, made by `scripts/golden_metrics.py`.

use ndarray::Array2;
use serde_json::Value;

pub(crate) struct Golden {
    pub(crate) points: Array2<f32>,
    pub(crate) labels: Vec<u32>,
    pub(crate) queries: Array2<f32>,
    pub(crate) query_labels: Vec<u32>,
    pub(crate) values: Value,
}

pub(crate) fn load() -> Golden {
    let values: Value = serde_json::from_str(include_str!("../golden/metrics.json")).unwrap();
    Golden {
        points: matrix(&values["points"]),
        labels: labels(&values["labels"]),
        queries: matrix(&values["queries"]),
        query_labels: labels(&values["query_labels"]),
        values,
    }
}

pub(crate) fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

pub(crate) fn labels(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

pub(crate) fn matrix(value: &Value) -> Array2<f32> {
    let rows: Vec<Vec<f64>> = value.as_array().unwrap().iter().map(numbers).collect();
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(i, j)| rows[i][j] as f32)
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Fails unless the two agree to 1e-6 (relative above 1).
#[track_caller]
pub(crate) fn assert_near(found: f64, expected: &Value, what: &str) {
    let expected = expected.as_f64().unwrap_or_else(|| panic!("{what}: no golden value"));
    assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{what}: {found}, golden value {expected}");
}

#[track_caller]
pub(crate) fn assert_all_near(found: &[f64], expected: &Value, what: &str) {
    let values = expected.as_array().unwrap();
    assert_eq!(found.len(), values.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(values).enumerate() {
        assert_near(*found, expected, &format!("{what}[{i}]"));
    }
}

#[track_caller]
pub(crate) fn assert_rows_near(found: &Array2<f64>, expected: &Value, what: &str) {
    let rows = expected.as_array().unwrap();
    assert_eq!(found.nrows(), rows.len(), "{what}");
    found.rows().into_iter().zip(rows).for_each(|(row, expected)| assert_all_near(&row.to_vec(), expected, what));
}

/// Unit rows around one random direction a class, the same on every machine; `noise` is the length of what is added.
pub(crate) fn made_up(points: usize, dims: usize, classes: u32, noise: f32, seed: u64) -> (Array2<f32>, Vec<u32>) {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let centers = Array2::from_shape_simple_fn((classes as usize, dims), || rng.random_range(-1.0_f32..1.0));
    let labels: Vec<u32> = (0..points).map(|_| rng.random_range(0..classes)).collect();
    let embeddings = Array2::from_shape_fn((points, dims), |(i, j)| {
        centers[[labels[i] as usize, j]] + noise * rng.random_range(-1.0_f32..1.0)
    });
    (unit(embeddings), labels)
}

/// Unit rows around one direction that all classes share, some of them copies with other labels: cosines crowd near 1, and nearly all
/// of them tie in f32.
pub(crate) fn crowded(points: usize, dims: usize, classes: u32, scatter: f32, seed: u64) -> (Array2<f32>, Vec<u32>) {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<u32> = (0..points).map(|_| rng.random_range(0..classes)).collect();
    let mut rows = Array2::from_shape_simple_fn((points, dims), || 1.0 + scatter * rng.random_range(-1.0_f32..1.0));
    for copy in (0..points).step_by(9) {
        let of = rows.row(rng.random_range(0..points)).to_owned();
        rows.row_mut(copy).assign(&of);
    }
    (unit(rows), labels)
}

/// The rows brought to unit length.
pub(crate) fn unit(mut rows: Array2<f32>) -> Array2<f32> {
    for mut row in rows.rows_mut() {
        let norm = row.dot(&row).sqrt();
        row /= norm;
    }
    rows
}

/// Runs with one thread and with three.
pub(crate) fn with_threads<T: Send>(run: impl Fn() -> T + Sync) -> [T; 2] {
    [1, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&run))
}
