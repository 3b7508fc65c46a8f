//! The registry: what each metric is called and means, and who measures it.
//!
//! A family of metrics is one file in `families`: its rows, its measuring function and its version. A [`Registry`] is the list of
//! families that an evaluation measures, in the order of the tables. [`MetricId`] is the key of every measured value: it leads to its
//! row, so there is no value without a definition.

use crate::health::Verdict;
use crate::measured::{Findings, Subject};
use crate::{Error, Result, families};
use faceoff_runs::AnalysisConfig;
use std::fmt::Write as _;

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share, written in percent.
    Percent,
    /// An angle.
    Degrees,
    /// A number of things, or its mean over seeds.
    Count,
    /// A plain number with three decimals.
    Number,
}

/// Which values are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The highest is best.
    Higher,
    /// The lowest is best.
    Lower,
    /// The metric describes and does not judge.
    Neither,
}

/// What a metric is: one row of a family. In `id`, `title` and `sentence`, `#` stands for the number of a numbered metric, such
/// as the k of KNN.
#[derive(Debug)]
pub struct Metric {
    /// The name in tables.
    pub id: &'static str,
    /// The name for people.
    pub title: &'static str,
    /// The heading that it stands under.
    pub group: &'static str,
    /// How its values are written.
    pub unit: Unit,
    /// Which values are better.
    pub direction: Direction,
    /// What it means.
    pub sentence: &'static str,
    /// The paper that it comes from, or what it is counted from.
    pub source: &'static str,
}

impl Metric {
    /// The key of this metric's values.
    pub const fn id(&'static self) -> MetricId {
        MetricId { metric: self, number: None }
    }

    /// The key of this numbered metric's values for one number.
    pub const fn with(&'static self, number: usize) -> MetricId {
        MetricId { metric: self, number: Some(number) }
    }
}

/// The key of a measured value: a metric, and its number if it is a numbered one. Prints as in tables: `knn_accuracy_k5`.
#[derive(Debug, Clone, Copy)]
pub struct MetricId {
    metric: &'static Metric,
    number: Option<usize>,
}

impl PartialEq for MetricId {
    fn eq(&self, other: &Self) -> bool {
        self.metric.id == other.metric.id && self.number == other.number
    }
}

impl Eq for MetricId {}

impl std::fmt::Display for MetricId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.numbered(self.metric.id))
    }
}

impl MetricId {
    fn numbered(self, text: &str) -> String {
        self.number.map_or_else(|| text.to_string(), |number| text.replace('#', &number.to_string()))
    }

    /// The row.
    pub fn metric(self) -> &'static Metric {
        self.metric
    }

    /// The number of a numbered metric.
    pub fn number(self) -> Option<usize> {
        self.number
    }

    /// The name for people.
    pub fn title(self) -> String {
        self.numbered(self.metric.title)
    }

    /// What it means.
    pub fn sentence(self) -> String {
        self.numbered(self.metric.sentence)
    }

    /// What stands behind the title: the unit, if there is one.
    pub fn unit_suffix(self) -> &'static str {
        match self.metric.unit {
            Unit::Percent => ",\u{a0}%",
            Unit::Degrees => ",\u{a0}degrees",
            Unit::Count | Unit::Number => "",
        }
    }

    /// A value as people read it, without the unit.
    pub fn format(self, value: f64) -> String {
        let text = match self.metric.unit {
            Unit::Percent => format!("{:.1}", 100.0 * value),
            Unit::Count if value.fract() == 0.0 => format!("{value:.0}"),
            Unit::Degrees | Unit::Count => format!("{value:.1}"),
            Unit::Number => format!("{value:.3}"),
        };
        without_sign_of_zero(text)
    }
}

/// Nobody reads a difference into the sign of a zero.
fn without_sign_of_zero(text: String) -> String {
    let is_zero = text.bytes().all(|byte| matches!(byte, b'-' | b'+' | b'0' | b'.'));
    if is_zero { text.trim_start_matches(['-', '+']).into() } else { text }
}

