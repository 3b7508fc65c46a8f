//! A folder of images: which files, which classes, which labels, and whether they are those of the data set's own list.

use crate::cache::header_in;
use crate::decode::{FORMATS, START, format_of, is_named_as_image};
use crate::{Error, Profile, Result};
use faceoff_runs::SplitName;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use unicode_normalization::UnicodeNormalization;
use walkdir::{DirEntry, WalkDir};

/// One image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Path relative to the data set's folder, with `/`, in Unicode's composed form: the same on every system.
    pub(crate) id: String,
    /// The same path as the system has it.
    pub(crate) path: PathBuf,
    /// Index of its class.
    pub(crate) label: u32,
    /// Index of the class that the list's noisy column gives it; the same without noise.
    pub(crate) noisy_label: u32,
    /// Its place among all files of the folder, training images first.
    pub(crate) stored: usize,
}

/// What a folder holds.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Names of the class folders in composed form, sorted; a label is an index into them.
    pub(crate) class_folders: Vec<String>,
    /// Names of the classes for people.
    pub(crate) class_names: Vec<String>,
    /// Training images and validation images, each sorted by path.
    pub(crate) images: [Vec<File>; 2],
    /// What lies there and is none of them.
    pub(crate) passed_over: PassedOver,
}

/// Files and folders that are not taken for images: how many of which kind, and the first of each.
#[derive(Debug, Default)]
pub(crate) struct PassedOver(BTreeMap<&'static str, (usize, String)>);

impl PassedOver {
    pub(crate) fn add(&mut self, kind: &'static str, path: &str) {
        self.0.entry(kind).or_insert_with(|| (0, path.escape_debug().to_string())).0 += 1;
    }

    /// E.g. `passed over: 36 hidden (e.g. train/cat/._1.jpg)`; `None` where nothing was.
    pub(crate) fn sentence(&self) -> Option<String> {
        let kinds = self.0.iter().map(|(kind, (count, first))| format!("{count} {kind} (e.g. {first})"));
        (!self.0.is_empty()).then(|| format!("passed over: {}", kinds.collect::<Vec<_>>().join(", ")))
    }
}

/// Lists the images below `folder`, with training labels of `noise_percent` % noise.
///
/// As with torchvision's `ImageFolder`, an image at any depth belongs to the class folder on top, and links are followed; one that leads
/// back to a folder around it is refused. Files are taken by their content where the name does not say that they are images.
pub(crate) fn list(folder: &Path, profile: &Profile, noise_percent: u32) -> Result<Listing> {
    let mut passed_over = PassedOver::default();
    let mut found = [images_of(folder, "train", &mut passed_over)?, images_of(folder, "val", &mut passed_over)?];
    let class_folders: Vec<String> =
        found.iter().flatten().map(|(class, _)| class.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    for (split, found) in SplitName::ALL.iter().zip(&found) {
        if let Some(class) = class_folders.iter().find(|class| found.iter().all(|(other, _)| other != *class)) {
            return Err(Error::folder(folder, format!("class `{class}` has no image in {}/", split.as_str())));
        }
    }
    if class_folders.len() < 2 {
        return Err(Error::folder(folder, format!("{} class is too few to tell apart", class_folders.len())));
    }
    let label = |class: &str| class_folders.iter().position(|other| other == class).map(|index| index as u32);
    let mut images = SplitName::ALL.map(|split| {
        let file = |(class, path): (String, PathBuf)| {
            let label = label(&class).expect("the class was collected from these files");
            File { id: id_of(&path), path, label, noisy_label: label, stored: 0 }
        };
        let mut files: Vec<File> = std::mem::take(&mut found[split as usize]).into_iter().map(file).collect();
        files.sort_by(|a, b| a.id.cmp(&b.id));
        files
    });
    images.iter_mut().flatten().enumerate().for_each(|(place, file)| file.stored = place);

    check_size(folder, profile, images.iter().flatten())?;
    if let Some(list) = profile.list.filter(|list| folder.join(list).exists()) {
        let wrong = |problem: String| Error::FileList { path: folder.into(), list: list.into(), problem };
        let listed = read_list(&folder.join(list), noise_percent)
            .map_err(|problem| wrong(format!("the list cannot be read ({problem})")))?;
        compare(&listed, images.iter().flatten()).map_err(wrong)?;
        for file in &mut images[0] {
            let noisy = &listed[&file.id];
            file.noisy_label = label(noisy)
                .ok_or_else(|| wrong(format!("{} has the noisy label `{noisy}`, which is no class", file.id)))?;
        }
    } else if noise_percent > 0 {
        let list = profile.list.unwrap_or("a list, which this data set has not");
        let rule = format!("noisy labels come from {list}; {} holds none; set it to 0", folder.display());
        return Err(Error::setting("data.label_noise_percent", noise_percent, rule));
    }
    let class_names = class_folders.iter().map(|class| profile.class_name(class)).collect();
    Ok(Listing { class_folders, class_names, images, passed_over })
}

/// Whether the images have the size in which this data set is published: the same names stand in its other sizes. One image of a folder
/// is looked at; what most of them have counts. One whose header cannot be read is named where it is decoded.
fn check_size<'a>(folder: &Path, profile: &Profile, files: impl Iterator<Item = &'a File>) -> Result<()> {
    let Some(wanted) = profile.shorter_side_px else { return Ok(()) };
    let one_each: BTreeMap<&Path, &File> = files.filter_map(|file| Some((file.path.parent()?, file))).collect();
    let sides = one_each.into_values().filter_map(|file| header_in(&folder.join(&file.path)));
    let mut sides: Vec<u32> = sides.map(|header| header.width.min(header.height)).collect();
    sides.sort_unstable();
    match sides.get(sides.len() / 2) {
        Some(&found) if found != wanted => {
            let (at, name) = (folder.display(), profile.name);
            let rule = format!(
                "the shorter side of the images in {at} is {found} px, but {name} has {wanted} px: it is another size of the data set, or another \
                 one; take the data set of that size, or `folder`"
            );
            Err(Error::setting("data.dataset", name, rule))
        }
        _ => Ok(()),
    }
}

/// A path with `/` and in composed form.
pub(crate) fn id_of(path: &Path) -> String {
    let parts = path.iter().map(|part| part.to_string_lossy().nfc().collect::<String>());
    parts.collect::<Vec<_>>().join("/")
}

/// Class, and path below `folder`, of every image in the class folders of `top`, a folder in it, or where that is empty of itself.
pub(crate) fn images_of(folder: &Path, top: &str, passed_over: &mut PassedOver) -> Result<Vec<(String, PathBuf)>> {
    let root = if top.is_empty() { folder.to_path_buf() } else { folder.join(top) };
    if !root.is_dir() {
        return Err(Error::folder(folder, format!("there is no folder {top}/")));
    }
    // Two ways to write one name in Unicode are one class.
    let class_of = |path: &Path| -> String {
        let class = path.iter().nth(usize::from(!top.is_empty()));
        class.unwrap_or_default().to_string_lossy().nfc().collect()
    };
    let below = |path: &Path| path.strip_prefix(folder).unwrap_or(path).to_path_buf();
    let mut images = Vec::new();
    let mut empty = BTreeMap::new();
    let mut entries = WalkDir::new(&root).min_depth(1).follow_links(true).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if leads_nowhere(&error) => {
                passed_over.add("links that lead nowhere", &id_of(&below(error.path().unwrap_or(&root))));
                continue;
            }
            Err(error) => return Err(Error::folder(&root, error)),
        };
        let path = below(entry.path());
        let kind = entry.file_type();
        if is_hidden(&entry.file_name().to_string_lossy()) {
            passed_over.add("hidden", &id_of(&path));
            if kind.is_dir() {
                entries.skip_current_dir();
            }
        } else if kind.is_dir() {
            if entry.depth() == 1 {
                empty.insert(class_of(&path), id_of(&path));
            }
        } else if !kind.is_file() {
            passed_over.add("neither files nor folders", &id_of(&path));
        } else if !is_image(&entry) {
            passed_over.add("no images", &id_of(&path));
        } else if entry.depth() == 1 {
            passed_over.add("images in no class folder", &id_of(&path));
        } else {
            if path.to_str().is_none() {
                return Err(Error::folder(&root, format!("{} is no valid UTF-8", path.display())));
            }
            let class = class_of(&path);
            empty.remove(&class);
            images.push((class, path));
        }
    }
    empty.values().for_each(|class| passed_over.add("class folders without images", class));
    if images.is_empty() {
        let passed_over = passed_over.sentence().map_or(String::new(), |sentence| format!(" ({sentence})"));
        return Err(Error::folder(
            &root,
            format!("there is no image in its class folders{passed_over}; {FORMATS} are read"),
        ));
    }
    Ok(images)
}

