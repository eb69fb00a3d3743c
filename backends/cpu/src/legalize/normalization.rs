//! Softmaxes and normalisations whose kernels work on rows: other axes are brought there, or the operation is spelled out.

use qcc_ir::{Float, Op, ValueId};

use super::site::{Failure, Rewritten, Site, one, product};

/// Rewrites `batch_norm` as one product and one sum with vectors that are folded into weights.
pub(super) fn batch_norm(site: &mut Site<'_>) -> Rewritten {
    let Op::BatchNorm { epsilon } = site.node.op else { return Ok(None) };
    let [x, scale, bias, mean, variance] = [0, 1, 2, 3, 4].map(|slot| site.operand(slot));
    // The constant as a vector in full precision.
    let epsilon = site.add(Op::Clamp { min: epsilon, max: epsilon }, &[variance])?;
    let variance = site.add(Op::Add {}, &[variance, epsilon])?;
    let deviation = site.add(Op::Sqrt {}, &[variance])?;
    let gain = site.add(Op::Div {}, &[scale, deviation])?;
    let shift = site.add(Op::Mul {}, &[mean, gain])?;
    let shift = site.add(Op::Sub {}, &[bias, shift])?;
    let mut shape = site.dims(scale);
    shape.resize(site.rank(x) - 1, 1.into());
    let gain = site.reshape(gain, shape.clone())?;
    let shift = site.reshape(shift, shape)?;
    let y = site.add(Op::Mul {}, &[x, gain])?;
    one(site.add(Op::Add {}, &[y, shift])?)
}

/// Rewrites `softmax` along another axis than the last.
pub(super) fn softmax(site: &mut Site<'_>) -> Rewritten {
    let Op::Softmax { axis } = site.node.op else { return Ok(None) };
    let x = site.operand(0);
    let last = site.rank(x) - 1;
    if axis == last as i64 {
        return Ok(None);
    }
    let y = site.exchange_with_last(x, axis as usize)?;
    let y = site.add(Op::Softmax { axis: last as i64 }, &[y])?;
    one(site.exchange_with_last(y, axis as usize)?)
}

/// Rewrites `log_softmax` as `(x − max) − log Σ exp(x − max)`.
pub(super) fn log_softmax(site: &mut Site<'_>) -> Rewritten {
    let Op::LogSoftmax { axis } = site.node.op else { return Ok(None) };
    let x = site.operand(0);
    let axes = vec![axis];
    let top = site.add(Op::ReduceMax { axes: axes.clone(), keep_dims: true }, &[x])?;
    let shifted = site.add(Op::Sub {}, &[x, top])?;
    let powers = site.add(Op::Exp {}, &[shifted])?;
    let sum = site.add(Op::ReduceSum { axes, keep_dims: true }, &[powers])?;
    let log = site.add(Op::Log {}, &[sum])?;
    one(site.add(Op::Sub {}, &[shifted, log])?)
}

/// Rewrites `layer_norm` over several axes as one over rows, and spells it out where rows have a symbolic length.
pub(super) fn layer_norm(site: &mut Site<'_>) -> Rewritten {
    let Op::LayerNorm { axis, epsilon } = site.node.op else { return Ok(None) };
    let x = site.operand(0);
    let dims = site.dims(x);
    let (outer, inner) = dims.split_at(axis as usize);
    let row = product(inner)?;
    if inner.len() == 1 && row.constant().is_some() {
        return Ok(None);
    }
    let mut flat = outer.to_vec();
    flat.push(row.clone());
    let y = site.reshape(x, flat.clone())?;
    let mut operands = vec![Some(y)];
    for slot in [1, 2] {
        let vector = site.optional(slot);
        operands.push(match vector {
            Some(v) => Some(site.reshape(v, vec![row.clone()])?),
            None => None,
        });
    }
    let last = outer.len() as i64;
    let y = if row.constant().is_some() {
        site.add_heir(Op::LayerNorm { axis: last, epsilon }, operands)?[0]
    } else {
        spelled_out(site, y, last, epsilon, [operands[1], operands[2]])?
    };
    one(site.reshape(y, dims)?)
}

fn spelled_out(
    site: &mut Site<'_>,
    x: ValueId,
    axis: i64,
    epsilon: Float,
    [gain, bias]: [Option<ValueId>; 2],
) -> Result<ValueId, Failure> {
    let mean = Op::ReduceMean { axes: vec![axis], keep_dims: true };
    let center = site.add(mean.clone(), &[x])?;
    let centered = site.add(Op::Sub {}, &[x, center])?;
    let squares = site.add(Op::Mul {}, &[centered, centered])?;
    let variance = site.add(mean, &[squares])?;
    let epsilon = site.add(Op::Clamp { min: epsilon, max: epsilon }, &[variance])?;
    let variance = site.add(Op::Add {}, &[variance, epsilon])?;
    let deviation = site.add(Op::Sqrt {}, &[variance])?;
    let mut y = site.add(Op::Div {}, &[centered, deviation])?;
    if let Some(gain) = gain {
        y = site.add(Op::Mul {}, &[y, gain])?;
    }
    if let Some(bias) = bias {
        y = site.add(Op::Add {}, &[y, bias])?;
    }
    Ok(y)
}
