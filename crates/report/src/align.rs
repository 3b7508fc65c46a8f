//! Maps turned so that they can be compared: t-SNE fixes neither direction nor handedness.

/// Turns, and mirrors if that fits better, each of `points` about their mean so that they lie as near to `reference` as they can
/// (orthogonal Procrustes in the plane, Schonemann 1966); nothing is scaled. The same number of points in the same order.
pub(crate) fn aligned(reference: &[[f64; 3]], points: &[[f64; 3]]) -> Vec<[f64; 3]> {
    let (middle_a, middle_b) = (mean(reference), mean(points));
    // Of the plane as complex numbers: sum of conj(b) a, for b as it is and mirrored at the first axis.
    let mut sums = [[0.0; 2]; 2];
    for (a, b) in reference.iter().zip(points) {
        let (ax, ay) = (a[0] - middle_a[0], a[1] - middle_a[1]);
        let (bx, by) = (b[0] - middle_b[0], b[1] - middle_b[1]);
        for (sum, by) in sums.iter_mut().zip([by, -by]) {
            sum[0] += bx * ax + by * ay;
            sum[1] += bx * ay - by * ax;
        }
    }
    let length = |sum: [f64; 2]| sum[0].hypot(sum[1]);
    let mirrored = length(sums[1]) > length(sums[0]);
    let sum = sums[usize::from(mirrored)];
    let (cosine, sine) = if length(sum) > 0.0 { (sum[0] / length(sum), sum[1] / length(sum)) } else { (1.0, 0.0) };
    let turn = |b: &[f64; 3]| {
        let (x, y) = (b[0] - middle_b[0], (b[1] - middle_b[1]) * if mirrored { -1.0 } else { 1.0 });
        [middle_a[0] + cosine * x - sine * y, middle_a[1] + sine * x + cosine * y, b[2]]
    };
    points.iter().map(turn).collect()
}

fn mean(points: &[[f64; 3]]) -> [f64; 2] {
    let count = points.len().max(1) as f64;
    [0, 1].map(|axis| points.iter().map(|point| point[axis]).sum::<f64>() / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turned_and_mirrored_map_comes_back_and_distances_stay() {
        let map: Vec<[f64; 3]> = (0..7).map(|i| [f64::from(i * i % 5), f64::from(i * 3 % 7), 0.0]).collect();
        let (sine, cosine) = 1.1_f64.sin_cos();
        let moved = |[x, y, z]: &[f64; 3]| [3.0 + cosine * x - sine * y, -2.0 - sine * x - cosine * y, *z];
        let found = aligned(&map, &map.iter().map(moved).collect::<Vec<_>>());
        for (a, b) in map.iter().zip(&found) {
            assert!((a[0] - b[0]).abs() < 1e-9 && (a[1] - b[1]).abs() < 1e-9, "{a:?} {b:?}");
        }
        let other: Vec<[f64; 3]> = (0..7).map(|i| [f64::from(i % 3), f64::from(i * i % 4), 0.0]).collect();
        let distance = |points: &[[f64; 3]]| (points[1][0] - points[5][0]).hypot(points[1][1] - points[5][1]);
        assert!((distance(&other) - distance(&aligned(&map, &other))).abs() < 1e-9);
        // No direction at all: moved, and left as it is.
        assert_eq!(aligned(&map[..1], &[[5.0, 5.0, 0.0]]), [map[0]]);
    }
}
