//! What can be wrong with embeddings, scores, labels and parameters: each error names the value, the rule and the remedy.

use ndarray::ArrayView2;

/// The sign bit of an f32.
const SIGN: u32 = 1 << 31;

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a measurement is not defined for the given input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing to measure.
    #[error("{what} is empty: at least one entry is needed; check the split or filter that it comes from")]
    Empty {
        /// The empty input.
        what: &'static str,
    },
    /// Two inputs that describe the same things differ in length.
    #[error(
        "{left} has {left_len} entries but {right} has {right_len}: they must agree; pass both from the same split"
    )]
    LengthMismatch {
        /// The first input.
        left: &'static str,
        /// Its length.
        left_len: usize,
        /// The second input.
        right: &'static str,
        /// Its length.
        right_len: usize,
    },
    /// A NaN or an infinity.
    #[error("{what} holds {value} at row {row}, column {column}: every value must be finite; look for a diverged run")]
    NotFinite {
        /// The input.
        what: &'static str,
        /// Zero-based row.
        row: usize,
        /// Zero-based column.
        column: usize,
        /// The value found.
        value: f64,
    },
    /// A label that names no class.
    #[error(
        "label {label} at position {position} is not below {classes} classes; check the class count or the label map"
    )]
    LabelOutOfRange {
        /// Zero-based position.
        position: usize,
        /// The label found.
        label: u32,
        /// Number of classes.
        classes: usize,
    },
    /// More neighbours are asked for than there are.
    #[error("{k} neighbours asked for where 1 to {available} can be had; lower k or pass more points")]
    NeighborCount {
        /// Neighbours asked for.
        k: usize,
        /// Points that can be neighbours.
        available: usize,
    },
    /// A number outside its range.
    #[error("{name} is {value}: {rule}; {remedy}")]
    OutOfRange {
        /// The parameter or measured number.
        name: &'static str,
        /// The value found.
        value: f64,
        /// The range that holds.
        rule: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Well-formed input for which the measure has no value, such as points without any spread.
    #[error("{what} is not defined: {rule}; {remedy}")]
    Undefined {
        /// The measure.
        what: &'static str,
        /// What the input lacks.
        rule: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A library could not finish.
    #[error("{library} failed: {reason}; use the default engine")]
    Library {
        /// The library.
        library: &'static str,
        /// Its own message.
        reason: String,
    },
}

/// Fails unless the matrix has rows and columns and all its values are finite; gives their greatest magnitude.
pub(crate) fn check_matrix(what: &'static str, data: ArrayView2<'_, f32>) -> Result<f32> {
    if data.is_empty() {
        return Err(Error::Empty { what });
    }
    // Magnitudes order like their bit patterns, which is a search that vectorises; infinity and NaN come last.
    let magnitude = |value: &f32| value.to_bits() & !SIGN;
    let largest = match data.to_slice() {
        Some(values) => values.iter().map(magnitude).max(),
        None => data.iter().map(magnitude).max(),
    };
    let largest = f32::from_bits(largest.unwrap_or(0));
    if largest.is_finite() {
        return Ok(largest);
    }
    match data.indexed_iter().find(|(_, value)| !value.is_finite()) {
        Some(((row, column), &value)) => Err(Error::NotFinite { what, row, column, value: f64::from(value) }),
        None => Ok(largest),
    }
}

/// Fails at 0.
pub(crate) fn check_at_least_one(name: &'static str, count: usize, remedy: &'static str) -> Result<()> {
    if count > 0 {
        return Ok(());
    }
    Err(Error::OutOfRange { name, value: 0.0, rule: "it must be at least 1".into(), remedy })
}

/// Fails unless both lengths agree and are not zero.
pub(crate) fn check_lengths(left: &'static str, left_len: usize, right: &'static str, right_len: usize) -> Result<()> {
    if left_len != right_len {
        return Err(Error::LengthMismatch { left, left_len, right, right_len });
    }
    if left_len == 0 {
        return Err(Error::Empty { what: left });
    }
    Ok(())
}

/// Fails at the first label that is not below `classes`.
pub(crate) fn check_labels(labels: &[u32], classes: usize) -> Result<()> {
    match labels.iter().position(|&label| label as usize >= classes) {
        Some(position) => Err(Error::LabelOutOfRange { position, label: labels[position], classes }),
        None => Ok(()),
    }
}
