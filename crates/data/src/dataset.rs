//! A data set, open: what training and embedding see of it.

use crate::cache::{Store, read};
use crate::folder::{self, File, Listing};
use crate::loader::{Contents, Job, View};
use crate::own::{self, Opened, csv_of};
use crate::rows;
use crate::source::{self, ImageSource};
use crate::{Error, Loader, Origin, Profile, ProgressFn, Result, profile};
use faceoff_runs::{DataConfig, DataRecord, OwnData, Sampler, Sizes, SplitName};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use unicode_normalization::UnicodeNormalization;

/// An image that is trained on or evaluated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Path relative to the data set's folder.
    pub id: String,
    /// Its class.
    pub label: u32,
    /// The class it was trained as; the same without label noise.
    pub label_trained: u32,
    /// Its place in the store.
    pub(crate) stored: usize,
}

/// An open data set.
///
/// Without held-out classes, training and evaluation see the same classes. With them, training sees the other
/// classes alone and evaluation the held-out ones alone, each counted from 0.
pub struct Dataset {
    config: DataConfig,
    contents: Arc<Contents>,
    arranged: Arranged,
    record: DataRecord,
    passed_over: Option<String>,
    remarks: Vec<String>,
    split: Option<String>,
    unreadable: Vec<(String, String)>,
}

/// The images of a listing as a configuration asks for them.
pub(crate) struct Arranged {
    /// Training images with the labels to train on.
    training: Vec<Item>,
    /// Classes that training tells apart.
    classes: usize,
    /// Names of the evaluated classes by label.
    evaluated: Vec<String>,
    /// Evaluated images, and those of the classes trained on where others are evaluated, in the order of [`SplitName`].
    items: [Vec<Item>; 4],
}

impl Arranged {
    pub(crate) fn of(config: &DataConfig, mut listing: Listing) -> Result<Self> {
        if let Some(seed) = config.tuning_split_seed {
            hold_back(&mut listing, seed);
        }
        if let Some(most) = config.images_per_split {
            listing.images = listing.images.map(|files| evenly(&files, listing.class_folders.len(), most));
        }
        let held_out = held_out_classes(config, &listing)?;
        let trained: Vec<u32> =
            (0..listing.class_names.len() as u32).filter(|class| !held_out.contains(class)).collect();
        // Without held-out classes both sides see all of them.
        let evaluated = if held_out.is_empty() { &trained } else { &held_out };
        let position = |classes: &[u32], label| classes.binary_search(&label).ok().map(|at| at as u32);
        let training = listing.images[0].iter().filter_map(|file| {
            position(&trained, file.label)?;
            // A noisy label may name a held-out class; there is no such output, so the image is left out.
            let label = position(&trained, file.noisy_label)?;
            Some(Item { id: file.id.clone(), label, label_trained: label, stored: file.stored })
        });
        let training: Vec<Item> = training.collect();
        let items = |files: &[File], classes: &[u32]| {
            let items = files.iter().filter_map(|File { id, label, noisy_label, stored, .. }| {
                let (label, label_trained) = (position(classes, *label)?, position(classes, *noisy_label)?);
                Some(Item { id: id.clone(), label, label_trained, stored: *stored })
            });
            items.collect::<Vec<_>>()
        };
        let [train, val] = &listing.images;
        let seen: &[u32] = if held_out.is_empty() { &[] } else { &trained };
        let items = [items(train, evaluated), items(val, evaluated), items(train, seen), items(val, seen)];
        let names = evaluated.iter().map(|&class| listing.class_names[class as usize].clone()).collect();
        Ok(Self { classes: trained.len(), evaluated: names, training, items })
    }

    pub(crate) fn sizes(&self) -> Sizes {
        let Self { training, classes, evaluated, items: [compared, val, ..] } = self;
        let counts = |labels: &mut dyn Iterator<Item = u32>, classes: usize| {
            let mut counts = vec![0; classes];
            labels.for_each(|label| counts[label as usize] += 1);
            (counts.iter().copied().min().unwrap_or(0), counts.into_iter().max().unwrap_or(0))
        };
        let (smallest_class, _) = counts(&mut training.iter().map(|item| item.label_trained), *classes);
        let (smallest_compared, largest_compared) =
            counts(&mut compared.iter().map(|item| item.label), evaluated.len());
        Sizes {
            train_images: training.len(),
            classes: *classes,
            smallest_class,
            compared: compared.len(),
            smallest_compared,
            largest_compared,
            val_images: val.len(),
        }
    }
}

