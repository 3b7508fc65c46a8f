//! Images of the user's own: which there are, what they are, and which of them are validation images.
//!
//! ```text
//! train/<class>/ and val/<class>/                    as they are; valid/, validation/ or else test/ stand in for val/
//! train/<class>/, gallery/<class>/, query/<class>/   trained on some classes, evaluated on others: queries among the gallery
//! gallery/<class>/ and query/<class>/                the same as train/ and val/
//! <class>/ or train/<class>/ alone                   a seeded share of each class becomes validation images
//! a table of paths and labels                        as its column `split` says, or a seeded share; a group is never on both sides
//! ```
//!
//! What cannot be as an experiment needs it is left out, counted and said: folders as people have them are rarely perfect.

use crate::cache::{LARGEST_CACHE_BYTES, Store, header_in};
use crate::dataset::{Arranged, broken};
use crate::folder::{File, Listing, PassedOver, images_of, is_hidden};
use crate::source::{NO_FOLDER, checked};
use crate::{Error, ImageSource, ProgressFn, Result, rows, table};
use faceoff_runs::{DataConfig, OwnSplit, Sizes, SplitName, list_folder};
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// What the two sides are called, whatever the case.
pub(crate) const TRAIN: [&str; 2] = ["train", "training"];
pub(crate) const VAL: [&str; 3] = ["val", "valid", "validation"];
pub(crate) const TEST: [&str; 2] = ["test", "testing"];

/// An image that was found.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) id: String,
    /// Below the folder.
    pub(crate) path: PathBuf,
    pub(crate) class: String,
    /// `None` where that is left to chance.
    pub(crate) split: Option<SplitName>,
    pub(crate) group: Option<String>,
    /// Its place among all that were found.
    pub(crate) stored: usize,
}

/// All that was found.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) images: Vec<Image>,
    /// Whether every image has its side.
    pub(crate) divided: bool,
    /// The classes of gallery/ and query/, where training sees others.
    pub(crate) unseen: BTreeSet<String>,
    pub(crate) passed_over: PassedOver,
    /// Ids of the table that lead to no file, and what to say of them.
    pub(crate) missing: Vec<(String, String)>,
}

/// Images of the user's own, open.
pub(crate) struct Opened {
    pub(crate) listing: Listing,
    pub(crate) store: Store,
    /// Of the images, their labels and sides.
    pub(crate) fingerprint: String,
    /// What a reader of results has to know.
    pub(crate) remarks: Vec<String>,
    /// The table of all images, where chance decided about the sides.
    pub(crate) split: Option<String>,
    /// What could not be read, and why.
    pub(crate) unreadable: Vec<(String, String)>,
}

/// The images with labels and sides.
pub(crate) struct Divided {
    pub(crate) listing: Listing,
    pub(crate) remarks: Vec<String>,
    pub(crate) split: Option<String>,
}

/// A name for files made of a name for people: letters, digits, `.`, `_` and `-`.
pub fn file_name_of(title: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._".contains(c) { c } else { '-' };
    let plain: String = title.nfd().filter(|c| !is_combining_mark(*c)).map(plain).collect();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    let name = parts.join("-").trim_start_matches(['.', '_', '-']).to_string();
    if name.is_empty() { "images".into() } else { name }
}

/// The classes that training never sees and evaluation is about, as `gallery/` and `query/` beside `train/` say; none for other layouts.
///
/// # Errors
/// A folder without images, or whose layout is none that is known.
pub fn unseen_classes(source: &ImageSource) -> Result<Vec<String>> {
    // Without gallery/ and query/ there are none, and the images need not be looked for.
    if source.labels.is_some() || Layout::of(&folder_of(source)?)?.sides.len() < 3 {
        return Ok(Vec::new());
    }
    let mut found = find(source)?;
    let unseen = found.unseen.clone();
    leave_out_one_sided(&mut found.images, &unseen);
    let left: BTreeSet<&String> = found.images.iter().map(|image| &image.class).collect();
    Ok(unseen.into_iter().filter(|class| left.contains(class)).collect())
}

/// What a benchmark on images of one's own would find, without decoding one.
#[derive(Debug)]
pub struct Preview {
    /// How many.
    pub sizes: Sizes,
    /// What it would say of them.
    pub remarks: Vec<String>,
    /// Bytes of the decoded images; `None` where they are too many to be kept.
    pub decoded_bytes: Option<u64>,
}

