//! Heads as an experiment file states them: plain, validated configuration.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::f64::consts::FRAC_PI_2;

/// One head with all its parameters. The formulas stand in the heads crate.
#[derive(Debug, Clone, PartialEq)]
pub enum HeadConfig {
    /// Additive angular margin, arXiv:1801.07698.
    ArcFace {
        /// Factor s of the cosines, > 0.
        scale: f64,
        /// Angular margin m in radians, in [0, pi/2].
        margin_radians: f64,
        /// Cosines are clamped to [-1 + epsilon, 1 - epsilon].
        epsilon: f64,
    },
    /// ArcFace with several centres a class, Deng et al., ECCV 2020.
    SubCenterArcFace {
        /// Factor s of the cosines, > 0.
        scale: f64,
        /// Angular margin m in radians, in [0, pi/2].
        margin_radians: f64,
        /// Cosines are clamped to [-1 + epsilon, 1 - epsilon].
        epsilon: f64,
        /// Centres K of each class, >= 1.
        sub_centers: usize,
    },
    /// Additive cosine margin, arXiv:1801.09414.
    CosFace {
        /// Factor s of the cosines, > 0.
        scale: f64,
        /// Margin m, a difference of cosines, in [0, 1].
        margin_cosine: f64,
    },
    /// Adaptive scale without margin, arXiv:1905.00292.
    AdaCos {
        /// Cosines are clamped to [-1 + epsilon, 1 - epsilon] before the angle is taken.
        epsilon: f64,
    },
    /// Margin with adaptive weight of hard negatives, arXiv:2004.00288.
    CurricularFace {
        /// Factor s of the cosines, > 0.
        scale: f64,
        /// Angular margin m in radians, in [0, pi/2].
        margin_radians: f64,
    },
    /// Plain cosines: neither scale nor margin.
    ArcMarginProduct,
    /// Linear layer with bias.
    Classification,
}

impl HeadConfig {
    /// The kinds, in the order of tables and pictures.
    pub const KINDS: [&'static str; 7] = [
        "Classification",
        "ArcMarginProduct",
        "CosFace",
        "ArcFace",
        "AdaCos",
        "SubCenterArcFace",
        "CurricularFace",
    ];

