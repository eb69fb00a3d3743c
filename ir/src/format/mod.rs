//! The format grammar of recipes and the command line:
//! `ELEMENT[:GRANULARITY][:asym][:full][:scale=f32|f16|bf16|e4m3|e8m0][:static|dynamic]`, e.g. `int4:block=32`.
//!
//! A [`Format`] is what a user asks for; a [`QuantType`](crate::QuantType) is what a tensor of the IR has. Standards: OCP FP8 and
//! Microscaling (MX) v1.0 for the `fp8…`, `fp6…`, `fp4…` and `mx…` names, NVFP4 by NVIDIA, NF4 by QLoRA (arXiv 2305.14314).

mod cache;
mod catalogue;
mod executable;
mod parse;

use std::fmt;

pub use cache::CacheFormat;
pub use catalogue::CATALOGUE;

use crate::element::{ElementType, Granularity, QuantType, ScaleType, Storage};

/// What a format is for; it decides the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Symmetric, per output channel, static.
    Weight,
    /// Symmetric, per tensor, static.
    Activation,
}

/// Which elements share a scale, before it is known which axis that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Sharing {
    /// All of them.
    Tensor,
    /// Those of a channel: an output channel of a weight, a feature of an activation.
    Channel,
    /// Those of an output channel of a convolution, all of a linear layer: what SplitQuant clusters.
    Kernel,
    /// Those of a token; activations only.
    Token,
    /// So many neighbours along the reduced dimension.
    Block(u32),
}

/// A float type that stores numbers as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FloatElement {
    /// 32 bits.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
}

impl FloatElement {
    /// As the type of a tensor's elements.
    pub fn element(self) -> ElementType {
        match self {
            FloatElement::F32 => ElementType::F32,
            FloatElement::F16 => ElementType::F16,
            FloatElement::BF16 => ElementType::BF16,
        }
    }
}

/// The element of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Not quantized.
    Float(FloatElement),
    /// Codes with scales.
    Coded(Storage),
    /// Codes in the blocks of a standard, which fixes block and scale.
    Standard(Standard),
}

/// A block format with its standard's block and scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standard {
    /// OCP Microscaling: blocks of 32, E8M0 scales.
    Mx(Storage),
    /// NVFP4: E2M1 in blocks of 16, E4M3 scales, one f32 scale a tensor.
    NvFp4,
}

/// A number format as a user asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    role: Role,
    element: Element,
    sharing: Sharing,
    asymmetric: bool,
    full: bool,
    scale: ScaleType,
    dynamic: bool,
}

/// Why a text is no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("format `{text}`: {message}")]
pub struct FormatError {
    /// The text.
    pub text: String,
    /// What is wrong and what is possible.
    pub message: String,
}

impl Format {
    /// Parses a format; what it does not say is as its role has it.
    ///
    /// # Errors
    /// When a part is unknown, stands twice, or contradicts another.
    pub fn parse(text: &str, role: Role) -> Result<Format, FormatError> {
        parse::parse(text, role).map_err(|message| FormatError { text: text.to_string(), message })
    }

    /// Whether this is a plain float type.
    pub fn is_float(&self) -> bool {
        matches!(self.element, Element::Float(_))
    }

    /// Whether this is f32: what numbers are in without any format.
    pub fn is_f32(&self) -> bool {
        self.float() == Some(FloatElement::F32)
    }

    /// The float type, if this is a plain one.
    pub fn float(&self) -> Option<FloatElement> {
        match self.element {
            Element::Float(f) => Some(f),
            _ => None,
        }
    }

    /// How codes are stored; `None` for plain floats.
    pub fn storage(&self) -> Option<Storage> {
        match self.element {
            Element::Float(_) => None,
            Element::Coded(storage) | Element::Standard(Standard::Mx(storage)) => Some(storage),
            Element::Standard(Standard::NvFp4) => Some(Storage::Fp4E2M1),
        }
    }

    /// Which elements share a scale.
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// Whether codes are shifted by a zero point; split codes always are.
    pub fn asymmetric(&self) -> bool {
        self.asymmetric
    }

    /// Whether the lowest code of a signed integer is left out: always, but where it was asked for, where a zero point is in the middle
    /// anyway, and of fixed point.
    pub fn narrow(&self) -> bool {
        !self.full && !self.asymmetric && !matches!(self.element, Element::Coded(Storage::Fixed { .. }))
    }

    /// The type of scales.
    pub fn scale(&self) -> ScaleType {
        self.scale
    }

