//! `quantize-kv-cache`: chooses the formats that keys and values of attention are held and read in. They are attributes of `attention`, which
//! says what they mean; a backend stores them so.

mod channels;
pub mod rearrange;
pub mod rotate;
#[cfg(test)]
mod tests;

use qcc_ir::format::CacheFormat;
use qcc_ir::{Function, Module, Op, OpId, ValueId};

use crate::context::Context;
use crate::pass::{Options, Outcome, Pass, PassError, PassInfo, Preservation};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "chooses the formats in which attention keeps keys and values",
    options: &[
        (
            "keys",
            "format of keys, e.g. `bfp4:block=16`; blocks lie along the features of a head, scales of `:channel` are calibrated (default f32)",
        ),
        ("values", "format of values; blocks lie along tokens (default f32)"),
    ],
    make: |options| Ok(Box::new(QuantizeCache::new(options)?)),
};

const NAME: &str = "quantize-kv-cache";

struct QuantizeCache {
    keys: CacheFormat,
    values: CacheFormat,
}

impl QuantizeCache {
    fn new(options: &mut Options) -> Result<QuantizeCache, String> {
        let mut format = |name: &str| Ok::<_, String>(options.take(name)?.unwrap_or(CacheFormat::F32));
        let (keys, values) = (format("keys")?, format("values")?);
        if keys.is_f32() && values.is_f32() {
            return Err("`keys=FORMAT` or `values=FORMAT` is needed, e.g. `keys=bfp4:block=16`".into());
        }
        Ok(QuantizeCache { keys, values })
    }
}

impl Pass for QuantizeCache {
    fn preservation(&self) -> Preservation {
        Preservation::Approximate
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut layers = 0;
        if self.keys.is_by_channel() || self.values.is_by_channel() {
            channels::divide(module, self.keys, self.values, context)?;
        }
        for function in &mut module.functions {
            for id in function.order().to_vec() {
                if !reads_states(function, id) {
                    continue;
                }
                if let Op::Attention { keys, values, .. } = &mut function.node_mut(id).op {
                    (*keys, *values) = (self.keys, self.values);
                    layers += 1;
                }
            }
        }
        if layers == 0 {
            context.warn(NAME, "there is no attention that keeps keys and values".to_string());
        }
        Ok(Outcome::of([("layers", layers)]))
    }
}

/// Whether an operation is attention whose keys and values are states.
pub(crate) fn reads_states(function: &Function, id: OpId) -> bool {
    let node = function.node(id);
    let state = |slot: usize| {
        node.operands.get(slot).copied().flatten().is_some_and(|value| {
            function.states.iter().any(|s| function.results.get(s.result) == Some(&value))
        })
    };
    matches!(node.op, Op::Attention { .. }) && state(1) && state(2)
}

fn operand(function: &Function, id: OpId, slot: usize) -> Result<ValueId, String> {
    function.node(id).operands.get(slot).copied().flatten().ok_or_else(|| "an operand is missing".to_string())
}

fn defining(function: &Function, value: ValueId) -> Result<OpId, String> {
    function.defining(value).map(|(id, _)| id).ok_or_else(|| "it is an argument".to_string())
}

/// Says in the name of a state what was done to it, and by what: what another model left does not fit this one.
fn mark(function: &mut Function, state: ValueId, done: &str, by: &[u8]) {
    let hash = blake3::hash(by).to_hex();
    let name = format!("{}.{done}-{}", function.value(state).name, &hash[..12]);
    function.set_value_name(state, &name);
}
