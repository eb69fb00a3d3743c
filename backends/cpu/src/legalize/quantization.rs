//! Dynamic quantization with one scale a tensor: the scale is computed by reductions, then the quantization is a static one.

use qcc_ir::{Dense, Float, Granularity, Op, ScaleType};

use super::site::{Rewritten, Site};

/// Rewrites `dynamic_quantize` per tensor; per token it has a kernel.
pub(super) fn dynamic_quantize(site: &mut Site<'_>) -> Rewritten {
    let Op::DynamicQuantize { to, narrow, rounding, special } = site.node.op else { return Ok(None) };
    let x = site.operand(0);
    let Some(q) = to.quantized() else { return Ok(None) };
    let Some((lowest, highest)) = q.storage.integer_range(narrow) else { return Ok(None) };
    if q.granularity != Granularity::Tensor || q.scale != ScaleType::F32 || lowest >= 0 {
        return Ok(None);
    }
    let size = site.add(Op::Abs {}, &[x])?;
    let axes = (0..site.rank(x) as i64).collect();
    let size = site.add(Op::ReduceMax { axes, keep_dims: false }, &[size])?;
    let scalar =
        |site: &mut Site<'_>, value| site.function.add_constant(Dense::scalar(value), &site.node.location);
    #[allow(clippy::cast_precision_loss, reason = "codes are small")]
    let (highest, one, huge) = (scalar(site, highest as f32), scalar(site, 1.0), scalar(site, f32::MAX));
    let inverse = site.add(Op::Reciprocal {}, &[highest])?;
    let scale = site.add(Op::Mul {}, &[size, inverse])?;
    // 1 where all elements are zero, else 0.
    let some = site.add(Op::Mul {}, &[size, huge])?;
    let some = site.add(Op::Clamp { min: Float(0.0), max: Float(1.0) }, &[some])?;
    let nothing = site.add(Op::Sub {}, &[one, some])?;
    let scale = site.add(Op::Add {}, &[scale, nothing])?;
    let codes = site.add_heir(Op::Quantize { to, narrow, rounding, special }, [Some(x), Some(scale)])?[0];
    Ok(Some(vec![codes, scale]))
}
