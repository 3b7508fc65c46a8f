//! Writing without half-written files, and one writer a folder.
//!
//! Beside its lock a folder has a list of the files and folders that are being written below it. What a killed process left of them is
//! removed by the next one that takes the lock: what the list names, and nothing else, whatever it is called.

use crate::{Error, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How the names of unfinished files and folders begin, everywhere.
pub(crate) const PARTIAL_PREFIX: &str = ".partial-";
const LOCK: &str = ".lock";
/// One path a line, relative to the folder; there while the folder is locked or after a kill.
const UNFINISHED: &str = ".faceoff-unfinished";
/// How long a process that was just killed may hold a lock, with a margin.
const PATIENCE: Duration = Duration::from_secs(5);

/// Folders that this process has locked.
static LOCKED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn locked() -> MutexGuard<'static, Vec<PathBuf>> {
    LOCKED.lock().expect("nothing panics while it holds the list of locked folders")
}

/// Writes a file whole or not at all: to a temporary file in the same folder, flushed to the disk, then renamed.
///
/// The folder is made if it does not exist. On any error the temporary file is removed and what stood at `path` stays.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
    let create = |path: &Path| {
        note_unfinished(path)?;
        // Not private, as temporary files are by default: results are meant to be read by others.
        OpenOptions::new().write(true).create_new(true).open(path)
    };
    let temporary = tempfile::Builder::new().prefix(PARTIAL_PREFIX).make_in(folder, create);
    let mut temporary = temporary.map_err(Error::io("create a temporary file in", folder))?;
    let mut buffered = BufWriter::with_capacity(1 << 20, temporary.as_file_mut());
    write(&mut buffered).and_then(|()| buffered.flush()).map_err(Error::io("write", path))?;
    drop(buffered);
    temporary.as_file().sync_all().map_err(Error::io("write", path))?;
    temporary.persist(path).map_err(|error| Error::io("rename to", path)(error.error))?;
    Ok(())
}

/// A folder in `parent` (made if needed) to put files together in, before it is renamed. Dropping it removes it.
pub fn unfinished_folder(parent: &Path) -> Result<TempDir> {
    std::fs::create_dir_all(parent).map_err(Error::io("create folder", parent))?;
    let folder = tempfile::Builder::new().prefix(PARTIAL_PREFIX).tempdir_in(parent);
    let folder = folder.and_then(|folder| note_unfinished(folder.path()).map(|()| folder));
    folder.map_err(Error::io("create a temporary folder in", parent))
}

/// Writes a path into the list of the locked folder around it; outside of all of them nothing is noted.
fn note_unfinished(path: &Path) -> std::io::Result<()> {
    let locked = locked();
    let around = locked.iter().filter_map(|folder| Some((folder, path.strip_prefix(folder).ok()?)));
    let Some((folder, below)) = around.min_by_key(|(_, below)| below.components().count()) else { return Ok(()) };
    let mut list = OpenOptions::new().append(true).create(true).open(folder.join(UNFINISHED))?;
    list.write_all(format!("{}\n", below.display()).as_bytes())
}

/// Sole right to write below a folder, held as long as the value lives; the system releases it if the process dies.
#[derive(Debug)]
pub struct FolderLock {
    folder: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Takes the lock of `folder` (made if needed). Where another process holds it, tells `say` and waits a few seconds: one that was
    /// just killed holds it for a moment.
    ///
    /// # Errors
    /// [`Error::Locked`] where it is still held then; a file that cannot be written, or is a link.
    pub fn take(folder: &Path, say: &dyn Fn(&str)) -> Result<Self> {
        Self::lock(folder, |file| {
            say(&format!(
                "{} is in use by another process; waiting up to {} s for its end",
                folder.display(),
                PATIENCE.as_secs()
            ));
            let started = Instant::now();
            while started.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(50));
                if file.try_lock().is_ok() {
                    return Ok(());
                }
            }
            Err(Error::Locked { folder: folder.to_path_buf() })
        })
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
        let [path, list] = [LOCK, UNFINISHED].map(|name| folder.join(name));
        // A link may lead to a file of the user: neither is followed, and what stands in the lock file stays.
        for own in [&path, &list] {
            if own.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
                let problem = std::io::Error::other("it is a link or no file; remove it, or choose another folder");
                return Err(Error::io("lock the folder by", own)(problem));
            }
        }
        let file = OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => in_use(&file)?,
            Err(TryLockError::Error(source)) => return Err(Error::Io { action: "lock", path, source }),
        }
        remove_unfinished(folder, &list)?;
        locked().push(folder.to_path_buf());
        Ok(Self { folder: folder.to_path_buf(), _file: file })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let mut locked = locked();
        if let Some(place) = locked.iter().position(|folder| *folder == self.folder) {
            locked.swap_remove(place);
        }
        // Everything in it is finished or removed by now. One that stays names nothing that is there.
        let _ = std::fs::remove_file(self.folder.join(UNFINISHED));
    }
}

/// Removes what a killed process left unfinished below `folder`, as its list says.
fn remove_unfinished(folder: &Path, list: &Path) -> Result<()> {
    if !list.exists() {
        return Ok(());
    }
    let lines = std::fs::read_to_string(list).map_err(Error::io("read", list))?;
    for below in lines.lines().map(Path::new) {
        let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
        let ours = below.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL_PREFIX));
        let path = folder.join(below);
        if inside && ours && !path.is_symlink() {
            remove(&path)?;
        }
    }
    remove(list)
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
