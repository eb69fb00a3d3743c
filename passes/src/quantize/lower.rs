//! `lower-quantized`: the quantize–dequantize form becomes integer operations.
//!
//! `linear(dequantize(x), dequantize(w), b)`, an activation that clamps, and a static `quantize` of the only use fuse into one
//! `quantized_linear` (and likewise `quantized_conv`, with a minimum by channel too). The result may differ from the float form in the last bits, since sums are exact
//! integers here; it is what runs, and interpreter and kernels agree on it bit by bit.

use std::collections::BTreeMap;

use qcc_ir::{
    Dim, ElementType, Float, Function, Granularity, Module, Node, Op, OpId, Patch, QuantType, ScaleType,
    Storage, ValueId, ops::Rounding,
};

use super::hoist::hoist;
use crate::context::Context;
use crate::pass::{Outcome, Pass, PassError, PassInfo, Preservation};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "lower-quantized",
    summary: "turns quantize-dequantize form into integer linear layers and convolutions",
    options: &[],
    make: |_| Ok(Box::new(LowerQuantized)),
};

pub(super) const NAME: &str = "lower-quantized";

struct LowerQuantized;

impl Pass for LowerQuantized {
    fn preservation(&self) -> Preservation {
        Preservation::Approximate
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let (mut hoisted, mut lowered) = (0, 0);
        let mut left: BTreeMap<&'static str, usize> = BTreeMap::new();
        for function in &mut module.functions {
            hoisted += hoist(function)?;
            for id in function.order().to_vec() {
                lowered += usize::from(lower_embedding(function, id));
                let Some(fused) = match_site(function, id) else { continue };
                lower(function, id, &fused)?;
                lowered += 1;
            }
            for (op, n) in on_decoded(function) {
                *left.entry(op).or_default() += n;
            }
        }
        if !left.is_empty() {
            let list: Vec<String> = left.iter().map(|(op, n)| format!("{op} ×{n}")).collect();
            context.warn(NAME, format!("these operations run in f32 on decoded codes: {}", list.join(", ")));
        }
        let mut outcome = Outcome::of([("lowered", lowered), ("on_codes", hoisted)]);
        outcome.measures.insert("on_decoded", left.values().sum());
        Ok(outcome)
    }
}

/// What fuses around one contraction.
struct Fused {
    /// Codes, scale, zero point of the input; or the float input.
    x: [Option<ValueId>; 3],
    weight: [Option<ValueId>; 2],
    lower: f64,
    upper: f64,
    /// The further upper bound of each channel.
    bounds: Option<ValueId>,
    /// The `quantize` of the result.
    quantize: Option<Node>,
    /// The value that all this replaces.
    result: ValueId,
}

fn dequantized(function: &Function, value: ValueId) -> Option<&Node> {
    let (_, node) = function.defining(value)?;
    matches!(node.op, Op::Dequantize {}).then_some(node)
}

/// Whether a decoded weight has its scales in blocks. Integer products with such weights take codes that are quantized as they come, with
/// the sums of each block that come with them.
fn is_blocked(function: &Function, weight: &Node) -> bool {
    let q = weight.operands[0].and_then(|codes| function.ty(codes).element.quantized());
    q.is_some_and(|q| matches!(q.granularity, Granularity::Block { .. }))
}

/// The type of decoded codes.
fn decoded_type(function: &Function, decoded: &Node) -> Option<QuantType> {
    decoded.operands[0].and_then(|codes| function.ty(codes).element.quantized())
}

/// Whether codes are integers with float scales, so that they can be summed before they are scaled.
fn is_integer(q: QuantType) -> bool {
    q.storage.integer_range(false).is_some() && !matches!(q.scale, ScaleType::E4M3 | ScaleType::E8M0)
}

/// Whether integer operations take a weight of this type.
fn is_summed_weight(q: QuantType, conv: bool) -> bool {
    let shared = match q.granularity {
        Granularity::Tensor | Granularity::Channel { axis: 0 } => true,
        Granularity::Block { axis: 1, block } => !conv && super::sums_in_blocks(block),
        _ => false,
    };
    shared && is_integer(q) && matches!(q.storage, Storage::Int(_)) && !q.zero_point
}

