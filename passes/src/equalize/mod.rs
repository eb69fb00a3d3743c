//! `equalize`: cross-layer equalization (DFQ, arXiv 1906.04721). Where the channels of an activation can be scaled in the weights of the
//! convolutions around it, they get the scales that make the ranges of both sides alike, so that few codes are lost to channels with
//! small weights beside channels with large ones.
//!
//! | step | file |
//! | --- | --- |
//! | convolutions that share an input | [`site`] |
//! | which convolutions before it can take up its scale | [`carry`] |
//! | the scales | [`ranges`] |
//!
//! Legality is what the [rules](crate::equivalence) make of a scale: they carry it through ReLU, leaky ReLU, clamps (whose bounds become
//! bounds by channel), pools and into convolutions. What they cannot carry to the weights stays as it was, with a reason.

mod carry;
mod ranges;
mod site;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use qcc_ir::{Dim, ElementType, Function, Module, Op, TensorType, ValueId};
use qcc_params::Tensor;

use crate::context::Context;
use crate::equivalence::rules::{BUILTIN, Rule, parse};
use crate::pass::{Outcome, Pass, PassError, PassInfo, Preservation};
use carry::Carry;
use ranges::{Layer, Magnitudes, equalized};
use site::{Refused, Site, sites};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "equalize",
    summary: "scales channels between convolutions so that the ranges of their weights are alike",
    options: &[],
    make: |_| {
        let (file, text) = BUILTIN.iter().find(|(file, _)| *file == RULES).ok_or("its rules are missing")?;
        let rules = parse(file, text).map_err(|e| e.to_string())?;
        Ok(Box::new(Equalize { rules }))
    },
};

const NAME: &str = "equalize";
const RULES: &str = "scale.rules";

struct Equalize {
    rules: Vec<Arc<Rule>>,
}

impl Pass for Equalize {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut outcome = Outcome::default();
        for function in &mut module.functions {
            self.function(function, context, &mut outcome).map_err(|e| PassError::failed(NAME, e))?;
        }
        Ok(outcome)
    }
}

impl Equalize {
    fn function(
        &self,
        function: &mut Function,
        context: &mut Context<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), String> {
        let (sites, mut refused) = sites(function);
        let mut scaled = function.clone();
        let scales: Vec<ValueId> = sites.iter().map(|site| parameter(&mut scaled, site, context)).collect();
        let probe = scaled.clone();
        let (carry, report) = Carry::new(&probe, &sites, &scales, &self.rules).map_err(|e| e.to_string())?;
        tracing::debug!(
            iterations = report.iterations,
            nodes = report.nodes,
            classes = report.classes,
            applied = ?report.applied,
            "saturated"
        );
        let mut pairs: Vec<Pair> = Vec::new();
        for (index, site) in sites.iter().enumerate() {
            match carry.reach(index) {
                Ok(before) => pairs.push(Pair { site: index, before }),
                Err(reason) => refused.push(Refused { site: site.name.clone(), reason }),
            }
        }
        for Refused { site, reason } in &refused {
            tracing::info!(layer = %site, reason, "not equalized");
        }
        let layers = layers(&probe, &sites, &pairs, context)?;
        let channels: Vec<usize> = pairs.iter().map(|p| sites[p.site].channels).collect();
        let values = equalized(&layers, &channels);
        let mut chosen = vec![false; sites.len()];
        for (pair, values) in pairs.iter().zip(&values) {
            let site = &sites[pair.site];
            #[allow(clippy::cast_possible_truncation, reason = "scales are weights, which are f32")]
            let data: Vec<f32> = values.iter().map(|s| *s as f32).collect();
            let tensor = Tensor::f32(&[data.len()], data).map_err(|e| e.to_string())?;
            let name = probe.parameter_name(scales[pair.site]).ok_or("invariant: a scale is a parameter")?;
            context.parameters.insert_tensor(name, tensor).map_err(|e| e.to_string())?;
            chosen[pair.site] = true;
            let bounds = values.iter().fold((f64::INFINITY, 0.0), |(l, h), s| (s.min(l), s.max(h)));
            tracing::info!(layer = %site.name, smallest = bounds.0, largest = bounds.1, "equalized");
        }
        if !pairs.is_empty() {
            carry.apply(&mut scaled, &chosen)?;
            scaled.remove_dead();
            *function = scaled;
        }
        *outcome.statistics.entry("pairs").or_default() += pairs.len();
        *outcome.measures.entry("refused").or_default() += refused.len();
        *outcome.measures.entry("e_nodes").or_default() += report.nodes;
        *outcome.measures.entry("iterations").or_default() += report.iterations;
        Ok(())
    }
}

/// A site whose scale can be carried, and the weights of the convolutions that take it up.
struct Pair {
    site: usize,
    before: Vec<ValueId>,
}

/// A weight of the function for the scale of a site, whose numbers are still to come.
fn parameter(function: &mut Function, site: &Site, context: &Context<'_>) -> ValueId {
    let taken: Vec<&str> = function
        .order()
        .iter()
        .filter_map(|id| function.node(*id).results.first())
        .filter_map(|v| function.parameter_name(*v).map(|n| &**n))
        .collect();
    let free = |name: &String| context.parameters.ty(name).is_none() && !taken.contains(&name.as_str());
    let base = format!("equalize.{}", site.name);
    let numbered = (1..).map(|n| format!("{base}.{n}"));
    let name = std::iter::once(base.clone()).chain(numbered).find(free).unwrap_or(base.clone());
    let channels = i64::try_from(site.channels).unwrap_or(i64::MAX);
    function.add_parameter(&name, TensorType::new(vec![Dim::Const(channels)], ElementType::F32))
}

/// All convolutions that have to do with pairs.
fn layers(
    function: &Function,
    sites: &[Site],
    pairs: &[Pair],
    context: &Context<'_>,
) -> Result<Vec<Layer>, String> {
    let mut ends: HashMap<ValueId, (Option<usize>, Option<usize>)> = HashMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        for layer in &sites[pair.site].layers {
            ends.entry(layer.weight).or_default().0 = Some(index);
        }
        for weight in &pair.before {
            ends.entry(*weight).or_default().1 = Some(index);
        }
    }
    let mut layers = Vec::new();
    for &op in function.order() {
        let node = function.node(op);
        let Some(Some(weight)) = node.operands.get(1) else { continue };
        let Some((input, output)) = ends.get(weight) else { continue };
        let name = function.parameter_name(*weight).ok_or("a weight is computed")?;
        let tensor = context.parameters.evaluate(name, context.evaluator).map_err(|e| e.to_string())?;
        let groups = if let Op::Conv { groups, .. } = node.op { groups } else { 1 };
        let depthwise = groups > 1 && tensor.dims[1] == 1 && i64::try_from(tensor.dims[0]) == Ok(groups);
        let magnitudes = Magnitudes::new(&tensor.dims, &tensor.to_f32_vec(), depthwise);
        layers.push(Layer { magnitudes, input: *input, output: *output });
    }
    Ok(layers)
}
