//! Moves a static per-tensor `quantize` above operations that only move elements or take maxima. The codes stay bit-equal: rounding is
//! elementwise and monotone, and 0 quantizes to the zero point exactly. So the operations between two integer layers run on bytes.

use qcc_ir::{Function, Granularity, Op, OpId, Patch, ValueId};

use crate::pass::PassError;

const NAME: &str = "lower-quantized";

/// Hoists until nothing moves; returns how many operations now run on codes.
pub(super) fn hoist(function: &mut Function) -> Result<usize, PassError> {
    let mut moved = 0;
    while let Some((quantize, mover)) = candidate(function) {
        apply(function, quantize, mover)?;
        moved += 1;
    }
    Ok(moved)
}

/// A quantize whose operand is a mover with no other use.
fn candidate(function: &Function) -> Option<(OpId, OpId)> {
    let uses = function.uses();
    function.order().iter().find_map(|&id| {
        let node = function.node(id);
        let Op::Quantize { to, .. } = &node.op else { return None };
        if to.quantized()?.granularity != Granularity::Tensor {
            return None;
        }
        let x = node.operands[0]?;
        let (mover, definition) = function.defining(x)?;
        let only_use = uses.get(&x).is_some_and(|u| u.len() == 1) && !function.results.contains(&x);
        let moves = match &definition.op {
            Op::Concat { .. } | Op::MaxPool { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Slice { .. } => true,
            Op::Pad { value, .. } => value.0 == 0.0,
            _ => false,
        };
        (only_use && moves).then_some((id, mover))
    })
}

fn apply(function: &mut Function, quantize: OpId, mover: OpId) -> Result<(), PassError> {
    let (q, m) = (function.node(quantize).clone(), function.node(mover).clone());
    let at = |e: &dyn std::fmt::Display| PassError::at(NAME, &m.location, e);
    let mut patch = Patch::new();
    let mut codes: Vec<Option<ValueId>> = Vec::new();
    for x in &m.operands {
        let operands = [*x, q.operands[1], q.operands.get(2).copied().flatten()];
        codes.push(Some(patch.add(function, q.op.clone(), operands, &m.location).map_err(|e| at(&e))?));
    }
    let y = patch.add(function, m.op.clone(), codes, &m.location).map_err(|e| at(&e))?;
    patch.redirect(q.results[0], y);
    patch.apply(function).map_err(|e| at(&e))?;
    Ok(())
}
