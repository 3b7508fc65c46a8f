//! Archives, from the file to a folder in the cache: nothing outside of it, and nothing at all of one that is refused.

use super::{Files, Outcome, Target, clear, mutate, write};
use anyhow::{Context, Result};
use faceoff::Program;
use faceoff_data::{ImageSource, Profile, fetch, profile};
use flate2::Compression;
use flate2::write::GzEncoder;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use std::io::Write;
use std::path::{Path, PathBuf};
use tar::{Builder, EntryType, Header};

const BLOCK: usize = 512;
/// Kinds of entries, those that are refused too.
const KINDS: &[u8] = b"0\x001234567gxLKSDMVXZ";

struct Archives {
    seeds: Vec<Vec<u8>>,
    profile: &'static Profile,
    folder: PathBuf,
}

pub(super) fn open(_: &Program, folder: &Path) -> Result<Box<dyn Target>> {
    let seeds =
        [Header::new_gnu(), Header::new_ustar(), Header::new_old()].iter().map(tar_of).collect::<Result<_>>()?;
    Ok(Box::new(Archives { seeds, profile: profile("imagewoof2-160")?, folder: folder.join("work") }))
}

/// An archive of folders, some of the smallest images' beginnings, and names of all lengths.
fn tar_of(header: &Header) -> Result<Vec<u8>> {
    let mut builder = Builder::new(Vec::new());
    let long = "x".repeat(90);
    for (name, kind, bytes) in [
        ("set/", EntryType::Directory, &b""[..]),
        ("set/train/a/1.JPEG", EntryType::Regular, b"\xff\xd8\xff\xe0one"),
        ("set/train/b/2.JPEG", EntryType::Regular, b"\xff\xd8\xff\xe0two"),
        ("set/val/a/3.JPEG", EntryType::Regular, b"\xff\xd8\xff\xe0three"),
        ("./set/val/b/4.JPEG", EntryType::Regular, &[7; 700]),
        (&format!("set/val/b/{long}/{long}.JPEG"), EntryType::Regular, b"long"),
    ] {
        let mut header = header.clone();
        header.set_size(bytes.len() as u64);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_entry_type(kind);
        // Old headers have no place for long names: the others say these in an entry of their own.
        if let Err(error) = builder.append_data(&mut header, name, bytes) {
            anyhow::ensure!(name.len() > 100, "{error}");
        }
    }
    builder.into_inner().context("the archive in memory cannot be ended")
}

/// Sets the checksum of the header that begins at `block`.
fn sum(tar: &mut [u8], block: usize) {
    if let Some(header) = tar.get_mut(block..block + BLOCK) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes everything")
}

impl Target for Archives {
    fn input(&self, random: &mut ChaCha8Rng) -> Files {
        let mut tar = self.seeds.choose(random).expect("there are seeds").clone();
        let other = self.seeds.choose(random).expect("there are seeds");
        for _ in 0..random.random_range(0..=3) {
            let block = random.random_range(0..tar.len() / BLOCK) * BLOCK;
            let text = |random: &mut ChaCha8Rng| {
                let name =
                    ["set/../x", "/x", "..", "set/train/a/1.JPEG", "x", "set/\u{1b}[31m", "set/train/a", "C:\\x"];
                name.choose(random).expect("there are some").as_bytes().to_vec()
            };
            match random.random_range(0..6) {
                0 => tar[block + 156] = *KINDS.choose(random).expect("there are some"),
                1 => {
                    let octal = format!("{:011o}\0", random.random::<u64>() >> random.random_range(31..64));
                    tar[block + 124..block + 136].copy_from_slice(&octal.as_bytes()[..12]);
                }
                2 => {
                    // Numbers that octal digits cannot hold are binary.
                    tar[block + 124] = 0x80;
                    random.fill(&mut tar[block + 125..block + 136]);
                }
                3 => {
                    let (name, at) = (text(random), block + [0, 157, 345][random.random_range(0..3)]);
                    tar[at..at + name.len()].copy_from_slice(&name);
                    tar[at + name.len()] = 0;
                }
                4 => {
                    let copied = other.chunks(BLOCK).collect::<Vec<_>>();
                    let copied = copied.choose(random).expect("it has blocks").to_vec();
                    tar.splice(block..block, copied);
                }
                _ => tar = mutate::bytes(tar, other, random),
            }
            if tar.len() < BLOCK {
                break;
            }
            // Most headers have the right sum, or nothing behind it would ever be looked at.
            if random.random_bool(0.9) {
                sum(&mut tar, block);
            }
        }
        let at = random.random_range(0..=tar.len());
        let mut bytes = match random.random_range(0..8) {
            0 => [zip(&tar[..at]), zip(&tar[at..])].concat(),
            1 => [zip(&tar), tar[at..].to_vec()].concat(),
            2 => tar,
            _ => zip(&tar),
        };
        if random.random_bool(0.3) {
            bytes = mutate::bytes(bytes, other, random);
        }
        Files::from([("set.tgz".into(), bytes)])
    }

    fn read(&mut self, input: &Files) -> Outcome {
        clear(&self.folder);
        write(&self.folder, input).expect("the input can be written");
        let cache = self.folder.join("deep/cache");
        let archive = Some(self.folder.join("set.tgz"));
        let source = ImageSource { archive, ..ImageSource::cached(cache.clone()) };
        let fetched = fetch(self.profile, &source, &|_, _, _| {});
        let names = |folder: &Path| {
            let entries = std::fs::read_dir(folder).expect("the folder is there").flatten();
            let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into()).collect();
            names.sort();
            names
        };
        let mut expected = vec![".lock".to_string()];
        if let Ok((folder, _)) = &fetched {
            expected.extend(folder.file_name().map(|name| name.to_string_lossy().into()));
        }
        for (folder, expected) in [
            (&self.folder, vec!["deep".to_string(), "set.tgz".to_string()]),
            (&self.folder.join("deep"), vec!["cache".to_string()]),
            (&cache, expected),
        ] {
            if names(folder) != expected {
                return Outcome::Silent(format!("{} holds {:?}", folder.display(), names(folder)));
            }
        }
        if fetched.is_ok() { Outcome::Accepted } else { Outcome::Refused }
    }
}
