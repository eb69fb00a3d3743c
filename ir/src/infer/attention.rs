//! Attention and the positions it knows of.

use super::{Result, Types, axis_of, float, one, tensor};
use crate::dim::Dim;
use crate::element::ElementType;
use crate::types::TensorType;

pub(super) fn positions(x: &TensorType, past: &TensorType, axis: i64) -> Result<Types> {
    axis_of(axis, past.rank())?;
    let axis = axis_of(axis, x.rank())?;
    one(tensor(vec![x.dims[axis].clone()], ElementType::I64))
}

pub(super) fn rotary_embedding(
    x: &TensorType,
    positions: &TensorType,
    frequencies: &TensorType,
) -> Result<Types> {
    float(x)?;
    float(frequencies)?;
    let [batch, time, own, features] = heads("x", x)?;
    if !matches!(positions.element, ElementType::I32 | ElementType::I64) {
        return Err(format!("positions {positions} must be integers"));
    }
    if positions.dims != [time.clone()] && positions.dims != [batch.clone(), time.clone()] {
        return Err(format!(
            "`positions` has sizes {:?}, expected [{time}] or [{batch}, {time}]",
            positions.dims
        ));
    }
    let pairs = match frequencies.dims.as_slice() {
        [pairs] => pairs,
        [groups, pairs] => {
            let shared = own.constant().zip(groups.constant()).is_some_and(|(own, n)| n > 0 && own % n == 0);
            if !shared {
                return Err(format!("{own} heads do not share {groups} vectors of frequencies evenly"));
            }
            pairs
        }
        _ => return Err(format!("frequencies {frequencies} must be a vector, or one for each head")),
    };
    match (pairs.constant(), features.constant()) {
        (Some(pairs), Some(features)) if pairs <= features / 2 => one(x.clone()),
        _ => Err(format!("{pairs} frequencies turn twice as many features; `x` has {features}")),
    }
}

pub(super) fn attention(
    [q, k, v]: [&TensorType; 3],
    bias: Option<&TensorType>,
    window: i64,
) -> Result<Types> {
    for operand in [q, k, v].into_iter().chain(bias) {
        float(operand)?;
    }
    let ([batch, time, heads_q, features], [_, keys, heads_k, _], [_, _, _, wide]) =
        (heads("q", q)?, heads("k", k)?, heads("v", v)?);
    let expect = |what: &str, ty: &TensorType, last: &Dim| {
        let expected = [batch, keys, heads_k, last].map(Clone::clone);
        super::expect_dims(what, ty, &expected)
    };
    expect("k", k, features)?;
    expect("v", v, wide)?;
    match (heads_q.constant(), heads_k.constant()) {
        (Some(queries), Some(shared)) if shared > 0 && queries % shared == 0 => {}
        _ => return Err(format!("{heads_q} heads of `q` do not share {heads_k} heads of `k` evenly")),
    }
    if let Some(bias) = bias {
        let fits = match bias.dims.as_slice() {
            [own @ .., last] if own.len() == 3 => {
                let broadcasts = |(own, all): (&Dim, &Dim)| own == all || *own == Dim::Const(1);
                last == keys && own.iter().zip([batch, heads_q, time]).all(broadcasts)
            }
            _ => false,
        };
        if !fits {
            return Err(format!(
                "`bias` has sizes {:?}, expected [{batch}, {heads_q}, {time}, {keys}], each but the last one or 1",
                bias.dims
            ));
        }
    }
    if window < 0 {
        return Err(format!("the window of {window} positions is negative; 0 stands for none"));
    }
    one(tensor([batch, time, heads_q, wide].map(Clone::clone).to_vec(), q.element))
}

/// Batch, positions, heads and features of a head.
fn heads<'t>(what: &str, ty: &'t TensorType) -> Result<[&'t Dim; 4]> {
    match ty.dims.as_slice() {
        [batch, time, heads, features] => Ok([batch, time, heads, features]),
        _ => Err(format!("`{what}` {ty} must be [batch, time, heads, features]")),
    }
}
