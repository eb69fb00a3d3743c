//! Identities: operations that do nothing, undo their operand, or complete what has an operation of its own.

use qcc_ir::{Function, Op, OpId, ValueId};

use super::norm;

/// The value that the only result of `id` equals, if it is an identity.
pub(super) fn simplify(function: &mut Function, id: OpId) -> Option<ValueId> {
    let node = function.node(id);
    let x = node.operands.first().copied().flatten()?;
    let (x_ty, y_ty) = (function.ty(x), function.ty(*node.results.first()?));
    match &node.op {
        // A reshape of a reshape needs only the outer one; then an equal shape needs none.
        Op::Reshape { shape } => {
            if x_ty.dims == y_ty.dims {
                return Some(x);
            }
            let (_, inner) = function.defining(x)?;
            let Op::Reshape { .. } = inner.op else { return None };
            let source = inner.operands[0]?;
            if function.ty(source).dims == y_ty.dims {
                return Some(source);
            }
            let (op, location) = (Op::Reshape { shape: shape.clone() }, node.location.clone());
            function.add_one(op, [source], &location).ok()
        }
        Op::Broadcast { .. } | Op::Slice { .. } | Op::Pad { .. } if x_ty.dims == y_ty.dims => {
            let reverses = matches!(&node.op, Op::Slice { steps, .. } if steps.iter().any(|s| *s < 0));
            (!reverses).then_some(x)
        }
        Op::Cast { to } if x_ty.element == *to => Some(x),
        Op::Concat { .. } if node.operands.len() == 1 => Some(x),
        Op::Transpose { permutation } => {
            if permutation.iter().enumerate().all(|(i, &p)| p == i as i64) {
                return Some(x);
            }
            let (_, inner) = function.defining(x)?;
            let Op::Transpose { permutation: first } = &inner.op else { return None };
            let source = inner.operands[0]?;
            let permutation: Vec<i64> = permutation.iter().map(|&p| first[p as usize]).collect();
            if permutation.iter().enumerate().all(|(i, &p)| p == i as i64) {
                return Some(source);
            }
            let location = node.location.clone();
            function.add_one(Op::Transpose { permutation }, [source], &location).ok()
        }
        Op::Mul {} => norm::spelled_out(function, id),
        Op::Gather { axis: 0 } => embedding(function, id),
        Op::Relu {} => match function.defining(x)?.1.op {
            Op::Relu {} => Some(x),
            _ => None,
        },
        _ => None,
    }
}

/// The rows of a table of floats that indices pick at run time as an `embedding`, which transforms and quantizers know.
fn embedding(function: &mut Function, id: OpId) -> Option<ValueId> {
    let node = function.node(id);
    let (table, indices) = (node.operands[0]?, node.operands[1]?);
    let ty = function.ty(table);
    let is_table = function.parameter_name(table).is_some() && ty.rank() == 2 && ty.element.is_float();
    let is_fixed = function
        .defining(indices)
        .is_some_and(|(_, n)| matches!(n.op, Op::Constant { .. } | Op::Parameter { .. }));
    if !is_table || is_fixed {
        return None;
    }
    let location = node.location.clone();
    function.add_one(Op::Embedding {}, [table, indices], &location).ok()
}
