//! The errors of this crate: each carries the value, the rule and the remedy.

/// What can go wrong in a head.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No head of that kind.
    #[error("unknown head kind `{kind}`; did you mean `{nearest}`? There are: {known}")]
    Kind {
        /// The kind asked for.
        kind: String,
        /// The one that is spelled most like it.
        nearest: &'static str,
        /// All kinds.
        known: String,
    },
    /// A parameter of a head is missing, unknown or outside its range.
    #[error("`{kind}: {name}` {problem}")]
    Parameter {
        /// Kind of the head.
        kind: String,
        /// The parameter.
        name: String,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// Too few classes for this head.
    #[error("{head} with {classes} classes: {rule}")]
    Classes {
        /// Kind of the head.
        head: &'static str,
        /// Classes asked for.
        classes: usize,
        /// What there must be, and why.
        rule: &'static str,
    },
    /// A step cannot see a share of the classes.
    #[error(
        "training.class_sampling is {share}, but the loss of {head} is a sum over all classes, and no softmax that a share of them stands for; \
         leave it out, or this head"
    )]
    Sampling {
        /// Kind of the head.
        head: &'static str,
        /// The share asked for.
        share: f64,
    },
    /// The labels of a loss that has no softmax cannot be smoothed.
    #[error(
        "training.label_smoothing is {epsilon}, but the loss of {head} is no cross-entropy over classes, whose targets could be smoothed; leave it \
         out, or this head"
    )]
    Smoothing {
        /// Kind of the head.
        head: &'static str,
        /// The share asked for.
        epsilon: f64,
    },
    /// A tensor of the wrong shape.
    #[error("{what} have shape {found:?}; this head needs {expected}")]
    Shape {
        /// Which tensor.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// The shape it must have.
        expected: String,
    },
    /// A label that is no class.
    #[error("label {label} of row {row}: labels must be below {classes}, the number of classes")]
    Label {
        /// The label.
        label: u32,
        /// Where it stands in the batch.
        row: usize,
        /// Number of classes.
        classes: usize,
    },
    /// A saved tensor is missing, unknown or of another shape.
    #[error("tensor `{name}` of the head: {problem}; the file belongs to another head or number of classes")]
    State {
        /// The tensor's name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A failure inside Candle.
    #[error(transparent)]
    Candle(#[from] candle_core::Error),
}
