//! Mean ranks of the variants over seeds.

use super::Section;
use crate::error::Result;
use crate::plots::ranks::ranks;
use faceoff_analysis::statistics;
use faceoff_evaluation::Evaluation;

pub(super) fn section(outcome: &Evaluation) -> Result<Section> {
    let text = "Mean rank of each variant over the seeds that all of them have. Variants under one thick bar differ by less than Nemenyi\u{2019}s critical difference at 5 %: \
        these seeds do not tell them apart.";
    let mut section = Section::new("ranks", "Ranks over seeds", "Ranks", text);
    for of_metric in &outcome.comparisons.ranks {
        let test = &of_metric.test;
        let Some(critical_difference) = test.critical_difference else { continue };
        let variants: Vec<&str> = of_metric.variants.iter().map(|&variant| outcome.name(variant)).collect();
        let groups = statistics::indistinguishable_groups(&test.average_ranks, critical_difference);
        let title = of_metric.metric.title();
        let p = test.p.map_or(String::new(), |p| format!("Friedman\u{2019}s test: p = {p:.2e}."));
        let caption = format!("{title}: mean ranks over {} seeds, 1 is best. {p}", of_metric.seeds);
        let condition = match of_metric.condition.as_str() {
            "" => String::new(),
            condition => format!("_{condition}"),
        };
        let alt = format!("Critical-difference diagram: mean ranks of the variants by {title}");
        let name = (format!("ranks_{}{condition}.svg", of_metric.metric), alt);
        let picture = ranks(name, &variants, &test.average_ranks, critical_difference, &groups, &caption)?;
        let told = test.p.map(|p| if p < statistics::ALPHA { "tells at least two apart" } else { "tells none apart" });
        let said = told.map(|told| format!("Friedman\u{2019}s test {told} at 5 %."));
        section.pictures.push(picture.concluding(said));
    }
    Ok(section)
}
