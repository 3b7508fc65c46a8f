//! What is known of each data set.

use crate::{quiet, refusal, source, synthetic};
use faceoff_data::{Dataset, ImageSource, Origin, PROFILES, profile};
use faceoff_runs::DataConfig;
use std::path::Path;

#[test]
fn every_profile_is_complete() {
    for (index, known) in PROFILES.iter().enumerate() {
        let name = known.name;
        assert!(PROFILES[..index].iter().all(|other| other.name != name), "{name} stands twice");
        assert_eq!(profile(name).unwrap().title, known.title);
        let (folders, classes) = (known.class_folders, known.class_names);
        assert!(folders.is_sorted() && (folders.is_empty() || folders.len() == classes.len()), "{name}");
        match known.origin {
            Origin::Archive { url, md5 } => {
                assert!(url.ends_with(&format!("/{name}.tgz")) && md5.len() == 32, "{name}: {url} {md5}");
                assert!(known.images.is_some() && known.disk_mib > 0, "{name}");
            }
            Origin::CandleDatasets { .. } => assert_eq!(classes.len(), 10, "{name}"),
            Origin::Folder | Origin::Embeddings | Origin::Made => assert!(known.images.is_none(), "{name}"),
        }
    }
    let message = profile("imagewoof2-16").unwrap_err().to_string();
    assert!(
        message.contains("there are imagewoof2-160, ") && message.contains("did you mean `imagewoof2-160`?"),
        "{message}"
    );
}

/// Images of two breeds in the folders of Imagewoof, 160 px high, below `cache`.
fn breeds(cache: &Path) -> ImageSource {
    let folder = cache.join("two-breeds");
    for class in ["train/n02086240", "train/n02088364", "val/n02086240", "val/n02088364"] {
        std::fs::create_dir_all(folder.join(class)).unwrap();
        image::RgbImage::new(170, 160).save(folder.join(class).join("a.png")).unwrap();
    }
    ImageSource { data_dir: Some(folder), ..source(cache) }
}

/// The record of a run says what a page has to know, with the names of the classes that people know.
#[test]
fn records_carry_what_a_profile_says() {
    let cache = tempfile::tempdir().unwrap();
    let source = breeds(cache.path());
    let config = DataConfig { dataset: "imagewoof2-160".into(), ..synthetic() };
    let record = Dataset::open(&config, &source, &quiet).unwrap().record().clone();
    assert_eq!((record.name.as_str(), record.synthetic), ("imagewoof2-160", false));
    assert_eq!(record.classes, ["Shih-Tzu", "beagle"]);
    assert!(record.title.contains("Imagewoof") && record.notes[0].contains("byte-identical"), "{record:?}");
    let record = Dataset::open(&synthetic(), &source, &quiet).unwrap().record().clone();
    assert!(record.synthetic && record.notes.is_empty(), "{record:?}");
    // A user's own folder is taken as it is.
    let config = DataConfig { dataset: "folder".into(), ..synthetic() };
    assert_eq!(Dataset::open(&config, &source, &quiet).unwrap().record().classes[0], "n02086240");
    let unknown = DataConfig { dataset: "imagenet".into(), ..synthetic() };
    assert!(Dataset::open(&unknown, &source, &quiet).err().unwrap().to_string().contains("no such data set"));
}

/// The same names stand in every size of a data set.
#[test]
fn another_size_of_a_data_set_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let config = DataConfig { dataset: "imagewoof2-320".into(), synthetic: None, ..synthetic() };
    let message = refusal(&config, &breeds(cache.path())).to_string();
    assert!(message.contains("is 160 px, but imagewoof2-320 has 320 px"), "{message}");
    assert!(message.starts_with("data.dataset = imagewoof2-320: ") && !message.contains("<class>"), "{message}");
}
