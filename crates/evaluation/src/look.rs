//! What can be looked at image by image: what a head says of each validation image, and the images that lie nearest to it.
//!
//! Of one run a variant, as its maps. It is worked out from the embeddings whenever a report is made, in a second or two, and not stored:
//! a run without embeddings has none.

use crate::measured::{Splits, Subject, ValImages};
use faceoff_analysis::{Result, accuracy, neighbors};

/// So many neighbours of an image are kept.
pub const NEIGHBORS: usize = 10;

/// Each validation image under one run.
#[derive(Debug, Clone)]
pub struct Look {
    /// The images among which neighbours are sought; `None` where these are the validation images themselves.
    pub index: Option<ValImages>,
    /// Places in the index of the nearest images by cosine, for each validation image the nearest first.
    pub neighbors: Vec<Vec<u32>>,
    /// What the head says; `None` where its scores say nothing of the evaluated classes, and for a loss of pairs, which has none.
    pub said: Option<Said>,
}

/// What a head says of each validation image, labels withheld.
#[derive(Debug, Clone)]
pub struct Said {
    /// The class of the highest score.
    pub classes: Vec<u32>,
    /// Its probability: the softmax of the scores times the head's scale.
    pub confidences: Vec<f64>,
}

impl Look {
    /// Of a run's splits.
    pub(crate) fn of_splits(splits: &Splits, subject: &Subject<'_>) -> Result<Self> {
        let said = subject.classifier.and_then(Said::of);
        Ok(Self { said, ..Self::of(subject, Some(ValImages::of(&splits.train)))? })
    }

    /// Of embeddings alone: the neighbours. `index` are the images of the subject's index.
    pub(crate) fn of(subject: &Subject<'_>, index: Option<ValImages>) -> Result<Self> {
        let queries = subject.queries;
        let found = match subject.index {
            Some(index) => neighbors::nearest(index.unit, queries.unit, NEIGHBORS.min(index.labels.len()))?,
            None => {
                let others = queries.labels.len().saturating_sub(1);
                neighbors::nearest_excluding_self(queries.unit, NEIGHBORS.min(others))?
            }
        };
        let neighbors = found.indices.rows().into_iter().map(|row| row.to_vec()).collect();
        Ok(Self { index, neighbors, said: None })
    }
}

impl Said {
    fn of(splits: &Splits) -> Option<Self> {
        let (scores, scale) = (splits.scores(&splits.val)?, f64::from(splits.val.effective_scale));
        let classes = accuracy::predictions(scores);
        let confidence = |(row, &class): (ndarray::ArrayView1<'_, f32>, &u32)| {
            let highest = f64::from(row[class as usize]);
            1.0 / row.iter().map(|&score| (scale * (f64::from(score) - highest)).exp()).sum::<f64>()
        };
        let confidences = scores.rows().into_iter().zip(&classes).map(confidence).collect();
        Some(Self { classes, confidences })
    }
}
