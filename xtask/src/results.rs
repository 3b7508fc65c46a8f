//! The closing table of a benchmark or report, on stdout.

use comfy_table::{CellAlignment, Table, presets};
use faceoff_report::Summary;

/// Prints the results and the paths to open.
pub(crate) fn print(summary: &Summary) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header(["variant", "seeds", "DNN %", "KNN k=5 %", "variance 16", "variance 128"]);
    for row in &summary.rows {
        let percent =
            |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{:.1}", 100.0 * value));
        let share = |value: Option<f64>| value.map_or("-".to_string(), |value| format!("{value:.3}"));
        table.add_row([
            row.variant.clone(),
            row.seeds.to_string(),
            percent(row.dnn_accuracy),
            percent(row.knn_accuracy),
            share(row.explained_variance_16),
            share(row.explained_variance_128),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    for note in &summary.notes {
        println!("note: {note}");
    }
    println!("\nopen {}", summary.page.display());
    println!("     {}", summary.metrics.display());
}
