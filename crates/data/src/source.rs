//! Where a data set is: in a given folder or archive, in the cache folder, or to be downloaded or made.

use crate::archive::{extract, md5_of};
use crate::{
    Download, EmbeddingFiles, Error, ImageCounts, Origin, Patience, Profile, ProgressFn, Result, count_images, folder,
    profile, synthetic,
};
use faceoff_runs::{DataConfig, FolderLock, list_folder};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the user says about the place of the images.
#[derive(Debug, Clone)]
pub struct ImageSource {
    /// A folder with `train/` and `val/`; of images of the user's own any other layout that is known, see [`crate::unseen_classes`].
    pub data_dir: Option<PathBuf>,
    /// A table of the labels: of images of the user's own with their paths, or of embeddings.
    pub labels: Option<PathBuf>,
    /// Embeddings of another model in the place of images; their labels are `labels`.
    pub embeddings: Option<EmbeddingFiles>,
    /// Of images of the user's own: go on without those that cannot be read.
    pub skip_unreadable: bool,
    /// An archive of the data set.
    pub archive: Option<PathBuf>,
    /// The folder for what is fetched, made and decoded.
    pub cache_dir: PathBuf,
    /// Where the archives lie instead of their own address: a URL without the file's name. Their md5 stays binding.
    pub mirror: Option<String>,
}

impl ImageSource {
    /// What lies in a cache folder, or is fetched or made there.
    pub fn cached(cache_dir: PathBuf) -> Self {
        Self {
            data_dir: None,
            labels: None,
            embeddings: None,
            skip_unreadable: false,
            archive: None,
            cache_dir,
            mirror: None,
        }
    }

    /// The options of the command line that say the same of images or embeddings of one's own, without their values.
    pub(crate) fn options(&self) -> Vec<String> {
        let val = self.embeddings.as_ref().is_some_and(|embeddings| embeddings.val.is_some());
        let all = [
            ("--data", self.data_dir.is_some()),
            ("--embeddings", self.embeddings.is_some()),
            ("--labels", self.labels.is_some()),
            ("--val-embeddings", val),
            ("--val-labels", val),
            ("--skip-unreadable", self.skip_unreadable),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(option, _)| option.into()).collect()
    }
}

/// A published data set in the cache folder: from `source.archive`; or what is there already; or by download. Returns its folder
/// and the archive's md5.
pub fn fetch(profile: &Profile, source: &ImageSource, progress: ProgressFn) -> Result<(PathBuf, String)> {
    let _lock = lock(source, progress)?;
    fetch_locked(profile, source, progress)
}

/// The sole right to change the cache folder: two benchmarks must not download or decode the same images at once.
///
/// There is none where nothing can be written: all that is needed may be there already.
pub(crate) fn lock(source: &ImageSource, progress: ProgressFn) -> Result<Option<FolderLock>> {
    let waiting = || progress("wait for another process to prepare its images", 0, 0);
    match FolderLock::wait(&source.cache_dir, waiting) {
        Err(faceoff_runs::Error::Io { source, .. })
            if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
        {
            Ok(None)
        }
        lock => Ok(Some(lock?)),
    }
}

/// Whether an extracted folder is the whole data set, as far as its own list tells.
fn whole(folder: &Path, profile: &Profile) -> std::result::Result<(), String> {
    match folder::list(folder, profile, 0) {
        Ok(_) => Ok(()),
        Err(Error::FileList { list, problem, .. }) => {
            Err(format!("it does not hold the files that its {list} lists: {problem}"))
        }
        Err(Error::Folder { problem, .. }) => Err(format!("it is no data set: {problem}")),
        Err(other) => Err(other.to_string()),
    }
}

fn fetch_locked(profile: &Profile, source: &ImageSource, progress: ProgressFn) -> Result<(PathBuf, String)> {
    let (cache, name, disk_mib) = (&source.cache_dir, profile.name, profile.disk_mib);
    let Origin::Archive { url, md5 } = profile.origin else {
        return Err(Error::setting("data.dataset", name, "it is not published as an archive; pass --data DIR"));
    };
    // An extracted archive carries its md5 in its name, so that two of one data set never mix.
    let extracted = |archive: &Path, md5: &str| {
        let folder = cache.join(format!("{name}-{md5}"));
        if !folder.exists() {
            extract(archive, &folder, &|folder| whole(folder, profile), progress)?;
        }
        Ok((folder, md5.to_string()))
    };
    if let Some(archive) = &source.archive {
        return extracted(archive, &md5_of(archive)?);
    }
    if let Some(md5) = find_cached(cache, name, md5) {
        return Ok((cache.join(format!("{name}-{md5}")), md5));
    }
    let archive = cache.join(format!("{name}.tgz"));
    if !archive.exists() {
        let file = url.rsplit('/').next().unwrap_or(url);
        let url =
            source.mirror.as_ref().map_or(url.into(), |mirror| format!("{}/{file}", mirror.trim_end_matches('/')));
        let (timeout, window) = (Duration::from_secs(20), Duration::from_secs(60));
        let patience = Patience { timeout, attempts: 4, window, least_bytes: 1 << 20 };
        Download { url, md5: md5.into(), most_bytes: disk_mib << 20 }.run(&archive, patience, progress)?;
    }
    let found = extracted(&archive, md5)?;
    std::fs::remove_file(&archive).map_err(Error::io("remove", &archive))?;
    Ok(found)
}

