//! The pairs of points that are hardest to tell: of two classes and near each other, or of one class and far apart.

use crate::error::Result;
use crate::products::check_embeddings;
use ndarray::{ArrayView1, ArrayView2, s};
use rayon::prelude::*;

/// Two points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The place of one.
    pub a: u32,
    /// The place of the other.
    pub b: u32,
    /// Between them.
    pub degrees: f64,
}

/// Rows whose products with all others are held at once.
const BLOCK: usize = 128;

/// `most` pairs of two classes, the nearest first, and as many of one class, the farthest first: of every point its hardest, then the
/// hardest of these, each point once.
///
/// # Errors
/// None beside those that the crate names.
pub fn hardest(embeddings: ArrayView2<'_, f32>, labels: &[u32], most: usize) -> Result<[Vec<Pair>; 2]> {
    check_embeddings(embeddings, labels)?;
    let of_block = |block: usize| -> Vec<[Option<(usize, usize, f32)>; 2]> {
        let rows = block * BLOCK..((block + 1) * BLOCK).min(labels.len());
        let cosines = embeddings.slice(s![rows.clone(), ..]).dot(&embeddings.t());
        let of_row = |(i, row): (usize, ArrayView1<'_, f32>)| {
            let (mut near, mut far) = (None::<(usize, usize, f32)>, None::<(usize, usize, f32)>);
            for (j, &cosine) in row.iter().enumerate().filter(|(j, _)| *j != i) {
                match labels[i] == labels[j] {
                    true if far.is_none_or(|far| cosine < far.2) => far = Some((i, j, cosine)),
                    false if near.is_none_or(|near| cosine > near.2) => near = Some((i, j, cosine)),
                    _ => (),
                }
            }
            [near, far]
        };
        rows.zip(cosines.rows()).map(of_row).collect()
    };
    let all: Vec<_> = (0..labels.len().div_ceil(BLOCK)).into_par_iter().flat_map_iter(of_block).collect();
    Ok([1.0, -1.0].map(|sign| {
        let kind = usize::from(sign < 0.0);
        let mut pairs: Vec<(usize, usize, f32)> = all.iter().filter_map(|found| found[kind]).collect();
        pairs.sort_by(|a, b| (sign * b.2).total_cmp(&(sign * a.2)).then((a.0, a.1).cmp(&(b.0, b.1))));
        let mut used = vec![false; labels.len()];
        pairs.retain(|&(a, b, _)| {
            let free = !used[a] && !used[b];
            if free {
                (used[a], used[b]) = (true, true);
            }
            free
        });
        let degrees = |cosine: f32| f64::from(cosine.clamp(-1.0, 1.0)).acos().to_degrees();
        let pair = |&(a, b, cosine): &(usize, usize, f32)| Pair { a: a as u32, b: b as u32, degrees: degrees(cosine) };
        pairs.iter().take(most).map(pair).collect()
    }))
}
