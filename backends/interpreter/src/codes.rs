//! Integer number formats: the one implementation of encoding and decoding, bit-exact for every user (weights, activations, kernels' tests).
//!
//! `code = clamp(round(x · (1 / scale)) + zero_point, lowest, highest)`, all in the real arithmetic of the caller ([`Real`]): in f32 the
//! reciprocal is one division, rounded once. NaN takes the zero point. `value = (code − zero_point) · scale`.

use qcc_ir::ops::Rounding;
use qcc_ir::{Granularity, QuantType, ScaleType, Storage};
use qcc_params::Data;

use crate::real::Real;

/// Why numbers cannot be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The format has no implementation.
    #[error("format {0} is not implemented yet; integer and split formats of 2 to 8 bits are")]
    Unimplemented(String),
    /// The scale type has no implementation.
    #[error("scales of type {0} are not implemented yet; f32, f16 and bf16 are")]
    ScaleType(ScaleType),
    /// Scales are shared along an axis that does not exist.
    #[error("scales along axis {axis} do not fit a tensor of rank {rank}")]
    Axis {
        /// The axis.
        axis: u8,
        /// Rank of the tensor.
        rank: usize,
    },
    /// Element counts disagree.
    #[error("{got} {what} for a tensor that needs {expected}")]
    Count {
        /// What is counted.
        what: &'static str,
        /// How many there are.
        got: usize,
        /// How many there should be.
        expected: usize,
    },
    /// A zero point is not a code.
    #[error("zero point {zero_point} is outside the codes {lowest}..={highest}")]
    ZeroPoint {
        /// The zero point.
        zero_point: i32,
        /// Lowest code.
        lowest: i32,
        /// Highest code.
        highest: i32,
    },
    /// A code is not one of the format's.
    #[error("code {code} is outside the codes {lowest}..={highest}")]
    Code {
        /// The code.
        code: i32,
        /// Lowest code.
        lowest: i32,
        /// Highest code.
        highest: i32,
    },
}

/// The codes of an integer format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntegerFormat {
    /// Lowest code.
    pub lowest: i32,
    /// Highest code.
    pub highest: i32,
}

impl IntegerFormat {
    /// The codes of `storage`; `narrow` drops the lowest one of a signed format, so that codes are symmetric.
    ///
    /// # Errors
    /// When the format is not an integer of 2 to 8 bits.
    pub fn new(storage: Storage, narrow: bool) -> Result<IntegerFormat, FormatError> {
        let bits = match storage {
            Storage::Int(bits) | Storage::UInt(bits) => bits,
            _ => 0,
        };
        match storage.integer_range(narrow).filter(|_| (2..=8).contains(&bits)) {
            Some((lowest, highest)) => Ok(IntegerFormat { lowest, highest }),
            None => Err(FormatError::Unimplemented(storage.name())),
        }
    }

    /// The code of `x`, given `inverse = 1 / scale`.
    pub fn encode<R: Real>(&self, x: R, inverse: R, zero_point: i32, rounding: Rounding) -> i32 {
        let code = (x * inverse).rounded(rounding) + R::from_i32(zero_point);
        if code.not_a_number() {
            zero_point
        } else if code <= R::from_i32(self.lowest) {
            self.lowest
        } else if code >= R::from_i32(self.highest) {
            self.highest
        } else {
            code.to_i32()
        }
    }

    /// The number a code stands for.
    pub fn decode<R: Real>(&self, code: i32, zero_point: i32, scale: R) -> R {
        R::from_i32(code - zero_point) * scale
    }

    /// The scale of numbers up to `largest` in magnitude: `largest · (1 / highest code)` rounded to the scale type, 1 where that is zero.
    pub fn dynamic_scale<R: Real>(&self, largest: R, ty: ScaleType) -> R {
        let scale = (largest * R::from_i32(self.highest).reciprocal()).as_scale(ty);
        if scale == R::ZERO { R::ONE } else { scale }
    }

    fn check_zero_point(&self, zero_point: i32) -> Result<(), FormatError> {
        let IntegerFormat { lowest, highest } = *self;
        if (lowest..=highest).contains(&zero_point) {
            return Ok(());
        }
        Err(FormatError::ZeroPoint { zero_point, lowest, highest })
    }
}

/// Which scale each element of a tensor uses, in row-major order; and how many scales there are.
///
/// # Errors
/// When the granularity names an axis the tensor does not have.
pub fn scale_indices(dims: &[usize], granularity: Granularity) -> Result<(Vec<usize>, usize), FormatError> {
    let elements: usize = dims.iter().product();
    let split = |axis: u8| {
        let a = usize::from(axis);
        match dims.get(a) {
            Some(&size) => Ok((size, dims[a + 1..].iter().product::<usize>().max(1))),
            None => Err(FormatError::Axis { axis, rank: dims.len() }),
        }
    };
    Ok(match granularity {
        Granularity::Tensor => (vec![0; elements], 1),
        Granularity::Channel { axis } => {
            let (size, inner) = split(axis)?;
            ((0..elements).map(|i| i / inner % size).collect(), size)
        }
        Granularity::Token => {
            let row = dims.last().copied().unwrap_or(1).max(1);
            let rows = dims[..dims.len().saturating_sub(1)].iter().product();
            ((0..elements).map(|i| i / row).collect(), rows)
        }
        Granularity::Block { axis, block } => {
            let (size, inner) = split(axis)?;
            let block = usize::try_from(block.max(1)).unwrap_or(usize::MAX);
            let blocks = size.div_ceil(block);
            let outer: usize = dims[..usize::from(axis)].iter().product();
            let inners: usize = dims[usize::from(axis) + 1..].iter().product();
            let index = |i: usize| {
                let (o, a) = (i / inner / size, i / inner % size);
                (o * blocks + a / block) * inner + i % inner
            };
            ((0..elements).map(index).collect(), outer * blocks * inners)
        }
    })
}

