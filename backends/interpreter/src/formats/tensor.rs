//! Tensors in a format.

use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{QuantType, ScaleType, Storage};
use qcc_params::Data;
use qcc_params::tensor::{signed_codes, wide_codes};

use super::calibrated::{levels, power_code};
use super::code::Code;
use super::split::{dequantize_split, quantize_split};
use super::{FormatError, Groups, check_count, scale, scale_indices};
use crate::real::Real;

/// How numbers are turned into codes, besides the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Whether the lowest code of a signed integer is left out.
    pub narrow: bool,
    /// Ties.
    pub rounding: Rounding,
    /// NaN, infinities, and what is beyond the last level.
    pub special: Special,
}

impl Rules {
    /// Ties to even, saturating.
    pub fn nearest(narrow: bool) -> Rules {
        Rules { narrow, rounding: Rounding::HalfEven, special: Special::Saturate }
    }
}

/// Scales as their type holds them.
#[derive(Clone, Debug, PartialEq)]
pub enum Scales<R> {
    /// f32, f16 and bf16: the numbers.
    Floats(Vec<R>),
    /// E4M3 and E8M0: codes.
    Codes(Vec<u8>),
}

/// What comes with codes.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters<R> {
    /// A scale for each group of [`scale_indices`], of split codes three.
    pub scales: Scales<R>,
    /// Likewise, where codes have them.
    pub zero_points: Option<Vec<i32>>,
    /// What E4M3 scales are multiples of.
    pub tensor_scale: Option<R>,
    /// The levels of calibrated codes.
    pub codebook: Option<Vec<f64>>,
}

/// Codes with what comes with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized<R> {
    /// The codes, as a tensor of the type holds them.
    pub codes: Data,
    /// Their scales and the rest.
    pub parameters: Parameters<R>,
}

impl<R: Real> Parameters<R> {
    /// Scales and zero points alone.
    pub fn new(scales: Scales<R>, zero_points: Option<Vec<i32>>) -> Parameters<R> {
        Parameters { scales, zero_points, tensor_scale: None, codebook: None }
    }

    /// The scales as numbers, times that of the tensor.
    fn effective(&self, q: QuantType) -> Result<Vec<R>, FormatError> {
        let of_code =
            |code: u8| q.scale.of_code(code).map(R::from_f64).ok_or(FormatError::ScaleType(q.scale));
        let scales = match (&self.scales, q.scale) {
            (Scales::Floats(scales), ScaleType::F32 | ScaleType::F16 | ScaleType::BF16) => scales.clone(),
            (Scales::Codes(codes), _) => codes.iter().map(|c| of_code(*c)).collect::<Result<_, _>>()?,
            (Scales::Floats(_), _) => return Err(FormatError::ScaleType(q.scale)),
        };
        if !q.has_tensor_scale() {
            return Ok(scales);
        }
        let of_tensor = self.tensor_scale.ok_or(FormatError::Missing("tensor scale"))?;
        Ok(scales.into_iter().map(|s| s * of_tensor).collect())
    }

    /// The zero points, of which there are `count`; each a code.
    fn checked_zero_points(&self, code: &Code, count: usize) -> Result<Option<&[i32]>, FormatError> {
        let Some(zero_points) = &self.zero_points else { return Ok(None) };
        let integers =
            code.integers().ok_or_else(|| FormatError::Unimplemented("zero points of such codes".into()))?;
        check_count("zero points", zero_points.len(), count)?;
        zero_points.iter().try_for_each(|z| integers.check(*z))?;
        Ok(Some(zero_points))
    }
}

/// The levels that each element of a tensor may have: for rounding one element at a time.
#[derive(Clone, Debug)]
pub struct Grid<R> {
    code: Code,
    rounding: Rounding,
    groups: Groups,
    scales: Vec<R>,
    inverses: Vec<R>,
    zero_points: Option<Vec<i32>>,
}

