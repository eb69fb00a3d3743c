//! Antialiased bilinear scaling, bit for bit as Pillow's `Image.resize(size, BILINEAR)` (its `Resample.c`).
//!
//! Reference accuracies were measured on images scaled by Pillow, so its arithmetic is kept: a triangle filter whose
//! support grows with the reduction, weights in f64 rounded to 22-bit fixed point, a horizontal pass then a vertical
//! one, each rounded to 8 bits. Only the pixels of the wanted crop (and the rows they need) are computed, which
//! changes nothing in them and bounds memory by the source and the crop whatever the scale.

use std::ops::Range;

use crate::image::RgbImage;

/// Fraction bits of a weight: Pillow's `32 - 8 - 2`, which leaves a sum of 8-bit products inside an i32.
const PRECISION_BITS: u32 = 22;

/// Part of an image: `width` × `height` pixels from (`left`, `top`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Scales `image` to `width` × `height` and returns the pixels of `crop` of the result.
///
/// # Panics
/// If an extent is 0 or the crop reaches outside the scaled image.
pub fn resize_and_crop(image: &RgbImage, width: u32, height: u32, crop: Crop) -> RgbImage {
    let inside = |first: u32, extent: u32, whole: u32| {
        extent > 0 && first.checked_add(extent).is_some_and(|end| end <= whole)
    };
    assert!(
        inside(crop.left, crop.width, width) && inside(crop.top, crop.height, height),
        "crop outside the image"
    );
    let columns = Axis::new(image.width(), width, crop.left..crop.left + crop.width);
    let rows = Axis::new(image.height(), height, crop.top..crop.top + crop.height);

    let needed = rows.sources();
    let across = columns.across(image, needed.clone());
    let pixels = rows.down(&across, crop.width as usize * 3, needed.start);
    RgbImage::new(crop.width, crop.height, pixels)
        .expect("the passes produce crop.width * crop.height pixels")
}

/// The source pixels of one output pixel and their weights.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// One direction of the scaling: the taps of each wanted output pixel.
struct Axis {
    taps: Vec<Taps>,
}

impl Axis {
    fn new(source: u32, scaled: u32, wanted: Range<u32>) -> Self {
        assert!(source > 0, "an image has at least one pixel");
        if source == scaled {
            // Pillow skips the pass; a single weight of one does the same.
            let one = 1 << PRECISION_BITS;
            return Axis { taps: wanted.map(|x| Taps { first: x as usize, weights: vec![one] }).collect() };
        }
        let scale = f64::from(source) / f64::from(scaled);
        let filter_scale = scale.max(1.0);
        let step = 1.0 / filter_scale;
        let taps = wanted.map(|x| {
            let center = (f64::from(x) + 0.5) * scale;
            // The triangle filter's support is 1 source pixel when enlarging. Truncation of a value with 0.5 added
            // is Pillow's rounding; a negative value becomes 0.
            let first = (center - filter_scale + 0.5) as u32;
            let end = ((center + filter_scale + 0.5) as u32).min(source);
            let triangle = |x: u32| {
                let distance = (f64::from(x) - center + 0.5) * step;
                (1.0 - distance.abs()).max(0.0)
            };
            let weights: Vec<f64> = (first..end).map(triangle).collect();
            let total: f64 = weights.iter().sum();
            let fixed = |weight: &f64| {
                let weight = if total == 0.0 { *weight } else { weight / total };
                (0.5 + weight * f64::from(1u32 << PRECISION_BITS)) as i32
            };
            Taps { first: first as usize, weights: weights.iter().map(fixed).collect() }
        });
        Axis { taps: taps.collect() }
    }

    /// The source pixels that any tap touches.
    fn sources(&self) -> Range<usize> {
        let first = self.taps.iter().map(|tap| tap.first).min().unwrap_or(0);
        let end = self.taps.iter().map(|tap| tap.first + tap.weights.len()).max().unwrap_or(0);
        first..end
    }

