//! Parsing of formats.

use super::{Element, FloatElement, Format, Role, Sharing, Standard};
use crate::element::{ScaleType, Storage};
use crate::names::near_match;

const KEYWORDS: [&str; 9] =
    ["tensor", "channel", "token", "block=32", "asym", "full", "scale=f16", "static", "dynamic"];

/// Names with numbers in them, and which numbers.
const NUMBERED: [(&str, &str); 9] = [
    ("int", "there are int2 to int8"),
    ("uint", "there are uint2 to uint8"),
    ("bfp", "there are bfp2 to bfp8"),
    ("codebook", "there are codebook1 to codebook8"),
    ("powexp", "there are powexp2 to powexp8"),
    ("split", "there are split2 to split8"),
    ("pot", "there are pot2 to pot8"),
    ("fixed", "in fixedI.F, sign, integer and fraction bits are 2 to 16 together"),
    ("e", "in eXmY, X is at least 1 and 1 + X + Y at most 8"),
];

/// Largest block: as long as a row of any layer, and safe in 32-bit arithmetic.
const LARGEST_BLOCK: u32 = 1 << 20;

/// The OCP Microscaling formats by name; the second name is the one that is printed.
const MX: [(&str, &str, Storage); 8] = [
    ("mxfp8", "mxfp8e4m3", Storage::Fp8E4M3),
    ("mxfp8e4m3", "mxfp8e4m3", Storage::Fp8E4M3),
    ("mxfp8e5m2", "mxfp8e5m2", Storage::Fp8E5M2),
    ("mxfp6", "mxfp6e2m3", Storage::Fp6E2M3),
    ("mxfp6e2m3", "mxfp6e2m3", Storage::Fp6E2M3),
    ("mxfp6e3m2", "mxfp6e3m2", Storage::Fp6E3M2),
    ("mxfp4", "mxfp4", Storage::Fp4E2M1),
    ("mxint8", "mxint8", Storage::Int(8)),
];

const SCALES: [(&str, ScaleType); 5] = [
    ("f32", ScaleType::F32),
    ("f16", ScaleType::F16),
    ("bf16", ScaleType::BF16),
    ("e4m3", ScaleType::E4M3),
    ("e8m0", ScaleType::E8M0),
];

pub(super) fn mx_name(storage: Storage) -> &'static str {
    MX.iter().find(|(_, _, s)| *s == storage).map_or("mxint8", |(_, name, _)| name)
}

/// Whether there is a Microscaling format of this element.
pub(super) fn is_mx(storage: Storage) -> bool {
    MX.iter().any(|(_, _, s)| *s == storage)
}

pub(super) fn scale_name(scale: ScaleType) -> &'static str {
    SCALES.iter().find(|(_, s)| *s == scale).map_or("f32", |(name, _)| name)
}

pub(super) fn default_scale(element: Element, sharing: Sharing) -> ScaleType {
    match (element, sharing) {
        (Element::Standard(Standard::Mx(_)) | Element::Coded(Storage::Bfp(_)), _) => ScaleType::E8M0,
        (Element::Standard(Standard::NvFp4), _) => ScaleType::E4M3,
        (_, Sharing::Block(_)) => ScaleType::F16,
        _ => ScaleType::F32,
    }
}

fn element(name: &str) -> Result<Element, String> {
    let float = match name {
        "f32" => Some(FloatElement::F32),
        "f16" => Some(FloatElement::F16),
        "bf16" => Some(FloatElement::BF16),
        _ => None,
    };
    if let Some(float) = float {
        return Ok(Element::Float(float));
    }
    if let Some((_, _, storage)) = MX.iter().find(|(n, _, _)| *n == name) {
        return Ok(Element::Standard(Standard::Mx(*storage)));
    }
    if name == "nvfp4" {
        return Ok(Element::Standard(Standard::NvFp4));
    }
    Storage::from_name(name).map(Element::Coded).ok_or_else(|| {
        let word = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == 'm');
        if let Some((_, numbers)) = NUMBERED.iter().find(|(w, _)| *w == word && name != word) {
            return format!("there is no element `{name}`: {numbers}");
        }
        let known = super::CATALOGUE.iter().flat_map(|(names, _)| names.split(' '));
        format!("unknown element `{name}`{}; `qcc formats` lists all", near_match(name, known))
    })
}

/// The block a format has unless another is given.
fn own_block(element: Element) -> Option<u32> {
    match element {
        Element::Standard(Standard::Mx(_)) | Element::Coded(Storage::Bfp(_)) => Some(32),
        Element::Standard(Standard::NvFp4) => Some(16),
        _ => None,
    }
}