/// What is known of any data set before it is opened.
fn record(profile: &Profile) -> DataRecord {
    DataRecord {
        name: profile.name.into(),
        title: profile.title.into(),
        synthetic: matches!(profile.origin, Origin::Made),
        notes: profile.notes.iter().map(ToString::to_string).collect(),
        fingerprint: String::new(),
        archive_md5: None,
        options: Vec::new(),
        classes: Vec::new(),
        train_images: 0,
        val_images: 0,
    }
}

impl Dataset {
    /// Finds, fetches if need be, checks and opens the data set of `config`.
    pub fn open(config: &DataConfig, source: &ImageSource, progress: ProgressFn) -> Result<Self> {
        let profile = profile(&config.dataset)?;
        let named = |own: &OwnData, remarks: &[String], fingerprint| DataRecord {
            name: own.name.clone(),
            title: own.name.clone(),
            notes: remarks.to_vec(),
            fingerprint,
            options: source.options(),
            ..record(profile)
        };
        if let Some(own) = config.own.as_ref().filter(|_| config.is_embeddings()) {
            let rows::Opened { listing, rows, fingerprint, remarks, note, split } =
                rows::open(config, source, progress)?;
            let mut record = named(own, &remarks, fingerprint);
            record.notes.push(note);
            let opened = Self::of(config, listing, Contents::Rows(rows), record)?;
            return Ok(Self { remarks, split, ..opened });
        }
        let _lock = source::lock(source, progress)?;
        if let Some(own) = &config.own {
            let Opened { listing, store, fingerprint, remarks, split, unreadable } =
                own::open(config, source, progress)?;
            let record = named(own, &remarks, fingerprint);
            let opened = Self::of(config, listing, Contents::Images(store), record)?;
            return Ok(Self { remarks, split, unreadable, ..opened });
        }
        let (folder, archive_md5) = source::locate(config, profile, source, progress)?;
        let listing = folder::list(&folder, profile, config.label_noise_percent)?;
        let store = Store::open(&folder, &listing, &source.cache_dir, progress)
            .map_err(|error| if source.data_dir.is_none() { error.in_cache(&folder) } else { error })?;
        let record = DataRecord { fingerprint: store.fingerprint.clone(), archive_md5, ..record(profile) };
        Self::of(config, listing, Contents::Images(store), record)
    }

    /// The data set of a listing; of `record` its numbers are filled in.
    fn of(config: &DataConfig, listing: Listing, contents: Contents, mut record: DataRecord) -> Result<Self> {
        let passed_over = listing.passed_over.sentence();
        let arranged = Arranged::of(config, listing)?;
        let Sizes { train_images, val_images, .. } = arranged.sizes();
        record.notes.extend(passed_over.as_ref().map(note));
        (record.classes, record.train_images, record.val_images) =
            (arranged.evaluated.clone(), train_images, val_images);
        let (remarks, split, unreadable) = Default::default();
        Ok(Self {
            config: config.clone(),
            contents: Arc::new(contents),
            arranged,
            record,
            passed_over,
            remarks,
            split,
            unreadable,
        })
    }

    /// One epoch of training on images of the data set's own size, see [`Dataset::train_epoch_of`].
    ///
    /// # Errors
    /// Those of [`Dataset::train_epoch_of`].
    pub fn train_epoch(&self, seed: u64, epoch: usize, batch_size: usize, sampler: Option<Sampler>) -> Result<Loader> {
        self.train_epoch_of(seed, epoch, batch_size, sampler, |_| self.size_px())
    }

    /// One epoch of training, of images with the side `side_px` of the batch, which counts from 0: augmented, shuffled, the last
    /// incomplete batch dropped. With a sampler there are as many batches, each of some classes with as many images each, see [`Sampler`].
    ///
    /// A batch takes the classes of which most images are left, so that in an epoch nearly every image comes once. A class with
    /// too few left begins again, shuffled anew; no image stands twice in a batch.
    ///
    /// # Errors
    /// [`Error::Setting`] where the data set has fewer classes than the sampler, or a class has fewer images.
    pub fn train_epoch_of(
        &self,
        seed: u64,
        epoch: usize,
        batch_size: usize,
        sampler: Option<Sampler>,
        side_px: impl Fn(usize) -> usize,
    ) -> Result<Loader> {
        let mut items = self.arranged.training.clone();
        let mut random = ChaCha8Rng::from_seed(Sha256::digest(format!("shuffle {seed} {epoch}")).into());
        items.shuffle(&mut random);
        let batches = items.len() / batch_size;
        match sampler {
            None => items.truncate(batches * batch_size),
            Some(sampler) => items = self.by_class(items, batches, sampler, &mut random)?,
        }
        self.load(items, batch_size, side_px, View::Train { seed, epoch })
    }

