//! Folders of images as people have them: other formats and names, subfolders, links, hidden files, turned photographs.

use crate::{quiet, refusal, source, synthetic};
use faceoff_data::{Dataset, Error, ImageCounts, ImageSource, count_images, profile};
use faceoff_runs::{DataConfig, SplitName};
use image::{ImageFormat, RgbImage};
use std::path::Path;
use tempfile::TempDir;

const CLASSES: [&str; 2] = ["cat", "dog"];

/// The bytes of an image whose upper half is of the colour given, the lower one black.
fn picture(format: ImageFormat, value: u8) -> Vec<u8> {
    let pixel = |_, y| image::Rgb(if y < 20 { [value, 0, value] } else { [0; 3] });
    let mut bytes = std::io::Cursor::new(Vec::new());
    RgbImage::from_fn(40, 40, pixel).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A folder with `a.png` in every class folder.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for (class, value) in CLASSES.iter().zip([60, 200]) {
            write(&folder.path().join(split).join(class).join("a.png"), &picture(ImageFormat::Png, value));
        }
    }
    folder
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn counts(folder: &Path) -> ImageCounts {
    count_images(folder, profile("folder").unwrap()).unwrap()
}

fn of(folder: &Path, cache: &Path) -> (DataConfig, ImageSource) {
    let source = ImageSource { data_dir: Some(folder.to_path_buf()), ..source(cache) };
    (DataConfig { dataset: "folder".into(), ..synthetic() }, source)
}

fn open(folder: &Path, cache: &Path) -> Dataset {
    let (config, source) = of(folder, cache);
    Dataset::open(&config, &source, &quiet).unwrap()
}

#[test]
fn formats_are_known_by_content() {
    let (folder, cache) = (folder(), tempfile::tempdir().unwrap());
    use ImageFormat::{Bmp, Gif, Png, Tiff, WebP};
    for (name, format) in [
        ("b.webp", WebP),
        ("c.BMP", Bmp),
        ("d.tif", Tiff),
        ("e.gif", Gif),
        ("named.jpg", WebP),
        ("also.png", Bmp),
        ("no ending", Png),
        ("other.dat", Gif),
    ] {
        write(&folder.path().join("train/cat").join(name), &picture(format, 60));
    }
    let images = open(folder.path(), cache.path());
    assert_eq!((images.record().train_images, images.record().val_images, images.passed_over()), (10, 2, None));
    let batch = images.eval_batches(SplitName::Train, 10).unwrap().next().unwrap().unwrap();
    for (image, item) in batch.pixels.chunks_exact(32 * 32 * 3).zip(images.items(SplitName::Train)) {
        assert_eq!(image[..3], if item.label == 0 { [60, 0, 60] } else { [200, 0, 200] }, "{}", item.id);
    }
}

#[test]
fn images_at_any_depth_belong_to_the_class_folder_on_top() {
    let folder = folder();
    write(&folder.path().join("train/dog/more/and more/b.png"), &picture(ImageFormat::Png, 200));
    let images = open(folder.path(), folder.path());
    let ids: Vec<&str> = images.items(SplitName::Train).iter().map(|item| item.id.as_str()).collect();
    assert_eq!(ids, ["train/cat/a.png", "train/dog/a.png", "train/dog/more/and more/b.png"]);
    assert_eq!(images.items(SplitName::Train)[2].label, 1);
}

