//! Attention as exporters before opset 23 write it, `softmax(scale · q · k) · v` of four axes, becomes one operation, so that no matrix of
//! scores is computed and backends and passes see what it is.

use std::collections::HashMap;

use qcc_ir::format::CacheFormat;
use qcc_ir::{DenseData, Dim, Float, Function, Op, OpId, Patch, ValueId};

type Uses = HashMap<ValueId, Vec<(OpId, usize)>>;

/// Replaces every attention; how many there were.
///
/// # Errors
/// When an operation does not fit, which is an error of this function.
pub(crate) fn recognize(function: &mut Function) -> Result<usize, String> {
    let uses = function.uses();
    let found: Vec<Found> = function.order().iter().filter_map(|id| find(function, &uses, *id)).collect();
    let mut patch = Patch::new();
    for Found { q, k, v, scale, result, location } in &found {
        let mut add = |op: Op, operands: Vec<ValueId>| {
            patch.add(function, op, operands, location).map_err(|e| e.to_string())
        };
        let by_token = |permutation: [i64; 4]| Op::Transpose { permutation: permutation.into() };
        let q = add(by_token([0, 2, 1, 3]), vec![*q])?;
        // k is transposed already.
        let k = add(by_token([0, 3, 1, 2]), vec![*k])?;
        let v = add(by_token([0, 2, 1, 3]), vec![*v])?;
        let (keys, values) = (CacheFormat::F32, CacheFormat::F32);
        let op = Op::Attention { scale: Float(*scale), causal: false, window: 0, keys, values };
        let y = add(op, vec![q, k, v])?;
        let y = add(by_token([0, 2, 1, 3]), vec![y])?;
        patch.redirect(*result, y);
    }
    patch.apply(function).map_err(|e| e.to_string())?;
    Ok(found.len())
}

/// An attention.
struct Found {
    /// `[batch, heads, tokens, features]`.
    q: ValueId,
    /// `[batch, heads, features, tokens]`.
    k: ValueId,
    /// `[batch, heads, tokens, features]`.
    v: ValueId,
    scale: f64,
    result: ValueId,
    location: String,
}

/// The attention whose softmax this is.
fn find(function: &Function, uses: &Uses, softmax: OpId) -> Option<Found> {
    let node = function.node(softmax);
    let Op::Softmax { axis: 3 } = node.op else { return None };
    let weights = node.results[0];
    let [(product, 0)] = only_uses(function, uses, weights)? else { return None };
    let (_, [w, v]) = matmul(function, *product)?;
    let (mut scores, mut scale) = (node.operands[0]?, 1.0);
    let scored = loop {
        only_uses(function, uses, scores)?;
        let (id, node) = function.defining(scores)?;
        let [a, b] = [0, 1].map(|i| node.operands.get(i).copied().flatten());
        match node.op {
            Op::Mul {} => {
                let (x, factor) = match (scalar(function, a?), scalar(function, b?)) {
                    (None, Some(factor)) => (a?, factor),
                    (Some(factor), None) => (b?, factor),
                    _ => return None,
                };
                (scores, scale) = (x, scale * factor);
            }
            Op::Div {} => {
                scale /= scalar(function, b?)?;
                scores = a?;
            }
            _ => break id,
        }
    };
    let (_, [q, k]) = matmul(function, scored)?;
    debug_assert_eq!(w, weights);
    let dims = |value: ValueId| function.ty(value).dims.as_slice();
    let ([b0, h0, _, d0], [b1, h1, d1, s1], [b2, h2, s2, _]) =
        (four(dims(q))?, four(dims(k))?, four(dims(v))?);
    let fits = b0 == b1 && b1 == b2 && h0 == h1 && h1 == h2 && d0 == d1 && s1 == s2;
    let constant = h0.constant().is_some() && d0.constant().is_some() && scale.is_finite();
    (fits && constant).then(|| Found {
        q,
        k,
        v,
        scale,
        result: function.node(*product).results[0],
        location: function.node(softmax).location.to_string(),
    })
}

/// The one use of a value that is no result.
fn only_uses<'u>(function: &Function, uses: &'u Uses, value: ValueId) -> Option<&'u [(OpId, usize)]> {
    let users = uses.get(&value)?.as_slice();
    (users.len() == 1 && !function.results.contains(&value)).then_some(users)
}

fn matmul(function: &Function, id: OpId) -> Option<(OpId, [ValueId; 2])> {
    let node = function.node(id);
    let operands = [node.operands.first().copied().flatten()?, node.operands.get(1).copied().flatten()?];
    (node.op == Op::Matmul {}).then_some((id, operands))
}

fn four(dims: &[Dim]) -> Option<&[Dim; 4]> {
    dims.try_into().ok()
}

/// The number that a constant of one element is.
fn scalar(function: &Function, value: ValueId) -> Option<f64> {
    let (_, node) = function.defining(value)?;
    let Op::Constant { value } = &node.op else { return None };
    match &value.data {
        DenseData::F32(x) if x.len() == 1 => Some(x[0].0),
        _ => None,
    }
}
