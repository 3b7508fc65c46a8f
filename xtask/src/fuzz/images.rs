//! Folders of images, from the names to batches.

use super::{Files, Outcome, Target, clear, mutate, write};
use anyhow::{Context, Result};
use faceoff::Program;
use faceoff_data::{Dataset, ImageSource};
use faceoff_runs::{DataConfig, Experiment, SplitName};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Images of every format that is read, of a few pixels, as files.
const FORMATS: &str = include_str!("../../../crates/data/tests/golden/formats.json");

struct Images {
    seeds: Vec<Vec<u8>>,
    config: DataConfig,
    folder: PathBuf,
}

pub(super) fn open(program: &Program, folder: &Path) -> Result<Box<dyn Target>> {
    let formats: Value = serde_json::from_str(FORMATS)?;
    let file = |format: &Value| hex::decode(format["file"].as_str().unwrap_or_default()).context("a file is no hex");
    let seeds = formats.as_array().context("formats.json is no list")?.iter().map(file).collect::<Result<_>>()?;
    let mut config = Experiment::load(&program.path("experiments"), "smoke")?.data;
    config.dataset = "folder".into();
    config.image_size_px = 16;
    config.images_per_split = None;
    Ok(Box::new(Images { seeds, config, folder: folder.join("work") }))
}

impl Target for Images {
    fn input(&self, random: &mut ChaCha8Rng) -> Files {
        let endings = ["jpg", "JPEG", "png", "webp", "gif", "bmp", "tif", "", "txt"];
        let mut files = Files::new();
        for index in 0..8 {
            let [split, class] = [["train", "val"][index % 2], ["a", "b"][index / 2 % 2]];
            let mut name = format!("{index}.{}", endings.choose(random).expect("there are some"));
            if random.random_bool(0.1) {
                name = mutate::text(&name, random);
            }
            // A name is at most 255 bytes without `/` and 0, whoever writes it.
            name.retain(|c| !"/\0".contains(c));
            let end = (0..=name.len().min(200)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
            name.truncate(end);
            if ["", ".", ".."].contains(&&name[..]) {
                name = "x".into();
            }
            let mut bytes = self.seeds.choose(random).expect("there are images").clone();
            if random.random_bool(0.3) {
                for _ in 0..random.random_range(1..=3) {
                    bytes = mutate::bytes(bytes, self.seeds.choose(random).expect("there are images"), random);
                }
            }
            files.insert(format!("images/{split}/{class}/{name}"), bytes);
        }
        files
    }

    fn read(&mut self, input: &Files) -> Outcome {
        clear(&self.folder);
        write(&self.folder, input).expect("the input can be written");
        let cache_dir = self.folder.join("cache");
        let source = ImageSource { data_dir: Some(self.folder.join("images")), ..ImageSource::cached(cache_dir) };
        let opened = Dataset::open(&self.config, &source, &|_, _, _| {});
        let left = std::fs::read_dir(&source.cache_dir).into_iter().flatten().flatten();
        if let Some(left) = left.map(|entry| entry.file_name()).find(|name| name.to_string_lossy().contains("partial"))
        {
            return Outcome::Silent(format!("{left:?} is left"));
        }
        let Ok(images) = opened else { return Outcome::Refused };
        let loaders = SplitName::ALL.map(|split| images.eval_batches(split, 3)).into_iter();
        let loaders = loaders.chain([images.train_epoch(0, 0, 2, None)]);
        for loader in loaders {
            match loader.and_then(|mut batches| batches.try_for_each(|batch| batch.map(drop))) {
                Ok(()) => {}
                Err(error) => return Outcome::Silent(format!("opened, and then: {error}")),
            }
        }
        Outcome::Accepted
    }
}
