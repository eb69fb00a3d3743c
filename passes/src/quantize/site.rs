//! What each operation is to quantization.

use std::collections::HashSet;

use qcc_ir::{Function, Op, OpId, ValueId};

use crate::decompose::Branch;

/// What an operation is to quantization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// Nothing.
    None,
    /// A linear layer or convolution on a weight.
    Layer,
    /// The output head of a language model.
    Head,
    /// A branch of a layer that keeps floats.
    Floats,
    /// A layer that has no quantized form, and why.
    Unfit(String),
}

/// All sites of a function, in order.
pub(crate) fn sites(function: &Function) -> Vec<(OpId, Site)> {
    let heads = heads(function);
    let all = function.order().iter().map(|&id| (id, site(function, id, &heads)));
    all.filter(|(_, site)| *site != Site::None).collect()
}

fn site(function: &Function, id: OpId, heads: &HashSet<ValueId>) -> Site {
    let node = function.node(id);
    match node.op {
        Op::Linear {} | Op::Conv { .. } => {}
        Op::ConvTranspose { .. } => {
            return Site::Unfit("transposed convolutions have no quantized form yet".into());
        }
        _ => return Site::None,
    }
    if Branch::of(node).is_some_and(Branch::keeps_floats) {
        return Site::Floats;
    }
    let is_weight = node.operands[1].is_some_and(|w| function.parameter_name(w).is_some());
    match (is_weight, heads.contains(&node.results[0])) {
        (false, _) => Site::Unfit("its second operand is not a weight".into()),
        (true, true) => Site::Head,
        (true, false) => Site::Layer,
    }
}

/// The values of a function that embeds tokens which become results of it with hardly anything in between: logits. States are no results
/// in this sense.
fn heads(function: &Function) -> HashSet<ValueId> {
    if !function.order().iter().any(|id| matches!(function.node(*id).op, Op::Embedding {})) {
        return HashSet::new();
    }
    let is_state = |i: usize| function.states.iter().any(|s| s.result == i);
    let results = function.results.iter().enumerate().filter(|(i, _)| !is_state(*i));
    results.map(|(_, r)| before_finish(function, *r)).collect()
}

/// The value before what is done to finished logits: reshaping, cutting, scaling, capping, softmax.
fn before_finish(function: &Function, result: ValueId) -> ValueId {
    let mut value = result;
    while let Some((_, node)) = function.defining(value) {
        let finishes = matches!(
            node.op,
            Op::Reshape { .. }
                | Op::Slice { .. }
                | Op::Transpose { .. }
                | Op::Cast { .. }
                | Op::Mul {}
                | Op::Div {}
                | Op::Tanh {}
                | Op::Softmax { .. }
                | Op::LogSoftmax { .. }
        );
        match node.operands.first() {
            Some(Some(x)) if finishes => value = *x,
            _ => break,
        }
    }
    value
}
