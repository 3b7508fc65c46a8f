//! Every image decoded once: one file of RGB bytes that all runs map into memory.
//!
//! ```text
//! pixels of image 0, pixels of image 1, ...   RGB, row by row
//! trailer                                     JSON: fingerprint, sizes
//! length of the trailer                       u64, little-endian
//! magic                                       8 bytes
//! ```
//!
//! The file's name holds a digest of the names, sizes and times of the image files, so it is made anew when one changes.
//! The fingerprint in it is of names and contents, so it says the same on every machine.

use crate::augment::Pixels;
use crate::decode::decode;
use crate::folder::Listing;
use crate::{Error, ProgressFn, Result, Rgb};
use faceoff_runs::list_folder;
use memmap2::Mmap;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"FACEOFF1";
/// Images decoded between two writes.
const CHUNK: usize = 256;
/// Sets that would be larger are decoded anew each time an image is needed; all caches together are kept below it.
const LARGEST_CACHE_BYTES: u64 = 8 << 30;

#[derive(Serialize, Deserialize)]
struct Trailer {
    fingerprint: String,
    /// Width and height of each image.
    sizes: Vec<(u32, u32)>,
}

/// The decoded images of a data set, training images first.
pub(crate) struct Store {
    pub(crate) fingerprint: String,
    place: Place,
}

enum Place {
    Mapped {
        map: Mmap,
        /// Offset, width and height of each image.
        images: Vec<(usize, u32, u32)>,
    },
    Files(Vec<PathBuf>),
}

impl Store {
    /// Opens the cache of the images that `listing` names below `folder`, after making it if need be.
    pub(crate) fn open(folder: &Path, listing: &Listing, cache_dir: &Path, progress: ProgressFn) -> Result<Self> {
        let ids: Vec<&str> = listing.images.iter().flatten().map(|file| file.id.as_str()).collect();
        let paths: Vec<PathBuf> = ids.iter().map(|id| folder.join(id)).collect();
        let key = key(&ids, &paths)?;
        let path = cache_dir.join("decoded").join(format!("{}.rgb", &key[..16]));
        if let Some(store) = Self::map(&path, ids.len())? {
            return Ok(store);
        }
        if estimated_bytes(&paths)? > LARGEST_CACHE_BYTES {
            let digest = |path| Ok(Sha256::digest(std::fs::read(path).map_err(Error::io("read", path))?).into());
            let digests = paths.par_iter().map(digest).collect::<Result<Vec<_>>>()?;
            return Ok(Self { fingerprint: fingerprint(&ids, &digests), place: Place::Files(paths) });
        }
        build(&path, &ids, &paths, progress)?;
        remove_old(&path)?;
        Self::map(&path, ids.len())?.ok_or_else(|| {
            let damaged = std::io::Error::other("it is damaged although it was just written; is the disk full?");
            Error::io("use", path)(damaged)
        })
    }

    /// Hands an image to `use_it`.
    pub(crate) fn with<R>(&self, index: usize, use_it: impl FnOnce(Pixels) -> R) -> Result<R> {
        match &self.place {
            Place::Mapped { map, images } => {
                let (offset, width, height) = images[index];
                let bytes = &map[offset..offset + (width * height * 3) as usize];
                Ok(use_it(Pixels { width, height, bytes }))
            }
            Place::Files(paths) => Ok(use_it((&read(&paths[index])?.0).into())),
        }
    }

    /// The cache at `path`, or `None` where there is none or it is not whole.
    fn map(path: &Path, count: usize) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        let map = map_read_only(&file).map_err(Error::io("map", path))?;
        let Some((Trailer { fingerprint, sizes }, end)) = trailer(&map) else { return Ok(None) };
        let mut offset = 0;
        let mut images = Vec::with_capacity(count);
        for (width, height) in sizes {
            images.push((offset, width, height));
            offset += (width * height * 3) as usize;
        }
        let whole = images.len() == count && offset == end;
        Ok(whole.then_some(Self { fingerprint, place: Place::Mapped { map, images } }))
    }
}

/// Maps a cache file.
#[allow(unsafe_code)] // a map has no safe constructor
fn map_read_only(file: &File) -> std::io::Result<Mmap> {
    // SAFETY: the bytes must not change while they are mapped. Cache files are written under a temporary name and
    // renamed when whole, never opened for writing again, and removing one keeps the mapped bytes.
    unsafe { Mmap::map(file) }
}

/// The trailer and where it begins.
fn trailer(map: &[u8]) -> Option<(Trailer, usize)> {
    let rest = map.strip_suffix(MAGIC)?;
    let (rest, length) = rest.split_last_chunk::<8>()?;
    let start = rest.len().checked_sub(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((serde_json::from_slice(&rest[start..]).ok()?, start))
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

/// Bytes that all images take decoded, as a sample of them tells.
fn estimated_bytes(paths: &[PathBuf]) -> Result<u64> {
    let sample: Vec<_> = paths.iter().step_by(paths.len().div_ceil(32)).collect();
    let bytes: Vec<u64> = sample.par_iter().map(|path| Ok(read(path)?.0.pixels.len() as u64)).collect::<Result<_>>()?;
    Ok(bytes.iter().sum::<u64>() / sample.len() as u64 * paths.len() as u64)
}

/// Reads and decodes a file; the image and the digest of the file's bytes.
pub(crate) fn read(path: &Path) -> Result<(Rgb, [u8; 32])> {
    let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
    let image = decode(&bytes).map_err(|problem| Error::Image { path: path.to_path_buf(), problem })?;
    Ok((image, Sha256::digest(&bytes).into()))
}

fn build(path: &Path, ids: &[&str], paths: &[PathBuf], progress: ProgressFn) -> Result<()> {
    // An image that cannot be decoded must come out as itself, not as a failed write.
    let total = ids.len() as u64;
    let mut failure = None;
    let written = faceoff_runs::write_atomically(path, |out| {
        let (mut digests, mut sizes) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        for paths in paths.chunks(CHUNK) {
            for image in paths.par_iter().map(|path| read(path)).collect::<Vec<_>>() {
                let (image, digest) = match image {
                    Ok(image) => image,
                    Err(error) => {
                        let text = error.to_string();
                        failure = Some(error);
                        return Err(std::io::Error::other(text));
                    }
                };
                digests.push(digest);
                out.write_all(&image.pixels)?;
                sizes.push((image.width, image.height));
            }
            progress("decode", sizes.len() as u64, total);
        }
        let trailer = Trailer { fingerprint: fingerprint(ids, &digests), sizes };
        let trailer = serde_json::to_vec(&trailer)?;
        out.write_all(&trailer)?;
        out.write_all(&(trailer.len() as u64).to_le_bytes())?;
        out.write_all(MAGIC)
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

/// Removes the oldest caches beside the one at `newest` until all together are small enough. Who has mapped one keeps it.
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

fn fingerprint(ids: &[&str], digests: &[[u8; 32]]) -> String {
    let mut fingerprint = Sha256::new();
    for (id, digest) in ids.iter().zip(digests) {
        fingerprint.update(id.as_bytes());
        fingerprint.update([0]);
        fingerprint.update(digest);
    }
    hex::encode(fingerprint.finalize())
}
