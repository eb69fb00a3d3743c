//! Half precision: elementwise and movement kernels read it as it is stored, all others work in f32. Those get f32 operands and their
//! results are rounded again.

use qcc_ir::{ElementType, Op};

use super::site::{Rewritten, Site};

/// Rewrites operations on `f16` and `bf16` whose kernels work in f32.
pub(super) fn in_f32(site: &mut Site<'_>) -> Rewritten {
    let slots = match site.node.op {
        Op::Linear {}
        | Op::Conv { .. }
        | Op::Matmul {}
        | Op::Hadamard { .. }
        | Op::Softmax { .. }
        | Op::RmsNorm { .. }
        | Op::LayerNorm { .. }
        | Op::BatchNorm { .. }
        | Op::AvgPool { .. }
        | Op::CausalConv {}
        | Op::Attention { .. }
        | Op::SelectiveScan {}
        | Op::SelectiveScanStates {} => 0..site.node.operands.len(),
        // Other operands are scales, whose type is part of the format.
        Op::QuantizedLinear { .. } | Op::DynamicQuantize { .. } => 0..1,
        _ => return Ok(None),
    };
    let mut operands = site.node.operands.clone();
    let mut changed = false;
    for operand in operands[slots].iter_mut().flatten() {
        if matches!(site.ty(*operand).element, ElementType::F16 | ElementType::BF16) {
            *operand = site.cast(*operand, ElementType::F32)?;
            changed = true;
        }
    }
    if !changed {
        return Ok(None);
    }
    let op = site.node.op.clone();
    let mut results = site.add_heir(op, operands)?;
    for (result, old) in results.iter_mut().zip(site.node.results.clone()) {
        let element = site.ty(old).element;
        if element.is_float() {
            *result = site.cast(*result, element)?;
        }
    }
    Ok(Some(results))
}
