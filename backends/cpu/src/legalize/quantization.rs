//! Dynamic quantization with a scale for the tensor: it is computed by reductions. Then an integer quantization is a static one, and scales of
//! blocks are found as multiples of that scale.

use qcc_ir::{Dense, Float, Granularity, Op, QuantType, ScaleType, ValueId};

use super::site::{Failure, Rewritten, Site};

/// Rewrites `dynamic_quantize` per tensor, and with a scale for the tensor that is not given; per token and block it has a kernel.
pub(super) fn dynamic_quantize(site: &mut Site<'_>) -> Rewritten {
    let Op::DynamicQuantize { to, narrow, rounding, special } = site.node.op else { return Ok(None) };
    let x = site.operand(0);
    let Some(q) = to.quantized() else { return Ok(None) };
    if q.has_tensor_scale() && site.optional(1).is_none() {
        let scale = largest(site, x, 448.0 * q.largest_level())?;
        let op = site.node.op.clone();
        return Ok(Some(site.add_heir(op, [Some(x), Some(scale)])?));
    }
    if !is_reduced(q, narrow) {
        return Ok(None);
    }
    let scale = largest(site, x, q.largest_level())?;
    let codes = site.add_heir(Op::Quantize { to, narrow, rounding, special }, [Some(x), Some(scale)])?[0];
    Ok(Some(vec![codes, scale]))
}

/// Whether a static quantization follows: that of symmetric signed integers.
fn is_reduced(q: QuantType, narrow: bool) -> bool {
    q.granularity == Granularity::Tensor
        && q.scale == ScaleType::F32
        && !q.zero_point
        && q.storage.integer_range(narrow).is_some_and(|(lowest, _)| lowest < 0)
}

/// `max|x| · (1 / by)`, 1 where that is 0.
fn largest(site: &mut Site<'_>, x: ValueId, by: f64) -> Result<ValueId, Failure> {
    let size = site.add(Op::Abs {}, &[x])?;
    let axes = (0..site.rank(x) as i64).collect();
    let size = site.add(Op::ReduceMax { axes, keep_dims: false }, &[size])?;
    let scalar =
        |site: &mut Site<'_>, value| site.function.add_constant(Dense::scalar(value), &site.node.location);
    #[allow(clippy::cast_possible_truncation, reason = "levels are f32 numbers")]
    let (by, one, huge) = (scalar(site, by as f32), scalar(site, 1.0), scalar(site, f32::MAX));
    let inverse = site.add(Op::Reciprocal {}, &[by])?;
    let scale = site.add(Op::Mul {}, &[size, inverse])?;
    // 1 where there is a scale, however small, else 0.
    let mut some = scale;
    for _ in 0..2 {
        some = site.add(Op::Mul {}, &[some, huge])?;
        some = site.add(Op::Clamp { min: Float(0.0), max: Float(1.0) }, &[some])?;
    }
    let nothing = site.add(Op::Sub {}, &[one, some])?;
    site.add(Op::Add {}, &[scale, nothing])
}
