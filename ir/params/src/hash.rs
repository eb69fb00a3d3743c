//! The content hash of a weight: blake3 over the structure of its expression and the bytes it starts from. Names do not count, so the same
//! weight of two models, or of one model compiled twice, has one hash.

use std::collections::HashMap;

use blake3::{Hash, Hasher};
use qcc_ir::Str;

use crate::parameters::{Expression, ParameterError, Parameters, Source};
use crate::plan::Plan;

impl Parameters {
    /// The content hash of a parameter; it reads all bytes the parameter depends on.
    ///
    /// # Errors
    /// When the name is unknown, or an expression depends on itself or does not fit its operands.
    pub fn content_hash(&self, name: &str) -> Result<Hash, ParameterError> {
        let names = [Str::from(name)];
        let mut hashes = of_plan(self, &names, &Plan::new(self, &names)?)?;
        Ok(hashes.remove(0))
    }
}

/// The content hashes of a plan's parameters; what they share is read once.
pub(crate) fn of_plan(
    parameters: &Parameters,
    names: &[Str],
    plan: &Plan<'_>,
) -> Result<Vec<Hash>, ParameterError> {
    let (mut steps, mut sources) = (Vec::with_capacity(plan.steps().len()), HashMap::new());
    let hash = |name: &Str, steps: &[Hash], sources: &mut HashMap<Str, Hash>| {
        let source = plan.source(name)?;
        if let (Source::Expression(e), Some(step)) = (source, plan.step_of(name)) {
            return Ok(result(steps[step], e.result));
        }
        if let Some(hash) = sources.get(name) {
            return Ok(*hash);
        }
        let ty = parameters.ty(name).map_or_else(String::new, |ty| format!("{ty:?}"));
        let hash = leaf(&ty, source);
        sources.insert(name.clone(), hash);
        Ok::<_, ParameterError>(hash)
    };
    for step in plan.steps() {
        let operands = step.expression.operands.iter();
        let operands = operands
            .map(|o| o.as_ref().map(|o| hash(o, &steps, &mut sources)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        steps.push(operation(step.expression, &operands));
    }
    names.iter().map(|name| hash(name, &steps, &mut sources)).collect()
}

fn leaf(ty: &str, source: &Source) -> Hash {
    let mut hasher = Hasher::new_derive_key("qcc weight, bytes");
    field(&mut hasher, ty.as_bytes());
    match source {
        Source::Bytes(bytes) => field(&mut hasher, bytes.as_slice()),
        Source::Tensor(tensor) => field(&mut hasher, &tensor.to_le_bytes()),
        Source::Expression(_) => unreachable!("invariant: an expression is a step of the plan"),
    }
    hasher.finalize()
}

fn operation(expression: &Expression, operands: &[Option<Hash>]) -> Hash {
    let mut hasher = Hasher::new_derive_key("qcc weight, operation");
    field(&mut hasher, expression.op.name().as_bytes());
    let attributes = expression.op.attributes();
    hasher.update(&(attributes.len() as u64).to_le_bytes());
    for (name, value) in attributes {
        field(&mut hasher, name.as_bytes());
        field(&mut hasher, format!("{value:?}").as_bytes());
    }
    for operand in operands {
        field(&mut hasher, operand.as_ref().map_or(&[], |hash| hash.as_bytes().as_slice()));
    }
    hasher.finalize()
}

fn result(operation: Hash, index: usize) -> Hash {
    let mut hasher = Hasher::new_derive_key("qcc weight, result");
    hasher.update(operation.as_bytes()).update(&(index as u64).to_le_bytes());
    hasher.finalize()
}

/// Bytes after their length, so that no two sequences of fields read the same.
pub(crate) fn field(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}
