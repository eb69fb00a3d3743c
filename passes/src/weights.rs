//! New weights for a function: expressions of its weights, which are evaluated when all is decided, and matrices that a pass computed.

use qcc_ir::infer::infer;
use qcc_ir::{Dense, Function, Op, Str, ValueId};
use qcc_params::{Expression, Parameters, Tensor};

/// Adds a weight that `op` computes from others, by name; `hint` becomes its name where that is free.
///
/// # Errors
/// When an operand is unknown or does not fit.
pub fn computed(parameters: &mut Parameters, hint: &str, op: Op, operands: &[&Str]) -> Result<Str, String> {
    let types: Option<Vec<_>> =
        operands.iter().map(|name| Some(parameters.ty(name)).filter(Option::is_some)).collect();
    let types = types.ok_or("an operand is no parameter")?;
    let ty = infer(&op, &types, None).map_err(|e| e.to_string())?.into_iter().next();
    let ty = ty.ok_or("an operation has no result")?;
    let operands = operands.iter().map(|name| Some((*name).clone())).collect();
    Ok(parameters.insert_expression(hint, ty, Expression { op, operands, result: 0 }))
}

/// Adds a constant; `hint` becomes its name where that is free.
pub fn constant(parameters: &mut Parameters, hint: &str, value: Dense) -> Str {
    let ty = value.tensor_type();
    let op = Op::Constant { value };
    parameters.insert_expression(hint, ty, Expression { op, operands: Vec::new(), result: 0 })
}

/// Adds a tensor; its name gets a number where `name` is taken.
///
/// # Errors
/// Never: the name is made free.
pub fn tensor(parameters: &mut Parameters, name: &str, tensor: Tensor) -> Result<Str, String> {
    let mut free = name.to_string();
    let mut n = 1;
    while parameters.ty(&free).is_some() {
        free = format!("{name}.{n}");
        n += 1;
    }
    parameters.insert_tensor(&free, tensor).map_err(|e| e.to_string())
}

/// A parameter as a value of a function.
///
/// # Errors
/// When there is no such parameter.
pub fn value(function: &mut Function, parameters: &Parameters, name: &Str) -> Result<ValueId, String> {
    let ty = parameters.ty(name).ok_or_else(|| format!("no parameter `{name}`"))?.clone();
    Ok(function.add_parameter(name, ty))
}
