//! The parameters of a head: types that check themselves, and the struct of them that each head declares.

use crate::{Error, Result};
use faceoff_runs::{AUTO, HeadConfig, ParameterValue};
use std::f64::consts::FRAC_PI_2;

/// A parameter of a head, for people and for checks.
#[derive(Debug, Clone, Copy)]
pub struct ParameterInfo {
    /// Its key in an experiment.
    pub name: &'static str,
    /// Its letter in formulas.
    pub symbol: &'static str,
    /// What it is, in a few words.
    pub meaning: &'static str,
    /// What it must be, with its unit.
    pub rule: &'static str,
    /// The value of the reference: Catalyst's, or the paper's.
    pub default: fn() -> ParameterValue,
    /// The value in the one form that specifications have; `None` where it breaks the rule.
    pub(crate) checked: fn(&ParameterValue) -> Option<ParameterValue>,
}

/// All parameters of one head.
pub(crate) trait ParameterSet: Sized {
    /// What they are, in the order of declaration.
    const INFO: &'static [ParameterInfo];

    /// Those of a head whose parameters were checked.
    fn of(head: &HeadConfig) -> Self;
}

/// A type of parameter.
pub(crate) trait Parameter: Sized {
    const SYMBOL: &'static str;
    const MEANING: &'static str;
    /// Completes "it must be".
    const RULE: &'static str;

    /// `None` where the value breaks the rule.
    fn read(value: &ParameterValue) -> Option<Self>;

    fn write(&self) -> ParameterValue;

    /// The value in the one form that specifications have; `None` where it breaks the rule.
    fn checked(value: &ParameterValue) -> Option<ParameterValue> {
        Self::read(value).map(|parameter| parameter.write())
    }
}

/// Declares the struct of a head's parameters, each as `name: Type = value of the reference`; `as "r"` behind the type where
/// the paper has another letter for it.
macro_rules! parameters {
    (@symbol $type:ident) => {
        $type::SYMBOL
    };
    (@symbol $type:ident $symbol:literal) => {
        $symbol
    };
    ($set:ident { $($name:ident: $type:ident $(as $symbol:literal)? = $default:literal),+ }) => {
        /// What an experiment has to state of the head.
        #[derive(Clone, Copy)]
        pub(crate) struct $set {
            $($name: $crate::parameters::$type,)+
        }

        const _: () = {
            use $crate::parameters::*;

            impl ParameterSet for $set {
                const INFO: &'static [ParameterInfo] = &[$(ParameterInfo {
                    name: stringify!($name),
                    symbol: $crate::parameters::parameters!(@symbol $type $($symbol)?),
                    meaning: $type::MEANING,
                    rule: $type::RULE,
                    default: || $default.into(),
                    checked: $type::checked,
                }),+];

                fn of(head: &faceoff_runs::HeadConfig) -> Self {
                    Self { $($name: head.get(stringify!($name)).and_then($type::read).expect("it was checked"),)+ }
                }
            }
        };
    };
}
pub(crate) use parameters;

/// Of a head that has none.
impl ParameterSet for () {
    const INFO: &'static [ParameterInfo] = &[];

    fn of(_: &HeadConfig) {}
}

/// The head with its parameters checked, each in the one form that specifications have.
pub(crate) fn checked(head: &HeadConfig, infos: &[ParameterInfo]) -> Result<HeadConfig> {
    let wrong = |name: &str, problem| {
        let (kind, name) = (head.kind().into(), name.into());
        Error::Parameter { kind, name, problem }
    };
    if let Some((name, _)) = head.parameters().find(|(name, _)| infos.iter().all(|info| info.name != *name)) {
        let known = infos.iter().map(|info| info.name).collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none".into() } else { known };
        return Err(wrong(name, format!("is no parameter of this head; remove it. Its parameters: {known}")));
    }
    infos.iter().try_fold(HeadConfig::new(head.kind()), |resolved, info| {
        let ParameterInfo { name, rule, default, checked, .. } = *info;
        let missing = || wrong(name, format!("is missing; add it to the block, for example `{name} = {}`", default()));
        let value = head.get(name).ok_or_else(missing)?;
        let value = checked(value).ok_or_else(|| wrong(name, format!("is {value}, but it must be {rule}")))?;
        Ok(resolved.with(name, value))
    })
}

/// Declares types of number: letter, meaning, what it must be, whether a value is that.
macro_rules! numbers {
    ($($name:ident($type:ident, $of:ident): $symbol:literal, $meaning:literal, $rule:literal, $valid:expr;)+) => {$(
        #[doc = $meaning]
        #[derive(Clone, Copy)]
        pub(crate) struct $name($type);

        impl $name {
            pub(crate) fn get(self) -> $type {
                self.0
            }
        }

        impl Parameter for $name {
            const SYMBOL: &'static str = $symbol;
            const MEANING: &'static str = $meaning;
            const RULE: &'static str = $rule;

            fn read(value: &ParameterValue) -> Option<Self> {
                value.$of().filter($valid).map(Self)
            }

            fn write(&self) -> ParameterValue {
                self.0.into()
            }
        }
    )+};
}

