//! An image file to RGB bytes, as Pillow's `convert("RGB")` has them, upright.
//!
//! The format is known by the file's content, not by its name.

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};
use std::io::Cursor;
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

/// An image: `height * width * 3` bytes, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rgb {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The bytes.
    pub pixels: Vec<u8>,
}

/// The formats that are read.
pub(crate) const FORMATS: &str = "JPEG, PNG, WebP, GIF, BMP and TIFF";
/// How names of such files end.
const ENDINGS: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
/// Bytes at the beginning of a file that tell its format.
pub(crate) const START: usize = 16;

/// Pixels that any file may have, however short it is.
const ANY_FILE_PIXELS: u64 = 1 << 20;
/// Pixels that a byte of a JPEG file may stand for: a progressive file spends at least a bit on the mean of each 8 x 8 block, with colours
/// at half resolution 6 bits on 256 pixels.
const JPEG_PIXELS_PER_BYTE: u64 = 400;
/// The same for the other formats: deflate packs up to 1032 bytes into one, a byte holds up to eight pixels.
const PIXELS_PER_BYTE: u64 = 8 * 1032;
/// What a decoder may allocate: so many bytes for itself, and so many times those of the pixels as RGB.
const OWN_BYTES: u64 = 16 << 20;
const COPIES: u64 = 16;
/// Pillow's limit against decompression bombs.
const MOST_PIXELS: u64 = 178_956_970;

/// What a file's header says.
pub(crate) struct Header {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// How the stored pixels have to be turned to be upright.
    pub(crate) orientation: Orientation,
}

impl Header {
    /// Bytes of the decoded image.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * 3
    }
}

/// Whether a file's name ends as an image's.
pub(crate) fn is_named_as_image(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known))
}

/// The format of a file that begins so; `None` where it is none of [`FORMATS`].
pub(crate) fn format_of(start: &[u8]) -> Option<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let format = image::guess_format(start).ok()?;
    // Two letters are little to go by: text may begin with `BM` as well, but not with the zeros that follow in a bitmap.
    let is_bitmap = || start.get(6..10) == Some(&[0; 4]);
    matches!(format, Jpeg | Png | WebP | Gif | Tiff).then_some(format).or((format == Bmp && is_bitmap()).then_some(Bmp))
}

/// What the header of a file says; the error says what is wrong with it.
pub(crate) fn header(bytes: &[u8], length: u64) -> Result<Header, String> {
    if known_format(bytes)? == ImageFormat::Jpeg {
        return jpeg_header(&mut jpeg(bytes), length);
    }
    header_of(&mut decoder(bytes)?, length)
}

/// Decodes a whole file: greyscale and palettes become RGB, transparency is dropped, the first frame of several is taken, and what the
/// file says of its orientation is done. The error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Rgb, Orientation), String> {
    let length = bytes.len() as u64;
    let (image, orientation) = if known_format(bytes)? == ImageFormat::Jpeg {
        let mut decoder = jpeg(bytes);
        let Header { width, height, orientation } = jpeg_header(&mut decoder, length)?;
        let pixels = decoder.decode().map_err(|error| said(&error))?;
        let count = pixels.len();
        let image = RgbImage::from_raw(width, height, pixels).filter(|image| image.as_raw().len() == count);
        let image = image.ok_or_else(|| format!("{count} bytes decoded for {width} x {height} RGB pixels"))?;
        (DynamicImage::ImageRgb8(image), orientation)
    } else {
        let mut decoder = decoder(bytes)?;
        let header = header_of(&mut decoder, length)?;
        let orientation = header.orientation;
        // A frame of a GIF says its own size, which the header does not bound.
        let mut limits = image::Limits::no_limits();
        limits.max_alloc = Some(OWN_BYTES + COPIES * header.bytes());
        decoder.set_limits(limits).map_err(|error| error.to_string())?;
        (DynamicImage::from_decoder(decoder).map_err(|error| error.to_string())?, orientation)
    };
    let mut image = DynamicImage::ImageRgb8(rgb(image));
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    Ok((Rgb { width: image.width(), height: image.height(), pixels: image.into_raw() }, orientation))
}

fn known_format(bytes: &[u8]) -> Result<ImageFormat, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    format_of(bytes).ok_or_else(|| format!("its content is none of {FORMATS}"))
}

fn jpeg(bytes: &[u8]) -> JpegDecoder<ZCursor<&[u8]>> {
    let options = DecoderOptions::default().set_max_width(usize::MAX).set_max_height(usize::MAX);
    // Without strict mode half a file decodes to grey without an error.
    let options = options.set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    JpegDecoder::new_with_options(ZCursor::new(bytes), options)
}

/// What the decoder of JPEG says of an error; some of it ends in a line break.
fn said(error: &impl std::fmt::Debug) -> String {
    format!("{error:?}").trim().into()
}

fn jpeg_header(decoder: &mut JpegDecoder<ZCursor<&[u8]>>, length: u64) -> Result<Header, String> {
    decoder.decode_headers().map_err(|error| said(&error))?;
    let info = decoder.info().ok_or("it has no header")?;
    let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
    let orientation = orientation.unwrap_or(Orientation::NoTransforms);
    bounded(Header { width: info.width.into(), height: info.height.into(), orientation }, length, JPEG_PIXELS_PER_BYTE)
}

fn decoder(bytes: &[u8]) -> Result<impl ImageDecoder, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes));
    reader.set_format(known_format(bytes)?);
    // `bounded` does that.
    reader.no_limits();
    reader.into_decoder().map_err(|error| error.to_string())
}

fn header_of(decoder: &mut impl ImageDecoder, length: u64) -> Result<Header, String> {
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    bounded(Header { width, height, orientation }, length, PIXELS_PER_BYTE)
}

