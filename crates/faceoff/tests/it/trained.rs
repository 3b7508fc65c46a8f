//! What a trained run is good for: any images embedded and searched, the encoder exported, a model card; and what is refused.

use crate::{TWO_HEADS, benchmark, complaint, experiment, faceoff, stderr, stdout, succeed, two_heads, with_heads};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A word from right to left, and one that changes the direction of writing.
const RIGHT_TO_LEFT: &str = "\u{5db}\u{5dc}\u{5d1}\u{202e}gpj.png";
const SCRIPT: &str = "<script>alert(1)<&.png";
const ACCENT: &str = "caf\u{e9} na\u{ef}f.png";

/// Images of stripes in a folder, of which no two are alike, beside files that are none.
fn images(folder: &Path) -> PathBuf {
    let images = folder.join("any");
    fs::create_dir_all(images.join("deep/er")).unwrap();
    for (place, name) in
        [ACCENT, SCRIPT, RIGHT_TO_LEFT, "deep/a.png", "deep/er/b.png", "deep/er/c.png"].iter().enumerate()
    {
        let pixel = |x: u32, y: u32| {
            let wave = ((x * (place as u32 + 1) + y * 3) as f32 * 0.3).sin();
            image::Rgb([(128.0 + 120.0 * wave) as u8, (y * 4) as u8, place as u8 * 40])
        };
        image::RgbImage::from_fn(50 + place as u32 * 7, 44, pixel).save(images.join(name)).unwrap();
    }
    fs::write(images.join(".hidden.png"), "no image").unwrap();
    fs::write(images.join("Thumbs.db"), "no image").unwrap();
    fs::write(images.join("notes.txt"), "no image").unwrap();
    images
}

fn command(words: &[&str], paths: &[&Path]) -> Command {
    let mut command = faceoff();
    command.args(words).args(paths);
    command
}

fn embed(run: &Path, images: &Path, out: &Path) -> Command {
    let mut command = command(&["embed", "--device", "cpu"], &[run, images]);
    command.arg("--out").arg(out);
    command
}

