//! What each metric is called and means, in one sentence.

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A share, written in percent.
    Percent,
    /// A plain number with three decimals.
    Number,
}

/// A metric as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    pub(crate) title: String,
    pub(crate) sentence: String,
    pub(crate) unit: Unit,
}

/// The definition of a metric of `metrics.csv`.
pub(crate) fn definition(metric: &str) -> Definition {
    let (title, unit, sentence) = match metric {
        "dnn_accuracy" => (
            "DNN accuracy",
            Unit::Percent,
            "Share of the validation images whose class has the head's highest score, labels withheld.",
        ),
        "dnn_macro_accuracy" => (
            "DNN macro accuracy",
            Unit::Percent,
            "DNN accuracy within each class, averaged over the classes, so that a small class counts as much as a large one.",
        ),
        "dnn_accuracy_labels_given" => (
            "DNN accuracy, labels given",
            Unit::Percent,
            "Share of the validation images whose class has the highest training logit, true labels given: a margin handicaps its own class, \
             so this lies below the DNN accuracy for heads with a margin.",
        ),
        "knn_macro_accuracy_k5" => (
            "KNN macro accuracy, k = 5",
            Unit::Percent,
            "KNN accuracy with 5 neighbours within each class, averaged over the classes.",
        ),
        _ => return numbered(metric),
    };
    Definition { title: title.into(), sentence: sentence.into(), unit }
}

/// Metrics whose names end in a number.
fn numbered(metric: &str) -> Definition {
    if let Some(k) = metric.strip_prefix("knn_accuracy_k") {
        return Definition {
            title: format!("KNN accuracy, k = {k}"),
            sentence: format!(
                "Share of the validation images whose class has the majority among their {k} most similar training images (cosine of the unit \
                 embeddings); ties go to the class of the nearest among the tied."
            ),
            unit: Unit::Percent,
        };
    }
    if let Some(count) = metric.strip_prefix("explained_variance_") {
        return Definition {
            title: format!("Explained variance, {count}"),
            sentence: format!(
                "Share of the total variance of the unit training embeddings that lies along their first {count} principal components."
            ),
            unit: Unit::Number,
        };
    }
    Definition { title: metric.replace('_', " "), sentence: String::new(), unit: Unit::Number }
}

impl Definition {
    /// What stands behind the title: `, %` or nothing.
    pub(crate) fn unit_suffix(&self) -> &'static str {
        match self.unit {
            Unit::Percent => ",\u{a0}%",
            Unit::Number => "",
        }
    }

    /// A value as people read it, without the unit.
    pub(crate) fn format(&self, value: f64) -> String {
        match self.unit {
            Unit::Percent => format!("{:.1}", 100.0 * value),
            Unit::Number => format!("{value:.3}"),
        }
    }
}
