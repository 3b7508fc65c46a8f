//! Classification by the nearest neighbours: among the index, or among the other points where there is none.

use super::{AnalysisConfig, Family, Findings, Headline, MetricId, Result, Subject, at, rising, rows};
use faceoff_analysis::retrieval::{self, Vote};
use faceoff_analysis::{
    Error, accuracy,
    neighbors::{self, Neighbors},
};
use faceoff_runs::Engine;
use ndarray::Axis;

rows! { METRICS in "Nearest neighbours":
    KNN_ACCURACY "knn_accuracy_k#" "KNN accuracy, k = #" Percent Higher
        "Share of the validation images with a classmate in training whose class has the majority among their # most similar training images (cosine of unit embeddings); ties go to the class of the nearest among the tied."
        "count";
    KNN_MACRO_ACCURACY "knn_macro_accuracy_k#" "KNN macro accuracy, k = #" Percent Higher
        "KNN accuracy with # neighbours within each class, averaged over the classes." "count";
    KNN_WEIGHTED_ACCURACY "knn_weighted_accuracy_k#" "Weighted KNN accuracy, k = #" Percent Higher
        "KNN accuracy in which each of the # neighbours counts exp(cosine / temperature) instead of one." "arXiv:1805.01978";
    WITHOUT_CLASSMATE "queries_without_classmate" "Images without a classmate" Count Neither
        "Number of validation images that have no training image of their class: no neighbour, class mean or probe can name it, so KNN, retrieval, nearest centre and linear probe leave them out."
        "count";
}

/// KNN accuracy for every neighbourhood size, plain and weighted.
pub const FAMILY: Family = Family {
    name: "KNN accuracy",
    version: 3,
    metrics: METRICS,
    headline: |settings| {
        vec![
            (headline(settings), Headline::Compared),
            (KNN_MACRO_ACCURACY.with(settings.headline_neighbors), Headline::Result),
        ]
    },
    measure,
};

/// The KNN accuracy that heads are compared by.
pub fn headline(settings: &AnalysisConfig) -> MetricId {
    KNN_ACCURACY.with(settings.headline_neighbors)
}

/// The neighbourhood sizes to measure, rising.
pub fn sizes(settings: &AnalysisConfig) -> Vec<usize> {
    rising([&settings.knn_neighbors[..], &[settings.headline_neighbors]].concat())
}

fn measure(subject: &Subject<'_>, found: &mut Findings) -> Result<()> {
    let Subject { index, queries, settings, .. } = *subject;
    let available = index.map_or(queries.labels.len().saturating_sub(1), |index| index.labels.len());
    let mut sizes = sizes(settings);
    sizes.retain(|&k| k <= available);
    let most = sizes.last().copied().unwrap_or(settings.headline_neighbors);
    let (near, labels) = match (index, settings.engine) {
        (None, _) => (neighbors::nearest_excluding_self(queries.unit, most)?, queries.labels),
        (Some(index), Engine::Fast) => (neighbors::nearest(index.unit, queries.unit, most)?, index.labels),
        (Some(index), Engine::Linfa) => (neighbors::nearest_linfa(index.unit, queries.unit, most)?, index.labels),
    };
    let counted = subject.with_classmate();
    if counted.is_empty() {
        let rule = "no evaluated image has another one of its class among those that it is compared with";
        return Err(Error::undefined("the class of the nearest", rule, "pass images that share classes"));
    }
    let query_labels = at(&counted, queries.labels);
    let near = Neighbors {
        indices: near.indices.select(Axis(0), &counted),
        similarities: near.similarities.select(Axis(0), &counted),
    };
    let curve = |vote| retrieval::knn_accuracy_curve(&near, labels, &query_labels, vote);
    let plain = curve(Vote::Majority)?;
    let weighted = curve(Vote::Softmax { temperature: settings.vote_temperature })?;
    for &k in &sizes {
        found.add(KNN_ACCURACY.with(k), plain[k - 1]);
        if k == settings.headline_neighbors {
            let predicted = neighbors::knn_predictions(&near, labels, k)?;
            let value = accuracy::macro_accuracy(&predicted, &query_labels, subject.classes)?;
            found.add(KNN_MACRO_ACCURACY.with(k), value);
            found.resample(KNN_ACCURACY.with(k), &predicted, &query_labels, subject)?;
        }
    }
    for k in sizes {
        found.add(KNN_WEIGHTED_ACCURACY.with(k), weighted[k - 1]);
    }
    let (all, left_out) = (queries.labels.len(), queries.labels.len() - counted.len());
    found.add(WITHOUT_CLASSMATE.id(), left_out as f64);
    if left_out > 0 {
        let (what, leave) = match index {
            Some(_) => ("no training image", "KNN, retrieval, nearest centre and linear probe leave"),
            None => ("no other image", "KNN leaves"),
        };
        found.notes.push(format!("{left_out} of {all} evaluated images have {what} of their class: {leave} them out."));
    }
    Ok(())
}
