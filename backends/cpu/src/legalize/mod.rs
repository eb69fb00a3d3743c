//! `legalize`: every operation that [`crate::lower`] has no kernel for becomes operations that have one. The function stays the same.
//!
//! The pass runs twice in the backend's [pipeline](crate::pipeline). While images are still channels first, only operations whose rewrite
//! builds a channels-last image itself are taken (transposed convolutions, resizes; the transposes around it dissolve in `channels-last`) and
//! products that have no image.
//! All others wait until `channels-last` has renumbered their axes, so that what is sliced, gathered or reduced has its channels
//! innermost. Weights are edited by operations on parameters, which `canonicalize` makes weight expressions.
//!
//! Always holds: a rewrite looks at one operation and its operands only, and walks go round until nothing matches, so a rewrite may build
//! operations that are illegal themselves. What no rewrite takes is left as it is; lowering names it.

mod groups;
mod indexing;
mod normalization;
mod precision;
mod products;
mod quantization;
mod reduction;
mod resize;
mod site;
mod transposed;

use std::collections::{BTreeMap, HashMap};

use qcc_ir::{Function, Granularity, Module, Node, Op, ValueId, ops::ImageLayout};
use qcc_params::Parameters;
use qcc_passes::{Context, Outcome, Pass, PassError, PassInfo, Preservation};

use site::{Rewritten, Site};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "legalize",
    summary: "rewrites operations that have no CPU kernel as operations that have one",
    options: &[],
    make: |_| Ok(Box::new(Legalize)),
};

const NAME: &str = "legalize";

/// Walks over a function; each makes something legal, and chains of rewrites are short.
const MOST_WALKS: usize = 16;

struct Legalize;

impl Pass for Legalize {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut counts = BTreeMap::new();
        for function in &mut module.functions {
            let mut walks = 0;
            while walk(function, &mut context.parameters, &mut counts)? {
                walks += 1;
                if walks > MOST_WALKS {
                    return Err(PassError::failed(
                        NAME,
                        "the rewrites do not end, which is a bug of the pass",
                    ));
                }
            }
        }
        Ok(Outcome::of(counts))
    }
}

/// Rewrites each operation once, in order; says whether anything was rewritten. Counts by operation.
fn walk(
    function: &mut Function,
    parameters: &mut Parameters,
    counts: &mut BTreeMap<&'static str, usize>,
) -> Result<bool, PassError> {
    let images_first = function.order().iter().any(|id| is_channels_first(function, function.node(*id)));
    let mut replaced: HashMap<ValueId, ValueId> = HashMap::new();
    for id in function.order().to_vec() {
        for operand in function.node_mut(id).operands.iter_mut().flatten() {
            *operand = *replaced.get(operand).unwrap_or(operand);
        }
        let node = function.node(id).clone();
        let mut site = Site { function, parameters, node };
        let rewritten = rewrite(&mut site, images_first);
        let node = site.node;
        if let Some(results) = rewritten.map_err(|e| PassError::at(NAME, &node.location, e))? {
            *counts.entry(node.op.name()).or_default() += 1;
            replaced.extend(node.results.iter().copied().zip(results));
        }
    }
    for result in &mut function.results {
        *result = *replaced.get(result).unwrap_or(result);
    }
    function.sort();
    function.remove_dead();
    Ok(!replaced.is_empty())
}

/// Whether `channels-last` is still to turn the images of an operation.
fn is_channels_first(function: &Function, node: &Node) -> bool {
    let (Op::Conv { layout, .. }
    | Op::QuantizedConv { layout, .. }
    | Op::MaxPool { layout, .. }
    | Op::AvgPool { layout, .. }) = &node.op
    else {
        return false;
    };
    let images = node.operands.first().copied().flatten().into_iter().chain(node.results.iter().copied());
    *layout == ImageLayout::ChannelsFirst && images.into_iter().all(|v| one_scale(function, v))
}

/// Whether a value is not quantized, or has one scale: only then its elements may change places freely.
fn one_scale(function: &Function, value: ValueId) -> bool {
    function.ty(value).element.quantized().is_none_or(|q| q.granularity == Granularity::Tensor)
}

/// The values that replace the results of an operation, if it is not legal.
fn rewrite(site: &mut Site<'_>, images_first: bool) -> Rewritten {
    let early = match site.node.op {
        Op::ConvTranspose { .. } => transposed::conv_transpose(site)?,
        Op::Resize { .. } => resize::resize(site)?,
        Op::Matmul {} => products::by_weight(site)?,
        _ => None,
    };
    if early.is_some() || images_first {
        return Ok(early);
    }
    if let Some(results) = precision::in_f32(site)? {
        return Ok(Some(results));
    }
    match site.node.op {
        Op::Conv { .. } | Op::QuantizedConv { .. } => match products::layer(site)? {
            None => groups::convolution(site),
            done => Ok(done),
        },
        Op::Linear {}
        | Op::QuantizedLinear { .. }
        | Op::CausalConv {}
        | Op::SelectiveScan {}
        | Op::SelectiveScanStates {} => products::layer(site),
        Op::Matmul {} => products::batches(site),
        Op::BatchNorm { .. } => normalization::batch_norm(site),
        Op::Softmax { .. } => normalization::softmax(site),
        Op::LogSoftmax { .. } => normalization::log_softmax(site),
        Op::LayerNorm { .. } => normalization::layer_norm(site),
        Op::ReduceMean { .. } | Op::ReduceSum { .. } | Op::ReduceMax { .. } => reduction::reduce(site),
        Op::Pad { .. } => indexing::pad(site),
        Op::Slice { .. } => indexing::slice(site),
        Op::Gather { .. } | Op::Embedding {} => indexing::indices(site),
        Op::DynamicQuantize { .. } => quantization::dynamic_quantize(site),
        _ => Ok(None),
    }
}
