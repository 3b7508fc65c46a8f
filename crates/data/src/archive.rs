//! A `.tgz` to a folder: into a temporary folder that is renamed when all of it is there, and nothing outside it.

use crate::{Error, ProgressFn, Result};
use faceoff_runs::{PARTIAL_PREFIX, list_folder};
use flate2::read::GzDecoder;
use md5::{Digest, Md5};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Component, Path};
use tempfile::TempDir;

/// md5 of a file, in hexadecimal.
pub fn md5_of(path: &Path) -> Result<String> {
    let mut digest = Md5::new();
    File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut digest)).map_err(Error::io("read", path))?;
    Ok(hex::encode(digest.finalize()))
}

/// Extracts the one top folder of `archive` as `target`, which must not exist yet, if `check` finds nothing wrong with it.
/// Files and folders only: links, absolute paths and `..` are refused, and then nothing is left behind.
pub fn extract(
    archive: &Path,
    target: &Path,
    check: &dyn Fn(&Path) -> std::result::Result<(), String>,
    progress: ProgressFn,
) -> Result<()> {
    let refused = |problem: String| Error::Archive { path: archive.to_path_buf(), problem };
    let temporary = unfinished_folder(target.parent().unwrap_or(Path::new(".")))?;
    let file = File::open(archive).map_err(Error::io("open", archive))?;
    let mut tar = tar::Archive::new(GzDecoder::new(BufReader::with_capacity(1 << 20, file)));
    let broken = |error: std::io::Error| refused(format!("it is damaged ({error})"));
    let (mut files, mut buffer) = (0, vec![0; 1 << 16]);
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(refused(format!("its entry `{}` points outside", path.display())));
        }
        let kind = entry.header().entry_type();
        let to = temporary.path().join(&path);
        if kind.is_dir() {
            std::fs::create_dir_all(&to).map_err(Error::io("create folder", &to))?;
        } else if kind.is_file() {
            let folder = to.parent().expect("the path lies in the temporary folder");
            std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
            let mut out = File::create_new(&to).map_err(Error::io("create", &to))?;
            // `std::io::copy` would not tell a damaged archive from a full disk.
            loop {
                let count = entry.read(&mut buffer).map_err(broken)?;
                if count == 0 {
                    break;
                }
                out.write_all(&buffer[..count]).map_err(Error::io("write", &to))?;
            }
            files += 1;
            progress("extract", files, 0);
        } else if !matches!(kind, tar::EntryType::XGlobalHeader | tar::EntryType::XHeader) {
            return Err(refused(format!("its entry `{}` is a link or something else than a file", path.display())));
        }
    }
    // The checksum stands behind the last entry, where nothing has looked yet.
    std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(broken)?;
    match &list_folder(temporary.path())?[..] {
        [top] if top.is_dir() => {
            check(top).map_err(refused)?;
            std::fs::rename(top, target).map_err(Error::io("rename", top))
        }
        _ => Err(refused("it does not hold one folder".into())),
    }
}

/// A folder in `parent` (made if needed) to put files together in, before it is renamed. Dropping it removes it.
pub(crate) fn unfinished_folder(parent: &Path) -> Result<TempDir> {
    std::fs::create_dir_all(parent).map_err(Error::io("create folder", parent))?;
    let folder = tempfile::Builder::new().prefix(PARTIAL_PREFIX).tempdir_in(parent);
    folder.map_err(Error::io("create a temporary folder in", parent))
}
