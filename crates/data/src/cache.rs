//! Every image decoded once: one file of RGB bytes that all runs read.
//!
//! ```text
//! pixels of image 0, pixels of image 1, ...   RGB, row by row
//! trailer                                     JSON: fingerprint; width, height and checksum of each image
//! length of the trailer                       u64, little-endian
//! magic                                       8 bytes
//! ```
//!
//! The file's name holds a digest of the names, sizes and times of the image files, so it is made anew when one changes.
//! The fingerprint in it is of names and contents, so it says the same on every machine.
//!
//! The file is read, not mapped into memory: bytes of a map that another process cuts off end the program without a word. Each image is
//! compared with its checksum whenever it is read.

use crate::augment::Pixels;
use crate::decode::{Header, decode, header};
use crate::folder::{File, Listing};
use crate::{Error, ProgressFn, Result, Rgb};
use faceoff_runs::{list_folder, read_exact_at};
use image::metadata::Orientation;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"FACEOFF2";
/// Decoded bytes that may wait for their being written, unless a single image for each thread takes more.
const WAITING_BYTES: u64 = 64 << 20;
/// Sets that would be larger are decoded anew each time an image is needed; all caches together are kept below it.
pub(crate) const LARGEST_CACHE_BYTES: u64 = 8 << 30;
/// Where headers of images are looked for before the whole file is read.
const HEADER_BYTES: u64 = 1 << 18;

#[derive(Serialize, Deserialize)]
struct Trailer {
    fingerprint: String,
    /// Width, height and checksum of each image.
    images: Vec<(u32, u32, u64)>,
    /// Places of the images that could not be read, of which nothing is stored, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<(usize, String)>,
}

/// The decoded images of a data set, training images first.
pub(crate) struct Store {
    pub(crate) fingerprint: String,
    /// Places of the images that could not be read and are skipped, rising, and why.
    pub(crate) unreadable: Vec<(usize, String)>,
    place: Place,
}

enum Place {
    Decoded { path: PathBuf, file: std::fs::File, images: Vec<Stored> },
    Files(Vec<PathBuf>),
}

/// Where an image lies in the file, and what it is.
struct Stored {
    offset: u64,
    width: u32,
    height: u32,
    checksum: u64,
}

impl Store {
    /// Opens the cache of the images that `listing` names below `folder`, after making it if need be.
    pub(crate) fn open(folder: &Path, listing: &Listing, cache_dir: &Path, progress: ProgressFn) -> Result<Self> {
        let files: Vec<&File> = listing.images.iter().flatten().collect();
        let ids: Vec<&str> = files.iter().map(|file| file.id.as_str()).collect();
        let paths = files.iter().map(|file| folder.join(&file.path)).collect();
        Self::of(&ids, paths, false, cache_dir, progress)
    }

    /// The same for images of these ids and paths; `skip` goes on without those that cannot be read.
    pub(crate) fn of(
        ids: &[&str],
        paths: Vec<PathBuf>,
        skip: bool,
        cache_dir: &Path,
        progress: ProgressFn,
    ) -> Result<Self> {
        let key = key(ids, &paths)?;
        let path = cache_dir.join("decoded").join(format!("{}.rgb", &key[..16]));
        if let Some(store) = Self::decoded(&path, &paths, skip)? {
            return Ok(store);
        }
        // Where a header cannot be read the decoder will say so.
        let bytes: Vec<u64> = paths.par_iter().map(|path| header_in(path).map_or(0, |header| header.bytes())).collect();
        if bytes.iter().sum::<u64>() > LARGEST_CACHE_BYTES {
            let digests = paths.par_iter().map(|path| {
                if skip {
                    return read(path).map(|(_, digest)| digest);
                }
                let file = std::fs::read(path).map_err(Error::io("read", path))?;
                let orientation = header(&file, file.len() as u64).map_or(Orientation::NoTransforms, |h| h.orientation);
                Ok(digest(&file, orientation))
            });
            let (mut kept, mut unreadable) = (Vec::new(), Vec::new());
            for (place, digest) in digests.collect::<Vec<_>>().into_iter().enumerate() {
                match digest {
                    Ok(digest) => kept.push((ids[place], digest)),
                    Err(error) if skip => unreadable.push((place, error.of_image())),
                    Err(error) => return Err(error),
                }
            }
            return Ok(Self { fingerprint: fingerprint(&kept), unreadable, place: Place::Files(paths) });
        }
        build(&path, ids, &paths, &bytes, skip, progress)?;
        remove_old(&path)?;
        Self::decoded(&path, &paths, skip)?.ok_or_else(|| {
            let damaged = std::io::Error::other("it is damaged although it was just written; is the disk full?");
            Error::io("use", path)(damaged)
        })
    }

