//! Images of the user's own through the whole program: named after their folder, split, adapted, reported again.

use crate::{TWO_HEADS, complaint, experiment, faceoff, stderr, stdout, succeed, with_heads};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder with an experiment on Imagewoof of two heads, and images of the user's own in class folders alone: its experiment, its images.
fn own() -> (TempDir, PathBuf, PathBuf) {
    let (folder, path, _) = experiment("mine", |text| {
        with_heads(&text, TWO_HEADS)
            .replace("dataset = \"synthetic\"", "dataset = \"imagewoof2-160\"")
            .replace("epochs = 2", "epochs = 1")
            .replace("tsne_iterations = 1000", "tsne_iterations = 50")
            .replace("images_per_split = 64\n", "")
    });
    let images = folder.path().join("Meine F\u{f6}tos");
    for (class, name) in ["caf\u{e9} noir", "b, c", "z"].iter().enumerate() {
        let class_folder = images.join(name);
        std::fs::create_dir_all(&class_folder).unwrap();
        for index in 0..5u8 {
            let pixel =
                |x: u32, y: u32| image::Rgb([(x * (class as u32 + 1) * 9 % 255) as u8, (y * 5) as u8, index * 40]);
            image::RgbImage::from_fn(40, 40, pixel).save(class_folder.join(format!("{index}.png"))).unwrap();
        }
    }
    (folder, path, images)
}

fn command(folder: &TempDir, words: &[&str]) -> Command {
    let mut command = faceoff();
    command.arg(words[0]).arg("--out").arg(folder.path().join("out")).args(&words[1..]);
    command
}

fn benchmark(folder: &TempDir, experiment: &Path, images: &Path) -> Command {
    let mut command = command(folder, &["benchmark", "--device", "cpu", "--thumbnails", "none", "--cache"]);
    command.arg(folder.path().join("cache")).arg(experiment).arg("--data").arg(images);
    command
}

#[test]
fn a_report_on_ones_own_images_is_named_after_them_adapted_to_them_and_made_again() {
    let (folder, path, images) = own();
    std::fs::write(images.join("z/broken.jpg"), b"no image").unwrap();
    let dry = succeed(benchmark(&folder, &path, &images).args(["--dry-run", "--skip-unreadable"]));
    let said = stdout(&dry);
    for part in [
        "experiment  Meine-Fotos-mine: ",
        "Meine F\u{f6}tos: 12 to train and 3 to validate, 3 classes, the smallest of 4 training images",
        "batch       8 images",
        "decoded images",
    ] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    let message = complaint(&mut benchmark(&folder, &path, &images));
    assert!(message.contains("broken.jpg") && message.contains("--skip-unreadable"), "{message}");
    assert!(!folder.path().join("out").exists());

    let output = succeed(benchmark(&folder, &path, &images).arg("--skip-unreadable"));
    let message = stderr(&output);
    for part in [
        "warning: 1 images cannot be read and are left out, e.g. z/broken.jpg",
        "warning: 3 of 15 images are validation images: about 20 % of each class, chosen by seed 0",
        "warning: A batch has 8 images instead of 16: there are 12 training images.",
        "warning: The headline's KNN accuracy asks 4 neighbours instead of 5",
        "Meine-Fotos-mine: Meine F\u{f6}tos (12 + 3 images)",
    ] {
        assert!(message.contains(part), "{message} lacks {part}");
    }
    let report = folder.path().join("out/Meine-Fotos-mine");
    let read = |name: &str| std::fs::read_to_string(report.join(name)).unwrap();
    let page = read("index.html");
    for part in ["Meine F\u{f6}tos", "12 train, 3 validation", "caf\u{e9} noir", "A batch has 8 images instead of 16"] {
        assert!(page.contains(part), "the page lacks {part}");
    }
    assert!(!page.contains("foxhound") && !page.contains("imagewoof2-160") && !page.contains("byte-identical"));
    assert_eq!(read("split.csv").lines().count(), 16);
    assert!(read("split.csv").contains("\"b, c/0.png\",\"b, c\","));
    assert!(read("unreadable.csv").contains("z/broken.jpg"));
    assert!(read("runs/Classification-seed0/manifest.json").contains("A batch has 8 images instead of 16"));

    // The same images again: nothing is trained. The report knows its experiment.
    assert!(
        stderr(&succeed(benchmark(&folder, &path, &images).arg("--skip-unreadable"))).contains("0 of 2 runs to do")
    );
    std::fs::remove_file(report.join("index.html")).unwrap();
    succeed(&mut command(&folder, &["report", "--thumbnails", "none", "Meine-Fotos-mine"]));
    assert_eq!(read("index.html"), page);
    // With its images only where those that cannot be read may be left out.
    let mut with_images = command(&folder, &["report", "Meine-Fotos-mine", "--cache"]);
    with_images.arg(folder.path().join("cache")).arg("--data").arg(&images);
    succeed(&mut with_images);
    assert!(read("index.html").contains("No thumbnails: image "));
    succeed(with_images.arg("--skip-unreadable"));
    assert!(!read("index.html").contains("No thumbnails"));
    // Exported runs are likely meant for others.
    let (exported, noted) = (folder.path().join("exported"), report.join("Meine-Fotos-mine.toml"));
    succeed(faceoff().args(["runs", "export", "--out"]).arg(folder.path().join("out")).arg(&exported).arg(&noted));
    let mut of_exported = faceoff();
    of_exported.args(["report", "--skip-unreadable", "--cache"]).arg(folder.path().join("cache")).arg("--data");
    of_exported.arg(&images).arg("--out").arg(&exported).arg(&noted);
    let page_of = |command: &mut Command| {
        succeed(command);
        std::fs::read_to_string(exported.join("Meine-Fotos-mine/index.html")).unwrap()
    };
    assert!(page_of(&mut of_exported).contains("No thumbnails: these are exported runs"));
    assert!(!page_of(of_exported.args(["--thumbnails", "all"])).contains("No thumbnails"));
    // A name is given once.
    let name = ["benchmark", "--dry-run", "Meine-Fotos-mine", "--name", "Others", "--data"];
    let message = complaint(command(&folder, &name).arg(&images));
    assert!(
        message.contains("--name Others would have no effect") && message.contains("Meine F\u{f6}tos"),
        "{message}"
    );
    // What can be read again, or is gone, is listed no longer.
    std::fs::remove_file(images.join("z/broken.jpg")).unwrap();
    assert!(stderr(&succeed(&mut benchmark(&folder, &path, &images))).contains("0 of 2 runs to do"));
    assert!(!report.join("unreadable.csv").exists());
    // Other images of the same name are refused, and what tells of the first ones stays.
    let split = read("split.csv");
    std::fs::remove_file(images.join("z/0.png")).unwrap();
    let message = complaint(&mut benchmark(&folder, &path, &images));
    assert!(message.contains("fingerprint"), "{message}");
    assert_eq!(read("split.csv"), split);
    succeed(benchmark(&folder, &path, &images).args(["--name", "fewer"]));
    assert!(folder.path().join("out/fewer-mine/index.html").exists());
}

