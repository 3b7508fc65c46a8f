//! Thumbnails for a report: the images of its runs as the encoder sees them, smaller.

use anyhow::Result;
use clap::ValueEnum;
use faceoff_data::{Dataset, ImageSource, is_at_hand};
use faceoff_report::Thumbnails;
use faceoff_runs::{Compute, DataConfig, Experiment, RunSpec, SplitName};

/// Whether the page of a report holds its images.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThumbnailsChoice {
    /// Where the images are at hand: named, or in the cache; nothing is fetched for them.
    Auto,
    /// No image, so that the page takes some 170 KB a head: for folders that are committed or passed on.
    None,
}

/// The images of an experiment, one configuration for each `[data]` that its conditions make.
pub(crate) struct Images {
    configs: Vec<DataConfig>,
    source: ImageSource,
    fingerprints: Vec<String>,
}

/// Images are made in batches of this size.
const BATCH: usize = 256;

impl Images {
    /// The images of `experiment`; or in words why there are none, nothing where nobody wants them.
    pub(crate) fn find(
        choice: ThumbnailsChoice,
        experiment: &Experiment,
        source: ImageSource,
    ) -> Result<std::result::Result<Self, Option<String>>> {
        if choice == ThumbnailsChoice::None {
            return Ok(Err(None));
        }
        let mut configs: Vec<DataConfig> = Vec::new();
        for spec in RunSpec::of(experiment, &Compute::unknown()) {
            if !configs.contains(&spec.data) {
                configs.push(spec.data);
            }
        }
        if !configs.iter().all(|config| is_at_hand(config, &source)) {
            let why = "No thumbnails: the images are not at hand. Name them with --archive, --data or --cache.";
            return Ok(Err(Some(why.into())));
        }
        let mut images = Self { configs, source, fingerprints: Vec::new() };
        images.fingerprints = images.sets(None)?.iter().map(|set| set.record().fingerprint.clone()).collect();
        Ok(Ok(images))
    }

    /// Every set of images, its views `side` pixels wide where that is said.
    fn sets(&self, side: Option<usize>) -> faceoff_data::Result<Vec<Dataset>> {
        let open = |config: &DataConfig| {
            let image_size_px = side.unwrap_or(config.image_size_px);
            Dataset::open(&DataConfig { image_size_px, ..config.clone() }, &self.source, &|_, _, _| {})
        };
        self.configs.iter().map(open).collect()
    }
}

impl Thumbnails for Images {
    fn fingerprints(&self) -> Vec<String> {
        self.fingerprints.clone()
    }

    fn each(&self, side: usize, take: &mut dyn FnMut(&str, &[u8])) -> std::result::Result<(), String> {
        let mut each = || -> faceoff_data::Result<()> {
            for set in self.sets(Some(side))? {
                for split in SplitName::ALL {
                    let mut items = set.items(split).iter();
                    for batch in set.eval_batches(split, BATCH)? {
                        let pixels = batch?.pixels;
                        let views = pixels.chunks_exact(3 * side * side);
                        views.zip(&mut items).for_each(|(view, item)| take(&item.id, view));
                    }
                }
            }
            Ok(())
        };
        each().map_err(|error| error.to_string())
    }
}
