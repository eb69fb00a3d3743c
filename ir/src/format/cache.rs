//! Formats that a cache holds keys and values of attention in.

use std::fmt;

use super::{Element, FloatElement, Format, FormatError, Role, Sharing, Standard};
use crate::attribute::{Attribute, Field};
use crate::element::{Granularity, QuantType, ScaleType, Storage};

/// The format of cached keys or values. Scales are found when a token is written: one for each token of a head, or one for each block along the
/// axis that attention reduces: the features of a head for keys, tokens for values. Scales of channels (features of a head) are those of all
/// tokens and so known before: the program divides by them what it caches, and codes stand for their levels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheFormat {
    float: Option<FloatElement>,
    quant: Option<Coded>,
}

/// Codes with scales.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Coded {
    storage: Storage,
    /// What shares a scale: a token of a head, so many neighbours, or a channel.
    sharing: Sharing,
    scale: ScaleType,
    full: bool,
    standard: bool,
}

impl CacheFormat {
    /// As they are computed.
    pub const F32: CacheFormat = CacheFormat { float: Some(FloatElement::F32), quant: None };

    /// Parses a format of the grammar of [`Format`]; where it names nothing that shares a scale, tokens do.
    ///
    /// # Errors
    /// When it is no format, or one that a cache cannot have, with the reason.
    pub fn parse(text: &str) -> Result<CacheFormat, FormatError> {
        let format = Format::parse(text, Role::Activation)?;
        let refuse = |message: &str| {
            Err(FormatError { text: text.to_string(), message: format!("a cache cannot have it: {message}") })
        };
        if let Some(float) = format.float() {
            return Ok(CacheFormat { float: Some(float), quant: None });
        }
        let Some(storage) = format.storage() else { return refuse("it has no codes") };
        let says = |word: &str| text.split(':').any(|part| part == word);
        if says("tensor") {
            return refuse("use `:token`, `:block=N` or `:channel`");
        }
        if says("channel") && says("dynamic") {
            return refuse("scales of channels are those of all tokens, and known before");
        }
        if says("static") && !says("channel") {
            return refuse("its scales are found as tokens come");
        }
        if storage.has_codebook() && storage != Storage::Nf4 || storage.is_split() {
            return refuse("its levels are found in all values");
        }
        if format.asymmetric() {
            return refuse("codes have no zero points there");
        }
        if matches!(storage, Storage::Fixed { .. } | Storage::Ternary | Storage::Binary | Storage::UInt(_)) {
            return refuse("use integers, small floats, block floats or nf4");
        }
        if format.scale() == ScaleType::E4M3 {
            return refuse("the second scale of e4m3 scales is one of all values");
        }
        let sharing = match format.sharing() {
            Sharing::Block(block) => Sharing::Block(block),
            Sharing::Channel if matches!(storage, Storage::Bfp(_)) || format.scale() != ScaleType::F32 => {
                return refuse("scales of channels are f32");
            }
            Sharing::Channel => Sharing::Channel,
            _ => Sharing::Token,
        };
        let (scale, full) = (format.scale(), !format.narrow());
        let standard = matches!(format.element, Element::Standard(Standard::Mx(_)));
        Ok(CacheFormat { float: None, quant: Some(Coded { storage, sharing, scale, full, standard }) })
    }

    /// The float type they are held in, if they are not coded.
    pub fn float(self) -> Option<FloatElement> {
        self.float
    }

    /// Whether they are held as they are computed.
    pub fn is_f32(self) -> bool {
        self == CacheFormat::F32
    }

    /// Neighbours that share a scale, along features of keys or tokens of values; none where a token of a head has one.
    pub fn block(self) -> Option<u32> {
        match self.quant?.sharing {
            Sharing::Block(block) => Some(block),
            _ => None,
        }
    }

    /// Whether scales are those of channels: what is held was divided by them.
    pub fn is_by_channel(self) -> bool {
        self.quant.is_some_and(|coded| coded.sharing == Sharing::Channel)
    }

