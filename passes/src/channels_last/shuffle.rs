//! Channel shuffles (ShuffleNet, Zhang et al. 2018): a reshape splits the channel axis in two, a transpose exchanges the two, a reshape
//! joins them again. Channels-last, all three stay within the innermost axes.

use qcc_ir::{Dim, Function, InferError, Op, OpId};

use super::versions::Versions;

/// Rebuilds one of the three operations of a shuffle, if `id` is one.
pub(super) fn shuffle(
    function: &mut Function,
    id: OpId,
    versions: &mut Versions,
) -> Result<bool, InferError> {
    let node = function.node(id).clone();
    let Some(x) = node.operands[0] else { return Ok(false) };
    let dims = function.ty(x).dims.clone();
    let add = |function: &mut Function, op: Op, x| function.add_one(op, [x], &node.location);
    let y = node.results[0];
    match (&node.op, versions.split(x)) {
        (Op::Reshape { shape }, None) if versions.has_last(x) && joins(shape, &dims) => {
            let last = versions.last(function, x)?;
            let spatial = dims[2..].iter();
            let shape = [&dims[0]].into_iter().chain(spatial).chain(&shape[1..3]).cloned().collect();
            let split = add(function, Op::Reshape { shape }, last)?;
            versions.set_split(y, split);
        }
        (Op::Transpose { permutation }, Some(split)) if exchanges(permutation) => {
            let rank = permutation.len() as i64;
            let permutation = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            let split = add(function, Op::Transpose { permutation }, split)?;
            versions.set_split(y, split);
        }
        (Op::Reshape { shape }, Some(split)) if joins(&dims, shape) => {
            let spatial = shape[2..].iter();
            let shape = [&shape[0]].into_iter().chain(spatial).chain([&shape[1]]).cloned().collect();
            let last = add(function, Op::Reshape { shape }, split)?;
            versions.set_last(y, last);
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Whether `image` is `split` with its axes 1 and 2 joined.
fn joins(split: &[Dim], image: &[Dim]) -> bool {
    image.len() >= 3
        && split.len() == image.len() + 1
        && split[0] == image[0]
        && split[3..] == image[2..]
        && split[1].checked_mul(&split[2]).as_ref() == Some(&image[1])
}

/// Whether axes 1 and 2 change places and all others stay.
fn exchanges(permutation: &[i64]) -> bool {
    permutation.len() >= 4
        && permutation.iter().enumerate().all(|(i, &p)| {
            p == match i {
                1 => 2,
                2 => 1,
                other => other as i64,
            }
        })
}
