//! Run folders: what is written comes back, what is damaged is named, what is half-done never looks whole.

use crate::experiment::{compute, smoke};
use faceoff_runs::{
    Compute, DataRecord, Difference, Embeddings, EpochRecord, Error, Failure, FileRecord, FolderLock, Machine,
    Manifest, Precision, RunFolder, RunSpec, RunState, SCHEMA, Speed, SplitName, list_runs, unfinished_folder,
    write_atomically,
};
use proptest::prelude::*;

fn data() -> DataRecord {
    DataRecord {
        name: "synthetic".into(),
        title: "Made up".into(),
        synthetic: true,
        notes: Vec::new(),
        fingerprint: "abc".into(),
        archive_md5: None,
        classes: vec!["one".into(), "two".into()],
        train_images: 64,
        val_images: 64,
    }
}

fn manifest(spec: &RunSpec) -> Manifest {
    Manifest {
        schema: SCHEMA,
        experiment: "smoke".into(),
        spec: spec.clone(),
        spec_hash: spec.hash(),
        data: data(),
        version: "0.1.0".into(),
        commit: "unknown".into(),
        machine: Machine { cpu: "x".into(), processors: 2, memory_mib: 1, system: "y".into(), threads: 2 },
        speed: Speed { images_per_second: 100.0, data_wait_share: 0.01 },
        seconds: [("train".into(), 1.5)].into(),
        files: Default::default(),
    }
}

/// A run that has begun.
fn begun() -> (tempfile::TempDir, RunSpec, RunFolder) {
    let root = tempfile::tempdir().unwrap();
    let spec = RunSpec::of(&smoke(), &compute()).remove(0);
    let folder = RunFolder::new(root.path(), &spec);
    folder.begin(&spec).unwrap();
    (root, spec, folder)
}

/// In what the run in `folder` differs from `spec` and `data`.
fn differences(folder: &RunFolder, spec: &RunSpec, data: &DataRecord) -> String {
    match folder.state(spec, data).unwrap() {
        RunState::Other(differences) => Difference::list(&differences),
        state => panic!("{state:?}"),
    }
}

fn embeddings(n: usize, dim: usize, classes: usize) -> Embeddings {
    Embeddings {
        ids: (0..n).map(|i| format!("val/a,\"b\"/{i}.JPEG")).collect(),
        labels: (0..n as u32).collect(),
        labels_trained: (0..n as u32).rev().collect(),
        dim,
        classes,
        unit: (0..n * dim).map(|i| (i as f32).sin()).collect(),
        norms: (0..n).map(|i| i as f32 + 0.5).collect(),
        scores: (0..n * classes).map(|i| (i as f32).cos()).collect(),
        predictions_labels_given: vec![1; n],
        effective_scale: 64.0,
        class_vectors: classes.is_multiple_of(2).then(|| vec![0.5; classes * dim]),
    }
}

#[test]
fn a_run_goes_from_open_to_whole() {
    let root = tempfile::tempdir().unwrap();
    let spec = RunSpec::of(&smoke(), &compute()).remove(0);
    let folder = RunFolder::new(root.path(), &spec);
    assert_eq!(folder.state(&spec, &data()).unwrap(), RunState::Open);
    folder.begin(&spec).unwrap();
    assert_eq!(folder.state(&spec, &data()).unwrap(), RunState::Open);
    std::fs::write(folder.checkpoint_path(), b"x").unwrap();
    folder.finish(&manifest(&spec)).unwrap();
    assert!(!folder.checkpoint_path().exists());
    // Every other file with its length and checksum; that of `abc` as the authors of BLAKE3 publish it.
    std::fs::write(folder.path().join("history.csv"), b"abc").unwrap();
    folder.finish(&manifest(&spec)).unwrap();
    let files = folder.manifest().unwrap().files;
    assert_eq!(files.keys().collect::<Vec<_>>(), ["history.csv", "spec.json"]);
    let abc = "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85";
    assert_eq!(files["history.csv"], FileRecord { bytes: 3, blake3: abc.into() });
    let whole = Manifest { files, ..manifest(&spec) };
    assert_eq!(folder.state(&spec, &data()).unwrap(), RunState::Whole(Box::new(whole)));
    assert_eq!(list_runs(root.path()).unwrap(), std::slice::from_ref(&folder));
    folder.clear().unwrap();
    assert_eq!(folder.state(&spec, &data()).unwrap(), RunState::Open);
}

#[test]
fn another_configuration_or_other_data_is_never_taken_for_this_run() {
    let root = tempfile::tempdir().unwrap();
    let spec = RunSpec::of(&smoke(), &compute()).remove(0);
    let mut other = spec.clone();
    other.training.epochs += 1;
    assert_ne!(spec.hash(), other.hash());
    let folder = RunFolder::new(root.path(), &spec);

    // Half-done.
    folder.begin(&other).unwrap();
    assert_eq!(differences(&folder, &spec, &data()), "training.epochs: 2, not 3");

    // Whole.
    folder.finish(&manifest(&other)).unwrap();
    assert!(matches!(folder.state(&spec, &data()).unwrap(), RunState::Other(_)));
    let changed = DataRecord { fingerprint: "def".into(), ..data() };
    assert_eq!(differences(&folder, &other, &changed), "data fingerprint: \"def\", not \"abc\"");
}

