//! Every metric with its definition beside its numbers, a table for each condition.

use askama::Template;
use faceoff_evaluation::answer::{Place, standings};
use faceoff_evaluation::families::neighbors;
use faceoff_evaluation::groups::Group;
use faceoff_evaluation::{Direction, Evaluation, MetricId};

/// Neighbourhood sizes with a row of their own; the others are in the pictures and in `metrics.csv`.
const SHOWN_NEIGHBORS: [usize; 5] = [1, 5, 10, 20, 50];

#[derive(Template)]
#[template(path = "numbers.html")]
pub(super) struct Numbers<'a> {
    outcome: &'a Evaluation,
    /// What tests say of a variant by a metric, where any test of its group does.
    marks: Vec<(MetricId, usize, Place)>,
}

impl<'a> Numbers<'a> {
    pub(super) fn of(outcome: &'a Evaluation) -> Self {
        let marks = outcome.groups.iter().flat_map(|group| {
            outcome.compared().flat_map(move |metric| {
                let standings = standings(outcome, group, metric);
                let tested = standings.iter().any(|found| !matches!(found.place, Place::First | Place::Untested));
                standings.into_iter().filter(move |_| tested).map(move |found| (metric, found.variant, found.place))
            })
        });
        Self { outcome, marks: marks.collect() }
    }

    /// `best` for what no test shows behind the highest mean, `behind` for what one does.
    fn mark(&self, variant: &usize, metric: &MetricId) -> &'static str {
        let of = |mark: &&(MetricId, usize, Place)| (mark.0, mark.1) == (*metric, *variant);
        match self.marks.iter().find(of).map(|mark| mark.2) {
            Some(Place::First | Place::Together | Place::Ahead) => " best",
            Some(Place::Behind) => " behind",
            Some(Place::Untested) | None => "",
        }
    }

    /// Whether heads stand with their best variant alone.
    fn hides_variants(&self) -> bool {
        self.outcome.groups.iter().any(|group| group.hidden > 0)
    }

    /// Metrics of one family stand together, families in the order of their first metric.
    fn families(&self, group: &Group) -> Vec<(&'static str, Vec<MetricId>)> {
        let mut families: Vec<(&'static str, Vec<MetricId>)> = Vec::new();
        for row in self.outcome.summaries.iter().filter(|row| group.variants.contains(&row.variant)) {
            let metric = row.metric;
            let is_curve = neighbors::FAMILY.metrics.iter().any(|other| other.id == metric.metric().id);
            if is_curve && metric.number().is_some_and(|size| !SHOWN_NEIGHBORS.contains(&size)) {
                continue;
            }
            match families.iter_mut().find(|family| family.0 == metric.metric().group) {
                None => families.push((metric.metric().group, vec![metric])),
                Some((_, known)) if known.contains(&metric) => (),
                Some((_, known)) => known.push(metric),
            }
        }
        families
    }
}

/// Which values are better.
fn direction(metric: &MetricId) -> &'static str {
    match metric.metric().direction {
        Direction::Higher => "\u{2191} higher is better",
        Direction::Lower => "\u{2193} lower is better",
        Direction::Neither => "",
    }
}

/// The paper or norm that a metric comes from; plain counts and means have none.
fn citation(metric: &MetricId) -> Option<&'static str> {
    let source = metric.metric().source;
    source.contains(|c: char| c.is_ascii_digit()).then_some(source)
}
