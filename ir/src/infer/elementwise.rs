//! Elementwise operations and NumPy broadcasting.

use super::{Result, Types, float, one, plain, tensor};
use crate::dim::Dim;
use crate::element::ElementType;
use crate::types::TensorType;

pub(super) fn unary(x: &TensorType) -> Result<Types> {
    float(x)?;
    one(x.clone())
}

pub(super) fn binary(a: &TensorType, b: &TensorType) -> Result<Types> {
    plain(a)?;
    plain(b)?;
    if a.element != b.element {
        return Err(format!("operands {a} and {b} differ in element type"));
    }
    let dims = broadcast_dims(&a.dims, &b.dims)
        .ok_or_else(|| format!("{:?} and {:?} do not broadcast", a.dims, b.dims))?;
    one(tensor(dims, a.element))
}

/// Unlike a binary operation, the result has the sizes of `x`: a scale of more sizes would be a mistake.
pub(super) fn scaled_silu(x: &TensorType, scale: &TensorType) -> Result<Types> {
    float(x)?;
    let types = binary(x, scale)?;
    if types[0].dims != x.dims {
        return Err(format!("`scale` {:?} does not broadcast to the sizes {:?} of `x`", scale.dims, x.dims));
    }
    Ok(types)
}

pub(super) fn select(condition: &TensorType, a: &TensorType, b: &TensorType) -> Result<Types> {
    if condition.element != ElementType::Bool {
        return Err(format!("`condition` {condition} must have i1 elements"));
    }
    let types = binary(a, b)?;
    let dims = broadcast_dims(&condition.dims, &types[0].dims)
        .ok_or_else(|| format!("{:?} and {:?} do not broadcast", condition.dims, types[0].dims))?;
    one(tensor(dims, a.element))
}

/// The sizes two shapes broadcast to (NumPy rules; a symbol matches itself or 1).
pub fn broadcast_dims(a: &[Dim], b: &[Dim]) -> Option<Vec<Dim>> {
    let rank = a.len().max(b.len());
    let one = Dim::Const(1);
    (0..rank)
        .map(|i| {
            let x = (i + a.len()).checked_sub(rank).map_or(&one, |i| &a[i]);
            let y = (i + b.len()).checked_sub(rank).map_or(&one, |i| &b[i]);
            match (x == &one, y == &one) {
                _ if x == y => Some(x.clone()),
                (true, _) => Some(y.clone()),
                (_, true) => Some(x.clone()),
                _ => None,
            }
        })
        .collect()
}
