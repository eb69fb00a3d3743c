//! Products: whatever a packer must read is a parameter, whatever is computed at run time goes into a plain matrix product or sum.

use qcc_ir::{Dim, Op, ValueId, ops::ImageLayout};

use super::site::{Failure, Rewritten, Site, one};

/// Rewrites `matmul` by a matrix of weights as `linear`, whose weights are packed.
pub(super) fn by_weight(site: &mut Site<'_>) -> Rewritten {
    let (a, b) = (site.operand(0), site.operand(1));
    let float = |v: ValueId| site.ty(v).element.is_float();
    if site.rank(b) != 2 || !float(a) || !float(b) || site.is_computed(b) || !site.is_computed(a) {
        return Ok(None);
    }
    let b = site.constant_as_parameter(b).unwrap_or(b);
    let weight = site.transpose(b, vec![1, 0])?;
    Ok(Some(site.add_heir(Op::Linear {}, [Some(a), Some(weight)])?))
}

/// Rewrites `matmul` whose operands repeat along some batch axes, but not along all.
pub(super) fn batches(site: &mut Site<'_>) -> Rewritten {
    let y = site.result_ty().dims.clone();
    let batch = &y[..y.len() - 2];
    let mut operands = [site.operand(0), site.operand(1)];
    let mut broadcast = false;
    for operand in &mut operands {
        let dims = site.dims(*operand);
        let (own, matrix) = dims.split_at(dims.len() - 2);
        if own.iter().all(|d| d.constant() == Some(1))
            || (own == &batch[batch.len() - own.len()..] && leads(batch, own))
        {
            continue;
        }
        let shape = batch.iter().chain(matrix).cloned().collect();
        *operand = site.add(Op::Broadcast { shape }, &[*operand])?;
        broadcast = true;
    }
    if !broadcast {
        return Ok(None);
    }
    Ok(Some(site.add_heir(Op::Matmul {}, operands.map(Some))?))
}

/// Whether the batch axes that an operand lacks all have size 1.
fn leads(batch: &[Dim], own: &[Dim]) -> bool {
    batch[..batch.len() - own.len()].iter().all(|d| d.constant() == Some(1))
}

/// Rewrites layers: constants become parameters where a packer reads them, a computed weight of `linear` becomes a matrix product, a
/// computed bias a sum.
pub(super) fn layer(site: &mut Site<'_>) -> Rewritten {
    let packed: &[usize] = match site.node.op {
        Op::Linear {} | Op::Conv { .. } | Op::CausalConv {} => &[1],
        Op::QuantizedLinear { .. } | Op::QuantizedConv { .. } => &[1, 2],
        Op::SelectiveScan {} | Op::SelectiveScanStates {} => &[2],
        _ => return Ok(None),
    };
    let mut operands = site.node.operands.clone();
    let mut changed = false;
    for &slot in packed {
        let parameter = site.constant_as_parameter(site.operand(slot));
        changed |= parameter.is_some();
        operands[slot] = parameter.or(operands[slot]);
    }
    if changed {
        let op = site.node.op.clone();
        return Ok(Some(site.add_heir(op, operands)?));
    }
    match site.node.op {
        Op::Linear {} if site.is_computed(site.operand(1)) => computed_weight(site),
        Op::Linear {} | Op::Conv { .. } => computed_bias(site),
        _ => Ok(None),
    }
}

/// `x · weightᵀ + bias` with all of them computed.
fn computed_weight(site: &mut Site<'_>) -> Rewritten {
    let (x, weight, bias) = (site.operand(0), site.operand(1), site.optional(2));
    let dims = site.result_ty().dims.clone();
    let mut rows = x;
    if site.rank(x) == 1 {
        let mut row = site.dims(x);
        row.insert(0, 1.into());
        rows = site.reshape(x, row)?;
    }
    let columns = site.transpose(weight, vec![1, 0])?;
    let y = site.add_heir(Op::Matmul {}, [Some(rows), Some(columns)])?[0];
    let y = site.reshape(y, dims)?;
    match bias {
        None => one(y),
        Some(bias) => one(plus(site, y, bias)?),
    }
}

/// A layer without its computed bias, which is added afterwards along the channels.
fn computed_bias(site: &mut Site<'_>) -> Rewritten {
    let Some(bias) = site.optional(2).filter(|b| site.is_computed(*b)) else { return Ok(None) };
    let (x, weight) = (site.operand(0), site.operand(1));
    let op = site.node.op.clone();
    let first = matches!(op, Op::Conv { layout: ImageLayout::ChannelsFirst, .. });
    let y = site.add_heir(op, [Some(x), Some(weight)])?[0];
    let mut shape = site.dims(bias);
    if first {
        shape.resize(site.rank(x) - 1, 1.into());
    }
    let bias = site.reshape(bias, shape)?;
    one(plus(site, y, bias)?)
}

fn plus(site: &mut Site<'_>, y: ValueId, bias: ValueId) -> Result<ValueId, Failure> {
    let bias = site.cast(bias, site.ty(y).element)?;
    site.add(Op::Add {}, &[y, bias])
}
