//! Why a batch normalisation was left where it is, for `--explain`.

use std::collections::HashMap;

use qcc_ir::ops::ImageLayout;
use qcc_ir::{Function, Op, OpId, ValueId};

use crate::transform::explanation::Refusal;

/// The batch normalisations of a function that has been folded, each with the reason.
pub fn left(function: &Function) -> Vec<Refusal> {
    let uses = function.uses();
    let is_norm = |id: &&OpId| matches!(function.node(**id).op, Op::BatchNorm { .. });
    let refusal = |&id: &OpId| {
        Refusal::new(&function.node(id).location, "fold-batch-norm", reason(function, &uses, id))
    };
    function.order().iter().filter(is_norm).map(refusal).collect()
}

fn reason(function: &Function, uses: &HashMap<ValueId, Vec<(OpId, usize)>>, norm: OpId) -> String {
    let node = function.node(norm);
    let users = |value: &ValueId| uses.get(value).map_or(&[][..], Vec::as_slice);
    let returned = |value: &ValueId| function.results.contains(value);
    let name = |id: OpId| format!("`{}` (qcc.{})", function.node(id).location, function.node(id).op.name());
    let before = node.operands[0].and_then(|x| Some((x, function.defining(x)?.0)));
    if let Some((x, id)) = before
        && matches!(function.node(id).op, Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear {})
    {
        return match users(&x).len() > 1 || returned(&x) {
            true => format!("the result of {} is also used without it", name(id)),
            false => format!("{} cannot take it up", name(id)),
        };
    }
    let result = node.results[0];
    match users(&result) {
        [(id, 0)] if !returned(&result) => match &function.node(*id).op {
            Op::Conv { layout, .. } if *layout != ImageLayout::ChannelsFirst => {
                format!("{} does not have its channels first", name(*id))
            }
            Op::Conv { pads, .. } if pads.iter().any(|pad| *pad != 0) => {
                format!("the padding of {} is not shifted with it", name(*id))
            }
            Op::Conv { groups, .. } if *groups != 1 => format!("{} has several groups", name(*id)),
            Op::Conv { .. } | Op::Linear {} => format!("{} cannot take it up", name(*id)),
            _ => format!("neither its input nor {} is a layer that could take it up", name(*id)),
        },
        _ => "its input is no layer that could take it up, and its result is used more than once".into(),
    }
}