impl<R: Real> Grid<R> {
    /// The levels of a tensor `dims` in `q` with these scales.
    ///
    /// # Errors
    /// When `q` has split codes, counts disagree, or a zero point is not a code.
    pub fn new(
        dims: &[usize],
        q: QuantType,
        rules: Rules,
        parameters: &Parameters<R>,
    ) -> Result<Grid<R>, FormatError> {
        let code = Code::new(q, rules.narrow, rules.special, parameters.codebook.as_deref())?;
        let groups = Groups::new(dims, q.granularity)?;
        let scales = parameters.effective(q)?;
        check_count("scales", scales.len(), groups.count())?;
        let zero_points = parameters.checked_zero_points(&code, groups.count())?.map(<[i32]>::to_vec);
        let inverses = scales.iter().map(|s| s.reciprocal()).collect();
        Ok(Grid { code, rounding: rules.rounding, groups, scales, inverses, zero_points })
    }

    /// Elements of the tensor.
    pub fn len(&self) -> usize {
        self.groups.elements()
    }

    /// Whether the tensor has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The code that is nearest to `x` for the `at`-th element, and the number it stands for.
    pub fn nearest(&self, at: usize, x: R) -> (i32, R) {
        let group = self.groups.of(at);
        let code = self.code.encode(x * self.inverses[group], self.zero_point(group), self.rounding);
        (code, self.code.decode::<R>(code, self.zero_point(group)) * self.scales[group])
    }

    /// The number that a code stands for at the `at`-th element.
    pub fn level(&self, at: usize, code: i32) -> R {
        let group = self.groups.of(at);
        self.code.decode::<R>(code, self.zero_point(group)) * self.scales[group]
    }

    fn zero_point(&self, group: usize) -> i32 {
        self.zero_points.as_ref().map_or(0, |zeros| zeros[group])
    }

    /// The nearest codes of all elements, as `make` holds them.
    fn codes<C>(&self, values: &[R], make: impl Fn(i32) -> C) -> Vec<C> {
        let mut codes = Vec::with_capacity(values.len());
        for (group, run) in self.groups.runs() {
            let scaling = (self.inverses[group], self.zero_point(group));
            self.code.encode_run(&values[run], scaling, self.rounding, &make, &mut codes);
        }
        codes
    }
}

/// Codes of `values` `dims` in `q` with the given scales.
///
/// # Errors
/// When `q` has split codes, counts disagree, or a zero point is not a code.
pub fn quantize<R: Real>(
    values: &[R],
    dims: &[usize],
    q: QuantType,
    rules: Rules,
    parameters: &Parameters<R>,
) -> Result<Data, FormatError> {
    let grid = Grid::new(dims, q, rules, parameters)?;
    check_count("values", values.len(), grid.len())?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "codes are in the format's range"
    )]
    Ok(if signed_codes(q.storage) {
        Data::I8(grid.codes(values, |c| c as i8))
    } else if wide_codes(q.storage) {
        Data::U16(grid.codes(values, |c| q.storage.pattern_of(c)))
    } else {
        Data::U8(grid.codes(values, |c| c as u8))
    })
}

/// Codes as a tensor holds them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "codes are in the format's range")]
pub fn held(storage: Storage, codes: impl Iterator<Item = i32>) -> Data {
    if signed_codes(storage) {
        Data::I8(codes.map(|c| c as i8).collect())
    } else if wide_codes(storage) {
        Data::U16(codes.map(|c| storage.pattern_of(c)).collect())
    } else {
        Data::U8(codes.map(|c| c as u8).collect())
    }
}

