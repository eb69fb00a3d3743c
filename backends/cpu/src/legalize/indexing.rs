//! Pads that repeat elements and slices that run backwards, as gathers at constant positions; indices of narrow types.

use qcc_ir::{Dim, ElementType, Op, ValueId, ops::PadMode};

use super::site::{MOST_POSITIONS, Rewritten, Site, one};

/// Rewrites `pad` in modes `reflect` and `edge`; padded axes must have constant sizes.
pub(super) fn pad(site: &mut Site<'_>) -> Rewritten {
    let Op::Pad { pads, mode, .. } = site.node.op.clone() else { return Ok(None) };
    let x = site.operand(0);
    let rank = site.rank(x);
    let padded: Vec<usize> = (0..rank).filter(|&i| pads[i] != 0 || pads[rank + i] != 0).collect();
    let sizes: Option<Vec<i64>> =
        padded.iter().map(|&i| site.ty(x).dims[i].constant().filter(|n| *n > 0)).collect();
    let Some(sizes) = sizes.filter(|_| mode != PadMode::Constant) else { return Ok(None) };
    let large = |dim: &Dim| dim.constant().is_some_and(|n| n > MOST_POSITIONS);
    if padded.iter().any(|&axis| large(&site.result_ty().dims[axis])) {
        return Ok(None);
    }
    let mut y = x;
    // The last axis first: its small pieces are copied while there are few of them.
    for (&axis, &size) in padded.iter().zip(&sizes).rev() {
        let positions: Vec<i64> =
            (-pads[axis]..size + pads[rank + axis]).map(|i| source(i, size, mode)).collect();
        y = site.pick(y, axis, &positions)?;
    }
    one(y)
}

/// The element that stands at position `i` beside an axis. Reflection goes back and forth where the padding is longer than the axis.
fn source(i: i64, size: i64, mode: PadMode) -> i64 {
    match mode {
        PadMode::Reflect if size > 1 => {
            let phase = i.rem_euclid(2 * (size - 1));
            phase.min(2 * (size - 1) - phase)
        }
        _ => i.clamp(0, size - 1),
    }
}

/// Rewrites `slice` with negative steps.
pub(super) fn slice(site: &mut Site<'_>) -> Rewritten {
    let Op::Slice { axes, starts, ends, steps } = site.node.op.clone() else { return Ok(None) };
    let backward: Vec<usize> = (0..axes.len()).filter(|&i| steps[i] < 0).collect();
    let counts: Option<Vec<i64>> = backward
        .iter()
        .map(|&i| site.result_ty().dims[axes[i] as usize].constant().filter(|n| *n <= MOST_POSITIONS))
        .collect();
    let Some(counts) = counts.filter(|c| !c.is_empty()) else { return Ok(None) };
    let forward: Vec<usize> = (0..axes.len()).filter(|&i| steps[i] > 0).collect();
    let mut y = site.operand(0);
    if !forward.is_empty() {
        let at = |values: &[i64]| forward.iter().map(|&i| values[i]).collect();
        y = site.add(
            Op::Slice { axes: at(&axes), starts: at(&starts), ends: at(&ends), steps: at(&steps) },
            &[y],
        )?;
    }
    for (i, count) in backward.into_iter().zip(counts) {
        let positions: Vec<i64> = (0..count).map(|k| starts[i] + k * steps[i]).collect();
        y = site.pick(y, axes[i] as usize, &positions)?;
    }
    one(y)
}

/// Rewrites `gather` and `embedding` whose indices are bytes.
pub(super) fn indices(site: &mut Site<'_>) -> Rewritten {
    let ids = site.operand(1);
    if matches!(site.ty(ids).element, ElementType::I32 | ElementType::I64) {
        return Ok(None);
    }
    let ids = site.cast(ids, ElementType::I64)?;
    let op = site.node.op.clone();
    let mut operands: Vec<ValueId> = site.node.operands.iter().flatten().copied().collect();
    operands[1] = ids;
    one(site.add(op, &operands)?)
}
