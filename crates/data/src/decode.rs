//! A JPEG or PNG file to RGB bytes.

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

/// Decodes a whole file; greyscale becomes RGB. The error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8]) -> Result<Rgb, String> {
    if bytes.is_empty() {
        return Err("the file is empty".into());
    }
    if bytes.starts_with(&[0xff, 0xd8]) {
        return decode_jpeg(bytes);
    }
    let image = image::load_from_memory(bytes).map_err(|error| error.to_string())?.into_rgb8();
    Ok(Rgb { width: image.width(), height: image.height(), pixels: image.into_raw() })
}

fn decode_jpeg(bytes: &[u8]) -> Result<Rgb, String> {
    // Without strict mode half a file decodes to grey without an error.
    let options = DecoderOptions::default().set_strict_mode(true).jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let pixels = decoder.decode().map_err(|error| format!("{error:?}"))?;
    let info = decoder.info().ok_or("it has no header")?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    if pixels.len() != (width * height * 3) as usize {
        return Err(format!("{} bytes decoded for {width} x {height} RGB pixels", pixels.len()));
    }
    Ok(Rgb { width, height, pixels })
}
