//! Comparisons, truth, and choices. Exporters put some into shape arithmetic, `Where(shape == -1, ones, shape)` in front of `Expand`: those
//! are made at import.

use qcc_ir::{Dense, DenseData, Dim, Op, ValueId};
use qcc_params::Data;

use crate::call::{Call, Outputs, Result};
use crate::graph::Bound;
use crate::sizes::Sizes;

/// `Equal`. Integers that are known at import, symbols of sizes included, are compared there: no size is negative.
pub(super) fn equal(call: &mut Call<'_>) -> Outputs {
    if !of_sizes(call, 0, 1) {
        return compare(call, Op::Equal {}, [0, 1]);
    }
    let (a, b) = (operand(call, 0)?, operand(call, 1)?);
    let (dims, pairs) = paired(a, b)?;
    let negative = |d: &Dim| d.constant().is_some_and(|n| n < 0);
    // A size that something was taken off may be negative.
    let equal: Result<Vec<bool>> = pairs
        .into_iter()
        .map(|(a, b)| match (a.constant(), b.constant()) {
            _ if a == b => Ok(true),
            (Some(_), Some(_)) => Ok(false),
            _ if (negative(&a) && b.is_never_negative()) || (negative(&b) && a.is_never_negative()) => {
                Ok(false)
            }
            _ => Err(format!(
                "whether {a} is {b} depends on the input's sizes; export the model with fixed input sizes"
            )),
        })
        .collect();
    Ok(vec![call.constant(Dense { dims, data: DenseData::Bool(equal?) })?.into()])
}

/// `Where`. Sizes are chosen at import, by a condition that is known there.
pub(super) fn choose(call: &mut Call<'_>) -> Outputs {
    let condition = call.x(0)?;
    let wanted = match call.known(condition).map(|tensor| &tensor.data) {
        Some(Data::Bool(wanted)) => Some(wanted.clone()),
        _ => None,
    };
    let Some(wanted) = wanted.filter(|_| of_sizes(call, 1, 2)) else {
        let (a, b) = (call.value(1)?, call.value(2)?);
        return call.done(Op::Select {}, [condition, a, b]);
    };
    let (a, b) = (operand(call, 1)?, operand(call, 2)?);
    let (dims, pairs) = paired(a, b)?;
    if wanted.len() != pairs.len() && wanted.len() != 1 {
        return Err(format!("its condition has {} elements for {}", wanted.len(), pairs.len()));
    }
    let elements = pairs
        .into_iter()
        .enumerate()
        .map(|(i, (a, b))| if wanted[if wanted.len() == 1 { 0 } else { i }] { a } else { b });
    let elements = elements.collect();
    Ok(vec![call.shape_value(Sizes { dims, elements })?])
}

/// A comparison of two inputs, in the order given.
pub(super) fn compare(call: &mut Call<'_>, op: Op, order: [usize; 2]) -> Outputs {
    let (a, b) = (call.value(order[0])?, call.value(order[1])?);
    call.done(op, [a, b])
}

/// `Not`.
pub(super) fn not(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    Ok(vec![negated(call, x)?.into()])
}

/// `Xor`: not equal.
pub(super) fn xor(call: &mut Call<'_>) -> Outputs {
    let (a, b) = (call.x(0)?, call.x(1)?);
    let equal = call.emit(Op::Equal {}, [a, b])?;
    Ok(vec![negated(call, equal)?.into()])
}

/// `IsNaN`: not equal to itself.
pub(super) fn is_nan(call: &mut Call<'_>) -> Outputs {
    let x = call.x(0)?;
    let number = call.emit(Op::Equal {}, [x, x])?;
    Ok(vec![negated(call, number)?.into()])
}

/// What is true where `x` is false.
fn negated(call: &mut Call<'_>, x: ValueId) -> Result<ValueId> {
    let no = call.constant(Dense { dims: Vec::new(), data: DenseData::Bool(vec![false]) })?;
    call.emit(Op::Equal {}, [x, no])
}

/// Whether two inputs are integers that are known at import, and one of them has symbols.
fn of_sizes(call: &Call<'_>, a: usize, b: usize) -> bool {
    let symbolic = |i: usize| matches!(call.bound(i), Some(Bound::Sizes(_)));
    let known = |i: usize| match call.bound(i) {
        Some(Bound::Value(value)) => call.known_ints(*value).is_some(),
        _ => symbolic(i),
    };
    (symbolic(a) || symbolic(b)) && known(a) && known(b)
}

/// An operand's integers.
fn operand(call: &Call<'_>, input: usize) -> Result<Sizes> {
    if let Some(Bound::Sizes(sizes)) = call.bound(input) {
        return Ok(sizes.clone());
    }
    let elements = call.sizes(input, "operands")?.ok_or_else(|| format!("input {input} is missing"))?;
    let dims = call.ty(call.x(input)?).constant_dims().ok_or("sizes of sizes are constants")?;
    Ok(Sizes { dims, elements })
}

/// Sizes, and two elements of each place.
type Paired = (Vec<i64>, Vec<(Dim, Dim)>);

/// Elements that stand beside each other; one element stands beside all.
fn paired(a: Sizes, b: Sizes) -> Result<Paired> {
    let beside = |one: &Dim, all: &[Dim]| vec![one.clone(); all.len()];
    let fits = |one: &Sizes, all: &Sizes| one.elements.len() == 1 && one.dims.len() <= all.dims.len();
    match (a.elements.len(), b.elements.len()) {
        _ if a.dims == b.dims => Ok((a.dims, a.elements.into_iter().zip(b.elements).collect())),
        (1, _) if fits(&a, &b) => {
            let first = beside(&a.elements[0], &b.elements);
            Ok((b.dims, first.into_iter().zip(b.elements).collect()))
        }
        (_, 1) if fits(&b, &a) => {
            let second = beside(&b.elements[0], &a.elements);
            Ok((a.dims, a.elements.into_iter().zip(second).collect()))
        }
        _ => Err(format!("its operands have sizes {:?} and {:?}", a.dims, b.dims)),
    }
}
