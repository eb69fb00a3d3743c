//! Constant folding. Small constants fold to constants at once where that is exact; any other operation on weights and constants becomes a
//! weight expression, so that no weight is touched while passes still decide and nothing is rounded before its time. Three operations are
//! left alone: `dequantize` and the widening of what was narrowed before, because lowering needs to see codes and what weights are stored in,
//! and a `broadcast` that makes much of little.

use std::sync::Arc;

use qcc_ir::{ElementType, Function, Op, OpId, Str, TensorType, ValueId};
use qcc_params::{Expression, Parameters, Source, Tensor};

use super::NAME;
use crate::context::Context;
use crate::pass::PassError;

/// Largest constant kept in the IR, in elements.
const LARGEST_CONSTANT: usize = 1024;
/// Names grow with what is done to a weight; a longer one is cut.
const LONGEST_NAME: usize = 400;

/// Largest result of a folded broadcast, in elements: a vector, not an image.
const LARGEST_BROADCAST: i64 = 1 << 16;

/// The values that replace the results of `id`, if its operands are all constants or weights.
pub(super) fn fold(
    function: &mut Function,
    id: OpId,
    context: &mut Context<'_>,
) -> Result<Option<Vec<ValueId>>, PassError> {
    let node = function.node(id);
    match node.op {
        Op::Parameter { .. } | Op::Constant { .. } | Op::Dequantize {} => return Ok(None),
        Op::Cast { to: ElementType::F32 } if is_narrowed(function, node.operands[0], &context.parameters) => {
            return Ok(None);
        }
        Op::Broadcast { .. } => {
            let elements = function.ty(node.results[0]).elements().and_then(|n| n.constant());
            if elements.is_none_or(|n| n > LARGEST_BROADCAST) {
                return Ok(None);
            }
        }
        _ => {}
    }
    let operands: Vec<Option<&Op>> = match node
        .operands
        .iter()
        .map(|o| match o {
            None => Some(None),
            Some(v) => match function.defining(*v) {
                Some((_, n)) if matches!(n.op, Op::Parameter { .. } | Op::Constant { .. }) => {
                    Some(Some(&n.op))
                }
                _ => None,
            },
        })
        .collect()
    {
        Some(operands) => operands,
        None => return Ok(None),
    };
    let types: Vec<TensorType> = node.results.iter().map(|r| function.ty(*r).clone()).collect();
    if operands.iter().flatten().count() == 0 || types.iter().any(|ty| ty.constant_dims().is_none()) {
        return Ok(None);
    }
    let location = node.location.clone();
    if let Some(tensors) =
        fold_constants(&node.op, &operands, &types, context).map_err(|e| PassError::at(NAME, &location, e))?
    {
        let new = tensors.into_iter().map(|t| {
            let dense = t.to_dense().expect("invariant: checked by `fold_constants`");
            function.add_constant(dense, &location)
        });
        return Ok(Some(new.collect()));
    }
    let op = node.op.clone();
    let mut names: Vec<Option<Str>> = Vec::new();
    for (operand, value) in operands.iter().zip(&node.operands) {
        names.push(match operand {
            None => None,
            Some(Op::Parameter { name }) => Some(name.clone()),
            Some(constant) => {
                let ty = function.ty(value.expect("invariant: an operand has a value")).clone();
                let expression = Expression { op: (*constant).clone(), operands: Vec::new(), result: 0 };
                Some(context.parameters.insert_expression("constant", ty, expression))
            }
        });
    }
    let hints: Vec<String> = (0..types.len()).map(|result| hint(&op, &operands, result)).collect();
    let mut new = Vec::new();
    for (result, (ty, hint)) in types.into_iter().zip(hints).enumerate() {
        let expression = Expression { op: op.clone(), operands: names.clone(), result };
        let name = context.parameters.insert_expression(&hint, ty.clone(), expression);
        new.push(function.add_parameter(&name, ty));
    }
    Ok(Some(new))
}

/// Whether a value is a weight that was rounded to a narrower float: the form to store it in.
fn is_narrowed(function: &Function, value: Option<ValueId>, parameters: &Parameters) -> bool {
    let name = value.and_then(|value| function.parameter_name(value));
    let source = name.and_then(|name| parameters.source(name));
    matches!(
        source,
        Some(Source::Expression(Expression {
            op: Op::Cast { to: ElementType::F16 | ElementType::BF16 },
            ..
        }))
    )
}

/// Whether every float result of `op` is one of its operands' values or exact in any precision, so that folding it now loses nothing.
fn is_exact(op: &Op) -> bool {
    matches!(
        op,
        Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Concat { .. }
            | Op::Gather { .. }
            | Op::Embedding {}
            | Op::Neg {}
            | Op::Abs {}
            | Op::Floor {}
            | Op::Relu {}
            | Op::Min {}
            | Op::Max {}
            | Op::ReduceMax { .. }
    )
}

/// Evaluates an operation on constants, if the results may stay constants.
fn fold_constants(
    op: &Op,
    operands: &[Option<&Op>],
    types: &[TensorType],
    context: &Context<'_>,
) -> Result<Option<Vec<Tensor>>, String> {
    let small = |ty: &TensorType| {
        let n = ty.elements().and_then(|d| d.constant()).and_then(|n| usize::try_from(n).ok());
        n.is_some_and(|n| n <= LARGEST_CONSTANT)
    };
    let exact = is_exact(op) || types.iter().all(|ty| ty.element.is_integer());
    if !exact || !types.iter().all(small) {
        return Ok(None);
    }
    let mut inputs = Vec::new();
    for operand in operands {
        inputs.push(match operand {
            None => None,
            Some(Op::Constant { value }) => Some(Tensor::from_dense(value).map_err(|e| e.to_string())?),
            Some(_) => return Ok(None),
        });
    }
    let borrowed: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
    let tensors = context.evaluator.evaluate(op, &borrowed, types)?;
    Ok(tensors.iter().all(|t| t.to_dense().is_some()).then_some(tensors))
}

/// What the result after the codes is that comes with them.
fn parameter_name(to: ElementType, result: usize) -> String {
    let parameters = to.quantized().map(|q| TensorType::scalar(to).quantization_parameters(q));
    let found = parameters.and_then(|all| all.get(result - 1).map(|(name, _)| name.replace(' ', "_")));
    found.unwrap_or_else(|| "parameter".into())
}

/// A readable name for the folded weight: the first weight operand's, then what was done to it.
fn hint(op: &Op, operands: &[Option<&Op>], result: usize) -> String {
    let weight = operands.iter().flatten().find_map(|op| match op {
        Op::Parameter { name } => Some(name.clone()),
        _ => None,
    });
    let weight = weight.unwrap_or_else(|| Arc::from("constant"));
    if weight.len() > LONGEST_NAME {
        // Beyond that nobody reads on; the table numbers equal names.
        return weight.chars().take(LONGEST_NAME / 4).collect();
    }
    match (op, result) {
        (Op::Quantize { .. } | Op::DynamicQuantize { .. }, 0) => format!("{weight}.codes"),
        (_, 0) => format!("{weight}.{}", op.name()),
        (Op::DynamicQuantize { to, .. }, _) => format!("{weight}.{}", parameter_name(*to, result)),
        _ => format!("{weight}.{}", op.spec().results[result].0),
    }
}
