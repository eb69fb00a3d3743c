//! Where equalization can act: an activation and all convolutions that read it, since a scale of its channels is for all of them.

use std::collections::HashMap;

use qcc_ir::{Dim, ElementType, Function, Node, Op, OpId, Str, ValueId, ops::ImageLayout};

use crate::equivalence::convert::weights;

/// A convolution on a weight of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// The operation.
    pub op: OpId,
    /// Its weight, `[out, in / groups, taps…]`.
    pub weight: ValueId,
    /// Whether each output channel has one input channel of its own.
    pub depthwise: bool,
}

/// An activation `[batch, channels, …]` and the convolutions that read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// The activation.
    pub input: ValueId,
    /// Its channels.
    pub channels: usize,
    /// The convolutions, in order.
    pub layers: Vec<Layer>,
    /// The source of the first convolution.
    pub name: Str,
}

/// A site that stays as it is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The source of its convolution.
    pub site: Str,
    /// Why.
    pub reason: String,
}

/// The sites of a function in order, and those that no scale may touch.
pub fn sites(function: &Function) -> (Vec<Site>, Vec<Refused>) {
    let (uses, free) = (function.uses(), weights(function));
    let (mut sites, mut refused): (Vec<Site>, Vec<Refused>) = (Vec::new(), Vec::new());
    let mut index: HashMap<ValueId, usize> = HashMap::new();
    let mut closed: HashMap<ValueId, Refused> = HashMap::new();
    for &op in function.order() {
        let node = function.node(op);
        let (Op::Conv { .. }, Some(Some(input))) = (&node.op, node.operands.first()) else { continue };
        if free.contains(input) {
            continue;
        }
        let users = |weight: ValueId| uses.get(&weight).map_or(0, Vec::len);
        match layer(function, op, node, &users) {
            Ok((layer, channels)) => {
                let at = *index.entry(*input).or_insert_with(|| {
                    let name = node.location.clone();
                    sites.push(Site { input: *input, channels, layers: Vec::new(), name });
                    sites.len() - 1
                });
                sites[at].layers.push(layer);
            }
            Err(reason) => {
                let refusal = Refused { site: node.location.clone(), reason };
                closed.entry(*input).or_insert_with(|| refusal.clone());
                refused.push(refusal);
            }
        }
    }
    sites.retain(|site| match closed.get(&site.input) {
        Some(other) => {
            let reason = format!("it shares its input with `{}`: {}", other.site, other.reason);
            refused.push(Refused { site: site.name.clone(), reason });
            false
        }
        None => true,
    });
    (sites, refused)
}

/// The convolution as a layer, and the channels of its input.
fn layer(
    function: &Function,
    op: OpId,
    node: &Node,
    users: &dyn Fn(ValueId) -> usize,
) -> Result<(Layer, usize), String> {
    let Op::Conv { groups, layout, .. } = &node.op else { return Err("it is no convolution".into()) };
    let (Some(Some(x)), Some(Some(weight))) = (node.operands.first(), node.operands.get(1)) else {
        return Err("it lacks an operand".into());
    };
    let (input, w) = (function.ty(*x), function.ty(*weight));
    if function.parameter_name(*weight).is_none() {
        return Err("its weight is computed".into());
    }
    if users(*weight) > 1 {
        return Err(format!("its weight is used by {} operations", users(*weight)));
    }
    if input.element != ElementType::F32 || w.element != ElementType::F32 {
        return Err("its input or weight is not f32".into());
    }
    if *layout != ImageLayout::ChannelsFirst {
        return Err("its channels are not axis 1".into());
    }
    let depthwise = *groups > 1 && w.dims.first() == Some(&Dim::Const(*groups)) && w.dims[1] == Dim::Const(1);
    if *groups != 1 && !depthwise {
        return Err(format!("it has {groups} groups and is not depthwise"));
    }
    let channels = input.dims.get(1).and_then(Dim::constant).and_then(|n| usize::try_from(n).ok());
    let channels = channels.ok_or("the number of its channels is not known")?;
    Ok((Layer { op, weight: *weight, depthwise }, channels))
}
