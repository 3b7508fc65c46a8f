//! Thumbnails of images, side by side in a few JPEG sheets that stand in the page itself.

use crate::Extras;
use faceoff_evaluation::{Evaluation, selection::Origin};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use std::collections::{HashMap, HashSet};

/// The longest side of a sheet that every browser draws.
const LARGEST_SIDE_PX: usize = 8192;
/// Sides of a thumbnail, the largest that fits is taken; whole blocks of the encoder, so that no outline runs into its neighbour.
const SIDES_PX: [usize; 5] = [64, 48, 40, 32, 16];
/// Bytes of all sheets, so that the page with them stays below 12 MB.
const MOST_BYTES: usize = 6_500_000;
/// About so many bytes a pixel are needed; less is never tried.
const LEAST_BYTES_PER_PX: f64 = 0.15;
const QUALITY: u8 = 62;

/// Where thumbnails come from.
pub trait Thumbnails {
    /// Fingerprints of the sets of images, as manifests have them.
    fn fingerprints(&self) -> Vec<String>;

    /// Hands each image to `take`: its id, and its pixels brought to `side` x `side`, RGB.
    ///
    /// # Errors
    /// Images that cannot be read, in words.
    fn each(&self, side: usize, take: &mut dyn FnMut(&str, &[u8])) -> Result<(), String>;
}

/// Sheets of thumbnails, row by row in the order of the images.
pub(crate) struct Sprites {
    /// Side of a thumbnail.
    pub(crate) side: usize,
    /// Thumbnails in a row of a sheet.
    pub(crate) columns: usize,
    /// Thumbnails on a sheet.
    pub(crate) per_sheet: usize,
    /// JPEG files.
    pub(crate) sheets: Vec<Vec<u8>>,
}

/// The images of the runs; `None` where nobody asked for thumbnails.
///
/// # Errors
/// Why there are none, in words.
fn source<'a>(outcome: &Evaluation, extras: &Extras<'a>) -> Result<Option<&'a dyn Thumbnails>, String> {
    let from = match (extras.thumbnails, &extras.no_thumbnails) {
        (Some(from), _) => from,
        (None, Some(why)) => return Err(why.clone()),
        (None, None) => return Ok(None),
    };
    let Origin::Runs(manifest) = &outcome.selection.origin else { return Ok(None) };
    if !from.fingerprints().contains(&manifest.data.fingerprint) {
        return Err("The images at hand are not those of the runs, so there are no thumbnails.".into());
    }
    Ok(Some(from))
}

/// The thumbnails of `ids`, images of the runs; `None` where nobody asked for them.
///
/// # Errors
/// Why there are none, in words.
pub(crate) fn of_runs(outcome: &Evaluation, extras: &Extras<'_>, ids: &[&str]) -> Result<Option<Sprites>, String> {
    let Some(from) = source(outcome, extras)? else { return Ok(None) };
    sprites(from, ids).map(Some).map_err(|why| format!("No thumbnails: {why}."))
}

/// A JPEG file of each image of `ids`, images of the runs, by its id, `side` x `side` pixels; none where nobody asked for them.
///
/// # Errors
/// Why there are none, in words.
pub(crate) fn single(
    outcome: &Evaluation,
    extras: &Extras<'_>,
    ids: &HashSet<&str>,
    side: usize,
) -> Result<HashMap<String, Vec<u8>>, String> {
    let (mut files, mut failed) = (HashMap::new(), None);
    let Some(from) = source(outcome, extras)? else { return Ok(files) };
    let all = from.each(side, &mut |id, pixels| match ids.contains(id).then(|| jpeg(pixels, side)) {
        Some(Ok(file)) => drop(files.insert(id.to_string(), file)),
        Some(Err(why)) => failed = Some(why),
        None => {}
    });
    all.and(failed.map_or(Ok(files), Err)).map_err(|why| format!("No thumbnails: {why}."))
}

