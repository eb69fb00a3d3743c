//! Grouped convolutions: one convolution a group, or, with one channel a group, a depthwise one on repeated channels.

use qcc_ir::{Dim, Granularity, Node, Op, QuantType, ValueId, ops::ImageLayout};

use super::one_scale;
use super::site::{Failure, Rewritten, Site, one};
use crate::lower::is_coded_weight;

/// Slots of `quantized_conv`; `conv` has its bias in slot 2.
const WEIGHT_SCALE: usize = 2;
const QUANTIZED_BIAS: usize = 5;
const BOUNDS: usize = 8;

/// Rewrites `conv` and `quantized_conv` with groups, unless they are depthwise with one result a channel.
pub(super) fn convolution(site: &mut Site<'_>) -> Rewritten {
    let (groups, layout) = match &site.node.op {
        Op::Conv { groups, layout, .. } | Op::QuantizedConv { groups, layout, .. } => (*groups, *layout),
        _ => return Ok(None),
    };
    let (x, y) = (site.operand(0), site.node.results[0]);
    let Some(weight) = site.ty(site.operand(1)).constant_dims() else { return Ok(None) };
    let (outs, inner) = (weight[0], weight[1]);
    let one_a_channel = inner == 1 && groups == outs;
    if groups == 1 || one_a_channel || !one_scale(site.function, x) || !one_scale(site.function, y) {
        return Ok(None);
    }
    if inner == 1 {
        return multiplied(site, x, layout, groups, outs / groups);
    }
    each_group(site, x, layout, groups, [inner, outs / groups])
}

fn channel_axis(rank: usize, layout: ImageLayout) -> usize {
    match layout {
        ImageLayout::ChannelsFirst => 1,
        ImageLayout::ChannelsLast => rank - 1,
    }
}

/// The operation with another number of groups.
fn with_groups(op: &Op, number: i64) -> Op {
    let mut op = op.clone();
    if let Op::Conv { groups, .. } | Op::QuantizedConv { groups, .. } = &mut op {
        *groups = number;
    }
    op
}

/// Depthwise with `times` results a channel: each channel is repeated, then has a result of its own.
fn multiplied(site: &mut Site<'_>, x: ValueId, layout: ImageLayout, channels: i64, times: i64) -> Rewritten {
    let dims = site.dims(x);
    let axis = channel_axis(dims.len(), layout);
    let mut split = dims.clone();
    split.insert(axis + 1, Dim::Const(1));
    let mut repeated = split.clone();
    repeated[axis + 1] = Dim::Const(times);
    let wide = channels.checked_mul(times).ok_or(Failure::TooLarge)?;
    let mut joined = dims;
    joined[axis] = Dim::Const(wide);
    let x = site.reshape(x, split)?;
    let x = site.add(Op::Broadcast { shape: repeated }, &[x])?;
    let x = site.reshape(x, joined)?;
    let mut operands = site.node.operands.clone();
    operands[0] = Some(x);
    let op = with_groups(&site.node.op, wide);
    Ok(Some(site.add_heir(op, operands)?))
}

/// Slices of input, weight, scales and bias, a convolution of each, and their concatenation.
fn each_group(
    site: &mut Site<'_>,
    x: ValueId,
    layout: ImageLayout,
    groups: i64,
    [inner, outs]: [i64; 2],
) -> Rewritten {
    let axis = channel_axis(site.rank(x), layout);
    let quantized = matches!(site.node.op, Op::QuantizedConv { .. });
    let decoded = site.function.defining(site.operand(1)).map(|(_, node)| node.clone());
    let decoded = decoded.filter(|node| is_coded_weight(site.function, node));
    let scale_of_channels = match site.ty(site.operand(1)).element.quantized().map(|q| q.granularity) {
        None | Some(Granularity::Tensor) => false,
        Some(Granularity::Channel { axis: 0 }) => true,
        _ => return Ok(None),
    };
    let mut of_outputs = if decoded.is_some() { vec![] } else { vec![1] };
    if quantized && scale_of_channels {
        of_outputs.push(WEIGHT_SCALE);
    }
    of_outputs.push(if quantized { QUANTIZED_BIAS } else { 2 });
    if quantized {
        of_outputs.push(BOUNDS);
    }
    let op = with_groups(&site.node.op, 1);
    let mut parts = Vec::new();
    for group in 0..groups {
        let mut operands = site.node.operands.clone();
        operands[0] = Some(site.slice(x, axis, group * inner, (group + 1) * inner)?);
        if let Some(decoded) = &decoded {
            operands[1] = Some(decoded_part(site, decoded, group * outs, (group + 1) * outs)?);
        }
        for &slot in &of_outputs {
            if let Some(value) = site.optional(slot) {
                operands[slot] = Some(site.slice(value, 0, group * outs, (group + 1) * outs)?);
            }
        }
        parts.push(site.add_heir(op.clone(), operands)?[0]);
    }
    one(site.add(Op::Concat { axis: axis as i64 }, &parts)?)
}

/// Output channels `start..end` of a weight that is decoded: the codes of these, with the scales and zero points that are theirs.
fn decoded_part(site: &mut Site<'_>, decoded: &Node, start: i64, end: i64) -> Result<ValueId, Failure> {
    let mut operands = decoded.operands.clone();
    let codes = operands[0].expect("invariant: arity was checked");
    let theirs = match site.ty(codes).element.quantized() {
        None | Some(QuantType { granularity: Granularity::Tensor, .. }) => 1,
        Some(q) if q.zero_point => 3,
        Some(_) => 2,
    };
    for value in operands.iter_mut().take(theirs).flatten() {
        *value = site.slice(*value, 0, start, end)?;
    }
    site.add_slots(decoded.op.clone(), operands)
}
