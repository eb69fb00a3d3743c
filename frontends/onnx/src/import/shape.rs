//! Operators that change or tell the shape: the same elements under other sizes, or in another order.

use qcc_ir::{Dim, Op};

use crate::call::{Call, Outputs, Result};
use crate::graph::Bound;
use crate::sizes::Sizes;

/// `Shape`: known at import, symbols included.
pub(super) fn shape(call: &mut Call<'_>) -> Outputs {
    let dims = match call.bound(0) {
        Some(Bound::Sizes(sizes)) => sizes.dims.iter().copied().map(Dim::Const).collect(),
        _ => call.dims(call.x(0)?),
    };
    let rank = dims.len() as i64;
    let clamp = |at: i64| if at < 0 { at.saturating_add(rank) } else { at }.clamp(0, rank) as usize;
    let start = clamp(call.attributes.int("start")?.unwrap_or(0));
    let end = clamp(call.attributes.int("end")?.unwrap_or(rank)).max(start);
    let elements = dims[start..end].to_vec();
    Ok(vec![call.shape_value(Sizes { dims: vec![elements.len() as i64], elements })?])
}

/// `Reshape`: 0 copies a size (unless `allowzero`), −1 is what remains.
pub(super) fn reshape(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let dims = call.dims(x);
    let mut shape = call.sizes(1, "sizes")?.ok_or("input 1 is missing")?;
    if !call.attributes.flag("allowzero", false)? {
        for (axis, size) in shape.iter_mut().enumerate().filter(|(_, size)| **size == Dim::Const(0)) {
            let copied = dims.get(axis).cloned();
            *size = copied
                .ok_or_else(|| format!("its size 0 at {axis} copies an axis that {dims:?} does not have"))?;
        }
    }
    if let Some(rest) = shape.iter().position(|size| *size == Dim::Const(-1)) {
        shape[rest] = Dim::Const(1);
        shape[rest] = remaining(call, &dims, &shape)?;
    }
    Ok(vec![call.reshape(x, shape)?.into()])
}

/// The size that makes `shape` hold as many elements as `dims`.
fn remaining(call: &Call<'_>, dims: &[Dim], shape: &[Dim]) -> Result<Dim> {
    // Sizes that both have cancel, so that what remains is a plain number more often.
    let (mut have, mut want) = (dims.to_vec(), Vec::new());
    for size in shape {
        match have.iter().position(|d| d == size && *d != Dim::Const(0)) {
            Some(at) => drop(have.remove(at)),
            None => want.push(size.clone()),
        }
    }
    let (have, want) = (call.product(&have)?, call.product(&want)?);
    have.checked_div(&want).ok_or_else(|| {
        format!("the size -1 does not follow: {dims:?} has no whole multiple of the elements of {shape:?} for every value of the symbols")
    })
}

/// `Flatten` to a matrix.
pub(super) fn flatten(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let dims = call.dims(x);
    let axis = call.attributes.int("axis")?.unwrap_or(1);
    // The axis may be one beyond the last.
    let at = if axis == dims.len() as i64 { dims.len() } else { call.axis(axis, dims.len())? };
    let shape = vec![call.product(&dims[..at])?, call.product(&dims[at..])?];
    Ok(vec![call.reshape(x, shape)?.into()])
}

/// `Transpose`; without a permutation the axes are reversed.
pub(super) fn transpose(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let reversed = || (0..call.rank(x) as i64).rev().collect();
    let permutation = call.attributes.ints("perm")?.unwrap_or_else(reversed);
    call.done(Op::Transpose { permutation }, [x])
}

/// `Expand`: broadcasting in both directions.
pub(super) fn expand(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let shape = call.sizes(1, "sizes")?.ok_or("input 1 is missing")?;
    let dims = call.dims(x);
    let both = qcc_ir::infer::broadcast_dims(&dims, &shape);
    let both = both.ok_or_else(|| format!("{dims:?} does not broadcast to {shape:?}"))?;
    Ok(vec![call.broadcast(x, both)?.into()])
}

/// `Squeeze`: axes of size 1 are removed; the given ones, or all that are known to have it.
pub(super) fn squeeze(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let dims = call.dims(x);
    let mut removed = vec![false; dims.len()];
    match call.attribute_or_input("axes", 1)? {
        Some(axes) => {
            for axis in axes {
                removed[call.axis(axis, dims.len())?] = true;
            }
        }
        None => removed = dims.iter().map(|d| *d == Dim::Const(1)).collect(),
    }
    if let Some(axis) = (0..dims.len()).find(|i| removed[*i] && dims[*i] != Dim::Const(1)) {
        return Err(format!("axis {axis} of {dims:?} is not known to have size 1"));
    }
    let kept = dims.into_iter().zip(removed).filter(|(_, removed)| !removed).map(|(d, _)| d).collect();
    Ok(vec![call.reshape(x, kept)?.into()])
}

/// `Unsqueeze`: axes of size 1 are inserted where the result has them.
pub(super) fn unsqueeze(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let axes = call.attribute_or_input("axes", 1)?.ok_or("its axes are missing")?;
    let dims = call.dims(x);
    let rank = dims.len() + axes.len();
    let mut inserted = vec![false; rank];
    for axis in &axes {
        if std::mem::replace(&mut inserted[call.axis(*axis, rank)?], true) {
            return Err(format!("its axes {axes:?} name one twice"));
        }
    }
    let mut old = dims.into_iter();
    let shape =
        inserted.into_iter().filter_map(|new| if new { Some(Dim::Const(1)) } else { old.next() }).collect();
    Ok(vec![call.reshape(x, shape)?.into()])
}

/// `Concat`.
pub(super) fn concat(call: &mut Call<'_>) -> Outputs {
    let all = call.all()?;
    let axis = call.attributes.int("axis")?.ok_or("its attribute `axis` is missing")?;
    let axis = call.axis(axis, call.rank(all[0]))?;
    if let [one] = all.as_slice() {
        return Ok(vec![(*one).into()]);
    }
    let operands: Vec<_> = all.into_iter().map(Some).collect();
    Ok(vec![call.emit_with(Op::Concat { axis: axis as i64 }, &operands)?.into()])
}
