//! A report of made-up runs, to look at: `cargo run --release -p faceoff-report --example gallery -- FOLDER [CLASSES [IMAGES]]`.

#[path = "../tests/it/made_up.rs"]
#[allow(dead_code)]
mod made_up;

use faceoff_evaluation::Registry;
use faceoff_runs::Experiment;
use made_up::MadeUp;
use std::path::{Path, PathBuf};

const BREEDS: [&str; 10] = [
    "Shih-Tzu",
    "Rhodesian ridgeback",
    "beagle",
    "English foxhound",
    "Border terrier",
    "Australian terrier",
    "golden retriever",
    "Old English sheepdog",
    "Samoyed",
    "dingo",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "target/gallery".into()));
    let classes: usize = arguments.next().map_or(Ok(10), |text| text.parse())?;
    let images: usize = arguments.next().map_or(Ok(3929), |text| text.parse())?;
    let name = arguments.next().unwrap_or_else(|| "quick".into());
    let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    let experiment = Experiment::load(&experiments, &name)?;
    let made_up = MadeUp {
        classes: (0..classes)
            .map(|class| {
                BREEDS.get(class).map_or(format!("a class with a very long name, {class}"), |name| name.to_string())
            })
            .collect(),
        images: [images, images],
        dim: 64,
    };
    if !folder.join("runs").exists() {
        made_up.write(&folder, &experiment);
    }
    let summary =
        faceoff_report::write_report(&folder, &experiment, &Registry::standard(), &|line| eprintln!("{line}"))?;
    println!("{}", summary.page.display());
    Ok(())
}
