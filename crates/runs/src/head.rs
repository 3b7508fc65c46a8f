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
}

/// The block as written: every parameter optional here, so that the message can say which one a kind needs or
/// does not know.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeadBlock {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_radians: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_cosine: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_centers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    epsilon: Option<f64>,
}

impl TryFrom<HeadBlock> for HeadVariant {
    type Error = String;

    fn try_from(mut block: HeadBlock) -> std::result::Result<Self, String> {
        fn need<T>(kind: &str, key: &str, value: &mut Option<T>) -> std::result::Result<T, String> {
            value.take().ok_or_else(|| format!("head kind `{kind}` needs `{key}`; add it to the block"))
        }
        let kind = block.kind.clone();
        let head = match kind.as_str() {
            "ArcFace" => HeadConfig::ArcFace {
                scale: need(&kind, "scale", &mut block.scale)?,
                margin_radians: need(&kind, "margin_radians", &mut block.margin_radians)?,
                epsilon: need(&kind, "epsilon", &mut block.epsilon)?,
            },
            "SubCenterArcFace" => HeadConfig::SubCenterArcFace {
                scale: need(&kind, "scale", &mut block.scale)?,
                margin_radians: need(&kind, "margin_radians", &mut block.margin_radians)?,
                epsilon: need(&kind, "epsilon", &mut block.epsilon)?,
                sub_centers: need(&kind, "sub_centers", &mut block.sub_centers)?,
            },
            "CosFace" => HeadConfig::CosFace {
                scale: need(&kind, "scale", &mut block.scale)?,
                margin_cosine: need(&kind, "margin_cosine", &mut block.margin_cosine)?,
            },
            "AdaCos" => HeadConfig::AdaCos { epsilon: need(&kind, "epsilon", &mut block.epsilon)? },
            "CurricularFace" => HeadConfig::CurricularFace {
                scale: need(&kind, "scale", &mut block.scale)?,
                margin_radians: need(&kind, "margin_radians", &mut block.margin_radians)?,
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
            ("scale", block.scale.is_some()),
            ("margin_radians", block.margin_radians.is_some()),
            ("margin_cosine", block.margin_cosine.is_some()),
            ("sub_centers", block.sub_centers.is_some()),
            ("epsilon", block.epsilon.is_some()),
        ];
        if let Some((key, _)) = left.iter().find(|(_, present)| *present) {
            return Err(format!("head kind `{kind}` has no `{key}`; remove it from the block"));
        }
        head.validate().map_err(|error| error.to_string())?;
        let name = block.name.unwrap_or(kind);
        Ok(Self { name, head })
    }
}

impl From<HeadVariant> for HeadBlock {
    fn from(variant: HeadVariant) -> Self {
        let mut block = Self {
            kind: variant.head.kind().into(),
            name: Some(variant.name),
            scale: None,
            margin_radians: None,
            margin_cosine: None,
            sub_centers: None,
            epsilon: None,
        };
        match variant.head {
            HeadConfig::ArcFace { scale, margin_radians, epsilon } => {
                (block.scale, block.margin_radians, block.epsilon) =
                    (Some(scale), Some(margin_radians), Some(epsilon));
            }
            HeadConfig::SubCenterArcFace { scale, margin_radians, epsilon, sub_centers } => {
                (block.scale, block.margin_radians, block.epsilon) =
                    (Some(scale), Some(margin_radians), Some(epsilon));
                block.sub_centers = Some(sub_centers);
            }
            HeadConfig::CosFace { scale, margin_cosine } => {
                (block.scale, block.margin_cosine) = (Some(scale), Some(margin_cosine));
            }
            HeadConfig::AdaCos { epsilon } => block.epsilon = Some(epsilon),
            HeadConfig::CurricularFace { scale, margin_radians } => {
                (block.scale, block.margin_radians) = (Some(scale), Some(margin_radians));
            }
            HeadConfig::ArcMarginProduct | HeadConfig::Classification => {}
        }
        block
    }
}
