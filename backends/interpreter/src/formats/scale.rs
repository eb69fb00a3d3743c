//! Scales found in the values themselves.

use qcc_ir::levels::exponent_of;
use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{QuantType, ScaleType, Storage};

use super::code::{Code, IntegerFormat};
use super::tensor::{Parameters, Rules, Scales};
use super::{FormatError, check_count, scale_indices};
use crate::real::Real;

/// What is seen of the values that share a scale.
#[derive(Clone, Copy)]
struct Seen<R> {
    largest: R,
    least: R,
    greatest: R,
    finite: bool,
}

/// Scales (and zero points, and the tensor's scale) of `values` `dims`, as the operation table has it for `dynamic_quantize`. A codebook is
/// found elsewhere.
///
/// # Errors
/// When the format has no such scales or counts disagree.
pub fn scales<R: Real>(
    values: &[R],
    dims: &[usize],
    q: QuantType,
    rules: Rules,
    tensor_scale: Option<R>,
) -> Result<Parameters<R>, FormatError> {
    let (indices, count) = scale_indices(dims, q.granularity)?;
    check_count("values", values.len(), indices.len())?;
    if matches!(q.storage, Storage::Ternary | Storage::Binary) {
        return fitted(values, &indices, count, q);
    }
    let nothing = Seen { largest: R::ZERO, least: R::ZERO, greatest: R::ZERO, finite: true };
    let mut seen = vec![nothing; count];
    let unsigned = matches!(q.storage, Storage::UInt(_));
    for (&x, &i) in values.iter().zip(&indices) {
        let group = &mut seen[i];
        // Unsigned codes hold no negative numbers, which are as good as 0.
        let size = if unsigned { x } else { x.magnitude() };
        let finite = x.to_f64().is_finite();
        group.finite &= finite;
        // Where infinities are made finite they are as large as the largest number that is.
        if rules.special == Special::Finite && !finite {
            continue;
        }
        if size > group.largest {
            group.largest = size;
        }
        if x < group.least {
            group.least = x;
        }
        if x > group.greatest {
            group.greatest = x;
        }
    }
    if q.zero_point {
        let integers = IntegerFormat::new(q.storage, rules.narrow)?;
        let (scales, zero_points) = seen.iter().map(|s| asymmetric(s, integers, q.scale)).unzip();
        return Ok(Parameters::new(floats(scales, q)?, Some(zero_points)));
    }
    Ok(match q.scale {
        ScaleType::E8M0 => {
            let poisoned = |s: &Seen<R>| !s.finite && rules.special != Special::Finite;
            let code = |s: &Seen<R>| if poisoned(s) { u8::MAX } else { power(s.largest, q) };
            Parameters::new(Scales::Codes(seen.iter().map(code).collect()), None)
        }
        ScaleType::E4M3 => {
            let tensor_scale = tensor_scale.unwrap_or_else(|| {
                let largest = seen.iter().fold(R::ZERO, |m, s| if s.largest > m { s.largest } else { m });
                of_tensor(largest, q)
            });
            let inverse = tensor_scale.reciprocal();
            let part = R::from_f64(q.largest_level()).reciprocal();
            let codes = seen.iter().map(|s| e4m3(s.largest * part * inverse)).collect();
            Parameters { tensor_scale: Some(tensor_scale), ..Parameters::new(Scales::Codes(codes), None) }
        }
        _ => Parameters::new(floats(seen.iter().map(|s| symmetric(s.largest, q)).collect(), q)?, None),
    })
}

fn floats<R: Real>(scales: Vec<R>, q: QuantType) -> Result<Scales<R>, FormatError> {
    match q.scale {
        ScaleType::F32 | ScaleType::F16 | ScaleType::BF16 => Ok(Scales::Floats(scales)),
        ScaleType::E4M3 | ScaleType::E8M0 => Err(FormatError::ScaleType(q.scale)),
    }
}

