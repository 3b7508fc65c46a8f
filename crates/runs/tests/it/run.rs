//! Run folders: what is written comes back, what is damaged is named, what is half-done never looks whole.

use crate::experiment::{compute, smoke};
use faceoff_runs::{
    Compute, Contents, DataRecord, Difference, Dtype, Embeddings, EpochRecord, Error, Failure, FileRecord, FolderLock,
    Machine, Manifest, Precision, RunFolder, RunSpec, RunState, SCHEMA, Speed, SplitName, TensorFile, list_runs,
    unfinished_folder, write_atomically, write_tensors,
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
        options: Vec::new(),
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
        finished: None,
        files: Default::default(),
        blake3: String::new(),
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

/// A manifest that fits runs of `n` images a split and `classes` classes.
fn manifest_of(spec: &RunSpec, n: usize, classes: usize) -> Manifest {
    let classes = (0..classes).map(|class| class.to_string()).collect();
    Manifest { data: DataRecord { train_images: n, val_images: n, classes, ..data() }, ..manifest(spec) }
}

fn history(spec: &RunSpec) -> Vec<EpochRecord> {
    let record = |epoch| EpochRecord {
        epoch,
        step: 4 * epoch,
        train_loss: 1.0 / epoch as f64,
        train_accuracy: Some(0.5),
        learning_rate: 1e-3,
        effective_scale: 1.0,
        ..EpochRecord::default()
    };
    (1..=spec.training.epochs).map(record).collect()
}

/// A whole run with all its files: 6 images a split, 3 dimensions, 2 classes.
fn whole() -> (tempfile::TempDir, RunSpec, RunFolder) {
    let (root, spec, folder) = begun();
    let weights = [("weight", Dtype::F32, vec![2], vec![1; 8])];
    for path in [folder.encoder_path(), folder.head_path()] {
        write_tensors(&path, &weights, None).unwrap();
    }
    folder.write_history(&spec, &history(&spec)).unwrap();
    for split in SplitName::ALL {
        folder.write_embeddings(split, &embeddings(6, 3, 2)).unwrap();
    }
    folder.finish(&manifest_of(&spec, 6, 2)).unwrap();
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
        labels: (0..n).map(|i| (i % classes) as u32).collect(),
        labels_trained: (0..n).rev().map(|i| (i % classes) as u32).collect(),
        dim,
        classes,
        unit: (0..n * dim).map(|i| (i as f32).sin()).collect(),
        norms: (0..n).map(|i| i as f32 + 0.5).collect(),
        scores: (0..n * classes).map(|i| (i as f32).cos()).collect(),
        logits: dim.is_multiple_of(2).then(|| vec![-0.5; n * classes]),
        predictions_labels_given: vec![classes as u32 - 1; n],
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
    let whole = folder.manifest().unwrap();
    assert_eq!(Manifest { files, blake3: whole.blake3.clone(), ..manifest(&spec) }, whole);
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

/// Whatever of a file is lost or changed: the answer has its path, what was expected, what was found, and the remedy.
#[test]
fn damaged_files_are_named_with_what_was_expected_and_found() {
    let (_root, spec, folder) = whole();
    let manifest = folder.manifest().unwrap();
    assert_eq!(folder.intact_manifest().unwrap(), manifest);
    let bytes = manifest.files.values().map(|file| file.bytes).sum();
    assert_eq!(folder.verify().unwrap(), Contents::Whole(8, bytes));
    for (name, FileRecord { blake3, .. }) in &manifest.files {
        let path = folder.path().join(name);
        let good = std::fs::read(&path).unwrap();
        let mut flipped = good.clone();
        flipped[good.len() / 2] ^= 1;
        let half = good[..good.len() / 2].to_vec();
        for (bytes, found) in [
            (Some(flipped), "bytes with BLAKE3"),
            (Some(half), "bytes with BLAKE3"),
            (Some(Vec::new()), "0 bytes"),
            (None, "no such"),
        ] {
            let length = bytes.as_ref().map(Vec::len);
            match bytes {
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
            let text = folder.verify().unwrap_err().to_string();
            for part in [path.to_str().unwrap(), blake3, found, "benchmark --force"] {
                assert!(text.contains(part), "{text} lacks {part}");
            }
            let state = folder.state(&spec, &manifest.data).unwrap();
            // The encoder's weights are large, and nothing but `verify` reads them: their length is enough.
            let unread = name == "encoder.safetensors" && length == Some(good.len());
            assert_eq!(matches!(state, RunState::Damaged(problem) if problem == text), !unread, "{text}");
        }
        std::fs::write(&path, good).unwrap();
    }
    assert!(folder.verify().is_ok());
}

#[test]
fn a_manifest_covers_its_own_content() {
    let (_root, _, folder) = whole();
    let path = folder.path().join("manifest.json");
    let json = std::fs::read_to_string(&path).unwrap();
    let answer = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        std::fs::write(&path, json.replacen(from, to, 1)).unwrap();
        folder.manifest().unwrap_err().to_string()
    };
    for (from, to) in
        [("\"Made up\"", "\"Made-up\""), ("\"processors\": 2", "\"processors\": 3"), ("1.5", "1.25"), ("abc", "abd")]
    {
        let text = answer(from, to);
        assert!(text.contains("manifest.json is damaged or was changed: expected content with BLAKE3"), "{text}");
    }
    let text = answer("\"schema\": 3", "\"schema\": 1");
    assert!(text.contains("version 1 of the run contract, this program reads versions 2 and 3"), "{text}");
    // The version before has no checksum, but one that has one is not of that version.
    assert!(answer("\"schema\": 3", "\"schema\": 2").contains("damaged or was changed"));
    assert!(answer("\"blake3\": \"", "\"blake4\": \"").contains("unknown field"));
    let manifest: Manifest = serde_json::from_str(&json).unwrap();
    let old = Manifest { schema: 2, blake3: String::new(), ..manifest };
    std::fs::write(&path, serde_json::to_string(&old).unwrap()).unwrap();
    assert_eq!(folder.intact_manifest().unwrap(), old);
    std::fs::write(&path, serde_json::to_string(&old).unwrap().replace("\"epochs\":2", "\"epochs\":20")).unwrap();
    assert!(folder.manifest().unwrap_err().to_string().contains("its hash does not fit"));
}

/// Files with right checksums that contradict each other, as another program might write them.
#[test]
fn files_that_do_not_fit_together_are_refused() {
    let answer = |change: &dyn Fn(&RunSpec, &RunFolder, &mut Manifest)| {
        let (_root, spec, folder) = whole();
        let mut manifest = manifest_of(&spec, 6, 2);
        change(&spec, &folder, &mut manifest);
        folder.finish(&manifest).unwrap();
        assert!(folder.intact_manifest().is_ok());
        folder.verify().unwrap_err().to_string()
    };
    let of_val = |change: &dyn Fn(&mut Embeddings)| {
        let mut changed = embeddings(6, 3, 2);
        change(&mut changed);
        answer(&|_, folder, _| folder.write_embeddings(SplitName::Val, &changed).unwrap())
    };
    let of_history = |change: &dyn Fn(&mut Vec<EpochRecord>)| {
        answer(&|spec, folder, _| {
            let mut records = history(spec);
            change(&mut records);
            folder.write_history(spec, &records).unwrap();
        })
    };
    for (text, parts) in [
        (of_val(&|val| val.labels[2] = 2), ["images-val.csv", "row 3 has label 2, but there are 2 classes"]),
        (of_val(&|val| val.labels_trained[5] = u32::MAX), ["images-val.csv", "row 6 has label 4294967295"]),
        (of_val(&|val| val.ids[4] = val.ids[1].clone()), ["images-val.csv", "row 5 is `val/a,\"b\"/1.JPEG`"]),
        (of_val(&|val| val.unit[7] = f32::NAN), ["embeddings-val.safetensors", "value 7 of `embeddings` is NaN"]),
        (
            of_val(&|val| val.effective_scale = f32::INFINITY),
            ["embeddings-val.safetensors", "`effective_scale` is inf"],
        ),
        (of_val(&|val| val.predictions_labels_given[0] = 2), ["embeddings-val.safetensors", "has class 2 of 2"]),
        (of_val(&|val| *val = embeddings(6, 4, 2)), ["embeddings-val.safetensors", "its dimensions or classes"]),
        (of_val(&|val| *val = embeddings(5, 3, 2)), ["images-val.csv", "5 images, but the manifest says 6"]),
        (answer(&|_, _, of| drop(of.data.classes.pop())), ["images-train.csv", "row 1 has label 1, but there are 1"]),
        (of_history(&|rows| rows.swap(0, 1)), ["history.csv", "row 1 is epoch 2 at step 8"]),
        (of_history(&|rows| rows[1].epoch = 10_usize.pow(18)), ["history.csv", "row 2 is epoch 1000000000000000000"]),
        (of_history(&|rows| rows[0].train_loss = f64::NAN), ["history.csv", "row 1 has a number that is not finite"]),
        (of_history(&|rows| rows.truncate(1)), ["history.csv", "it has 1 rows, but the run has 2 epochs"]),
        (
            answer(&|spec, folder, _| {
                let mut other = spec.clone();
                other.seed = 7;
                folder.begin(&other).unwrap();
            }),
            ["spec.json", "not the specification that the manifest has"],
        ),
    ] {
        for part in parts {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
}

/// A text beside arrays is read with all of them as they were written, or not at all: every bit of the file is flipped once.
#[test]
fn every_bit_of_a_checkpoint_counts() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("checkpoint.safetensors");
    let tensors = [("b", Dtype::F32, vec![2], vec![7; 8]), ("a", Dtype::I64, vec![], vec![1; 8])];
    write_tensors(&path, &tensors, Some("{\"epoch\": 1}".into())).unwrap();
    let read = || {
        let file = TensorFile::read(&path)?;
        let text = file.metadata()?;
        let mut arrays: Vec<_> = file.tensors()?.tensors();
        arrays.sort_by(|a, b| a.0.cmp(&b.0));
        Ok::<_, Error>((text, arrays.iter().map(|(name, array)| format!("{name} {array:?}")).collect::<Vec<_>>()))
    };
    let written = read().unwrap();
    assert_eq!(written.0.as_deref(), Some("{\"epoch\": 1}"));
    let bytes = std::fs::read(&path).unwrap();
    let mut refused = 0;
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, &flipped).unwrap();
        match read() {
            Ok(read) => assert!(read == written || read.0.is_none(), "bit {bit}: {read:?}"),
            Err(error) => refused += usize::from(error.is_damage()),
        }
    }
    assert!(refused > 7 * bytes.len(), "{refused}");
    // The version before wrote the text alone.
    let (length, text) = (&bytes[..8], std::str::from_utf8(&bytes[8..]).unwrap());
    let start = text.find(" {\\\"epoch").unwrap();
    let old = format!("{}{}\"{}", &text[..start - 65], " ".repeat(65), &text[start + 1..]);
    let old = [length, old.as_bytes()].concat();
    std::fs::write(&path, old).unwrap();
    let text = read().unwrap_err().to_string();
    assert!(text.contains("an earlier version of Faceoff wrote it, without a checksum"), "{text}");
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

#[test]
fn a_run_has_one_trainer_whose_leavings_the_next_one_clears_away() {
    let root = tempfile::tempdir().unwrap();
    let spec = RunSpec::of(&smoke(), &compute()).remove(0);
    let run = RunFolder::new(root.path(), &spec);
    let held = FolderLock::of_run(&run, "process 1 on a").unwrap().expect("it is free");
    assert!(FolderLock::of_run(&run, "process 2 on b").unwrap().is_none());
    assert_eq!(FolderLock::holder(&run), "process 1 on a");
    assert!(!run.path().exists(), "a lock makes no run");
    // The folder may go and come again while it is locked, and the report beside it may be written.
    run.begin(&spec).unwrap();
    run.clear().unwrap();
    run.begin(&spec).unwrap();
    assert!(FolderLock::of_run(&run, "process 2 on b").unwrap().is_none());
    drop(FolderLock::take(root.path(), &quiet).unwrap());
    let partial = unfinished_folder(run.path()).unwrap().keep();
    let list = root.path().join(".locks").join(format!("{}.faceoff-unfinished", spec.folder_name()));
    let kept = std::fs::read(&list).unwrap();
    drop(held);
    // As a kill leaves it.
    std::fs::write(&list, kept).unwrap();
    drop(FolderLock::take(root.path(), &quiet).unwrap());
    assert!(partial.exists(), "it is none of the report's");
    let taken = FolderLock::of_run(&run, "2").unwrap().expect("it is free again");
    assert!(!partial.exists() && FolderLock::holder(&run) == "2");
    drop(taken);
    assert!(!list.exists());
}

#[test]
fn what_ended_is_known_by_a_digest() {
    let root = tempfile::tempdir().unwrap();
    let specs = RunSpec::of(&smoke(), &compute());
    let runs = || specs[..2].iter().map(|spec| RunFolder::new(root.path(), spec));
    let digest = || faceoff_runs::digest_of_ended(runs());
    runs().for_each(|run| std::fs::create_dir_all(run.path()).unwrap());
    std::fs::write(runs().next().unwrap().path().join("manifest.json"), "1").unwrap();
    assert_eq!(digest(), None);
    std::fs::write(runs().nth(1).unwrap().path().join("failure.json"), "2").unwrap();
    let before = digest();
    assert!(before.is_some());
    std::fs::write(runs().next().unwrap().path().join("manifest.json"), "3").unwrap();
    assert!(digest().is_some() && digest() != before);
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

#[test]
fn a_history_without_figures_of_health_is_read() {
    let root = tempfile::tempdir().unwrap();
    let spec = RunSpec::of(&smoke(), &compute()).remove(0);
    let folder = RunFolder::new(root.path(), &spec);
    let expected = history(&spec);
    folder.write_history(&spec, &expected).unwrap();
    let path = folder.path().join("history.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    let older = text.lines().map(|line| line.split(',').take(9).collect::<Vec<_>>().join(",") + "\n");
    std::fs::write(&path, older.collect::<String>()).unwrap();
    folder.finish(&manifest_of(&spec, 1, 1)).unwrap();
    assert_eq!(folder.history(&folder.manifest().unwrap()).unwrap(), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn embeddings_come_back_as_they_went(n in 0usize..9, dim in 1usize..6, classes in 1usize..5) {
        let root = tempfile::tempdir().unwrap();
        let spec = RunSpec::of(&smoke(), &compute()).remove(0);
        let folder = RunFolder::new(root.path(), &spec);
        let written = embeddings(n, dim, classes);
        folder.write_embeddings(SplitName::Val, &written).unwrap();
        folder.finish(&manifest_of(&spec, n, classes)).unwrap();
        let read = folder.embeddings(&folder.manifest().unwrap(), SplitName::Val).unwrap();
        prop_assert_eq!(read.unit().dim(), (n, dim));
        prop_assert_eq!(read.scores().dim(), (n, classes));
        prop_assert!(read.class_vectors().is_none_or(|vectors| vectors.dim() == (classes, dim)));
        prop_assert_eq!(read, written);
        // Too many images and classes, with a head that scores and with one that does not.
        for predictions_labels_given in [vec![0; n], vec![]] {
            let logits = None;
            let unscored = Embeddings { scores: vec![], logits, predictions_labels_given, ..embeddings(n, dim, classes) };
            folder.write_embeddings(SplitName::Train, &unscored).unwrap();
            folder.finish(&manifest_of(&spec, n, classes)).unwrap();
            prop_assert_eq!(folder.embeddings(&folder.manifest().unwrap(), SplitName::Train).unwrap(), unscored);
        }
    }

    #[test]
    fn history_comes_back_as_it_went(losses in proptest::collection::vec(-1e9f64..1e9, 1..6)) {
        let root = tempfile::tempdir().unwrap();
        let mut spec = RunSpec::of(&smoke(), &compute()).remove(0);
        spec.training.epochs = losses.len();
        let folder = RunFolder::new(root.path(), &spec);
        let records: Vec<_> = losses
            .iter()
            .enumerate()
            .map(|(i, &train_loss)| EpochRecord {
                epoch: i + 1,
                step: 10 * (i + 1),
                train_loss,
                train_accuracy: (i != 1).then_some(1.0 / (i + 1) as f64),
                learning_rate: train_loss / 3.0,
                effective_scale: 64.0,
                own_angle_degrees: Some(train_loss / 7.0),
                head_state: (0..i).map(|k| (format!("state_{k}"), train_loss / 9.0)).collect(),
                ..EpochRecord::default()
            })
            .collect();
        folder.write_history(&spec, &records).unwrap();
        folder.finish(&manifest(&spec)).unwrap();
        prop_assert_eq!(folder.history(&folder.manifest().unwrap()).unwrap(), records);
    }
}
