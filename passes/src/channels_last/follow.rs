//! Operations that follow an operand into the channels-last order.

use qcc_ir::{Dim, ElementType, Function, Granularity, InferError, Op, OpId, ValueId};
use smallvec::{SmallVec, smallvec};

use super::shuffle;
use super::versions::{Versions, axis_last, same_order, to_first, to_last};

type Operands = SmallVec<[Option<ValueId>; 4]>;

/// Whether a type says nothing about axes: not quantized, or with one scale.
pub(super) fn keeps_its_scale(element: ElementType) -> bool {
    element.quantized().is_none_or(|q| q.granularity == Granularity::Tensor)
}

/// Whether some operand has a channels-last version, and the types allow to use it.
pub(super) fn follows(function: &Function, id: OpId, versions: &Versions) -> bool {
    let node = function.node(id);
    node.operands.iter().flatten().any(|v| versions.has_last(*v) || versions.split(*v).is_some())
        && node
            .operands
            .iter()
            .flatten()
            .chain(&node.results)
            .all(|v| keeps_its_scale(function.ty(*v).element))
}

/// Rebuilds an operation on channels-last operands, if it can be.
pub(super) fn follow(function: &mut Function, id: OpId, versions: &mut Versions) -> Result<bool, InferError> {
    let node = function.node(id).clone();
    let Some(x) = node.operands.first().copied().flatten() else { return Ok(false) };
    if shuffle::shuffle(function, id, versions)? {
        return Ok(true);
    }
    let rank = function.ty(x).rank();
    let axes_last = |axes: &[i64]| axes.iter().map(|&a| axis_last(a, rank)).collect::<Vec<_>>();
    let op = match node.op.clone() {
        Op::Add {}
        | Op::Sub {}
        | Op::Mul {}
        | Op::Div {}
        | Op::Min {}
        | Op::Max {}
        | Op::Pow {}
        | Op::Prelu {}
        | Op::ScaledSilu {}
        | Op::Equal {}
        | Op::Less {}
        | Op::LessOrEqual {}
        | Op::Select {} => {
            return broadcasting(function, id, versions);
        }
        Op::Concat { axis } if node.operands.iter().flatten().any(|v| versions.has_last(*v)) => {
            let mut operands = Operands::new();
            for value in node.operands.iter().flatten() {
                operands.push(Some(versions.last(function, *value)?));
            }
            versions.rebuild(function, id, Op::Concat { axis: axis_last(axis, rank) }, operands)?;
            return Ok(true);
        }
        // From here on the image is the first operand.
        _ if !versions.has_last(x) => return Ok(false),
        Op::Reshape { shape } => return reshape(function, id, &shape, versions),
        Op::Transpose { permutation } => return transpose(function, id, &permutation, versions),
        Op::BatchNorm { epsilon } => return batch_norm(function, id, epsilon.0, versions),
        Op::ReduceMean { axes, keep_dims } => {
            let op = Op::ReduceMean { axes: axes_last(&axes), keep_dims };
            return reduce(function, id, op, &axes, keep_dims, versions);
        }
        Op::ReduceSum { axes, keep_dims } => {
            let op = Op::ReduceSum { axes: axes_last(&axes), keep_dims };
            return reduce(function, id, op, &axes, keep_dims, versions);
        }
        Op::ReduceMax { axes, keep_dims } => {
            let op = Op::ReduceMax { axes: axes_last(&axes), keep_dims };
            return reduce(function, id, op, &axes, keep_dims, versions);
        }
        Op::Slice { axes, starts, ends, steps } => Op::Slice { axes: axes_last(&axes), starts, ends, steps },
        Op::Pad { pads, mode, value } => {
            let (begins, ends) = pads.split_at(rank);
            let order = to_last(rank);
            let pads = [begins, ends].iter().flat_map(|p| order.iter().map(|&a| p[a as usize])).collect();
            Op::Pad { pads, mode, value }
        }
        Op::Broadcast { shape } if shape.len() == rank => {
            Op::Broadcast { shape: to_last(rank).iter().map(|&a| shape[a as usize].clone()).collect() }
        }
        Op::Softmax { axis } => Op::Softmax { axis: axis_last(axis, rank) },
        Op::LogSoftmax { axis } => Op::LogSoftmax { axis: axis_last(axis, rank) },
        op if is_elementwise(&op) => op,
        _ => return Ok(false),
    };
    let mut operands = node.operands.clone();
    operands[0] = Some(versions.last(function, x)?);
    for value in operands.iter_mut().skip(1).flatten() {
        *value = versions.first(function, *value)?;
    }
    versions.rebuild(function, id, op, operands)?;
    Ok(true)
}