#[test]
fn a_table_of_images_needs_no_folder_and_options_of_ones_own_images_are_refused_elsewhere() {
    let (folder, path, images) = own();
    let rows = (0..15).map(|place| {
        let (name, side) = (["caf\u{e9} noir", "b, c", "z"][place % 3], if place < 9 { "train" } else { "val" });
        format!("\"{name}/{}.png\";Klasse {};{side}\n", place / 3, place % 3)
    });
    let table = images.join("bilder.csv");
    std::fs::write(&table, format!("\u{feff}path;label;split\n{}", rows.collect::<String>())).unwrap();
    let mut dry = command(&folder, &["benchmark", "--device", "cpu", "--dry-run", "--labels"]);
    let said = stdout(&succeed(dry.arg(&table).arg(&path)));
    assert!(said.contains("bilder: 9 to train and 6 to validate, 3 classes, the smallest of 3"), "{said}");
    assert!(said.contains("bilder-mine"), "{said}");

    for words in [["--name", "x"].as_slice(), &["--skip-unreadable"]] {
        let message = complaint(command(&folder, &["benchmark", "quick", "--dry-run"]).args(words));
        assert!(message.contains("would have no effect"), "{message}");
    }
    let message = complaint(command(&folder, &["benchmark", "smoke", "--labels"]).arg(&table));
    assert!(message.contains("--labels would have no effect"), "{message}");
    std::fs::create_dir_all(folder.path().join("out/smoke")).unwrap();
    let message = complaint(command(&folder, &["report", "smoke", "--labels"]).arg(&table));
    assert!(message.contains("--labels would have no effect"), "{message}");

    // Noise in the labels is refused before an image is looked at.
    let message = complaint(command(&folder, &["benchmark", "label-noise", "--dry-run", "--labels"]).arg(&table));
    assert!(
        message.contains("`data.label_noise_percent` is 25, but images of one's own have no noisy labels"),
        "{message}"
    );
}