/// Looks at the images of `config`, of which only the headers are read; of embeddings, only the labels.
///
/// # Errors
/// Those of a folder or table that cannot be used.
pub fn preview(config: &DataConfig, source: &ImageSource) -> Result<Preview> {
    if config.is_embeddings() {
        return rows::preview(config, source);
    }
    let (folder, mut found) = (folder_of(source)?, find(source)?);
    let mut remarks: Vec<String> = found.passed_over.sentence().into_iter().collect();
    refuse_missing(source, &found.missing)?;
    let paths: Vec<PathBuf> = found.images.iter().map(|image| folder.join(&image.path)).collect();
    let bytes: Vec<Option<u64>> = paths.par_iter().map(|path| Some(header_in(path)?.bytes())).collect();
    let unreadable = bytes.iter().filter(|bytes| bytes.is_none()).count() + found.missing.len();
    if unreadable > 0 {
        let rule = if source.skip_unreadable { "they are left out" } else { "--skip-unreadable would leave them out" };
        remarks.push(format!("{unreadable} images cannot be read: {rule}"));
    }
    if source.skip_unreadable {
        found.images.retain(|image| bytes[image.stored].is_some());
    }
    let divided = divide(&|problem| Error::folder(&folder, problem), found, config, &|_| String::new())?;
    remarks.extend(divided.remarks);
    let total = bytes.iter().flatten().sum();
    Ok(Preview {
        sizes: Arranged::of(config, divided.listing)?.sizes(),
        remarks,
        decoded_bytes: (total <= LARGEST_CACHE_BYTES).then_some(total),
    })
}

/// Decodes every image of the user's own in a folder; what is wrong with those that are broken, how many there are in all, and what else
/// lies there, in words.
///
/// # Errors
/// A folder without images, or whose layout is none that is known.
pub fn broken_own_images(source: &ImageSource, progress: ProgressFn) -> Result<(Vec<Error>, usize, Option<String>)> {
    let (folder, found) = (folder_of(source)?, find(source)?);
    let paths: Vec<PathBuf> = found.images.iter().map(|image| folder.join(&image.path)).collect();
    Ok((broken(&paths, progress), paths.len(), found.passed_over.sentence()))
}

/// Finds, decodes and divides the images of `config`.
pub(crate) fn open(config: &DataConfig, source: &ImageSource, progress: ProgressFn) -> Result<Opened> {
    let (folder, mut found) = (folder_of(source)?, find(source)?);
    refuse_missing(source, &found.missing)?;
    let ids: Vec<&str> = found.images.iter().map(|image| image.id.as_str()).collect();
    let paths = found.images.iter().map(|image| folder.join(&image.path)).collect();
    let store = Store::of(&ids, paths, source.skip_unreadable, &source.cache_dir, progress)?;
    let mut unreadable = std::mem::take(&mut found.missing);
    unreadable.extend(store.unreadable.iter().map(|(place, why)| (found.images[*place].id.clone(), why.clone())));
    let broken: BTreeSet<usize> = store.unreadable.iter().map(|(place, _)| *place).collect();
    found.images.retain(|image| !broken.contains(&image.stored));

    let wrong = |problem| Error::folder(&folder, problem);
    let Divided { listing, mut remarks, split } = divide(&wrong, found, config, &table_of)?;
    let fingerprint = fingerprint_of(&store.fingerprint, &listing);
    if let Some((id, why)) = unreadable.first() {
        let count = unreadable.len();
        remarks.insert(
            0,
            format!("{count} images cannot be read and are left out, e.g. {id} ({why}).", id = id.escape_debug()),
        );
    }
    Ok(Opened { listing, store, fingerprint, remarks, split, unreadable })
}

/// Of images, which `digest` stands for, their labels and sides.
pub(crate) fn fingerprint_of(digest: &str, listing: &Listing) -> String {
    let mut fingerprint = Sha256::new_with_prefix(digest);
    for (side, files) in SplitName::ALL.iter().zip(&listing.images) {
        for file in files {
            let class = &listing.class_folders[file.label as usize];
            fingerprint.update(format!("\n{}\0{class}\0{}", file.id, side.as_str()));
        }
    }
    hex::encode(fingerprint.finalize())
}