    /// `batches` batches of the training images as `sampler` says.
    fn by_class(
        &self,
        items: Vec<Item>,
        batches: usize,
        sampler: Sampler,
        random: &mut ChaCha8Rng,
    ) -> Result<Vec<Item>> {
        let Sampler { classes, images } = sampler;
        let trained = self.arranged.classes;
        let mut of_class = vec![Vec::new(); trained];
        items.into_iter().for_each(|item| of_class[item.label_trained as usize].push(item));
        let fewest = of_class.iter().map(Vec::len).min().unwrap_or(0);
        if trained < classes || fewest < images {
            let rule = format!(
                "the data set trains {trained} classes, the smallest of {fewest} images; choose at most so many of both"
            );
            return Err(Error::setting("sampler", sampler, rule));
        }
        let mut left = of_class.clone();
        let mut chosen = Vec::with_capacity(batches * classes * images);
        for _ in 0..batches {
            // Shuffled first, so that chance decides between classes of which equally many are left.
            let mut order: Vec<usize> = (0..trained).collect();
            order.shuffle(random);
            order.sort_by_key(|&class| Reverse(left[class].len()));
            for &class in &order[..classes] {
                if left[class].len() < images {
                    left[class].clone_from(&of_class[class]);
                    left[class].shuffle(random);
                }
                let rest = left[class].len() - images;
                chosen.extend(left[class].drain(rest..));
            }
        }
        Ok(chosen)
    }

    /// A split without augmentation, in the order of [`Dataset::items`].
    pub fn eval_batches(&self, split: SplitName, batch_size: usize) -> Result<Loader> {
        self.eval_batches_of(split, batch_size, self.size_px())
    }

    /// The same of images with another side.
    pub fn eval_batches_of(&self, split: SplitName, batch_size: usize, size_px: usize) -> Result<Loader> {
        self.load(self.items(split).to_vec(), batch_size, |_| size_px, View::Eval)
    }

    fn load(
        &self,
        items: Vec<Item>,
        batch_size: usize,
        side_px: impl Fn(usize) -> usize,
        view: View,
    ) -> Result<Loader> {
        Loader::start(Job {
            contents: self.contents.clone(),
            sides_px: (0..items.len().div_ceil(batch_size)).map(side_px).collect(),
            items,
            batch_size,
            view,
            augmentation: self.config.augmentation.clone(),
        })
    }

    /// The images of a split, sorted by path; none of the classes trained on where these are the evaluated ones.
    pub fn items(&self, split: SplitName) -> &[Item] {
        &self.arranged.items[split as usize]
    }

    /// Classes that training tells apart.
    pub fn classes(&self) -> usize {
        self.arranged.classes
    }

    /// Whether the evaluated classes were never seen in training.
    pub fn evaluates_unseen_classes(&self) -> bool {
        !self.config.held_out_classes.is_empty()
    }

    /// Side of the images in a batch.
    pub fn size_px(&self) -> usize {
        self.config.image_size_px
    }

    /// What a manifest says of the images.
    pub fn record(&self) -> &DataRecord {
        &self.record
    }

    /// Notes what else a reader of results has to know, in the record that every run's manifest holds.
    pub fn note(&mut self, notes: &[String]) {
        self.record.notes.extend_from_slice(notes);
    }

    /// How many images there are, as far as an experiment depends on it.
    pub fn sizes(&self) -> Sizes {
        self.arranged.sizes()
    }

    /// Of images of the user's own, what a reader of results has to know, a sentence each.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Where chance decided which images are validation images: the table of all images, which can be given back as labels.
    pub fn split_table(&self) -> Option<&str> {
        self.split.as_deref()
    }

    /// The images that could not be read and were left out, with the reasons.
    pub fn unreadable(&self) -> &[(String, String)] {
        &self.unreadable
    }

