//! Thumbnails for a report: the images of its runs as the encoder sees them, smaller.

use anyhow::Result;
use clap::ValueEnum;
use faceoff_data::{Dataset, ImageSource, is_at_hand};
use faceoff_report::Thumbnails;
use faceoff_runs::{Compute, DataConfig, Experiment, RunFolder, RunSpec, SplitName, list_runs};
use std::path::Path;

/// Whether the page of a report holds its images.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ThumbnailsChoice {
    /// Where the images are at hand: named, or in the cache; nothing is fetched for them. None for exported runs.
    Auto,
    /// The same, for exported runs too, whose folder is likely meant for others.
    All,
    /// No image, so that the page takes some 170 KB a head: for folders that are committed or passed on.
    None,
}

/// The images of an experiment, one set for each choice of them that its conditions make.
pub(crate) struct Images(Vec<Dataset>);

/// Images are made in batches of this size.
const BATCH: usize = 256;

impl Images {
    /// The images of `experiment`, whose runs lie below `folder`; or in words why there are none, nothing where nobody wants them.
    pub(crate) fn find(
        choice: ThumbnailsChoice,
        folder: &Path,
        experiment: &Experiment,
        source: ImageSource,
    ) -> Result<std::result::Result<Self, Option<String>>> {
        // Rows of numbers show nothing.
        if choice == ThumbnailsChoice::None || experiment.data.is_embeddings() {
            return Ok(Err(None));
        }
        let exported = |run: &RunFolder| run.manifest().is_ok_and(|manifest| run.is_exported(&manifest));
        if choice == ThumbnailsChoice::Auto && list_runs(folder)?.iter().any(exported) {
            let why = "No thumbnails: these are exported runs, whose folder is likely meant for others. --thumbnails all shows them.";
            return Ok(Err(Some(why.into())));
        }
        let mut configs: Vec<DataConfig> = Vec::new();
        for spec in RunSpec::of(experiment, &Compute::unknown()) {
            // Noise is in the labels, not in the images.
            let config = DataConfig { label_noise_percent: 0, ..spec.data };
            if !configs.contains(&config) {
                configs.push(config);
            }
        }
        if !configs.iter().all(|config| is_at_hand(config, &source)) {
            let why =
                "No thumbnails: the images are not at hand. Name them with --archive, --data, --labels or --cache.";
            return Ok(Err(Some(why.into())));
        }
        let open = |config| Dataset::open(config, &source, &|_, _, _| {});
        Ok(Ok(Self(configs.iter().map(open).collect::<faceoff_data::Result<_>>()?)))
    }
}

impl Thumbnails for Images {
    fn fingerprints(&self) -> Vec<String> {
        self.0.iter().map(|set| set.record().fingerprint.clone()).collect()
    }

    fn each(&self, side: usize, take: &mut dyn FnMut(&str, &[u8])) -> std::result::Result<(), String> {
        let mut each = || -> faceoff_data::Result<()> {
            for set in &self.0 {
                for split in SplitName::ALL {
                    let mut items = set.items(split).iter();
                    for batch in set.eval_batches_of(split, BATCH, side)? {
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
