//! Tables on stdout: the plain form that all have, and the closing one of a benchmark or report.

use crate::Program;
use comfy_table::{CellAlignment, Table, presets};
use faceoff_evaluation::Unit;
use faceoff_evaluation::answer::{Answer, PROGRAM};
use faceoff_evaluation::health::{Finding, Verdict};
use faceoff_report::ReportSummary;

/// An empty table without lines: the first column to the left, the numbers in the others to the right.
pub fn plain_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// A share as a percentage with one digit.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1}", 100.0 * share))
}

/// Prints the results and the paths to open.
pub(crate) fn print(program: &Program, summary: &ReportSummary) {
    let titles = summary.metrics.iter().map(|metric| match metric.metric().unit {
        Unit::Percent => format!("{} %", metric.title()),
        _ => metric.title(),
    });
    let last = (!summary.health.is_empty()).then(|| "health".to_string());
    let header: Vec<String> = ["variant".into(), "seeds".into()].into_iter().chain(titles).chain(last).collect();
    let mut table = plain_table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for row in &summary.rows {
        let means = summary.metrics.iter().zip(&row.means);
        let means = means.map(|(metric, mean)| mean.map_or("-".into(), |mean| metric.format(mean)));
        let health = (!summary.health.is_empty()).then(|| row.health.clone());
        table.add_row([row.variant.clone(), row.seeds.to_string()].into_iter().chain(means).chain(health));
    }
    println!("{table}");
    for verdict in Verdict::ALL {
        let found: Vec<&Finding> = summary.health.iter().filter(|finding| finding.verdict == verdict).collect();
        if let [first, ..] = found[..] {
            let names: Vec<&str> = found.iter().map(|finding| finding.variant.as_str()).collect();
            let more = if found.len() > 1 { format!(" ({})", first.variant) } else { String::new() };
            println!(
                "{verdict}: {}. {}{more} {} {}",
                names.join(", "),
                first.seen,
                verdict.meaning(),
                verdict.remedy()
            );
        }
    }
    for note in &summary.notes {
        println!("note: {note}");
    }
    for answer in &summary.answers {
        match answer.condition.as_str() {
            "" => println!("\nanswer"),
            condition => println!("\nanswer under {condition}"),
        }
        answer.sentences.iter().for_each(|sentence| println!("  {}", as_typed(program, answer, sentence)));
    }
    println!("\nopen {}", summary.page.display());
    println!("     {}", summary.page.with_file_name("metrics.csv").display());
}

/// A sentence of an answer whose command can be pasted: with the name that this program was started by.
fn as_typed(program: &Program, answer: &Answer, sentence: &str) -> String {
    let typed = answer.command.as_deref().and_then(|command| {
        let words = command.strip_prefix(PROGRAM)?.trim_start();
        Some(sentence.replace(command, &program.command(words)))
    });
    typed.unwrap_or_else(|| sentence.to_string())
}
