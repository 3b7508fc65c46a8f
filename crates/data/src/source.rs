//! Where a data set is: in a given folder or archive, in the cache folder, or to be downloaded or made.

use crate::archive::{extract, md5_of};
use crate::synthetic;
use crate::{Download, Error, Patience, Report, Result};
use faceoff_runs::{DataConfig, DatasetName};
use std::path::{Path, PathBuf};

/// What the user says about the place of the images.
#[derive(Debug, Clone)]
pub struct Source {
    /// A folder with `train/` and `val/`.
    pub data_dir: Option<PathBuf>,
    /// An archive of the data set.
    pub archive: Option<PathBuf>,
    /// The folder for what is fetched, made and decoded.
    pub cache_dir: PathBuf,
}

/// A data set's folder.
#[derive(Debug)]
pub(crate) struct Located {
    pub(crate) folder: PathBuf,
    pub(crate) archive_md5: Option<String>,
}

/// Imagewoof's archives: published by fast.ai, the md5 by Catalyst.
fn download_of(dataset: DatasetName) -> Option<Download> {
    let md5 = match dataset {
        DatasetName::Imagewoof160 => "3d200a7be99704a0d7509be2a9fbfe15",
        DatasetName::Imagewoof320 => "0f46d997ec2264e97609196c95897a44",
        _ => return None,
    };
    let url = format!("https://s3.amazonaws.com/fast-ai-imageclas/{}.tgz", dataset.as_str());
    Some(Download { url, md5: md5.into() })
}

/// Brings Imagewoof into the cache folder: from `source.archive`, or by download. Returns its folder and the archive's md5.
pub fn fetch(dataset: DatasetName, source: &Source, report: Report) -> Result<(PathBuf, String)> {
    let cache = &source.cache_dir;
    if let Some(archive) = &source.archive {
        let md5 = md5_of(archive)?;
        let folder = cached(cache, dataset, &md5);
        if !folder.exists() {
            extract(archive, &folder, report)?;
        }
        return Ok((folder, md5));
    }
    let download = download_of(dataset).ok_or_else(|| Error::Setting {
        key: "data.dataset",
        value: dataset.as_str().into(),
        rule: "only Imagewoof can be downloaded; pass --data DIR or --archive FILE".into(),
    })?;
    let folder = cached(cache, dataset, &download.md5);
    if !folder.exists() {
        let archive = cache.join(format!("{}.tgz", dataset.as_str()));
        if !archive.exists() {
            download.run(&archive, Patience::default(), report)?;
        }
        extract(&archive, &folder, report)?;
        std::fs::remove_file(&archive).map_err(Error::io("remove", &archive))?;
    }
    Ok((folder, download.md5))
}

/// An extracted archive carries its md5 in its name, so that two of one data set never mix.
fn cached(cache: &Path, dataset: DatasetName, md5: &str) -> PathBuf {
    cache.join(format!("{}-{md5}", dataset.as_str()))
}

pub(crate) fn locate(config: &DataConfig, source: &Source, report: Report) -> Result<Located> {
    if config.dataset == DatasetName::Synthetic {
        let synthetic = config.synthetic.as_ref().ok_or_else(|| Error::Setting {
            key: "data.synthetic",
            value: "absent".into(),
            rule: "the synthetic set needs a [data.synthetic] table".into(),
        })?;
        return Ok(Located {
            folder: synthetic::folder(synthetic, &source.cache_dir, report)?,
            archive_md5: None,
        });
    }
    #[cfg(feature = "extra-datasets")]
    if let Some(folder) = crate::extra::folder(config.dataset, source, report)? {
        return Ok(Located { folder, archive_md5: None });
    }
    #[cfg(not(feature = "extra-datasets"))]
    if matches!(config.dataset, DatasetName::Cifar10 | DatasetName::Mnist | DatasetName::FashionMnist) {
        return Err(Error::Setting {
            key: "data.dataset",
            value: config.dataset.as_str().into(),
            rule: "this build has no candle-datasets; run: cargo run --release -p xtask --features extra-datasets -- benchmark"
                .into(),
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
    if source.archive.is_none()
        && let Some((folder, md5)) = find_cached(&source.cache_dir, config.dataset)
    {
        return Ok(Located { folder, archive_md5: Some(md5) });
    }
    let (folder, md5) = fetch(config.dataset, source, report)?;
    Ok(Located { folder, archive_md5: Some(md5) })
}

/// What the cache holds of a data set: the published archive, or else the first other one.
fn find_cached(cache: &Path, dataset: DatasetName) -> Option<(PathBuf, String)> {
    let published = download_of(dataset)?.md5;
    let prefix = format!("{}-", dataset.as_str());
    let mut found: Vec<String> = std::fs::read_dir(cache)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_prefix(&prefix).map(String::from))
        .filter(|md5| md5.len() == 32 && md5.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .collect();
    found.sort_by_key(|md5| (*md5 != published, md5.clone()));
    let md5 = found.into_iter().next()?;
    Some((cached(cache, dataset, &md5), md5))
}
