//! Archives, good and bad.

use crate::quiet;
use faceoff_data::{Error, extract};
use flate2::Compression;
use flate2::write::GzEncoder;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

fn anything(_: &Path) -> Result<(), String> {
    Ok(())
}

/// An archive of (path, kind, contents).
fn archive(folder: &Path, entries: &[(&str, EntryType, &[u8])]) -> PathBuf {
    let path = folder.join("set.tgz");
    let mut builder = Builder::new(GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::fast()));
    for (name, kind, contents) in entries {
        let mut header = Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        header.set_entry_type(*kind);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("/etc/passwd").unwrap();
        }
        // Written past the checks of `set_path`, as an attacker would.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, *contents).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap();
    path
}

/// The refusal, after checking that nothing is left behind.
fn refusal(entries: &[(&str, EntryType, &[u8])]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(folder.path(), entries);
    let error = extract(&path, &folder.path().join("deep/target"), &anything, &quiet).unwrap_err();
    assert!(matches!(error, Error::Archive { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path().join("deep")).map_or(0, Iterator::count), 0);
    assert!(!folder.path().join("x").exists() && !folder.path().join("deep/x").exists());
    error.to_string()
}

#[test]
fn a_good_archive_becomes_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let entries: [(&str, EntryType, &[u8]); 3] = [
        ("set/", EntryType::Directory, b""),
        ("set/train/a/1.JPEG", EntryType::Regular, b"one"),
        ("./set/list.csv", EntryType::Regular, b"two"),
    ];
    let target = folder.path().join("target");
    extract(&archive(folder.path(), &entries), &target, &anything, &quiet).unwrap();
    assert_eq!(std::fs::read(target.join("train/a/1.JPEG")).unwrap(), b"one");
    assert_eq!(std::fs::read(target.join("list.csv")).unwrap(), b"two");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// A whole archive of an incomplete data set must not come to stand in the cache.
#[test]
fn what_the_check_refuses_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = archive(folder.path(), &[("set/train/a/1.JPEG", EntryType::Regular, b"one")]);
    let check = |top: &Path| Err(format!("there is no val/ in {}", top.file_name().unwrap().display()));
    let error = extract(&path, &folder.path().join("target"), &check, &quiet).unwrap_err();
    assert!(matches!(error, Error::Archive { .. }) && error.to_string().contains("no val/ in set"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_points_outside_is_refused() {
    let good = ("set/1.JPEG", EntryType::Regular, &b"one"[..]);
    for bad in ["../x", "set/../../x", "/tmp/x"] {
        let message = refusal(&[good, (bad, EntryType::Regular, b"evil")]);
        assert!(message.contains(bad) && message.contains("points outside"), "{message}");
    }
    for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo] {
        let message = refusal(&[good, ("set/link", kind, b"")]);
        assert!(message.contains("`set/link` is a link"), "{message}");
    }
}

#[test]
fn a_truncated_archive_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..200_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = archive(folder.path(), &[("set/1.JPEG", EntryType::Regular, &noise)]);
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 10, bytes.len() / 2, bytes.len() - 4] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let Err(error) = extract(&path, &folder.path().join("target"), &anything, &quiet) else {
            panic!("{length} of {} bytes pass", bytes.len())
        };
        assert!(matches!(error, Error::Archive { .. }), "{length}: {error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "{length}");
    }
    assert!(refusal(&[]).contains("does not hold one folder"));
}

/// An archive of a few kilobytes could name gigabytes.
#[test]
fn what_would_fill_memory_or_disk_is_refused() {
    let long = vec![b'n'; 70_000];
    let message = refusal(&[("././@LongLink", EntryType::GNULongName, &long), ("set/1", EntryType::Regular, b"one")]);
    assert!(message.contains("name of 70000 bytes"), "{message}");
    let twice = ("set/\u{1b}[31m.JPEG", EntryType::Regular, &b"one"[..]);
    let message = refusal(&[twice, twice]);
    assert!(message.contains("stands there twice") && message.contains("\\u{1b}"), "{message}");
}