    /// Hands an image to `use_it`. `buffer` is room for its bytes that is used again.
    pub(crate) fn with<R>(&self, index: usize, buffer: &mut Vec<u8>, use_it: impl FnOnce(Pixels) -> R) -> Result<R> {
        match &self.place {
            Place::Decoded { path, file, images } => {
                let Stored { offset, width, height, checksum } = images[index];
                buffer.resize(length(width, height), 0);
                let read = read_exact_at(file, buffer, offset);
                if read.is_err() || checksum_of(buffer) != checksum {
                    let problem = "it was cut short or changed since it was written, or cannot be read";
                    let problem = read.err().map_or(problem.into(), |error| format!("{problem} ({error})"));
                    return Err(Error::Cache { path: path.clone(), problem });
                }
                Ok(use_it(Pixels { width, height, bytes: buffer }))
            }
            Place::Files(paths) => Ok(use_it((&read(&paths[index])?.0).into())),
        }
    }

    /// The cache at `path` of the images at `paths`, or `None` where there is none, it is not whole, or it lacks images that may not be
    /// skipped, or can be read by now: what failed may have been the disk, or a permission, and not the image.
    fn decoded(path: &Path, paths: &[PathBuf], skip: bool) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let file = std::fs::File::open(path).map_err(Error::io("open", path))?;
        let Some((Trailer { fingerprint, images, unreadable }, end)) = trailer(&file) else { return Ok(None) };
        let mut offset = 0;
        let place = |(width, height, checksum)| {
            let stored = Stored { offset, width, height, checksum };
            offset += length(width, height) as u64;
            stored
        };
        let images: Vec<Stored> = images.into_iter().map(place).collect();
        let lasting = |(place, _): &(usize, String)| paths.get(*place).is_some_and(|path| read(path).is_err());
        let complete = unreadable.is_empty() || skip && unreadable.par_iter().all(lasting);
        let whole = images.len() == paths.len() && offset == end && complete;
        Ok(whole.then(|| Self { fingerprint, unreadable, place: Place::Decoded { path: path.into(), file, images } }))
    }
}

/// Bytes of an image.
fn length(width: u32, height: u32) -> usize {
    width as usize * height as usize * 3
}

/// The first bytes of the BLAKE3 digest.
fn checksum_of(bytes: &[u8]) -> u64 {
    let digest = blake3::hash(bytes);
    u64::from_le_bytes(*digest.as_bytes().first_chunk().expect("a digest has 32 bytes"))
}

/// The trailer and where it begins; `None` where the file does not end with one.
fn trailer(file: &std::fs::File) -> Option<(Trailer, u64)> {
    let mut end = [0; 16];
    let rest = file.metadata().ok()?.len().checked_sub(end.len() as u64)?;
    read_exact_at(file, &mut end, rest).ok()?;
    let (length, magic) = end.split_first_chunk::<8>()?;
    let start = rest.checked_sub(u64::from_le_bytes(*length)).filter(|_| magic == MAGIC)?;
    let mut text = vec![0; usize::try_from(rest - start).ok()?];
    read_exact_at(file, &mut text, start).ok()?;
    Some((serde_json::from_slice(&text).ok()?, start))
}

fn key(ids: &[&str], paths: &[PathBuf]) -> Result<String> {
    let mut digest = Sha256::new();
    for (id, path) in ids.iter().zip(paths) {
        let metadata = std::fs::metadata(path).map_err(Error::io("read", path))?;
        let time = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        digest.update(format!("{id}\n{}\n{:?}\n", metadata.len(), time.map(|time| time.as_nanos())));
    }
    Ok(hex::encode(digest.finalize()))
}

/// What the header of an image file says. The file's beginning is enough but for formats that have their header anywhere.
pub(crate) fn header_in(path: &Path) -> Option<Header> {
    let mut file = std::fs::File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    let mut start = Vec::new();
    (&mut file).take(HEADER_BYTES).read_to_end(&mut start).ok()?;
    header(&start, length).ok().or_else(|| {
        file.read_to_end(&mut start).ok()?;
        header(&start, length).ok()
    })
}

