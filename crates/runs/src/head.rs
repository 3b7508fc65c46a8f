//! Heads as an experiment file states them: plain data. What a kind needs, and in which range, the heads crate knows.

use crate::Sampler;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The scale that is left to the number of classes.
pub const AUTO: &str = "auto";

/// One head: its kind and the value of each parameter. The formulas and the ranges stand in the heads crate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadConfig {
    kind: String,
    #[serde(flatten)]
    parameters: BTreeMap<String, ParameterValue>,
}

impl HeadConfig {
    /// A head without parameters.
    pub fn new(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), parameters: BTreeMap::new() }
    }

    /// The same head with this value of this parameter, whether or not it had one.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<ParameterValue>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// The head's name, as written after `kind =`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// All parameters, sorted by name.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &ParameterValue)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The value of a parameter; `None` where the head states none.
    pub fn get(&self, name: &str) -> Option<&ParameterValue> {
        self.parameters.get(name)
    }

    /// The same, if it is a number.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name).and_then(ParameterValue::number)
    }

    /// The fixed scale s; `None` for heads that have none to set, and where it is left to the number of classes.
    pub fn scale(&self) -> Option<f64> {
        self.number("scale")
    }

    /// Whether the scale is left to the number of classes C: `scale = "auto"`, which is sqrt(2) ln(C - 1).
    pub fn scale_is_auto(&self) -> bool {
        self.get("scale") == Some(&AUTO.into())
    }

    /// The head apart from scale and margin, as text: variants that agree in it make one map of scales and margins.
    pub fn family(&self) -> String {
        let others = self.parameters().filter(|(name, _)| *name != "scale" && !name.starts_with("margin"));
        others.fold(self.kind.clone(), |text, (name, value)| format!("{text} {name} = {value}"))
    }

    /// The parameters that are choices by name, apart from the scale.
    pub fn choices(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().filter(|(name, _)| *name != "scale").filter_map(|(_, value)| match value {
            ParameterValue::Text(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// The margin m with its unit; `None` for heads without.
    pub fn margin(&self) -> Option<Margin> {
        let cosine = || self.number("margin_cosine").map(Margin::Cosine);
        self.number("margin_radians").map(Margin::Radians).or_else(cosine)
    }

    /// Whether the head treats the label apart. The names of parameters that say how begin with `margin`; a margin of 0 and a
    /// factor of 1 are none.
    pub fn has_margin(&self) -> bool {
        let neutral = |name: &str| if name.ends_with("factor") { 1.0 } else { 0.0 };
        let acts = |name: &str, value: &ParameterValue| value.number() != Some(neutral(name));
        self.parameters.iter().any(|(name, value)| name.starts_with("margin") && acts(name, value))
    }
}

/// What a parameter may be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParameterValue {
    /// A whole number.
    Integer(i64),
    /// Any other number.
    Number(f64),
    /// A choice by name.
    Text(String),
}

impl ParameterValue {
    /// The number, if it is one.
    pub fn number(&self) -> Option<f64> {
        match *self {
            Self::Integer(value) => Some(value as f64),
            Self::Number(value) => Some(value),
            Self::Text(_) => None,
        }
    }

    /// The whole number, if it is written as one.
    pub fn integer(&self) -> Option<i64> {
        if let Self::Integer(value) = *self { Some(value) } else { None }
    }
}

impl From<f64> for ParameterValue {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<i64> for ParameterValue {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<&str> for ParameterValue {
    fn from(value: &str) -> Self {
        Self::Text(value.into())
    }
}

/// As an experiment file has it.
impl fmt::Display for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value:?}"),
            Self::Text(value) => write!(f, "{value:?}"),
        }
    }
}

/// A margin m with its unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Margin {
    /// Added to an angle.
    Radians(f64),
    /// Taken from a cosine.
    Cosine(f64),
}

impl Margin {
    /// m without its unit.
    pub fn value(self) -> f64 {
        let (Self::Radians(value) | Self::Cosine(value)) = self;
        value
    }

