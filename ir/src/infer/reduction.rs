//! Reductions and normalisations.

use super::{Result, Types, axis_of, expect_dims, float, one, plain, tensor};
use crate::dim::Dim;
use crate::types::TensorType;

pub(super) fn softmax(x: &TensorType, axis: i64) -> Result<Types> {
    float(x)?;
    axis_of(axis, x.rank())?;
    one(x.clone())
}

pub(super) fn rms_norm(x: &TensorType, weight: &TensorType) -> Result<Types> {
    float(x)?;
    let last = x.dims.last().ok_or("`x` must have rank 1 or more")?;
    expect_dims("weight", weight, std::slice::from_ref(last))?;
    one(x.clone())
}

pub(super) fn layer_norm(
    x: &TensorType,
    axis: i64,
    weight: Option<&TensorType>,
    bias: Option<&TensorType>,
) -> Result<Types> {
    float(x)?;
    let axis = axis_of(axis, x.rank())?;
    for (name, operand) in [("weight", weight), ("bias", bias)] {
        if let Some(ty) = operand {
            expect_dims(name, ty, &x.dims[axis..])?;
        }
    }
    one(x.clone())
}

pub(super) fn batch_norm(x: &TensorType, parameters: [&TensorType; 4]) -> Result<Types> {
    float(x)?;
    let channels = x.dims.get(1).ok_or("`x` must have rank 2 or more")?;
    for (name, ty) in ["scale", "bias", "mean", "variance"].into_iter().zip(parameters) {
        expect_dims(name, ty, std::slice::from_ref(channels))?;
    }
    one(x.clone())
}

pub(super) fn reduce(x: &TensorType, axes: &[i64], keep_dims: bool) -> Result<Types> {
    plain(x)?;
    let mut reduced = vec![false; x.rank()];
    for &axis in axes {
        if std::mem::replace(&mut reduced[axis_of(axis, x.rank())?], true) {
            return Err(format!("axis {axis} occurs twice"));
        }
    }
    let dims = x
        .dims
        .iter()
        .zip(&reduced)
        .filter_map(|(d, r)| match (r, keep_dims) {
            (false, _) => Some(d.clone()),
            (true, true) => Some(Dim::Const(1)),
            (true, false) => None,
        })
        .collect();
    one(tensor(dims, x.element))
}