    /// The type of codes whose rows are tokens of a head, or blocks of as many values as a row has, or that have the scale 1; `None` for
    /// floats.
    pub fn rows(self) -> Option<QuantType> {
        let Coded { storage, sharing, scale, .. } = self.quant?;
        let granularity = match sharing {
            // The last axis of `[batch, token, head, feature]`.
            Sharing::Block(block) => Granularity::Block { axis: 3, block },
            Sharing::Channel => Granularity::Tensor,
            _ => Granularity::Token,
        };
        Some(QuantType { storage, granularity, scale, zero_point: false })
    }

    /// Whether the lowest code of a signed integer is left out.
    pub fn narrow(self) -> bool {
        self.quant.is_none_or(|coded| !coded.full)
    }

    /// Bits that an element takes with its share of the scale, of keys or values with `features` a head.
    pub fn bits(self, features: u32) -> f64 {
        match (self.float, self.quant) {
            (_, Some(Coded { storage, sharing, scale, .. })) => {
                let scale = match sharing {
                    Sharing::Block(block) => f64::from(scale.bits()) / f64::from(block.max(1)),
                    Sharing::Channel => 0.0,
                    _ => f64::from(scale.bits()) / f64::from(features.max(1)),
                };
                f64::from(storage.bits()) + scale
            }
            (Some(FloatElement::F16 | FloatElement::BF16), None) => 16.0,
            _ => 32.0,
        }
    }
}

impl std::str::FromStr for CacheFormat {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<CacheFormat, FormatError> {
        CacheFormat::parse(text)
    }
}

impl fmt::Display for CacheFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = |element, sharing, full, scale| Format {
            role: Role::Activation,
            element,
            sharing,
            asymmetric: false,
            full,
            scale,
            dynamic: false,
        };
        match (self.float, self.quant) {
            (_, Some(Coded { storage, sharing, scale, full, standard })) => {
                let element =
                    if standard { Element::Standard(Standard::Mx(storage)) } else { Element::Coded(storage) };
                format(element, sharing, full, scale).fmt(f)
            }
            (float, None) => {
                let element = Element::Float(float.unwrap_or(FloatElement::F32));
                format(element, Sharing::Token, false, ScaleType::F32).fmt(f)
            }
        }
    }
}

impl fmt::Debug for CacheFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Field for CacheFormat {
    const CONSTRAINT: &'static str = "optional";
    const EXPECTED: &'static str = "a format that a cache can have, e.g. `bfp4:block=16`";

    fn to_attribute(&self) -> Attribute {
        Attribute::String(self.to_string().into())
    }

    fn from_attribute(attribute: &Attribute) -> Option<CacheFormat> {
        match attribute {
            Attribute::String(text) => CacheFormat::parse(text).ok(),
            _ => None,
        }
    }

    fn unless_given() -> Option<CacheFormat> {
        Some(CacheFormat::F32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_print_as_they_parse() {
        for (text, printed, bits) in [
            ("f32", "f32", 32.0),
            ("bf16", "bf16", 16.0),
            ("int8", "int8:token", 8.5),
            ("int4:token:full:scale=f16", "int4:token:full:scale=f16", 4.25),
            ("fp8e4m3:block=16", "fp8e4m3:block=16", 9.0),
            ("bfp4:block=16", "bfp4:block=16", 4.5),
            ("mxint8", "mxint8", 8.25),
            ("nf4", "nf4:token", 4.5),
            ("int4:channel:full", "int4:channel:full", 4.0),
            ("fp8e4m3:channel:static", "fp8e4m3:channel", 8.0),
        ] {
            let format = CacheFormat::parse(text).expect(text);
            assert_eq!(format.to_string(), printed);
            assert_eq!(CacheFormat::parse(printed), Ok(format));
            assert!((format.bits(64) - bits).abs() < 1e-9, "{text}: {}", format.bits(64));
        }
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        for (text, reason) in [
            ("int8:tensor", "use `:token`, `:block=N` or `:channel`"),
            ("int8:channel:dynamic", "known before"),
            ("bfp8:channel", "scales of channels are f32"),
            ("int8:token:asym", "no zero points"),
            ("nvfp4", "second scale"),
            ("codebook4", "found in all values"),
            ("split4", "found in all values"),
            ("ternary", "use integers"),
            ("int8:static", "as tokens come"),
            ("int9", "there are int2 to int8"),
        ] {
            let error = CacheFormat::parse(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
