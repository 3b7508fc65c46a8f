//! A folder of images: which files, which classes, which labels, and whether they are those of the data set's own list.

use crate::{Error, Profile, Result};
use faceoff_runs::SplitName;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// One image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Path relative to the data set's folder, with `/`.
    pub(crate) id: String,
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
    /// Names of the class folders, sorted; a label is an index into them.
    pub(crate) class_folders: Vec<String>,
    /// Names of the classes for people.
    pub(crate) class_names: Vec<String>,
    /// Training images and validation images, each sorted by path.
    pub(crate) images: [Vec<File>; 2],
}

/// Lists the images below `folder`, with training labels of `noise_percent` % noise.
pub(crate) fn list(folder: &Path, profile: &Profile, noise_percent: u32) -> Result<Listing> {
    let found = [images_of(folder, "train")?, images_of(folder, "val")?];
    let classes: BTreeSet<&String> = found.iter().flatten().map(|(class, _)| class).collect();
    let class_folders: Vec<String> = classes.into_iter().cloned().collect();
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
        let file = |(class, name): &(String, String)| {
            let label = label(class).expect("the class was collected from these files");
            File { id: format!("{}/{class}/{name}", split.as_str()), label, noisy_label: label, stored: 0 }
        };
        let mut files: Vec<File> = found[split as usize].iter().map(file).collect();
        files.sort_by(|a, b| a.id.cmp(&b.id));
        files
    });
    images.iter_mut().flatten().enumerate().for_each(|(place, file)| file.stored = place);

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
    Ok(Listing { class_folders, class_names, images })
}

/// (class, file name) of every image of a split.
fn images_of(folder: &Path, split: &str) -> Result<Vec<(String, String)>> {
    let root = folder.join(split);
    if !root.is_dir() {
        return Err(Error::folder(folder, format!("there is no folder {split}/")));
    }
    let mut images = Vec::new();
    for entry in walkdir::WalkDir::new(&root).min_depth(2).max_depth(2).sort_by_file_name() {
        let entry = entry.map_err(|error| Error::folder(&root, error))?;
        let path = entry.path();
        let is_image = path
            .extension()
            .is_some_and(|extension| ["jpg", "jpeg", "png"].iter().any(|known| extension.eq_ignore_ascii_case(known)));
        if is_image {
            let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).map(String::from);
            let names = path.parent().and_then(name).zip(name(path));
            let refused = || Error::folder(&root, format!("{} is no valid UTF-8", path.display()));
            images.push(names.ok_or_else(refused)?);
        }
    }
    if images.is_empty() {
        return Err(Error::folder(&root, "there is no JPEG or PNG image in its class folders"));
    }
    Ok(images)
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
