//! The files of a whole run: a report of it and another one leaves it out and says so, or has the same numbers.

use super::{Files, Outcome, RESEALED, Target, clear, mutate, write};
use anyhow::{Context, Result};
use faceoff::Program;
use faceoff_evaluation::{Evaluation, Registry, evaluate};
use faceoff_runs::{Dtype, Experiment, RunFolder, list_folder, list_runs, write_tensors};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::path::{Path, PathBuf};

#[path = "../../../crates/report/tests/it/made_up.rs"]
mod made_up;

/// What is measured later, and has checksums of its own.
const MEASURED: [&str; 3] = ["measured.json", "maps.csv", "look.bin"];
struct Runs {
    experiment: Experiment,
    registry: Registry,
    /// The run that is damaged, and the other.
    names: [String; 2],
    files: [Files; 2],
    /// What a report says of both, and of the other alone.
    both: String,
    other: String,
    folder: PathBuf,
    /// Where checksums are made.
    scratch: PathBuf,
}

pub(super) fn open(program: &Program, folder: &Path) -> Result<Box<dyn Target>> {
    let mut experiment = Experiment::load(&program.path("experiments"), "smoke")?;
    experiment.heads.drain(..experiment.heads.len().saturating_sub(2));
    experiment.analysis.bootstrap_resamples = 5;
    experiment.analysis.tsne_iterations = 2;
    let (folder, scratch) = (folder.join("work"), folder.join("scratch"));
    let classes = (0..10).map(|class| format!("class {class}")).collect();
    made_up::MadeUp { classes }.write(&folder, &experiment);
    let registry = Registry::standard();
    let runs = list_runs(&folder)?;
    for (run, value) in runs.iter().zip(1..) {
        write_tensors(&run.encoder_path(), &[("weight", Dtype::F32, vec![50], vec![value; 200])], None)?;
        run.finish(&run.manifest()?)?;
    }
    let [victim, other] = &runs[..] else { anyhow::bail!("{} runs were made up instead of two", runs.len()) };
    let evaluation = evaluate(&folder, &experiment, &registry, &|_| {})?;
    let names = [victim, other].map(|run| run.path().file_name().unwrap_or_default().to_string_lossy().into_owned());
    let both = said(&evaluation, &names);
    let other_alone = said(&evaluation, &names[1..]);
    let files = [read_files(victim.path())?, read_files(other.path())?];
    Ok(Box::new(Runs { experiment, registry, names, files, both, other: other_alone, folder, scratch }))
}

fn read_files(folder: &Path) -> Result<Files> {
    let paths = list_folder(folder)?.into_iter();
    let file = |path: PathBuf| {
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        Ok((name, std::fs::read(path)?))
    };
    paths.map(file).collect()
}

/// Everything that a report shows of these runs.
fn said(evaluation: &Evaluation, names: &[String]) -> String {
    let runs = evaluation.selection.runs.iter().filter(|run| names.contains(&run.name));
    let runs = runs.map(|run| format!("{:?} {:?} {:?}\n", run.name, run.manifest, run.history));
    let measured = evaluation.measured.iter().filter(|run| names.contains(&run.run));
    let measured = measured.map(|run| {
        // A word about what was measured again is no number.
        let mut run = run.clone();
        run.found.notes.clear();
        run.variant = 0;
        format!("{run:?}\n")
    });
    runs.chain(measured).collect()
}

impl Target for Runs {
    fn input(&self, random: &mut ChaCha8Rng) -> Files {
        let [whole, twin] = &self.files;
        let mut files = whole.clone();
        let state = random.random_range(0..3);
        if state > 0 {
            MEASURED.iter().for_each(|name| drop(files.remove(*name)));
        }
        let mut names: Vec<String> = files.keys().cloned().collect();
        if state == 2 {
            names.retain(|name| name != "manifest.json");
        }
        loop {
            for _ in 0..random.random_range(1..=2) {
                let name = names.choose(random).expect("a run has files").clone();
                match random.random_range(0..20) {
                    0 => drop(files.remove(&name)),
                    1 => drop(files.insert(name.clone(), twin[&name].clone())),
                    2 => drop(files.insert(
                        name.clone(),
                        whole.values().collect::<Vec<_>>().choose(random).expect("it has files").to_vec(),
                    )),
                    _ => {
                        let changed = mutate::bytes(files.remove(&name).unwrap_or_default(), &twin[&name], random);
                        files.insert(name, changed);
                    }
                }
            }
            // As many numbers may stand in it as before.
            if names.iter().any(|name| files.get(name) != whole.get(name)) {
                break;
            }
        }
        if state == 2 {
            clear(&self.scratch);
            let run = RunFolder::at(&self.scratch);
            let sealed = write(&self.scratch, &files).and_then(|()| Ok(run.finish(&run.manifest()?)?));
            sealed.expect("the manifest is whole");
            let manifest = std::fs::read(self.scratch.join("manifest.json")).expect("it was just written");
            files.insert("manifest.json".into(), manifest);
            files.insert(RESEALED.into(), Vec::new());
        }
        files
    }

    fn read(&mut self, input: &Files) -> Outcome {
        let [victim, other] = &self.names;
        let runs = self.folder.join("runs");
        let is_resealed = input.contains_key(RESEALED);
        for (name, files) in [(victim, input), (other, &self.files[1])] {
            clear(&runs.join(name));
            write(&runs.join(name), files).expect("the input can be written");
        }
        let _ = std::fs::remove_file(runs.join(victim).join(RESEALED));
        let verified = RunFolder::at(&runs.join(victim)).verify();
        let evaluation = match evaluate(&self.folder, &self.experiment, &self.registry, &|_| {}) {
            Ok(evaluation) => evaluation,
            Err(error) => return Outcome::Silent(format!("one run costs the report of the other: {error}")),
        };
        if said(&evaluation, &self.names[1..]) != self.other {
            return Outcome::Silent("the other run's results are others".into());
        }
        let whole = &self.files[0];
        let differs = |name: &&String| !MEASURED.contains(&name.as_str()) && input.get(*name) != whole.get(*name);
        let damaged = whole.keys().find(differs).filter(|name| *name != "manifest.json" && !is_resealed);
        if let (Ok(contents), Some(name)) = (&verified, damaged)
            && input.contains_key("manifest.json")
        {
            return Outcome::Silent(format!("verify finds {contents:?} although {name} was changed"));
        }
        if said(&evaluation, &self.names) == self.both {
            return Outcome::Accepted;
        }
        let is_there = evaluation.selection.runs.iter().any(|run| run.name == *victim);
        let notes = &evaluation.notes;
        let is_told = notes.iter().any(|note| {
            note.starts_with(&format!("{victim} is left out")) || note.starts_with(&format!("{victim} is unfinished"))
        });
        match (is_there, is_told) {
            (false, true) => Outcome::Told,
            (false, false) => Outcome::Silent(format!("{victim} is left out without a word: {notes:?}")),
            // Files with right checksums are what was measured, whatever stands in them: they must only be drawn.
            (true, _) if is_resealed => {
                match faceoff_report::write_report(
                    &self.folder,
                    &self.experiment,
                    &self.registry,
                    &faceoff_report::Extras::default(),
                    &|_| {},
                ) {
                    Ok(_) => Outcome::Accepted,
                    Err(error) => Outcome::Silent(format!("measured, but not drawn: {error}")),
                }
            }
            (true, _) => Outcome::Silent(format!("other results of {victim} without a word: {notes:?}")),
        }
    }
}