#[test]
fn what_is_no_image_is_passed_over_counted_and_said() {
    let folder = folder();
    for name in [".DS_Store", "._a.png", "Thumbs.db", "notes.txt", "photo.heic"] {
        write(&folder.path().join("train/cat").join(name), b"\0\x05\x16\x07 no image");
    }
    write(&folder.path().join("train/.hidden/b.png"), &picture(ImageFormat::Png, 1));
    write(&folder.path().join("train/stray.png"), &picture(ImageFormat::Png, 1));
    std::fs::create_dir_all(folder.path().join("val/bird")).unwrap();
    let ImageCounts { train, val, passed_over } = counts(folder.path());
    assert_eq!((train, val), (2, 2));
    let said = passed_over.unwrap();
    for part in [
        "4 hidden (e.g. train/.hidden)",
        "2 no images (e.g. train/cat/notes.txt)",
        "1 images in no class folder (e.g. train/stray.png)",
        "1 class folders without images (e.g. val/bird)",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    let images = open(folder.path(), folder.path());
    assert!(images.record().notes.iter().any(|note| note.contains("4 hidden")), "{:?}", images.record().notes);
    // An empty file that is named as an image is a damaged image.
    write(&folder.path().join("train/cat/b.jpg"), b"");
    let (config, source) = of(folder.path(), folder.path());
    assert!(matches!(refusal(&config, &source), Error::Image { .. }));
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_refused() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    for split in ["train", "val"] {
        write(&folder.path().join("store").join(split).join("a.png"), &picture(ImageFormat::Png, 9));
        symlink(format!("../store/{split}"), folder.path().join(split).join("owl")).unwrap();
    }
    symlink("../store/nowhere", folder.path().join("val/cat/gone.png")).unwrap();
    let pipe = folder.path().join("train/cat/pipe.jpg");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let images = open(folder.path(), folder.path());
    assert_eq!(images.record().classes, ["cat", "dog", "owl"]);
    let said = images.passed_over().unwrap();
    assert!(said.contains("1 links that lead nowhere (e.g. val/cat/gone.png)"), "{said}");
    assert!(said.contains("1 neither files nor folders (e.g. train/cat/pipe.jpg)"), "{said}");

    symlink("..", folder.path().join("train/dog/up")).unwrap();
    let (config, source) = of(folder.path(), folder.path());
    let message = refusal(&config, &source).to_string();
    assert!(message.contains("train/dog/up") && message.contains("loop"), "{message}");
}

/// macOS writes decomposed names where other systems write composed ones.
#[test]
fn two_ways_to_write_one_name_are_one_class() {
    let folder = folder();
    write(&folder.path().join("train/na\u{ef}ve/a.png"), &picture(ImageFormat::Png, 9));
    write(&folder.path().join("val/nai\u{308}ve/e\u{301}.png"), &picture(ImageFormat::Png, 9));
    let images = open(folder.path(), folder.path());
    assert_eq!(images.record().classes, ["cat", "dog", "na\u{ef}ve"]);
    assert_eq!(images.items(SplitName::Val)[2].id, "val/na\u{ef}ve/\u{e9}.png");
    images.eval_batches(SplitName::Val, 3).unwrap().next().unwrap().unwrap();
}

/// A JPEG with an EXIF block that says how it is to be turned.
fn turned(orientation: u8) -> Vec<u8> {
    let jpeg = picture(ImageFormat::Jpeg, 200);
    let tiff =
        [b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".as_slice(), &[orientation, 0, 0, 0, 0, 0, 0, 0]].concat();
    let block = [b"Exif\0\0".as_slice(), &tiff].concat();
    let marker = [&[0xff, 0xe1][..], &(block.len() as u16 + 2).to_be_bytes(), &block].concat();
    [&jpeg[..2], &marker, &jpeg[2..]].concat()
}

#[test]
fn photographs_stand_upright_and_their_fingerprint_says_so() {
    let cache = tempfile::tempdir().unwrap();
    let mut fingerprints = Vec::new();
    for orientation in [1, 3, 6] {
        let folder = folder();
        write(&folder.path().join("val/dog/a.png"), &turned(orientation));
        let images = open(folder.path(), cache.path());
        let batch = images.eval_batches(SplitName::Val, 2).unwrap().next().unwrap().unwrap();
        let dog = &batch.pixels[32 * 32 * 3..];
        let bright = |row: usize, column: usize| dog[(row * 32 + column) * 3] > 100;
        // The upper half is bright as stored; turned by 180 degrees the lower one, by 90 degrees the right one.
        let corners = [bright(3, 3), bright(3, 28), bright(28, 3), bright(28, 28)];
        let expected = match orientation {
            1 => [true, true, false, false],
            3 => [false, false, true, true],
            _ => [false, true, false, true],
        };
        assert_eq!(corners, expected, "orientation {orientation}");
        fingerprints.push(images.record().fingerprint.clone());
    }
    // Sha-256 of name, 0 and sha-256 of the file, image by image: what versions before wrote, where nothing is turned.
    use sha2::{Digest, Sha256};
    let [cat, dog] = [60, 200].map(|value| picture(ImageFormat::Png, value));
    let mut plain = Sha256::new();
    for (id, file) in [("train/cat", &cat), ("train/dog", &dog), ("val/cat", &cat), ("val/dog", &turned(1))] {
        plain.update(format!("{id}/a.png\0"));
        plain.update(Sha256::digest(file));
    }
    assert_eq!(fingerprints[0], hex::encode(plain.finalize()));
}

#[test]
fn an_error_about_one_image_counts_the_others() {
    let folder = folder();
    for name in ["b.jpg", "c.webp", "d.png"] {
        write(&folder.path().join("train/cat").join(name), b"no image");
    }
    let (config, source) = of(folder.path(), folder.path());
    let message = refusal(&config, &source).to_string();
    for part in ["train/cat/b.jpg", "2 more of 7 images", "`data verify`"] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    assert!(std::fs::read_dir(folder.path().join("decoded")).unwrap().next().is_none());
}

/// Another process may do anything to the file of decoded images while a run reads it: the run ends with an error, and no wrong pixel
/// is trained on.
#[test]
fn decoded_images_that_change_while_in_use_are_an_error() {
    let folder = folder();
    let images = open(folder.path(), folder.path());
    let cached = std::fs::read_dir(folder.path().join("decoded")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&cached).unwrap();
    let batches = || images.eval_batches(SplitName::Val, 4).unwrap().collect::<Result<Vec<_>, _>>();
    batches().unwrap();
    let mut flipped = whole.clone();
    flipped[40 * 40 * 3 * 3 + 700] ^= 4;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], b""] {
        std::fs::write(&cached, damaged).unwrap();
        let error = batches().unwrap_err();
        assert!(matches!(&error, Error::Cache { path, .. } if *path == cached), "{error}");
    }
    std::fs::write(&cached, &whole).unwrap();
    batches().unwrap();
    // One that is replaced or removed is kept by who has opened it.
    std::fs::remove_file(&cached).unwrap();
    batches().unwrap();
}
