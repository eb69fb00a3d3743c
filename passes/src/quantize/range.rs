//! Scale and zero point from a range of values (min-max calibration).

use qcc_ir::{QuantType, Storage};

use crate::calibrate::Range;

/// Scale and zero point of a format with one scale a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct QuantParameters {
    pub scale: f32,
    pub zero_point: i32,
}

/// Symmetric: `max|x| / largest level`. Asymmetric: the range widened to contain 0 (padding stays exact) over all codes. A range of zeros
/// has scale 1.
pub(crate) fn parameters(range: Range, q: &QuantType, narrow: bool) -> QuantParameters {
    let (min, max) = (f64::from(range.min).min(0.0), f64::from(range.max).max(0.0));
    let Some((low, high)) = q.storage.integer_range(narrow) else {
        let fixed = matches!(q.storage, Storage::Fixed { .. });
        let scale = if fixed { 1.0 } else { (max.max(-min) / q.largest_level()) as f32 };
        return QuantParameters { scale: if scale > 0.0 { scale } else { 1.0 }, zero_point: 0 };
    };
    if q.zero_point {
        let scale = ((max - min) / f64::from(high - low)) as f32;
        if scale <= 0.0 {
            return QuantParameters { scale: 1.0, zero_point: low.max(0) };
        }
        let zero_point = f64::from(low) - (min / f64::from(scale)).round_ties_even();
        return QuantParameters { scale, zero_point: (zero_point as i32).clamp(low, high) };
    }
    // An unsigned symmetric code cannot hold negative values: they clip at 0.
    let largest = if low == 0 { max } else { max.max(-min) };
    let scale = (largest / f64::from(high)) as f32;
    QuantParameters { scale: if scale > 0.0 { scale } else { 1.0 }, zero_point: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qcc_ir::{Granularity, ScaleType};

    fn q(storage: Storage, zero_point: bool) -> QuantType {
        QuantType { storage, granularity: Granularity::Tensor, scale: ScaleType::F32, zero_point }
    }

    #[test]
    fn symmetric_uses_the_larger_side() {
        let p = parameters(Range { min: -254.0, max: 10.0 }, &q(Storage::Int(8), false), true);
        assert_eq!(p, QuantParameters { scale: 2.0, zero_point: 0 });
    }

    #[test]
    fn asymmetric_contains_zero() {
        let p = parameters(Range { min: -1.0, max: 1.55 }, &q(Storage::UInt(8), true), false);
        assert_eq!(p.zero_point, 100);
        assert!((p.scale - 0.01).abs() < 1e-6);
        let p = parameters(Range { min: 1.0, max: 2.55 }, &q(Storage::UInt(8), true), false);
        assert_eq!(p.zero_point, 0);
    }

    #[test]
    fn zeros_have_scale_one() {
        for zero_point in [false, true] {
            let p = parameters(Range { min: 0.0, max: 0.0 }, &q(Storage::UInt(8), zero_point), false);
            assert_eq!(p.scale, 1.0);
        }
    }
}