    /// `radians` or `cosine`.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Radians(_) => "radians",
            Self::Cosine(_) => "cosine",
        }
    }
}

/// How a head's weights start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HeadInit {
    /// One rule for all heads, so that they differ in nothing but their formula.
    Uniform,
    /// Catalyst's own rule for each head.
    Catalyst,
}

/// A named head of an experiment: `[[heads]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadVariant {
    /// Unique within the experiment; the kind unless stated. Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The head.
    #[serde(flatten)]
    pub head: HeadConfig,
    /// Instead of `training.peak_learning_rate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_learning_rate: Option<f64>,
    /// Instead of `training.sampler`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampler: Option<Sampler>,
}

/// Combinations that a block may stand for.
const MOST_VARIANTS: usize = 10_000;

/// The block as written. One with lists stands for every combination of their values.
#[derive(Deserialize)]
struct HeadBlock {
    kind: String,
    name: Option<String>,
    peak_learning_rate: Option<f64>,
    sampler: Option<Sampler>,
    #[serde(flatten)]
    parameters: BTreeMap<String, Values>,
}

/// One value, or a list of which each makes a variant.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a head's parameter must be a number, a text or a list of either")]
enum Values {
    One(ParameterValue),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Texts(Vec<String>),
}

impl Values {
    /// Each value of the parameter `name`, with what it appends to the variant's name.
    fn each(self, name: &str) -> Vec<(ParameterValue, String)> {
        let letter = match name {
            "scale" => "s",
            "margin_radians" | "margin_cosine" => "m",
            other => other,
        };
        match self {
            Self::One(value) => vec![(value, String::new())],
            Self::Integers(list) => list.iter().map(|&n| (n.into(), format!("-{letter}{n}"))).collect(),
            Self::Numbers(list) => list.iter().map(|&x| (x.into(), format!("-{letter}{x}"))).collect(),
            Self::Texts(list) => list.iter().map(|text| (text.as_str().into(), format!("-{text}"))).collect(),
        }
    }
}

/// Reads `[[heads]]`: the variants of every block, in order.
pub(crate) fn variants<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<HeadVariant>, D::Error> {
    let blocks = Vec::<HeadBlock>::deserialize(deserializer)?;
    let variants: std::result::Result<Vec<_>, _> = blocks.into_iter().map(HeadBlock::variants).collect();
    Ok(variants.map_err(serde::de::Error::custom)?.concat())
}

impl HeadBlock {
    /// Every combination of the values: margins within scales, the others within those.
    fn variants(self) -> std::result::Result<Vec<HeadVariant>, String> {
        let name = self.name.unwrap_or_else(|| self.kind.clone());
        let first = HeadVariant {
            name: name.clone(),
            head: HeadConfig::new(self.kind),
            peak_learning_rate: self.peak_learning_rate,
            sampler: self.sampler,
        };
        let mut parameters: Vec<_> = self.parameters.into_iter().collect();
        parameters.sort_by_key(|(key, _)| (key != "scale", !key.starts_with("margin")));
        let mut variants = vec![first];
        for (key, values) in parameters {
            let values = values.each(&key);
            if values.is_empty() {
                return Err(format!("head `{name}` has an empty list; list at least one number"));
            }
            if variants.len().saturating_mul(values.len()) > MOST_VARIANTS {
                return Err(format!(
                    "the lists of head `{name}` give more than {MOST_VARIANTS} combinations; make some shorter"
                ));
            }
            let combined = |variant: &HeadVariant| {
                let of_value = |(value, suffix): &(ParameterValue, String)| HeadVariant {
                    name: format!("{}{suffix}", variant.name),
                    head: variant.head.clone().with(&key, value.clone()),
                    ..variant.clone()
                };
                values.iter().map(of_value).collect::<Vec<_>>()
            };
            variants = variants.iter().flat_map(combined).collect();
        }
        Ok(variants)
    }
}