    /// Scales the given rows of `image` horizontally.
    fn across(&self, image: &RgbImage, rows: Range<usize>) -> Vec<u8> {
        let row_bytes = image.width() as usize * 3;
        let mut scaled = Vec::with_capacity(rows.len() * self.taps.len() * 3);
        for row in image.pixels()[rows.start * row_bytes..rows.end * row_bytes].chunks_exact(row_bytes) {
            for tap in &self.taps {
                let mut sums = [HALF; 3];
                for (pixel, &weight) in row[tap.first * 3..].chunks_exact(3).zip(&tap.weights) {
                    for (sum, &value) in sums.iter_mut().zip(pixel) {
                        *sum += i32::from(value) * weight;
                    }
                }
                scaled.extend(sums.map(to_byte));
            }
        }
        scaled
    }

    /// Scales rows of `row_bytes` bytes vertically; row 0 of `source` is the image's row `offset`.
    fn down(&self, source: &[u8], row_bytes: usize, offset: usize) -> Vec<u8> {
        let mut scaled = Vec::with_capacity(self.taps.len() * row_bytes);
        let mut sums = vec![0; row_bytes];
        for tap in &self.taps {
            sums.fill(HALF);
            let rows = source[(tap.first - offset) * row_bytes..].chunks_exact(row_bytes);
            for (row, &weight) in rows.zip(&tap.weights) {
                for (sum, &value) in sums.iter_mut().zip(row) {
                    *sum += i32::from(value) * weight;
                }
            }
            scaled.extend(sums.iter().map(|&sum| to_byte(sum)));
        }
        scaled
    }
}

/// Half a unit of the last kept bit, so that the shift rounds to nearest.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{hash, noise};

    fn whole(width: u32, height: u32) -> Crop {
        Crop { left: 0, top: 0, width, height }
    }

    #[test]
    fn noise_scales_to_the_same_bytes_as_with_pillow() {
        // Hashes of `Image.fromarray(noise).resize((w, h), Image.BILINEAR).tobytes()` with Pillow.
        for (source, scaled, expected) in PILLOW {
            let image =
                resize_and_crop(&noise(source.0, source.1), scaled.0, scaled.1, whole(scaled.0, scaled.1));
            assert_eq!(hash(image.pixels()), expected, "{source:?} to {scaled:?}");
        }
    }

    type Size = (u32, u32);
    const PILLOW: [(Size, Size, u64); 8] = [
        ((61, 47), (29, 80), 0x3c88ade3547c3cca),
        ((61, 47), (61, 20), 0xe4ec429aeb0ae4bd),
        ((300, 200), (37, 25), 0x5b4824b9ff135e73),
        ((500, 375), (341, 256), 0x05aef08e2a6abae0),
        ((40, 30), (97, 71), 0x7fedb097b2ddd51d),
        ((1, 1), (5, 3), 0x55309aa9c40aac85),
        ((33, 2), (7, 1), 0xf8b0bf66140117e1),
        ((257, 129), (256, 128), 0xc3ee2c275dcfb2ba),
    ];

    #[test]
    fn a_crop_has_the_pixels_of_the_whole() {
        let image = noise(61, 47);
        let full = resize_and_crop(&image, 29, 80, whole(29, 80));
        let crop = Crop { left: 5, top: 17, width: 11, height: 40 };
        let part = resize_and_crop(&image, 29, 80, crop);
        for y in 0..40 {
            let row = &full.pixels()[((y + 17) * 29 + 5) * 3..][..33];
            assert_eq!(&part.pixels()[y * 33..][..33], row);
        }
    }

    #[test]
    fn the_same_size_is_the_same_image() {
        let image = noise(7, 5);
        assert_eq!(resize_and_crop(&image, 7, 5, whole(7, 5)), image);
    }

    #[test]
    fn an_extreme_scale_costs_memory_for_the_crop_only() {
        let image = RgbImage::new(60000, 1, vec![9; 180000]).unwrap();
        let crop = Crop { left: 7_000_000, top: 16, width: 224, height: 224 };
        assert_eq!(resize_and_crop(&image, 15_360_000, 256, crop).pixels(), vec![9; 224 * 224 * 3]);
    }
}
