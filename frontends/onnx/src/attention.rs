//! Attention as exporters before opset 23 write it, `softmax(scale · q · k + bias) · v` of four axes, becomes one operation, so that no matrix
//! of scores is computed and backends and passes see what it is. A bias is a mask, relative positions, or both. A query all of whose scores are
//! −∞, which no exported mask gives without a guard against it, yields zeros and not NaN.

use std::collections::HashMap;

use qcc_ir::format::CacheFormat;
use qcc_ir::{Dense, Dim, ElementType, Float, Function, InferError, Op, OpId, Patch, ValueId};

type Uses = HashMap<ValueId, Vec<(OpId, usize)>>;

/// The number that a value of one element is, if that is known.
type Number<'n> = &'n dyn Fn(ValueId) -> Option<f64>;

/// Replaces every attention; how many there were. `number` knows constants.
///
/// # Errors
/// When an operation does not fit, which is an error of this function.
pub(crate) fn recognize(function: &mut Function, number: Number<'_>) -> Result<usize, String> {
    let uses = function.uses();
    let found: Vec<Found> =
        function.order().iter().filter_map(|id| find(function, &uses, number, *id)).collect();
    let mut patch = Patch::new();
    for attention in &found {
        replace(function, &mut patch, attention).map_err(|e| e.to_string())?;
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
    /// What is added to scores, the last first.
    biases: Vec<Bias>,
    /// The type of scores.
    element: ElementType,
    result: ValueId,
    location: String,
}

/// What is added to scores, broadcasting to them.
enum Bias {
    Added(ValueId),
    /// Nothing where a condition is so, else a score that stands for never.
    Hidden {
        condition: ValueId,
        seen_if: bool,
        score: f64,
    },
}

/// A score from which on down no softmax tells a difference of any size that scores have.
const NEVER: f64 = -1e30;

fn replace(function: &mut Function, patch: &mut Patch, found: &Found) -> Result<(), InferError> {
    let Found { q, k, v, scale, result, location, .. } = found;
    let by_token = |permutation: [i64; 4]| Op::Transpose { permutation: permutation.into() };
    let q = patch.add(function, by_token([0, 2, 1, 3]), [*q], location)?;
    // k is transposed already.
    let k = patch.add(function, by_token([0, 3, 1, 2]), [*k], location)?;
    let v = patch.add(function, by_token([0, 2, 1, 3]), [*v], location)?;
    let (keys, values) = (CacheFormat::F32, CacheFormat::F32);
    let bias = bias(function, patch, found)?;
    let op = Op::Attention { scale: Float(*scale), causal: false, window: 0, keys, values };
    let y = patch.add(function, op, [Some(q), Some(k), Some(v), bias], location)?;
    let y = patch.add(function, by_token([0, 2, 1, 3]), [y], location)?;
    patch.redirect(*result, y);
    Ok(())
}

/// What is added to scores, with four axes. What stands for never takes the place of what was added before.
fn bias(function: &mut Function, patch: &mut Patch, found: &Found) -> Result<Option<ValueId>, InferError> {
    let location = &found.location;
    let mut bias: Option<ValueId> = None;
    for part in found.biases.iter().rev() {
        bias = Some(match (part, bias) {
            (Bias::Added(value), None) => *value,
            (Bias::Added(value), Some(before)) => {
                patch.add(function, Op::Add {}, [before, *value], location)?
            }
            (Bias::Hidden { condition, seen_if, score }, before) => {
                let mut number = |x: f64| {
                    #[allow(clippy::cast_possible_truncation, reason = "it was an f32, or narrower")]
                    let number = function.add_constant(Dense::scalar(x as f32), location);
                    match found.element {
                        ElementType::F32 => Ok(number),
                        to => patch.add(function, Op::Cast { to }, [number], location),
                    }
                };
                let never = number(*score)?;
                let before = before.map_or_else(|| number(0.0), Ok)?;
                let (first, second) = if *seen_if { (before, never) } else { (never, before) };
                patch.add(function, Op::Select {}, [*condition, first, second], location)?
            }
        });
    }
    let Some(bias) = bias else { return Ok(None) };
    let dims = &function.ty(bias).dims;
    if dims.len() == 4 {
        return Ok(Some(bias));
    }
    let mut shape = vec![Dim::Const(1); 4 - dims.len()];
    shape.extend_from_slice(dims);
    patch.add(function, Op::Reshape { shape }, [bias], location).map(Some)
}

/// The attention whose softmax this is.
fn find(function: &Function, uses: &Uses, number: Number<'_>, softmax: OpId) -> Option<Found> {
    let node = function.node(softmax);
    let Op::Softmax { axis: 3 } = node.op else { return None };
    let weights = guarded(function, uses, number, node.results[0]);
    let [(product, 0)] = only_uses(function, uses, weights)? else { return None };
    let [_, v] = matmul(function, *product)?;
    let (mut scores, mut scale, mut biases) = (node.operands[0]?, 1.0, Vec::new());
    let scored_by = |value| is_scored(function, value, MOST_STEPS);
    let scored = loop {
        only_uses(function, uses, scores)?;
        let (id, node) = function.defining(scores)?;
        let [a, b, c] = [0, 1, 2].map(|i| node.operands.get(i).copied().flatten());
        match node.op {
            Op::Mul {} => {
                let (x, factor) = match (number(a?), number(b?)) {
                    (None, Some(factor)) => (a?, factor),
                    (Some(factor), None) => (b?, factor),
                    _ => return None,
                };
                (scores, scale) = (x, scale * factor);
            }
            Op::Div {} => {
                scale /= number(b?)?;
                scores = a?;
            }
            // What is added is not scaled.
            Op::Add {} if scale == 1.0 => {
                let (x, bias) = match (scored_by(a?), scored_by(b?)) {
                    (true, false) => (a?, b?),
                    (false, true) => (b?, a?),
                    _ => return None,
                };
                biases.push(Bias::Added(bias));
                scores = x;
            }
            Op::Select {} if scale == 1.0 => {
                let condition = a?;
                let (x, seen_if, score) = match (number(b?), number(c?)) {
                    (None, Some(score)) => (b?, true, score),
                    (Some(score), None) => (c?, false, score),
                    _ => return None,
                };
                if score > NEVER || score.is_nan() {
                    return None;
                }
                biases.push(Bias::Hidden { condition, seen_if, score });
                scores = x;
            }
            _ => break id,
        }
    };
    let [q, k] = matmul(function, scored)?;
    let dims = |value: ValueId| function.ty(value).dims.as_slice();
    let ([b0, h0, t0, d0], [b1, h1, d1, s1], [b2, h2, s2, _]) =
        (four(dims(q))?, four(dims(k))?, four(dims(v))?);
    let fits = b0 == b1 && b1 == b2 && h0 == h1 && h1 == h2 && d0 == d1 && s1 == s2;
    let element = function.ty(weights).element;
    let narrow = matches!(element, ElementType::F32 | ElementType::F16 | ElementType::BF16);
    // Nothing in between added an axis.
    let fits = fits && narrow && dims(node.results[0]) == [b0, h0, t0, s1].map(Clone::clone);
    let constant = h0.constant().is_some() && d0.constant().is_some() && scale.is_finite();
    let adds = biases.iter().all(|bias| {
        let (Bias::Added(value) | Bias::Hidden { condition: value, .. }) = bias;
        let own = dims(*value);
        let all = [b0, h0, t0, s1];
        let broadcasts = |(own, all): (&Dim, &&Dim)| own == *all || *own == Dim::Const(1);
        own.len() <= 4 && own.last() == Some(s1) && own.iter().rev().zip(all.iter().rev()).all(broadcasts)
    });
    (fits && constant && adds).then(|| Found {
        q,
        k,
        v,
        scale,
        biases,
        element,
        result: function.node(*product).results[0],
        location: function.node(softmax).location.to_string(),
    })
}

/// Weights with 0 for NaN, `where(isnan(w), 0, w)`, where that is what becomes of them: attention that sees no key yields zeros.
fn guarded(function: &Function, uses: &Uses, number: Number<'_>, weights: ValueId) -> ValueId {
    let guard = || {
        let [(equal, 0), (also, 1), (select, 2)] = sorted_uses(uses, weights)?[..] else { return None };
        let [is_number, is_nan] = [function.node(equal), function.node(select)].map(|n| n.operands[0]);
        let is_itself =
            equal == also && function.node(equal).op == Op::Equal {} && is_number == Some(weights);
        let (_, negation) = function.defining(is_nan?)?;
        let negates = negation.op == Op::Equal {}
            && negation.operands[0] == function.node(equal).results.first().copied()
            && number(negation.operands[1]?) == Some(0.0);
        let node = function.node(select);
        let chooses = node.op == Op::Select {} && number(node.operands[1]?) == Some(0.0);
        (is_itself && negates && chooses).then(|| node.results[0])
    };
    guard().unwrap_or(weights)
}

/// Uses by operand.
fn sorted_uses(uses: &Uses, value: ValueId) -> Option<Vec<(OpId, usize)>> {
    let mut users = uses.get(&value)?.clone();
    users.sort_by_key(|(_, slot)| *slot);
    Some(users)
}

/// Most operations between scores and their softmax.
const MOST_STEPS: usize = 6;

/// Whether a value is a product, but for what is added to it or multiplies all of it in so many steps.
fn is_scored(function: &Function, value: ValueId, steps: usize) -> bool {
    let Some((_, node)) = function.defining(value).filter(|_| steps > 0) else { return false };
    let operand = |i: usize| {
        let value = node.operands.get(i).copied().flatten();
        value.is_some_and(|value| is_scored(function, value, steps - 1))
    };
    match &node.op {
        Op::Matmul {} => true,
        Op::Mul {} | Op::Div {} | Op::Add {} => operand(0) || operand(1),
        Op::Select {} => operand(1) || operand(2),
        _ => false,
    }
}

/// The one use of a value that is no result.
fn only_uses<'u>(function: &Function, uses: &'u Uses, value: ValueId) -> Option<&'u [(OpId, usize)]> {
    let users = uses.get(&value)?.as_slice();
    (users.len() == 1 && !function.results.contains(&value)).then_some(users)
}

fn matmul(function: &Function, id: OpId) -> Option<[ValueId; 2]> {
    let node = function.node(id);
    let operands = [node.operands.first().copied().flatten()?, node.operands.get(1).copied().flatten()?];
    (node.op == Op::Matmul {}).then_some(operands)
}

fn four(dims: &[Dim]) -> Option<&[Dim; 4]> {
    dims.try_into().ok()
}
