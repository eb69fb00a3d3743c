//! Element types: plain numbers, and quantized elements that say *how* numbers are stored, never the scale values (those are
//! parameters or SSA values; in MLIR's `quant` dialect they sit in the type, 1.4 MB of text for one weight).
//!
//! A quantized element prints as `!qcc.q<storage, granularity, scale, zero-point>`, e.g.
//! `!qcc.q<i4, {axis = 1 : i64, block = 32 : i64}, f16, none>`.

use std::fmt;

/// What one element of a tensor is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ElementType {
    /// 64-bit float: interpreter and weight algebra only.
    F64,
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// Boolean (`i1`).
    Bool,
    /// Signed 8-bit integer.
    I8,
    /// Unsigned 8-bit integer.
    U8,
    /// Signed 32-bit integer (accumulators).
    I32,
    /// Signed 64-bit integer (indices, shapes).
    I64,
    /// A number stored by a format.
    Quant(QuantType),
}

/// How a quantized number is stored: code, where scales apply, their type, and whether there is a zero point.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct QuantType {
    /// The code of one element.
    pub storage: Storage,
    /// Which elements share a scale.
    pub granularity: Granularity,
    /// Type of the scales.
    pub scale: ScaleType,
    /// Whether codes are shifted by a zero point (asymmetric); it has the storage's type. Split codes always are.
    pub zero_point: bool,
}

/// Clusters of [`Storage::Split`].
pub const SPLIT_CLUSTERS: usize = 3;

/// The code of one quantized element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Storage {
    /// Signed integer of 2 to 8 bits.
    Int(u8),
    /// Unsigned integer of 2 to 8 bits.
    UInt(u8),
    /// Minifloat with `exponent` and `mantissa` bits, subnormals, neither NaN nor Inf, saturating.
    Minifloat {
        /// Exponent bits, at least 1.
        exponent: u8,
        /// Mantissa bits.
        mantissa: u8,
    },
    /// OCP FP8 E4M3 (NaN, no Inf): MLIR `f8E4M3FN`.
    Fp8E4M3,
    /// OCP FP8 E5M2 (NaN and Inf): MLIR `f8E5M2`.
    Fp8E5M2,
    /// OCP FP6 E2M3: MLIR `f6E2M3FN`.
    Fp6E2M3,
    /// OCP FP6 E3M2: MLIR `f6E3M2FN`.
    Fp6E3M2,
    /// OCP FP4 E2M1: MLIR `f4E2M1FN`.
    Fp4E2M1,
    /// Block floating point mantissa with sign, of 2 to 8 bits; its block shares an 8-bit exponent.
    Bfp(u8),
    /// 4-bit NormalFloat.
    Nf4,
    /// Calibrated codebook of 2^bits entries.
    Codebook(u8),
    /// Power-exponent code of the given bits.
    PowExp(u8),
    /// The index of a cluster in the high 2 bits, a level of that cluster in the given low bits. Each cluster of a group that shares scales
    /// has a scale and a zero point of its own, and the zero point may lie outside the levels: SplitQuant (arXiv 2501.12428) as one tensor.
    Split(u8),
    /// Fixed point with integer and fraction bits (and a sign).
    Fixed {
        /// Integer bits.
        integer: u8,
        /// Fraction bits.
        fraction: u8,
    },
    /// Signed power of two of the given bits.
    Pot(u8),
    /// −1, 0, +1.
    Ternary,
    /// −1, +1.
    Binary,
}

impl Storage {
    /// Bits of one code.
    pub fn bits(self) -> u32 {
        use Storage::*;
        u32::from(match self {
            Int(n) | UInt(n) | Bfp(n) | Codebook(n) | PowExp(n) | Pot(n) => n,
            Split(n) => n + 2,
            Minifloat { exponent, mantissa } => 1 + exponent + mantissa,
            Fixed { integer, fraction } => 1 + integer + fraction,
            Fp8E4M3 | Fp8E5M2 => 8,
            Fp6E2M3 | Fp6E3M2 => 6,
            Fp4E2M1 | Nf4 => 4,
            Ternary => 2,
            Binary => 1,
        })
    }

