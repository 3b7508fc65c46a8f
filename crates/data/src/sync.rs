//! Folders that survive a power cut: what they hold is on the disk before they get their name.

use crate::{Error, Result};
use std::fs::File;
use std::path::Path;

/// Gives the folder `from` its name `to` once everything below it is on the disk, and waits until the name is too.
pub(crate) fn rename_synced(from: &Path, to: &Path) -> Result<()> {
    write_out(from).map_err(Error::io("write to the disk", from))?;
    std::fs::rename(from, to).map_err(Error::io("rename", from))?;
    let folder = to.parent().expect("it has a name, so a folder is around it");
    // Elsewhere a folder cannot be opened.
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("write to the disk", folder))
    } else {
        Ok(())
    }
}

/// The whole file system at once: a call for each of thousands of files would take minutes.
#[cfg(target_os = "linux")]
fn write_out(folder: &Path) -> std::io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(folder)?)?)
}

#[cfg(not(target_os = "linux"))]
fn write_out(folder: &Path) -> std::io::Result<()> {
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry?;
        if entry.file_type().is_file() {
            File::options().append(true).open(entry.path())?.sync_all()?;
        }
    }
    Ok(())
}