/// How many training and validation images a benchmark would find, without fetching, making or decoding one.
///
/// # Errors
/// A folder or an archive that the user names and that is not there; a folder that is no data set.
pub fn expected_images(config: &DataConfig, source: &ImageSource) -> Result<[usize; 2]> {
    let profile = profile(&config.dataset)?;
    let counted = |folder: &Path| {
        let ImageCounts { train, val, .. } = count_images(checked(folder)?, profile)?;
        Ok([train, val])
    };
    if let Some(archive) = &source.archive {
        std::fs::File::open(archive).map_err(Error::io("open", archive))?;
    }
    match (&profile.origin, &source.data_dir, &config.synthetic, profile.images) {
        (Origin::Made, _, Some(made), _) => Ok([made.train_images, made.val_images]),
        (Origin::Archive { .. } | Origin::Folder, Some(folder), _, _) => counted(folder),
        (_, _, _, Some(images)) => Ok(images),
        _ => Err(Error::setting("data.dataset", profile.name, NO_FOLDER)),
    }
}

/// Whether the images of `config` can be opened without fetching them; those that are made are made anew.
pub fn is_at_hand(config: &DataConfig, source: &ImageSource) -> bool {
    match profile(&config.dataset) {
        Ok(profile) => match &profile.origin {
            Origin::Made => true,
            Origin::Archive { md5, .. } => {
                source.data_dir.is_some()
                    || source.archive.is_some()
                    || find_cached(&source.cache_dir, profile.name, md5).is_some()
            }
            _ => source.data_dir.is_some() || source.labels.is_some(),
        },
        Err(_) => false,
    }
}

pub(crate) const NO_FOLDER: &str = "pass the folder with --data DIR";

/// Whether a folder is the published data set of `profile`, whole or in part: its list lies there, and its class folders are known.
pub fn is_published(folder: &Path, profile: &Profile) -> bool {
    let known = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        folder::is_hidden(&name) || profile.class_folders.contains(&&*name)
    };
    let listed = profile.list.is_some_and(|list| folder.join(list).is_file());
    listed && list_folder(&folder.join("train")).is_ok_and(|classes| classes.iter().all(known))
}

pub(crate) fn checked(folder: &Path) -> Result<&Path> {
    if folder.is_dir() { Ok(folder) } else { Err(Error::folder(folder, "there is no such folder")) }
}

/// The folder of the images of `config`, whose data set `profile` is, and the md5 of their archive where there is one.
pub(crate) fn locate(
    config: &DataConfig,
    profile: &Profile,
    source: &ImageSource,
    progress: ProgressFn,
) -> Result<(PathBuf, Option<String>)> {
    let setting = |rule: &str| Error::setting("data.dataset", profile.name, rule);
    let folder = match (&profile.origin, &source.data_dir) {
        (Origin::Made, _) => {
            let missing = || Error::setting("data.synthetic", "absent", "this data set needs a [data.synthetic] table");
            synthetic::folder(config.synthetic.as_ref().ok_or_else(missing)?, &source.cache_dir, progress)?
        }
        #[cfg(feature = "extra-datasets")]
        (Origin::CandleDatasets { load }, _) => crate::extra::folder(profile, *load, source, progress)?,
        #[cfg(not(feature = "extra-datasets"))]
        (Origin::CandleDatasets {}, _) => {
            return Err(setting("this build has no candle-datasets; build it with --features extra-datasets"));
        }
        (_, Some(folder)) => checked(folder)?.to_path_buf(),
        (Origin::Folder | Origin::Embeddings, None) => return Err(setting(NO_FOLDER)),
        (Origin::Archive { .. }, None) => {
            let (folder, md5) = fetch_locked(profile, source, progress)?;
            return Ok((folder, Some(md5)));
        }
    };
    Ok((folder, None))
}

/// The md5 of the archive of a data set that the cache holds: the published one, or else the first other one.
fn find_cached(cache: &Path, name: &str, published: &str) -> Option<String> {
    let prefix = format!("{name}-");
    let found = std::fs::read_dir(cache)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(&prefix).map(String::from))
        .filter(|md5| md5.len() == 32 && md5.bytes().all(|byte| byte.is_ascii_hexdigit()));
    found.min_by_key(|md5| (md5 != published, md5.clone()))
}