/// The scale of numbers up to `largest` in magnitude: `largest · (1 / largest level)` rounded to the scale type, 1 where that is zero.
fn symmetric<R: Real>(largest: R, q: QuantType) -> R {
    if matches!(q.storage, Storage::Fixed { .. }) {
        return R::ONE;
    }
    let scale = (largest * R::from_f64(q.largest_level()).reciprocal()).as_scale(q.scale);
    if scale == R::ZERO { R::ONE } else { scale }
}

fn asymmetric<R: Real>(seen: &Seen<R>, integers: IntegerFormat, ty: ScaleType) -> (R, i32) {
    let IntegerFormat { lowest, highest } = integers;
    let span = seen.greatest + seen.least * R::from_i32(-1);
    let scale = (span * R::from_i32(highest - lowest).reciprocal()).as_scale(ty);
    if scale == R::ZERO {
        return (R::ONE, lowest.max(0));
    }
    let below = (seen.least * scale.reciprocal()).rounded(Rounding::HalfEven);
    let zero_point = R::from_i32(lowest) + below * R::from_i32(-1);
    (scale, zero_point.to_i32().clamp(lowest, highest))
}

/// The E8M0 code of a block (OCP MX v1.0, §6.3): the exponent of its largest magnitude less that of the largest level.
fn power<R: Real>(largest: R, q: QuantType) -> u8 {
    let largest = largest.to_f64();
    if largest == 0.0 {
        return 0;
    }
    let exponent = exponent_of(largest) - q.largest_exponent();
    u8::try_from((exponent + 127).clamp(0, 254)).unwrap_or_default()
}

/// The scale that E4M3 scales of blocks are multiples of.
pub(super) fn of_tensor<R: Real>(largest: R, q: QuantType) -> R {
    let scale = largest * R::from_f64(448.0 * q.largest_level()).reciprocal();
    if scale == R::ZERO { R::ONE } else { scale }
}

/// The E4M3 code nearest to a positive number, never that of zero.
fn e4m3<R: Real>(x: R) -> u8 {
    let q = QuantType {
        storage: Storage::Fp8E4M3,
        granularity: qcc_ir::Granularity::Tensor,
        scale: ScaleType::F32,
        zero_point: false,
    };
    let code =
        Code::new(q, true, Special::Saturate, None).map_or(1, |code| code.encode(x, 0, Rounding::HalfEven));
    u8::try_from(code).unwrap_or_default().max(1)
}

/// Scales of least squared error for −1, (0,) 1: the mean magnitude of what is not 0. Which numbers those are, of ternary codes: the k largest,
/// for the k of least error.
fn fitted<R: Real>(
    values: &[R],
    indices: &[usize],
    count: usize,
    q: QuantType,
) -> Result<Parameters<R>, FormatError> {
    let mut groups = vec![Vec::new(); count];
    for (x, &i) in values.iter().zip(indices) {
        let size = x.magnitude().to_f64();
        if size.is_finite() {
            groups[i].push(size);
        }
    }
    let scale = |mut sizes: Vec<f64>| {
        #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
        let mean = |sum: f64, n: usize| sum / n.max(1) as f64;
        let scale = if q.storage == Storage::Binary {
            mean(sizes.iter().sum(), sizes.len())
        } else {
            sizes.sort_unstable_by(|a, b| b.total_cmp(a));
            let (mut sum, mut best) = (0.0, (0.0, 0.0));
            for (k, size) in sizes.iter().enumerate() {
                sum += size;
                // What k + 1 numbers of this mean take off the squared error.
                let gain = mean(sum * sum, k + 1);
                if gain > best.0 {
                    best = (gain, mean(sum, k + 1));
                }
            }
            best.1
        };
        let scale = R::from_f64(scale).as_scale(q.scale);
        if scale == R::ZERO { R::ONE } else { scale }
    };
    Ok(Parameters::new(floats(groups.into_iter().map(scale).collect(), q)?, None))
}
