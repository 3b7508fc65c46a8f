//! What can be wrong with embeddings, scores, labels and parameters: each error names the value, the rule and the remedy.

use std::ops::RangeInclusive;

use ndarray::{ArrayView2, Axis, aview1};

/// The sign bit of an f32.
const SIGN: u32 = 1 << 31;

/// The result of every fallible function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a measurement is not defined for the given input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing to measure: the name of the input.
    #[error("{0} is empty: at least one entry is needed; check the split or filter that it comes from")]
    Empty(&'static str),
    /// Two inputs that describe the same things differ in length: each with its own.
    #[error("{0} has {1} entries but {2} has {3}: they must agree; pass both from the same split")]
    LengthMismatch(&'static str, usize, &'static str, usize),
    /// A NaN or an infinity: the input, zero-based row and column, and the value found.
    #[error("{0} holds {3} at row {1}, column {2}: every value must be finite; look for a diverged run")]
    NotFinite(&'static str, usize, usize, f64),
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
    /// Well-formed input for which the measure has no value, such as points without any spread: the measure, what the input
    /// lacks, and what to do.
    #[error("{0} is not defined: {1}; {2}")]
    Undefined(&'static str, String, &'static str),
    /// A library could not finish: its name and its own message.
    #[error("{0} failed: {1}; use the default engine")]
    Library(&'static str, String),
}

impl Error {
    /// An [`Error::OutOfRange`].
    pub fn out_of_range(name: &'static str, value: f64, rule: impl Into<String>, remedy: &'static str) -> Self {
        Self::OutOfRange { name, value, rule: rule.into(), remedy }
    }

    /// An [`Error::Undefined`].
    pub fn undefined(what: &'static str, rule: impl Into<String>, remedy: &'static str) -> Self {
        Self::Undefined(what, rule.into(), remedy)
    }
}

/// Fails unless the matrix has rows and columns and all its values are finite; gives their greatest magnitude.
pub(crate) fn check_matrix(what: &'static str, data: ArrayView2<'_, f32>) -> Result<f32> {
    // Magnitudes order like their bit patterns, which is a search that vectorises; infinity and NaN come last.
    let magnitude = |value: &f32| value.to_bits() & !SIGN;
    let largest = match data.to_slice() {
        Some(values) => values.iter().map(magnitude).max(),
        None => data.iter().map(magnitude).max(),
    };
    let largest = largest.map_or(f32::NAN, f32::from_bits);
    if !largest.is_finite() {
        check_finite(what, data)?;
    }
    Ok(largest)
}

/// Fails unless there are values, all of them finite.
pub(crate) fn check_finite<T: Copy + Into<f64>>(what: &'static str, data: ArrayView2<'_, T>) -> Result<()> {
    if data.is_empty() {
        return Err(Error::Empty(what));
    }
    let mut values = data.indexed_iter().map(|(at, &value)| -> (_, f64) { (at, value.into()) });
    match values.find(|(_, value)| !value.is_finite()) {
        Some(((row, column), value)) => Err(Error::NotFinite(what, row, column, value)),
        None => Ok(()),
    }
}

/// [`check_finite`] of a column.
pub(crate) fn check_values(what: &'static str, values: &[f64]) -> Result<()> {
    check_finite(what, aview1(values).insert_axis(Axis(1)))
}

/// Fails unless the number is finite and above 0.
pub(crate) fn check_positive(name: &'static str, value: f64, remedy: &'static str) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::out_of_range(name, value, "it must be finite and above 0", remedy))
}

/// Fails outside a range, whose end is `usize::MAX` where there is none.
pub(crate) fn check_count(
    name: &'static str,
    count: usize,
    range: RangeInclusive<usize>,
    remedy: &'static str,
) -> Result<()> {
    if range.contains(&count) {
        return Ok(());
    }
    let rule = match range.into_inner() {
        (least, usize::MAX) => format!("it must be at least {least}"),
        (least, most) => format!("it must be from {least} to {most}"),
    };
    Err(Error::out_of_range(name, count as f64, rule, remedy))
}

/// Fails unless both lengths agree and are not zero.
pub(crate) fn check_lengths(left: &'static str, left_len: usize, right: &'static str, right_len: usize) -> Result<()> {
    match left_len {
        _ if left_len != right_len => Err(Error::LengthMismatch(left, left_len, right, right_len)),
        0 => Err(Error::Empty(left)),
        _ => Ok(()),
    }
}

/// Fails at the first label that is not below `classes`.
pub(crate) fn check_labels(labels: &[u32], classes: usize) -> Result<()> {
    let Some(position) = labels.iter().position(|&label| label as usize >= classes) else { return Ok(()) };
    let rule = format!("at position {position} it must be below {classes}, the number of classes");
    let remedy = "check the class count or the label map";
    Err(Error::out_of_range("a label", f64::from(labels[position]), rule, remedy))
}
