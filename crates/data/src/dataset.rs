//! A data set, open: what training and embedding see of it.

use crate::cache::{Store, problem_with};
use crate::folder::{self, File, Listing};
use crate::loader::{Job, Sample, View};
use crate::source::{self, ImageSource, Located};
use crate::{Error, Loader, Origin, Profile, ProgressFn, Result, profile};
use faceoff_runs::{DataConfig, DataRecord, SplitName};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;

/// An image of an evaluated split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Path relative to the data set's folder.
    pub id: String,
    /// Its class.
    pub label: u32,
    /// The class it was trained as; the same without label noise.
    pub label_trained: u32,
}

/// An open data set.
///
/// Without held-out classes, training and evaluation see the same classes. With them, training sees the other
/// classes alone and evaluation the held-out ones alone, each counted from 0.
pub struct Dataset {
    config: DataConfig,
    store: Arc<Store>,
    /// Training images with the labels to train on.
    training: Vec<Sample>,
    /// Classes that training tells apart.
    classes: usize,
    /// Evaluated images, and where each is stored.
    items: [Vec<Item>; 2],
    stored: [Vec<usize>; 2],
    record: DataRecord,
}

impl Dataset {
    /// Finds, fetches if need be, checks and opens the data set of `config`.
    pub fn open(config: &DataConfig, source: &ImageSource, progress: ProgressFn) -> Result<Self> {
        let _lock = source::lock(source, progress)?;
        let profile = profile(&config.dataset)?;
        let Located { folder, archive_md5 } = source::locate(config, profile, source, progress)?;
        let mut listing = folder::list(&folder, profile, config.label_noise_percent)?;
        let store = Arc::new(Store::open(&folder, &listing, &source.cache_dir, progress)?);
        let train_stored = listing.train.len();
        let mut places =
            [SplitName::Train, SplitName::Val].map(|split| (0..listing.split(split).len()).collect::<Vec<_>>());
        places[1].iter_mut().for_each(|place| *place += train_stored);
        if let Some(seed) = config.tuning_split_seed {
            hold_back(&mut listing, &mut places, seed);
        }
        if let Some(most) = config.images_per_split {
            let classes = listing.class_folders.len();
            (listing.train, places[0]) = evenly(&listing.train, &places[0], classes, most);
            (listing.val, places[1]) = evenly(&listing.val, &places[1], classes, most);
        }

        let held_out = held_out_classes(config, &listing)?;
        let trained: Vec<u32> =
            (0..listing.class_names.len() as u32).filter(|class| !held_out.contains(class)).collect();
        // Without held-out classes both sides see all of them.
        let evaluated = if held_out.is_empty() { &trained } else { &held_out };
        let position = |classes: &[u32], label: u32| classes.iter().position(|&class| class == label);
        let training = listing.train.iter().zip(&places[0]).filter_map(|(file, &stored)| {
            position(&trained, file.label)?;
            // A noisy label may name a held-out class; there is no such output, so the image is left out.
            let label = position(&trained, file.noisy_label)? as u32;
            Some(Sample { stored, id: file.id.clone(), label })
        });
        let training: Vec<Sample> = training.collect();
        let of_split = |split: SplitName, places: &[usize]| -> (Vec<Item>, Vec<usize>) {
            let files = listing.split(split).iter().zip(places);
            files
                .filter_map(|(file, &place)| {
                    let label = position(evaluated, file.label)? as u32;
                    let noisy = if split == SplitName::Train { file.noisy_label } else { file.label };
                    let label_trained = position(evaluated, noisy)? as u32;
                    Some((Item { id: file.id.clone(), label, label_trained }, place))
                })
                .unzip()
        };
        let (train_items, train_places) = of_split(SplitName::Train, &places[0]);
        let (val_items, val_places) = of_split(SplitName::Val, &places[1]);
        let record = DataRecord {
            name: profile.name.into(),
            title: profile.title.into(),
            synthetic: matches!(profile.origin, Origin::Made),
            notes: profile.notes.iter().map(ToString::to_string).collect(),
            fingerprint: store.fingerprint.clone(),
            archive_md5,
            classes: evaluated.iter().map(|&class| listing.class_names[class as usize].clone()).collect(),
            train_images: training.len(),
            val_images: val_items.len(),
        };
        Ok(Self {
            config: config.clone(),
            store,
            training,
            classes: trained.len(),
            items: [train_items, val_items],
            stored: [train_places, val_places],
            record,
        })
    }

    /// Images that training sees.
    pub fn train_len(&self) -> usize {
        self.training.len()
    }

    /// One epoch of training: augmented, shuffled, the last incomplete batch dropped.
    pub fn train_epoch(&self, seed: u64, epoch: usize, batch_size: usize) -> Result<Loader> {
        let mut samples = self.training.clone();
        let digest = Sha256::digest(format!("shuffle {seed} {epoch}"));
        samples.shuffle(&mut ChaCha8Rng::from_seed(digest.into()));
        samples.truncate(samples.len() / batch_size * batch_size);
        self.load(samples, batch_size, View::Train { seed, epoch })
    }