numbers! {
    Radians(f64, number): "m", "margin added to the angle of the labelled class",
        "a number in [0, pi/2], in radians", |m| (0.0..=FRAC_PI_2).contains(m);
    CosineMargin(f64, number): "m", "margin subtracted from the cosine of the labelled class",
        "a number in [0, 1], a difference of cosines", |m| (0.0..=1.0).contains(m);
    Epsilon(f64, number): "eps", "how far cosines are kept from -1 and 1",
        "a number in [0, 0.1), a difference of cosines", |eps| (0.0..0.1).contains(eps);
    AdaptiveMargin(f64, number): "m", "margin of the labelled class, of the angle or of the cosine by the embedding's length",
        "a number in [0, 1], in radians and as a difference of cosines", |m| (0.0..=1.0).contains(m);
    Concentration(f64, number): "h", "how far the margin follows the embedding's length",
        "a finite number above 0", |h| h.is_finite() && *h > 0.0;
    Momentum(f64, number): "t_alpha", "weight of a new batch in the moving mean and deviation of the lengths",
        "a number in (0, 1]", |t| *t > 0.0 && *t <= 1.0;
    NormLow(f64, number): "l_a", "length up to which the margin is lowest",
        "a finite number above 0, the unit of embeddings", |a| a.is_finite() && *a > 0.0;
    NormHigh(f64, number): "u_a", "length from which the margin is highest",
        "a finite number above norm_low, the unit of embeddings", |a| a.is_finite() && *a > 0.0;
    RegularizerWeight(f64, number): "lambda_g", "weight of the regulariser of lengths in the loss",
        "a finite number of at least 0", |weight| weight.is_finite() && *weight >= 0.0;
    AngleFactor(f64, number): "m", "factor of the angle of the labelled class",
        "a finite number of at least 1", |m| m.is_finite() && *m >= 1.0;
    Exponent(f64, number): "t", "exponent that spreads the similarities",
        "a finite number of at least 1", |t| t.is_finite() && *t >= 1.0;
    LabelShare(f64, number): "alpha", "share of the label's own decision in the loss",
        "a number in (0, 1)", |alpha| *alpha > 0.0 && *alpha < 1.0;
    LossFactor(f64, number): "lw", "factor of the loss",
        "a finite number above 0", |factor| factor.is_finite() && *factor > 0.0;
    Temperature(f64, number): "temperature", "divisor of the cosines before the exponential",
        "a finite number above 0", |t| t.is_finite() && *t > 0.0;
    DistanceMargin(f64, number): "m", "margin between the distances to images of one class and of two",
        "a number in [0, 2], a difference of distances between unit vectors", |m| (0.0..=2.0).contains(m);
    SubCenters(i64, integer): "K", "centres of each class",
        "a whole number from 1 to 64, of which each takes a weight for each class", |k| (1..=64).contains(k);
}

/// The factor of the cosines. A specification may leave it to the number of classes; the head is built with a number.
#[derive(Clone, Copy)]
pub(crate) struct Scale(f64);

impl Scale {
    pub(crate) fn get(self) -> f64 {
        self.0
    }
}

impl Parameter for Scale {
    const SYMBOL: &'static str = "s";
    const MEANING: &'static str = "factor of the cosines";
    const RULE: &'static str = "a finite number above 0, or \"auto\": sqrt(2) ln(C - 1) for C classes";

    fn read(value: &ParameterValue) -> Option<Self> {
        value.number().filter(|s| s.is_finite() && *s > 0.0).map(Self)
    }

    fn write(&self) -> ParameterValue {
        self.0.into()
    }

    fn checked(value: &ParameterValue) -> Option<ParameterValue> {
        let auto = (*value == AUTO.into()).then(|| value.clone());
        auto.or_else(|| Self::read(value).map(|scale| scale.write()))
    }
}

/// What happens to the labelled class where its angle and the margin together pass pi.
#[derive(Clone, Copy)]
pub(crate) enum BeyondPi {
    /// The margin is dropped.
    Catalyst,
    /// m sin(m) is subtracted from the cosine.
    Linear,
}

impl Parameter for BeyondPi {
    const SYMBOL: &'static str = "beyond";
    const MEANING: &'static str = "rule for the labelled class where theta_y > pi - m";
    const RULE: &'static str = "\"catalyst\", cos(theta_y) without a margin, or \"linear\", cos(theta_y) - m sin(m)";

    fn read(value: &ParameterValue) -> Option<Self> {
        [Self::Catalyst, Self::Linear].into_iter().find(|rule| rule.write() == *value)
    }

    fn write(&self) -> ParameterValue {
        match self {
            Self::Catalyst => "catalyst".into(),
            Self::Linear => "linear".into(),
        }
    }
}
