//! RGB images from JPEG and PNG files, as Pillow's `Image.open(path).convert("RGB")` sees them: alpha is dropped,
//! grey is repeated, an EXIF rotation is not applied.
//!
//! JPEG goes through `jpeg-decoder`: against libjpeg-turbo (which the reference accuracies were measured with) its
//! mean absolute difference on 4:2:0 photographs is 0.09 of 255 (at most 4), that of `zune-jpeg` 0.19 (at most 5),
//! and it refuses a truncated file where `zune-jpeg` fills the rest with grey.

use std::io::Cursor;
use std::path::Path;

use crate::contain::contain;
use crate::error::{DataError, Result};
use crate::read;

/// The longest image file that is read, in bytes.
pub const FILE_LIMIT: u64 = 256 << 20;

/// The most pixels an image may have (the ceiling Pillow calls a decompression bomb is of the same order).
pub const PIXEL_LIMIT: u64 = 1 << 27;

/// 8-bit RGB pixels in row-major order, three bytes each. There is at least one pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

impl RgbImage {
    /// An image of `width * height` pixels, or `None` if an extent is 0 or `pixels` has another length than
    /// `width * height * 3`.
    pub fn new(width: u32, height: u32, pixels: Vec<u8>) -> Option<Self> {
        let bytes = (width as usize).checked_mul(height as usize)?.checked_mul(3)?;
        (bytes > 0 && bytes == pixels.len()).then_some(RgbImage { width, height, pixels })
    }

    /// Decodes a JPEG or PNG file; the kind is told by the content, not the name.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read::bytes(path, FILE_LIMIT, "an image")?;
        Self::decode(&bytes).map_err(|reason| DataError::malformed(path, reason))
    }

    /// Decodes a JPEG or PNG file's content; the error is a sentence without the file's name.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Self, String> {
        if bytes.starts_with(&[0xff, 0xd8]) {
            return contain(|| decode_jpeg(bytes))
                .unwrap_or_else(|_| Err("damaged JPEG: the decoder failed; replace the file".to_string()));
        }
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            return decode_png(bytes);
        }
        Err("neither a JPEG nor a PNG image; convert it to one of them".to_string())
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// `height * width * 3` bytes.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// Refuses a size before its pixels are allocated.
fn check_size(width: u32, height: u32) -> std::result::Result<(), String> {
    let pixels = u64::from(width) * u64::from(height);
    if pixels == 0 || pixels > PIXEL_LIMIT {
        return Err(format!(
            "an image of {width} x {height} pixels; between 1 and {PIXEL_LIMIT} pixels are supported"
        ));
    }
    Ok(())
}

fn decode_jpeg(bytes: &[u8]) -> std::result::Result<RgbImage, String> {
    use jpeg_decoder::PixelFormat;
    let damaged =
        |error: jpeg_decoder::Error| format!("damaged or unsupported JPEG: {error}; replace the file");
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.read_info().map_err(damaged)?;
    let info = decoder.info().ok_or("damaged JPEG: no frame; replace the file")?;
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    check_size(width, height)?;
    let pixels = decoder.decode().map_err(damaged)?;
    let rgb = match info.pixel_format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        // 16-bit samples come in native byte order; the high byte is what an 8-bit image would hold.
        PixelFormat::L16 => pixels
            .chunks_exact(2)
            .flat_map(|sample| [(u16::from_ne_bytes([sample[0], sample[1]]) >> 8) as u8; 3])
            .collect(),
        PixelFormat::CMYK32 => pixels.chunks_exact(4).flat_map(cmyk_to_rgb).collect(),
    };
    RgbImage::new(width, height, rgb).ok_or("damaged JPEG: pixels are missing; replace the file".to_string())
}

/// Pillow's conversion (`cmyk2rgb` in `Convert.c`): (255 - k) less its share of ink, rounded to nearest.
fn cmyk_to_rgb(cmyk: &[u8]) -> [u8; 3] {
    let light = 255 - u32::from(cmyk[3]);
    [0, 1, 2].map(|ink| {
        let product = u32::from(cmyk[ink]) * light + 128;
        (light - (((product >> 8) + product) >> 8).min(light)) as u8
    })
}

fn decode_png(bytes: &[u8]) -> std::result::Result<RgbImage, String> {
    use png::{ColorType, Decoder, Limits, Transformations};
    let damaged =
        |error: png::DecodingError| format!("damaged or unsupported PNG: {error}; replace the file");
    let limits = Limits { bytes: PIXEL_LIMIT as usize * 8 };
    let mut decoder = Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_transformations(Transformations::normalize_to_color8());
    let header = decoder.read_header_info().map_err(damaged)?;
    check_size(header.width, header.height)?;
    let mut reader = decoder.read_info().map_err(damaged)?;
    let length = reader.output_buffer_size().ok_or("a PNG too large for this machine")?;
    let mut pixels = vec![0; length];
    let frame = reader.next_frame(&mut pixels).map_err(damaged)?;
    pixels.truncate(frame.buffer_size());
    let rgb = match frame.color_type {
        ColorType::Rgb => pixels,
        ColorType::Grayscale => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        ColorType::GrayscaleAlpha => pixels.chunks_exact(2).flat_map(|pixel| [pixel[0]; 3]).collect(),
        ColorType::Rgba => pixels.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        ColorType::Indexed => {
            return Err("a PNG palette that cannot be expanded; convert the file to RGB".to_string());
        }
    };
    RgbImage::new(frame.width, frame.height, rgb)
        .ok_or("damaged PNG: pixels are missing; replace the file".to_string())
}

#[cfg(test)]
mod tests;
