//! A part of a function as a function of its own.

use std::collections::HashMap;

use qcc_ir::{Function, Op, ValueId};

/// What computes `results`, with `input` as its argument where that is met; everything else must come from weights and constants.
///
/// # Errors
/// When the part needs another argument.
pub fn isolate(function: &Function, results: &[ValueId], input: Option<ValueId>) -> Result<Function, String> {
    let mut alone = Function::new("part");
    let mut new: HashMap<ValueId, ValueId> = HashMap::new();
    if let Some(input) = input {
        new.insert(input, alone.add_argument("x", function.ty(input).clone()));
    }
    let mut open: Vec<ValueId> = results.to_vec();
    while let Some(&value) = open.last() {
        if new.contains_key(&value) {
            open.pop();
            continue;
        }
        let Some((_, node)) = function.defining(value) else {
            return Err(format!("a part of the function needs `{}`", function.value(value).name));
        };
        let missing: Vec<ValueId> =
            node.operands.iter().flatten().copied().filter(|v| !new.contains_key(v)).collect();
        if !missing.is_empty() {
            open.extend(missing);
            continue;
        }
        if let Op::Parameter { name } = &node.op {
            new.insert(value, alone.add_parameter(name, function.ty(value).clone()));
            continue;
        }
        let operands: Vec<Option<ValueId>> = node.operands.iter().map(|v| v.map(|v| new[&v])).collect();
        let made = match &node.op {
            Op::Constant { value } => {
                [alone.add_constant(value.clone(), &node.location)].into_iter().collect()
            }
            op => alone.add(op.clone(), operands, &node.location).map_err(|e| e.to_string())?,
        };
        new.extend(node.results.iter().copied().zip(made));
    }
    for (i, result) in results.iter().enumerate() {
        alone.add_result(&format!("result.{i}"), new[result]);
    }
    Ok(alone)
}