    /// Whether a group of elements has a table of scales, one for each cluster, where other storages have one scale.
    pub fn is_split(self) -> bool {
        matches!(self, Storage::Split(_))
    }

    /// The range of codes of an integer storage: narrow (symmetric) or full.
    pub fn integer_range(self, narrow: bool) -> Option<(i32, i32)> {
        match self {
            Storage::Int(n) => {
                let top = (1i32 << (n - 1)) - 1;
                Some((if narrow { -top } else { -top - 1 }, top))
            }
            Storage::UInt(n) => Some((0, (1i32 << n) - 1)),
            _ => None,
        }
    }
}

/// Which elements share one scale. Axes count from 0; scales keep the tensor's rank, so they broadcast.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Granularity {
    /// One scale; its tensor has rank 0.
    Tensor,
    /// One scale for each index along `axis`; its tensor is 1-D.
    Channel {
        /// The channel axis.
        axis: u8,
    },
    /// One scale for each row along the last axis; its tensor has the value's shape with last size 1.
    Token,
    /// One scale for each `block` consecutive elements along `axis`; its tensor has that axis divided (rounded up).
    Block {
        /// The blocked (contraction) axis.
        axis: u8,
        /// Elements that share a scale; at least 1.
        block: u32,
    },
}

/// The type of scales.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ScaleType {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    BF16,
    /// OCP E4M3 (NVFP4).
    E4M3,
    /// OCP E8M0: a power of two (MX, BFP).
    E8M0,
}

impl ElementType {
    /// Whether values are real numbers in a plain float type.
    pub fn is_float(self) -> bool {
        matches!(self, ElementType::F64 | ElementType::F32 | ElementType::F16 | ElementType::BF16)
    }

    /// Whether values are plain integers or booleans.
    pub fn is_integer(self) -> bool {
        !self.is_float() && self.quantized().is_none()
    }

    /// The quantized type, if it is one.
    pub fn quantized(self) -> Option<QuantType> {
        match self {
            ElementType::Quant(q) => Some(q),
            _ => None,
        }
    }

    /// Bits of one element as stored (scales excluded).
    pub fn bits(self) -> u32 {
        match self {
            ElementType::F64 | ElementType::I64 => 64,
            ElementType::F32 | ElementType::I32 => 32,
            ElementType::F16 | ElementType::BF16 => 16,
            ElementType::I8 | ElementType::U8 => 8,
            ElementType::Bool => 1,
            ElementType::Quant(q) => q.storage.bits(),
        }
    }
}

impl fmt::Display for Storage {
    /// The MLIR parameter of `!qcc.q`: a builtin type where MLIR has one, else `!qcc.element<"name">` with the format's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Storage::*;
        match self {
            Int(n) => write!(f, "i{n}"),
            UInt(n) => write!(f, "ui{n}"),
            Fp8E4M3 => f.write_str("f8E4M3FN"),
            Fp8E5M2 => f.write_str("f8E5M2"),
            Fp6E2M3 => f.write_str("f6E2M3FN"),
            Fp6E3M2 => f.write_str("f6E3M2FN"),
            Fp4E2M1 => f.write_str("f4E2M1FN"),
            other => write!(f, "!qcc.element<\"{}\">", other.name()),
        }
    }
}

impl Storage {
    /// The element's name in the format grammar (`int4`, `e3m2`, `nf4`, …).
    pub fn name(self) -> String {
        use Storage::*;
        match self {
            Int(n) => format!("int{n}"),
            UInt(n) => format!("uint{n}"),
            Minifloat { exponent, mantissa } => format!("e{exponent}m{mantissa}"),
            Fp8E4M3 => "fp8e4m3".into(),
            Fp8E5M2 => "fp8e5m2".into(),
            Fp6E2M3 => "fp6e2m3".into(),
            Fp6E3M2 => "fp6e3m2".into(),
            Fp4E2M1 => "fp4e2m1".into(),
            Bfp(n) => format!("bfp{n}"),
            Nf4 => "nf4".into(),
            Codebook(n) => format!("codebook{n}"),
            PowExp(n) => format!("powexp{n}"),
            Split(n) => format!("split{n}"),
            Fixed { integer, fraction } => format!("fixed{integer}.{fraction}"),
            Pot(n) => format!("pot{n}"),
            Ternary => "ternary".into(),
            Binary => "binary".into(),
        }
    }
}

