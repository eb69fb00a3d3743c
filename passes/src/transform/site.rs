//! Where transforms can act: linear layers, grouped by the activation they share, since what is done to it is done for all. The output head
//! is one of them: it takes up a rotation of the residual stream.

use std::collections::HashMap;

use qcc_ir::{ElementType, Function, Op, OpId, Str, ValueId};

use crate::quantize::site::{Site, sites};

/// A linear layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The operation.
    pub op: OpId,
    /// Its weight.
    pub weight: ValueId,
    /// Its source in the model.
    pub name: Str,
    /// Whether it is the output head of a language model, which has a format of its own.
    pub head: bool,
}

/// The layers that share an input.
#[derive(Clone, Debug)]
pub struct Group {
    /// The input, `[…, features]`.
    pub input: ValueId,
    /// Its features.
    pub width: usize,
    /// The layers, in order.
    pub layers: Vec<Layer>,
    /// Where its input comes from.
    pub producer: Producer,
}

/// What makes the input of a group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Producer {
    /// A normalisation with this gain.
    Norm(ValueId),
    /// A linear layer.
    Linear,
    /// Anything else.
    Other,
}

/// A layer that no transform may touch, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Its source in the model.
    pub layer: Str,
    /// Why.
    pub reason: String,
}

impl Group {
    /// What to call it: its layers' names with ` + ` between.
    pub fn name(&self) -> String {
        self.names().join(" + ")
    }

    /// Its layers' names, each once where all are alike.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.layers.iter().map(|l| l.name.to_string()).collect();
        names.dedup();
        names
    }
}

/// The groups of a function, and the layers that are none.
pub fn groups(function: &Function) -> (Vec<Group>, Vec<Refused>) {
    let uses = function.uses();
    let (mut groups, mut refused): (Vec<Group>, Vec<Refused>) = (Vec::new(), Vec::new());
    let mut index: HashMap<ValueId, usize> = HashMap::new();
    for (op, site) in sites(function) {
        let node = function.node(op);
        if node.op != (Op::Linear {}) {
            continue;
        }
        let mut refuse = |reason: &str| {
            refused.push(Refused { layer: node.location.clone(), reason: reason.to_string() });
        };
        if site == Site::Floats {
            continue;
        }
        let (Some(input), Some(weight)) = (node.operands[0], node.operands[1]) else { continue };
        if let Site::Unfit(why) = &site {
            refuse(why);
            continue;
        }
        // A table that also embeds becomes a weight of its own.
        let embeds =
            |(user, slot): &&(OpId, usize)| matches!(function.node(*user).op, Op::Embedding {}) && *slot == 0;
        let users = uses.get(&weight).map_or(0, |uses| uses.iter().filter(|u| !embeds(u)).count());
        let ty = function.ty(input);
        let width = ty.dims.last().and_then(|d| d.constant()).and_then(|n| usize::try_from(n).ok());
        match width {
            _ if users > 1 => refuse(&format!(
                "its weight is used by {users} operations; a transform for one of them would store it once more"
            )),
            Some(width)
                if ty.element == ElementType::F32 && function.ty(weight).element == ElementType::F32 =>
            {
                let head = site == Site::Head;
                let layer = Layer { op, weight, name: node.location.clone(), head };
                let at = *index.entry(input).or_insert_with(|| {
                    groups.push(Group {
                        input,
                        width,
                        layers: Vec::new(),
                        producer: producer(function, input),
                    });
                    groups.len() - 1
                });
                groups[at].layers.push(layer);
            }
            _ => refuse("its input or weight is not f32"),
        }
    }
    (groups, refused)
}

fn producer(function: &Function, value: ValueId) -> Producer {
    let Some((_, node)) = function.defining(value) else { return Producer::Other };
    let over_features = match node.op {
        Op::RmsNorm { .. } => true,
        Op::LayerNorm { axis, .. } => axis + 1 == function.ty(value).rank() as i64,
        _ => false,
    };
    match (&node.op, node.operands.get(1)) {
        (Op::RmsNorm { .. } | Op::LayerNorm { .. }, Some(Some(gain)))
            if over_features && function.parameter_name(*gain).is_some() =>
        {
            Producer::Norm(*gain)
        }
        (Op::Linear {}, _) => Producer::Linear,
        _ => Producer::Other,
    }
}
