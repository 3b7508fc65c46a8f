//! Damage to every file of a whole run: a report leaves the run out and says so, or is the same; never a panic, never other numbers.
//!
//! `FACEOFF_MUTATIONS=100 cargo test --release -p faceoff-report mutations -- --nocapture` makes 100 flips and cuts of each file in each
//! state instead of one, and prints the counts.

use crate::{Reported, experiment, made_up, report};
use faceoff_runs::{Dtype, RunFolder, write_tensors};
use rand::{Rng, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

const VICTIM: &str = "Classification-seed0";

/// What a report writes into the folder of a run, and makes again where it is damaged.
const DERIVED: [&str; 3] = ["measured.json", "maps.csv", "look.bin"];

/// What stands in the victim's folder besides the damage.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// It was measured before.
    Measured,
    /// It was not, so that the report reads everything.
    Unmeasured,
    /// The manifest has the checksums of the damaged files: only what the files say of each other can tell.
    Resealed,
}

/// How reports of damaged runs ended.
#[derive(Default)]
struct Counts {
    inputs: usize,
    refused: usize,
    unchanged: usize,
    silent: usize,
    panics: usize,
    seen_by_verify: usize,
}

type Files = BTreeMap<String, Vec<u8>>;

fn read_all(folder: &Path) -> Files {
    let paths = faceoff_runs::list_folder(folder).unwrap().into_iter();
    paths.map(|path| (path.file_name().unwrap().to_str().unwrap().into(), std::fs::read(&path).unwrap())).collect()
}

fn write_all(folder: &Path, files: &Files) {
    std::fs::remove_dir_all(folder).unwrap();
    std::fs::create_dir(folder).unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
}

/// Bytes to stand in the place of `bytes`, of `twin` being the same file of another run, and `others` the files beside it; `None` for
/// no file.
fn mutations(bytes: &[u8], twin: &[u8], others: &Files, count: usize, random: &mut ChaCha8Rng) -> Vec<Option<Vec<u8>>> {
    let mut all = vec![None, Some(Vec::new()), Some(twin.to_vec())];
    all.push(Some(others.values().nth(random.random_range(0..others.len())).unwrap().clone()));
    for _ in 0..count {
        let mut flipped = bytes.to_vec();
        flipped[random.random_range(0..bytes.len())] ^= 1 << random.random_range(0..8);
        all.push(Some(flipped));
        all.push(Some(bytes[..random.random_range(0..bytes.len())].to_vec()));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.shuffle(random);
        all.push(Some(lines.concat().into_bytes()));
    }
    all.retain(|changed| changed.as_deref() != Some(bytes));
    all
}

/// `metrics.csv`, the rows of one run or those of the others.
fn rows(table: &[u8], of_victim: bool) -> Vec<String> {
    let rows = String::from_utf8_lossy(table).lines().map(String::from).collect::<Vec<_>>();
    rows.into_iter().filter(|row| row.starts_with("Classification,") == of_victim).collect()
}

