//! Operations that move elements: indexing, reshaping, concatenation, padding, resizing.

use super::{Result, Types, axis_of, broadcast_dims, one, overflow, tensor};
use crate::attribute::Float;
use crate::dim::Dim;
use crate::types::TensorType;

pub(super) fn indices(ty: &TensorType) -> Result<()> {
    if ty.element.is_integer() { Ok(()) } else { Err(format!("indices {ty} must be integers")) }
}

pub(super) fn gather(x: &TensorType, ids: &TensorType, axis: i64) -> Result<Types> {
    indices(ids)?;
    let axis = axis_of(axis, x.rank())?;
    let dims = x.dims[..axis].iter().chain(&ids.dims).chain(&x.dims[axis + 1..]).cloned().collect();
    one(tensor(dims, x.element))
}

/// How many indices `start, start + step, …` lie before `end` (after it, for a negative step).
fn slice_count(start: i64, end: i64, step: i64) -> Option<i64> {
    let span = end.checked_sub(start)?;
    let (span, step) = if step < 0 { (span.checked_neg()?, step.checked_neg()?) } else { (span, step) };
    Some(if span <= 0 { 0 } else { span.checked_add(step - 1)? / step })
}

pub(super) fn slice(
    x: &TensorType,
    axes: &[i64],
    starts: &[i64],
    ends: &[i64],
    steps: &[i64],
) -> Result<Types> {
    if [starts.len(), ends.len(), steps.len()] != [axes.len(); 3] {
        return Err("`axes`, `starts`, `ends` and `steps` must have one entry an axis".into());
    }
    let mut dims = x.dims.clone();
    let mut seen = vec![false; dims.len()];
    for i in 0..axes.len() {
        let axis = axis_of(axes[i], x.rank())?;
        if std::mem::replace(&mut seen[axis], true) {
            return Err(format!("axis {axis} occurs twice"));
        }
        if steps[i] == 0 {
            return Err("a step is 0".into());
        }
        let count = slice_count(starts[i], ends[i], steps[i]).ok_or_else(overflow)?;
        let Some(size) = dims[axis].constant() else {
            return Err(format!("cannot slice the symbolic axis {axis} of {:?}", x.dims));
        };
        let last = starts[i] + (count - 1).max(0) * steps[i];
        if count > 0 && !((0..size).contains(&starts[i]) && (0..size).contains(&last)) {
            return Err(format!("slice {}..{} leaves axis {axis} of size {size}", starts[i], ends[i]));
        }
        dims[axis] = Dim::Const(count);
    }
    one(tensor(dims, x.element))
}

pub(super) fn concat(x: &[Option<&TensorType>], axis: i64) -> Result<Types> {
    let parts: Vec<&TensorType> = x.iter().copied().collect::<Option<_>>().ok_or("an operand is missing")?;
    let first = *parts.first().ok_or("needs at least one operand")?;
    let axis = axis_of(axis, first.rank())?;
    let mut dims = first.dims.clone();
    for part in &parts[1..] {
        let fits = part.rank() == dims.len()
            && part.element == first.element
            && (0..dims.len()).all(|i| i == axis || part.dims[i] == dims[i]);
        if !fits {
            return Err(format!("cannot concatenate {part:?} to {first:?} along axis {axis}"));
        }
        dims[axis] = dims[axis].checked_add(&part.dims[axis]).ok_or_else(overflow)?;
    }
    one(tensor(dims, first.element))
}

pub(super) fn pad(x: &TensorType, pads: &[i64]) -> Result<Types> {
    if pads.len() != 2 * x.rank() {
        return Err(format!("{} pads for rank {}, expected two an axis", pads.len(), x.rank()));
    }
    let mut dims = x.dims.clone();
    for (i, dim) in dims.iter_mut().enumerate() {
        let (begin, end) = (pads[i], pads[x.rank() + i]);
        if begin < 0 || end < 0 {
            return Err(format!("pads of axis {i} are negative; slice instead"));
        }
        let total = begin.checked_add(end).ok_or_else(overflow)?;
        *dim = dim.checked_add(&Dim::Const(total)).ok_or_else(overflow)?;
    }
    one(tensor(dims, x.element))
}

pub(super) fn reshape(x: &TensorType, shape: &[Dim]) -> Result<Types> {
    let y = tensor(shape.to_vec(), x.element);
    if shape.iter().any(|d| d.constant().is_some_and(|n| n < 0)) {
        return Err(format!("negative size in {shape:?}"));
    }
    match (x.elements(), y.elements()) {
        (Some(a), Some(b)) if a == b => one(y),
        (Some(a), Some(b)) => Err(format!("{:?} has {a} elements, {shape:?} has {b}", x.dims)),
        _ => Err(overflow()),
    }
}

pub(super) fn transpose(x: &TensorType, permutation: &[i64]) -> Result<Types> {
    let mut sorted = permutation.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq((0..x.rank()).map(|i| i as i64)) {
        return Err(format!("{permutation:?} is not a permutation of the axes of {x}"));
    }
    one(tensor(permutation.iter().map(|&p| x.dims[p as usize].clone()).collect(), x.element))
}

pub(super) fn broadcast(x: &TensorType, shape: &[Dim]) -> Result<Types> {
    match broadcast_dims(&x.dims, shape) {
        Some(dims) if dims == shape => one(tensor(dims, x.element)),
        _ => Err(format!("{:?} does not broadcast to {shape:?}", x.dims)),
    }
}

pub(super) fn resize(x: &TensorType, sizes: &[i64], scales: &[Float]) -> Result<Types> {
    if x.rank() < 3 || sizes.len() != x.rank() - 2 || scales.len() != sizes.len() {
        return Err(format!("{x} needs one size and one scale for each spatial axis"));
    }
    if sizes.iter().any(|&s| s < 1) || scales.iter().any(|s| !(s.0.is_finite() && s.0 > 0.0)) {
        return Err("sizes and scales must be positive".into());
    }
    let dims = x.dims[..2].iter().cloned().chain(sizes.iter().map(|&s| Dim::Const(s))).collect();
    one(tensor(dims, x.element))
}
