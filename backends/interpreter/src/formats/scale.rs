//! Scales found in the values themselves.

use qcc_ir::levels::exponent_of;
use qcc_ir::ops::{Rounding, Special};
use qcc_ir::{QuantType, ScaleType, Storage};

use super::code::{Code, IntegerFormat};
use super::tensor::{Parameters, Rules, Scales};
use super::{FormatError, Groups, check_count};
use crate::real::Real;

/// What is seen of the values that share a scale; all of it is at least 0.
#[derive(Clone, Copy)]
struct Seen<R> {
    /// The largest magnitude.
    largest: R,
    greatest: R,
    /// The least without its sign.
    below: R,
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
    let groups = Groups::new(dims, q.granularity)?;
    check_count("values", values.len(), groups.elements())?;
    if matches!(q.storage, Storage::Ternary | Storage::Binary) {
        return fitted(values, &groups, q);
    }
    let nothing = Seen { largest: R::ZERO, greatest: R::ZERO, below: R::ZERO, finite: true };
    let mut seen = vec![nothing; groups.count()];
    let unsigned = matches!(q.storage, Storage::UInt(_));
    // Where infinities are made finite they are as large as the largest number that is.
    let finite_only = rules.special == Special::Finite;
    let held = |x: R| if finite_only && !x.finite() { R::ZERO } else { x };
    for (group, run) in groups.runs() {
        let (values, group) = (&values[run], &mut seen[group]);
        // Unsigned codes hold no negative numbers, which are as good as 0.
        group.largest = match unsigned {
            true => greatest(values, group.largest, held),
            false => greatest(values, group.largest, |x| held(x).magnitude()),
        };
        if q.zero_point {
            group.greatest = greatest(values, group.greatest, held);
            group.below = greatest(values, group.below, |x| held(x) * R::from_i32(-1));
        }
        if q.scale == ScaleType::E8M0 {
            group.finite &= values.iter().fold(true, |all, x| all & x.finite());
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
        _ if matches!(q.storage, Storage::Fixed { .. }) => {
            Parameters::new(floats(vec![R::ONE; seen.len()], q)?, None)
        }
        _ => {
            let part = R::from_f64(q.largest_level()).reciprocal();
            let scale = |s: &Seen<R>| symmetric(s.largest * part, q.scale);
            Parameters::new(floats(seen.iter().map(scale).collect(), q)?, None)
        }
    })
}

/// The greatest of `least` and `of` each value; NaN is none. It is looked for in parts, which does not change it.
fn greatest<R: Real>(values: &[R], least: R, of: impl Fn(R) -> R) -> R {
    let greater = |most: R, x: R| if x > most { x } else { most };
    let mut parts = [least; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (most, x) in parts.iter_mut().zip(chunk) {
            *most = greater(*most, of(*x));
        }
    }
    rest.iter().map(|x| of(*x)).chain(parts).fold(least, greater)
}

fn floats<R: Real>(scales: Vec<R>, q: QuantType) -> Result<Scales<R>, FormatError> {
    match q.scale {
        ScaleType::F32 | ScaleType::F16 | ScaleType::BF16 => Ok(Scales::Floats(scales)),
        ScaleType::E4M3 | ScaleType::E8M0 => Err(FormatError::ScaleType(q.scale)),
    }
}

/// The scale of numbers whose largest magnitude is `exact` times the largest level: that, rounded to the scale type, 1 where it is zero.
fn symmetric<R: Real>(exact: R, ty: ScaleType) -> R {
    let scale = exact.as_scale(ty);
    if scale == R::ZERO { R::ONE } else { scale }
}

fn asymmetric<R: Real>(seen: &Seen<R>, integers: IntegerFormat, ty: ScaleType) -> (R, i32) {
    let IntegerFormat { lowest, highest } = integers;
    let span = seen.greatest + seen.below;
    let scale = (span * R::from_i32(highest - lowest).reciprocal()).as_scale(ty);
    if scale == R::ZERO {
        return (R::ONE, lowest.max(0));
    }
    let zero_point = R::from_i32(lowest) + (seen.below * scale.reciprocal()).rounded(Rounding::HalfEven);
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
fn fitted<R: Real>(values: &[R], groups: &Groups, q: QuantType) -> Result<Parameters<R>, FormatError> {
    let mut sizes = vec![Vec::new(); groups.count()];
    for (group, run) in groups.runs() {
        sizes[group]
            .extend(values[run].iter().map(|x| x.magnitude().to_f64()).filter(|size| size.is_finite()));
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
    Ok(Parameters::new(floats(sizes.into_iter().map(scale).collect(), q)?, None))
}