#[test]
fn any_images_are_embedded_and_searched_and_what_is_wrong_is_refused() {
    let (folder, file, out) = two_heads("use");
    succeed(benchmark(&file, &out).args(["--epochs", "1"]));
    let runs = out.join("use/runs");
    let (run, other) = (runs.join("Classification-seed0"), runs.join("AdaCos-seed0"));
    let images = images(folder.path());
    let at = |name: &str| folder.path().join(name);

    let output = succeed(&mut embed(&run, &images, &at("x.parquet")));
    assert!(stderr(&output).contains("passed over: 2 hidden (e.g. ") && stderr(&output).contains("1 no images (e.g. "));
    assert!(
        stdout(&output).contains("6 images in ") && stdout(&output).contains("512 numbers each"),
        "{}",
        stdout(&output)
    );
    // The number of threads changes no byte, nor do other images in a batch.
    succeed(embed(&run, &images, &at("y.parquet")).args(["--threads", "1"]));
    assert!(fs::read(at("x.parquet")).unwrap() == fs::read(at("y.parquet")).unwrap());
    succeed(&mut embed(&run, &images, &at("x.npy")));
    succeed(&mut embed(&run, &images.join("deep"), &at("deep.npy")));
    let numbers = |name: &str| fs::read(at(name)).unwrap()[128..].to_vec();
    let paths = fs::read_to_string(at("x.paths.csv")).unwrap();
    let place = paths.lines().position(|line| line.contains("a.png")).unwrap() - 1;
    assert!(numbers("x.npy")[place * 2048..][..3 * 2048] == numbers("deep.npy"));
    // A list names the same, in its own order; what is named again counts once.
    let listed = |name: &str| images.join(name).display().to_string();
    fs::write(at("list"), format!("{}\r\n\n{}\n{}", listed("deep/a.png"), listed("deep"), listed(ACCENT))).unwrap();
    let mut of_list = command(&["embed", "--device", "cpu"], &[&run]);
    let output = succeed(of_list.arg("--list").arg(at("list")).arg("--out").arg(at("list.npy")));
    assert!(stderr(&output).contains("1 image named twice") && stdout(&output).contains("4 images in"));

    // Nothing is written over, and what cannot be read ends it, or is listed.
    let message = complaint(&mut embed(&run, &images, &at("x.npy")));
    assert!(message.contains("x.npy is there already") && message.contains("--force"), "{message}");
    fs::write(images.join("broken.jpg"), [0xff, 0xd8, 0xff, 0xe0, 0, 16]).unwrap();
    let message = complaint(&mut embed(&run, &images, &at("z.parquet")));
    assert!(message.contains("broken.jpg (") && message.contains("--skip-unreadable"), "{message}");
    assert!(!at("z.parquet").exists());
    succeed(embed(&run, &images, &at("z.parquet")).arg("--skip-unreadable"));
    assert!(fs::read_to_string(at("z.unreadable.csv")).unwrap().contains("broken.jpg,"));
    assert!(fs::read(at("x.parquet")).unwrap() == fs::read(at("z.parquet")).unwrap());

    let page = at("page.html");
    let search =
        |run: &Path, index: &str, image: &Path| command(&["search", "--device", "cpu"], &[run, &at(index), image]);
    for index in ["x.parquet", "x.npy"] {
        let mut search = search(&run, index, &images.join(SCRIPT));
        let said = stdout(&succeed(search.args(["-k", "4", "--force", "--html"]).arg(&page)));
        let first = said.lines().find(|line| line.trim_start().starts_with("1 ")).expect(&said);
        assert!(first.contains(" 1.0000 ") && first.ends_with("the image itself"), "{said}");
        assert!(
            said.contains("among 6 images") && said.contains("No threshold") && said.contains("saw every class"),
            "{said}"
        );
        assert!(!said.contains('\u{202e}'), "{said}");
    }
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("&#60;script&#62;alert(1)") && !text.contains("<script") && text.contains("<bdi>"), "{text}");
    assert_eq!(text.matches("src=\"data:image/jpeg;base64,").count(), 5);
    assert_eq!(text.matches(" alt=\"").count(), 5);
    let mut far = search(&run, "x.parquet", &images.join(ACCENT));
    let said = stdout(&succeed(far.args(["--threshold", "1"])));
    assert!(said.contains("below the threshold"), "{said}");

    let message = complaint(&mut search(&other, "x.parquet", &images.join(ACCENT)));
    assert!(
        message.contains("was made by another run: Classification-seed0") && message.contains("not AdaCos-seed0"),
        "{message}"
    );
    let message = complaint(&mut search(&run, "x.parquet", &images.join("notes.txt")));
    assert!(message.contains("its content is none of JPEG"), "{message}");
    let mut bytes = fs::read(at("x.parquet")).unwrap();
    bytes[100] ^= 1;
    fs::write(at("x.parquet"), bytes).unwrap();
    let message = complaint(&mut search(&run, "x.parquet", &images.join(ACCENT)));
    assert!(message.contains("x.parquet: it is damaged or was changed: expected content"), "{message}");
    fs::create_dir(at("empty")).unwrap();
    let message = complaint(&mut embed(&run, &at("empty"), &at("e.npy")));
    assert!(message.contains("there is no image in what was named"), "{message}");

    export(&run, &at("out"));
    refuse_runs(&runs, &images, &at("r.npy"));
}

