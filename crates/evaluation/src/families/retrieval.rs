//! Retrieval: with the training images as index, and among the validation images alone.

use super::{Family, Findings, Headline, Result, rows};
use crate::registry::Metric;
use faceoff_analysis::retrieval::{self, RECALL_AT, Retrieval};

rows! { METRICS in "Retrieval":
    PRECISION_AT_1 "precision_at_1" "Precision@1" Percent Higher
        "Share of the validation images with a classmate in training whose most similar training image is of their class: KNN accuracy with one neighbour." "count";
    RECALL_AT_K "recall_at_#" "Recall@#" Percent Higher
        "Share of the same images with one of their class among their # most similar training images." "arXiv:1511.06452";
    R_PRECISION "r_precision" "R-precision" Percent Higher
        "Share of hits among the R most similar training images of a validation image, R being the size of its class, averaged over the same images."
        "arXiv:2003.08505";
    MAP_AT_R "map_at_r" "MAP@R" Percent Higher
        "Mean average precision over the R most similar training images, R being the size of the class." "arXiv:2003.08505";
    MEAN_RECIPROCAL_RANK "mean_reciprocal_rank" "Mean reciprocal rank" Number Higher
        "Mean of 1 / rank of the first training image of the right class." "Voorhees 1999";
}

rows! { LEAVE_ONE_OUT_METRICS in "Retrieval, leave one out":
    LOO_PRECISION_AT_1 "loo_precision_at_1" "Precision@1" Percent Higher
        "Share of the validation images with a classmate among the others whose most similar other validation image is of their class." "count";
    LOO_RECALL_AT_K "loo_recall_at_#" "Recall@#" Percent Higher
        "Share of the same images with one of their class among their # most similar other validation images." "arXiv:1511.06452";
    LOO_R_PRECISION "loo_r_precision" "R-precision" Percent Higher
        "Share of hits among the R most similar other validation images, R being the number of others of the class, averaged over the same images."
        "arXiv:2003.08505";
    LOO_MAP_AT_R "loo_map_at_r" "MAP@R" Percent Higher
        "Mean average precision over the R most similar other validation images, R being the number of others of the class." "arXiv:2003.08505";
    LOO_MEAN_RECIPROCAL_RANK "loo_mean_reciprocal_rank" "Mean reciprocal rank" Number Higher
        "Mean of 1 / rank of the first other validation image of the right class." "Voorhees 1999";
    LOO_WITHOUT_CLASSMATE "loo_queries_without_classmate" "Images without a classmate" Count Neither
        "Number of validation images whose class no other validation image has; the metrics above leave them out." "count";
}

/// Training images are the index, validation images the queries.
pub const FAMILY: Family = Family {
    name: "retrieval",
    version: 2,
    metrics: METRICS,
    headline: |_| Vec::new(),
    measure: |subject, found| {
        let Some(index) = subject.index else { return Ok(()) };
        let queries = subject.queries;
        add(found, METRICS, &retrieval::retrieval(index.unit, index.labels, queries.unit, queries.labels)?)
    },
};

/// Every validation image is a query, all others are the index.
pub const LEAVE_ONE_OUT: Family = Family {
    name: "retrieval, leave one out",
    version: 2,
    metrics: LEAVE_ONE_OUT_METRICS,
    headline: |_| {
        let metrics = [LOO_PRECISION_AT_1.id(), LOO_MAP_AT_R.id()];
        metrics.map(|metric| (metric, Headline::ResultIfUnseen)).to_vec()
    },
    measure: |subject, found| {
        let queries = subject.queries;
        let measured = retrieval::retrieval_leave_one_out(queries.unit, queries.labels)?;
        add(found, LEAVE_ONE_OUT_METRICS, &measured)?;
        found.add(LOO_WITHOUT_CLASSMATE.id(), measured.left_out as f64);
        if measured.left_out > 0 {
            let (left_out, all) = (measured.left_out, queries.labels.len());
            let leave = "retrieval, leave one out, leaves them out";
            found.notes.push(format!("{left_out} of {all} evaluated images are the only one of their class: {leave}."));
        }
        Ok(())
    },
};

fn add(found: &mut Findings, metrics: &[&'static Metric], measured: &Retrieval) -> Result<()> {
    let &[precision, recall, r_precision, map_at_r, reciprocal_rank, ..] = metrics else {
        unreachable!("both families have these five rows first")
    };
    found.add(precision.id(), measured.recall_at[0]);
    for (k, share) in RECALL_AT.iter().zip(measured.recall_at) {
        found.add(recall.with(*k), share);
    }
    found.add(r_precision.id(), measured.r_precision);
    found.add(map_at_r.id(), measured.map_at_r);
    found.add(reciprocal_rank.id(), measured.mean_reciprocal_rank);
    Ok(())
}
