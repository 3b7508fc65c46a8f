//! A run is measured once, and reports are made of what was measured; a metric comes with one file.

use crate::pages::files;
use crate::{experiment, experiment_with, made_up};
use faceoff_evaluation::families::{neighbors, probe};
use faceoff_evaluation::{Direction, Family, Headline, Metric, Registry, Unit, export, verify_measured};
use faceoff_report::{Extras, ReportSummary, write_report};
use faceoff_runs::{Dtype, Experiment, RunFolder, RunSpec, SplitName, write_tensors};
use std::path::Path;
use std::sync::Mutex;

/// The report and what had to be measured or mapped for it.
fn report(folder: &Path, experiment: &Experiment, registry: &Registry) -> (ReportSummary, Vec<String>) {
    let said = Mutex::new(Vec::new());
    let say = |line: &str| {
        if line.starts_with("measuring") || line.starts_with("mapping") {
            said.lock().unwrap().push(line.split(" (").next().unwrap().to_string());
        }
    };
    let summary = write_report(folder, experiment, registry, &Extras::default(), &say).unwrap();
    (summary, said.into_inner().unwrap())
}

fn measured(experiment: &Experiment) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    made_up().write(folder.path(), experiment);
    let (_, said) = report(folder.path(), experiment, &Registry::standard());
    assert_eq!(said.len(), 2 * experiment.training.seeds.len() + 2, "{said:?}");
    folder
}

#[test]
fn what_is_stale_or_damaged_is_measured_again_and_nothing_else() {
    let experiment = experiment(&[0]);
    let made = measured(&experiment);
    let first = files(made.path());
    let spec = &RunSpec::of(&experiment, &made_up::compute())[0];
    let run = RunFolder::new(made.path(), spec);
    let again = |change: &dyn Fn()| {
        change();
        let (summary, said) = report(made.path(), &experiment, &Registry::standard());
        (summary.notes.join("\n"), said)
    };
    let both = ["measuring Classification-seed0", "mapping Classification-seed0"];
    let file = |name: &str| run.path().join(name);

    let (_, said) = again(&|| ());
    assert!(said.is_empty(), "{said:?}");
    assert!(files(made.path()) == first);

    let text = std::fs::read_to_string(file("measured.json")).unwrap();
    let (notes, said) = again(&|| std::fs::write(file("measured.json"), &text[..text.len() / 2]).unwrap());
    assert_eq!(said, both);
    assert!(notes.contains("measured.json cannot be used"), "{notes}");
    let (_, said) = again(&|| std::fs::write(file("maps.csv"), "id,label\n").unwrap());
    assert_eq!(said, both[1..]);
    assert!(files(made.path()) == first);

    // Another version of one family: that alone.
    let newer = Family { version: probe::FAMILY.version + 1, ..probe::FAMILY };
    let (_, said) = report(made.path(), &experiment, &Registry::of(&[neighbors::FAMILY, newer]));
    assert_eq!(said.len(), 2, "{said:?}");
    let (_, said) = report(made.path(), &experiment, &Registry::of(&[neighbors::FAMILY, newer]));
    assert!(said.is_empty(), "{said:?}");

    // Embeddings of another training in the same folder.
    let manifest = run.manifest().unwrap();
    let mut other = run.embeddings(&manifest, SplitName::Val).unwrap();
    other.unit.swap(0, 1);
    let (notes, said) = again(&|| {
        run.write_embeddings(SplitName::Val, &other).unwrap();
        run.finish(&manifest).unwrap();
    });
    assert_eq!(said[0], both[0]);
    assert!(notes.contains("Classification-seed0: what was measured before does not fit"), "{notes}");

    let mut settings = experiment.clone();
    settings.analysis.knn_neighbors = vec![1, 3, 7];
    let (_, said) = report(made.path(), &settings, &Registry::standard());
    assert_eq!(said.len(), 4);
}

#[test]
fn a_weight_without_length_costs_its_images_alone() {
    let two_weights = "[[heads]]\nkind = \"SubCenterArcFace\"\nscale = 64.0\nmargin_radians = 0.5\nbeyond_pi = \"linear\"\nsub_centers = 2";
    let experiment = experiment_with(&[0], two_weights);
    let folder = tempfile::tempdir().unwrap();
    made_up().write(folder.path(), &experiment);
    let specs = RunSpec::of(&experiment, &made_up::compute());
    let run = RunFolder::new(
        folder.path(),
        specs.iter().find(|spec| spec.variant.head.kind() == "SubCenterArcFace").unwrap(),
    );
    let weights = ("weight", Dtype::F32, vec![2, 10, 24], vec![0; 4 * 2 * 10 * 24]);
    write_tensors(&run.head_path(), &[weights], None).unwrap();
    run.finish(&run.manifest().unwrap()).unwrap();
    let (summary, _) = report(folder.path(), &experiment, &Registry::standard());
    let said = |note: &String| note.contains("no images at each weight of a class") && note.contains("has length 0");
    assert!(summary.notes.iter().any(said), "{:?}", summary.notes);
    // What else can be looked at is kept, and what is missing is said again.
    let first = files(folder.path());
    let look = std::fs::read(run.path().join("look.bin")).unwrap();
    assert!(report(folder.path(), &experiment, &Registry::standard()).1.is_empty());
    assert!(files(folder.path()) == first && std::fs::read(run.path().join("look.bin")).unwrap() == look);
}