/// Reads and decodes a file; the image and the digest of the file.
pub(crate) fn read(path: &Path) -> Result<(Rgb, [u8; 32])> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let decoded = decode(&bytes).map_err(|problem| Error::Image { path: path.to_path_buf(), problem, cached: None });
    decoded.map(|(image, orientation)| (image, digest(&bytes, orientation)))
}

/// The digest of a file's bytes, or where its pixels are turned, of that and how: earlier versions did not turn them.
fn digest(bytes: &[u8], orientation: Orientation) -> [u8; 32] {
    let digest = Sha256::digest(bytes);
    if orientation == Orientation::NoTransforms {
        return digest.into();
    }
    Sha256::new_with_prefix(digest).chain_update([orientation.to_exif()]).finalize().into()
}

/// Ranges of images that are decoded at once: as many as there are threads, or more where they are small.
fn groups(bytes: &[u64], threads: usize) -> Vec<std::ops::Range<usize>> {
    let (mut groups, mut start, mut waiting) = (Vec::new(), 0, 0);
    for (index, &bytes) in bytes.iter().enumerate() {
        if index - start >= threads && waiting + bytes > WAITING_BYTES {
            groups.push(start..index);
            (start, waiting) = (index, 0);
        }
        waiting += bytes;
    }
    groups.push(start..bytes.len());
    groups
}

fn build(path: &Path, ids: &[&str], paths: &[PathBuf], bytes: &[u64], skip: bool, progress: ProgressFn) -> Result<()> {
    let total = ids.len() as u64;
    let mut broken = Vec::new();
    let written = faceoff_runs::write_atomically(path, |out| {
        let (mut kept, mut images) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        let mut unreadable = Vec::new();
        for group in groups(bytes, rayon::current_num_threads()) {
            let done = group.end as u64;
            let read: Vec<_> = paths[group.clone()].par_iter().map(|path| read(path)).collect();
            for (place, image) in group.zip(read) {
                match image {
                    Ok((image, digest)) => {
                        kept.push((ids[place], digest));
                        images.push((image.width, image.height, checksum_of(&image.pixels)));
                        // After the first that is broken the others are only counted.
                        if broken.is_empty() {
                            out.write_all(&image.pixels)?;
                        }
                    }
                    Err(error) if skip => {
                        images.push((0, 0, checksum_of(&[])));
                        unreadable.push((place, error.of_image()));
                    }
                    Err(error) => broken.push(error),
                }
            }
            progress("decode", done, total);
        }
        if !broken.is_empty() {
            return Err(std::io::Error::other("images are broken"));
        }
        let trailer = Trailer { fingerprint: fingerprint(&kept), images, unreadable };
        let trailer = serde_json::to_vec(&trailer)?;
        out.write_all(&trailer)?;
        out.write_all(&(trailer.len() as u64).to_le_bytes())?;
        out.write_all(MAGIC)
    });
    // An image that cannot be decoded must come out as itself, not as a failed write.
    let others = broken.len().saturating_sub(1);
    match broken.into_iter().next() {
        Some(first) if others > 0 => Err(Error::Images { first: Box::new(first), others, total: ids.len() }),
        Some(first) => Err(first),
        None => Ok(written?),
    }
}

/// Removes the oldest caches beside the one at `newest` until all together are small enough. Who has opened one keeps it.
fn remove_old(newest: &Path) -> Result<()> {
    let folder = newest.parent().expect("a cache lies in a folder");
    let mut caches = Vec::new();
    for path in list_folder(folder)? {
        let metadata = std::fs::metadata(&path).map_err(Error::io("read", &path))?;
        let modified = metadata.modified().map_err(Error::io("read", &path))?;
        caches.push((path != newest, modified, metadata.len(), path));
    }
    // The newest first, then the others from young to old.
    caches.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
    let mut bytes = 0;
    for (old, _, length, path) in caches {
        bytes += length;
        if old && bytes > LARGEST_CACHE_BYTES {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// Of the names and contents of images.
fn fingerprint(images: &[(&str, [u8; 32])]) -> String {
    let mut fingerprint = Sha256::new();
    for (id, digest) in images {
        fingerprint.update(id.as_bytes());
        fingerprint.update([0]);
        fingerprint.update(digest);
    }
    hex::encode(fingerprint.finalize())
}
