//! `channels-last`: image operations run with their channels innermost, as convolution kernels want them.
//!
//! One forward walk keeps, for each channels-first value, its channels-last version. Convolutions and pools take and give that version,
//! operations that do not care about the order of axes follow, with their axes renumbered; all others get the channels-first value back
//! through a transpose that is made once. Weights keep their order, so do arguments and results of the function.
//!
//! The walk never looks ahead: a network of convolutions needs one transpose at its input, and at its end at most one.

mod follow;
mod shuffle;
#[cfg(test)]
mod tests;
mod versions;

use qcc_ir::{Function, InferError, Module, Op, OpId, ValueId, ops::ImageLayout};

use crate::context::Context;
use crate::pass::{Outcome, Pass, PassError, PassInfo, Preservation};
use versions::Versions;

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "channels-last",
    summary: "runs convolutions, pools and what follows them with channels innermost",
    options: &[],
    make: |_| Ok(Box::new(ChannelsLast)),
};

const NAME: &str = "channels-last";

struct ChannelsLast;

impl Pass for ChannelsLast {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, _: &mut Context<'_>) -> Result<Outcome, PassError> {
        let (mut converted, mut transposes) = (0, 0);
        for function in &mut module.functions {
            if !function.order().iter().any(|id| starts(function, *id)) {
                continue;
            }
            let mut versions = Versions::new(function);
            for id in function.order().to_vec() {
                let location = function.node(id).location.clone();
                let done = convert(function, id, &mut versions);
                converted += usize::from(done.map_err(|e| PassError::at(NAME, &location, e))?);
            }
            for i in 0..function.results.len() {
                let result = function.results[i];
                let first = versions.first(function, result).map_err(|e| PassError::failed(NAME, e))?;
                function.results[i] = first;
            }
            function.sort();
            function.remove_dead();
            transposes += versions.live_transposes(function);
        }
        Ok(Outcome::of([("converted", converted), ("transposes", transposes)]))
    }
}

/// Converts one operation; an operation that cannot be converted gets its operands channels-first. Says whether it was converted.
fn convert(function: &mut Function, id: OpId, versions: &mut Versions) -> Result<bool, InferError> {
    if starts(function, id) || follow::follows(function, id, versions) {
        let converted = match window(&function.node(id).op) {
            Some(op) => {
                window_last(function, id, op, versions)?;
                true
            }
            None => follow::follow(function, id, versions)?,
        };
        if converted {
            return Ok(true);
        }
    }
    let operands = function.node(id).operands.clone();
    for (slot, operand) in operands.into_iter().enumerate() {
        if let Some(value) = operand {
            let first = versions.first(function, value)?;
            function.node_mut(id).operands[slot] = Some(first);
        }
    }
    for result in function.node(id).results.clone() {
        versions.set_first(result, result);
    }
    follow::note_transpose(function, id, versions);
    Ok(false)
}

/// Whether an operation runs channels-last whatever it is given: its kernel wants it so.
fn starts(function: &Function, id: OpId) -> bool {
    let node = function.node(id);
    let per_tensor = |v: &ValueId| follow::keeps_its_scale(function.ty(*v).element);
    window(&node.op).is_some()
        && node.operands.first().copied().flatten().iter().all(per_tensor)
        && node.results.iter().all(per_tensor)
}

/// The channels-last form of a channels-first operation with a layout.
fn window(op: &Op) -> Option<Op> {
    let mut op = op.clone();
    let layout = match &mut op {
        Op::Conv { layout, .. }
        | Op::QuantizedConv { layout, .. }
        | Op::MaxPool { layout, .. }
        | Op::AvgPool { layout, .. } => layout,
        _ => return None,
    };
    match std::mem::replace(layout, ImageLayout::ChannelsLast) {
        ImageLayout::ChannelsFirst => Some(op),
        ImageLayout::ChannelsLast => None,
    }
}

/// Rebuilds an operation with a layout; only its first operand is an image.
fn window_last(function: &mut Function, id: OpId, op: Op, versions: &mut Versions) -> Result<(), InferError> {
    let mut operands = function.node(id).operands.clone();
    for (slot, operand) in operands.iter_mut().enumerate() {
        if let Some(value) = operand {
            *value = if slot == 0 {
                versions.last(function, *value)?
            } else {
                versions.first(function, *value)?
            };
        }
    }
    versions.rebuild(function, id, op, operands)
}