/// The folder that paths start at: the one given, or else the table's.
fn folder_of(source: &ImageSource) -> Result<PathBuf> {
    match (&source.data_dir, &source.labels) {
        (Some(folder), _) => Ok(checked(folder)?.to_path_buf()),
        (None, Some(table)) => {
            let folder = table.parent().filter(|folder| !folder.as_os_str().is_empty());
            Ok(folder.unwrap_or(Path::new(".")).to_path_buf())
        }
        (None, None) => Err(Error::setting("data.dataset", faceoff_runs::FOLDER, NO_FOLDER)),
    }
}

/// The images of a source, sorted by path.
fn find(source: &ImageSource) -> Result<Found> {
    let folder = folder_of(source)?;
    let mut found = match &source.labels {
        Some(path) => table::find(path, &folder)?,
        None => find_in(&folder)?,
    };
    found.images.sort_by(|a, b| a.id.cmp(&b.id));
    found.images.iter_mut().enumerate().for_each(|(place, image)| image.stored = place);
    Ok(found)
}

fn refuse_missing(source: &ImageSource, missing: &[(String, String)]) -> Result<()> {
    match (missing, &source.labels) {
        ([(id, why), ..], Some(table)) if !source.skip_unreadable => {
            let rule =
                "paths start at --data DIR, or at the table's own folder; --skip-unreadable leaves such rows out";
            Err(Error::table(table, format!("{} of its images are not there, e.g. {id}: {why}; {rule}", missing.len())))
        }
        _ => Ok(()),
    }
}

/// How a folder is laid out.
struct Layout {
    /// Names of the folders that hold folders.
    folders: Vec<String>,
    /// Those whose images are taken, and for which side, `None` where that is left to chance: training images first, the gallery and the
    /// queries last. An empty name is the folder itself.
    sides: Vec<(String, Option<SplitName>)>,
}

impl Layout {
    fn of(folder: &Path) -> Result<Self> {
        let mut folders = Vec::new();
        for path in list_folder(folder)?.into_iter().filter(|path| path.is_dir()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            // A class may be called `train`: it holds images, where a side holds folders.
            let holds_folders = || list_folder(&path).is_ok_and(|inner| inner.iter().any(|path| path.is_dir()));
            if !is_hidden(&name) && holds_folders() {
                folders.push(name);
            }
        }
        let side = |names: &[&str]| {
            let of = |name: &&str| folders.iter().find(|folder| folder.eq_ignore_ascii_case(name)).cloned();
            names.iter().find_map(of)
        };
        let (train, val, test) = (side(&TRAIN), side(&VAL), side(&TEST));
        let has_val = val.is_some();
        use SplitName::{Train, Val};
        let sides = match (train, val.or(test), side(&["gallery"]), side(&["query"])) {
            (train, _, Some(gallery), Some(query)) => {
                let train = train.map(|train| (train, Some(Train)));
                train.into_iter().chain([(gallery, Some(Train)), (query, Some(Val))]).collect()
            }
            (_, _, Some(_), None) | (_, _, None, Some(_)) => {
                return Err(Error::folder(
                    folder,
                    "gallery/ and query/ belong together, but there is only one of them",
                ));
            }
            (Some(train), Some(val), ..) => vec![(train, Some(Train)), (val, Some(Val))],
            (Some(train), None, ..) => vec![(train, None)],
            (None, Some(val), ..) if has_val => {
                return Err(Error::folder(folder, format!("there is {val}/ but no train/")));
            }
            (None, ..) => vec![(String::new(), None)],
        };
        Ok(Self { folders, sides })
    }
}

/// The images of a folder by its layout.
fn find_in(folder: &Path) -> Result<Found> {
    let Layout { folders, sides } = Layout::of(folder)?;
    let mut found = Found { divided: sides[0].1.is_some(), ..Found::default() };
    let mut of_side: Vec<BTreeSet<String>> = Vec::new();
    for (top, split) in &sides {
        let images = images_of(folder, top, &mut found.passed_over)?;
        of_side.push(images.iter().map(|(class, _)| class.clone()).collect());
        found.images.extend(images.into_iter().map(|(class, path)| {
            let id = crate::folder::id_of(&path);
            Image { id, path, class, split: *split, group: None, stored: 0 }
        }));
    }
    if let [train, gallery, query] = &of_side[..] {
        found.unseen = gallery | query;
        if let Some(class) = (train & &found.unseen).first() {
            let rule = "beside train/ these are for classes that training never sees; call gallery/ and query/ otherwise, or take the class out of one";
            return Err(Error::folder(
                folder,
                format!("class `{class}` is in train/ and in gallery/ or query/: {rule}"),
            ));
        }
    }
    if !sides[0].0.is_empty() {
        let unused = folders.iter().filter(|name| sides.iter().all(|(side, _)| side != *name));
        unused.for_each(|name| found.passed_over.add("folders beside these", name));
    }
    Ok(found)
}