    /// A split without augmentation, in the order of [`Dataset::items`].
    pub fn eval_batches(&self, split: SplitName, batch_size: usize) -> Result<Loader> {
        let items = self.items(split).iter().zip(&self.stored[index(split)]);
        let samples = items.map(|(item, &stored)| Sample { stored, id: item.id.clone(), label: item.label });
        self.load(samples.collect(), batch_size, View::Eval)
    }

    fn load(&self, samples: Vec<Sample>, batch_size: usize, view: View) -> Result<Loader> {
        Loader::start(Job {
            store: self.store.clone(),
            samples,
            batch_size,
            view,
            size_px: self.config.image_size_px,
            augmentation: self.config.augmentation.clone(),
        })
    }

    /// The evaluated images of a split, sorted by path.
    pub fn items(&self, split: SplitName) -> &[Item] {
        &self.items[index(split)]
    }

    /// Classes that training tells apart.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Whether the evaluated classes were never seen in training.
    pub fn evaluates_unseen_classes(&self) -> bool {
        !self.config.held_out_classes.is_empty()
    }

    /// Changes whenever a name or a byte of an image changes; the same on every machine.
    pub fn fingerprint(&self) -> &str {
        &self.record.fingerprint
    }

    /// Side of the images in a batch.
    pub fn size_px(&self) -> usize {
        self.config.image_size_px
    }

    /// What a manifest says of the images.
    pub fn record(&self) -> &DataRecord {
        &self.record
    }
}

fn index(split: SplitName) -> usize {
    match split {
        SplitName::Train => 0,
        SplitName::Val => 1,
    }
}

/// Training and validation images of a data set in `folder`, after checking them against its list.
pub fn count_images(folder: &Path, profile: &Profile) -> Result<(usize, usize)> {
    let listing = folder::list(folder, profile, 0)?;
    Ok((listing.train.len(), listing.val.len()))
}

/// Decodes every image of the data set in `folder`, after checking its list; what is wrong with those that are broken, and
/// how many there are in all.
pub fn broken_images(folder: &Path, profile: &Profile, progress: ProgressFn) -> Result<(Vec<Error>, usize)> {
    let listing = folder::list(folder, profile, 0)?;
    let files: Vec<&File> = listing.train.iter().chain(&listing.val).collect();
    let mut broken = Vec::new();
    for (index, chunk) in files.chunks(256).enumerate() {
        let found: Vec<Option<Error>> = chunk.par_iter().map(|file| problem_with(&folder.join(&file.id))).collect();
        broken.extend(found.into_iter().flatten());
        progress("decode", (index * 256 + chunk.len()) as u64, files.len() as u64);
    }
    Ok((broken, files.len()))
}

/// The places of each class's files.
fn by_class(files: &[File], classes: usize) -> Vec<Vec<usize>> {
    let mut of_class = vec![Vec::new(); classes];
    files.iter().enumerate().for_each(|(index, file)| of_class[file.label as usize].push(index));
    of_class
}

/// Puts a tenth of the training images of each class, at least one, in the place of the validation images.
fn hold_back(listing: &mut Listing, places: &mut [Vec<usize>; 2], seed: u64) {
    let mut of_class = by_class(&listing.train, listing.class_folders.len());
    let mut held = vec![false; listing.train.len()];
    for class in &mut of_class {
        class.sort_by_cached_key(|&index| Sha256::digest(format!("tuning {seed} {}", listing.train[index].id)));
        let tenth = ((class.len() + 5) / 10).max(1);
        class[..tenth].iter().for_each(|&index| held[index] = true);
    }
    let chosen = |wanted: bool| -> (Vec<File>, Vec<usize>) {
        let files = listing.train.iter().zip(&places[0]).zip(&held);
        files.filter(|&(_, &held)| held == wanted).map(|((file, &place), _)| (file.clone(), place)).unzip()
    };
    let ((train, train_places), (val, val_places)) = (chosen(false), chosen(true));
    (listing.train, listing.val) = (train, val);
    *places = [train_places, val_places];
}

/// At most `most` files, one of each class in turn, in their order.
fn evenly(files: &[File], places: &[usize], classes: usize, most: usize) -> (Vec<File>, Vec<usize>) {
    let of_class = by_class(files, classes);
    let longest = of_class.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| of_class.iter().filter_map(move |class| class.get(turn)));
    let mut chosen: Vec<usize> = turns.copied().take(most).collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|index| (files[index].clone(), places[index])).unzip()
}

/// The labels of the held-out classes, in the order of the labels.
fn held_out_classes(config: &DataConfig, listing: &Listing) -> Result<Vec<u32>> {
    let refused = |value: &str, rule: String| Error::setting("held_out_classes", value, rule);
    let mut labels = Vec::new();
    for name in &config.held_out_classes {
        let names = listing.class_names.iter().zip(&listing.class_folders);
        let label = names.enumerate().find(|(_, (class, folder))| *class == name || *folder == name);
        let (label, _) = label.ok_or_else(|| {
            refused(name, format!("the data set has no such class; it has {}", listing.class_names.join(", ")))
        })?;
        labels.push(label as u32);
    }
    labels.sort_unstable();
    let trained = listing.class_names.len() - labels.len();
    if !labels.is_empty() && (trained < 2 || labels.len() < 2) {
        let rule = "training and evaluation need at least two classes each".to_string();
        return Err(refused(&config.held_out_classes.join(", "), rule));
    }
    Ok(labels)
}
