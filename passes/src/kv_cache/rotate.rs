//! `rotate-keys` (QuaRot's and SpinQuant's R3; arXiv 2404.00456, 2405.16406): keys and queries of a head go through a Hadamard transform behind
//! the rotation by positions, which leaves every score as it is and spreads what is large over all features: keys whose tokens share a
//! scale then lose less.

use qcc_ir::hadamard::Order;
use qcc_ir::{Function, Module, Op, OpId, ValueId};

use super::{defining, operand, reads_states};
use crate::context::Context;
use crate::pass::{Outcome, Pass, PassError, PassInfo, Preservation};
use crate::transform::Explanation;
use crate::transform::explanation::{LayerChoice, Refusal};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: NAME,
    summary: "puts a Hadamard transform on queries and cached keys, where tokens share scales",
    options: &[],
    make: |_| Ok(Box::new(RotateKeys)),
};

pub(super) const NAME: &str = "rotate-keys";

struct RotateKeys;

impl Pass for RotateKeys {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut explanation = Explanation { pass: NAME, ..Explanation::default() };
        let (mut layers, mut seen) = (0, 0);
        for function in &mut module.functions {
            for id in function.order().to_vec() {
                if !reads_states(function, id) {
                    continue;
                }
                seen += 1;
                let name = function.node(id).location.to_string();
                match rotate(function, id) {
                    Ok(()) => {
                        layers += 1;
                        explanation.layers.push(LayerChoice::done(&name, NAME));
                    }
                    Err(why) => {
                        context.warn(NAME, format!("`{name}` keeps its keys as they are: {why}"));
                        explanation.refused.push(Refusal::new(&name, NAME, why));
                    }
                }
            }
            function.sort();
        }
        if seen == 0 {
            context.warn(NAME, "there is no attention that keeps keys and values".to_string());
        }
        context.explanations.push(explanation);
        Ok(Outcome::of([("layers", layers)]))
    }
}

/// Rotates the queries and the new keys of an attention.
pub(super) fn rotate(function: &mut Function, attention: OpId) -> Result<(), String> {
    let concat = defining(function, operand(function, attention, 1)?)?;
    if function.node(concat).op != (Op::Concat { axis: 1 }) || function.node(concat).operands.len() != 2 {
        return Err("its keys are not put behind those of before".into());
    }
    let state = operand(function, concat, 0)?;
    let readers = function.uses().remove(&operand(function, attention, 1)?).unwrap_or_default();
    if readers.len() != 1 {
        return Err("its keys are read by others too".into());
    }
    let features = function.ty(state).dims.last().and_then(qcc_ir::Dim::constant);
    let features = features.ok_or("a head has no constant size")?;
    if Order::of(features).is_none() {
        return Err(format!("there is no Hadamard transform of {features} features"));
    }
    let location = function.node(attention).location.to_string();
    for (reader, slot) in [(concat, 1), (attention, 0)] {
        let x: ValueId = operand(function, reader, slot)?;
        let turned = function
            .add_one(Op::Hadamard { size: features, transpose: false }, [x], &location)
            .map_err(|e| e.to_string())?;
        function.node_mut(reader).operands[slot] = Some(turned);
    }
    let name = format!("{}.rotated", function.value(state).name);
    function.set_value_name(state, &name);
    Ok(())
}
