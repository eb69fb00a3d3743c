//! Formats that a cache holds keys and values of attention in.

use std::fmt;

use super::{Element, FloatElement, Format, FormatError, Role, Sharing, Standard};
use crate::attribute::{Attribute, Field};
use crate::element::{Granularity, QuantType, ScaleType, Storage};

/// The format of cached keys or values. Scales are found when a token is written: one for each token of a head, or one for each block along the
/// axis that attention reduces: the features of a head for keys, tokens for values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheFormat {
    float: Option<FloatElement>,
    quant: Option<Coded>,
}

/// Codes with scales.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Coded {
    storage: Storage,
    /// Neighbours that share a scale; a token of a head where there is no number.
    block: Option<u32>,
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
        if text.split(':').any(|part| ["tensor", "channel"].contains(&part)) {
            return refuse("scales are found as tokens come; use `:token` or `:block=N`");
        }
        if text.split(':').any(|part| part == "static") {
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
        let block = match format.sharing() {
            Sharing::Block(block) => Some(block),
            _ => None,
        };
        let (scale, full) = (format.scale(), !format.narrow());
        let standard = matches!(format.element, Element::Standard(Standard::Mx(_)));
        Ok(CacheFormat { float: None, quant: Some(Coded { storage, block, scale, full, standard }) })
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
        self.quant?.block
    }

    /// The type of codes whose rows are tokens of a head, or blocks of as many values as a row has; `None` for floats.
    pub fn rows(self) -> Option<QuantType> {
        let Coded { storage, block, scale, .. } = self.quant?;
        let granularity = match block {
            // The last axis of `[batch, token, head, feature]`.
            Some(block) => Granularity::Block { axis: 3, block },
            None => Granularity::Token,
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
            (_, Some(Coded { storage, block, scale, .. })) => {
                let shared = block.unwrap_or(features).max(1);
                f64::from(storage.bits()) + f64::from(scale.bits()) / f64::from(shared)
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
            (_, Some(Coded { storage, block, scale, full, standard })) => {
                let element =
                    if standard { Element::Standard(Standard::Mx(storage)) } else { Element::Coded(storage) };
                format(element, block.map_or(Sharing::Token, Sharing::Block), full, scale).fmt(f)
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
            ("int8:tensor", "use `:token` or `:block=N`"),
            ("int4:channel", "use `:token` or `:block=N`"),
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
