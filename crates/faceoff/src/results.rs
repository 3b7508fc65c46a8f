//! Tables on stdout: the plain form that all have, and the closing one of a benchmark or report.

use comfy_table::{CellAlignment, Table, presets};
use faceoff_report::Summary;

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
pub(crate) fn print(summary: &Summary) {
    let mut table = plain_table(&["variant", "seeds", "DNN %", "KNN k=5 %", "variance 16", "variance 128"]);
    let share = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.3}"));
    for row in &summary.rows {
        table.add_row([
            row.variant.clone(),
            row.seeds.to_string(),
            percent(row.dnn_accuracy),
            percent(row.knn_accuracy),
            share(row.explained_variance_16),
            share(row.explained_variance_128),
        ]);
    }
    println!("{table}");
    for note in &summary.notes {
        println!("note: {note}");
    }
    println!("\nopen {}", summary.page.display());
    println!("     {}", summary.metrics.display());
}