/// Operations on each element of their first operand, other operands (scales) being scalars.
fn is_elementwise(op: &Op) -> bool {
    matches!(
        op,
        Op::Cast { .. }
            | Op::Neg {}
            | Op::Abs {}
            | Op::Exp {}
            | Op::Log {}
            | Op::Sqrt {}
            | Op::Reciprocal {}
            | Op::Erf {}
            | Op::Sin {}
            | Op::Cos {}
            | Op::Tanh {}
            | Op::Sigmoid {}
            | Op::Silu {}
            | Op::Relu {}
            | Op::Softplus {}
            | Op::HardSwish {}
            | Op::HardSigmoid { .. }
            | Op::LeakyRelu { .. }
            | Op::Gelu { .. }
            | Op::Clamp { .. }
            | Op::Floor {}
            | Op::Quantize { .. }
            | Op::DynamicQuantize { .. }
            | Op::Dequantize {}
    )
}

/// Two operands with NumPy broadcasting: both are brought to the rank of the result, in channels-last order.
fn broadcasting(function: &mut Function, id: OpId, versions: &mut Versions) -> Result<bool, InferError> {
    let node = function.node(id).clone();
    let rank = function.ty(node.results[0]).rank();
    let image = |v: ValueId| versions.has_last(v) && function.ty(v).rank() == rank;
    if !node.operands.iter().flatten().any(|v| image(*v)) {
        return Ok(false);
    }
    let mut operands = Operands::new();
    for value in node.operands.iter().flatten() {
        operands.push(Some(aligned(function, *value, rank, versions)?));
    }
    versions.rebuild(function, id, node.op, operands)?;
    Ok(true)
}

/// A value of at most `rank` axes as it broadcasts to a channels-last image.
fn aligned(
    function: &mut Function,
    value: ValueId,
    rank: usize,
    versions: &mut Versions,
) -> Result<ValueId, InferError> {
    let one = Dim::Const(1);
    let ty = function.ty(value).clone();
    if ty.dims.iter().all(|d| *d == one) && !versions.has_last(value) {
        return versions.first(function, value);
    }
    if ty.rank() == rank {
        return versions.last(function, value);
    }
    let mut padded = ty.clone();
    padded.dims.splice(0..0, std::iter::repeat_n(one, rank - ty.rank()));
    let first = versions.first(function, value)?;
    let location = function.value(value).name.clone();
    let order = to_last(rank);
    if same_order(&padded) {
        let shape = order.iter().map(|&a| padded.dims[a as usize].clone()).collect();
        return function.add_one(Op::Reshape { shape }, [first], &location);
    }
    let reshaped = function.add_one(Op::Reshape { shape: padded.dims }, [first], &location)?;
    function.add_one(Op::Transpose { permutation: order }, [reshaped], &location)
}

