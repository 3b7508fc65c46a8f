//! `report --compare A B`: two reports side by side, in the terminal: what differs in their specifications, and the means of the accuracies
//! that heads are compared by.

use crate::results::{percent, plain_table};
use anyhow::{Context, Result, bail};
use faceoff_runs::{Difference, RunSpec, list_runs};
use std::path::Path;

/// What is read of a report folder.
struct Report {
    /// The specification of one run of each variant.
    specs: Vec<RunSpec>,
    /// Variant, metric, number of seeds and mean.
    means: Vec<(String, String, String, f64)>,
}

/// Prints both reports side by side.
pub(crate) fn print(folders: [&Path; 2]) -> Result<()> {
    let [a, b] = folders.map(read);
    let [a, b] = [a?, b?];
    println!("A  {}\nB  {}\n", folders[0].display(), folders[1].display());
    let mut differences: Vec<Difference> = Vec::new();
    for spec in &a.specs {
        let Some(twin) = b.specs.iter().find(|other| other.variant.name == spec.variant.name) else { continue };
        for mut found in spec.differences(twin).into_iter().filter(|found| found.key != "seed") {
            // What differs in one head alone is named with it.
            if found.key.starts_with("variant.") {
                found.key = format!("{}: {}", spec.variant.name, found.key);
            }
            if !differences.contains(&found) {
                differences.push(found);
            }
        }
    }
    if differences.is_empty() {
        println!("The variants that both have were made by the same specification.");
    } else {
        println!("Specifications, A against B:");
        differences.iter().for_each(|found| println!("  {found}"));
    }
    let mut table = plain_table(&["variant", "metric", "seeds", "A %", "B %", "B less A, points"]);
    for (variant, metric, seeds, mean) in &a.means {
        let other = b.means.iter().find(|row| (&row.0, &row.1) == (variant, metric));
        let seeds = other.map_or(seeds.clone(), |other| format!("{seeds} and {}", other.2));
        let gap = other.map_or("-".into(), |other| faceoff_evaluation::points(other.3 - mean));
        let row = [variant.clone(), metric.clone(), seeds, percent(Some(*mean)), percent(other.map(|o| o.3)), gap];
        table.add_row(row);
    }
    println!("\n{table}");
    let only = |these: &Report, those: &Report| {
        let is_new = |spec: &&RunSpec| those.specs.iter().all(|other| other.variant.name != spec.variant.name);
        these.specs.iter().filter(is_new).map(|spec| spec.variant.name.clone()).collect::<Vec<_>>().join(", ")
    };
    for (name, only) in [("A", only(&a, &b)), ("B", only(&b, &a))] {
        if !only.is_empty() {
            println!("only in {name}: {only}");
        }
    }
    println!("Nothing is tested between reports: their seeds are not paired unless all else is the same.");
    Ok(())
}

fn read(folder: &Path) -> Result<Report> {
    let mut specs: Vec<RunSpec> = Vec::new();
    for run in list_runs(folder)?.into_iter().filter(|run| run.is_whole()) {
        let spec = run.manifest()?.spec;
        if specs.iter().all(|known| known.variant.name != spec.variant.name) {
            specs.push(spec);
        }
    }
    if specs.is_empty() {
        bail!("{} has no whole run; name the folder of a report, such as reports/quick", folder.display());
    }
    let path = folder.join("choice.csv");
    let text = std::fs::read_to_string(&path).with_context(|| {
        format!("{} cannot be read; make the report again with the command `report`", path.display())
    })?;
    // Names of variants hold letters, digits, `.`, `_` and `-` alone, so no cell is quoted.
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        let [variant, _, metric, seeds, mean, ..] = cells[..] else { return None };
        Some((variant.to_string(), metric.to_string(), seeds.to_string(), mean.parse().ok()?))
    };
    Ok(Report { specs, means: text.lines().skip(1).filter_map(row).collect() })
}