/// A difference of shares in points, with its sign: `+1.2`.
pub fn points(difference: f64) -> String {
    without_sign_of_zero(format!("{:+.1}", 100.0 * difference))
}

/// How prominently a metric is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Headline {
    /// Heads are compared by it: tests, ranks, tables by setting; in the terminal and among the results of the page.
    Compared,
    /// In the terminal and among the results.
    Shown,
    /// Among the results.
    Result,
    /// Among the results where the evaluated classes were never trained on.
    ResultIfUnseen,
}

/// Metrics that are measured together.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// What a note names where they are not defined: "no `name`: ...".
    pub name: &'static str,
    /// Rises whenever a value may change: what was measured by another version is measured again.
    pub version: u32,
    /// The rows.
    pub metrics: &'static [&'static Metric],
    /// Those that stand out, under the settings of the evaluation.
    pub headline: fn(&AnalysisConfig) -> Vec<(MetricId, Headline)>,
    /// Measures them on one run. What the subject lacks is left out; an error says why the rest is not defined.
    pub measure: fn(&Subject<'_>, &mut Findings) -> faceoff_analysis::Result<()>,
}

/// The families that are measured, in the order of the tables.
#[derive(Debug, Clone)]
pub struct Registry {
    families: Vec<Family>,
}

impl Registry {
    /// All families of this crate.
    pub fn standard() -> Self {
        Self::of(&families::STANDARD)
    }

    /// These families alone.
    pub fn of(families: &[Family]) -> Self {
        Self { families: families.to_vec() }
    }

    /// One more family, behind the others.
    pub fn with(mut self, family: Family) -> Self {
        self.families.push(family);
        self
    }

    /// The families.
    pub fn families(&self) -> &[Family] {
        &self.families
    }

    /// The metric of a name as it stands in tables, such as `knn_accuracy_k5`.
    ///
    /// # Errors
    /// No family has it.
    pub fn parse(&self, name: &str) -> Result<MetricId> {
        let rows = || self.families.iter().flat_map(|family| family.metrics);
        let fits = |metric: &&'static Metric| {
            let id = match metric.id.split_once('#') {
                None => metric.id(),
                Some((start, end)) => metric.with(name.strip_prefix(start)?.strip_suffix(end)?.parse().ok()?),
            };
            (id.to_string() == name).then_some(id)
        };
        let known = || rows().map(|metric| metric.id).collect::<Vec<_>>().join(", ");
        rows().find_map(fits).ok_or_else(|| Error::UnknownMetric(name.into(), known()))
    }

    /// The reference documentation of every metric, as Markdown.
    pub fn reference(&self) -> String {
        let mut text = String::from(
            "# Metrics\n\nEvery metric of `metrics.csv` and `summary.csv`, by family. `#` stands for a number. Written by `cargo xtask reference` from the rows \
             in `crates/evaluation/src/families`; do not edit.\n",
        );
        let mut last = "";
        for metric in self.families.iter().flat_map(|family| family.metrics) {
            if metric.group != last {
                last = metric.group;
                let header = "| metric | name | unit | better | meaning | source |\n|---|---|---|---|---|---|";
                let _ = writeln!(text, "\n## {last}\n\n{header}");
            }
            let unit = format!("{:?}", metric.unit).to_lowercase();
            let better = format!("{:?}", metric.direction).to_lowercase();
            let Metric { id, title, sentence, source, .. } = metric;
            let _ = writeln!(text, "| `{id}` | {title} | {unit} | {better} | {sentence} | {source} |");
        }
        text += "\n## Verdicts\n\nWhat a report finds ill of a run, from its own numbers. They change no metric.\n\n\
                 | verdict | rule | what it means | what to try |\n|---|---|---|---|\n";
        for verdict in Verdict::ALL {
            let (rule, meaning, remedy) = (verdict.rule(), verdict.meaning(), verdict.remedy());
            let _ = writeln!(text, "| {verdict} | {rule} | {meaning} | {remedy} |");
        }
        text
    }
}