/// A training goes on only on the device and kernels that it was begun on; its result is one everywhere. Precisions never mix.
#[test]
fn other_kernels_may_not_go_on_with_a_run_but_use_it() {
    let (_root, spec, folder) = begun();
    let elsewhere = RunSpec { compute: Compute { kernels: "avx512".into(), ..compute() }, ..spec.clone() };
    let mut coarse = elsewhere.clone();
    coarse.training.precision = Precision::Tf32;
    let kernels = "compute.kernels: \"avx512\", not \"avx2\"";
    let precision = "training.precision: \"tf32\", not \"f32\"";
    assert_eq!(differences(&folder, &elsewhere, &data()), kernels);
    assert_eq!(differences(&folder, &coarse, &data()), format!("{kernels}; {precision}"));

    folder.finish(&manifest(&spec)).unwrap();
    assert!(matches!(folder.state(&elsewhere, &data()).unwrap(), RunState::Whole(_)));
    assert_eq!(differences(&folder, &coarse, &data()), precision);
}

#[test]
fn failures_are_remembered() {
    let (_root, spec, folder) = begun();
    let failure = Failure {
        spec_hash: spec.hash(),
        head: "ArcFace".into(),
        epoch: 1,
        step: 3,
        learning_rate: 0.1,
        message: "loss is NaN".into(),
    };
    folder.fail(&failure).unwrap();
    assert_eq!(folder.state(&spec, &data()).unwrap(), RunState::Failed(failure.clone()));
    let elsewhere = RunSpec { compute: Compute::unknown(), ..spec };
    assert_eq!(folder.state(&elsewhere, &data()).unwrap(), RunState::Failed(failure));
}

#[test]
fn only_what_is_trained_enters_the_hash() {
    let mut experiment = smoke();
    let before: Vec<_> = RunSpec::of(&experiment, &compute()).iter().map(RunSpec::hash).collect();
    experiment.description.push('!');
    experiment.analysis.tsne_perplexity += 1.0;
    experiment.training.seeds.push(5);
    let after: Vec<_> = RunSpec::of(&experiment, &compute()).iter().map(RunSpec::hash).collect();
    assert_eq!(after[..before.len()], before);
    assert_eq!(after.len(), 2 * before.len());
    let mut distinct = after.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), after.len());
}

#[test]
fn damaged_files_are_named_with_the_remedy() {
    let (_root, spec, folder) = begun();
    folder.write_embeddings(SplitName::Val, &embeddings(5, 3, 2)).unwrap();
    let path = folder.path().join("embeddings-val.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let text = folder.embeddings(SplitName::Val).unwrap_err().to_string();
    assert!(text.contains("embeddings-val.safetensors is damaged") && text.contains("remove the folder"), "{text}");

    folder.finish(&manifest(&spec)).unwrap();
    let path = folder.path().join("manifest.json");
    let json = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, json.replace("\"schema\": 2", "\"schema\": 1")).unwrap();
    let text = folder.manifest().unwrap_err().to_string();
    assert!(text.contains("version 1 of the run contract, this program reads version 2"), "{text}");
    assert!(text.contains("remove the folder"), "{text}");
    std::fs::write(&path, json.replace("\"epochs\": 2", "\"epochs\": 20")).unwrap();
    assert!(folder.manifest().unwrap_err().to_string().contains("its hash does not fit"));
}

#[test]
fn embeddings_that_do_not_fit_together_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let folder = RunFolder::new(root.path(), &RunSpec::of(&smoke(), &compute())[0]);
    let mut wrong = embeddings(4, 3, 2);
    wrong.norms.pop();
    let text = folder.write_embeddings(SplitName::Train, &wrong).unwrap_err().to_string();
    assert!(text.contains("`norms` is 3, but 4 values were expected"), "{text}");
    assert!(!folder.path().exists());
}

#[test]
fn a_failed_write_leaves_what_stood_there() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("results.csv");
    write_atomically(&path, |file| file.write_all(b"old")).unwrap();
    let failed = write_atomically(&path, |file| {
        file.write_all(b"new")?;
        Err(std::io::Error::other("disk full"))
    });
    assert!(failed.unwrap_err().to_string().contains("disk full"));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "a temporary file was left behind");
}