#[test]
fn exported_runs_have_the_same_tables() {
    let experiment = experiment(&[0, 1, 2]);
    let made = measured(&experiment);
    let first = files(made.path());
    for maps in [false, true] {
        let small = tempfile::tempdir().unwrap();
        let say = |line: &str| panic!("{line}");
        let (runs, bytes) = export(made.path(), &experiment, &Registry::standard(), small.path(), maps, &say).unwrap();
        assert!(runs == 6 && bytes < 6 * 40_000, "{bytes}");
        let (summary, said) = report(small.path(), &experiment, &Registry::standard());
        assert!(said.is_empty(), "{said:?}");
        let notes = summary.notes.join("\n");
        assert!(notes.contains("Without embeddings, so as they were measured before: "), "{notes}");
        assert!(!notes.contains("No maps"), "{notes}");
        let second = files(small.path());
        for (name, bytes) in
            first.iter().filter(|(name, _)| !["index.html", "pca.csv", "tsne.csv"].contains(&name.as_str()))
        {
            let map = name.starts_with("plots/pca") || name.starts_with("plots/tsne");
            if !map {
                assert!(second.get(name) == Some(bytes), "{name}");
            }
            assert!(second.contains_key(name), "{name}");
        }
        let lines = |name: &str| String::from_utf8_lossy(&second[name]).lines().count();
        assert_eq!(lines("tsne.csv"), 1 + 2 * 80);
        // The explorer says what heads say, and has the neighbours that KNN accuracy counts.
        let page = String::from_utf8_lossy(&second["index.html"]);
        assert!(
            page.contains("<script type=\"text/plain\" data-explorer") && page.contains("its nearest training images")
        );
        assert_eq!(small.path().join("runs/Classification-seed0/maps.csv").exists(), maps);
        assert!(!small.path().join("runs/Classification-seed1/look.bin").exists());

        // What another version would have to measure is named and left out; the rest is whole.
        let newer = Family { version: probe::FAMILY.version + 1, ..probe::FAMILY };
        let (summary, _) = report(small.path(), &experiment, &Registry::of(&[neighbors::FAMILY, newer]));
        let note = format!("no linear probe: it was not measured by version {}", newer.version);
        assert!(summary.notes.iter().any(|found| found.contains(&note)), "{:?}", summary.notes);
        assert!(summary.rows.iter().all(|row| row.means[0].is_some()));

        // Damage is told; with maps of their own it costs the single images alone.
        let look = small.path().join("runs/Classification-seed0/look.bin");
        let mut bytes = std::fs::read(&look).unwrap();
        bytes[40] ^= 1;
        std::fs::write(&look, bytes).unwrap();
        let run = RunFolder::at(look.parent().unwrap());
        assert!(verify_measured(&run).unwrap_err().contains("look.bin is damaged"));
        let (summary, _) = report(small.path(), &experiment, &Registry::standard());
        let lost = if maps { "Nothing of single images, since look.bin" } else { "No maps, since" };
        assert!(summary.notes.iter().any(|note| note.starts_with(lost)), "{:?}", summary.notes);
    }
}

static LAST_CLASS: Metric = Metric {
    id: "images_of_the_last_class",
    title: "Images of the last class",
    group: "Made up",
    unit: Unit::Count,
    direction: Direction::Neither,
    sentence: "How many validation images show the last class.",
    source: "this test",
};

const MADE_UP: Family = Family {
    name: "the last class",
    version: 1,
    metrics: &[&LAST_CLASS],
    headline: |_| vec![(LAST_CLASS.id(), Headline::Result)],
    measure: |subject, found| {
        let last = subject.queries.labels.iter().filter(|&&label| label as usize + 1 == subject.classes);
        found.add(LAST_CLASS.id(), last.count() as f64);
        Ok(())
    },
};

#[test]
fn a_metric_comes_with_one_file() {
    let experiment = experiment(&[0]);
    let made = measured(&experiment);
    let registry = Registry::standard().with(MADE_UP);
    report(made.path(), &experiment, &registry);
    let text = |name: &str| std::fs::read_to_string(made.path().join(name)).unwrap();
    assert!(text("metrics.csv").contains("cosface-s64,CosFace,0,images_of_the_last_class,8.0\n"));
    assert!(text("summary.csv").contains("cosface-s64,CosFace,images_of_the_last_class,1,8.0,,,,"));
    let page = text("index.html");
    assert!(page.contains("Images of the last class") && page.contains(LAST_CLASS.sentence));
    assert!(page.matches(">8<").count() >= 4, "among results and all numbers");
    assert!(registry.reference().contains("| `images_of_the_last_class` | Images of the last class | count |"));
    assert_eq!(registry.parse("images_of_the_last_class").unwrap(), LAST_CLASS.id());
}
