//! Moves a static per-tensor `quantize` above operations that only move elements or take maxima. The codes stay bit-equal: rounding is
//! elementwise and monotone, and 0 quantizes to code 0 of a symmetric format. So the operations between two integer layers run on bytes.

use std::collections::HashMap;

use qcc_ir::{Function, Granularity, Node, Op, OpId, Patch, ValueId, ops::PadMode};

use super::lower::NAME;
use crate::pass::PassError;

type Uses = HashMap<ValueId, Vec<(OpId, usize)>>;

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
        let q = to.quantized()?;
        let (mover, definition) = function.defining(node.operands[0]?)?;
        // Codes of other elements than integers have another order than their numbers.
        let movable = q.granularity == Granularity::Tensor
            && q.storage.integer_range(false).is_some()
            && only_use(function, &uses, node.operands[0]?)
            && moves(function, &uses, definition, q.zero_point);
        movable.then_some((id, mover))
    })
}

fn only_use(function: &Function, uses: &Uses, value: ValueId) -> bool {
    uses.get(&value).is_some_and(|u| u.len() == 1) && !function.results.contains(&value)
}

fn moves(function: &Function, uses: &Uses, node: &Node, zero_point: bool) -> bool {
    match &node.op {
        Op::Concat { .. } | Op::MaxPool { .. } | Op::Reshape { .. } | Op::Transpose { .. } => true,
        // Otherwise every slice of a value would quantize all of it.
        Op::Slice { .. } => node.operands[0].is_some_and(|x| only_use(function, uses, x)),
        Op::Pad { value, mode: PadMode::Constant, .. } => value.0 == 0.0 && !zero_point,
        Op::Pad { .. } => true,
        _ => false,
    }
}

fn apply(function: &mut Function, quantize: OpId, mover: OpId) -> Result<(), PassError> {
    let (q, m) = (function.node(quantize).clone(), function.node(mover).clone());
    let at = |e: &dyn std::fmt::Display| PassError::at(NAME, &m.location, e);
    let mut patch = Patch::new();
    let mut codes: Vec<Option<ValueId>> = Vec::new();
    for x in &m.operands {
        let operands: Vec<Option<ValueId>> =
            [*x].into_iter().chain(q.operands[1..].iter().copied()).collect();
        codes.push(Some(patch.add(function, q.op.clone(), operands, &m.location).map_err(|e| at(&e))?));
    }
    let y = patch.add(function, m.op.clone(), codes, &m.location).map_err(|e| at(&e))?;
    patch.redirect(q.results[0], y);
    patch.apply(function).map_err(|e| at(&e))?;
    Ok(())
}
