//! Writing without half-written files, and one writer a folder.

use crate::{Error, Result};
use std::fs::{File, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// How the names of unfinished files and folders begin, everywhere. What a killed process left of them is removed by the
/// next one that takes the folder's lock.
pub const PARTIAL_PREFIX: &str = ".partial-";

/// Writes a file whole or not at all: to a temporary file in the same folder, flushed to the disk, then renamed.
///
/// The folder is made if it does not exist. On any error the temporary file is removed and what stood at `path` stays.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(PARTIAL_PREFIX);
    // Temporary files are private by default; results are meant to be read by others.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut temporary = builder.tempfile_in(folder).map_err(Error::io("create a temporary file in", folder))?;
    let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    write(&mut buffered).and_then(|()| buffered.flush()).map_err(Error::io("write", path))?;
    drop(buffered);
    temporary.as_file().sync_all().map_err(Error::io("write", path))?;
    temporary.persist(path).map_err(|error| Error::io("rename to", path)(error.error))?;
    Ok(())
}

/// Sole right to write below a folder, held as long as the value lives; the system releases it if the process dies.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock of `folder` (made if needed) or fails at once with [`Error::Locked`].
    pub fn take(folder: &Path) -> Result<Self> {
        Self::lock(folder, |_| Err(Error::Locked { folder: folder.to_path_buf() }))
    }

    /// Takes the lock of `folder` (made if needed); where another process holds it, tells `waiting` and waits.
    pub fn wait(folder: &Path, waiting: impl FnOnce()) -> Result<Self> {
        Self::lock(folder, |file| {
            waiting();
            file.lock().map_err(Error::io("lock", folder))
        })
    }

    fn lock(folder: &Path, in_use: impl FnOnce(&File) -> Result<()>) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        let path = folder.join(".lock");
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => in_use(&file)?,
            Err(TryLockError::Error(source)) => return Err(Error::Io { action: "lock", path, source }),
        }
        remove_unfinished(folder)?;
        Ok(Self { _file: file })
    }
}

/// Removes what a killed process left unfinished below `folder`.
fn remove_unfinished(folder: &Path) -> Result<()> {
    for path in list_folder(folder)? {
        let unfinished = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL_PREFIX));
        // What a link points to is not looked into.
        match (unfinished, path.is_dir() && !path.is_symlink()) {
            (true, true) => std::fs::remove_dir_all(&path).map_err(Error::io("remove", path))?,
            (true, false) => std::fs::remove_file(&path).map_err(Error::io("remove", path))?,
            (false, true) => remove_unfinished(&path)?,
            (false, false) => {}
        }
    }
    Ok(())
}

/// The paths of all that a folder holds, sorted.
pub fn list_folder(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    let mut paths: Vec<PathBuf> = entries.map_err(Error::io("list", folder))?;
    paths.sort();
    Ok(paths)
}

/// Removes a file or a folder with everything in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
