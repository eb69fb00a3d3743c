//! The entry point `next`: as the model's own, but of its results by position only the last position's. A prompt that is read to write on
//! needs no others, and the head is the largest layer of many language models.
//!
//! The last position is taken where the operations that follow keep positions apart.

use qcc_ir::{Dim, Function, InferError, Node, Op, OpId, Str, TensorType, ValueId};

/// Its name.
pub const NEXT: &str = "next";

/// The axis of positions.
const POSITIONS: usize = 1;

/// The entry point, of a model with states and one result `[batch, positions, features]` that a linear layer makes.
///
/// # Errors
/// When an operation cannot be rebuilt for one position.
pub fn next(function: &Function) -> Result<Option<Function>, InferError> {
    let is_state = |index: &usize| function.states.iter().any(|s| s.result == *index);
    let mut own = (0..function.results.len()).filter(|index| !is_state(index));
    let (Some(index), None) = (own.next(), own.next()) else { return Ok(None) };
    let result = function.results[index];
    let positions = match function.ty(result).dims.as_slice() {
        [_, positions @ Dim::Symbolic(_), _] => positions.clone(),
        _ => return Ok(None),
    };
    if function.states.is_empty() {
        return Ok(None);
    }
    let (from, chain) = rows_of(function, result);
    if !chain.iter().any(|id| matches!(function.node(*id).op, Op::Linear {} | Op::QuantizedLinear { .. })) {
        return Ok(None);
    }
    let mut function = function.clone();
    let place: Str = function.node(chain[0]).location.clone();
    let all = function.add_one(Op::Iota { size: positions }, [] as [ValueId; 0], &place)?;
    let last = function.add_one(Op::ReduceMax { axes: vec![0], keep_dims: true }, [all], &place)?;
    let mut made =
        vec![(from, function.add_one(Op::Gather { axis: POSITIONS as i64 }, [from, last], &place)?)];
    for id in chain {
        let Node { op, operands, results, location, .. } = function.node(id).clone();
        let operands = operands.into_iter().map(|operand| {
            operand.map(|value| made.iter().find(|(old, _)| *old == value).map_or(value, |(_, new)| *new))
        });
        let new = function.add(op, operands.collect::<Vec<_>>(), &location)?;
        made.extend(results.into_iter().zip(new));
    }
    let new = made.iter().find(|(old, _)| *old == result).map_or(result, |(_, new)| *new);
    function.results[index] = new;
    function.name = NEXT.into();
    function.sort();
    function.remove_dead();
    Ok(Some(function))
}

/// The operations that make a value of another one row by row, in order, and that other one.
fn rows_of(function: &Function, result: ValueId) -> (ValueId, Vec<OpId>) {
    let (mut value, mut chain) = (result, Vec::new());
    while let Some((id, node)) = function.defining(value)
        && let Some(before) = row_operand(function, node)
    {
        chain.push(id);
        value = before;
    }
    chain.reverse();
    (value, chain)
}

/// The operand whose rows are those of the result, where nothing else of the operation has rows.
fn row_operand(function: &Function, node: &Node) -> Option<ValueId> {
    let x = node.operands.first().copied().flatten()?;
    let rows = |ty: &TensorType| ty.rank() == 3 && matches!(ty.dims[POSITIONS], Dim::Symbolic(_));
    let by_rows = match &node.op {
        Op::Linear {} | Op::QuantizedLinear { .. } | Op::RmsNorm { .. } | Op::DynamicQuantize { .. } => true,
        Op::LayerNorm { axis, .. } => *axis == 2,
        _ => false,
    };
    // Scales of rows come from the same operation as their codes.
    let of_rows = |value: &ValueId| {
        function.parameter_name(*value).is_some()
            || function.defining(*value).is_some_and(|(_, made)| {
                matches!(made.op, Op::Constant { .. }) || made.results.first() == Some(&x)
            })
    };
    let others = node.operands.iter().skip(1).flatten().all(of_rows);
    (by_rows && others && rows(function.ty(x))).then_some(x)
}

#[cfg(test)]
mod tests {
    use qcc_ir::parse::parse_module;

    use super::*;

    const MODEL: &str = r#"
"builtin.module"() ({
  "func.func"() <{arg_attrs = [{qcc.dims = ["B", "T", "8"]}, {qcc.dims = ["B", "4"]}], function_type = (tensor<?x?x8xf32>, tensor<?x4xf32>) -> (tensor<?x?x5xf32>, tensor<?x4xf32>), sym_name = "main"}> ({
  ^bb0(%x: tensor<?x?x8xf32>, %s: tensor<?x4xf32>):
    %g = "qcc.parameter"() {name = "g"} : () -> tensor<8xf32>
    %w = "qcc.parameter"() {name = "w"} : () -> tensor<5x8xf32>
    %a = "qcc.relu"(%x) : (tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %n = "qcc.rms_norm"(%a, %g) {epsilon = 1.0e-5 : f64} : (tensor<?x?x8xf32>, tensor<8xf32>) -> tensor<?x?x8xf32>
    %y = "qcc.linear"(%n, %w) : (tensor<?x?x8xf32>, tensor<5x8xf32>) -> tensor<?x?x5xf32>
    %t = "qcc.relu"(%s) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    "func.return"(%y, %t) : (tensor<?x?x5xf32>, tensor<?x4xf32>) -> ()
  }) : () -> ()
}) : () -> ()
"#;

    fn model() -> Function {
        let mut module = parse_module("model", MODEL).expect("parses");
        module.functions.remove(0)
    }

    #[test]
    fn the_head_reads_the_last_position() {
        let mut main = model();
        assert!(next(&main).unwrap().is_none(), "there is no state");
        main.states.push(qcc_ir::StateBinding { argument: 1, result: 1 });
        let function = next(&main).unwrap().expect("it writes on");
        let names: Vec<&str> = function.order().iter().map(|id| function.node(*id).op.name()).collect();
        let at = |name: &str| names.iter().position(|n| *n == name).unwrap_or_else(|| panic!("{names:?}"));
        assert!(at("relu") < at("gather") && at("gather") < at("rms_norm"), "{names:?}");
        assert_eq!(function.ty(function.results[0]).dims[1], Dim::Const(1));
        assert_eq!(function.results.len(), main.results.len());
        assert_eq!(function.name.as_ref() as &str, NEXT);
    }
}
