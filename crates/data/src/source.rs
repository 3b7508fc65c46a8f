//! Where a data set is: in a given folder or archive, in the cache folder, or to be downloaded or made.

use crate::archive::{extract, md5_of};
use crate::{Download, Error, Patience, ProgressFn, Result, folder, synthetic};
use faceoff_runs::{DataConfig, DatasetName, FolderLock};
use std::path::{Path, PathBuf};

/// What the user says about the place of the images.
#[derive(Debug, Clone)]
pub struct ImageSource {
    /// A folder with `train/` and `val/`.
    pub data_dir: Option<PathBuf>,
    /// An archive of the data set.
    pub archive: Option<PathBuf>,
    /// The folder for what is fetched, made and decoded.
    pub cache_dir: PathBuf,
    /// Where the archives lie instead of their own address: a URL without the file's name. Their md5 stays binding.
    pub mirror: Option<String>,
}

/// A data set's folder.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) folder: PathBuf,
    pub(crate) archive_md5: Option<String>,
}

/// Imagewoof's archives: published by fast.ai, the md5 by Catalyst.
fn download_of(dataset: DatasetName, mirror: Option<&str>) -> Option<Download> {
    let md5 = match dataset {
        DatasetName::Imagewoof160 => "3d200a7be99704a0d7509be2a9fbfe15",
        DatasetName::Imagewoof320 => "0f46d997ec2264e97609196c95897a44",
        _ => return None,
    };
    let folder = mirror.unwrap_or("https://s3.amazonaws.com/fast-ai-imageclas").trim_end_matches('/');
    let url = format!("{folder}/{}.tgz", dataset.as_str());
    Some(Download { url, md5: md5.into() })
}

/// Imagewoof in the cache folder: from `source.archive`; or what is there already; or by download. Returns its folder and
/// the archive's md5.
pub fn fetch(dataset: DatasetName, source: &ImageSource, progress: ProgressFn) -> Result<(PathBuf, String)> {
    let _lock = lock(source, progress)?;
    fetch_locked(dataset, source, progress)
}

/// The sole right to change the cache folder: two benchmarks must not download or decode the same images at once.
pub(crate) fn lock(source: &ImageSource, progress: ProgressFn) -> Result<FolderLock> {
    Ok(FolderLock::wait(&source.cache_dir, || {
        progress("wait for another process to prepare its images", 0, 0)
    })?)
}

/// Whether an extracted folder is the whole data set, as far as its own list tells.
fn whole(folder: &Path) -> std::result::Result<(), String> {
    match folder::list(folder, 0) {
        Ok(_) => Ok(()),
        Err(Error::FileList { list, problem, .. }) => {
            Err(format!("it does not hold the files that its {list} lists: {problem}"))
        }
        Err(Error::Folder { problem, .. }) => Err(format!("it is no data set: {problem}")),
        Err(other) => Err(other.to_string()),
    }
}

fn fetch_locked(
    dataset: DatasetName,
    source: &ImageSource,
    progress: ProgressFn,
) -> Result<(PathBuf, String)> {
    let cache = &source.cache_dir;
    if let Some(archive) = &source.archive {
        let md5 = md5_of(archive)?;
        let folder = cached(cache, dataset, &md5);
        if !folder.exists() {
            extract(archive, &folder, &whole, progress)?;
        }
        return Ok((folder, md5));
    }
    let download = download_of(dataset, source.mirror.as_deref()).ok_or_else(|| Error::Setting {
        key: "data.dataset",
        value: dataset.as_str().into(),
        rule: "only Imagewoof can be downloaded; pass --data DIR or --archive FILE".into(),
    })?;
    if let Some(found) = find_cached(cache, dataset, &download.md5) {
        return Ok(found);
    }
    let folder = cached(cache, dataset, &download.md5);
    let archive = cache.join(format!("{}.tgz", dataset.as_str()));
    if !archive.exists() {
        download.run(&archive, Patience::default(), progress)?;
    }
    extract(&archive, &folder, &whole, progress)?;
    std::fs::remove_file(&archive).map_err(Error::io("remove", &archive))?;
    Ok((folder, download.md5))
}

/// An extracted archive carries its md5 in its name, so that two of one data set never mix.
fn cached(cache: &Path, dataset: DatasetName, md5: &str) -> PathBuf {
    cache.join(format!("{}-{md5}", dataset.as_str()))
}

pub(crate) fn locate(config: &DataConfig, source: &ImageSource, progress: ProgressFn) -> Result<Located> {
    if config.dataset == DatasetName::Synthetic {
        let synthetic = config.synthetic.as_ref().ok_or_else(|| Error::Setting {
            key: "data.synthetic",
            value: "absent".into(),
            rule: "the synthetic set needs a [data.synthetic] table".into(),
        })?;
        return Ok(Located {
            folder: synthetic::folder(synthetic, &source.cache_dir, progress)?,
            archive_md5: None,
        });
    }
    #[cfg(feature = "extra-datasets")]
    if let Some(folder) = crate::extra::folder(config.dataset, source, progress)? {
        return Ok(Located { folder, archive_md5: None });
    }
    #[cfg(not(feature = "extra-datasets"))]
    if matches!(config.dataset, DatasetName::Cifar10 | DatasetName::Mnist | DatasetName::FashionMnist) {
        return Err(Error::Setting {
            key: "data.dataset",
            value: config.dataset.as_str().into(),
            rule: "this build has no candle-datasets; build it with --features extra-datasets".into(),
        });
    }
    if let Some(folder) = &source.data_dir {
        if !folder.is_dir() {
            return Err(Error::folder(folder, "there is no such folder"));
        }
        return Ok(Located { folder: folder.clone(), archive_md5: None });
    }
    if config.dataset == DatasetName::Folder {
        return Err(Error::Setting {
            key: "data.dataset",
            value: "folder".into(),
            rule: "pass the folder with --data DIR".into(),
        });
    }
    let (folder, md5) = fetch_locked(config.dataset, source, progress)?;
    Ok(Located { folder, archive_md5: Some(md5) })
}

/// What the cache holds of a data set: the published archive, or else the first other one.
fn find_cached(cache: &Path, dataset: DatasetName, published: &str) -> Option<(PathBuf, String)> {
    let prefix = format!("{}-", dataset.as_str());
    let mut found: Vec<String> = std::fs::read_dir(cache)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(&prefix).map(String::from))
        .filter(|md5| md5.len() == 32 && md5.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    found.sort_by_key(|md5| (md5 != published, md5.clone()));
    let md5 = found.into_iter().next()?;
    Some((cached(cache, dataset, &md5), md5))
}
