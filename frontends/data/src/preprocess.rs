//! From pixels to a model's input: scale, crop, normalise.
//!
//! An image that already has the input's height and width is only normalised; any other has its shorter side scaled
//! to size·256/224 and its centre cropped to size, the usual evaluation of ImageNet classifiers. All named
//! normalisations and a custom one are the same formula, so that an artifact can remember the numbers alone.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{DataError, Result};
use crate::image::RgbImage;
use crate::read;
use crate::resize::{Crop, resize_and_crop};

/// Normalisation per channel: `(pixel * scale - mean) / std`, pixels from 0 to 255, channels red, green, blue.
///
/// In TOML and JSON either a name (`"imagenet"`, `"tf"`, `"unit"`) or a table with `scale`, `mean` and `std`, of which
/// each may be left out: 1/255, 0 and 1 then.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Preprocess {
    /// Factor of a pixel.
    pub scale: f64,
    /// Subtracted after scaling, per channel.
    pub mean: [f32; 3],
    /// Divides last, per channel.
    pub std: [f32; 3],
}

/// Order of an input's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Channel, height, width.
    Chw,
    /// Height, width, channel.
    Hwc,
}

/// The named normalisations.
pub const NAMES: [&str; 3] = ["imagenet", "tf", "unit"];

impl Preprocess {
    /// /255, then ImageNet's mean and standard deviation.
    pub const IMAGENET: Self =
        Preprocess { scale: 1.0 / 255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
    /// x/127.5 − 1.
    pub const TF: Self = Preprocess { scale: 1.0 / 127.5, mean: [1.0; 3], std: [1.0; 3] };
    /// x/255.
    pub const UNIT: Self = Preprocess { scale: 1.0 / 255.0, mean: [0.0; 3], std: [1.0; 3] };

    /// The normalisation with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "imagenet" => Some(Self::IMAGENET),
            "tf" => Some(Self::TF),
            "unit" => Some(Self::UNIT),
            _ => None,
        }
    }

    /// What `--preprocess` takes: a name, or a TOML file with the keys `scale`, `mean`, `std`.
    pub fn from_name_or_file(name_or_file: &str) -> Result<Self> {
        if let Some(preprocess) = Self::named(name_or_file) {
            return Ok(preprocess);
        }
        let path = Path::new(name_or_file);
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(DataError::Request(unknown(name_or_file)));
        }
        let text = read::text(path)?;
        let table: Table = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            DataError::line(path, line, error.message())
        })?;
        table.checked().map_err(|reason| DataError::malformed(path, reason))
    }

    /// The f32 input of one image: scaled and cropped to `width` × `height` unless it has that size, then normalised.
    /// `input` has `3 * height * width` elements and is overwritten whole.
    ///
    /// # Panics
    /// If `input` has another length or an extent is 0.
    pub fn write(&self, image: &RgbImage, width: u32, height: u32, layout: Layout, input: &mut [f32]) {
        let area = width as usize * height as usize;
        assert_eq!(input.len(), area * 3, "input length");
        let scaled = scale_and_crop(image, width, height);
        let tables = self.tables();
        let pixels = scaled.as_ref().unwrap_or(image).pixels().chunks_exact(3).enumerate();
        match layout {
            Layout::Chw => pixels.for_each(|(at, pixel)| {
                for channel in 0..3 {
                    input[channel * area + at] = tables[channel][usize::from(pixel[channel])];
                }
            }),
            Layout::Hwc => pixels.for_each(|(at, pixel)| {
                for channel in 0..3 {
                    input[at * 3 + channel] = tables[channel][usize::from(pixel[channel])];
                }
            }),
        }
    }

    /// The normalised value of every byte, per channel. The product is rounded to f32 once, which for the named
    /// scales equals NumPy's f32 division of the pixel.
    fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            std::array::from_fn(|byte| {
                ((byte as f64 * self.scale) as f32 - self.mean[channel]) / self.std[channel]
            })
        })
    }
}

/// Scales the shorter side to size·256/224 and crops the centre; `None` where the image has the size already.
/// Rounding (to nearest, ties to even) and the place of the crop are those of `reference/onnx_top1.py`.
fn scale_and_crop(image: &RgbImage, width: u32, height: u32) -> Option<RgbImage> {
    if (image.width(), image.height()) == (width, height) {
        return None;
    }
    let margin = |size: u32| (f64::from(size) * 256.0 / 224.0).round_ties_even();
    // For a square input this is the scale of the shorter side; for any other both sides cover the input.
    let scale = (margin(width) / f64::from(image.width())).max(margin(height) / f64::from(image.height()));
    let scaled = |extent: u32, least: u32| ((f64::from(extent) * scale).round_ties_even() as u32).max(least);
    let (wide, high) = (scaled(image.width(), width), scaled(image.height(), height));
    let crop = Crop { left: (wide - width) / 2, top: (high - height) / 2, width, height };
    Some(resize_and_crop(image, wide, high, crop))
}

fn unknown(name: &str) -> String {
    let near = NAMES.iter().find(|known| strsim::damerau_levenshtein(known, name) <= 2);
    let hint = near.map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
    format!(
        "`{name}` is not a preprocessing: use {} or a .toml file with `scale`, `mean`, `std`{hint}",
        NAMES.join(", ")
    )
}

/// The written form of a custom normalisation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default = "default_scale")]
    scale: f64,
    #[serde(default)]
    mean: [f32; 3],
    #[serde(default = "default_std")]
    std: [f32; 3],
}

fn default_scale() -> f64 {
    Preprocess::UNIT.scale
}

fn default_std() -> [f32; 3] {
    Preprocess::UNIT.std
}

impl Table {
    fn checked(self) -> std::result::Result<Preprocess, String> {
        let Table { scale, mean, std } = self;
        if !(scale.is_finite() && scale != 0.0) {
            return Err(format!("`scale` is {scale}; it must be finite and not 0"));
        }
        if mean.iter().any(|mean| !mean.is_finite()) {
            return Err("`mean` must be three finite numbers".to_string());
        }
        if std.iter().any(|std| !std.is_finite() || *std <= 0.0) {
            return Err("`std` must be three finite numbers above 0".to_string());
        }
        Ok(Preprocess { scale, mean, std })
    }
}

impl<'de> Deserialize<'de> for Preprocess {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        use serde::de::{Error, MapAccess, Visitor, value::MapAccessDeserializer};
        struct NameOrTable;
        impl<'de> Visitor<'de> for NameOrTable {
            type Value = Preprocess;
            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                write!(f, "a preprocessing name ({}) or a table of `scale`, `mean`, `std`", NAMES.join(", "))
            }
            fn visit_str<E: Error>(self, name: &str) -> std::result::Result<Preprocess, E> {
                Preprocess::named(name).ok_or_else(|| E::custom(unknown(name)))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<Preprocess, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map))?.checked().map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(NameOrTable)
    }
}

#[cfg(test)]
mod tests;
