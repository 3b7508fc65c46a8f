//! The errors of this crate: each carries the value or path, the rule and the remedy.

use std::path::{Path, PathBuf};

/// What can go wrong with images.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The download did not come through.
    #[error(
        "{url} cannot be downloaded: {problem}; fetch the file (md5 {md5}) elsewhere and pass it with --archive FILE, or pass a folder with --data DIR"
    )]
    Download {
        /// The address.
        url: String,
        /// The published md5.
        md5: String,
        /// What happened.
        problem: String,
    },
    /// The downloaded file is not the published one.
    #[error(
        "{url} gave a file with md5 {found} instead of {md5}; it was removed. Try again later, or pass a good file with --archive FILE"
    )]
    WrongFile {
        /// The address.
        url: String,
        /// The published md5.
        md5: String,
        /// The md5 of what came.
        found: String,
    },
    /// An archive that cannot be used.
    #[error("archive {path}: {problem}; nothing was extracted. Get the archive again")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A folder that is no data set.
    #[error(
        "{path}: {problem}; a data set has images in train/<class>/ and val/<class>/, one's own also in <class>/ alone"
    )]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A table of images that cannot be used.
    #[error("{path}: {problem}")]
    Table {
        /// The table.
        path: PathBuf,
        /// What is wrong with it, and the remedy.
        problem: String,
    },
    /// The files are not those of the data set's own list.
    #[error(
        "{path} does not hold the files that {list} lists: {problem}; extract the archive again (a folder in the cache: remove it and run the same command again)"
    )]
    FileList {
        /// The folder.
        path: PathBuf,
        /// The list.
        list: String,
        /// Counts per class, and examples.
        problem: String,
    },
    /// An image that cannot be decoded.
    #[error("image {path} cannot be decoded: {problem}; {}", remedy_of_image(cached.as_deref()))]
    Image {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// The folder of the cache that it lies in, where that is made again once it is removed.
        cached: Option<PathBuf>,
    },
    /// Several of them.
    #[error("{first}. So it is with {others} more of {total} images: `data verify` names them all")]
    Images {
        /// The first one's error.
        first: Box<Error>,
        /// How many more.
        others: usize,
        /// Images in all.
        total: usize,
    },
    /// The file of decoded images changed while it was in use, or is damaged.
    #[error(
        "the decoded images in {path} cannot be used: {problem}; remove the file and run the same command again, which makes it anew and loses nothing"
    )]
    Cache {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting that the data set cannot fulfil.
    #[error("{key} = {value}: {rule}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// Reading or writing a file failed.
    #[error(transparent)]
    Runs(#[from] faceoff_runs::Error),
}

fn remedy_of_image(cached: Option<&Path>) -> String {
    match cached {
        Some(folder) => {
            format!("remove the folder {}, and the same command brings all of its images back", folder.display())
        }
        None => "replace or remove the file, or leave it out of images of your own with --skip-unreadable".into(),
    }
}

impl Error {
    /// For `map_err`: the system's answer with what was tried on what.
    pub(crate) fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Runs(faceoff_runs::Error::Io { action, path, source })
    }

    pub(crate) fn setting(key: &'static str, value: impl ToString, rule: impl Into<String>) -> Self {
        Self::Setting { key, value: value.to_string(), rule: rule.into() }
    }

    pub(crate) fn folder(path: &Path, problem: impl ToString) -> Self {
        Self::Folder { path: path.to_path_buf(), problem: problem.to_string() }
    }

    pub(crate) fn table(path: &Path, problem: impl ToString) -> Self {
        Self::Table { path: path.to_path_buf(), problem: problem.to_string() }
    }

    /// An error about images that lie in `folder` of the cache, which is made again once it is removed.
    pub(crate) fn in_cache(self, folder: &Path) -> Self {
        match self {
            Self::Image { path, problem, .. } => Self::Image { path, problem, cached: Some(folder.into()) },
            Self::Images { first, others, total } => {
                Self::Images { first: Box::new(first.in_cache(folder)), others, total }
            }
            other => other,
        }
    }

    /// What is wrong with an image, without its path.
    pub(crate) fn of_image(&self) -> String {
        match self {
            Self::Image { problem, .. } => problem.clone(),
            Self::Runs(faceoff_runs::Error::Io { source, .. }) => source.to_string(),
            other => other.to_string(),
        }
    }

    /// Whether the images could not be had at all, so that others may stand in: no download was possible.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Download { .. })
    }
}
