//! Whole numbers as people write and read them. Lists, the same everywhere: `[1, 5, 20]`, or in quotes numbers and ranges, `"0..5"`
//! without its end, `"1..=50"` or `"1-50"` with it, `"0..3, 7"`. Large ones: `12,954`.

use crate::{Error, Result};
use serde::{Deserialize, Deserializer, de::Error as _};

/// Numbers of a list at most, so that a slip of the finger does not fill the memory.
const MOST: u64 = 100_000;

/// Reads numbers and ranges, separated by commas.
pub fn parse_integers(text: &str) -> Result<Vec<u64>> {
    let refused = |rule: &str| Error::value("a list of whole numbers", text, rule);
    let mut numbers = Vec::new();
    for part in text.split(',') {
        let number = |text: &str| {
            let rule = "its parts must be whole numbers from 0, or ranges like `0..5` (without its end) and `1..=50` or `1-50` (with it)";
            text.trim().parse::<u64>().map_err(|_| refused(rule))
        };
        let with_end = part.split_once("..=").or(part.split_once('-'));
        let (first, end) = match (with_end, part.split_once("..")) {
            (Some((first, last)), _) => (number(first)?, number(last)?.saturating_add(1)),
            (None, Some((first, end))) => (number(first)?, number(end)?),
            (None, None) => (number(part)?, number(part)?.saturating_add(1)),
        };
        if first >= end || end - first > MOST {
            return Err(refused(&format!("a range must hold at least one number and at most {MOST}")));
        }
        numbers.extend(first..end);
    }
    Ok(numbers)
}

/// `12954` as `12,954`.
pub fn thousands(number: usize) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", thousands(number / 1000), number % 1000),
    }
}

/// For `#[serde(deserialize_with)]`.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<u64>>(
    deserializer: D,
) -> std::result::Result<Vec<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a list of whole numbers, or a range like \"1..=50\"")]
    enum Integers {
        List(Vec<u64>),
        Text(String),
    }
    let numbers = match Integers::deserialize(deserializer)? {
        Integers::List(numbers) => numbers,
        Integers::Text(text) => parse_integers(&text).map_err(D::Error::custom)?,
    };
    let fits = |number| T::try_from(number).map_err(|_| D::Error::custom(format!("{number} is too large")));
    numbers.into_iter().map(fits).collect()
}