/// Whether integer operations take an input of this type.
fn is_summed_input(q: QuantType, conv: bool) -> bool {
    let shared = match q.granularity {
        Granularity::Tensor => true,
        // What is found for each token is a scale, of signed codes.
        Granularity::Token => !conv && matches!(q.storage, Storage::Int(_)) && !q.zero_point,
        _ => false,
    };
    shared && is_integer(q) && q.scale == ScaleType::F32
}

fn comes_in_tokens(function: &Function, scale: ValueId) -> bool {
    function.defining(scale).is_some_and(|(_, node)| matches!(node.op, Op::DynamicQuantize { .. }))
}

/// Rows of a dequantized table become dequantized rows.
fn lower_embedding(function: &mut Function, id: OpId) -> bool {
    let node = function.node(id);
    let table = node.operands.first().copied().flatten().filter(|_| matches!(node.op, Op::Embedding {}));
    let codes = table.and_then(|table| dequantized(function, table)).map(|d| d.operands.clone());
    let Some([codes, scale, None] | [codes, scale]) = codes.as_deref() else { return false };
    let (codes, scale) = (*codes, *scale);
    let node = function.node_mut(id);
    node.operands[0] = codes;
    node.operands.truncate(2);
    node.operands.push(scale);
    true
}

fn match_site(function: &Function, id: OpId) -> Option<Fused> {
    let node = function.node(id);
    if !matches!(node.op, Op::Linear {} | Op::Conv { .. }) {
        return None;
    }
    let (x, weight) = (node.operands[0]?, node.operands[1]?);
    let conv = matches!(node.op, Op::Conv { .. });
    let summed = |d: &&Node| decoded_type(function, d).is_some_and(|q| is_summed_weight(q, conv));
    let weight = dequantized(function, weight).filter(summed)?;
    let x = match dequantized(function, x) {
        Some(d) if !decoded_type(function, d).is_some_and(|q| is_summed_input(q, conv)) => return None,
        // Nor are zero points that are found at run time.
        Some(d) if d.operands.len() > 2 && d.operands[1].is_some_and(|s| comes_in_tokens(function, s)) => {
            return None;
        }
        Some(d) => [d.operands[0], d.operands[1], d.operands.get(2).copied().flatten()],
        // Integer convolutions take codes only; a weight-only one stays as `conv(x, dequantize(w))`.
        None if conv => return None,
        None => [Some(x), None, None],
    };
    if x[1].is_some_and(|scale| !comes_in_tokens(function, scale)) && is_blocked(function, weight) {
        return None;
    }
    let uses = function.uses();
    let only_use = |v: ValueId| -> Option<&Node> {
        match uses.get(&v).map(Vec::as_slice) {
            Some([(user, _)]) if !function.results.contains(&v) => Some(function.node(*user)),
            _ => None,
        }
    };
    let mut fused = Fused {
        x,
        weight: [weight.operands[0], weight.operands[1]],
        lower: f64::NEG_INFINITY,
        upper: f64::INFINITY,
        bounds: None,
        quantize: None,
        result: node.results[0],
    };
    if let Some(user) = only_use(fused.result) {
        let bounds = match &user.op {
            Op::Relu {} => Some((0.0, f64::INFINITY)),
            Op::Clamp { min, max } => Some((min.0, max.0)),
            _ => None,
        };
        if let Some((lower, upper)) = bounds {
            (fused.lower, fused.upper, fused.result) = (lower, upper, user.results[0]);
        }
    }
    if let (true, Some(user)) = (conv, only_use(fused.result))
        && let Some(bounds) = channel_bounds(function, user, fused.result)
    {
        (fused.bounds, fused.result) = (Some(bounds), user.results[0]);
    }
    if let Some(user) = only_use(fused.result).filter(|_| fused.x[1].is_some())
        && let Op::Quantize { to, rounding: Rounding::HalfEven, .. } = &user.op
        && to.quantized().is_some_and(|q| q.granularity == Granularity::Tensor)
        && user.operands[0] == Some(fused.result)
    {
        fused.result = user.results[0];
        fused.quantize = Some(user.clone());
    }
    Some(fused)
}