/// Refuses scale types that have no implementation.
pub(crate) fn check_scale_type(q: QuantType) -> Result<(), FormatError> {
    match q.scale {
        ScaleType::F32 | ScaleType::F16 | ScaleType::BF16 => Ok(()),
        ScaleType::E4M3 | ScaleType::E8M0 => Err(FormatError::ScaleType(q.scale)),
    }
}

pub(crate) fn check_count(what: &'static str, got: usize, expected: usize) -> Result<(), FormatError> {
    if got == expected { Ok(()) } else { Err(FormatError::Count { what, got, expected }) }
}

/// Scales of `values` `dims` computed from themselves: `max|x|` over what shares a scale (NaN does not count), made a scale by
/// [`IntegerFormat::dynamic_scale`].
///
/// # Errors
/// When the format is not implemented or counts disagree.
pub fn dynamic_scales<R: Real>(
    values: &[R],
    dims: &[usize],
    q: QuantType,
    narrow: bool,
) -> Result<Vec<R>, FormatError> {
    let format = IntegerFormat::new(q.storage, narrow)?;
    check_scale_type(q)?;
    let (indices, count) = scale_indices(dims, q.granularity)?;
    check_count("values", values.len(), indices.len())?;
    let mut largest = vec![R::ZERO; count];
    for (&x, &i) in values.iter().zip(&indices) {
        if x.magnitude() > largest[i] {
            largest[i] = x.magnitude();
        }
    }
    Ok(largest.into_iter().map(|m| format.dynamic_scale(m, q.scale)).collect())
}

/// Codes of `values` `dims` as `q` holds them (`i8` for signed formats, `u8` for unsigned ones), one scale (and zero point, if any) for
/// each group of [`scale_indices`].
///
/// # Errors
/// When the format is not implemented, counts disagree, or a zero point is not a code.
pub fn quantize_codes<R: Real>(
    values: &[R],
    dims: &[usize],
    q: QuantType,
    narrow: bool,
    rounding: Rounding,
    scales: &[R],
    zero_points: Option<&[i32]>,
) -> Result<Data, FormatError> {
    let format = IntegerFormat::new(q.storage, narrow)?;
    check_scale_type(q)?;
    let (indices, count) = scale_indices(dims, q.granularity)?;
    check_count("values", values.len(), indices.len())?;
    check_count("scales", scales.len(), count)?;
    if let Some(zero_points) = zero_points {
        check_count("zero points", zero_points.len(), count)?;
        zero_points.iter().try_for_each(|z| format.check_zero_point(*z))?;
    }
    let inverses: Vec<R> = scales.iter().map(|s| s.reciprocal()).collect();
    let codes = values.iter().zip(&indices).map(|(&x, &i)| {
        let zero_point = zero_points.map_or(0, |z| z[i]);
        format.encode(x, inverses[i], zero_point, rounding)
    });
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "codes are in the format's range"
    )]
    Ok(match q.storage {
        Storage::UInt(_) => Data::U8(codes.map(|c| c as u8).collect()),
        _ => Data::I8(codes.map(|c| c as i8).collect()),
    })
}

/// The codes of a tensor as integers, each checked to be one of the format's.
///
/// # Errors
/// When the format is not implemented or a code is not one of its codes.
pub fn read_codes(codes: &Data, q: QuantType) -> Result<Vec<i32>, FormatError> {
    let format = IntegerFormat::new(q.storage, false)?;
    let codes: Vec<i32> = match codes {
        Data::I8(v) => v.iter().map(|c| i32::from(*c)).collect(),
        Data::U8(v) => v.iter().map(|c| i32::from(*c)).collect(),
        _ => return Err(FormatError::Unimplemented(format!("{} held as wide elements", q.storage.name()))),
    };
    match codes.iter().find(|c| !(format.lowest..=format.highest).contains(*c)) {
        Some(&code) => Err(FormatError::Code { code, lowest: format.lowest, highest: format.highest }),
        None => Ok(codes),
    }
}

/// Numbers that codes `dims` stand for; scales and zero points as in [`quantize_codes`].
///
/// # Errors
/// When the format is not implemented, counts disagree, or a code is not one of the format's.
pub fn dequantize_codes<R: Real>(
    codes: &Data,
    dims: &[usize],
    q: QuantType,
    scales: &[R],
    zero_points: Option<&[i32]>,
) -> Result<Vec<R>, FormatError> {
    let format = IntegerFormat::new(q.storage, false)?;
    check_scale_type(q)?;
    let codes = read_codes(codes, q)?;
    let (indices, count) = scale_indices(dims, q.granularity)?;
    check_count("codes", codes.len(), indices.len())?;
    check_count("scales", scales.len(), count)?;
    if let Some(zero_points) = zero_points {
        check_count("zero points", zero_points.len(), count)?;
        zero_points.iter().try_for_each(|z| format.check_zero_point(*z))?;
    }
    let decode =
        |(&code, &i): (&i32, &usize)| format.decode(code, zero_points.map_or(0, |z| z[i]), scales[i]);
    Ok(codes.iter().zip(&indices).map(decode).collect())
}
