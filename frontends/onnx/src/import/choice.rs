//! Comparisons and choices that exporters put into shape arithmetic: `Where(shape == -1, ones, shape)` in front of `Expand`.

use qcc_ir::{Dense, DenseData, Dim};
use qcc_params::Data;

use crate::call::{Call, Outputs, Result};
use crate::graph::Bound;
use crate::sizes::Sizes;

/// `Equal` of integers that are known at import, symbols of sizes included: no size is negative.
pub(super) fn equal(call: &mut Call<'_>) -> Outputs {
    let (a, b) = (operand(call, 0)?, operand(call, 1)?);
    let (dims, pairs) = paired(a, b)?;
    let negative = |d: &Dim| d.constant().is_some_and(|n| n < 0);
    let equal: Result<Vec<bool>> = pairs
        .into_iter()
        .map(|(a, b)| match (a.constant(), b.constant()) {
            _ if a == b => Ok(true),
            (Some(_), Some(_)) => Ok(false),
            _ if negative(&a) || negative(&b) => Ok(false),
            _ => Err(format!(
                "whether {a} is {b} depends on the input's sizes; export the model with fixed input sizes"
            )),
        })
        .collect();
    Ok(vec![call.constant(Dense { dims, data: DenseData::Bool(equal?) })?.into()])
}

/// `Where` of integers by a condition that is known at import.
pub(super) fn choose(call: &mut Call<'_>) -> Outputs {
    let condition = call.contents(0, "condition")?.ok_or("input 0 is missing")?;
    let Data::Bool(wanted) = &condition.data else { return Err("its condition must be bool".into()) };
    let wanted = wanted.clone();
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
    match (a.elements.len(), b.elements.len()) {
        (n, m) if n == m => {
            let dims = if a.dims.len() >= b.dims.len() { a.dims } else { b.dims };
            Ok((dims, a.elements.into_iter().zip(b.elements).collect()))
        }
        (1, _) => {
            let first = beside(&a.elements[0], &b.elements);
            Ok((b.dims, first.into_iter().zip(b.elements).collect()))
        }
        (_, 1) => {
            let second = beside(&b.elements[0], &a.elements);
            Ok((a.dims, a.elements.into_iter().zip(second).collect()))
        }
        _ => Err(format!("its operands have sizes {:?} and {:?}", a.dims, b.dims)),
    }
}