/// A reduction: with its dimensions kept the result is an image; without them it must lose the channels or all pixels, so that the
/// remaining axes stand in the same order.
fn reduce(
    function: &mut Function,
    id: OpId,
    op: Op,
    axes: &[i64],
    keep_dims: bool,
    versions: &mut Versions,
) -> Result<bool, InferError> {
    let node = function.node(id).clone();
    let x = node.operands[0].expect("invariant: arity was checked");
    let rank = function.ty(x).rank() as i64;
    let in_order = axes.contains(&1) || (2..rank).all(|a| axes.contains(&a));
    if !keep_dims && !in_order {
        return Ok(false);
    }
    let last = versions.last(function, x)?;
    if keep_dims {
        versions.rebuild(function, id, op, smallvec![Some(last)])?;
    } else {
        let y = function.add_one(op, [last], &node.location)?;
        versions.set_first(node.results[0], y);
    }
    Ok(true)
}

/// A reshape of one pixel or one channel reads the channels-last elements in the same order.
fn reshape(
    function: &mut Function,
    id: OpId,
    shape: &[Dim],
    versions: &mut Versions,
) -> Result<bool, InferError> {
    let node = function.node(id).clone();
    let x = node.operands[0].expect("invariant: arity was checked");
    if !same_order(function.ty(x)) {
        return Ok(false);
    }
    let last = versions.last(function, x)?;
    let y = function.add_one(Op::Reshape { shape: shape.to_vec() }, [last], &node.location)?;
    versions.set_first(node.results[0], y);
    Ok(true)
}

/// A transpose reads the channels-last version directly; where it asks for just that order, nothing is left of it.
fn transpose(
    function: &mut Function,
    id: OpId,
    permutation: &[i64],
    versions: &mut Versions,
) -> Result<bool, InferError> {
    let node = function.node(id).clone();
    let x = node.operands[0].expect("invariant: arity was checked");
    let rank = permutation.len();
    let last = versions.last(function, x)?;
    let permutation: Vec<i64> = permutation.iter().map(|&a| axis_last(a, rank)).collect();
    let y = if permutation.iter().enumerate().all(|(i, &p)| p == i as i64) {
        last
    } else {
        function.add_one(Op::Transpose { permutation }, [last], &node.location)?
    };
    versions.set_first(node.results[0], y);
    Ok(true)
}

/// A transpose that makes an image of a value with channels innermost: that value is the channels-last version.
pub(super) fn note_transpose(function: &Function, id: OpId, versions: &mut Versions) {
    let node = function.node(id);
    if let (Op::Transpose { permutation }, Some(Some(x))) = (&node.op, node.operands.first())
        && permutation.len() >= 3
        && *permutation == to_first(permutation.len())
    {
        versions.set_last(node.results[0], *x);
    }
}

/// Batch normalisation has its channels on axis 1; as a product and a sum with vectors it has them innermost. The vectors are weights.
fn batch_norm(
    function: &mut Function,
    id: OpId,
    epsilon: f64,
    versions: &mut Versions,
) -> Result<bool, InferError> {
    let node = function.node(id).clone();
    let mut operands = Vec::new();
    for value in node.operands.iter().flatten() {
        operands.push(*value);
    }
    let [x, scale, bias, mean, variance] = operands[..] else { return Ok(false) };
    let last = versions.last(function, x)?;
    let mut vectors = [scale, bias, mean, variance];
    for vector in &mut vectors {
        *vector = versions.first(function, *vector)?;
    }
    let [scale, bias, mean, variance] = vectors;
    let mut add =
        |op: Op, operands: &[ValueId]| function.add_one(op, operands.iter().copied(), &node.location);
    let epsilon = qcc_ir::Float(epsilon);
    // The constant as a vector in full precision.
    let epsilon = add(Op::Clamp { min: epsilon, max: epsilon }, &[variance])?;
    let variance = add(Op::Add {}, &[variance, epsilon])?;
    let deviation = add(Op::Sqrt {}, &[variance])?;
    let gain = add(Op::Div {}, &[scale, deviation])?;
    let shift = add(Op::Mul {}, &[mean, gain])?;
    let shift = add(Op::Sub {}, &[bias, shift])?;
    let y = add(Op::Mul {}, &[last, gain])?;
    let y = add(Op::Add {}, &[y, shift])?;
    versions.set_last(node.results[0], y);
    Ok(true)
}