/// The other operand of a minimum with `y`, if it is a weight with an element for each channel (axis 1).
fn channel_bounds(function: &Function, minimum: &Node, y: ValueId) -> Option<ValueId> {
    let (Op::Min {}, [Some(a), Some(b)]) = (&minimum.op, minimum.operands.as_slice()) else { return None };
    let bounds = if *a == y { *b } else { *a };
    let (ty, image) = (function.ty(bounds), function.ty(y));
    let missing = image.rank().checked_sub(ty.rank())?;
    let dim = |axis: usize| ty.dims.get(axis.checked_sub(missing)?);
    let others = (0..image.rank()).filter(|axis| *axis != 1).filter_map(dim).all(|d| *d == Dim::Const(1));
    let weight = matches!(function.defining(bounds)?.1.op, Op::Parameter { .. } | Op::Constant { .. });
    let fits = ty.element == ElementType::F32 && dim(1) == image.dims.get(1);
    (others && weight && fits).then_some(bounds)
}

fn lower(function: &mut Function, id: OpId, fused: &Fused) -> Result<(), PassError> {
    let node = function.node(id).clone();
    let at = |e: &dyn std::fmt::Display| PassError::at(NAME, &node.location, e);
    let (mut to, mut narrow, mut y_scale, mut y_zero_point) = (ElementType::F32, true, None, None);
    if let Some(q) = &fused.quantize {
        if let Op::Quantize { to: element, narrow: n, .. } = &q.op {
            (to, narrow) = (*element, *n);
        }
        (y_scale, y_zero_point) = (q.operands[1], q.operands.get(2).copied().flatten());
    }
    let bias = node.operands.get(2).copied().flatten();
    let mut operands = vec![
        fused.x[0],
        fused.weight[0],
        fused.weight[1],
        fused.x[1],
        fused.x[2],
        bias,
        y_scale,
        y_zero_point,
    ];
    let (lower, upper) = (Float(fused.lower), Float(fused.upper));
    let op = match node.op.clone() {
        Op::Conv { strides, pads, dilations, groups, layout } => {
            Op::QuantizedConv { strides, pads, dilations, groups, layout, to, narrow, lower, upper }
        }
        _ => Op::QuantizedLinear { to, narrow, lower, upper },
    };
    let mut patch = Patch::new();
    if let Some(bounds) = fused.bounds {
        let shape = vec![function.ty(node.results[0]).dims[1].clone()];
        let vector = patch.add(function, Op::Reshape { shape }, [bounds], &node.location);
        operands.push(Some(vector.map_err(|e| at(&e))?));
    }
    let y = patch.add(function, op, operands, &node.location).map_err(|e| at(&e))?;
    if let Some((id, _)) = function.defining(y) {
        function.node_mut(id).annotations = node.annotations.clone();
    }
    patch.redirect(fused.result, y);
    patch.apply(function).map_err(|e| at(&e))?;
    Ok(())
}

/// How many operations of each kind read activations that were quantized to integers, and then decoded. Other codes, and weights alone, are
/// there to be decoded.
fn on_decoded(function: &Function) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    let is_activation = |decoded: &Node| {
        let computed = decoded.operands[0].is_some_and(|codes| function.parameter_name(codes).is_none());
        computed && decoded_type(function, decoded).is_some_and(is_integer)
    };
    for &id in function.order() {
        let node = function.node(id);
        let mut decoded = node.operands.iter().flatten().filter_map(|v| dequantized(function, *v));
        if decoded.any(is_activation) {
            *counts.entry(node.op.name()).or_default() += 1;
        }
    }
    counts
}

/// How many operations of each kind run in float: what a user may want to know about a quantized model.
pub fn float_operations(function: &Function) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for &id in function.order() {
        let node = function.node(id);
        let float = node.results.iter().all(|r| function.ty(*r).element.is_float());
        let leaf = matches!(node.op, Op::Parameter { .. } | Op::Constant { .. });
        if float && !leaf && !matches!(node.op, Op::QuantizedLinear { .. } | Op::QuantizedConv { .. }) {
            *counts.entry(node.op.name()).or_default() += 1;
        }
    }
    counts
}
