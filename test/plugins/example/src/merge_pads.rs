//! `merge-pads`: a constant pad of a constant pad with the same value becomes one, as exporters write both for "same" padding of even sizes.

use qcc_ir::{Float, Function, Module, Op, Patch, ValueId, ops::PadMode};
use qcc_passes::{Context, Outcome, Pass, PassError, PassInfo, Preservation};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "merges consecutive constant pads of the same value",
    options: &[],
    make: |_| Ok(Box::new(MergePads)),
};

const NAME: &str = "merge-pads";

struct MergePads;

impl Pass for MergePads {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(0.0)
    }

    fn run(&self, module: &mut Module, _: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut merged = 0;
        for function in &mut module.functions {
            merged += merge(function)?;
        }
        Ok(Outcome::of([("merged", merged)]))
    }
}

/// Merges the pads of a function; returns how many were replaced.
fn merge(function: &mut Function) -> Result<usize, PassError> {
    let mut patch = Patch::new();
    for id in function.order().to_vec() {
        let result = function.node(id).results[0];
        let Some((source, pads, value)) = chain(function, result) else { continue };
        let location = function.node(id).location.clone();
        let op = Op::Pad { pads, mode: PadMode::Constant, value };
        let new = patch.add(function, op, [source], &location);
        patch.redirect(result, new.map_err(|e| PassError::at(NAME, &location, e))?);
    }
    patch.apply(function).map_err(|e| PassError::failed(NAME, e))
}

/// What `result` pads, how much in all, and with what, if two or more pads make it.
fn chain(function: &Function, result: ValueId) -> Option<(ValueId, Vec<i64>, Float)> {
    let (mut source, mut pads, value) = constant_pad(function, result)?;
    let mut links = 1;
    while let Some((x, more, _)) = constant_pad(function, source).filter(|(.., v)| *v == value) {
        let sum = pads.iter().zip(&more).map(|(a, b)| a.checked_add(*b));
        pads = sum.collect::<Option<_>>()?;
        source = x;
        links += 1;
    }
    (links > 1).then_some((source, pads, value))
}

/// Operand, amounts and value of the constant pad that makes `result`.
fn constant_pad(function: &Function, result: ValueId) -> Option<(ValueId, Vec<i64>, Float)> {
    let (_, node) = function.defining(result)?;
    match &node.op {
        Op::Pad { pads, mode: PadMode::Constant, value } => Some((node.operands[0]?, pads.clone(), *value)),
        _ => None,
    }
}