    /// Whether scales are computed from the values at run time.
    pub fn dynamic(&self) -> bool {
        self.dynamic
    }

    /// Bits an element takes with its share of the block's scale (scales of larger groups are not counted).
    pub fn bits_per_element(&self) -> f64 {
        let own = match self.element {
            Element::Float(FloatElement::F32) => 32.0,
            Element::Float(_) => 16.0,
            _ => f64::from(self.storage().map_or(0, Storage::bits)),
        };
        match self.sharing {
            Sharing::Block(n) => {
                // Zero points are stored in as many bits as codes.
                let zero_point = if self.asymmetric() { own } else { 0.0 };
                own + (f64::from(self.scale.bits()) + zero_point) / f64::from(n)
            }
            _ => own,
        }
    }

    /// What the format is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The type of a matrix in this format whose channels lie along axis `channel` and which is reduced along axis `reduced`; `None` for
    /// plain floats. NVFP4's second scale, one a tensor, is no part of the type: block scales are multiples of it.
    pub fn quant_type(&self, channel: u8, reduced: u8) -> Option<QuantType> {
        let granularity = match self.sharing {
            Sharing::Tensor | Sharing::Kernel => Granularity::Tensor,
            Sharing::Channel => Granularity::Channel { axis: channel },
            Sharing::Token => Granularity::Token,
            Sharing::Block(block) => Granularity::Block { axis: reduced, block },
        };
        Some(QuantType {
            storage: self.storage()?,
            granularity,
            scale: self.scale,
            zero_point: self.asymmetric,
        })
    }

    /// Whether this build can compute with the format.
    ///
    /// # Errors
    /// A sentence that names the format and what can be used instead.
    pub fn check_executable(&self) -> Result<(), String> {
        executable::check(self)
    }
}

/// The type of a tensor in the words of the grammar: what a format that asks for it says. Which codes of an integer are used is no part of it.
pub fn spelled(q: QuantType, dynamic: bool) -> String {
    let QuantType { storage, granularity, scale, zero_point } = q;
    let block = match granularity {
        Granularity::Block { block, .. } => Some(block),
        _ => None,
    };
    let mx = (block, scale) == (Some(32), ScaleType::E8M0) && parse::is_mx(storage);
    let nvfp4 = (storage, block, scale) == (Storage::Fp4E2M1, Some(16), ScaleType::E4M3);
    let element = match storage {
        _ if mx => Element::Standard(Standard::Mx(storage)),
        _ if nvfp4 => Element::Standard(Standard::NvFp4),
        storage => Element::Coded(storage),
    };
    let sharing = match granularity {
        Granularity::Tensor => Sharing::Tensor,
        Granularity::Channel { .. } => Sharing::Channel,
        Granularity::Token => Sharing::Token,
        Granularity::Block { block, .. } => Sharing::Block(block),
    };
    let (asymmetric, full) = (zero_point, false);
    Format { role: Role::Weight, element, sharing, asymmetric, full, scale, dynamic }.to_string()
}

impl fmt::Display for Format {
    /// The canonical text: element, sharing, and what is not the default of every role; what a standard fixes is not repeated. Parsing it
    /// in the same role gives the format again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.element {
            Element::Float(FloatElement::F32) => return f.write_str("f32"),
            Element::Float(FloatElement::F16) => return f.write_str("f16"),
            Element::Float(FloatElement::BF16) => return f.write_str("bf16"),
            Element::Coded(storage) => f.write_str(&storage.name())?,
            Element::Standard(Standard::NvFp4) => f.write_str("nvfp4")?,
            Element::Standard(Standard::Mx(storage)) => f.write_str(parse::mx_name(storage))?,
        }
        match self.sharing {
            _ if matches!(self.element, Element::Standard(_) | Element::Coded(Storage::Fixed { .. })) => {}
            Sharing::Kernel => {}
            Sharing::Tensor => f.write_str(":tensor")?,
            Sharing::Channel => f.write_str(":channel")?,
            Sharing::Token => f.write_str(":token")?,
            Sharing::Block(n) => write!(f, ":block={n}")?,
        }
        if self.asymmetric && !self.storage().is_some_and(Storage::is_split) {
            f.write_str(":asym")?;
        }
        if self.full {
            f.write_str(":full")?;
        }
        if self.scale != parse::default_scale(self.element, self.sharing) {
            write!(f, ":scale={}", parse::scale_name(self.scale))?;
        }
        if self.dynamic { f.write_str(":dynamic") } else { Ok(()) }
    }
}