/// Gives every image its side and its label; `wrong` makes an error of what is wrong with all of them, `table` the table of those that
/// have sides, where chance decided about these.
pub(crate) fn divide(
    wrong: &dyn Fn(String) -> Error,
    mut found: Found,
    config: &DataConfig,
    table: &dyn Fn(&[Image]) -> String,
) -> Result<Divided> {
    let mut remarks = Vec::new();
    let own = config.own.as_ref().expect("these are images of one's own");
    if !found.divided {
        by_chance(&mut found.images, own.split);
    } else if let Some(remark) = groups_on_both_sides(&found.images) {
        remarks.push(remark);
    }
    let before = found.images.len();
    let left_out = leave_out_one_sided(&mut found.images, &found.unseen);
    if let Some(first) = left_out.first() {
        let (classes, images) = (left_out.len(), before - found.images.len());
        let rule = if found.divided {
            "they have images on one side only"
        } else {
            "they have too few images, or groups, for both sides"
        };
        remarks.push(format!("{classes} classes with {images} images are left out: {rule}, e.g. `{first}`."));
    }
    if !found.unseen.is_empty() {
        remarks.push("Training sees the classes of train/; evaluated are those of query/ among gallery/.".into());
    }
    let names: BTreeSet<&String> = found.images.iter().map(|image| &image.class).collect();
    let names: Vec<String> = names.into_iter().cloned().collect();
    if names.len() < 2 {
        let left_out = if left_out.is_empty() { String::new() } else { format!(", {} left out", left_out.len()) };
        let problem = format!("{} class ({}{left_out}) is too few to tell apart", names.len(), names.join(", "));
        return Err(wrong(problem));
    }
    let split = (!found.divided).then(|| {
        let val = found.images.iter().filter(|image| image.split == Some(SplitName::Val)).count();
        let (all, share, seed) = (found.images.len(), 100.0 * own.split.validation_share, own.split.seed);
        let grouped = if found.images.iter().any(|image| image.group.is_some()) { ", groups kept whole" } else { "" };
        remarks.push(format!(
            "{val} of {all} images are validation images: about {share} % of each class, chosen by seed {seed}{grouped}; split.csv lists them."
        ));
        table(&found.images)
    });
    let mut images = [Vec::new(), Vec::new()];
    for Image { id, path, class, split, stored, .. } in found.images {
        let label = names.binary_search(&class).expect("the classes are those of these images") as u32;
        let file = File { id, path, label, noisy_label: label, stored };
        images[split.expect("every image has a side") as usize].push(file);
    }
    let listing = Listing { class_folders: names.clone(), class_names: names, images, passed_over: found.passed_over };
    Ok(Divided { listing, remarks, split })
}

/// Takes away the classes that are not on both sides, and names them. Where some are `unseen` in training, the others need no
/// validation images.
fn leave_out_one_sided(images: &mut Vec<Image>, unseen: &BTreeSet<String>) -> Vec<String> {
    let of = |side: SplitName| -> BTreeSet<String> {
        images.iter().filter(|image| image.split == Some(side)).map(|image| image.class.clone()).collect()
    };
    let [train, val] = SplitName::ALL.map(of);
    let all: BTreeSet<String> = images.iter().map(|image| image.class.clone()).collect();
    let needs_val = |class: &String| unseen.is_empty() || unseen.contains(class);
    let whole = |class: &String| train.contains(class) && (val.contains(class) || !needs_val(class));
    let undecided = images.iter().any(|image| image.split.is_none());
    let left_out: Vec<String> = all.into_iter().filter(|class| !undecided && !whole(class)).collect();
    images.retain(|image| left_out.binary_search(&image.class).is_err());
    left_out
}

