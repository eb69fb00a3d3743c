//! `equalize`: cross-layer equalization (DFQ, arXiv 1906.04721). Where the channels of an activation can be scaled in the weights of the
//! convolutions around it, they get the scales that make the ranges of both sides alike, so that few codes are lost to channels with
//! small weights beside channels with large ones.
//!
//! | step | file |
//! | --- | --- |
//! | convolutions that share an input | [`site`] |
//! | which convolutions before it can take up its scale | [`carry`] |
//! | the scales | [`ranges`] |
//! | what activations look like | [`observe`] |
//! | where it helps | [`estimate`] |
//!
//! Legality is what the [rules](crate::equivalence) make of a scale: they carry it through ReLU, leaky ReLU, clamps (whose bounds become
//! bounds by channel), pools and into convolutions. What they cannot carry to the weights stays as it was, with a reason.

mod carry;
mod estimate;
mod observe;
mod ranges;
mod site;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use qcc_ir::format::{Format, Role};
use qcc_ir::{Dim, ElementType, Function, Module, Op, TensorType, ValueId};
use qcc_params::Tensor;

use crate::context::Context;
use crate::equivalence::rules::{BUILTIN, Rule, parse};
use crate::pass::{Outcome, Pass, PassError, PassInfo, Preservation};
use crate::transform::explanation::{LayerChoice, Refusal, Saturation};
use crate::transform::{Explanation, tell};
use carry::Carry;
use estimate::Formats;
use ranges::{Layer, Magnitudes, equalized};
use site::{Refused, Site, sites};

/// The registry entry.
pub const INFO: PassInfo = PassInfo {
    name: "equalize",
    summary: "scales channels between convolutions so that the ranges of their weights are alike",
    options: &[
        ("where", "everywhere it is legal (default), or where it helps: where the estimated error goes down"),
        ("weights", "the format that weights will have, for where=helps; omitted: f32"),
        ("activations", "the format that activations will have, for where=helps; omitted: f32"),
    ],
    make: |options| {
        let (file, text) = BUILTIN.iter().find(|(file, _)| *file == RULES).ok_or("its rules are missing")?;
        let rules = parse(file, text).map_err(|e| e.to_string())?;
        let formats = match options.take::<String>("where")?.as_deref() {
            None | Some("everywhere") => None,
            Some("helps") => Some(Formats::default()),
            Some(other) => return Err(format!("`where={other}`: use everywhere or helps")),
        };
        let mut format = |name: &str, role: Role| -> Result<Option<Format>, String> {
            let Some(text) = options.take::<String>(name)? else { return Ok(None) };
            let format = Format::parse(&text, role).map_err(|e| e.to_string())?;
            Ok(Some(format))
        };
        let weights = format("weights", Role::Weight)?;
        let activations = format("activations", Role::Activation)?;
        let unknown = weights.is_none_or(|f| f.is_f32()) && activations.is_none_or(|f| f.is_f32());
        let codes = |format: Option<Format>| format.filter(|f| !f.is_float());
        let helps = formats.map(|_| Formats { weights: codes(weights), activations: codes(activations) });
        if helps.is_some() && unknown {
            return Err("`where=helps` needs the formats that weights and activations will have".into());
        }
        Ok(Box::new(Equalize { rules, helps }))
    },
};

const NAME: &str = "equalize";
const RULES: &str = "scale.rules";

struct Equalize {
    rules: Vec<Arc<Rule>>,
    /// The formats to help, where it shall only act where it helps.
    helps: Option<Formats>,
}

impl Pass for Equalize {
    fn preservation(&self) -> Preservation {
        Preservation::Relative(1e-9)
    }

    fn run(&self, module: &mut Module, context: &mut Context<'_>) -> Result<Outcome, PassError> {
        let mut outcome = Outcome::default();
        // Calibration measures the entry function alone.
        let functions =
            if self.helps.is_some() { module.functions.len().min(1) } else { module.functions.len() };
        for index in 0..functions {
            self.function(module, index, context, &mut outcome)?;
        }
        Ok(outcome)
    }
}