#[test]
fn damage_is_told_or_changes_nothing() {
    let count =
        std::env::var("FACEOFF_MUTATIONS").map_or(1, |text| text.parse().expect("FACEOFF_MUTATIONS is a number"));
    let experiment = experiment(&[0]);
    let made = Reported::written(&experiment, |folder| {
        made_up().write(folder, &experiment);
        for run in faceoff_runs::list_runs(folder).unwrap() {
            let values = run.path().as_os_str().len() as u8;
            write_tensors(&run.encoder_path(), &[("weight", Dtype::F32, vec![50], vec![values; 200])], None).unwrap();
            run.finish(&run.manifest().unwrap()).unwrap();
        }
    });
    let [run, twin] = [VICTIM, "cosface-s64-seed0"].map(|name| RunFolder::at(&made.path("runs").join(name)));
    let (whole, twins) = (read_all(run.path()), read_all(twin.path()));
    assert_eq!(whole.len(), 12, "{:?}", whole.keys());
    let numbers = |files: &Files| {
        files
            .iter()
            .filter(|(name, _)| *name != "index.html")
            .map(|(name, file)| (name.clone(), file.clone()))
            .collect::<Files>()
    };
    let before = numbers(&made.files());
    let metrics = &before["metrics.csv"];
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let mut table = BTreeMap::new();
    for state in [State::Measured, State::Unmeasured, State::Resealed] {
        for (name, bytes) in &whole {
            let derived = DERIVED.contains(&name.as_str());
            if state != State::Measured && (derived || state == State::Resealed && name == "manifest.json") {
                continue;
            }
            let mut others = whole.clone();
            others.remove(name);
            let counts: &mut Counts = table.entry((format!("{state:?}"), name.clone())).or_default();
            for changed in mutations(bytes, &twins[name], &others, count, &mut random) {
                let mut files = whole.clone();
                if state != State::Measured {
                    files.retain(|name, _| !DERIVED.contains(&name.as_str()));
                }
                files.remove(name);
                files.extend(changed.map(|bytes| (name.clone(), bytes)));
                write_all(run.path(), &files);
                if state == State::Resealed {
                    run.finish(&run.manifest().unwrap()).unwrap();
                }
                counts.inputs += 1;
                let verified = catch_unwind(AssertUnwindSafe(|| run.verify()));
                counts.seen_by_verify += usize::from(matches!(verified, Ok(Err(_))));
                let reported = catch_unwind(AssertUnwindSafe(|| report(made.folder.path(), &experiment)));
                let place = match (verified.is_err(), reported) {
                    (true, _) | (_, Err(_)) => &mut counts.panics,
                    // One run never costs the report of the other.
                    (_, Ok(Err(error))) => panic!("{state:?} {name}: no report: {error}"),
                    (_, Ok(Ok(summary))) => {
                        let after = numbers(&made.files());
                        let said = |note: &String| {
                            note.starts_with(&format!("{VICTIM} is left out"))
                                || note.starts_with(&format!("{VICTIM} is unfinished"))
                        };
                        let others_are_alike = rows(&after["metrics.csv"], false) == rows(metrics, false);
                        let is_left_out = rows(&after["metrics.csv"], true).is_empty();
                        match others_are_alike {
                            true if after == before => &mut counts.unchanged,
                            true if is_left_out && summary.notes.iter().any(said) => &mut counts.refused,
                            _ => &mut counts.silent,
                        }
                    }
                };
                *place += 1;
            }
        }
    }
    println!("state       file                          inputs refused unchanged silent panics  seen by verify");
    for ((state, name), Counts { inputs, refused, unchanged, silent, panics, seen_by_verify }) in &table {
        println!(
            "{state:<11} {name:<29} {inputs:>6} {refused:>7} {unchanged:>9} {silent:>6} {panics:>6} {seen_by_verify:>15}"
        );
    }
    let sum = |of: fn(&Counts) -> usize, state: &str| -> usize {
        table.iter().filter(|((of_state, _), _)| of_state.starts_with(state)).map(|(_, counts)| of(counts)).sum()
    };
    for state in ["Measured", "Unmeasured", "Resealed"] {
        let [inputs, refused, unchanged] =
            [sum(|c| c.inputs, state), sum(|c| c.refused, state), sum(|c| c.unchanged, state)];
        println!(
            "{state}: {inputs} inputs, {refused} refused, {unchanged} unchanged, {} silent, {} panics",
            sum(|c| c.silent, state),
            sum(|c| c.panics, state)
        );
        // Files with right checksums are what was measured, whatever stands in them.
        assert!(sum(|c| c.silent, state) == 0 || state == "Resealed");
        assert!(inputs > 40 && refused > 20);
    }
    assert_eq!(sum(|c| c.panics, ""), 0);
    for ((state, name), counts) in &table {
        let is_listed = name != "manifest.json" && !DERIVED.contains(&name.as_str());
        assert!(state == "Resealed" || !is_listed || counts.seen_by_verify == counts.inputs, "{state} {name}");
    }
}