/// The JPEG file of RGB `pixels` of so many columns.
fn jpeg(pixels: &[u8], width: usize) -> Result<Vec<u8>, String> {
    let (height, mut file) = (pixels.len() / (3 * width), Vec::new());
    let mut encoder = Encoder::new(&mut file, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    encoder.set_optimized_huffman_tables(true);
    let encoded = encoder.encode(pixels, width as u16, height as u16, ColorType::Rgb);
    encoded.map_err(|error| format!("thumbnails cannot be written as JPEG: {error}"))?;
    Ok(file)
}

/// The thumbnails of `ids`; an image that is not there stays grey.
fn sprites(from: &dyn Thumbnails, ids: &[&str]) -> Result<Sprites, String> {
    let places: HashMap<&str, usize> = ids.iter().enumerate().map(|(place, &id)| (id, place)).collect();
    let hopeful = |side: &&usize| (ids.len() * *side * *side) as f64 * LEAST_BYTES_PER_PX <= MOST_BYTES as f64;
    for &side in SIDES_PX.iter().filter(hopeful) {
        let found = sheets(from, &places, side)?;
        if found.sheets.iter().map(Vec::len).sum::<usize>() <= MOST_BYTES {
            return Ok(found);
        }
    }
    Err(format!("{} images are too many for a page", ids.len()))
}

fn sheets(from: &dyn Thumbnails, places: &HashMap<&str, usize>, side: usize) -> Result<Sprites, String> {
    let count = places.len();
    let columns = ((count as f64).sqrt().ceil() as usize).clamp(1, LARGEST_SIDE_PX / side);
    let per_sheet = columns * (LARGEST_SIDE_PX / side);
    let mut pixels: Vec<Vec<u8>> = (0..count.div_ceil(per_sheet))
        .map(|sheet| {
            let rows = (count - sheet * per_sheet).min(per_sheet).div_ceil(columns);
            vec![128; 3 * columns * side * rows * side]
        })
        .collect();
    from.each(side, &mut |id, image| {
        let Some(&place) = places.get(id) else { return };
        let (sheet, place) = (place / per_sheet, place % per_sheet);
        for (row, line) in image.chunks_exact(3 * side).enumerate() {
            let start = 3 * ((place / columns * side + row) * columns * side + place % columns * side);
            pixels[sheet][start..start + line.len()].copy_from_slice(line);
        }
    })?;
    let sheets = pixels.iter().map(|pixels| jpeg(pixels, columns * side)).collect::<Result<Vec<_>, String>>()?;
    Ok(Sprites { side, columns, per_sheet, sheets })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many images, each of one colour.
    struct Plain(usize);

    impl Thumbnails for Plain {
        fn fingerprints(&self) -> Vec<String> {
            Vec::new()
        }

        fn each(&self, side: usize, take: &mut dyn FnMut(&str, &[u8])) -> Result<(), String> {
            (0..self.0).for_each(|image| take(&image.to_string(), &vec![(image % 200) as u8; 3 * side * side]));
            Ok(())
        }
    }

    #[test]
    fn sheets_hold_every_image_within_the_sides_that_browsers_draw() {
        let ids: Vec<String> = (0..300).map(|image| image.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let found = sprites(&Plain(300), &ids).unwrap();
        assert_eq!((found.side, found.columns, found.sheets.len()), (64, 18, 1));
        assert!(found.per_sheet >= 300 && found.sheets[0].starts_with(&[0xFF, 0xD8]));
        // The same images give the same bytes.
        assert_eq!(found.sheets, sprites(&Plain(300), &ids).unwrap().sheets);
        assert!(sprites(&Plain(1), &["0"]).is_ok());
        let many: Vec<String> = (0..200_000).map(|image| image.to_string()).collect();
        let refused = sprites(&Plain(0), &many.iter().map(String::as_str).collect::<Vec<_>>()).err().unwrap();
        assert!(refused.contains("200000 images are too many"), "{refused}");
    }
}
