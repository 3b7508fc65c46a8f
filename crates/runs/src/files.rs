//! Writing without half-written files, and one writer a folder.
//!
//! A folder's lock is the file `.lock` in it; that of a run, whose folder may be cleared while it is locked, lies in `.locks/` of the
//! report folder. Locks are the system's (`flock`): they hold among all machines that share a file system which hands them on (see
//! [`warn_of_local_locks`]), and end with their process, however that ends.
//!
//! Beside its lock a folder has a list of the files and folders that are being written below it. What a killed process left of them is
//! removed by the next one that takes the lock: what the list names, and nothing else, whatever it is called.

use crate::{Error, Result, RunFolder};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufWriter, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tempfile::{NamedTempFile, TempDir};

/// How the names of unfinished files and folders begin, everywhere.
pub(crate) const PARTIAL_PREFIX: &str = ".partial-";
const LOCK: &str = ".lock";
/// One path a line, relative to the folder; there while the folder is locked or after a kill.
const UNFINISHED: &str = ".faceoff-unfinished";
/// How long a process that was just killed may hold a lock, with a margin.
const PATIENCE: Duration = Duration::from_secs(5);

/// Folders that this process has locked, each with its list.
static LOCKED: Mutex<Vec<(PathBuf, PathBuf)>> = Mutex::new(Vec::new());

fn locked() -> MutexGuard<'static, Vec<(PathBuf, PathBuf)>> {
    LOCKED.lock().expect("nothing panics while it holds the list of locked folders")
}

/// Writes a file whole or not at all: to a temporary file in the same folder, flushed to the disk, then renamed.
///
/// The folder is made if it does not exist. On any error the temporary file is removed and what stood at `path` stays.
pub fn write_atomically(path: &Path, write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    write_file_atomically(path, |file| {
        let mut buffered = BufWriter::with_capacity(1 << 20, file);
        write(&mut buffered).and_then(|()| buffered.flush())
    })
}

/// The same with the file itself, unbuffered, for who has to go back in it and read there.
pub fn write_file_atomically(path: &Path, write: impl FnOnce(&mut File) -> std::io::Result<()>) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
    let mut temporary = unfinished_file(folder).map_err(Error::io("create a temporary file in", folder))?;
    write(temporary.as_file_mut()).map_err(Error::io("write", path))?;
    temporary.as_file().sync_all().map_err(Error::io("write", path))?;
    temporary.persist(path).map_err(|error| Error::io("rename to", path)(error.error))?;
    Ok(())
}

fn unfinished_file(folder: &Path) -> std::io::Result<NamedTempFile<File>> {
    tempfile::Builder::new().prefix(PARTIAL_PREFIX).make_in(folder, |path| {
        note_unfinished(path)?;
        // Not private, as temporary files are by default: results are meant to be read by others.
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    })
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
    let around = locked.iter().filter_map(|(folder, list)| Some((list, path.strip_prefix(folder).ok()?)));
    let Some((list, below)) = around.min_by_key(|(_, below)| below.components().count()) else { return Ok(()) };
    let mut list = OpenOptions::new().append(true).create(true).open(list)?;
    list.write_all(format!("{}\n", below.display()).as_bytes())
}

/// Sole right to write below a folder, held as long as the value lives; the system releases it if the process dies.
#[derive(Debug)]
pub struct FolderLock {
    list: PathBuf,
    _file: File,
}