    /// The same as a table.
    pub fn unreadable_table(&self) -> Option<String> {
        let rows = self.unreadable.iter().map(|(id, why)| [id.as_str(), why]);
        (!self.unreadable.is_empty()).then(|| csv_of([["path", "problem"]].into_iter().chain(rows)))
    }

    /// What lies in the folder and was not taken for an image, in words.
    pub fn passed_over(&self) -> Option<&str> {
        self.passed_over.as_deref()
    }
}

/// What is said of a data set in its record.
fn note(passed_over: &String) -> String {
    format!("In the folder of the images were {passed_over}.")
}

/// What a data set's folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageCounts {
    /// Training images.
    pub train: usize,
    /// Validation images.
    pub val: usize,
    /// What was not taken for an image, in words.
    pub passed_over: Option<String>,
}

/// Counts the images of a data set in `folder`, after checking them against its list.
pub fn count_images(folder: &Path, profile: &Profile) -> Result<ImageCounts> {
    let folder::Listing { images: [train, val], passed_over, .. } = folder::list(folder, profile, 0)?;
    Ok(ImageCounts { train: train.len(), val: val.len(), passed_over: passed_over.sentence() })
}

/// Decodes every image of the data set in `folder`, after checking its list; what is wrong with those that are broken, and
/// how many there are in all.
pub fn broken_images(folder: &Path, profile: &Profile, progress: ProgressFn) -> Result<(Vec<Error>, usize)> {
    let listing = folder::list(folder, profile, 0)?;
    let paths: Vec<PathBuf> = listing.images.iter().flatten().map(|file| folder.join(&file.path)).collect();
    Ok((broken(&paths, progress), paths.len()))
}

/// Decodes image files; what is wrong with those that are broken.
pub(crate) fn broken(paths: &[PathBuf], progress: ProgressFn) -> Vec<Error> {
    let mut broken = Vec::new();
    for (index, chunk) in paths.chunks(256).enumerate() {
        let found: Vec<Option<Error>> = chunk.par_iter().map(|path| read(path).err()).collect();
        broken.extend(found.into_iter().flatten());
        progress("decode", (index * 256 + chunk.len()) as u64, paths.len() as u64);
    }
    broken
}

/// The places of each class's files.
fn by_class(files: &[File], classes: usize) -> Vec<Vec<usize>> {
    let mut of_class = vec![Vec::new(); classes];
    files.iter().enumerate().for_each(|(index, file)| of_class[file.label as usize].push(index));
    of_class
}

/// Puts a tenth of the training images of each class, at least one, in the place of the validation images.
fn hold_back(listing: &mut Listing, seed: u64) {
    let [train, _] = &listing.images;
    let mut held = vec![false; train.len()];
    for mut class in by_class(train, listing.class_folders.len()) {
        class.sort_by_cached_key(|&index| Sha256::digest(format!("tuning {seed} {}", train[index].id)));
        let tenth = ((class.len() + 5) / 10).max(1);
        class[..tenth].iter().for_each(|&index| held[index] = true);
    }
    let chosen = |wanted: bool| train.iter().zip(&held).filter(move |&(_, &held)| held == wanted);
    listing.images = [false, true].map(|wanted| chosen(wanted).map(|(file, _)| file.clone()).collect());
    // Validation images are not trained on: their labels have no noise.
    listing.images[1].iter_mut().for_each(|file| file.noisy_label = file.label);
}

/// At most `most` files, one of each class in turn, in their order.
fn evenly(files: &[File], classes: usize, most: usize) -> Vec<File> {
    let of_class = by_class(files, classes);
    let longest = of_class.iter().map(Vec::len).max().unwrap_or(0);
    let turns = (0..longest).flat_map(|turn| of_class.iter().filter_map(move |class| class.get(turn)));
    let mut chosen: Vec<usize> = turns.copied().take(most).collect();
    chosen.sort_unstable();
    chosen.into_iter().map(|index| files[index].clone()).collect()
}

/// The labels of the held-out classes, in the order of the labels.
fn held_out_classes(config: &DataConfig, listing: &Listing) -> Result<Vec<u32>> {
    let refused = |value: &str, rule: String| Error::setting("held_out_classes", value, rule);
    let mut labels = Vec::new();
    for name in &config.held_out_classes {
        let names = listing.class_names.iter().zip(&listing.class_folders);
        // Folders' names are in composed form.
        let composed: String = name.nfc().collect();
        let label = names.enumerate().find(|(_, (class, folder))| **class == composed || **folder == composed);
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
