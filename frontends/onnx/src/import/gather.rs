//! Indexing.

use qcc_ir::{Dense, Dim, ElementType, Op, ValueId};

use super::arithmetic::cast;
use crate::call::{Call, Outputs, Result};

/// `Gather`.
pub(super) fn gather(call: &mut Call<'_>) -> Outputs {
    let (x, indices) = (call.x(0)?, call.x(1)?);
    let axis = call.axis(call.attributes.int("axis")?.unwrap_or(0), call.rank(x))?;
    call.done(Op::Gather { axis: axis as i64 }, [x, indices])
}

/// Integers below it are f32 numbers, as are those of weights.
const EXACT: f64 = 16_777_216.0;

/// `GatherElements`: `y[i, j] = x[indices[i, j], j]` for axis 0, and so on, as a gather of all elements in a row.
pub(super) fn gather_elements(call: &mut Call<'_>) -> Outputs {
    let (x, indices) = (call.x(0)?, call.x(1)?);
    let (dims, wanted, rank) = (call.dims(x), call.dims(indices), call.rank(x));
    if wanted.len() != rank {
        return Err(format!("its operands have ranks {rank} and {}", wanted.len()));
    }
    let axis = call.axis(call.attributes.int("axis")?.unwrap_or(0), rank)?;
    let more = |(i, (own, all)): (usize, (&Dim, &Dim))| {
        i != axis && own.constant().zip(all.constant()).is_some_and(|(own, all)| own > all)
    };
    if wanted.iter().zip(&dims).enumerate().any(more) {
        return Err(format!("its indices of sizes {wanted:?} are more than its operand's {dims:?}"));
    }
    // Whatever is looked up, it is this: types of tokens, where there is one sentence.
    if let Some(number) = call.uniform(x).filter(|number| number.abs() < EXACT) {
        let element = call.element(x);
        let number = if element.is_integer() {
            #[allow(clippy::cast_possible_truncation, reason = "it was an integer")]
            let number = call.constant(Dense::i64(&[], &[number as i64]))?;
            cast(call, number, element)?
        } else {
            call.number(number, element)?
        };
        return Ok(vec![call.broadcast(number, wanted)?.into()]);
    }
    let mut places = Vec::with_capacity(rank);
    for (i, size) in wanted.iter().enumerate() {
        places.push(match i == axis {
            true => indices,
            false => call.iota_along(size, i, rank)?,
        });
    }
    let at = row_major(call, &places, &dims)?;
    let at = call.broadcast(at, wanted)?;
    let all = call.product(&dims)?;
    let flat = call.reshape(x, vec![all])?;
    call.done(Op::Gather { axis: 0 }, [flat, at])
}

/// `GatherND`: the last axis of the indices holds places along the first axes of `x` that are not batches.
pub(super) fn gather_nd(call: &mut Call<'_>) -> Outputs {
    let (x, indices) = (call.x(0)?, call.x(1)?);
    let (dims, wanted) = (call.dims(x), call.dims(indices));
    let batches = call.attributes.int("batch_dims")?.unwrap_or(0);
    let batches = usize::try_from(batches).map_err(|_| format!("it has {batches} batch axes"))?;
    let (last, outer) = wanted.split_last().ok_or("its indices are a number, not lists of places")?;
    let depth = last.constant().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
    let depth = depth.ok_or("how many axes its indices are for is not known")?;
    if batches + depth > dims.len() || batches > outer.len() || dims[..batches] != outer[..batches] {
        return Err(format!("its indices of sizes {wanted:?} do not fit an operand of sizes {dims:?}"));
    }
    let mut places = Vec::with_capacity(batches + depth);
    for (i, size) in outer[..batches].iter().enumerate() {
        places.push(call.iota_along(size, i, outer.len())?);
    }
    for i in 0..depth {
        let axes = vec![outer.len() as i64];
        let (starts, ends) = (vec![i as i64], vec![i as i64 + 1]);
        let place = call.emit(Op::Slice { axes, starts, ends, steps: vec![1] }, [indices])?;
        places.push(call.reshape(place, outer.to_vec())?);
    }
    let indexed = &dims[..batches + depth];
    let at = row_major(call, &places, indexed)?;
    let at = call.broadcast(at, outer.to_vec())?;
    let mut shape = vec![call.product(indexed)?];
    shape.extend_from_slice(&dims[batches + depth..]);
    let flat = call.reshape(x, shape)?;
    call.done(Op::Gather { axis: 0 }, [flat, at])
}

/// Where elements are among all, given their places along each axis; negative ones count from its end. A place outside its axis gives one
/// outside of all, so that the gather that reads it fails.
fn row_major(call: &mut Call<'_>, places: &[ValueId], dims: &[Dim]) -> Result<ValueId> {
    let zero = call.constant(Dense::i64(&[], &[0]))?;
    let (mut at, mut inside) = (zero, None);
    for (place, size) in places.iter().zip(dims) {
        let size = call.size(size)?;
        let size = call.reshape(size, Vec::new())?;
        let place = cast(call, *place, ElementType::I64)?;
        let negative = call.emit(Op::Less {}, [place, zero])?;
        let wrapped = call.emit(Op::Add {}, [place, size])?;
        let place = call.emit(Op::Select {}, [negative, wrapped, place])?;
        let (above, below) =
            (call.emit(Op::LessOrEqual {}, [zero, place])?, call.emit(Op::Less {}, [place, size])?);
        for holds in [above, below] {
            inside = Some(match inside {
                Some(inside) => call.emit(Op::Min {}, [inside, holds])?,
                None => holds,
            });
        }
        let before = call.emit(Op::Mul {}, [at, size])?;
        at = call.emit(Op::Add {}, [before, place])?;
    }
    let inside = inside.ok_or("it indexes no axis")?;
    let all = call.product(&dims[..places.len()])?;
    let all = call.size(&all)?;
    let outside = call.reshape(all, Vec::new())?;
    call.emit(Op::Select {}, [inside, at, outside])
}