/// The encoder and its card, once.
fn export(run: &Path, out: &Path) {
    let export = |words: &[&str]| {
        let mut command = command(&["export"], &[run]);
        command.arg("--onnx").arg(out.join("encoder.onnx")).args(words);
        command
    };
    succeed(&mut export(&[]));
    let onnx = fs::read(out.join("encoder.onnx")).unwrap();
    assert!((44_000_000..46_000_000).contains(&onnx.len()));
    for part in ["faceoff.weights_blake3", "stripes-0", "scores", "embedding"] {
        assert!(onnx.windows(part.len()).any(|window| window == part.as_bytes()), "{part}");
    }
    let card = fs::read_to_string(out.join("MODEL_CARD.md")).unwrap();
    for part in [
        "---\nlibrary_name: onnx\n",
        "\n---\n\n# Classification-seed0\n",
        "| KNN accuracy, k = 5 |",
        "made up by the program",
        "InferenceSession(\"encoder.onnx\")",
        "this experiment held no classes",
        "stripes-0, ",
    ] {
        assert!(card.contains(part), "{card}\nlacks {part}");
    }
    assert!(!card.contains("{{") && !card.contains("\n\n|---"), "{card}");
    let message = complaint(&mut export(&[]));
    assert!(message.contains("encoder.onnx is there already"), "{message}");
    succeed(&mut export(&["--force"]));
    assert!(onnx == fs::read(out.join("encoder.onnx")).unwrap());
    succeed(command(&["export"], &[run]).arg("--card").arg(out.join("card.md")));
    assert!(fs::read_to_string(out.join("card.md")).unwrap().contains("# Classification-seed0"));
}

/// Runs that are not there, not whole, or damaged.
fn refuse_runs(runs: &Path, images: &Path, out: &Path) {
    let refused = |run: &Path| complaint(&mut embed(run, images, out));
    let message = refused(&runs.join("ArcFace-seed0"));
    assert!(message.contains("there is no run ") && message.contains("pass its folder"), "{message}");
    let message = refused(Path::new("no-experiment/ArcFace-seed0"));
    assert!(message.contains("holds none; train some with: faceoff benchmark no-experiment"), "{message}");
    let message = refused(runs.parent().unwrap());
    assert!(
        message.contains("is a report folder; name one of its runs") && message.contains("AdaCos-seed0"),
        "{message}"
    );
    let run = runs.join("AdaCos-seed0");
    let manifest = fs::read(run.join("manifest.json")).unwrap();
    fs::remove_file(run.join("manifest.json")).unwrap();
    let message = refused(&run);
    assert!(message.contains("is not trained to its end"), "{message}");
    fs::write(run.join("manifest.json"), manifest).unwrap();
    let mut weights = fs::read(run.join("encoder.safetensors")).unwrap();
    let middle = weights.len() / 2;
    weights[middle] ^= 1;
    fs::write(run.join("encoder.safetensors"), weights).unwrap();
    let message = refused(&run);
    assert!(message.contains("encoder.safetensors is damaged or was changed"), "{message}");
    assert!(!out.exists());
}

#[test]
fn a_run_with_held_out_classes_recommends_a_threshold() {
    let (folder, file, out) = experiment("unseen", |text| {
        with_heads(&text, TWO_HEADS).replace("epochs = 2", "epochs = 1\nblur_pool = true").replace(
            "dataset = \"synthetic\"",
            "dataset = \"synthetic\"\nheld_out_classes = [\"stripes-0\", \"stripes-1\", \"stripes-2\"]",
        )
    });
    succeed(&mut benchmark(&file, &out));
    let run = out.join("unseen/runs/Classification-seed0");
    let images = images(folder.path());
    let index = folder.path().join("x.parquet");
    succeed(&mut embed(&run, &images, &index));
    let said = stdout(&succeed(&mut command(&["search", "--device", "cpu"], &[&run, &index, &images.join(ACCENT)])));
    assert!(said.contains("Classification-seed0 recommends for images of classes that training never saw"), "{said}");
    assert!(said.contains("at or above the threshold"), "{said}");
    succeed(command(&["export"], &[&run]).arg("--onnx").arg(folder.path().join("e.onnx")));
    let card = fs::read_to_string(folder.path().join("MODEL_CARD.md")).unwrap();
    assert!(card.contains("on, as a recommendation") && card.contains("whose classes training never saw"), "{card}");
    assert!(!card.contains("The output `scores`"), "{card}");
    // What else is particular about it is said too.
    assert!(card.contains("resnet18, maps smoothed before they are halved (BlurPool)"), "{card}");
    let page = fs::read_to_string(out.join("unseen/index.html")).unwrap();
    assert!(page.contains("Maps are smoothed before they are halved (BlurPool)."));
}
