//! RMSNorm as exporters without the operator spell it: `x / √(mean(x²) + ε) · g`, with a reciprocal or a power for the root.

use qcc_ir::{DenseData, Float, Function, Op, OpId, ValueId};

/// The normalisation that the product `id` is the end of.
pub(super) fn spelled_out(function: &mut Function, id: OpId) -> Option<ValueId> {
    let node = function.node(id);
    let (a, b) = (node.operands[0]?, node.operands[1]?);
    let is_vector = |v: ValueId| function.ty(v).dims.len() == 1;
    let (y, gain) = match (is_vector(a), is_vector(b)) {
        (false, true) => (a, b),
        (true, false) => (b, a),
        _ => return None,
    };
    let (x, epsilon) = normalized(function, y)?;
    // A constant of higher rank makes the result one of that rank, which a normalisation does not.
    let same_type = function.ty(x) == function.ty(node.results[0]);
    if !same_type || function.ty(x).dims.last() != function.ty(gain).dims.first() {
        return None;
    }
    let location = node.location.clone();
    function.add_one(Op::RmsNorm { epsilon: Float(epsilon) }, [x, gain], &location).ok()
}

/// What is divided by its root mean square, and ε.
fn normalized(function: &Function, y: ValueId) -> Option<(ValueId, f64)> {
    let (op, a, b) = binary(function, y)?;
    let inverse = |x: ValueId, r: ValueId| Some((x, mean_square(function, inverse_root(function, r)?, x)?));
    match op {
        Op::Mul {} => inverse(a, b).or_else(|| inverse(b, a)),
        Op::Div {} => Some((a, mean_square(function, root(function, b)?, a)?)),
        _ => None,
    }
}

/// ε of `mean(x²) + ε`, over the last axis.
fn mean_square(function: &Function, v: ValueId, x: ValueId) -> Option<f64> {
    let (Op::Add {}, a, b) = binary(function, v)? else { return None };
    let (mean, epsilon) = match (number(function, a), number(function, b)) {
        (None, Some(epsilon)) => (a, epsilon),
        (Some(epsilon), None) => (b, epsilon),
        _ => return None,
    };
    let node = function.defining(mean)?.1;
    let Op::ReduceMean { axes, keep_dims: true } = &node.op else { return None };
    let last = i64::try_from(function.ty(x).dims.len()).ok()? - 1;
    let over_last = matches!(axes.as_slice(), [axis] if *axis == last || *axis == -1);
    let square = node.operands[0].filter(|_| over_last && epsilon > 0.0)?;
    match binary(function, square)? {
        (Op::Mul {}, a, b) if a == x && b == x => Some(epsilon),
        (Op::Pow {}, a, two) if a == x && number(function, two) == Some(2.0) => Some(epsilon),
        _ => None,
    }
}

/// `v` where the value is `1 / √v`.
fn inverse_root(function: &Function, r: ValueId) -> Option<ValueId> {
    let node = function.defining(r)?.1;
    match (&node.op, node.operands.first().copied().flatten()?) {
        (Op::Reciprocal {}, s) => root(function, s),
        (Op::Div {}, one) if number(function, one) == Some(1.0) => root(function, node.operands[1]?),
        (Op::Pow {}, v) if number(function, node.operands[1]?) == Some(-0.5) => Some(v),
        _ => None,
    }
}

/// `v` where the value is `√v`.
fn root(function: &Function, s: ValueId) -> Option<ValueId> {
    let node = function.defining(s)?.1;
    match (&node.op, node.operands.first().copied().flatten()?) {
        (Op::Sqrt {}, v) => Some(v),
        (Op::Pow {}, v) if number(function, node.operands[1]?) == Some(0.5) => Some(v),
        _ => None,
    }
}

fn binary(function: &Function, value: ValueId) -> Option<(&Op, ValueId, ValueId)> {
    let node = function.defining(value)?.1;
    match node.operands.as_slice() {
        [Some(a), Some(b)] => Some((&node.op, *a, *b)),
        _ => None,
    }
}

/// The number that a constant of one element is.
fn number(function: &Function, value: ValueId) -> Option<f64> {
    let Op::Constant { value } = &function.defining(value)?.1.op else { return None };
    match &value.data {
        DenseData::F32(numbers) if numbers.len() == 1 => Some(numbers[0].0),
        _ => None,
    }
}
