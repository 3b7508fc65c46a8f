//! Mean ranks of the variants over seeds.

use super::Section;
use crate::error::Result;
use crate::plots::ranks::{Ranking, ranks};
use faceoff_analysis::statistics;
use faceoff_evaluation::Evaluation;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let mut section = Section::new(
        "ranks",
        "Ranks over seeds",
        "Ranks",
        "Mean rank of each variant over the seeds that all of them have. Variants under one thick bar differ by less than Nemenyi\u{2019}s critical difference at 5 %: \
         these seeds do not tell them apart.",
    );
    for of_metric in &outcome.comparisons.ranks {
        let test = &of_metric.test;
        let Some(critical_difference) = test.critical_difference else { continue };
        let names: Vec<String> = of_metric.variants.iter().map(|&v| outcome.name(v).into()).collect();
        let title = of_metric.metric.title();
        let p = test.p.map_or(String::new(), |p| format!("Friedman\u{2019}s test: p = {p:.2e}."));
        let ranking = Ranking {
            names: &names,
            average_ranks: &test.average_ranks,
            critical_difference,
            groups: &statistics::indistinguishable_groups(&test.average_ranks, critical_difference),
            caption: &format!("{title}: mean ranks over {} seeds, 1 is best. {p}", of_metric.seeds),
        };
        let condition = match of_metric.condition.as_str() {
            "" => String::new(),
            condition => format!("_{condition}"),
        };
        let file = format!("ranks_{}{condition}.svg", of_metric.metric);
        let alt = format!("Critical-difference diagram: mean ranks of the variants by {title}");
        section.pictures.push(ranks(&file, &alt, &ranking)?);
    }
    Ok(section)
}