/// The header, unless it promises no pixels, or more than a file of `length` bytes can hold: they would take memory before that shows.
fn bounded(header: Header, length: u64, pixels_per_byte: u64) -> Result<Header, String> {
    let Header { width, height, .. } = header;
    if width == 0 || height == 0 {
        return Err(format!("its header says {width} x {height} pixels; an image has one at least"));
    }
    let most = MOST_PIXELS.min(ANY_FILE_PIXELS + pixels_per_byte * length);
    if u64::from(width) * u64::from(height) > most {
        return Err(format!(
            "its header says {width} x {height} pixels; a file of {length} bytes may have {most} at most"
        ));
    }
    Ok(header)
}

/// The pixels as RGB. Of 16 bits the upper eight count, as with Pillow.
fn rgb(image: DynamicImage) -> RgbImage {
    let upper = |value: u16| (value >> 8) as u8;
    match image {
        DynamicImage::ImageRgb16(image) => {
            pixels(image.width(), image.height(), image.pixels().map(|p| p.0.map(upper)))
        }
        DynamicImage::ImageRgba16(image) => {
            pixels(image.width(), image.height(), image.pixels().map(|p| [upper(p[0]), upper(p[1]), upper(p[2])]))
        }
        DynamicImage::ImageLuma16(image) => {
            pixels(image.width(), image.height(), image.pixels().map(|p| [upper(p[0]); 3]))
        }
        DynamicImage::ImageLumaA16(image) => {
            pixels(image.width(), image.height(), image.pixels().map(|p| [upper(p[0]); 3]))
        }
        other => other.into_rgb8(),
    }
}

fn pixels(width: u32, height: u32, pixels: impl Iterator<Item = [u8; 3]>) -> RgbImage {
    RgbImage::from_raw(width, height, pixels.flatten().collect()).expect("there are as many pixels as before")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Made by `scripts/golden_formats.py`.
    #[test]
    fn every_format_gives_pillows_bytes_upright() {
        let cases: Value = serde_json::from_str(include_str!("../tests/golden/formats.json")).unwrap();
        for case in cases.as_array().unwrap() {
            let name = case["name"].as_str().unwrap();
            let bytes = |key: &str| hex::decode(case[key].as_str().unwrap()).unwrap();
            let (image, _) = decode(&bytes("file")).unwrap_or_else(|error| panic!("{name}: {error}"));
            let size = [&case["width"], &case["height"]].map(|side| side.as_u64().unwrap() as u32);
            assert_eq!([image.width, image.height], size, "{name}");
            // Decoders of lossy formats round otherwise. Of the files whose colours have half the resolution (two of these, as most
            // photographs), the decoder interpolates colours otherwise than libjpeg-turbo does: 5 apart at 2 of 360 bytes.
            let most = match (case["lossy"] == true, name) {
                (true, "jpeg" | "jpeg, progressive") => 5,
                (lossy, _) => u8::from(lossy),
            };
            let apart = image.pixels.iter().zip(bytes("rgb")).map(|(&a, b)| a.abs_diff(b));
            let (largest, above_4) = (apart.clone().max().unwrap(), apart.filter(|&apart| apart > 4).count());
            assert!(largest <= most && above_4 <= 2, "{name}: {largest} apart, more than 4 at {above_4} bytes");
        }
    }

    /// A header takes a few bytes and could ask for gigabytes.
    #[test]
    fn a_header_that_promises_too_much_is_refused() {
        let mut jpeg = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new(&mut jpeg);
        RgbImage::new(16, 16).write_with_encoder(encoder).unwrap();
        let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        for side in [2_000u16, 13_000, 16_384, 65_500] {
            jpeg[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
            jpeg[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
            let problem = decode(&jpeg).unwrap_err();
            assert!(problem.contains(&format!("its header says {side} x {side} pixels")), "{problem}");
        }
        // A large image of one colour is none of these.
        let mut large = std::io::Cursor::new(Vec::new());
        RgbImage::new(5_000, 4_000).write_to(&mut large, ImageFormat::Jpeg).unwrap();
        assert_eq!(decode(&large.into_inner()).unwrap().0.width, 5_000);
    }

    #[test]
    fn an_image_without_pixels_is_refused() {
        let mut gif = std::io::Cursor::new(Vec::new());
        DynamicImage::new_rgba8(12, 10).write_to(&mut gif, ImageFormat::Gif).unwrap();
        let mut gif = gif.into_inner();
        gif[6..8].copy_from_slice(&[0, 0]);
        let problem = decode(&gif).unwrap_err();
        assert!(problem.contains("its header says 0 x 10 pixels"), "{problem}");
    }

    /// A frame of a GIF has a size of its own.
    #[test]
    fn a_frame_that_promises_too_much_is_refused() {
        let mut gif = std::io::Cursor::new(Vec::new());
        RgbImage::new(4, 4).write_to(&mut gif, ImageFormat::Gif).unwrap();
        let mut gif = gif.into_inner();
        let frame = gif.windows(9).position(|bytes| bytes == [0x2c, 0, 0, 0, 0, 4, 0, 4, 0]).unwrap();
        gif[frame + 5..frame + 9].fill(0xff);
        assert!(decode(&gif).is_err());
    }

    #[test]
    fn text_is_no_bitmap() {
        assert_eq!(format_of(b"BMW, Audi and others"), None);
        assert_eq!(format_of(b"BM\x7a\0\0\0\0\0\0\0\x36\0\0\0\x28\0"), Some(ImageFormat::Bmp));
        assert!(decode(b"no image").unwrap_err().contains("none of JPEG, PNG"));
    }
}