/// Codes of `values` `dims` in `q` with scales (and clusters, and codebooks) found in the values; E4M3 scales are multiples of `tensor_scale`
/// where that is given.
///
/// # Errors
/// When `q` is no type that finds its own scales, or counts disagree.
pub fn quantize_dynamic<R: Real>(
    values: &[R],
    dims: &[usize],
    q: QuantType,
    rules: Rules,
    tensor_scale: Option<R>,
) -> Result<Quantized<R>, FormatError> {
    if q.storage.is_split() {
        return quantize_split(values, dims, q, rules.rounding);
    }
    let mut parameters = scale::scales(values, dims, q, rules, tensor_scale)?;
    if !q.storage.has_codebook() {
        let codes = quantize(values, dims, q, rules, &parameters)?;
        return Ok(Quantized { codes, parameters });
    }
    let (indices, _) = scale_indices(dims, q.granularity)?;
    let scales = parameters.effective(q)?;
    let inverses: Vec<R> = scales.iter().map(|s| s.reciprocal()).collect();
    let scaled: Vec<(R, R)> =
        values.iter().zip(&indices).map(|(&x, &i)| (x * inverses[i], scales[i])).collect();
    let calibrated = levels(&scaled, q)?;
    parameters.codebook = Some(calibrated.levels);
    let codes = match (calibrated.exponent, q.storage) {
        (Some(exponent), Storage::PowExp(bits)) => {
            let code = |(x, _): &(R, R)| power_code(x.to_f64(), exponent, bits, rules.rounding);
            held(q.storage, scaled.iter().map(code))
        }
        _ => quantize(values, dims, q, rules, &parameters)?,
    };
    Ok(Quantized { codes, parameters })
}

/// The codes of a tensor, each checked to be one of the format's.
///
/// # Errors
/// When they are held as other elements, or one is none of the format's.
pub fn read_codes(codes: &Data, q: QuantType) -> Result<Vec<i32>, FormatError> {
    let storage = q.storage;
    let held_otherwise = || FormatError::Unimplemented(format!("{} held as other elements", storage.name()));
    let codes: Vec<i32> = match codes {
        Data::I8(v) if signed_codes(storage) => v.iter().map(|c| i32::from(*c)).collect(),
        Data::U8(v) if !signed_codes(storage) && !wide_codes(storage) => {
            v.iter().map(|c| i32::from(*c)).collect()
        }
        Data::U16(v) if wide_codes(storage) => v.iter().map(|c| storage.code_of(*c)).collect(),
        _ => return Err(held_otherwise()),
    };
    let (lowest, highest) = match super::IntegerFormat::new(storage, false) {
        Ok(integers) => (integers.lowest, integers.highest),
        Err(_) if storage == Storage::Binary => (-1, 1),
        Err(_) => (0, (1 << storage.bits()) - 1),
    };
    let is_code = |c: i32| (lowest..=highest).contains(&c) && (storage != Storage::Binary || c != 0);
    match codes.iter().find(|c| !is_code(**c)) {
        Some(&code) => Err(FormatError::Code { code, lowest, highest }),
        None => Ok(codes),
    }
}

/// The numbers that codes `dims` in `q` stand for.
///
/// # Errors
/// When counts disagree, something that comes with the codes is missing, or a code is not one of the format's.
pub fn dequantize<R: Real>(
    codes: &Data,
    dims: &[usize],
    q: QuantType,
    parameters: &Parameters<R>,
) -> Result<Vec<R>, FormatError> {
    if q.storage.is_split() {
        return dequantize_split(codes, dims, q, parameters);
    }
    let code = Code::new(q, false, Special::Saturate, parameters.codebook.as_deref())?;
    let codes = read_codes(codes, q)?;
    let groups = Groups::new(dims, q.granularity)?;
    check_count("codes", codes.len(), groups.elements())?;
    let scales = parameters.effective(q)?;
    check_count("scales", scales.len(), groups.count())?;
    let zero_points = parameters.checked_zero_points(&code, groups.count())?;
    let mut values = Vec::with_capacity(codes.len());
    for (group, run) in groups.runs() {
        let (scale, zero_point) = (scales[group], zero_points.map_or(0, |z| z[group]));
        values.extend(codes[run].iter().map(|&c| code.decode::<R>(c, zero_point) * scale));
    }
    Ok(values)
}

/// `values` `dims` through the format and back.
///
/// # Errors
/// As [`quantize_dynamic`].
pub fn rounded<R: Real>(
    values: &[R],
    dims: &[usize],
    q: QuantType,
    rules: Rules,
) -> Result<Vec<R>, FormatError> {
    let Quantized { codes, parameters } = quantize_dynamic(values, dims, q, rules, None)?;
    dequantize(&codes, dims, q, &parameters)
}
