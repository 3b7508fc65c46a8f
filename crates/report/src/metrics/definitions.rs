//! What each metric is called and means, in one sentence.

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A share, written in percent.
    Percent,
    /// An angle.
    Degrees,
    /// A number of things, or its mean over seeds.
    Count,
    /// A plain number with three decimals.
    Number,
}

/// A metric as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) title: String,
    /// The family it belongs to.
    pub(crate) group: &'static str,
    pub(crate) unit: Unit,
    pub(crate) sentence: String,
}

use Unit::{Count, Degrees, Number, Percent};

/// Metric, title, group, unit, sentence.
#[rustfmt::skip]
const DEFINITIONS: &[(&str, &str, &str, Unit, &str)] = &[
    ("dnn_accuracy", "DNN accuracy", "Classifier", Percent,
     "Share of the validation images whose class has the head's highest score, labels withheld."),
    ("dnn_macro_accuracy", "DNN macro accuracy", "Classifier", Percent,
     "DNN accuracy within each class, averaged over the classes, so that a small class counts as much as a large one."),
    ("dnn_accuracy_labels_given", "DNN accuracy, labels given", "Classifier", Percent,
     "Share of the validation images whose class has the highest training logit, true labels given: a margin handicaps its own class."),
    ("knn_macro_accuracy_k5", "KNN macro accuracy, k = 5", "Nearest neighbours", Percent,
     "KNN accuracy with 5 neighbours within each class, averaged over the classes."),
    ("effective_rank", "Effective rank", "Explained variance", Count,
     "Exponential of the entropy of the singular values of the centred training embeddings, their sum taken as 1: about how many directions are in use (Roy and Vetterli 2007)."),
    ("components_for_95_percent", "Components for 95 %", "Explained variance", Count,
     "Smallest number of principal components that hold 95 % of the variance of the training embeddings."),
    ("precision_at_1", "Precision@1", "Retrieval", Percent,
     "Share of the validation images whose most similar training image is of their class."),
    ("r_precision", "R-precision", "Retrieval", Percent,
     "Share of hits among the R most similar training images of a validation image, R being the size of its class, averaged over the validation images."),
    ("map_at_r", "MAP@R", "Retrieval", Percent,
     "Mean average precision over the R most similar training images, R being the size of the class (arXiv:2003.08505)."),
    ("mean_reciprocal_rank", "Mean reciprocal rank", "Retrieval", Number,
     "Mean of 1 / rank of the first training image of the right class."),
    ("loo_precision_at_1", "Precision@1", "Retrieval, leave one out", Percent,
     "Share of the validation images whose most similar other validation image is of their class."),
    ("loo_r_precision", "R-precision", "Retrieval, leave one out", Percent,
     "Share of hits among the R most similar other validation images, R being the number of others of the class, averaged over the validation images."),
    ("loo_map_at_r", "MAP@R", "Retrieval, leave one out", Percent,
     "Mean average precision over the R most similar other validation images, R being the number of others of the class (arXiv:2003.08505)."),
    ("loo_mean_reciprocal_rank", "Mean reciprocal rank", "Retrieval, leave one out", Number,
     "Mean of 1 / rank of the first other validation image of the right class."),
    ("verification_auc", "ROC AUC", "Verification", Number,
     "Chance that a pair of validation images of one class is more similar than a pair of two classes."),
    ("equal_error_rate", "Equal error rate", "Verification", Percent,
     "Error at the threshold of similarity at which as many pairs of two classes are accepted as pairs of one class are refused."),
    ("intra_class_angle_degrees", "Angle within classes", "Verification", Degrees,
     "Mean angle between the embeddings of two validation images of one class."),
    ("intra_class_angle_sd_degrees", "Angle within classes, sd", "Verification", Degrees,
     "Standard deviation of the angle between the embeddings of two validation images of one class."),
    ("inter_class_angle_degrees", "Angle between classes", "Verification", Degrees,
     "Mean angle between the embeddings of two validation images of two classes."),
    ("inter_class_angle_sd_degrees", "Angle between classes, sd", "Verification", Degrees,
     "Standard deviation of the angle between the embeddings of two validation images of two classes."),
    ("kmeans_nmi", "k-means NMI", "Clustering", Number,
     "Normalised mutual information (0 to 1) between the classes of the validation images and as many clusters by k-means."),
    ("kmeans_ami", "k-means AMI", "Clustering", Number,
     "Mutual information between classes and clusters above what chance gives: 1 for equal partitions, about 0 for chance."),
    ("silhouette", "Silhouette", "Clustering", Number,
     "How much nearer (cosine distance) a validation image lies to its own class than to the next, from -1 to 1, averaged."),
    ("nearest_center_accuracy", "Nearest-centre accuracy", "Geometry", Percent,
     "Share of the validation images whose nearest class centre of the training embeddings is that of their class."),
    ("smallest_center_angle_degrees", "Smallest angle between centres", "Geometry", Degrees,
     "Angle between the two nearest class centres of the validation embeddings."),
    ("alignment", "Alignment", "Geometry", Number,
     "Mean squared distance between validation embeddings of one class, 0 to 4, lower is tighter (arXiv:2005.10242)."),
    ("uniformity", "Uniformity", "Geometry", Number,
     "Logarithm of the mean of exp(-2 squared distance) over all pairs of validation embeddings, lower is more evenly spread (arXiv:2005.10242)."),
    ("nc1_within_over_between", "NC1", "Geometry", Number,
     "Neural collapse of the training embeddings: variability within classes over that between class means, 0 at full collapse (arXiv:2008.08186)."),
    ("nc2_equinorm", "NC2, equal norms", "Geometry", Number,
     "Relative scatter of the lengths of the centred class means, 0 at full collapse."),
    ("nc2_equiangularity", "NC2, equal angles", "Geometry", Number,
     "Scatter of the cosines between the centred class means, 0 at full collapse."),
    ("nc2_maximal_angle", "NC2, largest angles", "Geometry", Number,
     "Mean distance of those cosines from -1 / (C - 1), that of a regular simplex, 0 at full collapse."),
    ("nc3_self_duality", "NC3, self-duality", "Geometry", Number,
     "Distance between the head's class vectors and the centred class means of the training embeddings, each set scaled to Frobenius norm 1: 0 at full collapse, at most 2 (arXiv:2008.08186); not defined for a head with several vectors a class."),
    ("nc4_nearest_mean_disagreement", "NC4, disagreement", "Geometry", Percent,
     "Share of the training images whose highest score names another class than the nearest class mean of their embeddings does, 0 at full collapse (arXiv:2008.08186)."),
    ("linear_probe_accuracy", "Linear probe accuracy", "Linear probe", Percent,
     "Accuracy on the validation images of a logistic regression fitted to the unit training embeddings (L2 penalty, C = 1)."),
    ("linear_probe_log_loss", "Linear probe log loss", "Linear probe", Number,
     "Mean of -ln of the probability that the probe gives to the true class, in nats."),
    ("calibration_error", "Expected calibration error", "Calibration", Percent,
     "Mean distance between confidence and accuracy over 15 bins of the confidence; probabilities are the softmax of the scores times the head's scale (arXiv:1706.04599)."),
    ("negative_log_likelihood", "Negative log-likelihood", "Calibration", Number,
     "Mean of -ln of the probability that the head gives to the true class, in nats."),
    ("brier_score", "Brier score", "Calibration", Number,
     "Mean squared distance between the head's probabilities and the true class, 0 to 2."),
];