/// What a killed process left half-written goes, and nothing else.
/// A process that is killed while it writes, and what stands beside it under the same kind of name.
#[test]
fn a_lock_clears_away_what_was_left_unfinished_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("runs/ArcFace-seed0");
    let lock = FolderLock::take(root.path(), &quiet).unwrap();
    let folder = unfinished_folder(&run).unwrap().keep();
    std::fs::write(folder.join("z"), b"x").unwrap();
    let list = root.path().join(".faceoff-unfinished");
    write_atomically(&run.join("whole.csv"), |file| {
        file.write_all(b"x")?;
        // As it is in the middle of a write.
        let killed = std::fs::read_to_string(&list)?;
        let unfinished = root.path().join(killed.lines().last().unwrap());
        assert!(unfinished.is_file() && killed.lines().count() == 2, "{killed}");
        std::fs::copy(&list, root.path().join("list"))?;
        std::fs::copy(unfinished, root.path().join("copy")).map(drop)
    })
    .unwrap();
    drop(lock);
    assert!(!list.exists());
    // A kill leaves both the list and what it names; the user has files of his own that begin so.
    std::fs::rename(root.path().join("list"), &list).unwrap();
    let partial = std::fs::read_to_string(&list).unwrap().lines().last().unwrap().to_string();
    std::fs::rename(root.path().join("copy"), root.path().join(&partial)).unwrap();
    for name in [".partial-mine", ".partial-documents/deep", "checkpoint.safetensors"] {
        std::fs::create_dir_all(run.join(name).parent().unwrap()).unwrap();
        std::fs::write(run.join(name), b"mine").unwrap();
    }
    let outside = root.path().parent().unwrap().join(".partial-outside");
    std::fs::write(&list, std::fs::read_to_string(&list).unwrap() + "../.partial-outside\nruns\n\n").unwrap();
    std::fs::write(&outside, b"mine").unwrap();
    drop(FolderLock::take(root.path(), &quiet).unwrap());
    std::fs::remove_file(outside).unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".partial-documents", ".partial-mine", "checkpoint.safetensors", "whole.csv"]);
    assert!(!list.exists());
}

#[test]
fn a_folder_has_one_writer() {
    let root = tempfile::tempdir().unwrap();
    let held = FolderLock::take(root.path(), &quiet).unwrap();
    let told = std::sync::Mutex::new(String::new());
    let refused = FolderLock::take(root.path(), &|line| told.lock().unwrap().push_str(line));
    assert!(matches!(refused, Err(Error::Locked { .. })));
    assert!(told.lock().unwrap().contains("waiting up to 5 s"), "{told:?}");
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let mut told = false;
            FolderLock::wait(root.path(), || told = true).unwrap();
            told
        });
        // One that was just killed lets go in a moment.
        let taker = scope.spawn(|| FolderLock::take(root.path(), &quiet).map(drop));
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!waiter.is_finished() && !taker.is_finished());
        drop(held);
        assert!(waiter.join().unwrap());
        taker.join().unwrap().unwrap();
    });
}

#[cfg(unix)]
#[test]
fn a_lock_never_writes_through_a_link_or_into_a_file_that_was_there() {
    let root = tempfile::tempdir().unwrap();
    let [folder, mine] = ["out", "mine"].map(|name| root.path().join(name));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&mine, b"mine").unwrap();
    for name in [".lock", ".faceoff-unfinished"] {
        std::os::unix::fs::symlink(&mine, folder.join(name)).unwrap();
        let message = FolderLock::take(&folder, &quiet).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("it is a link"), "{message}");
        std::fs::remove_file(folder.join(name)).unwrap();
    }
    std::fs::rename(&mine, folder.join(".lock")).unwrap();
    drop(FolderLock::take(&folder, &quiet).unwrap());
    assert_eq!(std::fs::read(folder.join(".lock")).unwrap(), b"mine");
}

fn quiet(_: &str) {}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn embeddings_come_back_as_they_went(n in 0usize..9, dim in 1usize..6, classes in 1usize..5) {
        let root = tempfile::tempdir().unwrap();
        let folder = RunFolder::new(root.path(), &RunSpec::of(&smoke(), &compute())[0]);
        let written = embeddings(n, dim, classes);
        folder.write_embeddings(SplitName::Val, &written).unwrap();
        let read = folder.embeddings(SplitName::Val).unwrap();
        prop_assert_eq!(read.unit().dim(), (n, dim));
        prop_assert_eq!(read.scores().dim(), (n, classes));
        prop_assert!(read.class_vectors().is_none_or(|vectors| vectors.dim() == (classes, dim)));
        prop_assert_eq!(read, written);
    }

    #[test]
    fn history_comes_back_as_it_went(losses in proptest::collection::vec(-1e9f64..1e9, 1..6)) {
        let root = tempfile::tempdir().unwrap();
        let spec = RunSpec::of(&smoke(), &compute()).remove(0);
        let folder = RunFolder::new(root.path(), &spec);
        let records: Vec<_> = losses
            .iter()
            .enumerate()
            .map(|(i, &train_loss)| EpochRecord {
                epoch: i + 1,
                step: 10 * i,
                train_loss,
                train_accuracy: (i != 1).then_some(1.0 / (i + 1) as f64),
                learning_rate: train_loss / 3.0,
                effective_scale: 64.0,
            })
            .collect();
        folder.write_history(&spec, &records).unwrap();
        prop_assert_eq!(folder.history().unwrap(), records);
    }
}
