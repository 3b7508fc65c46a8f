//! A `.tgz` to a folder: into a temporary folder that is renamed when all of it is there, and nothing outside it.

use crate::sync::rename_synced;
use crate::{Error, ProgressFn, Result};
use faceoff_runs::{list_folder, unfinished_folder};
use flate2::read::MultiGzDecoder;
use md5::{Digest, Md5};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Component, Path};
use tar::EntryType;

/// Bytes of a name or of what else stands before an entry; systems end paths at 4096.
const MOST_NAME_BYTES: u64 = 64 << 10;
const MOST_ENTRIES: u64 = 4_000_000;
/// All entries together may hold so many bytes, and so many times the archive's own: images hardly pack.
const MOST_BYTES: u64 = 1 << 30;
const MOST_PACKED: u64 = 20;

/// md5 of a file, in hexadecimal.
pub fn md5_of(path: &Path) -> Result<String> {
    let mut digest = Md5::new();
    File::open(path).and_then(|mut file| std::io::copy(&mut file, &mut digest)).map_err(Error::io("read", path))?;
    Ok(hex::encode(digest.finalize()))
}

/// Extracts the one top folder of `archive` as `target`, which must not exist yet, if `check` finds nothing wrong with it.
/// Files and folders only: links, absolute paths, `..` and what would fill memory or disk are refused, and then nothing is left behind.
pub fn extract(
    archive: &Path,
    target: &Path,
    check: &dyn Fn(&Path) -> std::result::Result<(), String>,
    progress: ProgressFn,
) -> Result<()> {
    let refused = |problem: String| Error::Archive { path: archive.to_path_buf(), problem };
    check_bounds(archive)?;
    let temporary = unfinished_folder(target.parent().unwrap_or(Path::new(".")))?;
    let mut tar = open(archive)?;
    let broken = |error: std::io::Error| refused(format!("it is damaged ({error})"));
    let (mut files, mut buffer) = (0, vec![0; 1 << 16]);
    for entry in tar.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let name = || path.display().to_string().escape_debug().to_string();
        if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(refused(format!("its entry `{}` points outside", name())));
        }
        let kind = entry.header().entry_type();
        let to = temporary.path().join(&path);
        if kind.is_dir() {
            std::fs::create_dir_all(&to).map_err(Error::io("create folder", &to))?;
        } else if kind.is_file() {
            let folder = to.parent().expect("the path lies in the temporary folder");
            std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
            if to.symlink_metadata().is_ok() {
                return Err(refused(format!("its entry `{}` stands there twice", name())));
            }
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
        } else if !matches!(kind, EntryType::XGlobalHeader | EntryType::XHeader) {
            return Err(refused(format!("its entry `{}` is a link or something else than a file", name())));
        }
    }
    // The checksum stands behind the last entry, where nothing has looked yet.
    std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(broken)?;
    match &list_folder(temporary.path())?[..] {
        [top] if top.is_dir() => {
            check(top).map_err(refused)?;
            rename_synced(top, target)
        }
        _ => Err(refused("it does not hold one folder".into())),
    }
}

fn open(archive: &Path) -> Result<tar::Archive<MultiGzDecoder<BufReader<File>>>> {
    let file = File::open(archive).map_err(Error::io("open", archive))?;
    Ok(tar::Archive::new(MultiGzDecoder::new(BufReader::with_capacity(1 << 20, file))))
}

/// Reads the archive once without keeping anything: names are read into memory and files written to the disk only where both are of
/// a sensible length.
fn check_bounds(archive: &Path) -> Result<()> {
    let refused = |problem: String| Err(Error::Archive { path: archive.to_path_buf(), problem });
    let broken = |error: std::io::Error| Error::Archive {
        path: archive.to_path_buf(),
        problem: format!("it is damaged ({error})"),
    };
    let length = std::fs::metadata(archive).map_err(Error::io("read", archive))?.len();
    let most = MOST_BYTES.max(MOST_PACKED * length);
    let (mut entries, mut bytes) = (0, 0u64);
    for entry in open(archive)?.entries().map_err(broken)?.raw(true) {
        let entry = entry.map_err(broken)?;
        let size = entry.header().entry_size().map_err(broken)?;
        entries += 1;
        bytes = bytes.saturating_add(size);
        use EntryType::{GNULongLink, GNULongName, XGlobalHeader, XHeader};
        let is_name = matches!(entry.header().entry_type(), GNULongName | GNULongLink | XHeader | XGlobalHeader);
        if is_name && size > MOST_NAME_BYTES {
            return refused(format!("entry {entries} has a name of {size} bytes; {MOST_NAME_BYTES} are allowed"));
        }
        if entries > MOST_ENTRIES || bytes > most {
            return refused(format!(
                "its entries are more than {MOST_ENTRIES} or hold more than {most} bytes, which an archive of {length} bytes should not"
            ));
        }
    }
    Ok(())
}