impl FolderLock {
    /// Takes the lock of `folder` (made if needed). Where another process holds it, tells `say` and waits a few seconds: one that was
    /// just killed holds it for a moment.
    ///
    /// # Errors
    /// [`Error::Locked`] where it is still held then; [`Error::NoLocks`]; a file that cannot be written, or is a link.
    pub fn take(folder: &Path, say: &dyn Fn(&str)) -> Result<Self> {
        let patient = |file: &File| {
            say(&format!(
                "{} is in use by another process; waiting up to {} s for its end",
                folder.display(),
                PATIENCE.as_secs()
            ));
            let started = Instant::now();
            while started.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(50));
                if file.try_lock().is_ok() {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        Self::of_folder(folder, patient)?.ok_or_else(|| Error::Locked { folder: folder.to_path_buf() })
    }

    /// Takes the lock of `folder` (made if needed); where another process holds it, tells `waiting` and waits.
    ///
    /// # Errors
    /// [`Error::NoLocks`]; a file that cannot be written, or is a link.
    pub fn wait(folder: &Path, waiting: impl FnOnce()) -> Result<Self> {
        let wait = |file: &File| {
            waiting();
            file.lock().map(|()| true).map_err(Error::io("lock", folder))
        };
        Ok(Self::of_folder(folder, wait)?.expect("waiting ends with the lock"))
    }

    /// Takes the lock of a run; `None` where another process holds it, see [`FolderLock::holder`]. Whoever is asked will find that `me`
    /// holds it. What other machines did in the run's folder is seen from here on.
    ///
    /// # Errors
    /// As [`FolderLock::wait`].
    pub fn of_run(run: &RunFolder, me: &str) -> Result<Option<Self>> {
        let [path, list] = [run.lock_path(LOCK), run.lock_path(UNFINISHED)];
        let Some(lock) = Self::lock(run.path(), path.clone(), list, |_| Ok(false))? else { return Ok(None) };
        let noted = lock._file.set_len(0).and_then(|()| (&lock._file).write_all(me.as_bytes()));
        noted.map_err(Error::io("write", path))?;
        if run.path().is_dir() {
            // A client of a network file system believes what it knows of a folder for a while, unless it changes something there.
            drop(unfinished_file(run.path()));
        }
        Ok(Some(lock))
    }

    /// Who holds the lock of a run, or held it last, in words; empty where that is not known.
    pub fn holder(run: &RunFolder) -> String {
        std::fs::read_to_string(run.lock_path(LOCK)).unwrap_or_default()
    }

    fn of_folder(folder: &Path, in_use: impl FnOnce(&File) -> Result<bool>) -> Result<Option<Self>> {
        std::fs::create_dir_all(folder).map_err(Error::io("create folder", folder))?;
        Self::lock(folder, folder.join(LOCK), folder.join(UNFINISHED), in_use)
    }

    /// Takes the lock in the file `path`; where another process holds it, `in_use` says whether it was got in the end.
    fn lock(
        folder: &Path,
        path: PathBuf,
        list: PathBuf,
        in_use: impl FnOnce(&File) -> Result<bool>,
    ) -> Result<Option<Self>> {
        let beside = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(beside).map_err(Error::io("create folder", beside))?;
        // A link may lead to a file of the user: neither is followed, and what stands in the lock file of a folder stays.
        for own in [&path, &list] {
            if own.symlink_metadata().is_ok_and(|metadata| !metadata.is_file()) {
                let problem = std::io::Error::other("it is a link or no file; remove it, or choose another folder");
                return Err(Error::io("lock the folder by", own)(problem));
            }
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                if !in_use(&file)? {
                    return Ok(None);
                }
            }
            Err(TryLockError::Error(source)) => return Err(Error::NoLocks { path, source }),
        }
        remove_unfinished(folder, &list)?;
        locked().push((folder.to_path_buf(), list.clone()));
        Ok(Some(Self { list, _file: file }))
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        let mut locked = locked();
        if let Some(place) = locked.iter().position(|(_, list)| *list == self.list) {
            locked.swap_remove(place);
        }
        // Everything in it is finished or removed by now. One that stays names nothing that is there.
        let _ = std::fs::remove_file(&self.list);
    }
}

/// What is to be said of a folder on a file system whose locks other machines do not see, as far as Linux tells; `None` where
/// nothing is known against them.
pub fn warn_of_local_locks(folder: &Path) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let folder = folder.ancestors().find_map(|above| above.canonicalize().ok())?;
    let (system, why) = local_locks(&folder, &mounts)?;
    Some(format!(
        "{} lies on a file system ({system}) {why}: let no other machine take runs of it at the same time, or give each its own by \
         --shard",
        folder.display()
    ))
}

/// The type of the file system that `folder` lies on, by the lines of `/proc/self/mountinfo`, and why its locks are those of this machine
/// alone.
fn local_locks<'a>(folder: &Path, mounts: &'a str) -> Option<(&'a str, &'static str)> {
    let mounts = mounts.lines().filter_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(4);
        let (point, here) = (fields.next()?.replace("\\040", " "), fields.next()?);
        let mut fields = file_system.split(' ');
        let system = fields.next()?;
        Some((point, system, here.split(',').chain(fields.nth(1)?.split(','))))
    });
    let around = mounts.filter(|(point, ..)| folder.starts_with(point));
    // Of two at one place the later one is seen.
    let (_, system, mut options) = around.max_by_key(|(point, ..)| point.len())?;
    let mut has = |names: &[&str]| options.any(|option| names.contains(&option));
    match system {
        "nfs" | "nfs4" if has(&["nolock", "local_lock=all", "local_lock=flock"]) => {
            Some((system, "mounted so that locks hold on this machine alone"))
        }
        "lustre" if has(&["localflock"]) => Some((system, "mounted so that locks hold on this machine alone")),
        // The kernel keeps locks to this machine where the program behind the mount does not ask for them.
        "fuse.sshfs" | "fuse.rclone" | "fuse.s3fs" | "fuse.gcsfuse" | "fuse.mergerfs" | "fuse.bindfs" => {
            Some((system, "whose locks hold on this machine alone"))
        }
        _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_with_locks_of_one_machine_are_known() {
        let mounts = "22 1 0:20 / / rw - ext4 /dev/sda rw\n\
            31 22 0:44 / /mnt/with\\040space rw,relatime shared:1 - nfs4 host:/a rw,vers=4.2,local_lock=none\n\
            32 22 0:45 / /mnt/old rw - nfs host:/b rw,vers=3,nolock,local_lock=all\n\
            33 22 0:46 / /mnt/ssh rw - fuse.sshfs host: rw\n\
            34 22 0:47 / /mnt/lustre rw,localflock - lustre host:/l rw,flock\n";
        let found = |folder: &str| local_locks(Path::new(folder), mounts).map(|(system, _)| system);
        assert_eq!(found("/home"), None);
        assert_eq!(found("/mnt/with space/reports"), None);
        assert_eq!(found("/mnt/old/reports"), Some("nfs"));
        assert_eq!(found("/mnt/older"), None);
        assert_eq!(found("/mnt/ssh"), Some("fuse.sshfs"));
        assert_eq!(found("/mnt/lustre/a"), Some("lustre"));
    }
}
