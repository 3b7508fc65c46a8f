//! Any images, one by one, as the encoder sees validation images: found in folders and lists, decoded and cut; nothing is kept.

use crate::augment::Viewer;
use crate::cache::read;
use crate::folder::{PassedOver, id_of, is_hidden, is_image, leads_nowhere};
use crate::{Error, Result};
use faceoff_runs::AugmentationConfig;
use rayon::prelude::*;
use std::collections::HashSet;
use std::path::Path;
use walkdir::WalkDir;

/// Image files that were named, or found below folders that were.
#[derive(Debug, Default)]
pub struct AnyImages {
    paths: Vec<String>,
    known: HashSet<String>,
    twice: usize,
    passed_over: PassedOver,
}

impl AnyImages {
    /// A file, whatever it is called and holds; or all images below a folder, sorted by path, by the rules of images of the user's own:
    /// hidden files and what is no image are passed over, links are followed.
    ///
    /// # Errors
    /// A path that leads nowhere, or a name that is no UTF-8; a folder that cannot be read.
    pub fn add(&mut self, path: &Path) -> Result<()> {
        if !path.is_dir() {
            std::fs::metadata(path).map_err(Error::io("read", path))?;
            return self.push(path);
        }
        let mut entries = WalkDir::new(path).min_depth(1).follow_links(true).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if leads_nowhere(&error) => {
                    self.passed_over.add("links that lead nowhere", &id_of(error.path().unwrap_or(path)));
                    continue;
                }
                Err(error) => return Err(Error::folder(path, error)),
            };
            let kind = entry.file_type();
            if is_hidden(&entry.file_name().to_string_lossy()) {
                self.passed_over.add("hidden", &id_of(entry.path()));
                if kind.is_dir() {
                    entries.skip_current_dir();
                }
            } else if kind.is_dir() {
                continue;
            } else if !kind.is_file() {
                self.passed_over.add("neither files nor folders", &id_of(entry.path()));
            } else if !is_image(&entry) {
                self.passed_over.add("no images", &id_of(entry.path()));
            } else {
                self.push(entry.path())?;
            }
        }
        Ok(())
    }

    fn push(&mut self, path: &Path) -> Result<()> {
        let text = path.to_str().ok_or_else(|| {
            Error::folder(path.parent().unwrap_or(path), format!("{} is no valid UTF-8; rename it", path.display()))
        })?;
        match self.known.insert(text.into()) {
            true => self.paths.push(text.into()),
            false => self.twice += 1,
        }
        Ok(())
    }

    /// The paths, each once, in the order in which they were named.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// How many were named or found again.
    pub fn twice(&self) -> usize {
        self.twice
    }

    /// What was passed over, in words.
    pub fn passed_over(&self) -> Option<String> {
        self.passed_over.sentence()
    }
}

/// What the encoder sees of image files without augmentation, `(size, size, 3)` each, RGB; on all threads.
///
/// # Errors
/// For each file its own: what is wrong with it, without its path.
pub fn eval_views<P: AsRef<Path> + Sync>(
    paths: &[P],
    size_px: usize,
    config: &AugmentationConfig,
) -> Vec<std::result::Result<Vec<u8>, String>> {
    let view = |viewer: &mut Viewer, path: &P| {
        let (image, _) = read(path.as_ref()).map_err(|error| error.of_image())?;
        let mut out = vec![0; 3 * size_px * size_px];
        viewer.eval((&image).into(), &mut out);
        Ok(out)
    };
    paths.par_iter().map_init(|| Viewer::new(size_px, config), view).collect()
}