impl Storage {
    /// The element of this [`name`](Storage::name); `None` for unknown names and widths that have no code.
    pub fn from_name(text: &str) -> Option<Storage> {
        use Storage::*;
        Some(match text {
            "fp8e4m3" => Fp8E4M3,
            "fp8e5m2" => Fp8E5M2,
            "fp6e2m3" => Fp6E2M3,
            "fp6e3m2" => Fp6E3M2,
            "fp4e2m1" => Fp4E2M1,
            "nf4" => Nf4,
            "ternary" => Ternary,
            "binary" => Binary,
            _ => {
                let digits = text.find(|c: char| c.is_ascii_digit())?;
                let (word, number) = text.split_at(digits);
                let bits = |least: u8| width(number).filter(|n| (least..=8).contains(n));
                match word {
                    "int" => Int(bits(2)?),
                    "uint" => UInt(bits(2)?),
                    "bfp" => Bfp(bits(2)?),
                    "codebook" => Codebook(bits(1)?),
                    "powexp" => PowExp(bits(2)?),
                    "split" => Split(bits(2)?),
                    "pot" => Pot(bits(2)?),
                    "e" => {
                        let (exponent, mantissa) = number.split_once('m')?;
                        let (exponent, mantissa) = (width(exponent)?, width(mantissa)?);
                        if exponent < 1 || 1 + exponent + mantissa > 8 {
                            return None;
                        }
                        Minifloat { exponent, mantissa }
                    }
                    "fixed" => {
                        let (integer, fraction) = number.split_once('.')?;
                        let (integer, fraction) = (width(integer)?, width(fraction)?);
                        if !(2..=16).contains(&(1 + integer + fraction)) {
                            return None;
                        }
                        Fixed { integer, fraction }
                    }
                    _ => return None,
                }
            }
        })
    }
}

/// A number of bits below 100, written without sign or leading zeros.
fn width(text: &str) -> Option<u8> {
    let canonical = text == "0" || (text.len() <= 2 && !text.starts_with('0'));
    if canonical && text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

impl ScaleType {
    /// Bits of one scale.
    pub fn bits(self) -> u32 {
        match self {
            ScaleType::F32 => 32,
            ScaleType::F16 | ScaleType::BF16 => 16,
            ScaleType::E4M3 | ScaleType::E8M0 => 8,
        }
    }
}

impl fmt::Display for Granularity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Granularity::Tensor => f.write_str("{}"),
            Granularity::Channel { axis } => write!(f, "{{axis = {axis} : i64}}"),
            Granularity::Token => f.write_str("{token}"),
            Granularity::Block { axis, block } => write!(f, "{{axis = {axis} : i64, block = {block} : i64}}"),
        }
    }
}

impl fmt::Display for ScaleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScaleType::F32 => "f32",
            ScaleType::F16 => "f16",
            ScaleType::BF16 => "bf16",
            ScaleType::E4M3 => "f8E4M3FN",
            ScaleType::E8M0 => "f8E8M0FNU",
        })
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ElementType::F64 => f.write_str("f64"),
            ElementType::F32 => f.write_str("f32"),
            ElementType::F16 => f.write_str("f16"),
            ElementType::BF16 => f.write_str("bf16"),
            ElementType::Bool => f.write_str("i1"),
            ElementType::I8 => f.write_str("i8"),
            ElementType::U8 => f.write_str("ui8"),
            ElementType::I32 => f.write_str("i32"),
            ElementType::I64 => f.write_str("i64"),
            ElementType::Quant(q) => {
                write!(f, "!qcc.q<{}, {}, {}, ", q.storage, q.granularity, q.scale)?;
                if q.zero_point { write!(f, "{}>", q.storage) } else { f.write_str("none>") }
            }
        }
    }
}
