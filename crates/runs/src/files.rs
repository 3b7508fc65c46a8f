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
    let mut temporary = tempfile::Builder::new()
        .prefix(PARTIAL_PREFIX)
        .permissions_if_unix()
        .tempfile_in(folder)
        .map_err(Error::io("create a temporary file in", folder))?;
    let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    write(&mut buffered).and_then(|()| buffered.flush()).map_err(Error::io("write", path))?;
    drop(buffered);
    temporary.as_file().sync_all().map_err(Error::io("write", path))?;
    temporary.persist(path).map_err(|error| Error::io("rename to", path)(error.error))?;
    Ok(())
}

/// Temporary files are private by default; results are meant to be read by others.
trait PermissionsIfUnix {
    fn permissions_if_unix(&mut self) -> &mut Self;
}

impl PermissionsIfUnix for tempfile::Builder<'_, '_> {
    #[cfg(unix)]
    fn permissions_if_unix(&mut self) -> &mut Self {
        use std::os::unix::fs::PermissionsExt;
        self.permissions(std::fs::Permissions::from_mode(0o644))
    }

    #[cfg(not(unix))]
    fn permissions_if_unix(&mut self) -> &mut Self {
        self
    }
}

/// Sole right to write below a folder, held as long as the value lives; the system releases it if the process dies.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock of `folder` (made if needed) or fails at once with [`Error::Locked`].
    pub fn take(folder: &Path) -> Result<Self> {
        Self::try_take(folder)?.ok_or_else(|| Error::Locked { folder: folder.to_path_buf() })
    }

    /// Takes the lock of `folder` (made if needed); where another process holds it, tells `waiting` and waits.
    pub fn wait(folder: &Path, waiting: impl FnOnce()) -> Result<Self> {
        if let Some(lock) = Self::try_take(folder)? {
            return Ok(lock);
        }
        waiting();
        let (path, file) = Self::open(folder)?;
        file.lock().map_err(Error::io("lock", path))?;
        remove_unfinished(folder)?;
        Ok(Self { _file: file })
    }

    fn try_take(folder: &Path) -> Result<Option<Self>> {
        let (path, file) = Self::open(folder)?;
        match file.try_lock() {
            Ok(()) => {
                remove_unfinished(folder)?;
                Ok(Some(Self { _file: file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => Err(Error::Io { action: "lock", path, source }),
        }
    }

    fn open(folder: &Path) -> Result<(PathBuf, File)> {
        std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        let path = folder.join(".lock");
        let file = File::create(&path).map_err(Error::io("create", &path))?;
        Ok((path, file))
    }
}

/// Removes what a killed process left unfinished below `folder`.
fn remove_unfinished(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(Error::io("list", folder))?);
        let unfinished = entry.file_name().to_string_lossy().starts_with(PARTIAL_PREFIX);
        match (unfinished, kind.is_dir()) {
            (true, true) => std::fs::remove_dir_all(&path).map_err(Error::io("remove", path))?,
            (true, false) => std::fs::remove_file(&path).map_err(Error::io("remove", path))?,
            (false, true) => remove_unfinished(&path)?,
            (false, false) => {}
        }
    }
    Ok(())
}
