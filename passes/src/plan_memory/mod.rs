//! `plan-memory`: which intermediate values could share memory. The [algorithm](slots) knows lifetimes only; the pass applies it to a
//! function in its present order and notes the slot of each result as `qcc.slots`. Of compiled programs the runtime plans memory itself,
//! when sizes are known.
//!
//! No slot (−1) have weights, constants, and results of the function, which the caller provides. A reshape is its operand.

mod slots;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use qcc_ir::{Attribute, Function, Module, Op, TensorType, ValueId};

use crate::context::Context;
use crate::pass::{Outcome, Pass, PassError, PassInfo, Preservation};

pub use slots::{Lifetime, Plan, plan};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "plan-memory",
    summary: "gives each intermediate value a slot of memory, shared where lifetimes allow",
    options: &[],
    make: |_| Ok(Box::new(PlanMemory)),
};

const NAME: &str = "plan-memory";

/// The annotation: one slot a result, −1 for none.
pub const ANNOTATION: &str = "slots";

struct PlanMemory;

impl Pass for PlanMemory {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(0.0)
    }

    fn run(&self, module: &mut Module, _: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut outcome = Outcome::default();
        for function in &mut module.functions {
            let buffers = Buffers::of(function)?;
            let plan = plan(&buffers.lifetimes, |ty| bytes(ty).unwrap_or(u64::MAX));
            for id in function.order().to_vec() {
                let node = function.node_mut(id);
                let slot = |v: &ValueId| buffers.index.get(v).map_or(-1, |i| plan.slot[*i] as i64);
                let slots: Vec<i64> = node.results.iter().map(slot).collect();
                node.annotations.insert(ANNOTATION.to_string(), Attribute::Ints(slots));
            }
            let slot_bytes = |held: &Vec<TensorType>| held.iter().filter_map(bytes).max().unwrap_or(0);
            let shared: u64 = plan.slots.iter().map(slot_bytes).sum();
            let apart: u64 = buffers.lifetimes.iter().filter_map(|l| bytes(&l.size)).sum();
            *outcome.statistics.entry("values").or_default() += buffers.lifetimes.len();
            *outcome.measures.entry("slots").or_default() += plan.slots.len();
            *outcome.measures.entry("bytes").or_default() += usize::try_from(shared).unwrap_or(usize::MAX);
            *outcome.measures.entry("bytes_unshared").or_default() +=
                usize::try_from(apart).unwrap_or(usize::MAX);
            tracing::info!(
                "@{}: {} values in {} slots, {shared} bytes instead of {apart} (symbolic sizes at 1)",
                function.name,
                buffers.lifetimes.len(),
                plan.slots.len()
            );
        }
        Ok(outcome)
    }
}

/// Bytes of a tensor with symbolic sizes at 1; `None` when they overflow.
fn bytes(ty: &TensorType) -> Option<u64> {
    let elements = ty.dims.iter().try_fold(1u64, |n, d| {
        let size = u64::try_from(d.evaluate(&|_| Some(1))?).ok()?;
        n.checked_mul(size)
    })?;
    Some(elements.checked_mul(u64::from(ty.element.bits()))?.div_ceil(8))
}

/// The values of a function that need memory.
struct Buffers {
    lifetimes: Vec<Lifetime<TensorType>>,
    index: HashMap<ValueId, usize>,
}

impl Buffers {
    fn of(function: &Function) -> Result<Buffers, PassError> {
        let mut buffers = Buffers { lifetimes: Vec::new(), index: HashMap::new() };
        for (step, &id) in function.order().iter().enumerate() {
            let node = function.node(id);
            for operand in node.operands.iter().flatten() {
                if let Some(&i) = buffers.index.get(operand) {
                    buffers.lifetimes[i].last = step;
                }
            }
            if matches!(node.op, Op::Parameter { .. } | Op::Constant { .. }) {
                continue;
            }
            for &result in node.results.iter().filter(|r| !function.results.contains(r)) {
                if let (Op::Reshape { .. }, Some(Some(x))) = (&node.op, node.operands.first()) {
                    // Where the operand has no slot, the reshape is the caller's memory or a weight as well.
                    if let Some(&i) = buffers.index.get(x) {
                        buffers.index.insert(result, i);
                    }
                    continue;
                }
                let size = function.ty(result).clone();
                if bytes(&size).is_none() {
                    return Err(PassError::at(NAME, &node.location, format!("{size:?} is too large")));
                }
                buffers.index.insert(result, buffers.lifetimes.len());
                buffers.lifetimes.push(Lifetime { size, first: step, last: step });
            }
        }
        Ok(buffers)
    }
}
