//! What other programs read of a report.

use crate::images::Plain;
use crate::{Reported, experiment, made_up};
use faceoff_evaluation::Registry;
use faceoff_report::{Export, Extras, write_report};
use std::path::Path;

/// The report of two made-up heads, with an export.
fn exported(exports: &[Export]) -> tempfile::TempDir {
    let (folder, experiment) = (tempfile::tempdir().unwrap(), experiment(&[0]));
    made_up().write(folder.path(), &experiment);
    let ids = ["train", "val"].iter().flat_map(|split| (0..120).map(move |image| format!("{split}/{image:05}.JPEG")));
    let images = Plain(ids.collect());
    let extras = Extras { thumbnails: Some(&images), exports: exports.to_vec(), ..Extras::default() };
    write_report(folder.path(), &experiment, &Registry::standard(), &extras, &|_| {}).unwrap();
    folder
}

fn text(folder: &Path, name: &str) -> String {
    std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_projector_gets_embeddings_classes_and_pictures() {
    let folder = exported(&[Export::Projector]);
    let config: serde_json::Value =
        serde_json::from_str(&text(folder.path(), "projector/projector_config.json")).unwrap();
    let tensors = config["embeddings"].as_array().unwrap();
    assert_eq!(tensors.len(), 2);
    for tensor in tensors {
        assert_eq!(tensor["tensorShape"], serde_json::json!([80, 24]));
        let file = |key: &str| format!("projector/{}", tensor[key].as_str().unwrap());
        let rows = text(folder.path(), &file("tensorPath"));
        assert!(rows.lines().count() == 80 && rows.lines().all(|row| row.split('\t').count() == 24));
        let classes = text(folder.path(), &file("metadataPath"));
        assert_eq!((classes.lines().count(), classes.lines().next()), (81, Some("image\tclass\tsays")));
        assert!(classes.lines().all(|row| row.split('\t').count() == 3 && !row.ends_with('\t')));
        assert!(folder.path().join("projector").join(tensor["sprite"]["imagePath"].as_str().unwrap()).is_file());
    }
    // TensorBoard itself reads protobuf's text form: here as written by hand for the first head.
    let first = "embeddings {\n  tensor_name: \"Classification\"\n  tensor_path: \"Classification.tsv\"\n  metadata_path: \"Classification-classes.tsv\"\n  sprite {\n    image_path: \"images-0.jpg\"\n    single_image_dim: 64\n    single_image_dim: 64\n  }\n}\n";
    let written = text(folder.path(), "projector/projector_config.pbtxt");
    assert!(written.starts_with(first) && written.matches("embeddings {").count() == 2, "{written}");
    // A later report without it takes it away.
    crate::report(folder.path(), &experiment(&[0])).unwrap();
    assert!(!folder.path().join("projector").exists());
}

#[test]
fn tensorboard_gets_the_curves_of_every_run() {
    let folder = exported(&[Export::Tensorboard]);
    for run in ["Classification-seed0", "cosface-s64-seed0"] {
        let bytes =
            std::fs::read(folder.path().join(format!("tensorboard/{run}/events.out.tfevents.0.faceoff"))).unwrap();
        // The version and three epochs.
        let (mut at, mut records) = (0, 0);
        while at < bytes.len() {
            at += 16 + u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            records += 1;
        }
        assert_eq!((at, records), (bytes.len(), 4));
        let holds = |text: &str| bytes.windows(text.len()).filter(|at| *at == text.as_bytes()).count();
        assert_eq!([holds("train_loss"), holds("measured/knn_accuracy_k5")], [3, 1]);
    }
}

#[test]
fn the_table_of_images_has_a_row_for_each_under_each_head() {
    let folder = exported(&[Export::Projector, Export::Parquet, Export::Parquet]);
    let bytes = std::fs::read(folder.path().join("images.parquet")).unwrap();
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    let holds = |text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
    assert!(holds("tsne1") && holds("says") && holds("val/00000.JPEG") && holds("cosface-s64"));
    // The picture of an image stands there once, though every head has a row with it.
    let pictures = bytes.windows(23).filter(|at| *at == b"data:image/jpeg;base64,").count();
    assert!((80..160).contains(&pictures), "{pictures}");
    assert!(folder.path().join("projector").is_dir());
    assert!(Reported::of(&experiment(&[0])).files().keys().all(|name| name != "images.parquet"));
}