/// Title, group, unit and sentence of metrics whose names end in a number, which stands for `#`.
#[rustfmt::skip]
const NUMBERED: &[(&str, &str, &str, Unit, &str)] = &[
    ("knn_accuracy_k", "KNN accuracy, k = #", "Nearest neighbours", Percent,
     "Share of the validation images whose class has the majority among their # most similar training images (cosine of unit embeddings); ties go to the class of the nearest among the tied."),
    ("knn_weighted_accuracy_k", "Weighted KNN accuracy, k = #", "Nearest neighbours", Percent,
     "KNN accuracy in which each of the # neighbours counts exp(cosine / 0.07) instead of one (arXiv:1805.01978)."),
    ("loo_recall_at_", "Recall@#", "Retrieval, leave one out", Percent,
     "Share of the validation images with one of their class among their # most similar other validation images."),
    ("explained_variance_", "Explained variance, #", "Explained variance", Number,
     "Share of the total variance of the unit training embeddings along their first # principal components."),
    ("recall_at_", "Recall@#", "Retrieval", Percent,
     "Share of the validation images with one of their class among their # most similar training images."),
    ("tar_at_far_", "TAR at FAR #", "Verification", Percent,
     "Share of the pairs of one class that are accepted at the threshold of similarity that accepts at most a share # of the pairs of two classes."),
];

/// The definition of a metric of `metrics.csv`.
pub(crate) fn definition(metric: &str) -> Definition {
    if let Some(&(_, title, group, unit, sentence)) = DEFINITIONS.iter().find(|row| row.0 == metric) {
        return Definition { title: title.into(), group, unit, sentence: sentence.into() };
    }
    let numbered = NUMBERED.iter().find_map(|row| Some((row, metric.strip_prefix(row.0)?)));
    match numbered {
        Some((&(_, title, group, unit, sentence), number)) => {
            let number = match number {
                "1e-1" => "0.1",
                "1e-2" => "0.01",
                "1e-3" => "0.001",
                "1e-4" => "0.0001",
                plain => plain,
            };
            Definition {
                title: title.replace('#', number),
                group,
                unit,
                sentence: sentence.replace('#', number),
            }
        }
        None => Definition {
            title: metric.replace('_', " "),
            group: "Other",
            unit: Number,
            sentence: String::new(),
        },
    }
}

impl Definition {
    /// What stands behind the title: the unit, if there is one.
    pub(crate) fn unit_suffix(&self) -> &'static str {
        match self.unit {
            Percent => ",\u{a0}%",
            Degrees => ",\u{a0}degrees",
            Count | Number => "",
        }
    }

    /// A value as people read it, without the unit.
    pub(crate) fn format(&self, value: f64) -> String {
        match self.unit {
            Percent => format!("{:.1}", 100.0 * value),
            Degrees | Count => format!("{value:.1}"),
            Number => format!("{value:.3}"),
        }
    }
}