    /// The head's name, as written after `kind =`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::ArcFace { .. } => "ArcFace",
            Self::SubCenterArcFace { .. } => "SubCenterArcFace",
            Self::CosFace { .. } => "CosFace",
            Self::AdaCos { .. } => "AdaCos",
            Self::CurricularFace { .. } => "CurricularFace",
            Self::ArcMarginProduct => "ArcMarginProduct",
            Self::Classification => "Classification",
        }
    }

    /// The fixed scale s; `None` for heads that have none to set.
    pub fn scale(&self) -> Option<f64> {
        match *self {
            Self::ArcFace { scale, .. }
            | Self::SubCenterArcFace { scale, .. }
            | Self::CosFace { scale, .. }
            | Self::CurricularFace { scale, .. } => Some(scale),
            Self::AdaCos { .. } | Self::ArcMarginProduct | Self::Classification => None,
        }
    }

    /// The margin m with its unit; `None` for heads without.
    pub fn margin(&self) -> Option<Margin> {
        match *self {
            Self::ArcFace { margin_radians, .. }
            | Self::SubCenterArcFace { margin_radians, .. }
            | Self::CurricularFace { margin_radians, .. } => Some(Margin::Radians(margin_radians)),
            Self::CosFace { margin_cosine, .. } => Some(Margin::Cosine(margin_cosine)),
            Self::AdaCos { .. } | Self::ArcMarginProduct | Self::Classification => None,
        }
    }

    /// The same head with another scale and margin; heads that have none to set stay as they are.
    pub fn with_scale_and_margin(mut self, s: f64, m: f64) -> Self {
        match &mut self {
            Self::ArcFace { scale, margin_radians: margin, .. }
            | Self::SubCenterArcFace { scale, margin_radians: margin, .. }
            | Self::CurricularFace { scale, margin_radians: margin }
            | Self::CosFace { scale, margin_cosine: margin } => (*scale, *margin) = (s, m),
            Self::AdaCos { .. } | Self::ArcMarginProduct | Self::Classification => {}
        }
        self
    }

    /// Checks every parameter against its range.
    pub fn validate(&self) -> Result<()> {
        let kind = self.kind();
        let check = |name: &str, value: f64, valid: bool, rule: &str| {
            if valid { Ok(()) } else { Err(Error::value(format!("{kind}: {name}"), value, rule)) }
        };
        let scale =
            |s: f64| check("scale", s, s.is_finite() && s > 0.0, "it must be a finite number above 0");
        let margin = |m: f64| {
            check("margin_radians", m, (0.0..=FRAC_PI_2).contains(&m), "it must lie in [0, pi/2] (radians)")
        };
        let epsilon = |e: f64| check("epsilon", e, (0.0..0.1).contains(&e), "it must lie in [0, 0.1)");
        match *self {
            Self::ArcFace { scale: s, margin_radians: m, epsilon: e } => {
                scale(s)?;
                margin(m)?;
                epsilon(e)
            }
            Self::SubCenterArcFace { scale: s, margin_radians: m, epsilon: e, sub_centers } => {
                scale(s)?;
                margin(m)?;
                epsilon(e)?;
                check("sub_centers", sub_centers as f64, sub_centers >= 1, "it must be at least 1")
            }
            Self::CosFace { scale: s, margin_cosine: m } => {
                scale(s)?;
                check(
                    "margin_cosine",
                    m,
                    (0.0..=1.0).contains(&m),
                    "it must lie in [0, 1] (a difference of cosines)",
                )
            }
            Self::AdaCos { epsilon: e } => epsilon(e),
            Self::CurricularFace { scale: s, margin_radians: m } => {
                scale(s)?;
                margin(m)
            }
            Self::ArcMarginProduct | Self::Classification => Ok(()),
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
#[serde(try_from = "HeadBlock", into = "HeadBlock")]
pub struct HeadVariant {
    /// Unique within the experiment; the kind unless stated. Letters, digits, `.`, `_` and `-`.
    pub name: String,
    /// The head.
    pub head: HeadConfig,
    /// Instead of `training.peak_learning_rate`.
    pub peak_learning_rate: Option<f64>,
}

/// The block as written: every parameter optional here, so that the message can say which one a kind needs or
/// does not know. A block with lists stands for every combination of their values.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadBlock {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_learning_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<Values>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_radians: Option<Values>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_cosine: Option<Values>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_centers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
}

/// One value, or a list of which each value makes a variant.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a number or a list of numbers")]
enum Values {
    One(f64),
    List(Vec<f64>),
}

impl Values {
    /// Each value with what it appends to the variant's name; a single absent one for an absent key.
    fn each(values: &Option<Self>, letter: char) -> Vec<(Option<f64>, String)> {
        match values {
            None => vec![(None, String::new())],
            Some(Self::One(value)) => vec![(Some(*value), String::new())],
            Some(Self::List(list)) => {
                list.iter().map(|&value| (Some(value), format!("-{letter}{value}"))).collect()
            }
        }
    }
}

/// Reads `[[heads]]`: the variants of every block, in order.
pub(crate) fn variants<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<Vec<HeadVariant>, D::Error> {
    let blocks = Vec::<HeadBlock>::deserialize(deserializer)?;
    let variants: std::result::Result<Vec<_>, _> = blocks.iter().map(HeadBlock::variants).collect();
    Ok(variants.map_err(serde::de::Error::custom)?.concat())
}

impl HeadBlock {
    /// Every combination of the values, margins within scales.
    fn variants(&self) -> std::result::Result<Vec<HeadVariant>, String> {
        let mut variants = Vec::new();
        let base = self.name.as_ref().unwrap_or(&self.kind);
        for (scale, s) in Values::each(&self.scale, 's') {
            for (margin_radians, m) in Values::each(&self.margin_radians, 'm') {
                for (margin_cosine, c) in Values::each(&self.margin_cosine, 'm') {
                    variants.push(HeadVariant {
                        name: format!("{base}{s}{m}{c}"),
                        head: self.head(scale, margin_radians, margin_cosine)?,
                        peak_learning_rate: self.peak_learning_rate,
                    });
                }
            }
        }
        if variants.is_empty() {
            return Err(format!("head `{base}` has an empty list; list at least one number"));
        }
        Ok(variants)
    }

    fn head(
        &self,
        mut scale: Option<f64>,
        mut margin_radians: Option<f64>,
        mut margin_cosine: Option<f64>,
    ) -> std::result::Result<HeadConfig, String> {
        fn need<T>(kind: &str, key: &str, value: &mut Option<T>) -> std::result::Result<T, String> {
            value.take().ok_or_else(|| format!("head kind `{kind}` needs `{key}`; add it to the block"))
        }
        let (kind, mut sub_centers, mut epsilon) = (self.kind.as_str(), self.sub_centers, self.epsilon);
        let head = match kind {
            "ArcFace" => HeadConfig::ArcFace {
                scale: need(kind, "scale", &mut scale)?,
                margin_radians: need(kind, "margin_radians", &mut margin_radians)?,
                epsilon: need(kind, "epsilon", &mut epsilon)?,
            },
            "SubCenterArcFace" => HeadConfig::SubCenterArcFace {
                scale: need(kind, "scale", &mut scale)?,
                margin_radians: need(kind, "margin_radians", &mut margin_radians)?,
                epsilon: need(kind, "epsilon", &mut epsilon)?,
                sub_centers: need(kind, "sub_centers", &mut sub_centers)?,
            },
            "CosFace" => HeadConfig::CosFace {
                scale: need(kind, "scale", &mut scale)?,
                margin_cosine: need(kind, "margin_cosine", &mut margin_cosine)?,
            },
            "AdaCos" => HeadConfig::AdaCos { epsilon: need(kind, "epsilon", &mut epsilon)? },
            "CurricularFace" => HeadConfig::CurricularFace {
                scale: need(kind, "scale", &mut scale)?,
                margin_radians: need(kind, "margin_radians", &mut margin_radians)?,
            },
            "ArcMarginProduct" => HeadConfig::ArcMarginProduct,
            "Classification" => HeadConfig::Classification,
            _ => {
                return Err(format!(
                    "unknown head kind `{kind}`; known kinds: {}",
                    HeadConfig::KINDS.join(", ")
                ));
            }
        };
        let left = [
            ("scale", scale.is_some()),
            ("margin_radians", margin_radians.is_some()),
            ("margin_cosine", margin_cosine.is_some()),
            ("sub_centers", sub_centers.is_some()),
            ("epsilon", epsilon.is_some()),
        ];
        if let Some((key, _)) = left.iter().find(|(_, present)| *present) {
            return Err(format!("head kind `{kind}` has no `{key}`; remove it from the block"));
        }
        head.validate().map_err(|error| error.to_string())?;
        Ok(head)
    }
}

impl TryFrom<HeadBlock> for HeadVariant {
    type Error = String;

    fn try_from(block: HeadBlock) -> std::result::Result<Self, String> {
        match <[Self; 1]>::try_from(block.variants()?) {
            Ok([variant]) => Ok(variant),
            Err(several) => Err(format!("one head was expected, not {}", several.len())),
        }
    }
}

impl From<HeadVariant> for HeadBlock {
    fn from(HeadVariant { name, head, peak_learning_rate }: HeadVariant) -> Self {
        let margin = head.margin();
        let (epsilon, sub_centers) = match head {
            HeadConfig::ArcFace { epsilon, .. } | HeadConfig::AdaCos { epsilon } => (Some(epsilon), None),
            HeadConfig::SubCenterArcFace { epsilon, sub_centers, .. } => (Some(epsilon), Some(sub_centers)),
            _ => (None, None),
        };
        let margin_of = |unit: &str| {
            margin.filter(|margin| margin.unit() == unit).map(|margin| Values::One(margin.value()))
        };
        Self {
            kind: head.kind().into(),
            name: Some(name),
            peak_learning_rate,
            scale: head.scale().map(Values::One),
            margin_radians: margin_of("radians"),
            margin_cosine: margin_of("cosine"),
            sub_centers,
            epsilon,
        }
    }
}