impl Equalize {
    fn function(
        &self,
        module: &mut Module,
        index: usize,
        context: &mut Context<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), PassError> {
        let fail = |e: String| PassError::failed(NAME, e);
        let (sites, mut refused) = sites(&module.functions[index]);
        let mut scaled = module.functions[index].clone();
        let scales: Vec<ValueId> = sites.iter().map(|site| parameter(&mut scaled, site, context)).collect();
        let probe = scaled.clone();
        let rules: Vec<Arc<Rule>> = self.rules.iter().chain(&context.rules).cloned().collect();
        let (carry, report) = Carry::new(&probe, &sites, &scales, &rules).map_err(|e| fail(e.to_string()))?;
        let mut explanation = Explanation { pass: NAME, search: report.time, ..Explanation::default() };
        explanation.saturations.push(Saturation::from(&report));
        let mut pairs: Vec<Pair> = Vec::new();
        for (index, site) in sites.iter().enumerate() {
            match carry.reach(index) {
                Ok(before) => pairs.push(Pair { site: index, before }),
                Err(reason) => refused.push(Refused { site: site.name.clone(), reason }),
            }
        }
        let untold = refused.iter().map(|Refused { site, reason }| Refusal::new(site, NAME, reason));
        explanation.refused.extend(untold);
        let (layers, weights) = layers(&probe, &sites, &pairs, context).map_err(fail)?;
        let channels: Vec<usize> = pairs.iter().map(|p| sites[p.site].channels).collect();
        let mut values = equalized(&layers, &channels);
        if let Some(formats) = &self.helps {
            values = helpful(module, &layers, &weights, formats, &values, context)?;
        }
        let mut chosen = vec![false; sites.len()];
        for (pair, values) in pairs.iter().zip(&values) {
            let site = &sites[pair.site];
            let bounds = values.iter().fold((f64::INFINITY, 0.0), |(l, h), s| (s.min(l), s.max(h)));
            if bounds == (1.0, 1.0) {
                explanation.refused.push(Refusal::new(
                    &site.name,
                    NAME,
                    "no scale of its channels would leave less error",
                ));
                continue;
            }
            tracing::debug!(layer = %site.name, smallest = bounds.0, largest = bounds.1, "equalized");
            explanation.layers.push(LayerChoice::done(&site.name, NAME));
            insert(&probe, scales[pair.site], values, context).map_err(fail)?;
            chosen[pair.site] = true;
        }
        let equalized = chosen.iter().filter(|c| **c).count();
        if equalized > 0 {
            carry.apply(&mut scaled, &chosen).map_err(fail)?;
            scaled.remove_dead();
            module.functions[index] = scaled;
        }
        *outcome.statistics.entry("pairs").or_default() += equalized;
        *outcome.measures.entry("legal").or_default() += pairs.len();
        *outcome.measures.entry("refused").or_default() += refused.len();
        *outcome.measures.entry("e_nodes").or_default() += report.nodes;
        *outcome.measures.entry("iterations").or_default() += report.iterations;
        tell(&explanation);
        context.explanations.push(explanation);
        Ok(())
    }
}

/// The numbers of a scale.
fn insert(
    function: &Function,
    scale: ValueId,
    values: &[f64],
    context: &mut Context<'_>,
) -> Result<(), String> {
    #[allow(clippy::cast_possible_truncation, reason = "scales are weights, which are f32")]
    let data: Vec<f32> = values.iter().map(|s| *s as f32).collect();
    let tensor = Tensor::f32(&[data.len()], data).map_err(|e| e.to_string())?;
    let name = function.parameter_name(scale).ok_or("a scale is no parameter")?;
    context.parameters.insert_tensor(name, tensor).map_err(|e| e.to_string())?;
    Ok(())
}

/// The scales where they help, 1 elsewhere.
fn helpful(
    module: &Module,
    layers: &[Layer],
    weights: &[Weight],
    formats: &Formats,
    everywhere: &[Vec<f64>],
    context: &Context<'_>,
) -> Result<Vec<Vec<f64>>, PassError> {
    if layers.is_empty() {
        return Ok(everywhere.to_vec());
    }
    let activations: Vec<(ValueId, usize)> = weights.iter().map(|w| (w.input, w.channels)).collect();
    let seen = observe::channels(module, &activations, context)?;
    let elements: Vec<Vec<f32>> = weights.iter().map(|w| w.tensor.to_f32_vec()).collect();
    let parts = layers.iter().zip(weights).zip(elements.iter().zip(&seen));
    let layers: Vec<estimate::Layer<'_>> = parts
        .map(|((ranges, weight), (elements, input))| estimate::Layer {
            ranges,
            dims: &weight.tensor.dims,
            weight: elements,
            input,
        })
        .collect();
    estimate::chosen(&layers, formats, everywhere).map_err(|e| PassError::failed(NAME, e))
}

/// A site whose scale can be carried, and the weights of the convolutions that take it up.
struct Pair {
    site: usize,
    before: Vec<ValueId>,
}

/// The weight of a layer, and its input.
struct Weight {
    tensor: Arc<Tensor>,
    input: ValueId,
    /// Of the input.
    channels: usize,
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
) -> Result<(Vec<Layer>, Vec<Weight>), String> {
    let mut ends: HashMap<ValueId, (Option<usize>, Option<usize>)> = HashMap::new();
    for (index, pair) in pairs.iter().enumerate() {
        for layer in &sites[pair.site].layers {
            ends.entry(layer.weight).or_default().0 = Some(index);
        }
        for weight in &pair.before {
            ends.entry(*weight).or_default().1 = Some(index);
        }
    }
    let (mut layers, mut weights) = (Vec::new(), Vec::new());
    for &op in function.order() {
        let node = function.node(op);
        let Some([Some(x), Some(weight)]) = node.operands.get(..2) else { continue };
        let Some((input, output)) = ends.get(weight) else { continue };
        let name = function.parameter_name(*weight).ok_or("a weight is computed")?;
        let tensor = context.parameters.evaluate(name, context.evaluator).map_err(|e| e.to_string())?;
        let groups = if let Op::Conv { groups, .. } = node.op { groups } else { 1 };
        let depthwise = groups > 1 && tensor.dims[1] == 1 && i64::try_from(tensor.dims[0]) == Ok(groups);
        let magnitudes = Magnitudes::new(&tensor.dims, &tensor.to_f32_vec(), depthwise);
        layers.push(Layer { magnitudes, input: *input, output: *output });
        let channels = function.ty(*x).dims.get(1).and_then(Dim::constant);
        let channels = channels.and_then(|n| usize::try_from(n).ok()).ok_or("the channels are not known")?;
        weights.push(Weight { tensor, input: *x, channels });
    }
    Ok((layers, weights))
}