/// What file managers leave behind: `._*`, `.DS_Store` and other names with a dot in front, `Thumbs.db`, `desktop.ini`.
pub(crate) fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
        || ["Thumbs.db", "desktop.ini", "__MACOSX"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether a file is an image by its name or else by its content. What is named so and is none is an error where it is decoded: a
/// damaged image must not be passed over.
pub(crate) fn is_image(entry: &DirEntry) -> bool {
    let mut start = Vec::with_capacity(START);
    let mut read =
        || std::fs::File::open(entry.path()).and_then(|file| file.take(START as u64).read_to_end(&mut start));
    is_named_as_image(&entry.file_name().to_string_lossy()) || read().is_ok() && format_of(&start).is_some()
}

pub(crate) fn leads_nowhere(error: &walkdir::Error) -> bool {
    error.loop_ancestor().is_none()
        && error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Path to noisy label, as the list has them; or why it cannot be read.
fn read_list(path: &Path, noise_percent: u32) -> std::result::Result<BTreeMap<String, String>, String> {
    let mut reader = csv::Reader::from_path(path).map_err(|error| error.to_string())?;
    let headers = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| {
        let place = headers.iter().position(|header| header == name);
        place.ok_or_else(|| format!("it has no column `{name}`"))
    };
    let (id, label) = (column("path")?, column(&format!("noisy_labels_{noise_percent}"))?);
    let rows = reader.records().map(|row| {
        let row = row.map_err(|error| error.to_string())?;
        Ok((row[id].to_string(), row[label].to_string()))
    });
    rows.collect()
}

/// The files that are there against those that are listed; on any difference what it is, with counts per class.
fn compare<'a>(
    listed: &BTreeMap<String, String>,
    files: impl Iterator<Item = &'a File>,
) -> std::result::Result<(), String> {
    let found: BTreeSet<&str> = files.map(|file| file.id.as_str()).collect();
    let wanted: BTreeSet<&str> = listed.keys().map(String::as_str).collect();
    if found == wanted {
        return Ok(());
    }
    let mut counts: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    for (index, ids) in [&found, &wanted].into_iter().enumerate() {
        for id in ids {
            counts.entry(id.rsplit_once('/').map_or("", |(class, _)| class)).or_default()[index] += 1;
        }
    }
    let counts: Vec<_> = counts
        .iter()
        .filter(|(_, [found, wanted])| found != wanted)
        .map(|(class, [found, wanted])| format!("{class}: {found} of {wanted}"))
        .collect();
    let example = found.symmetric_difference(&wanted).next().copied().unwrap_or_default();
    Err(format!(
        "{} files where {} are listed{}{}, e.g. {example}",
        found.len(),
        wanted.len(),
        if counts.is_empty() { "" } else { "; per class " },
        counts.join(", ")
    ))
}