pub(super) fn parse(text: &str, role: Role) -> Result<Format, String> {
    let mut parts = text.split(':');
    let element = element(parts.next().unwrap_or_default())?;
    let (mut sharing, mut scale, mut asymmetric, mut full, mut timing) = (None, None, false, false, None);
    for part in parts {
        let repeated = match part {
            "asym" => std::mem::replace(&mut asymmetric, true),
            "full" => std::mem::replace(&mut full, true),
            "static" => timing.replace(false).is_some(),
            "dynamic" => timing.replace(true).is_some(),
            _ => match (part.strip_prefix("scale="), granularity(part)?) {
                (Some(name), _) => scale.replace(scale_type(name)?).is_some(),
                (None, Some(found)) => sharing.replace(found).is_some(),
                (None, None) => return Err(unknown(part)),
            },
        };
        if repeated {
            return Err(format!("`{part}` says again what another part says"));
        }
    }
    if matches!(element, Element::Float(_)) && text.contains(':') {
        return Err("a float type has no scales: leave the other parts out".into());
    }
    if matches!(element, Element::Standard(_)) && (sharing.is_some() || scale.is_some() || asymmetric || full)
    {
        return Err("its standard fixes block and scale: leave these parts out".into());
    }
    if matches!(element, Element::Coded(Storage::Bfp(_))) && scale.is_some_and(|s| s != ScaleType::E8M0) {
        return Err(
            "what a block shares in block floating point is an 8-bit exponent: leave `scale` out".into()
        );
    }
    let signed = matches!(element, Element::Coded(Storage::Int(_)));
    let integer = matches!(element, Element::Coded(Storage::Int(_) | Storage::UInt(_)));
    let split = matches!(element, Element::Coded(Storage::Split(_)));
    if asymmetric && split {
        return Err("split codes always have zero points: leave `asym` out".into());
    }
    if asymmetric && !integer {
        return Err("only integer formats have a zero point".into());
    }
    if full && (!signed || asymmetric) {
        return Err("`full` adds the lowest code of a symmetric signed integer".into());
    }
    let fixed = matches!(element, Element::Coded(Storage::Fixed { .. }));
    if fixed && (sharing.is_some() || scale.is_some()) {
        return Err("fixed point has no scales: leave these parts out".into());
    }
    let by_role = match role {
        _ if fixed => Sharing::Tensor,
        Role::Weight if split => Sharing::Kernel,
        Role::Weight => Sharing::Channel,
        Role::Activation => Sharing::Tensor,
    };
    let sharing = sharing.or(own_block(element).map(Sharing::Block)).unwrap_or(by_role);
    if sharing == Sharing::Token && role == Role::Weight {
        return Err("weights have no tokens; use tensor, channel or block=N".into());
    }
    if role == Role::Weight && timing == Some(true) {
        return Err("weights are quantized when the model is compiled: leave `dynamic` out".into());
    }
    // A token has no scale before it is there, nor has a block of one.
    let of_tokens = role == Role::Activation && matches!(sharing, Sharing::Token | Sharing::Block(_));
    let dynamic = timing.unwrap_or(of_tokens);
    if of_tokens && !dynamic {
        return Err("scales of tokens cannot be static: a token is known at run time only".into());
    }
    let scale = scale.unwrap_or_else(|| default_scale(element, sharing));
    Ok(Format { role, element, sharing, asymmetric: asymmetric || split, full, scale, dynamic })
}

fn unknown(part: &str) -> String {
    let near = near_match(part, KEYWORDS);
    let all = "parts are tensor, channel, token, block=N, asym, full, scale=TYPE, static and dynamic";
    if near.is_empty() {
        format!("unknown part `{part}`; {all}")
    } else {
        format!("unknown part `{part}`{near}")
    }
}

fn granularity(part: &str) -> Result<Option<Sharing>, String> {
    Ok(match part {
        "tensor" => Some(Sharing::Tensor),
        "channel" => Some(Sharing::Channel),
        "token" => Some(Sharing::Token),
        _ => match part.strip_prefix("block=") {
            Some(n) => {
                let block: Option<u32> = n.parse().ok().filter(|b| (2..=LARGEST_BLOCK).contains(b));
                let digits = n.bytes().all(|b| b.is_ascii_digit()) && !n.starts_with('0');
                let block = block.filter(|_| digits);
                Some(Sharing::Block(
                    block
                        .ok_or_else(|| format!("`{part}`: a block is a number from 2 to {LARGEST_BLOCK}"))?,
                ))
            }
            None => None,
        },
    })
}

fn scale_type(name: &str) -> Result<ScaleType, String> {
    SCALES.iter().find(|(n, _)| *n == name).map(|(_, s)| *s).ok_or_else(|| {
        let names = SCALES.map(|(n, _)| n);
        format!("unknown scale type `{name}`{}; there are {}", near_match(name, names), names.join(", "))
    })
}