/// Makes about the share of each class that `split` says validation images, a group as a whole; of each class at least one image stays
/// on either side where that can be.
///
/// Groups are taken in an order that seed and name decide. One becomes validation images if that brings the numbers of its classes
/// nearer to what is wanted; an image without a group is a group of its own, so that without groups the numbers are met exactly.
fn by_chance(images: &mut [Image], split: OwnSplit) {
    let classes: BTreeSet<&str> = images.iter().map(|image| image.class.as_str()).collect();
    let classes: Vec<&str> = classes.into_iter().collect();
    let labels: Vec<usize> =
        images.iter().map(|image| classes.binary_search(&image.class.as_str()).expect("it is one of these")).collect();
    let mut of_group: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (place, image) in images.iter().enumerate() {
        let name = image.group.as_ref().map_or_else(|| format!("image {}", image.id), |group| format!("group {group}"));
        of_group.entry(name).or_default().push(place);
    }
    let mut groups: Vec<(String, Vec<usize>)> = of_group.into_iter().collect();
    groups.sort_by_cached_key(|(name, _)| Sha256::digest(format!("own split {} {name}", split.seed)));
    // Of each group how many images it has of which class.
    let count = |places: &[usize]| {
        let mut counts: BTreeMap<usize, i64> = BTreeMap::new();
        places.iter().for_each(|&place| *counts.entry(labels[place]).or_default() += 1);
        counts
    };
    let counts: Vec<BTreeMap<usize, i64>> = groups.iter().map(|(_, places)| count(places)).collect();
    let mut all = vec![0i64; classes.len()];
    labels.iter().for_each(|&label| all[label] += 1);
    let wanted: Vec<i64> =
        all.iter().map(|&all| ((all as f64 * split.validation_share).round() as i64).max(1).min(all - 1)).collect();

    let mut val = vec![0i64; classes.len()];
    let mut chosen = vec![false; groups.len()];
    let leaves_some = |val: &[i64], group: &BTreeMap<usize, i64>| group.iter().all(|(&c, &n)| val[c] + n < all[c]);
    for (place, group) in counts.iter().enumerate() {
        let nearer: i64 =
            group.iter().map(|(&c, &n)| (val[c] - wanted[c]).abs() - (val[c] + n - wanted[c]).abs()).sum();
        if nearer > 0 && leaves_some(&val, group) {
            chosen[place] = true;
            group.iter().for_each(|(&c, &n)| val[c] += n);
        }
    }
    let mut of_class = vec![Vec::new(); classes.len()];
    for (place, group) in counts.iter().enumerate() {
        group.keys().for_each(|&class| of_class[class].push(place));
    }
    for class in (0..classes.len()).filter(|&class| all[class] > 1) {
        if val[class] > 0 {
            continue;
        }
        let fits = |place: &&usize| !chosen[**place] && leaves_some(&val, &counts[**place]);
        let smallest = of_class[class].iter().filter(fits).min_by_key(|&&place| groups[place].1.len());
        if let Some(&place) = smallest {
            chosen[place] = true;
            counts[place].iter().for_each(|(&c, &n)| val[c] += n);
        }
    }
    for ((_, places), chosen) in groups.into_iter().zip(chosen) {
        let side = if chosen { SplitName::Val } else { SplitName::Train };
        places.into_iter().for_each(|place| images[place].split = Some(side));
    }
}

/// What to say where the user's own split has groups on both sides: images of one group resemble each other.
fn groups_on_both_sides(images: &[Image]) -> Option<String> {
    let of = |side: SplitName| -> BTreeSet<&str> {
        images.iter().filter(|image| image.split == Some(side)).filter_map(|image| image.group.as_deref()).collect()
    };
    let both: Vec<&str> = of(SplitName::Train).intersection(&of(SplitName::Val)).copied().collect();
    let first = both.first()?;
    Some(format!(
        "{} groups have training and validation images, e.g. `{first}`: what is measured on them is too good.",
        both.len()
    ))
}

/// The table that [`table::find`] reads back.
fn table_of(images: &[Image]) -> String {
    let grouped = images.iter().any(|image| image.group.is_some());
    let columns = if grouped { 4 } else { 3 };
    let rows = images.iter().map(|Image { id, class, split, group, .. }| {
        let side = split.expect("every image has a side").as_str();
        [id.as_str(), class, side, group.as_deref().unwrap_or_default()]
    });
    csv_of([["path", "label", "split", "group"]].into_iter().chain(rows).map(|row| row.into_iter().take(columns)))
}

/// Rows as CSV, the titles first.
pub(crate) fn csv_of<'a>(rows: impl Iterator<Item = impl IntoIterator<Item = &'a str>>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row).expect("memory takes what is written");
    }
    let bytes = writer.into_inner().expect("memory takes what is written");
    String::from_utf8(bytes).expect("names are UTF-8")
}
